//! Which fields lines have: structured metadata, what a pipeline parsed, and the members of JSON and logfmt lines.
//!
//! Names are those that a query would see behind `| json` or `| logfmt`, so that a field can be filtered by at once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use trefoil_model::labels::underscored;
use trefoil_template::go_time::parse_duration;

use crate::json::{self, Kind};
use crate::labels::{ERROR_DETAILS_LABEL, ERROR_LABEL};
use crate::logfmt::{self, Item};
use crate::output::{Entry, StreamResult};
use crate::units;

/// Deepest object whose members become fields.
const NESTING_MAX: usize = 32;
/// Most fields that are looked at beyond those that are kept.
const FIELDS_MAX: usize = 10_000;

/// What the values of a field look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// Whole numbers.
    Int,
    /// Numbers.
    Float,
    /// `true` or `false`.
    Boolean,
    /// Go durations.
    Duration,
    /// Sizes with a unit.
    Bytes,
    /// Anything else.
    String,
}

impl FieldType {
    /// The word of Loki's API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Duration => "duration",
            Self::Bytes => "bytes",
            Self::String => "string",
        }
    }

    fn of(value: &str) -> Self {
        if value.parse::<i64>().is_ok() {
            Self::Int
        } else if value.parse::<f64>().is_ok() {
            Self::Float
        } else if matches!(value, "true" | "false" | "True" | "False" | "TRUE" | "FALSE") {
            Self::Boolean
        } else if parse_duration(value).is_some() {
            Self::Duration
        } else if value.starts_with(|c: char| c.is_ascii_digit()) && units::parse_bytes(value).is_some() {
            Self::Bytes
        } else {
            Self::String
        }
    }

    /// The type of a field that has values of both.
    pub fn joined(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Int | Self::Float, Self::Int | Self::Float) => Self::Float,
            _ => Self::String,
        }
    }
}

/// A field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectedField {
    /// Type that fits all values.
    pub kind: FieldType,
    /// Distinct values, sorted.
    pub values: BTreeSet<String>,
    /// `json`, `logfmt`: which parser makes the field; empty for structured metadata.
    pub parsers: BTreeSet<&'static str>,
    /// Names of the JSON members that lead to it; empty when it is none.
    pub json_path: Vec<String>,
}

/// The fields of the lines by name, at most `limit`; those that come first are kept.
pub fn detect_fields(streams: &[StreamResult], limit: usize) -> BTreeMap<String, DetectedField> {
    let mut found = Found { fields: BTreeMap::new(), limit };
    for stream in streams {
        for entry in &stream.entries {
            found.entry(stream, entry);
        }
    }
    found.fields
}

struct Found {
    fields: BTreeMap<String, DetectedField>,
    limit: usize,
}

impl Found {
    fn entry(&mut self, stream: &StreamResult, entry: &Entry) {
        for (name, value) in &entry.structured_metadata {
            self.add(name, value, None, &[]);
        }
        let is_error = |name: &str| name == ERROR_LABEL || name == ERROR_DETAILS_LABEL;
        let parsed_by = if entry.line.trim_start().starts_with('{') { "json" } else { "logfmt" };
        for (name, value) in entry.parsed.iter().filter(|(name, _)| !is_error(name)) {
            self.add(name, value, Some(parsed_by), &[]);
        }
        let taken =
            |name: &str| stream.labels.get(name).is_some() || entry.structured_metadata.iter().any(|(n, _)| n == name);
        let mut seen = BTreeSet::new();
        let mut each = |name: &str, value: &str, parser: &'static str, path: &[String]| {
            let name = if taken(name) { Cow::Owned(format!("{name}_extracted")) } else { Cow::Borrowed(name) };
            // As for a parser the first value of a name counts, and what the query parsed stands already.
            if entry.parsed.iter().any(|(n, _)| *n == name) && path.is_empty() || !seen.insert(name.to_string()) {
                return;
            }
            self.add(&name, value, Some(parser), path);
        };
        if parsed_by == "json" {
            let mut members = Vec::new();
            if flatten(&entry.line, &mut Vec::new(), &mut members) {
                for (path, value) in members {
                    each(&joined(&path), &value, "json", &path);
                }
                return;
            }
        }
        for item in logfmt::items(&entry.line) {
            if let Item::Pair(key, value) = item
                && !value.is_empty()
            {
                each(&underscored(key), &value, "logfmt", &[]);
            }
        }
    }

    fn add(&mut self, name: &str, value: &str, parser: Option<&'static str>, path: &[String]) {
        let kind = FieldType::of(value);
        if let Some(field) = self.fields.get_mut(name) {
            field.kind = field.kind.joined(kind);
            field.parsers.extend(parser);
            if field.json_path.is_empty() {
                field.json_path = path.to_vec();
            }
            if !field.values.contains(value) {
                field.values.insert(value.to_owned());
            }
        } else if self.fields.len() < self.limit.min(FIELDS_MAX) {
            let field = DetectedField {
                kind,
                values: BTreeSet::from([value.to_owned()]),
                parsers: parser.into_iter().collect(),
                json_path: path.to_vec(),
            };
            self.fields.insert(name.to_owned(), field);
        }
    }
}

