//! The series algebra: what PromQL does to series once they stand on a grid of steps.
//!
//! It knows neither selectors nor storage, so that other query languages can hand their metric parts to it.
//! Every function takes series that share one grid of steps (same `points.len()`) and gives back series on
//! that grid. Errors are those that PromQL would report; notes are what a caller may turn into annotations.
//!
//! Map: [`series`] (the data), [`aggregate`], [`binary`], [`labels`] (label_replace, label_join), [`sort`].

pub mod aggregate;
pub mod binary;
mod group;
pub mod kahan;
pub mod labels;
mod ranking;
pub mod scalar;
pub mod series;
pub mod sort;

pub use aggregate::{AggregateOp, Aggregator, Grouping, Param, aggregate};
pub use binary::{BinaryOp, Cardinality, Matching, binary, binary_scalar};
pub use labels::{label_join, label_replace, label_replace_with};
pub use scalar::{quantile, scalar_op};
pub use series::{ABSENT, Point, Points, Series, cleanup_names};
pub use sort::{sort, sort_by_label};

use crate::annotations::NoteKind;

/// Why an operation of the algebra is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlgebraError {
    /// The query's fault; the text is the reference's.
    #[error("{0}")]
    Execution(String),
}

impl AlgebraError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Execution(message.into())
    }
}

/// What an operation remarked upon, without a position; see [`crate::annotations`].
pub type Notes = Vec<NoteKind>;

/// How the algebra treats names and how much it may hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct AlgebraOptions {
    /// Keep `__name__` and mark the series instead ([`Series::drop_name`]); [`cleanup_names`] then ends the
    /// query. Off: names go at once.
    pub delayed_name_removal: bool,
}
