use std::io;
use std::path::PathBuf;
use std::time::Duration;

use trefoil_model::{StoreError, WriteError};

use crate::meta::PartId;

/// Why parts could not be read, written or committed.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// A file operation failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A commit does not have its checksum or cannot be read.
    #[error(
        "commit {file} is damaged, and it has no whole copy: {reason}; `trefoil tsdb repair` makes the catalog anew"
    )]
    CorruptCommit {
        /// Name of the commit file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A commit was written by a version that this build does not read.
    #[error("commit {file} has format version {found}, this build reads {} and older", crate::commit_file::VERSION)]
    Version {
        /// Name of the commit file.
        file: String,
        /// Version it says.
        found: u32,
    },
    /// A commit between the newest snapshot and the newest commit is missing.
    #[error("commit {sequence:020} is missing from the catalog; `trefoil tsdb repair` makes it anew")]
    MissingCommit {
        /// Its sequence number.
        sequence: u64,
    },
    /// Commits were made, and there is not one, neither in the catalog nor in its copies. Nothing was changed.
    #[error("{} {}; `trefoil tsdb repair` makes the catalog anew", dir.display(), what_is_left(*parts))]
    NoCommits {
        /// Directory of the set.
        dir: PathBuf,
        /// Part folders; 0 when all parts lie in an object store.
        parts: usize,
    },
    /// The newest commit is lost, in the catalog and in its copies: a part was published by it, and the journal does not
    /// hold its samples any more. Nothing was changed.
    #[error(
        "commit {sequence:020} is lost, which published {}; `trefoil tsdb repair` makes the catalog anew", folder.display()
    )]
    LostCommit {
        /// Its sequence number.
        sequence: u64,
        /// Folder of the part.
        folder: PathBuf,
    },
    /// Somebody else wrote a commit of the same number.
    #[error("commit {sequence:020} exists already")]
    Conflict {
        /// Its sequence number.
        sequence: u64,
    },
    /// It is not known whether the last commit is durable; only opening the set again can tell.
    #[error("the outcome of commit {sequence:020} is unknown, restart to find out")]
    Unknown {
        /// Its sequence number.
        sequence: u64,
    },
    /// A file of a part does not have the length or the checksum that its commit says.
    #[error("file {file} of part {part} is damaged: {reason}")]
    CorruptFile {
        /// The part.
        part: PartId,
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A file of a part that lies in an object store could not be read or written.
    #[error("file {place} of part {part} in the object store")]
    Remote {
        /// The part.
        part: PartId,
        /// URL of the file.
        place: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// An object store could not be asked.
    #[error("object store {url}")]
    ObjectStore {
        /// Its URL.
        url: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The parts of another data directory lie at the place.
    #[error("object store {url} holds the parts of another data directory")]
    NotOwner {
        /// Its URL.
        url: String,
    },
    /// There is no object store to move parts to.
    #[error("no object store is configured")]
    NoObjectStore,
    /// The part is not in the set.
    #[error("part {0} is not in the set")]
    NoSuchPart(PartId),
    /// The part has no such file.
    #[error("part {part} has no file {file}")]
    NoSuchFile {
        /// The part.
        part: PartId,
        /// The file.
        file: String,
    },
    /// A name that a part's file cannot have, or has twice.
    #[error("{0:?} cannot be the name of a new file in a part")]
    FileName(String),
    /// A file was created and not finished.
    #[error("{0} files of the part are not finished")]
    UnfinishedFiles(usize),
}

fn what_is_left(parts: usize) -> String {
    match parts {
        0 => "had commits, and there is none any more, nor the folder of a part".to_owned(),
        parts => format!("has the folders of {parts} parts and no commit that names one"),
    }
}

impl PartsError {
    /// Returns whether the catalog is damaged and [`crate::repair`] can help.
    pub fn is_catalog_damage(&self) -> bool {
        matches!(
            self,
            Self::CorruptCommit { .. } | Self::MissingCommit { .. } | Self::NoCommits { .. } | Self::LostCommit { .. }
        )
    }

    /// Returns whether it is for want of disk space.
    pub fn is_no_space(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl From<PartsError> for StoreError {
    fn from(error: PartsError) -> Self {
        match error {
            PartsError::Io { action, path, source } => {
                Self::Io { context: format!("{action} {}", path.display()), source }
            }
            PartsError::Remote { part, place, source } => {
                Self::Io { context: format!("part {part} in the object store, {place}"), source }
            }
            other => Self::Corrupt(other.to_string()),
        }
    }
}

impl From<PartsError> for WriteError {
    fn from(error: PartsError) -> Self {
        Self::Unavailable { reason: error.to_string(), retry_after: Duration::from_secs(5) }
    }
}
