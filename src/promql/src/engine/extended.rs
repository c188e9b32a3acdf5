//! Ranges with `anchored` or `smoothed` edges.
//!
//! Windows come with samples outside the range: as far back as the lookback, and with `smoothed` as far ahead.

use std::sync::Arc;

use trefoil_model::{CounterResetHint, FloatHistogram};

use super::eval::Evaluator;
use super::range_function::Step;
use super::rate::remark;
use super::rolled::{Rolled, window};
use super::select::{Scratch, read_range};
use super::window::{Cursor, Window};
use super::{EngineError, sample_value};
use crate::algebra::aggregate::note;
use crate::algebra::{Notes, Point, Points, Series};
use crate::annotations::NoteKind;
use crate::ast::{At, PositionRange, RangeMode, VectorSelector};
use crate::histogram::{self, detect_reset};
use crate::value::SampleValue;

/// Linear between two samples. A counter that went down began at 0.
fn interpolate((t1, v1): (i64, f64), (t2, v2): (i64, f64), t: i64, counter: bool) -> f64 {
    let from = if counter && v2 < v1 { 0.0 } else { v1 };
    from + (v2 - from) * (t - t1) as f64 / (t2 - t1) as f64
}

/// First and last index that matter for a range: `None` when no sample does.
fn edges(times: &[i64], after: i64, until: i64, smoothed: bool) -> Option<(usize, usize)> {
    let mut last = times.len().checked_sub(1)?;
    let first = times[..last].partition_point(|t| *t <= after).saturating_sub(1);
    if smoothed {
        last = times[..last].partition_point(|t| *t < until);
    }
    if times[last] <= after || (smoothed && times[first] > until) {
        return None;
    }
    Some((first, last))
}

/// The values at both edges of the range.
fn float_edges(
    w: &Window<'_>,
    (first, last): (usize, usize),
    after: i64,
    until: i64,
    smoothed: bool,
    counter: bool,
) -> (f64, f64) {
    let at = |i: usize| (w.times[i], w.floats[i]);
    let left = if smoothed && w.times[first] < after && first + 1 < w.times.len() {
        interpolate(at(first), at(first + 1), after, counter)
    } else {
        w.floats[first]
    };
    let right = if smoothed && last > 0 && w.times[last] > until {
        interpolate(at(last - 1), at(last), until, counter)
    } else {
        w.floats[last]
    };
    (left, right)
}

/// `rate`, `increase`, `delta` between the edges.
pub(super) fn rate(
    w: &Window<'_>,
    step: &Step<'_>,
    counter: bool,
    per_second: bool,
    notes: &mut Notes,
) -> Option<Point> {
    if !w.histograms.is_empty() {
        return histogram_rate(w, step, counter, per_second, notes);
    }
    let smoothed = step.mode == RangeMode::Smoothed;
    let (first, last) = edges(w.times, step.after, step.until, smoothed)?;
    let (left, right) = float_edges(w, (first, last), step.after, step.until, smoothed, counter);
    let mut increase = right - left;
    if counter {
        let from = if w.times[first] <= step.after { first + 1 } else { first };
        let to = if w.times[last] >= step.until { last } else { last + 1 };
        let mut previous = left;
        for v in w.floats.get(from..to).unwrap_or_default() {
            if *v < previous {
                increase += previous;
            }
            previous = *v;
        }
        if right < previous {
            increase += previous;
        }
    }
    if per_second {
        increase /= step.range_ms as f64 / 1000.0;
    }
    Some(Point::Float(increase))
}

fn interpolate_histograms(
    (t1, h1): (i64, &Arc<FloatHistogram>),
    (t2, h2): (i64, &Arc<FloatHistogram>),
    t: i64,
    counter: bool,
    step: &Step<'_>,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    if t == t1 {
        return Some((**h1).clone());
    }
    if t == t2 {
        return Some((**h2).clone());
    }
    let fraction = (t - t1) as f64 / (t2 - t1) as f64;
    if counter && detect_reset(h2, h1) {
        return Some(histogram::scaled(h2, fraction));
    }
    let hint = h2.counter_reset_hint;
    let difference = remark(histogram::difference(h2, h1), "subtraction", step, notes)?;
    let part = histogram::scaled(&difference, fraction);
    let mut out = remark(histogram::sum(&part, h1), "addition", step, notes)?;
    out.counter_reset_hint = merged_hint(hint, h1.counter_reset_hint);
    Some(out)
}

/// The hint of a sum.
fn merged_hint(a: CounterResetHint, b: CounterResetHint) -> CounterResetHint {
    if a == b {
        a
    } else if a == CounterResetHint::Gauge || b == CounterResetHint::Gauge {
        CounterResetHint::Gauge
    } else {
        CounterResetHint::Unknown
    }
}

