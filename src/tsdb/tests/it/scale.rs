//! Measures of size, on the real disk. Each is ignored and does nothing without `TREFOIL_SCALE_DIR`, a folder that
//! may be filled: `TREFOIL_SCALE_DIR=/big cargo test --release -p trefoil-tsdb --test it -- --ignored --nocapture scale`.
//!
//! Tests run with glibc's allocator, which keeps what each of many short-lived threads freed. With `MALLOC_ARENA_MAX=1`
//! resident memory tells what the store holds: it does not grow from one open store to the next.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use trefoil_model::{
    FloatPoint, Labels, MatchOp, MetricBatch, MetricReader, MetricWriter, TenantId, TimeRange, Unlimited,
};
use trefoil_runtime::{RealVfs, SimClock};
use trefoil_tsdb::{Tsdb, TsdbOptions};

use crate::support::{BASE, DAY_MS, matcher, request, wait};

fn dir(name: &str) -> Option<PathBuf> {
    std::env::var_os("TREFOIL_SCALE_DIR").map(|d| PathBuf::from(d).join(name))
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Resident bytes: (of the process's own memory, of mapped files), in MiB.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or("0");
        line.split_whitespace().find_map(|w| w.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    (of("RssAnon:"), of("RssFile:"))
}

fn open(dir: &std::path::Path) -> Tsdb {
    let mut options = TsdbOptions::new(dir, RealVfs::shared(), SimClock::new(BASE + 20 * DAY_MS));
    options.flush_interval = Duration::from_secs(1 << 30);
    options.limits.series_new_per_minute_max = u64::MAX;
    Tsdb::open(options).unwrap()
}

/// Ten labels, about 300 bytes.
fn series(i: u64) -> Labels {
    let text = |name: &str, modulo: u64, length: usize| {
        let mut value = format!("{name}-{}", i % modulo);
        value.extend(std::iter::repeat_n('x', length.saturating_sub(value.len())));
        value
    };
    Labels::from_pairs([
        ("__name__", text("http_requests", 200, 34)),
        ("cluster", text("cluster", 5, 20)),
        ("container", text("container", 50, 24)),
        ("instance", text("10.0.0.1", 10_000, 24)),
        ("job", text("job", 40, 16)),
        ("namespace", text("namespace", 100, 24)),
        ("path", text("/api/v1/items", 1 << 40, 40)),
        ("pod", text("pod-7f8d9c", 10_000, 36)),
        ("status", text("20", 6, 3)),
        ("zone", text("eu-central", 3, 14)),
    ])
}

fn write(db: &Tsdb, numbers: std::ops::Range<u64>, t_ms: i64) {
    let mut at = numbers.start;
    while at < numbers.end {
        let mut batch = MetricBatch::default();
        for i in at..(at + 5000).min(numbers.end) {
            let series = batch.add_series(series(i));
            batch.floats.push(FloatPoint { series, t_ms, start_ms: 0, value: (i % 97) as f64 + (t_ms % 7) as f64 });
        }
        at += 5000;
        let report = wait(db.write(batch)).unwrap();
        assert_eq!(report.rejected, 0, "{:?}", report.reasons);
    }
}

#[test]
#[ignore = "measures; needs TREFOIL_SCALE_DIR"]
fn scale_write_active_series() {
    let Some(dir) = dir("active") else { return };
    let (count, rounds) = (number("TREFOIL_SCALE_SERIES", 1_000_000), number("TREFOIL_SCALE_ROUNDS", 10) as i64);
    let db = open(&dir);
    for round in 0..rounds {
        write(&db, 0..count, BASE + round * 60_000);
        println!("round {round}: {} series, resident {:?} MiB", db.active_series(), resident());
    }
    // As after a kill: nothing is flushed.
    wait(db.close());
}

#[test]
#[ignore = "measures; run it after scale_write_active_series"]
fn scale_replay_active_series() {
    let Some(dir) = dir("active") else { return };
    let begun = Instant::now();
    let db = open(&dir);
    println!("{} series replayed in {:?}, resident {:?} MiB", db.active_series(), begun.elapsed(), resident());
    wait(db.close());
}

#[test]
#[ignore = "measures; needs TREFOIL_SCALE_DIR"]
fn scale_write_parts() {
    let Some(dir) = dir("parts") else { return };
    let (count, days) = (number("TREFOIL_SCALE_SERIES", 1_000_000), number("TREFOIL_SCALE_DAYS", 10));
    for day in 0..days {
        // Other series every day: ten million in all.
        let db = open(&dir);
        write(&db, day * count..(day + 1) * count, BASE + day as i64 * DAY_MS);
        wait(db.flush()).unwrap();
        wait(db.close());
        println!("day {day} written, resident {:?} MiB", resident());
    }
}

#[test]
#[ignore = "measures; run it after scale_write_parts"]
fn scale_open_parts() {
    let Some(dir) = dir("parts") else { return };
    println!("before: resident {:?} MiB", resident());
    let begun = Instant::now();
    let db = open(&dir);
    println!("opened in {:?}, resident {:?} MiB", begun.elapsed(), resident());
    let last = TimeRange::new(BASE + 9 * DAY_MS, BASE + 10 * DAY_MS);
    for range in [last, TimeRange::ALL] {
        let begun = Instant::now();
        let matchers = vec![matcher(MatchOp::Regex, "path", "/api/v1/items-9[0-9]*77777x*")];
        let found = db.select(&request(matchers, range), &Unlimited).unwrap();
        println!("{} series found in {:?}, resident {:?} MiB", found.len(), begun.elapsed(), resident());
        let begun = Instant::now();
        let (values, _) = db.label_values(TenantId(0), "job", range, &[], 0, &Unlimited).unwrap();
        println!("{} jobs in {:?}, resident {:?} MiB", values.len(), begun.elapsed(), resident());
    }
    wait(db.close());
}
