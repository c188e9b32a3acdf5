//! Which span of a trace is the child of which, by the ids that spans carry.

use rustc_hash::FxHashMap;

use crate::SpanId;

/// Spans with the id of a parent that are looked at; where an id is reused without end only the first few are.
const CANDIDATES_MAX: usize = 64;

/// What of a span says where it belongs.
#[derive(Debug, Clone, Copy)]
pub struct TreeSpan<'a> {
    /// Its id.
    pub id: SpanId,
    /// The id of its parent.
    pub parent: Option<SpanId>,
    /// Its service.
    pub service: &'a str,
}

/// For each span the index of its parent; `None` for roots and where the parent is not there.
///
/// Where several spans have the id of a parent (two services may reuse one) a span of the child's own service wins,
/// then the first. No span is its own parent, and spans on a cycle have no parent: what remains are trees.
pub fn parents(spans: &[TreeSpan<'_>]) -> Vec<Option<u32>> {
    let mut by_id: FxHashMap<SpanId, Vec<u32>> = FxHashMap::default();
    for (i, span) in (0u32..).zip(spans) {
        by_id.entry(span.id).or_default().push(i);
    }
    let parent = |(i, span): (u32, &TreeSpan<'_>)| {
        let candidates = by_id.get(&span.parent?)?;
        let others = || candidates.iter().copied().filter(|c| *c != i).take(CANDIDATES_MAX);
        others().find(|c| spans[*c as usize].service == span.service).or_else(|| others().next())
    };
    let mut parents: Vec<Option<u32>> = (0u32..).zip(spans).map(parent).collect();
    cut_cycles(&mut parents);
    parents
}

/// Takes the parents of all spans that stand on a cycle.
fn cut_cycles(parents: &mut [Option<u32>]) {
    // 0: not seen; else the number of the walk that saw the span first.
    let mut seen = vec![0u32; parents.len()];
    for start in 0..parents.len() {
        let walk = start as u32 + 1;
        let mut at = start;
        while seen[at] == 0 {
            seen[at] = walk;
            match parents[at] {
                Some(parent) => at = parent as usize,
                None => break,
            }
        }
        // The walk met itself: `at` is on a cycle.
        if seen[at] == walk && parents[at].is_some() {
            let mut on_cycle = at;
            while let Some(next) = parents[on_cycle].take() {
                on_cycle = next as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spans: &[(u8, u8, &'static str)], want: &[Option<u32>]) {
        let id = |n: u8| SpanId([n; 8]);
        let of = |(own, parent, service): &(u8, u8, &'static str)| TreeSpan {
            id: id(*own),
            parent: (*parent > 0).then(|| id(*parent)),
            service,
        };
        assert_eq!(parents(&spans.iter().map(of).collect::<Vec<_>>()), want, "{spans:?}");
    }

    #[test]
    fn parents_are_found_whatever_ids_say() {
        check(&[(1, 0, "a"), (2, 1, "a"), (3, 2, "b"), (4, 9, "b")], &[None, Some(0), Some(1), None]);
        // An id used twice: the own service wins, a span is never its own parent.
        check(&[(1, 0, "a"), (1, 1, "b"), (2, 1, "b")], &[None, Some(0), Some(1)]);
        check(&[(1, 1, "a")], &[None]);
        // A cycle with a tail.
        check(&[(1, 2, "a"), (2, 1, "a"), (3, 2, "a")], &[None, None, Some(1)]);
    }
}
