//! The write path: check, resolve series, append to the journal, insert, acknowledge.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rustc_hash::FxHashSet;
use trefoil_model::{Labels, MetricBatch, MetricMetadata, MetricWriter, TenantId, WriteError, WriteReport};
use trefoil_runtime::{Pool, Reservation, limits};

use crate::guard::Refusal;
use crate::memtable::{Memtable, Sample, Value};
use crate::metrics;
use crate::record::{ExemplarRecord, FloatSample, HistogramSample, Record};
use crate::series::{SeriesEntry, registry_hash};
use crate::store::{Inner, Tsdb};

/// Batches with more samples and series leave the async threads while their series are looked up or made.
const INLINE_SAMPLES_MAX: usize = 1000;
/// Batches with more samples leave the async threads while they are inserted, which takes about 100 ns a sample.
const INLINE_INSERT_MAX: usize = 4096;
/// About what a sample takes in the memtable, for the reservation before its insertion.
const SAMPLE_BYTES: u64 = 16;
/// About what a new series takes beside its labels.
const SERIES_BYTES: u64 = 400;
/// Times further from 1970 are refused: the arithmetic on days must not overflow (about the year 287,000).
const TIME_MS_MAX: i64 = 1 << 53;

#[async_trait::async_trait]
impl MetricWriter for Tsdb {
    async fn write(&self, batch: MetricBatch) -> Result<WriteReport, WriteError> {
        let inner = Arc::clone(&self.inner);
        inner.disk.check()?;
        // Batch, record and bookkeeping are in memory together for a moment.
        let _ingest = inner.reserve(Pool::Ingest, batch.heap_bytes() as u64 * 2)?;
        let gate = Arc::clone(&inner.gate).read_owned().await;
        if inner.closed.load(Ordering::Acquire) {
            return Err(WriteError::Closed);
        }
        let samples = batch.sample_count();
        let is_large = samples + batch.series.len() > INLINE_SAMPLES_MAX;
        // The gate goes where the work goes: a sender that leaves must not open it too early.
        let (prepared, gate) = if is_large {
            let inner = Arc::clone(&inner);
            blocking(move || (inner.prepare(batch), gate)).await?
        } else {
            (inner.prepare(batch), gate)
        };
        let prepared = prepared?;
        let Some(record) = prepared.record.clone() else { return Ok(prepared.report) };
        inner.journal.append_with_copy(record, prepared.definitions.clone()).await?;
        let insert = move || {
            let report = inner.insert(prepared);
            drop(gate);
            report
        };
        if samples > INLINE_INSERT_MAX { blocking(insert).await } else { Ok(insert()) }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, WriteError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| WriteError::Closed)
}

/// A batch that is ready for the journal.
struct Prepared {
    tenant: TenantId,
    memtable: Arc<Memtable>,
    /// Series of the batch, those that samples or exemplars name.
    series: Vec<Option<Arc<SeriesEntry>>>,
    batch: MetricBatch,
    metadata: Vec<MetricMetadata>,
    /// `None` when nothing is left to write.
    record: Option<Bytes>,
    /// The definitions of the record once more.
    definitions: Bytes,
    /// Series that the record defines.
    defined: Vec<Arc<SeriesEntry>>,
    journal_epoch: u32,
    report: WriteReport,
    /// Room for what the batch adds to the memtable, until that is accounted for itself.
    memory: Reservation,
}

