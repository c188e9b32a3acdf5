//! One rule, evaluated: what it writes, what it hands on, how it went.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use trefoil_config::RuleConfig;
use trefoil_model::labels::METRIC_NAME;
use trefoil_model::{Alert, Labels, MetricBatch, STALE_NAN};
use trefoil_template::alert::{AlertTemplateInput, QueryFn, QuerySample, expand_alert_template};

use crate::alerting::{ActiveAlert, AlertResult, AlertSet, AlertState};
use crate::evaluate::{Evaluate, VectorSample};

/// Outcome of the last evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RuleHealth {
    /// Not evaluated yet.
    #[default]
    Unknown,
    /// Good.
    Ok,
    /// Failed.
    Err,
}

impl RuleHealth {
    /// The word of the rules API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Err => "err",
        }
    }
}

/// What the rules API shows of a rule.
#[derive(Debug, Clone)]
pub struct RuleSnapshot {
    /// The rule as configured, labels of the group merged in.
    pub config: RuleConfig,
    /// Outcome of the last evaluation.
    pub health: RuleHealth,
    /// Why it failed.
    pub last_error: String,
    /// Unix milliseconds of the last evaluation, 0 before the first.
    pub last_evaluation_ms: i64,
    /// How long it took.
    pub evaluation_time: Duration,
    /// Worst state of its alerts; `None` before the first evaluation.
    pub state: Option<AlertState>,
    /// Pending and firing alerts.
    pub alerts: Vec<ActiveAlert>,
}

/// What all rules of a server share.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleContext {
    /// `global.external_labels`, for templates.
    pub external_labels: Vec<(String, String)>,
    /// URL of this server, without a slash at the end.
    pub external_url: String,
    /// The page below it that shows an expression given as `q`, for example `/explore/metrics`.
    pub explore_path: String,
    /// Least time between two hand-overs of an alert that did not change.
    pub resend_ms: i64,
}

/// A rule with its state.
#[derive(Debug)]
pub struct Rule {
    config: RuleConfig,
    health: RuleHealth,
    last_error: String,
    last_evaluation_ms: i64,
    evaluation_time: Duration,
    alerts: AlertSet,
    /// Series that the last evaluation wrote.
    written: BTreeSet<Labels>,
    restored: bool,
}

/// What an evaluation leaves to be done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// To be written.
    pub batch: MetricBatch,
    /// To be handed on.
    pub alerts: Vec<Alert>,
}

/// Alerts whose `for` is shorter start anew after a restart, as in the reference.
const RESTORE_FOR_MIN_MS: i64 = 10 * 60_000;
/// Longest outage over which the state of an alert is restored.
const OUTAGE_MAX_MS: i64 = 3_600_000;

impl Rule {
    /// A rule that was not evaluated yet.
    pub fn new(config: RuleConfig) -> Self {
        Self {
            config,
            health: RuleHealth::Unknown,
            last_error: String::new(),
            last_evaluation_ms: 0,
            evaluation_time: Duration::ZERO,
            alerts: AlertSet::default(),
            written: BTreeSet::new(),
            restored: false,
        }
    }

    /// The rule as configured.
    pub fn config(&self) -> &RuleConfig {
        &self.config
    }

    /// Takes over the state of the same rule before a reload.
    pub fn take_state(&mut self, old: &mut Self) {
        let config = self.config.clone();
        std::mem::swap(self, old);
        self.config = config;
    }

    /// Evaluates at `t_ms`. The results are stamped with it.
    pub fn evaluate(
        &mut self,
        query: &Arc<dyn Evaluate>,
        context: &RuleContext,
        t_ms: i64,
        interval_ms: i64,
        limit: u64,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let result = match query.instant(&self.config.expr, t_ms) {
            Ok(samples) if self.config.is_alert() => {
                self.alert(samples, query, context, t_ms, interval_ms, limit, &mut outcome)
            }
            Ok(samples) => self.record(samples, t_ms, limit, &mut outcome),
            Err(error) => Err(error),
        };
        self.last_evaluation_ms = t_ms;
        match result {
            Ok(()) => {
                self.health = RuleHealth::Ok;
                self.last_error.clear();
            }
            Err(error) => {
                self.health = RuleHealth::Err;
                self.last_error = error;
            }
        }
        outcome
    }

    /// Says how long the evaluation took.
    pub fn took(&mut self, time: Duration) {
        self.evaluation_time = time;
    }

    /// Why the last evaluation failed, "" when it did not.
    pub fn last_error(&self) -> &str {
        &self.last_error
    }

    /// Marks everything this rule wrote as ended.
    pub fn end(&self, t_ms: i64) -> MetricBatch {
        let mut batch = MetricBatch::default();
        for labels in &self.written {
            batch.push_float(labels.clone(), t_ms, STALE_NAN);
        }
        batch
    }

    /// What the API shows.
    pub fn snapshot(&self) -> RuleSnapshot {
        RuleSnapshot {
            config: self.config.clone(),
            health: self.health,
            last_error: self.last_error.clone(),
            last_evaluation_ms: self.last_evaluation_ms,
            evaluation_time: self.evaluation_time,
            state: (self.health != RuleHealth::Unknown).then(|| self.alerts.state()),
            alerts: self.alerts.active().cloned().collect(),
        }
    }

