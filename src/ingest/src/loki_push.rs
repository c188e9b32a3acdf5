//! Loki's push API (<https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>).
//!
//! JSON, or `logproto.PushRequest` in snappy block format. An entry or stream that cannot be taken is refused alone and
//! the answer is 400 naming it; all others are stored. A request that cannot be decoded stores nothing.

mod json;
mod proto;

use std::sync::Arc;

use http::HeaderMap;
use rustc_hash::FxHashMap;
use trefoil_model::value::find;
use trefoil_model::{AttributeValue, Attributes, Labels, LogBatch, LogGroup, LogRecord, SpanId, TraceId, WriteReport};
use trefoil_runtime::limits;

use crate::IngestError;
use crate::body::{Encoding, media_type};
use crate::event_limits::limit_record;
use crate::ingest::Context;
use crate::label_text;
use crate::level;
use crate::metric_limits::{check_labels, shorten};

/// Labels from which `service_name` is taken, first match first.
pub const SERVICE_NAME_LABELS: [&str; 12] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
];
const SERVICE_NAME: &str = "service_name";
const UNKNOWN_SERVICE: &str = "unknown_service";

/// The two formats of a push request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `logproto.PushRequest`
    Protobuf,
    /// `{"streams":[...]}`
    Json,
}

/// A decoded request.
#[derive(Debug, Default)]
pub struct Decoded {
    /// What to store.
    pub batch: LogBatch,
    /// What was refused.
    pub report: WriteReport,
}

/// Checks the headers. A body without a type is protobuf; protobuf without an encoding is snappy.
///
/// Errors: `Malformed` for another type (Loki answers 400), `Unsupported` for another encoding.
pub fn check_headers(headers: &HeaderMap) -> Result<(Format, Encoding), IngestError> {
    let encoding = Encoding::from_headers(headers)?;
    match media_type(headers).as_str() {
        "" | "application/x-protobuf" => match encoding {
            Encoding::Identity | Encoding::Snappy => Ok((Format::Protobuf, Encoding::Snappy)),
            other => Ok((Format::Protobuf, other)),
        },
        "application/json" => Ok((Format::Json, encoding)),
        other => Err(IngestError::Malformed(format!(
            "content type {other:?} is not supported; send application/json or application/x-protobuf"
        ))),
    }
}

/// Decodes an inflated request.
pub(crate) fn decode(format: Format, bytes: &[u8], context: &Context) -> Result<Decoded, IngestError> {
    let mut builder = Builder::new(context);
    match format {
        Format::Protobuf => proto::decode(bytes, &mut builder)?,
        Format::Json => json::decode(bytes, &mut builder)?,
    }
    Ok(builder.decoded)
}

/// Collects streams and entries, whatever their format.
struct Builder<'a> {
    context: &'a Context,
    now_ns: i64,
    decoded: Decoded,
    /// Groups by stream: some senders repeat a stream for every entry.
    groups: FxHashMap<Labels, usize>,
    no_attributes: Arc<Attributes>,
}

/// A stream that entries are added to.
struct OpenStream {
    group: usize,
    /// Level that the stream's labels say.
    level: Option<&'static str>,
}

impl<'a> Builder<'a> {
    fn new(context: &'a Context) -> Self {
        Self {
            context,
            now_ns: context.clock.now_ns(),
            decoded: Decoded {
                batch: LogBatch { tenant: context.options.tenant, groups: Vec::new() },
                report: WriteReport::default(),
            },
            groups: FxHashMap::default(),
            no_attributes: Arc::new(Attributes::new()),
        }
    }

    /// Opens the stream of a label text; the error is the reason for which its entries are refused.
    fn open_text(&mut self, labels: &str) -> Result<OpenStream, String> {
        label_text::parse(labels)
            .map_err(|e| format!("stream {:?}: labels: {e}", shorten(labels)))
            .and_then(|builder| self.open(builder.build()))
    }

    fn open(&mut self, labels: Labels) -> Result<OpenStream, String> {
        if labels.is_empty() {
            return Err("stream {}: at least one label is needed".to_owned());
        }
        let labels = if self.context.options.discover_service_name { with_service_name(labels) } else { labels };
        let pairs: Vec<_> = labels.iter().collect();
        check_labels(&pairs, &self.context.limits)
            .map_err(|reason| format!("stream {}: {reason}", shorten(&labels.to_string())))?;
        let level = level::of_labels(&labels);
        let group = match self.groups.get(&labels) {
            Some(group) => *group,
            None => {
                let group = self.decoded.batch.groups.len();
                self.groups.insert(labels.clone(), group);
                let shared = Arc::clone(&self.no_attributes);
                self.decoded.batch.groups.push(LogGroup { stream: labels, shared, records: Vec::new() });
                group
            }
        };
        Ok(OpenStream { group, level })
    }

    fn add(&mut self, stream: &OpenStream, time_ns: i64, text: String, mut attributes: Attributes) {
        let limits = &self.context.limits;
        let trace_id = find(&attributes, "trace_id").and_then(AttributeValue::as_str).and_then(TraceId::from_hex);
        let span_id = find(&attributes, "span_id").and_then(AttributeValue::as_str).and_then(SpanId::from_hex);
        // As ids they are kept once, in their own fields; what reads differently than an id stays what it was.
        attributes.retain(|(name, value)| {
            let id = match name.as_str() {
                "trace_id" => trace_id.map(|id| id.to_string()),
                "span_id" => span_id.map(|id| id.to_string()),
                _ => None,
            };
            id.is_none() || id.as_deref() != value.as_str()
        });
        if self.context.options.discover_log_levels && !level::has_detected_level(&attributes) {
            let level = match stream.level {
                Some(level) => level,
                None => level::detect(0, "", &attributes, &Labels::empty(), &text),
            };
            attributes.insert(0, (level::DETECTED_LEVEL.to_owned(), AttributeValue::String(level.to_owned())));
        }
        let mut record = LogRecord {
            time_ns,
            observed_ns: 0,
            severity_number: 0,
            severity_text: String::new(),
            text,
            attributes,
            trace_id,
            span_id,
        };
        let checked = if time_ns > self.now_ns.saturating_add(limits.future_ms_max.saturating_mul(1_000_000)) {
            limits::hit("future_ms_max");
            Err(format!("timestamp {time_ns} is too far in the future"))
        } else {
            limit_record(&mut record, limits)
        };
        match checked {
            Ok(()) => self.decoded.batch.groups[stream.group].records.push(record),
            Err(reason) => {
                let group = &self.decoded.batch.groups[stream.group];
                self.decoded.report.reject(|| {
                    format!("entry {:?} at {time_ns} of stream {}: {reason}", shorten(&record.text), group.stream)
                });
            }
        }
    }

    fn reject(&mut self, entries: usize, reason: &str) {
        for _ in 0..entries.max(1) {
            self.decoded.report.reject(|| reason.to_owned());
        }
    }

    /// Leaves out streams without entries.
    fn finish(&mut self) {
        self.decoded.batch.groups.retain(|g| !g.records.is_empty());
    }
}

/// Adds the label `service_name` when it is absent.
pub(crate) fn with_service_name(labels: Labels) -> Labels {
    if labels.get(SERVICE_NAME).is_some() {
        return labels;
    }
    let found = SERVICE_NAME_LABELS.iter().find_map(|name| labels.get(name)).unwrap_or(UNKNOWN_SERVICE).to_owned();
    let mut builder = labels.to_builder();
    builder.set(SERVICE_NAME, found);
    builder.build()
}
