//! Stages that choose: `drop`, `limit`, `sampling`, `match`.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntCounter;
use rand::RngExt;
use rustc_hash::FxHashMap;
use trefoil_logql::EntrySelector;
use trefoil_model::re2::Regex;

use crate::entry::Entry;
use crate::options::{Options, Sink};
use crate::pipeline::Context;
use crate::plan::{Compiler, Use};
use crate::stages::{Stage, dropped};

/// Longest rest that a limit asks of a reader.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Values of a label that a limit tells apart by default.
const DISTINCT_MAX: usize = 10_000;

/// `drop`: all conditions that are given must hold.
#[derive(Debug)]
pub(crate) struct Drop {
    sources: Vec<String>,
    separator: String,
    expression: Option<Regex>,
    value: Option<String>,
    older_than_ns: Option<i64>,
    longer_than: Option<usize>,
    dropped: IntCounter,
}

impl Drop {
    pub(crate) fn new(options: &mut Options<'_>, sink: &mut Sink) -> Option<Self> {
        let pos = options.node.pos;
        let mut out = Self {
            sources: options.list("source", sink),
            separator: options.text("separator", sink).filter(|s| !s.is_empty()).unwrap_or_else(|| ";".to_owned()),
            expression: options.regex("expression", sink),
            value: options.text("value", sink),
            older_than_ns: options.duration("older_than", sink),
            longer_than: options.bytes("longer_than", sink),
            dropped: dropped(&options.text("drop_counter_reason", sink).unwrap_or_else(|| "drop_stage".to_owned())),
        };
        out.sources.retain(|source| !source.is_empty());
        if out.expression.is_some() && out.value.is_some() {
            sink.fault(pos, "drop stage takes expression or value, not both");
        }
        if out.value.is_some() && out.sources.is_empty() {
            sink.fault(pos, "drop stage needs source beside value");
        }
        let any = out.expression.is_some()
            || !out.sources.is_empty()
            || out.older_than_ns.is_some()
            || out.longer_than.is_some();
        if !any {
            sink.fault(pos, "drop stage needs one of source, expression, older_than and longer_than");
        }
        Some(out)
    }

    pub(crate) fn drops(&self, entry: &Entry, now_ns: i64) -> bool {
        let drops = self.longer_than.is_none_or(|most| entry.record.text.len() > most)
            && self.older_than_ns.is_none_or(|age| entry.record.time_ns < now_ns.saturating_sub(age))
            && self.finds(entry);
        if drops {
            self.dropped.inc();
        }
        drops
    }

    fn finds(&self, entry: &Entry) -> bool {
        if self.sources.is_empty() {
            return self.expression.as_ref().is_none_or(|regex| regex.is_match(&entry.record.text));
        }
        let mut joined = String::new();
        for (i, source) in self.sources.iter().enumerate() {
            if i > 0 {
                joined.push_str(&self.separator);
            }
            if entry.extracted.with_text(source, |text| joined.push_str(text)).is_none() {
                return false;
            }
        }
        match (&self.value, &self.expression) {
            (Some(value), _) => joined == *value,
            (None, Some(regex)) => regex.is_match(&joined),
            (None, None) => true,
        }
    }
}

/// `limit`: a bucket of tokens, shared by all sources of a plan.
#[derive(Debug)]
pub(crate) struct Limit {
    rate: f64,
    burst: f64,
    drop: bool,
    by_label: Option<String>,
    distinct_max: usize,
    buckets: Mutex<FxHashMap<String, Bucket>>,
    dropped: IntCounter,
}

#[derive(Debug)]
struct Bucket {
    /// Below zero: what others wait for already.
    tokens: f64,
    at: Duration,
}

impl Limit {
    pub(crate) fn new(options: &mut Options<'_>, usage: Use, sink: &mut Sink) -> Option<Self> {
        let pos = options.node.pos;
        let out = Self {
            rate: options.number("rate", sink).unwrap_or(0.0),
            burst: options.number("burst", sink).unwrap_or(0.0),
            drop: options.flag("drop", false, sink),
            by_label: options.text("by_label_name", sink).filter(|name| !name.is_empty()),
            distinct_max: options.count("max_distinct_labels", sink).unwrap_or(DISTINCT_MAX).clamp(1, DISTINCT_MAX),
            buckets: Mutex::default(),
            dropped: dropped(
                &options.text("drop_counter_reason", sink).unwrap_or_else(|| "ratelimit_drop_stage".to_owned()),
            ),
        };
        if out.rate <= 0.0 || out.burst < 1.0 {
            sink.fault(pos, "limit stage needs rate above 0 and burst of at least 1");
        }
        if !out.drop && out.by_label.is_some() {
            sink.fault(pos, "limit stage with by_label_name needs drop: true");
        }
        if !out.drop && usage == Use::Pushes {
            sink.fault(pos, "limit stage needs drop: true here: pushes do not wait");
        }
        Some(out)
    }

