//! Self times and the critical path.
//!
//! The path is walked from the end of the trace: of a span the child that ended last before the place reached is what
//! the span waited for; between such children the span itself is on the path. The pieces follow each other without gap
//! or overlap from the trace's start to its end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::skew::Placed;
use super::tree::TraceTree;

/// A piece of the critical path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The span, by its index in the tree; `None` where no span was there.
    pub node: Option<u32>,
    /// Start, Unix nanoseconds with clocks set right.
    pub start_ns: i64,
    /// End likewise, after the start.
    pub end_ns: i64,
}

/// For each span how long none of its children was there, nanoseconds.
pub fn self_times(tree: &TraceTree<'_>, placed: &[Placed]) -> Vec<i64> {
    let mut lengths: Vec<(i64, i64)> = Vec::new();
    (0u32..)
        .zip(placed)
        .map(|(number, own)| {
            lengths.clear();
            lengths.extend(tree.children(Some(number)).map(|child| {
                let child = &placed[child as usize];
                (child.start_ns.max(own.start_ns), child.end_ns.min(own.end_ns))
            }));
            lengths.sort_unstable();
            let (mut left, mut at) = (own.end_ns.saturating_sub(own.start_ns), own.start_ns);
            for (start, end) in &lengths {
                let start = (*start).max(at);
                if *end > start {
                    left = left.saturating_sub(end.saturating_sub(start));
                    at = *end;
                }
            }
            left.max(0)
        })
        .collect()
}

/// A span on the way.
struct Frame {
    node: u32,
    /// Up to where the path goes back here.
    floor: i64,
    /// From where it goes on.
    cursor: i64,
    /// Children by their end, the last of them at the end.
    children: Vec<(i64, i64, u32)>,
}

struct Walk<'w, 't> {
    tree: &'w TraceTree<'t>,
    placed: &'w [Placed],
    pieces: Vec<Piece>,
}

impl Walk<'_, '_> {
    fn frame(&self, node: u32, floor: i64, cursor: i64) -> Frame {
        let mut children: Vec<(i64, i64, u32)> = self
            .tree
            .children(Some(node))
            .map(|child| {
                let own = &self.placed[child as usize];
                (own.end_ns.min(cursor), own.start_ns.max(floor), child)
            })
            .filter(|(end, start, _)| end > start)
            .collect();
        // Of those that end together the longest, then the first.
        children.sort_unstable_by_key(|(end, start, child)| (*end, Reverse(*start), Reverse(*child)));
        Frame { node, floor, cursor, children }
    }

    fn piece(&mut self, node: Option<u32>, start_ns: i64, end_ns: i64) {
        if start_ns < end_ns {
            self.pieces.push(Piece { node, start_ns, end_ns });
        }
    }

    /// Walks back through a span from `cursor`, to `floor`.
    fn back(&mut self, node: u32, floor: i64, cursor: i64) {
        let mut stack = vec![self.frame(node, floor, cursor)];
        while let Some(frame) = stack.last_mut() {
            let (node, cursor) = (frame.node, frame.cursor);
            match frame.children.pop() {
                // Something that began later was waited for after it.
                Some((end, ..)) if end > cursor => {}
                Some((end, start, child)) => {
                    frame.cursor = start;
                    self.piece(Some(node), end, cursor);
                    let next = self.frame(child, start, end);
                    stack.push(next);
                }
                None => {
                    let floor = frame.floor;
                    stack.pop();
                    self.piece(Some(node), floor, cursor);
                }
            }
        }
    }
}

