//! `json`, `logfmt`, `regexp`, `pattern` and `unpack`.

use std::borrow::Cow;

use trefoil_model::labels::is_legacy_label_name;
use trefoil_model::re2::Regex;

use super::{Line, unanchored};
use crate::ast::Extraction;
use crate::json::{self, Kind, Step};
use crate::labels::LineLabels;
use crate::logfmt::{self, Item};
use crate::pattern::Pattern;

const JSON_ERROR: &str = "JSONParserErr";
const LOGFMT_ERROR: &str = "LogfmtParserErr";
const NESTING_MAX: usize = 32;

/// A stage that makes labels of a line.
#[derive(Debug)]
pub(crate) enum Extractor {
    Json,
    JsonPaths(Vec<(String, Vec<Step>)>),
    Logfmt { strict: bool, keep_empty: bool },
    LogfmtKeys { strict: bool, keys: Vec<(String, String)> },
    Regexp { regex: Regex, names: Vec<(usize, String)> },
    Pattern(Pattern),
    Unpack,
}

impl Extractor {
    pub(crate) fn json(extractions: &[Extraction]) -> Result<Self, String> {
        if extractions.is_empty() {
            return Ok(Self::Json);
        }
        let paths = extractions
            .iter()
            .map(|e| {
                Ok((
                    e.label.clone(),
                    json::parse_path(&e.expression)
                        .map_err(|r| format!("cannot parse expression [{}]: {r}", e.expression))?,
                ))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self::JsonPaths(paths))
    }

    pub(crate) fn logfmt(strict: bool, keep_empty: bool, extractions: &[Extraction]) -> Result<Self, String> {
        if extractions.is_empty() {
            return Ok(Self::Logfmt { strict, keep_empty });
        }
        let bad = extractions
            .iter()
            .find(|e| e.expression.is_empty() || e.expression.contains(|c: char| c <= ' ' || matches!(c, '=' | '"')));
        if let Some(e) = bad {
            return Err(format!("cannot parse expression [{}]: no logfmt key", e.expression));
        }
        let keys = extractions.iter().map(|e| (e.label.clone(), e.expression.clone())).collect();
        Ok(Self::LogfmtKeys { strict, keys })
    }

    pub(crate) fn regexp(pattern: &str) -> Result<Self, String> {
        let regex = unanchored(pattern)?;
        let mut names: Vec<(usize, String)> = Vec::new();
        for (i, name) in regex.names().enumerate() {
            let Some(name) = name else { continue };
            if !is_legacy_label_name(name) {
                return Err(format!("invalid extracted label name '{name}'"));
            }
            if names.iter().any(|(_, have)| have == name) {
                return Err(format!("duplicate extracted label name '{name}'"));
            }
            names.push((i, name.to_owned()));
        }
        if names.is_empty() {
            return Err("at least one named capture must be supplied".to_owned());
        }
        Ok(Self::Regexp { regex, names })
    }

    pub(crate) fn pattern(pattern: &str) -> Result<Self, String> {
        Pattern::for_extraction(pattern).map(Self::Pattern)
    }

    pub(crate) fn run(&self, line: &mut Line<'_, '_>) {
        let labels = &mut *line.labels;
        match self {
            Self::Json => {
                // An empty line is not JSON either; `unpack` and expressions pass it, as in Loki.
                if let Err(error) = flatten(&line.text, "", 0, labels) {
                    labels.set_error(JSON_ERROR, error.to_string());
                }
            }
            Self::JsonPaths(paths) => json_paths(&line.text, paths, labels),
            Self::Logfmt { strict, keep_empty } => {
                for item in logfmt::items(&line.text) {
                    match item {
                        Item::Pair(_, value) if value.is_empty() && !keep_empty => {}
                        Item::Pair(key, value) => labels.extract(&sanitized(key), value),
                        Item::Broken(reason) if *strict => {
                            labels.set_error(LOGFMT_ERROR, reason);
                            return;
                        }
                        Item::Broken(_) => {}
                    }
                }
            }
            Self::LogfmtKeys { strict, keys } => {
                for item in logfmt::items(&line.text) {
                    match item {
                        Item::Pair(key, value) => {
                            for (label, _) in keys.iter().filter(|(_, wanted)| wanted == key) {
                                labels.extract(label, &*value);
                            }
                        }
                        Item::Broken(reason) if *strict => {
                            labels.set_error(LOGFMT_ERROR, reason);
                            return;
                        }
                        Item::Broken(_) => {}
                    }
                }
                // The first value wins, so this only reaches keys that the line does not have.
                for (label, _) in keys {
                    labels.extract(label, "");
                }
            }
            Self::Regexp { regex, names } => {
                if let Some(captures) = regex.captures(&line.text) {
                    for (i, name) in names {
                        labels.extract(name, captures.get(*i).unwrap_or(""));
                    }
                }
            }
            Self::Pattern(pattern) => pattern.captures(&line.text, |name, value| labels.extract(name, value)),
            Self::Unpack => unpack(line),
        }
    }
}

/// Makes a label of every scalar; names of nested members are joined by `_`.
fn flatten(text: &str, prefix: &str, depth: usize, labels: &mut LineLabels) -> Result<(), json::Malformed> {
    let mut nested = Ok(());
    json::members(text, |key, raw| {
        let key = sanitized(&key);
        let name = if prefix.is_empty() { key } else { Cow::Owned(format!("{prefix}_{}", unprefixed(&key))) };
        match raw.kind {
            Kind::Array | Kind::Null => {}
            Kind::Object if depth < NESTING_MAX => nested = flatten(raw.text, &name, depth + 1, labels),
            Kind::Object => {}
            _ => labels.extract(&name, raw.to_text()),
        }
        nested.is_ok()
    })?;
    nested
}

/// A leading `_` that only protects a digit is not needed within a name.
fn unprefixed(key: &str) -> &str {
    key.strip_prefix('_').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(key)
}

fn json_paths(text: &str, paths: &[(String, Vec<Step>)], labels: &mut LineLabels) {
    if text.is_empty() {
        return;
    }
    // As in Loki, only the start decides whether a line counts as JSON here.
    let start = text.trim_start();
    let plausible = start.starts_with(['{', '[', '"', '-'])
        || start.starts_with(|c: char| c.is_ascii_digit())
        || ["true", "false", "null"].iter().any(|word| start.starts_with(word));
    if !plausible {
        labels.set_error(JSON_ERROR, "line does not start like a JSON value");
        return;
    }
    for (label, path) in paths {
        let value = json::find(text, path).map(json::Raw::to_text).unwrap_or_default();
        labels.extract(label, value);
    }
}

fn unpack(line: &mut Line<'_, '_>) {
    if line.text.is_empty() {
        return;
    }
    let mut entry = None;
    let mut found: Vec<(String, String)> = Vec::new();
    let outcome = json::members(&line.text, |key, raw| {
        if raw.kind == Kind::String {
            let value = raw.to_text().into_owned();
            if key == "_entry" {
                entry = Some(value);
            } else {
                found.push((sanitized(&key).into_owned(), value));
            }
        }
        true
    });
    if let Err(error) = outcome {
        line.labels.set_error(JSON_ERROR, error.to_string());
        return;
    }
    // Without `_entry` the line was not packed.
    if let Some(entry) = entry {
        for (name, value) in found {
            line.labels.extract(&name, value);
        }
        line.text = Cow::Owned(entry);
    }
}

fn sanitized(key: &str) -> Cow<'_, str> {
    trefoil_model::labels::underscored(key)
}
