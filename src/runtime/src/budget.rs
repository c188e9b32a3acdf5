//! Deadline, cancellation and budgets of one query, over the process's clock, limits and memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use trefoil_model::{BudgetError, QueryBudget};

use crate::clock::SharedClock;
use crate::limits::{self, Limits};
use crate::memory::{Accountant, Pool, Reservation};

/// The budget of one query. Share it as `Arc<QueryContext>`; what it took is given back when it is dropped.
pub struct QueryContext {
    clock: SharedClock,
    /// On the monotonic clock.
    deadline: Duration,
    timeout: Duration,
    canceled: Arc<AtomicBool>,
    accountant: Accountant,
    samples: AtomicU64,
    samples_max: u64,
    series: AtomicU64,
    series_max: u64,
    bytes: AtomicU64,
    bytes_max: u64,
}

impl QueryContext {
    /// Starts a query that must end within `timeout` (at most [`Limits::query_timeout`]) from now.
    pub fn new(clock: SharedClock, timeout: Duration, limits: &Limits, accountant: Accountant) -> Self {
        let timeout = timeout.min(limits.query_timeout);
        let deadline = clock.monotonic().saturating_add(timeout);
        Self {
            clock,
            deadline,
            timeout,
            canceled: Arc::new(AtomicBool::new(false)),
            accountant,
            samples: AtomicU64::new(0),
            samples_max: limits.query_samples_max,
            series: AtomicU64::new(0),
            series_max: limits.query_series_max,
            bytes: AtomicU64::new(0),
            bytes_max: limits.query_memory_bytes_max,
        }
    }

    /// Cancels the query: the next check errors.
    pub fn cancel(&self) {
        self.canceled.store(true, Ordering::Relaxed);
    }

    /// Returns a guard that cancels the query when it is dropped: hold it where the client's connection is.
    pub fn cancel_guard(&self) -> CancelGuard {
        CancelGuard(Some(Arc::clone(&self.canceled)))
    }

    /// Returns how much time is left.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_sub(self.clock.monotonic())
    }

    /// Returns how many bytes the query holds.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Keeps `n` of the bytes that the query took, at most those it holds, beyond its end: for an answer on its way.
    pub fn keep(&self, n: u64) -> Reservation {
        let before = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(n)));
        self.accountant.taken(Pool::Query, before.map_or(0, |used| used.min(n)))
    }

    /// Returns how many samples the query holds.
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }
}

impl Drop for QueryContext {
    fn drop(&mut self) {
        self.accountant.give(Pool::Query, self.bytes.load(Ordering::Relaxed));
    }
}

/// Adds `n` unless the sum passes `max`.
fn charge(counter: &AtomicU64, n: u64, max: u64) -> bool {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| used.checked_add(n).filter(|after| *after <= max))
        .is_ok()
}

impl QueryBudget for QueryContext {
    fn check(&self) -> Result<(), BudgetError> {
        if self.canceled.load(Ordering::Relaxed) {
            return Err(BudgetError::Canceled);
        }
        if self.clock.monotonic() >= self.deadline {
            limits::hit("query_timeout");
            return Err(BudgetError::Timeout(self.timeout));
        }
        Ok(())
    }

    fn charge_samples(&self, n: u64) -> Result<(), BudgetError> {
        if charge(&self.samples, n, self.samples_max) {
            return Ok(());
        }
        limits::hit("query_samples_max");
        Err(BudgetError::Samples)
    }

    fn release_samples(&self, n: u64) {
        let released =
            self.samples.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(n)));
        debug_assert!(released.is_ok_and(|used| used >= n), "more samples released than charged");
    }

    fn charge_series(&self, n: u64) -> Result<(), BudgetError> {
        if charge(&self.series, n, self.series_max) {
            return Ok(());
        }
        limits::hit("query_series_max");
        Err(BudgetError::Series(self.series_max))
    }

    fn charge_bytes(&self, n: u64) -> Result<(), BudgetError> {
        if !charge(&self.bytes, n, self.bytes_max) {
            limits::hit("query_memory_bytes_max");
            return Err(BudgetError::Bytes(self.bytes_max));
        }
        if let Err(over) = self.accountant.take(Pool::Query, n) {
            self.bytes.fetch_sub(n, Ordering::Relaxed);
            return Err(BudgetError::Bytes(over.limit));
        }
        Ok(())
    }

    fn release_bytes(&self, n: u64) {
        let before = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(n)));
        let given = before.map_or(0, |used| used.min(n));
        debug_assert_eq!(given, n, "more bytes released than charged");
        self.accountant.give(Pool::Query, given);
    }
}

/// Cancels its query when dropped.
#[derive(Debug)]
pub struct CancelGuard(Option<Arc<AtomicBool>>);

impl CancelGuard {
    /// Lets the query go on after the guard is gone.
    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some(canceled) = &self.0 {
            canceled.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimClock;

    fn context(accountant: &Accountant) -> (Arc<SimClock>, QueryContext) {
        let clock = SimClock::new(0);
        let limits =
            Limits { query_samples_max: 10, query_series_max: 3, query_memory_bytes_max: 100, ..Limits::default() };
        let context = QueryContext::new(clock.clone(), Duration::from_secs(5), &limits, accountant.clone());
        (clock, context)
    }

    #[test]
    fn stops_at_the_deadline() {
        let (clock, context) = context(&Accountant::unlimited());
        assert_eq!(context.check(), Ok(()));
        clock.advance(Duration::from_secs(4));
        assert_eq!((context.check(), context.remaining()), (Ok(()), Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(context.check(), Err(BudgetError::Timeout(Duration::from_secs(5))));
    }

    #[test]
    fn a_dropped_guard_cancels() {
        let (_, context) = context(&Accountant::unlimited());
        context.cancel_guard().disarm();
        assert_eq!(context.check(), Ok(()));
        drop(context.cancel_guard());
        assert_eq!(context.check(), Err(BudgetError::Canceled));
    }

    #[test]
    fn charges_up_to_the_limits() {
        let accountant = Accountant::new(240); // 60 bytes for queries
        let (_, context) = context(&accountant);
        assert_eq!(context.charge_samples(10), Ok(()));
        assert_eq!(context.charge_samples(1), Err(BudgetError::Samples));
        context.release_samples(5);
        assert_eq!(context.charge_samples(5), Ok(()));
        assert_eq!(context.charge_series(3), Ok(()));
        assert_eq!(context.charge_series(1), Err(BudgetError::Series(3)));
        assert_eq!(context.charge_bytes(101), Err(BudgetError::Bytes(100)));
        assert_eq!(context.charge_bytes(61), Err(BudgetError::Bytes(60)));
        assert_eq!(context.charge_bytes(60), Ok(()));
        assert_eq!(accountant.used(Pool::Query), 60);
        context.release_bytes(20);
        assert_eq!((context.bytes(), accountant.used(Pool::Query)), (40, 40));
        assert_eq!(context.charge_bytes(20), Ok(()));
        let mut kept = context.keep(50);
        assert_eq!((context.bytes(), accountant.used(Pool::Query)), (10, 60));
        drop(context);
        assert_eq!(accountant.used(Pool::Query), 50);
        kept.shrink(30);
        assert_eq!(accountant.used(Pool::Query), 20);
        drop(kept);
        assert_eq!(accountant.used(Pool::Query), 0);
    }
}
