//! OTLP metrics as series, as Prometheus 3 translates them by default.
//!
//! Names by [`names`]; `job` and `instance` from the service's attributes, the other resource attributes in `target_info`
//! ([`labels`]); histograms with bounds as classic buckets, exponential ones as native histograms ([`histogram`]); delta
//! temporality summed up ([`delta`]). A data point that cannot be taken is rejected alone.

pub mod delta;
pub mod histogram;
pub mod labels;
pub mod names;

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar as WireExemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, SummaryDataPoint, exemplar, number_data_point,
};
use trefoil_model::{
    Exemplar, FloatPoint, HistogramPoint, Labels, MetricBatch, MetricKind, MetricMetadata, STALE_NAN, SpanId, TraceId,
    WriteReport,
};
use trefoil_runtime::limits;

use self::delta::{Accumulated, DeltaPoint, PendingChange};
use self::histogram::{ClassicHistogram, native};
use self::labels::{BaseLabels, PointLabels};
use self::names::{NameKind, label_name, metric_name, unit_name};
use super::nanoseconds;
use crate::ingest::Context;
use crate::metric_limits::{check_labels, cut, shorten};
use crate::native_histogram::limit_buckets;

const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;
const NO_RECORDED_VALUE: u32 = 1;
/// Characters that the labels of an exemplar may have together, as in OpenMetrics.
const EXEMPLAR_CHARACTERS_MAX: usize = 128;

/// A converted request.
#[derive(Debug)]
pub struct Converted {
    /// What to store.
    pub batch: MetricBatch,
    /// `target_info`: nobody sent it, so it is stored apart and never counted as refused.
    pub info: MetricBatch,
    /// Data points that came, for what is answered.
    pub points: u64,
    /// What was refused.
    pub report: WriteReport,
    /// Changes of the running sums; to be kept when the batch is stored.
    pub delta: PendingChange,
}

/// Converts a request; refuses data points one by one.
pub(crate) fn convert(request: ExportMetricsServiceRequest, context: &Context) -> Converted {
    let now_ns = context.clock.now_ns();
    let mut converter = Converter {
        context,
        now_ns,
        t_max: (now_ns / 1_000_000).saturating_add(context.limits.future_ms_max),
        out: Converted {
            batch: MetricBatch { tenant: context.options.tenant, ..MetricBatch::default() },
            info: MetricBatch { tenant: context.options.tenant, ..MetricBatch::default() },
            points: 0,
            report: WriteReport::default(),
            delta: context.delta.begin(),
        },
        scratch: String::new(),
        latest_ms: i64::MIN,
    };
    for resource_metrics in request.resource_metrics {
        converter.resource(resource_metrics);
    }
    converter.out
}

struct Converter<'a> {
    context: &'a Context,
    now_ns: i64,
    t_max: i64,
    out: Converted,
    scratch: String,
    /// Time of the latest point of the resource.
    latest_ms: i64,
}

/// What the points of one metric share.
struct Family<'a> {
    name: &'a str,
    base: &'a BaseLabels,
    temporality: i32,
}

/// Times of a point.
#[derive(Clone, Copy)]
struct Times {
    time_ns: i64,
    start_ns: i64,
}

impl Times {
    fn ms(self) -> i64 {
        self.time_ns / 1_000_000
    }

    fn start_ms(self) -> i64 {
        self.start_ns / 1_000_000
    }
}

