//! Range functions over float series whose cost does not grow with the length of the range, or hardly.
//!
//! The results are those of the general way, bit by bit.

use std::collections::VecDeque;

use super::Grid;
use super::range_function::{RangeCall, RangeFunction, Step};
use super::rate::Extrapolation;
use super::window::{Samples, Walk};
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
        RangeFunction::MaxOverTime => Some(extreme(call, samples, grid, points, |a, b| a > b)),
        RangeFunction::MinOverTime => Some(extreme(call, samples, grid, points, |a, b| a < b)),
        _ => None,
    }
}

/// Whether the values fall somewhere.
fn has_resets(values: &[f64]) -> bool {
    // In pieces without a way out early, which are looked at several values at once.
    let mut before = values.first().copied().unwrap_or(0.0);
    values.chunks(256).any(|piece| {
        let falls = piece.iter().zip(&piece[1..]).fold(piece[0] < before, |found, (a, b)| found | (b < a));
        before = piece[piece.len() - 1];
        falls
    })
}

/// The extrapolation of the last window. Samples at a steady pace have the same in one window as in the next.
struct Known {
    /// From the left edge to the first sample, from the last to the right edge, between them; number of samples.
    shape: (i64, i64, i64, usize),
    extrapolation: Extrapolation,
    /// Unless the counter's zero is near.
    factor: f64,
}

fn rate(call: &RangeCall, samples: &Samples, grid: Grid, points: &mut Points) -> u64 {
    let (times, values) = (samples.float_times.as_slice(), samples.floats.as_slice());
    // Most series never reset.
    let resets = has_resets(values);
    let per_second = call.function == RangeFunction::Rate;
    let (mut lows, mut highs, mut total) = (Walk::default(), Walk::default(), 0);
    let mut known: Option<Known> = None;
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
        let low = lows.past(times, step.after);
        let high = highs.past(times, until).max(low);
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
        let shape = (times[low] - step.after, until - times[high - 1], times[high - 1] - times[low], high - low);
        if known.as_ref().is_none_or(|k| k.shape != shape) {
            let Some(extrapolation) = Extrapolation::new(&times[low..high], &[], &step) else { continue };
            let factor = extrapolation.factor(None, &step, per_second);
            known = Some(Known { shape, extrapolation, factor });
        }
        let Some(Known { extrapolation, factor, .. }) = &known else { continue };
        let value = if increase > 0.0 && first >= 0.0 && !extrapolation.is_far_from_zero(first, increase) {
            increase * extrapolation.factor(Some(first / increase), &step, per_second)
        } else {
            increase * factor
        };
        *slot = if trefoil_model::is_stale_nan(value) { f64::NAN } else { value };
    }
    total
}

