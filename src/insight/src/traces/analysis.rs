//! All that is told of one trace: per span, per operation, per service, and the critical path.

use std::collections::BTreeMap;

use trefoil_model::{StatusCode, StoredTrace};

use super::critical::{Piece, critical_path, self_times};
use super::skew::{Placed, place};
use super::tree::TraceTree;

/// What is told of a span besides what it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpanFigures {
    /// Where it lies.
    pub placed: Placed,
    /// How long none of its children was there, nanoseconds.
    pub self_ns: i64,
    /// How much of the critical path it is, nanoseconds.
    pub critical_ns: i64,
}

/// Sums over spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// Spans.
    pub spans: u64,
    /// Those with an error.
    pub errors: u64,
    /// Sum of their lengths.
    pub total_ns: i64,
    /// The longest.
    pub longest_ns: i64,
    /// Sum of their self times.
    pub self_ns: i64,
    /// Their part of the critical path.
    pub critical_ns: i64,
}

/// A trace, looked at as a whole.
#[derive(Debug)]
pub struct Analysis<'a> {
    /// Its spans in the order of a walk.
    pub tree: TraceTree<'a>,
    /// Figures of each.
    pub figures: Vec<SpanFigures>,
    /// The critical path.
    pub path: Vec<Piece>,
    /// First start and last end with clocks set right, Unix nanoseconds; zeros without spans.
    pub bounds: (i64, i64),
    /// By service and name, the one that took most of the critical path first, then by self time.
    pub operations: Vec<((&'a str, &'a str), Sums)>,
    /// By service, in the same order.
    pub services: Vec<(&'a str, Sums)>,
}

impl<'a> Analysis<'a> {
    /// Looks at a trace. Time and memory grow with its spans, times the logarithm for sorting.
    pub fn new(trace: &'a StoredTrace) -> Self {
        let tree = TraceTree::new(trace);
        let placed = place(&tree);
        let selves = self_times(&tree, &placed);
        let path = critical_path(&tree, &placed);
        let mut figures: Vec<SpanFigures> = placed
            .iter()
            .zip(selves)
            .map(|(placed, self_ns)| SpanFigures { placed: *placed, self_ns, critical_ns: 0 })
            .collect();
        for piece in &path {
            if let Some(node) = piece.node {
                let own = &mut figures[node as usize].critical_ns;
                *own = own.saturating_add(piece.end_ns.saturating_sub(piece.start_ns));
            }
        }
        let bounds =
            (placed.iter().map(|p| p.start_ns).min().unwrap_or(0), placed.iter().map(|p| p.end_ns).max().unwrap_or(0));
        let mut operations: BTreeMap<(&str, &str), Sums> = BTreeMap::new();
        let mut services: BTreeMap<&str, Sums> = BTreeMap::new();
        for (node, figures) in tree.nodes.iter().zip(&figures) {
            let length = node.span.duration_ns();
            let add = |sums: &mut Sums| {
                sums.spans += 1;
                sums.errors += u64::from(node.span.status_code == StatusCode::Error);
                sums.total_ns = sums.total_ns.saturating_add(length);
                sums.longest_ns = sums.longest_ns.max(length);
                sums.self_ns = sums.self_ns.saturating_add(figures.self_ns);
                sums.critical_ns = sums.critical_ns.saturating_add(figures.critical_ns);
            };
            add(operations.entry((node.service, &node.span.name)).or_default());
            add(services.entry(node.service).or_default());
        }
        Self { figures, path, bounds, operations: ranked(operations), services: ranked(services), tree }
    }
}

/// What took most first.
fn ranked<K: Ord>(sums: BTreeMap<K, Sums>) -> Vec<(K, Sums)> {
    let mut out: Vec<(K, Sums)> = sums.into_iter().collect();
    out.sort_by_key(|(_, sums)| std::cmp::Reverse((sums.critical_ns, sums.self_ns)));
    out
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::trace;
    use super::*;

    #[test]
    fn the_path_is_the_length_of_the_trace() {
        let stored = trace(&[
            (1, 0, "a", "r", 0, 100),
            (2, 1, "b", "x", 10, 40),
            (3, 1, "b", "x", 50, 90),
            (4, 3, "c", "q", 60, 80),
        ]);
        let analysis = Analysis::new(&stored);
        let sum: i64 = analysis.figures.iter().map(|f| f.critical_ns).sum();
        assert_eq!((sum, analysis.bounds), (100, (0, 100)));
        let shown: Vec<_> =
            analysis.operations.iter().map(|(key, s)| (*key, s.spans, s.total_ns, s.self_ns, s.critical_ns)).collect();
        assert_eq!(shown, [(("b", "x"), 2, 70, 50, 50), (("a", "r"), 1, 100, 30, 30), (("c", "q"), 1, 20, 20, 20)]);
        assert_eq!(analysis.services[0].0, "b");
        let empty = trace(&[]);
        assert_eq!(Analysis::new(&empty).bounds, (0, 0));
    }
}
