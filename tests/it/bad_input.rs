//! Bad input over the network: refused with a word on what is wrong, the rest of a batch stored, the server unmoved.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use serde_json::json;
use trefoil_tests::{FakeServer, Http, Server, ServerOptions, items, text, wait_for_result, wire};

const PATIENCE: Duration = Duration::from_secs(60);

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const PLAIN: &[(&str, &str)] = &[("content-type", "text/plain")];

/// What it is, path, headers, body, and the statuses that are right.
type Case<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, Vec<u8>, &'a [u16]);

/// Nothing broke inside, and the server still answers.
fn check_unmoved(http: &Http) {
    assert_eq!(http.get("/-/healthy", &[]).unwrap().status, 200);
    assert_eq!(http.promql_value("vector(1) + 1"), Ok(2.0));
    for name in ["trefoil_task_failures_total", "trefoil_tasks_panics_total"] {
        assert_eq!(http.own_metric(name), 0.0, "{name}");
    }
}

#[test]
fn bodies_that_are_none() {
    let server = Server::start("bad-bodies", ServerOptions::default());
    let http = &server.http;
    let now = wire::now_ms();
    let good = wire::remote_write(vec![wire::series(&[("__name__", "fine")], &[(now, 1.0)])]);
    let spans = wire::otlp_spans("bad", vec![wire::span([1; 16], [1; 8], None, "fine", wire::now_ns())]);
    let gzip = |more: &[(&'static str, &'static str)]| [more, &[("content-encoding", "gzip")]].concat();
    let unknown_coding = [("content-type", "application/x-protobuf"), ("content-encoding", "rot13")];
    let unsorted = wire::WriteRequest {
        timeseries: vec![wire::TimeSeries {
            labels: ["__name__", "a", "a"].map(|n| wire::Label { name: n.to_owned(), value: "x".to_owned() }).to_vec(),
            samples: vec![wire::Sample { value: 1.0, timestamp: now }],
            exemplars: Vec::new(),
        }],
    };
    let nameless = wire::remote_write(vec![wire::series(&[("a", "b")], &[(now, 1.0)])]);
    let cases: Vec<Case<'_>> = vec![
        ("truncated snappy", "/api/v1/write", wire::REMOTE_WRITE.to_vec(), good[..good.len() / 2].to_vec(), &[400]),
        ("no snappy", "/api/v1/write", wire::REMOTE_WRITE.to_vec(), b"fine 1\n".to_vec(), &[400]),
        ("snappy of no message", "/api/v1/write", wire::REMOTE_WRITE.to_vec(), wire::snappy(b"\xff\xff\xff"), &[400]),
        ("empty remote write", "/api/v1/write", wire::REMOTE_WRITE.to_vec(), Vec::new(), &[400]),
        ("text as remote write", "/api/v1/write", PLAIN.to_vec(), good.clone(), &[415]),
        ("half a message", "/v1/traces", wire::OTLP.to_vec(), spans[..spans.len() - 3].to_vec(), &[400]),
        ("text as OTLP", "/v1/traces", PLAIN.to_vec(), spans.clone(), &[415, 400]),
        ("protobuf as JSON", "/v1/traces", JSON.to_vec(), spans.clone(), &[400]),
        ("no gzip", "/v1/traces", gzip(wire::OTLP), spans.clone(), &[400]),
        ("unknown coding", "/v1/traces", unknown_coding.to_vec(), spans.clone(), &[415, 400]),
        ("half a JSON", "/v1/logs", JSON.to_vec(), b"{\"resourceLogs\":[{".to_vec(), &[400]),
        ("an array as JSON", "/v1/metrics", JSON.to_vec(), b"[]".to_vec(), &[400]),
        ("deep JSON", "/v1/logs", JSON.to_vec(), "[".repeat(100_000).into_bytes(), &[400]),
        ("no streams", "/loki/api/v1/push", JSON.to_vec(), b"{\"streams\":7}".to_vec(), &[400]),
        (
            "a time that is none",
            "/loki/api/v1/push",
            JSON.to_vec(),
            b"{\"streams\":[{\"stream\":{\"a\":\"b\"},\"values\":[[\"soon\",\"x\"]]}]}".to_vec(),
            &[400],
        ),
        ("text as a push", "/loki/api/v1/push", PLAIN.to_vec(), b"a line".to_vec(), &[400, 415]),
        ("an empty push", "/loki/api/v1/push", JSON.to_vec(), Vec::new(), &[400, 422]),
    ];
    for (what, path, headers, body, wanted) in cases {
        let answer = http.post(path, &headers, body).unwrap();
        assert!(
            wanted.contains(&answer.status),
            "{what}: status {}, want {wanted:?}: {}",
            answer.status,
            answer.text()
        );
        assert!(!answer.body.is_empty(), "{what}: no word on what is wrong");
    }
    // Series that cannot be are refused, and it is said why.
    for (series, why) in
        [(wire::snappy(&unsorted.encode_to_vec()), "a label occurs twice"), (nameless, "it has no metric name")]
    {
        let answer = http.post("/api/v1/write", wire::REMOTE_WRITE, series).unwrap();
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains(why), "{}", answer.text());
    }
    // An empty OTLP request is a good one.
    assert_eq!(http.post("/v1/traces", wire::OTLP, Vec::new()).unwrap().status, 200);
    assert_eq!(http.promql("{__name__=~\".+\"}").unwrap().len(), 0, "nothing of it is stored");
    check_unmoved(http);
}

