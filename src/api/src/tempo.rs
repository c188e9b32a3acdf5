//! Tempo's read API: traces by their id here, searches and metrics in `query`, the same over gRPC in `streaming`.

mod json;
mod messages;
pub(crate) mod otlp;
mod params;
mod query;
mod streaming;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use serde_json::json;
use trefoil_model::TraceId;
use trefoil_runtime::QueryContext;

use crate::error::{ApiError, ErrorKind};
use crate::routes::{Access, Route};
use crate::state::AppState;

/// The version of Tempo whose API is spoken; clients switch features on it.
pub const TEMPO_VERSION: &str = "2.8.0";

/// The routes of Tempo's API.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::get("/tempo/api/echo", Access::Read, echo),
        Route::get("/tempo/api/status/buildinfo", Access::Read, build_info),
        Route::get("/tempo/api/traces/{id}", Access::Read, trace_v1),
        Route::get("/tempo/api/v2/traces/{id}", Access::Read, trace_v2),
    ];
    routes.extend(query::routes());
    routes.extend(streaming::routes());
    routes
}

/// The answer of version 2 (`tempopb.TraceByIDResponse`). A trace has the form of OpenTelemetry's `TracesData`.
#[derive(Clone, PartialEq, Message)]
struct TraceByIdResponse {
    #[prost(message, optional, tag = "1")]
    trace: Option<TracesData>,
    #[prost(message, optional, tag = "2")]
    metrics: Option<TraceByIdMetrics>,
    #[prost(enumeration = "PartialStatus", tag = "3")]
    status: i32,
    #[prost(string, tag = "4")]
    message: String,
}

/// Figures of the answer; we have none.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct TraceByIdMetrics {}

/// Whether a trace is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum PartialStatus {
    Complete = 0,
    Partial = 1,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Protobuf,
}

impl Form {
    fn wanted(headers: &HeaderMap) -> Self {
        let accepts = |v: &HeaderValue| v.to_str().is_ok_and(|v| v.contains("application/protobuf"));
        if headers.get_all(ACCEPT).iter().any(accepts) { Self::Protobuf } else { Self::Json }
    }

    fn response(self, body: Vec<u8>) -> Response {
        let mut response = body.into_response();
        let kind = match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/protobuf",
        };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

async fn echo() -> Response {
    "echo".into_response()
}

async fn build_info(State(state): State<AppState>) -> Response {
    let body = json!({
        "version": TEMPO_VERSION,
        "revision": state.build.revision,
        "branch": "",
        "buildUser": "",
        "buildDate": state.build.build_date,
        "goVersion": "",
    });
    Form::Json.response(body.to_string().into_bytes())
}

async fn trace_v1(State(state): State<AppState>, Path(id): Path<String>, request: Request) -> Response {
    let form = Form::wanted(request.headers());
    answer(&state, &id, form, move |data, _| match form {
        Form::Protobuf => data.encode_to_vec(),
        Form::Json => json!({ "batches": json::resource_spans(&data) }).to_string().into_bytes(),
    })
    .await
}

async fn trace_v2(State(state): State<AppState>, Path(id): Path<String>, request: Request) -> Response {
    let form = Form::wanted(request.headers());
    answer(&state, &id, form, move |data, message| match form {
        Form::Protobuf => {
            let status = if message.is_empty() { PartialStatus::Complete } else { PartialStatus::Partial };
            let metrics = Some(TraceByIdMetrics {});
            TraceByIdResponse { trace: Some(data), metrics, status: status as i32, message }.encode_to_vec()
        }
        Form::Json => {
            let mut body = json!({ "trace": { "resourceSpans": json::resource_spans(&data) }, "metrics": {} });
            if !message.is_empty() {
                body["status"] = json!("PARTIAL");
                body["message"] = json!(message);
            }
            body.to_string().into_bytes()
        }
    })
    .await
}

/// Finds a trace and has it written; the second argument of `write` says what is missing, "" for nothing.
async fn answer(
    state: &AppState,
    id: &str,
    form: Form,
    write: impl FnOnce(TracesData, String) -> Vec<u8> + Send + 'static,
) -> Response {
    let Some(id) = TraceId::from_hex(id) else {
        let message = format!("invalid trace id {id:?}: 1 to 32 hexadecimal digits, not all zero");
        return ApiError::bad_data(message).into_text();
    };
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    let (spans_max, bytes_max) = (state.limits.spans_per_trace_max, state.limits.response_bytes_max);
    let work = move |context: &QueryContext| {
        let found = traces.trace(tenant, id, None, context)?.filter(|t| t.groups.iter().any(|g| !g.spans.is_empty()));
        let stored = found.ok_or_else(|| ApiError::not_found("trace not found"))?;
        let (data, cut) = otlp::traces_data(&stored, spans_max);
        let message = if cut { format!("only {spans_max} spans (limit spans_per_trace_max)") } else { String::new() };
        let body = write(data, message);
        if body.len() as u64 > bytes_max { Err(ApiError::response_too_large(bytes_max)) } else { Ok(body) }
    };
    match state.gate.run(state, None, work).await {
        Ok(body) => form.response(body),
        Err(mut error) => {
            if error.kind == ErrorKind::Execution {
                error.kind = ErrorKind::BadData;
            }
            error.into_text()
        }
    }
}
