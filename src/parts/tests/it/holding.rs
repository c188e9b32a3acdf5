//! Who holds a part keeps its files; what a part may be.

use trefoil_model::TenantId;
use trefoil_parts::{Commit, PartFacts, PartId, PartSet, PartsError};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_runtime::{RealVfs, Vfs};

use crate::support::{open, write_part};

#[test]
fn files_stay_while_somebody_holds_the_part() {
    let disk = SimDisk::new();
    let set = open(&disk).unwrap();
    let pending = write_part(&set, 4).unwrap();
    let id = pending.meta().id;
    assert!(set.hold(id).is_none());
    set.commit(Commit { add: vec![pending], ..Commit::default() }).unwrap();
    let handle = set.hold(id).unwrap();
    let listed = set.parts();
    set.commit(Commit { remove: vec![id], ..Commit::default() }).unwrap();
    assert!(set.parts().is_empty() && set.hold(id).is_none());
    set.verify(&handle).unwrap();
    drop(handle);
    set.verify(&listed[0]).unwrap();
    assert_eq!(set.removed_and_held(), 1);
    let path = set.path(&listed[0], "index");
    drop(listed);
    set.collect_garbage();
    assert!(!disk.exists(&path));
    assert_eq!(set.removed_and_held(), 0);
    let error = set.commit(Commit { remove: vec![id], ..Commit::default() }).unwrap_err();
    assert!(matches!(error, PartsError::NoSuchPart(PartId(1))));
}

#[test]
fn an_abandoned_part_leaves_nothing() {
    let disk = SimDisk::new();
    let set = open(&disk).unwrap();
    drop(write_part(&set, 4).unwrap());
    let writer = set.begin(TenantId(0), 1, "x").unwrap();
    writer.write_file("a", b"1").unwrap();
    for name in ["a", "", ".hidden", "a/b", "..", "ä", "a b"] {
        assert!(matches!(writer.write_file(name, b""), Err(PartsError::FileName(_))), "{name:?}");
    }
    drop(writer.create_file("begun").unwrap());
    assert!(matches!(writer.finish(PartFacts::default()), Err(PartsError::UnfinishedFiles(1))));
    assert!(disk.files().iter().all(|path| path.ends_with("catalog-state")), "{:?}", disk.files());
}

#[test]
fn parts_live_on_the_real_disk() {
    let dir = std::env::temp_dir().join(format!("trefoil-parts-{}", std::process::id()));
    let set = PartSet::open(RealVfs::shared(), &dir, "real").unwrap();
    let writer = set.begin(TenantId(0), 20_000, "logs").unwrap();
    std::fs::write(writer.dir().join("foreign.idx"), b"written by a library").unwrap();
    writer.adopt_file("foreign.idx").unwrap();
    writer.write_file("empty", b"").unwrap();
    let pending = writer.finish(PartFacts { items: 1, ..PartFacts::default() }).unwrap();
    set.commit(Commit { add: vec![pending], journal: Some((1, 2)), ..Commit::default() }).unwrap();
    drop(set);
    let set = PartSet::open(RealVfs::shared(), &dir, "real").unwrap();
    let parts = set.parts();
    assert_eq!((parts.len(), set.journal_position()), (1, Some((1, 2))));
    assert_eq!(set.map(&parts[0], "foreign.idx").unwrap(), "written by a library");
    assert!(set.map(&parts[0], "empty").unwrap().is_empty());
    assert!(matches!(set.map(&parts[0], "none"), Err(PartsError::NoSuchFile { .. })));
    set.verify(&parts[0]).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}
