//! Version 3 of Jaeger's API over HTTP: OpenTelemetry's JSON in an envelope.

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jiff::Timestamp;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use serde::Serialize;
use serde_json::{Value, json};
use trefoil_ingest::jaeger::proto::Time;
use trefoil_model::{NanoRange, StoredTrace};
use trefoil_runtime::QueryContext;

use super::messages::{Operation, TraceQueryParameters};
use super::{dependencies, find, json_response, summary};
use crate::error::{ApiError, ErrorKind};
use crate::loki::time::units_ns;
use crate::params::Params;
use crate::routes::{Access, Route};
use crate::state::AppState;
use crate::tempo::otlp::traces_data;

/// The routes.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/jaeger/api/v3/services", Access::Read, services),
        Route::get("/jaeger/api/v3/operations", Access::Read, operations),
        Route::get("/jaeger/api/v3/traces", Access::Read, search),
        Route::get("/jaeger/api/v3/traces/{id}", Access::Read, trace),
        Route::get("/jaeger/api/v3/trace-summaries", Access::Read, summaries),
        Route::get("/jaeger/api/v3/dependencies", Access::Read, dependency_edges),
    ]
}

/// The envelope of traces.
#[derive(Serialize)]
struct Envelope {
    result: TracesData,
}

/// Runs `work` in its turn and writes what it gives.
async fn respond<T, W>(state: &AppState, work: W) -> Response
where
    T: Serialize,
    W: FnOnce(&QueryContext) -> Result<T, ApiError> + Send + 'static,
{
    let max = state.limits.response_bytes_max;
    let work = move |context: &QueryContext| {
        let body = serde_json::to_vec(&work(context)?).map_err(|error| {
            tracing::error!(%error, "answer could not be written");
            ApiError::internal("answer could not be written")
        })?;
        if body.len() as u64 > max { Err(ApiError::response_too_large(max)) } else { Ok(body) }
    };
    match state.gate.run(state, None, work).await {
        Ok(body) => json_response(StatusCode::OK, body),
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &ApiError) -> Response {
    let status = match error.kind {
        ErrorKind::Execution => StatusCode::BAD_REQUEST,
        kind => kind.status(),
    };
    let body = json!({ "error": { "httpCode": status.as_u16(), "message": error.message } });
    let mut response = json_response(status, body.to_string().into_bytes()).into_response();
    error.add_headers(&mut response);
    response
}

fn read(request: &Request) -> Result<Params, ApiError> {
    Params::from_query(request.uri().query().unwrap_or(""))
}

/// A parameter by its name or by the older form of it.
fn either<'a>(params: &'a Params, name: &'a str, older: &'a str) -> (&'a str, &'a str) {
    match params.get(name) {
        "" => (params.get(older), older),
        text => (text, name),
    }
}

fn malformed(name: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::bad_data(format!("malformed parameter {name}: {why}"))
}

fn time(params: &Params, name: &str, older: &str) -> Result<Option<Time>, ApiError> {
    let (text, name) = either(params, name, older);
    if text.is_empty() {
        return Ok(None);
    }
    let time: Timestamp = text.parse().map_err(|_| malformed(name, format!("{text:?} is no time of RFC 3339")))?;
    Ok(Some(Time { seconds: time.as_second(), nanos: time.subsec_nanosecond() }))
}

fn duration(params: &Params, name: &str, older: &str) -> Result<Option<Time>, ApiError> {
    let (text, name) = either(params, name, older);
    if text.is_empty() {
        return Ok(None);
    }
    let ns = units_ns(text).ok_or_else(|| malformed(name, format!("{text:?} is no duration")))?;
    Ok(Some(Time::from_ns(ns)))
}

/// Reads a search; both times must be there.
fn query(params: &Params) -> Result<TraceQueryParameters, ApiError> {
    if !params.get("query.filter").is_empty() {
        return Err(ApiError::bad_data("structured filters are not supported"));
    }
    let start_time_min = time(params, "query.startTimeMin", "query.start_time_min")?;
    let start_time_max = time(params, "query.startTimeMax", "query.start_time_max")?;
    let (Some(start), Some(end)) = (start_time_min, start_time_max) else {
        return Err(ApiError::bad_data("query.startTimeMin and query.startTimeMax are required"));
    };
    if start.ns() >= end.ns() {
        return Err(ApiError::bad_data("query.startTimeMin must be before query.startTimeMax"));
    }
    let (depth, name) = match either(params, "query.searchDepth", "query.search_depth") {
        ("", _) => (params.get("query.num_traces"), "query.num_traces"),
        found => found,
    };
    let search_depth = match depth {
        "" => 0,
        text => text.parse().map_err(|_| malformed(name, format!("{text:?} is no whole number")))?,
    };
    let attributes = match params.get("query.attributes") {
        "" => Default::default(),
        text => serde_json::from_str(text).map_err(|error| malformed("query.attributes", error))?,
    };
    Ok(TraceQueryParameters {
        service_name: either(params, "query.serviceName", "query.service_name").0.to_owned(),
        operation_name: either(params, "query.operationName", "query.operation_name").0.to_owned(),
        attributes,
        start_time_min,
        start_time_max,
        duration_min: duration(params, "query.durationMin", "query.duration_min")?,
        duration_max: duration(params, "query.durationMax", "query.duration_max")?,
        search_depth,
        filter: None,
    })
}