impl Converter<'_> {
    fn resource(&mut self, resource_metrics: ResourceMetrics) {
        let attributes = resource_metrics.resource.map_or_else(Vec::new, |r| r.attributes);
        let resource_base = BaseLabels::of_resource(&attributes, &self.context.options);
        self.latest_ms = i64::MIN;
        for scope_metrics in resource_metrics.scope_metrics {
            let base = if self.context.options.promote_scope_metadata {
                resource_base.with_scope(scope_metrics.scope.as_ref(), &scope_metrics.schema_url)
            } else {
                resource_base.clone()
            };
            for metric in scope_metrics.metrics {
                self.metric(metric, &base);
            }
        }
        if self.latest_ms > i64::MIN
            && let Some(labels) = resource_base.target_info(&attributes, &self.context.limits)
        {
            self.out.info.push_float(labels, self.latest_ms, 1.0);
        }
    }

    fn metric(&mut self, metric: Metric, base: &BaseLabels) {
        let Some(data) = metric.data else { return };
        let (kind, name_kind) = match &data {
            Data::Gauge(_) => (MetricKind::Gauge, NameKind::Gauge),
            Data::Sum(s) if s.is_monotonic => (MetricKind::Counter, NameKind::Counter),
            Data::Sum(_) => (MetricKind::Gauge, NameKind::Other),
            Data::Histogram(_) | Data::ExponentialHistogram(_) => (MetricKind::Histogram, NameKind::Other),
            Data::Summary(_) => (MetricKind::Summary, NameKind::Other),
        };
        let name = metric_name(&metric.name, &metric.unit, name_kind);
        let mut family = Family { name: &name, base, temporality: CUMULATIVE };
        let before = self.out.batch.sample_count();
        match data {
            Data::Gauge(g) => self.points(&family, g.data_points, |c, f, p| c.number(f, p, false)),
            Data::Sum(s) => {
                family.temporality = s.aggregation_temporality;
                self.points(&family, s.data_points, |c, f, p| c.number(f, p, s.is_monotonic));
            }
            Data::Histogram(h) => {
                family.temporality = h.aggregation_temporality;
                self.points(&family, h.data_points, Self::classic);
            }
            Data::ExponentialHistogram(h) => {
                family.temporality = h.aggregation_temporality;
                self.points(&family, h.data_points, Self::exponential);
            }
            Data::Summary(s) => self.points(&family, s.data_points, Self::summary),
        }
        if self.out.batch.sample_count() > before {
            let max = self.context.limits.metadata_bytes_max;
            self.out.batch.metadata.push(MetricMetadata {
                kind,
                help: cut(&metric.description, max).to_owned(),
                unit: cut(&unit_name(&metric.unit), max).to_owned(),
                name,
            });
        }
    }

    /// Converts each point, or rejects it.
    fn points<P>(
        &mut self,
        family: &Family<'_>,
        points: Vec<P>,
        convert: impl Fn(&mut Self, &Family<'_>, P) -> Result<(), String>,
    ) {
        self.out.points += points.len() as u64;
        for point in points {
            let checked = if family.name.is_empty() {
                Err("metric has no name".to_owned())
            } else if !matches!(family.temporality, DELTA | CUMULATIVE) {
                Err("aggregation temporality is not set".to_owned())
            } else if self.out.batch.sample_count() >= self.context.limits.samples_per_request_max {
                limits::hit("samples_per_request_max");
                Err(format!("more than {} samples in a request", self.context.limits.samples_per_request_max))
            } else {
                convert(self, family, point)
            };
            if let Err(reason) = checked {
                self.out.report.reject(|| format!("data point of metric {:?}: {reason}", shorten(family.name)));
            }
        }
    }

    fn times(&mut self, time: u64, start: u64) -> Result<Times, String> {
        let time_ns = nanoseconds(time).unwrap_or(self.now_ns);
        let times = Times { time_ns, start_ns: nanoseconds(start).unwrap_or(0) };
        if times.ms() > self.t_max {
            limits::hit("future_ms_max");
            return Err(format!("timestamp {time_ns} is too far in the future"));
        }
        Ok(times)
    }

    fn series(&mut self, labels: &PointLabels, name: &str, extra: Option<(&str, &str)>) -> Result<Labels, String> {
        labels.series(name, extra, &self.context.limits, &mut self.scratch)
    }

    fn push(&mut self, labels: Labels, times: Times, start_ms: i64, value: f64) -> u32 {
        let series = self.out.batch.add_series(labels);
        self.out.batch.floats.push(FloatPoint { series, t_ms: times.ms(), start_ms, value });
        self.latest_ms = self.latest_ms.max(times.ms());
        series
    }

    fn accumulate(&mut self, key: &Labels, times: &mut Times, value: Accumulated) -> Result<Accumulated, String> {
        let point = DeltaPoint { start_ns: times.start_ns, time_ns: times.time_ns, value };
        let (value, start_ns) = self.out.delta.add(key, point, self.now_ns)?;
        times.start_ns = start_ns;
        Ok(value)
    }

    fn number(&mut self, family: &Family<'_>, point: NumberDataPoint, monotonic: bool) -> Result<(), String> {
        let mut times = self.times(point.time_unix_nano, point.start_time_unix_nano)?;
        let labels = PointLabels::new(point.attributes, family.base);
        let series = self.series(&labels, family.name, None)?;
        let value = if point.flags & NO_RECORDED_VALUE != 0 {
            self.out.delta.end(&series);
            STALE_NAN
        } else {
            let value = match point.value {
                Some(number_data_point::Value::AsDouble(v)) => v,
                Some(number_data_point::Value::AsInt(v)) => v as f64,
                None => return Err("no value".to_owned()),
            };
            match family.temporality {
                DELTA => match self.accumulate(&series, &mut times, Accumulated::Number(value))? {
                    Accumulated::Number(sum) => sum,
                    _ => value,
                },
                _ => value,
            }
        };
        let start_ms = if monotonic { times.start_ms() } else { 0 };
        let series = self.push(series, times, start_ms, value);
        for exemplar in point.exemplars {
            self.exemplar(series, exemplar, times);
        }
        Ok(())
    }

    fn classic(&mut self, family: &Family<'_>, mut point: HistogramDataPoint) -> Result<(), String> {
        let mut times = self.times(point.time_unix_nano, point.start_time_unix_nano)?;
        let stale = point.flags & NO_RECORDED_VALUE != 0;
        let mut histogram = ClassicHistogram::from_point(&mut point)?;
        let labels = PointLabels::new(std::mem::take(&mut point.attributes), family.base);
        // Every series first, so that a point that exceeds a limit leaves nothing behind.
        let name = |suffix: &str| format!("{}{suffix}", family.name);
        let count_series = self.series(&labels, &name("_count"), None)?;
        let sum_series = self.series(&labels, &name("_sum"), None)?;
        let bucket_name = name("_bucket");
        let mut buckets = Vec::with_capacity(histogram.counts.len());
        for bound in &histogram.bounds {
            buckets.push(self.series(&labels, &bucket_name, Some(("le", &bound_text(*bound))))?);
        }
        buckets.push(self.series(&labels, &bucket_name, Some(("le", "+Inf")))?);
        if stale {
            self.out.delta.end(&count_series);
        } else if family.temporality == DELTA
            && let Accumulated::Classic(sum) =
                self.accumulate(&count_series, &mut times, Accumulated::Classic(histogram.clone()))?
        {
            histogram = sum;
        }
        let start_ms = times.start_ms();
        let value = |v: f64| if stale { STALE_NAN } else { v };
        if let Some(sum) = histogram.sum.or(stale.then_some(0.0)) {
            self.push(sum_series, times, start_ms, value(sum));
        }
        self.push(count_series, times, start_ms, value(histogram.count as f64));
        let mut cumulative = 0u64;
        let mut indexes = Vec::with_capacity(buckets.len());
        let last = buckets.len() - 1;
        for (i, (series, count)) in buckets.into_iter().zip(&histogram.counts).enumerate() {
            cumulative = cumulative.saturating_add(*count);
            let population = if i == last { histogram.count } else { cumulative };
            indexes.push(self.push(series, times, start_ms, value(population as f64)));
        }
        for exemplar in point.exemplars {
            let v = exemplar_value(&exemplar);
            let bucket = histogram.bounds.partition_point(|bound| *bound < v);
            self.exemplar(indexes[bucket.min(last)], exemplar, times);
        }
        Ok(())
    }

    fn exponential(&mut self, family: &Family<'_>, mut point: ExponentialHistogramDataPoint) -> Result<(), String> {
        let mut times = self.times(point.time_unix_nano, point.start_time_unix_nano)?;
        let mut histogram = native(&point)?;
        let labels = PointLabels::new(std::mem::take(&mut point.attributes), family.base);
        let series = self.series(&labels, family.name, None)?;
        if point.flags & NO_RECORDED_VALUE != 0 {
            self.out.delta.end(&series);
            histogram.sum = STALE_NAN;
            histogram.count = 0.0;
        } else {
            limit_buckets(&mut histogram, self.context.limits.histogram_buckets_max)?;
            if family.temporality == DELTA
                && let Accumulated::Native(sum) =
                    self.accumulate(&series, &mut times, Accumulated::Native(Box::new(histogram.clone())))?
            {
                histogram = *sum;
                limit_buckets(&mut histogram, self.context.limits.histogram_buckets_max)?;
            }
        }
        let series = self.out.batch.add_series(series);
        self.out.batch.histograms.push(HistogramPoint {
            series,
            t_ms: times.ms(),
            start_ms: times.start_ms(),
            value: Arc::new(histogram),
        });
        self.latest_ms = self.latest_ms.max(times.ms());
        for exemplar in point.exemplars {
            self.exemplar(series, exemplar, times);
        }
        Ok(())
    }

    fn summary(&mut self, family: &Family<'_>, point: SummaryDataPoint) -> Result<(), String> {
        let times = self.times(point.time_unix_nano, point.start_time_unix_nano)?;
        let labels = PointLabels::new(point.attributes, family.base);
        let name = |suffix: &str| format!("{}{suffix}", family.name);
        let sum_series = self.series(&labels, &name("_sum"), None)?;
        let count_series = self.series(&labels, &name("_count"), None)?;
        let mut quantiles = Vec::with_capacity(point.quantile_values.len());
        for q in &point.quantile_values {
            let series = self.series(&labels, family.name, Some(("quantile", &bound_text(q.quantile))))?;
            quantiles.push((series, q.value));
        }
        let stale = point.flags & NO_RECORDED_VALUE != 0;
        let value = |v: f64| if stale { STALE_NAN } else { v };
        self.push(sum_series, times, times.start_ms(), value(point.sum));
        self.push(count_series, times, times.start_ms(), value(point.count as f64));
        for (series, v) in quantiles {
            self.push(series, times, times.start_ms(), value(v));
        }
        Ok(())
    }

    /// Adds an exemplar; one that is not valid is left out, its point stands.
    fn exemplar(&mut self, series: u32, exemplar: WireExemplar, times: Times) {
        if self.out.batch.exemplars.len() >= self.context.limits.exemplars_max {
            limits::hit("exemplars_max");
            return;
        }
        let value = exemplar_value(&exemplar);
        let time_ns = nanoseconds(exemplar.time_unix_nano).unwrap_or(times.time_ns);
        let mut pairs: Vec<(String, String)> = Vec::new();
        if let Some(id) = TraceId::from_bytes(&exemplar.trace_id) {
            pairs.push(("trace_id".to_owned(), id.to_string()));
        }
        if let Some(id) = SpanId::from_bytes(&exemplar.span_id) {
            pairs.push(("span_id".to_owned(), id.to_string()));
        }
        let mut characters: usize = pairs.iter().map(|(n, v)| n.len() + v.len()).sum();
        for kv in exemplar.filtered_attributes {
            let name = label_name(&kv.key).into_owned();
            let text = super::attributes::value(kv.value, 1).to_text();
            characters += name.chars().count() + text.chars().count();
            if characters > EXEMPLAR_CHARACTERS_MAX {
                break;
            }
            if !name.is_empty() && !text.is_empty() && !pairs.iter().any(|(n, _)| *n == name) {
                pairs.push((name, text));
            }
        }
        pairs.sort();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        if time_ns / 1_000_000 > self.t_max || check_labels(&pairs, &self.context.limits).is_err() {
            return;
        }
        let labels = Labels::from_sorted_with(&mut self.scratch, pairs);
        self.out.batch.exemplars.push(Exemplar { series, t_ms: time_ns / 1_000_000, value, labels });
    }
}

fn exemplar_value(exemplar: &WireExemplar) -> f64 {
    match exemplar.value {
        Some(exemplar::Value::AsDouble(v)) => v,
        Some(exemplar::Value::AsInt(v)) => v as f64,
        None => 0.0,
    }
}

/// A bucket bound or quantile as Prometheus writes it: the shortest digits, never an exponent.
fn bound_text(bound: f64) -> String {
    if bound == f64::INFINITY {
        "+Inf".to_owned()
    } else if bound == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        bound.to_string()
    }
}
