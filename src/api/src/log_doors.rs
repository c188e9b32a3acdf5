//! More doors for logs over HTTP: JSON lines, Splunk's HEC, Datadog, GELF and journald's upload. Elasticsearch's is a dialect of
//! its own ([`crate::elasticsearch`]).
//!
//! Each is served on its product's own path and below a prefix (`/splunk`, `/datadog`, `/journald`), and on the path that
//! VictoriaLogs gave it below `/insert`. A path that the page has, too (`/services/…`), stays the page's for `GET`.

mod hec;
mod journald;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use trefoil_ingest::{Answer, FieldOptions};
use trefoil_runtime::{OnError, Phase};

use crate::error::ApiError;
use crate::params::{Params, collect};
use crate::routes::{Access, Route};
use crate::state::AppState;

/// The routes.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::post_put("/insert/jsonline", Access::Write, json_lines),
        Route::post("/gelf", Access::Write, gelf),
        Route::post("/api/v2/logs", Access::Write, datadog),
        Route::post("/v1/input", Access::Write, datadog),
        Route::post("/datadog/api/v2/logs", Access::Write, datadog),
        Route::post("/datadog/v1/input", Access::Write, datadog),
        Route::post("/insert/datadog/api/v2/logs", Access::Write, datadog),
        Route::get("/api/v1/validate", Access::Write, datadog_validate),
        Route::get("/datadog/api/v1/validate", Access::Write, datadog_validate),
        Route::get("/insert/datadog/api/v1/validate", Access::Write, datadog_validate),
    ];
    routes.extend(hec::routes());
    routes.extend(journald::routes());
    routes
}

/// Whether a body sent to that path may never end.
pub(crate) fn is_endless(path: &str) -> bool {
    journald::PATHS.contains(&path)
}

/// Puts answers of other products' doors into those products' form, refusals before the door included.
pub(crate) fn dress(path: &str, response: Response) -> Response {
    if crate::elasticsearch::owns(path) || path.starts_with("/insert/elasticsearch") {
        return crate::elasticsearch::dress(response);
    }
    if hec::owns(path) { hec::dress(response) } else { response }
}

/// What a sender says about its fields.
pub(crate) fn field_options(headers: &HeaderMap, params: &Params) -> Result<FieldOptions, String> {
    FieldOptions::read(
        |name| Some(params.get(name).to_owned()).filter(|v| !v.is_empty()),
        |name| headers.get(name).and_then(|v| v.to_str().ok()),
    )
}

/// Runs a write in a task of its own and waits for what it says: it is not given up half way when its sender leaves.
pub(crate) async fn detached<T: Send + 'static>(
    state: &AppState,
    write: impl Future<Output = T> + Send + 'static,
) -> Result<T, ApiError> {
    let (tell, told) = tokio::sync::oneshot::channel();
    state.tasks.spawn_once("write request", Phase::Ingest, OnError::Log, move |_| async move {
        // Nobody listens when the sender has left.
        tell.send(write.await).ok();
        Ok(())
    });
    told.await.map_err(|_| ApiError::internal("request could not be handled"))
}

/// A request's head, its parameters, what it says of its fields, and its body.
pub(crate) struct Pushed {
    pub(crate) headers: HeaderMap,
    pub(crate) params: Params,
    pub(crate) options: FieldOptions,
    pub(crate) body: bytes::Bytes,
}

impl Pushed {
    /// Reads a request within `body_bytes_max`.
    pub(crate) async fn read(state: &AppState, request: Request) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let params = Params::from_query(parts.uri.query().unwrap_or(""))?;
        let options = field_options(&parts.headers, &params).map_err(ApiError::bad_data)?;
        let body = collect(body, state.limits.body_bytes_max, "body_bytes_max").await?;
        Ok(Self { headers: parts.headers, params, options, body })
    }
}

async fn json_lines(State(state): State<AppState>, request: Request) -> Response {
    let work = async {
        let Pushed { headers, options, body, .. } = Pushed::read(&state, request).await?;
        let ingest = state.ingest.clone();
        detached(&state, async move { ingest.json_lines(&headers, body, options).await }).await
    };
    respond(work.await)
}

async fn datadog(State(state): State<AppState>, request: Request) -> Response {
    let work = async {
        let Pushed { headers, options, body, .. } = Pushed::read(&state, request).await?;
        let ingest = state.ingest.clone();
        detached(&state, async move { ingest.datadog_logs(&headers, body, options).await }).await
    };
    respond(work.await)
}

async fn gelf(State(state): State<AppState>, request: Request) -> Response {
    let work = async {
        let Pushed { headers, body, .. } = Pushed::read(&state, request).await?;
        let ingest = state.ingest.clone();
        detached(&state, async move { ingest.gelf_http(&headers, body).await }).await
    };
    respond(work.await)
}

/// Who gets here has a valid key.
async fn datadog_validate() -> Response {
    json_response(StatusCode::OK, &json!({ "valid": true }))
}

fn respond(answer: Result<Answer, ApiError>) -> Response {
    match answer {
        Ok(answer) => crate::ingest_routes::into_response(answer),
        Err(error) => error.into_text(),
    }
}

fn json_response(status: StatusCode, body: &serde_json::Value) -> Response {
    crate::elasticsearch::json_answer(status, body).into_response()
}
