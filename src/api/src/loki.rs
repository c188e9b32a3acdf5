//! Loki's read API: queries, labels, series, statistics and live tail, as Grafana's data source calls them.
//!
//! Errors are plain text with Loki's status: 400 for what the client can mend, limits included, 499, 500, 503, 504.

mod delete;
mod detected;
pub mod evaluate;
mod index;
mod labels;
mod legacy;
pub(crate) mod params;
pub(crate) mod patterns;
mod render;
mod rules;
mod settings;
mod stats;
mod tail;
pub(crate) mod time;
mod volume_range;

use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::json;
use trefoil_logql::{Engine, InstantQuery, QueryKind, RangeQuery};
use trefoil_runtime::limits;

use self::stats::Took;
use crate::error::{ApiError, ErrorKind};
use crate::params::Params;
use crate::prometheus::client_of;
use crate::queries::QueryNote;
use crate::routes::{Access, Route};
use crate::state::AppState;

/// The version of Loki whose API is spoken; clients switch features on it.
pub const LOKI_VERSION: &str = "3.7.0";
/// Header by which a client asks for an encoding of lines; names apart by commas.
const ENCODING_FLAGS: &str = "x-loki-response-encoding-flags";

/// Header that names who asks, for the query log: `Source=grafana,Feature=explore`.
const QUERY_TAGS: &str = "x-query-tags";
/// Characters of that header that are kept.
const QUERY_TAGS_CHARS_MAX: usize = 512;

/// The routes of Loki's API.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get_post("/loki/api/v1/query_range", Access::Read, query_range),
        Route::get_post("/loki/api/v1/query", Access::Read, query),
        Route::get_post("/loki/api/v1/labels", Access::Read, label_names),
        Route::get_post("/loki/api/v1/label", Access::Read, label_names),
        Route::get_post("/loki/api/v1/label/{name}/values", Access::Read, label_values),
        Route::get_post("/loki/api/v1/series", Access::Read, series),
        Route::get_post("/loki/api/v1/index/stats", Access::Read, index_stats),
        Route::get_post("/loki/api/v1/index/volume", Access::Read, index_volume),
        Route::get_post("/loki/api/v1/index/volume_range", Access::Read, index_volume_range),
        Route::get_post("/loki/api/v1/patterns", Access::Read, log_patterns),
        Route::get_post("/loki/api/v1/detected_labels", Access::Read, detected_labels),
        Route::get_post("/loki/api/v1/detected_fields", Access::Read, detected_fields),
        Route::get_post("/loki/api/v1/detected_field/{name}/values", Access::Read, detected_field_values),
        Route::get_post("/loki/api/v1/format_query", Access::Read, format_query),
        Route::new(
            &[Method::GET, Method::POST, Method::PUT, Method::DELETE],
            "/loki/api/v1/delete",
            Access::Admin,
            delete::delete,
        ),
        Route::get("/loki/api/v1/tail", Access::Read, tail::tail),
        Route::get("/loki/api/v2alpha/tail", Access::Read, no_such_api),
        Route::get("/loki/api/v1/status/buildinfo", Access::Read, settings::build_info),
        Route::get("/loki/api/v1/drilldown-limits", Access::Read, settings::drilldown_limits),
        Route::get("/loki/api/v1/rules", Access::Read, rules::groups),
        Route::get("/loki/api/v1/rules/{namespace}", Access::Read, rules::groups_within),
        Route::get("/loki/api/v1/rules/{namespace}/{group}", Access::Read, rules::group),
        Route::get("/api/prom/rules", Access::Read, rules::groups),
        Route::get("/api/prom/rules/{namespace}", Access::Read, rules::groups_within),
        Route::get("/api/prom/rules/{namespace}/{group}", Access::Read, rules::group),
        Route::get("/prometheus/api/v1/rules", Access::Read, rules::rules),
        Route::get("/prometheus/api/v1/alerts", Access::Read, rules::alerts),
        Route::get_post("/api/prom/query", Access::Read, legacy::query),
        Route::get_post("/api/prom/label", Access::Read, legacy::label_names),
        Route::get_post("/api/prom/label/{name}/values", Access::Read, legacy::label_values),
        Route::get_post("/api/prom/series", Access::Read, series),
        Route::get("/api/prom/tail", Access::Read, tail::legacy_tail),
        Route::get("/config", Access::Read, settings::config),
        Route::get("/ready", Access::Public, ready),
    ]
}

/// A body in JSON, or why there is none.
type Answer = Result<Vec<u8>, ApiError>;

/// An error with Loki's status: what is 422 elsewhere is 400 here.
fn refuse(mut error: ApiError) -> Response {
    if error.kind == ErrorKind::Execution {
        error.kind = ErrorKind::BadData;
    }
    error.into_text()
}

