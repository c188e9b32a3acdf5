//! A store of each format version as it was written once. They must open for ever.
//!
//! The files in `tests/fixtures/v1` and so on are never changed. A new format version gets a folder of its own, written
//! with `TREFOIL_WRITE_FIXTURE=N` by the build whose version N is; it refuses to overwrite one.

use std::path::{Path, PathBuf};

use trefoil_model::{Exemplar, MetricKind, MetricMetadata, MetricReader, MetricWriter, TenantId, TimeRange, Unlimited};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_runtime::{RealVfs, Vfs};
use trefoil_tsdb::Tsdb;

use crate::support::{
    BASE, DAY_MS, Point, Value, batch, float, histogram, labels, numbered, open, read, request, wait, write,
};

/// What is in a fixture: so many series, and points of each.
#[derive(Clone, Copy)]
struct Fixture {
    version: u32,
    series: usize,
    points: i64,
}

const V1: Fixture = Fixture { version: 1, series: 5, points: 240 };
/// Long enough for blocks with `pco`.
const V2: Fixture = Fixture { version: 2, series: 9, points: 2400 };
/// As before, with `pco` in pages.
const V3: Fixture = Fixture { version: 3, ..V2 };

impl Fixture {
    fn folder(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/v{}", self.version))
    }

    fn written(self, from: i64, to: i64) -> Vec<(trefoil_model::Labels, Point)> {
        (from..to).flat_map(|k| (0..self.series).map(move |s| (numbered(s), point(s, k)))).collect()
    }
}

fn point(series: usize, k: i64) -> Point {
    let t = match series {
        7.. => BASE + k * 15_000,
        _ => BASE + k * 15_000 + (k * series as i64) % 3,
    };
    let value = match series {
        0 => float(k as f64),
        1 => float(0.25 * (k % 17) as f64),
        2 => float((k as f64 + 1.0).ln()),
        3 => float(trefoil_model::STALE_NAN),
        4 => Value::Histogram(histogram(k as u32)),
        5 => float(((k * k * 7919) % 977 * 4096) as f64),
        // Seldom far away, which is what suits pco and not groups.
        6 => float(((k * 7919) % 31 * ((k * 104_729) % 29) * ((k * 1_299_709) % 37)) as f64 / 100.0),
        7 => float(0.1),
        _ => float(((k * 7919) % 1009) as f64 / 3.0),
    };
    (t, if series == 1 { BASE - 1000 } else { 0 }, value)
}

/// A flushed part, a merged one, a part of another day, and samples, an exemplar and metadata in the journal.
fn make(fixture: Fixture, db: &Tsdb) {
    let (merged, end) = (fixture.points * 5 / 6, fixture.points);
    for k in 0..4 {
        write(db, &fixture.written(merged / 4 * k, merged / 4 * (k + 1))).unwrap();
        wait(db.flush()).unwrap();
    }
    while db.merge_once().unwrap() {}
    write(db, &fixture.written(merged, end - 20)).unwrap();
    write(db, &[(numbered(0), (BASE + DAY_MS, 0, float(1.5)))]).unwrap();
    wait(db.flush()).unwrap();
    let mut last = batch(&fixture.written(end - 20, end));
    last.exemplars.push(Exemplar { series: 0, t_ms: BASE, value: 1.0, labels: labels(&[("trace_id", "01")]) });
    last.metadata.push(metadata());
    wait(db.write(last)).unwrap();
}

fn metadata() -> MetricMetadata {
    MetricMetadata { name: "m".into(), kind: MetricKind::Gauge, help: "a help".into(), unit: "seconds".into() }
}

fn check(fixture: Fixture, db: &Tsdb) {
    let got = read(db, 0, vec![], TimeRange::new(BASE, BASE + DAY_MS));
    assert_eq!(got.len(), fixture.series);
    for s in 0..fixture.series {
        let want: Vec<Point> = (0..fixture.points).map(|k| point(s, k)).collect();
        assert!(got[&numbered(s)] == want, "series {s}");
    }
    let other_day = read(db, 0, vec![], TimeRange::new(BASE + DAY_MS, BASE + 2 * DAY_MS));
    assert_eq!(other_day[&numbered(0)], [(BASE + DAY_MS, 0, float(1.5))]);
    assert_eq!(db.metadata(TenantId(0), None, 0), [metadata()]);
    assert_eq!(db.exemplars(&[request(vec![], TimeRange::ALL)], &Unlimited).unwrap().len(), 1);
}

/// Puts every file below `from` at the same place below `to` on the simulated disk.
pub(crate) fn load(disk: &SimDisk, from: &Path, to: &Path) {
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

fn check_opens(fixture: Fixture) {
    let folder = fixture.folder();
    if std::env::var("TREFOIL_WRITE_FIXTURE").is_ok_and(|v| v == fixture.version.to_string()) {
        let disk = SimDisk::new();
        let db = open(&disk).unwrap();
        make(fixture, &db);
        check(fixture, &db);
        wait(db.close());
        drop(db);
        for file in disk.files() {
            let to = folder.join(file.strip_prefix("/data/metrics").unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            assert!(!to.exists(), "fixtures are frozen");
            std::fs::write(to, Vfs::read(&disk, &file).unwrap()).unwrap();
        }
    }
    let disk = SimDisk::new();
    load(&disk, &folder, Path::new("/data/metrics"));
    let db = open(&disk).unwrap();
    check(fixture, &db);
    wait(db.flush()).unwrap();
    check(fixture, &db);
    while db.merge_once().unwrap() {}
    check(fixture, &db);
}

#[test]
fn version_1_opens() {
    check_opens(V1);
}

#[test]
fn version_2_opens() {
    check_opens(V2);
}

#[test]
fn version_3_opens() {
    check_opens(V3);
}
