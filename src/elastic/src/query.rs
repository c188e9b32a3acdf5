//! Queries and whether a document satisfies them.
//!
//! What a condition means is decided by the field and by the type of the value that is met there, not by a mapping:
//!
//! - `message` is text: its words are compared (see [`crate::analyze`]); every other field, and `message.keyword`, is
//!   compared whole.
//! - Numbers compare as numbers, with numbers and with texts that read as numbers; in ranges, texts that read as
//!   numbers compare as numbers too, other texts by their bytes.
//! - A field with several values satisfies a condition when one of them does.
//! - A condition on all fields (free text without a field) does not look at `@timestamp`, `_id` and `_index`.
//! - All documents score 1.

use rustc_hash::FxHashSet;
use trefoil_model::re2::Regex;

use crate::analyze::{contains_ignoring_case, lower, words};
use crate::doc::{Doc, Field, Position, TIMESTAMP, Value, number};
use crate::glob::Glob;

/// A query.
#[derive(Debug, Clone)]
pub(crate) enum Query {
    All,
    None,
    Bool(Bool),
    Leaf(Leaf),
    Ids(Ids),
}

/// Documents by their ids.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ids {
    pub(crate) texts: FxHashSet<String>,
    /// Those of the texts that are made of positions.
    positions: FxHashSet<Position>,
}

impl Ids {
    pub(crate) fn new(ids: impl IntoIterator<Item = String>) -> Self {
        let texts: FxHashSet<String> = ids.into_iter().collect();
        let positions = texts.iter().filter_map(|id| Position::of_id(id)).collect();
        Self { texts, positions }
    }

    fn has(&self, doc: &Doc<'_>) -> bool {
        match doc.own_id() {
            Some(id) => self.texts.contains(id),
            None => self.positions.contains(&doc.position()),
        }
    }
}

/// Conditions put together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bool {
    pub(crate) must: Vec<Query>,
    pub(crate) should: Vec<Query>,
    pub(crate) must_not: Vec<Query>,
    /// So many of `should` must hold.
    pub(crate) should_min: usize,
}

/// A condition on fields: one value in one of them passes the test.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) target: Target,
    pub(crate) test: Test,
}

/// Which fields a condition is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    pub(crate) fields: Vec<Field>,
    pub(crate) globs: Vec<Glob>,
    /// All but `@timestamp`, `_id` and `_index`.
    pub(crate) is_all: bool,
}

impl Target {
    pub(crate) fn field(name: &str) -> Self {
        Self::fields(std::iter::once(name))
    }

    /// Names, with wildcards and boosts (`message^2`).
    pub(crate) fn fields<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut target = Self::default();
        for name in names {
            let name = name.split_once('^').map_or(name, |(name, _)| name);
            if matches!(name, "*" | "_all" | "*.keyword") {
                target.is_all = true;
            } else if name.contains('*') {
                target.globs.push(Glob::new(name, true));
            } else {
                target.fields.push(Field::new(name));
            }
        }
        target
    }

    pub(crate) fn all() -> Self {
        Self { is_all: true, ..Self::default() }
    }

    /// The field, when it is just one.
    pub(crate) fn single(&self) -> Option<&Field> {
        match &self.fields[..] {
            [field] if self.globs.is_empty() && !self.is_all => Some(field),
            _ => None,
        }
    }
}

/// A value that a query names.
#[derive(Debug, Clone)]
pub(crate) struct Literal {
    pub(crate) text: String,
    int: Option<i64>,
    number: Option<f64>,
    /// First and last nanosecond, when it reads as a time.
    pub(crate) time: Option<(i64, i64)>,
}

impl Literal {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { int: text.parse().ok(), number: number(&text), time: None, text }
    }

    fn equals(&self, value: &Value<'_>, ignores_case: bool) -> bool {
        match value {
            Value::Text(text) if ignores_case => lower(text) == lower(&self.text),
            Value::Text(text) => *text == self.text,
            Value::Int(i) => match self.int {
                Some(int) => int == *i,
                None => self.number.is_some_and(|n| n == *i as f64),
            },
            Value::Float(f) => self.number.is_some_and(|n| n == *f),
            Value::Bool(b) => self.text == if *b { "true" } else { "false" },
            Value::Time(ns) => self.time.is_some_and(|(first, last)| first <= *ns && *ns <= last),
        }
    }
}

