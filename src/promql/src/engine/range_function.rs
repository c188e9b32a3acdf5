//! Functions over range vectors.

use std::sync::Arc;

use trefoil_model::{FloatHistogram, Labels, QueryBudget};

use super::rate::{instant_value, is_start_reset, rate};
use super::select::counted;
use super::window::{Cursor, Samples, Window};
use super::{EngineError, Grid, extended, fast_path};
use crate::algebra::aggregate::note;
use crate::algebra::kahan::{Mean, Sum};
use crate::algebra::{Notes, Point, Points, quantile};
use crate::annotations::NoteKind;
use crate::ast::{At, PositionRange, RangeMode};
use crate::histogram::{self, Added, HistogramMean, HistogramSum, IncompatibleSchema, detect_reset};

/// How many samples are looked at between two questions to the budget.
const CHECK_SAMPLES: u64 = 1 << 18;

/// A function over a range vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeFunction {
    AbsentOverTime,
    AvgOverTime,
    Changes,
    CountOverTime,
    Delta,
    Deriv,
    DoubleExponentialSmoothing,
    FirstOverTime,
    Idelta,
    Increase,
    Irate,
    LastOverTime,
    MadOverTime,
    MaxOverTime,
    MinOverTime,
    PredictLinear,
    PresentOverTime,
    QuantileOverTime,
    Rate,
    Resets,
    StddevOverTime,
    StdvarOverTime,
    SumOverTime,
    TsOfFirstOverTime,
    TsOfLastOverTime,
    TsOfMaxOverTime,
    TsOfMinOverTime,
}

impl RangeFunction {
    pub(super) fn find(name: &str) -> Option<Self> {
        Some(match name {
            "absent_over_time" => Self::AbsentOverTime,
            "avg_over_time" => Self::AvgOverTime,
            "changes" => Self::Changes,
            "count_over_time" => Self::CountOverTime,
            "delta" => Self::Delta,
            "deriv" => Self::Deriv,
            "double_exponential_smoothing" => Self::DoubleExponentialSmoothing,
            "first_over_time" => Self::FirstOverTime,
            "idelta" => Self::Idelta,
            "increase" => Self::Increase,
            "irate" => Self::Irate,
            "last_over_time" => Self::LastOverTime,
            "mad_over_time" => Self::MadOverTime,
            "max_over_time" => Self::MaxOverTime,
            "min_over_time" => Self::MinOverTime,
            "predict_linear" => Self::PredictLinear,
            "present_over_time" => Self::PresentOverTime,
            "quantile_over_time" => Self::QuantileOverTime,
            "rate" => Self::Rate,
            "resets" => Self::Resets,
            "stddev_over_time" => Self::StddevOverTime,
            "stdvar_over_time" => Self::StdvarOverTime,
            "sum_over_time" => Self::SumOverTime,
            "ts_of_first_over_time" => Self::TsOfFirstOverTime,
            "ts_of_last_over_time" => Self::TsOfLastOverTime,
            "ts_of_max_over_time" => Self::TsOfMaxOverTime,
            "ts_of_min_over_time" => Self::TsOfMinOverTime,
            _ => return None,
        })
    }

    /// False for those that give back a sample of the series.
    pub(super) fn drops_name(self) -> bool {
        !matches!(self, Self::FirstOverTime | Self::LastOverTime)
    }

    /// True when the reset hint of the first histogram in a range has an effect.
    pub(super) fn shows_hints(self) -> bool {
        matches!(self, Self::AvgOverTime | Self::FirstOverTime | Self::LastOverTime | Self::SumOverTime)
    }

