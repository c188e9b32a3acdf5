//! Flush: the memtable becomes parts, one per tenant and day, published by one commit with the journal position.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use roaring::RoaringBitmap;
use trefoil_journal::Position;
use trefoil_model::{Labels, SampleBuffer, StoreError, TenantId, TimeRange, time::DAY_MS};
use trefoil_parts::{Commit, PartFacts, PartFile, PendingPart};
use trefoil_runtime::background::{self, Priority};

use crate::error::TsdbError;
use crate::memtable::Memtable;
use crate::metrics;
use crate::part::PartBuilder;
use crate::part::layout::{BLOCKS_FILE, INDEX_FILE, VERSION, blocks_header};
use crate::record::Record;
use crate::store::{
    FLUSH_SEQUENCE, Frozen, Inner, JOURNAL_SEQUENCE, NEXT_SERIES_ID, ROLLUP_MS, SEQUENCE_FIRST, SEQUENCE_LAST, Tsdb,
    attribute,
};

/// Bytes of blocks that are written at once.
const WRITE_BYTES: usize = 1 << 20;
/// The kind of our parts.
pub(crate) const KIND: &str = "samples";

/// Attribute of parts: how many series they have.
pub(crate) const SERIES: &str = "series";

/// What a flush did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlushReport {
    /// Parts written.
    pub parts: usize,
    /// Series in them; one that has samples on two days counts twice.
    pub series: u64,
    /// Samples in them.
    pub samples: u64,
}

impl Tsdb {
    /// Writes the memtable to parts, commits them with the journal position and removes journal segments that are no
    /// longer needed. Does nothing when the memtable is empty. After an error the memtable stays readable and the
    /// next call tries again.
    pub async fn flush(&self) -> Result<FlushReport, TsdbError> {
        Ok(self.flush_once(false).await?.0)
    }

    /// Flushes everything that was written before the call. With `always` the journal position moves even when there
    /// are no samples: what was taken out of the exemplars before does not come back at the next start.
    pub(crate) async fn flush_all(&self, always: bool) -> Result<(), TsdbError> {
        // A flush that did not finish earlier comes first, and takes along only what was written before it.
        if self.flush_once(always).await?.1 {
            self.flush_once(always).await?;
        }
        Ok(())
    }

    /// Flushes; says whether that was the rest of an earlier flush. An empty memtable counts when `always` is set.
    async fn flush_once(&self, always: bool) -> Result<(FlushReport, bool), TsdbError> {
        let result = self.try_flush(always).await;
        match &result {
            Ok(_) => {
                *self.inner.flush_trouble.lock() = None;
                metrics::FLUSH_FAILING.set(0);
            }
            Err(TsdbError::Closed | TsdbError::Stopped) => {}
            Err(error) => {
                let cause = format!("metrics cannot be flushed: {}", trefoil_runtime::tasks::chain(error));
                *self.inner.flush_trouble.lock() = Some(cause);
                metrics::FLUSH_FAILURES.inc();
                metrics::FLUSH_FAILING.set(1);
            }
        }
        result
    }

    async fn try_flush(&self, always: bool) -> Result<(FlushReport, bool), TsdbError> {
        let inner = Arc::clone(&self.inner);
        let alone = Arc::clone(&inner.flush_lock).lock_owned().await;
        if inner.closed.load(Ordering::Acquire) {
            return Err(TsdbError::Closed);
        }
        let is_rest = inner.view.load().frozen.is_some();
        let Some(frozen) = inner.freeze(always).await else { return Ok((FlushReport::default(), false)) };
        for (record, definitions) in &frozen.carried {
            inner.journal.append_with_copy(record.clone(), definitions.clone()).await?;
        }
        // Not cancelled with this future, because the view must follow the commit.
        let work = move || {
            let report = inner.write_frozen(&frozen);
            drop(alone);
            report.map(|report| (report, is_rest))
        };
        background::run("flush-metrics", Priority::Low, work).await.map_err(|_| TsdbError::Stopped)?
    }
}

