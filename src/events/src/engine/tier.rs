//! Parts of past days in an object store: which move there, which are fetched back to be merged.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use trefoil_model::time::DAY_MS;
use trefoil_model::{NanoRange, TenantId};
use trefoil_parts::{MergePlan, MergePolicy, PartId, PartMeta, PartsError};

use super::{Engine, Kind};
use crate::EventsError;
use crate::part_file::PartReader;
use crate::segments;

/// Time after a failed fetch until parts in the object store are merged again, milliseconds.
const FETCH_RETRY_MS: i64 = 60_000;
/// How long after a rule of the retention has come true for a part in the object store the part is fetched for it.
const RULE_DAYS: i64 = 2;

/// What an engine knows of its object store.
#[derive(Default)]
pub(super) struct State {
    /// Evictions from the cache that the open readers take account of.
    evictions_seen: AtomicU64,
    /// Monotonic milliseconds from which parts there are merged again.
    merges_from_ms: AtomicI64,
    /// One at a time looks for damage in cached files.
    mending: Mutex<()>,
}

/// Whether a part could not be fetched and may be some other time: it is not known to be damaged.
pub(super) fn is_out_of_reach(error: &EventsError) -> bool {
    let EventsError::Parts { source: PartsError::Remote { source, .. }, .. } = error else { return false };
    !matches!(source.kind(), ErrorKind::NotFound | ErrorKind::InvalidData)
}

impl<K: Kind> Engine<K> {
    /// Moves the oldest part that is due and waits for no merge to the object store; returns whether there was one, then
    /// call it again. Lets go of files that left the cache and deletes objects that no part needs any more. After an
    /// error the part lies where it lay. Blocks on network and disk.
    pub(crate) fn move_once(&self) -> Result<bool, EventsError> {
        let failed = |source| EventsError::Parts { kind: K::NAME, source };
        let Some(options) = &self.options.object_store else { return Ok(false) };
        if self.is_closed.load(Ordering::Acquire) {
            return Err(EventsError::Closed { kind: K::NAME });
        }
        self.let_go();
        // A merge that is planned now may want any of them.
        let Some(mut busy) = self.merging.try_lock().map(|merging| merging.clone()) else { return Ok(false) };
        busy.extend(self.damaged.lock().iter());
        let now_ms = self.now_ms();
        let next = {
            let parts = self.set.parts();
            let is_wanted = |meta: &&Arc<PartMeta>| options.is_due(meta, now_ms) && !busy.contains(&meta.id);
            let mut due: Vec<_> = parts.iter().filter(is_wanted).collect();
            if due.len() > 1 {
                // What a merge will take soon goes there merged. Without room for the merge it goes as it is.
                let waiting = self.awaiting_merge(&parts, busy.clone());
                let bytes = due.iter().filter(|meta| waiting.contains(&meta.id)).map(|meta| meta.bytes).sum();
                if !waiting.is_empty() && self.has_room_for(bytes) {
                    due.retain(|meta| !waiting.contains(&meta.id));
                }
            }
            let next = due.into_iter().min_by_key(|meta| (meta.partition, meta.id));
            next.map(|meta| (meta.id, meta.partition, meta.bytes))
        };
        let Some((id, day, bytes)) = next else {
            self.set.sweep_remote().map_err(failed)?;
            return Ok(false);
        };
        match self.set.upload(id) {
            Ok(_) => tracing::info!(kind = K::NAME, part = id.0, day, bytes, "part moved to the object store"),
            // It was merged or removed meanwhile.
            Err(PartsError::NoSuchPart(_)) => return Ok(true),
            Err(error) => {
                if matches!(error, PartsError::CorruptFile { .. }) {
                    self.damaged.lock().insert(id);
                }
                return Err(failed(error));
            }
        }
        self.show();
        Ok(true)
    }

    /// The stretches of a range that a query reads one after the other; see [`segments::cut`].
    pub(crate) fn segments(&self, tenant: TenantId, range: NanoRange, step_ns: i64) -> Vec<NanoRange> {
        let parts = self.set.parts();
        let remote = parts.iter().filter(|meta| meta.is_remote() && meta.tenant == tenant);
        let days: BTreeSet<i64> =
            remote.filter(|meta| range.overlaps(meta.min_t, meta.max_t)).map(|meta| meta.partition).collect();
        segments::cut(range, &days, step_ns)
    }

    /// Parts that merges will take: they need not go to the object store before.
    fn awaiting_merge(&self, metas: &[Arc<PartMeta>], mut busy: BTreeSet<PartId>) -> BTreeSet<PartId> {
        busy.extend(metas.iter().filter(|meta| meta.is_remote()).map(|meta| meta.id));
        let mut found = BTreeSet::new();
        while let Some(plan) = self.options.merge.plan(metas, &busy) {
            busy.extend(plan.parts.iter());
            found.extend(plan.parts);
        }
        found
    }

