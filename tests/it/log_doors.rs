//! Logs over HTTP as other products take them: Elasticsearch's `_bulk`, JSON lines, Splunk's HEC, Datadog, GELF, journald; with
//! the senders themselves where they are installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use trefoil_tests::server::fresh_dir;
use trefoil_tests::{
    Http, Peer, Server, ServerOptions, find_program, items, run, skipped, text, wait_for_result, wire,
};

const PATIENCE: Duration = Duration::from_secs(60);
const NDJSON: &[(&str, &str)] = &[("content-type", "application/x-ndjson")];

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Lines of a selector with their times, labels without the derived ones left out, oldest first.
fn entries(http: &Http, query: &str) -> Vec<(String, String, Value)> {
    let now = wire::now_ns();
    let (start, end) = ((now - 3_600_000_000_000).to_string(), (now + 60_000_000_000).to_string());
    let window = [("query", query), ("start", &start), ("end", &end), ("limit", "5000")];
    let answer = http.json("/loki/api/v1/query_range", &window).unwrap_or_else(|e| panic!("{query}: {e}"));
    let mut found = Vec::new();
    for stream in items(&answer["data"]["result"]) {
        for value in items(&stream["values"]) {
            found.push((text(&value[0]), text(&value[1]), stream["stream"].clone()));
        }
    }
    found.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    found
}

/// A door, what is sent to it at a time, and what a query finds.
struct Door {
    path: &'static str,
    body: fn(u64) -> String,
    status: u16,
    query: &'static str,
    line: &'static str,
    /// Labels that the line must have.
    labels: Value,
}

