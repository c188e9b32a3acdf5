//! Type, help and unit of metric families, in memory. The journal carries them over restarts.

use std::collections::BTreeMap;

use trefoil_model::{MetricMetadata, TenantId};

use crate::record::Record;

/// Items in one record of a snapshot: records have a greatest size.
const SNAPSHOT_ITEMS: usize = 1000;
/// Different metadata kept for one family, newest last.
const VARIANTS_MAX: usize = 4;

/// What is known of families, by tenant and name.
#[derive(Debug)]
pub(crate) struct Metadata {
    families: BTreeMap<TenantId, BTreeMap<String, Vec<MetricMetadata>>>,
    families_max: usize,
    count: usize,
}

impl Metadata {
    pub(crate) fn new(families_max: usize) -> Self {
        Self { families: BTreeMap::new(), families_max, count: 0 }
    }

    /// True when nothing would change by adding it: it is there, or there is no room for its family.
    pub(crate) fn knows(&self, tenant: TenantId, m: &MetricMetadata) -> bool {
        let known = self.families.get(&tenant).and_then(|f| f.get(&m.name));
        known.is_some_and(|list| list.contains(m)) || (known.is_none() && self.count >= self.families_max)
    }

    /// Adds metadata; what came before stays beside it for a while.
    pub(crate) fn add(&mut self, tenant: TenantId, m: MetricMetadata) {
        if self.knows(tenant, &m) {
            return;
        }
        let families = self.families.entry(tenant).or_default();
        let list = families.entry(m.name.clone()).or_default();
        if list.is_empty() {
            self.count += 1;
        }
        if list.len() >= VARIANTS_MAX {
            list.remove(0);
        }
        list.push(m);
    }

    /// Metadata of one family or all, sorted by name, newest first within a family; `limit` counts families (0: all).
    pub(crate) fn select(&self, tenant: TenantId, name: Option<&str>, limit: usize) -> Vec<MetricMetadata> {
        let Some(families) = self.families.get(&tenant) else { return Vec::new() };
        let limit = if limit == 0 { usize::MAX } else { limit };
        match name {
            Some(name) => families.get(name).into_iter().flat_map(|l| l.iter().rev()).cloned().collect(),
            None => families.values().take(limit).flat_map(|l| l.iter().rev()).cloned().collect(),
        }
    }

    /// Records from which all this can be made again.
    pub(crate) fn snapshot(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for (tenant, families) in &self.families {
            let all: Vec<&MetricMetadata> = families.values().flatten().collect();
            records.extend(all.chunks(SNAPSHOT_ITEMS).map(|some| Record {
                tenant: *tenant,
                metadata: some.iter().copied().cloned().collect(),
                ..Record::default()
            }));
        }
        records
    }
}