impl Inner {
    /// Puts an empty memtable in the place of the active one, unless an earlier flush did not finish. An empty one stays
    /// unless `always` is set.
    async fn freeze(&self, always: bool) -> Option<Arc<Frozen>> {
        if let Some(frozen) = &self.view.load().frozen {
            return Some(Arc::clone(frozen));
        }
        let _alone = self.gate.write().await;
        self.flush_wanted.store(false, Ordering::Relaxed);
        if self.view.load().active.series() == 0 && !always {
            return None;
        }
        // Nobody is between journal and memtable now.
        let (position, sequence) = self.journal.end_sequence();
        let mut carried = self.exemplars.lock().snapshot();
        carried.extend(self.metadata.lock().snapshot());
        let encode = |record: &mut Record| (Bytes::from(record.encode()), Bytes::from(record.encode_definitions()));
        let carried = carried.iter_mut().map(encode).collect();
        let memtable = Arc::clone(&self.view.load().active);
        let frozen = Arc::new(Frozen { memtable, position, sequence, carried });
        self.journal_epoch.fetch_add(1, Ordering::AcqRel);
        self.switch_memtable(Some(Arc::clone(&frozen)));
        // What the memtable before this one had and this one has not is in parts; nobody is looking series up.
        self.guard.forget(self.registry.evict_before(frozen.memtable.epoch()).into_iter());
        Some(frozen)
    }

    /// Makes a new active memtable; the caller keeps writers away.
    pub(crate) fn switch_memtable(&self, frozen: Option<Arc<Frozen>>) {
        self.first_write_ms.store(-1, Ordering::Relaxed);
        self.publish_parts(|view| {
            view.active = Arc::new(Memtable::new(view.active.epoch() + 1));
            view.frozen = frozen;
        });
    }

    fn write_frozen(&self, frozen: &Arc<Frozen>) -> Result<FlushReport, TsdbError> {
        let report = self.write_memtable(&frozen.memtable, Some((frozen.position, frozen.sequence)))?;
        self.publish_parts(|view| view.frozen = None);
        // Should this fail, the next flush does it.
        if let Err(error) = self.journal.truncate_before(frozen.position) {
            let error = trefoil_runtime::tasks::chain(&error);
            tracing::warn!(error, "old journal segments were not removed");
        }
        Ok(report)
    }

    /// Writes and commits the parts of a memtable that nobody writes to any more, with the position and the sequence number
    /// that the journal had behind it. Does not change the view.
    pub(crate) fn write_memtable(
        &self,
        memtable: &Memtable,
        position: Option<(Position, u64)>,
    ) -> Result<FlushReport, TsdbError> {
        let timer = metrics::FLUSH_DURATION.start_timer();
        let sequence = attribute(&self.parts, FLUSH_SEQUENCE)?.unwrap_or(0) + 1;
        let mut report = FlushReport::default();
        let mut add = Vec::new();
        for tenant in memtable.tenants() {
            for (day, rows) in memtable.days(tenant) {
                let part = self.write_day(memtable, tenant, day, &rows, sequence, &mut report)?;
                report.parts += usize::from(part.is_some());
                add.extend(part);
            }
        }
        let mut attributes = vec![(NEXT_SERIES_ID, self.registry.next_id()), (FLUSH_SEQUENCE, sequence)];
        attributes.extend(position.map(|(_, sequence)| (JOURNAL_SEQUENCE, sequence)));
        self.parts.commit(Commit {
            add,
            remove: Vec::new(),
            journal: position.map(|(p, _)| (p.segment, p.offset)),
            journal_start: self.journal.first_segment().into(),
            attributes: attributes.into_iter().map(|(name, n)| (name.to_owned(), n.to_string())).collect(),
        })?;
        let seconds = timer.stop_and_record();
        let FlushReport { parts, series, samples } = report;
        tracing::info!(parts, series, samples, seconds, "memtable flushed");
        Ok(report)
    }

