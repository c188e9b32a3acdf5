//! What a search tells on its way is the beginning of its answer.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use trefoil_model::{
    NanoRange, Span, SpanGroup, SpanId, SpanKind, StatusCode, StoredTrace, TenantId, TraceId, Unlimited,
};
use trefoil_traceql::{SearchQuery, TracesReader, search, search_telling};

fn span(trace: u8, id: u8, rng: &mut StdRng) -> Span {
    let start_ns = rng.random_range(1..60);
    Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([id; 8]),
        parent_span_id: (id > 1).then(|| SpanId([rng.random_range(1..id); 8])),
        trace_state: String::new(),
        flags: 0,
        name: ["a", "b", "c"][rng.random_range(0..3)].to_owned(),
        kind: SpanKind::Internal,
        start_ns,
        end_ns: start_ns + rng.random_range(0..9),
        attributes: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
        status_code: StatusCode::Unset,
        status_message: String::new(),
        dropped: [0; 3],
    }
}

#[test]
fn told_traces_are_the_first_of_the_answer() {
    let mut rng = StdRng::seed_from_u64(11);
    let mut told_at_all = 0;
    for _ in 0..200 {
        let traces: Vec<StoredTrace> = (1..=rng.random_range(1..120_u8))
            .map(|t| {
                let spans = (1..=rng.random_range(1..5_u8)).map(|id| span(t, id, &mut rng)).collect();
                let group = SpanGroup { spans, resource: Arc::default(), scope: Arc::default() };
                StoredTrace { trace_id: TraceId([t; 16]), groups: vec![group] }
            })
            .collect();
        let reader = TracesReader { traces };
        for text in ["{}", "{ name = `a` }", "{ name = `a` } >> { name = `b` }", "{} | count() > 2"] {
            let limit = [0, 1, 5, 20][rng.random_range(0..4)];
            let range = NanoRange { start_ns: rng.random_range(0..20), end_ns: rng.random_range(30..70) };
            let query = SearchQuery { query: text, range, limit, spans_per_set: 3, tenant: TenantId::default() };
            let mut told = Vec::new();
            let answer = search_telling(&query, &reader, &Unlimited, &mut |progress| {
                told.extend(progress.settled.into_iter().cloned());
            })
            .unwrap();
            assert_eq!(answer, search(&query, &reader, &Unlimited).unwrap(), "{text}");
            assert!(answer.traces.starts_with(&told), "{text} limit {limit} {range:?}");
            told_at_all += told.len();
        }
    }
    assert!(told_at_all > 1000, "{told_at_all}");
}
