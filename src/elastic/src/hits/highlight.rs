//! Marks what a query found in the fields of a hit.

use serde_json::{Map, Value as Json, json};

use crate::Error;
use crate::analyze::words;
use crate::doc::{Doc, Field, MESSAGE};
use crate::dsl::scalar_text;
use crate::glob::Glob;
use crate::query::{Leaf, Query, Test};

const FRAGMENT_BYTES: usize = 100;
const FRAGMENTS: usize = 5;
/// Fields that are highlighted without being named by the query.
const FIELDS_MAX: usize = 100;

/// What to mark, and with which texts.
#[derive(Debug, Clone)]
pub(super) struct Highlight {
    fields: Vec<Glob>,
    before: String,
    after: String,
    fragment_bytes: usize,
    /// 0: the whole text.
    fragments: usize,
}

impl Highlight {
    pub(super) fn parse(json: &Json) -> Result<Self, Error> {
        let Some(options) = json.as_object() else { return Err(Error::parsing("[highlight] must be an object")) };
        let tag = |key: &str, default: &str| match options.get(key) {
            Some(Json::Array(tags)) => tags.first().and_then(Json::as_str).unwrap_or(default).to_owned(),
            Some(Json::String(tag)) => tag.clone(),
            _ => default.to_owned(),
        };
        let mut fields = Vec::new();
        let mut more = None;
        let named = |json: &Json| -> Vec<(String, Json)> {
            json.as_object().map(|o| o.iter().map(|(k, v)| (k.clone(), v.clone())).collect()).unwrap_or_default()
        };
        let all = match options.get("fields") {
            Some(Json::Array(list)) => list.iter().flat_map(named).collect(),
            Some(object) => named(object),
            None => Vec::new(),
        };
        for (name, own) in all.into_iter().take(FIELDS_MAX) {
            fields.push(Glob::new(&name, false));
            more = more.or_else(|| own.as_object().cloned());
        }
        let number = |key: &str, default: usize| {
            let value = more.as_ref().and_then(|o| o.get(key)).or_else(|| options.get(key));
            value.and_then(scalar_text).and_then(|t| t.parse().ok()).unwrap_or(default)
        };
        Ok(Self {
            fields,
            before: tag("pre_tags", "<em>"),
            after: tag("post_tags", "</em>"),
            fragment_bytes: number("fragment_size", FRAGMENT_BYTES).max(18),
            fragments: number("number_of_fragments", FRAGMENTS),
        })
    }

    /// The marked fields of a document.
    pub(super) fn of(&self, doc: &Doc<'_>, query: &Query) -> Map<String, Json> {
        let mut leaves = Vec::new();
        positive(query, &mut leaves);
        let mut out: Map<String, Json> = Map::new();
        doc.any_field(&mut |name, value| {
            if !self.fields.iter().any(|g| g.matches(name)) {
                return false;
            }
            let text = value.text();
            let of_field = leaves.iter().filter(|l| is_about(l, name)).map(|l| &l.test);
            let found = if name == MESSAGE {
                let tests: Vec<&Test> = of_field.filter(|t| t.passes(true, &value)).collect();
                if tests.is_empty() { Vec::new() } else { self.marked(&text, &tests) }
            } else if of_field
                .filter(|t| !matches!(t, Test::Exists | Test::Range { .. }))
                .any(|t| t.passes(false, &value))
            {
                vec![format!("{}{text}{}", self.before, self.after)]
            } else {
                Vec::new()
            };
            if let (false, Json::Array(list)) = (found.is_empty(), out.entry(name).or_insert_with(|| json!([]))) {
                list.extend(found.into_iter().map(Json::from));
            }
            false
        });
        out.retain(|_, list| list.as_array().is_some_and(|l| !l.is_empty()));
        out
    }

    fn marked(&self, text: &str, tests: &[&Test]) -> Vec<String> {
        let mut ranges = Vec::new();
        words(text, |word| {
            if tests.iter().any(|test| marks(test, &word.text)) {
                ranges.push(word.range);
            }
            true
        });
        if ranges.is_empty() {
            return Vec::new();
        }
        if self.fragments == 0 || text.len() <= self.fragment_bytes {
            return vec![self.mark(text, 0, text.len(), &ranges)];
        }
        // Each fragment begins at a word that is found, or a little before it.
        let mut out = Vec::new();
        let mut at = 0;
        while at < ranges.len() && out.len() < self.fragments {
            let floor = if at == 0 { 0 } else { ranges[at - 1].end };
            let mut start = ranges[at].start.saturating_sub(self.fragment_bytes / 4).max(floor);
            while !text.is_char_boundary(start) {
                start += 1;
            }
            let start =
                text[start..ranges[at].start].find(' ').map_or(ranges[at].start.min(start), |blank| start + blank + 1);
            let mut end = start.saturating_add(self.fragment_bytes).clamp(ranges[at].end, text.len());
            while !text.is_char_boundary(end) {
                end += 1;
            }
            let end = text[end..].find(' ').map_or(text.len(), |blank| if blank < 20 { end + blank } else { end });
            let count = ranges[at..].iter().take_while(|r| r.end <= end).count().max(1);
            out.push(self.mark(text, start, end.max(ranges[at].end), &ranges[at..at + count]));
            at += count;
        }
        out
    }

    fn mark(&self, text: &str, start: usize, end: usize, ranges: &[std::ops::Range<usize>]) -> String {
        let mut out = String::with_capacity(end - start + ranges.len() * 16);
        let mut at = start;
        for range in ranges {
            out.push_str(&text[at..range.start]);
            out.push_str(&self.before);
            out.push_str(&text[range.clone()]);
            out.push_str(&self.after);
            at = range.end;
        }
        out.push_str(&text[at..end]);
        out
    }
}

/// The conditions that a document satisfies because of what it has.
fn positive<'q>(query: &'q Query, out: &mut Vec<&'q Leaf>) {
    match query {
        Query::Leaf(leaf) => out.push(leaf),
        Query::Bool(all) => all.must.iter().chain(&all.should).for_each(|q| positive(q, out)),
        Query::All | Query::None | Query::Ids(_) => {}
    }
}

fn is_about(leaf: &Leaf, name: &str) -> bool {
    let target = &leaf.target;
    target.fields.contains(&Field::new(name)) || target.globs.iter().any(|g| g.matches(name)) || target.is_all
}

/// Whether a word of a text is one that the test looks for.
fn marks(test: &Test, word: &str) -> bool {
    match test {
        Test::Words { words, edits: None, .. } => words.iter().any(|w| w == word),
        Test::Words { words, edits: Some(edits), .. } => words.iter().any(|w| edits.allow(w, word)),
        Test::Phrase { words, is_prefix, .. } => {
            let is_last = |w: &String| *is_prefix && words.last() == Some(w) && word.starts_with(w.as_str());
            words.iter().any(|w| w == word || is_last(w))
        }
        Test::Exists | Test::Range { .. } => false,
        test => test.passes(true, &crate::doc::Value::Text(word.into())),
    }
}
