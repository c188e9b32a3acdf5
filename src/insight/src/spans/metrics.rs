//! What the server tells of what it derives from spans.

use std::sync::LazyLock;

use prometheus::{
    IntCounter, IntCounterVec, IntGaugeVec, register_int_counter, register_int_counter_vec, register_int_gauge_vec,
};

pub(crate) static SPANS: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_insight_spans_total", "Spans that were counted in span metrics and service graph.")
        .expect("unique metric name")
});
pub(crate) static DUPLICATES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "trefoil_insight_span_duplicates_total",
        "Spans that were sent again and not counted again in span metrics and service graph."
    )
    .expect("unique metric name")
});
pub(crate) static SERIES: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "trefoil_insight_series",
        "Label sets that are counted: of span_metrics, or edges of the service_graph.",
        &["of"]
    )
    .expect("unique metric name")
});
pub(crate) static OVERFLOWED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_insight_overflows_total",
        "Spans or edges that were counted under metric_overflow because of the limit on series.",
        &["of"]
    )
    .expect("unique metric name")
});
pub(crate) static WAITING: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "trefoil_insight_service_graph_waiting_spans",
        "Spans that wait for the other side of their edge: side is client or server.",
        &["side"]
    )
    .expect("unique metric name")
});
pub(crate) static UNPAIRED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_insight_service_graph_unpaired_spans_total",
        "Spans whose other side did not come and is not named: side is client or server.",
        &["side"]
    )
    .expect("unique metric name")
});
pub(crate) static EVICTED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "trefoil_insight_service_graph_evicted_spans_total",
        "Spans that did not wait as long as configured because of the limit service_graph_spans_max."
    )
    .expect("unique metric name")
});
pub(crate) static FLUSH_FAILURES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "trefoil_insight_flush_failures_total",
        "How often derived metrics could not be written; they are written with the next flush."
    )
    .expect("unique metric name")
});
