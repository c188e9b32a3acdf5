//! The contract of a journal. A topic of another system can stand in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;

use crate::JournalError;

/// A place between records: the start of the next one. Ordered as the records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    /// Number of the segment. Numbers grow and are never used twice.
    pub segment: u64,
    /// Byte within the segment.
    pub offset: u64,
}

/// What an append answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// End of the record.
    pub position: Position,
}

/// Why the receiver of a replay wants no more.
#[derive(Debug)]
pub enum ReplayStop {
    /// It has what it needs: the replay ends well.
    Done,
    /// It cannot go on: the replay ends with [`JournalError::Stopped`].
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for ReplayStop {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// A range of a segment that cannot be read although it had been synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Damage {
    /// The segment. For a missing segment, the one that follows it.
    pub segment: u64,
    /// First bad byte.
    pub from: u64,
    /// First good byte after it; equal to `from` when a whole segment before this one is missing, or what followed.
    pub to: u64,
    /// Sequence number of the first record that is missing; 0 when it is not known: the header of the oldest segment
    /// and records after it are gone.
    pub first_missing: u64,
    /// Sequence number of the first record after it.
    pub next_found: u64,
    /// Whether it is certain that it had been synced. If not, it was the last group before a restart, and most likely
    /// nobody was told that it is durable.
    pub was_synced: bool,
    /// Whether something of it was still to be replayed. If not, all its records lie before what was committed: they are
    /// elsewhere, and nothing is lost.
    pub was_needed: bool,
}

impl std::fmt::Display for Damage {
    /// The range and how many records are missing, without the segment.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from, to, .. } = self;
        match (from, to) {
            (0, 0) => write!(f, "what lay before it is missing")?,
            _ if from == to => write!(f, "what followed byte {from} is missing")?,
            _ => write!(f, "bytes {from}..{to} are damaged")?,
        }
        let what = if self.was_synced { "records" } else { "records that may not have been acknowledged" };
        match self.next_found.saturating_sub(self.first_missing) {
            _ if !self.was_needed => write!(f, ", its records are elsewhere already and nothing is lost"),
            0 => write!(f, ", nothing tells how many {what} that were"),
            missing => write!(f, ", {missing} {what} are missing"),
        }
    }
}

impl Damage {
    /// Tells what was committed: the number of the first record behind it, `None` when that is not known.
    pub(crate) fn since(mut self, committed: Option<u64>) -> Self {
        self.was_needed = committed.is_none_or(|first| self.next_found > first);
        self
    }

    /// Returns the first missing number, given what was expected and what was found at byte `to`.
    pub(crate) fn first_missing(expected: Option<u64>, found: u64, to: u64) -> u64 {
        let only_header = to <= crate::segment::HEADER_BYTES as u64;
        expected.unwrap_or(if only_header { found } else { 0 })
    }
}

/// What a replay delivered and what it could not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplayReport {
    /// Records delivered.
    pub records: u64,
    /// Bytes of the records delivered.
    pub bytes: u64,
    /// End of the last record delivered, or where the replay was asked to start.
    pub end: Position,
    /// Damage found, in order, that before the start included when it is in the same segment.
    pub damage: Vec<Damage>,
    /// Bytes at the very end that are no whole record: a write that was cut off, or damage; nothing tells which.
    pub torn: Option<Torn>,
}

/// Bytes at the end of the newest segment that hold no whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub segment: u64,
    /// First byte after the last whole record.
    pub from: u64,
    /// Bytes that the segment had when the journal was opened.
    pub to: u64,
}

/// What reading the copies came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopiesReport {
    /// Copies delivered.
    pub copies: u64,
    /// Ranges that hold no whole copy, by the segment whose copies they were.
    pub damage: Vec<Torn>,
}

/// A durable append-only log.
#[async_trait::async_trait]
pub trait JournalStore: Send + Sync {
    /// Appends a record and returns when it is durable.
    ///
    /// Records are durable in the order in which appends were accepted; one sync serves all that wait. A future that
    /// is dropped half way may or may not have appended its record. After an error the record may still be found by
    /// a replay after a restart (its sender knows nothing about it); it is never found twice.
    async fn append(&self, record: Bytes) -> Result<Appended, JournalError>;