/// The label of a nested member.
fn joined(path: &[String]) -> String {
    let mut name = String::new();
    for key in path {
        let key = underscored(key);
        if name.is_empty() {
            name.push_str(&key);
        } else {
            // A leading `_` that only protects a digit is not needed within a name.
            let bare = key.strip_prefix('_').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            name.push('_');
            name.push_str(bare.unwrap_or(&key));
        }
    }
    name
}

/// Collects the scalars of an object; false when the text is no object.
fn flatten(text: &str, path: &mut Vec<String>, out: &mut Vec<(Vec<String>, String)>) -> bool {
    let read = json::members(text, |key, raw| {
        path.push(key.into_owned());
        match raw.kind {
            Kind::Array | Kind::Null => {}
            Kind::Object if path.len() < NESTING_MAX => {
                flatten(raw.text, path, out);
            }
            Kind::Object => {}
            _ => out.push((path.clone(), raw.to_text().into_owned())),
        }
        path.pop();
        out.len() < FIELDS_MAX
    });
    read.is_ok()
}

#[cfg(test)]
mod tests {
    use trefoil_model::Labels;

    use super::*;

    fn check(line: &str, metadata: &[(&str, &str)], want: &str) {
        let pairs = |p: &[(&str, &str)]| p.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let entry = Entry { ts_ns: 0, line: line.to_owned(), structured_metadata: pairs(metadata), parsed: Vec::new() };
        let stream = StreamResult { labels: Labels::from_pairs([("app", "a")]), entries: vec![entry] };
        let shown: Vec<String> = detect_fields(&[stream], 10)
            .iter()
            .map(|(name, f)| {
                let parsers: Vec<&str> = f.parsers.iter().copied().collect();
                format!("{name}:{}:{}:{}", f.kind.as_str(), parsers.join("+"), f.json_path.join("/"))
            })
            .collect();
        assert_eq!(shown.join(" "), want, "{line}");
    }

    #[test]
    fn fields_of_lines() {
        check("a=1 b=x c", &[("trace_id", "t")], "a:int:logfmt: b:string:logfmt: trace_id:string::");
        check(
            r#"{"a":{"b.c":1.5,"1":true},"app":"5ms","list":[1],"n":null}"#,
            &[],
            "a_1:boolean:json:a/1 a_b_c:float:json:a/b.c app_extracted:duration:json:app",
        );
        check(
            "size=5KB level=info",
            &[("level", "warn")],
            "level:string:: level_extracted:string:logfmt: size:bytes:logfmt:",
        );
        check("just text", &[], "");
        check("{broken a=1", &[], "a:int:logfmt:");
    }

    #[test]
    fn types_join() {
        assert_eq!(FieldType::Int.joined(FieldType::Float), FieldType::Float);
        assert_eq!(FieldType::Int.joined(FieldType::Duration), FieldType::String);
    }
}
