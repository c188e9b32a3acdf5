//! Range functions and instant selectors over downsampled samples.
//!
//! Of a bucket there are a few samples with their own times, and its count and sum ([`Rollup`]). Functions that need
//! all samples take counts and sums, by the share of a bucket's time that the window covers; a histogram that is left
//! stands for those that are not. Counters and gauges are taken to be straight between samples, so that an increase
//! over a window of any length is right within one bucket. All other functions see the samples that are left, in a
//! window of at least two buckets; those that cannot be right then say so ([`NoteKind::Downsampled`]).

use std::sync::Arc;

use trefoil_model::{Labels, QueryBudget, Rollup, SampleBuffer, SelectedSeries, TimeRange, is_stale_nan};

use super::eval::Evaluator;
use super::range_function::{RangeCall, RangeFunction, Step, aggregate_histograms};
use super::select::Scratch;
use super::window::{Samples, Window};
use super::{Context, EngineError, Grid};
use crate::algebra::aggregate::note;
use crate::algebra::{Notes, Point, Points};
use crate::annotations::NoteKind;
use crate::ast::{At, RangeMode};
use crate::histogram;

/// Buckets that are read beyond the range of a function, on both sides.
const MARGIN_BUCKETS: i64 = 3;
/// Windows shorter than so many buckets are widened.
const WINDOW_BUCKETS: i64 = 2;
/// How far an instant selector looks back at least, in buckets.
const LOOKBACK_BUCKETS: i64 = 2;

/// A downsampled bucket.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Left edge, outside.
    after: i64,
    /// Right edge, or the last sample before the stale marker with which the series ended in the bucket.
    until: i64,
    interval_ms: i64,
    count: f64,
    sum: f64,
    histograms: f64,
}

/// The downsampled stretches of one series.
#[derive(Debug, Default)]
pub(super) struct Rolled {
    buckets: Vec<Bucket>,
    /// Times of stale markers.
    stale: Vec<i64>,
}

/// What samples of a downsampled stretch an instant selector sees: indices below `end`, from `begin` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    begin: usize,
    end: usize,
    lookback_ms: i64,
}

/// How far back each downsampled stretch of a buffer is seen.
pub(super) fn reaches(buffer: &SampleBuffer) -> Vec<Reach> {
    let of = |r: &Rollup| {
        let end = r.end as usize;
        let (after, _) = r.bucket(*buffer.times.get(end.checked_sub(1)?)?);
        let begin = buffer.times[..end].partition_point(|t| *t <= after);
        Some(Reach { begin, end, lookback_ms: r.interval_ms.saturating_mul(LOOKBACK_BUCKETS) })
    };
    buffer.rollups.iter().filter_map(of).collect()
}

/// The lookback for the sample at index `at`. `next` remembers where the last one was; indices must not go back.
pub(super) fn lookback_of(reaches: &[Reach], next: &mut usize, at: usize, lookback_ms: i64) -> i64 {
    while reaches.get(*next).is_some_and(|r| r.end <= at) {
        *next += 1;
    }
    reaches.get(*next).filter(|r| r.begin <= at).map_or(lookback_ms, |r| r.lookback_ms.max(lookback_ms))
}

impl Context<'_> {
    /// The range in which instant selectors find what they see of downsampled samples.
    pub(super) fn instant_range(&self, range: TimeRange) -> TimeRange {
        let margin = self.reader.coarsest_interval_ms(self.tenant, range).saturating_mul(LOOKBACK_BUCKETS);
        TimeRange::new(range.start_ms.saturating_sub(margin), range.end_ms)
    }

    /// The range that functions over downsampled samples read; `None` where there are none.
    pub(super) fn rolled_range(&self, range: TimeRange) -> Option<TimeRange> {
        let interval = self.reader.coarsest_interval_ms(self.tenant, range);
        let margin = interval.saturating_mul(MARGIN_BUCKETS);
        (interval > 0)
            .then(|| TimeRange::new(range.start_ms.saturating_sub(margin), range.end_ms.saturating_add(margin)))
    }
}

