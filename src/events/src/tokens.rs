//! Tokens and terms: what of a block goes to the term index, what to its filter, and what a needle tells.
//!
//! A token is a longest run of `[A-Za-z0-9_]` and bytes from 0x80 (so that words of every script hold together),
//! ASCII letters lower-cased. Runs over [`TOKEN_BYTES_MAX`] are cut in pieces, none is dropped. Tokens that look like
//! ids go to the filter instead of the dictionary; every such token has a digit.

use std::borrow::Cow;

use hashbrown::HashTable;
use trefoil_model::labels::underscored;
use trefoil_model::{AttributeValue, Attributes};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

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

/// Classes of bytes; 0 is between tokens.
const DIGIT: u8 = 1;
const LOWER_HEX: u8 = 2;
const LOWER: u8 = 4;
const UPPER_HEX: u8 = 8;
const UPPER: u8 = 16;
const BEYOND_ASCII: u8 = 32;

const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = match i as u8 {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'f' => LOWER_HEX,
            b'g'..=b'z' | b'_' => LOWER,
            b'A'..=b'F' => UPPER_HEX,
            b'G'..=b'Z' => UPPER,
            0x80.. => BEYOND_ASCII,
            _ => 0,
        };
        i += 1;
    }
    table
};

/// A longest run of token bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// The classes of its bytes.
    classes: u8,
}

/// Finds the runs of a text, which must be shorter than 4 GiB.
pub(crate) fn find_runs(text: &str, out: &mut Vec<Run>) {
    out.clear();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let mut classes = CLASS[bytes[at] as usize];
        at += 1;
        if classes == 0 {
            continue;
        }
        let start = at - 1;
        while let Some(byte) = bytes.get(at) {
            let class = CLASS[*byte as usize];
            if class == 0 {
                break;
            }
            classes |= class;
            at += 1;
        }
        out.push(Run { start: start as u32, end: at as u32, classes });
    }
}

#[cfg(test)]
pub(crate) fn token_runs(text: &str) -> Vec<Run> {
    let mut out = Vec::new();
    find_runs(text, &mut out);
    out
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
    if !value.bytes().any(|b| b.is_ascii_digit()) {
        return false;
    }
    if !value.bytes().any(|b| b == b'-' || b.is_ascii_uppercase()) {
        return shape(value) != Shape::Word;
    }
    let plain: String = value.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    shape(&plain) != Shape::Word
}

fn token_key(token: &str) -> u64 {
    xxh3_64_with_seed(token.as_bytes(), 1)
}

fn term_key(term: &str) -> u64 {
    xxh3_64_with_seed(term.as_bytes(), 2)
}

/// The `name=value` term of an attribute, or `None` when it is too long or has a zero byte, which ends terms.
fn term(name: &str, value: &str) -> Option<String> {
    let fits = name.len() + value.len() < TERM_BYTES_MAX && !value.contains('\0');
    fits.then(|| format!("{}={value}", underscored(name)))
}

/// Distinct texts in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct TextSet {
    /// All texts, one behind the other.
    joined: String,
    /// Places of the texts in `joined`.
    places: Vec<(u32, u32)>,
    table: HashTable<u32>,
}

impl TextSet {
    fn insert(&mut self, text: &str) {
        let hash = xxh3_64(text.as_bytes());
        let Self { joined, places, table } = self;
        let at = |index: &u32| {
            let (start, end) = places[*index as usize];
            &joined[start as usize..end as usize]
        };
        if table.find(hash, |index| at(index) == text).is_some() {
            return;
        }
        let index = u32::try_from(places.len()).expect("texts of a block fit in memory");
        table.insert_unique(hash, index, |index| xxh3_64(at(index).as_bytes()));
        let start = joined.len();
        joined.push_str(text);
        places.push((
            u32::try_from(start).expect("texts of a block are below 4 GiB"),
            u32::try_from(joined.len()).expect("texts of a block are below 4 GiB"),
        ));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The bytes of all.
    pub(crate) fn bytes(&self) -> usize {
        self.joined.len()
    }

    /// The texts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|(start, end)| &self.joined[*start as usize..*end as usize])
    }
}

/// Collects what is to be indexed of one block.
#[derive(Debug, Default)]
pub(crate) struct BlockTerms {
    /// Distinct tokens for the dictionary.
    pub(crate) tokens: TextSet,
    /// Distinct `name=value` terms for the dictionary.
    pub(crate) terms: TextSet,
    /// Keys for the filter, not distinct.
    pub(crate) keys: Vec<u64>,
    /// Length of the longest run that has a digit.
    pub(crate) digit_run_max: usize,
    lower: String,
}

