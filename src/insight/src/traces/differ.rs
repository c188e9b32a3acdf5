//! What separates selected spans (or log records) from others: how often each attribute has its values on either side,
//! and which of them tell the sides apart best.
//!
//! A value's score is the least difference of its shares that the counts allow with 95 % confidence, from 0 to 1: 1 when
//! all of many selected spans have it and none of many others, near 0 when there is no telling. An attribute has the score
//! of its best value. Numbers with many values are told by the threshold that separates best.

use std::cmp::Ordering;

use rustc_hash::FxHashMap;
use trefoil_model::AttributeValue;
use trefoil_model::span_values::{ValuePlace, ValueRef};

/// The class of spans that were not selected, of two classes.
pub const BASELINE: u32 = 0;
/// The class of those that were.
pub const SELECTION: u32 = 1;
/// Numbers with more values than this are told by thresholds.
const VALUES_OF_NUMBER_MAX: usize = 16;
/// Classes of numbers by their powers of two.
const POWERS: usize = 65;
/// What a value takes besides its text.
const VALUE_BYTES: u64 = 96;
/// The quantile of the confidence.
const QUANTILE: f64 = 1.96;

/// What has an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// What every span has: `name`, `kind`, `status`.
    Intrinsic,
    /// Who sent it; of a log record its stream.
    Resource,
    /// The span or log record itself.
    Own,
}

impl From<ValuePlace> for Place {
    fn from(place: ValuePlace) -> Self {
        match place {
            ValuePlace::Span => Self::Own,
            ValuePlace::Resource => Self::Resource,
        }
    }
}

/// A value that was counted. Lists, maps and bytes are text.
#[derive(Debug, Clone, PartialEq)]
pub enum Counted {
    /// Text.
    Text(Box<str>),
    /// Whole number.
    Int(i64),
    /// Floating point.
    Float(f64),
    /// Boolean.
    Bool(bool),
}

/// Takes an attribute: how many of each class have it, and its values with how many of each class have them.
pub type EachAttribute<'f> = dyn FnMut(Place, &str, &[u64], &mut dyn Iterator<Item = (&Counted, &[u64])>) + 'f;

/// The counts of an attribute.
#[derive(Debug)]
struct Attribute {
    place: Place,
    name: Box<str>,
    /// For each class how many have it.
    totals: Vec<u64>,
    texts: FxHashMap<Box<str>, u32>,
    ints: FxHashMap<i64, u32>,
    floats: FxHashMap<u64, u32>,
    bools: [Option<u32>; 2],
    values: Vec<Counted>,
    /// For each value its counts by class.
    cells: Vec<u64>,
    /// Whether values that came late were not counted apart.
    is_cut: bool,
    /// Counts by power of two, each by class; empty without numbers.
    powers: Vec<u64>,
}

/// Counts by attribute, value and class.
#[derive(Debug)]
pub struct Tally {
    classes: usize,
    attributes_max: usize,
    values_max: usize,
    /// Of each place by name.
    numbers: [FxHashMap<Box<str>, u32>; 3],
    list: Vec<Attribute>,
    current: Option<u32>,
    held: u64,
    /// Whether attributes that came late were not counted.
    pub is_cut: bool,
}

impl Tally {
    /// For so many classes, attributes, and values of each.
    pub fn new(classes: usize, attributes_max: usize, values_max: usize) -> Self {
        Self {
            classes,
            attributes_max,
            values_max,
            numbers: Default::default(),
            list: Vec::new(),
            current: None,
            held: 0,
            is_cut: false,
        }
    }

    /// Bytes that it takes.
    pub fn held_bytes(&self) -> u64 {
        self.held
    }

