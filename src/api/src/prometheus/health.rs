//! What Prometheus serves outside `/api/v1`: health, reload, its own metrics.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use prometheus::{Encoder as _, TextEncoder};
use trefoil_model::StoreTrouble;

use super::answer::json;
use super::status::build_info;
use crate::error::{ApiError, ErrorKind};
use crate::state::AppState;

/// `GET /-/healthy`
pub(super) async fn healthy() -> &'static str {
    "Trefoil is Healthy.\n"
}

/// `GET /-/ready`: 503 also while no write is taken; a second line while only work behind the writes fails.
pub(super) async fn ready(State(state): State<AppState>) -> Response {
    if !state.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n").into_response();
    }
    match state.admin.as_ref().and_then(|admin| admin.trouble()) {
        None => "Trefoil is Ready.\n".into_response(),
        Some(StoreTrouble::Degraded(cause)) => format!("Trefoil is Ready.\nDegraded: {cause}\n").into_response(),
        Some(StoreTrouble::NoWrites(cause)) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("No write is taken: {cause}\n")).into_response()
        }
    }
}

/// `GET /metrics`: the process's own metrics in the text format 0.0.4.
pub(super) async fn metrics() -> Response {
    let mut body = Vec::new();
    let encoder = TextEncoder::new();
    if let Err(error) = encoder.encode(&prometheus::gather(), &mut body) {
        tracing::error!(%error, "own metrics cannot be written");
        return ApiError::internal("own metrics cannot be written").into_text();
    }
    let mut response = Response::new(axum::body::Body::from(body));
    let form = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, form);
    response
}

/// `GET /version`
pub(super) async fn version(State(state): State<AppState>) -> Response {
    json(build_info(&state).to_string())
}

fn lifecycle_off() -> Response {
    ApiError::new(ErrorKind::Forbidden, "Lifecycle API is not enabled.").into_text()
}

/// `POST`, `PUT /-/reload`
pub(super) async fn reload(State(state): State<AppState>) -> Response {
    if !state.lifecycle {
        return lifecycle_off();
    }
    let result = (state.reload)().await;
    state.note_reload(result.is_ok());
    match result {
        Ok(()) => StatusCode::OK.into_response(),
        Err(message) => ApiError::internal(format!("failed to reload config: {message}")).into_text(),
    }
}

/// `POST`, `PUT /-/quit`
pub(super) async fn quit(State(state): State<AppState>) -> Response {
    if !state.lifecycle {
        return lifecycle_off();
    }
    (state.quit)();
    "Requesting termination... Goodbye!\n".into_response()
}
