//! The three collector services over gRPC.

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::{logs, metrics, traces};
use crate::answer::grpc_status;
use crate::{Ingest, IngestError, counters};

/// Serves the OTLP collector services from an [`Ingest`].
#[derive(Clone)]
pub struct OtlpGrpc {
    ingest: Ingest,
}

/// The services, ready to be mounted: gzip and zstd are taken, messages are bounded while they inflate.
pub fn services(
    ingest: &Ingest,
) -> (LogsServiceServer<OtlpGrpc>, TraceServiceServer<OtlpGrpc>, MetricsServiceServer<OtlpGrpc>) {
    let message_bytes_max = usize::try_from(ingest.limits().body_inflated_bytes_max).unwrap_or(usize::MAX);
    let service = OtlpGrpc { ingest: ingest.clone() };
    (
        LogsServiceServer::new(service.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(message_bytes_max),
        TraceServiceServer::new(service.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(message_bytes_max),
        MetricsServiceServer::new(service)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(message_bytes_max),
    )
}

#[tonic::async_trait]
impl LogsService for OtlpGrpc {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let request = received(request);
        let outcome = async {
            let (converted, _memory) = self.ingest.convert(request, logs::convert).await?;
            self.ingest.write_logs(counters::OTLP_GRPC, converted).await
        };
        answered(outcome.await.map(super::Outcome::logs))
    }
}

#[tonic::async_trait]
impl TraceService for OtlpGrpc {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = received(request);
        let outcome = async {
            let (converted, _memory) = self.ingest.convert(request, traces::convert).await?;
            self.ingest.write_spans(counters::OTLP_GRPC, converted).await
        };
        answered(outcome.await.map(super::Outcome::traces))
    }
}

#[tonic::async_trait]
impl MetricsService for OtlpGrpc {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let request = received(request);
        let outcome = async {
            let (converted, _memory) = self.ingest.convert(request, metrics::convert).await?;
            self.ingest.write_metrics(counters::OTLP_GRPC, converted).await
        };
        answered(outcome.await.map(super::Outcome::metrics))
    }
}

fn received<M: Message>(request: Request<M>) -> M {
    let request = request.into_inner();
    counters::bytes(counters::OTLP_GRPC, request.encoded_len() as u64);
    request
}

/// Counts by the HTTP status that the outcome would have, so that both transports read alike.
fn answered<R>(outcome: Result<R, IngestError>) -> Result<Response<R>, Status> {
    match outcome {
        Ok(response) => {
            counters::request(counters::OTLP_GRPC, 200);
            Ok(Response::new(response))
        }
        Err(error) => {
            counters::request(counters::OTLP_GRPC, error.status().as_u16());
            counters::rejected(counters::OTLP_GRPC, error.reason(), 1);
            Err(grpc_status(&error))
        }
    }
}