    fn write_day(
        &self,
        memtable: &Memtable,
        tenant: TenantId,
        day: i64,
        rows: &RoaringBitmap,
        sequence: u64,
        report: &mut FlushReport,
    ) -> Result<Option<PendingPart>, TsdbError> {
        let mut series: Vec<(Labels, u32)> =
            rows.iter().map(|row| (memtable.with_row(row, |r| r.series.labels.clone()), row)).collect();
        series.sort_unstable();
        let range = TimeRange::new(day * DAY_MS, (day + 1) * DAY_MS);
        let mut writer = DayWriter::begin(self, tenant, day)?;
        let mut samples = SampleBuffer::default();
        for (labels, row) in series {
            samples.clear();
            memtable
                .read(row, range, &mut samples)
                .map_err(|e| StoreError::Corrupt(format!("memtable: series {labels}: {e}")))?;
            let id = memtable.with_row(row, |r| r.series.id);
            writer.add(id, &labels, &samples)?;
        }
        report.series += writer.builder.rows() as u64;
        report.samples += writer.builder.samples();
        writer.finish(0, (sequence, sequence))
    }
}

/// Writes the part of one tenant and day; flushes and merges use it.
pub(crate) struct DayWriter<'a> {
    inner: &'a Inner,
    tenant: TenantId,
    day: i64,
    writer: trefoil_parts::PartWriter,
    file: PartFile,
    pub(crate) builder: PartBuilder,
    /// Further attributes of the part.
    pub(crate) attributes: BTreeMap<String, String>,
    rollup_ms: i64,
    blocks: Vec<u8>,
}

impl<'a> DayWriter<'a> {
    pub(crate) fn begin(inner: &'a Inner, tenant: TenantId, day: i64) -> Result<Self, TsdbError> {
        let writer = inner.parts.begin(tenant, day, KIND)?;
        let file = writer.create_file(BLOCKS_FILE)?;
        let blocks = blocks_header();
        let builder = PartBuilder::new(day, blocks.len());
        let attributes = BTreeMap::new();
        Ok(Self { inner, tenant, day, writer, file, builder, attributes, rollup_ms: 0, blocks })
    }

    /// Adds a series; they come in the order of their labels.
    pub(crate) fn add(
        &mut self,
        id: trefoil_model::SeriesId,
        labels: &Labels,
        samples: &SampleBuffer,
    ) -> Result<(), TsdbError> {
        self.builder.add(id, labels, samples, &mut self.blocks);
        self.rollup_ms = samples.rollups.iter().map(|r| r.interval_ms).fold(self.rollup_ms, i64::max);
        if self.blocks.len() >= WRITE_BYTES { self.write_blocks() } else { Ok(()) }
    }

    fn write_blocks(&mut self) -> Result<(), TsdbError> {
        let (tenant, day) = (self.tenant.0, self.day);
        self.file.write_all(&self.blocks).map_err(|source| TsdbError::Write { tenant, day, source })?;
        self.blocks.clear();
        Ok(())
    }

    /// Ends the part; `None` when it has no samples. `sequence` is the range of flushes whose samples it holds.
    pub(crate) fn finish(mut self, level: u8, sequence: (u64, u64)) -> Result<Option<PendingPart>, TsdbError> {
        if self.builder.rows() == 0 {
            return Ok(None);
        }
        self.write_blocks()?;
        self.file.finish()?;
        self.writer.write_file(INDEX_FILE, &self.builder.index())?;
        let (min_t, max_t) = self.builder.bounds();
        let numbers = [
            (SEQUENCE_FIRST, sequence.0),
            (SEQUENCE_LAST, sequence.1),
            (SERIES, self.builder.rows() as u64),
            (ROLLUP_MS, self.rollup_ms as u64),
        ];
        let mut attributes = self.attributes;
        // Without downsampled stretches the part is what it was before there were any.
        let numbers = numbers.into_iter().filter(|(name, n)| *n > 0 || *name != ROLLUP_MS);
        attributes.extend(numbers.map(|(name, n)| (name.to_owned(), n.to_string())));
        let facts = PartFacts {
            level,
            min_t,
            max_t,
            items: self.builder.samples(),
            format: VERSION,
            attributes,
            created_ms: self.inner.options.clock.now_ms(),
        };
        Ok(Some(self.writer.finish(facts)?))
    }
}
