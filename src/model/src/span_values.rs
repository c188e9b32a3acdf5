//! Counting values of attributes of spans, class by class, without making spans of them.

use std::ops::ControlFlow;

use rustc_hash::FxHashMap;

use crate::{AttributeValue, Attributes, SpanFold, SpanRows};

/// The class of spans that are not counted.
pub const NO_CLASS: u32 = u32::MAX;

/// What has an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValuePlace {
    /// The span itself.
    Span,
    /// Who sent it.
    Resource,
}

/// A value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    /// Text.
    Text(&'a str),
    /// Whole number.
    Int(i64),
    /// Any other.
    Other(&'a AttributeValue),
}

impl<'a> ValueRef<'a> {
    /// Of a value.
    pub fn of(value: &'a AttributeValue) -> Self {
        match value {
            AttributeValue::String(text) => Self::Text(text),
            AttributeValue::Int(number) => Self::Int(*number),
            other => Self::Other(other),
        }
    }
}

/// Puts spans into classes, and takes how often their attributes have their values. Of a repeated name the first counts.
pub trait ValueCounter {
    /// Appends the class of each span, [`NO_CLASS`] for none; breaks when it wants no more.
    fn classify(&mut self, rows: &SpanRows<'_>, classes: &mut Vec<u32>) -> ControlFlow<()>;
    /// What follows are values of this attribute.
    fn attribute(&mut self, place: ValuePlace, name: &str);
    /// So many more spans of a class have the value.
    fn value(&mut self, value: ValueRef<'_>, class: u32, count: u64);
}

/// Counts spans that are delivered in sets.
pub struct CountedSets<'c> {
    counter: &'c mut (dyn ValueCounter + 'c),
    classes: Vec<u32>,
}

impl<'c> CountedSets<'c> {
    /// For a counter.
    pub fn new(counter: &'c mut (dyn ValueCounter + 'c)) -> Self {
        Self { counter, classes: Vec::new() }
    }
}

impl SpanFold for CountedSets<'_> {
    fn rows(&mut self, rows: &SpanRows<'_>) -> ControlFlow<()> {
        self.classes.clear();
        self.counter.classify(rows, &mut self.classes)?;
        let mut counts: FxHashMap<(u32, u32), u64> = FxHashMap::default();
        for (set, class) in rows.set_of.iter().zip(&self.classes).filter(|(_, class)| **class != NO_CLASS) {
            *counts.entry((*set, *class)).or_default() += 1;
        }
        let mut counts: Vec<((u32, u32), u64)> = counts.into_iter().collect();
        counts.sort_unstable();
        for ((set, class), count) in counts {
            let set = &rows.sets[set as usize];
            of_attributes(self.counter, ValuePlace::Resource, &set.resource.attributes, class, count);
            of_attributes(self.counter, ValuePlace::Span, &set.span.attributes, class, count);
        }
        ControlFlow::Continue(())
    }
}

/// Tells the first value of each name.
pub fn of_attributes(
    counter: &mut (dyn ValueCounter + '_),
    place: ValuePlace,
    attributes: &Attributes,
    class: u32,
    count: u64,
) {
    for (at, (name, value)) in attributes.iter().enumerate() {
        if attributes[..at].iter().all(|(n, _)| n != name) {
            counter.attribute(place, name);
            counter.value(ValueRef::of(value), class, count);
        }
    }
}
