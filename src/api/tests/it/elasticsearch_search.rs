//! The query side of Elasticsearch's API through the router: what Grafana's data source sends and reads, and what scripts
//! use.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::memory_events::{Answered, NOW_MS, NOW_NS, SECOND_NS, Server};

fn filled() -> Server {
    let server = Server::new();
    let shop = [("service.name", "shop"), ("env", "prod")];
    server.events.line(
        &shop,
        NOW_NS - 30 * SECOND_NS,
        "Connection refused by peer",
        &[("status", "500"), ("ms", "12")],
    );
    server.events.line(&shop, NOW_NS - 20 * SECOND_NS, "GET /users took a while", &[("status", "200"), ("ms", "30")]);
    server.events.line(
        &[("service.name", "cart")],
        NOW_NS - 10 * SECOND_NS,
        "payment refused",
        &[("status", "402"), ("ms", "6")],
    );
    server.events.line(&[("_index", "app-1"), ("job", "x")], NOW_NS - 5 * SECOND_NS, "from another index", &[]);
    server
}

async fn ask(server: &Server, method: Method, uri: &str, body: impl Into<Body>) -> Answered {
    let request = Request::builder()
        .method(method)
        .uri(format!("/elasticsearch{uri}"))
        .header("content-type", "application/json");
    let answer = server.send(request.body(body.into()).unwrap()).await;
    if uri.split('?').next().is_some_and(|path| !path.starts_with("/_cat")) {
        assert_eq!(answer.headers["content-type"], "application/json", "{uri}");
    }
    answer
}

async fn post(server: &Server, uri: &str, body: Value) -> Value {
    let answer = ask(server, Method::POST, uri, body.to_string()).await;
    assert_eq!(answer.status, 200, "{uri}: {}", answer.text());
    answer.json()
}

/// The time range that Grafana puts on every query.
fn range() -> Value {
    json!({"range": {"@timestamp": {"format": "epoch_millis", "gte": NOW_MS - 60_000, "lte": NOW_MS}}})
}

fn filters(lucene: &str) -> Value {
    let text = json!({"query_string": {"analyze_wildcard": true, "query": lucene}});
    let filter = if lucene.is_empty() { vec![range()] } else { vec![range(), text] };
    json!({"bool": {"filter": filter}})
}

/// Sends searches as Grafana does, and gives what it reads of each.
async fn grafana(server: &Server, searches: &[Value]) -> Vec<Value> {
    let header = r#"{"ignore_unavailable":true,"index":"logs-*,app-*","search_type":"query_then_fetch"}"#;
    let body: String = searches.iter().map(|s| format!("{header}\n{s}\n")).collect();
    let request = Request::builder()
        .method(Method::POST)
        .uri("/elasticsearch/_msearch?max_concurrent_shard_requests=5")
        .header("content-type", "application/x-ndjson");
    let answer = server.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let all = answer.json();
    assert!(all["took"].is_u64(), "{all}");
    all["responses"].as_array().unwrap().clone()
}

#[tokio::test]
async fn grafana_looks_whether_the_data_source_is_well() {
    let server = filled();
    let mapping = ask(&server, Method::GET, "/logs-*/_mapping", "").await.json();
    assert_eq!(mapping["logs"]["mappings"]["properties"]["@timestamp"]["type"], "date", "{mapping}");
    assert_eq!(mapping["logs"]["mappings"]["properties"]["service"]["properties"]["name"]["type"], "keyword");
    let caps = ask(&server, Method::GET, "/logs-*/_field_caps?fields=*", "").await.json();
    assert_eq!(caps["fields"]["@timestamp"]["date"]["type"], "date", "{caps}");
    assert_eq!(
        caps["fields"]["message"]["text"],
        json!({"type": "text", "metadata_field": false, "searchable": true, "aggregatable": false})
    );
    assert_eq!(caps["fields"]["service.name"]["keyword"]["aggregatable"], json!(true));
    assert_eq!(caps["indices"], json!(["logs"]));
    let field = ask(&server, Method::GET, "/logs/_mapping/field/service.*", "").await.json();
    assert_eq!(field["logs"]["mappings"]["service.name"]["mapping"], json!({"name": {"type": "keyword"}}), "{field}");
}

