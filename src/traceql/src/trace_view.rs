//! A stored trace laid out for evaluation: spans in order of time, each with its parent.
//!
//! Parents come from the ids that spans carry; see [`trefoil_model::trace_tree`].

use std::cell::OnceCell;

use trefoil_model::trace_tree::TreeSpan;
use trefoil_model::{Resource, Scope, Span, SpanId, SpanSet, StoredTrace, TraceId};

/// A span with what it came with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanView<'a> {
    pub(crate) span: &'a Span,
    pub(crate) resource: &'a Resource,
    pub(crate) scope: &'a Scope,
}

impl<'a> From<&SpanSet<'a>> for SpanView<'a> {
    fn from(set: &SpanSet<'a>) -> Self {
        Self { span: set.span, resource: set.resource, scope: set.scope }
    }
}

/// Left, right, parent of the nested sets model.
pub(crate) type NestedSet = (i64, i64, i64);

pub(crate) struct TraceView<'a> {
    pub(crate) id: TraceId,
    /// By start, then by id.
    pub(crate) spans: Vec<SpanView<'a>>,
    /// The earliest span that names no parent.
    pub(crate) root: Option<usize>,
    pub(crate) start_ns: i64,
    pub(crate) end_ns: i64,
    parents: OnceCell<Vec<Option<u32>>>,
    nested: OnceCell<Vec<NestedSet>>,
    child_counts: OnceCell<Vec<u32>>,
}

impl<'a> TraceView<'a> {
    pub(crate) fn new(trace: &'a StoredTrace) -> Self {
        let mut spans: Vec<SpanView<'a>> = trace
            .groups
            .iter()
            .flat_map(|g| g.spans.iter().map(|span| SpanView { span, resource: &g.resource, scope: &g.scope }))
            .collect();
        spans.sort_by_key(|s| (s.span.start_ns, s.span.span_id));
        spans.truncate(u32::MAX as usize);
        Self {
            id: trace.trace_id,
            root: spans.iter().position(|s| s.span.parent_span_id.is_none()),
            start_ns: spans.first().map_or(0, |s| s.span.start_ns),
            end_ns: spans.iter().map(|s| s.span.end_ns.max(s.span.start_ns)).max().unwrap_or(0),
            spans,
            parents: OnceCell::new(),
            nested: OnceCell::new(),
            child_counts: OnceCell::new(),
        }
    }

    /// Spans of several traces, in their order, for what looks at each by itself.
    pub(crate) fn of_spans(spans: Vec<SpanView<'a>>) -> Self {
        Self {
            id: TraceId([0; 16]),
            spans,
            root: None,
            start_ns: 0,
            end_ns: 0,
            parents: OnceCell::new(),
            nested: OnceCell::new(),
            child_counts: OnceCell::new(),
        }
    }

    pub(crate) fn duration_ns(&self) -> i64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// For each span the number of its parent.
    pub(crate) fn parents(&self) -> &[Option<u32>] {
        self.parents.get_or_init(|| {
            let of = |s: &SpanView<'a>| TreeSpan {
                id: s.span.span_id,
                parent: s.span.parent_span_id,
                service: s.resource.service_name(),
            };
            trefoil_model::trace_tree::parents(&self.spans.iter().map(of).collect::<Vec<_>>())
        })
    }

    pub(crate) fn child_counts(&self) -> &[u32] {
        self.child_counts.get_or_init(|| {
            let mut counts = vec![0; self.spans.len()];
            for parent in self.parents().iter().flatten() {
                counts[*parent as usize] += 1;
            }
            counts
        })
    }

    /// Numbers of a walk through the trees of all roots; zeros where no root leads to.
    pub(crate) fn nested_sets(&self) -> &[NestedSet] {
        self.nested.get_or_init(|| {
            let parents = self.parents();
            let mut children: Vec<Vec<u32>> = vec![Vec::new(); self.spans.len()];
            for (i, parent) in (0u32..).zip(parents) {
                if let Some(parent) = parent {
                    children[*parent as usize].push(i);
                }
            }
            let mut out: Vec<NestedSet> = vec![(0, 0, 0); self.spans.len()];
            let mut counter = 0;
            for (root, s) in (0u32..).zip(&self.spans) {
                if s.span.parent_span_id.is_some() {
                    continue;
                }
                let mut stack: Vec<(u32, usize)> = vec![(root, 0)];
                counter += 1;
                out[root as usize] = (counter, 0, -1);
                while let Some((node, next)) = stack.last_mut() {
                    let at = *node as usize;
                    if let Some(child) = children[at].get(*next) {
                        *next += 1;
                        counter += 1;
                        out[*child as usize] = (counter, 0, out[at].0);
                        stack.push((*child, 0));
                    } else {
                        counter += 1;
                        out[at].1 = counter;
                        stack.pop();
                    }
                }
            }
            out
        })
    }

    /// Whether siblings: equal for spans of one parent, stored or not; `None` for roots.
    pub(crate) fn family(&self, span: usize) -> Option<Family> {
        match self.parents()[span] {
            Some(parent) => Some(Family::Of(parent)),
            None => self.spans[span].span.parent_span_id.map(Family::Missing),
        }
    }
}

/// Whose child a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    /// A stored span's.
    Of(u32),
    /// That of a span that is not here.
    Missing(SpanId),
}
