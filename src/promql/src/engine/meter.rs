//! What an evaluation holds of its query's memory.
//!
//! Everything that grows with the data is taken from the budget before it is made, or as it is made. What a node took
//! beyond its own value is given back when the node is done ([`Meter::settle`]): then its operands are gone, too.
//! The budget itself is asked for larger pieces, so that a series costs an addition.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use trefoil_model::{BudgetError, QueryBudget};

/// The budget is asked for at most so much ahead of need.
const PIECE_BYTES: u64 = 64 << 10;
/// More than this is not kept back when it is no longer needed.
const SPARE_BYTES: u64 = 1 << 20;

/// The budget of a query, and what the evaluation holds of it.
pub(crate) struct Meter<'a> {
    budget: &'a dyn QueryBudget,
    used: AtomicU64,
    /// What the budget gave: at least what is used. Changed under the lock only.
    drawn: AtomicU64,
    drawing: Mutex<()>,
}

const UNPOISONED: &str = "no thread panics while it asks for memory";

impl<'a> Meter<'a> {
    pub(crate) fn new(budget: &'a dyn QueryBudget) -> Self {
        Self { budget, used: AtomicU64::new(0), drawn: AtomicU64::new(0), drawing: Mutex::default() }
    }

    /// Bytes that are held now.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes bytes until they are [given back](Self::give) or settled.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), BudgetError> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if used <= self.drawn.load(Ordering::Acquire) {
            return Ok(());
        }
        let _drawing = self.drawing.lock().expect(UNPOISONED);
        let drawn = self.drawn.load(Ordering::Acquire);
        let missing = self.used().saturating_sub(drawn);
        if missing == 0 {
            return Ok(());
        }
        // Little queries draw little pieces.
        let ahead = (drawn / 8).min(PIECE_BYTES);
        match self.budget.charge_bytes(missing.max(ahead)) {
            Ok(()) => {
                self.drawn.store(drawn + missing.max(ahead), Ordering::Release);
                Ok(())
            }
            Err(error) => {
                self.used.fetch_sub(bytes, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Gives bytes back, at most what is held: a scalar that became a series is a little larger than what was taken.
    pub(crate) fn give(&self, bytes: u64) {
        let lower = |used: u64| Some(used.saturating_sub(bytes));
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower).expect("always lowers");
        if self.drawn.load(Ordering::Relaxed).saturating_sub(self.used()) > SPARE_BYTES {
            self.give_spare(PIECE_BYTES);
        }
    }

    fn give_spare(&self, keep: u64) {
        let _drawing = self.drawing.lock().expect(UNPOISONED);
        let drawn = self.drawn.load(Ordering::Relaxed);
        // Lowered first: who takes meanwhile sees that there is less.
        let target = self.used().saturating_add(keep).min(drawn);
        self.drawn.store(target, Ordering::Release);
        self.budget.release_bytes(drawn - target);
    }

    /// Takes bytes until the guard is dropped.
    pub(crate) fn hold(&self, bytes: u64) -> Result<Held<'_>, BudgetError> {
        self.take(bytes)?;
        Ok(Held { meter: self, bytes })
    }

    /// Of what was taken since `mark` bytes were held, leaves `bytes`. For when nothing else takes.
    pub(crate) fn settle(&self, mark: u64, bytes: u64) -> Result<(), BudgetError> {
        let (used, target) = (self.used(), mark.saturating_add(bytes));
        if target > used {
            return self.take(target - used);
        }
        self.give(used - target);
        Ok(())
    }

    /// Ends the evaluation: `bytes` stay with the budget until its query is over.
    pub(crate) fn finish(&self, bytes: u64) -> Result<(), BudgetError> {
        let result = self.settle(0, bytes);
        if result.is_err() {
            self.give(self.used());
        }
        self.give_spare(0);
        result
    }
}

impl QueryBudget for Meter<'_> {
    fn check(&self) -> Result<(), BudgetError> {
        self.budget.check()
    }
    fn charge_samples(&self, n: u64) -> Result<(), BudgetError> {
        self.budget.charge_samples(n)
    }
    fn release_samples(&self, n: u64) {
        self.budget.release_samples(n);
    }
    fn charge_series(&self, n: u64) -> Result<(), BudgetError> {
        self.budget.charge_series(n)
    }
    fn charge_bytes(&self, n: u64) -> Result<(), BudgetError> {
        self.take(n)
    }
    fn release_bytes(&self, n: u64) {
        self.give(n);
    }
}

/// Memory that is given back when this is dropped.
pub(crate) struct Held<'a> {
    meter: &'a Meter<'a>,
    bytes: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.meter.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use trefoil_model::Purse;

    use super::*;

    #[test]
    fn settles_to_what_is_left() {
        let purse = Purse::of_bytes(10 << 20);
        let meter = Meter::new(&purse);
        meter.take(1000).unwrap();
        let mark = meter.used();
        meter.take(5 << 20).unwrap();
        drop(meter.hold(3 << 20).unwrap());
        assert_eq!(meter.take(6 << 20), Err(BudgetError::Bytes(10 << 20)));
        meter.settle(mark, 500).unwrap();
        assert_eq!(meter.used(), 1500);
        assert!(purse.bytes() < 2 << 20);
        meter.finish(700).unwrap();
        assert_eq!(purse.bytes(), 700);
    }

    #[test]
    fn threads_never_hold_more_than_was_given() {
        let purse = Purse::of_bytes(8 << 20);
        let meter = Meter::new(&purse);
        std::thread::scope(|scope| {
            for i in 0..4u64 {
                let meter = &meter;
                scope.spawn(move || {
                    for n in 0..2000 {
                        let Ok(held) = meter.hold((n * 7919 + i * 104_729) % (3 << 20)) else { continue };
                        assert!(meter.drawn.load(Ordering::SeqCst) <= 8 << 20);
                        drop(held);
                    }
                });
            }
        });
        meter.finish(0).unwrap();
        assert_eq!((meter.used(), purse.bytes()), (0, 0));
    }
}
