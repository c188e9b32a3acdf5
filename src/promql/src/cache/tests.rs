use std::sync::atomic::{AtomicU64, Ordering};

use trefoil_model::{Labels, SelectRequest, SelectedSeries, StoreError, Unlimited};

use super::*;
use crate::parser::ParserOptions;
use crate::testing::MemoryReader;

/// A store in memory that tells its changes.
#[derive(Default)]
struct Telling {
    store: MemoryReader,
    /// Earliest time of the change with this number.
    changes: Vec<i64>,
    selects: AtomicU64,
}

impl Telling {
    fn push(&mut self, name: &str, job: &str, t_ms: i64, value: f64) {
        self.store.push_float(&Labels::from_pairs([("__name__", name), ("job", job)]), t_ms, value);
        self.changes.push(t_ms);
    }
}

impl MetricReader for Telling {
    fn select(&self, request: &SelectRequest, budget: &dyn QueryBudget) -> Result<Vec<SelectedSeries>, StoreError> {
        self.selects.fetch_add(1, Ordering::Relaxed);
        self.store.select(request, budget)
    }
    fn series(
        &self,
        requests: &[SelectRequest],
        limit: usize,
        budget: &dyn QueryBudget,
    ) -> Result<(Vec<Labels>, bool), StoreError> {
        self.store.series(requests, limit, budget)
    }
    trefoil_model::only_series!();
    fn change_mark(&self) -> Option<u64> {
        Some(self.changes.len() as u64)
    }
    fn changed_from_ms(&self, mark: u64) -> i64 {
        self.changes[mark as usize..].iter().copied().min().unwrap_or(i64::MAX)
    }
}

fn query<'a>(expr: &'a Expr, reader: &'a dyn MetricReader, start_ms: i64, end_ms: i64, step_ms: i64) -> RangeQuery<'a> {
    RangeQuery {
        expr,
        start_ms,
        end_ms,
        step_ms,
        options: QueryOptions::default(),
        reader,
        tenant: TenantId::default(),
        budget: &Unlimited,
    }
}

