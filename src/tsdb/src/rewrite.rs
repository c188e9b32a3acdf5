//! What merges do beside merging: they leave out what is deleted or no longer kept, thin and downsample the rest. Parts
//! that have such work and nothing to be merged with are rewritten alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use trefoil_model::{Labels, SampleBuffer, StoreError, TimeRange, Unlimited, time::DAY_MS};

use crate::downsample::{dedup, downsample, is_counter};
use crate::error::TsdbError;
use crate::matching::{LabelIndex, select_rows};
use crate::metrics;
use crate::policy::Lifecycle;
use crate::store::{DOWNSAMPLED, Inner, OpenPart, View};
use crate::tombstones::{Hidden, Tombstones};

type Known<K, V> = Mutex<Option<(Arc<K>, Arc<V>)>>;

/// What was found out about a part, so that it is not found out again for each query.
#[derive(Default)]
pub(crate) struct PartKnowledge {
    pub(crate) hidden: Known<Tombstones, Hidden>,
    /// The rows of each retention rule, and last those of none.
    rules: Known<Lifecycle, Vec<RoaringBitmap>>,
    /// The downsampling mark for which no row is due.
    nothing_due: Mutex<Option<String>>,
}

impl OpenPart {
    fn rule_rows(&self, life: &Arc<Lifecycle>) -> Result<Arc<Vec<RoaringBitmap>>, StoreError> {
        let mut known = self.known.rules.lock();
        if let Some((of, rows)) = &*known
            && Arc::ptr_eq(of, life)
        {
            return Ok(Arc::clone(rows));
        }
        let reader = self.index()?;
        let mut rest = reader.all_rows()?;
        let mut all = Vec::new();
        for matchers in life.rules() {
            let rows = select_rows(reader, matchers, &Unlimited)? & &rest;
            rest -= &rows;
            all.push(rows);
        }
        all.push(rest);
        let all = Arc::new(all);
        *known = Some((Arc::clone(life), Arc::clone(&all)));
        Ok(all)
    }

    /// Takes out of `rows` those without a visible sample.
    pub(crate) fn hide(
        &self,
        rows: &mut RoaringBitmap,
        hidden: Option<&Hidden>,
        life: &Arc<Lifecycle>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        if let Some(hidden) = hidden {
            *rows -= &hidden.dead;
        }
        if !life.has_rules() || life.kept_by_all(now_ms) <= self.meta.min_t {
            return Ok(());
        }
        let reader = self.index()?;
        for (of_rule, start) in self.rule_rows(life)?.iter().zip(life.starts(now_ms)) {
            if start <= self.meta.min_t {
                continue;
            }
            let mut gone = &*rows & of_rule;
            if start <= self.meta.max_t {
                let mut old = RoaringBitmap::new();
                for row in gone {
                    if reader.bounds(row)?.1 < start {
                        old.insert(row);
                    }
                }
                gone = old;
            }
            *rows -= gone;
        }
        Ok(())
    }

    /// The rows whose day is no longer kept.
    fn expired_rows(&self, life: &Arc<Lifecycle>, now_ms: i64) -> Result<RoaringBitmap, StoreError> {
        let day_end = self.meta.partition.saturating_add(1).saturating_mul(DAY_MS);
        let mut expired = RoaringBitmap::new();
        if life.kept_by_all(now_ms) >= day_end {
            for (rows, start) in self.rule_rows(life)?.iter().zip(life.starts(now_ms)) {
                if start >= day_end {
                    expired |= rows;
                }
            }
        }
        Ok(expired)
    }

    /// True when nothing in it is kept any more.
    pub(crate) fn is_expired(&self, life: &Arc<Lifecycle>, now_ms: i64) -> bool {
        let day_end = self.meta.partition.saturating_add(1).saturating_mul(DAY_MS);
        if life.earliest(now_ms) >= day_end {
            return true;
        }
        let all =
            |rows: RoaringBitmap| !rows.is_empty() && self.index().is_ok_and(|r| rows.len() == u64::from(r.rows()));
        life.has_rules() && self.expired_rows(life, now_ms).is_ok_and(all)
    }

    fn has_downsampling_due(&self, life: &Lifecycle, now_ms: i64) -> Result<bool, StoreError> {
        let Some(mark) = life.downsampling_mark(self.meta.partition, now_ms) else { return Ok(false) };
        if self.meta.attributes.get(DOWNSAMPLED) == Some(&mark) || *self.known.nothing_due.lock() == Some(mark.clone())
        {
            return Ok(false);
        }
        let reader = self.index()?;
        let mut rest = reader.all_rows()?;
        for (matchers, interval) in life.intervals(self.meta.partition, now_ms) {
            let rows = select_rows(reader, matchers, &Unlimited)? & &rest;
            if interval > 0 && !rows.is_empty() {
                return Ok(true);
            }
            rest -= rows;
        }
        *self.known.nothing_due.lock() = Some(mark);
        Ok(false)
    }
}

