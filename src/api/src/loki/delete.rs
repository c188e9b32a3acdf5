//! Deletion of lines (`/loki/api/v1/delete`): a stream selector, line filters `|=`, and a time. Lines are hidden at once,
//! their bytes go with merges. Off unless `trefoil.enable_admin_api` or `--web.enable-admin-api`.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use trefoil_logql::ast::{Expr, LineNeedle, LineOp, StageKind};
use trefoil_model::{Cancellation, LogDeletion, LogDeletionState, NanoRange};

use super::{json_value, logql_error, params, query_text, refuse};
use crate::error::{ApiError, ErrorKind};
use crate::params::Params;
use crate::state::AppState;

const NS_PER_MS: i64 = 1_000_000;

/// `POST` and `PUT` delete, `GET` lists, `DELETE` takes a deletion back.
pub(super) async fn delete(State(state): State<AppState>, request: Request) -> Response {
    if !state.admin_api {
        let message = "deletion is switched off; trefoil.enable_admin_api switches it on";
        return refuse(ApiError::new(ErrorKind::Unavailable, message));
    }
    let answered = match *request.method() {
        Method::POST | Method::PUT => add(&state, request).await,
        Method::DELETE => cancel(&state, request).await,
        _ => list(&state),
    };
    answered.unwrap_or_else(refuse)
}

fn not_here() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "the store of this server does not support deletion")
}

async fn add(state: &AppState, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(state, request).await?;
    let query = query_text(state, &params)?;
    let (matchers, contains) = match trefoil_logql::parse(&query).map_err(logql_error)? {
        Expr::Log(log) => {
            let mut contains = Vec::new();
            for stage in &log.stages {
                let text = match &stage.kind {
                    StageKind::LineFilter(filter) if filter.op == LineOp::Contains => match &filter.alternatives[..] {
                        [LineNeedle::Text(text)] => Some(text.clone()),
                        _ => None,
                    },
                    _ => None,
                };
                let reason =
                    "only a stream selector and line filters |= without alternatives can select what to delete";
                contains.push(text.ok_or_else(|| ApiError::bad_data(reason))?);
            }
            (log.matchers, contains)
        }
        Expr::Metric(_) => return Err(ApiError::bad_data("a metric query selects no lines to delete")),
    };
    let now = state.clock.now_ns();
    let start = params::time(&params, "start")?.ok_or_else(|| ApiError::bad_data("start time not set"))?;
    let end = params::time(&params, "end")?.unwrap_or(now);
    if end > now {
        return Err(ApiError::bad_data("deletes in the future are not allowed"));
    }
    if start > end {
        return Err(ApiError::bad_data("start time can't be greater than end time"));
    }
    let range = NanoRange::new(start, end.saturating_add(1));
    let deletion = LogDeletion { tenant: state.tenant, query: query.clone(), matchers, contains, range };
    let id = state.logs.admin().ok_or_else(not_here)?.delete(deletion).await?;
    tracing::info!(query, id, "lines deleted over the API");
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn list(state: &AppState) -> Result<Response, ApiError> {
    let seconds = |ns: i64| ns as f64 / 1e9;
    let shown = |state: &LogDeletionState| {
        json!({
            "request_id": state.id.to_string(),
            "start_time": seconds(state.deletion.range.start_ns),
            "end_time": seconds(state.deletion.range.end_ns.saturating_sub(1)),
            "query": state.deletion.query,
            "status": if state.is_done { "processed" } else { "received" },
            "created_at": seconds(state.created_ms.saturating_mul(NS_PER_MS)),
        })
    };
    let all = state.logs.admin().ok_or_else(not_here)?.deletions(state.tenant);
    Ok(json_value(&Value::from(all.iter().map(shown).collect::<Vec<_>>())))
}

async fn cancel(state: &AppState, request: Request) -> Result<Response, ApiError> {
    let params = Params::read(state, request).await?;
    let id = params.get("request_id");
    let unknown = || ApiError::not_found("could not find delete request with given id");
    let id = id.parse().map_err(|_| unknown())?;
    match state.logs.admin().ok_or_else(not_here)?.cancel(state.tenant, id).await? {
        Cancellation::Cancelled => Ok(StatusCode::NO_CONTENT.into_response()),
        Cancellation::Unknown => Err(unknown()),
        Cancellation::TooLate => {
            Err(ApiError::bad_data("deletion of request which is in process or already processed is not allowed"))
        }
    }
}
