//! `rate`, `increase`, `delta`, `irate`, `idelta`.

use std::sync::Arc;

use trefoil_model::{CounterResetHint, FloatHistogram};

use super::extended;
use super::range_function::Step;
use super::window::Window;
use crate::algebra::aggregate::note;
use crate::algebra::{Notes, Point};
use crate::annotations::NoteKind;
use crate::ast::RangeMode;
use crate::histogram::{self, Added, HistogramSum, IncompatibleSchema, detect_reset};

/// True when the counter began anew between two samples, by their start timestamps (0: unknown).
pub(super) fn is_start_reset(previous_start: i64, previous: i64, start: i64, t: i64) -> bool {
    if start == 0 || start >= t || start < previous {
        return false;
    }
    if start > previous {
        return true;
    }
    // Delta series start where the sample before ended; so do cumulative ones whose start is unknown.
    previous_start != 0 && previous_start < previous
}

fn overlaps(previous_start: i64, previous: i64, start: i64) -> bool {
    start != 0 && start < previous && start != previous_start
}

/// The increase over the range, extrapolated to its edges where samples come near them.
pub(super) fn rate(
    w: &Window<'_>,
    step: &Step<'_>,
    counter: bool,
    per_second: bool,
    notes: &mut Notes,
) -> Option<Point> {
    if w.is_mixed() {
        note(notes, NoteKind::MixedFloatsHistograms(step.name.to_owned()));
        return None;
    }
    if step.mode != RangeMode::Plain {
        return extended::rate(w, step, counter, per_second, notes);
    }
    if !w.histograms.is_empty() {
        return histogram_rate(w, step, counter, per_second, notes);
    }
    let last = w.floats.len().checked_sub(1)?;
    let starts: &[i64] = if step.start_timestamps && counter { w.starts } else { &[] };
    let mut increase = w.floats[last] - w.floats[0];
    if counter {
        if starts.is_empty() {
            for pair in w.floats.windows(2) {
                if pair[1] < pair[0] {
                    increase += pair[0];
                }
            }
        } else {
            note_overlap(w.times, starts, step, notes);
            for i in 1..=last {
                let reset = w.floats[i] < w.floats[i - 1]
                    || is_start_reset(starts[i - 1], w.times[i - 1], starts[i], w.times[i]);
                if reset {
                    increase += w.floats[i - 1];
                }
            }
        }
    }
    let extrapolation = Extrapolation::new(w.times, starts, step)?;
    if extrapolation.from_start {
        increase += w.floats[0];
    }
    let zero = (counter && increase > 0.0 && w.floats[0] >= 0.0).then(|| w.floats[0] / increase);
    Some(Point::Float(increase * extrapolation.factor(zero, step, per_second)))
}

fn note_overlap(times: &[i64], starts: &[i64], step: &Step<'_>, notes: &mut Notes) {
    let overlap = (1..times.len()).any(|i| overlaps(starts[i - 1], times[i - 1], starts[i]));
    if overlap {
        notes.push(NoteKind::StartTimeOverlap(step.name.to_owned(), 1));
    }
}

/// How far the samples of a range are stretched towards its edges.
pub(super) struct Extrapolation {
    to_start: f64,
    to_end: f64,
    sampled: f64,
    threshold: f64,
    average: f64,
    /// The counter began inside the range: its first value is an increase.
    from_start: bool,
}

impl Extrapolation {
    /// `None` when one sample alone tells nothing.
    pub(super) fn new(times: &[i64], starts: &[i64], step: &Step<'_>) -> Option<Self> {
        let (first, last) = (*times.first()?, *times.last()?);
        let intervals = times.len() - 1;
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let sampled = seconds(last - first);
        let average = if intervals > 0 { sampled / intervals as f64 } else { 0.0 };
        let mut out = Self {
            to_start: seconds(first - step.after),
            to_end: seconds(step.until - last),
            sampled,
            threshold: average * 1.1,
            average,
            from_start: false,
        };
        match starts.first() {
            Some(&start) if start != 0 && start > step.after && start < first => {
                out.from_start = true;
                out.to_start = 0.0;
                out.sampled = seconds(last - start);
            }
            _ if intervals == 0 => return None,
            _ => {}
        }
        Some(out)
    }

