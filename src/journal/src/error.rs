use std::io;
use std::time::Duration;

use trefoil_model::WriteError;

use crate::store::Position;

/// When a refused writer should come back.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why the journal could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk is full. Nothing of the record is promised; later appends work again when there is room.
    #[error("journal {journal}: no space left on the disk")]
    NoSpace {
        /// Name of the journal.
        journal: &'static str,
    },
    /// Writing or syncing failed twice in a row, or the writer is gone: the journal is read-only until a restart.
    #[error("journal {journal}: read-only until a restart: {cause}")]
    ReadOnly {
        /// Name of the journal.
        journal: &'static str,
        /// What failed last.
        cause: String,
    },
    /// The journal is closed.
    #[error("journal {journal}: closed")]
    Closed {
        /// Name of the journal.
        journal: &'static str,
    },
    /// The record is empty or longer than a record may be.
    #[error("journal {journal}: a record has 1 to {max} bytes, this one has {bytes}")]
    RecordSize {
        /// Name of the journal.
        journal: &'static str,
        /// Bytes of the record.
        bytes: usize,
        /// Bytes a record may have.
        max: usize,
    },
    /// A segment was written by a version that this build does not read.
    #[error(
        "journal {journal}: segment {segment} has format version {found}, this build reads {}",
        crate::segment::VERSION
    )]
    Version {
        /// Name of the journal.
        journal: &'static str,
        /// Number of the segment.
        segment: u64,
        /// Version it says.
        found: u16,
    },
    /// A file operation failed.
    #[error("journal {journal}: {action}")]
    Io {
        /// Name of the journal.
        journal: &'static str,
        /// What was done, with the segment.
        action: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The receiver of a replay gave up.
    #[error("journal {journal}: replay stopped at segment {} byte {}", position.segment, position.offset)]
    Stopped {
        /// Name of the journal.
        journal: &'static str,
        /// End of the record that was refused.
        position: Position,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<JournalError> for WriteError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Closed { .. } => Self::Closed,
            JournalError::RecordSize { .. } => Self::Invalid(error.to_string()),
            _ => Self::Unavailable { reason: trefoil_runtime::tasks::chain(&error), retry_after: RETRY_AFTER },
        }
    }
}
