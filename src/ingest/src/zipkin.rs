//! Zipkin's spans: JSON of versions 1 and 2 and protobuf `zipkin.proto3.ListOfSpans`
//! (<https://zipkin.io/zipkin-api/>), mapped as OpenTelemetry maps them
//! (<https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/zipkin/>).
//!
//! | Zipkin | here |
//! | --- | --- |
//! | `localEndpoint.serviceName` | `service.name` of the resource; its address `network.local.*` |
//! | `remoteEndpoint` | `peer.service`, `network.peer.*` |
//! | annotations | events; tags are attributes |
//! | tag `error` | status error with its text; `otel.status_code` comes first |
//! | tags `otel.scope.*`, `otel.library.*` | the scope |
//! | `shared` | attribute `zipkin.shared`; both sides keep their one span id, apart by kind |
//! | no `timestamp` | the first annotation's, else the receipt time and attribute [`ABSENT_START`] |
//!
//! A span that cannot be taken costs no other.

mod json;
mod proto;
mod v1;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use rustc_hash::FxHashMap;
use trefoil_model::{
    AttributeValue, Attributes, Resource, Scope, Span, SpanEvent, SpanGroup, SpanId, SpanKind,
    StatusCode as SpanStatus, TraceId,
};
use trefoil_runtime::limits;

use crate::body::{Encoding, media_type};
use crate::event_limits::{limit_span, limit_span_attributes};
use crate::ingest::{Context, Ingest, finish, refused};
use crate::metric_limits::shorten;
use crate::otlp::traces::Converted;
use crate::{Answer, IngestError, counters};

/// Attribute of a span that came without a start: it has its receipt time. The name is that of OpenTelemetry's collector.
pub const ABSENT_START: &str = "otel.zipkin.absentField.startTime";
/// Attribute of the side of a call that took over the span id of the other side.
pub const SHARED: &str = "zipkin.shared";

/// Memory that decoding takes, as a multiple of the inflated body.
const JSON_FACTOR: u64 = 8;
const PROTOBUF_FACTOR: u64 = 4;

/// Which path a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZipkinVersion {
    /// `POST /api/v1/spans`
    V1,
    /// `POST /api/v2/spans`
    V2,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    JsonV1,
    JsonV2,
    Protobuf,
}

/// A side of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Endpoint {
    service: String,
    /// The IPv4 address, else the IPv6 address; "" when unknown.
    address: String,
    /// 0 when unknown.
    port: u16,
}

/// A span between its wire form and the model's. Times are Unix microseconds as sent, 0: absent.
#[derive(Debug, Clone)]
struct Draft {
    trace_id: TraceId,
    span_id: SpanId,
    parent_span_id: Option<SpanId>,
    name: String,
    kind: SpanKind,
    start_us: u64,
    duration_us: u64,
    local: Endpoint,
    remote: Endpoint,
    annotations: Vec<(u64, String)>,
    /// The last of several tags of one name counts.
    tags: BTreeMap<String, String>,
    shared: bool,
}

impl Draft {
    fn new(trace_id: TraceId, span_id: SpanId) -> Self {
        Self {
            trace_id,
            span_id,
            parent_span_id: None,
            name: String::new(),
            kind: SpanKind::Unspecified,
            start_us: 0,
            duration_us: 0,
            local: Endpoint::default(),
            remote: Endpoint::default(),
            annotations: Vec::new(),
            tags: BTreeMap::new(),
            shared: false,
        }
    }
}

impl Ingest {
    /// Takes Zipkin's spans: 202 when all are stored; 400 names those that are not, all others are stored.
    pub async fn zipkin(&self, version: ZipkinVersion, headers: &HeaderMap, body: Bytes) -> Answer {
        counters::bytes(counters::ZIPKIN, body.len() as u64);
        let result = self.try_zipkin(version, headers, body).await;
        finish(counters::ZIPKIN, result.unwrap_or_else(|e| refused(counters::ZIPKIN, &e)))
    }

