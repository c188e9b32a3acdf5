//! Stages that find values: `regex`, `grok`, `json`, `logfmt`.

use std::sync::Arc;

use serde_json::Value;
use trefoil_model::re2::Regex;

use crate::entry::{Entry, Found};
use crate::grok::{self, Cast};
use crate::json_path::JsonPath;
use crate::options::{Options, Sink};
use crate::stages::dropped;

/// Most fields of a logfmt line that are looked at.
const LOGFMT_FIELDS_MAX: usize = 1_000;

/// `regex` and `grok`.
#[derive(Debug)]
pub(crate) struct Patterns {
    source: Option<Arc<str>>,
    /// The first that matches counts.
    patterns: Vec<Pattern>,
    as_labels: bool,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// By group: where its text goes.
    targets: Vec<Option<(Arc<str>, Cast)>>,
}

impl Patterns {
    pub(crate) fn regex(options: &mut Options<'_>, sink: &mut Sink) -> Option<Self> {
        let regex = options.required_regex("expression", sink)?;
        let targets: Vec<_> = regex.names().map(|name| name.map(|name| (Arc::from(name), Cast::Text))).collect();
        if targets.iter().all(Option::is_none) {
            sink.fault(options.node.key_pos("expression"), "expression of regex stage has no named group");
        }
        let source = options.name("source", sink);
        let as_labels = options.flag("labels_from_groups", false, sink);
        Some(Self { source, patterns: vec![Pattern { regex, targets }], as_labels })
    }

    pub(crate) fn grok(options: &mut Options<'_>, sink: &mut Sink) -> Option<Self> {
        let own: Vec<(String, String)> =
            options.texts("patterns", sink).into_iter().map(|(name, text, _)| (name.to_string(), text)).collect();
        let pos = options.node.key_pos("expression");
        let mut patterns = Vec::new();
        let expressions = options.list("expression", sink);
        for expression in &expressions {
            let compiled = grok::expand(expression, &own).and_then(|expanded| {
                let regex = Regex::new(&expanded.pattern).map_err(|e| e.to_string())?;
                let targets = regex
                    .names()
                    .map(|name| {
                        let name = name?;
                        Some(match expanded.fields.iter().find(|field| field.group == name) {
                            Some(field) => (Arc::from(field.name.as_str()), field.cast),
                            None => (Arc::from(name), Cast::Text),
                        })
                    })
                    .collect();
                Ok(Pattern { regex, targets })
            });
            match compiled {
                Ok(pattern) => patterns.push(pattern),
                Err(message) => sink.fault(pos, format!("expression of grok stage: {message}")),
            }
        }
        if expressions.is_empty() {
            sink.fault(options.node.pos, "grok stage needs expression");
        }
        let source = options.name("source", sink);
        let as_labels = options.flag("labels_from_groups", false, sink);
        Some(Self { source, patterns, as_labels })
    }

    pub(crate) fn run(&self, entry: &mut Entry) {
        let from_source;
        let text = match &self.source {
            None => entry.record.text.as_str(),
            Some(source) => match entry.extracted.with_text(source, str::to_owned) {
                Some(text) => {
                    from_source = text;
                    from_source.as_str()
                }
                None => return,
            },
        };
        let Some((pattern, captures)) = self.patterns.iter().find_map(|p| Some((p, p.regex.captures(text)?))) else {
            return;
        };
        let mut labels = self.as_labels.then(|| entry.labels.to_builder());
        for (group, target) in pattern.targets.iter().enumerate() {
            let Some((name, cast)) = target else { continue };
            // Of groups that share a name, the one that took part counts; grok leaves out what is empty.
            let found = match (captures.get(group), cast) {
                (Some(found), Cast::Text) => Found::Text(found.to_owned()),
                (Some(""), _) | (None, Cast::Whole | Cast::Float | Cast::Optional) => continue,
                (Some(found), Cast::Optional) => Found::Text(found.to_owned()),
                (Some(found), Cast::Whole | Cast::Float) => cast.number(found),
                (None, Cast::Text) if entry.extracted.get(name).is_some() => continue,
                (None, Cast::Text) => Found::Text(String::new()),
            };
            if let Some(builder) = &mut labels {
                builder.set(&**name, found.text().into_owned());
            }
            entry.extracted.set(name, found);
        }
        if let Some(builder) = labels {
            entry.labels = builder.build();
        }
    }
}

