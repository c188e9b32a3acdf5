//! `flame`: many traces as one flame graph.

use std::ops::ControlFlow;

use axum::extract::{Request, State};
use serde::Serialize;
use trefoil_insight::traces::call_tree::{CallTree, Figures};
use trefoil_insight::traces::tree::TraceTree;
use trefoil_model::QueryBudget;
use trefoil_traceql::{TracesQuery, each_trace};

use super::{ask, count, note, query_text, range, traceql_error};
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;

/// Most places of a tree of calls.
pub(super) const PLACES_MAX: usize = 50_000;
/// What a place takes.
const PLACE_BYTES: u64 = 512;
/// Traces that are summed when the client does not say.
const TRACES: usize = 1_000;
/// Most traces that are summed.
const TRACES_MAX: usize = 100_000;
/// Spans that are summed.
const SPANS_MAX: usize = 5_000_000;

/// What is told of a place on one side.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Side {
    traces: u64,
    spans: u64,
    errors: u64,
    total_ns: i64,
    self_ns: i64,
    value_ns: i64,
    longest_ns: i64,
}

impl From<&Figures> for Side {
    fn from(of: &Figures) -> Self {
        let Figures { traces, spans, errors, total_ns, self_ns, value_ns, longest_ns } = *of;
        Self { traces, spans, errors, total_ns, self_ns, value_ns, longest_ns }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    query: String,
    traces: u64,
    spans: usize,
    /// Whether there are more traces than were summed.
    is_cut: bool,
    value_ns: i64,
    places: Vec<ShownPlace>,
    folded_spans: u64,
}

#[derive(Serialize)]
struct ShownPlace {
    parent: Option<u32>,
    depth: u32,
    service: String,
    name: String,
    #[serde(flatten)]
    side: Side,
}

/// `GET`, `POST /api/v1/traces/flame`
pub(super) async fn flame(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let (query, range) = (query_text(&state, &params, "q")?, range(&state, &params)?);
    let most = count(&params, "traces", TRACES, TRACES_MAX)?;
    let places_max = count(&params, "limit", PLACES_MAX / 10, PLACES_MAX)?;
    let note = note("/api/v1/traces/flame", client, &query, range);
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    ask(&state, note, move |context| {
        context.charge_bytes(places_max as u64 * PLACE_BYTES)?;
        let mut calls = CallTree::new(places_max);
        let (mut summed, mut spans, mut is_cut) = (0u64, 0usize, false);
        let wanted = TracesQuery { query: &query, range, tenant };
        each_trace(&wanted, traces.as_ref(), context, &mut |trace| {
            if summed >= most as u64 || spans >= SPANS_MAX {
                is_cut = true;
                return Ok(ControlFlow::Break(()));
            }
            let tree = TraceTree::new(trace);
            summed += 1;
            spans += tree.nodes.len();
            calls.add(&tree, 0);
            Ok(ControlFlow::Continue(()))
        })
        .map_err(traceql_error)?;
        let folded_spans = calls.folded_spans;
        let places: Vec<ShownPlace> = calls
            .finish()
            .into_iter()
            .map(|(service, name, place)| {
                let side = Side::from(&place.sides[0]);
                ShownPlace { parent: place.parent, depth: place.depth, service, name, side }
            })
            .collect();
        let tops = places.iter().filter(|p| p.parent.is_none());
        let value_ns = tops.fold(0i64, |sum, place| sum.saturating_add(place.side.value_ns));
        Ok(Shown { query, traces: summed, spans, is_cut, value_ns, places, folded_spans })
    })
    .await
}
