//! Many small parts of past days and an object store: they go there merged, and those that lie there are merged too.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trefoil_model::TimeRange;
use trefoil_parts::RemoteOptions;
use trefoil_parts::objects::FolderObjects;
use trefoil_runtime::Vfs;
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_tsdb::{ObjectStoreOptions, Tsdb};

use crate::support::{BASE, DAY_MS, Model, float, numbered, options, wait, write};

fn open(disk: &SimDisk) -> Tsdb {
    let objects = FolderObjects::open(Arc::new(disk.clone()), Path::new("/store")).unwrap();
    let remote = RemoteOptions { objects: Arc::new(objects), cache_bytes: 8 << 20 };
    let mut options = options(disk);
    options.object_store = Some(ObjectStoreOptions { remote, after: Duration::ZERO });
    Tsdb::open(options).unwrap()
}

/// Late samples of a past day, in a part of their own.
fn late(db: &Tsdb, model: &mut Model, day: i64, n: usize) {
    let at =
        |s: usize| (numbered(s + n % 3), (BASE + day * DAY_MS + (n * 7 + s) as i64 * 1000, 0, float((n + s) as f64)));
    let samples: Vec<_> = (0..4).map(at).collect();
    write(db, &samples).unwrap();
    model.acknowledged(&samples);
    wait(db.flush()).unwrap();
}

fn objects(disk: &SimDisk) -> usize {
    disk.files().iter().filter(|path| path.starts_with("/store/metrics") && !path.ends_with("OWNER")).count()
}

#[test]
fn parts_that_wait_for_a_merge_are_not_moved() {
    let disk = SimDisk::new();
    let (db, mut model) = (open(&disk), Model::default());
    for n in 0..20 {
        late(&db, &mut model, (n % 2) as i64, n);
    }
    assert!(!db.move_once().unwrap(), "all of them will be merged");
    assert_eq!(objects(&disk), 0);
    while db.merge_once().unwrap() {}
    while db.move_once().unwrap() {}
    assert_eq!((objects(&disk), db.part_infos().len()), (4, 2), "two files of each of two days");
    model.check(&db, TimeRange::ALL, "moved");
}

#[test]
fn small_parts_in_the_store_are_merged() {
    let disk = SimDisk::new();
    let (db, mut model) = (open(&disk), Model::default());
    for n in 0..40 {
        // One at a time goes there before the next comes.
        late(&db, &mut model, (n % 2) as i64, n);
        while db.move_once().unwrap() {}
    }
    assert_eq!((objects(&disk), db.part_infos().len()), (80, 40));
    // Without an answer nothing is merged, and nothing else stops.
    let down = disk.fork();
    let db_down = open(&down);
    for path in down.files().into_iter().filter(|path| path.starts_with("/store/metrics")) {
        down.remove_file(&path).unwrap();
    }
    down.remove_dir_all(Path::new("/data/metrics/parts/cache")).ok();
    assert!(!db_down.merge_once().unwrap());
    drop(db_down);

    let mut merges = 0;
    while db.merge_once().unwrap() {
        merges += 1;
        assert!(merges < 20, "many at once");
    }
    assert_eq!((merges, db.part_infos().len()), (2, 2));
    model.check(&db, TimeRange::ALL, "merged");
    while db.move_once().unwrap() {}
    assert_eq!(objects(&disk), 4, "what was merged is gone there");
    model.check(&db, TimeRange::ALL, "moved again");
    drop(db);
    model.check(&open(&disk), TimeRange::ALL, "after a restart");
}
