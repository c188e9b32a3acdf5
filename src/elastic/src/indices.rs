//! Names of indices in a request: which documents they mean.

use crate::Error;
use crate::doc::{Doc, INDEX};
use crate::glob::Glob;

/// Most names in a request.
const NAMES_MAX: usize = 1000;

/// A list of names, patterns (`logs-*`) and exclusions (`-logs-old`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indices {
    /// In order: whether it takes in or leaves out, and what.
    items: Vec<(bool, Glob)>,
    /// Names without wildcards.
    names: Vec<String>,
    text: String,
}

impl Indices {
    /// Reads a list with commas; "", `_all` and `*` mean all.
    ///
    /// Errors: names that no index can have, and too many of them.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut items: Vec<(bool, Glob)> = Vec::new();
        let mut names = Vec::new();
        for (at, item) in text.split(',').map(str::trim).filter(|i| !i.is_empty()).enumerate() {
            if at >= NAMES_MAX {
                return Err(Error::illegal(format!("more than {NAMES_MAX} names of indices")));
            }
            let (takes_in, name) = match item.strip_prefix('-') {
                Some(name) if at > 0 => (false, name),
                _ => (true, item),
            };
            // An index of another cluster: there is only one.
            let name = name.split_once(':').map_or(name, |(_, name)| name);
            if name.starts_with('_') && name != "_all" {
                return Err(Error::Request {
                    kind: "invalid_index_name_exception",
                    reason: format!("Invalid index name [{name}], must not start with '_'."),
                    status: 400,
                    in_phase: false,
                });
            }
            let pattern = if name == "_all" { "*" } else { name };
            if takes_in && !pattern.contains('*') {
                names.push(pattern.to_owned());
            }
            items.push((takes_in, Glob::new(pattern, false)));
            // As usual for data streams: all that is called `logs` is in `logs-*` too.
            if pattern == "logs-*" {
                items.push((takes_in, Glob::new(INDEX, false)));
            }
        }
        Ok(Self { items, names, text: text.to_owned() })
    }

    /// Whether all documents are meant.
    pub(crate) fn is_all(&self) -> bool {
        self.items.is_empty() || matches!(&self.items[..], [(true, glob)] if glob.matches_all())
    }

    /// Whether an index is meant; the last item that says something of it counts.
    pub fn contains(&self, name: &str) -> bool {
        self.items.is_empty()
            || self.items.iter().rev().find(|(_, glob)| glob.matches(name)).is_some_and(|(takes_in, _)| *takes_in)
    }

    pub(crate) fn has(&self, doc: &Doc<'_>) -> bool {
        self.is_all() || self.contains(&doc.index())
    }

    /// The names without wildcards: each must be the name of an index.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The one name that is meant, when it is just one and no pattern.
    pub(crate) fn single(&self) -> Option<&str> {
        match (&self.items[..], &self.names[..]) {
            ([_], [name]) => Some(name),
            _ => None,
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns_mean_indices() {
        for (list, name, want) in [
            ("", "x", true),
            ("_all", "x", true),
            ("*", "x", true),
            ("logs-*", "logs", true),
            ("logs-*", "logs-app", true),
            ("logs-*", "metrics", false),
            ("logs-*,-logs-old*", "logs-old-1", false),
            ("*,-app", "app", false),
            ("a,b", "b", true),
            ("a,b", "c", false),
            ("remote:logs*", "logs", true),
        ] {
            assert_eq!(Indices::parse(list).unwrap().contains(name), want, "{list} {name}");
        }
        assert!(Indices::parse("_bogus").is_err());
        assert_eq!(Indices::parse("app").unwrap().single(), Some("app"));
    }
}
