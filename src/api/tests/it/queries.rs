//! What is around queries: search, explain, lists of queries, notifications, remote read, and what can be inspected.

use prost::Message;
use serde_json::{Value, json};

use crate::support::{TestServer, client, text};

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"))
}

async fn data(server: &TestServer, path: &str) -> Value {
    let (status, body) = server.get(path).await;
    assert_eq!(status, 200, "{path}: {body}");
    parsed(&body)["data"].clone()
}

#[tokio::test]
async fn names_and_values_are_searched() {
    let server = TestServer::start("").await;
    let window = "start=900&end=2000";
    for (path, want) in [
        ("metric_names?match[]={job=%22db%22}", vec![json!({"results": [{"name": "http_requests_total"}]})]),
        (
            "metric_names?search[]=httptot&include_score=true&sort_by=score",
            vec![json!({"results": [{"name": "http_requests_total", "score": 0.0}]})],
        ),
        ("metric_names?search[]=zzz", vec![json!({"results": []})]),
        ("label_names?search[]=job&search[]=inst", vec![json!({"results": [{"name": "instance"}, {"name": "job"}]})]),
        (
            "label_values?label=job&batch_size=1&sort_by=alpha&sort_dir=dsc",
            vec![json!({"results": [{"value": "db"}]}), json!({"results": [{"value": "api"}]})],
        ),
        ("label_values?label=job&match[]={job=%22db%22}", vec![json!({"results": [{"value": "db"}]})]),
        ("label_values?label=job&limit=1", vec![json!({"results": [{"value": "api"}]})]),
    ] {
        let glue = if path.contains('?') { '&' } else { '?' };
        let answer = client().get(server.url(&format!("/api/v1/search/{path}{glue}{window}"))).send().await.unwrap();
        let form = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!((answer.status().as_u16(), form.as_str()), (200, "application/x-ndjson; charset=utf-8"), "{path}");
        let mut lines: Vec<Value> = answer.text().await.unwrap().lines().map(parsed).collect();
        let end = lines.pop().unwrap();
        assert_eq!(end, json!({"status": "success", "has_more": path.contains("limit=1")}), "{path}");
        for result in lines.iter_mut().filter_map(|l| l["results"].get_mut(0)?.get_mut("score")) {
            assert!(result.as_f64().is_some_and(|s| s > 0.0 && s < 1.0), "{path}: {result}");
            *result = json!(0.0);
        }
        assert_eq!(lines, want, "{path}");
    }
    for (path, message) in [
        ("metric_names?sort_by=score", "sort_by=score requires search[] to be set"),
        ("metric_names?sort_dir=asc", "sort_dir is only valid when sort_by is set"),
        ("label_names?limit=0", "invalid limit \"0\": must be a positive integer"),
        ("label_names?fuzz_threshold=101", "invalid fuzz_threshold \"101\": must be 0-100"),
        ("label_values", "missing required parameter \"label\""),
        ("label_values?label=job&case_sensitive=x", "invalid case_sensitive \"x\": must be boolean"),
    ] {
        let (status, body) = server.get(&format!("/api/v1/search/{path}")).await;
        assert_eq!((status, &parsed(&body)["error"]), (400, &json!(message)), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn explain_tells_where_the_time_goes() {
    let server = TestServer::start("").await;
    let query = "query=sum%20by(job)(rate(http_requests_total[1m]))%20%2B%201&start=1100&end=1200&step=20";
    let told = data(&server, &format!("/api/v1/explain?{query}")).await;
    assert_eq!(told["steps"], 6);
    assert_eq!(told["result"], json!({"type": "vector", "series": 2, "samples": 12}));
    assert_eq!(told["seriesSelected"], 4);
    let root = &told["tree"];
    assert_eq!(root["node"], "sum by(job)(rate(http_requests_total[1m])) + 1");
    let aggregate =
        root["children"].as_array().unwrap().iter().find(|c| c["node"].as_str().unwrap().starts_with("sum"));
    let aggregate = aggregate.unwrap();
    assert_eq!((&aggregate["seriesSelected"], &aggregate["resultSeries"]), (&json!(4), &json!(2)), "{told}");
    assert!(aggregate["samplesRead"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(aggregate["children"][0]["node"], "rate(http_requests_total[1m])");
    assert_eq!(data(&server, "/api/v1/explain?query=1").await["tree"]["node"], "1");
    let (status, _) = server.get("/api/v1/explain?query=sum(").await;
    assert_eq!(status, 400);
    server.stop().await;
}

#[tokio::test]
async fn queries_are_listed_and_canceled() {
    let server = TestServer::start("").await;
    for _ in 0..2 {
        data(&server, "/api/v1/query?query=count(http_requests_total)&time=1100").await;
    }
    server.get("/api/v1/query?query=http_requests_total%20%2B%20on()%20http_requests_total&time=1100").await;
    let top = data(&server, "/api/v1/status/top_queries?limit=5").await;
    let first = &top["topByCount"][0];
    assert_eq!(
        (&first["query"], &first["count"], &first["failed"]),
        (&json!("count(http_requests_total)"), &json!(2), &json!(0))
    );
    assert_eq!(top["topByTotal"].as_array().unwrap().len(), 2, "{top}");
    assert_eq!(data(&server, "/api/v1/status/active_queries").await, json!({"activeQueries": []}));
    let (status, _) = server.post("/api/v1/status/active_queries/77/cancel", &[]).await;
    assert_eq!(status, 404);

    // A query that runs until it is canceled.
    let note = trefoil_api::queries::QueryNote { path: "/test", query: "forever".into(), ..Default::default() };
    let state = server.state.clone();
    #[expect(clippy::disallowed_methods, reason = "a client beside the server, awaited below")]
    let running = tokio::spawn(async move {
        trefoil_api::state::run_noted(&state, None, note, |budget| -> Result<(), trefoil_api::ApiError> {
            loop {
                trefoil_model::QueryBudget::check(budget)?;
                std::thread::yield_now();
            }
        })
        .await
    });
    let active =
        server.data_when("/api/v1/status/active_queries", |d| d["activeQueries"][0]["state"] == "running").await;
    assert_eq!(active["activeQueries"][0]["query"], "forever");
    let id = active["activeQueries"][0]["id"].as_str().unwrap();
    let (status, _) = server.post(&format!("/api/v1/status/active_queries/{id}/cancel"), &[]).await;
    assert_eq!(status, 204);
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.kind, trefoil_api::ErrorKind::Canceled);
    server.data_when("/api/v1/status/active_queries", |d| d["activeQueries"] == json!([])).await;
    server.stop().await;
}

#[tokio::test]
async fn notifications_come_and_go() {
    let server = TestServer::start("").await;
    assert_eq!(data(&server, "/api/v1/notifications").await, json!([]));
    server.state.note_reload(false);
    let list = data(&server, "/api/v1/notifications").await;
    assert_eq!((&list[0]["text"], &list[0]["active"]), (&json!("Configuration reload has failed."), &json!(true)));
    let mut live = client().get(server.url("/api/v1/notifications/live")).send().await.unwrap();
    assert_eq!(live.headers()["content-type"], "text/event-stream");
    let mut seen = String::new();
    for want in ["\"active\":true", "\"active\":false"] {
        while !seen.contains(want) {
            seen.push_str(std::str::from_utf8(&live.chunk().await.unwrap().expect("the stream goes on")).unwrap());
        }
        server.state.note_reload(true);
    }
    assert!(seen.starts_with("data: {\"text\":\"Configuration reload has failed.\""), "{seen}");
    assert_eq!(data(&server, "/api/v1/notifications").await, json!([]));
    server.stop().await;
}

#[tokio::test]
async fn pools_rules_and_own_metrics_can_be_inspected() {
    let server = TestServer::start(
        "scrape_configs:\n- job_name: node\n  relabel_configs:\n  - source_labels: [__address__]\n    target_label: host\n  \
         - source_labels: [drop]\n    regex: yes\n    action: drop\n",
    )
    .await;
    let config = data(&server, "/api/v1/scrape_pools/config?scrapePool=node").await;
    assert!(config["yaml"].as_str().unwrap().starts_with("job_name: node\n"), "{config}");
    let labels = "{%22__address__%22:%22a:1%22,%22drop%22:%22yes%22}";
    let steps = data(&server, &format!("/api/v1/targets/relabel_steps?scrapePool=node&labels={labels}")).await;
    assert_eq!(steps["steps"][0]["output"], json!({"__address__": "a:1", "drop": "yes", "host": "a:1"}));
    assert_eq!(steps["steps"][0]["rule"]["source_labels"], json!(["__address__"]));
    assert_eq!((&steps["steps"][1]["keep"], &steps["steps"][1]["output"]), (&json!(false), &json!({})));
    for (path, message) in [
        ("scrape_pools/config", "no scrapePool parameter provided"),
        ("scrape_pools/config?scrapePool=x", "error retrieving scrape config: scrape pool \"x\" not found"),
        ("targets/relabel_steps?scrapePool=node", "no labels parameter provided"),
    ] {
        let (status, body) = server.get(&format!("/api/v1/{path}")).await;
        assert_eq!((status, &parsed(&body)["error"]), (400, &json!(message)), "{path}");
    }
    let own = data(&server, "/api/v1/status/self_metrics?metric_name_pattern=trefoil_http_requests.*").await;
    assert_eq!((&own[0]["name"], &own[0]["type"]), (&json!("trefoil_http_requests_total"), &json!("COUNTER")));
    assert!(own[0]["metric"][0]["counter"]["value"].as_f64().unwrap() >= 1.0, "{own}");
    let (status, _) = server.get("/api/v1/status/self_metrics?metric_name_pattern=(").await;
    assert_eq!(status, 400);
    server.stop().await;
}

#[derive(Clone, PartialEq, Message)]
struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    queries: Vec<Query>,
    #[prost(int32, repeated, tag = "2")]
    accepted: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Query {
    #[prost(int64, tag = "1")]
    start: i64,
    #[prost(int64, tag = "2")]
    end: i64,
    #[prost(message, repeated, tag = "3")]
    matchers: Vec<Matcher>,
}

#[derive(Clone, PartialEq, Message)]
struct Matcher {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<QueryResult>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    series: Vec<Series>,
}

#[derive(Clone, PartialEq, Message)]
struct Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    t: i64,
}

fn read_request(kind: i32, value: &str, accepted: Vec<i32>) -> Vec<u8> {
    let matchers = vec![
        Matcher { kind: 0, name: "__name__".into(), value: "http_requests_total".into() },
        Matcher { kind, name: "job".into(), value: value.into() },
        Matcher { kind: 0, name: "site".into(), value: "lab".into() },
    ];
    let request = ReadRequest { queries: vec![Query { start: 1_000_000, end: 1_030_000, matchers }], accepted };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("less than 4 GiB")
}

#[tokio::test]
async fn remote_read_answers_in_both_forms() {
    let server = TestServer::start("").await;
    let post = |body: Vec<u8>| client().post(server.url("/api/v1/read")).body(body).send();
    let answer = post(read_request(0, "db", vec![])).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/x-protobuf".parse().unwrap())
    );
    assert_eq!(answer.headers()["content-encoding"], "snappy");
    let body = snap::raw::Decoder::new().decompress_vec(&answer.bytes().await.unwrap()).unwrap();
    let got = ReadResponse::decode(body.as_slice()).unwrap();
    let series = &got.results[0].series;
    let labels: Vec<_> = series[0].labels.iter().map(|l| (l.name.as_str(), l.value.as_str())).collect();
    assert_eq!(
        labels,
        [("__name__", "http_requests_total"), ("instance", "0"), ("job", "db"), ("site", "lab")],
        "external labels are added"
    );
    let samples: Vec<_> = series[0].samples.iter().map(|s| (s.t, s.value)).collect();
    assert_eq!((series.len(), samples), (2, vec![(1_000_000, 0.0), (1_015_000, 3.0), (1_030_000, 6.0)]));

    let answer = post(read_request(2, "a.*", vec![1, 0])).await.unwrap();
    let form = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (200, form));
    let body = answer.bytes().await.unwrap();
    let (mut rest, mut frames) = (body.as_ref(), 0);
    while !rest.is_empty() {
        let length = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        let (crc, after) = rest.split_at(4);
        let (message, after) = after.split_at(length);
        assert_eq!(u32::from_be_bytes(crc.try_into().unwrap()), crc32c::crc32c(message));
        assert!(message.windows(3).any(|w| w == b"api"));
        rest = after;
        frames += 1;
    }
    assert_eq!(frames, 2, "a frame for each series");

    for (body, why) in [
        (b"junk".to_vec(), "remote read request"),
        (read_request(2, "(", vec![]), "error parsing regexp: missing closing ): `(`"),
        (read_request(9, "a", vec![]), "invalid matcher type 9"),
        (read_request(0, "a", vec![7]), "does not support any of the requested response types"),
    ] {
        let (status, text) = text(client().post(server.url("/api/v1/read")).body(body)).await;
        assert!(status == 400 && text.contains(why), "{status} {text}, want {why}");
    }
    server.stop().await;
}

#[tokio::test]
async fn answers_are_compressed_as_asked() {
    let server = TestServer::start("").await;
    let path = "/api/v1/query?query=http_requests_total[10m]&time=1600";
    for (accept, want) in [("gzip", Some("gzip")), ("zstd", Some("zstd")), ("identity", None)] {
        let answer = client().get(server.url(path)).header("accept-encoding", accept).send().await.unwrap();
        let got = answer.headers().get("content-encoding").map(|v| v.to_str().unwrap().to_owned());
        assert_eq!((answer.status().as_u16(), got.as_deref()), (200, want), "{accept}");
    }
    let options = client().request(reqwest::Method::OPTIONS, server.url("/api/v1/query")).send().await.unwrap();
    assert_eq!(options.status(), 204);
    server.stop().await;
}

#[tokio::test]
async fn rules_and_log_queries_are_listed_and_logged() {
    let server = TestServer::start("").await;
    let (to, mut lines) = tokio::sync::mpsc::channel(1000);
    server.state.query_log.set(Some(to));
    let file = "groups:\n- name: g\n  interval: 1s\n  rules: [{record: fresh:sum, expr: 'sum(fresh) + 0.5'}]\n";
    let file = trefoil_config::RuleFile::parse(file, None).expect("rules");
    let options = trefoil_rules::RuleOptions {
        interval_ms: 1000,
        query_offset_ms: 0,
        external_labels: Vec::new(),
        external_url: "http://host".into(),
        explore_path: "/explore/metrics".into(),
        resend_ms: 60_000,
    };
    server.rules.apply(&[("rules.yml".into(), file)], &options);
    let line = parsed(&lines.recv().await.expect("a line"));
    assert_eq!(line["params"]["query"], "sum(fresh) + 0.5", "{line}");
    assert_eq!(line["ruleGroup"], json!({"file": "rules.yml", "name": "g"}), "{line}");
    let listed = |d: &Value| {
        let top = d["topByCount"].as_array().expect("a list");
        top.iter().any(|q| q["path"] == "rules" && q["query"] == "sum(fresh) + 0.5")
    };
    server.data_when("/api/v1/status/top_queries", listed).await;
    let (status, body) = server.get("/loki/api/v1/query_range?query=%7Bjob%3D%22none%22%7D&limit=5").await;
    assert_eq!(status, 200, "{body}");
    let line = loop {
        let line = parsed(&lines.recv().await.expect("a line"));
        if line["msg"] == "logql query logged" {
            break line;
        }
    };
    assert_eq!(line["params"]["query"], "{job=\"none\"}", "{line}");
    let request = json!({"clientIP": "127.0.0.1", "method": "GET", "path": "/loki/api/v1/query_range"});
    assert_eq!(line["httpRequest"], request, "{line}");
    let listed = |d: &Value| d["topByTotal"].as_array().expect("a list").iter().any(|q| q["query"] == "{job=\"none\"}");
    server.data_when("/api/v1/status/top_queries", listed).await;
    server.stop().await;
}
