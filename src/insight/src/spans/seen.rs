//! Which spans came lately, to know one that is sent again.

use std::hash::{BuildHasher, Hasher};

use rustc_hash::{FxBuildHasher, FxHashSet};
use trefoil_model::Span;

/// The last spans, in two generations: between half of the limit and all of it are known.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    young: FxHashSet<u64>,
    old: FxHashSet<u64>,
}

impl Seen {
    /// Notes a span; whether it is new. Spans of one id that differ in start or kind are not the same, as in the store.
    pub(crate) fn insert(&mut self, span: &Span, spans_max: usize) -> bool {
        if spans_max == 0 {
            return true;
        }
        let hash = hash_of(span);
        if self.young.contains(&hash) || self.old.contains(&hash) {
            return false;
        }
        if self.young.len() >= (spans_max / 2).max(1) {
            // The memory of the older generation serves the next one.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(hash);
        true
    }
}

fn hash_of(span: &Span) -> u64 {
    let mut hasher = FxBuildHasher.build_hasher();
    let word = |bytes: &[u8]| bytes.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    hasher.write_u64(word(&span.trace_id.0[..8]));
    hasher.write_u64(word(&span.trace_id.0[8..]));
    hasher.write_u64(word(&span.span_id.0));
    hasher.write_u64(span.start_ns as u64);
    hasher.write_u8(span.kind as u8);
    hasher.finish()
}
