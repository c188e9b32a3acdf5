//! Label sets: sorted, unique names, one shared buffer.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";
/// The bucket bound label of a classic histogram.
pub const BUCKET_LABEL: &str = "le";

/// An immutable label set, sorted by name, names unique, no empty values.
///
/// All names and values stand in one reference-counted text, each behind its length, so that a clone is a
/// counter, equality and hash read one run of bytes. Lengths are written in base 64 with bytes below 0x80
/// (0x40 marks "more follows"), which keeps the whole text valid UTF-8.
#[derive(Clone)]
pub struct Labels {
    packed: Arc<str>,
}

impl Labels {
    /// The label set without labels.
    pub fn empty() -> Self {
        Self { packed: Arc::from("") }
    }

    /// Builds a label set from pairs in any order; empty values are left out, of a repeated name the last wins.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::new();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        builder.build()
    }

    /// Builds a label set from pairs that are already sorted by name, unique and without empty values.
    ///
    /// Panics in debug builds when they are not.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::from_sorted_with(&mut String::with_capacity(128), pairs)
    }

    /// As [`Labels::from_sorted`], packing into `scratch`, so that decoders of many series reuse its memory.
    pub fn from_sorted_with<'a>(scratch: &mut String, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        scratch.clear();
        let mut last: Option<&'a str> = None;
        for (name, value) in pairs {
            debug_assert!(last.is_none_or(|l| l < name), "label names must ascend strictly");
            debug_assert!(!value.is_empty(), "empty label values are left out");
            last = Some(name);
            push_text(scratch, name);
            push_text(scratch, value);
        }
        Self { packed: Arc::from(scratch.as_str()) }
    }

    /// The packed form, for storage; [`Labels::from_packed`] reads it back.
    pub fn as_packed(&self) -> &str {
        &self.packed
    }

    /// Reads the packed form back, or `None` when it is not well-formed (lengths, order, uniqueness).
    pub fn from_packed(packed: &str) -> Option<Self> {
        let mut rest = packed;
        let mut last: Option<&str> = None;
        while !rest.is_empty() {
            let (name, after) = take_text(rest)?;
            let (value, after) = take_text(after)?;
            if last.is_some_and(|l| l >= name) || value.is_empty() {
                return None;
            }
            last = Some(name);
            rest = after;
        }
        Some(Self { packed: Arc::from(packed) })
    }

    /// Iterates over `(name, value)` in order of names.
    pub fn iter(&self) -> LabelsIter<'_> {
        LabelsIter { rest: &self.packed }
    }

    /// The value of a label, or `None` when it is absent (which matchers treat as "").
    pub fn get(&self, name: &str) -> Option<&str> {
        for (n, v) in self.iter() {
            match n.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(v),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The metric name, or "" without one.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// The number of labels.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// True without labels.
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// A stable 64-bit hash (XXH3 of the packed form); part of on-disk formats.
    pub fn stable_hash(&self) -> u64 {
        xxh3_64(self.packed.as_bytes())
    }

    /// Bytes this label set occupies on the heap (shared by its clones).
    pub fn heap_bytes(&self) -> usize {
        self.packed.len() + 16
    }

    /// A builder that starts with these labels.
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { pairs: self.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }

    /// The labels for which `keep(name)` holds.
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        Self::from_sorted(self.iter().filter(|(n, _)| keep(n)))
    }

    /// The labels without the metric name.
    pub fn without_name(&self) -> Self {
        self.filter(|n| n != METRIC_NAME)
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.packed, &other.packed) || self.packed == other.packed
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.stable_hash());
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    /// Order of Prometheus' `labels.Compare`: pair by pair, name before value, a prefix first.
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.packed.as_bytes(), other.packed.as_bytes());
        let same = common_prefix(a, b);
        // A text that ends before the first difference is the same in both: the first other one decides.
        let mut at = 0;
        while at < same {
            match text_end(a, at) {
                Some(end) if end <= same => at = end,
                _ => break,
            }
        }
        match (take_text(&self.packed[at..]), take_text(&other.packed[at..])) {
            (Some((x, _)), Some((y, _))) => x.cmp(y),
            (x, y) => x.is_some().cmp(&y.is_some()),
        }
    }
}

impl fmt::Display for Labels {
    /// Prometheus notation: `{a="1", __name__="x"}` in order of names, values quoted as Go does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if is_legacy_label_name(name) {
                write!(f, "{name}={value:?}")?;
            } else {
                write!(f, "{name:?}={value:?}")?;
            }
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = LabelsIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterates over the pairs of a label set in order of names.
#[derive(Debug, Clone)]
pub struct LabelsIter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (name, after) = take_text(self.rest).expect("packed labels are checked when made");
        let (value, after) = take_text(after).expect("packed labels are checked when made");
        self.rest = after;
        Some((name, value))
    }
}

