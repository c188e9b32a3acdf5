//! Finishing: what was collected becomes buckets in order and figures, then pipelines run.

use std::cmp::Ordering;

use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json, json};

use super::bucket::{Bucket, Finished, Key};
use super::collect::{Growing, State};
use super::{
    Agg, Aggs, BUCKETS_MAX, Composite, CompositeBy, DateHistogram, Filters, Histogram, Kind, Order, Ranges, Terms,
    pipeline,
};
use crate::Error;
use crate::date::{self, Rounding};
use crate::doc::Field;

/// Counts buckets.
struct Work {
    buckets: usize,
}

/// The bucket of a date histogram around what is finished.
type Around<'a> = Option<(&'a Rounding, i64)>;

pub(super) fn finish(aggs: &Aggs, states: Vec<State>) -> Result<Map<String, Json>, Error> {
    let mut work = Work { buckets: 0 };
    let finished = work.level(aggs, states, None, 0)?;
    Ok(finished.into_iter().map(|(name, agg)| (name, agg.json())).collect())
}

impl Work {
    fn count(&mut self, more: usize) -> Result<(), Error> {
        self.buckets = self.buckets.saturating_add(more);
        if self.buckets > BUCKETS_MAX { Err(Error::too_many_buckets(BUCKETS_MAX)) } else { Ok(()) }
    }

    /// All aggregations of one level; pipelines over buckets beside them come last.
    fn level(
        &mut self,
        aggs: &Aggs,
        states: Vec<State>,
        around: Around<'_>,
        documents: u64,
    ) -> Result<Vec<(String, Finished)>, Error> {
        let mut out = Vec::with_capacity(aggs.0.len());
        for (agg, state) in aggs.0.iter().zip(states) {
            if let Some(finished) = self.one(agg, state, around, documents)? {
                out.push((agg.name.clone(), finished));
            }
        }
        pipeline::beside(aggs, &mut out)?;
        Ok(out)
    }

    fn one(&mut self, agg: &Agg, state: State, around: Around<'_>, documents: u64) -> Result<Option<Finished>, Error> {
        let meta = agg.meta.clone();
        let finished = match (&agg.kind, state) {
            (Kind::Terms(terms), State::ByKey(buckets)) => self.terms(terms, agg, buckets.into_iter().collect())?,
            (Kind::Composite(composite), State::ByKey(buckets)) => {
                self.composite(composite, agg, buckets.into_iter().collect())?
            }
            (Kind::DateHistogram(histogram), State::Histogram(buckets)) => {
                self.date_histogram(histogram, agg, buckets)?
            }
            (Kind::Histogram(histogram), State::Histogram(buckets)) => self.histogram(histogram, agg, buckets)?,
            (Kind::Filters(filters), State::Listed(buckets)) => self.filters(filters, agg, buckets, around)?,
            (Kind::Ranges(ranges), State::Listed(buckets)) => self.ranges(ranges, agg, buckets, around)?,
            (_, State::Single(growing)) => {
                let bucket = self.bucket(*growing, &agg.subs, Vec::new(), around)?;
                return Ok(Some(Finished::Single { bucket, meta }));
            }
            (Kind::Metric(metric), State::Metric(state)) => {
                return Ok(Some(Finished::Figure { figure: state.finish(metric, around, documents)?, meta }));
            }
            _ => return Ok(None),
        };
        let Finished::Buckets { mut buckets, is_keyed, head, .. } = finished else { return Ok(Some(finished)) };
        pipeline::inside(&agg.subs, &mut buckets, interval_of(agg))?;
        Ok(Some(Finished::Buckets { buckets, is_keyed, head, meta }))
    }

