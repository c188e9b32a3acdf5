//! Jaeger: its v1 JSON API here (services, operations, search, one trace, dependencies), version 3 of it in `v3`, versions 2 and
//! 3 over gRPC in `query_service`, what its clients send in `collector`, what they ask in `sampling`.
//!
//! The JSON APIs stand at `/jaeger/api` (where a data source with the URL `…/jaeger` looks); version 1 at `/jaeger`, too.

pub(crate) mod collector;
pub(crate) mod dependencies;
mod find;
mod messages;
mod model;
mod params;
mod query_service;
mod render;
pub(crate) mod sampling;
mod summary;
mod v3;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use trefoil_model::TraceId;
use trefoil_runtime::QueryContext;

use self::render::{Envelope, ErrorOf};
use crate::error::{ApiError, ErrorKind};
use crate::params::Params;
use crate::routes::{Access, Route};
use crate::state::AppState;

/// Most traces that are asked for by id at once.
const TRACE_IDS_MAX: usize = 100;

/// The routes of Jaeger's API.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::get("/jaeger/api/services", Access::Read, services),
        Route::get("/jaeger/api/services/{service}/operations", Access::Read, operation_names),
        Route::get("/jaeger/api/operations", Access::Read, operations),
        Route::get("/jaeger/api/traces", Access::Read, search),
        Route::get("/jaeger/api/traces/{id}", Access::Read, trace),
        Route::get("/jaeger/api/dependencies", Access::Read, dependency_edges),
        Route::get("/jaeger/services", Access::Read, services),
        Route::get("/jaeger/services/{service}/operations", Access::Read, operation_names),
        Route::get("/jaeger/operations", Access::Read, operations),
        Route::get("/jaeger/traces", Access::Read, search),
        Route::get("/jaeger/traces/{id}", Access::Read, trace),
        Route::get("/jaeger/dependencies", Access::Read, dependency_edges),
    ];
    routes.extend(v3::routes());
    routes.extend(query_service::routes());
    routes.extend(sampling::routes());
    routes
}

/// A part of an answer: the data, how many there are, and errors of single items.
struct Answer<T> {
    data: T,
    total: usize,
    errors: Vec<ErrorOf>,
}

impl<T> Answer<Vec<T>> {
    fn counted(data: Vec<T>) -> Self {
        Self { total: data.len(), data, errors: Vec::new() }
    }
}

/// Runs `work` through the gate and writes what it answers, on the same thread.
async fn respond<T, F>(state: &AppState, pretty: bool, work: F) -> Response
where
    T: Serialize,
    F: FnOnce(&QueryContext) -> Result<Answer<T>, ApiError> + Send + 'static,
{
    let max = state.limits.response_bytes_max;
    let body = move |context: &QueryContext| {
        let Answer { data, total, errors } = work(context)?;
        let errors = (!errors.is_empty()).then_some(errors);
        let body = write(&Envelope { data: Some(data), total, limit: 0, offset: 0, errors }, pretty)?;
        if body.len() as u64 > max { Err(ApiError::response_too_large(max)) } else { Ok(body) }
    };
    match state.gate.run(state, None, body).await {
        Ok(body) => json_response(StatusCode::OK, body),
        Err(error) => refuse(&error),
    }
}

fn write<T: Serialize>(envelope: &Envelope<T>, pretty: bool) -> Result<Vec<u8>, ApiError> {
    let written = if pretty { serde_json::to_vec_pretty(envelope) } else { serde_json::to_vec(envelope) };
    written.map_err(|error| {
        tracing::error!(%error, "answer could not be written");
        ApiError::internal("answer could not be written")
    })
}

fn refuse(error: &ApiError) -> Response {
    let status = match error.kind {
        ErrorKind::Execution => StatusCode::BAD_REQUEST,
        kind => kind.status(),
    };
    let errors = vec![ErrorOf { code: status.as_u16(), msg: error.message.clone(), trace_id: String::new() }];
    let envelope: Envelope<()> = Envelope { data: None, total: 0, limit: 0, offset: 0, errors: Some(errors) };
    let mut response = match write(&envelope, false) {
        Ok(body) => json_response(status, body),
        Err(_) => status.into_response(),
    };
    error.add_headers(&mut response);
    response
}

