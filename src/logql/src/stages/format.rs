//! `line_format`, `label_format`, `drop` and `keep`.

use std::borrow::Cow;

use rustc_hash::FxHashSet;
use trefoil_template::{Functions, Limits, Map, Template, Value};

use super::Line;
use crate::ast::{LabelFormat, LabelPick, LabelSource};
use crate::labels::{Category, LineLabels};
use crate::template_functions::{self, LineFunctions};

const TEMPLATE_ERROR: &str = "TemplateFormatErr";

fn parse(source: &str) -> Result<Template, String> {
    let describe = |e: trefoil_template::TemplateError| format!("invalid template: {}:{}: {}", e.line, e.col, e.msg);
    let template = Template::parse("line", source).map_err(describe)?;
    let functions = LineFunctions { line: "", time_ns: 0 };
    template.check_functions(&functions as &dyn Functions).map_err(describe)?;
    Ok(template)
}

fn render(template: &Template, data: &Value, line: &str, time_ns: i64) -> Result<String, String> {
    let functions = LineFunctions { line, time_ns };
    template
        .render(data, &functions, Limits { output_bytes: template_functions::OUTPUT_BYTES_MAX, ..Limits::default() })
        .map_err(|e| e.to_string())
}

/// A template with the labels that it names; `None` when it may look at all.
#[derive(Debug)]
struct LabelTemplate {
    template: Template,
    fields: Option<Vec<String>>,
}

impl LabelTemplate {
    fn new(source: &str) -> Result<Self, String> {
        let template = parse(source)?;
        let fields = template.fields();
        Ok(Self { template, fields })
    }

    fn add_used_labels(&self, out: &mut FxHashSet<String>) -> bool {
        out.extend(self.fields.iter().flatten().cloned());
        self.fields.is_some()
    }
}

/// The data of one or more templates of a stage.
fn snapshot<'a>(labels: &LineLabels, templates: impl Iterator<Item = &'a LabelTemplate> + Clone) -> Value {
    if templates.clone().any(|t| t.fields.is_none()) {
        return Value::map(Map::strings(labels.all()));
    }
    let names = templates.flat_map(|t| t.fields.iter().flatten());
    Value::map(Map::strings(names.filter_map(|name| Some((name.as_str(), labels.get(name)?)))))
}

/// `line_format`
#[derive(Debug)]
pub(crate) struct LineFormatter(LabelTemplate);

impl LineFormatter {
    pub(crate) fn new(template: &str) -> Result<Self, String> {
        LabelTemplate::new(template).map(Self)
    }

    pub(crate) fn add_used_labels(&self, out: &mut FxHashSet<String>) -> bool {
        self.0.add_used_labels(out)
    }

    pub(crate) fn run(&self, line: &mut Line<'_, '_>) {
        let data = snapshot(line.labels, std::iter::once(&self.0));
        match render(&self.0.template, &data, &line.text, line.time_ns) {
            Ok(text) => line.text = Cow::Owned(text),
            Err(message) => line.labels.set_error(TEMPLATE_ERROR, message),
        }
    }
}

#[derive(Debug)]
enum Source {
    Label(String),
    Template(LabelTemplate),
}

/// `label_format`
#[derive(Debug)]
pub(crate) struct LabelFormatter {
    formats: Vec<(String, Source)>,
}

impl LabelFormatter {
    pub(crate) fn new(formats: &[LabelFormat]) -> Result<Self, String> {
        let formats = formats
            .iter()
            .map(|format| {
                let source = match &format.source {
                    LabelSource::Label(label) => Source::Label(label.clone()),
                    LabelSource::Template(template) => Source::Template(LabelTemplate::new(template)?),
                };
                Ok((format.target.clone(), source))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { formats })
    }

    pub(crate) fn add_used_labels(&self, out: &mut FxHashSet<String>) -> bool {
        self.formats.iter().all(|(_, source)| match source {
            Source::Label(label) => {
                out.insert(label.clone());
                true
            }
            Source::Template(template) => template.add_used_labels(out),
        })
    }

    fn templates(&self) -> impl Iterator<Item = &LabelTemplate> + Clone {
        self.formats.iter().filter_map(|(_, source)| match source {
            Source::Template(template) => Some(template),
            Source::Label(_) => None,
        })
    }

    pub(crate) fn run(&self, line: &mut Line<'_, '_>) {
        // All templates see the labels from before the first of them.
        let mut data = None;
        for (target, source) in &self.formats {
            match source {
                Source::Label(label) => {
                    if let Some((value, category)) = line.labels.find(label) {
                        let value = value.to_owned();
                        line.labels.set(category, target, value);
                        line.labels.remove(label);
                    }
                }
                Source::Template(template) => {
                    let data = data.get_or_insert_with(|| snapshot(line.labels, self.templates()));
                    match render(&template.template, data, &line.text, line.time_ns) {
                        Ok(text) => line.labels.set(Category::Parsed, target, text),
                        Err(message) => line.labels.set_error(TEMPLATE_ERROR, message),
                    }
                }
            }
        }
    }
}

/// What `drop` and `keep` name.
#[derive(Debug)]
pub(crate) struct Picks(pub(crate) Vec<LabelPick>);

impl Picks {
    pub(crate) fn add_used_labels(&self, out: &mut FxHashSet<String>) {
        out.extend(self.0.iter().filter_map(|pick| match pick {
            LabelPick::Matcher(matcher) => Some(matcher.name.clone()),
            LabelPick::Name(_) => None,
        }));
    }

    pub(crate) fn drop_from(&self, labels: &mut LineLabels) {
        for pick in &self.0 {
            match pick {
                LabelPick::Name(name) => labels.remove(name),
                LabelPick::Matcher(matcher) => {
                    if labels.get(&matcher.name).is_some_and(|value| matcher.matches(value)) {
                        labels.remove(&matcher.name);
                    }
                }
            }
        }
    }

    pub(crate) fn keep_in(&self, labels: &mut LineLabels) {
        labels.retain(|name, value| {
            self.0.iter().any(|pick| match pick {
                LabelPick::Name(wanted) => wanted == name,
                LabelPick::Matcher(matcher) => matcher.name == name && matcher.matches(value),
            })
        });
    }
}
