//! `trace/{id}`: from a trace to its log lines and to the metrics of its instances.

use axum::extract::{Path, Request, State};
use serde_json::{Value, json};
use trefoil_model::NanoRange;

use super::entity_json;
use super::reach::{Reach, bounds, entities, lines_json, trace_json};
use crate::error::ApiError;
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;
use crate::traces::{ask, count, note, trace_id};

/// How long before and after a trace lines that name it may stand.
const AROUND_NS: i64 = 60 * 1_000_000_000;
/// How long before and after a trace metrics are looked for: several scrapes.
const METRICS_AROUND_NS: i64 = 300 * 1_000_000_000;
/// Entities that are followed.
const ENTITIES_MAX: usize = 20;

fn wider(range: NanoRange, by: i64) -> NanoRange {
    NanoRange { start_ns: range.start_ns.saturating_sub(by), end_ns: range.end_ns.saturating_add(by) }
}

/// `GET /api/v1/correlate/trace/{id}`
pub(super) async fn trace(State(state): State<AppState>, Path(id): Path<String>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let id = trace_id("id", &id)?;
    let most = count(&params, "limit", 100, state.limits.log_entries_max)?;
    let note = note("/api/v1/correlate/trace/{id}", client, &id.to_string(), NanoRange { start_ns: 0, end_ns: 0 });
    let own = state.clone();
    ask(&state, note, move |context| {
        let reach = Reach { state: &own, context };
        let found = reach.trace(id)?.ok_or_else(|| ApiError::not_found(format!("trace {id} not found")))?;
        let range = bounds(&found);
        let (queries, lines) = reach.lines_of_trace(id, wider(range, AROUND_NS), most)?;
        let mut of_entities: Vec<Value> = Vec::new();
        for entity in entities(&found).iter().take(ENTITIES_MAX) {
            // A service that wrote no line with the id: what it wrote meanwhile.
            let service = entity.service.as_deref().unwrap_or("");
            let is_told = lines.iter().any(|(stream, entry)| {
                let fields = entry.structured_metadata.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                let of = trefoil_insight::entity::Entity::of(stream.iter().chain(fields));
                of.service.as_deref() == Some(service)
            });
            let meanwhile = if is_told { None } else { reach.lines_of(entity, range, most.min(20))? };
            let (query, meanwhile) = meanwhile.map_or((Value::Null, Vec::new()), |(q, lines)| (json!(q), lines));
            of_entities.push(json!({
                "entity": entity_json(entity),
                "metrics": reach.metrics(entity, wider(range, METRICS_AROUND_NS))?,
                "meanwhile": { "query": query, "lines": lines_json(&meanwhile) },
            }));
        }
        Ok(json!({
            "trace": trace_json(&found),
            "logs": { "queries": queries, "lines": lines_json(&lines) },
            "entities": of_entities,
        }))
    })
    .await
}