    pub(super) fn check_mode(self, mode: RangeMode) -> Result<(), EngineError> {
        let (word, allowed): (&str, &[(Self, &str)]) = match mode {
            RangeMode::Plain => return Ok(()),
            RangeMode::Anchored => (
                "anchored",
                &[
                    (Self::Changes, "changes"),
                    (Self::Delta, "delta"),
                    (Self::Increase, "increase"),
                    (Self::Rate, "rate"),
                    (Self::Resets, "resets"),
                ],
            ),
            RangeMode::Smoothed => {
                ("smoothed", &[(Self::Delta, "delta"), (Self::Increase, "increase"), (Self::Rate, "rate")])
            }
        };
        if allowed.iter().any(|(f, _)| *f == self) {
            return Ok(());
        }
        let names: Vec<&str> = allowed.iter().map(|(_, n)| *n).collect();
        let own = crate::functions::FUNCTIONS.iter().find(|f| Self::find(f.name) == Some(self));
        Err(EngineError::Execution(format!(
            "{word} modifier can only be used with: {} - not with {}",
            names.join(", "),
            own.map_or("", |f| f.name)
        )))
    }
}

/// A range function with all that its evaluation needs but the samples.
#[derive(Debug)]
pub(super) struct RangeCall {
    pub(super) function: RangeFunction,
    /// The other arguments, a column each.
    pub(super) params: Vec<Vec<f64>>,
    /// Which argument the range is.
    pub(super) argument: usize,
    /// What annotations are about: the first argument.
    pub(super) position: PositionRange,
    pub(super) range_ms: i64,
    pub(super) offset_ms: i64,
    pub(super) at: Option<At>,
    pub(super) mode: RangeMode,
    pub(super) lookback_ms: i64,
    pub(super) start_timestamps: bool,
}

/// One evaluation of a range function.
pub(super) struct Step<'a> {
    /// Left edge of the range, outside.
    pub(super) after: i64,
    /// Right edge of the range, inside.
    pub(super) until: i64,
    /// Time of evaluation.
    pub(super) t_ms: i64,
    pub(super) range_ms: i64,
    pub(super) mode: RangeMode,
    pub(super) start_timestamps: bool,
    pub(super) name: &'a str,
}

impl RangeCall {
    /// How much more than the range is read before and behind it.
    pub(super) fn margins(&self) -> (i64, i64) {
        match self.mode {
            RangeMode::Plain => (0, 0),
            RangeMode::Anchored => (self.lookback_ms, 0),
            RangeMode::Smoothed => (self.lookback_ms, self.lookback_ms),
        }
    }

    pub(super) fn check_params(&self) -> Result<(), EngineError> {
        if self.function != RangeFunction::DoubleExponentialSmoothing {
            return Ok(());
        }
        for (column, word, short) in [(self.params.first(), "smoothing", "sf"), (self.params.get(1), "trend", "tf")] {
            if let Some(v) = column.and_then(|c| c.iter().find(|v| !(**v > 0.0 && **v < 1.0))) {
                return Err(EngineError::Execution(format!(
                    "invalid {word} factor. Expected: 0 < {short} < 1, got: {v:.6}"
                )));
            }
        }
        Ok(())
    }

    /// The values over the grid, and how many samples were looked at, counted once for every step.
    ///
    /// Errors when the budget says so; it is asked once for every [`CHECK_SAMPLES`] samples looked at.
    pub(super) fn evaluate(
        &self,
        samples: &Samples,
        labels: &Labels,
        grid: Grid,
        budget: &dyn QueryBudget,
        notes: &mut Notes,
    ) -> Result<(Points, u64), EngineError> {
        let mut points = Points::absent(grid.count);
        if samples.len() == 0 {
            return Ok((points, 0));
        }
        if let Some(total) = fast_path::evaluate(self, samples, grid, &mut points) {
            if !points.is_void() {
                self.note_name(labels, notes);
            }
            return Ok((points, total));
        }
        let (before, behind) = self.margins();
        let mut cursor = Cursor::default();
        let mut total = 0;
        let mut check_at = CHECK_SAMPLES;
        let mut has_floats = false;
        for i in 0..grid.count {
            let t_ms = grid.time(i);
            let until = match self.at {
                Some(At::Time(at)) => at - self.offset_ms,
                _ => t_ms - self.offset_ms,
            };
            let step = Step {
                after: until - self.range_ms,
                until,
                t_ms,
                range_ms: self.range_ms,
                mode: self.mode,
                start_timestamps: self.start_timestamps,
                name: labels.metric_name(),
            };
            let window = samples.window(&mut cursor, step.after.saturating_sub(before), until.saturating_add(behind));
            if window.is_empty() {
                continue;
            }
            let histograms: u64 = window.histograms.iter().map(|h| counted(h)).sum();
            total += (window.len() - window.histograms.len()) as u64 + histograms;
            if total >= check_at {
                budget.check()?;
                check_at = total + CHECK_SAMPLES;
            }
            match self.apply(&window, &step, i, notes) {
                Some(Point::Float(v)) => {
                    has_floats = true;
                    points.set_float(i, v);
                }
                Some(Point::Histogram(h)) => points.set_histogram(i, h),
                None => {}
            }
        }
        if has_floats {
            self.note_name(labels, notes);
        }
        Ok((points, total))
    }

