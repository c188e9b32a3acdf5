//! Text and traces from outside never panic and never take long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use trefoil_model::{
    BudgetError, NanoRange, QueryBudget, SpanGroup, SpanId, SpanKind, SpanQuery, StoreError, StoredTrace, TenantId,
    TraceId, TraceReader, Unlimited,
};
use trefoil_traceql::{
    Error, MetricsInstantQuery, SearchAnswer, SearchQuery, TracesReader, metrics_instant, parse, search, testing,
};

const SEEDS: &[&str] = &[
    r#"{ span."a b".c >= 1.5e3 && !(.x = nil || name =~ "a.*") } >> { duration > 1h30m } | by(resource.a) | count() > 2"#,
    r"({ status = error } | rate() by (name, span.a)) / ({ } | count_over_time()) > 0.5 with (exemplars=10, a=`b`)",
    r"{ kind = server } &~ ({ } | avg(duration) < -5ms | coalesce()) | select(event:name, .z) | { -span.a ^ 2 % 3 != 4 }",
    r"{ } | compare({ event.x = 1 }, 5, 1, 2) // end",
    r"{ } | quantile_over_time(duration, .5, 0.99) | topk(3) | bottomk(1)",
];

#[test]
fn mutated_queries() {
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..6000 {
        let mut text: Vec<char> = SEEDS[rng.random_range(0..SEEDS.len())].chars().collect();
        for _ in 0..rng.random_range(1..5) {
            let at = rng.random_range(0..text.len());
            match rng.random_range(0..4) {
                0 => drop(text.remove(at)),
                1 => text.insert(at, ['{', ')', '"', '.', '\\', 'é', '0', '|'][rng.random_range(0..8)]),
                2 => text.truncate(at.max(1)),
                _ => text[at] = char::from(rng.random_range(32u8..127)),
            }
            if text.is_empty() {
                text.push('{');
            }
        }
        let text: String = text.into_iter().collect();
        if let Ok(query) = parse(&text) {
            let printed = query.to_string();
            let again = parse(&printed).unwrap_or_else(|e| panic!("{text} as {printed}: {e}"));
            assert_eq!(again.to_string(), printed, "{text}");
        }
    }
}

#[test]
fn deep_and_long_queries_are_refused() {
    for (open, middle, close, n) in [("(", "{}", ")", 50_000), ("{(", "true", ")}", 1), ("{ ", "true", " }", 1)] {
        let text = format!("{}{middle}{}", open.repeat(n), close.repeat(n));
        assert_eq!(parse(&text).is_ok(), n == 1, "{open}");
    }
    let nested = |open: &str, close: &str| format!("{{ {}true{} }}", open.repeat(20_000), close.repeat(20_000));
    let long = |part: &str| format!("{{ {}true }}", format!("true {part} ").repeat(10_000));
    let cases = [
        nested("(", ")"),
        nested("!", ""),
        format!("{{ {}1 > 0 }}", "-".repeat(60_000)),
        long("&&"),
        format!("{{ {}1 > 0 }}", "1 ^ ".repeat(20_000)),
        format!("{{}}{}", " > {}".repeat(20_000)),
        format!("{{}}{}", " | {}".repeat(20_000)),
        format!("{{}} | rate(){}", " | topk(1)".repeat(10_000)),
        format!("({{}} | rate()){}", " + 1".repeat(20_000)),
        "{".repeat(200_000),
    ];
    for text in cases {
        assert!(parse(&text).is_err(), "{}", &text[..40]);
    }
}

fn places(query: &str) -> (u32, u32) {
    match parse(query) {
        Err(Error::Refused { position, .. }) => (position.line, position.col),
        other => panic!("{query}: {other:?}"),
    }
}

#[test]
fn errors_name_their_place() {
    for (query, place) in [
        ("{ status = error", (1, 17)),
        ("{ true }\n  | count()", (2, 12)),
        ("{ name = 3 }", (1, 10)),
        ("{ .a =~ \"(\" }", (1, 9)),
        ("{ 'x' }", (1, 3)),
        ("{ true }\n| by(1)", (2, 6)),
        ("{ parent.a = 1 }", (1, 3)),
        ("{} | rate() | topk(0)", (1, 13)),
    ] {
        assert_eq!(places(query), place, "{query}");
    }
}

