//! A look at a journal that nobody has open, without changing anything.

use std::path::Path;
use std::sync::Arc;

use trefoil_runtime::{ReadOnlyVfs, SharedVfs};

use crate::file_journal::{FileJournal, JournalOptions};
use crate::store::{JournalStore, Position};
use crate::{JournalError, segment};

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

/// Checks every record of the journal in a directory and returns what is wrong, each with segment and range. Bytes at
/// the very end that are no whole record are told too: of a write that was cut off, or of damage. None when there is no
/// journal. Reads all segments.
pub fn check(vfs: &SharedVfs, dir: &Path, name: &'static str) -> Result<Vec<String>, JournalError> {
    let view = ReadOnlyVfs::shared(Arc::clone(vfs), None);
    let journal = FileJournal::open(Arc::clone(&view), dir, JournalOptions::named(name))?;
    let report = journal.replay(Position::default(), &mut |_, _| Ok(()))?;
    let mut found: Vec<String> = report
        .damage
        .iter()
        .map(|damage| {
            let file = segment::path(dir, damage.segment);
            let (from, to, missing) = (damage.from, damage.to, damage.next_found.saturating_sub(damage.first_missing));
            let what = if damage.was_synced { "records" } else { "records that may not have been acknowledged" };
            format!("{}: bytes {from}..{to} are damaged, {missing} {what} are missing", file.display())
        })
        .collect();
    let end = journal.end();
    let newest = segment::path(dir, end.segment);
    if let Ok(len) = view.len(&newest)
        && len > end.offset
        && !report.damage.iter().any(|damage| damage.segment == end.segment && damage.to >= end.offset)
    {
        let from = end.offset;
        found.push(format!(
            "{}: bytes {from}..{len} hold no whole record: a write was cut off, or they are damaged",
            newest.display()
        ));
    }
    Ok(found)
}
