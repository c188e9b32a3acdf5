//! From one signal to the others, through the binary and without any configuration.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Status};
use prost::Message;
use serde_json::{Value, json};
use trefoil_tests::{Http, Server, ServerOptions, items, text, wire};

const SECOND: u64 = 1_000_000_000;
const TRACE: &str = "0102030405060708090a0b0c0d0e0f10";
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

fn trace_bytes() -> [u8; 16] {
    std::array::from_fn(|i| i as u8 + 1)
}

fn data(http: &Http, path: &str, query: &[(&str, &str)]) -> Value {
    http.json(path, query).unwrap_or_else(|error| panic!("{path} {query:?}: {error}"))["data"].clone()
}

/// A trace of `shop/cart` on a pod and of `pay`.
fn write_trace(http: &Http, start: u64) {
    let resource = |pairs: &[(&str, &str)]| {
        let attributes: Vec<KeyValue> = pairs.iter().map(|(n, v)| wire::attribute(n, v)).collect();
        Some(Resource { attributes, ..Default::default() })
    };
    let mut failed = wire::span(trace_bytes(), [2; 8], Some([1; 8]), "charge", start + 1000);
    failed.status = Some(Status { message: "declined".to_owned(), code: 2 });
    let group = |resource, span| ResourceSpans {
        resource,
        scope_spans: vec![ScopeSpans { spans: vec![span], ..Default::default() }],
        ..Default::default()
    };
    let cart = [
        ("service.name", "cart"),
        ("service.namespace", "shop"),
        ("service.instance.id", "cart-7"),
        ("k8s.pod.name", "cart-pod"),
        ("k8s.namespace.name", "prod"),
    ];
    let request = opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest {
        resource_spans: vec![
            group(resource(&cart), wire::span(trace_bytes(), [1; 8], None, "GET /cart", start)),
            group(resource(&[("service.name", "pay")]), failed),
        ],
    };
    let answer = http.post("/v1/traces", wire::OTLP, request.encode_to_vec()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Series as OpenTelemetry's mapping, a scrape and kube-state-metrics name them; one with an exemplar.
fn write_metrics(http: &Http, at_ms: i64) {
    let series = vec![
        wire::series(&[("__name__", "cart_items"), ("job", "shop/cart"), ("instance", "cart-7")], &[(at_ms, 1.0)]),
        wire::series(&[("__name__", "up"), ("job", "pay"), ("instance", "h:80")], &[(at_ms, 1.0)]),
        wire::series(&[("__name__", "kube_pod_info"), ("pod", "cart-pod"), ("namespace", "prod")], &[(at_ms, 1.0)]),
        wire::series(&[("__name__", "other"), ("job", "other")], &[(at_ms, 1.0)]),
    ];
    let mut latency =
        wire::series(&[("__name__", "latency_bucket"), ("job", "shop/cart"), ("le", "1")], &[(at_ms, 3.0)]);
    let label = |name: &str, value: &str| wire::Label { name: name.to_owned(), value: value.to_owned() };
    let labels = vec![label("span_id", "0101010101010101"), label("trace_id", TRACE)];
    latency.exemplars = vec![wire::Exemplar { labels, value: 0.7, timestamp: at_ms }];
    let body = wire::remote_write(series.into_iter().chain([latency]).collect());
    let answer = http.post("/api/v1/write", wire::REMOTE_WRITE, body).unwrap();
    assert!(matches!(answer.status, 200 | 204), "{}", answer.text());
}

fn write_logs(http: &Http, start: u64) {
    let lines = [
        (&[("service_name", "cart")][..], format!("loading trace_id={TRACE}")),
        (&[("service_name", "pay")], "card declined".to_owned()),
        (&[("service_name", "other")], "nothing".to_owned()),
    ];
    for (stream, line) in lines {
        let body = wire::loki_push(stream, &[(start + 2000, line)]);
        assert_eq!(http.post("/loki/api/v1/push", JSON, body).unwrap().status, 204);
    }
}

fn metrics_of(entity: &Value) -> Vec<String> {
    let mut found: Vec<String> =
        items(&entity["metrics"]).flat_map(|of| items(&of["metrics"]).map(text).collect::<Vec<_>>()).collect();
    found.sort();
    found.dedup();
    found
}

fn lines_of(lines: &Value) -> Vec<String> {
    items(lines).map(|line| text(&line["line"])).collect()
}

#[test]
fn every_signal_leads_to_the_others() {
    let server = Server::start("trace-correlate", ServerOptions::default());
    let http = &server.http;
    let start = (wire::now_ns() - 60 * SECOND) / SECOND * SECOND;
    write_trace(http, start);
    write_metrics(http, (start / 1_000_000) as i64 + 5);
    write_logs(http, start);
    let told_line = format!("loading trace_id={TRACE}");

    // From a trace.
    let told = data(http, &format!("/api/v1/correlate/trace/{TRACE}"), &[]);
    assert_eq!((&told["trace"]["rootService"], &told["trace"]["errors"]), (&json!("cart"), &json!(1)), "{told}");
    assert_eq!(lines_of(&told["logs"]["lines"]), [told_line.as_str()], "{told}");
    let entity = |service: &str| {
        items(&told["entities"]).find(|e| e["entity"]["service"] == service).unwrap_or_else(|| panic!("{told}"))
    };
    let (cart, pay) = (entity("cart"), entity("pay"));
    assert_eq!((&cart["entity"]["pod"], &cart["entity"]["namespace"]), (&json!("cart-pod"), &json!("shop")));
    assert_eq!(metrics_of(cart), ["cart_items", "kube_pod_info", "latency_bucket"], "{cart}");
    assert_eq!(metrics_of(pay), ["up"], "{pay}");
    // The one told by id needs no guess, the other is found by service and time.
    assert_eq!(items(&cart["meanwhile"]["lines"]).count(), 0, "{cart}");
    assert_eq!(lines_of(&pay["meanwhile"]["lines"]), ["card declined"], "{pay}");

    // From a metric.
    let time = (start / SECOND).to_string();
    let told = data(http, "/api/v1/correlate/metric", &[("query", "latency_bucket{le=\"1\"}"), ("time", &time)]);
    assert_eq!(told["exemplars"][0]["traceId"], TRACE, "{told}");
    assert_eq!(told["exemplars"][0]["spanId"], "0101010101010101");
    assert_eq!((&told["traces"][0]["traceId"], &told["traces"][0]["spans"]), (&json!(TRACE), &json!(2)), "{told}");
    let of = &told["services"][0];
    assert_eq!((&of["entity"]["service"], &of["traces"][0]["traceId"]), (&json!("cart"), &json!(TRACE)), "{told}");
    assert_eq!(lines_of(&of["lines"]), [told_line.as_str()], "{told}");
    // Without exemplars: by the names of the series.
    let told = data(http, "/api/v1/correlate/metric", &[("query", "sum(rate(up[5m]))"), ("time", &time)]);
    let of = &told["services"][0];
    assert_eq!((items(&told["exemplars"]).count(), &of["failedTraces"][0]["traceId"]), (0, &json!(TRACE)), "{told}");

    // From a log line: by its field, by its text, by its service and time.
    let fields = json!({ "trace_id": TRACE }).to_string();
    let at = (start + 2000).to_string();
    for (query, by) in [
        (&[("fields", fields.as_str())][..], Some("field")),
        (&[("trace_id", TRACE)], Some("field")),
        (&[("line", told_line.as_str())], Some("line")),
        (&[("stream", "{\"service_name\":\"pay\"}"), ("time", &at)], None),
    ] {
        let told = data(http, "/api/v1/correlate/log", query);
        assert_eq!(told["by"].as_str(), by, "{query:?}: {told}");
        let trace = if by.is_some() { &told["trace"] } else { &told["meanwhile"][0] };
        assert_eq!(trace["traceId"], TRACE, "{query:?}: {told}");
    }
    let pay = data(http, "/api/v1/correlate/log", &[("stream", "{\"service_name\":\"pay\"}"), ("time", &at)]);
    assert_eq!(metrics_of(&pay), ["up"], "{pay}");

    // From a service, by either name.
    for name in ["cart", "shop%2Fcart"] {
        let told = data(http, &format!("/api/v1/correlate/service/{name}"), &[]);
        assert_eq!(told["traces"][0]["traceId"], TRACE, "{name}: {told}");
        assert_eq!(told["operations"][0]["name"], "GET /cart", "{name}: {told}");
        assert_eq!(lines_of(&told["lines"]), [told_line.as_str()], "{name}: {told}");
    }
    let told = data(http, "/api/v1/correlate/service/shop%2Fcart", &[]);
    assert_eq!(
        (metrics_of(&told), &told["instances"]),
        (vec!["cart_items".to_owned(), "latency_bucket".to_owned()], &json!(["cart-7"])),
        "{told}"
    );
    let told = data(http, "/api/v1/correlate/service/pay", &[]);
    assert_eq!((items(&told["failedTraces"]).count(), metrics_of(&told)), (1, vec!["up".to_owned()]), "{told}");
    let nothing = data(http, "/api/v1/correlate/service/nobody", &[]);
    assert_eq!((items(&nothing["traces"]).count(), items(&nothing["metrics"]).count()), (0, 0), "{nothing}");

    for (path, query, status) in [
        (format!("/api/v1/correlate/trace/{}", "ab".repeat(16)), &[][..], 404),
        ("/api/v1/correlate/trace/xyz".to_owned(), &[], 400),
        ("/api/v1/correlate/log".to_owned(), &[], 400),
        ("/api/v1/correlate/log".to_owned(), &[("fields", "{")], 400),
        ("/api/v1/correlate/metric".to_owned(), &[("query", "1 + 1")], 400),
        ("/api/v1/correlate/metric".to_owned(), &[("query", "up{")], 400),
        ("/api/v1/correlate/metric".to_owned(), &[("query", "up"), ("window", "-1s")], 400),
    ] {
        let answer = http.get(&path, query).unwrap();
        assert_eq!(answer.status, status, "{path} {query:?}: {}", answer.text());
    }
}
