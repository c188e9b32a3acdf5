//! Administration of stored samples.

use crate::{SelectRequest, StoreError, TenantId};

/// Deletes and inspects what a time-series store holds.
#[async_trait::async_trait]
pub trait MetricAdmin: Send + Sync {
    /// Hides the samples that any of the requests selects, durably and at once; their bytes go with the next merges.
    /// Samples that are written afterwards are visible, whatever their time. Returns how many series were hit.
    async fn delete(&self, requests: &[SelectRequest]) -> Result<u64, StoreError>;

    /// Rewrites the parts that hold deleted samples. Returns how many parts that were.
    async fn clean_tombstones(&self) -> Result<u64, StoreError>;

    /// What the active series are made of; each list has at most `limit` entries, greatest first. May take long: not
    /// for an async thread.
    fn cardinality(&self, tenant: TenantId, limit: usize) -> Result<Cardinality, StoreError>;

    /// The immutable parts that hold a tenant's samples, the earliest first; what is in memory only is left out. May take
    /// long: not for an async thread.
    fn blocks(&self, _tenant: TenantId) -> Vec<StoredBlock> {
        Vec::new()
    }

    /// What is known of the parts that lie in an object store, of all tenants. Asks nobody.
    fn object_store(&self) -> ObjectStoreState {
        ObjectStoreState::default()
    }

    /// What keeps the store from working as it should now, if anything does. Quick.
    fn trouble(&self) -> Option<StoreTrouble> {
        None
    }
}

/// What keeps a store from working as it should, with its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreTrouble {
    /// No write is acknowledged.
    NoWrites(String),
    /// Writes are durable, but what should be done with them later fails.
    Degraded(String),
}

/// What a store knows of its parts in an object store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectStoreState {
    /// Parts there.
    pub parts: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Parts of these that no query can read now.
    pub unreachable_parts: u64,
    /// Why the store did not answer the last time; `None` when it did, or nobody asked.
    pub error: Option<String>,
}

/// An immutable part of a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredBlock {
    /// Its number.
    pub id: u64,
    /// When it was written, Unix milliseconds.
    pub created_ms: i64,
    /// Time of the first sample, Unix milliseconds.
    pub min_t: i64,
    /// Time of the last sample, inclusive.
    pub max_t: i64,
    /// Number of series.
    pub series: u64,
    /// Number of samples.
    pub samples: u64,
    /// How often its samples were merged, counted from 1.
    pub level: u32,
}

/// A name and how much there is of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Metric name, label name, or `name=value`.
    pub name: String,
    /// Number of series, values or bytes.
    pub value: u64,
}

/// What the active series of a tenant are made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cardinality {
    /// Number of active series.
    pub series: u64,
    /// Number of distinct label pairs.
    pub label_pairs: u64,
    /// Unix milliseconds of the first and the last sample in memory, when there is one.
    pub times: Option<(i64, i64)>,
    /// Series by metric name.
    pub series_by_metric: Vec<Counted>,
    /// Distinct values by label name.
    pub values_by_label: Vec<Counted>,
    /// Bytes of distinct values by label name.
    pub bytes_by_label: Vec<Counted>,
    /// Series by `name=value`.
    pub series_by_pair: Vec<Counted>,
    /// Whose new series are refused, and why.
    pub offenders: Vec<Offender>,
}

/// A job because of which new series are or were lately refused: its own, or those of others when nothing is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offender {
    /// Value of the label `job`; empty for series without one.
    pub job: String,
    /// Name of the limit that was hit.
    pub limit: &'static str,
    /// The limit's value.
    pub limit_value: u64,
    /// Active series of the job.
    pub series: u64,
    /// New series refused because of it since `since_ms`.
    pub refused: u64,
    /// Unix milliseconds of the first refusal.
    pub since_ms: i64,
    /// Unix milliseconds of the last refusal.
    pub last_ms: i64,
    /// The label that has most distinct values among the job's new series, and about how many; empty when unknown.
    pub label: Counted,
    /// The metric that has most of the refused series.
    pub metric: String,
}

/// Takes snapshots of all stores of a server.
#[async_trait::async_trait]
pub trait SnapshotTaker: Send + Sync {
    /// Takes a snapshot that can be opened as a data directory. Returns its name within the folder `snapshots` of the
    /// data directory. Without `with_memtables` what is not yet in parts is left out. One `for_backup` is named so that it
    /// is removed when whoever asked for it ends before it does so.
    async fn snapshot(&self, with_memtables: bool, for_backup: bool) -> Result<String, StoreError>;
}
