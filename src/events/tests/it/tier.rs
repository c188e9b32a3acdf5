//! Parts of log records in an object store: they answer as before, whatever fails while they move or are fetched.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use trefoil_events::EventStore;
use trefoil_model::*;
use trefoil_parts::objects::{FolderObjects, ObjectInfo, Objects};
use trefoil_parts::{ObjectStoreOptions, RemoteOptions};
use trefoil_runtime::sim::{Fault, SimDisk};
use trefoil_runtime::{RealVfs, SimClock};

use crate::support::*;

const DAY: i64 = 86_400 * SECOND;

/// A store that counts what is read, and can be out of reach.
struct Watched {
    inner: FolderObjects,
    reads: AtomicUsize,
    is_down: AtomicBool,
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
        self.reads.fetch_add(1, Ordering::Relaxed);
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

fn watched(disk: &SimDisk) -> Arc<Watched> {
    let inner = FolderObjects::open(Arc::new(disk.clone()), Path::new("/store")).unwrap();
    Arc::new(Watched { inner, reads: AtomicUsize::new(0), is_down: AtomicBool::new(false) })
}

fn tier(objects: Arc<dyn Objects>, cache_bytes: u64) -> ObjectStoreOptions {
    ObjectStoreOptions { remote: RemoteOptions { objects, cache_bytes }, after: Duration::ZERO }
}

/// A store whose parts of all days but today are due.
pub(crate) fn open(disk: &SimDisk, cache_bytes: u64) -> EventStore {
    let mut options = options(disk);
    options.object_store = Some(tier(watched(disk), cache_bytes));
    EventStore::open(options).unwrap()
}

fn text(days_ago: i64, n: i64) -> String {
    format!("line {n} of {days_ago} days ago")
}

/// Five records of two streams of a day.
fn batch(days_ago: i64) -> LogBatch {
    let record = |n: i64| {
        let time_ns = NOW - days_ago * DAY + n * SECOND;
        LogRecord { time_ns, text: text(days_ago, n), ..record_of_nothing() }
    };
    let group = |name: &str, numbers: Range<i64>| LogGroup {
        stream: Labels::from_pairs([("service_name", name)]),
        shared: Arc::default(),
        records: numbers.map(record).collect(),
    };
    LogBatch { tenant: TenantId(0), groups: vec![group("a", 0..3), group("b", 3..5)] }
}

fn record_of_nothing() -> LogRecord {
    LogRecord {
        time_ns: 0,
        observed_ns: 0,
        severity_number: 0,
        severity_text: String::new(),
        text: String::new(),
        attributes: Attributes::new(),
        trace_id: None,
        span_id: None,
    }
}

/// A part for each of the last `days` days, today included.
fn write(store: &EventStore, days: i64) {
    let runtime = runtime();
    for days_ago in (0..days).rev() {
        runtime.block_on(store.write_logs(batch(days_ago))).unwrap();
        runtime.block_on(store.flush()).unwrap();
    }
}

fn move_all(store: &EventStore) {
    while store.move_once().unwrap() {}
}

fn texts(store: &EventStore) -> Vec<String> {
    scan(store, &everything(TenantId(0), Direction::Forward), 0).into_iter().map(|log| log.2.text).collect()
}

fn expected(days: i64) -> Vec<String> {
    (0..days).rev().flat_map(|days_ago| (0..5).map(move |n| text(days_ago, n))).collect()
}

fn of_day(days_ago: i64) -> LogQuery {
    let start = NOW - days_ago * DAY;
    LogQuery::new(TenantId(0), NanoRange::new(start, start + DAY), Vec::new())
}

/// What a query of a day answers.
fn day(store: &EventStore, days_ago: i64) -> Result<usize, StoreError> {
    let mut count = 0;
    store.scan(&of_day(days_ago), &Unlimited, &mut |_| {
        count += 1;
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(count)
}

fn files(disk: &SimDisk, below: &str) -> Vec<PathBuf> {
    disk.files()
        .into_iter()
        .filter(|path| path.starts_with(below) && path.to_string_lossy().ends_with("events"))
        .collect()
}

#[test]
fn a_query_fetches_the_days_that_it_needs() {
    let disk = SimDisk::new();
    let mut options = options(&disk);
    let objects = watched(&disk);
    options.object_store = Some(tier(objects.clone(), 1 << 20));
    let store = EventStore::open(options).unwrap();
    write(&store, 5);
    move_all(&store);
    assert_eq!((files(&disk, "/store/logs").len(), files(&disk, "/data/events/logs/parts").len()), (4, 1));
    objects.reads.store(0, Ordering::Relaxed);
    let reads = || objects.reads.swap(0, Ordering::Relaxed);
    assert_eq!((day(&store, 0).unwrap(), reads()), (5, 0));
    let newest = scan(&store, &everything(TenantId(0), Direction::Backward), 8);
    let newest: Vec<_> = newest.into_iter().map(|log| log.2.text).collect();
    assert_eq!(newest, expected(5).into_iter().rev().take(8).collect::<Vec<_>>());
    assert_eq!(reads(), 1, "yesterday alone");
    assert_eq!((day(&store, 3).unwrap(), reads()), (5, 1));
    assert_eq!((texts(&store), reads()), (expected(5), 2));
    let streams = store.streams(TenantId(0), NanoRange::ALL, &[], &Unlimited).unwrap();
    assert_eq!((streams.len(), reads()), (2, 0));
    // Callers tell streams apart by their numbers.
    let mut numbers = BTreeSet::new();
    let all = everything(TenantId(0), Direction::Forward);
    let each = &mut |entry: LogEntry<'_>| {
        numbers.insert((entry.stream.clone(), entry.stream_ref));
        std::ops::ControlFlow::Continue(())
    };
    store.scan(&all, &Unlimited, each).unwrap();
    assert_eq!(numbers.len(), 2, "{numbers:?}");
}

#[test]
fn a_store_out_of_reach_fails_what_needs_it_and_no_part_is_given_up() {
    let disk = SimDisk::new();
    let (clock, objects, runtime) = (SimClock::new(NOW_MS), watched(&disk), runtime());
    let mut options = options(&disk);
    options.clock = clock.clone();
    options.object_store = Some(tier(objects.clone(), 1 << 20));
    let store = EventStore::open(options).unwrap();
    write(&store, 3);
    move_all(&store);
    objects.is_down.store(true, Ordering::Relaxed);
    let error = day(&store, 1).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }) && error.to_string().contains("/store/logs/"), "{error}");
    assert_eq!(day(&store, 0).unwrap(), 5);
    let deletion = LogDeletion {
        tenant: TenantId(0),
        query: "{}".to_owned(),
        matchers: Vec::new(),
        contains: vec!["line 2 of".to_owned()],
        range: NanoRange::new(NOW - 2 * DAY, NOW),
    };
    runtime.block_on(store.delete(deletion)).unwrap();
    while store.merge_once().unwrap() {}
    assert!(!store.deletions(TenantId(0))[0].is_done);
    objects.is_down.store(false, Ordering::Relaxed);
    assert_eq!(day(&store, 1).unwrap(), 4, "hidden");
    clock.advance(Duration::from_secs(61));
    while store.merge_once().unwrap() {}
    assert!(store.deletions(TenantId(0))[0].is_done);
    move_all(&store);
    assert_eq!(files(&disk, "/store/logs").len(), 2, "the parts of before are gone");
    assert_eq!(texts(&store).len(), 13);
}

