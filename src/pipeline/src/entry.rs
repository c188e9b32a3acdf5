//! A log entry on its way through a pipeline.

use std::borrow::Cow;
use std::sync::Arc;

use trefoil_model::{Attributes, Labels, LogRecord};
use trefoil_template::Value;

/// A value that a stage found.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Text.
    Text(String),
    /// A number as it was written.
    Number(String),
    /// True or false.
    Bool(bool),
}

impl Found {
    /// The value as text.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) | Self::Number(text) => Cow::Borrowed(text),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
        }
    }

    /// The value for templates.
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Number(text) => match (text.parse(), text.parse()) {
                (Ok(whole), _) => Value::Int(whole),
                (_, Ok(number)) => Value::Float(number),
                _ => Value::from(text.as_str()),
            },
            Self::Bool(b) => Value::Bool(*b),
        }
    }
}

/// What the stages found so far; the labels that the entry came with are found too.
#[derive(Debug, Clone, Default)]
pub struct Extracted {
    found: Vec<(Arc<str>, Option<Found>)>,
    initial: Labels,
}

impl Extracted {
    /// The value of a name; `None` when nothing was found.
    pub fn get(&self, name: &str) -> Option<Found> {
        match self.found.iter().find(|(n, _)| **n == *name) {
            Some((_, found)) => found.clone(),
            None => self.initial.get(name).map(|value| Found::Text(value.to_owned())),
        }
    }

    /// Calls `with` with the text of a name.
    pub fn with_text<T>(&self, name: &str, with: impl FnOnce(&str) -> T) -> Option<T> {
        match self.found.iter().find(|(n, _)| **n == *name) {
            Some((_, found)) => found.as_ref().map(|found| with(&found.text())),
            None => self.initial.get(name).map(with),
        }
    }

    /// Sets a value; an earlier one goes.
    pub fn set(&mut self, name: &Arc<str>, found: Found) {
        match self.found.iter_mut().find(|(n, _)| **n == **name) {
            Some(pair) => pair.1 = Some(found),
            None => self.found.push((Arc::clone(name), Some(found))),
        }
    }

    /// Forgets a value.
    pub fn remove(&mut self, name: &str) {
        match self.found.iter_mut().find(|(n, _)| **n == *name) {
            Some(pair) => pair.1 = None,
            None if self.initial.get(name).is_some() => self.found.push((Arc::from(name), None)),
            None => {}
        }
    }

    /// All values, the labels first.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&str, Value)> {
        let initial = self.initial.iter().filter(|(name, _)| !self.found.iter().any(|(n, _)| **n == **name));
        let initial = initial.map(|(name, value)| (name, Value::from(value)));
        initial.chain(self.found.iter().filter_map(|(name, found)| Some((&**name, found.as_ref()?.value()))))
    }
}

/// Where the lines of an entry began in their source, in bytes. Ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The first line.
    pub first: u64,
    /// Lines that were joined to it.
    pub more: Vec<u64>,
}

impl Sources {
    /// Of an entry of one line.
    pub fn one(first: u64) -> Self {
        Self { first, more: Vec::new() }
    }

    /// Adds the lines of another entry.
    pub(crate) fn join(&mut self, other: &Self) {
        self.more.push(other.first);
        self.more.extend_from_slice(&other.more);
    }

    /// Appends all of them.
    pub(crate) fn add_to(&self, out: &mut Vec<u64>) {
        out.push(self.first);
        out.extend_from_slice(&self.more);
    }
}

/// An entry: a record with the labels of its stream and what stages found in it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Labels of the stream.
    pub labels: Labels,
    /// Time, line, structured metadata.
    pub record: LogRecord,
    /// What stages found.
    pub extracted: Extracted,
    /// Where it came from.
    pub sources: Sources,
}

impl Entry {
    /// An entry of a line that was just read.
    pub fn new(labels: Labels, time_ns: i64, line: String, source: u64) -> Self {
        let record = LogRecord {
            time_ns,
            observed_ns: 0,
            severity_number: 0,
            severity_text: String::new(),
            text: line,
            attributes: Attributes::new(),
            trace_id: None,
            span_id: None,
        };
        Self::of_record(labels, record, source)
    }

    /// An entry of a record that came in by another door.
    pub fn of_record(labels: Labels, record: LogRecord, source: u64) -> Self {
        let extracted = Extracted { found: Vec::new(), initial: labels.clone() };
        Self { labels, record, extracted, sources: Sources::one(source) }
    }
}
