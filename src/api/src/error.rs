//! Errors of the HTTP edge: what went wrong, independent of the dialect that tells it.
//!
//! A dialect turns an [`ApiError`] into its own body; [`ApiError::into_text`] is the plain-text form and
//! [`crate::prometheus::answer`] holds that of Prometheus. Internals go to the log, not to the client.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use trefoil_model::{BudgetError, StoreError};

/// What a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be understood: 400.
    BadData,
    /// The request is understood but has no answer on this data or within the limits: 422.
    Execution,
    /// The client left: 499.
    Canceled,
    /// The deadline passed: 504 (503 in Prometheus' dialect).
    Timeout,
    /// Our fault: 500.
    Internal,
    /// No such thing: 404.
    NotFound,
    /// No offered form is accepted: 406.
    NotAcceptable,
    /// The body is too large: 413.
    TooLarge,
    /// The body did not come in time: 408.
    RequestTimeout,
    /// The method or the feature is switched off: 403.
    Forbidden,
    /// Overload, start-up, full disk: 503 with `Retry-After`.
    Unavailable,
}

impl ErrorKind {
    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Canceled => StatusCode::from_u16(499).expect("499 is a valid status"),
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Why a request has no answer. The text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// Text for the client: lowercase, names the object and the place.
    pub message: String,
    /// When to try again, for [`ErrorKind::Unavailable`].
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// Makes an error of any kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }

    /// 400.
    pub fn bad_data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadData, message)
    }

    /// 400, in Prometheus' words for a parameter.
    pub fn parameter(name: &str, message: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter \"{name}\": {message}"))
    }

    /// 422.
    pub fn execution(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Execution, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// 500; what really happened goes to the log.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// 503 with `Retry-After`.
    pub fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self { kind: ErrorKind::Unavailable, message: message.into(), retry_after: Some(retry_after) }
    }

    /// 422 because the answer is larger than `response_bytes_max`.
    pub fn response_too_large(limit: u64) -> Self {
        trefoil_runtime::limits::hit("response_bytes_max");
        Self::execution(format!("answer is larger than {limit} bytes (limit response_bytes_max)"))
    }

    /// Sets `Retry-After` where there is one.
    pub fn add_headers(&self, response: &mut Response) {
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000).clamp(1, 30) as u64;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }

    /// A plain-text answer.
    pub fn into_text(self) -> Response {
        let mut response = (self.kind.status(), format!("{}\n", self.message)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        self.add_headers(&mut response);
        response
    }
}

impl From<BudgetError> for ApiError {
    fn from(error: BudgetError) -> Self {
        match error {
            BudgetError::Timeout(_) => Self::new(ErrorKind::Timeout, format!("{error} (limit query_timeout)")),
            BudgetError::Canceled => Self::new(ErrorKind::Canceled, error.to_string()),
            BudgetError::Samples => Self::execution(format!("{error} (limit query_samples_max)")),
            BudgetError::Series(_) => Self::execution(format!("{error} (limit query_series_max)")),
            BudgetError::Bytes(_) => Self::execution(format!("{error} (limit query_memory_bytes_max)")),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Budget(budget) => budget.into(),
            StoreError::Unsupported(message) => Self::bad_data(message),
            StoreError::Corrupt(_) | StoreError::Io { .. } => {
                // With the cause: who asks must see whether a disk, an object store or the configuration is at fault.
                let all = trefoil_runtime::tasks::chain(&error);
                tracing::error!(error = all, "store could not be read");
                Self::internal(all)
            }
        }
    }
}
