//! How long records are kept, by their stream. Queries follow at once, files when whole days are over and when parts
//! are written anew.

use std::time::Duration;

use trefoil_model::{Labels, Matcher};

use crate::log_plan::stream_matches;

const NS_PER_MS: i64 = 1_000_000;

/// Keeps the log records of the streams that it selects for another time than the others.
#[derive(Debug, Clone)]
pub struct LogRetentionRule {
    /// All must hold; names are compared after underscoring. An absent label counts as "".
    pub matchers: Vec<Matcher>,
    /// Age at which records go; `None` keeps them for ever.
    pub keep: Option<Duration>,
}

/// How long log records are kept.
#[derive(Debug, Clone, Default)]
pub struct LogRetention {
    /// Age after which records are refused, not answered and dropped; `None` keeps them for ever. For streams that no
    /// rule selects.
    pub keep: Option<Duration>,
    /// Bytes of parts above which the oldest days go, whatever the rules say; the newest day stays.
    pub bytes_max: Option<u64>,
    /// Other ages. The first rule that selects a stream counts for it.
    pub rules: Vec<LogRetentionRule>,
}

/// A retention ready for use.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    keep_ms: Option<i64>,
    pub(crate) bytes_max: Option<u64>,
    rules: Vec<(Vec<Matcher>, Option<i64>)>,
}

fn ms(age: Duration) -> i64 {
    i64::try_from(age.as_millis()).unwrap_or(i64::MAX)
}

fn start(now_ms: i64, keep_ms: Option<i64>) -> i64 {
    keep_ms.map_or(i64::MIN, |keep| now_ms.saturating_sub(keep))
}

impl From<LogRetention> for Retention {
    fn from(from: LogRetention) -> Self {
        let rules = from.rules.into_iter().map(|rule| (rule.matchers, rule.keep.map(ms))).collect();
        Self { keep_ms: from.keep.map(ms), bytes_max: from.bytes_max, rules }
    }
}

impl Retention {
    /// The longest of all ages; `None` when some records are kept for ever.
    pub(crate) fn longest(&self) -> Option<Duration> {
        let mut ages = self.rules.iter().map(|(_, keep)| *keep).chain([self.keep_ms]);
        let longest = ages.try_fold(0, |longest: i64, keep| keep.map(|keep| longest.max(keep)))?;
        Some(Duration::from_millis(longest.unsigned_abs()))
    }

    /// At a time, in Unix milliseconds.
    pub(crate) fn at(&self, now_ms: i64) -> RetentionAt<'_> {
        let starts: Vec<i64> =
            self.rules.iter().map(|(_, keep)| *keep).chain([self.keep_ms]).map(|keep| start(now_ms, keep)).collect();
        RetentionAt { retention: self, starts }
    }
}

/// What a retention keeps at a certain time.
#[derive(Debug)]
pub(crate) struct RetentionAt<'r> {
    retention: &'r Retention,
    /// From when on each rule keeps, and last what streams of none keep, in Unix milliseconds.
    starts: Vec<i64>,
}

impl RetentionAt<'_> {
    /// From when on records of a stream are kept, in Unix milliseconds.
    pub(crate) fn start_ms(&self, labels: &Labels) -> i64 {
        let rule = self.retention.rules.iter().position(|(matchers, _)| stream_matches(labels, matchers));
        self.starts[rule.unwrap_or(self.retention.rules.len())]
    }

    /// Likewise in Unix nanoseconds.
    pub(crate) fn start_ns(&self, labels: &Labels) -> i64 {
        self.start_ms(labels).saturating_mul(NS_PER_MS)
    }

    /// From when on records of some stream are kept, in Unix milliseconds.
    pub(crate) fn earliest_ms(&self) -> i64 {
        self.starts.iter().copied().min().unwrap_or(i64::MIN)
    }

    /// From when on the records of all streams are kept, in Unix nanoseconds.
    pub(crate) fn kept_by_all_ns(&self) -> i64 {
        self.starts.iter().copied().max().unwrap_or(i64::MIN).saturating_mul(NS_PER_MS)
    }

    /// Which rules, and last whether the streams of none, keep nothing up to a time in Unix nanoseconds.
    pub(crate) fn over_at(&self, time_ns: i64) -> Vec<bool> {
        self.starts.iter().map(|start| start.saturating_mul(NS_PER_MS) > time_ns).collect()
    }
}

#[cfg(test)]
mod tests {
    use trefoil_model::MatchOp;

    use super::*;

    #[test]
    fn the_first_rule_counts() {
        let days = |n: u64| Some(Duration::from_secs(n * 86_400));
        let rule = |op, value: &str, keep| LogRetentionRule {
            matchers: vec![Matcher::new(op, "service_name", value).unwrap()],
            keep,
        };
        let of = |keep, rules: &[LogRetentionRule]| {
            Retention::from(LogRetention { keep, bytes_max: None, rules: rules.to_vec() })
        };
        let rules = [rule(MatchOp::Equal, "a", days(1)), rule(MatchOp::Regex, "a|b", days(20))];
        let (day, now) = (86_400_000, 100 * 86_400_000);
        let check = |keep, name: &str, want: i64| {
            let retention = of(keep, &rules);
            assert_eq!(retention.at(now).start_ms(&Labels::from_pairs([("service.name", name)])), want, "{name}");
        };
        check(days(7), "a", now - day);
        check(days(7), "b", now - 20 * day);
        check(days(7), "c", now - 7 * day);
        check(None, "c", i64::MIN);
        let retention = of(days(7), &rules);
        assert_eq!((retention.longest(), of(None, &rules).longest()), (days(20), None));
        let at = retention.at(now);
        assert_eq!((at.earliest_ms(), at.kept_by_all_ns()), (now - 20 * day, (now - day) * NS_PER_MS));
        assert_eq!(at.over_at((now - 3 * day) * NS_PER_MS), [true, false, false]);
    }
}
