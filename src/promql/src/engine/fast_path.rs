//! Range functions over float series whose cost does not grow with the length of the range, or hardly.
//!
//! The results are those of the general way, bit by bit.

use std::collections::VecDeque;

use super::Grid;
use super::range_function::{RangeCall, RangeFunction, Step};
use super::rate::Extrapolation;
use super::window::Samples;
use crate::algebra::Points;
use crate::ast::{At, RangeMode};

/// Evaluates where a shorter way exists: how many samples the windows held. `None`: take the general way.
pub(super) fn evaluate(call: &RangeCall, samples: &Samples, grid: Grid, points: &mut Points) -> Option<u64> {
    if call.mode != RangeMode::Plain || !samples.histograms.is_empty() || matches!(call.at, Some(At::Time(_))) {
        return None;
    }
    match call.function {
        RangeFunction::Rate | RangeFunction::Increase => {
            if call.start_timestamps && !samples.float_starts.is_empty() {
                return None;
            }
            Some(rate(call, samples, grid, points))
        }
        RangeFunction::MaxOverTime => Some(extreme(call, samples, grid, points, |a, b| a >= b)),
        RangeFunction::MinOverTime => Some(extreme(call, samples, grid, points, |a, b| a <= b)),
        _ => None,
    }
}

/// Moves the bounds of a window on to the samples with `after < t <= until`.
fn advance(times: &[i64], low: &mut usize, high: &mut usize, after: i64, until: i64) {
    while *low < times.len() && times[*low] <= after {
        *low += 1;
    }
    *high = (*high).max(*low);
    while *high < times.len() && times[*high] <= until {
        *high += 1;
    }
}

fn rate(call: &RangeCall, samples: &Samples, grid: Grid, points: &mut Points) -> u64 {
    let (times, values) = (samples.float_times.as_slice(), samples.floats.as_slice());
    // Most series never reset.
    let resets = values.windows(2).any(|pair| pair[1] < pair[0]);
    let per_second = call.function == RangeFunction::Rate;
    let (mut low, mut high, mut total) = (0, 0, 0);
    for (i, slot) in points.floats_mut().iter_mut().enumerate() {
        let t_ms = grid.time(i);
        let until = t_ms - call.offset_ms;
        let step = Step {
            after: until - call.range_ms,
            until,
            t_ms,
            range_ms: call.range_ms,
            mode: RangeMode::Plain,
            start_timestamps: false,
            name: "",
        };
        advance(times, &mut low, &mut high, step.after, until);
        total += (high - low) as u64;
        if high - low < 2 {
            continue;
        }
        let window = &values[low..high];
        let (first, last) = (window[0], window[window.len() - 1]);
        let mut increase = last - first;
        if resets {
            for pair in window.windows(2) {
                if pair[1] < pair[0] {
                    increase += pair[0];
                }
            }
        }
        let Some(extrapolation) = Extrapolation::new(&times[low..high], &[], &step) else { continue };
        let zero = (increase > 0.0 && first >= 0.0).then(|| first / increase);
        let value = increase * extrapolation.factor(zero, &step, per_second);
        *slot = if trefoil_model::is_stale_nan(value) { f64::NAN } else { value };
    }
    total
}

/// Maximum or minimum by a queue of the values that may still become it.
fn extreme(
    call: &RangeCall,
    samples: &Samples,
    grid: Grid,
    points: &mut Points,
    at_least_as_good: impl Fn(f64, f64) -> bool,
) -> u64 {
    let (times, values) = (samples.float_times.as_slice(), samples.floats.as_slice());
    let mut queue: VecDeque<usize> = VecDeque::new();
    let (mut low, mut high, mut taken, mut total) = (0, 0, 0, 0);
    for (i, slot) in points.floats_mut().iter_mut().enumerate() {
        let until = grid.time(i) - call.offset_ms;
        advance(times, &mut low, &mut high, until - call.range_ms, until);
        total += (high - low) as u64;
        for (k, v) in values.iter().enumerate().take(high).skip(taken.max(low)) {
            if v.is_nan() {
                continue;
            }
            while queue.back().is_some_and(|b| at_least_as_good(*v, values[*b])) {
                queue.pop_back();
            }
            queue.push_back(k);
        }
        taken = taken.max(high);
        while queue.front().is_some_and(|f| *f < low) {
            queue.pop_front();
        }
        if high > low {
            *slot = queue.front().map_or(f64::NAN, |f| values[*f]);
        }
    }
    total
}
