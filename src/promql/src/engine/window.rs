//! The samples of one series, floats and histograms apart, and the part of them that a range covers.

use std::sync::Arc;

use trefoil_model::{CounterResetHint, FloatHistogram, SampleBuffer, is_stale_nan};

use super::Grid;
use crate::algebra::{Point, Points};
use crate::histogram::{continues, detect_reset};

/// Samples of one series without stale markers; times ascend.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) float_times: Vec<i64>,
    pub(super) floats: Vec<f64>,
    /// Start timestamps; empty when none is known.
    pub(super) float_starts: Vec<i64>,
    pub(super) histogram_times: Vec<i64>,
    pub(super) histograms: Vec<Arc<FloatHistogram>>,
    /// Start timestamps; empty when none is known.
    pub(super) histogram_starts: Vec<i64>,
}

/// Looks for places in ascending times, each not before the last one. Samples mostly come at a steady pace, as steps
/// do: then the next place is as far on as the last one was.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Walk {
    at: usize,
    stride: usize,
}

impl Walk {
    /// Goes on to the first time after `t`.
    #[inline]
    pub(super) fn past(&mut self, times: &[i64], t: i64) -> usize {
        let guess = self.at + self.stride;
        let is_it = guess <= times.len()
            && (self.stride == 0 || times[guess - 1] <= t)
            && times.get(guess).is_none_or(|next| *next > t);
        if !is_it {
            let from = self.at;
            while self.at < times.len() && times[self.at] <= t {
                self.at += 1;
            }
            self.stride = self.at - from;
            return self.at;
        }
        self.at = guess;
        guess
    }
}

/// True when one of the values is a stale marker.
fn has_stale(values: &[f64]) -> bool {
    // In pieces without a way out early, which are looked at several values at once.
    values.chunks(256).any(|piece| piece.iter().fold(false, |found, v| found | is_stale_nan(*v)))
}

impl Samples {
    pub(super) fn clear(&mut self) {
        self.float_times.clear();
        self.floats.clear();
        self.float_starts.clear();
        self.histogram_times.clear();
        self.histograms.clear();
        self.histogram_starts.clear();
    }

    /// Takes the samples out of a buffer.
    pub(super) fn take_from(&mut self, buffer: &mut SampleBuffer) {
        self.clear();
        if buffer.histograms.is_empty() && !has_stale(&buffer.values) {
            std::mem::swap(&mut self.float_times, &mut buffer.times);
            std::mem::swap(&mut self.floats, &mut buffer.values);
            std::mem::swap(&mut self.float_starts, &mut buffer.starts);
            return;
        }
        let has_starts = !buffer.starts.is_empty();
        let mut next = 0;
        for (i, (&t, &v)) in buffer.times.iter().zip(&buffer.values).enumerate() {
            let start = buffer.starts.get(i).copied().unwrap_or(0);
            if let Some((at, h)) = buffer.histograms.get(next)
                && *at as usize == i
            {
                next += 1;
                if !h.is_stale() {
                    self.histogram_times.push(t);
                    self.histograms.push(h.clone());
                    if has_starts {
                        self.histogram_starts.push(start);
                    }
                }
            } else if !is_stale_nan(v) {
                self.float_times.push(t);
                self.floats.push(v);
                if has_starts {
                    self.float_starts.push(start);
                }
            }
        }
    }

    /// Leaves count and sum of histograms, with what resets tell between neighbours, and drops the buckets.
    pub(super) fn keep_stats(&mut self) {
        let mut previous: Option<Arc<FloatHistogram>> = None;
        for slot in &mut self.histograms {
            let full = slot.clone();
            let hint = match (&previous, full.counter_reset_hint) {
                (Some(p), CounterResetHint::Unknown) => {
                    if detect_reset(&full, p) {
                        CounterResetHint::CounterReset
                    } else {
                        CounterResetHint::NotCounterReset
                    }
                }
                (_, hint) => hint,
            };
            *slot = Arc::new(FloatHistogram {
                schema: full.schema,
                count: full.count,
                sum: full.sum,
                counter_reset_hint: hint,
                ..FloatHistogram::default()
            });
            previous = Some(full);
        }
    }