/// Collects labels in any order and makes a [`Labels`] of them.
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        let (name, value) = (name.into(), value.into());
        match self.pairs.iter_mut().find(|(n, _)| *n == name) {
            Some(pair) => pair.1 = value,
            None => self.pairs.push((name, value)),
        }
        self
    }

    /// Removes a label.
    pub fn del(&mut self, name: &str) -> &mut Self {
        self.pairs.retain(|(n, _)| n != name);
        self
    }

    /// The current value, `None` when absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// The pairs so far, in the order in which they were first set; values may be empty.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// Keeps the labels for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        self.pairs.retain(|(n, v)| keep(n, v));
        self
    }

    /// Makes the label set: sorted, empty values left out.
    pub fn build(mut self) -> Labels {
        self.pairs.retain(|(_, v)| !v.is_empty());
        self.pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Labels::from_sorted(self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
    }
}

/// True for `[a-zA-Z_][a-zA-Z0-9_]*`, the label names of the classic formats.
pub fn is_legacy_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// True for `[a-zA-Z_:][a-zA-Z0-9_:]*`, the metric names of the classic formats.
pub fn is_legacy_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// A label name as LogQL sees it: every character outside `[A-Za-z0-9_]` becomes `_`, a leading digit gets `_`.
pub fn underscored(name: &str) -> std::borrow::Cow<'_, str> {
    if is_legacy_label_name(name) || name.is_empty() {
        return std::borrow::Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 1);
    for (i, c) in name.chars().enumerate() {
        if i == 0 && c.is_ascii_digit() {
            out.push('_');
        }
        out.push(if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' });
    }
    std::borrow::Cow::Owned(out)
}

#[inline]
fn push_text(out: &mut String, text: &str) {
    let mut n = text.len();
    if n < 0x40 {
        // Nearly always.
        out.push(char::from(n as u8));
        out.push_str(text);
        return;
    }
    loop {
        let digit = (n & 0x3f) as u8;
        n >>= 6;
        if n == 0 {
            out.push(char::from(digit));
            break;
        }
        out.push(char::from(digit | 0x40));
    }
    out.push_str(text);
}

/// How many bytes at the front of both are the same.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let ((words_a, _), (words_b, _)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut at = 0;
    for (x, y) in words_a.iter().zip(words_b) {
        let difference = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if difference != 0 {
            return at + difference.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + a[at..].iter().zip(&b[at..]).take_while(|(x, y)| x == y).count()
}

/// Where the text that begins at a byte ends.
#[inline]
fn text_end(packed: &[u8], at: usize) -> Option<usize> {
    let first = *packed.get(at)?;
    if first < 0x40 {
        return Some(at + 1 + usize::from(first));
    }
    let text = std::str::from_utf8(packed.get(at..)?).ok()?;
    take_text(text).map(|(_, rest)| packed.len() - rest.len())
}

fn take_text(packed: &str) -> Option<(&str, &str)> {
    let bytes = packed.as_bytes();
    let (mut n, mut shift, mut i) = (0usize, 0u32, 0usize);
    loop {
        let b = *bytes.get(i)?;
        if b >= 0x80 || shift > 30 {
            return None;
        }
        i += 1;
        n |= usize::from(b & 0x3f) << shift;
        if b & 0x40 == 0 {
            break;
        }
        shift += 6;
    }
    let end = i.checked_add(n)?;
    Some((packed.get(i..end)?, packed.get(end..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_sorted_and_without_empty_values() {
        let long = "x".repeat(5000);
        let l = Labels::from_pairs([("b", "2"), ("a", "ü"), ("empty", ""), ("c", long.as_str())]);
        assert_eq!(l.iter().collect::<Vec<_>>(), [("a", "ü"), ("b", "2"), ("c", long.as_str())]);
        assert_eq!(l.get("b"), Some("2"));
        assert_eq!(l.get("bb"), None);
        assert_eq!(Labels::from_packed(l.as_packed()), Some(l.clone()));
        assert_eq!(Labels::from_packed(&l.as_packed()[1..]), None);
    }

    #[test]
    fn order_is_that_of_the_pairs() {
        let texts = ["a", "aa", "ab", "b", "name", "ü", "üa", "a-value-of-some-length", "a-value-of-some-lengthy"];
        let long = [63, 64, 65, 4095, 4096].map(|n| "x".repeat(n));
        let texts: Vec<&str> = texts.into_iter().chain(long.iter().map(String::as_str)).collect();
        let mut sets = vec![Labels::empty()];
        for (i, name) in texts.iter().enumerate() {
            for value in &texts {
                sets.push(Labels::from_pairs([(*name, *value)]));
                for other in texts.iter().skip(i) {
                    sets.push(Labels::from_pairs([(*name, *value), (*other, texts[i])]));
                }
            }
        }
        for a in &sets {
            for b in &sets {
                assert_eq!(a.cmp(b), a.iter().cmp(b.iter()), "{a} {b}");
            }
        }
    }

    #[test]
    fn order_is_by_pairs() {
        let a = Labels::from_pairs([("a", "1")]);
        let ab = Labels::from_pairs([("a", "1"), ("b", "1")]);
        let b = Labels::from_pairs([("a", "2")]);
        assert!(a < ab && ab < b && Labels::empty() < a);
    }

    #[test]
    fn underscored_names() {
        assert_eq!(underscored("k8s.pod.name"), "k8s_pod_name");
        assert_eq!(underscored("9a"), "_9a");
        assert_eq!(underscored("ok_1"), "ok_1");
    }
}
