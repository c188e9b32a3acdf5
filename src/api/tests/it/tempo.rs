//! Tempo's API through the router.

use http::StatusCode;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use serde_json::json;

use crate::jaeger::filled;
use crate::memory_events::Server;

const PROTOBUF: (&str, &str) = ("accept", "application/protobuf");

#[tokio::test]
async fn echo_and_version() {
    let server = Server::new();
    assert_eq!(server.get("/tempo/api/echo").await.text(), "echo");
    let version = server.get("/tempo/api/status/buildinfo").await.json();
    assert_eq!(version["version"], trefoil_api::tempo::TEMPO_VERSION);
}

#[tokio::test]
async fn a_trace_as_json() {
    let server = filled();
    let v1 = server.get("/tempo/api/traces/abc").await.json();
    let batch = json!({
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "cart"}}]},
        "scopeSpans": [{"scope": {}, "spans": [{
            "traceId": "AgICAgICAgICAgICAgICAg==",
            "spanId": "CQkJCQkJCQk=",
            "name": "sweep",
            "startTimeUnixNano": "1699999940000000000",
            "endTimeUnixNano": "1699999940005000000",
            "attributes": [{"key": "http.route", "value": {"stringValue": "/buy"}}],
            "status": {},
        }]}],
    });
    assert_eq!(v1, json!({"batches": [batch]}));
    let v2 = server.get("/tempo/api/v2/traces/abc").await.json();
    assert_eq!(v2, json!({"trace": {"resourceSpans": [batch]}, "metrics": {}}));
    let first = server.get("/tempo/api/traces/01010101010101010101010101010101").await.json();
    assert_eq!(first["batches"][1]["scopeSpans"][0]["spans"][0]["kind"], "SPAN_KIND_SERVER");
}

#[tokio::test]
async fn a_trace_as_protobuf() {
    let server = filled();
    let v1 = server.get_with("/tempo/api/traces/01010101010101010101010101010101", &[PROTOBUF]).await;
    assert_eq!(v1.headers["content-type"], "application/protobuf");
    let trace = TracesData::decode(v1.body.as_slice()).unwrap();
    let spans: usize = trace.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum();
    assert_eq!((trace.resource_spans.len(), spans), (2, 4));
    assert_eq!(trace.resource_spans[1].scope_spans[0].spans[0].parent_span_id, [1; 8]);
    // Version 2 wraps the same message as field 1.
    let v2 = server.get_with("/tempo/api/v2/traces/01010101010101010101010101010101", &[PROTOBUF]).await;
    assert_eq!(v2.body[0], 0x0a);
    let wrapped = v2.body.windows(v1.body.len()).any(|w| w == v1.body);
    assert!(wrapped, "the trace stands in the answer");
}

#[tokio::test]
async fn what_is_not_there() {
    let server = filled();
    for path in ["/tempo/api/traces/77", "/tempo/api/v2/traces/77"] {
        assert_eq!(server.get(path).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(server.get("/tempo/api/traces/xyz").await.status, StatusCode::BAD_REQUEST);
}
