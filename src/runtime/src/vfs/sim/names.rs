//! The names on the simulated disk: those that programs see, those that are durable, and the changes between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::vfs::parent_of;

pub(super) type NodeId = u64;

/// A file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) is_dir: bool,
}

/// A change of names, of one node.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Add(PathBuf),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Change {
    fn touches(&self, dir: &Path) -> bool {
        match self {
            Self::Add(path) | Self::Remove(path) => parent_of(path) == dir,
            Self::Rename(from, to) => parent_of(from) == dir || parent_of(to) == dir,
        }
    }
}

type Map = BTreeMap<PathBuf, Node>;

#[derive(Clone, Default)]
pub(super) struct Names {
    live: Map,
    durable: Map,
    /// In the order in which they were made.
    pending: Vec<(Node, Change)>,
}

/// The root and the current directory always exist.
const ROOT: Node = Node { id: 0, is_dir: true };

fn is_root(path: &Path) -> bool {
    path.parent().is_none() || path == Path::new(".")
}

impl Names {
    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        if is_root(path) { Some(ROOT) } else { self.live.get(path).copied() }
    }

    pub(super) fn change(&mut self, node: Node, change: Change) {
        apply(&mut self.live, node, &change);
        self.pending.push((node, change));
    }

    /// Makes the changes in `dir` durable, each after the earlier changes of the same node.
    pub(super) fn sync_dir(&mut self, dir: &Path) {
        let mut kept = Vec::new();
        let last: BTreeMap<NodeId, usize> = self
            .pending
            .iter()
            .enumerate()
            .filter(|(_, (_, change))| change.touches(dir))
            .map(|(index, (node, _))| (node.id, index))
            .collect();
        for (index, (node, change)) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if last.get(&node.id).is_some_and(|last| index <= *last) {
                apply(&mut self.durable, node, &change);
            } else {
                kept.push((node, change));
            }
        }
        self.pending = kept;
    }

    /// Keeps the durable names and, of each node, the first `choose(pending)` of its pending changes.
    pub(super) fn crash(&mut self, mut choose: impl FnMut(usize) -> usize) {
        let mut counts: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (node, _) in &self.pending {
            *counts.entry(node.id).or_default() += 1;
        }
        for left in counts.values_mut() {
            *left = choose(*left).min(*left);
        }
        for (node, change) in std::mem::take(&mut self.pending) {
            if let Some(left) = counts.get_mut(&node.id).filter(|left| **left > 0) {
                *left -= 1;
                apply(&mut self.durable, node, &change);
            }
        }
        // What lies in a directory that was lost is lost with it.
        let all = std::mem::take(&mut self.durable);
        for (path, node) in &all {
            let reachable = path.ancestors().skip(1).all(|above| {
                above.as_os_str().is_empty() || is_root(above) || all.get(above).is_some_and(|node| node.is_dir)
            });
            if reachable {
                self.durable.insert(path.clone(), *node);
            }
        }
        self.live = self.durable.clone();
    }

    /// Nodes that have a name.
    pub(super) fn living(&self) -> BTreeSet<NodeId> {
        self.live.values().map(|node| node.id).collect()
    }

    /// Whether a crash could still bring a name of the node back, or it has one.
    pub(super) fn linked(&self, id: NodeId) -> bool {
        let named = |map: &Map| map.values().any(|node| node.id == id);
        named(&self.live) || named(&self.durable) || self.pending.iter().any(|(node, _)| node.id == id)
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.live.iter().filter(|(_, node)| !node.is_dir).map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn children(&self, dir: &Path) -> Vec<(PathBuf, Node)> {
        let children = self.live.iter().filter(|(path, _)| parent_of(path) == dir && !is_root(path));
        children.map(|(path, node)| (path.clone(), *node)).collect()
    }

    /// The directory and all below it, parents before children.
    pub(super) fn below(&self, dir: &Path) -> Vec<(PathBuf, Node)> {
        let below = self.live.iter().filter(|(path, _)| path.starts_with(dir));
        below.map(|(path, node)| (path.clone(), *node)).collect()
    }
}

fn apply(map: &mut Map, node: Node, change: &Change) {
    match change {
        Change::Add(path) => {
            map.insert(path.clone(), node);
        }
        Change::Remove(path) => {
            if map.get(path).is_some_and(|found| found.id == node.id) {
                map.remove(path);
            }
        }
        Change::Rename(from, to) => {
            let moved: Vec<PathBuf> = map.keys().filter(|path| path.starts_with(from)).cloned().collect();
            for path in moved {
                let below = path.strip_prefix(from).expect("filtered by this prefix").to_owned();
                if let Some(found) = map.remove(&path) {
                    let target = if below.as_os_str().is_empty() { to.clone() } else { to.join(below) };
                    map.insert(target, found);
                }
            }
            map.insert(to.clone(), node);
        }
    }
}
