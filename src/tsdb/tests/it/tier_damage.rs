//! Damage of parts in an object store: of the cached file, of the object.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trefoil_model::{MetricReader, SampleBuffer, TimeRange, Unlimited};
use trefoil_parts::RemoteOptions;
use trefoil_parts::objects::FolderObjects;
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_runtime::{RealVfs, SharedVfs, SimClock, Vfs};
use trefoil_tsdb::{ObjectStoreOptions, Tsdb, TsdbOptions};

use crate::support::{BASE, DAY_MS, NOW, float, numbered, read, request, wait, write};

fn open(vfs: &SharedVfs, dir: &Path) -> Tsdb {
    let objects = FolderObjects::open(Arc::clone(vfs), &dir.join("store")).unwrap();
    let remote = RemoteOptions { objects: Arc::new(objects), cache_bytes: 1 << 20 };
    let mut options = TsdbOptions::new(dir.join("metrics"), Arc::clone(vfs), SimClock::new(NOW));
    options.object_store = Some(ObjectStoreOptions { remote, after: Duration::from_secs(86_400) });
    Tsdb::open(options).unwrap()
}

/// Two days in the store, one here.
fn prepared(vfs: &SharedVfs, dir: &Path) -> Tsdb {
    let db = open(vfs, dir);
    for day in 0..3 {
        let samples: Vec<_> = (0..5).map(|s| (numbered(s), (BASE + day * DAY_MS, 0, float(day as f64)))).collect();
        write(&db, &samples).unwrap();
        wait(db.flush()).unwrap();
    }
    while db.move_once().unwrap() {}
    db
}

/// What an export of everything reads: samples, and places that are left out.
fn exported(db: &Tsdb) -> Result<(usize, usize), trefoil_model::StoreError> {
    let salvage = db.salvage();
    let mut samples = 0;
    for series in salvage.select(&request(Vec::new(), TimeRange::ALL), &Unlimited)? {
        let mut buffer = SampleBuffer::default();
        series.source.read(TimeRange::ALL, &mut buffer)?;
        samples += buffer.len();
    }
    let (left_out, more) = salvage.left_out();
    assert_eq!(more, 0);
    Ok((samples, left_out.len()))
}

fn file(disk: &SimDisk, of: &str, name: &str) -> PathBuf {
    disk.files().into_iter().find(|path| path.starts_with(of) && path.ends_with(name)).unwrap()
}

#[test]
fn a_damaged_object_is_left_out_of_an_export() {
    type Damage = dyn Fn(&SimDisk, &Path);
    let damage: [(&str, &Damage); 3] = [
        ("flipped", &|disk, path| disk.corrupt(path, |bytes| bytes[20] ^= 1)),
        ("cut", &|disk, path| disk.corrupt(path, |bytes| bytes.truncate(10))),
        ("gone", &|disk, path| disk.remove_file(path).unwrap()),
    ];
    for name in ["index", "blocks"] {
        for (what, damage) in &damage {
            let disk = SimDisk::new();
            let vfs: SharedVfs = Arc::new(disk.clone());
            let db = prepared(&vfs, Path::new("/data"));
            assert_eq!(exported(&db).unwrap(), (15, 0));
            drop(db);
            damage(&disk, &file(&disk, "/data/store", name));
            vfs.remove_dir_all(Path::new("/data/metrics/parts/cache")).unwrap();
            let db = open(&vfs, Path::new("/data"));
            assert_eq!(exported(&db).unwrap(), (10, 1), "{name} {what}");
        }
    }
}

#[test]
fn a_damaged_file_of_the_cache_is_fetched_again() {
    // Only a real file changes under a reader that has it mapped.
    let vfs = RealVfs::shared();
    let dir = std::env::temp_dir().join(format!("trefoil-tier-damage-{}", std::process::id()));
    let db = prepared(&vfs, &dir);
    let cache = dir.join("metrics/parts/cache");
    for name in ["blocks", "index"] {
        assert_eq!(read(&db, 0, Vec::new(), TimeRange::ALL).len(), 5);
        let mut count = 0;
        for entry in std::fs::read_dir(&cache).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().ends_with(name) {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[40..].iter_mut().for_each(|byte| *byte ^= 0x55);
                // In place, as a disk would do it.
                std::io::Write::write_all(&mut std::fs::OpenOptions::new().write(true).open(&path).unwrap(), &bytes)
                    .unwrap();
                count += 1;
            }
        }
        assert_eq!(count, 2);
        let answer = read(&db, 0, Vec::new(), TimeRange::ALL);
        assert!(answer.len() == 5 && answer.values().all(|points| points.len() == 3), "{name}: {answer:?}");
        // What maps the old files lets them go.
        db.move_once().unwrap();
    }
    drop(db);
    std::fs::remove_dir_all(dir).unwrap();
}
