//! What versions 2 and 3 of Jaeger's query API ask, whatever carries it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use trefoil_ingest::jaeger::proto::Time;
use trefoil_model::{NanoRange, SpanKind, SpanQuery, StoredTrace, TenantId, TraceId, TraceReader};
use trefoil_runtime::QueryContext;

use super::messages::{Operation, TraceQueryParameters};
use super::params::{LIMIT, LIMIT_MAX, TAGS_MAX};
use super::render;
use crate::error::ApiError;

/// Reads a trace id: 1 to 32 hexadecimal digits, or base64 of 8 or 16 bytes.
pub(super) fn trace_id(text: &str) -> Result<TraceId, ApiError> {
    let from_base64 = || {
        let forms = [&STANDARD, &URL_SAFE, &STANDARD_NO_PAD, &URL_SAFE_NO_PAD];
        let bytes = forms.into_iter().filter(|_| text.len() <= 24).find_map(|form| form.decode(text).ok())?;
        matches!(bytes.len(), 8 | 16).then(|| TraceId::from_hex(&hex::encode(bytes))).flatten()
    };
    TraceId::from_hex(text).or_else(from_base64).ok_or_else(|| {
        ApiError::bad_data(format!("cannot parse trace ID {text:?}: 1 to 32 hexadecimal digits, not all zero"))
    })
}

/// A service name as the store has it.
pub(super) fn stored_name(service: &str) -> String {
    if service == render::NO_SERVICE { String::new() } else { service.to_owned() }
}

/// The search that a message asks for; times of 0 are not said, unless they `must` be.
pub(super) fn search(asked: TraceQueryParameters, tenant: TenantId, must: bool) -> Result<SpanQuery, ApiError> {
    if asked.filter.is_some() {
        return Err(ApiError::bad_data("structured filters are not supported"));
    }
    let time = |time: Option<Time>| time.map(Time::ns).filter(|ns| *ns != 0);
    let (start, end) = (time(asked.start_time_min), time(asked.start_time_max));
    if must && (start.is_none() || end.is_none()) {
        return Err(ApiError::bad_data("start time min and max are required parameters"));
    }
    let range =
        NanoRange { start_ns: start.unwrap_or(NanoRange::ALL.start_ns), end_ns: end.unwrap_or(NanoRange::ALL.end_ns) };
    if range.end_ns < range.start_ns {
        return Err(ApiError::bad_data("start time min must be before start time max"));
    }
    if asked.attributes.len() > TAGS_MAX {
        return Err(ApiError::bad_data(format!("more than {TAGS_MAX} attributes")));
    }
    let text = |text: String| Some(text).filter(|t| !t.is_empty());
    let duration = |d: Option<Time>| d.map(Time::ns).filter(|ns| *ns > 0);
    Ok(SpanQuery {
        tenant,
        service: text(asked.service_name).map(|s| stored_name(&s)),
        operation: text(asked.operation_name),
        tags: asked.attributes.into_iter().collect(),
        min_duration_ns: duration(asked.duration_min),
        max_duration_ns: duration(asked.duration_max),
        range: Some(range),
        limit: usize::try_from(asked.search_depth).ok().filter(|n| *n > 0).map_or(LIMIT, |n| n.min(LIMIT_MAX)),
    })
}

/// The trace with an id. Errors: `NotFound` when there is none.
pub(super) fn one(
    traces: &dyn TraceReader,
    tenant: TenantId,
    id: TraceId,
    context: &QueryContext,
) -> Result<StoredTrace, ApiError> {
    let found = traces.trace(tenant, id, None, context)?.filter(|t| t.groups.iter().any(|g| !g.spans.is_empty()));
    found.ok_or_else(|| ApiError::not_found("trace not found"))
}

/// The names of all services.
pub(super) fn services(
    traces: &dyn TraceReader,
    tenant: TenantId,
    context: &QueryContext,
) -> Result<Vec<String>, ApiError> {
    let mut names = traces.services(tenant, NanoRange::ALL, context)?;
    for name in names.iter_mut().filter(|n| n.is_empty()) {
        render::NO_SERVICE.clone_into(name);
    }
    Ok(names)
}

/// The operations of a service, those of one kind when it is named.
pub(super) fn operations(
    traces: &dyn TraceReader,
    tenant: TenantId,
    service: &str,
    kind: &str,
    context: &QueryContext,
) -> Result<Vec<Operation>, ApiError> {
    let found = traces.operations(tenant, &stored_name(service), NanoRange::ALL, context)?;
    let word = |kind: SpanKind| if kind == SpanKind::Unspecified { "" } else { kind.as_str() };
    let kind = kind.to_lowercase();
    Ok(found
        .into_iter()
        .map(|(name, kind)| Operation { name, span_kind: word(kind).to_owned() })
        .filter(|o| kind.is_empty() || o.span_kind == kind)
        .collect())
}
