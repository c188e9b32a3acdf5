//! No input panics, whatever its bytes: random ones, and good requests with a few bytes changed.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use trefoil_ingest::Signal;
use trefoil_ingest::remote_write::decode;
use trefoil_runtime::limits::Limits;

use crate::support::{JSON, NOW_MS, PROTOBUF, headers, setup, snappy};
use crate::{loki, otlp_logs, otlp_metrics, otlp_traces, remote_write};

const SIGNALS: [Signal; 3] = [Signal::Logs, Signal::Traces, Signal::Metrics];

/// Sends a message through every door that could take it.
fn send_everywhere(message: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let setup = setup();
        let encoded = snappy(message);
        setup.ingest.remote_write(&headers(&[]), encoded.clone()).await;
        setup.ingest.loki_push(&headers(PROTOBUF), encoded).await;
        setup.ingest.loki_push(&headers(JSON), Bytes::copy_from_slice(message)).await;
        for signal in SIGNALS {
            for kind in [PROTOBUF, JSON] {
                setup.ingest.otlp_http(signal, &headers(kind), Bytes::copy_from_slice(message)).await;
            }
        }
    });
}

fn metrics_request() -> Vec<u8> {
    use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    use opentelemetry_proto::tonic::metrics::v1::{ExponentialHistogram, ExponentialHistogramDataPoint};
    let point = ExponentialHistogramDataPoint {
        scale: 10,
        positive: Some(Buckets { offset: 3, bucket_counts: vec![1, 2, 3] }),
        ..ExponentialHistogramDataPoint::default()
    };
    let exponential = ExponentialHistogram { data_points: vec![point; 2], aggregation_temporality: 1 };
    otlp_metrics::request(
        vec![],
        vec![
            otlp_metrics::metric("a", "s", otlp_metrics::sum(1, true, vec![otlp_metrics::number(1.0)])),
            otlp_metrics::metric("e", "By/s", Data::ExponentialHistogram(exponential)),
        ],
    )
    .encode_to_vec()
}

fn good_requests() -> Vec<Vec<u8>> {
    vec![
        remote_write::request().encode_to_vec(),
        loki::request().encode_to_vec(),
        otlp_logs::request().encode_to_vec(),
        otlp_traces::request(vec![otlp_traces::span("a")]).encode_to_vec(),
        metrics_request(),
        br#"{"streams":[{"stream":{"a":"1"},"values":[["1","level=\"x\" {\"level\":30}",{"k":"v"}]]}]}"#.to_vec(),
        br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"intValue":"1"}}]}]}]}"#.to_vec(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(message in proptest::collection::vec(any::<u8>(), 0..400)) {
        send_everywhere(&message);
    }

    #[test]
    fn changed_requests(
        which in 0usize..7,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut message = good_requests()[which].clone();
        for (index, byte) in changes {
            let i = index.index(message.len());
            message[i] = byte;
        }
        send_everywhere(&message);
    }

    #[test]
    fn remote_write_messages_with_changed_bytes(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut message = remote_write::request().encode_to_vec();
        for (index, byte) in changes {
            let i = index.index(message.len());
            message[i] = byte;
        }
        if let Ok(decoded) = decode(&message, &Limits::default(), NOW_MS) {
            for histogram in &decoded.batch.histograms {
                prop_assert!(histogram.value.validate().is_ok());
            }
            for labels in &decoded.batch.series {
                prop_assert!(trefoil_model::Labels::from_packed(labels.as_packed()).is_some());
            }
        }
    }
}

#[test]
fn every_single_byte_changed_to_extremes() {
    for request in good_requests() {
        for i in 0..request.len() {
            for byte in [0x00, 0x7f, 0x80, 0xff] {
                let mut message = request.clone();
                message[i] = byte;
                send_everywhere(&message);
            }
        }
    }
}

#[test]
fn every_truncation() {
    for request in good_requests() {
        for cut in 0..request.len() {
            send_everywhere(&request[..cut]);
        }
    }
}