fn rfc3339(time_ns: u64) -> String {
    let days = time_ns / 86_400_000_000_000;
    // The days of a civil calendar from its days since 1970.
    let z = days as i64 + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let month_from_march = (5 * doy + 2) / 153;
    let day = doy - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let rest = time_ns % 86_400_000_000_000;
    let (seconds, nanoseconds) = (rest / 1_000_000_000, rest % 1_000_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

fn doors() -> Vec<Door> {
    vec![
        Door {
            path: "/elasticsearch/_bulk",
            body: |t| {
                let time = rfc3339(t);
                format!(
                    "{{\"create\":{{\"_index\":\"app-1\"}}}}\n{{\"@timestamp\":\"{time}\",\"message\":\"by bulk\",\"service.name\":\"bulk\",\"log.level\":\"ERROR\",\"a\":{{\"b\":1}}}}\n"
                )
            },
            status: 200,
            query: "{_index=\"app-1\"}",
            line: "by bulk",
            labels: json!({ "service_name": "bulk", "detected_level": "error", "a_b": "1" }),
        },
        Door {
            path: "/insert/jsonline?_stream_fields=app,host",
            body: |t| {
                json!({ "_time": rfc3339(t), "_msg": "by lines", "app": "lines", "host": "h", "level": "warn" })
                    .to_string()
            },
            status: 200,
            query: "{app=\"lines\", host=\"h\"}",
            line: "by lines",
            labels: json!({ "service_name": "lines", "detected_level": "warn", "level": "warn" }),
        },
        Door {
            path: "/services/collector",
            body: |t| {
                let (seconds, fraction) = (t / 1_000_000_000, t % 1_000_000_000);
                format!(
                    "{{\"time\":{seconds}.{fraction:09},\"host\":\"hec\",\"sourcetype\":\"x\",\"event\":\"fatal: by HEC\",\"fields\":{{\"k\":\"v\"}}}}"
                )
            },
            status: 200,
            query: "{host=\"hec\"}",
            line: "fatal: by HEC",
            labels: json!({ "sourcetype": "x", "detected_level": "fatal", "k": "v" }),
        },
        Door {
            path: "/api/v2/logs",
            body: |t| {
                json!([{ "message": "by Datadog", "service": "dog", "ddtags": "env:prod,team:a", "status": "info", "timestamp": rfc3339(t) }])
                    .to_string()
            },
            status: 202,
            query: "{service=\"dog\", env=\"prod\"}",
            line: "by Datadog",
            labels: json!({ "service_name": "dog", "team": "a", "detected_level": "info" }),
        },
        Door {
            path: "/gelf",
            body: |t| {
                let (seconds, micros) = (t / 1_000_000_000, t / 1000 % 1_000_000);
                format!(
                    "{{\"version\":\"1.1\",\"host\":\"g\",\"short_message\":\"by GELF\",\"timestamp\":{seconds}.{micros:06},\"level\":3,\"_app\":\"gel\"}}"
                )
            },
            status: 202,
            query: "{host=\"g\"}",
            line: "by GELF",
            labels: json!({ "service_name": "gel", "detected_level": "error", "app": "gel" }),
        },
        Door {
            path: "/upload",
            body: |t| {
                format!(
                    "__CURSOR=c{t}\n__REALTIME_TIMESTAMP={}\n_HOSTNAME=j\n_SYSTEMD_UNIT=a.service\nPRIORITY=4\nMESSAGE=by journal\n\n",
                    t / 1000
                )
            },
            status: 202,
            query: "{unit=\"a.service\"}",
            line: "by journal",
            labels: json!({ "host": "j", "service_name": "a", "detected_level": "warn" }),
        },
    ]
}

#[test]
fn each_line_is_there_once_with_time_and_labels_over_a_restart() {
    let mut server = Server::start("log-doors", ServerOptions::default());
    // Whole microseconds, since journals have no finer time.
    let base = wire::now_ns() / 1_000_000_000 * 1_000_000_000 - 60_000_000_000 + 123_000;
    let doors = doors();
    for door in &doors {
        // Sent twice, as a sender does whose answer was lost.
        for _ in 0..2 {
            let answer = server.http.post(door.path, NDJSON, (door.body)(base)).unwrap();
            assert_eq!(answer.status, door.status, "{}: {}", door.path, answer.text());
        }
        let answer = server.http.post(door.path, NDJSON, (door.body)(base + 1_000_000)).unwrap();
        assert_eq!(answer.status, door.status, "{}", door.path);
    }
    for round in 0..2 {
        for door in &doors {
            let found = entries(&server.http, door.query);
            let times: Vec<String> = found.iter().map(|(t, ..)| t.clone()).collect();
            assert_eq!(times, [base.to_string(), (base + 1_000_000).to_string()], "{} {round}", door.path);
            for (_, line, labels) in found {
                assert_eq!(line, door.line);
                for (name, value) in door.labels.as_object().unwrap() {
                    assert_eq!(labels[name], *value, "{name} of {labels}");
                }
            }
        }
        if round == 0 {
            for protocol in ["elasticsearch", "json_lines", "splunk_hec", "datadog", "gelf", "journald"] {
                let page = server.http.get("/metrics", &[]).unwrap().text();
                let want = format!("trefoil_ingest_log_records_total{{protocol=\"{protocol}\"}} 2");
                assert!(page.contains(&want), "{want}");
                let want = format!("trefoil_ingest_repeated_total{{protocol=\"{protocol}\"}} 1");
                assert!(page.contains(&want), "{want}");
            }
            server.restart();
        }
    }
}

#[test]
fn bad_bodies_are_refused_in_each_products_words() {
    let server = Server::start("log-doors-bad", ServerOptions::default());
    let http = &server.http;
    let gzip = [("content-encoding", "gzip")];
    let half = {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&b"{\"_msg\":\"x\"}\n".repeat(1000)).unwrap();
        let whole = encoder.finish().unwrap();
        whole[..whole.len() - 9].to_vec()
    };
    let bomb = {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b'\n'; 80 << 20]).unwrap();
        encoder.finish().unwrap()
    };
    for path in ["/elasticsearch/_bulk", "/insert/jsonline", "/services/collector", "/api/v2/logs", "/gelf", "/upload"]
    {
        let is_elastic = path.starts_with("/elasticsearch");
        for (what, headers, body, statuses) in [
            ("half a gzip", &gzip[..], half.clone(), &[400][..]),
            ("a bomb", &gzip, bomb.clone(), &[413]),
            ("a body that is too large", &[], vec![b' '; (16 << 20) + 1], &[413]),
            ("an unknown coding", &[("content-encoding", "rot13")], b"x".to_vec(), &[415]),
            ("no JSON", &[], b"nonsense nonsense\n".to_vec(), &[400]),
        ] {
            // A journal has no limit as a whole; what is not one is seen as it comes.
            let statuses = if path == "/upload" && what.starts_with("a body") { &[400][..] } else { statuses };
            let answer = match http.post(path, headers, body) {
                Ok(answer) => answer,
                // The answer comes before the body is sent, and the connection ends with it.
                Err(_) if what == "a body that is too large" => continue,
                Err(error) => panic!("{what} to {path}: {error:#}"),
            };
            assert!(statuses.contains(&answer.status), "{what} to {path}: {} {}", answer.status, answer.text());
            if is_elastic {
                assert_eq!(answer.headers["x-elastic-product"], "Elasticsearch");
                let body = answer.json();
                assert_eq!(body["status"], answer.status, "{body}");
                assert!(body["error"]["root_cause"][0]["type"].is_string(), "{body}");
            }
        }
    }
    // One bad event leaves the others.
    let events = r#"{"event":"kept 1"}{"event":""}{"event":"kept 2"}"#;
    let answer = http.post("/services/collector/event", &[], events).unwrap();
    assert_eq!((answer.status, answer.json()["code"].as_u64()), (400, Some(13)), "{}", answer.text());
    assert_eq!(entries(http, "{service_name=~\".+\"} |= \"kept\"").len(), 2);
    assert_eq!(http.own_metric("trefoil_tasks_panics_total"), 0.0);
    assert_eq!(http.get("/-/healthy", &[]).unwrap().status, 200);
}

