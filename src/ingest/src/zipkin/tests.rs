use proptest::prelude::*;
use prost::Message;
use trefoil_model::{EventWriter, LogBatch, TraceBatch};
use trefoil_model::{MetricBatch, MetricWriter, WriteError, WriteReport};
use trefoil_runtime::clock::SimClock;
use trefoil_runtime::limits::Limits;
use trefoil_runtime::memory::Accountant;

use super::*;
use crate::IngestOptions;

const NOW_US: u64 = 1_700_000_000_000_000;

struct Nowhere;

#[async_trait::async_trait]
impl MetricWriter for Nowhere {
    async fn write(&self, _: MetricBatch) -> Result<WriteReport, WriteError> {
        Ok(WriteReport::default())
    }
}

#[async_trait::async_trait]
impl EventWriter for Nowhere {
    async fn write_logs(&self, _: LogBatch) -> Result<WriteReport, WriteError> {
        Ok(WriteReport::default())
    }

    async fn write_spans(&self, batch: TraceBatch) -> Result<WriteReport, WriteError> {
        Ok(WriteReport { accepted: batch.span_count() as u64, ..WriteReport::default() })
    }
}

fn ingest() -> Ingest {
    let (limits, accountant) = (Limits::default(), Accountant::new(1 << 30));
    let clock = SimClock::new((NOW_US / 1000) as i64);
    Ingest::new(Arc::new(Nowhere), Arc::new(Nowhere), limits, accountant, clock, IngestOptions::default())
}

fn decoded(format: Format, bytes: &[u8]) -> Converted {
    decode(format, bytes, &ingest().context).unwrap_or_else(|e| panic!("{e}"))
}

/// Every span: `service/scope kind trace:span<parent name +start_us~duration_us status:message [attributes] events`.
fn shown(converted: &Converted) -> Vec<String> {
    let spans = converted.batch.groups.iter().flat_map(|g| g.spans.iter().map(move |s| (g, s)));
    spans
        .map(|(group, s)| {
            let attributes: Vec<_> = s.attributes.iter().map(|(n, v)| format!("{n}={}", v.to_text())).collect();
            let events: Vec<_> =
                s.events.iter().map(|e| format!("{}@{}", e.name, e.time_ns / 1000 - NOW_US as i64)).collect();
            format!(
                "{}/{} {:?} {}:{}<{} {} +{}~{} {:?}:{} [{}] {}",
                group.resource.service_name(),
                group.scope.name,
                s.kind,
                s.trace_id,
                s.span_id,
                s.parent_span_id.map(|p| p.to_string()).unwrap_or_default(),
                s.name,
                s.start_ns / 1000 - NOW_US as i64,
                s.duration_ns() / 1000,
                s.status_code,
                s.status_message,
                attributes.join(" "),
                events.join(" ")
            )
            .trim_end()
            .to_owned()
        })
        .collect()
}

fn check(format: Format, json: &str, want: &[&str]) {
    let converted = decoded(format, json.as_bytes());
    assert_eq!(shown(&converted), want, "{json}\n{:?}", converted.report);
    assert_eq!(converted.report.rejected, 0, "{:?}", converted.report);
}

const T: &str = "0000000000000000463ac35c9f6413ad";

#[test]
fn version_2_whole() {
    check(
        Format::JsonV2,
        r#"[{"traceId":"5B8EFFF798038103D269B633813FC60C","id":"a","parentId":"b","kind":"CLIENT","name":"get /","timestamp":1700000000000005,
            "duration":207000,"localEndpoint":{"serviceName":"web","ipv4":"10.0.0.1","port":80},"debug":true,
            "remoteEndpoint":{"serviceName":"db","ipv6":"::1","port":"5432"},
            "annotations":[{"timestamp":1700000000000006,"value":"ws"}],
            "tags":{"http.path":"/","n":7,"none":null,"error":"timed out","otel.library.name":"lib"},"shared":true,"future":[]}]"#,
        &["web/lib Client 5b8efff798038103d269b633813fc60c:000000000000000a<000000000000000b get / +5~207000 \
           Error:timed out [peer.service=db network.peer.address=::1 network.local.address=10.0.0.1 \
           network.peer.port=5432 network.local.port=80 zipkin.shared=true http.path=/ n=7] ws@6"],
    );
}

