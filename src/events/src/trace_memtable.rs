//! Spans that are not yet in a part.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use trefoil_model::{TenantId, TraceBatch, TraceId};

use crate::span_block::{Origin, StoredSpan, sort_and_deduplicate};

/// How many spans of a trace are looked through for one that is sent again.
const LOOK_BACK: usize = 64;

/// The spans of a tenant by trace, in order of arrival.
type Traces = FxHashMap<TraceId, Vec<Arc<StoredSpan>>>;

/// The spans of all tenants that are not yet in a part. Readers and writers share it.
#[derive(Debug, Default)]
pub(crate) struct TraceMemtable {
    tenants: RwLock<BTreeMap<TenantId, Traces>>,
}

impl TraceMemtable {
    /// Inserts a batch; its spans get sequences from `sequence` on.
    pub(crate) fn insert(&self, batch: TraceBatch, mut sequence: u64) {
        let mut spans = Vec::with_capacity(batch.span_count());
        for group in batch.groups {
            let origin = Arc::new(Origin { resource: group.resource, scope: group.scope });
            for span in group.spans {
                spans.push(Arc::new(StoredSpan { sequence, origin: Arc::clone(&origin), span }));
                sequence += 1;
            }
        }
        // One lock for the whole batch: it becomes visible together.
        let mut tenants = self.tenants.write();
        let traces = tenants.entry(batch.tenant).or_default();
        for span in spans {
            let stored = traces.entry(span.span.trace_id).or_default();
            // A short look back stops the usual resend; the rest is removed when a trace is read.
            if stored.iter().rev().take(LOOK_BACK).all(|s| s.identity() != span.identity()) {
                stored.push(span);
            }
        }
    }

    /// The spans of a trace.
    pub(crate) fn trace(&self, tenant: TenantId, id: TraceId) -> Vec<Arc<StoredSpan>> {
        let tenants = self.tenants.read();
        tenants.get(&tenant).and_then(|traces| traces.get(&id)).cloned().unwrap_or_default()
    }

    /// Whether there are spans of a trace.
    pub(crate) fn has(&self, tenant: TenantId, id: TraceId) -> bool {
        self.tenants.read().get(&tenant).is_some_and(|traces| traces.contains_key(&id))
    }

    /// All spans of a tenant, in any order.
    pub(crate) fn spans(&self, tenant: TenantId) -> Vec<Arc<StoredSpan>> {
        let tenants = self.tenants.read();
        tenants.get(&tenant).map(|traces| traces.values().flatten().cloned().collect()).unwrap_or_default()
    }

    /// All spans of a tenant in any order, without what was sent twice.
    pub(crate) fn unique_spans(&self, tenant: TenantId) -> Vec<Arc<StoredSpan>> {
        let tenants = self.tenants.read();
        let mut out = Vec::new();
        for spans in tenants.get(&tenant).into_iter().flat_map(|traces| traces.values()) {
            // In shorter ones it was seen at insertion.
            if spans.len() > LOOK_BACK {
                let mut spans = spans.clone();
                sort_and_deduplicate(&mut spans);
                out.extend(spans);
            } else {
                out.extend(spans.iter().cloned());
            }
        }
        out
    }

    /// All tenants that have spans.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        self.tenants.read().keys().copied().collect()
    }
}
