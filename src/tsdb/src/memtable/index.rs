//! The memtable's inverted index: dictionaries and postings of one tenant's series, and who is active on which day.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use rustc_hash::FxBuildHasher;
use trefoil_model::{Labels, StoreError, TimeRange};

use crate::matching::{LabelIndex, Rows, VALUES_PER_CHECK, Wanted};

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

    fn meets(&self, rows: &Rows<'_>) -> bool {
        match self {
            Self::One(r) => rows.contains(*r),
            Self::Many(more) => rows.meet(more),
        }
    }
}

/// The values of a label. Found by hash, because every new series looks for each of its values; sorted when a reader
/// wants them so.
#[derive(Debug, Default)]
struct Dictionary {
    rows: RoaringBitmap,
    /// In order of arrival.
    values: Vec<(Box<str>, Postings)>,
    places: HashTable<Place>,
    /// The first of `values` in the order of their texts. Readers bring it up to date.
    order: Mutex<Arc<Vec<u32>>>,
}

/// Where a value stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    hash: u32,
    at: u32,
}

impl Place {
    /// The table looks at the highest and the lowest bits.
    fn spread(hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(hash)
    }
}

fn hash_of(value: &str) -> u32 {
    FxBuildHasher.hash_one(value) as u32
}

/// Takes a label name and its values with their numbers of rows.
pub(crate) type LookAtDictionary<'a> = dyn FnMut(&str, &mut dyn Iterator<Item = (&str, u64)>) + 'a;

impl Dictionary {
    fn get(&self, value: &str) -> Option<&Postings> {
        let hash = hash_of(value);
        let is_it = |p: &Place| p.hash == hash && *self.values[p.at as usize].0 == *value;
        self.places.find(Place::spread(hash), is_it).map(|p| &self.values[p.at as usize].1)
    }

    /// Notes that a row has a value; true when the value is new.
    fn insert(&mut self, row: u32, value: &str) -> bool {
        self.rows.insert(row);
        let hash = hash_of(value);
        let values = &mut self.values;
        let known = self.places.find(Place::spread(hash), |p| p.hash == hash && *values[p.at as usize].0 == *value);
        if let Some(place) = known {
            values[place.at as usize].1.insert(row);
            return false;
        }
        let at = u32::try_from(values.len()).expect("there are no more values than rows");
        self.places.insert_unique(Place::spread(hash), Place { hash, at }, |p| Place::spread(p.hash));
        if values.len() == values.capacity() {
            values.reserve_exact((values.len() / 4).max(4));
        }
        values.push((Box::from(value), Postings::One(row)));
        true
    }

    /// Places of all values in the order of their texts.
    fn ordered(&self) -> Arc<Vec<u32>> {
        let mut order = self.order.lock();
        if order.len() < self.values.len() {
            let sorted = Arc::make_mut(&mut order);
            sorted.extend(sorted.len() as u32..self.values.len() as u32);
            // What was sorted before is one run, which costs little.
            sorted.sort_by(|a, b| self.values[*a as usize].0.cmp(&self.values[*b as usize].0));
        }
        Arc::clone(&order)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct MemIndex {
    all: RoaringBitmap,
    names: BTreeMap<Box<str>, Dictionary>,
    /// UTC day -> rows with samples on it.
    days: BTreeMap<i64, RoaringBitmap>,
    order: Arc<Mutex<RowOrder>>,
}

/// Rows in the order of their labels, as far as readers wanted them.
#[derive(Debug, Default)]
pub(crate) struct RowOrder {
    rows: Arc<Vec<u32>>,
    /// Those that `rows` has.
    all: RoaringBitmap,
}

impl RowOrder {
    /// The rows `all`, which only ever grow, in the order of their labels.
    pub(crate) fn of(&mut self, all: RoaringBitmap, labels: impl Fn(u32) -> Labels) -> Arc<Vec<u32>> {
        if all.len() > self.all.len() {
            let new = &all - &self.all;
            let rows = self.rows.iter().copied().chain(new.iter());
            let mut sorted: Vec<(Labels, u32)> = rows.map(|row| (labels(row), row)).collect();
            // What was sorted before is one run, which costs little.
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            self.rows = Arc::new(sorted.into_iter().map(|(_, row)| row).collect());
            self.all = all;
        }
        Arc::clone(&self.rows)
    }
}

impl MemIndex {
    /// Adds a series; returns about how many bytes that took.
    pub(crate) fn insert(&mut self, row: u32, labels: &Labels) -> usize {
        let mut bytes = 8;
        self.all.insert(row);
        for (name, value) in labels {
            let dictionary = match self.names.get_mut(name) {
                Some(known) => known,
                None => {
                    bytes += name.len() + 160;
                    self.names.entry(Box::from(name)).or_default()
                }
            };
            bytes += 4;
            if dictionary.insert(row, value) {
                bytes += value.len() + 64;
            }
        }
        bytes
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.all.len()
    }

    /// All rows, and where their order is kept: that takes long and needs no lock of the index.
    pub(crate) fn rows_and_order(&self) -> (RoaringBitmap, Arc<Mutex<RowOrder>>) {
        (self.all.clone(), Arc::clone(&self.order))
    }

    /// Calls `each` with every label name and its values, in any order, with their numbers of rows.
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
        if let Some(postings) = self.names.get(name).and_then(|d| d.get(value)) {
            postings.add_to(&mut rows);
        }
        Ok(rows)
    }

    fn rows_wanted(
        &self,
        name: &str,
        wanted: &Wanted<'_>,
        within: Option<&RoaringBitmap>,
        check: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<RoaringBitmap, StoreError> {
        let mut rows = RoaringBitmap::new();
        let Some(dictionary) = self.names.get(name) else { return Ok(rows) };
        let mut seen = 0u32;
        for (value, postings) in &dictionary.values {
            seen = seen.wrapping_add(1);
            if seen.is_multiple_of(VALUES_PER_CHECK) {
                check()?;
            }
            if value.starts_with(wanted.prefix()) && wanted.contains(value) {
                postings.add_to(&mut rows);
            }
        }
        if let Some(within) = within {
            rows &= within;
        }
        Ok(rows)
    }

    fn values(
        &self,
        name: &str,
        wanted: &Wanted<'_>,
        rows: Option<&Rows<'_>>,
        each: &mut dyn FnMut(&str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Some(dictionary) = self.names.get(name) else { return Ok(()) };
        for at in dictionary.ordered().iter() {
            let (value, postings) = &dictionary.values[*at as usize];
            if wanted.contains(value) && rows.is_none_or(|rows| postings.meets(rows)) {
                each(value)?;
            }
        }
        Ok(())
    }

    fn names(
        &self,
        rows: Option<&Rows<'_>>,
        each: &mut dyn FnMut(&str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for (name, dictionary) in &self.names {
            if rows.is_none_or(|rows| rows.meet(&dictionary.rows)) {
                each(name)?;
            }
        }
        Ok(())
    }
}
