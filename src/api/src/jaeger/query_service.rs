//! `QueryService` of `jaeger.api_v2` and `jaeger.api_v3` over gRPC.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use futures::Stream;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use tonic::Status;
use trefoil_model::{NanoRange, TenantId, TraceId, TraceReader};
use trefoil_runtime::QueryContext;

use super::messages::{
    Dependencies, Dependency, FindTracesRequest, GetDependenciesRequest, GetOperationsRequest, GetOperationsResponseV2,
    GetOperationsResponseV3, GetServicesRequest, GetServicesResponse, GetTraceRequestV2, GetTraceRequestV3,
    SpansResponseChunk, TraceSummaries,
};
use super::{dependencies, find, model, summary, v3};
use crate::error::ApiError;
use crate::grpc::{self, QUESTION_BYTES_MAX};
use crate::routes::{Access, Route};
use crate::state::AppState;
use crate::tempo::otlp::traces_data;

/// The routes of both versions.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/jaeger.api_v2.QueryService/GetTrace", Access::Read, trace_v2),
        Route::post("/jaeger.api_v2.QueryService/FindTraces", Access::Read, find_v2),
        Route::post("/jaeger.api_v2.QueryService/GetServices", Access::Read, services),
        Route::post("/jaeger.api_v2.QueryService/GetOperations", Access::Read, operations_v2),
        Route::post("/jaeger.api_v2.QueryService/GetDependencies", Access::Read, dependency_edges),
        Route::post("/jaeger.api_v3.QueryService/GetTrace", Access::Read, trace_v3),
        Route::post("/jaeger.api_v3.QueryService/FindTraces", Access::Read, find_v3),
        Route::post("/jaeger.api_v3.QueryService/FindTraceSummaries", Access::Read, summaries),
        Route::post("/jaeger.api_v3.QueryService/GetServices", Access::Read, services),
        Route::post("/jaeger.api_v3.QueryService/GetOperations", Access::Read, operations_v3),
        Route::post("/jaeger.api_v3.QueryService/GetDependencies", Access::Read, dependency_edges),
    ]
}

/// Runs query work in its turn.
async fn ask<R, W>(state: &AppState, work: W) -> Result<R, Status>
where
    R: Send + 'static,
    W: FnOnce(&dyn TraceReader, TenantId, &QueryContext) -> Result<R, ApiError> + Send + 'static,
{
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    let run = state.gate.run(state, None, move |context| work(traces.as_ref(), tenant, context));
    run.await.map_err(|error| grpc::status(&error))
}

/// Answers with one message of what `work` gives.
async fn one<M, R, W>(
    state: AppState,
    request: Request,
    work: impl Fn(M) -> Result<W, ApiError> + Send + Sync,
) -> Response
where
    M: Message + Default + 'static,
    R: Message + 'static,
    W: FnOnce(&dyn TraceReader, TenantId, &QueryContext) -> Result<R, ApiError> + Send + 'static,
{
    grpc::unary(request, QUESTION_BYTES_MAX, |message| {
        let (state, work) = (state.clone(), work(message));
        async move { ask(&state, work.map_err(|error| grpc::status(&error))?).await }
    })
    .await
}

/// Answers with all messages of what `work` gives, together at most `response_bytes_max`.
async fn many<M, R, W>(
    state: AppState,
    request: Request,
    work: impl Fn(M) -> Result<W, ApiError> + Send + Sync,
) -> Response
where
    M: Message + Default + 'static,
    R: Message + 'static,
    W: FnOnce(&dyn TraceReader, TenantId, &QueryContext) -> Result<Vec<R>, ApiError> + Send + 'static,
{
    grpc::streaming(request, |message| {
        let (state, work) = (state.clone(), work(message));
        async move {
            let work = work.map_err(|error| grpc::status(&error))?;
            let max = state.limits.response_bytes_max;
            let found = ask(&state, move |traces, tenant, context| {
                let found = work(traces, tenant, context)?;
                let bytes: u64 = found.iter().map(|m| m.encoded_len() as u64).sum();
                if bytes > max { Err(ApiError::response_too_large(max)) } else { Ok(found) }
            });
            Ok(messages(found.await?))
        }
    })
    .await
}

fn messages<R: Send>(found: Vec<R>) -> impl Stream<Item = Result<R, Status>> + Send {
    futures::stream::iter(found.into_iter().map(Ok))
}

async fn trace_v2(State(state): State<AppState>, request: Request) -> Response {
    let spans_max = state.limits.spans_per_trace_max;
    many(state, request, move |asked: GetTraceRequestV2| {
        let id = TraceId::from_bytes(&asked.trace_id).ok_or_else(|| ApiError::bad_data("uninitialized TraceID"))?;
        Ok(move |traces: &dyn TraceReader, tenant: TenantId, context: &QueryContext| {
            let found = find::one(traces, tenant, id, context)?;
            Ok(model::chunks(&found, spans_max).into_iter().map(|spans| SpansResponseChunk { spans }).collect())
        })
    })
    .await
}

