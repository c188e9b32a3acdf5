//! From matchers to rows: the same evaluation over the memtable's index and over every part's.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;

use roaring::RoaringBitmap;
use trefoil_model::{MatchOp, Matcher, QueryBudget, StoreError};

use crate::value_set::ValueSet;

/// How many dictionary entries are looked at between two looks at the deadline.
pub(crate) const VALUES_PER_CHECK: u32 = 1024;

/// Which values of a dictionary are looked for.
pub(crate) enum Wanted<'a> {
    /// All.
    All,
    /// These, sorted.
    Listed(&'a [String]),
    /// Those that the pattern of a matcher matches, whatever its sign.
    Set(Arc<ValueSet>),
    /// As `Set`, when there is no automaton; all begin with the text.
    Tested(String, &'a Matcher),
}

impl<'a> Wanted<'a> {
    /// What the pattern of a `=~` or `!~` matches.
    pub(crate) fn of(m: &'a Matcher) -> Self {
        if let Some(values) = m.literal_alternatives() {
            return Self::Listed(values);
        }
        match ValueSet::of(m) {
            Some(set) => Self::Set(set),
            None => Self::Tested(literal_prefix(&m.value), m),
        }
    }

    /// What the values begin with.
    pub(crate) fn prefix(&self) -> &str {
        match self {
            Self::Tested(prefix, _) => prefix,
            Self::All | Self::Listed(_) | Self::Set(_) => "",
        }
    }

    pub(crate) fn contains(&self, value: &str) -> bool {
        match self {
            Self::All => true,
            Self::Listed(values) => values.binary_search_by(|v| v.as_str().cmp(value)).is_ok(),
            Self::Set(set) => set.contains(value),
            Self::Tested(_, m) => m.matches(value) != m.op.is_negative(),
        }
    }
}

/// The values of a label that may pass all matchers on that label, as far as one positive pattern says it.
pub(crate) fn wanted_values<'a>(matchers: &'a [Matcher], name: &str) -> Wanted<'a> {
    let pattern = matchers.iter().find(|m| m.op == MatchOp::Regex && m.name == name && !m.matches_empty());
    pattern.map_or(Wanted::All, Wanted::of)
}

/// Whether a row that matches has samples that count; `None`: every one has.
pub(crate) type RowCheck<'a> = Option<Box<dyn Fn(u32) -> bool + 'a>>;

/// Rows of which an answer may tell. Where it is not known which of them have samples that count, they are looked at
/// one by one, and only until one is found.
pub(crate) struct Rows<'a> {
    candidates: RoaringBitmap,
    check: RowCheck<'a>,
    /// How many looks may still be in vain before all rows are looked at, once.
    looks: Cell<u64>,
    checked: OnceCell<RoaringBitmap>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(candidates: RoaringBitmap, check: RowCheck<'a>) -> Self {
        let looks = Cell::new(candidates.len() / 4);
        Self { candidates, check, looks, checked: OnceCell::new() }
    }

    /// True when there are no candidates.
    pub(crate) fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// All that count.
    pub(crate) fn all(&self) -> &RoaringBitmap {
        match &self.check {
            None => &self.candidates,
            Some(check) => self.checked.get_or_init(|| self.candidates.iter().filter(|row| check(*row)).collect()),
        }
    }

    /// Whether a row counts.
    pub(crate) fn contains(&self, row: u32) -> bool {
        match (&self.check, self.checked.get()) {
            (Some(check), None) => self.candidates.contains(row) && check(row),
            _ => self.all().contains(row),
        }
    }

    /// Whether one of some rows counts.
    pub(crate) fn meet(&self, rows: &RoaringBitmap) -> bool {
        if let (Some(check), None) = (&self.check, self.checked.get()) {
            for row in rows {
                if !self.candidates.contains(row) {
                    continue;
                }
                if check(row) {
                    return true;
                }
                match self.looks.get().checked_sub(1) {
                    Some(left) => self.looks.set(left),
                    None => return self.meets_all(rows),
                }
            }
            return false;
        }
        self.meets_all(rows)
    }

    /// One by one: most often the first is one, and that of the library takes long for sets that stand as intervals.
    fn meets_all(&self, rows: &RoaringBitmap) -> bool {
        let all = self.all();
        rows.iter().any(|row| all.contains(row))
    }
}

