//! Stored spans in Jaeger's v1 JSON, as Jaeger shows spans that came in by OTLP.

use std::borrow::Cow;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;
use trefoil_model::{
    AttributeValue, Attributes, Resource, Scope, Span, SpanEvent, SpanGroup, SpanKind, SpanLink, StatusCode,
    StoredTrace,
};

/// Service name of spans whose resource has none.
pub(super) const NO_SERVICE: &str = "OTLPResourceNoServiceName";
/// Greatest whole number that a JavaScript number holds exactly; greater ones are sent as text.
const JS_INTEGER_MAX: u64 = (1 << 53) - 1;

/// The name that Jaeger gives a resource.
pub(super) fn service_of(resource: &Resource) -> &str {
    match resource.service_name() {
        "" => NO_SERVICE,
        name => name,
    }
}

/// The envelope of all answers.
#[derive(Serialize)]
pub(super) struct Envelope<T> {
    pub(super) data: Option<T>,
    pub(super) total: usize,
    pub(super) limit: usize,
    pub(super) offset: usize,
    pub(super) errors: Option<Vec<ErrorOf>>,
}

/// An error in an envelope.
#[derive(Serialize)]
pub(super) struct ErrorOf {
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) code: u16,
    pub(super) msg: String,
    #[serde(rename = "traceID", skip_serializing_if = "String::is_empty")]
    pub(super) trace_id: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(n: &u16) -> bool {
    *n == 0
}

/// One trace.
#[derive(Serialize)]
pub(super) struct TraceOf {
    #[serde(rename = "traceID")]
    trace_id: String,
    spans: Vec<SpanOf>,
    processes: Processes,
    warnings: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanOf {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
    #[serde(skip_serializing_if = "is_no_flag")]
    flags: u32,
    operation_name: String,
    references: Vec<ReferenceOf>,
    start_time: i64,
    duration: i64,
    tags: Vec<TagOf>,
    logs: Vec<LogOf>,
    #[serde(rename = "processID")]
    process_id: String,
    warnings: Option<Vec<String>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_no_flag(flags: &u32) -> bool {
    *flags == 0
}

#[derive(Serialize)]
struct ReferenceOf {
    #[serde(rename = "refType")]
    ref_type: &'static str,
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Serialize)]
struct TagOf {
    key: String,
    #[serde(rename = "type")]
    kind: &'static str,
    value: Value,
}

#[derive(Serialize)]
struct LogOf {
    timestamp: i64,
    fields: Vec<TagOf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessOf {
    service_name: String,
    tags: Vec<TagOf>,
}

/// Processes `p1`, `p2`, … in order.
struct Processes(Vec<ProcessOf>);

impl Serialize for Processes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (i, process) in self.0.iter().enumerate() {
            map.serialize_entry(&process_id(i), process)?;
        }
        map.end()
    }
}

fn process_id(at: usize) -> String {
    format!("p{}", at + 1)
}

/// Turns a trace into its JSON form: spans by start, resources with equal attributes as one process.
///
/// At most `spans_max` spans; a warning says when there were more.
pub(super) fn trace(stored: &StoredTrace, spans_max: usize) -> TraceOf {
    let mut resources: Vec<&Arc<Resource>> = Vec::new();
    let mut spans: Vec<(&Span, &SpanGroup, usize)> = Vec::new();
    for group in &stored.groups {
        let is_it = |r: &&Arc<Resource>| Arc::ptr_eq(r, &group.resource) || r.attributes == group.resource.attributes;
        let at = resources.iter().position(is_it).unwrap_or_else(|| {
            resources.push(&group.resource);
            resources.len() - 1
        });
        spans.extend(group.spans.iter().map(|s| (s, group, at)));
    }
    spans.sort_by_key(|(s, _, _)| (s.start_ns, s.parent_span_id.is_some(), s.span_id));
    let warnings = (spans.len() > spans_max).then(|| {
        trefoil_runtime::limits::hit("spans_per_trace_max");
        vec![format!("{} of {} spans are shown (limit spans_per_trace_max)", spans_max, spans.len())]
    });
    spans.truncate(spans_max);
    TraceOf {
        trace_id: stored.trace_id.to_string(),
        spans: spans.into_iter().map(|(s, group, process)| span(s, &group.scope, process)).collect(),
        processes: Processes(resources.into_iter().map(|r| process(r)).collect()),
        warnings,
    }
}

fn process(resource: &Resource) -> ProcessOf {
    let rest = resource.attributes.iter().filter(|(n, _)| n != "service.name");
    ProcessOf { service_name: service_of(resource).to_owned(), tags: rest.map(|(n, v)| tag(n, v)).collect() }
}

