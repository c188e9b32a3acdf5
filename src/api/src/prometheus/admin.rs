//! `/api/v1/admin/tsdb/*`: what changes stored samples. Off unless `trefoil.enable_admin_api` or
//! `--web.enable-admin-api`.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;
use tokio::sync::Semaphore;
use trefoil_model::{StoreError, TimeRange};
use trefoil_runtime::{OnError, Phase};

use super::answer::{PromResult, error, success};
use super::labels::{Faults, range, selectors};
use crate::error::{ApiError, ErrorKind};
use crate::params::{Params, parse_bool};
use crate::state::AppState;

/// One of these calls at a time: each may rewrite a lot, and none is urgent.
static TURN: Semaphore = Semaphore::const_new(1);

/// Characters of the selectors that are logged.
const LOGGED_MAX: usize = 500;

/// The reference's answer, its status 500 included.
fn switched_off() -> Response {
    let mut response = error(&ApiError::new(ErrorKind::Unavailable, "admin APIs disabled"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

fn not_here(what: &str) -> ApiError {
    ApiError::new(ErrorKind::Unavailable, format!("the store of this server does not support {what}"))
}

/// Runs a change in a task of its own, so that it is not given up half way when the client leaves.
async fn to_its_end<T: Send + 'static>(
    state: &AppState,
    name: &'static str,
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, ApiError> {
    let turn = TURN.acquire().await.map_err(|_| ApiError::internal("server is shutting down"))?;
    let (tell, told) = tokio::sync::oneshot::channel();
    state.tasks.spawn_once(name, Phase::Ingest, OnError::Log, move |_| async move {
        let _turn = turn;
        // Nobody listens when the client has left.
        tell.send(work.await).ok();
        Ok(())
    });
    match told.await {
        Ok(result) => Ok(result?),
        Err(_) => Err(ApiError::internal("request could not be handled")),
    }
}

/// `POST`, `PUT /api/v1/admin/tsdb/delete_series`: hides samples at once; their bytes go with merges.
pub(super) async fn delete_series(State(state): State<AppState>, request: Request) -> PromResult {
    if !state.admin_api {
        return Ok(switched_off());
    }
    let params = Params::read(&state, request).await?;
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided").into());
    }
    let range = range(&params)?;
    let requests = selectors(&state, &params, range.unwrap_or(TimeRange::ALL), Faults::Named)?;
    if range.is_none() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let admin = state.admin.clone().ok_or_else(|| not_here("deletion"))?;
    let selectors: String = params.all("match[]").collect::<Vec<_>>().join(" ").chars().take(LOGGED_MAX).collect();
    let series = to_its_end(&state, "delete series", async move { admin.delete(&requests).await }).await?;
    tracing::info!(selectors, series, "series deleted over the admin API");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST`, `PUT /api/v1/admin/tsdb/clean_tombstones`: rewrites what holds deleted samples.
pub(super) async fn clean_tombstones(State(state): State<AppState>) -> PromResult {
    if !state.admin_api {
        return Ok(switched_off());
    }
    let admin = state.admin.clone().ok_or_else(|| not_here("deletion"))?;
    let parts = to_its_end(&state, "clean tombstones", async move { admin.clean_tombstones().await }).await?;
    tracing::info!(parts, "deleted samples removed over the admin API");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST`, `PUT /api/v1/admin/tsdb/snapshot`: a copy of all stores that can be opened as a data directory. With the
/// parameter `for_backup` of ours it is one that `trefoil backup` removes, also when the backup that wanted it was cut off.
pub(super) async fn snapshot(State(state): State<AppState>, request: Request) -> PromResult {
    if !state.admin_api {
        return Ok(switched_off());
    }
    let params = Params::read(&state, request).await?;
    let flag = |name: &'static str| match params.get(name) {
        "" => Ok(false),
        text => parse_bool(text).map_err(|e| ApiError::parameter(name, format!("unable to parse boolean: {e}"))),
    };
    let (skip_head, for_backup) = (flag("skip_head")?, flag("for_backup")?);
    let taker = state.snapshots.clone().ok_or_else(|| not_here("snapshots"))?;
    let name = to_its_end(&state, "snapshot", async move { taker.snapshot(!skip_head, for_backup).await }).await?;
    tracing::info!(name, skip_head, "snapshot taken over the admin API");
    Ok(success(&json!({ "name": name })))
}
