//! What goes wrong, and what was found to be broken.

use std::fmt;
use std::path::{Path, PathBuf};

use trefoil_model::StoreError;

/// Why an import or export ended early.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file or folder is not what it should be.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A line of a text file is wrong.
    #[error("{}: line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// The receiver of the samples failed.
    #[error("write samples: {0}")]
    Sink(String),
    /// The source of the samples failed.
    #[error("read samples")]
    Store(#[from] StoreError),
    /// Writing the answer failed.
    #[error("write the export")]
    Output(#[from] std::io::Error),
    /// An HTTP request failed for good.
    #[error("{url}: {reason}")]
    Http {
        /// Where to.
        url: String,
        /// What the server said, or why it was not reached.
        reason: String,
    },
}

impl TransferError {
    /// For `map_err` on file operations.
    pub fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}

/// Something broken in a file; the rest was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// First byte of what is broken.
    pub offset: u64,
    /// Its length in bytes, 0 when that is not known.
    pub len: u64,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: byte {}", self.path.display(), self.offset)?;
        if self.len > 0 {
            write!(f, "..{}", self.offset.saturating_add(self.len))?;
        }
        write!(f, ": {}", self.reason)
    }
}