#[test]
fn what_shippers_ask_first_is_answered() {
    let server = Server::start("log-doors-courtesy", ServerOptions::default());
    let http = &server.http;
    let ask = |method: &str, path: &str| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let answer = http.send(http.client.request(method, format!("{}/elasticsearch{path}", http.base))).unwrap();
        assert_eq!(answer.headers["x-elastic-product"], "Elasticsearch", "{path}");
        answer
    };
    assert_eq!(ask("GET", "/").json()["version"]["number"], "8.15.0");
    assert_eq!(ask("GET", "").json()["tagline"], "You Know, for Search");
    assert_eq!(ask("GET", "/_license").json()["license"]["status"], "active");
    assert_eq!(ask("GET", "/_cluster/health?wait_for_status=yellow").json()["status"], "green");
    assert_eq!(ask("GET", "/?filter_path=version.number").json(), json!({ "version": { "number": "8.15.0" } }));
    for (method, path, status) in [
        ("HEAD", "/", 200),
        ("HEAD", "/filebeat-8.15.0", 200),
        ("PUT", "/some-index", 200),
        ("GET", "/_xpack", 200),
        ("GET", "/_ilm/policy/filebeat", 200),
        ("PUT", "/_ilm/policy/filebeat", 200),
        ("HEAD", "/_index_template/filebeat", 200),
        ("PUT", "/_index_template/filebeat", 200),
        ("HEAD", "/_template/logstash", 200),
        ("PUT", "/_component_template/x", 200),
        ("GET", "/_ingest/pipeline/x", 200),
        ("PUT", "/_ingest/pipeline/x", 200),
        ("GET", "/_nodes/http", 200),
        ("GET", "/_nodes/_all/http", 200),
        ("GET", "/_cat/templates/x", 200),
        ("GET", "/_cat/health", 200),
        ("HEAD", "/_alias/filebeat", 200),
        ("PUT", "/_data_stream/logs-a-b", 200),
        ("POST", "/_monitoring/bulk", 200),
        ("POST", "/some-index/_refresh", 200),
        ("GET", "/some-index/_unknown/thing", 404),
        ("DELETE", "/some-index/_doc/1", 405),
        ("DELETE", "/_bulk", 405),
    ] {
        let answer = ask(method, path);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        if status >= 400 {
            assert_eq!(answer.json()["status"], status, "{method} {path}");
        }
    }
    // The page keeps its services.
    let page = http.get("/services/collector", &[]).unwrap();
    assert!(page.status == 200 && page.text().contains("<html"), "{}", page.status);
    assert_eq!(http.get("/services/collector/health", &[]).unwrap().json()["code"], 17);
}

