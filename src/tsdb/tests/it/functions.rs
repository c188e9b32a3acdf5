//! Every range function over downsampled samples beside the raw ones, with the error that `config/REFERENCE.md` states:
//! an answer lies between that over the whole buckets inside the window and that over all the buckets it touches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use trefoil_model::{CounterResetHint, FloatHistogram, HistogramSpan, Labels, Rollup, TenantId, TimeRange, Unlimited};
use trefoil_promql::annotations::NoteKind;
use trefoil_promql::{Engine, EngineOptions, ParserOptions, QueryOptions, SampleValue, Value as Answer};
use trefoil_runtime::SimClock;
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_tsdb::{DownsamplingRule, Policy, Tsdb, TsdbOptions};

use crate::support::{BASE, DAY_MS, Point, Value, float, labels, read, wait, write};

const STEP_MS: i64 = 60_000;
const MIN_MS: i64 = 60_000;
/// Up to here samples are downsampled.
const ROLLED_UNTIL: i64 = BASE + 2 * DAY_MS;
const END: i64 = ROLLED_UNTIL + DAY_MS / 4;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Samples of a series as numbers.
#[derive(Default)]
struct Numbers {
    /// As written.
    values: Vec<(i64, f64)>,
    /// Without resets.
    rising: Vec<(i64, f64)>,
}

impl Numbers {
    fn push(&mut self, t: i64, v: f64, is_reset: bool) {
        let (value, rising) = match (self.values.last(), self.rising.last()) {
            (Some((_, before)), Some((_, sum))) => (v, sum + if is_reset { v } else { v - before }),
            _ => (v, v),
        };
        self.values.push((t, value));
        self.rising.push((t, rising));
    }
}

fn within(all: &[(i64, f64)], after: i64, until: i64) -> &[(i64, f64)] {
    let from = all.partition_point(|(t, _)| *t <= after);
    &all[from..all.partition_point(|(t, _)| *t <= until).max(from)]
}

fn least(all: &[(i64, f64)]) -> f64 {
    all.iter().map(|(_, v)| *v).fold(f64::INFINITY, f64::min)
}

fn most(all: &[(i64, f64)]) -> f64 {
    all.iter().map(|(_, v)| *v).fold(f64::NEG_INFINITY, f64::max)
}

fn total(all: &[(i64, f64)]) -> f64 {
    all.iter().map(|(_, v)| *v).sum()
}

#[derive(Default)]
struct Data {
    written: Vec<(Labels, Point)>,
    fast: Numbers,
    slow: Numbers,
    walk: Numbers,
    noise: Numbers,
    line: Numbers,
    /// Populations of the buckets of a counter histogram.
    buckets: [Numbers; 3],
    gauge: Numbers,
}

const SCALE: f64 = 7.5 / 60_000.0;

fn counter_histogram(counts: [u64; 3], hint: CounterResetHint) -> Value {
    let buckets = counts.map(|c| c as f64);
    Value::Histogram(Arc::new(FloatHistogram {
        schema: 0,
        zero_threshold: 1e-128,
        count: buckets.iter().sum(),
        sum: buckets.iter().sum::<f64>() * 3.0,
        positive_spans: vec![HistogramSpan { offset: 1, length: 3 }],
        positive_buckets: buckets.to_vec(),
        counter_reset_hint: hint,
        integer: true,
        ..FloatHistogram::default()
    }))
}

