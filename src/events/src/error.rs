use std::path::PathBuf;

use trefoil_journal::JournalError;
use trefoil_model::{StoreError, WriteError};
use trefoil_parts::PartsError;

use crate::wire::Malformed;

/// Why the event store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The journal failed.
    #[error("journal of the {kind} store")]
    Journal {
        /// `logs` or `traces`.
        kind: &'static str,
        /// The cause.
        #[source]
        source: JournalError,
    },
    /// Reading, writing or committing parts failed.
    #[error("parts of the {kind} store")]
    Parts {
        /// `logs` or `traces`.
        kind: &'static str,
        /// The cause.
        #[source]
        source: PartsError,
    },
    /// A journal record passes its checksum but cannot be read.
    #[error("journal record of the {kind} store cannot be read")]
    Record {
        /// `logs` or `traces`.
        kind: &'static str,
        /// The cause.
        #[source]
        source: Malformed,
    },
    /// A section of a part is damaged.
    #[error("part file {}, {section}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Which section or block.
        section: String,
        /// What is wrong.
        reason: String,
    },
    /// A file operation failed.
    #[error("write part file")]
    Write(#[source] std::io::Error),
    /// The term index failed.
    #[error("term index of a part")]
    Index(#[source] tantivy::TantivyError),
    /// A query over the parts to merge failed.
    #[error("read parts to merge")]
    Read(#[source] StoreError),
    /// A value of the commits cannot be read.
    #[error("attribute {name} of the commits of the {kind} store: {value:?} cannot be read")]
    Attribute {
        /// `logs` or `traces`.
        kind: &'static str,
        /// Its name.
        name: &'static str,
        /// What it says.
        value: String,
    },
    /// Too many deletions wait for merges.
    #[error("{0} deletions of log records wait for merges already; later ones are refused until some are done")]
    Deletions(usize),
    /// The store is closed.
    #[error("the {kind} store is closed")]
    Closed {
        /// `logs` or `traces`.
        kind: &'static str,
    },
}

impl From<EventsError> for StoreError {
    fn from(error: EventsError) -> Self {
        match error {
            EventsError::Corrupt { .. } | EventsError::Record { .. } => Self::Corrupt(error.to_string()),
            EventsError::Parts { source, .. } => source.into(),
            EventsError::Read(source) => source,
            other => Self::Io { context: other.to_string(), source: std::io::Error::other(other) },
        }
    }
}

impl From<EventsError> for WriteError {
    fn from(error: EventsError) -> Self {
        match error {
            EventsError::Journal { source, .. } => source.into(),
            EventsError::Closed { .. } => Self::Closed,
            other => Self::Unavailable { reason: other.to_string(), retry_after: std::time::Duration::from_secs(5) },
        }
    }
}