    /// True when it is certain that a counter with this first value (at least 0) and increase (above 0) had its zero
    /// before what [`Extrapolation::factor`] adds at the left edge, so that it gives the same without `zero`.
    pub(super) fn is_far_from_zero(&self, first: f64, increase: f64) -> bool {
        let (zero, start) = (first * self.sampled, increase * self.stretch());
        // The exact comparison divides: what rounding could turn over does not count, nor what has few bits left.
        (1e-290..1e290).contains(&start) && zero.is_finite() && zero > start * (1.0 + 1e-9)
    }

    /// How much is added at the left edge, but for the counter's zero.
    fn stretch(&self) -> f64 {
        if self.to_start >= self.threshold { self.average / 2.0 } else { self.to_start }
    }

    /// `zero`: the first value as a part of the increase; a counter cannot have begun before its zero.
    pub(super) fn factor(&self, zero: Option<f64>, step: &Step<'_>, per_second: bool) -> f64 {
        let mut to_start = self.to_start;
        if !self.from_start {
            to_start = self.stretch();
            if let Some(zero) = zero {
                let to_zero = self.sampled * zero;
                if to_zero < to_start {
                    to_start = to_zero;
                }
            }
        }
        let to_end = if self.to_end >= self.threshold { self.average / 2.0 } else { self.to_end };
        let mut factor = 1.0;
        if self.sampled != 0.0 {
            factor = (self.sampled + to_start + to_end) / self.sampled;
        }
        if per_second {
            factor /= step.range_ms as f64 / 1000.0;
        }
        factor
    }
}

fn histogram_rate(
    w: &Window<'_>,
    step: &Step<'_>,
    counter: bool,
    per_second: bool,
    notes: &mut Notes,
) -> Option<Point> {
    let starts: &[i64] = if step.start_timestamps && counter { w.histogram_starts } else { &[] };
    let mut increase: Option<FloatHistogram> = None;
    if w.histograms.len() > 1 {
        increase = Some(histogram_increase(w, starts, step, counter, notes)?);
    }
    let extrapolation = Extrapolation::new(w.histogram_times, starts, step)?;
    let first = &w.histograms[0];
    if extrapolation.from_start {
        increase = Some(match increase {
            None => (**first).clone(),
            Some(h) => remark(histogram::sum(&h, first), "addition", step, notes)?,
        });
    }
    let increase = increase?;
    let zero = (counter && increase.count > 0.0 && first.count >= 0.0).then(|| first.count / increase.count);
    let factor = extrapolation.factor(zero, step, per_second);
    Some(Point::Histogram(Arc::new(histogram::scaled(&increase, factor))))
}

/// Takes a sum out of its result and turns what happened into notes.
pub(super) fn remark(
    result: Result<(FloatHistogram, Added), IncompatibleSchema>,
    what: &'static str,
    step: &Step<'_>,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    match result {
        Ok((h, added)) => {
            if added.bounds_reconciled {
                note(notes, NoteKind::MismatchedCustomBuckets(what));
            }
            Some(h)
        }
        Err(IncompatibleSchema) => {
            note(notes, NoteKind::MixedExponentialCustom(step.name.to_owned()));
            None
        }
    }
}

fn is_gauge(h: &FloatHistogram) -> bool {
    h.counter_reset_hint == CounterResetHint::Gauge
}

