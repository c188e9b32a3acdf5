//! The push protocols: bytes of a request in, one durable write of `model` batches out, an honest answer back.
//!
//! Promise: what an answer calls stored is durable and visible; what it calls rejected names item and reason; a
//! request that cannot be decoded stores nothing. No input panics, and no input makes us reserve memory that the
//! accountant has not granted.
//!
//! Reading order: [`ingest`] (the front: [`Ingest`], [`IngestOptions`]), [`body`] (decompression under caps),
//! [`answer`] and [`error`] (outcomes), [`counters`]; then the protocols: [`remote_write`], [`loki_push`], [`otlp`]
//! (logs, traces, metrics over HTTP and gRPC), [`zipkin`], [`jaeger`]; the doors of [`documents`]: [`bulk`], JSON lines, [`hec`], [`datadog`],
//! [`journald`]; logs over sockets of their own: [`syslog`], [`forward`], [`gelf`], whose records [`received`] puts
//! together; [`records`] (what this process reads itself); and their helpers [`protobuf`] (a borrowing wire reader), [`metric_limits`],
//! [`event_limits`], [`label_text`], [`level`], [`native_histogram`].
//!
//! Invariants: this crate knows the write contracts of `model` and nothing of the stores behind them; it knows no HTTP
//! router, no sockets, no files, no configuration format, no query language. Only here are wire types turned into
//! model types.

pub mod answer;
pub mod body;
pub mod bulk;
pub mod counters;
pub mod datadog;
pub mod documents;
mod documents_doors;
pub mod error;
pub mod event_limits;
pub mod forward;
pub mod gelf;
pub mod hec;
pub mod ingest;
pub mod jaeger;
pub mod journald;
mod json_lines;
pub mod label_text;
pub mod level;
pub mod loki_push;
pub mod metric_limits;
pub mod native_histogram;
pub mod otlp;
pub mod protobuf;
pub mod received;
mod recent;
pub mod records;
pub mod remote_write;
pub mod syslog;
mod syslog_level;
pub mod zipkin;

pub use answer::Answer;
pub use documents::FieldOptions;
pub use documents_doors::HecOutcome;
pub use error::IngestError;
pub use ingest::{Ingest, IngestOptions};
pub use jaeger::ReceivedSpans;
pub use otlp::Signal;
pub use received::Received;
pub use zipkin::ZipkinVersion;