    /// Remarks upon a rate of what is not named like a counter.
    pub(super) fn note_name(&self, labels: &Labels, notes: &mut Notes) {
        let name = labels.metric_name();
        let suffixes = ["_total", "_sum", "_count", "_bucket"];
        if matches!(self.function, RangeFunction::Rate | RangeFunction::Increase)
            && !name.is_empty()
            && !suffixes.iter().any(|s| name.ends_with(s))
        {
            note(notes, NoteKind::PossibleNonCounter(name.to_owned()));
        }
    }

    fn param(&self, index: usize, step: usize) -> f64 {
        self.params.get(index).and_then(|c| c.get(step)).copied().unwrap_or(f64::NAN)
    }

    pub(super) fn apply(&self, w: &Window<'_>, step: &Step<'_>, i: usize, notes: &mut Notes) -> Option<Point> {
        let float = |v: f64| Some(Point::Float(v));
        let seconds = |t: i64| Some(Point::Float(t as f64 / 1000.0));
        let ignored = |notes: &mut Notes| {
            if !w.histograms.is_empty() {
                note(notes, NoteKind::HistogramIgnoredInMixedRange(step.name.to_owned()));
            }
        };
        match self.function {
            RangeFunction::Rate => rate(w, step, true, true, notes),
            RangeFunction::Increase => rate(w, step, true, false, notes),
            RangeFunction::Delta => rate(w, step, false, false, notes),
            RangeFunction::Irate => instant_value(w, step, true, notes),
            RangeFunction::Idelta => instant_value(w, step, false, notes),
            RangeFunction::SumOverTime | RangeFunction::AvgOverTime => {
                if w.is_mixed() {
                    note(notes, NoteKind::MixedFloatsHistograms(step.name.to_owned()));
                    return None;
                }
                let average = self.function == RangeFunction::AvgOverTime;
                if w.floats.is_empty() {
                    return aggregate_histograms(w.histograms, average, step, notes);
                }
                float(if average { mean(w.floats) } else { sum(w.floats) })
            }
            RangeFunction::CountOverTime => float(w.len() as f64),
            RangeFunction::PresentOverTime | RangeFunction::AbsentOverTime => float(1.0),
            RangeFunction::FirstOverTime => first(w),
            RangeFunction::LastOverTime => last(w),
            RangeFunction::TsOfFirstOverTime => {
                seconds(*w.times.first().into_iter().chain(w.histogram_times.first()).min()?)
            }
            RangeFunction::TsOfLastOverTime => {
                seconds(*w.times.last().into_iter().chain(w.histogram_times.last()).max()?)
            }
            RangeFunction::Changes => changes(w, step),
            RangeFunction::Resets => resets(w, step),
            _ if w.floats.is_empty() => None,
            RangeFunction::MaxOverTime => {
                ignored(notes);
                float(w.floats[extreme(w.floats, |v, best| v > best)])
            }
            RangeFunction::MinOverTime => {
                ignored(notes);
                float(w.floats[extreme(w.floats, |v, best| v < best)])
            }
            RangeFunction::TsOfMaxOverTime => {
                ignored(notes);
                seconds(w.times[extreme(w.floats, |v, best| v >= best)])
            }
            RangeFunction::TsOfMinOverTime => {
                ignored(notes);
                seconds(w.times[extreme(w.floats, |v, best| v <= best)])
            }
            RangeFunction::StdvarOverTime => {
                ignored(notes);
                float(variance(w.floats))
            }
            RangeFunction::StddevOverTime => {
                ignored(notes);
                float(variance(w.floats).sqrt())
            }
            RangeFunction::MadOverTime => {
                ignored(notes);
                float(median_deviation(w.floats))
            }
            RangeFunction::QuantileOverTime => {
                let q = self.param(0, i);
                if !(0.0..=1.0).contains(&q) {
                    note_quantile(notes, q);
                }
                ignored(notes);
                float(quantile(q, &mut w.floats.to_vec()))
            }
            RangeFunction::Deriv => {
                ignored(notes);
                (w.floats.len() >= 2).then(|| Point::Float(regression(w, w.times[0]).0))
            }
            RangeFunction::PredictLinear => {
                ignored(notes);
                (w.floats.len() >= 2).then(|| {
                    let (slope, intercept) = regression(w, step.t_ms);
                    Point::Float(slope * self.param(0, i) + intercept)
                })
            }
            RangeFunction::DoubleExponentialSmoothing => {
                ignored(notes);
                smoothing(w.floats, self.param(0, i), self.param(1, i)).map(Point::Float)
            }
        }
    }
}

