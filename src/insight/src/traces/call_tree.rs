//! Traces by the paths of their calls: spans of the same service and name below the same path are one place. Two sides
//! of traces stand beside each other in one tree.

use rustc_hash::FxHashMap;
use trefoil_model::StatusCode;

use super::critical::self_times;
use super::skew::Placed;
use super::tree::TraceTree;

/// Levels of a tree; spans that lie deeper count in the place above them.
pub const DEPTH_MAX: u32 = 256;

/// What is known of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Traces with it.
    pub traces: u64,
    /// Spans.
    pub spans: u64,
    /// Spans with an error.
    pub errors: u64,
    /// Sum of lengths, nanoseconds.
    pub total_ns: i64,
    /// Sum of self times, nanoseconds.
    pub self_ns: i64,
    /// Self times of it and all places below: what a flame graph is drawn from, as it is never less than below.
    pub value_ns: i64,
    /// The longest span, nanoseconds.
    pub longest_ns: i64,
}

/// A place: a service and a name below others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The place above.
    pub parent: Option<u32>,
    /// Steps from the top.
    pub depth: u32,
    /// Index of the service in [`CallTree::texts`].
    service: u32,
    /// Index of the name.
    name: u32,
    /// Of each side.
    pub sides: [Figures; 2],
    last_trace: u64,
}

/// Places of one or two sides of traces.
#[derive(Debug, Default)]
pub struct CallTree {
    places: Vec<Place>,
    by_key: FxHashMap<(u32, u32, u32), u32>,
    texts: Vec<Box<str>>,
    numbers: FxHashMap<Box<str>, u32>,
    places_max: usize,
    traces: u64,
    /// Spans that had no place of their own, for there were too many or they lay too deep.
    pub folded_spans: u64,
}

/// The parent of places at the top.
const TOP: u32 = u32::MAX;

