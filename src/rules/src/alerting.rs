//! The states of an alert: inactive, pending, firing, and resolved for a while so that it can be told.

use std::collections::BTreeMap;

use trefoil_model::{Alert, Labels};

/// How long a resolved alert is remembered, so that its end is told again after a lost notification.
pub const RESOLVED_KEPT_MS: i64 = 15 * 60_000;

/// State of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertState {
    /// Resolved.
    Inactive,
    /// The expression holds, not yet for long enough.
    Pending,
    /// It is told.
    Firing,
}

impl AlertState {
    /// The word of the API and of the label `alertstate`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// An alert of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveAlert {
    /// Its state.
    pub state: AlertState,
    /// Labels, `alertname` among them.
    pub labels: Labels,
    /// Texts, expanded at the last evaluation that gave a result.
    pub annotations: Vec<(String, String)>,
    /// Value at the last evaluation that gave a result.
    pub value: f64,
    /// When the expression began to hold, Unix milliseconds.
    pub active_ms: i64,
    /// When it began to fire.
    pub fired_ms: Option<i64>,
    /// When it was resolved.
    pub resolved_ms: Option<i64>,
    /// Since when it only fires because of `keep_firing_for`.
    pub keep_firing_since_ms: Option<i64>,
    /// When it was last handed on.
    pub last_sent_ms: Option<i64>,
}

/// One result of the expression, labels and annotations expanded.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertResult {
    /// Labels of the alert.
    pub labels: Labels,
    /// Annotations of the alert.
    pub annotations: Vec<(String, String)>,
    /// Value.
    pub value: f64,
}

/// The alerts of one rule.
#[derive(Debug, Clone, Default)]
pub struct AlertSet {
    alerts: BTreeMap<Labels, ActiveAlert>,
}

impl AlertSet {
    /// Takes the results of an evaluation at `t_ms`.
    pub fn update(&mut self, results: Vec<AlertResult>, t_ms: i64, for_ms: i64, keep_firing_ms: i64) {
        let mut seen = BTreeMap::new();
        for result in results {
            seen.insert(result.labels.clone(), result);
        }
        for (labels, result) in &seen {
            match self.alerts.get_mut(labels) {
                Some(alert) if alert.state != AlertState::Inactive => {
                    alert.value = result.value;
                    alert.annotations.clone_from(&result.annotations);
                }
                _ => {
                    self.alerts.insert(
                        labels.clone(),
                        ActiveAlert {
                            state: AlertState::Pending,
                            labels: labels.clone(),
                            annotations: result.annotations.clone(),
                            value: result.value,
                            active_ms: t_ms,
                            fired_ms: None,
                            resolved_ms: None,
                            keep_firing_since_ms: None,
                            last_sent_ms: None,
                        },
                    );
                }
            }
        }
        self.alerts.retain(|labels, alert| {
            if !seen.contains_key(labels) {
                if alert.state == AlertState::Firing && keep_firing_ms > 0 {
                    let since = *alert.keep_firing_since_ms.get_or_insert(t_ms);
                    if t_ms - since < keep_firing_ms {
                        return true;
                    }
                }
                if alert.state == AlertState::Pending {
                    return false;
                }
                if alert.resolved_ms.is_some_and(|at| t_ms - at > RESOLVED_KEPT_MS) {
                    return false;
                }
                if alert.state == AlertState::Firing {
                    alert.state = AlertState::Inactive;
                    alert.resolved_ms = Some(t_ms);
                }
                return true;
            }
            alert.keep_firing_since_ms = None;
            match alert.state {
                AlertState::Pending if t_ms - alert.active_ms >= for_ms => {
                    alert.state = AlertState::Firing;
                    alert.fired_ms = Some(t_ms);
                }
                // `for` was raised by a reload.
                AlertState::Firing if t_ms - alert.active_ms < for_ms => {
                    alert.state = AlertState::Pending;
                    alert.fired_ms = None;
                }
                _ => {}
            }
            true
        });
    }

    /// Forgets everything (the rule failed its limit).
    pub fn clear(&mut self) {
        self.alerts.clear();
    }

    /// Pending and firing alerts, in order of labels.
    pub fn active(&self) -> impl Iterator<Item = &ActiveAlert> {
        self.alerts.values().filter(|a| a.state != AlertState::Inactive)
    }