#[test]
fn tokens_come_in_as_each_product_sends_them() {
    let hash = "token-0123456789";
    let trefoil = format!("  auth:\n    bearer_tokens:\n      - {{ name: shipper, token: {hash}, scopes: [write] }}\n");
    let server = Server::start("log-doors-auth", ServerOptions { trefoil, ..ServerOptions::default() });
    let http = &server.http;
    let key = "ApiKey aWQ6dG9rZW4tMDEyMzQ1Njc4OQ==";
    for (path, header, good, bad) in [
        ("/elasticsearch/_bulk", "authorization", key, "ApiKey aWQ6bm8="),
        ("/services/collector", "authorization", "Splunk token-0123456789", "Splunk no"),
        ("/api/v2/logs", "dd-api-key", "token-0123456789", "no"),
        ("/insert/jsonline", "authorization", "Bearer token-0123456789", "Bearer no"),
    ] {
        let body = match path {
            "/elasticsearch/_bulk" => "{\"create\":{}}\n{\"message\":\"m\"}\n",
            "/services/collector" => "{\"event\":\"m\"}",
            _ => "{\"message\":\"m\"}",
        };
        let send = |value: Option<&str>| {
            let headers: Vec<(&str, &str)> = value.map(|v| (header, v)).into_iter().collect();
            http.post(path, &headers, body).unwrap()
        };
        assert!(matches!(send(Some(good)).status, 200 | 202), "{path}");
        for refused in [send(Some(bad)), send(None)] {
            assert_eq!(refused.status, 401, "{path}");
            match path {
                "/elasticsearch/_bulk" => {
                    assert_eq!(refused.json()["error"]["type"], "security_exception");
                    assert_eq!(refused.headers["x-elastic-product"], "Elasticsearch");
                }
                "/services/collector" => assert_eq!(refused.json()["code"], 2),
                _ => {}
            }
        }
    }
}

/// Runs a client's script and checks what the server has of it.
fn check_client(server: &Server, service: &str, command: &mut Command, count: usize, first_ms: u64) -> Value {
    let url = format!("{}/elasticsearch", server.http.base);
    let finished = run(command.arg(&url).arg(count.to_string()).arg(first_ms.to_string()), b"").expect_success();
    let last = finished.stdout.lines().last().unwrap_or_default();
    let said: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {}", finished.output()));
    assert_eq!(said["version"], "8.15.0");
    let found = entries(&server.http, &format!("{{service_name=\"{service}\"}} |= \" line \""));
    let mut lines: Vec<String> = found.iter().map(|(_, line, _)| line.clone()).collect();
    lines.sort();
    let total = lines.len();
    lines.dedup();
    assert_eq!(lines.len(), total, "{service}: each line once");
    for (time_ns, line, labels) in &found {
        let n: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!(*time_ns, ((first_ms + n) * 1_000_000).to_string(), "{line}");
        assert_eq!(labels["n"], n.to_string());
    }
    said
}

