//! Counters of the notifications.

use std::sync::LazyLock;

use prometheus::{IntCounterVec, IntGauge, register_int_counter_vec, register_int_gauge};

/// Deliveries by integration.
pub(crate) static NOTIFICATIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("trefoil_alertmanager_notifications_total", "Notifications sent.", &["integration"])
        .expect("unique metric name")
});

/// Attempts that failed.
pub(crate) static FAILURES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_alertmanager_notification_failures_total",
        "Attempts to send a notification that failed.",
        &["integration"]
    )
    .expect("unique metric name")
});

/// Alerts held.
pub(crate) static ALERTS: LazyLock<IntGauge> =
    LazyLock::new(|| register_int_gauge!("trefoil_alertmanager_alerts", "Alerts held.").expect("unique metric name"));
