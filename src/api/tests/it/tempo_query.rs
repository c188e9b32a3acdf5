//! Tempo's searches, metrics and tags through the router.

use http::StatusCode;
use serde_json::{Value, json};

use crate::jaeger::filled;
use crate::memory_events::{NOW_MS, Server, encoded};

async fn ask(server: &Server, path: &str, query: &str, more: &str) -> Value {
    let answer = server.get(&format!("/tempo/api/{path}?q={}{more}", encoded(query))).await;
    assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.text());
    answer.json()
}

fn ids(found: &Value) -> Vec<&str> {
    let traces = found["traces"].as_array().expect("a search has traces");
    traces.iter().map(|t| t["traceID"].as_str().expect("a trace has an id")).collect()
}

const FIRST: &str = "01010101010101010101010101010101";
const SECOND: &str = "00000000000000000000000000000abc";

#[tokio::test]
async fn a_search() {
    let server = filled();
    let found = ask(&server, "search", r#"{ span.http.route = "/buy" && kind = server } | count() > 1"#, "").await;
    let span = |id: &str, name: &str| {
        json!({
            "spanID": id.repeat(8),
            "name": name,
            "startTimeUnixNano": "1699999940000000000",
            "durationNanos": "5000000",
            "attributes": [
                {"key": "http.route", "value": {"stringValue": "/buy"}},
                {"key": "kind", "value": {"stringValue": "server"}},
            ],
        })
    };
    let set = json!({
        "spans": [span("01", "GET /"), span("02", "add")],
        "matched": 2,
        "attributes": [{"key": "count()", "value": {"intValue": "2"}}],
    });
    let trace = json!({
        "traceID": FIRST,
        "rootServiceName": "shop",
        "rootTraceName": "GET /",
        "startTimeUnixNano": "1699999940000000000",
        "durationMs": 5,
        "spanSet": set,
        "spanSets": [set],
        "serviceStats": {
            "cart": {"spanCount": 3, "errorCount": 0},
            "shop": {"spanCount": 1, "errorCount": 0},
        },
    });
    assert_eq!(found["traces"], json!([trace]));
    assert_eq!(found["metrics"]["inspectedTraces"], 2);
}

#[tokio::test]
async fn searches_are_bounded_and_ordered() {
    let server = filled();
    // Both traces start at the same time: then by id.
    assert_eq!(ids(&ask(&server, "search", "{}", "").await), [SECOND, FIRST]);
    assert_eq!(ids(&ask(&server, "search", "{}", "&limit=1").await), [SECOND]);
    let found = ask(&server, "search", r#"{ resource.service.name = "cart" }"#, "&spss=2").await;
    assert_eq!(found["traces"][1]["spanSet"]["matched"], 3);
    assert_eq!(found["traces"][1]["spanSet"]["spans"].as_array().unwrap().len(), 2);
    let at = NOW_MS / 1000 - 60;
    for (start, end, want) in [(at, at, 2), (at + 1, at + 5, 0), (at - 5, at - 1, 0), (at - 5, at + 5, 2)] {
        let found = ask(&server, "search", "{}", &format!("&start={start}&end={end}")).await;
        assert_eq!(ids(&found).len(), want, "{start} to {end}");
    }
    let structural = ask(&server, "search", r#"{ name = "GET /" } >> { name = "inner" }"#, "").await;
    assert_eq!(ids(&structural), [FIRST]);
    let older = server.get("/tempo/api/search?tags=service.name%3Dshop+http.route%3D%2Fbuy&minDuration=1ms").await;
    assert_eq!(ids(&older.json()), [FIRST]);
}

#[tokio::test]
async fn refused_queries_name_the_place() {
    let server = filled();
    for (path, query, text) in [
        ("search", "{ name = 3 }", "invalid query at line 1, col 10"),
        ("search", "{ status = error", "parse error at line 1, col 17"),
        ("search", "{} | rate()", "a metrics query gives series"),
        ("metrics/query_range", "{}", "a metrics query ends in a metrics function"),
        ("metrics/query", "{ parent.a = 1 } | rate()", "not supported at line 1, col 3"),
    ] {
        let answer = server.get(&format!("/tempo/api/{path}?q={}", encoded(query))).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(answer.text().contains(text), "{query}: {}", answer.text());
    }
    for path in [
        "search?q=%7B%7D&limit=many",
        "search?q=%7B%7D&spss=100000",
        "search?q=%7B%7D&start=9&end=8",
        "metrics/query_range?q=%7B%7D%7Crate()&step=-1",
        "v2/search/tags?scope=other",
        "v2/search/tag/span./values",
    ] {
        assert_eq!(server.get(&format!("/tempo/api/{path}")).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn metrics_over_a_range() {
    let server = filled();
    let (start, end) = (NOW_MS / 1000 - 100, NOW_MS / 1000);
    let times = format!("&start={start}&end={end}&step=50s");
    let query = "{} | count_over_time() by (resource.service.name)";
    let found = ask(&server, "metrics/query_range", query, &times).await;
    let series = found["series"].as_array().unwrap();
    assert_eq!(series.len(), 2);
    assert_eq!(series[0]["labels"], json!([{"key": "resource.service.name", "value": {"stringValue": "cart"}}]));
    let samples: Vec<(&str, f64)> = series[0]["samples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["timestampMs"].as_str().unwrap(), s["value"].as_f64().unwrap()))
        .collect();
    assert_eq!(samples, [("1699999900000", 0.0), ("1699999950000", 4.0), ("1700000000000", 0.0)]);
    let exemplar = &series[0]["exemplars"][0];
    assert_eq!(exemplar["timestampMs"], "1699999940000");
    assert_eq!(exemplar["value"], 4.0);
    assert_eq!(exemplar["labels"][0], json!({"key": "trace:id", "value": {"stringValue": SECOND}}));
    let none = ask(&server, "metrics/query_range", query, &format!("{times}&exemplars=0")).await;
    assert_eq!(none["series"][0]["exemplars"], json!([]));
    // Without times the last hour.
    let all = ask(&server, "metrics/query_range", "{} | max_over_time(duration)", "").await;
    assert_eq!(all["series"][0]["samples"][0]["value"], 0.005);
    assert_eq!(all["series"][0]["labels"][0]["value"]["stringValue"], "max_over_time");
}

#[tokio::test]
async fn metrics_at_once() {
    let server = filled();
    let query = r#"{ resource.service.name = "cart" } | count_over_time() by (name)"#;
    let found = ask(&server, "metrics/query", query, "").await;
    let label = |name: &str| json!([{"key": "name", "value": {"stringValue": name}}]);
    let want = json!([
        {"labels": label("add"), "value": 2.0},
        {"labels": label("inner"), "value": 1.0},
        {"labels": label("sweep"), "value": 1.0},
    ]);
    assert_eq!(found["series"], want);
}

#[tokio::test]
async fn tags_and_values() {
    let server = filled();
    let scopes = ask(&server, "v2/search/tags", "", "").await;
    let names: Vec<&str> = scopes["scopes"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["resource", "span", "intrinsic"]);
    assert_eq!(scopes["scopes"][0]["tags"], json!(["service.name"]));
    assert!(scopes["scopes"][2]["tags"].as_array().unwrap().contains(&json!("span:status")));
    let span = ask(&server, "v2/search/tags", "", "&scope=span").await;
    assert_eq!(span, json!({"scopes": [{"name": "span", "tags": ["http.route"]}]}));
    assert_eq!(ask(&server, "search/tags", "", "").await, json!({"tagNames": ["http.route", "service.name"]}));

    let string = |text: &str| json!({"type": "string", "value": text});
    let values = |found: Value| found["tagValues"].clone();
    let of = async |tag: &str, q: &str| values(ask(&server, &format!("v2/search/tag/{tag}/values"), q, "").await);
    assert_eq!(of("resource.service.name", "").await, json!([string("cart"), string("shop")]));
    assert_eq!(of("resource.service.name", "{ name = \"GET /\" && span.x = }").await, json!([string("shop")]));
    assert_eq!(of("name", "{ resource.service.name = \"shop\" }").await, json!([string("GET /")]));
    assert_eq!(of("span.http.route", "{}").await, json!([string("/buy")]));
    assert_eq!(of("status", "").await[0], json!({"type": "keyword", "value": "error"}));
    assert_eq!(of("duration", "").await, json!([]));
    let v1 = ask(&server, "search/tag/service.name/values", "", "").await;
    assert_eq!(v1, json!({"tagValues": ["cart", "shop"]}));
}
