//! Start-up: what the journal holds behind the committed position goes back into the memtable.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_journal::{Committed, Position, ReplayReport, Torn};
use trefoil_model::TenantId;
use trefoil_runtime::StartStage;

use crate::definitions::Defining;
use crate::error::TsdbError;
use crate::memtable::{Memtable, Sample, Value};
use crate::metrics;
use crate::record::Record;
use crate::series::{SeriesEntry, registry_hash};
use crate::store::Inner;

/// Bytes of records that go from thread to thread at once. A few such groups are in memory, decoded ones about ten
/// times as large.
const GROUP_BYTES: usize = 256 << 10;
/// Groups that wait for the next thread.
const GROUPS_WAITING: usize = 2;
/// Ids to a page of [`ById`].
const PAGE_IDS: u64 = 1024;
const NO_ROW: u32 = u32::MAX;

/// Records as they stand in the journal, each with the position after it.
type RawGroup = Vec<(Position, Vec<u8>)>;

/// A decoded record with the position after it and the registry's hashes of the series that it defines.
struct Decoded {
    position: Position,
    /// `None` for what does not decode.
    record: Option<(Record, Vec<u64>)>,
}

struct Group {
    records: Vec<Decoded>,
    bytes: u64,
}

#[derive(Default)]
struct Replay {
    series: ById,
    records: u64,
    samples: u64,
    undecodable: u64,
    /// Samples and exemplars whose series no record defines: its record was lost to damage.
    orphans: u64,
    /// The ids of their series. In a second pass those that stay unknown: samples of all other ids that it does not know
    /// are in memory already.
    orphan_ids: FxHashSet<u64>,
    /// Segments with records of which something is of no use.
    unusable: BTreeSet<u64>,
    is_second_pass: bool,
    /// Records that define series.
    defining: Defining,
}

impl Replay {
    /// A sample or exemplar is of a series that is not known here.
    fn orphan(&mut self, id: u64) {
        if !self.is_second_pass {
            self.orphan_ids.insert(id);
            self.orphans += 1;
        } else if self.orphan_ids.contains(&id) {
            self.orphans += 1;
        }
    }
}

/// A series that a record defined.
#[derive(Clone)]
struct Known {
    entry: Arc<SeriesEntry>,
    /// Its row in the memtable that is being filled.
    row: u32,
}

/// Series by id. Those of an epoch lie close together.
#[derive(Default)]
struct ById {
    pages: FxHashMap<u64, Vec<Option<Known>>>,
    count: usize,
}

impl ById {
    fn get(&self, id: u64) -> Option<&Known> {
        self.pages.get(&(id / PAGE_IDS))?[(id % PAGE_IDS) as usize].as_ref()
    }

    fn insert(&mut self, id: u64, known: Known) {
        let page = self.pages.entry(id / PAGE_IDS).or_insert_with(|| vec![None; PAGE_IDS as usize]);
        let place = &mut page[(id % PAGE_IDS) as usize];
        self.count += usize::from(place.is_none());
        *place = Some(known);
    }

    fn remove(&mut self, id: u64) {
        let page = self.pages.get_mut(&(id / PAGE_IDS));
        if let Some(place) = page.map(|page| &mut page[(id % PAGE_IDS) as usize]) {
            self.count -= usize::from(place.take().is_some());
        }
    }

    fn set_row(&mut self, id: u64, row: u32) {
        let page = self.pages.get_mut(&(id / PAGE_IDS));
        if let Some(known) = page.and_then(|page| page[(id % PAGE_IDS) as usize].as_mut()) {
            known.row = row;
        }
    }

    /// The memtable is another one.
    fn forget_rows(&mut self) {
        for known in self.pages.values_mut().flatten().flatten() {
            known.row = NO_ROW;
        }
    }
}

