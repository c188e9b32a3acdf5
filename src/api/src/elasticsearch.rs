//! The dialect of Elasticsearch, all of it below `/elasticsearch`: `_bulk` and its kin, the courtesy that shippers ask for
//! before they send, and the shapes that its clients read.
//!
//! Contract: every answer, refusals and unknown paths included, carries `X-Elastic-Product` (official clients go no further
//! without it) and JSON; a failure is `{"error":{"root_cause":[..],"type":..,"reason":..},"status":n}`
//! (<https://www.elastic.co/guide/en/elasticsearch/reference/8.15/common-options.html>).

mod bulk;
pub(crate) mod courtesy;
pub(crate) mod filter_path;
mod search;

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::error::{ApiError, ErrorKind};
use crate::routes::Route;

/// The version of Elasticsearch whose API is spoken; clients and shippers switch features on it.
pub const ELASTICSEARCH_VERSION: &str = "8.15.0";
/// Below which path the dialect is served.
pub(crate) const PREFIX: &str = "/elasticsearch";

const PRODUCT: HeaderName = HeaderName::from_static("x-elastic-product");

/// The routes of the dialect.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = courtesy::routes();
    routes.extend(bulk::routes());
    routes.extend(search::routes());
    routes
}

/// A failure in Elasticsearch's words.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// Kind of the failure, for example `parsing_exception`.
    pub(crate) kind: Cow<'static, str>,
    /// What is wrong, for people.
    pub(crate) reason: String,
    /// More members of the error, for example the index that is missing.
    pub(crate) details: Vec<(&'static str, String)>,
    /// When to try again.
    pub(crate) retry_after: Option<Duration>,
}

impl Fault {
    /// A failure without details.
    pub(crate) fn new(status: StatusCode, kind: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { status, kind: Cow::Borrowed(kind), reason, details: Vec::new(), retry_after: None }
    }

    /// 400: an argument is wrong.
    pub(crate) fn illegal_argument(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "illegal_argument_exception", reason)
    }

    /// 400: a body cannot be read.
    pub(crate) fn parsing(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "parsing_exception", reason)
    }

    /// The body of the answer.
    pub(crate) fn body(&self) -> Value {
        let mut cause = json!({ "type": self.kind, "reason": self.reason });
        for (name, value) in &self.details {
            cause[*name] = json!(value);
        }
        let mut error = json!({ "root_cause": [cause] });
        if let (Some(error), Some(cause)) = (error.as_object_mut(), cause.as_object()) {
            error.extend(cause.clone());
        }
        json!({ "error": error, "status": self.status.as_u16() })
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = json_answer(self.status, &self.body());
        set_retry_after(&mut response, self.retry_after);
        response
    }
}

impl From<ApiError> for Fault {
    /// Overload is 429 here, what is 422 elsewhere 400.
    fn from(error: ApiError) -> Self {
        let status = match error.kind {
            ErrorKind::Execution => StatusCode::BAD_REQUEST,
            ErrorKind::Unavailable => StatusCode::TOO_MANY_REQUESTS,
            kind => kind.status(),
        };
        Self {
            status,
            kind: Cow::Borrowed(kind_of(status)),
            reason: error.message,
            details: Vec::new(),
            retry_after: error.retry_after,
        }
    }
}

/// What Elasticsearch calls a failure of that status when nothing more is known of it.
pub(crate) fn kind_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "security_exception",
        404 => "resource_not_found_exception",
        408 | 504 => "timeout_exception",
        413 => "content_too_long_exception",
        415 => "media_type_header_exception",
        429 | 503 => "es_rejected_execution_exception",
        499 => "task_cancelled_exception",
        500..=599 => "exception",
        _ => "illegal_argument_exception",
    }
}

/// An answer in JSON.
pub(crate) fn json_answer(status: StatusCode, body: &Value) -> Response {
    json_bytes(status, body.to_string().into_bytes())
}

/// An answer whose JSON is written already.
pub(crate) fn json_bytes(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = (status, body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Tells when to come back.
pub(crate) fn set_retry_after(response: &mut Response, after: Option<Duration>) {
    if let Some(after) = after {
        let seconds = after.as_millis().div_ceil(1000).clamp(1, 30) as u64;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
}

/// True for a path or route of this dialect.
pub(crate) fn owns(path: &str) -> bool {
    path.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Gives an answer what every answer of the dialect has: the product's name, and JSON in place of a refusal's text (who may
/// come in is decided before a dialect is asked).
pub(crate) fn dress(mut response: Response) -> Response {
    let status = response.status();
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/"));
    if (status.is_client_error() || status.is_server_error()) && !is_json {
        let reason = status.canonical_reason().unwrap_or("refused").to_ascii_lowercase();
        let fault = Fault::new(status, kind_of(status), reason);
        let (mut parts, _) = response.into_parts();
        parts.headers.remove(http::header::CONTENT_LENGTH);
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response = Response::from_parts(parts, fault.body().to_string().into());
    }
    response.headers_mut().insert(PRODUCT, HeaderValue::from_static("Elasticsearch"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_shape() {
        let mut fault = Fault::new(StatusCode::NOT_FOUND, "index_not_found_exception", "no such index [a-*]");
        fault.details = vec![("resource.id", "a-*".to_owned())];
        let body = fault.body();
        assert_eq!(
            body.to_string(),
            r#"{"error":{"root_cause":[{"type":"index_not_found_exception","reason":"no such index [a-*]","resource.id":"a-*"}],"type":"index_not_found_exception","reason":"no such index [a-*]","resource.id":"a-*"},"status":404}"#
        );
    }

    #[test]
    fn the_prefix_is_a_whole_segment() {
        for (path, want) in [("/elasticsearch", true), ("/elasticsearch/", true), ("/elasticsearching", false)] {
            assert_eq!(owns(path), want, "{path}");
        }
    }

    #[test]
    fn overload_is_429() {
        let fault = Fault::from(ApiError::unavailable("full", Duration::from_millis(1500)));
        let response = fault.into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        let dressed = dress((StatusCode::UNAUTHORIZED, "no\n").into_response());
        assert_eq!(
            (dressed.status(), dressed.headers()["x-elastic-product"].clone()),
            (StatusCode::UNAUTHORIZED, HeaderValue::from_static("Elasticsearch"))
        );
        assert_eq!(dressed.headers()[CONTENT_TYPE], "application/json");
    }
}
