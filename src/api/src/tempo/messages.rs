//! Messages of `tempopb` (<https://github.com/grafana/tempo/blob/main/pkg/tempopb/tempo.proto>), as far as they are asked
//! for and answered; attributes have the form of OpenTelemetry's.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message;
use trefoil_traceql::{MetricsAnswer, MetricsSeries, SearchAnswer, SetResult, TraceResult, Value};

#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchRequest {
    #[prost(btree_map = "string, string", tag = "1")]
    pub(super) tags: BTreeMap<String, String>,
    #[prost(uint32, tag = "2")]
    pub(super) min_duration_ms: u32,
    #[prost(uint32, tag = "3")]
    pub(super) max_duration_ms: u32,
    #[prost(uint32, tag = "4")]
    pub(super) limit: u32,
    /// Unix seconds, as the end.
    #[prost(uint32, tag = "5")]
    pub(super) start: u32,
    #[prost(uint32, tag = "6")]
    pub(super) end: u32,
    #[prost(string, tag = "8")]
    pub(super) query: String,
    #[prost(uint32, tag = "9")]
    pub(super) spans_per_span_set: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) traces: Vec<TraceMetadata>,
    #[prost(message, optional, tag = "2")]
    pub(super) metrics: Option<SearchMetrics>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TraceMetadata {
    #[prost(string, tag = "1")]
    trace_id: String,
    #[prost(string, tag = "2")]
    root_service_name: String,
    #[prost(string, tag = "3")]
    root_trace_name: String,
    #[prost(uint64, tag = "4")]
    start_time_unix_nano: u64,
    #[prost(uint32, tag = "5")]
    duration_ms: u32,
    #[prost(message, optional, tag = "6")]
    span_set: Option<SpanSet>,
    #[prost(message, repeated, tag = "7")]
    span_sets: Vec<SpanSet>,
    #[prost(btree_map = "string, message", tag = "8")]
    service_stats: BTreeMap<String, ServiceStats>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct ServiceStats {
    #[prost(uint32, tag = "1")]
    span_count: u32,
    #[prost(uint32, tag = "2")]
    error_count: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SpanSet {
    #[prost(message, repeated, tag = "1")]
    spans: Vec<Span>,
    #[prost(uint32, tag = "2")]
    matched: u32,
    #[prost(message, repeated, tag = "3")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(string, tag = "1")]
    span_id: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, tag = "3")]
    start_time_unix_nano: u64,
    #[prost(uint64, tag = "4")]
    duration_nanos: u64,
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct SearchMetrics {
    #[prost(uint32, tag = "1")]
    inspected_traces: u32,
    #[prost(uint64, tag = "2")]
    inspected_bytes: u64,
    #[prost(uint32, tag = "4")]
    completed_jobs: u32,
    #[prost(uint32, tag = "5")]
    total_jobs: u32,
    #[prost(uint64, tag = "7")]
    inspected_spans: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct SearchTagsRequest {
    #[prost(string, tag = "1")]
    pub(super) scope: String,
    #[prost(string, tag = "2")]
    pub(super) query: String,
    #[prost(uint32, tag = "3")]
    pub(super) start: u32,
    #[prost(uint32, tag = "4")]
    pub(super) end: u32,
    #[prost(uint32, tag = "5")]
    pub(super) max_tags_per_scope: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct SearchTagsResponse {
    #[prost(string, repeated, tag = "1")]
    pub(super) tag_names: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub(super) metrics: Option<MetadataMetrics>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct SearchTagsV2Response {
    #[prost(message, repeated, tag = "1")]
    pub(super) scopes: Vec<TagsScope>,
    #[prost(message, optional, tag = "2")]
    pub(super) metrics: Option<MetadataMetrics>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct TagsScope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) tags: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct SearchTagValuesRequest {
    #[prost(string, tag = "1")]
    pub(super) tag_name: String,
    #[prost(string, tag = "2")]
    pub(super) query: String,
    #[prost(uint32, tag = "4")]
    pub(super) start: u32,
    #[prost(uint32, tag = "5")]
    pub(super) end: u32,
    #[prost(uint32, tag = "6")]
    pub(super) max_tag_values: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct SearchTagValuesResponse {
    #[prost(string, repeated, tag = "1")]
    pub(super) tag_values: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub(super) metrics: Option<MetadataMetrics>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct SearchTagValuesV2Response {
    #[prost(message, repeated, tag = "1")]
    pub(super) tag_values: Vec<TagValue>,
    #[prost(message, optional, tag = "2")]
    pub(super) metrics: Option<MetadataMetrics>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct TagValue {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// Figures of names and values; one job that is done.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct MetadataMetrics {
    #[prost(uint32, tag = "2")]
    total_jobs: u32,
    #[prost(uint32, tag = "3")]
    completed_jobs: u32,
}

impl MetadataMetrics {
    pub(super) fn done() -> Self {
        Self { total_jobs: 1, completed_jobs: 1 }
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct QueryRangeRequest {
    #[prost(string, tag = "1")]
    pub(super) query: String,
    /// Unix nanoseconds, as the end.
    #[prost(uint64, tag = "2")]
    pub(super) start: u64,
    #[prost(uint64, tag = "3")]
    pub(super) end: u64,
    /// Nanoseconds; 0 for the usual one.
    #[prost(uint64, tag = "4")]
    pub(super) step: u64,
    #[prost(uint32, tag = "16")]
    pub(super) exemplars: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryRangeResponse {
    #[prost(message, repeated, tag = "1")]
    series: Vec<TimeSeries>,
    #[prost(message, optional, tag = "2")]
    metrics: Option<SearchMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<KeyValue>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<KeyValue>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp_ms: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct QueryInstantRequest {
    #[prost(string, tag = "1")]
    pub(super) query: String,
    #[prost(uint64, tag = "2")]
    pub(super) start: u64,
    #[prost(uint64, tag = "3")]
    pub(super) end: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryInstantResponse {
    #[prost(message, repeated, tag = "1")]
    series: Vec<InstantSeries>,
    #[prost(message, optional, tag = "2")]
    metrics: Option<SearchMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct InstantSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<KeyValue>,
    #[prost(double, tag = "2")]
    value: f64,
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn unsigned(ns: i64) -> u64 {
    u64::try_from(ns).unwrap_or(0)
}

fn figures(traces: u64, spans: u64, bytes: u64, is_done: bool) -> SearchMetrics {
    SearchMetrics {
        inspected_traces: u32::try_from(traces).unwrap_or(u32::MAX),
        inspected_bytes: bytes,
        completed_jobs: is_done.into(),
        total_jobs: 1,
        inspected_spans: spans,
    }
}

/// The figures of a search that goes on or is done.
pub(super) fn search_metrics(found: &SearchAnswer, is_done: bool) -> SearchMetrics {
    figures(found.inspected_traces, found.inspected_spans, found.inspected_bytes, is_done)
}

/// A trace that was found; `no_root` stands for the service of a root span that did not come.
pub(super) fn trace(found: &TraceResult, no_root: &str) -> TraceMetadata {
    let span_sets: Vec<SpanSet> = found.sets.iter().map(span_set).collect();
    let (service, name) = found.root.as_ref().map_or((no_root, ""), |(s, n)| (s, n));
    let stats = found.services.iter().map(|s| {
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        (s.name.clone(), ServiceStats { span_count: narrow(s.spans), error_count: narrow(s.errors) })
    });
    TraceMetadata {
        trace_id: found.trace_id.to_string(),
        root_service_name: service.to_owned(),
        root_trace_name: name.to_owned(),
        start_time_unix_nano: unsigned(found.start_ns),
        duration_ms: u32::try_from(found.duration_ns / 1_000_000).unwrap_or(u32::MAX),
        span_set: span_sets.first().cloned(),
        span_sets,
        service_stats: stats.collect(),
    }
}

fn span_set(set: &SetResult) -> SpanSet {
    let span = |span: &trefoil_traceql::SpanResult| Span {
        span_id: span.span_id.to_string(),
        name: span.name.clone(),
        start_time_unix_nano: unsigned(span.start_ns),
        duration_nanos: unsigned(span.duration_ns),
        attributes: span.attributes.iter().map(|(a, v)| key_value(a.bare_name(), v)).collect(),
    };
    SpanSet {
        spans: set.spans.iter().map(span).collect(),
        matched: count(set.matched),
        attributes: labels(&set.attributes),
    }
}

fn labels(pairs: &[(String, Value)]) -> Vec<KeyValue> {
    pairs.iter().map(|(name, value)| key_value(name, value)).collect()
}

/// A label; what `AnyValue` has no type for is text.
fn key_value(name: &str, value: &Value) -> KeyValue {
    let value = match value {
        Value::Int(i) => Any::IntValue(*i),
        Value::Float(x) => Any::DoubleValue(*x),
        Value::Bool(b) => Any::BoolValue(*b),
        other => Any::StringValue(other.to_text()),
    };
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// The answer of a metrics query over a range.
pub(super) fn range(found: &MetricsAnswer) -> QueryRangeResponse {
    let series = |s: &MetricsSeries| {
        let samples = found.times_ns.iter().zip(&s.values);
        let exemplar = |e: &trefoil_traceql::TraceExemplar| Exemplar {
            labels: vec![key_value("trace:id", &Value::String(e.trace_id.to_string()))],
            value: e.value,
            timestamp_ms: e.time_ns / 1_000_000,
        };
        TimeSeries {
            labels: labels(&s.labels),
            samples: samples
                .filter_map(|(t, v)| v.map(|value| Sample { value, timestamp_ms: t / 1_000_000 }))
                .collect(),
            exemplars: s.exemplars.iter().map(exemplar).collect(),
        }
    };
    let metrics = figures(found.inspected_traces, found.inspected_spans, found.inspected_bytes, true);
    QueryRangeResponse { series: found.series.iter().map(series).collect(), metrics: Some(metrics) }
}

/// The answer of a metrics query with one value a series.
pub(super) fn instant(found: &MetricsAnswer) -> QueryInstantResponse {
    let series = |s: &MetricsSeries| {
        let value = s.values.first().copied().flatten()?;
        Some(InstantSeries { labels: labels(&s.labels), value })
    };
    let metrics = figures(found.inspected_traces, found.inspected_spans, found.inspected_bytes, true);
    QueryInstantResponse { series: found.series.iter().filter_map(series).collect(), metrics: Some(metrics) }
}
