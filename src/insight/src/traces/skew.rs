//! Clocks that differ: spans that begin before or end after their parent, and where they would lie were all clocks one.
//!
//! Spans of one machine have one clock; what lies outside of its parent there is so, and is only told. A span of another
//! clock cannot begin before its cause: it is moved into its parent (to its middle, as nothing is known of the ways there
//! and back), or, when it is longer or its parent does not wait for it, to the parent's start. What was learnt of a clock
//! holds for its other spans of the trace as long as it keeps them within their parents.

use rustc_hash::FxHashMap;
use trefoil_model::{AttributeValue, Resource, SpanKind, value};

use super::tree::{Node, TraceTree};

/// Attributes of resources that name a clock, the best first.
const CLOCKS: [&str; 7] =
    ["host.id", "k8s.node.name", "host.name", "k8s.pod.uid", "k8s.pod.name", "container.id", "service.instance.id"];

/// Where a span lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Placed {
    /// Start with its clock set right, Unix nanoseconds.
    pub start_ns: i64,
    /// End likewise, not before the start.
    pub end_ns: i64,
    /// By how much it was moved.
    pub moved_ns: i64,
    /// By how much it begins before its parent as sent, 0 when it does not.
    pub before_ns: i64,
    /// By how much it ends after its parent as sent, 0 when it does not.
    pub after_ns: i64,
}

/// The clock of a resource; without a name of a machine each service has one of its own.
fn clock<'a>(resource: &'a Resource, service: &'a str) -> &'a str {
    let names = CLOCKS.iter().filter_map(|name| value::find(&resource.attributes, name));
    names.filter_map(AttributeValue::as_str).find(|text| !text.is_empty()).unwrap_or(service)
}

/// Whether a parent waits for a child.
fn waits(parent: &Node<'_>, child: &Node<'_>) -> bool {
    parent.span.kind != SpanKind::Producer && child.span.kind != SpanKind::Consumer
}

/// For each span of a trace where it lies.
pub fn place(tree: &TraceTree<'_>) -> Vec<Placed> {
    let nodes = &tree.nodes;
    let mut numbers: FxHashMap<&str, u32> = FxHashMap::default();
    let clocks: Vec<u32> = nodes
        .iter()
        .map(|node| {
            let next = numbers.len() as u32;
            *numbers.entry(clock(node.resource, node.service)).or_insert(next)
        })
        .collect();
    let mut known: Vec<Option<i64>> = vec![None; numbers.len()];
    let mut out: Vec<Placed> = Vec::with_capacity(nodes.len());
    for (node, clock) in nodes.iter().zip(&clocks) {
        let (start, length) = (node.span.start_ns, node.span.duration_ns());
        let end = start.saturating_add(length);
        let known = &mut known[*clock as usize];
        let mut placed = Placed::default();
        placed.moved_ns = match node.parent {
            None => known.unwrap_or(0),
            Some(parent) => {
                let above = &nodes[parent as usize];
                let sent = (above.span.start_ns, above.span.start_ns.saturating_add(above.span.duration_ns()));
                placed.before_ns = sent.0.saturating_sub(start).max(0);
                placed.after_ns = end.saturating_sub(sent.1).max(0);
                let around = &out[parent as usize];
                if clocks[parent as usize] == *clock {
                    around.moved_ns
                } else {
                    within(around, waits(above, node), (start, end), known.unwrap_or(0))
                }
            }
        };
        known.get_or_insert(placed.moved_ns);
        placed.start_ns = start.saturating_add(placed.moved_ns);
        placed.end_ns = placed.start_ns.saturating_add(length);
        out.push(placed);
    }
    out
}

/// By how much a span of another clock is moved, when `usual` does not do.
fn within(around: &Placed, waits: bool, (start, end): (i64, i64), usual: i64) -> i64 {
    let begins = start.saturating_add(usual) >= around.start_ns;
    let ends = end.saturating_add(usual) <= around.end_ns;
    let (length, room) = (end.saturating_sub(start), around.end_ns.saturating_sub(around.start_ns));
    let to_start = around.start_ns.saturating_sub(start);
    match (begins, ends || !waits) {
        (true, true) => usual,
        // A parent that gave up: no clock is at fault.
        (true, false) if length > room => usual,
        (false, _) if length > room || !waits => to_start,
        _ => to_start.saturating_add((room - length) / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::{Row, trace};
    use super::*;

    /// Moved, before and after of each span in the order of the tree.
    fn check(rows: &[Row<'_>], want: &[(i64, i64, i64)]) {
        let stored = trace(rows);
        let placed = place(&TraceTree::new(&stored));
        assert_eq!(placed.iter().map(|p| (p.moved_ns, p.before_ns, p.after_ns)).collect::<Vec<_>>(), want, "{rows:?}");
    }

    #[test]
    fn other_clocks_are_set_right() {
        let root = (1, 0, "a", "root", 100, 200);
        check(&[root, (2, 1, "b", "in", 110, 190)], &[(0, 0, 0), (0, 0, 0)]);
        // To the middle, with all that is below.
        check(
            &[root, (2, 1, "b", "early", 10, 90), (3, 2, "b", "below", 20, 30)],
            &[(0, 0, 0), (100, 90, 0), (100, 0, 0)],
        );
        // Longer than its parent: to its start; one that only ends later stays.
        check(&[root, (2, 1, "b", "long", 50, 190)], &[(0, 0, 0), (50, 50, 0)]);
        check(&[root, (2, 1, "b", "late", 110, 290)], &[(0, 0, 0), (0, 0, 90)]);
        // The same clock is told and left.
        check(&[root, (2, 1, "a", "late", 150, 250)], &[(0, 0, 0), (0, 0, 50)]);
        // A callback has the clock of the first.
        check(
            &[root, (2, 1, "b", "early", 0, 80), (3, 2, "a", "back", 120, 140)],
            &[(0, 0, 0), (110, 100, 0), (0, 0, 60)],
        );
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        let rows = [(1, 0, "a", "root", i64::MIN, i64::MIN), (2, 1, "b", "x", i64::MAX, i64::MAX)];
        place(&TraceTree::new(&trace(&rows)));
        let rows = [(1, 0, "a", "root", i64::MAX, i64::MAX), (2, 1, "b", "x", i64::MIN, i64::MAX)];
        place(&TraceTree::new(&trace(&rows)));
    }
}
