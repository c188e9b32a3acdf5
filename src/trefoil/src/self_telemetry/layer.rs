//! The `tracing` layer that collects own log records and spans.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes as SpanAttributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;
use trefoil_model::{AttributeValue, Attributes, LogRecord, Span, SpanId, SpanKind, StatusCode, TraceId};

use super::Collector;

/// Collects what our own crates log and the spans that they open.
pub(crate) struct SelfLayer {
    collector: Collector,
    spans: bool,
}

impl SelfLayer {
    /// A layer that fills `collector`; with `spans` false, log records only.
    pub(crate) fn new(collector: Collector, spans: bool) -> Self {
        Self { collector, spans }
    }
}

/// What is kept of a span while it is open.
struct Open {
    trace_id: TraceId,
    span_id: SpanId,
    parent: Option<SpanId>,
    start_ns: i64,
    fields: Fields,
    failed: bool,
}

#[derive(Default)]
struct Fields {
    message: String,
    attributes: Attributes,
}

impl Fields {
    fn set(&mut self, field: &Field, value: AttributeValue) {
        let name = field.name().strip_prefix("r#").unwrap_or(field.name());
        match self.attributes.iter_mut().find(|(n, _)| n == name) {
            Some(slot) => slot.1 = value,
            None => self.attributes.push((name.to_owned(), value)),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        trefoil_model::value::find(&self.attributes, name).and_then(AttributeValue::as_str)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.set(field, AttributeValue::String(text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.set(field, AttributeValue::String(value.to_owned()));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, AttributeValue::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let value =
            i64::try_from(value).map_or_else(|_| AttributeValue::String(value.to_string()), AttributeValue::Int);
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, AttributeValue::Bool(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, AttributeValue::Double(value));
    }
}

fn is_ours(target: &str) -> bool {
    target == "trefoil" || target.starts_with("trefoil_") || target.starts_with("trefoil::")
}

fn severity(level: Level) -> (u8, &'static str, &'static str) {
    match level {
        Level::ERROR => (17, "ERROR", "error"),
        Level::WARN => (13, "WARN", "warn"),
        Level::INFO => (9, "INFO", "info"),
        Level::DEBUG => (5, "DEBUG", "debug"),
        Level::TRACE => (1, "TRACE", "trace"),
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SelfLayer {
    fn on_new_span(&self, attributes: &SpanAttributes<'_>, id: &Id, context: Context<'_, S>) {
        let metadata = attributes.metadata();
        if !self.spans || !is_ours(metadata.target()) || *metadata.level() > Level::INFO || Collector::is_quiet() {
            return;
        }
        let Some(span) = context.span(id) else { return };
        let above = span.scope().skip(1).find_map(|s| {
            let extensions = s.extensions();
            extensions.get::<Open>().map(|o| (o.trace_id, o.span_id))
        });
        let trace_id = above.map_or_else(|| TraceId(rand::random::<u128>().max(1).to_be_bytes()), |(trace, _)| trace);
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(Open {
            trace_id,
            span_id: SpanId(rand::random::<u64>().max(1).to_be_bytes()),
            parent: above.map(|(_, id)| id),
            start_ns: self.collector.clock.now_ns(),
            fields,
            failed: false,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
        {
            values.record(&mut open.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        if !is_ours(metadata.target()) || Collector::is_quiet() {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut ids = None;
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(open) = span.extensions_mut().get_mut::<Open>() {
                open.failed |= *metadata.level() == Level::ERROR;
                ids = Some((open.trace_id, open.span_id));
                break;
            }
        }
        let now = self.collector.clock.now_ns();
        let (number, text, level) = severity(*metadata.level());
        let mut attributes = fields.attributes;
        attributes.push(("code.namespace".to_owned(), AttributeValue::String(metadata.target().to_owned())));
        attributes.push(("detected_level".to_owned(), AttributeValue::String(level.to_owned())));
        self.collector.push_log(LogRecord {
            time_ns: now,
            observed_ns: now,
            severity_number: number,
            severity_text: text.to_owned(),
            text: fields.message,
            attributes,
            trace_id: ids.map(|(trace, _)| trace),
            span_id: ids.map(|(_, span)| span),
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let status = trefoil_model::value::find(&open.fields.attributes, "http.response.status_code");
        let failed = open.failed || matches!(status, Some(AttributeValue::Int(500..)));
        let kind = match open.fields.text("otel.kind") {
            Some("server") => SpanKind::Server,
            Some("client") => SpanKind::Client,
            _ => SpanKind::Internal,
        };
        let name = open.fields.text("otel.name").unwrap_or(span.name()).to_owned();
        let mut attributes = open.fields.attributes;
        attributes.retain(|(n, _)| !n.starts_with("otel."));
        self.collector.push_span(Span {
            trace_id: open.trace_id,
            span_id: open.span_id,
            parent_span_id: open.parent,
            trace_state: String::new(),
            flags: 0,
            name,
            kind,
            start_ns: open.start_ns,
            end_ns: self.collector.clock.now_ns().max(open.start_ns),
            attributes,
            events: Vec::new(),
            links: Vec::new(),
            status_code: if failed { StatusCode::Error } else { StatusCode::Unset },
            status_message: String::new(),
            dropped: [0; 3],
        });
    }
}