#[test]
fn elasticsearchs_python_client_sends() {
    let python = peers().join(".venv/bin/python");
    let has_client = python.is_file()
        && Command::new(&python).args(["-c", "import elasticsearch"]).output().is_ok_and(|o| o.status.success());
    if !has_client {
        return skipped("elasticsearchs_python_client_sends", "the client is not installed; run tests/install-tools");
    }
    let mut server = Server::start("elastic-python", ServerOptions::default());
    let first_ms = wire::now_ns() / 1_000_000 - 60_000;
    for round in 0..2 {
        let mut command = Command::new(&python);
        let said =
            check_client(&server, "elastic-python", command.arg(peers().join("python/elastic.py")), 500, first_ms);
        assert_eq!(said["health"], "green");
        if round == 0 {
            assert_eq!((&said["stored"], &said["failed"]), (&json!(500), &json!([])), "{said}");
            let found = entries(&server.http, "{_index=\"python-logs\"} |= \"python line\"");
            assert_eq!(found.len(), 500);
            assert_eq!(found[0].2["detected_level"], "warn");
            assert_eq!(found[0].2["tags"], "[\"a\",\"b\"]");
        }
        let oks: Vec<bool> = items(&said["outcomes"]).map(|o| o["ok"] == true).collect();
        assert_eq!(oks, [false, true, false], "{said}");
        assert_eq!(said["outcomes"][0]["item"]["index"]["error"]["type"], "document_parsing_exception", "{said}");
        assert_eq!(said["single"], "created");
        if round == 0 {
            // What is sent once more with the same ids is stored once; ids are forgotten by a restart, so none here.
            assert_eq!(entries(&server.http, "{_index=\"python-logs\"} |= \"python line\"").len(), 500);
        }
    }
    server.restart();
    assert_eq!(entries(&server.http, "{_index=\"python-logs\"} |= \"python line\"").len(), 500);
}

#[test]
fn elasticsearchs_node_client_sends() {
    let test = "elasticsearchs_node_client_sends";
    let has_client = peers().join("node/node_modules/@elastic/elasticsearch").is_dir();
    let Some(node) = find_program("node").filter(|_| has_client) else {
        return skipped(test, "the client is not installed; run tests/install-tools");
    };
    let server = Server::start("elastic-node", ServerOptions::default());
    let first_ms = wire::now_ns() / 1_000_000 - 60_000;
    let mut command = Command::new(node);
    let said = check_client(&server, "elastic-node", command.arg(peers().join("node/elastic.mjs")), 300, first_ms);
    let counts = [&said["total"], &said["successful"], &said["failed"]].map(|v| v.as_u64());
    assert_eq!(counts, [Some(300), Some(299), Some(1)], "{said}");
    let dropped = json!([{ "status": 400, "type": "document_parsing_exception", "message": "node line 7" }]);
    assert_eq!(said["dropped"], dropped);
    assert_eq!(entries(&server.http, "{_index=\"node-logs\"} | detected_level=\"error\"").len(), 299);
}

#[test]
fn rsyslog_sends_over_a_restart_of_the_server() {
    let test = "rsyslog_sends_over_a_restart_of_the_server";
    let module = Path::new("/usr/lib/x86_64-linux-gnu/rsyslog/omelasticsearch.so");
    let program = Path::new("/usr/sbin/rsyslogd");
    if !program.is_file() || !module.is_file() {
        return skipped(test, "rsyslog with omelasticsearch is not installed; run tests/install-tools");
    }
    let mut server = Server::start("rsyslog", ServerOptions::default());
    let dir = fresh_dir("rsyslogd");
    let (input, config) = (dir.join("input.log"), dir.join("rsyslog.conf"));
    std::fs::write(&input, lines(0..50)).unwrap();
    let text = format!(
        r#"global(workDirectory="{dir}")
module(load="imfile" pollingInterval="1")
module(load="omelasticsearch")
template(name="document" type="list" option.jsonf="on") {{
  property(outname="@timestamp" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="message" name="msg" format="jsonf")
  property(outname="host.name" name="hostname" format="jsonf")
  property(outname="log.level" name="syslogseverity-text" format="jsonf")
}}
input(type="imfile" file="{input}" tag="it" ruleset="out")
ruleset(name="out" queue.type="LinkedList") {{
  action(type="omelasticsearch" server="{base}/elasticsearch" template="document" searchIndex="rsyslog"
    bulkmode="on" action.resumeRetryCount="-1" action.resumeInterval="1")
}}
"#,
        dir = dir.display(),
        input = input.display(),
        base = server.http.base,
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-n").arg("-f").arg(&config).arg("-i").arg(dir.join("pid"));
    let mut rsyslog = Peer::start(&mut command, &dir.join("rsyslogd.log")).unwrap();
    let arrived = |http: &Http, count: usize, rsyslog: &mut Peer| {
        wait_for_result("rsyslog's lines", PATIENCE, || {
            assert!(rsyslog.is_running(), "rsyslogd ended: {}", rsyslog.output());
            let found = entries(http, "{_index=\"rsyslog\"}");
            if found.len() == count { Ok(found) } else { Err(format!("{} lines; {}", found.len(), rsyslog.output())) }
        })
    };
    arrived(&server.http, 50, &mut rsyslog);
    server.peer.kill();
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().append(true).open(&input).unwrap();
    file.write_all(lines(50..100).as_bytes()).unwrap();
    drop(file);
    server.restart();
    let found = arrived(&server.http, 100, &mut rsyslog);
    let mut numbers: Vec<usize> =
        found.iter().map(|(_, l, _)| l.trim().rsplit(' ').next().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert_eq!(found[0].2["detected_level"], "info", "{}", found[0].2);
    rsyslog.signal("TERM");
    rsyslog.wait();
}

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|n| format!("rsyslog line {n}\n")).collect()
}

