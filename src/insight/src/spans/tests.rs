//! The size of spans, against the encoder of OTLP.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{Span as OtlpSpan, Status};
use prost::Message;
use trefoil_model::{AttributeValue, Attributes, Span, SpanEvent, SpanId, SpanKind, SpanLink, StatusCode, TraceId};

use super::otlp_size::otlp_size;

fn value(v: &AttributeValue) -> AnyValue {
    let value = match v {
        AttributeValue::Null => None,
        AttributeValue::String(s) => Some(Value::StringValue(s.clone())),
        AttributeValue::Bool(b) => Some(Value::BoolValue(*b)),
        AttributeValue::Int(n) => Some(Value::IntValue(*n)),
        AttributeValue::Double(d) => Some(Value::DoubleValue(*d)),
        AttributeValue::Bytes(b) => Some(Value::BytesValue(b.clone())),
        AttributeValue::Array(items) => {
            Some(Value::ArrayValue(ArrayValue { values: items.iter().map(value).collect() }))
        }
        AttributeValue::Map(map) => Some(Value::KvlistValue(KeyValueList { values: pairs(map) })),
    };
    AnyValue { value }
}

fn pairs(attributes: &Attributes) -> Vec<KeyValue> {
    let pair = |(name, v): &(String, AttributeValue)| KeyValue {
        key: name.clone(),
        value: Some(value(v)),
        ..KeyValue::default()
    };
    attributes.iter().map(pair).collect()
}

fn otlp(span: &Span) -> OtlpSpan {
    let has_status = span.status_code != StatusCode::Unset || !span.status_message.is_empty();
    OtlpSpan {
        trace_id: span.trace_id.0.to_vec(),
        span_id: span.span_id.0.to_vec(),
        trace_state: span.trace_state.clone(),
        parent_span_id: span.parent_span_id.map_or_else(Vec::new, |id| id.0.to_vec()),
        flags: span.flags,
        name: span.name.clone(),
        kind: span.kind as i32,
        start_time_unix_nano: span.start_ns as u64,
        end_time_unix_nano: span.end_ns as u64,
        attributes: pairs(&span.attributes),
        dropped_attributes_count: span.dropped[0],
        events: span
            .events
            .iter()
            .map(|e| Event {
                time_unix_nano: e.time_ns as u64,
                name: e.name.clone(),
                attributes: pairs(&e.attributes),
                dropped_attributes_count: e.dropped_attributes,
            })
            .collect(),
        dropped_events_count: span.dropped[1],
        links: span
            .links
            .iter()
            .map(|l| Link {
                trace_id: l.trace_id.0.to_vec(),
                span_id: l.span_id.0.to_vec(),
                trace_state: l.trace_state.clone(),
                attributes: pairs(&l.attributes),
                ..Link::default()
            })
            .collect(),
        dropped_links_count: span.dropped[2],
        status: has_status.then(|| Status { message: span.status_message.clone(), code: span.status_code as i32 }),
    }
}

#[test]
fn sizes_are_those_of_the_encoder() {
    let text = |n: usize| AttributeValue::String("x".repeat(n));
    let mut span = Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([2; 8]),
        parent_span_id: None,
        trace_state: String::new(),
        flags: 0,
        name: String::new(),
        kind: SpanKind::Unspecified,
        start_ns: 0,
        end_ns: 0,
        attributes: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
        status_code: StatusCode::Unset,
        status_message: String::new(),
        dropped: [0; 3],
    };
    assert_eq!(otlp_size(&span), otlp(&span).encoded_len());
    span.parent_span_id = Some(SpanId([3; 8]));
    (span.start_ns, span.end_ns, span.kind, span.status_code) = (5, 1 << 60, SpanKind::Client, StatusCode::Error);
    (span.name, span.flags, span.trace_state) = ("GET /".to_owned(), 257, "a=b".to_owned());
    span.dropped = [1, 200, 100_000];
    for n in [0, 1, 120, 127, 128, 16_380, 16_384] {
        span.attributes.push((format!("k{n}"), text(n)));
        span.status_message = "y".repeat(n);
        assert_eq!(otlp_size(&span), otlp(&span).encoded_len(), "{n}");
    }
    let nested = vec![("a".to_owned(), AttributeValue::Array(vec![text(3), AttributeValue::Null]))];
    span.attributes.extend([
        ("null".to_owned(), AttributeValue::Null),
        ("bool".to_owned(), AttributeValue::Bool(false)),
        ("int".to_owned(), AttributeValue::Int(-1)),
        ("double".to_owned(), AttributeValue::Double(0.0)),
        ("bytes".to_owned(), AttributeValue::Bytes(vec![0; 300])),
        ("map".to_owned(), AttributeValue::Map(nested)),
        (String::new(), AttributeValue::Int(7)),
    ]);
    let attributes = vec![("k".to_owned(), text(9))];
    span.events.push(SpanEvent {
        time_ns: 9,
        name: "e".to_owned(),
        attributes: attributes.clone(),
        dropped_attributes: 3,
    });
    span.links.push(SpanLink {
        trace_id: TraceId([4; 16]),
        span_id: SpanId([5; 8]),
        trace_state: "s".to_owned(),
        attributes,
    });
    assert_eq!(otlp_size(&span), otlp(&span).encoded_len());
}
