//! Which fields there are and of what type: mappings and field capabilities.
//!
//! Labels are those of all streams; attributes are those of the newest 10,000 records, as the store keeps no list
//! of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use serde_json::{Map, Value as Json, json};
use trefoil_model::NanoRange;

use crate::Error;
use crate::doc::{INDEX, INDEX_ATTRIBUTE, MESSAGE, TIMESTAMP, Value};
use crate::glob::Glob;
use crate::indices::Indices;
use crate::search::{Source, newest};

/// Records that are looked at for names of attributes.
const SAMPLE: usize = 10_000;
/// Most fields of an answer.
const FIELDS_MAX: usize = 10_000;

/// Types by field, and the indices that were met.
#[derive(Debug, Default)]
struct Known {
    types: BTreeMap<String, BTreeSet<&'static str>>,
    indices: BTreeSet<String>,
}

/// What is asked of `_field_caps`.
#[derive(Debug, Clone, Default)]
pub struct FieldCaps {
    /// Names and patterns; none: all.
    pub fields: Vec<String>,
    /// Types to which the answer is narrowed; none: all.
    pub types: Vec<String>,
}

fn known(indices: &Indices, range: NanoRange, source: Source<'_>) -> Result<Known, Error> {
    let mut known = Known::default();
    for (name, kind) in [
        (TIMESTAMP, "date"),
        (MESSAGE, "text"),
        ("log.level", "keyword"),
        ("trace.id", "keyword"),
        ("span.id", "keyword"),
    ] {
        known.types.entry(name.to_owned()).or_default().insert(kind);
    }
    let streams = source.reader.streams(source.tenant, range, &[], source.budget)?;
    for labels in &streams {
        let index = labels.get(INDEX_ATTRIBUTE);
        if index.is_some_and(|name| !indices.contains(name)) {
            continue;
        }
        known.indices.extend(index.map(str::to_owned));
        for (name, _) in labels.iter().filter(|(name, _)| *name != INDEX_ATTRIBUTE) {
            if known.types.len() < FIELDS_MAX && !known.types.contains_key(name) {
                known.types.entry(name.to_owned()).or_default().insert("keyword");
            }
        }
    }
    let mut left = SAMPLE;
    newest(source, indices, range, &mut |doc| {
        let index = doc.index();
        if !known.indices.contains(index.as_ref()) {
            known.indices.insert(index.into_owned());
        }
        doc.any_field(&mut |name, value| {
            let kind = match (&value, name) {
                (_, MESSAGE) => "text",
                (Value::Text(_), _) => "keyword",
                (Value::Int(_), _) => "long",
                (Value::Float(_), _) => "double",
                (Value::Bool(_), _) => "boolean",
                (Value::Time(_), _) => "date",
            };
            if let Some(kinds) = known.types.get_mut(name) {
                kinds.insert(kind);
            } else if known.types.len() < FIELDS_MAX {
                known.types.insert(name.to_owned(), BTreeSet::from([kind]));
            }
            false
        });
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(known)
}

impl Known {
    /// The one type that a mapping shows: numbers of both kinds are `double`, other mixtures `keyword`.
    fn mapped(kinds: &BTreeSet<&'static str>) -> &'static str {
        let mut kinds = kinds.iter();
        match (kinds.next(), kinds.next(), kinds.next()) {
            (Some(one), None, _) => one,
            (Some(&"double"), Some(&"long"), None) => "double",
            _ => "keyword",
        }
    }

    fn names(&self, indices: &Indices) -> Vec<String> {
        let mut names: Vec<String> = self.indices.iter().filter(|n| *n != INDEX).cloned().collect();
        if indices.contains(INDEX) {
            names.insert(0, INDEX.to_owned());
        }
        names
    }
}

/// The answer of `_field_caps` over records of a range.
pub fn field_caps(request: &FieldCaps, indices: &Indices, range: NanoRange, source: Source<'_>) -> Result<Json, Error> {
    let known = known(indices, range, source)?;
    let globs: Vec<Glob> = request.fields.iter().map(|f| Glob::new(f, false)).collect();
    let wanted = |name: &str| globs.is_empty() || globs.iter().any(|g| g.matches(name));
    let mut fields = Map::new();
    let mut put = |name: &str, kind: &str, is_meta: bool| {
        if !wanted(name) || !(request.types.is_empty() || request.types.iter().any(|t| t == kind)) {
            return;
        }
        let aggregatable = !matches!(kind, "text" | "object");
        let caps = json!({
            "type": kind,
            "metadata_field": is_meta,
            "searchable": kind != "object",
            "aggregatable": aggregatable,
        });
        if let Json::Object(types) = fields.entry(name).or_insert_with(|| json!({})) {
            types.insert(kind.to_owned(), caps);
        }
    };
    for (name, kinds) in &known.types {
        kinds.iter().for_each(|kind| put(name, kind, false));
        if kinds.contains("keyword") || kinds.contains("text") {
            put(&format!("{name}.keyword"), "keyword", false);
        }
    }
    for (name, kind) in [("_id", "_id"), ("_index", "_index")] {
        put(name, kind, true);
    }
    Ok(json!({ "indices": known.names(indices), "fields": fields }))
}

/// The answer of `_mapping`; with patterns, that of `_mapping/field/{fields}`.
pub fn mapping(
    fields: Option<&[String]>,
    indices: &Indices,
    range: NanoRange,
    source: Source<'_>,
) -> Result<Json, Error> {
    let known = known(indices, range, source)?;
    let one = |kind: &str| match kind {
        "text" => json!({ "type": "text", "fields": { "keyword": { "type": "keyword", "ignore_above": 256 } } }),
        kind => json!({ "type": kind }),
    };
    let mut mappings = Map::new();
    match fields {
        Some(patterns) => {
            let globs: Vec<Glob> = patterns.iter().map(|f| Glob::new(f, false)).collect();
            for (name, kinds) in known.types.iter().filter(|(name, _)| globs.iter().any(|g| g.matches(name))) {
                let leaf = name.rsplit('.').next().unwrap_or(name);
                mappings
                    .insert(name.clone(), json!({ "full_name": name, "mapping": { leaf: one(Known::mapped(kinds)) } }));
            }
        }
        None => {
            let mut properties = Map::new();
            for (name, kinds) in &known.types {
                put_property(&mut properties, name, one(Known::mapped(kinds)));
            }
            mappings.insert("properties".to_owned(), Json::Object(properties));
        }
    }
    let mut out = Map::new();
    for name in known.names(indices) {
        out.insert(name, json!({ "mappings": mappings }));
    }
    Ok(Json::Object(out))
}

/// Puts a field of a dotted name into the tree of properties. Depth: as many as the name has dots, at most 20.
fn put_property(properties: &mut Map<String, Json>, name: &str, kind: Json) {
    let mut level = properties;
    let mut rest = name;
    for _ in 0..20 {
        let Some((first, after)) = rest.split_once('.').filter(|(first, after)| !first.is_empty() && !after.is_empty())
        else {
            break;
        };
        let Json::Object(field) = level.entry(first).or_insert_with(|| json!({})) else { return };
        let Json::Object(inner) = field.entry("properties").or_insert_with(|| json!({})) else { return };
        (level, rest) = (inner, after);
    }
    if let (Json::Object(field), Json::Object(kind)) = (level.entry(rest).or_insert_with(|| json!({})), kind) {
        field.extend(kind);
    }
}

/// What `_cat/indices` tells of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexInfo {
    /// Its name.
    pub name: String,
    /// Its documents.
    pub documents: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

/// The indices with a document, and `logs`, by name, with their counts.
pub fn index_list(indices: &Indices, range: NanoRange, source: Source<'_>) -> Result<Vec<IndexInfo>, Error> {
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    if indices.contains(INDEX) {
        counts.insert(INDEX.to_owned(), (0, 0));
    }
    newest(source, indices, range, &mut |doc| {
        let name = doc.index();
        let bytes = doc.entry.record.text.len() as u64;
        match counts.get_mut(name.as_ref()) {
            Some(count) => *count = (count.0 + 1, count.1 + bytes),
            None => {
                counts.insert(name.into_owned(), (1, bytes));
            }
        }
        ControlFlow::Continue(())
    })?;
    let info = |(name, (documents, bytes))| IndexInfo { name, documents, bytes };
    Ok(counts.into_iter().map(info).collect())
}
