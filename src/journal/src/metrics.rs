use std::sync::LazyLock;

use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, register_histogram_vec, register_int_counter_vec,
};

static FSYNC_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!(
        "trefoil_journal_fsync_duration_seconds",
        "Time of the sync that ends a commit group.",
        &["journal"],
        vec![0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]
    )
    .expect("unique metric name")
});

macro_rules! counter {
    ($name:ident, $metric:literal, $help:literal) => {
        static $name: LazyLock<IntCounterVec> =
            LazyLock::new(|| register_int_counter_vec!($metric, $help, &["journal"]).expect("unique metric name"));
    };
}

counter!(
    APPENDED_BYTES,
    "trefoil_journal_appended_bytes_total",
    "Bytes of records that were synced, framing included."
);
counter!(APPENDED_RECORDS, "trefoil_journal_appended_records_total", "Records that were synced.");
counter!(
    FSYNC_FAILURES,
    "trefoil_journal_fsync_failures_total",
    "Syncs and writes that failed and ended their segment."
);
counter!(QUARANTINED, "trefoil_journal_quarantined_segments_total", "Segments found damaged and kept aside.");
counter!(KEPT, "trefoil_journal_kept_segments_total", "Segments with records that cannot be used, kept in `lost`.");
counter!(
    COPY_FAILURES,
    "trefoil_journal_copy_failures_total",
    "Files with copies that could not be written or synced; the records themselves were."
);

/// The metrics of one journal.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) fsync_seconds: Histogram,
    pub(crate) appended_bytes: IntCounter,
    pub(crate) appended_records: IntCounter,
    pub(crate) fsync_failures: IntCounter,
    pub(crate) quarantined_segments: IntCounter,
    pub(crate) kept_segments: IntCounter,
    pub(crate) copy_failures: IntCounter,
}

impl Metrics {
    pub(crate) fn new(journal: &'static str) -> Self {
        Self {
            fsync_seconds: FSYNC_SECONDS.with_label_values(&[journal]),
            appended_bytes: APPENDED_BYTES.with_label_values(&[journal]),
            appended_records: APPENDED_RECORDS.with_label_values(&[journal]),
            fsync_failures: FSYNC_FAILURES.with_label_values(&[journal]),
            quarantined_segments: QUARANTINED.with_label_values(&[journal]),
            kept_segments: KEPT.with_label_values(&[journal]),
            copy_failures: COPY_FAILURES.with_label_values(&[journal]),
        }
    }
}
