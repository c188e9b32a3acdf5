//! Unary gRPC calls over a plain HTTP/2 client: enough to send a message and to see the status.

use anyhow::{Context, bail};
use reqwest::blocking::Client;

/// The path of OTLP's trace service.
pub const TRACE_EXPORT: &str = "opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The gRPC status that an answer gave in its headers; 0 with the message when there was one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcAnswer {
    /// The gRPC status code.
    pub status: i32,
    /// `grpc-message`, still percent-encoded.
    pub message: String,
    /// The first message of the answer.
    pub body: Vec<u8>,
}

/// A client that speaks HTTP/2 in clear text.
pub fn clear_text_client() -> Client {
    Client::builder().no_proxy().http2_prior_knowledge().build().expect("a client can be built")
}

/// Calls a method of the server at `base` with a message and perhaps an `authorization`.
///
/// Errors when the server cannot be reached or does not answer as gRPC does.
pub fn call(
    client: &Client,
    base: &str,
    method: &str,
    authorization: Option<&str>,
    message: &[u8],
) -> anyhow::Result<GrpcAnswer> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).context("message fits a frame")?.to_be_bytes());
    frame.extend(message);
    let mut request = client
        .post(format!("{base}/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(frame);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let response = request.send().context("call")?;
    let http = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let status = header("grpc-status").and_then(|s| s.parse().ok());
    let message = header("grpc-message").unwrap_or_default();
    let body = response.bytes().context("read answer")?;
    match status {
        Some(status) if status != 0 => Ok(GrpcAnswer { status, message, body: Vec::new() }),
        // The status of a call that worked comes after the body, where this client does not look.
        _ if http == 200 && body.len() >= 5 => Ok(GrpcAnswer { status: 0, message, body: body[5..].to_vec() }),
        _ => bail!("HTTP status {http} and no gRPC answer: {}", String::from_utf8_lossy(&body)),
    }
}