fn span(span: &Span, scope: &Scope, process: usize) -> SpanOf {
    let mut references = Vec::with_capacity(span.links.len() + 1);
    if let Some(parent) = span.parent_span_id {
        let ids = (span.trace_id.to_string(), parent.to_string());
        references.push(ReferenceOf { ref_type: "CHILD_OF", trace_id: ids.0, span_id: ids.1 });
    }
    references.extend(span.links.iter().map(reference));
    SpanOf {
        trace_id: span.trace_id.to_string(),
        span_id: span.span_id.to_string(),
        flags: span.flags & 0xff,
        operation_name: span.name.clone(),
        references,
        start_time: span.start_ns.div_euclid(1000),
        duration: span.duration_ns() / 1000,
        tags: span_tags(span, scope).iter().map(|(n, v)| tag(n, v)).collect(),
        logs: span.events.iter().map(log).collect(),
        process_id: process_id(process),
        warnings: None,
    }
}

fn reference(link: &SpanLink) -> ReferenceOf {
    ReferenceOf {
        ref_type: if is_child_of(link) { "CHILD_OF" } else { "FOLLOWS_FROM" },
        trace_id: link.trace_id.to_string(),
        span_id: link.span_id.to_string(),
    }
}

/// Whether a link was a reference "child of".
pub(super) fn is_child_of(link: &SpanLink) -> bool {
    let kind = trefoil_model::value::find(&link.attributes, "opentracing.ref_type");
    kind.and_then(AttributeValue::as_str).is_some_and(|v| v == "child_of")
}

/// A name with its value.
type Pair<'a> = (&'a str, Cow<'a, AttributeValue>);

/// Tags in Jaeger's order: scope, attributes, kind, status, error, description, trace state.
pub(super) fn span_tags<'a>(span: &'a Span, scope: &Scope) -> Vec<Pair<'a>> {
    let mut tags = Vec::with_capacity(span.attributes.len() + 6);
    let text = |tags: &mut Vec<Pair<'a>>, key: &'static str, value: &str| {
        if !value.is_empty() {
            tags.push((key, Cow::Owned(AttributeValue::String(value.to_owned()))));
        }
    };
    text(&mut tags, "otel.scope.name", &scope.name);
    text(&mut tags, "otel.scope.version", &scope.version);
    tags.extend(span.attributes.iter().map(|(n, v)| (n.as_str(), Cow::Borrowed(v))));
    if span.kind != SpanKind::Unspecified {
        text(&mut tags, "span.kind", span.kind.as_str());
    }
    match span.status_code {
        StatusCode::Unset => {}
        StatusCode::Ok => text(&mut tags, "otel.status_code", "OK"),
        StatusCode::Error => {
            text(&mut tags, "otel.status_code", "ERROR");
            if !tags.iter().any(|(name, _)| *name == "error") {
                tags.push(("error", Cow::Owned(AttributeValue::Bool(true))));
            }
        }
    }
    text(&mut tags, "otel.status_description", &span.status_message);
    text(&mut tags, "w3c.tracestate", &span.trace_state);
    tags
}

fn log(event: &SpanEvent) -> LogOf {
    let fields = log_fields(event).iter().map(|(n, v)| tag(n, v)).collect();
    LogOf { timestamp: event.time_ns.div_euclid(1000), fields }
}

/// The name of an event as the field `event`, then its attributes.
pub(super) fn log_fields(event: &SpanEvent) -> Vec<Pair<'_>> {
    let mut fields = Vec::with_capacity(event.attributes.len() + 1);
    if !event.name.is_empty() && !has(&event.attributes, "event") {
        fields.push(("event", Cow::Owned(AttributeValue::String(event.name.clone()))));
    }
    fields.extend(event.attributes.iter().map(|(n, v)| (n.as_str(), Cow::Borrowed(v))));
    fields
}

fn has(attributes: &Attributes, name: &str) -> bool {
    trefoil_model::value::find(attributes, name).is_some()
}

fn tag(key: &str, value: &AttributeValue) -> TagOf {
    let (kind, value) = match value {
        AttributeValue::Bool(b) => ("bool", Value::Bool(*b)),
        AttributeValue::Int(i) if i.unsigned_abs() > JS_INTEGER_MAX => ("int64", Value::String(i.to_string())),
        AttributeValue::Int(i) => ("int64", Value::from(*i)),
        AttributeValue::Double(d) => match serde_json::Number::from_f64(*d) {
            Some(n) => ("float64", Value::Number(n)),
            None => ("float64", Value::String(d.to_string())),
        },
        AttributeValue::Bytes(_) => ("binary", Value::String(value.to_text().trim_matches('"').to_owned())),
        other => ("string", Value::String(other.to_text())),
    };
    TagOf { key: key.to_owned(), kind, value }
}

#[cfg(test)]
mod tests;
