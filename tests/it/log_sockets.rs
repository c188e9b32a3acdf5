//! Logs over sockets of their own: what ordinary senders send arrives once, with its time, level and labels.

mod forward;
mod gelf;
mod syslog;
mod syslog_daemons;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trefoil_tests::{Http, Server, items, text, wait_for_result};

const PATIENCE: Duration = Duration::from_secs(30);

/// A line as a query shows it.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    /// Unix nanoseconds.
    time_ns: u64,
    line: String,
    /// Stream labels and attributes together.
    labels: BTreeMap<String, String>,
}

impl Line {
    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// The values of some labels, joined.
    fn labels(&self, names: &[&str]) -> String {
        names.iter().map(|n| self.label(n)).collect::<Vec<_>>().join(" ")
    }
}

/// The lines of a stream, oldest first, with all labels and attributes.
fn lines(http: &Http, query: &str) -> Result<Vec<Line>, String> {
    let now = trefoil_tests::wire::now_ns();
    let (start, end) = ((now - 3_600_000_000_000).to_string(), (now + 60_000_000_000).to_string());
    let window = [("query", query), ("start", &start), ("end", &end), ("limit", "5000")];
    let answer = http.json("/loki/api/v1/query_range", &window)?;
    let mut lines = Vec::new();
    for stream in items(&answer["data"]["result"]) {
        let labels = stream["stream"].as_object().ok_or("a stream without labels")?;
        let labels: BTreeMap<_, _> = labels.iter().map(|(n, v)| (n.clone(), text(v))).collect();
        for value in items(&stream["values"]) {
            let time_ns = text(&value[0]).parse().map_err(|e| format!("{e}"))?;
            lines.push(Line { time_ns, line: text(&value[1]), labels: labels.clone() });
        }
    }
    lines.sort_by(|a, b| (a.time_ns, &a.line).cmp(&(b.time_ns, &b.line)));
    Ok(lines)
}

/// Waits until so many lines are there, and no more.
fn wait_for_lines(http: &Http, query: &str, count: usize) -> Vec<Line> {
    wait_for_result(&format!("{count} lines of {query}"), PATIENCE, || {
        let found = lines(http, query)?;
        if found.len() == count { Ok(found) } else { Err(format!("{} lines: {found:#?}", found.len())) }
    })
}

/// What the Python senders run with.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/.venv/bin/python");
    python.is_file().then_some(python)
}

/// The script with the Python senders.
fn senders() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/python/log_senders.py")
}

/// Stops a server in order and starts it again.
fn restart_in_order(server: &mut Server) {
    server.peer.signal("TERM");
    assert_eq!(server.peer.wait(), Some(0), "{}", server.peer.output());
    server.restart();
}
