use trefoil_journal::JournalError;
use trefoil_model::StoreError;
use trefoil_parts::PartsError;

/// Why the store could not open or a background job could not finish.
#[derive(Debug, thiserror::Error)]
pub enum TsdbError {
    /// The journal failed.
    #[error("metrics journal")]
    Journal(#[from] JournalError),
    /// Publishing or reading parts failed.
    #[error("metrics parts")]
    Parts(#[from] PartsError),
    /// Reading samples failed.
    #[error("metrics store")]
    Store(#[from] StoreError),
    /// Writing a file failed.
    #[error("write part for tenant {tenant}, day {day}")]
    Write {
        /// Tenant.
        tenant: u32,
        /// UTC day.
        day: i64,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A folder of the store takes no files.
    #[error("the folder {} cannot be written to", dir.display())]
    NotWritable {
        /// The folder.
        dir: std::path::PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A value that travels with commits is not what this version writes.
    #[error("store attribute {name} has the value {value:?}, not as this version writes it")]
    Attribute {
        /// Name of the attribute.
        name: &'static str,
        /// What it holds.
        value: String,
    },
    /// Too many deletions wait for merges.
    #[error("{count} deletions wait for merges, the limit is {max}: clean the tombstones first")]
    TooManyTombstones {
        /// How many there are.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// A part cannot be rewritten for want of disk space.
    #[error("the disk has no room to rewrite part {part} of {bytes} bytes: deleted samples stay in it")]
    NoRoom {
        /// The part.
        part: u64,
        /// Bytes of the part.
        bytes: u64,
    },
    /// The store is closed.
    #[error("metrics store is closed")]
    Closed,
    /// A job ended without an answer because the runtime shuts down.
    #[error("background job was stopped")]
    Stopped,
}
