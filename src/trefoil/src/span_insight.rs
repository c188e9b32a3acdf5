//! What is derived from spans and which traces are kept, from their configuration.

use std::sync::Arc;

use trefoil_config::TrefoilConfig;
use trefoil_config::trefoil::{DurationHistograms, SampledAttributeConfig, SamplingDecision, SamplingPolicyConfig};
use trefoil_insight::sampling::{AttributeTest, SamplingOptions, SamplingPolicy, TailSampler};
use trefoil_insight::spans::{HistogramKind, ServiceGraphOptions, SpanInsight, SpanInsightOptions, SpanMetricsOptions};
use trefoil_model::re2::Regex;
use trefoil_runtime::SharedClock;
use trefoil_tsdb::Tsdb;

/// Traces whose decision is remembered.
const REMEMBERED_MAX: usize = 500_000;

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

fn test(attribute: &SampledAttributeConfig) -> anyhow::Result<AttributeTest> {
    Ok(if !attribute.values.is_empty() {
        AttributeTest::OneOf(attribute.values.clone())
    } else if !attribute.regex.is_empty() {
        AttributeTest::Matches(Box::new(Regex::anchored(&attribute.regex).map_err(|error| anyhow::anyhow!("{error}"))?))
    } else if attribute.min.is_some() || attribute.max.is_some() {
        AttributeTest::Between(attribute.min.unwrap_or(f64::NEG_INFINITY), attribute.max.unwrap_or(f64::INFINITY))
    } else {
        AttributeTest::Exists
    })
}

fn policy(policy: &SamplingPolicyConfig) -> anyhow::Result<SamplingPolicy> {
    let attribute = policy.attribute.as_ref().map(|a| anyhow::Ok((a.name.clone(), test(a)?))).transpose()?;
    Ok(SamplingPolicy {
        name: policy.name.clone(),
        has_errors: policy.errors,
        slower_than: policy.slower_than.map(|d| d.as_std()),
        attribute,
        share: policy.share,
        traces_per_second: policy.traces_per_second,
        keeps: policy.decision == SamplingDecision::Keep,
    })
}

/// Who decides which traces are kept; `None` when all are.
pub(crate) fn sampler(config: &TrefoilConfig) -> anyhow::Result<Option<Arc<TailSampler>>> {
    let sampling = &config.traces.sampling;
    if !sampling.is_on() {
        return Ok(None);
    }
    let options = SamplingOptions {
        decision_wait: sampling.decision_wait.as_std(),
        policies: sampling.policies.iter().map(policy).collect::<anyhow::Result<_>>()?,
        keeps_rest: sampling.default == SamplingDecision::Keep,
        remembered_max: REMEMBERED_MAX,
    };
    Ok(Some(Arc::new(TailSampler::new(options))))
}