/// `json`
#[derive(Debug)]
pub(crate) struct Json {
    source: Option<Arc<str>>,
    expressions: Vec<(Arc<str>, JsonPath)>,
    drop_malformed: Option<prometheus::IntCounter>,
}

impl Json {
    pub(crate) fn new(options: &mut Options<'_>, sink: &mut Sink) -> Option<Self> {
        let mut expressions = Vec::new();
        let given = options.texts("expressions", sink);
        if given.is_empty() {
            sink.fault(options.node.pos, "json stage needs expressions");
        }
        for (name, text, pos) in given {
            // No expression: the member of the name itself.
            let quoted = || Value::String(name.to_string()).to_string();
            match JsonPath::new(&if text.is_empty() { quoted() } else { text }) {
                Ok(path) => expressions.push((name, path)),
                Err(message) => sink.fault(pos, message),
            }
        }
        let source = options.name("source", sink);
        let drop_malformed = options.flag("drop_malformed", false, sink).then(|| dropped("json_malformed"));
        Some(Self { source, expressions, drop_malformed })
    }

    /// False when the entry is dropped.
    pub(crate) fn run(&self, entry: &mut Entry) -> bool {
        let parsed: Option<Value> = match &self.source {
            None => serde_json::from_str(&entry.record.text).ok(),
            Some(source) => match entry.extracted.with_text(source, |text| serde_json::from_str(text).ok()) {
                Some(parsed) => parsed,
                // promtail looks at lines that have the source only.
                None => return true,
            },
        };
        let Some(document) = parsed.filter(Value::is_object) else {
            if let Some(counter) = &self.drop_malformed {
                counter.inc();
                return false;
            }
            return true;
        };
        for (name, path) in &self.expressions {
            match path.find(&document) {
                None => entry.extracted.remove(name),
                Some(Value::String(text)) => entry.extracted.set(name, Found::Text(text.clone())),
                Some(Value::Number(number)) => entry.extracted.set(name, Found::Number(number.to_string())),
                Some(Value::Bool(b)) => entry.extracted.set(name, Found::Bool(*b)),
                Some(other) => entry.extracted.set(name, Found::Text(other.to_string())),
            }
        }
        true
    }
}

/// `logfmt`
#[derive(Debug)]
pub(crate) struct Logfmt {
    source: Option<Arc<str>>,
    /// Name in the line, name of the found value.
    mapping: Vec<(String, Arc<str>)>,
}

impl Logfmt {
    pub(crate) fn new(options: &mut Options<'_>, sink: &mut Sink) -> Option<Self> {
        let given = options.texts("mapping", sink);
        if given.is_empty() {
            sink.fault(options.node.pos, "logfmt stage needs mapping");
        }
        let mapping = given
            .into_iter()
            .map(|(name, field, _)| (if field.is_empty() { name.to_string() } else { field }, name))
            .collect();
        Some(Self { source: options.name("source", sink), mapping })
    }

    pub(crate) fn run(&self, entry: &mut Entry) {
        let mut found = Vec::new();
        let mut look = |text: &str| {
            for (key, value) in trefoil_logql::logfmt_fields(text).take(LOGFMT_FIELDS_MAX) {
                for (_, name) in self.mapping.iter().filter(|(field, _)| field == key) {
                    found.push((Arc::clone(name), Found::Text(value.to_string())));
                }
            }
        };
        match &self.source {
            None => look(&entry.record.text),
            Some(source) => {
                entry.extracted.with_text(source, look);
            }
        }
        for (name, value) in found {
            entry.extracted.set(&name, value);
        }
    }
}
