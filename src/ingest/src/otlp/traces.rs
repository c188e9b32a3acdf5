//! OTLP spans as model spans.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span as WireSpan;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use trefoil_model::{
    Resource, Span, SpanEvent, SpanGroup, SpanId, SpanKind, SpanLink, StatusCode, TraceBatch, TraceId, WriteReport,
};
use trefoil_runtime::limits;

use super::attributes::{attributes, scope};
use super::nanoseconds;
use crate::event_limits::{limit_span, limit_span_attributes};
use crate::ingest::Context;
use crate::metric_limits::shorten;

/// A converted request.
#[derive(Debug, Default)]
pub struct Converted {
    /// What to store.
    pub batch: TraceBatch,
    /// What was refused.
    pub report: WriteReport,
}

/// Converts a request; refuses spans one by one.
pub(crate) fn convert(request: ExportTraceServiceRequest, context: &Context) -> Converted {
    let depth_max = context.limits.attribute_depth_max;
    let mut converted = Converted::default();
    converted.batch.tenant = context.options.tenant;
    let now_ns = context.clock.now_ns();
    let time_max = now_ns.saturating_add(context.limits.future_ms_max.saturating_mul(1_000_000));
    for resource_spans in request.resource_spans {
        let mut resource = Resource {
            attributes: resource_spans.resource.map_or_else(Vec::new, |r| attributes(r.attributes, depth_max)),
            schema_url: resource_spans.schema_url,
        };
        limit_span_attributes(&mut resource.attributes, &context.limits);
        let resource = Arc::new(resource);
        for scope_spans in resource_spans.scope_spans {
            let mut scope = scope(scope_spans.scope, depth_max);
            limit_span_attributes(&mut scope.attributes, &context.limits);
            let mut spans = Vec::with_capacity(scope_spans.spans.len());
            for wire in scope_spans.spans {
                let name = shorten(&wire.name).to_owned();
                match convert_span(wire, context, time_max) {
                    Ok(span) => spans.push(span),
                    Err(reason) => converted.report.reject(|| format!("span {name:?}: {reason}")),
                }
            }
            if !spans.is_empty() {
                let group = SpanGroup { resource: Arc::clone(&resource), scope: Arc::new(scope), spans };
                converted.batch.groups.push(group);
            }
        }
    }
    converted
}

fn convert_span(wire: WireSpan, context: &Context, time_max: i64) -> Result<Span, String> {
    let depth_max = context.limits.attribute_depth_max;
    let trace_id = TraceId::from_bytes(&wire.trace_id)
        .ok_or_else(|| format!("trace id must be 16 bytes and not zero, has {} bytes", wire.trace_id.len()))?;
    let span_id = SpanId::from_bytes(&wire.span_id)
        .ok_or_else(|| format!("span id must be 8 bytes and not zero, has {} bytes", wire.span_id.len()))?;
    if !matches!(wire.parent_span_id.len(), 0 | 8) {
        return Err(format!("parent span id must be 8 bytes, has {}", wire.parent_span_id.len()));
    }
    let start_ns = nanoseconds(wire.start_time_unix_nano)
        .or_else(|| nanoseconds(wire.end_time_unix_nano))
        .ok_or("span has no start time")?;
    if start_ns > time_max {
        limits::hit("future_ms_max");
        return Err(format!("start time {start_ns} is too far in the future"));
    }
    let (status_code, status_message) =
        wire.status.map_or((StatusCode::Unset, String::new()), |s| (StatusCode::from_number(s.code), s.message));
    let links_sent = wire.links.len();
    let links: Vec<SpanLink> = wire.links.into_iter().filter_map(|l| convert_link(l, depth_max)).collect();
    let links_bad = u32::try_from(links_sent - links.len()).unwrap_or(u32::MAX);
    let events = wire
        .events
        .into_iter()
        .map(|e| SpanEvent {
            time_ns: nanoseconds(e.time_unix_nano).unwrap_or(start_ns),
            name: e.name,
            attributes: attributes(e.attributes, depth_max),
            dropped_attributes: e.dropped_attributes_count,
        })
        .collect();
    let mut span = Span {
        trace_id,
        span_id,
        parent_span_id: SpanId::from_bytes(&wire.parent_span_id),
        trace_state: wire.trace_state,
        flags: wire.flags,
        name: wire.name,
        kind: SpanKind::from_number(wire.kind),
        start_ns,
        end_ns: nanoseconds(wire.end_time_unix_nano).unwrap_or(start_ns).max(start_ns),
        attributes: attributes(wire.attributes, depth_max),
        events,
        links,
        status_code,
        status_message,
        dropped: [
            wire.dropped_attributes_count,
            wire.dropped_events_count,
            wire.dropped_links_count.saturating_add(links_bad),
        ],
    };
    limit_span(&mut span, &context.limits)?;
    Ok(span)
}

fn convert_link(link: Link, depth_max: usize) -> Option<SpanLink> {
    Some(SpanLink {
        trace_id: TraceId::from_bytes(&link.trace_id)?,
        span_id: SpanId::from_bytes(&link.span_id)?,
        trace_state: link.trace_state,
        attributes: attributes(link.attributes, depth_max),
    })
}