#[test]
fn version_2_sparse() {
    let id = format!("{T}:0000000000000001<");
    for (json, want) in [
        (r#""timestamp":"1700000000000001""#, format!("/ Unspecified {id}  +1~0 Unset: []")),
        (r#""timestamp":1700000000000001.2,"duration":-3,"kind":"?""#, format!("/ Unspecified {id}  +1~0 Unset: []")),
        (
            r#""parentId":"0000000000000001","tags":null"#,
            format!("/ Unspecified {id}  +0~0 Unset: [{ABSENT_START}=true]"),
        ),
        (
            r#""parentId":"0000","duration":9,"annotations":[{"value":"b","timestamp":1700000000000004},{"value":"c"}]"#,
            format!("/ Unspecified {id}  +4~9 Unset: [] b@4 c@4"),
        ),
        (
            r#""kind":"server","timestamp":1700000000000000,"tags":{"error":"","otel.status_code":"OK","peer.service":"p"},"remoteEndpoint":{"serviceName":"q"}"#,
            format!("/ Server {id}  +0~0 Ok: [error= peer.service=p]"),
        ),
        (
            r#""timestamp":1700000000000000,"tags":{"error":"true","otel.status_description":"d","span.kind":"internal","w3c.tracestate":"a=b"}"#,
            format!("/ Internal {id}  +0~0 Error:d []"),
        ),
        (
            r#""timestamp":1700000000000000,"tags":{"error":"false"},"localEndpoint":{"port":70000}"#,
            format!("/ Unspecified {id}  +0~0 Unset: [error=false]"),
        ),
    ] {
        check(Format::JsonV2, &format!(r#"[{{"traceId":"463ac35c9f6413ad","id":"1",{json}}}]"#), &[&want]);
    }
}

#[test]
fn a_bad_span_costs_no_other() {
    let good = r#"{"traceId":"1","id":"2","timestamp":1700000000000000,"name":"good"}"#;
    for (bad, reason) in [
        (r"7", "invalid type"),
        (r#"{"id":"2"}"#, "no traceId"),
        (r#"{"traceId":"1"}"#, "no id"),
        (r#"{"traceId":"x","id":"2"}"#, "traceId \"x\" is not"),
        (r#"{"traceId":"0","id":"2"}"#, "traceId \"0\" is not"),
        (r#"{"traceId":"1","id":"12345678901234567"}"#, "id \"12345678901234567\" is not 1 to 16"),
        (r#"{"traceId":"1","id":"2","parentId":"é"}"#, "parentId"),
        (r#"{"traceId":"1","id":"2","timestamp":"soon"}"#, "timestamp is not a number"),
        (
            r#"{"traceId":"1","id":"2","timestamp":1900000000000000,"name":"n"}"#,
            "span 1 \"n\": timestamp 1900000000000000 is too far",
        ),
        (r#"{"traceId":"1","id":"2","tags":[]}"#, "invalid type"),
    ] {
        for format in [Format::JsonV2, Format::JsonV1] {
            if format == Format::JsonV1 && bad.contains("tags") {
                continue;
            }
            let converted = decoded(format, format!("[{good},{bad},{good}]").as_bytes());
            assert_eq!((converted.batch.span_count(), converted.report.rejected), (2, 1), "{bad}");
            let said = &converted.report.reasons[0];
            assert!(said.starts_with("span 1") && said.contains(reason), "{bad}: {said}");
        }
    }
}

#[test]
fn version_1_sides() {
    let head = r#""traceId":"463ac35c9f6413ad","id":"1","name":"n""#;
    let web = r#"{"serviceName":"web","ipv4":"10.0.0.1","port":80}"#;
    let api = r#"{"serviceName":"api"}"#;
    let at = |time: u64, value: &str, endpoint: &str| {
        format!(r#"{{"timestamp":{},"value":"{value}","endpoint":{endpoint}}}"#, NOW_US + time)
    };
    let id = format!("{T}:0000000000000001< n");
    let client = [at(1, "cs", web), at(9, "cr", web), at(2, "ws", web)].join(",");
    let server = [at(3, "sr", api), at(7, "ss", api)].join(",");
    let own = format!(r#""timestamp":{},"duration":20,"#, NOW_US);
    let local = "network.local.address=10.0.0.1 network.local.port=80";
    for (rest, want) in [
        (format!(r#"{own}"annotations":[{client}]"#), vec![format!("web/ Client {id} +0~20 Unset: [{local}] ws@2")]),
        (format!(r#""annotations":[{server}]"#), vec![format!("api/ Server {id} +3~4 Unset: [zipkin.shared=true]")]),
        (
            format!(
                r#""annotations":[{server},{client}],"binaryAnnotations":[
                  {{"key":"sa","value":true,"endpoint":{api}}},{{"key":"ca","value":true,"endpoint":{web}}},
                  {{"key":"http.path","value":"/","endpoint":{web}}},{{"key":"error","value":"boom","endpoint":{api}}}]"#
            ),
            vec![
                format!(
                    "api/ Server {id} +3~4 Error:boom [peer.service=web network.peer.address=10.0.0.1 \
                     network.peer.port=80 zipkin.shared=true]"
                ),
                format!("web/ Client {id} +1~8 Unset: [peer.service=api {local} http.path=/] ws@2"),
            ],
        ),
        (
            format!(r#"{own}"binaryAnnotations":[{{"key":"lc","value":"","endpoint":{api}}}]"#),
            vec![format!("api/ Unspecified {id} +0~20 Unset: []")],
        ),
        (
            format!(
                r#"{own}"binaryAnnotations":[{{"key":"sa","value":true,"endpoint":{api}}},
                  {{"key":"n","value":5,"endpoint":{web}}}]"#
            ),
            vec![format!("web/ Unspecified {id} +0~20 Unset: [peer.service=api {local} n=5]")],
        ),
        (
            format!(
                r#""annotations":[{},{}],"binaryAnnotations":[{{"key":"ma","value":true,"endpoint":{api}}}]"#,
                at(1, "ms", web),
                at(5, "ws", web)
            ),
            vec![format!("web/ Producer {id} +1~4 Unset: [peer.service=api {local}]")],
        ),
        (format!(r#""annotations":[{}]"#, at(5, "mr", web)), vec![format!("web/ Consumer {id} +5~0 Unset: [{local}]")]),
        (own.trim_end_matches(',').to_owned(), vec![format!("/ Unspecified {id} +0~20 Unset: []")]),
    ] {
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check(Format::JsonV1, &format!("[{{{head},{rest}}}]"), &want);
    }
}

#[derive(Clone, PartialEq, Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    spans: Vec<WireSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct WireSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    parent_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    id: Vec<u8>,
    #[prost(int32, tag = "4")]
    kind: i32,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "6")]
    timestamp: u64,
    #[prost(uint64, tag = "7")]
    duration: u64,
    #[prost(message, optional, tag = "8")]
    local: Option<WireEndpoint>,
    #[prost(message, optional, tag = "9")]
    remote: Option<WireEndpoint>,
    #[prost(message, repeated, tag = "10")]
    annotations: Vec<WireAnnotation>,
    #[prost(map = "string, string", tag = "11")]
    tags: std::collections::HashMap<String, String>,
    #[prost(bool, tag = "12")]
    debug: bool,
    #[prost(bool, tag = "13")]
    shared: bool,
}

#[derive(Clone, PartialEq, Message)]
struct WireEndpoint {
    #[prost(string, tag = "1")]
    service_name: String,
    #[prost(bytes = "vec", tag = "2")]
    ipv4: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    ipv6: Vec<u8>,
    #[prost(int32, tag = "4")]
    port: i32,
}

#[derive(Clone, PartialEq, Message)]
struct WireAnnotation {
    #[prost(fixed64, tag = "1")]
    timestamp: u64,
    #[prost(string, tag = "2")]
    value: String,
}

fn wire() -> WireSpan {
    WireSpan {
        trace_id: vec![1; 16],
        parent_id: vec![3; 8],
        id: vec![2; 8],
        kind: 2,
        name: "get".to_owned(),
        timestamp: NOW_US,
        duration: 15,
        local: Some(WireEndpoint {
            service_name: "api".to_owned(),
            ipv4: vec![127, 0, 0, 1],
            ipv6: vec![0; 16],
            port: 8080,
        }),
        remote: Some(WireEndpoint { ipv4: vec![1], ipv6: vec![0; 16], port: -1, ..WireEndpoint::default() }),
        annotations: vec![WireAnnotation { timestamp: NOW_US + 1, value: "a".to_owned() }],
        tags: [("k".to_owned(), "v".to_owned())].into(),
        debug: true,
        shared: true,
    }
}

#[test]
fn protobuf_whole_and_odd() {
    let short = WireSpan { trace_id: vec![9; 8], parent_id: vec![], kind: 9, ..WireSpan::default() };
    let list = List {
        spans: vec![
            wire(),
            WireSpan { id: vec![2; 7], ..wire() },
            WireSpan { trace_id: vec![0; 16], ..wire() },
            WireSpan { trace_id: vec![1; 9], ..wire() },
            WireSpan { parent_id: vec![1; 9], ..wire() },
            WireSpan { id: vec![4; 8], ..short },
        ],
    };
    let converted = decoded(Format::Protobuf, &list.encode_to_vec());
    assert_eq!(
        shown(&converted),
        [
            "api/ Server 01010101010101010101010101010101:0202020202020202<0303030303030303 get +0~15 Unset: \
             [network.peer.address=:: network.local.address=127.0.0.1 network.local.port=8080 zipkin.shared=true k=v] a@1",
            "/ Unspecified 00000000000000000909090909090909:0404040404040404<  +0~0 Unset: \
             [otel.zipkin.absentField.startTime=true]",
        ]
    );
    assert_eq!(converted.report.rejected, 4);
    let all = converted.report.reasons.join("\n");
    for reason in
        ["span 1: span id must be 8", "span 2: trace id is zero", "span 3: trace id must be", "span 4: parent"]
    {
        assert!(all.contains(reason), "{reason}: {all}");
    }
}

#[tokio::test]
async fn answers() {
    let ingest = ingest();
    let good = r#"[{"traceId":"1","id":"2","timestamp":1700000000000000}]"#;
    let deep = format!("[{}1{}]", "[".repeat(5000), "]".repeat(5000));
    let proto = List { spans: vec![wire()] }.encode_to_vec();
    let json = "application/json; charset=utf-8";
    let (v1, v2) = (ZipkinVersion::V1, ZipkinVersion::V2);
    for (version, kind, encoding, body, status, said) in [
        (v2, json, "", good.as_bytes(), 202, ""),
        (v1, json, "", good.as_bytes(), 202, ""),
        (v2, "", "", b"[]", 202, ""),
        (v2, "application/x-protobuf", "", &proto, 202, ""),
        (v2, "application/x-protobuf", "", &proto[..9], 400, "message is cut"),
        (v1, "application/x-protobuf", "", &proto, 415, "not supported"),
        (v1, "application/x-thrift", "", b"", 415, "not supported"),
        (v2, json, "gzip", good.as_bytes(), 400, "gzip body"),
        (v2, json, "", b"", 400, "not a JSON list"),
        (v2, json, "", b"{}", 400, "not a JSON list"),
        (v2, json, "", b"[{\"\xff\":1}]", 400, "not a JSON list"),
        (v2, json, "", deep.as_bytes(), 400, "nests deeper"),
        (v2, json, "", b"[{\"id\":\"1\"}]", 400, "1 spans were rejected, all others are stored: span 0: no traceId"),
    ] {
        let mut headers = HeaderMap::new();
        for (name, value) in [("content-type", kind), ("content-encoding", encoding)] {
            if !value.is_empty() {
                headers.insert(name, value.parse().unwrap());
            }
        }
        let answer = ingest.zipkin(version, &headers, Bytes::copy_from_slice(body)).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status.as_u16(), status, "{text}");
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn no_cut_body_panics() {
    let ingest = ingest();
    let proto = List { spans: vec![wire(), wire()] }.encode_to_vec();
    let json =
        br#"[{"traceId":"1","id":"2","timestamp":1,"annotations":[{"timestamp":1,"value":"cs","endpoint":{"port":1}}],
        "binaryAnnotations":[{"key":"sa","value":true}],"tags":{"a":"b"}}]"#;
    for (format, bytes) in [(Format::Protobuf, &proto[..]), (Format::JsonV1, json), (Format::JsonV2, json)] {
        for end in 0..bytes.len() {
            drop(decode(format, &bytes[..end], &ingest.context));
        }
    }
}

proptest! {
    #[test]
    fn no_changed_body_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let ingest = ingest();
        let mut bytes = List { spans: vec![wire(), wire()] }.encode_to_vec();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        drop(decode(Format::Protobuf, &bytes, &ingest.context));
    }

    #[test]
    fn no_json_panics(text in r#"\[(\{("(traceId|id|timestamp|duration|tags|kind|annotations|parentId)":("1"|1|-1|1e400|null|\[\]|\{\}|99999999999999999999|true),?){0,6}\},?){0,3}\]"#) {
        let ingest = ingest();
        for format in [Format::JsonV1, Format::JsonV2] {
            drop(decode(format, text.as_bytes(), &ingest.context));
        }
    }
}
