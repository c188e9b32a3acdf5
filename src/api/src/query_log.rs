//! The query log: a JSON line for each query that ran, in the form of the reference (`global.query_log_file`). Queries
//! of rules name their group, all others their request; LogQL queries have a `msg` of their own.

use std::sync::LazyLock;

use parking_lot::RwLock;
use prometheus::{IntCounter, register_int_counter};
use serde_json::json;
use tokio::sync::mpsc;

use crate::prometheus::answer::rfc3339;
use crate::queries::QueryNote;

static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_query_log_dropped_total", "Lines of the query log that could not be written.")
        .expect("unique metric name")
});

/// Lines that wait to be written; beyond, lines are dropped and counted.
pub const LINES_MAX: usize = 1000;

/// Hands lines to whoever writes them. Without one nothing is noted.
#[derive(Debug, Default)]
pub struct QueryLog(RwLock<Option<mpsc::Sender<String>>>);

impl QueryLog {
    /// Sets who gets the lines from now on, each with its line feed.
    pub fn set(&self, to: Option<mpsc::Sender<String>>) {
        *self.0.write() = to;
    }

    /// Whether lines are wanted.
    pub fn is_on(&self) -> bool {
        self.0.read().is_some()
    }

    /// Notes a query. `stats` is what the answer shows with `stats=all`, `error` why there is no answer.
    pub fn write(&self, note: &QueryNote, method: &str, stats: &serde_json::Value, error: Option<&str>, now_ms: i64) {
        let Some(to) = self.0.read().clone() else { return };
        let client = note.client.rsplit_once(':').map_or(note.client.as_str(), |(host, _)| host);
        let is_logql = note.path.starts_with("/loki/");
        let mut line = json!({
            "time": rfc3339(now_ms),
            "level": "INFO",
            "msg": if is_logql { "logql query logged" } else { "promql query logged" },
            "params": {
                "end": rfc3339(note.end_ms),
                "query": note.query,
                "start": rfc3339(note.start_ms),
                "step": note.step_ms / 1000,
            },
        });
        if let Some(fields) = line.as_object_mut() {
            if let Some(error) = error {
                fields.insert("error".to_owned(), error.into());
            }
            fields.insert("stats".to_owned(), stats.clone());
            let (name, origin) = match &note.rule_group {
                Some(group) => ("ruleGroup", json!({ "file": group.file, "name": group.name })),
                None => {
                    let client = client.trim_matches(['[', ']']);
                    ("httpRequest", json!({ "clientIP": client, "method": method, "path": note.path }))
                }
            };
            fields.insert(name.to_owned(), origin);
        }
        if to.try_send(format!("{line}\n")).is_err() {
            DROPPED.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queries::RuleGroup;

    #[test]
    fn lines_are_json() {
        let log = QueryLog::default();
        let note = QueryNote {
            path: "/api/v1/query_range",
            query: "up".to_owned(),
            start_ms: 1000,
            end_ms: 61_500,
            step_ms: 15_000,
            client: "[::1]:5".to_owned(),
            rule_group: None,
        };
        log.write(&note, "GET", &json!({}), None, 0);
        assert!(!log.is_on());
        let (to, mut lines) = mpsc::channel(1);
        log.set(Some(to));
        log.write(&note, "POST", &json!({ "samples": 1 }), Some("too much"), 7000);
        // No room is left: dropped, not waited for.
        log.write(&note, "POST", &json!({}), None, 7000);
        let line = lines.try_recv().unwrap();
        let got: serde_json::Value = serde_json::from_str(&line).unwrap();
        let params = json!({
            "query": "up", "step": 15, "start": "1970-01-01T00:00:01Z", "end": "1970-01-01T00:01:01.5Z"
        });
        assert_eq!((&got["params"], &got["error"]), (&params, &"too much".into()));
        assert_eq!(got["httpRequest"], json!({ "clientIP": "::1", "method": "POST", "path": "/api/v1/query_range" }));
        assert!(line.ends_with("}\n") && lines.try_recv().is_err());
        let group = RuleGroup { file: "r.yml".to_owned(), name: "g".to_owned() };
        let note = QueryNote { path: "rules", rule_group: Some(group), ..note };
        log.write(&note, "", &json!({}), None, 7000);
        let got: serde_json::Value = serde_json::from_str(&lines.try_recv().unwrap()).unwrap();
        assert_eq!(got["ruleGroup"], json!({ "file": "r.yml", "name": "g" }));
        assert!(got.get("httpRequest").is_none());
    }
}
