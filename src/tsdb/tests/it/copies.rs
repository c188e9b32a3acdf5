//! Definitions of series that rot away in the journal come from their copies, and what nothing defines is kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trefoil_journal::check_from;
use trefoil_model::TimeRange;
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_runtime::{SharedVfs, Vfs};
use trefoil_tsdb::{Tsdb, TsdbOptions};

use crate::support::{BASE, float, numbered, options, read, wait, write};

const JOURNAL: &str = "/data/metrics/journal";
const SERIES: usize = 5;
const RECORDS: usize = 8;

fn small_segments(disk: &SimDisk) -> TsdbOptions {
    let mut options = options(disk);
    options.journal.segment_bytes = 300;
    options
}

fn open(disk: &SimDisk) -> Tsdb {
    Tsdb::open(small_segments(disk)).unwrap()
}

fn record(db: &Tsdb, n: usize) {
    let samples: Vec<_> =
        (0..SERIES).map(|s| (numbered(s), (BASE + n as i64 * 1000, 0, float((n * 10 + s) as f64)))).collect();
    assert_eq!(write(db, &samples).unwrap().accepted, SERIES as u64);
}

/// Some records, each with a sample of every series; only the first defines them. `flushed` come before them.
fn store(flushed: usize) -> SimDisk {
    let disk = SimDisk::new();
    let db = open(&disk);
    for n in 0..flushed {
        record(&db, 100 + n);
    }
    wait(db.flush()).unwrap();
    for n in 0..RECORDS {
        record(&db, n);
    }
    wait(db.close());
    disk
}

fn count(db: &Tsdb) -> usize {
    read(db, 0, vec![], TimeRange::ALL).values().map(Vec::len).sum()
}

fn files(disk: &SimDisk, ending: &str) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| path.parent() == Some(Path::new(JOURNAL)) && path.to_string_lossy().ends_with(ending);
    disk.files().into_iter().filter(is_one).collect()
}

fn check(disk: &SimDisk, db: &Tsdb) -> Vec<String> {
    let vfs: SharedVfs = Arc::new(disk.clone());
    check_from(&vfs, Path::new(JOURNAL), "metrics", db.journal_committed()).unwrap()
}

#[test]
fn a_flipped_bit_costs_the_samples_of_its_record_alone() {
    for flushed in [0, 3] {
        let disk = store(flushed);
        let whole = (flushed + RECORDS) * SERIES;
        assert_eq!(count(&open(&disk.fork())), whole);
        for path in files(&disk, ".journal") {
            let len = disk.len(&path).unwrap() as usize;
            for at in (0..len).step_by(3) {
                let disk = disk.fork();
                disk.corrupt(&path, |bytes| bytes[at] ^= 1 << (at % 8));
                let db = open(&disk);
                let context = format!("{flushed} flushed, {} byte {at}: {:?}", path.display(), db.journal_findings());
                let found = count(&db);
                assert!(found >= whole - SERIES, "{context}: {found}");
                assert!(db.journal_unusable().is_empty(), "{context}");
                assert!(
                    found == whole || !db.journal_findings().is_empty() || db.journal_torn().is_some(),
                    "{context}"
                );
                // It goes on, and nothing changes any more.
                record(&db, 50);
                wait(db.flush()).unwrap();
                assert_eq!(count(&open(&disk)), found + SERIES, "{context}");
            }
        }
    }
}

#[test]
fn a_first_segment_that_is_lost_is_told_and_costs_its_own_samples() {
    for is_emptied in [true, false] {
        let disk = store(0);
        let segments = files(&disk, ".journal");
        assert!(segments.len() >= 3);
        match is_emptied {
            true => disk.corrupt(&segments[0], Vec::clear),
            false => disk.remove_file(&segments[0]).unwrap(),
        }
        let db = open(&disk);
        let found = check(&disk, &db);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("records are missing"), "{found:?}");
        assert_eq!((db.journal_findings().len(), db.journal_unusable().len()), (1, 0));
        let left = count(&db);
        assert!((RECORDS / 2 * SERIES..RECORDS * SERIES).contains(&left), "{left}");
    }
}

/// Copies that are lost too leave samples of unknown series: said, kept, and never taken for others.
#[test]
fn what_nothing_defines_is_kept_and_never_taken_for_another_series() {
    let disk = store(0);
    let segments = files(&disk, ".journal");
    disk.remove_file(&segments[0]).unwrap();
    for path in files(&disk, ".copies") {
        disk.remove_file(&path).unwrap();
    }
    let db = open(&disk);
    assert_eq!(count(&db), 0);
    assert_eq!(db.journal_unusable().len(), 1, "{:?}", db.journal_findings());
    assert!(db.journal_unusable()[0].contains("samples are of unknown series"), "{:?}", db.journal_unusable());
    let new = (numbered(77), (BASE, 0, float(7.0)));
    write(&db, std::slice::from_ref(&new)).unwrap();
    drop(db);
    for _ in 0..2 {
        let db = open(&disk);
        assert_eq!(count(&db), 1, "ids of lost series are not given to others");
        assert_eq!(db.journal_unusable().len(), 1);
    }
    let db = open(&disk);
    wait(db.flush()).unwrap();
    drop(db);
    let kept = |disk: &SimDisk| {
        let lost = Path::new(JOURNAL).join("lost");
        disk.files().into_iter().filter(|path| path.parent() == Some(&*lost)).collect::<Vec<_>>()
    };
    assert!(files(&disk, ".journal").len() < segments.len());
    let names = |paths: &[PathBuf]| paths.iter().map(|p| p.file_name().unwrap().to_owned()).collect::<Vec<_>>();
    assert!(!kept(&disk).is_empty());
    assert!(names(&kept(&disk)).iter().all(|name| names(&segments).contains(name)), "{:?}", kept(&disk));
    let db = open(&disk);
    assert_eq!((count(&db), db.journal_findings()), (1, vec![]));
}

