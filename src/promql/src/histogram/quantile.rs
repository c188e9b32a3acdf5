//! Quantiles, fractions and moments of native and classic histograms.

use trefoil_model::FloatHistogram;

use super::buckets::{Bucket, all_buckets};
use crate::algebra::kahan::Sum;

/// A bucket of a classic histogram: cumulative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassicBucket {
    /// Upper bound (`le`).
    pub upper: f64,
    /// Observations up to it.
    pub count: f64,
}

/// What had to be mended in classic buckets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mended {
    /// Lowest and highest bound where a count went down.
    pub buckets: (f64, f64),
    /// Greatest decrease.
    pub max_difference: f64,
}

/// Relative differences below this are taken for rounding.
const SMALL_DELTA: f64 = 1e-12;

/// The q-quantile of classic buckets (any order). NaN without a `+Inf` bucket, with one bucket, or without observations.
pub fn classic_quantile(q: f64, buckets: &mut Vec<ClassicBucket>) -> (f64, Option<Mended>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !prepare(buckets) {
        return (f64::NAN, None);
    }
    let mended = force_monotonic(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 {
        return (f64::NAN, mended);
    }
    let mut rank = q * observations;
    let at = first_reaching(&buckets[..last], rank);
    let value = if at == last {
        buckets[last - 1].upper
    } else if at == 0 && buckets[0].upper <= 0.0 {
        buckets[0].upper
    } else {
        let (mut start, end, mut count) = (0.0, buckets[at].upper, buckets[at].count);
        if at > 0 {
            start = buckets[at - 1].upper;
            count -= buckets[at - 1].count;
            rank -= buckets[at - 1].count;
        }
        start + (end - start) * (rank / count)
    };
    (value, mended)
}

/// Binary search as `sort.Search` does it: with NaN counts the outcome depends on the probes.
fn first_reaching(buckets: &[ClassicBucket], rank: f64) -> usize {
    let (mut low, mut high) = (0, buckets.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        if buckets[middle].count >= rank {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// The fraction of observations between two values, from classic buckets (any order).
pub fn classic_fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    if !prepare(buckets) {
        return f64::NAN;
    }
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let first = if buckets[0].upper <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let mut cursor = Cursor { lower, upper, lower_rank: None, upper_rank: None };
    let (mut rank, mut from) = (0.0, first);
    for b in buckets.iter() {
        let to = b.upper;
        let inside = |v: f64| {
            if from == f64::NEG_INFINITY { b.count } else { rank + (b.count - rank) * (v - from) / (to - from) }
        };
        if cursor.visit(from, to, rank, inside) {
            break;
        }
        rank = b.count;
        from = to;
    }
    cursor.fraction(count, count)
}

/// Finds the ranks of two values while buckets go by in order.
struct Cursor {
    lower: f64,
    upper: f64,
    lower_rank: Option<f64>,
    upper_rank: Option<f64>,
}

impl Cursor {
    /// True when both ranks are known.
    fn visit(&mut self, from: f64, to: f64, rank: f64, inside: impl Fn(f64) -> f64) -> bool {
        for (value, slot) in [(self.lower, &mut self.lower_rank), (self.upper, &mut self.upper_rank)] {
            if slot.is_none() {
                if from >= value {
                    *slot = Some(rank);
                } else if to > value {
                    *slot = Some(inside(value));
                }
            }
        }
        self.lower_rank.is_some() && self.upper_rank.is_some()
    }

    fn fraction(&self, count: f64, total: f64) -> f64 {
        let at = |rank: Option<f64>| match rank {
            Some(r) if r <= count || r.is_nan() => r,
            _ => count,
        };
        (at(self.upper_rank) - at(self.lower_rank)) / total
    }
}

/// Sorts and merges buckets of equal bounds. False without a `+Inf` bucket.
fn prepare(buckets: &mut Vec<ClassicBucket>) -> bool {
    buckets.sort_by(|a, b| a.upper.partial_cmp(&b.upper).unwrap_or(std::cmp::Ordering::Equal));
    if buckets.last().is_none_or(|b| b.upper != f64::INFINITY) {
        return false;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.upper == kept.upper;
        if same {
            kept.count += next.count;
        }
        same
    });
    true
}

fn force_monotonic(buckets: &mut [ClassicBucket]) -> Option<Mended> {
    let mut mended: Option<Mended> = None;
    let mut previous = buckets[0].count;
    for b in &mut buckets[1..] {
        let current = b.count;
        if current == previous {
            continue;
        }
        if almost_equal(previous, current) {
            b.count = previous;
        } else if current < previous {
            b.count = previous;
            let m = mended.get_or_insert(Mended { buckets: (f64::INFINITY, f64::NEG_INFINITY), max_difference: 0.0 });
            m.buckets = (m.buckets.0.min(b.upper), m.buckets.1.max(b.upper));
            m.max_difference = m.max_difference.max(previous - current);
        } else {
            previous = current;
        }
    }
    mended
}

fn almost_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < SMALL_DELTA
}

/// What NaN observations did to a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NanEffect {
    /// None.
    No,
    /// They made it NaN.
    Result,
    /// They moved it up (quantile) or are missing from it (fraction).
    Skew,
}

