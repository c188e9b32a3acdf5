//! Log records that are not yet in a part.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use trefoil_model::{Labels, LogBatch, NanoRange, TenantId};

use crate::log_block::StoredLog;

/// Records of a stream, sorted by (time, sequence).
pub(crate) type Run = Arc<Vec<Arc<StoredLog>>>;

/// Records of a stream as sorted runs; each is more than twice as long as the next, so that there are few.
#[derive(Debug, Default, Clone)]
struct Stream {
    runs: Vec<Run>,
}

impl Stream {
    fn add(&mut self, records: Vec<Arc<StoredLog>>) {
        self.runs.push(Arc::new(records));
        while let [.., before, last] = self.runs.as_slice() {
            if before.len() > last.len() * 2 {
                break;
            }
            let merged = merge(before, last);
            self.runs.truncate(self.runs.len() - 2);
            self.runs.push(Arc::new(merged));
        }
    }
}

fn merge(a: &[Arc<StoredLog>], b: &[Arc<StoredLog>]) -> Vec<Arc<StoredLog>> {
    let mut out = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        let next = if x.key() <= y.key() { a.next() } else { b.next() };
        out.extend(next.cloned());
    }
    out.extend(a.cloned());
    out.extend(b.cloned());
    out
}

/// The log records of all tenants that are not yet in a part. Readers and writers share it.
#[derive(Debug, Default)]
pub(crate) struct LogMemtable {
    tenants: RwLock<BTreeMap<TenantId, FxHashMap<Labels, Stream>>>,
}

impl LogMemtable {
    /// Inserts a batch; its records get sequences from `sequence` on.
    pub(crate) fn insert(&self, batch: LogBatch, mut sequence: u64) {
        let mut groups = Vec::with_capacity(batch.groups.len());
        for group in batch.groups {
            let mut records: Vec<Arc<StoredLog>> = Vec::with_capacity(group.records.len());
            for record in group.records {
                records.push(Arc::new(StoredLog { sequence, shared: Arc::clone(&group.shared), record }));
                sequence += 1;
            }
            records.sort_by_key(|r| r.key());
            groups.push((group.stream, records));
        }
        // One lock for the whole batch: it becomes visible together.
        let mut tenants = self.tenants.write();
        let streams = tenants.entry(batch.tenant).or_default();
        for (labels, records) in groups {
            if !records.is_empty() {
                streams.entry(labels).or_default().add(records);
            }
        }
    }

    /// The runs of a tenant that overlap a range and whose stream is wanted.
    pub(crate) fn runs(
        &self,
        tenant: TenantId,
        range: NanoRange,
        wanted: &mut dyn FnMut(&Labels) -> bool,
    ) -> Vec<(Labels, Run)> {
        let tenants = self.tenants.read();
        let Some(streams) = tenants.get(&tenant) else { return Vec::new() };
        let mut out = Vec::new();
        #[expect(clippy::iter_over_hash_type, reason = "readers order what they get")]
        for (labels, stream) in streams {
            let overlaps = |run: &&Run| match (run.first(), run.last()) {
                (Some(first), Some(last)) => range.overlaps(first.record.time_ns, last.record.time_ns),
                _ => false,
            };
            if stream.runs.iter().any(|run| overlaps(&run)) && wanted(labels) {
                out.extend(stream.runs.iter().filter(overlaps).map(|run| (labels.clone(), Arc::clone(run))));
            }
        }
        out
    }

    /// All tenants that have records.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        self.tenants.read().keys().copied().collect()
    }
}
