//! The questions that Prometheus and we are asked, and how answers are compared.

use std::collections::BTreeMap;

use serde_json::Value;
use trefoil_tests::{Http, items, text};

/// Greatest relative difference of two numbers that are the same.
const TOLERANCE: f64 = 1e-9;

/// Queries whose answers differ from those of Prometheus 2.42, each with the reason.
const KNOWN_DIFFERENCES: &[(&str, &str)] =
    &[("node_load1 atan2 node_load5", "Prometheus 3 drops the metric name, 2.42 keeps it")];

/// Asked at one time.
const INSTANT: &[&str] = &[
    "up",
    "node_load1 + node_load5",
    "count({__name__=~\".+\"})",
    "count by (job) ({__name__=~\"node_.*|prometheus_.*\"})",
    "topk(3, {__name__=~\"node_memory_(MemTotal|MemFree|Active|Cached)_bytes\"})",
    "bottomk(2, node_filesystem_size_bytes)",
    "node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes",
    "100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)",
    "rate(node_cpu_seconds_total{mode=\"user\"}[10s])",
    "sum by (mode) (rate(node_cpu_seconds_total[15s]))",
    "sum without (cpu, mode) (irate(node_cpu_seconds_total{mode!=\"idle\"}[10s]))",
    "increase(prometheus_http_requests_total[15s])",
    "delta(node_load1[12s])",
    "idelta(node_memory_MemFree_bytes[10s])",
    "deriv(node_memory_MemFree_bytes[15s])",
    "predict_linear(node_memory_MemFree_bytes[15s], 3600)",
    "changes(process_cpu_seconds_total[18s])",
    "resets(process_cpu_seconds_total[18s])",
    "avg_over_time(go_goroutines[10s])",
    "quantile_over_time(0.9, go_goroutines[15s])",
    "stddev_over_time(node_memory_MemFree_bytes[15s])",
    "min_over_time(node_memory_MemFree_bytes[15s]) <= bool max_over_time(node_memory_MemFree_bytes[15s])",
    "last_over_time(node_memory_Active_bytes[20s] offset 3s)",
    "node_memory_MemFree_bytes offset 5s",
    "present_over_time(up[10s])",
    "absent(no_such_metric{job=\"a\"})",
    "absent_over_time(up{job=\"nobody\"}[10s])",
    "histogram_quantile(0.9, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[15s])))",
    "histogram_quantile(0.5, prometheus_http_response_size_bytes_bucket)",
    "histogram_quantile(0.99, sum by (le, handler) (prometheus_http_request_duration_seconds_bucket))",
    "sum by (job) (scrape_duration_seconds) / on (job) sum by (job) (up)",
    "go_memstats_alloc_bytes / on (job, instance) group_left () up",
    "node_cpu_seconds_total * on (instance) group_left (version) node_uname_info",
    "process_resident_memory_bytes and on (job) up == 1",
    "up unless on (job) node_load1",
    "node_load1 or process_open_fds",
    "label_replace(up, \"host\", \"$1\", \"instance\", \"(.*):.*\")",
    "label_join(up, \"both\", \"-\", \"job\", \"instance\")",
    "quantile by (job) (0.5, scrape_samples_scraped)",
    "stddev by (job) (go_gc_duration_seconds)",
    "count_values(\"value\", up)",
    "group by (job) (up)",
    "{__name__=~\"node_network_(receive|transmit)_bytes_total\", device!~\"veth.*\"}",
    "{job=\"node\", __name__=~\"node_memory_.*_bytes\"} > 1e9",
    "max_over_time(rate(process_cpu_seconds_total[5s])[15s:1s])",
    "sum_over_time(up[10s:2s])",
    "avg(avg_over_time(node_load1[20s])) by (instance)",
    "scalar(sum(up)) + vector(1)",
    "ceil(node_load1) + floor(node_load5) - round(node_load15, 0.1)",
    "clamp(node_load1, 0, 0.5) ^ 2",
    "ln(node_memory_MemTotal_bytes) % 3",
    "sgn(node_load1 - 1)",
    "timestamp(up) - time()",
    "sort_desc(prometheus_tsdb_head_chunks)",
    "minute() + hour() * 60 + day_of_week()",
    "-up + 2",
    "node_load1 atan2 node_load5",
    "time() - process_start_time_seconds",
    "(sum(rate(prometheus_http_requests_total{code=~\"2..\"}[15s])) by (handler)) > 0",
];

/// Asked over the last ten seconds in steps of a second. No window reaches back to the begin of the series: there
/// Prometheus 3 extrapolates counters otherwise than 2.42.
const RANGE: &[&str] = &[
    "up",
    "node_memory_MemFree_bytes",
    "rate(node_cpu_seconds_total{cpu=\"0\"}[5s])",
    "sum by (mode) (increase(node_cpu_seconds_total[5s]))",
    "histogram_quantile(0.9, rate(prometheus_http_request_duration_seconds_bucket[10s]))",
    "topk(2, {__name__=~\"node_memory_(MemTotal|MemFree|Active|Cached)_bytes\"})",
    "avg_over_time(go_goroutines[5s:1s])",
    "node_load1 offset 2s",
    "count by (job) ({__name__=~\".+\"}) > 100",
    "prometheus_tsdb_head_samples_appended_total - prometheus_tsdb_head_samples_appended_total offset 1s",
    "sum(scrape_samples_scraped) without (instance)",
    "node_memory_MemFree_bytes @ end() - node_memory_MemFree_bytes",
];

