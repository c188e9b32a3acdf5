//! Spans as they are kept, what of them is indexed, and blocks of version 1.

use std::sync::Arc;

use trefoil_model::{AttributeValue, Resource, Scope, Span, SpanEvent, SpanKind, StatusCode, TraceId};

use crate::part_file::Columns;
use crate::record::{read_origin, read_span_heavy, read_span_light};
use crate::tokens::BlockTerms;
use crate::wire::{Cursor, Malformed, StringTable};

/// Who sent spans: resource and scope.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Origin {
    pub(crate) resource: Arc<Resource>,
    pub(crate) scope: Arc<Scope>,
}

/// A span as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredSpan {
    /// Order of arrival within the store; of a span that was sent twice the first stays.
    pub(crate) sequence: u64,
    pub(crate) origin: Arc<Origin>,
    pub(crate) span: Span,
}

/// What makes two spans the same span sent twice.
pub(crate) type Identity = ([u8; 8], i64, u8);

impl StoredSpan {
    pub(crate) fn identity(&self) -> Identity {
        (self.span.span_id.0, self.span.start_ns, self.span.kind as u8)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.span.heap_bytes() + 64
    }
}

/// Sorts the spans of one trace by start and arrival and removes what was sent twice.
pub(crate) fn sort_and_deduplicate(spans: &mut Vec<Arc<StoredSpan>>) {
    spans.sort_by_key(|s| (s.identity(), s.sequence));
    spans.dedup_by_key(|s| s.identity());
    spans.sort_by_key(|s| (s.span.start_ns, s.sequence, s.span.span_id));
}

/// Columns of blocks of version 1.
const STRINGS: usize = 0;
const ORIGINS: usize = 1;
const TRACES: usize = 2;
const LIGHT: usize = 3;
const HEAVY: usize = 4;

/// Decodes the spans of a block of version 1 whose trace is wanted.
pub(crate) fn decode_v1(
    columns: &Columns<'_>,
    wanted: &dyn Fn(TraceId) -> bool,
) -> Result<Vec<Arc<StoredSpan>>, Malformed> {
    let strings = StringTable::read(columns.get(STRINGS)?)?;
    let mut cursor = Cursor::new(columns.get(ORIGINS)?);
    let mut origins = Vec::new();
    for _ in 0..cursor.count()? {
        let (resource, scope) = read_origin(&mut cursor, &strings)?;
        origins.push(Arc::new(Origin { resource: Arc::new(resource), scope: Arc::new(scope) }));
    }
    let mut traces = Cursor::new(columns.get(TRACES)?);
    let mut light = Cursor::new(columns.get(LIGHT)?);
    let mut heavy = Cursor::new(columns.get(HEAVY)?);
    let (mut sequence, mut spans) = (0u64, Vec::new());
    for _ in 0..traces.count()? {
        let (id, count) = (TraceId(traces.array()?), traces.u64()?);
        let is_wanted = wanted(id);
        for _ in 0..count {
            let origin = usize::try_from(light.u64()?).map_err(|_| Malformed("origin"))?;
            sequence = sequence.wrapping_add(light.i64()? as u64);
            let mut span = read_span_light(&mut light, &strings, id)?;
            let row = heavy.bytes()?;
            if !is_wanted {
                continue;
            }
            read_span_heavy(&mut Cursor::new(row), &strings, &mut span)?;
            let origin = Arc::clone(origins.get(origin).ok_or(Malformed("origin"))?);
            spans.push(Arc::new(StoredSpan { sequence, origin, span }));
        }
    }
    Ok(spans)
}

/// Term name of the service. An attribute of the same name would only make blocks be read in vain.
pub(crate) const SERVICE_TERM: &str = "trefoil_service_of_span";
/// Term name of the operation.
pub(crate) const OPERATION_TERM: &str = "trefoil_operation_of_span";

pub(crate) fn add_origin_terms(terms: &mut BlockTerms, origin: &Origin) {
    terms.add_term(SERVICE_TERM, origin.resource.service_name());
    let attributes = origin.resource.attributes.iter().chain(&origin.scope.attributes);
    attributes.for_each(|(name, value)| add_value_terms(terms, name, value));
    for (name, value) in scope_tags(&origin.scope) {
        terms.add_term(name, value);
    }
}

fn scope_tags(scope: &Scope) -> impl Iterator<Item = (&'static str, &str)> {
    [("otel.scope.name", scope.name.as_str()), ("otel.scope.version", scope.version.as_str())]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
}

/// The tags that Jaeger shows for what OpenTelemetry has as fields.
fn span_tags(kind: SpanKind, status: StatusCode, message: &str) -> impl Iterator<Item = (&'static str, &str)> {
    let is_error = status == StatusCode::Error;
    let kind = (kind != SpanKind::Unspecified).then(|| ("span.kind", kind.as_str()));
    let status = match status {
        StatusCode::Unset => None,
        StatusCode::Ok => Some(("otel.status_code", "OK")),
        StatusCode::Error => Some(("otel.status_code", "ERROR")),
    };
    let error = is_error.then_some(("error", "true"));
    let message = (!message.is_empty()).then_some(("otel.status_description", message));
    [kind, status, error, message].into_iter().flatten()
}

/// Adds what spans of a set have in common; `flags` are kind and status.
pub(crate) fn add_set_terms(terms: &mut BlockTerms, name: &str, flags: u8, message: &str) {
    terms.add_term(OPERATION_TERM, name);
    let kind = SpanKind::from_number(i32::from(flags & 0xf));
    for (name, value) in span_tags(kind, StatusCode::from_number(i32::from(flags >> 4)), message) {
        terms.add_term(name, value);
    }
}

/// Adds an attribute, and the elements of one that is a list.
pub(crate) fn add_value_terms(terms: &mut BlockTerms, name: &str, value: &AttributeValue) {
    terms.add_attribute("", name, value);
    if let AttributeValue::Array(items) = value {
        items.iter().for_each(|item| terms.add_term(name, &item.to_text()));
    }
}

pub(crate) fn add_event_terms(terms: &mut BlockTerms, event: &SpanEvent) {
    event.attributes.iter().for_each(|(name, value)| add_value_terms(terms, name, value));
    terms.add_term("event", &event.name);
}

/// Whether a span has a tag, compared as text, in any of its places.
pub(crate) fn has_tag(stored: &StoredSpan, name: &str, value: &str) -> bool {
    let is_it = |(n, v): &(String, AttributeValue)| {
        n == name
            && match v {
                AttributeValue::String(text) => text == value,
                other => other.to_text() == value,
            }
    };
    let (span, origin) = (&stored.span, &stored.origin);
    span.attributes.iter().any(is_it)
        || origin.resource.attributes.iter().any(is_it)
        || origin.scope.attributes.iter().any(is_it)
        || span.events.iter().any(|e| e.attributes.iter().any(is_it) || (name == "event" && e.name == value))
        || span_tags(span.kind, span.status_code, &span.status_message)
            .chain(scope_tags(&origin.scope))
            .any(|(n, v)| n == name && v == value)
}
