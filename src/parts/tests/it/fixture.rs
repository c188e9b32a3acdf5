//! Frozen commits of every version: they are read as they were meant, and version 1 is still written byte for byte.

use std::path::{Path, PathBuf};

use trefoil_parts::{Catalog, LocalCatalog, LocalFolder};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_runtime::{RealVfs, Vfs};

use crate::support::{DIR, Model, Step, run};

/// Written again by `TREFOIL_UPDATE_FIXTURES=1`, which is right only before a version is released.
#[test]
fn version_1() {
    let written = SimDisk::new();
    run(&written, &[Step::Flush(2, 1), Step::Flush(1, -3), Step::Merge(2), Step::Move], &mut Model::default()).unwrap();
    let catalog = Path::new(DIR).join("catalog");
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let names: Vec<String> = written.read_dir(&catalog).unwrap().into_iter().map(|entry| entry.name).collect();
    if std::env::var_os("TREFOIL_UPDATE_FIXTURES").is_some() {
        std::fs::create_dir_all(&dir).unwrap();
        for name in &names {
            std::fs::write(dir.join(name), written.read(&catalog.join(name)).unwrap()).unwrap();
        }
    }
    let disk = SimDisk::new();
    disk.create_dir_all(&catalog).unwrap();
    let frozen = RealVfs.read_dir(&dir).unwrap();
    assert_eq!(frozen.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>(), names);
    for name in &names {
        let content = RealVfs.read(&dir.join(name)).unwrap();
        assert_eq!(written.read(&catalog.join(name)).unwrap(), content, "{name} is written as it was");
        disk.create(&catalog.join(name)).unwrap().write_all(&content).unwrap();
    }
    let folder = LocalFolder::open(std::sync::Arc::new(disk), catalog).unwrap();
    let state = LocalCatalog::open(folder).unwrap().state();
    assert_eq!(state.parts.keys().map(|id| id.0).collect::<Vec<_>>(), [3, 4]);
    assert_eq!((state.journal, state.next_part), (Some((4, 100)), 5));
    assert_eq!(state.parts.values().map(|meta| meta.partition).collect::<Vec<_>>(), [-3, 1]);
}
