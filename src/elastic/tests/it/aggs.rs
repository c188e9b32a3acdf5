//! Aggregations over a handful of records.

use serde_json::{Value, json};

use crate::memory::NOW_MS;
use crate::queries::logs;

#[track_caller]
fn check(aggs: Value, want: Value) {
    let got = logs().ask("", json!({ "size": 0, "aggs": aggs }));
    assert_eq!(got["aggregations"], want, "{aggs}\n{got}");
}

#[test]
fn terms_have_order_size_and_rest() {
    check(
        json!({"t": {"terms": {"field": "service.name"}}}),
        json!({"t": {"doc_count_error_upper_bound": 0, "sum_other_doc_count": 0, "buckets": [
            {"key": "cart", "doc_count": 2}, {"key": "shop", "doc_count": 2},
        ]}}),
    );
    check(
        json!({"t": {"terms": {"field": "status", "size": 1, "order": {"_key": "desc"}, "missing": "N/A"}}}),
        json!({"t": {"doc_count_error_upper_bound": 0, "sum_other_doc_count": 3, "buckets": [{"key": "N/A", "doc_count": 3}]}}),
    );
    check(
        json!({"t": {"terms": {"field": "service.name", "order": {"m": "desc"}}, "aggs": {"m": {"max": {"field": "status"}}}}}),
        json!({"t": {"doc_count_error_upper_bound": 0, "sum_other_doc_count": 0, "buckets": [
            {"key": "cart", "doc_count": 2, "m": {"value": 504.0}}, {"key": "shop", "doc_count": 2, "m": {"value": 500.0}},
        ]}}),
    );
    check(
        json!({"t": {"terms": {"field": "tags", "include": "b|c", "exclude": ["c"]}}}),
        json!({"t": {"doc_count_error_upper_bound": 0, "sum_other_doc_count": 0, "buckets": [{"key": "b", "doc_count": 1}]}}),
    );
    check(
        json!({"t": {"terms": {"field": "ok"}}}),
        json!({"t": {"doc_count_error_upper_bound": 0, "sum_other_doc_count": 0, "buckets": [
            {"key": 0, "key_as_string": "false", "doc_count": 1},
        ]}}),
    );
}

#[test]
fn date_histograms_fill_gaps_and_pipelines_follow() {
    let start = NOW_MS - 5000;
    let key = |n: i64| start.div_euclid(2000) * 2000 + n * 2000;
    let got = logs().ask(
        "",
        json!({"size": 0, "aggs": {"h": {
        "date_histogram": {
            "field": "@timestamp", "fixed_interval": "2000ms", "min_doc_count": 0, "format": "epoch_millis",
            "extended_bounds": {"min": start - 2000, "max": NOW_MS},
        },
        "aggs": {
            "1": {"max": {"field": "status"}},
            "3": {"derivative": {"buckets_path": "_count"}},
            "4": {"cumulative_sum": {"buckets_path": "_count"}},
            "5": {"moving_fn": {"buckets_path": "_count", "window": 2, "script": "MovingFunctions.sum(values)"}},
            "6": {"bucket_script": {"buckets_path": {"a": "1", "b": "_count"}, "script": "params.a / params.b"}},
            "7": {"serial_diff": {"buckets_path": "_count", "lag": 2}},
            "8": {"moving_avg": {"buckets_path": "_count", "window": 2}},
            "9": {"rate": {"unit": "minute"}},
        },
    }, "top": {"max_bucket": {"buckets_path": "h>_count"}}}}),
    );
    let buckets = got["aggregations"]["h"]["buckets"].as_array().unwrap_or_else(|| panic!("{got}"));
    let column = |f: &dyn Fn(&Value) -> Value| buckets.iter().map(f).collect::<Vec<Value>>();
    assert_eq!(column(&|b| b["key"].clone()), [-1, 0, 1, 2, 3].map(|n| json!(key(n))));
    assert_eq!(buckets[0]["key_as_string"], json!(key(-1).to_string()));
    assert_eq!(column(&|b| b["doc_count"].clone()), [0, 1, 2, 2, 1].map(|n| json!(n)));
    assert_eq!(
        column(&|b| b["1"]["value"].clone()),
        [json!(null), json!(500.0), json!(504.0), json!(null), json!(null)]
    );
    assert_eq!(column(&|b| b["3"]["value"].clone()), [json!(null), json!(1.0), json!(1.0), json!(0.0), json!(-1.0)]);
    assert_eq!(column(&|b| b["4"]["value"].clone()), [0.0, 1.0, 3.0, 5.0, 6.0].map(|n| json!(n)));
    assert_eq!(column(&|b| b["5"]["value"].clone()), [0.0, 0.0, 1.0, 3.0, 4.0].map(|n| json!(n)));
    assert_eq!(
        column(&|b| b["6"]["value"].clone()),
        [json!(null), json!(500.0), json!(252.0), json!(null), json!(null)]
    );
    assert_eq!(column(&|b| b["7"]["value"].clone()), [json!(null), json!(null), json!(2.0), json!(1.0), json!(-1.0)]);
    assert_eq!(column(&|b| b["8"]["value"].clone()), [0.0, 0.5, 1.5, 2.0, 1.5].map(|n| json!(n)));
    assert_eq!(column(&|b| b["9"]["value"].clone()), [0.0, 30.0, 60.0, 60.0, 30.0].map(|n| json!(n)));
    let top = &got["aggregations"]["top"];
    assert_eq!(top, &json!({"value": 2.0, "keys": [key(1).to_string(), key(2).to_string()]}));
}

