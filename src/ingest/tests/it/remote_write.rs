//! Remote write 1.0.

use http::StatusCode;
use prost::Message;
use trefoil_ingest::{Answer, IngestOptions};
use trefoil_model::{CounterResetHint, MetricKind};
use trefoil_runtime::limits::Limits;
use trefoil_runtime::memory::{Accountant, Pool};

use crate::support::{NOW_MS, Setup, headers, samples, setup, setup_with, snappy, text};

#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub exemplars: Vec<WireExemplar>,
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<WireHistogram>,
}

/// Name and value are bytes, so that tests can send what is not UTF-8.
#[derive(Clone, PartialEq, Message)]
pub struct Label {
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct WireExemplar {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(double, tag = "2")]
    pub value: f64,
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct WireHistogram {
    #[prost(uint64, optional, tag = "1")]
    pub count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub count_float: Option<f64>,
    #[prost(double, tag = "3")]
    pub sum: f64,
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    pub zero_count_int: Option<u64>,
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<WireSpan>,
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct WireSpan {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub help: String,
    #[prost(string, tag = "5")]
    pub unit: String,
}

pub fn series(labels: &[(&str, &str)], samples: &[(f64, i64)]) -> TimeSeries {
    TimeSeries {
        labels: labels.iter().map(|(n, v)| Label { name: (*n).into(), value: (*v).into() }).collect(),
        samples: samples.iter().map(|(value, t)| Sample { value: *value, timestamp: *t }).collect(),
        ..TimeSeries::default()
    }
}

pub fn request() -> WriteRequest {
    let mut with_all = series(&[("__name__", "b"), ("job", "x")], &[]);
    with_all.histograms.push(WireHistogram {
        count_int: Some(6),
        sum: 9.5,
        schema: 1,
        zero_threshold: 0.001,
        zero_count_int: Some(1),
        positive_spans: vec![WireSpan { offset: -1, length: 2 }, WireSpan { offset: 3, length: 1 }],
        positive_deltas: vec![1, 1, 0],
        reset_hint: 2,
        timestamp: NOW_MS,
        ..WireHistogram::default()
    });
    with_all.exemplars.push(WireExemplar {
        labels: vec![Label { name: "trace_id".into(), value: "abc".into() }],
        value: 0.5,
        timestamp: NOW_MS,
    });
    WriteRequest {
        timeseries: vec![
            series(&[("__name__", "a"), ("env", "ü"), ("job", "x")], &[(1.5, NOW_MS), (2.0, NOW_MS + 1)]),
            with_all,
        ],
        metadata: vec![Metadata { kind: 1, name: "a".into(), help: "An a.".into(), unit: "s".into() }],
    }
}

async fn push(setup: &Setup, request: &WriteRequest) -> Answer {
    setup.ingest.remote_write(&headers(&[]), snappy(&request.encode_to_vec())).await
}

#[tokio::test]
async fn everything_of_a_request_is_stored() {
    let setup = setup();
    let answer = push(&setup, &request()).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::NO_CONTENT, 0));
    let batch = setup.stores.metric_batch();
    assert_eq!(
        samples(&batch),
        [
            format!("{{__name__=\"a\", env=\"ü\", job=\"x\"}} 1.5@{NOW_MS}"),
            format!("{{__name__=\"a\", env=\"ü\", job=\"x\"}} 2@{}", NOW_MS + 1),
        ]
    );
    let h = &batch.histograms[0];
    assert_eq!((h.series, h.t_ms, h.value.count, h.value.zero_count), (1, NOW_MS, 6.0, 1.0));
    assert_eq!(h.value.positive().collect::<Vec<_>>(), [(-1, 1.0), (0, 2.0), (4, 2.0)]);
    assert!(h.value.integer);
    assert_eq!(h.value.counter_reset_hint, CounterResetHint::NotCounterReset);
    assert_eq!(batch.exemplars[0].labels.get("trace_id"), Some("abc"));
    assert_eq!(batch.metadata[0].kind, MetricKind::Counter);
    assert_eq!(setup.accountant.used(Pool::Ingest), 0);
}

