//! OTLP traces over HTTP.

use bytes::Bytes;
use http::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use trefoil_ingest::{Answer, Signal};
use trefoil_model::{SpanKind, StatusCode as SpanStatus};

use crate::support::{JSON, NOW_NS, PROTOBUF, Setup, attribute, headers, setup, text};

pub fn span(name: &str) -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: name.into(),
        kind: 2,
        start_time_unix_nano: NOW_NS as u64,
        end_time_unix_nano: NOW_NS as u64 + 1000,
        ..Span::default()
    }
}

pub fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: vec![attribute("service.name", "cart")], ..Resource::default() }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope { name: "lib".into(), ..InstrumentationScope::default() }),
                spans,
                ..ScopeSpans::default()
            }],
            schema_url: "https://s".into(),
        }],
    }
}

async fn post(setup: &Setup, pairs: &[(&'static str, &str)], body: impl Into<Bytes>) -> Answer {
    setup.ingest.otlp_http(Signal::Traces, &headers(pairs), body.into()).await
}

#[tokio::test]
async fn a_span_is_stored_whole() {
    let setup = setup();
    let sent = Span {
        parent_span_id: vec![3; 8],
        trace_state: "a=b".into(),
        flags: 1,
        attributes: vec![attribute("http.route", "/")],
        events: vec![Event { time_unix_nano: NOW_NS as u64 + 1, name: "e".into(), ..Event::default() }],
        links: vec![
            Link { trace_id: vec![4; 16], span_id: vec![5; 8], ..Link::default() },
            Link { trace_id: vec![4; 3], span_id: vec![5; 8], ..Link::default() },
        ],
        dropped_events_count: 7,
        status: Some(Status { code: 2, message: "boom".into() }),
        ..span("GET /")
    };
    let answer = post(&setup, PROTOBUF, request(vec![sent]).encode_to_vec()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success, None);
    let batches = setup.stores.traces.lock();
    let group = &batches[0].groups[0];
    assert_eq!((group.resource.service_name(), group.resource.schema_url.as_str()), ("cart", "https://s"));
    assert_eq!(group.scope.name, "lib");
    let span = &group.spans[0];
    assert_eq!((span.trace_id.0, span.span_id.0, span.parent_span_id.unwrap().0), ([1; 16], [2; 8], [3; 8]));
    assert_eq!(
        (span.kind, span.status_code, span.status_message.as_str()),
        (SpanKind::Server, SpanStatus::Error, "boom")
    );
    assert_eq!((span.start_ns, span.duration_ns()), (NOW_NS, 1000));
    assert_eq!((span.events.len(), span.links.len(), span.dropped), (1, 1, [0, 7, 1]));
}

#[tokio::test]
async fn json_reads_ids_in_either_case() {
    let setup = setup();
    let body = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[
          {{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","parentSpanId":"","name":"a",
            "kind":3,"startTimeUnixNano":"{NOW_NS}","endTimeUnixNano":{NOW_NS},"status":{{}}}},
          {{"traceId":"xyz","spanId":"eee19b7ec3c1b174","name":"bad","startTimeUnixNano":"{NOW_NS}"}}]}}]}}]}}"#
    );
    let answer = post(&setup, JSON, body).await;
    assert_eq!(answer.status, StatusCode::OK);
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(json["partialSuccess"]["rejectedSpans"], "1", "{json}");
    let batches = setup.stores.traces.lock();
    let span = &batches[0].groups[0].spans[0];
    assert_eq!(span.trace_id.to_string(), "5b8efff798038103d269b633813fc60c");
    assert_eq!((span.parent_span_id, span.kind), (None, SpanKind::Client));
}

#[tokio::test]
async fn wrong_ids_reject_one_span_each() {
    let bad = [
        Span { trace_id: vec![], ..span("no trace") },
        Span { trace_id: vec![0; 16], ..span("zero trace") },
        Span { trace_id: vec![1; 15], ..span("short trace") },
        Span { span_id: vec![0; 8], ..span("zero span") },
        Span { span_id: vec![1; 9], ..span("long span") },
        Span { parent_span_id: vec![1; 3], ..span("short parent") },
        Span { start_time_unix_nano: 0, end_time_unix_nano: 0, ..span("no time") },
        Span { start_time_unix_nano: u64::MAX, ..span("end before start") },
        Span { start_time_unix_nano: NOW_NS as u64 * 2, ..span("future") },
    ];
    let good = Span { parent_span_id: vec![0; 8], end_time_unix_nano: 5, ..span("good") };
    let count = bad.len() as i64 - 1;
    let setup = setup();
    let mut spans = bad.to_vec();
    spans.push(good);
    let answer = post(&setup, PROTOBUF, request(spans).encode_to_vec()).await;
    let partial = ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, count);
    assert!(
        partial.error_message.contains("span \"short trace\": trace id must be 16 bytes and not zero, has 15 bytes"),
        "{}",
        partial.error_message
    );
    let batches = setup.stores.traces.lock();
    // A start that does not fit is taken from the end.
    let [odd, span] = &batches[0].groups[0].spans[..] else { panic!("two spans") };
    assert_eq!((odd.name.as_str(), odd.start_ns, odd.duration_ns()), ("end before start", NOW_NS + 1000, 0));
    assert_eq!((span.parent_span_id, span.end_ns), (None, NOW_NS));
}

#[tokio::test]
async fn span_limits_cut_and_count() {
    let setup = setup();
    let many = Span {
        attributes: (0..130).map(|i| attribute(&format!("k{i}"), &"é".repeat(2000))).collect(),
        events: vec![Event::default(); 129],
        ..span("many")
    };
    let huge = Span { name: "n".repeat(300 << 10), ..span("") };
    let answer = post(&setup, PROTOBUF, request(vec![many, huge]).encode_to_vec()).await;
    let partial = ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 2, "{}", partial.error_message);
    let many = Span {
        attributes: (0..130).map(|i| attribute(&format!("k{i}"), &"é".repeat(i * 10))).collect(),
        events: vec![Event::default(); 129],
        ..span("many")
    };
    let answer = post(&setup, PROTOBUF, request(vec![many]).encode_to_vec()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", text(&answer));
    let batches = setup.stores.traces.lock();
    let span = &batches[0].groups[0].spans[0];
    assert_eq!((span.attributes.len(), span.events.len(), span.dropped), (128, 128, [2, 1, 0]));
    assert_eq!(span.attributes[127].1.as_str().unwrap().len(), 2048);
}
