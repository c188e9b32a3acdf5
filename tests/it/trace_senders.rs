//! Spans of ordinary clients of Jaeger and Zipkin.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use prost::Message;
use serde_json::{Value, json};
use trefoil_tests::server::fresh_dir;
use trefoil_tests::{Http, Server, ServerOptions, free_port, grpc, items, run, skipped, text, wait_for_result};

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a sender; what it printed. `None` where it is not installed.
fn send(test: &str, arguments: &[&str]) -> Option<String> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let python = peers.join(".venv/bin/python");
    if !python.is_file() || !peers.join(".venv/lib").read_dir().is_ok_and(|mut dir| dir.next().is_some()) {
        skipped(test, "the clients are not installed; run tests/install-tools");
        return None;
    }
    let mut command = Command::new(python);
    let finished = run(command.arg(peers.join("python/trace_senders.py")).args(arguments), b"").expect_success();
    Some(finished.stdout.trim().to_owned())
}

/// The trace with this id, once it has so many spans.
fn trace(http: &Http, id: &str, spans: usize) -> Value {
    wait_for_result(&format!("trace {id}"), PATIENCE, || {
        let answer = http.json(&format!("/jaeger/api/traces/{id}"), &[])?;
        let trace = &answer["data"][0];
        if items(&trace["spans"]).count() == spans { Ok(trace.clone()) } else { Err(answer.to_string()) }
    })
}

fn span<'a>(trace: &'a Value, name: &str) -> &'a Value {
    items(&trace["spans"]).find(|s| s["operationName"] == name).unwrap_or_else(|| panic!("{name}: {trace}"))
}

fn tag(tags: &Value, key: &str) -> Value {
    items(tags).find(|t| t["key"] == key).map_or(Value::Null, |t| t["value"].clone())
}

#[test]
fn jaeger_clients() {
    let test = "jaeger_clients";
    let (compact, binary) = (free_port(), free_port());
    let doors = format!("  jaeger_udp: [{{address: '127.0.0.1:{compact}'}}, {{address: '127.0.0.1:{binary}'}}]");
    let server = Server::start("jaeger_clients", ServerOptions { trefoil: doors, ..ServerOptions::default() });
    let http = &server.http;
    let Some(id) = send(test, &["jaeger_client", &compact.to_string()]) else { return };
    let found = trace(http, &id, 2);
    let (request, call) = (span(&found, "GET /cart"), span(&found, "SELECT cart"));
    assert_eq!(request["references"], json!([]));
    assert_eq!(call["references"][0]["spanID"], request["spanID"], "{found}");
    assert_eq!((tag(&request["tags"], "span.kind"), tag(&request["tags"], "user")), (json!("server"), json!(7)));
    assert_eq!((tag(&call["tags"], "error"), tag(&call["tags"], "otel.status_code")), (json!(true), json!("ERROR")));
    let fields = &call["logs"][0]["fields"];
    assert_eq!((tag(fields, "event"), tag(fields, "attempt")), (json!("retry"), json!(2)), "{call}");
    let process = &found["processes"][text(&request["processID"])];
    assert_eq!((&process["serviceName"], tag(&process["tags"], "region")), (&json!("shop"), json!("eu")));
    assert!(text(&tag(&process["tags"], "opencensus.exporterversion")).starts_with("Jaeger-Python-"), "{process}");

    let url = format!("{}/api/traces", http.base);
    for (n, service, arguments) in [
        (1000, "over-http", vec!["thrift_http", &url]),
        (2000, "over-compact", vec!["thrift_udp", &binary.to_string(), "compact"]),
        (3000, "over-binary", vec!["thrift_udp", &compact.to_string(), "binary"]),
    ] {
        let id = n.to_string();
        send(test, &[arguments, vec![&id]].concat());
        let found = trace(http, &format!("{n:x}"), 1);
        let one = span(&found, "send");
        assert_eq!(found["processes"]["p1"]["serviceName"], service);
        assert_eq!(one["duration"], 1500);
        let parent =
            json!({"refType": "CHILD_OF", "traceID": format!("{n:032x}"), "spanID": format!("{:016x}", n + 2)});
        let link =
            json!({"refType": "FOLLOWS_FROM", "traceID": format!("{:032x}", 9), "spanID": format!("{:016x}", 8)});
        assert_eq!(one["references"], json!([parent, link]), "{service}");
        for (key, value) in
            [("span.kind", json!("client")), ("ratio", json!(0.5)), ("n", json!(-3)), ("flag", json!(false))]
        {
            assert_eq!(tag(&one["tags"], key), value, "{service} {key}");
        }
        assert_eq!(tag(&one["logs"][0]["fields"], "event"), "sent");
    }
    assert_eq!(http.own_metric("trefoil_ingest_rejected_total"), 0.0);
}

/// `PostSpans` with one span of a trace.
#[derive(Clone, PartialEq, Message)]
struct PostSpans {
    #[prost(message, optional, tag = "1")]
    batch: Option<Batch>,
}

#[derive(Clone, PartialEq, Message)]
struct Batch {
    #[prost(message, repeated, tag = "1")]
    spans: Vec<Span>,
    #[prost(message, optional, tag = "2")]
    process: Option<Process>,
}

#[derive(Clone, PartialEq, Message)]
struct Process {
    #[prost(string, tag = "1")]
    service_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes, tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes, tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    operation_name: String,
    #[prost(message, optional, tag = "6")]
    start_time: Option<Seconds>,
}

