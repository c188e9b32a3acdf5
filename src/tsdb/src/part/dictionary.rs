//! Collects which rows have which label while the series of a part go by, in far less memory than their labels take:
//! each different value once, and a number for each label of each row.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use roaring::RoaringBitmap;
use rustc_hash::FxBuildHasher;
use trefoil_model::Labels;

use super::layout::{Extent, NameEntry};
use super::postings::{put_bitmap, put_postings};

/// All labels of a part's rows.
#[derive(Default)]
pub(crate) struct Dictionaries {
    /// In order of arrival; a part has few names.
    names: Vec<Values>,
    /// Where the last row's labels stand in `names`: the next row mostly has the same names.
    last: Vec<usize>,
}

/// The values of one label.
#[derive(Default)]
struct Values {
    name: String,
    /// The rows that have the label.
    rows: RoaringBitmap,
    /// The number of the value of each of these rows.
    numbers: Vec<u32>,
    /// All values behind each other, and where each ends.
    text: String,
    ends: Vec<usize>,
    places: HashTable<u32>,
}

impl Values {
    fn value(&self, number: u32) -> &str {
        let at = number as usize;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start..self.ends[at]]
    }

    fn add(&mut self, row: u32, value: &str) {
        // Neighbours often share it.
        let known = self.numbers.last().copied().filter(|last| self.value(*last) == value);
        let number = known.unwrap_or_else(|| self.number(value));
        self.rows.insert(row);
        self.numbers.push(number);
    }

    fn number(&mut self, value: &str) -> u32 {
        let hash = hash_of(value);
        if let Some(number) = self.places.find(hash, |number| self.value(*number) == value) {
            return *number;
        }
        let number = u32::try_from(self.ends.len()).expect("there are no more values than rows");
        self.text.push_str(value);
        self.ends.push(self.text.len());
        let (text, ends) = (&self.text, &self.ends);
        let hash_at = |number: &u32| {
            let at = *number as usize;
            hash_of(&text[if at == 0 { 0 } else { ends[at - 1] }..ends[at]])
        };
        self.places.insert_unique(hash, number, hash_at);
        number
    }

    /// Appends postings and values; what was collected is given back.
    fn put(mut self, out: &mut Vec<u8>) -> NameEntry {
        self.places = HashTable::new();
        // Where the rows of each value begin, then the rows themselves in that order.
        let mut starts = vec![0u32; self.ends.len() + 1];
        for number in &self.numbers {
            starts[*number as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut next = starts.clone();
        let mut rows = vec![0u32; self.numbers.len()];
        for (row, number) in self.rows.iter().zip(std::mem::take(&mut self.numbers)) {
            let place = &mut next[number as usize];
            rows[*place as usize] = row;
            *place += 1;
        }
        let mut order: Vec<u32> = (0..self.ends.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.value(*a).cmp(self.value(*b)));
        let mut fst = fst::MapBuilder::memory();
        for number in order {
            fst.insert(self.value(number), out.len() as u64).expect("values ascend and differ");
            let at = number as usize;
            put_postings(&rows[starts[at] as usize..starts[at + 1] as usize], out);
        }
        let rows_at = out.len() as u64;
        put_bitmap(self.rows, out);
        let start = out.len();
        out.extend(fst.into_inner().expect("writing to memory does not fail"));
        NameEntry { name: self.name, values: Extent::of(out, start), rows_at }
    }
}

fn hash_of(value: &str) -> u64 {
    FxBuildHasher.hash_one(value)
}

impl Dictionaries {
    /// Adds the labels of a row; rows ascend.
    pub(crate) fn add(&mut self, row: u32, labels: &Labels) {
        for (at, (name, value)) in labels.iter().enumerate() {
            let guess = self.last.get(at).copied().filter(|place| self.names[*place].name == name);
            let place = guess.unwrap_or_else(|| self.place(name));
            if self.last.len() <= at {
                self.last.push(place);
            }
            self.last[at] = place;
            self.names[place].add(row, value);
        }
    }

    fn place(&mut self, name: &str) -> usize {
        self.names.iter().position(|values| values.name == name).unwrap_or_else(|| {
            self.names.push(Values { name: name.to_owned(), ..Values::default() });
            self.names.len() - 1
        })
    }

    /// Appends all postings and dictionaries, by ascending names.
    pub(crate) fn put(self, out: &mut Vec<u8>) -> Vec<NameEntry> {
        let mut names = self.names;
        names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        names.into_iter().map(|values| values.put(out)).collect()
    }
}
