//! A look at a journal that nobody has open, without changing anything.

use std::path::Path;
use std::sync::Arc;

use trefoil_runtime::{ReadOnlyVfs, SharedVfs};

use crate::file_journal::{FileJournal, JournalOptions};
use crate::store::{JournalStore, Position};
use crate::{JournalError, copies, segment};

/// Returns the number of the oldest segment in a directory; `None` without any. Changes nothing.
pub fn first_segment(vfs: &SharedVfs, dir: &Path) -> Result<Option<u64>, JournalError> {
    if !vfs.exists(dir) {
        return Ok(None);
    }
    let entries = vfs.read_dir(dir).map_err(|source| JournalError::Io {
        journal: "journal",
        action: format!("list {}", dir.display()),
        source,
    })?;
    Ok(entries.iter().filter_map(|entry| segment::parse_name(&entry.name)).min())
}

/// Returns whether a directory holds anything of a journal: segments or copies. Changes nothing.
pub fn has_files(vfs: &SharedVfs, dir: &Path) -> Result<bool, JournalError> {
    if !vfs.exists(dir) {
        return Ok(false);
    }
    let entries = vfs.read_dir(dir).map_err(|source| JournalError::Io {
        journal: "journal",
        action: format!("list {}", dir.display()),
        source,
    })?;
    let is_one = |name: &str| segment::parse_name(name).is_some() || copies::parse_name(name).is_some();
    Ok(entries.iter().any(|entry| is_one(&entry.name)))
}

/// Up to where the records of a journal are elsewhere, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Committed {
    /// Records before it are not needed any more.
    pub position: Position,
    /// Sequence number of the first record behind it; 1 when nothing was committed yet, `None` when it is not known.
    pub sequence: Option<u64>,
}

/// Checks a journal of which it is not known what was committed. See [`check_from`].
pub fn check(vfs: &SharedVfs, dir: &Path, name: &'static str) -> Result<Vec<String>, JournalError> {
    check_from(vfs, dir, name, Committed::default())
}

/// Checks every record of the journal in a directory and all copies; returns what is wrong, each with segment and range.
/// With what was committed it is also seen when the beginning or the end is missing. Bytes at the very end that are no
/// whole record are told too: of a write that was cut off, or of damage. None when there is no journal. Reads all
/// segments.
pub fn check_from(
    vfs: &SharedVfs,
    dir: &Path,
    name: &'static str,
    committed: Committed,
) -> Result<Vec<String>, JournalError> {
    let view = ReadOnlyVfs::shared(Arc::clone(vfs), None);
    let sequence_min = committed.sequence.unwrap_or(1);
    let options = JournalOptions { sequence_min, ..JournalOptions::named(name) };
    let journal = FileJournal::open(Arc::clone(&view), dir, options)?;
    let all = journal.replay_since(Position::default(), committed.sequence, &mut |_, _| Ok(()))?;
    let mut damage = all.damage;
    if damage.is_empty() {
        let needed = journal.replay_since(committed.position, committed.sequence, &mut |_, _| Ok(()))?;
        damage = needed.damage;
    }
    let mut found: Vec<String> =
        damage.iter().map(|damage| format!("{}: {damage}", segment::path(dir, damage.segment).display())).collect();
    let is_told = |place: u64, to: u64| {
        damage.iter().any(|damage| damage.segment == place && damage.to >= to && damage.from < damage.to)
    };
    if let Some(torn) = all.torn
        && !is_told(torn.segment, torn.from)
    {
        let (from, to) = (torn.from, torn.to);
        found.push(format!(
            "{}: bytes {from}..{to} hold no whole record: a write was cut off, or they are damaged",
            segment::path(dir, torn.segment).display()
        ));
    }
    for bad in journal.copies(&mut |_| {})?.damage {
        let (path, from, to) = (copies::path(dir, bad.segment), bad.from, bad.to);
        found.push(format!("{}: bytes {from}..{to} hold no whole copy; the records are unharmed", path.display()));
    }
    Ok(found)
}
