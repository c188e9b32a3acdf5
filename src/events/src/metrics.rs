//! The metrics of the event store. Label `kind` is `logs` or `traces`.

use std::sync::LazyLock;

use prometheus::{
    HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, exponential_buckets, register_histogram_vec,
    register_int_counter, register_int_counter_vec, register_int_gauge_vec,
};

macro_rules! counters {
    ($($static:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(crate) static $static: LazyLock<IntCounterVec> = LazyLock::new(|| {
            register_int_counter_vec!($name, $help, &[$($label),*]).expect("unique metric name")
        });)*
    };
}

macro_rules! gauges {
    ($($static:ident $name:literal $help:literal;)*) => {
        $(pub(crate) static $static: LazyLock<IntGaugeVec> = LazyLock::new(|| {
            register_int_gauge_vec!($name, $help, &["kind"]).expect("unique metric name")
        });)*
    };
}

macro_rules! durations {
    ($($static:ident $name:literal $help:literal;)*) => {
        $(pub(crate) static $static: LazyLock<HistogramVec> = LazyLock::new(|| {
            let buckets = exponential_buckets(0.005, 2.5, 12).expect("positive bounds");
            register_histogram_vec!($name, $help, &["kind"], buckets).expect("unique metric name")
        });)*
    };
}

counters! {
    APPENDED "trefoil_events_appended_total" ["kind"] "Records and spans acknowledged.";
    REJECTED "trefoil_events_rejected_total" ["kind", "reason"] "Records and spans refused one by one.";
    WAITS "trefoil_events_memtable_waits_total" ["kind", "end"] "Writes that waited because the memtables were full: end is room or refused.";
    REPLAYED "trefoil_events_replayed_records_total" ["kind"] "Journal records replayed at start.";
}

gauges! {
    MEMTABLE_BYTES "trefoil_events_memtable_bytes" "Bytes of what is not yet in parts.";
    PARTS "trefoil_events_parts" "Parts.";
    PARTS_BYTES "trefoil_events_parts_bytes" "Bytes of parts.";
    PARTS_UNREACHABLE "trefoil_events_parts_unreachable" "Parts in an object store that is not the configured one: nobody can read them.";
}

durations! {
    FLUSH_SECONDS "trefoil_events_flush_duration_seconds" "Time to write a memtable as parts.";
    MERGE_SECONDS "trefoil_events_merge_duration_seconds" "Time to merge parts.";
}

pub(crate) static BLOCKS_CORRUPT: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "trefoil_events_blocks_corrupt_total",
        "Blocks, filters, indexes and other places of parts that do not have their checksum, each counted when it is met first."
    )
    .expect("unique metric name")
});

pub(crate) static SAMPLED_EARLY: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "trefoil_events_traces_sampled_early_total",
        "Flushes at which traces were decided upon before the decision wait was over, because memtables had no room for them."
    )
    .expect("unique metric name")
});
