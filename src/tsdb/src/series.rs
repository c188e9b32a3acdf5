//! The series registry: labels to ids, and back while a series is in use.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::RwLock;
use trefoil_model::{Labels, SeriesId, TenantId};

use crate::by_shard::ByShard;

const SHARDS: usize = 64;
/// Bytes that an entry takes beside its labels: itself, its two counters, its place in the map.
const ENTRY_BYTES: usize = size_of::<SeriesEntry>() + 16 + 24;

/// A series that was written lately. Shared by the registry, the memtable and exemplars.
#[derive(Debug)]
pub(crate) struct SeriesEntry {
    pub(crate) id: SeriesId,
    pub(crate) tenant: TenantId,
    pub(crate) labels: Labels,
    /// The journal epoch in which a record with this series' definition became durable. Journal epochs begin at 1
    /// and change when the journal position that a flush will commit is taken: each epoch's records define all
    /// series that they name, so that replay needs nothing from before.
    defined_in: AtomicU32,
    /// Memtable epoch (high half) and the row that the series has in that memtable (low half).
    place: AtomicU64,
    /// The number under which the cardinality guard counts it.
    job: u32,
}

impl SeriesEntry {
    pub(crate) fn new(id: SeriesId, tenant: TenantId, labels: Labels, job: u32) -> Self {
        Self { id, tenant, labels, defined_in: AtomicU32::new(0), place: AtomicU64::new(0), job }
    }

    pub(crate) fn is_defined_in(&self, journal_epoch: u32) -> bool {
        self.defined_in.load(Ordering::Acquire) == journal_epoch
    }

    pub(crate) fn set_defined_in(&self, journal_epoch: u32) {
        self.defined_in.store(journal_epoch, Ordering::Release);
    }

    /// The row in the memtable of that epoch, if it has one.
    pub(crate) fn row_in(&self, memtable_epoch: u32) -> Option<u32> {
        let place = self.place.load(Ordering::Acquire);
        ((place >> 32) as u32 == memtable_epoch).then_some(place as u32)
    }

    pub(crate) fn set_row(&self, memtable_epoch: u32, row: u32) {
        self.place.store(u64::from(memtable_epoch) << 32 | u64::from(row), Ordering::Release);
    }

    /// The number under which the cardinality guard counts it.
    pub(crate) fn job(&self) -> u32 {
        self.job
    }

    fn last_epoch(&self) -> u32 {
        (self.place.load(Ordering::Acquire) >> 32) as u32
    }

    /// Bytes that this series takes in the registry.
    pub(crate) fn heap_bytes(&self) -> usize {
        ENTRY_BYTES + self.labels.heap_bytes()
    }
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct PassThrough(u64);

impl Hasher for PassThrough {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 keys are hashed");
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = v;
    }
}

type Map<T> = HashMap<u64, T, BuildHasherDefault<PassThrough>>;

#[derive(Debug, Default)]
struct Shard {
    by_hash: Map<Arc<SeriesEntry>>,
    /// Series whose hash another one had first. Practically always empty.
    collisions: Vec<(u64, Arc<SeriesEntry>)>,
}

impl Shard {
    fn get(&self, hash: u64, tenant: TenantId, labels: &Labels) -> Option<&Arc<SeriesEntry>> {
        let is_it = |e: &Arc<SeriesEntry>| e.tenant == tenant && e.labels == *labels;
        let first = self.by_hash.get(&hash)?;
        if is_it(first) {
            return Some(first);
        }
        self.collisions.iter().find(|(h, e)| *h == hash && is_it(e)).map(|(_, e)| e)
    }

    fn insert(&mut self, hash: u64, entry: Arc<SeriesEntry>) {
        match self.by_hash.entry(hash) {
            Entry::Vacant(place) => {
                place.insert(entry);
            }
            Entry::Occupied(_) => self.collisions.push((hash, entry)),
        }
    }
}

/// See the module. One hash lookup finds a series; the hash is that of the labels, mixed with the tenant.
#[derive(Debug)]
pub(crate) struct Registry {
    shards: Vec<RwLock<Shard>>,
    next_id: AtomicU64,
}

