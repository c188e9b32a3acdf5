//! OpenTelemetry protocol: logs, traces and metrics, over HTTP (protobuf and JSON) and gRPC
//! (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! Both transports decode to the messages of `opentelemetry-proto`; [`logs`], [`traces`] and [`metrics`] turn those into
//! batches; a record that cannot be taken is rejected alone, with its reason in `partial_success`.

pub mod attributes;
pub mod grpc;
pub mod json;
mod json_metrics;
pub mod logs;
pub mod metrics;
pub mod traces;

use http::StatusCode;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;
use trefoil_model::WriteReport;

use crate::Answer;
use crate::answer::OtlpEncoding;

/// The three signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// `/v1/logs`
    Logs,
    /// `/v1/traces`
    Traces,
    /// `/v1/metrics`
    Metrics,
}

/// What became of a request that was stored, at least in part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Records, spans or data points that were refused.
    pub rejected: u64,
    /// Why, "" when none were.
    pub message: String,
}

impl From<WriteReport> for Outcome {
    fn from(report: WriteReport) -> Self {
        Self { rejected: report.rejected, message: report.reasons.join("; ") }
    }
}

impl Outcome {
    fn is_full(&self) -> bool {
        self.rejected == 0 && self.message.is_empty()
    }

    fn rejected(&self) -> i64 {
        i64::try_from(self.rejected).unwrap_or(i64::MAX)
    }

    /// The response message for logs.
    pub fn logs(self) -> ExportLogsServiceResponse {
        let partial_success = (!self.is_full())
            .then(|| ExportLogsPartialSuccess { rejected_log_records: self.rejected(), error_message: self.message });
        ExportLogsServiceResponse { partial_success }
    }

    /// The response message for traces.
    pub fn traces(self) -> ExportTraceServiceResponse {
        let partial_success = (!self.is_full())
            .then(|| ExportTracePartialSuccess { rejected_spans: self.rejected(), error_message: self.message });
        ExportTraceServiceResponse { partial_success }
    }

    /// The response message for metrics.
    pub fn metrics(self) -> ExportMetricsServiceResponse {
        let partial_success = (!self.is_full()).then(|| ExportMetricsPartialSuccess {
            rejected_data_points: self.rejected(),
            error_message: self.message,
        });
        ExportMetricsServiceResponse { partial_success }
    }

    /// The HTTP answer, in the request's encoding.
    pub fn answer(self, signal: Signal, encoding: OtlpEncoding) -> Answer {
        let body = match encoding {
            OtlpEncoding::Protobuf => match signal {
                Signal::Logs => self.logs().encode_to_vec(),
                Signal::Traces => self.traces().encode_to_vec(),
                Signal::Metrics => self.metrics().encode_to_vec(),
            },
            OtlpEncoding::Json if self.is_full() => b"{}".to_vec(),
            OtlpEncoding::Json => {
                let count = match signal {
                    Signal::Logs => "rejectedLogRecords",
                    Signal::Traces => "rejectedSpans",
                    Signal::Metrics => "rejectedDataPoints",
                };
                // 64-bit numbers are texts in protobuf's JSON mapping.
                serde_json::json!({
                    "partialSuccess": { count: self.rejected.to_string(), "errorMessage": self.message }
                })
                .to_string()
                .into_bytes()
            }
        };
        Answer::with_body(StatusCode::OK, encoding.content_type(), body)
    }
}

/// Nanoseconds of the wire as the model has them; `None` when they are 0 or beyond the year 2262.
pub(crate) fn nanoseconds(wire: u64) -> Option<i64> {
    i64::try_from(wire).ok().filter(|n| *n > 0)
}
