//! Parts in an object store: moved whole, read through a bounded cache, never lost.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use trefoil_parts::objects::{FolderObjects, ObjectInfo, Objects};
use trefoil_parts::{Commit, PartId, PartSet, PartsError, RemoteOptions};
use trefoil_runtime::Vfs;
use trefoil_runtime::vfs::sim::{Fault, SimDisk};

use crate::support::{DIR, write_part};

/// A store that can be out of reach, and counts reads.
struct Switched {
    inner: FolderObjects,
    is_down: AtomicBool,
    reads: AtomicU64,
}

impl Switched {
    fn at(disk: &SimDisk) -> Arc<Self> {
        let inner = FolderObjects::open(Arc::new(disk.clone()), Path::new("/store")).unwrap();
        Arc::new(Self { inner, is_down: AtomicBool::new(false), reads: AtomicU64::new(0) })
    }

    fn up(&self) -> io::Result<&FolderObjects> {
        if self.is_down.load(Ordering::Relaxed) {
            Err(io::ErrorKind::ConnectionRefused.into())
        } else {
            Ok(&self.inner)
        }
    }
}

impl Objects for Switched {
    fn put(&self, key: &str, content: Bytes) -> io::Result<()> {
        self.up()?.put(key, content)
    }
    fn put_new(&self, key: &str, content: Bytes) -> io::Result<()> {
        self.up()?.put_new(key, content)
    }
    fn get_range(&self, key: &str, range: Range<u64>) -> io::Result<Bytes> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.up()?.get_range(key, range)
    }
    fn len(&self, key: &str) -> io::Result<Option<u64>> {
        self.up()?.len(key)
    }
    fn delete(&self, key: &str) -> io::Result<()> {
        self.up()?.delete(key)
    }
    fn list(&self, prefix: &str) -> io::Result<Vec<ObjectInfo>> {
        self.up()?.list(prefix)
    }
    fn url(&self) -> &str {
        self.inner.url()
    }
}

fn open(disk: &SimDisk, store: &Arc<Switched>, cache_bytes: u64) -> PartSet {
    let objects: Arc<dyn Objects> = Arc::clone(store) as Arc<dyn Objects>;
    let remote = RemoteOptions { objects, cache_bytes };
    PartSet::open_with(Arc::new(disk.clone()), Path::new(DIR), "test", Some(remote)).unwrap()
}

fn publish(set: &PartSet, partition: i64) -> PartId {
    let pending = write_part(set, partition).unwrap();
    let id = pending.meta().id;
    set.commit(Commit { add: vec![pending], ..Commit::default() }).unwrap();
    id
}

fn read_all(set: &PartSet, id: PartId) -> Result<Vec<Bytes>, PartsError> {
    let parts = set.parts();
    let meta = parts.iter().find(|meta| meta.id == id).unwrap();
    set.verify(meta)?;
    meta.files.iter().map(|file| set.map(meta, &file.name)).collect()
}

fn keys(store: &Switched) -> Vec<String> {
    store.inner.list("").unwrap().into_iter().map(|info| info.key).collect()
}

fn files_below(disk: &SimDisk, dir: &str) -> usize {
    let is_content =
        |path: &&std::path::PathBuf| path.starts_with(Path::new(DIR).join(dir)) && !path.ends_with("part.commit");
    disk.files().iter().filter(is_content).count()
}

