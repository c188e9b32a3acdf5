//! The queries of the PromQL compliance tester, over data of the shape of its demo service.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use trefoil_tests::{Http, conformance, skipped, wire};

use super::data::BASE_MS;
use super::{Age, Ask, difference, programs, start, start_ours};

/// Time between scrapes, milliseconds.
const STEP_MS: i64 = 5000;
/// Length of the data, milliseconds.
const LENGTH_MS: i64 = 2 * 3_600_000;

/// Queries whose answers by Prometheus 2.42 are others, and why.
const OLD_DIFFERENCES: &[(&str, &str)] = &[
    ("avg_over_time(rate(demo_cpu_usage_seconds_total[1m])[2m:10s])", "windows are closed on the left"),
    ("label_join(demo_num_cpus, \"~invalid\", \"-\", \"instance\")", "label names are those of UTF-8 now"),
    ("label_replace(demo_num_cpus, \"~invalid\", \"\", \"src\", \"(.*)\")", "label names are those of UTF-8 now"),
];

fn values(placeholder: &str) -> &'static [&'static str] {
    match placeholder {
        "range" => &["1s", "15s", "1m", "5m", "15m", "1h"],
        "offset" => &["1m", "5m", "10m"],
        "simpleAggrOp" => &["sum", "avg", "max", "min", "count", "stddev", "stdvar"],
        "topBottomOp" => &["topk", "bottomk"],
        "quantile" => &["-0.5", "0.1", "0.5", "0.75", "0.95", "0.90", "0.99", "1", "1.5"],
        "arithBinOp" => &["+", "-", "*", "/", "%", "^"],
        "compBinOp" => &["==", "!=", "<", ">", "<=", ">="],
        "binOp" => &["+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<=", ">="],
        "simpleMathFunc" => &["abs", "ceil", "floor", "exp", "sqrt", "ln", "log2", "log10", "round"],
        "extrapolatedRateFunc" => &["delta", "rate", "increase"],
        "clampFunc" => &["clamp_min", "clamp_max"],
        "instantRateFunc" => &["idelta", "irate"],
        "dateFunc" => &["day_of_month", "day_of_week", "days_in_month", "hour", "minute", "month", "year"],
        "smoothingFactor" | "trendFactor" => &["0.1", "0.5", "0.8"],
        "simpleTimeAggrOp" => &["sum", "avg", "max", "min", "count", "stddev", "stdvar", "absent", "last"],
        other => panic!("unknown placeholder {other}"),
    }
}

/// The queries of the list with every combination of what their placeholders stand for.
fn queries(list: &str) -> Vec<String> {
    let texts = list.lines().filter_map(|line| {
        let text = line.trim().trim_start_matches("- ").strip_prefix("query:")?.trim();
        let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'));
        Some(quote.map_or(text, |q| text.trim_matches(q)).to_owned())
    });
    let mut open: Vec<String> = texts.collect();
    let mut out = Vec::new();
    while let Some(query) = open.pop() {
        match query.split_once("{{.").and_then(|(_, rest)| rest.split_once("}}")) {
            None => out.push(query),
            Some((name, _)) => {
                open.extend(values(name).iter().map(|v| query.replace(&format!("{{{{.{name}}}}}"), v)));
            }
        }
    }
    out.sort();
    out
}

