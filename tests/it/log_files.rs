//! Log files through the real binary: each line arrives once, with its time, level and labels, whatever befalls files
//! and server.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use trefoil_tests::server::fresh_dir;
use trefoil_tests::{Http, Server, ServerOptions, items, text, wait_for, wait_for_result, wire};

const WAIT: Duration = Duration::from_secs(60);

fn append(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_ref()).unwrap();
}

fn server(name: &str, logs: &str) -> Server {
    Server::start(name, ServerOptions { trefoil: format!("  logs:\n{logs}"), ..ServerOptions::default() })
}

/// Labels, Unix nanoseconds and line.
type Entry = (BTreeMap<String, String>, u64, String);

/// What a query finds within the last hour and the next minute: labels (metadata among them), time, line; by time.
fn entries(http: &Http, query: &str) -> Result<Vec<Entry>, String> {
    let now = wire::now_ns();
    entries_between(http, query, now - 3_600_000_000_000, now + 60_000_000_000)
}

fn entries_between(http: &Http, query: &str, start: u64, end: u64) -> Result<Vec<Entry>, String> {
    let (start, end) = (start.to_string(), end.to_string());
    let answer = http
        .json("/loki/api/v1/query_range", &[("query", query), ("start", &start), ("end", &end), ("limit", "5000")])?;
    let mut out = Vec::new();
    for stream in items(&answer["data"]["result"]) {
        let labels: BTreeMap<String, String> =
            stream["stream"].as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect();
        for value in items(&stream["values"]) {
            out.push((labels.clone(), text(&value[0]).parse().unwrap(), text(&value[1])));
        }
    }
    out.sort_by(|a, b| (a.1, &a.2).cmp(&(b.1, &b.2)));
    Ok(out)
}

/// Waits until a query finds so many entries.
fn wait_for_entries(http: &Http, query: &str, count: usize) -> Vec<Entry> {
    wait_for_result(&format!("{count} entries of {query}"), WAIT, || {
        let found = entries(http, query)?;
        if found.len() >= count { Ok(found) } else { Err(format!("{} entries", found.len())) }
    })
}

/// How often each line of a stream is there, counted by the store in pieces that its limit bears.
fn count(http: &Http, query: &str) -> Result<u64, String> {
    let at = (wire::now_ns() + 10_000_000_000).to_string();
    let sum = format!("sum(count_over_time({query}[2h]))");
    let answer = http.json("/loki/api/v1/query", &[("query", &sum), ("time", &at)])?;
    let values = items(&answer["data"]["result"]).map(|sample| text(&sample["value"][1]).parse::<u64>().unwrap());
    Ok(values.sum())
}

/// Every number from 0 on is there once: so many lines, and as many different numbers.
fn expect_each_once(http: &Http, query: &str, total: usize) {
    wait_for_result(&format!("{total} lines"), WAIT, || {
        let found = count(http, query)?;
        if found >= total as u64 { Ok(()) } else { Err(format!("{found} lines")) }
    });
    let mut seen = vec![0_u32; total];
    for tens in 0..10 {
        for lines in 0..10 {
            let part = format!("{query} |~ \"number [0-9]*{tens}{lines}$\"");
            for (_, _, line) in entries(http, &part).unwrap() {
                seen[line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()] += 1;
            }
        }
    }
    // Numbers below ten have one digit.
    for (_, _, line) in entries(http, &format!("{query} |~ \"number [0-9]$\"")).unwrap() {
        seen[line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()] += 1;
    }
    let wrong: Vec<(usize, u32)> = seen.iter().copied().enumerate().filter(|(_, times)| *times != 1).collect();
    assert!(wrong.is_empty(), "{} lines are not there once: {:?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    assert_eq!(count(http, query).unwrap(), total as u64);
}

/// Writes numbered lines until it is stopped, and rotates now and then.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    fn start(path: PathBuf, mut rotate: impl FnMut(&Path, usize) + Send + 'static) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (s, w) = (Arc::clone(&stop), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
            for burst in 0.. {
                if s.load(Ordering::Relaxed) {
                    return;
                }
                for _ in 0..20 {
                    let n = w.load(Ordering::Relaxed);
                    // In two pieces, so that half lines are seen.
                    file.write_all(b"level=info some text in front of the ").unwrap();
                    file.write_all(format!("number {n}\n").as_bytes()).unwrap();
                    w.store(n + 1, Ordering::Relaxed);
                }
                std::thread::park_timeout(Duration::from_millis(5));
                if burst % 200 == 199 {
                    rotate(&path, burst / 200);
                    file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
                }
            }
        });
        Self { stop, written, thread: Some(thread) }
    }

    fn wait(&self, lines: usize) {
        wait_for("lines to be written", WAIT, || self.written.load(Ordering::Relaxed) >= lines);
    }

    fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.written.load(Ordering::Relaxed)
    }
}

