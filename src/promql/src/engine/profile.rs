//! Where the time of a query goes: a tree of the nodes that were evaluated.

use std::time::{Duration, Instant};

use crate::ast::PositionRange;

/// Most nodes that are told; beyond, nodes count for the one above.
const NODES_MAX: usize = 10_000;
/// Deepest node that is told, likewise.
const DEPTH_MAX: usize = 200;

/// What evaluating one node of the tree took, what is below it included.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProfileNode {
    /// Where it stands in the query.
    pub position: PositionRange,
    /// How often it was evaluated.
    pub evaluations: u64,
    /// Time from begin to end.
    pub time: Duration,
    /// Series that selectors found.
    pub series: u64,
    /// Samples read from storage.
    pub samples_read: u64,
    /// Series of its value; of a node that hands its series on as they are made, `None`.
    pub result_series: Option<u64>,
    /// The nodes below, in the order in which they were first evaluated.
    pub children: Vec<ProfileNode>,
}

/// Series and samples read so far.
pub(super) type Counts = (u64, u64);

struct Open {
    node: ProfileNode,
    began: Instant,
    before: Counts,
}

/// Nodes that are evaluated now, outermost first, above those that were.
#[derive(Default)]
pub(super) struct Profiler {
    open: Vec<Open>,
    done: Vec<ProfileNode>,
    nodes: usize,
}

impl Profiler {
    /// Begins a node. False when it is the one that was begun last, or there are too many: then there is no end to it.
    pub(super) fn begin(&mut self, position: PositionRange, counts: Counts) -> bool {
        let same = self.open.last().is_some_and(|o| o.node.position == position);
        if self.nodes >= NODES_MAX || self.open.len() >= DEPTH_MAX || same {
            return false;
        }
        self.nodes += 1;
        let node = ProfileNode { position, evaluations: 1, ..ProfileNode::default() };
        self.open.push(Open { node, began: Instant::now(), before: counts });
        true
    }

    /// Ends the node that was begun last.
    pub(super) fn end(&mut self, counts: Counts, result_series: Option<u64>) {
        let Some(Open { mut node, began, before }) = self.open.pop() else { return };
        node.time = began.elapsed();
        node.series = counts.0.saturating_sub(before.0);
        node.samples_read = counts.1.saturating_sub(before.1);
        node.result_series = result_series;
        let level = self.open.last_mut().map_or(&mut self.done, |o| &mut o.node.children);
        match level.iter_mut().find(|n| n.position == node.position) {
            Some(same) => {
                same.evaluations += 1;
                same.time += node.time;
                same.series += node.series;
                same.samples_read += node.samples_read;
                same.children.append(&mut node.children);
            }
            None => level.push(node),
        }
    }

    /// The outermost node.
    pub(super) fn finish(self) -> Option<ProfileNode> {
        self.done.into_iter().next()
    }
}
