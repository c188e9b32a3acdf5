//! Splunk's HTTP Event Collector: JSON objects one after another, each with an event and what is known of it, or bare lines
//! (<https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector>).
//!
//! `host`, `source`, `sourcetype` and `index` are stream labels. A text is the record's text; an object is a document as by
//! every other door. `fields` are attributes.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::documents::time::parse_value;
use crate::documents::{Builder, Defaults, Envelope, Field, FieldValue, Mapping, TimeUnit, parse_object};
use crate::ingest::Context;
use crate::json_lines::Decoded;
use crate::metric_limits::shorten;

/// What the fields of an event are by default: its time and stream stand beside it.
pub(crate) const DEFAULTS: Defaults<'_> = Defaults {
    message: &["message", "msg", "log", "_raw"],
    time: &[],
    streams: &[],
    severity: &["log.level", "severity"],
    unit: TimeUnit::Seconds,
};
const LABELS: [&str; 4] = ["host", "index", "source", "sourcetype"];

/// Why a request is refused as a whole, with the number that Splunk gave to the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 5: there is nothing in the body.
    NoData,
    /// 6: the body cannot be read.
    InvalidData,
    /// 12: an object has no event.
    NoEvent,
    /// 13: the event is empty.
    BlankEvent,
}

impl Fault {
    /// Splunk's number and text.
    pub fn code(self) -> (u8, &'static str) {
        match self {
            Self::NoData => (5, "No data"),
            Self::InvalidData => (6, "Invalid data format"),
            Self::NoEvent => (12, "Event field is required"),
            Self::BlankEvent => (13, "Event field cannot be blank"),
        }
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    host: Option<Cow<'a, str>>,
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sourcetype: Option<Cow<'a, str>>,
    #[serde(borrow)]
    index: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    fields: Option<&'a RawValue>,
}

/// The labels that a request says for all of its events, by query parameters: host, index, source, sourcetype.
pub type Metadata = [Option<String>; 4];

/// Decodes events. Of a request with a bad event those before it are kept, and the number of the bad one is told, as
/// Splunk does; those behind it are lost only when they cannot be found.
pub(crate) fn decode_events(
    bytes: &[u8],
    metadata: &Metadata,
    mapping: &Mapping,
    context: &Context,
) -> (Decoded, Option<(Fault, usize)>) {
    let text = String::from_utf8_lossy(bytes);
    let mut builder = Builder::new(context, mapping);
    let mut decoded = Decoded { have_own_times: true, ..Decoded::default() };
    let mut first_fault = None;
    let mut count = 0;
    // A list of events is no part of the protocol, but some senders send one.
    let trimmed = text.trim_ascii();
    let events: Box<dyn Iterator<Item = serde_json::Result<&RawValue>>> = if trimmed.starts_with('[') {
        match serde_json::from_str::<Vec<&RawValue>>(trimmed) {
            Ok(all) => Box::new(all.into_iter().map(Ok)),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    } else {
        Box::new(serde_json::Deserializer::from_str(trimmed).into_iter::<&RawValue>())
    };
    for raw in events {
        let Ok(raw) = raw else {
            decoded.report.reject(|| format!("event {count}: malformed JSON"));
            first_fault.get_or_insert((Fault::InvalidData, count));
            break;
        };
        match add_event(raw.get(), metadata, &mut builder, context) {
            Ok(has_own_time) => decoded.have_own_times &= has_own_time,
            Err((fault, reason)) => {
                decoded.report.reject(|| format!("event {count} {:?}: {reason}", shorten(raw.get())));
                first_fault.get_or_insert((fault, count));
            }
        }
        count += 1;
    }
    if count == 0 && first_fault.is_none() {
        first_fault = Some((Fault::NoData, 0));
    }
    decoded.batch = builder.finish();
    (decoded, first_fault)
}

fn add_event(
    raw: &str,
    metadata: &Metadata,
    builder: &mut Builder<'_>,
    context: &Context,
) -> Result<bool, (Fault, String)> {
    let invalid = |reason: String| (Fault::InvalidData, reason);
    if !raw.starts_with('{') {
        return Err(invalid("not an object".to_owned()));
    }
    let event: Event<'_> = serde_json::from_str(raw).map_err(|e| invalid(e.to_string()))?;
    let time_ns = match event.time {
        None => None,
        Some(time) => {
            let value = match time.get() {
                quoted if quoted.starts_with('"') => FieldValue::Text(quoted.trim_matches('"').into()),
                // As written, so that no digit is lost.
                number => FieldValue::Text(number.into()),
            };
            parse_value(&value, TimeUnit::Seconds).map_err(|()| invalid("time is not a time".to_owned()))?
        }
    };
    let given = [event.host, event.index, event.source, event.sourcetype];
    let labels: Vec<(&str, Cow<'_, str>)> = LABELS
        .iter()
        .zip(given)
        .zip(metadata)
        .filter_map(|((name, given), all)| Some((*name, given.or_else(|| all.as_deref().map(Cow::Borrowed))?)))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let depth_max = context.limits.json_depth_max;
    let mut fields = Vec::new();
    let Some(body) = event.event.map(RawValue::get).filter(|b| *b != "null") else {
        return Err((Fault::NoEvent, "no event".to_owned()));
    };
    let text: Option<Cow<'_, str>> = match body.as_bytes().first() {
        Some(b'"') => {
            let text: Cow<'_, str> = serde_json::from_str::<Text<'_>>(body).map_err(|e| invalid(e.to_string()))?.0;
            if text.trim_ascii().is_empty() {
                return Err((Fault::BlankEvent, "blank event".to_owned()));
            }
            Some(text)
        }
        Some(b'{') => {
            parse_object(body, depth_max, &mut fields).map_err(invalid)?;
            None
        }
        _ => Some(Cow::Borrowed(body)),
    };
    if let Some(more) = event.fields.map(RawValue::get).filter(|f| *f != "null") {
        parse_object(more, depth_max, &mut fields).map_err(invalid)?;
    }
    let envelope = Envelope { time_ns, labels: &labels, text: text.as_deref(), ..Envelope::default() };
    builder.add(&mut fields, body, &envelope).map_err(invalid)?;
    Ok(time_ns.is_some())
}

/// A text that is borrowed when it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Decodes bare lines, each a record with the time of its receipt.
pub(crate) fn decode_raw(bytes: &[u8], metadata: &Metadata, mapping: &Mapping, context: &Context) -> Decoded {
    let text = String::from_utf8_lossy(bytes);
    let mut builder = Builder::new(context, mapping);
    let mut decoded = Decoded::default();
    let labels: Vec<(&str, Cow<'_, str>)> = LABELS
        .iter()
        .zip(metadata)
        .filter_map(|(name, all)| Some((*name, Cow::Borrowed(all.as_deref().filter(|a| !a.is_empty())?))))
        .collect();
    let mut fields: Vec<Field<'_>> = Vec::new();
    for line in text.split('\n').map(|l| l.trim_end_matches('\r')).filter(|l| !l.trim_ascii().is_empty()) {
        let envelope = Envelope { labels: &labels, text: Some(line), ..Envelope::default() };
        if let Err(reason) = builder.add(&mut fields, line, &envelope) {
            fields.clear();
            decoded.report.reject(|| format!("line {:?}: {reason}", shorten(line)));
        }
    }
    decoded.batch = builder.finish();
    decoded
}
