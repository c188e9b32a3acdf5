//! Backups at a place: incremental, whole or not there, verified, restored.

use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use trefoil_parts::backup::{BackupReport, PruneReport};
use trefoil_parts::objects::{FolderObjects, ObjectInfo, Objects, open_existing, open_url};
use trefoil_parts::{BackupError, BackupOptions, Backups};
use trefoil_runtime::vfs::sim::{Fault, SimDisk};
use trefoil_runtime::vfs::{create_dir_durable, write_atomic};
use trefoil_runtime::{SharedVfs, Vfs, data_dir};

const PLACE: &str = "/backup";
const DATA: &str = "/data";

fn write(disk: &SimDisk, path: &str, content: &[u8]) {
    let path = Path::new(DATA).join(path);
    create_dir_durable(disk, path.parent().unwrap()).unwrap();
    write_atomic(disk, &path, content).unwrap();
}

fn prepared() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DATA)).unwrap();
    data_dir::check_format(&disk, Path::new(DATA)).unwrap();
    write(&disk, "metrics/parts/1/index", b"index of part 1");
    write(&disk, "metrics/parts/1/blocks", &[7; 5000]);
    write(&disk, "events/logs/same", &[7; 5000]);
    write(&disk, "events/logs/empty", b"");
    write(&disk, "LOCK", b"");
    write(&disk, "snapshots/one/index", b"not twice");
    write(&disk, "cache/x", b"not at all");
    write(&disk, "metrics/parts/tmp/x", b"half");
    disk
}

fn place(disk: &SimDisk) -> FolderObjects {
    FolderObjects::open(Arc::new(disk.clone()), Path::new(PLACE)).unwrap()
}

fn create(disk: &SimDisk, objects: &dyn Objects, name: &str) -> Result<BackupReport, BackupError> {
    let vfs: SharedVfs = Arc::new(disk.clone());
    let options = BackupOptions { name, created_ms: 5, open_place: None, recheck: false };
    Backups::at(objects).create(&vfs, Path::new(DATA), &options)
}

fn contents(disk: &SimDisk, dir: &str) -> Vec<(String, Bytes)> {
    let skipped = ["LOCK", "snapshots/one/index", "cache/x", "metrics/parts/tmp/x"];
    let files = disk.files().into_iter().filter(|path| path.starts_with(dir));
    files
        .map(|path| (path.strip_prefix(dir).unwrap().display().to_string(), disk.read(&path).unwrap()))
        .filter(|(path, _)| !skipped.contains(&path.as_str()))
        .collect()
}

#[test]
fn backups_are_incremental_and_restore_every_byte() {
    let disk = prepared();
    let objects = place(&disk);
    let backups = Backups::at(&objects);
    assert!(matches!(backups.manifest(None), Err(BackupError::NoBackup { .. })));
    let report = create(&disk, &objects, "a").unwrap();
    // The format, an index, one content twice and an empty file.
    let bytes = 10 + 15 + 10_000;
    assert_eq!(
        report,
        BackupReport { files: 5, bytes, new_objects: 4, new_bytes: bytes - 5000, ..BackupReport::default() }
    );
    let first = contents(&disk, DATA);
    write(&disk, "metrics/parts/2/index", b"index of part 2");
    let report = create(&disk, &objects, "b").unwrap();
    assert_eq!((report.files, report.new_objects, report.new_bytes), (6, 1, 15));
    assert!(matches!(create(&disk, &objects, "b"), Err(BackupError::Io { .. })), "a name is used once");
    assert_eq!(backups.names().unwrap(), ["a", "b"]);
    for (name, expected) in [("a", first), ("b", contents(&disk, DATA))] {
        let manifest = backups.manifest(Some(name)).unwrap();
        assert!(backups.verify(&manifest).is_empty());
        let to = format!("/restored-{name}");
        disk.create_dir_all(Path::new(&to)).unwrap();
        backups.restore(&disk, &manifest, Path::new(&to), false).unwrap();
        disk.crash(1);
        assert_eq!(contents(&disk, &to), expected);
        let again = backups.restore(&disk, &manifest, Path::new(&to), false);
        assert!(matches!(again, Err(BackupError::NotEmpty(_))));
    }
    let report = backups.prune(NonZeroUsize::MIN, false).unwrap();
    assert_eq!((report.backups, report.objects), (1, 0), "b needs all that a has");
    let b = backups.manifest(None).unwrap();
    assert!(backups.verify(&b).is_empty());
    // What a write left that was cut off goes as well; the objects stay.
    write_atomic(&disk, &Path::new(PLACE).join("objects/left.tmp"), b"half").unwrap();
    assert_eq!(objects.list("").unwrap().len(), 6);
    assert_eq!(backups.prune(NonZeroUsize::MIN, false).unwrap(), PruneReport::default());
    assert!(!disk.exists(&Path::new(PLACE).join("objects/left.tmp")));
    assert_eq!(objects.list("").unwrap().len(), 6);
}

