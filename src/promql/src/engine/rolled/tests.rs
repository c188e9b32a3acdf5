//! Answers over downsampled samples beside those over the raw ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use trefoil_model::{
    Exemplar, Labels, MetricMetadata, MetricReader, QueryBudget, Rollup, STALE_NAN, SampleBuffer, SelectRequest,
    SelectedSeries, SeriesSource, StoreError, TenantId, TimeRange, Unlimited, is_stale_nan, time::DAY_MS,
};

use crate::engine::{Engine, QueryOptions};
use crate::testing::MemoryReader;
use crate::value::{SampleValue, Value};

const MIN: i64 = 60_000;
const HOUR: i64 = 60 * MIN;
/// Up to here samples are downsampled.
const ROLLED_UNTIL: i64 = 2 * DAY_MS;

type Samples = Vec<(i64, f64)>;

/// Series of which samples before [`ROLLED_UNTIL`] are downsampled, in the plainest way.
struct RolledReader {
    interval: i64,
    series: BTreeMap<Labels, Samples>,
}

struct Source(SampleBuffer);

impl SeriesSource for Source {
    fn read(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), StoreError> {
        let mut kept = Vec::new();
        for (i, t) in self.0.times.iter().enumerate().filter(|(_, t)| range.contains(**t)) {
            kept.push(i);
            out.push_float(*t, 0, self.0.values[i]);
        }
        let mut before = 0;
        for r in &self.0.rollups {
            let (after, _) = r.bucket(self.0.times[r.end as usize - 1]);
            let end = kept.partition_point(|i| *i < r.end as usize);
            if end > before && out.times[end - 1] > after {
                out.rollups.push(Rollup { end: end as u32, ..*r });
            }
            before = end;
        }
        Ok(())
    }
}

impl RolledReader {
    fn source(&self, samples: &Samples) -> Source {
        let mut out = SampleBuffer::default();
        let mut buckets: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (i, (t, _)) in samples.iter().enumerate() {
            buckets.entry(Rollup::bucket_of(self.interval, *t).0).or_default().push(i);
        }
        for members in buckets.into_values() {
            if samples[members[0]].0 >= ROLLED_UNTIL {
                members.iter().for_each(|i| out.push_float(samples[*i].0, 0, samples[*i].1));
                continue;
            }
            let values: Vec<usize> = members.iter().copied().filter(|i| !is_stale_nan(samples[*i].1)).collect();
            let v = |i: &&usize| samples[**i].1;
            let min = values.iter().min_by(|a, b| v(a).total_cmp(&v(b)));
            let max = values.iter().max_by(|a, b| v(a).total_cmp(&v(b)));
            let keep: Vec<usize> = members
                .iter()
                .copied()
                .filter(|i| {
                    let falls = |a: usize| samples.get(a + 1).is_some_and(|n| n.1 < samples[a].1);
                    is_stale_nan(samples[*i].1)
                        || [min, max, values.last()].contains(&Some(i))
                        || falls(*i)
                        || (*i > 0 && falls(*i - 1))
                })
                .collect();
            keep.iter().for_each(|i| out.push_float(samples[*i].0, 0, samples[*i].1));
            let sum = values.iter().map(|i| samples[*i].1).sum();
            let (end, count) = (out.len() as u32, values.len() as u64);
            out.rollups.push(Rollup { end, interval_ms: self.interval, count, sum, histograms: 0 });
        }
        Source(out)
    }
}

