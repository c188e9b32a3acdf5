//! Fields of documents into records, and records into groups of one stream.

use std::borrow::Cow;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::labels::{LabelsBuilder, underscored};
use trefoil_model::{AttributeValue, Attributes, Labels, LogBatch, LogGroup, LogRecord, SpanId, TraceId};
use trefoil_runtime::limits;

use super::parse::{Field, FieldValue};
use super::time::parse_value;
use super::{DEFAULT_INDEX, INDEX_LABEL, Mapping, Role};
use crate::event_limits::{DROPPED_ATTRIBUTES, limit_record};
use crate::ingest::Context;
use crate::level;
use crate::loki_push::SERVICE_NAME_LABELS;
use crate::metric_limits::{check_labels, shorten};

const SERVICE_NAME: &str = "service_name";
const UNKNOWN_SERVICE: &str = "unknown_service";

/// A document that became a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The record's time, Unix nanoseconds.
    pub(crate) time_ns: i64,
    /// The document said its time itself.
    pub(crate) has_own_time: bool,
}

/// What is known of a document beside its fields.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Envelope<'e> {
    /// The name of the index under which it was sent.
    pub(crate) index: Option<&'e str>,
    /// Its time, Unix nanoseconds; the fields that name times are not looked at then.
    pub(crate) time_ns: Option<i64>,
    /// Labels of its stream, each name once.
    pub(crate) labels: &'e [(&'e str, Cow<'e, str>)],
    /// Its text; the fields that name texts are attributes then.
    pub(crate) text: Option<&'e str>,
    /// Its severity as the sender wrote it.
    pub(crate) severity: &'e str,
    /// OpenTelemetry's number of the severity, 0 when unknown.
    pub(crate) severity_number: u8,
    /// The level word, when it is known and need not be derived.
    pub(crate) level: Option<&'static str>,
}

/// Collects records of documents by stream.
pub(crate) struct Builder<'c> {
    context: &'c Context,
    mapping: &'c Mapping,
    now_ns: i64,
    time_max_ns: i64,
    groups: Vec<Group>,
    /// Groups by the values of their stream fields, or why there is none.
    by_key: FxHashMap<Box<[u8]>, Result<usize, Box<str>>>,
    /// Memory that is used again: the key of a stream, and which field is which of its labels.
    key: Vec<u8>,
    slots: Vec<Option<usize>>,
    no_attributes: Arc<Attributes>,
}

struct Group {
    log: LogGroup,
    /// Level that the stream's labels say.
    level: Option<&'static str>,
}

impl<'c> Builder<'c> {
    pub(crate) fn new(context: &'c Context, mapping: &'c Mapping) -> Self {
        let now_ns = context.clock.now_ns();
        Self {
            context,
            mapping,
            now_ns,
            time_max_ns: now_ns.saturating_add(context.limits.future_ms_max.saturating_mul(1_000_000)),
            groups: Vec::new(),
            by_key: FxHashMap::default(),
            key: Vec::new(),
            slots: Vec::new(),
            no_attributes: Arc::new(Attributes::new()),
        }
    }

