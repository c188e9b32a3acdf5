//! Random traces: ids used twice, missing parents, cycles, lists, events, links, ends before starts.

use std::sync::Arc;

use rand::RngExt;
use rand::rngs::StdRng;
use trefoil_model::{
    AttributeValue, Attributes, Resource, Scope, Span, SpanEvent, SpanGroup, SpanId, SpanKind, SpanLink, StatusCode,
    StoredTrace, TraceId,
};

pub(crate) const SECOND_NS: i64 = 1_000_000_000;
pub(crate) const EPOCH_NS: i64 = 1_709_251_200 * SECOND_NS;

fn value(rng: &mut StdRng) -> AttributeValue {
    let text = |rng: &mut StdRng| AttributeValue::String(["x", "y", "xy"][rng.random_range(0..3)].to_owned());
    match rng.random_range(0..10) {
        0..=3 => AttributeValue::Int(rng.random_range(-2..6)),
        4 | 5 => text(rng),
        6 => AttributeValue::Double(f64::from(rng.random_range(-4..12)) / 2.0),
        7 => AttributeValue::Bool(rng.random_bool(0.5)),
        8 => {
            let numbers = rng.random_bool(0.5);
            let one = |rng: &mut StdRng| {
                if numbers { AttributeValue::Int(rng.random_range(0..4)) } else { text(rng) }
            };
            AttributeValue::Array((0..rng.random_range(0..4)).map(|_| one(rng)).collect())
        }
        _ => AttributeValue::Null,
    }
}

fn attributes(rng: &mut StdRng) -> Attributes {
    let mut out = Attributes::new();
    for name in ["a", "b", "c"] {
        if rng.random_bool(0.4) {
            out.push((name.to_owned(), value(rng)));
        }
    }
    out
}

fn span_id(n: u64) -> SpanId {
    SpanId((n + 1).to_be_bytes())
}

pub(crate) fn traces(rng: &mut StdRng) -> Vec<StoredTrace> {
    (0..rng.random_range(1..7)).map(|n| trace(rng, n)).collect()
}

fn trace(rng: &mut StdRng, n: u8) -> StoredTrace {
    let mut id = [0; 16];
    id[0] = n + 1;
    let trace_id = TraceId(id);
    let groups: Vec<(Arc<Resource>, Arc<Scope>)> = (0..rng.random_range(1..4))
        .map(|_| {
            let mut resource = attributes(rng);
            if rng.random_bool(0.9) {
                let name = ["s1", "s2", "s3"][rng.random_range(0..3)];
                resource.push(("service.name".to_owned(), AttributeValue::String(name.to_owned())));
            }
            let name = ["", "lib", "other"][rng.random_range(0..3)].to_owned();
            let scope = Scope { name, version: "1".to_owned(), attributes: attributes(rng) };
            (Arc::new(Resource { attributes: resource, schema_url: String::new() }), Arc::new(scope))
        })
        .collect();
    let mut out: Vec<SpanGroup> =
        groups.into_iter().map(|(resource, scope)| SpanGroup { resource, scope, spans: Vec::new() }).collect();
    let count = rng.random_range(1..9);
    for i in 0..count {
        // Every start differs, so that a span is known by it.
        let start_ns =
            EPOCH_NS + rng.random_range(0..60) * SECOND_NS + i64::from(n) * 100 + i64::try_from(i).expect("small");
        let parent = match rng.random_range(0..20) {
            0 => Some(rng.random_range(50..53)),
            1..=3 => Some(rng.random_range(0..count)),
            _ if i == 0 => None,
            4 => None,
            _ => Some(rng.random_range(0..i)),
        };
        let own = if rng.random_bool(0.1) { rng.random_range(0..count) } else { i };
        let at = rng.random_range(0..out.len());
        out[at].spans.push(Span {
            trace_id,
            span_id: span_id(own),
            parent_span_id: parent.map(span_id),
            trace_state: String::new(),
            flags: 0,
            name: ["n1", "n2", "n3"][rng.random_range(0..3)].to_owned(),
            kind: SpanKind::from_number(rng.random_range(0..6)),
            start_ns,
            end_ns: start_ns + rng.random_range(-1..12) * 250_000_000,
            attributes: attributes(rng),
            events: (0..rng.random_range(0..3))
                .map(|_| SpanEvent {
                    time_ns: start_ns + rng.random_range(0..4) * SECOND_NS,
                    name: ["e1", "e2"][rng.random_range(0..2)].to_owned(),
                    attributes: attributes(rng),
                    dropped_attributes: 0,
                })
                .collect(),
            links: (0..rng.random_range(0..2))
                .map(|_| SpanLink {
                    trace_id,
                    span_id: span_id(rng.random_range(0..9)),
                    trace_state: String::new(),
                    attributes: attributes(rng),
                })
                .collect(),
            status_code: StatusCode::from_number(rng.random_range(0..3)),
            status_message: ["", "boom"][rng.random_range(0..2)].to_owned(),
            dropped: [0; 3],
        });
    }
    out.retain(|g| !g.spans.is_empty());
    StoredTrace { trace_id, groups: out }
}
