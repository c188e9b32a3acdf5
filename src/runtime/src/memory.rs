//! The memory accountant: who wants to hold much asks first.
//!
//! Four pools share a budget. A reservation is taken before the memory is allocated and given back when it is
//! dropped. All counters are atomics; nobody waits.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::{IntGauge, IntGaugeVec, register_int_gauge_vec};

static RESERVED: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!("trefoil_memory_reserved_bytes", "Memory reserved with the accountant.", &["pool"])
        .expect("unique metric name")
});

/// Who holds memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pool {
    /// Bodies and batches on their way in: 25 % of the budget.
    Ingest,
    /// What is not yet in parts: 40 %.
    Memtable,
    /// Queries: 25 %.
    Query,
    /// Caches, which shrink when asked: 10 %.
    Cache,
}

impl Pool {
    /// All pools.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Memtable, Self::Query, Self::Cache];

    /// Returns the name as used in metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Memtable => "memtable",
            Self::Query => "query",
            Self::Cache => "cache",
        }
    }

    /// Returns the share of the budget in percent.
    pub fn percent(self) -> u64 {
        match self {
            Self::Ingest | Self::Query => 25,
            Self::Memtable => 40,
            Self::Cache => 10,
        }
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The pool has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("memory pool {pool} has no room for {asked} bytes: {used} of {limit} bytes are in use")]
pub struct OverBudget {
    /// The pool.
    pub pool: Pool,
    /// Bytes asked for.
    pub asked: u64,
    /// Bytes the pool may hold.
    pub limit: u64,
    /// Bytes it held.
    pub used: u64,
}

/// The memory accountant of a process. Clones share the counters.
#[derive(Debug, Clone)]
pub struct Accountant(Arc<[PoolState; 4]>);

#[derive(Debug)]
struct PoolState {
    limit: u64,
    used: AtomicU64,
    gauge: IntGauge,
}

impl Accountant {
    /// Creates an accountant over `total_bytes`, shared among the pools by [`Pool::percent`].
    pub fn new(total_bytes: u64) -> Self {
        Self::with_limits(|pool| {
            u64::try_from(u128::from(total_bytes) * u128::from(pool.percent()) / 100).unwrap_or(u64::MAX)
        })
    }

    /// Creates an accountant that never refuses.
    pub fn unlimited() -> Self {
        Self::with_limits(|_| u64::MAX)
    }

    fn with_limits(limit: impl Fn(Pool) -> u64) -> Self {
        Self(Arc::new(Pool::ALL.map(|pool| PoolState {
            limit: limit(pool),
            used: AtomicU64::new(0),
            gauge: RESERVED.with_label_values(&[pool.name()]),
        })))
    }

    /// Reserves `bytes` of a pool, until the reservation is dropped.
    pub fn try_reserve(&self, pool: Pool, bytes: u64) -> Result<Reservation, OverBudget> {
        self.take(pool, bytes)?;
        Ok(self.taken(pool, bytes))
    }

    /// Makes a reservation of `bytes` that were taken before.
    pub(crate) fn taken(&self, pool: Pool, bytes: u64) -> Reservation {
        Reservation { accountant: self.clone(), pool, bytes }
    }

    /// Returns how many bytes a pool holds.
    pub fn used(&self, pool: Pool) -> u64 {
        self.state(pool).used.load(Ordering::Relaxed)
    }

    /// Returns how many bytes a pool may hold.
    pub fn limit(&self, pool: Pool) -> u64 {
        self.state(pool).limit
    }

    /// Takes bytes that somebody gives back with [`Self::give`].
    pub(crate) fn take(&self, pool: Pool, bytes: u64) -> Result<(), OverBudget> {
        let state = self.state(pool);
        let taken = state.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|after| *after <= state.limit)
        });
        match taken {
            Ok(_) => {
                state.gauge.add(i64::try_from(bytes).unwrap_or(i64::MAX));
                Ok(())
            }
            Err(used) => {
                crate::limits::hit(match pool {
                    Pool::Ingest => "memory_ingest",
                    Pool::Memtable => "memory_memtable",
                    Pool::Query => "memory_query",
                    Pool::Cache => "memory_cache",
                });
                Err(OverBudget { pool, asked: bytes, limit: state.limit, used })
            }
        }
    }

    /// Gives back what [`Self::take`] took.
    pub(crate) fn give(&self, pool: Pool, bytes: u64) {
        let state = self.state(pool);
        let before = state.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "more memory given back than taken");
        state.gauge.sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn state(&self, pool: Pool) -> &PoolState {
        &self.0[pool as usize]
    }
}

/// Reserved memory; dropping it gives it back.
#[derive(Debug)]
pub struct Reservation {
    accountant: Accountant,
    pool: Pool,
    bytes: u64,
}

impl Reservation {
    /// Reserves `more` bytes. An error leaves the reservation as it was.
    pub fn grow(&mut self, more: u64) -> Result<(), OverBudget> {
        self.accountant.take(self.pool, more)?;
        self.bytes += more;
        Ok(())
    }

    /// Gives back `less` bytes, at most what is held.
    pub fn shrink(&mut self, less: u64) {
        let less = less.min(self.bytes);
        self.accountant.give(self.pool, less);
        self.bytes -= less;
    }

    /// Returns how many bytes are held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.accountant.give(self.pool, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_above_the_share_and_gives_back() {
        let accountant = Accountant::new(1_000);
        assert_eq!(Pool::ALL.map(|pool| accountant.limit(pool)), [250, 400, 250, 100]);
        let mut held = accountant.try_reserve(Pool::Ingest, 200).unwrap();
        let refused = accountant.try_reserve(Pool::Ingest, 51).unwrap_err();
        assert_eq!(refused, OverBudget { pool: Pool::Ingest, asked: 51, limit: 250, used: 200 });
        held.grow(50).unwrap();
        held.grow(1).unwrap_err();
        held.shrink(100);
        assert_eq!((held.bytes(), accountant.used(Pool::Ingest)), (150, 150));
        drop(held);
        assert_eq!(accountant.used(Pool::Ingest), 0);
        assert!(Accountant::unlimited().try_reserve(Pool::Cache, u64::MAX).is_ok());
    }

    #[test]
    fn threads_never_exceed_the_limit() {
        let accountant = Accountant::new(4_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if let Ok(held) = accountant.try_reserve(Pool::Query, 300) {
                            assert!(accountant.used(Pool::Query) <= 1_000);
                            drop(held);
                        }
                    }
                });
            }
        });
        assert_eq!(accountant.used(Pool::Query), 0);
    }
}
