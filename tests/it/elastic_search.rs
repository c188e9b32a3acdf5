//! Elasticsearch's official clients search what came in by other doors.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use trefoil_tests::{Server, ServerOptions, find_program, skipped, wire};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const LINES: u64 = 100;

/// Runs a client's script; its last line is what it found.
fn run(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    serde_json::from_str(out.trim()).unwrap_or_else(|e| panic!("{e}: {out}\n{err}"))
}

#[test]
fn official_clients_search_what_other_doors_took() {
    let test = "official_clients_search_what_other_doors_took";
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let python = peers.join(".venv/bin/python");
    let has_python = python.is_file()
        && Command::new(&python).args(["-c", "import elasticsearch"]).output().is_ok_and(|o| o.status.success());
    let node = find_program("node").filter(|_| peers.join("node/node_modules/@elastic/elasticsearch").is_dir());
    if !has_python && node.is_none() {
        return skipped(test, "Elasticsearch's clients are not installed; run tests/install-tools");
    }
    let server = Server::start("elastic-search", ServerOptions::default());
    let base = wire::now_ns() - 3_600_000_000_000;
    let values: Vec<Value> = (0..LINES)
        .map(|n| json!([(base + n * 1_000_000).to_string(), format!("line {n}"), {"n": n.to_string()}]))
        .collect();
    for service in ["wanted", "other"] {
        let push = json!({"streams": [{"stream": {"service_name": service}, "values": values}]});
        let answer = server.http.post("/loki/api/v1/push", JSON, push.to_string()).unwrap();
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    let url = format!("{}/elasticsearch", server.http.base);
    let mut found = Vec::new();
    if has_python {
        found.push((
            "python",
            run(Command::new(&python).arg(peers.join("python/elastic_search.py")).args([&url, "wanted"])),
        ));
    }
    if let Some(node) = node {
        let script = peers.join("node/elastic_search.mjs");
        found.push(("node", run(Command::new(node).arg(script).args([&url, "wanted"]))));
    }
    let numbers: Vec<String> = (0..LINES).map(|n| n.to_string()).collect();
    for (client, got) in found {
        for (name, want) in [
            ("count", json!(LINES)),
            ("messages", json!([if client == "python" { "line 99" } else { "line 7" }])),
            ("newest", json!(["line 99", "line 98", "line 97"])),
            ("buckets", json!(LINES)),
            // JavaScript writes whole floats as integers.
            ("max", if client == "python" { json!(99.0) } else { json!(99) }),
            ("by_id", json!("line 99")),
            ("scrolled", json!(numbers)),
            ("paged", json!(numbers)),
            ("closed", json!(true)),
            ("many", json!([200, 400])),
            ("field", json!(["date"])),
            ("mapping", json!("text")),
            ("cat", json!(["logs"])),
            ("error", json!([400, "parsing_exception"])),
        ] {
            assert_eq!(got[name], want, "{client}: {name}");
        }
    }
}
