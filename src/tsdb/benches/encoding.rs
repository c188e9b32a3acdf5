//! Speed and size of parts: samples a second and core, bytes a sample.
//!
//! `cargo bench -p trefoil-tsdb` measures made-up series; with a folder that holds the files `index` and `blocks` of a
//! part behind it (`-- DIR`) those of the part as well, with what its bytes are for. `--only=TEXT` measures the cases
//! with this text in their name.
#![expect(clippy::print_stdout, reason = "a benchmark says what it measured")]

use std::path::Path;
use std::time::{Duration, Instant};

use trefoil_model::{Labels, SampleBuffer};
use trefoil_tsdb::measure::PartFiles;

const START: i64 = 1_700_006_400_000;
/// Rounds of which the fastest counts: other work on the machine slows the others.
const ROUNDS: usize = 25;

type Series = Vec<(Labels, SampleBuffer)>;

/// Whole numbers that look random; the same on every run.
fn noise(i: u64) -> i64 {
    let mut x = i.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    (x.wrapping_mul(0x94d0_49bb_1331_11eb) >> 40) as i64
}

/// How the times of samples lie.
#[derive(Clone, Copy)]
enum Times {
    Regular,
    /// Some milliseconds off, all series in the same way.
    Shared,
    /// Some milliseconds off, each series in its own way.
    Own,
}

/// `count` series of `len` samples.
fn made(count: usize, len: usize, times: Times, value: impl Fn(i64, i64) -> f64) -> Series {
    let series = |s: usize| {
        let mut samples = SampleBuffer::default();
        let mut total = 0;
        for i in 0..len as i64 {
            let n = noise((s * len) as u64 + i as u64);
            total += n % 100;
            let jitter = match times {
                Times::Regular => 0,
                Times::Shared => noise(i as u64) % 5,
                Times::Own => n / 64 % 5,
            };
            let t = START + i * 10_000 + jitter;
            samples.push_float(t, 0, value(total, n));
        }
        (Labels::from_pairs([("__name__".to_owned(), format!("m{s:06}"))]), samples)
    };
    (0..count).map(series).collect()
}

fn best(rounds: usize, mut work: impl FnMut()) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..rounds {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed());
    }
    best
}

fn measure(name: &str, series: &Series, describe: bool) {
    let count: usize = series.iter().map(|(_, s)| s.len()).sum();
    let rate = |d: Duration| count as f64 / d.as_secs_f64() / 1e6;
    for (effort, merged) in [("fresh", false), ("merged", true)] {
        let mut part = PartFiles::encode(merged, series);
        let encode = best(4, || part = PartFiles::encode(merged, series));
        let mut sum = 0.0;
        let decode =
            best(ROUNDS, || part.decode(|s| sum += s.values[s.values.len() / 2]).expect("what was written is read"));
        let per_sample = |bytes: usize| bytes as f64 / count as f64;
        println!(
            "{name:<37} {effort:<7} in {:>6.1} M/s  out {:>7.1} M/s  {:.3} B/sample + index {:.3}",
            rate(encode),
            rate(decode),
            per_sample(part.blocks.len()),
            per_sample(part.index.len()),
        );
        if describe {
            for (what, (times, bytes)) in part.describe() {
                println!("    {what:<44} {times:>8} x  {:.4} B/sample", per_sample(bytes as usize));
            }
        }
    }
}

fn main() {
    let folder = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    if let Some(folder) = folder {
        let read = |name: &str| std::fs::read(Path::new(&folder).join(name)).expect("the folder has the files").into();
        let part = PartFiles { index: read("index"), blocks: read("blocks") };
        let series = part.series().expect("the part is whole");
        measure(&folder, &series, true);
    }
    let only = std::env::args().find_map(|a| a.strip_prefix("--only=").map(str::to_owned)).unwrap_or_default();
    for len in [120, 480, 4096] {
        let count = 400_000 / len;
        for (what, times) in [("regular", Times::Regular), ("jitter", Times::Shared), ("own times", Times::Own)] {
            let show = |name: &str, value: &dyn Fn(i64, i64) -> f64| {
                let name = format!("{name}, {what} x {len}");
                if name.contains(&only) {
                    measure(&name, &made(count, len, times, value), false);
                }
            };
            show("counter", &|total, _| total as f64);
            show("gauge of hundredths", &|_, n| (n % 5000) as f64 / 100.0);
            show("random floats", &|_, n| (n as f64).sqrt());
        }
    }
}
