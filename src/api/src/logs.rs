//! `/api/v1/logs`: search in logs as the page does it. Described for people in `config/LOGS_SEARCH.md`.
//!
//! Map: [`free_text`] (what is typed), [`chips`] (fields), [`compose`] (both to LogQL), [`source`] (LogQL over the store),
//! then the endpoints: [`search`], [`histogram`], [`fields`], [`around`], [`export`], [`patterns`], [`differences`].
//!
//! Each answer holds the LogQL that it answers, so that a page can go on with it. Envelope and errors are those of
//! [`crate::prometheus::answer`]; times are Unix nanoseconds as text, since JavaScript's numbers do not hold them.

mod around;
mod chips;
mod compose;
mod differences;
mod export;
mod fields;
mod free_text;
mod histogram;
mod patterns;
mod search;
mod source;

use serde_json::{Map, Value, json};
use trefoil_logql::Entry;
use trefoil_model::Labels;
use trefoil_runtime::limits;

use crate::error::ApiError;
use crate::loki::params::count;
use crate::params::Params;
use crate::prometheus::answer::{PromResult, json as json_answer};
use crate::routes::{Access, Route};
use crate::state::AppState;

/// The routes.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get_post("/api/v1/logs/search", Access::Read, search::search),
        Route::get_post("/api/v1/logs/histogram", Access::Read, histogram::histogram),
        Route::get_post("/api/v1/logs/fields", Access::Read, fields::fields),
        Route::get_post("/api/v1/logs/field/{name}/values", Access::Read, fields::values),
        Route::get_post("/api/v1/logs/context", Access::Read, around::around),
        Route::get_post("/api/v1/logs/export", Access::Read, export::export),
        Route::get_post("/api/v1/logs/patterns", Access::Read, patterns::patterns),
        Route::get_post("/api/v1/logs/differences", Access::Read, differences::differences),
    ]
}

/// A line as a page reads it.
pub(crate) fn line_json(stream: &Labels, entry: &Entry) -> Value {
    let map = |pairs: &[(String, String)]| -> Map<String, Value> {
        pairs.iter().map(|(n, v)| (n.clone(), Value::from(v.as_str()))).collect()
    };
    let labels: Map<String, Value> = stream.iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect();
    json!({
        "time": entry.ts_ns.to_string(),
        "level": level_of(stream, entry),
        "line": entry.line,
        "stream": labels,
        "fields": map(&entry.structured_metadata),
        "parsed": map(&entry.parsed),
    })
}

/// The level as ingest derived it.
fn level_of<'a>(stream: &'a Labels, entry: &'a Entry) -> &'a str {
    value_of(stream, entry, "detected_level").unwrap_or("unknown")
}

/// The value of a field by its underscored name: what the query parsed goes first.
fn value_of<'a>(stream: &'a Labels, entry: &'a Entry, name: &str) -> Option<&'a str> {
    let pairs = entry.parsed.iter().chain(&entry.structured_metadata);
    pairs.map(|(n, v)| (n.as_str(), v.as_str())).chain(stream.iter()).find(|(n, _)| *n == name).map(|(_, v)| v)
}

/// A number of lines within `log_entries_max`.
fn line_count(state: &AppState, params: &Params, name: &str, default: usize) -> Result<usize, ApiError> {
    let asked = count(params, name, default)?;
    let most = state.limits.log_entries_max;
    if asked > most {
        limits::hit("log_entries_max");
        return Err(ApiError::parameter(name, format!("{asked} is more than {most} (limit log_entries_max)")));
    }
    Ok(asked)
}

/// A successful answer within `response_bytes_max`.
fn answer(state: &AppState, data: &Value) -> PromResult {
    let body = format!("{{\"status\":\"success\",\"data\":{data}}}");
    if body.len() as u64 > state.limits.response_bytes_max {
        return Err(ApiError::response_too_large(state.limits.response_bytes_max).into());
    }
    Ok(json_answer(body))
}
