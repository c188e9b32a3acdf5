//! The decisions of the sampler against a look at each whole trace.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use trefoil_insight::sampling::{AttributeTest, SamplingOptions, SamplingPolicy, TailSampler, share_of};
use trefoil_model::re2::Regex;
use trefoil_model::{
    AttributeValue, Resource, Span, StatusCode, TenantId, TraceBatch, TraceId, TraceReader as _, TraceSampler,
    TraceToSample, Unlimited,
};

use crate::brute;
use crate::random_spans::{Sent, batches, traces};
use crate::stores::{Machine, assert_same, totals};

fn policy(name: &str) -> SamplingPolicy {
    SamplingPolicy { name: name.to_owned(), ..SamplingPolicy::default() }
}

fn options(with_rate: bool) -> SamplingOptions {
    let attribute = |name: &str, test| Some((name.to_owned(), test));
    let regex = AttributeTest::Matches(Box::new(Regex::anchored("or.*s").unwrap()));
    let mut policies = vec![
        SamplingPolicy {
            attribute: attribute("http.host", AttributeTest::OneOf(vec!["cdn.example.org".to_owned()])),
            share: 0.7,
            keeps: false,
            ..policy("cdn")
        },
        SamplingPolicy { has_errors: true, share: 0.5, ..policy("failed") },
        SamplingPolicy { slower_than: Some(Duration::from_secs(19)), ..policy("slow") },
        SamplingPolicy { attribute: attribute("db.name", regex), ..policy("orders") },
        SamplingPolicy {
            attribute: attribute("cloud.region", AttributeTest::Between(1.5, 2.0)),
            share: 0.3,
            ..policy("region")
        },
    ];
    if with_rate {
        policies.push(SamplingPolicy { traces_per_second: Some(40), ..policy("steady") });
    }
    policies.push(SamplingPolicy { share: 0.1, ..policy("tenth") });
    let decision_wait = Duration::from_secs(30);
    SamplingOptions { decision_wait, policies, keeps_rest: false, remembered_max: 10_000_000 }
}

type Whole<'a> = BTreeMap<TraceId, Vec<&'a Sent>>;

fn whole(spans: &[Sent]) -> Whole<'_> {
    let mut out = Whole::new();
    spans.iter().for_each(|sent| out.entry(sent.span.trace_id).or_default().push(sent));
    out
}

/// Which traces are kept, looking at each as a whole.
fn kept(all: &Whole<'_>, with_rate: bool) -> BTreeSet<TraceId> {
    let start_of = |spans: &[&Sent]| spans.iter().map(|s| s.span.start_ns).min().unwrap();
    let mut order: Vec<(i64, TraceId)> = all.iter().map(|(id, spans)| (start_of(spans), *id)).collect();
    order.sort_unstable();
    let mut seconds: HashMap<(&str, i64), usize> = HashMap::new();
    let mut out = BTreeSet::new();
    for (start_ns, id) in order {
        let (spans, share) = (&all[&id], share_of(id));
        let has = |name: &str, value: &str| {
            let is_it = |s: &&Sent| s.span.attributes.iter().any(|(n, v)| n == name && v.as_str() == Some(value));
            spans.iter().any(is_it)
        };
        let end_ns = spans.iter().map(|s| s.span.end_ns).max().unwrap();
        let is_kept = if has("http.host", "cdn.example.org") && share < 0.7 {
            false
        } else if spans.iter().any(|s| s.span.status_code == StatusCode::Error) && share < 0.5
            || end_ns - start_ns >= 19_000_000_000
            || has("db.name", "orders")
            || spans.iter().any(|s| s.region == Some(2)) && share < 0.3
        {
            true
        } else {
            let root = spans
                .iter()
                .min_by_key(|s| (s.span.parent_span_id.is_some(), s.span.start_ns, s.span.span_id, s.service));
            let taken = seconds.entry((root.unwrap().service, start_ns / 1_000_000_000)).or_default();
            *taken += 1;
            with_rate && *taken <= 40 || share < 0.1
        };
        if is_kept {
            out.insert(id);
        }
    }
    out
}

fn resource(sent: &Sent) -> Resource {
    let region = sent.region.map(|r| ("cloud.region".to_owned(), AttributeValue::Int(r)));
    let service = ("service.name".to_owned(), AttributeValue::String(sent.service.to_owned()));
    Resource { attributes: std::iter::once(service).chain(region).collect(), schema_url: String::new() }
}

