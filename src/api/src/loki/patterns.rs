//! `patterns`: the shapes of lines with counts over time.
//!
//! Those of whole services over the last hours were learnt while the lines came in; any other question is answered by
//! looking at the newest stored lines.

use axum::extract::Request;
use serde_json::{Value, json};
use trefoil_insight::patterns::{KEPT_SECONDS, Miner, PatternSeries, STEP_SECONDS};
use trefoil_logql::ast::{Expr, LogExpr};
use trefoil_logql::{Engine, Entry, Output, RangeQuery, StreamResult};
use trefoil_model::{Direction, NanoRange};

use super::{logql_error, params, query_text, unwritable, within};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::AppState;

/// Stored lines that are looked at.
const LINES_MAX: usize = 20_000;
/// Stream label that names the service.
const SERVICE: &str = "service_name";

/// The body of `patterns`.
pub(super) async fn patterns(state: &AppState, request: Request) -> Result<Vec<u8>, ApiError> {
    let params = Params::read(state, request).await?;
    let asked = params::range(&params, state.clock.now_ns())?;
    let text = query_text(state, &params)?;
    let range = NanoRange::new(asked.start_ns, asked.end_ns);
    let (mut found, _) = find(state, text, range).await?;
    // As in Loki steps are multiples of ten seconds.
    let seconds = (asked.step_ns / 1_000_000_000).max(STEP_SECONDS).div_euclid(STEP_SECONDS) * STEP_SECONDS;
    let data: Vec<Value> = found
        .iter_mut()
        .map(|series| {
            series.in_steps(seconds);
            json!({ "pattern": series.pattern, "level": series.level, "samples": series.samples })
        })
        .collect();
    let body = serde_json::to_vec(&json!({ "status": "success", "data": data })).map_err(unwritable)?;
    within(body, state.limits.response_bytes_max)
}

/// The patterns of a log query, most frequent first, and whether they were learnt while the lines came in.
pub(crate) async fn find(
    state: &AppState,
    text: String,
    range: NanoRange,
) -> Result<(Vec<PatternSeries>, bool), ApiError> {
    let Expr::Log(log) = trefoil_logql::parse(&text).map_err(logql_error)? else {
        return Err(ApiError::bad_data("only log queries have patterns"));
    };
    match learnt(state, &log, range, state.clock.now_ns()) {
        Some(found) => Ok((found, true)),
        None => Ok((looked_at(state, text, range).await?, false)),
    }
}

/// What was learnt while lines came in, when that answers the question.
fn learnt(state: &AppState, log: &LogExpr, range: NanoRange, now_ns: i64) -> Option<Vec<PatternSeries>> {
    let kept_ns = now_ns.saturating_sub(KEPT_SECONDS * 1_000_000_000);
    let since_ns = state.insight.patterns.since_ns()?.max(kept_ns);
    let by_service = log.stages.is_empty() && log.matchers.iter().all(|m| m.name == SERVICE);
    (by_service && range.start_ns >= since_ns).then(|| {
        let wanted = |service: &str| log.matchers.iter().all(|m| m.matches(service));
        state.insight.patterns.find(state.tenant, wanted, range)
    })
}

/// The patterns of the newest stored lines of the query.
async fn looked_at(state: &AppState, text: String, range: NanoRange) -> Result<Vec<PatternSeries>, ApiError> {
    let (logs, tenant) = (state.logs.clone(), state.tenant);
    let work = move |context: &trefoil_runtime::QueryContext| {
        let query = RangeQuery {
            query: &text,
            start_ns: range.start_ns,
            end_ns: range.end_ns,
            step_ns: 1,
            direction: Direction::Backward,
            limit: LINES_MAX,
            tenant,
        };
        let answer = Engine::range(&query, logs.as_ref(), context).map_err(logql_error)?;
        let Output::Streams(streams) = answer.output else { return Ok(Vec::new()) };
        let mut miner = Miner::default();
        for stream in &streams {
            for entry in stream.entries.iter().rev() {
                miner.learn(&entry.line, level(stream, entry), entry.ts_ns, 1);
            }
        }
        Ok(miner.patterns(range))
    };
    state.gate.run(state, None, work).await
}

fn level<'a>(stream: &'a StreamResult, entry: &'a Entry) -> &'a str {
    let metadata = entry.structured_metadata.iter().find(|(name, _)| name == "detected_level");
    metadata.map(|(_, v)| v.as_str()).or_else(|| stream.labels.get("detected_level")).unwrap_or("unknown")
}
