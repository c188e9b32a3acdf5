//! Loki's push API.

use bytes::Bytes;
use http::StatusCode;
use prost::Message;
use trefoil_ingest::{Answer, IngestOptions};
use trefoil_model::LogBatch;
use trefoil_runtime::limits::Limits;
use trefoil_runtime::memory::Accountant;

use crate::support::{JSON, NOW_NS, PROTOBUF, Setup, gzip, headers, setup, setup_with, snappy, text};

#[derive(Clone, PartialEq, Message)]
pub struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    pub streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Stream {
    #[prost(string, tag = "1")]
    pub labels: String,
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<Entry>,
    #[prost(uint64, tag = "3")]
    pub hash: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    #[prost(bytes = "vec", tag = "2")]
    pub line: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Pair {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

pub fn entry(time_ns: i64, line: &[u8], metadata: &[(&str, &str)]) -> Entry {
    Entry {
        timestamp: Some(Timestamp { seconds: time_ns / 1_000_000_000, nanos: (time_ns % 1_000_000_000) as i32 }),
        line: line.to_vec(),
        metadata: metadata.iter().map(|(n, v)| Pair { name: (*n).into(), value: (*v).into() }).collect(),
    }
}

pub fn request() -> PushRequest {
    PushRequest {
        streams: vec![
            Stream {
                labels: r#"{app="shop", env="prod"}"#.into(),
                entries: vec![
                    entry(NOW_NS + 7, b"level=warn msg=slow", &[("trace_id", "0af7651916cd43dd8448eb211c80319c")]),
                    entry(NOW_NS, b"not utf-8: \xff", &[("user", "7"), ("trace_id", "none")]),
                ],
                hash: 1,
            },
            Stream { labels: r#"{level="Error"}"#.into(), entries: vec![entry(NOW_NS, b"x", &[])], hash: 0 },
        ],
    }
}

async fn push_json(setup: &Setup, body: &str) -> Answer {
    setup.ingest.loki_push(&headers(JSON), Bytes::copy_from_slice(body.as_bytes())).await
}

/// Every record: `{stream} time line [attributes] trace`.
fn shown(batch: &LogBatch) -> Vec<String> {
    batch
        .groups
        .iter()
        .flat_map(|g| {
            g.records.iter().map(|r| {
                let attributes: Vec<_> = r.attributes.iter().map(|(n, v)| format!("{n}={v}")).collect();
                let trace = r.trace_id.map(|t| t.to_string()).unwrap_or_default();
                format!("{} +{} {} [{}] {trace}", g.stream, r.time_ns - NOW_NS, r.text, attributes.join(" "))
            })
        })
        .collect()
}

#[tokio::test]
async fn protobuf_entries_are_stored() {
    let setup = setup();
    let answer = setup.ingest.loki_push(&headers(PROTOBUF), snappy(&request().encode_to_vec())).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::NO_CONTENT, 0));
    let shop = r#"{app="shop", env="prod", service_name="shop"}"#;
    assert_eq!(
        shown(&setup.stores.log_batch()),
        [
            format!("{shop} +7 level=warn msg=slow [detected_level=\"warn\"] 0af7651916cd43dd8448eb211c80319c"),
            format!("{shop} +0 not utf-8: \u{fffd} [detected_level=\"unknown\" user=\"7\" trace_id=\"none\"] "),
            r#"{level="Error", service_name="unknown_service"} +0 x [detected_level="error"] "#.to_owned(),
        ]
    );
}

#[tokio::test]
async fn json_entries_are_stored_and_streams_joined() {
    let setup = setup();
    let body = format!(
        r#"{{"streams":[
            {{"stream":{{"job":"a","service_name":"own"}},"values":[["{NOW_NS}","one"],["{NOW_NS}","tw\no",{{"k":"v"}}]]}},
            {{"stream":{{"service_name":"own","job":"a"}},"values":[["{NOW_NS}","three"]],"extra":1}},
            {{"stream":{{"empty":"1"}},"values":[]}}]}}"#
    );
    assert_eq!(push_json(&setup, &body).await.status, StatusCode::NO_CONTENT);
    let batch = setup.stores.log_batch();
    assert_eq!(batch.groups.len(), 1);
    assert_eq!(
        shown(&batch),
        [
            "{job=\"a\", service_name=\"own\"} +0 one [detected_level=\"unknown\"] ",
            "{job=\"a\", service_name=\"own\"} +0 tw\no [detected_level=\"unknown\" k=\"v\"] ",
            "{job=\"a\", service_name=\"own\"} +0 three [detected_level=\"unknown\"] ",
        ]
    );
    let zipped = headers(&[("content-type", "application/json; charset=utf-8"), ("content-encoding", "gzip")]);
    assert_eq!(setup.ingest.loki_push(&zipped, gzip(body.as_bytes())).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn discovery_can_be_switched_off() {
    let options =
        IngestOptions { discover_service_name: false, discover_log_levels: false, ..IngestOptions::default() };
    let setup = setup_with(Limits::default(), Accountant::unlimited(), options);
    let body = format!(r#"{{"streams":[{{"stream":{{"job":"a"}},"values":[["{NOW_NS}","error"]]}}]}}"#);
    assert_eq!(push_json(&setup, &body).await.status, StatusCode::NO_CONTENT);
    assert_eq!(shown(&setup.stores.log_batch()), ["{job=\"a\"} +0 error [] "]);
}

#[tokio::test]
async fn bad_streams_and_entries_are_refused_alone_and_named() {
    let setup = setup();
    let request = PushRequest {
        streams: vec![
            Stream { labels: "{a=}".into(), entries: vec![entry(NOW_NS, b"lost", &[]); 2], hash: 0 },
            Stream { labels: "{}".into(), entries: vec![entry(NOW_NS, b"lost", &[])], hash: 0 },
            Stream {
                labels: r#"{job="a"}"#.into(),
                entries: vec![
                    entry(NOW_NS, b"kept", &[]),
                    entry(NOW_NS, &[b'x'; 10 << 20], &[]),
                    entry(NOW_NS + 3_600_000_000_000, b"future", &[]),
                ],
                hash: 0,
            },
        ],
    };
    let answer = setup.ingest.loki_push(&headers(PROTOBUF), snappy(&request.encode_to_vec())).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let text = text(&answer);
    assert!(text.starts_with("5 entries were rejected, all others are stored: "), "{text}");
    for want in [
        r#"stream "{a=}": labels: expected a quoted label value at column 4"#,
        "at least one label is needed",
        "line has 10485760 bytes, at most 1048576 are taken",
        r#"entry "future" at 1700003600000000000 of stream {job="a", service_name="a"}: timestamp"#,
    ] {
        assert!(text.contains(want), "{want} in {text}");
    }
    assert_eq!(setup.stores.log_batch().record_count(), 1);
}

#[tokio::test]
async fn long_lines_and_many_attributes_are_cut_and_marked() {
    let setup = setup();
    let metadata: Vec<(String, String)> = (0..200).map(|i| (format!("k{i}"), "v".to_owned())).collect();
    let metadata: Vec<(&str, &str)> = metadata.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let line = "ü".repeat(200_000);
    let request = PushRequest {
        streams: vec![Stream {
            labels: r#"{job="a"}"#.into(),
            entries: vec![entry(NOW_NS, line.as_bytes(), &[]), entry(NOW_NS, b"x", &metadata)],
            hash: 0,
        }],
    };
    let answer = setup.ingest.loki_push(&headers(PROTOBUF), snappy(&request.encode_to_vec())).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let batch = setup.stores.log_batch();
    let [long, many] = &batch.groups[0].records[..] else { panic!("two records") };
    assert_eq!(long.text.len(), 256 << 10);
    assert_eq!(long.attributes.last().unwrap().0, "trefoil.line_bytes");
    assert_eq!(many.attributes.len(), 129);
    assert_eq!(many.attributes.last().unwrap().0, "trefoil.dropped_attributes");
}

#[tokio::test]
async fn requests_that_cannot_be_read_store_nothing() {
    let setup = setup();
    for body in [
        "",
        "{",
        "[]",
        r#"{"streams":{}}"#,
        r#"{"streams":[{"stream":{"a":"1"},"values":[[1,"x"]]}]}"#,
        r#"{"streams":[{"stream":{"a":"1"},"values":[["x","x"]]}]}"#,
        r#"{"streams":[{"stream":{"a":"1"},"values":[["1"]]}]}"#,
        r#"{"streams":[{"stream":{"a":"1"},"values":[["1","x",{"k":1}]]}]}"#,
        r#"{"streams":[{"stream":{"a":1},"values":[["1","x"]]}]}"#,
        &"[".repeat(100_000),
    ] {
        let answer = push_json(&setup, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body:.60}");
        assert!(text(&answer).contains("JSON"), "{}", text(&answer));
    }
    let message = request().encode_to_vec();
    for cut in 1..message.len() {
        let answer = setup.ingest.loki_push(&headers(PROTOBUF), snappy(&message[..cut])).await;
        assert!(
            answer.status == StatusCode::BAD_REQUEST || PushRequest::decode(&message[..cut]).is_ok(),
            "cut to {cut}"
        );
        setup.stores.logs.lock().clear();
    }
    for (content_type, want) in [("text/plain", 400), ("application/x-protobuf", 400)] {
        let answer = setup.ingest.loki_push(&headers(&[("content-type", content_type)]), "x=1".into()).await;
        assert_eq!(answer.status.as_u16(), want, "{content_type}");
    }
    assert!(setup.stores.are_empty());
}

#[tokio::test]
async fn an_empty_request_is_good() {
    let setup = setup();
    assert_eq!(push_json(&setup, "{}").await.status, StatusCode::NO_CONTENT);
    assert_eq!(push_json(&setup, r#"{"streams":[]}"#).await.status, StatusCode::NO_CONTENT);
    assert!(setup.stores.are_empty());
}
