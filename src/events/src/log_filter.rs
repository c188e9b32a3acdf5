//! Which records a query wants: by the texts of a block, by a line, by lines of memtables that lie together, and by
//! attributes.

use std::ops::Range;
use std::sync::Arc;

use memchr::memmem::Finder;
use rustc_hash::FxHashMap;
use trefoil_model::labels::underscored;
use trefoil_model::{AttributeValue, Attributes, Labels, LogQuery, LogRecord, LogWants, NanoRange, SpanId, TraceId};

use crate::grams::{Grams, looked_up};
use crate::log_memtable::{Chunk, Kept, Lines};
use crate::text_codec::Texts;

/// More alternatives than this do not narrow.
pub(crate) const ALTERNATIVES_MAX: usize = 32;
/// More attributes than this are not looked at.
const TERMS_MAX: usize = 64;

/// What records must satisfy beside stream and labels.
pub(crate) struct Filter<'q> {
    /// The longest first.
    finders: Vec<Finder<'q>>,
    /// Of each at least one.
    any_of: Vec<Vec<Finder<'q>>>,
    /// Attributes that they have.
    terms: &'q [(String, String)],
    pub(crate) wants: LogWants<'q>,
}

/// Which of the attributes of a query records of a stream must have: a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needed(u64);

impl Needed {
    /// Whether records of the stream need have none.
    pub(crate) fn is_nothing(self) -> bool {
        self.0 == 0
    }
}

impl<'q> Filter<'q> {
    pub(crate) fn new(query: &'q LogQuery, wants: &LogWants<'q>) -> Self {
        let mut needles: Vec<&str> = query.needles.iter().map(String::as_str).filter(|n| !n.is_empty()).collect();
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
        let finders = needles.into_iter().map(|needle| Finder::new(needle.as_bytes())).collect();
        let narrows = |texts: &&Vec<String>| !texts.is_empty() && texts.len() <= ALTERNATIVES_MAX;
        let of = |texts: &'q Vec<String>| texts.iter().map(|text| Finder::new(text.as_bytes())).collect();
        let any_of = wants.any_of.iter().filter(narrows).map(of).collect();
        let terms = &query.attribute_terms[..query.attribute_terms.len().min(TERMS_MAX)];
        Self { finders, any_of, terms, wants: *wants }
    }

    /// Whether a line is wanted.
    pub(crate) fn passes_text(&self, text: &str) -> bool {
        self.finders.iter().all(|finder| finder.find(text.as_bytes()).is_some())
            && self.wants.line.is_none_or(|passes| passes(text))
    }

    pub(crate) fn looks_at_text(&self) -> bool {
        !self.finders.is_empty() || self.wants.line.is_some()
    }

    /// Adds the rows of `rows` whose text is wanted, of those that `may_be`. The longest needle is sought in all of them
    /// at once.
    pub(crate) fn search(&self, texts: &Texts, rows: Range<usize>, may_be: &dyn Fn(usize) -> bool, out: &mut Vec<u32>) {
        let Some((first, others)) = self.finders.split_first() else {
            out.extend(rows.filter(|row| may_be(*row) && self.passes_text(texts.get(*row))).map(|row| row as u32));
            return;
        };
        lines_with(first, texts.all().as_bytes(), &texts.ends, rows, &mut |row| {
            if may_be(row) && self.passes_others(others, texts.get(row)) {
                out.push(row as u32);
            }
        });
    }

