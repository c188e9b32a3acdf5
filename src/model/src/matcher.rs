//! Label matchers: `=`, `!=`, `=~`, `!~`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use regex_syntax::hir::{Hir, HirKind, Look};

use crate::re2::{self, Flags, Regex};

/// How many texts a pattern may stand for so that they are looked up instead of matched: those that it lists, as
/// dashboards do with what is picked from a list, ...
const LISTED_MAX: usize = 1 << 17;
/// ... and those that come of parts that are combined (`[ab][cd]`).
const COMBINED_MAX: usize = 256;
/// Bytes of all these texts.
const LISTED_BYTES_MAX: usize = 4 << 20;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }

    /// True for `!=` and `!~`.
    pub fn is_negative(self) -> bool {
        matches!(self, Self::NotEqual | Self::NotRegex)
    }
}

/// Why a matcher cannot be made.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum MatcherError {
    /// The pattern does not parse or is too large once compiled.
    #[error("{reason}")]
    Pattern {
        /// Label name.
        name: String,
        /// Pattern as written.
        pattern: String,
        /// What is wrong with it, in the words of Prometheus: "error parsing regexp: missing closing ): `a(`".
        reason: String,
    },
}

/// Tests one label's value. An absent label counts as "". Patterns are those of Go's `regexp` (see [`re2`]), anchored
/// at both ends, and `.` matches newlines, as in Prometheus 3.
#[derive(Clone)]
pub struct Matcher {
    /// Label name.
    pub name: String,
    /// Comparison.
    pub op: MatchOp,
    /// Value or pattern as written.
    pub value: String,
    pattern: Option<Pattern>,
}

#[derive(Clone)]
enum Pattern {
    /// These texts, sorted, and no others.
    Listed(Arc<[String]>),
    Regex(Regex),
}

impl Matcher {
    /// Makes a matcher; only `=~` and `!~` can fail.
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Self, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => match Pattern::new(&value) {
                Ok(pattern) => Some(pattern),
                Err(error) => return Err(MatcherError::Pattern { name, pattern: value, reason: error.to_string() }),
            },
        };
        Ok(Self { name, op, value, pattern })
    }

    /// Makes a `=` matcher.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), pattern: None }
    }

    /// True when the value of the label (or "" when it is absent) passes.
    pub fn matches(&self, value: &str) -> bool {
        match self.op {
            MatchOp::Equal => value == self.value,
            MatchOp::NotEqual => value != self.value,
            MatchOp::Regex => self.pattern_matches(value),
            MatchOp::NotRegex => !self.pattern_matches(value),
        }
    }

    /// True when a series without the label passes.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// For `=~` and `!~`: the finite set of texts that the pattern stands for (`a|b|c`, `(foo|bar)`), sorted, if it
    /// is one.
    pub fn literal_alternatives(&self) -> Option<&[String]> {
        match &self.pattern {
            Some(Pattern::Listed(texts)) => Some(texts),
            _ => None,
        }
    }

    /// True for `=~` and `!~`.
    pub fn is_pattern(&self) -> bool {
        self.pattern.is_some()
    }

    fn pattern_matches(&self, value: &str) -> bool {
        match &self.pattern {
            Some(Pattern::Listed(texts)) => texts.binary_search_by(|s| s.as_str().cmp(value)).is_ok(),
            Some(Pattern::Regex(regex)) => regex.is_match(value),
            None => unreachable!("a pattern matcher always holds its pattern"),
        }
    }
}

impl Pattern {
    fn new(pattern: &str) -> Result<Self, re2::Error> {
        let may_keep = pattern.len() <= KEPT_PATTERN_BYTES_MAX;
        if may_keep && let Some(known) = kept(pattern) {
            return Ok(known);
        }
        let parsed = re2::parse(pattern, Flags::DOT_ALL)?;
        let listed = if parsed.height <= re2::HEIGHT_ON_ANY_STACK { listed(&parsed.hir) } else { None };
        if let Some(texts) = listed {
            return Ok(Self::Listed(texts.into()));
        }
        let regex = Regex::of_matcher(pattern, parsed, may_keep)?;
        if may_keep && regex.bytes() <= KEPT_BYTES_MAX {
            keep(pattern, &regex);
        }
        Ok(Self::Regex(regex))
    }
}