fn histogram_rate(
    w: &Window<'_>,
    step: &Step<'_>,
    counter: bool,
    per_second: bool,
    notes: &mut Notes,
) -> Option<Point> {
    let smoothed = step.mode == RangeMode::Smoothed;
    let times = w.histogram_times;
    let (first, last) = edges(times, step.after, step.until, smoothed)?;
    let custom = w.histograms[first].uses_custom_buckets();
    for h in &w.histograms[first..=last] {
        if h.uses_custom_buckets() != custom {
            note(notes, NoteKind::MixedExponentialCustom(step.name.to_owned()));
            return None;
        }
        if counter && h.counter_reset_hint == CounterResetHint::Gauge {
            note(notes, NoteKind::NativeHistogramNotCounter(step.name.to_owned()));
        }
    }
    let at = |i: usize| (times[i], &w.histograms[i]);
    let left = if smoothed && times[first] < step.after && first + 1 < times.len() {
        interpolate_histograms(at(first), at(first + 1), step.after, counter, step, notes)?
    } else {
        (*w.histograms[first]).clone()
    };
    let right = if smoothed && last > 0 && times[last] > step.until {
        interpolate_histograms(at(last - 1), at(last), step.until, counter, step, notes)?
    } else {
        (*w.histograms[last]).clone()
    };
    let gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
    let gauges = gauge(&left) && gauge(&right);
    if !counter && !gauges {
        note(notes, NoteKind::NativeHistogramNotGauge(step.name.to_owned()));
    }
    let mut out = remark(histogram::difference(&right, &left), "subtraction", step, notes)?;
    if counter && let Some(correction) = correction(w, (first, last), &left, &right, step, smoothed, notes)? {
        out = remark(histogram::sum(&out, &correction), "addition", step, notes)?;
    }
    if per_second {
        out = histogram::divided(&out, step.range_ms as f64 / 1000.0);
    }
    out.counter_reset_hint = CounterResetHint::Gauge;
    Some(Point::Histogram(Arc::new(histogram::compacted(out))))
}

/// What resets inside the range took away. The outer `None`: histograms do not go together.
#[expect(clippy::option_option, reason = "failure and nothing to correct are different things")]
fn correction(
    w: &Window<'_>,
    (first, last): (usize, usize),
    left: &FloatHistogram,
    right: &FloatHistogram,
    step: &Step<'_>,
    smoothed: bool,
    notes: &mut Notes,
) -> Option<Option<FloatHistogram>> {
    let all = w.histograms;
    let mut from = first + 1;
    let mut previous: &FloatHistogram = left;
    if smoothed
        && w.histogram_times[first] < step.after
        && first + 1 < all.len()
        && detect_reset(&all[first + 1], &all[first])
    {
        // The interpolation at the left edge already took this reset into account.
        previous = &all[first + 1];
        from += 1;
    }
    // The last sample is what `right` was made of.
    if from > last {
        return Some(None);
    }
    let mut total: Option<FloatHistogram> = None;
    let middle = all.get(from..last).unwrap_or_default().iter().map(Arc::as_ref);
    for current in middle.chain(std::iter::once(right)) {
        if detect_reset(current, previous) {
            total = Some(match total {
                None => previous.clone(),
                Some(t) => remark(histogram::sum(&t, previous), "addition", step, notes)?,
            });
        }
        previous = current;
    }
    Some(total)
}

/// For `changes` and `resets` of an anchored range: from the last sample at or before its left edge on.
pub(super) fn from_anchor<'a>(w: &Window<'a>, step: &Step<'_>) -> Option<Window<'a>> {
    if step.mode != RangeMode::Anchored {
        return Some(*w);
    }
    let before = |times: &[i64]| times.partition_point(|t| *t <= step.after);
    let (f, h) = (before(w.times), before(w.histogram_times));
    if f >= w.times.len() && h >= w.histogram_times.len() {
        return None;
    }
    let (from_float, from_histogram) = match (f.checked_sub(1), h.checked_sub(1)) {
        (None, None) => (0, 0),
        (Some(i), None) => (i, h),
        (None, Some(j)) => (f, j),
        (Some(i), Some(j)) if w.times[i] >= w.histogram_times[j] => (i, h),
        (Some(_), Some(j)) => (f, j),
    };
    Some(Window {
        times: &w.times[from_float..],
        floats: &w.floats[from_float..],
        starts: w.starts.get(from_float..).unwrap_or_default(),
        histogram_times: &w.histogram_times[from_histogram..],
        histograms: &w.histograms[from_histogram..],
        histogram_starts: w.histogram_starts.get(from_histogram..).unwrap_or_default(),
    })
}