#[test]
fn systemd_uploads_a_journal() {
    let test = "systemd_uploads_a_journal";
    let find =
        |name: &str| ["/lib/systemd", "/usr/lib/systemd"].iter().map(|d| Path::new(d).join(name)).find(|p| p.is_file());
    let (Some(remote), Some(upload)) = (find("systemd-journal-remote"), find("systemd-journal-upload")) else {
        return skipped(test, "systemd-journal-remote is not installed; run tests/install-tools");
    };
    let mut server = Server::start("journald", ServerOptions::default());
    let dir = fresh_dir("journal");
    let journal = dir.join("test.journal");
    let base_us = wire::now_ns() / 1000 - 60_000_000;
    let export: String = (0..3000)
        .map(|n| {
            format!(
                "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID=4c3aa52c7a4f4d5a8e9d6d4b0a1c2d3e\n_HOSTNAME=box\n_SYSTEMD_UNIT=demo.service\nPRIORITY=3\nMESSAGE=journal line {n}\n\n",
                base_us + n, 1000 + n
            )
        })
        .collect();
    run(Command::new(remote).arg("-o").arg(&journal).arg("-"), export.as_bytes()).expect_success();
    // Twice: what was uploaded is not stored again.
    for _ in 0..2 {
        let mut command = Command::new(&upload);
        command.arg(format!("--url={}", server.http.base)).arg(format!("--file={}", journal.display()));
        // With a state it would wait for more.
        command.arg("--follow=no").arg(format!("--save-state={}", dir.join("state").display()));
        run(&mut command, b"").expect_success();
        std::fs::remove_file(dir.join("state")).ok();
    }
    server.restart();
    let found = entries(&server.http, "{unit=\"demo.service\", host=\"box\"}");
    assert_eq!(found.len(), 3000);
    for (n, (time_ns, line, labels)) in found.iter().enumerate() {
        assert_eq!(*time_ns, ((base_us + n as u64) * 1000).to_string());
        assert_eq!(*line, format!("journal line {n}"));
        assert_eq!((&labels["service_name"], &labels["detected_level"]), (&json!("demo"), &json!("error")));
    }
}

#[test]
fn entries_of_an_endless_upload_are_stored_as_they_arrive() {
    use std::io::Write;
    use std::net::TcpStream;
    let server = Server::start("journald-endless", ServerOptions::default());
    let mut stream = TcpStream::connect(("127.0.0.1", server.http_port)).unwrap();
    let head = format!(
        "POST /upload HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/vnd.fdo.journal\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.http_port
    );
    stream.write_all(head.as_bytes()).unwrap();
    let now_us = wire::now_ns() / 1000;
    for n in 0..3u64 {
        let entry =
            format!("__REALTIME_TIMESTAMP={}\n_SYSTEMD_UNIT=endless.service\nMESSAGE=entry {n}\n\n", now_us + n);
        // In two pieces that end in the middle of a field.
        for piece in [&entry[..30], &entry[30..]] {
            stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).unwrap();
        }
        wait_for_result("the entry", PATIENCE, || {
            let found = entries(&server.http, "{unit=\"endless.service\"}").len();
            if found == n as usize + 1 { Ok(()) } else { Err(format!("{found} entries")) }
        });
    }
}
