//! Spans: the store against a list.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt as _;
use rand::rngs::StdRng;
use trefoil_events::EventStore;
use trefoil_model::*;
use trefoil_runtime::sim::SimDisk;

use crate::support::*;

type Key = (TenantId, TraceId, SpanId, i64, u8);

/// Acknowledged spans; of a span that came twice the first.
#[derive(Default)]
struct Model {
    spans: BTreeMap<Key, (Resource, Scope, Span)>,
}

impl Model {
    fn add(&mut self, batch: &TraceBatch) {
        for group in &batch.groups {
            for span in &group.spans {
                let key = (batch.tenant, span.trace_id, span.span_id, span.start_ns, span.kind as u8);
                let value = (Resource::clone(&group.resource), Scope::clone(&group.scope), span.clone());
                self.spans.entry(key).or_insert(value);
            }
        }
    }

    fn trace(&self, tenant: TenantId, id: TraceId) -> Vec<Span> {
        let of_trace = self.spans.iter().filter(|(key, _)| (key.0, key.1) == (tenant, id));
        sorted(of_trace.map(|(_, (_, _, span))| span.clone()).collect())
    }

    fn find(&self, query: &SpanQuery) -> Vec<TraceId> {
        let mut latest: BTreeMap<TraceId, i64> = BTreeMap::new();
        for (key, (resource, scope, span)) in &self.spans {
            let has_tag = |(name, value): &(String, String)| {
                let all = span.attributes.iter().chain(&resource.attributes).chain(&scope.attributes);
                let all = all.chain(span.events.iter().flat_map(|e| &e.attributes));
                let error = span.status_code == StatusCode::Error && name == "error" && value == "true";
                let kind = name == "span.kind" && value == span.kind.as_str();
                error || kind || all.into_iter().any(|(n, v)| n == name && v.to_text() == *value)
            };
            if key.0 == query.tenant
                && query.service.as_deref().is_none_or(|s| resource.service_name() == s)
                && query.operation.as_deref().is_none_or(|o| span.name == o)
                && query.min_duration_ns.is_none_or(|d| span.duration_ns() >= d)
                && query.max_duration_ns.is_none_or(|d| span.duration_ns() <= d)
                && query.range.is_none_or(|r| r.contains(span.start_ns))
                && query.tags.iter().all(has_tag)
            {
                let start = latest.entry(span.trace_id).or_insert(i64::MIN);
                *start = (*start).max(span.start_ns);
            }
        }
        let mut found: Vec<_> = latest.into_iter().map(|(id, t)| (std::cmp::Reverse(t), id)).collect();
        found.sort();
        found.truncate(query.limit);
        found.into_iter().map(|(_, id)| id).collect()
    }
}

fn sorted(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|s| (s.start_ns, s.span_id, s.kind as u8));
    spans
}

fn flat(trace: &StoredTrace) -> Vec<Span> {
    sorted(trace.groups.iter().flat_map(|g| g.spans.clone()).collect())
}

fn random_query(rng: &mut StdRng, model: &Model) -> SpanQuery {
    let some: Vec<_> = model.spans.values().collect();
    let mut query =
        SpanQuery { tenant: TenantId(rng.random_range(0..2)), limit: rng.random_range(1..12), ..SpanQuery::default() };
    if rng.random() {
        query.service = Some(["api", "db", "nowhere"][rng.random_range(0..3)].to_owned());
    }
    if rng.random() {
        query.operation = Some("SELECT".to_owned());
    }
    if rng.random() {
        query.min_duration_ns = Some(rng.random_range(0..3) * SECOND);
        query.max_duration_ns = Some(rng.random_range(2..5) * SECOND);
    }
    if rng.random() {
        let (a, b) = (time(rng), time(rng));
        query.range = Some(NanoRange::new(a.min(b), a.max(b) + 1));
    }
    match rng.random_range(0..5) {
        0 => query.tags.push(("error".to_owned(), "true".to_owned())),
        1 => query.tags.push(("span.kind".to_owned(), "server".to_owned())),
        2 | 3 if !some.is_empty() => {
            let (resource, _, span) = some[rng.random_range(0..some.len())];
            let all = span.attributes.iter().chain(&resource.attributes);
            let all: Vec<_> = all.chain(span.events.iter().flat_map(|e| &e.attributes)).collect();
            query.tags.extend(all.first().map(|(n, v)| (n.clone(), v.to_text())));
        }
        _ => {}
    }
    query
}