/// Maximum or minimum by a queue of the values that may still become it; of equals (0 and -0) the first.
fn extreme(
    call: &RangeCall,
    samples: &Samples,
    grid: Grid,
    points: &mut Points,
    is_better: impl Fn(f64, f64) -> bool,
) -> u64 {
    let (times, values) = (samples.float_times.as_slice(), samples.floats.as_slice());
    let mut queue: VecDeque<usize> = VecDeque::new();
    let (mut lows, mut highs, mut taken, mut total) = (Walk::default(), Walk::default(), 0, 0);
    for (i, slot) in points.floats_mut().iter_mut().enumerate() {
        let until = grid.time(i) - call.offset_ms;
        let low = lows.past(times, until - call.range_ms);
        let high = highs.past(times, until).max(low);
        total += (high - low) as u64;
        for (k, v) in values.iter().enumerate().take(high).skip(taken.max(low)) {
            if v.is_nan() {
                continue;
            }
            while queue.back().is_some_and(|b| is_better(*v, values[*b])) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::{Notes, Point};
    use crate::engine::window::Cursor;

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % n
        }
    }

    fn series(random: &mut Random) -> Samples {
        let mut samples = Samples::default();
        let kind = random.below(6);
        let scale = [1.0, 1e-3, 1e-300, 1e300, 1e15, f64::MIN_POSITIVE][random.below(6) as usize];
        let (mut t, mut v) = (random.below(60_000) as i64, if random.below(2) == 0 { 0.0 } else { scale * 1e3 });
        for _ in 0..random.below(700) {
            t += match random.below(if kind == 0 { 3 } else { 40 }) {
                0 => 1 + random.below(400_000) as i64,
                1 if kind < 3 => 1 + random.below(60_000) as i64,
                _ => 15_000,
            };
            v += scale * random.below(100) as f64;
            match random.below(60) {
                0 => v = scale * random.below(3) as f64,
                1 if kind == 5 => v = [f64::NAN, f64::INFINITY, -1.0, -0.0][random.below(4) as usize],
                _ => {}
            }
            samples.float_times.push(t);
            samples.floats.push(v);
        }
        samples
    }

    fn call(function: RangeFunction, range_ms: i64, offset_ms: i64) -> RangeCall {
        RangeCall {
            function,
            params: Vec::new(),
            argument: 0,
            position: Default::default(),
            range_ms,
            offset_ms,
            at: None,
            mode: RangeMode::Plain,
            lookback_ms: 300_000,
            start_timestamps: false,
        }
    }

    /// Of 0 and -0, which are equal, the first of the window is the answer.
    #[test]
    fn the_first_of_equals_stays() {
        for function in [RangeFunction::MaxOverTime, RangeFunction::MinOverTime] {
            let call = call(function, 2, 0);
            let samples =
                Samples { float_times: vec![1, 2, 3, 4], floats: vec![0.0, -0.0, -0.0, 0.0], ..Samples::default() };
            let grid = Grid { start_ms: 1, step_ms: 1, count: 5 };
            let mut points = Points::absent(grid.count);
            evaluate(&call, &samples, grid, &mut points).unwrap();
            let signs: Vec<bool> = (0..5).map(|i| points.float(i).unwrap().is_sign_negative()).collect();
            assert_eq!(signs, [false, false, true, true, false], "{function:?}");
        }
    }

    /// The fast way gives the bits of the general one.
    #[test]
    fn answers_are_those_of_the_general_way() {
        let mut random = Random(5);
        for round in 0..1500 {
            let samples = series(&mut random);
            let function =
                [RangeFunction::Rate, RangeFunction::Increase, RangeFunction::MaxOverTime, RangeFunction::MinOverTime]
                    [random.below(4) as usize];
            let grid = Grid {
                start_ms: random.below(2_000_000) as i64,
                step_ms: [1, 7_000, 15_000, 60_000, 360_000][random.below(5) as usize],
                count: 1 + random.below(300) as usize,
            };
            let range_ms = [1, 15_000, 60_000, 300_000, 3_000_000][random.below(5) as usize];
            let call = call(function, range_ms, [0, 0, 13_000, -60_000][random.below(4) as usize]);
            let mut points = Points::absent(grid.count);
            let total = evaluate(&call, &samples, grid, &mut points).unwrap();
            let (mut cursor, mut want_total) = (Cursor::default(), 0);
            for i in 0..grid.count {
                let t_ms = grid.time(i);
                let until = t_ms - call.offset_ms;
                let step = Step {
                    after: until - call.range_ms,
                    until,
                    t_ms,
                    range_ms: call.range_ms,
                    mode: call.mode,
                    start_timestamps: false,
                    name: "",
                };
                let window = samples.window(&mut cursor, step.after, until);
                want_total += window.len() as u64;
                let value = if window.is_empty() { None } else { call.apply(&window, &step, i, &mut Notes::new()) };
                let want = value.map(|v| match v {
                    Point::Float(v) => v,
                    Point::Histogram(h) => panic!("{h:?}"),
                });
                let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                let got = points.float(i);
                assert!(
                    got.zip(want).map_or(got.is_none() && want.is_none(), |(a, b)| same(a, b)),
                    "round {round}: {got:?} and {want:?} at {t_ms} of {call:?} over {grid:?}"
                );
            }
            assert_eq!(total, want_total);
        }
    }
}
