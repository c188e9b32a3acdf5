//! Zipkin's JSON of both versions: a list of spans, each read by itself.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use trefoil_model::{SpanId, SpanKind, TraceId};

use super::v1::{Annotation, BinaryAnnotation, Source};
use super::{Batch, Draft, Endpoint};
use crate::IngestError;
use crate::body::check_json_depth;
use crate::ingest::Context;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct JsonEndpoint {
    service_name: Option<String>,
    ipv4: Option<String>,
    ipv6: Option<String>,
    port: Option<Value>,
}

impl JsonEndpoint {
    fn read(this: Option<Self>) -> Endpoint {
        let this = this.unwrap_or_default();
        let address = [this.ipv4, this.ipv6].into_iter().flatten().find(|a| !a.is_empty());
        // A port beyond 16 bits is none; it costs nothing else.
        let port = this.port.and_then(|p| whole(&p).ok()).and_then(|p| u16::try_from(p).ok());
        Endpoint {
            service: this.service_name.unwrap_or_default(),
            address: address.unwrap_or_default(),
            port: port.unwrap_or(0),
        }
    }
}

#[derive(Deserialize)]
struct JsonAnnotation {
    timestamp: Option<Value>,
    value: Option<String>,
    endpoint: Option<JsonEndpoint>,
}

#[derive(Deserialize)]
struct JsonBinaryAnnotation {
    key: Option<String>,
    value: Option<Value>,
    endpoint: Option<JsonEndpoint>,
}

/// A span of either version.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonSpan {
    trace_id: Option<String>,
    id: Option<String>,
    parent_id: Option<String>,
    name: Option<String>,
    kind: Option<String>,
    timestamp: Option<Value>,
    duration: Option<Value>,
    local_endpoint: Option<JsonEndpoint>,
    remote_endpoint: Option<JsonEndpoint>,
    #[serde(default)]
    annotations: Option<Vec<JsonAnnotation>>,
    #[serde(default)]
    binary_annotations: Option<Vec<JsonBinaryAnnotation>>,
    tags: Option<BTreeMap<String, Value>>,
    shared: Option<bool>,
}

/// Reads spans of version 2. Errors: `Malformed` when the body is no list.
pub(super) fn each_v2(bytes: &[u8], context: &Context, batch: &mut Batch<'_>) -> Result<(), IngestError> {
    each(bytes, context, batch, |index, span, batch| {
        let draft = draft_v2(span)?;
        batch.add(index, draft);
        Ok(())
    })
}

/// Reads spans of version 1. Errors: as [`each_v2`].
pub(super) fn each_v1(bytes: &[u8], context: &Context, batch: &mut Batch<'_>) -> Result<(), IngestError> {
    each(bytes, context, batch, |index, span, batch| {
        for draft in source_v1(span)?.drafts() {
            batch.add(index, draft);
        }
        Ok(())
    })
}

