//! A day of a store with churn: series end and begin, memtables are flushed, parts are merged, and nothing grows.
//!
//! The clock is simulated, the disk is real. The short form runs 20,000 series for a day at 5 minutes a sample;
//! `TREFOIL_TORTURE=1` runs a million at 60 s, which takes an hour or so and some GB of disk, and prints what every
//! simulated hour took. `TREFOIL_ENDURANCE_SERIES` sets another number of series for either form.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trefoil_model::{
    FloatPoint, Labels, MatchOp, Matcher, MetricBatch, MetricReader, MetricWriter, SampleBuffer, SelectRequest,
    TenantId, TimeRange, Unlimited,
};
use trefoil_runtime::{Accountant, Limits, Pool, RealVfs, SimClock};
use trefoil_tsdb::{Tsdb, TsdbOptions};

const HOUR_MS: i64 = 3_600_000;
const HOURS: usize = 24;
/// Noon, so that half of the run falls on either side of a midnight.
const BEGIN: i64 = 19_700 * 24 * HOUR_MS + 12 * HOUR_MS;
const BATCH: usize = 5000;
/// Metrics that a target has.
const METRICS: usize = 50;
/// Merges that may be due after a minute.
const MERGES_MAX: usize = 16;

/// The form of the run.
struct Form {
    series: usize,
    step_ms: i64,
    budget: u64,
}

impl Form {
    fn from_environment() -> Self {
        let is_long = std::env::var_os("TREFOIL_TORTURE").is_some();
        let series = std::env::var("TREFOIL_ENDURANCE_SERIES").ok().and_then(|v| v.parse().ok());
        let (all, step_ms) = if is_long { (1_000_000, 60_000) } else { (20_000, 300_000) };
        let series = series.unwrap_or(all);
        // About what the server gives a store of that many series, so that the pool's rules count.
        let budget = (64 << 20) + series as u64 * 5000;
        Self { series, step_ms, budget }
    }
}

/// Removes the folder at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The labels of series `i` in its `generation`: ten, about 250 bytes, as a pod's metrics have.
fn labels(i: usize, generation: usize) -> Labels {
    let (target, metric) = (i / METRICS, i % METRICS);
    Labels::from_pairs([
        ("__name__", format!("container_some_longer_metric_name_{metric}_total")),
        ("cluster", "production-eu-west-1".to_owned()),
        ("container", format!("service-{}", target % 40)),
        ("endpoint", "https-metrics".to_owned()),
        ("id", format!("/kubepods/burstable/pod{target:08x}{generation:04x}/{:016x}", target * 7919 + generation)),
        ("image", format!("registry.example/service-{}:v1.2.{}", target % 40, generation)),
        ("instance", format!("10.0.{}.{}:10250", target / 250 % 250, target % 250)),
        ("job", "kubelet".to_owned()),
        ("namespace", format!("team-{}", target % 25)),
        ("pod", format!("service-{}-{generation}-{target}", target % 40)),
    ])
}

/// A counter that grows by its own pace with some noise.
fn value(i: usize, t: i64) -> f64 {
    let seconds = (t - BEGIN) / 1000;
    let pace = (i % 97) as i64;
    let noise = (i as i64).wrapping_mul(2_654_435_761).wrapping_add(t).wrapping_mul(0x5851_f42d_4c95_7f2d) >> 59;
    (seconds * pace / 4 + noise) as f64
}

struct Hour {
    parts: usize,
    memtable: u64,
    resident: u64,
    merges: usize,
    backlog: usize,
    query: Duration,
}

/// Bytes that the process holds in memory, mapped files left out; 0 where that cannot be read. Those of other tests are in
/// it, so it is only printed.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Reads the last hour of one metric; returns how many samples there are and the shortest of five times.
fn query(db: &Tsdb, now: i64) -> (usize, Duration) {
    let range = TimeRange::new(now - HOUR_MS + 1, now + 1);
    let name = Matcher::new(MatchOp::Equal, "__name__", "container_some_longer_metric_name_3_total").unwrap();
    let request = SelectRequest { tenant: TenantId(0), matchers: vec![name], range };
    let mut best = Duration::MAX;
    let mut samples = 0;
    for _ in 0..5 {
        let begun = Instant::now();
        let mut buffer = SampleBuffer::default();
        samples = 0;
        for series in db.select(&request, &Unlimited).unwrap() {
            buffer.clear();
            series.source.read(range, &mut buffer).unwrap();
            samples += buffer.len();
        }
        best = best.min(begun.elapsed());
    }
    (samples, best)
}

