//! Where Jaeger's clients send spans: thrift over HTTP, protobuf over gRPC.

use axum::extract::{Request, State};
use axum::response::Response;
use trefoil_ingest::jaeger::proto::{PostSpansRequest, PostSpansResponse};

use crate::ingest_routes::into_response;
use crate::log_doors::detached;
use crate::params::collect;
use crate::routes::{Access, Route};
use crate::state::AppState;

/// The route for spans over HTTP.
pub(crate) fn http_routes() -> Vec<Route> {
    vec![Route::post("/api/traces", Access::Write, spans)]
}

/// The route for spans over gRPC.
pub(crate) fn grpc_routes() -> Vec<Route> {
    vec![Route::post("/jaeger.api_v2.CollectorService/PostSpans", Access::Write, post_spans)]
}

async fn spans(State(state): State<AppState>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = match collect(body, state.limits.body_bytes_max, "body_bytes_max").await {
        Ok(body) => body,
        Err(error) => return error.into_text(),
    };
    let ingest = state.ingest.clone();
    match detached(&state, async move { ingest.jaeger_http(&parts.headers, body).await }).await {
        Ok(answer) => into_response(answer),
        Err(error) => error.into_text(),
    }
}

async fn post_spans(State(state): State<AppState>, request: Request) -> Response {
    let message_bytes_max = usize::try_from(state.limits.body_inflated_bytes_max).unwrap_or(usize::MAX);
    crate::grpc::unary::<PostSpansRequest, PostSpansResponse, _>(request, message_bytes_max, |message| {
        let (state, ingest) = (state.clone(), state.ingest.clone());
        async move {
            let written = detached(&state, async move { ingest.jaeger_grpc(message).await }).await;
            written.unwrap_or_else(|error| Err(crate::grpc::status(&error)))
        }
    })
    .await
}