#[test]
fn one_bad_item_does_not_fail_its_batch() {
    let server = Server::start("bad-items", ServerOptions::default());
    let http = &server.http;
    let now = wire::now_ns();
    let mut bad = wire::span([7; 16], [2; 8], None, "short id", now);
    bad.trace_id.truncate(5);
    let mut none = wire::span([7; 16], [3; 8], None, "no span id", now);
    none.span_id.clear();
    let spans = vec![wire::span([7; 16], [1; 8], None, "fine", now), bad, none];
    let answer = http.post("/v1/traces", wire::OTLP, wire::otlp_spans("bad", spans)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let partial = ExportTraceServiceResponse::decode(answer.body.as_slice()).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 2, "{partial:?}");
    assert!(partial.error_message.contains("trace id must be 16 bytes"), "{partial:?}");
    let trace = http.json(&format!("/jaeger/api/traces/{}", "07".repeat(16)), &[]).unwrap();
    let names: Vec<String> = items(&trace["data"][0]["spans"]).map(|s| text(&s["operationName"])).collect();
    assert_eq!(names, ["fine"]);

    // The same in JSON, where ids are hexadecimal.
    let span = |id: &str, name: &str| json!({"traceId": id, "spanId": "0000000000000001", "name": name, "startTimeUnixNano": now.to_string(), "endTimeUnixNano": (now + 5).to_string()});
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span("ABCDEF0123456789abcdef0123456789", "fine"), span("xyz", "odd")]}]}]});
    let answer = http.post("/v1/traces", JSON, body.to_string()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(text(&partial["rejectedSpans"]), "1", "{}", answer.text());
    assert!(http.json("/jaeger/api/traces/abcdef0123456789abcdef0123456789", &[]).is_ok());

    // A line of 10 MB: refused alone, over both protocols.
    let long = "x".repeat(10 << 20);
    let lines = [(now, "short line".to_owned()), (now + 1, long)];
    let answer = http.post("/loki/api/v1/push", JSON, wire::loki_push(&[("app", "loki")], &lines)).unwrap();
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("bytes"), "{}", answer.text());
    let answer = http.post("/v1/logs", wire::OTLP, wire::otlp_logs("otlp", &lines)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let partial = ExportLogsServiceResponse::decode(answer.body.as_slice()).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_log_records, 1, "{partial:?}");
    for query in ["{app=\"loki\"}", "{service_name=\"otlp\"}"] {
        assert_eq!(http.logql_lines(query), Ok(vec!["short line".to_owned()]), "{query}");
    }
    // A line of 500 KB is cut and says so.
    let long = [(now, "y".repeat(500 << 10))];
    http.post("/loki/api/v1/push", JSON, wire::loki_push(&[("app", "cut")], &long)).unwrap();
    let cut = http.logql_lines("{app=\"cut\"} | trefoil_line_bytes=\"512000\"").unwrap();
    assert_eq!(cut.iter().map(String::len).collect::<Vec<_>>(), [256 << 10]);

    // Bytes that are no text become replacement characters, as Loki does it.
    let body = [
        format!("{{\"streams\":[{{\"stream\":{{\"app\":\"bytes\"}},\"values\":[[\"{now}\",\"a").as_bytes(),
        b"\xffb\"]]}]}",
    ]
    .concat();
    assert_eq!(http.post("/loki/api/v1/push", JSON, body).unwrap().status, 204);
    assert_eq!(http.logql_lines("{app=\"bytes\"}"), Ok(vec!["a\u{fffd}b".to_owned()]));

    // Remote write: the good series are stored, the answer names the bad one.
    let at = wire::now_ms();
    let huge = "v".repeat(9000);
    let series = vec![
        wire::series(&[("__name__", "kept")], &[(at, 1.0)]),
        wire::series(&[("__name__", "refused"), ("value", &huge)], &[(at, 1.0)]),
        wire::series(&[("__name__", "future")], &[(at + 86_400_000, 1.0)]),
    ];
    let answer = http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(series)).unwrap();
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(http.promql_value("kept"), Ok(1.0));
    assert_eq!(http.promql("{__name__=~\"refused|future\"}").unwrap().len(), 0);
    check_unmoved(http);
}

