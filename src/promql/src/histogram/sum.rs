//! Compensated addition of histograms with differing schemas, zero buckets and custom bounds.

use trefoil_model::{CounterResetHint, FloatHistogram};

use super::buckets::{coarser_index, exponential_bound, spans_of};
use crate::algebra::kahan::Sum;

/// Exponential and custom buckets do not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IncompatibleSchema;

/// What an addition had to reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Added {
    /// One side said "reset", the other "no reset".
    pub hint_collision: bool,
    /// The custom bounds differed and were intersected.
    pub bounds_reconciled: bool,
}

/// Buckets of one side by ascending index.
type Side = Vec<(i32, Sum)>;

/// A histogram that others are added to.
#[derive(Debug, Clone)]
pub struct HistogramSum {
    schema: i32,
    zero_threshold: f64,
    zero: Sum,
    count: Sum,
    sum: Sum,
    positive: Side,
    negative: Side,
    custom_values: Vec<f64>,
    hint: CounterResetHint,
    reset_seen: bool,
    no_reset_seen: bool,
}

impl HistogramSum {
    /// Starts with a histogram.
    pub fn new(h: &FloatHistogram) -> Self {
        let side = |it: &mut dyn Iterator<Item = (i32, f64)>| {
            it.filter(|(_, v)| *v != 0.0).map(|(i, v)| (i, Sum::new(v))).collect()
        };
        Self {
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero: Sum::new(h.zero_count),
            count: Sum::new(h.count),
            sum: Sum::new(h.sum),
            positive: side(&mut h.positive()),
            negative: side(&mut h.negative()),
            custom_values: h.custom_values.clone(),
            hint: h.counter_reset_hint,
            reset_seen: h.counter_reset_hint == CounterResetHint::CounterReset,
            no_reset_seen: h.counter_reset_hint == CounterResetHint::NotCounterReset,
        }
    }

    /// Adds a histogram; on an error nothing changed.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Added, IncompatibleSchema> {
        self.combine(other, 1.0)
    }

    /// Subtracts a histogram; on an error nothing changed.
    pub fn subtract(&mut self, other: &FloatHistogram) -> Result<Added, IncompatibleSchema> {
        self.combine(other, -1.0)
    }

    /// Adds another sum; on an error nothing changed.
    pub fn merge(&mut self, other: Self) -> Result<Added, IncompatibleSchema> {
        let (reset, no_reset) = (other.reset_seen, other.no_reset_seen);
        let added = self.add(&other.finish())?;
        self.reset_seen |= reset;
        self.no_reset_seen |= no_reset;
        Ok(added)
    }

    /// True when both "reset" and "no reset" hints were among the summands.
    pub fn has_hint_collision(&self) -> bool {
        self.reset_seen && self.no_reset_seen
    }

    /// Merges buckets until the schema is `schema`, which may not be finer.
    pub fn reduce_to(&mut self, schema: i32) {
        self.reduce(schema);
    }

    /// Multiplies everything.
    pub fn scale(&mut self, factor: f64) {
        let apply = |s: &mut Sum| {
            s.sum *= factor;
            s.c *= factor;
        };
        for (_, v) in self.positive.iter_mut().chain(&mut self.negative) {
            apply(v);
        }
        apply(&mut self.zero);
        apply(&mut self.count);
        apply(&mut self.sum);
    }

    fn has_overflow(&self) -> bool {
        let infinite = |s: &Sum| s.sum.is_infinite();
        infinite(&self.zero)
            || infinite(&self.count)
            || infinite(&self.sum)
            || self.positive.iter().chain(&self.negative).any(|(_, v)| infinite(v))
    }

    /// The result without empty buckets.
    pub fn finish(self) -> FloatHistogram {
        let side = |s: Side| spans_of(s.into_iter().map(|(i, v)| (i, v.value())).filter(|(_, v)| *v != 0.0));
        let (positive_spans, positive_buckets) = side(self.positive);
        let (negative_spans, negative_buckets) = side(self.negative);
        FloatHistogram {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero.value(),
            count: self.count.value(),
            sum: self.sum.value(),
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values: self.custom_values,
            counter_reset_hint: self.hint,
            integer: false,
        }
    }

    fn combine(&mut self, other: &FloatHistogram, sign: f64) -> Result<Added, IncompatibleSchema> {
        let custom = self.schema == trefoil_model::histogram::CUSTOM_BUCKETS_SCHEMA;
        if custom != other.uses_custom_buckets() {
            return Err(IncompatibleSchema);
        }
        let mut added = Added { hint_collision: self.adjust_hint(other.counter_reset_hint), ..Added::default() };
        let mut other_sum = Self::new(other);
        if custom {
            if self.custom_values != other.custom_values {
                added.bounds_reconciled = true;
                let bounds = intersection(&self.custom_values, &other.custom_values);
                self.positive = remapped(&self.positive, &self.custom_values, &bounds);
                other_sum.positive = remapped(&other_sum.positive, &other.custom_values, &bounds);
                self.custom_values = bounds;
            }
        } else {
            while self.zero_threshold != other_sum.zero_threshold {
                if self.zero_threshold > other_sum.zero_threshold {
                    other_sum.widen_zero(self.zero_threshold);
                } else {
                    self.widen_zero(other_sum.zero_threshold);
                }
            }
            let schema = self.schema.min(other.schema);
            self.reduce(schema);
            other_sum.reduce(schema);
        }
        merge(&mut self.positive, other_sum.positive, sign);
        merge(&mut self.negative, other_sum.negative, sign);
        self.zero.add(sign * other_sum.zero.value());
        self.count.add(sign * other.count);
        self.sum.add(sign * other.sum);
        Ok(added)
    }

    fn adjust_hint(&mut self, other: CounterResetHint) -> bool {
        self.reset_seen |= other == CounterResetHint::CounterReset;
        self.no_reset_seen |= other == CounterResetHint::NotCounterReset;
        if self.hint == other || self.hint == CounterResetHint::Gauge {
            return false;
        }
        let collision = other != CounterResetHint::Gauge
            && other != CounterResetHint::Unknown
            && self.hint != CounterResetHint::Unknown;
        self.hint = if other == CounterResetHint::Gauge { other } else { CounterResetHint::Unknown };
        collision
    }

    /// Widens the zero bucket to `threshold`, or further when that lies inside a populated bucket.
    fn widen_zero(&mut self, threshold: f64) {
        let mut threshold = threshold;
        loop {
            let before = threshold;
            for side in [&self.positive, &self.negative] {
                for (index, _) in side.iter().filter(|(_, v)| v.value() != 0.0) {
                    let lower = exponential_bound(index - 1, self.schema);
                    let upper = exponential_bound(*index, self.schema);
                    if lower < threshold && upper > threshold {
                        threshold = upper;
                    }
                }
            }
            if threshold == before {
                break;
            }
        }
        let schema = self.schema;
        let zero = &mut self.zero;
        for side in [&mut self.positive, &mut self.negative] {
            side.retain(|(index, v)| {
                let inside = exponential_bound(index - 1, schema) < threshold;
                if inside {
                    zero.add(v.sum);
                    zero.add(v.c);
                }
                !inside
            });
        }
        self.zero_threshold = threshold;
    }

    fn reduce(&mut self, schema: i32) {
        if schema == self.schema {
            return;
        }
        for side in [&mut self.positive, &mut self.negative] {
            let mut out: Side = Vec::with_capacity(side.len());
            for (index, v) in side.drain(..) {
                push_or_add(&mut out, coarser_index(index, self.schema, schema), v);
            }
            *side = out;
        }
        self.schema = schema;
    }
}

