//! Random queries over random traces against a naive evaluator: every pair of spans, every bucket by itself.

pub(crate) mod data;
mod naive;
pub(crate) mod query;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use trefoil_model::{NanoRange, TenantId, Unlimited};
use trefoil_traceql::{
    MetricsInstantQuery, MetricsRangeQuery, SearchQuery, TracesReader, metrics_instant, metrics_range, parse, search,
};

use data::{EPOCH_NS, SECOND_NS};

/// Random queries of one run.
const CASES: u64 = 3_000;

#[test]
fn random_queries_agree_with_the_naive_evaluator() {
    let (mut with_result, mut failures) = (0, Vec::new());
    for seed in 0..CASES {
        let mut rng = StdRng::seed_from_u64(seed);
        let reader = TracesReader { traces: data::traces(&mut rng) };
        let is_metrics = rng.random_bool(0.35);
        let text = if is_metrics { query::metrics(&mut rng) } else { query::search(&mut rng) };
        let parsed = parse(&text).unwrap_or_else(|e| panic!("seed {seed}: {text}: {e}"));
        let printed = parsed.to_string();
        let again = parse(&printed).unwrap_or_else(|e| panic!("seed {seed}: {text} as {printed}: {e}"));
        assert_eq!(again.to_string(), printed, "seed {seed}");
        let outcome = if is_metrics { metrics(&mut rng, &text, &reader) } else { searched(&mut rng, &text, &reader) };
        match outcome {
            Ok(found) => with_result += u64::from(found),
            Err(message) => failures.push(format!("seed {seed}: {text}\n  {message}")),
        }
    }
    assert!(failures.is_empty(), "{} of {CASES}:\n{}", failures.len(), failures[..failures.len().min(5)].join("\n"));
    assert!(with_result > CASES / 3, "only {with_result} of {CASES} queries found anything");
}

fn searched(rng: &mut StdRng, text: &str, reader: &TracesReader) -> Result<bool, String> {
    let range = if rng.random_bool(0.5) {
        NanoRange::ALL
    } else {
        let start_ns = EPOCH_NS + rng.random_range(0..40) * SECOND_NS;
        NanoRange { start_ns, end_ns: start_ns + rng.random_range(1..40) * SECOND_NS }
    };
    let limit = if rng.random_bool(0.5) { 0 } else { rng.random_range(1..5) };
    let request = SearchQuery { query: text, range, limit, spans_per_set: 0, tenant: TenantId(0) };
    let query = parse(text).map_err(|e| e.to_string())?;
    let want = naive::search(&query, &reader.traces, range, limit);
    let got = match search(&request, reader, &Unlimited) {
        Ok(got) => got,
        Err(error) => {
            let refused = want.is_err();
            return if refused { Ok(false) } else { Err(error.to_string()) };
        }
    };
    let got: Vec<naive::Found> = got
        .traces
        .iter()
        .map(|t| {
            let sets = t.sets.iter().map(|s| (s.spans.iter().map(|s| s.start_ns).collect(), s.attributes.clone()));
            (t.trace_id, sets.collect())
        })
        .collect();
    let Ok(want) = want else {
        // The newest traces were enough: the one that cannot be evaluated was not looked at.
        return if limit > 0 { Ok(false) } else { Err("was not refused".to_owned()) };
    };
    if format!("{got:?}") == format!("{want:?}") {
        Ok(!got.is_empty())
    } else {
        Err(format!("got  {got:?}\n  want {want:?}"))
    }
}

fn metrics(rng: &mut StdRng, text: &str, reader: &TracesReader) -> Result<bool, String> {
    let query = parse(text).map_err(|e| e.to_string())?;
    let start_ns = EPOCH_NS + rng.random_range(-20..30) * SECOND_NS;
    let end_ns = start_ns + rng.random_range(0..60) * SECOND_NS;
    let tenant = TenantId(0);
    let (got, want) = if rng.random_bool(0.2) {
        let request = MetricsInstantQuery { query: text, start_ns, end_ns: end_ns + 1, tenant };
        let buckets = vec![(start_ns, end_ns + 1)];
        (
            metrics_instant(&request, reader, &Unlimited),
            naive::metrics(&query, &reader.traces, &buckets, end_ns + 1 - start_ns),
        )
    } else {
        let step_ns = rng.random_range(1..12) * SECOND_NS;
        let request = MetricsRangeQuery { query: text, start_ns, end_ns, step_ns, exemplars: 10, tenant };
        let mut buckets = Vec::new();
        let mut at = start_ns - start_ns % step_ns;
        loop {
            buckets.push((at - step_ns + 1, at));
            if at >= end_ns {
                break;
            }
            at += step_ns;
        }
        (metrics_range(&request, reader, &Unlimited), naive::metrics(&query, &reader.traces, &buckets, step_ns))
    };
    let (got, want) = match (got, want) {
        (Ok(got), Ok(want)) => (got, want),
        (Err(_), Err(_)) => return Ok(false),
        (Err(error), _) => return Err(error.to_string()),
        (Ok(_), Err(())) => return Err("was not refused".to_owned()),
    };
    let mut found: Vec<naive::Line> = got
        .series
        .iter()
        .map(|s| {
            let mut labels: Vec<String> = s.labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
            labels.sort();
            (labels, s.values.clone())
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let same = found.len() == want.len()
        && found.iter().zip(&want).all(|(a, b)| {
            a.0 == b.0
                && a.1.len() == b.1.len()
                && a.1.iter().zip(&b.1).all(|(a, b)| match (a, b) {
                    (None, None) => true,
                    (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-9),
                    _ => false,
                })
        });
    let exemplars: Vec<_> = got.series.iter().flat_map(|s| &s.exemplars).collect();
    let real = exemplars.iter().all(|e| reader.traces.iter().any(|t| t.trace_id == e.trace_id));
    if !real || exemplars.len() > 10 {
        return Err(format!("exemplars {exemplars:?}"));
    }
    if same { Ok(!found.is_empty()) } else { Err(format!("got  {found:?}\n  want {want:?}")) }
}
