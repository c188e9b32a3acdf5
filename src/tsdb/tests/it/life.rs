//! The life of samples against a naive model: writes, late writes, deletions, merges, retention by rule, downsampling,
//! restarts and crashes in any order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use trefoil_model::{
    CounterResetHint, FloatHistogram, HistogramSpan, Labels, MatchOp, MetricReader, Rollup, STALE_NAN, SampleBuffer,
    SelectRequest, TenantId, TimeRange, Unlimited,
};
use trefoil_runtime::SimClock;
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_tsdb::{DownsamplingRule, Policy, RetentionRule, Tsdb, TsdbOptions};

use crate::support::{BASE, DAY_MS, Point, Value, float, histogram, labels, matcher, points, wait, write};

const HOUR_MS: i64 = 3_600_000;
const SERIES: usize = 6;

fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

fn name(series: usize) -> Labels {
    let i = series.to_string();
    labels(&[("__name__", if series.is_multiple_of(2) { "m_total" } else { "m" }), ("i", &i)])
}

fn is(series: &str) -> Vec<trefoil_model::Matcher> {
    vec![matcher(MatchOp::Regex, "i", series)]
}

fn policy() -> Policy {
    Policy {
        retention: Some(hours(72)),
        retention_rules: vec![
            RetentionRule { matchers: is("1"), keep: Some(hours(30)) },
            RetentionRule { matchers: is("1|2"), keep: None },
        ],
        downsampling: vec![
            DownsamplingRule { matchers: is("3"), after: hours(0), interval: Duration::ZERO },
            DownsamplingRule { matchers: vec![], after: hours(0), interval: Duration::from_secs(600) },
            DownsamplingRule { matchers: vec![], after: hours(30), interval: hours(1) },
        ],
        ..Policy::default()
    }
}

/// What the policy says, written down once more.
fn keep_ms(series: usize) -> Option<i64> {
    match series {
        1 => Some(30 * HOUR_MS),
        2 => None,
        _ => Some(72 * HOUR_MS),
    }
}

