//! Copies: kept beside their segments, gone with them, whole again after a crash.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use trefoil_journal::{FileJournal, JournalError, JournalStore, Position, check, copies};
use trefoil_runtime::vfs::sim::{Fault, SimDisk};
use trefoil_runtime::{SharedVfs, Vfs};

use crate::support::{DIR, open, payload, replay};

const SEGMENT_BYTES: u64 = 250;

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn copy_of(number: u64) -> Bytes {
    Bytes::from(format!("copy {number}"))
}

/// Appends a record with a copy, or without one for odd numbers.
fn append(journal: &FileJournal, number: u64) -> Result<Position, JournalError> {
    let copy = if number.is_multiple_of(2) { copy_of(number) } else { Bytes::new() };
    Ok(wait(journal.append_with_copy(payload(number, 60), copy))?.position)
}

fn copies_of(journal: &FileJournal) -> Vec<Bytes> {
    let mut found = Vec::new();
    let report = journal.copies(&mut |copy| found.push(Bytes::copy_from_slice(copy))).unwrap();
    assert_eq!(report.copies as usize, found.len());
    assert_eq!(report.damage, []);
    found
}

fn findings(disk: &SimDisk) -> Vec<String> {
    let vfs: SharedVfs = Arc::new(disk.clone());
    check(&vfs, Path::new(DIR), "test").unwrap()
}

fn copy_files(disk: &SimDisk) -> usize {
    disk.files().iter().filter(|path| path.to_string_lossy().ends_with(copies::SUFFIX)).count()
}

#[test]
fn copies_stay_as_long_as_their_segments() {
    let disk = SimDisk::new();
    let journal = open(&disk, SEGMENT_BYTES).unwrap();
    let mut ends = Vec::new();
    for number in 0..12 {
        ends.push(append(&journal, number).unwrap());
    }
    assert_eq!(copies_of(&journal), (0..6).map(|n| copy_of(2 * n)).collect::<Vec<_>>());
    assert!(copy_files(&disk) >= 3);
    // A little into the third segment.
    journal.truncate_before(ends[6]).unwrap();
    let left = copies_of(&journal);
    assert!(left.len() < 6 && left.last() == Some(&copy_of(10)), "{left:?}");
    let linked = wait(journal.rotate()).unwrap();
    journal.link_segments(linked, Path::new("/backup")).unwrap();
    let again = FileJournal::open(Arc::new(disk.clone()), Path::new("/backup"), crate::support::options(250)).unwrap();
    assert_eq!(copies_of(&again), left);
    drop(again);
    let end = append(&journal, 13).unwrap();
    journal.truncate_before(end).unwrap();
    assert_eq!(copies_of(&journal), Vec::<Bytes>::new());
    drop(journal);
    // Those of a segment that is missing stay until it would have gone.
    let disk = SimDisk::new();
    let journal = open(&disk, SEGMENT_BYTES).unwrap();
    for number in 0..12 {
        append(&journal, number).unwrap();
    }
    drop(journal);
    disk.remove_file(&disk.files().into_iter().find(|p| p.to_string_lossy().ends_with(".journal")).unwrap()).unwrap();
    let journal = open(&disk, SEGMENT_BYTES).unwrap();
    assert_eq!(copies_of(&journal).len(), 6);
    journal.truncate_before(append(&journal, 13).unwrap()).unwrap();
    assert_eq!(copies_of(&journal), Vec::<Bytes>::new());
    assert_eq!(copy_files(&disk), 0);
}

#[test]
fn segments_are_kept_with_their_copies() {
    let disk = SimDisk::new();
    let journal = open(&disk, SEGMENT_BYTES).unwrap();
    let mut end = Position::default();
    for number in 0..6 {
        end = append(&journal, number).unwrap();
    }
    assert_eq!(journal.keep(&[1, 2, 99].into()).unwrap(), 2);
    assert_eq!(journal.keep(&[1, 2, 99].into()).unwrap(), 0);
    journal.truncate_before(end).unwrap();
    let lost =
        FileJournal::open(Arc::new(disk.clone()), &Path::new(DIR).join("lost"), crate::support::options(250)).unwrap();
    let (numbers, report) = replay(&lost, Position::default());
    assert!(numbers.len() >= 4 && report.damage.is_empty(), "{numbers:?} {report:?}");
    assert!(copies_of(&lost).len() >= 2);
}

/// The records are whole after every crash; of the copies only those of the segment that was written to may be missing,
/// and nobody is told of damage.
#[test]
fn a_power_cut_or_an_error_at_any_operation_harms_no_record_and_raises_no_alarm() {
    for fault in [Fault::PowerCut, Fault::Io, Fault::NoSpace, Fault::ShortWrite] {
        for at in 0.. {
            let mut struck = false;
            for seed in 0..2 {
                let disk = SimDisk::new();
                disk.fail_at(at, fault);
                let mut acked = Vec::new();
                for start in 0..2u64 {
                    let Ok(journal) = open(&disk, SEGMENT_BYTES) else { continue };
                    for number in start * 8..start * 8 + 8 {
                        if append(&journal, number).is_ok() {
                            acked.push(number);
                        }
                    }
                    wait(journal.close());
                }
                struck |= disk.op_count() > at;
                disk.clear_faults();
                disk.crash(seed + at);
                let context = format!("{fault:?} at operation {at}, seed {seed}");
                let journal = open(&disk, SEGMENT_BYTES).unwrap();
                let (numbers, report) = replay(&journal, Position::default());
                assert!(report.damage.iter().all(|damage| !damage.was_synced), "{context}: {report:?}");
                assert!(acked.iter().all(|number| numbers.contains(number)), "{context}: {numbers:?} of {acked:?}");
                let mut found = Vec::new();
                journal.copies(&mut |copy| found.push(Bytes::copy_from_slice(copy))).unwrap();
                assert!(found.iter().all(|copy| (0..16).any(|n| copy_of(n) == copy)), "{context}");
                append(&journal, 20).unwrap();
                wait(journal.close());
                drop(journal);
                // After an error a file may be half-written and never synced; the log has told of it.
                let is_told = fault != Fault::PowerCut;
                assert!(
                    is_told || findings(&disk).iter().all(|text| !text.contains("copies")),
                    "{context}: {:?}",
                    findings(&disk)
                );
            }
            if !struck {
                break;
            }
        }
    }
}
