//! The contracts of the event store: log records and spans.

use std::ops::ControlFlow;

use crate::span_values::{CountedSets, ValueCounter};
use crate::{
    AttributeWants, Attributes, Labels, LogAdmin, LogBatch, LogFold, LogRecord, LogRows, LogSet, LogVolume, LogWants,
    Matcher, NanoRange, QueryBudget, SpanAttributeWants, SpanFold, SpanGroup, SpanKind, SpanWants, StoreError,
    TenantId, TraceBatch, TraceId, WriteError, WriteReport,
};

/// Takes batches of log records and spans.
#[async_trait::async_trait]
pub trait EventWriter: Send + Sync {
    /// Stores log records. When it returns `Ok`, all that is not rejected is durable and visible to queries.
    async fn write_logs(&self, batch: LogBatch) -> Result<WriteReport, WriteError>;
    /// Stores spans, likewise. A span resent with the same ids is read once.
    async fn write_spans(&self, batch: TraceBatch) -> Result<WriteReport, WriteError>;
}

/// Order of time in which entries are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

/// Which log records to read.
#[derive(Debug, Clone)]
pub struct LogQuery {
    /// Tenant.
    pub tenant: TenantId,
    /// All must hold on the stream labels, whose names are compared after [`crate::labels::underscored`].
    pub matchers: Vec<Matcher>,
    /// Texts that every wanted line holds, byte for byte (from `|=`). Lines without them need not be delivered: a
    /// hint to skip blocks, the caller still verifies.
    pub needles: Vec<String>,
    /// Texts that every wanted line holds in upper or lower case (ASCII letters alone are compared so). A hint like
    /// `needles`.
    pub words: Vec<String>,
    /// Terms `(attribute name after underscored, value)` that every wanted record has as attribute, `trace_id` and
    /// `span_id` (hex) included. A hint like `needles`.
    pub attribute_terms: Vec<(String, String)>,
    /// Time of the records.
    pub range: NanoRange,
    /// Order of delivery.
    pub direction: Direction,
}

impl LogQuery {
    /// All records of a range, oldest first.
    pub fn new(tenant: TenantId, range: NanoRange, matchers: Vec<Matcher>) -> Self {
        let (needles, words, attribute_terms) = (Vec::new(), Vec::new(), Vec::new());
        Self { tenant, matchers, needles, words, attribute_terms, range, direction: Direction::Forward }
    }
}

/// Which records to count.
#[derive(Debug, Clone, Copy)]
pub struct VolumeQuery<'a> {
    /// Tenant.
    pub tenant: TenantId,
    /// Time of the records.
    pub range: NanoRange,
    /// All must hold on the stream labels, as in [`LogQuery`].
    pub matchers: &'a [Matcher],
    /// Length of a step in nanoseconds; the first begins with the range. 0 for a single one.
    pub step_ns: i64,
}

impl VolumeQuery<'_> {
    /// The step of a time of the range.
    pub fn step(&self, time_ns: i64) -> usize {
        if self.step_ns <= 0 {
            return 0;
        }
        let step = match time_ns.checked_sub(self.range.start_ns) {
            Some(since) => i128::from(since / self.step_ns),
            None => (i128::from(time_ns) - i128::from(self.range.start_ns)) / i128::from(self.step_ns),
        };
        usize::try_from(step).unwrap_or(0)
    }

    /// When the step of a time of the range ends, exclusive.
    pub fn step_end_ns(&self, time_ns: i64) -> i64 {
        if self.step_ns <= 0 {
            return i64::MAX;
        }
        let steps = self.step(time_ns) as i128 + 1;
        let end = i128::from(self.range.start_ns) + steps * i128::from(self.step_ns);
        i64::try_from(end).unwrap_or(i64::MAX)
    }
}

/// A log record as it is delivered to a query.
#[derive(Debug, Clone, Copy)]
pub struct LogEntry<'a> {
    /// Stream labels as stored (dotted names for OTLP).
    pub stream: &'a Labels,
    /// Identifies the stream within this query: equal for equal `stream`, so that callers can cache by it.
    pub stream_ref: u64,
    /// Number of arrival: different for all records of a store, greater for what came later.
    pub sequence: u64,
    /// Attributes shared by the group of the record; the record's own win.
    pub shared: &'a Attributes,
    /// The record.
    pub record: &'a LogRecord,
}

