//! Prometheus remote write 1.0 (<https://prometheus.io/docs/specs/prw/remote_write_spec/>).
//!
//! A `prometheus.WriteRequest` in snappy block format (zstd is taken too). Where Prometheus rolls a request back because
//! of one bad sample, we store the good ones and answer 400 with the reasons: the sender does not retry either way, and
//! less is lost. Series with bad labels are refused in the same way, as Prometheus does in version 2 of the protocol;
//! its answer of 204 in version 1 hides the loss (<https://github.com/prometheus/prometheus/issues/19665>).

mod decode;

pub use decode::{Decoded, decode};

use http::{HeaderMap, StatusCode};

use crate::body::{Encoding, media_type, media_type_parameter};
use crate::{Answer, IngestError};

/// Checks the headers and tells the encoding of the body.
///
/// Errors: `Unsupported` for another media type, another message (remote write 2.0) or another encoding.
pub fn check_headers(headers: &HeaderMap) -> Result<Encoding, IngestError> {
    let media_type = media_type(headers);
    if !media_type.is_empty() && media_type != "application/x-protobuf" {
        return Err(IngestError::Unsupported(format!(
            "content type {media_type:?} is not supported; send application/x-protobuf"
        )));
    }
    match media_type_parameter(headers, "proto") {
        None | Some("" | "prometheus.WriteRequest") => {}
        Some(other) => {
            return Err(IngestError::Unsupported(format!(
                "message {other:?} is not supported; send prometheus.WriteRequest (remote write 1.0)"
            )));
        }
    }
    if !headers.contains_key(http::header::CONTENT_ENCODING) {
        return Ok(Encoding::Snappy);
    }
    match Encoding::from_headers(headers)? {
        encoding @ (Encoding::Snappy | Encoding::Zstd) => Ok(encoding),
        _ => Err(IngestError::Unsupported("content-encoding is not supported; send snappy".to_owned())),
    }
}

/// The answer to a request whose good samples are stored: 204, or 400 when any were refused.
pub fn answer(rejected: u64, reasons: &[String]) -> Answer {
    if rejected == 0 {
        return Answer::empty(StatusCode::NO_CONTENT);
    }
    Answer::text(
        StatusCode::BAD_REQUEST,
        &format!("{rejected} items were rejected, all others are stored: {}", reasons.join("; ")),
    )
}