impl Data {
    fn new(seed: u64) -> Self {
        let (mut random, mut data) = (Random(seed), Self::default());
        let (mut fast, mut slow, mut walk, mut skip_until) = (0, 0, 5_000i64, 0);
        let mut counts = [0u64; 3];
        let mut same = 0;
        for i in 0..(END - BASE) / STEP_MS {
            let t = BASE + i * STEP_MS + random.below(9_000) as i64;
            if random.below(400) == 0 {
                skip_until = t + random.below(3 * MIN_MS as u64) as i64;
            }
            if t < skip_until {
                continue;
            }
            let mut add = |name: &str, value: Value| {
                data.written.push((labels(&[("__name__", name), ("job", "a"), ("instance", "b")]), (t, 0, value)));
            };
            let is_reset = random.below(150) == 0 && i > 0;
            fast = if is_reset { 0 } else { fast } + random.below(50);
            // A reset to as much as there was before is none that anybody could see.
            let seen_reset = is_reset && data.fast.values.last().is_some_and(|(_, v)| (fast as f64) < *v);
            data.fast.push(t, fast as f64, seen_reset);
            add("fast_total", float(fast as f64));
            slow += u64::from(random.below(60) == 0);
            data.slow.push(t, slow as f64, false);
            add("slow_total", float(slow as f64));
            walk = (walk + random.below(201) as i64 - 100).max(0);
            data.walk.push(t, walk as f64 / 4.0, false);
            add("walk", float(walk as f64 / 4.0));
            let noise = random.below(1000) as f64;
            data.noise.push(t, noise, false);
            add("noise", float(noise));
            let line = (t - BASE) as f64 * SCALE;
            data.line.push(t, line, false);
            add("line", float(line));
            let resets = random.below(150) == 0 && counts[0] > 20;
            for c in &mut counts {
                *c = if resets { 0 } else { *c } + random.below(20);
            }
            let falls = data.buckets.iter().zip(counts).any(|(n, c)| n.values.last().is_some_and(|b| b.1 > c as f64));
            for (numbers, c) in data.buckets.iter_mut().zip(counts) {
                numbers.push(t, c as f64, falls);
            }
            add("h", counter_histogram(counts, CounterResetHint::Unknown));
            same += random.below(30);
            add("even", counter_histogram([same * 3, same * 5, same * 2], CounterResetHint::Unknown));
            let gauge = random.below(100);
            data.gauge.push(t, gauge as f64, false);
            add("gauge", counter_histogram([gauge, 0, 0], CounterResetHint::Gauge));
        }
        data
    }
}

fn store(data: &Data, interval_ms: i64) -> Tsdb {
    let mut options = TsdbOptions::new("/data/metrics", Arc::new(SimDisk::new()), SimClock::new(END + MIN_MS));
    if interval_ms > 0 {
        let interval = Duration::from_millis(interval_ms as u64);
        let rule = DownsamplingRule { matchers: Vec::new(), after: Duration::ZERO, interval };
        options.policy = Policy { downsampling: vec![rule], ..Policy::default() };
    }
    let db = Tsdb::open(options).unwrap();
    for chunk in data.written.chunks(20_000) {
        write(&db, chunk).unwrap();
    }
    wait(db.flush()).unwrap();
    while db.merge_once().unwrap() {}
    db
}

struct Pair {
    engine: Engine,
    raw: Tsdb,
    rolled: Tsdb,
    interval_ms: i64,
    /// Times of the samples that are left, by metric name.
    kept: BTreeMap<String, Vec<i64>>,
}

impl Pair {
    fn new(data: &Data, interval_ms: i64) -> Self {
        let parser =
            ParserOptions { experimental_functions: true, extended_range_selectors: true, ..ParserOptions::default() };
        let engine = Engine::new(EngineOptions::default(), parser);
        let rolled = store(data, interval_ms);
        let times = |points: Vec<Point>| points.into_iter().map(|(t, ..)| t).collect();
        let kept = read(&rolled, 0, Vec::new(), TimeRange::ALL);
        let kept = kept.into_iter().map(|(l, points)| (l.metric_name().to_owned(), times(points))).collect();
        Self { engine, raw: store(data, 0), rolled, interval_ms, kept }
    }

