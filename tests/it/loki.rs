//! Loki's API as its clients use it.

use prost::Message;
use serde_json::{Value, json};
use trefoil_tests::{Http, Server, ServerOptions, items, text, wire};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// `logproto.PushRequest`.
#[derive(Clone, PartialEq, Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, Message)]
struct Stream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    line: String,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// The answer of a range query over what the test wrote.
fn range(http: &Http, base: u64, query: &str, more: &[(&str, &str)]) -> Value {
    let (start, end) = (base.to_string(), (base + 1_000_000_000).to_string());
    let parameters = [&[("query", query), ("start", &start), ("end", &end)], more].concat();
    http.json("/loki/api/v1/query_range", &parameters).unwrap_or_else(|e| panic!("{query}: {e}"))
}

fn lines(answer: &Value) -> Vec<String> {
    items(&answer["data"]["result"]).flat_map(|s| items(&s["values"])).map(|v| text(&v[1])).collect()
}

#[test]
fn what_is_pushed_is_there_at_once_in_lokis_shapes() {
    let server = Server::start("loki", ServerOptions::default());
    let http = &server.http;
    let base = wire::now_ns() - 60_000_000_000;
    // Each line is visible when its push is answered.
    for n in 0..20u64 {
        let line = format!("request {n} level=info done");
        let body = json!({"streams": [{"stream": {"app": "shop", "env": "dev"}, "values": [[(base + n).to_string(), line, {"trace_id": "abc", "n": n.to_string()}]]}]});
        let answer = http.post("/loki/api/v1/push", JSON, body.to_string()).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (204, ""));
        assert_eq!(lines(&range(http, base, "{app=\"shop\"}", &[("limit", "1")])), [line]);
    }
    let entries = vec![Entry {
        timestamp: Some(Timestamp {
            seconds: (base / 1_000_000_000) as i64,
            nanos: (base % 1_000_000_000 + 500) as i32,
        }),
        line: "{\"level\":\"error\",\"msg\":\"it broke\"}".to_owned(),
        metadata: vec![Pair { name: "pod".to_owned(), value: "p-1".to_owned() }],
    }];
    let push =
        PushRequest { streams: vec![Stream { labels: "{service=\"worker\", env=\"dev\"}".to_owned(), entries }] };
    let protobuf = [("content-type", "application/x-protobuf")];
    let answer = http.post("/loki/api/v1/push", &protobuf, wire::snappy(&push.encode_to_vec())).unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());

    // Without the flag, all labels of a line are its stream's; a stream comes apart.
    let answer = range(http, base, "{app=\"shop\"} |= \"request 7 \"", &[]);
    assert_eq!((&answer["status"], &answer["data"]["resultType"]), (&"success".into(), &"streams".into()));
    let stream = &answer["data"]["result"][0];
    let want = json!({"app": "shop", "env": "dev", "n": "7", "service_name": "shop", "trace_id": "abc", "detected_level": "info"});
    assert_eq!(stream["stream"], want);
    assert_eq!(stream["values"], json!([[(base + 7).to_string(), "request 7 level=info done"]]));
    assert!(answer["data"]["stats"]["summary"]["totalLinesProcessed"].is_number(), "{answer}");
    // With it, they stand beside each value.
    let flagged = http
        .send(
            http.client
                .get(format!("{}/loki/api/v1/query_range", http.base))
                .query(&[("query", "{app=\"shop\"} |= \"request 7 \""), ("start", &base.to_string())])
                .header("X-Loki-Response-Encoding-Flags", "categorize-labels"),
        )
        .unwrap()
        .json();
    assert_eq!(flagged["data"]["encodingFlags"], json!(["categorize-labels"]), "{flagged}");
    let stream = &flagged["data"]["result"][0];
    assert_eq!(stream["stream"], json!({"app": "shop", "env": "dev", "service_name": "shop"}));
    let metadata = &stream["values"][0][2]["structuredMetadata"];
    assert_eq!((&metadata["trace_id"], &metadata["n"]), (&"abc".into(), &"7".into()), "{flagged}");

    // Order and limit.
    let numbers = |answer: &Value| -> Vec<u64> {
        let mut all: Vec<(String, String)> = items(&answer["data"]["result"])
            .flat_map(|s| items(&s["values"]))
            .map(|v| (text(&v[0]), text(&v[1])))
            .collect();
        all.sort();
        all.iter().map(|(_, l)| l.split(' ').nth(1).unwrap().parse().unwrap()).collect()
    };
    let newest = range(http, base, "{app=\"shop\"}", &[("limit", "3")]);
    assert_eq!(numbers(&newest), [17, 18, 19]);
    let oldest = range(http, base, "{app=\"shop\"}", &[("limit", "3"), ("direction", "forward")]);
    assert_eq!(numbers(&oldest), [0, 1, 2]);
    let same_stream = range(http, base, "{app=\"shop\"} | drop n, detected_level, trace_id", &[("limit", "3")]);
    let times: Vec<String> = items(&same_stream["data"]["result"][0]["values"]).map(|v| text(&v[0])).collect();
    assert_eq!(times, [base + 19, base + 18, base + 17].map(|t| t.to_string()), "newest first");
    // The end is not in the range, the start is.
    let end = (base + 19).to_string();
    let bounded = http
        .json("/loki/api/v1/query_range", &[("query", "{app=\"shop\"}"), ("start", &base.to_string()), ("end", &end)])
        .unwrap();
    assert_eq!(numbers(&bounded), (0..19).collect::<Vec<_>>());

    for (query, want) in [
        ("{env=\"dev\"} | detected_level=\"error\"", 1),
        ("{service_name=\"worker\"} | json | msg=\"it broke\"", 1),
        ("{service_name=\"worker\"} | pod=\"p-1\"", 1),
        ("{env=~\"d.v\", app!=\"shop\"}", 1),
        ("{app=\"shop\"} |~ \"request 1\\\\d\"", 10),
        ("{app=\"shop\"} != \"request 1\" | logfmt | level=\"info\"", 9),
        ("{app=\"nobody\"}", 0),
    ] {
        assert_eq!(lines(&range(http, base, query, &[])).len(), want, "{query}");
    }

    let window = [("start", base.to_string()), ("end", (base + 1_000_000_000).to_string())];
    let window: Vec<(&str, &str)> = window.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let ask = |path: &str, more: &[(&str, &str)]| http.json(path, &[&window[..], more].concat()).unwrap();
    let labels = ask("/loki/api/v1/labels", &[]);
    assert_eq!(labels, json!({"status": "success", "data": ["app", "env", "service", "service_name"]}));
    assert_eq!(ask("/loki/api/v1/label/service_name/values", &[])["data"], json!(["shop", "worker"]));
    assert_eq!(ask("/loki/api/v1/label/env/values", &[("query", "{app=\"shop\"}")])["data"], json!(["dev"]));
    let series = ask("/loki/api/v1/series", &[("match[]", "{env=\"dev\"}")]);
    let mut found: Vec<String> = items(&series["data"]).map(|s| text(&s["service_name"])).collect();
    found.sort();
    assert_eq!(found, ["shop", "worker"], "{series}");

    let rate = range(http, base, "sum by (app) (count_over_time({app=\"shop\"}[5m]))", &[("step", "60")]);
    assert_eq!(rate["data"]["resultType"], "matrix", "{rate}");
    let now = (base + 1_000_000_000).to_string();
    let instant = [("query", "sum(count_over_time({env=\"dev\"}[5m]))"), ("time", now.as_str())];
    let instant = http.json("/loki/api/v1/query", &instant).unwrap();
    assert_eq!(instant["data"]["resultType"], "vector", "{instant}");
    assert_eq!(instant["data"]["result"][0]["value"][1], "21", "{instant}");
    // What Grafana asks to see whether the data source is well.
    let health = [("query", "vector(1)+vector(1)"), ("time", "4000000000")];
    let health = http.json("/loki/api/v1/query", &health).unwrap();
    assert_eq!(health["data"]["result"], json!([{"metric": {}, "value": [4_000_000_000u64, "2"]}]), "{health}");
    let ready = http.get("/ready", &[]).unwrap();
    assert_eq!(ready.status, 200, "{}", ready.text());
}