    /// Appends a record of which `copy`, what later records lean on, is kept a second time in another file. The copy is
    /// written before this returns but need not be durable: it is for bytes that rot, not for crashes. An empty one is
    /// none. That a copy cannot be written is no error.
    async fn append_with_copy(&self, record: Bytes, copy: Bytes) -> Result<Appended, JournalError>;

    /// Delivers all copies of which the segment may still be needed, also those of segments that are missing. Damage is
    /// reported, not an error. Blocks on the disk.
    fn copies(&self, each: &mut dyn FnMut(&[u8])) -> Result<CopiesReport, JournalError>;

    /// Returns, by segment, the ends of the records that have a whole copy. Blocks on the disk.
    fn copied(&self) -> BTreeMap<u64, BTreeSet<u64>>;

    /// Writes the copies of a segment anew: those that are whole stay, every other record gets what `copy_of` makes of it,
    /// if anything. Returns how many that were. Only before the first append. Blocks on the disk.
    fn mend_copies(
        &self,
        segment: u64,
        copy_of: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<usize, JournalError>;

    /// Returns the end of the last synced record.
    fn end(&self) -> Position;

    /// Returns [`Self::end`] with the sequence number that the next record gets.
    fn end_sequence(&self) -> (Position, u64);

    /// Delivers the records from `from` up to [`Self::end`], each with the position after it, in order.
    ///
    /// Damage is reported, not an error: what follows it is delivered. Blocks on the disk.
    #[expect(clippy::type_complexity, reason = "the receiver's type is clearer in place")]
    fn replay(
        &self,
        from: Position,
        each: &mut dyn FnMut(Position, &[u8]) -> Result<(), ReplayStop>,
    ) -> Result<ReplayReport, JournalError> {
        self.replay_since(from, None, each)
    }

    /// Replays like [`Self::replay`]. With the `sequence` number of the first record behind `from`, as
    /// [`Self::end_sequence`] told it once, it is also reported when the journal begins behind that.
    #[expect(clippy::type_complexity, reason = "the receiver's type is clearer in place")]
    fn replay_since(
        &self,
        from: Position,
        sequence: Option<u64>,
        each: &mut dyn FnMut(Position, &[u8]) -> Result<(), ReplayStop>,
    ) -> Result<ReplayReport, JournalError>;

    /// Removes the segments that lie wholly before `position`; damaged ones are kept aside under another name. The
    /// newest segment always stays. Blocks on the disk.
    fn truncate_before(&self, position: Position) -> Result<(), JournalError>;

    /// Ends the segment that is written to, so that no segment up to the returned end changes any more; what is
    /// appended later goes to a new one. Everything acknowledged before the call lies before the returned end.
    async fn rotate(&self) -> Result<Position, JournalError>;

    /// Gives the segments up to one that [`Self::rotate`] ended second names in a directory, which is made when it is
    /// missing, durably. Segments that are truncated meanwhile are left out. Blocks on the disk.
    fn link_segments(&self, through: Position, dir: &Path) -> Result<(), JournalError>;

    /// Returns the number of the oldest segment; `None` without any. It grows only by [`Self::truncate_before`].
    fn first_segment(&self) -> Option<u64>;

    /// Gives segments second names in the folder `lost` of the journal, with their copies, so that no truncation takes
    /// them away. Those that are gone or lie there already are left out. Returns how many are new there. Blocks on the
    /// disk.
    fn keep(&self, segments: &BTreeSet<u64>) -> Result<usize, JournalError>;

    /// Returns whether appends are refused until a restart.
    fn is_read_only(&self) -> bool;

    /// Returns why no append can succeed now, if that is known and not for want of room.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Returns how many bytes the segments have.
    fn bytes(&self) -> u64;

    /// Writes what is queued and refuses what comes later. A second call does nothing.
    async fn close(&self);
}