#[test]
fn a_page_that_cannot_be_read_fails_the_scrape() {
    let pages = [
        ("no_value", "text/plain", "fine 1\nbroken\n", "line 2"),
        ("bad_name", "text/plain", "# HELP a b\nfine 1\n1broken 5\n", "line 3"),
        ("open_quote", "text/plain", "fine{a=\"b} 1\n", "line 1"),
        ("bad_number", "text/plain", "fine 1e\n", "line 1"),
        ("bad_utf8", "text/plain", "", ""),
        ("no_eof", "application/openmetrics-text; version=1.0.0", "# TYPE fine gauge\nfine 1\n", ""),
        ("status", "text/plain", "", "HTTP status 500"),
        ("no_type", "", "fine 1\n", ""),
    ];
    let targets: Vec<(FakeServer, &str, &str)> = pages
        .into_iter()
        .map(|(name, kind, body, fault)| {
            let fake = match name {
                "status" => FakeServer::start(|_| (500, "text/plain", b"fine 1\n".to_vec())),
                "bad_utf8" => FakeServer::page(kind, b"fine{a=\"\xff\"} 1\n".to_vec()),
                _ => FakeServer::page(kind, body),
            };
            (fake, name, fault)
        })
        .collect();
    let mut prometheus = "global: { scrape_interval: 1s, scrape_timeout: 1s }\nscrape_configs:\n".to_owned();
    for (fake, name, _) in &targets {
        prometheus += &format!("- job_name: {name}\n  static_configs: [{{ targets: [\"{}\"] }}]\n", fake.address());
    }
    let server = Server::start("bad-pages", ServerOptions { prometheus, ..ServerOptions::default() });
    let http = &server.http;
    wait_for_result("all targets to be scraped", PATIENCE, || {
        let down = http.promql("up == 0")?.len();
        if down == targets.len() { Ok(()) } else { Err(format!("{down} of {} are down", targets.len())) }
    });
    let answer = http.json("/api/v1/targets", &[]).unwrap();
    for (_, name, fault) in &targets {
        let target = items(&answer["data"]["activeTargets"]).find(|t| t["labels"]["job"] == *name).unwrap();
        assert_eq!(target["health"], "down", "{target}");
        let error = text(&target["lastError"]);
        assert!(!error.is_empty() && error.contains(fault), "{name}: want {fault:?} in {error:?}");
    }
    assert_eq!(http.promql("fine").unwrap().len(), 0, "a page is taken whole or not at all");
    check_unmoved(http);
}

