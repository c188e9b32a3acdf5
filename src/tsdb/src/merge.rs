//! Merges, which keep parts few, and retention, which drops whole days. Which parts are merged: `FORMAT.md`, "Merges".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use trefoil_model::{Labels, SampleBuffer, SeriesId, StoreError, TimeRange};
use trefoil_parts::{Commit, PartId};

use crate::downsample::without;
use crate::encoding::Effort;
use crate::error::TsdbError;
use crate::flush::DayWriter;
use crate::metrics;
use crate::part::PartReader;
use crate::part::layout::PAGE_ROWS;
use crate::read::merge_buffers;
use crate::rewrite::Rewriting;
use crate::store::{DOWNSAMPLED, Inner, OpenPart, TOMBSTONE_LAST, Tsdb};
use crate::tombstones::{Hidden, Tombstones};

/// So many neighbours of one level are merged into one of the next.
const MERGE_MIN: usize = 4;
/// Most parts merged at once.
const MERGE_MAX: usize = 32;
/// Parts that are fetched from an object store at the same time.
const FETCHES: usize = 8;
/// Time after a failed fetch until the next merge of parts in an object store, milliseconds.
const FETCH_RETRY_MS: i64 = 60_000;
/// Parts that together have more bytes are left alone.
const MERGE_BYTES_MAX: u64 = 16 << 30;

impl Tsdb {
    /// Does the most useful merge, if there is one and the disk has room for it; returns whether it did. Without one
    /// it rewrites a part that holds what was deleted, is no longer kept or is to be downsampled. A part in which it
    /// meets damage is reported once and left alone from then on: what is whole in it stays readable. Blocks on the
    /// disk for as long as the merge takes; call it from a blocking thread.
    pub fn merge_once(&self) -> Result<bool, TsdbError> {
        let _alone = self.inner.merge_lock.lock();
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(TsdbError::Closed);
        }
        if self.inner.drop_dead()? > 0 {
            return Ok(true);
        }
        let today = trefoil_model::time::day_of_ms(self.inner.options.clock.now_ms());
        let damaged = self.inner.damaged.lock().clone();
        let view = self.inner.view.load_full();
        let planned = match plan(&view.parts, &damaged, today) {
            None => self.inner.plan_remote(&view.parts, &damaged),
            planned => planned,
        };
        let parts = match planned {
            Some(parts) => parts,
            None => match self.inner.plan_rewrite(&view)? {
                Some(part) => vec![part],
                None => return Ok(false),
            },
        };
        if !self.inner.has_room_for(parts.iter().map(|p| p.meta.bytes).sum()) {
            return Ok(false);
        }
        self.inner.merge(&parts)?;
        self.inner.drop_tombstones()?;
        Ok(true)
    }

    /// Drops the days of which nothing is kept at `now_ms`, then the oldest ones until the bytes are few enough;
    /// returns how many parts that were.
    pub fn apply_retention(&self, now_ms: i64) -> Result<usize, TsdbError> {
        let _alone = self.inner.merge_lock.lock();
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(TsdbError::Closed);
        }
        let life = self.inner.lifecycle.load_full();
        let view = self.inner.view.load_full();
        let mut remove: Vec<PartId> =
            view.parts.iter().filter(|p| p.is_expired(&life, now_ms)).map(|p| p.meta.id).collect();
        let expired = remove.len();
        if let Some(bytes_max) = life.retention_bytes(|| self.inner.disk.total_bytes()) {
            let left: Vec<_> =
                view.parts.iter().filter(|p| !remove.contains(&p.meta.id)).map(|p| Arc::clone(&p.meta)).collect();
            remove.extend(trefoil_parts::retention::over_bytes(&left, bytes_max));
        }
        let count = remove.len();
        // Queries may hold the old view; the files go when they are done.
        drop(view);
        if count > 0 {
            self.inner.parts.commit(Commit { remove, ..Commit::default() })?;
            self.inner.publish_parts(|_| {});
            self.inner.changes.note_all();
            self.inner.drop_tombstones()?;
            tracing::info!(parts = count, expired, "parts beyond the retention removed");
        }
        Ok(count)
    }
}

/// Chooses parts of one tenant and day that are neighbours in the order of writing: only then is it known of every
/// other part whether its samples are older or newer than the merged ones. Days that are over become one part.
fn plan(parts: &[Arc<OpenPart>], damaged: &BTreeSet<PartId>, today: i64) -> Option<Vec<Arc<OpenPart>>> {
    let mut days: BTreeMap<_, Vec<&Arc<OpenPart>>> = BTreeMap::new();
    for part in parts {
        days.entry((part.meta.partition, part.meta.tenant)).or_default().push(part);
    }
    let mut best: Option<(u8, Vec<&Arc<OpenPart>>)> = None;
    for ((day, _), mut list) in days.into_iter().rev() {
        list.sort_by_key(|p| (p.sequence.1, p.meta.id));
        // A part that cannot be read stays where it is and divides its neighbours.
        for run in list.split(|p| !is_local_and_whole(p, damaged)) {
            let is_over = day < today;
            for (level, group) in groups(run, is_over) {
                if best.as_ref().is_none_or(|(lowest, _)| level < *lowest) {
                    best = Some((level, group));
                }
            }
        }
    }
    best.map(|(_, group)| group.into_iter().cloned().collect())
}

