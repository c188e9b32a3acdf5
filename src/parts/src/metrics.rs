use std::sync::LazyLock;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, register_int_counter_vec, register_int_gauge_vec};

macro_rules! metric {
    ($static:ident, $type:ty, $register:ident, $name:literal, $help:literal) => {
        static $static: LazyLock<$type> =
            LazyLock::new(|| $register!($name, $help, &["store"]).expect("unique metric name"));
    };
}

metric!(PARTS, IntGaugeVec, register_int_gauge_vec, "trefoil_parts_published", "Parts in the set.");
metric!(BYTES, IntGaugeVec, register_int_gauge_vec, "trefoil_parts_published_bytes", "Bytes of the parts in the set.");
metric!(COMMITS, IntCounterVec, register_int_counter_vec, "trefoil_parts_commits_total", "Commits.");
metric!(FAILURES, IntCounterVec, register_int_counter_vec, "trefoil_parts_commit_failures_total", "Failed commits.");
metric!(DAMAGED, IntCounterVec, register_int_counter_vec, "trefoil_parts_damaged_files_total", "Damaged files found.");

metric!(
    DAMAGED_COMMITS,
    IntCounterVec,
    register_int_counter_vec,
    "trefoil_parts_damaged_commits_total",
    "Damaged or missing commits found whose copies stood in."
);
metric!(
    SET_ASIDE,
    IntCounterVec,
    register_int_counter_vec,
    "trefoil_parts_set_aside_total",
    "Part folders that no commit names, moved to the folder lost."
);

metric!(
    UPLOADS,
    IntCounterVec,
    register_int_counter_vec,
    "trefoil_parts_uploads_total",
    "Parts moved to the object store."
);
metric!(
    UPLOAD_FAILURES,
    IntCounterVec,
    register_int_counter_vec,
    "trefoil_parts_upload_failures_total",
    "Failed moves to the object store."
);
metric!(
    DOWNLOADS,
    IntCounterVec,
    register_int_counter_vec,
    "trefoil_parts_downloads_total",
    "Files fetched from the object store."
);
metric!(
    DOWNLOADED,
    IntCounterVec,
    register_int_counter_vec,
    "trefoil_parts_downloaded_bytes_total",
    "Bytes fetched from the object store."
);
metric!(
    DOWNLOAD_FAILURES,
    IntCounterVec,
    register_int_counter_vec,
    "trefoil_parts_download_failures_total",
    "Failed fetches from the object store."
);
metric!(
    FAILING,
    IntGaugeVec,
    register_int_gauge_vec,
    "trefoil_parts_object_store_failing",
    "1 while the last request to read from the object store failed."
);
metric!(
    CACHE_BYTES,
    IntGaugeVec,
    register_int_gauge_vec,
    "trefoil_parts_cache_bytes",
    "Bytes of remote parts in the local cache."
);
metric!(
    EVICTIONS,
    IntCounterVec,
    register_int_counter_vec,
    "trefoil_parts_cache_evictions_total",
    "Files that left the local cache for want of room."
);
metric!(REMOTE, IntGaugeVec, register_int_gauge_vec, "trefoil_parts_remote", "Parts that lie in the object store.");
metric!(
    REMOTE_BYTES,
    IntGaugeVec,
    register_int_gauge_vec,
    "trefoil_parts_remote_bytes",
    "Bytes of parts that lie in the object store."
);

/// The metrics of remote parts of one set.
pub(crate) struct RemoteMetrics {
    pub(crate) uploads: IntCounter,
    pub(crate) upload_failures: IntCounter,
    pub(crate) downloads: IntCounter,
    pub(crate) downloaded_bytes: IntCounter,
    pub(crate) download_failures: IntCounter,
    pub(crate) failing: IntGauge,
    pub(crate) cache_bytes: IntGauge,
    pub(crate) evictions: IntCounter,
}

impl RemoteMetrics {
    pub(crate) fn new(store: &str) -> Self {
        Self {
            uploads: UPLOADS.with_label_values(&[store]),
            upload_failures: UPLOAD_FAILURES.with_label_values(&[store]),
            downloads: DOWNLOADS.with_label_values(&[store]),
            downloaded_bytes: DOWNLOADED.with_label_values(&[store]),
            download_failures: DOWNLOAD_FAILURES.with_label_values(&[store]),
            failing: FAILING.with_label_values(&[store]),
            cache_bytes: CACHE_BYTES.with_label_values(&[store]),
            evictions: EVICTIONS.with_label_values(&[store]),
        }
    }
}

/// The metrics of one set.
pub(crate) struct Metrics {
    pub(crate) parts: IntGauge,
    pub(crate) bytes: IntGauge,
    pub(crate) remote: IntGauge,
    pub(crate) remote_bytes: IntGauge,
    pub(crate) commits: IntCounter,
    pub(crate) commit_failures: IntCounter,
    pub(crate) damaged_files: IntCounter,
    pub(crate) set_aside: IntCounter,
}

impl Metrics {
    pub(crate) fn new(store: &str) -> Self {
        Self {
            parts: PARTS.with_label_values(&[store]),
            bytes: BYTES.with_label_values(&[store]),
            remote: REMOTE.with_label_values(&[store]),
            remote_bytes: REMOTE_BYTES.with_label_values(&[store]),
            commits: COMMITS.with_label_values(&[store]),
            commit_failures: FAILURES.with_label_values(&[store]),
            damaged_files: DAMAGED.with_label_values(&[store]),
            set_aside: SET_ASIDE.with_label_values(&[store]),
        }
    }
}

/// Counts a commit that was damaged or missing and whose copy stood in.
pub(crate) fn damaged_commit(store: &str) {
    DAMAGED_COMMITS.with_label_values(&[store]).inc();
}
