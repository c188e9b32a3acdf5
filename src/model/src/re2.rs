//! Regular expressions as users of Prometheus, Alertmanager and Loki write them: the syntax of Go's `regexp` package
//! (RE2 with Perl extensions), read here and run by `regex-automata`.
//!
//! [`parse`] reads a pattern as `regexp/syntax` does (see the documentation of that package) and answers a
//! `regex_syntax` expression of the same meaning, or the error in Go's words. [`Regex`] is a compiled pattern; which
//! of its constructors serves what:
//!
//! - [`Regex::new`]: as written, found anywhere (LogQL line filters, `regexp`, template functions),
//! - [`Regex::anchored`]: whole texts, `.` matches newlines (relabelling, PromQL's `label_replace`),
//! - [`Regex::whole`]: whole texts, `.` does not match newlines (LogQL's `label_replace`, Alertmanager),
//! - label matchers: [`crate::Matcher`].
//!
//! Differences from Go that are known: how large an expression may be (Go counts instructions, here the bytes of the
//! program count), case folding knows letters that are newer than Go's Unicode version, and names of scripts with an
//! underscore (`\p{Old_Italic}`), which some versions of Go refuse, are known.

mod class;
mod literals;
mod parse;
mod template;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use regex_automata::meta;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::captures;
use regex_syntax::hir::{Hir, Look};

pub use literals::required_texts;
pub use parse::{Parsed, parse};

/// Longest accepted pattern in bytes.
pub const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Expressions that nest deeper need more stack than a thread may have left to be worked on.
pub const HEIGHT_ON_ANY_STACK: usize = 100;
const PROGRAM_BYTES_MAX: usize = 32 << 20;
/// Bytes that remembering groups may take for each state of a program.
const SLOT_BYTES_MAX: usize = 256 << 20;
const CACHE_BYTES: usize = 4 << 20;
/// Of patterns of label matchers that may be kept, for each thread.
const KEPT_CACHE_BYTES: usize = 1 << 20;
const DEEP_STACK_BYTES: usize = 64 << 20;
/// How much of a pattern an error shows that is about a limit of ours.
const SHOWN_BYTES_MAX: usize = 200;

/// What is wrong with a pattern, in the words of Go: "error parsing regexp: missing closing ]: `[a`".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {what}: `{at}`")]
pub struct Error {
    /// What is wrong.
    pub what: &'static str,
    /// The part of the pattern that is meant.
    pub at: String,
}

impl Error {
    pub(crate) fn new(what: &'static str, at: &str) -> Self {
        Self { what, at: at.to_owned() }
    }

    fn too_large(pattern: &str) -> Self {
        let mut end = pattern.len().min(SHOWN_BYTES_MAX);
        while !pattern.is_char_boundary(end) {
            end -= 1;
        }
        Self::new("expression too large", &pattern[..end])
    }
}

/// Flags that a pattern starts with; `(?i)` and the like in it change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// `i`: letters match in either case.
    pub ignore_case: bool,
    /// `m`: `^` and `$` match at lines too.
    pub multi_line: bool,
    /// `s`: `.` matches newlines.
    pub dot_all: bool,
    /// `U`: `x*` and `x*?` change their meanings.
    pub ungreedy: bool,
}

impl Flags {
    /// As in label matchers.
    pub const DOT_ALL: Self = Self { ignore_case: false, multi_line: false, dot_all: true, ungreedy: false };
}

/// The expression of a label matcher's pattern, without anchors. `None` for what is no pattern and for what nests too
/// deep to be worked on on any stack.
pub fn matcher_hir(pattern: &str) -> Option<Hir> {
    parse(pattern, Flags::DOT_ALL).ok().filter(|p| p.height <= HEIGHT_ON_ANY_STACK).map(|p| p.hir)
}

/// `text` as a pattern that matches just this text, with the escapes of Go's `QuoteMeta`.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A compiled pattern. Clones are cheap and share it.
#[derive(Clone)]
pub struct Regex {
    inner: Arc<Inner>,
}

struct Inner {
    program: meta::Regex,
    names: Vec<Option<String>>,
    pattern: String,
}

impl Regex {
    /// As Go's `regexp.Compile`: the pattern may match anywhere in a text.
    pub fn new(pattern: &str) -> Result<Self, Error> {
        let parsed = parse(pattern, Flags::default())?;
        Self::compile(pattern, parsed, WhichCaptures::All, CACHE_BYTES)
    }

    /// Matches whole texts, with `.` for newlines too. Errors show `^(?s:…)$`, as Prometheus' do.
    pub fn anchored(pattern: &str) -> Result<Self, Error> {
        Self::new(&format!("^(?s:{pattern})$"))
    }

    /// Matches whole texts; `.` matches no newline. Errors show `^(?:…)$`.
    pub fn whole(pattern: &str) -> Result<Self, Error> {
        Self::new(&format!("^(?:{pattern})$"))
    }