#[tokio::test]
async fn grafana_shows_logs_with_their_volume() {
    let server = filled();
    let logs = json!({
        "docvalue_fields": ["@timestamp"],
        "fields": [{"field": "@timestamp", "format": "strict_date_optional_time_nanos"}],
        "highlight": {"fields": {"*": {}}, "fragment_size": 2147483647, "post_tags": ["@/HIGHLIGHT@"], "pre_tags": ["@HIGHLIGHT@"]},
        "query": filters("refused"),
        "script_fields": {},
        "size": 500,
        "sort": [{"@timestamp": {"order": "desc", "unmapped_type": "boolean"}}, {"_doc": {"order": "desc"}}],
    });
    let volume = json!({
        "aggs": {"1": {
            "aggs": {"2": {"terms": {"field": "log.level", "size": 100, "missing": "unknown"}}},
            "date_histogram": {
                "extended_bounds": {"max": NOW_MS, "min": NOW_MS - 60_000}, "field": "@timestamp", "fixed_interval": "10000ms",
                "format": "epoch_millis", "min_doc_count": 0,
            },
        }},
        "query": filters("refused"), "size": 0,
    });
    let got = grafana(&server, &[logs.clone(), volume]).await;
    let hits = got[0]["hits"]["hits"].as_array().unwrap();
    assert_eq!(
        (hits.len(), &got[0]["hits"]["total"]["value"], &got[0]["status"]),
        (2, &json!(2), &json!(200)),
        "{}",
        got[0]
    );
    assert_eq!(hits[0]["highlight"], json!({"message": ["payment @HIGHLIGHT@refused@/HIGHLIGHT@"]}));
    assert_eq!(hits[0]["fields"]["@timestamp"][0], "2023-11-14T22:13:10.000Z");
    assert_eq!(hits[0]["_source"]["service.name"], "cart");
    assert!(hits[0]["_id"].is_string() && hits[0]["_index"] == "logs");
    // Context around a line: `search_after` with the hit's sort.
    let mut next = logs;
    next["search_after"] = hits[0]["sort"].clone();
    let page = grafana(&server, &[next]).await;
    assert_eq!(page[0]["hits"]["hits"][0]["_id"], hits[1]["_id"]);
    assert_eq!(page[0]["hits"]["hits"].as_array().unwrap().len(), 1);
    let buckets = got[1]["aggregations"]["1"]["buckets"].as_array().unwrap();
    let counts: Vec<u64> = buckets.iter().map(|b| b["doc_count"].as_u64().unwrap()).collect();
    assert_eq!(counts, [0, 0, 0, 1, 0, 1, 0], "{}", got[1]);
    assert_eq!(buckets[0]["key"], json!(NOW_MS - 60_000));
    assert_eq!(buckets[3]["2"]["buckets"], json!([{"key": "unknown", "doc_count": 1}]));
}