/// The same question to both; the answers that differ.
pub(crate) fn compare(theirs: &Http, ours: &Http, at_ms: i64) -> Vec<String> {
    let seconds = |ms: i64| format!("{:.3}", ms as f64 / 1000.0);
    let (start, end) = (seconds(at_ms - 10_000), seconds(at_ms));
    let mut faults = Vec::new();
    let mut empty = Vec::new();
    let questions = INSTANT.iter().map(|q| (*q, "/api/v1/query", vec![("query", *q), ("time", end.as_str())]));
    let window = [("start", start.as_str()), ("end", end.as_str())];
    let ranges = RANGE
        .iter()
        .map(|q| (*q, "/api/v1/query_range", [vec![("query", *q), ("step", "1")], window.to_vec()].concat()));
    for (query, path, parameters) in questions.chain(ranges) {
        if KNOWN_DIFFERENCES.iter().any(|(name, _)| *name == query) {
            continue;
        }
        match (result(theirs, path, &parameters), result(ours, path, &parameters)) {
            (Ok(a), Ok(b)) => {
                if a.is_empty() {
                    empty.push(query);
                }
                if let Some(fault) = difference(&a, &b) {
                    faults.push(format!("{path} {query}: {fault}"));
                }
            }
            // Both refuse: a query that neither has.
            (Err(_), Err(_)) => {}
            (a, b) => faults.push(format!("{path} {query}: theirs {a:?}, ours {b:?}")),
        }
    }
    if empty.len() > 12 {
        faults.push(format!("too many questions without an answer: {empty:?}"));
    }
    for (path, more) in [
        ("/api/v1/labels", vec![]),
        ("/api/v1/labels", vec![("match[]", "node_cpu_seconds_total")]),
        ("/api/v1/label/job/values", vec![]),
        ("/api/v1/label/__name__/values", vec![]),
        ("/api/v1/label/mode/values", vec![("match[]", "node_cpu_seconds_total{cpu=\"0\"}")]),
        ("/api/v1/series", vec![("match[]", "up")]),
        ("/api/v1/series", vec![("match[]", "{__name__=~\"node_network.*\"}"), ("match[]", "node_load1")]),
    ] {
        let parameters = [window.to_vec(), more].concat();
        let sorted = |http: &Http| {
            let answer = http.json(path, &parameters).unwrap_or_else(|e| panic!("{e}"));
            let mut list: Vec<String> = items(&answer["data"]).map(canonical).collect();
            list.sort();
            list
        };
        let (a, b) = (sorted(theirs), sorted(ours));
        if a != b {
            let missing: Vec<_> = a.iter().filter(|i| !b.contains(i)).take(5).collect();
            let extra: Vec<_> = b.iter().filter(|i| !a.contains(i)).take(5).collect();
            faults.push(format!("{path} {parameters:?}: missing {missing:?}, too many {extra:?}"));
        }
    }
    faults
}

/// All samples of the half minute before `at_ms`.
pub(crate) fn samples(http: &Http, at_ms: i64) -> Result<Answer, String> {
    let time = format!("{:.3}", at_ms as f64 / 1000.0);
    result(http, "/api/v1/query", &[("query", "{__name__=~\".+\"}[30s]"), ("time", &time)])
}

/// Series with their points, by their labels.
pub(crate) type Answer = BTreeMap<String, Vec<(i64, f64)>>;

fn result(http: &Http, path: &str, parameters: &[(&str, &str)]) -> Result<Answer, String> {
    let answer = http.json(path, parameters)?;
    let data = &answer["data"];
    let point = |p: &Value| {
        let number = text(&p[1]);
        let value = number.parse().unwrap_or_else(|e| panic!("{number:?}: {e}"));
        ((p[0].as_f64().unwrap_or(f64::NAN) * 1000.0).round() as i64, value)
    };
    let mut out = Answer::new();
    match data["resultType"].as_str() {
        Some("scalar") => {
            out.insert(String::new(), vec![point(&data["result"])]);
        }
        _ => {
            for series in items(&data["result"]) {
                let points = match &series["value"] {
                    Value::Null => items(&series["values"]).map(point).collect(),
                    one => vec![point(one)],
                };
                let labels = canonical(&series["metric"]);
                if out.insert(labels.clone(), points).is_some() {
                    return Err(format!("two series {labels}"));
                }
            }
        }
    }
    Ok(out)
}

/// A JSON text that is the same whatever the order of keys.
fn canonical(value: &Value) -> String {
    match value.as_object() {
        Some(object) => {
            let sorted: BTreeMap<_, _> = object.iter().collect();
            format!("{sorted:?}")
        }
        None => value.to_string(),
    }
}

/// The first difference of two answers.
pub(crate) fn difference(theirs: &Answer, ours: &Answer) -> Option<String> {
    let only = |a: &Answer, b: &Answer| a.keys().find(|k| !b.contains_key(*k)).cloned();
    if let Some(labels) = only(theirs, ours) {
        return Some(format!("{} and {} series, ours misses {labels}", theirs.len(), ours.len()));
    }
    if let Some(labels) = only(ours, theirs) {
        return Some(format!("{} and {} series, only ours has {labels}", theirs.len(), ours.len()));
    }
    for (labels, a) in theirs {
        let b = &ours[labels];
        if a.len() != b.len() {
            return Some(format!("{labels}: {} and {} points", a.len(), b.len()));
        }
        for ((t, x), (u, y)) in a.iter().zip(b) {
            if t != u || !same(*x, *y) {
                return Some(format!("{labels}: theirs {x} at {t}, ours {y} at {u}"));
            }
        }
    }
    None
}

fn same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}