    /// What follows are values of this attribute.
    pub fn attribute(&mut self, place: Place, name: &str) {
        // The same one often comes again.
        if self.current.is_some_and(|at| {
            let current = &self.list[at as usize];
            current.place == place && *current.name == *name
        }) {
            return;
        }
        let numbers = &mut self.numbers[place as usize];
        self.current = match numbers.get(name) {
            Some(number) => Some(*number),
            None if self.list.len() >= self.attributes_max => {
                self.is_cut = true;
                None
            }
            None => {
                let number = self.list.len() as u32;
                self.held += VALUE_BYTES * 4 + 2 * name.len() as u64 + 8 * self.classes as u64;
                self.list.push(Attribute {
                    place,
                    name: name.into(),
                    totals: vec![0; self.classes],
                    texts: FxHashMap::default(),
                    ints: FxHashMap::default(),
                    floats: FxHashMap::default(),
                    bools: [None; 2],
                    values: Vec::new(),
                    cells: Vec::new(),
                    is_cut: false,
                    powers: Vec::new(),
                });
                numbers.insert(name.into(), number);
                Some(number)
            }
        };
    }

    /// So many more of a class have the value. Nothing, and empty text, is no value.
    pub fn value(&mut self, value: ValueRef<'_>, class: u32, count: u64) {
        let Some(own) = self.current.and_then(|at| self.list.get_mut(at as usize)) else { return };
        let json;
        let (found, text) = match value {
            ValueRef::Text("") | ValueRef::Other(AttributeValue::Null) => return,
            ValueRef::Text(text) => (own.texts.get(text), Some(text)),
            ValueRef::Int(number) => {
                own.power(number as f64, class, count, self.classes);
                (own.ints.get(&number), None)
            }
            ValueRef::Other(AttributeValue::Int(number)) => {
                return self.value(ValueRef::Int(*number), class, count);
            }
            ValueRef::Other(AttributeValue::String(text)) => return self.value(ValueRef::Text(text), class, count),
            ValueRef::Other(AttributeValue::Double(number)) => {
                own.power(*number, class, count, self.classes);
                (own.floats.get(&number.to_bits()), None)
            }
            ValueRef::Other(AttributeValue::Bool(is)) => (own.bools[usize::from(*is)].as_ref(), None),
            ValueRef::Other(other) => {
                json = other.to_text();
                (own.texts.get(json.as_str()), Some(json.as_str()))
            }
        };
        let class = class as usize;
        own.totals[class] += count;
        if let Some(number) = found {
            own.cells[*number as usize * self.classes + class] += count;
            return;
        }
        if own.values.len() >= self.values_max {
            own.is_cut = true;
            return;
        }
        let number = own.values.len() as u32;
        let counted = match (value, text) {
            (_, Some(text)) => {
                own.texts.insert(text.into(), number);
                Counted::Text(text.into())
            }
            (ValueRef::Int(n), _) => {
                own.ints.insert(n, number);
                Counted::Int(n)
            }
            (ValueRef::Other(AttributeValue::Double(x)), _) => {
                own.floats.insert(x.to_bits(), number);
                Counted::Float(*x)
            }
            (ValueRef::Other(AttributeValue::Bool(is)), _) => {
                own.bools[usize::from(*is)] = Some(number);
                Counted::Bool(*is)
            }
            _ => return,
        };
        self.held += VALUE_BYTES + 2 * text.map_or(0, str::len) as u64 + 8 * self.classes as u64;
        own.values.push(counted);
        own.cells.resize(own.cells.len() + self.classes, 0);
        let last = own.cells.len() - self.classes;
        own.cells[last + class] = count;
    }

    /// So many more of a class have the number, of an attribute of which only thresholds are told.
    pub fn number(&mut self, number: i64, class: u32, count: u64) {
        let Some(own) = self.current.and_then(|at| self.list.get_mut(at as usize)) else { return };
        own.totals[class as usize] += count;
        own.power(number as f64, class, count, self.classes);
    }

    /// Takes the counts of the second class from those of the first, which hold them too.
    pub fn exclude_selection(&mut self) {
        for own in &mut self.list {
            for cells in [&mut own.totals, &mut own.cells, &mut own.powers] {
                cells.chunks_exact_mut(2).for_each(|pair| pair[0] = pair[0].saturating_sub(pair[1]));
            }
        }
    }

    /// All counts: of each attribute, in the order of place and name, those of all its values and of each, by class.
    pub fn each(&self, f: &mut EachAttribute<'_>) {
        let mut sorted: Vec<&Attribute> = self.list.iter().collect();
        sorted.sort_by(|a, b| (a.place, &a.name).cmp(&(b.place, &b.name)));
        for own in sorted {
            let mut values = own.values.iter().zip(own.cells.chunks_exact(self.classes.max(1)));
            f(own.place, &own.name, &own.totals, &mut values);
        }
    }

