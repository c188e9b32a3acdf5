//! Imports and exports against files that a real Prometheus wrote.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod blocks;
mod support;
mod text;
mod wal;
