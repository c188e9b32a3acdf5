//! A store of format version 1 as it was written once. It must open for ever.
//!
//! The files in `tests/fixtures/v1` are never changed. A new format version gets a folder of its own, written with
//! `TREFOIL_WRITE_FIXTURE=1`, which refuses to overwrite one.

use std::path::{Path, PathBuf};

use trefoil_model::{Exemplar, MetricKind, MetricMetadata, MetricReader, MetricWriter, TenantId, TimeRange, Unlimited};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_runtime::{RealVfs, Vfs};
use trefoil_tsdb::Tsdb;

use crate::support::{
    BASE, DAY_MS, Point, Value, batch, float, histogram, labels, numbered, open, read, request, wait, write,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn point(series: usize, k: i64) -> Point {
    let t = BASE + k * 15_000 + (k * series as i64) % 3;
    let value = match series {
        0 => float(k as f64),
        1 => float(0.25 * (k % 17) as f64),
        2 => float((k as f64 + 1.0).ln()),
        3 => float(trefoil_model::STALE_NAN),
        _ => Value::Histogram(histogram(k as u32)),
    };
    (t, if series == 1 { BASE - 1000 } else { 0 }, value)
}

fn written(from: i64, to: i64) -> Vec<(trefoil_model::Labels, Point)> {
    (from..to).flat_map(|k| (0..5).map(move |s| (numbered(s), point(s, k)))).collect()
}

/// Two flushed parts, a merged one, a part of another day, and samples, an exemplar and metadata in the journal.
fn make(db: &Tsdb) {
    for k in 0..4 {
        write(db, &written(k * 50, k * 50 + 50)).unwrap();
        wait(db.flush()).unwrap();
    }
    while db.merge_once().unwrap() {}
    write(db, &written(200, 220)).unwrap();
    write(db, &[(numbered(0), (BASE + DAY_MS, 0, float(1.5)))]).unwrap();
    wait(db.flush()).unwrap();
    let mut last = batch(&written(220, 240));
    last.exemplars.push(Exemplar { series: 0, t_ms: BASE, value: 1.0, labels: labels(&[("trace_id", "01")]) });
    last.metadata.push(metadata());
    wait(db.write(last)).unwrap();
}

fn metadata() -> MetricMetadata {
    MetricMetadata { name: "m".into(), kind: MetricKind::Gauge, help: "a help".into(), unit: "seconds".into() }
}

fn check(db: &Tsdb) {
    let got = read(db, 0, vec![], TimeRange::new(BASE, BASE + DAY_MS));
    assert_eq!(got.len(), 5);
    for s in 0..5 {
        let want: Vec<Point> = (0..240).map(|k| point(s, k)).collect();
        assert!(got[&numbered(s)] == want, "series {s}");
    }
    let other_day = read(db, 0, vec![], TimeRange::new(BASE + DAY_MS, BASE + 2 * DAY_MS));
    assert_eq!(other_day[&numbered(0)], [(BASE + DAY_MS, 0, float(1.5))]);
    assert_eq!(db.metadata(TenantId(0), None, 0), [metadata()]);
    assert_eq!(db.exemplars(&[request(vec![], TimeRange::ALL)], &Unlimited).unwrap().len(), 1);
}

/// Puts every file below `from` at the same place below `to` on the simulated disk.
fn load(disk: &SimDisk, from: &Path, to: &Path) {
    disk.create_dir_all(to).unwrap();
    for entry in RealVfs.read_dir(from).unwrap() {
        let (from, to) = (from.join(&entry.name), to.join(&entry.name));
        if entry.is_dir {
            load(disk, &from, &to);
        } else {
            let mut file = disk.create(&to).unwrap();
            file.write_all(&RealVfs.read(&from).unwrap()).unwrap();
            file.sync_all().unwrap();
        }
    }
    disk.sync_dir(to).unwrap();
}

#[test]
fn version_1_opens() {
    let disk = SimDisk::new();
    if std::env::var_os("TREFOIL_WRITE_FIXTURE").is_some() {
        let db = open(&disk).unwrap();
        make(&db);
        check(&db);
        wait(db.close());
        drop(db);
        for file in disk.files() {
            let to = folder().join(file.strip_prefix("/data/metrics").unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            assert!(!to.exists(), "fixtures are frozen");
            std::fs::write(to, Vfs::read(&disk, &file).unwrap()).unwrap();
        }
    }
    let disk = SimDisk::new();
    load(&disk, &folder(), Path::new("/data/metrics"));
    let db = open(&disk).unwrap();
    check(&db);
    wait(db.flush()).unwrap();
    check(&db);
    while db.merge_once().unwrap() {}
    check(&db);
}
