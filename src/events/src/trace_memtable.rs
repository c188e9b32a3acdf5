//! Spans that are not yet in a part.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_model::{SpanGroup, TenantId, TraceBatch, TraceId};

use crate::span_block::{Origin, StoredSpan, sort_and_deduplicate};

/// How many spans of a trace are looked through for one that is sent again.
const LOOK_BACK: usize = 64;

/// The spans of a tenant by trace, in order of arrival.
type Traces = FxHashMap<TraceId, Vec<Arc<StoredSpan>>>;

/// The spans of all tenants that are not yet in a part. Readers and writers share it.
#[derive(Debug, Default)]
pub(crate) struct TraceMemtable {
    tenants: RwLock<BTreeMap<TenantId, Traces>>,
    /// Traces that the memtable after this one has too, so that no part is to have them yet.
    carried: RwLock<FxHashSet<(TenantId, TraceId)>>,
}

/// Bytes of spans of a batch that is carried over.
const CARRIED_BATCH_BYTES: usize = 4 << 20;

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

    /// Takes the traces with a span from sequence `young_from` on, at most about so many bytes of them, those first that
    /// got their last span last: they are to be written again and no part is to have them. The flag says that some were
    /// left because of the bytes.
    pub(crate) fn carry(&self, young_from: u64, bytes_max: usize) -> (Vec<TraceBatch>, bool) {
        let tenants = self.tenants.read();
        let mut young: Vec<(u64, TenantId, TraceId)> = Vec::new();
        for (tenant, traces) in tenants.iter() {
            #[expect(clippy::iter_over_hash_type, reason = "they are sorted below")]
            for (id, spans) in traces {
                let last = spans.iter().map(|span| span.sequence).max().unwrap_or(0);
                if last >= young_from {
                    young.push((last, *tenant, *id));
                }
            }
        }
        young.sort_unstable();
        let mut carried = self.carried.write();
        let (mut batches, mut bytes, mut of_batch): (Vec<TraceBatch>, _, _) = (Vec::new(), 0, 0);
        while let Some((_, tenant, id)) = young.pop() {
            let spans = &tenants[&tenant][&id];
            let size: usize = spans.iter().map(|span| span.heap_bytes()).sum();
            if bytes + size > bytes_max {
                return (batches, true);
            }
            bytes += size;
            of_batch += size;
            carried.insert((tenant, id));
            let is_other = batches.last().is_none_or(|batch| batch.tenant != tenant);
            if is_other || of_batch > CARRIED_BATCH_BYTES {
                of_batch = size;
                batches.push(TraceBatch { tenant, groups: Vec::new() });
            }
            let groups = &mut batches.last_mut().expect("one was just pushed").groups;
            for stored in spans {
                let (resource, scope) = (&stored.origin.resource, &stored.origin.scope);
                let is_same =
                    |group: &SpanGroup| Arc::ptr_eq(&group.resource, resource) && Arc::ptr_eq(&group.scope, scope);
                match groups.last_mut().filter(|group| is_same(group)) {
                    Some(group) => group.spans.push(stored.span.clone()),
                    None => groups.push(SpanGroup {
                        resource: Arc::clone(resource),
                        scope: Arc::clone(scope),
                        spans: vec![stored.span.clone()],
                    }),
                }
            }
        }
        (batches, false)
    }

    /// Forgets which traces were carried over: they were not.
    pub(crate) fn keep_all(&self) {
        self.carried.write().clear();
    }

    /// The spans of a tenant that parts are to have, by trace, without what was sent twice.
    pub(crate) fn spans_to_write(&self, tenant: TenantId) -> Vec<(TraceId, Vec<Arc<StoredSpan>>)> {
        let (tenants, carried) = (self.tenants.read(), self.carried.read());
        let mut out = Vec::new();
        for (id, spans) in tenants.get(&tenant).into_iter().flatten() {
            if !carried.contains(&(tenant, *id)) {
                let mut spans = spans.clone();
                sort_and_deduplicate(&mut spans);
                out.push((*id, spans));
            }
        }
        out
    }

    /// All tenants that have spans.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        self.tenants.read().keys().copied().collect()
    }
}
