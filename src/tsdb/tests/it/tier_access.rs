//! Which calls fetch what of parts in an object store: as little as they need.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use trefoil_model::{MatchOp, MetricAdmin, MetricReader, TenantId, TimeRange, Unlimited};
use trefoil_parts::RemoteOptions;
use trefoil_parts::objects::{FolderObjects, ObjectInfo, Objects};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_tsdb::{ObjectStoreOptions, Policy, RetentionRule, SeriesIds, Tsdb};

use crate::support::{BASE, DAY_MS, NOW, float, matcher, numbered, options, read, request, wait, write};

/// A store that notes which objects are read, and can be out of reach.
struct Watched {
    inner: FolderObjects,
    read: Mutex<BTreeSet<String>>,
    is_down: AtomicBool,
}

impl Watched {
    /// The names of the files that were read since the last call, with the number of their parts.
    fn take(&self) -> Vec<(String, usize)> {
        let keys = std::mem::take(&mut *self.read.lock());
        ["blocks", "index"]
            .map(|file| (file.to_owned(), keys.iter().filter(|key| key.ends_with(file)).count()))
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

impl Objects for Watched {
    fn put(&self, key: &str, content: Bytes) -> io::Result<()> {
        self.inner.put(key, content)
    }
    fn put_new(&self, key: &str, content: Bytes) -> io::Result<()> {
        self.inner.put_new(key, content)
    }
    fn get_range(&self, key: &str, range: Range<u64>) -> io::Result<Bytes> {
        if self.is_down.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.read.lock().insert(key.to_owned());
        self.inner.get_range(key, range)
    }
    fn len(&self, key: &str) -> io::Result<Option<u64>> {
        self.inner.len(key)
    }
    fn delete(&self, key: &str) -> io::Result<()> {
        self.inner.delete(key)
    }
    fn list(&self, prefix: &str) -> io::Result<Vec<ObjectInfo>> {
        self.inner.list(prefix)
    }
    fn url(&self) -> &str {
        self.inner.url()
    }
}

fn open(disk: &SimDisk, policy: Policy) -> (Tsdb, Arc<Watched>) {
    let inner = FolderObjects::open(Arc::new(disk.clone()), Path::new("/store")).unwrap();
    let store = Arc::new(Watched { inner, read: Mutex::default(), is_down: AtomicBool::new(false) });
    let remote = RemoteOptions { objects: Arc::clone(&store) as Arc<dyn Objects>, cache_bytes: 1 << 20 };
    let mut options = options(disk);
    options.object_store = Some(ObjectStoreOptions { remote, after: Duration::from_secs(86_400) });
    options.policy = policy;
    (Tsdb::open(options).unwrap(), store)
}

/// Two days in the store, one here; nothing is cached.
fn prepared() -> SimDisk {
    let disk = SimDisk::new();
    let (db, store) = open(&disk, Policy::default());
    for day in 0..3 {
        let samples: Vec<_> = (0..5).map(|s| (numbered(s), (BASE + day * DAY_MS, 0, float(day as f64)))).collect();
        write(&db, &samples).unwrap();
        wait(db.flush()).unwrap();
    }
    while db.move_once().unwrap() {}
    assert_eq!(db.part_infos().iter().filter(|p| p.is_remote).count(), 2);
    // What was written is read back; that leaves nothing in the cache.
    store.take();
    disk
}

fn index(parts: usize) -> Vec<(String, usize)> {
    vec![("index".to_owned(), parts)]
}

#[test]
fn looking_at_parts_fetches_little() {
    let disk = prepared();
    let (db, store) = open(&disk, Policy::default());
    let infos = db.part_infos();
    assert_eq!(infos.iter().map(|p| p.series).collect::<Vec<_>>(), [Some(5); 3]);
    assert!(infos.iter().all(|p| p.error.is_none()) && infos[0].folder.starts_with("file:///store/metrics/0/"));
    assert_eq!(db.days(TenantId(0)).len(), 3);
    assert!(!db.merge_once().unwrap());
    assert_eq!(db.apply_retention(NOW).unwrap(), 0);
    assert!(store.take().is_empty(), "lists, plans and retention without rules ask nobody");

    for info in &infos {
        assert_eq!(db.verify_part(info.id, &mut SeriesIds::default()).unwrap(), [""; 0]);
    }
    assert_eq!(store.take(), [("blocks".to_owned(), 2), ("index".to_owned(), 2)]);
    let cached = || disk.files().iter().filter(|path| path.starts_with("/data/metrics/parts/cache")).count();
    assert_eq!(cached(), 0, "verification goes past the cache");

    let absent = request(vec![matcher(MatchOp::Equal, "i", "none")], TimeRange::ALL);
    assert!(db.select(&absent, &Unlimited).unwrap().is_empty());
    let mut series = 0;
    db.for_each_part_series(infos[0].id, &mut |_| series += 1).unwrap();
    assert_eq!((series, store.take(), cached()), (5, index(2), 2));
    // Samples of one day need that day's blocks.
    assert_eq!(read(&db, 0, Vec::new(), TimeRange::new(BASE, BASE + 1)).len(), 5);
    assert_eq!(store.take(), [("blocks".to_owned(), 1)]);
}

#[test]
fn deletions_ask_the_index_and_wait_for_a_store_that_is_down() {
    let disk = prepared();
    let (db, store) = open(&disk, Policy::default());
    let delete = |i: &str| wait(db.delete(&[request(vec![matcher(MatchOp::Equal, "i", i)], TimeRange::ALL)])).unwrap();
    assert_eq!((delete("none"), store.take()), (0, index(2)));
    assert_eq!((delete("1"), store.take()), (1, Vec::new()));
    assert_eq!(read(&db, 0, Vec::new(), TimeRange::ALL).len(), 4);
    drop(db);

    // Nothing is known of the parts: the deletion is kept for them.
    for path in disk.files().iter().filter(|path| path.starts_with("/data/metrics/parts/cache")) {
        trefoil_runtime::Vfs::remove_file(&disk, path).unwrap();
    }
    let (db, store) = open(&disk, Policy::default());
    store.is_down.store(true, Ordering::Relaxed);
    let two = request(vec![matcher(MatchOp::Equal, "i", "2")], TimeRange::ALL);
    assert_eq!(wait(db.delete(&[two])).unwrap(), 1, "here");
    drop(db.merge_once());
    assert!(db.select(&request(Vec::new(), TimeRange::ALL), &Unlimited).is_err(), "never half an answer");
    let state = db.object_store();
    assert_eq!((state.parts, state.unreachable_parts), (2, 2));
    assert!(state.error.unwrap().contains("refused"));
    store.is_down.store(false, Ordering::Relaxed);
    assert_eq!(read(&db, 0, Vec::new(), TimeRange::ALL).len(), 3);
    let state = db.object_store();
    assert_eq!((state.parts, state.unreachable_parts, state.error), (2, 0, None));
    // Its bytes go too.
    assert!(wait(db.clean_tombstones()).unwrap() >= 2);
    while db.move_once().unwrap() {}
    let infos = db.part_infos();
    assert_eq!(
        infos.iter().map(|p| (p.series, p.is_remote)).collect::<Vec<_>>(),
        [(Some(3), true), (Some(3), true), (Some(3), false)]
    );
    assert_eq!(read(&db, 0, Vec::new(), TimeRange::ALL).len(), 3);
}

#[test]
fn rules_look_at_each_index_once() {
    let disk = prepared();
    let rule = RetentionRule {
        matchers: vec![matcher(MatchOp::Equal, "i", "4")],
        keep: Some(Duration::from_secs(3 * 86_400)),
    };
    let (db, store) = open(&disk, Policy { retention_rules: vec![rule], ..Policy::default() });
    drop(store.take());
    while db.merge_once().unwrap() {}
    let first = store.take();
    assert!(first.iter().all(|(_, parts)| *parts <= 2), "{first:?}");
    for _ in 0..3 {
        assert!(!db.merge_once().unwrap());
        assert_eq!(db.apply_retention(NOW).unwrap(), 0);
    }
    assert!(store.take().is_empty());
}