/// Compiled patterns, latest use first: dashboards ask the same again and again, and compiling takes longer than many
/// a query.
static KEPT: Mutex<VecDeque<(String, Regex)>> = Mutex::new(VecDeque::new());
/// So many are kept.
const KEPT_MAX: usize = 32;
/// Longer patterns are not kept.
const KEPT_PATTERN_BYTES_MAX: usize = 256;
/// Those that take more compiled are not kept.
const KEPT_BYTES_MAX: usize = 128 << 10;
const UNPOISONED: &str = "no thread panics while it looks up a pattern";

fn kept(pattern: &str) -> Option<Pattern> {
    let mut all = KEPT.lock().expect(UNPOISONED);
    let at = all.iter().position(|(known, _)| known == pattern)?;
    let found = all.remove(at)?;
    let regex = found.1.clone();
    all.push_front(found);
    Some(Pattern::Regex(regex))
}

fn keep(pattern: &str, regex: &Regex) {
    let mut all = KEPT.lock().expect(UNPOISONED);
    // Another thread may have been as far.
    all.retain(|(known, _)| known != pattern);
    let gone = (all.len() >= KEPT_MAX).then(|| all.pop_back());
    all.push_front((pattern.to_owned(), regex.clone()));
    drop(all);
    drop(gone);
}

/// A regular expression for whole texts, `.` matching newlines, as relabelling takes it. Errors in Go's words.
pub fn anchored(pattern: &str) -> Result<Regex, String> {
    Regex::anchored(pattern).map_err(|e| e.to_string())
}

/// The texts that a whole pattern stands for, sorted, if they are few.
fn listed(hir: &Hir) -> Option<Vec<String>> {
    // Matchers are anchored: what users write of it (`^(a|b)$`) adds nothing.
    let texts = match hir.kind() {
        HirKind::Concat(parts) => {
            let mut parts = parts.as_slice();
            while let Some((_, rest)) = parts.split_first().filter(|(p, _)| is_look(p, Look::Start)) {
                parts = rest;
            }
            while let Some((_, rest)) = parts.split_last().filter(|(p, _)| is_look(p, Look::End)) {
                parts = rest;
            }
            combine(parts)?
        }
        _ => expand(hir)?,
    };
    let mut texts = texts.into_iter().map(|b| String::from_utf8(b).ok()).collect::<Option<Vec<_>>>()?;
    texts.sort_unstable();
    texts.dedup();
    Some(texts)
}

fn is_look(hir: &Hir, look: Look) -> bool {
    matches!(hir.kind(), HirKind::Look(l) if *l == look)
}

fn expand(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![Vec::new()]),
        HirKind::Literal(l) => Some(vec![l.0.to_vec()]),
        HirKind::Capture(c) => expand(&c.sub),
        HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => {
            let characters = class.ranges().iter().map(|r| u32::from(r.end()) - u32::from(r.start()) + 1);
            if characters.fold(0u32, u32::saturating_add) as usize > COMBINED_MAX {
                return None;
            }
            let all = class.ranges().iter().flat_map(|r| r.start()..=r.end());
            Some(all.map(|c| c.to_string().into_bytes()).collect())
        }
        HirKind::Alternation(subs) => {
            let mut out = Vec::new();
            let mut bytes = 0;
            for sub in subs {
                let more = expand(sub)?;
                bytes += more.iter().map(Vec::len).sum::<usize>();
                out.extend(more);
                if out.len() > LISTED_MAX || bytes > LISTED_BYTES_MAX {
                    return None;
                }
            }
            Some(out)
        }
        HirKind::Concat(subs) => combine(subs),
        _ => None,
    }
}

