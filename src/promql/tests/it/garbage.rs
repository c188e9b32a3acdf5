//! Damaged queries: the parser refuses or accepts them, and neither it nor the engine panics.

use std::fs;

use trefoil_model::{Labels, Purse, TenantId};
use trefoil_promql::testing::MemoryReader;
use trefoil_promql::testing::script::{Command, parse_script};
use trefoil_promql::{Engine, EngineOptions, ParserOptions, QueryOptions};

/// A small generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

fn queries(dir: &std::path::Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "test") {
            for command in parse_script(&fs::read_to_string(&path).unwrap()).unwrap() {
                if let Command::Eval(eval) = command {
                    out.push(eval.query);
                }
            }
        }
    }
    out.sort();
    out
}

fn store() -> MemoryReader {
    let mut store = MemoryReader::new();
    for name in ["metric", "http_requests", "foo"] {
        for job in ["1", "2"] {
            let labels = Labels::from_pairs([("__name__", name), ("job", job), ("le", "0.5")]);
            for i in 0..20 {
                store.push_float(&labels, i * 30_000, i as f64);
            }
        }
    }
    store
}

#[test]
fn printed_queries_read_the_same() {
    let Some(dir) = crate::conformance_dir("printed queries") else { return };
    for query in queries(&dir.join("promql")) {
        let Ok(expr) = trefoil_promql::parse(&query, ParserOptions::ALL) else { continue };
        let printed = expr.to_string();
        let again = trefoil_promql::parse(&printed, ParserOptions::ALL).unwrap_or_else(|e| panic!("{printed}: {e}"));
        assert_eq!(again.to_string(), printed, "{query}");
        let laid_out = trefoil_promql::pretty(&expr);
        let again = trefoil_promql::parse(&laid_out, ParserOptions::ALL).unwrap_or_else(|e| panic!("{laid_out}: {e}"));
        assert_eq!(again.to_string(), printed, "{query}");
    }
}

#[test]
fn damaged_queries_do_not_panic() {
    let Some(dir) = crate::conformance_dir("damaged queries") else { return };
    let queries = queries(&dir.join("promql"));
    let options = EngineOptions { delayed_name_removal: false, ..EngineOptions::default() };
    let engine = Engine::new(options, ParserOptions::ALL);
    let store = store();
    let mut random = Random(42);
    let mut accepted = 0;
    for _ in 0..6000 {
        let mut chars: Vec<char> = queries[random.below(queries.len())].chars().collect();
        for _ in 0..=random.below(3) {
            let at = random.below(chars.len() + 1);
            match random.below(4) {
                0 if at < chars.len() => {
                    chars.remove(at);
                }
                1 => chars.insert(at, ['(', ')', '[', ']', '{', '"', '\\', 'é', '-', '@', '9', ':'][random.below(12)]),
                2 => {
                    // Splice in a piece of another query.
                    let other: Vec<char> = queries[random.below(queries.len())].chars().collect();
                    let from = random.below(other.len());
                    let to = from + random.below(other.len() - from + 1);
                    chars.splice(at..at, other[from..to].iter().copied());
                }
                _ => chars.truncate(at.max(1)),
            }
        }
        let query: String = chars.into_iter().collect();
        let Ok(expr) = engine.parse(&query) else { continue };
        accepted += 1;
        let budget = Purse::of_checks(2000).and_samples(200_000);
        let tenant = TenantId::default();
        // What comes out does not matter here.
        drop(engine.instant(&expr, 300_000, &QueryOptions::default(), &store, tenant, &budget));
        drop(engine.range(&expr, 0, 300_000, 60_000, &QueryOptions::default(), &store, tenant, &budget));
    }
    println!("{accepted} damaged queries are queries");
    assert!(accepted > 100);
}

#[test]
fn deep_queries_fit_a_small_stack() {
    std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(|| {
            let engine = Engine::default();
            let chain = vec!["metric"; 4000].join(" + ");
            let nested = "(".repeat(120) + "metric" + &")".repeat(120);
            let calls = "abs(".repeat(120) + "metric" + &")".repeat(120);
            for query in [chain, nested, calls] {
                let expr = engine.parse(&query).unwrap();
                assert_eq!(expr.to_string(), query);
                assert!(trefoil_promql::pretty(&expr).len() > query.len());
                let budget = Purse::default().and_samples(200_000);
                engine.instant(&expr, 0, &QueryOptions::default(), &store(), TenantId::default(), &budget).unwrap();
            }
        })
        .unwrap()
        .join()
        .unwrap();
}
