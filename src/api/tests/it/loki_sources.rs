//! Every request that Grafana's Loki source and Logs Drilldown issue, and what they read of the answers.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use http::StatusCode;
use serde_json::{Value, json};

use crate::memory_events::{NOW_NS, SECOND_NS, Server, encoded};

const SELECTOR: &str = r#"{service_name="shop"}"#;

fn filled() -> Server {
    let server = Server::new();
    let shop = [("service_name", "shop"), ("env", "prod")];
    for i in 0..6 {
        let (level, status) = if i % 3 == 0 { ("error", 500) } else { ("info", 200) };
        let line = format!("level={level} msg=\"request done\" status={status} took={}ms", i * 7);
        let attributes = [("detected_level", level), ("trace_id", if i < 3 { "t1" } else { "t2" })];
        server.events.line(&shop, NOW_NS - (60 - i * 10) * SECOND_NS, &line, &attributes);
    }
    let line = r#"{"level":"warn","http":{"code":301,"path":"/a"},"took":1.5}"#;
    server.events.line(&[("service_name", "cart")], NOW_NS - 5 * SECOND_NS, line, &[("detected_level", "warn")]);
    server
}

/// The window that Explore shows: the last hour in nanoseconds.
fn window() -> String {
    format!("start={}&end={}", NOW_NS - 3600 * SECOND_NS, NOW_NS)
}

/// The answer of a GET, which a form POST must give as well.
async fn asked(server: &Server, path: &str, parameters: &str) -> Value {
    let got = server.get(&format!("{path}?{parameters}")).await;
    assert_eq!(got.status, StatusCode::OK, "{path}?{parameters}: {}", got.text());
    assert!(got.headers["content-type"].to_str().unwrap().starts_with("application/json"), "{path}");
    let posted = server.post_form(path, parameters).await;
    let without_times = |mut answer: Value| {
        answer["data"].as_object_mut().map(|data| data.remove("stats"));
        answer
    };
    assert_eq!(without_times(got.json()), without_times(posted.json()), "{path}");
    got.json()
}

