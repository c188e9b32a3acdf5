use super::*;
use crate::vfs::write_atomic;

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn write(disk: &SimDisk, name: &str, bytes: &[u8], sync: bool) -> Box<dyn VfsFile> {
    let mut file = disk.create(path(name)).unwrap();
    file.write_all(bytes).unwrap();
    if sync {
        file.sync_data().unwrap();
    }
    file
}

#[test]
fn unsynced_bytes_and_names_are_lost() {
    let disk = SimDisk::new();
    disk.create_dir_all(path("/d")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    drop(write(&disk, "/d/unnamed", b"synced", true));
    disk.fork().crash(0);
    drop(write(&disk, "/d/named", b"synced", true));
    let other = disk.fork();
    disk.sync_dir(path("/d")).unwrap();
    disk.open_append(path("/d/named")).unwrap().write_all(b" not").unwrap();
    disk.crash(0);
    assert_eq!(disk.files(), [path("/d/named"), path("/d/unnamed")]);
    assert_eq!(disk.read(path("/d/named")).unwrap(), "synced");
    other.crash(0);
    assert_eq!(other.files(), [] as [PathBuf; 0]);
}

#[test]
fn open_files_die_with_the_power() {
    let disk = SimDisk::new();
    let mut file = write(&disk, "/a", b"x", true);
    disk.crash(1);
    assert!(file.write_all(b"y").is_err());
    assert_eq!(disk.read(path("/a")).unwrap(), "x");
}

#[test]
fn a_failed_sync_drops_its_bytes_for_good() {
    let disk = SimDisk::new();
    let mut file = write(&disk, "/a", b"good", true);
    disk.sync_dir(path("/")).unwrap();
    file.write_all(b"lost").unwrap();
    disk.fail_at(disk.op_count(), Fault::Io);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(disk.read(path("/a")).unwrap(), "goodlost");
    disk.crash(0);
    assert_eq!(disk.read(path("/a")).unwrap(), "good\0\0\0\0");
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = SimDisk::new();
    disk.set_capacity(3);
    let mut file = disk.create(path("/a")).unwrap();
    let error = file.write_all(b"12345").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!((file.len(), disk.available_bytes(path("/")).unwrap()), (3, 0));
    disk.set_len(path("/a"), 1).unwrap();
    assert_eq!(disk.read(path("/a")).unwrap(), "1");
}

/// Whatever operation the power goes at and whatever is lost, the old or the new content is there.
#[test]
fn write_atomic_leaves_old_or_new() {
    let prepared = SimDisk::new();
    prepared.create_dir_all(path("/d")).unwrap();
    prepared.sync_dir(path("/")).unwrap();
    write_atomic(&prepared, path("/d/f"), b"old").unwrap();
    let finished = prepared.fork();
    write_atomic(&finished, path("/d/f"), b"new content").unwrap();
    for at in prepared.op_count()..=finished.op_count() {
        for seed in 0..20 {
            let disk = prepared.fork();
            disk.fail_at(at, Fault::PowerCut);
            let result = write_atomic(&disk, path("/d/f"), b"new content");
            disk.clear_faults();
            disk.crash(seed);
            let found = disk.read(path("/d/f")).unwrap();
            assert!(found == "new content" || (found == "old" && result.is_err()), "op {at} seed {seed}: {found:?}");
        }
    }
}

#[test]
fn renamed_directories_keep_what_is_in_them() {
    let disk = SimDisk::new();
    disk.create_dir_all(path("/d/tmp/p")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk.sync_dir(path("/d")).unwrap();
    drop(write(&disk, "/d/tmp/p/a", b"1", true));
    disk.sync_dir(path("/d/tmp/p")).unwrap();
    disk.rename(path("/d/tmp/p"), path("/d/p")).unwrap();
    let lost = disk.fork();
    lost.crash(0);
    assert_eq!(lost.files(), [] as [PathBuf; 0]);
    disk.sync_dir(path("/d")).unwrap();
    disk.crash(0);
    assert_eq!(disk.files(), [path("/d/p/a")]);
    disk.remove_dir_all(path("/d")).unwrap();
    assert!(disk.read_dir(path("/")).unwrap().is_empty());
}
