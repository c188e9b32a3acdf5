//! Label matchers: `=`, `!=`, `=~`, `!~`.

use std::fmt;

use regex::Regex;
use regex_syntax::hir::{Hir, HirKind, Look};

/// Longest accepted pattern in bytes, so that a query cannot make the regex compiler the expensive part.
pub const PATTERN_BYTES_MAX: usize = 64 * 1024;
const REGEX_BYTES_MAX: usize = 4 << 20;
const ALTERNATIVES_MAX: usize = 256;

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
    #[error("invalid regular expression {pattern:?} for label {name:?}: {reason}")]
    Pattern {
        /// Label name.
        name: String,
        /// Pattern as written.
        pattern: String,
        /// What the regex parser says.
        reason: String,
    },
}

/// Tests one label's value. An absent label counts as "". Patterns are RE2-like, anchored at both ends, and
/// `.` matches newlines, as in Prometheus 3.
#[derive(Clone)]
pub struct Matcher {
    /// Label name.
    pub name: String,
    /// Comparison.
    pub op: MatchOp,
    /// Value or pattern as written.
    pub value: String,
    regex: Option<Regex>,
    alternatives: Option<Vec<String>>,
}

impl Matcher {
    /// Makes a matcher; only `=~` and `!~` can fail.
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Self, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let mut alternatives = None;
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => {
                let error =
                    |reason: String| MatcherError::Pattern { name: name.clone(), pattern: value.clone(), reason };
                let regex = anchored(&value).map_err(error)?;
                alternatives = literal_alternatives(&value);
                Some(regex)
            }
        };
        Ok(Self { name, op, value, regex, alternatives })
    }

    /// Makes a `=` matcher.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), regex: None, alternatives: None }
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
        self.alternatives.as_deref()
    }

    /// The compiled, anchored pattern of `=~` and `!~`.
    pub fn regex(&self) -> Option<&Regex> {
        self.regex.as_ref()
    }

    fn pattern_matches(&self, value: &str) -> bool {
        match (&self.alternatives, &self.regex) {
            (Some(set), _) => set.binary_search_by(|s| s.as_str().cmp(value)).is_ok(),
            (None, Some(regex)) => regex.is_match(value),
            (None, None) => unreachable!("a pattern matcher always holds its regex"),
        }
    }
}

/// Compiles a pattern anchored at both ends with `.` matching newlines.
///
/// Errors with the parser's message, on one line.
pub fn anchored(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("pattern of {} bytes is longer than {PATTERN_BYTES_MAX}", pattern.len()));
    }
    // The pattern alone first: `a)(b` must not become valid between our parentheses.
    regex_syntax::parse(pattern).map_err(|e| one_line(&e.to_string()))?;
    regex::RegexBuilder::new(&format!("^(?s:{pattern})$"))
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .nest_limit(100)
        .build()
        .map_err(|e| one_line(&e.to_string()))
}

fn one_line(message: &str) -> String {
    message.lines().last().unwrap_or(message).trim_start_matches("error: ").to_owned()
}

fn literal_alternatives(pattern: &str) -> Option<Vec<String>> {
    let hir = regex_syntax::parse(&format!("(?s:{pattern})")).ok()?;
    let mut set = expand(&hir)?.into_iter().map(|b| String::from_utf8(b).ok()).collect::<Option<Vec<_>>>()?;
    set.sort_unstable();
    set.dedup();
    Some(set)
}

fn expand(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![Vec::new()]),
        HirKind::Literal(l) => Some(vec![l.0.to_vec()]),
        HirKind::Look(Look::Start | Look::End) => None,
        HirKind::Capture(c) => expand(&c.sub),
        HirKind::Class(class) => {
            let mut out = Vec::new();
            match class {
                regex_syntax::hir::Class::Unicode(c) => {
                    for r in c.ranges() {
                        for ch in r.start()..=r.end() {
                            if out.len() >= 32 {
                                return None;
                            }
                            out.push(ch.to_string().into_bytes());
                        }
                    }
                }
                regex_syntax::hir::Class::Bytes(_) => return None,
            }
            Some(out)
        }
        HirKind::Alternation(subs) => {
            let mut out = Vec::new();
            for sub in subs {
                out.extend(expand(sub)?);
                if out.len() > ALTERNATIVES_MAX {
                    return None;
                }
            }
            Some(out)
        }
        HirKind::Concat(subs) => {
            let mut out = vec![Vec::new()];
            for sub in subs {
                let tails = expand(sub)?;
                if out.len() * tails.len() > ALTERNATIVES_MAX {
                    return None;
                }
                out = out
                    .iter()
                    .flat_map(|head: &Vec<u8>| {
                        tails.iter().map(move |tail| [head.as_slice(), tail.as_slice()].concat())
                    })
                    .collect();
            }
            Some(out)
        }
        _ => None,
    }
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
    }

    #[test]
    fn bad_patterns_are_refused() {
        for pattern in ["(", "a)(b", "[", "a{999999}", &"a".repeat(70_000)] {
            assert!(Matcher::new(MatchOp::Regex, "l", pattern).is_err(), "{pattern:.20}");
        }
    }
}
