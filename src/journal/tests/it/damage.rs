//! Bytes that rot: every byte, every length, whole pages, whole files. What is missing is reported exactly.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use trefoil_journal::{JournalStore, Position, segment};
use trefoil_runtime::Vfs;
use trefoil_runtime::vfs::sim::SimDisk;

use crate::support::Step::{Append, Close};
use crate::support::{DIR, Model, is_torture, number_of, open, payload, replay, run};

const SEGMENT_BYTES: u64 = 300;

/// A journal of several segments, closed in order; record `n` has sequence number `n + 1`.
fn journal() -> (SimDisk, u64) {
    let disk = SimDisk::new();
    let mut model = Model::default();
    let steps = [
        Append(1, 50),
        Append(3, 80),
        Append(1, 7),
        Append(1, 300),
        Append(1, 20),
        Append(2, 30),
        Append(1, 90),
        Close,
    ];
    run(&disk, SEGMENT_BYTES, &steps, &mut model).unwrap();
    assert!(disk.files().len() >= 3, "several segments");
    (disk, model.acked.len() as u64)
}

/// Opens and replays; every record is delivered with its bytes or reported missing, and none is both.
fn check(disk: &SimDisk, records: u64, context: &str) -> usize {
    let journal = open(disk, SEGMENT_BYTES).unwrap();
    let (numbers, report) = replay(&journal, Position::default());
    assert!(numbers.is_sorted(), "{context}: {numbers:?}");
    let delivered: BTreeSet<u64> = numbers.iter().copied().collect();
    let mut missing = BTreeSet::new();
    for damage in &report.damage {
        // Also the close records have numbers; they come after all others.
        missing.extend((damage.first_missing..damage.next_found).map(|sequence| sequence.saturating_sub(1)));
    }
    for record in 0..records {
        let (is_delivered, is_missing) = (delivered.contains(&record), missing.contains(&record));
        assert!(is_delivered != is_missing, "{context}: record {record} delivered {is_delivered}: {report:?}");
    }
    assert_eq!(delivered.len(), numbers.len(), "{context}");
    // It still takes records, and a truncation keeps damaged segments aside.
    let end = journal.append_blocking(payload(1_000, 10)).unwrap().position;
    let (after, _) = replay(&journal, Position::default());
    assert_eq!(after.len(), numbers.len() + 1, "{context}");
    assert_eq!(after.last(), Some(&1_000));
    journal.truncate_before(end).unwrap();
    let kept = disk.files().iter().filter(|path| path.to_string_lossy().ends_with(segment::QUARANTINE_SUFFIX)).count();
    assert_eq!(kept > 0, !report.damage.is_empty(), "{context}");
    report.damage.len()
}

#[test]
fn every_flipped_byte_is_reported_or_harmless() {
    let (disk, records) = journal();
    assert_eq!(check(&disk.fork(), records, "intact"), 0);
    let mut reported = 0;
    for path in disk.files() {
        let len = disk.len(&path).unwrap();
        for at in 0..len as usize {
            let bits = if is_torture() { 0..8 } else { at % 8..at % 8 + 1 };
            for bit in bits {
                let disk = disk.fork();
                disk.corrupt(&path, |bytes| bytes[at] ^= 1 << bit);
                reported += check(&disk, records, &format!("{} byte {at} bit {bit}", path.display()));
            }
        }
    }
    assert!(reported > 500);
}

#[test]
fn pages_of_zeros_are_reported() {
    let (disk, records) = journal();
    let newest = disk.files().pop();
    for path in disk.files().into_iter().filter(|path| Some(path) != newest.as_ref()) {
        let len = disk.len(&path).unwrap() as usize;
        for at in (0..len).step_by(64) {
            let disk = disk.fork();
            disk.corrupt(&path, |bytes| bytes[at..(at + 64).min(len)].fill(0));
            check(&disk, records, &format!("{} zeros at {at}", path.display()));
        }
    }
}

