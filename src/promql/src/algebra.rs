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
pub use labels::{label_join, label_join_within, label_replace, label_replace_with};
pub use scalar::{quantile, scalar_op};
pub use series::{ABSENT, Point, Points, Series, cleanup_names};
pub use sort::{sort, sort_by_label};

use trefoil_model::{BudgetError, QueryBudget};

use crate::annotations::NoteKind;

/// Why an operation of the algebra is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlgebraError {
    /// The query's fault; the text is the reference's.
    #[error("{0}")]
    Execution(String),
    /// There is no memory left for the query.
    #[error(transparent)]
    Budget(#[from] BudgetError),
}

impl AlgebraError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Execution(message.into())
    }
}

/// What an operation remarked upon, without a position; see [`crate::annotations`].
pub type Notes = Vec<NoteKind>;

/// The memory that an operation may take; the default is without bounds.
///
/// What an operation takes it does not give back: whoever calls it gives back what its result does not hold.
#[derive(Clone, Copy, Default)]
pub struct Room<'a>(Option<&'a dyn QueryBudget>);

impl<'a> Room<'a> {
    /// The memory of a query.
    pub fn of(budget: &'a dyn QueryBudget) -> Self {
        Self(Some(budget))
    }

    /// Takes bytes before they are allocated.
    pub fn take(self, bytes: usize) -> Result<(), AlgebraError> {
        match self.0 {
            Some(budget) if bytes > 0 => Ok(budget.charge_bytes(bytes as u64)?),
            _ => Ok(()),
        }
    }

    /// Gives bytes back.
    pub fn give(self, bytes: usize) {
        if let Some(budget) = self.0
            && bytes > 0
        {
            budget.release_bytes(bytes as u64);
        }
    }
}

impl std::fmt::Debug for Room<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Room(bounded)" } else { "Room(unbounded)" })
    }
}

/// How the algebra treats names and how much it may hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct AlgebraOptions<'a> {
    /// Keep `__name__` and mark the series instead ([`Series::drop_name`]); [`cleanup_names`] then ends the
    /// query. Off: names go at once.
    pub delayed_name_removal: bool,
    /// What may be held.
    pub room: Room<'a>,
}
