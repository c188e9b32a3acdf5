//! `jaeger.api_v2`: the messages of Jaeger's own model
//! (<https://github.com/jaegertracing/jaeger-idl/blob/main/proto/api_v2/model.proto>), and spans of `PostSpans`.

use trefoil_model::AttributeValue;
use trefoil_runtime::Limits;

use super::draft::{Draft, Drafts, Log as DraftLog, Process as DraftProcess, Reference, put};

/// `google.protobuf.Timestamp` and `google.protobuf.Duration`, which look alike.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Time {
    /// Seconds, since 1970 or of length.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds beyond them.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Time {
    /// From nanoseconds.
    pub fn from_ns(ns: i64) -> Self {
        Self { seconds: ns.div_euclid(1_000_000_000), nanos: ns.rem_euclid(1_000_000_000) as i32 }
    }

    /// In nanoseconds; what does not fit is the nearest that does.
    pub fn ns(self) -> i64 {
        self.seconds.saturating_mul(1_000_000_000).saturating_add(self.nanos.into())
    }
}

/// The type of a [`KeyValue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ValueType {
    /// Text.
    String = 0,
    /// Boolean.
    Bool = 1,
    /// Whole number.
    Int64 = 2,
    /// Floating point.
    Float64 = 3,
    /// Bytes.
    Binary = 4,
}

/// A tag.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    /// Name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Which of the values counts.
    #[prost(enumeration = "ValueType", tag = "2")]
    pub v_type: i32,
    /// Text.
    #[prost(string, tag = "3")]
    pub v_str: String,
    /// Boolean.
    #[prost(bool, tag = "4")]
    pub v_bool: bool,
    /// Whole number.
    #[prost(int64, tag = "5")]
    pub v_int64: i64,
    /// Floating point.
    #[prost(double, tag = "6")]
    pub v_float64: f64,
    /// Bytes.
    #[prost(bytes = "vec", tag = "7")]
    pub v_binary: Vec<u8>,
}

/// Something that happened during a span.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Log {
    /// When.
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Time>,
    /// What.
    #[prost(message, repeated, tag = "2")]
    pub fields: Vec<KeyValue>,
}

/// Kinds of references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum SpanRefType {
    /// The other span waits for this one.
    ChildOf = 0,
    /// It does not.
    FollowsFrom = 1,
}

/// A reference to another span.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SpanRef {
    /// Trace, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// Span, 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// Its kind.
    #[prost(enumeration = "SpanRefType", tag = "3")]
    pub ref_type: i32,
}

/// Who sent spans.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Process {
    /// Service.
    #[prost(string, tag = "1")]
    pub service_name: String,
    /// Tags.
    #[prost(message, repeated, tag = "2")]
    pub tags: Vec<KeyValue>,
}

/// A span.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Span {
    /// Trace, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// Span, 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// Name.
    #[prost(string, tag = "3")]
    pub operation_name: String,
    /// References, the parent among them.
    #[prost(message, repeated, tag = "4")]
    pub references: Vec<SpanRef>,
    /// 1: sampled, 2: debug.
    #[prost(uint32, tag = "5")]
    pub flags: u32,
    /// Start.
    #[prost(message, optional, tag = "6")]
    pub start_time: Option<Time>,
    /// Length.
    #[prost(message, optional, tag = "7")]
    pub duration: Option<Time>,
    /// Tags.
    #[prost(message, repeated, tag = "8")]
    pub tags: Vec<KeyValue>,
    /// Logs.
    #[prost(message, repeated, tag = "9")]
    pub logs: Vec<Log>,
    /// Who sent it; without it that of the batch.
    #[prost(message, optional, tag = "10")]
    pub process: Option<Process>,
    /// Name of the process in a trace.
    #[prost(string, tag = "11")]
    pub process_id: String,
    /// What is wrong with it.
    #[prost(string, repeated, tag = "12")]
    pub warnings: Vec<String>,
}

/// Spans and who sent them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Batch {
    /// Spans.
    #[prost(message, repeated, tag = "1")]
    pub spans: Vec<Span>,
    /// Who sent those that do not say it themselves.
    #[prost(message, optional, tag = "2")]
    pub process: Option<Process>,
}

/// Argument of `CollectorService/PostSpans`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PostSpansRequest {
    /// Spans.
    #[prost(message, optional, tag = "1")]
    pub batch: Option<Batch>,
}

/// Answer of `CollectorService/PostSpans`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct PostSpansResponse {}

/// Hands the spans of a request on.
pub(super) fn each(request: PostSpansRequest, drafts: &mut Drafts<'_>) {
    let Some(batch) = request.batch else { return };
    let limits = drafts.limits();
    if let Some(own) = batch.process {
        drafts.process = process(own, limits);
    }
    for wire in batch.spans {
        match span(wire, limits) {
            Ok(draft) => drafts.add(draft),
            Err(reason) => drafts.reject(&reason),
        }
    }
}

fn process(wire: Process, limits: &Limits) -> DraftProcess {
    let mut out = DraftProcess { service: wire.service_name, tags: Vec::new() };
    tags(wire.tags, &mut out.tags, limits);
    out
}

fn span(wire: Span, limits: &Limits) -> Result<Draft, String> {
    let mut out = Draft {
        trace_id: id(&wire.trace_id).ok_or_else(|| wrong("trace", 16, &wire.trace_id))?,
        span_id: id(&wire.span_id).ok_or_else(|| wrong("span", 8, &wire.span_id))?,
        name: wire.operation_name,
        flags: wire.flags,
        start_ns: wire.start_time.map_or(0, Time::ns),
        duration_ns: wire.duration.map_or(0, Time::ns),
        ..Draft::default()
    };
    for reference in &wire.references {
        // One that names nothing is none.
        if let (Some(trace_id), Some(span_id)) = (id(&reference.trace_id), id(&reference.span_id)) {
            let is_child = reference.ref_type == SpanRefType::ChildOf as i32;
            out.add_reference(Reference { trace_id, span_id, is_child }, limits);
        }
    }
    out.dropped[0] = tags(wire.tags, &mut out.tags, limits);
    for log in wire.logs {
        let mut fields = Vec::new();
        let dropped = tags(log.fields, &mut fields, limits);
        out.add_log(DraftLog { time_ns: log.timestamp.map_or(0, Time::ns), fields, dropped }, limits);
    }
    out.process = wire.process.map(|p| process(p, limits));
    Ok(out)
}

fn id<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn wrong(what: &str, want: usize, bytes: &[u8]) -> String {
    format!("{what} id must be {want} bytes, has {}", bytes.len())
}

/// Takes tags over; returns how many there were beyond the limit.
fn tags(wire: Vec<KeyValue>, out: &mut Vec<(String, AttributeValue)>, limits: &Limits) -> u32 {
    let mut dropped: u32 = 0;
    for tag in wire.into_iter().filter(|t| !t.key.is_empty()) {
        let value = match ValueType::try_from(tag.v_type) {
            Ok(ValueType::String) => AttributeValue::String(tag.v_str),
            Ok(ValueType::Bool) => AttributeValue::Bool(tag.v_bool),
            Ok(ValueType::Int64) => AttributeValue::Int(tag.v_int64),
            Ok(ValueType::Float64) => AttributeValue::Double(tag.v_float64),
            Ok(ValueType::Binary) => AttributeValue::Bytes(tag.v_binary),
            Err(_) => AttributeValue::Null,
        };
        if !put(out, tag.key, value, limits) {
            dropped = dropped.saturating_add(1);
        }
    }
    dropped
}
