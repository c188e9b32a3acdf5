//! Spans between Jaeger's wire forms and the model's, mapped as OpenTelemetry's collector maps them
//! (<https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/pkg/translator/jaeger>).

use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::value::find;
use trefoil_model::{
    AttributeValue, Attributes, Resource, Scope, Span, SpanEvent, SpanGroup, SpanId, SpanKind, SpanLink, StatusCode,
    TraceId,
};
use trefoil_runtime::{Limits, limits};

use crate::event_limits::{limit_span, limit_span_attributes};
use crate::ingest::Context;
use crate::metric_limits::shorten;
use crate::otlp::traces::Converted;

/// Service of processes that have none, as Jaeger writes it.
const NO_SERVICE: &str = "OTLPResourceNoServiceName";
/// Attribute of a link that says which kind of reference it was.
const REFERENCE: &str = "opentracing.ref_type";

/// Who sent spans.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Process {
    pub(super) service: String,
    pub(super) tags: Attributes,
}

/// A reference to another span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    /// Child of; else follows from.
    pub(super) is_child: bool,
}

/// Something that happened during a span.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Log {
    /// Unix nanoseconds; 0: absent.
    pub(super) time_ns: i64,
    pub(super) fields: Attributes,
    /// Fields that are left out.
    pub(super) dropped: u32,
}

/// A span as it came.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Draft {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    /// Zero when it is not said, or in the references.
    pub(super) parent_span_id: [u8; 8],
    pub(super) name: String,
    pub(super) references: Vec<Reference>,
    pub(super) flags: u32,
    /// Unix nanoseconds; 0: absent.
    pub(super) start_ns: i64,
    pub(super) duration_ns: i64,
    pub(super) tags: Attributes,
    pub(super) logs: Vec<Log>,
    /// Attributes, events and links that are left out already.
    pub(super) dropped: [u32; 3],
    /// Who sent it, when it is another one than of the batch.
    pub(super) process: Option<Process>,
}

impl Draft {
    /// Adds a reference, or counts it when there are too many.
    pub(super) fn add_reference(&mut self, reference: Reference, limits: &Limits) {
        // One of them may name the parent.
        if self.references.len() <= limits.span_links_max {
            self.references.push(reference);
        } else {
            limits::hit("span_links_max");
            self.dropped[2] = self.dropped[2].saturating_add(1);
        }
    }

    /// Adds a log, or counts it when there are too many.
    pub(super) fn add_log(&mut self, log: Log, limits: &Limits) {
        if self.logs.len() < limits.span_events_max {
            self.logs.push(log);
        } else {
            limits::hit("span_events_max");
            self.dropped[1] = self.dropped[1].saturating_add(1);
        }
    }

    /// The parent: named, else the first "child of" of this trace, else the first "follows from" of it.
    fn parent(&self) -> Option<SpanId> {
        SpanId::from_bytes(&self.parent_span_id)
            .or_else(|| {
                let mut own = self.references.iter().filter(|r| r.trace_id == self.trace_id);
                let child = own.clone().find(|r| r.is_child);
                child.or_else(|| own.next()).and_then(|r| SpanId::from_bytes(&r.span_id))
            })
            .filter(|id| id.0 != self.span_id)
    }
}

/// Puts an attribute in place of one of the same name, or at the end; false when there are too many.
pub(super) fn put(attributes: &mut Attributes, name: String, value: AttributeValue, limits: &Limits) -> bool {
    if let Some((_, before)) = attributes.iter_mut().find(|(n, _)| *n == name) {
        *before = value;
    } else if attributes.len() < limits.span_attributes_max {
        attributes.push((name, value));
    } else {
        limits::hit("span_attributes_max");
        return false;
    }
    true
}

/// Takes spans one by one; a span that cannot be taken costs no other.
pub(super) struct Drafts<'a> {
    /// Who sent the spans that do not say it themselves; may come after them.
    pub(super) process: Process,
    context: &'a Context,
    latest_ns: i64,
    converted: Converted,
    /// Spans by index of their process (0: that of the batch) and scope.
    groups: Vec<(usize, Scope, Vec<Span>)>,
    by_key: FxHashMap<(usize, String, String), usize>,
    processes: Vec<Process>,
    count: usize,
}

