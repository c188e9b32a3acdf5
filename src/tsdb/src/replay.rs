//! Start-up: what the journal holds behind the committed position goes back into the memtable.

use std::convert::Infallible;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_journal::Position;

use crate::error::TsdbError;
use crate::memtable::{Sample, Value};
use crate::metrics;
use crate::record::Record;
use crate::series::{SeriesEntry, registry_hash};
use crate::store::Inner;

/// Records after which progress is logged.
const RECORDS_PER_LOG: u64 = 100_000;

#[derive(Default)]
struct Replay {
    series: FxHashMap<u64, Arc<SeriesEntry>>,
    records: u64,
    samples: u64,
    undecodable: u64,
    /// Samples and exemplars whose series no record defines: its record was lost to damage.
    orphans: u64,
}

impl Inner {
    /// Replays the journal. Memory stays what running needs: a full memtable is flushed on the way, without moving
    /// the journal position, because definitions of series stand only before it. Replaying a record twice is
    /// harmless: the same samples replace themselves.
    pub(crate) fn replay(&self, from: Position) -> Result<(), TsdbError> {
        let started = self.options.clock.monotonic();
        let mut replay = Replay::default();
        let mut failed = None;
        let report = self.journal.replay(from, &mut |_, data| {
            match Record::decode(data) {
                Ok(record) => self.replay_record(record, &mut replay),
                Err(_) => replay.undecodable += 1,
            }
            replay.records += 1;
            metrics::REPLAYED_RECORDS.inc();
            if replay.records % RECORDS_PER_LOG == 0 {
                tracing::info!(records = replay.records, samples = replay.samples, "replaying the metrics journal");
            }
            if self.should_flush()
                && let Err(error) = self.flush_in_replay()
            {
                failed = Some(error);
                return Err(trefoil_journal::ReplayStop::Done);
            }
            Ok(())
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        for damage in &report.damage {
            let (segment, from, to) = (damage.segment, damage.from, damage.to);
            tracing::error!(segment, from, to, "metrics journal is damaged, acknowledged samples are missing");
        }
        if replay.undecodable + replay.orphans > 0 {
            let (records, samples) = (replay.undecodable, replay.orphans);
            tracing::error!(records, samples, "metrics journal holds records that cannot be used");
        }
        let seconds = (self.options.clock.monotonic() - started).as_secs_f64();
        let (records, samples, series) = (replay.records, replay.samples, replay.series.len());
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

    fn replay_record(&self, record: Record, replay: &mut Replay) {
        let tenant = record.tenant;
        let journal_epoch = self.journal_epoch.load(std::sync::atomic::Ordering::Relaxed);
        for (id, labels) in record.series {
            let hash = registry_hash(tenant, &labels);
            self.registry.reserve_through(id.0);
            let admit = || Ok::<_, Infallible>(self.guard.count(tenant, &labels));
            let Ok((entry, _)) = self.registry.get_or_create(hash, tenant, &labels, Some(id.0), admit);
            entry.set_defined_in(journal_epoch);
            replay.series.insert(id.0, entry);
        }
        let memtable = Arc::clone(&self.view.load().active);
        let samples = record.floats.len() + record.histograms.len();
        let mut wanted: Vec<Option<Arc<SeriesEntry>>> = Vec::with_capacity(samples);
        wanted.extend(record.floats.iter().map(|f| replay.series.get(&f.series.0).cloned()));
        wanted.extend(record.histograms.iter().map(|h| replay.series.get(&h.series.0).cloned()));
        let orphans = wanted.iter().filter(|w| w.is_none()).count() as u64;
        let rows = memtable.rows(tenant, &wanted);
        let floats = record.floats.iter().map(|f| Sample { t: f.t, start: f.start, value: Value::Float(f.value) });
        let histograms = record.histograms.iter().map(|h| Sample {
            t: h.t,
            start: h.start,
            value: Value::Histogram(Arc::clone(&h.value)),
        });
        let samples = rows.into_iter().zip(floats.chain(histograms)).zip(&wanted);
        memtable.insert(tenant, samples.filter(|(_, entry)| entry.is_some()).map(|(sample, _)| sample));
        replay.samples += wanted.len() as u64 - orphans;
        replay.orphans += orphans;
        if !record.exemplars.is_empty() {
            let mut exemplars = self.exemplars.lock();
            for e in record.exemplars {
                match replay.series.get(&e.series.0) {
                    Some(series) => exemplars.push(series, e.t, e.value, e.labels),
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