    /// A merge of parts that lie here, or else one with parts in the object store. While those cannot be fetched they
    /// are busy.
    pub(super) fn plan_merge(&self, metas: &[Arc<PartMeta>], busy: &mut BTreeSet<PartId>) -> Option<MergePlan> {
        let mut away = busy.clone();
        away.extend(metas.iter().filter(|meta| meta.is_remote()).map(|meta| meta.id));
        if let Some(plan) = self.options.merge.plan(metas, &away) {
            return Some(plan);
        }
        let tier = self.options.object_store.as_ref().filter(|_| {
            self.monotonic_ms() >= self.tier.merges_from_ms.load(Ordering::Relaxed) && self.set.unreachable_parts() == 0
        });
        let Some(tier) = tier else {
            *busy = away;
            return None;
        };
        // Half of the cache: what queries use stays there.
        let bytes_max = self.options.merge.bytes_max.min(tier.remote.cache_bytes / 2);
        MergePolicy { bytes_max, ..self.options.merge.clone() }.plan(metas, busy)
    }

    /// Puts off merges of parts in the object store when one could not be fetched; returns whether that was why.
    pub(super) fn put_off(&self, error: &EventsError) -> bool {
        let is_out_of_reach = is_out_of_reach(error);
        if is_out_of_reach {
            self.tier.merges_from_ms.store(self.monotonic_ms() + FETCH_RETRY_MS, Ordering::Relaxed);
            let error = trefoil_runtime::tasks::chain(error);
            tracing::warn!(kind = K::NAME, error, "part in the object store was not fetched to be merged");
        }
        is_out_of_reach
    }

    /// Whether the disk has room to fetch parts and to write what becomes of them; else their merge is put off.
    pub(super) fn has_room_to_fetch(&self, metas: &[Arc<PartMeta>]) -> bool {
        let bytes: u64 = metas.iter().filter(|meta| meta.is_remote()).map(|meta| meta.bytes).sum();
        let has_room = bytes == 0 || self.has_room_for(bytes.saturating_mul(2));
        if !has_room {
            self.tier.merges_from_ms.store(self.monotonic_ms() + FETCH_RETRY_MS, Ordering::Relaxed);
            tracing::warn!(kind = K::NAME, bytes, "merge put off, the disk has no room to fetch parts");
        }
        has_room
    }

    fn has_room_for(&self, bytes: u64) -> bool {
        self.disk.available_bytes() >= bytes.saturating_add(self.options.disk_free_floor_bytes)
    }

    /// Whether a part in the object store is not fetched for the rules of the retention that are `over` for it: all of
    /// them came true some days ago. What they hide goes with the day; else every start would fetch everything.
    pub(super) fn is_left_to_its_day(&self, meta: &PartMeta, over: &[bool]) -> bool {
        let then_ms = self.now_ms().saturating_sub(RULE_DAYS * DAY_MS);
        meta.is_remote() && self.retention().at(then_ms).over_at(meta.max_t) == over
    }

    /// Opens a part. A damaged file in the cache is fetched again.
    pub(super) fn open_reader(&self, meta: &Arc<PartMeta>) -> Result<PartReader, EventsError> {
        let opened = match PartReader::open(&self.set, meta, K::NAME) {
            Err(EventsError::Corrupt { .. }) if self.set.forget_damaged_cache(meta) => {
                PartReader::open(&self.set, meta, K::NAME)
            }
            opened => opened,
        };
        if meta.is_remote() {
            self.let_go();
        }
        opened
    }

    /// Whether a reader may be used again; not one of a part in the object store that met damage of the cached file.
    pub(super) fn is_of_use(&self, reader: &Arc<PartReader>) -> bool {
        let meta = &reader.meta;
        if !meta.is_remote() {
            return true;
        }
        if reader.is_damaged() && !self.damaged.lock().contains(&meta.id) {
            if self.is_mended(reader) {
                return false;
            }
            // It was written so. Looking at all of it again would not help.
            self.damaged.lock().insert(meta.id);
        }
        self.set.touch(meta);
        true
    }

    /// Whether the damage that a reader met was that of a file in the cache. That is gone then, and the next reader
    /// fetches it again.
    pub(super) fn is_mended(&self, reader: &Arc<PartReader>) -> bool {
        let meta = &reader.meta;
        if !meta.is_remote() {
            return false;
        }
        let _alone = self.tier.mending.lock();
        let is_open = self.readers.lock().get(&meta.id).is_some_and(|open| Arc::ptr_eq(open, reader));
        if is_open && self.set.is_cached(meta) && !self.set.forget_damaged_cache(meta) {
            return false;
        }
        if is_open {
            self.readers.lock().remove(&meta.id);
        }
        true
    }

    /// Lets go of the files that left the cache: while they are mapped they take room.
    fn let_go(&self) {
        let (evictions, _) = self.set.cache_evictions_and_bytes();
        if self.tier.evictions_seen.swap(evictions, Ordering::AcqRel) != evictions {
            self.readers.lock().retain(|_, reader| !reader.meta.is_remote() || self.set.is_cached(&reader.meta));
        }
    }
}
