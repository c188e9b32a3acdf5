//! Which group or match group a series belongs to.

use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};
use trefoil_model::Labels;

/// What a group takes besides its labels: its place in lists and the table.
const GROUP_BYTES: usize = 224;

/// Gives a dense number to each distinct subset of labels.
///
/// Two series are in one group when they agree on all labels listed (`on`), or on all not listed.
#[derive(Debug, Clone)]
pub(crate) struct Grouper {
    /// Sorted.
    names: Vec<String>,
    on: bool,
    by_hash: FxHashMap<u64, Vec<usize>>,
    keys: Vec<Labels>,
}

impl Grouper {
    /// `on`: the labels listed count; else all others count (and never the metric name).
    pub(crate) fn new(on: bool, names: &[String]) -> Self {
        let mut names = names.to_vec();
        if !on {
            names.push(trefoil_model::labels::METRIC_NAME.to_owned());
        }
        names.sort_unstable();
        names.dedup();
        Self { names, on, by_hash: FxHashMap::default(), keys: Vec::new() }
    }

    fn counts(&self, name: &str) -> bool {
        self.names.binary_search_by(|n| n.as_str().cmp(name)).is_ok() == self.on
    }

    /// The number of the group; new groups are numbered in order of appearance.
    pub(crate) fn of(&mut self, labels: &Labels) -> usize {
        let mut hasher = FxHasher::default();
        for (n, v) in labels {
            if self.counts(n) {
                n.hash(&mut hasher);
                v.hash(&mut hasher);
            }
        }
        let hash = hasher.finish();
        if let Some(candidates) = self.by_hash.get(&hash) {
            for &c in candidates {
                let key = self.keys[c].iter();
                if labels.iter().filter(|(n, _)| self.counts(n)).eq(key) {
                    return c;
                }
            }
        }
        let number = self.keys.len();
        let key = labels.filter(|n| self.counts(n));
        self.by_hash.entry(hash).or_default().push(number);
        self.keys.push(key);
        number
    }

    /// Bytes that a group of these labels takes here.
    pub(crate) fn bytes_of(labels: &Labels) -> usize {
        GROUP_BYTES + labels.heap_bytes()
    }

    /// The labels that the group's members share.
    pub(crate) fn key(&self, group: usize) -> &Labels {
        &self.keys[group]
    }

    /// Number of groups.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}
