//! What is derived from spans, from its configuration.

use std::sync::Arc;

use trefoil_config::TrefoilConfig;
use trefoil_config::trefoil::DurationHistograms;
use trefoil_insight::spans::{HistogramKind, ServiceGraphOptions, SpanInsight, SpanInsightOptions, SpanMetricsOptions};
use trefoil_runtime::SharedClock;
use trefoil_tsdb::Tsdb;

fn kind(histograms: DurationHistograms) -> HistogramKind {
    match histograms {
        DurationHistograms::Classic => HistogramKind::Classic,
        DurationHistograms::Native => HistogramKind::Native,
        DurationHistograms::Both => HistogramKind::Both,
    }
}

fn options(config: &TrefoilConfig) -> SpanInsightOptions {
    let (traces, limits) = (&config.traces, &config.limits.limits);
    let metrics = &traces.span_metrics;
    let span_metrics = metrics.enabled.then(|| SpanMetricsOptions {
        dimensions: metrics.dimensions.clone(),
        histograms: kind(metrics.histograms),
        buckets: metrics.buckets.clone(),
        exemplars: metrics.exemplars,
        series_max: limits.span_metrics_series_max,
    });
    let graph = &traces.service_graph;
    let service_graph = graph.enabled.then(|| ServiceGraphOptions {
        wait: graph.wait.as_std(),
        peer_attributes: graph.peer_attributes.clone(),
        histograms: kind(graph.histograms),
        buckets: graph.buckets.clone(),
        exemplars: graph.exemplars,
        edges_max: limits.service_graph_edges_max,
        spans_max: limits.service_graph_spans_max,
    });
    SpanInsightOptions {
        span_metrics,
        service_graph,
        flush_interval: traces.metrics_interval.as_std(),
        stale_after: traces.metrics_stale_after.as_std(),
        remembered_max: limits.spans_remembered_max,
    }
}

/// Begins to count spans. May wait for the disk.
pub(crate) fn open(config: &TrefoilConfig, metrics: &Tsdb, clock: &SharedClock) -> Arc<SpanInsight> {
    let store = Arc::new(metrics.clone());
    Arc::new(SpanInsight::new(options(config), store.clone(), store, Arc::clone(clock)))
}
