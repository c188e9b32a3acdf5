//! A group: its rules one after the other, at aligned times.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{Instrument, info_span, warn};
use trefoil_config::RuleGroupConfig;
use trefoil_model::{AlertReceiver, MetricBatch, MetricWriter};
use trefoil_runtime::{SharedClock, Stop};
use xxhash_rust::xxh3::xxh3_64;

use crate::evaluate::Evaluate;
use crate::metrics;
use crate::rule::{Outcome, Rule, RuleContext, RuleSnapshot};

/// What the rules API shows of a group.
#[derive(Debug, Clone)]
pub struct GroupSnapshot {
    /// Name.
    pub name: String,
    /// File it stands in.
    pub file: PathBuf,
    /// Time between evaluations.
    pub interval: Duration,
    /// Most series or alerts of a rule; 0 for no limit.
    pub limit: u64,
    /// Unix milliseconds of the last evaluation, 0 before the first.
    pub last_evaluation_ms: i64,
    /// How long it took.
    pub evaluation_time: Duration,
    /// Its rules.
    pub rules: Vec<RuleSnapshot>,
}

/// A rule and what the API shows of it, so that the API does not wait for a slow query.
#[derive(Debug)]
struct Slot {
    rule: Arc<Mutex<Rule>>,
    shown: RuleSnapshot,
}

impl Slot {
    fn new(rule: Rule) -> Self {
        let shown = rule.snapshot();
        Self { rule: Arc::new(Mutex::new(rule)), shown }
    }
}

#[derive(Debug)]
struct State {
    slots: Vec<Slot>,
    last_evaluation_ms: i64,
    evaluation_time: Duration,
}

/// A group in force.
#[derive(Debug)]
pub struct Group {
    name: String,
    file: PathBuf,
    interval_ms: i64,
    offset_ms: i64,
    limit: u64,
    state: Mutex<State>,
    /// Told when a reload takes the group away.
    pub(crate) removed: Notify,
}

/// What a group needs of the server.
#[derive(Clone)]
pub(crate) struct Wiring {
    pub(crate) query: Arc<dyn Evaluate>,
    pub(crate) writer: Arc<dyn MetricWriter>,
    pub(crate) receiver: Arc<dyn AlertReceiver>,
    pub(crate) clock: SharedClock,
    pub(crate) context: Arc<RuleContext>,
}

impl Group {
    /// Makes a group; `interval_ms` and `offset_ms` are the global defaults.
    pub fn new(config: &RuleGroupConfig, file: PathBuf, interval_ms: i64, offset_ms: i64) -> Self {
        let rules = config.rules.iter().map(|rule| {
            let mut rule = rule.clone();
            for (name, value) in config.labels.iter() {
                rule.labels.0.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
            Slot::new(Rule::new(rule))
        });
        let own = config.interval.as_ms();
        Self {
            name: config.name.clone(),
            file,
            interval_ms: if own > 0 { own } else { interval_ms.max(1) },
            offset_ms: config.query_offset.map_or(offset_ms, |d| d.as_ms()),
            limit: config.limit,
            state: Mutex::new(State { slots: rules.collect(), last_evaluation_ms: 0, evaluation_time: Duration::ZERO }),
            removed: Notify::new(),
        }
    }

    /// File and name: identifies the group over reloads.
    pub fn key(&self) -> (PathBuf, String) {
        (self.file.clone(), self.name.clone())
    }

    /// True when both would do the same.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.state.lock(), other.state.lock());
        (self.interval_ms, self.offset_ms, self.limit) == (other.interval_ms, other.offset_ms, other.limit)
            && mine.slots.iter().map(|s| &s.shown.config).eq(theirs.slots.iter().map(|s| &s.shown.config))
    }

    /// Takes over the state of rules that a reload left as they were (same kind, name, labels), in order.
    pub(crate) fn take_state(&self, old: &Self) {
        let mut state = self.state.lock();
        let mut old = old.state.lock();
        for slot in &mut state.slots {
            let wanted = &slot.shown.config;
            let same = |o: &Slot| {
                let config = &o.shown.config;
                (config.is_alert(), config.name(), &config.labels) == (wanted.is_alert(), wanted.name(), &wanted.labels)
            };
            if let Some(i) = old.slots.iter().position(same) {
                // What no rule takes over stays with the old group, whose task ends it.
                let taken = old.slots.remove(i);
                let mut rule = slot.rule.lock();
                rule.take_state(&mut taken.rule.lock());
                slot.shown = rule.snapshot();
            }
        }
    }

