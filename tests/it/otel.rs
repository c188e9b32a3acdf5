//! Services with their ordinary OpenTelemetry SDKs: one trace through both, logs and metrics beside it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use trefoil_tests::server::fresh_dir;
use trefoil_tests::{
    Http, Peer, Server, ServerOptions, find_program, free_port, items, skipped, text, wait_for_result,
};

const PATIENCE: Duration = Duration::from_secs(60);

struct Service {
    peer: Peer,
    http: Http,
}

/// Starts a service and waits until it is healthy.
fn start(command: &mut Command, name: &str) -> Service {
    let port = free_port();
    let log = fresh_dir(name).join("service.log");
    let mut peer = Peer::start(command.env("PORT", port.to_string()), &log).unwrap();
    let http = Http::new(format!("http://127.0.0.1:{port}"));
    wait_for_result(&format!("{name} to be healthy"), Duration::from_secs(120), || {
        assert!(peer.is_running(), "{name} ended: {}", peer.output());
        http.get("/health", &[]).map(drop).map_err(|e| format!("{e:#} {}", peer.output()))
    });
    Service { peer, http }
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

#[test]
fn services_with_ordinary_sdks() {
    let test = "services_with_ordinary_sdks";
    let (python, node) = (peers().join(".venv/bin/python"), find_program("node"));
    let Some(node) = node.filter(|_| python.is_file() && peers().join("node/node_modules").is_dir()) else {
        return skipped(test, "the SDKs are not installed; run tests/install-tools");
    };
    let server = Server::start("otel", ServerOptions::default());
    let over_http = format!("http://127.0.0.1:{}", server.otlp_http_port);
    let over_grpc = format!("http://127.0.0.1:{}", server.otlp_grpc_port);
    let mut pricing =
        start(Command::new(node).arg(peers().join("node/service.mjs")).env("OTLP_ENDPOINT", &over_http), "pricing");
    for (protocol, endpoint) in [("grpc", &over_grpc), ("http", &over_http)] {
        let mut checkout = start(
            Command::new(&python)
                .arg(peers().join("python/service.py"))
                .env("OTLP_ENDPOINT", endpoint)
                .env("OTLP_PROTOCOL", protocol)
                .env("NEXT_URL", format!("{}/price", pricing.http.base)),
            protocol,
        );
        let item = format!("lamp-{protocol}");
        let answer = checkout.http.json("/checkout", &[("item", &item)]).unwrap_or_else(|e| {
            panic!("{e}\n{}\n{}", checkout.peer.output(), pricing.peer.output());
        });
        let trace = text(&answer["trace_id"]);
        check_trace(&server.http, &trace);
        check_logs(&server.http, &trace, &item);
        check_metrics(&server.http, &item);
        // Ends by itself, sending what is left.
        checkout.peer.signal("TERM");
        checkout.peer.wait();
    }
    pricing.peer.signal("TERM");
    assert_eq!(pricing.peer.wait(), Some(0), "{}", pricing.peer.output());
    let services = server.http.json("/jaeger/api/services", &[]).unwrap();
    let services: BTreeSet<String> = items(&services["data"]).map(text).collect();
    assert!(services.contains("checkout") && services.contains("pricing"), "{services:?}");
    assert_eq!(server.http.own_metric("trefoil_ingest_rejected_total"), 0.0);
}

/// Both services are in one trace, whose spans hang together below one root.
fn check_trace(http: &Http, trace: &str) {
    let spans = wait_for_result("the whole trace", PATIENCE, || {
        let answer = http.json(&format!("/jaeger/api/traces/{trace}"), &[])?;
        let found = &answer["data"][0];
        let spans: Vec<Value> = items(&found["spans"]).cloned().collect();
        let process = |s: &Value| text(&found["processes"][text(&s["processID"])]["serviceName"]);
        let names: BTreeSet<(String, String)> = spans.iter().map(|s| (process(s), text(&s["operationName"]))).collect();
        let has = |service: &str, name: &str| names.iter().any(|(s, n)| s == service && n == name);
        let whole = has("checkout", "GET /checkout")
            && has("checkout", "price the basket")
            && has("pricing", "look up the price")
            && has("pricing", "GET /price");
        if whole { Ok(spans) } else { Err(format!("{names:?}")) }
    });
    let ids: BTreeSet<String> = spans.iter().map(|s| text(&s["spanID"])).collect();
    assert_eq!(ids.len(), spans.len(), "each span once");
    let parents: Vec<String> = spans
        .iter()
        .flat_map(|s| items(&s["references"]))
        .filter(|r| r["refType"] == "CHILD_OF")
        .map(|r| text(&r["spanID"]))
        .collect();
    assert_eq!(parents.len(), spans.len() - 1, "one root: {spans:?}");
    assert!(parents.iter().all(|p| ids.contains(p)), "every parent is in the trace: {spans:?}");
    let basket = spans.iter().find(|s| s["operationName"] == "price the basket").unwrap();
    let item = items(&basket["tags"]).find(|t| t["key"] == "app.item").unwrap();
    assert!(text(&item["value"]).starts_with("lamp-"), "{item}");
}

fn check_logs(http: &Http, trace: &str, item: &str) {
    for (service, line) in
        [("checkout", format!("order taken for {item} at 42")), ("pricing", format!("price of {item} is stale"))]
    {
        let query = format!("{{service_name={service:?}}} | trace_id={trace:?}");
        wait_for_result(&query, PATIENCE, || match http.logql_lines(&query)?.as_slice() {
            [one] if *one == line => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    let query = format!("{{service_name=\"pricing\"}} | trace_id={trace:?} | detected_level=\"warn\"");
    assert_eq!(http.logql_lines(&query).map(|l| l.len()), Ok(1), "{query}");
}

fn check_metrics(http: &Http, item: &str) {
    let instance = "job=\"peers/checkout\", instance=\"checkout-1\"";
    for (query, want) in [
        (format!("orders_total{{{instance}, item={item:?}}}"), 1.0),
        (format!("checkout_duration_seconds_count{{{instance}, item={item:?}}}"), 1.0),
        (format!("checkout_duration_seconds_bucket{{{instance}, item={item:?}, le=\"+Inf\"}}"), 1.0),
        (format!("checkout_duration_seconds_sum{{{instance}, item={item:?}}}"), 0.02),
        (format!("target_info{{{instance}, deployment_environment_name=\"test\"}}"), 1.0),
        (format!("price_lookups_total{{job=\"peers/pricing\", instance=\"pricing-1\", item={item:?}}}"), 1.0),
    ] {
        wait_for_result(&query, PATIENCE, || match http.promql_value(&query)? {
            got if got == want => Ok(()),
            got => Err(format!("{got}, want {want}")),
        });
    }
    let metadata = http.json("/api/v1/metadata", &[("metric", "orders_total")]).unwrap();
    assert_eq!(metadata["data"]["orders_total"][0]["type"], "counter", "{metadata}");
}