impl Evaluator<'_> {
    /// Evaluates a range function over a series that may have downsampled samples; `None` when it has none near the
    /// range.
    pub(super) fn rolled_points(
        &self,
        call: &RangeCall,
        series: &SelectedSeries,
        wide: TimeRange,
        stats_only: bool,
        scratch: &mut Scratch,
    ) -> Result<Option<Points>, EngineError> {
        scratch.buffer.clear();
        series.source.read(wide, &mut scratch.buffer)?;
        if scratch.buffer.rollups.is_empty() {
            return Ok(None);
        }
        let read = scratch.buffer.len() as u64;
        self.context.charge(read)?;
        let _held = self.context.hold_samples(&scratch.buffer)?;
        let rolled = Rolled::new(&scratch.buffer);
        scratch.samples.take_from(&mut scratch.buffer);
        if stats_only {
            scratch.samples.keep_stats();
        }
        let mut notes = Notes::new();
        let (points, total) =
            rolled.evaluate(call, &scratch.samples, &series.labels, self.grid, self.context.budget, &mut notes)?;
        for kind in notes {
            scratch.annotations.add(kind, call.position);
        }
        self.context.count_read(read, total);
        self.context.count_seen(read.min(total));
        self.context.release(read);
        Ok(Some(points))
    }
}

impl Rolled {
    pub(super) fn new(buffer: &SampleBuffer) -> Self {
        let bucket = |r: &Rollup| {
            let last = (r.end as usize).checked_sub(1)?;
            let (t, v) = (*buffer.times.get(last)?, *buffer.values.get(last)?);
            let (after, mut until) = r.bucket(t);
            if is_stale_nan(v) {
                let alive = (0..=last).rev().find(|i| !is_stale_nan(buffer.values[*i]))?;
                until = buffer.times[alive];
            }
            let (count, histograms) = (r.count as f64, r.histograms as f64);
            Some(Bucket { after, until, interval_ms: r.interval_ms, count, sum: r.sum, histograms })
        };
        let stale = buffer.times.iter().zip(&buffer.values).filter(|(_, v)| is_stale_nan(**v)).map(|(t, _)| *t);
        Self { buckets: buffer.rollups.iter().filter_map(bucket).collect(), stale: stale.collect() }
    }

    /// The buckets that a window touches.
    fn touched(&self, after: i64, until: i64) -> &[Bucket] {
        let from = self.buckets.partition_point(|b| b.until <= after);
        let to = self.buckets.partition_point(|b| b.after < until);
        &self.buckets[from..to.max(from)]
    }

    /// How far from a time the samples on both sides of it are at most for them to be neighbours.
    pub(super) fn reach(&self, t_ms: i64, lookback_ms: i64) -> i64 {
        let interval = self.touched(t_ms.saturating_sub(1), t_ms).first().map_or(0, |b| b.interval_ms);
        lookback_ms.max(interval.saturating_mul(WINDOW_BUCKETS))
    }