    /// The only value, its labels, and whether it is said to be approximate.
    fn ask(&self, db: &Tsdb, query: &str, t: i64) -> (Option<(Labels, SampleValue)>, bool) {
        let expr = self.engine.parse(query).unwrap();
        let options = QueryOptions::default();
        let result = self.engine.instant(&expr, t, &options, db, TenantId(0), &Unlimited).unwrap();
        let Answer::Vector(mut vector) = result.value else { panic!("{query}: a vector") };
        assert!(vector.len() <= 1, "{query}");
        let is_approximate = result.annotations.iter().any(|a| matches!(a.kind, NoteKind::Downsampled(_)));
        (vector.pop().map(|s| (s.labels, s.value)), is_approximate)
    }

    fn number(&self, db: &Tsdb, query: &str, t: i64) -> Option<f64> {
        match self.ask(db, query, t).0?.1 {
            SampleValue::Float(v) => Some(v),
            SampleValue::Histogram(h) => panic!("{query}: {h:?}"),
        }
    }

    /// The edges of the bucket that a time cuts; twice the time where it cuts none.
    fn edges(&self, t: i64) -> (i64, i64) {
        let (after, until) = Rollup::bucket_of(self.interval_ms, t);
        if until == t || t >= ROLLED_UNTIL { (t, t) } else { (after, until) }
    }
}

struct Check<'a> {
    pair: &'a Pair,
    t: i64,
    window: i64,
    /// Whole buckets inside the window, and all that it touches.
    inner: (i64, i64),
    outer: (i64, i64),
}

