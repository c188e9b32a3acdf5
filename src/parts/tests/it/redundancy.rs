//! Second copies that are gone are found by a check, and only by one that is asked for.

use std::path::Path;
use std::sync::Arc;

use trefoil_parts::redundancy::{Redundancy, check};
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