#[test]
fn a_day_with_churn_leaves_nothing_behind() {
    let form = Form::from_environment();
    let folder = Folder(std::env::temp_dir().join(format!("trefoil-endurance-{}", std::process::id())));
    let clock = SimClock::new(BEGIN);
    let accountant = Accountant::new(form.budget);
    let options = TsdbOptions {
        accountant: accountant.clone(),
        limits: Limits {
            series_active_max: u64::MAX,
            series_new_per_minute_max: u64::MAX,
            disk_free_floor_bytes: 0,
            ..Limits::default()
        },
        ..TsdbOptions::new(&folder.0, Arc::new(RealVfs), clock.clone())
    };
    let db = Tsdb::open(options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut fleet: Vec<Labels> = (0..form.series).map(|i| labels(i, 0)).collect();
    let steps = HOUR_MS / form.step_ms;
    let mut hours: Vec<Hour> = Vec::new();
    let mut now = BEGIN;
    for hour in 0..HOURS {
        if hour > 0 {
            let tenth = form.series / 10;
            for (i, series) in fleet.iter_mut().enumerate().skip((hour - 1) % 10 * tenth).take(tenth) {
                *series = labels(i, hour);
            }
        }
        let (mut memtable, mut merges, mut backlog) = (0, 0, 0);
        let (mut writing, mut flushing, mut merging) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        for _ in 0..steps {
            clock.advance(Duration::from_millis(form.step_ms as u64));
            now += form.step_ms;
            for (k, chunk) in fleet.chunks(BATCH).enumerate() {
                let batch = MetricBatch {
                    series: chunk.to_vec(),
                    floats: (0..chunk.len())
                        .map(|i| {
                            // Scrapes of different targets lie at different times.
                            let t_ms = now - (k as i64 * 37) % form.step_ms;
                            FloatPoint { series: i as u32, t_ms, start_ms: 0, value: value(k * BATCH + i, t_ms) }
                        })
                        .collect(),
                    ..MetricBatch::default()
                };
                let begun = Instant::now();
                let report = runtime.block_on(db.write(batch)).unwrap();
                writing += begun.elapsed();
                assert_eq!((report.accepted, report.rejected), (chunk.len() as u64, 0), "{:?}", report.reasons);
                memtable = memtable.max(accountant.used(Pool::Memtable));
                if db.should_flush() {
                    let begun = Instant::now();
                    runtime.block_on(db.flush()).unwrap();
                    flushing += begun.elapsed();
                }
            }
            let begun = Instant::now();
            let due = (0..=MERGES_MAX).take_while(|_| db.merge_once().unwrap()).count();
            merging += begun.elapsed();
            merges += due;
            backlog = backlog.max(due);
        }
        let (samples, time) = query(&db, now);
        assert_eq!(
            samples as i64,
            steps * form.series.div_ceil(METRICS) as i64,
            "hour {hour}: samples of the last hour"
        );
        let parts = db.part_infos().len();
        let resident = resident();
        eprintln!(
            "hour {hour}: parts {parts}, memtable {} MiB, resident {} MiB, merges {merges} (at once {backlog}), writing \
             {writing:.1?}, flushing {flushing:.1?}, merging {merging:.1?}, disk {} MiB, query {time:.2?}",
            memtable >> 20,
            resident >> 20,
            db.disk_bytes() >> 20,
        );
        hours.push(Hour { parts, memtable, resident, merges, backlog, query: time });
    }

    // Two days, of each at most three parts a level that wait for their fourth.
    let parts_max = hours.iter().map(|h| h.parts).max().unwrap();
    assert!(parts_max <= 16, "{parts_max} parts");
    assert!(hours.iter().all(|h| h.backlog < MERGES_MAX), "merges fall behind");
    assert!(hours.iter().map(|h| h.merges).sum::<usize>() > 2, "something was merged");
    let most = |range: std::ops::Range<usize>, of: fn(&Hour) -> u64| hours[range].iter().map(of).max().unwrap();
    let (early, late) = (most(2..12, |h| h.memtable), most(12..HOURS, |h| h.memtable));
    assert!(late <= early + early / 4, "memtables grew from {early} to {late} bytes");
    assert!(late <= accountant.limit(Pool::Memtable), "the pool holds");
    let (early, late) = (most(2..12, |h| h.resident), most(12..HOURS, |h| h.resident));
    eprintln!("resident at most {} MiB in hours 2 to 11, {} MiB from then on", early >> 20, late >> 20);
    let times = |range: std::ops::Range<usize>| {
        let mut times: Vec<Duration> = hours[range].iter().map(|h| h.query).collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    eprintln!("query of an hour, median: {:.2?} in hours 1 to 6, {:.2?} in the last 6", times(1..7), times(18..HOURS));
    runtime.block_on(db.close());
}
