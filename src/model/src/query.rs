//! What a store may answer with, and what bounds a query.

use std::time::Duration;

/// Why a query must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// The deadline passed.
    #[error("query timed out after {0:?}")]
    Timeout(Duration),
    /// The client left or somebody cancelled it.
    #[error("query was canceled")]
    Canceled,
    /// Too many samples held at once.
    #[error("query processing would load too many samples into memory in query execution")]
    Samples,
    /// Too many series selected.
    #[error("query selects more than {0} series")]
    Series(u64),
    /// Too many bytes held or scanned.
    #[error("query needs more than {0} bytes")]
    Bytes(u64),
}

/// Deadline, cancellation and budgets of one query. Stores and engines call it often; it must be cheap.
pub trait QueryBudget: Send + Sync {
    /// Errors when the query must stop now.
    fn check(&self) -> Result<(), BudgetError>;
    /// Takes `n` samples from the budget; [`QueryBudget::release_samples`] gives them back.
    fn charge_samples(&self, n: u64) -> Result<(), BudgetError>;
    /// Gives samples back.
    fn release_samples(&self, n: u64);
    /// Takes `n` series from the budget.
    fn charge_series(&self, n: u64) -> Result<(), BudgetError>;
    /// Takes `n` bytes of memory from the budget: before they are allocated, until [`QueryBudget::release_bytes`] or the
    /// end of the query.
    fn charge_bytes(&self, n: u64) -> Result<(), BudgetError>;
    /// Gives back bytes that were taken. A budget that only counts need not do anything.
    fn release_bytes(&self, _n: u64) {}
}

/// A budget without bounds, for tests and internal work.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

impl QueryBudget for Unlimited {
    fn check(&self) -> Result<(), BudgetError> {
        Ok(())
    }
    fn charge_samples(&self, _: u64) -> Result<(), BudgetError> {
        Ok(())
    }
    fn release_samples(&self, _: u64) {}
    fn charge_series(&self, _: u64) -> Result<(), BudgetError> {
        Ok(())
    }
    fn charge_bytes(&self, _: u64) -> Result<(), BudgetError> {
        Ok(())
    }
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The query's budget is used up.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// A block or file does not have its checksum; what else there is stays readable.
    #[error("corrupt data: {0}")]
    Corrupt(String),
    /// Reading failed.
    #[error("read failed: {context}")]
    Io {
        /// What was read.
        context: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The store cannot answer this.
    #[error("{0}")]
    Unsupported(String),
}

/// Why a write was not acknowledged. Nothing of the batch is promised.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Out of disk, memory or in read-only mode: the sender should retry later (503 with Retry-After).
    #[error("{reason}")]
    Unavailable {
        /// What is short.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The batch can never be stored (400).
    #[error("{0}")]
    Invalid(String),
    /// The store is closed.
    #[error("store is shutting down")]
    Closed,
}

/// What became of an acknowledged batch. What is not rejected is durable and visible.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriteReport {
    /// Items stored (duplicates of stored items included).
    pub accepted: u64,
    /// Items refused one by one.
    pub rejected: u64,
    /// The first few reasons, each naming the item.
    pub reasons: Vec<String>,
    /// Of metrics, when samples were refused and others stored: the first and last time of those stored, Unix
    /// milliseconds. `None` otherwise, and where that is not known.
    pub taken_ms: Option<(i64, i64)>,
}

impl WriteReport {
    /// How many reasons are kept.
    pub const REASONS_MAX: usize = 10;

    /// Counts a refused item and keeps its reason when there is room.
    pub fn reject(&mut self, reason: impl FnOnce() -> String) {
        self.rejected += 1;
        if self.reasons.len() < Self::REASONS_MAX {
            self.reasons.push(reason());
        }
    }
}
