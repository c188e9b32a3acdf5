//! The contract of administration, over what [`crate::tombstones`] and [`crate::cardinality`] do.

use trefoil_model::{Cardinality, MetricAdmin, SelectRequest, StoreError, TenantId};

use crate::error::TsdbError;
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
}
