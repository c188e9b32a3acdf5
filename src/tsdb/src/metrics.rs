//! The store's own metrics.

use std::sync::LazyLock;

use prometheus::{
    Histogram, IntCounter, IntCounterVec, IntGauge, exponential_buckets, register_histogram, register_int_counter,
    register_int_counter_vec, register_int_gauge,
};

macro_rules! metrics {
    ($($name:ident: $type:ty = $register:ident!($($argument:expr),+);)*) => {
        $(pub(crate) static $name: LazyLock<$type> =
            LazyLock::new(|| $register!($($argument),+).expect("unique metric name"));)*

        /// Registers every metric, so that zeros are exposed from the start.
        pub(crate) fn register() {
            $(LazyLock::force(&$name);)*
        }
    };
}

fn seconds() -> Vec<f64> {
    exponential_buckets(0.001, 4.0, 10).expect("start and factor are positive")
}

metrics! {
    SERIES_ACTIVE: IntGauge = register_int_gauge!(
        "trefoil_tsdb_series_active", "Series with a sample since the last flush but one");
    SERIES_CREATED: IntCounter = register_int_counter!(
        "trefoil_tsdb_series_created_total", "Series that got a new id");
    SERIES_REFUSED: IntCounterVec = register_int_counter_vec!(
        "trefoil_tsdb_series_refused_total", "New series that the cardinality guard refused", &["limit"]);
    SAMPLES_APPENDED: IntCounter = register_int_counter!(
        "trefoil_tsdb_samples_appended_total", "Samples acknowledged, duplicates included");
    SAMPLES_REJECTED: IntCounterVec = register_int_counter_vec!(
        "trefoil_tsdb_samples_rejected_total", "Samples refused one by one", &["reason"]);
    MEMTABLE_BYTES: IntGauge = register_int_gauge!(
        "trefoil_tsdb_memtable_bytes", "Bytes in memtables, those being flushed included");
    PARTS: IntGauge = register_int_gauge!("trefoil_tsdb_parts", "Parts that queries read");
    PARTS_UNREACHABLE: IntGauge = register_int_gauge!(
        "trefoil_tsdb_parts_unreachable", "Parts in an object store that is not the configured one; reading them fails");
    PARTS_BYTES: IntGauge = register_int_gauge!("trefoil_tsdb_parts_bytes", "Bytes of the parts that queries read");
    FLUSH_DURATION: Histogram = register_histogram!(
        "trefoil_tsdb_flush_duration_seconds", "Time to write a memtable to parts and publish them", seconds());
    MERGE_DURATION: Histogram = register_histogram!(
        "trefoil_tsdb_merge_duration_seconds", "Time to merge parts", seconds());
    SERIES_DELETED: IntCounter = register_int_counter!(
        "trefoil_tsdb_series_deleted_total", "Series that deletions hit");
    TOMBSTONES: IntGauge = register_int_gauge!(
        "trefoil_tsdb_tombstones", "Deletions whose samples are still in parts");
    SAMPLES_DOWNSAMPLED: IntCounter = register_int_counter!(
        "trefoil_tsdb_downsampled_samples_total", "Samples that downsampling and dedup left out of merged parts");
    REPLAYED_RECORDS: IntCounter = register_int_counter!(
        "trefoil_tsdb_replayed_records_total", "Journal records read at start-up");
    JOURNAL_UNUSABLE: IntCounter = register_int_counter!(
        "trefoil_tsdb_journal_unusable_samples_total",
        "Samples in the journal that are of unknown series because of damage; their segments are kept");
    JOURNAL_COPIES_LOST: IntCounter = register_int_counter!(
        "trefoil_tsdb_journal_copies_lost_total",
        "Records that define series whose second copy was missing at a start; it is written anew");
    FLUSH_FAILURES: IntCounter = register_int_counter!(
        "trefoil_tsdb_flush_failures_total", "Flushes that failed; what they hold stays in memory and in the journal");
    FLUSH_FAILING: IntGauge = register_int_gauge!(
        "trefoil_tsdb_flush_failing", "1 while the last flush failed");
    BLOCKS_CORRUPT: IntCounter = register_int_counter!(
        "trefoil_tsdb_blocks_corrupt_total",
        "Damaged blocks and index ranges that reads met, each counted once; the log names them");
}

/// Counts refused samples.
pub(crate) fn rejected(reason: &'static str, samples: u64) {
    if samples > 0 {
        SAMPLES_REJECTED.with_label_values(&[reason]).inc_by(samples);
    }
}
