//! Arithmetic, quantiles and resets of native histograms.
//!
//! Map: [`buckets`] (bounds and iteration), [`sum`](HistogramSum) (compensated addition over differing layouts),
//! [`trim`](trimmed), [`quantile`] (quantiles, fractions, moments), [`reset`](detect_reset).
//! Results are compact: no empty buckets.

pub mod buckets;
pub mod quantile;
mod reset;
mod sum;
mod trim;

pub use buckets::{Bucket, all_buckets, text};
pub use reset::{continues, detect_reset};
pub use sum::{Added, HistogramMean, HistogramSum, IncompatibleSchema};
pub use trim::trimmed;

use trefoil_model::{CounterResetHint, FloatHistogram};

/// `h` with all populations and the sum times `factor`; a negative factor makes it a gauge.
pub fn scaled(h: &FloatHistogram, factor: f64) -> FloatHistogram {
    compacted(scale(h.clone(), |v| v * factor, factor < 0.0))
}

/// `h` with all populations and the sum divided by `divisor`; by 0 it loses its buckets.
pub fn divided(h: &FloatHistogram, divisor: f64) -> FloatHistogram {
    let mut out = scale(h.clone(), |v| v / divisor, divisor < 0.0);
    if divisor == 0.0 {
        out.positive_spans = Vec::new();
        out.positive_buckets = Vec::new();
        out.negative_spans = Vec::new();
        out.negative_buckets = Vec::new();
    }
    compacted(out)
}

fn scale(mut h: FloatHistogram, f: impl Fn(f64) -> f64, negative: bool) -> FloatHistogram {
    for v in h.positive_buckets.iter_mut().chain(&mut h.negative_buckets) {
        *v = f(*v);
    }
    h.zero_count = f(h.zero_count);
    h.count = f(h.count);
    h.sum = f(h.sum);
    h.integer = false;
    if negative {
        h.counter_reset_hint = CounterResetHint::Gauge;
    }
    h
}

/// `a + b`.
pub fn sum(a: &FloatHistogram, b: &FloatHistogram) -> Result<(FloatHistogram, Added), IncompatibleSchema> {
    let mut total = HistogramSum::new(a);
    let added = total.add(b)?;
    Ok((total.finish(), added))
}

/// `a - b`, always a gauge.
pub fn difference(a: &FloatHistogram, b: &FloatHistogram) -> Result<(FloatHistogram, Added), IncompatibleSchema> {
    let mut total = HistogramSum::new(a);
    let added = total.subtract(b)?;
    let mut out = total.finish();
    out.counter_reset_hint = CounterResetHint::Gauge;
    Ok((out, added))
}

/// `h` without empty buckets.
pub fn compacted(mut h: FloatHistogram) -> FloatHistogram {
    let positive: Vec<(i32, f64)> = h.positive().filter(|(_, v)| *v != 0.0).collect();
    let negative: Vec<(i32, f64)> = h.negative().filter(|(_, v)| *v != 0.0).collect();
    (h.positive_spans, h.positive_buckets) = buckets::spans_of(positive);
    (h.negative_spans, h.negative_buckets) = buckets::spans_of(negative);
    h
}

/// True when both describe the same observations in the same layout; the reset hint is not looked at.
pub fn equal(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let same = |x: f64, y: f64| x.to_bits() == y.to_bits();
    let side = |x: Vec<(i32, f64)>, y: Vec<(i32, f64)>| {
        x.len() == y.len() && x.iter().zip(&y).all(|(p, q)| p.0 == q.0 && same(p.1, q.1))
    };
    let populated = |it: &mut dyn Iterator<Item = (i32, f64)>| it.filter(|(_, v)| *v != 0.0).collect::<Vec<_>>();
    a.schema == b.schema
        && same(a.count, b.count)
        && same(a.sum, b.sum)
        && a.custom_values == b.custom_values
        && a.zero_threshold == b.zero_threshold
        && same(a.zero_count, b.zero_count)
        && side(populated(&mut a.positive()), populated(&mut b.positive()))
        && side(populated(&mut a.negative()), populated(&mut b.negative()))
}

#[cfg(test)]
mod tests;
