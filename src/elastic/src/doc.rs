//! A log record as a document: which fields it has and what they hold (DESIGN section 5).
//!
//! `@timestamp`, `message`, `log.level`, `trace.id`, `span.id`, then stream labels and attributes under the names that
//! they were sent with. A stream label hides an attribute of the same name. `_index` and `_id` are fields too. For
//! each field that is not `message` there is `<field>.keyword`, which is the same; `message.keyword` is the whole line.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};
use trefoil_model::log::level_of_severity;
use trefoil_model::value::find;
use trefoil_model::{AttributeValue, Labels, LogEntry, LogRecord};

use crate::date;

/// Label or attribute that has the name of the index; see [`INDEX`].
pub const INDEX_ATTRIBUTE: &str = "_index";
/// Index of the records that came in by doors without indices.
pub const INDEX: &str = "logs";
/// The field of the time.
pub const TIMESTAMP: &str = "@timestamp";
/// The analysed field.
pub const MESSAGE: &str = "message";
/// Attribute that has the id which a sender gave to a document.
pub const ID_ATTRIBUTE: &str = "_id";
const KEYWORD: &str = ".keyword";
/// Maps in attributes are followed so deep.
const DEPTH_MAX: usize = 32;

/// A value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// Unix nanoseconds.
    Time(i64),
}

impl Value<'_> {
    /// The number that it is; texts count when they read as one.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Text(text) => number(text),
            Self::Int(i) => Some(*i as f64),
            Self::Float(f) => Some(*f),
            Self::Bool(b) => Some(f64::from(u8::from(*b))),
            Self::Time(ns) => Some(date::floor_ms(*ns) as f64),
        }
    }

    /// As text, as a keyword field would have it.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Int(i) => Cow::Owned(i.to_string()),
            Self::Float(f) => Cow::Owned(f.to_string()),
            Self::Bool(b) => Cow::Borrowed(if *b { "true" } else { "false" }),
            Self::Time(ns) => Cow::Owned(date::print_time(*ns)),
        }
    }

    pub(crate) fn json(&self) -> Json {
        match self {
            Self::Text(text) => Json::from(text.as_ref()),
            Self::Int(i) => Json::from(*i),
            Self::Float(f) => Json::from(*f),
            Self::Bool(b) => Json::from(*b),
            Self::Time(ns) => Json::from(date::print_time(*ns)),
        }
    }

    pub(crate) fn into_owned(self) -> Value<'static> {
        match self {
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Self::Int(i) => Value::Int(i),
            Self::Float(f) => Value::Float(f),
            Self::Bool(b) => Value::Bool(b),
            Self::Time(ns) => Value::Time(ns),
        }
    }
}

/// A finite decimal number; not `inf`, `nan` or a text with blanks.
pub(crate) fn number(text: &str) -> Option<f64> {
    let first = text.as_bytes().first()?;
    if !(first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.')) {
        return None;
    }
    text.parse().ok().filter(|n: &f64| n.is_finite())
}

/// A field that a query names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Field {
    Timestamp,
    /// `is_keyword`: the whole line, not its words.
    Message {
        is_keyword: bool,
    },
    Level,
    TraceId,
    SpanId,
    Id,
    Index,
    /// A label or an attribute; without `.keyword`.
    Other(String),
}

impl Field {
    pub(crate) fn new(name: &str) -> Self {
        let base = name.strip_suffix(KEYWORD).filter(|b| !b.is_empty()).unwrap_or(name);
        match base {
            TIMESTAMP => Self::Timestamp,
            MESSAGE => Self::Message { is_keyword: base != name },
            "log.level" => Self::Level,
            "trace.id" => Self::TraceId,
            "span.id" => Self::SpanId,
            "_id" => Self::Id,
            "_index" => Self::Index,
            other => Self::Other(other.to_owned()),
        }
    }

    pub(crate) fn is_text(&self) -> bool {
        *self == Self::Message { is_keyword: false }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Timestamp => TIMESTAMP,
            Self::Message { .. } => MESSAGE,
            Self::Level => "log.level",
            Self::TraceId => "trace.id",
            Self::SpanId => "span.id",
            Self::Id => "_id",
            Self::Index => "_index",
            Self::Other(name) => name,
        }
    }
}

/// A record as a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doc<'a> {
    pub(crate) entry: LogEntry<'a>,
}

impl<'a> Doc<'a> {
    pub(crate) fn new(entry: LogEntry<'a>) -> Self {
        Self { entry }
    }

