//! Which lines a query wants: in the texts of a block, in a line, and among all that is in memtables.

use std::ops::Range;

use memchr::memmem::Finder;
use rayon::prelude::*;
use trefoil_model::{LogQuery, LogWants, NanoRange, QueryBudget, StoreError};

use crate::log_memtable::{Lines, Run};
use crate::text_codec::Texts;

/// More alternatives than this do not narrow.
pub(crate) const ALTERNATIVES_MAX: usize = 32;
/// Where more than one of so many lines has what is sought, each line is looked at when its time comes.
const LINES_A_HIT_MIN: usize = 8;
/// Chunks of a run in which it is counted how many have it.
const CHUNKS_COUNTED: usize = 8;
/// Chunks that a thread looks at at once.
const CHUNKS_AT_ONCE: usize = 64;

/// What records must satisfy beside stream and labels.
pub(crate) struct Filter<'q> {
    /// The longest first.
    finders: Vec<Finder<'q>>,
    pub(crate) wants: LogWants<'q>,
}

/// Finders of the needles of a query, the longest first.
fn finders(query: &LogQuery) -> Vec<Finder<'_>> {
    let mut needles: Vec<&str> = query.needles.iter().map(String::as_str).filter(|n| !n.is_empty()).collect();
    needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
    needles.into_iter().map(|needle| Finder::new(needle.as_bytes())).collect()
}

impl<'q> Filter<'q> {
    pub(crate) fn new(query: &'q LogQuery, wants: &LogWants<'q>) -> Self {
        Self { finders: finders(query), wants: *wants }
    }

    /// Whether a line is wanted.
    pub(crate) fn passes_text(&self, text: &str) -> bool {
        self.finders.iter().all(|finder| finder.find(text.as_bytes()).is_some())
            && self.wants.line.is_none_or(|passes| passes(text))
    }

    pub(crate) fn looks_at_text(&self) -> bool {
        !self.finders.is_empty() || self.wants.line.is_some()
    }

    /// Adds the rows of `rows` whose text is wanted. The longest needle is sought in all of them at once.
    pub(crate) fn search(&self, texts: &Texts, rows: Range<usize>, out: &mut Vec<u32>) {
        let Some((first, others)) = self.finders.split_first() else {
            out.extend(rows.filter(|row| self.passes_text(texts.get(*row))).map(|row| row as u32));
            return;
        };
        lines_with(first, texts.all().as_bytes(), &texts.ends, rows, &mut |row| {
            let text = texts.get(row);
            if others.iter().all(|finder| finder.find(text.as_bytes()).is_some())
                && self.wants.line.is_none_or(|passes| passes(text))
            {
                out.push(row as u32);
            }
        });
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

/// Which records of a run may be wanted.
#[derive(Debug, PartialEq)]
pub(crate) enum Hits {
    /// All.
    All,
    /// Those at these places, ascending.
    Rows(Vec<u32>),
}

/// What wanted lines hold.
struct Sought<'q> {
    /// All of them, the longest first.
    finders: Vec<Finder<'q>>,
    /// Of each at least one.
    any_of: Vec<Vec<Finder<'q>>>,
}

impl Sought<'_> {
    /// Whether one of these lines may be wanted.
    fn may_be_in(&self, lines: &Lines, range: NanoRange) -> bool {
        let text = lines.text.as_bytes();
        range.overlaps(lines.bounds.0, lines.bounds.1)
            && self.finders.iter().all(|finder| finder.find(text).is_some())
            && self.any_of.iter().all(|any| any.iter().any(|finder| finder.find(text).is_some()))
    }

    /// Calls `each` for the lines that may be wanted.
    fn lines(&self, lines: &Lines, each: &mut dyn FnMut(usize)) {
        match self.finders.first() {
            Some(first) => lines_with(first, lines.text.as_bytes(), &lines.ends, 0..lines.ends.len(), each),
            None => (0..lines.ends.len()).for_each(each),
        }
    }

    fn in_run(&self, run: &Run, range: NanoRange) -> Hits {
        let chunks = run.chunks();
        let found: Vec<&Lines> = chunks
            .par_iter()
            .with_min_len(CHUNKS_AT_ONCE)
            .map(AsRef::as_ref)
            .filter(|lines: &&Lines| self.may_be_in(lines, range))
            .collect();
        let (mut hits, mut of) = (0, run.len() - found.iter().map(|lines| lines.ends.len()).sum::<usize>());
        let step = found.len().div_ceil(CHUNKS_COUNTED).max(1);
        for lines in found.iter().step_by(step) {
            self.lines(lines, &mut |_| hits += step);
            of += lines.ends.len() * step;
        }
        if hits > of / LINES_A_HIT_MIN && found.len() > 1 {
            return Hits::All;
        }
        let mut rows = Vec::new();
        for lines in found {
            self.lines(lines, &mut |index| {
                rows.extend(run.place(lines, index).and_then(|place| u32::try_from(place).ok()));
            });
        }
        rows.sort_unstable();
        Hits::Rows(rows)
    }
}

/// Which records of runs, each with the number of its stream, may be wanted: many lines are looked at at once, on all
/// threads of the pool. `ranges` are those of the streams. What passes is still to be looked at line by line.
pub(crate) fn search_runs(
    query: &LogQuery,
    any_of: &[Vec<String>],
    runs: &[(u32, Run)],
    ranges: &[NanoRange],
    budget: &dyn QueryBudget,
) -> Result<Vec<Hits>, StoreError> {
    let narrows = |texts: &&Vec<String>| !texts.is_empty() && texts.len() <= ALTERNATIVES_MAX;
    let of = |texts: &Vec<String>| texts.iter().map(|text| Finder::new(text.as_bytes()).into_owned()).collect();
    let sought = Sought { finders: finders(query), any_of: any_of.iter().filter(narrows).map(of).collect() };
    if sought.finders.is_empty() && sought.any_of.is_empty() {
        return Ok(runs.iter().map(|_| Hits::All).collect());
    }
    runs.par_iter()
        .map(|(stream, run)| {
            budget.check()?;
            Ok(sought.in_run(run, ranges[*stream as usize]))
        })
        .collect()
}