#[test]
fn a_damaged_manifest_does_not_hide_the_others() {
    let disk = prepared();
    let objects = place(&disk);
    let backups = Backups::at(&objects);
    for name in ["a", "b", "c"] {
        create(&disk, &objects, name).unwrap();
        write(&disk, "metrics/parts/2/index", name.as_bytes());
    }
    assert_eq!(backups.newest().unwrap().name, "c");
    for name in ["b", "c"] {
        disk.corrupt(&Path::new(PLACE).join(format!("backups/{name}.manifest")), |bytes| bytes[40] ^= 1);
    }
    let error = backups.newest().unwrap_err();
    assert!(matches!(&error, BackupError::NewestDamaged { older, .. } if older == "a"), "{error}");
    assert!(matches!(backups.prune(NonZeroUsize::MIN, false), Err(BackupError::Undecided { .. })));
    let report = backups.prune(NonZeroUsize::MIN, true).unwrap();
    assert_eq!((report.backups, backups.names().unwrap()), (2, vec!["a".to_owned()]));
    let a = backups.newest().unwrap();
    assert!(backups.verify(&a).is_empty());
    disk.corrupt(&Path::new(PLACE).join("backups/a.manifest"), Vec::clear);
    let held = objects.list("").unwrap();
    assert!(matches!(backups.prune(NonZeroUsize::MIN, true), Err(BackupError::Manifest { .. })));
    assert_eq!(objects.list("").unwrap(), held, "the last one is not given up");
}

#[test]
fn damaged_objects_are_named_and_not_restored() {
    let disk = prepared();
    let objects = place(&disk);
    create(&disk, &objects, "a").unwrap();
    let backups = Backups::at(&objects);
    let manifest = backups.manifest(None).unwrap();
    for (position, file) in manifest.files.iter().enumerate().filter(|(_, file)| file.len > 0) {
        let key = file.key();
        let path = Path::new(PLACE).join(&key);
        let change = |disk: &SimDisk| match position % 3 {
            0 => disk.corrupt(&path, |bytes| bytes[2] ^= 1),
            1 => disk.corrupt(&path, |bytes| bytes.truncate(1)),
            _ => disk.remove_file(&path).unwrap(),
        };
        let copy = disk.fork();
        change(&copy);
        let objects = place(&copy);
        let backups = Backups::at(&objects);
        let faults = backups.verify(&manifest);
        assert_eq!(faults.len(), 1);
        assert!(matches!(&faults[0], BackupError::Object { key: found, .. } if *found == key), "{faults:?}");
        backups.restore(&copy, &manifest, Path::new("/restored"), false).unwrap_err();
        assert!(!copy.exists(Path::new("/restored")) && !copy.exists(Path::new("/restored.restore")));
        // The next backup brings it back: at a folder, what is there is read before it is trusted.
        let report = create(&copy, &objects, "b").unwrap();
        assert_eq!((report.new_objects, report.mended_objects), (1, u64::from(position % 3 == 0)));
        assert!(backups.verify(&manifest).is_empty());
    }
}

#[test]
fn a_fault_at_any_operation_leaves_a_backup_whole_or_not_there() {
    let counting = prepared();
    let start = counting.op_count();
    create(&counting, &place(&counting), "a").unwrap();
    let end = counting.op_count();
    for at in start..=end {
        for fault in [Fault::PowerCut, Fault::Io, Fault::NoSpace, Fault::ShortWrite] {
            let disk = prepared();
            disk.fail_at(at, fault);
            let objects = FolderObjects::open(Arc::new(disk.clone()), Path::new(PLACE));
            let made = objects.is_ok_and(|objects| create(&disk, &objects, "a").is_ok());
            disk.clear_faults();
            disk.crash(at);
            let objects = place(&disk);
            let backups = Backups::at(&objects);
            match backups.manifest(Some("a")) {
                Ok(manifest) => assert!(backups.verify(&manifest).is_empty(), "{fault:?} at {at}"),
                Err(error) => assert!(!made, "{fault:?} at {at}: {error}"),
            }
            create(&disk, &objects, "b").unwrap();
            assert!(backups.verify(&backups.manifest(Some("b")).unwrap()).is_empty());
        }
    }
}