fn is_local_and_whole(part: &OpenPart, damaged: &BTreeSet<PartId>) -> bool {
    !part.meta.is_remote() && part.reader().is_ok() && !damaged.contains(&part.meta.id)
}

/// Parts that lie here and that a merge will take some time: they need not go to an object store before. Late samples
/// that come again and again do not hold up a part that is too large to be merged.
pub(crate) fn awaiting_merge(parts: &[Arc<OpenPart>], damaged: &BTreeSet<PartId>, today: i64) -> BTreeSet<PartId> {
    let mut days: BTreeMap<_, Vec<&Arc<OpenPart>>> = BTreeMap::new();
    for part in parts {
        days.entry((part.meta.partition, part.meta.tenant)).or_default().push(part);
    }
    let mut found = BTreeSet::new();
    for ((day, _), mut list) in days {
        list.sort_by_key(|p| (p.sequence.1, p.meta.id));
        for run in list.split(|p| !is_local_and_whole(p, damaged)) {
            let bytes: u64 = run.iter().map(|part| part.meta.bytes).sum();
            if day < today && run.len() > 1 && bytes <= MERGE_BYTES_MAX {
                found.extend(run.iter().map(|part| part.meta.id));
                continue;
            }
            for (_, group) in groups(run, day < today) {
                found.extend(group.iter().map(|part| part.meta.id));
            }
        }
    }
    found
}

/// Neighbours of one level in an object store, with those of that level that lie here between them: at least
/// [`MERGE_MIN`], of at most `bytes_max` bytes together. The most of them, then the newest.
fn plan_remote(parts: &[Arc<OpenPart>], damaged: &BTreeSet<PartId>, bytes_max: u64) -> Option<Vec<Arc<OpenPart>>> {
    let mut days: BTreeMap<_, Vec<&Arc<OpenPart>>> = BTreeMap::new();
    for part in parts {
        days.entry((part.meta.partition, part.meta.tenant)).or_default().push(part);
    }
    let mut best: Vec<&Arc<OpenPart>> = Vec::new();
    for mut list in days.into_values().rev() {
        list.sort_by_key(|p| (p.sequence.1, p.meta.id));
        for run in list.split(|p| !p.is_readable() || damaged.contains(&p.meta.id)) {
            for group in run.chunk_by(|a, b| a.meta.level == b.meta.level) {
                let mut bytes = 0u64;
                let fits = group.iter().take(MERGE_MAX).take_while(|p| {
                    bytes = bytes.saturating_add(p.meta.bytes);
                    bytes <= bytes_max
                });
                let group = &group[..fits.count()];
                if group.len() >= MERGE_MIN.max(best.len() + 1) && group.iter().any(|p| p.meta.is_remote()) {
                    best = group.to_vec();
                }
            }
        }
    }
    (!best.is_empty()).then(|| best.into_iter().cloned().collect())
}

fn groups<'a>(run: &[&'a Arc<OpenPart>], is_over: bool) -> Vec<(u8, Vec<&'a Arc<OpenPart>>)> {
    let fits = |g: &[&Arc<OpenPart>]| g.iter().map(|p| p.meta.bytes).sum::<u64>() <= MERGE_BYTES_MAX;
    let mut found = Vec::new();
    for group in run.chunk_by(|a, b| a.meta.level == b.meta.level) {
        let group = &group[..group.len().min(MERGE_MAX)];
        if group.len() >= MERGE_MIN && fits(group) {
            found.push((group[0].meta.level, group.to_vec()));
        }
    }
    let all = &run[..run.len().min(MERGE_MAX)];
    if found.is_empty() && is_over && all.len() > 1 && fits(all) {
        found.push((u8::MAX, all.to_vec()));
    }
    found
}

/// Walks over the series of a part in the order of their labels.
struct Cursor<'a> {
    reader: &'a PartReader,
    part: PartId,
    /// Series of the current page that are still to come, last first.
    page: Vec<(u32, Labels)>,
    next_page: u32,
    hidden: Option<Arc<Hidden>>,
}

impl<'a> Cursor<'a> {
    fn new(part: &'a OpenPart, tombstones: &Arc<Tombstones>) -> Result<Self, StoreError> {
        let (reader, hidden) = (part.reader()?, part.hidden(tombstones)?);
        let mut cursor = Self { reader, part: part.meta.id, page: Vec::new(), next_page: 0, hidden };
        cursor.fill()?;
        Ok(cursor)
    }

    fn fill(&mut self) -> Result<(), StoreError> {
        if self.page.is_empty() && self.next_page < self.reader.rows().div_ceil(PAGE_ROWS) {
            let page = &mut self.page;
            self.reader.read_page(self.next_page, &mut |_| true, &mut |row, labels| page.push((row, labels)))?;
            self.page.reverse();
            self.next_page += 1;
        }
        Ok(())
    }

