//! Random traces: any kind below any other, shared ids, links across traces, peers, errors, spans sent twice.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use trefoil_model::{
    AttributeValue, Attributes, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, SpanLink, StatusCode, TenantId,
    TraceBatch, TraceId,
};

pub(crate) const EPOCH_NS: i64 = 1_700_000_000_000_000_000;
const SERVICES: [&str; 7] = ["shop", "cart", "pay", "stock", "mail", "auth", ""];
const KINDS: [SpanKind; 6] = [
    SpanKind::Server,
    SpanKind::Client,
    SpanKind::Producer,
    SpanKind::Consumer,
    SpanKind::Internal,
    SpanKind::Unspecified,
];
const PEERS: [(&str, &str); 9] = [
    ("peer.service", "ledger"),
    ("peer.service", ""),
    ("db.system", "redis"),
    ("db.name", "orders"),
    ("db.namespace", "users"),
    ("server.address", "api.example.org"),
    ("net.peer.name", "10.0.0.9"),
    ("messaging.system", "kafka"),
    ("http.host", "cdn.example.org"),
];

/// A span with the service that sends it.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) service: &'static str,
    pub(crate) region: Option<i64>,
    pub(crate) span: Span,
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::String(value.to_owned())
}

/// The spans of one trace; links go to spans of `earlier`.
fn trace(rng: &mut StdRng, number: u64, earlier: &[Sent]) -> Vec<Sent> {
    let trace_id = TraceId::from_bytes(&rng.random::<[u8; 16]>()).unwrap();
    let mut out: Vec<Sent> = Vec::new();
    for n in 0..rng.random_range(1..10u64) {
        let parent = match rng.random_range(0..10) {
            0 => None,
            1 => SpanId::from_bytes(&rng.random::<u64>().to_be_bytes()),
            _ if out.is_empty() => None,
            _ => Some(out[rng.random_range(0..out.len())].span.span_id),
        };
        let kind = KINDS[rng.random_range(0..KINDS.len())];
        let mut span_id = SpanId::from_bytes(&(number << 8 | n | 1 << 60).to_be_bytes()).unwrap();
        let mut attributes = Attributes::new();
        let mut parent_span_id = parent;
        // A server that shares the id of its client.
        let client = out.iter().find(|s| s.span.kind == SpanKind::Client);
        if let Some(client) = client.filter(|_| kind == SpanKind::Server && rng.random_bool(0.2)) {
            (span_id, parent_span_id) = (client.span.span_id, client.span.parent_span_id);
            attributes.push(("zipkin.shared".to_owned(), AttributeValue::Bool(true)));
            if out.iter().any(|s| s.span.kind == SpanKind::Server && s.span.span_id == span_id) {
                continue;
            }
        }
        for (name, value) in PEERS {
            if rng.random_bool(0.07) {
                attributes.push((name.to_owned(), text(value)));
            }
        }
        let links = match kind {
            SpanKind::Consumer | SpanKind::Internal if !earlier.is_empty() => (0..rng.random_range(0..3))
                .map(|_| &earlier[rng.random_range(0..earlier.len())].span)
                .map(|s| SpanLink {
                    trace_id: s.trace_id,
                    span_id: s.span_id,
                    trace_state: String::new(),
                    attributes: Vec::new(),
                })
                .collect(),
            _ => Vec::new(),
        };
        let start_ns = EPOCH_NS + rng.random_range(0..1_000_000_000);
        let ns = match rng.random_range(0..4) {
            0 => 0,
            1 => 1_000_000 * rng.random_range(0..400),
            _ => rng.random_range(0..20_000_000_000),
        };
        let status_code = match rng.random_range(0..6) {
            0 => StatusCode::Error,
            1 => StatusCode::Ok,
            _ => StatusCode::Unset,
        };
        let span = Span {
            trace_id,
            span_id,
            parent_span_id,
            trace_state: String::new(),
            flags: 0,
            name: format!("op{}", rng.random_range(0..5)),
            kind,
            start_ns,
            end_ns: start_ns + ns,
            attributes,
            events: Vec::new(),
            links,
            status_code,
            status_message: String::new(),
            dropped: [0; 3],
        };
        let region = rng.random_bool(0.5).then(|| rng.random_range(0..3));
        out.push(Sent { service: SERVICES[rng.random_range(0..SERVICES.len())], region, span });
    }
    out
}

/// The spans of so many traces, in order of traces.
pub(crate) fn traces(seed: u64, count: u64) -> Vec<Sent> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut all: Vec<Sent> = Vec::new();
    for number in 0..count {
        let earlier = all.len().saturating_sub(200);
        let spans = trace(&mut rng, number + 1, &all[earlier..]);
        all.extend(spans);
    }
    all
}

/// All spans in batches, each once and a share of them once more, neighbours out of order.
pub(crate) fn batches(seed: u64, spans: &[Sent], size: usize, again: f64) -> Vec<TraceBatch> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut order: Vec<&Sent> = Vec::new();
    for chunk in spans.chunks(1000) {
        let mut chunk: Vec<&Sent> = chunk.iter().collect();
        let again: Vec<&Sent> = chunk.iter().filter(|_| rng.random_bool(again)).copied().collect();
        chunk.extend(again);
        chunk.shuffle(&mut rng);
        order.extend(chunk);
    }
    order.chunks(size).map(batch).collect()
}

fn batch(spans: &[&Sent]) -> TraceBatch {
    let group = |sent: &&Sent| {
        let mut attributes = Attributes::new();
        if !sent.service.is_empty() {
            attributes.push(("service.name".to_owned(), text(sent.service)));
        }
        if let Some(region) = sent.region {
            attributes.push(("cloud.region".to_owned(), AttributeValue::Int(region)));
        }
        let resource = Arc::new(Resource { attributes, schema_url: String::new() });
        SpanGroup { resource, scope: Arc::new(Scope::default()), spans: vec![sent.span.clone()] }
    };
    TraceBatch { tenant: TenantId(0), groups: spans.iter().map(group).collect() }
}
