//! Where data comes in: remote write, Loki push, OTLP over HTTP and gRPC, Zipkin; Jaeger's doors are in
//! [`crate::jaeger`].

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use trefoil_ingest::otlp::grpc;
use trefoil_ingest::{Answer, Signal, ZipkinVersion};

use crate::error::ApiError;
use crate::params::collect;
use crate::routes::{Access, Route};
use crate::state::AppState;

/// The routes of the main listener.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::post("/api/v1/write", Access::Write, remote_write),
        Route::post("/loki/api/v1/push", Access::Write, loki_push),
        Route::post("/api/prom/push", Access::Write, loki_push),
        Route::post("/otlp/v1/logs", Access::Write, otlp_logs),
        Route::post("/otlp/v1/traces", Access::Write, otlp_traces),
        Route::post("/otlp/v1/metrics", Access::Write, otlp_metrics),
        Route::post("/api/v1/otlp/v1/metrics", Access::Write, otlp_metrics),
    ];
    routes.extend(otlp_http_routes());
    routes.extend(zipkin_routes());
    routes.extend(crate::jaeger::collector::http_routes());
    routes
}

/// The routes of OTLP over HTTP as its specification has them.
pub(crate) fn otlp_http_routes() -> Vec<Route> {
    vec![
        Route::post("/v1/logs", Access::Write, otlp_logs),
        Route::post("/v1/traces", Access::Write, otlp_traces),
        Route::post("/v1/metrics", Access::Write, otlp_metrics),
    ]
}

/// The routes of Zipkin's senders.
pub(crate) fn zipkin_routes() -> Vec<Route> {
    vec![Route::post("/api/v1/spans", Access::Write, zipkin_v1), Route::post("/api/v2/spans", Access::Write, zipkin_v2)]
}

/// The routes of OTLP over gRPC, and of Jaeger's senders.
pub(crate) fn grpc_routes(state: &AppState) -> Vec<Route> {
    let (logs, traces, metrics) = grpc::services(&state.ingest);
    let mut routes = vec![
        Route::service("/opentelemetry.proto.collector.logs.v1.LogsService/Export", Access::Write, logs),
        Route::service("/opentelemetry.proto.collector.trace.v1.TraceService/Export", Access::Write, traces),
        Route::service("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", Access::Write, metrics),
    ];
    routes.extend(crate::jaeger::collector::grpc_routes());
    routes.extend(crate::jaeger::sampling::grpc_routes());
    routes
}

async fn remote_write(State(state): State<AppState>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match collect(body, state.limits.body_bytes_max, "body_bytes_max").await {
        // A write must not be given up half way when its sender leaves: it has a task of its own.
        Ok(body) => {
            let ingest = state.ingest.clone();
            detached(&state, async move { ingest.remote_write(&parts.headers, body).await }).await
        }
        Err(error) => error.into_text(),
    }
}

async fn loki_push(State(state): State<AppState>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match collect(body, state.limits.body_bytes_max, "body_bytes_max").await {
        Ok(body) => {
            let ingest = state.ingest.clone();
            detached(&state, async move { ingest.loki_push(&parts.headers, body).await }).await
        }
        Err(error) => error.into_text(),
    }
}

async fn otlp_logs(State(state): State<AppState>, request: Request) -> Response {
    otlp(&state, Signal::Logs, request).await
}

async fn otlp_traces(State(state): State<AppState>, request: Request) -> Response {
    otlp(&state, Signal::Traces, request).await
}

async fn otlp_metrics(State(state): State<AppState>, request: Request) -> Response {
    otlp(&state, Signal::Metrics, request).await
}

async fn otlp(state: &AppState, signal: Signal, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match collect(body, state.limits.body_bytes_max, "body_bytes_max").await {
        Ok(body) => {
            let ingest = state.ingest.clone();
            detached(state, async move { ingest.otlp_http(signal, &parts.headers, body).await }).await
        }
        Err(error) => error.into_text(),
    }
}

async fn zipkin_v1(State(state): State<AppState>, request: Request) -> Response {
    zipkin(&state, ZipkinVersion::V1, request).await
}

async fn zipkin_v2(State(state): State<AppState>, request: Request) -> Response {
    zipkin(&state, ZipkinVersion::V2, request).await
}

async fn zipkin(state: &AppState, version: ZipkinVersion, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match collect(body, state.limits.body_bytes_max, "body_bytes_max").await {
        Ok(body) => {
            let ingest = state.ingest.clone();
            detached(state, async move { ingest.zipkin(version, &parts.headers, body).await }).await
        }
        Err(error) => error.into_text(),
    }
}

/// Runs a write in a task of its own and waits for its answer.
async fn detached(state: &AppState, write: impl Future<Output = Answer> + Send + 'static) -> Response {
    let (tell, told) = tokio::sync::oneshot::channel();
    state.tasks.spawn_once(
        "write request",
        trefoil_runtime::Phase::Ingest,
        trefoil_runtime::OnError::Log,
        move |_| async move {
            // Nobody listens when the sender has left.
            tell.send(write.await).ok();
            Ok(())
        },
    );
    match told.await {
        Ok(answer) => into_response(answer),
        Err(_) => ApiError::internal("request could not be handled").into_text(),
    }
}

pub(crate) fn into_response(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}
