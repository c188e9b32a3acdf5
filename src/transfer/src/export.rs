//! What all exporters share: the series that a selector takes, in order of metric names, read day by day.

use std::cell::Cell;

use trefoil_model::time::DAY_MS;
use trefoil_model::{
    Labels, Matcher, MetricMetadata, MetricReader, SampleBuffer, SelectRequest, TenantId, TimeRange, Unlimited,
};

use crate::error::TransferError;

/// What is exported.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// Whose samples.
    pub tenant: TenantId,
    /// Selectors; a series that any of them takes is exported. Empty: all series.
    pub selectors: Vec<Vec<Matcher>>,
    /// Half-open range of time.
    pub range: TimeRange,
}

/// What an export did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExportReport {
    /// Series that had samples.
    pub series: u64,
    /// Samples that were written.
    pub samples: u64,
    /// Samples that the format cannot hold.
    pub left_out: u64,
    /// Samples that the receiver of a replay refused.
    pub refused: u64,
}

/// Takes labels, some of the samples, and whether these are the series' first.
pub type EachSlice<'a> = dyn FnMut(&Labels, &SampleBuffer, bool) -> Result<(), TransferError> + 'a;

/// Reads series out of a store.
pub struct Exporter<'a> {
    store: &'a dyn MetricReader,
    options: ExportOptions,
    /// UTC days that may have samples, ascending.
    days: Vec<i64>,
    downsampled: Cell<(u64, u64)>,
}

impl<'a> Exporter<'a> {
    /// An exporter. `days` are the UTC days, ascending, on which the store has samples.
    pub fn new(store: &'a dyn MetricReader, options: ExportOptions, mut days: Vec<i64>) -> Self {
        let range = options.range;
        let last_ms = |day: i64| day.saturating_add(1).saturating_mul(DAY_MS).saturating_sub(1);
        days.retain(|d| range.overlaps(d.saturating_mul(DAY_MS), last_ms(*d)));
        Self { store, options, days, downsampled: Cell::default() }
    }

    /// How many of the series that were handed out had downsampled stretches, and how many stretches. No format holds
    /// their counts and sums.
    pub fn downsampled(&self) -> (u64, u64) {
        self.downsampled.get()
    }

    /// What is known of a family.
    pub fn metadata(&self, name: &str) -> Option<MetricMetadata> {
        let family = name.strip_suffix("_total").unwrap_or(name);
        [name, family].into_iter().find_map(|n| self.store.metadata(self.options.tenant, Some(n), 1).pop())
    }

    /// Hands out the samples of each series: series by metric name, then labels; slices of at most a day, by time. No
    /// slice is empty. Holds the labels of all series, and the samples of a day of one series.
    pub fn for_each(&self, each: &mut EachSlice<'_>) -> Result<(), TransferError> {
        let (tenant, range) = (self.options.tenant, self.options.range);
        let all = [Vec::new()];
        let selectors = if self.options.selectors.is_empty() { &all[..] } else { &self.options.selectors };
        let mut series = Vec::new();
        for matchers in selectors {
            let request = SelectRequest { tenant, matchers: matchers.clone(), range };
            series.extend(self.store.select(&request, &Unlimited)?);
        }
        series.sort_by(|a, b| (a.labels.metric_name(), &a.labels).cmp(&(b.labels.metric_name(), &b.labels)));
        series.dedup_by(|a, b| a.labels == b.labels);
        let mut samples = SampleBuffer::default();
        for s in series {
            let (mut first, mut stretches) = (true, 0);
            for day in self.days.iter().copied() {
                let start = day.saturating_mul(DAY_MS).max(range.start_ms);
                let end = day.saturating_add(1).saturating_mul(DAY_MS).min(range.end_ms);
                samples.clear();
                s.source.read(TimeRange::new(start, end), &mut samples)?;
                stretches += samples.rollups.len() as u64;
                if !samples.is_empty() {
                    each(&s.labels, &samples, first)?;
                    first = false;
                }
            }
            let (series, before) = self.downsampled.get();
            self.downsampled.set((series + u64::from(stretches > 0), before + stretches));
        }
        Ok(())
    }
}
