//! `service/{name}`: from a service to everything that is known of it.

use std::collections::BTreeSet;

use axum::extract::{Path, Request, State};
use serde_json::{Value, json};
use trefoil_insight::entity::{Entity, quoted};
use trefoil_model::{MatchOp, Matcher, SelectRequest, TimeRange};

use super::entity_json;
use super::reach::{Reach, lines_json};
use crate::error::ApiError;
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;
use crate::traces::{ask, count, note, range};

/// Instances, and operations, that are told.
const LISTED_MAX: usize = 500;

/// `GET`, `POST /api/v1/correlate/service/{name}`
pub(super) async fn service(State(state): State<AppState>, Path(name): Path<String>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let range = range(&state, &params)?;
    let most = count(&params, "limit", 20, 1_000)?;
    let entity = Entity::of([("job", name.as_str())].into_iter());
    if entity.service.is_none() {
        return Err(ApiError::parameter("name", format!("{name:?} is no name of a service")).into());
    }
    let note = note("/api/v1/correlate/service/{name}", client, &name, range);
    let own = state.clone();
    ask(&state, note, move |context| {
        let reach = Reach { state: &own, context };
        let service = entity.service.clone().unwrap_or_default();
        let metrics = reach.metrics(&entity, range)?;
        let range_ms = TimeRange::new(range.start_ns.div_euclid(1_000_000), range.end_ns.div_euclid(1_000_000) + 1);
        let mut instances: BTreeSet<String> = BTreeSet::new();
        for (label, value) in [("job", &name), ("service_name", &service), ("job", &service)] {
            let matcher = Matcher::new(MatchOp::Equal, label.to_owned(), value.clone())
                .map_err(|error| ApiError::internal(error.to_string()))?;
            let request = SelectRequest { tenant: own.tenant, matchers: vec![matcher], range: range_ms };
            for label in ["instance", "service_instance_id"] {
                let requests = std::slice::from_ref(&request);
                let (found, _) =
                    own.metrics.label_values(own.tenant, label, range_ms, requests, LISTED_MAX, context)?;
                instances.extend(found);
            }
        }
        let operations = own.traces.operations(own.tenant, &service, range, context)?;
        let operations: Vec<Value> = operations
            .iter()
            .take(LISTED_MAX)
            .map(|(name, kind)| json!({ "name": name, "kind": kind.as_str() }))
            .collect();
        let query = entity.traces().unwrap_or_default();
        let failed = format!("{{ resource.service.name = {} && status = error }}", quoted(&service));
        let lines = reach.lines_of(&entity, range, most)?;
        let (log_query, lines) = lines.map_or((Value::Null, Vec::new()), |(q, lines)| (json!(q), lines));
        Ok(json!({
            "entity": entity_json(&entity),
            "instances": instances.into_iter().take(LISTED_MAX).collect::<Vec<_>>(),
            "metrics": metrics,
            "operations": operations,
            "traceQuery": query,
            "traces": reach.traces(&query, range, most)?,
            "failedTraceQuery": failed,
            "failedTraces": reach.traces(&failed, range, most)?,
            "logQuery": log_query,
            "lines": lines_json(&lines),
        }))
    })
    .await
}