fn each(
    bytes: &[u8],
    context: &Context,
    batch: &mut Batch<'_>,
    take: impl Fn(usize, JsonSpan, &mut Batch<'_>) -> Result<(), String>,
) -> Result<(), IngestError> {
    check_json_depth(bytes, context.limits.json_depth_max)?;
    let spans: Vec<&RawValue> = serde_json::from_slice(bytes)
        .map_err(|e| IngestError::Malformed(format!("body is not a JSON list of spans: {e}")))?;
    for (index, raw) in spans.into_iter().enumerate() {
        let taken = match serde_json::from_str::<JsonSpan>(raw.get()) {
            Ok(span) => take(index, span, batch),
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = taken {
            batch.reject(index, &reason);
        }
    }
    Ok(())
}

fn draft_v2(span: JsonSpan) -> Result<Draft, String> {
    let mut draft = head(&span)?;
    draft.name = span.name.unwrap_or_default();
    draft.kind = kind(span.kind.as_deref().unwrap_or(""));
    draft.start_us = micros("timestamp", span.timestamp.as_ref())?;
    draft.duration_us = micros("duration", span.duration.as_ref())?;
    draft.local = JsonEndpoint::read(span.local_endpoint);
    draft.remote = JsonEndpoint::read(span.remote_endpoint);
    for annotation in span.annotations.unwrap_or_default() {
        let time_us = micros("timestamp of an annotation", annotation.timestamp.as_ref())?;
        draft.annotations.push((time_us, annotation.value.unwrap_or_default()));
    }
    let tags = span.tags.unwrap_or_default().into_iter();
    draft.tags = tags.filter_map(|(name, value)| Some((name, text(value)?))).collect();
    draft.shared = span.shared.unwrap_or(false);
    Ok(draft)
}

fn source_v1(span: JsonSpan) -> Result<Source, String> {
    let mut draft = head(&span)?;
    draft.name = span.name.unwrap_or_default();
    draft.start_us = micros("timestamp", span.timestamp.as_ref())?;
    draft.duration_us = micros("duration", span.duration.as_ref())?;
    let mut source = Source { draft, annotations: Vec::new(), binary: Vec::new() };
    for annotation in span.annotations.unwrap_or_default() {
        source.annotations.push(Annotation {
            time_us: micros("timestamp of an annotation", annotation.timestamp.as_ref())?,
            value: annotation.value.unwrap_or_default(),
            endpoint: JsonEndpoint::read(annotation.endpoint),
        });
    }
    for annotation in span.binary_annotations.unwrap_or_default() {
        let value = annotation.value.unwrap_or(Value::Bool(true));
        source.binary.push(BinaryAnnotation {
            key: annotation.key.unwrap_or_default(),
            is_true: value == Value::Bool(true),
            value: text(value).unwrap_or_default(),
            endpoint: JsonEndpoint::read(annotation.endpoint),
        });
    }
    Ok(source)
}

/// The ids.
fn head(span: &JsonSpan) -> Result<Draft, String> {
    let trace_id = span.trace_id.as_deref().ok_or("no traceId")?;
    let span_id = span.id.as_deref().ok_or("no id")?;
    let bad = |name: &str, id: &str, digits: usize| {
        let id = crate::metric_limits::shorten(id);
        format!("{name} {id:?} is not 1 to {digits} hexadecimal digits, not all zero")
    };
    let mut draft = Draft::new(
        TraceId::from_hex(trace_id).ok_or_else(|| bad("traceId", trace_id, 32))?,
        SpanId::from_hex(span_id).ok_or_else(|| bad("id", span_id, 16))?,
    );
    // Zeros stand for none.
    if let Some(parent) = span.parent_id.as_deref().filter(|p| p.bytes().any(|b| b != b'0')) {
        draft.parent_span_id = Some(SpanId::from_hex(parent).ok_or_else(|| bad("parentId", parent, 16))?);
    }
    Ok(draft)
}

fn kind(word: &str) -> SpanKind {
    let named = [
        ("CLIENT", SpanKind::Client),
        ("SERVER", SpanKind::Server),
        ("PRODUCER", SpanKind::Producer),
        ("CONSUMER", SpanKind::Consumer),
        ("INTERNAL", SpanKind::Internal),
    ];
    named.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map_or(SpanKind::Unspecified, |(_, kind)| *kind)
}

/// Microseconds; absent and negative ones are 0. Some senders write them as texts or with a fraction.
fn micros(what: &str, value: Option<&Value>) -> Result<u64, String> {
    match value {
        None | Some(Value::Null) => Ok(0),
        Some(value) => whole(value).map_err(|()| format!("{what} is not a number of microseconds")),
    }
}

fn whole(value: &Value) -> Result<u64, ()> {
    let of_float = |f: f64| if f.is_finite() { Ok(f.round() as u64) } else { Err(()) };
    match value {
        Value::Number(n) => n.as_u64().map_or_else(|| of_float(n.as_f64().unwrap_or(f64::NAN)), Ok),
        Value::String(s) => s.trim().parse().or_else(|_| s.trim().parse().map_err(|_| ()).and_then(of_float)),
        _ => Err(()),
    }
}

/// A tag's value as text; `None` for null.
fn text(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(s) => Some(s),
        other => Some(other.to_string()),
    }
}