/// One end of a range.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) literal: Literal,
    pub(crate) is_included: bool,
}

/// What is asked of a value.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    Exists,
    /// Of a text: has this word.
    Term {
        literal: Literal,
        ignores_case: bool,
    },
    /// Equals one of them.
    OneOf {
        texts: FxHashSet<String>,
        others: Vec<Literal>,
    },
    /// Of a text: has so many of the words; else: equals the whole.
    Words {
        words: Vec<String>,
        min: usize,
        whole: Literal,
        edits: Option<Edits>,
    },
    /// Of a text: has the words in a row, where `slop` moves are allowed; the last may be the start of a word.
    Phrase {
        words: Vec<String>,
        slop: usize,
        is_prefix: bool,
        whole: Literal,
    },
    Range {
        lower: Option<Bound>,
        upper: Option<Bound>,
        time: (i64, i64),
    },
    Prefix {
        prefix: String,
        lowered: String,
        ignores_case: bool,
    },
    Wildcard {
        glob: Glob,
        lowered: Glob,
    },
    Regexp(Regex),
    Fuzzy {
        text: String,
        lowered: String,
        edits: Edits,
    },
}

/// How many letters may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edits {
    /// `None`: by the length of the word, 0 below 3 letters, 1 up to 5, else 2.
    pub(crate) max: Option<usize>,
    /// So many letters at the start must be equal.
    pub(crate) prefix: usize,
}

impl Edits {
    pub(crate) fn allow(self, wanted: &str, word: &str) -> bool {
        let wanted: Vec<char> = wanted.chars().collect();
        let max = self.max.unwrap_or(match wanted.len() {
            0..3 => 0,
            3..6 => 1,
            _ => 2,
        });
        let word: Vec<char> = word.chars().take(wanted.len() + max + 1).collect();
        let prefix = self.prefix.min(wanted.len());
        word.len().abs_diff(wanted.len()) <= max
            && word.get(..prefix) == Some(&wanted[..prefix])
            && distance(&wanted[prefix..], &word[prefix..]) <= max
    }
}

/// Insertions, deletions, substitutions and swaps of neighbours that make one of the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

impl Query {
    pub(crate) fn matches(&self, doc: &Doc<'_>) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Bool(all) => all.matches(doc),
            Self::Leaf(leaf) => leaf.matches(doc),
            Self::Ids(ids) => ids.has(doc),
        }
    }

    pub(crate) fn leaf(target: Target, test: Test) -> Self {
        Self::Leaf(Leaf { target, test })
    }

    pub(crate) fn not(self) -> Self {
        Self::Bool(Bool { must_not: vec![self], ..Bool::default() })
    }

    pub(crate) fn any_of(mut should: Vec<Self>) -> Self {
        match should.len() {
            0 => Self::None,
            1 => should.remove(0),
            _ => Self::Bool(Bool { should, should_min: 1, ..Bool::default() }),
        }
    }
}

impl Bool {
    fn matches(&self, doc: &Doc<'_>) -> bool {
        if !self.must.iter().all(|q| q.matches(doc)) || self.must_not.iter().any(|q| q.matches(doc)) {
            return false;
        }
        let mut missing = self.should_min;
        if missing > self.should.len() {
            return false;
        }
        for query in &self.should {
            if missing == 0 {
                break;
            }
            missing -= usize::from(query.matches(doc));
        }
        missing == 0
    }
}

impl Leaf {
    fn matches(&self, doc: &Doc<'_>) -> bool {
        let Self { target, test } = self;
        if target.fields.iter().any(|field| doc.any(field, &mut |value| test.passes(field.is_text(), &value))) {
            return true;
        }
        if target.globs.is_empty() && !target.is_all {
            return false;
        }
        doc.any_field(&mut |name, value| {
            if name == TIMESTAMP && !target.globs.iter().any(|g| g.matches(name)) {
                return false;
            }
            (target.is_all || target.globs.iter().any(|g| g.matches(name)))
                && test.passes(name == crate::doc::MESSAGE, &value)
        })
    }
}

