//! What is told when: a group of alerts and what its receivers were last told.

use std::collections::{BTreeMap, BTreeSet};

use trefoil_model::{Alert, Labels};

/// Times of a route, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupTimes {
    /// From the first alert of a group to its first notification.
    pub wait_ms: i64,
    /// Between notifications of a group that changed.
    pub interval_ms: i64,
    /// Between notifications of a group that did not change.
    pub repeat_ms: i64,
}

/// Alerts with equal values of the labels they are grouped by.
#[derive(Debug, Clone)]
pub struct AlertGroup {
    /// Labels the group has in common by construction.
    pub labels: Labels,
    alerts: BTreeMap<Labels, Alert>,
    next_flush_ms: i64,
    flushed: bool,
    told_firing: BTreeSet<Labels>,
    told_resolved: BTreeSet<Labels>,
    told_ms: Option<i64>,
}

/// Why a notification goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The first one, or new alerts fire.
    Firing,
    /// Everything is resolved.
    AllResolved,
    /// More alerts are resolved.
    Resolved,
    /// Nothing changed for the repeat interval.
    Repeat,
}

impl AlertGroup {
    /// A group that begins at `now_ms`.
    pub fn new(labels: Labels, now_ms: i64, times: GroupTimes) -> Self {
        Self {
            labels,
            alerts: BTreeMap::new(),
            next_flush_ms: now_ms + times.wait_ms,
            flushed: false,
            told_firing: BTreeSet::new(),
            told_resolved: BTreeSet::new(),
            told_ms: None,
        }
    }

    /// Takes an alert. One that fires since before the group's wait makes the first flush due at once.
    pub fn insert(&mut self, alert: Alert, now_ms: i64, times: GroupTimes) {
        if !self.flushed && alert.starts_ms + times.wait_ms < now_ms {
            self.next_flush_ms = now_ms;
        }
        self.alerts.insert(alert.labels.clone(), alert);
    }

    /// When the group has to be looked at again.
    pub fn next_flush_ms(&self) -> i64 {
        self.next_flush_ms
    }

    /// True when nothing is left to be told.
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty()
    }

    /// Number of alerts.
    pub fn len(&self) -> usize {
        self.alerts.len()
    }

    /// All alerts in order of labels.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }

    /// Looks at the group at its flush time: what has to be told and why.
    pub fn flush(&mut self, now_ms: i64, times: GroupTimes) -> Option<(Reason, Vec<Alert>)> {
        self.flushed = true;
        self.next_flush_ms = now_ms + times.interval_ms;
        let (mut firing, mut resolved) = (BTreeSet::new(), BTreeSet::new());
        for alert in self.alerts.values() {
            if alert.is_resolved(now_ms) { &mut resolved } else { &mut firing }.insert(alert.labels.clone());
        }
        let reason = match self.told_ms {
            None => (!firing.is_empty()).then_some(Reason::Firing),
            Some(_) if !firing.is_subset(&self.told_firing) => Some(Reason::Firing),
            Some(_) if firing.is_empty() => (!self.told_firing.is_empty()).then_some(Reason::AllResolved),
            Some(_) if !resolved.is_subset(&self.told_resolved) => Some(Reason::Resolved),
            Some(told) => (told + times.repeat_ms <= now_ms).then_some(Reason::Repeat),
        };
        let Some(reason) = reason else {
            // Alerts that came and went between two flushes are never told.
            self.alerts.retain(|labels, alert| !alert.is_resolved(now_ms) || self.told_firing.contains(labels));
            return None;
        };
        Some((reason, self.alerts.values().cloned().collect()))
    }

    /// Notes that `alerts` were told at `now_ms`; resolved ones are forgotten.
    pub fn told(&mut self, alerts: &[Alert], now_ms: i64) {
        self.told_ms = Some(now_ms);
        let labels = |resolved: bool| {
            alerts
                .iter()
                .filter(|a| a.is_resolved(now_ms) == resolved)
                .map(|a| a.labels.clone())
                .collect::<BTreeSet<_>>()
        };
        self.told_firing = labels(false);
        self.told_resolved = labels(true);
        for alert in alerts.iter().filter(|a| a.is_resolved(now_ms)) {
            // It may have begun to fire again meanwhile.
            if self.alerts.get(&alert.labels).is_some_and(|a| a.ends_ms == alert.ends_ms) {
                self.alerts.remove(&alert.labels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: GroupTimes = GroupTimes { wait_ms: 30, interval_ms: 300, repeat_ms: 4000 };

    fn alert(name: &str, starts_ms: i64, ends_ms: i64) -> Alert {
        let labels = Labels::from_pairs([("alertname", name)]);
        Alert { labels, annotations: Vec::new(), starts_ms, ends_ms, generator_url: String::new() }
    }

    fn flush(group: &mut AlertGroup, now_ms: i64) -> Option<Reason> {
        let (reason, alerts) = group.flush(now_ms, TIMES)?;
        group.told(&alerts, now_ms);
        Some(reason)
    }

    #[test]
    fn a_group_tells_news_once_and_repeats() {
        let mut group = AlertGroup::new(Labels::empty(), 1000, TIMES);
        group.insert(alert("a", 1000, 9000), 1000, TIMES);
        assert_eq!(group.next_flush_ms(), 1030);
        assert_eq!(flush(&mut group, 1030), Some(Reason::Firing));
        assert_eq!(flush(&mut group, 1330), None);
        group.insert(alert("b", 1400, 9000), 1400, TIMES);
        assert_eq!(flush(&mut group, 1630), Some(Reason::Firing));
        group.insert(alert("b", 1400, 1700), 1700, TIMES);
        assert_eq!(flush(&mut group, 1930), Some(Reason::Resolved));
        assert_eq!(group.len(), 1);
        assert_eq!(flush(&mut group, 1930 + 4000), Some(Reason::Repeat));
        group.insert(alert("a", 1000, 6100), 6100, TIMES);
        assert_eq!(flush(&mut group, 6230), Some(Reason::AllResolved));
        assert!(group.is_empty());
        assert_eq!(flush(&mut group, 6530), None);
    }

    #[test]
    fn an_old_alert_does_not_wait() {
        let mut group = AlertGroup::new(Labels::empty(), 1000, TIMES);
        group.insert(alert("a", 900, 9000), 1000, TIMES);
        assert_eq!(group.next_flush_ms(), 1000);
    }

    #[test]
    fn what_came_and_went_is_not_told() {
        let mut group = AlertGroup::new(Labels::empty(), 1000, TIMES);
        group.insert(alert("a", 1000, 1010), 1010, TIMES);
        assert_eq!(flush(&mut group, 1030), None);
        assert!(group.is_empty());
    }
}
