//! A start with a long journal: ports answer at once, `/-/ready` says how far the replay has come, the log too.

use std::time::{Duration, Instant};

use trefoil_tests::{Server, ServerOptions, skipped, wait_for, wire};

const SERIES: i64 = 500;
const SAMPLES: i64 = 20;
const BATCHES: i64 = 120;

fn write(server: &Server, batch: i64, start_ms: i64) {
    let series = (0..SERIES)
        .map(|i| {
            let at = |n: i64| (start_ms + (batch * SAMPLES + n) * 1000, (i * 31 + batch * n) as f64 / 7.0);
            let samples: Vec<_> = (0..SAMPLES).map(at).collect();
            wire::series(&[("__name__", "replayed"), ("i", &i.to_string())], &samples)
        })
        .collect();
    let answer = server.http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(series)).unwrap();
    assert!(answer.status < 300, "{}", answer.text());
}

/// What stands in `(...)`: `metrics: 1200 records, 3 of 10 MiB replayed; logs: ...`. True when it says how far the
/// replay of the metrics has come.
fn tells_progress(text: &str) -> bool {
    let stages = text.strip_prefix("Service Unavailable: server is starting (").and_then(|t| t.strip_suffix(")\n"));
    let Some(first) = stages.and_then(|stages| stages.split("; ").next()) else { return false };
    let Some((records, bytes)) = first.strip_prefix("metrics: ").and_then(|t| t.split_once(" records, ")) else {
        return false;
    };
    let is_number = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let done = bytes.strip_suffix(" MiB replayed, done").is_some_and(is_number);
    let going = bytes.strip_suffix(" MiB replayed").and_then(|t| t.split_once(" of "));
    is_number(records) && (done || going.is_some_and(|(a, b)| is_number(a) && is_number(b)))
}

#[test]
fn a_start_tells_how_far_it_has_come() {
    let mut server = Server::start("start", ServerOptions::default());
    let start_ms = wire::now_ms() / 1000 * 1000 - BATCHES * SAMPLES * 1000;
    for batch in 0..BATCHES {
        write(&server, batch, start_ms);
    }
    server.peer.kill();
    server.start_process();
    let (mut refused, mut with_progress) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        assert!(server.peer.is_running() && Instant::now() < deadline, "{}", server.peer.output());
        let Ok(answer) = server.http.get("/-/ready", &[]) else {
            // The port is not bound yet.
            std::thread::park_timeout(Duration::from_millis(2));
            continue;
        };
        if answer.status == 200 {
            break;
        }
        // Whenever it is not ready it says so, and how far it is once the replay has begun.
        let text = answer.text();
        assert_eq!(answer.status, 503, "{text}");
        assert!(answer.headers.contains_key("retry-after"), "{text}");
        refused += 1;
        if tells_progress(&text) {
            with_progress += 1;
        } else {
            assert_eq!(text, "Service Unavailable: server is starting\n");
            assert_eq!(with_progress, 0, "progress was told before: {text}");
        }
        if let Ok(query) = server.http.get("/api/v1/query", &[("query", "replayed")]) {
            assert!(query.status == 503 || query.status == 200, "{}", query.text());
        }
        let healthy = server.http.get("/-/healthy", &[]).unwrap();
        assert_eq!(healthy.status, 200, "{}", healthy.text());
    }
    if with_progress == 0 {
        skipped("a_start_tells_how_far_it_has_come (body)", &format!("ready after {refused} refusals"));
    }
    let query = format!("sum(count_over_time(replayed[{}s]))", 2 * BATCHES * SAMPLES);
    assert_eq!(server.http.promql_value(&query).unwrap(), (SERIES * SAMPLES * BATCHES) as f64);
    // The log says it in order, with figures.
    wait_for("the log", Duration::from_secs(10), || server.peer.output().contains("server is ready"));
    let log = server.peer.output();
    let replayed = log.lines().position(|l| l.contains("metrics journal replayed") && l.contains("samples=1200000"));
    let ready = log.lines().position(|l| l.contains("server is ready"));
    assert!(replayed.is_some() && replayed < ready, "{log}");
}

#[test]
fn progress_is_recognised() {
    let check = |text: &str, expected: bool| {
        assert_eq!(tells_progress(&format!("Service Unavailable: server is starting{text}\n")), expected, "{text}");
    };
    check(" (metrics: 7 records, 3 of 10 MiB replayed)", true);
    check(" (metrics: 7 records, 3 MiB replayed, done; logs: 0 records, 0 of 0 MiB replayed)", true);
    check("", false);
    check(" (metrics: x records, 3 of 10 MiB replayed)", false);
    check(" (metrics: 7 records, 3 of MiB replayed)", false);
}