    fn passes_others(&self, others: &[Finder<'_>], text: &str) -> bool {
        others.iter().all(|finder| finder.find(text.as_bytes()).is_some())
            && self.wants.line.is_none_or(|passes| passes(text))
    }

    /// Adds the lines of a chunk that are wanted, by their number; returns how many were looked at, and their bytes.
    pub(crate) fn search_lines(&self, chunk: &Chunk, out: &mut Vec<u32>) -> (u64, u64) {
        let (text, lines) = (chunk.text().as_bytes(), &chunk.lines);
        let may_be = |any: &Vec<Finder<'_>>| any.iter().any(|finder| finder.find(text).is_some());
        if !self.any_of.iter().all(may_be) {
            return (0, 0);
        }
        let (mut looked, mut bytes) = (0, 0);
        // What all wanted lines hold.
        let mut alone =
            self.any_of.iter().filter_map(|any| if let [only] = any.as_slice() { Some(only) } else { None });
        let only = alone.find(|finder| !finder.needle().is_empty());
        let (first, others) = match self.finders.split_first() {
            Some((first, others)) => (Some(first), others),
            None => (only, &[][..]),
        };
        let mut each = |index: usize| {
            let line = lines.line(index);
            looked += 1;
            bytes += line.len() as u64;
            if self.passes_others(others, line) {
                out.push(index as u32);
            }
        };
        match first {
            Some(first) => lines_with(first, lines.text.as_bytes(), &lines.ends, chunk.range(), &mut each),
            None => chunk.range().for_each(each),
        }
        (looked, bytes)
    }

    /// Which of the attributes records of a stream must have; those of which the stream has a label may be that label.
    pub(crate) fn needed(&self, stream: &Labels) -> Needed {
        let has_label = |name: &str| stream.iter().any(|(label, _)| underscored(label) == name);
        let needed = self.terms.iter().enumerate().filter(|(_, (name, _))| !has_label(name));
        Needed(needed.fold(0, |bits, (at, _)| bits | 1 << at))
    }

    /// Whether a record, with the attributes of its group, has all needed attributes; those for which `may_have` is true
    /// cannot be told.
    pub(crate) fn has_all(
        &self,
        needed: Needed,
        shared: &Attributes,
        record: &LogRecord,
        may_have: &dyn Fn(&str) -> bool,
    ) -> bool {
        self.has(needed, shared, record, may_have) == needed.0
    }

    /// Which of the needed attributes it has likewise, a bit for each.
    fn has(&self, needed: Needed, shared: &Attributes, record: &LogRecord, may_have: &dyn Fn(&str) -> bool) -> u64 {
        let mut bits = 0;
        for (at, (name, value)) in self.terms.iter().enumerate() {
            let is_own = || match name.as_str() {
                "severity_text" => record.severity_text == *value,
                "severity_number" => record.severity_number.to_string() == *value,
                _ => false,
            };
            if needed.0 & 1 << at != 0
                && (has_attribute("", &record.attributes, name, value)
                    || has_attribute("", shared, name, value)
                    || is_own()
                    || may_have(name))
            {
                bits |= 1 << at;
            }
        }
        bits
    }

    /// Whether the needed attributes that are not among `bits` are ids that a record has.
    fn has_rest(&self, needed: Needed, bits: u64, ids: impl FnOnce() -> (Option<TraceId>, Option<SpanId>)) -> bool {
        let mut missing = needed.0 & !bits;
        if missing == 0 {
            return true;
        }
        let (trace_id, span_id) = ids();
        while missing != 0 {
            let (name, value) = &self.terms[missing.trailing_zeros() as usize];
            let is_it = match name.as_str() {
                "trace_id" => trace_id.is_some_and(|id| id.to_string() == *value),
                "span_id" => span_id.is_some_and(|id| id.to_string() == *value),
                _ => false,
            };
            if !is_it {
                return false;
            }
            missing &= missing - 1;
        }
        true
    }
}

/// Whether attributes, or maps in them by their path, have a value of a name, which is underscored.
fn has_attribute(prefix: &str, attributes: &Attributes, name: &str, value: &str) -> bool {
    attributes.iter().any(|(own, held)| {
        let nested;
        let path = if prefix.is_empty() {
            own.as_str()
        } else {
            nested = format!("{prefix}_{own}");
            &nested
        };
        let is_it = underscored(path) == name
            && match held {
                AttributeValue::String(text) => text == value,
                other => other.to_text() == value,
            };
        is_it || matches!(held, AttributeValue::Map(inner) if has_attribute(path, inner, name, value))
    })
}

/// Remembers which records of memtables have the attributes that those of a stream must have.
#[derive(Debug)]
pub(crate) struct KeptTest {
    needed: Needed,
    /// By what records have in common.
    known: FxHashMap<*const LogRecord, u64>,
    last: (*const LogRecord, u64),
}

impl KeptTest {
    pub(crate) fn new(needed: Needed) -> Self {
        Self { needed, known: FxHashMap::default(), last: (std::ptr::null(), 0) }
    }