#[test]
fn buckets_of_other_kinds() {
    check(
        json!({"f": {"filters": {"filters": {"bad": {"query_string": {"query": "timeout"}}, "all": {"match_all": {}}}}}}),
        json!({"f": {"buckets": {"bad": {"doc_count": 2}, "all": {"doc_count": 6}}}}),
    );
    check(
        json!({"f": {"filters": {"filters": [{"term": {"env": "dev"}}], "other_bucket": true}}}),
        json!({"f": {"buckets": [{"doc_count": 2}, {"doc_count": 4}]}}),
    );
    check(
        json!({"r": {"range": {"field": "status", "ranges": [{"to": 400}, {"from": 500, "key": "5xx"}]}}}),
        json!({"r": {"buckets": [
            {"key": "*-400.0", "to": 400.0, "doc_count": 1}, {"key": "5xx", "from": 500.0, "doc_count": 2},
        ]}}),
    );
    check(
        json!({"h": {"histogram": {"field": "status", "interval": 100, "min_doc_count": 1}}}),
        json!({"h": {"buckets": [{"key": 200.0, "doc_count": 1}, {"key": 500.0, "doc_count": 2}]}}),
    );
    check(
        json!({"m": {"missing": {"field": "status"}}, "n": {"nested": {"path": "http"}, "aggs": {"c": {"value_count": {"field": "http.method"}}}}}),
        json!({"m": {"doc_count": 3}, "n": {"doc_count": 6, "c": {"value": 1}}}),
    );
    check(
        json!({"d": {"date_range": {"field": "@timestamp", "format": "epoch_millis", "ranges": [{"from": "now-1s"}, {"to": "now-1s"}]}}}),
        json!({"d": {"buckets": [
            {"key": format!("*-{}", NOW_MS - 1000), "to": (NOW_MS - 1000) as f64, "to_as_string": (NOW_MS - 1000).to_string(), "doc_count": 4},
            {"key": format!("{}-*", NOW_MS - 1000), "from": (NOW_MS - 1000) as f64, "from_as_string": (NOW_MS - 1000).to_string(), "doc_count": 2},
        ]}}),
    );
    let sources =
        json!([{"e": {"terms": {"field": "env"}}}, {"s": {"terms": {"field": "status", "missing_bucket": true}}}]);
    let first = logs().ask("", json!({"size": 0, "aggs": {"c": {"composite": {"size": 2, "sources": sources}}}}));
    let first = &first["aggregations"]["c"];
    assert_eq!(
        first["buckets"],
        json!([
            {"key": {"e": "dev", "s": null}, "doc_count": 1}, {"key": {"e": "dev", "s": "504"}, "doc_count": 1},
        ])
    );
    let after = first["after_key"].clone();
    let next = logs()
        .ask("", json!({"size": 0, "aggs": {"c": {"composite": {"size": 5, "sources": sources, "after": after}}}}));
    assert_eq!(
        next["aggregations"]["c"]["buckets"],
        json!([
            {"key": {"e": "prod", "s": 200}, "doc_count": 1}, {"key": {"e": "prod", "s": 500}, "doc_count": 1},
        ])
    );
}

#[test]
fn figures_are_exact() {
    check(
        json!({"a": {"avg": {"field": "status"}}, "s": {"sum": {"field": "nothing"}}, "m": {"min": {"field": "nothing"}},
            "c": {"cardinality": {"field": "service.name"}}, "v": {"value_count": {"field": "status"}}}),
        json!({"a": {"value": 1204.0 / 3.0}, "s": {"value": 0.0}, "m": {"value": null}, "c": {"value": 2}, "v": {"value": 3}}),
    );
    check(
        json!({"p": {"percentiles": {"field": "status", "percents": ["50", 100]}}, "r": {"percentile_ranks": {"field": "status", "values": [500]}}}),
        json!({"p": {"values": {"50.0": 500.0, "100.0": 504.0}}, "r": {"values": {"500.0": 50.0}}}),
    );
    check(
        json!({"s": {"stats": {"field": "status"}}}),
        json!({"s": {"count": 3, "min": 200.0, "max": 504.0, "avg": 1204.0 / 3.0, "sum": 1204.0}}),
    );
    let got = logs().ask("", json!({"size": 0, "aggs": {"e": {"extended_stats": {"field": "status", "missing": 0}}}}));
    let stats = &got["aggregations"]["e"];
    assert_eq!((stats["count"].as_u64(), stats["sum_of_squares"].as_f64()), (Some(6), Some(544_016.0)));
    let deviation = stats["std_deviation"].as_f64().unwrap();
    let upper = stats["std_deviation_bounds"]["upper"].as_f64().unwrap();
    assert!((upper - (1204.0 / 6.0 + 2.0 * deviation)).abs() < 1e-9, "{stats}");
    check(
        json!({"t": {"top_metrics": {"metrics": [{"field": "status"}], "sort": {"@timestamp": "desc"}}},
            "x": {"max": {"field": "@timestamp"}}}),
        json!({"t": {"top": [{"sort": ["2023-11-14T22:13:20.000Z"], "metrics": {"status": null}}]},
            "x": {"value": NOW_MS as f64, "value_as_string": "2023-11-14T22:13:20.000Z"}}),
    );
    let got = logs().ask(
        "",
        json!({"size": 0, "aggs": {"t": {"top_hits": {"size": 1, "_source": ["user"], "sort": [{"user": "desc"}]}}}}),
    );
    let hits = &got["aggregations"]["t"]["hits"];
    assert_eq!((&hits["total"]["value"], &hits["hits"][0]["_source"]), (&json!(6), &json!({"user": "Bob"})));
}
