//! Log records that came by a socket: nobody waits for an answer that names the bad ones, so what can be mended is
//! mended, and only what cannot be kept at all is left out and counted.
//!
//! The rules for all of them are Loki's as in [`crate::loki_push`]: `service_name` is derived when it is absent,
//! `detected_level` is added, attributes that read like trace and span ids become ids, limits hold.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::value::find;
use trefoil_model::{AttributeValue, Attributes, Labels, LogBatch, LogGroup, LogRecord, SpanId, TraceId, WriteReport};
use trefoil_runtime::limits;

use crate::event_limits::{CUT_LINE, limit_record};
use crate::ingest::Context;
use crate::level;
use crate::loki_push::with_service_name;
use crate::metric_limits::{check_labels, cut, shorten};

/// Attribute that keeps the time that a sender wrote, in Unix nanoseconds, when it cannot be right and the record has
/// its receipt time instead.
pub const SENT_TIME: &str = "trefoil.sent_time_ns";
/// 2000-01-01: an earlier time comes from a clock that was never set.
const TIME_NS_MIN: i64 = 946_684_800_000_000_000;

/// A record as a decoder hands it in.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// Stream labels; `service_name` may be absent.
    pub stream: Labels,
    /// The record. A `time_ns` of 0 stands for its receipt time, which is `observed_ns`.
    pub record: LogRecord,
}

impl Received {
    /// A record without a time of its own and without attributes.
    pub fn new(stream: Labels, observed_ns: i64, text: String) -> Self {
        let record = LogRecord {
            time_ns: 0,
            observed_ns,
            severity_number: 0,
            severity_text: String::new(),
            text,
            attributes: Attributes::new(),
            trace_id: None,
            span_id: None,
        };
        Self { stream, record }
    }

    /// Approximate bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.record.heap_bytes() + self.stream.heap_bytes() + size_of::<Self>()
    }
}

/// What [`batch`] makes of records.
#[derive(Debug, Default)]
pub(crate) struct Batched {
    /// What to store.
    pub(crate) batch: LogBatch,
    /// What was left out.
    pub(crate) report: WriteReport,
}

/// Groups records by stream and applies the rules that hold for all.
pub(crate) fn batch(received: Vec<Received>, context: &Context) -> Batched {
    let now_ns = context.clock.now_ns();
    let mut out = Batched::default();
    out.batch.tenant = context.options.tenant;
    // The streams as they came, so that a stream's labels are made and checked once.
    let mut groups: FxHashMap<Labels, Result<usize, String>> = FxHashMap::default();
    let shared = Arc::new(Attributes::new());
    for Received { stream, record } in received {
        let opened = match groups.get(&stream) {
            Some(opened) => opened.clone(),
            None => {
                let opened = open(&stream, context, &shared, &mut out.batch);
                groups.insert(stream.clone(), opened.clone());
                opened
            }
        };
        let added = opened.and_then(|group| {
            let group = &mut out.batch.groups[group];
            let record = finish(record, &group.stream, now_ns, context)?;
            group.records.push(record);
            Ok(())
        });
        if let Err(reason) = added {
            out.report.reject(|| reason);
        }
    }
    out.batch.groups.retain(|group| !group.records.is_empty());
    out
}

fn open(stream: &Labels, context: &Context, shared: &Arc<Attributes>, batch: &mut LogBatch) -> Result<usize, String> {
    let labels = if context.options.discover_service_name { with_service_name(stream.clone()) } else { stream.clone() };
    let pairs: Vec<_> = labels.iter().collect();
    check_labels(&pairs, &context.limits)
        .map_err(|reason| format!("stream {}: {reason}", shorten(&labels.to_string())))?;
    batch.groups.push(LogGroup { stream: labels, shared: Arc::clone(shared), records: Vec::new() });
    Ok(batch.groups.len() - 1)
}

fn finish(mut record: LogRecord, stream: &Labels, now_ns: i64, context: &Context) -> Result<LogRecord, String> {
    let limits = &context.limits;
    let receipt_ns = if record.observed_ns > 0 { record.observed_ns } else { now_ns };
    record.observed_ns = receipt_ns;
    let newest_ns = now_ns.saturating_add(limits.future_ms_max.saturating_mul(1_000_000));
    if record.time_ns == 0 {
        record.time_ns = receipt_ns;
    } else if !(TIME_NS_MIN..=newest_ns).contains(&record.time_ns) {
        if record.time_ns > newest_ns {
            limits::hit("future_ms_max");
        }
        record.attributes.push((SENT_TIME.to_owned(), AttributeValue::Int(record.time_ns)));
        record.time_ns = receipt_ns;
    }
    take_ids(&mut record);
    if context.options.discover_log_levels && !level::has_detected_level(&record.attributes) {
        let level =
            level::detect(record.severity_number, &record.severity_text, &record.attributes, stream, &record.text);
        record.attributes.insert(0, (level::DETECTED_LEVEL.to_owned(), AttributeValue::String(level.to_owned())));
    }
    // A line that is too long to be taken whole is cut like one that is only too long to be kept whole.
    if record.text.len() > limits.log_line_bytes_max {
        limits::hit("log_line_cut_bytes");
        let length = record.text.len();
        let most = limits.log_line_cut_bytes.min(limits.log_line_bytes_max);
        record.text.truncate(cut(&record.text, most).len());
        record.text.shrink_to_fit();
        if find(&record.attributes, CUT_LINE).is_none() {
            record.attributes.push((CUT_LINE.to_owned(), AttributeValue::Int(length as i64)));
        }
    }
    limit_record(&mut record, limits)
        .map_err(|reason| format!("record {:?} of stream {stream}: {reason}", shorten(&record.text)))?;
    Ok(record)
}

/// Moves what reads as a trace or span id into the record's own fields.
fn take_ids(record: &mut LogRecord) {
    if !record.attributes.iter().any(|(name, _)| name == "trace_id" || name == "span_id") {
        return;
    }
    let text = |name: &str| find(&record.attributes, name).and_then(AttributeValue::as_str);
    let (trace_id, span_id) =
        (text("trace_id").and_then(TraceId::from_hex), text("span_id").and_then(SpanId::from_hex));
    // What reads differently than an id stays what it was.
    record.attributes.retain(|(name, value)| {
        let id = match name.as_str() {
            "trace_id" => trace_id.map(|id| id.to_string()),
            "span_id" => span_id.map(|id| id.to_string()),
            _ => None,
        };
        id.is_none() || id.as_deref() != value.as_str()
    });
    record.trace_id = record.trace_id.or(trace_id);
    record.span_id = record.span_id.or(span_id);
}

/// Adds a value under its name; the members of a map each under their dotted names, down to `depth` maps. What has no
/// value is left out.
pub(crate) fn flatten(name: String, value: AttributeValue, depth: usize, out: &mut Attributes) {
    match value {
        AttributeValue::Map(members) if depth > 0 && !members.is_empty() => {
            for (member, value) in members {
                flatten(format!("{name}.{member}"), value, depth - 1, out);
            }
        }
        AttributeValue::Null => {}
        value => out.push((name, value)),
    }
}
