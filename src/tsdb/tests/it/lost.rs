//! What is left of a store whose catalog, parts or journal are damaged, and what can be done about it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trefoil_model::{MetricReader, SampleBuffer, StoreError, TimeRange, Unlimited};
use trefoil_parts::repair::RepairOptions;
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_runtime::{Limits, ReadOnlyVfs, SharedVfs, Vfs};
use trefoil_tsdb::{Tsdb, TsdbError, repair};

use crate::support::{BASE, DAY_MS, float, numbered, open, options, points, read, request, wait, write};

/// Two days in parts of two flushes, merged, and some samples in the journal.
fn store() -> SimDisk {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    for flush in 0..5 {
        for day in 0..2 {
            for k in 0..20 {
                let t = BASE + day * DAY_MS + (flush * 20 + k) * 1000;
                write(&db, &[(numbered(0), (t, 0, float(k as f64))), (numbered(1), (t, 0, float(0.1)))]).unwrap();
            }
        }
        if flush < 4 {
            wait(db.flush()).unwrap();
        }
    }
    while db.merge_once().unwrap() {}
    write(&db, &[(numbered(2), (BASE + DAY_MS, 0, float(7.0)))]).unwrap();
    wait(db.close());
    disk
}

fn parts_dir(disk: &SimDisk) -> PathBuf {
    let file = disk.files().into_iter().find(|path| path.ends_with("blocks")).unwrap();
    file.ancestors().find(|path| path.ends_with("parts/parts")).unwrap().parent().unwrap().to_owned()
}

fn everything(db: &Tsdb) -> Vec<(String, usize)> {
    read(db, 0, vec![], TimeRange::ALL).into_iter().map(|(l, p)| (l.to_string(), p.len())).collect()
}

fn open_read_only(disk: &SimDisk) -> Result<Tsdb, TsdbError> {
    let real: SharedVfs = Arc::new(disk.clone());
    let mut options = options(disk);
    options.vfs = ReadOnlyVfs::shared(real, None);
    Tsdb::open(options)
}

/// Why a store does not open.
fn refusal(disk: &SimDisk) -> String {
    trefoil_runtime::tasks::chain(&open(disk).map(drop).unwrap_err())
}

fn image(disk: &SimDisk) -> Vec<(PathBuf, bytes::Bytes)> {
    disk.files().into_iter().map(|path| (path.clone(), disk.read(&path).unwrap())).collect()
}

#[test]
fn a_reader_changes_nothing() {
    let disk = store();
    let whole = everything(&open(&disk.fork()).unwrap());
    for case in ["as it is", "without commits", "left-overs"] {
        let disk = disk.fork();
        let dir = parts_dir(&disk);
        match case {
            "without commits" => disk.remove_dir_all(&dir.join("catalog")).unwrap(),
            "left-overs" => {
                disk.create_dir_all(&dir.join("tmp/00000000000000000099")).unwrap();
                drop(disk.create(&dir.join("tmp/00000000000000000099/index")).unwrap());
                disk.create_dir_all(&dir.join("parts/0/1/00000000000000000098")).unwrap();
                drop(disk.create(&dir.join("parts/0/1/00000000000000000098/index")).unwrap());
                drop(disk.create(&dir.join("catalog/x.tmp")).unwrap());
                // A torn tail of the journal, and a segment that was never begun.
                let journal = disk.files().into_iter().find(|p| p.extension().is_some_and(|e| e == "journal")).unwrap();
                let number = journal.with_file_name("00000000000000000500.journal");
                disk.corrupt(&journal, |bytes| bytes.extend([1, 2, 3]));
                drop(disk.create(&number).unwrap());
            }
            _ => {}
        }
        let before = image(&disk);
        let db = open_read_only(&disk).unwrap();
        assert_eq!(everything(&db), whole, "{case}");
        assert!(write(&db, &[(numbered(0), (BASE, 0, float(1.0)))]).is_err());
        wait(db.flush()).ok();
        db.merge_once().ok();
        wait(db.close());
        drop(db);
        assert_eq!(image(&disk), before, "{case}");
        assert_eq!(everything(&open(&disk).unwrap()), whole, "{case}, then opened to be written to");
    }
}