#[tokio::test]
async fn grafana_draws_metrics() {
    let server = filled();
    let over_time = |aggs: Value| {
        json!({"aggs": {"2": {"aggs": aggs, "date_histogram": {
            "extended_bounds": {"max": NOW_MS, "min": NOW_MS - 60_000}, "field": "@timestamp", "fixed_interval": "3600000ms",
            "format": "epoch_millis", "min_doc_count": 0,
        }}}, "query": filters(""), "size": 0})
    };
    let metrics = over_time(json!({
        "1": {"avg": {"field": "ms"}}, "3": {"sum": {"field": "ms"}}, "4": {"percentiles": {"field": "ms", "percents": ["25", "50"]}},
        "5": {"extended_stats": {"field": "ms"}}, "6": {"cardinality": {"field": "service.name"}},
        "7": {"derivative": {"buckets_path": "3"}}, "8": {"bucket_script": {"buckets_path": {"a": "3", "b": "_count"}, "script": "params.a / params.b"}},
        "9": {"top_metrics": {"metrics": [{"field": "ms"}], "size": "1", "sort": [{"@timestamp": "desc"}]}},
        "10": {"moving_fn": {"buckets_path": "3", "window": "3", "script": "MovingFunctions.unweightedAvg(values)"}},
        "11": {"rate": {"field": "ms", "unit": "minute"}}, "12": {"cumulative_sum": {"buckets_path": "_count"}},
    }));
    let terms = json!({"aggs": {"3": {
        "aggs": {"1": {"max": {"field": "ms"}}, "2": {"date_histogram": {"field": "@timestamp", "fixed_interval": "3600000ms", "min_doc_count": 1, "format": "epoch_millis"}}},
        "terms": {"field": "service.name", "order": {"1": "desc"}, "size": 10, "min_doc_count": 1},
    }}, "query": filters(""), "size": 0});
    let named = json!({"aggs": {"3": {"filters": {"filters": {
        "bad": {"query_string": {"analyze_wildcard": true, "query": "status:>=400"}}, "*": {"query_string": {"analyze_wildcard": true, "query": "*"}},
    }}}, "4": {"histogram": {"field": "ms", "interval": 10, "min_doc_count": 0}}, "5": {"nested": {"path": "x"}, "aggs": {"6": {"terms": {"field": "env"}}}}},
        "query": filters(""), "size": 0});
    // A variable: values of a field; an annotation; a query that cannot be.
    let variable = json!({"aggs": {"1": {"terms": {"field": "service.name", "order": {"_key": "asc"}, "size": 500}}}, "query": filters("*"), "size": 0});
    let annotation = json!({"query": filters("env:prod"), "size": 10000});
    let bad = json!({"query": filters("status:("), "size": 0});
    let geo =
        json!({"aggs": {"2": {"geohash_grid": {"field": "where", "precision": 3}}}, "query": filters(""), "size": 0});
    let got = grafana(&server, &[metrics, terms, named, variable, annotation, bad, geo]).await;
    let bucket = &got[0]["aggregations"]["2"]["buckets"][0];
    assert_eq!(bucket["doc_count"], 4, "{}", got[0]);
    assert_eq!((&bucket["1"]["value"], &bucket["3"]["value"]), (&json!(16.0), &json!(48.0)));
    assert_eq!(bucket["4"]["values"]["50.0"], json!(12.0));
    assert_eq!(bucket["5"]["std_deviation_bounds"]["upper"].as_f64().map(f64::round), Some(36.0));
    assert_eq!((&bucket["6"]["value"], &bucket["8"]["value"]), (&json!(2), &json!(12.0)));
    assert_eq!(bucket["9"]["top"][0]["metrics"], json!({"ms": null}));
    assert_eq!((&bucket["11"]["value"], &bucket["12"]["value"]), (&json!(0.8), &json!(4.0)));
    assert_eq!(got[0]["aggregations"]["2"]["buckets"][0]["7"]["value"], json!(null));
    let by_service = got[1]["aggregations"]["3"]["buckets"].as_array().unwrap();
    assert_eq!((&by_service[0]["key"], &by_service[0]["1"]["value"]), (&json!("shop"), &json!(30.0)), "{}", got[1]);
    assert_eq!(by_service[0]["2"]["buckets"][0]["doc_count"], 2);
    assert_eq!(
        got[2]["aggregations"]["3"]["buckets"],
        json!({"bad": {"doc_count": 2}, "*": {"doc_count": 4}}),
        "{}",
        got[2]
    );
    assert_eq!(got[2]["aggregations"]["4"]["buckets"][1], json!({"key": 10.0, "doc_count": 1}));
    assert_eq!(got[2]["aggregations"]["5"]["6"]["buckets"][0]["key"], "prod");
    let names: Vec<&str> =
        got[3]["aggregations"]["1"]["buckets"].as_array().unwrap().iter().map(|b| b["key"].as_str().unwrap()).collect();
    assert_eq!(names, ["cart", "shop"]);
    assert_eq!(got[4]["hits"]["hits"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&got[5]["status"], &got[5]["error"]["root_cause"][0]["reason"]),
        (&json!(400), &json!("Failed to parse query [status:(]"))
    );
    assert!(got[6]["error"]["reason"].as_str().unwrap().contains("geohash_grid"), "{}", got[6]);
}

