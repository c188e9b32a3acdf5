//! How a stage reads its options: every fault has its place, unknown keys are faults.

use std::sync::Arc;

use trefoil_config::yaml::{Entry, Kind, Node};
use trefoil_config::{ByteSize, Pos};
use trefoil_model::re2::Regex;
use trefoil_template::go_time::parse_duration;

use crate::plan::Fault;

/// Collects faults and warnings.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<Fault>,
}

impl Sink {
    pub(crate) fn fault(&mut self, pos: Pos, message: impl Into<String>) {
        self.faults.push(Fault { pos, message: message.into() });
    }

    pub(crate) fn warn(&mut self, pos: Pos, message: impl Into<String>) {
        self.warnings.push(Fault { pos, message: message.into() });
    }
}

/// The options of a stage that are not yet read.
pub(crate) struct Options<'n> {
    pub(crate) stage: &'static str,
    pub(crate) node: &'n Node,
    rest: Vec<&'n Entry>,
}

impl<'n> Options<'n> {
    pub(crate) fn new(stage: &'static str, node: &'n Node, sink: &mut Sink) -> Option<Self> {
        match &node.kind {
            Kind::Map(entries) => Some(Self { stage, node, rest: entries.iter().collect() }),
            Kind::Null => Some(Self { stage, node, rest: Vec::new() }),
            _ => {
                sink.fault(node.pos, format!("{stage} stage must be a mapping, got {}", node.kind_name()));
                None
            }
        }
    }

    /// The node of an option, unless it is missing or null.
    pub(crate) fn node(&mut self, key: &str) -> Option<&'n Node> {
        let at = self.rest.iter().position(|e| e.key == key)?;
        let entry = self.rest.remove(at);
        (!entry.value.is_null()).then_some(&entry.value)
    }

    pub(crate) fn text(&mut self, key: &str, sink: &mut Sink) -> Option<String> {
        let stage = self.stage;
        self.node(key).and_then(|node| text(node, || format!("{key} of {stage} stage"), sink))
    }

    pub(crate) fn required(&mut self, key: &str, sink: &mut Sink) -> Option<String> {
        let found = self.text(key, sink).filter(|text| !text.is_empty());
        if found.is_none() {
            sink.fault(self.node.pos, format!("{} stage needs {key}", self.stage));
        }
        found
    }

    pub(crate) fn name(&mut self, key: &str, sink: &mut Sink) -> Option<Arc<str>> {
        self.text(key, sink).filter(|text| !text.is_empty()).map(Arc::from)
    }

    pub(crate) fn parsed<T>(
        &mut self,
        key: &str,
        what: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        sink: &mut Sink,
    ) -> Option<T> {
        let pos = self.node.key_pos(key);
        let text = self.text(key, sink)?;
        let value = parse(&text);
        if value.is_none() {
            sink.fault(pos, format!("{key} of {} stage must be {what}, got {text:?}", self.stage));
        }
        value
    }

    pub(crate) fn flag(&mut self, key: &str, default: bool, sink: &mut Sink) -> bool {
        let read = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        };
        self.parsed(key, "true or false", read, sink).unwrap_or(default)
    }

    pub(crate) fn number(&mut self, key: &str, sink: &mut Sink) -> Option<f64> {
        self.parsed(key, "a number", |t| t.parse().ok().filter(|n: &f64| n.is_finite()), sink)
    }

    pub(crate) fn count(&mut self, key: &str, sink: &mut Sink) -> Option<usize> {
        self.parsed(key, "a whole number", |t| t.parse().ok(), sink)
    }

    /// A duration in nanoseconds.
    pub(crate) fn duration(&mut self, key: &str, sink: &mut Sink) -> Option<i64> {
        self.parsed(key, "a duration such as 3s", |t| parse_duration(t).filter(|ns| *ns >= 0), sink)
    }

    pub(crate) fn bytes(&mut self, key: &str, sink: &mut Sink) -> Option<usize> {
        let read = |t: &str| {
            let bytes = t.parse().ok().or_else(|| ByteSize::parse(&t.to_ascii_uppercase()).ok().map(|b| b.as_u64()))?;
            usize::try_from(bytes).ok()
        };
        self.parsed(key, "a size such as 8kb", read, sink)
    }

    pub(crate) fn regex(&mut self, key: &str, sink: &mut Sink) -> Option<Regex> {
        let pos = self.node.key_pos(key);
        let pattern = self.text(key, sink).filter(|text| !text.is_empty())?;
        regex(&pattern, pos, sink)
    }

    pub(crate) fn required_regex(&mut self, key: &str, sink: &mut Sink) -> Option<Regex> {
        let pos = self.node.key_pos(key);
        let pattern = self.required(key, sink)?;
        regex(&pattern, pos, sink)
    }

    /// A mapping of names to texts; null is an empty text.
    pub(crate) fn texts(&mut self, key: &str, sink: &mut Sink) -> Vec<(Arc<str>, String, Pos)> {
        let stage = self.stage;
        self.node(key).map_or_else(Vec::new, |node| texts(node, stage, sink))
    }

    /// A sequence of texts, or one text.
    pub(crate) fn list(&mut self, key: &str, sink: &mut Sink) -> Vec<String> {
        let stage = self.stage;
        self.node(key).map_or_else(Vec::new, |node| list(node, || format!("{key} of {stage} stage"), sink))
    }

    /// Reports the options that nobody read.
    pub(crate) fn finish(self, sink: &mut Sink) {
        for entry in self.rest {
            sink.fault(entry.key_pos, format!("field {} not found in {} stage", entry.key, self.stage));
        }
    }
}

fn regex(pattern: &str, pos: Pos, sink: &mut Sink) -> Option<Regex> {
    Regex::new(pattern).map_err(|error| sink.fault(pos, error.to_string())).ok()
}

pub(crate) fn text(node: &Node, what: impl FnOnce() -> String, sink: &mut Sink) -> Option<String> {
    match &node.kind {
        Kind::Scalar(scalar) if scalar.invalid.is_none() => Some(scalar.text.clone()),
        Kind::Null => Some(String::new()),
        _ => {
            sink.fault(node.pos, format!("{} must be a text, got {}", what(), node.kind_name()));
            None
        }
    }
}

/// A mapping of names to texts.
pub(crate) fn texts(node: &Node, stage: &str, sink: &mut Sink) -> Vec<(Arc<str>, String, Pos)> {
    match &node.kind {
        Kind::Map(entries) => entries
            .iter()
            .filter_map(|e| {
                let value = text(&e.value, || format!("{} of {stage} stage", e.key), sink)?;
                Some((Arc::from(e.key.as_str()), value, e.key_pos))
            })
            .collect(),
        Kind::Null => Vec::new(),
        _ => {
            sink.fault(node.pos, format!("{stage} stage must be a mapping, got {}", node.kind_name()));
            Vec::new()
        }
    }
}

/// A sequence of texts, or one text.
pub(crate) fn list(node: &Node, what: impl Fn() -> String, sink: &mut Sink) -> Vec<String> {
    match &node.kind {
        Kind::Seq(items) => items.iter().filter_map(|item| text(item, &what, sink)).collect(),
        Kind::Scalar(_) => text(node, what, sink).into_iter().collect(),
        Kind::Null => Vec::new(),
        Kind::Map(_) => {
            sink.fault(node.pos, format!("{} must be a sequence, got {}", what(), node.kind_name()));
            Vec::new()
        }
    }
}
