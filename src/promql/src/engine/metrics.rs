//! What the engine tells of itself.

use std::sync::LazyLock;

use prometheus::{
    Histogram, IntCounter, IntCounterVec, register_histogram, register_int_counter, register_int_counter_vec,
};

pub(super) static QUERIES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("trefoil_promql_queries_total", "Queries evaluated, by outcome.", &["outcome"])
        .expect("unique metric name")
});

pub(super) static SAMPLES_READ: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_promql_samples_read_total", "Samples read from storage by queries.")
        .expect("unique metric name")
});

pub(super) static QUERY_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    register_histogram!(
        "trefoil_promql_query_seconds",
        "Time that queries took.",
        vec![0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0]
    )
    .expect("unique metric name")
});