#[test]
fn a_cut_at_every_length_is_reported_or_a_torn_tail() {
    let (disk, records) = journal();
    let files = disk.files();
    let (newest, older) = files.split_last().unwrap();
    for path in older {
        for len in 0..disk.len(path).unwrap() as usize {
            let disk = disk.fork();
            disk.corrupt(path, |bytes| bytes.truncate(len));
            if len <= segment::HEADER_BYTES {
                continue; // Looks like a segment that was never begun; see the missing files.
            }
            check(&disk, records, &format!("{} cut to {len}", path.display()));
        }
    }
    for len in 0..disk.len(newest).unwrap() as usize {
        let disk = disk.fork();
        disk.corrupt(newest, |bytes| bytes.truncate(len));
        let journal = open(&disk, SEGMENT_BYTES).unwrap();
        let (numbers, report) = replay(&journal, Position::default());
        assert_eq!(report.damage, [], "cut to {len}");
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "cut to {len}");
        journal.append_blocking(payload(77, 1)).unwrap();
        drop(journal);
        disk.crash(0);
        let (after, _) = replay(&open(&disk, SEGMENT_BYTES).unwrap(), Position::default());
        assert_eq!(after.len(), numbers.len() + 1, "cut to {len}");
    }
}

#[test]
fn missing_and_foreign_files_are_told() {
    let (disk, _) = journal();
    let files = disk.files();
    let read = |disk: &SimDisk| replay(&open(disk, SEGMENT_BYTES).unwrap(), Position::default());
    let (all, _) = read(&disk.fork());

    let lost = disk.fork();
    lost.remove_file(&files[1]).unwrap();
    let (numbers, report) = read(&lost);
    assert_eq!(report.damage.len(), 1);
    let missing = report.damage[0].next_found - report.damage[0].first_missing;
    assert_eq!(numbers.len() as u64 + missing, all.len() as u64);

    let copied = disk.fork();
    let name: PathBuf = segment::path(Path::new(DIR), 50);
    let content = copied.read(&files[0]).unwrap();
    copied.create(&name).unwrap().write_all(&content).unwrap();
    let (numbers, report) = read(&copied);
    assert_eq!((numbers, report.damage.len()), (all, 0));
    let journal = open(&copied, SEGMENT_BYTES).unwrap();
    assert!(journal.append_blocking(payload(5, 5)).unwrap().position.segment > 50);
    assert_eq!(number_of(&payload(5, 5)), 5);
}

#[test]
fn another_version_is_refused() {
    let (disk, _) = journal();
    disk.corrupt(&disk.files()[0], |bytes| {
        bytes[8] = 2;
        let checksum = crc32c::crc32c(&bytes[..44]);
        bytes[44..48].copy_from_slice(&checksum.to_le_bytes());
    });
    let error = open(&disk, SEGMENT_BYTES).err().unwrap().to_string();
    assert_eq!(error, "journal test: segment 1 has format version 2, this build reads 1");
}

#[test]
fn what_is_elsewhere_already_is_not_lost() {
    let disk = SimDisk::new();
    let mut model = Model::default();
    run(&disk, SEGMENT_BYTES, &[Append(1, 50), Append(3, 80), Append(2, 30), Append(1, 90), Close], &mut model)
        .unwrap();
    let (mut needed, mut elsewhere) = (0, 0);
    for path in disk.files() {
        for at in (0..disk.len(&path).unwrap() as usize).step_by(if is_torture() { 1 } else { 5 }) {
            let disk = disk.fork();
            disk.corrupt(&path, |bytes| bytes[at] ^= 1);
            for committed in 0..model.acked.len() {
                let (record, position) = model.acked[committed];
                // Record `n` has sequence number `n + 1`.
                let behind = record + 2;
                let journal = open(&disk.fork(), SEGMENT_BYTES).unwrap();
                let mut delivered = BTreeSet::new();
                let mut take = |_: Position, bytes: &[u8]| {
                    delivered.insert(number_of(bytes));
                    Ok(())
                };
                let report = journal.replay_since(position, Some(behind), &mut take).unwrap();
                let is_lost = (record + 1..model.acked.len() as u64).any(|n| !delivered.contains(&n));
                let is_told = report.damage.iter().any(|damage| damage.was_needed);
                // The mark of an orderly end is a record too.
                assert!(is_told || !is_lost, "{} byte {at}, {record} committed: {report:?}", path.display());
                for damage in &report.damage {
                    assert_eq!(damage.was_needed, damage.next_found > behind, "{damage:?}");
                    assert_eq!(damage.to_string().contains("nothing is lost"), !damage.was_needed, "{damage}");
                    needed += usize::from(damage.was_needed);
                    elsewhere += usize::from(!damage.was_needed);
                }
            }
        }
    }
    assert!(needed > 100 && elsewhere > 100, "{needed} {elsewhere}");
}