/// Every text of the first part followed by every text of the next, and so on.
fn combine(parts: &[Hir]) -> Option<Vec<Vec<u8>>> {
    let mut out = vec![Vec::new()];
    for part in parts {
        let tails = expand(part)?;
        let count = out.len() * tails.len();
        if count > COMBINED_MAX && count > out.len().max(tails.len()) {
            return None;
        }
        let sum = |texts: &[Vec<u8>]| texts.iter().map(Vec::len).sum::<usize>();
        if sum(&out) * tails.len() + sum(&tails) * out.len() > LISTED_BYTES_MAX {
            return None;
        }
        out = out
            .iter()
            .flat_map(|head: &Vec<u8>| tails.iter().map(move |tail| [head.as_slice(), tail.as_slice()].concat()))
            .collect();
    }
    Some(out)
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if crate::labels::is_legacy_label_name(&self.name) {
            write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
        } else {
            write!(f, "{:?}{}{:?}", self.name, self.op.as_str(), self.value)
        }
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(op: MatchOp, pattern: &str, yes: &[&str], no: &[&str]) {
        let m = Matcher::new(op, "l", pattern).unwrap();
        for v in yes {
            assert!(m.matches(v), "{m} should match {v:?}");
        }
        for v in no {
            assert!(!m.matches(v), "{m} should not match {v:?}");
        }
    }

    #[test]
    fn patterns_are_anchored() {
        check(MatchOp::Regex, "ap.", &["api", "ap\n"], &["ap", "apix", "xapi"]);
        check(MatchOp::Regex, "a|b", &["a", "b"], &["ab", ""]);
        check(MatchOp::Regex, "foo(bar|)", &["foobar", "foo"], &["bar"]);
        check(MatchOp::Regex, "(?i)ab", &["AB", "ab"], &["abc"]);
        check(MatchOp::Regex, "", &[""], &["a"]);
        check(MatchOp::NotRegex, ".+", &[""], &["a"]);
        check(MatchOp::NotEqual, "a", &["", "b"], &["a"]);
    }

    #[test]
    fn alternatives_are_found() {
        let m = Matcher::new(MatchOp::Regex, "l", "b|a|(c|d)e").unwrap();
        assert_eq!(m.literal_alternatives().unwrap(), ["a", "b", "ce", "de"]);
        assert!(Matcher::new(MatchOp::Regex, "l", "a.*").unwrap().literal_alternatives().is_none());
        let m = Matcher::new(MatchOp::Regex, "l", "^(b|a):[12]$").unwrap();
        assert_eq!(m.literal_alternatives().unwrap(), ["a:1", "a:2", "b:1", "b:2"]);
        let m = Matcher::new(MatchOp::Regex, "l", "^a|b$").unwrap();
        assert!(m.matches("a") && m.matches("b") && !m.matches("ab"));
        check(MatchOp::Regex, "a$b|^", &[""], &["ab", "a"]);
        check(MatchOp::Regex, "[^\\x00-\\x{10ffff}]", &[], &["", "a"]);
    }

    #[test]
    fn thousands_of_alternatives() {
        let hosts: Vec<String> = (0..9000).map(|i| format!("host-{i:05}.rack-{}.example.com", i % 7)).collect();
        let picked = hosts.iter().map(|h| crate::re2::escape(h)).collect::<Vec<_>>().join("|");
        for pattern in [picked.clone(), format!("^(?:{picked})$"), format!("({picked})(:9100)")] {
            let m = Matcher::new(MatchOp::Regex, "l", &pattern).unwrap();
            assert_eq!(m.literal_alternatives().unwrap().len(), hosts.len());
        }
        for pattern in [format!("({picked}).*"), format!("(?i){picked}")] {
            let m = Matcher::new(MatchOp::Regex, "l", &pattern).unwrap();
            assert!(m.literal_alternatives().is_none());
            assert!(hosts.iter().step_by(100).all(|h| m.matches(h)) && !m.matches("host-9"));
        }
    }

    #[test]
    fn kept_patterns_are_the_same_ones() {
        // More than are kept, twice, so that some are found and some are made again.
        for _ in 0..2 {
            for i in (0..3 * KEPT_MAX).chain(0..3) {
                let m = Matcher::new(MatchOp::Regex, "l", format!("kept-{i}-[0-9]+")).unwrap();
                assert!(m.matches(&format!("kept-{i}-17")) && !m.matches(&format!("kept-{}-17", i + 1)));
            }
        }
        assert!(KEPT.lock().unwrap().len() <= KEPT_MAX);
    }

    #[test]
    fn bad_patterns_are_refused() {
        for pattern in ["(", "a)(b", "[", "a{999999}", "(.{1000}){1}{10}", &"a".repeat(2_000_000)] {
            assert!(Matcher::new(MatchOp::Regex, "l", pattern).is_err(), "{pattern:.20}");
        }
        let error = Matcher::new(MatchOp::Regex, "l", "a(").unwrap_err();
        assert_eq!(error.to_string(), "error parsing regexp: missing closing ): `a(`");
    }
}
