//! A store with copies of its commits, parts that carry theirs (version 3) and the mark of a set that has committed, as it
//! was written once. It must open for ever, also with one copy of a commit damaged, and a repair must know its parts.
//!
//! The files in `tests/fixtures/commit-v3` are never changed. Written with `TREFOIL_WRITE_FIXTURE=commit-v3`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trefoil_model::{Labels, TimeRange};
use trefoil_parts::repair::RepairOptions;
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_runtime::{SharedVfs, Vfs};
use trefoil_tsdb::{Tsdb, repair};

use crate::fixture::load;
use crate::support::{BASE, DAY_MS, Point, Value, float, histogram, numbered, open, read, wait, write};

const STORE: &str = "/data/metrics";
const SETS: [&str; 2] = ["catalog", "catalog-copies"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/commit-v3")
}

fn samples(batch: i64) -> Vec<(Labels, Point)> {
    let values =
        |k: i64| [float(k as f64), float(((k * 7919) % 101) as f64 / 4.0), Value::Histogram(histogram(k as u32))];
    let times = (batch * 20..batch * 20 + 20).map(|k| (k, BASE + (k % 2) * DAY_MS + k * 15_000));
    times.flat_map(|(k, t)| values(k).into_iter().enumerate().map(move |(s, v)| (numbered(s), (t, 0, v)))).collect()
}

/// Merged parts, parts of a flush, and a batch in the journal only.
fn make(disk: &SimDisk) {
    let db = open(disk).unwrap();
    for batch in 0..3 {
        write(&db, &samples(batch)).unwrap();
        wait(db.flush()).unwrap();
    }
    while db.merge_once().unwrap() {}
    write(&db, &samples(3)).unwrap();
    wait(db.flush()).unwrap();
    write(&db, &samples(4)).unwrap();
    wait(db.close());
}

fn check(db: &Tsdb, context: &str) {
    let mut expected = std::collections::BTreeMap::<Labels, Vec<Point>>::new();
    for (labels, point) in (0..5).flat_map(samples) {
        expected.entry(labels).or_default().push(point);
    }
    expected.values_mut().for_each(|points| points.sort_by_key(|point| point.0));
    let found = read(db, 0, Vec::new(), TimeRange::ALL);
    assert_eq!(found.len(), expected.len(), "{context}");
    for (labels, points) in expected {
        assert!(found[&labels] == points, "{context}: {labels}");
    }
}

fn loaded() -> SimDisk {
    let disk = SimDisk::new();
    load(&disk, &folder(), Path::new(STORE));
    disk
}

fn in_folder(disk: &SimDisk, folder: &str) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|file| file.starts_with(Path::new(STORE).join("parts").join(folder))).collect()
}

#[test]
fn commits_of_version_3_open() {
    if std::env::var("TREFOIL_WRITE_FIXTURE").is_ok_and(|v| v == "commit-v3") {
        let disk = SimDisk::new();
        make(&disk);
        for file in disk.files() {
            let to = folder().join(file.strip_prefix(STORE).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            assert!(!to.exists(), "fixtures are frozen");
            std::fs::write(to, Vfs::read(&disk, &file).unwrap()).unwrap();
        }
    }
    let disk = loaded();
    assert!(SETS.iter().all(|set| !in_folder(&disk, set).is_empty()));
    let own: Vec<_> = in_folder(&disk, "parts").into_iter().filter(|file| file.ends_with("part.commit")).collect();
    let is_version_3 = |file: &&PathBuf| disk.read(file).unwrap().starts_with(b"trefoil-commit 3 ");
    assert!(own.iter().filter(is_version_3).count() >= 2, "{own:?}");
    assert_eq!(&disk.read(&Path::new(STORE).join("parts/catalog-state")).unwrap()[..], b"committed\n");
    let db = open(&disk).unwrap();
    assert!(db.catalog_findings().is_empty());
    check(&db, "as it was");
    wait(db.flush()).unwrap();
    while db.merge_once().unwrap() {}
    check(&db, "flushed and merged");
}

#[test]
fn commits_of_version_3_open_with_one_copy_damaged() {
    for set in SETS {
        for file in in_folder(&loaded(), set) {
            let disk = loaded();
            disk.corrupt(&file, |bytes| *bytes.last_mut().unwrap() ^= 4);
            for (start, findings) in [(0, 1), (1, 0)] {
                let db = open(&disk).unwrap();
                assert_eq!(db.catalog_findings().len(), findings, "{}, start {start}", file.display());
                check(&db, &file.display().to_string());
                wait(db.close());
            }
        }
        let disk = loaded();
        disk.remove_dir_all(&Path::new(STORE).join("parts").join(set)).unwrap();
        check(&open(&disk).unwrap(), set);
    }
}

#[test]
fn parts_of_version_3_are_known_to_a_repair() {
    let disk = loaded();
    for set in SETS {
        disk.remove_dir_all(&Path::new(STORE).join("parts").join(set)).unwrap();
    }
    assert!(open(&disk).is_err());
    let vfs: SharedVfs = Arc::new(disk.clone());
    let report = repair(&vfs, Path::new(STORE), RepairOptions::default()).unwrap();
    assert!(report.adopted.len() >= 3 && report.left.is_empty(), "{report:?}");
    check(&open(&disk).unwrap(), "repaired");
}
