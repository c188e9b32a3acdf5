//! `metric`: from a selector and a time to exemplars, traces and log lines.

use std::collections::BTreeSet;

use axum::extract::{Request, State};
use serde_json::{Value, json};
use trefoil_insight::entity::Entity;
use trefoil_model::{Labels, NanoRange, SelectRequest, TimeRange, TraceId};

use super::entity_json;
use super::reach::{Reach, lines_json, trace_json};
use crate::error::ApiError;
use crate::loki::time::duration_ns;
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::prometheus::read_query;
use crate::state::AppState;
use crate::traces::{ask, count, note, time_of};

/// How far around the time is looked when the client does not say.
const WINDOW_NS: i64 = 300 * 1_000_000_000;
/// Traces that exemplars name and that are looked up.
const LOOKED_UP_MAX: usize = 20;
/// Services of the series that are followed.
const SERVICES_MAX: usize = 5;
/// Series that are looked at for their services.
const SERIES_MAX: usize = 1_000;
/// Traces and lines of a service.
const OF_SERVICE: usize = 10;

/// The id of a trace or span that an exemplar names.
fn id<'a>(labels: &'a Labels, wanted: &str) -> Option<&'a str> {
    let is_it = |name: &str| {
        let letters = name.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase());
        letters.eq(wanted.chars())
    };
    labels.iter().find(|(name, _)| is_it(name)).map(|(_, value)| value)
}

/// `GET`, `POST /api/v1/correlate/metric`
pub(super) async fn metric(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let expr = read_query(&state, params.get("query"), |e| ApiError::parameter("query", e))?;
    let time_ns = time_of(&params, "time")?.unwrap_or_else(|| state.clock.now_ns());
    let window_ns = match params.get("window") {
        "" => WINDOW_NS,
        text => duration_ns(text)
            .filter(|ns| *ns > 0)
            .ok_or_else(|| ApiError::parameter("window", format!("{text:?} is no duration above 0")))?,
    };
    let most = count(&params, "limit", 100, 1_000)?;
    let range = NanoRange {
        start_ns: time_ns.saturating_sub(window_ns),
        end_ns: time_ns.saturating_add(window_ns).saturating_add(1),
    };
    let range_ms = TimeRange::new(range.start_ns.div_euclid(1_000_000), range.end_ns.div_euclid(1_000_000) + 1);
    let request = |matchers: &[trefoil_model::Matcher]| SelectRequest {
        tenant: state.tenant,
        matchers: matchers.to_vec(),
        range: range_ms,
    };
    let requests: Vec<SelectRequest> = expr.selectors().into_iter().map(request).collect();
    if requests.is_empty() {
        return Err(ApiError::parameter("query", "it selects no series").into());
    }
    let note = note("/api/v1/correlate/metric", client, params.get("query"), range);
    let own = state.clone();
    ask(&state, note, move |context| {
        let reach = Reach { state: &own, context };
        let mut exemplars: Vec<(i64, Value, Option<TraceId>)> = Vec::new();
        for (labels, found) in own.metrics.exemplars(&requests, context)? {
            let series = labels.to_string();
            exemplars.extend(found.iter().map(|e| {
                let trace = id(&e.labels, "traceid").and_then(TraceId::from_hex);
                let value = json!({
                    "traceId": trace.map(|id| id.to_string()),
                    "spanId": id(&e.labels, "spanid"),
                    "value": e.value,
                    "time": e.t_ms.saturating_mul(1_000_000).to_string(),
                    "series": series,
                });
                (e.t_ms, value, trace)
            }));
        }
        // The nearest first.
        exemplars.sort_by_key(|(t_ms, ..)| t_ms.saturating_sub(time_ns / 1_000_000).saturating_abs());
        exemplars.truncate(most);
        let mut seen: BTreeSet<TraceId> = BTreeSet::new();
        let mut traces = Vec::new();
        for id in exemplars.iter().filter_map(|(.., id)| *id) {
            if seen.len() < LOOKED_UP_MAX
                && seen.insert(id)
                && let Some(trace) = reach.trace(id)?
            {
                traces.push(trace_json(&trace));
            }
        }
        let (series, _) = own.metrics.series(&requests, SERIES_MAX, context)?;
        let mut entities: Vec<Entity> = Vec::new();
        for labels in &series {
            let entity = Entity::of(labels.iter());
            let is_known = entities.iter().any(|e| e.traces() == entity.traces());
            if entities.len() < SERVICES_MAX && !is_known && entity.traces().is_some() {
                entities.push(entity);
            }
        }
        let mut services = Vec::new();
        for entity in &entities {
            let query = entity.traces().unwrap_or_default();
            let failed = format!("{query} && {{ status = error }}");
            let lines = reach.lines_of(entity, range, OF_SERVICE)?;
            let (log_query, lines) = lines.map_or((Value::Null, Vec::new()), |(q, lines)| (json!(q), lines));
            services.push(json!({
                "entity": entity_json(entity),
                "traceQuery": query,
                "traces": reach.traces(&query, range, OF_SERVICE)?,
                "failedTraces": reach.traces(&failed, range, OF_SERVICE)?,
                "logQuery": log_query,
                "lines": lines_json(&lines),
            }));
        }
        let exemplars: Vec<Value> = exemplars.into_iter().map(|(_, value, _)| value).collect();
        Ok(json!({
            "start": range.start_ns.to_string(),
            "end": (range.end_ns - 1).to_string(),
            "exemplars": exemplars,
            "traces": traces,
            "services": services,
        }))
    })
    .await
}