/// An inverted index: label name -> value -> rows. Rows number the series of one memtable or part.
pub(crate) trait LabelIndex {
    /// Every row.
    fn all_rows(&self) -> Result<RoaringBitmap, StoreError>;

    /// Rows that have the label at all.
    fn rows_with_name(&self, name: &str) -> Result<RoaringBitmap, StoreError>;

    /// Rows that have the label with this value.
    fn rows_with_value(&self, name: &str, value: &str) -> Result<RoaringBitmap, StoreError>;

    /// Rows whose value is wanted, of `within` where that is given. Calls `check` now and then.
    fn rows_wanted(
        &self,
        name: &str,
        wanted: &Wanted<'_>,
        within: Option<&RoaringBitmap>,
        check: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<RoaringBitmap, StoreError>;

    /// Calls `each` for every wanted value of the label that one of `rows` has (`None`: that any row has), ascending.
    fn values(
        &self,
        name: &str,
        wanted: &Wanted<'_>,
        rows: Option<&Rows<'_>>,
        each: &mut dyn FnMut(&str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Calls `each` for every label name that one of `rows` has (`None`: that any row has), ascending.
    fn names(
        &self,
        rows: Option<&Rows<'_>>,
        each: &mut dyn FnMut(&str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;
}

/// The rows that satisfy every matcher. Without matchers: all.
///
/// A matcher that accepts "" also selects rows without that label, so it is answered by taking away what it
/// refuses.
pub(crate) fn select_rows(
    index: &dyn LabelIndex,
    matchers: &[Matcher],
    budget: &dyn QueryBudget,
) -> Result<RoaringBitmap, StoreError> {
    let mut wanted: Vec<&Matcher> = matchers.iter().filter(|m| !m.matches_empty()).collect();
    wanted.sort_by_key(|m| cost(m));
    let mut rows: Option<RoaringBitmap> = None;
    for m in wanted {
        budget.check()?;
        let found = accepted(index, m, rows.as_ref(), budget)?;
        let narrowed = match rows {
            Some(before) => before & found,
            None => found,
        };
        if narrowed.is_empty() {
            return Ok(narrowed);
        }
        rows = Some(narrowed);
    }
    let mut rows = match rows {
        Some(rows) => rows,
        None => index.all_rows()?,
    };
    for m in matchers.iter().filter(|m| m.matches_empty()) {
        budget.check()?;
        if rows.is_empty() {
            break;
        }
        let refused = refused(index, m, &rows, budget)?;
        rows -= refused;
    }
    Ok(rows)
}

/// Cheap matchers first, so that dear ones are spared when nothing is left.
fn cost(m: &Matcher) -> u8 {
    match (m.op, m.literal_alternatives()) {
        (MatchOp::Equal, _) => 0,
        (MatchOp::Regex, Some(_)) => 1,
        (MatchOp::Regex, None) => 2,
        (MatchOp::NotEqual | MatchOp::NotRegex, _) => 3,
    }
}

/// Rows whose value passes, for matchers that do not accept ""; those outside of `within` are of no interest.
fn accepted(
    index: &dyn LabelIndex,
    m: &Matcher,
    within: Option<&RoaringBitmap>,
    budget: &dyn QueryBudget,
) -> Result<RoaringBitmap, StoreError> {
    match m.op {
        MatchOp::Equal => index.rows_with_value(&m.name, &m.value),
        MatchOp::NotEqual => index.rows_with_name(&m.name),
        MatchOp::Regex if m.value == ".+" => index.rows_with_name(&m.name),
        MatchOp::Regex => matched(index, m, within, budget),
        MatchOp::NotRegex => Ok(index.rows_with_name(&m.name)? - matched(index, m, within, budget)?),
    }
}

/// Rows whose value does not pass, for matchers that accept ""; those outside of `within` are of no interest.
fn refused(
    index: &dyn LabelIndex,
    m: &Matcher,
    within: &RoaringBitmap,
    budget: &dyn QueryBudget,
) -> Result<RoaringBitmap, StoreError> {
    match m.op {
        MatchOp::Equal => index.rows_with_name(&m.name),
        MatchOp::NotEqual => index.rows_with_value(&m.name, &m.value),
        MatchOp::Regex if m.value == ".*" => Ok(RoaringBitmap::new()),
        MatchOp::NotRegex if m.value == ".+" => index.rows_with_name(&m.name),
        MatchOp::Regex => Ok(index.rows_with_name(&m.name)? - matched(index, m, Some(within), budget)?),
        MatchOp::NotRegex => matched(index, m, Some(within), budget),
    }
}

/// Rows of `within` that have the label with a value that the pattern matches, whatever the sign. A row has one value,
/// so that what is left of all rows with the label are those that it does not match.
fn matched(
    index: &dyn LabelIndex,
    m: &Matcher,
    within: Option<&RoaringBitmap>,
    budget: &dyn QueryBudget,
) -> Result<RoaringBitmap, StoreError> {
    let wanted = Wanted::of(m);
    if let Wanted::Listed(values) = wanted {
        let mut rows = RoaringBitmap::new();
        for v in values.iter().filter(|v| !v.is_empty()) {
            let found = index.rows_with_value(&m.name, v)?;
            rows |= match within {
                Some(within) => found & within,
                None => found,
            };
        }
        return Ok(rows);
    }
    index.rows_wanted(&m.name, &wanted, within, &mut || Ok(budget.check()?))
}

/// The text with which every match of the pattern begins.
pub(crate) fn literal_prefix(pattern: &str) -> String {
    let Some(hir) = trefoil_model::re2::matcher_hir(pattern) else { return String::new() };
    let literals = regex_syntax::hir::literal::Extractor::new().limit_total(64).extract(&hir);
    let prefix = literals.longest_common_prefix().unwrap_or_default();
    // A prefix may end within a character.
    match std::str::from_utf8(prefix) {
        Ok(text) => text.to_owned(),
        Err(e) => String::from_utf8_lossy(&prefix[..e.valid_up_to()]).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_looked_at_only_as_far_as_needed() {
        let count = 1000u32;
        for counting in [0..0, 0..count, 500..501, 999..1000, 0..10] {
            let looks = Cell::new(0);
            let check = |row: u32| {
                looks.set(looks.get() + 1);
                counting.contains(&row)
            };
            let rows = Rows::new((0..count).collect(), Some(Box::new(check)));
            for width in [1, 7, 100, count] {
                for first in (0..count + width).step_by(width as usize) {
                    let some: RoaringBitmap = (first..first + width).collect();
                    let want = some.iter().any(|row| counting.contains(&row));
                    assert_eq!(rows.meet(&some), want, "{first} and {width} of {counting:?}");
                    assert_eq!(rows.contains(first), counting.contains(&first), "{first} of {counting:?}");
                }
            }
            assert_eq!(*rows.all(), counting.clone().collect::<RoaringBitmap>());
            assert!(looks.get() <= 5 * count, "{} looks", looks.get());
        }
        let rows = Rows::new((0..count).collect(), None);
        assert!(rows.meet(&[3, 5000].into_iter().collect()) && !rows.meet(&[count].into_iter().collect()));
        assert!(rows.contains(0) && rows.all().len() == u64::from(count));
    }

    #[test]
    fn prefixes_of_patterns() {
        for (pattern, want) in [
            ("abc.*", "abc"),
            ("abc|abd.*", "ab"),
            (".*", ""),
            ("(foo|fop).+", "fo"),
            ("(?i)abc.*", ""),
            ("ab?.*", "a"),
            ("", ""),
        ] {
            let got = literal_prefix(pattern);
            assert!(want.starts_with(&got) || got == want, "{pattern:?}: {got:?}");
        }
        assert_eq!(literal_prefix("node_cpu.*"), "node_cpu");
    }
}