impl CallTree {
    /// Empty, for at most so many places.
    pub fn new(places_max: usize) -> Self {
        Self { places_max: places_max.min(TOP as usize - 1), ..Self::default() }
    }

    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    /// Adds a trace to a side, 0 or 1.
    pub fn add(&mut self, tree: &TraceTree<'_>, side: usize) {
        self.traces += 1;
        let as_sent = |node: &super::tree::Node<'_>| {
            let start_ns = node.span.start_ns;
            Placed { start_ns, end_ns: start_ns.saturating_add(node.span.duration_ns()), ..Placed::default() }
        };
        let placed: Vec<Placed> = tree.nodes.iter().map(as_sent).collect();
        let selves = self_times(tree, &placed);
        let mut place_of: Vec<u32> = Vec::with_capacity(tree.nodes.len());
        for (node, self_ns) in tree.nodes.iter().zip(selves) {
            let above = node.parent.map_or(TOP, |p| place_of[p as usize]);
            let (service, name) = (self.number(node.service), self.number(&node.span.name));
            let place = self.place(above, service, name);
            place_of.push(place);
            let Some(place) = self.places.get_mut(place as usize) else { continue };
            let is_first = place.last_trace != self.traces;
            place.last_trace = self.traces;
            let length = node.span.duration_ns();
            let figures = &mut place.sides[side.min(1)];
            figures.traces += u64::from(is_first);
            figures.spans += 1;
            figures.errors += u64::from(node.span.status_code == StatusCode::Error);
            figures.total_ns = figures.total_ns.saturating_add(length);
            figures.longest_ns = figures.longest_ns.max(length);
            figures.self_ns = figures.self_ns.saturating_add(self_ns);
        }
    }

    /// The place of a service and a name below another.
    fn place(&mut self, above: u32, service: u32, name: u32) -> u32 {
        if let Some(place) = self.by_key.get(&(above, service, name)) {
            return *place;
        }
        let depth = if above == TOP { 0 } else { self.places[above as usize].depth + 1 };
        if depth >= DEPTH_MAX || self.places.len() >= self.places_max {
            self.folded_spans += 1;
            return above;
        }
        let number = self.places.len() as u32;
        let parent = (above != TOP).then_some(above);
        self.places.push(Place { parent, depth, service, name, sides: Default::default(), last_trace: 0 });
        self.by_key.insert((above, service, name), number);
        number
    }

    /// The places in the order of a walk: those above first, of those beside each other the one with the greatest value,
    /// then by service and name. Parents are numbers within the answer.
    pub fn finish(mut self) -> Vec<(String, String, Place)> {
        // Places stand behind those above them.
        for number in (0..self.places.len()).rev() {
            for side in 0..2 {
                let figures = &mut self.places[number].sides[side];
                figures.value_ns = figures.value_ns.saturating_add(figures.self_ns);
                let value = figures.value_ns;
                if let Some(parent) = self.places[number].parent {
                    let above = &mut self.places[parent as usize].sides[side].value_ns;
                    *above = above.saturating_add(value);
                }
            }
        }
        let mut children: Vec<Vec<u32>> = vec![Vec::new(); self.places.len() + 1];
        for (number, place) in (0u32..).zip(&self.places) {
            children[place.parent.map_or(self.places.len(), |p| p as usize)].push(number);
        }
        let text = |number: u32| &*self.texts[number as usize];
        let key = |number: &u32| {
            let place = &self.places[*number as usize];
            let value = place.sides[0].value_ns.max(place.sides[1].value_ns);
            (std::cmp::Reverse(value), text(place.service), text(place.name))
        };
        children.iter_mut().for_each(|list| list.sort_by(|a, b| key(a).cmp(&key(b))));
        let mut out: Vec<(String, String, Place)> = Vec::with_capacity(self.places.len());
        let mut stack: Vec<(u32, Option<u32>)> =
            children[self.places.len()].iter().rev().map(|top| (*top, None)).collect();
        while let Some((number, parent)) = stack.pop() {
            let place = &self.places[number as usize];
            let own = out.len() as u32;
            out.push((text(place.service).to_owned(), text(place.name).to_owned(), Place { parent, ..place.clone() }));
            stack.extend(children[number as usize].iter().rev().map(|child| (*child, Some(own))));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::{Row, trace};
    use super::*;

    fn tree_of(sides: &[(usize, &[Row<'_>])], most: usize) -> (Vec<String>, u64) {
        let mut calls = CallTree::new(most);
        for (side, rows) in sides {
            let stored = trace(rows);
            calls.add(&TraceTree::new(&stored), *side);
        }
        let folded = calls.folded_spans;
        let shown = |(service, name, place): &(String, String, Place)| {
            let side = |f: &Figures| format!("{} {} {} {} {}", f.traces, f.spans, f.total_ns, f.self_ns, f.value_ns);
            let indent = " ".repeat(place.depth as usize);
            format!("{indent}{service}/{name} [{}] [{}]", side(&place.sides[0]), side(&place.sides[1]))
        };
        (calls.finish().iter().map(shown).collect(), folded)
    }

    const ONE: &[Row<'static>] =
        &[(1, 0, "a", "r", 0, 10), (2, 1, "b", "x", 1, 3), (3, 1, "b", "x", 4, 7), (4, 3, "c", "q", 5, 6)];
    const OTHER: &[Row<'static>] = &[(1, 0, "a", "r", 0, 20), (2, 1, "b", "x", 1, 9), (5, 1, "d", "new", 9, 12)];

    #[test]
    fn the_same_paths_are_one_place() {
        let (shown, folded) = tree_of(&[(0, ONE), (1, OTHER)], 100);
        let want = [
            "a/r [1 1 10 5 10] [1 1 20 9 20]",
            " b/x [1 2 5 4 5] [1 1 8 8 8]",
            "  c/q [1 1 1 1 1] [0 0 0 0 0]",
            " d/new [0 0 0 0 0] [1 1 3 3 3]",
        ];
        assert_eq!((shown, folded), (want.map(str::to_owned).to_vec(), 0));
        let (shown, _) = tree_of(&[(0, ONE), (0, ONE)], 100);
        assert_eq!(shown[1], " b/x [2 4 10 8 10] [0 0 0 0 0]");
    }

    #[test]
    fn places_are_bounded() {
        let (shown, folded) = tree_of(&[(0, ONE)], 2);
        assert_eq!((shown.len(), folded), (2, 1));
        assert_eq!(shown[1], " b/x [1 3 6 5 5] [0 0 0 0 0]");
        assert_eq!(tree_of(&[(0, ONE)], 0), (Vec::new(), 4));
    }
}