fn histogram_increase(
    w: &Window<'_>,
    starts: &[i64],
    step: &Step<'_>,
    counter: bool,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let all = w.histograms;
    let (first, last) = (all.first()?, all.last()?);
    let start_reset = |i: usize| {
        i < starts.len() && is_start_reset(starts[i - 1], w.histogram_times[i - 1], starts[i], w.histogram_times[i])
    };
    if counter && (is_gauge(first) || is_gauge(last)) {
        note(notes, NoteKind::NativeHistogramNotCounter(step.name.to_owned()));
    }
    // A reset right after the first sample makes its layout irrelevant.
    let mut previous: Arc<FloatHistogram> = first.clone();
    if counter && (start_reset(1) || detect_reset(&all[1], first)) {
        previous = Arc::new(FloatHistogram {
            schema: all[1].schema,
            custom_values: all[1].custom_values.clone(),
            ..FloatHistogram::default()
        });
    }
    let custom = previous.uses_custom_buckets();
    let mixed = |notes: &mut Notes| {
        notes.retain(|n| !matches!(n, NoteKind::NativeHistogramNotCounter(_)));
        note(notes, NoteKind::MixedExponentialCustom(step.name.to_owned()));
    };
    if last.uses_custom_buckets() != custom {
        note(notes, NoteKind::MixedExponentialCustom(step.name.to_owned()));
        return None;
    }
    if counter {
        for h in &all[1..all.len() - 1] {
            if is_gauge(h) {
                note(notes, NoteKind::NativeHistogramNotCounter(step.name.to_owned()));
            }
            if h.uses_custom_buckets() != custom {
                mixed(notes);
                return None;
            }
        }
    }
    let mut total = HistogramSum::new(last);
    if counter {
        // The result has the coarsest schema of all samples in between.
        if let Some(coarsest) = all[1..all.len() - 1].iter().map(|h| h.schema).min()
            && !custom
            && coarsest < last.schema
        {
            total.reduce_to(coarsest);
        }
    }
    let combine = |result: Result<Added, IncompatibleSchema>, what: &'static str, notes: &mut Notes| match result {
        Ok(added) => {
            if added.bounds_reconciled {
                note(notes, NoteKind::MismatchedCustomBuckets(what));
            }
            true
        }
        Err(IncompatibleSchema) => {
            note(notes, NoteKind::MixedExponentialCustom(step.name.to_owned()));
            false
        }
    };
    if !combine(total.subtract(&previous), "subtraction", notes) {
        return None;
    }
    if counter {
        if !starts.is_empty() {
            note_overlap(w.histogram_times, starts, step, notes);
        }
        for (i, h) in all.iter().enumerate().skip(1) {
            let reset = start_reset(i) || detect_reset(h, &previous);
            if reset && !combine(total.add(&previous), "addition", notes) {
                return None;
            }
            previous = h.clone();
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        note(notes, NoteKind::NativeHistogramNotGauge(step.name.to_owned()));
    }
    let mut out = total.finish();
    out.counter_reset_hint = CounterResetHint::Gauge;
    Some(out)
}

enum Value<'a> {
    Float(f64),
    Histogram(&'a Arc<FloatHistogram>),
}

/// The difference of the last two samples, for `irate` by the second.
pub(super) fn instant_value(w: &Window<'_>, step: &Step<'_>, per_second: bool, notes: &mut Notes) -> Option<Point> {
    let start =
        |s: &[i64], i: usize| if step.start_timestamps && per_second { s.get(i).copied().unwrap_or(0) } else { 0 };
    // The last two samples of either kind, the latest first.
    let mut latest: Vec<(i64, i64, Value<'_>)> = Vec::with_capacity(4);
    for i in (w.floats.len().saturating_sub(2)..w.floats.len()).rev() {
        latest.push((w.times[i], start(w.starts, i), Value::Float(w.floats[i])));
    }
    for i in (w.histograms.len().saturating_sub(2)..w.histograms.len()).rev() {
        latest.push((w.histogram_times[i], start(w.histogram_starts, i), Value::Histogram(&w.histograms[i])));
    }
    latest.sort_by_key(|(t, ..)| std::cmp::Reverse(*t));
    let mut newest_first = latest.into_iter();
    let (t1, s1, b) = newest_first.next()?;
    let (t0, s0, a) = newest_first.next()?;
    let interval = (t1 - t0) as f64 / 1000.0;
    if interval == 0.0 {
        return None;
    }
    let start_reset = per_second && is_start_reset(s0, t0, s1, t1);
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => {
            let difference = if per_second && (b < a || start_reset) { b } else { b - a };
            Some(Point::Float(if per_second { difference / interval } else { difference }))
        }
        (Value::Histogram(a), Value::Histogram(b)) => {
            let (any_gauge, gauges) = (is_gauge(a) || is_gauge(b), is_gauge(a) && is_gauge(b));
            if per_second && any_gauge {
                note(notes, NoteKind::NativeHistogramNotCounter(step.name.to_owned()));
            }
            if !per_second && !gauges {
                note(notes, NoteKind::NativeHistogramNotGauge(step.name.to_owned()));
            }
            let mut out = if per_second && (start_reset || detect_reset(b, a)) {
                histogram::compacted((**b).clone())
            } else {
                remark(histogram::difference(b, a), "subtraction", step, notes)?
            };
            out.counter_reset_hint = CounterResetHint::Gauge;
            if per_second {
                out = histogram::divided(&out, interval);
            }
            Some(Point::Histogram(Arc::new(out)))
        }
        _ => {
            note(notes, NoteKind::MixedFloatsHistograms(step.name.to_owned()));
            None
        }
    }
}
