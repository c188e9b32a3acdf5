//! What a list of traces shows of each.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use trefoil_model::{Span, SpanId, StatusCode, StoredTrace};

use super::messages::{ServiceSummary, TraceSummary};
use super::render::service_of;

/// Sums a trace up. The root is the first span without a parent, else the first whose parent is not there.
pub(super) fn summary(stored: &StoredTrace) -> TraceSummary {
    let spans = || stored.groups.iter().flat_map(|g| g.spans.iter().map(|s| (service_of(&g.resource), s)));
    let ids: BTreeSet<SpanId> = spans().map(|(_, s)| s.span_id).collect();
    let is_orphan = |s: &Span| s.parent_span_id.is_some_and(|parent| !ids.contains(&parent));
    let mut services: BTreeMap<&str, (i32, i32)> = BTreeMap::new();
    let (mut count, mut errors, mut orphans) = (0_i32, 0_i32, 0_i32);
    for (service, span) in spans() {
        let is_error = i32::from(span.status_code == StatusCode::Error);
        let entry = services.entry(service).or_default();
        *entry = (entry.0.saturating_add(1), entry.1.saturating_add(is_error));
        count = count.saturating_add(1);
        errors = errors.saturating_add(is_error);
        orphans = orphans.saturating_add(i32::from(is_orphan(span)));
    }
    let first =
        |is_it: &dyn Fn(&Span) -> bool| spans().filter(|(_, s)| is_it(s)).min_by_key(|(_, s)| (s.start_ns, s.span_id));
    let root = first(&|s| s.parent_span_id.is_none()).or_else(|| first(&is_orphan));
    let unsigned = |ns: Option<i64>| u64::try_from(ns.unwrap_or(0)).unwrap_or(0);
    TraceSummary {
        trace_id: stored.trace_id.to_string(),
        root_service_name: root.map(|(service, _)| service.to_owned()).unwrap_or_default(),
        root_operation_name: root.map(|(_, span)| span.name.clone()).unwrap_or_default(),
        min_start_time_unix_nano: unsigned(spans().map(|(_, s)| s.start_ns).min()),
        max_end_time_unix_nano: unsigned(spans().map(|(_, s)| s.end_ns).max()),
        span_count: count,
        error_span_count: errors,
        orphan_span_count: orphans,
        services: services
            .into_iter()
            .map(|(name, (span_count, error_span_count))| ServiceSummary {
                name: name.to_owned(),
                span_count,
                error_span_count,
            })
            .collect(),
    }
}

/// The summary in protobuf's JSON: 64-bit numbers are text, what has its default is left out.
pub(super) fn json(summary: &TraceSummary) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value, is_default: bool| {
        if !is_default {
            out.insert(name.to_owned(), value);
        }
    };
    for (name, text) in [
        ("traceId", &summary.trace_id),
        ("rootServiceName", &summary.root_service_name),
        ("rootOperationName", &summary.root_operation_name),
    ] {
        put(name, json!(text), text.is_empty());
    }
    for (name, ns) in [
        ("minStartTimeUnixNano", summary.min_start_time_unix_nano),
        ("maxEndTimeUnixNano", summary.max_end_time_unix_nano),
    ] {
        put(name, json!(ns.to_string()), ns == 0);
    }
    for (name, n) in [
        ("spanCount", summary.span_count),
        ("errorSpanCount", summary.error_span_count),
        ("orphanSpanCount", summary.orphan_span_count),
    ] {
        put(name, json!(n), n == 0);
    }
    let service = |s: &ServiceSummary| {
        let mut out = json!({ "name": s.name, "spanCount": s.span_count });
        if s.error_span_count > 0 {
            out["errorSpanCount"] = json!(s.error_span_count);
        }
        out
    };
    put("services", summary.services.iter().map(service).collect(), summary.services.is_empty());
    Value::Object(out)
}
