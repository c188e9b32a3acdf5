//! A store with downsampled parts in an object store, whose commits are of version 2, as it was written once. It must
//! open for ever and answer the same.
//!
//! The files in `tests/fixtures/commit-v2` are never changed: `metrics` is the store, `store` the object store (which lay
//! at `/store`), `answers` what it answered. Written with `TREFOIL_WRITE_FIXTURE=commit-v2`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trefoil_model::{MetricReader, SampleBuffer, TimeRange, Unlimited};
use trefoil_parts::RemoteOptions;
use trefoil_parts::objects::FolderObjects;
use trefoil_runtime::Vfs;
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_tsdb::{DownsamplingRule, ObjectStoreOptions, SeriesIds, Tsdb};

use crate::fixture::load;
use crate::support::{BASE, DAY_MS, Value, float, histogram, numbered, options, points, request, wait, write};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/commit-v2")
}

fn open(disk: &SimDisk) -> Tsdb {
    let objects = FolderObjects::open(Arc::new(disk.clone()), Path::new("/store")).unwrap();
    let remote = RemoteOptions { objects: Arc::new(objects), cache_bytes: 1 << 20 };
    let mut options = options(disk);
    options.object_store = Some(ObjectStoreOptions { remote, after: Duration::from_secs(86_400) });
    let (after, interval) = (Duration::from_secs(86_400), Duration::from_secs(300));
    options.policy.downsampling = vec![DownsamplingRule { matchers: Vec::new(), after, interval }];
    Tsdb::open(options).unwrap()
}

/// Four days of a gauge, a counter with resets and a histogram; what is due is downsampled and moved.
fn make(db: &Tsdb) {
    for day in 0..4 {
        let samples: Vec<_> = (0..360)
            .flat_map(|k| {
                let t = BASE + day * DAY_MS + k * 60_000;
                let values = [
                    float(((k * 7919) % 101) as f64 / 4.0),
                    float((k % 50 * 3) as f64),
                    Value::Histogram(histogram((day * 360 + k) as u32)),
                ];
                values.into_iter().enumerate().map(move |(s, value)| (numbered(s), (t, 0, value)))
            })
            .collect();
        write(db, &samples).unwrap();
        if day < 3 {
            wait(db.flush()).unwrap();
        }
    }
    while db.merge_once().unwrap() {}
    while db.move_once().unwrap() {}
}

/// Everything that is there, as text.
fn answers(db: &Tsdb) -> String {
    let mut out = String::new();
    for series in db.select(&request(Vec::new(), TimeRange::ALL), &Unlimited).unwrap() {
        let mut buffer = SampleBuffer::default();
        series.source.read(TimeRange::ALL, &mut buffer).unwrap();
        writeln!(out, "series {}", series.labels).unwrap();
        for (t, _, value) in points(&buffer) {
            match value {
                Value::Float(bits) => writeln!(out, "{t} {bits:016x}").unwrap(),
                Value::Histogram(h) => writeln!(out, "{t} histogram {} {}", h.count, h.sum).unwrap(),
            }
        }
        for r in &buffer.rollups {
            writeln!(out, "rollup {} {} {} {:016x}", r.end, r.interval_ms, r.count, r.sum.to_bits()).unwrap();
        }
    }
    out
}

fn save(disk: &SimDisk, below: &str, to: &Path) {
    for file in
        disk.files().iter().filter(|path| path.starts_with(below) && !path.to_string_lossy().contains("/cache/"))
    {
        let to = to.join(file.strip_prefix(below).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        assert!(!to.exists(), "fixtures are frozen");
        std::fs::write(to, Vfs::read(disk, file).unwrap()).unwrap();
    }
}

#[test]
fn commits_of_version_2_open() {
    let folder = folder();
    if std::env::var("TREFOIL_WRITE_FIXTURE").is_ok_and(|v| v == "commit-v2") {
        let disk = SimDisk::new();
        let db = open(&disk);
        make(&db);
        let answers = answers(&db);
        wait(db.close());
        drop(db);
        save(&disk, "/data/metrics", &folder.join("metrics"));
        save(&disk, "/store", &folder.join("store"));
        std::fs::write(folder.join("answers"), answers).unwrap();
    }
    let expected = std::fs::read_to_string(folder.join("answers")).unwrap();
    assert!(expected.matches("rollup ").count() > 100);
    let disk = SimDisk::new();
    load(&disk, &folder.join("metrics"), Path::new("/data/metrics"));
    load(&disk, &folder.join("store"), Path::new("/store"));
    let commits = disk.files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "commit"));
    let versions: Vec<Vec<u8>> = commits.map(|path| Vfs::read(&disk, &path).unwrap()[..16].to_vec()).collect();
    assert!(versions.iter().any(|head| head == b"trefoil-commit 2"), "{versions:?}");

    let db = open(&disk);
    let infos = db.part_infos();
    assert_eq!(infos.iter().filter(|p| p.is_remote).count(), 2, "{infos:?}");
    for info in &infos {
        assert_eq!(db.verify_part(info.id, &mut SeriesIds::default()).unwrap(), [""; 0]);
    }
    assert!(answers(&db) == expected);
    wait(db.flush()).unwrap();
    while db.merge_once().unwrap() {}
    while db.move_once().unwrap() {}
    assert!(answers(&db) == expected, "after what a server does");
}
