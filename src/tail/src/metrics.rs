//! What the tailer counts.

use std::sync::LazyLock;

use prometheus::{
    IntCounter, IntCounterVec, IntGauge, register_int_counter, register_int_counter_vec, register_int_gauge,
};

macro_rules! counter {
    ($(#[$meta:meta])* $name:ident, $metric:literal, $help:literal) => {
        $(#[$meta])*
        pub static $name: LazyLock<IntCounter> =
            LazyLock::new(|| register_int_counter!($metric, $help).expect("unique metric name"));
    };
}
macro_rules! gauge {
    ($(#[$meta:meta])* $name:ident, $metric:literal, $help:literal) => {
        $(#[$meta])*
        pub static $name: LazyLock<IntGauge> =
            LazyLock::new(|| register_int_gauge!($metric, $help).expect("unique metric name"));
    };
}

gauge!(
    /// Files that are followed.
    FILES, "trefoil_tail_files", "Log files that are followed.");
gauge!(
    /// Files that are open.
    OPEN_FILES, "trefoil_tail_open_files", "Log files that are open.");
gauge!(
    /// Bytes of files that are not yet read.
    LAG_BYTES, "trefoil_tail_lag_bytes", "Bytes of log files that are not yet read.");
counter!(
    /// Bytes read.
    BYTES, "trefoil_tail_bytes_total", "Bytes of lines that were read from log files.");
counter!(
    /// Lines read.
    LINES, "trefoil_tail_lines_total", "Lines that were read from log files.");
counter!(
    /// Lines that were no text in their encoding.
    INVALID_LINES, "trefoil_tail_invalid_lines_total", "Lines of log files that held bytes that are no text.");
counter!(
    /// Writes that were tried again.
    RETRIES, "trefoil_tail_retries_total", "Batches of log files that the store refused for now and that were tried again.");

static ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("trefoil_tail_errors_total", "Faults with log files, by reason.", &["reason"])
        .expect("unique metric name")
});
static CHANGES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_tail_changes_total",
        "What befell followed log files: renamed, truncated, removed, copied (by copytruncate).",
        &["kind"]
    )
    .expect("unique metric name")
});

/// Counts a fault. `reason` comes from a small fixed set.
pub fn error(reason: &'static str) {
    ERRORS.with_label_values(&[reason]).inc();
}

/// Counts what befell a file. `kind` comes from a small fixed set.
pub fn change(kind: &'static str) {
    CHANGES.with_label_values(&[kind]).inc();
}