impl MetricReader for RolledReader {
    fn select(&self, request: &SelectRequest, _: &dyn QueryBudget) -> Result<Vec<SelectedSeries>, StoreError> {
        let matches = |l: &Labels| request.matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or("")));
        let selected = self.series.iter().filter(|(l, _)| matches(l));
        Ok(selected.map(|(l, s)| SelectedSeries { labels: l.clone(), source: Arc::new(self.source(s)) }).collect())
    }
    fn series(&self, _: &[SelectRequest], _: usize, _: &dyn QueryBudget) -> Result<(Vec<Labels>, bool), StoreError> {
        unreachable!("queries select")
    }
    fn label_names(
        &self,
        _: TenantId,
        _: TimeRange,
        _: &[SelectRequest],
        _: usize,
        _: &dyn QueryBudget,
    ) -> Result<(Vec<String>, bool), StoreError> {
        unreachable!("queries select")
    }
    fn label_values(
        &self,
        _: TenantId,
        _: &str,
        _: TimeRange,
        _: &[SelectRequest],
        _: usize,
        _: &dyn QueryBudget,
    ) -> Result<(Vec<String>, bool), StoreError> {
        unreachable!("queries select")
    }
    fn exemplars(&self, _: &[SelectRequest], _: &dyn QueryBudget) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError> {
        unreachable!("queries select")
    }
    fn metadata(&self, _: TenantId, _: Option<&str>, _: usize) -> Vec<MetricMetadata> {
        Vec::new()
    }
    fn active_series(&self) -> u64 {
        0
    }
    fn coarsest_interval_ms(&self, _: TenantId, range: TimeRange) -> i64 {
        if range.start_ms <= ROLLED_UNTIL + 2 * self.interval { self.interval } else { 0 }
    }
}

/// A counter of some 2 a second that begins anew every seven hours, a slow gauge, and a series that ends.
fn series() -> BTreeMap<Labels, Samples> {
    let mut out: BTreeMap<Labels, Samples> = BTreeMap::new();
    let named = |name: &str| Labels::from_pairs([("__name__", name)]);
    let mut counter = 0.0;
    for i in 0..3 * DAY_MS / 15_000 {
        let t = i * 15_000 + 4_000;
        counter = if i % (7 * 240) == 0 { 3.0 } else { counter + 30.0 + (i % 7) as f64 };
        out.entry(named("c_total")).or_default().push((t, counter));
        let gauge = 500.0 + 400.0 * (t as f64 / DAY_MS as f64 * 6.0).sin() + (i % 3) as f64;
        out.entry(named("g")).or_default().push((t, gauge));
        let ends = DAY_MS + 10 * HOUR + 20 * MIN;
        if t < ends {
            out.entry(named("gone")).or_default().push((t, 1.0));
        } else if t < ends + 15_000 {
            out.entry(named("gone")).or_default().push((t, STALE_NAN));
        }
    }
    out
}

fn range(reader: &dyn MetricReader, query: &str, start: i64, end: i64, step: i64) -> BTreeMap<i64, f64> {
    let engine = Engine::default();
    let expr = engine.parse(query).unwrap();
    let options = QueryOptions::default();
    let result = engine.range(&expr, start, end, step, &options, reader, TenantId::default(), &Unlimited).unwrap();
    let Value::Matrix(matrix) = result.value else { panic!("a range query gives a matrix") };
    assert!(matrix.len() <= 1, "{query}");
    let value = |v: SampleValue| if let SampleValue::Float(v) = v { v } else { panic!("no histograms") };
    matrix.into_iter().flat_map(|s| s.samples).map(|(t, v)| (t, value(v))).collect()
}

fn readers(interval: i64) -> (MemoryReader, RolledReader) {
    let series = series();
    let mut raw = MemoryReader::new();
    for (labels, samples) in &series {
        samples.iter().for_each(|(t, v)| raw.push_float(labels, *t, *v));
    }
    (raw, RolledReader { interval, series })
}

/// `relative`: the greatest difference, as a share of the greatest raw answer.
fn check(interval: i64, query: &str, relative: f64) {
    let (raw, rolled) = readers(interval);
    for (start, end, step) in
        [(6 * HOUR, 60 * HOUR, 17 * MIN), (24 * HOUR, 48 * HOUR, HOUR), (47 * HOUR + 123, 50 * HOUR, 5 * MIN)]
    {
        let (want, got) = (range(&raw, query, start, end, step), range(&rolled, query, start, end, step));
        let (times, got_times): (Vec<_>, Vec<_>) = (want.keys().collect(), got.keys().collect());
        assert_eq!(times, got_times, "{query}");
        let scale = want.values().fold(0.0f64, |m, v| m.max(v.abs()));
        for (t, v) in &want {
            let off = (got[t] - v).abs() / scale.max(1e-9);
            assert!(off <= relative, "{query} at {t}: {} instead of {v}, off by {off}", got[t]);
        }
    }
}