#[test]
fn damage_at_rest_is_found_before_a_cached_file_is_used() {
    for at in [3, 20, 200, 400, 600] {
        let disk = SimDisk::new();
        let store = open(&disk, 1 << 20);
        write(&store, 3);
        move_all(&store);
        assert_eq!(texts(&store), expected(3));
        let cached = files(&disk, "/data/events/logs/cache");
        assert_eq!(cached.len(), 2);
        for path in &cached {
            disk.corrupt(path, |content| content[at] ^= 1);
        }
        drop(store);
        let store = open(&disk, 1 << 20);
        assert_eq!(texts(&store), expected(3), "looked at before its first use");
        drop(store);
        let objects = files(&disk, "/store/logs");
        disk.corrupt(&objects[0], |content| content[at] ^= 1);
        for path in &files(&disk, "/data/events/logs/cache") {
            disk.corrupt(path, |content| content.truncate(1));
        }
        let store = open(&disk, 1 << 20);
        let error = day(&store, 2).unwrap_err().to_string();
        assert!(error.contains("/store/logs/"), "{error}");
        assert_eq!((day(&store, 1).unwrap(), day(&store, 0).unwrap()), (5, 5));
    }
}

#[test]
fn damage_of_a_file_in_use_costs_one_query() {
    let dir = std::env::temp_dir().join(format!("trefoil-events-tier-{}", std::process::id()));
    let vfs = RealVfs::shared();
    let mut options = options(&SimDisk::new());
    options.dir = dir.join("events");
    options.vfs = Arc::clone(&vfs);
    let objects = FolderObjects::open(vfs, &dir.join("store")).unwrap();
    options.object_store = Some(tier(Arc::new(objects), 1 << 20));
    let store = EventStore::open(options).unwrap();
    write(&store, 3);
    move_all(&store);
    assert_eq!(texts(&store), expected(3));
    let cache: Vec<_> = std::fs::read_dir(dir.join("events/logs/cache")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(cache.len(), 2);
    for path in &cache {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[12..].iter_mut().for_each(|byte| *byte ^= 0x55);
        // In place, as a disk would do it.
        std::io::Write::write_all(&mut std::fs::OpenOptions::new().write(true).open(path).unwrap(), &bytes).unwrap();
    }
    for days_ago in [1, 2] {
        let error = day(&store, days_ago).unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("/store/logs/")), "{error}");
        assert_eq!(day(&store, days_ago).unwrap(), 5);
    }
    assert_eq!(texts(&store), expected(3));
    drop(store);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn without_the_place_its_days_fail_and_the_rest_answers() {
    let disk = SimDisk::new();
    let store = open(&disk, 1 << 20);
    write(&store, 3);
    move_all(&store);
    drop(store);
    let store = crate::support::open(&disk).unwrap();
    assert_eq!(day(&store, 0).unwrap(), 5);
    day(&store, 1).unwrap_err();
    while store.merge_once().unwrap() {}
    drop(store);
    assert_eq!(texts(&open(&disk, 1 << 20)), expected(3));
}

