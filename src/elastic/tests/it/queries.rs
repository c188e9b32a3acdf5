//! Queries, sorts and hits over a handful of records.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use serde_json::{Value, json};
use trefoil_model::{AttributeValue, TraceId};

use crate::memory::{MemoryLogs, NOW_MS, record};

const SECOND_NS: i64 = 1_000_000_000;

fn text(value: &str) -> AttributeValue {
    AttributeValue::String(value.to_owned())
}

/// Six records, a second apart, the last at `NOW_MS`.
pub(crate) fn logs() -> MemoryLogs {
    let mut logs = MemoryLogs::default();
    let at = |n: i64| NOW_MS * 1_000_000 - (6 - n) * SECOND_NS;
    let shop = [("service.name", "shop"), ("env", "prod")];
    let cart = [("service.name", "cart"), ("env", "dev")];
    let mut one = record(
        at(1),
        "Connection refused by 10.0.0.1:8080",
        &[("status", AttributeValue::Int(500)), ("user", text("Ann"))],
    );
    one.trace_id = TraceId::from_hex("4bf92f3577b34da6a3ce929d0e0e4736");
    one.severity_text = "ERROR".into();
    logs.push(&shop, one);
    let ms = AttributeValue::Double(12.5);
    logs.push(
        &shop,
        record(
            at(2),
            "GET /api/v1/users took 12ms",
            &[("status", AttributeValue::Int(200)), ("ms", ms), ("path", text("/api/v1/users"))],
        ),
    );
    let tags = AttributeValue::Array(vec![text("a"), text("b")]);
    logs.push(
        &cart,
        record(at(3), "payment timeout", &[("status", text("504")), ("tags", tags), ("user", text("Bob"))]),
    );
    let http = AttributeValue::Map(vec![("method".into(), text("GET")), ("retries".into(), AttributeValue::Int(3))]);
    logs.push(&cart, record(at(4), "connection timeout again", &[("http", http), ("ok", AttributeValue::Bool(false))]));
    logs.push(&[("_index", "app-1"), ("job", "x")], record(at(5), "other index says hello", &[]));
    logs.push(&[("service_name", "loki")], record(at(6), "plain line", &[("detected_level", text("info"))]));
    logs
}

