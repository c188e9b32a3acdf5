//! The same query over the event store, which is told what is looked at, and over a list of traces.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use trefoil_events::{EventStore, EventStoreOptions};
use trefoil_model::{
    EventWriter as _, NanoRange, SpanGroup, StoredTrace, TenantId, TraceBatch, TraceReader, Unlimited,
};
use trefoil_runtime::{Accountant, Limits, SimClock, sim::SimDisk};
use trefoil_traceql::{
    DifferAnswer, DifferQuery, MetricsAnswer, MetricsRangeQuery, SearchQuery, TagQuery, TracesReader, metrics_range,
    search, tag_names, tag_values, what_differs,
};

use crate::differential::{data, query};

const STORES: u64 = 60;
const QUERIES: usize = 25;

/// Queries that are answered from columns, and one that is not.
const METRICS: [&str; 5] = [
    "{ nestedSetParent < 0 && true } | rate() by (resource.service.name, span.a)",
    "{} | compare({ status = error }, 3)",
    "{ nestedSetParent < 0 } | compare({ kind = server && duration > 1s }, 100)",
    "{ duration < 5s } | compare({ span.a = 1 || resource.c != nil })",
    "{ rootServiceName = \"s1\" } | compare({ .b = 1 })",
];

/// What is selected, and from what, for what differs.
const DIFFERENCES: [(&str, &str, &str); 5] = [
    ("{}", "{ status = error }", ""),
    ("{ nestedSetParent < 0 }", "{ duration > 1s }", ""),
    ("{ duration > 100ms }", "{ resource.service.name = \"s1\" }", "{ resource.service.name = \"s2\" }"),
    ("{}", "{ span.a = 1 } >> { kind = server }", ""),
    ("{}", "{ status = error && trace:id != \"\" }", ""),
];

/// A store that got the spans in several batches, some of them twice, with parts in between.
fn stored(rng: &mut StdRng, traces: &[StoredTrace]) -> EventStore {
    let clock = SimClock::new(data::EPOCH_NS / 1_000_000 + 100_000);
    let disk = Arc::new(SimDisk::new());
    let mut options = EventStoreOptions::new(Path::new("/data/events"), disk, clock, Accountant::unlimited());
    options.retention_traces = None;
    options.block_bytes = [40, 400, 100_000][rng.random_range(0..3)];
    options.slice_bytes = [2000, 1_000_000][rng.random_range(0..2)];
    options.merge.parts_min = 2;
    options.journal.group_window = Duration::ZERO;
    options.limits = Arc::new(Limits { disk_free_floor_bytes: 0, ..Limits::default() });
    let store = EventStore::open(options).expect("an empty store");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let batches = rng.random_range(1..4);
    let of_batch = |traces: &[StoredTrace], rng: &mut StdRng, batch: usize| {
        let mut groups: Vec<SpanGroup> = traces.iter().flat_map(|t| t.groups.clone()).collect();
        groups.iter_mut().for_each(|g| {
            g.spans.retain(|s| s.start_ns.unsigned_abs() as usize / 7 % batches == batch || rng.random_bool(0.05));
        });
        groups.retain(|g| !g.spans.is_empty());
        TraceBatch { tenant: TenantId(0), groups }
    };
    for batch in 0..batches {
        let batch = of_batch(traces, rng, batch);
        runtime.block_on(store.write_spans(batch)).expect("a write");
        if rng.random_bool(0.6) {
            runtime.block_on(store.flush()).expect("a flush");
        }
    }
    if rng.random_bool(0.3) {
        while store.merge_once().expect("a merge") {}
    }
    store
}

/// Sums of floats depend on the order.
fn rounded(answer: &MetricsAnswer) -> String {
    let mut out = String::new();
    for series in &answer.series {
        let values: Vec<String> = series.values.iter().map(|v| format!("{:.6e}", v.unwrap_or(f64::NAN))).collect();
        let exemplars: Vec<_> = series.exemplars.iter().map(|e| (e.trace_id, e.span_id, e.time_ns)).collect();
        out += &format!("{:?} {values:?} {exemplars:?}\n", series.labels);
    }
    out
}