    fn bucket(
        &mut self,
        growing: Growing,
        subs: &Aggs,
        head: Vec<(&'static str, Json)>,
        around: Around<'_>,
    ) -> Result<Bucket, Error> {
        let aggs = self.level(subs, growing.states, around, growing.count)?;
        Ok(Bucket { name: None, head, count: growing.count, aggs })
    }

    fn terms(&mut self, terms: &Terms, agg: &Agg, mut rows: Vec<(Key, Growing)>) -> Result<Finished, Error> {
        let total: u64 = rows.iter().map(|(_, growing)| growing.count).sum();
        rows.retain(|(_, growing)| growing.count >= terms.min_count);
        let by_figure = terms.order.iter().any(|o| matches!(o, Order::Figure(..)));
        let mut buckets = Vec::new();
        if by_figure {
            let mut done = Vec::with_capacity(rows.len());
            // Only those that are answered count against the limit.
            let before = self.buckets;
            for (key, growing) in rows {
                done.push((key, self.bucket(growing, &agg.subs, Vec::new(), None)?));
                self.buckets = before;
            }
            done.sort_by(|(a_key, a), (b_key, b)| {
                order(&terms.order, (a_key, a.count, Some(a)), (b_key, b.count, Some(b)))
            });
            done.truncate(terms.size);
            self.count(done.len())?;
            for (key, mut bucket) in done {
                bucket.head = terms_head(terms, &key);
                bucket.name = Some(key.text());
                buckets.push(bucket);
            }
        } else {
            rows.sort_by(|(a_key, a), (b_key, b)| order(&terms.order, (a_key, a.count, None), (b_key, b.count, None)));
            rows.truncate(terms.size);
            self.count(rows.len())?;
            for (key, growing) in rows {
                let mut bucket = self.bucket(growing, &agg.subs, terms_head(terms, &key), None)?;
                bucket.name = Some(key.text());
                buckets.push(bucket);
            }
        }
        let shown: u64 = buckets.iter().map(|b| b.count).sum();
        let head = vec![("doc_count_error_upper_bound", json!(0)), ("sum_other_doc_count", json!(total - shown))];
        Ok(Finished::Buckets { buckets, is_keyed: false, head, meta: None })
    }

    fn date_histogram(
        &mut self,
        histogram: &DateHistogram,
        agg: &Agg,
        mut rows: std::collections::BTreeMap<i64, Growing>,
    ) -> Result<Finished, Error> {
        let rounding = &histogram.rounding;
        if histogram.min_count == 0 {
            let bounds = histogram.extended.map(|(first, last)| (rounding.floor(first), rounding.floor(last)));
            let first = [rows.keys().next().copied(), bounds.map(|b| b.0)].into_iter().flatten().min();
            let last = [rows.keys().next_back().copied(), bounds.map(|b| b.1)].into_iter().flatten().max();
            if let (Some(first), Some(last)) = (first, last) {
                if rounding.keys_between(first, last) > BUCKETS_MAX as u64 {
                    return Err(Error::too_many_buckets(BUCKETS_MAX));
                }
                let mut key = first;
                while key <= last {
                    rows.entry(key).or_insert_with(|| Growing::new(&agg.subs));
                    let next = rounding.next(key);
                    if next <= key {
                        break;
                    }
                    key = next;
                }
            }
        }
        rows.retain(|_, growing| growing.count >= histogram.min_count);
        self.count(rows.len())?;
        let mut buckets = Vec::with_capacity(rows.len());
        for (key, growing) in rows {
            let text = histogram.format.print(key, &rounding.zone);
            let head = vec![("key_as_string", json!(text)), ("key", json!(key))];
            let mut bucket = self.bucket(growing, &agg.subs, head, Some((rounding, key)))?;
            bucket.name = Some(text);
            buckets.push((Key::Int(key), bucket));
        }
        Ok(Finished::Buckets {
            buckets: ordered(buckets, &histogram.order),
            is_keyed: histogram.is_keyed,
            head: Vec::new(),
            meta: None,
        })
    }

    fn histogram(
        &mut self,
        histogram: &Histogram,
        agg: &Agg,
        mut rows: std::collections::BTreeMap<i64, Growing>,
    ) -> Result<Finished, Error> {
        if histogram.min_count == 0 {
            let index =
                |value: f64| ((value - histogram.offset) / histogram.interval).floor().clamp(-9e15, 9e15) as i64;
            let bounds = histogram.extended.map(|(first, last)| (index(first), index(last)));
            let first = [rows.keys().next().copied(), bounds.map(|b| b.0)].into_iter().flatten().min();
            let last = [rows.keys().next_back().copied(), bounds.map(|b| b.1)].into_iter().flatten().max();
            if let (Some(first), Some(last)) = (first, last) {
                if last.saturating_sub(first) >= BUCKETS_MAX as i64 {
                    return Err(Error::too_many_buckets(BUCKETS_MAX));
                }
                for key in first..=last {
                    rows.entry(key).or_insert_with(|| Growing::new(&agg.subs));
                }
            }
        }
        rows.retain(|_, growing| growing.count >= histogram.min_count);
        self.count(rows.len())?;
        let mut buckets = Vec::with_capacity(rows.len());
        for (index, growing) in rows {
            let key = index as f64 * histogram.interval + histogram.offset;
            let mut bucket = self.bucket(growing, &agg.subs, vec![("key", json!(key))], None)?;
            bucket.name = Some(format!("{key:?}"));
            buckets.push((Key::float(key), bucket));
        }
        Ok(Finished::Buckets {
            buckets: ordered(buckets, &histogram.order),
            is_keyed: histogram.is_keyed,
            head: Vec::new(),
            meta: None,
        })
    }

    fn filters(
        &mut self,
        filters: &Filters,
        agg: &Agg,
        rows: Vec<Growing>,
        around: Around<'_>,
    ) -> Result<Finished, Error> {
        let names = filters.filters.iter().map(|(name, _)| Some(name.clone()));
        let names = names.chain([filters.other.clone().map(Some)]);
        let is_keyed = filters.filters.first().is_none_or(|(name, _)| name.is_some());
        let mut buckets = Vec::new();
        for (name, growing) in names.zip(rows) {
            let Some(name) = name else { continue };
            let mut bucket = self.bucket(growing, &agg.subs, Vec::new(), around)?;
            bucket.name = name;
            buckets.push(bucket);
        }
        self.count(buckets.len())?;
        Ok(Finished::Buckets { buckets, is_keyed, head: Vec::new(), meta: None })
    }

    fn ranges(
        &mut self,
        ranges: &Ranges,
        agg: &Agg,
        rows: Vec<Growing>,
        around: Around<'_>,
    ) -> Result<Finished, Error> {
        let mut buckets = Vec::new();
        for (range, growing) in ranges.ranges.iter().zip(rows) {
            let text = |end: Option<f64>| match (end, &ranges.format) {
                (None, _) => "*".to_owned(),
                (Some(ms), Some((format, zone))) => format.print(ms as i64, zone),
                (Some(n), None) => format!("{n:?}"),
            };
            let (from, to) = (text(range.from), text(range.to));
            let key = range.key.clone().unwrap_or_else(|| format!("{from}-{to}"));
            let mut head = if ranges.is_keyed { Vec::new() } else { vec![("key", json!(key))] };
            let is_date = ranges.format.is_some();
            if let Some(value) = range.from {
                head.push(("from", json!(value)));
                head.extend(is_date.then(|| ("from_as_string", json!(from))));
            }
            if let Some(value) = range.to {
                head.push(("to", json!(value)));
                head.extend(is_date.then(|| ("to_as_string", json!(to))));
            }
            let mut bucket = self.bucket(growing, &agg.subs, head, around)?;
            bucket.name = Some(key);
            let by = |end: Option<f64>, none: f64| end.unwrap_or(none);
            buckets.push(((by(range.from, f64::NEG_INFINITY), by(range.to, f64::INFINITY)), bucket));
        }
        self.count(buckets.len())?;
        buckets.sort_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let buckets = buckets.into_iter().map(|(_, b)| b).collect();
        Ok(Finished::Buckets { buckets, is_keyed: ranges.is_keyed, head: Vec::new(), meta: None })
    }

    fn composite(&mut self, composite: &Composite, agg: &Agg, rows: Vec<(Key, Growing)>) -> Result<Finished, Error> {
        let none = Key::List(Vec::new());
        let compare = |a: &[Key], b: &[Key]| {
            for (source, (a, b)) in composite.sources.iter().zip(a.iter().zip(b)) {
                let order = match (*a == none, *b == none) {
                    (false, false) => a.order(b),
                    (a, b) => b.cmp(&a),
                };
                let order = if source.is_descending { order.reverse() } else { order };
                if order != Ordering::Equal {
                    return order;
                }
            }
            Ordering::Equal
        };
        let mut rows: Vec<(Vec<Key>, Growing)> = rows
            .into_iter()
            .filter_map(|(key, growing)| match key {
                Key::List(keys) => Some((keys, growing)),
                _ => None,
            })
            .collect();
        if let Some(after) = &composite.after {
            let after: Vec<Key> = after.iter().map(|k| k.clone().unwrap_or_else(|| none.clone())).collect();
            rows.retain(|(keys, _)| compare(keys, &after) == Ordering::Greater);
        }
        rows.sort_by(|(a, _), (b, _)| compare(a, b));
        rows.truncate(composite.size);
        self.count(rows.len())?;
        let mut buckets = Vec::with_capacity(rows.len());
        let mut after_key = None;
        for (keys, growing) in rows {
            let mut key = Map::new();
            for (source, part) in composite.sources.iter().zip(&keys) {
                let json = match (&source.by, part) {
                    (_, part) if *part == none => Json::Null,
                    (CompositeBy::Date(_, rounding, Some(format)), Key::Int(ms)) => {
                        json!(format.print(*ms, &rounding.zone))
                    }
                    (_, part) => part.json(),
                };
                key.insert(source.name.clone(), json);
            }
            after_key = Some(Json::Object(key.clone()));
            let date = composite.sources.iter().zip(&keys).find_map(|(source, key)| match (&source.by, key) {
                (CompositeBy::Date(_, rounding, _), Key::Int(ms)) => Some((rounding, *ms)),
                _ => None,
            });
            buckets.push(self.bucket(growing, &agg.subs, vec![("key", Json::Object(key))], date)?);
        }
        let head = after_key.map(|key| ("after_key", key)).into_iter().collect();
        Ok(Finished::Buckets { buckets, is_keyed: false, head, meta: None })
    }
}

fn interval_of(agg: &Agg) -> Option<f64> {
    match &agg.kind {
        Kind::DateHistogram(histogram) => Some(histogram.rounding.interval.about_ms()),
        Kind::Histogram(histogram) => Some(histogram.interval),
        _ => None,
    }
}

fn terms_head(terms: &Terms, key: &Key) -> Vec<(&'static str, Json)> {
    let mut head = vec![("key", key.json())];
    match key {
        Key::Bool(b) => head.push(("key_as_string", json!(b.to_string()))),
        Key::List(_) => head.push(("key_as_string", json!(key.text()))),
        Key::Int(ms) if terms.field == Field::Timestamp => {
            let text = match &terms.format {
                Some(format) => format.print(*ms, &TimeZone::UTC),
                None => date::print_time(date::ms_to_ns(*ms)),
            };
            head.push(("key_as_string", json!(text)));
        }
        _ => {}
    }
    head
}

type Row<'a> = (&'a Key, u64, Option<&'a Bucket>);

fn order(orders: &[Order], a: Row<'_>, b: Row<'_>) -> Ordering {
    for order in orders {
        let (result, is_descending) = match order {
            Order::Count(descending) => (a.1.cmp(&b.1), *descending),
            Order::Key(descending) => (a.0.order(b.0), *descending),
            Order::Figure(path, descending) => {
                let number = |row: &Row<'_>| row.2.and_then(|bucket| bucket.number(path));
                match (number(&a), number(&b)) {
                    (Some(a), Some(b)) => (a.total_cmp(&b), *descending),
                    // Those without a figure come last in both directions.
                    (a, b) => (b.is_some().cmp(&a.is_some()), false),
                }
            }
        };
        let result = if is_descending { result.reverse() } else { result };
        if result != Ordering::Equal {
            return result;
        }
    }
    a.0.order(b.0)
}

fn ordered(mut buckets: Vec<(Key, Bucket)>, orders: &[Order]) -> Vec<Bucket> {
    if !orders.is_empty() {
        buckets.sort_by(|(a_key, a), (b_key, b)| order(orders, (a_key, a.count, Some(a)), (b_key, b.count, Some(b))));
    }
    buckets.into_iter().map(|(_, b)| b).collect()
}
