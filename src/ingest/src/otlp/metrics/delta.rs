//! Running sums for data points of delta temporality.
//!
//! Each series has the sum of what it sent, the time since which it counts and the time of its last point. The map is
//! bounded: when it is full, series that were silent for [`IDLE_NS`] go, and if none are, new series are refused.
//!
//! A write that fails must not leave its points in the sums, since they are sent again: every change can be undone.

use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use trefoil_model::{FloatHistogram, Labels};

use super::histogram::{ClassicHistogram, add_native};

/// Silence after which a full map may forget a series: 10 minutes.
pub const IDLE_NS: i64 = 600_000_000_000;

/// The running sum of a series.
#[derive(Debug, Clone, PartialEq)]
pub enum Accumulated {
    /// Of a sum.
    Number(f64),
    /// Of a histogram with explicit bounds.
    Classic(ClassicHistogram),
    /// Of an exponential histogram.
    Native(Box<FloatHistogram>),
}

impl Accumulated {
    /// `self` with what `before` had. When they do not fit together (other bounds, other type), the series begins anew:
    /// readers see a counter reset.
    fn add(self, before: &Self) -> Self {
        match (self, before) {
            (Self::Number(a), Self::Number(b)) => Self::Number(a + b),
            (Self::Classic(mut a), Self::Classic(b)) => {
                a.add(b);
                Self::Classic(a)
            }
            (Self::Native(a), Self::Native(b)) => match add_native(&a, b) {
                Some(sum) => Self::Native(Box::new(sum)),
                None => Self::Native(a),
            },
            (own, _) => own,
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    start_ns: i64,
    last_ns: i64,
    value: Accumulated,
}

#[derive(Debug, Default)]
struct Sums {
    entries: FxHashMap<Labels, Entry>,
    swept_ns: i64,
}

/// All running sums.
#[derive(Debug, Clone)]
pub struct DeltaState {
    sums: Arc<Mutex<Sums>>,
    series_max: usize,
}

impl DeltaState {
    /// An empty state for at most `series_max` series.
    pub fn new(series_max: usize) -> Self {
        Self { sums: Arc::default(), series_max }
    }

    /// Starts the changes of one request.
    pub fn begin(&self) -> PendingChange {
        PendingChange { state: self.clone(), undo: Vec::new() }
    }

    /// How many series are held.
    pub fn len(&self) -> usize {
        self.sums.lock().entries.len()
    }

    /// True when no series is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One point of delta temporality.
#[derive(Debug, Clone, PartialEq)]
pub struct DeltaPoint {
    /// Start of the interval, Unix nanoseconds; 0 when unknown.
    pub start_ns: i64,
    /// End of the interval, Unix nanoseconds.
    pub time_ns: i64,
    /// What happened in it.
    pub value: Accumulated,
}

/// The changes that one request made to the running sums; undone on drop unless [kept](PendingChange::keep).
#[derive(Debug)]
pub struct PendingChange {
    state: DeltaState,
    /// Series, its entry before, time of its last point after.
    undo: Vec<(Labels, Option<Entry>, i64)>,
}

impl PendingChange {
    /// Adds a point to its series: the cumulative value and its start in nanoseconds.
    ///
    /// Errors with the reason when the point is not after the last one, starts before the series, or there is no room.
    pub fn add(&mut self, series: &Labels, point: DeltaPoint, now_ns: i64) -> Result<(Accumulated, i64), String> {
        let mut sums = self.state.sums.lock();
        let before = sums.entries.get(series).cloned();
        let entry = match &before {
            Some(entry) => {
                if point.time_ns <= entry.last_ns {
                    return Err(format!(
                        "delta point at {} is out of order: the series is at {}",
                        point.time_ns, entry.last_ns
                    ));
                }
                if point.start_ns != 0 && point.start_ns < entry.start_ns {
                    return Err(format!(
                        "delta point starts at {}, before its series at {}",
                        point.start_ns, entry.start_ns
                    ));
                }
                Entry { start_ns: entry.start_ns, last_ns: point.time_ns, value: point.value.add(&entry.value) }
            }
            None => {
                make_room(&mut sums, self.state.series_max, now_ns)?;
                let start_ns = if point.start_ns != 0 { point.start_ns } else { point.time_ns };
                Entry { start_ns, last_ns: point.time_ns, value: point.value }
            }
        };
        let result = (entry.value.clone(), entry.start_ns);
        self.undo.push((series.clone(), before, entry.last_ns));
        sums.entries.insert(series.clone(), entry);
        Ok(result)
    }

    /// Forgets a series that its sender ended.
    pub fn end(&mut self, series: &Labels) {
        let mut sums = self.state.sums.lock();
        if let Some(before) = sums.entries.remove(series) {
            self.undo.push((series.clone(), Some(before), i64::MIN));
        }
    }

    /// Makes the changes final.
    pub fn keep(mut self) {
        self.undo.clear();
    }
}

impl Drop for PendingChange {
    fn drop(&mut self) {
        if self.undo.is_empty() {
            return;
        }
        let mut sums = self.state.sums.lock();
        for (series, before, after) in self.undo.drain(..).rev() {
            // A later request may have built on our sum; then ours is part of what it wrote and stays.
            if sums.entries.get(&series).map_or(i64::MIN, |e| e.last_ns) != after {
                continue;
            }
            match before {
                Some(entry) => sums.entries.insert(series, entry),
                None => sums.entries.remove(&series),
            };
        }
    }
}

fn make_room(sums: &mut Sums, series_max: usize, now_ns: i64) -> Result<(), String> {
    if sums.entries.len() < series_max {
        return Ok(());
    }
    // A sweep looks at every series: not more than once a minute.
    if now_ns.saturating_sub(sums.swept_ns) >= 60_000_000_000 {
        sums.swept_ns = now_ns;
        sums.entries.retain(|_, e| now_ns.saturating_sub(e.last_ns) < IDLE_NS);
    }
    if sums.entries.len() < series_max {
        return Ok(());
    }
    trefoil_runtime::limits::hit("delta_series_max");
    Err(format!("more than {series_max} series with delta temporality"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(start_ns: i64, time_ns: i64, value: f64) -> DeltaPoint {
        DeltaPoint { start_ns, time_ns, value: Accumulated::Number(value) }
    }

    fn series(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)])
    }

    #[test]
    fn points_add_up_in_order() {
        let state = DeltaState::new(10);
        let mut change = state.begin();
        assert_eq!(change.add(&series("a"), number(5, 10, 1.0), 0), Ok((Accumulated::Number(1.0), 5)));
        assert_eq!(change.add(&series("a"), number(10, 20, 2.0), 0), Ok((Accumulated::Number(3.0), 5)));
        assert!(change.add(&series("a"), number(10, 20, 2.0), 0).unwrap_err().contains("out of order"));
        assert!(change.add(&series("a"), number(1, 30, 2.0), 0).unwrap_err().contains("before its series"));
        change.keep();
        assert_eq!(state.begin().add(&series("a"), number(20, 30, 1.0), 0), Ok((Accumulated::Number(4.0), 5)));
    }

    #[test]
    fn a_dropped_change_is_undone() {
        let state = DeltaState::new(10);
        let mut first = state.begin();
        first.add(&series("a"), number(0, 10, 1.0), 0).unwrap();
        first.keep();
        let mut second = state.begin();
        second.add(&series("a"), number(0, 20, 5.0), 0).unwrap();
        second.add(&series("a"), number(0, 30, 5.0), 0).unwrap();
        second.add(&series("b"), number(0, 20, 5.0), 0).unwrap();
        drop(second);
        assert_eq!(state.len(), 1);
        let mut again = state.begin();
        assert_eq!(again.add(&series("a"), number(0, 20, 5.0), 0).unwrap().0, Accumulated::Number(6.0));
    }

    #[test]
    fn a_full_map_forgets_only_idle_series() {
        let state = DeltaState::new(2);
        let mut change = state.begin();
        let minute = 60_000_000_000;
        change.add(&series("a"), number(0, minute, 1.0), minute).unwrap();
        change.add(&series("b"), number(0, 12 * minute, 1.0), minute).unwrap();
        assert!(change.add(&series("c"), number(0, minute, 1.0), 2 * minute).is_err());
        change.add(&series("c"), number(0, 13 * minute, 1.0), 13 * minute).unwrap();
        assert_eq!(state.len(), 2);
    }
}
