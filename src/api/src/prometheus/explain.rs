//! `/api/v1/explain`: evaluates a query and tells what it read and where the time went, node by node.

use std::time::Duration;

use axum::extract::{Request, State};
use serde_json::{Value, json};
use trefoil_promql::{ProfileNode, QueryOptions};
use trefoil_runtime::QueryContext;

use super::answer::{PromResult, success};
use super::query::{Steps, check_range_type, client_of, parse_query, read_steps, stats_json};
use crate::params::Params;
use crate::queries::QueryNote;
use crate::state::AppState;

/// `GET`, `POST /api/v1/explain`: takes `query` and either `time` or `start`, `end` and `step`; the result itself is left
/// out.
pub(super) async fn explain(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let query = params.get("query").to_owned();
    let expr = parse_query(&state, &query)?;
    let is_range = !params.get("start").is_empty();
    let steps = if is_range {
        check_range_type(&expr)?;
        read_steps(&state, &params)?
    } else {
        let t_ms = params.time("time")?.unwrap_or_else(|| state.clock.now_ms());
        Steps { start_ms: t_ms, end_ms: t_ms, step_ms: 0 }
    };
    let Steps { start_ms, end_ms, step_ms } = steps;
    let timeout = params.duration("timeout")?.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs()));
    let path = "/api/v1/explain";
    let note = QueryNote { path, query: query.clone(), start_ms, end_ms, step_ms, client, rule_group: None };
    let app = state.clone();
    let work = move |budget: &QueryContext, waited: Duration| {
        let options = QueryOptions { profile: true, ..QueryOptions::default() };
        let (reader, tenant) = (app.metrics.as_ref(), app.tenant);
        let result = if is_range {
            app.engine.range(&expr, start_ms, end_ms, step_ms, &options, reader, tenant, budget)?
        } else {
            app.engine.instant(&expr, start_ms, &options, reader, tenant, budget)?
        };
        let (series, samples) = match &result.value {
            trefoil_promql::Value::Scalar(..) | trefoil_promql::Value::String(..) => (0, 1),
            trefoil_promql::Value::Vector(v) => (v.len(), v.len()),
            trefoil_promql::Value::Matrix(m) => (m.len(), m.iter().map(|s| s.samples.len()).sum()),
        };
        let (warnings, infos) = result.annotations.texts(&query, 10);
        Ok(json!({
            "query": trefoil_promql::pretty(&expr),
            "steps": if step_ms > 0 { (end_ms - start_ms) / step_ms + 1 } else { 1 },
            "tree": result.profile.as_ref().map(|p| node(p, &query)),
            "result": { "type": expr.value_type().as_str(), "series": series, "samples": samples },
            "seriesSelected": result.stats.series,
            "stats": stats_json(&result.stats, waited, None),
            "warnings": warnings,
            "infos": infos,
        }))
    };
    Ok(success(&state.gate.run_timed(&state, timeout, Some(note), work).await?))
}

fn node(n: &ProfileNode, query: &str) -> Value {
    let below: f64 = n.children.iter().map(|c| c.time.as_secs_f64()).sum();
    let seconds = n.time.as_secs_f64();
    json!({
        "node": query.get(n.position.start..n.position.end).unwrap_or("").trim(),
        "start": n.position.start,
        "end": n.position.end,
        "evaluations": n.evaluations,
        "seconds": seconds,
        "ownSeconds": (seconds - below).max(0.0),
        "seriesSelected": n.series,
        "samplesRead": n.samples_read,
        "resultSeries": n.result_series,
        "children": n.children.iter().map(|c| node(c, query)).collect::<Vec<_>>(),
    })
}
