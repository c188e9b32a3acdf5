//! `{id}/analysis`: what took the time of one trace.

use axum::extract::{Path, Request, State};
use serde::Serialize;
use trefoil_insight::traces::analysis::{Analysis, Sums};
use trefoil_insight::traces::critical::Piece;
use trefoil_insight::traces::tree::Lost;
use trefoil_model::{NanoRange, StatusCode};

use super::{ask, count, load, note, trace_id};
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;

/// Spans that are listed when the client does not say.
const SPANS: usize = 10_000;
/// Most operations.
const OPERATIONS_MAX: usize = 200;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    trace_id: String,
    start: String,
    end: String,
    duration_ns: i64,
    span_count: usize,
    error_count: u64,
    /// Spans that name a parent and have none, by why.
    missing_parent: usize,
    own_parent: usize,
    cycle: usize,
    outside_parent: usize,
    moved: usize,
    services: Vec<ShownSums>,
    operations: Vec<ShownSums>,
    critical_path: Vec<ShownPiece>,
    critical_path_cut: bool,
    spans: Vec<ShownSpan>,
    spans_cut: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownSums {
    service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    spans: u64,
    errors: u64,
    total_ns: i64,
    longest_ns: i64,
    self_ns: i64,
    critical_ns: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownPiece {
    /// Index among the spans of the answer; none where no span was there.
    span: Option<u32>,
    span_id: Option<String>,
    start: String,
    duration_ns: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownSpan {
    span_id: String,
    parent: Option<u32>,
    parent_span_id: Option<String>,
    depth: u32,
    service: String,
    name: String,
    kind: &'static str,
    status: &'static str,
    start: String,
    duration_ns: i64,
    self_ns: i64,
    critical_ns: i64,
    /// Start with clocks set right.
    adjusted_start: String,
    moved_ns: i64,
    before_parent_ns: i64,
    after_parent_ns: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<&'static str>,
}

fn sums(service: &str, name: Option<&str>, sums: &Sums) -> ShownSums {
    ShownSums {
        service: service.to_owned(),
        name: name.map(str::to_owned),
        spans: sums.spans,
        errors: sums.errors,
        total_ns: sums.total_ns,
        longest_ns: sums.longest_ns,
        self_ns: sums.self_ns,
        critical_ns: sums.critical_ns,
    }
}

/// A status as TraceQL writes it.
fn status(code: StatusCode) -> &'static str {
    match code {
        StatusCode::Unset => "unset",
        StatusCode::Ok => "ok",
        StatusCode::Error => "error",
    }
}

fn shown(analysis: &Analysis<'_>, most: usize) -> Shown {
    let Analysis { tree, figures, path, bounds, operations, services } = analysis;
    let lost = |why: Lost| tree.nodes.iter().filter(|n| n.lost == Some(why)).count();
    let placed = || figures.iter().map(|f| f.placed);
    let piece = |piece: &Piece| ShownPiece {
        span: piece.node,
        span_id: piece.node.map(|n| tree.nodes[n as usize].span.span_id.to_string()),
        start: piece.start_ns.to_string(),
        duration_ns: piece.end_ns.saturating_sub(piece.start_ns),
    };
    let spans = tree.nodes.iter().zip(figures).take(most).map(|(node, figures)| ShownSpan {
        span_id: node.span.span_id.to_string(),
        parent: node.parent,
        parent_span_id: node.span.parent_span_id.map(|id| id.to_string()),
        depth: node.depth,
        service: node.service.to_owned(),
        name: node.span.name.clone(),
        kind: node.span.kind.as_str(),
        status: status(node.span.status_code),
        start: node.span.start_ns.to_string(),
        duration_ns: node.span.duration_ns(),
        self_ns: figures.self_ns,
        critical_ns: figures.critical_ns,
        adjusted_start: figures.placed.start_ns.to_string(),
        moved_ns: figures.placed.moved_ns,
        before_parent_ns: figures.placed.before_ns,
        after_parent_ns: figures.placed.after_ns,
        lost: node.lost.map(Lost::as_str),
    });
    Shown {
        trace_id: tree.id.to_string(),
        start: bounds.0.to_string(),
        end: bounds.1.to_string(),
        duration_ns: bounds.1.saturating_sub(bounds.0),
        span_count: tree.nodes.len(),
        error_count: services.iter().map(|(_, s)| s.errors).sum(),
        missing_parent: lost(Lost::Missing),
        own_parent: lost(Lost::Itself),
        cycle: lost(Lost::Cycle),
        outside_parent: placed().filter(|p| p.before_ns > 0 || p.after_ns > 0).count(),
        moved: placed().filter(|p| p.moved_ns != 0).count(),
        services: services.iter().take(OPERATIONS_MAX).map(|(name, s)| sums(name, None, s)).collect(),
        operations: operations
            .iter()
            .take(OPERATIONS_MAX)
            .map(|((service, name), s)| sums(service, Some(name), s))
            .collect(),
        critical_path: path.iter().take(most).map(piece).collect(),
        critical_path_cut: path.len() > most,
        spans: spans.collect(),
        spans_cut: tree.nodes.len() > most,
    }
}

/// `GET /api/v1/traces/{id}/analysis`
pub(super) async fn analysis(State(state): State<AppState>, Path(id): Path<String>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let id = trace_id("id", &id)?;
    let most = count(&params, "limit", SPANS, state.limits.spans_per_trace_max)?;
    let note = note("/api/v1/traces/{id}/analysis", client, &id.to_string(), NanoRange { start_ns: 0, end_ns: 0 });
    let own = state.clone();
    ask(&state, note, move |context| {
        let trace = load(&own, id, context)?;
        Ok(shown(&Analysis::new(&trace), most))
    })
    .await
}