pub(super) fn note_quantile(notes: &mut Notes, q: f64) {
    let known = notes.iter().any(|n| matches!(n, NoteKind::InvalidQuantile(p) if p.to_bits() == q.to_bits()));
    if !known {
        notes.push(NoteKind::InvalidQuantile(q));
    }
}

fn sum(values: &[f64]) -> f64 {
    let mut total = Sum::default();
    for v in values {
        total.add(*v);
    }
    if total.sum.is_infinite() { total.sum } else { total.value() }
}

fn mean(values: &[f64]) -> f64 {
    let mut mean = Mean::new(values[0]);
    for v in &values[1..] {
        mean.add(*v);
    }
    mean.value()
}

fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut squares, mut count) = (Sum::default(), Sum::default(), 0.0);
    for v in values {
        count += 1.0;
        let delta = v - mean.value();
        mean.add(delta / count);
        squares.add(delta * (v - mean.value()));
    }
    squares.value() / count
}

fn median_deviation(values: &[f64]) -> f64 {
    if values.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    let mut sorted = values.to_vec();
    let median = quantile(0.5, &mut sorted);
    for v in &mut sorted {
        *v = (*v - median).abs();
    }
    quantile(0.5, &mut sorted)
}

/// The index of the value that `better` prefers; NaN only when there is nothing else.
fn extreme(values: &[f64], better: impl Fn(f64, f64) -> bool) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if better(*v, values[best]) || values[best].is_nan() {
            best = i;
        }
    }
    best
}

fn first(w: &Window<'_>) -> Option<Point> {
    match (w.times.first(), w.histogram_times.first()) {
        (Some(f), Some(h)) if f >= h => Some(Point::Histogram(w.histograms[0].clone())),
        (Some(_), _) => Some(Point::Float(w.floats[0])),
        (None, _) => w.histograms.first().cloned().map(Point::Histogram),
    }
}

fn last(w: &Window<'_>) -> Option<Point> {
    match (w.times.last(), w.histogram_times.last()) {
        (Some(f), Some(h)) if h >= f => w.histograms.last().cloned().map(Point::Histogram),
        (Some(_), _) => w.floats.last().copied().map(Point::Float),
        (None, _) => w.histograms.last().cloned().map(Point::Histogram),
    }
}

pub(super) fn aggregate_histograms(
    histograms: &[Arc<FloatHistogram>],
    average: bool,
    step: &Step<'_>,
    notes: &mut Notes,
) -> Option<Point> {
    let (first, rest) = histograms.split_first()?;
    let mut remark = |added: Result<Added, IncompatibleSchema>| match added {
        Ok(added) => {
            if added.bounds_reconciled {
                note(notes, NoteKind::MismatchedCustomBuckets("aggregation"));
            }
            Some(())
        }
        Err(IncompatibleSchema) => {
            note(notes, NoteKind::MixedExponentialCustom(step.name.to_owned()));
            None
        }
    };
    let (result, collision) = if average {
        let mut mean = HistogramMean::new(first);
        for h in rest {
            remark(mean.add(h))?;
        }
        let collision = mean.has_hint_collision();
        (mean.finish(), collision)
    } else {
        let mut sum = HistogramSum::new(first);
        for h in rest {
            remark(sum.add(h))?;
        }
        let collision = sum.has_hint_collision();
        (sum.finish(), collision)
    };
    if collision {
        note(notes, NoteKind::CounterResetCollision("aggregation"));
    }
    Some(Point::Histogram(Arc::new(result)))
}