impl Check<'_> {
    fn inner<'d>(&self, all: &'d [(i64, f64)]) -> &'d [(i64, f64)] {
        within(all, self.inner.0, self.inner.1)
    }

    fn outer<'d>(&self, all: &'d [(i64, f64)]) -> &'d [(i64, f64)] {
        within(all, self.outer.0, self.outer.1)
    }

    fn query(&self, function: &str, series: &str) -> String {
        let range = format!("{series}[{}ms]", self.window);
        match function {
            "quantile_over_time" => format!("quantile_over_time(0.9, {range})"),
            "predict_linear" => format!("predict_linear({range}, 600)"),
            "double_exponential_smoothing" => format!("double_exponential_smoothing({range}, 0.5, 0.5)"),
            _ => match function.split_once(' ') {
                Some((function, mode)) => format!("{function}({range} {mode})"),
                None => format!("{function}({range})"),
            },
        }
    }

    fn context(&self, query: &str) -> String {
        format!("{query} at {}, buckets of {} ms", self.t - BASE, self.pair.interval_ms)
    }

    /// True when the window touches no bucket.
    fn is_raw(&self) -> bool {
        self.t - self.window >= ROLLED_UNTIL - 1
    }

    fn the_same(&self, query: &str) {
        let of = |db: &Tsdb| {
            let (answer, is_approximate) = self.pair.ask(db, query, self.t);
            let bits = answer.map(|(labels, v)| match v {
                SampleValue::Float(v) => (labels, v.to_bits(), None),
                SampleValue::Histogram(h) => (labels, 0, Some(h)),
            });
            (bits, is_approximate)
        };
        let (raw, rolled) = (of(&self.pair.raw), of(&self.pair.rolled));
        assert!(!raw.1 && raw == rolled, "{}: {rolled:?} instead of {raw:?}", self.context(query));
    }

    /// The answer lies in between, and is not said to be approximate.
    fn between(&self, function: &str, series: &str, low: f64, high: f64) {
        let query = self.query(function, series);
        let (got, is_approximate) = self.pair.ask(&self.pair.rolled, &query, self.t);
        let context = self.context(&query);
        if self.is_raw() {
            return self.the_same(&query);
        }
        let Some((_, SampleValue::Float(v))) = got else { panic!("{context}: {got:?}") };
        let slack = 1e-9 * (low.abs() + high.abs()) + 1e-9;
        assert!(v >= low - slack && v <= high + slack, "{context}: {v} is not between {low} and {high}");
        assert!(!is_approximate, "{context}");
        assert!(self.pair.number(&self.pair.raw, &query, self.t).is_some(), "{context}: raw");
    }

    /// The same, of what cannot be right.
    fn said_to_be_approximate(&self, function: &str, series: &str, low: f64, high: f64) {
        let query = self.query(function, series);
        let (got, is_approximate) = self.pair.ask(&self.pair.rolled, &query, self.t);
        let context = self.context(&query);
        if self.is_raw() {
            return self.the_same(&query);
        }
        let Some((_, SampleValue::Float(v))) = got else { panic!("{context}: {got:?}") };
        let slack = 1e-9 * (low.abs() + high.abs()) + 1e-9;
        assert!(v >= low - slack && v <= high + slack, "{context}: {v} is not between {low} and {high}");
        assert!(is_approximate, "{context}");
        assert!(!self.pair.ask(&self.pair.raw, &query, self.t).1, "{context}: raw");
    }

    /// What a counter rises over whole buckets inside and all that are touched. Behind the last sample of a bucket its
    /// line goes straight to the first one that is left of the next bucket.
    fn rise(&self, series: &str, n: &Numbers) -> (f64, f64) {
        let last = |t: i64| within(&n.rising, i64::MIN, t).last().map(|(_, v)| *v);
        let first = |t: i64| within(&n.rising, t, i64::MAX).first().map(|(_, v)| *v);
        let kept = &self.pair.kept[series];
        let ahead = |t: i64| kept.get(kept.partition_point(|k| *k <= t)).and_then(|k| last(*k)).or(last(t)).unwrap();
        let low = last(self.inner.1).unwrap() - first(self.inner.0).unwrap().max(ahead(self.t - self.window));
        let end = first(self.outer.1).or(last(self.outer.1)).unwrap().max(ahead(self.t));
        (low, end - last(self.outer.0).or(first(self.outer.0)).unwrap())
    }

    fn floats(&self, series: &str, n: &Numbers, is_counter: bool) {
        let (inner, outer) = (self.inner(&n.values), self.outer(&n.values));
        if inner.len() < 2 {
            return;
        }
        self.between("count_over_time", series, inner.len() as f64 - 0.5, outer.len() as f64 + 0.5);
        self.between("sum_over_time", series, total(inner), total(outer));
        self.between("avg_over_time", series, least(outer), most(outer));
        self.between("min_over_time", series, least(outer), least(inner));
        self.between("max_over_time", series, most(inner), most(outer));
        self.between("last_over_time", series, least(outer), most(outer));
        self.between("first_over_time", series, least(outer), most(outer));
        self.between("present_over_time", series, 1.0, 1.0);
        let seconds = |t: i64| t as f64 / 1000.0;
        let bucket = seconds(self.pair.interval_ms);
        for function in ["ts_of_first_over_time", "ts_of_last_over_time"] {
            let want = self.pair.number(&self.pair.raw, &self.query(function, series), self.t).unwrap();
            self.between(function, series, want - 2.0 * bucket, want + 2.0 * bucket);
        }
        for function in ["ts_of_min_over_time", "ts_of_max_over_time"] {
            self.between(function, series, seconds(self.outer.0), seconds(self.outer.1));
            let t = self.pair.number(&self.pair.rolled, &self.query(function, series), self.t).unwrap();
            let t = (t * 1000.0).round() as i64;
            let v = within(&n.values, t - 1, t)[0].1;
            let context = self.context(&self.query(function, series));
            if function == "ts_of_max_over_time" {
                assert!(v >= most(inner), "{context}");
            } else {
                assert!(v <= least(inner), "{context}");
            }
        }
        if is_counter {
            let (low, high) = self.rise(series, n);
            for function in ["increase", "increase anchored", "increase smoothed"] {
                self.between(function, series, low, high);
            }
            let scale = self.window as f64 / 1000.0;
            for function in ["rate", "rate anchored", "rate smoothed"] {
                self.between(function, series, low / scale, high / scale);
            }
            for function in ["resets", "resets anchored"] {
                let want = self.pair.number(&self.pair.raw, &self.query(function, series), self.t).unwrap();
                self.between(function, series, if function == "resets" { want } else { want - 1.0 }, want + 1.0);
            }
        }
        // A gauge's difference: between values near the two edges.
        let reach = self.pair.interval_ms;
        let near_start = within(&n.values, self.outer.0 - reach, self.inner.0 + reach);
        let near_end = within(&n.values, self.inner.1 - reach, self.outer.1 + reach);
        let (low, high) = (least(near_end) - most(near_start), most(near_end) - least(near_start));
        for function in ["delta", "delta anchored", "delta smoothed"] {
            self.between(function, series, low, high);
        }
        let spread = most(outer) - least(outer);
        self.said_to_be_approximate("quantile_over_time", series, least(outer), most(outer));
        self.said_to_be_approximate("stddev_over_time", series, 0.0, spread / 2.0);
        self.said_to_be_approximate("stdvar_over_time", series, 0.0, spread * spread / 4.0);
        self.said_to_be_approximate("mad_over_time", series, 0.0, spread);
        self.said_to_be_approximate("changes", series, 0.0, outer.len() as f64);
        self.said_to_be_approximate("changes anchored", series, 0.0, outer.len() as f64 + 1.0);
        for function in ["irate", "idelta", "deriv", "predict_linear", "double_exponential_smoothing"] {
            self.said_to_be_approximate(function, series, f64::MIN, f64::MAX);
        }
    }

    fn histograms(&self, data: &Data) {
        let [first, ..] = &data.buckets;
        let (inner, outer) = (self.inner(&first.values), self.outer(&first.values));
        if inner.len() < 2 {
            return;
        }
        let (count, more) = (inner.len() as f64 - 0.5, outer.len() as f64 + 0.5);
        for series in ["h", "gauge"] {
            self.between("count_over_time", series, count, more);
        }
        for function in ["rate", "increase", "increase anchored", "increase smoothed"] {
            let query = self.query(function, "h");
            let context = self.context(&query);
            if self.is_raw() {
                self.the_same(&query);
                continue;
            }
            let (got, is_approximate) = self.pair.ask(&self.pair.rolled, &query, self.t);
            let Some((_, SampleValue::Histogram(h))) = got else { panic!("{context}: {got:?}") };
            assert!(!is_approximate, "{context}");
            let scale = if function == "rate" { self.window as f64 / 1000.0 } else { 1.0 };
            for (index, numbers) in (1..).zip(&data.buckets) {
                let (low, high) = self.rise("h", numbers);
                let v = h.positive().find(|(i, _)| *i == index).map_or(0.0, |(_, v)| v) * scale;
                assert!(v >= low - 1e-6 && v <= high + 1e-6, "{context}: {v} is not between {low} and {high}");
            }
        }
        let want = self.pair.number(&self.pair.raw, &self.query("resets", "h"), self.t).unwrap();
        self.between("resets", "h", want, want);
        let query = format!("histogram_quantile(0.9, rate(even[{}ms]))", self.window);
        let of = |db: &Tsdb| self.pair.number(db, &query, self.t).unwrap();
        let (a, b) = (of(&self.pair.raw), of(&self.pair.rolled));
        assert!((a - b).abs() <= 1e-6 * a || (a.is_nan() && b.is_nan()), "{}: {a}, {b}", self.context(&query));
        let values = self.outer(&data.gauge.values);
        for (function, low, high) in [
            ("avg_over_time", least(values), most(values)),
            ("sum_over_time", 0.0, most(values) * more),
            ("last_over_time", least(values), most(values)),
        ] {
            let query = format!("histogram_count({})", self.query(function, "gauge"));
            let v = self.pair.number(&self.pair.rolled, &query, self.t).unwrap();
            assert!(v >= low - 1e-6 && v <= high + 1e-6, "{}: {v}", self.context(&query));
        }
        let query = format!("histogram_count({})", self.query("delta", "gauge"));
        assert!(self.pair.number(&self.pair.rolled, &query, self.t).is_some(), "{}", self.context(&query));
    }

    /// Selectors see the last sample that is left, of this bucket or the one before.
    fn instants(&self, series: &str, n: &Numbers) {
        let reach = 2 * self.pair.interval_ms;
        let near = within(&n.values, self.t - reach, self.t);
        let around = within(&n.values, self.t - reach, self.t + reach);
        if within(&n.values, self.t - 4 * MIN_MS, self.t).is_empty() {
            return;
        }
        for (query, near) in [(series.to_owned(), near), (format!("{series} smoothed"), around)] {
            let v = self.pair.number(&self.pair.rolled, &query, self.t);
            let context = self.context(&query);
            assert!(v.is_some_and(|v| v >= least(near) && v <= most(near)), "{context}: {v:?}");
        }
    }
}