#[derive(Clone, PartialEq, Message)]
struct Seconds {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

#[test]
fn jaeger_over_grpc() {
    let server = Server::start("jaeger_over_grpc", ServerOptions::default());
    let client = grpc::clear_text_client();
    for (n, port) in [(1, server.otlp_grpc_port), (2, server.http_port)] {
        let seconds = i64::try_from(trefoil_tests::wire::now_ns() / 1_000_000_000).unwrap();
        let span = Span {
            trace_id: vec![n; 16],
            span_id: vec![n; 8],
            operation_name: "post".to_owned(),
            start_time: Some(Seconds { seconds }),
        };
        let process = Some(Process { service_name: "poster".to_owned() });
        let message = PostSpans { batch: Some(Batch { spans: vec![span], process }) }.encode_to_vec();
        let base = format!("http://127.0.0.1:{port}");
        let answer = grpc::call(&client, &base, "jaeger.api_v2.CollectorService/PostSpans", None, &message).unwrap();
        assert_eq!((answer.status, answer.body), (0, Vec::new()));
        let found = trace(&server.http, &format!("{n:02x}").repeat(16), 1);
        assert_eq!(
            (&found["processes"]["p1"]["serviceName"], span_start(&found)),
            (&json!("poster"), seconds * 1_000_000)
        );
        let refused = grpc::call(&client, &base, "jaeger.api_v2.CollectorService/PostSpans", None, &[0xff; 9]).unwrap();
        assert_ne!(refused.status, 0);
    }
}

fn span_start(trace: &Value) -> i64 {
    trace["spans"][0]["startTime"].as_i64().unwrap()
}

#[test]
fn sampling_is_told() {
    let test = "sampling_is_told";
    let dir = fresh_dir(test);
    let file = dir.join("strategies.json");
    let strategies = json!({
        "service_strategies": [{"service": "told", "type": "probabilistic", "param": 1}],
        "default_strategy": {"type": "ratelimiting", "param": 7},
    });
    std::fs::write(&file, strategies.to_string()).unwrap();
    let port = free_port();
    let trefoil = format!(
        "  jaeger_udp: [{{address: '127.0.0.1:{port}'}}]\n  remote_sampling: {{strategies_file: '{}'}}",
        file.display()
    );
    let server = Server::start(test, ServerOptions { trefoil, ..ServerOptions::default() });
    let http = &server.http;
    let told = |service: &str| http.json("/sampling", &[("service", service)]).unwrap();
    let limited = json!({"strategyType": "RATE_LIMITING", "rateLimitingSampling": {"maxTracesPerSecond": 7}});
    assert_eq!(told("other"), limited);
    // `SamplingStrategyParameters` with the name, and an answer of type 1 with a limit of 7.
    let client = grpc::clear_text_client();
    let method = "jaeger.api_v2.SamplingManager/GetSamplingStrategy";
    for port in [server.otlp_grpc_port, server.http_port] {
        let base = format!("http://127.0.0.1:{port}");
        let answer = grpc::call(&client, &base, method, None, b"\x0a\x05other").unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (0, &[8, 1, 0x1a, 2, 8, 7][..]));
    }
    if let Some(id) = send(test, &["jaeger_remote", &port.to_string(), &server.http_port.to_string()]) {
        assert_eq!(trace(http, &id, 1)["processes"]["p1"]["serviceName"], "told");
    }
    // A reload reads the file again; a broken one changes nothing.
    std::fs::write(&file, "{").unwrap();
    server.peer.signal("HUP");
    wait_for_result("a reload that fails", PATIENCE, || {
        let failed = http.own_metric("trefoil_config_last_reload_successful") == 0.0;
        if failed { Ok(()) } else { Err("not yet".to_owned()) }
    });
    assert_eq!(told("other"), limited);
    std::fs::write(&file, "{}").unwrap();
    server.peer.signal("HUP");
    wait_for_result("the new file", PATIENCE, || {
        let found = told("other");
        if found["probabilisticSampling"]["samplingRate"] == 0.001 { Ok(()) } else { Err(found.to_string()) }
    });
    drop(server);
    std::fs::remove_dir_all(dir).ok();
}

#[test]
fn zipkin_clients() {
    let server = Server::start("zipkin_clients", ServerOptions::default());
    let http = &server.http;
    let address = http.base.trim_start_matches("http://");
    let Some(id) = send("zipkin_clients", &["py_zipkin", address]) else { return };
    let found = trace(http, &id, 2);
    let (request, call) = (span(&found, "get /"), span(&found, "fetch"));
    assert_eq!(call["references"][0]["spanID"], request["spanID"], "{found}");
    assert_eq!((tag(&request["tags"], "user"), tag(&call["tags"], "span.kind")), (json!("7"), json!("client")));
    assert_eq!(found["processes"]["p1"]["serviceName"], "kiosk");
    // What Zipkin's own API gives back is what was sent.
    let zipkin = |path: &str, query: &[(&str, &str)]| http.json(&format!("/zipkin/api/v2{path}"), query).unwrap();
    assert_eq!(zipkin("/services", &[]), json!(["kiosk"]));
    assert_eq!(zipkin("/spans", &[("serviceName", "kiosk")]), json!(["fetch", "get /"]));
    let given = zipkin(&format!("/trace/{id}"), &[]);
    let sent = items(&given).find(|s| s["name"] == "get /").unwrap();
    assert_eq!((&sent["traceId"], &sent["kind"], &sent["tags"]), (&json!(id), &json!("SERVER"), &json!({"user": "7"})));
    for (query, count) in [("user=7", 1), ("user", 1), ("user=8", 0), ("nothing", 0)] {
        let found = zipkin("/traces", &[("serviceName", "kiosk"), ("annotationQuery", query)]);
        assert_eq!(items(&found).count(), count, "{query}: {found}");
    }
}
