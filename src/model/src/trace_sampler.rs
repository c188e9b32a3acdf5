//! The contract of who decides which traces are kept.

use std::time::Duration;

use crate::{Resource, Span, TenantId, TraceId};

/// A trace as far as it came in.
#[derive(Debug, Clone)]
pub struct TraceToSample<'a> {
    /// Its id.
    pub trace_id: TraceId,
    /// Its spans in any order, with who sent them; at least one.
    pub spans: Vec<(&'a Resource, &'a Span)>,
}

/// Decides which traces a store keeps. It is asked when spans are written as a part; until then all are stored and
/// readable. May be asked again about a trace, then with spans that came later or when a write failed.
pub trait TraceSampler: Send + Sync {
    /// How long the store waits for further spans of a trace after the last one, before it asks.
    fn decision_wait(&self) -> Duration;

    /// Whether each of the traces is kept, in their order. Blocks no longer than it computes.
    fn decide(&self, tenant: TenantId, traces: &[TraceToSample<'_>]) -> Vec<bool>;
}
