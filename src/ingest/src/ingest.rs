//! The front of the crate: one method a protocol, from headers and body to an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use prost::Message;
use trefoil_model::{EventWriter, MetricBatch, MetricWriter, TenantId, WriteReport};
use trefoil_runtime::clock::SharedClock;
use trefoil_runtime::limits::Limits;
use trefoil_runtime::memory::{Accountant, Reservation};

use crate::answer::OtlpEncoding;
use crate::body::{Encoding, Inflated, grow, inflate, media_type, reserve};
use crate::otlp::metrics::delta::DeltaState;
use crate::otlp::{self, Outcome, Signal, json};
use crate::{Answer, IngestError, counters, loki_push, remote_write};

/// Bodies above this size are decoded on the blocking pool: they take more than about 500 µs.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// Between two log lines about refused items.
const REFUSAL_LOG_MS: i64 = 10_000;
/// Memory that decoding takes, as a multiple of the inflated body, by encoding of the messages.
const REMOTE_WRITE_FACTOR: u64 = 2;
const PROTOBUF_FACTOR: u64 = 4;
const JSON_FACTOR: u64 = 8;

/// What is switchable about ingest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestOptions {
    /// Tenant of everything that comes in. Default 0.
    pub tenant: TenantId,
    /// Add the stream label `service_name` to streams pushed without one. Default true.
    pub discover_service_name: bool,
    /// Add the attribute `detected_level` to log records. Default true.
    pub discover_log_levels: bool,
    /// Resource attributes that become stream labels of OTLP logs. Default: Loki's list.
    pub stream_attributes: Vec<String>,
    /// Resource attributes that become labels of OTLP metrics, beside `job` and `instance`. Default: none.
    pub promote_resource_attributes: Vec<String>,
    /// Add `otel_scope_name`, `otel_scope_version`, `otel_scope_schema_url` and scope attributes to the labels of OTLP
    /// metrics. Default false.
    pub promote_scope_metadata: bool,
    /// Series with delta temporality whose running sums are held. Default 100,000; new ones beyond are rejected.
    pub delta_series_max: usize,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            tenant: TenantId::default(),
            discover_service_name: true,
            discover_log_levels: true,
            stream_attributes: otlp::logs::STREAM_ATTRIBUTES.iter().map(|a| (*a).to_owned()).collect(),
            promote_resource_attributes: Vec::new(),
            promote_scope_metadata: false,
            delta_series_max: 100_000,
        }
    }
}

/// What decoders need.
pub(crate) struct Context {
    pub(crate) limits: Limits,
    pub(crate) options: IngestOptions,
    pub(crate) clock: SharedClock,
    pub(crate) delta: DeltaState,
    /// Unix milliseconds when a refusal was logged last; 0: never.
    pub(crate) refusal_logged_ms: AtomicI64,
}

/// Takes pushed telemetry. Clones share everything.
#[derive(Clone)]
pub struct Ingest {
    metrics: Arc<dyn MetricWriter>,
    events: Arc<dyn EventWriter>,
    accountant: Accountant,
    pub(crate) context: Arc<Context>,
}

