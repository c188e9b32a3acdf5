//! Random events, and a store on a simulated disk.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use trefoil_events::{EventStore, EventStoreOptions, EventsError};
use trefoil_model::*;
use trefoil_runtime::{Accountant, Limits, SimClock, sim::SimDisk};

/// 2026-01-10T00:00:00Z.
pub(crate) const NOW_MS: i64 = 1_768_003_200_000;
pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const NOW: i64 = NOW_MS * 1_000_000;

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

pub(crate) fn options(disk: &SimDisk) -> EventStoreOptions {
    let clock = SimClock::new(NOW_MS);
    let mut options =
        EventStoreOptions::new(Path::new("/data/events"), Arc::new(disk.clone()), clock, Accountant::unlimited());
    // Small, so that few events make many blocks, slices and merges.
    options.block_bytes = 600;
    options.slice_bytes = 2500;
    options.merge.parts_min = 2;
    options.journal.group_window = Duration::ZERO;
    options.journal.segment_bytes = 16 << 10;
    options.limits = Arc::new(Limits { disk_free_floor_bytes: 0, ..Limits::default() });
    options
}

pub(crate) fn open(disk: &SimDisk) -> Result<EventStore, EventsError> {
    EventStore::open(options(disk))
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn pick<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    from[rng.random_range(0..from.len())]
}

fn hex(rng: &mut StdRng, len: usize) -> String {
    (0..len).map(|_| char::from(b"0123456789abcdef"[rng.random_range(0..16)])).collect()
}

/// A token; few of each sort, so that they come again.
fn token(rng: &mut StdRng) -> String {
    match rng.random_range(0..18) {
        0..5 => pick(rng, &["error", "Connection", "refused", "GET", "a_b", "deadbeef", "add", "user7"]).to_owned(),
        5..7 => pick(rng, &["größe", "ошибка", "日本語", "é", "naïve\u{301}x"]).to_owned(),
        7 => rng.random_range(0..200_000_000u64).to_string(),
        8 => hex(rng, 32),
        9 => hex(rng, 8).to_uppercase(),
        14 => {
            let (a, b, c) = (hex(rng, 8), hex(rng, 4), hex(rng, 12));
            format!("{a}-{b}-4{}-{b}-{c}", &b[..3])
        }
        15 => "07070707070707070707070707070702".to_owned(),
        16 => format!("2026-01-10T00:00:{:02}.000Z", rng.random_range(0..40)),
        17 => hex(rng, 16),
        10 => format!("req{}x{}y{}zq{}", hex(rng, 5), hex(rng, 4), rng.random_range(0..99), hex(rng, 6)),
        11 => "long_".repeat(rng.random_range(12..40)) + &hex(rng, 4),
        12 => "ü".repeat(rng.random_range(30..80)),
        _ => format!("x{}", hex(rng, 15)),
    }
}

pub(crate) fn line(rng: &mut StdRng) -> String {
    let mut out = String::new();
    for _ in 0..rng.random_range(0..7) {
        out.push_str(&token(rng));
        out.push_str(pick(rng, &[" ", " ", "-", "=", ": ", "/", "\"", "…", "\n", "", "0"]));
    }
    out
}

pub(crate) fn value(rng: &mut StdRng, depth: u32) -> AttributeValue {
    match rng.random_range(0..if depth > 2 { 6 } else { 9 }) {
        0 => AttributeValue::Null,
        1 => AttributeValue::Bool(rng.random()),
        2 => AttributeValue::Int(rng.random_range(-3..1000)),
        3 => AttributeValue::Double(f64::from(rng.random_range(0..100)) / 8.0),
        4 => AttributeValue::Bytes(vec![1, 2, rng.random()]),
        5 | 6 => AttributeValue::String(if rng.random() { token(rng) } else { line(rng) }),
        7 => AttributeValue::Array((0..rng.random_range(0..3)).map(|_| value(rng, depth + 1)).collect()),
        _ => AttributeValue::Map(attributes(rng, depth + 1)),
    }
}

pub(crate) fn attributes(rng: &mut StdRng, depth: u32) -> Attributes {
    (0..rng.random_range(0..3))
        .map(|_| (pick(rng, &["k", "http.method", "a b", "user_id", "ü"]).to_owned(), value(rng, depth)))
        .collect()
}

pub(crate) fn time(rng: &mut StdRng) -> i64 {
    // Three days, few distinct seconds, so that times tie and midnight is crossed.
    let day = rng.random_range(0..3) * 86_400 * SECOND;
    NOW - day - rng.random_range(-20..40) * SECOND
}