#[tokio::test]
async fn scripts_search_count_and_page() {
    let server = filled();
    let search =
        post(&server, "/_search", json!({"query": {"match": {"message": "refused"}}, "sort": [{"@timestamp": "asc"}]}))
            .await;
    assert_eq!(search["hits"]["total"], json!({"value": 2, "relation": "eq"}));
    assert_eq!(search["_shards"], json!({"total": 1, "successful": 1, "skipped": 0, "failed": 0}));
    let by_url = ask(
        &server,
        Method::GET,
        "/logs/_search?q=service.name:shop&size=1&sort=@timestamp:asc&_source=message&rest_total_hits_as_int=true",
        "",
    )
    .await
    .json();
    assert_eq!(
        (&by_url["hits"]["total"], &by_url["hits"]["hits"][0]["_source"]),
        (&json!(2), &json!({"message": "Connection refused by peer"}))
    );
    let count = post(&server, "/logs/_count", json!({"query": {"term": {"service.name": "shop"}}})).await;
    assert_eq!(count["count"], 2);
    let id = search["hits"]["hits"][0]["_id"].as_str().unwrap();
    let doc = ask(&server, Method::GET, &format!("/logs/_doc/{id}"), "").await.json();
    assert_eq!((&doc["found"], &doc["_source"]["message"]), (&json!(true), &json!("Connection refused by peer")));
    let absent = ask(&server, Method::GET, "/logs/_doc/nothing", "").await;
    assert_eq!((absent.status.as_u16(), absent.json()["found"].clone()), (404, json!(false)));

    // A scroll: each once, in order, to the end.
    let mut page = post(&server, "/_search?scroll=1m", json!({"size": 3, "sort": ["_doc"]})).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let hits = page["hits"]["hits"].as_array().unwrap().clone();
        if hits.is_empty() {
            break;
        }
        seen.extend(hits.iter().map(|h| h["_source"]["message"].as_str().unwrap().to_owned()));
        page = post(&server, "/_search/scroll", json!({"scroll": "1m", "scroll_id": page["_scroll_id"]})).await;
    }
    assert_eq!(
        seen,
        ["Connection refused by peer", "GET /users took a while", "payment refused", "from another index"]
    );
    let closed =
        ask(&server, Method::DELETE, "/_search/scroll", json!({"scroll_id": [page["_scroll_id"]]}).to_string()).await;
    assert_eq!(closed.json(), json!({"succeeded": true, "num_freed": 1}));

    // A point in time with `search_after`.
    let pit = ask(&server, Method::POST, "/logs-*/_pit?keep_alive=1m", "").await.json();
    let mut after = Value::Null;
    let mut seen = 0;
    for _ in 0..4 {
        let page = post(&server, "/_search", json!({
            "size": 2, "pit": {"id": pit["id"], "keep_alive": "1m"}, "sort": [{"service.name": "asc"}], "search_after": after,
        })).await;
        assert_eq!(page["pit_id"], pit["id"]);
        let hits = page["hits"]["hits"].as_array().unwrap();
        seen += hits.len();
        let Some(last) = hits.last() else { break };
        assert_eq!(last["sort"].as_array().unwrap().len(), 2);
        after = last["sort"].clone();
    }
    assert_eq!(seen, 3);
    let closed = ask(&server, Method::DELETE, "/_pit", json!({"id": pit["id"]}).to_string()).await.json();
    assert_eq!(closed["succeeded"], true);

    let cat = ask(&server, Method::GET, "/_cat/indices?v&h=index,docs.count", "").await.text();
    assert_eq!(cat, "index docs.count\napp-1 1\nlogs  3\n");
    let cat = ask(&server, Method::GET, "/_cat/indices/app-*?format=json", "").await.json();
    assert_eq!(
        (&cat[0]["index"], &cat[0]["docs.count"], &cat[0]["health"]),
        (&json!("app-1"), &json!("1"), &json!("green"))
    );
}