impl Inner {
    /// Checks a batch and encodes its record. Under the gate.
    fn prepare(&self, mut batch: MetricBatch) -> Result<Prepared, WriteError> {
        let mut report = WriteReport::default();
        self.check_times(&mut batch, &mut report);
        let series = self.resolve(&mut batch, &mut report)?;
        let memtable = Arc::clone(&self.view.load().active);
        let created = series.iter().flatten().filter(|s| s.row_in(memtable.epoch()).is_none());
        let series_bytes: u64 = created.map(|s| SERIES_BYTES + s.labels.heap_bytes() as u64).sum();
        let memory = self.reserve(Pool::Memtable, batch.sample_count() as u64 * SAMPLE_BYTES + series_bytes)?;
        // A series with a row is not evicted before the memtable is flushed.
        memtable.rows(batch.tenant, &series);

        let journal_epoch = self.journal_epoch.load(Ordering::Acquire);
        let metadata = std::mem::take(&mut batch.metadata);
        let metadata = self.new_metadata(batch.tenant, metadata);
        let mut record = Record { tenant: batch.tenant, metadata, ..Record::default() };
        let mut defined = Vec::new();
        let mut seen = FxHashSet::default();
        for s in series.iter().flatten() {
            if !s.is_defined_in(journal_epoch) && seen.insert(s.id.0) {
                record.series.push((s.id, s.labels.clone()));
                defined.push(Arc::clone(s));
            }
        }
        let id = |index: u32| series[index as usize].as_ref().expect("samples of refused series are gone").id;
        record.floats.extend(batch.floats.iter().map(|f| FloatSample {
            series: id(f.series),
            t: f.t_ms,
            start: f.start_ms,
            value: f.value,
        }));
        record.histograms.extend(batch.histograms.iter().map(|h| HistogramSample {
            series: id(h.series),
            t: h.t_ms,
            start: h.start_ms,
            value: Arc::clone(&h.value),
        }));
        record.exemplars.extend(batch.exemplars.iter().map(|e| ExemplarRecord {
            series: id(e.series),
            t: e.t_ms,
            value: e.value,
            labels: e.labels.clone(),
        }));
        let definitions = Bytes::from(record.encode_definitions());
        let bytes = (!record.is_empty()).then(|| Bytes::from(record.encode()));
        Ok(Prepared {
            tenant: batch.tenant,
            memtable,
            series,
            batch,
            metadata: record.metadata,
            record: bytes,
            definitions,
            defined,
            journal_epoch,
            report,
            memory,
        })
    }

    /// Takes out samples that name no series or whose time is not acceptable, and histograms that are not sound.
    fn check_times(&self, batch: &mut MetricBatch, report: &mut WriteReport) {
        let now = self.options.clock.now_ms();
        let latest = now.saturating_add(self.options.limits.future_ms_max).min(TIME_MS_MAX);
        let life = self.lifecycle.load();
        let kept_by_all = life.kept_by_all(now).max(-TIME_MS_MAX);
        let count = batch.series.len();
        let labels = &batch.series;
        let acceptable = |series: u32, t: i64, report: &mut WriteReport| {
            if series as usize >= count {
                metrics::rejected("no_series", 1);
                report.reject(|| format!("sample names series {series} of {count}"));
            } else if t > latest {
                metrics::rejected("future", 1);
                limits::hit("future_ms_max");
                report.reject(|| format!("{}: timestamp {t} is too far in the future", labels[series as usize]));
            } else if t < kept_by_all && t < life.visible_from(&labels[series as usize], now).max(-TIME_MS_MAX) {
                metrics::rejected("too_old", 1);
                report.reject(|| format!("{}: timestamp {t} is before the retention", labels[series as usize]));
            } else {
                return true;
            }
            false
        };
        batch.floats.retain(|f| acceptable(f.series, f.t_ms, report));
        batch.histograms.retain(|h| acceptable(h.series, h.t_ms, report));
        batch.exemplars.retain(|e| (e.series as usize) < count && e.t_ms.unsigned_abs() <= TIME_MS_MAX as u64);
        batch.histograms.retain(|h| match h.value.validate() {
            Ok(()) => true,
            Err(reason) => {
                metrics::rejected("histogram", 1);
                report.reject(|| format!("{}: {reason}", labels[h.series as usize]));
                false
            }
        });
    }

