//! Why a request was not taken.

use std::time::Duration;

use http::StatusCode;
use trefoil_model::WriteError;

/// A request that stored nothing, or nothing that is promised.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The bytes are not what the protocol says (400): sending them again cannot help.
    #[error("{0}")]
    Malformed(String),
    /// A count limit of the request is exceeded (400).
    #[error("{what} exceeds the limit of {limit} ({name})")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// Name of the limit as the configuration spells it.
        name: &'static str,
    },
    /// The body is too large, as sent or inflated (413).
    #[error("{state} body exceeds {limit} bytes")]
    TooLarge {
        /// "compressed", "uncompressed", "decompressed" or "decoded".
        state: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// The body inflates to more than its size allows (413).
    #[error("body inflates to more than {allowed} bytes, which its size and inflate_ratio_max allow")]
    Bomb {
        /// Bytes to which it might have inflated.
        allowed: u64,
    },
    /// Content type or encoding is not taken here (415).
    #[error("{0}")]
    Unsupported(String),
    /// Out of memory budget, disk, or shutting down (503): the sender should retry.
    #[error("{reason}")]
    Unavailable {
        /// What is short.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
}

impl IngestError {
    /// The HTTP status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Limit { .. } => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } | Self::Bomb { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// When the sender should try again; `None` when it should not.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// The value of the `reason` label under which refused requests are counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Limit { .. } => "limit",
            Self::TooLarge { .. } | Self::Bomb { .. } => "too_large",
            Self::Unsupported(_) => "unsupported",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

impl From<WriteError> for IngestError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Unavailable { reason, retry_after } => Self::Unavailable { reason, retry_after },
            WriteError::Invalid(text) => Self::Malformed(text),
            WriteError::Closed => {
                Self::Unavailable { reason: WriteError::Closed.to_string(), retry_after: Duration::from_secs(5) }
            }
        }
    }
}
