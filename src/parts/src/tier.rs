//! Which parts move to an object store.

use std::time::Duration;

use trefoil_model::time::DAY_MS;

use crate::meta::PartMeta;
use crate::remote::RemoteOptions;

/// Which parts lie in an object store, and where.
#[derive(Clone)]
pub struct ObjectStoreOptions {
    /// The place and the bounds of the local cache.
    pub remote: RemoteOptions,
    /// Time from the end of a day to the move of its parts.
    pub after: Duration,
}

impl ObjectStoreOptions {
    /// True when a part lies here and its day ended long enough before `now_ms` (Unix milliseconds).
    pub fn is_due(&self, meta: &PartMeta, now_ms: i64) -> bool {
        let after_ms = i64::try_from(self.after.as_millis()).unwrap_or(i64::MAX);
        let end_ms = meta.partition.saturating_add(1).saturating_mul(DAY_MS);
        !meta.is_remote() && end_ms.saturating_add(after_ms) <= now_ms
    }
}
