//! Reading spans by what is wanted of them gives what reading everything gives.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use rand::RngExt as _;
use rand::rngs::StdRng;
use trefoil_events::EventStore;
use trefoil_model::value::find;
use trefoil_model::*;
use trefoil_runtime::sim::SimDisk;

use crate::support::*;

/// Everything that there is, whole.
fn everything_of(store: &EventStore) -> Vec<StoredTrace> {
    let query = SpanQuery { limit: usize::MAX, ..SpanQuery::default() };
    store.find(&query, &Unlimited).unwrap()
}

/// What may be asked, so that it can be asked of whole spans too.
struct Asked {
    query: SpanQuery,
    scope: Option<ConditionScope>,
    name: &'static str,
    texts: Vec<String>,
    is_negated: bool,
    names: Option<Vec<String>>,
    is_error: bool,
    is_root: bool,
    /// Length of the trace.
    longest: Option<i64>,
    without: [bool; 4],
}

impl Asked {
    fn random(rng: &mut StdRng, all: &[StoredTrace]) -> Self {
        let mut query = SpanQuery::default();
        if rng.random_bool(0.3) {
            query.service = Some(["api", "db", "", "nowhere"][rng.random_range(0..4)].to_owned());
        }
        if rng.random_bool(0.3) {
            query.operation = Some(["SELECT", "", "GET /"][rng.random_range(0..3)].to_owned());
        }
        if rng.random_bool(0.3) {
            query.min_duration_ns = Some(rng.random_range(-1..4) * SECOND);
            query.max_duration_ns = Some(rng.random_range(-1..6) * SECOND);
        }
        if rng.random_bool(0.5) {
            let (a, b) = (time(rng), time(rng));
            query.range = Some(NanoRange::new(a.min(b), a.max(b) + 1));
        }
        let scopes = [ConditionScope::Span, ConditionScope::Resource, ConditionScope::Any];
        let spans: Vec<(&SpanGroup, &Span)> =
            all.iter().flat_map(|t| &t.groups).flat_map(|g| g.spans.iter().map(move |s| (g, s))).collect();
        let mut texts = Vec::new();
        let name = ["k", "http.method", "a b", "user_id", "ü", "service.name"][rng.random_range(0..6)];
        for _ in 0..rng.random_range(1..3) {
            if spans.is_empty() {
                break;
            }
            let (group, span) = spans[rng.random_range(0..spans.len())];
            let places = span.attributes.iter().chain(&group.resource.attributes);
            let places = places.chain(span.events.iter().flat_map(|e| &e.attributes));
            let places = places.chain(span.links.iter().flat_map(|l| &l.attributes));
            texts.extend(places.filter(|(n, _)| n == name).map(|(_, v)| v.to_text()).find(|text| !text.is_empty()));
        }
        Self {
            query,
            scope: rng.random_bool(0.7).then(|| scopes[rng.random_range(0..3)]),
            name,
            texts,
            is_negated: rng.random_bool(0.2),
            names: rng
                .random_bool(0.6)
                .then(|| ["k", "ü"].iter().take(rng.random_range(0..3)).map(|n| (*n).to_owned()).collect()),
            is_error: rng.random_bool(0.2),
            is_root: rng.random_bool(0.2),
            longest: rng.random_bool(0.2).then(|| rng.random_range(0..90_000) * SECOND),
            without: [rng.random(), rng.random(), rng.random(), rng.random()],
        }
    }

    fn test(&self, value: &AttributeValue) -> bool {
        self.texts.contains(&value.to_text()) != self.is_negated
    }

    /// Whether a whole span satisfies everything.
    fn holds(&self, group: &SpanGroup, span: &Span) -> bool {
        let first = |attributes| self.test(find(attributes, self.name).unwrap_or(&AttributeValue::Null));
        let any = || {
            let all = [&span.attributes, &group.resource.attributes, &group.scope.attributes].into_iter();
            let all = all.chain(span.events.iter().map(|e| &e.attributes));
            let mut all = all.chain(span.links.iter().map(|l| &l.attributes)).flatten();
            all.any(|(n, v)| n == self.name && self.texts.contains(&v.to_text()))
        };
        trace_visit::may_match(&self.query, group.resource.service_name(), span)
            && (!self.is_error || span.status_code == StatusCode::Error)
            && (!self.is_root || span.parent_span_id.is_none())
            && match self.scope {
                None => true,
                Some(ConditionScope::Span) => first(&span.attributes),
                Some(ConditionScope::Resource) if self.name == "service.name" => {
                    self.test(&AttributeValue::String(group.resource.service_name().to_owned()))
                }
                Some(ConditionScope::Resource) => first(&group.resource.attributes),
                Some(ConditionScope::Any) => self.is_negated || self.texts.is_empty() || any(),
            }
    }

