//! What goes wrong, in Elasticsearch's words and shape.

use serde_json::{Value, json};
use trefoil_model::StoreError;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be served as it is; type, text and status are Elasticsearch's.
    #[error("{reason}")]
    Request {
        /// Elasticsearch's name of the error, for example `parsing_exception`.
        kind: &'static str,
        /// What is wrong.
        reason: String,
        /// HTTP status.
        status: u16,
        /// Whether it was found while the query ran on the data, which Elasticsearch wraps in a
        /// `search_phase_execution_exception`.
        in_phase: bool,
    },
    /// The store could not read, or a budget is used up.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    fn request(kind: &'static str, reason: impl Into<String>, status: u16) -> Self {
        Self::Request { kind, reason: reason.into(), status, in_phase: false }
    }

    /// A query or an aggregation that cannot be read: 400 `parsing_exception`.
    pub fn parsing(reason: impl Into<String>) -> Self {
        Self::request("parsing_exception", reason, 400)
    }

    /// A value that cannot be used: 400 `illegal_argument_exception`.
    pub fn illegal(reason: impl Into<String>) -> Self {
        Self::request("illegal_argument_exception", reason, 400)
    }

    /// A body that is no JSON or has a field of the wrong kind: 400 `x_content_parse_exception`.
    pub fn content(reason: impl Into<String>) -> Self {
        Self::request("x_content_parse_exception", reason, 400)
    }

    /// A request that lacks something: 400 `action_request_validation_exception`.
    pub fn validation(reason: impl std::fmt::Display) -> Self {
        Self::request("action_request_validation_exception", format!("Validation Failed: 1: {reason};"), 400)
    }

    /// A name of an index that there is not: 404.
    pub fn no_index(name: &str) -> Self {
        Self::request("index_not_found_exception", format!("no such index [{name}]"), 404)
    }

    /// A scroll or a point in time that there is not: 404.
    pub fn no_context(id: &str) -> Self {
        Self::request("search_context_missing_exception", format!("No search context found for id [{id}]"), 404)
    }

    /// Found while the query ran: 400, wrapped.
    pub fn shard(kind: &'static str, reason: impl Into<String>) -> Self {
        Self::Request { kind, reason: reason.into(), status: 400, in_phase: true }
    }

    /// More buckets than allowed: 400, wrapped.
    pub fn too_many_buckets(max: usize) -> Self {
        Self::shard(
            "too_many_buckets_exception",
            format!(
                "Trying to create too many buckets. Must be less than or equal to: [{max}] but was [{}]. This limit \
                 can be set by changing the [search.max_buckets] cluster level setting.",
                max + 1
            ),
        )
    }

    /// HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Request { status, .. } => *status,
            Self::Store(_) => 500,
        }
    }

    /// The body: `{"error": {"root_cause": [..], "type", "reason"}, "status"}`.
    pub fn body(&self) -> Value {
        match self {
            Self::Request { kind, reason, status, in_phase } => body(kind, reason, *status, *in_phase),
            Self::Store(error) => body("exception", &error.to_string(), 500, false),
        }
    }
}

/// An error in Elasticsearch's shape.
pub fn body(kind: &str, reason: &str, status: u16, in_phase: bool) -> Value {
    let cause = json!({ "type": kind, "reason": reason });
    let error = if in_phase {
        json!({
            "root_cause": [cause],
            "type": "search_phase_execution_exception",
            "reason": "all shards failed",
            "phase": "query",
            "grouped": true,
            "failed_shards": [{ "shard": 0, "index": crate::doc::INDEX, "node": "trefoil", "reason": cause }],
            "caused_by": cause,
        })
    } else {
        json!({ "root_cause": [cause], "type": kind, "reason": reason })
    };
    json!({ "error": error, "status": status })
}
