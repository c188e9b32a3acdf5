//! What is derived from spans: OTLP in, PromQL, the graph and Jaeger's dependencies out; tail sampling.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use serde_json::json;
use trefoil_tests::{Http, Server, ServerOptions, items, text, wait_for_result, wire};

const PATIENCE: Duration = Duration::from_secs(30);
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

fn start(name: &str, traces: &str) -> Server {
    let trefoil = format!("  memtable: {{ flush_interval: 1s }}\n  traces:\n    metrics_interval: 1s\n{traces}");
    Server::start(name, ServerOptions { trefoil, ..ServerOptions::default() })
}

fn span(trace: u8, id: u8, parent: Option<u8>, kind: i32, attributes: Vec<KeyValue>) -> Span {
    let span = wire::span([trace; 16], [id; 8], parent.map(|p| [p; 8]), &format!("op{id}"), wire::now_ns());
    Span { kind, attributes, ..span }
}

fn send(http: &Http, service: &str, spans: Vec<Span>) {
    let answer = http.post("/v1/traces", wire::OTLP, wire::otlp_spans(service, spans)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Values by the labels that are asked for.
fn values(http: &Http, query: &str, labels: &[&str]) -> Result<BTreeMap<String, f64>, String> {
    let mut out = BTreeMap::new();
    for sample in http.promql(query)? {
        let key: Vec<String> =
            labels.iter().map(|name| sample["metric"][*name].as_str().unwrap_or("").to_owned()).collect();
        out.insert(key.join(" "), text(&sample["value"][1]).parse().map_err(|e| format!("{e}: {sample}"))?);
    }
    Ok(out)
}

/// Waits until a query gives these values.
#[track_caller]
fn expect(http: &Http, query: &str, labels: &[&str], want: &[(&str, f64)]) {
    let want: BTreeMap<String, f64> = want.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
    wait_for_result(query, PATIENCE, || {
        let got = values(http, query, labels)?;
        if got == want { Ok(()) } else { Err(format!("{got:?}")) }
    });
}

#[test]
fn spans_become_metrics_and_a_graph() {
    let server = start(
        "trace_metrics",
        "    span_metrics: { dimensions: [http.route] }\n    service_graph: { wait: 1s, histograms: both }",
    );
    let http = &server.http;
    let route = || vec![wire::attribute("http.route", "/buy")];
    let failed = Span { status: Some(Status { code: 2, ..Status::default() }), ..span(1, 3, Some(2), SERVER, route()) };
    let shop = vec![
        span(1, 1, None, SERVER, Vec::new()),
        span(1, 2, Some(1), CLIENT, Vec::new()),
        span(
            1,
            4,
            Some(1),
            CLIENT,
            vec![wire::attribute("db.system", "postgresql"), wire::attribute("db.name", "orders")],
        ),
        span(1, 5, Some(1), CLIENT, vec![wire::attribute("server.address", "api.example.org")]),
        span(1, 6, Some(1), PRODUCER, vec![wire::attribute("messaging.system", "kafka")]),
    ];
    let link = Link { trace_id: vec![1; 16], span_id: vec![6; 8], ..Link::default() };
    let mail = Span { links: vec![link], ..span(2, 7, None, CONSUMER, Vec::new()) };
    // The server's side comes first, and a sender repeats itself.
    send(http, "cart", vec![failed]);
    for _ in 0..2 {
        send(http, "shop", shop.clone());
    }
    send(http, "mail", vec![mail]);

    let labels = ["service", "span_name", "span_kind", "status_code", "http_route"];
    expect(
        http,
        "traces_spanmetrics_calls_total",
        &labels,
        &[
            ("shop op1 SPAN_KIND_SERVER STATUS_CODE_UNSET ", 1.0),
            ("shop op2 SPAN_KIND_CLIENT STATUS_CODE_UNSET ", 1.0),
            ("shop op4 SPAN_KIND_CLIENT STATUS_CODE_UNSET ", 1.0),
            ("shop op5 SPAN_KIND_CLIENT STATUS_CODE_UNSET ", 1.0),
            ("shop op6 SPAN_KIND_PRODUCER STATUS_CODE_UNSET ", 1.0),
            ("cart op3 SPAN_KIND_SERVER STATUS_CODE_ERROR /buy", 1.0),
            ("mail op7 SPAN_KIND_CONSUMER STATUS_CODE_UNSET ", 1.0),
        ],
    );
    expect(
        http,
        "sum by (le) (traces_spanmetrics_latency_bucket{le=~\"0.256|0.512|.Inf\"})",
        &["le"],
        &[("0.256", 0.0), ("0.512", 7.0), ("+Inf", 7.0)],
    );
    expect(http, "sum(traces_spanmetrics_latency_sum)", &[], &[("", 3.5)]);
    let edges = [
        ("user shop virtual_node", 1.0),
        ("shop cart ", 1.0),
        ("shop orders database", 1.0),
        ("shop api.example.org virtual_node", 1.0),
        ("shop mail messaging_system", 1.0),
    ];
    let names = ["client", "server", "connection_type"];
    expect(http, "traces_service_graph_request_total", &names, &edges);
    expect(http, "traces_service_graph_request_failed_total > 0", &names, &[("shop cart ", 1.0)]);
    expect(
        http,
        "histogram_count(traces_service_graph_request_server_seconds{server=\"cart\"})",
        &["client"],
        &[("shop", 1.0)],
    );
    // A counter that began a moment ago has grown by all that it has: a zero stands before it.
    wait_for_result("an increase", PATIENCE, || {
        let grown = http.promql_value("sum(increase(traces_spanmetrics_calls_total[1h]))")?;
        if grown > 3.0 { Ok(()) } else { Err(grown.to_string()) }
    });

    let now = wire::now_ns() / 1_000_000_000;
    let (from, to) = ((now - 600).to_string(), (now + 60).to_string());
    let range = [("query", "traces_spanmetrics_latency_bucket{service=\"cart\"}"), ("start", &from), ("end", &to)];
    let found = http.json("/api/v1/query_exemplars", &range).unwrap();
    let exemplar = &found["data"][0]["exemplars"][0];
    assert_eq!(exemplar["labels"], json!({"trace_id": "01".repeat(16), "span_id": "03".repeat(8)}), "{found}");
    assert_eq!(text(&exemplar["value"]), "0.5");

    let graph = http.json("/api/v1/traces/service_graph", &[("start", &from), ("end", &to)]).unwrap();
    let graph = &graph["data"];
    let edge = items(&graph["edges"]).find(|e| e["server"] == "cart").unwrap();
    assert_eq!((&edge["client"], &edge["requests"], &edge["errorRate"]), (&json!("shop"), &json!(1.0), &json!(1.0)));
    assert_eq!(edge["serverLatency"]["mean"], json!(0.5), "{edge}");
    let nodes: BTreeMap<String, String> =
        items(&graph["nodes"]).map(|n| (text(&n["name"]), text(&n["type"]))).collect();
    let want = [
        ("api.example.org", "virtual_node"),
        ("cart", "service"),
        ("mail", "service"),
        ("orders", "database"),
        ("shop", "service"),
        ("user", "user"),
    ];
    assert_eq!(nodes, want.map(|(name, kind)| (name.to_owned(), kind.to_owned())).into());
    let of_mail = http.json("/api/v1/traces/service_graph", &[("service", "mail")]).unwrap();
    assert_eq!(items(&of_mail["data"]["edges"]).count(), 1, "{of_mail}");

    let calls = |path: &str, key: &str| -> BTreeMap<String, String> {
        let answer = http.json(path, &[]).unwrap();
        let list = if key.is_empty() { answer.clone() } else { answer[key].clone() };
        items(&list).map(|e| (format!("{} {}", text(&e["parent"]), text(&e["child"])), text(&e["callCount"]))).collect()
    };
    let want: BTreeMap<String, String> = ["shop api.example.org", "shop cart", "shop mail", "shop orders"]
        .map(|e| (e.to_owned(), "1".to_owned()))
        .into();
    let end = (now + 60) * 1000;
    assert_eq!(calls(&format!("/jaeger/api/dependencies?endTs={end}&lookback=3600000"), "data"), want);
    assert_eq!(calls(&format!("/zipkin/api/v2/dependencies?endTs={end}&lookback=3600000"), ""), want);
    assert_eq!(http.own_metric("trefoil_insight_span_duplicates_total"), 5.0);
}

/// By how much a counter grew in the last hour, summed over its series, resets counted from zero.
fn grown(http: &Http, metric: &str) -> Result<f64, String> {
    let mut sum = 0.0;
    for series in http.promql(&format!("{metric}[1h]"))? {
        let mut last: Option<f64> = None;
        for point in items(&series["values"]) {
            let value: f64 = text(&point[1]).parse().map_err(|e| format!("{e}: {point}"))?;
            sum += last.map_or(0.0, |last| if value < last { value } else { value - last });
            last = Some(value);
        }
    }
    Ok(sum)
}

#[test]
fn kill_9_neither_loses_nor_doubles_counts() {
    let mut server = start("trace_metrics_crash", "    service_graph: { wait: 1s }");
    let mut sent = 0u64;
    for cycle in 0..8u64 {
        for _ in 0..40 + cycle * 13 {
            let spans = (0..5u64).map(|n| {
                let (trace, id) = (u128::from(sent / 5 + 1).to_be_bytes(), (sent + n + 1).to_be_bytes());
                wire::span(trace, id, None, &format!("op{n}"), wire::now_ns())
            });
            send(&server.http, "shop", spans.collect());
            sent += 5;
        }
        if cycle % 3 == 1 {
            // Some of it is written, wherever that stands.
            let http = server.http.clone();
            wait_for_result("a flush", PATIENCE, || {
                grown(&http, "traces_spanmetrics_calls_total")
                    .and_then(|n| if n > 0.0 { Ok(()) } else { Err("nothing yet".to_owned()) })
            });
        }
        server.peer.kill();
        server.restart();
    }
    for metric in ["traces_spanmetrics_calls_total", "traces_service_graph_request_total"] {
        wait_for_result(metric, PATIENCE, || {
            let got = grown(&server.http, metric)?;
            if got == sent as f64 { Ok(()) } else { Err(format!("{got} of {sent}")) }
        });
    }
}

#[test]
fn traces_are_sampled_at_the_tail() {
    let mut server = start(
        "tail_sampling",
        "    sampling:\n      decision_wait: 1s\n      default: drop\n      policies:\n        - { name: failed, errors: true }\n        - { name: slow, slower_than: 2s }\n        - { name: gold, attribute: { name: tier, values: [gold] } }",
    );
    for n in 0..60u8 {
        let mut root = span(n + 1, 1, None, SERVER, Vec::new());
        let mut child = span(n + 1, 2, Some(1), CLIENT, Vec::new());
        match n % 6 {
            0 => child.status = Some(Status { code: 2, ..Status::default() }),
            1 => root.end_time_unix_nano = root.start_time_unix_nano + 2_000_000_000,
            2 => child.attributes.push(wire::attribute("tier", "gold")),
            _ => {}
        }
        send(&server.http, "shop", vec![root]);
        send(&server.http, "cart", vec![child]);
    }
    let spans_of = |http: &Http, n: u8| -> usize {
        let id = format!("{:02x}", n + 1).repeat(16);
        let answer = http.get(&format!("/jaeger/api/traces/{id}"), &[]).unwrap();
        if answer.status == 404 { 0 } else { items(&answer.json()["data"][0]["spans"]).count() }
    };
    let check = |http: &Http| -> Result<(), String> {
        for n in 0..60 {
            let (got, want) = (spans_of(http, n), if n % 6 < 3 { 2 } else { 0 });
            if got != want {
                return Err(format!("trace {n} has {got} spans instead of {want}"));
            }
        }
        Ok(())
    };
    wait_for_result("the decisions", PATIENCE, || check(&server.http));
    expect(&server.http, "sum(traces_spanmetrics_calls_total)", &[], &[("", 120.0)]);
    let page = server.http.get("/metrics", &[]).unwrap().text();
    for (policy, decision, spans) in
        [("failed", "kept", 20), ("slow", "kept", 20), ("gold", "kept", 20), ("default", "dropped", 60)]
    {
        let line = format!("trefoil_trace_sampling_spans_total{{decision=\"{decision}\",policy=\"{policy}\"}} {spans}");
        assert!(page.contains(&line), "{line}");
    }
    server.peer.kill();
    server.restart();
    check(&server.http).unwrap();
}