#[test]
fn answers_are_those_of_the_raw_samples_within_a_bucket() {
    for (interval, query, relative) in [
        // Windows of many buckets.
        (5 * MIN, "rate(c_total[6h])", 0.002),
        (5 * MIN, "increase(c_total[1h])", 0.01),
        (HOUR, "increase(c_total[12h])", 0.02),
        (HOUR, "delta(g[6h])", 0.02),
        (5 * MIN, "sum_over_time(g[3h])", 0.002),
        (HOUR, "sum_over_time(g[6h])", 0.02),
        (HOUR, "count_over_time(g[6h])", 0.002),
        (HOUR, "avg_over_time(g[6h])", 0.02),
        (5 * MIN, "max_over_time(g[3h])", 0.01),
        (HOUR, "min_over_time(g[12h])", 0.05),
        (5 * MIN, "last_over_time(g[1h])", 0.02),
        (HOUR, "sum_over_time(g[6h] offset 3h)", 0.02),
        (HOUR, "sum_over_time(g[6h] @ 90000)", 0.02),
        (HOUR, "max_over_time(sum_over_time(g[6h])[6h:30m])", 0.02),
        (HOUR, "present_over_time(g[6h])", 0.0),
        // Windows within a bucket.
        (5 * MIN, "rate(c_total[1m])", 0.25),
        (HOUR, "rate(c_total[5m])", 0.15),
        (HOUR, "increase(c_total[5m])", 0.15),
        (HOUR, "count_over_time(g[10m])", 0.03),
        (HOUR, "avg_over_time(g[10m])", 0.15),
        (HOUR, "max_over_time(g[5m])", 0.2),
        (HOUR, "min_over_time(g[5m])", 0.2),
        (HOUR, "last_over_time(g[5m])", 0.2),
        (HOUR, "g", 0.2),
        (5 * MIN, "g", 0.02),
        (5 * MIN, "g offset 30m", 0.02),
        (HOUR, "sum(c_total) > 0", 0.3),
    ] {
        check(interval, query, relative);
    }
}

#[test]
fn whole_buckets_are_exact() {
    let (raw, rolled) = readers(HOUR);
    let at = |reader: &dyn MetricReader, query: &str, t: i64| range(reader, query, t, t, 1)[&t];
    for hour in [7, 12, 24, 31, 47] {
        let t = hour * HOUR;
        for query in ["count_over_time(g[4h])", "min_over_time(g[4h])", "max_over_time(g[4h])", "last_over_time(g[4h])"]
        {
            assert_eq!(at(&raw, query, t), at(&rolled, query, t), "{query} at hour {hour}");
        }
        for query in ["sum_over_time(g[4h])", "avg_over_time(g[4h])", "resets(c_total[6h])"] {
            let (a, b) = (at(&raw, query, t), at(&rolled, query, t));
            assert!((a - b).abs() <= a.abs() * 1e-12, "{query} at hour {hour}: {a}, {b}");
        }
    }
}

#[test]
fn a_stale_marker_ends_a_series() {
    let (raw, rolled) = readers(HOUR);
    let day = DAY_MS + 10 * HOUR;
    for query in ["gone", "max_over_time(gone[5m])", "count_over_time(gone[5m])", "last_over_time(gone[5m])"] {
        let of = |reader: &dyn MetricReader| -> Vec<i64> {
            range(reader, query, day - HOUR, day + 3 * HOUR, 5 * MIN).into_keys().collect()
        };
        assert_eq!(of(&raw), of(&rolled), "{query}");
    }
    assert!(!range(&rolled, "absent(gone)", day + HOUR, day + HOUR, 1).is_empty());
}

#[test]
fn stretches_that_are_not_downsampled_answer_as_ever() {
    let (raw, rolled) = readers(HOUR);
    for query in ["rate(c_total[5m])", "sum_over_time(g[30m])", "g", "irate(c_total[5m])", "deriv(g[20m])"] {
        let of = |reader: &dyn MetricReader| -> Vec<(i64, u64)> {
            range(reader, query, 49 * HOUR, 60 * HOUR, 7 * MIN).into_iter().map(|(t, v)| (t, v.to_bits())).collect()
        };
        assert_eq!(of(&raw), of(&rolled), "{query}");
    }
}
