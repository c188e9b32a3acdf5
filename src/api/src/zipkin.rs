//! Zipkin's query API (<https://zipkin.io/zipkin-api/>): services, span names, traces, dependencies.
//!
//! It stands at `/zipkin/api/v2` (where a data source with the URL `…/zipkin` looks), and at `/api/v2` of the listener for
//! Zipkin.

mod params;
mod render;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use trefoil_model::{NanoRange, SpanQuery, StoredTrace, TraceId};
use trefoil_runtime::QueryContext;

use crate::error::{ApiError, ErrorKind};
use crate::jaeger::dependencies;
use crate::params::Params;
use crate::routes::{Access, Route};
use crate::state::AppState;

/// The version of Zipkin whose API is spoken.
const ZIPKIN_VERSION: &str = "3.5.1";
/// Most traces that are asked for by id at once.
const TRACE_IDS_MAX: usize = 100;
/// Traces of a service in which the services that it calls are looked for.
const REMOTE_TRACES_MAX: usize = 100;

/// The routes of the main listener.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/zipkin/api/v2/services", Access::Read, services),
        Route::get("/zipkin/api/v2/spans", Access::Read, span_names),
        Route::get("/zipkin/api/v2/remoteServices", Access::Read, remote_services),
        Route::get("/zipkin/api/v2/traces", Access::Read, search),
        Route::get("/zipkin/api/v2/trace/{id}", Access::Read, trace),
        Route::get("/zipkin/api/v2/traceMany", Access::Read, trace_many),
        Route::get("/zipkin/api/v2/dependencies", Access::Read, dependency_edges),
        Route::get("/zipkin/api/v2/autocompleteKeys", Access::Read, nothing),
        Route::get("/zipkin/api/v2/autocompleteValues", Access::Read, nothing),
        Route::get("/zipkin/health", Access::Read, health),
        Route::get("/zipkin/info", Access::Read, info),
    ]
}

/// The routes of the listener for Zipkin; that of the span names comes with that of the senders
/// ([`crate::ingest_routes`]).
pub(crate) fn own_routes() -> Vec<Route> {
    vec![
        Route::get("/api/v2/services", Access::Read, services),
        Route::get("/api/v2/spans", Access::Read, span_names),
        Route::get("/api/v2/remoteServices", Access::Read, remote_services),
        Route::get("/api/v2/traces", Access::Read, search),
        Route::get("/api/v2/trace/{id}", Access::Read, trace),
        Route::get("/api/v2/traceMany", Access::Read, trace_many),
        Route::get("/api/v2/dependencies", Access::Read, dependency_edges),
        Route::get("/api/v2/autocompleteKeys", Access::Read, nothing),
        Route::get("/api/v2/autocompleteValues", Access::Read, nothing),
        Route::get("/health", Access::Read, health),
        Route::get("/info", Access::Read, info),
    ]
}

/// Runs `work` in its turn and writes what it gives.
async fn respond<W>(state: &AppState, work: W) -> Response
where
    W: FnOnce(&QueryContext) -> Result<Value, ApiError> + Send + 'static,
{
    let max = state.limits.response_bytes_max;
    let work = move |context: &QueryContext| {
        let body = work(context)?.to_string().into_bytes();
        if body.len() as u64 > max { Err(ApiError::response_too_large(max)) } else { Ok(body) }
    };
    match state.gate.run(state, None, work).await {
        Ok(body) => written(body),
        Err(error) => refuse(error),
    }
}

