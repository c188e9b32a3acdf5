//! Second copies that are gone are found by a check, and only by one that is asked for.

use std::path::Path;
use std::sync::Arc;

use trefoil_parts::redundancy::{Redundancy, check, check_files};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_runtime::{SharedVfs, Vfs};

use crate::support::{DIR, Model, Step, open, run};

fn store() -> SimDisk {
    let (disk, mut model) = (SimDisk::new(), Model::default());
    run(&disk, &[Step::Flush(2, 1), Step::Flush(1, 2), Step::Flush(1, 3)], &mut model).unwrap();
    disk
}

fn look(disk: &SimDisk) -> Redundancy {
    let vfs: SharedVfs = Arc::new(disk.clone());
    check(&vfs, Path::new(DIR)).unwrap()
}

fn found(damage: impl FnOnce(&SimDisk), wanted: &[&str]) {
    let disk = store();
    assert_eq!(look(&disk), Redundancy::default());
    damage(&disk);
    let lost = look(&disk).lost;
    assert_eq!(lost.len(), wanted.len(), "{lost:?}");
    for (lost, wanted) in lost.iter().zip(wanted) {
        assert!(lost.contains(wanted), "{lost}");
    }
    drop(open(&disk).unwrap());
    assert!(!look(&disk).lost.iter().any(|lost| lost.contains("catalog-copies")), "a start writes copies again");
}

#[test]
fn lost_copies_of_commits_are_found() {
    let dir = Path::new(DIR).join("catalog-copies");
    found(|disk| disk.remove_dir_all(&dir).unwrap(), &["the copies of the commits are missing"]);
    let first = dir.join(format!("{:020}.commit", 1));
    found(
        |disk| disk.remove_file(&first).unwrap(),
        &["00000000000000000001.commit: the copy of the commit is missing"],
    );
    let as_folder = |disk: &SimDisk| {
        disk.remove_file(&first).unwrap();
        disk.create_dir_all(&first).unwrap();
    };
    let disk = store();
    as_folder(&disk);
    assert_eq!(look(&disk).lost.len(), 1);
    // The newest one is needed as any other, once it is there.
    for (folder, number) in [("catalog-copies", 3), ("catalog-copies", 1), ("catalog", 2)] {
        let path = Path::new(DIR).join(folder).join(format!("{number:020}.commit"));
        found(|disk| disk.corrupt(&path, |bytes| bytes[40] ^= 1), &["the commit is damaged"]);
    }
    // A crash may cut off the copy of the newest one.
    let newest = dir.join(format!("{:020}.commit", 3));
    found(|disk| disk.remove_file(&newest).unwrap(), &[]);
}

#[test]
fn damaged_commits_of_parts_are_found() {
    let of_parts =
        |disk: &SimDisk| -> Vec<_> { disk.files().into_iter().filter(|path| path.ends_with("part.commit")).collect() };
    let flip = |disk: &SimDisk| of_parts(disk).iter().for_each(|path| disk.corrupt(path, |bytes| bytes[40] ^= 1));
    found(flip, &["is damaged"; 4]);
    let empty = |disk: &SimDisk| of_parts(disk).iter().for_each(|path| disk.corrupt(path, Vec::clear));
    found(empty, &["is damaged"; 4]);
    let disk = store();
    of_parts(&disk).iter().for_each(|path| disk.remove_file(path).unwrap());
    assert_eq!(look(&disk), Redundancy { lost: Vec::new(), without_commit: 4 });
}

#[test]
fn damaged_files_of_parts_are_found() {
    let vfs_of = |disk: &SimDisk| -> SharedVfs { Arc::new(disk.clone()) };
    let disk = store();
    assert_eq!(check_files(&vfs_of(&disk), Path::new(DIR), &|_| Vec::new()).unwrap(), Vec::<String>::new());
    let files: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|path| path.starts_with(Path::new(DIR).join("parts")) && !path.ends_with("part.commit"))
        .collect();
    assert!(files.len() >= 4, "{files:?}");
    let check = |path: &Path, wanted: &str, damage: &dyn Fn(&SimDisk)| {
        let disk = disk.fork();
        damage(&disk);
        let found = check_files(&vfs_of(&disk), Path::new(DIR), &|_| Vec::new()).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&path.display().to_string()) && found[0].contains(wanted), "{found:?}");
    };
    for path in &files {
        check(path, "checksum", &|disk| disk.corrupt(path, |bytes| *bytes.last_mut().unwrap() ^= 4));
        check(path, "bytes instead of", &|disk| disk.corrupt(path, |bytes| bytes.truncate(bytes.len() - 1)));
        let damage = |disk: &SimDisk| disk.corrupt(path, |bytes| bytes[0] ^= 4);
        let disk = disk.fork();
        damage(&disk);
        let ranges = vec![(3..5, "one".to_owned()), (7..9, "other".to_owned())];
        let found = check_files(&vfs_of(&disk), Path::new(DIR), &|_| ranges.clone()).unwrap();
        assert!(found.len() == 2 && found[0].contains("bytes 3..5") && found[1].ends_with("other"), "{found:?}");
        check(path, "is missing", &|disk| disk.remove_file(path).unwrap());
    }
}

/// What says whether commits were made: damaged it is told, and stops a start only where parts are without a commit.
#[test]
fn a_damaged_mark_is_told_and_stops_no_empty_set() {
    let mark = Path::new(DIR).join("catalog-state");
    let damage = |disk: &SimDisk| disk.corrupt(&mark, |bytes| *bytes = b"abcd".to_vec());
    let empty = SimDisk::new();
    drop(open(&empty).unwrap());
    for disk in [empty, store()] {
        let before = disk.read(&mark).unwrap();
        damage(&disk);
        assert_eq!(look(&disk).lost.len(), 1);
        assert!(look(&disk).lost[0].contains("catalog-state: "), "{:?}", look(&disk));
        let set = open(&disk).unwrap();
        assert_eq!(set.findings().len(), 1, "{:?}", set.findings());
        drop(set);
        assert_eq!((disk.read(&mark).unwrap(), look(&disk)), (before, Redundancy::default()));
    }
    let disk = store();
    damage(&disk);
    for folder in ["catalog", "catalog-copies"] {
        disk.remove_dir_all(&Path::new(DIR).join(folder)).unwrap();
    }
    let refused = open(&disk).err().unwrap().to_string();
    assert!(refused.contains("has the folders of 4 parts and no commit"), "{refused}");
    disk.remove_dir_all(&Path::new(DIR).join("parts")).unwrap();
    disk.corrupt(&mark, |bytes| *bytes = b"committed\n".to_vec());
    let refused = open(&disk).err().unwrap().to_string();
    assert!(refused.contains("had commits, and there is none any more"), "{refused}");
}