/// Series of the names and label sets of the demo service.
fn write(http: &Http, age: Age) {
    let mut random = StdRng::seed_from_u64(3);
    // The old peer counts samples on the left edge of a range: there must be none.
    let shift = if age == Age::Old { 500 } else { 0 };
    let times: Vec<i64> = (0..LENGTH_MS / STEP_MS).map(|i| BASE_MS + i * STEP_MS + shift).collect();
    let mut all = Vec::new();
    for port in 0..3i64 {
        let instance = format!("demo.promlabs.com:1000{port}");
        let own = [("instance", instance.as_str()), ("job", "demo")];
        let mut add = |name: &str, more: &[(&str, &str)], value: &mut dyn FnMut(i64, &mut StdRng) -> Option<f64>| {
            let labels: Vec<_> = own.iter().chain(more).copied().chain([("__name__", name)]).collect();
            let samples: Vec<_> =
                times.iter().enumerate().filter_map(|(i, t)| Some((*t, value(i as i64, &mut random)?))).collect();
            all.push(wire::series(&labels, &samples));
        };
        for (i, kind) in ["used", "buffers", "cached", "free"].iter().enumerate() {
            let size = 1e8 * (i + 1) as f64;
            add("demo_memory_usage_bytes", &[("type", kind)], &mut |_, r| {
                Some(size + f64::from(r.random_range(0..5_000_000)))
            });
        }
        add("demo_num_cpus", &[], &mut |_, _| Some(4.0 + port as f64));
        for mode in ["idle", "user", "system"] {
            let mut total = 1e4;
            add("demo_cpu_usage_seconds_total", &[("mode", mode)], &mut |i, r| {
                total += f64::from(r.random_range(0..500)) / 100.0;
                if i == 700 && mode == "user" {
                    total = 0.0;
                }
                Some(total)
            });
        }
        let mut disk = 5e10;
        add("demo_disk_usage_bytes", &[], &mut |_, r| {
            disk += f64::from(r.random_range(-1000..9000));
            Some(disk)
        });
        let mut success = BASE_MS as f64 / 1000.0;
        add("demo_batch_last_success_timestamp_seconds", &[], &mut |i, _| {
            if i % 60 == 0 {
                success = (BASE_MS + i * STEP_MS) as f64 / 1000.0;
            }
            Some(success)
        });
        add("demo_intermittent_metric", &[], &mut |i, _| (i / 40 % 2 == 0).then_some(1.0));
        for path in ["/api/foo", "/api/bar"] {
            let mut totals = [0.0; 6];
            let rises: Vec<[f64; 6]> = (0..times.len() as i64)
                .map(|i| {
                    let mut below = 0.0;
                    for (k, total) in totals.iter_mut().enumerate() {
                        below += ((i * 7 + k as i64 * 3 + port) % 5) as f64;
                        *total += below;
                    }
                    totals
                })
                .collect();
            for (k, le) in ["0.0001", "0.001", "0.01", "0.1", "1", "+Inf"].iter().enumerate() {
                let labels = [("path", path), ("method", "GET"), ("status", "200"), ("le", *le)];
                add("demo_api_request_duration_seconds_bucket", &labels, &mut |i, _| Some(rises[i as usize][k]));
            }
            let labels = [("path", path), ("method", "GET"), ("status", "200")];
            add("demo_api_request_duration_seconds_count", &labels, &mut |i, _| Some(rises[i as usize][5]));
            add("demo_api_request_duration_seconds_sum", &labels, &mut |i, _| Some(rises[i as usize][5] * 0.01));
        }
    }
    // A receiver takes what is at most an hour older than the newest.
    for slice in (0..LENGTH_MS).step_by(1_200_000) {
        let window = BASE_MS + slice..BASE_MS + slice + 1_200_000;
        let part: Vec<wire::TimeSeries> = all
            .iter()
            .map(|series: &wire::TimeSeries| {
                let samples = series.samples.iter().filter(|s| window.contains(&s.timestamp)).cloned().collect();
                wire::TimeSeries { labels: series.labels.clone(), samples, ..wire::TimeSeries::default() }
            })
            .collect();
        let answer = http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(part)).unwrap();
        assert!(matches!(answer.status, 200 | 204), "{}: {}", answer.status, answer.text());
    }
}

#[test]
fn compliance_queries_have_the_reference_answers() {
    let name = "compliance_queries_have_the_reference_answers";
    let Some(dir) = conformance("promql-compliance", name) else { return };
    let queries = queries(&std::fs::read_to_string(dir.join("promql-test-queries.yml")).unwrap());
    assert!(queries.len() > 400, "{} queries", queries.len());
    let programs = programs();
    if programs.is_empty() {
        return skipped(name, "no prometheus is installed");
    }
    for (program, age) in programs {
        let (reference, server) = (start(&program, age), start_ours("compliance"));
        for http in [&reference.http, &server.http] {
            write(http, age);
        }
        let end = LENGTH_MS - 60_000;
        let mut faults = Vec::new();
        let ask = Ask::Range { start: end - 600_000, end, step: 10_000 };
        for query in &queries {
            if age == Age::Old && OLD_DIFFERENCES.iter().any(|(q, _)| q == query) {
                continue;
            }
            if let Some(fault) = difference(&reference, &server.http, query, ask) {
                faults.push(format!("{query}\n  {fault}"));
            }
        }
        let count = queries.len();
        assert!(faults.is_empty(), "{age:?} peer, {} of {count} differ:\n{}", faults.len(), faults.join("\n"));
    }
}
