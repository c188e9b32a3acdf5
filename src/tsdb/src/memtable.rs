//! The memtable: everything acknowledged that is not yet in a part.
//!
//! Rows stand for series, over all days and tenants; each tenant has an inverted index with active rows per day.
//! While it is active it takes writes from many threads at once; once frozen it only waits for its flush.

mod chunk;
mod index;
mod row;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;
use trefoil_model::{SampleBuffer, TenantId, TimeRange};

pub(crate) use self::index::MemIndex;
pub(crate) use self::row::{Row, Sample, Value};
use crate::by_shard::ByShard;
use crate::encoding::DecodeError;
use crate::series::SeriesEntry;

const SHARD_BITS: u32 = 6;
const SHARDS: usize = 1 << SHARD_BITS;
/// Smaller selections of rows are not brought in order, nor are those of less than one row in so many.
const ORDER_ROWS_MIN: u64 = 1024;
const ORDER_PART_MIN: u64 = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Memtable {
    /// Never 0, and different from every earlier memtable's.
    epoch: u32,
    /// Row `r` is number `r >> 6` of shard `r & 63`.
    shards: Vec<Mutex<Vec<Row>>>,
    tenants: RwLock<BTreeMap<TenantId, Arc<RwLock<MemIndex>>>>,
    bytes: AtomicI64,
    /// Of `bytes`, what samples take.
    sample_bytes: AtomicI64,
    series: AtomicU64,
    /// First and last time of all samples.
    times: (AtomicI64, AtomicI64),
}

impl Memtable {
    pub(crate) fn new(epoch: u32) -> Self {
        Self {
            epoch,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            tenants: RwLock::default(),
            bytes: AtomicI64::new(0),
            sample_bytes: AtomicI64::new(0),
            series: AtomicU64::new(0),
            times: (AtomicI64::new(i64::MAX), AtomicI64::new(i64::MIN)),
        }
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// About how many bytes it holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed).max(0) as u64
    }

    /// About how many bytes its samples take, without what their series take.
    pub(crate) fn sample_bytes(&self) -> u64 {
        self.sample_bytes.load(Ordering::Relaxed).max(0) as u64
    }

    /// First and last time of its samples, of all tenants.
    pub(crate) fn times(&self) -> Option<(i64, i64)> {
        let (min, max) = (self.times.0.load(Ordering::Relaxed), self.times.1.load(Ordering::Relaxed));
        (min <= max).then_some((min, max))
    }