    /// Whether a record may be wanted.
    pub(crate) fn passes(&mut self, filter: &Filter<'_>, log: &Kept) -> bool {
        if self.needed.is_nothing() {
            return true;
        }
        let (shared, common) = log.in_common();
        let place = std::ptr::from_ref(common);
        if self.last.0 != place {
            let has = || filter.has(self.needed, shared, common, &|_| false);
            self.last = (place, *self.known.entry(place).or_insert_with(has));
        }
        filter.has_rest(self.needed, self.last.1, || log.ids())
    }
}

/// Calls `each` for the rows of `rows` that hold a needle, which is not empty. `ends` says where each row ends in `bytes`;
/// they lie one after the other.
fn lines_with(needle: &Finder<'_>, bytes: &[u8], ends: &[u32], rows: Range<usize>, each: &mut dyn FnMut(usize)) {
    let Some(last) = rows.end.checked_sub(1).filter(|last| *last >= rows.start) else { return };
    let mut at = rows.start.checked_sub(1).map_or(0, |before| ends[before] as usize);
    let (mut row, end) = (rows.start, ends[last] as usize);
    while let Some(found) = needle.find(&bytes[at..end]) {
        let found = at + found;
        row += ends[row..rows.end].partition_point(|end| *end as usize <= found);
        let row_end = ends[row] as usize;
        if found + needle.needle().len() > row_end {
            // It reaches into the next line.
            at = found + 1;
            continue;
        }
        each(row);
        at = row_end;
    }
}

/// What lines of memtables are sought by before they are looked at.
pub(crate) struct Sought {
    /// All of them.
    all: Vec<Vec<u32>>,
    /// Of each at least one.
    any_of: Vec<Vec<Vec<u32>>>,
}

impl Sought {
    pub(crate) fn new(query: &LogQuery, any_of: &[Vec<String>]) -> Self {
        let of = |texts: &Vec<String>| texts.iter().map(|text| looked_up(text)).collect::<Vec<_>>();
        let narrows = |texts: &&Vec<String>| !texts.is_empty() && texts.len() <= ALTERNATIVES_MAX;
        // Short texts do not narrow.
        let mut all = of(&query.needles);
        all.retain(|grams| !grams.is_empty());
        let mut any_of: Vec<_> = any_of.iter().filter(narrows).map(of).collect();
        any_of.retain(|any| any.iter().all(|grams| !grams.is_empty()));
        Self { all, any_of }
    }

    fn may_be_in(&self, grams: &Grams) -> bool {
        self.all.iter().all(|text| grams.may_hold(text))
            && self.any_of.iter().all(|any| any.iter().any(|text| grams.may_hold(text)))
    }

    /// The chunks of a run, by their number, in which lines of a range may be wanted. `known` remembers for lines that
    /// lie together whether they may be.
    pub(crate) fn chunks(&self, chunks: &[Chunk], range: NanoRange, known: &mut KnownLines) -> Vec<u32> {
        let is_narrow = !self.all.is_empty() || !self.any_of.is_empty();
        let mut may_be = |chunk: &Chunk| {
            let place = Arc::as_ptr(&chunk.lines);
            if is_narrow && known.last.0 != place {
                let may_be = known.all.entry(place).or_insert_with(|| self.may_be_in(&chunk.lines.grams));
                known.last = (place, *may_be);
            }
            !is_narrow || known.last.1
        };
        let numbered = (0u32..).zip(chunks);
        let wanted = numbered.filter(|(_, c)| range.overlaps(c.bounds.0, c.bounds.1) && may_be(c));
        wanted.map(|(number, _)| number).collect()
    }
}

/// What is known of lines that lie together; see [`Sought::chunks`].
pub(crate) struct KnownLines {
    all: FxHashMap<*const Lines, bool>,
    last: (*const Lines, bool),
}

impl Default for KnownLines {
    fn default() -> Self {
        Self { all: FxHashMap::default(), last: (std::ptr::null(), false) }
    }
}
