//! Jaeger's spans: thrift over HTTP and in datagrams of clients that speak to an agent, protobuf over gRPC
//! (<https://www.jaegertracing.io/docs/1.76/architecture/apis/>), mapped as OpenTelemetry's collector maps them.
//!
//! | Jaeger | here |
//! | --- | --- |
//! | process | the resource; `hostname` is `host.name`, `jaeger.version` is `opencensus.exporterversion` |
//! | parent id, else the first reference "child of" (else "follows from") in the trace | the parent |
//! | other references | links with `opentracing.ref_type` |
//! | tags `span.kind`, `w3c.tracestate`, `otel.scope.*` | kind, trace state, scope |
//! | tag `error` (a boolean), else `otel.status_code`, else `http.status_code` | the status |
//! | logs | events; the field `event` is the name |

mod batch;
mod draft;
pub mod proto;
mod thrift;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use trefoil_model::{TraceBatch, WriteReport};

use self::draft::Drafts;
use self::proto::{PostSpansRequest, PostSpansResponse};
use self::thrift::ThriftError;
use crate::answer::grpc_status;
use crate::body::{Encoding, media_type};
use crate::ingest::{Context, Ingest, finish, merge, refused};
use crate::otlp::Outcome;
use crate::otlp::traces::Converted;
use crate::{Answer, IngestError, counters};

/// Memory that decoding takes, as a multiple of the inflated body: small tags and spans grow most.
const THRIFT_FACTOR: u64 = 8;

/// Spans that came by a socket and are not stored yet.
#[derive(Debug, Clone, Default)]
pub struct ReceivedSpans {
    batch: TraceBatch,
    /// What was refused.
    report: WriteReport,
}

impl ReceivedSpans {
    /// How many spans there are.
    pub fn len(&self) -> usize {
        self.batch.span_count()
    }

    /// True when there is nothing to write and nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.batch.groups.is_empty() && self.report.rejected == 0
    }

    /// Approximate bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.batch.heap_bytes()
    }

    /// Adds others at the end.
    pub fn append(&mut self, other: Self) {
        let Self { batch, report } = other;
        self.batch.tenant = batch.tenant;
        self.batch.groups.extend(batch.groups);
        merge(&mut self.report, report);
    }
}

impl Ingest {
    /// Takes a `Batch` in thrift's binary encoding: 202 when all is stored; 400 names the spans that are not, all others
    /// are stored.
    pub async fn jaeger_http(&self, headers: &HeaderMap, body: Bytes) -> Answer {
        counters::bytes(counters::JAEGER_HTTP, body.len() as u64);
        let result = self.try_jaeger_http(headers, body).await;
        finish(counters::JAEGER_HTTP, result.unwrap_or_else(|e| refused(counters::JAEGER_HTTP, &e)))
    }

    async fn try_jaeger_http(&self, headers: &HeaderMap, body: Bytes) -> Result<Answer, IngestError> {
        let encoding = Encoding::from_headers(headers)?;
        match media_type(headers).as_str() {
            "application/x-thrift" | "application/vnd.apache.thrift.binary" | "" => {}
            other => {
                return Err(IngestError::Unsupported(format!(
                    "content type {other:?} is not supported; send application/x-thrift"
                )));
            }
        }
        let decode = |context: &Context, bytes: Bytes| {
            let mut drafts = Drafts::new(context);
            batch::read(&bytes, thrift::Encoding::Binary, &mut drafts).map_err(malformed)?;
            Ok(drafts.finish())
        };
        let (converted, _memory) = self.decode(encoding, body, THRIFT_FACTOR, decode).await?;
        let outcome = self.write_spans(counters::JAEGER_HTTP, converted).await?;
        Ok(match refusal(&outcome) {
            None => Answer::empty(StatusCode::ACCEPTED),
            Some(text) => Answer::text(StatusCode::BAD_REQUEST, &text),
        })
    }

    /// Takes the argument of `jaeger.api_v2.CollectorService/PostSpans`. `INVALID_ARGUMENT` names the spans that are not
    /// stored; all others are.
    pub async fn jaeger_grpc(&self, request: PostSpansRequest) -> Result<PostSpansResponse, tonic::Status> {
        const PROTOCOL: &str = counters::JAEGER_GRPC;
        counters::bytes(PROTOCOL, prost::Message::encoded_len(&request) as u64);
        let outcome = async {
            let convert = |request, context: &Context| {
                let mut drafts = Drafts::new(context);
                proto::each(request, &mut drafts);
                drafts.finish()
            };
            let (converted, _memory) = self.convert(request, convert).await?;
            self.write_spans(PROTOCOL, converted).await
        };
        let error = match outcome.await {
            Ok(outcome) => match refusal(&outcome) {
                None => {
                    counters::request(PROTOCOL, 200);
                    return Ok(PostSpansResponse {});
                }
                Some(text) => {
                    counters::request(PROTOCOL, 400);
                    return Err(tonic::Status::invalid_argument(text));
                }
            },
            Err(error) => error,
        };
        counters::request(PROTOCOL, error.status().as_u16());
        counters::rejected(PROTOCOL, error.reason(), 1);
        Err(grpc_status(&error))
    }

    /// Reads a datagram that a client sent to an agent: a call of `emitBatch`, compact or binary.
    ///
    /// Errors: `Malformed` when it is no such call, `Unsupported` when it calls something else.
    pub fn jaeger_datagram(&self, datagram: &[u8]) -> Result<ReceivedSpans, IngestError> {
        let mut drafts = Drafts::new(&self.context);
        if !batch::read_call(datagram, &mut drafts).map_err(malformed)? {
            return Err(IngestError::Unsupported("only calls of emitBatch are taken".to_owned()));
        }
        let Converted { batch, report } = drafts.finish();
        Ok(ReceivedSpans { batch, report })
    }

    /// Writes spans that came by a socket, all in one durable write; what cannot be kept is left out, counted under
    /// `protocol` and named in the log.
    ///
    /// Errors: `Unavailable` when nothing was stored and trying again may help; any other when it cannot help.
    pub async fn write_received_spans(&self, protocol: &'static str, spans: ReceivedSpans) -> Result<(), IngestError> {
        let ReceivedSpans { batch, mut report } = spans;
        let refused = report.rejected;
        if !batch.groups.is_empty() {
            let stored = self.events.write_spans(batch).await?;
            counters::spans(protocol, stored.accepted);
            counters::rejected(protocol, "store", stored.rejected);
            merge(&mut report, stored);
        }
        // Only now, since the caller may try again.
        counters::rejected(protocol, "invalid", refused);
        if report.rejected > 0 {
            self.log_refusal(protocol, &report);
        }
        Ok(())
    }
}

fn malformed(error: ThriftError) -> IngestError {
    IngestError::Malformed(format!("malformed thrift: {error}"))
}

fn refusal(outcome: &Outcome) -> Option<String> {
    (outcome.rejected > 0)
        .then(|| format!("{} spans were rejected, all others are stored: {}", outcome.rejected, outcome.message))
}
