//! Tokens and terms: what of a block goes to the term index, what to its filter, and what a needle tells.
//!
//! A token is a longest run of `[A-Za-z0-9_]` and bytes from 0x80 (so that words of every script hold together),
//! ASCII letters lower-cased. Runs over [`TOKEN_BYTES_MAX`] are cut in pieces, none is dropped. Tokens that look like
//! ids go to the filter instead of the dictionary; every such token has a digit.

use rustc_hash::FxHashSet;
use trefoil_model::labels::underscored;
use trefoil_model::{AttributeValue, Attributes};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Longest token in bytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 64;
/// Longest `name=value` that is indexed; longer ones never narrow.
pub(crate) const TERM_BYTES_MAX: usize = 512;
/// Marks blocks with tokens that the dictionary does not show whole: cut runs, and ids with letters beyond `f`.
pub(crate) const OPAQUE: &str = "\u{1}opaque";
/// Edge tokens (which may be part of a longer token) shorter than this do not narrow.
const EDGE_BYTES_MIN: usize = 3;
/// Longest edge token that is looked up: a cut piece may be a few bytes shorter than [`TOKEN_BYTES_MAX`].
const EDGE_BYTES_MAX: usize = TOKEN_BYTES_MAX - 4;

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Calls `each` with the byte range of every run of token bytes.
fn runs(text: &str, mut each: impl FnMut(usize, usize)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !is_token_byte(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && is_token_byte(bytes[at]) {
            at += 1;
        }
        each(start, at);
    }
}

/// Cuts a run into tokens.
fn pieces(mut run: &str, mut each: impl FnMut(&str)) {
    while run.len() > TOKEN_BYTES_MAX {
        let mut cut = TOKEN_BYTES_MAX;
        while !run.is_char_boundary(cut) {
            cut -= 1;
        }
        each(&run[..cut]);
        run = &run[cut..];
    }
    each(run);
}

/// How a token is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// In the dictionary.
    Word,
    /// In the filter; hexadecimal digits only.
    HexId,
    /// In the filter; may hold any letter.
    MixedId,
}

/// The shape of a token that is already lower-cased.
fn shape(token: &str) -> Shape {
    let (mut digits, mut hex, mut other, mut changes, mut last_digit) = (0usize, 0usize, 0usize, 0usize, None);
    for byte in token.bytes() {
        let is_digit = byte.is_ascii_digit();
        match byte {
            b'0'..=b'9' => digits += 1,
            b'a'..=b'f' => hex += 1,
            b'g'..=b'z' | b'_' => other += 1,
            _ => return Shape::Word,
        }
        if last_digit.is_some_and(|last| last != is_digit) {
            changes += 1;
        }
        last_digit = Some(is_digit);
    }
    if other == 0 && digits > 0 && ((hex > 0 && token.len() >= 8) || (hex == 0 && digits >= 6)) {
        Shape::HexId
    } else if token.len() >= 16 && digits >= 3 && changes >= 4 {
        Shape::MixedId
    } else {
        Shape::Word
    }
}

/// True for attribute values that are kept in the filter.
fn is_id_value(value: &str) -> bool {
    let plain: String = value.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    shape(&plain) != Shape::Word
}

fn token_key(token: &str) -> u64 {
    xxh3_64_with_seed(token.as_bytes(), 1)
}

fn term_key(term: &str) -> u64 {
    xxh3_64_with_seed(term.as_bytes(), 2)
}

/// The `name=value` term of an attribute, or `None` when it is too long.
fn term(name: &str, value: &str) -> Option<String> {
    (name.len() + value.len() < TERM_BYTES_MAX).then(|| format!("{}={value}", underscored(name)))
}

/// Collects what is to be indexed of one block.
#[derive(Debug, Default)]
pub(crate) struct BlockTerms {
    /// Distinct tokens for the dictionary.
    pub(crate) tokens: FxHashSet<Box<str>>,
    /// Distinct `name=value` terms for the dictionary.
    pub(crate) terms: FxHashSet<Box<str>>,
    /// Keys for the filter, not distinct.
    pub(crate) keys: Vec<u64>,
    /// Length of the longest run that has a digit.
    pub(crate) digit_run_max: usize,
    lower: String,
}

impl BlockTerms {
    /// Adds a text.
    pub(crate) fn add_text(&mut self, text: &str) {
        let mut lower = std::mem::take(&mut self.lower);
        lower.clear();
        lower.push_str(text);
        lower.make_ascii_lowercase();
        runs(&lower, |start, end| {
            let run = &lower[start..end];
            if run.len() > self.digit_run_max && run.bytes().any(|b| b.is_ascii_digit()) {
                self.digit_run_max = run.len();
            }
            if run.len() > TOKEN_BYTES_MAX {
                insert(&mut self.tokens, OPAQUE);
            }
            pieces(run, |token| match shape(token) {
                Shape::Word => insert(&mut self.tokens, token),
                Shape::HexId => self.keys.push(token_key(token)),
                Shape::MixedId => {
                    insert(&mut self.tokens, OPAQUE);
                    self.keys.push(token_key(token));
                }
            });
        });
        self.lower = lower;
    }

