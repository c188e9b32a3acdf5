//! Loki's API through the router.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use std::net::SocketAddr;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::memory_events::{Answered, NOW_NS, SECOND_NS, Server, encoded};
use crate::support::TestServer;

const CATEGORIZE: (&str, &str) = ("x-loki-response-encoding-flags", "categorize-labels");

fn filled() -> Server {
    let server = Server::new();
    let shop = [("service.name", "shop"), ("env", "prod")];
    server.events.line(&shop, NOW_NS - 30 * SECOND_NS, "level=info msg=one", &[("trace.id", "t1")]);
    server.events.line(&shop, NOW_NS - 20 * SECOND_NS, "level=error msg=two", &[]);
    server.events.line(&[("service.name", "cart")], NOW_NS - 10 * SECOND_NS, "three", &[]);
    server
}

fn ns(before: i64) -> String {
    (NOW_NS - before * SECOND_NS).to_string()
}

async fn data(server: &Server, uri: &str) -> Value {
    let answer = server.get(uri).await;
    assert_eq!(answer.status, StatusCode::OK, "{uri}: {}", answer.text());
    answer.json()
}

#[tokio::test]
async fn lines_in_both_encodings() {
    let server = filled();
    let uri = format!("/loki/api/v1/query_range?query={}", encoded(r#"{service_name="shop"}"#));
    let got = data(&server, &uri).await;
    assert_eq!((&got["status"], &got["data"]["resultType"]), (&json!("success"), &json!("streams")));
    assert_eq!(got["data"]["encodingFlags"], Value::Null);
    assert_eq!(
        got["data"]["result"],
        json!([
            {"stream": {"env": "prod", "service_name": "shop"}, "values": [[ns(20), "level=error msg=two"]]},
            {"stream": {"env": "prod", "service_name": "shop", "trace_id": "t1"}, "values": [[ns(30), "level=info msg=one"]]},
        ])
    );
    assert_eq!(got["data"]["stats"]["summary"]["totalLinesProcessed"], json!(2));
    assert_eq!(got["data"]["stats"]["summary"]["totalEntriesReturned"], json!(2));

    let got = server.get_with(&(uri + "&direction=forward"), &[CATEGORIZE]).await.json();
    assert_eq!(got["data"]["encodingFlags"], json!(["categorize-labels"]));
    assert_eq!(
        got["data"]["result"],
        json!([{"stream": {"env": "prod", "service_name": "shop"}, "values": [
            [ns(30), "level=info msg=one", {"structuredMetadata": {"trace_id": "t1"}}],
            [ns(20), "level=error msg=two", {}],
        ]}])
    );
}

#[tokio::test]
async fn parsed_labels_and_post_forms() {
    let server = filled();
    let form = format!("query={}&limit=1", encoded(r#"{env="prod"} | logfmt | level="error" | keep level"#));
    let got = server.post_form("/loki/api/v1/query_range", &form).await.json();
    let values = &got["data"]["result"][0]["values"];
    assert_eq!(
        (values, got["data"]["result"][0]["stream"]["level"].as_str()),
        (&json!([[ns(20), "level=error msg=two"]]), Some("error")),
        "{got}"
    );
}

#[tokio::test]
async fn metric_queries_stand_on_the_step() {
    let server = filled();
    let query = encoded(r#"sum by (service_name) (count_over_time({service_name=~".+"}[1m]))"#);
    let got =
        data(&server, &format!("/loki/api/v1/query_range?query={query}&start={}&end={}&step=60", ns(100), ns(0))).await;
    assert_eq!(got["data"]["resultType"], "matrix");
    let times: Vec<i64> =
        got["data"]["result"][0]["values"].as_array().unwrap().iter().map(|v| v[0].as_i64().unwrap()).collect();
    assert!(times.iter().all(|t| t % 60 == 0) && !times.is_empty(), "{got}");
    let got = data(&server, &format!("/loki/api/v1/query?query={query}&time={}", ns(0))).await;
    assert_eq!(
        got["data"]["result"],
        json!([
            {"metric": {"service_name": "cart"}, "value": [1_700_000_000, "1"]},
            {"metric": {"service_name": "shop"}, "value": [1_700_000_000, "2"]},
        ])
    );
}

#[tokio::test]
async fn the_health_check_of_grafana() {
    let got = data(&Server::new(), "/loki/api/v1/query?query=vector(1)%2Bvector(1)&time=4000000000").await;
    assert_eq!(got["data"]["resultType"], "vector");
    assert_eq!(got["data"]["result"], json!([{"metric": {}, "value": [4_000_000_000_i64, "2"]}]));
}

#[tokio::test]
async fn labels_values_and_series() {
    let server = filled();
    for path in ["/loki/api/v1/labels", "/loki/api/v1/label"] {
        assert_eq!(data(&server, path).await, json!({"status": "success", "data": ["env", "service_name"]}), "{path}");
    }
    let of_cart = encoded(r#"{service_name="cart"}"#);
    assert_eq!(data(&server, &format!("/loki/api/v1/labels?query={of_cart}")).await["data"], json!(["service_name"]));
    let values = "/loki/api/v1/label/service_name/values";
    assert_eq!(data(&server, values).await["data"], json!(["cart", "shop"]));
    assert_eq!(data(&server, &format!("{values}?query={}", encoded(r#"{env="prod"}"#))).await["data"], json!(["shop"]));
    // Nothing found, nothing there.
    assert_eq!(data(&server, &format!("{values}?start=0&end=10")).await, json!({"status": "success"}));
    assert_eq!(data(&server, "/loki/api/v1/label/nope/values").await, json!({"status": "success"}));
    let shop = json!({"env": "prod", "service_name": "shop"});
    let series = |selector: &str| format!("/loki/api/v1/series?match%5B%5D={}", encoded(selector));
    assert_eq!(data(&server, &series(r#"{env="prod"}"#)).await, json!({"status": "success", "data": [shop]}));
    assert_eq!(data(&server, &series("{}")).await["data"], json!([shop, {"service_name": "cart"}]));
    assert_eq!(data(&server, &series(r#"{env="none"}"#)).await["data"], json!([]));
    assert_eq!(
        data(&server, "/loki/api/v1/detected_labels").await["detectedLabels"],
        json!([{"label": "env", "cardinality": 1}, {"label": "service_name", "cardinality": 2}])
    );
}

#[tokio::test]
async fn statistics_and_volumes() {
    let server = filled();
    let all = encoded(r#"{service_name=~".+"}"#);
    assert_eq!(
        data(&server, &format!("/loki/api/v1/index/stats?query={all}")).await,
        json!({"streams": 2, "chunks": 1, "bytes": 42, "entries": 3})
    );
    let volume = format!("/loki/api/v1/index/volume?query={all}&end={}", ns(0));
    assert_eq!(
        data(&server, &volume).await["data"]["result"],
        json!([
            {"metric": {"service_name": "shop"}, "value": [1_700_000_000, "37"]},
            {"metric": {"service_name": "cart"}, "value": [1_700_000_000, "5"]},
        ])
    );
    assert_eq!(
        data(&server, &(volume + "&aggregateBy=labels&targetLabels=env")).await["data"]["result"],
        json!([{"metric": {"env": ""}, "value": [1_700_000_000, "37"]}])
    );
}

fn check_refused(answer: &Answered, status: u16, want: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert!(answer.text().contains(want), "{}", answer.text());
}

#[tokio::test]
async fn refusals_are_plain_text() {
    let server = filled();
    let range = |query: &str, more: &str| format!("/loki/api/v1/query_range?query={}{more}", encoded(query));
    for (uri, status, want) in [
        (range("{", ""), 400, "parse error at line 1"),
        (range("{a=\"b\"}", "&limit=6000"), 400, "limit > log_entries_max (6000 > 5000)"),
        (range("{a=\"b\"}", "&limit=-1"), 400, "limit must be a positive value"),
        (range("{a=\"b\"}", "&start=20&end=10"), 400, "end timestamp must not be before"),
        (range("count_over_time({a=\"b\"}[1m])", "&start=0&end=2000000&step=1"), 400, "maximum resolution"),
        (format!("/loki/api/v1/query?query={}", encoded("{a=\"b\"}")), 400, "log queries are not supported"),
        ("/loki/api/v1/labels?start=x".to_owned(), 400, "could not parse 'start'"),
        ("/loki/api/v1/series?match[]=x".to_owned(), 400, "parse error"),
        ("/loki/api/v1/tail?query=rate({}[1m])".to_owned(), 400, ""),
    ] {
        check_refused(&server.get(&uri).await, status, want);
    }
    let long = format!("query={}", "a".repeat(140_000));
    check_refused(&server.post_form("/loki/api/v1/query_range", &long).await, 400, "query_bytes_max");
}

#[tokio::test]
async fn small_endpoints() {
    let server = Server::new();
    assert_eq!(server.get("/ready").await.text(), "ready\n");
    assert!(data(&server, "/loki/api/v1/status/buildinfo").await["version"].is_string());
    let formatted = data(&server, &format!("/loki/api/v1/format_query?query={}", encoded("{a=\"b\"}|=`x`"))).await;
    assert_eq!(formatted["status"], "success");
    assert!(formatted["data"].as_str().unwrap().starts_with("{a=\"b\"}"), "{formatted}");
}

/// Reads a text message of a server, past its pings.
async fn text_message(stream: &mut TcpStream) -> Value {
    loop {
        let mut head = [0u8; 2];
        stream.read_exact(&mut head).await.unwrap();
        let mut len = usize::from(head[1] & 0x7f);
        if len == 126 {
            len = usize::from(stream.read_u16().await.unwrap());
        }
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await.unwrap();
        if head[0] & 0xf == 1 {
            return serde_json::from_slice(&body).unwrap();
        }
    }
}

/// Opens a live tail; `query` is what stands behind `query=`.
async fn upgraded(address: SocketAddr, query: &str) -> TcpStream {
    tailed(address, &format!("/loki/api/v1/tail?query={query}"), "").await
}

/// Opens a live tail; `headers` are further lines of the request.
async fn tailed(address: SocketAddr, uri: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {uri} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n{headers}\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}

#[tokio::test]
async fn a_live_tail_is_kept_alive_and_ends_with_the_server() {
    let server = TestServer::start("").await;
    let mut stream = upgraded(server.http, &encoded(r#"{env="prod"}"#)).await;
    let mut ping = [0u8; 2];
    stream.read_exact(&mut ping).await.unwrap();
    assert_eq!(ping, [0x89, 0]);
    server.stop().await;
    let mut rest = Vec::new();
    // However it ends, it ends.
    stream.read_to_end(&mut rest).await.ok();
}

#[tokio::test]
async fn a_live_tail_sends_what_there_is_and_what_comes() {
    let server = filled();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server.router.clone();
    let serving = server.state.tasks.handle().spawn(async move { axum::serve(listener, router).await });
    let mut stream = upgraded(address, &format!("{}&limit=1", encoded(r#"{env="prod"}"#))).await;
    let stream_labels = json!({"env": "prod", "service_name": "shop"});
    let want = |at: i64, line: &str| json!({"streams": [{"stream": stream_labels, "values": [[ns(at), line]]}]});
    assert_eq!(text_message(&mut stream).await, want(20, "level=error msg=two"));
    let shop = [("service.name", "shop"), ("env", "prod")];
    server.push(&shop, NOW_NS - 2 * SECOND_NS, "late", &[]).await;
    assert_eq!(text_message(&mut stream).await, want(2, "late"));
    server.push(&shop, NOW_NS - SECOND_NS, "next", &[]).await;
    assert_eq!(text_message(&mut stream).await, want(1, "next"));
    serving.abort();
}

#[tokio::test]
async fn every_tail_gets_each_line_once_in_its_form() {
    let server = filled();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server.router.clone();
    let serving = server.state.tasks.handle().spawn(async move { axum::serve(listener, router).await });
    let query = encoded(r#"{service_name="tailed"} |= "line""#);
    let path = format!("/loki/api/v1/tail?query={query}");
    let mut plain = tailed(address, &path, "").await;
    let categorize = "x-loki-response-encoding-flags: categorize-labels\r\n";
    let mut categorized = tailed(address, &path, categorize).await;
    let mut delayed = tailed(address, &format!("{path}&delay_for=1"), "").await;
    let mut legacy = tailed(address, &format!("/api/prom/tail?query={query}"), "").await;
    // A ping says that the tail follows.
    for stream in [&mut plain, &mut categorized, &mut delayed, &mut legacy] {
        let mut ping = [0u8; 2];
        stream.read_exact(&mut ping).await.unwrap();
        assert_eq!(ping, [0x89, 0]);
    }
    let tailed = [("service_name", "tailed")];
    let began = std::time::Instant::now();
    server.push(&tailed, NOW_NS, "line one", &[("pod", "p")]).await;
    server.push(&tailed, NOW_NS + 1, "another", &[]).await;
    server.push(&[("service_name", "other")], NOW_NS + 2, "line of others", &[]).await;
    let labels = json!({"pod": "p", "service_name": "tailed"});
    let first = json!({"streams": [{"stream": labels, "values": [[NOW_NS.to_string(), "line one"]]}]});
    assert_eq!(text_message(&mut plain).await, first);
    let got = text_message(&mut categorized).await;
    assert_eq!(got["encodingFlags"], json!(["categorize-labels"]));
    assert_eq!(got["streams"][0]["stream"], json!({"service_name": "tailed"}));
    assert_eq!(got["streams"][0]["values"][0][2], json!({"structuredMetadata": {"pod": "p"}}));
    let got = text_message(&mut legacy).await;
    assert_eq!(got["streams"][0]["labels"], "{pod=\"p\", service_name=\"tailed\"}");
    assert_eq!(got["streams"][0]["entries"][0], json!({"ts": "2023-11-14T22:13:20Z", "line": "line one"}));
    assert_eq!(text_message(&mut delayed).await, first);
    assert!(began.elapsed() >= std::time::Duration::from_secs(1), "it was held back");
    // An older line comes as well, and none comes twice.
    server.push(&tailed, NOW_NS - 60 * SECOND_NS, "older line", &[]).await;
    assert_eq!(text_message(&mut plain).await["streams"][0]["values"][0][1], "older line");
    serving.abort();
}

#[tokio::test]
async fn a_slow_tail_is_told_what_it_lost() {
    let server = filled();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server.router.clone();
    let serving = server.state.tasks.handle().spawn(async move { axum::serve(listener, router).await });
    let mut stream = upgraded(address, &encoded(r#"{service_name="much"} != "x""#)).await;
    let mut ping = [0u8; 2];
    stream.read_exact(&mut ping).await.unwrap();
    // More at once than may wait for a client.
    let mut much = crate::memory_events::group(&[("service_name", "much")], NOW_NS, &"x".repeat(1 << 20), &[]);
    let one = much.records[0].clone();
    much.records.extend((1..12).map(|i| trefoil_model::LogRecord { time_ns: NOW_NS + i, ..one.clone() }));
    let batch = trefoil_model::LogBatch { tenant: trefoil_model::TenantId(0), groups: vec![much] };
    server.writer.write_logs(batch).await.unwrap();
    let got = text_message(&mut stream).await;
    assert_eq!(got["streams"], json!([]));
    let dropped = got["dropped_entries"].as_array().unwrap();
    assert_eq!(dropped[0]["labels"], json!({"service_name": "much"}));
    assert!(dropped[0]["timestamp"].as_str().unwrap().parse::<i64>().unwrap() >= NOW_NS, "{got}");
    serving.abort();
}