#[derive(Clone, Copy)]
enum Seen<'a> {
    Float(f64),
    Histogram(&'a Arc<FloatHistogram>),
}

/// All samples in order of time: (time, start, value).
fn in_order<'a>(w: &Window<'a>) -> impl Iterator<Item = (i64, i64, Seen<'a>)> {
    let w = *w;
    let (mut f, mut h) = (0, 0);
    std::iter::from_fn(move || {
        let start = |s: &[i64], i: usize| s.get(i).copied().unwrap_or(0);
        match (w.times.get(f), w.histogram_times.get(h)) {
            (Some(t), other) if other.is_none_or(|o| t < o) => {
                f += 1;
                Some((*t, start(w.starts, f - 1), Seen::Float(w.floats[f - 1])))
            }
            (_, Some(t)) => {
                h += 1;
                Some((*t, start(w.histogram_starts, h - 1), Seen::Histogram(&w.histograms[h - 1])))
            }
            _ => None,
        }
    })
}

fn count_pairs<'a>(
    w: &Window<'a>,
    step: &Step<'_>,
    counts: impl Fn((i64, i64, Seen<'a>), (i64, i64, Seen<'a>)) -> bool,
) -> Option<Point> {
    let w = extended::from_anchor(w, step)?;
    let mut previous = None;
    let mut count = 0u64;
    for sample in in_order(&w) {
        if let Some(p) = previous.replace(sample)
            && counts(p, sample)
        {
            count += 1;
        }
    }
    Some(Point::Float(count as f64))
}

fn changes(w: &Window<'_>, step: &Step<'_>) -> Option<Point> {
    count_pairs(w, step, |(.., a), (.., b)| match (a, b) {
        (Seen::Float(a), Seen::Float(b)) => a != b && !(a.is_nan() && b.is_nan()),
        (Seen::Histogram(a), Seen::Histogram(b)) => !histogram::equal(a, b),
        _ => true,
    })
}

fn resets(w: &Window<'_>, step: &Step<'_>) -> Option<Point> {
    let use_starts = step.start_timestamps;
    count_pairs(w, step, |(t0, s0, a), (t1, s1, b)| match (a, b) {
        (Seen::Float(a), Seen::Float(b)) => b < a || (use_starts && is_start_reset(s0, t0, s1, t1)),
        (Seen::Histogram(a), Seen::Histogram(b)) => {
            (use_starts && is_start_reset(s0, t0, s1, t1)) || detect_reset(b, a)
        }
        _ => true,
    })
}

/// Least squares: slope a second, and the value at `intercept_ms`.
fn regression(w: &Window<'_>, intercept_ms: i64) -> (f64, f64) {
    let first = w.floats[0];
    if w.floats.iter().all(|v| *v == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let n = w.floats.len() as f64;
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) =
        (Sum::default(), Sum::default(), Sum::default(), Sum::default());
    for (t, y) in w.times.iter().zip(w.floats) {
        let x = (t - intercept_ms) as f64 / 1e3;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    let (x, y, xy, xx) = (x_sum.value(), y_sum.value(), xy_sum.value(), xx_sum.value());
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// Double exponential smoothing; `None` with fewer than two values.
fn smoothing(values: &[f64], factor: f64, trend_factor: f64) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let (mut before, mut level) = (0.0, values[0]);
    let mut trend = values[1] - values[0];
    for (i, v) in values.iter().enumerate().skip(1) {
        if i > 1 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        let next = factor * v + (1.0 - factor) * (level + trend);
        before = level;
        level = next;
    }
    Some(level)
}
