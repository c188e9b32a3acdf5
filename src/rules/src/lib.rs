//! Recording and alerting rules: groups are evaluated at their times, results are written, alerts are handed on.
//!
//! Reading order: [`evaluate`] (the seam to the query languages), [`check`] (what a rule file must hold beyond its
//! form), [`alerting`] (the states of an alert), [`rule`] (one rule, evaluated), [`group`] (rules in order, at aligned
//! times), [`manager`] (all groups, reloads).
//!
//! Invariants: a rule sees the results of the rules before it in its group; results are written through
//! [`trefoil_model::MetricWriter`] and alerts go to [`trefoil_model::AlertReceiver`]; this crate knows no store, no
//! HTTP and no receiver of notifications. Semantics are those of the Prometheus documentation ("Alerting rules",
//! "Recording rules"). A manager evaluates one query language; results are series and the state of alerts is read back from
//! them whichever it is.

pub mod alerting;
pub mod check;
pub mod evaluate;
pub mod group;
pub mod manager;
mod metrics;
pub mod rule;

pub use alerting::{ActiveAlert, AlertState};
pub use check::{CheckExpression, check_rule_file, check_rule_file_by, load_rule_files, load_rule_files_by};
pub use evaluate::{Evaluate, VectorSample};
pub use group::{Group, GroupSnapshot};
pub use manager::{RuleManager, RuleOptions};
pub use rule::{RuleHealth, RuleSnapshot};
