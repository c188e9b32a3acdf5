//! Counters of the scrape loops.

use std::sync::LazyLock;

use prometheus::{
    IntCounter, IntCounterVec, IntGauge, register_int_counter, register_int_counter_vec, register_int_gauge,
};

/// Scrapes by outcome.
pub(crate) static SCRAPES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("trefoil_scrape_scrapes_total", "Scrapes by outcome.", &["outcome"])
        .expect("unique metric name")
});

/// Samples taken from pages.
pub(crate) static SCRAPE_SAMPLES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_scrape_samples_total", "Samples of good scrapes after relabeling.")
        .expect("unique metric name")
});

/// Samples that the store refused.
pub(crate) static SCRAPE_REJECTED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_scrape_samples_rejected_total", "Scraped samples that the store refused.")
        .expect("unique metric name")
});

/// Targets that are scraped.
pub(crate) static TARGETS: LazyLock<IntGauge> =
    LazyLock::new(|| register_int_gauge!("trefoil_scrape_targets", "Active targets.").expect("unique metric name"));
