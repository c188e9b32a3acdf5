//! The HTTP edge: listeners, who comes in, and the dialects that are spoken.
//!
//! Promises: a client that speaks to Prometheus, Loki, Tempo or Jaeger, or sends OTLP, is answered as it expects; what
//! is refused is refused with the status, the text and the `Retry-After` that its protocol defines; no request holds
//! more than its limits allow; nobody passes a route without the scope that the table of routes asks for.
//!
//! Reading order: [`state`] (what handlers share), [`routes`] (the table), [`auth`], [`origin`], [`gate`] (queries), [`queries`]
//! and [`query_log`] (who asks what), [`notifications`], [`error`], [`params`]; then the listeners: [`server`], [`connection`], [`tls`]; then the dialects: [`prometheus`],
//! [`loki`], [`tempo`], [`jaeger`], `zipkin`, [`elasticsearch`], [`ingest_routes`], `log_doors`; `traces`,
//! `correlate` and `logs` (what the page asks); and [`page`] with [`dashboards`].
//!
//! Invariants: this crate reaches stores through the contracts of `trefoil-model` only; it knows no files but
//! certificates and keys, and makes no decisions that belong to engines or stores.

pub mod auth;
mod connection;
mod correlate;
pub mod dashboards;
pub mod elasticsearch;
pub mod error;
pub mod gate;
mod grpc;
pub mod ingest_routes;
pub mod jaeger;
mod log_doors;
mod logs;
pub mod loki;
pub mod notifications;
pub mod origin;
pub mod page;
pub mod params;
pub mod prometheus;
pub mod queries;
pub mod query_log;
mod request_line;
pub mod routes;
pub mod server;
mod service_graph;
pub mod sockets;
pub mod state;
pub mod tempo;
pub mod tls;
mod traces;
mod zipkin;

pub use error::{ApiError, ErrorKind};
pub use jaeger::sampling::SamplingStrategies;
pub use loki::evaluate::LogqlEvaluate;
pub use prometheus::evaluate::PromqlEvaluate;
pub use routes::{Access, Route};
pub use server::{BindError, Listener, Servers};
pub use state::{App, AppState, BuildInfo, QuitFn, ReloadFn, Setup, run_noted, run_query};
