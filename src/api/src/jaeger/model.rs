//! Stored spans in Jaeger's protobuf model, with the tags that its JSON has.

use trefoil_ingest::jaeger::proto::{
    KeyValue, Log, Process, Span as SpanMessage, SpanRef, SpanRefType, Time, ValueType,
};
use trefoil_model::{AttributeValue, Resource, Span, SpanGroup, StoredTrace};

use super::render;

/// Spans of a message, as many as Jaeger sends.
const CHUNK: usize = 10;

/// The first `spans_max` spans of a trace in chunks, each span with its process.
pub(super) fn chunks(stored: &StoredTrace, spans_max: usize) -> Vec<Vec<SpanMessage>> {
    let mut chunks: Vec<Vec<SpanMessage>> = Vec::new();
    let spans = stored.groups.iter().flat_map(|g| g.spans.iter().map(move |s| (g, s)));
    for (group, stored) in spans.take(spans_max) {
        if chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(span(stored, group));
        }
    }
    if stored.groups.iter().map(|g| g.spans.len()).sum::<usize>() > spans_max {
        trefoil_runtime::limits::hit("spans_per_trace_max");
    }
    chunks
}

fn span(span: &Span, group: &SpanGroup) -> SpanMessage {
    let parent = span.parent_span_id.map(|parent| SpanRef {
        trace_id: span.trace_id.0.to_vec(),
        span_id: parent.0.to_vec(),
        ref_type: SpanRefType::ChildOf as i32,
    });
    let links = span.links.iter().map(|link| SpanRef {
        trace_id: link.trace_id.0.to_vec(),
        span_id: link.span_id.0.to_vec(),
        ref_type: if render::is_child_of(link) { SpanRefType::ChildOf } else { SpanRefType::FollowsFrom } as i32,
    });
    SpanMessage {
        trace_id: span.trace_id.0.to_vec(),
        span_id: span.span_id.0.to_vec(),
        operation_name: span.name.clone(),
        references: parent.into_iter().chain(links).collect(),
        flags: span.flags & 0xff,
        start_time: Some(Time::from_ns(span.start_ns)),
        duration: Some(Time::from_ns(span.duration_ns())),
        tags: render::span_tags(span, &group.scope).iter().map(|(n, v)| key_value(n, v)).collect(),
        logs: span
            .events
            .iter()
            .map(|event| Log {
                timestamp: Some(Time::from_ns(event.time_ns)),
                fields: render::log_fields(event).iter().map(|(n, v)| key_value(n, v)).collect(),
            })
            .collect(),
        process: Some(process(&group.resource)),
        process_id: String::new(),
        warnings: Vec::new(),
    }
}

fn process(resource: &Resource) -> Process {
    let rest = resource.attributes.iter().filter(|(n, _)| n != "service.name");
    Process {
        service_name: render::service_of(resource).to_owned(),
        tags: rest.map(|(n, v)| key_value(n, v)).collect(),
    }
}

fn key_value(key: &str, value: &AttributeValue) -> KeyValue {
    let key = key.to_owned();
    let of = |v_type: ValueType| KeyValue { v_type: v_type as i32, ..KeyValue::default() };
    match value {
        AttributeValue::Bool(b) => KeyValue { key, v_bool: *b, ..of(ValueType::Bool) },
        AttributeValue::Int(i) => KeyValue { key, v_int64: *i, ..of(ValueType::Int64) },
        AttributeValue::Double(d) => KeyValue { key, v_float64: *d, ..of(ValueType::Float64) },
        AttributeValue::Bytes(b) => KeyValue { key, v_binary: b.clone(), ..of(ValueType::Binary) },
        other => KeyValue { key, v_str: other.to_text(), ..of(ValueType::String) },
    }
}
