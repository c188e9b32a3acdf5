//! What a query gives back.

use std::sync::Arc;
use std::time::Duration;

use trefoil_model::{FloatHistogram, Labels};

use crate::annotations::Annotations;
use crate::engine::ProfileNode;

/// The value of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// A sample of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Labels of its series.
    pub labels: Labels,
    /// Unix milliseconds: the time of evaluation.
    pub t_ms: i64,
    /// Value.
    pub value: SampleValue,
}

/// A series of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultSeries {
    /// Labels.
    pub labels: Labels,
    /// (Unix milliseconds, value), times ascend. Not empty.
    pub samples: Vec<(i64, SampleValue)>,
}

/// The value of a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number: (Unix milliseconds, value).
    Scalar(i64, f64),
    /// A text: (Unix milliseconds, value).
    String(i64, String),
    /// Each label set once; order as the query made it.
    Vector(Vec<Sample>),
    /// Each label set once, sorted by labels.
    Matrix(Vec<ResultSeries>),
}

/// What a query read and how long it took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct QueryStats {
    /// Series selected, once for each selector.
    pub series: u64,
    /// Samples read from storage.
    pub samples_read: u64,
    /// Samples read as the reference counts them: what instant selectors see at each step, what the windows of range
    /// selectors cover, that once.
    pub samples_seen: u64,
    /// Samples as the reference counts them: each once for every step that looked at it.
    pub samples_total: u64,
    /// Most samples held at once.
    pub samples_peak: u64,
    /// Time for finding series.
    pub select_time: Duration,
    /// Time for all.
    pub total_time: Duration,
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryResult {
    /// Value.
    pub value: Value,
    /// Warnings and infos; [`Annotations::texts`] writes them with positions in the query.
    pub annotations: Annotations,
    /// Statistics.
    pub stats: QueryStats,
    /// Where the time went, when [`crate::QueryOptions::profile`] asks for it.
    pub profile: Option<ProfileNode>,
}