#[test]
fn without_commits_the_parts_of_any_version_are_taken_in_again() {
    let disk = store();
    let whole = everything(&open(&disk.fork()).unwrap());
    for says_what_it_is in [true, false] {
        let disk = disk.fork();
        let dir = parts_dir(&disk);
        for folder in ["catalog", "catalog-copies"] {
            disk.remove_dir_all(&dir.join(folder)).unwrap();
        }
        if !says_what_it_is {
            // As earlier versions wrote them.
            for path in disk.files().into_iter().filter(|path| path.ends_with("part.commit")) {
                disk.remove_file(&path).unwrap();
            }
        }
        assert!(open(&disk).is_err() && open_read_only(&disk).is_err());
        let vfs: SharedVfs = Arc::new(disk.clone());
        let report = repair(&vfs, dir.parent().unwrap(), RepairOptions::default()).unwrap();
        assert!(report.is_needed && report.left.is_empty() && !report.adopted.is_empty(), "{report:?}");
        let db = open(&disk).unwrap();
        assert_eq!(everything(&db), whole);
        // New series get new ids, and later samples win.
        write(&db, &[(numbered(9), (BASE, 0, float(1.0))), (numbered(0), (BASE, 0, float(99.0)))]).unwrap();
        wait(db.flush()).unwrap();
        while db.merge_once().unwrap() {}
        let found = read(&db, 0, vec![], TimeRange::ALL);
        assert_eq!(found.len(), whole.len() + 1);
        assert_eq!(found[&numbered(0)][0], (BASE, 0, float(99.0)));
    }
}

#[test]
fn the_only_part_of_a_store_is_not_lost_with_its_commit() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    write(&db, &[(numbered(0), (BASE, 0, float(1.0))), (numbered(1), (BASE, 0, float(2.0)))]).unwrap();
    wait(db.flush()).unwrap();
    wait(db.close());
    drop(db);
    let whole = everything(&open(&disk.fork()).unwrap());
    let dir = parts_dir(&disk);
    for (has_folders, has_mark) in [(true, true), (true, false), (false, true), (false, false)] {
        let disk = disk.fork();
        for file in disk.files() {
            let is_commit = file.extension().is_some_and(|end| end == "commit") && !file.ends_with("part.commit");
            let is_mark = file.ends_with("catalog-state");
            // The journal need not be there for it.
            let is_journal = file.extension().is_some_and(|end| end == "journal");
            if is_commit || is_journal || (is_mark && !has_mark) {
                disk.remove_file(&file).unwrap();
            }
        }
        if !has_folders {
            ["catalog", "catalog-copies"].iter().for_each(|folder| disk.remove_dir_all(&dir.join(folder)).unwrap());
        }
        for _ in 0..2 {
            let error = refusal(&disk);
            assert!(error.contains("trefoil tsdb repair"), "{error}");
        }
        let vfs: SharedVfs = Arc::new(disk.clone());
        assert_eq!(repair(&vfs, dir.parent().unwrap(), RepairOptions::default()).unwrap().adopted.len(), 1);
        assert_eq!(everything(&open(&disk).unwrap()), whole);
    }
}

#[test]
fn a_flush_whose_commit_is_lost_is_told_from_one_that_a_crash_cut_off() {
    let disk = SimDisk::new();
    for start in 0..3 {
        let db = open(&disk).unwrap();
        write(&db, &[(numbered(start), (BASE, 0, float(1.0)))]).unwrap();
        wait(db.flush()).unwrap();
        wait(db.close());
    }
    let whole = everything(&open(&disk.fork()).unwrap());
    let dir = parts_dir(&disk);
    for folder in ["catalog", "catalog-copies"] {
        let newest = disk.files().into_iter().rfind(|file| file.starts_with(dir.join(folder))).unwrap();
        disk.remove_file(&newest).unwrap();
    }
    let error = refusal(&disk);
    assert!(error.contains("commit 00000000000000000003 is lost"), "{error}");
    assert!(open_read_only(&disk).is_err());
    let vfs: SharedVfs = Arc::new(disk.clone());
    let report = repair(&vfs, dir.parent().unwrap(), RepairOptions::default()).unwrap();
    assert_eq!((report.adopted.len(), report.left.len()), (1, 0));
    let db = open(&disk).unwrap();
    assert_eq!(everything(&db), whole);
    write(&db, &[(numbered(9), (BASE, 0, float(1.0)))]).unwrap();
    assert_eq!(everything(&db).len(), whole.len() + 1);
}

#[test]
fn a_part_whose_series_numbers_were_given_again_is_not_taken_in() {
    let disk = SimDisk::new();
    let mut parts = Vec::new();
    // Two stores that know nothing of each other.
    for store in 0..2 {
        let disk = SimDisk::new();
        let db = open(&disk).unwrap();
        for flush in 0..=store as i64 {
            write(&db, &[(numbered(store), (BASE + flush, 0, float(1.0)))]).unwrap();
            wait(db.flush()).unwrap();
        }
        wait(db.close());
        parts.push((disk.clone(), parts_dir(&disk)));
    }
    let (first, dir) = &parts[0];
    for (path, bytes) in image(first) {
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        disk.create(&path).unwrap().write_all(&bytes).unwrap();
    }
    let is_second = |path: &Path| path.parent().is_some_and(|folder| folder.ends_with("00000000000000000002"));
    for (path, bytes) in image(&parts[1].0).into_iter().filter(|(path, _)| is_second(path)) {
        let place = path.strip_prefix(dir.join("parts")).unwrap();
        let path = dir.join("lost/leftover-00000000000000000000").join(place);
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        disk.create(&path).unwrap().write_all(&bytes).unwrap();
    }
    let before = everything(&open(&disk.fork()).unwrap());
    let vfs: SharedVfs = Arc::new(disk.clone());
    let report =
        repair(&vfs, dir.parent().unwrap(), RepairOptions { with_leftovers: true, ..Default::default() }).unwrap();
    assert!(report.adopted.is_empty() && report.left[0].1.contains("another series"), "{report:?}");
    assert_eq!(everything(&open(&disk).unwrap()), before);
}