    /// The next series' id and samples that are not deleted.
    fn take(&mut self) -> Result<(SeriesId, SampleBuffer), StoreError> {
        let (row, _) = self.page.pop().expect("the caller looked at its labels");
        let mut samples = SampleBuffer::default();
        self.reader.read(row, TimeRange::ALL, &mut samples)?;
        if let Some(hidden) = self.hidden.as_ref().filter(|h| h.touched.contains(row)) {
            samples = without(&samples, &hidden.ranges(row));
        }
        self.fill()?;
        Ok((self.reader.id(row)?, samples))
    }

    fn labels(&self) -> Option<&Labels> {
        self.page.last().map(|(_, labels)| labels)
    }
}

impl Inner {
    /// A merge of parts in the object store, fetched; `None` when there is none, or the store does not answer, which is
    /// tried again some time later.
    fn plan_remote(&self, parts: &[Arc<OpenPart>], damaged: &BTreeSet<PartId>) -> Option<Vec<Arc<OpenPart>>> {
        let tier = self.options.object_store.as_ref()?;
        let now_ms = self.monotonic_ms();
        if now_ms < self.remote_merges_from_ms.load(Ordering::Relaxed) || self.parts.unreachable_parts() > 0 {
            return None;
        }
        // Half of the cache: what queries use stays there.
        let bytes_max = (tier.remote.cache_bytes / 2).min(MERGE_BYTES_MAX);
        let group = plan_remote(parts, damaged, bytes_max)?;
        let next = std::sync::atomic::AtomicUsize::new(0);
        let failures = parking_lot::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..FETCHES {
                scope.spawn(|| {
                    while let Some(part) = group.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = part.reader() {
                            failures.lock().push((part.meta.id, error));
                        }
                    }
                });
            }
        });
        let failures = failures.into_inner();
        if failures.is_empty() {
            return Some(group);
        }
        self.remote_merges_from_ms.store(now_ms + FETCH_RETRY_MS, Ordering::Relaxed);
        for (part, error) in failures {
            let told = trefoil_runtime::tasks::chain(&error);
            tracing::warn!(part = part.0, error = told, "part in the object store was not fetched to be merged");
            drop(self.damaged(part, error));
        }
        None
    }

    pub(crate) fn damaged(&self, part: PartId, error: StoreError) -> TsdbError {
        if matches!(error, StoreError::Corrupt(_)) {
            self.damaged.lock().insert(part);
        }
        error.into()
    }

    /// Merges parts, given in the order of writing, into one and publishes it in their place. One part alone is
    /// rewritten and keeps its level.
    pub(crate) fn merge(&self, parts: &[Arc<OpenPart>]) -> Result<(), TsdbError> {
        let timer = metrics::MERGE_DURATION.start_timer();
        let (first, last) = (&parts[0], &parts[parts.len() - 1]);
        let mut writer = DayWriter::begin(self, first.meta.tenant, first.meta.partition)?;
        writer.builder.set_effort(Effort::Merged);
        let view = self.view.load_full();
        let rewriting = Rewriting::new(self, &view, parts);
        let mut cursors = Vec::with_capacity(parts.len());
        for part in parts {
            cursors.push(Cursor::new(part, &view.tombstones).map_err(|e| self.damaged(part.meta.id, e))?);
        }
        let (mut buffers, mut merged) = (Vec::new(), SampleBuffer::default());
        while let Some(labels) = cursors.iter().filter_map(Cursor::labels).min().cloned() {
            buffers.clear();
            let mut id = None;
            for cursor in &mut cursors {
                if cursor.labels() != Some(&labels) {
                    continue;
                }
                let (found, samples) = cursor.take().map_err(|e| self.damaged(cursor.part, e))?;
                id = Some(found);
                buffers.push(samples);
            }
            let id = id.expect("one cursor had these labels");
            let samples = if let [only] = &buffers[..] {
                only
            } else {
                merged.clear();
                merge_buffers(&buffers, &mut merged);
                &merged
            };
            match rewriting.apply(&labels, samples) {
                Some(left) => writer.add(id, &labels, &left)?,
                None => writer.add(id, &labels, samples)?,
            }
        }
        let highest = parts.iter().map(|p| p.meta.level).max().unwrap_or(0);
        let level = if parts.len() == 1 { highest } else { highest.saturating_add(1) };
        if view.tombstones.last > 0 {
            writer.attributes.insert(TOMBSTONE_LAST.to_owned(), view.tombstones.last.to_string());
        }
        let downsampled = rewriting.downsampling_mark.is_some();
        if let Some(mark) = rewriting.downsampling_mark {
            writer.attributes.insert(DOWNSAMPLED.to_owned(), mark);
        }
        let remove: Vec<PartId> = parts.iter().map(|p| p.meta.id).collect::<BTreeSet<_>>().into_iter().collect();
        let add = writer.finish(level, (first.sequence.0, last.sequence.1))?.into_iter().collect();
        self.parts.commit(Commit { add, remove, ..Commit::default() })?;
        self.publish_parts(|_| {});
        if downsampled {
            self.changes.note_all();
        }
        let seconds = timer.stop_and_record();
        tracing::info!(parts = parts.len(), day = first.meta.partition, level, seconds, "parts merged");
        Ok(())
    }
}