impl View {
    /// True when these are all parts of their tenant and day.
    pub(crate) fn is_whole_day(&self, parts: &[Arc<OpenPart>]) -> bool {
        let place = |p: &Arc<OpenPart>| (p.meta.tenant, p.meta.partition);
        let first = place(&parts[0]);
        self.parts.iter().filter(|p| place(p) == first).count() == parts.len()
    }
}

/// What a merge does to the samples of each series. Taken once at its beginning.
pub(crate) struct Rewriting {
    life: Arc<Lifecycle>,
    day: i64,
    now_ms: i64,
    /// Only with all parts of a day at hand is it known what a bucket held.
    pub(crate) downsampling_mark: Option<String>,
}

impl Rewriting {
    pub(crate) fn new(inner: &Inner, view: &View, parts: &[Arc<OpenPart>]) -> Self {
        let (life, day) = (inner.lifecycle.load_full(), parts[0].meta.partition);
        let now_ms = inner.options.clock.now_ms();
        let mark = life.downsampling_mark(day, now_ms);
        let downsampling_mark = mark.filter(|_| view.is_whole_day(parts));
        Self { life, day, now_ms, downsampling_mark }
    }

    /// What is left of a series; `None` when all of it is.
    pub(crate) fn apply(&self, labels: &Labels, samples: &SampleBuffer) -> Option<SampleBuffer> {
        let day_end = self.day.saturating_add(1).saturating_mul(DAY_MS);
        if self.life.visible_from(labels, self.now_ms) >= day_end {
            return Some(SampleBuffer::default());
        }
        let mut out = None;
        if let Some(interval_ms) = self.life.dedup_ms {
            let mut kept = SampleBuffer::default();
            dedup(samples, interval_ms, TimeRange::ALL, &mut kept);
            out = Some(kept);
        }
        if self.downsampling_mark.is_some() {
            let interval_ms = self.life.interval(labels, self.day, self.now_ms);
            if interval_ms > 0 {
                out = Some(downsample(out.as_ref().unwrap_or(samples), interval_ms, is_counter(labels)));
            }
        }
        let left = out.as_ref().map_or(samples.len(), SampleBuffer::len);
        metrics::SAMPLES_DOWNSAMPLED.inc_by((samples.len() - left) as u64);
        out
    }
}

impl Inner {
    /// A part that has to be rewritten alone.
    pub(crate) fn plan_rewrite(&self, view: &View) -> Result<Option<Arc<OpenPart>>, TsdbError> {
        let life = self.lifecycle.load_full();
        let now_ms = self.options.clock.now_ms();
        let damaged = self.damaged.lock().clone();
        let mut is_store_down = false;
        for part in &view.parts {
            if !part.is_readable() || damaged.contains(&part.meta.id) || (part.meta.is_remote() && is_store_down) {
                continue;
            }
            let work = || -> Result<bool, StoreError> {
                Ok(part.hidden(&view.tombstones)?.is_some()
                    || (life.has_rules() && !part.expired_rows(&life, now_ms)?.is_empty())
                    || (part.has_downsampling_due(&life, now_ms)? && view.is_whole_day(std::slice::from_ref(part))))
            };
            // Of a part in an object store all is fetched before it is chosen.
            match work().and_then(|is_due| if is_due { part.reader().map(|_| true) } else { Ok(false) }) {
                Ok(true) => return Ok(Some(Arc::clone(part))),
                Ok(false) => {}
                // A store that is out of reach is asked once.
                Err(StoreError::Io { .. }) if part.meta.is_remote() => is_store_down = true,
                Err(error) => drop(self.damaged(part.meta.id, error)),
            }
        }
        Ok(None)
    }

    pub(crate) fn clean_tombstones(&self) -> Result<u64, TsdbError> {
        let _alone = self.merge_lock.lock();
        let mut count = self.drop_dead()?;
        loop {
            if self.closed.load(Ordering::Acquire) {
                return Err(TsdbError::Closed);
            }
            let view = self.view.load_full();
            let damaged = self.damaged.lock().clone();
            let mut next = None;
            for part in view.parts.iter().filter(|p| p.is_readable() && !damaged.contains(&p.meta.id)) {
                if part.hidden(&view.tombstones)?.is_some() {
                    next = Some(Arc::clone(part));
                    break;
                }
            }
            let Some(part) = next else { break };
            if !self.has_room_for(part.meta.bytes) {
                return Err(TsdbError::NoRoom { part: part.meta.id.0, bytes: part.meta.bytes });
            }
            self.merge(&[part])?;
            count += 1;
        }
        self.check_clean()?;
        self.drop_tombstones()?;
        Ok(count)
    }

    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        let floor = self.options.limits.disk_free_floor_bytes;
        let has_room = self.disk.available_bytes() >= bytes.saturating_add(floor);
        if !has_room {
            tracing::warn!(bytes, "merge put off, the disk has no room for it");
        }
        has_room
    }
}
