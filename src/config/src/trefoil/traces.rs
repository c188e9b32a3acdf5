//! What is derived from spans while they come in.

use crate::decode::{Sink, choice, section};
use crate::duration::PromDuration;
use crate::trefoil::tail_sampling::TailSamplingConfig;
use crate::yaml::Node;

/// Buckets of a histogram at most.
const BUCKETS_MAX: usize = 100;
/// Attributes that become labels at most.
const DIMENSIONS_MAX: usize = 20;

choice! {
    /// Which histograms of durations are written.
    pub enum DurationHistograms: "kind of histogram" {
        /// `_bucket`, `_sum` and `_count` series.
        Classic = "classic",
        /// Native histograms.
        Native = "native",
        /// Both.
        Both = "both",
    }
}

section! {
    /// Metrics of spans: `traces_spanmetrics_calls_total`, `_latency` in seconds, `_size_total`, with the labels `service`,
    /// `span_name`, `span_kind` and `status_code`.
    pub struct SpanMetricsConfig {
        /// Count at all. Default true.
        pub enabled: bool = true,
        /// Attributes of spans, else of their resource, that become labels too; dots become underscores. Default none, at
        /// most 20.
        pub dimensions: Vec<String> = Vec::new(),
        /// Histograms of durations: `classic`, `native` or `both`. Default `classic`.
        pub histograms: DurationHistograms = DurationHistograms::Classic,
        /// Upper bounds of the classic buckets in seconds, ascending. Default 0.002 and 13 more, each twice the one before.
        pub buckets: Vec<f64> = (0..14).map(|n| 0.002 * f64::from(1 << n)).collect(),
        /// Write for each series and flush the longest span as an exemplar. Default true.
        pub exemplars: bool = true,
    }
    check SpanMetricsConfig::check
}

impl SpanMetricsConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        check_buckets(&self.buckets, "span_metrics", node, sink);
        let pos = node.key_pos("dimensions");
        let is_good = self.dimensions.len() <= DIMENSIONS_MAX && self.dimensions.iter().all(|name| !name.is_empty());
        sink.require(is_good, pos, "span_metrics.dimensions must be at most 20 names that are not empty");
    }
}

section! {
    /// The graph of services: `traces_service_graph_request_total`, `_request_failed_total`, `_request_server_seconds`,
    /// `_request_client_seconds`, with the labels `client`, `server` and `connection_type`.
    pub struct ServiceGraphConfig {
        /// Count at all. Default true.
        pub enabled: bool = true,
        /// How long a span waits for the span of the other side. Default 10s, from 1s to 10m.
        pub wait: PromDuration = PromDuration::from_secs(10),
        /// Attributes of a client span that name a peer which sends no spans; the first that is there counts. Default
        /// `peer.service`, `server.address`, `net.peer.name`, `http.host`, `network.peer.address`.
        pub peer_attributes: Vec<String> =
            ["peer.service", "server.address", "net.peer.name", "http.host", "network.peer.address"]
                .map(str::to_owned)
                .to_vec(),
        /// Histograms of durations: `classic`, `native` or `both`. Default `classic`.
        pub histograms: DurationHistograms = DurationHistograms::Classic,
        /// Upper bounds of the classic buckets in seconds, ascending. Default 0.1 and 7 more, each twice the one before.
        pub buckets: Vec<f64> = (0..8).map(|n| 0.1 * f64::from(1 << n)).collect(),
        /// Write for each series and flush the longest span as an exemplar. Default true.
        pub exemplars: bool = true,
    }
    check ServiceGraphConfig::check
}

impl ServiceGraphConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        check_buckets(&self.buckets, "service_graph", node, sink);
        let is_good = (1_000..=600_000).contains(&self.wait.as_ms());
        sink.require(is_good, node.key_pos("wait"), "service_graph.wait must be from 1s to 10m");
    }
}

fn check_buckets(buckets: &[f64], section: &str, node: &Node, sink: &mut Sink) {
    let is_good = buckets.len() <= BUCKETS_MAX
        && buckets.iter().all(|bound| bound.is_finite() && *bound > 0.0)
        && buckets.is_sorted_by(|a, b| a < b);
    let message = format!("{section}.buckets must be at most {BUCKETS_MAX} numbers above 0 that ascend");
    sink.require(is_good, node.key_pos("buckets"), message);
}

section! {
    /// What is derived from spans while they come in, and which traces are kept. All spans are counted, whatever is sampled.
    pub struct TracesConfig {
        /// Time between writes of derived metrics. Default 15s, from 1s to 5m.
        pub metrics_interval: PromDuration = PromDuration::from_secs(15),
        /// Derived series that do not change for so long end. Default 15m, at least 1m.
        pub metrics_stale_after: PromDuration = PromDuration::from_secs(900),
        /// Metrics of spans.
        pub span_metrics: SpanMetricsConfig = SpanMetricsConfig::default(),
        /// The graph of services.
        pub service_graph: ServiceGraphConfig = ServiceGraphConfig::default(),
        /// Which traces are kept. Default all.
        pub sampling: TailSamplingConfig = TailSamplingConfig::default(),
    }
    check TracesConfig::check
}

impl TracesConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let is_good = (1_000..=300_000).contains(&self.metrics_interval.as_ms());
        sink.require(is_good, node.key_pos("metrics_interval"), "traces.metrics_interval must be from 1s to 5m");
        let is_good = self.metrics_stale_after.as_ms() >= 60_000;
        sink.require(is_good, node.key_pos("metrics_stale_after"), "traces.metrics_stale_after must be at least 1m");
    }
}