    /// Number of rows.
    pub(crate) fn series(&self) -> u64 {
        self.series.load(Ordering::Relaxed)
    }

    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        self.tenants.read().keys().copied().collect()
    }

    /// The index of a tenant, if it has series here.
    pub(crate) fn index(&self, tenant: TenantId) -> Option<Arc<RwLock<MemIndex>>> {
        self.tenants.read().get(&tenant).cloned()
    }

    fn index_or_new(&self, tenant: TenantId) -> Arc<RwLock<MemIndex>> {
        match self.index(tenant) {
            Some(index) => index,
            None => Arc::clone(self.tenants.write().entry(tenant).or_default()),
        }
    }

    /// The rows of series of one tenant, in their order; those without a row get one.
    pub(crate) fn rows(&self, tenant: TenantId, series: &[Option<Arc<SeriesEntry>>]) -> Vec<u32> {
        let mut missing = false;
        let mut rows: Vec<u32> = series
            .iter()
            .map(|s| {
                let row = s.as_ref().map_or(Some(0), |s| s.row_in(self.epoch));
                missing |= row.is_none();
                row.unwrap_or(u32::MAX)
            })
            .collect();
        if !missing {
            return rows;
        }
        let index = self.index_or_new(tenant);
        // Rows are given under this lock only, so that a series never gets two.
        let mut index = index.write();
        let mut bytes = 0;
        for (row, series) in rows.iter_mut().zip(series) {
            let Some(series) = series else { continue };
            if let Some(known) = series.row_in(self.epoch) {
                *row = known;
                continue;
            }
            let shard_index = series.id.0 as usize % SHARDS;
            let mut shard = self.shards[shard_index].lock();
            let local = u32::try_from(shard.len()).expect("a shard has less than 2^26 rows");
            *row = local << SHARD_BITS | shard_index as u32;
            shard.push(Row::new(Arc::clone(series)));
            drop(shard);
            bytes += index.insert(*row, &series.labels) + size_of::<Row>() + series.heap_bytes();
            series.set_row(self.epoch, *row);
            self.series.fetch_add(1, Ordering::Relaxed);
        }
        self.bytes.fetch_add(bytes as i64, Ordering::Relaxed);
        rows
    }

    /// Adds the samples `0..count` of a batch; `row_of` and `sample` give the row and the sample of each. All are visible
    /// when this returns. One lock a shard.
    pub(crate) fn insert_batch(
        &self,
        tenant: TenantId,
        count: usize,
        row_of: impl Fn(usize) -> u32,
        sample: impl Fn(usize) -> Sample,
    ) {
        let mut added = Added::default();
        for (shard, items) in ByShard::new(SHARDS, count, |i| Some(row_of(i) as usize % SHARDS)).iter() {
            let mut shard = self.shards[shard].lock();
            // The rows lie far apart: looking at them first lets their memory arrive together.
            let warm = items.iter().fold(0, |sum, i| sum ^ shard[(row_of(*i as usize) >> SHARD_BITS) as usize].warm());
            std::hint::black_box(warm);
            for i in items {
                added.push(&mut shard, row_of(*i as usize), sample(*i as usize));
            }
        }
        self.note(tenant, added);
    }

    /// Makes what was added findable and counts it.
    fn note(&self, tenant: TenantId, added: Added) {
        if !added.first_of_day.is_empty() {
            let index = self.index_or_new(tenant);
            let mut index = index.write();
            for (day, row) in added.first_of_day {
                index.activate(day, row);
            }
        }
        self.bytes.fetch_add(added.bytes as i64, Ordering::Relaxed);
        self.sample_bytes.fetch_add(added.bytes as i64, Ordering::Relaxed);
        self.times.0.fetch_min(added.min_t, Ordering::Relaxed);
        self.times.1.fetch_max(added.max_t, Ordering::Relaxed);
    }

    /// Rows of a tenant, large selections in the order of their labels: all of the tenant's rows are sorted for them, once.
    pub(crate) fn ordered(&self, tenant: TenantId, rows: &RoaringBitmap) -> Vec<u32> {
        let Some(index) = self.index(tenant) else { return Vec::new() };
        let (all, order) = index.read().rows_and_order();
        if rows.len() < ORDER_ROWS_MIN || rows.len() < all.len() / ORDER_PART_MIN {
            return rows.iter().collect();
        }
        let order = order.lock().of(all, |row| self.with_row(row, |r| r.series.labels.clone()));
        order.iter().copied().filter(|row| rows.contains(*row)).collect()
    }

    /// Looks at a row under its lock.
    pub(crate) fn with_row<T>(&self, row: u32, look: impl FnOnce(&Row) -> T) -> T {
        let shard = self.shards[row as usize % SHARDS].lock();
        look(&shard[(row >> SHARD_BITS) as usize])
    }

    /// Appends a row's samples in the range to `out`.
    pub(crate) fn read(&self, row: u32, range: TimeRange, out: &mut SampleBuffer) -> Result<(), DecodeError> {
        self.with_row(row, |r| r.read(range, out))
    }

    /// The days of a tenant with their active rows, ascending.
    pub(crate) fn days(&self, tenant: TenantId) -> Vec<(i64, RoaringBitmap)> {
        let Some(index) = self.index(tenant) else { return Vec::new() };
        index.read().days().map(|(day, rows)| (day, rows.clone())).collect()
    }
}

/// What samples changed, before it is noted.
struct Added {
    /// Days and rows of samples that are the first ones there.
    first_of_day: Vec<(i64, u32)>,
    bytes: isize,
    min_t: i64,
    max_t: i64,
}

impl Default for Added {
    fn default() -> Self {
        Self { first_of_day: Vec::new(), bytes: 0, min_t: i64::MAX, max_t: i64::MIN }
    }
}

impl Added {
    fn push(&mut self, shard: &mut [Row], row: u32, sample: Sample) {
        let t = sample.t;
        (self.min_t, self.max_t) = (self.min_t.min(t), self.max_t.max(t));
        let (grown, is_first) = shard[(row >> SHARD_BITS) as usize].push(sample);
        self.bytes += grown;
        if is_first {
            self.first_of_day.push((trefoil_model::time::day_of_ms(t), row));
        }
    }
}

#[cfg(test)]
mod tests;
