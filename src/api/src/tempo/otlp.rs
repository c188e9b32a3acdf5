//! Stored spans as the OpenTelemetry messages that Tempo answers with.

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::resource::v1::Resource as ResourceMessage;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as SpanMessage, Status, TracesData};
use trefoil_model::{AttributeValue, Attributes, Span, SpanGroup, StatusCode, StoredTrace};

/// Turns a trace into messages; neighbouring groups of one resource share its message.
///
/// At most `spans_max` spans; the second value says whether some were left out.
pub(crate) fn traces_data(stored: &StoredTrace, spans_max: usize) -> (TracesData, bool) {
    let mut resource_spans: Vec<ResourceSpans> = Vec::new();
    let mut last: Option<&SpanGroup> = None;
    let mut left = spans_max;
    let mut cut = false;
    for group in &stored.groups {
        cut |= group.spans.len() > left;
        let spans: Vec<SpanMessage> = group.spans.iter().take(left).map(span).collect();
        if spans.is_empty() {
            continue;
        }
        left -= spans.len();
        let scope_spans = ScopeSpans { scope: Some(scope(group)), spans, schema_url: String::new() };
        match (last, resource_spans.last_mut()) {
            (Some(before), Some(message)) if before.resource == group.resource => {
                message.scope_spans.push(scope_spans);
            }
            _ => resource_spans.push(ResourceSpans {
                resource: Some(ResourceMessage {
                    attributes: key_values(&group.resource.attributes),
                    dropped_attributes_count: 0,
                    entity_refs: Vec::new(),
                }),
                scope_spans: vec![scope_spans],
                schema_url: group.resource.schema_url.clone(),
            }),
        }
        last = Some(group);
    }
    if cut {
        trefoil_runtime::limits::hit("spans_per_trace_max");
    }
    (TracesData { resource_spans }, cut)
}

fn scope(group: &SpanGroup) -> InstrumentationScope {
    InstrumentationScope {
        name: group.scope.name.clone(),
        version: group.scope.version.clone(),
        attributes: key_values(&group.scope.attributes),
        dropped_attributes_count: 0,
    }
}

fn span(span: &Span) -> SpanMessage {
    let [dropped_attributes_count, dropped_events_count, dropped_links_count] = span.dropped;
    let has_status = span.status_code != StatusCode::Unset || !span.status_message.is_empty();
    SpanMessage {
        trace_id: span.trace_id.0.to_vec(),
        span_id: span.span_id.0.to_vec(),
        trace_state: span.trace_state.clone(),
        parent_span_id: span.parent_span_id.map(|id| id.0.to_vec()).unwrap_or_default(),
        flags: span.flags,
        name: span.name.clone(),
        kind: span.kind as i32,
        start_time_unix_nano: unsigned(span.start_ns),
        end_time_unix_nano: unsigned(span.end_ns),
        attributes: key_values(&span.attributes),
        dropped_attributes_count,
        events: span
            .events
            .iter()
            .map(|e| Event {
                time_unix_nano: unsigned(e.time_ns),
                name: e.name.clone(),
                attributes: key_values(&e.attributes),
                dropped_attributes_count: e.dropped_attributes,
            })
            .collect(),
        dropped_events_count,
        links: span
            .links
            .iter()
            .map(|l| Link {
                trace_id: l.trace_id.0.to_vec(),
                span_id: l.span_id.0.to_vec(),
                trace_state: l.trace_state.clone(),
                attributes: key_values(&l.attributes),
                dropped_attributes_count: 0,
                flags: 0,
            })
            .collect(),
        dropped_links_count,
        status: has_status.then(|| Status { message: span.status_message.clone(), code: span.status_code as i32 }),
    }
}

fn unsigned(ns: i64) -> u64 {
    u64::try_from(ns).unwrap_or(0)
}

fn key_values(attributes: &Attributes) -> Vec<KeyValue> {
    attributes
        .iter()
        .map(|(name, value)| KeyValue { key: name.clone(), value: Some(any_value(value)), ..KeyValue::default() })
        .collect()
}

fn any_value(value: &AttributeValue) -> AnyValue {
    use any_value::Value;
    let value = match value {
        AttributeValue::Null => None,
        AttributeValue::String(s) => Some(Value::StringValue(s.clone())),
        AttributeValue::Bool(b) => Some(Value::BoolValue(*b)),
        AttributeValue::Int(i) => Some(Value::IntValue(*i)),
        AttributeValue::Double(d) => Some(Value::DoubleValue(*d)),
        AttributeValue::Bytes(b) => Some(Value::BytesValue(b.clone())),
        AttributeValue::Array(a) => Some(Value::ArrayValue(ArrayValue { values: a.iter().map(any_value).collect() })),
        AttributeValue::Map(m) => Some(Value::KvlistValue(KeyValueList { values: key_values(m) })),
    };
    AnyValue { value }
}