    async fn try_zipkin(
        &self,
        version: ZipkinVersion,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Answer, IngestError> {
        let encoding = Encoding::from_headers(headers)?;
        let format = format(version, headers)?;
        let factor = if format == Format::Protobuf { PROTOBUF_FACTOR } else { JSON_FACTOR };
        let (converted, _memory) =
            self.decode(encoding, body, factor, move |context, bytes| decode(format, &bytes, context)).await?;
        let outcome = self.write_spans(counters::ZIPKIN, converted).await?;
        if outcome.rejected == 0 {
            return Ok(Answer::empty(StatusCode::ACCEPTED));
        }
        let text = format!("{} spans were rejected, all others are stored: {}", outcome.rejected, outcome.message);
        Ok(Answer::text(StatusCode::BAD_REQUEST, &text))
    }
}

fn format(version: ZipkinVersion, headers: &HeaderMap) -> Result<Format, IngestError> {
    let media_type = media_type(headers);
    match (version, media_type.as_str()) {
        (ZipkinVersion::V2, "application/x-protobuf" | "application/protobuf") => Ok(Format::Protobuf),
        // Many senders name no type, or another one, for JSON.
        (_, "" | "application/json" | "text/plain" | "application/x-www-form-urlencoded") => Ok(match version {
            ZipkinVersion::V1 => Format::JsonV1,
            ZipkinVersion::V2 => Format::JsonV2,
        }),
        (_, other) => Err(IngestError::Unsupported(format!(
            "content type {other:?} is not supported; send application/json, or application/x-protobuf to /api/v2/spans"
        ))),
    }
}

fn decode(format: Format, bytes: &[u8], context: &Context) -> Result<Converted, IngestError> {
    let mut batch = Batch::new(context);
    match format {
        Format::JsonV1 => json::each_v1(bytes, context, &mut batch)?,
        Format::JsonV2 => json::each_v2(bytes, context, &mut batch)?,
        Format::Protobuf => proto::each(bytes, &mut batch)?,
    }
    Ok(batch.converted)
}

/// Puts spans together by service and scope.
struct Batch<'a> {
    context: &'a Context,
    converted: Converted,
    groups: FxHashMap<(String, String, String), usize>,
    now_ns: i64,
    latest_ns: i64,
}

impl<'a> Batch<'a> {
    fn new(context: &'a Context) -> Self {
        let mut converted = Converted::default();
        converted.batch.tenant = context.options.tenant;
        let now_ns = context.clock.now_ns();
        let ahead_ns = context.limits.future_ms_max.saturating_mul(1_000_000);
        let latest_ns = now_ns.saturating_add(ahead_ns);
        Self { context, converted, groups: FxHashMap::default(), now_ns, latest_ns }
    }

    /// Refuses the span at a place of the list.
    fn reject(&mut self, index: usize, reason: &str) {
        self.converted.report.reject(|| format!("span {index}: {reason}"));
    }

    /// Adds the span at a place of the list, or refuses it.
    fn add(&mut self, index: usize, mut draft: Draft) {
        let service = std::mem::take(&mut draft.local.service);
        let mut tag = |names: [&str; 2]| {
            let found = names.map(|name| draft.tags.remove(name).unwrap_or_default());
            found.into_iter().find(|v| !v.is_empty()).unwrap_or_default()
        };
        let scope =
            (tag(["otel.scope.name", "otel.library.name"]), tag(["otel.scope.version", "otel.library.version"]));
        let name = shorten(&draft.name).to_owned();
        match self.convert(draft) {
            Ok(span) => self.group(service, scope).spans.push(span),
            Err(reason) => self.converted.report.reject(|| format!("span {index} {name:?}: {reason}")),
        }
    }

    fn group(&mut self, service: String, (name, version): (String, String)) -> &mut SpanGroup {
        let groups = &mut self.converted.batch.groups;
        let key = (service, name, version);
        let at = match self.groups.get(&key) {
            Some(at) => *at,
            None => {
                let mut attributes = Attributes::new();
                if !key.0.is_empty() {
                    attributes.push(("service.name".to_owned(), AttributeValue::String(key.0.clone())));
                    limit_span_attributes(&mut attributes, &self.context.limits);
                }
                let resource = Resource { attributes, schema_url: String::new() };
                let scope = Scope { name: key.1.clone(), version: key.2.clone(), attributes: Attributes::new() };
                groups.push(SpanGroup { resource: Arc::new(resource), scope: Arc::new(scope), spans: Vec::new() });
                self.groups.insert(key, groups.len() - 1);
                groups.len() - 1
            }
        };
        &mut groups[at]
    }

