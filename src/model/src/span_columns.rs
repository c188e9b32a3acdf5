//! What a query looks at in spans, and spans delivered in columns.

use std::fmt;
use std::ops::ControlFlow;

use crate::{AttributeValue, Resource, Scope, Span, SpanGroup, SpanId, StoredTrace, TraceId};

/// Which attributes of spans themselves a query looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpanAttributeWants<'a> {
    /// Those of these names; others may be missing.
    Names(&'a [String]),
    /// All.
    #[default]
    All,
}

impl SpanAttributeWants<'_> {
    /// Whether an attribute of the name is looked at.
    pub fn wants(&self, name: &str) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|n| n == name),
            Self::All => true,
        }
    }
}

/// What has the attribute of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionScope {
    /// The span itself.
    Span,
    /// Its resource. `service.name` is there always, "" when nobody said.
    Resource,
    /// Any of span, resource, events, links, instrumentation scope.
    Any,
}

/// Something that the wanted spans satisfy.
#[derive(Clone, Copy)]
pub struct SpanCondition<'a> {
    /// What has the attribute.
    pub scope: ConditionScope,
    /// Its name.
    pub name: &'a str,
    /// When not empty: the attribute, or an element of it when it is a list, has one of these texts (see
    /// [`AttributeValue::to_text`]). To skip blocks.
    pub any_of: &'a [String],
    /// What the first attribute of the name satisfies; of [`ConditionScope::Any`] it is not asked.
    pub test: &'a (dyn Fn(&AttributeValue) -> bool + Sync),
}

impl fmt::Debug for SpanCondition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, name, any_of, .. } = self;
        write!(f, "{scope:?}.{name} of {any_of:?}")
    }
}

/// What a query looks at, so that a store reads and builds nothing else. All of it is a permission: a store may
/// deliver more. Ids, parents, times, name, kind, status, service and scope names are always there.
#[derive(Clone, Copy, Default)]
pub struct SpanWants<'a> {
    /// Attributes of spans.
    pub attributes: SpanAttributeWants<'a>,
    /// Whether attributes of resources (but `service.name`), and scopes, may be missing.
    pub without_resources: bool,
    /// Whether events may be missing.
    pub without_events: bool,
    /// Whether links may be missing.
    pub without_links: bool,
    /// Whether status messages, trace states, flags and counts of what was dropped may be missing.
    pub without_messages: bool,
    /// Whether [`SpanRows::roots`] are looked at.
    pub roots: bool,
    /// All hold for one span of each wanted trace, which is also what the query's own conditions hold for.
    pub conditions: &'a [SpanCondition<'a>],
    /// It holds for the same span, of which only name, kind and status are told.
    pub light: Option<&'a (dyn Fn(&Span) -> bool + Sync)>,
    /// Whether the same span has the status error.
    pub is_error: bool,
    /// Whether the same span has no parent.
    pub is_root: bool,
    /// It holds for the trace.
    pub trace: Option<&'a (dyn Fn(&TraceFacts<'_>) -> bool + Sync)>,
}

/// What is known of a whole trace without reading its spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceFacts<'a> {
    /// Service and name of the earliest span without a parent.
    pub root: Option<(&'a str, &'a str)>,
    /// First start, Unix nanoseconds.
    pub start_ns: i64,
    /// Last end, Unix nanoseconds.
    pub end_ns: i64,
    /// Spans.
    pub spans: u64,
    /// Spans with an error.
    pub errors: u64,
}

impl fmt::Debug for SpanWants<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanWants")
            .field("attributes", &self.attributes)
            .field("conditions", &self.conditions)
            .field("light", &self.light.is_some())
            .field("is_error", &self.is_error)
            .field("is_root", &self.is_root)
            .field("trace", &self.trace.is_some())
            .finish_non_exhaustive()
    }
}

/// What several spans have in common.
#[derive(Debug, Clone, Copy)]
pub struct SpanSet<'a> {
    /// Who sent them.
    pub resource: &'a Resource,
    /// Which library made them.
    pub scope: &'a Scope,
    /// A span with their name, kind, status and attributes; its ids and times mean nothing.
    pub span: &'a Span,
}

/// Some spans, column by column; each column has an item for each span.
#[derive(Debug, Clone, Copy)]
pub struct SpanRows<'a> {
    /// For each span the index of its trace in `traces`.
    pub trace_of: &'a [u32],
    /// Traces; some may be of no span here.
    pub traces: &'a [TraceId],
    /// For each trace service and name of its earliest span without a parent; empty when nobody asked for them.
    pub roots: &'a [Option<(&'a str, &'a str)>],
    /// Ids.
    pub span_ids: &'a [SpanId],
    /// Unix nanoseconds.
    pub starts: &'a [i64],
    /// Unix nanoseconds.
    pub ends: &'a [i64],
    /// For each span the index of its set in `sets`.
    pub set_of: &'a [u32],
    /// Sets; some may be of no span here.
    pub sets: &'a [SpanSet<'a>],
}

impl SpanRows<'_> {
    /// Number of spans.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// True without spans.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }
}

/// Takes spans in any order.
pub trait SpanFold {
    /// Takes some spans; breaks when it wants no more.
    fn rows(&mut self, rows: &SpanRows<'_>) -> ControlFlow<()>;
}

/// Service and name of the earliest span without a parent.
pub fn root_of(trace: &StoredTrace) -> Option<(&str, &str)> {
    let spans = trace.groups.iter().flat_map(|g| g.spans.iter().map(move |s| (g.resource.service_name(), s)));
    let roots = spans.filter(|(_, s)| s.parent_span_id.is_none());
    roots.min_by_key(|(_, s)| (s.start_ns, s.span_id)).map(|(service, s)| (service, s.name.as_str()))
}

/// Delivers those spans of a trace for which `keep` is true, each as a set of its own.
pub fn deliver(
    trace: &StoredTrace,
    keep: &dyn Fn(&SpanGroup, &Span) -> bool,
    fold: &mut (dyn SpanFold + '_),
) -> ControlFlow<()> {
    deliver_of(trace, root_of(trace), keep, fold)
}

/// The same of what is left of a trace, the root of which is told.
pub fn deliver_of(
    trace: &StoredTrace,
    root: Option<(&str, &str)>,
    keep: &dyn Fn(&SpanGroup, &Span) -> bool,
    fold: &mut (dyn SpanFold + '_),
) -> ControlFlow<()> {
    let mut kept: Vec<SpanSet<'_>> = Vec::new();
    for group in &trace.groups {
        let spans = group.spans.iter().filter(|span| keep(group, span));
        kept.extend(spans.map(|span| SpanSet { resource: &group.resource, scope: &group.scope, span }));
    }
    if kept.is_empty() {
        return ControlFlow::Continue(());
    }
    fold.rows(&SpanRows {
        trace_of: &vec![0; kept.len()],
        traces: &[trace.trace_id],
        roots: &[root],
        span_ids: &kept.iter().map(|s| s.span.span_id).collect::<Vec<_>>(),
        starts: &kept.iter().map(|s| s.span.start_ns).collect::<Vec<_>>(),
        ends: &kept.iter().map(|s| s.span.end_ns).collect::<Vec<_>>(),
        set_of: &(0..kept.len() as u32).collect::<Vec<_>>(),
        sets: &kept,
    })
}
