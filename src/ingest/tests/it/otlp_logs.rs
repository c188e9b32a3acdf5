//! OTLP logs over HTTP.

use bytes::Bytes;
use http::StatusCode;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use trefoil_ingest::answer::RpcStatus;
use trefoil_ingest::{Answer, Signal};
use trefoil_model::{AttributeValue, LogBatch};

use crate::support::{JSON, NOW_NS, PROTOBUF, Setup, attribute, gzip, headers, setup, snappy, string, text};

pub fn request() -> ExportLogsServiceRequest {
    let record = LogRecord {
        time_unix_nano: NOW_NS as u64,
        observed_time_unix_nano: NOW_NS as u64 + 5,
        severity_number: 13,
        severity_text: "WARN".into(),
        body: Some(string("slow")),
        attributes: vec![attribute("http.route", "/cart")],
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        flags: 1,
        ..LogRecord::default()
    };
    let map = KeyValueList { values: vec![attribute("a", "1")] };
    let nameless = LogRecord {
        body: Some(AnyValue { value: Some(Value::KvlistValue(map)) }),
        trace_id: vec![0; 16],
        ..LogRecord::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![
            ResourceLogs {
                resource: Some(Resource {
                    attributes: vec![
                        attribute("service.name", "cart"),
                        attribute("k8s.pod.name", "cart-1"),
                        attribute("host.name", "h1"),
                    ],
                    ..Resource::default()
                }),
                scope_logs: vec![ScopeLogs {
                    scope: Some(InstrumentationScope { name: "lib".into(), version: "1".into(), ..Default::default() }),
                    log_records: vec![record],
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            },
            ResourceLogs {
                scope_logs: vec![ScopeLogs { log_records: vec![nameless], ..ScopeLogs::default() }],
                ..ResourceLogs::default()
            },
        ],
    }
}

async fn post(setup: &Setup, pairs: &[(&'static str, &str)], body: impl Into<Bytes>) -> Answer {
    setup.ingest.otlp_http(Signal::Logs, &headers(pairs), body.into()).await
}

fn check(batch: &LogBatch) {
    let [cart, other] = &batch.groups[..] else { panic!("two groups") };
    assert_eq!(cart.stream.to_string(), r#"{"k8s.pod.name"="cart-1", "service.name"="cart"}"#);
    let shared: Vec<_> = cart.shared.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(shared, [r#"host.name="h1""#, r#"scope.name="lib""#, r#"scope.version="1""#]);
    let record = &cart.records[0];
    assert_eq!((record.time_ns, record.observed_ns), (NOW_NS, NOW_NS + 5));
    assert_eq!((record.severity_number, record.severity_text.as_str(), record.text.as_str()), (13, "WARN", "slow"));
    assert_eq!(record.trace_id.unwrap().0, [1; 16]);
    assert_eq!(record.span_id.unwrap().0, [2; 8]);
    let attributes: Vec<_> = record.attributes.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(attributes, [r#"detected_level="warn""#, r#"http.route="/cart""#, "flags=1"]);

    assert_eq!(other.stream.to_string(), r#"{"service.name"="unknown_service"}"#);
    let record = &other.records[0];
    assert_eq!((record.time_ns, record.text.as_str()), (NOW_NS, r#"{"a":"1"}"#));
    assert_eq!((record.trace_id, record.span_id), (None, None));
}

#[tokio::test]
async fn protobuf_in_all_encodings() {
    let body = request().encode_to_vec();
    for (encoding, body) in [
        ("identity", Bytes::from(body.clone())),
        ("gzip", gzip(&body)),
        ("zstd", zstd::encode_all(&body[..], 3).unwrap().into()),
        ("snappy", snappy(&body)),
        ("deflate", crate::support::zlib(&body)),
    ] {
        let setup = setup();
        let pairs = [("content-type", "application/x-protobuf"), ("content-encoding", encoding)];
        let answer = post(&setup, &pairs, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{encoding}: {}", text(&answer));
        assert_eq!(answer.headers["content-type"], "application/x-protobuf");
        assert_eq!(ExportLogsServiceResponse::decode(answer.body).unwrap().partial_success, None);
        check(&setup.stores.log_batch());
    }
}

#[tokio::test]
async fn json_says_the_same() {
    let setup = setup();
    let body = format!(
        r#"{{"resourceLogs":[
          {{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"cart"}}}},
              {{"key":"k8s.pod.name","value":{{"stringValue":"cart-1","new":[1]}}}},
              {{"key":"host.name","value":{{"stringValue":"h1"}}}}],"unknown":{{"a":[]}}}},
            "scopeLogs":[{{"scope":{{"name":"lib","version":"1"}},"logRecords":[{{
              "timeUnixNano":"{NOW_NS}","observedTimeUnixNano":{observed},"severityNumber":13,"severityText":"WARN",
              "body":{{"stringValue":"slow"}},"attributes":[{{"key":"http.route","value":{{"stringValue":"/cart"}}}}],
              "traceId":"01010101010101010101010101010101","spanId":"0202020202020202","flags":1,"eventName":null}}]}}]}},
          {{"scopeLogs":[{{"logRecords":[{{"body":{{"kvlistValue":{{"values":[
              {{"key":"a","value":{{"stringValue":"1"}}}}]}}}},"traceId":""}}]}}]}}]}}"#,
        observed = NOW_NS + 5
    );
    let answer = post(&setup, JSON, body).await;
    assert_eq!((answer.status, text(&answer).as_str()), (StatusCode::OK, "{}"));
    assert_eq!(answer.headers["content-type"], "application/json");
    check(&setup.stores.log_batch());
}

#[tokio::test]
async fn bad_records_are_rejected_alone() {
    let mut request = request();
    let records = &mut request.resource_logs[0].scope_logs[0].log_records;
    records.push(LogRecord { body: Some(string(&"x".repeat(10 << 20))), ..LogRecord::default() });
    records.push(LogRecord { time_unix_nano: NOW_NS as u64 * 2, ..LogRecord::default() });
    let setup = setup();
    let answer = post(&setup, PROTOBUF, request.encode_to_vec()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let partial = ExportLogsServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_log_records, 2);
    assert!(partial.error_message.contains("line has 10485760 bytes"), "{}", partial.error_message);
    assert!(partial.error_message.contains("too far in the future"), "{}", partial.error_message);
    check(&setup.stores.log_batch());
}

#[tokio::test]
async fn deep_values_are_cut() {
    let mut value = string("bottom");
    for _ in 0..30 {
        value = AnyValue { value: Some(Value::ArrayValue(ArrayValue { values: vec![value] })) };
    }
    let mut request = request();
    let record = &mut request.resource_logs[0].scope_logs[0].log_records[0];
    record.attributes[0].value = Some(value.clone());
    record.body = Some(value);
    let setup = setup();
    assert_eq!(post(&setup, PROTOBUF, request.encode_to_vec()).await.status, StatusCode::OK);
    let batch = setup.stores.log_batch();
    let text = &batch.groups[0].records[0].text;
    assert!(text.contains("nested too deep") && !text.contains("bottom"), "{text}");
    // Beyond the decoder's own depth the request is refused.
    let mut value = string("bottom");
    for _ in 0..200 {
        value = AnyValue { value: Some(Value::ArrayValue(ArrayValue { values: vec![value] })) };
    }
    request.resource_logs[0].scope_logs[0].log_records[0].body = Some(value);
    let answer = post(&setup, PROTOBUF, request.encode_to_vec()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn errors_are_rpc_statuses_in_the_request_s_encoding() {
    let setup = setup();
    let answer = post(&setup, PROTOBUF, &b"\x0a\xff"[..]).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let status = RpcStatus::decode(answer.body).unwrap();
    assert_eq!(status.code, tonic::Code::InvalidArgument as i32);
    assert!(status.message.starts_with("malformed protobuf message: "), "{}", status.message);

    for body in ["", "{", "[]", r#"{"resourceLogs":1}"#, r#"{"resourceLogs":[1]}"#, &"[".repeat(200)] {
        let answer = post(&setup, JSON, body.to_owned()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(json["code"], 3);
    }
    assert_eq!(post(&setup, &[("content-type", "text/plain")], "x").await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(post(&setup, &[], "x").await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(setup.stores.are_empty());

    *setup.stores.unavailable.lock() = true;
    let answer = post(&setup, PROTOBUF, request().encode_to_vec()).await;
    assert_eq!(
        (answer.status, &answer.headers["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"3".parse().unwrap())
    );
    assert_eq!(RpcStatus::decode(answer.body).unwrap().code, tonic::Code::Unavailable as i32);
}

#[tokio::test]
async fn an_empty_request_is_good() {
    let setup = setup();
    assert_eq!(post(&setup, PROTOBUF, Bytes::new()).await.status, StatusCode::OK);
    assert_eq!(post(&setup, JSON, "{}").await.status, StatusCode::OK);
    assert!(setup.stores.are_empty());
}

#[tokio::test]
async fn json_values_of_every_type() {
    let setup = setup();
    let body = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{},"attributes":[
        {"key":"i","value":{"intValue":"-7"}},{"key":"j","value":{"intValue":7}},
        {"key":"d","value":{"doubleValue":1}},{"key":"n","value":{"doubleValue":"NaN"}},
        {"key":"b","value":{"boolValue":true}},{"key":"y","value":{"bytesValue":"AQI="}},
        {"key":"u","value":{"bytesValue":"-_8"}},
        {"key":"a","value":{"arrayValue":{"values":[{"intValue":1},{}]}}},{"key":"e"}]}]}]}]}"#;
    assert_eq!(post(&setup, JSON, body).await.status, StatusCode::OK);
    let batch = setup.stores.log_batch();
    let attributes = &batch.groups[0].records[0].attributes[1..];
    let values: Vec<_> = attributes.iter().map(|(_, v)| v.clone()).collect();
    assert!(matches!(values[3], AttributeValue::Double(d) if d.is_nan()));
    assert_eq!(values[..3], [AttributeValue::Int(-7), AttributeValue::Int(7), AttributeValue::Double(1.0)]);
    assert_eq!(
        values[4..],
        [
            AttributeValue::Bool(true),
            AttributeValue::Bytes(vec![1, 2]),
            AttributeValue::Bytes(vec![0xfb, 0xff]),
            AttributeValue::Array(vec![AttributeValue::Int(1), AttributeValue::Null]),
            AttributeValue::Null
        ]
    );
}
