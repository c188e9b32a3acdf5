//! Start-up: what the journal holds behind the committed position goes back into the memtable.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use rustc_hash::FxHashMap;
use trefoil_journal::Position;
use trefoil_model::TenantId;
use trefoil_runtime::StartStage;

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

/// Records as they stand in the journal.
type RawGroup = Vec<Vec<u8>>;

/// Decoded records, each with the registry's hashes of the series that it defines; `None` for what does not decode.
struct Group {
    records: Vec<Option<(Record, Vec<u64>)>>,
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
    let bytes = raw.iter().map(|r| r.len() as u64).sum();
    let record = |data: Vec<u8>| {
        let record = Record::decode(&data).ok()?;
        let hashes = record.series.iter().map(|(_, labels)| registry_hash(record.tenant, labels)).collect();
        Some((record, hashes))
    };
    Group { records: raw.into_iter().map(record).collect(), bytes }
}

impl Inner {
    /// Replays the journal: this thread reads, one decodes, one inserts. Memory stays what running needs: a full memtable
    /// is flushed on the way, without moving the journal position, because definitions of series stand only before
    /// it. Replaying a record twice is harmless: the same samples replace themselves.
    pub(crate) fn replay(&self, from: Position) -> Result<(), TsdbError> {
        let started = self.options.clock.monotonic();
        let bytes = self.journal.bytes().saturating_sub(from.offset);
        let mut progress = self.options.start.begin("metrics", bytes, started);
        let (report, replay) = std::thread::scope(|scope| {
            let (raw_sender, raw) = mpsc::sync_channel::<RawGroup>(GROUPS_WAITING);
            let (sender, groups) = mpsc::sync_channel::<Group>(GROUPS_WAITING);
            scope.spawn(move || raw.into_iter().map(decode).try_for_each(|group| sender.send(group)).ok());
            let progress = &mut progress;
            let inserting = scope.spawn(move || self.replay_groups(groups, progress));
            let (mut group, mut bytes) = (RawGroup::new(), 0);
            let report = self.journal.replay(from, &mut |_, data| {
                bytes += data.len();
                group.push(data.to_vec());
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
        drop(progress);
        let (replay, report) = (replay?, report?);
        for damage in &report.damage {
            let (segment, from, to) = (damage.segment, damage.from, damage.to);
            tracing::error!(segment, from, to, "metrics journal is damaged, acknowledged samples are missing");
            let mut found = self.journal_damage.lock();
            found.push(format!(
                "journal segment {segment}, bytes {from}..{to}: damaged, acknowledged samples are missing"
            ));
        }
        if replay.undecodable + replay.orphans > 0 {
            let (records, samples) = (replay.undecodable, replay.orphans);
            tracing::error!(records, samples, "metrics journal holds records that cannot be used");
            let mut found = self.journal_damage.lock();
            found
                .push(format!("journal: {records} records cannot be decoded, {samples} samples are of unknown series"));
        }
        let seconds = (self.options.clock.monotonic() - started).as_secs_f64();
        let (records, samples, series) = (replay.records, replay.samples, replay.series.count);
        tracing::info!(records, samples, series, seconds, "metrics journal replayed");
        self.account_memory();
        Ok(())
    }

    fn flush_in_replay(&self) -> Result<(), TsdbError> {
        let memtable = Arc::clone(&self.view.load().active);
        self.flush_wanted.store(false, std::sync::atomic::Ordering::Relaxed);
        self.write_memtable(&memtable, None)?;
        self.switch_memtable(None);
        Ok(())
    }

    fn replay_groups(&self, groups: Receiver<Group>, progress: &mut StartStage) -> Result<Replay, TsdbError> {
        let mut replay = Replay::default();
        for group in groups {
            let records = group.records.len() as u64;
            for record in group.records {
                match record {
                    Some((record, hashes)) => self.replay_record(record, &hashes, &mut replay),
                    None => replay.undecodable += 1,
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
        replay.orphans += (rows.len() - known.len()) as u64;
        if !record.exemplars.is_empty() {
            let mut exemplars = self.exemplars.lock();
            for e in record.exemplars {
                match replay.series.get(e.series.0) {
                    Some(known) => exemplars.push(&known.entry, e.t, e.value, e.labels),
                    None => replay.orphans += 1,
                }
            }
        }
        if !record.metadata.is_empty() {
            let mut metadata = self.metadata.lock();
            for m in record.metadata {
                metadata.add(tenant, m);
            }
        }
        self.account_memory();
    }
}
