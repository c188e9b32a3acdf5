//! The contract of who derives something from spans while they are stored.

use crate::TraceBatch;

/// A place in a store's journal: segment and byte. What comes later is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct JournalMark {
    /// Number of the segment.
    pub segment: u64,
    /// Byte within the segment.
    pub offset: u64,
}

/// Sees every span that a store takes, once, before it is acknowledged.
///
/// What was seen is told by a place in the store's journal, so that who derives can keep it beside what was derived, and
/// knows of spans that a replay brings back whether they are in it.
#[async_trait::async_trait]
pub trait SpanObserver: Send + Sync {
    /// Sees the spans of a batch when they are in the journal and not yet visible. `replayed`: they come out of the
    /// journal while the store opens, and this is where their record ends.
    fn observe(&self, batch: &TraceBatch, replayed: Option<JournalMark>);

    /// Notes how everything stands while no span is on its way: what lies before `end` was seen, nothing else. Writers
    /// wait for it, so it must be quick.
    fn cut(&self, end: JournalMark);

    /// Makes durable what the last [`Self::cut`] noted. A store calls it before spans leave the journal; afterwards they
    /// do not come back in a replay. What cannot be written is kept for the next call.
    async fn persist(&self);
}
