//! Bad input is refused in Elasticsearch's words and never panics.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use serde_json::{Value, json};

use crate::queries::logs;

#[track_caller]
fn refused(body: Value, kind: &str, reason: &str) {
    let got = logs().ask("", body.clone());
    let cause = &got["error"]["root_cause"][0];
    assert_eq!((got["status"].as_u64(), cause["type"].as_str()), (Some(400), Some(kind)), "{body}\n{got}");
    assert!(cause["reason"].as_str().unwrap().contains(reason), "{body}\n{got}");
}

#[test]
fn what_is_wrong_is_named() {
    refused(json!({"query": {"foo": {}}}), "parsing_exception", "unknown query [foo]");
    refused(json!({"query": {}}), "illegal_argument_exception", "query malformed, empty clause found");
    refused(json!({"query": {"match": {"a": 1}, "term": {"b": 2}}}), "parsing_exception", "[match] malformed query");
    refused(json!({"query": {"match": {"a": 1, "b": 2}}}), "parsing_exception", "doesn't support multiple fields");
    refused(json!({"foo": 1}), "parsing_exception", "Unknown key for a VALUE in [foo].");
    refused(json!({"size": -1}), "action_request_validation_exception", "[size]");
    refused(json!({"from": 9999, "size": 2}), "illegal_argument_exception", "Result window is too large");
    refused(
        json!({"query": {"range": {"@timestamp": {"gte": "yesterday"}}}}),
        "parse_exception",
        "failed to parse date field [yesterday]",
    );
    refused(json!({"query": {"regexp": {"a": "("}}}), "query_shard_exception", "missing closing )");
    refused(json!({"aggs": {"a": {"foo": {}}}}), "parsing_exception", "Unknown aggregation type [foo]");
    refused(json!({"aggs": {"a": {"geohash_grid": {"field": "x"}}}}), "illegal_argument_exception", "geohash_grid");
    refused(
        json!({"aggs": {"a": {"terms": {"field": "x", "size": 0}}}}),
        "illegal_argument_exception",
        "[size] must be greater than 0",
    );
    refused(
        json!({"aggs": {"a": {"derivative": {"buckets_path": "b"}}}}),
        "action_request_validation_exception",
        "No aggregation found for path [b]",
    );
    refused(json!({"search_after": [1]}), "illegal_argument_exception", "Sort must contain at least one field.");
    refused(
        json!({"sort": "@timestamp", "search_after": [1, 2]}),
        "illegal_argument_exception",
        "search_after has 2 value(s) but sort has 1.",
    );
    let many = json!({"size": 0, "aggs": {"h": {"date_histogram": {
        "field": "@timestamp", "fixed_interval": "1ms", "extended_bounds": {"min": 0, "max": 1_700_000_000_000_i64},
    }}}});
    refused(many, "too_many_buckets_exception", "Must be less than or equal to: [65536]");
}

#[test]
fn deep_and_odd_input_does_not_panic() {
    let mut deep = json!({"match_all": {}});
    for _ in 0..100 {
        deep = json!({"bool": {"must": [deep]}});
    }
    refused(json!({"query": deep}), "illegal_argument_exception", "nested deeper");
    refused(
        json!({"query": {"query_string": {"query": "(".repeat(10_000)}}}),
        "illegal_argument_exception",
        "nested deeper",
    );
    let mut aggs = json!({});
    for _ in 0..100 {
        aggs = json!({"a": {"terms": {"field": "x"}, "aggs": aggs}});
    }
    refused(json!({"aggs": aggs}), "illegal_argument_exception", "nested deeper");
    // Random pieces of the languages, put together in all ways.
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    let mut rng = StdRng::seed_from_u64(7);
    let pieces = [
        "a",
        "message:",
        "(",
        ")",
        "\"",
        "\\",
        "AND",
        "OR",
        "NOT",
        "+",
        "-",
        "!",
        "*",
        "?",
        "~",
        "^2",
        "[",
        "]",
        "{",
        "}",
        " TO ",
        "/",
        ">",
        "<=",
        ":",
        " ",
        "é",
        "日本",
        "1",
        "now-1d/d",
        "_exists_:",
        "@timestamp:",
        "&&",
        "||",
        "\u{0}",
        "status:",
    ];
    for _ in 0..3000 {
        let text: String = (0..rng.random_range(0..12)).map(|_| pieces[rng.random_range(0..pieces.len())]).collect();
        for kind in ["query_string", "simple_query_string"] {
            let got = logs().ask(
                "",
                json!({"query": {kind: {"query": text}}, "highlight": {"fields": {"*": {}}, "fragment_size": 18}}),
            );
            assert!(got["hits"].is_object() || got["status"] == 400, "{text}: {got}");
        }
        for body in [
            json!({"query": {"range": {"@timestamp": {"gte": text, "format": text}}}}),
            json!({"query": {"regexp": {"message": text}}}),
            json!({"query": {"wildcard": {"message": {"value": text, "case_insensitive": true}}}}),
            json!({"aggs": {"h": {"date_histogram": {"field": "@timestamp", "fixed_interval": text, "time_zone": text, "offset": text, "format": text}}}}),
            json!({"sort": [{text.clone(): {"missing": text, "format": text}}], "_source": text}),
        ] {
            let got = logs().ask("", body.clone());
            assert!(got["hits"].is_object() || got["status"].as_u64().is_some_and(|s| s < 500), "{body}: {got}");
        }
    }
}