    /// What the API shows.
    pub fn snapshot(&self) -> GroupSnapshot {
        let state = self.state.lock();
        GroupSnapshot {
            name: self.name.clone(),
            file: self.file.clone(),
            interval: Duration::from_millis(self.interval_ms.unsigned_abs()),
            limit: self.limit,
            last_evaluation_ms: state.last_evaluation_ms,
            evaluation_time: state.evaluation_time,
            rules: state.slots.iter().map(|s| s.shown.clone()).collect(),
        }
    }

    /// The number of rules.
    pub fn len(&self) -> usize {
        self.state.lock().slots.len()
    }

    /// True without rules.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first evaluation time at or after `now_ms`: groups have their own place within the interval, pinned to
    /// absolute time.
    pub fn next_evaluation_ms(&self, now_ms: i64) -> i64 {
        let hash = xxh3_64(format!("{}\u{0}{}", self.file.display(), self.name).as_bytes());
        let place = (hash % self.interval_ms.unsigned_abs()) as i64;
        let into = (now_ms - place).rem_euclid(self.interval_ms);
        now_ms + if into == 0 { 0 } else { self.interval_ms - into }
    }

    /// Evaluates at each time until the process ends or the group is taken away.
    pub(crate) async fn run(self: Arc<Self>, wiring: Wiring, stop: Stop) {
        let mut next = self.next_evaluation_ms(wiring.clock.now_ms());
        loop {
            let wait = Duration::from_millis((next - wiring.clock.now_ms()).max(0).unsigned_abs());
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.removed.notified() => break,
                () = wiring.clock.sleep(wait) => {}
            }
            let span = info_span!("rule group", group = %self.name);
            self.evaluate(&wiring, next).instrument(span).await;
            let after = self.next_evaluation_ms(next + 1);
            let now = wiring.clock.now_ms();
            next = if now > after {
                let late = self.next_evaluation_ms(now);
                metrics::MISSED.inc_by(((late - after) / self.interval_ms).unsigned_abs());
                late
            } else {
                after
            };
        }
        let t_ms = wiring.clock.now_ms();
        let batches: Vec<MetricBatch> = self.state.lock().slots.iter().map(|s| s.rule.lock().end(t_ms)).collect();
        for batch in batches {
            write(&wiring, batch).await;
        }
    }

    /// Evaluates all rules at `t_ms`.
    pub(crate) async fn evaluate(self: &Arc<Self>, wiring: &Wiring, t_ms: i64) {
        let begun = wiring.clock.monotonic();
        for index in 0..self.len() {
            let (group, evaluation) = (Arc::clone(self), wiring.clone());
            let outcome = tokio::task::spawn_blocking(move || group.evaluate_rule(index, &evaluation, t_ms)).await;
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(error) => {
                    metrics::FAILURES.inc();
                    warn!(rule = index, %error, "rule evaluation panicked");
                    continue;
                }
            };
            write(wiring, outcome.batch).await;
            if !outcome.alerts.is_empty() {
                wiring.receiver.receive(outcome.alerts).await;
            }
        }
        let took = wiring.clock.monotonic().saturating_sub(begun);
        metrics::GROUP_SECONDS.observe(took.as_secs_f64());
        let mut state = self.state.lock();
        state.last_evaluation_ms = t_ms;
        state.evaluation_time = took;
    }

    fn evaluate_rule(&self, index: usize, wiring: &Wiring, t_ms: i64) -> Outcome {
        let begun = wiring.clock.monotonic();
        let Some(shared) = self.state.lock().slots.get(index).map(|s| Arc::clone(&s.rule)) else {
            return Outcome::default();
        };
        let query = wiring.query.for_group(&self.file, &self.name).unwrap_or_else(|| Arc::clone(&wiring.query));
        let mut rule = shared.lock();
        let outcome = rule.evaluate(&query, &wiring.context, t_ms - self.offset_ms, self.interval_ms, self.limit);
        rule.took(wiring.clock.monotonic().saturating_sub(begun));
        metrics::EVALUATIONS.inc();
        if !rule.last_error().is_empty() {
            metrics::FAILURES.inc();
            warn!(rule = rule.config().name(), error = rule.last_error(), "rule evaluation failed");
        }
        let shown = rule.snapshot();
        drop(rule);
        // A reload may have taken the rule away meanwhile.
        if let Some(slot) = self.state.lock().slots.get_mut(index)
            && Arc::ptr_eq(&slot.rule, &shared)
        {
            slot.shown = shown;
        }
        outcome
    }
}

async fn write(wiring: &Wiring, batch: MetricBatch) {
    if batch.floats.is_empty() {
        return;
    }
    if let Err(error) = wiring.writer.write(batch).await {
        metrics::FAILURES.inc();
        warn!(%error, "rule results not stored");
    }
}