fn check(store: &EventStore, model: &Model, rng: &mut StdRng, context: &str) {
    for _ in 0..6 {
        let (tenant, id) = (TenantId(rng.random_range(0..2)), trace_id(rng));
        let expected = model.trace(tenant, id);
        let found = store.trace(tenant, id, None, &Unlimited).unwrap();
        assert_eq!(found.as_ref().map(flat).unwrap_or_default(), expected, "{context}: trace {id}");
        if let Some(trace) = &found {
            let firsts: Vec<i64> =
                trace.groups.iter().map(|g| g.spans.iter().map(|s| s.start_ns).min().unwrap()).collect();
            assert!(firsts.is_sorted(), "{context}: groups {firsts:?}");
            let resource_of = |s: &Span| &model.spans[&(tenant, id, s.span_id, s.start_ns, s.kind as u8)].0;
            assert!(trace.groups.iter().all(|g| g.spans.iter().all(|s| resource_of(s) == &*g.resource)));
        }
        let query = random_query(rng, model);
        let found = store.find(&query, &Unlimited).unwrap();
        let ids: Vec<TraceId> = found.iter().map(|t| t.trace_id).collect();
        assert_eq!(ids, model.find(&query), "{context}: {query:?}");
        for trace in &found {
            assert_eq!(flat(trace), model.trace(query.tenant, trace.trace_id), "{context}: whole traces");
        }
    }
    let tenant = TenantId(1);
    let of_tenant = || model.spans.iter().filter(|(key, _)| key.0 == tenant).map(|(_, value)| value);
    let services: BTreeSet<&str> = of_tenant().map(|(r, ..)| r.service_name()).filter(|s| !s.is_empty()).collect();
    let found = store.services(tenant, NanoRange::ALL, &Unlimited).unwrap();
    assert_eq!(found, services.into_iter().collect::<Vec<_>>(), "{context}");
    let operations: BTreeSet<(&str, u8)> = of_tenant()
        .filter(|(r, ..)| r.service_name() == "api")
        .map(|(_, _, s)| (s.name.as_str(), s.kind as u8))
        .collect();
    let found = store.operations(tenant, "api", NanoRange::ALL, &Unlimited).unwrap();
    let found: BTreeSet<(&str, u8)> = found.iter().map(|(n, k)| (n.as_str(), *k as u8)).collect();
    assert_eq!(found, operations, "{context}");
}

#[test]
fn the_store_answers_as_a_list_does() {
    for seed in 0..20 {
        let mut rng = rng(seed);
        let (disk, runtime, mut model) = (SimDisk::new(), runtime(), Model::default());
        let mut store = open(&disk).unwrap();
        let mut last = None;
        for step in 0..40 {
            let context = format!("seed {seed}, step {step}");
            match rng.random_range(0..11) {
                0..6 => {
                    let batch = trace_batch(&mut rng);
                    let report = runtime.block_on(store.write_spans(batch.clone())).unwrap();
                    assert_eq!((report.accepted, report.rejected), (batch.span_count() as u64, 0), "{report:?}");
                    model.add(&batch);
                    last = Some(batch);
                }
                // A batch sent again.
                6 => {
                    if let Some(batch) = last.clone() {
                        runtime.block_on(store.write_spans(batch)).unwrap();
                    }
                }
                7 | 8 => runtime.block_on(store.flush()).unwrap(),
                9 => {
                    store.merge_once().unwrap();
                }
                _ => {
                    if rng.random() {
                        runtime.block_on(store.close()).unwrap();
                    }
                    drop(store);
                    if rng.random() {
                        disk.crash(0);
                    }
                    store = open(&disk).unwrap();
                }
            }
            check(&store, &model, &mut rng, &context);
        }
    }
}