impl BlockTerms {
    /// Adds a text; `runs` are its runs.
    pub(crate) fn add_runs(&mut self, text: &str, runs: &[Run]) {
        for run in runs {
            let token = &text[run.start as usize..run.end as usize];
            let has_digit = run.classes & DIGIT != 0;
            if has_digit {
                self.digit_run_max = self.digit_run_max.max(token.len());
            }
            if token.len() > TOKEN_BYTES_MAX {
                self.add_long(token);
            } else if run.classes & (UPPER | UPPER_HEX) != 0 {
                let mut lower = std::mem::take(&mut self.lower);
                lower.clear();
                lower.push_str(token);
                lower.make_ascii_lowercase();
                self.add_token(&lower, has_digit);
                self.lower = lower;
            } else {
                self.add_token(token, has_digit);
            }
        }
    }

    #[cold]
    fn add_long(&mut self, run: &str) {
        self.tokens.insert(OPAQUE);
        pieces(&run.to_ascii_lowercase(), |token| self.add_token(token, true));
    }

    fn add_token(&mut self, token: &str, may_be_id: bool) {
        match if may_be_id { shape(token) } else { Shape::Word } {
            Shape::Word => self.tokens.insert(token),
            Shape::HexId => self.keys.push(token_key(token)),
            Shape::MixedId => {
                self.tokens.insert(OPAQUE);
                self.keys.push(token_key(token));
            }
        }
    }

    /// Adds a name with a value.
    pub(crate) fn add_term(&mut self, name: &str, value: &str) {
        let Some(term) = term(name, value) else { return };
        if is_id_value(value) {
            self.keys.push(term_key(&term));
        } else {
            self.terms.insert(&term);
        }
    }

    /// Adds an id in hexadecimal that has a field of its own. Where the line has it too there is one key for both.
    pub(crate) fn add_id(&mut self, name: &str, hex: &str) {
        match shape(hex) {
            Shape::Word => self.add_term(name, hex),
            Shape::HexId | Shape::MixedId => self.keys.push(token_key(hex)),
        }
    }

    /// Adds attributes; maps also with their paths, as `outer_inner=value`.
    pub(crate) fn add_attributes(&mut self, prefix: &str, attributes: &Attributes) {
        for (name, value) in attributes {
            self.add_attribute(prefix, name, value);
        }
    }

    /// Adds an attribute likewise.
    pub(crate) fn add_attribute(&mut self, prefix: &str, name: &str, value: &AttributeValue) {
        let path = if prefix.is_empty() { Cow::Borrowed(name) } else { Cow::Owned(format!("{prefix}_{name}")) };
        if let AttributeValue::Map(inner) = value {
            self.add_attributes(&path, inner);
        }
        match value {
            AttributeValue::String(text) => self.add_term(&path, text),
            other => self.add_term(&path, &other.to_text()),
        }
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
    /// The filter has one of these keys.
    EitherKey(u64, u64),
    /// The filter has this key, or a run with a digit is longer than this.
    KeyOrLonger(u64, usize),
}

/// The conditions that a needle (a text that lines must contain) puts on blocks.
pub(crate) fn needle_conditions(needle: &str, out: &mut Vec<Condition>) {
    let lower = needle.to_ascii_lowercase();
    let mut runs = Vec::new();
    find_runs(&lower, &mut runs);
    for Run { start, end, .. } in runs {
        let (start, end) = (start as usize, end as usize);
        let run = &lower[start..end];
        let edge = match (start == 0, end == lower.len()) {
            (false, false) => {
                pieces(run, |token| {
                    out.push(match shape(token) {
                        Shape::Word => Condition::Token(token.to_owned()),
                        Shape::HexId | Shape::MixedId => Condition::Key(token_key(token)),
                    });
                });
                continue;
            }
            (true, false) => Edge::Suffix,
            (false, true) => Edge::Prefix,
            (true, true) => Edge::Infix,
        };
        if run.len() < EDGE_BYTES_MIN || run.len() > EDGE_BYTES_MAX {
            continue;
        }
        // A longer token around an id has its digits too, so the longest run with a digit tells whether there is one.
        if shape(run) != Shape::Word {
            out.push(Condition::KeyOrLonger(token_key(run), run.len()));
        } else if run.bytes().any(|b| !b.is_ascii_hexdigit()) {
            out.push(Condition::Edge(edge, run.to_owned()));
        }
    }
}

/// The condition that an attribute puts on blocks; none when it is too long to be indexed.
pub(crate) fn attribute_condition(name: &str, value: &str) -> Option<Condition> {
    let term = term(name, value)?;
    Some(match is_id_value(value) {
        true if matches!(name, "trace_id" | "span_id") => Condition::EitherKey(term_key(&term), token_key(value)),
        true => Condition::Key(term_key(&term)),
        false => Condition::Term(term),
    })
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
        terms.add_runs(text, &token_runs(text));
        let mut tokens: Vec<String> = terms.tokens.iter().map(str::to_owned).collect();
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
