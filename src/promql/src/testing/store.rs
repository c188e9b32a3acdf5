//! Series in memory behind the contract of the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use trefoil_model::{
    CounterResetHint, Exemplar, FloatHistogram, HistogramSpan, Labels, MetricMetadata, MetricReader, QueryBudget,
    SampleBuffer, SelectRequest, SelectedSeries, SeriesSource, StoreError, TenantId, TimeRange, is_stale_nan,
};

use super::notation::SeriesValue;
use super::script::Load;

#[derive(Debug, Clone)]
enum Stored {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// Samples of a series by time, each with its start timestamp.
type SeriesSamples = BTreeMap<i64, (i64, Stored)>;

/// Series in memory, of one tenant.
#[derive(Debug, Clone, Default)]
pub struct MemoryReader {
    series: BTreeMap<Labels, Arc<SeriesSamples>>,
}

impl MemoryReader {
    /// Without series.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a float sample; one at the same time is replaced.
    pub fn push_float(&mut self, labels: &Labels, t_ms: i64, value: f64) {
        self.push(labels, t_ms, 0, Stored::Float(value));
    }

    /// Adds a histogram sample; one at the same time is replaced.
    pub fn push_histogram(&mut self, labels: &Labels, t_ms: i64, value: Arc<FloatHistogram>) {
        self.push(labels, t_ms, 0, Stored::Histogram(value));
    }

    fn push(&mut self, labels: &Labels, t_ms: i64, start_ms: i64, value: Stored) {
        let samples = self.series.entry(labels.clone()).or_default();
        Arc::make_mut(samples).insert(t_ms, (start_ms, value));
    }

    /// Adds the series of a `load` block.
    pub fn load(&mut self, load: &Load) {
        for (labels, values, starts) in &load.series {
            for (i, value) in values.iter().enumerate() {
                let t_ms = load.step_ms * i as i64;
                let start = starts.get(i).copied().flatten().map_or(0, |offset| t_ms + offset);
                match value {
                    SeriesValue::Absent => {}
                    SeriesValue::Float(v) => self.push(labels, t_ms, start, Stored::Float(*v)),
                    SeriesValue::Histogram(h, _) => self.push(labels, t_ms, start, Stored::Histogram(h.clone())),
                }
            }
        }
        if load.with_nhcb {
            self.load_native(load);
        }
        for samples in self.series.values_mut() {
            if samples.values().any(|(_, v)| matches!(v, Stored::Histogram(_))) {
                set_hints(Arc::make_mut(samples));
            }
        }
    }