#[tokio::test]
async fn unsorted_labels_are_sorted_and_bad_ones_refused() {
    let setup = setup();
    let mut not_utf8 = series(&[("__name__", "c"), ("x", "")], &[(1.0, NOW_MS)]);
    not_utf8.labels[1].value = vec![0xff];
    let request = WriteRequest {
        timeseries: vec![
            series(&[("z", "1"), ("__name__", "a"), ("b", "")], &[(1.0, NOW_MS)]),
            series(&[("__name__", "dup"), ("a", "1"), ("a", "2")], &[(1.0, NOW_MS)]),
            series(&[("a", "no name")], &[(1.0, NOW_MS)]),
            series(&[("__name__", "e"), ("", "empty name")], &[(1.0, NOW_MS)]),
            not_utf8,
        ],
        metadata: vec![],
    };
    let answer = push(&setup, &request).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let said = text(&answer);
    for part in [
        "4 items were rejected, all others are stored: ",
        r#"series {__name__="dup", a="1", a="2"}: a label occurs twice"#,
        r#"series {a="no name"}: it has no metric name"#,
        r#"series {__name__="e"}: a label has no name"#,
        r#"series {__name__="c"}: a label is not valid UTF-8"#,
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // The good part is stored.
    assert_eq!(samples(&setup.stores.metric_batch()), [format!("{{__name__=\"a\", z=\"1\"}} 1@{NOW_MS}")]);
}

#[tokio::test]
async fn labels_written_in_other_ways_read_alike() {
    let setup = setup();
    let plain = series(&[("__name__", "a"), ("job", "x")], &[(1.0, NOW_MS)]);
    // A value of 200 bytes has a long length; a label after the samples; a value before its name.
    let long = series(&[("__name__", "a"), ("job", &"ü".repeat(100))], &[(1.0, NOW_MS)]);
    let mut late = series(&[("job", "x")], &[(1.0, NOW_MS)]).encode_to_vec();
    late.extend_from_slice(b"\x0a\x0d\x0a\x08__name__\x12\x01a");
    let turned = b"\x0a\x0d\x12\x01a\x0a\x08__name__\x0a\x08\x0a\x03job\x12\x01x\x12\x02\x10\x05";
    let mut message = Vec::new();
    for series in [&plain.encode_to_vec()[..], &long.encode_to_vec(), &late, turned] {
        message.push(0x0a);
        prost::encoding::encode_varint(series.len() as u64, &mut message);
        message.extend_from_slice(series);
    }
    assert_eq!(setup.ingest.remote_write(&headers(&[]), snappy(&message)).await.status, StatusCode::NO_CONTENT);
    let batch = setup.stores.metric_batch();
    let a = r#"{__name__="a", job="x"}"#;
    let shown: Vec<String> = batch.series.iter().map(ToString::to_string).collect();
    assert_eq!(shown, [a, &format!("{{__name__=\"a\", job=\"{}\"}}", "ü".repeat(100)), a, a]);
    assert_eq!((batch.floats.len(), batch.floats[3].t_ms), (4, 5));
}

#[tokio::test]
async fn what_breaks_a_limit_is_refused_alone_and_named() {
    let setup = setup();
    let request = WriteRequest {
        timeseries: vec![
            series(&[("__name__", "good")], &[(1.0, NOW_MS)]),
            series(&[("__name__", "long"), ("a", &"x".repeat(8193))], &[(1.0, NOW_MS)]),
            series(&[("__name__", "future")], &[(1.0, NOW_MS + 600_000), (1.0, NOW_MS + 600_001)]),
        ],
        metadata: vec![],
    };
    let answer = push(&setup, &request).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let text = text(&answer);
    assert!(text.starts_with("2 items were rejected, all others are stored: "), "{text}");
    assert!(text.contains("series of metric \"long\": value of label \"a\" has 8193 bytes"), "{text}");
    assert!(text.contains("metric \"future\" at 1700000600001 is too far in the future"), "{text}");
    assert_eq!(setup.stores.metric_batch().floats.len(), 2);
}

#[tokio::test]
async fn count_limits_refuse_the_request() {
    let limits = Limits { series_per_request_max: 2, samples_per_request_max: 3, ..Limits::default() };
    let setup = setup_with(limits, Accountant::unlimited(), IngestOptions::default());
    let request = |counts: &[i64]| WriteRequest {
        timeseries: counts
            .iter()
            .map(|n| {
                let samples: Vec<_> = (0..*n).map(|i| (1.0, NOW_MS - i)).collect();
                series(&[("__name__", "a")], &samples)
            })
            .collect(),
        metadata: vec![],
    };
    assert_eq!(push(&setup, &request(&[1, 2])).await.status, StatusCode::NO_CONTENT);
    for (counts, want) in [
        (&[1, 3][..], "samples exceeds the limit of 3 (samples_per_request_max)\n"),
        (&[1, 1, 1], "series exceeds the limit of 2 (series_per_request_max)\n"),
    ] {
        let answer = push(&setup, &request(counts)).await;
        assert_eq!((answer.status, text(&answer).as_str()), (StatusCode::BAD_REQUEST, want));
    }
    assert_eq!(setup.stores.metrics.lock().len(), 1);
}

#[tokio::test]
async fn histograms_that_are_not_valid_are_refused_and_fine_ones_reduced() {
    let setup = setup();
    let histogram = |h: WireHistogram| {
        let mut s = series(&[("__name__", "h")], &[]);
        s.histograms.push(WireHistogram { timestamp: NOW_MS, ..h });
        WriteRequest { timeseries: vec![s], metadata: vec![] }
    };
    let spans = |offset, length| vec![WireSpan { offset, length }];
    for (bad, want) in [
        (WireHistogram { schema: -9, ..WireHistogram::default() }, "schema -9"),
        (WireHistogram { positive_spans: spans(0, u32::MAX), ..WireHistogram::default() }, "need 4294967295 buckets"),
        (
            WireHistogram {
                count_int: Some(1),
                positive_spans: spans(0, 1),
                positive_deltas: vec![-1],
                ..WireHistogram::default()
            },
            "negative population",
        ),
    ] {
        let answer = push(&setup, &histogram(bad)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(text(&answer).contains(want), "{}", text(&answer));
    }
    setup.stores.metrics.lock().clear();
    let fine = WireHistogram {
        count_float: Some(3.0),
        schema: 10,
        positive_spans: spans(1, 4),
        positive_counts: vec![0.5, 0.5, 1.0, 1.0],
        ..WireHistogram::default()
    };
    assert_eq!(push(&setup, &histogram(fine)).await.status, StatusCode::NO_CONTENT);
    let batch = setup.stores.metric_batch();
    assert_eq!(batch.histograms[0].value.schema, 8);
    assert_eq!(batch.histograms[0].value.positive().collect::<Vec<_>>(), [(1, 3.0)]);
}

#[tokio::test]
async fn broken_requests_store_nothing() {
    let setup = setup();
    let message = request().encode_to_vec();
    for cut in 1..message.len() {
        let answer = setup.ingest.remote_write(&headers(&[]), snappy(&message[..cut])).await;
        if answer.status != StatusCode::BAD_REQUEST {
            // A cut between two fields is a whole, smaller message.
            assert!(WriteRequest::decode(&message[..cut]).is_ok(), "cut to {cut}");
            continue;
        }
        assert!(text(&answer).contains(" at byte "), "{}", text(&answer));
    }
    setup.stores.metrics.lock().clear();
    for body in [&b""[..], b"not snappy", &message] {
        let answer = setup.ingest.remote_write(&headers(&[]), bytes::Bytes::copy_from_slice(body)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(text(&answer).starts_with("snappy body: "), "{}", text(&answer));
    }
    assert!(setup.stores.are_empty());
}

#[tokio::test]
async fn headers_decide() {
    let setup = setup();
    let body = snappy(&request().encode_to_vec());
    for (pairs, want) in [
        (&[("content-type", "application/x-protobuf"), ("content-encoding", "snappy")][..], 204),
        (&[("content-type", "application/x-protobuf;proto=prometheus.WriteRequest")], 204),
        (&[("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")], 415),
        (&[("content-type", "application/json")], 415),
        (&[("content-encoding", "gzip")], 415),
        (&[("content-encoding", "br")], 415),
    ] {
        let answer = setup.ingest.remote_write(&headers(pairs), body.clone()).await;
        assert_eq!(answer.status.as_u16(), want, "{pairs:?}: {}", text(&answer));
    }
    let zstd = zstd::encode_all(&request().encode_to_vec()[..], 3).unwrap();
    let answer = setup.ingest.remote_write(&headers(&[("content-encoding", "zstd")]), zstd.into()).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_store_that_is_full_makes_the_sender_retry() {
    let setup = setup();
    *setup.stores.unavailable.lock() = true;
    let answer = push(&setup, &request()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers["retry-after"], "3");
    assert_eq!(text(&answer), "disk is full\n");
    assert_eq!(setup.accountant.used(Pool::Ingest), 0);
}

#[tokio::test]
async fn everything_is_counted() {
    // Values of the process' counters; other tests count too, so only differences with a floor can be told.
    let value = |name: &str, labels: &[(&str, &str)]| -> f64 {
        prometheus::gather()
            .iter()
            .filter(|f| f.name() == name)
            .flat_map(|f| f.get_metric())
            .filter(|m| labels.iter().all(|(n, v)| m.get_label().iter().any(|l| l.name() == *n && l.value() == *v)))
            .map(|m| m.get_counter().get_value())
            .sum()
    };
    let protocol = ("protocol", "remote_write");
    let all = || {
        [
            value("trefoil_ingest_requests_total", &[protocol, ("code", "400")]),
            value("trefoil_ingest_samples_total", &[protocol]),
            value("trefoil_ingest_bytes_total", &[protocol]),
            value("trefoil_ingest_rejected_total", &[protocol, ("reason", "invalid_labels")]),
        ]
    };
    let before = all();
    let setup = setup();
    let mut request = request();
    request.timeseries.push(series(&[("no", "name")], &[(1.0, NOW_MS)]));
    push(&setup, &request).await;
    for (now, (before, least)) in all().iter().zip(before.iter().zip([1.0, 3.0, 100.0, 1.0])) {
        assert!(now - before >= least, "{now} after {before}");
    }
}

#[tokio::test]
async fn large_requests_are_decoded_off_the_thread() {
    let setup = setup();
    let request = WriteRequest {
        timeseries: (0..50_000)
            .map(|i| series(&[("__name__", "a"), ("i", &format!("{:x}", i * 7919))], &[(1.0, NOW_MS)]))
            .collect(),
        metadata: vec![],
    };
    assert_eq!(push(&setup, &request).await.status, StatusCode::NO_CONTENT);
    assert_eq!(setup.stores.metric_batch().series.len(), 50_000);
}
