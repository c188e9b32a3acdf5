//! What is around queries, with the real binary: script tests, the query log, a Prometheus that reads from us.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use trefoil_tests::server::{binary, fresh_dir};
use trefoil_tests::{
    Http, Peer, Server, ServerOptions, conformance, find_program, free_port, run, skipped, wait_for, wait_for_result,
    wire,
};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn scripts_of_the_reference_pass() {
    let Some(dir) = conformance("promql", "scripts_of_the_reference_pass") else { return };
    let finished = run(Command::new(binary()).args(["test", "promql"]).arg(&dir), b"").expect_success();
    assert!(finished.stdout.contains("0 fail, 0 scripts unread"), "{}", finished.output());
    let scratch = fresh_dir("scripts");
    let script = scratch.join("wrong.test");
    std::fs::write(&script, "load 1m\n  a 1+1x5\n\neval instant at 1m a\n  a 3\n\neval instant at 1m a\n  a 2\n")
        .unwrap();
    let finished = run(Command::new(binary()).args(["test", "promql"]).arg(&script), b"");
    assert_eq!(finished.code, Some(1), "{}", finished.output());
    assert!(finished.stdout.contains("wrong.test:4: "), "{}", finished.output());
    assert!(finished.stdout.contains("2 evals: 1 pass, 1 fail"), "{}", finished.output());
    std::fs::write(&script, "load\n").unwrap();
    let finished = run(Command::new(binary()).args(["test", "promql", "--quiet"]).arg(&script), b"");
    assert!(finished.code == Some(1) && finished.stdout.contains("1 scripts unread"), "{}", finished.output());
    std::fs::remove_dir_all(scratch).ok();
}

#[test]
fn queries_are_logged() {
    let prometheus = "global: { query_log_file: query.log }".to_owned();
    let server = Server::start("query-log", ServerOptions { prometheus, ..ServerOptions::default() });
    server.http.get("/api/v1/query", &[("query", "1 + 1"), ("time", "5")]).unwrap();
    server.http.get("/api/v1/query_range", &[("query", "up"), ("start", "0"), ("end", "60"), ("step", "15")]).unwrap();
    let file = server.dir.join("query.log");
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
    };
    wait_for("two lines in the query log", PATIENCE, || lines().len() == 2);
    let lines = lines();
    assert_eq!((&lines[0]["params"]["query"], &lines[0]["params"]["step"]), (&"1 + 1".into(), &0.into()), "{lines:?}");
    assert_eq!((&lines[1]["params"]["query"], &lines[1]["params"]["step"]), (&"up".into(), &15.into()), "{lines:?}");
    assert_eq!(lines[1]["httpRequest"]["path"], "/api/v1/query_range");
}

/// A Prometheus without data of its own that answers from ours.
#[test]
fn a_prometheus_reads_from_us() {
    let name = "a_prometheus_reads_from_us";
    let Some(program) = find_program("prometheus") else { return skipped(name, "prometheus is not installed") };
    let server = Server::start("read", ServerOptions::default());
    let now = wire::now_ms() / 15_000 * 15_000;
    let samples: Vec<(i64, f64)> = (0..400).map(|i| (now - i * 15_000, (400 - i) as f64)).rev().collect();
    let series = ["a", "b"].map(|job| wire::series(&[("__name__", "read_total"), ("job", job)], &samples));
    let answer = server.http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(series.to_vec())).unwrap();
    assert!(matches!(answer.status, 200 | 204), "{}", answer.text());

    let (dir, port) = (fresh_dir("reader"), free_port());
    let config = format!("remote_read:\n- url: {}/api/v1/read\n  read_recent: true\n", server.http.base);
    std::fs::write(dir.join("prometheus.yml"), config).unwrap();
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let _peer = Peer::start(&mut command, &dir.join("prometheus.log")).unwrap();
    let theirs = Http::new(format!("http://127.0.0.1:{port}"));
    wait_for("the reader to be ready", PATIENCE, || theirs.get("/-/ready", &[]).is_ok_and(|a| a.status == 200));
    // No sample on the left edge of a range: older versions count it.
    let at = (now / 1000 + 7).to_string();
    for query in ["read_total[90m]", "sum by (job) (rate(read_total[5m]))", "read_total{job=~\"b|c\"} offset 10m"] {
        let parameters = [("query", query), ("time", at.as_str())];
        wait_for_result(query, PATIENCE, || {
            let (a, b) = (theirs.json("/api/v1/query", &parameters)?, server.http.json("/api/v1/query", &parameters)?);
            if a["data"]["result"].as_array().is_none_or(Vec::is_empty) {
                return Err(format!("nothing in {a}"));
            }
            if a["data"] == b["data"] { Ok(()) } else { Err(format!("theirs {a}, ours {b}")) }
        });
    }
    let page = server.http.get("/metrics", &[]).unwrap().text();
    assert!(page.contains("trefoil_http_requests_total{code=\"200\",route=\"/api/v1/read\"}"), "{page}");
}
