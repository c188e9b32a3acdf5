//! OpenTelemetry messages in Tempo's JSON.
//!
//! It is the general protobuf mapping, not OTLP's: ids are base64, enums are names, 64-bit numbers are text, and
//! fields that have their default are left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData};
use serde_json::{Map, Value, json};

/// The list of resource spans: `batches` of version 1, `trace.resourceSpans` of version 2.
pub(super) fn resource_spans(data: &TracesData) -> Value {
    list(&data.resource_spans, resource_span)
}

fn list<T>(items: &[T], each: impl Fn(&T) -> Value) -> Value {
    Value::Array(items.iter().map(each).collect())
}

/// An object that leaves out what has its default.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn text(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.0.insert(name.to_owned(), Value::from(value));
        }
        self
    }

    fn bytes(self, name: &str, value: &[u8]) -> Self {
        self.text(name, &STANDARD.encode(value))
    }

    fn count(mut self, name: &str, value: u32) -> Self {
        if value != 0 {
            self.0.insert(name.to_owned(), Value::from(value));
        }
        self
    }

    fn nanos(mut self, name: &str, value: u64) -> Self {
        if value != 0 {
            self.0.insert(name.to_owned(), Value::from(value.to_string()));
        }
        self
    }

    fn list<T>(mut self, name: &str, items: &[T], each: impl Fn(&T) -> Value) -> Self {
        if !items.is_empty() {
            self.0.insert(name.to_owned(), list(items, each));
        }
        self
    }

    fn value(mut self, name: &str, value: Option<Value>) -> Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

fn resource_span(message: &ResourceSpans) -> Value {
    let resource = message.resource.as_ref().map(|r| {
        Object::default()
            .list("attributes", &r.attributes, key_value)
            .count("droppedAttributesCount", r.dropped_attributes_count)
            .done()
    });
    Object::default()
        .value("resource", resource)
        .list("scopeSpans", &message.scope_spans, scope_spans)
        .text("schemaUrl", &message.schema_url)
        .done()
}

fn scope_spans(message: &ScopeSpans) -> Value {
    Object::default()
        .value("scope", message.scope.as_ref().map(scope))
        .list("spans", &message.spans, span)
        .text("schemaUrl", &message.schema_url)
        .done()
}

fn scope(message: &InstrumentationScope) -> Value {
    Object::default()
        .text("name", &message.name)
        .text("version", &message.version)
        .list("attributes", &message.attributes, key_value)
        .count("droppedAttributesCount", message.dropped_attributes_count)
        .done()
}

fn span(message: &Span) -> Value {
    let kind = match message.kind() {
        SpanKind::Unspecified => "",
        kind => kind.as_str_name(),
    };
    Object::default()
        .bytes("traceId", &message.trace_id)
        .bytes("spanId", &message.span_id)
        .text("traceState", &message.trace_state)
        .bytes("parentSpanId", &message.parent_span_id)
        .count("flags", message.flags)
        .text("name", &message.name)
        .text("kind", kind)
        .nanos("startTimeUnixNano", message.start_time_unix_nano)
        .nanos("endTimeUnixNano", message.end_time_unix_nano)
        .list("attributes", &message.attributes, key_value)
        .count("droppedAttributesCount", message.dropped_attributes_count)
        .list("events", &message.events, event)
        .count("droppedEventsCount", message.dropped_events_count)
        .list("links", &message.links, link)
        .count("droppedLinksCount", message.dropped_links_count)
        .value("status", Some(status(message.status.as_ref())))
        .done()
}

/// Tempo always has a status, if an empty one.
fn status(message: Option<&Status>) -> Value {
    let Some(message) = message else { return json!({}) };
    let code = match message.code() {
        StatusCode::Unset => "",
        code => code.as_str_name(),
    };
    Object::default().text("message", &message.message).text("code", code).done()
}

fn event(message: &Event) -> Value {
    Object::default()
        .nanos("timeUnixNano", message.time_unix_nano)
        .text("name", &message.name)
        .list("attributes", &message.attributes, key_value)
        .count("droppedAttributesCount", message.dropped_attributes_count)
        .done()
}

fn link(message: &Link) -> Value {
    Object::default()
        .bytes("traceId", &message.trace_id)
        .bytes("spanId", &message.span_id)
        .text("traceState", &message.trace_state)
        .list("attributes", &message.attributes, key_value)
        .count("droppedAttributesCount", message.dropped_attributes_count)
        .count("flags", message.flags)
        .done()
}

fn key_value(message: &KeyValue) -> Value {
    json!({ "key": message.key, "value": message.value.as_ref().map_or_else(|| json!({}), any_value) })
}

fn any_value(message: &AnyValue) -> Value {
    use any_value::Value as V;
    match &message.value {
        None | Some(V::StringValueStrindex(_)) => json!({}),
        Some(V::StringValue(s)) => json!({ "stringValue": s }),
        Some(V::BoolValue(b)) => json!({ "boolValue": b }),
        Some(V::IntValue(i)) => json!({ "intValue": i.to_string() }),
        Some(V::DoubleValue(d)) => json!({ "doubleValue": double(*d) }),
        Some(V::BytesValue(b)) => json!({ "bytesValue": STANDARD.encode(b) }),
        Some(V::ArrayValue(a)) => json!({ "arrayValue": { "values": list(&a.values, any_value) } }),
        Some(V::KvlistValue(m)) => json!({ "kvlistValue": { "values": list(&m.values, key_value) } }),
    }
}

/// JSON has no infinities; the mapping writes their names.
pub(super) fn double(d: f64) -> Value {
    if d.is_finite() {
        json!(d)
    } else if d.is_nan() {
        json!("NaN")
    } else {
        json!(if d > 0.0 { "Infinity" } else { "-Infinity" })
    }
}
