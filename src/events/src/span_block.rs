//! The columns of a block of spans.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::{AttributeValue, Resource, Scope, Span, SpanKind, StatusCode, TraceId};

use crate::part_file::Columns;
use crate::record::{put_origin, put_span_heavy, put_span_light, read_origin, read_span_heavy, read_span_light};
use crate::table::BlockInfo;
use crate::tokens::{BlockTerms, trace_key};
use crate::wire::{Cursor, Malformed, StringTable, Strings, put_bytes, put_i64, put_len, put_u64};

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

const STRINGS: usize = 0;
const ORIGINS: usize = 1;
const TRACES: usize = 2;
const LIGHT: usize = 3;
const HEAVY: usize = 4;
const COLUMNS: usize = 5;

/// Encodes spans, sorted by trace id.
pub(crate) fn encode(spans: &[Arc<StoredSpan>]) -> (BlockInfo, Vec<Vec<u8>>, BlockTerms) {
    let mut columns = vec![Vec::new(); COLUMNS];
    let (mut strings, mut terms) = (Strings::default(), BlockTerms::default());
    let mut info = BlockInfo { min_t: i64::MAX, max_t: i64::MIN, ..BlockInfo::default() };
    let mut numbers: FxHashMap<*const Origin, u64> = FxHashMap::default();
    let mut origins: Vec<&Arc<Origin>> = Vec::new();
    let mut runs: Vec<(TraceId, u64)> = Vec::new();
    let (mut last_sequence, mut row) = (0u64, Vec::new());
    for stored in spans {
        let span = &stored.span;
        let origin = *numbers.entry(Arc::as_ptr(&stored.origin)).or_insert_with(|| {
            match origins.iter().position(|o| **o == stored.origin) {
                Some(index) => index as u64,
                None => {
                    add_origin_terms(&mut terms, &stored.origin);
                    origins.push(&stored.origin);
                    origins.len() as u64 - 1
                }
            }
        });
        match runs.last_mut() {
            Some((id, count)) if *id == span.trace_id => *count += 1,
            _ => {
                terms.add_key(trace_key(span.trace_id));
                runs.push((span.trace_id, 1));
            }
        }
        put_u64(&mut columns[LIGHT], origin);
        put_i64(&mut columns[LIGHT], stored.sequence.wrapping_sub(last_sequence) as i64);
        last_sequence = stored.sequence;
        put_span_light(&mut columns[LIGHT], &mut strings, span);
        row.clear();
        put_span_heavy(&mut row, &mut strings, span);
        put_bytes(&mut columns[HEAVY], &row);
        add_span_terms(&mut terms, span);
        info.min_t = info.min_t.min(span.start_ns);
        info.max_t = info.max_t.max(span.start_ns);
        info.count += 1;
    }
    info.traces = runs.first().zip(runs.last()).map(|(first, last)| (first.0, last.0));
    put_len(&mut columns[TRACES], runs.len());
    for (id, count) in &runs {
        columns[TRACES].extend_from_slice(&id.0);
        put_u64(&mut columns[TRACES], *count);
    }
    put_len(&mut columns[ORIGINS], origins.len());
    for origin in &origins {
        put_origin(&mut columns[ORIGINS], &mut strings, &origin.resource, &origin.scope);
    }
    columns[STRINGS] = strings.finish();
    (info, columns, terms)
}

/// Decodes the spans of a block; with `only`, those of one trace.
pub(crate) fn decode(columns: &Columns<'_>, only: Option<TraceId>) -> Result<Vec<Arc<StoredSpan>>, Malformed> {
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
        for _ in 0..count {
            let origin = usize::try_from(light.u64()?).map_err(|_| Malformed("origin"))?;
            sequence = sequence.wrapping_add(light.i64()? as u64);
            let mut span = read_span_light(&mut light, &strings, id)?;
            let row = heavy.bytes()?;
            if only.is_some_and(|only| only != id) {
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

fn add_origin_terms(terms: &mut BlockTerms, origin: &Origin) {
    terms.add_term(SERVICE_TERM, origin.resource.service_name());
    terms.add_attributes("", &origin.resource.attributes);
    terms.add_attributes("", &origin.scope.attributes);
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
fn span_tags(span: &Span) -> impl Iterator<Item = (&'static str, &str)> {
    let kind = (span.kind != SpanKind::Unspecified).then(|| ("span.kind", span.kind.as_str()));
    let status = match span.status_code {
        StatusCode::Unset => None,
        StatusCode::Ok => Some(("otel.status_code", "OK")),
        StatusCode::Error => Some(("otel.status_code", "ERROR")),
    };
    let error = (span.status_code == StatusCode::Error).then_some(("error", "true"));
    let message =
        (!span.status_message.is_empty()).then_some(("otel.status_description", span.status_message.as_str()));
    [kind, status, error, message].into_iter().flatten()
}

fn add_span_terms(terms: &mut BlockTerms, span: &Span) {
    terms.add_term(OPERATION_TERM, &span.name);
    terms.add_attributes("", &span.attributes);
    for event in &span.events {
        terms.add_attributes("", &event.attributes);
        terms.add_term("event", &event.name);
    }
    for (name, value) in span_tags(span) {
        terms.add_term(name, value);
    }
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
        || span_tags(span).chain(scope_tags(&origin.scope)).any(|(n, v)| n == name && v == value)
}
