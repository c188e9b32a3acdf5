//! A downsampled store as it was written once, floats and native histograms. It must open for ever.
//!
//! The files in `tests/fixtures/downsampled` are never changed; `TREFOIL_WRITE_FIXTURE=downsampled` writes a missing one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trefoil_model::{FloatHistogram, MetricReader, SampleBuffer, SelectRequest, TenantId, TimeRange, Unlimited};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_runtime::{SimClock, Vfs};
use trefoil_tsdb::{DownsamplingRule, Policy, Tsdb, TsdbOptions};

use crate::support::{BASE, DAY_MS, Value, float, histogram, labels, wait, write};

fn open(disk: &SimDisk) -> Tsdb {
    let clock = SimClock::new(BASE + 3 * DAY_MS);
    let mut options = TsdbOptions::new("/data/metrics", Arc::new(disk.clone()), clock);
    let interval = Duration::from_secs(1800);
    let rule = DownsamplingRule { matchers: Vec::new(), after: Duration::ZERO, interval };
    options.policy = Policy { downsampling: vec![rule], ..Policy::default() };
    Tsdb::open(options).unwrap()
}

fn make(db: &Tsdb) {
    let mut samples = Vec::new();
    for k in 0..720i64 {
        let t = BASE + k * 120_000;
        let rising = FloatHistogram { zero_count: 0.0, ..(*histogram((k % 500) as u32 * 2)).clone() };
        for (name, value) in [
            ("c_total", float((k % 300) as f64)),
            ("g", float((k * 7919 % 101) as f64)),
            ("h", Value::Histogram(Arc::new(rising.clone()))),
        ] {
            samples.push((labels(&[("__name__", name)]), (t, 0, value)));
        }
    }
    write(db, &samples).unwrap();
    wait(db.flush()).unwrap();
    while db.merge_once().unwrap() {}
}

/// Of each series: name, samples, rollups, count, sum, histograms, and the sum of what its counter falls by.
fn summary(db: &Tsdb) -> Vec<(String, usize, usize, u64, f64, u64, f64)> {
    let request = SelectRequest { tenant: TenantId(0), matchers: Vec::new(), range: TimeRange::ALL };
    let of = |s: trefoil_model::SelectedSeries| {
        let mut b = SampleBuffer::default();
        s.source.read(TimeRange::ALL, &mut b).unwrap();
        let values: Vec<f64> = match b.histograms.len() {
            0 => b.values.clone(),
            _ => b.histograms.iter().map(|(_, h)| h.count).collect(),
        };
        let falls = values.windows(2).map(|w| (w[0] - w[1]).max(0.0)).sum();
        let count = b.rollups.iter().map(|r| r.count).sum();
        let sum = b.rollups.iter().map(|r| r.sum).sum();
        let histograms = b.rollups.iter().map(|r| r.histograms).sum();
        (s.labels.metric_name().to_owned(), b.len(), b.rollups.len(), count, sum, histograms, falls)
    };
    db.select(&request, &Unlimited).unwrap().into_iter().map(of).collect()
}

fn check(db: &Tsdb, context: &str) {
    let sum = |f: fn(i64) -> i64| (0..720).map(f).sum::<i64>() as f64;
    let all = summary(db);
    // The buckets end at the half hours; the sample at midnight is in one of its own.
    let [c, g, h] = &all[..] else { panic!("{context}: {all:?}") };
    assert_eq!((c.0.as_str(), c.2, c.3, c.4, c.5, c.6), ("c_total", 49, 720, sum(|k| k % 300), 0, 598.0), "{context}");
    assert_eq!((g.0.as_str(), g.2, g.3, g.4, g.5), ("g", 49, 720, sum(|k| k * 7919 % 101), 0), "{context}");
    assert_eq!((h.0.as_str(), h.2, h.3, h.4, h.5), ("h", 49, 0, 0.0, 720), "{context}");
    assert!(c.1 < 160 && g.1 < 160 && h.1 < 60 && h.6 == 998.0, "{context}: {all:?}");
}

#[test]
fn a_downsampled_store_opens() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/downsampled");
    if std::env::var("TREFOIL_WRITE_FIXTURE").is_ok_and(|v| v == "downsampled") {
        let disk = SimDisk::new();
        let db = open(&disk);
        make(&db);
        check(&db, "as written");
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
    crate::fixture::load(&disk, &folder, Path::new("/data/metrics"));
    let db = open(&disk);
    check(&db, "opened");
    while db.merge_once().unwrap() {}
    check(&db, "merged");
}