/// The samples of a range as the result of a query.
pub(super) fn raw_samples(w: &Window<'_>, after: i64, until: i64, mode: RangeMode) -> Vec<(i64, SampleValue)> {
    let mut out: Vec<(i64, SampleValue)> = Vec::new();
    if mode == RangeMode::Plain || w.floats.is_empty() {
        let inside = |t: &i64| *t > after && *t <= until;
        out.extend(w.times.iter().zip(w.floats).filter(|(t, _)| inside(t)).map(|(t, v)| (*t, SampleValue::Float(*v))));
        let histograms = w.histogram_times.iter().zip(w.histograms).filter(|(t, _)| inside(t));
        out.extend(histograms.map(|(t, h)| (*t, sample_value(Point::Histogram(h.clone())))));
        out.sort_by_key(|(t, _)| *t);
        return out;
    }
    let smoothed = mode == RangeMode::Smoothed;
    let mut last = w.times.len() - 1;
    let first = w.times[..last].partition_point(|t| *t <= after).saturating_sub(1);
    if smoothed {
        last = w.times[..last].partition_point(|t| *t < until);
    }
    if w.times[last] <= after {
        return out;
    }
    let (left, right) = float_edges(w, (first, last), after, until, smoothed, false);
    out.push((after, SampleValue::Float(left)));
    for (t, v) in w.times[first..=last].iter().zip(&w.floats[first..=last]) {
        if *t > after && *t < until {
            out.push((*t, SampleValue::Float(*v)));
        }
    }
    out.push((until, SampleValue::Float(right)));
    out
}

impl Evaluator<'_> {
    /// An instant selector with `smoothed`: between two samples the value on the line between them.
    pub(super) fn smoothed_vector(
        &self,
        v: &VectorSelector,
        position: PositionRange,
    ) -> Result<Vec<Series>, EngineError> {
        let lookback = self.context.options.lookback_ms;
        let (first, last) = self.selector_times(v.at, v.offset.ms());
        let range = read_range(first.saturating_sub(lookback), last.saturating_add(lookback));
        let range = self.context.rolled_range(range).unwrap_or(range);
        let selected = self.context.select(v, range)?;
        let f = |series: &trefoil_model::SelectedSeries, scratch: &mut Scratch| {
            scratch.buffer.clear();
            series.source.read(range, &mut scratch.buffer)?;
            let rolled = (!scratch.buffer.rollups.is_empty()).then(|| Rolled::new(&scratch.buffer));
            scratch.samples.take_from(&mut scratch.buffer);
            let mut points = Points::absent(self.grid.count);
            let mut cursor = Cursor::default();
            let mut notes = Notes::new();
            for i in 0..self.grid.count {
                let t = match v.at {
                    Some(At::Time(_)) => first,
                    _ => first + self.grid.step_ms * i as i64,
                };
                let w = match rolled.as_ref().map(|r| r.reach(t, lookback)) {
                    Some(reach) => window(&scratch.samples, t - reach, t + reach),
                    None => scratch.samples.window(&mut cursor, t - lookback, t + lookback),
                };
                points.set(i, smoothed_point(&w, t, series.labels.metric_name(), &mut notes));
            }
            for kind in notes {
                scratch.annotations.add(kind, position);
            }
            Ok((!points.is_void()).then(|| Series::new(series.labels.clone(), points)))
        };
        self.context.map_series(&selected, self.grid.count, &f)
    }
}

fn smoothed_point(w: &Window<'_>, t: i64, name: &str, notes: &mut Notes) -> Option<Point> {
    if w.is_mixed() {
        note(notes, NoteKind::MixedFloatsHistograms(name.to_owned()));
        return None;
    }
    if w.histograms.is_empty() {
        let i = w.times.partition_point(|x| *x < t);
        return match (i.checked_sub(1), w.times.get(i)) {
            (_, Some(x)) if *x == t => Some(Point::Float(w.floats[i])),
            (Some(p), Some(x)) => {
                Some(Point::Float(interpolate((w.times[p], w.floats[p]), (*x, w.floats[i]), t, false)))
            }
            (Some(p), None) => Some(Point::Float(w.floats[p])),
            (None, _) => None,
        };
    }
    let i = w.histogram_times.partition_point(|x| *x < t);
    match (i.checked_sub(1), w.histogram_times.get(i)) {
        (_, Some(x)) if *x == t => {
            let mut h = (*w.histograms[i]).clone();
            if h.counter_reset_hint != CounterResetHint::Gauge {
                h.counter_reset_hint = CounterResetHint::Unknown;
            }
            Some(Point::Histogram(Arc::new(h)))
        }
        (Some(p), Some(x)) => {
            let (a, b) = (&w.histograms[p], &w.histograms[i]);
            if a.uses_custom_buckets() != b.uses_custom_buckets() {
                note(notes, NoteKind::MixedExponentialCustom(name.to_owned()));
                return None;
            }
            let gauges =
                a.counter_reset_hint == CounterResetHint::Gauge && b.counter_reset_hint == CounterResetHint::Gauge;
            let step = Step {
                after: t,
                until: t,
                t_ms: t,
                range_ms: 0,
                mode: RangeMode::Smoothed,
                start_timestamps: false,
                name,
            };
            let h = interpolate_histograms((w.histogram_times[p], a), (*x, b), t, !gauges, &step, notes)?;
            Some(Point::Histogram(Arc::new(h)))
        }
        (Some(p), None) => {
            let mut h = (*w.histograms[p]).clone();
            h.counter_reset_hint = CounterResetHint::Unknown;
            Some(Point::Histogram(Arc::new(h)))
        }
        (None, _) => None,
    }
}
