//! Which parts to merge: some of about the same size, so that an item is rewritten only a few times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trefoil_model::TenantId;

use crate::meta::{PartId, PartMeta};

/// Parts to merge into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergePlan {
    /// Whose.
    pub tenant: TenantId,
    /// Of which day.
    pub partition: i64,
    /// Of which kind.
    pub kind: String,
    /// The parts, by ascending id; at least two.
    pub parts: Vec<PartId>,
    /// Level of the part that comes out.
    pub level: u8,
    /// Bytes of the parts.
    pub bytes: u64,
}

/// How parts are chosen. Parts are merged when they are of the same tenant, partition, kind and size tier; a tier
/// spans a factor of `tier_factor`.
#[derive(Debug, Clone)]
pub struct MergePolicy {
    /// Parts of a tier that are worth a merge. Default 4, at least 2.
    pub parts_min: usize,
    /// Parts merged at once. Default 16.
    pub parts_max: usize,
    /// Parts up to this size are of the lowest tier. Default 1 MiB.
    pub tier_floor_bytes: u64,
    /// Size ratio between tiers. Default 4, at least 2.
    pub tier_factor: u64,
    /// Bytes that a merge may read. Default 2 GiB.
    pub bytes_max: u64,
}

impl Default for MergePolicy {
    fn default() -> Self {
        Self { parts_min: 4, parts_max: 16, tier_floor_bytes: 1 << 20, tier_factor: 4, bytes_max: 2 << 30 }
    }
}

impl MergePolicy {
    /// Returns the most useful merge: the lowest tier first, then the newest partition. Parts in `busy` are left out.
    pub fn plan(&self, parts: &[Arc<PartMeta>], busy: &BTreeSet<PartId>) -> Option<MergePlan> {
        let mut groups: BTreeMap<(u32, std::cmp::Reverse<i64>, TenantId, &str), Vec<&PartMeta>> = BTreeMap::new();
        for meta in parts.iter().filter(|meta| !busy.contains(&meta.id)) {
            let key = (self.tier(meta.bytes), std::cmp::Reverse(meta.partition), meta.tenant, meta.kind.as_str());
            groups.entry(key).or_default().push(meta);
        }
        groups.into_values().find_map(|group| self.choose(group))
    }

    fn tier(&self, bytes: u64) -> u32 {
        let mut tier = 0;
        let mut upper = self.tier_floor_bytes.max(1);
        while bytes > upper {
            upper = upper.saturating_mul(self.tier_factor.max(2));
            tier += 1;
        }
        tier
    }

    fn choose(&self, mut group: Vec<&PartMeta>) -> Option<MergePlan> {
        // Neighbours in age overlap least with what is left out.
        group.sort_by_key(|meta| meta.id);
        let mut bytes = 0u64;
        let chosen: Vec<&PartMeta> = group
            .into_iter()
            .take(self.parts_max)
            .take_while(|meta| {
                bytes = bytes.saturating_add(meta.bytes);
                bytes <= self.bytes_max
            })
            .collect();
        if chosen.len() < self.parts_min.max(2) {
            return None;
        }
        let first = chosen.first()?;
        Some(MergePlan {
            tenant: first.tenant,
            partition: first.partition,
            kind: first.kind.clone(),
            level: chosen.iter().map(|meta| meta.level).max()?.saturating_add(1),
            bytes: chosen.iter().map(|meta| meta.bytes).sum(),
            parts: chosen.iter().map(|meta| meta.id).collect(),
        })
    }
}

/// Plans with the default policy and no busy parts.
pub fn plan(parts: &[Arc<PartMeta>]) -> Option<MergePlan> {
    MergePolicy::default().plan(parts, &BTreeSet::new())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn part(id: u64, partition: i64, bytes: u64) -> Arc<PartMeta> {
        Arc::new(PartMeta {
            id: PartId(id),
            tenant: TenantId(0),
            partition,
            level: 0,
            min_t: 0,
            max_t: 0,
            items: 1,
            bytes,
            format: 1,
            kind: "samples".to_owned(),
            files: Vec::new(),
            attributes: BTreeMap::new(),
            created_ms: 0,
        })
    }

    fn check(parts: &[(u64, i64, u64)], expected: &[u64]) {
        let parts: Vec<_> = parts.iter().map(|(id, partition, bytes)| part(*id, *partition, *bytes)).collect();
        let planned = plan(&parts).map_or(Vec::new(), |plan| plan.parts.iter().map(|id| id.0).collect());
        assert_eq!(planned, expected);
    }

    #[test]
    fn merges_parts_of_one_partition_and_tier() {
        const MIB: u64 = 1 << 20;
        check(&[], &[]);
        check(&[(1, 0, 1), (2, 0, 1), (3, 0, 1)], &[]);
        check(&[(4, 0, 1), (2, 0, 1), (3, 0, 1), (1, 0, 9)], &[1, 2, 3, 4]);
        check(&[(1, 0, 1), (2, 0, 1), (3, 1, 1), (4, 1, 1)], &[]);
        check(&[(1, 0, 1), (2, 0, 1), (3, 0, 1), (4, 0, 2 * MIB)], &[]);
        check(&[(1, 0, 3 * MIB), (2, 0, 2 * MIB), (3, 0, 4 * MIB), (4, 0, 2 * MIB), (5, 0, 5 * MIB)], &[1, 2, 3, 4]);
        check(&[(1, 0, 1024 * MIB), (2, 0, 1024 * MIB), (3, 0, 1024 * MIB), (4, 0, 1024 * MIB)], &[]);
    }

    #[test]
    fn repeated_merging_ends_with_few_parts() {
        let mut parts: Vec<_> = (0..1_000).map(|id| part(id, 0, 900_000)).collect();
        let mut written = 0;
        while let Some(plan) = plan(&parts) {
            parts.retain(|meta| !plan.parts.contains(&meta.id));
            let mut merged = PartMeta::clone(&part(parts.len() as u64 + 10_000 + written, 0, plan.bytes));
            merged.level = plan.level;
            written += plan.bytes;
            parts.push(Arc::new(merged));
        }
        assert!(parts.len() <= 12, "{} parts are left", parts.len());
        assert!(written <= 5 * 900_000_000, "items were rewritten too often: {written} bytes");
    }
}
