//! The dashboards that come with the server: the list, and each by its uid.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use rust_embed::RustEmbed;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::prometheus::answer::PromError;
use crate::routes::{Access, Route};
use crate::state::AppState;

#[derive(RustEmbed)]
#[folder = "../../dashboards"]
#[allow_missing = true]
struct Files;

/// The routes of the dashboards.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/trefoil/dashboards", Access::Read, list),
        Route::get("/api/v1/trefoil/dashboards/{uid}", Access::Read, by_uid),
    ]
}

/// All that are readable, by file name.
fn all() -> impl Iterator<Item = Value> {
    Files::iter().filter(|name| name.ends_with(".json")).filter_map(|name| {
        let file = Files::get(&name)?;
        let read: Result<Value, _> = serde_json::from_slice(&file.data);
        read.inspect_err(|error| tracing::error!(%name, %error, "embedded dashboard is not JSON")).ok()
    })
}

fn uid(dashboard: &Value) -> &str {
    dashboard["uid"].as_str().unwrap_or("")
}

fn success(data: &Value) -> Response {
    let mut response = json!({ "status": "success", "data": data }).to_string().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn list(State(_): State<AppState>) -> Response {
    let entry = |d: Value| json!({ "uid": uid(&d), "title": d["title"], "tags": d["tags"] });
    success(&Value::Array(all().map(entry).collect()))
}

async fn by_uid(State(_): State<AppState>, Path(wanted): Path<String>) -> Response {
    match all().find(|d| uid(d) == wanted) {
        Some(dashboard) => success(&dashboard),
        None => PromError(ApiError::not_found(format!("no dashboard with uid {wanted:?}"))).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dashboard_has_a_uid_of_its_own_and_a_title() {
        let mut uids: Vec<String> = all().map(|d| uid(&d).to_owned()).collect();
        assert!(uids.iter().all(|u| !u.is_empty()));
        assert!(all().all(|d| d["title"].is_string() && d["tags"].is_array()));
        let count = uids.len();
        uids.sort();
        uids.dedup();
        assert_eq!(uids.len(), count);
    }
}
