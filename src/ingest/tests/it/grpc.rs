//! The gRPC services, over a real connection on the loopback.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::metrics::v1::Gauge;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use trefoil_ingest::IngestOptions;
use trefoil_ingest::answer::{RetryInfo, RpcStatus};
use trefoil_ingest::otlp::grpc::services;
use trefoil_runtime::limits::Limits;
use trefoil_runtime::memory::{Accountant, Pool};

use crate::support::{Setup, setup, setup_with, string};
use crate::{otlp_logs, otlp_metrics, otlp_traces};

/// Runs `test` against a server of the three services.
async fn serve<F: Future<Output = ()>>(setup: &Setup, test: impl FnOnce(Channel) -> F) {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let (logs, traces, metrics) = services(&setup.ingest);
    let server =
        Server::builder().add_service(logs).add_service(traces).add_service(metrics).serve_with_incoming(incoming);
    let client = async {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        test(channel).await;
    };
    tokio::select! {
        result = server => panic!("server ended: {result:?}"),
        () = client => {}
    }
}

#[tokio::test]
async fn the_three_signals_in_all_encodings() {
    let setup = setup();
    serve(&setup, |channel| async move {
        for encoding in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
            let mut client = LogsServiceClient::new(channel.clone());
            if let Some(encoding) = encoding {
                client = client.send_compressed(encoding);
            }
            let response = client.export(otlp_logs::request()).await.unwrap().into_inner();
            assert_eq!(response.partial_success, None);
        }
        let spans = vec![otlp_traces::span("a"), Span { trace_id: vec![1], ..otlp_traces::span("b") }];
        let mut client = TraceServiceClient::new(channel.clone());
        let response = client.export(otlp_traces::request(spans)).await.unwrap().into_inner();
        assert_eq!(response.partial_success.unwrap().rejected_spans, 1);
        let gauge = Data::Gauge(Gauge { data_points: vec![otlp_metrics::number(1.0)] });
        let metrics = vec![otlp_metrics::metric("g", "", gauge)];
        let mut client = MetricsServiceClient::new(channel);
        let response = client.export(otlp_metrics::request(vec![], metrics)).await.unwrap().into_inner();
        assert_eq!(response.partial_success, None);
    })
    .await;
    assert_eq!(setup.stores.logs.lock().len(), 3);
    assert_eq!(setup.stores.traces.lock()[0].span_count(), 1);
    assert_eq!(setup.stores.metric_batch().floats.len(), 1);
}

#[tokio::test]
async fn overload_is_unavailable_with_retry_info() {
    let setup = setup();
    *setup.stores.unavailable.lock() = true;
    serve(&setup, |channel| async move {
        let status = LogsServiceClient::new(channel).export(otlp_logs::request()).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "disk is full"));
        let details = RpcStatus::decode(status.details()).unwrap();
        assert_eq!(details.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
        let delay = RetryInfo::decode(&details.details[0].value[..]).unwrap().retry_delay.unwrap();
        assert_eq!((delay.seconds, delay.nanos), (2, 500_000_000));
    })
    .await;
    // No memory left is overload too.
    let accountant = Accountant::new(1 << 20);
    let _others = accountant.try_reserve(Pool::Ingest, 256 << 10).unwrap();
    let setup = setup_with(Limits::default(), accountant, IngestOptions::default());
    serve(&setup, |channel| async move {
        let status = LogsServiceClient::new(channel).export(otlp_logs::request()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
    })
    .await;
}

#[tokio::test]
async fn messages_are_bounded_while_they_inflate() {
    let limits = Limits { body_inflated_bytes_max: 100_000, ..Limits::default() };
    let setup = setup_with(limits, Accountant::unlimited(), IngestOptions::default());
    serve(&setup, |channel| async move {
        let mut request: ExportLogsServiceRequest = otlp_logs::request();
        request.resource_logs[0].scope_logs[0].log_records[0].body = Some(string(&"x".repeat(1_000_000)));
        for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
            let mut client = LogsServiceClient::new(channel.clone()).send_compressed(encoding);
            let status = client.export(request.clone()).await.unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        }
    })
    .await;
    assert!(setup.stores.are_empty());
}