#[test]
fn a_moved_part_is_read_through_the_cache() {
    let disk = SimDisk::new();
    let store = Switched::at(&disk);
    let set = open(&disk, &store, 1 << 20);
    let id = publish(&set, 5);
    let before = read_all(&set, id).unwrap();
    let held = set.parts();
    assert!(set.upload(id).unwrap());
    assert!(!set.upload(id).unwrap(), "it is there already");
    assert_eq!(files_below(&disk, "parts"), 2, "somebody reads the local files");
    set.verify(&held[0]).unwrap();
    drop(held);
    set.collect_garbage();
    assert_eq!(files_below(&disk, "parts"), 0);
    store.reads.store(0, Ordering::Relaxed);
    assert_eq!(read_all(&set, id).unwrap(), before);
    let fetched = store.reads.load(Ordering::Relaxed);
    assert_eq!(fetched, 2, "each file once");
    assert_eq!(read_all(&set, id).unwrap(), before);
    drop(set);

    // The cache survives a restart, and what is damaged in it is fetched again.
    let set = open(&disk, &store, 1 << 20);
    assert!(set.is_cached(&set.parts()[0]));
    assert_eq!(read_all(&set, id).unwrap(), before);
    assert_eq!(store.reads.load(Ordering::Relaxed), fetched);
    drop(set);
    let cached = disk.files().into_iter().find(|path| path.starts_with(Path::new(DIR).join("cache"))).unwrap();
    disk.corrupt(&cached, |bytes| bytes[7] ^= 4);
    let set = open(&disk, &store, 1 << 20);
    assert_eq!(read_all(&set, id).unwrap(), before);
    assert_eq!(store.reads.load(Ordering::Relaxed), fetched + 1);

    // Its objects and cached files go after it.
    assert_eq!(set.sweep_remote().unwrap(), 0);
    assert_eq!(keys(&store).len(), 3);
    let held = set.parts();
    set.commit(Commit { remove: vec![id], ..Commit::default() }).unwrap();
    assert_eq!(set.sweep_remote().unwrap(), 0);
    drop(held);
    set.collect_garbage();
    assert_eq!(set.sweep_remote().unwrap(), 2);
    assert_eq!((keys(&store), files_below(&disk, "cache")), (vec!["test/OWNER".to_owned()], 0));
}

#[test]
fn the_cache_is_bounded_and_the_least_recently_used_goes() {
    let disk = SimDisk::new();
    let store = Switched::at(&disk);
    let set = open(&disk, &store, 1);
    let ids: Vec<PartId> = (0..4).map(|day| publish(&set, day)).collect();
    let part_bytes = set.parts()[0].bytes;
    ids.iter().for_each(|id| assert!(set.upload(*id).unwrap()));
    drop(set);
    let set = open(&disk, &store, 2 * part_bytes + 10);
    for id in &ids[..2] {
        read_all(&set, *id).unwrap();
    }
    set.touch(&set.parts()[0]);
    read_all(&set, ids[2]).unwrap();
    let cached: Vec<bool> = set.parts().iter().map(|meta| set.is_cached(meta)).collect();
    assert_eq!(cached, [true, false, true, false]);
    let (evictions, bytes) = set.cache_evictions_and_bytes();
    assert!(evictions >= 1 && bytes <= 2 * part_bytes + 10, "{evictions} evictions, {bytes} bytes");
    drop(set);
    let set = open(&disk, &store, part_bytes);
    assert!(set.cache_evictions_and_bytes().1 <= part_bytes, "a smaller bound holds after a restart");
}

#[test]
fn a_store_out_of_reach_costs_only_its_own_parts() {
    let disk = SimDisk::new();
    let store = Switched::at(&disk);
    let set = open(&disk, &store, 1 << 20);
    let (remote, local) = (publish(&set, 1), publish(&set, 2));
    set.upload(remote).unwrap();
    store.is_down.store(true, Ordering::Relaxed);
    let error = read_all(&set, remote).unwrap_err();
    assert!(
        matches!(&error, PartsError::Remote { part, place, .. } if *part == remote && place.starts_with("file:///store/test/"))
    );
    read_all(&set, local).unwrap();
    assert!(matches!(set.upload(local), Err(PartsError::Remote { .. })));
    assert!(!set.parts()[1].is_remote());
    store.is_down.store(false, Ordering::Relaxed);
    read_all(&set, remote).unwrap();
    assert!(set.upload(local).unwrap());
    drop(set);
    // Without a store the set opens, and says what is missing.
    let set = PartSet::open(Arc::new(disk.clone()), Path::new(DIR), "test").unwrap();
    let error = trefoil_runtime::tasks::chain(&read_all(&set, remote).unwrap_err());
    assert!(error.contains("no object store is configured"), "{error}");
}