fn answer(result: Result<Vec<u8>, ApiError>) -> Response {
    match result {
        Ok(body) => json_response(body),
        Err(error) => refuse(error),
    }
}

fn json_response(body: Vec<u8>) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    response
}

fn json_value(value: &serde_json::Value) -> Response {
    json_response(value.to_string().into_bytes())
}

/// Turns an engine's error into ours, with the status that the engine names.
pub(crate) fn logql_error(error: trefoil_logql::Error) -> ApiError {
    let kind = match error.status() {
        499 => ErrorKind::Canceled,
        504 => ErrorKind::Timeout,
        500 => ErrorKind::Internal,
        _ => ErrorKind::BadData,
    };
    match error {
        trefoil_logql::Error::Store(store) => {
            let from_store = ApiError::from(store);
            ApiError { kind, ..from_store }
        }
        trefoil_logql::Error::Scan(_) => {
            limits::hit("query_scan_bytes_max");
            ApiError::new(kind, format!("{error} (limit query_scan_bytes_max)"))
        }
        other => ApiError::new(kind, other.to_string()),
    }
}

/// The text of a query within `query_bytes_max`.
fn query_text(state: &AppState, params: &Params) -> Result<String, ApiError> {
    let text = params.get("query");
    if text.len() > state.limits.query_bytes_max {
        limits::hit("query_bytes_max");
        let (is, max) = (text.len(), state.limits.query_bytes_max);
        return Err(ApiError::bad_data(format!("query has {is} bytes, more than {max} (limit query_bytes_max)")));
    }
    Ok(text.to_owned())
}

/// Whether the client asks for labels by category.
fn wants_categories(headers: &HeaderMap) -> bool {
    headers
        .get_all(ENCODING_FLAGS)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|flag| flag.trim() == render::CATEGORIZE_LABELS)
}

/// Refuses more lines than `log_entries_max`.
fn check_limit(state: &AppState, limit: usize) -> Result<(), ApiError> {
    let max = state.limits.log_entries_max;
    if limit <= max {
        return Ok(());
    }
    limits::hit("log_entries_max");
    Err(ApiError::bad_data(format!("max entries limit per query exceeded, limit > log_entries_max ({limit} > {max})")))
}

fn within(body: Vec<u8>, max: u64) -> Result<Vec<u8>, ApiError> {
    if body.len() as u64 > max { Err(ApiError::response_too_large(max)) } else { Ok(body) }
}

fn unwritable(error: serde_json::Error) -> ApiError {
    tracing::error!(%error, "answer could not be written");
    ApiError::internal("answer could not be written")
}

/// Who asks: for the query log and the list of queries that run.
struct Asker {
    method: Method,
    client: String,
    /// `X-Query-Tags`, as sent.
    tags: String,
}

impl Asker {
    fn of(request: &Request) -> Self {
        let tags = request.headers().get(QUERY_TAGS).map_or(&b""[..], HeaderValue::as_bytes);
        let tags = String::from_utf8_lossy(tags).chars().take(QUERY_TAGS_CHARS_MAX).collect();
        Self { method: request.method().clone(), client: client_of(request), tags }
    }
}

/// Runs a query that is listed while it runs and logged when it ended. `range_ns`: the times that it asks for, the same
/// twice for an instant query, and its step. `work` is told how long it waited.
async fn ask<F>(state: &AppState, asker: Asker, text: &str, range_ns: (i64, i64, i64), work: F) -> Answer
where
    F: FnOnce(&trefoil_runtime::QueryContext, Duration) -> Result<Vec<u8>, ApiError> + Send + 'static,
{
    let Asker { method, client, tags } = asker;
    let (start, end, step) = range_ns;
    let path = if step == 0 { "/loki/api/v1/query" } else { "/loki/api/v1/query_range" };
    let note = QueryNote {
        path,
        query: text.to_owned(),
        start_ms: start / 1_000_000,
        end_ms: end / 1_000_000,
        step_ms: step / 1_000_000,
        client,
        rule_group: None,
    };
    let began = state.clock.monotonic();
    let result = state.gate.run_timed(state, None, Some(note.clone()), work).await;
    if state.query_log.is_on() {
        let took = state.clock.monotonic().saturating_sub(began).as_secs_f64();
        let mut stats = json!({ "timings": { "execTotalTime": took } });
        if !tags.is_empty() {
            stats["queryTags"] = tags.into();
        }
        let error = result.as_ref().err().map(|e| e.message.as_str());
        state.query_log.write(&note, method.as_str(), &stats, error, state.clock.now_ms());
    }
    result
}