fn written(body: Vec<u8>) -> Response {
    let mut response = (StatusCode::OK, body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refuse(mut error: ApiError) -> Response {
    if error.kind == ErrorKind::Execution {
        error.kind = ErrorKind::BadData;
    }
    error.into_text()
}

fn read(request: &Request) -> Result<Params, ApiError> {
    Params::from_query(request.uri().query().unwrap_or(""))
}

/// A parameter that must be there.
fn required(request: &Request, name: &str) -> Result<String, ApiError> {
    match read(request)?.get(name) {
        "" => Err(ApiError::bad_data(format!("Required parameter '{name}' is not present"))),
        text => Ok(text.to_owned()),
    }
}

async fn health() -> Response {
    written(json!({ "status": "UP", "zipkin": { "status": "UP", "details": {} } }).to_string().into_bytes())
}

async fn info() -> Response {
    written(json!({ "zipkin": { "version": ZIPKIN_VERSION, "commit": "" } }).to_string().into_bytes())
}

/// Autocompletion is for tags that are configured; we configure none.
async fn nothing() -> Response {
    written(b"[]".to_vec())
}

async fn services(State(state): State<AppState>) -> Response {
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    respond(&state, move |context| {
        let mut names = traces.services(tenant, NanoRange::ALL, context)?;
        names.retain(|n| !n.is_empty());
        Ok(json!(names))
    })
    .await
}

async fn span_names(State(state): State<AppState>, request: Request) -> Response {
    let service = match required(&request, "serviceName") {
        Ok(service) => service,
        Err(error) => return refuse(error),
    };
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    respond(&state, move |context| {
        let found = traces.operations(tenant, &service, NanoRange::ALL, context)?;
        let mut names: Vec<String> = found.into_iter().map(|(name, _)| name).collect();
        names.dedup();
        Ok(json!(names))
    })
    .await
}

/// The services that the newest traces of a service name on the other side.
async fn remote_services(State(state): State<AppState>, request: Request) -> Response {
    let service = match required(&request, "serviceName") {
        Ok(service) => service,
        Err(error) => return refuse(error),
    };
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    respond(&state, move |context| {
        let query =
            SpanQuery { tenant, service: Some(service.clone()), limit: REMOTE_TRACES_MAX, ..SpanQuery::default() };
        let mut names = BTreeSet::new();
        for trace in traces.find(&query, context)? {
            let own = trace.groups.iter().filter(|g| g.resource.service_name() == service);
            names.extend(own.flat_map(|g| &g.spans).filter_map(render::remote_service));
        }
        Ok(json!(names))
    })
    .await
}

async fn search(State(state): State<AppState>, request: Request) -> Response {
    let asked = read(&request).and_then(|p| params::search(&p, state.tenant, state.clock.now_ns()));
    let asked = match asked {
        Ok(asked) => asked,
        Err(error) => return refuse(error),
    };
    let (traces, spans_max) = (state.traces.clone(), state.limits.spans_per_trace_max);
    respond(&state, move |context| {
        if !asked.is_filtered() {
            let found = traces.find(&asked.query, context)?;
            return Ok(found.iter().map(|t| render::trace(t, spans_max)).collect());
        }
        let mut found: Vec<Value> = Vec::new();
        traces.visit(&asked.query, context, &mut |trace| {
            if asked.matches(trace) {
                found.push(render::trace(trace, spans_max));
            }
            if found.len() >= asked.query.limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(Value::Array(found))
    })
    .await
}

fn trace_id(text: &str) -> Result<TraceId, ApiError> {
    TraceId::from_hex(text.trim())
        .ok_or_else(|| ApiError::bad_data(format!("{text} should be 1 to 32 hexadecimal digits, not all zero")))
}

async fn trace(State(state): State<AppState>, Path(id): Path<String>) -> Response {
    let id = match trace_id(&id) {
        Ok(id) => id,
        Err(error) => return refuse(error),
    };
    let (traces, tenant, spans_max) = (state.traces.clone(), state.tenant, state.limits.spans_per_trace_max);
    respond(&state, move |context| {
        let found = traces.trace(tenant, id, None, context)?.filter(|t| !is_empty(t));
        let found = found.ok_or_else(|| ApiError::not_found(format!("{id} not found")))?;
        Ok(render::trace(&found, spans_max))
    })
    .await
}

fn is_empty(trace: &StoredTrace) -> bool {
    trace.groups.iter().all(|g| g.spans.is_empty())
}

async fn trace_many(State(state): State<AppState>, request: Request) -> Response {
    let ids = required(&request, "traceIds").and_then(|text| {
        let ids: Vec<&str> = text.split(',').filter(|id| !id.trim().is_empty()).collect();
        if ids.len() > TRACE_IDS_MAX {
            return Err(ApiError::bad_data(format!("more than {TRACE_IDS_MAX} traceIds")));
        }
        ids.into_iter().map(trace_id).collect::<Result<BTreeSet<TraceId>, _>>()
    });
    let ids = match ids {
        Ok(ids) => ids,
        Err(error) => return refuse(error),
    };
    let (traces, tenant, spans_max) = (state.traces.clone(), state.tenant, state.limits.spans_per_trace_max);
    respond(&state, move |context| {
        let mut found = Vec::new();
        for id in ids {
            if let Some(trace) = traces.trace(tenant, id, None, context)?.filter(|t| !is_empty(t)) {
                found.push(render::trace(&trace, spans_max));
            }
        }
        Ok(Value::Array(found))
    })
    .await
}

async fn dependency_edges(State(state): State<AppState>, request: Request) -> Response {
    let range = match read(&request).and_then(|p| params::dependency_range(&p)) {
        Ok(range) => range,
        Err(error) => return refuse(error),
    };
    let (metrics, traces, tenant) = (state.metrics.clone(), state.traces.clone(), state.tenant);
    respond(&state, move |context| {
        let edges = dependencies::edges(metrics.as_ref(), traces.as_ref(), tenant, range, context)?;
        let one = |e: &dependencies::Edge| {
            let mut out = json!({ "parent": e.parent, "child": e.child, "callCount": e.call_count });
            if e.error_count > 0 {
                out["errorCount"] = json!(e.error_count);
            }
            out
        };
        Ok(edges.iter().map(one).collect())
    })
    .await
}