fn interval_ms(series: usize, day: i64, now: i64) -> i64 {
    let age = now - (day + 1) * DAY_MS;
    match (series, age) {
        (3, _) => 0,
        (_, age) if age >= 30 * HOUR_MS => HOUR_MS,
        (_, age) if age >= 0 => 600_000,
        _ => 0,
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Kept {
    start: i64,
    value: Value,
    is_counted: bool,
}

impl Kept {
    fn float(&self) -> Option<f64> {
        match self.value {
            Value::Float(bits) if bits != STALE_NAN.to_bits() => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    fn histogram(&self) -> Option<&FloatHistogram> {
        match &self.value {
            Value::Histogram(h) => Some(h),
            Value::Float(_) => None,
        }
    }
}

/// What the documentation says, written down once more.
fn may_be_reset(before: &FloatHistogram, now: &FloatHistogram) -> bool {
    let populations = |h: &FloatHistogram| -> BTreeMap<(u8, i32), f64> {
        let positive = h.positive().map(|(i, v)| ((0, i), v));
        let negative = h.negative().map(|(i, v)| ((1, i), v));
        positive.chain(negative).chain([((2, 0), h.zero_count), ((3, 0), h.count)]).collect()
    };
    match now.counter_reset_hint {
        CounterResetHint::CounterReset => true,
        CounterResetHint::NotCounterReset | CounterResetHint::Gauge => false,
        CounterResetHint::Unknown => {
            let now_has = populations(now);
            let is_lower = |(k, v): (&(u8, i32), &f64)| now_has.get(k).copied().unwrap_or(0.0) < *v;
            (before.schema, &before.custom_values, before.zero_threshold)
                != (now.schema, &now.custom_values, now.zero_threshold)
                || populations(before).iter().any(is_lower)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Bucket {
    until: i64,
    interval: i64,
    count: i64,
    sum: f64,
    histograms: i64,
}

#[derive(Debug, Default)]
struct OneSeries {
    samples: BTreeMap<i64, Kept>,
    /// By the time that they begin after.
    buckets: BTreeMap<i64, Bucket>,
}

impl OneSeries {
    fn bucket(&mut self, t: i64) -> Option<&mut Bucket> {
        self.buckets.range_mut(..t).next_back().map(|(_, b)| b).filter(|b| t <= b.until)
    }

    fn write(&mut self, t: i64, start: i64, value: Value) {
        let old = self.samples.insert(t, Kept { start, value, is_counted: false });
        if let Some(old) = old.filter(|o| o.is_counted)
            && let Some(b) = self.bucket(t)
        {
            if let Some(v) = old.float() {
                b.count -= 1;
                b.sum -= v;
            }
            b.histograms -= i64::from(old.histogram().is_some());
        }
    }

    fn delete(&mut self, range: TimeRange) {
        self.samples.retain(|t, _| !range.contains(*t));
        self.buckets.retain(|_, b| !range.contains(b.until));
    }

    /// The documented form, step by step.
    fn downsample(&mut self, day: i64, interval: i64, is_counter: bool) {
        let day = day * DAY_MS..(day + 1) * DAY_MS;
        let all: Vec<(i64, Kept)> = self.samples.range(day.clone()).map(|(t, k)| (*t, k.clone())).collect();
        let mut kept: BTreeMap<i64, Kept> = BTreeMap::new();
        let floats: Vec<(i64, f64)> = all.iter().filter_map(|(t, k)| Some((*t, k.float()?))).collect();
        for (t, k) in &all {
            if k.float().is_none() && k.histogram().is_none() {
                kept.insert(*t, Kept { is_counted: false, ..k.clone() });
            }
        }
        let histograms: Vec<(i64, &FloatHistogram)> =
            all.iter().filter_map(|(t, k)| Some((*t, k.histogram()?))).collect();
        let mut groups: BTreeMap<i64, (i64, Vec<usize>, Vec<usize>)> = BTreeMap::new();
        let group = |t: i64| Rollup::bucket_of(interval, t);
        for (i, (t, _)) in floats.iter().enumerate() {
            let (after, until) = group(*t);
            groups.entry(after).or_insert_with(|| (until, Vec::new(), Vec::new())).1.push(i);
        }
        for (i, (t, _)) in histograms.iter().enumerate() {
            let (after, until) = group(*t);
            groups.entry(after).or_insert_with(|| (until, Vec::new(), Vec::new())).2.push(i);
        }
        let (mut keep, mut keep_histograms) = (Vec::new(), Vec::new());
        let mut buckets = BTreeMap::new();
        for (after, (until, members, of_histograms)) in groups {
            let (mut count, mut sum, mut again, mut histogram_count) = (0, 0.0, false, 0);
            for (_, b) in self.buckets.range(after..until) {
                assert!(b.until <= until, "buckets lie in each other");
                count += b.count;
                sum += b.sum;
                histogram_count += b.histograms;
                again |= b.interval == interval;
            }
            for i in &of_histograms {
                histogram_count += i64::from(!self.samples[&histograms[*i].0].is_counted);
                match i.checked_sub(1) {
                    None => keep_histograms.push(*i),
                    Some(before) if may_be_reset(histograms[before].1, histograms[*i].1) => {
                        keep_histograms.extend([before, *i]);
                    }
                    Some(_) => {}
                }
            }
            keep_histograms.extend(of_histograms.last());
            for i in &members {
                if !self.samples[&floats[*i].0].is_counted {
                    count += 1;
                    sum += floats[*i].1;
                }
            }
            let falls: Vec<usize> =
                members.iter().copied().filter(|i| *i > 0 && floats[*i].1 < floats[*i - 1].1).collect();
            let of = if again { count as usize } else { members.len() };
            if is_counter || falls.len() <= 2 || falls.len() * 8 <= of {
                keep.extend(falls.iter().flat_map(|i| [*i, *i - 1]));
            }
            buckets.insert(after, Bucket { until, interval, count, sum, histograms: histogram_count });
            let Some(last) = members.last().copied() else { continue };
            keep.push(last);
            if members[0] == 0 {
                keep.push(0);
            }
            let numbers: Vec<usize> = members.iter().copied().filter(|i| !floats[*i].1.is_nan()).collect();
            for sign in [1.0, -1.0] {
                let best = numbers.iter().map(|i| floats[*i].1 * sign).fold(f64::INFINITY, f64::min);
                if floats[last].1 * sign != best {
                    keep.extend(numbers.iter().find(|i| floats[**i].1 * sign == best));
                }
            }
        }
        let times = keep.iter().map(|i| floats[*i].0).chain(keep_histograms.iter().map(|i| histograms[*i].0));
        for t in times {
            kept.insert(t, Kept { is_counted: true, ..self.samples[&t].clone() });
        }
        self.samples.retain(|t, _| !day.contains(t));
        self.samples.extend(kept);
        self.buckets.retain(|_, b| !day.contains(&b.until));
        self.buckets.extend(buckets);
    }
}

#[derive(Default)]
struct Model {
    series: BTreeMap<usize, OneSeries>,
}

impl Model {
    fn merged(&mut self, now: i64) {
        for (series, one) in &mut self.series {
            let days: std::collections::BTreeSet<i64> = one.samples.keys().map(|t| t.div_euclid(DAY_MS)).collect();
            for day in days {
                let interval = interval_ms(*series, day, now);
                if interval > 0 {
                    one.downsample(day, interval, series.is_multiple_of(2));
                }
            }
        }
    }

    fn check(&self, db: &Tsdb, now: i64, context: &str) {
        let request = SelectRequest { tenant: TenantId(0), matchers: vec![], range: TimeRange::ALL };
        let mut got: BTreeMap<Labels, SampleBuffer> = BTreeMap::new();
        for s in db.select(&request, &Unlimited).unwrap() {
            let mut buffer = SampleBuffer::default();
            s.source.read(TimeRange::ALL, &mut buffer).unwrap();
            if !buffer.is_empty() {
                got.insert(s.labels, buffer);
            }
        }
        for (series, one) in &self.series {
            let context = format!("{context}: series {series}");
            let buffer = got.remove(&name(*series)).unwrap_or_default();
            let start = keep_ms(*series).map_or(i64::MIN, |k| now - k);
            let visible: Vec<(i64, &Kept)> = one.samples.range(start..).map(|(t, k)| (*t, k)).collect();
            let want: Vec<Point> = visible.iter().map(|(t, k)| (*t, k.start, k.value.clone())).collect();
            assert_eq!(points(&buffer), want, "{context}");
            let mut rollups = Vec::new();
            // A bucket that the edge of retention cuts is known only while one of its samples in a part is in sight.
            for (after, b) in one.buckets.iter().filter(|(after, _)| **after >= start) {
                let within: Vec<_> = visible.iter().filter(|(t, _)| after < t && *t <= b.until).collect();
                let raw: Vec<&Kept> = within.iter().map(|(_, k)| *k).filter(|k| !k.is_counted).collect();
                let floats: Vec<f64> = raw.iter().filter_map(|k| k.float()).collect();
                let count = b.count + floats.len() as i64;
                let histograms = b.histograms + raw.iter().filter(|k| k.histogram().is_some()).count() as i64;
                if !within.is_empty() && count + histograms > 0 {
                    let sum = b.sum + floats.iter().sum::<f64>();
                    rollups.push((*after, b.interval, count as u64, (sum * 4.0).round(), histograms as u64));
                }
            }
            let found: Vec<_> = buffer
                .rollups
                .iter()
                .map(|r| {
                    let after = r.bucket(buffer.times[r.end as usize - 1]).0;
                    (after, r.interval_ms, r.count, (r.sum * 4.0).round(), r.histograms)
                })
                .filter(|(after, ..)| *after >= start)
                .collect();
            assert_eq!(found, rollups, "{context}");
        }
        assert!(got.is_empty(), "{context}: series that nobody wrote: {:?}", got.keys());
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// (series, hours back, slot, value)
    Write(Vec<(usize, i64, i64, u32)>),
    /// A counter or gauge: series, hours back of the first, number of samples, seed.
    Run(usize, i64, i64, u32),
    Flush,
    Merge,
    Delete(u8, i64, i64),
    Pass(i64),
    Clean,
    Reopen,
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec((0..SERIES, 0i64..80, 0i64..40, any::<u32>()), 1..20).prop_map(Step::Write),
        6 => (0..SERIES, 0i64..80, 1i64..120, any::<u32>()).prop_map(|(s, h, n, v)| Step::Run(s, h, n, v)),
        3 => Just(Step::Flush),
        4 => Just(Step::Merge),
        3 => (any::<u8>(), -10i64..80, 0i64..30).prop_map(|(s, h, n)| Step::Delete(s, h, n)),
        4 => (1i64..30).prop_map(Step::Pass),
        1 => Just(Step::Clean),
        1 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

fn value(series: usize, v: u32) -> Value {
    match v % 16 {
        0 => float(STALE_NAN),
        1 if series == 5 => Value::Histogram(histogram(v % 100)),
        _ => float(f64::from(v % 1000) / 4.0),
    }
}

/// A counter's, which seldom has another layout or says by itself what it is.
fn counter_histogram(v: u32, noise: u32) -> Arc<FloatHistogram> {
    let mut h = FloatHistogram {
        schema: if noise.is_multiple_of(37) { 2 } else { 3 },
        zero_threshold: 1e-128,
        count: f64::from(v),
        sum: f64::from(v) * 0.5,
        positive_spans: vec![HistogramSpan { offset: -2, length: 2 }, HistogramSpan { offset: 3, length: 1 }],
        positive_buckets: vec![f64::from(v / 2), f64::from(v / 3), f64::from(v - v / 2 - v / 3)],
        integer: true,
        ..FloatHistogram::default()
    };
    if noise.is_multiple_of(5) {
        // One bucket less is no reset while it was empty.
        h.positive_spans.truncate(1);
        h.positive_buckets.truncate(2);
    }
    h.counter_reset_hint = match noise % 31 {
        0 => CounterResetHint::CounterReset,
        1 => CounterResetHint::NotCounterReset,
        2 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    };
    Arc::new(h)
}

fn batch_of(step: &Step, now: i64) -> Vec<(usize, Point)> {
    let mut all = Vec::new();
    match step {
        Step::Write(list) => {
            for (series, back, slot, v) in list {
                let t = now - now.rem_euclid(HOUR_MS) - back * HOUR_MS + slot * 90_000;
                all.push((*series, (t, i64::from(v % 3), value(*series, *v))));
            }
        }
        Step::Run(series, back, n, seed) => {
            let mut v = seed % 7;
            for i in 0..*n {
                let noise = seed.rotate_left(i as u32 % 32) ^ (i as u32).wrapping_mul(0x9e37_79b9);
                v = if noise.is_multiple_of(23) || (series % 3 == 1 && noise.is_multiple_of(3)) {
                    noise % 5
                } else {
                    v + noise % 9
                };
                let t = now - back * HOUR_MS + i * 60_000;
                let value = match (series, seed % 4) {
                    (4, 0) | (5, 0 | 1) => Value::Histogram(counter_histogram(v, noise)),
                    (5, 2) => Value::Histogram(histogram(v)),
                    _ => float(f64::from(v)),
                };
                all.push((*series, (t, 0, value)));
            }
        }
        _ => {}
    }
    // Within a batch floats come before histograms, so that it must not have both for one time.
    let mut seen = std::collections::BTreeSet::new();
    all.reverse();
    all.retain(|(s, (t, ..))| keep_ms(*s).is_none_or(|k| *t >= now - k) && *t <= now && seen.insert((*s, *t)));
    all.reverse();
    all
}

fn open(disk: &SimDisk, clock: &Arc<SimClock>) -> Tsdb {
    let mut options = TsdbOptions::new("/data/metrics", Arc::new(disk.clone()), Arc::clone(clock) as _);
    options.policy = policy();
    Tsdb::open(options).unwrap()
}

fn run(steps: &[Step]) {
    let disk = SimDisk::new();
    let mut now = BASE + 4 * DAY_MS + 7 * HOUR_MS;
    let mut clock = SimClock::new(now);
    let mut db = open(&disk, &clock);
    let mut model = Model::default();
    for (i, step) in steps.iter().enumerate() {
        match step {
            Step::Write(_) | Step::Run(..) => {
                let all = batch_of(step, now);
                let samples: Vec<_> = all.iter().map(|(s, p)| (name(*s), p.clone())).collect();
                let report = write(&db, &samples).unwrap();
                assert_eq!((report.accepted, report.rejected), (all.len() as u64, 0), "{:?}", report.reasons);
                for (s, (t, start, value)) in all {
                    model.series.entry(s).or_default().write(t, start, value);
                }
            }
            Step::Flush => drop(wait(db.flush()).unwrap()),
            Step::Merge => {
                wait(db.flush()).unwrap();
                db.apply_retention(now).unwrap();
                while db.merge_once().unwrap() {}
                model.merged(now);
            }
            Step::Delete(which, back, n) => {
                let first = now - now.rem_euclid(HOUR_MS) - back * HOUR_MS;
                let range = TimeRange::new(first + 1, first + n * HOUR_MS + 1);
                let pattern: Vec<String> = (0..SERIES).filter(|s| which >> s & 1 == 1).map(|s| s.to_string()).collect();
                let matchers = is(&pattern.join("|"));
                wait(db.delete(&[SelectRequest { tenant: TenantId(0), matchers, range }])).unwrap();
                for (s, one) in &mut model.series {
                    if pattern.contains(&s.to_string()) {
                        one.delete(range);
                    }
                }
            }
            Step::Pass(hours) => {
                now += hours * HOUR_MS;
                wait(db.close());
                drop(db);
                clock = SimClock::new(now);
                db = open(&disk, &clock);
            }
            Step::Clean => {
                wait(db.clean_tombstones()).unwrap();
                // Rewriting a whole day downsamples it as well, so that the model must follow.
                wait(db.flush()).unwrap();
                while db.merge_once().unwrap() {}
                model.merged(now);
            }
            Step::Reopen => {
                wait(db.close());
                drop(db);
                db = open(&disk, &clock);
            }
            Step::Crash(seed) => {
                drop(db);
                disk.crash(*seed);
                db = open(&disk, &clock);
            }
        }
        model.check(&db, now, &format!("step {i} {}", format!("{step:?}").split('(').next().unwrap()));
    }
}

/// Many more when `TREFOIL_TORTURE` is set.
fn cases() -> u32 {
    if std::env::var_os("TREFOIL_TORTURE").is_some() { 4000 } else { 160 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn samples_live_as_the_model_says(steps in prop::collection::vec(step(), 1..40)) {
        run(&steps);
    }
}

fn all(range: TimeRange) -> SelectRequest {
    SelectRequest { tenant: TenantId(0), matchers: vec![], range }
}

/// What the index tells of series: names of the values of `i`.
fn known(db: &Tsdb) -> Vec<String> {
    let (values, _) = db.label_values(TenantId(0), "i", TimeRange::ALL, &[], 0, &Unlimited).unwrap();
    let (series, _) = db.series(&[all(TimeRange::ALL)], 0, &Unlimited).unwrap();
    let mut of_series: Vec<String> = series.iter().filter_map(|l| l.get("i").map(str::to_owned)).collect();
    of_series.sort();
    assert_eq!(values, of_series);
    values
}

#[test]
fn deleted_and_expired_series_are_gone_from_the_index() {
    let disk = SimDisk::new();
    let now = BASE + 4 * DAY_MS + 7 * HOUR_MS;
    let clock = SimClock::new(now);
    let db = open(&disk, &clock);
    let samples: Vec<_> = (0..5)
        .flat_map(|s| {
            (0..400).map(move |i| (name(s), (now - 20 * HOUR_MS + i * 1000, 0, float((i * i % 9973) as f64))))
        })
        .collect();
    write(&db, &samples).unwrap();
    let some = SelectRequest { tenant: TenantId(0), matchers: is("0|4"), range: TimeRange::ALL };
    assert_eq!(wait(db.delete(std::slice::from_ref(&some))).unwrap(), 2);
    assert_eq!(wait(db.delete(std::slice::from_ref(&some))).unwrap(), 0, "nothing is left to delete");
    assert_eq!(known(&db), ["1", "2", "3"]);
    let (names, _) = db.label_values(TenantId(0), "__name__", TimeRange::ALL, &[some], 0, &Unlimited).unwrap();
    assert_eq!(names, [""; 0]);
    // Written again they are back, and merges keep them.
    write(&db, &samples[..1]).unwrap();
    assert_eq!(known(&db), ["0", "1", "2", "3"]);
    let bytes = db.disk_bytes();
    assert_eq!(wait(db.clean_tombstones()).unwrap(), 1);
    assert_eq!(wait(db.clean_tombstones()).unwrap(), 0);
    assert!(db.disk_bytes() < bytes);
    assert_eq!(known(&db), ["0", "1", "2", "3"]);
    wait(db.close());
    drop(db);
    // Series 1 is kept for 30 hours.
    let db = open(&disk, &SimClock::new(now + 11 * HOUR_MS));
    assert_eq!(known(&db), ["0", "2", "3"]);
    let mut longer = policy();
    longer.retention_rules.remove(0);
    db.set_policy(longer);
    assert_eq!(known(&db), ["0", "1", "2", "3"], "bytes are still there");
    db.set_policy(policy());
    wait(db.flush()).unwrap();
    while db.merge_once().unwrap() {}
    let old = vec![(name(1), (now - 20 * HOUR_MS, 0, float(1.0))), (name(2), (now - 20 * HOUR_MS, 0, float(1.0)))];
    let report = write(&db, &old).unwrap();
    assert_eq!((report.accepted, report.rejected), (1, 1));
    assert!(report.reasons[0].contains("before the retention"), "{:?}", report.reasons);
}

fn part_bytes(disk: &SimDisk) -> u64 {
    let files = disk.files();
    let of_parts = files.iter().filter(|f| f.ends_with("blocks") || f.ends_with("index"));
    of_parts.map(|f| trefoil_runtime::Vfs::len(disk, f.as_ref()).unwrap()).sum()
}

#[test]
fn bytes_bound_the_store() {
    let disk = SimDisk::new();
    let now = BASE + 4 * DAY_MS + 7 * HOUR_MS;
    let db = open(&disk, &SimClock::new(now));
    for day in 0..3 {
        write(&db, &[(name(2), (now - day * DAY_MS, 0, float(1.0)))]).unwrap();
    }
    wait(db.flush()).unwrap();
    assert_eq!(db.apply_retention(now).unwrap(), 0);
    let bytes = part_bytes(&disk);
    for (bytes_max, dropped) in [(bytes, 0), (bytes - 1, 1), (1, 1), (1, 0)] {
        db.set_policy(Policy { retention_bytes: Some(bytes_max), ..policy() });
        assert_eq!(db.apply_retention(now).unwrap(), dropped, "{bytes_max} of {bytes}: the newest day stays");
    }
}

#[test]
fn a_share_of_the_disk_bounds_the_store() {
    let disk = SimDisk::new();
    let now = BASE + 4 * DAY_MS + 7 * HOUR_MS;
    let db = open(&disk, &SimClock::new(now));
    for day in 0..4 {
        write(&db, &[(name(2), (now - day * DAY_MS, 0, float(1.0)))]).unwrap();
    }
    wait(db.flush()).unwrap();
    // It goes before a number of bytes, and is of the whole disk, not of what is free.
    let of = |share: f64| Policy { retention_share: Some(share), retention_bytes: Some(1), ..policy() };
    db.set_policy(of(0.01));
    assert_eq!(db.apply_retention(now).unwrap(), 0, "the disk has no bounds");
    disk.set_capacity(100 * part_bytes(&disk));
    for (share, dropped) in [(1.0, 0), (0.0101, 0), (0.0099, 1), (0.006, 1), (0.0, 1), (0.0, 0)] {
        db.set_policy(of(share));
        assert_eq!(db.apply_retention(now).unwrap(), dropped, "{share}");
    }
}

#[test]
fn of_a_pair_of_scrapers_one_sample_an_interval_is_left() {
    let disk = SimDisk::new();
    let now = BASE + 4 * DAY_MS + 7 * HOUR_MS;
    let db = open(&disk, &SimClock::new(now));
    let first = now - DAY_MS;
    // Two scrapers, one some seconds behind the other; at the end one says that the series is gone.
    let mut samples = Vec::new();
    for i in 0..10i64 {
        samples.push((name(3), (first + i * 30_000 + 5_000, 0, float(i as f64))));
        let value = if i == 9 { float(STALE_NAN) } else { float(i as f64 + 100.0) };
        samples.push((name(3), (first + i * 30_000 + 12_000, 0, value)));
    }
    write(&db, &samples).unwrap();
    db.set_policy(Policy { dedup_interval: Some(Duration::from_secs(30)), ..policy() });
    let read = |range| crate::support::read(&db, 0, vec![], range).remove(&name(3)).unwrap();
    for state in ["memtable", "flushed", "merged"] {
        let got = read(TimeRange::ALL);
        let want: Vec<Point> = (0..10)
            .map(|i| match i {
                9 => (first + 275_000, 0, float(9.0)),
                i => (first + i * 30_000 + 12_000, 0, float(i as f64 + 100.0)),
            })
            .collect();
        assert_eq!(got, want, "{state}");
        // Whatever range is asked for, the same samples are left.
        assert_eq!(read(TimeRange::new(first, first + 40_000)), want[..1], "{state}");
        wait(db.flush()).unwrap();
        if state == "flushed" {
            write(&db, &samples[..1]).unwrap();
            wait(db.flush()).unwrap();
            while db.merge_once().unwrap() {}
        }
    }
}

/// What was acknowledged of a scripted life: written, deleted, written again.
#[derive(Debug, Default)]
struct Acknowledged {
    written: bool,
    deleted: bool,
    again: bool,
}

fn scripted(disk: &SimDisk, clock: &Arc<SimClock>, first: i64) -> Acknowledged {
    let mut done = Acknowledged::default();
    let options = TsdbOptions::new("/data/metrics", Arc::new(disk.clone()), Arc::clone(clock) as _);
    let Ok(db) = Tsdb::open(options) else { return done };
    let samples: Vec<_> = (0..10).map(|i| (name(2), (first + i, 0, float(1.0)))).collect();
    done.written = write(&db, &samples).is_ok();
    let request = SelectRequest { range: TimeRange::new(first, first + 5), ..all(TimeRange::ALL) };
    done.deleted = wait(db.delete(&[request])).is_ok();
    done.again = write(&db, &[(name(2), (first + 2, 0, float(7.0)))]).is_ok();
    wait(db.flush()).ok();
    wait(db.clean_tombstones()).ok();
    while db.merge_once().is_ok_and(|more| more) {}
    done
}

#[test]
fn a_deletion_outlives_a_power_cut_at_any_operation() {
    use trefoil_runtime::vfs::sim::Fault;
    let now = BASE + 4 * DAY_MS + 7 * HOUR_MS;
    let (clock, first) = (SimClock::new(now), now - 3 * DAY_MS);
    for fault in [Fault::PowerCut, Fault::Io] {
        for at in 0.. {
            let disk = SimDisk::new();
            disk.fail_at(at, fault);
            let done = scripted(&disk, &clock, first);
            let struck = disk.op_count() > at;
            disk.clear_faults();
            disk.crash(at);
            for round in 0..3 {
                let context = format!("{fault:?} at operation {at}, round {round}: {done:?}");
                let options = TsdbOptions::new("/data/metrics", Arc::new(disk.clone()), Arc::clone(&clock) as _);
                let db = Tsdb::open(options).unwrap_or_else(|e| panic!("{context}: {e:?}"));
                let got: BTreeMap<i64, Value> = crate::support::read(&db, 0, vec![], TimeRange::ALL)
                    .remove(&name(2))
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(t, _, v)| (t - first, v))
                    .collect();
                let has = |range: std::ops::Range<i64>| range.filter(|i| *i != 2 && got.contains_key(i)).count();
                assert!(!done.written || has(5..10) == 5, "{context}: what was not deleted is there: {got:?}");
                assert!(!done.deleted || has(0..5) == 0, "{context}: what was deleted is not: {got:?}");
                assert!(matches!(has(0..5), 0 | 4), "{context}: all or nothing is deleted: {got:?}");
                assert!(!done.again || got.get(&2) == Some(&float(7.0)), "{context}: later writes are there: {got:?}");
                // However often it is rewritten and opened, nothing comes back.
                wait(db.flush()).unwrap();
                wait(db.clean_tombstones()).unwrap();
                while db.merge_once().unwrap() {}
            }
            if !struck {
                break;
            }
        }
    }
}
