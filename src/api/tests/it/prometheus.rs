//! Shapes of Prometheus' API.

use serde_json::{Value, json};

use crate::support::{TestServer, client, text};

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"))
}

#[tokio::test]
async fn queries_have_the_reference_form() {
    let server = TestServer::start("").await;
    for (path, want) in [
        ("query?query=1%2B1&time=4", json!({"resultType": "scalar", "result": [4, "2"]})),
        ("query?query=%22x%22&time=4.5", json!({"resultType": "string", "result": [4.5, "x"]})),
        (
            "query?query=vector(1)&time=4",
            json!({"resultType": "vector", "result": [{"metric": {}, "value": [4, "1"]}]}),
        ),
        ("query?query=nothing&time=4", json!({"resultType": "vector", "result": []})),
        (
            "query?query=sum%20by(job)(http_requests_total)&time=1150&limit=1",
            json!({"resultType": "vector", "result": [{"metric": {"job": "api"}, "value": [1150, "30"]}]}),
        ),
        (
            "query_range?query=http_requests_total{job=%22db%22,instance=%220%22}&start=1000&end=1030.5&step=15s",
            json!({"resultType": "matrix", "result": [{
                "metric": {"__name__": "http_requests_total", "instance": "0", "job": "db"},
                "values": [[1000, "0"], [1015, "3"], [1030, "6"]],
            }]}),
        ),
    ] {
        let (status, body) = server.get(&format!("/api/v1/{path}")).await;
        assert_eq!(status, 200, "{path}: {body}");
        let answer = parsed(&body);
        assert_eq!((&answer["status"], &answer["data"]), (&json!("success"), &want), "{path}");
        if path.contains("limit=1") {
            assert_eq!(answer["warnings"], json!(["results truncated due to limit"]));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn forms_and_urls_are_merged() {
    let server = TestServer::start("").await;
    let (status, body) = server.post("/api/v1/query?time=4&query=2", &[("query", "1")]).await;
    assert_eq!((status, &parsed(&body)["data"]["result"]), (200, &json!([4, "1"])));
    server.stop().await;
}

#[tokio::test]
async fn errors_have_the_reference_words() {
    let server = TestServer::start("").await;
    let range = "query_range?query=up";
    for (path, code, kind, text) in [
        (
            "query?query=sum(",
            400,
            "bad_data",
            "invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis",
        ),
        (
            "query?query=",
            400,
            "bad_data",
            "invalid parameter \"query\": unknown position: parse error: no expression found in input",
        ),
        (
            "query?query=up&time=x",
            400,
            "bad_data",
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp",
        ),
        ("query?query=up&limit=-1", 400, "bad_data", "invalid parameter \"limit\": limit must be non-negative"),
        (
            &format!("{range}&start=2&end=1&step=1"),
            400,
            "bad_data",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            &format!("{range}&start=1&end=2&step=0"),
            400,
            "bad_data",
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (
            &format!("{range}&start=0&end=11001&step=1"),
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        (
            &format!("{range}[5m]&start=0&end=1&step=1"),
            400,
            "bad_data",
            "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
        ),
        ("series", 400, "bad_data", "no match[] parameter provided"),
        (
            "series?match[]={}",
            400,
            "bad_data",
            "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
        ),
        // Where the reference does not name the parameter.
        ("labels?match[]={}", 400, "bad_data", "match[] must contain at least one non-empty matcher"),
        ("label/job/values?match[]={", 400, "bad_data", "1:2: parse error: unexpected end of input inside braces"),
        ("query_exemplars?query=sum(", 400, "bad_data", "1:5: parse error: unclosed left parenthesis"),
        ("query_exemplars?query=up&start=2&end=1", 400, "bad_data", "end timestamp must not be before start timestamp"),
        ("label/U__/values", 400, "bad_data", "invalid label name: \"\""),
        ("status/tsdb?limit=0", 400, "bad_data", "limit must be a positive number"),
        ("status/tsdb?limit=10001", 400, "bad_data", "limit must not exceed 10000"),
        (
            "query?query=1&limit=99999999999999999999",
            400,
            "bad_data",
            "invalid parameter \"limit\": strconv.Atoi: parsing \"99999999999999999999\": value out of range",
        ),
        (
            "rules?group_limit=x",
            400,
            "bad_data",
            "invalid parameter \"group_limit\": group_limit needs to be a valid number: strconv.ParseInt: parsing \"x\": \
             invalid syntax",
        ),
        (
            "rules?group_next_token=x",
            400,
            "bad_data",
            "invalid parameter \"group_next_token\": group_limit needs to be present in order to paginate over the groups",
        ),
        (
            "rules?group_limit=1&group_next_token=x",
            400,
            "bad_data",
            "invalid parameter \"group_next_token\": invalid group_next_token 'x'. were rule groups changed?",
        ),
        ("rules?type=x", 400, "bad_data", "invalid parameter \"type\": not supported value \"x\""),
    ] {
        let (status, body) = server.get(&format!("/api/v1/{path}")).await;
        assert_eq!(
            (status, parsed(&body)),
            (code, json!({"status": "error", "errorType": kind, "error": text})),
            "{path}"
        );
    }
    let (status, body) =
        server.get("/api/v1/query?time=1100&query=http_requests_total%20%2B%20on(job)%20http_requests_total").await;
    assert_eq!((status, &parsed(&body)["errorType"]), (422, &json!("execution")), "{body}");
    server.stop().await;
}

#[tokio::test]
async fn limits_are_named() {
    let server = TestServer::start("  limits: {query_series_max: 3, response_bytes_max: 4000}\n").await;
    let (status, body) = server.get("/api/v1/query?time=1100&query=http_requests_total").await;
    assert_eq!(status, 422);
    assert!(body.contains("query_series_max"), "{body}");
    let (status, body) = server.get("/api/v1/query_range?start=0&end=1000&step=1&query=vector(1)").await;
    assert_eq!(status, 422);
    assert!(body.contains("response_bytes_max"), "{body}");
    server.stop().await;
}

#[tokio::test]
async fn names_values_and_series() {
    let server = TestServer::start("").await;
    for (path, want) in [
        ("labels", json!(["__name__", "instance", "job"])),
        ("label/job/values", json!(["api", "db"])),
        ("label/U__job/values?match[]={instance=%221%22,job!=%22db%22}", json!(["api"])),
        ("label/job/values?match[]=nothing", json!([])),
        ("label/__name__/values?limit=40000&end=2000&match[]={__name__!=%22%22}", json!(["http_requests_total"])),
        (
            "series?match[]=http_requests_total{job=%22api%22,instance=%220%22}",
            json!([{"__name__": "http_requests_total", "instance": "0", "job": "api"}]),
        ),
        (
            "metadata?metric=http_requests_total",
            json!({"http_requests_total": [{"type": "counter", "help": "Requests.", "unit": ""}]}),
        ),
        // What ends before it starts holds nothing.
        ("labels?start=5&end=1", json!([])),
        ("label/job/values?start=5&end=1", json!([])),
        ("series?match[]=http_requests_total&start=5&end=1", json!([])),
        ("targets?state=other", json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": null})),
        ("targets/metadata?metric=nope", json!([])),
        ("status/walreplay", json!({"min": 0, "max": 0, "current": 0})),
        // Grafana probes with milliseconds where seconds are due.
        ("query_exemplars?query=test&start=1700000000000&end=1700000001000", json!([])),
        (
            "query_exemplars?query=rate(http_requests_total[5m])&start=1000&end=1100",
            json!([{
                "seriesLabels": {"__name__": "http_requests_total", "instance": "0", "job": "api"},
                "exemplars": [{
                    "labels": {"trace_id": "0af7651916cd43dd8448eb211c80319c"},
                    "value": "0.25",
                    "timestamp": 1000.5,
                }],
            }]),
        ),
        ("format_query?query=sum(up)%20by%20(job)", json!("sum by (job) (up)")),
        ("targets", json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}})),
        ("scrape_pools", json!({"scrapePools": []})),
        ("rules", json!({"groups": []})),
        ("alerts", json!({"alerts": []})),
        ("alertmanagers", json!({"activeAlertmanagers": [], "droppedAlertmanagers": []})),
        ("status/flags", json!({"web.listen-address": "127.0.0.1:0"})),
        ("notifications", json!([])),
    ] {
        let (status, body) = server.get(&format!("/api/v1/{path}")).await;
        assert_eq!((status, &parsed(&body)["data"]), (200, &want), "{path}: {body}");
    }
    let (_, body) = server.get("/api/v1/series?match[]=http_requests_total&limit=2").await;
    let answer = parsed(&body);
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    assert_eq!(answer["warnings"], json!(["results truncated due to limit"]));
    server.stop().await;
}

#[tokio::test]
async fn the_tree_of_a_query() {
    let server = TestServer::start("").await;
    let (_, body) = server.get("/api/v1/parse_query?query=sum(rate(up[5m]%20offset%201m))%20by%20(job)%20>%201").await;
    let tree = &parsed(&body)["data"];
    assert_eq!((&tree["type"], &tree["op"], &tree["matching"]), (&json!("binaryExpr"), &json!(">"), &Value::Null));
    let selector = &tree["lhs"]["expr"]["args"][0];
    assert_eq!(selector["type"], "matrixSelector");
    assert_eq!((&selector["range"], &selector["offset"]), (&json!(300_000), &json!(60_000)));
    server.stop().await;
}

#[tokio::test]
async fn status_pages() {
    let server = TestServer::start("").await;
    let (_, body) = server.get("/api/v1/status/buildinfo").await;
    let info = &parsed(&body)["data"];
    assert!(info["version"].as_str().unwrap().starts_with("3."));
    // Grafana takes a server with features for Mimir.
    assert!(info.get("features").is_none());
    for (path, key) in [
        ("status/config", "yaml"),
        ("status/runtimeinfo", "startTime"),
        ("status/tsdb", "headStats"),
        ("status/walreplay", "current"),
        ("status/limits", "body_bytes_max"),
        ("features", "promql"),
    ] {
        let (status, body) = server.get(&format!("/api/v1/{path}")).await;
        assert!(status == 200 && parsed(&body)["data"].get(key).is_some(), "{path}: {body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn federation_gives_the_newest_samples() {
    let server = TestServer::start("").await;
    // Old samples are not within the lookback of now.
    let path = "/federate?match[]=http_requests_total&match[]=fresh";
    let (status, text) = server.get(path).await;
    let (line, time) = text.trim_end().rsplit_once(' ').expect("a time");
    let want = "# TYPE fresh untyped\nfresh{job=\"api\",instance=\"\",site=\"lab\"} 7";
    assert_eq!((status, line), (200, want));
    assert!(time.parse::<i64>().expect("milliseconds") > 1_000_000_000_000);
    // As the reference: no matcher, no series.
    assert_eq!(server.get("/federate?match[]={}").await, (200, String::new()));
    let refused = server.get("/federate?match[]={").await;
    assert_eq!(refused, (400, "1:2: parse error: unexpected end of input inside braces\n".to_owned()));
    let form = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let accept = format!("{form};escaping=allow-utf-8;q=0.7,text/plain;version=0.0.4;q=0.2");
    let answer = client().get(server.url(path)).header("accept", accept).send().await.unwrap();
    assert_eq!(
        answer.headers()["content-type"],
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=allow-utf-8"
    );
    let bytes = answer.bytes().await.unwrap();
    // A length, then field 1, the name.
    assert_eq!((bytes[0] as usize, &bytes[1..8]), (bytes.len() - 1, b"\x0a\x05fresh".as_slice()));
    server.stop().await;
}

#[tokio::test]
async fn statistics_are_told_as_asked() {
    let server = TestServer::start("").await;
    let range = "/api/v1/query_range?query=sum(rate(http_requests_total[1m]))&start=1100&end=1160&step=30";
    let (_, body) = server.get(&format!("{range}&stats=all")).await;
    let answer = parsed(&body);
    let samples = &answer["data"]["stats"]["samples"];
    // Four series, four samples in each window.
    let steps = json!([[1100, 16], [1130, 16], [1160, 16]]);
    assert_eq!((&samples["totalQueryableSamples"], &samples["totalQueryableSamplesPerStep"]), (&json!(48), &steps));
    let timings = answer["data"]["stats"]["timings"].as_object().unwrap();
    assert_eq!(timings.len(), 6, "{body}");
    assert!(timings["execTotalTime"].as_f64().unwrap() >= timings["evalTotalTime"].as_f64().unwrap(), "{body}");
    let (_, body) = server.get("/api/v1/query?query=http_requests_total&time=1100.5&stats=all").await;
    let samples = &parsed(&body)["data"]["stats"]["samples"];
    assert_eq!(samples["totalQueryableSamplesPerStep"], json!([[1100.5, 4]]), "{body}");
    let (_, body) = server.get(&format!("{range}&stats=true")).await;
    let answer = parsed(&body);
    assert_eq!(answer["data"]["stats"]["samples"].get("totalQueryableSamplesPerStep"), None);
    assert_eq!(answer.get("warnings"), None);
    let (_, body) = server.get(&format!("{range}&stats=yes")).await;
    let warning = "value \"yes\" for parameter \"stats\" is deprecated and will be rejected in the next major release, use \
                   \"true\" or \"all\"";
    assert_eq!(parsed(&body)["warnings"], json!([warning]));
    assert_eq!(parsed(&server.get(range).await.1)["data"].get("stats"), None);
    server.stop().await;
}

#[tokio::test]
async fn the_api_describes_itself() {
    let server = TestServer::start("").await;
    let answer = client().get(server.url("/api/v1/openapi.yaml")).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/yaml; charset=utf-8");
    let text = answer.text().await.unwrap();
    assert!(text.contains("openapi: \"3.1.0\"\n") && text.contains("\n  \"/query_range\":\n"), "{text}");
    assert!(text.contains("\n  \"/loki/api/v1/push\":\n"), "{text}");
    let (_, text) = server.get("/api/v1/openapi.yaml?openapi_version=3.2").await;
    assert!(text.contains("openapi: \"3.2.0\"\n"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_done() {
    let server = TestServer::start("").await;
    let delete = client().delete(server.url("/api/v1/query")).send().await.unwrap();
    assert_eq!(delete.headers()["allow"], "GET, OPTIONS, POST");
    for (path, status, allow) in [
        ("/api/v1/query?query=1", 405, Some("GET, OPTIONS, POST")),
        ("/api/v1/rules", 405, Some("GET, OPTIONS")),
        ("/-/reload", 405, Some("OPTIONS, POST, PUT")),
        ("/-/healthy", 200, None),
    ] {
        let head = client().head(server.url(path)).send().await.unwrap();
        let allowed = head.headers().get("allow").map(|v| v.to_str().unwrap());
        assert_eq!((head.status().as_u16(), allowed), (status, allow), "{path}");
    }
    assert_eq!(text(client().delete(server.url("/api/v1/query"))).await, (405, "Method Not Allowed\n".to_owned()));
    assert_eq!(server.get("/api/v1/nope").await, (404, "404 page not found\n".to_owned()));
    // No selector: no answer.
    assert_eq!(server.get("/api/v1/query_exemplars?query=1").await, (204, String::new()));
    // What is not positive is the default.
    for lookback in ["0", "-5", ""] {
        let (_, body) =
            server.get(&format!("/api/v1/query?query=http_requests_total&time=1100&lookback_delta={lookback}")).await;
        assert_eq!(parsed(&body)["data"]["result"].as_array().map(Vec::len), Some(4), "{lookback}: {body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn health_reload_and_quit() {
    let server = TestServer::start("  enable_admin_api: true\n").await;
    assert_eq!(server.get("/-/healthy").await, (200, "Trefoil is Healthy.\n".to_owned()));
    assert_eq!(server.get("/-/ready").await, (200, "Trefoil is Ready.\n".to_owned()));
    assert_eq!(server.post("/-/reload", &[]).await.0, 200);
    assert_eq!(server.get("/-/reload").await.0, 405);
    let (status, body) = server.get("/metrics").await;
    assert!(status == 200 && body.contains("trefoil_http_requests_total{code=\"200\",route=\"/-/healthy\"}"), "{body}");
    *server.memory.trouble.lock() = Some(trefoil_model::StoreTrouble::Degraded("no flush".to_owned()));
    assert_eq!(server.get("/-/ready").await, (200, "Trefoil is Ready.\nDegraded: no flush\n".to_owned()));
    *server.memory.trouble.lock() = Some(trefoil_model::StoreTrouble::NoWrites("disk".to_owned()));
    assert_eq!(server.get("/-/ready").await, (503, "No write is taken: disk\n".to_owned()));
    *server.memory.trouble.lock() = None;
    server.state.set_ready(false);
    assert_eq!(server.get("/-/ready").await.0, 503);
    assert_eq!(server.post("/-/quit", &[]).await.0, 200);
    assert!(server.quit.load(std::sync::atomic::Ordering::SeqCst));
    server.stop().await;
}

#[tokio::test]
async fn own_metrics_please_promtool() {
    let server = TestServer::start("").await;
    server.get("/api/v1/query?query=1").await;
    let (_, body) = server.get("/metrics").await;
    let mut command = std::process::Command::new("promtool");
    command.args(["check", "metrics"]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let Ok(mut child) = command.stderr(std::process::Stdio::piped()).spawn() else {
        println!("skipped: own_metrics_please_promtool");
        return server.stop().await;
    };
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), body.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{body}");
    server.stop().await;
}

#[tokio::test]
async fn rules_and_alerts_have_the_reference_form() {
    let server = TestServer::start("").await;
    let file = "groups:\n- name: g\n  interval: 1s\n  rules:\n  - record: job:fresh:sum\n    expr: sum by (job) (fresh)\n  \
                - alert: Fresh\n    expr: fresh > 1\n    labels: {severity: page}\n    \
                annotations: {summary: 'it is {{ $value }}'}\n- name: h\n  rules: [{record: r, expr: '1'}]\n";
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
    let firing = |data: &Value| data["groups"][0]["rules"][1]["state"] == "firing";
    let data = server.data_when("/api/v1/rules", firing).await;
    let group = &data["groups"][0];
    assert_eq!((&group["name"], &group["file"], &group["interval"]), (&json!("g"), &json!("rules.yml"), &json!(1)));
    let record = &group["rules"][0];
    for (key, want) in [
        ("name", json!("job:fresh:sum")),
        ("query", json!("sum by (job) (fresh)")),
        ("health", json!("ok")),
        ("type", json!("recording")),
    ] {
        assert_eq!(record[key], want, "{key}");
    }
    let alert = &group["rules"][1];
    for (key, want) in [
        ("name", json!("Fresh")),
        ("duration", json!(0)),
        ("labels", json!({"severity": "page"})),
        ("annotations", json!({"summary": "it is {{ $value }}"})),
        ("type", json!("alerting")),
    ] {
        assert_eq!(alert[key], want, "{key}");
    }
    let (_, body) = server.get("/api/v1/alerts").await;
    let active = parsed(&body)["data"]["alerts"][0].clone();
    assert_eq!(active["labels"], json!({"alertname": "Fresh", "job": "api", "severity": "page"}));
    assert_eq!(active["annotations"], json!({"summary": "it is 7"}));
    assert_eq!((&active["state"], &active["value"]), (&json!("firing"), &json!("7e+00")));
    for (query, groups, rules) in [
        ("type=alert", 1, 1),
        ("type=record", 2, 1),
        ("rule_name[]=r", 1, 1),
        ("rule_group[]=g", 1, 2),
        ("file[]=other", 0, 0),
        ("match[]={severity=%22page%22}", 1, 1),
        ("group_limit=1", 1, 2),
    ] {
        let (_, body) = server.get(&format!("/api/v1/rules?{query}")).await;
        let data = &parsed(&body)["data"];
        let got = data["groups"].as_array().expect("groups");
        assert_eq!(got.len(), groups, "{query}");
        assert_eq!(got.first().map_or(0, |g| g["rules"].as_array().expect("rules").len()), rules, "{query}");
    }
    let (_, body) = server.get("/api/v1/rules?group_limit=1").await;
    let token = parsed(&body)["data"]["groupNextToken"].as_str().expect("more").to_owned();
    let (_, body) = server.get(&format!("/api/v1/rules?group_limit=1&group_next_token={token}")).await;
    let page = &parsed(&body)["data"];
    assert_eq!((&page["groups"][0]["name"], page.get("groupNextToken")), (&json!("h"), None));
    assert_eq!(server.get("/api/v1/rules?group_limit=1&group_next_token=00").await.0, 400);
    server.stop().await;
}

#[tokio::test]
async fn targets_have_the_reference_form() {
    let server = TestServer::start("").await;
    let address = server.http.to_string();
    let text = format!(
        "scrape_configs: [{{job_name: own, scrape_interval: 1s, scrape_timeout: 1s, \
         static_configs: [{{targets: ['{address}']}}]}}, {{job_name: none, relabel_configs: [{{action: drop}}], \
         static_configs: [{{targets: ['x:1']}}]}}]"
    );
    let loaded = trefoil_config::Config::parse(&text, std::path::Path::new("/"), &|_| None).expect("configuration");
    server.scrape.apply(&loaded.scrape_configs).expect("applies");
    let data = server.data_when("/api/v1/targets", |d| d["activeTargets"][0]["health"] == "up").await;
    let target = &data["activeTargets"][0];
    for (key, want) in [
        ("labels", json!({"instance": address, "job": "own"})),
        ("scrapePool", json!("own")),
        ("scrapeUrl", json!(format!("http://{address}/metrics"))),
        ("lastError", json!("")),
        ("scrapeInterval", json!("1s")),
        ("scrapeTimeout", json!("1s")),
    ] {
        assert_eq!(target[key], want, "{key}");
    }
    assert_eq!(target["discoveredLabels"]["__address__"], json!(address));
    assert_eq!(data["droppedTargets"][0]["scrapePool"], json!("none"));
    assert_eq!(data["droppedTargetCounts"], json!({"none": 1, "own": 0}));
    let (_, body) = server.get("/api/v1/targets?state=active&scrapePool=none").await;
    assert_eq!(parsed(&body)["data"]["activeTargets"], json!([]));
    let (_, body) = server.get("/api/v1/scrape_pools").await;
    assert_eq!(parsed(&body)["data"], json!({"scrapePools": ["none", "own"]}));
    server.stop().await;
}

#[tokio::test]
async fn forms_come_in_both_encodings() {
    let server = TestServer::start("").await;
    let part =
        |name: &str, value: &str| format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let whole = [part("query", "1 +\n1"), part("time", "10"), "--x--\r\n".to_owned()].concat();
    let send = |body: String, form: &'static str| {
        text(client().post(server.url("/api/v1/query")).header("content-type", form).body(body))
    };
    let (status, body) = send(whole.clone(), "multipart/form-data; boundary=x").await;
    assert_eq!((status, &parsed(&body)["data"]["result"]), (200, &serde_json::json!([10, "2"])), "{body}");
    for (body, form) in [
        (whole[..whole.len() / 2].to_owned(), "multipart/form-data; boundary=x"),
        (whole.clone(), "multipart/form-data"),
        (whole, "multipart/form-data; boundary=y"),
    ] {
        let (status, answer) = send(body, form).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains("error parsing form values"), "{answer}");
    }
    server.stop().await;
}
