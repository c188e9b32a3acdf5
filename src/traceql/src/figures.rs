//! Figures of the engine itself.

use std::sync::LazyLock;

use prometheus::{IntCounter, register_int_counter};

use crate::Error;

static QUERIES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_traceql_queries_total", "TraceQL queries run").expect("unique metric name")
});
static QUERIES_FAILED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_traceql_queries_failed_total", "TraceQL queries that gave an error")
        .expect("unique metric name")
});

/// Counts a query and whether it failed.
pub(crate) fn counted<T>(run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    QUERIES.inc();
    let result = run();
    if result.is_err() {
        QUERIES_FAILED.inc();
    }
    result
}