/// Whether a text may have a word; false is certain.
fn may_have(text: &str, word: &str) -> bool {
    !(text.is_ascii() && word.is_ascii()) || contains_ignoring_case(text, word)
}

fn has_word(text: &str, mut wanted: impl FnMut(&str) -> bool) -> bool {
    let mut found = false;
    words(text, |word| {
        found = wanted(&word.text);
        !found
    });
    found
}

impl Test {
    pub(crate) fn passes(&self, is_text: bool, value: &Value<'_>) -> bool {
        match value {
            Value::Text(text) if is_text => self.passes_text(text),
            value => self.passes_whole(value),
        }
    }

    fn passes_text(&self, text: &str) -> bool {
        match self {
            Self::Exists => true,
            Self::Term { literal, ignores_case } => {
                let wanted = if *ignores_case { lower(&literal.text) } else { literal.text.as_str().into() };
                may_have(text, &wanted) && has_word(text, |word| word == wanted)
            }
            Self::OneOf { texts, .. } => has_word(text, |word| texts.contains(word)),
            Self::Words { words: wanted, min, edits, .. } => has_words(text, wanted, *min, *edits),
            Self::Phrase { words: wanted, slop, is_prefix, .. } => has_phrase(text, wanted, *slop, *is_prefix),
            Self::Range { lower, upper, .. } => {
                has_word(text, |word| in_range(&Value::Text(word.into()), lower, upper))
            }
            Self::Prefix { lowered, .. } => may_have(text, lowered) && has_word(text, |word| word.starts_with(lowered)),
            Self::Wildcard { lowered, .. } => {
                lowered.matches_all()
                    || lowered.parts().all(|p| may_have(text, p)) && has_word(text, |w| lowered.matches(w))
            }
            Self::Regexp(regex) => has_word(text, |word| regex.is_match(word)),
            Self::Fuzzy { lowered, edits, .. } => has_word(text, |word| edits.allow(lowered, word)),
        }
    }

    fn passes_whole(&self, value: &Value<'_>) -> bool {
        match self {
            Self::Exists => true,
            Self::Term { literal, ignores_case } => literal.equals(value, *ignores_case),
            Self::OneOf { texts, others } => match value {
                Value::Text(text) => texts.contains(text.as_ref()),
                value => others.iter().any(|l| l.equals(value, false)),
            },
            Self::Words { whole, edits: None, .. } => whole.equals(value, false),
            Self::Words { whole, edits: Some(edits), .. } => {
                whole.equals(value, false) || matches!(value, Value::Text(t) if edits.allow(&whole.text, t))
            }
            Self::Phrase { whole, is_prefix: false, .. } => whole.equals(value, false),
            Self::Phrase { whole, .. } => value.text().starts_with(whole.text.as_str()),
            Self::Range { time: (start, end), lower, upper } => match value {
                Value::Time(ns) => start <= ns && (ns < end || *end == i64::MAX),
                value => in_range(value, lower, upper),
            },
            Self::Prefix { lowered, ignores_case: true, .. } => lower(&value.text()).starts_with(lowered.as_str()),
            Self::Prefix { prefix, .. } => value.text().starts_with(prefix.as_str()),
            Self::Wildcard { glob, .. } => glob.matches(&value.text()),
            Self::Regexp(regex) => regex.is_match(&value.text()),
            Self::Fuzzy { text, edits, .. } => edits.allow(text, &value.text()),
        }
    }
}

