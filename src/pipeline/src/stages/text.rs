//! Stages that change texts: `replace`, `template`, `pack`, `decolorize`.

use std::sync::{Arc, LazyLock};

use serde_json::Value as Json;
use trefoil_logql::TemplateFunctions;
use trefoil_model::re2::Regex;
use trefoil_template::functions::{arity, text};
use trefoil_template::{FuncMap, Limits, Map, Template, Value};

use crate::entry::{Entry, Found};
use crate::options::{Options, Sink};
use crate::sha3::sha3_256;

/// Longest text that a template may make.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// Most matches that a replace stage replaces in a line.
const REPLACED_MAX: usize = 10_000;

/// promtail's functions that LogQL does not have.
static MORE_FUNCTIONS: LazyLock<FuncMap> = LazyLock::new(|| {
    let mut map = FuncMap::new();
    map.add("Hash", |a| {
        arity("Hash", a, 2)?;
        let mut salted = text("Hash", a, 0)?.to_owned();
        salted.push_str(text("Hash", a, 1)?);
        Ok(Value::from(hex::encode(sha3_256(salted.as_bytes()))))
    });
    map.add("Sha2Hash", |a| {
        arity("Sha2Hash", a, 2)?;
        let mut salted = text("Sha2Hash", a, 0)?.to_owned();
        salted.push_str(text("Sha2Hash", a, 1)?);
        Ok(Value::from(hex::encode(ring::digest::digest(&ring::digest::SHA256, salted.as_bytes()))))
    });
    map
});

/// A template over found values.
#[derive(Debug)]
struct FoundTemplate {
    template: Template,
    /// The values that it names; `None` when it may look at all.
    fields: Option<Vec<String>>,
}

impl FoundTemplate {
    fn new(options: &Options<'_>, key: &str, source: &str, sink: &mut Sink) -> Option<Self> {
        let pos = options.node.key_pos(key);
        let functions = TemplateFunctions::new("", 0, &MORE_FUNCTIONS);
        let parsed = Template::parse("pipeline", source)
            .and_then(|template| template.check_functions(&functions).map(|()| template));
        match parsed {
            Ok(template) => {
                let fields = template.fields();
                Some(Self { template, fields })
            }
            Err(error) => {
                sink.fault(pos, format!("{key} of {} stage: invalid template: {error}", options.stage));
                None
            }
        }
    }

    /// Renders with `value` as `.Value`; `None` when the template fails on it.
    fn render(&self, entry: &Entry, value: Value) -> Option<String> {
        let mut members: Vec<(String, Value)> = match &self.fields {
            None => entry.extracted.values().map(|(name, value)| (name.to_owned(), value)).collect(),
            Some(fields) => {
                fields.iter().filter_map(|name| Some((name.clone(), entry.extracted.get(name)?.value()))).collect()
            }
        };
        members.retain(|(name, _)| name != "Value" && name != "Entry");
        members.push(("Value".to_owned(), value));
        if self.fields.as_ref().is_none_or(|fields| fields.iter().any(|name| name == "Entry")) {
            members.push(("Entry".to_owned(), Value::from(entry.record.text.as_str())));
        }
        let functions = TemplateFunctions::new(&entry.record.text, entry.record.time_ns, &MORE_FUNCTIONS);
        let limits = Limits { output_bytes: OUTPUT_BYTES_MAX, ..Limits::default() };
        self.template.render(&Value::map(Map::any(members)), &functions, limits).ok()
    }
}

/// `template`
#[derive(Debug)]
pub(crate) struct TemplateStage {
    source: Arc<str>,
    template: FoundTemplate,
}

impl TemplateStage {
    pub(crate) fn new(options: &mut Options<'_>, sink: &mut Sink) -> Option<Self> {
        let source = options.required("source", sink);
        let text = options.required("template", sink)?;
        let template = FoundTemplate::new(options, "template", &text, sink)?;
        Some(Self { source: Arc::from(source?), template })
    }

