//! What is derived from telemetry while it comes in: log patterns, the feed of live tails, span metrics and the graph of
//! services.
//!
//! Promises: nothing here costs an acknowledgement more than a bounded share of its time, everything has a limit. What is
//! counted of spans is written to the metrics store and exact over a crash; all else can be made anew from the store.
//!
//! Reading order: [`writer`] (sits before the store and sees every batch), [`tap`] (hands new records to who waits for
//! them), [`patterns`] (which shapes lines have, by service, with counts over time), [`spans`] (what is counted of spans),
//! [`sampling`] (which traces are kept), [`traces`] (what stored traces tell: critical paths, comparisons, what differs,
//! errors in groups), [`entity`] (who something is of, whatever it is called).
//!
//! Invariants: knows the contracts of `model`, never stores, query languages or HTTP.

pub mod entity;
pub mod patterns;
pub mod sampling;
pub mod spans;
pub mod tap;
pub mod traces;
pub mod writer;

use std::sync::Arc;

pub use patterns::{Miner, PatternSeries, Patterns};
pub use spans::{SpanInsight, SpanInsightOptions};
pub use tap::{Subscription, Tap};
pub use writer::InsightWriter;

/// All that is derived, shared by who writes and who reads.
#[derive(Debug, Default)]
pub struct Insight {
    /// Shapes of log lines.
    pub patterns: Arc<Patterns>,
    /// New log records for live tails.
    pub tap: Arc<Tap>,
}
