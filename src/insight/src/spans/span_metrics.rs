//! Calls, durations and bytes of spans by service, name, kind, status and chosen attributes.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use trefoil_model::labels::underscored;
use trefoil_model::{AttributeValue, Resource, Span, SpanKind, StatusCode, value};
use trefoil_runtime::limits;

use super::cells::{CellCut, Cells, Example, Moment};
use super::durations::HistogramKind;
use super::metrics::OVERFLOWED;
use super::otlp_size::otlp_size;

/// Labels that every series may have; what overflows the limit keeps some of them.
const LABELS: [&str; 5] = ["service", "span_name", "span_kind", "status_code", "metric_overflow"];
/// Of so many series over the limit, one for each service, kind and status, are those that overflow made of.
const OVERFLOW_SHARE: usize = 4;
/// The limit of the series.
const LIMIT: &str = "span_metrics_series_max";

/// What is derived of single spans.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanMetricsOptions {
    /// Attributes of spans, else of their resource, that become labels.
    pub dimensions: Vec<String>,
    /// Which histograms there are.
    pub histograms: HistogramKind,
    /// Upper bounds of the classic buckets in seconds, ascending.
    pub buckets: Vec<f64>,
    /// Whether durations have exemplars.
    pub exemplars: bool,
    /// Series (label values, without those of buckets) of a tenant.
    pub series_max: usize,
}

impl Default for SpanMetricsOptions {
    fn default() -> Self {
        Self {
            dimensions: Vec::new(),
            histograms: HistogramKind::Classic,
            buckets: (0..14).map(|n| 0.002 * f64::from(1 << n)).collect(),
            exemplars: true,
            series_max: 5000,
        }
    }
}

/// Counters of single spans of one tenant.
#[derive(Debug)]
pub(crate) struct SpanMetrics {
    options: Arc<SpanMetricsOptions>,
    bounds: Arc<[f64]>,
    cells: Cells,
}

/// OTLP's word for a kind.
pub(crate) fn kind_word(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "SPAN_KIND_UNSPECIFIED",
        SpanKind::Internal => "SPAN_KIND_INTERNAL",
        SpanKind::Server => "SPAN_KIND_SERVER",
        SpanKind::Client => "SPAN_KIND_CLIENT",
        SpanKind::Producer => "SPAN_KIND_PRODUCER",
        SpanKind::Consumer => "SPAN_KIND_CONSUMER",
    }
}

/// OTLP's word for a status.
pub(crate) fn status_word(status: StatusCode) -> &'static str {
    match status {
        StatusCode::Unset => "STATUS_CODE_UNSET",
        StatusCode::Ok => "STATUS_CODE_OK",
        StatusCode::Error => "STATUS_CODE_ERROR",
    }
}

/// Names of the labels, in the order of the values of cells.
pub(crate) fn label_names(options: &SpanMetricsOptions) -> Vec<String> {
    let mut names: Vec<String> = LABELS.iter().map(|name| (*name).to_owned()).collect();
    for dimension in &options.dimensions {
        let mut name = underscored(dimension).into_owned();
        // As Tempo names what would be a label of its own.
        while names.contains(&name) || name == "le" || name == "__name__" {
            name.insert_str(0, "__");
        }
        names.push(name);
    }
    names
}

fn text(value: &AttributeValue) -> Cow<'_, str> {
    match value {
        AttributeValue::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_text()),
    }
}

impl SpanMetrics {
    pub(crate) fn new(options: Arc<SpanMetricsOptions>) -> Self {
        let bounds: Arc<[f64]> = options.buckets.clone().into();
        Self { cells: Cells::new(options.histograms, Arc::clone(&bounds), 1), bounds, options }
    }

    /// Counts a span.
    pub(crate) fn add(&mut self, resource: &Resource, service: &str, span: &Span, at: &Moment) {
        let (kind, status) = (kind_word(span.kind), status_word(span.status_code));
        let dimensions: Vec<Cow<'_, str>> = self
            .options
            .dimensions
            .iter()
            .map(|name| {
                let found = value::find(&span.attributes, name).or_else(|| value::find(&resource.attributes, name));
                found.map_or(Cow::Borrowed(""), text)
            })
            .collect();
        let mut values = vec![service, span.name.as_str(), kind, status, ""];
        values.extend(dimensions.iter().map(|d| &**d));
        let series_max = self.options.series_max;
        let number = self.cells.number(&values, series_max, at).unwrap_or_else(|| {
            limits::hit(LIMIT);
            OVERFLOWED.with_label_values(&["span_metrics"]).inc();
            values.truncate(LABELS.len());
            values.resize(LABELS.len() + dimensions.len(), "");
            (values[1], values[4]) = ("", "true");
            let kept = self.cells.number(&values, series_max + series_max / OVERFLOW_SHARE, at);
            kept.unwrap_or_else(|| {
                values[0] = "";
                self.cells.number(&values, usize::MAX, at).expect("there is no limit")
            })
        });
        let cell = self.cells.change(number, at);
        let ns = span.duration_ns().unsigned_abs();
        cell.counters[0] += 1;
        cell.counters[1] += otlp_size(span) as u64;
        let example = self.options.exemplars.then(|| Example {
            trace_id: span.trace_id,
            span_id: span.span_id,
            seconds: ns as f64 / 1e9,
            t_ms: span.end_ns.div_euclid(1_000_000),
        });
        cell.observe(0, ns, &self.bounds, example);
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(crate) fn cut(&mut self, at: &Moment, stale_after: Duration) -> Vec<CellCut> {
        self.cells.cut(at, stale_after)
    }
}
