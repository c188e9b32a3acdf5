//! A budget that counts, for tests of what draws on budgets.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{BudgetError, QueryBudget};

/// Gives out up to its bounds and counts what it gave; giving back more than was taken is a panic.
///
/// Without bounds until [`Purse::of_bytes`] and its like set one.
#[derive(Debug, Default)]
pub struct Purse {
    checks: Pocket,
    samples: Pocket,
    series: Pocket,
    bytes: Pocket,
}

#[derive(Debug)]
struct Pocket {
    max: u64,
    held: AtomicU64,
    peak: AtomicU64,
}

impl Default for Pocket {
    fn default() -> Self {
        Self::of(u64::MAX)
    }
}

impl Pocket {
    fn of(max: u64) -> Self {
        Self { max, held: AtomicU64::new(0), peak: AtomicU64::new(0) }
    }

    fn take(&self, n: u64, error: BudgetError) -> Result<(), BudgetError> {
        let taken = |held: u64| held.checked_add(n).filter(|after| *after <= self.max);
        let before = self.held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken).map_err(|_| error)?;
        self.peak.fetch_max(before + n, Ordering::SeqCst);
        Ok(())
    }

    fn give(&self, n: u64) {
        assert!(self.held.fetch_sub(n, Ordering::SeqCst) >= n, "more given back than taken");
    }
}

impl Purse {
    /// At most so many bytes at once.
    pub fn of_bytes(max: u64) -> Self {
        Self { bytes: Pocket::of(max), ..Self::default() }
    }

    /// At most so many samples at once.
    pub fn of_samples(max: u64) -> Self {
        Self { samples: Pocket::of(max), ..Self::default() }
    }

    /// At most so many series.
    pub fn of_series(max: u64) -> Self {
        Self { series: Pocket::of(max), ..Self::default() }
    }

    /// Canceled from the check behind so many.
    pub fn of_checks(max: u64) -> Self {
        Self { checks: Pocket::of(max), ..Self::default() }
    }

    /// And at most so many samples at once.
    #[must_use]
    pub fn and_samples(mut self, max: u64) -> Self {
        self.samples = Pocket::of(max);
        self
    }

    /// Gives nothing.
    pub fn empty() -> Self {
        Self { samples: Pocket::of(0), series: Pocket::of(0), bytes: Pocket::of(0), ..Self::default() }
    }

    /// Bytes that are held now.
    pub fn bytes(&self) -> u64 {
        self.bytes.held.load(Ordering::SeqCst)
    }

    /// Most bytes that were held at once.
    pub fn peak_bytes(&self) -> u64 {
        self.bytes.peak.load(Ordering::SeqCst)
    }

    /// Samples that are held now.
    pub fn samples(&self) -> u64 {
        self.samples.held.load(Ordering::SeqCst)
    }
}

impl QueryBudget for Purse {
    fn check(&self) -> Result<(), BudgetError> {
        self.checks.take(1, BudgetError::Canceled)
    }
    fn charge_samples(&self, n: u64) -> Result<(), BudgetError> {
        self.samples.take(n, BudgetError::Samples)
    }
    fn release_samples(&self, n: u64) {
        self.samples.give(n);
    }
    fn charge_series(&self, n: u64) -> Result<(), BudgetError> {
        self.series.take(n, BudgetError::Series(self.series.max))
    }
    fn charge_bytes(&self, n: u64) -> Result<(), BudgetError> {
        self.bytes.take(n, BudgetError::Bytes(self.bytes.max))
    }
    fn release_bytes(&self, n: u64) {
        self.bytes.give(n);
    }
}