    pub(crate) fn passes(&self, entry: &Entry, context: &mut Context<'_>) -> bool {
        let key = match &self.by_label {
            None => "",
            Some(name) => match entry.labels.get(name) {
                Some(value) => value,
                None => return true,
            },
        };
        let now = context.now.monotonic;
        let mut buckets = self.buckets.lock();
        if buckets.len() >= self.distinct_max && !buckets.contains_key(key) {
            buckets.clear();
        }
        let bucket = match buckets.get_mut(key) {
            Some(bucket) => bucket,
            None => buckets.entry(key.to_owned()).or_insert(Bucket { tokens: self.burst, at: now }),
        };
        let passed = now.saturating_sub(bucket.at).as_secs_f64();
        bucket.at = now;
        bucket.tokens = (bucket.tokens + passed * self.rate).min(self.burst);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return true;
        }
        if self.drop {
            self.dropped.inc();
            return false;
        }
        bucket.tokens -= 1.0;
        let wait = Duration::from_secs_f64((-bucket.tokens / self.rate).clamp(0.0, WAIT_MAX.as_secs_f64()));
        *context.wait = wait.max(*context.wait);
        true
    }
}

/// `sampling`
#[derive(Debug)]
pub(crate) struct Sampling {
    rate: f64,
    dropped: IntCounter,
}

impl Sampling {
    pub(crate) fn new(options: &mut Options<'_>, sink: &mut Sink) -> Option<Self> {
        let pos = options.node.key_pos("rate");
        let rate = options.number("rate", sink).unwrap_or(-1.0);
        if !(0.0..=1.0).contains(&rate) {
            sink.fault(pos, "sampling stage needs rate from 0 to 1");
        }
        let reason = options.text("drop_counter_reason", sink).unwrap_or_else(|| "sampling_stage".to_owned());
        Some(Self { rate, dropped: dropped(&reason) })
    }

    pub(crate) fn passes(&self) -> bool {
        let passes = rand::rng().random::<f64>() < self.rate;
        if !passes {
            self.dropped.inc();
        }
        passes
    }
}

/// `match`
#[derive(Debug)]
pub(crate) struct Match {
    selector: EntrySelector,
    pub(crate) drops: bool,
    pub(crate) dropped: IntCounter,
    pub(crate) stages: Arc<[Stage]>,
}

impl Match {
    pub(crate) fn new(options: &mut Options<'_>, compiler: &mut Compiler, sink: &mut Sink) -> Option<Self> {
        let (pos, node_pos) = (options.node.key_pos("selector"), options.node.pos);
        let selector = options.required("selector", sink).and_then(|text| {
            EntrySelector::new(&text).map_err(|error| sink.fault(pos, format!("selector {text:?}: {error}"))).ok()
        });
        options.text("pipeline_name", sink);
        let read = |text: &str| match text {
            "keep" | "" => Some(false),
            "drop" => Some(true),
            _ => None,
        };
        let drops = options.parsed("action", "keep or drop", read, sink).unwrap_or(false);
        let reason = options.text("drop_counter_reason", sink).unwrap_or_else(|| "match_stage".to_owned());
        let nested = options.node("stages");
        let stages = nested.map_or_else(Vec::new, |node| compiler.stages(node, sink));
        if drops && !stages.is_empty() {
            sink.fault(node_pos, "match stage with action drop takes no stages");
        }
        if !drops && nested.is_none() {
            sink.fault(node_pos, "match stage needs stages, or action: drop");
        }
        Some(Self { selector: selector?, drops, dropped: dropped(&reason), stages: stages.into() })
    }

    pub(crate) fn selects(&self, entry: &Entry) -> bool {
        let record = &entry.record;
        self.selector.matches(&entry.labels, &record.attributes, record.time_ns, &record.text)
    }
}