/// Reads log records. Calls may take long: not for an async thread. A call that needs what is damaged errors with
/// [`StoreError::Corrupt`], perhaps after it has delivered some; no answer lacks records without saying so.
pub trait LogReader: Send + Sync {
    /// Delivers matching records in order of time (ties: by stream labels, then by arrival; backward is the exact
    /// reverse) until `each` breaks.
    fn scan(
        &self,
        query: &LogQuery,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(LogEntry<'_>) -> ControlFlow<()>,
    ) -> Result<ScanStats, StoreError>;

    /// As [`Self::scan`], for a caller that looks only at what `wants` says.
    fn scan_wanted(
        &self,
        query: &LogQuery,
        _wants: &LogWants<'_>,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(LogEntry<'_>) -> ControlFlow<()>,
    ) -> Result<ScanStats, StoreError> {
        self.scan(query, budget, each)
    }

    /// Delivers matching records in any order, each to one of `folds`, which may run at the same time. Breaks end the
    /// scan soon. The direction of the query has no meaning here.
    fn fold(
        &self,
        query: &LogQuery,
        wants: &LogWants<'_>,
        budget: &dyn QueryBudget,
        folds: &mut [Box<dyn LogFold + '_>],
    ) -> Result<ScanStats, StoreError> {
        let Some(fold) = folds.first_mut() else { return Ok(ScanStats::default()) };
        self.scan_wanted(query, wants, budget, &mut |entry| {
            let texts = [entry.record.text.as_str()];
            fold.rows(&LogRows {
                stream: entry.stream,
                stream_ref: entry.stream_ref,
                times: &[entry.record.time_ns],
                texts: if wants.text { &texts } else { &[] },
                text_bytes: &[u32::try_from(texts[0].len()).unwrap_or(u32::MAX)],
                set_of: &[0],
                sets: &[LogSet { shared: entry.shared, record: entry.record }],
            })
        })
    }

    /// Counts the records of the streams that satisfy `matchers`: calls `each(stream, its number within this call,
    /// step, volume)` for every stream and step of `step_ns` since the start of the range that has any, in any order,
    /// perhaps several times for the same (add them up). Reads blocks only where a step begins or ends in them.
    fn volumes(
        &self,
        query: &VolumeQuery<'_>,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(&Labels, u64, usize, LogVolume),
    ) -> Result<ScanStats, StoreError> {
        let all = LogQuery::new(query.tenant, query.range, query.matchers.to_vec());
        let wants = LogWants { attributes: AttributeWants::None, ..LogWants::default() };
        self.scan_wanted(&all, &wants, budget, &mut |entry| {
            let volume = LogVolume { records: 1, bytes: entry.record.text.len() as u64 };
            each(entry.stream, entry.stream_ref, query.step(entry.record.time_ns), volume);
            ControlFlow::Continue(())
        })
    }

    /// Stream labels of streams with a record in the range, sorted, names as stored.
    fn streams(
        &self,
        tenant: TenantId,
        range: NanoRange,
        matchers: &[Matcher],
        budget: &dyn QueryBudget,
    ) -> Result<Vec<Labels>, StoreError>;

    /// Where records can be deleted, if they can.
    fn admin(&self) -> Option<&dyn LogAdmin> {
        None
    }
}

/// What a scan read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScanStats {
    /// Blocks decoded.
    pub blocks: u64,
    /// Records looked at.
    pub records: u64,
    /// Bytes of text looked at.
    pub bytes: u64,
}

