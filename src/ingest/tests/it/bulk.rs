//! Elasticsearch's `_bulk`.

use bytes::Bytes;
use serde_json::json;
use trefoil_ingest::bulk::{Action, Item, Outcome};
use trefoil_ingest::{FieldOptions, IngestError, IngestOptions};
use trefoil_runtime::limits::Limits;
use trefoil_runtime::memory::Accountant;

use crate::support::{NOW_MS, NOW_NS, Setup, gzip, headers, raw_deflate, setup, setup_with, shown_logs, zlib, zstd};

const TIME: &str = "2023-11-14T22:13:20Z";

async fn bulk(setup: &Setup, body: &str) -> Result<Vec<Item>, IngestError> {
    setup.ingest.bulk(&headers(&[]), Bytes::copy_from_slice(body.as_bytes()), None, FieldOptions::default()).await
}

/// Each item as `action index id status reason`.
fn shown(items: &[Item]) -> Vec<String> {
    items
        .iter()
        .map(|item| {
            let reason = match &item.outcome {
                Outcome::Failed { kind, reason, .. } => format!(" {kind}: {reason}"),
                _ => String::new(),
            };
            let id = item.id.as_deref().unwrap_or("-");
            format!("{} {} {id} {}{reason}", item.action.as_str(), item.index, item.outcome.status())
        })
        .collect()
}

#[tokio::test]
async fn documents_become_records() {
    let setup = setup();
    let body = format!(
        r#"{{"create":{{"_index":"filebeat-8"}}}}
{{"@timestamp":"{TIME}","message":"GET /x","log":{{"level":"WARN","file":{{"path":"/a"}}}},"service":{{"name":"shop"}},"host":{{"name":"h1"}},"http":{{"status":200,"ok":true}},"tags":["a","b"],"trace":{{"id":"0af7651916cd43dd8448eb211c80319c"}},"span.id":"b7ad6b7169203331"}}

{{"index":{{"_id":"7"}}}}
{{"@timestamp":{NOW_MS},"user":"bob","service":"cart"}}
{{ "index" : {{ "_index" : "logs", "_id" : 8 }} }}
{{"@timestamp":"{NOW_MS}","log":"from fluent bit\n","trace_id":"none","kubernetes":{{"pod_name":"p","labels":{{"app":"web"}}}}}}
"#
    );
    let items = bulk(&setup, &body).await.unwrap();
    assert_eq!(shown(&items), ["create filebeat-8 - 201", "index logs 7 201", "index logs 8 201"]);
    assert_eq!(
        shown_logs(&setup.stores.log_batch()),
        [
            r#"{_index="filebeat-8", host.name="h1", service.name="shop"} +0 GET /x [detected_level="warn" log.file.path="/a" http.status=200 http.ok=true tags=["a","b"]] WARN 0af7651916cd43dd8448eb211c80319c b7ad6b7169203331"#
                .to_owned(),
            format!(
                r#"{{service_name="cart"}} +0 {{"@timestamp":{NOW_MS},"user":"bob","service":"cart"}} [detected_level="unknown" user="bob" service="cart" _id="7"]"#
            ),
            "{kubernetes.pod_name=\"p\", service_name=\"web\"} +0 from fluent bit\n [detected_level=\"unknown\" trace_id=\"none\" kubernetes.labels.app=\"web\" _id=\"8\"]".to_owned(),
        ]
    );
}

#[tokio::test]
async fn one_bad_document_among_a_thousand() {
    let setup = setup();
    let mut body = String::new();
    for i in 0..1000 {
        body.push_str("{\"create\":{\"_index\":\"logs\"}}\n");
        let document = match i {
            500 => "{\"message\":".to_owned(),
            _ => json!({ "@timestamp": TIME, "message": format!("line {i}") }).to_string(),
        };
        body.push_str(&document);
        body.push('\n');
    }
    let items = bulk(&setup, &body).await.unwrap();
    assert_eq!(items.len(), 1000);
    let bad: Vec<_> = items.iter().enumerate().filter(|(_, i)| i.outcome != Outcome::Stored).collect();
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].0, 500);
    assert!(matches!(&bad[0].1.outcome, Outcome::Failed { status: 400, kind: "document_parsing_exception", .. }));
    assert_eq!(setup.stores.log_batch().record_count(), 999);
}

