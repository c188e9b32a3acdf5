//! What all importers share: samples gathered into batches, a range of time, counts, findings.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_model::{
    Exemplar, FloatHistogram, FloatPoint, HistogramPoint, Labels, MetricBatch, MetricMetadata, TenantId, TimeRange,
    WriteReport,
};

use crate::error::{Damage, TransferError};

/// Samples in a batch.
const BATCH_SAMPLES: usize = 50_000;
/// About how many bytes a batch may have before it goes out.
const BATCH_BYTES: usize = 8 << 20;
/// Findings that are kept in full; more are counted.
const DAMAGE_MAX: usize = 1000;

/// Takes batches; a store, or a server on the other end of a connection.
pub trait BatchSink {
    /// Takes a batch; when it returns the batch is durable. May take long: that is the back-pressure.
    fn write(&mut self, batch: MetricBatch) -> Result<WriteReport, TransferError>;
}

/// What is imported and how.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Whose samples they become.
    pub tenant: TenantId,
    /// Samples outside are left out.
    pub range: TimeRange,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { tenant: TenantId::default(), range: TimeRange::ALL }
    }
}

/// What an import did.
#[derive(Debug, Clone, Default)]
pub struct ImportReport {
    /// Distinct series that had samples.
    pub series: u64,
    /// Samples that were taken.
    pub samples: u64,
    /// Samples that the receiver refused.
    pub rejected: u64,
    /// The first few reasons.
    pub reasons: Vec<String>,
    /// Samples that were deleted in the source and therefore left out.
    pub deleted: u64,
    /// What was broken, the first thousand.
    pub damage: Vec<Damage>,
    /// How much was broken.
    pub damage_count: u64,
    /// First and last time of the samples that were taken, as far as the receiver tells which.
    pub times: Option<(i64, i64)>,
}

/// Gathers samples into batches.
pub struct Importer<'a> {
    /// What is imported.
    pub options: ImportOptions,
    /// What was done so far.
    pub report: ImportReport,
    sink: &'a mut dyn BatchSink,
    progress: &'a mut dyn FnMut(&str),
    batch: MetricBatch,
    bytes: usize,
    /// First and last time in the batch.
    times: Option<(i64, i64)>,
    index: FxHashMap<Labels, u32>,
    seen: FxHashSet<u64>,
}

impl<'a> Importer<'a> {
    /// An importer; `progress` gets a line now and then.
    pub fn new(options: ImportOptions, sink: &'a mut dyn BatchSink, progress: &'a mut dyn FnMut(&str)) -> Self {
        let batch = MetricBatch { tenant: options.tenant, ..MetricBatch::default() };
        Self {
            options,
            report: ImportReport::default(),
            sink,
            progress,
            batch,
            bytes: 0,
            times: None,
            index: FxHashMap::default(),
            seen: FxHashSet::default(),
        }
    }

    /// Tells how far the import is.
    pub fn say(&mut self, text: &str) {
        (self.progress)(text);
    }

    /// Notes something broken.
    pub fn damage(&mut self, damage: Damage) {
        self.report.damage_count += 1;
        if self.report.damage.len() < DAMAGE_MAX {
            self.report.damage.push(damage);
        }
    }

    fn series(&mut self, labels: &Labels) -> u32 {
        if let Some(index) = self.index.get(labels) {
            return *index;
        }
        self.seen.insert(labels.stable_hash());
        self.bytes += labels.heap_bytes() + 32;
        let index = self.batch.add_series(labels.clone());
        self.index.insert(labels.clone(), index);
        index
    }

    fn note(&mut self, t_ms: i64) {
        self.times = Some(span(self.times, (t_ms, t_ms)));
    }

    /// Adds a float sample; one outside the range of time is left out.
    pub fn float(&mut self, labels: &Labels, t_ms: i64, start_ms: i64, value: f64) -> Result<(), TransferError> {
        if !self.options.range.contains(t_ms) {
            return Ok(());
        }
        let series = self.series(labels);
        self.batch.floats.push(FloatPoint { series, t_ms, start_ms, value });
        self.bytes += size_of::<FloatPoint>();
        self.note(t_ms);
        self.flush_when_full()
    }

    /// Adds a native-histogram sample, likewise.
    pub fn histogram(
        &mut self,
        labels: &Labels,
        t_ms: i64,
        start_ms: i64,
        value: Arc<FloatHistogram>,
    ) -> Result<(), TransferError> {
        if !self.options.range.contains(t_ms) {
            return Ok(());
        }
        let series = self.series(labels);
        self.bytes += size_of::<HistogramPoint>() + value.heap_bytes();
        self.batch.histograms.push(HistogramPoint { series, t_ms, start_ms, value });
        self.note(t_ms);
        self.flush_when_full()
    }

    /// Adds an exemplar, likewise.
    pub fn exemplar(&mut self, of: &Labels, t_ms: i64, value: f64, labels: Labels) -> Result<(), TransferError> {
        if !self.options.range.contains(t_ms) {
            return Ok(());
        }
        let series = self.series(of);
        self.bytes += size_of::<Exemplar>() + labels.heap_bytes();
        self.batch.exemplars.push(Exemplar { series, t_ms, value, labels });
        self.flush_when_full()
    }

    /// Adds what is known of a family.
    pub fn metadata(&mut self, metadata: MetricMetadata) -> Result<(), TransferError> {
        self.bytes += metadata.name.len() + metadata.help.len() + 100;
        self.batch.metadata.push(metadata);
        self.flush_when_full()
    }

    fn flush_when_full(&mut self) -> Result<(), TransferError> {
        let count = self.batch.sample_count();
        if count >= BATCH_SAMPLES || self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Hands out what there is.
    pub fn flush(&mut self) -> Result<(), TransferError> {
        let empty = MetricBatch { tenant: self.options.tenant, ..MetricBatch::default() };
        let batch = std::mem::replace(&mut self.batch, empty);
        self.index.clear();
        self.bytes = 0;
        self.report.series = self.seen.len() as u64;
        if batch.sample_count() == 0 && batch.exemplars.is_empty() && batch.metadata.is_empty() {
            return Ok(());
        }
        let times = self.times.take();
        let report = self.sink.write(batch)?;
        // What was refused is no part of what was imported.
        if let Some(taken) = if report.rejected == 0 { times } else { report.taken_ms } {
            self.report.times = Some(span(self.report.times, taken));
        }
        self.report.samples += report.accepted;
        self.report.rejected += report.rejected;
        for reason in report.reasons {
            if self.report.reasons.len() < WriteReport::REASONS_MAX {
                self.report.reasons.push(reason);
            }
        }
        Ok(())
    }

    /// Hands out the rest and says what was done.
    pub fn finish(mut self) -> Result<ImportReport, TransferError> {
        self.flush()?;
        Ok(self.report)
    }
}

/// The times that hold both.
fn span(one: Option<(i64, i64)>, other: (i64, i64)) -> (i64, i64) {
    one.map_or(other, |(first, last)| (first.min(other.0), last.max(other.1)))
}
