//! What the active series are made of, from the memtable's index alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use trefoil_model::{Cardinality, Counted, StoreError, TenantId, labels::METRIC_NAME};

use crate::store::Tsdb;

impl Tsdb {
    /// What the active series of a tenant are made of: those of the memtable, or of the one that is being flushed
    /// while that has more. Each list has at most `limit` entries, greatest first, equal ones by name. Looks at
    /// dictionaries and postings only; their index takes no new series meanwhile. Not for an async thread.
    pub fn cardinality(&self, tenant: TenantId, limit: usize) -> Result<Cardinality, StoreError> {
        let view = self.inner.view.load_full();
        let frozen = view.frozen.as_ref().map(|f| &f.memtable);
        let memtable = frozen.filter(|f| f.series() > view.active.series()).unwrap_or(&view.active);
        let mut offenders = self.inner.guard.offenders(tenant);
        offenders.truncate(limit);
        let mut out = Cardinality { offenders, ..Cardinality::default() };
        let Some(index) = memtable.index(tenant) else { return Ok(out) };
        out.times = memtable.times();
        let index = index.read();
        out.series = index.rows();
        let [mut by_metric, mut values, mut bytes, mut pairs] = [(); 4].map(|()| Greatest::new(limit));
        index.for_each_dictionary(&mut |name, dictionary| {
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
        });
        out.series_by_metric = by_metric.finish();
        out.values_by_label = values.finish();
        out.bytes_by_label = bytes.finish();
        out.series_by_pair = pairs.finish();
        Ok(out)
    }
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
