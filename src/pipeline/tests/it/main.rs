//! Pipelines as promtail's configurations have them, over lines.

mod container;
mod faults;
mod stages;

use std::time::Duration;

use trefoil_config::yaml::node;
use trefoil_model::Labels;
use trefoil_pipeline::{Entry, Moment, Pipeline, Plan, Use};

/// 2026-01-02T03:04:05Z
const NOW_NS: i64 = 1_767_323_045_000_000_000;

fn plan(stages: &str) -> Plan {
    let tree = node(stages).unwrap_or_else(|e| panic!("{e:?} in {stages}"));
    Plan::new(&tree, Use::Files).unwrap_or_else(|faults| panic!("{faults:?} in {stages}"))
}

fn moment(seconds: u64) -> Moment {
    let ns = i64::try_from(seconds).expect("few seconds") * 1_000_000_000;
    Moment { wall_ns: NOW_NS + ns, monotonic: Duration::from_secs(1_000 + seconds) }
}

fn entry(line: &str, source: u64) -> Entry {
    let labels = Labels::from_pairs([("filename", "/var/log/a.log"), ("job", "a")]);
    Entry::new(labels, NOW_NS, line.to_owned(), source)
}

/// An entry as text: labels but for the two that it came with, metadata, seconds since the start, line.
fn show(entry: &Entry) -> String {
    let labels: Vec<String> = entry
        .labels
        .iter()
        .filter(|(name, value)| !matches!((*name, *value), ("filename", "/var/log/a.log") | ("job", "a")))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let metadata: Vec<String> =
        entry.record.attributes.iter().map(|(name, value)| format!("{name}={}", value.to_text())).collect();
    let time = match entry.record.time_ns - NOW_NS {
        0 => "now".to_owned(),
        _ => jiff_text(entry.record.time_ns),
    };
    format!("{{{}}} [{}] {time} {}", labels.join(","), metadata.join(","), entry.record.text)
}

fn jiff_text(ns: i64) -> String {
    trefoil_template::go_time::format_layout(
        &trefoil_template::go_time::Time::from_unix_ns(ns).0,
        "2006-01-02T15:04:05.999999999Z07:00",
    )
}

/// Sends lines through and expects what comes out, what is held at the end included.
#[track_caller]
fn check(stages: &str, lines: &[&str], want: &[&str]) {
    let mut pipeline = Pipeline::new(&plan(stages));
    let mut out = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        pipeline.push(entry(line, i as u64), moment(0), &mut out);
    }
    pipeline.flush_all(moment(0), &mut out);
    let got: Vec<String> = out.iter().map(show).collect();
    assert_eq!(got, want, "{stages}");
    assert!(!pipeline.is_holding());
}
