use serde_json::json;
use trefoil_model::{SpanId, TraceId};

use super::*;

fn attribute(name: &str, value: AttributeValue) -> (String, AttributeValue) {
    (name.to_owned(), value)
}

fn string_attribute(name: &str, value: &str) -> (String, AttributeValue) {
    attribute(name, AttributeValue::String(value.to_owned()))
}

fn a_span(id: u8, start_ns: i64) -> Span {
    Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([id; 8]),
        parent_span_id: None,
        trace_state: String::new(),
        flags: 0,
        name: format!("op{id}"),
        kind: SpanKind::Unspecified,
        start_ns,
        end_ns: start_ns + 2_500_999,
        attributes: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
        status_code: StatusCode::Unset,
        status_message: String::new(),
        dropped: [0; 3],
    }
}

fn group(service: &str, spans: Vec<Span>) -> SpanGroup {
    let mut attributes = vec![string_attribute("host.name", "h")];
    if !service.is_empty() {
        attributes.push(string_attribute("service.name", service));
    }
    let resource = Resource { attributes, schema_url: String::new() };
    SpanGroup { resource: Arc::new(resource), scope: Arc::default(), spans }
}

fn render(groups: Vec<SpanGroup>, spans_max: usize) -> Value {
    let stored = StoredTrace { trace_id: TraceId([1; 16]), groups };
    serde_json::to_value(trace(&stored, spans_max)).unwrap()
}

#[test]
fn a_span_with_everything() {
    let mut full = a_span(2, 1_000_000_001_500);
    full.parent_span_id = Some(SpanId([9; 8]));
    full.kind = SpanKind::Server;
    full.flags = 0x101;
    full.status_code = StatusCode::Error;
    full.status_message = "broken".to_owned();
    full.trace_state = "a=b".to_owned();
    full.attributes = vec![
        string_attribute("http.method", "GET"),
        attribute("ok", AttributeValue::Bool(true)),
        attribute("n", AttributeValue::Int(200)),
        attribute("big", AttributeValue::Int(i64::MAX)),
        attribute("d", AttributeValue::Double(0.5)),
        attribute("raw", AttributeValue::Bytes(vec![1, 2, 3])),
        attribute("list", AttributeValue::Array(vec![AttributeValue::Int(1), AttributeValue::String("x".into())])),
    ];
    full.events = vec![SpanEvent {
        time_ns: 1_000_000_002_000,
        name: "exception".to_owned(),
        attributes: vec![string_attribute("exception.type", "E")],
        dropped_attributes: 0,
    }];
    full.links = vec![SpanLink {
        trace_id: TraceId([3; 16]),
        span_id: SpanId([4; 8]),
        trace_state: String::new(),
        attributes: Vec::new(),
    }];
    let mut groups = group("shop", vec![full]);
    groups.scope = Arc::new(Scope { name: "lib".to_owned(), version: "1.2".to_owned(), attributes: Vec::new() });
    let text = |k: &str, v: &str| json!({"key": k, "type": "string", "value": v});
    let want = json!({
        "traceID": "01010101010101010101010101010101",
        "spans": [{
            "traceID": "01010101010101010101010101010101",
            "spanID": "0202020202020202",
            "flags": 1,
            "operationName": "op2",
            "references": [
                {"refType": "CHILD_OF", "traceID": "01010101010101010101010101010101", "spanID": "0909090909090909"},
                {"refType": "FOLLOWS_FROM", "traceID": "03030303030303030303030303030303", "spanID": "0404040404040404"},
            ],
            "startTime": 1_000_000_001,
            "duration": 2500,
            "tags": [
                text("otel.scope.name", "lib"),
                text("otel.scope.version", "1.2"),
                text("http.method", "GET"),
                {"key": "ok", "type": "bool", "value": true},
                {"key": "n", "type": "int64", "value": 200},
                {"key": "big", "type": "int64", "value": "9223372036854775807"},
                {"key": "d", "type": "float64", "value": 0.5},
                {"key": "raw", "type": "binary", "value": "AQID"},
                text("list", "[1,\"x\"]"),
                text("span.kind", "server"),
                text("otel.status_code", "ERROR"),
                {"key": "error", "type": "bool", "value": true},
                text("otel.status_description", "broken"),
                text("w3c.tracestate", "a=b"),
            ],
            "logs": [{"timestamp": 1_000_000_002, "fields": [text("event", "exception"), text("exception.type", "E")]}],
            "processID": "p1",
            "warnings": null,
        }],
        "processes": {"p1": {"serviceName": "shop", "tags": [text("host.name", "h")]}},
        "warnings": null,
    });
    assert_eq!(render(vec![groups], 10), want);
}

#[test]
fn equal_resources_are_one_process_and_spans_stand_by_start() {
    let groups =
        vec![group("a", vec![a_span(1, 3000)]), group("", vec![a_span(2, 2000)]), group("a", vec![a_span(3, 1000)])];
    let got = render(groups, 10);
    let ids: Vec<_> = got["spans"].as_array().unwrap().iter().map(|s| (&s["operationName"], &s["processID"])).collect();
    assert_eq!(ids, [(&json!("op3"), &json!("p1")), (&json!("op2"), &json!("p2")), (&json!("op1"), &json!("p1"))]);
    assert_eq!(got["processes"]["p2"]["serviceName"], NO_SERVICE);
    assert_eq!(got["processes"].as_object().unwrap().len(), 2);
}

#[test]
fn a_long_trace_is_cut_with_a_warning() {
    let got = render(vec![group("a", (0..5).map(|i| a_span(i + 1, i64::from(i))).collect())], 3);
    assert_eq!(got["spans"].as_array().unwrap().len(), 3);
    assert_eq!(got["warnings"], json!(["3 of 5 spans are shown (limit spans_per_trace_max)"]));
}
