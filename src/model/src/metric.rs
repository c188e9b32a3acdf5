//! Samples and the batches in which they are written.

use std::sync::Arc;

use crate::{FloatHistogram, Labels, TenantId};

/// The NaN with which a series is marked as ended (bits 0x7ff0000000000002).
pub const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// True for exactly the bits of [`STALE_NAN`].
#[inline]
pub fn is_stale_nan(v: f64) -> bool {
    v.to_bits() == STALE_NAN.to_bits()
}

/// A float sample of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FloatPoint {
    /// Index into [`MetricBatch::series`].
    pub series: u32,
    /// Unix milliseconds.
    pub t_ms: i64,
    /// Start timestamp (when the counter began) in Unix milliseconds, 0 when unknown.
    pub start_ms: i64,
    /// Value; [`STALE_NAN`] ends the series.
    pub value: f64,
}

/// A native-histogram sample of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramPoint {
    /// Index into [`MetricBatch::series`].
    pub series: u32,
    /// Unix milliseconds.
    pub t_ms: i64,
    /// Start timestamp in Unix milliseconds, 0 when unknown.
    pub start_ms: i64,
    /// Value.
    pub value: Arc<FloatHistogram>,
}

/// An exemplar: one observed event behind a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Index into [`MetricBatch::series`].
    pub series: u32,
    /// Unix milliseconds.
    pub t_ms: i64,
    /// Observed value.
    pub value: f64,
    /// Labels of the exemplar, usually `trace_id` and `span_id`.
    pub labels: Labels,
}

/// The type of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MetricKind {
    /// Not known.
    #[default]
    Unknown,
    /// Only grows, or resets.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets.
    Histogram,
    /// Buckets that may shrink.
    GaugeHistogram,
    /// Quantiles.
    Summary,
    /// Labels about something, value 1.
    Info,
    /// Set of booleans.
    StateSet,
}

impl MetricKind {
    /// The word of the OpenMetrics text format and of the metadata API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

/// Metadata of a metric family.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MetricMetadata {
    /// Family name.
    pub name: String,
    /// Type.
    pub kind: MetricKind,
    /// Help text.
    pub help: String,
    /// Unit, "" when none.
    pub unit: String,
}

/// What one scrape or one push writes. All of it becomes durable and visible together.
#[derive(Debug, Clone, Default)]
pub struct MetricBatch {
    /// Tenant.
    pub tenant: TenantId,
    /// Label sets that the points name by index.
    pub series: Vec<Labels>,
    /// Float samples, in any order.
    pub floats: Vec<FloatPoint>,
    /// Native-histogram samples, in any order.
    pub histograms: Vec<HistogramPoint>,
    /// Exemplars.
    pub exemplars: Vec<Exemplar>,
    /// Family metadata.
    pub metadata: Vec<MetricMetadata>,
}

impl MetricBatch {
    /// Adds a series and returns its index.
    pub fn add_series(&mut self, labels: Labels) -> u32 {
        let index = u32::try_from(self.series.len()).expect("a batch has less than 2^32 series");
        self.series.push(labels);
        index
    }

    /// Adds a series with one float sample.
    pub fn push_float(&mut self, labels: Labels, t_ms: i64, value: f64) {
        let series = self.add_series(labels);
        self.floats.push(FloatPoint { series, t_ms, start_ms: 0, value });
    }

    /// Number of samples, floats and histograms.
    pub fn sample_count(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    /// Approximate bytes on the heap, for the memory accountant.
    pub fn heap_bytes(&self) -> usize {
        self.series.iter().map(|l| l.heap_bytes() + 16).sum::<usize>()
            + self.floats.len() * size_of::<FloatPoint>()
            + self.histograms.iter().map(|h| size_of::<HistogramPoint>() + h.value.heap_bytes()).sum::<usize>()
            + self.exemplars.iter().map(|e| size_of::<Exemplar>() + e.labels.heap_bytes()).sum::<usize>()
            + self.metadata.iter().map(|m| m.name.len() + m.help.len() + m.unit.len() + 96).sum::<usize>()
    }
}