#[test]
fn retention_takes_objects_with_it() {
    let disk = SimDisk::new();
    let store = open(&disk, 1 << 20);
    write(&store, 4);
    move_all(&store);
    // The days before the day before yesterday.
    store.apply_retention(NOW_MS + 28 * 86_400_000).unwrap();
    move_all(&store);
    let left = files(&disk, "/store/logs").len();
    assert!((1..3).contains(&left), "{left}");
}

#[test]
fn a_snapshot_names_what_lies_in_the_store() {
    let (disk, runtime) = (SimDisk::new(), runtime());
    let store = open(&disk, 1 << 20);
    write(&store, 3);
    move_all(&store);
    runtime.block_on(store.snapshot_to(Path::new("/data/snapshot"), true)).unwrap();
    let mut options = options(&disk);
    options.dir = "/data/snapshot".into();
    options.object_store = Some(tier(watched(&disk), 1 << 20));
    let copy = EventStore::open(options).unwrap();
    assert_eq!(texts(&copy), expected(3));
}

#[test]
fn a_fault_at_any_operation_of_a_move_loses_nothing() {
    let counting = SimDisk::new();
    let store = open(&counting, 1 << 20);
    write(&store, 3);
    let start = counting.op_count();
    move_all(&store);
    assert_eq!(texts(&store), expected(3));
    let end = counting.op_count();
    assert!(end > start + 20);
    for at in start..=end {
        for fault in [Fault::PowerCut, Fault::Io, Fault::NoSpace] {
            let context = format!("{fault:?} at operation {at}");
            let disk = SimDisk::new();
            let store = open(&disk, 1 << 20);
            write(&store, 3);
            disk.fail_at(at, fault);
            // After an error the next call goes on; a power cut ends it.
            for _ in 0..8 {
                drop(store.move_once());
            }
            if !matches!(fault, Fault::PowerCut) {
                disk.clear_faults();
                assert_eq!(texts(&store), expected(3), "{context}");
            }
            drop(store);
            disk.clear_faults();
            disk.crash(at);
            let store = open(&disk, 1 << 20);
            assert_eq!(texts(&store), expected(3), "{context}");
            move_all(&store);
            assert_eq!((texts(&store), files(&disk, "/store/logs").len()), (expected(3), 2), "{context}");
        }
    }
}