    fn record(&self) -> &'a LogRecord {
        self.entry.record
    }

    /// Where it stands among all documents: by time, then by arrival.
    pub(crate) fn position(&self) -> Position {
        Position { time_ns: self.record().time_ns, sequence: self.entry.sequence }
    }

    /// The name of its index.
    pub(crate) fn index(&self) -> Cow<'a, str> {
        if let Some(name) = self.entry.stream.get(INDEX_ATTRIBUTE) {
            return Cow::Borrowed(name);
        }
        match self.attribute(INDEX_ATTRIBUTE) {
            Some(AttributeValue::String(name)) => Cow::Borrowed(name),
            _ => Cow::Borrowed(INDEX),
        }
    }

    /// The id that its sender gave it, if any.
    pub(crate) fn own_id(&self) -> Option<&'a str> {
        self.attribute(ID_ATTRIBUTE)?.as_str()
    }

    /// The id that its sender gave it, else one made of its position.
    pub(crate) fn id(&self) -> Cow<'a, str> {
        self.own_id().map_or_else(|| Cow::Owned(self.position().id()), Cow::Borrowed)
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeValue> {
        find(&self.record().attributes, name).or_else(|| find(self.entry.shared, name))
    }

    /// Calls `each` with the values of a field until it answers true; answers whether it did.
    pub(crate) fn any(&self, field: &Field, each: &mut dyn FnMut(Value<'a>) -> bool) -> bool {
        let record = self.record();
        match field {
            Field::Timestamp => each(Value::Time(record.time_ns)),
            Field::Message { .. } => each(Value::Text(Cow::Borrowed(&record.text))),
            Field::Level => self.any_level(each),
            Field::TraceId => match record.trace_id {
                Some(id) => each(Value::Text(Cow::Owned(id.to_string()))),
                None => self.any_text(["trace.id", "trace_id"], each),
            },
            Field::SpanId => match record.span_id {
                Some(id) => each(Value::Text(Cow::Owned(id.to_string()))),
                None => self.any_text(["span.id", "span_id"], each),
            },
            Field::Id => each(Value::Text(self.id())),
            Field::Index => each(Value::Text(self.index())),
            Field::Other(name) => self.any_named(name, each),
        }
    }

    /// `log.level` as sent, else the severity's text, else what ingest derived.
    fn any_level(&self, each: &mut dyn FnMut(Value<'a>) -> bool) -> bool {
        let record = self.record();
        let mut had = false;
        let found = self.any_named("log.level", &mut |value| {
            had = true;
            each(value)
        });
        if had || found {
            return found;
        }
        if !record.severity_text.is_empty() {
            return each(Value::Text(Cow::Borrowed(&record.severity_text)));
        }
        if let Some(AttributeValue::String(level)) = self.attribute("detected_level") {
            return each(Value::Text(Cow::Borrowed(level)));
        }
        level_of_severity(record.severity_number).is_some_and(|level| each(Value::Text(Cow::Borrowed(level))))
    }

    /// The first of some attributes that is a text.
    fn any_text(&self, names: [&str; 2], each: &mut dyn FnMut(Value<'a>) -> bool) -> bool {
        match names.into_iter().find_map(|name| self.attribute(name)?.as_str()) {
            Some(text) => each(Value::Text(Cow::Borrowed(text))),
            None => false,
        }
    }

    fn any_named(&self, name: &str, each: &mut dyn FnMut(Value<'a>) -> bool) -> bool {
        if let Some(value) = self.entry.stream.get(name) {
            return each(Value::Text(Cow::Borrowed(value)));
        }
        if let Some(value) = self.attribute(name) {
            return any_value(value, each, 0);
        }
        if !name.contains('.') {
            return false;
        }
        // Of a path that is in both, the record's own attribute counts.
        let mut had = false;
        for attributes in [&self.record().attributes, self.entry.shared] {
            let found = any_below(attributes, name, 0, &mut |value| {
                had = true;
                each(value)
            });
            if found || had {
                return found;
            }
        }
        false
    }

    /// Calls `each` with every field and value but `_id` and `_index`, until it answers true.
    pub(crate) fn any_field(&self, each: &mut dyn FnMut(&str, Value<'a>) -> bool) -> bool {
        for field in
            [Field::Timestamp, Field::Message { is_keyword: false }, Field::Level, Field::TraceId, Field::SpanId]
        {
            if self.any(&field, &mut |value| each(field.name(), value)) {
                return true;
            }
        }
        self.any_other(each)
    }

    /// Calls `each` with every label and attribute that is not shown as one of the fields of our own.
    fn any_other(&self, each: &mut dyn FnMut(&str, Value<'a>) -> bool) -> bool {
        for (name, value) in self.entry.stream {
            if !is_own(name) && each(name, Value::Text(Cow::Borrowed(value))) {
                return true;
            }
        }
        let (own, shared) = (&self.record().attributes, self.entry.shared);
        for (at, (name, value)) in own.iter().enumerate() {
            let is_hidden = is_own(name)
                || self.entry.stream.get(name).is_some()
                || own[..at].iter().any(|(earlier, _)| earlier == name);
            if !is_hidden && any_path(name, value, each, 0) {
                return true;
            }
        }
        for (at, (name, value)) in shared.iter().enumerate() {
            let is_hidden = is_own(name)
                || self.entry.stream.get(name).is_some()
                || find(own, name).is_some()
                || shared[..at].iter().any(|(earlier, _)| earlier == name);
            if !is_hidden && any_path(name, value, each, 0) {
                return true;
            }
        }
        false
    }

    /// `_source`: all fields under dotted names; a field with several values is a list.
    pub(crate) fn source(&self) -> Map<String, Json> {
        let mut out = Map::new();
        self.any_field(&mut |name, value| {
            add(&mut out, name, value.json());
            false
        });
        out
    }
}

/// Adds a value to a field; the second makes it a list.
pub(crate) fn add(fields: &mut Map<String, Json>, name: &str, value: Json) {
    match fields.get_mut(name) {
        None => {
            fields.insert(name.to_owned(), value);
        }
        Some(Json::Array(list)) => list.push(value),
        Some(one) => {
            let first = one.take();
            *one = Json::Array(vec![first, value]);
        }
    }
}

/// Names that [`Doc::any_field`] shows from elsewhere, or that are no fields.
fn is_own(name: &str) -> bool {
    matches!(name, TIMESTAMP | MESSAGE | "log.level" | "trace.id" | "span.id" | ID_ATTRIBUTE | INDEX_ATTRIBUTE)
}

fn any_value<'a>(value: &'a AttributeValue, each: &mut dyn FnMut(Value<'a>) -> bool, depth: usize) -> bool {
    match value {
        AttributeValue::Null => false,
        AttributeValue::String(s) => each(Value::Text(Cow::Borrowed(s))),
        AttributeValue::Bool(b) => each(Value::Bool(*b)),
        AttributeValue::Int(i) => each(Value::Int(*i)),
        AttributeValue::Double(d) if d.is_finite() => each(Value::Float(*d)),
        AttributeValue::Double(d) => each(Value::Text(Cow::Owned(d.to_string()))),
        AttributeValue::Bytes(_) => {
            let text = value.to_string();
            each(Value::Text(Cow::Owned(text.trim_matches('"').to_owned())))
        }
        AttributeValue::Array(list) => depth < DEPTH_MAX && list.iter().any(|v| any_value(v, each, depth + 1)),
        AttributeValue::Map(_) => false,
    }
}

/// The values at a path below attributes that are maps.
fn any_below<'a>(
    attributes: &'a [(String, AttributeValue)],
    path: &str,
    depth: usize,
    each: &mut dyn FnMut(Value<'a>) -> bool,
) -> bool {
    if depth > DEPTH_MAX {
        return false;
    }
    attributes.iter().any(|(name, value)| {
        if depth > 0 && name == path {
            return any_value(value, each, depth);
        }
        let Some(rest) = path.strip_prefix(name.as_str()).and_then(|r| r.strip_prefix('.')) else { return false };
        any_map(value, rest, depth + 1, each)
    })
}

fn any_map<'a>(value: &'a AttributeValue, path: &str, depth: usize, each: &mut dyn FnMut(Value<'a>) -> bool) -> bool {
    match value {
        AttributeValue::Map(inner) => any_below(inner, path, depth, each),
        AttributeValue::Array(list) if depth <= DEPTH_MAX => list.iter().any(|v| any_map(v, path, depth + 1, each)),
        _ => false,
    }
}

/// Every path of an attribute with its values.
fn any_path<'a>(
    path: &str,
    value: &'a AttributeValue,
    each: &mut dyn FnMut(&str, Value<'a>) -> bool,
    depth: usize,
) -> bool {
    match value {
        _ if depth > DEPTH_MAX => false,
        AttributeValue::Map(inner) => {
            inner.iter().any(|(name, value)| any_path(&format!("{path}.{name}"), value, each, depth + 1))
        }
        AttributeValue::Array(list) => list.iter().any(|v| any_path(path, v, each, depth + 1)),
        scalar => any_value(scalar, &mut |v| each(path, v), depth),
    }
}

/// Where a document stands among all: by time, then by arrival. Also what `_id` is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) time_ns: i64,
    pub(crate) sequence: u64,
}

impl Position {
    /// 32 hexadecimal digits, ordered as positions are.
    pub(crate) fn id(self) -> String {
        format!("{:016x}{:016x}", self.time_ns as u64 ^ (1 << 63), self.sequence)
    }

    /// Reads what [`Position::id`] wrote.
    pub(crate) fn of_id(id: &str) -> Option<Self> {
        if id.len() != 32 || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let time = u64::from_str_radix(&id[..16], 16).ok()?;
        let sequence = u64::from_str_radix(&id[16..], 16).ok()?;
        Some(Self { time_ns: (time ^ (1 << 63)) as i64, sequence })
    }
}

/// A document that is kept while others are looked at.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    stream: Labels,
    shared: trefoil_model::Attributes,
    record: LogRecord,
    sequence: u64,
}

impl Held {
    pub(crate) fn new(doc: &Doc<'_>) -> Self {
        let LogEntry { stream, shared, record, sequence, .. } = doc.entry;
        Self { stream: stream.clone(), shared: shared.clone(), record: record.clone(), sequence }
    }

    pub(crate) fn doc(&self) -> Doc<'_> {
        let Self { stream, shared, record, sequence } = self;
        Doc::new(LogEntry { stream, stream_ref: 0, sequence: *sequence, shared, record })
    }

    /// Bytes that a document takes when it is kept.
    pub(crate) fn bytes(doc: &Doc<'_>) -> u64 {
        let shared = trefoil_model::value::attributes_heap_bytes(doc.entry.shared);
        (doc.entry.record.heap_bytes() + shared + 128) as u64
    }
}