    fn record(
        &mut self,
        samples: Vec<VectorSample>,
        t_ms: i64,
        limit: u64,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let mut results = BTreeMap::new();
        for sample in samples {
            let mut labels = sample.labels.to_builder();
            labels.set(METRIC_NAME, self.config.record.as_str());
            for (name, value) in self.config.labels.iter() {
                labels.set(name, value);
            }
            if results.insert(labels.build(), sample.value).is_some() {
                return Err("vector contains metrics with the same labelset after applying rule labels".to_owned());
            }
        }
        if limit > 0 && results.len() as u64 > limit {
            return Err(format!("exceeded limit of {limit} with {} series", results.len()));
        }
        self.write(results, t_ms, outcome);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one call, from evaluate")]
    fn alert(
        &mut self,
        samples: Vec<VectorSample>,
        query: &Arc<dyn Evaluate>,
        context: &RuleContext,
        t_ms: i64,
        interval_ms: i64,
        limit: u64,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let mut results: Vec<AlertResult> = Vec::with_capacity(samples.len());
        let mut seen = BTreeSet::new();
        for sample in samples {
            let result = self.expand(&sample, query, context, t_ms);
            if !seen.insert(result.labels.clone()) {
                return Err("vector contains metrics with the same labelset after applying alert labels".to_owned());
            }
            results.push(result);
        }
        let n = results.len();
        if limit > 0 && n as u64 > limit {
            self.alerts.clear();
            self.write(BTreeMap::new(), t_ms, outcome);
            return Err(format!("exceeded limit of {limit} with {n} alerts"));
        }
        let (for_ms, keep_ms) = (self.config.r#for.as_ms(), self.config.keep_firing_for.as_ms());
        self.alerts.update(results, t_ms, for_ms, keep_ms);
        if !self.restored {
            self.restore(query, for_ms, t_ms);
        }
        let mut series = BTreeMap::new();
        for alert in self.alerts.active() {
            let mut labels = alert.labels.to_builder();
            labels.set(METRIC_NAME, "ALERTS").set("alertname", self.config.alert.as_str());
            labels.set("alertstate", alert.state.as_str());
            series.insert(labels.build(), 1.0);
            let mut labels = alert.labels.to_builder();
            labels.set(METRIC_NAME, "ALERTS_FOR_STATE").set("alertname", self.config.alert.as_str());
            series.insert(labels.build(), alert.active_ms.div_euclid(1000) as f64);
        }
        self.write(series, t_ms, outcome);
        let expr = percent_encoded(&self.config.expr);
        let url = format!("{}{}?q={expr}", context.external_url, context.explore_path);
        outcome.alerts = self.alerts.due(t_ms, context.resend_ms, interval_ms, &url);
        Ok(())
    }

    fn expand(
        &self,
        sample: &VectorSample,
        query: &Arc<dyn Evaluate>,
        context: &RuleContext,
        t_ms: i64,
    ) -> AlertResult {
        let labels: Vec<(String, String)> = sample.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let input = AlertTemplateInput {
            labels: &labels,
            value: sample.value,
            external_labels: &context.external_labels,
            external_url: &context.external_url,
            now_ms: t_ms,
        };
        let source = Arc::clone(query);
        let ask: QueryFn = Arc::new(move |expr| {
            let samples = source.instant(expr, t_ms)?;
            let pairs = |l: &Labels| l.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            Ok(samples.iter().map(|s| QuerySample { labels: pairs(&s.labels), value: s.value }).collect())
        });
        let render = |text: &str| {
            expand_alert_template(text, &input, Some(Arc::clone(&ask)))
                .unwrap_or_else(|error| format!("<error expanding template: {error}>"))
        };
        let mut out = sample.labels.to_builder();
        out.del(METRIC_NAME);
        for (name, text) in self.config.labels.iter() {
            out.set(name, render(text));
        }
        out.set("alertname", self.config.alert.as_str());
        let annotations = self.config.annotations.iter().map(|(name, text)| (name.to_owned(), render(text))).collect();
        AlertResult { labels: out.build(), annotations, value: sample.value }
    }

    /// After a restart: the start of pending alerts is read back from `ALERTS_FOR_STATE`, the down time left out.
    fn restore(&mut self, query: &Arc<dyn Evaluate>, for_ms: i64, t_ms: i64) {
        self.restored = true;
        if for_ms < RESTORE_FOR_MIN_MS {
            return;
        }
        let query = query.over_results().unwrap_or(query.as_ref());
        let seconds = OUTAGE_MAX_MS / 1000;
        let selector = format!("ALERTS_FOR_STATE{{alertname={:?}}}", self.config.alert);
        let starts = query.instant(&format!("last_over_time({selector}[{seconds}s])"), t_ms);
        let ends = query.instant(&format!("timestamp(last_over_time({selector}[{seconds}s]))"), t_ms);
        let (Ok(starts), Ok(ends)) = (starts, ends) else { return };
        let ends: BTreeMap<Labels, f64> = ends.into_iter().map(|s| (s.labels.without_name(), s.value)).collect();
        for sample in starts {
            let labels = sample.labels.without_name();
            let down_ms = ends.get(&labels).map_or(0, |end| (t_ms - (end * 1000.0) as i64).max(0));
            let active_ms = (sample.value * 1000.0) as i64 + down_ms;
            self.alerts.restore(&labels, active_ms, for_ms, t_ms);
        }
    }

    fn write(&mut self, results: BTreeMap<Labels, f64>, t_ms: i64, outcome: &mut Outcome) {
        let before = std::mem::take(&mut self.written);
        for gone in before.iter().filter(|l| !results.contains_key(*l)) {
            outcome.batch.push_float(gone.clone(), t_ms, STALE_NAN);
        }
        for (labels, value) in results {
            self.written.insert(labels.clone());
            outcome.batch.push_float(labels, t_ms, value);
        }
    }
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests;
