//! The contract of the time-series store.

use std::sync::Arc;

use crate::{
    Exemplar, FloatHistogram, Labels, Matcher, MetricBatch, MetricMetadata, QueryBudget, StoreError, TenantId,
    TimeRange, WriteError, WriteReport,
};

/// Takes batches of samples.
#[async_trait::async_trait]
pub trait MetricWriter: Send + Sync {
    /// Stores a batch. When it returns `Ok`, all that is not rejected is durable and visible to queries.
    ///
    /// Samples of the same series and time are resolved at query and merge: the one written last wins.
    async fn write(&self, batch: MetricBatch) -> Result<WriteReport, WriteError>;
}

/// Which series to read.
#[derive(Debug, Clone)]
pub struct SelectRequest {
    /// Tenant.
    pub tenant: TenantId,
    /// All must hold. An absent label counts as "".
    pub matchers: Vec<Matcher>,
    /// Series without a sample here may be left out. Samples are read by [`SeriesSource::read`].
    pub range: TimeRange,
}

/// A series that a query selected.
#[derive(Clone)]
pub struct SelectedSeries {
    /// Its labels.
    pub labels: Labels,
    /// Where its samples are.
    pub source: Arc<dyn SeriesSource>,
}

/// The samples of one series. Holds what it needs, so that the series stays readable whatever merges do.
pub trait SeriesSource: Send + Sync {
    /// Appends the samples of `range` to `out`: times ascend strictly, stale markers included.
    fn read(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), StoreError>;
}

/// Samples of one series in columns; reused over series to save allocations.
#[derive(Debug, Clone, Default)]
pub struct SampleBuffer {
    /// Unix milliseconds, strictly ascending.
    pub times: Vec<i64>,
    /// Values; for a histogram sample a NaN that is not a stale marker, unless the sample is one.
    pub values: Vec<f64>,
    /// Start timestamps in Unix milliseconds, 0 for unknown; empty when no sample has one.
    pub starts: Vec<i64>,
    /// Histogram samples: (index into `times`, value), ascending.
    pub histograms: Vec<(u32, Arc<FloatHistogram>)>,
    /// Downsampled stretches, ascending by `end`; empty when all samples are as they were written.
    pub rollups: Vec<Rollup>,
    /// Set by the reader who looks at nothing but which samples there are: [`SeriesSource::read`] may leave out what the
    /// floats are and append 0 for all but stale markers.
    pub values_unneeded: bool,
}

/// A bucket of downsampled samples: a few kept samples of [`SampleBuffer`] and what the bucket held before.
///
/// The bucket is the time `(end - interval_ms, end]` in Unix milliseconds, aligned to multiples of the interval and cut
/// at the UTC day. Of its float samples there are left, with their own times and values: the smallest, the greatest, the
/// last, the first of the day, every stale marker, and those on both sides of a fall (a counter's reset). So a
/// counter's increase, and minimum and maximum over whole buckets, are exact; sum, count and average over whole
/// buckets follow from `count` and `sum`. A window that cuts a bucket is off by at most that bucket.
///
/// Falls are not kept where they are a gauge's: the metric is not named like a counter, and a bucket has more than two
/// of them and more than one in eight samples.
///
/// Of its histogram samples there are left the last, the first of the day, every stale marker, and those on both sides
/// of what may be a counter's reset (none between gauge histograms). So the increase of a counter is exact over whole
/// buckets; sums and averages over time are made of those that are left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rollup {
    /// Index into `times` one past the bucket's last sample.
    pub end: u32,
    /// Length of a bucket in milliseconds.
    pub interval_ms: i64,
    /// Number of float samples, stale markers not counted, that were in the bucket.
    pub count: u64,
    /// Sum of the float samples that were in the bucket, stale markers not counted.
    pub sum: f64,
    /// Number of histogram samples, stale markers not counted, that were in the bucket.
    pub histograms: u64,
}

impl Rollup {
    /// The bucket of length `interval_ms` > 0 that holds a time: it is `after < t <= until`.
    pub fn bucket_of(interval_ms: i64, t_ms: i64) -> (i64, i64) {
        use crate::time::DAY_MS;
        let edge = t_ms.div_euclid(interval_ms).saturating_mul(interval_ms);
        let (after, until) = if edge == t_ms {
            (t_ms.saturating_sub(interval_ms), t_ms)
        } else {
            (edge, edge.saturating_add(interval_ms))
        };
        let day = t_ms.div_euclid(DAY_MS).saturating_mul(DAY_MS);
        (after.max(day.saturating_sub(1)), until.min(day.saturating_add(DAY_MS - 1)))
    }