async fn services(State(state): State<AppState>) -> Response {
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    respond(&state, move |context| Ok(json!({ "services": find::services(traces.as_ref(), tenant, context)? }))).await
}

async fn operations(State(state): State<AppState>, request: Request) -> Response {
    let params = match read(&request) {
        Ok(params) => params,
        Err(error) => return refuse(&error),
    };
    let (service, kind) = (params.get("service").to_owned(), either(&params, "spanKind", "span_kind").0.to_owned());
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    respond(&state, move |context| {
        let found = find::operations(traces.as_ref(), tenant, &service, &kind, context)?;
        let one = |o: Operation| {
            let kind = if o.span_kind.is_empty() { "internal" } else { &o.span_kind };
            json!({ "name": o.name, "spanKind": kind })
        };
        Ok(json!({ "operations": found.into_iter().map(one).collect::<Vec<_>>() }))
    })
    .await
}

fn envelope(found: &[StoredTrace], spans_max: usize) -> Result<Envelope, ApiError> {
    if found.is_empty() {
        return Err(ApiError::not_found("No traces found"));
    }
    let resource_spans = found.iter().flat_map(|t| traces_data(t, spans_max).0.resource_spans).collect();
    Ok(Envelope { result: TracesData { resource_spans } })
}

async fn search(State(state): State<AppState>, request: Request) -> Response {
    let tenant = state.tenant;
    let query = match read(&request).and_then(|p| query(&p)).and_then(|q| find::search(q, tenant, true)) {
        Ok(query) => query,
        Err(error) => return refuse(&error),
    };
    let (traces, spans_max) = (state.traces.clone(), state.limits.spans_per_trace_max);
    respond(&state, move |context| envelope(&traces.find(&query, context)?, spans_max)).await
}

async fn trace(State(state): State<AppState>, Path(id): Path<String>, request: Request) -> Response {
    let read = read(&request).and_then(|params| {
        time(&params, "startTime", "start_time")?;
        time(&params, "endTime", "end_time")?;
        find::trace_id(&id).map_err(|error| malformed("trace_id", error))
    });
    let id = match read {
        Ok(id) => id,
        Err(error) => return refuse(&error),
    };
    let (traces, tenant, spans_max) = (state.traces.clone(), state.tenant, state.limits.spans_per_trace_max);
    respond(&state, move |context| {
        let found = find::one(traces.as_ref(), tenant, id, context)?;
        envelope(std::slice::from_ref(&found), spans_max)
    })
    .await
}

async fn summaries(State(state): State<AppState>, request: Request) -> Response {
    let tenant = state.tenant;
    let query = match read(&request).and_then(|p| query(&p)).and_then(|q| find::search(q, tenant, true)) {
        Ok(query) => query,
        Err(error) => return refuse(&error),
    };
    let traces = state.traces.clone();
    respond(&state, move |context| {
        let found = traces.find(&query, context)?;
        let summaries: Vec<Value> = found.iter().map(|t| summary::json(&summary::summary(t))).collect();
        Ok(json!({ "summaries": summaries }))
    })
    .await
}

async fn dependency_edges(State(state): State<AppState>, request: Request) -> Response {
    let range = read(&request).and_then(|params| {
        let start = time(&params, "startTime", "start_time")?;
        let end = time(&params, "endTime", "end_time")?;
        dependency_range(start, end)
    });
    let range = match range {
        Ok(range) => range,
        Err(error) => return refuse(&error),
    };
    let (metrics, traces, tenant) = (state.metrics.clone(), state.traces.clone(), state.tenant);
    respond(&state, move |context| {
        let edges = dependencies::edges(metrics.as_ref(), traces.as_ref(), tenant, range, context)?;
        let one = |e: &dependencies::Edge| {
            json!({ "parent": e.parent, "child": e.child, "callCount": e.call_count.to_string() })
        };
        Ok(json!({ "dependencies": edges.iter().map(one).collect::<Vec<_>>() }))
    })
    .await
}

/// The range between two times, both of which must be there.
pub(super) fn dependency_range(start: Option<Time>, end: Option<Time>) -> Result<NanoRange, ApiError> {
    let given = |time: Option<Time>, name: &str| {
        time.map(Time::ns).ok_or_else(|| ApiError::bad_data(format!("{name} is required")))
    };
    let (start_ns, end_ns) = (given(start, "start_time")?, given(end, "end_time")?);
    if end_ns <= start_ns {
        return Err(ApiError::bad_data("end_time must be after start_time"));
    }
    Ok(NanoRange { start_ns, end_ns })
}