fn in_range(value: &Value<'_>, lower: &Option<Bound>, upper: &Option<Bound>) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let compare = |bound: &Bound| match (value, value.number(), bound.literal.number) {
        (Value::Int(i), _, _) if bound.literal.int.is_some() => bound.literal.int.map(|b| i.cmp(&b)),
        (_, Some(a), Some(b)) => a.partial_cmp(&b),
        (Value::Text(text), _, _) => Some(text.as_ref().cmp(bound.literal.text.as_str())),
        (Value::Bool(_), _, _) => Some(value.text().as_ref().cmp(bound.literal.text.as_str())),
        _ => None,
    };
    let passes = |bound: &Option<Bound>, wanted| match bound {
        None => true,
        Some(bound) => match compare(bound) {
            Some(Equal) => bound.is_included,
            order => order == Some(wanted),
        },
    };
    passes(lower, Greater) && passes(upper, Less)
}

fn has_words(text: &str, wanted: &[String], min: usize, edits: Option<Edits>) -> bool {
    if wanted.is_empty() || min > wanted.len() {
        return false;
    }
    let possible: Vec<&String> = match edits {
        None => wanted.iter().filter(|w| may_have(text, w)).collect(),
        Some(_) => wanted.iter().collect(),
    };
    if possible.len() < min.max(1) {
        return false;
    }
    let mut found = vec![false; possible.len()];
    let mut missing = min.max(1);
    words(text, |word| {
        for (at, wanted) in possible.iter().enumerate() {
            let is_it = match edits {
                None => word.text == wanted.as_str(),
                Some(edits) => edits.allow(wanted, &word.text),
            };
            if is_it && !found[at] {
                found[at] = true;
                missing = missing.saturating_sub(1);
            }
        }
        missing > 0
    });
    missing == 0
}

fn has_phrase(text: &str, wanted: &[String], slop: usize, is_prefix: bool) -> bool {
    let Some((last, others)) = wanted.split_last() else { return false };
    if !wanted.iter().all(|w| may_have(text, w)) {
        return false;
    }
    let is_it = |at: usize, word: &str| match at == others.len() {
        true if is_prefix => word.starts_with(last.as_str()),
        true => word == last,
        false => word == others[at],
    };
    // For each wanted word, how far left the phrase would start from each place where it stands.
    let mut starts: Vec<Vec<i64>> = vec![Vec::new(); wanted.len()];
    let mut position = 0i64;
    words(text, |word| {
        for (at, starts) in starts.iter_mut().enumerate() {
            if is_it(at, &word.text) {
                starts.push(position - at as i64);
            }
        }
        position += 1;
        true
    });
    if starts.iter().any(Vec::is_empty) {
        return false;
    }
    let slop = i64::try_from(slop).unwrap_or(i64::MAX);
    // They ascend: the first start that is not before `from` must not be beyond the slop.
    let fits = |from: i64| {
        starts.iter().all(|s| {
            let at = s.partition_point(|p| *p < from);
            s.get(at).is_some_and(|p| *p - from <= slop)
        })
    };
    starts.iter().flatten().any(|from| fits(*from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        let count = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!((count("kitten", "sitting"), count("ab", "ba"), count("", "abc"), count("x", "x")), (3, 1, 3, 0));
        let auto = Edits { max: None, prefix: 0 };
        assert!(auto.allow("error", "eror") && !auto.allow("ok", "oj") && auto.allow("refused", "refsde"));
        assert!(!Edits { max: Some(1), prefix: 1 }.allow("error", "rrror"));
    }

    #[test]
    fn phrases_allow_moves() {
        let check = |text: &str, phrase: &str, slop, prefix, want| {
            let wanted = crate::analyze::word_texts(phrase);
            assert_eq!(has_phrase(text, &wanted, slop, prefix), want, "{text} {phrase} {slop}");
        };
        check("Connection refused by peer", "connection refused", 0, false, true);
        check("Connection refused by peer", "refused connection", 0, false, false);
        check("Connection refused by peer", "connection by", 0, false, false);
        check("Connection refused by peer", "connection by", 1, false, true);
        check("Connection refused by peer", "connection ref", 0, true, true);
        check("Connection refused by peer", "connection ref", 0, false, false);
        check("a b", "b a", 2, false, true);
        check("a b", "b a", 1, false, false);
    }
}
