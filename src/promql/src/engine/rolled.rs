//! Range functions and instant selectors over downsampled samples.
//!
//! Of a bucket there are a few samples with their own times, and its count and sum ([`Rollup`]). Functions that need
//! all samples take counts and sums, by the share of a bucket's time that the window covers. Counters and gauges are
//! taken to be straight between samples, so that an increase over a window of any length is right within one bucket.
//! All other functions see the samples that are left, in a window of at least two buckets.

use trefoil_model::{Labels, QueryBudget, Rollup, SampleBuffer, SelectedSeries, TimeRange, is_stale_nan};

use super::eval::Evaluator;
use super::range_function::{RangeCall, RangeFunction, Step};
use super::select::Scratch;
use super::window::{Cursor, Samples, Window};
use super::{Context, EngineError, Grid};
use crate::algebra::{Notes, Point, Points};
use crate::ast::{At, RangeMode};

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
}

/// The downsampled stretches of one series.
#[derive(Debug, Default)]
struct Rolled {
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
        self.context.release(read);
        Ok(Some(points))
    }
}

impl Rolled {
    fn new(buffer: &SampleBuffer) -> Self {
        let bucket = |r: &Rollup| {
            let last = (r.end as usize).checked_sub(1)?;
            let (t, v) = (*buffer.times.get(last)?, *buffer.values.get(last)?);
            let (after, mut until) = r.bucket(t);
            if is_stale_nan(v) {
                let alive = (0..=last).rev().find(|i| !is_stale_nan(buffer.values[*i]))?;
                until = buffer.times[alive];
            }
            Some(Bucket { after, until, interval_ms: r.interval_ms, count: r.count as f64, sum: r.sum })
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
        let (before, behind) = call.margins();
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
            let window = |after: i64, until: i64| samples.window(&mut Cursor::default(), after, until);
            let interval = touched.iter().map(|b| b.interval_ms).max().unwrap_or(0);
            let own = window(step.after, until);
            total += own.len() as u64;
            let value = if interval == 0 || call.mode != RangeMode::Plain {
                let before = before.max(interval.saturating_mul(WINDOW_BUCKETS));
                let before = if call.mode == RangeMode::Plain { 0 } else { before };
                let w = window(step.after.saturating_sub(before), until.saturating_add(behind));
                if w.is_empty() { None } else { call.apply(&w, &step, i, notes) }
            } else {
                match (&line, call.function) {
                    (Some(line), function) if own.histograms.is_empty() => {
                        let gap = interval.saturating_mul(WINDOW_BUCKETS).max(call.lookback_ms);
                        let per_second = function == RangeFunction::Rate;
                        let scale = if per_second { call.range_ms as f64 / 1000.0 } else { 1.0 };
                        line.rise(step.after, until, gap).map(|v| Point::Float(v / scale))
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
        samples.window(&mut Cursor::default(), after, until)
    }
}

/// Count, sum or average of a window: raw samples one by one, buckets by the share of their time.
fn tally(function: RangeFunction, touched: &[Bucket], own: &Window<'_>, after: i64, until: i64) -> Option<Point> {
    let (mut count, mut sum) = (0.0, crate::algebra::kahan::Sum::default());
    for b in touched {
        let inside = until.min(b.until) - after.max(b.after);
        let share = inside as f64 / (b.until - b.after).max(1) as f64;
        count += b.count * share;
        sum.add(b.sum * share);
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
        RangeFunction::CountOverTime => (count + own.histograms.len() as f64).round().max(1.0),
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

    /// True when the series went on between the sample at `i` and the next one.
    fn goes_on(&self, i: usize, gap_ms: i64) -> bool {
        let (Some(a), Some(b)) = (self.times.get(i), self.times.get(i + 1)) else { return false };
        let next_stale = self.stale.get(self.stale.partition_point(|s| s <= a));
        b.saturating_sub(*a) <= gap_ms && next_stale.is_none_or(|s| s > b)
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