#[test]
fn queries_that_are_none() {
    let server = Server::start("bad-queries", ServerOptions::default());
    let http = &server.http;
    let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    let long = format!("up{{a=\"{}\"}}", "x".repeat(200_000));
    let range = [("start", "0"), ("end", "10"), ("step", "1")];
    // Query, and what the message has to hold; PromQL first.
    for (query, wanted) in [
        ("sum(up", "1:"),
        ("up{", "1:"),
        ("up +\n  rate(up)", "2:"),
        ("rate(up[5m)", "1:11"),
        ("no_such_function(up)", "no_such_function"),
        ("up{a=~\"(\"}", ""),
        ("{}", ""),
        ("", ""),
        ("1 +", "1:"),
        (deep.as_str(), ""),
        (long.as_str(), ""),
    ] {
        for (path, more) in [("/api/v1/query", &range[..0]), ("/api/v1/query_range", &range[..])] {
            let answer = http.post_form(path, &[&[("query", query)], more].concat()).unwrap();
            let shown: String = query.chars().take(40).collect();
            assert_eq!(answer.status, 400, "{path} {shown}: {}", answer.text());
            let answer = answer.json();
            assert_eq!(
                (&answer["status"], &answer["errorType"]),
                (&"error".into(), &"bad_data".into()),
                "{shown}: {answer}"
            );
            assert!(text(&answer["error"]).contains(wanted), "{shown}: want {wanted:?} in {answer}");
        }
    }
    for (query, wanted) in [
        ("{a=", "line 1"),
        ("{a=\"b\"} |= ", "line 1"),
        ("{a=\"b\"}\n | nonsense", "line 2"),
        ("{}", ""),
        ("{a=~\".*\"}", ""),
        ("{a=\"b\"} |~ \"(\"", ""),
        ("sum({a=\"b\"})", "line 1"),
        ("", ""),
        (deep.as_str(), ""),
    ] {
        let answer = http.post_form("/loki/api/v1/query_range", &[("query", query)]).unwrap();
        let shown: String = query.chars().take(40).collect();
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        assert!(answer.text().contains(wanted), "{shown}: want {wanted:?} in {}", answer.text());
    }
    for (path, query) in [
        ("/api/v1/query_range", &[("query", "up"), ("start", "10"), ("end", "0"), ("step", "1")][..]),
        ("/api/v1/query_range", &[("query", "up"), ("start", "0"), ("end", "10"), ("step", "0")]),
        ("/api/v1/query_range", &[("query", "up"), ("start", "0"), ("end", "1e7"), ("step", "1")]),
        ("/api/v1/query_range", &[("query", "up"), ("start", "soon"), ("end", "10"), ("step", "1")]),
        ("/api/v1/query", &[("query", "up"), ("time", "1e400")]),
        ("/api/v1/query", &[("query", "up"), ("timeout", "never")]),
        ("/api/v1/series", &[]),
        ("/api/v1/series", &[("match[]", "{")]),
        ("/api/v1/labels", &[("match[]", "rate(up[1m])")]),
        ("/api/v1/label/a%ffb/values", &[]),
        ("/loki/api/v1/query_range", &[("query", "{a=\"b\"}"), ("limit", "-1")]),
        ("/loki/api/v1/query_range", &[("query", "{a=\"b\"}"), ("limit", "1000000")]),
        ("/loki/api/v1/query_range", &[("query", "{a=\"b\"}"), ("start", "20"), ("end", "10")]),
        ("/loki/api/v1/query", &[("query", "{a=\"b\"}")]),
        ("/jaeger/api/traces/nonsense", &[]),
        ("/jaeger/api/traces", &[("service", "a"), ("tags", "{")]),
        ("/jaeger/api/traces", &[("service", "a"), ("minDuration", "long")]),
        ("/tempo/api/traces/nonsense", &[]),
    ] {
        let answer = http.get(path, query).unwrap();
        assert!(
            matches!(answer.status, 400 | 404 | 422),
            "{path} {query:?}: status {} {}",
            answer.status,
            answer.text()
        );
        assert!(!answer.body.is_empty(), "{path} {query:?}: no word on what is wrong");
    }
    assert_eq!(http.get("/api/v1/no_such_thing", &[]).unwrap().status, 404);
    assert_eq!(http.post("/api/v1/labels/x/y/z", PLAIN, "").unwrap().status, 404);
    assert_eq!(http.get("/api/v1/write", &[]).unwrap().status, 405);
    check_unmoved(http);
}
