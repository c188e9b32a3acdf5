//! The spans of a trace as trees.

use trefoil_model::trace_tree::{TreeSpan, parents};
use trefoil_model::{Resource, Span, StoredTrace, TraceId};

/// A span in its tree.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// The span.
    pub span: &'a Span,
    /// Who sent it.
    pub resource: &'a Resource,
    /// Service.
    pub service: &'a str,
    /// Index of its parent, which stands before it.
    pub parent: Option<u32>,
    /// Steps from the top of its tree.
    pub depth: u32,
    /// Index behind its last descendant.
    pub end: u32,
    /// Why it has no parent although it names one.
    pub lost: Option<Lost>,
}

/// Why a span that names a parent has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The parent is not stored.
    Missing,
    /// It names itself.
    Itself,
    /// It is its own ancestor.
    Cycle,
}

impl Lost {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing_parent",
            Self::Itself => "own_parent",
            Self::Cycle => "cycle",
        }
    }
}

/// A trace with its spans in the order of a walk: parents before children, children by start, then by id.
#[derive(Debug)]
pub struct TraceTree<'a> {
    /// The trace.
    pub id: TraceId,
    /// Its spans.
    pub nodes: Vec<Node<'a>>,
}

impl<'a> TraceTree<'a> {
    /// Lays a trace out. Takes any ids: cycles are cut, parents may be missing.
    pub fn new(trace: &'a StoredTrace) -> Self {
        let groups = trace.groups.iter();
        let mut spans: Vec<(&'a Span, &'a Resource, &'a str)> = groups
            .flat_map(|g| {
                let service = g.resource.service_name();
                g.spans.iter().map(move |span| (span, &*g.resource, service))
            })
            .collect();
        spans.sort_by_key(|(span, ..)| (span.start_ns, span.span_id));
        spans.truncate(u32::MAX as usize - 1);
        let of = |(span, _, service): &(&'a Span, &'a Resource, &'a str)| TreeSpan {
            id: span.span_id,
            parent: span.parent_span_id,
            service,
        };
        let parents = parents(&spans.iter().map(of).collect::<Vec<_>>());
        // Children of each in their order; those without a parent come last.
        let mut starts = vec![0u32; spans.len() + 2];
        let slot = |parent: &Option<u32>| parent.map_or(spans.len(), |p| p as usize);
        parents.iter().for_each(|p| starts[slot(p) + 1] += 1);
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut children = vec![0u32; spans.len()];
        let mut at = starts.clone();
        for (i, parent) in (0u32..).zip(&parents) {
            let slot = slot(parent);
            children[at[slot] as usize] = i;
            at[slot] += 1;
        }
        let of_slot = |slot: usize| &children[starts[slot] as usize..starts[slot + 1] as usize];
        let mut nodes: Vec<Node<'a>> = Vec::with_capacity(spans.len());
        // What is still to be walked: a span, and the number of its parent among the nodes; or a node that ends.
        enum Step {
            Enter(u32, Option<u32>, u32),
            Leave(u32),
        }
        let mut stack: Vec<Step> = of_slot(spans.len()).iter().rev().map(|i| Step::Enter(*i, None, 0)).collect();
        while let Some(step) = stack.pop() {
            match step {
                Step::Leave(node) => nodes[node as usize].end = nodes.len() as u32,
                Step::Enter(index, parent, depth) => {
                    let (span, resource, service) = spans[index as usize];
                    let lost = match span.parent_span_id {
                        Some(id) if parent.is_none() && id == span.span_id => Some(Lost::Itself),
                        Some(_) if parent.is_none() => Some(Lost::Missing),
                        _ => None,
                    };
                    let number = nodes.len() as u32;
                    nodes.push(Node { span, resource, service, parent, depth, end: number + 1, lost });
                    let own = of_slot(index as usize);
                    if !own.is_empty() {
                        stack.push(Step::Leave(number));
                        stack.extend(own.iter().rev().map(|child| Step::Enter(*child, Some(number), depth + 1)));
                    }
                }
            }
        }
        let mut tree = Self { id: trace.trace_id, nodes };
        tree.tell_cycles();
        tree
    }

    /// Tells those on a cycle from those whose parent is not there.
    fn tell_cycles(&mut self) {
        let lost = |n: &&Node<'_>| n.lost == Some(Lost::Missing);
        let wanted: std::collections::BTreeSet<_> =
            self.nodes.iter().filter(lost).filter_map(|n| n.span.parent_span_id).collect();
        let stored: std::collections::BTreeSet<_> =
            self.nodes.iter().map(|n| n.span.span_id).filter(|id| wanted.contains(id)).collect();
        for node in &mut self.nodes {
            if node.lost == Some(Lost::Missing) && node.span.parent_span_id.is_some_and(|id| stored.contains(&id)) {
                node.lost = Some(Lost::Cycle);
            }
        }
    }

    /// The direct children of a node, or with `None` the tops.
    pub fn children(&self, of: Option<u32>) -> impl Iterator<Item = u32> {
        let (mut next, end) = match of {
            Some(node) => (node + 1, self.nodes[node as usize].end),
            None => (0, self.nodes.len() as u32),
        };
        std::iter::from_fn(move || {
            let child = (next < end).then_some(next)?;
            next = self.nodes[child as usize].end;
            Some(child)
        })
    }

    /// The earliest span that names no parent.
    pub fn root(&self) -> Option<u32> {
        let roots = self.children(None).filter(|i| self.nodes[*i as usize].span.parent_span_id.is_none());
        roots.min_by_key(|i| {
            let span = self.nodes[*i as usize].span;
            (span.start_ns, span.span_id)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use trefoil_model::{AttributeValue, SpanGroup, SpanId, SpanKind, StatusCode};

    use super::*;

    /// A span: id, parent (0 for none), service, name, start, end.
    pub(crate) type Row<'a> = (u8, u8, &'a str, &'a str, i64, i64);

    pub(crate) fn span(id: u8, parent: u8, name: &str, start_ns: i64, end_ns: i64) -> Span {
        Span {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([id; 8]),
            parent_span_id: (parent > 0).then_some(SpanId([parent; 8])),
            trace_state: String::new(),
            flags: 0,
            name: name.to_owned(),
            kind: SpanKind::Internal,
            start_ns,
            end_ns,
            attributes: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
            status_code: StatusCode::Unset,
            status_message: String::new(),
            dropped: [0; 3],
        }
    }

    pub(crate) fn trace(rows: &[Row<'_>]) -> StoredTrace {
        let group = |(id, parent, service, name, start, end): &Row<'_>| SpanGroup {
            resource: Arc::new(Resource {
                attributes: vec![("service.name".to_owned(), AttributeValue::String((*service).to_owned()))],
                ..Resource::default()
            }),
            scope: Arc::default(),
            spans: vec![span(*id, *parent, name, *start, *end)],
        };
        StoredTrace { trace_id: TraceId([1; 16]), groups: rows.iter().map(group).collect() }
    }

    #[test]
    fn spans_stand_behind_their_parents() {
        let stored = trace(&[
            (3, 2, "b", "leaf", 3, 4),
            (1, 0, "a", "root", 0, 10),
            (2, 1, "a", "mid", 2, 8),
            (4, 9, "c", "orphan", 1, 2),
            (5, 5, "c", "own", 6, 7),
            (6, 7, "c", "round", 6, 7),
            (7, 6, "c", "about", 7, 8),
        ]);
        let tree = TraceTree::new(&stored);
        let shown: Vec<_> =
            tree.nodes.iter().map(|n| (n.span.name.as_str(), n.parent, n.depth, n.end, n.lost)).collect();
        assert_eq!(
            shown,
            [
                ("root", None, 0, 3, None),
                ("mid", Some(0), 1, 3, None),
                ("leaf", Some(1), 2, 3, None),
                ("orphan", None, 0, 4, Some(Lost::Missing)),
                ("own", None, 0, 5, Some(Lost::Itself)),
                ("round", None, 0, 6, Some(Lost::Cycle)),
                ("about", None, 0, 7, Some(Lost::Cycle)),
            ]
        );
        assert_eq!(tree.children(None).collect::<Vec<_>>(), [0, 3, 4, 5, 6]);
        assert_eq!((tree.children(Some(0)).collect::<Vec<_>>(), tree.root()), (vec![1], Some(0)));
    }

    #[test]
    fn a_chain_of_many_spans_needs_no_stack() {
        let mut stored = trace(&[(1, 0, "a", "top", 0, 10)]);
        let group = Arc::clone(&stored.groups[0].resource);
        let spans = (1..100_000u64).map(|i| {
            let mut span = span(1, 1, "link", i as i64, 200_000);
            span.span_id = SpanId((i + 1000).to_be_bytes());
            span.parent_span_id = Some(if i == 1 { SpanId([1; 8]) } else { SpanId((i + 999).to_be_bytes()) });
            span
        });
        stored.groups.push(SpanGroup { resource: group, scope: Arc::default(), spans: spans.collect() });
        let tree = TraceTree::new(&stored);
        assert_eq!((tree.nodes.len(), tree.nodes.last().map(|n| n.depth)), (100_000, Some(99_999)));
    }
}