    /// Finds or makes the series that the batch's samples and exemplars name; one hash lookup each.
    fn resolve(
        &self,
        batch: &mut MetricBatch,
        report: &mut WriteReport,
    ) -> Result<Vec<Option<Arc<SeriesEntry>>>, WriteError> {
        let mut used = vec![0u32; batch.series.len()];
        for index in batch.floats.iter().map(|f| f.series).chain(batch.histograms.iter().map(|h| h.series)) {
            used[index as usize] += 1;
        }
        let mut for_exemplars = vec![false; batch.series.len()];
        for e in &batch.exemplars {
            for_exemplars[e.series as usize] = true;
        }
        let hashes: Vec<Option<u64>> = batch
            .series
            .iter()
            .zip(used.iter().zip(&for_exemplars))
            .map(|(labels, (used, for_exemplars))| {
                (*used > 0 || *for_exemplars).then(|| registry_hash(batch.tenant, labels))
            })
            .collect();
        let found = self.registry.get_all(batch.tenant, &hashes, &batch.series);
        let mut refused = false;
        // Why series are refused is said once a job and limit.
        let mut refusals: Vec<(Refusal, usize)> = Vec::new();
        let mut series = Vec::with_capacity(batch.series.len());
        for (((labels, used), hash), found) in batch.series.iter().zip(used).zip(hashes).zip(found) {
            let Some(hash) = hash else {
                series.push(None);
                continue;
            };
            let entry = match found {
                Some(entry) => Some(entry),
                None => match self.check_labels(labels) {
                    Ok(()) => match self.create(hash, batch.tenant, labels) {
                        Ok(entry) => Some(entry),
                        Err(refusal) => {
                            metrics::rejected("cardinality", u64::from(used));
                            report.rejected += u64::from(used);
                            if refusals.len() < WriteReport::REASONS_MAX
                                && refusals.iter().all(|(other, _)| other.cause() != refusal.cause())
                            {
                                refusals.push((refusal, series.len()));
                            }
                            refused = true;
                            None
                        }
                    },
                    Err(reason) => {
                        metrics::rejected("labels", u64::from(used));
                        report.reject(|| reason);
                        report.rejected += u64::from(used.saturating_sub(1));
                        refused = true;
                        None
                    }
                },
            };
            series.push(entry);
        }
        // Last, when all that was refused has been looked at.
        let free = WriteReport::REASONS_MAX.saturating_sub(report.reasons.len());
        let reason = |(refusal, at): &(Refusal, usize)| self.guard.reason(*refusal, &batch.series[*at]);
        report.reasons.extend(refusals.iter().take(free).map(reason));
        if refused {
            batch.floats.retain(|f| series[f.series as usize].is_some());
            batch.histograms.retain(|h| series[h.series as usize].is_some());
            batch.exemplars.retain(|e| series[e.series as usize].is_some());
        }
        Ok(series)
    }

    fn create(&self, hash: u64, tenant: TenantId, labels: &Labels) -> Result<Arc<SeriesEntry>, Refusal> {
        let known = if self.guard.was_refused(hash) { None } else { self.id_in_parts(tenant, labels) };
        let admit = || self.guard.admit(hash, tenant, labels, known.is_some());
        let made = self.registry.get_or_create(hash, tenant, labels, known, admit);
        if let Err(refusal) = &made {
            // Not within the call above, which holds a lock of the registry.
            self.guard.survey(refusal, |each| self.registry.for_each(|entry| each(entry.job(), &entry.labels)));
        }
        let (entry, is_new) = made?;
        if is_new && known.is_none() {
            metrics::SERIES_CREATED.inc();
        }
        Ok(entry)
    }