    /// Attributes that tell two classes apart, the best first. `totals` are the spans of each class, `values` most values
    /// of each attribute.
    pub fn differences(&self, totals: [u64; 2], values: usize) -> Vec<Difference> {
        let seen = self.list.iter().filter(|own| own.totals.iter().any(|count| *count > 0));
        let mut out: Vec<Difference> = seen.map(|own| own.difference(totals, values)).collect();
        let key = |d: &Difference| (std::cmp::Reverse(rounded(d.score)), d.place, d.name.clone());
        out.sort_by_cached_key(key);
        out
    }
}

impl Attribute {
    fn power(&mut self, number: f64, class: u32, count: u64, classes: usize) {
        if classes != 2 {
            return;
        }
        if self.powers.is_empty() {
            self.powers = vec![0; POWERS * 2];
        }
        let power = if number >= 1.0 { 64 - (number as u64).leading_zeros() as usize } else { 0 };
        self.powers[power * 2 + class as usize] += count;
    }

    fn difference(&self, totals: [u64; 2], most: usize) -> Difference {
        let counts = |cells: &[u64]| [cells.first().copied().unwrap_or(0), cells.get(1).copied().unwrap_or(0)];
        let has = counts(&self.totals);
        let only_numbers = self.texts.is_empty() && self.bools == [None; 2] && !self.powers.is_empty();
        let mut values: Vec<ValueDifference> = Vec::new();
        if only_numbers && (self.values.is_empty() || self.values.len() > VALUES_OF_NUMBER_MAX) {
            let mut above = [0, 0];
            let thresholds = self.powers.chunks_exact(2).enumerate().rev().filter_map(|(power, cells)| {
                above = [above[0] + cells[0], above[1] + cells[1]];
                let is_told = power > 0 && cells != [0, 0];
                is_told.then(|| ValueDifference::new(Told::AtLeast(1 << (power - 1)), above, totals))
            });
            values.extend(thresholds.max_by(|a, b| a.score.total_cmp(&b.score)));
        } else {
            let all = self.values.iter().zip(self.cells.chunks_exact(2));
            values
                .extend(all.map(|(value, cells)| ValueDifference::new(Told::Is(value.clone()), counts(cells), totals)));
        }
        let lacks = [totals[0].saturating_sub(has[0]), totals[1].saturating_sub(has[1])];
        if lacks != [0, 0] {
            values.push(ValueDifference::new(Told::Absent, lacks, totals));
        }
        values.sort_by(ValueDifference::order);
        let score = values.first().map_or(0.0, |best| best.score);
        values.truncate(most);
        let distinct = self.values.len();
        Difference { place: self.place, name: self.name.to_string(), score, has, distinct, is_cut: self.is_cut, values }
    }
}

/// How an attribute differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// What has it.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// That of its best value.
    pub score: f64,
    /// How many of each class have it.
    pub has: [u64; 2],
    /// Values that were told apart.
    pub distinct: usize,
    /// Whether there were more.
    pub is_cut: bool,
    /// The best first.
    pub values: Vec<ValueDifference>,
}

/// What is told of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// It is this.
    Is(Counted),
    /// It is a number and at least this.
    AtLeast(u64),
    /// It is not there.
    Absent,
}

/// How a value differs.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueDifference {
    /// The value.
    pub told: Told,
    /// How many of each class.
    pub counts: [u64; 2],
    /// Their shares.
    pub shares: [f64; 2],
    /// The least difference of the shares that the counts allow, 0 to 1.
    pub score: f64,
}