    /// Takes the present points of a subquery's result.
    pub(super) fn take_points(&mut self, points: &Points, grid: Grid) {
        self.clear();
        for (i, point) in points.iter() {
            match point {
                Point::Float(v) => {
                    self.float_times.push(grid.time(i));
                    self.floats.push(v);
                }
                Point::Histogram(h) => {
                    self.histogram_times.push(grid.time(i));
                    self.histograms.push(without_hint(h));
                }
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    /// The samples with `after < t <= until`. `cursor` remembers where the last window was; windows must not go back.
    pub(super) fn window(&self, cursor: &mut Cursor, after: i64, until: i64) -> Window<'_> {
        let bounds = |times: &[i64], (mut low, mut high): (usize, usize)| {
            while low < times.len() && times[low] <= after {
                low += 1;
            }
            high = high.max(low);
            while high < times.len() && times[high] <= until {
                high += 1;
            }
            (low, high)
        };
        cursor.floats = bounds(&self.float_times, cursor.floats);
        cursor.histograms = bounds(&self.histogram_times, cursor.histograms);
        let ((a, b), (c, d)) = (cursor.floats, cursor.histograms);
        let starts = |s: &'_ [i64], from: usize, to: usize| -> std::ops::Range<usize> {
            if s.is_empty() { 0..0 } else { from..to }
        };
        Window {
            times: &self.float_times[a..b],
            floats: &self.floats[a..b],
            starts: &self.float_starts[starts(&self.float_starts, a, b)],
            histogram_times: &self.histogram_times[c..d],
            histograms: &self.histograms[c..d],
            histogram_starts: &self.histogram_starts[starts(&self.histogram_starts, c, d)],
        }
    }
}

/// Gives histograms of which only count and sum are kept the hints that their buckets tell. `before`: the histogram next
/// before the first sample, if any; the reference tells of it that there was no reset, but not that there was one.
pub(super) fn mark_resets(buffer: &mut SampleBuffer, before: Option<&FloatHistogram>) {
    let mut last: Option<usize> = None;
    for i in 0..buffer.histograms.len() {
        let (done, rest) = buffer.histograms.split_at_mut(i);
        let (at, h) = &mut rest[0];
        if h.is_stale() {
            continue;
        }
        if h.counter_reset_hint == CounterResetHint::Unknown {
            let hint = match last {
                Some(last) if detect_reset(h, &done[last].1) => CounterResetHint::CounterReset,
                Some(_) => CounterResetHint::NotCounterReset,
                None if *at == 0 && before.is_some_and(|b| continues(h, b)) => CounterResetHint::NotCounterReset,
                None => CounterResetHint::Unknown,
            };
            if hint != CounterResetHint::Unknown {
                Arc::make_mut(h).counter_reset_hint = hint;
            }
        }
        last = Some(i);
    }
}

/// Hints between samples of the store say nothing about those that a subquery picked.
fn without_hint(h: Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    use trefoil_model::CounterResetHint::{CounterReset, NotCounterReset, Unknown};
    if matches!(h.counter_reset_hint, CounterReset | NotCounterReset) {
        let mut plain = (*h).clone();
        plain.counter_reset_hint = Unknown;
        return Arc::new(plain);
    }
    h
}

/// Index ranges of the last window.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Cursor {
    floats: (usize, usize),
    histograms: (usize, usize),
}

/// The samples of one series in one range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<'a> {
    pub(super) times: &'a [i64],
    pub(super) floats: &'a [f64],
    /// Empty when unknown.
    pub(super) starts: &'a [i64],
    pub(super) histogram_times: &'a [i64],
    pub(super) histograms: &'a [Arc<FloatHistogram>],
    /// Empty when unknown.
    pub(super) histogram_starts: &'a [i64],
}

impl Window<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    pub(super) fn is_mixed(&self) -> bool {
        !self.floats.is_empty() && !self.histograms.is_empty()
    }
}
