//! `detected_fields` and `detected_field/{name}/values`: what the newest lines of a query hold.

use axum::extract::Request;
use serde_json::{Value, json};
use trefoil_logql::{DetectedField, Engine, Output, QueryKind, RangeQuery, detect_fields};
use trefoil_model::Direction;

use super::{check_limit, logql_error, params, query_text, unwritable, within};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::AppState;

/// Lines that are looked at when the client does not say.
const LINES: usize = 100;
/// Fields, or values, that are answered when the client does not say.
const FIELDS: usize = 1000;

/// Reads the newest lines of the query and what fields they have; the second is the limit asked for.
async fn fields(
    state: &AppState,
    request: Request,
    field: Option<&str>,
) -> Result<(Vec<(String, DetectedField)>, usize), ApiError> {
    let params = Params::read(state, request).await?;
    let range = params::bounds(&params, state.clock.now_ns())?;
    let lines = params::count(&params, "line_limit", LINES)?;
    check_limit(state, lines)?;
    // Older clients call it `field_limit`.
    let limit = match params.get("limit") {
        "" => params::count(&params, "field_limit", FIELDS)?,
        _ => params::count(&params, "limit", FIELDS)?,
    };
    let query = query_text(state, &params)?;
    let (logs, tenant, field) = (state.logs.clone(), state.tenant, field.map(str::to_owned));
    let work = move |context: &trefoil_runtime::QueryContext| {
        if Engine::check(&query).map_err(logql_error)? != QueryKind::Log {
            return Err(ApiError::bad_data("only log queries have fields"));
        }
        let query = RangeQuery {
            query: &query,
            start_ns: range.start_ns,
            end_ns: range.end_ns,
            step_ns: 1,
            direction: Direction::Backward,
            limit: lines,
            tenant,
        };
        let answer = Engine::range(&query, logs.as_ref(), context).map_err(logql_error)?;
        let Output::Streams(streams) = answer.output else { return Ok(Vec::new()) };
        let most = if field.is_some() { usize::MAX } else { limit };
        let found = detect_fields(&streams, most);
        Ok(found.into_iter().filter(|(name, _)| field.as_ref().is_none_or(|wanted| wanted == name)).collect())
    };
    Ok((state.gate.run(state, None, work).await?, limit))
}

/// The body of `detected_fields`.
pub(super) async fn names(state: &AppState, request: Request) -> Result<Vec<u8>, ApiError> {
    let (found, limit) = fields(state, request, None).await?;
    let fields: Vec<Value> = found
        .into_iter()
        .map(|(label, field)| {
            let parsers = match field.parsers.len() {
                0 => Value::Null,
                _ => Value::from(field.parsers.into_iter().collect::<Vec<_>>()),
            };
            let mut shown = json!({
                "label": label,
                "type": field.kind.as_str(),
                "cardinality": field.values.len(),
                "parsers": parsers,
            });
            if !field.json_path.is_empty() {
                shown["jsonPath"] = Value::from(field.json_path);
            }
            shown
        })
        .collect();
    let body = serde_json::to_vec(&json!({ "fields": fields, "limit": limit })).map_err(unwritable)?;
    within(body, state.limits.response_bytes_max)
}

/// The body of `detected_field/{name}/values`.
pub(super) async fn values(state: &AppState, name: String, request: Request) -> Result<Vec<u8>, ApiError> {
    let (found, limit) = fields(state, request, Some(&name)).await?;
    let values: Vec<String> = found.into_iter().flat_map(|(_, field)| field.values).take(limit).collect();
    let body = serde_json::to_vec(&json!({ "values": values, "limit": limit })).map_err(unwritable)?;
    within(body, state.limits.response_bytes_max)
}