impl ValueDifference {
    fn new(told: Told, counts: [u64; 2], totals: [u64; 2]) -> Self {
        let share = |i: usize| if totals[i] == 0 { 0.0 } else { counts[i] as f64 / totals[i] as f64 };
        let shares = [share(0), share(1)];
        // With two more on either side, so that few that agree are not taken for certain (Agresti and Coull).
        let variance = |i: usize| {
            let n = totals[i] as f64 + 4.0;
            let p = (counts[i] as f64 + 2.0) / n;
            p * (1.0 - p) / n
        };
        let doubt = QUANTILE * (variance(0) + variance(1)).sqrt();
        let is_told = totals[0] > 0 && totals[1] > 0;
        let score = if is_told { ((shares[0] - shares[1]).abs() - doubt).max(0.0) } else { 0.0 };
        Self { told, counts, shares, score }
    }

    /// The best first; of those that are as good those that selected spans have.
    fn order(&self, other: &Self) -> Ordering {
        let more = |v: &Self| v.shares[1] - v.shares[0];
        let by_value = || format!("{:?}", self.told).cmp(&format!("{:?}", other.told));
        rounded(other.score)
            .cmp(&rounded(self.score))
            .then_with(|| more(other).total_cmp(&more(self)))
            .then_with(|| other.counts.cmp(&self.counts))
            .then_with(by_value)
    }
}

/// A score as it is compared: what differs in the last digits is the same.
fn rounded(score: f64) -> u64 {
    (score * 1e6).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(value: &ValueDifference) -> String {
        let what = match &value.told {
            Told::Is(Counted::Text(text)) => text.to_string(),
            other => format!("{other:?}"),
        };
        format!("{what} {}:{}", value.counts[1], value.counts[0])
    }

    #[test]
    fn what_separates_comes_first() {
        let mut tally = Tally::new(2, 100, 100);
        for i in 0..1000u32 {
            let class = u32::from(i % 10 == 0);
            tally.attribute(Place::Own, "version");
            tally.value(ValueRef::Text(if class == 1 { "new" } else { "old" }), class, 1);
            tally.attribute(Place::Own, "noise");
            tally.value(ValueRef::Text(["a", "b", "c"][(i / 10 % 3) as usize]), class, 1);
            tally.attribute(Place::Own, "size");
            tally.value(ValueRef::Int(i64::from(if class == 1 { 5000 + i } else { i })), class, 1);
            if class == 1 {
                tally.attribute(Place::Own, "retry");
                tally.value(ValueRef::Other(&AttributeValue::Bool(true)), class, 1);
            }
            tally.attribute(Place::Own, "id");
            tally.value(ValueRef::Text(&i.to_string()), class, 1);
        }
        let found = tally.differences([900, 100], 3);
        let shown: Vec<(&str, String)> = found.iter().map(|d| (d.name.as_str(), told(&d.values[0]))).collect();
        let of = |name: &str| found.iter().find(|d| d.name == name).unwrap();
        assert!(shown[..3].iter().all(|(name, _)| ["version", "size", "retry"].contains(name)), "{shown:?}");
        assert_eq!(told(&of("version").values[0]), "new 100:0");
        assert_eq!(told(&of("size").values[0]), "AtLeast(4096) 100:0");
        assert_eq!(told(&of("retry").values[1]), "Absent 0:900");
        assert!(of("version").score > 0.9 && of("noise").score < 0.1 && of("id").score < 0.05, "{found:?}");
        assert!(of("id").is_cut && of("id").distinct == 100 && !of("noise").is_cut);
    }

    #[test]
    fn few_prove_little() {
        let of = |counts, totals| ValueDifference::new(Told::Absent, counts, totals).score;
        assert_eq!(of([0, 1], [1000, 0]), 0.0);
        assert!(of([0, 1], [1000, 1]) < of([0, 10], [1000, 10]));
        assert!(of([0, 10], [1000, 10]) < of([0, 1000], [1000, 1000]));
        assert_eq!(of([500, 500], [1000, 1000]), 0.0);
    }

    #[test]
    fn all_that_is_held_is_bounded() {
        let mut tally = Tally::new(2, 3, 3);
        for i in 0..10u32 {
            tally.attribute(Place::Own, &format!("n{i}"));
            for j in 0..10 {
                tally.value(ValueRef::Int(j), 0, 1);
            }
        }
        assert!(tally.is_cut && tally.held_bytes() < 10_000, "{}", tally.held_bytes());
        assert_eq!(tally.differences([10, 10], 9).len(), 3);
    }
}
