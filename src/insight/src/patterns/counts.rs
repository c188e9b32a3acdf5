//! Counts in steps of ten seconds, as far back as they are kept.

use std::collections::VecDeque;

use trefoil_model::NanoRange;

/// Length of a step in seconds.
pub const STEP_SECONDS: i64 = 10;
/// How far back counts are kept, in seconds: three hours.
pub const KEPT_SECONDS: i64 = 3 * 3600;
const STEP_NS: i64 = STEP_SECONDS * 1_000_000_000;

/// Counts by step, oldest first; steps without any are left out.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts(VecDeque<(i64, u32)>);

impl Counts {
    /// What a step costs.
    pub(super) const STEP_BYTES: usize = size_of::<(i64, u32)>();

    /// Adds to the step of a time; true when that made a new step. Times older than the newest by what is kept are
    /// left out.
    pub(super) fn add(&mut self, time_ns: i64, count: u32) -> bool {
        let step = time_ns.div_euclid(STEP_NS);
        let newest = self.0.back().map_or(step, |(s, _)| *s);
        if step < newest - KEPT_SECONDS / STEP_SECONDS {
            return false;
        }
        let made = match self.0.back_mut() {
            Some((last, sum)) if *last == step => {
                *sum = sum.saturating_add(count);
                false
            }
            Some((last, _)) if *last > step => match self.0.binary_search_by_key(&step, |(s, _)| *s) {
                Ok(at) => {
                    self.0[at].1 = self.0[at].1.saturating_add(count);
                    false
                }
                Err(at) => {
                    self.0.insert(at, (step, count));
                    true
                }
            },
            _ => {
                self.0.push_back((step, count));
                true
            }
        };
        let oldest = newest.max(step) - KEPT_SECONDS / STEP_SECONDS;
        let mut removed = false;
        while self.0.front().is_some_and(|(s, _)| *s < oldest) {
            self.0.pop_front();
            removed = true;
        }
        made && !removed
    }

    pub(super) fn steps(&self) -> usize {
        self.0.len()
    }

    /// Unix seconds of the start of each step within the range, and its count.
    pub(super) fn within(&self, range: NanoRange) -> impl Iterator<Item = (i64, u64)> {
        let first = range.start_ns.div_euclid(STEP_NS);
        self.0
            .iter()
            .filter(move |(step, _)| *step >= first && step.saturating_mul(STEP_NS) < range.end_ns)
            .map(|(step, count)| (step * STEP_SECONDS, u64::from(*count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_any_order() {
        let s = |seconds: i64| seconds * 1_000_000_000;
        let mut counts = Counts::default();
        for (at, n) in [(100, 1), (105, 2), (131, 1), (111, 4), (100, 1)] {
            counts.add(s(at), n);
        }
        let all = NanoRange::new(0, s(1000));
        assert_eq!(counts.within(all).collect::<Vec<_>>(), [(100, 4), (110, 4), (130, 1)]);
        assert_eq!(counts.within(NanoRange::new(s(112), s(130))).collect::<Vec<_>>(), [(110, 4)]);
        assert!(!counts.add(s(130 - KEPT_SECONDS - 20), 1), "too old");
        counts.add(s(111 + KEPT_SECONDS), 1);
        assert_eq!(counts.within(NanoRange::new(0, i64::MAX)).count(), 3, "the oldest went");
    }
}
