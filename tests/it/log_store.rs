//! The store of logs as a user meets it: deletion, retention by bytes, data of older versions, crashes at the worst
//! moments, damaged files.

mod damage;
mod retention;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use trefoil_tests::server::fresh_dir;
use trefoil_tests::{Http, Peer, Server, ServerOptions, items, skipped, text, wait_for, wire};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const SECOND: u64 = 1_000_000_000;
/// Lines of a push.
const BATCH: u64 = 2000;

/// A number that looks random and is the same for the same input.
fn mixed(n: u64) -> u64 {
    let n = (n ^ (n >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n ^ (n >> 32)
}

/// The line of a number: words, an id, its time, a number, letters beyond ASCII.
fn line(seq: u64) -> String {
    let (a, b) = (mixed(seq), mixed(seq + (1 << 40)));
    let level = ["info", "warn", "error", "debug"][(a % 4) as usize];
    let path = ["/api/käse", "/checkout", "/login", "/größe/items"][(b % 4) as usize];
    format!(
        "sequence={seq} level={level} trace_id={a:016x}{b:016x} path={path} took={}ms msg=\"done {}\"",
        a % 977,
        b % 31
    )
}

/// What was sent of one stream, and what became of each batch.
struct Ledger {
    base_ns: u64,
    /// First number of a batch to whether it was acknowledged.
    batches: BTreeMap<u64, bool>,
}

impl Ledger {
    fn new(base_ns: u64) -> Self {
        Self { base_ns, batches: BTreeMap::new() }
    }

    fn at(&self, seq: u64) -> u64 {
        self.base_ns + seq * 1000
    }

    /// Sends the next batch; whether it was acknowledged.
    fn push(&mut self, http: &Http) -> bool {
        let first = self.batches.len() as u64 * BATCH;
        let lines: Vec<(u64, String)> = (first..first + BATCH).map(|seq| (self.at(seq), line(seq))).collect();
        self.batches.insert(first, false);
        let body = wire::loki_push(&[("service_name", "ledger"), ("app", "store")], &lines);
        let acknowledged = http.post("/loki/api/v1/push", JSON, body).is_ok_and(|answer| answer.status == 204);
        self.batches.insert(first, acknowledged);
        acknowledged
    }

    fn acknowledged(&self) -> u64 {
        self.batches.values().filter(|done| **done).count() as u64 * BATCH
    }

    /// All lines of the ledger's stream with their numbers, batch by batch; panics on a line that was never sent.
    fn read(&self, http: &Http) -> BTreeMap<u64, u64> {
        let mut found: BTreeMap<u64, u64> = BTreeMap::new();
        for first in self.batches.keys() {
            let (start, end) = (self.at(*first).to_string(), self.at(first + BATCH).to_string());
            let window = [("start", start.as_str()), ("end", &end), ("limit", "5000"), ("query", "{app=\"store\"}")];
            let answer = http.json("/loki/api/v1/query_range", &window).unwrap();
            for value in items(&answer["data"]["result"]).flat_map(|stream| items(&stream["values"])) {
                let got = text(&value[1]);
                let seq = got.strip_prefix("sequence=").and_then(|rest| rest.split(' ').next()).map(str::parse::<u64>);
                let Some(Ok(seq)) = seq else { panic!("line {got:?} is not one of ours") };
                assert_eq!((got, text(&value[0])), (line(seq), self.at(seq).to_string()));
                *found.entry(seq).or_default() += 1;
            }
        }
        found
    }

    /// Every acknowledged line is there once, every batch without an answer whole or not at all.
    fn check(&self, http: &Http, context: &str) {
        let found = self.read(http);
        assert!(found.values().all(|n| *n == 1), "{context}: something is there twice");
        let mut total = 0;
        for (first, acknowledged) in &self.batches {
            let n = found.range(*first..first + BATCH).count() as u64;
            let is_right = n == BATCH || n == 0 && !acknowledged;
            assert!(is_right, "{context}: {n} lines of batch {first}, acknowledged: {acknowledged}");
            total += n;
        }
        // Counts are gathered in another way than lines.
        assert_eq!(count(http, "{app=\"store\"}"), total, "{context}");
    }
}

/// Lines of a query in the last hour, counted by the server.
fn count(http: &Http, query: &str) -> u64 {
    let answer = http.json("/loki/api/v1/query", &[("query", &format!("sum(count_over_time({query} [2h]))"))]).unwrap();
    items(&answer["data"]["result"]).map(|sample| text(&sample["value"][1]).parse::<u64>().unwrap()).sum()
}

fn bytes_below(dir: &Path) -> u64 {
    files_below(dir).iter().map(|path| std::fs::metadata(path).map_or(0, |m| m.len())).sum()
}

/// All files, in order; folders that vanish meanwhile are left out.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Waits until nothing is only in memory.
fn wait_flushed(server: &Server) {
    wait_for("the memtable to be written", Duration::from_secs(60), || {
        let bytes = server.http.get("/metrics", &[]).unwrap().text();
        bytes.lines().any(|l| l.starts_with("trefoil_events_memtable_bytes{kind=\"logs\"} 0"))
    });
}

fn delete(http: &Http, query: &str, start_ns: u64, end_ns: u64) {
    let (start, end) = (start_ns.to_string(), end_ns.to_string());
    let form = [("query", query), ("start", start.as_str()), ("end", &end)];
    let answer = http.post_form("/loki/api/v1/delete", &form).unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn deletions(http: &Http) -> Vec<Value> {
    http.json("/loki/api/v1/delete", &[]).unwrap().as_array().cloned().unwrap()
}

#[test]
fn deleted_lines_are_hidden_at_once_and_go_from_the_disk() {
    let trefoil = "  memtable: { flush_interval: 1s }".to_owned();
    let args = vec!["--web.enable-admin-api".to_owned()];
    let mut server = Server::start("log-delete", ServerOptions { trefoil, args, ..ServerOptions::default() });
    let http = server.http.clone();
    let start = wire::now_ns() - 600 * SECOND;
    // Text that does not compress well, so that it would be seen on the disk.
    let secret = |n: u64| {
        let noise: String = (0..12).map(|i| format!("{:x}q", mixed(n * 12 + i))).collect();
        format!("the secret {n} {noise}")
    };
    let secrets: Vec<_> = (0..4000).map(|n| (start + n * 1000, secret(n))).collect();
    let plain: Vec<_> = (0..100).map(|n| (start + n * 1000 + 1, format!("plain {n}"))).collect();
    for (lines, app) in [(&secrets, "a"), (&plain, "a"), (&plain, "b")] {
        let answer = http.post("/loki/api/v1/push", JSON, wire::loki_push(&[("app", app)], lines)).unwrap();
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    let is_hidden = |http: &Http, when: &str| {
        let (a, b) = (count(http, "{app=\"a\"}"), count(http, "{app=\"b\"}"));
        assert_eq!((a, b, count(http, "{app=~\".+\"} |= \"secret\"")), (100, 100, 0), "{when}");
        let lines = http.logql_lines("{app=\"a\"} |= \"the secret\"").unwrap();
        assert!(lines.is_empty(), "{when}: {lines:?}");
        let lines = http.logql_lines("{app=\"a\"}").unwrap();
        assert_eq!((lines.len(), lines[99].as_str()), (100, "plain 99"), "{when}");
    };
    assert_eq!(count(&http, "{app=\"a\"}"), 4100);
    // What selects too little is refused.
    for query in ["{app=\"a\"} |~ \"sec.*\"", "count_over_time({app=\"a\"}[1m])", "{"] {
        let form = [("query", query), ("start", "0")];
        let answer = http.post_form("/loki/api/v1/delete", &form).unwrap();
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
    }
    delete(&http, "{app=\"a\"} |= \"secret\"", start, start + 300 * SECOND);
    is_hidden(&http, "at once");
    server.peer.kill();
    server.restart();
    is_hidden(&http, "after kill -9");
    let parts = server.data_dir.join("events/logs");
    wait_for("the deletion to be done", Duration::from_secs(90), || deletions(&http)[0]["status"] == "processed");
    is_hidden(&http, "after the merge");
    // Gone from the parts; a segment of the journal goes when the next one has been written out.
    let next = [(start + 2, "plain 99".to_owned())];
    http.post("/loki/api/v1/push", JSON, wire::loki_push(&[("app", "c")], &next)).unwrap();
    wait_flushed(&server);
    let needle = b"the secret";
    for path in files_below(&parts) {
        let content = std::fs::read(&path).unwrap_or_default();
        assert!(!content.windows(needle.len()).any(|w| w == needle), "{}", path.display());
    }
    let bytes = bytes_below(&parts.join("parts"));
    assert!(bytes < 60_000, "{bytes} bytes are left of some 1 MB");
    // What comes later is not deleted.
    let late = [(start + 1, "a late secret".to_owned())];
    http.post("/loki/api/v1/push", JSON, wire::loki_push(&[("app", "a")], &late)).unwrap();
    assert_eq!(http.logql_lines("{app=\"a\"} |= \"secret\"").unwrap(), ["a late secret"]);
    server.peer.kill();
    server.restart();
    assert_eq!(http.logql_lines("{app=\"a\"} |= \"secret\"").unwrap(), ["a late secret"]);
}

#[test]
fn deletions_can_be_taken_back_and_are_off_unless_switched_on() {
    let args = vec!["--web.enable-admin-api".to_owned()];
    let mut server = Server::start("log-delete-back", ServerOptions { args, ..ServerOptions::default() });
    let http = server.http.clone();
    let start = wire::now_ns() - 60 * SECOND;
    let lines = [(start, "x one".to_owned()), (start + 1, "y two".to_owned())];
    http.post("/loki/api/v1/push", JSON, wire::loki_push(&[("app", "a")], &lines)).unwrap();
    delete(&http, "{app=\"a\"} |= \"x\"", start, start + SECOND);
    assert_eq!(http.logql_lines("{app=\"a\"}").unwrap(), ["y two"]);
    let listed = deletions(&http);
    let id = text(&listed[0]["request_id"]);
    assert_eq!((listed.len(), text(&listed[0]["query"]).as_str()), (1, "{app=\"a\"} |= \"x\""));
    let cancel = |id: &str| {
        let request = http.client.delete(format!("{}/loki/api/v1/delete", http.base)).query(&[("request_id", id)]);
        http.send(request).unwrap().status
    };
    assert_eq!((cancel("77"), cancel("x")), (404, 404));
    // A merge may have been faster; then it is too late.
    match cancel(&id) {
        204 => assert_eq!(http.logql_lines("{app=\"a\"}").unwrap(), ["x one", "y two"]),
        status => assert_eq!((status, text(&deletions(&http)[0]["status"]).as_str()), (400, "processed")),
    }
    server.peer.kill();
    server.options_mut().args.clear();
    server.restart();
    let form = [("query", "{app=\"a\"}"), ("start", "0")];
    let answer = http.post_form("/loki/api/v1/delete", &form).unwrap();
    assert!(answer.status == 503 && answer.text().contains("enable_admin_api"), "{} {}", answer.status, answer.text());
}

#[test]
fn the_oldest_days_go_when_logs_take_too_many_bytes() {
    let trefoil = "  memtable: { flush_interval: 1s }\n  retention: { logs: unlimited, logs_bytes: 1MB }".to_owned();
    let server = Server::start("log-bytes", ServerOptions { trefoil, ..ServerOptions::default() });
    let http = &server.http;
    let (day, now) = (86_400 * SECOND, wire::now_ns());
    let noise = |n: u64| -> String { (0..20).map(|i| format!("{:x}z", mixed(n * 20 + i))).collect() };
    for back in 0..4u64 {
        let first = back * 3000;
        let lines: Vec<_> = (first..first + 3000).map(|n| (now - back * day - n * 1000, noise(n))).collect();
        let answer = http.post("/loki/api/v1/push", JSON, wire::loki_push(&[("app", "noise")], &lines)).unwrap();
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    let days = |http: &Http| -> Vec<u64> {
        let of_day = |back: u64| {
            let (start, end) = ((now - back * day - day / 2).to_string(), (now - back * day + day / 2).to_string());
            let window = [("query", "{app=\"noise\"}"), ("start", start.as_str()), ("end", &end), ("limit", "5000")];
            let answer = http.json("/loki/api/v1/query_range", &window).unwrap();
            items(&answer["data"]["result"]).map(|stream| items(&stream["values"]).count() as u64).sum()
        };
        (0..4).map(of_day).collect()
    };
    assert_eq!(days(http), [3000; 4]);
    wait_flushed(&server);
    let bytes = || bytes_below(&server.data_dir.join("events/logs/parts"));
    let before = bytes();
    assert!(before > 1_000_000, "{before}");
    // The look at the bytes comes once a minute.
    wait_for("the bytes of the oldest days to go", Duration::from_secs(150), || bytes() < before / 3);
    assert_eq!(days(http), [3000, 0, 0, 0]);
}

fn copy(from: &Path, to: &Path) {
    for path in files_below(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&path, target).unwrap();
    }
}

/// Lines that every version wrote are read, by the kinds of their files.
#[test]
fn a_data_folder_of_each_version_is_read() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/events/tests/fixtures");
    for version in ["v1", "v2"] {
        let dir = fresh_dir(&format!("log-{version}"));
        let data = dir.join("data");
        copy(&fixtures.join(version), &data.join("events"));
        let expected = std::fs::read_to_string(fixtures.join(version).join("expected.txt")).unwrap();
        // Loki's selectors find no streams without labels.
        let is_wanted = |l: &&str| l.contains(" LogRecord {") && !l.starts_with("({}");
        let expected = expected.lines().filter(is_wanted).count() as u64;
        assert!(expected > 1, "{version}");
        let trefoil =
            "  memtable: { flush_interval: 1s }\n  retention: { logs: unlimited, traces: unlimited }".to_owned();
        let options = ServerOptions { trefoil, data_dir: Some(data), ..ServerOptions::default() };
        let server = Server::start(&format!("log-{version}"), options);
        // The fixture is of January 2026.
        let (start, end) = (1_767_000_000 * SECOND, 1_769_000_000 * SECOND);
        let found = || -> u64 {
            let (start, end) = (start.to_string(), end.to_string());
            let window = [("query", "{service_name=~\".+\"}"), ("start", &start), ("end", &end), ("limit", "5000")];
            let answer = server.http.json("/loki/api/v1/query_range", &window).unwrap();
            items(&answer["data"]["result"]).map(|stream| items(&stream["values"]).count() as u64).sum()
        };
        assert_eq!(found(), expected, "{version}");
        drop(server);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// A folder that an older release wrote, when `TREFOIL_OLD_BIN` names its binary.
#[test]
fn an_older_release_is_replaced_on_its_data() {
    let Some(old) = std::env::var_os("TREFOIL_OLD_BIN") else {
        return skipped("an_older_release_is_replaced_on_its_data", "TREFOIL_OLD_BIN names no binary");
    };
    let trefoil = "  memtable: { flush_interval: 1s }".to_owned();
    let mut server = Server::start("log-old", ServerOptions { trefoil, ..ServerOptions::default() });
    server.peer.kill();
    std::fs::remove_dir_all(&server.data_dir).unwrap();
    let command = server.command();
    let mut older = Command::new(old);
    older.args(command.get_args());
    server.peer = Peer::start(&mut older, &server.dir.join("old.log")).unwrap();
    server.wait_ready();
    let mut ledger = Ledger::new(wire::now_ns() - 900 * SECOND);
    for round in 0..6 {
        assert!(ledger.push(&server.http) && ledger.push(&server.http));
        if round < 5 {
            wait_flushed(&server);
        }
    }
    // The last batches are only in the journal.
    server.peer.kill();
    server.restart();
    ledger.check(&server.http, "written by the older release");
    assert!(ledger.push(&server.http));
    wait_flushed(&server);
    ledger.check(&server.http, "beside new parts");
    let old_parts = |server: &Server| {
        let parts = files_below(&server.data_dir.join("events/logs/parts"));
        let is_old = |path: &&PathBuf| {
            path.ends_with("events") && std::fs::read(path).is_ok_and(|content| content[8..10] == [1, 0])
        };
        parts.iter().filter(is_old).count()
    };
    wait_for("the parts to be merged", Duration::from_secs(90), || old_parts(&server) == 0);
    ledger.check(&server.http, "merged");
    server.peer.kill();
    server.restart();
    ledger.check(&server.http, "after kill -9");
}

/// Kills the server while a part is being written, by a flush or a merge, with writers at work.
#[test]
fn kill_9_in_flushes_and_merges_loses_and_doubles_nothing() {
    let trefoil = "  memtable: { flush_bytes: 1MB, flush_interval: 1s }\n  journal: { segment_bytes: 1MB }".to_owned();
    let mut server = Server::start("log-crash", ServerOptions { trefoil, ..ServerOptions::default() });
    let aside = server.data_dir.join("events/logs/tmp");
    // Looks often, because a part is written in a moment.
    let is_writing = || {
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            if std::fs::read_dir(&aside).is_ok_and(|mut entries| entries.next().is_some()) {
                return true;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        false
    };
    let mut ledger = Ledger::new(wire::now_ns() - 900 * SECOND);
    let cycles = if std::env::var_os("TREFOIL_TORTURE").is_some() { 60 } else { 12 };
    for cycle in 0..cycles {
        let in_merge = cycle % 6 == 5;
        if in_merge {
            // Enough parts, nothing left to flush: what is written next is a merge.
            let mut more_at = Instant::now();
            wait_for("a merge", Duration::from_secs(150), || {
                if Instant::now() >= more_at {
                    for _ in 0..5 {
                        assert!((0..5).all(|_| ledger.push(&server.http)));
                        wait_flushed(&server);
                    }
                    more_at = Instant::now() + Duration::from_secs(15);
                }
                is_writing()
            });
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (ledger, http, stop) = (&mut ledger, server.http.clone(), &stop);
            scope.spawn(move || {
                // Not too many: all are read back.
                for _ in 0..12 {
                    if stop.load(Ordering::Relaxed) || !ledger.push(&http) {
                        break;
                    }
                }
            });
            if !in_merge {
                wait_for("a part to be written", Duration::from_secs(60), is_writing);
            }
            // A different moment each time.
            let kill_at = Instant::now() + Duration::from_millis(cycle * 7 % 40);
            wait_for("the moment to kill", Duration::from_secs(5), || Instant::now() >= kill_at);
            server.peer.kill();
            stop.store(true, Ordering::Relaxed);
        });
        server.restart();
        if cycle % 3 == 2 {
            ledger.check(&server.http, &format!("cycle {cycle}"));
        }
    }
    assert!(ledger.acknowledged() >= 10 * BATCH, "{}", ledger.acknowledged());
}