    /// Makes native histograms with custom buckets of the block's classic ones.
    fn load_native(&mut self, load: &Load) {
        let mut parts: BTreeMap<Labels, BTreeMap<i64, ClassicParts>> = BTreeMap::new();
        for (labels, values, _) in &load.series {
            let name = labels.metric_name();
            let (base, bound, kind) = if let (Some(base), Some(le)) =
                (name.strip_suffix("_bucket"), labels.get(trefoil_model::labels::BUCKET_LABEL))
            {
                let Some(bound) = crate::parser::parse_number(le) else { continue };
                (base, bound, 'b')
            } else if let Some(base) = name.strip_suffix("_count") {
                (base, 0.0, 'c')
            } else if let Some(base) = name.strip_suffix("_sum") {
                (base, 0.0, 's')
            } else {
                continue;
            };
            let mut builder = labels.to_builder();
            builder.set("__name__", base).del("le");
            let by_time = parts.entry(builder.build()).or_default();
            for (i, value) in values.iter().enumerate() {
                let SeriesValue::Float(v) = value else { continue };
                if is_stale_nan(*v) {
                    continue;
                }
                let p = by_time.entry(load.step_ms * i as i64).or_default();
                match kind {
                    'b' => p.buckets.push((bound, *v)),
                    'c' => p.count = Some(*v),
                    _ => p.sum = *v,
                }
            }
        }
        for (labels, by_time) in parts {
            for (t_ms, p) in by_time {
                if let Some(h) = p.convert() {
                    self.push_histogram(&labels, t_ms, Arc::new(h));
                }
            }
        }
    }
}

/// Sets the reset hints that the reference's store gives: "no reset" within a chunk, "unknown" at the start of one.
fn set_hints(samples: &mut SeriesSamples) {
    let mut previous: Option<Arc<FloatHistogram>> = None;
    for (_, value) in samples.values_mut() {
        let Stored::Histogram(h) = value else {
            previous = None;
            continue;
        };
        let hint = match (&previous, h.counter_reset_hint) {
            (_, CounterResetHint::Gauge) => CounterResetHint::Gauge,
            (None, _) => CounterResetHint::Unknown,
            (Some(p), _) if p.counter_reset_hint == CounterResetHint::Gauge || p.is_stale() => {
                CounterResetHint::Unknown
            }
            (Some(p), _) if !h.is_stale() && starts_chunk(h, p) => CounterResetHint::Unknown,
            (Some(_), _) => CounterResetHint::NotCounterReset,
        };
        if hint != h.counter_reset_hint {
            Arc::make_mut(h).counter_reset_hint = hint;
        }
        previous = Some(h.clone());
    }
}

/// True when a chunk cannot go on with `h`: a reset, or a layout that differs.
fn starts_chunk(h: &FloatHistogram, previous: &FloatHistogram) -> bool {
    let mut plain = h.clone();
    if plain.counter_reset_hint == CounterResetHint::NotCounterReset {
        plain.counter_reset_hint = CounterResetHint::Unknown;
    }
    h.schema != previous.schema
        || h.zero_threshold != previous.zero_threshold
        || h.custom_values != previous.custom_values
        || crate::histogram::detect_reset(&plain, previous)
}

#[derive(Debug, Default)]
struct ClassicParts {
    /// (upper bound, cumulative count)
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl ClassicParts {
    /// `None` when counts go down.
    fn convert(mut self) -> Option<FloatHistogram> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let highest = self.buckets.last().map(|b| b.1);
        let count = self.count.or(highest)?;
        if self.buckets.last().is_none_or(|b| b.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut previous = 0.0;
        let mut cells = Vec::new();
        for (_, cumulative) in &self.buckets {
            if *cumulative < previous {
                return None;
            }
            cells.push(cumulative - previous);
            previous = *cumulative;
        }
        let custom_values: Vec<f64> = self.buckets.iter().map(|b| b.0).filter(|b| *b != f64::INFINITY).collect();
        let h = FloatHistogram {
            schema: trefoil_model::histogram::CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive_spans: vec![HistogramSpan { offset: 0, length: cells.len() as u32 }],
            positive_buckets: cells,
            custom_values,
            ..FloatHistogram::default()
        };
        Some(crate::histogram::compacted(h))
    }
}

struct MemorySource(Arc<SeriesSamples>);

impl SeriesSource for MemorySource {
    fn read(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), StoreError> {
        if range.start_ms >= range.end_ms {
            return Ok(());
        }
        for (t, (start, value)) in self.0.range(range.start_ms..range.end_ms) {
            match value {
                Stored::Float(v) => out.push_float(*t, *start, *v),
                Stored::Histogram(h) => out.push_histogram(*t, *start, h.clone()),
            }
        }
        Ok(())
    }
}

impl MetricReader for MemoryReader {
    fn select(&self, request: &SelectRequest, budget: &dyn QueryBudget) -> Result<Vec<SelectedSeries>, StoreError> {
        budget.check()?;
        Ok(self
            .series
            .iter()
            .filter(|(labels, _)| request.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or(""))))
            .map(|(labels, samples)| SelectedSeries {
                labels: labels.clone(),
                source: Arc::new(MemorySource(samples.clone())),
            })
            .collect())
    }

    fn series(
        &self,
        requests: &[SelectRequest],
        limit: usize,
        budget: &dyn QueryBudget,
    ) -> Result<(Vec<Labels>, bool), StoreError> {
        let mut out: Vec<Labels> = Vec::new();
        for request in requests {
            out.extend(self.select(request, budget)?.into_iter().map(|s| s.labels));
        }
        out.sort();
        out.dedup();
        let cut = limit > 0 && out.len() > limit;
        if cut {
            out.truncate(limit);
        }
        Ok((out, cut))
    }

    fn label_names(
        &self,
        _: TenantId,
        _: TimeRange,
        _: &[SelectRequest],
        _: usize,
        _: &dyn QueryBudget,
    ) -> Result<(Vec<String>, bool), StoreError> {
        let mut out: Vec<String> = self.series.keys().flat_map(|l| l.iter().map(|(n, _)| n.to_owned())).collect();
        out.sort();
        out.dedup();
        Ok((out, false))
    }

    fn label_values(
        &self,
        _: TenantId,
        name: &str,
        _: TimeRange,
        _: &[SelectRequest],
        _: usize,
        _: &dyn QueryBudget,
    ) -> Result<(Vec<String>, bool), StoreError> {
        let mut out: Vec<String> = self.series.keys().filter_map(|l| l.get(name).map(str::to_owned)).collect();
        out.sort();
        out.dedup();
        Ok((out, false))
    }

    fn exemplars(&self, _: &[SelectRequest], _: &dyn QueryBudget) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError> {
        Ok(Vec::new())
    }

    fn metadata(&self, _: TenantId, _: Option<&str>, _: usize) -> Vec<MetricMetadata> {
        Vec::new()
    }

    fn active_series(&self) -> u64 {
        self.series.len() as u64
    }
}