fn check(seed: u64, interval_ms: i64, asked: &[(i64, i64)]) {
    let data = Data::new(seed);
    let pair = Pair::new(&data, interval_ms);
    for (t, buckets) in asked {
        // A window of two buckets at least, and more by any part of one.
        let window = 2 * interval_ms + buckets * interval_ms / 7;
        let first = BASE + 2 * interval_ms + window;
        let t = first + t.rem_euclid(END - first);
        let (start, end) = (pair.edges(t - window), pair.edges(t));
        let check = Check { pair: &pair, t, window, inner: (start.1, end.0), outer: (start.0, end.1) };
        check.floats("fast_total", &data.fast, true);
        check.floats("slow_total", &data.slow, true);
        check.floats("walk", &data.walk, false);
        check.floats("noise", &data.noise, false);
        check.histograms(&data);
        check.instants("walk", &data.walk);
        check.instants("fast_total", &data.fast);
        // What is straight is seen to be.
        let slope = pair.number(&pair.rolled, &check.query("deriv", "line"), t).unwrap();
        assert!((slope - SCALE * 1000.0).abs() < 1e-6, "{}: {slope}", check.context("deriv"));
        let ahead = pair.number(&pair.rolled, &check.query("predict_linear", "line"), t).unwrap();
        let want = (t + 600_000 - BASE) as f64 * SCALE;
        assert!((ahead - want).abs() < 1e-3, "{}: {ahead} instead of {want}", check.context("predict_linear"));
    }
}