fn rename(path: &Path, n: usize) {
    fs::rename(path, path.with_extension(format!("log.{n}"))).unwrap();
}

#[test]
fn log_files_rotated_by_renaming_under_kill_9() {
    let dir = fresh_dir("log-files-kill");
    let path = dir.join("app.log");
    let mut server =
        server("log-files-kill", &format!("    files: [{{paths: ['{}*'], labels: {{job: app}}}}]", path.display()));
    let writer = Writer::start(path, rename);
    for round in 1..=4 {
        let before = writer.written.load(Ordering::Relaxed);
        writer.wait(before + 2_500);
        // A different moment each time.
        std::thread::park_timeout(Duration::from_millis(round * 73 % 250));
        server.peer.kill();
        server.restart();
    }
    let total = writer.stop();
    expect_each_once(&server.http, r#"{job="app"}"#, total);
    // And in order: an ordinary stop, and nothing comes twice afterwards.
    server.peer.signal("TERM");
    server.peer.wait();
    server.restart();
    append(&dir.join("app.log"), format!("number {total}\n"));
    expect_each_once(&server.http, r#"{job="app"}"#, total + 1);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn log_files_copied_and_truncated() {
    let dir = fresh_dir("log-files-copy");
    let path = dir.join("app.log");
    let server =
        server("log-files-copy", &format!("    files: [{{paths: ['{}*'], labels: {{job: app}}}}]", path.display()));
    let http = server.http.clone();
    let writer = Writer::start(path, |path, n| {
        fs::copy(path, path.with_extension(format!("log.{n}"))).unwrap();
        OpenOptions::new().write(true).truncate(true).open(path).unwrap();
    });
    writer.wait(10_000);
    let total = writer.stop();
    expect_each_once(&http, r#"{job="app"}"#, total);
    assert!(http.own_metric("trefoil_tail_changes_total") >= 2.0);
    fs::remove_dir_all(dir).unwrap();
}

/// An RFC 3339 time some seconds ago, and its nanoseconds.
fn ago(seconds: u64) -> (String, u64) {
    let ns = (wire::now_ns() / 1_000_000_000 - seconds) * 1_000_000_000 + 123_456_789;
    let days = ns / 1_000_000_000 / 86_400;
    // Civil date of a day number (days since 1970-01-01, proleptic Gregorian).
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    let second = ns / 1_000_000_000 % 86_400;
    let time = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60,
        ns % 1_000_000_000
    );
    (time, ns)
}

#[test]
fn log_files_of_containers() {
    let dir = fresh_dir("log-files-containers");
    let server = server(
        "log-files-containers",
        &format!(
            "    files:\n      - paths: ['{0}/pods/*/*/*.log', '{0}/containers/*/*-json.log']\n        labels: {{cluster: c}}",
            dir.display()
        ),
    );
    let (time, ns) = ago(100);
    append(
        &dir.join("pods/shop_web-7d4-x2_0aa1-bb/app/0.log"),
        format!("{time} stdout P par\n{time} stderr F ERROR it broke\n{time} stdout F tial level=warn\n"),
    );
    let id = "0123456789abcdef".repeat(4);
    let config = json!({"Name": "/web-1", "Config": {"Labels": {"com.docker.compose.project": "p", "com.docker.compose.service": "web"}}});
    append(&dir.join("containers").join(&id).join("config.v2.json"), config.to_string());
    let line = |log: &str| json!({"log": log, "stream": "stdout", "time": time}).to_string() + "\n";
    append(
        &dir.join("containers").join(&id).join(format!("{id}-json.log")),
        line("{\"level\":\"debug\",") + &line("\"msg\":\"x\"}\n"),
    );
    let found = wait_for_entries(&server.http, r#"{cluster="c"}"#, 3);
    let shown: Vec<String> = found
        .iter()
        .map(|(labels, at, line)| {
            assert_eq!(*at, ns, "{line}");
            let of = |name: &str| labels.get(name).map_or("-", String::as_str);
            let names =
                ["namespace", "pod", "container", "compose_service", "stream", "detected_level", "service_name"];
            format!("{} {line}", names.map(of).join(" "))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "shop web-7d4-x2 app - stderr error app ERROR it broke",
            "shop web-7d4-x2 app - stdout warn app partial level=warn",
            "- - web-1 web stdout debug web-1 {\"level\":\"debug\",\"msg\":\"x\"}",
        ]
    );
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn log_files_with_a_promtail_pipeline_and_stack_traces() {
    let dir = fresh_dir("log-files-stages");
    let server = server(
        "log-files-stages",
        &format!(
            r#"    files:
      - paths: ["{}/*.log"]
        labels: {{job: java}}
        multiline: {{firstline: '^\d{{4}}-\d\d-\d\d', max_wait_time: 1s}}
        pipeline_stages:
          - match:
              selector: '{{job="java"}} |= "healthcheck"'
              action: drop
          - regex:
              expression: '(?s)^(?P<time>\S+) +(?P<level>[A-Z]+) +\[(?P<thread>[^\]]+)\] (?P<class>\S+) - (?P<message>.*)$'
          - timestamp:
              source: time
              format: RFC3339Nano
          - template:
              source: level
              template: '{{{{ ToLower .Value }}}}'
          - labels:
              level:
          - structured_metadata:
              thread:
          - replace:
              expression: 'password=(\S+)'
              replace: '****'
          - metrics:
              java_lines_total:
                type: Counter
                description: lines
                source: level
                config: {{value: error, action: inc}}
          - labeldrop: [filename]
"#,
            dir.display()
        ),
    );
    let (first, first_ns) = ago(60);
    let (second, second_ns) = ago(50);
    append(
        &dir.join("a.log"),
        format!(
            "{first} ERROR [main] a.B - boom password=secret\njava.lang.IllegalStateException: x\n\tat a.B.c(B.java:1)\n\
             {second} INFO [main] a.B - healthcheck\n{second} INFO [worker 1] a.B - fine\n"
        ),
    );
    let found = wait_for_entries(&server.http, r#"{job="java"}"#, 2);
    assert_eq!(found.len(), 2);
    let (labels, at, line) = &found[0];
    assert_eq!(
        (*at, line.as_str()),
        (first_ns, format!("{first} ERROR [main] a.B - boom password=****\njava.lang.IllegalStateException: x\n\tat a.B.c(B.java:1)").as_str())
    );
    let of = |name: &str| labels.get(name).map(String::as_str);
    assert_eq!(
        (of("level"), of("thread"), of("detected_level"), of("filename")),
        (Some("error"), Some("main"), Some("error"), None)
    );
    assert_eq!((found[1].1, found[1].2.as_str()), (second_ns, format!("{second} INFO [worker 1] a.B - fine").as_str()));
    assert!((server.http.own_metric("promtail_custom_java_lines_total") - 1.0).abs() < f64::EPSILON);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn log_files_change_with_a_reload_and_pushes_go_through_pipelines() {
    let dir = fresh_dir("log-files-reload");
    append(&dir.join("a.log"), "in a\n");
    append(&dir.join("b.log"), "in b\n");
    let logs = |name: &str, more: &str| {
        format!("  enable_lifecycle: true\n  logs:\n    files: [{{paths: ['{}/{name}.log']}}]\n{more}", dir.display())
    };
    let mut server =
        Server::start("log-files-reload", ServerOptions { trefoil: logs("a", ""), ..ServerOptions::default() });
    wait_for_entries(&server.http, r#"{filename=~".*a.log"}"#, 1);
    server.options_mut().trefoil = logs(
        "[ab]",
        r#"    pipelines:
      - match: '{app="x"}'
        stages: [{logfmt: {mapping: {user: }}}, {labels: {user: }}, {drop: {expression: noise}}]
"#,
    );
    server.write_config();
    assert_eq!(server.http.post("/-/reload", &[], "").unwrap().status, 200);
    wait_for_entries(&server.http, r#"{filename=~".*b.log"}"#, 1);
    append(&dir.join("a.log"), "more\n");
    assert_eq!(wait_for_entries(&server.http, r#"{filename=~".*a.log"}"#, 2).len(), 2);
    let now = wire::now_ns();
    let http = server.http.clone();
    let push = |app: &str, line: &str| {
        let body = json!({"streams": [{"stream": {"app": app}, "values": [[now.to_string(), line]]}]});
        let kind = [("content-type", "application/json")];
        assert_eq!(http.post("/loki/api/v1/push", &kind, body.to_string()).unwrap().status, 204);
    };
    push("x", "user=me some text");
    push("x", "user=me noise");
    push("y", "user=me other");
    let users = entries(&server.http, r#"{user="me"}"#).unwrap();
    assert_eq!(users.iter().map(|(_, _, line)| line.as_str()).collect::<Vec<_>>(), ["user=me some text"]);
    assert_eq!(entries(&server.http, r#"{app=~"x|y"}"#).unwrap().len(), 2);
    // A bad configuration is refused with the place of the fault, and the old one stays.
    server.options_mut().trefoil =
        logs("a", "    pipelines:\n      - match: '{app=\"x\"}'\n        stages: [{rejex: {}}]\n");
    server.write_config();
    let refused = server.http.post("/-/reload", &[], "").unwrap();
    assert!(refused.status != 200 && refused.text().contains("unknown pipeline stage \"rejex\""), "{}", refused.text());
    push("x", "user=me again");
    assert_eq!(entries(&server.http, r#"{user="me"}"#).unwrap().len(), 2);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn log_files_that_are_no_text() {
    let dir = fresh_dir("log-files-bad");
    let server =
        server("log-files-bad", &format!("    files: [{{paths: ['{}/**'], labels: {{job: bad}}}}]", dir.display()));
    append(&dir.join("bytes.log"), b"caf\xe9 \xff\xfe level=error\n".as_slice());
    append(&dir.join("deep/er/binary"), (0..=255_u8).collect::<Vec<u8>>());
    append(&dir.join("deep/er/binary"), b"\n".as_slice());
    append(&dir.join("long.log"), "x".repeat(10 << 20) + "\nafter\n");
    fs::create_dir_all(dir.join("vanishes")).unwrap();
    append(&dir.join("vanishes/a.log"), "there\n");
    // The bytes hold one end of a line.
    let found = wait_for_entries(&server.http, r#"{job="bad"}"#, 6);
    let lines: Vec<&str> = found.iter().map(|(_, _, line)| line.as_str()).collect();
    assert_eq!(
        lines.len(),
        6,
        "{}",
        lines.iter().map(|l| l.chars().take(40).collect::<String>()).collect::<Vec<_>>().join("|")
    );
    for want in ["caf\u{fffd} \u{fffd}\u{fffd} level=error", "after", "there"] {
        assert!(lines.contains(&want), "{want}");
    }
    let long = found.iter().find(|(_, _, line)| line.starts_with("xxx")).unwrap();
    assert_eq!(long.2.len(), 256 << 10);
    assert_eq!(long.0.get("trefoil_line_bytes").map(String::as_str), Some("10485760"));
    fs::remove_dir_all(dir.join("vanishes")).unwrap();
    append(&dir.join("vanishes/a.log"), "back again\n");
    wait_for_entries(&server.http, r#"{job="bad"} |= "back again""#, 1);
    wait_for("all to be read", WAIT, || server.http.own_metric("trefoil_tail_lag_bytes") < 1.0);
    fs::remove_dir_all(dir).unwrap();
}
