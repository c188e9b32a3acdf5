//! Jaeger's API through the router.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use trefoil_model::{
    AttributeValue, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, StatusCode as Outcome, StoredTrace, TraceId,
};

use crate::memory_events::{NOW_NS, SECOND_NS, Server, encoded};

pub(crate) fn span(trace: u8, id: u8, parent: Option<u8>, name: &str, kind: SpanKind) -> Span {
    Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([id; 8]),
        parent_span_id: parent.map(|p| SpanId([p; 8])),
        trace_state: String::new(),
        flags: 0,
        name: name.to_owned(),
        kind,
        start_ns: NOW_NS - 60 * SECOND_NS,
        end_ns: NOW_NS - 60 * SECOND_NS + 5_000_000,
        attributes: vec![("http.route".to_owned(), AttributeValue::String("/buy".to_owned()))],
        events: Vec::new(),
        links: Vec::new(),
        status_code: Outcome::Unset,
        status_message: String::new(),
        dropped: [0; 3],
    }
}

pub(crate) fn group(service: &str, spans: Vec<Span>) -> SpanGroup {
    let name = AttributeValue::String(service.to_owned());
    let resource = Resource { attributes: vec![("service.name".to_owned(), name)], schema_url: String::new() };
    SpanGroup { resource: Arc::new(resource), scope: Arc::new(Scope::default()), spans }
}

/// Two traces: shop calls cart twice in the first, cart stands alone in the second.
pub(crate) fn filled() -> Server {
    let server = Server::new();
    let shop = vec![span(1, 1, None, "GET /", SpanKind::Server)];
    let cart = vec![
        span(1, 2, Some(1), "add", SpanKind::Server),
        span(1, 3, Some(1), "add", SpanKind::Client),
        span(1, 4, Some(2), "inner", SpanKind::Internal),
    ];
    server.events.traces.lock().extend([
        StoredTrace { trace_id: TraceId([1; 16]), groups: vec![group("shop", shop), group("cart", cart)] },
        StoredTrace {
            trace_id: TraceId::from_hex("abc").unwrap(),
            groups: vec![group("cart", vec![span(2, 9, None, "sweep", SpanKind::Unspecified)])],
        },
    ]);
    server
}

async fn data(server: &Server, uri: &str) -> Value {
    let answer = server.get(uri).await;
    assert_eq!(answer.status, StatusCode::OK, "{uri}: {}", answer.text());
    let body = answer.json();
    assert_eq!((&body["limit"], &body["offset"], &body["errors"]), (&json!(0), &json!(0), &Value::Null), "{uri}");
    body["data"].clone()
}

#[tokio::test]
async fn services_and_operations() {
    let server = filled();
    for base in ["/jaeger/api", "/jaeger"] {
        let got = server.get(&format!("{base}/services")).await.json();
        assert_eq!(got, json!({"data": ["cart", "shop"], "total": 2, "limit": 0, "offset": 0, "errors": null}));
        let names = data(&server, &format!("{base}/services/cart/operations")).await;
        assert_eq!(names, json!(["add", "inner", "sweep"]));
        assert_eq!(
            data(&server, &format!("{base}/operations?service=cart&spanKind=client")).await,
            json!([{"name": "add", "spanKind": "client"}])
        );
        assert_eq!(data(&server, &format!("{base}/operations?service=cart")).await.as_array().unwrap().len(), 4);
    }
    assert_eq!(server.get("/jaeger/api/operations").await.status, StatusCode::BAD_REQUEST);
}

fn ids(traces: &Value) -> Vec<&str> {
    traces.as_array().unwrap().iter().map(|t| t["traceID"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn searches() {
    let server = filled();
    let (first, second) = ("01010101010101010101010101010101", "00000000000000000000000000000abc");
    for (query, want) in [
        ("service=cart".to_owned(), vec![second, first]),
        (String::new(), vec![second, first]),
        ("service=shop&operation=GET+/".to_owned(), vec![first]),
        ("service=cart&limit=1".to_owned(), vec![second]),
        ("service=none".to_owned(), vec![]),
        ("service=cart&lookback=30s".to_owned(), vec![]),
        ("service=cart&minDuration=6ms".to_owned(), vec![]),
        (format!("service=cart&tags={}", encoded(r#"{"http.route":"/buy"}"#)), vec![second, first]),
        ("service=cart&tag=http.route:/none".to_owned(), vec![]),
        (format!("traceID={first}&traceID=abc"), vec![first, second]),
    ] {
        let got = data(&server, &format!("/jaeger/api/traces?{query}")).await;
        assert_eq!(ids(&got), want, "{query}");
    }
    let got = server.get("/jaeger/api/traces?traceID=77").await.json();
    assert_eq!(got["data"], json!([]));
    assert_eq!(got["errors"], json!([{"msg": "trace not found", "traceID": "00000000000000000000000000000077"}]));
    for bad in ["limit=x", "tag=x", "traceID=xyz"] {
        let answer = server.get(&format!("/jaeger/api/traces?{bad}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
        assert_eq!(answer.json()["errors"][0]["code"], json!(400));
    }
}

#[tokio::test]
async fn one_trace_by_id_of_any_length() {
    let server = filled();
    for id in ["abc", "ABC", "0abc", "00000000000000000000000000000abc"] {
        let got = data(&server, &format!("/jaeger/api/traces/{id}?prettyPrint=true")).await;
        assert_eq!(ids(&got), ["00000000000000000000000000000abc"]);
        assert_eq!(got[0]["spans"][0]["duration"], json!(5000));
        assert_eq!(got[0]["processes"]["p1"]["serviceName"], "cart");
    }
    let missing = server.get("/jaeger/api/traces/123").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert_eq!(
        missing.json(),
        json!({"data": null, "total": 0, "limit": 0, "offset": 0, "errors": [{"code": 404, "msg": "trace not found"}]})
    );
    assert_eq!(server.get("/jaeger/api/traces/zzz").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn dependencies_count_calls_between_services() {
    let server = filled();
    let got = data(&server, "/jaeger/api/dependencies?endTs=1700000000000&lookback=3600000").await;
    assert_eq!(got, json!([{"parent": "shop", "child": "cart", "callCount": 2}]));
    assert_eq!(data(&server, "/jaeger/api/dependencies?endTs=1000&lookback=10").await, json!([]));
}