    /// The bucket's times, from that of any of its samples: `after < t <= until`.
    pub fn bucket(&self, t_ms: i64) -> (i64, i64) {
        Self::bucket_of(self.interval_ms.max(1), t_ms)
    }
}

impl SampleBuffer {
    /// Empties all columns, keeping their memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.starts.clear();
        self.histograms.clear();
        self.rollups.clear();
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// True without samples.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Appends a float sample; its time must be after the last one's.
    pub fn push_float(&mut self, t_ms: i64, start_ms: i64, value: f64) {
        self.push_start(start_ms);
        self.times.push(t_ms);
        self.values.push(value);
    }

    /// Appends a histogram sample; its time must be after the last one's.
    pub fn push_histogram(&mut self, t_ms: i64, start_ms: i64, value: Arc<FloatHistogram>) {
        self.push_start(start_ms);
        let v = if value.is_stale() { value.sum } else { f64::NAN };
        self.histograms.push((self.times.len() as u32, value));
        self.times.push(t_ms);
        self.values.push(v);
    }

    fn push_start(&mut self, start_ms: i64) {
        if start_ms != 0 && self.starts.is_empty() {
            self.starts.resize(self.times.len(), 0);
        }
        if start_ms != 0 || !self.starts.is_empty() {
            self.starts.push(start_ms);
        }
    }
}

/// Reads series. Calls may take long: not for an async thread.
pub trait MetricReader: Send + Sync {
    /// The series that satisfy every matcher and may have samples in the range, sorted by labels, each once.
    fn select(&self, request: &SelectRequest, budget: &dyn QueryBudget) -> Result<Vec<SelectedSeries>, StoreError>;

    /// Label sets only, sorted, at most `limit` (0: no limit). The flag says that more were cut.
    fn series(
        &self,
        requests: &[SelectRequest],
        limit: usize,
        budget: &dyn QueryBudget,
    ) -> Result<(Vec<Labels>, bool), StoreError>;

    /// Label names of the matching series, sorted. No request: of all series in `range`.
    fn label_names(
        &self,
        tenant: TenantId,
        range: TimeRange,
        requests: &[SelectRequest],
        limit: usize,
        budget: &dyn QueryBudget,
    ) -> Result<(Vec<String>, bool), StoreError>;

    /// Values of a label over the matching series, sorted. No request: over all series in `range`.
    fn label_values(
        &self,
        tenant: TenantId,
        name: &str,
        range: TimeRange,
        requests: &[SelectRequest],
        limit: usize,
        budget: &dyn QueryBudget,
    ) -> Result<(Vec<String>, bool), StoreError>;

    /// Exemplars of the matching series in the range: (series labels, exemplars by time). `Exemplar::series` is 0.
    fn exemplars(
        &self,
        requests: &[SelectRequest],
        budget: &dyn QueryBudget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError>;

    /// Metadata of one family or all, sorted by name; a family may have several.
    fn metadata(&self, tenant: TenantId, name: Option<&str>, limit: usize) -> Vec<MetricMetadata>;

    /// Number of series with a sample in the memtable (the active ones).
    fn active_series(&self) -> u64;

    /// True when samples in the range lie in memory alone: reading them waits for no disk.
    fn is_in_memory(&self, _tenant: TenantId, _range: TimeRange) -> bool {
        false
    }

    /// True when a request surely selects at most so many series, and reading them waits for no other machine. Takes as
    /// long as looking them up.
    fn selects_few(&self, _request: &SelectRequest, _series_max: u64, _budget: &dyn QueryBudget) -> bool {
        false
    }

    /// The longest interval, in milliseconds, to which samples in or near the range were downsampled; 0 where all are
    /// as they were written. Who reads downsampled samples should read so much more on both sides.
    fn coarsest_interval_ms(&self, _tenant: TenantId, _range: TimeRange) -> i64 {
        0
    }

    /// A mark of now, for [`MetricReader::changed_from_ms`]: what is read afterwards has all that changed before.
    /// `None` when the store does not tell changes; then answers cannot be kept.
    fn change_mark(&self) -> Option<u64> {
        None
    }

    /// The earliest time, Unix milliseconds, at which samples came, went or changed after a mark of
    /// [`MetricReader::change_mark`], of whatever tenant and series. Earlier samples read as they did. `i64::MAX` when
    /// nothing changed, `i64::MIN` when anything may have.
    fn changed_from_ms(&self, _mark: u64) -> i64 {
        i64::MIN
    }

    /// Unix milliseconds from which on no sample is hidden because of its age. Those before may go at any time without
    /// being told as a change.
    fn settled_from_ms(&self) -> i64 {
        i64::MIN
    }
}