fn push_or_add(side: &mut Side, index: i32, v: Sum) {
    match side.last_mut() {
        Some((last, total)) if *last == index => {
            total.add(v.sum);
            total.add(v.c);
        }
        _ => side.push((index, v)),
    }
}

fn merge(into: &mut Side, other: Side, sign: f64) {
    // Adding a histogram of the same layout is the usual case.
    if into.len() == other.len() && into.iter().zip(&other).all(|(a, b)| a.0 == b.0) {
        for ((_, a), (_, b)) in into.iter_mut().zip(other) {
            a.add(sign * b.value());
        }
        return;
    }
    let mut out: Side = Vec::with_capacity(into.len() + other.len());
    let mut left = into.drain(..).peekable();
    for (index, v) in other {
        while let Some(cell) = left.next_if(|(i, _)| *i < index) {
            out.push(cell);
        }
        let mut total = left.next_if(|(i, _)| *i == index).map_or_else(Sum::default, |(_, t)| t);
        total.add(sign * v.value());
        out.push((index, total));
    }
    out.extend(left);
    *into = out;
}

/// The bounds that both have.
fn intersection(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().copied().filter(|x| b.contains(x)).collect()
}

/// Moves buckets of `from` bounds to the buckets of `to` (a subset) that contain them.
fn remapped(side: &Side, from: &[f64], to: &[f64]) -> Side {
    let mut out = Side::new();
    for (index, v) in side {
        let target = match usize::try_from(*index).ok().and_then(|i| from.get(i)) {
            Some(bound) => to.partition_point(|t| t < bound),
            None => to.len(),
        };
        push_or_add(&mut out, target as i32, *v);
    }
    out
}

/// A running mean of histograms that goes over to incremental means before a sum overflows.
#[derive(Debug, Clone)]
pub struct HistogramMean {
    total: HistogramSum,
    count: f64,
    incremental: bool,
}

impl HistogramMean {
    /// A mean of one histogram.
    pub fn new(h: &FloatHistogram) -> Self {
        Self { total: HistogramSum::new(h), count: 1.0, incremental: false }
    }

    /// Adds a histogram; on an error nothing changed.
    pub fn add(&mut self, h: &FloatHistogram) -> Result<Added, IncompatibleSchema> {
        if !self.incremental {
            let mut next = self.total.clone();
            let added = next.add(h)?;
            if !next.has_overflow() {
                self.total = next;
                self.count += 1.0;
                return Ok(added);
            }
            self.incremental = true;
            self.total.scale(1.0 / self.count);
        }
        self.count += 1.0;
        self.total.scale((self.count - 1.0) / self.count);
        self.total.add(&super::divided(h, self.count))
    }

    /// See [`HistogramSum::has_hint_collision`].
    pub fn has_hint_collision(&self) -> bool {
        self.total.has_hint_collision()
    }

    /// The mean.
    pub fn finish(mut self) -> FloatHistogram {
        if !self.incremental {
            let n = self.count;
            let divide = |s: &mut Sum| {
                s.sum /= n;
                s.c /= n;
            };
            let t = &mut self.total;
            for (_, v) in t.positive.iter_mut().chain(&mut t.negative) {
                divide(v);
            }
            divide(&mut t.zero);
            divide(&mut t.count);
            divide(&mut t.sum);
        }
        self.total.finish()
    }
}