    fn evaluate(
        &self,
        call: &RangeCall,
        samples: &Samples,
        labels: &Labels,
        grid: Grid,
        budget: &dyn QueryBudget,
        notes: &mut Notes,
    ) -> Result<(Points, u64), EngineError> {
        let mut points = Points::absent(grid.count);
        let is_counter = matches!(call.function, RangeFunction::Rate | RangeFunction::Increase);
        let line =
            (is_counter || call.function == RangeFunction::Delta).then(|| Line::new(samples, &self.stale, is_counter));
        let (mut total, mut has_floats) = (0, false);
        for i in 0..grid.count {
            budget.check()?;
            let t_ms = grid.time(i);
            let until = match call.at {
                Some(At::Time(at)) => at - call.offset_ms,
                _ => t_ms - call.offset_ms,
            };
            let step = Step {
                after: until - call.range_ms,
                until,
                t_ms,
                range_ms: call.range_ms,
                mode: call.mode,
                start_timestamps: call.start_timestamps,
                name: labels.metric_name(),
            };
            let touched = self.touched(step.after, until);
            let interval = touched.iter().map(|b| b.interval_ms).max().unwrap_or(0);
            let own = window(samples, step.after, until);
            total += own.len() as u64;
            let value = if interval == 0 || call.mode != RangeMode::Plain {
                let (before, behind) = match call.mode {
                    RangeMode::Plain => (0, 0),
                    RangeMode::Anchored => (self.reach(step.after, call.lookback_ms), 0),
                    RangeMode::Smoothed => {
                        (self.reach(step.after, call.lookback_ms), self.reach(until, call.lookback_ms))
                    }
                };
                let w = window(samples, step.after.saturating_sub(before), until.saturating_add(behind));
                if w.is_empty() { None } else { call.apply(&w, &step, i, notes) }
            } else {
                match (&line, call.function) {
                    (Some(line), function) if !own.is_mixed() => {
                        let gap = interval.saturating_mul(WINDOW_BUCKETS).max(call.lookback_ms);
                        let per_second = function == RangeFunction::Rate;
                        let scale = if per_second { call.range_ms as f64 / 1000.0 } else { 1.0 };
                        let rise = if own.histograms.is_empty() { line.rise(step.after, until, gap) } else { None };
                        match rise {
                            Some(v) => Some(Point::Float(v / scale)),
                            None if own.floats.is_empty() => {
                                let w = self.histograms_around(samples, step.after, until, gap);
                                let smoothed = Step { mode: RangeMode::Smoothed, ..step };
                                if w.len() < 2 { None } else { call.apply(&w, &smoothed, i, notes) }
                            }
                            None => None,
                        }
                    }
                    (_, RangeFunction::SumOverTime | RangeFunction::AvgOverTime)
                        if own.floats.is_empty()
                            && (!own.histograms.is_empty() || touched.iter().all(|b| b.count <= 0.0)) =>
                    {
                        let average = call.function == RangeFunction::AvgOverTime;
                        tally_histograms(average, touched, samples, &step, notes)
                    }
                    (_, RangeFunction::CountOverTime | RangeFunction::SumOverTime | RangeFunction::AvgOverTime)
                        if own.histograms.is_empty() || call.function == RangeFunction::CountOverTime =>
                    {
                        tally(call.function, touched, &own, step.after, until)
                    }
                    (_, RangeFunction::PresentOverTime | RangeFunction::AbsentOverTime) => Some(Point::Float(1.0)),
                    _ => {
                        let w = self.widened(call, touched, interval, samples, &step, own);
                        if w.is_empty() { None } else { call.apply(&w, &step, i, notes) }
                    }
                }
            };
            if value.is_some() && interval > 0 && !is_right(call.function) {
                note(notes, NoteKind::Downsampled(step.name.to_owned()));
            }
            match value {
                Some(Point::Float(v)) => {
                    has_floats = true;
                    points.set_float(i, v);
                }
                Some(Point::Histogram(h)) => points.set_histogram(i, h),
                None => {}
            }
        }
        if has_floats {
            call.note_name(labels, notes);
        }
        Ok((points, total))
    }