#[test]
fn a_fault_at_any_operation_of_a_restore_leaves_a_whole_directory_or_none() {
    let counting = prepared();
    create(&counting, &place(&counting), "a").unwrap();
    let objects = place(&counting);
    let backups = Backups::at(&objects);
    let manifest = backups.manifest(None).unwrap();
    let expected = contents(&counting, DATA);
    let whole = counting.fork();
    let before = whole.op_count();
    Backups::at(&place(&whole)).restore(&whole, &manifest, Path::new("/restored"), false).unwrap();
    let operations = whole.op_count() - before + 5;
    for at in 0..operations {
        for fault in [Fault::PowerCut, Fault::Io] {
            let disk = counting.fork();
            let objects = place(&disk);
            disk.fail_at(disk.op_count() + at, fault);
            drop(Backups::at(&objects).restore(&disk, &manifest, Path::new("/restored"), false));
            disk.clear_faults();
            disk.crash(at);
            if disk.exists(Path::new("/restored")) {
                assert_eq!(contents(&disk, "/restored"), expected, "{fault:?} at {at}");
            } else {
                Backups::at(&objects).restore(&disk, &manifest, Path::new("/restored"), false).unwrap();
            }
        }
    }
}

#[test]
fn a_folder_is_a_place_by_url_and_by_path() {
    let disk = SimDisk::new();
    for url in ["file:///backup/x", "/backup/x/"] {
        let objects = open_url(url, Arc::new(disk.clone())).unwrap();
        assert_eq!(objects.url(), "file:///backup/x");
        objects.put("a/b", Bytes::from_static(b"12345")).unwrap();
        assert_eq!(objects.get_range("a/b", 1..3).unwrap(), &b"23"[..]);
        assert_eq!((objects.len("a/b").unwrap(), objects.len("a/c").unwrap()), (Some(5), None));
        assert!(objects.put("../b", Bytes::new()).is_err());
        objects.delete("a/c").unwrap();
    }
}

#[test]
fn a_place_that_is_read_is_not_made() {
    let disk = SimDisk::new();
    let vfs: SharedVfs = Arc::new(disk.clone());
    let error = open_existing("file:///typo", Arc::clone(&vfs), Duration::from_secs(1)).err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(!disk.exists(Path::new("/typo")));
    open_url("/there", Arc::clone(&vfs)).unwrap();
    open_existing("/there", vfs, Duration::from_secs(1)).unwrap();
}

#[test]
fn backups_at_once_do_not_meet() {
    let disk = prepared();
    let run = |name: &'static str| {
        let disk = disk.clone();
        std::thread::spawn(move || create(&disk, &place(&disk), name).unwrap())
    };
    let threads: Vec<_> = ["a", "b", "c", "d"].map(run).into();
    for thread in threads {
        assert_eq!(thread.join().unwrap().files, 5);
    }
    let objects = place(&disk);
    let backups = Backups::at(&objects);
    for name in ["a", "b", "c", "d"] {
        assert!(backups.verify(&backups.manifest(Some(name)).unwrap()).is_empty());
    }
}

/// A place far away that answers some times and then no more.
struct Failing {
    inner: FolderObjects,
    answers: AtomicUsize,
    refused: AtomicUsize,
}

impl Failing {
    fn ask(&self) -> io::Result<()> {
        let left = self.answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            io::ErrorKind::TimedOut.into()
        })
    }
}

impl Objects for Failing {
    fn put(&self, key: &str, content: Bytes) -> io::Result<()> {
        self.ask().and_then(|()| self.inner.put(key, content))
    }
    fn put_new(&self, key: &str, content: Bytes) -> io::Result<()> {
        self.ask().and_then(|()| self.inner.put_new(key, content))
    }
    fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> io::Result<Bytes> {
        self.ask().and_then(|()| self.inner.get_range(key, range))
    }
    fn len(&self, key: &str) -> io::Result<Option<u64>> {
        self.ask().and_then(|()| self.inner.len(key))
    }
    fn delete(&self, key: &str) -> io::Result<()> {
        self.ask().and_then(|()| self.inner.delete(key))
    }
    fn list(&self, prefix: &str) -> io::Result<Vec<ObjectInfo>> {
        self.ask().and_then(|()| self.inner.list(prefix))
    }
    fn url(&self) -> &str {
        self.inner.url()
    }
}

#[test]
fn a_place_that_does_not_answer_is_not_asked_for_every_object() {
    let disk = prepared();
    create(&disk, &place(&disk), "a").unwrap();
    let manifest = Backups::at(&place(&disk)).manifest(None).unwrap();
    for answers in 0..8 {
        let objects =
            Failing { inner: place(&disk), answers: AtomicUsize::new(answers), refused: AtomicUsize::default() };
        let faults = Backups::at(&objects).verify(&manifest);
        let refused = objects.refused.load(Ordering::Relaxed);
        // Four objects, one of them empty: seven questions.
        let expected = usize::from(answers < 7);
        assert_eq!((faults.len(), refused), (expected, expected), "{answers} answers: {faults:?}");
        assert!(faults.iter().all(|fault| matches!(fault, BackupError::Io { .. })));
    }
}

