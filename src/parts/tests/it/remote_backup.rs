//! A backup of a set with parts in an object store is whole: what is restored from it needs no object store.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use trefoil_parts::backup::BackupReport;
use trefoil_parts::objects::{FolderObjects, Objects};
use trefoil_parts::{BackupError, BackupOptions, Backups, Commit, PartId, PartSet, RemoteOptions, at_rest};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_runtime::{SharedVfs, Vfs, data_dir};

use crate::support::write_part;

const DATA: &str = "/data";
const SET: &str = "metrics/parts";
const STORE: &str = "/store";

fn folder(disk: &SimDisk, dir: &str) -> Arc<dyn Objects> {
    Arc::new(FolderObjects::open(Arc::new(disk.clone()), Path::new(dir)).unwrap())
}

fn open(disk: &SimDisk, data: &str, store: Option<&str>) -> PartSet {
    let remote = store.map(|store| RemoteOptions { objects: folder(disk, store), cache_bytes: 1 << 20 });
    PartSet::open_with(Arc::new(disk.clone()), &Path::new(data).join(SET), "metrics", remote).unwrap()
}

fn publish(set: &PartSet, partition: i64) -> PartId {
    let pending = write_part(set, partition).unwrap();
    let id = pending.meta().id;
    let attributes = [("next_series".to_owned(), id.0.to_string())].into();
    set.commit(Commit { add: vec![pending], journal: Some((id.0, 9)), attributes, ..Commit::default() }).unwrap();
    id
}

/// Every part with the content of its files.
fn contents(set: &PartSet) -> Vec<(PartId, Vec<Bytes>)> {
    let files = |meta: &trefoil_parts::PartMeta| {
        set.verify(meta).unwrap();
        (meta.id, meta.files.iter().map(|file| set.map(meta, &file.name).unwrap()).collect())
    };
    set.parts().iter().map(|meta| files(meta)).collect()
}

/// Three parts, of which the first two lie in the store and in the cache.
fn prepared() -> (SimDisk, Vec<(PartId, Vec<Bytes>)>) {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DATA)).unwrap();
    data_dir::check_format(&disk, Path::new(DATA)).unwrap();
    let set = open(&disk, DATA, Some(STORE));
    let ids = [5, 6, 7].map(|partition| publish(&set, partition));
    set.upload(ids[0]).unwrap();
    set.upload(ids[1]).unwrap();
    let all = contents(&set);
    (disk, all)
}

/// Backs up; returns how often a store was opened too.
fn back_up(disk: &SimDisk, name: &str, with_remote: bool) -> (Result<BackupReport, BackupError>, u64) {
    let opened = AtomicU64::new(0);
    let open_place = |url: &str| -> io::Result<Arc<dyn Objects>> {
        assert_eq!(url, "file:///store");
        opened.fetch_add(1, Ordering::Relaxed);
        Ok(folder(disk, STORE))
    };
    let options = BackupOptions { name, created_ms: 5, open_place: with_remote.then_some(&open_place) };
    let vfs: SharedVfs = Arc::new(disk.clone());
    let place = folder(disk, "/backup");
    let made = Backups::at(&*place).create(&vfs, Path::new(DATA), &options);
    (made, opened.load(Ordering::Relaxed))
}

fn restore(disk: &SimDisk, name: &str, to: &str) {
    let place = folder(disk, "/backup");
    let backups = Backups::at(&*place);
    let manifest = backups.manifest(Some(name)).unwrap();
    assert!(backups.verify(&manifest).is_empty());
    assert!(manifest.files.iter().all(|file| !file.path.contains("/cache/")), "{manifest:?}");
    backups.restore(disk, &manifest, Path::new(to)).unwrap();
}

#[test]
fn parts_in_the_store_are_in_the_backup() {
    let (disk, all) = prepared();
    let vfs: SharedVfs = Arc::new(disk.clone());
    let (made, opened) = back_up(&disk, "one", true);
    // FORMAT, a commit and two files of each of three parts.
    assert_eq!((made.unwrap().files, opened), (8, 1));
    let (again, opened) = back_up(&disk, "two", true);
    assert_eq!((again.unwrap().new_objects, opened), (0, 0), "what was fetched once is known");
    assert!(!disk.files().iter().any(|path| path.ends_with("tmp/backup")), "nothing is left over");

    // The directory that it came from goes on: neither it nor its store is needed.
    for path in disk.files().iter().filter(|path| path.starts_with(STORE) || path.starts_with(DATA)) {
        disk.remove_file(path).unwrap();
    }
    for (name, to) in [("one", "/first"), ("two", "/second")] {
        restore(&disk, name, to);
        assert_eq!(at_rest::places(&vfs, &Path::new(to).join(SET)).unwrap(), [""; 0]);
        let set = open(&disk, to, None);
        assert_eq!(contents(&set), all);
        assert_eq!(set.journal_position(), Some((all[2].0.0, 9)));
        assert_eq!(set.attributes().into_iter().collect::<Vec<_>>(), [("next_series".into(), all[2].0.0.to_string())]);
        assert!(publish(&set, 8) > all[2].0);
    }
    // It has its own place from now on.
    let set = open(&disk, "/first", Some("/other"));
    assert!(set.upload(all[0].0).unwrap());
    assert_eq!(contents(&set)[..3], all[..]);
}

#[test]
fn parts_may_be_left_in_the_store() {
    let (disk, all) = prepared();
    let vfs: SharedVfs = Arc::new(disk.clone());
    let (made, opened) = back_up(&disk, "named", false);
    assert!(made.unwrap().files > 0 && opened == 0);
    restore(&disk, "named", "/first");
    assert_eq!(at_rest::places(&vfs, &Path::new("/first").join(SET)).unwrap(), ["file:///store"]);
    assert_eq!(contents(&open(&disk, "/first", Some(STORE))), all);
    // A whole backup after it finds no checksums in it and fetches.
    let (made, opened) = back_up(&disk, "whole", true);
    assert!(made.unwrap().new_objects >= 4 && opened == 1);
}

#[test]
fn a_part_that_cannot_be_fetched_whole_is_named() {
    let (disk, _) = prepared();
    let object = disk.files().into_iter().find(|path| path.starts_with("/store") && path.ends_with("blocks")).unwrap();
    disk.corrupt(&object, |bytes| bytes[3] ^= 1);
    let check = |expected: &str| {
        let error = trefoil_runtime::tasks::chain(&back_up(&disk, "none", true).0.unwrap_err());
        assert!(error.contains(object.to_str().unwrap()) && error.contains(expected), "{error}");
        let place = folder(&disk, "/backup");
        assert!(Backups::at(&*place).names().unwrap().is_empty());
        assert!(!disk.files().iter().any(|path| path.ends_with("tmp/backup")), "nothing is left over");
    };
    check("does not have the checksum");
    let set = open(&disk, DATA, Some(STORE));
    let remote_damaged = |set: &PartSet| {
        let parts = set.parts();
        parts.iter().filter(|meta| meta.is_remote()).filter_map(|meta| set.verify_objects(meta).err()).count()
    };
    assert_eq!(remote_damaged(&set), 1);
    drop(set);
    disk.remove_file(&object).unwrap();
    check("fetch file:///store/metrics/3/");
    assert_eq!(remote_damaged(&open(&disk, DATA, Some(STORE))), 1);
}