    /// The histograms of a window, with its neighbours on both sides if the series went on there.
    fn histograms_around<'s>(&self, samples: &'s Samples, after: i64, until: i64, gap_ms: i64) -> Window<'s> {
        let times = &samples.histogram_times;
        let mut from = times.partition_point(|t| *t <= after);
        let mut to = times.partition_point(|t| *t <= until).max(from);
        if from > 0 && goes_on(times, &self.stale, from - 1, gap_ms) {
            from -= 1;
        }
        if to > 0 && times[to - 1] < until && goes_on(times, &self.stale, to - 1, gap_ms) {
            to += 1;
        }
        Window {
            times: &[],
            floats: &[],
            starts: &[],
            histogram_times: &times[from..to],
            histograms: &samples.histograms[from..to],
            histogram_starts: samples.histogram_starts.get(from..to).unwrap_or_default(),
        }
    }

    /// The window in which a function sees enough of the samples that are left.
    fn widened<'s>(
        &self,
        call: &RangeCall,
        touched: &[Bucket],
        interval: i64,
        samples: &'s Samples,
        step: &Step<'_>,
        own: Window<'s>,
    ) -> Window<'s> {
        if call.range_ms >= interval.saturating_mul(WINDOW_BUCKETS) && own.len() > 1 {
            return own;
        }
        let is_extreme = matches!(
            call.function,
            RangeFunction::MinOverTime
                | RangeFunction::MaxOverTime
                | RangeFunction::TsOfMinOverTime
                | RangeFunction::TsOfMaxOverTime
        );
        let (after, until) = match touched {
            [first, .., last] if is_extreme => (first.after.min(step.after), last.until.max(step.until)),
            [only] if is_extreme => (only.after.min(step.after), only.until.max(step.until)),
            _ => (step.until.saturating_sub(interval.saturating_mul(MARGIN_BUCKETS)).min(step.after), step.until),
        };
        window(samples, after, until)
    }
}

/// The samples with `after < t <= until`. Unlike [`Samples::window`] it may go back.
pub(super) fn window(samples: &Samples, after: i64, until: i64) -> Window<'_> {
    let place = |times: &[i64]| {
        let from = times.partition_point(|t| *t <= after);
        from..times.partition_point(|t| *t <= until).max(from)
    };
    let (floats, histograms) = (place(&samples.float_times), place(&samples.histogram_times));
    Window {
        times: &samples.float_times[floats.clone()],
        floats: &samples.floats[floats.clone()],
        starts: samples.float_starts.get(floats).unwrap_or_default(),
        histogram_times: &samples.histogram_times[histograms.clone()],
        histograms: &samples.histograms[histograms.clone()],
        histogram_starts: samples.histogram_starts.get(histograms).unwrap_or_default(),
    }
}

/// False for functions that need more of the samples than is left; their answers lie anywhere near.
fn is_right(function: RangeFunction) -> bool {
    use RangeFunction::{
        Changes, Deriv, DoubleExponentialSmoothing, Idelta, Irate, MadOverTime, PredictLinear, QuantileOverTime,
        StddevOverTime, StdvarOverTime,
    };
    !matches!(
        function,
        Changes
            | Deriv
            | DoubleExponentialSmoothing
            | Idelta
            | Irate
            | MadOverTime
            | PredictLinear
            | QuantileOverTime
            | StddevOverTime
            | StdvarOverTime
    )
}

/// True when the series went on between the sample at `i` and the next one.
fn goes_on(times: &[i64], stale: &[i64], i: usize, gap_ms: i64) -> bool {
    let (Some(a), Some(b)) = (times.get(i), times.get(i + 1)) else { return false };
    let next_stale = stale.get(stale.partition_point(|s| s <= a));
    b.saturating_sub(*a) <= gap_ms && next_stale.is_none_or(|s| s > b)
}

/// Sum or average of the histograms of a window. Those that are left of a bucket stand for all of it.
fn tally_histograms(
    average: bool,
    touched: &[Bucket],
    samples: &Samples,
    step: &Step<'_>,
    notes: &mut Notes,
) -> Option<Point> {
    let (times, mut weight, mut parts) = (&samples.histogram_times, 0.0, Vec::new());
    let mut add = |range: std::ops::Range<usize>, of_each: f64| {
        for h in &samples.histograms[range] {
            weight += of_each;
            parts.push(if of_each == 1.0 { h.clone() } else { Arc::new(histogram::scaled(h, of_each)) });
        }
    };
    let place = |t: i64| times.partition_point(|x| *x <= t);
    let mut raw_from = place(step.after);
    for b in touched {
        let (begin, end) = (place(b.after), place(b.until));
        if raw_from < begin {
            add(raw_from..begin, 1.0);
        }
        raw_from = raw_from.max(end);
        let inside = step.until.min(b.until) - step.after.max(b.after);
        let share = inside as f64 / (b.until - b.after).max(1) as f64;
        if begin < end && b.histograms > 0.0 && share > 0.0 {
            add(begin..end, b.histograms * share / (end - begin) as f64);
        }
    }
    let end = place(step.until);
    if raw_from < end {
        add(raw_from..end, 1.0);
    }
    match aggregate_histograms(&parts, false, step, notes)? {
        Point::Histogram(h) if average && weight > 0.0 => {
            Some(Point::Histogram(Arc::new(histogram::scaled(&h, 1.0 / weight))))
        }
        point => Some(point),
    }
}

