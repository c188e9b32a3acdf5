//! JSON lines, Splunk's HEC, Datadog, journald.

use bytes::Bytes;
use http::StatusCode;
use trefoil_ingest::hec::Fault;
use trefoil_ingest::journald::Parser;
use trefoil_ingest::{Answer, FieldOptions, HecOutcome, IngestError};
use trefoil_runtime::limits::Limits;

use crate::support::{NOW_MS, Setup, gzip, headers, setup, shown_logs, text};

const TIME: &str = "2023-11-14T22:13:20.000000007Z";

async fn lines(setup: &Setup, body: &str, options: FieldOptions) -> Answer {
    setup.ingest.json_lines(&headers(&[]), Bytes::copy_from_slice(body.as_bytes()), options).await
}

fn streams(names: &[&str]) -> FieldOptions {
    FieldOptions { streams: names.iter().map(|n| (*n).to_owned()).collect(), ..FieldOptions::default() }
}

#[tokio::test]
async fn json_lines_as_the_bench_sends_them() {
    let setup = setup();
    let body = format!(
        "{{\"_time\":\"{TIME}\",\"_msg\":\"a \\\"b\\\"\\n\",\"service\":\"s\",\"namespace\":\"n\",\"pod\":\"p\",\"level\":\"warn\",\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\"}}\r\n\n\
         {{\"time\":1700000000.5,\"msg\":\"c\",\"service\":\"s\",\"namespace\":\"n\",\"pod\":\"p\"}}"
    );
    let answer = lines(&setup, &body, streams(&["service", "namespace", "pod"])).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    let stream = r#"{namespace="n", pod="p", service="s", service_name="s"}"#;
    assert_eq!(
        shown_logs(&setup.stores.log_batch()),
        [
            format!("{stream} +7 a \"b\"\n [detected_level=\"warn\" level=\"warn\"]  0af7651916cd43dd8448eb211c80319c"),
            format!("{stream} +500000000 c [detected_level=\"unknown\"]"),
        ]
    );
}

