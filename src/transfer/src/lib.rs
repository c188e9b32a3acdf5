//! Samples on their way in and out: blocks and write-ahead logs of a Prometheus, OpenMetrics files, JSON lines, remote
//! write.
//!
//! Reading order: [`import`] (what all importers share), [`prometheus`] (blocks, chunks, write-ahead log),
//! [`input`], [`open_metrics`], [`json_lines`], [`export`] (what all exporters share), [`prompb`] (the messages),
//! [`remote_write`], [`remote_read`].
//!
//! Invariants: importers hand batches to a [`import::BatchSink`] and exporters take series from the store's contract;
//! this crate knows no store. Whatever a file holds, reading it never panics and never takes memory that the file's
//! own length does not justify. Damage is named with file and byte; the good rest is imported.

mod bits;
mod cursor;
mod error;
pub mod export;
pub mod import;
pub mod input;
pub mod json_lines;
pub mod open_metrics;
pub mod prometheus;
pub mod prompb;
pub mod remote_read;
pub mod remote_write;

pub use error::{Damage, TransferError};
