//! The rules of a Loki data source. Rules over logs do not exist yet, and those over metrics belong to the Prometheus
//! data source: listed here they would show twice.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use super::json_value;

/// `GET /loki/api/v1/rules`: the groups by namespace, in YAML. Without any Loki answers 404 in these words, which Grafana
/// takes for an empty list.
pub(super) async fn groups() -> Response {
    (StatusCode::NOT_FOUND, "no rule groups found\n").into_response()
}

/// `GET /prometheus/api/v1/rules`
pub(super) async fn rules() -> Response {
    json_value(&json!({ "status": "success", "data": { "groups": [] }, "errorType": "", "error": "" }))
}

/// `GET /prometheus/api/v1/alerts`
pub(super) async fn alerts() -> Response {
    json_value(&json!({ "status": "success", "data": { "alerts": [] }, "errorType": "", "error": "" }))
}
