//! The memtable's inverted index: dictionaries and postings of one tenant's series, and who is active on which day.

use std::collections::BTreeMap;
use std::ops::Bound;

use roaring::RoaringBitmap;
use trefoil_model::{Labels, StoreError, TimeRange};

use crate::matching::{LabelIndex, VALUES_PER_CHECK, Wanted};

/// Rows of one label value. Most values of high-cardinality labels stand for one row.
#[derive(Debug)]
enum Postings {
    One(u32),
    Many(RoaringBitmap),
}

impl Postings {
    fn insert(&mut self, row: u32) {
        match self {
            Self::One(r) if *r == row => {}
            Self::One(r) => *self = Self::Many([*r, row].into_iter().collect()),
            Self::Many(rows) => {
                rows.insert(row);
            }
        }
    }

    fn add_to(&self, rows: &mut RoaringBitmap) {
        match self {
            Self::One(r) => {
                rows.insert(*r);
            }
            Self::Many(more) => *rows |= more,
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Many(rows) => rows.len(),
        }
    }

    fn meets(&self, rows: &RoaringBitmap) -> bool {
        match self {
            Self::One(r) => rows.contains(*r),
            Self::Many(more) => !more.is_disjoint(rows),
        }
    }
}

#[derive(Debug, Default)]
struct Dictionary {
    rows: RoaringBitmap,
    values: BTreeMap<Box<str>, Postings>,
}

/// Takes a label name and its values with their numbers of rows.
pub(crate) type LookAtDictionary<'a> = dyn FnMut(&str, &mut dyn Iterator<Item = (&str, u64)>) + 'a;

impl Dictionary {
    /// The values that begin with a text, ascending.
    fn from<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Postings)> {
        let from = self.values.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.map(|(value, rows)| (&**value, rows)).take_while(move |(value, _)| value.starts_with(prefix))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct MemIndex {
    all: RoaringBitmap,
    names: BTreeMap<Box<str>, Dictionary>,
    /// UTC day -> rows with samples on it.
    days: BTreeMap<i64, RoaringBitmap>,
}

impl MemIndex {
    /// Adds a series; returns about how many bytes that took.
    pub(crate) fn insert(&mut self, row: u32, labels: &Labels) -> usize {
        let mut bytes = 8;
        self.all.insert(row);
        for (name, value) in labels {
            if !self.names.contains_key(name) {
                self.names.insert(Box::from(name), Dictionary::default());
                bytes += name.len() + 96;
            }
            let dictionary = self.names.get_mut(name).expect("the name was just added");
            dictionary.rows.insert(row);
            bytes += 4;
            match dictionary.values.get_mut(value) {
                Some(postings) => postings.insert(row),
                None => {
                    dictionary.values.insert(Box::from(value), Postings::One(row));
                    bytes += value.len() + 64;
                }
            }
        }
        bytes
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.all.len()
    }

    /// Calls `each` with every label name and its values with their numbers of rows; both ascend.
    pub(crate) fn for_each_dictionary(&self, each: &mut LookAtDictionary<'_>) {
        for (name, dictionary) in &self.names {
            each(name, &mut dictionary.values.iter().map(|(value, rows)| (&**value, rows.len())));
        }
    }

    /// Notes that a row has samples on a day.
    pub(crate) fn activate(&mut self, day: i64, row: u32) {
        self.days.entry(day).or_default().insert(row);
    }

    /// Days with samples and their rows, ascending.
    pub(crate) fn days(&self) -> impl Iterator<Item = (i64, &RoaringBitmap)> {
        self.days.iter().map(|(day, rows)| (*day, rows))
    }

    /// Rows with samples on a day that the range touches.
    pub(crate) fn active_rows(&self, range: TimeRange) -> RoaringBitmap {
        let mut rows = RoaringBitmap::new();
        for (day, active) in &self.days {
            let first = day.saturating_mul(trefoil_model::time::DAY_MS);
            if range.overlaps(first, first.saturating_add(trefoil_model::time::DAY_MS - 1)) {
                rows |= active;
            }
        }
        rows
    }
}

impl LabelIndex for MemIndex {
    fn all_rows(&self) -> Result<RoaringBitmap, StoreError> {
        Ok(self.all.clone())
    }

    fn rows_with_name(&self, name: &str) -> Result<RoaringBitmap, StoreError> {
        Ok(self.names.get(name).map(|d| d.rows.clone()).unwrap_or_default())
    }

    fn rows_with_value(&self, name: &str, value: &str) -> Result<RoaringBitmap, StoreError> {
        let mut rows = RoaringBitmap::new();
        if let Some(postings) = self.names.get(name).and_then(|d| d.values.get(value)) {
            postings.add_to(&mut rows);
        }
        Ok(rows)
    }

    fn rows_wanted(
        &self,
        name: &str,
        wanted: &Wanted<'_>,
        check: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<RoaringBitmap, StoreError> {
        let mut rows = RoaringBitmap::new();
        let Some(dictionary) = self.names.get(name) else { return Ok(rows) };
        let mut seen = 0u32;
        for (value, postings) in dictionary.from(wanted.prefix()) {
            seen = seen.wrapping_add(1);
            if seen.is_multiple_of(VALUES_PER_CHECK) {
                check()?;
            }
            if wanted.contains(value) {
                postings.add_to(&mut rows);
            }
        }
        Ok(rows)
    }

    fn values(
        &self,
        name: &str,
        wanted: &Wanted<'_>,
        rows: Option<&RoaringBitmap>,
        each: &mut dyn FnMut(&str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Some(dictionary) = self.names.get(name) else { return Ok(()) };
        for (value, postings) in dictionary.from(wanted.prefix()) {
            if wanted.contains(value) && rows.is_none_or(|rows| postings.meets(rows)) {
                each(value)?;
            }
        }
        Ok(())
    }

    fn names(
        &self,
        rows: Option<&RoaringBitmap>,
        each: &mut dyn FnMut(&str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for (name, dictionary) in &self.names {
            if rows.is_none_or(|rows| !dictionary.rows.is_disjoint(rows)) {
                each(name)?;
            }
        }
        Ok(())
    }
}