impl<'a> Drafts<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        let mut converted = Converted::default();
        converted.batch.tenant = context.options.tenant;
        let ahead_ns = context.limits.future_ms_max.saturating_mul(1_000_000);
        Self {
            process: Process::default(),
            context,
            latest_ns: context.clock.now_ns().saturating_add(ahead_ns),
            converted,
            groups: Vec::new(),
            by_key: FxHashMap::default(),
            processes: Vec::new(),
            count: 0,
        }
    }

    pub(super) fn limits(&self) -> &'a Limits {
        &self.context.limits
    }

    /// Adds a span, or refuses it.
    pub(super) fn add(&mut self, mut draft: Draft) {
        let index = self.count;
        self.count += 1;
        let process = draft.process.take().map_or(0, |p| self.process_index(p));
        let scope = scope(&mut draft.tags);
        let name = shorten(&draft.name).to_owned();
        match self.convert(draft) {
            Ok(span) => self.group(process, scope).push(span),
            Err(reason) => self.converted.report.reject(|| format!("span {index} {name:?}: {reason}")),
        }
    }

    /// Refuses the next span.
    pub(super) fn reject(&mut self, reason: &str) {
        let index = self.count;
        self.count += 1;
        self.converted.report.reject(|| format!("span {index}: {reason}"));
    }

    /// Senders have one process mostly, or a few; those before the last are not looked for.
    fn process_index(&mut self, process: Process) -> usize {
        if self.processes.last() != Some(&process) {
            self.processes.push(process);
        }
        self.processes.len()
    }

    fn group(&mut self, process: usize, scope: Scope) -> &mut Vec<Span> {
        let key = (process, scope.name.clone(), scope.version.clone());
        let at = *self.by_key.entry(key).or_insert_with(|| {
            self.groups.push((process, scope, Vec::new()));
            self.groups.len() - 1
        });
        &mut self.groups[at].2
    }

    fn convert(&self, draft: Draft) -> Result<Span, String> {
        let trace_id = TraceId::from_bytes(&draft.trace_id).ok_or("trace id is zero")?;
        let span_id = SpanId::from_bytes(&draft.span_id).ok_or("span id is zero")?;
        if draft.start_ns <= 0 {
            return Err("span has no start time".to_owned());
        }
        if draft.start_ns > self.latest_ns {
            limits::hit("future_ms_max");
            return Err(format!("start time {} is too far in the future", draft.start_ns));
        }
        let parent = draft.parent();
        let Draft { mut tags, start_ns, .. } = draft;
        let kind = match take(&mut tags, "span.kind") {
            Some(value) => kind(value.as_str().unwrap_or_default()),
            None => SpanKind::Unspecified,
        };
        let (status_code, status_message) = status(&mut tags, kind);
        let trace_state = take_text(&mut tags, "w3c.tracestate").unwrap_or_default();
        let events = draft.logs.into_iter().map(|mut log| SpanEvent {
            time_ns: if log.time_ns > 0 { log.time_ns } else { start_ns },
            name: take(&mut log.fields, "event").map(|v| v.to_text()).unwrap_or_default(),
            attributes: log.fields,
            dropped_attributes: log.dropped,
        });
        let links = draft.references.iter().filter_map(|reference| {
            let span_id = SpanId::from_bytes(&reference.span_id)?;
            let is_parent = reference.is_child && Some(span_id) == parent;
            let word = if reference.is_child { "child_of" } else { "follows_from" };
            (!is_parent).then_some(SpanLink {
                trace_id: TraceId::from_bytes(&reference.trace_id)?,
                span_id,
                trace_state: String::new(),
                attributes: vec![(REFERENCE.to_owned(), AttributeValue::String(word.to_owned()))],
            })
        });
        let mut span = Span {
            trace_id,
            span_id,
            parent_span_id: parent,
            trace_state,
            // Sampled; the other bits are Jaeger's own.
            flags: draft.flags & 1,
            name: draft.name,
            kind,
            start_ns,
            end_ns: start_ns.saturating_add(draft.duration_ns.max(0)),
            attributes: tags,
            events: events.collect(),
            links: links.collect(),
            status_code,
            status_message,
            dropped: draft.dropped,
        };
        limit_span(&mut span, &self.context.limits)?;
        Ok(span)
    }

    /// Everything that was added.
    pub(super) fn finish(mut self) -> Converted {
        let mut resources = vec![Arc::new(resource(self.process, &self.context.limits))];
        resources.extend(self.processes.into_iter().map(|p| Arc::new(resource(p, &self.context.limits))));
        self.converted.batch.groups = self
            .groups
            .into_iter()
            .map(|(process, scope, spans)| SpanGroup {
                resource: Arc::clone(&resources[process]),
                scope: Arc::new(scope),
                spans,
            })
            .collect();
        self.converted
    }
}

