use trefoil_model::{BudgetError, FloatHistogram, HistogramSpan, Labels, Purse, Unlimited};

use super::*;
use crate::testing::MemoryReader;

fn store() -> MemoryReader {
    let mut store = MemoryReader::new();
    for i in 0..3 {
        let labels = Labels::from_pairs([("__name__", "requests_total"), ("instance", ["a", "b", "c"][i])]);
        for k in 0..20 {
            store.push_float(&labels, k * 15_000, (k * (i as i64 + 1)) as f64);
        }
    }
    store
}

fn instant(query: &str) -> Vec<(String, f64)> {
    let engine = Engine::default();
    let expr = engine.parse(query).unwrap();
    let result =
        engine.instant(&expr, 285_000, &QueryOptions::default(), &store(), TenantId::default(), &Unlimited).unwrap();
    match result.value {
        Value::Vector(samples) => samples
            .into_iter()
            .map(|s| match s.value {
                SampleValue::Float(v) => (s.labels.to_string(), v),
                SampleValue::Histogram(_) => panic!("no histograms here"),
            })
            .collect(),
        Value::Scalar(_, v) => vec![(String::new(), v)],
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_go_at_once_by_default() {
    assert_eq!(instant("requests_total{instance=\"a\"} * 2"), [("{instance=\"a\"}".to_owned(), 38.0)]);
    assert_eq!(instant("sum(increase(requests_total[1m]))"), [("{}".to_owned(), 24.0)]);
    assert_eq!(instant("1 + 2 * 3")[0].1, 7.0);
    assert_eq!(instant("topk(1, requests_total)")[0].1, 57.0);
}

#[test]
fn ranges_come_sorted() {
    let engine = Engine::default();
    let expr = engine.parse("sum by (instance) (requests_total)").unwrap();
    let result = engine
        .range(&expr, 0, 60_000, 30_000, &QueryOptions::default(), &store(), TenantId::default(), &Unlimited)
        .unwrap();
    let Value::Matrix(matrix) = result.value else { panic!("a range query gives a matrix") };
    assert_eq!(matrix.len(), 3);
    assert_eq!(matrix[2].samples.last(), Some(&(60_000, SampleValue::Float(12.0))));
    assert_eq!(result.stats.series, 3);
}

#[test]
fn what_is_pinned_is_sorted_once() {
    let engine = Engine::default();
    for (query, remarks) in [
        ("sort(requests_total)", 1),
        ("sort(requests_total @ 60)", 0),
        ("sort(timestamp(requests_total @ 60))", 0),
        ("last_over_time((sort(requests_total))[1m:30s])", 1),
        ("last_over_time((sort(requests_total @ 60))[1m:1m])", 0),
    ] {
        let expr = engine.parse(query).unwrap();
        let result = engine
            .range(&expr, 60_000, 110_000, 20_000, &QueryOptions::default(), &store(), TenantId::default(), &Unlimited)
            .unwrap();
        assert_eq!(result.annotations.iter().count(), remarks, "{query}");
    }
}

#[test]
fn a_range_ends_where_it_was_told_to() {
    // The last step is at 60 s.
    for (query, want) in [
        ("sum(requests_total{instance=\"a\"} @ end())", 5.0),
        ("sum(requests_total{instance=\"a\"} @ start())", 0.0),
        ("sum(count_over_time(requests_total{instance=\"a\"}[range()] @ end()))", 5.0),
    ] {
        let engine = Engine::default();
        let expr = engine.parse(query).unwrap();
        let result = engine
            .range(&expr, 0, 80_000, 30_000, &QueryOptions::default(), &store(), TenantId::default(), &Unlimited)
            .unwrap();
        let Value::Matrix(matrix) = result.value else { panic!("a range query gives a matrix") };
        assert_eq!(matrix[0].samples, [0, 30_000, 60_000].map(|t| (t, SampleValue::Float(want))), "{query}");
    }
}

#[test]
fn samples_are_counted_as_the_reference_does() {
    let mut store = MemoryReader::new();
    for k in 0..20 {
        for i in 0..3 {
            let number = i.to_string();
            store.push_float(&Labels::from_pairs([("__name__", "x"), ("i", &number)]), k * 30_000, k as f64);
        }
    }
    let engine = Engine::default();
    // Expression, counted by an instant query at 570 s, and by a range query of 3 steps to there; read by both.
    for (query, counted, read) in [
        ("1", (0, 0), (0, 0)),
        ("x", (3, 9), (3, 9)),
        ("timestamp(x)", (3, 9), (3, 9)),
        // Inside a subquery nothing is counted: its windows are. They share what is read.
        ("max_over_time(x[5m:30s])", (30, 90), (30, 36)),
        ("sum_over_time(x[1m])", (6, 18), (6, 12)),
        // These share nothing.
        ("sum_over_time(x[20s])", (3, 9), (3, 9)),
        // Once looked at, at each step counted.
        ("sum(x @ end())", (3, 9), (3, 3)),
    ] {
        let expr = engine.parse(query).unwrap();
        let (options, tenant) = (QueryOptions::default(), TenantId::default());
        let one = engine.instant(&expr, 570_000, &options, &store, tenant, &Unlimited).unwrap().stats;
        let all = engine.range(&expr, 510_000, 570_000, 30_000, &options, &store, tenant, &Unlimited).unwrap().stats;
        assert_eq!((one.samples_total, all.samples_total), counted, "{query}");
        assert_eq!((one.samples_seen, all.samples_seen), read, "{query}");
        assert!(one.samples_peak >= 1 && all.samples_peak >= 3, "{query}");
    }
    let h = FloatHistogram {
        positive_spans: vec![HistogramSpan { offset: 0, length: 4 }],
        positive_buckets: vec![1.0; 4],
        ..FloatHistogram::default()
    };
    assert_eq!(super::select::counted(&h), 13);
}

#[test]
fn budgets_are_given_back() {
    let engine = Engine::default();
    for query in [
        "sum(vector(1))",
        "sum(requests_total * 2)",
        "sum(rate(requests_total[1m])) / count(requests_total)",
        "topk(2, requests_total) or absent(nothing)",
        "quantile(0.5, requests_total @ 60)",
        "max(max_over_time(rate(requests_total[1m])[2m:15s]))",
    ] {
        let expr = engine.parse(query).unwrap();
        let held = Purse::default();
        let tenant = TenantId::default();
        engine.range(&expr, 0, 285_000, 15_000, &QueryOptions::default(), &store(), tenant, &held).unwrap();
        assert_eq!(held.samples(), 0, "{query}");
    }
}

#[test]
fn budgets_end_queries() {
    let engine = Engine::default();
    for query in ["rate(requests_total[5m])", "max_over_time(requests_total[1h:1ms])", "vector(1)[100000d:1ms]"] {
        let expr = engine.parse(query).unwrap();
        let few = Purse::of_samples(10);
        let result = engine.instant(&expr, 285_000, &QueryOptions::default(), &store(), TenantId::default(), &few);
        assert!(matches!(result, Err(EngineError::Budget(BudgetError::Samples))), "{query}");
    }
}

fn range_floats(engine: &Engine, query: &str, store: &MemoryReader, end: i64) -> Vec<(i64, u64)> {
    let expr = engine.parse(query).unwrap();
    let tenant = TenantId::default();
    let result = engine.range(&expr, 0, end, 7_000, &QueryOptions::default(), store, tenant, &Unlimited).unwrap();
    let Value::Matrix(matrix) = result.value else { panic!("a range query gives a matrix") };
    let samples = matrix.into_iter().flat_map(|s| s.samples);
    samples.map(|(t, v)| if let SampleValue::Float(v) = v { (t, v.to_bits()) } else { panic!("no floats") }).collect()
}

/// Windows that slide give what a window alone gives.
#[test]
fn sliding_windows_match_single_ones() {
    let labels = Labels::from_pairs([("__name__", "x_total")]);
    let mut seed = 7u64;
    let mut random = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % n
    };
    let mut store = MemoryReader::new();
    for i in 0..200 {
        let value = match random(12) {
            0 => f64::NAN,
            1 => continue,
            2 => trefoil_model::STALE_NAN,
            _ => random(100) as f64,
        };
        store.push_float(&labels, i * 5_000 + random(4_000) as i64, value);
    }
    let engine = Engine::default();
    for function in ["rate", "increase", "max_over_time", "min_over_time", "sum_over_time", "changes", "last_over_time"]
    {
        let query = format!("{function}(x_total[41s])");
        let expr = engine.parse(&query).unwrap();
        let sliding = range_floats(&engine, &query, &store, 1_000_000);
        let mut single = Vec::new();
        for t in (0..=1_000_000).step_by(7_000) {
            let options = QueryOptions::default();
            let result = engine.instant(&expr, t, &options, &store, TenantId::default(), &Unlimited).unwrap();
            let Value::Vector(samples) = result.value else { panic!("an instant query gives a vector") };
            for s in samples {
                let SampleValue::Float(v) = s.value else { panic!("no floats") };
                single.push((t, v.to_bits()));
            }
        }
        assert_eq!(sliding, single, "{query}");
        assert!(sliding.len() > 100);
    }
}

/// Over many series, aggregations work in parts; nothing is lost between them.
#[test]
fn parts_of_an_aggregation_add_up() {
    let mut store = MemoryReader::new();
    for i in 0..3000u32 {
        let job = format!("j{}", i % 3);
        let labels = Labels::from_pairs([("__name__", "x_total"), ("job", job.as_str()), ("i", &i.to_string())]);
        store.push_float(&labels, 0, f64::from(i));
        store.push_float(&labels, 7_000, f64::from(i) + 7.0);
    }
    let engine = Engine::default();
    let last = |query: &str| -> Vec<f64> {
        let all = range_floats(&engine, query, &store, 7_000);
        all.into_iter().filter(|(t, _)| *t == 7_000).map(|(_, bits)| f64::from_bits(bits)).collect()
    };
    assert_eq!(last("sum(x_total)"), [(0..3000).map(|i| f64::from(i) + 7.0).sum::<f64>()]);
    assert_eq!(last("count by (job) (x_total)"), [1000.0; 3]);
    assert_eq!(last("max(x_total)"), [3006.0]);
    assert_eq!(last("min by (job) (x_total)"), [7.0, 8.0, 9.0]);
    assert_eq!(last("sum(increase(x_total[14s]))"), last("sum(increase(x_total[14s]) + 0)"));
    assert_eq!(last("avg(x_total - x_total)"), [0.0]);
}