#[tokio::test]
async fn bad_lines_are_named_and_others_stored() {
    let setup = setup();
    let body = format!(
        "{{\"_msg\":\"a\"}}\nnot json\n{{\"_msg\":\"b\",\"_time\":\"x\"}}\n{{\"_msg\":\"c\",\"_time\":{NOW_MS}}}\n{{}}"
    );
    let answer = lines(&setup, &body, FieldOptions::default()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let told = text(&answer);
    assert!(told.starts_with("2 entries were rejected, all others are stored: line 2 \"not json\": "), "{told}");
    assert!(
        told.contains(
            "line 3 \"{\\\"_msg\\\":\\\"b\\\",\\\"_time\\\":\\\"x\\\"}\": field \"_time\": \"x\" is not a time"
        ),
        "{told}"
    );
    let texts: Vec<_> = setup.stores.log_batch().groups[0].records.iter().map(|r| r.text.clone()).collect();
    assert_eq!(texts, ["a", "c", "{}"]);
}

async fn hec(setup: &Setup, body: &str) -> Result<HecOutcome, IngestError> {
    let metadata = [None, Some("main".to_owned()), None, None];
    let body = Bytes::copy_from_slice(body.as_bytes());
    setup.ingest.hec_events(&headers(&[]), body, metadata, FieldOptions::default()).await
}

#[tokio::test]
async fn hec_events_are_stored() {
    let setup = setup();
    let body = r#"{"time":1700000000.000000007,"host":"h","source":"s","sourcetype":"t","event":"plain"}
        {"time":"1700000000.25","event":{"message":"m","severity":"ERROR","host":"inner","n":1},"fields":{"k":"v"}}{"event":{"no":"text"},"index":"other"}"#;
    assert_eq!(hec(&setup, body).await.unwrap(), HecOutcome { fault: None });
    assert_eq!(
        shown_logs(&setup.stores.log_batch()),
        [
            r#"{host="h", index="main", service_name="unknown_service", source="s", sourcetype="t"} +7 plain [detected_level="unknown"]"#,
            r#"{index="main", service_name="unknown_service"} +250000000 m [detected_level="error" host="inner" n=1 k="v"] ERROR"#,
            r#"{index="other", service_name="unknown_service"} +0 {"no":"text"} [detected_level="unknown" no="text"]"#,
        ]
    );
}

#[tokio::test]
async fn bad_hec_events_have_splunks_numbers() {
    for (body, fault, stored) in [
        ("", Some((Fault::NoData, 0)), 0),
        ("  \n", Some((Fault::NoData, 0)), 0),
        (r#"{"host":"h"}"#, Some((Fault::NoEvent, 0)), 0),
        (r#"{"event":"a"}{"event":""}{"event":"b"}"#, Some((Fault::BlankEvent, 1)), 2),
        (r#"{"event":"a"} nonsense"#, Some((Fault::InvalidData, 1)), 1),
        (r#"{"event":"a","time":"noon"}{"event":1}"#, Some((Fault::InvalidData, 0)), 1),
        (r#"[{"event":"a"},{"event":"b"}]"#, None, 2),
    ] {
        let setup = setup();
        assert_eq!(hec(&setup, body).await.unwrap().fault, fault, "{body}");
        let count: usize = setup.stores.logs.lock().iter().map(trefoil_model::LogBatch::record_count).sum();
        assert_eq!(count, stored, "{body}");
    }
}

#[tokio::test]
async fn hec_lines_are_records() {
    let setup = setup();
    let metadata = [Some("h".to_owned()), None, None, Some("nginx".to_owned())];
    let body = Bytes::from_static(b"error: one\r\n\ntwo\n");
    setup.ingest.hec_raw(&headers(&[]), body, metadata, FieldOptions::default()).await.unwrap();
    let stream = r#"{host="h", service_name="unknown_service", sourcetype="nginx"}"#;
    assert_eq!(
        shown_logs(&setup.stores.log_batch()),
        [
            format!("{stream} +0 error: one [detected_level=\"error\"]"),
            format!("{stream} +0 two [detected_level=\"unknown\"]"),
        ]
    );
}

#[tokio::test]
async fn datadog_logs_are_stored() {
    let setup = setup();
    let body = format!(
        r#"[{{"message":"m","status":"warning","service":"web","hostname":"h","ddsource":"nginx","ddtags":"env:prod,team:a,flag","timestamp":{NOW_MS},"http":{{"code":200}}}},
           {{"message":"bad time","timestamp":"noon"}}]"#
    );
    let zipped = headers(&[("content-encoding", "gzip")]);
    let answer = setup.ingest.datadog_logs(&zipped, gzip(body.as_bytes()), FieldOptions::default()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(text(&answer).contains("log 2"), "{}", text(&answer));
    assert_eq!(
        shown_logs(&setup.stores.log_batch()),
        [
            r#"{ddsource="nginx", env="prod", hostname="h", service="web", service_name="web"} +0 m [detected_level="warn" http.code=200 team="a" flag=""] warning"#
        ]
    );
    let one = Bytes::from_static(br#"{"message":"one"}"#);
    let answer = setup.ingest.datadog_logs(&headers(&[]), one, FieldOptions::default()).await;
    assert_eq!((answer.status, text(&answer)), (StatusCode::ACCEPTED, "{}".to_owned()));
    for (body, status) in [("", 202), ("[]", 202), ("x", 400), ("[{]", 400)] {
        let body = Bytes::from_static(body.as_bytes());
        let answer = setup.ingest.datadog_logs(&headers(&[]), body, FieldOptions::default()).await;
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn gelf_messages_are_stored() {
    let setup = setup();
    let one = |text: &str| {
        format!(
            "{{\"version\":\"1.1\",\"host\":\"h\",\"short_message\":\"{text}\",\"timestamp\":1700000000.25,\"level\":4,\"_app\":\"web\"}}"
        )
    };
    let answer = setup.ingest.gelf_http(&headers(&[]), gzip(one("a").as_bytes())).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::ACCEPTED, 0));
    let list = format!("{}\n{{}}\n{}\n", one("b"), one("c"));
    let answer = setup.ingest.gelf_http(&headers(&[]), list.into()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(text(&answer).starts_with("1 messages were rejected, all others are stored: "), "{}", text(&answer));
    let stored: Vec<String> = setup.stores.logs.lock().iter().flat_map(shown_logs).collect();
    assert_eq!(
        stored,
        ["a", "b", "c"].map(|t| {
            format!("{{host=\"h\", service_name=\"web\"}} +250000000 {t} [detected_level=\"warn\" app=\"web\"] warning")
        })
    );
}

#[tokio::test]
async fn journal_entries_are_stored_once() {
    let setup = setup();
    let body = b"__CURSOR=s=1\n__REALTIME_TIMESTAMP=1700000000000001\n__MONOTONIC_TIMESTAMP=5\n_HOSTNAME=h\n_SYSTEMD_UNIT=ssh.service\nPRIORITY=2\n_PID=7\nMESSAGE=in\n\n\
        __CURSOR=s=2\n__REALTIME_TIMESTAMP=1700000000000002\nSYSLOG_IDENTIFIER=kernel\nMESSAGE=oops\n\n";
    let mut entries = Vec::new();
    let mut parser = Parser::new(&Limits::default());
    parser.feed(body, &mut entries).unwrap();
    for _ in 0..2 {
        let report = setup.ingest.journal_entries(entries.clone(), &FieldOptions::default()).await.unwrap();
        assert_eq!(report.rejected, 0);
    }
    assert_eq!(
        shown_logs(&setup.stores.log_batch()),
        [
            r#"{host="h", service_name="ssh", unit="ssh.service"} +1000 in [detected_level="critical" _PID="7"] crit"#,
            r#"{service_name="kernel"} +2000 oops [detected_level="unknown" SYSLOG_IDENTIFIER="kernel"]"#,
        ]
    );
}

#[tokio::test]
async fn no_memory_is_said() {
    let setup = crate::support::setup_with(
        Limits::default(),
        trefoil_runtime::memory::Accountant::new(1 << 20),
        trefoil_ingest::IngestOptions::default(),
    );
    let body = format!("{{\"_msg\":\"{}\"}}\n", "x".repeat(300_000));
    let answer = lines(&setup, &body, FieldOptions::default()).await;
    assert!(matches!(answer.status.as_u16(), 413 | 503), "{}", answer.status);
    assert!(setup.stores.are_empty());
}