async fn find_v2(State(state): State<AppState>, request: Request) -> Response {
    let (spans_max, tenant) = (state.limits.spans_per_trace_max, state.tenant);
    many(state, request, move |asked: FindTracesRequest| {
        let query = asked.query.ok_or_else(|| ApiError::bad_data("missing query"))?;
        let query = find::search(query, tenant, false)?;
        Ok(move |traces: &dyn TraceReader, _: TenantId, context: &QueryContext| {
            let found = traces.find(&query, context)?;
            let chunks = found.iter().flat_map(|t| model::chunks(t, spans_max));
            Ok(chunks.map(|spans| SpansResponseChunk { spans }).collect())
        })
    })
    .await
}

async fn trace_v3(State(state): State<AppState>, request: Request) -> Response {
    let spans_max = state.limits.spans_per_trace_max;
    many(state, request, move |asked: GetTraceRequestV3| {
        let id = find::trace_id(&asked.trace_id)?;
        Ok(move |traces: &dyn TraceReader, tenant: TenantId, context: &QueryContext| {
            Ok(vec![traces_data(&find::one(traces, tenant, id, context)?, spans_max).0])
        })
    })
    .await
}

async fn find_v3(State(state): State<AppState>, request: Request) -> Response {
    let (spans_max, tenant) = (state.limits.spans_per_trace_max, state.tenant);
    many(state, request, move |asked: FindTracesRequest| {
        let query = asked.query.ok_or_else(|| ApiError::bad_data("missing query"))?;
        let query = find::search(query, tenant, true)?;
        Ok(move |traces: &dyn TraceReader, _: TenantId, context: &QueryContext| {
            let found = traces.find(&query, context)?;
            Ok::<Vec<TracesData>, ApiError>(found.iter().map(|t| traces_data(t, spans_max).0).collect())
        })
    })
    .await
}

async fn summaries(State(state): State<AppState>, request: Request) -> Response {
    let tenant = state.tenant;
    many(state, request, move |asked: FindTracesRequest| {
        let query = asked.query.ok_or_else(|| ApiError::bad_data("missing query"))?;
        let query = find::search(query, tenant, true)?;
        Ok(move |traces: &dyn TraceReader, _: TenantId, context: &QueryContext| {
            let found = traces.find(&query, context)?;
            Ok(vec![TraceSummaries { summaries: found.iter().map(summary::summary).collect() }])
        })
    })
    .await
}

async fn services(State(state): State<AppState>, request: Request) -> Response {
    one(state, request, |_: GetServicesRequest| {
        Ok(|traces: &dyn TraceReader, tenant: TenantId, context: &QueryContext| {
            Ok(GetServicesResponse { services: find::services(traces, tenant, context)? })
        })
    })
    .await
}

async fn operations_v2(State(state): State<AppState>, request: Request) -> Response {
    one(state, request, |asked: GetOperationsRequest| {
        Ok(move |traces: &dyn TraceReader, tenant: TenantId, context: &QueryContext| {
            let operations = find::operations(traces, tenant, &asked.service, &asked.span_kind, context)?;
            let mut operation_names: Vec<String> = operations.iter().map(|o| o.name.clone()).collect();
            operation_names.dedup();
            Ok(GetOperationsResponseV2 { operation_names, operations })
        })
    })
    .await
}

async fn operations_v3(State(state): State<AppState>, request: Request) -> Response {
    one(state, request, |asked: GetOperationsRequest| {
        Ok(move |traces: &dyn TraceReader, tenant: TenantId, context: &QueryContext| {
            let operations = find::operations(traces, tenant, &asked.service, &asked.span_kind, context)?;
            Ok(GetOperationsResponseV3 { operations })
        })
    })
    .await
}

async fn dependency_edges(State(state): State<AppState>, request: Request) -> Response {
    let metrics = state.metrics.clone();
    one(state, request, |asked: GetDependenciesRequest| {
        let range: NanoRange = v3::dependency_range(asked.start_time, asked.end_time)?;
        let metrics = Arc::clone(&metrics);
        Ok(move |traces: &dyn TraceReader, tenant: TenantId, context: &QueryContext| {
            let edges = dependencies::edges(metrics.as_ref(), traces, tenant, range, context)?;
            let dependencies =
                edges.into_iter().map(|e| Dependency { parent: e.parent, child: e.child, call_count: e.call_count });
            Ok(Dependencies { dependencies: dependencies.collect() })
        })
    })
    .await
}
