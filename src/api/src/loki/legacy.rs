//! The API of before Loki 1.0, `/api/prom/*`, for shippers and scripts that still call it.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json};
use trefoil_logql::{Engine, MergedStream, Output, QueryKind, RangeQuery, StreamResult, merge_labels};
use trefoil_model::Labels;

use super::stats::{self, Took};
use super::{answer, check_limit, labels, logql_error, params, query_text, unwritable, within};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::AppState;

/// `GET /api/prom/query`: lines, with a regular expression beside the query if one is given.
pub(super) async fn query(State(state): State<AppState>, request: Request) -> Response {
    answer(lines(&state, request).await)
}

async fn lines(state: &AppState, request: Request) -> Result<Vec<u8>, ApiError> {
    let params = Params::read(state, request).await?;
    let mut text = query_text(state, &params)?;
    if !params.get("regexp").is_empty() {
        let regexp = params.get("regexp");
        let quoted = if regexp.contains('`') { format!("{regexp:?}") } else { format!("`{regexp}`") };
        text = format!("{text} |~ {quoted}");
    }
    let range = params::range(&params, state.clock.now_ns())?;
    check_limit(state, range.limit)?;
    let (logs, tenant, clock) = (state.logs.clone(), state.tenant, state.clock.clone());
    let max = state.limits.response_bytes_max;
    let work = move |context: &trefoil_runtime::QueryContext| {
        let began = clock.monotonic();
        if Engine::check(&text).map_err(logql_error)? != QueryKind::Log {
            return Err(ApiError::bad_data("legacy endpoints only support log queries"));
        }
        let query = RangeQuery {
            query: &text,
            start_ns: range.start_ns,
            end_ns: range.end_ns,
            step_ns: range.step_ns,
            direction: range.direction,
            limit: range.limit,
            tenant,
        };
        let found = Engine::range(&query, logs.as_ref(), context).map_err(logql_error)?;
        let Output::Streams(streams) = &found.output else { return Err(ApiError::internal("lines were expected")) };
        let took = Took { ran: clock.monotonic().saturating_sub(began), ..Took::default() };
        let body = json!({ "streams": shown(streams), "stats": stats::of(&found.stats, took) });
        within(serde_json::to_vec(&body).map_err(unwritable)?, max)
    };
    state.gate.run(state, None, work).await
}

/// Streams in the old form: labels as text, times in RFC 3339.
pub(super) fn shown(streams: &[StreamResult]) -> Vec<Value> {
    let stream = |merged: MergedStream<'_>| {
        let entries: Vec<Value> = merged
            .values
            .iter()
            .map(|(ns, line)| {
                let ts = Timestamp::from_nanosecond(i128::from(*ns)).unwrap_or(Timestamp::UNIX_EPOCH);
                json!({ "ts": ts.to_string(), "line": line })
            })
            .collect();
        let labels = Labels::from_pairs(merged.labels.iter().copied());
        json!({ "labels": labels.to_string(), "entries": entries })
    };
    merge_labels(streams).into_iter().map(stream).collect()
}

/// `GET /api/prom/label`
pub(super) async fn label_names(State(state): State<AppState>, request: Request) -> Response {
    answer(labels::names(&state, request).await.and_then(|body| values(&body)))
}

/// `GET /api/prom/label/{name}/values`
pub(super) async fn label_values(
    State(state): State<AppState>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    answer(labels::values(&state, name, request).await.and_then(|body| values(&body)))
}

/// The list of today's answer under its old name.
fn values(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let answer: Value = serde_json::from_slice(body).map_err(unwritable)?;
    serde_json::to_vec(&json!({ "values": answer.get("data").unwrap_or(&json!([])) })).map_err(unwritable)
}
