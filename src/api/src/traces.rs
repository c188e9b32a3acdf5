//! `/api/v1/traces`: what traces tell when they are looked at as a whole. Described for people in `config/TRACES.md`.
//!
//! Map: [`analysis`] (one trace), [`compare`] (two), [`flame`] (many), [`differences`] (what
//! separates selected spans from others), [`errors`] (in groups).
//!
//! Envelope and errors are those of [`crate::prometheus::answer`]; times are Unix nanoseconds as text, since JavaScript's
//! numbers do not hold them, and durations numbers of nanoseconds.

mod analysis;
mod compare;
pub(crate) mod differences;
mod errors;
mod flame;

use serde::Serialize;
use trefoil_model::{NanoRange, QueryBudget, StoredTrace, TraceId};
use trefoil_runtime::QueryContext;

use crate::error::{ApiError, ErrorKind};
use crate::loki::time::{duration_ns, time_ns};
use crate::params::Params;
use crate::prometheus::answer::{PromResult, json as json_answer};
use crate::queries::QueryNote;
use crate::routes::{Access, Route};
use crate::state::{AppState, run_noted};

const SECOND_NS: i64 = 1_000_000_000;
/// How far back is looked when nothing is said.
const SINCE_NS: i64 = 3600 * SECOND_NS;

/// The routes.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/traces/{id}/analysis", Access::Read, analysis::analysis),
        Route::get_post("/api/v1/traces/compare", Access::Read, compare::compare),
        Route::get_post("/api/v1/traces/flame", Access::Read, flame::flame),
        Route::get_post("/api/v1/traces/differences", Access::Read, differences::differences),
        Route::get_post("/api/v1/traces/errors", Access::Read, errors::errors),
    ]
}

/// Runs `work` in its turn, listed among the queries, and writes what it gives.
pub(crate) async fn ask<T, F>(state: &AppState, note: QueryNote, work: F) -> PromResult
where
    T: Serialize,
    F: FnOnce(&QueryContext) -> Result<T, ApiError> + Send + 'static,
{
    let bytes_max = state.limits.response_bytes_max;
    let work = move |context: &QueryContext| {
        let data = work(context)?;
        let text = serde_json::to_string(&data).map_err(|error| ApiError::internal(error.to_string()))?;
        let body = format!("{{\"status\":\"success\",\"data\":{text}}}");
        if body.len() as u64 > bytes_max { Err(ApiError::response_too_large(bytes_max)) } else { Ok(body) }
    };
    Ok(json_answer(run_noted(state, None, note, work).await?))
}

/// What is asked, for the list of queries that run.
pub(crate) fn note(path: &'static str, client: String, query: &str, range: NanoRange) -> QueryNote {
    QueryNote {
        path,
        query: query.to_owned(),
        start_ms: range.start_ns / 1_000_000,
        end_ms: range.end_ns / 1_000_000,
        step_ms: 0,
        client,
        rule_group: None,
    }
}

/// Reads the id of a trace.
pub(crate) fn trace_id(name: &str, text: &str) -> Result<TraceId, ApiError> {
    TraceId::from_hex(text)
        .ok_or_else(|| ApiError::parameter(name, format!("{text:?} is not 1 to 32 hexadecimal digits, not all zero")))
}

/// A whole trace.
fn load(state: &AppState, id: TraceId, context: &QueryContext) -> Result<StoredTrace, ApiError> {
    let found = state.traces.trace(state.tenant, id, None, context)?;
    let found = found.filter(|t| t.groups.iter().any(|g| !g.spans.is_empty()));
    let trace = found.ok_or_else(|| ApiError::not_found(format!("trace {id} not found")))?;
    let spans: usize = trace.groups.iter().map(|g| g.spans.len()).sum();
    // For the tree and what is written of it.
    context.charge_bytes(spans as u64 * 1024)?;
    Ok(trace)
}

/// The range of time: `start` and `end` (inside), or the last `since`.
pub(crate) fn range(state: &AppState, params: &Params) -> Result<NanoRange, ApiError> {
    let time = |name: &str| time_of(params, name);
    let since = match params.get("since") {
        "" => SINCE_NS,
        text => duration_ns(text)
            .filter(|d| *d > 0)
            .ok_or_else(|| ApiError::parameter("since", format!("{text:?} is no duration above 0")))?,
    };
    let end_ns = time("end")?.unwrap_or_else(|| state.clock.now_ns()).saturating_add(1);
    let start_ns = time("start")?.unwrap_or_else(|| end_ns.saturating_sub(since));
    if end_ns <= start_ns {
        return Err(ApiError::bad_data("end must not be before start"));
    }
    Ok(NanoRange { start_ns, end_ns })
}

/// A time in Unix nanoseconds; `None` when it is not given.
pub(crate) fn time_of(params: &Params, name: &str) -> Result<Option<i64>, ApiError> {
    match params.get(name) {
        "" => Ok(None),
        text => time_ns(text)
            .map(Some)
            .ok_or_else(|| ApiError::parameter(name, format!("{text:?} is no Unix seconds, nanoseconds or RFC 3339"))),
    }
}

/// A whole number from 1 to `most`.
pub(crate) fn count(params: &Params, name: &str, default: usize, most: usize) -> Result<usize, ApiError> {
    match params.get(name) {
        "" => Ok(default.min(most)),
        text => text
            .parse()
            .ok()
            .filter(|n| (1..=most).contains(n))
            .ok_or_else(|| ApiError::parameter(name, format!("{text:?} is not a whole number from 1 to {most}"))),
    }
}

/// The text of a query within `query_bytes_max`; `{}` when nothing is said.
fn query_text(state: &AppState, params: &Params, name: &str) -> Result<String, ApiError> {
    let (text, most) = (params.get(name), state.limits.query_bytes_max);
    if text.len() > most {
        trefoil_runtime::limits::hit("query_bytes_max");
        return Err(ApiError::parameter(
            name,
            format!("{} bytes are more than {most} (limit query_bytes_max)", text.len()),
        ));
    }
    Ok(if text.trim().is_empty() { "{}".to_owned() } else { text.to_owned() })
}

/// Turns an engine's error into ours, with the status that the engine names.
pub(crate) fn traceql_error(error: trefoil_traceql::Error) -> ApiError {
    let kind = match error.status() {
        499 => ErrorKind::Canceled,
        504 => ErrorKind::Timeout,
        500 => ErrorKind::Internal,
        _ => ErrorKind::BadData,
    };
    match error {
        trefoil_traceql::Error::Store(store) => ApiError { kind, ..ApiError::from(store) },
        other => ApiError::new(kind, other.to_string()),
    }
}