impl Ingest {
    /// Makes the front over the two stores.
    pub fn new(
        metrics: Arc<dyn MetricWriter>,
        events: Arc<dyn EventWriter>,
        limits: Limits,
        accountant: Accountant,
        clock: SharedClock,
        options: IngestOptions,
    ) -> Self {
        let delta = DeltaState::new(options.delta_series_max);
        Self {
            metrics,
            events,
            accountant,
            context: Arc::new(Context { limits, options, clock, delta, refusal_logged_ms: AtomicI64::new(0) }),
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.context.limits
    }

    /// Takes a remote write 1.0 request (`POST /api/v1/write`).
    pub async fn remote_write(&self, headers: &HeaderMap, body: Bytes) -> Answer {
        counters::bytes(counters::REMOTE_WRITE, body.len() as u64);
        let result = self.try_remote_write(headers, body).await;
        finish(counters::REMOTE_WRITE, result.unwrap_or_else(|e| refused(counters::REMOTE_WRITE, &e)))
    }

    async fn try_remote_write(&self, headers: &HeaderMap, body: Bytes) -> Result<Answer, IngestError> {
        const PROTOCOL: &str = counters::REMOTE_WRITE;
        let encoding = remote_write::check_headers(headers)?;
        let (mut decoded, _memory) = self
            .decode(encoding, body, REMOTE_WRITE_FACTOR, |context, bytes| {
                remote_write::decode(&bytes, &context.limits, context.clock.now_ms())
            })
            .await?;
        counters::rejected(PROTOCOL, "invalid_labels", decoded.samples_with_invalid_labels);
        let invalid = decoded.report.rejected.saturating_sub(decoded.samples_with_invalid_labels);
        counters::rejected(PROTOCOL, "invalid", invalid);
        decoded.batch.tenant = self.context.options.tenant;
        let mut report = decoded.report;
        if decoded.batch.sample_count() + decoded.batch.metadata.len() + decoded.batch.exemplars.len() > 0 {
            let stored = self.metrics.write(decoded.batch).await?;
            counters::samples(PROTOCOL, stored.accepted);
            counters::rejected(PROTOCOL, "store", stored.rejected);
            merge(&mut report, stored);
        }
        if report.rejected > 0 {
            self.log_refusal(PROTOCOL, &report);
        }
        Ok(remote_write::answer(report.rejected, &report.reasons))
    }

    /// Says once in a while that a sender's items were refused; the sender was told each time.
    fn log_refusal(&self, protocol: &'static str, report: &WriteReport) {
        let now_ms = self.context.clock.now_ms();
        let last_ms = self.context.refusal_logged_ms.load(Ordering::Relaxed);
        let is_due = last_ms == 0 || now_ms.saturating_sub(last_ms) >= REFUSAL_LOG_MS;
        let claim = |due: bool| {
            let logged = &self.context.refusal_logged_ms;
            due && logged.compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if claim(is_due) {
            let reason = report.reasons.first().map_or("", String::as_str);
            tracing::warn!(protocol, rejected = report.rejected, reason, "pushed items were refused");
        }
    }

    /// Takes a Loki push request (`POST /loki/api/v1/push`).
    pub async fn loki_push(&self, headers: &HeaderMap, body: Bytes) -> Answer {
        counters::bytes(counters::LOKI, body.len() as u64);
        let result = self.try_loki_push(headers, body).await;
        finish(counters::LOKI, result.unwrap_or_else(|e| refused(counters::LOKI, &e)))
    }

    async fn try_loki_push(&self, headers: &HeaderMap, body: Bytes) -> Result<Answer, IngestError> {
        const PROTOCOL: &str = counters::LOKI;
        let (format, encoding) = loki_push::check_headers(headers)?;
        let factor = if format == loki_push::Format::Json { JSON_FACTOR } else { PROTOBUF_FACTOR };
        let (decoded, _memory) = self
            .decode(encoding, body, factor, move |context, bytes| loki_push::decode(format, &bytes, context))
            .await?;
        counters::rejected(PROTOCOL, "invalid", decoded.report.rejected);
        let mut report = decoded.report;
        if !decoded.batch.groups.is_empty() {
            let stored = self.events.write_logs(decoded.batch).await?;
            counters::log_records(PROTOCOL, stored.accepted);
            counters::rejected(PROTOCOL, "store", stored.rejected);
            merge(&mut report, stored);
        }
        if report.rejected == 0 {
            return Ok(Answer::empty(StatusCode::NO_CONTENT));
        }
        let text =
            format!("{} entries were rejected, all others are stored: {}", report.rejected, report.reasons.join("; "));
        Ok(Answer::text(StatusCode::BAD_REQUEST, &text))
    }

    /// Takes an OTLP/HTTP request (`POST /v1/{logs,traces,metrics}`).
    pub async fn otlp_http(&self, signal: Signal, headers: &HeaderMap, body: Bytes) -> Answer {
        counters::bytes(counters::OTLP_HTTP, body.len() as u64);
        let answer = match otlp_encoding(headers) {
            Err(e) => refused(counters::OTLP_HTTP, &e),
            Ok(encoding) => match self.try_otlp_http(signal, encoding, headers, body).await {
                Ok(outcome) => outcome.answer(signal, encoding),
                Err(e) => {
                    counters::rejected(counters::OTLP_HTTP, e.reason(), 1);
                    Answer::otlp_error(&e, encoding)
                }
            },
        };
        finish(counters::OTLP_HTTP, answer)
    }

    async fn try_otlp_http(
        &self,
        signal: Signal,
        encoding: OtlpEncoding,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Outcome, IngestError> {
        const PROTOCOL: &str = counters::OTLP_HTTP;
        let content = Encoding::from_headers(headers)?;
        let factor = if encoding == OtlpEncoding::Json { JSON_FACTOR } else { PROTOBUF_FACTOR };
        match signal {
            Signal::Logs => {
                let (converted, _memory) = self
                    .decode(content, body, factor, move |context, bytes| {
                        let request = match encoding {
                            OtlpEncoding::Protobuf => message(bytes)?,
                            OtlpEncoding::Json => json::logs(&bytes, context.limits.json_depth_max)?,
                        };
                        Ok(otlp::logs::convert(request, context))
                    })
                    .await?;
                self.write_logs(PROTOCOL, converted).await
            }
            Signal::Traces => {
                let (converted, _memory) = self
                    .decode(content, body, factor, move |context, bytes| {
                        let request = match encoding {
                            OtlpEncoding::Protobuf => message(bytes)?,
                            OtlpEncoding::Json => json::traces(&bytes, context.limits.json_depth_max)?,
                        };
                        Ok(otlp::traces::convert(request, context))
                    })
                    .await?;
                self.write_spans(PROTOCOL, converted).await
            }
            Signal::Metrics => {
                let (converted, _memory) = self
                    .decode(content, body, factor, move |context, bytes| {
                        let request = match encoding {
                            OtlpEncoding::Protobuf => message(bytes)?,
                            OtlpEncoding::Json => json::metrics(&bytes, context.limits.json_depth_max)?,
                        };
                        Ok(otlp::metrics::convert(request, context))
                    })
                    .await?;
                self.write_metrics(PROTOCOL, converted).await
            }
        }
    }

    /// Reserves memory for a message that a gRPC codec has decoded already, and converts it.
    pub(crate) async fn convert<R, T>(
        &self,
        request: R,
        convert: impl FnOnce(R, &Context) -> T + Send + 'static,
    ) -> Result<(T, Reservation), IngestError>
    where
        R: Message + 'static,
        T: Send + 'static,
    {
        let size = request.encoded_len();
        let memory = reserve(&self.accountant, size as u64 * PROTOBUF_FACTOR)?;
        let context = Arc::clone(&self.context);
        let converted = off_thread(size, move || Ok(convert(request, &context))).await?;
        Ok((converted, memory))
    }

    pub(crate) async fn write_logs(
        &self,
        protocol: &'static str,
        converted: otlp::logs::Converted,
    ) -> Result<Outcome, IngestError> {
        let mut report = converted.report;
        counters::rejected(protocol, "invalid", report.rejected);
        if !converted.batch.groups.is_empty() {
            let stored = self.events.write_logs(converted.batch).await?;
            counters::log_records(protocol, stored.accepted);
            counters::rejected(protocol, "store", stored.rejected);
            merge(&mut report, stored);
        }
        Ok(Outcome::from(report))
    }

    pub(crate) async fn write_spans(
        &self,
        protocol: &'static str,
        converted: otlp::traces::Converted,
    ) -> Result<Outcome, IngestError> {
        let mut report = converted.report;
        counters::rejected(protocol, "invalid", report.rejected);
        if !converted.batch.groups.is_empty() {
            let stored = self.events.write_spans(converted.batch).await?;
            counters::spans(protocol, stored.accepted);
            counters::rejected(protocol, "store", stored.rejected);
            merge(&mut report, stored);
        }
        Ok(Outcome::from(report))
    }

    pub(crate) async fn write_metrics(
        &self,
        protocol: &'static str,
        converted: otlp::metrics::Converted,
    ) -> Result<Outcome, IngestError> {
        let mut report = converted.report;
        counters::rejected(protocol, "invalid", report.rejected);
        if converted.batch.sample_count() > 0 {
            // Together, so that one sync serves both.
            let (stored, info) =
                tokio::join!(self.metrics.write(converted.batch), self.write_generated(converted.info));
            let (stored, info) = (stored?, info?);
            counters::samples(protocol, stored.accepted + info);
            counters::rejected(protocol, "store", stored.rejected);
            merge(&mut report, stored);
        }
        // A point may be many samples.
        report.rejected = report.rejected.min(converted.points);
        // Only now: when the write fails or its caller leaves, dropping the change puts the running sums back, so that
        // the points are not lost when they are sent again.
        converted.delta.keep();
        Ok(Outcome::from(report))
    }

    /// Writes what nobody sent; returns how many samples were stored. What is refused is no news for the sender.
    async fn write_generated(&self, batch: MetricBatch) -> Result<u64, IngestError> {
        if batch.sample_count() == 0 {
            return Ok(0);
        }
        Ok(self.metrics.write(batch).await?.accepted)
    }

    async fn decode<T: Send + 'static>(
        &self,
        encoding: Encoding,
        body: Bytes,
        factor: u64,
        decode: impl FnOnce(&Context, Bytes) -> Result<T, IngestError> + Send + 'static,
    ) -> Result<(T, Reservation), IngestError> {
        let context = Arc::clone(&self.context);
        let accountant = self.accountant.clone();
        off_thread(body.len(), move || {
            let Inflated { bytes, mut reservation } = inflate(encoding, body, &context.limits, &accountant)?;
            grow(&mut reservation, bytes.len() as u64 * factor, &accountant)?;
            Ok((decode(&context, bytes)?, reservation))
        })
        .await
    }
}

async fn off_thread<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> Result<T, IngestError> + Send + 'static,
) -> Result<T, IngestError> {
    if size <= INLINE_BYTES_MAX {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            tracing::error!(%error, "request decoder ended early");
            Err(IngestError::Unavailable {
                reason: "request could not be decoded now".to_owned(),
                retry_after: Duration::from_secs(5),
            })
        }
    }
}

fn message<M: Message + Default>(bytes: Bytes) -> Result<M, IngestError> {
    M::decode(bytes).map_err(|e| IngestError::Malformed(format!("malformed protobuf message: {e}")))
}

fn otlp_encoding(headers: &HeaderMap) -> Result<OtlpEncoding, IngestError> {
    match media_type(headers).as_str() {
        "application/x-protobuf" | "application/protobuf" => Ok(OtlpEncoding::Protobuf),
        "application/json" => Ok(OtlpEncoding::Json),
        other => Err(IngestError::Unsupported(format!(
            "content type {other:?} is not supported; send application/x-protobuf or application/json"
        ))),
    }
}

fn refused(protocol: &'static str, error: &IngestError) -> Answer {
    counters::rejected(protocol, error.reason(), 1);
    Answer::error(error)
}

fn finish(protocol: &'static str, answer: Answer) -> Answer {
    counters::request(protocol, answer.status.as_u16());
    answer
}

fn merge(report: &mut WriteReport, stored: WriteReport) {
    report.accepted += stored.accepted;
    report.rejected += stored.rejected;
    let room = WriteReport::REASONS_MAX.saturating_sub(report.reasons.len());
    report.reasons.extend(stored.reasons.into_iter().take(room));
}
