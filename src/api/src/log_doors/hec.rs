//! Splunk's HTTP Event Collector, its answers and its health
//! (<https://docs.splunk.com/Documentation/Splunk/latest/Data/TroubleshootHTTPEventCollector>).
//!
//! What is answered is durable, so an acknowledgement that a sender asks for later is always there.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Map, Value, json};
use trefoil_ingest::hec::Metadata;
use trefoil_ingest::{HecOutcome, IngestError};

use super::{Pushed, detached, json_response};
use crate::elasticsearch::set_retry_after;
use crate::error::{ApiError, ErrorKind};
use crate::params::collect;
use crate::routes::{Access, Route};
use crate::state::AppState;

const CHANNEL: &str = "x-splunk-request-channel";

/// The routes.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = Vec::new();
    for path in [
        "/services/collector",
        "/services/collector/event",
        "/services/collector/event/1.0",
        "/splunk/services/collector",
        "/splunk/services/collector/event",
        "/splunk/services/collector/event/1.0",
        "/insert/splunk/services/collector/event",
        "/insert/splunk/services/collector/event/1.0",
    ] {
        routes.push(Route::post(path, Access::Write, events));
    }
    for path in [
        "/services/collector/raw",
        "/services/collector/raw/1.0",
        "/splunk/services/collector/raw",
        "/splunk/services/collector/raw/1.0",
    ] {
        routes.push(Route::post(path, Access::Write, raw));
    }
    for path in ["/services/collector/ack", "/splunk/services/collector/ack"] {
        routes.push(Route::post(path, Access::Write, ack));
    }
    for path in [
        "/services/collector/health",
        "/services/collector/health/1.0",
        "/splunk/services/collector/health",
        "/splunk/services/collector/health/1.0",
        "/insert/splunk/services/collector/health",
    ] {
        routes.push(Route::get(path, Access::Public, health));
    }
    // The page has its services there; one of them may be called collector.
    for path in [
        "/services/collector",
        "/services/collector/event",
        "/services/collector/event/1.0",
        "/services/collector/raw",
        "/services/collector/raw/1.0",
        "/services/collector/ack",
    ] {
        routes.push(Route::new(&[Method::GET], path, Access::Public, crate::page::html));
    }
    routes
}

pub(super) fn owns(path: &str) -> bool {
    ["/services/collector", "/splunk/", "/insert/splunk/"].iter().any(|prefix| path.starts_with(prefix))
}

/// Refusals of who may come in, as HEC says them.
pub(super) fn dress(response: Response) -> Response {
    let (text, code) = match response.status() {
        StatusCode::UNAUTHORIZED => ("Token is required", 2),
        StatusCode::FORBIDDEN => ("Invalid token", 4),
        _ => return response,
    };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, json!({ "text": text, "code": code }).to_string().into())
}

async fn events(State(state): State<AppState>, request: Request) -> Response {
    let work = async {
        let mut pushed = Pushed::read(&state, request).await?;
        let (metadata, channel) = head(&pushed);
        let ingest = state.ingest.clone();
        let stored = detached(&state, async move {
            ingest.hec_events(&pushed.headers, std::mem::take(&mut pushed.body), metadata, pushed.options).await
        });
        Ok((stored.await?, channel))
    };
    respond(work.await)
}

async fn raw(State(state): State<AppState>, request: Request) -> Response {
    let work = async {
        let mut pushed = Pushed::read(&state, request).await?;
        let (metadata, channel) = head(&pushed);
        let ingest = state.ingest.clone();
        let stored = detached(&state, async move {
            ingest.hec_raw(&pushed.headers, std::mem::take(&mut pushed.body), metadata, pushed.options).await
        });
        Ok((stored.await?, channel))
    };
    respond(work.await)
}

/// Labels of all events, and whether the sender has a channel and so will ask for acknowledgements.
fn head(pushed: &Pushed) -> (Metadata, bool) {
    let value = |name: &str| Some(pushed.params.get(name).to_owned()).filter(|v| !v.is_empty());
    let has_channel = pushed.headers.contains_key(CHANNEL) || !pushed.params.get("channel").is_empty();
    (["host", "index", "source", "sourcetype"].map(value), has_channel)
}

fn respond(outcome: Result<(Result<HecOutcome, IngestError>, bool), ApiError>) -> Response {
    static NEXT_ACK: AtomicU64 = AtomicU64::new(0);
    match outcome {
        Ok((Ok(HecOutcome { fault: None }), has_channel)) => {
            let mut body = json!({ "text": "Success", "code": 0 });
            if has_channel {
                body["ackId"] = json!(NEXT_ACK.fetch_add(1, Ordering::Relaxed));
            }
            json_response(StatusCode::OK, &body)
        }
        Ok((Ok(HecOutcome { fault: Some((fault, event)) }), _)) => {
            let (code, text) = fault.code();
            let mut body = json!({ "text": text, "code": code });
            if code != 5 {
                body["invalid-event-number"] = json!(event);
            }
            json_response(StatusCode::BAD_REQUEST, &body)
        }
        Ok((Err(error), _)) => {
            let code = if error.status() == StatusCode::SERVICE_UNAVAILABLE { 9 } else { 6 };
            let mut response = refused(error.status(), code, &error.to_string());
            set_retry_after(&mut response, error.retry_after());
            response
        }
        Err(error) => {
            let code = match error.kind {
                ErrorKind::Unavailable => 9,
                ErrorKind::Internal => 8,
                _ => 6,
            };
            let mut response = refused(error.kind.status(), code, &error.message);
            set_retry_after(&mut response, error.retry_after);
            response
        }
    }
}

fn refused(status: StatusCode, code: u8, reason: &str) -> Response {
    let text = match code {
        9 => "Server is busy",
        8 => "Internal server error",
        _ => "Invalid data format",
    };
    json_response(status, &json!({ "text": text, "code": code, "reason": reason }))
}

async fn health(State(state): State<AppState>) -> Response {
    if state.is_ready() {
        return json_response(StatusCode::OK, &json!({ "text": "HEC is healthy", "code": 17 }));
    }
    json_response(
        StatusCode::SERVICE_UNAVAILABLE,
        &json!({ "text": "HEC is unhealthy, server is stopping", "code": 23 }),
    )
}

async fn ack(State(state): State<AppState>, request: Request) -> Response {
    let body = match collect(request.into_body(), state.limits.admin_body_bytes_max, "admin_body_bytes_max").await {
        Ok(body) => body,
        Err(error) => return refused(error.kind.status(), 6, &error.message),
    };
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(ids) = asked["acks"].as_array() else { return refused(StatusCode::BAD_REQUEST, 6, "no list acks") };
    let acks: Map<String, Value> = ids.iter().map(|id| (id.to_string(), Value::Bool(true))).collect();
    json_response(StatusCode::OK, &json!({ "acks": acks }))
}
