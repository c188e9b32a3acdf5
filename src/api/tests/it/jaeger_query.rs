//! Version 3 of Jaeger's API over HTTP, versions 2 and 3 over gRPC, and sampling, through the router.

use http::StatusCode;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use serde_json::{Value, json};
use trefoil_ingest::jaeger::proto::{Span, Time};

use crate::grpc_calls::{call, call_once};
use crate::jaeger::filled;
use crate::memory_events::{NOW_NS, SECOND_NS, Server, encoded};

const FIRST: &str = "01010101010101010101010101010101";
const RANGE: &str = "query.startTimeMin=2023-11-14T22:00:00Z&query.startTimeMax=2023-11-14T22:13:20.5Z";

async fn json(server: &Server, path: &str) -> Value {
    let answer = server.get(&format!("/jaeger/api/v3/{path}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
    answer.json()
}

#[tokio::test]
async fn version_3_over_http() {
    let server = filled();
    assert_eq!(json(&server, "services").await, json!({"services": ["cart", "shop"]}));
    for name in ["spanKind", "span_kind"] {
        let found = json(&server, &format!("operations?service=cart&{name}=client")).await;
        assert_eq!(found, json!({"operations": [{"name": "add", "spanKind": "client"}]}));
    }
    let found = json(&server, &format!("traces/{FIRST}")).await;
    let resources = found["result"]["resourceSpans"].as_array().unwrap();
    assert_eq!(resources.len(), 2);
    let root = &resources[0]["scopeSpans"][0]["spans"][0];
    assert_eq!((&root["traceId"], &root["name"], &root["kind"]), (&json!(FIRST), &json!("GET /"), &json!(2)));
    assert_eq!(root["startTimeUnixNano"], json!("1699999940000000000"));
    // Base64 of the same id.
    assert_eq!(json(&server, "traces/AQEBAQEBAQEBAQEBAQEBAQ==").await, found);

    let traces = |found: &Value| found["result"]["resourceSpans"].as_array().unwrap().len();
    let older = RANGE.replace("startTimeM", "start_time_m");
    for (query, want) in [
        (format!("{RANGE}&query.serviceName=cart"), 3),
        (format!("{older}&query.service_name=shop&query.operation_name=GET+%2F&query.num_traces=5"), 2),
        (format!("{RANGE}&query.serviceName=cart&query.searchDepth=1"), 1),
        (format!("{RANGE}&query.attributes={}&query.durationMax=1s", encoded(r#"{"http.route":"/buy"}"#)), 3),
    ] {
        assert_eq!(traces(&json(&server, &format!("traces?{query}")).await), want, "{query}");
    }
    let refused = async |path: String| {
        let answer = server.get(&format!("/jaeger/api/v3/{path}")).await;
        let body = answer.json();
        assert_eq!(body["error"]["httpCode"], answer.status.as_u16());
        (answer.status.as_u16(), body["error"]["message"].as_str().unwrap().to_owned())
    };
    for (path, status, text) in [
        (format!("traces?{RANGE}&query.serviceName=none"), 404, "No traces found"),
        ("traces/ff".to_owned(), 404, "trace not found"),
        ("traces/xyz".to_owned(), 400, "malformed parameter trace_id"),
        ("traces".to_owned(), 400, "query.startTimeMin and query.startTimeMax are required"),
        (format!("traces?{RANGE}&query.durationMin=long"), 400, "malformed parameter query.durationMin"),
        (format!("traces?{RANGE}&query.attributes=x"), 400, "malformed parameter query.attributes"),
        (format!("traces?{RANGE}&query.filter=x"), 400, "structured filters are not supported"),
        ("dependencies".to_owned(), 400, "start_time is required"),
    ] {
        let (got, message) = refused(path.clone()).await;
        assert!(got == status && message.contains(text), "{path}: {got} {message}");
    }
    let found = json(&server, &format!("trace-summaries?{RANGE}&query.serviceName=shop")).await;
    let summary = json!({
        "traceId": FIRST,
        "rootServiceName": "shop",
        "rootOperationName": "GET /",
        "minStartTimeUnixNano": "1699999940000000000",
        "maxEndTimeUnixNano": "1699999940005000000",
        "spanCount": 4,
        "services": [{"name": "cart", "spanCount": 3}, {"name": "shop", "spanCount": 1}],
    });
    assert_eq!(found, json!({"summaries": [summary]}));
    let edges = json(&server, "dependencies?startTime=2023-11-14T22:00:00Z&endTime=2023-11-14T23:00:00Z").await;
    assert_eq!(edges, json!({"dependencies": [{"parent": "shop", "child": "cart", "callCount": "2"}]}));
}

#[derive(Clone, PartialEq, Message)]
struct BytesId {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone, PartialEq, Message)]
struct Find {
    #[prost(message, optional, tag = "1")]
    query: Option<Query>,
}

#[derive(Clone, PartialEq, Message)]
struct Query {
    #[prost(string, tag = "1")]
    service_name: String,
    #[prost(message, optional, tag = "4")]
    start: Option<Time>,
    #[prost(message, optional, tag = "5")]
    end: Option<Time>,
}

fn find(service: &str, with_range: bool) -> Find {
    let time = |ns: i64| with_range.then(|| Time::from_ns(ns));
    let query = Query { service_name: service.to_owned(), start: time(NOW_NS - 600 * SECOND_NS), end: time(NOW_NS) };
    Find { query: Some(query) }
}

#[derive(Clone, PartialEq, Message)]
struct Chunk {
    #[prost(message, repeated, tag = "1")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Texts {
    #[prost(string, repeated, tag = "1")]
    texts: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Summaries {
    #[prost(message, repeated, tag = "1")]
    summaries: Vec<Text>,
}

#[derive(Clone, PartialEq, Message)]
struct Dependencies {
    #[prost(message, repeated, tag = "1")]
    dependencies: Vec<Dependency>,
}

#[derive(Clone, PartialEq, Message)]
struct Dependency {
    #[prost(string, tag = "1")]
    parent: String,
    #[prost(uint64, tag = "3")]
    call_count: u64,
}

#[tokio::test]
async fn version_2_over_grpc() {
    let server = filled();
    let method = |name: &str| format!("jaeger.api_v2.QueryService/{name}");
    let chunk: Chunk = call_once(&server, &method("GetTrace"), &BytesId { trace_id: vec![1; 16] }).await.unwrap();
    let names: Vec<&str> = chunk.spans.iter().map(|s| s.operation_name.as_str()).collect();
    assert_eq!(names, ["GET /", "add", "add", "inner"]);
    let add = &chunk.spans[1];
    assert_eq!((add.references[0].span_id.as_slice(), add.references[0].ref_type), (&[1; 8][..], 0));
    assert_eq!(add.process.as_ref().unwrap().service_name, "cart");
    assert_eq!(
        (add.start_time, add.duration),
        (Some(Time::from_ns(NOW_NS - 60 * SECOND_NS)), Some(Time::from_ns(5_000_000)))
    );
    let tags: Vec<(&str, &str)> = add.tags.iter().map(|t| (t.key.as_str(), t.v_str.as_str())).collect();
    assert_eq!(tags, [("http.route", "/buy"), ("span.kind", "server")]);
    let missing = call::<Chunk>(&server, &method("GetTrace"), &BytesId { trace_id: vec![9; 16] }).await;
    assert_eq!(missing.unwrap_err(), (5, "trace not found".to_owned()));
    assert_eq!(call::<Chunk>(&server, &method("GetTrace"), &BytesId::default()).await.unwrap_err().0, 3);

    let chunks: Vec<Chunk> = call(&server, &method("FindTraces"), &find("cart", false)).await.unwrap();
    assert_eq!(chunks.iter().map(|c| c.spans.len()).collect::<Vec<_>>(), [1, 4]);
    assert_eq!(call::<Chunk>(&server, &method("FindTraces"), &find("none", true)).await.unwrap(), []);
    let services: Texts = call_once(&server, &method("GetServices"), &BytesId::default()).await.unwrap();
    assert_eq!(services.texts, ["cart", "shop"]);
    let asked = Text { text: "cart".to_owned() };
    let operations: Texts = call_once(&server, &method("GetOperations"), &asked).await.unwrap();
    assert_eq!(operations.texts, ["add", "inner", "sweep"]);
}

#[derive(Clone, PartialEq, Message)]
struct Times {
    #[prost(message, optional, tag = "1")]
    start: Option<Time>,
    #[prost(message, optional, tag = "2")]
    end: Option<Time>,
}

#[tokio::test]
async fn version_3_over_grpc() {
    let server = filled();
    let method = |name: &str| format!("jaeger.api_v3.QueryService/{name}");
    let id = Text { text: FIRST.to_owned() };
    let found: TracesData = call_once(&server, &method("GetTrace"), &id).await.unwrap();
    assert_eq!(found.resource_spans.len(), 2);
    let missing = call::<TracesData>(&server, &method("GetTrace"), &Text { text: "ff".to_owned() }).await;
    assert_eq!(missing.unwrap_err(), (5, "trace not found".to_owned()));
    let found: Vec<TracesData> = call(&server, &method("FindTraces"), &find("cart", true)).await.unwrap();
    assert_eq!(found.iter().map(|t| t.resource_spans.len()).collect::<Vec<_>>(), [1, 2]);
    let refused = call::<TracesData>(&server, &method("FindTraces"), &find("cart", false)).await;
    assert_eq!(refused.unwrap_err(), (3, "start time min and max are required parameters".to_owned()));
    let found: Summaries = call_once(&server, &method("FindTraceSummaries"), &find("shop", true)).await.unwrap();
    assert_eq!(found.summaries, [id]);
    let services: Texts = call_once(&server, &method("GetServices"), &Text::default()).await.unwrap();
    assert_eq!(services.texts, ["cart", "shop"]);
    let times = Times { start: Some(Time::from_ns(NOW_NS - 600 * SECOND_NS)), end: Some(Time::from_ns(NOW_NS)) };
    for service in ["jaeger.api_v2.QueryService", "jaeger.api_v3.QueryService"] {
        let edges: Dependencies = call_once(&server, &format!("{service}/GetDependencies"), &times).await.unwrap();
        assert_eq!(edges.dependencies, [Dependency { parent: "shop".to_owned(), call_count: 2 }]);
        let refused = call::<Dependencies>(&server, &format!("{service}/GetDependencies"), &Times::default()).await;
        assert_eq!(refused.unwrap_err().0, 3);
    }
}

#[derive(Clone, PartialEq, Message)]
struct Strategy {
    #[prost(message, optional, tag = "2")]
    probabilistic: Option<Probabilistic>,
}

#[derive(Clone, PartialEq, Message)]
struct Probabilistic {
    #[prost(double, tag = "1")]
    rate: f64,
}

#[tokio::test]
async fn sampling() {
    let server = filled();
    let want = json!({"strategyType": "PROBABILISTIC", "probabilisticSampling": {"samplingRate": 0.001}});
    for path in ["/sampling", "/jaeger/sampling", "/jaeger/api/sampling"] {
        assert_eq!(server.get(&format!("{path}?service=shop")).await.json(), want, "{path}");
    }
    for query in ["", "?service=a&service=b"] {
        let answer = server.get(&format!("/sampling{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.text(), "'service' parameter must be provided once\n");
    }
    let asked = Text { text: "shop".to_owned() };
    let told: Strategy = call_once(&server, "jaeger.api_v2.SamplingManager/GetSamplingStrategy", &asked).await.unwrap();
    assert_eq!(told.probabilistic, Some(Probabilistic { rate: 0.001 }));
}
