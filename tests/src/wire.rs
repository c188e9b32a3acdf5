//! Messages as senders build them, made without any code of the server.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

/// `prometheus.WriteRequest` of remote write 1.0, as far as tests need it.
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    /// Series with their samples.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// A series with samples.
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Labels, sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Samples, by time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Exemplars.
    #[prost(message, repeated, tag = "3")]
    pub exemplars: Vec<Exemplar>,
}

/// An exemplar.
#[derive(Clone, PartialEq, Message)]
pub struct Exemplar {
    /// Labels.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Value.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// Unix milliseconds.
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
}

/// A label.
#[derive(Clone, PartialEq, Message)]
pub struct Label {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A sample.
#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    /// Value.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Unix milliseconds.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// Makes a series; labels in any order.
pub fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
    let mut labels: Vec<Label> =
        labels.iter().map(|(n, v)| Label { name: (*n).to_owned(), value: (*v).to_owned() }).collect();
    labels.sort_by(|a, b| a.name.cmp(&b.name));
    let samples = samples.iter().map(|(t, v)| Sample { value: *v, timestamp: *t }).collect();
    TimeSeries { labels, samples, exemplars: Vec::new() }
}

/// The body of a remote write request.
pub fn remote_write(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    snappy(&WriteRequest { timeseries }.encode_to_vec())
}

/// Snappy's block format.
pub fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).expect("less than 4 GiB")
}

/// Headers of a remote write request.
pub const REMOTE_WRITE: &[(&str, &str)] = &[
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

/// Headers of OTLP as protobuf over HTTP.
pub const OTLP: &[(&str, &str)] = &[("content-type", "application/x-protobuf")];

/// A text attribute.
pub fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..Default::default() }
}

fn resource(service: &str) -> Option<Resource> {
    Some(Resource { attributes: vec![attribute("service.name", service)], ..Default::default() })
}

/// A span of half a second.
pub fn span(trace: [u8; 16], id: [u8; 8], parent: Option<[u8; 8]>, name: &str, start_ns: u64) -> Span {
    Span {
        trace_id: trace.to_vec(),
        span_id: id.to_vec(),
        parent_span_id: parent.map(|p| p.to_vec()).unwrap_or_default(),
        name: name.to_owned(),
        kind: 2,
        start_time_unix_nano: start_ns,
        end_time_unix_nano: start_ns + 500_000_000,
        ..Default::default()
    }
}

/// The body of an OTLP trace export.
pub fn otlp_spans(service: &str, spans: Vec<Span>) -> Vec<u8> {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: resource(service),
            scope_spans: vec![ScopeSpans { spans, ..Default::default() }],
            ..Default::default()
        }],
    }
    .encode_to_vec()
}

/// The body of an OTLP log export: `(Unix nanoseconds, line)`.
pub fn otlp_logs(service: &str, lines: &[(u64, String)]) -> Vec<u8> {
    let log_records = lines
        .iter()
        .map(|(at, line)| LogRecord {
            time_unix_nano: *at,
            body: Some(AnyValue { value: Some(any_value::Value::StringValue(line.clone())) }),
            ..Default::default()
        })
        .collect();
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(service),
            scope_logs: vec![ScopeLogs { log_records, ..Default::default() }],
            ..Default::default()
        }],
    }
    .encode_to_vec()
}

/// The body of a Loki push: one stream, `(Unix nanoseconds, line)`.
pub fn loki_push(stream: &[(&str, &str)], lines: &[(u64, String)]) -> Vec<u8> {
    let labels: serde_json::Map<String, serde_json::Value> =
        stream.iter().map(|(n, v)| ((*n).to_owned(), serde_json::Value::from(*v))).collect();
    let values: Vec<_> = lines.iter().map(|(at, line)| serde_json::json!([at.to_string(), line])).collect();
    serde_json::to_vec(&serde_json::json!({"streams": [{"stream": labels, "values": values}]})).expect("plain JSON")
}

/// Unix time now.
#[expect(clippy::disallowed_methods, reason = "a sender has a clock of its own")]
pub fn now_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is after 1970");
    u64::try_from(now.as_nanos()).expect("the clock is before 2554")
}

/// Unix time now in milliseconds.
pub fn now_ms() -> i64 {
    (now_ns() / 1_000_000) as i64
}