    /// Label sets are checked when their series is made.
    fn check_labels(&self, labels: &Labels) -> Result<(), String> {
        let limits = &self.options.limits;
        if labels.is_empty() {
            return Err("series has no labels".to_owned());
        }
        if labels.as_packed().len() > limits.labels_bytes_max {
            limits::hit("labels_bytes_max");
            let (bytes, max) = (labels.as_packed().len(), limits.labels_bytes_max);
            return Err(format!("label set of {bytes} bytes is longer than {max}"));
        }
        let count = labels.len();
        if count > limits.labels_per_series_max {
            limits::hit("labels_per_series_max");
            return Err(format!("{labels}: {count} labels are more than {}", limits.labels_per_series_max));
        }
        for (name, value) in labels {
            if name.is_empty() {
                return Err(format!("{labels}: a label has no name"));
            }
            if name.len() > limits.label_name_bytes_max {
                limits::hit("label_name_bytes_max");
                return Err(format!(
                    "label name of {} bytes is longer than {}",
                    name.len(),
                    limits.label_name_bytes_max
                ));
            }
            if value.len() > limits.label_value_bytes_max {
                limits::hit("label_value_bytes_max");
                return Err(format!(
                    "label {name:?} has a value of {} bytes, longer than {}",
                    value.len(),
                    limits.label_value_bytes_max
                ));
            }
        }
        Ok(())
    }

    fn new_metadata(&self, tenant: TenantId, metadata: Vec<MetricMetadata>) -> Vec<MetricMetadata> {
        if metadata.is_empty() {
            return metadata;
        }
        let bytes_max = self.options.limits.metadata_bytes_max;
        let known = self.metadata.lock();
        let fits = |m: &MetricMetadata| m.name.len().max(m.help.len()).max(m.unit.len()) <= bytes_max;
        metadata.into_iter().filter(|m| fits(m) && !known.knows(tenant, m)).collect()
    }

    /// Makes a durable batch visible. Under the gate.
    fn insert(&self, prepared: Prepared) -> WriteReport {
        let Prepared { tenant, memtable, series, batch, metadata, defined, journal_epoch, mut report, memory, .. } =
            prepared;
        for s in defined {
            s.set_defined_in(journal_epoch);
        }
        let rows: Vec<u32> =
            series.iter().map(|s| s.as_ref().and_then(|s| s.row_in(memtable.epoch())).unwrap_or(0)).collect();
        report.accepted = batch.sample_count() as u64;
        let (floats, histograms) = (&batch.floats, &batch.histograms);
        let row_of = |i: usize| {
            let histogram = || histograms[i - floats.len()].series;
            rows[floats.get(i).map_or_else(histogram, |f| f.series) as usize]
        };
        let sample = |i: usize| match floats.get(i) {
            Some(f) => Sample { t: f.t_ms, start: f.start_ms, value: Value::Float(f.value) },
            None => {
                let h = &histograms[i - floats.len()];
                Sample { t: h.t_ms, start: h.start_ms, value: Value::Histogram(Arc::clone(&h.value)) }
            }
        };
        memtable.insert_batch(tenant, floats.len() + histograms.len(), row_of, sample);
        let times = floats.iter().map(|f| f.t_ms).chain(histograms.iter().map(|h| h.t_ms));
        if let Some(earliest) = times.clone().min() {
            self.changes.note(earliest);
            if report.rejected > 0 {
                report.taken_ms = times.max().map(|latest| (earliest, latest));
            }
        }
        if !batch.exemplars.is_empty() {
            let mut exemplars = self.exemplars.lock();
            for e in batch.exemplars {
                if let Some(s) = &series[e.series as usize] {
                    exemplars.push(s, e.t_ms, e.value, e.labels);
                }
            }
        }
        if !metadata.is_empty() {
            let mut known = self.metadata.lock();
            for m in metadata {
                known.add(tenant, m);
            }
        }
        metrics::SAMPLES_APPENDED.inc_by(report.accepted);
        if self.first_write_ms.load(Ordering::Relaxed) < 0 {
            self.first_write_ms.store(self.monotonic_ms(), Ordering::Relaxed);
        }
        drop(memory);
        self.account_memory();
        report
    }
}