#[test]
fn damage_in_the_store_is_an_error_and_never_an_answer() {
    let disk = SimDisk::new();
    let store = Switched::at(&disk);
    let set = open(&disk, &store, 1);
    let id = publish(&set, 1);
    set.upload(id).unwrap();
    let objects: Vec<_> = disk.files().into_iter().filter(|path| path.starts_with("/store/test/3")).collect();
    assert_eq!(objects.len(), 2);
    for path in objects {
        let whole = disk.read(&path).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            disk.corrupt(&path, |bytes| bytes[at] ^= 1);
            assert!(matches!(read_all(&set, id), Err(PartsError::Remote { .. })));
            disk.corrupt(&path, |bytes| bytes[at] ^= 1);
        }
        disk.corrupt(&path, |bytes| bytes.truncate(3));
        assert!(matches!(read_all(&set, id), Err(PartsError::Remote { .. })));
        disk.corrupt(&path, |bytes| *bytes = whole.to_vec());
        read_all(&set, id).unwrap();
    }
}

#[test]
fn a_place_belongs_to_one_data_directory() {
    let disk = SimDisk::new();
    let store = Switched::at(&disk);
    let set = open(&disk, &store, 1);
    set.upload(publish(&set, 1)).unwrap();
    let other_disk = SimDisk::new();
    let other = open(&other_disk, &store, 1);
    let id = publish(&other, 1);
    assert!(matches!(other.upload(id), Err(PartsError::NotOwner { .. })));
    assert_eq!(other.sweep_remote().unwrap(), 0);
    read_all(&other, id).unwrap();
    read_all(&set, id).unwrap();
}

/// Moves two of three parts, expires one of them and sweeps.
fn live(disk: &SimDisk, set: &PartSet) -> Result<(), PartsError> {
    let ids: Vec<PartId> = set.parts().iter().map(|meta| meta.id).collect();
    set.upload(ids[0])?;
    set.upload(ids[1])?;
    set.verify(&set.parts()[0])?;
    set.commit(Commit { remove: vec![ids[0]], ..Commit::default() })?;
    set.sweep_remote()?;
    drop(disk.len(Path::new(DIR)));
    Ok(())
}

#[test]
fn a_fault_at_any_operation_leaves_every_part_here_or_there() {
    let prepare = || {
        let disk = SimDisk::new();
        let store = Switched::at(&disk);
        let set = open(&disk, &store, 1 << 20);
        for day in 0..3 {
            publish(&set, day);
        }
        (disk, store, set)
    };
    let (disk, _store, set) = prepare();
    let start = disk.op_count();
    live(&disk, &set).unwrap();
    let end = disk.op_count();
    for at in start..=end {
        for fault in [Fault::PowerCut, Fault::Io, Fault::NoSpace] {
            let context = format!("{fault:?} at operation {at}");
            let (disk, store, set) = prepare();
            disk.fail_at(at, fault);
            drop(live(&disk, &set));
            drop(set);
            disk.clear_faults();
            disk.crash(at);
            let set = open(&disk, &store, 1 << 20);
            let parts = set.parts();
            assert!((2..=3).contains(&parts.len()), "{context}");
            for meta in parts.iter() {
                read_all(&set, meta.id).unwrap_or_else(|error| panic!("{context}: {error}"));
            }
            drop(parts);
            // Whatever was left half-done is done again, and nothing is left over.
            let ids: Vec<PartId> = set.parts().iter().map(|meta| meta.id).collect();
            for id in &ids {
                set.upload(*id).unwrap();
            }
            set.sweep_remote().unwrap();
            let objects = keys(&store).iter().filter(|key| !key.ends_with("OWNER")).count();
            assert_eq!((objects, files_below(&disk, "parts")), (2 * ids.len(), 0), "{context}: {:?}", keys(&store));
            ids.iter().for_each(|id| drop(read_all(&set, *id).unwrap()));
        }
    }
}
