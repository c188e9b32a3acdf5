//! Work of a batch in the order of shards: each lock is taken once, and the memory behind it is asked for together.

/// The items of a batch by shard; within a shard they keep their order.
pub(crate) struct ByShard {
    /// Where each shard's items begin in `items`, and their end.
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl ByShard {
    /// Sorts the items `0..count` into `shards` shards; `shard_of` names the shard of each, `None` leaves it out.
    pub(crate) fn new(shards: usize, count: usize, shard_of: impl Fn(usize) -> Option<usize>) -> Self {
        let count = u32::try_from(count).expect("a batch has less than 2^32 items");
        let mut starts = vec![0u32; shards + 1];
        for shard in (0..count).filter_map(|i| shard_of(i as usize)) {
            starts[shard + 1] += 1;
        }
        for shard in 0..shards {
            starts[shard + 1] += starts[shard];
        }
        let mut next = starts.clone();
        let mut items = vec![0; starts[shards] as usize];
        for i in 0..count {
            if let Some(shard) = shard_of(i as usize) {
                items[next[shard] as usize] = i;
                next[shard] += 1;
            }
        }
        Self { starts, items }
    }

    /// Shards that have items, with them. Begins at another shard for different batches, so that batches that come
    /// together do not follow each other from lock to lock.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &[u32])> {
        let shards = self.starts.len() - 1;
        let first = self.items.len() % shards;
        (0..shards).map(move |i| (first + i) % shards).filter_map(|shard| {
            let items = &self.items[self.starts[shard] as usize..self.starts[shard + 1] as usize];
            (!items.is_empty()).then_some((shard, items))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_comes_once_in_its_shard_and_in_order() {
        for (shards, count) in [(1, 0), (4, 0), (4, 3), (64, 1000)] {
            let shard_of = |i: usize| (!i.is_multiple_of(5)).then_some(i * 7 % shards);
            let mut seen: Vec<u32> = Vec::new();
            for (shard, items) in ByShard::new(shards, count, shard_of).iter() {
                assert!(items.is_sorted() && items.iter().all(|i| shard_of(*i as usize) == Some(shard)));
                seen.extend_from_slice(items);
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..count as u32).filter(|i| i % 5 != 0).collect::<Vec<_>>());
        }
    }
}
