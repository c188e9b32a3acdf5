//! `compare`: two traces beside each other, by the paths of their calls.

use axum::extract::{Request, State};
use serde::Serialize;
use trefoil_insight::traces::call_tree::{CallTree, Figures};
use trefoil_insight::traces::tree::TraceTree;
use trefoil_model::NanoRange;

use super::flame::{PLACES_MAX, Side};
use super::{ask, count, load, note, trace_id};
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;

/// Places that are listed when the client does not say.
const PLACES: usize = 5_000;
/// What counts as slower or faster: more than a tenth, and more than this.
const DIFFERENCE_NS: i64 = 1_000_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    a: Of,
    b: Of,
    added: usize,
    missing: usize,
    slower: usize,
    faster: usize,
    places: Vec<Compared>,
    places_cut: bool,
    folded_spans: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Of {
    trace_id: String,
    duration_ns: i64,
    span_count: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Compared {
    parent: Option<u32>,
    depth: u32,
    service: String,
    name: String,
    change: &'static str,
    /// Sum of lengths in `b` less that in `a`.
    difference_ns: i64,
    a: Side,
    b: Side,
}

fn of(tree: &TraceTree<'_>) -> Of {
    let start = tree.nodes.iter().map(|n| n.span.start_ns).min().unwrap_or(0);
    let end = tree.nodes.iter().map(|n| n.span.start_ns.saturating_add(n.span.duration_ns())).max().unwrap_or(0);
    Of { trace_id: tree.id.to_string(), duration_ns: end.saturating_sub(start), span_count: tree.nodes.len() }
}

/// What became of a place from `a` to `b`.
fn change([a, b]: &[Figures; 2]) -> &'static str {
    let difference = b.total_ns.saturating_sub(a.total_ns);
    let is_much = difference.saturating_abs() > DIFFERENCE_NS.min(a.total_ns / 2)
        && difference.saturating_abs() > a.total_ns / 10;
    match (a.spans, b.spans) {
        (0, _) => "added",
        (_, 0) => "missing",
        _ if is_much && difference > 0 => "slower",
        _ if is_much => "faster",
        _ => "same",
    }
}

/// `GET`, `POST /api/v1/traces/compare`
pub(super) async fn compare(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let (a, b) = (trace_id("a", params.get("a"))?, trace_id("b", params.get("b"))?);
    let most = count(&params, "limit", PLACES, PLACES_MAX)?;
    let range = NanoRange { start_ns: 0, end_ns: 0 };
    let note = note("/api/v1/traces/compare", client, &format!("{a} {b}"), range);
    let own = state.clone();
    ask(&state, note, move |context| {
        let (a, b) = (load(&own, a, context)?, load(&own, b, context)?);
        let (a, b) = (TraceTree::new(&a), TraceTree::new(&b));
        let mut calls = CallTree::new(PLACES_MAX);
        calls.add(&a, 0);
        calls.add(&b, 1);
        let folded_spans = calls.folded_spans;
        let places: Vec<Compared> = calls
            .finish()
            .into_iter()
            .map(|(service, name, place)| Compared {
                parent: place.parent,
                depth: place.depth,
                service,
                name,
                change: change(&place.sides),
                difference_ns: place.sides[1].total_ns.saturating_sub(place.sides[0].total_ns),
                a: Side::from(&place.sides[0]),
                b: Side::from(&place.sides[1]),
            })
            .collect();
        let such = |change: &str| places.iter().filter(|p| p.change == change).count();
        let (added, missing, slower, faster) = (such("added"), such("missing"), such("slower"), such("faster"));
        let places_cut = places.len() > most;
        let places = places.into_iter().take(most).collect();
        Ok(Shown { a: of(&a), b: of(&b), added, missing, slower, faster, places, places_cut, folded_spans })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_the_same() {
        let check = |a: (u64, i64), b: (u64, i64), want: &str| {
            let figures = |(spans, total_ns)| Figures { spans, total_ns, ..Figures::default() };
            assert_eq!(change(&[figures(a), figures(b)]), want, "{a:?} {b:?}");
        };
        check((0, 0), (1, 5), "added");
        check((1, 5), (0, 0), "missing");
        check((1, 100_000_000), (1, 105_000_000), "same");
        check((1, 100_000_000), (1, 120_000_000), "slower");
        check((1, 100_000_000), (2, 50_000_000), "faster");
        check((1, 1_000), (1, 1_400), "same");
        check((1, 1_000), (1, 2_400), "slower");
    }
}
