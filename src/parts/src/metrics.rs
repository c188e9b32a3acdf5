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

/// The metrics of one set.
pub(crate) struct Metrics {
    pub(crate) parts: IntGauge,
    pub(crate) bytes: IntGauge,
    pub(crate) commits: IntCounter,
    pub(crate) commit_failures: IntCounter,
    pub(crate) damaged_files: IntCounter,
}

impl Metrics {
    pub(crate) fn new(store: &str) -> Self {
        Self {
            parts: PARTS.with_label_values(&[store]),
            bytes: BYTES.with_label_values(&[store]),
            commits: COMMITS.with_label_values(&[store]),
            commit_failures: FAILURES.with_label_values(&[store]),
            damaged_files: DAMAGED.with_label_values(&[store]),
        }
    }
}
