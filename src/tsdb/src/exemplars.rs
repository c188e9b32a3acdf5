//! The newest exemplars, in memory. The journal carries them over restarts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use trefoil_model::{Exemplar, Labels, QueryBudget, SelectRequest, SeriesId, StoreError, TenantId};

use crate::record::{ExemplarRecord, Record};
use crate::series::SeriesEntry;

/// How many exemplars are looked at between two looks at the deadline.
const EXEMPLARS_PER_CHECK: usize = 4096;

#[derive(Debug, Clone)]
struct Stored {
    series: Arc<SeriesEntry>,
    t: i64,
    value: f64,
    labels: Labels,
}

impl Stored {
    fn is_selected(&self, requests: &[SelectRequest]) -> bool {
        requests.iter().any(|r| {
            r.tenant == self.series.tenant
                && r.range.contains(self.t)
                && r.matchers.iter().all(|m| m.matches(self.series.labels.get(&m.name).unwrap_or("")))
        })
    }
}

/// Exemplars in one record of a snapshot: records have a greatest size.
const SNAPSHOT_ITEMS: usize = 1000;

/// A ring: the oldest arrival makes room.
#[derive(Debug)]
pub(crate) struct Exemplars {
    ring: VecDeque<Stored>,
    capacity: usize,
    /// Series id -> time, value and labels of its newest one: what senders repeat.
    newest: BTreeMap<u64, (i64, u64, Labels)>,
}

impl Exemplars {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { ring: VecDeque::new(), capacity, newest: BTreeMap::new() }
    }

    /// Adds one, unless it is its series' newest once more.
    pub(crate) fn push(&mut self, series: &Arc<SeriesEntry>, t: i64, value: f64, labels: Labels) {
        if self.capacity == 0 {
            return;
        }
        let key = (t, value.to_bits(), labels.clone());
        if self.newest.get(&series.id.0) == Some(&key) {
            return;
        }
        if self.newest.get(&series.id.0).is_none_or(|n| n.0 <= t) {
            self.newest.insert(series.id.0, key);
        }
        if self.ring.len() >= self.capacity
            && let Some(old) = self.ring.pop_front()
            && self.newest.get(&old.series.id.0).is_some_and(|n| n.0 <= old.t)
        {
            self.newest.remove(&old.series.id.0);
        }
        self.ring.push_back(Stored { series: Arc::clone(series), t, value, labels });
    }

    /// Takes out what the requests select; returns how many exemplars that were. What senders repeat does not come back.
    pub(crate) fn remove(&mut self, requests: &[SelectRequest]) -> usize {
        let before = self.ring.len();
        self.ring.retain(|e| !e.is_selected(requests));
        before - self.ring.len()
    }

    /// Records from which the ring can be made again, definitions included.
    pub(crate) fn snapshot(&self) -> Vec<Record> {
        let mut by_tenant: BTreeMap<TenantId, Vec<&Stored>> = BTreeMap::new();
        for e in &self.ring {
            by_tenant.entry(e.series.tenant).or_default().push(e);
        }
        let record = |tenant: TenantId, list: &[&Stored]| {
            let series: BTreeMap<SeriesId, &Labels> = list.iter().map(|e| (e.series.id, &e.series.labels)).collect();
            let exemplar =
                |e: &&Stored| ExemplarRecord { series: e.series.id, t: e.t, value: e.value, labels: e.labels.clone() };
            Record {
                tenant,
                series: series.into_iter().map(|(id, labels)| (id, labels.clone())).collect(),
                exemplars: list.iter().map(exemplar).collect(),
                ..Record::default()
            }
        };
        let tenants = by_tenant.iter();
        tenants.flat_map(|(tenant, list)| list.chunks(SNAPSHOT_ITEMS).map(|list| record(*tenant, list))).collect()
    }

    /// Exemplars of series that satisfy one of the requests, by series, each series' by time.
    pub(crate) fn select(
        &self,
        requests: &[SelectRequest],
        budget: &dyn QueryBudget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError> {
        let mut found: BTreeMap<&Labels, Vec<&Stored>> = BTreeMap::new();
        for (i, e) in self.ring.iter().enumerate() {
            if i % EXEMPLARS_PER_CHECK == 0 {
                budget.check()?;
            }
            if e.is_selected(requests) {
                found.entry(&e.series.labels).or_default().push(e);
            }
        }
        let one = |e: &Stored| Exemplar { series: 0, t_ms: e.t, value: e.value, labels: e.labels.clone() };
        Ok(found
            .into_iter()
            .map(|(labels, mut list)| {
                list.sort_by_key(|e| e.t);
                let mut list: Vec<Exemplar> = list.into_iter().map(one).collect();
                list.dedup_by(|a, b| {
                    a.t_ms == b.t_ms && a.value.to_bits() == b.value.to_bits() && a.labels == b.labels
                });
                (labels.clone(), list)
            })
            .collect())
    }
}
