//! The trim operators: removing the observations on one side of a value.

use trefoil_model::FloatHistogram;

use super::buckets::{Bucket, negative_bucket, positive_bucket, zero_bucket};

/// Keeps the observations below (`upper`) or above `at`, interpolating inside the bucket that holds `at`. Count and
/// sum are estimated anew when anything was removed.
pub fn trimmed(h: &FloatHistogram, at: f64, upper: bool) -> FloatHistogram {
    let linear = h.uses_custom_buckets();
    let mut out = h.clone();
    let (mut count, mut sum, mut changed) = (0.0, 0.0, false);
    let mut has = [false, false];
    for positive in [true, false] {
        let cells: Vec<(i32, f64)> = if positive { h.positive().collect() } else { h.negative().collect() };
        let target = if positive { &mut out.positive_buckets } else { &mut out.negative_buckets };
        for (slot, (index, population)) in target.iter_mut().zip(cells) {
            if population == 0.0 {
                continue;
            }
            has[usize::from(positive)] = true;
            let bucket =
                if positive { positive_bucket(h, index, population) } else { negative_bucket(h, index, population) };
            let whole = if upper { bucket.upper <= at } else { bucket.lower >= at };
            let partly = if upper { bucket.lower < at } else { bucket.upper > at };
            let (kept, middle) = if whole {
                (population, midpoint(bucket.lower, bucket.upper, positive, linear))
            } else if partly {
                cut(&bucket, at, upper, positive, linear)
            } else {
                (0.0, 0.0)
            };
            count += kept;
            sum += middle * kept;
            if kept != population {
                *slot = kept;
                changed = true;
            }
        }
    }
    if h.zero_count > 0.0 {
        let (kept, middle) = cut_zero(&zero_bucket(h), at, upper, has[0], has[1]);
        changed |= kept != h.zero_count;
        out.zero_count = kept;
        sum += middle * kept;
        count += kept;
    }
    if changed {
        out.count = count;
        out.sum = sum;
        out = super::compacted(out);
    }
    out
}

fn cut(b: &Bucket, at: f64, upper: bool, positive: bool, linear: bool) -> (f64, f64) {
    if b.lower.is_infinite() || b.upper.is_infinite() {
        return cut_infinite(b, at, upper);
    }
    let under = if at <= b.lower {
        0.0
    } else if at >= b.upper {
        b.count
    } else {
        b.count * b.fraction_below(at, linear)
    };
    if upper {
        (under, midpoint(b.lower, at, positive, linear))
    } else {
        (b.count - under, midpoint(at, b.upper, positive, linear))
    }
}

/// Nothing is known of the distribution inside an unbounded bucket; where its finite bound is positive, the other is
/// taken for 0.
fn cut_infinite(b: &Bucket, at: f64, upper: bool) -> (f64, f64) {
    let finite = |v: f64| if v.is_infinite() { 0.0 } else { v };
    if b.lower == f64::NEG_INFINITY {
        if upper {
            if at >= b.upper {
                return (b.count, 0.0);
            }
            if at > 0.0 && b.upper > 0.0 && b.upper.is_finite() {
                return (b.count * at / b.upper, at / 2.0);
            }
            if b.upper <= 0.0 {
                return (b.count, at);
            }
            return (0.0, finite(b.upper));
        }
        if at <= b.lower {
            return (b.count, 0.0);
        }
        if at >= 0.0 && b.upper > at && b.upper.is_finite() {
            return (b.count * (1.0 - at / b.upper), f64::midpoint(at, b.upper));
        }
        return (0.0, finite(b.upper));
    }
    if !upper && at >= b.lower { (b.count, at) } else { (0.0, finite(b.lower)) }
}

fn cut_zero(b: &Bucket, at: f64, upper: bool, has_negative: bool, has_positive: bool) -> (f64, f64) {
    let high = if has_negative && !has_positive { 0.0 } else { b.upper };
    let low = if has_positive && !has_negative { 0.0 } else { b.lower };
    let all = (b.count, f64::midpoint(low, high));
    if upper {
        if at <= low {
            return (0.0, 0.0);
        }
        if at >= high {
            return all;
        }
        return (b.count * (at - low) / (high - low), f64::midpoint(low, at));
    }
    if at <= low {
        return all;
    }
    if at >= high {
        return (0.0, 0.0);
    }
    (b.count * (high - at) / (high - low), f64::midpoint(at, high))
}

fn midpoint(low: f64, high: f64, positive: bool, linear: bool) -> f64 {
    match (low.is_infinite(), high.is_infinite()) {
        (true, true) => 0.0,
        (true, false) => {
            if high > 0.0 {
                high / 2.0
            } else {
                high
            }
        }
        (false, true) => low,
        (false, false) if linear => f64::midpoint(low, high),
        (false, false) => {
            let geometric = (low * high).abs().sqrt();
            if positive { geometric } else { -geometric }
        }
    }
}
