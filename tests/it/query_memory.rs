//! The memory of a query is bounded by its budget, not by what it reads or makes: heavy queries of every kind are
//! answered or refused by the name of the limit, the process grows by little more than the budget, and the neighbours
//! are answered all the while.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trefoil_tests::{Http, Server, ServerOptions, wait_for, wire};

const SERIES: i64 = 24_000;
const BATCH: i64 = 4_000;
const SAMPLES: i64 = 40;
const BUDGET_MIB: u64 = 32;
/// What the process may grow by beside the budget of a query: what writes and their flushes take meanwhile, caches,
/// pages of files that were read.
const BESIDE_MIB: u64 = 96;
const LIMIT: &str = "(limit query_memory_bytes_max)";

fn write(server: &Server, end_ms: i64) {
    let padding = "x".repeat(90);
    for batch in 0..SERIES / BATCH {
        let one = |i: i64| {
            let at = |n: i64| (end_ms - (SAMPLES - 1 - n) * 15_000, ((i * 7919 + n) % 100_003) as f64 / 7.0);
            let labels = [
                ("__name__", "wide"),
                ("host", &*format!("host-{}", i % 100)),
                ("pod", &*format!("pod-{i}-{padding}")),
            ];
            wire::series(&labels, &(0..SAMPLES).map(at).collect::<Vec<_>>())
        };
        let series = (batch * BATCH..(batch + 1) * BATCH).map(one).collect();
        let answer = server.http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(series)).unwrap();
        assert!(answer.status < 300, "{}", answer.text());
    }
}

/// Path and parameters; `{end}` and `{start}` are the times of the data.
const HEAVY: &[(&str, &[(&str, &str)])] = &[
    ("/api/v1/query", &[("query", "wide")]),
    ("/api/v1/query", &[("query", "wide[10m]")]),
    ("/api/v1/query", &[("query", "sort(wide)")]),
    ("/api/v1/query", &[("query", r#"count_values without() ("v", wide)"#)]),
    ("/api/v1/query", &[("query", "sum(max_over_time(wide[10m:5s]))")]),
    ("/api/v1/query", &[("query", "sum(quantile_over_time(0.5, wide[10m]))")]),
    ("/api/v1/query_range", &[("query", "wide")]),
    ("/api/v1/query_range", &[("query", "-wide > -1e9")]),
    ("/api/v1/query_range", &[("query", r#"label_replace(wide, "more", "$1-$1-$1-$1", "pod", "(.*)")"#)]),
    ("/api/v1/query_range", &[("query", r#"count(label_join(wide, "more", "-", "pod", "host", "pod"))"#)]),
    ("/api/v1/query_range", &[("query", r#"count_values("v", wide)"#)]),
    ("/api/v1/query_range", &[("query", "count(wide * on (host) group_left () count by (host) (wide))")]),
    ("/api/v1/query_range", &[("query", "wide or wide")]),
    ("/api/v1/query_range", &[("query", "quantile by (host) (0.9, wide)")]),
    ("/api/v1/query_range", &[("query", "topk(20000, wide)")]),
    ("/api/v1/query_range", &[("query", "sum without () (wide)")]),
    ("/api/v1/query_range", &[("query", "stddev without () (wide)")]),
    ("/api/v1/query_range", &[("query", "wide @ end()")]),
    ("/api/v1/series", &[("match[]", "wide"), ("limit", "100000")]),
    ("/api/v1/label/pod/values", &[]),
    ("/api/v1/label/pod/values", &[("match[]", "wide")]),
    ("/federate", &[("match[]", "wide")]),
];

/// True when it was refused.
fn ask(http: &Http, path: &str, parameters: &[(&str, &str)], end_ms: i64) -> bool {
    let seconds = |ms: i64| (ms / 1000).to_string();
    let (start, end) = (seconds(end_ms - (SAMPLES - 1) * 15_000), seconds(end_ms));
    let mut query = parameters.to_vec();
    if path != "/federate" {
        query.extend([("start", start.as_str()), ("end", end.as_str()), ("step", "15"), ("time", end.as_str())]);
    }
    let answer = http.get(path, &query).unwrap();
    match answer.status {
        200 => false,
        422 => {
            let text = answer.text();
            assert!(text.contains(LIMIT), "{path} {parameters:?}: {text}");
            true
        }
        status => panic!("{path} {parameters:?}: status {status}: {}", answer.text()),
    }
}

#[test]
fn heavy_queries_stay_within_their_budget() {
    let limits = format!("  limits: {{ query_memory_bytes_max: {BUDGET_MIB}MiB }}\n");
    let server = Server::start("query-memory", ServerOptions { trefoil: limits, ..ServerOptions::default() });
    let http = &server.http;
    let end_ms = wire::now_ms() / 1000 * 1000;
    write(&server, end_ms);
    let small = wire::remote_write(vec![wire::series(&[("__name__", "small")], &[(end_ms, 7.0)])]);
    assert!(http.post("/api/v1/write", wire::REMOTE_WRITE, small).unwrap().status < 300);
    let before = server.peer.memory_bytes("VmRSS");
    // From now on the highest resident memory is told.
    std::fs::write(format!("/proc/{}/clear_refs", server.peer.pid()), "5").unwrap();
    let done = AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            // Bounded, lest it goes on when the others fail.
            let asked = (0..200_000).take_while(|_| !done.load(Ordering::Relaxed));
            asked.map(|_| assert_eq!(http.promql_value("small"), Ok(7.0))).count()
        });
        let refused: Vec<_> = HEAVY.iter().filter(|(path, parameters)| ask(http, path, parameters, end_ms)).collect();
        done.store(true, Ordering::Relaxed);
        assert!(neighbour.join().unwrap() > 0);
        refused
    });
    let grown = server.peer.memory_bytes("VmHWM").saturating_sub(before);
    let most = (BUDGET_MIB * 5 / 4 + BESIDE_MIB) << 20;
    assert!(grown <= most, "{} MiB more than before, refused were {refused:?}", grown >> 20);
    // Some are too large for sure, some are not.
    assert!(refused.len() >= 5 && refused.len() < HEAVY.len(), "{refused:?}");
    let hits = http.own_metric("trefoil_limit_hits_total{limit=\"query_memory_bytes_max\"}");
    assert!(hits >= refused.len() as f64, "{hits} hits, refused were {refused:?}");
    wait_for("what the queries held to be given back", Duration::from_secs(20), || {
        http.own_metric("trefoil_memory_reserved_bytes{pool=\"query\"}") == 0.0
    });
}