fn resource(process: Process, limits: &Limits) -> Resource {
    let Process { service, mut tags } = process;
    for (theirs, ours) in [("hostname", "host.name"), ("jaeger.version", "opencensus.exporterversion")] {
        if find(&tags, ours).is_none()
            && let Some((name, value)) = tags.iter_mut().find(|(n, _)| n == theirs)
        {
            ours.clone_into(name);
            if theirs == "jaeger.version" {
                *value = AttributeValue::String(format!("Jaeger-{}", value.to_text()));
            }
        }
    }
    let mut attributes = Attributes::with_capacity(tags.len() + 1);
    if !service.is_empty() && service != NO_SERVICE {
        tags.retain(|(n, _)| n != "service.name");
        attributes.push(("service.name".to_owned(), AttributeValue::String(service)));
    }
    attributes.append(&mut tags);
    limit_span_attributes(&mut attributes, limits);
    Resource { attributes, schema_url: String::new() }
}

fn scope(tags: &mut Attributes) -> Scope {
    let mut first = |names: [&str; 2]| names.into_iter().find_map(|n| take_text(tags, n)).unwrap_or_default();
    let name = first(["otel.scope.name", "otel.library.name"]);
    let version = if name.is_empty() { String::new() } else { first(["otel.scope.version", "otel.library.version"]) };
    Scope { name, version, attributes: Attributes::new() }
}

/// Takes an attribute away.
fn take(attributes: &mut Attributes, name: &str) -> Option<AttributeValue> {
    let at = attributes.iter().position(|(n, _)| n == name)?;
    Some(attributes.remove(at).1)
}

fn take_text(attributes: &mut Attributes, name: &str) -> Option<String> {
    take(attributes, name).map(|v| v.to_text()).filter(|t| !t.is_empty())
}

fn kind(word: &str) -> SpanKind {
    match word {
        "client" => SpanKind::Client,
        "server" => SpanKind::Server,
        "producer" => SpanKind::Producer,
        "consumer" => SpanKind::Consumer,
        "internal" => SpanKind::Internal,
        _ => SpanKind::Unspecified,
    }
}

/// Takes the status out of the tags: `error` goes before `otel.status_code`, and that before the code of HTTP.
fn status(tags: &mut Attributes, kind: SpanKind) -> (StatusCode, String) {
    let http_message = |tags: &Attributes| find(tags, "http.status_message").map(AttributeValue::to_text);
    let said = take(tags, "otel.status_code");
    if find(tags, "error") == Some(&AttributeValue::Bool(true)) {
        take(tags, "error");
        let message = take_text(tags, "otel.status_description").or_else(|| http_message(tags));
        return (StatusCode::Error, message.unwrap_or_default());
    }
    if let Some(said) = said {
        let code = match said.to_text().to_ascii_uppercase().as_str() {
            "OK" => StatusCode::Ok,
            "ERROR" => StatusCode::Error,
            _ => StatusCode::Unset,
        };
        return (code, take_text(tags, "otel.status_description").unwrap_or_default());
    }
    let http = match find(tags, "http.status_code") {
        Some(AttributeValue::Int(code)) => Some(*code),
        Some(AttributeValue::String(text)) => text.parse().ok(),
        _ => None,
    };
    let is_error = match http {
        None | Some(100..400) => false,
        Some(400..500) => kind != SpanKind::Server,
        Some(_) => true,
    };
    if is_error {
        return (StatusCode::Error, http_message(tags).unwrap_or_default());
    }
    (StatusCode::Unset, String::new())
}
