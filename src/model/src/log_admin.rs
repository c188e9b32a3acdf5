//! Administration of stored log records: deletion.

use crate::{Matcher, NanoRange, StoreError, TenantId};

/// Which log records to delete.
#[derive(Debug, Clone)]
pub struct LogDeletion {
    /// Tenant.
    pub tenant: TenantId,
    /// What was asked for, in the words of who asked; for people only.
    pub query: String,
    /// All must hold on the stream labels, as in [`crate::LogQuery`].
    pub matchers: Vec<Matcher>,
    /// Texts that a line must all hold to be deleted.
    pub contains: Vec<String>,
    /// Time of the records.
    pub range: NanoRange,
}

/// A deletion and what became of it.
#[derive(Debug, Clone)]
pub struct LogDeletionState {
    /// Identifies it.
    pub id: u64,
    /// What it deletes.
    pub deletion: LogDeletion,
    /// When it was asked for, in Unix milliseconds.
    pub created_ms: i64,
    /// Whether no file holds deleted records any more.
    pub is_done: bool,
}

/// What became of the wish to take a deletion back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// Its records, as far as they are still there, are visible again.
    Cancelled,
    /// There is none of this number.
    Unknown,
    /// Its records are gone for good.
    TooLate,
}

/// Deletes log records.
#[async_trait::async_trait]
pub trait LogAdmin: Send + Sync {
    /// Hides records, durably and at once; their bytes go with the next merges. Records that are written afterwards
    /// are visible, whatever their time. Returns the number of the deletion.
    async fn delete(&self, deletion: LogDeletion) -> Result<u64, StoreError>;

    /// The deletions of a tenant, the oldest first: all that are not done, and the last ones that are.
    fn deletions(&self, tenant: TenantId) -> Vec<LogDeletionState>;

    /// Takes a deletion back: records that no merge has removed yet are visible again.
    async fn cancel(&self, tenant: TenantId, id: u64) -> Result<Cancellation, StoreError>;
}
