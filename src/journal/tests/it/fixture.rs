//! Frozen files of every version: they are read as they were meant, and version 1 is still written byte for byte.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trefoil_journal::{FileJournal, Position, segment};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_runtime::{RealVfs, Vfs};

use crate::support::Step::{Append, Close, Reopen};
use crate::support::{DIR, Model, options, replay, run};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

/// Written again by `TREFOIL_UPDATE_FIXTURES=1`, which is right only before a version is released.
#[test]
fn version_1() {
    let written = SimDisk::new();
    let steps = [Append(1, 10), Append(1, 100), Append(1, 200), Reopen, Append(1, 3), Close];
    run(&written, 250, &steps, &mut Model::default()).unwrap();
    let dir = fixtures();
    if std::env::var_os("TREFOIL_UPDATE_FIXTURES").is_some() {
        std::fs::create_dir_all(&dir).unwrap();
        for path in written.files() {
            std::fs::write(dir.join(path.file_name().unwrap()), written.read(&path).unwrap()).unwrap();
        }
    }
    let frozen = RealVfs.read_dir(&dir).unwrap();
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    assert_eq!(frozen.len(), written.files().len());
    for entry in frozen {
        let content = RealVfs.read(&dir.join(&entry.name)).unwrap();
        let number = segment::parse_name(&entry.name).unwrap();
        let path = segment::path(Path::new(DIR), number);
        assert_eq!(written.read(&path).unwrap(), content, "{} is written as it was", entry.name);
        disk.create(&path).unwrap().write_all(&content).unwrap();
    }
    let journal = FileJournal::open(Arc::new(disk), Path::new(DIR), options(1_000)).unwrap();
    let (numbers, report) = replay(&journal, Position::default());
    assert_eq!((numbers, report.damage.len()), (vec![0, 1, 2, 3], 0));
}