fn decode(raw: RawGroup) -> Group {
    let bytes = raw.iter().map(|(_, data)| data.len() as u64).sum();
    let record = |data: Vec<u8>| {
        let record = Record::decode(&data).ok()?;
        let hashes = record.series.iter().map(|(_, labels)| registry_hash(record.tenant, labels)).collect();
        Some((record, hashes))
    };
    let records = raw.into_iter().map(|(position, data)| Decoded { position, record: record(data) }).collect();
    Group { records, bytes }
}

impl Inner {
    /// Replays the journal. Memory stays what running needs: a full memtable is flushed on the way, without moving the
    /// journal position, because definitions of series stand only before it. Replaying a record twice is harmless: the
    /// same samples replace themselves.
    ///
    /// Samples whose series no record defines, because the one that did is damaged, come in a second pass, with the
    /// definitions from the copies of the journal. What stays of no use is kept aside with its segments.
    pub(crate) fn replay(&self, committed: Committed) -> Result<(), TsdbError> {
        let started = self.options.clock.monotonic();
        let (report, mut replay) = self.replay_pass(committed, Replay::default())?;
        self.note_damage(&report);
        if !replay.orphan_ids.is_empty() {
            // Their ids are taken, even when nobody ever knows what they stood for.
            replay.orphan_ids.iter().for_each(|id| self.registry.reserve_through(*id));
            let second = self.define_from_copies(&replay.orphan_ids)?;
            let found = second.series.count;
            tracing::warn!(
                samples = replay.orphans,
                series = replay.orphan_ids.len(),
                found,
                "definitions of series are taken from the copies of the journal"
            );
            if found > 0 {
                let (_, second) = self.replay_pass(committed, second)?;
                replay.samples += second.samples;
                replay.orphans = second.orphans;
                // Segments with records that do not decode are among those of the first pass alone.
                let of_undecodable = if replay.undecodable > 0 { replay.unusable } else { BTreeSet::new() };
                replay.unusable = &second.unusable | &of_undecodable;
            }
        }
        self.keep_unusable(&replay);
        self.mend_copies(&replay.defining);
        let seconds = (self.options.clock.monotonic() - started).as_secs_f64();
        let (records, samples, series) = (replay.records, replay.samples, replay.series.count);
        tracing::info!(records, samples, series, seconds, "metrics journal replayed");
        self.account_memory();
        Ok(())
    }

    fn note_damage(&self, report: &ReplayReport) {
        let mut found = self.journal_found.lock();
        for damage in &report.damage {
            let segment = damage.segment;
            let what = damage.to_string();
            if !damage.was_needed {
                tracing::warn!(segment, damage = what, "metrics journal is damaged where nothing of it is needed");
            } else if damage.was_synced {
                tracing::error!(segment, damage = what, "metrics journal is damaged, acknowledged samples are missing");
            } else {
                tracing::warn!(
                    segment,
                    damage = what,
                    "the last samples before a restart are not in the metrics journal"
                );
            }
            found.damage.push(format!("journal segment {segment}: {what}"));
        }
        if let Some(Torn { segment, from, to }) = report.torn {
            found.torn = Some(format!(
                "journal segment {segment}: bytes {from}..{to} hold no whole record: a write was cut off, or they are damaged"
            ));
        }
    }

    /// Says what is intact and of no use, and keeps it from the next truncation.
    fn keep_unusable(&self, replay: &Replay) {
        let (records, samples) = (replay.undecodable, replay.orphans);
        if records + samples == 0 {
            return;
        }
        metrics::JOURNAL_UNUSABLE.inc_by(samples);
        let mut text = format!("journal: {records} records cannot be decoded, {samples} samples are of unknown series");
        match self.journal.keep(&replay.unusable) {
            Ok(kept) => {
                tracing::error!(records, samples, kept, "metrics journal holds records that cannot be used");
                if !self.options.vfs.is_read_only() {
                    text.push_str("; their segments are kept in the folder `lost` of the journal");
                }
            }
            Err(error) => {
                let error = trefoil_runtime::tasks::chain(&error);
                tracing::error!(records, samples, %error, "records of the metrics journal that cannot be used are not kept");
                text.push_str(&format!("; their segments could not be kept: {error}"));
            }
        }
        self.journal_found.lock().unusable.push(text);
    }

