//! `tempopb.StreamingQuerier` through the router.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use prost::Message;
use tower::ServiceExt;
use trefoil_model::{SpanKind, StoredTrace, TraceId};

use crate::grpc_calls::{call, call_once, request};
use crate::jaeger::{filled, group, span};
use crate::memory_events::{NOW_NS, SECOND_NS, Server};

#[derive(Clone, PartialEq, Message)]
struct Search {
    #[prost(uint32, tag = "4")]
    limit: u32,
    #[prost(uint32, tag = "5")]
    start: u32,
    #[prost(uint32, tag = "6")]
    end: u32,
    #[prost(string, tag = "8")]
    query: String,
}

fn search(query: &str) -> Search {
    Search { query: query.to_owned(), ..Search::default() }
}

#[derive(Clone, PartialEq, Message)]
struct Found {
    #[prost(message, repeated, tag = "1")]
    traces: Vec<Trace>,
    #[prost(message, optional, tag = "2")]
    metrics: Option<Figures>,
}

#[derive(Clone, PartialEq, Message)]
struct Trace {
    #[prost(string, tag = "1")]
    trace_id: String,
    #[prost(string, tag = "2")]
    root_service_name: String,
    #[prost(uint32, tag = "5")]
    duration_ms: u32,
    #[prost(message, repeated, tag = "7")]
    span_sets: Vec<SpanSet>,
}

#[derive(Clone, PartialEq, Message)]
struct SpanSet {
    #[prost(message, repeated, tag = "1")]
    spans: Vec<Span>,
    #[prost(uint32, tag = "2")]
    matched: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(string, tag = "1")]
    span_id: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct Figures {
    #[prost(uint32, tag = "1")]
    inspected_traces: u32,
    #[prost(uint32, tag = "4")]
    completed_jobs: u32,
    #[prost(uint32, tag = "5")]
    total_jobs: u32,
}

/// What asks for names and values, and what answers.
#[derive(Clone, PartialEq, Message)]
struct Tags {
    #[prost(string, tag = "1")]
    scope_or_tag: String,
    #[prost(string, tag = "2")]
    query: String,
}

