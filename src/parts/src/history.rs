//! Whether commits were there that are not there any more. See `FORMAT.md`, "Lost commits".

use std::io;
use std::path::Path;

use trefoil_runtime::Vfs;
use trefoil_runtime::vfs::write_atomic;

use crate::commit_file::{self, CommitFile};
use crate::orphans::PartFolder;

/// File beside the catalog that says whether a commit was ever made.
pub(crate) const MARK: &str = "catalog-state";
const NEW: &[u8] = b"new\n";
const COMMITTED: &[u8] = b"committed\n";

/// What the file [`MARK`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// There is none: a set that is made just now, or that an earlier version made.
    Absent,
    /// No commit was made: parts without one are what a crash left.
    New,
    /// Commits were made.
    Committed,
    /// It says neither: its bytes are damaged.
    Damaged,
}

impl Mark {
    pub(crate) fn read(vfs: &dyn Vfs, dir: &Path) -> io::Result<Self> {
        let path = dir.join(MARK);
        if !vfs.exists(&path) {
            return Ok(Self::Absent);
        }
        let found = vfs.read(&path)?;
        Ok(match &found[..] {
            NEW => Self::New,
            COMMITTED => Self::Committed,
            _ => Self::Damaged,
        })
    }

    pub(crate) fn write(self, vfs: &dyn Vfs, dir: &Path) -> io::Result<()> {
        write_atomic(vfs, &dir.join(MARK), if self == Self::New { NEW } else { COMMITTED })
    }

    /// Whether a set without any commit has lost them, given how many part folders there are.
    pub(crate) fn has_lost_all(self, folders: usize) -> bool {
        match self {
            Self::New => false,
            Self::Committed => true,
            Self::Absent | Self::Damaged => folders > 0,
        }
    }
}

/// Where the journal beside a set begins. A journal loses segments only after a commit has moved beyond them, so a journal
/// that begins later than when a part was written proves that the part's commit was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JournalStart {
    /// There is no journal, or nobody looked.
    #[default]
    Unknown,
    /// It has no segment.
    Empty,
    /// Number of its oldest segment.
    Segment(u64),
}

impl From<Option<u64>> for JournalStart {
    fn from(first: Option<u64>) -> Self {
        first.map_or(Self::Empty, Self::Segment)
    }
}

impl JournalStart {
    /// The segment, to be written down.
    pub(crate) fn segment(self) -> Option<u64> {
        match self {
            Self::Segment(number) => Some(number),
            Self::Unknown | Self::Empty => None,
        }
    }

    /// True when the journal has lost what it had from segment `then` on.
    fn is_past(self, then: u64) -> bool {
        match self {
            Self::Unknown => false,
            Self::Empty => true,
            Self::Segment(first) => first > then,
        }
    }
}

/// The commit of a part folder, when it carries one.
pub(crate) fn commit_of(vfs: &dyn Vfs, folder: &PartFolder) -> Option<CommitFile> {
    let bytes = vfs.read(&folder.path.join(commit_file::PART_COMMIT)).ok()?;
    commit_file::decode_any(commit_file::PART_COMMIT, &bytes).ok()
}

/// True for a part whose commit was made although no commit names the part: it is newer than all that are there, and the
/// journal has let its samples go since.
pub(crate) fn is_commit_lost(commit: &CommitFile, newest: u64, journal: JournalStart) -> bool {
    commit.sequence > newest && commit.journal_start.is_some_and(|then| journal.is_past(then))
}
