//! Deletion and snapshots over HTTP, on the real store.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use trefoil_tests::oracle::{Oracle, Signal};
use trefoil_tests::server::binary;
use trefoil_tests::{Http, Server, ServerOptions, items, run, wire};

const SAMPLES: i64 = 600;
const STEP_MS: i64 = 1000;

/// Values that do not compress.
fn value(series: usize, n: i64) -> f64 {
    let x = (series as u64 * 10_007 + n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    f64::from_bits((x >> 12) | 0x3ff0_0000_0000_0000)
}

/// Ten series until `end_ms`, each with an exemplar at its last sample.
fn write(http: &Http, end_ms: i64) {
    let series = (0..10)
        .map(|i| {
            let samples: Vec<_> = (0..SAMPLES).map(|n| (end_ms - n * STEP_MS, value(i, n))).rev().collect();
            let mut series = wire::series(&[("__name__", "erased"), ("i", &i.to_string())], &samples);
            let label = wire::Label { name: "trace_id".to_owned(), value: format!("{i:032}") };
            series.exemplars.push(wire::Exemplar { labels: vec![label], value: 1.0, timestamp: end_ms });
            series
        })
        .collect();
    let answer = http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(series)).unwrap();
    assert!(answer.status < 300, "{}", answer.text());
}

/// Samples of each of the series, and which of them have an exemplar.
fn found(http: &Http, end_ms: i64) -> (Vec<(String, u64)>, Vec<String>) {
    let (start, end) = ((end_ms / 1000 - 3600).to_string(), (end_ms / 1000 + 1).to_string());
    let counts = http.json("/api/v1/query", &[("query", "count_over_time(erased[1h])"), ("time", &end)]).unwrap();
    let count = |s: &Value| {
        let n = s["value"][1].as_str().and_then(|v| v.parse().ok()).unwrap();
        (s["metric"]["i"].as_str().unwrap().to_owned(), n)
    };
    let mut counts: Vec<_> = items(&counts["data"]["result"]).map(count).collect();
    counts.sort();
    let window = [("query", "erased"), ("start", &start), ("end", &end)];
    let exemplars = http.json("/api/v1/query_exemplars", &window).unwrap();
    let mut exemplars: Vec<String> =
        items(&exemplars["data"]).map(|s| s["seriesLabels"]["i"].as_str().unwrap().to_owned()).collect();
    exemplars.sort();
    (counts, exemplars)
}

fn erase(http: &Http, form: &[(&str, &str)]) {
    let answer = http.post_form("/api/v1/admin/tsdb/delete_series", form).unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn folder_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { folder_bytes(&path) } else { path.metadata().unwrap().len() }).sum()
}

fn with_admin() -> ServerOptions {
    ServerOptions { args: vec!["--web.enable-admin-api".to_owned()], ..ServerOptions::default() }
}

#[test]
fn without_the_flag_nothing_is_changed() {
    let server = Server::start("admin-off", ServerOptions::default());
    let now_ms = wire::now_ms() / 1000 * 1000;
    write(&server.http, now_ms);
    for (path, form) in [("delete_series", &[("match[]", "erased")][..]), ("clean_tombstones", &[]), ("snapshot", &[])]
    {
        let answer = server.http.post_form(&format!("/api/v1/admin/tsdb/{path}"), form).unwrap();
        assert!(answer.status == 500 && answer.text().contains("admin APIs disabled"), "{path}: {}", answer.text());
    }
    assert_eq!(found(&server.http, now_ms).0.len(), 10);
    assert!(!server.data_dir.join("snapshots").exists());
}

#[test]
fn what_is_deleted_is_hidden_at_once_and_gone_after_the_cleaning() {
    let mut server = Server::start("admin-delete", with_admin());
    let now_ms = wire::now_ms() / 1000 * 1000;
    write(&server.http, now_ms);
    let all = found(&server.http, now_ms);
    assert_eq!((all.0.len(), all.1.len()), (10, 10), "{all:?}");
    assert!(all.0.iter().all(|(_, n)| *n == SAMPLES as u64), "{all:?}");

    // Nothing was flushed yet. Eight series go; of another one all but the last 100 s.
    erase(&server.http, &[("match[]", r#"erased{i=~"[0-7]"}"#)]);
    let until = (now_ms / 1000 - 100).to_string();
    erase(&server.http, &[("match[]", r#"erased{i="8"}"#), ("end", &until)]);
    let left = vec![("8".to_owned(), 100), ("9".to_owned(), SAMPLES as u64)];
    let expected = (left, vec!["8".to_owned(), "9".to_owned()]);
    assert_eq!(found(&server.http, now_ms), expected, "at once");
    let listed = server.http.json("/api/v1/series", &[("match[]", "erased")]).unwrap();
    assert_eq!(items(&listed["data"]).count(), 2, "{listed}");
    server.peer.kill();
    server.restart();
    assert_eq!(found(&server.http, now_ms), expected, "after kill -9");

    let parts = server.data_dir.join("metrics/parts/parts");
    let before = folder_bytes(&parts);
    assert!(server.http.own_metric("trefoil_tsdb_tombstones") >= 1.0);
    let cleaned = server.http.post_form("/api/v1/admin/tsdb/clean_tombstones", &[]).unwrap();
    assert_eq!(cleaned.status, 204, "{}", cleaned.text());
    assert_eq!(server.http.own_metric("trefoil_tsdb_tombstones"), 0.0);
    let after = folder_bytes(&parts);
    assert!(after * 2 < before, "{before} bytes before, {after} bytes after");
    assert_eq!(found(&server.http, now_ms), expected, "after the cleaning");

    // What comes later is not hidden, whatever its time.
    write(&server.http, now_ms);
    assert_eq!(found(&server.http, now_ms).0, all.0);
    let refused = server.http.post_form("/api/v1/admin/tsdb/delete_series", &[]).unwrap();
    assert_eq!(refused.status, 400, "{}", refused.text());
    server.peer.signal("TERM");
    server.peer.wait();
    let data = server.data_dir.to_str().unwrap();
    run(Command::new(binary()).args(["tsdb", "verify", "--data", data]), b"").expect_success();
}

#[test]
fn a_snapshot_is_a_data_directory() {
    let server = Server::start("admin-snapshot", with_admin());
    let oracle = Oracle::new("admin-snapshot");
    let now_ms = wire::now_ms() / 1000 * 1000;
    write(&server.http, now_ms);
    for signal in [Signal::Metrics, Signal::Logs, Signal::Traces] {
        oracle.write_batch(signal, &server.http);
    }
    erase(&server.http, &[("match[]", r#"erased{i="3"}"#)]);
    let expected = found(&server.http, now_ms);
    let answer = server.http.post_form("/api/v1/admin/tsdb/snapshot", &[]).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let name = answer.json()["data"]["name"].as_str().unwrap().to_owned();
    // It holds what was there, not what comes.
    erase(&server.http, &[("match[]", "erased")]);
    assert_eq!(found(&server.http, now_ms), (Vec::new(), Vec::new()));

    let dir = server.data_dir.join("snapshots").join(name);
    run(Command::new(binary()).args(["tsdb", "verify", "--data", dir.to_str().unwrap()]), b"").expect_success();
    let copy = Server::start("admin-copy", ServerOptions { data_dir: Some(dir), ..ServerOptions::default() });
    assert_eq!(found(&copy.http, now_ms), expected);
    assert_eq!(oracle.check(&copy.http), [""; 0]);
}