#[derive(Clone, PartialEq, Message)]
struct Texts {
    #[prost(string, repeated, tag = "1")]
    texts: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Pairs {
    #[prost(message, repeated, tag = "1")]
    pairs: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    first: String,
    #[prost(string, repeated, tag = "2")]
    second: Vec<String>,
}

const SEARCH: &str = "tempopb.StreamingQuerier/Search";

#[tokio::test]
async fn a_search_ends_with_the_whole() {
    let server = filled();
    let found: Vec<Found> = call(&server, SEARCH, &search(r#"{ name = "add" && kind = server }"#)).await.unwrap();
    let whole = found.last().unwrap();
    let [trace] = &whole.traces[..] else { panic!("{whole:?}") };
    assert_eq!((trace.root_service_name.as_str(), trace.duration_ms), ("shop", 5));
    assert_eq!((trace.span_sets[0].matched, trace.span_sets[0].spans[0].span_id.as_str()), (1, "0202020202020202"));
    assert_eq!(whole.metrics, Some(Figures { inspected_traces: 1, completed_jobs: 1, total_jobs: 1 }));
    for (bad, text) in [("{", "parse error"), ("{} | rate()", "a metrics query gives series")] {
        let (code, message) = call::<Found>(&server, SEARCH, &search(bad)).await.unwrap_err();
        assert!(code == 3 && message.contains(text), "{code} {message}");
    }
    let backwards = Search { start: 2, end: 1, ..search("{}") };
    assert_eq!(call::<Found>(&server, SEARCH, &backwards).await.unwrap_err().0, 3);
}

#[tokio::test]
async fn a_search_tells_what_is_sure_newest_first() {
    let server = Server::new();
    let trace = |n: u8| {
        let mut one = span(n, n, None, "one", SpanKind::Server);
        one.start_ns = NOW_NS - i64::from(n) * SECOND_NS;
        one.end_ns = one.start_ns + 1_000_000;
        StoredTrace { trace_id: TraceId([n; 16]), groups: vec![group("shop", vec![one])] }
    };
    server.events.traces.lock().extend((1..=30).map(trace));
    let found: Vec<Found> = call(&server, SEARCH, &Search { limit: 20, ..search("{}") }).await.unwrap();
    let ids = |messages: &[Found]| -> Vec<String> {
        messages.iter().flat_map(|m| m.traces.iter().map(|t| t.trace_id.clone())).collect()
    };
    let (whole, parts) = found.split_last().unwrap();
    let whole = ids(std::slice::from_ref(whole));
    let want: Vec<String> = (1..=20).map(|n| format!("{n:02x}").repeat(16)).collect();
    assert_eq!(whole, want);
    let told = ids(parts);
    assert!(!told.is_empty() && whole.starts_with(&told), "{told:?}");
    assert!(parts.iter().all(|m| m.metrics.as_ref().is_some_and(|f| f.completed_jobs == 0)));
}

#[tokio::test]
async fn names_and_values() {
    let server = filled();
    let tags = |text: &str| Tags { scope_or_tag: text.to_owned(), query: String::new() };
    let ask = async |method: &str, text: &str| {
        call_once::<Texts>(&server, &format!("tempopb.StreamingQuerier/{method}"), &tags(text)).await.unwrap().texts
    };
    assert_eq!(ask("SearchTags", "").await, ["http.route", "service.name"]);
    assert_eq!(ask("SearchTagValues", "service.name").await, ["cart", "shop"]);
    let ask = async |method: &str, text: &str| {
        let found: Pairs =
            call_once(&server, &format!("tempopb.StreamingQuerier/{method}"), &tags(text)).await.unwrap();
        found.pairs.into_iter().map(|p| (p.first, p.second.join(" "))).collect::<Vec<_>>()
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(ask("SearchTagsV2", "span").await, [pair("span", "http.route")]);
    let scopes: Vec<String> = ask("SearchTagsV2", "").await.into_iter().map(|p| p.0).collect();
    assert_eq!(scopes, ["resource", "span", "intrinsic"]);
    let mut values = ask("SearchTagValuesV2", "resource.service.name").await;
    values.sort();
    assert_eq!(values, [pair("string", "cart"), pair("string", "shop")]);
    for (method, text) in [("SearchTagsV2", "other"), ("SearchTagValuesV2", "span.")] {
        let refused = call::<Texts>(&server, &format!("tempopb.StreamingQuerier/{method}"), &tags(text)).await;
        assert_eq!(refused.unwrap_err().0, 3, "{method}");
    }
}

#[derive(Clone, PartialEq, Message)]
struct Range {
    #[prost(string, tag = "1")]
    query: String,
    #[prost(uint64, tag = "2")]
    start: u64,
    #[prost(uint64, tag = "3")]
    end: u64,
    #[prost(uint64, tag = "4")]
    step: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Series {
    #[prost(message, repeated, tag = "1")]
    series: Vec<OneSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct OneSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<KeyValue>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Instants {
    #[prost(message, repeated, tag = "1")]
    series: Vec<Instant>,
}

#[derive(Clone, PartialEq, Message)]
struct Instant {
    #[prost(double, tag = "2")]
    value: f64,
}

#[tokio::test]
async fn metrics() {
    let server = filled();
    let ns = |ago: i64| u64::try_from(NOW_NS - ago * SECOND_NS).unwrap();
    let query = "{} | count_over_time() by (resource.service.name)".to_owned();
    let step = u64::try_from(50 * SECOND_NS).unwrap();
    let range = Range { query: query.clone(), start: ns(100), end: ns(0), step };
    let found: Series = call_once(&server, "tempopb.StreamingQuerier/MetricsQueryRange", &range).await.unwrap();
    let sums: Vec<(String, f64)> = found
        .series
        .iter()
        .map(|s| (s.labels[0].key.clone(), s.samples.iter().map(|sample| sample.value).sum()))
        .collect();
    let name = "resource.service.name".to_owned();
    assert_eq!(sums, [(name.clone(), 4.0), (name, 1.0)]);
    let instant = Range { query, start: ns(100), end: ns(0), step: 0 };
    let found: Instants = call_once(&server, "tempopb.StreamingQuerier/MetricsQueryInstant", &instant).await.unwrap();
    assert_eq!(found.series.iter().map(|s| s.value).collect::<Vec<_>>(), [4.0, 1.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_its_query() {
    let server = filled();
    server.events.is_endless.store(true, Ordering::SeqCst);
    let response = server.router.clone().oneshot(request(SEARCH, &search("{}"))).await.unwrap();
    let mut body = response.into_body();
    let begun = async {
        while server.events.begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    // The query runs while somebody waits for its answer.
    tokio::select! {
        frame = body.frame() => panic!("an endless query answered: {frame:?}"),
        () = begun => {}
    }
    drop(body);
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while server.events.ended.load(Ordering::SeqCst) == 0 {
        assert!(tokio::time::Instant::now() < until, "the query goes on");
        tokio::task::yield_now().await;
    }
}