    /// Begins a second pass that knows, of the series with those ids, the ones that the copies define.
    fn define_from_copies(&self, orphan_ids: &FxHashSet<u64>) -> Result<Replay, TsdbError> {
        let mut second = Replay { orphan_ids: orphan_ids.clone(), is_second_pass: true, ..Replay::default() };
        self.journal.copies(&mut |data| {
            let Ok(record) = Record::decode(data) else { return };
            for (id, labels) in record.series {
                if second.orphan_ids.remove(&id.0) {
                    let hash = registry_hash(record.tenant, &labels);
                    let admit = || Ok::<_, Infallible>(self.guard.count(record.tenant, &labels));
                    // The journal does not define it any more, so the next record with a sample does.
                    let Ok((entry, _)) = self.registry.get_or_create(hash, record.tenant, &labels, Some(id.0), admit);
                    second.series.insert(id.0, Known { entry, row: NO_ROW });
                }
            }
        })?;
        Ok(second)
    }

    /// Goes through the journal once: this thread reads, one decodes, one inserts.
    fn replay_pass(&self, committed: Committed, replay: Replay) -> Result<(ReplayReport, Replay), TsdbError> {
        let from = committed.position;
        let bytes = self.journal.bytes().saturating_sub(from.offset);
        let mut progress = self.options.start.begin("metrics", bytes, self.options.clock.monotonic());
        let (report, replay) = std::thread::scope(|scope| {
            let (raw_sender, raw) = mpsc::sync_channel::<RawGroup>(GROUPS_WAITING);
            let (sender, groups) = mpsc::sync_channel::<Group>(GROUPS_WAITING);
            scope.spawn(move || raw.into_iter().map(decode).try_for_each(|group| sender.send(group)).ok());
            let progress = &mut progress;
            let inserting = scope.spawn(move || self.replay_groups(groups, replay, progress));
            let (mut group, mut bytes) = (RawGroup::new(), 0);
            let report = self.journal.replay_since(from, committed.sequence, &mut |position, data| {
                bytes += data.len();
                group.push((position, data.to_vec()));
                if bytes >= GROUP_BYTES {
                    bytes = 0;
                    // Nobody takes it any more when inserting failed.
                    raw_sender.send(std::mem::take(&mut group)).map_err(|_| trefoil_journal::ReplayStop::Done)?;
                }
                Ok(())
            });
            if raw_sender.send(group).is_err() {
                tracing::debug!("the rest of the journal is not replayed");
            }
            drop(raw_sender);
            (report, inserting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let replay = replay?;
        Ok((report?, replay))
    }

    fn flush_in_replay(&self) -> Result<(), TsdbError> {
        let memtable = Arc::clone(&self.view.load().active);
        self.flush_wanted.store(false, std::sync::atomic::Ordering::Relaxed);
        self.write_memtable(&memtable, None)?;
        self.switch_memtable(None);
        Ok(())
    }

    fn replay_groups(
        &self,
        groups: Receiver<Group>,
        mut replay: Replay,
        progress: &mut StartStage,
    ) -> Result<Replay, TsdbError> {
        for group in groups {
            let records = group.records.len() as u64;
            for Decoded { position, record } in group.records {
                if record.as_ref().is_some_and(|(record, _)| !record.series.is_empty()) && !replay.is_second_pass {
                    replay.defining.entry(position.segment).or_default().insert(position.offset);
                }
                let unusable = replay.undecodable + replay.orphans;
                match record {
                    Some((record, hashes)) => self.replay_record(record, &hashes, &mut replay),
                    None => replay.undecodable += 1,
                }
                if replay.undecodable + replay.orphans > unusable {
                    replay.unusable.insert(position.segment);
                }
                if self.should_flush() {
                    self.flush_in_replay()?;
                    replay.series.forget_rows();
                }
            }
            replay.records += records;
            metrics::REPLAYED_RECORDS.inc_by(records);
            progress.add(records, group.bytes, self.options.clock.monotonic());
        }
        Ok(replay)
    }

    /// The row of each sample, [`NO_ROW`] for those whose series is not known.
    fn replay_rows(&self, tenant: TenantId, memtable: &Memtable, ids: &[u64], replay: &mut Replay) -> Vec<u32> {
        let mut rows: Vec<u32> = ids.iter().map(|id| replay.series.get(*id).map_or(NO_ROW, |k| k.row)).collect();
        let missing: Vec<usize> = (0..ids.len()).filter(|i| rows[*i] == NO_ROW).collect();
        if missing.is_empty() {
            return rows;
        }
        let entry = |i: &usize| replay.series.get(ids[*i]).map(|k| Arc::clone(&k.entry));
        let wanted: Vec<Option<Arc<SeriesEntry>>> = missing.iter().map(entry).collect();
        let found = memtable.rows(tenant, &wanted);
        for ((i, row), entry) in missing.into_iter().zip(found).zip(&wanted) {
            if entry.is_some() {
                replay.series.set_row(ids[i], row);
                rows[i] = row;
            }
        }
        rows
    }

    fn replay_record(&self, record: Record, hashes: &[u64], replay: &mut Replay) {
        let tenant = record.tenant;
        let journal_epoch = self.journal_epoch.load(std::sync::atomic::Ordering::Relaxed);
        for ((id, labels), hash) in record.series.into_iter().zip(hashes) {
            if replay.is_second_pass {
                // The first pass knew it from here on.
                replay.orphan_ids.remove(&id.0);
                replay.series.remove(id.0);
                continue;
            }
            self.registry.reserve_through(id.0);
            let admit = || Ok::<_, Infallible>(self.guard.count(tenant, &labels));
            let Ok((entry, _)) = self.registry.get_or_create(*hash, tenant, &labels, Some(id.0), admit);
            entry.set_defined_in(journal_epoch);
            replay.series.insert(id.0, Known { entry, row: NO_ROW });
        }
        let memtable = Arc::clone(&self.view.load().active);
        let floats = record.floats.len();
        let ids: Vec<u64> =
            record.floats.iter().map(|f| f.series.0).chain(record.histograms.iter().map(|h| h.series.0)).collect();
        let rows = self.replay_rows(tenant, &memtable, &ids, replay);
        let known: Vec<u32> = (0..rows.len() as u32).filter(|i| rows[*i as usize] != NO_ROW).collect();
        let sample = |i: usize| match i.checked_sub(floats) {
            None => {
                let f = &record.floats[i];
                Sample { t: f.t, start: f.start, value: Value::Float(f.value) }
            }
            Some(i) => {
                let h = &record.histograms[i];
                Sample { t: h.t, start: h.start, value: Value::Histogram(Arc::clone(&h.value)) }
            }
        };
        let at = |i: usize| known[i] as usize;
        memtable.insert_batch(tenant, known.len(), |i| rows[at(i)], |i| sample(at(i)));
        replay.samples += known.len() as u64;
        for id in ids.iter().zip(&rows).filter(|(_, row)| **row == NO_ROW).map(|(id, _)| *id) {
            replay.orphan(id);
        }
        if !record.exemplars.is_empty() {
            let mut exemplars = self.exemplars.lock();
            for e in record.exemplars {
                match replay.series.get(e.series.0) {
                    Some(known) => exemplars.push(&known.entry, e.t, e.value, e.labels),
                    None => replay.orphan(e.series.0),
                }
            }
        }
        if !record.metadata.is_empty() && !replay.is_second_pass {
            let mut metadata = self.metadata.lock();
            for m in record.metadata {
                metadata.add(tenant, m);
            }
        }
        self.account_memory();
    }
}