#[tokio::test]
async fn what_cannot_be_done_is_said_item_by_item() {
    let setup = setup();
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let long = "x".repeat(300);
    let body = format!(
        "{{\"delete\":{{\"_id\":\"1\"}}}}\n{{\"update\":{{\"_id\":\"1\"}}}}\n{{\"doc\":{{}}}}\n{{\"index\":{{}}}}\n{deep}\n\
         {{\"index\":{{\"_index\":\"a*\"}}}}\n{{}}\n{{\"index\":{{\"_index\":\"{long}\"}}}}\n{{}}\n\
         {{\"index\":{{}}}}\n{{\"@timestamp\":\"yesterday\"}}\n{{\"index\":{{}}}}\n{{\"@timestamp\":\"2200-01-01\"}}\n\
         {{\"index\":{{}}}}\n[1]\n{{\"index\":{{}}}}\n{{\"message\":\"good\"}}"
    );
    let items = bulk(&setup, &body).await.unwrap();
    let shown = shown(&items);
    let wants = [
        "delete logs 1 400 illegal_argument_exception: documents of this store are not deleted",
        "update logs 1 400 illegal_argument_exception: documents of this store do not change",
        "index logs - 400 document_parsing_exception: failed to parse: JSON nests deeper",
        "index a* - 400 invalid_index_name_exception: index name [a*] must not hold '*'",
        &format!("index {long} - 400 invalid_index_name_exception: index name has 300 bytes"),
        "index logs - 400 document_parsing_exception: failed to parse: field \"@timestamp\": \"yesterday\" is not a time",
        "index logs - 400 document_parsing_exception: failed to parse: timestamp 7258118400000000000 is too far",
        "index logs - 400 document_parsing_exception: failed to parse: invalid type: sequence",
        "index logs - 201",
    ];
    assert_eq!(shown.len(), wants.len());
    for (got, want) in shown.iter().zip(wants) {
        assert!(got.starts_with(want), "{got}\n{want}");
    }
    assert_eq!(
        shown_logs(&setup.stores.log_batch()),
        [r#"{service_name="unknown_service"} +0 good [detected_level="unknown"]"#]
    );
}

#[tokio::test]
async fn requests_that_cannot_be_read_store_nothing() {
    let setup = setup();
    for (body, why) in [
        ("", "request body is required"),
        ("\n\n", "request body is required"),
        ("{\"index\":{}}\n", "no document follows the action on line [1]"),
        ("{\"index\":{}}", "no document follows the action on line [1]"),
        ("{\"index\":{}}\n{}\nnonsense\n{}\n", "Malformed action/metadata line [3], expected START_OBJECT"),
        ("{\"index\":{},\"create\":{}}\n{}\n", "Malformed action/metadata line [1], expected one of"),
        ("{\"drop\":{}}\n{}\n", "Malformed action/metadata line [1], expected one of"),
        ("{\"index\":{\"_id\":{\"a\":1}}\n{}\n", "Malformed action/metadata line [1]"),
    ] {
        let error = bulk(&setup, body).await.unwrap_err();
        assert!(error.to_string().starts_with(why), "{body:?}: {error}");
    }
    assert!(setup.stores.are_empty());
}

#[tokio::test]
async fn bodies_may_be_compressed() {
    let body = format!("{{\"create\":{{}}}}\n{{\"@timestamp\":\"{TIME}\",\"message\":\"m\"}}\n");
    for (encoding, bytes) in [
        ("gzip", gzip(body.as_bytes())),
        ("deflate", zlib(body.as_bytes())),
        ("deflate", raw_deflate(body.as_bytes())),
        ("zstd", zstd(body.as_bytes())),
    ] {
        let setup = setup();
        let headers = headers(&[("content-encoding", encoding)]);
        let whole = setup.ingest.bulk(&headers, bytes.clone(), None, FieldOptions::default()).await.unwrap();
        assert_eq!(whole.len(), 1, "{encoding}");
        let cut = bytes.slice(..bytes.len() - 5);
        let error = setup.ingest.bulk(&headers, cut, Some("x".into()), FieldOptions::default()).await.unwrap_err();
        assert_eq!(error.status(), 400, "{encoding}: {error}");
    }
    let bomb = gzip(&vec![b'\n'; 40 << 20]);
    let setup = setup();
    let headers = headers(&[("content-encoding", "gzip")]);
    let error = setup.ingest.bulk(&headers, bomb, None, FieldOptions::default()).await.unwrap_err();
    assert_eq!(error.status(), 413);
    assert!(setup.stores.are_empty());
}

#[tokio::test]
async fn fields_are_what_the_sender_says() {
    let setup = setup();
    let options = FieldOptions {
        message: vec!["event.original".into(), "body".into()],
        time: vec!["when".into()],
        streams: vec!["app".into(), "kubernetes.pod".into(), "env".into()],
        ignored: vec!["secret".into(), "agent.*".into()],
        extra: vec![("env".into(), "prod".into()), ("dc".into(), "eu".into())],
    };
    let body = format!(
        r#"{{"create":{{}}}}
{{"when":"{TIME}","body":"text","app":"web","kubernetes":{{"pod":"p1"}},"env":"dev","secret":"x","agent":{{"id":1,"v":2}},"message":"other","service":"s"}}
"#
    );
    setup.ingest.bulk(&headers(&[]), body.into(), None, options).await.unwrap();
    assert_eq!(
        shown_logs(&setup.stores.log_batch()),
        [
            r#"{app="web", env="prod", kubernetes.pod="p1", service_name="web"} +0 text [detected_level="unknown" message="other" service="s" dc="eu"]"#
        ]
    );
}

#[tokio::test]
async fn what_is_sent_again_is_stored_once() {
    let setup = setup();
    let with_id = |action: &str, text: &str| {
        format!(
            "{{\"{action}\":{{\"_index\":\"a\",\"_id\":\"1\"}}}}\n{{\"@timestamp\":\"{TIME}\",\"message\":\"{text}\"}}\n"
        )
    };
    let count = || setup.stores.logs.lock().iter().map(trefoil_model::LogBatch::record_count).sum::<usize>();
    let statuses = |items: Vec<Item>| items.iter().map(|i| i.outcome.status()).collect::<Vec<_>>();
    let twice = with_id("create", "m") + &with_id("create", "other");
    assert_eq!(statuses(bulk(&setup, &twice).await.unwrap()), [201, 409]);
    assert_eq!(statuses(bulk(&setup, &with_id("create", "m")).await.unwrap()), [409]);
    assert_eq!(statuses(bulk(&setup, &with_id("index", "m")).await.unwrap()), [200]);
    assert_eq!(count(), 1);
    // Another text under the same id is another record: log records do not change.
    assert_eq!(statuses(bulk(&setup, &with_id("index", "new")).await.unwrap()), [201]);
    assert_eq!(count(), 2);
    // Without ids a request that says all its times is known again as a whole.
    let plain = format!("{{\"create\":{{}}}}\n{{\"@timestamp\":\"{TIME}\",\"message\":\"p\"}}\n");
    assert_eq!(statuses(bulk(&setup, &plain).await.unwrap()), [201]);
    assert_eq!(statuses(bulk(&setup, &plain).await.unwrap()), [201]);
    assert_eq!(count(), 3);
    let timeless = "{\"create\":{}}\n{\"message\":\"p\"}\n";
    bulk(&setup, timeless).await.unwrap();
    bulk(&setup, timeless).await.unwrap();
    assert_eq!(count(), 5);
}

#[tokio::test]
async fn what_was_not_stored_is_not_remembered() {
    let setup = setup();
    let body = format!("{{\"create\":{{\"_id\":\"1\"}}}}\n{{\"@timestamp\":\"{TIME}\",\"message\":\"m\"}}\n");
    *setup.stores.unavailable.lock() = true;
    let error = bulk(&setup, &body).await.unwrap_err();
    assert_eq!(error.status(), 503);
    assert!(error.retry_after().is_some());
    *setup.stores.unavailable.lock() = false;
    assert_eq!(shown(&bulk(&setup, &body).await.unwrap()), ["create logs 1 201"]);
    assert_eq!(setup.stores.log_batch().record_count(), 1);
}

#[tokio::test]
async fn hostile_documents_cost_only_themselves() {
    let limits = Limits { log_attributes_max: 20, ..Limits::default() };
    let setup = setup_with(limits, Accountant::new(4 << 30), IngestOptions::default());
    let mut many = format!("{{\"@timestamp\":\"{TIME}\",");
    for i in 0..100_000 {
        many.push_str(&format!("\"a{i}\":{i},"));
    }
    many.push_str("\"message\":\"many\"}");
    let line = "x".repeat(10 << 20);
    let body = [
        b"{\"index\":{}}\n".to_vec(),
        many.into_bytes(),
        b"\n{\"index\":{}}\n".to_vec(),
        format!("{{\"message\":\"{line}\"}}").into_bytes(),
        b"\n{\"index\":{}}\n{\"message\":\"not utf-8: \xff\"}\n".to_vec(),
        b"{\"index\":{}}\n{\"@timestamp\":86400000,\"message\":\"1970\"}\n".to_vec(),
    ]
    .concat();
    let items = setup.ingest.bulk(&headers(&[]), body.into(), None, FieldOptions::default()).await.unwrap();
    let statuses: Vec<u16> = items.iter().map(|i| i.outcome.status()).collect();
    assert_eq!(statuses, [201, 400, 201, 201]);
    let batch = setup.stores.log_batch();
    let records = &batch.groups[0].records;
    assert_eq!((records[0].text.as_str(), records[0].attributes.len()), ("many", 20));
    assert_eq!(records[0].attributes[19].0, "trefoil.dropped_attributes");
    assert_eq!(records[0].attributes[19].1, trefoil_model::AttributeValue::Int(100_000 - 18));
    assert_eq!(records[1].text, "not utf-8: \u{fffd}");
    assert_eq!(records[2].time_ns, 86_400_000_000_000);
}

#[tokio::test]
async fn single_documents_are_taken_too() {
    let setup = setup();
    let one = |action, id: Option<&str>, body: &'static str| {
        let place = ("logs-x".to_owned(), id.map(str::to_owned));
        setup.ingest.document(&HEADERS, Bytes::from_static(body.as_bytes()), action, place, FieldOptions::default())
    };
    static HEADERS: std::sync::LazyLock<http::HeaderMap> = std::sync::LazyLock::new(http::HeaderMap::new);
    assert_eq!(one(Action::Index, None, "{\n  \"message\": \"a\"\n}").await.unwrap().outcome, Outcome::Stored);
    assert_eq!(one(Action::Create, Some("1"), "{\"message\":\"b\"}").await.unwrap().outcome, Outcome::Stored);
    assert_eq!(one(Action::Create, Some("1"), "{\"message\":\"b\"}").await.unwrap().outcome.status(), 409);
    assert_eq!(one(Action::Index, None, "nothing").await.unwrap().outcome.status(), 400);
    let all: Vec<String> = setup.stores.logs.lock().iter().flat_map(shown_logs).collect();
    assert_eq!(
        all,
        [
            r#"{_index="logs-x", service_name="unknown_service"} +0 a [detected_level="unknown"]"#,
            r#"{_index="logs-x", service_name="unknown_service"} +0 b [detected_level="unknown" _id="1"]"#,
        ]
    );
    assert_eq!(setup.stores.logs.lock()[0].groups[0].records[0].time_ns, NOW_NS);
}