#[tokio::test]
async fn refusals_have_elasticsearchs_shape() {
    let server = filled();
    for (method, uri, body, status, kind) in [
        (Method::POST, "/_search", "{", 400, "parsing_exception"),
        (Method::POST, "/_search", r#"{"query":{"foo":{}}}"#, 400, "parsing_exception"),
        (Method::POST, "/nothing/_search", "{}", 404, "index_not_found_exception"),
        (Method::POST, "/_count", r#"{"size":1}"#, 400, "parsing_exception"),
        (Method::POST, "/_search/scroll", r#"{"scroll_id":"x"}"#, 404, "search_context_missing_exception"),
        (Method::POST, "/_search", r#"{"pit":{"id":"x"}}"#, 404, "search_context_missing_exception"),
        (Method::POST, "/logs/_pit", "", 400, "action_request_validation_exception"),
        (Method::POST, "/_msearch", "{}\n", 400, "action_request_validation_exception"),
        (Method::POST, "/_msearch", "", 400, "action_request_validation_exception"),
        (Method::GET, "/_bogus/_search", "", 400, "invalid_index_name_exception"),
    ] {
        let answer = ask(&server, method, uri, body).await;
        let got = answer.json();
        assert_eq!(
            (answer.status.as_u16(), &got["status"], &got["error"]["root_cause"][0]["type"]),
            (status, &json!(status), &json!(kind)),
            "{uri} {body}: {got}"
        );
        assert_eq!(answer.headers["x-elastic-product"], "Elasticsearch");
    }
    let lenient = post(&server, "/nothing/_search?ignore_unavailable=true", json!({})).await;
    assert_eq!(lenient["hits"]["total"]["value"], 0);
}

#[tokio::test]
async fn documents_come_by_their_ids_and_bodies_may_be_compressed() {
    let server = filled();
    let found = post(&server, "/logs/_search", json!({"query": {"match": {"message": "refused"}}})).await;
    let ids: Vec<&str> = found["hits"]["hits"].as_array().unwrap().iter().map(|h| h["_id"].as_str().unwrap()).collect();
    let got = post(&server, "/logs/_mget", json!({"ids": [ids[0], "none", ids[1]]})).await;
    let docs = got["docs"].as_array().unwrap();
    let is_found: Vec<bool> = docs.iter().map(|d| d["found"].as_bool().unwrap()).collect();
    assert_eq!(is_found, [true, false, true], "{got}");
    assert_eq!((&docs[0]["_source"]["message"], &docs[0]["_id"]), (&json!("payment refused"), &json!(ids[0])));
    assert_eq!(docs[1], json!({"_index": "logs", "_id": "none", "found": false}));
    let one = json!({"docs": [{"_index": "logs", "_id": ids[0], "_source": ["status"]}]});
    let got = post(&server, "/_mget", one.clone()).await;
    assert_eq!(got["docs"][0]["_source"], json!({"status": "402"}), "{got}");
    let refused = ask(&server, Method::POST, "/_mget", json!({"ids": ["1"]}).to_string()).await;
    assert_eq!((refused.status.as_u16(), refused.json()["status"].as_u64()), (400, Some(400)), "{}", refused.text());

    let zipped = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let search = json!({"query": {"match_all": {}}, "size": 0, "track_total_hits": true}).to_string();
    let searches = format!("{{}}\n{search}\n");
    let total = |answer: &Value| answer["hits"]["total"]["value"].clone();
    for (uri, body) in [("/_search", &search), ("/_msearch", &searches), ("/_mget", &one.to_string())] {
        let send = |body: Vec<u8>, encoding: &'static str| {
            let request = Request::builder()
                .method(Method::POST)
                .uri(format!("/elasticsearch{uri}"))
                .header("content-type", "application/json")
                .header("content-encoding", encoding);
            server.send(request.body(Body::from(body)).unwrap())
        };
        let answer = send(zipped(body), "gzip").await;
        assert_eq!(answer.status, 200, "{uri}: {}", answer.text());
        match uri {
            "/_search" => assert_eq!(total(&answer.json()), json!(4)),
            "/_msearch" => assert_eq!(total(&answer.json()["responses"][0]), json!(4)),
            _ => assert_eq!(answer.json()["docs"][0]["found"], json!(true)),
        }
        assert_eq!(send(body.clone().into_bytes(), "gzip").await.status, 400, "{uri}");
        assert_eq!(send(zipped(body), "br").await.status, 415, "{uri}");
    }
}