async fn query_range(State(state): State<AppState>, request: Request) -> Response {
    answer(query_range_answer(&state, request).await)
}

async fn query_range_answer(state: &AppState, request: Request) -> Answer {
    let asker = Asker::of(&request);
    let categorize = wants_categories(request.headers());
    let params = Params::read(state, request).await?;
    let text = query_text(state, &params)?;
    let mut range = params::range(&params, state.clock.now_ns())?;
    let (logs, tenant, clock, max) =
        (state.logs.clone(), state.tenant, state.clock.clone(), state.limits.response_bytes_max);
    let held = state.clone();
    let (asked, times) = (text.clone(), (range.start_ns, range.end_ns, range.step_ns));
    let scan_bytes_max = state.limits.query_scan_bytes_max;
    let work = move |context: &trefoil_runtime::QueryContext, waited: Duration| {
        let began = clock.monotonic();
        match Engine::check(&text).map_err(logql_error)? {
            QueryKind::Log => check_limit(&held, range.limit)?,
            QueryKind::Metric => range.align(),
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
        let answer = Engine::range_within(&query, logs.as_ref(), context, scan_bytes_max).map_err(logql_error)?;
        let took = Took { waited, ran: clock.monotonic().saturating_sub(began) };
        within(render::answer(&answer, categorize, took).map_err(unwritable)?, max)
    };
    ask(state, asker, &asked, times, work).await
}

async fn query(State(state): State<AppState>, request: Request) -> Response {
    answer(query_answer(&state, request).await)
}

async fn query_answer(state: &AppState, request: Request) -> Answer {
    let asker = Asker::of(&request);
    let categorize = wants_categories(request.headers());
    let params = Params::read(state, request).await?;
    let text = query_text(state, &params)?;
    let time_ns = params::time(&params, "time")?.unwrap_or_else(|| state.clock.now_ns());
    params::limit(&params)?;
    params::direction(&params)?;
    let (logs, tenant, clock, max) =
        (state.logs.clone(), state.tenant, state.clock.clone(), state.limits.response_bytes_max);
    let asked = text.clone();
    let scan_bytes_max = state.limits.query_scan_bytes_max;
    let work = move |context: &trefoil_runtime::QueryContext, waited: Duration| {
        let began = clock.monotonic();
        let query = InstantQuery { query: &text, time_ns, tenant };
        let answer = Engine::instant_within(&query, logs.as_ref(), context, scan_bytes_max).map_err(logql_error)?;
        let took = Took { waited, ran: clock.monotonic().saturating_sub(began) };
        within(render::answer(&answer, categorize, took).map_err(unwritable)?, max)
    };
    ask(state, asker, &asked, (time_ns, time_ns, 0), work).await
}

async fn label_names(State(state): State<AppState>, request: Request) -> Response {
    answer(labels::names(&state, request).await)
}

async fn label_values(State(state): State<AppState>, Path(name): Path<String>, request: Request) -> Response {
    answer(labels::values(&state, name, request).await)
}

async fn detected_labels(State(state): State<AppState>, request: Request) -> Response {
    answer(labels::detected(&state, request).await)
}

async fn series(State(state): State<AppState>, request: Request) -> Response {
    answer(labels::series(&state, request).await)
}

async fn index_stats(State(state): State<AppState>, request: Request) -> Response {
    answer(index::stats(&state, request).await)
}

async fn index_volume(State(state): State<AppState>, request: Request) -> Response {
    answer(index::volume(&state, request).await)
}

async fn index_volume_range(State(state): State<AppState>, request: Request) -> Response {
    answer(volume_range::volume_range(&state, request).await)
}

async fn detected_fields(State(state): State<AppState>, request: Request) -> Response {
    answer(detected::names(&state, request).await)
}

async fn detected_field_values(State(state): State<AppState>, Path(name): Path<String>, request: Request) -> Response {
    answer(detected::values(&state, name, request).await)
}

async fn log_patterns(State(state): State<AppState>, request: Request) -> Response {
    answer(patterns::patterns(&state, request).await)
}

/// What old versions of Grafana ask for to learn whether there is more than the first API: only a 400 would be taken
/// for a server that knows it.
async fn no_such_api() -> Response {
    refuse(ApiError::not_found("404 page not found"))
}

async fn format_query(State(state): State<AppState>, request: Request) -> Response {
    let formatted = async {
        let params = Params::read(&state, request).await?;
        trefoil_logql::format_query(&query_text(&state, &params)?).map_err(logql_error)
    };
    match formatted.await {
        Ok(text) => json_value(&json!({ "status": "success", "data": text })),
        Err(error) => refuse(error),
    }
}

async fn ready(State(state): State<AppState>) -> Response {
    if state.is_ready() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}
