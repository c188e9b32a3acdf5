//! Collecting: each document goes into the buckets that it belongs to.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_model::{QueryBudget, StoreError};

use super::bucket::Key;
use super::metric::MetricState;
use super::{Agg, Aggs, BUCKETS_MAX, CompositeBy, Kind, Terms};
use crate::Error;
use crate::date::{Format, Reader, floor_ms};
use crate::doc::{Doc, Field, Value};

/// What a bucket takes beside its key and what is in it.
const BUCKET_BYTES: u64 = 120;

/// What is being collected.
pub(crate) struct Collected<'a> {
    pub(super) aggs: &'a Aggs,
    pub(super) states: Vec<State>,
    pub(super) budget: &'a dyn QueryBudget,
}

impl<'a> Collected<'a> {
    pub(super) fn new(aggs: &'a Aggs, budget: &'a dyn QueryBudget) -> Self {
        Self { aggs, states: new_states(aggs), budget }
    }
}

/// A bucket that grows.
#[derive(Debug)]
pub(super) struct Growing {
    pub(super) count: u64,
    pub(super) states: Vec<State>,
}

/// What one aggregation has of one bucket above it.
#[derive(Debug)]
pub(super) enum State {
    ByKey(FxHashMap<Key, Growing>),
    /// By key in milliseconds, or by the number of the interval.
    Histogram(BTreeMap<i64, Growing>),
    /// One for each filter or range, the other documents last.
    Listed(Vec<Growing>),
    Single(Box<Growing>),
    Metric(MetricState),
    Nothing,
}

fn new_states(aggs: &Aggs) -> Vec<State> {
    aggs.0.iter().map(State::new).collect()
}

impl Growing {
    pub(super) fn new(subs: &Aggs) -> Self {
        Self { count: 0, states: new_states(subs) }
    }

    fn add(&mut self, subs: &Aggs, doc: &Doc<'_>, budget: &dyn QueryBudget) -> Result<(), Error> {
        self.count += 1;
        add_all(subs, &mut self.states, doc, budget)
    }
}

impl State {
    fn new(agg: &Agg) -> Self {
        let listed = |count: usize| Self::Listed((0..count).map(|_| Growing::new(&agg.subs)).collect());
        match &agg.kind {
            Kind::Terms(_) | Kind::Composite(_) => Self::ByKey(FxHashMap::default()),
            Kind::DateHistogram(_) | Kind::Histogram(_) => Self::Histogram(BTreeMap::new()),
            Kind::Filters(filters) => listed(filters.filters.len() + 1),
            Kind::Ranges(ranges) => listed(ranges.ranges.len()),
            Kind::Filter(_) | Kind::Missing(_) | Kind::Nested => Self::Single(Box::new(Growing::new(&agg.subs))),
            Kind::Metric(metric) => Self::Metric(MetricState::new(metric)),
            Kind::Pipeline(_) => Self::Nothing,
        }
    }
}

pub(super) fn charge(budget: &dyn QueryBudget, bytes: u64) -> Result<(), Error> {
    Ok(budget.charge_bytes(bytes).map_err(StoreError::from)?)
}

fn bucket_bytes(subs: &Aggs) -> u64 {
    BUCKET_BYTES + 120 * subs.0.len() as u64
}

pub(super) fn add_all(aggs: &Aggs, states: &mut [State], doc: &Doc<'_>, budget: &dyn QueryBudget) -> Result<(), Error> {
    for (agg, state) in aggs.0.iter().zip(states) {
        add(agg, state, doc, budget)?;
    }
    Ok(())
}

