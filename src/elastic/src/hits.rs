//! How hits are shown: `_source`, `fields`, `highlight`.

mod highlight;

use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json, json};

use crate::Error;
use crate::date::Format;
use crate::doc::{Doc, Value, add};
use crate::glob::Glob;
use crate::query::Query;
use highlight::Highlight;

/// Most patterns of fields in a request.
const PATTERNS_MAX: usize = 1000;

/// What is shown of each hit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Show {
    source: Source,
    fields: Vec<Shown>,
    highlight: Option<Highlight>,
    has_version: bool,
    has_seq_no: bool,
    is_without_id: bool,
}

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    Whole,
    No,
    Part {
        includes: Vec<Glob>,
        excludes: Vec<Glob>,
    },
}

/// A field that is asked for by itself.
#[derive(Debug, Clone)]
struct Shown {
    pattern: Glob,
    format: Option<Format>,
}

impl Show {
    pub(crate) fn parse(body: &Map<String, Json>) -> Result<Self, Error> {
        let mut show = Self::default();
        for key in ["fields", "docvalue_fields"] {
            show.add_fields(key, body.get(key))?;
        }
        if let Some(stored) = body.get("stored_fields") {
            let names: Vec<&str> = match stored {
                Json::Array(names) => names.iter().filter_map(Json::as_str).collect(),
                Json::String(name) => vec![name],
                _ => Vec::new(),
            };
            show.is_without_id = names == ["_none_"];
            if !names.contains(&"_source") {
                show.source = Source::No;
            }
        }
        if let Some(source) = body.get("_source") {
            show.source = Source::parse(source)?;
        }
        show.highlight = body.get("highlight").filter(|h| !h.is_null()).map(Highlight::parse).transpose()?;
        show.has_version = body.get("version") == Some(&Json::Bool(true));
        show.has_seq_no = body.get("seq_no_primary_term") == Some(&Json::Bool(true));
        Ok(show)
    }

    fn add_fields(&mut self, key: &str, json: Option<&Json>) -> Result<(), Error> {
        let items = match json {
            None | Some(Json::Null) => return Ok(()),
            Some(Json::Array(items)) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        for item in items {
            let (name, format) = match item {
                Json::String(name) => (name.as_str(), None),
                Json::Object(options) => (
                    options.get("field").and_then(Json::as_str).unwrap_or_default(),
                    options.get("format").and_then(Json::as_str).filter(|f| *f != "use_field_mapping"),
                ),
                _ => return Err(Error::content(format!("[{key}] must be a list of names of fields"))),
            };
            if name.is_empty() || self.fields.len() >= PATTERNS_MAX {
                return Err(Error::content(format!("[{key}] has an item without a name, or too many items")));
            }
            let format = format.map(Format::parse).transpose()?;
            self.fields.push(Shown { pattern: Glob::new(name, false), format });
        }
        Ok(())
    }

    /// A hit. `sort`: its values, when the request names keys.
    pub(crate) fn hit(&self, doc: &Doc<'_>, query: &Query, sort: Option<Vec<Json>>) -> Json {
        let mut hit = Map::new();
        hit.insert("_index".to_owned(), json!(doc.index()));
        if !self.is_without_id {
            hit.insert("_id".to_owned(), json!(doc.id()));
        }
        if self.has_version {
            hit.insert("_version".to_owned(), json!(1));
        }
        if self.has_seq_no {
            hit.insert("_seq_no".to_owned(), json!(doc.position().sequence));
            hit.insert("_primary_term".to_owned(), json!(1));
        }
        hit.insert("_score".to_owned(), if sort.is_some() { Json::Null } else { json!(1.0) });
        if let Some(source) = self.source.of(doc) {
            hit.insert("_source".to_owned(), Json::Object(source));
        }
        if !self.fields.is_empty() {
            let fields = self.fields_of(doc);
            if !fields.is_empty() {
                hit.insert("fields".to_owned(), Json::Object(fields));
            }
        }
        if let Some(highlight) = &self.highlight {
            let found = highlight.of(doc, query);
            if !found.is_empty() {
                hit.insert("highlight".to_owned(), Json::Object(found));
            }
        }
        if let Some(sort) = sort {
            hit.insert("sort".to_owned(), Json::Array(sort));
        }
        Json::Object(hit)
    }

    /// `fields`: lists of values.
    fn fields_of(&self, doc: &Doc<'_>) -> Map<String, Json> {
        let mut out = Map::new();
        let mut put = |name: &str, value: Json| {
            if let Json::Array(list) = out.entry(name).or_insert_with(|| json!([])) {
                list.push(value);
            }
        };
        doc.any_field(&mut |name, value| {
            for keyword in [false, true] {
                let full;
                let name = if keyword {
                    full = format!("{name}.keyword");
                    &full
                } else {
                    name
                };
                let matches = |s: &&Shown| s.pattern.matches(name) && !(keyword && s.pattern.matches_all());
                if let Some(shown) = self.fields.iter().find(matches) {
                    put(name, shown.value(&value));
                }
            }
            false
        });
        out
    }
}

impl Shown {
    fn value(&self, value: &Value<'_>) -> Json {
        match value {
            Value::Time(ns) => {
                let format = self.format.clone().unwrap_or_default();
                json!(format.print_ns(*ns, &TimeZone::UTC))
            }
            value => value.json(),
        }
    }
}

impl Source {
    fn parse(json: &Json) -> Result<Self, Error> {
        let globs = |json: Option<&Json>| -> Result<Vec<Glob>, Error> {
            let names: Vec<&str> = match json {
                None | Some(Json::Null) => Vec::new(),
                Some(Json::String(name)) => name.split(',').collect(),
                Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
                Some(_) => {
                    return Err(Error::content("[_source] must be a boolean, a name, a list of names or an object"));
                }
            };
            if names.len() > PATTERNS_MAX {
                return Err(Error::content(format!("[_source] has more than {PATTERNS_MAX} names")));
            }
            Ok(names.into_iter().map(|n| Glob::new(n, false)).collect())
        };
        Ok(match json {
            Json::Bool(true) => Self::Whole,
            Json::Bool(false) => Self::No,
            Json::String(text) if text == "true" => Self::Whole,
            Json::String(text) if text == "false" => Self::No,
            Json::Object(options) => {
                let either = |a: &str, b: &str| options.get(a).or_else(|| options.get(b)).cloned();
                Self::Part {
                    includes: globs(either("includes", "include").as_ref())?,
                    excludes: globs(either("excludes", "exclude").as_ref())?,
                }
            }
            names => Self::Part { includes: globs(Some(names))?, excludes: Vec::new() },
        })
    }

    fn of(&self, doc: &Doc<'_>) -> Option<Map<String, Json>> {
        let (includes, excludes) = match self {
            Self::Whole => return Some(doc.source()),
            Self::No => return None,
            Self::Part { includes, excludes } => (includes, excludes),
        };
        // A pattern means what lies below it too.
        let has = |globs: &[Glob], name: &str| {
            globs
                .iter()
                .any(|glob| glob.matches(name) || name.match_indices('.').any(|(at, _)| glob.matches(&name[..at])))
        };
        let mut out = Map::new();
        doc.any_field(&mut |name, value| {
            if (includes.is_empty() || has(includes, name)) && !has(excludes, name) {
                add(&mut out, name, value.json());
            }
            false
        });
        Some(out)
    }
}