#[test]
fn exports_go_on_past_damage_and_tell_of_it() {
    let disk = store();
    let whole: usize = everything(&open(&disk.fork()).unwrap()).iter().map(|(_, n)| n).sum();
    for file in disk.files().into_iter().filter(|f| f.ends_with("blocks") || f.ends_with("index")) {
        let len = disk.len(&file).unwrap() as usize;
        for at in (0..len).step_by(11) {
            let disk = disk.fork();
            disk.corrupt(&file, |bytes| bytes[at] ^= 0x10);
            let db = open_read_only(&disk).unwrap();
            let salvage = db.salvage();
            let mut found = 0;
            for s in salvage.select(&request(vec![], TimeRange::ALL), &Unlimited).unwrap() {
                let mut out = SampleBuffer::default();
                s.source.read(TimeRange::ALL, &mut out).unwrap();
                found += points(&out).len();
            }
            let context = format!("{} byte {at}", file.display());
            let (left_out, cut) = salvage.left_out();
            assert_eq!((found < whole, cut), (!left_out.is_empty(), 0), "{context}: {found} of {whole}");
            assert!(found * 3 >= whole, "{context}: what the other part and the journal have is there");
            assert!(left_out.iter().all(|l| l.place.contains("index") || l.place.contains("blocks")), "{context}");
        }
    }
}

#[test]
fn damage_in_the_journal_is_told() {
    let disk = store();
    let journal = disk.files().into_iter().rfind(|p| p.extension().is_some_and(|e| e == "journal")).unwrap();
    let dir = journal.parent().unwrap().to_owned();
    let check = |disk: &SimDisk| {
        let vfs: SharedVfs = Arc::new(disk.clone());
        let before = image(disk);
        let found = trefoil_journal::check(&vfs, &dir, "metrics").unwrap();
        assert_eq!(image(disk), before);
        found
    };
    assert!(check(&disk).is_empty());
    let len = disk.len(&journal).unwrap() as usize;
    for at in [60, len / 2, len - 1] {
        let disk = disk.fork();
        disk.corrupt(&journal, |bytes| bytes[at] ^= 1);
        assert_eq!(check(&disk).len(), 1, "byte {at}");
    }
    assert!(check(&SimDisk::new()).is_empty());
    assert!(
        trefoil_journal::check(&(Arc::new(SimDisk::new()) as SharedVfs), Path::new("/none"), "x").unwrap().is_empty()
    );
}

fn full(disk: &SimDisk) -> Tsdb {
    let mut options = options(disk);
    options.limits = Limits { disk_free_floor_bytes: u64::MAX / 2, ..Limits::default() };
    Tsdb::open(options).unwrap()
}

#[test]
fn deleting_frees_a_full_disk() {
    let disk = store();
    disk.set_capacity(1 << 30);
    let db = full(&disk);
    let blocks = || disk.files().iter().filter(|f| f.ends_with("blocks")).count();
    // Samples of one series are deleted: that needs a rewrite, and there is no room for one.
    let some = TimeRange::new(BASE, BASE + 5000);
    wait(db.delete(&[request(vec![], some)])).unwrap();
    let before = blocks();
    let error = wait(db.clean_tombstones()).unwrap_err();
    assert!(matches!(error, TsdbError::NoRoom { .. }), "{error}");
    assert_eq!(blocks(), before);
    // All of a day: its parts go without a rewrite.
    wait(db.delete(&[request(vec![], TimeRange::new(BASE, BASE + DAY_MS))])).unwrap();
    assert!(wait(db.clean_tombstones()).unwrap() > 0);
    assert!(blocks() < before, "{} of {before}", blocks());
    let left = everything(&db);
    drop(db);
    assert_eq!(everything(&open(&disk).unwrap()), left);
}

#[test]
fn deleted_samples_in_a_damaged_part_stay_an_error() {
    let disk = store();
    let db = open(&disk).unwrap();
    wait(db.delete(&[request(vec![], TimeRange::new(BASE, BASE + 5000))])).unwrap();
    wait(db.close());
    drop(db);
    let blocks = disk.files().into_iter().find(|f| f.ends_with("blocks")).unwrap();
    disk.corrupt(&blocks, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let db = open(&disk).unwrap();
    for attempt in 0..3 {
        let error = wait(db.clean_tombstones()).unwrap_err();
        assert!(matches!(error, TsdbError::Store(StoreError::Corrupt(_))), "{attempt}: {error}");
    }
}
