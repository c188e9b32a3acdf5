//! Bucket bounds, iteration in order of values, and sparse sides.

use std::fmt::Write as _;
use std::sync::LazyLock;

use trefoil_model::{FloatHistogram, HistogramSpan};

use crate::format::format_g;

/// A bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// True when observations equal to `lower` count.
    pub lower_inclusive: bool,
    /// True when observations equal to `upper` count.
    pub upper_inclusive: bool,
    /// Population.
    pub count: f64,
}

impl Bucket {
    /// The part of the bucket below `v`, on a linear or a logarithmic scale.
    pub fn fraction_below(&self, v: f64, linear: bool) -> f64 {
        if linear {
            return (v - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper, at) = (self.lower.abs().log2(), self.upper.abs().log2(), v.abs().log2());
        if v > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
    }
}

/// The finest exponential schema.
const SCHEMA_MAX: i32 = 8;

/// The bounds of the finest schema in `0.5..1`, computed as the reference's are: from the coarser schema's bound below,
/// times a root of 2. The last digit depends on it.
static FRACTIONS: LazyLock<[f64; 1 << SCHEMA_MAX]> = LazyLock::new(|| {
    let mut root = std::f64::consts::SQRT_2;
    // Schema 1: the lower neighbour of what rounding gives.
    let mut bounds = vec![0.5, 1.0 / root];
    for _ in 1..SCHEMA_MAX {
        root = root.sqrt();
        bounds = bounds.into_iter().flat_map(|bound| [bound, bound * root]).collect();
    }
    std::array::from_fn(|i| bounds[i])
});

/// The upper bound of bucket `index` of an exponential schema.
pub fn exponential_bound(index: i32, schema: i32) -> f64 {
    let (fraction, exponent) = if schema < 0 {
        (0.5, (i64::from(index) << (-schema).min(30)) + 1)
    } else {
        let shift = schema.min(SCHEMA_MAX);
        let inside = index & ((1 << shift) - 1);
        let at = usize::try_from(inside << (SCHEMA_MAX - shift)).expect("a mask leaves no sign");
        (FRACTIONS[at], i64::from(index >> shift) + 1)
    };
    if fraction == 0.5 && exponent == 1025 {
        // The last bucket below the one for infinities.
        return f64::MAX;
    }
    // In two steps: a power of two alone may be out of range where the product is not.
    let half = exponent.clamp(-2200, 2200) / 2;
    fraction * exp2(half) * exp2(exponent.clamp(-2200, 2200) - half)
}

/// A power of two.
fn exp2(exponent: i64) -> f64 {
    (exponent as f64).exp2()
}

/// The index, in a coarser schema, of the bucket that holds bucket `index`.
pub fn coarser_index(index: i32, from: i32, to: i32) -> i32 {
    ((index - 1) >> (from - to).clamp(0, 31)) + 1
}

fn custom_bucket(h: &FloatHistogram, index: i32, count: f64) -> Bucket {
    let bound = |i: i32| usize::try_from(i).ok().and_then(|i| h.custom_values.get(i).copied());
    Bucket {
        lower: bound(index - 1).unwrap_or(f64::NEG_INFINITY),
        upper: bound(index).unwrap_or(f64::INFINITY),
        lower_inclusive: index == 0,
        upper_inclusive: true,
        count,
    }
}

/// A bucket of the positive side.
pub fn positive_bucket(h: &FloatHistogram, index: i32, count: f64) -> Bucket {
    if h.uses_custom_buckets() {
        return custom_bucket(h, index, count);
    }
    Bucket {
        lower: exponential_bound(index - 1, h.schema),
        upper: exponential_bound(index, h.schema),
        lower_inclusive: false,
        upper_inclusive: true,
        count,
    }
}

/// A bucket of the negative side.
pub fn negative_bucket(h: &FloatHistogram, index: i32, count: f64) -> Bucket {
    Bucket {
        lower: -exponential_bound(index, h.schema),
        upper: -exponential_bound(index - 1, h.schema),
        lower_inclusive: true,
        upper_inclusive: false,
        count,
    }
}

/// The zero bucket.
pub fn zero_bucket(h: &FloatHistogram) -> Bucket {
    Bucket {
        lower: -h.zero_threshold,
        upper: h.zero_threshold,
        lower_inclusive: true,
        upper_inclusive: true,
        count: h.zero_count,
    }
}

/// All populated buckets in order of values, the zero bucket among them. Where positive or negative buckets reach
/// into the zero bucket, they are cut at its threshold.
pub fn all_buckets(h: &FloatHistogram) -> Vec<Bucket> {
    let mut out: Vec<Bucket> = h.negative().filter(|(_, v)| *v != 0.0).map(|(i, v)| negative_bucket(h, i, v)).collect();
    out.reverse();
    for b in &mut out {
        if b.upper < 0.0 && b.upper > -h.zero_threshold {
            b.upper = -h.zero_threshold;
        }
    }
    if h.zero_count > 0.0 {
        out.push(zero_bucket(h));
    }
    out.extend(h.positive().filter(|(_, v)| *v != 0.0).map(|(i, v)| {
        let mut b = positive_bucket(h, i, v);
        if !h.uses_custom_buckets() && b.lower > 0.0 && b.lower < h.zero_threshold {
            b.lower = h.zero_threshold;
        }
        b
    }));
    out
}

/// The text that `count_values` makes a label of: `{count:2, sum:3, (1,2]:2}`.
pub fn text(h: &FloatHistogram) -> String {
    let mut out = format!("{{count:{}, sum:{}", format_g(h.count), format_g(h.sum));
    let mut push = |b: Bucket| {
        let (open, close) = (if b.lower_inclusive { '[' } else { '(' }, if b.upper_inclusive { ']' } else { ')' });
        write!(out, ", {open}{},{}{close}:{}", format_g(b.lower), format_g(b.upper), format_g(b.count))
            .expect("writing to a String cannot fail");
    };
    let mut negative: Vec<(i32, f64)> = h.negative().filter(|(_, v)| *v != 0.0).collect();
    negative.reverse();
    for (i, v) in negative {
        push(negative_bucket(h, i, v));
    }
    if h.zero_count != 0.0 {
        push(zero_bucket(h));
    }
    for (i, v) in h.positive().filter(|(_, v)| *v != 0.0) {
        push(positive_bucket(h, i, v));
    }
    out.push('}');
    out
}

/// Spans and populations of buckets given in ascending order of index.
pub fn spans_of(side: impl IntoIterator<Item = (i32, f64)>) -> (Vec<HistogramSpan>, Vec<f64>) {
    let mut spans: Vec<HistogramSpan> = Vec::new();
    let mut buckets = Vec::new();
    let mut next = 0i32;
    for (index, v) in side {
        match spans.last_mut() {
            Some(last) if index == next => last.length += 1,
            _ => spans.push(HistogramSpan { offset: index.wrapping_sub(next), length: 1 }),
        }
        buckets.push(v);
        next = index.wrapping_add(1);
    }
    (spans, buckets)
}