fn run(query: &str, reader: &TracesReader) -> SearchAnswer {
    let request = SearchQuery { query, range: NanoRange::ALL, limit: 0, spans_per_set: 3, tenant: TenantId(0) };
    search(&request, reader, &Unlimited).unwrap_or_else(|e| panic!("{query}: {e}"))
}

fn matched(query: &str, reader: &TracesReader) -> usize {
    run(query, reader).traces.iter().flat_map(|t| &t.sets).map(|s| s.matched).sum()
}

/// A trace of so many spans whose parents a function gives.
fn chain(count: u64, parent: impl Fn(u64) -> Option<u64>) -> TracesReader {
    let data = serde_json::json!({"traces": [{"id": "a1", "spans": [{"id": "b1", "service": "s", "name": "n", "start": "1s", "dur": "1s"}]}]});
    let mut reader = testing::reader(&data).expect("a data set");
    let group = reader.traces[0].groups[0].clone();
    let model = group.spans[0].clone();
    let id = |n: u64| SpanId((n + 1).to_be_bytes());
    let spans = (0..count)
        .map(|n| {
            let mut span = model.clone();
            (span.span_id, span.parent_span_id) = (id(n), parent(n).map(id));
            span.start_ns += n as i64;
            span
        })
        .collect();
    let group = SpanGroup { resource: Arc::clone(&group.resource), scope: Arc::clone(&group.scope), spans };
    reader.traces = vec![StoredTrace { trace_id: reader.traces[0].trace_id, groups: vec![group] }];
    reader
}

#[test]
fn large_traces_of_odd_shapes() {
    let many = 100_000;
    let line = chain(many, |n| n.checked_sub(1));
    assert_eq!(matched("{ nestedSetParent < 0 } >> { }", &line), many as usize - 1);
    assert_eq!(matched("{ span:childCount = 0 } << { }", &line), many as usize - 1);
    let ring = chain(many, |n| Some((n + 1) % many));
    assert_eq!(matched("{ } >> { }", &ring), 0, "a ring has no parents");
    assert_eq!(matched("{ } !<< { }", &ring), many as usize);
    assert_eq!(matched("{ nestedSetLeft = 0 && rootName = \"\" }", &ring), many as usize);
    let own = chain(1000, Some);
    assert_eq!(matched("{ } > { } || { } ~ { }", &own), 0);
    let star = chain(many, |n| (n > 0).then_some(0));
    assert_eq!(matched("{ } ~ { }", &star), many as usize - 1);
    assert_eq!(matched("{ } &> { }", &star), many as usize);
    let twice = chain(many, |n| Some(n % 2));
    assert_eq!(matched("{ } > { }", &twice), many as usize - 2);
}

/// A store that charges for what it finds, and a budget that has no room for many traces at once.
struct Charging(TracesReader);

impl TraceReader for Charging {
    fn trace(
        &self,
        tenant: TenantId,
        id: TraceId,
        range: Option<NanoRange>,
        budget: &dyn QueryBudget,
    ) -> Result<Option<StoredTrace>, StoreError> {
        self.0.trace(tenant, id, range, budget)
    }

    fn find(&self, query: &SpanQuery, budget: &dyn QueryBudget) -> Result<Vec<StoredTrace>, StoreError> {
        let found = self.0.find(query, budget)?;
        for trace in &found {
            budget.charge_bytes(trace.groups.iter().flat_map(|g| &g.spans).map(|s| s.heap_bytes() as u64).sum())?;
        }
        Ok(found)
    }

    fn services(&self, _: TenantId, _: NanoRange, _: &dyn QueryBudget) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn operations(
        &self,
        _: TenantId,
        _: &str,
        _: NanoRange,
        _: &dyn QueryBudget,
    ) -> Result<Vec<(String, SpanKind)>, StoreError> {
        Ok(Vec::new())
    }
}

#[derive(Default)]
struct Small(AtomicU64);

impl Small {
    const BYTES: u64 = 60_000;
}

