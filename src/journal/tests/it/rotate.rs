//! Ending a segment on demand, and linking ended ones.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use trefoil_journal::{FileJournal, JournalOptions, JournalStore, Position};
use trefoil_runtime::vfs::sim::SimDisk;

fn open(disk: &SimDisk, dir: &str) -> FileJournal {
    FileJournal::open(Arc::new(disk.clone()), Path::new(dir), JournalOptions::named("test")).unwrap()
}

fn records(journal: &FileJournal) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let report = journal
        .replay(Position::default(), &mut |_, record| {
            found.push(record.to_vec());
            Ok(())
        })
        .unwrap();
    assert_eq!(report.damage, []);
    found
}

fn rotate(journal: &FileJournal) -> Position {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(journal.rotate()).unwrap()
}

#[test]
fn linked_segments_hold_what_was_acknowledged_and_do_not_change() {
    let disk = SimDisk::new();
    let journal = open(&disk, "/journal");
    assert_eq!(rotate(&journal), Position::default());
    journal.append_blocking(Bytes::from_static(b"one")).unwrap();
    let end = rotate(&journal);
    assert_eq!(rotate(&journal), end, "nothing to end");
    journal.append_blocking(Bytes::from_static(b"two")).unwrap();
    journal.link_segments(end, Path::new("/copy")).unwrap();
    journal.append_blocking(Bytes::from_static(b"three")).unwrap();
    let copy = open(&disk, "/copy");
    assert_eq!(records(&copy), [b"one"]);
    copy.append_blocking(Bytes::from_static(b"other")).unwrap();
    assert_eq!(records(&copy), [&b"one"[..], b"other"]);
    assert_eq!(records(&journal), [&b"one"[..], b"two", b"three"]);
    // Truncated segments are not in a link, and that is no error.
    let end = rotate(&journal);
    journal.truncate_before(end).unwrap();
    journal.link_segments(end, Path::new("/second")).unwrap();
    drop(journal);
    disk.crash(3);
    assert_eq!(records(&open(&disk, "/copy")), [&b"one"[..], b"other"]);
    let journal = open(&disk, "/journal");
    journal.append_blocking(Bytes::from_static(b"four")).unwrap();
    assert_eq!(records(&journal).last().unwrap(), b"four");
}