fn json_response(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = (status, body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn is_pretty(params: &Params) -> bool {
    !matches!(params.get("prettyPrint"), "" | "false")
}

async fn services(State(state): State<AppState>) -> Response {
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    respond(&state, false, move |context| Ok(Answer::counted(find::services(traces.as_ref(), tenant, context)?))).await
}

async fn operation_names(State(state): State<AppState>, Path(service): Path<String>) -> Response {
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    respond(&state, false, move |context| {
        let found = find::operations(traces.as_ref(), tenant, &service, "", context)?;
        let mut names: Vec<String> = found.into_iter().map(|o| o.name).collect();
        names.dedup();
        Ok(Answer::counted(names))
    })
    .await
}

#[derive(Serialize)]
struct Operation {
    name: String,
    #[serde(rename = "spanKind")]
    span_kind: String,
}

async fn operations(State(state): State<AppState>, request: Request) -> Response {
    let params = match Params::from_query(request.uri().query().unwrap_or("")) {
        Ok(params) => params,
        Err(error) => return refuse(&error),
    };
    let (service, kind) = (params.get("service").to_owned(), params.get("spanKind").to_owned());
    if service.is_empty() {
        return refuse(&ApiError::bad_data("parameter 'service' is required"));
    }
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    respond(&state, false, move |context| {
        let found = find::operations(traces.as_ref(), tenant, &service, &kind, context)?;
        let operations = found.into_iter().map(|o| Operation { name: o.name, span_kind: o.span_kind });
        Ok(Answer::counted(operations.collect()))
    })
    .await
}

async fn search(State(state): State<AppState>, request: Request) -> Response {
    let params = match Params::from_query(request.uri().query().unwrap_or("")) {
        Ok(params) => params,
        Err(error) => return refuse(&error),
    };
    let pretty = is_pretty(&params);
    let ids: Vec<&str> = params.all("traceID").collect();
    if !ids.is_empty() {
        return match trace_ids(&ids) {
            Ok(ids) => by_ids(&state, pretty, ids).await,
            Err(error) => refuse(&error),
        };
    }
    let mut query = match params::search(&params, state.clock.now_ns()) {
        Ok(query) => query,
        Err(error) => return refuse(&error),
    };
    query.tenant = state.tenant;
    query.service = query.service.map(|s| find::stored_name(&s));
    let (traces, spans_max) = (state.traces.clone(), state.limits.spans_per_trace_max);
    respond(&state, pretty, move |context| {
        let found = traces.find(&query, context)?;
        let data: Vec<_> = found.iter().map(|t| render::trace(t, spans_max)).collect();
        Ok(Answer { data, total: 0, errors: Vec::new() })
    })
    .await
}

fn trace_ids(texts: &[&str]) -> Result<Vec<TraceId>, ApiError> {
    if texts.len() > TRACE_IDS_MAX {
        return Err(ApiError::bad_data(format!("more than {TRACE_IDS_MAX} traceID parameters")));
    }
    texts.iter().map(|text| find::trace_id(text)).collect()
}

async fn by_ids(state: &AppState, pretty: bool, ids: Vec<TraceId>) -> Response {
    let (traces, tenant, spans_max) = (state.traces.clone(), state.tenant, state.limits.spans_per_trace_max);
    respond(state, pretty, move |context| {
        let (mut data, mut errors) = (Vec::new(), Vec::new());
        for id in ids {
            match traces.trace(tenant, id, None, context)? {
                Some(found) => data.push(render::trace(&found, spans_max)),
                None => {
                    errors.push(ErrorOf { code: 0, msg: "trace not found".to_owned(), trace_id: id.to_string() });
                }
            }
        }
        Ok(Answer { data, total: 0, errors })
    })
    .await
}

async fn trace(State(state): State<AppState>, Path(id): Path<String>, request: Request) -> Response {
    let read = Params::from_query(request.uri().query().unwrap_or("")).and_then(|p| Ok((p, find::trace_id(&id)?)));
    let (params, id) = match read {
        Ok(read) => read,
        Err(error) => return refuse(&error),
    };
    let (traces, tenant, spans_max) = (state.traces.clone(), state.tenant, state.limits.spans_per_trace_max);
    respond(&state, is_pretty(&params), move |context| match traces.trace(tenant, id, None, context)? {
        Some(found) => Ok(Answer { data: vec![render::trace(&found, spans_max)], total: 0, errors: Vec::new() }),
        None => Err(ApiError::not_found("trace not found")),
    })
    .await
}

async fn dependency_edges(State(state): State<AppState>, request: Request) -> Response {
    let range = Params::from_query(request.uri().query().unwrap_or(""))
        .and_then(|p| params::dependency_range(&p, state.clock.now_ns()));
    let range = match range {
        Ok(range) => range,
        Err(error) => return refuse(&error),
    };
    let (metrics, traces, tenant) = (state.metrics.clone(), state.traces.clone(), state.tenant);
    respond(&state, false, move |context| {
        let data = dependencies::edges(metrics.as_ref(), traces.as_ref(), tenant, range, context)?;
        Ok(Answer { data, total: 0, errors: Vec::new() })
    })
    .await
}
