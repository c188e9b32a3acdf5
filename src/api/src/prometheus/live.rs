//! `/api/v1/notifications` and its live stream, and what is done about queries that run:
//! `/api/v1/status/active_queries`, `/api/v1/status/top_queries`.

use std::convert::Infallible;

use axum::extract::{Path, Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use trefoil_runtime::Phase;

use super::answer::{PromResult, rfc3339, success};
use crate::error::ApiError;
use crate::notifications::Notification;
use crate::params::Params;
use crate::queries::TopBy;
use crate::state::AppState;

/// Queries in a list of top queries when the client names no number.
const TOP_DEFAULT: usize = 20;
/// Most queries in a list of top queries.
const TOP_MAX: usize = 1000;

fn notification(n: &Notification) -> Value {
    json!({ "text": n.text, "date": rfc3339(n.date_ms), "active": n.active })
}

/// `GET /api/v1/notifications`
pub(super) async fn notifications(State(state): State<AppState>) -> PromResult {
    let all: Vec<Value> = state.notifications.list().iter().map(notification).collect();
    Ok(success(&Value::from(all)))
}

/// `GET /api/v1/notifications/live`: server-sent events, first what holds, then every change. 204 when too many follow.
pub(super) async fn notifications_live(State(state): State<AppState>) -> Response {
    let Some((now, changes)) = state.notifications.follow() else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let event = |n: &Notification| Ok::<_, Infallible>(Event::default().data(notification(n).to_string()));
    let first = futures::stream::iter(now.iter().map(event).collect::<Vec<_>>());
    let later = futures::stream::unfold(changes, move |mut changes| async move {
        loop {
            match changes.recv().await {
                Ok(change) => return Some((event(&change), changes)),
                // Who is slow misses changes, not the rest of the stream.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    let stop = state.tasks.stop(Phase::Accept);
    let stream = first.chain(later).take_until(async move { stop.cancelled().await });
    Sse::new(stream).keep_alive(KeepAlive::default()).into_response()
}

/// `GET /api/v1/status/active_queries`: the queries that wait or run, the oldest first.
pub(super) async fn active(State(state): State<AppState>) -> PromResult {
    let now = state.clock.now_ms();
    let queries: Vec<Value> = state
        .queries
        .active()
        .into_iter()
        .map(|q| {
            json!({
                "id": q.id.to_string(),
                "path": q.note.path,
                "query": q.note.query,
                "start": rfc3339(q.note.start_ms),
                "end": rfc3339(q.note.end_ms),
                "step": q.note.step_ms as f64 / 1000.0,
                "client": q.note.client,
                "ruleGroup": q.note.rule_group.as_ref().map(|g| json!({ "file": g.file, "name": g.name })),
                "since": rfc3339(q.since_ms),
                "durationSeconds": now.saturating_sub(q.since_ms) as f64 / 1000.0,
                "state": if q.waits { "waiting" } else { "running" },
                "samples": q.samples,
                "bytes": q.bytes,
            })
        })
        .collect();
    Ok(success(&json!({ "activeQueries": queries })))
}

/// `POST`, `PUT /api/v1/status/active_queries/ID/cancel`: ends a query; its client is told that it was canceled.
pub(super) async fn cancel(State(state): State<AppState>, Path(id): Path<String>) -> PromResult {
    if id.parse().is_ok_and(|id| state.queries.cancel(id)) {
        tracing::info!(id, "query canceled over the API");
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(ApiError::not_found(format!("no active query has the id {id:?}")).into())
}

/// `GET /api/v1/status/top_queries`: what was asked most often, took longest on average, and took most time in all.
/// `limit` is the length of each list, `since` leaves out what was last asked before.
pub(super) async fn top(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let limit = match params.limit("limit")? {
        0 => TOP_DEFAULT,
        n => n.min(TOP_MAX),
    };
    let since = params.time("since")?.unwrap_or(i64::MIN);
    let list = |by| -> Vec<Value> {
        let top = state.queries.top(by, limit, since);
        top.into_iter()
            .map(|q| {
                let total = q.total.as_secs_f64();
                json!({
                    "path": q.path,
                    "query": q.query,
                    "rangeSeconds": q.range_ms as f64 / 1000.0,
                    "count": q.count,
                    "failed": q.failed,
                    "averageSeconds": total / q.count.max(1) as f64,
                    "longestSeconds": q.longest.as_secs_f64(),
                    "totalSeconds": total,
                    "last": rfc3339(q.last_ms),
                })
            })
            .collect()
    };
    Ok(success(&json!({
        "topByCount": list(TopBy::Count),
        "topByAverage": list(TopBy::Average),
        "topByTotal": list(TopBy::Total),
    })))
}
