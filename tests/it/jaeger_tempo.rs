//! The shapes of Jaeger's and Tempo's answers.

use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Status};
use prost::Message;
use serde_json::{Value, json};
use trefoil_tests::{Http, Server, ServerOptions, grpc, items, text, wire};

const TRACE: &str = "0102030405060708090a0b0c0d0e0f10";

/// `tempopb.Trace`.
#[derive(Clone, PartialEq, Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

/// `tempopb.TraceByIDResponse`.
#[derive(Clone, PartialEq, Message)]
struct TraceById {
    #[prost(message, optional, tag = "1")]
    trace: Option<Trace>,
}

fn trace_bytes() -> [u8; 16] {
    std::array::from_fn(|i| i as u8 + 1)
}

/// Writes a trace of two services; the start of its root in nanoseconds.
fn write(http: &Http) -> u64 {
    let start = (wire::now_ns() - 30_000_000_000) / 1000 * 1000;
    let mut root = wire::span(trace_bytes(), [1; 8], None, "GET /cart", start);
    root.attributes = vec![wire::attribute("http.route", "/cart")];
    root.events = vec![Event { time_unix_nano: start + 1000, name: "cache miss".to_owned(), ..Default::default() }];
    let mut child = wire::span(trace_bytes(), [2; 8], Some([1; 8]), "SELECT cart", start + 2_000_000);
    child.kind = 3;
    child.status = Some(Status { message: "no such table".to_owned(), code: 2 });
    child.links = vec![Link { trace_id: vec![9; 16], span_id: vec![9; 8], ..Default::default() }];
    for (service, span) in [("front", root), ("store", child)] {
        let answer = http.post("/v1/traces", wire::OTLP, wire::otlp_spans(service, vec![span])).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    start
}

fn tag(span: &Value, key: &str) -> Value {
    items(&span["tags"]).find(|t| t["key"] == key).map_or(Value::Null, |t| t["value"].clone())
}

#[test]
fn jaeger_shapes() {
    let server = Server::start("jaeger", ServerOptions::default());
    let http = &server.http;
    let start = write(http);
    let data =
        |path: &str, query: &[(&str, &str)]| http.json(&format!("/jaeger/api{path}"), query).unwrap()["data"].clone();
    let mut services: Vec<String> = items(&data("/services", &[])).map(text).collect();
    services.sort();
    assert_eq!(services, ["front", "store"]);
    assert_eq!(data("/services/front/operations", &[]), json!(["GET /cart"]));
    let operations = data("/operations", &[("service", "store")]);
    assert_eq!(operations, json!([{"name": "SELECT cart", "spanKind": "client"}]));

    let whole = http.json(&format!("/jaeger/api/traces/{TRACE}"), &[]).unwrap();
    for key in ["data", "total", "limit", "offset", "errors"] {
        assert!(whole.get(key).is_some(), "{key} is missing in {whole}");
    }
    let trace = &whole["data"][0];
    assert_eq!(trace["traceID"], TRACE);
    let span =
        |name: &str| items(&trace["spans"]).find(|s| s["operationName"] == name).unwrap_or_else(|| panic!("{trace}"));
    let (root, child) = (span("GET /cart"), span("SELECT cart"));
    assert_eq!((&root["spanID"], &root["references"]), (&"0101010101010101".into(), &json!([])));
    assert_eq!((root["startTime"].as_u64(), root["duration"].as_u64()), (Some(start / 1000), Some(500_000)));
    assert_eq!((tag(root, "span.kind"), tag(root, "http.route")), ("server".into(), "/cart".into()), "{root}");
    assert_eq!(items(&root["logs"]).count(), 1, "{root}");
    assert_eq!(
        items(&root["logs"][0]["fields"]).find(|f| f["key"] == "event").map(|f| text(&f["value"])),
        Some("cache miss".to_owned())
    );
    assert_eq!(child["references"][0], json!({"refType": "CHILD_OF", "traceID": TRACE, "spanID": "0101010101010101"}));
    assert_eq!(child["references"][1]["refType"], "FOLLOWS_FROM", "{child}");
    assert_eq!((tag(child, "error"), tag(child, "span.kind")), (json!(true), "client".into()), "{child}");
    assert_eq!(tag(child, "otel.status_description"), "no such table", "{child}");
    let process = |s: &Value| text(&trace["processes"][text(&s["processID"])]["serviceName"]);
    assert_eq!((process(root), process(child)), ("front".to_owned(), "store".to_owned()));

    let (from, to) = ((start / 1000 - 1_000_000).to_string(), (start / 1000 + 60_000_000).to_string());
    for (query, found) in [
        (&[("service", "front")][..], 1),
        (&[("service", "front"), ("operation", "GET /cart")], 1),
        (&[("service", "front"), ("operation", "SELECT cart")], 0),
        (&[("service", "store"), ("tags", "{\"error\":\"true\"}")], 1),
        (&[("service", "front"), ("tags", "{\"http.route\":\"/cart\"}")], 1),
        (&[("service", "front"), ("tags", "{\"http.route\":\"/\"}")], 0),
        (&[("service", "front"), ("minDuration", "400ms")], 1),
        (&[("service", "front"), ("minDuration", "2s")], 0),
        (&[("service", "nobody")], 0),
    ] {
        let window = [query, &[("start", &from), ("end", &to), ("limit", "20")]].concat();
        let traces = data("/traces", &window);
        assert_eq!(items(&traces).count(), found, "{query:?}: {traces}");
        assert!(items(&traces).all(|t| items(&t["spans"]).count() == 2), "whole traces: {traces}");
    }
    assert_eq!(data("/traces", &[("traceID", TRACE)])[0]["traceID"], TRACE);
    // Leading zeros may be left out.
    assert_eq!(data(&format!("/traces/{}", &TRACE[1..]), &[])[0]["traceID"], TRACE);

    let missing = http.get(&format!("/jaeger/api/traces/{}", "ab".repeat(16)), &[]).unwrap();
    assert_eq!(missing.status, 404);
    assert_eq!(missing.json()["errors"][0], json!({"code": 404, "msg": "trace not found"}));
}

#[test]
fn tempo_shapes() {
    let server = Server::start("tempo", ServerOptions::default());
    let http = &server.http;
    let start = write(http);
    let protobuf = |path: &str| {
        http.send(http.client.get(format!("{}/tempo{path}", http.base)).header("accept", "application/protobuf"))
            .unwrap()
    };
    let check = |resource_spans: &[ResourceSpans]| {
        let spans: Vec<_> = resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans).collect();
        let mut names: Vec<_> = spans.iter().map(|s| (s.name.as_str(), s.trace_id.clone())).collect();
        names.sort();
        assert_eq!(names, ["GET /cart", "SELECT cart"].map(|n| (n, trace_bytes().to_vec())));
        assert!(spans.iter().any(|s| s.start_time_unix_nano == start && s.end_time_unix_nano == start + 500_000_000));
        let services: Vec<_> =
            resource_spans.iter().map(|r| r.resource.clone().unwrap().attributes[0].clone()).collect();
        assert!(services.contains(&wire::attribute("service.name", "front")), "{services:?}");
    };
    let answer = protobuf(&format!("/api/traces/{TRACE}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    check(&Trace::decode(answer.body.as_slice()).unwrap().resource_spans);
    let answer = protobuf(&format!("/api/v2/traces/{TRACE}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    check(&TraceById::decode(answer.body.as_slice()).unwrap().trace.unwrap().resource_spans);

    let v1 = http.json(&format!("/tempo/api/traces/{TRACE}"), &[]).unwrap();
    let v2 = http.json(&format!("/tempo/api/v2/traces/{TRACE}"), &[]).unwrap();
    for batches in [&v1["batches"], &v2["trace"]["resourceSpans"]] {
        let spans: Vec<&Value> =
            items(batches).flat_map(|b| items(&b["scopeSpans"])).flat_map(|s| items(&s["spans"])).collect();
        assert_eq!(spans.len(), 2, "{v1} {v2}");
        assert!(spans.iter().any(|s| text(&s["startTimeUnixNano"]) == start.to_string()), "{spans:?}");
    }
    for version in ["", "/v2"] {
        let path = format!("/api{version}/traces/{}", "ab".repeat(16));
        assert_eq!(protobuf(&path).status, 404, "{path}");
        assert_eq!(http.get(&format!("/tempo{path}"), &[]).unwrap().status, 404, "{path}");
    }
    let echo = http.get("/tempo/api/echo", &[]).unwrap();
    assert_eq!((echo.status, echo.text().trim()), (200, "echo"));
}

/// `tempopb.SearchRequest`.
#[derive(Clone, PartialEq, Message)]
struct SearchRequest {
    #[prost(string, tag = "8")]
    query: String,
}

/// `tempopb.SearchResponse`.
#[derive(Clone, PartialEq, Message)]
struct SearchResponse {
    #[prost(message, repeated, tag = "1")]
    traces: Vec<TraceMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct TraceMetadata {
    #[prost(string, tag = "1")]
    trace_id: String,
    #[prost(string, tag = "2")]
    root_service_name: String,
}

/// `jaeger.api_v2.GetTraceRequest`.
#[derive(Clone, PartialEq, Message)]
struct GetTraceRequest {
    #[prost(bytes, tag = "1")]
    trace_id: Vec<u8>,
}

/// `jaeger.api_v2.SpansResponseChunk`.
#[derive(Clone, PartialEq, Message)]
struct Chunk {
    #[prost(message, repeated, tag = "1")]
    spans: Vec<ChunkSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkSpan {
    #[prost(string, tag = "3")]
    operation_name: String,
}

#[test]
fn grpc_on_the_port_of_http() {
    let server = Server::start("grpc_queries", ServerOptions::default());
    write(&server.http);
    let client = grpc::clear_text_client();
    let call = |method: &str, message: Vec<u8>| grpc::call(&client, &server.http.base, method, None, &message).unwrap();
    let query = "{ resource.service.name = \"store\" }".to_owned();
    let answer = call("tempopb.StreamingQuerier/Search", SearchRequest { query }.encode_to_vec());
    let found = SearchResponse::decode(answer.body.as_slice()).unwrap();
    let want = TraceMetadata { trace_id: TRACE.to_owned(), root_service_name: "front".to_owned() };
    assert_eq!(found.traces, [want]);
    let asked = GetTraceRequest { trace_id: trace_bytes().to_vec() }.encode_to_vec();
    let answer = call("jaeger.api_v2.QueryService/GetTrace", asked);
    let mut names: Vec<String> =
        Chunk::decode(answer.body.as_slice()).unwrap().spans.into_iter().map(|s| s.operation_name).collect();
    names.sort();
    assert_eq!(names, ["GET /cart", "SELECT cart"]);
    let missing = GetTraceRequest { trace_id: vec![0xab; 16] }.encode_to_vec();
    assert_eq!(call("jaeger.api_v2.QueryService/GetTrace", missing).status, 5);
    let v3 = server.http.json(&format!("/jaeger/api/v3/traces/{TRACE}"), &[]).unwrap();
    let resources = items(&v3["result"]["resourceSpans"]);
    let spans: Vec<&Value> = resources.flat_map(|r| items(&r["scopeSpans"])).flat_map(|s| items(&s["spans"])).collect();
    assert!(spans.len() == 2 && spans.iter().all(|s| s["traceId"] == TRACE), "{v3}");
}