/// Attributes with their values in any order.
fn shown(answer: &DifferAnswer) -> BTreeSet<String> {
    answer.differences.iter().map(|d| format!("{d:?}")).collect()
}

fn answer(rng: &mut StdRng, text: &str, is_metrics: bool, reader: &dyn TraceReader) -> String {
    let tenant = TenantId(0);
    let start_ns = data::EPOCH_NS + rng.random_range(-20..30) * data::SECOND_NS;
    let range = match rng.random_range(0..2) {
        0 => NanoRange::ALL,
        _ => NanoRange::new(start_ns, start_ns + rng.random_range(1..40) * data::SECOND_NS),
    };
    if is_metrics {
        let end_ns = start_ns + rng.random_range(0..60) * data::SECOND_NS;
        let step_ns = rng.random_range(1..12) * data::SECOND_NS;
        let request = MetricsRangeQuery { query: text, start_ns, end_ns, step_ns, exemplars: 10, tenant };
        return metrics_range(&request, reader, &Unlimited).map_or_else(|e| e.to_string(), |a| rounded(&a));
    }
    let limit = if rng.random_bool(0.5) { 0 } else { rng.random_range(1..5) };
    let request = SearchQuery { query: text, range, limit, spans_per_set: 0, tenant };
    let found = search(&request, reader, &Unlimited);
    let tags = TagQuery { query: text, range, limit: 1000, tenant };
    let names = tag_names(&tags, reader, &Unlimited).map_err(|e| e.to_string());
    let values: Vec<_> =
        ["span.a", ".b", "resource.c", "event:name", "statusMessage", "kind", "span:id", "rootName", "rootServiceName"]
            .iter()
            .filter_map(|name| trefoil_traceql::parse_attribute(name))
            .map(|name| tag_values(&name, &tags, reader, &Unlimited).map_err(|e| e.to_string()))
            .collect();
    let found = found.map(|a| a.traces).map_err(|e| e.to_string());
    format!("{found:#?}\n{names:?}\n{values:?}")
}

#[test]
fn the_store_answers_as_a_list_does() {
    let mut failures = Vec::new();
    for seed in 0..STORES {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut traces = data::traces(&mut rng);
        // The store mends these.
        let spans = traces.iter_mut().flat_map(|t| &mut t.groups).flat_map(|g| &mut g.spans);
        spans.for_each(|span| span.end_ns = span.end_ns.max(span.start_ns));
        let store = stored(&mut rng, &traces);
        let list = TracesReader { traces };
        let mut answers = Vec::new();
        for (spans, selection, baseline) in DIFFERENCES {
            let (range, tenant) = (NanoRange::ALL, TenantId(0));
            let query = DifferQuery { spans, selection, baseline, range, baseline_range: range, values: 1000, tenant };
            let of = |reader: &dyn TraceReader| what_differs(&query, reader, &Unlimited).map_err(|e| e.to_string());
            let (got, want) = (of(&store), of(&list));
            if got != want {
                failures.push(format!("store {seed}, {selection} in {spans}\ngot  {got:?}\nwant {want:?}"));
            }
            answers.push(got.map(|answer| (answer.totals, shown(&answer))));
        }
        // The last is the first by whole traces.
        assert_eq!(answers[0], answers[4], "store {seed}");
        for case in 0..QUERIES {
            let is_metrics = rng.random_bool(0.5);
            let text = match rng.random_range(0..4) {
                0 if is_metrics => METRICS[rng.random_range(0..METRICS.len())].to_owned(),
                0 => "{ rootServiceName = \"s1\" && traceDuration > 3s }".to_owned(),
                _ if is_metrics => query::metrics(&mut rng),
                _ => query::search(&mut rng),
            };
            let seed = rng.random();
            let of = |reader: &dyn TraceReader| answer(&mut StdRng::seed_from_u64(seed), &text, is_metrics, reader);
            let (got, want) = (of(&store), of(&list));
            // Of errors only that there is one: which trace comes first may differ.
            if got != want {
                failures.push(format!("store {seed}, query {case}: {text}\ngot  {got}\nwant {want}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}:\n{}", failures.len(), failures[..failures.len().min(2)].join("\n"));
}
