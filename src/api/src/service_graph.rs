//! `/api/v1/traces/service_graph`: who calls whom over a range of time, how often, how fast, with which errors. Described
//! in `config/SERVICE_GRAPH.md`.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use serde_json::{Value, json};
use trefoil_insight::spans::graph::{self, GraphEdge, Latency};
use trefoil_insight::spans::{DATABASE, MESSAGING_SYSTEM, USER};
use trefoil_model::TimeRange;

use crate::error::ApiError;
use crate::params::Params;
use crate::prometheus::answer::{PromResult, json as json_answer};
use crate::prometheus::client_of;
use crate::queries::QueryNote;
use crate::routes::{Access, Route};
use crate::state::{AppState, run_noted};

const PATH: &str = "/api/v1/traces/service_graph";
/// Range when the client does not say its start, in milliseconds.
const RANGE_MS: i64 = 3_600_000;
/// Quantiles of latencies that are answered, with their names.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)];

/// The routes.
pub(crate) fn routes() -> Vec<Route> {
    vec![Route::get_post(PATH, Access::Read, service_graph)]
}

/// `GET`, `POST /api/v1/traces/service_graph`: `start`, `end` (default now and an hour before), `service` (only edges
/// from or to it).
async fn service_graph(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let end_ms = params.time("end")?.unwrap_or_else(|| state.clock.now_ms());
    let start_ms = params.time("start")?.unwrap_or(end_ms.saturating_sub(RANGE_MS));
    if end_ms < start_ms {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time").into());
    }
    let service = params.get("service").to_owned();
    let note = QueryNote { path: PATH, query: service.clone(), start_ms, end_ms, step_ms: 0, client, rule_group: None };
    let (metrics, tenant, max) = (state.metrics.clone(), state.tenant, state.limits.response_bytes_max);
    let body = run_noted(&state, None, note, move |context| {
        let range = TimeRange::new(start_ms, end_ms.saturating_add(1));
        let mut edges = graph::read(metrics.as_ref(), tenant, range, context)?;
        edges.retain(|edge| service.is_empty() || edge.client == service || edge.server == service);
        let seconds = (end_ms - start_ms) as f64 / 1000.0;
        let data = json!({
            "start": start_ms as f64 / 1000.0,
            "end": end_ms as f64 / 1000.0,
            "nodes": nodes(&edges, seconds),
            "edges": edges.iter().map(|edge| edge_json(edge, seconds)).collect::<Vec<_>>(),
        });
        let body = format!("{{\"status\":\"success\",\"data\":{data}}}");
        if body.len() as u64 > max { Err(ApiError::response_too_large(max)) } else { Ok(body) }
    })
    .await?;
    Ok(json_answer(body))
}

/// What was asked of an edge or a node.
#[derive(Default)]
struct Load {
    requests: f64,
    failed: f64,
    latency: Latency,
}

impl Load {
    fn json(&self, seconds: f64) -> Value {
        json!({
            "requests": self.requests,
            "rate": if seconds > 0.0 { self.requests / seconds } else { 0.0 },
            "failed": self.failed,
            "errorRate": if self.requests > 0.0 { self.failed / self.requests } else { 0.0 },
            "latency": latency_json(&self.latency),
        })
    }
}

/// Seconds; null where there were no requests.
fn latency_json(latency: &Latency) -> Value {
    let mut out = json!({ "mean": latency.mean() });
    for (name, q) in QUANTILES {
        out[name] = json!(latency.quantile(q));
    }
    out
}

fn edge_json(edge: &GraphEdge, seconds: f64) -> Value {
    let load = Load { requests: edge.requests, failed: edge.failed, latency: seen_latency(edge).clone() };
    let mut out = load.json(seconds);
    out["client"] = json!(edge.client);
    out["server"] = json!(edge.server);
    out["connectionType"] = json!(edge.connection_type);
    out["clientLatency"] = latency_json(&edge.client_latency);
    out["serverLatency"] = latency_json(&edge.server_latency);
    out
}

/// What the server says, or the client where the server says nothing.
fn seen_latency(edge: &GraphEdge) -> &Latency {
    if edge.server_latency.count > 0.0 { &edge.server_latency } else { &edge.client_latency }
}

/// Who takes part, with what it was asked.
fn nodes(edges: &[GraphEdge], seconds: f64) -> Vec<Value> {
    let mut nodes: BTreeMap<&str, (Load, &'static str)> = BTreeMap::new();
    for edge in edges {
        // Of edges that overflowed nobody knows the ends.
        if edge.client.is_empty() {
            continue;
        }
        nodes.entry(&edge.client).or_insert_with(|| (Load::default(), kind(edge, true)));
        let (load, known) = nodes.entry(&edge.server).or_insert_with(|| (Load::default(), kind(edge, false)));
        if *known != "service" && edge.connection_type.is_empty() {
            *known = "service";
        }
        load.requests += edge.requests;
        load.failed += edge.failed;
        load.latency.add(seen_latency(edge));
    }
    // Who is client of an ordinary edge, or the client of what is no service, sends spans.
    for edge in edges.iter().filter(|edge| !edge.client.is_empty() && kind(edge, true) == "service") {
        if let Some((_, known)) = nodes.get_mut(edge.client.as_str()) {
            *known = "service";
        }
    }
    let json = |(name, (load, kind)): (&str, (Load, &str))| {
        let mut out = load.json(seconds);
        out["name"] = json!(name);
        out["type"] = json!(kind);
        out
    };
    nodes.into_iter().map(json).collect()
}

/// What one end of an edge is: `service`, `database`, `messaging_system`, `virtual_node` or `user`.
fn kind(edge: &GraphEdge, is_client: bool) -> &'static str {
    let has_server = edge.server_latency.count > 0.0;
    let has_client = edge.client_latency.count > 0.0;
    match (edge.connection_type.as_str(), is_client) {
        ("", _) => "service",
        (DATABASE, false) => "database",
        (DATABASE, true) => "service",
        (MESSAGING_SYSTEM, true) => {
            if has_client {
                "service"
            } else {
                "messaging_system"
            }
        }
        (MESSAGING_SYSTEM, false) => {
            if has_server {
                "service"
            } else {
                "messaging_system"
            }
        }
        (_, true) if edge.client == USER && !has_client => "user",
        (_, true) => {
            if has_client {
                "service"
            } else {
                "virtual_node"
            }
        }
        (_, false) => {
            if has_server {
                "service"
            } else {
                "virtual_node"
            }
        }
    }
}