/// The critical path from the start of the trace to its end. Trees side by side (roots that are missing) are taken as
/// children of the trace: of those that are there at once the earliest.
pub fn critical_path(tree: &TraceTree<'_>, placed: &[Placed]) -> Vec<Piece> {
    let mut tops: Vec<u32> = tree.children(None).collect();
    let of = |node: &u32| &placed[*node as usize];
    tops.sort_by_key(|node| (of(node).end_ns, Reverse(of(node).start_ns)));
    let mut walk = Walk { tree, placed, pieces: Vec::new() };
    let Some(last) = tops.last() else { return Vec::new() };
    let mut cursor = of(last).end_ns;
    // Those that end at or after the cursor, the earliest first.
    let mut there: BinaryHeap<Reverse<(i64, u32)>> = BinaryHeap::new();
    loop {
        while let Some(top) = tops.pop_if(|top| placed[*top as usize].end_ns >= cursor) {
            there.push(Reverse((placed[top as usize].start_ns, top)));
        }
        match there.pop() {
            Some(Reverse((start, top))) if start < cursor => {
                walk.back(top, start, cursor);
                cursor = start;
            }
            Some(_) => {}
            None => match tops.last() {
                Some(next) => {
                    let end = placed[*next as usize].end_ns;
                    walk.piece(None, end, cursor);
                    cursor = end;
                }
                None => break,
            },
        }
    }
    walk.pieces.reverse();
    walk.pieces
}

#[cfg(test)]
mod tests {
    use super::super::skew::place;
    use super::super::tree::tests::{Row, trace};
    use super::*;

    /// The path as text, and the self times in the order of the tree.
    fn check(rows: &[Row<'_>], path: &str, selves: &[i64]) {
        let stored = trace(rows);
        let tree = TraceTree::new(&stored);
        let placed = place(&tree);
        let pieces = critical_path(&tree, &placed);
        let name = |node: Option<u32>| node.map_or("-", |n| tree.nodes[n as usize].span.name.as_str());
        let shown: Vec<String> =
            pieces.iter().map(|p| format!("{} {}-{}", name(p.node), p.start_ns, p.end_ns)).collect();
        assert_eq!(shown.join(", "), path, "{rows:?}");
        assert_eq!(self_times(&tree, &placed), selves, "{rows:?}");
        assert!(pieces.windows(2).all(|p| p[0].end_ns == p[1].start_ns), "{pieces:?}");
    }

    #[test]
    fn what_was_waited_for() {
        check(&[(1, 0, "a", "r", 0, 10)], "r 0-10", &[10]);
        check(
            &[(1, 0, "a", "r", 0, 10), (2, 1, "a", "x", 1, 4), (3, 1, "a", "y", 5, 9), (4, 3, "a", "z", 6, 8)],
            "r 0-1, x 1-4, r 4-5, y 5-6, z 6-8, y 8-9, r 9-10",
            &[3, 3, 2, 2],
        );
        // Side by side: the one that ends last, and what ended before it began.
        check(
            &[(1, 0, "a", "r", 0, 10), (2, 1, "a", "x", 1, 4), (3, 1, "a", "y", 2, 9), (4, 1, "a", "z", 5, 8)],
            "r 0-2, y 2-9, r 9-10",
            &[2, 3, 7, 3],
        );
        // Longer than its parent, and of no length.
        check(
            &[(1, 0, "a", "r", 0, 10), (2, 1, "a", "late", 8, 15), (3, 1, "a", "nil", 5, 5), (4, 1, "a", "neg", 6, 3)],
            "r 0-8, late 8-10",
            &[8, 0, 0, 7],
        );
    }

    #[test]
    fn without_a_root_the_trace_is_the_root() {
        check(
            &[(2, 9, "a", "x", 0, 4), (3, 9, "a", "y", 2, 6), (4, 8, "b", "z", 8, 9)],
            "x 0-2, y 2-6, - 6-8, z 8-9",
            &[4, 4, 1],
        );
        check(&[(1, 0, "a", "r", 0, 10), (2, 9, "a", "late", 8, 15)], "r 0-8, late 8-15", &[10, 7]);
        check(&[(1, 0, "a", "r", 5, 5)], "", &[0]);
        check(&[], "", &[]);
    }
}