/// The q-quantile of a native histogram.
pub fn histogram_quantile(q: f64, h: &FloatHistogram) -> (f64, NanEffect) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, NanEffect::No);
    }
    if q > 1.0 {
        return (f64::INFINITY, NanEffect::No);
    }
    if h.count == 0.0 || q.is_nan() {
        return (f64::NAN, NanEffect::No);
    }
    let forward = h.sum.is_nan() || q < 0.5;
    let mut rank = if forward { q * h.count } else { (1.0 - q) * h.count };
    let buckets = all_buckets(h);
    let ordered: Vec<&Bucket> = if forward { buckets.iter().collect() } else { buckets.iter().rev().collect() };
    let mut count = 0.0;
    let mut bucket = Bucket { lower: 0.0, upper: 0.0, lower_inclusive: false, upper_inclusive: false, count: 0.0 };
    let mut used = 0;
    for b in &ordered {
        used += 1;
        bucket = **b;
        count += b.count;
        if count >= rank {
            break;
        }
    }
    if h.uses_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, NanEffect::No);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, NanEffect::No);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        bucket = natural_zero(h, bucket);
    }
    count = count.min(h.count);
    if count < rank {
        return if h.sum.is_nan() { (f64::NAN, NanEffect::Result) } else { (bucket.upper, NanEffect::No) };
    }
    rank = if forward { rank - (count - bucket.count) } else { count - rank };
    let mut effect = NanEffect::No;
    if h.sum.is_nan() {
        let total: f64 = count + ordered[used..].iter().map(|b| b.count).sum::<f64>();
        if total < h.count {
            effect = NanEffect::Skew;
        }
    }
    let fraction = rank / bucket.count;
    if h.uses_custom_buckets() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return (bucket.lower + (bucket.upper - bucket.lower) * fraction, effect);
    }
    let (low, high) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    let value = if bucket.lower > 0.0 {
        (low + (high - low) * fraction).exp2()
    } else {
        -(high + (low - high) * (1.0 - fraction)).exp2()
    };
    (value, effect)
}

/// With observations of one sign only, the zero bucket reaches to 0 and no further.
fn natural_zero(h: &FloatHistogram, mut bucket: Bucket) -> Bucket {
    if h.negative_buckets.is_empty() && !h.positive_buckets.is_empty() {
        bucket.lower = 0.0;
    } else if h.positive_buckets.is_empty() && !h.negative_buckets.is_empty() {
        bucket.upper = 0.0;
    }
    bucket
}

/// The fraction of a native histogram's observations between two values.
pub fn histogram_fraction(lower: f64, upper: f64, h: &FloatHistogram) -> (f64, NanEffect) {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, NanEffect::No);
    }
    if lower >= upper {
        return (0.0, NanEffect::No);
    }
    let buckets = all_buckets(h);
    let mut cursor = Cursor { lower, upper, lower_rank: None, upper_rank: None };
    let mut rank = 0.0;
    for b in &buckets {
        let zero = b.lower <= 0.0 && b.upper >= 0.0;
        let b = if zero { natural_zero(h, *b) } else { *b };
        let linear = h.uses_custom_buckets() || zero;
        let inside = |v: f64| {
            if linear && b.lower == f64::NEG_INFINITY { b.count } else { rank + b.count * b.fraction_below(v, linear) }
        };
        if cursor.visit(b.lower, b.upper, rank, inside) {
            break;
        }
        rank += b.count;
    }
    let mut count = h.count;
    let mut effect = NanEffect::No;
    if h.sum.is_nan() {
        count = buckets.iter().map(|b| b.count).sum();
        if count < h.count {
            effect = NanEffect::Skew;
        }
    }
    (cursor.fraction(count, h.count), effect)
}

/// The variance of a native histogram, each observation taken at the middle of its bucket.
pub fn histogram_variance(h: &FloatHistogram) -> f64 {
    let mean = h.sum / h.count;
    let mut variance = Sum::default();
    for b in all_buckets(h) {
        if b.count == 0.0 {
            continue;
        }
        let middle = if h.uses_custom_buckets() {
            // Infinite in the outermost buckets; so is the variance then.
            (b.lower + b.upper) / 2.0
        } else if b.lower <= 0.0 && b.upper >= 0.0 {
            0.0
        } else {
            let geometric = (b.upper * b.lower).sqrt();
            if b.upper < 0.0 { -geometric } else { geometric }
        };
        let delta = middle - mean;
        variance.add(b.count * delta * delta);
    }
    variance.value() / h.count
}