impl QueryBudget for Small {
    fn check(&self) -> Result<(), BudgetError> {
        Ok(())
    }
    fn charge_samples(&self, _: u64) -> Result<(), BudgetError> {
        Ok(())
    }
    fn release_samples(&self, _: u64) {}
    fn charge_series(&self, _: u64) -> Result<(), BudgetError> {
        Ok(())
    }
    fn charge_bytes(&self, n: u64) -> Result<(), BudgetError> {
        if self.0.load(Ordering::Relaxed) + n > Self::BYTES {
            return Err(BudgetError::Bytes(Self::BYTES));
        }
        self.0.fetch_add(n, Ordering::Relaxed);
        Ok(())
    }
    fn release_bytes(&self, n: u64) {
        let before = self.0.fetch_sub(n, Ordering::Relaxed);
        assert!(before >= n, "more given back than taken");
    }
}

#[test]
fn many_traces_pass_through_a_small_budget() {
    let one = |n: u64| {
        let data = serde_json::json!({"traces": [{"id": format!("{:04x}", n + 1), "spans": [
            {"id": "b1", "service": "s", "name": "n", "start": format!("{}s", n + 1), "dur": "1s"}]}]});
        testing::reader(&data).expect("a data set").traces.remove(0)
    };
    let reader = Charging(TracesReader { traces: (0..2000).map(one).collect() });
    let whole: usize = reader.0.traces.iter().flat_map(|t| &t.groups[0].spans).map(|s| s.heap_bytes()).sum();
    assert!(whole as u64 > 5 * Small::BYTES, "{whole}");
    let budget = Small::default();
    let (start_ns, end_ns) = (testing::EPOCH_NS, testing::EPOCH_NS + 3_000_000_000_000);
    let request = MetricsInstantQuery { query: "{ } | count_over_time()", start_ns, end_ns, tenant: TenantId(0) };
    let answer = metrics_instant(&request, &reader, &budget).expect("within the budget");
    assert_eq!(answer.series[0].values, [Some(2000.0)]);
    let held = budget.0.load(Ordering::Relaxed);
    assert!(held < 5000, "{held} bytes are held");
    // A trace that does not fit by itself is an error, not an endless search.
    let mut large = chain(10_000, |_| None);
    large.traces.extend(reader.0.traces);
    let refused = metrics_instant(&request, &Charging(large), &Small::default());
    assert!(matches!(refused, Err(Error::Store(StoreError::Budget(BudgetError::Bytes(_))))));
}

#[test]
fn the_newest_come_first_and_the_limit_holds() {
    let one = |n: u64| {
        let data = serde_json::json!({"traces": [{"id": format!("{:04x}", n + 1), "spans": [
            {"id": "b1", "service": "s", "name": "n", "start": format!("{}s", n % 977), "dur": "1s", "attrs": {"n": n}},
            {"id": "b2", "parent": "b1", "service": "t", "name": "n", "start": "2000s", "dur": "1s"}]}]});
        testing::reader(&data).expect("a data set").traces.remove(0)
    };
    let reader = TracesReader { traces: (0..1500).map(one).collect() };
    let ask = |query: &str, limit: usize| {
        let request = SearchQuery { query, range: NanoRange::ALL, limit, spans_per_set: 1, tenant: TenantId(0) };
        search(&request, &reader, &Unlimited).expect("a result")
    };
    // Every trace has a later span that is not asked for, and the store is told of the service.
    let all = ask("{ resource.service.name = \"s\" }", 0);
    assert_eq!(all.traces.len(), 1500);
    let starts: Vec<i64> = all.traces.iter().map(|t| t.sets[0].spans[0].start_ns).collect();
    assert!(starts.is_sorted_by(|a, b| a >= b));
    let few = ask("{ resource.service.name = \"s\" }", 20);
    assert_eq!(few.traces, all.traces[..20]);
    assert!(few.inspected_traces < 100, "{}", few.inspected_traces);
    // Without a hint for the store all traces are looked at, and the result is the same.
    let odd = ask("{ span.n >= 0 }", 20);
    let ids = |answer: &SearchAnswer| answer.traces.iter().map(|t| t.trace_id).collect::<Vec<_>>();
    assert_eq!(ids(&odd), ids(&few));
}