    /// The worst state of all.
    pub fn state(&self) -> AlertState {
        self.alerts.values().map(|a| a.state).max().unwrap_or(AlertState::Inactive)
    }

    /// Moves the start of an alert back to before a restart.
    pub fn restore(&mut self, labels: &Labels, active_ms: i64, for_ms: i64, t_ms: i64) {
        if let Some(alert) = self.alerts.get_mut(labels)
            && alert.active_ms > active_ms
        {
            alert.active_ms = active_ms;
            if alert.state == AlertState::Pending && t_ms - active_ms >= for_ms {
                alert.state = AlertState::Firing;
                alert.fired_ms = Some(t_ms);
            }
        }
    }

    /// What must be handed on at `t_ms`: alerts that fire or were resolved, when they changed or the delay has passed.
    pub fn due(&mut self, t_ms: i64, resend_ms: i64, interval_ms: i64, generator_url: &str) -> Vec<Alert> {
        let mut due = Vec::new();
        for alert in self.alerts.values_mut() {
            let must = match (alert.state, alert.last_sent_ms) {
                (AlertState::Pending, _) => false,
                (_, None) => true,
                (_, Some(sent)) => alert.resolved_ms.is_some_and(|at| at > sent) || sent + resend_ms <= t_ms,
            };
            if !must {
                continue;
            }
            alert.last_sent_ms = Some(t_ms);
            due.push(Alert {
                labels: alert.labels.clone(),
                annotations: alert.annotations.clone(),
                starts_ms: alert.fired_ms.unwrap_or(alert.active_ms),
                ends_ms: alert.resolved_ms.unwrap_or(t_ms + 4 * resend_ms.max(interval_ms)),
                generator_url: generator_url.to_owned(),
            });
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(name: &str) -> AlertResult {
        AlertResult { labels: Labels::from_pairs([("alertname", name)]), annotations: Vec::new(), value: 1.0 }
    }

    fn states(set: &AlertSet) -> Vec<&'static str> {
        set.alerts.values().map(|a| a.state.as_str()).collect()
    }

    #[test]
    fn for_holds_an_alert_back() {
        let mut set = AlertSet::default();
        set.update(vec![result("a")], 0, 30, 0);
        assert_eq!(states(&set), ["pending"]);
        assert!(set.due(0, 60, 15, "").is_empty());
        set.update(vec![result("a")], 15, 30, 0);
        assert_eq!(states(&set), ["pending"]);
        set.update(vec![result("a")], 30, 30, 0);
        assert_eq!(states(&set), ["firing"]);
        let due = set.due(30, 60, 15, "");
        assert_eq!((due.len(), due[0].starts_ms, due[0].ends_ms), (1, 30, 270));
        assert!(set.due(45, 60, 15, "").is_empty());
        assert_eq!(set.due(90, 60, 15, "").len(), 1);
        set.update(Vec::new(), 105, 30, 0);
        assert_eq!(states(&set), ["inactive"]);
        let due = set.due(105, 60, 15, "");
        assert_eq!((due.len(), due[0].ends_ms, due[0].is_resolved(105)), (1, 105, true));
        set.update(vec![result("a")], 120, 30, 0);
        assert_eq!(states(&set), ["pending"]);
        set.update(Vec::new(), 135, 30, 0);
        assert!(states(&set).is_empty());
    }

    #[test]
    fn without_for_it_fires_at_once() {
        let mut set = AlertSet::default();
        set.update(vec![result("a")], 5, 0, 0);
        assert_eq!(states(&set), ["firing"]);
    }

    #[test]
    fn keep_firing_for_counts_from_the_first_gap() {
        let mut set = AlertSet::default();
        set.update(vec![result("a")], 0, 0, 30);
        set.update(Vec::new(), 15, 0, 30);
        set.update(Vec::new(), 30, 0, 30);
        assert_eq!(states(&set), ["firing"]);
        set.update(Vec::new(), 45, 0, 30);
        assert_eq!(states(&set), ["inactive"]);
        set.update(Vec::new(), 45 + RESOLVED_KEPT_MS + 1, 0, 30);
        assert!(states(&set).is_empty());
    }

    #[test]
    fn a_raised_for_makes_it_pending_again() {
        let mut set = AlertSet::default();
        set.update(vec![result("a")], 0, 0, 0);
        set.update(vec![result("a")], 15, 60, 0);
        assert_eq!(states(&set), ["pending"]);
    }
}
