//! The contract of administration, over what [`crate::tombstones`] and [`crate::cardinality`] do.

use trefoil_model::{
    Cardinality, MetricAdmin, ObjectStoreState, SelectRequest, StoreError, StoreTrouble, StoredBlock, TenantId,
};
use trefoil_parts::RemoteState;

use crate::error::TsdbError;
use crate::inspect::PartInfo;
use crate::store::Tsdb;

fn store_error(context: &'static str) -> impl FnOnce(TsdbError) -> StoreError {
    move |error| match error {
        TsdbError::Store(error) => error,
        error @ TsdbError::NoRoom { .. } => {
            StoreError::Io { context: error.to_string(), source: std::io::ErrorKind::StorageFull.into() }
        }
        error @ TsdbError::TooManyTombstones { .. } => StoreError::Unsupported(error.to_string()),
        other => StoreError::Io { context: context.into(), source: std::io::Error::other(other) },
    }
}

#[async_trait::async_trait]
impl MetricAdmin for Tsdb {
    async fn delete(&self, requests: &[SelectRequest]) -> Result<u64, StoreError> {
        Tsdb::delete(self, requests).await.map_err(store_error("delete series"))
    }

    async fn clean_tombstones(&self) -> Result<u64, StoreError> {
        Tsdb::clean_tombstones(self).await.map_err(store_error("clean tombstones"))
    }

    fn cardinality(&self, tenant: TenantId, limit: usize) -> Result<Cardinality, StoreError> {
        Tsdb::cardinality(self, tenant, limit)
    }

    fn object_store(&self) -> ObjectStoreState {
        let RemoteState { parts, bytes, unreachable, error } = self.inner.parts.remote_state();
        ObjectStoreState { parts, bytes, unreachable_parts: unreachable, error }
    }

    fn trouble(&self) -> Option<StoreTrouble> {
        let of_disk = || self.inner.disk.shortage();
        let no_writes = self.write_trouble().or_else(of_disk).map(StoreTrouble::NoWrites);
        no_writes.or_else(|| self.flush_trouble().map(StoreTrouble::Degraded))
    }

    fn blocks(&self, tenant: TenantId) -> Vec<StoredBlock> {
        let mut parts: Vec<_> = self.part_infos().into_iter().filter(|p| p.tenant == tenant).collect();
        parts.sort_by_key(|p| (p.min_t, p.id));
        let block = |p: &PartInfo| StoredBlock {
            id: p.id,
            created_ms: p.created_ms,
            min_t: p.min_t,
            max_t: p.max_t,
            series: p.series.unwrap_or(0),
            samples: p.samples,
            level: u32::from(p.level) + 1,
        };
        parts.iter().map(block).collect()
    }
}