    /// A span with nothing but what is wanted.
    fn cut(&self, span: &Span) -> Span {
        let [_, events, links, messages] = self.without;
        let mut span = span.clone();
        if let Some(names) = &self.names {
            span.attributes.retain(|(n, _)| names.contains(n));
        }
        if events {
            span.events.clear();
        }
        if links {
            span.links.clear();
        }
        if messages {
            span.status_message.clear();
            span.trace_state.clear();
            (span.flags, span.dropped) = (0, [0; 3]);
        }
        span
    }
}

type Key = (TraceId, SpanId, i64, u8);

fn key(span: &Span) -> Key {
    (span.trace_id, span.span_id, span.start_ns, span.kind as u8)
}

/// Keeps what is delivered, as keys with name, status and the first values of the wanted attributes.
#[derive(Default)]
struct Kept(Vec<(Key, String, i64)>);

fn shown(asked: &Asked, group: (&Resource, &Scope), span: &Span) -> String {
    let wanted: Vec<String> = match &asked.names {
        Some(names) => names.clone(),
        None => span.attributes.iter().map(|(n, _)| n.clone()).collect(),
    };
    let mut values: Vec<String> = wanted.iter().map(|n| format!("{n}={:?}", find(&span.attributes, n))).collect();
    values.sort();
    values.dedup();
    let mut out =
        format!("{} {:?} {:?} {} {}", group.0.service_name(), span.status_code, values, span.name, group.1.name);
    if !asked.without[0] {
        out += &format!("{group:?}");
    }
    if !asked.without[1] {
        out += &format!("{:?}", span.events);
    }
    if !asked.without[3] {
        out += &format!("{:?} {:?}", span.status_message, span.flags);
    }
    out
}

struct Taking<'a>(&'a Asked, Kept);

impl SpanFold for Taking<'_> {
    fn rows(&mut self, rows: &SpanRows<'_>) -> ControlFlow<()> {
        for row in 0..rows.len() {
            let set = &rows.sets[rows.set_of[row] as usize];
            let id = rows.traces[rows.trace_of[row] as usize];
            let key = (id, rows.span_ids[row], rows.starts[row], set.span.kind as u8);
            let text = shown(self.0, (set.resource, set.scope), set.span);
            self.1.0.push((key, text, rows.ends[row]));
        }
        ControlFlow::Continue(())
    }
}