impl ScanStats {
    /// Adds what another scan read.
    pub fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// Which traces to find: at least one span satisfies everything that is given (Jaeger's search).
#[derive(Debug, Clone, Default)]
pub struct SpanQuery {
    /// Tenant.
    pub tenant: TenantId,
    /// `service.name` of the span.
    pub service: Option<String>,
    /// Span name.
    pub operation: Option<String>,
    /// Attributes (span, resource, scope or event; `error`, `span.kind`, `otel.status_code` as Jaeger shows them),
    /// compared as text.
    pub tags: Vec<(String, String)>,
    /// Least duration of the span in nanoseconds.
    pub min_duration_ns: Option<i64>,
    /// Greatest duration of the span in nanoseconds.
    pub max_duration_ns: Option<i64>,
    /// Start of the span; `None`: any.
    pub range: Option<NanoRange>,
    /// At most so many traces, newest first.
    pub limit: usize,
}

/// All stored spans of one trace; duplicates removed; groups in order of first start.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTrace {
    /// Its id.
    pub trace_id: TraceId,
    /// Its spans.
    pub groups: Vec<SpanGroup>,
}

/// Reads spans. Calls may take long: not for an async thread.
pub trait TraceReader: Send + Sync {
    /// All spans of a trace, or `None`.
    fn trace(
        &self,
        tenant: TenantId,
        id: TraceId,
        range: Option<NanoRange>,
        budget: &dyn QueryBudget,
    ) -> Result<Option<StoredTrace>, StoreError>;

    /// Traces with a matching span, whole, newest first (by the latest matching span's start, then by id).
    fn find(&self, query: &SpanQuery, budget: &dyn QueryBudget) -> Result<Vec<StoredTrace>, StoreError>;

    /// Delivers all traces that [`Self::find`] would find without a limit, each once, in its order, until `each`
    /// breaks. They are not held at the same time.
    fn visit(
        &self,
        query: &SpanQuery,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(&StoredTrace) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        crate::trace_visit::pages(self, query, budget, each)
    }

    /// As [`Self::visit`], for a caller that looks only at what `wants` says: traces without a span that satisfies the
    /// query and all conditions may be left out. `each` also gets a time: no span of this trace or a later one that
    /// satisfies them starts after it.
    fn visit_wanted(
        &self,
        query: &SpanQuery,
        _wants: &SpanWants<'_>,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(&StoredTrace, i64) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.visit(query, budget, &mut |trace| {
            each(trace, crate::trace_visit::latest_start(query, trace).unwrap_or(i64::MAX))
        })
    }

    /// Delivers the spans that satisfy the query (its tags need not be looked at) and the conditions of `wants`, each
    /// once, and perhaps others (but none with a parent when roots are wanted), in any order, until `fold` breaks. What
    /// is asked of whole traces need not be looked at.
    fn fold_spans(
        &self,
        query: &SpanQuery,
        wants: &SpanWants<'_>,
        budget: &dyn QueryBudget,
        fold: &mut (dyn SpanFold + '_),
    ) -> Result<(), StoreError> {
        self.visit(query, budget, &mut |trace| {
            let keep = |group: &SpanGroup, span: &crate::Span| {
                crate::trace_visit::may_match(query, group.resource.service_name(), span)
                    && (!wants.is_root || span.parent_span_id.is_none())
            };
            crate::span_columns::deliver(trace, &keep, fold)
        })
    }

    /// Counts the values of attributes of spans and resources, of the spans that [`Self::fold_spans`] would deliver. Their
    /// rows come first, as far as `wants` says, to be put into classes; then the values of these rows.
    fn count_values(
        &self,
        query: &SpanQuery,
        wants: &SpanWants<'_>,
        budget: &dyn QueryBudget,
        counter: &mut (dyn ValueCounter + '_),
    ) -> Result<(), StoreError> {
        let all = SpanWants { attributes: SpanAttributeWants::All, without_resources: false, ..*wants };
        self.fold_spans(query, &all, budget, &mut CountedSets::new(counter))
    }

    /// Service names with a span in the range, sorted.
    fn services(&self, tenant: TenantId, range: NanoRange, budget: &dyn QueryBudget)
    -> Result<Vec<String>, StoreError>;

    /// `(name, kind)` of the spans of a service in the range, sorted by name then kind.
    fn operations(
        &self,
        tenant: TenantId,
        service: &str,
        range: NanoRange,
        budget: &dyn QueryBudget,
    ) -> Result<Vec<(String, SpanKind)>, StoreError>;
}