    pub(crate) fn run(&self, entry: &mut Entry) {
        let value = entry.extracted.get(&self.source).map_or(Value::Nil, |found| found.value());
        match self.template.render(entry, value) {
            None => {}
            Some(out) if out.is_empty() => entry.extracted.remove(&self.source),
            Some(out) => entry.extracted.set(&self.source, Found::Text(out)),
        }
    }
}

/// `replace`
#[derive(Debug)]
pub(crate) struct Replace {
    source: Option<Arc<str>>,
    regex: Regex,
    /// Where the new text of a group goes.
    names: Vec<Option<Arc<str>>>,
    template: FoundTemplate,
}

impl Replace {
    pub(crate) fn new(options: &mut Options<'_>, sink: &mut Sink) -> Option<Self> {
        let regex = options.required_regex("expression", sink);
        let source = options.name("source", sink);
        let text = options.text("replace", sink).unwrap_or_default();
        let template = FoundTemplate::new(options, "replace", &text, sink)?;
        let regex = regex?;
        let names: Vec<_> = regex.names().map(|name| name.map(Arc::from)).collect();
        if names.len() < 2 {
            sink.fault(options.node.key_pos("expression"), "expression of replace stage has no group");
        }
        Some(Self { source, regex, names, template })
    }

    pub(crate) fn run(&self, entry: &mut Entry) {
        let input = match &self.source {
            None => entry.record.text.clone(),
            Some(source) => match entry.extracted.with_text(source, str::to_owned) {
                Some(text) => text,
                None => return,
            },
        };
        let mut out = String::with_capacity(input.len());
        let mut found = Vec::new();
        // Up to here the input is in the output, or replaced.
        let mut copied = 0;
        let mut replaced = false;
        for found_at in self.regex.find_iter(&input).take(REPLACED_MAX) {
            let rest = &input[found_at.start..];
            let Some(captures) = self.regex.captures(rest).filter(|captures| captures.range().start == 0) else {
                continue;
            };
            for (group, name) in self.names.iter().enumerate().skip(1) {
                let Some(text) = captures.get(group) else { continue };
                let start = found_at.start + (text.as_ptr().addr() - rest.as_ptr().addr());
                // A group within one that is replaced already has no text of its own any more.
                if start < copied {
                    continue;
                }
                let Some(new) = self.template.render(entry, Value::from(text)) else { continue };
                out.push_str(&input[copied..start]);
                out.push_str(&new);
                copied = start + text.len();
                replaced = true;
                if let Some(name) = name {
                    found.push((Arc::clone(name), new));
                }
            }
        }
        if !replaced {
            return;
        }
        out.push_str(&input[copied..]);
        match &self.source {
            None => entry.record.text = out,
            Some(source) => entry.extracted.set(source, Found::Text(out)),
        }
        for (name, new) in found {
            entry.extracted.set(&name, Found::Text(new));
        }
    }
}

/// `pack`
#[derive(Debug)]
pub(crate) struct Pack {
    names: Vec<String>,
    ingest_time: bool,
}

impl Pack {
    pub(crate) fn new(options: &mut Options<'_>, sink: &mut Sink) -> Option<Self> {
        Some(Self { names: options.list("labels", sink), ingest_time: options.flag("ingest_timestamp", true, sink) })
    }

    pub(crate) fn run(&self, entry: &mut Entry, now_ns: i64) {
        let mut members = serde_json::Map::new();
        let mut labels = entry.labels.to_builder();
        for name in &self.names {
            let of_label = entry.labels.get(name).map(str::to_owned);
            let value = of_label.or_else(|| entry.extracted.with_text(name, str::to_owned));
            if let Some(value) = value {
                members.insert(name.clone(), Json::String(value));
                labels.del(name);
            }
        }
        entry.labels = labels.build();
        members.sort_keys();
        members.insert("_entry".to_owned(), Json::String(std::mem::take(&mut entry.record.text)));
        entry.record.text = Json::Object(members).to_string();
        if self.ingest_time {
            entry.record.time_ns = now_ns;
        }
    }
}

/// `decolorize`
pub(crate) fn decolorize(line: &mut String) {
    if let Some(plain) = trefoil_logql::decolorized(line) {
        *line = plain;
    }
}
