//! The order of hits: sort keys, their values, and where `search_after` goes on.

use std::cmp::Ordering;

use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};

use crate::Error;
use crate::date::{self, Format, Reader, floor_ms};
use crate::doc::{Doc, Field, Position, Value};
use crate::dsl::scalar_text;

/// Most keys of a request.
const KEYS_MAX: usize = 32;

/// One key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    by: By,
    is_descending: bool,
    is_missing_first: bool,
    missing: Option<SortValue>,
    format: Option<Format>,
    /// Whether times are given in nanoseconds.
    is_nanos: bool,
    mode: Option<Mode>,
}

#[derive(Debug, Clone, PartialEq)]
enum By {
    Score,
    /// `_doc` and `_shard_doc`: by position.
    Doc,
    Field(Field),
}

/// Which of several values counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Min,
    Max,
}

/// What a document is ordered by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SortValue {
    Missing,
    Number(f64),
    /// Whole numbers and times.
    Int(i64),
    Text(String),
    Position(Position),
}

impl SortValue {
    fn rank(&self) -> u8 {
        match self {
            Self::Number(_) | Self::Int(_) => 0,
            Self::Text(_) => 1,
            Self::Position(_) => 2,
            Self::Missing => 3,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Int(a), Self::Number(b)) => (*a as f64).total_cmp(b),
            (Self::Number(a), Self::Int(b)) => a.total_cmp(&(*b as f64)),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Position(a), Self::Position(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

/// All keys of a request; documents that are equal in all of them are ordered by position.
#[derive(Debug, Clone)]
pub(crate) struct Sort {
    keys: Vec<Key>,
    /// Whether the request names keys, so that hits carry them.
    pub(crate) is_given: bool,
}

impl Default for Sort {
    /// By score, which is the same for all: newest first.
    fn default() -> Self {
        Self { keys: Vec::new(), is_given: false }
    }
}

impl Sort {
    pub(crate) fn parse(json: &Json) -> Result<Self, Error> {
        let mut keys = Vec::new();
        let items = match json {
            Json::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        for item in items {
            match item {
                Json::String(text) => {
                    let (name, order) =
                        text.rsplit_once(':').filter(|(_, o)| matches!(*o, "asc" | "desc")).unwrap_or((text, ""));
                    keys.push(Key::new(name, &json!(order))?);
                }
                Json::Object(all) => {
                    for (name, options) in all {
                        keys.push(Key::new(name, options)?);
                    }
                }
                _ => {
                    return Err(Error::illegal(
                        "malformed sort format, either start array, start object, or an actual string",
                    ));
                }
            }
        }
        if keys.len() > KEYS_MAX {
            return Err(Error::illegal(format!("sort has more than {KEYS_MAX} keys")));
        }
        Ok(Self { is_given: !keys.is_empty(), keys })
    }

    /// Adds the position as the last key, as a point in time and a scroll do.
    pub(crate) fn with_position(mut self) -> Self {
        if !self.keys.iter().any(|k| k.by == By::Doc) {
            let is_descending = self.newest_first();
            self.keys.push(Key { is_descending, ..Key::plain(By::Doc) });
        }
        self.is_given = true;
        self
    }

    /// Whether documents that are equal in all keys come newest first: as the time, when that is a key.
    pub(crate) fn newest_first(&self) -> bool {
        let time = self.keys.iter().find(|k| k.by == By::Doc || k.by == By::Field(Field::Timestamp));
        time.is_none_or(|k| k.is_descending)
    }

    /// Whether a scan in the order of time delivers documents in this order, but for those of the same millisecond.
    pub(crate) fn is_by_time(&self) -> bool {
        match self.keys.iter().find(|k| k.by != By::Score) {
            None => true,
            Some(key) => key.by == By::Doc || key.by == By::Field(Field::Timestamp),
        }
    }

    /// The first key's time in milliseconds, when the order is by time.
    pub(crate) fn time_ms(&self, values: &Values) -> i64 {
        floor_ms(values.position.time_ns)
    }

    pub(crate) fn values(&self, doc: &Doc<'_>) -> Values {
        Values { keys: self.keys.iter().map(|key| key.value(doc)).collect(), position: doc.position() }
    }

    /// The order of two documents.
    pub(crate) fn compare(&self, a: &Values, b: &Values) -> Ordering {
        self.compare_keys(&a.keys, &b.keys).then_with(|| {
            let order = a.position.cmp(&b.position);
            if self.newest_first() { order.reverse() } else { order }
        })
    }

    fn compare_keys(&self, a: &[SortValue], b: &[SortValue]) -> Ordering {
        for (key, (a, b)) in self.keys.iter().zip(a.iter().zip(b)) {
            let order = key.compare(a, b);
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }

    /// Whether a document comes after the one where a search is to go on.
    pub(crate) fn is_after(&self, values: &Values, after: &[SortValue]) -> bool {
        self.compare_keys(&values.keys, after) == Ordering::Greater
    }

    /// Reads `search_after`.
    pub(crate) fn after(&self, json: &Json) -> Result<Vec<SortValue>, Error> {
        let Some(items) = json.as_array() else { return Err(Error::content("[search_after] must be a list")) };
        if !self.is_given {
            return Err(Error::illegal("Sort must contain at least one field."));
        }
        if items.len() != self.keys.len() {
            return Err(Error::illegal(format!(
                "search_after has {} value(s) but sort has {}.",
                items.len(),
                self.keys.len()
            )));
        }
        self.keys.iter().zip(items).map(|(key, json)| key.read(json)).collect()
    }

    /// The time of the first key of `search_after`, milliseconds, when the order is by time.
    pub(crate) fn after_ms(&self, after: &[SortValue]) -> Option<i64> {
        let at = self.keys.iter().position(|k| k.by != By::Score)?;
        match (&self.keys[at].by, &after[at]) {
            (By::Field(Field::Timestamp), SortValue::Int(t)) if self.keys[at].is_nanos => Some(floor_ms(*t)),
            (By::Field(Field::Timestamp), SortValue::Int(t)) => Some(*t),
            (By::Doc, SortValue::Position(p)) => Some(floor_ms(p.time_ns)),
            _ => None,
        }
    }

    /// As [`Sort::json`], with times as texts.
    pub(crate) fn json_as_text(&self, values: &Values) -> Vec<Json> {
        let one = |(key, value): (&Key, &SortValue)| match (value, &key.by) {
            (SortValue::Int(ms), By::Field(Field::Timestamp)) if key.format.is_none() && !key.is_nanos => {
                json!(date::print_time(date::ms_to_ns(*ms)))
            }
            _ => key.json(value),
        };
        self.keys.iter().zip(&values.keys).map(one).collect()
    }

    /// What hits show.
    pub(crate) fn json(&self, values: &Values) -> Vec<Json> {
        self.keys.iter().zip(&values.keys).map(|(key, value)| key.json(value)).collect()
    }
}

/// What a document is ordered by, all keys and its position.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    keys: Vec<SortValue>,
    pub(crate) position: Position,
}

impl Key {
    fn plain(by: By) -> Self {
        Self {
            by,
            is_descending: false,
            is_missing_first: false,
            missing: None,
            format: None,
            is_nanos: false,
            mode: None,
        }
    }

    fn new(name: &str, options: &Json) -> Result<Self, Error> {
        let by = match name {
            "_score" => By::Score,
            "_doc" | "_shard_doc" => By::Doc,
            "_script" | "_geo_distance" => {
                return Err(Error::illegal(format!("sorting by [{name}] is not supported")));
            }
            name => By::Field(Field::new(name)),
        };
        let mut key = Self { is_descending: by == By::Score, ..Self::plain(by) };
        let order = match options {
            Json::Object(options) => options.get("order").and_then(Json::as_str).unwrap_or(""),
            Json::String(order) => order,
            _ => return Err(Error::illegal(format!("malformed sort of [{}]", date::cut(name)))),
        };
        match order.to_ascii_lowercase().as_str() {
            "" => {}
            "asc" => key.is_descending = false,
            "desc" => key.is_descending = true,
            other => return Err(Error::illegal(format!("No enum constant SortOrder.{}", date::cut(other)))),
        }
        let Json::Object(options) = options else { return Ok(key) };
        match options.get("missing").and_then(scalar_text).as_deref() {
            None | Some("_last") => {}
            Some("_first") => key.is_missing_first = true,
            Some(text) => key.missing = Some(of_text(text)),
        }
        if let Some(format) = options.get("format").and_then(Json::as_str) {
            key.format = Some(Format::parse(format)?);
        }
        key.is_nanos = options.get("numeric_type").and_then(Json::as_str) == Some("date_nanos");
        key.mode = match options.get("mode").and_then(Json::as_str) {
            Some("min") => Some(Mode::Min),
            Some("max") => Some(Mode::Max),
            _ => None,
        };
        Ok(key)
    }

    fn value(&self, doc: &Doc<'_>) -> SortValue {
        let field = match &self.by {
            By::Score => return SortValue::Number(1.0),
            By::Doc => return SortValue::Position(doc.position()),
            By::Field(field) => field,
        };
        // Of several values the least counts when ascending, else the greatest.
        let takes_greatest = self.mode.map_or(self.is_descending, |mode| mode == Mode::Max);
        let mut best: Option<SortValue> = None;
        doc.any(field, &mut |value| {
            let value = match value {
                Value::Text(text) => SortValue::Text(text.into_owned()),
                Value::Int(i) => SortValue::Int(i),
                Value::Float(f) => SortValue::Number(f),
                Value::Bool(b) => SortValue::Int(i64::from(b)),
                Value::Time(ns) if self.is_nanos => SortValue::Int(ns),
                Value::Time(ns) => SortValue::Int(floor_ms(ns)),
            };
            let is_better = best.as_ref().is_none_or(|best| {
                let order = value.order(best);
                if takes_greatest { order == Ordering::Greater } else { order == Ordering::Less }
            });
            if is_better {
                best = Some(value);
            }
            false
        });
        best.or_else(|| self.missing.clone()).unwrap_or(SortValue::Missing)
    }

    fn compare(&self, a: &SortValue, b: &SortValue) -> Ordering {
        let missing = |value: &SortValue| *value == SortValue::Missing;
        match (missing(a), missing(b)) {
            (true, true) => Ordering::Equal,
            (true, false) => {
                if self.is_missing_first {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (false, true) => {
                if self.is_missing_first {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            (false, false) => {
                let order = a.order(b);
                if self.is_descending { order.reverse() } else { order }
            }
        }
    }

    fn json(&self, value: &SortValue) -> Json {
        match value {
            SortValue::Missing => Json::Null,
            SortValue::Number(n) => json!(n),
            SortValue::Int(i) => match (&self.format, &self.by) {
                (Some(format), By::Field(Field::Timestamp)) => {
                    let ns = if self.is_nanos { *i } else { date::ms_to_ns(*i) };
                    json!(format.print_ns(ns, &TimeZone::UTC))
                }
                _ => json!(i),
            },
            SortValue::Text(text) => json!(text),
            SortValue::Position(position) => json!(position.id()),
        }
    }

    fn read(&self, json: &Json) -> Result<SortValue, Error> {
        let bad = || Error::illegal(format!("Failed to parse search_after value [{json}] for a key of the sort"));
        match (&self.by, json) {
            (_, Json::Null) => Ok(SortValue::Missing),
            (By::Doc, Json::String(id)) => Position::of_id(id).map(SortValue::Position).ok_or_else(bad),
            (By::Doc, _) => Err(bad()),
            (By::Field(Field::Timestamp), Json::String(text)) => {
                let format = self.format.clone().unwrap_or_default();
                let reader = Reader { now_ms: 0, format: &format, zone: &TimeZone::UTC };
                let ns = reader.read(text, false)?;
                Ok(SortValue::Int(if self.is_nanos { ns } else { floor_ms(ns) }))
            }
            (_, Json::Number(number)) => Ok(match number.as_i64() {
                Some(i) => SortValue::Int(i),
                None => SortValue::Number(number.as_f64().ok_or_else(bad)?),
            }),
            (_, Json::String(text)) => Ok(SortValue::Text(text.clone())),
            (_, Json::Bool(b)) => Ok(SortValue::Int(i64::from(*b))),
            _ => Err(bad()),
        }
    }
}

fn of_text(text: &str) -> SortValue {
    match (text.parse(), crate::doc::number(text)) {
        (Ok(i), _) => SortValue::Int(i),
        (_, Some(n)) => SortValue::Number(n),
        _ => SortValue::Text(text.to_owned()),
    }
}
