//! Data sets of case files.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use trefoil_model::{
    AttributeValue, Attributes, Resource, Scope, Span, SpanEvent, SpanGroup, SpanId, SpanLink, StatusCode, StoredTrace,
    TraceId,
};

use crate::TracesReader;
use crate::value::{kind_of, parse_duration, status_of};

/// 2024-03-01T00:00:00Z
pub const EPOCH_NS: i64 = 1_709_251_200_000_000_000;

/// A Go duration in nanoseconds.
pub(super) fn duration(value: &Json) -> Result<i64, String> {
    let text = text(value);
    parse_duration(&text).ok_or_else(|| format!("{text:?} is no duration"))
}

/// An offset from the epoch as Unix nanoseconds.
pub(super) fn time(offset: &Json) -> Result<i64, String> {
    EPOCH_NS.checked_add(duration(offset)?).ok_or_else(|| format!("{offset} is out of range"))
}

fn text(value: &Json) -> String {
    match value {
        Json::String(s) => s.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

fn padded(value: &Json, digits: usize) -> String {
    format!("{:0<digits$}", text(value))
}

/// A trace id, filled up with zeros on the right.
pub(super) fn trace_id(value: &Json) -> Result<TraceId, String> {
    TraceId::from_hex(&padded(value, 32)).ok_or_else(|| format!("{value} is no trace id"))
}

/// A span id, filled up with zeros on the right.
pub(super) fn span_id(value: &Json) -> Result<SpanId, String> {
    SpanId::from_hex(&padded(value, 16)).ok_or_else(|| format!("{value} is no span id"))
}

fn attribute(value: &Json) -> AttributeValue {
    match value {
        Json::Null => AttributeValue::Null,
        Json::Bool(b) => AttributeValue::Bool(*b),
        Json::Number(n) => match n.as_i64() {
            Some(i) => AttributeValue::Int(i),
            None => AttributeValue::Double(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(s) => AttributeValue::String(s.clone()),
        Json::Array(items) => AttributeValue::Array(items.iter().map(attribute).collect()),
        Json::Object(map) => AttributeValue::Map(map.iter().map(|(n, v)| (n.clone(), attribute(v))).collect()),
    }
}

fn attributes(value: &Json) -> Attributes {
    value.as_object().into_iter().flatten().map(|(n, v)| (n.clone(), attribute(v))).collect()
}

fn list(value: &Json) -> &[Json] {
    value.as_array().map_or(&[][..], Vec::as_slice)
}

/// The traces of a data set.
///
/// Errors name what is malformed.
pub fn reader(data: &Json) -> Result<TracesReader, String> {
    Ok(TracesReader { traces: list(&data["traces"]).iter().map(trace).collect::<Result<_, _>>()? })
}

fn trace(body: &Json) -> Result<StoredTrace, String> {
    let trace_id = trace_id(&body["id"])?;
    // Spans of equal resource and scope stand together.
    let mut groups: BTreeMap<String, SpanGroup> = BTreeMap::new();
    for body in list(&body["spans"]) {
        let key = format!("{}\n{}\n{}", body["service"], body["res"], body["scope"]);
        let group = groups.entry(key).or_insert_with(|| {
            let mut resource = attributes(&body["res"]);
            if let Some(service) = body["service"].as_str() {
                resource.insert(0, ("service.name".to_owned(), AttributeValue::String(service.to_owned())));
            }
            let scope = &body["scope"];
            SpanGroup {
                resource: Arc::new(Resource { attributes: resource, schema_url: String::new() }),
                scope: Arc::new(Scope {
                    name: text(&scope["name"]),
                    version: text(&scope["version"]),
                    attributes: attributes(&scope["attrs"]),
                }),
                spans: Vec::new(),
            }
        });
        group.spans.push(span(body, trace_id)?);
    }
    Ok(StoredTrace { trace_id, groups: groups.into_values().collect() })
}

fn span(body: &Json, trace_id: TraceId) -> Result<Span, String> {
    let start_ns = time(&body["start"])?;
    let event = |e: &Json| {
        let time_ns = start_ns.saturating_add(duration(&e["at"])?);
        Ok(SpanEvent { time_ns, name: text(&e["name"]), attributes: attributes(&e["attrs"]), dropped_attributes: 0 })
    };
    let link = |l: &Json| {
        Ok(SpanLink {
            trace_id: self::trace_id(&l["trace"])?,
            span_id: span_id(&l["span"])?,
            trace_state: String::new(),
            attributes: attributes(&l["attrs"]),
        })
    };
    let kind = body["kind"].as_str().unwrap_or("unspecified");
    let status = body["status"].as_str().unwrap_or("unset");
    Ok(Span {
        trace_id,
        span_id: span_id(&body["id"])?,
        parent_span_id: match &body["parent"] {
            Json::Null => None,
            parent => Some(span_id(parent)?),
        },
        trace_state: String::new(),
        flags: 0,
        name: text(&body["name"]),
        kind: kind_of(kind).ok_or_else(|| format!("no kind {kind:?}"))?,
        start_ns,
        end_ns: start_ns.saturating_add(duration(&body["dur"])?),
        attributes: attributes(&body["attrs"]),
        events: list(&body["events"]).iter().map(event).collect::<Result<_, String>>()?,
        links: list(&body["links"]).iter().map(link).collect::<Result<_, String>>()?,
        status_code: status_of(status).unwrap_or(StatusCode::Unset),
        status_message: text(&body["message"]),
        dropped: [0; 3],
    })
}