    fn convert(&self, draft: Draft) -> Result<Span, String> {
        let Draft { mut tags, .. } = draft;
        let sent_ns = nanoseconds(draft.start_us)
            .or_else(|| draft.annotations.iter().filter_map(|(time_us, _)| nanoseconds(*time_us)).min());
        let start_ns = sent_ns.unwrap_or(self.now_ns);
        if start_ns > self.latest_ns {
            limits::hit("future_ms_max");
            return Err(format!("timestamp {} is too far in the future", draft.start_us));
        }
        let duration_ns = i64::try_from(draft.duration_us).unwrap_or(i64::MAX).saturating_mul(1000);
        let (status_code, status_message) = status(&mut tags);
        let kind = match (draft.kind, tags.get("span.kind").map(String::as_str)) {
            (SpanKind::Unspecified, Some("internal")) => {
                tags.remove("span.kind");
                SpanKind::Internal
            }
            (kind, _) => kind,
        };
        let trace_state = tags.remove("w3c.tracestate").unwrap_or_default();
        let mut attributes = Attributes::with_capacity(tags.len() + 4);
        let mut extra = |name: &str, value: AttributeValue| {
            if !tags.contains_key(name) {
                attributes.push((name.to_owned(), value));
            }
        };
        let (local, remote) = (draft.local, draft.remote);
        for (name, text) in [
            ("peer.service", remote.service),
            ("network.peer.address", remote.address),
            ("network.local.address", local.address),
        ] {
            if !text.is_empty() {
                extra(name, AttributeValue::String(text));
            }
        }
        for (name, port) in [("network.peer.port", remote.port), ("network.local.port", local.port)] {
            if port != 0 {
                extra(name, AttributeValue::Int(port.into()));
            }
        }
        for (name, holds) in [(SHARED, draft.shared), (ABSENT_START, sent_ns.is_none())] {
            if holds {
                extra(name, AttributeValue::Bool(true));
            }
        }
        attributes
            .extend(tags.into_iter().filter(|(name, _)| !name.is_empty()).map(|(n, v)| (n, AttributeValue::String(v))));
        let events = draft.annotations.into_iter().map(|(time_us, name)| SpanEvent {
            time_ns: nanoseconds(time_us).unwrap_or(start_ns),
            name,
            attributes: Attributes::new(),
            dropped_attributes: 0,
        });
        let mut span = Span {
            trace_id: draft.trace_id,
            span_id: draft.span_id,
            parent_span_id: draft.parent_span_id.filter(|id| *id != draft.span_id),
            trace_state,
            flags: 0,
            name: draft.name,
            kind,
            start_ns,
            end_ns: start_ns.saturating_add(duration_ns),
            attributes,
            events: events.collect(),
            links: Vec::new(),
            status_code,
            status_message,
            dropped: [0; 3],
        };
        limit_span(&mut span, &self.context.limits)?;
        Ok(span)
    }
}

/// Takes the status out of the tags.
fn status(tags: &mut BTreeMap<String, String>) -> (SpanStatus, String) {
    let said = match tags.get("otel.status_code").map(String::as_str) {
        Some("OK" | "STATUS_CODE_OK") => Some(SpanStatus::Ok),
        Some("ERROR" | "STATUS_CODE_ERROR") => Some(SpanStatus::Error),
        Some("UNSET" | "STATUS_CODE_UNSET") => Some(SpanStatus::Unset),
        _ => None,
    };
    if said.is_some() {
        tags.remove("otel.status_code");
    }
    let mut message = String::new();
    // Any value means an error, but for the one that says that there is none.
    let has_error = tags.get("error").is_some_and(|e| !e.eq_ignore_ascii_case("false"));
    let code = said.unwrap_or(if has_error { SpanStatus::Error } else { SpanStatus::Unset });
    if code == SpanStatus::Error {
        if has_error {
            message = tags.remove("error").filter(|e| !e.eq_ignore_ascii_case("true")).unwrap_or_default();
        }
        if let Some(description) = tags.remove("otel.status_description").filter(|d| !d.is_empty()) {
            message = description;
        }
    }
    (code, message)
}

/// Microseconds of the wire as nanoseconds; `None` when they are 0 or beyond the year 2262.
fn nanoseconds(wire_us: u64) -> Option<i64> {
    i64::try_from(wire_us).ok().and_then(|us| us.checked_mul(1000)).filter(|ns| *ns > 0)
}
