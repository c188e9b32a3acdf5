//! Data sets of case files.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use trefoil_model::{AttributeValue, Labels, LogGroup, LogRecord};
use trefoil_template::go_time::parse_duration;

use super::GroupsReader;

/// 2024-03-01T00:00:00Z
pub(super) const EPOCH_NS: i64 = 1_709_251_200_000_000_000;

/// Labels by name.
pub(super) type Pairs = BTreeMap<String, String>;

/// A Go duration in nanoseconds.
pub(super) fn duration(value: &Json) -> Result<i64, String> {
    let text = text(value);
    parse_duration(&text).ok_or_else(|| format!("{text:?} is no duration"))
}

/// An offset from the epoch as Unix nanoseconds.
pub(super) fn time(offset: &Json) -> Result<i64, String> {
    EPOCH_NS.checked_add(duration(offset)?).ok_or_else(|| format!("{offset} is out of range"))
}

/// A scalar as text.
pub(super) fn text(value: &Json) -> String {
    match value {
        Json::String(s) => s.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

/// A mapping of scalars.
pub(super) fn pairs(value: &Json) -> Pairs {
    value.as_object().into_iter().flatten().map(|(n, v)| (n.clone(), text(v))).collect()
}

/// The streams of a data set as a reader.
pub(super) fn reader(data: &Json) -> Result<GroupsReader, String> {
    let streams = data["streams"].as_array().map_or(&[][..], Vec::as_slice);
    let groups = streams.iter().map(group).collect::<Result<_, _>>()?;
    Ok(GroupsReader { groups })
}

fn group(stream: &Json) -> Result<LogGroup, String> {
    let entries = stream["entries"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(LogGroup {
        stream: Labels::from_pairs(pairs(&stream["labels"])),
        shared: Arc::default(),
        records: entries.iter().map(record).collect::<Result<_, _>>()?,
    })
}

fn record(entry: &Json) -> Result<LogRecord, String> {
    Ok(LogRecord {
        time_ns: time(&entry["at"])?,
        observed_ns: 0,
        severity_number: 0,
        severity_text: String::new(),
        text: text(&entry["line"]),
        attributes: pairs(&entry["meta"]).into_iter().map(|(n, v)| (n, AttributeValue::String(v))).collect(),
        trace_id: None,
        span_id: None,
    })
}