/// Many more when `TREFOIL_TORTURE` is set.
fn cases() -> u32 {
    if std::env::var_os("TREFOIL_TORTURE").is_some() { 400 } else { 8 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn downsampled_answers_are_off_by_the_buckets_that_the_window_cuts(
        seed in any::<u64>(),
        minutes in prop_oneof![Just(5i64), Just(7), Just(30), Just(60)],
        asked in prop::collection::vec((any::<i64>(), 0i64..40), 1..8),
    ) {
        check(seed, minutes * MIN_MS, &asked);
    }
}

#[test]
fn info_adds_the_labels_that_were_there() {
    let mut data = Data::default();
    let target = [("job", "a"), ("instance", "b")];
    let with = |more: &[(&str, &str)]| labels(&[&target[..], more].concat());
    let change = BASE + 13 * 60 * MIN_MS + 17 * MIN_MS;
    for i in 0..(END - BASE) / STEP_MS {
        let t = BASE + i * STEP_MS;
        data.written.push((with(&[("__name__", "up")]), (t, 0, float(1.0))));
        let version = if t < change { "1" } else { "2" };
        data.written.push((with(&[("__name__", "target_info"), ("version", version)]), (t, 0, float(1.0))));
    }
    for interval_ms in [5 * MIN_MS, 60 * MIN_MS] {
        let pair = Pair::new(&data, interval_ms);
        for i in 0..120 {
            let t = BASE + i * 25 * MIN_MS + 12_345;
            let of = |db: &Tsdb| pair.ask(db, "info(up)", t).0.unwrap();
            assert_eq!(of(&pair.rolled), of(&pair.raw), "{}", t - BASE);
        }
    }
}