pub(crate) fn stream(rng: &mut StdRng) -> Labels {
    let service = pick(rng, &["api", "db", "web"]);
    match rng.random_range(0..4) {
        0 => Labels::empty(),
        1 => Labels::from_pairs([("service_name", service)]),
        _ => Labels::from_pairs([("service.name", service), ("env", pick(rng, &["prod", "dev"]))]),
    }
}

pub(crate) fn log(rng: &mut StdRng) -> LogRecord {
    let time_ns = time(rng);
    LogRecord {
        time_ns,
        observed_ns: if rng.random() { 0 } else { time_ns + rng.random_range(-5..5) },
        severity_number: rng.random_range(0..25),
        severity_text: pick(rng, &["", "info", "ERROR"]).to_owned(),
        text: line(rng),
        attributes: attributes(rng, 0),
        trace_id: rng.random::<bool>().then(|| trace_id(rng)),
        span_id: rng.random::<bool>().then(|| SpanId([rng.random_range(1..4); 8])),
    }
}

pub(crate) fn trace_id(rng: &mut StdRng) -> TraceId {
    let mut id = [7; 16];
    id[rng.random_range(0..16)] = rng.random_range(1..4);
    TraceId(id)
}

pub(crate) fn log_batch(rng: &mut StdRng) -> LogBatch {
    let groups = (0..rng.random_range(1..4))
        .map(|_| LogGroup {
            stream: stream(rng),
            shared: Arc::new(attributes(rng, 0)),
            records: (0..rng.random_range(0..6)).map(|_| log(rng)).collect(),
        })
        .collect();
    LogBatch { tenant: TenantId(rng.random_range(0..2)), groups }
}

pub(crate) fn span(rng: &mut StdRng) -> Span {
    let start_ns = time(rng);
    Span {
        trace_id: trace_id(rng),
        span_id: SpanId([rng.random_range(1..9); 8]),
        parent_span_id: rng.random::<bool>().then(|| SpanId([rng.random_range(1..9); 8])),
        trace_state: pick(rng, &["", "a=b"]).to_owned(),
        flags: rng.random_range(0..512),
        name: pick(rng, &["GET /", "SELECT", ""]).to_owned(),
        kind: SpanKind::from_number(rng.random_range(0..6)),
        start_ns,
        end_ns: start_ns + rng.random_range(0..5) * SECOND,
        attributes: attributes(rng, 0),
        events: (0..rng.random_range(0..2))
            .map(|_| SpanEvent {
                time_ns: start_ns + 1,
                name: token(rng),
                attributes: attributes(rng, 0),
                dropped_attributes: rng.random_range(0..2),
            })
            .collect(),
        links: (0..rng.random_range(0..2))
            .map(|_| SpanLink {
                trace_id: trace_id(rng),
                span_id: SpanId([1; 8]),
                trace_state: String::new(),
                attributes: attributes(rng, 0),
            })
            .collect(),
        status_code: StatusCode::from_number(rng.random_range(0..3)),
        status_message: pick(rng, &["", "bad"]).to_owned(),
        dropped: [rng.random_range(0..2), 0, 1],
    }
}

pub(crate) fn trace_batch(rng: &mut StdRng) -> TraceBatch {
    let groups = (0..rng.random_range(1..4))
        .map(|_| {
            let mut resource = attributes(rng, 0);
            if rng.random() {
                let name = AttributeValue::String(pick(rng, &["api", "db"]).to_owned());
                resource.insert(0, ("service.name".to_owned(), name));
            }
            SpanGroup {
                resource: Arc::new(Resource { attributes: resource, schema_url: String::new() }),
                scope: Arc::new(Scope { name: pick(rng, &["", "lib"]).to_owned(), ..Scope::default() }),
                spans: (0..rng.random_range(0..6)).map(|_| span(rng)).collect(),
            }
        })
        .collect();
    TraceBatch { tenant: TenantId(rng.random_range(0..2)), groups }
}

/// A log record with its stream and the attributes of its group.
pub(crate) type Logged = (Labels, Attributes, LogRecord);

pub(crate) fn everything(tenant: TenantId, direction: Direction) -> LogQuery {
    LogQuery { direction, ..LogQuery::new(tenant, NanoRange::ALL, Vec::new()) }
}

pub(crate) fn scan(store: &EventStore, query: &LogQuery, limit: usize) -> Vec<Logged> {
    let mut out = Vec::new();
    store
        .scan(query, &Unlimited, &mut |entry| {
            out.push((entry.stream.clone(), entry.shared.clone(), entry.record.clone()));
            if out.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    out
}
