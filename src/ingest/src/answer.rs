//! Protocol-neutral outcomes, and how HTTP and gRPC say them.
//!
//! The contract with senders: 400 and partial success are final; 503 carries `Retry-After`, gRPC `UNAVAILABLE` carries
//! `RetryInfo`; `RESOURCE_EXHAUSTED` without it must not be retried
//! (<https://opentelemetry.io/docs/specs/otlp/#failures>).

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use prost::Message;

use crate::IngestError;

/// What to send back over HTTP.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers; `Content-Type` when there is a body, `Retry-After` with 503.
    pub headers: HeaderMap,
    /// Body, may be empty.
    pub body: Bytes,
}

impl Answer {
    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// An answer with a body.
    pub fn with_body(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, body: body.into() }
    }

    /// A plain-text answer, ended by a line feed as Go's `http.Error` does.
    pub fn text(status: StatusCode, text: &str) -> Self {
        Self::with_body(status, "text/plain; charset=utf-8", format!("{text}\n"))
    }

    /// The plain-text answer to an error.
    pub fn error(error: &IngestError) -> Self {
        let mut answer = Self::text(error.status(), &error.to_string());
        answer.set_retry_after(error.retry_after());
        answer
    }

    /// The answer to an error as OTLP wants it: `google.rpc.Status` in the request's encoding.
    pub fn otlp_error(error: &IngestError, encoding: OtlpEncoding) -> Self {
        let status = RpcStatus { code: grpc_code(error) as i32, message: error.to_string(), details: Vec::new() };
        let mut answer = match encoding {
            OtlpEncoding::Protobuf => Self::with_body(error.status(), encoding.content_type(), status.encode_to_vec()),
            OtlpEncoding::Json => {
                let json = serde_json::json!({ "code": status.code, "message": status.message });
                Self::with_body(error.status(), encoding.content_type(), json.to_string())
            }
        };
        answer.set_retry_after(error.retry_after());
        answer
    }

    fn set_retry_after(&mut self, after: Option<Duration>) {
        if let Some(after) = after {
            let seconds = after.as_millis().div_ceil(1000).clamp(1, 30) as u64;
            self.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
}

/// The two encodings of OTLP over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpEncoding {
    /// `application/x-protobuf`
    Protobuf,
    /// `application/json`
    Json,
}

impl OtlpEncoding {
    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// The gRPC code of an error.
pub fn grpc_code(error: &IngestError) -> tonic::Code {
    match error {
        IngestError::Malformed(_) | IngestError::Limit { .. } => tonic::Code::InvalidArgument,
        IngestError::TooLarge { .. } | IngestError::Bomb { .. } => tonic::Code::ResourceExhausted,
        IngestError::Unsupported(_) => tonic::Code::Unimplemented,
        IngestError::Unavailable { .. } => tonic::Code::Unavailable,
    }
}

/// The gRPC status of an error, with `google.rpc.RetryInfo` when the sender should retry.
pub fn grpc_status(error: &IngestError) -> tonic::Status {
    let code = grpc_code(error);
    let message = error.to_string();
    let Some(after) = error.retry_after() else {
        return tonic::Status::new(code, message);
    };
    let info = RetryInfo {
        retry_delay: Some(RetryDelay { seconds: after.as_secs() as i64, nanos: after.subsec_nanos() as i32 }),
    };
    let details = RpcStatus {
        code: code as i32,
        message: message.clone(),
        details: vec![RpcAny {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value: info.encode_to_vec(),
        }],
    };
    tonic::Status::with_details(code, message, details.encode_to_vec().into())
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RpcStatus {
    /// A gRPC code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// What went wrong.
    #[prost(string, tag = "2")]
    pub message: String,
    /// More messages.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<RpcAny>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RpcAny {
    /// Type of the message in `value`.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// An encoded message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RetryInfo {
    /// How long to wait at least.
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<RetryDelay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RetryDelay {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds beyond them.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}