/// The hash under which the registry and the parts know a label set.
pub(crate) fn registry_hash(tenant: TenantId, labels: &Labels) -> u64 {
    labels.stable_hash() ^ u64::from(tenant.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Reads a little of every cache line of a typical label set. The value means nothing.
fn warm(labels: &Labels) -> u8 {
    let bytes = labels.as_packed().as_bytes();
    [0, 64, 128, 192].iter().fold(0, |sum, at| sum ^ bytes.get(*at).copied().unwrap_or(0))
}

fn shard_of(hash: u64) -> usize {
    // The map inside uses the low and the very highest bits.
    (hash >> 40) as usize % SHARDS
}

impl Registry {
    pub(crate) fn new(next_id: u64) -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect(), next_id: AtomicU64::new(next_id.max(1)) }
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        &self.shards[shard_of(hash)]
    }

    /// The id that the next new series gets.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.load(Ordering::Acquire)
    }

    /// Makes sure that `id` is never given to a new series.
    pub(crate) fn reserve_through(&self, id: u64) {
        self.next_id.fetch_max(id.saturating_add(1), Ordering::AcqRel);
    }

    /// Finds the series of a batch; `labels` and their hashes are in the same order, `None` is not looked for. One lock
    /// a shard.
    pub(crate) fn get_all(
        &self,
        tenant: TenantId,
        hashes: &[Option<u64>],
        labels: &[Labels],
    ) -> Vec<Option<Arc<SeriesEntry>>> {
        let mut found = vec![None; hashes.len()];
        for (shard, items) in ByShard::new(SHARDS, hashes.len(), |i| hashes[i].map(shard_of)).iter() {
            let shard = self.shards[shard].read();
            // Step by step, so that the memory of many series is asked for at once: their entries, their labels, and
            // only then their counters, each of which stops the processor from looking ahead.
            let group: Vec<(u32, u64, &Arc<SeriesEntry>)> = items
                .iter()
                .filter_map(|i| {
                    let hash = hashes[*i as usize]?;
                    shard.by_hash.get(&hash).map(|entry| (*i, hash, entry))
                })
                .collect();
            let warm = group.iter().fold(0, |sum, (_, _, entry)| sum ^ warm(&entry.labels));
            std::hint::black_box(warm);
            for (i, hash, _) in group {
                found[i as usize] = shard.get(hash, tenant, &labels[i as usize]).cloned();
            }
        }
        found
    }

    /// Finds a series or makes it when `admit` lets it in and names its job; it gets the id `known` or a new one. Also
    /// says whether it was made.
    pub(crate) fn get_or_create<E>(
        &self,
        hash: u64,
        tenant: TenantId,
        labels: &Labels,
        known: Option<u64>,
        admit: impl FnOnce() -> Result<u32, E>,
    ) -> Result<(Arc<SeriesEntry>, bool), E> {
        let mut shard = self.shard(hash).write();
        if let Some(entry) = shard.get(hash, tenant, labels) {
            return Ok((Arc::clone(entry), false));
        }
        let job = admit()?;
        let id = known.unwrap_or_else(|| self.next_id.fetch_add(1, Ordering::AcqRel));
        let entry = Arc::new(SeriesEntry::new(SeriesId(id), tenant, labels.clone(), job));
        shard.insert(hash, Arc::clone(&entry));
        Ok((entry, true))
    }

    /// Calls `each` with every series, shard by shard under its lock.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&Arc<SeriesEntry>)) {
        for shard in &self.shards {
            let shard = shard.read();
            shard.by_hash.values().chain(shard.collisions.iter().map(|(_, entry)| entry)).for_each(&mut each);
        }
    }

    /// Forgets series that have no row in a memtable of `since` or later; their parts still know them. Returns the
    /// job of each.
    pub(crate) fn evict_before(&self, since: u32) -> Vec<u32> {
        let mut evicted = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.write();
            let mut keep = |e: &SeriesEntry| {
                let keep = e.last_epoch() >= since;
                if !keep {
                    evicted.push(e.job);
                }
                keep
            };
            shard.collisions.retain(|(_, e)| keep(e));
            // One with collisions behind it stays, because they are found through it.
            let Shard { by_hash, collisions } = &mut *shard;
            by_hash.retain(|hash, e| collisions.iter().any(|(h, _)| h == hash) || keep(e));
            if by_hash.capacity() > 4 * by_hash.len().max(64) {
                by_hash.shrink_to_fit();
            }
        }
        evicted
    }
}
