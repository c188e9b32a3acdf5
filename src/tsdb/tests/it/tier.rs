//! Parts of past days in an object store answer as they did before, whatever fails while they move.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trefoil_model::{Labels, TimeRange};
use trefoil_parts::RemoteOptions;
use trefoil_parts::objects::FolderObjects;
use trefoil_runtime::vfs::sim::{Fault, SimDisk};
use trefoil_tsdb::{ObjectStoreOptions, Tsdb};

use crate::support::{BASE, DAY_MS, Model, NOW, Point, float, numbered, options, read, wait, write};

fn open(disk: &SimDisk, cache_bytes: u64) -> Tsdb {
    let objects = FolderObjects::open(Arc::new(disk.clone()), Path::new("/store")).unwrap();
    let remote = RemoteOptions { objects: Arc::new(objects), cache_bytes };
    let mut options = options(disk);
    options.object_store = Some(ObjectStoreOptions { remote, after: Duration::from_secs(86_400) });
    Tsdb::open(options).unwrap()
}

/// Three days, of which the first two are due; a series of the first day comes back on the last one.
fn samples(day: i64) -> Vec<(Labels, Point)> {
    (0..5).map(|s| (numbered(s), (BASE + day * DAY_MS + s as i64 * 1000, 0, float((day * 10) as f64)))).collect()
}

fn prepared(disk: &SimDisk) -> (Tsdb, Model) {
    let db = open(disk, 1 << 20);
    let mut model = Model::default();
    for day in 0..4 {
        write(&db, &samples(day)).unwrap();
        model.acknowledged(&samples(day));
        wait(db.flush()).unwrap();
    }
    (db, model)
}

fn objects(disk: &SimDisk) -> usize {
    disk.files().iter().filter(|path| path.starts_with("/store/metrics") && !path.ends_with("OWNER")).count()
}

#[test]
fn moved_days_answer_as_before() {
    let disk = SimDisk::new();
    let (db, mut model) = prepared(&disk);
    while db.move_once().unwrap() {}
    assert_eq!(objects(&disk), 4, "two files of each of two days");
    model.check(&db, TimeRange::ALL, "after the move");
    // Late samples of a moved day lie here until they are due too.
    let late = vec![(numbered(1), (BASE + 7_000, 0, float(0.25))), (numbered(9), (BASE + 8_000, 0, float(0.5)))];
    write(&db, &late).unwrap();
    model.acknowledged(&late);
    model.check(&db, TimeRange::ALL, "late samples in memory");
    wait(db.flush()).unwrap();
    while db.merge_once().unwrap() {}
    model.check(&db, TimeRange::ALL, "late samples in a part");
    drop(db);
    // A cache of one byte holds one file at a time.
    let db = open(&disk, 1);
    model.check(&db, TimeRange::ALL, "after a restart");
    while db.move_once().unwrap() {}
    model.check(&db, TimeRange::ALL, "all moved");
    assert_eq!(objects(&disk), 6);
    assert_eq!(db.apply_retention(NOW).unwrap(), 0);
    drop(db);

    // Retention takes objects with it.
    let mut options = options(&disk);
    let objects_at = FolderObjects::open(Arc::new(disk.clone()), Path::new("/store")).unwrap();
    let remote = RemoteOptions { objects: Arc::new(objects_at), cache_bytes: 1 };
    options.object_store = Some(ObjectStoreOptions { remote, after: Duration::from_secs(86_400) });
    options.retention = Some(Duration::from_secs(2 * 86_400));
    let db = Tsdb::open(options).unwrap();
    assert!(db.apply_retention(NOW).unwrap() >= 2);
    while db.move_once().unwrap() {}
    assert_eq!(objects(&disk), 2);
}

#[test]
fn a_snapshot_names_what_lies_in_the_store() {
    let disk = SimDisk::new();
    let (db, model) = prepared(&disk);
    while db.move_once().unwrap() {}
    wait(db.snapshot_to(Path::new("/data/snapshots/one/metrics"), true)).unwrap();
    let objects = FolderObjects::open(Arc::new(disk.clone()), Path::new("/store")).unwrap();
    let remote = RemoteOptions { objects: Arc::new(objects), cache_bytes: 1 };
    let mut options = options(&disk);
    options.dir = "/data/snapshots/one/metrics".into();
    options.object_store = Some(ObjectStoreOptions { remote, after: Duration::from_secs(86_400) });
    model.check(&Tsdb::open(options).unwrap(), TimeRange::ALL, "the snapshot");
}

#[test]
fn a_fault_at_any_operation_of_a_move_loses_nothing() {
    let counting = SimDisk::new();
    let (db, _) = prepared(&counting);
    let start = counting.op_count();
    while db.move_once().unwrap() {}
    read(&db, 0, Vec::new(), TimeRange::ALL);
    let end = counting.op_count();
    assert!(end > start + 20);
    for at in start..=end {
        for fault in [Fault::PowerCut, Fault::Io, Fault::NoSpace] {
            let context = format!("{fault:?} at operation {at}");
            let disk = SimDisk::new();
            let (db, model) = prepared(&disk);
            disk.fail_at(at, fault);
            // After an error the next call goes on; a power cut ends it.
            for _ in 0..8 {
                drop(db.move_once());
            }
            if !matches!(fault, Fault::PowerCut) {
                disk.clear_faults();
                model.check(&db, TimeRange::ALL, &context);
            }
            drop(db);
            disk.clear_faults();
            disk.crash(at);
            let db = open(&disk, 1 << 20);
            model.check(&db, TimeRange::ALL, &context);
            while db.move_once().unwrap() {}
            model.check(&db, TimeRange::ALL, &context);
            assert_eq!(objects(&disk), 4, "{context}");
        }
    }
}

#[test]
fn parts_at_a_place_that_is_not_configured_are_told_of() {
    let disk = SimDisk::new();
    let (db, model) = prepared(&disk);
    while db.move_once().unwrap() {}
    assert_eq!(db.unreachable_parts(), 0);
    drop(db);
    let error_of = |db: &Tsdb| {
        let request = crate::support::request(vec![], TimeRange::ALL);
        let error = trefoil_model::MetricReader::select(db, &request, &trefoil_model::Unlimited).err().unwrap();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {cause}")
    };
    let db = Tsdb::open(options(&disk)).unwrap();
    assert_eq!(db.unreachable_parts(), 2);
    assert!(error_of(&db).ends_with("no object store is configured"), "{}", error_of(&db));
    drop(db);
    let other = FolderObjects::open(Arc::new(disk.clone()), Path::new("/other")).unwrap();
    let remote = RemoteOptions { objects: Arc::new(other), cache_bytes: 1 << 20 };
    let elsewhere = ObjectStoreOptions { remote, after: Duration::from_secs(86_400) };
    let db = Tsdb::open(trefoil_tsdb::TsdbOptions { object_store: Some(elsewhere), ..options(&disk) }).unwrap();
    assert_eq!(db.unreachable_parts(), 2);
    assert!(error_of(&db).contains("the configured object store is file:///other"), "{}", error_of(&db));
    drop(db);
    let db = open(&disk, 1 << 20);
    assert_eq!(db.unreachable_parts(), 0);
    model.check(&db, TimeRange::ALL, "configured again");
}
