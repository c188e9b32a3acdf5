//! What the active series are made of, from the memtable's index alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::{Cardinality, Counted, Labels, StoreError, TenantId, labels::METRIC_NAME};

use crate::series::SeriesEntry;
use crate::store::Tsdb;

/// How many series have each value of each label.
type Values<'a> = FxHashMap<&'a str, FxHashMap<&'a str, u64>>;

impl Tsdb {
    /// What the active series of a tenant are made of: those with a sample since the last flush but one, as the
    /// cardinality guard counts them. Each list has at most `limit` entries, greatest first, equal ones by name. Looks at
    /// dictionaries and postings of the memtable, whose index takes no new series meanwhile, and at the labels of series
    /// that have no sample in it yet. Not for an async thread.
    pub fn cardinality(&self, tenant: TenantId, limit: usize) -> Result<Cardinality, StoreError> {
        let view = self.inner.view.load_full();
        let mut offenders = self.inner.guard.offenders(tenant);
        offenders.truncate(limit);
        let mut out = Cardinality { offenders, ..Cardinality::default() };
        let index = view.active.index(tenant);
        let index = index.as_ref().map(|index| index.read());
        // No new rows while the index is locked: each series is either in it or here.
        let rest = self.series_without_row(tenant, view.active.epoch());
        let mut values_of_rest = values(rest.iter().map(|entry| &entry.labels));
        let frozen = view.frozen.as_ref().and_then(|f| f.memtable.times());
        out.times = match (view.active.times(), frozen) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
        out.series = index.as_ref().map_or(0, |index| index.rows()) + rest.len() as u64;
        let [mut by_metric, mut values, mut bytes, mut pairs] = [(); 4].map(|()| Greatest::new(limit));
        let mut look = |name: &str, dictionary: &mut dyn Iterator<Item = (&str, u64)>| {
            let (mut distinct, mut size) = (0u64, 0u64);
            for (value, rows) in dictionary {
                distinct += 1;
                size += value.len() as u64;
                if name == METRIC_NAME {
                    by_metric.add(rows, || value.to_owned());
                }
                pairs.add(rows, || format!("{name}={value}"));
            }
            out.label_pairs += distinct;
            values.add(distinct, || name.to_owned());
            bytes.add(size, || name.to_owned());
        };
        if let Some(index) = &index {
            index.for_each_dictionary(&mut |name, dictionary| {
                let mut more = values_of_rest.remove(name).unwrap_or_default();
                let mut in_index = Vec::new();
                if more.is_empty() {
                    look(name, dictionary);
                } else {
                    in_index.extend(dictionary.map(|(value, rows)| (value, rows + more.remove(value).unwrap_or(0))));
                    look(name, &mut in_index.into_iter().chain(sorted(more)));
                }
            });
        }
        for (name, more) in sorted(values_of_rest) {
            look(name, &mut sorted(more));
        }
        out.series_by_metric = by_metric.finish();
        out.values_by_label = values.finish();
        out.bytes_by_label = bytes.finish();
        out.series_by_pair = pairs.finish();
        Ok(out)
    }

    fn series_without_row(&self, tenant: TenantId, memtable_epoch: u32) -> Vec<Arc<SeriesEntry>> {
        let mut found = Vec::new();
        self.inner.registry.for_each(|entry| {
            if entry.tenant == tenant && entry.row_in(memtable_epoch).is_none() {
                found.push(Arc::clone(entry));
            }
        });
        found
    }
}

fn values<'a>(all: impl Iterator<Item = &'a Labels>) -> Values<'a> {
    let mut values = Values::default();
    for labels in all {
        for (name, value) in labels {
            *values.entry(name).or_default().entry(value).or_default() += 1;
        }
    }
    values
}

fn sorted<T>(map: FxHashMap<&str, T>) -> impl Iterator<Item = (&str, T)> {
    let mut list: Vec<(&str, T)> = map.into_iter().collect();
    list.sort_unstable_by_key(|(name, _)| *name);
    list.into_iter()
}

/// The greatest of many.
struct Greatest {
    limit: usize,
    /// The smallest on top.
    kept: BinaryHeap<Reverse<(u64, Reverse<String>)>>,
}

impl Greatest {
    fn new(limit: usize) -> Self {
        Self { limit, kept: BinaryHeap::new() }
    }

    fn add(&mut self, value: u64, name: impl FnOnce() -> String) {
        if self.kept.len() >= self.limit && self.kept.peek().is_none_or(|Reverse((least, _))| value < *least) {
            return;
        }
        self.kept.push(Reverse((value, Reverse(name()))));
        if self.kept.len() > self.limit {
            self.kept.pop();
        }
    }

    fn finish(self) -> Vec<Counted> {
        let sorted = self.kept.into_sorted_vec();
        sorted.into_iter().map(|Reverse((value, Reverse(name)))| Counted { name, value }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_are_kept() {
        for limit in [0, 1, 3, 100] {
            let mut greatest = Greatest::new(limit);
            let mut all: Vec<(u64, String)> = (0..50u64).map(|i| (i * 7 % 11, format!("n{i:02}"))).collect();
            for (value, name) in &all {
                greatest.add(*value, || name.clone());
            }
            all.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            all.truncate(limit);
            let got: Vec<_> = greatest.finish().into_iter().map(|c| (c.value, c.name)).collect();
            assert_eq!(got, all);
        }
    }
}