/// Numbers (1 is the oldest) of the hits in order.
pub(crate) fn numbers(answer: &Value) -> Vec<i64> {
    let hits = answer["hits"]["hits"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let number = |hit: &Value| {
        let id = hit["_id"].as_str().unwrap();
        let ns = (u64::from_str_radix(&id[..16], 16).unwrap() ^ (1 << 63)) as i64;
        6 - (NOW_MS * 1_000_000 - ns) / SECOND_NS
    };
    hits.iter().map(number).collect()
}

#[track_caller]
fn check(query: Value, want: &[i64]) {
    let answer = logs().ask("", json!({ "query": query, "sort": [{"@timestamp": "asc"}] }));
    assert_eq!(numbers(&answer), want, "{query}");
    assert_eq!(answer["hits"]["total"], json!({ "value": want.len(), "relation": "eq" }), "{query}");
}

#[track_caller]
fn check_string(query: &str, want: &[i64]) {
    check(json!({ "query_string": { "query": query, "analyze_wildcard": true } }), want);
}

#[test]
fn query_strings() {
    check_string("*", &[1, 2, 3, 4, 5, 6]);
    check_string("*:*", &[1, 2, 3, 4, 5, 6]);
    check_string("connection", &[1, 4]);
    check_string("CONNECTION AND NOT refused", &[4]);
    check_string("message:(refused OR timeout)", &[1, 3, 4]);
    check_string("+timeout -payment", &[4]);
    check_string("message:\"connection refused\"", &[1]);
    check_string("\"connection again\"~1", &[4]);
    check_string("service.name:shop", &[1, 2]);
    check_string("service.name.keyword:shop", &[1, 2]);
    check_string("service.name:SHOP", &[]);
    check_string("shop", &[1, 2]);
    check_string("service.name:c*t", &[3, 4]);
    check_string("time*", &[3, 4]);
    check_string("message:TIME*t", &[3, 4]);
    check_string("status:500", &[1]);
    check_string("status:>=500", &[1, 3]);
    check_string("status:[200 TO 500}", &[2]);
    check_string("ms:<12.6", &[2]);
    check_string("_exists_:status", &[1, 2, 3]);
    check_string("NOT _exists_:status", &[4, 5, 6]);
    check_string("http.method:GET AND http.retries:3", &[4]);
    check_string("tags:b", &[3]);
    check_string("ok:false", &[4]);
    check_string("path:\\/api\\/v1\\/users", &[2]);
    check_string("path:\"/api/v1/users\"", &[2]);
    check_string("path:/.*users/", &[2]);
    check_string("message:/time.ut/", &[3, 4]);
    check_string("refusd~", &[1]);
    check_string("10.0.0.1", &[1]);
    check_string("trace.id:4bf92f3577b34da6a3ce929d0e0e4736", &[1]);
    check_string("log.level:ERROR OR log.level:info", &[1, 6]);
    check_string("_index:app-1", &[5]);
    check_string("user:(Ann OR Bob)^2", &[1, 3]);
    check_string("@timestamp:[\"2023-11-14T22:13:18Z\" TO *]", &[4, 5, 6]);
    check_string("timeout AND (payment OR again)", &[3, 4]);
    check_string("payment || again && connection", &[4]);
    check_string("payment timeout", &[3, 4]);
    check_string("serv*:shop", &[1, 2]);
    check(
        json!({"query_string": {"query": "payment timeout", "default_operator": "AND", "default_field": "message"}}),
        &[3],
    );
    check(json!({"query_string": {"query": "", "default_field": "message"}}), &[]);
    for bad in ["foo:(", "[1 TO", "\"open", "AND x", "a AND", ")", "/x", "a:[1 2]", "a^x"] {
        let answer = logs().ask("", json!({"query": {"query_string": {"query": bad}}}));
        assert_eq!(answer["status"], 400, "{bad}: {answer}");
        assert_eq!(
            answer["error"]["root_cause"][0]["reason"],
            json!(format!("Failed to parse query [{bad}]")),
            "{answer}"
        );
    }
}

#[test]
fn simple_query_strings() {
    let simple = |query: &str, want: &[i64]| {
        check(json!({"simple_query_string": {"query": query, "fields": ["message"], "default_operator": "and"}}), want);
    };
    simple("timeout -payment", &[4]);
    simple("payment | refused", &[1, 3]);
    simple("\"connection refused\" | hel*", &[1, 5]);
    simple("(payment | again) + timeout", &[3, 4]);
    simple("refusd~1", &[1]);
    simple("((\"", &[]);
}

#[test]
fn the_query_dsl() {
    check(json!({"match_all": {}}), &[1, 2, 3, 4, 5, 6]);
    check(json!({"match_none": {}}), &[]);
    check(json!({"term": {"service.name": "shop"}}), &[1, 2]);
    check(json!({"term": {"service.name.keyword": {"value": "SHOP", "case_insensitive": true}}}), &[1, 2]);
    check(json!({"term": {"message": "timeout"}}), &[3, 4]);
    check(json!({"term": {"message": "Timeout"}}), &[]);
    check(json!({"term": {"message.keyword": "payment timeout"}}), &[3]);
    check(json!({"term": {"status": 200}}), &[2]);
    check(json!({"terms": {"status": [500, "504"]}}), &[1, 3]);
    check(json!({"terms": {"service.name": ["cart", "none"]}}), &[3, 4]);
    check(json!({"match": {"message": "refused timeout"}}), &[1, 3, 4]);
    check(json!({"match": {"message": {"query": "connection timeout", "operator": "and"}}}), &[4]);
    check(json!({"match": {"message": {"query": "conection", "fuzziness": "AUTO"}}}), &[1, 4]);
    check(json!({"match": {"message": {"query": "a connection timeout", "minimum_should_match": 2}}}), &[4]);
    check(json!({"match_phrase": {"message": "connection timeout"}}), &[4]);
    check(json!({"match_phrase": {"service.name": "shop"}}), &[1, 2]);
    check(json!({"match_phrase_prefix": {"message": "connection ref"}}), &[1]);
    check(json!({"match_bool_prefix": {"message": "hello pay"}}), &[3, 5]);
    check(json!({"multi_match": {"query": "shop", "fields": ["message", "service.*"]}}), &[1, 2]);
    check(json!({"multi_match": {"query": "connection timeout", "fields": ["message"], "type": "phrase"}}), &[4]);
    check(json!({"range": {"status": {"gt": 200, "lte": "504"}}}), &[1, 3]);
    check(json!({"range": {"user": {"gte": "B"}}}), &[3]);
    check(json!({"range": {"@timestamp": {"gte": "now-2s", "lt": "now"}}}), &[4, 5]);
    check(json!({"range": {"@timestamp": {"gte": NOW_MS - 1000, "lte": NOW_MS, "format": "epoch_millis"}}}), &[5, 6]);
    check(json!({"range": {"@timestamp": {"gt": "2023-11-14 22:13:18", "format": "yyyy-MM-dd HH:mm:ss"}}}), &[5, 6]);
    check(json!({"range": {"@timestamp": {"gte": "2023-11-14T23:13:20", "time_zone": "+01:00"}}}), &[6]);
    check(json!({"exists": {"field": "http.method"}}), &[4]);
    check(json!({"prefix": {"service.name": "sh"}}), &[1, 2]);
    check(json!({"prefix": {"user": {"value": "an", "case_insensitive": true}}}), &[1]);
    check(json!({"wildcard": {"path": {"value": "/api/*/users"}}}), &[2]);
    check(json!({"wildcard": {"message": "*nnect*"}}), &[1, 4]);
    check(json!({"wildcard": {"user": {"wildcard": "a?N", "case_insensitive": true}}}), &[1]);
    check(json!({"regexp": {"service.name": "sh.p|ca.*"}}), &[1, 2, 3, 4]);
    check(json!({"fuzzy": {"service.name": "shpo"}}), &[1, 2]);
    check(json!({"constant_score": {"filter": {"term": {"env": "dev"}}}}), &[3, 4]);
    check(json!({"nested": {"path": "http", "query": {"term": {"http.method": "GET"}}}}), &[4]);
    check(json!({"dis_max": {"queries": [{"term": {"env": "dev"}}, {"term": {"status": 500}}]}}), &[1, 3, 4]);
    check(json!({"function_score": {"query": {"term": {"env": "dev"}}, "functions": []}}), &[3, 4]);
    check(json!({"bool": {"filter": {"term": {"env": "dev"}}, "must_not": [{"match": {"message": "again"}}]}}), &[3]);
    check(
        json!({"bool": {"should": [{"term": {"env": "dev"}}, {"match": {"message": "connection"}}], "minimum_should_match": 2}}),
        &[4],
    );
    check(
        json!({"bool": {"must": [{"term": {"env": "dev"}}], "should": [{"match": {"message": "nothing"}}]}}),
        &[3, 4],
    );
    check(json!({"bool": {}}), &[1, 2, 3, 4, 5, 6]);
    let all = logs().ask("", json!({}));
    let id = all["hits"]["hits"][2]["_id"].as_str().unwrap();
    check(json!({"ids": {"values": [id, "x"]}}), &[4]);
    check(json!({"term": {"_id": id}}), &[4]);
}

#[test]
fn indices_are_patterns() {
    let of = |index: &str| numbers(&logs().ask(index, json!({"sort": "@timestamp"})));
    assert_eq!(of("logs"), [1, 2, 3, 4, 6]);
    assert_eq!(of("logs-*"), [1, 2, 3, 4, 6]);
    assert_eq!(of("app-1"), [5]);
    assert_eq!(of("app-*,logs"), [1, 2, 3, 4, 5, 6]);
    assert_eq!(of("*,-logs"), [5]);
    assert_eq!(of("_all"), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn sorts_and_pages() {
    let logs = logs();
    let ask = |body: Value| logs.ask("", body);
    assert_eq!(numbers(&ask(json!({}))), [6, 5, 4, 3, 2, 1]);
    assert_eq!(
        numbers(&ask(json!({"from": 1, "size": 2, "sort": [{"@timestamp": {"order": "desc"}}, {"_doc": "desc"}]}))),
        [5, 4]
    );
    let by_status = ask(json!({"sort": [{"status": {"order": "desc", "missing": "_first"}}, {"@timestamp": "asc"}]}));
    assert_eq!(numbers(&by_status), [4, 5, 6, 3, 1, 2]);
    let by_user = ask(json!({"sort": [{"user": "asc"}, "@timestamp:desc"]}));
    assert_eq!(numbers(&by_user), [1, 3, 6, 5, 4, 2]);
    assert_eq!(by_user["hits"]["hits"][0]["sort"], json!(["Ann", NOW_MS - 5000]));
    assert_eq!(by_user["hits"]["hits"][2]["sort"], json!([null, NOW_MS]));
    // Page by page, in both directions, to the end.
    for (sort, want) in [
        (json!([{"@timestamp": "desc"}, {"_doc": "desc"}]), vec![6, 5, 4, 3, 2, 1]),
        (json!([{"@timestamp": "asc"}]), vec![1, 2, 3, 4, 5, 6]),
        (json!([{"user": "asc"}, {"_doc": "asc"}]), vec![1, 3, 2, 4, 5, 6]),
        (
            json!([{"@timestamp": {"order": "desc", "format": "strict_date_optional_time_nanos", "numeric_type": "date_nanos"}}]),
            vec![6, 5, 4, 3, 2, 1],
        ),
    ] {
        let (mut after, mut got) = (None, Vec::new());
        for _ in 0..4 {
            let mut body = json!({"size": 2, "sort": sort});
            if let Some(after) = after {
                body["search_after"] = after;
            }
            let page = ask(body);
            assert_eq!(page["hits"]["total"]["value"], 6, "{page}");
            got.extend(numbers(&page));
            let Some(last) = page["hits"]["hits"].as_array().unwrap().last() else { break };
            after = Some(last["sort"].clone());
        }
        assert_eq!(got, want, "{sort}");
    }
    let few = ask(json!({"track_total_hits": 2, "size": 1}));
    assert_eq!(few["hits"]["total"], json!({"value": 2, "relation": "gte"}));
    assert_eq!(ask(json!({"track_total_hits": false}))["hits"].get("total"), None);
    let collapsed = ask(json!({"collapse": {"field": "service.name"}, "query": {"exists": {"field": "service.name"}}}));
    assert_eq!(numbers(&collapsed), [4, 2]);
    assert_eq!(collapsed["hits"]["hits"][0]["fields"], json!({"service.name": ["cart"]}));
    assert_eq!(numbers(&ask(json!({"post_filter": {"term": {"env": "dev"}}}))), [4, 3]);
}

#[test]
fn records_at_one_time_have_an_order() {
    let mut logs = MemoryLogs::default();
    for n in 0..20 {
        let stream = if n % 3 == 0 { "a" } else { "b" };
        logs.push(&[("s", stream)], record(NOW_MS * 1_000_000, &format!("line {n}"), &[]));
    }
    let mut got = Vec::new();
    let mut after = json!(null);
    for _ in 0..11 {
        let page =
            logs.ask("", json!({"size": 2, "sort": [{"@timestamp": "desc"}, {"_doc": "desc"}], "search_after": after}));
        for hit in page["hits"]["hits"].as_array().unwrap() {
            got.push(hit["_source"]["message"].as_str().unwrap().to_owned());
            after = hit["sort"].clone();
        }
    }
    let want: Vec<String> = (0..20).rev().map(|n| format!("line {n}")).collect();
    assert_eq!(got, want);
}

#[test]
fn hits_show_what_is_asked() {
    let logs = logs();
    let first = |body: Value| logs.ask("", body)["hits"]["hits"][0].clone();
    let of =
        |n: i64| json!({"range": {"@timestamp": {"gte": NOW_MS - (6 - n) * 1000, "lte": NOW_MS - (6 - n) * 1000}}});
    let hit = first(json!({"query": of(1)}));
    assert_eq!(
        hit["_source"],
        json!({
            "@timestamp": "2023-11-14T22:13:15.000Z", "message": "Connection refused by 10.0.0.1:8080", "log.level": "ERROR",
            "trace.id": "4bf92f3577b34da6a3ce929d0e0e4736", "env": "prod", "service.name": "shop", "status": 500, "user": "Ann",
        })
    );
    assert_eq!((&hit["_index"], &hit["_score"]), (&json!("logs"), &json!(1.0)));
    assert_eq!(first(json!({"query": of(5)}))["_index"], "app-1");
    let mapped = first(json!({"query": of(4), "_source": ["http"]}));
    assert_eq!(mapped["_source"], json!({"http.method": "GET", "http.retries": 3}));
    let cut = first(json!({"query": of(3), "_source": {"includes": ["*"], "excludes": ["message", "@*"]}}));
    assert_eq!(
        cut["_source"],
        json!({"env": "dev", "service.name": "cart", "status": "504", "tags": ["a", "b"], "user": "Bob"})
    );
    assert_eq!(first(json!({"_source": false})).get("_source"), None);
    let fields = first(json!({
        "query": of(3), "_source": false,
        "fields": [{"field": "@timestamp", "format": "epoch_millis"}, "tags", "user.keyword"], "docvalue_fields": ["env"],
    }));
    assert_eq!(
        fields["fields"],
        json!({"@timestamp": [(NOW_MS - 3000).to_string()], "tags": ["a", "b"], "user.keyword": ["Bob"], "env": ["dev"]})
    );
    let marked = first(json!({
        "query": {"query_string": {"query": "refused AND service.name:shop"}},
        "highlight": {"fields": {"*": {}}, "pre_tags": ["@HIGHLIGHT@"], "post_tags": ["@/HIGHLIGHT@"], "fragment_size": 2147483647},
    }));
    assert_eq!(
        marked["highlight"],
        json!({
            "message": ["Connection @HIGHLIGHT@refused@/HIGHLIGHT@ by 10.0.0.1:8080"],
            "service.name": ["@HIGHLIGHT@shop@/HIGHLIGHT@"],
        })
    );
}

#[test]
fn senders_may_give_ids() {
    let mut logs = MemoryLogs::default();
    let own = "0123456789abcdef0123456789abcdef";
    logs.push(&[("_index", "app")], record(NOW_MS * 1_000_000, "mine", &[("_id", text(own))]));
    logs.push(&[("_index", "app")], record(NOW_MS * 1_000_000, "other", &[("_id", text("x1"))]));
    for id in [own, "x1"] {
        let got = logs.ask("app", json!({"query": {"ids": {"values": [id]}}}));
        assert_eq!((&got["hits"]["total"]["value"], &got["hits"]["hits"][0]["_id"]), (&json!(1), &json!(id)));
    }
}