    /// Makes a record of a document's fields and empties them. `source` is the document itself, the record's text when
    /// nothing else is.
    ///
    /// Errors: why it is refused.
    pub(crate) fn add<'d>(
        &mut self,
        fields: &mut Vec<Field<'d>>,
        source: &str,
        envelope: &Envelope<'_>,
    ) -> Result<Placed, String> {
        for (name, value) in &self.mapping.extra {
            fields.retain(|f| f.name != *name);
            fields.push(Field::text(name.clone(), value.clone()));
        }
        let mut draft = self.sort_out(fields, envelope)?;
        let group = self.group(fields, draft.service, envelope)?;
        let text = match (envelope.text, draft.message) {
            (Some(text), _) => text.to_owned(),
            (None, Some((_, at))) => {
                match std::mem::replace(&mut fields[at].value, FieldValue::Other(AttributeValue::Null)) {
                    FieldValue::Text(text) => text.into_owned(),
                    FieldValue::Other(value) => value.to_text(),
                }
            }
            (None, None) => source.to_owned(),
        };
        let mut attributes = self.attributes(fields, draft.left);
        if self.context.options.discover_log_levels && !level::has_detected_level(&attributes) {
            let level = match envelope.level.or(self.groups[group].level) {
                Some(level) => level,
                None => level::detect(0, &draft.severity, &attributes, &Labels::empty(), &text),
            };
            attributes.insert(0, (level::DETECTED_LEVEL.to_owned(), AttributeValue::String(level.to_owned())));
        }
        let time_ns = draft.time_ns.unwrap_or(self.now_ns);
        if time_ns > self.time_max_ns {
            limits::hit("future_ms_max");
            return Err(format!("timestamp {time_ns} is too far in the future"));
        }
        let mut record = LogRecord {
            time_ns,
            observed_ns: 0,
            severity_number: envelope.severity_number,
            severity_text: std::mem::take(&mut draft.severity),
            text,
            attributes,
            trace_id: draft.trace_id,
            span_id: draft.span_id,
        };
        limit_record(&mut record, &self.context.limits)?;
        self.groups[group].log.records.push(record);
        Ok(Placed { time_ns, has_own_time: draft.time_ns.is_some() })
    }

    /// What was collected.
    pub(crate) fn finish(self) -> LogBatch {
        let groups = self.groups.into_iter().map(|g| g.log).filter(|g| !g.records.is_empty()).collect();
        LogBatch { tenant: self.context.options.tenant, groups }
    }

    /// Finds which field is what, and marks those that are no attributes.
    fn sort_out(&mut self, fields: &mut [Field<'_>], envelope: &Envelope<'_>) -> Result<Draft, String> {
        self.slots.clear();
        self.slots.resize(self.mapping.streams.len(), None);
        let mut draft = Draft { time_ns: envelope.time_ns, severity: envelope.severity.to_owned(), ..Draft::default() };
        let mut time: Option<(u16, i64)> = None;
        for (at, field) in fields.iter_mut().enumerate() {
            let Some(role) = self.mapping.role(&field.name) else { continue };
            match role {
                Role::Ignored => field.is_taken = true,
                Role::Stream(slot) => {
                    let slot = &mut self.slots[usize::from(slot)];
                    // Of a repeated name the first counts.
                    field.is_taken = true;
                    slot.get_or_insert(at);
                }
                Role::Message(_) if envelope.text.is_some() => {}
                Role::Time(_) if envelope.time_ns.is_some() => {}
                Role::Message(rank) => {
                    let is_text = match &field.value {
                        FieldValue::Text(text) => !text.is_empty(),
                        FieldValue::Other(value) => !matches!(value, AttributeValue::Null | AttributeValue::Array(_)),
                    };
                    if is_text && draft.message.is_none_or(|(best, _)| rank < best) {
                        draft.message = Some((rank, at));
                    }
                }
                Role::Time(rank) => match parse_value(&field.value, self.mapping.unit) {
                    Ok(Some(t)) => {
                        if time.is_none_or(|(best, _)| rank < best) {
                            time = Some((rank, t));
                        }
                        // The instant is kept once.
                        field.is_taken = rank == 0;
                    }
                    Ok(None) => field.is_taken = true,
                    Err(()) if rank == 0 => {
                        let shown = field.value.text().into_owned();
                        return Err(format!("field {:?}: {:?} is not a time", field.name, shorten(&shown)));
                    }
                    Err(()) => {}
                },
                Role::Severity => {
                    if let FieldValue::Text(text) = &field.value
                        && draft.severity.is_empty()
                    {
                        draft.severity = text.clone().into_owned();
                        field.is_taken = true;
                    }
                }
                // Kept once, in their own fields; what reads differently than an id stays what it was.
                Role::Trace => {
                    let id = as_text(&field.value).and_then(|t| TraceId::from_hex(t).filter(|id| id.to_string() == t));
                    field.is_taken = id.is_some() && draft.trace_id.is_none_or(|known| Some(known) == id);
                    draft.trace_id = draft.trace_id.or(id);
                }
                Role::Span => {
                    let id = as_text(&field.value).and_then(|t| SpanId::from_hex(t).filter(|id| id.to_string() == t));
                    field.is_taken = id.is_some() && draft.span_id.is_none_or(|known| Some(known) == id);
                    draft.span_id = draft.span_id.or(id);
                }
                Role::Service(rank) => {
                    if draft.service.is_none_or(|(best, _)| rank < best)
                        && as_text(&field.value).is_some_and(|t| !t.is_empty())
                    {
                        draft.service = Some((rank, at));
                    }
                }
            }
        }
        if let Some((rank, t)) = time {
            draft.time_ns = Some(t);
            if rank > 0 {
                // Which of several it was is found by its rank.
                for field in fields.iter_mut() {
                    if self.mapping.role(&field.name) == Some(Role::Time(rank)) {
                        field.is_taken = true;
                    }
                }
            }
        }
        if let Some((_, at)) = draft.message {
            fields[at].is_taken = true;
        }
        draft.left = fields.iter().filter(|f| !f.is_taken).count();
        Ok(draft)
    }

    /// The group of a document's stream.
    fn group(
        &mut self,
        fields: &[Field<'_>],
        service: Option<(u16, usize)>,
        envelope: &Envelope<'_>,
    ) -> Result<usize, String> {
        let service = service.map(|(_, at)| fields[at].value.text());
        self.key.clear();
        push_key(&mut self.key, envelope.index.unwrap_or(""));
        push_key(&mut self.key, service.as_deref().unwrap_or(""));
        for slot in &self.slots {
            push_key(&mut self.key, &slot.map_or(Cow::Borrowed(""), |at| fields[at].value.text()));
        }
        for (name, value) in envelope.labels {
            push_key(&mut self.key, name);
            push_key(&mut self.key, value);
        }
        if let Some(known) = self.by_key.get(self.key.as_slice()) {
            return known.clone().map_err(String::from);
        }
        let made = self.open(fields, service.as_deref(), envelope);
        let kept = made.as_ref().map(|g| *g).map_err(|e| Box::from(e.as_str()));
        self.by_key.insert(self.key.as_slice().into(), kept);
        made
    }

    fn open(&mut self, fields: &[Field<'_>], service: Option<&str>, envelope: &Envelope<'_>) -> Result<usize, String> {
        let mut labels = LabelsBuilder::new();
        for (name, value) in envelope.labels {
            labels.set(*name, value.as_ref());
        }
        for (slot, name) in self.slots.iter().zip(&self.mapping.streams) {
            if let Some(at) = slot {
                labels.set(name.clone(), fields[*at].value.text().into_owned());
            }
        }
        if let Some(index) = envelope.index.filter(|i| !i.is_empty() && *i != DEFAULT_INDEX) {
            labels.set(INDEX_LABEL, index);
        }
        let found = |wanted: &str| {
            labels.pairs().iter().find(|(n, v)| !v.is_empty() && underscored(n) == wanted).map(|(_, v)| v.clone())
        };
        // A stream needs a label.
        let is_bare = labels.pairs().iter().all(|(_, v)| v.is_empty());
        if (self.context.options.discover_service_name || is_bare) && found(SERVICE_NAME).is_none() {
            let name = service
                .map(str::to_owned)
                .or_else(|| SERVICE_NAME_LABELS.iter().find_map(|name| found(name)))
                .unwrap_or_else(|| UNKNOWN_SERVICE.to_owned());
            labels.set(SERVICE_NAME, name);
        }
        let labels = labels.build();
        let pairs: Vec<_> = labels.iter().collect();
        check_labels(&pairs, &self.context.limits)
            .map_err(|reason| format!("stream {}: {reason}", shorten(&labels.to_string())))?;
        let level = level::of_labels(&labels);
        let log = LogGroup { stream: labels, shared: Arc::clone(&self.no_attributes), records: Vec::new() };
        self.groups.push(Group { log, level });
        Ok(self.groups.len() - 1)
    }

    /// Moves what is left into attributes, up to their limits; what is over them is not even copied.
    fn attributes(&self, fields: &mut Vec<Field<'_>>, left: usize) -> Attributes {
        let limits = &self.context.limits;
        let mut attributes = Attributes::with_capacity(left.min(limits.log_attributes_max) + 1);
        let bytes_max = limits.log_attributes_bytes_max.saturating_sub(96);
        let mut dropped = 0;
        let mut bytes = 0;
        for field in fields.drain(..).filter(|f| !f.is_taken) {
            // The derived level and the number of dropped ones have a place, too.
            if attributes.len() + 2 >= limits.log_attributes_max || bytes > bytes_max {
                dropped += 1;
                continue;
            }
            bytes += field.name.len()
                + match &field.value {
                    FieldValue::Text(text) => text.len(),
                    FieldValue::Other(value) => value.heap_bytes(),
                };
            if bytes > bytes_max {
                dropped += 1;
                continue;
            }
            attributes.push((field.name.into_owned(), field.value.into_attribute()));
        }
        if dropped > 0 {
            limits::hit(if bytes <= bytes_max { "log_attributes_max" } else { "log_attributes_bytes_max" });
            attributes.push((DROPPED_ATTRIBUTES.to_owned(), AttributeValue::Int(dropped)));
        }
        attributes
    }
}

/// What was found of a document.
#[derive(Default)]
struct Draft {
    message: Option<(u16, usize)>,
    service: Option<(u16, usize)>,
    time_ns: Option<i64>,
    severity: String,
    trace_id: Option<TraceId>,
    span_id: Option<SpanId>,
    /// Fields that are attributes.
    left: usize,
}

fn as_text<'a>(value: &'a FieldValue<'_>) -> Option<&'a str> {
    match value {
        FieldValue::Text(text) => Some(text),
        FieldValue::Other(_) => None,
    }
}

/// Appends a text to a key so that no two lists of texts have the same key.
fn push_key(key: &mut Vec<u8>, text: &str) {
    key.extend_from_slice(&(text.len() as u64).to_le_bytes()[..4]);
    key.extend_from_slice(text.as_bytes());
}
