//! Which parts are too old or too many.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::meta::{PartId, PartMeta};

/// Milliseconds of a partition.
pub const PARTITION_MS: i64 = 86_400_000;

/// Returns the partition of a time in milliseconds since the Unix epoch.
pub fn partition_of_ms(time_ms: i64) -> i64 {
    time_ms.div_euclid(PARTITION_MS)
}

/// Returns the parts of the partitions that ended at least `max_age` ago: whole partitions only, so that an item is
/// kept for `max_age` or up to a day longer. In the order of `parts`.
pub fn expired(parts: &[Arc<PartMeta>], now_ms: i64, max_age: Duration) -> Vec<PartId> {
    let max_age_ms = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
    let oldest_kept = partition_of_ms(now_ms.saturating_sub(max_age_ms));
    parts.iter().filter(|meta| meta.partition < oldest_kept).map(|meta| meta.id).collect()
}

/// Returns the parts of the oldest partitions whose removal brings the sum of bytes down to `bytes_max`. The newest
/// partition stays, whatever it has.
pub fn over_bytes(parts: &[Arc<PartMeta>], bytes_max: u64) -> Vec<PartId> {
    let mut partitions: BTreeMap<i64, u64> = BTreeMap::new();
    for meta in parts {
        *partitions.entry(meta.partition).or_default() += meta.bytes;
    }
    let mut total: u64 = partitions.values().sum();
    let mut first_kept = i64::MIN;
    let newest = partitions.keys().next_back().copied();
    for (partition, bytes) in &partitions {
        if total <= bytes_max || Some(*partition) == newest {
            break;
        }
        total -= bytes;
        first_kept = partition + 1;
    }
    parts.iter().filter(|meta| meta.partition < first_kept).map(|meta| meta.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::tests::part;

    #[test]
    fn whole_partitions_expire() {
        let parts: Vec<_> = (0..5).map(|day| part(day as u64, day, 100)).collect();
        let check = |now_ms: i64, days: u64, expected: &[u64]| {
            let ids = expired(&parts, now_ms, Duration::from_secs(days * 86_400));
            assert_eq!(ids.iter().map(|id| id.0).collect::<Vec<_>>(), expected, "now {now_ms}, {days} days");
        };
        check(4 * PARTITION_MS, 2, &[0, 1]);
        check(4 * PARTITION_MS - 1, 2, &[0]);
        check(0, 2, &[]);
        check(i64::MIN, 2, &[]);
        check(i64::MAX, 0, &[0, 1, 2, 3, 4]);
        check(i64::MAX, u64::MAX / 86_400, &[]);
    }

    #[test]
    fn oldest_partitions_make_room() {
        let parts: Vec<_> = (0..5).map(|day| part(day as u64, day, 100)).collect();
        let check = |bytes_max: u64, expected: usize| assert_eq!(over_bytes(&parts, bytes_max).len(), expected);
        check(500, 0);
        check(499, 1);
        check(250, 3);
        check(0, 4);
        assert!(over_bytes(&[], 0).is_empty());
    }
}
