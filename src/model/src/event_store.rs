//! The contracts of the event store: log records and spans.

use std::ops::ControlFlow;

use crate::{
    Attributes, Labels, LogBatch, LogRecord, Matcher, NanoRange, QueryBudget, SpanGroup, SpanKind, StoreError,
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

/// Reads log records. Calls may take long: not for an async thread.
pub trait LogReader: Send + Sync {
    /// Delivers matching records in order of time (ties: by stream labels, then by arrival; backward is the exact
    /// reverse) until `each` breaks.
    fn scan(
        &self,
        query: &LogQuery,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(LogEntry<'_>) -> ControlFlow<()>,
    ) -> Result<ScanStats, StoreError>;

    /// Stream labels of streams with a record in the range, sorted, names as stored.
    fn streams(
        &self,
        tenant: TenantId,
        range: NanoRange,
        matchers: &[Matcher],
        budget: &dyn QueryBudget,
    ) -> Result<Vec<Labels>, StoreError>;
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
