//! What came by the sockets, beside what `trefoil_ingest_*` counts for every protocol.

use std::sync::LazyLock;

use prometheus::{
    IntCounterVec, IntGauge, IntGaugeVec, register_int_counter_vec, register_int_gauge, register_int_gauge_vec,
};

static MESSAGES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_socket_messages_total",
        "Messages received over syslog, the forward protocol, GELF and Jaeger's UDP, by protocol.",
        &["protocol"]
    )
    .expect("unique metric name")
});
static DROPPED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_socket_dropped_total",
        "Messages received over sockets and not kept, by protocol and reason.",
        &["protocol", "reason"]
    )
    .expect("unique metric name")
});
static CONNECTIONS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!("trefoil_socket_connections", "Open connections of senders.", &["protocol"])
        .expect("unique metric name")
});
static CONNECTION_ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_socket_connection_errors_total",
        "Connections of senders that were refused or closed by the server, by protocol and reason.",
        &["protocol", "reason"]
    )
    .expect("unique metric name")
});
static QUEUE_BYTES: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!("trefoil_socket_queue_bytes", "Bytes of log records that wait to be written.")
        .expect("unique metric name")
});

/// Counts messages as received.
pub(super) fn messages(protocol: &'static str, n: u64) {
    MESSAGES.with_label_values(&[protocol]).inc_by(n);
}

/// Counts messages that are not kept. `reason` is one of a small fixed set.
pub(super) fn dropped(protocol: &'static str, reason: &'static str, n: u64) {
    if n > 0 {
        DROPPED.with_label_values(&[protocol, reason]).inc_by(n);
    }
}

/// Counts a connection that was refused or closed. `reason` is one of a small fixed set.
pub(super) fn connection_error(protocol: &'static str, reason: &'static str) {
    CONNECTION_ERRORS.with_label_values(&[protocol, reason]).inc();
}

/// Bytes that wait to be written.
pub(super) fn queue_bytes() -> &'static IntGauge {
    &QUEUE_BYTES
}

/// Counts a connection while it lives.
pub(super) struct Connected(IntGauge);

impl Connected {
    pub(super) fn new(protocol: &'static str) -> Self {
        let gauge = CONNECTIONS.with_label_values(&[protocol]);
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}
