//! The vocabulary of Trefoil: what every other crate means by a label, a sample, a log record, a span.
//!
//! Reading order: [`time`], [`labels`], [`matcher`] with [`re2`], [`histogram`], [`metric`] (samples and write batches),
//! [`value`] (attribute values), [`log`], [`trace`], then the contracts: [`query`] (deadline and budgets),
//! [`metric_store`], [`metric_admin`], [`event_store`] with [`log_columns`], [`span_columns`], [`span_values`], [`log_admin`]; [`trace_tree`] says whose child a span is.
//!
//! Invariants: this crate uses nothing of ours; it knows no files, sockets, wire formats or configuration,
//! and its types derive no `Serialize`. Wire types are converted by hand in the edge crates.

pub mod alert;
pub mod event_store;
pub mod histogram;
pub mod labels;
pub mod log;
pub mod log_admin;
pub mod log_columns;
pub mod matcher;
pub mod metric;
pub mod metric_admin;
pub mod metric_store;
mod only_series;
mod purse;
pub mod query;
pub mod re2;
pub mod span_columns;
pub mod span_observer;
pub mod span_values;
pub mod time;
pub mod trace;
pub mod trace_sampler;
pub mod trace_tree;
pub mod trace_visit;
pub mod value;

pub use alert::{Alert, AlertReceiver};
pub use event_store::{
    Direction, EventWriter, LogEntry, LogQuery, LogReader, SpanQuery, StoredTrace, TraceReader, VolumeQuery,
};
pub use histogram::{CounterResetHint, FloatHistogram, Span as HistogramSpan};
pub use labels::{Labels, LabelsBuilder};
pub use log::{LogBatch, LogGroup, LogRecord};
pub use log_admin::{Cancellation, LogAdmin, LogDeletion, LogDeletionState};
pub use log_columns::{AttributeWants, LogFold, LogRows, LogSet, LogVolume, LogWants};
pub use matcher::{MatchOp, Matcher, MatcherError, anchored};
pub use metric::{
    Exemplar, FloatPoint, HistogramPoint, MetricBatch, MetricKind, MetricMetadata, STALE_NAN, is_stale_nan,
};
pub use metric_admin::{
    Cardinality, Counted, MetricAdmin, ObjectStoreState, Offender, SnapshotTaker, StoreTrouble, StoredBlock,
};
pub use metric_store::{MetricReader, MetricWriter, Rollup, SampleBuffer, SelectRequest, SelectedSeries, SeriesSource};
pub use purse::Purse;
pub use query::{BudgetError, QueryBudget, StoreError, Unlimited, WriteError, WriteReport};
pub use span_columns::{
    ConditionScope, SpanAttributeWants, SpanCondition, SpanFold, SpanRows, SpanSet, SpanWants, TraceFacts,
};
pub use span_observer::{JournalMark, SpanObserver};
pub use time::{NanoRange, TimeRange};
pub use trace::{Span, SpanEvent, SpanGroup, SpanId, SpanKind, SpanLink, StatusCode, TraceBatch, TraceId};
pub use trace_sampler::{TraceSampler, TraceToSample};
pub use value::{AttributeValue, Attributes, Resource, Scope};

/// A tenant: part of every journal record, series and stream key, part path and cache key. 0 unless tenants
/// are switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TenantId(pub u32);

/// Identifies a series within one store; stable over restarts, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub u64);
