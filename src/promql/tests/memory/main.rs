//! The memory of a query is bounded by its budget: heavy queries end with the error that says so, before the process
//! holds much more than the budget. A test of its own process, since it looks at the memory of all of it.

use std::fs;

use trefoil_model::{BudgetError, Labels, Purse, TenantId};
use trefoil_promql::testing::MemoryReader;
use trefoil_promql::{Engine, EngineError, EngineOptions, ParserOptions, QueryOptions, QueryResult, Value};

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 16 * MIB;
/// What the process may grow by: half as much again, and what allocators and threads keep for themselves.
const GROWTH_MAX: u64 = BUDGET + BUDGET / 2 + 24 * MIB;
const SERIES: usize = 3000;
const RANGE_MS: i64 = 1_800_000;
const STEP_MS: i64 = 2000;

/// A field of `/proc/self/status` in bytes.
fn status(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(field))?;
    Some(line.trim_matches([':', ' ', '\t']).split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// By how much memory grew during `work`, at its peak; `None` where the system does not tell.
fn growth(work: impl FnOnce()) -> Option<u64> {
    let cleared = fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = status("VmRSS");
    work();
    cleared.then(|| status("VmHWM"))?.zip(before).map(|(peak, before)| peak.saturating_sub(before))
}

fn store() -> MemoryReader {
    let mut store = MemoryReader::new();
    for i in 0..SERIES {
        let instance = format!("host-{:04}.example.org:9100", i / 3);
        for (name, le) in [("load", None), ("wait_bucket", Some(["1", "2", "+Inf"][i % 3]))] {
            let mut pairs = vec![("__name__", name), ("instance", &instance), ("job", "node")];
            let number = (i % 3).to_string();
            match le {
                Some(le) => pairs.push(("le", le)),
                None => pairs.push(("part", &number)),
            }
            let labels = Labels::from_pairs(pairs);
            for k in 0..=(RANGE_MS / 60_000) {
                store.push_float(&labels, k * 60_000, i as f64 * 1.25 + k as f64 * 0.001);
            }
        }
    }
    store
}

fn range(store: &MemoryReader, query: &str, purse: &Purse) -> Result<QueryResult, EngineError> {
    let engine = Engine::new(EngineOptions::default(), ParserOptions::ALL);
    let expr = engine.parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    let options = QueryOptions::default();
    engine.range(&expr, 0, RANGE_MS, STEP_MS, &options, store, TenantId::default(), purse)
}

/// Each holds far more than the budget, if it is let.
const HEAVY: &[&str] = &[
    // Selectors and range functions.
    "load",
    "{job=\"node\"}",
    "rate(load[5m])",
    "last_over_time(load[10m])",
    "timestamp(load)",
    "load @ 600",
    // Aggregations.
    "sum by (instance, part) (load)",
    "avg by (instance, part) (load)",
    "stddev without () (load)",
    "max by (instance, part) (load)",
    "group without () (load)",
    "count_values(\"v\", load)",
    "count(count_values(\"v\", load))",
    "count_values by (instance) (\"v\", load)",
    "quantile by (instance, part) (0.9, load)",
    "quantile(0.9, load)",
    "topk(2500, load)",
    "bottomk by (instance) (3, load)",
    "limitk(2900, load)",
    "limit_ratio(0.99, load)",
    // Binary operators.
    "load + load",
    "load * on (instance, part) group_left () load",
    "load and load",
    "load or wait_bucket",
    "load unless wait_bucket",
    "load > bool 5",
    "-load",
    // Functions.
    "abs(load)",
    "round(load, 5)",
    "sort_by_label(load, \"instance\")",
    "label_replace(load, \"x\", \"$1$1$1$1$1$1\", \"instance\", \"(.*)\")",
    "label_join(load, \"x\", \",\", \"instance\", \"job\", \"part\", \"instance\", \"job\", \"part\")",
    "histogram_quantile(0.9, wait_bucket)",
    "histogram_fraction(0, 2, wait_bucket)",
    "info(load)",
    // Subqueries.
    "last_over_time(load[30m:1s])",
    "sum_over_time(rate(load[5m])[30m:1s])",
    "max_over_time(vector(1)[1000h:1s])",
];

/// These need little at a time.
const LIGHT: &[&str] = &[
    "sum(load)",
    "count by (job) (load)",
    "avg(load)",
    "stddev(load)",
    "sum by (part) (rate(load[5m]))",
    "topk(2, load)",
    "bottomk(1, load)",
    "limitk(3, load)",
    "absent(nothing)",
    "load{instance=~\"host-00.*\"} / on (instance, part) load{instance=~\"host-00.*\"}",
];

#[test]
fn memory_stays_within_the_budget() {
    let store = store();
    // Threads and their first memory.
    drop(range(&store, "sum(load)", &Purse::of_bytes(BUDGET)));
    for query in HEAVY {
        let purse = Purse::of_bytes(BUDGET);
        let grown = growth(|| match range(&store, query, &purse) {
            Err(EngineError::Budget(BudgetError::Bytes(BUDGET))) => {}
            Err(e) => panic!("{query}: {e}"),
            Ok(_) => panic!("{query}: is answered, at most {} bytes were held", purse.peak_bytes()),
        });
        assert_eq!(purse.bytes(), 0, "{query}: all is given back");
        match grown {
            Some(grown) => assert!(grown <= GROWTH_MAX, "{query}: grew by {} MiB", grown / MIB),
            None => println!("skipped: memory of {query}"),
        }
    }
    for query in LIGHT {
        let purse = Purse::of_bytes(BUDGET);
        let result = range(&store, query, &purse).unwrap_or_else(|e| panic!("{query}: {e}"));
        let Value::Matrix(series) = result.value else { panic!("{query}: gives a matrix") };
        let samples: usize = series.iter().map(|s| s.samples.len()).sum();
        let held = purse.bytes() as usize;
        assert!(held >= samples * 24 && held <= samples * 24 + series.len() * 400, "{query}: holds {held} bytes");
    }
}
