//! Each protocol against store mocks, with good, partly good and bad input.

#![expect(clippy::unwrap_used, unreachable_pub, reason = "helpers of tests are tests, shared between modules")]

mod body;
mod bulk;
mod documents;
mod fuzz;
mod grpc;
mod loki;
mod otlp_logs;
mod otlp_metrics;
mod otlp_traces;
mod remote_write;
mod sockets;
mod support;
