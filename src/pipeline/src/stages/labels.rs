//! Stages that make labels and structured metadata of found values, and choose among labels.

use std::sync::Arc;

use trefoil_config::yaml::Node;
use trefoil_model::AttributeValue;
use trefoil_model::labels::is_legacy_label_name;

use crate::entry::{Entry, Found};
use crate::options::{Sink, list, texts};

/// `labels` and `structured_metadata`: name, and the found value that it takes.
#[derive(Debug)]
pub(crate) struct LabelSources(Vec<(Arc<str>, Arc<str>)>);

impl LabelSources {
    pub(crate) fn new(node: &Node, stage: &'static str, sink: &mut Sink) -> Option<Self> {
        let mut out = Vec::new();
        for (name, source, pos) in texts(node, stage, sink) {
            if stage == "labels" && !is_legacy_label_name(&name) {
                sink.fault(pos, format!("{name:?} is not a valid label name"));
            }
            let source = if source.is_empty() { Arc::clone(&name) } else { Arc::from(source) };
            out.push((name, source));
        }
        if out.is_empty() {
            sink.fault(node.pos, format!("{stage} stage needs at least one name"));
        }
        Some(Self(out))
    }

    pub(crate) fn set_labels(&self, entry: &mut Entry) {
        let mut builder = None;
        for (name, source) in &self.0 {
            entry.extracted.with_text(source, |value| {
                // An empty value is no label.
                if entry.labels.get(name).unwrap_or("") != value {
                    builder.get_or_insert_with(|| entry.labels.to_builder()).set(&**name, value);
                }
            });
        }
        if let Some(builder) = builder {
            entry.labels = builder.build();
        }
    }

    pub(crate) fn set_metadata(&self, entry: &mut Entry) {
        for (name, source) in &self.0 {
            let Some(found) = entry.extracted.get(source) else { continue };
            let value = AttributeValue::String(match found {
                Found::Text(text) | Found::Number(text) => text,
                Found::Bool(b) => b.to_string(),
            });
            let attributes = &mut entry.record.attributes;
            match attributes.iter_mut().find(|(n, _)| **n == **name) {
                Some(pair) => pair.1 = value,
                None => attributes.push((name.to_string(), value)),
            }
        }
    }
}

/// `static_labels`
pub(crate) fn static_labels(node: &Node, sink: &mut Sink) -> Option<Arc<[(String, String)]>> {
    let given = texts(node, "static_labels", sink);
    if given.is_empty() {
        sink.fault(node.pos, "static_labels stage needs at least one name");
    }
    for (name, _, pos) in &given {
        if !is_legacy_label_name(name) {
            sink.fault(*pos, format!("{name:?} is not a valid label name"));
        }
    }
    Some(given.into_iter().map(|(name, value, _)| (name.to_string(), value)).collect())
}

/// `labeldrop` and `labelallow`.
#[derive(Debug)]
pub(crate) struct LabelPicks {
    names: Vec<String>,
    allow: bool,
}

impl LabelPicks {
    pub(crate) fn new(node: &Node, allow: bool, sink: &mut Sink) -> Option<Self> {
        let stage = if allow { "labelallow" } else { "labeldrop" };
        let names = list(node, || format!("{stage} stage"), sink);
        if names.is_empty() {
            sink.fault(node.pos, format!("{stage} stage needs at least one name"));
        }
        Some(Self { names, allow })
    }

    pub(crate) fn keeps(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name) == self.allow
    }
}
