//! How many bytes a span has in OTLP's protobuf, without writing it.

use trefoil_model::{AttributeValue, Attributes, Span};

/// Bytes of a number of variable length.
fn varint(n: u64) -> usize {
    (64 - (n | 1).leading_zeros() as usize).div_ceil(7)
}

/// Bytes of a field that has a length, with a tag of one byte (two from the 16th field on). Empty ones are left out.
fn bytes(len: usize) -> usize {
    if len == 0 { 0 } else { message(len) }
}

/// The same of a message, which is there when it is empty too.
fn message(len: usize) -> usize {
    1 + varint(len as u64) + len
}

fn count(n: u64) -> usize {
    if n == 0 { 0 } else { 1 + varint(n) }
}

fn value(v: &AttributeValue) -> usize {
    match v {
        AttributeValue::Null => 0,
        AttributeValue::String(s) => message(s.len()),
        AttributeValue::Bool(_) => 2,
        AttributeValue::Int(n) => 1 + varint(*n as u64),
        AttributeValue::Double(_) => 9,
        AttributeValue::Bytes(b) => message(b.len()),
        AttributeValue::Array(items) => message(items.iter().map(|item| message(value(item))).sum()),
        AttributeValue::Map(map) => message(attributes(map)),
    }
}

fn attributes(all: &Attributes) -> usize {
    all.iter().map(|(name, v)| message(bytes(name.len()) + message(value(v)))).sum()
}

/// The length of the message `opentelemetry.proto.trace.v1.Span`.
pub(crate) fn otlp_size(span: &Span) -> usize {
    let fixed = 18 + 10 + span.parent_span_id.map_or(0, |_| 10);
    let time = |ns: i64| if ns == 0 { 0 } else { 9 };
    let events = span.events.iter().map(|event| {
        let inner = time(event.time_ns)
            + bytes(event.name.len())
            + attributes(&event.attributes)
            + count(event.dropped_attributes.into());
        message(inner)
    });
    let links =
        span.links.iter().map(|link| message(18 + 10 + bytes(link.trace_state.len()) + attributes(&link.attributes)));
    let status = bytes(span.status_message.len()) + count(span.status_code as u64);
    fixed
        + bytes(span.trace_state.len())
        + bytes(span.name.len())
        + count(span.kind as u64)
        + time(span.start_ns)
        + time(span.end_ns)
        + attributes(&span.attributes)
        + events.sum::<usize>()
        + links.sum::<usize>()
        + span.dropped.iter().map(|n| count(u64::from(*n))).sum::<usize>()
        + bytes(status)
        // The tag of flags has two bytes.
        + if span.flags == 0 { 0 } else { 6 }
}