    /// A label matcher's pattern that was parsed with [`Flags::DOT_ALL`]: whole texts, and no groups.
    /// `is_kept`: it is to live long and take little memory.
    pub(crate) fn of_matcher(pattern: &str, parsed: Parsed, is_kept: bool) -> Result<Self, Error> {
        let hir = Hir::concat(vec![Hir::look(Look::Start), parsed.hir, Hir::look(Look::End)]);
        let parsed = Parsed { hir, names: vec![None], height: parsed.height + 1 };
        let cache_bytes = if is_kept { KEPT_CACHE_BYTES } else { CACHE_BYTES };
        Self::compile(pattern, parsed, WhichCaptures::Implicit, cache_bytes)
    }

    /// Bytes of the program, without what matching takes.
    pub(crate) fn bytes(&self) -> usize {
        self.inner.program.memory_usage()
    }

    fn compile(pattern: &str, parsed: Parsed, groups: WhichCaptures, cache_bytes: usize) -> Result<Self, Error> {
        let slots = 2 * parsed.names.len();
        let config = meta::Config::new()
            .nfa_size_limit(Some(PROGRAM_BYTES_MAX.min(SLOT_BYTES_MAX / slots)))
            .hybrid_cache_capacity(cache_bytes)
            .which_captures(groups);
        let build = || meta::Builder::new().configure(config.clone()).build_from_hir(&parsed.hir).ok();
        let built = if parsed.height <= HEIGHT_ON_ANY_STACK {
            build()
        } else {
            std::thread::scope(|scope| {
                let deep = std::thread::Builder::new().stack_size(DEEP_STACK_BYTES).spawn_scoped(scope, build);
                deep.ok().and_then(|thread| thread.join().ok()).flatten()
            })
        };
        let program = built.ok_or_else(|| Error::too_large(pattern))?;
        Ok(Self { inner: Arc::new(Inner { program, names: parsed.names, pattern: pattern.to_owned() }) })
    }

    /// Whether the pattern is found in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.inner.program.is_match(text)
    }

    /// The first match with its groups.
    pub fn captures<'r, 't>(&'r self, text: &'t str) -> Option<Captures<'r, 't>> {
        let mut spans = self.inner.program.create_captures();
        self.inner.program.captures(text, &mut spans);
        spans.is_match().then_some(Captures { regex: self, text, spans })
    }

    /// Byte ranges of the matches, which do not overlap.
    pub fn find_iter<'r, 't>(&'r self, text: &'t str) -> impl Iterator<Item = std::ops::Range<usize>> + use<'r, 't> {
        self.inner.program.find_iter(text).map(|m| m.range())
    }

    /// Every match replaced by the template, see [`Captures::expand`].
    pub fn replace_all<'t>(&self, text: &'t str, template: &str) -> Cow<'t, str> {
        let all = self.inner.program.captures_iter(text).map(|spans| Captures { regex: self, text, spans });
        replaced(text, all.map(|found| (found.range(), found)), |found, out| found.expand(template, out))
    }

    /// Every match replaced by a text as it stands.
    pub fn replace_all_literal<'t>(&self, text: &'t str, replacement: &str) -> Cow<'t, str> {
        replaced(text, self.find_iter(text).map(|range| (range, ())), |(), out| out.push_str(replacement))
    }

    /// The names of the groups; the first is the whole match and has none. Two groups may have the same name.
    pub fn names(&self) -> impl Iterator<Item = Option<&str>> {
        self.inner.names.iter().map(Option::as_deref)
    }

    /// The pattern as it was compiled.
    pub fn as_str(&self) -> &str {
        &self.inner.pattern
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({:?})", self.inner.pattern)
    }
}

fn replaced<'t, M>(
    text: &'t str,
    matches: impl Iterator<Item = (std::ops::Range<usize>, M)>,
    mut put: impl FnMut(M, &mut String),
) -> Cow<'t, str> {
    let mut out = String::new();
    let mut done = None;
    for (range, found) in matches {
        out.push_str(&text[done.unwrap_or(0)..range.start]);
        put(found, &mut out);
        done = Some(range.end);
    }
    match done {
        None => Cow::Borrowed(text),
        Some(end) => {
            out.push_str(&text[end..]);
            Cow::Owned(out)
        }
    }
}

/// A match with its groups.
pub struct Captures<'r, 't> {
    regex: &'r Regex,
    text: &'t str,
    spans: captures::Captures,
}

impl<'t> Captures<'_, 't> {
    /// What a group matched; 0 is the whole match. `None` when there is no such group or it took no part.
    pub fn get(&self, group: usize) -> Option<&'t str> {
        self.spans.get_group(group).map(|span| &self.text[span.range()])
    }

    /// Byte range of the whole match.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.spans.get_group(0).map_or(0..0, |span| span.range())
    }

    /// Appends the template with `$1`, `$name`, `${name}` and `$$` filled in as Go's `Regexp.Expand` does: names are
    /// taken as long as possible (`$1x` is the group "1x"), groups that are not there are empty, and a `$` that
    /// starts no name stays.
    pub fn expand(&self, template: &str, out: &mut String) {
        template::expand(template, out, |group| match group {
            template::Group::Number(n) => self.get(n),
            template::Group::Name(name) => self
                .regex
                .inner
                .names
                .iter()
                .enumerate()
                .filter(|(_, have)| have.as_deref() == Some(name))
                .find_map(|(i, _)| self.get(i)),
        });
    }
}