fn check(store: &EventStore, rng: &mut StdRng, context: &str) -> usize {
    let all = everything_of(store);
    let asked = Asked::random(rng, &all);
    let test = |value: &AttributeValue| asked.test(value);
    let name = |span: &Span| !asked.is_error || span.status_code == StatusCode::Error;
    let of_trace = |f: &TraceFacts<'_>| asked.longest.is_none_or(|longest| f.end_ns - f.start_ns <= longest);
    let any_of = if asked.is_negated { &[][..] } else { &asked.texts };
    let condition = asked.scope.map(|scope| SpanCondition { scope, name: asked.name, any_of, test: &test });
    let conditions: Vec<SpanCondition<'_>> = condition.into_iter().collect();
    let wants = SpanWants {
        attributes: asked.names.as_ref().map_or(SpanAttributeWants::All, |names| SpanAttributeWants::Names(names)),
        without_resources: asked.without[0],
        without_events: asked.without[1],
        without_links: asked.without[2],
        without_messages: asked.without[3],
        roots: false,
        conditions: &conditions,
        light: Some(&name),
        is_error: asked.is_error,
        is_root: asked.is_root,
        trace: asked.longest.is_some().then_some(&of_trace),
    };
    let spans = |trace: &StoredTrace| -> Vec<(SpanGroup, Span)> {
        let of = |g: &SpanGroup| -> Vec<(SpanGroup, Span)> {
            let empty = SpanGroup { spans: Vec::new(), ..g.clone() };
            g.spans.iter().map(|s| (empty.clone(), s.clone())).collect()
        };
        trace.groups.iter().flat_map(of).collect()
    };
    // By visits: all that must be found, whole, newest first.
    let mut must: BTreeMap<TraceId, i64> = BTreeMap::new();
    for trace in &all {
        let starts = spans(trace).into_iter().filter(|(g, s)| asked.holds(g, s)).map(|(_, s)| s.start_ns);
        let (first, last) = spans(trace)
            .iter()
            .fold((i64::MAX, i64::MIN), |(first, last), (_, s)| (first.min(s.start_ns), last.max(s.end_ns)));
        if asked.longest.is_some_and(|longest| last - first > longest) {
            continue;
        }
        must.extend(starts.max().map(|latest| (trace.trace_id, latest)));
    }
    let (mut seen, mut last) = (BTreeSet::new(), i64::MAX);
    let visit = store.visit_wanted(&asked.query, &wants, &Unlimited, &mut |trace, latest| {
        assert!(seen.insert(trace.trace_id), "{context}: twice");
        assert!(latest <= last, "{context}: order");
        last = latest;
        if let Some(known) = must.get(&trace.trace_id) {
            assert!(*known <= latest, "{context}: {known} after {latest}");
        }
        let whole = all.iter().find(|t| t.trace_id == trace.trace_id).expect("a trace of the store");
        let cut = |trace: &StoredTrace| -> BTreeMap<Key, String> {
            spans(trace)
                .iter()
                .map(|(g, s)| (key(s), format!("{:?} {:?}", g.resource.service_name(), asked.cut(s))))
                .collect()
        };
        assert_eq!(cut(trace), cut(whole), "{context}");
        ControlFlow::Continue(())
    });
    visit.unwrap();
    assert!(must.keys().all(|id| seen.contains(id)), "{context}: {:?} {:?}", asked.query, conditions);
    // By folds: each span once.
    let mut taking = Taking(&asked, Kept::default());
    store.fold_spans(&asked.query, &wants, &Unlimited, &mut taking).unwrap();
    let found: BTreeMap<Key, (String, i64)> =
        taking.1.0.iter().map(|(key, text, end)| (*key, (text.clone(), *end))).collect();
    assert_eq!(found.len(), taking.1.0.len(), "{context}: a span came twice");
    for (group, span) in all.iter().flat_map(spans) {
        let of = (&*group.resource, &*group.scope);
        match found.get(&key(&span)) {
            Some((text, end)) => {
                assert_eq!((text, *end), (&shown(&asked, of, &span), span.end_ns), "{context}");
            }
            None => assert!(!asked.holds(&group, &span), "{context}: {:?} {:?}: {span:?}", asked.query, conditions),
        }
    }
    must.len()
}

#[test]
fn what_is_wanted_is_what_a_full_scan_gives() {
    let mut found = 0;
    for seed in 0..25 {
        let mut rng = rng(1000 + seed);
        let (disk, runtime) = (SimDisk::new(), runtime());
        let mut options = options(&disk);
        options.block_bytes = [40, 150, 600][rng.random_range(0..3)];
        let store = EventStore::open(options).unwrap();
        let mut last: Option<TraceBatch> = None;
        for step in 0..25 {
            match rng.random_range(0..10) {
                0..6 => {
                    let batch = TraceBatch { tenant: TenantId(0), ..trace_batch(&mut rng) };
                    runtime.block_on(store.write_spans(batch.clone())).unwrap();
                    last = Some(batch);
                }
                6 => {
                    if let Some(batch) = last.clone() {
                        runtime.block_on(store.write_spans(batch)).unwrap();
                    }
                }
                7 | 8 => runtime.block_on(store.flush()).unwrap(),
                _ => drop(store.merge_once().unwrap()),
            }
            for _ in 0..4 {
                found += check(&store, &mut rng, &format!("seed {seed}, step {step}"));
            }
        }
    }
    assert!(found > 1000, "{found}");
}