fn add(agg: &Agg, state: &mut State, doc: &Doc<'_>, budget: &dyn QueryBudget) -> Result<(), Error> {
    let subs = &agg.subs;
    match (&agg.kind, state) {
        (Kind::Terms(terms), State::ByKey(buckets)) => {
            for key in terms_keys(terms, doc)? {
                into_key(buckets, key, subs, doc, budget)?;
            }
        }
        (Kind::Composite(composite), State::ByKey(buckets)) => {
            let mut keys: Vec<Vec<Key>> = vec![Vec::new()];
            for source in &composite.sources {
                let mut values = composite_keys(&source.by, doc);
                if values.is_empty() {
                    if !source.takes_missing {
                        return Ok(());
                    }
                    // No list is a value, so it stands for none.
                    values.push(Key::List(Vec::new()));
                }
                check_product(keys.len(), values.len())?;
                let longer = |key: &Vec<Key>| {
                    let key = key.clone();
                    values
                        .iter()
                        .map(move |v| key.iter().cloned().chain([v.clone()]).collect::<Vec<_>>())
                        .collect::<Vec<_>>()
                };
                keys = keys.iter().flat_map(longer).collect();
            }
            for key in keys {
                into_key(buckets, Key::List(key), subs, doc, budget)?;
            }
        }
        (Kind::DateHistogram(histogram), State::Histogram(buckets)) => {
            let mut keys = Vec::new();
            each_time(doc, &histogram.field, histogram.missing_ms, &mut |ms| {
                let key = histogram.rounding.floor(ms);
                if histogram.hard.is_none_or(|(first, last)| first <= ms && ms <= last) && keys.last() != Some(&key) {
                    keys.push(key);
                }
            });
            into_numbers(buckets, keys, subs, doc, budget)?;
        }
        (Kind::Histogram(histogram), State::Histogram(buckets)) => {
            let mut keys = Vec::new();
            each_number(doc, &histogram.field, histogram.missing, &mut |value| {
                let key = ((value - histogram.offset) / histogram.interval).floor();
                let is_inside = histogram.hard.is_none_or(|(first, last)| first <= value && value <= last);
                if is_inside && key.abs() < 9e15 && keys.last() != Some(&(key as i64)) {
                    keys.push(key as i64);
                }
            });
            into_numbers(buckets, keys, subs, doc, budget)?;
        }
        (Kind::Filters(filters), State::Listed(buckets)) => {
            let mut has_any = false;
            for ((_, query), bucket) in filters.filters.iter().zip(buckets.iter_mut()) {
                if query.matches(doc) {
                    has_any = true;
                    bucket.add(subs, doc, budget)?;
                }
            }
            if let (false, true, Some(other)) = (has_any, filters.other.is_some(), buckets.last_mut()) {
                other.add(subs, doc, budget)?;
            }
        }
        (Kind::Ranges(ranges), State::Listed(buckets)) => {
            let mut values = Vec::new();
            if ranges.format.is_some() {
                each_time(doc, &ranges.field, None, &mut |ms| values.push(ms as f64));
                if values.is_empty() {
                    values.extend(ranges.missing);
                }
            } else {
                each_number(doc, &ranges.field, ranges.missing, &mut |value| values.push(value));
            }
            for (range, bucket) in ranges.ranges.iter().zip(buckets) {
                let is_in = |v: &f64| range.from.is_none_or(|from| from <= *v) && range.to.is_none_or(|to| *v < to);
                if values.iter().any(is_in) {
                    bucket.add(subs, doc, budget)?;
                }
            }
        }
        (Kind::Filter(query), State::Single(bucket)) if query.matches(doc) => bucket.add(subs, doc, budget)?,
        (Kind::Missing(field), State::Single(bucket)) if !doc.any(field, &mut |_| true) => {
            bucket.add(subs, doc, budget)?
        }
        (Kind::Nested, State::Single(bucket)) => bucket.add(subs, doc, budget)?,
        (Kind::Metric(metric), State::Metric(state)) => state.add(metric, doc, budget)?,
        _ => {}
    }
    Ok(())
}

fn into_key(
    buckets: &mut FxHashMap<Key, Growing>,
    key: Key,
    subs: &Aggs,
    doc: &Doc<'_>,
    budget: &dyn QueryBudget,
) -> Result<(), Error> {
    let bucket = match buckets.get_mut(&key) {
        Some(bucket) => bucket,
        None => {
            charge(budget, bucket_bytes(subs) + key.heap_bytes())?;
            buckets.entry(key).or_insert_with(|| Growing::new(subs))
        }
    };
    bucket.add(subs, doc, budget)
}