    /// Adds a name with a value.
    pub(crate) fn add_term(&mut self, name: &str, value: &str) {
        let Some(term) = term(name, value) else { return };
        if is_id_value(value) {
            self.keys.push(term_key(&term));
        } else {
            insert(&mut self.terms, &term);
        }
    }

    /// Adds attributes; maps also with their paths, as `outer_inner=value`.
    pub(crate) fn add_attributes(&mut self, prefix: &str, attributes: &Attributes) {
        for (name, value) in attributes {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}_{name}") };
            if let AttributeValue::Map(inner) = value {
                self.add_attributes(&path, inner);
            }
            match value {
                AttributeValue::String(text) => self.add_term(&path, text),
                other => self.add_term(&path, &other.to_text()),
            }
        }
    }

    /// Adds a key of the caller's own to the filter.
    pub(crate) fn add_key(&mut self, key: u64) {
        self.keys.push(key);
    }
}

fn insert(set: &mut FxHashSet<Box<str>>, text: &str) {
    if !set.contains(text) {
        set.insert(text.into());
    }
}

/// Where an edge token of a needle may stand within a token of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// The token begins with it.
    Prefix,
    /// The token ends with it.
    Suffix,
    /// Anywhere.
    Infix,
}

/// A condition that every block with a wanted event satisfies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The dictionary has this token.
    Token(String),
    /// The dictionary has a token with this at an edge, or the block is opaque.
    Edge(Edge, String),
    /// The dictionary has this `name=value` term.
    Term(String),
    /// The filter has this key.
    Key(u64),
    /// The filter has this key, or a run with a digit is longer than this.
    KeyOrLonger(u64, usize),
}

/// The conditions that a needle (a text that lines must contain) puts on blocks.
pub(crate) fn needle_conditions(needle: &str, out: &mut Vec<Condition>) {
    let lower = needle.to_ascii_lowercase();
    runs(&lower, |start, end| {
        let run = &lower[start..end];
        let edge = match (start == 0, end == lower.len()) {
            (false, false) => {
                pieces(run, |token| {
                    out.push(match shape(token) {
                        Shape::Word => Condition::Token(token.to_owned()),
                        Shape::HexId | Shape::MixedId => Condition::Key(token_key(token)),
                    });
                });
                return;
            }
            (true, false) => Edge::Suffix,
            (false, true) => Edge::Prefix,
            (true, true) => Edge::Infix,
        };
        if run.len() < EDGE_BYTES_MIN || run.len() > EDGE_BYTES_MAX {
            return;
        }
        // A longer token around an id has its digits too, so the longest run with a digit tells whether there is one.
        if shape(run) != Shape::Word {
            out.push(Condition::KeyOrLonger(token_key(run), run.len()));
        } else if run.bytes().any(|b| !b.is_ascii_hexdigit()) {
            out.push(Condition::Edge(edge, run.to_owned()));
        }
    });
}

/// The condition that an attribute puts on blocks; none when it is too long to be indexed.
pub(crate) fn attribute_condition(name: &str, value: &str) -> Option<Condition> {
    let term = term(name, value)?;
    Some(if is_id_value(value) { Condition::Key(term_key(&term)) } else { Condition::Term(term) })
}

/// The filter key of a trace id, for spans.
pub(crate) fn trace_key(id: trefoil_model::TraceId) -> u64 {
    xxh3_64_with_seed(&id.0, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        let mut terms = BlockTerms::default();
        terms.add_text(text);
        let mut tokens: Vec<String> = terms.tokens.iter().map(|t| t.to_string()).collect();
        tokens.sort();
        tokens
    }

    #[test]
    fn texts_become_tokens() {
        assert_eq!(tokens("GET /Api/v1?a_b=ü-x"), ["a_b", "api", "get", "v1", "x", "ü"]);
        assert!(tokens("4bf92f3577b34da6a3ce929d0e0e4736 123456").is_empty(), "ids are no tokens");
        let long = "é".repeat(100);
        let cut = tokens(&long);
        assert_eq!(cut.len(), 3, "two lengths of pieces and the mark: {cut:?}");
    }

    #[test]
    fn needles_become_conditions() {
        let conditions = |needle: &str| {
            let mut out = Vec::new();
            needle_conditions(needle, &mut out);
            out
        };
        assert_eq!(conditions("refused"), [Condition::Edge(Edge::Infix, "refused".into())]);
        assert_eq!(
            conditions("conn refused by"),
            [Condition::Edge(Edge::Suffix, "conn".into()), Condition::Token("refused".into())]
        );
        assert_eq!(conditions("dead"), [], "may be part of an id, which the dictionary does not have");
        let id = "4bf92f3577b34da6";
        assert_eq!(conditions(id), [Condition::KeyOrLonger(token_key(id), 16)]);
        assert_eq!(conditions(&format!(" {id} ")), [Condition::Key(token_key(id))]);
    }
}
