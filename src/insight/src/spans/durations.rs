//! Counts of durations in buckets, classic or native.

use std::collections::BTreeMap;

use trefoil_model::{CounterResetHint, FloatHistogram, HistogramSpan};

/// Resolution of new native histograms: each bucket ends 9 % above the one before.
const SCHEMA: i32 = 3;
/// Least resolution, at which a bucket is 65536 times as wide as the one before.
const SCHEMA_MIN: i32 = -4;
/// Buckets of a native histogram beyond which its resolution is halved.
const BUCKETS_MAX: usize = 100;
/// Width of the zero bucket, as clients of Prometheus have it.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// Which histograms are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistogramKind {
    /// `_bucket`, `_sum` and `_count` series.
    Classic,
    /// One series of native histograms.
    Native,
    /// Both.
    Both,
}

impl HistogramKind {
    /// Whether there are `_bucket` series.
    pub fn is_classic(self) -> bool {
        self != Self::Native
    }

    /// Whether there is a native histogram.
    pub fn is_native(self) -> bool {
        self != Self::Classic
    }
}

/// Durations in seconds, counted.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Durations {
    pub(crate) count: u64,
    /// Exact, so that it does not depend on the order of arrival.
    sum_ns: u128,
    /// Counts by bucket, the last one up to +Inf; empty when there are no classic buckets.
    classic: Vec<u64>,
    native: Option<Box<Native>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Native {
    schema: i32,
    zero: u64,
    buckets: BTreeMap<i32, u64>,
}

impl Durations {
    pub(crate) fn new(kind: HistogramKind, bounds: &[f64]) -> Self {
        let native = || Box::new(Native { schema: SCHEMA, zero: 0, buckets: BTreeMap::new() });
        Self {
            count: 0,
            sum_ns: 0,
            classic: if kind.is_classic() { vec![0; bounds.len() + 1] } else { Vec::new() },
            native: kind.is_native().then(native),
        }
    }

    /// Counts a duration. `bounds` are the upper bounds of the classic buckets in seconds, ascending.
    pub(crate) fn observe(&mut self, ns: u64, bounds: &[f64]) {
        let seconds = ns as f64 / 1e9;
        self.count += 1;
        self.sum_ns += u128::from(ns);
        if !self.classic.is_empty() {
            let bucket = bounds.partition_point(|bound| *bound < seconds).min(self.classic.len() - 1);
            self.classic[bucket] += 1;
        }
        if let Some(native) = &mut self.native {
            native.observe(seconds);
        }
    }

    pub(crate) fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// Counts of observations up to each bound, the last one up to +Inf; nothing when there are no classic buckets.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = u64> + '_ {
        self.classic.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        })
    }

    /// The native histogram, if one is kept.
    pub(crate) fn native(&self) -> Option<FloatHistogram> {
        let native = self.native.as_ref()?;
        let (mut spans, mut buckets): (Vec<HistogramSpan>, Vec<f64>) = (Vec::new(), Vec::new());
        let mut next = None;
        for (index, count) in &native.buckets {
            match (spans.last_mut(), next) {
                (Some(span), Some(next)) if next == *index => span.length += 1,
                (_, next) => spans.push(HistogramSpan { offset: index - next.unwrap_or(0), length: 1 }),
            }
            buckets.push(*count as f64);
            next = Some(index + 1);
        }
        Some(FloatHistogram {
            schema: native.schema,
            zero_threshold: ZERO_THRESHOLD,
            zero_count: native.zero as f64,
            count: self.count as f64,
            sum: self.sum_seconds(),
            positive_spans: spans,
            positive_buckets: buckets,
            counter_reset_hint: CounterResetHint::Unknown,
            integer: true,
            ..FloatHistogram::default()
        })
    }

    /// The native histogram without any observation, if one is kept.
    pub(crate) fn native_zero(&self) -> Option<FloatHistogram> {
        let native = self.native.as_ref()?;
        let zero = FloatHistogram {
            schema: native.schema,
            zero_threshold: ZERO_THRESHOLD,
            integer: true,
            ..FloatHistogram::default()
        };
        Some(zero)
    }
}

impl Native {
    fn observe(&mut self, seconds: f64) {
        if seconds <= ZERO_THRESHOLD {
            self.zero += 1;
            return;
        }
        // At the full resolution, then halved: the same whatever was the resolution when it came.
        let index = halved(bucket_of(seconds, SCHEMA), SCHEMA - self.schema);
        *self.buckets.entry(index).or_default() += 1;
        while self.buckets.len() > BUCKETS_MAX && self.schema > SCHEMA_MIN {
            self.schema -= 1;
            let mut fewer = BTreeMap::new();
            for (index, count) in &self.buckets {
                *fewer.entry(halved(*index, 1)).or_default() += count;
            }
            self.buckets = fewer;
        }
    }
}

/// The bucket that holds a value > 0: its upper bound, `2^(index * 2^-schema)`, is the least that is not below the value.
fn bucket_of(value: f64, schema: i32) -> i32 {
    let per_octave = f64::from(schema).exp2();
    let bound = |index: i32| (f64::from(index) / per_octave).exp2();
    let mut index = (value.log2() * per_octave).ceil() as i32;
    // The logarithm is rounded.
    while value > bound(index) {
        index += 1;
    }
    while value <= bound(index - 1) {
        index -= 1;
    }
    index
}

/// The bucket of a resolution halved so many times that holds a bucket.
fn halved(index: i32, times: i32) -> i32 {
    -((-index) >> times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_upper_bound() {
        let bounds = [0.1, 0.2, 0.4];
        let mut durations = Durations::new(HistogramKind::Both, &bounds);
        for ns in [0, 100_000_000, 100_000_001, 400_000_000, 400_000_001, 9_000_000_000] {
            durations.observe(ns, &bounds);
        }
        assert_eq!(durations.cumulative().collect::<Vec<_>>(), [2, 3, 4, 6]);
        assert_eq!((durations.count, durations.sum_seconds()), (6, 10.000_000_002));
        let native = durations.native().unwrap();
        assert_eq!((native.zero_count, native.count), (1.0, 6.0));
        native.validate().unwrap();
        native.validate_count().unwrap();
    }

    #[test]
    fn a_native_bucket_surrounds_its_values() {
        for (value, schema, want) in
            [(1.0, 3, 0), (2.0, 3, 8), (2.000_001, 3, 9), (0.5, 3, -8), (0.51, 0, 0), (0.5, 0, -1)]
        {
            assert_eq!(bucket_of(value, schema), want, "{value} at {schema}");
        }
        for (index, times, want) in [(1, 1, 1), (2, 1, 1), (3, 1, 2), (0, 1, 0), (-1, 1, 0), (-2, 1, -1), (-3, 2, 0)] {
            assert_eq!(halved(index, times), want, "{index} by {times}");
        }
    }

    #[test]
    fn many_buckets_become_wider() {
        let mut durations = Durations::new(HistogramKind::Native, &[]);
        let mut ns = 1u64;
        for _ in 0..600 {
            durations.observe(ns, &[]);
            ns = ns + ns / 16 + 1;
        }
        let native = durations.native().unwrap();
        assert!(native.schema < SCHEMA && native.positive_buckets.len() <= BUCKETS_MAX);
        native.validate().unwrap();
        native.validate_count().unwrap();
    }
}