#[test]
fn a_hundred_thousand_decisions_are_right() {
    let mut spans = traces(31, 100_000);
    // Over more seconds than one, so that the rate has something to do.
    let mut rng = StdRng::seed_from_u64(1);
    let shifts: HashMap<TraceId, i64> = whole(&spans).keys().map(|id| (*id, rng.random_range(0..200))).collect();
    for sent in &mut spans {
        let shift = shifts[&sent.span.trace_id] * 1_000_000_000;
        sent.span.start_ns += shift;
        sent.span.end_ns += shift;
    }
    let all = whole(&spans);
    let want = kept(&all, true);
    let sampler = TailSampler::new(options(true));
    let sent: Vec<(TraceId, Vec<(Resource, &Span)>)> =
        all.iter().map(|(id, spans)| (*id, spans.iter().map(|s| (resource(s), &s.span)).collect())).collect();
    let asked: Vec<TraceToSample<'_>> = sent
        .iter()
        .map(|(trace_id, spans)| TraceToSample {
            trace_id: *trace_id,
            spans: spans.iter().map(|(resource, span)| (resource, *span)).collect(),
        })
        .collect();
    let got: BTreeSet<TraceId> = asked
        .iter()
        .zip(sampler.decide(TenantId(0), &asked))
        .filter_map(|(trace, kept)| kept.then_some(trace.trace_id))
        .collect();
    assert!(want.len() > 20_000 && want.len() < 80_000, "{}", want.len());
    assert_eq!(got.symmetric_difference(&want).count(), 0);
    // Asked again, each in another company and with fewer spans, it stays with what it said.
    for trace in asked.iter().step_by(997) {
        let late = TraceToSample { trace_id: trace.trace_id, spans: vec![trace.spans[0]] };
        assert_eq!(sampler.decide(TenantId(0), &[late]), [want.contains(&trace.trace_id)]);
    }
}

/// Kills and flushes at random. Kept traces are whole, dropped ones gone, and everything was counted.
#[test]
fn what_is_chosen_is_stored_whole() {
    for seed in 0..8 {
        let mut rng = StdRng::seed_from_u64(seed);
        let spans = traces(200 + seed, 250);
        let all = whole(&spans);
        let want = kept(&all, false);
        let machine = Machine::new();
        let open = || {
            let sampler: Arc<dyn TraceSampler> = Arc::new(TailSampler::new(options(false)));
            machine.open_sampled(Some(sampler))
        };
        let mut stores = open();
        // All spans of a trace come within the wait: neighbours are shuffled a thousand at a time.
        for batch in batches(seed, &spans, 50, 0.0) {
            let batch: TraceBatch = batch;
            machine.write(&stores, batch);
            machine.clock.advance(Duration::from_millis(700));
            if rng.random_bool(0.2) {
                machine.runtime.block_on(stores.events.flush()).unwrap();
            }
            if rng.random_bool(0.1) {
                machine.persist(&stores);
            }
            if rng.random_bool(0.1) {
                drop(stores);
                machine.disk.crash(seed);
                stores = open();
            }
        }
        let count = |stores: &crate::stores::Stores| -> usize {
            let found = |id: &TraceId| stores.events.trace(TenantId(0), *id, None, &Unlimited).unwrap();
            all.keys().filter_map(found).map(|t| t.groups.iter().map(|g| g.spans.len()).sum::<usize>()).sum()
        };
        machine.clock.advance(Duration::from_secs(31));
        machine.runtime.block_on(stores.events.flush()).unwrap();
        for (id, spans) in &all {
            let stored = stores.events.trace(TenantId(0), *id, None, &Unlimited).unwrap();
            let stored: usize = stored.map_or(0, |t| t.groups.iter().map(|g| g.spans.len()).sum());
            let wanted = if want.contains(id) { spans.len() } else { 0 };
            assert_eq!(stored, wanted, "seed {seed}, trace {id}");
        }
        let before = count(&stores);
        drop(stores);
        machine.disk.crash(seed);
        stores = open();
        assert_eq!(count(&stores), before, "seed {seed}");
        stores.insight.end();
        machine.persist(&stores);
        let is_wanted = |series: &str| series.starts_with("traces_spanmetrics");
        assert_same(&totals(&stores.metrics), &brute::count(&spans), &is_wanted);
    }
}
