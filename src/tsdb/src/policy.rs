//! How long samples are kept, at which resolution, and how copies from pairs of scrapers are thinned.

use std::sync::Arc;
use std::time::Duration;

use trefoil_model::{Labels, Matcher, time::DAY_MS};

use crate::store::Tsdb;

/// Shortest interval of downsampling and dedup.
const INTERVAL_MS_MIN: i64 = 1000;

/// Keeps the series that it selects for another time than the others.
#[derive(Debug, Clone)]
pub struct RetentionRule {
    /// All must hold. An absent label counts as "".
    pub matchers: Vec<Matcher>,
    /// Age at which samples go; `None` keeps them for ever.
    pub keep: Option<Duration>,
}

/// Thins the older samples of the series that it selects, in the form of [`trefoil_model::Rollup`].
#[derive(Debug, Clone)]
pub struct DownsamplingRule {
    /// All must hold. An absent label counts as "".
    pub matchers: Vec<Matcher>,
    /// Age from which on: whole UTC days that ended so long ago.
    pub after: Duration,
    /// Length of a bucket, one second to a day; zero keeps the series as it was written.
    pub interval: Duration,
}

/// What becomes of samples as they grow old. Of the rules of a kind the first one that selects a series counts for it.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Age after which samples are refused, not answered and dropped; `None` keeps them for ever. For series that
    /// no rule selects.
    pub retention: Option<Duration>,
    /// Bytes of parts above which the oldest days are dropped, whatever the rules say.
    pub retention_bytes: Option<u64>,
    /// Instead of `retention_bytes`: the share of the disk, 0 to 1, that parts may take.
    pub retention_share: Option<f64>,
    /// Other ages.
    pub retention_rules: Vec<RetentionRule>,
    /// Downsampling. Rules with the same matchers are stages of one; of those that are due the coarsest is used.
    pub downsampling: Vec<DownsamplingRule>,
    /// Of the raw samples of a series in each interval of this length (its multiples, right edge included) the last
    /// is left; stale markers only where there is nothing else. At query and in merges.
    pub dedup_interval: Option<Duration>,
}

/// The stages of one selector.
#[derive(Debug)]
struct Stages {
    matchers: Vec<Matcher>,
    text: String,
    /// (after, interval), milliseconds.
    stages: Vec<(i64, i64)>,
}

/// A policy ready for use.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    policy: Policy,
    retention_ms: Option<i64>,
    rules: Vec<(Vec<Matcher>, Option<i64>)>,
    stages: Vec<Stages>,
    pub(crate) dedup_ms: Option<i64>,
}

impl Tsdb {
    /// Replaces the policy. Queries and writes follow it at once, files with the next merges.
    pub fn set_policy(&self, policy: Policy) {
        self.inner.lifecycle.store(Arc::new(Lifecycle::new(policy)));
        self.inner.changes.note_all();
    }

    /// The policy in use.
    pub fn policy(&self) -> Policy {
        self.inner.lifecycle.load().policy.clone()
    }
}

fn ms(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

fn interval(d: Duration) -> i64 {
    ms(d).clamp(INTERVAL_MS_MIN, DAY_MS)
}

fn text(matchers: &[Matcher]) -> String {
    let mut all: Vec<String> = matchers.iter().map(|m| format!("{}{}{:?}", m.name, m.op.as_str(), m.value)).collect();
    all.sort();
    all.join(",")
}

/// True when every matcher holds.
pub(crate) fn selects(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()))
}

fn start(now_ms: i64, keep_ms: Option<i64>) -> i64 {
    keep_ms.map_or(i64::MIN, |keep| now_ms.saturating_sub(keep))
}

impl Lifecycle {
    pub(crate) fn new(policy: Policy) -> Self {
        let rules = policy.retention_rules.iter().map(|r| (r.matchers.clone(), r.keep.map(ms))).collect();
        let mut stages: Vec<Stages> = Vec::new();
        for rule in &policy.downsampling {
            let stage = (ms(rule.after), if rule.interval.is_zero() { 0 } else { interval(rule.interval) });
            let text = text(&rule.matchers);
            match stages.iter_mut().find(|s| s.text == text) {
                Some(known) => known.stages.push(stage),
                None => stages.push(Stages { matchers: rule.matchers.clone(), text, stages: vec![stage] }),
            }
        }
        let retention_ms = policy.retention.map(ms);
        let dedup_ms = policy.dedup_interval.filter(|d| !d.is_zero()).map(|d| ms(d).clamp(1, DAY_MS));
        Self { policy, retention_ms, rules, stages, dedup_ms }
    }

    /// The most bytes of parts. `disk` tells the size of the disk; while it does not, its share bounds nothing.
    pub(crate) fn retention_bytes(&self, disk: impl FnOnce() -> Option<u64>) -> Option<u64> {
        match self.policy.retention_share {
            Some(share) => disk().map(|total| (total as f64 * share) as u64),
            None => self.policy.retention_bytes,
        }
    }