/// With `skip_damaged` one bad object costs its own file; of a second copy nothing is lost, and nobody has to ask.
#[test]
fn a_restore_can_skip_what_is_damaged() {
    let disk = prepared();
    write(&disk, "events/logs/catalog/00000000000000000001.commit", b"commit 1");
    write(&disk, "events/logs/catalog-copies/00000000000000000001.commit", b"commit 1, rotten");
    write(&disk, "events/logs/catalog/00000000000000000002.commit", b"commit 2");
    write(&disk, "events/logs/catalog-copies/00000000000000000002.commit", b"commit 2");
    write(&disk, "metrics/parts/1/part.commit", b"as of part 1");
    write(&disk, "metrics/journal/00000000000000000007.journal", b"records");
    write(&disk, "metrics/journal/00000000000000000007.copies", b"copies");
    create(&disk, &place(&disk), "one").unwrap();
    let all = contents(&disk, DATA);
    let manifest = Backups::at(&place(&disk)).manifest(None).unwrap();
    // Which of the three lists, and whether a length is wrong.
    let check = |path: &str, is_cut: bool, second: usize, left_out: usize, damaged: usize| {
        let disk = disk.fork();
        let file = manifest.files.iter().find(|file| file.path == path).unwrap();
        let damage = |bytes: &mut Vec<u8>| if is_cut { bytes.truncate(1) } else { bytes[0] ^= 1 };
        disk.corrupt(&Path::new(PLACE).join(file.key()), damage);
        let (at, objects) = (Path::new("/restored"), place(&disk));
        let plain = Backups::at(&objects).restore(&disk, &manifest, at, false);
        assert_eq!(plain.is_ok(), second > 0, "{path}: {plain:?}");
        if plain.is_ok() {
            disk.remove_dir_all(at).unwrap();
        }
        let report = Backups::at(&objects).restore(&disk, &manifest, at, true).unwrap();
        let found = (report.second_copies.len(), report.left_out.len(), report.damaged.len());
        assert_eq!(found, (second, left_out, damaged), "{path}: {report:?}");
        let same = contents(&disk, "/restored").iter().filter(|file| all.contains(file)).count();
        assert_eq!(same, all.len() - second - left_out - damaged, "{path}");
        assert_eq!(contents(&disk, "/restored").len(), all.len() - second - left_out, "{path}");
    };
    check("events/logs/catalog/00000000000000000001.commit", false, 1, 0, 0);
    check("events/logs/catalog-copies/00000000000000000001.commit", true, 1, 0, 0);
    // Of equal commits too one is enough: they have an object each.
    check("events/logs/catalog/00000000000000000002.commit", true, 1, 0, 0);
    check("events/logs/catalog-copies/00000000000000000002.commit", false, 1, 0, 0);
    check("metrics/parts/1/part.commit", false, 1, 0, 0);
    check("metrics/journal/00000000000000000007.copies", false, 1, 0, 0);
    check("metrics/journal/00000000000000000007.journal", false, 0, 0, 1);
    check("metrics/parts/1/index", false, 0, 0, 1);
    check("metrics/parts/1/index", true, 0, 1, 0);

    // Both copies of something: it is lost, and nothing is restored unless that is wanted.
    for (path, other) in [
        ("events/logs/catalog/00000000000000000002.commit", "events/logs/catalog-copies/00000000000000000002.commit"),
        ("metrics/journal/00000000000000000007.journal", "metrics/journal/00000000000000000007.copies"),
    ] {
        let disk = disk.fork();
        for path in [path, other, "metrics/parts/1/part.commit"] {
            let file = manifest.files.iter().find(|file| file.path == path).unwrap();
            disk.corrupt(&Path::new(PLACE).join(file.key()), |bytes| bytes.truncate(1));
        }
        let (at, objects) = (Path::new("/restored"), place(&disk));
        let refused = Backups::at(&objects).restore(&disk, &manifest, at, false).unwrap_err().to_string();
        assert!(refused.contains(path) || refused.contains(other), "{refused}");
        assert!(!disk.exists(at));
        let report = Backups::at(&objects).restore(&disk, &manifest, at, true).unwrap();
        // The commit of a part is worth something when those of the catalog are lost.
        let second = usize::from(path.contains("journal"));
        assert_eq!((report.second_copies.len(), report.left_out.len()), (second, 3 - second), "{report:?}");
    }
}
