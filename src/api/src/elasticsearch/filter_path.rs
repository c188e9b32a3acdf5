//! `filter_path`: which members of an answer a client wants to read
//! (<https://www.elastic.co/guide/en/elasticsearch/reference/8.15/common-options.html#common-options-response-filtering>).
//!
//! Patterns stand apart by commas: names apart by dots, `*` for any part of a name, `**` for any number of names, a leading
//! `-` for what is not wanted. Lists are passed through. What becomes empty is left out.

use serde_json::{Map, Value};

/// Most patterns that are looked at.
const PATTERNS_MAX: usize = 64;

/// A checked `filter_path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilterPath {
    wanted: Vec<Vec<String>>,
    unwanted: Vec<Vec<String>>,
}

impl FilterPath {
    /// Reads the parameter; `None` when all of the answer is wanted.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        for pattern in text.split(',').map(str::trim).filter(|p| !p.is_empty()).take(PATTERNS_MAX) {
            let names = |p: &str| p.split('.').map(str::to_owned).collect();
            match pattern.strip_prefix('-') {
                Some(rest) => unwanted.push(names(rest)),
                None => wanted.push(names(pattern)),
            }
        }
        (!wanted.is_empty() || !unwanted.is_empty()).then_some(Self { wanted, unwanted })
    }

    /// Whether the value at a path is wanted as a whole.
    pub(crate) fn keeps(&self, path: &[&str]) -> bool {
        let hit = |patterns: &[Vec<String>]| patterns.iter().any(|p| covers(p, path));
        (self.wanted.is_empty() || hit(&self.wanted)) && !hit(&self.unwanted)
    }

    /// Leaves out what is not wanted.
    pub(crate) fn apply(&self, value: Value) -> Value {
        let mut path = Vec::new();
        self.filtered(value, &mut path).unwrap_or_else(|| Value::Object(Map::new()))
    }

    fn filtered(&self, value: Value, path: &mut Vec<String>) -> Option<Value> {
        match value {
            Value::Object(members) if !members.is_empty() => {
                let mut kept = Map::new();
                for (name, member) in members {
                    path.push(name.clone());
                    if let Some(member) = self.filtered(member, path) {
                        kept.insert(name, member);
                    }
                    path.pop();
                }
                (!kept.is_empty()).then_some(Value::Object(kept))
            }
            Value::Array(items) if items.iter().any(|i| i.is_object() || i.is_array()) => {
                let kept: Vec<Value> = items.into_iter().filter_map(|item| self.filtered(item, path)).collect();
                (!kept.is_empty()).then_some(Value::Array(kept))
            }
            leaf => {
                let names: Vec<&str> = path.iter().map(String::as_str).collect();
                self.keeps(&names).then_some(leaf)
            }
        }
    }
}

/// Whether a pattern names a path or something above it.
fn covers(pattern: &[String], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => true,
        Some((first, rest)) if first == "**" => (0..=path.len()).any(|n| covers(rest, &path[n..])),
        Some((first, rest)) => {
            path.split_first().is_some_and(|(name, below)| name_matches(first, name) && covers(rest, below))
        }
    }
}

/// Whether a name fits a pattern in which `*` stands for any text.
fn name_matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(mut last) = pieces.next() else { return rest.is_empty() };
    for piece in pieces {
        match rest.find(last) {
            Some(at) => rest = &rest[at + last.len()..],
            None => return false,
        }
        last = piece;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_filtered() {
        let answer = json!({
            "took": 1, "errors": true,
            "items": [
                { "create": { "_id": "a", "status": 201, "_shards": { "total": 1 } } },
                { "index": { "_id": "b", "status": 400, "error": { "type": "t", "reason": "r" } } },
            ],
            "empty": {},
        });
        for (filter, want) in [
            ("took", json!({ "took": 1 })),
            (
                "errors,items.*.status",
                json!({ "errors": true, "items": [{ "create": { "status": 201 } }, { "index": { "status": 400 } }] }),
            ),
            ("items.*.error", json!({ "items": [{ "index": { "error": { "type": "t", "reason": "r" } } }] })),
            ("**.total", json!({ "items": [{ "create": { "_shards": { "total": 1 } } }] })),
            ("*oo*", json!({ "took": 1 })),
            ("items.**._id", json!({ "items": [{ "create": { "_id": "a" } }, { "index": { "_id": "b" } }] })),
            ("-items,-empty", json!({ "took": 1, "errors": true })),
            (
                "items.*,-**.error,-**._shards,-items.create",
                json!({ "items": [{ "index": { "_id": "b", "status": 400 } }] }),
            ),
            ("nothing", json!({})),
        ] {
            let filter = FilterPath::parse(filter).unwrap();
            assert_eq!(filter.apply(answer.clone()), want, "{filter:?}");
        }
        assert_eq!(FilterPath::parse(" , "), None);
    }

    #[test]
    fn names_have_wildcards() {
        for (pattern, name, want) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c", "abc", true),
            ("a*b*c", "axbyc", true),
            ("a*b*c", "axc", false),
            ("*", "", true),
            ("ab*b", "ab", false),
        ] {
            assert_eq!(name_matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