#[tokio::test]
async fn what_the_source_asks() {
    let server = filled();
    let query = encoded(SELECTOR);
    // Health check.
    let health = asked(&server, "/loki/api/v1/query", "query=vector(1)%2Bvector(1)&time=4000000000000000000").await;
    assert_eq!(health["data"]["result"], json!([{"metric": {}, "value": [4_000_000_000_i64, "2"]}]));
    // Explore: lines newest first, with the flag.
    let path = "/loki/api/v1/query_range";
    let lines = format!("{path}?query={query}&{}&direction=backward&limit=1000&step=2000ms", window());
    let headers = [("x-loki-response-encoding-flags", "categorize-labels"), ("x-query-tags", "Source=grafana")];
    let got = server.get_with(&lines, &headers).await.json();
    assert_eq!(got["data"]["resultType"], "streams");
    let values = got["data"]["result"][0]["values"].as_array().unwrap();
    assert_eq!(values.len(), 6);
    assert_eq!(values[0][2]["structuredMetadata"]["detected_level"], "info");
    assert_eq!(got["data"]["result"][0]["stream"], json!({"env": "prod", "service_name": "shop"}));
    // The inspector's figures.
    let summary = &got["data"]["stats"]["summary"];
    assert_eq!((&summary["totalLinesProcessed"], &summary["totalEntriesReturned"]), (&json!(6), &json!(6)));
    assert!(summary["execTime"].is_number() && summary["totalBytesProcessed"].as_u64().unwrap() > 200, "{summary}");
    for part in ["querier", "ingester", "cache", "index"] {
        assert!(got["data"]["stats"][part].is_object(), "{part}");
    }
    // The histogram above the lines.
    let volume = r#"sum by (level, detected_level) (count_over_time({service_name="shop"} | drop __error__ [10m]))"#;
    let got = asked(&server, path, &format!("query={}&{}&step=600000ms", encoded(volume), window())).await;
    let levels: Vec<&str> = got["data"]["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["metric"]["detected_level"].as_str().unwrap())
        .collect();
    assert_eq!((got["data"]["resultType"].as_str(), levels), (Some("matrix"), vec!["error", "info"]));
    // Label browser and completion.
    let labels = asked(&server, "/loki/api/v1/labels", &window()).await;
    assert_eq!(labels, json!({"status": "success", "data": ["env", "service_name"]}));
    let path = "/loki/api/v1/label/service_name/values";
    assert_eq!(asked(&server, path, &window()).await["data"], json!(["cart", "shop"]));
    let path = format!("/loki/api/v1/series?match%5B%5D={query}&{}", window());
    assert_eq!(server.get(&path).await.json()["data"], json!([{"env": "prod", "service_name": "shop"}]));
    let stats = asked(&server, "/loki/api/v1/index/stats", &format!("query={query}&{}", window())).await;
    assert_eq!((&stats["streams"], &stats["entries"]), (&json!(1), &json!(6)));
    assert!(stats["bytes"].is_u64() && stats["chunks"].is_u64());
    let formatted = asked(&server, "/loki/api/v1/format_query", &format!("query={query}")).await;
    assert_eq!(formatted["data"], r#"{service_name="shop"}"#);
    assert!(asked_get(&server, "/loki/api/v1/status/buildinfo").await["version"].as_str().unwrap() > "3");
    // Alerting pages: nothing, in the words that are taken for nothing.
    let rules = server.get("/loki/api/v1/rules").await;
    assert_eq!((rules.status.as_u16(), rules.text().trim()), (404, "no rule groups found"));
    assert_eq!(asked_get(&server, "/prometheus/api/v1/rules").await["data"]["groups"], json!([]));
    assert_eq!(asked_get(&server, "/prometheus/api/v1/alerts").await["data"]["alerts"], json!([]));
    // Old backends only want this not to be 400.
    assert_eq!(server.get(&format!("/loki/api/v2alpha/tail?query={query}")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.get("/ready").await.status, StatusCode::OK);
    assert!(server.get("/config").await.text().contains("trefoil"), "{}", server.get("/config").await.text());
}

async fn asked_get(server: &Server, uri: &str) -> Value {
    let got = server.get(uri).await;
    assert_eq!(got.status, StatusCode::OK, "{uri}: {}", got.text());
    got.json()
}

#[tokio::test]
async fn what_drilldown_asks() {
    let server = filled();
    let query = encoded(SELECTOR);
    let limits = asked_get(&server, "/loki/api/v1/drilldown-limits").await;
    assert_eq!(limits["pattern_ingester_enabled"], true);
    assert_eq!(limits["limits"]["volume_enabled"], true);
    for name in ["discover_service_name", "log_level_fields", "max_entries_limit_per_query", "retention_period"] {
        assert!(!limits["limits"][name].is_null(), "{name}: {limits}");
    }
    // The list of services, and how much each sent over time.
    let all = encoded(r#"{service_name=~".+"}"#);
    let volume = format!("query={all}&{}&limit=5000&targetLabels=service_name", window());
    let got = asked(&server, "/loki/api/v1/index/volume", &volume).await;
    assert_eq!(got["data"]["result"][0]["metric"], json!({"service_name": "shop"}));
    let volume = format!("{volume}&step=1800000ms&aggregateBy=series");
    let got = asked(&server, "/loki/api/v1/index/volume_range", &volume).await;
    assert_eq!(got["data"]["resultType"], "matrix");
    let of_shop = &got["data"]["result"][0];
    assert_eq!(of_shop["metric"], json!({"service_name": "shop"}));
    let sum: u64 =
        of_shop["values"].as_array().unwrap().iter().map(|v| v[1].as_str().unwrap().parse::<u64>().unwrap()).sum();
    assert!(sum > 200, "{got}");
    // Labels and fields.
    let labels = asked(&server, "/loki/api/v1/detected_labels", &format!("query={query}&{}", window())).await;
    assert_eq!(
        labels["detectedLabels"],
        json!([{"label": "env", "cardinality": 1}, {"label": "service_name", "cardinality": 1}])
    );
    let fields = format!("query={query}&{}&line_limit=1000&limit=1000", window());
    let got = asked(&server, "/loki/api/v1/detected_fields", &fields).await;
    let field = |name: &str| got["fields"].as_array().unwrap().iter().find(|f| f["label"] == name).unwrap().clone();
    assert_eq!(got["limit"], 1000);
    let wanted = json!({"label": "status", "type": "int", "cardinality": 2, "parsers": ["logfmt"]});
    assert_eq!(field("status"), wanted);
    assert_eq!(field("trace_id")["parsers"], Value::Null);
    assert_eq!(field("took")["type"], "duration");
    let of_cart = encoded(r#"{service_name="cart"}"#);
    let got = asked(&server, "/loki/api/v1/detected_fields", &format!("query={of_cart}&{}", window())).await;
    let code = got["fields"].as_array().unwrap().iter().find(|f| f["label"] == "http_code").unwrap();
    assert_eq!((&code["jsonPath"], &code["parsers"]), (&json!(["http", "code"]), &json!(["json"])));
    let got = asked(&server, "/loki/api/v1/detected_field/status/values", &fields).await;
    assert_eq!(got, json!({"values": ["200", "500"], "limit": 1000}));
    // Queries that its panels make of a field.
    let panel = r#"sum by (status) (count_over_time({service_name="shop"} | json | logfmt | drop __error__, __error_details__ | status!="" [10m]))"#;
    let got =
        asked(&server, "/loki/api/v1/query_range", &format!("query={}&{}&step=10m", encoded(panel), window())).await;
    assert_eq!(got["data"]["result"].as_array().unwrap().len(), 2, "{got}");
    // Patterns of stored lines: these came in before anybody looked.
    let got = asked(&server, "/loki/api/v1/patterns", &format!("query={query}&{}&step=10s", window())).await;
    let first = &got["data"][0];
    assert_eq!(first["pattern"], r#"level=info msg="request done" status=<_> took=<_>"#);
    assert_eq!(first["level"], "info");
    let counted: u64 = first["samples"].as_array().unwrap().iter().map(|s| s[1].as_u64().unwrap()).sum();
    assert_eq!((counted, first["samples"][0][0].as_i64().unwrap() % 10), (4, 0));
    // A pattern is a filter.
    let filtered = format!("{SELECTOR} |> `{}`", first["pattern"].as_str().unwrap());
    let got = asked(&server, "/loki/api/v1/query_range", &format!("query={}&{}", encoded(&filtered), window())).await;
    assert_eq!(got["data"]["stats"]["summary"]["totalEntriesReturned"], 4, "{got}");
}

#[tokio::test]
async fn patterns_are_learnt_while_lines_come_in() {
    let server = Server::new();
    for i in 0..50 {
        let line = format!("user u{i}x{i} logged in after {i}s");
        server.push(&[("service.name", "shop")], NOW_NS + i * SECOND_NS, &line, &[]).await;
    }
    // Nothing is stored any more: the answer can only be what was learnt.
    server.events.groups.lock().clear();
    let range = format!("start={NOW_NS}&end={}", NOW_NS + 60 * SECOND_NS);
    let got = asked(&server, "/loki/api/v1/patterns", &format!("query={}&{range}", encoded(SELECTOR))).await;
    assert_eq!(got["data"].as_array().unwrap().len(), 1, "{got}");
    assert_eq!(got["data"][0]["pattern"], "user <_> logged in after <_>");
    assert_eq!(got["data"][0]["samples"].as_array().unwrap().len(), 5);
    let other = format!("query={}&{range}", encoded(r#"{service_name="cart"}"#));
    assert_eq!(asked(&server, "/loki/api/v1/patterns", &other).await["data"], json!([]));
}

#[tokio::test]
async fn the_api_of_before() {
    let server = filled();
    let query = encoded(SELECTOR);
    let got = asked(&server, "/api/prom/query", &format!("query={query}&regexp=error&limit=1&{}", window())).await;
    assert_eq!(got["streams"].as_array().unwrap().len(), 1, "{got}");
    assert!(got["streams"][0]["labels"].as_str().unwrap().contains(r#"env="prod""#), "{got}");
    let entry = &got["streams"][0]["entries"][0];
    assert!(entry["ts"].as_str().unwrap().ends_with('Z') && entry["line"].as_str().unwrap().contains("error"));
    assert_eq!(asked(&server, "/api/prom/label", &window()).await, json!({"values": ["env", "service_name"]}));
    let path = "/api/prom/label/env/values";
    assert_eq!(asked(&server, path, &window()).await, json!({"values": ["prod"]}));
    assert_eq!(server.get("/api/prom/label?start=0&end=1").await.json(), json!({"values": []}));
    let refused = server.get(&format!("/api/prom/query?query={}", encoded("rate({a=\"b\"}[1m])"))).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn refusals_name_the_limit() {
    let server = filled();
    let query = encoded(SELECTOR);
    for (uri, want) in [
        (format!("/loki/api/v1/detected_fields?query={query}&line_limit=6000"), "log_entries_max"),
        (format!("/loki/api/v1/detected_fields?query={query}&limit=0"), "limit must be a positive value"),
        (format!("/loki/api/v1/detected_fields?query={}", encoded("{")), "parse error"),
        (format!("/loki/api/v1/detected_fields?query={}", encoded("vector(1)")), "only log queries"),
        (format!("/loki/api/v1/patterns?query={}", encoded("vector(1)")), "only log queries"),
        (format!("/loki/api/v1/index/volume_range?query={query}&aggregateBy=x"), "invalid aggregation option"),
        (format!("/loki/api/v1/index/volume_range?query={query}&start=0&end=1000000&step=1"), "maximum resolution"),
        (format!("/loki/api/v1/index/volume_range?query={query}&step=0"), "zero or negative"),
    ] {
        let got = server.get(&uri).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{uri}");
        assert!(got.text().contains(want), "{uri}: {}", got.text());
    }
}

#[tokio::test]
async fn who_asks_is_in_the_query_log() {
    let server = filled();
    let (to, mut lines) = tokio::sync::mpsc::channel(10);
    server.state.query_log.set(Some(to));
    let uri = format!("/loki/api/v1/query_range?query={}&{}", encoded(SELECTOR), window());
    server.get_with(&uri, &[("x-query-tags", "Source=grafana,Feature=explore")]).await;
    let line: Value = serde_json::from_str(&lines.try_recv().unwrap()).unwrap();
    assert_eq!((&line["msg"], &line["params"]["query"]), (&json!("logql query logged"), &json!(SELECTOR)));
    assert_eq!(line["stats"]["queryTags"], "Source=grafana,Feature=explore");
}

#[tokio::test]
async fn bytes_that_are_read_have_a_limit() {
    let server = filled();
    let mut config = trefoil_config::LoadedConfig::default();
    config.config.trefoil.limits.limits.query_scan_bytes_max = 100;
    let limited = Server::with(config);
    limited.events.groups.lock().extend(server.events.groups.lock().iter().cloned());
    let query = encoded(r#"count_over_time({service_name="shop"}[1h])"#);
    let got = limited.get(&format!("/loki/api/v1/query_range?query={query}&{}", window())).await;
    assert_eq!(got.status, StatusCode::BAD_REQUEST);
    assert!(
        got.text().contains("more than 100 bytes") && got.text().contains("query_scan_bytes_max"),
        "{}",
        got.text()
    );
}