    /// True when series differ in how long they are kept.
    pub(crate) fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// The matchers of each retention rule, in order.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &[Matcher]> {
        self.rules.iter().map(|(matchers, _)| matchers.as_slice())
    }

    /// The earliest time that each rule keeps, and last what series without one keep.
    pub(crate) fn starts(&self, now_ms: i64) -> impl Iterator<Item = i64> {
        self.rules.iter().map(|(_, keep)| *keep).chain([self.retention_ms]).map(move |keep| start(now_ms, keep))
    }

    /// The earliest time that any series keeps.
    pub(crate) fn earliest(&self, now_ms: i64) -> i64 {
        self.starts(now_ms).min().unwrap_or(i64::MIN)
    }

    /// From this time on every series keeps its samples.
    pub(crate) fn kept_by_all(&self, now_ms: i64) -> i64 {
        self.starts(now_ms).max().unwrap_or(i64::MIN)
    }

    /// The earliest time that a series keeps.
    pub(crate) fn visible_from(&self, labels: &Labels, now_ms: i64) -> i64 {
        let keep = self.rules.iter().find(|(matchers, _)| selects(matchers, labels)).map(|(_, keep)| *keep);
        start(now_ms, keep.unwrap_or(self.retention_ms))
    }

    /// Matchers of each downsampling selector in order, and the interval that is due for a day, 0 for none.
    pub(crate) fn intervals(&self, day: i64, now_ms: i64) -> impl Iterator<Item = (&[Matcher], i64)> {
        let ended = day.saturating_add(1).saturating_mul(DAY_MS);
        self.stages.iter().map(move |s| {
            let due = s.stages.iter().filter(|(after, _)| ended.saturating_add(*after) <= now_ms);
            (s.matchers.as_slice(), due.map(|(_, interval)| *interval).max().unwrap_or(0))
        })
    }

    /// The interval to which a series is downsampled on a day, 0 for none.
    pub(crate) fn interval(&self, labels: &Labels, day: i64, now_ms: i64) -> i64 {
        self.intervals(day, now_ms).find(|(m, _)| selects(m, labels)).map_or(0, |(_, interval)| interval)
    }

    /// Stands for the downsampling that is due for a day; `None` when none is.
    pub(crate) fn downsampling_mark(&self, day: i64, now_ms: i64) -> Option<String> {
        let mut all = String::new();
        let mut is_due = false;
        for ((_, interval), s) in self.intervals(day, now_ms).zip(&self.stages) {
            is_due |= interval > 0;
            all.push_str(&format!("{}:{interval};", s.text));
        }
        is_due.then(|| format!("{:08x}-{}", crc32c::crc32c(all.as_bytes()), all.len()))
    }
}

#[cfg(test)]
mod tests {
    use trefoil_model::MatchOp;

    use super::*;

    fn job(name: &str) -> Vec<Matcher> {
        vec![Matcher::new(MatchOp::Equal, "job", name).unwrap()]
    }

    fn days(n: u64) -> Duration {
        Duration::from_secs(n * 86_400)
    }

    #[test]
    fn the_first_rule_that_selects_counts() {
        let policy = Policy {
            retention: Some(days(10)),
            retention_rules: vec![
                RetentionRule { matchers: job("a"), keep: Some(days(2)) },
                RetentionRule { matchers: job("a"), keep: None },
                RetentionRule { matchers: job("b"), keep: None },
            ],
            downsampling: vec![
                DownsamplingRule { matchers: job("raw"), after: days(0), interval: Duration::ZERO },
                DownsamplingRule { matchers: vec![], after: days(1), interval: Duration::from_secs(300) },
                DownsamplingRule { matchers: vec![], after: days(5), interval: Duration::from_secs(3600) },
            ],
            ..Policy::default()
        };
        let life = Lifecycle::new(policy);
        let now = 100 * DAY_MS;
        let labels = |job: &str| Labels::from_pairs([("job", job)]);
        for (name, start) in [("a", 98 * DAY_MS), ("b", i64::MIN), ("c", 90 * DAY_MS)] {
            assert_eq!(life.visible_from(&labels(name), now), start, "{name}");
        }
        assert_eq!((life.earliest(now), life.kept_by_all(now)), (i64::MIN, 98 * DAY_MS));
        for (name, day, want) in
            [("raw", 1, 0), ("x", 99, 0), ("x", 98, 300_000), ("x", 95, 300_000), ("x", 94, 3_600_000)]
        {
            assert_eq!(life.interval(&labels(name), day, now), want, "{name} {day}");
        }
        assert_eq!(life.downsampling_mark(99, now), None);
        assert_ne!(life.downsampling_mark(98, now), life.downsampling_mark(90, now));
    }
}
