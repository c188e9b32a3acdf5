//! Counters of the rule groups.

use std::sync::LazyLock;

use prometheus::{Histogram, IntCounter, IntGauge, register_histogram, register_int_counter, register_int_gauge};

/// Evaluations of single rules.
pub(crate) static EVALUATIONS: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_rules_evaluations_total", "Evaluations of single rules.")
        .expect("unique metric name")
});

/// Evaluations that failed.
pub(crate) static FAILURES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_rules_evaluation_failures_total", "Evaluations of single rules that failed.")
        .expect("unique metric name")
});

/// Iterations of groups that were skipped because the one before took too long.
pub(crate) static MISSED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_rules_iterations_missed_total", "Iterations of rule groups that were skipped.")
        .expect("unique metric name")
});

/// How long groups take.
pub(crate) static GROUP_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    register_histogram!("trefoil_rules_group_duration_seconds", "Duration of the evaluation of a rule group.")
        .expect("unique metric name")
});

/// Rules in force.
pub(crate) static RULES: LazyLock<IntGauge> =
    LazyLock::new(|| register_int_gauge!("trefoil_rules_rules", "Rules in force.").expect("unique metric name"));
