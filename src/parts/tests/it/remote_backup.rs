//! A backup of a set with parts in an object store is whole: what is restored from it needs no object store.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use trefoil_parts::backup::BackupReport;
use trefoil_parts::objects::{FolderObjects, Objects};
use trefoil_parts::{BackupError, BackupOptions, Backups, Commit, PartId, PartSet, PartsError, RemoteOptions, at_rest};
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
    let options = BackupOptions { name, created_ms: 5, open_place: with_remote.then_some(&open_place), recheck: false };
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
    backups.restore(disk, &manifest, Path::new(to), false).unwrap();
}

#[test]
fn parts_in_the_store_are_in_the_backup() {
    let (disk, all) = prepared();
    let vfs: SharedVfs = Arc::new(disk.clone());
    let (made, opened) = back_up(&disk, "one", true);
    // FORMAT, a commit, the state of the catalog and two files of each of three parts, and what the local one says of itself.
    assert_eq!((made.unwrap().files, opened), (11, 1));
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
    // It reads what lies there, but the place stays with the directory that it came from.
    let copy = open(&disk, "/first", Some(STORE));
    assert_eq!(contents(&copy), all);
    let error = copy.upload(all[2].0).unwrap_err();
    assert!(matches!(error, PartsError::NotOwner { .. }), "{error}");
    assert_eq!(copy.sweep_remote().unwrap(), 0);
    // What the backup names and nobody copied is looked for.
    let place = folder(&disk, "/backup");
    let backups = Backups::at(&*place);
    let manifest = backups.manifest(Some("named")).unwrap();
    let open_place = |_: &str| Ok(folder(&disk, STORE));
    assert!(matches!(backups.verify_left_remote(&manifest, &open_place), (faults, 4) if faults.is_empty()));
    let gone = disk.fork();
    let object = gone.files().into_iter().find(|path| path.starts_with(STORE) && path.ends_with("blocks")).unwrap();
    gone.remove_file(&object).unwrap();
    let open_place = |_: &str| Ok(folder(&gone, STORE));
    let (faults, count) = backups.verify_left_remote(&manifest, &open_place);
    assert_eq!((faults.len(), count), (1, 4));
    assert!(faults[0].to_string().contains(object.to_str().unwrap()), "{}", faults[0]);
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
        let error = match back_up(&disk, "whole", true).0 {
            Ok(report) => report.source_damage.join(" "),
            Err(error) => trefoil_runtime::tasks::chain(&error),
        };
        assert!(error.contains(object.to_str().unwrap()) && error.contains(expected), "{error}");
        assert!(!disk.files().iter().any(|path| path.ends_with("tmp/backup")), "nothing is left over");
    };
    check("does not have the checksum");
    let place = folder(&disk, "/backup");
    let manifest = Backups::at(&*place).manifest(Some("whole")).unwrap();
    assert_eq!(manifest.source_damage.len(), 1, "{:?}", manifest.source_damage);
    restore(&disk, "whole", "/restored");
    let copy = open(&disk, "/restored", None);
    assert_eq!(copy.parts().iter().filter(|meta| copy.verify(meta).is_err()).count(), 1, "the others are whole");
    let manifest_path = disk.files().into_iter().find(|path| path.ends_with("whole.manifest")).unwrap();
    disk.remove_file(&manifest_path).unwrap();
    let set = open(&disk, DATA, Some(STORE));
    let remote_damaged = |set: &PartSet| {
        let parts = set.parts();
        parts.iter().filter(|meta| meta.is_remote()).filter_map(|meta| set.verify_objects(meta).err()).count()
    };
    assert_eq!(remote_damaged(&set), 1);
    drop(set);
    disk.remove_file(&object).unwrap();
    check("fetch file:///store/metrics/3/");
    assert!(Backups::at(&*place).names().unwrap().is_empty());
    assert_eq!(remote_damaged(&open(&disk, DATA, Some(STORE))), 1);
}

#[test]
fn a_copy_without_remote_parts_does_not_own_the_place_either() {
    let (disk, _) = prepared();
    let set = open(&disk, DATA, Some(STORE));
    // All that lies there goes, as by retention; the mark of the owner stays.
    let remove = set.parts().iter().filter(|meta| meta.is_remote()).map(|meta| meta.id).collect();
    set.commit(Commit { remove, ..Commit::default() }).unwrap();
    back_up(&disk, "one", true).0.unwrap();
    restore(&disk, "one", "/first");
    let copy = open(&disk, "/first", Some(STORE));
    let id = copy.parts()[0].id;
    assert!(matches!(copy.upload(id), Err(PartsError::NotOwner { .. })));
    set.upload(id).unwrap();
    // Nor does a snapshot that somebody opens.
    set.link_to(&set.state(), &Path::new("/snapshot").join(SET)).unwrap();
    let snapshot = open(&disk, "/snapshot", Some(STORE));
    let other = publish(&snapshot, 9);
    assert!(matches!(snapshot.upload(other), Err(PartsError::NotOwner { .. })));
}

#[test]
fn damage_of_the_source_is_told_and_the_rest_is_kept() {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DATA)).unwrap();
    data_dir::check_format(&disk, Path::new(DATA)).unwrap();
    let set = open(&disk, DATA, None);
    for partition in [5, 6] {
        publish(&set, partition);
    }
    drop(set);
    assert_eq!(back_up(&disk, "good", true).0.unwrap().source_damage, [""; 0]);
    let blocks: Vec<_> =
        disk.files().into_iter().filter(|path| path.starts_with(DATA) && path.ends_with("blocks")).collect();
    disk.corrupt(&blocks[0], |bytes| bytes[3] ^= 1);
    let relative = blocks[0].strip_prefix(DATA).unwrap().to_str().unwrap();
    let check = |name: &str, expected: &str| {
        let found = back_up(&disk, name, true).0.unwrap().source_damage;
        assert!(found.len() == 1 && found[0].contains(relative) && found[0].contains(expected), "{found:?}");
        let place = folder(&disk, "/backup");
        assert_eq!(Backups::at(&*place).manifest(Some(name)).unwrap().source_damage, found);
        restore(&disk, name, &format!("/{name}"));
        let copy = open(&disk, &format!("/{name}"), None);
        assert_eq!(copy.parts().iter().filter(|meta| copy.verify(meta).is_ok()).count(), 1);
    };
    check("flipped", "does not have the checksum");
    disk.remove_file(&blocks[0]).unwrap();
    check("missing", "is missing");
}