/// Count, sum or average of a window: raw samples one by one, buckets by the share of their time.
fn tally(function: RangeFunction, touched: &[Bucket], own: &Window<'_>, after: i64, until: i64) -> Option<Point> {
    let (mut count, mut sum) = (0.0, crate::algebra::kahan::Sum::default());
    let (mut histograms, mut counted) = (0.0, 0);
    for b in touched {
        let inside = until.min(b.until) - after.max(b.after);
        let share = inside as f64 / (b.until - b.after).max(1) as f64;
        count += b.count * share;
        sum.add(b.sum * share);
        histograms += b.histograms * share;
        counted += own.histogram_times.partition_point(|t| *t <= b.until)
            - own.histogram_times.partition_point(|t| *t <= b.after);
    }
    if function == RangeFunction::CountOverTime {
        histograms += (own.histogram_times.len() - counted) as f64;
        count += histograms;
    }
    let mut next = 0;
    for (t, v) in own.times.iter().zip(own.floats) {
        while touched.get(next).is_some_and(|b| b.until < *t) {
            next += 1;
        }
        if touched.get(next).is_none_or(|b| *t <= b.after) {
            count += 1.0;
            sum.add(*v);
        }
    }
    let sum = if sum.sum.is_infinite() { sum.sum } else { sum.value() };
    if count <= 0.0 {
        return None;
    }
    Some(Point::Float(match function {
        RangeFunction::CountOverTime => count.round().max(1.0),
        RangeFunction::SumOverTime => sum,
        _ => sum / count,
    }))
}

/// A series as a line through its samples; a counter's goes on where it began anew.
struct Line<'s> {
    times: &'s [i64],
    values: Vec<f64>,
    stale: &'s [i64],
}

impl<'s> Line<'s> {
    fn new(samples: &'s Samples, stale: &'s [i64], is_counter: bool) -> Self {
        let mut values = samples.floats.clone();
        if is_counter {
            let (mut base, mut before) = (0.0, f64::NEG_INFINITY);
            for v in &mut values {
                if *v < before {
                    base += before;
                }
                before = *v;
                *v += base;
            }
        }
        Self { times: &samples.float_times, values, stale }
    }

    fn goes_on(&self, i: usize, gap_ms: i64) -> bool {
        goes_on(self.times, self.stale, i, gap_ms)
    }

    fn between(&self, i: usize, t: i64) -> f64 {
        let (a, b) = (self.times[i], self.times[i + 1]);
        let (v, w) = (self.values[i], self.values[i + 1]);
        v + (w - v) * (t - a) as f64 / (b - a) as f64
    }

    /// How much it rose in the window; `None` when it tells nothing of it.
    fn rise(&self, after: i64, until: i64, gap_ms: i64) -> Option<f64> {
        let next = self.times.partition_point(|t| *t <= after);
        let (from, low) = match next.checked_sub(1) {
            Some(i) if self.goes_on(i, gap_ms) => (after, self.between(i, after)),
            _ => (*self.times.get(next)?, self.values[next]),
        };
        let last = self.times.partition_point(|t| *t <= until).checked_sub(1)?;
        let (to, high) = if self.times[last] < until && self.goes_on(last, gap_ms) {
            (until, self.between(last, until))
        } else {
            (self.times[last], self.values[last])
        };
        (from < to).then_some(high - low)
    }
}

#[cfg(test)]
mod tests;
