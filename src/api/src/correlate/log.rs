//! `log`: from a log line to its trace, or to what its service did then.

use axum::extract::{Request, State};
use serde_json::{Map, Value, json};
use trefoil_insight::entity::Entity;
use trefoil_model::{NanoRange, TraceId};

use super::entity_json;
use super::reach::{Reach, trace_json};
use crate::error::ApiError;
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;
use crate::traces::{ask, note, time_of};

/// How far around a line without the id of a trace traces are looked for.
const AROUND_NS: i64 = 5 * 1_000_000_000;
/// How far around a line metrics are looked for.
const METRICS_AROUND_NS: i64 = 300 * 1_000_000_000;
/// Traces of the service.
const TRACES: usize = 20;
/// Ids in the text of a line that are tried.
const IDS_MAX: usize = 4;

/// Names and values of a JSON object.
fn pairs(params: &Params, name: &str) -> Result<Vec<(String, String)>, ApiError> {
    let text = params.get(name);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let object: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| ApiError::parameter(name, format!("not an object of texts: {error}")))?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(object.into_iter().map(|(name, value)| (name, text(value))).collect())
}

/// What in a line may be the id of a trace: 32 hexadecimal digits, or 16 behind a name that says so.
fn ids_in(line: &str) -> Vec<TraceId> {
    let mut out = Vec::new();
    let mut before = String::new();
    for word in line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.') {
        let is_hex = word.bytes().all(|b| b.is_ascii_hexdigit());
        let is_named = before.replace(['_', '.'], "").to_ascii_lowercase().ends_with("traceid");
        if is_hex && (word.len() == 32 || word.len() == 16 && is_named) {
            out.extend(TraceId::from_hex(word));
        }
        if !word.is_empty() {
            word.clone_into(&mut before);
        }
    }
    out.truncate(IDS_MAX);
    out
}

/// `GET`, `POST /api/v1/correlate/log`
pub(super) async fn log(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let mut labels = pairs(&params, "stream")?;
    labels.extend(pairs(&params, "fields")?);
    let is_trace = |name: &str| {
        let letters = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase());
        letters.eq("traceid".chars())
    };
    let named = labels.iter().filter(|(name, _)| is_trace(name)).map(|(_, value)| value.as_str());
    let given = [params.get("trace_id")].into_iter().filter(|text| !text.is_empty());
    let mut ids: Vec<(TraceId, &'static str)> =
        given.chain(named).filter_map(TraceId::from_hex).map(|id| (id, "field")).collect();
    ids.extend(ids_in(params.get("line")).into_iter().map(|id| (id, "line")));
    let entity = Entity::of(labels.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    let time_ns = time_of(&params, "time")?;
    if ids.is_empty() && (entity.traces().is_none() || time_ns.is_none()) {
        let message = "give the id of a trace (trace_id, fields or line), or a time and the labels of the stream";
        return Err(ApiError::bad_data(message).into());
    }
    let at = time_ns.unwrap_or_else(|| state.clock.now_ns());
    let around = |by: i64| NanoRange { start_ns: at.saturating_sub(by), end_ns: at.saturating_add(by) };
    let note = note("/api/v1/correlate/log", client, params.get("trace_id"), around(AROUND_NS));
    let own = state.clone();
    let (range, metrics_range) = (around(AROUND_NS), around(METRICS_AROUND_NS));
    ask(&state, note, move |context| {
        let reach = Reach { state: &own, context };
        let mut found = None;
        for (id, how) in &ids {
            if let Some(trace) = reach.trace(*id)? {
                found = Some((trace, *how));
                break;
            }
        }
        let query = entity.traces();
        let meanwhile = match (&found, &query, time_ns) {
            (None, Some(query), Some(_)) => reach.traces(query, range, TRACES)?,
            _ => Vec::new(),
        };
        Ok(json!({
            "traceId": found.as_ref().map(|(t, _)| t.trace_id).or(ids.first().map(|(id, _)| *id)).map(|id| id.to_string()),
            "by": found.as_ref().map(|(_, how)| *how),
            "trace": found.as_ref().map(|(trace, _)| trace_json(trace)),
            "entity": entity_json(&entity),
            "traceQuery": query,
            // What its service did then, when its trace is not there.
            "meanwhile": meanwhile,
            "metrics": reach.metrics(&entity, metrics_range)?,
        }))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stand_in_lines() {
        let check = |line: &str, want: &[&str]| {
            let found: Vec<String> = ids_in(line).iter().map(ToString::to_string).collect();
            assert_eq!(found, want, "{line}");
        };
        let id = "0102030405060708090a0b0c0d0e0f10";
        check(&format!("done trace_id={id} took=5ms"), &[id]);
        check(&format!("[{id}] done"), &[id]);
        check("traceID=00f067aa0ba902b7 x", &["000000000000000000f067aa0ba902b7"]);
        check(r#"{"trace.id":"00f067aa0ba902b7"}"#, &["000000000000000000f067aa0ba902b7"]);
        check("span_id=00f067aa0ba902b7 nothing 12345", &[]);
        check("", &[]);
    }
}