fn into_numbers(
    buckets: &mut BTreeMap<i64, Growing>,
    mut keys: Vec<i64>,
    subs: &Aggs,
    doc: &Doc<'_>,
    budget: &dyn QueryBudget,
) -> Result<(), Error> {
    if keys.len() > 1 {
        keys.sort_unstable();
        keys.dedup();
    }
    for key in keys {
        let bucket = match buckets.entry(key) {
            std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                charge(budget, bucket_bytes(subs))?;
                free.insert(Growing::new(subs))
            }
        };
        bucket.add(subs, doc, budget)?;
    }
    Ok(())
}

fn terms_keys(terms: &Terms, doc: &Doc<'_>) -> Result<Vec<Key>, Error> {
    let mut keys = field_keys(&terms.field, doc);
    if keys.is_empty() {
        keys.extend(terms.missing.clone());
    }
    for other in &terms.others {
        let next = field_keys(other, doc);
        check_product(keys.len(), next.len())?;
        let mut longer = Vec::with_capacity(keys.len() * next.len());
        for key in &keys {
            for value in &next {
                longer.push(match key {
                    Key::List(list) => Key::List(list.iter().cloned().chain([value.clone()]).collect()),
                    first => Key::List(vec![first.clone(), value.clone()]),
                });
            }
        }
        keys = longer;
    }
    if terms.include.is_some() || terms.exclude.is_some() {
        keys.retain(|key| {
            let text = key.text();
            terms.include.as_ref().is_none_or(|c| c.has(&text)) && !terms.exclude.as_ref().is_some_and(|c| c.has(&text))
        });
    }
    Ok(keys)
}

/// A document with many values in several fields has as many keys as their product.
fn check_product(a: usize, b: usize) -> Result<(), Error> {
    if a.saturating_mul(b) > BUCKETS_MAX { Err(Error::too_many_buckets(BUCKETS_MAX)) } else { Ok(()) }
}

/// The values of a field, each once.
fn field_keys(field: &Field, doc: &Doc<'_>) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    doc.any(field, &mut |value| {
        keys.push(Key::of(value));
        false
    });
    if keys.len() > 1 {
        let mut seen = FxHashSet::default();
        keys.retain(|key| seen.insert(key.clone()));
    }
    keys
}

fn composite_keys(by: &CompositeBy, doc: &Doc<'_>) -> Vec<Key> {
    let mut keys = Vec::new();
    match by {
        CompositeBy::Terms(field) => keys = field_keys(field, doc),
        CompositeBy::Date(field, rounding, _) => {
            each_time(doc, field, None, &mut |ms| keys.push(Key::Int(rounding.floor(ms))));
        }
        CompositeBy::Histogram(field, interval) => {
            each_number(doc, field, None, &mut |value| keys.push(Key::float((value / interval).floor() * interval)));
        }
    }
    keys.dedup();
    keys
}

/// The numbers of a field, else the one that stands for none.
pub(super) fn each_number(doc: &Doc<'_>, field: &Field, missing: Option<f64>, each: &mut dyn FnMut(f64)) {
    let mut had = false;
    doc.any(field, &mut |value| {
        if let Some(number) = value.number() {
            had = true;
            each(number);
        }
        false
    });
    if let (false, Some(missing)) = (had, missing) {
        each(missing);
    }
}

/// The times of a field in milliseconds: texts count when they read as times, numbers are milliseconds.
fn each_time(doc: &Doc<'_>, field: &Field, missing: Option<i64>, each: &mut dyn FnMut(i64)) {
    let mut had = false;
    doc.any(field, &mut |value| {
        let ms = match &value {
            Value::Time(ns) => Some(floor_ms(*ns)),
            Value::Int(ms) => Some(*ms),
            Value::Text(text) if !text.starts_with("now") => {
                let (format, zone) = (Format::default(), TimeZone::UTC);
                Reader { now_ms: 0, format: &format, zone: &zone }.read(text, false).ok().map(floor_ms)
            }
            _ => None,
        };
        if let Some(ms) = ms {
            had = true;
            each(ms);
        }
        false
    });
    if let (false, Some(missing)) = (had, missing) {
        each(missing);
    }
}