fn instant<'a>(expr: &'a Expr, reader: &'a dyn MetricReader, t_ms: i64) -> InstantQuery<'a> {
    let (options, tenant) = (QueryOptions::default(), TenantId::default());
    InstantQuery { expr, t_ms, options, reader, tenant, budget: &Unlimited }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

const QUERIES: &[&str] = &[
    "gauge",
    "sum by (job) (gauge)",
    "sum_over_time(gauge[3m])",
    "max_over_time(gauge[2m]) - min_over_time(gauge[2m] offset 1m)",
    "gauge offset -2m",
    "topk(1, gauge) > 20",
    "rate(gauge[5m])",
    "avg_over_time(sum(gauge)[4m:30s])",
    "count_over_time(gauge[2m]) * on (job) gauge",
    "absent(gauge{job=\"c\"})",
    "timestamp(gauge) - time()",
    "gauge or other",
    "gauge @ 300",
    "{job=\"a\"}",
    "sum by (job) ({job=~\".+\"})",
    "abs(count by (job) ({job=~\"a|b\"}))",
    "abs({job=\"b\"})",
    "sort_desc(sum without (x) ({job=~\".+\"}))",
];

/// Whatever is written between, early or late: the cache answers as the engine does.
#[test]
fn kept_results_are_what_evaluation_gives() {
    let engine = Engine::new(Default::default(), ParserOptions::ALL);
    let exprs: Vec<Expr> = QUERIES.iter().map(|q| engine.parse(q).unwrap()).collect();
    let mut random = Random(3);
    for round in 0..40 {
        let mut cache = ResultCache::new(if round % 5 == 0 { 20_000 } else { 1 << 20 });
        cache.instant_samples_min = 0;
        let mut store = Telling::default();
        let mut now = 600_000i64;
        for _ in 0..40 {
            now += random.below(90_000) as i64;
            for _ in 0..random.below(6) {
                let late =
                    if random.below(5) == 0 { random.below(900_000) as i64 } else { random.below(20_000) as i64 };
                let job = ["a", "b", "c"][random.below(3) as usize];
                let name = if random.below(6) == 0 { "other" } else { "gauge" };
                store.push(name, job, now - late, random.below(50) as f64);
            }
            let step = [15_000, 60_000][random.below(2) as usize];
            let end = if random.below(4) == 0 { now } else { now / step * step };
            let start = end - [5, 20, 20, 20, 33][random.below(5) as usize] * step;
            for (text, expr) in QUERIES.iter().zip(&exprs) {
                let asked = query(expr, &store, start, end, step);
                let want = asked.evaluate(&engine, start);
                let got = cache.range(&engine, &asked);
                match (want, got) {
                    (Ok(want), Ok(got)) => {
                        assert_eq!((got.value, got.annotations), (want.value, want.annotations), "{text} at {now}");
                    }
                    (want, got) => assert_eq!(want.is_err(), got.is_err(), "{text} at {now}"),
                }
                let asked = instant(expr, &store, end);
                for _ in 0..2 {
                    match (asked.evaluate(&engine), cache.instant(&engine, &asked)) {
                        (Ok(want), Ok(got)) => {
                            assert_eq!((got.value, got.annotations), (want.value, want.annotations), "{text} at {end}");
                        }
                        (want, got) => assert_eq!(want.is_err(), got.is_err(), "{text} at {end}"),
                    }
                }
            }
        }
        assert!(cache.state().bytes <= cache.bytes_max);
    }
}

#[test]
fn only_what_is_new_is_evaluated() {
    let engine = Engine::default();
    let cache = ResultCache::new(1 << 20);
    let mut store = Telling::default();
    for t in 0..100 {
        store.push("gauge", "a", t * 15_000, t as f64);
    }
    let expr = engine.parse("sum_over_time(gauge[1m])").unwrap();
    let read = |store: &Telling, end: i64| {
        let result = cache.range(&engine, &query(&expr, store, end - 600_000, end, 15_000)).unwrap();
        result.stats.samples_read
    };
    assert_eq!(read(&store, 1_485_000), 44);
    // All is kept.
    let before = store.selects.load(Ordering::Relaxed);
    assert_eq!((read(&store, 1_485_000), store.selects.load(Ordering::Relaxed)), (0, before));
    store.push("gauge", "a", 1_500_000, 1.0);
    // One step is new: its window has four samples.
    assert_eq!(read(&store, 1_500_000), 4);
    // A late sample: all steps from its time on.
    store.push("gauge", "a", 1_440_001, 1.0);
    assert_eq!(read(&store, 1_500_000), 8);
    // A wider range begins anew.
    assert_eq!(cache.range(&engine, &query(&expr, &store, 0, 1_500_000, 15_000)).unwrap().stats.samples_read, 102);
}

/// Of an instant query the last answer is kept, until something changes that it could have seen.
#[test]
fn an_instant_answer_is_kept() {
    let engine = Engine::default();
    let mut cache = ResultCache::new(1 << 20);
    cache.instant_samples_min = 100;
    let mut store = Telling::default();
    for t in 0..100 {
        store.push("gauge", "a", t * 15_000, t as f64);
    }
    let all = engine.parse("sum_over_time(gauge[25m])").unwrap();
    let read = |store: &Telling, expr: &Expr, t_ms: i64| {
        cache.instant(&engine, &instant(expr, store, t_ms)).unwrap().stats.samples_read
    };
    assert_eq!((read(&store, &all, 1_485_000), read(&store, &all, 1_485_000)), (100, 0));
    // What comes later is not seen.
    store.push("gauge", "a", 1_485_001, 1.0);
    assert_eq!(read(&store, &all, 1_485_000), 0);
    store.push("gauge", "a", 1_485_000 - 1, 1.0);
    assert_eq!((read(&store, &all, 1_485_000), read(&store, &all, 1_485_000)), (101, 0));
    // Another time, and then only that one.
    assert_eq!((read(&store, &all, 1_485_001), read(&store, &all, 1_485_001)), (102, 0));
    assert_eq!(read(&store, &all, 1_485_000), 101);
    // What reads little, and what looks to other times.
    for text in ["gauge", "sum_over_time(gauge[25m] @ 1485)", "sum_over_time(gauge[25m:15s] @ end())"] {
        let expr = engine.parse(text).unwrap();
        assert!(read(&store, &expr, 1_485_000) > 0, "{text}");
        assert!(read(&store, &expr, 1_485_000) > 0, "{text}");
    }
    assert_eq!(cache.state().entries.len(), 1);
}

#[test]
fn what_cannot_be_kept() {
    let engine = Engine::new(Default::default(), ParserOptions::ALL);
    let check = |text: &str, want: Option<(i64, i64)>| {
        let got = Reach::of(&engine.parse(text).unwrap()).map(|r| (r.back_ms, r.ahead_ms));
        assert_eq!(got, want, "{text}");
    };
    check("a", Some((0, 0)));
    check("rate(a[5m] offset 1m) / b offset -3m", Some((360_000, 180_000)));
    check("sum(max_over_time(rate(a[1m])[10m:]))", Some((660_000, 0)));
    for text in [
        "{job=\"a\"}",
        "topk(1, {job=\"a\"})",
        "sum by (__name__) ({job=\"a\"})",
        "abs(sum by (job) ({job=\"a\"})) / sum({job=\"b\"})",
    ] {
        check(text, Some((0, 0)));
    }
    for text in [
        "a @ 5",
        "a or b",
        "abs({job=\"a\"})",
        "rate({job=\"a\"}[5m])",
        "topk(1, {job=\"a\"}) + 1",
        "abs(sum by (__name__) ({job=\"a\"}))",
        "abs(sum without (x) ({job=\"a\"}))",
        "abs(count_values(\"__name__\", {job=\"a\"}))",
        "label_replace(a, \"x\", \"\", \"\", \"\")",
        "rate(a[5m] smoothed)",
        "rate(a[5m * 2])",
        "limitk(1, a)",
        "a - start()",
        "info(a)",
        "max_over_time(a[5m:1m] @ end())",
    ] {
        check(text, None);
    }
}

#[test]
fn results_of_other_settings_are_others() {
    let engine = Engine::default();
    let cache = ResultCache::new(1 << 20);
    let mut store = Telling::default();
    for t in 0..100 {
        store.push("gauge", "a", t * 15_000, t as f64);
    }
    let expr = engine.parse("count_over_time(gauge[5m:])").unwrap();
    let count = || match cache.range(&engine, &query(&expr, &store, 600_000, 900_000, 60_000)).unwrap().value {
        Value::Matrix(series) => series[0].samples[0].1.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(count(), SampleValue::Float(5.0));
    engine.clone().set_subquery_step_ms(30_000);
    assert_eq!(count(), SampleValue::Float(10.0));
}

#[test]
fn kept_answers_are_at_hand_until_something_changes() {
    let (engine, mut store) = (Engine::default(), Telling::default());
    for t in 0..60 {
        store.push("gauge", "a", t * 60_000, t as f64);
        store.push("gauge", "b", t * 60_000, 2.0 * t as f64);
    }
    let mut cache = ResultCache::new(1 << 20);
    cache.instant_samples_min = 1;
    let expr = engine.parse("sum by (job) (avg_over_time(gauge[5m]))").unwrap();
    let at_hand = |store: &Telling| {
        let range = cache.range_at_hand(&engine, &query(&expr, store, 600_000, 1_800_000, 60_000));
        let instant = cache.instant_at_hand(&engine, &instant(&expr, store, 1_800_000));
        [range, instant].map(|found| match found {
            AtHand::Kept(result) => Some(format!("{:?}", result.value)),
            _ => None,
        })
    };
    assert_eq!(at_hand(&store), [None, None]);
    let range = cache.range(&engine, &query(&expr, &store, 600_000, 1_800_000, 60_000)).unwrap();
    let instant = cache.instant(&engine, &instant(&expr, &store, 1_800_000)).unwrap();
    let want = [range.value, instant.value].map(|value| Some(format!("{value:?}")));
    assert_eq!(at_hand(&store), want);
    store.push("gauge", "a", 3_600_000, 1.0);
    assert_eq!(at_hand(&store), want);
    store.push("gauge", "a", 1_000_000, 1.0);
    assert_eq!(at_hand(&store), [None, None]);
}
