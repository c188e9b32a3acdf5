//! Cells as samples of series.

use std::sync::Arc;

use trefoil_model::labels::{BUCKET_LABEL, METRIC_NAME};
use trefoil_model::metric::STALE_NAN;
use trefoil_model::{
    Exemplar, FloatHistogram, FloatPoint, HistogramPoint, Labels, MetricBatch, MetricKind, MetricMetadata,
};

use super::cells::{CellCut, Example};
use super::durations::Durations;

/// Names of the metrics of a table.
pub(crate) struct Family {
    pub(crate) counters: [(&'static str, &'static str); 2],
    pub(crate) durations: &'static [(&'static str, &'static str)],
}

/// Where a label of a series comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    MetricName,
    Bucket,
    Value(usize),
}

/// Writes the cells of a table into a batch.
pub(crate) struct Exposition<'a> {
    family: &'a Family,
    /// Names of labels in order, with where their values come from.
    labels: Vec<(&'a str, Source)>,
    /// Values of `le`, the last one `+Inf`.
    bounds: Vec<String>,
    scratch: String,
    /// Unix milliseconds of the samples.
    t_ms: i64,
}

impl<'a> Exposition<'a> {
    pub(crate) fn new(family: &'a Family, names: &'a [String], bounds: &[f64], t_ms: i64) -> Self {
        let values = names.iter().enumerate().map(|(n, name)| (name.as_str(), Source::Value(n)));
        let mut labels: Vec<(&str, Source)> =
            values.chain([(METRIC_NAME, Source::MetricName), (BUCKET_LABEL, Source::Bucket)]).collect();
        labels.sort_by_key(|(name, _)| *name);
        let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]).collect();
        Self { family, labels, bounds, scratch: String::new(), t_ms }
    }

    /// Adds what the metrics are called and are about.
    pub(crate) fn describe(&self, batch: &mut MetricBatch) {
        let counters = self.family.counters.iter().map(|m| (m, MetricKind::Counter));
        let durations = self.family.durations.iter().map(|m| (m, MetricKind::Histogram));
        for ((name, help), kind) in counters.chain(durations) {
            let unit = if kind == MetricKind::Histogram { "seconds" } else { "" };
            let (name, help, unit) = ((*name).to_owned(), (*help).to_owned(), unit.to_owned());
            batch.metadata.push(MetricMetadata { name, kind, help, unit });
        }
    }

    /// Adds the samples of a cell.
    pub(crate) fn add(&mut self, cell: &CellCut, batch: &mut MetricBatch) {
        for ((name, _), count) in self.family.counters.iter().zip(cell.counters) {
            self.float(cell, (name, ""), None, count as f64, batch);
        }
        for (side, (name, _)) in self.family.durations.iter().enumerate() {
            let durations = &cell.durations[side];
            let example = cell.examples[side];
            self.classic(cell, name, durations, example, batch);
            self.native(cell, name, durations, example, batch);
        }
    }

    fn classic(
        &mut self,
        cell: &CellCut,
        name: &str,
        durations: &Durations,
        example: Option<Example>,
        batch: &mut MetricBatch,
    ) {
        let (mut has_buckets, mut exemplified) = (false, false);
        for (bucket, count) in durations.cumulative().enumerate() {
            has_buckets = true;
            let series = self.float(cell, (name, "_bucket"), Some(bucket), count as f64, batch);
            let Some(example) = example.filter(|_| !exemplified) else { continue };
            let is_within = self.bounds[bucket].parse::<f64>().is_ok_and(|bound| example.seconds <= bound);
            if is_within || bucket + 1 == self.bounds.len() {
                exemplified = true;
                batch.exemplars.push(exemplar(series, &example));
            }
        }
        if has_buckets {
            self.float(cell, (name, "_sum"), None, durations.sum_seconds(), batch);
            self.float(cell, (name, "_count"), None, durations.count as f64, batch);
        }
    }

    fn native(
        &mut self,
        cell: &CellCut,
        name: &str,
        durations: &Durations,
        example: Option<Example>,
        batch: &mut MetricBatch,
    ) {
        let (Some(value), Some(zero)) = (durations.native(), durations.native_zero()) else { return };
        let series = self.series(cell, (name, ""), None, batch);
        let mut point = |t_ms, value: FloatHistogram| {
            let start_ms = cell.born_ms;
            batch.histograms.push(HistogramPoint { series, t_ms, start_ms, value: Arc::new(value) });
        };
        if cell.is_new && cell.born_ms < self.t_ms {
            point(cell.born_ms, zero);
        }
        match cell.has_ended {
            true => point(self.t_ms, FloatHistogram { sum: STALE_NAN, ..FloatHistogram::default() }),
            false => point(self.t_ms, value),
        }
        if let Some(example) = example {
            batch.exemplars.push(exemplar(series, &example));
        }
    }

    /// Adds a sample, and the zero before it when the series is new, so that its first increase is seen.
    fn float(
        &mut self,
        cell: &CellCut,
        name: (&str, &str),
        bucket: Option<usize>,
        value: f64,
        batch: &mut MetricBatch,
    ) -> u32 {
        let series = self.series(cell, name, bucket, batch);
        let start_ms = cell.born_ms;
        if cell.is_new && cell.born_ms < self.t_ms {
            batch.floats.push(FloatPoint { series, t_ms: cell.born_ms, start_ms, value: 0.0 });
        }
        let value = if cell.has_ended { STALE_NAN } else { value };
        batch.floats.push(FloatPoint { series, t_ms: self.t_ms, start_ms, value });
        series
    }

    fn series(
        &mut self,
        cell: &CellCut,
        (name, suffix): (&str, &str),
        bucket: Option<usize>,
        batch: &mut MetricBatch,
    ) -> u32 {
        let full = [name, suffix].concat();
        let pairs = self.labels.iter().filter_map(|(label, source)| {
            let value = match source {
                Source::MetricName => full.as_str(),
                Source::Bucket => bucket.map_or("", |n| &self.bounds[n]),
                Source::Value(n) => &cell.values[*n],
            };
            (!value.is_empty()).then_some((*label, value))
        });
        batch.add_series(Labels::from_sorted_with(&mut self.scratch, pairs))
    }
}

fn exemplar(series: u32, example: &Example) -> Exemplar {
    let labels =
        Labels::from_pairs([("span_id", example.span_id.to_string()), ("trace_id", example.trace_id.to_string())]);
    Exemplar { series, t_ms: example.t_ms, value: example.seconds, labels }
}