#[test]
fn damaged_copies_are_told_and_harm_nothing() {
    let disk = store(0);
    let copies = files(&disk, ".copies");
    assert_eq!(copies.len(), 1, "one record defines all series");
    for at in (0..disk.len(&copies[0]).unwrap() as usize).step_by(5) {
        let disk = disk.fork();
        disk.corrupt(&copies[0], |bytes| bytes[at] ^= 0x40);
        let view = Tsdb::open(TsdbOptions {
            vfs: trefoil_runtime::ReadOnlyVfs::shared(Arc::new(disk.clone()), None),
            ..small_segments(&disk)
        });
        let view = view.unwrap();
        assert_eq!(check(&disk, &view).len(), 1, "byte {at}: {:?}", check(&disk, &view));
        assert_eq!((count(&view), view.journal_findings()), (RECORDS * SERIES, vec![]));
    }
}

#[test]
fn an_end_that_is_lost_is_told_as_far_as_it_is_known() {
    let disk = SimDisk::new();
    let db = open(&disk);
    record(&db, 0);
    wait(db.close());
    drop(db);
    // Another start and with it another segment, with a definition.
    let db = open(&disk);
    write(&db, &[(numbered(9), (BASE, 0, float(1.0)))]).unwrap();
    drop(db);
    let newest = files(&disk, ".journal").pop().unwrap();
    for len in [0, 20, 60] {
        let disk = disk.fork();
        disk.corrupt(&newest, |bytes| bytes.truncate(len));
        let db = open(&disk);
        let found = check(&disk, &db);
        assert!(
            !found.is_empty() && found.iter().any(|f| f.contains("1 records are missing")),
            "cut to {len}: {found:?}"
        );
        assert_eq!(db.journal_findings().len(), 1, "cut to {len}: {:?}", db.journal_findings());
        assert_eq!(count(&db), SERIES);
    }
    // Behind a flush the commit knows more.
    let db = open(&disk);
    wait(db.flush()).unwrap();
    wait(db.close());
    drop(db);
    for path in files(&disk, ".copies") {
        disk.remove_file(&path).unwrap();
    }
    let all = count(&open(&disk.fork()));
    disk.corrupt(&newest, Vec::clear);
    let db = open(&disk);
    assert_eq!((count(&db), db.journal_findings().len()), (all, 1), "{:?}", db.journal_findings());
}

/// Copies that are gone are told, come back with the next start, and then stand in again.
#[test]
fn lost_copies_are_told_and_written_anew() {
    let disk = store(0);
    let copies = files(&disk, ".copies");
    let before = disk.read(&copies[0]).unwrap();
    let read_only = |disk: &SimDisk| {
        let vfs = trefoil_runtime::ReadOnlyVfs::shared(Arc::new(disk.clone()), None);
        Tsdb::open(TsdbOptions { vfs, ..small_segments(disk) }).unwrap()
    };
    assert_eq!(read_only(&disk).journal_copies_lost(), Vec::<String>::new());
    for is_damaged in [false, true] {
        let disk = disk.fork();
        match is_damaged {
            true => disk.corrupt(&copies[0], |bytes| *bytes.last_mut().unwrap() ^= 1),
            false => disk.remove_file(&copies[0]).unwrap(),
        }
        for open in [read_only as fn(&SimDisk) -> Tsdb, open] {
            let told = open(&disk).journal_copies_lost();
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with(&copies[0].display().to_string()), "{told:?}");
        }
        assert_eq!(disk.read(&copies[0]).unwrap(), before);
        assert_eq!(open(&disk).journal_copies_lost(), Vec::<String>::new());
        // They serve as those before did.
        let segment = &files(&disk, ".journal")[0];
        disk.corrupt(segment, |bytes| bytes[60] ^= 1);
        let db = open(&disk);
        assert!(db.journal_unusable().is_empty(), "{:?}", db.journal_findings());
        assert_eq!(count(&db), (RECORDS - 1) * SERIES);
    }
}

#[test]
fn a_journal_that_is_gone_is_told_once() {
    let disk = store(2);
    disk.remove_dir_all(Path::new(JOURNAL)).unwrap();
    let db = open(&disk);
    assert_eq!(db.journal_unusable().len(), 1);
    assert!(db.journal_unusable()[0].contains("the journal is gone"), "{:?}", db.journal_unusable());
    assert_eq!(count(&db), 2 * SERIES);
    record(&db, 7);
    wait(db.close());
    drop(db);
    let db = open(&disk);
    assert_eq!((db.journal_findings(), count(&db)), (vec![], 3 * SERIES));
    assert_eq!(check(&disk, &db), Vec::<String>::new());
    // A snapshot without the journal never had one.
    let snapshot = Path::new("/data/snapshots/one/metrics");
    wait(db.snapshot_to(snapshot, false)).unwrap();
    for _ in 0..2 {
        let options = TsdbOptions { dir: snapshot.to_owned(), ..small_segments(&disk) };
        assert_eq!(Tsdb::open(options).unwrap().journal_findings(), Vec::<String>::new());
    }
    // Before the first commit nothing tells.
    let disk = store(0);
    disk.remove_dir_all(Path::new(JOURNAL)).unwrap();
    assert_eq!(open(&disk).journal_findings(), Vec::<String>::new());
}
