//! Queries of log records over days in an object store: one day after the other, so that few files are here at once, and
//! a query that has enough fetches no more.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use trefoil_model::time::DAY_NS;
use trefoil_model::{Labels, LogFold, LogRows, NanoRange};

/// Cuts a range where the given days begin and end, into stretches in order of time. With a step (nanoseconds) each
/// begins with a step of the range.
pub(crate) fn cut(range: NanoRange, days: &BTreeSet<i64>, step_ns: i64) -> Vec<NanoRange> {
    let mut cuts = BTreeSet::new();
    for day in days {
        for cut in [day.saturating_mul(DAY_NS), day.saturating_add(1).saturating_mul(DAY_NS)] {
            let since = i128::from(cut) - i128::from(range.start_ns);
            let cut = match i128::from(step_ns) {
                step if step > 0 && since > 0 => {
                    let steps = (since + step - 1) / step;
                    i64::try_from(i128::from(range.start_ns) + steps * step).unwrap_or(i64::MAX)
                }
                _ => cut,
            };
            if range.start_ns < cut && cut < range.end_ns {
                cuts.insert(cut);
            }
        }
    }
    let mut start_ns = range.start_ns;
    let mut stretches = Vec::with_capacity(cuts.len() + 1);
    for end_ns in cuts.into_iter().chain([range.end_ns]) {
        stretches.push(NanoRange { start_ns, end_ns });
        start_ns = end_ns;
    }
    stretches
}

/// The numbers of streams within a query of several stretches, each of which counts them anew.
#[derive(Default)]
pub(crate) struct Numbers(Mutex<FxHashMap<Labels, u64>>);

/// The numbers of streams of a stretch.
pub(crate) struct Numbering<'n> {
    /// `None` when there is only one stretch.
    all: Option<&'n Numbers>,
    known: FxHashMap<u64, u64>,
}

impl Numbers {
    /// For a stretch of `stretches`.
    pub(crate) fn of(&self, stretches: &[NanoRange]) -> Numbering<'_> {
        Numbering { all: (stretches.len() > 1).then_some(self), known: FxHashMap::default() }
    }
}

impl Numbering<'_> {
    /// The number within the query of a stream that has the number `local` in the stretch.
    pub(crate) fn number(&mut self, stream: &Labels, local: u64) -> u64 {
        let Some(all) = self.all else { return local };
        *self.known.entry(local).or_insert_with(|| {
            let mut numbers = all.0.lock();
            let next = numbers.len() as u64;
            *numbers.entry(stream.clone()).or_insert(next)
        })
    }
}

/// Takes the records of one stretch for a fold.
pub(crate) struct OfStretch<'f, 'x> {
    pub(crate) fold: &'f mut (dyn LogFold + 'x),
    pub(crate) numbering: Numbering<'f>,
    /// Set when the fold wants no more.
    pub(crate) is_over: &'f AtomicBool,
}

impl LogFold for OfStretch<'_, '_> {
    fn rows(&mut self, rows: &LogRows<'_>) -> ControlFlow<()> {
        let stream_ref = self.numbering.number(rows.stream, rows.stream_ref);
        let flow = self.fold.rows(&LogRows { stream_ref, ..*rows });
        if flow.is_break() {
            self.is_over.store(true, Ordering::Relaxed);
        }
        flow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_days_and_steps() {
        let check = |(start, end): (i64, i64), days: &[i64], step_ns: i64, expected: &[(i64, i64)]| {
            let days = days.iter().copied().collect();
            let found: Vec<_> =
                cut(NanoRange::new(start, end), &days, step_ns).iter().map(|r| (r.start_ns, r.end_ns)).collect();
            assert_eq!(found, expected);
        };
        let day = DAY_NS;
        check((5, day), &[], 0, &[(5, day)]);
        check((5, day), &[0], 0, &[(5, day)]);
        check((5, day * 4), &[1, 2], 0, &[(5, day), (day, day * 2), (day * 2, day * 3), (day * 3, day * 4)]);
        check((i64::MIN, i64::MAX), &[0], 0, &[(i64::MIN, 0), (0, day), (day, i64::MAX)]);
        check((5, day * 2), &[1], 10, &[(5, day + 5), (day + 5, day * 2)]);
        check((0, day * 2), &[1], 10, &[(0, day), (day, day * 2)]);
        check((5, day * 2), &[1], day * 3, &[(5, day * 2)]);
        check((i64::MIN, i64::MAX), &[0], i64::MAX, &[(i64::MIN, i64::MAX - 1), (i64::MAX - 1, i64::MAX)]);
    }
}
