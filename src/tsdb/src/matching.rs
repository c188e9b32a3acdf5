//! From matchers to rows: the same evaluation over the memtable's index and over every part's.

use roaring::RoaringBitmap;
use trefoil_model::{MatchOp, Matcher, QueryBudget, StoreError};

/// How many dictionary entries are looked at between two looks at the deadline.
const VALUES_PER_CHECK: u32 = 1024;

/// An inverted index: label name -> value -> rows. Rows number the series of one memtable or part.
pub(crate) trait LabelIndex {
    /// Every row.
    fn all_rows(&self) -> Result<RoaringBitmap, StoreError>;

    /// Rows that have the label at all.
    fn rows_with_name(&self, name: &str) -> Result<RoaringBitmap, StoreError>;

    /// Rows that have the label with this value.
    fn rows_with_value(&self, name: &str, value: &str) -> Result<RoaringBitmap, StoreError>;

    /// Rows whose value begins with `prefix` and is accepted.
    fn rows_accepted(
        &self,
        name: &str,
        prefix: &str,
        accept: &mut dyn FnMut(&str) -> Result<bool, StoreError>,
    ) -> Result<RoaringBitmap, StoreError>;

    /// Calls `each` for every value of the label that one of `rows` has (`None`: that any row has), ascending.
    fn values(
        &self,
        name: &str,
        rows: Option<&RoaringBitmap>,
        each: &mut dyn FnMut(&str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Calls `each` for every label name that one of `rows` has (`None`: that any row has), ascending.
    fn names(
        &self,
        rows: Option<&RoaringBitmap>,
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
        let found = accepted(index, m, budget)?;
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
        rows -= refused(index, m, budget)?;
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

/// Rows whose value passes, for matchers that do not accept "".
fn accepted(index: &dyn LabelIndex, m: &Matcher, budget: &dyn QueryBudget) -> Result<RoaringBitmap, StoreError> {
    match (m.op, m.literal_alternatives()) {
        (MatchOp::Equal, _) => index.rows_with_value(&m.name, &m.value),
        (MatchOp::Regex, Some(values)) => union(index, &m.name, values),
        _ if accepts_all_but_empty(m) => index.rows_with_name(&m.name),
        (MatchOp::NotRegex, Some(values)) => Ok(index.rows_with_name(&m.name)? - union(index, &m.name, values)?),
        _ => scan(index, m, true, budget),
    }
}

/// Rows whose value does not pass, for matchers that accept "".
fn refused(index: &dyn LabelIndex, m: &Matcher, budget: &dyn QueryBudget) -> Result<RoaringBitmap, StoreError> {
    match (m.op, m.literal_alternatives()) {
        (MatchOp::NotEqual, _) => index.rows_with_value(&m.name, &m.value),
        (MatchOp::Equal, _) => index.rows_with_name(&m.name),
        (MatchOp::NotRegex, Some(values)) => union(index, &m.name, values),
        (MatchOp::Regex, Some(values)) => Ok(index.rows_with_name(&m.name)? - union(index, &m.name, values)?),
        (MatchOp::Regex, None) if m.value == ".*" => Ok(RoaringBitmap::new()),
        (MatchOp::NotRegex, None) if m.value == ".+" => index.rows_with_name(&m.name),
        _ => scan(index, m, false, budget),
    }
}

fn accepts_all_but_empty(m: &Matcher) -> bool {
    match m.op {
        MatchOp::NotEqual => m.value.is_empty(),
        MatchOp::Regex => m.value == ".+",
        MatchOp::Equal | MatchOp::NotRegex => false,
    }
}

fn union(index: &dyn LabelIndex, name: &str, values: &[String]) -> Result<RoaringBitmap, StoreError> {
    let mut rows = RoaringBitmap::new();
    for v in values.iter().filter(|v| !v.is_empty()) {
        rows |= index.rows_with_value(name, v)?;
    }
    Ok(rows)
}

/// Tests the values of the dictionary: all that begin as the pattern must.
fn scan(
    index: &dyn LabelIndex,
    m: &Matcher,
    passing: bool,
    budget: &dyn QueryBudget,
) -> Result<RoaringBitmap, StoreError> {
    // Values without the prefix do not match the pattern: they are of interest when we look for those.
    let pattern_matches = passing != m.op.is_negative();
    let prefix = if pattern_matches { literal_prefix(&m.value) } else { String::new() };
    let mut seen = 0u32;
    index.rows_accepted(&m.name, &prefix, &mut |value| {
        seen = seen.wrapping_add(1);
        if seen.is_multiple_of(VALUES_PER_CHECK) {
            budget.check()?;
        }
        Ok(m.matches(value) == passing)
    })
}

/// The text with which every match of the pattern begins.
fn literal_prefix(pattern: &str) -> String {
    let Ok(hir) = regex_syntax::parse(&format!("(?s:{pattern})")) else { return String::new() };
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
