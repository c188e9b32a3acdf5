//! Keeps the results of queries, so that a dashboard that asks again has only what is new evaluated.
//!
//! A kept step is used while no sample changed that it could have seen: the store tells the earliest time that changed
//! since the result was made ([`MetricReader::changed_from_ms`]), and a step sees nothing later than its own time (or
//! later by a negative offset). So late samples, deletions and the like are never missed. Queries whose steps are not
//! independent of each other, whose result carries remarks, or that touch downsampled samples are evaluated as ever.
//! Of instant queries that read much the last answer is kept, see [`ResultCache::instant`].

mod at_hand;
mod instant;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use prometheus::{IntCounterVec, IntGauge, register_int_counter_vec, register_int_gauge};
use trefoil_model::labels::METRIC_NAME;
use trefoil_model::{MatchOp, Matcher, MetricReader, QueryBudget, TenantId, TimeRange};

pub use self::at_hand::{AtHand, few_series};
pub use self::instant::InstantQuery;
use crate::algebra::series::is_metadata_label;
use crate::algebra::{AggregateOp, BinaryOp};
use crate::annotations::Annotations;
use crate::ast::{Aggregate, Duration, Expr, ExprKind, RangeMode, VectorSelector};
use crate::engine::{Engine, EngineError, QueryOptions};
use crate::value::{QueryResult, QueryStats, ResultSeries, SampleValue, Value};

static ANSWERS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "Queries by how much of the result was kept: all, some, none; or that cannot be kept.";
    register_int_counter_vec!("trefoil_promql_cache_answers_total", help, &["kept"]).expect("unique metric name")
});
static BYTES: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!("trefoil_promql_cache_bytes", "Bytes of kept results.").expect("unique metric name")
});

/// Results that are kept at most, whatever their size.
const ENTRIES_MAX: usize = 4096;
/// A result takes at most this share of the cache.
const SHARE_MAX: u64 = 4;
/// Functions whose value at a step depends on the range of the query, or that can make series equal.
const NOT_KEPT: &[&str] = &["start", "end", "range", "step", "info", "label_replace", "label_join"];

/// A range query.
#[derive(Clone, Copy)]
pub struct RangeQuery<'a> {
    /// The query.
    pub expr: &'a Expr,
    /// First step, Unix milliseconds.
    pub start_ms: i64,
    /// No step is after this, Unix milliseconds.
    pub end_ms: i64,
    /// Milliseconds between steps, greater than 0.
    pub step_ms: i64,
    /// Options.
    pub options: QueryOptions,
    /// Where series are.
    pub reader: &'a dyn MetricReader,
    /// Whose series.
    pub tenant: TenantId,
    /// What the query may use.
    pub budget: &'a dyn QueryBudget,
}

impl RangeQuery<'_> {
    fn evaluate(&self, engine: &Engine, start_ms: i64) -> Result<QueryResult, EngineError> {
        let (end_ms, step_ms) = (self.end_ms, self.step_ms);
        engine.range(self.expr, start_ms, end_ms, step_ms, &self.options, self.reader, self.tenant, self.budget)
    }

    /// The last step.
    fn last_ms(&self) -> i64 {
        self.start_ms + (self.end_ms - self.start_ms) / self.step_ms * self.step_ms
    }
}

/// Results are the same when these are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    tenant: u32,
    query: String,
    step_ms: i64,
    /// Where in the step the steps lie.
    phase_ms: i64,
    lookback_ms: i64,
    subquery_step_ms: i64,
}

#[derive(Debug, Clone)]
struct Entry {
    /// What changed since makes steps out of date.
    mark: u64,
    start_ms: i64,
    last_ms: i64,
    series: Arc<Vec<ResultSeries>>,
    bytes: u64,
    used: u64,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Key, Entry>,
    bytes: u64,
    clock: u64,
}

/// Kept results. Share it behind an `Arc`.
#[derive(Debug)]
pub struct ResultCache {
    bytes_max: u64,
    /// Instant queries that read fewer samples are not kept.
    instant_samples_min: u64,
    state: Mutex<State>,
}

impl ResultCache {
    /// A cache of at most so many bytes; 0 keeps nothing.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, instant_samples_min: instant::SAMPLES_MIN, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it looks up a result")
    }

    /// Evaluates as [`Engine::range`] does, what is kept and still valid left out. Statistics tell of what was
    /// evaluated. May take long: not for an async thread.
    pub fn range(&self, engine: &Engine, query: &RangeQuery<'_>) -> Result<QueryResult, EngineError> {
        let Some((key, mark, ahead_ms)) = self.keepable(engine, query) else {
            ANSWERS.with_label_values(&["never"]).inc();
            return query.evaluate(engine, query.start_ms);
        };
        let found = self.find(&key);
        let kept_until = found.as_ref().and_then(|entry| valid_until(entry, query, ahead_ms));
        let (Some(entry), Some(until)) = (found, kept_until) else {
            ANSWERS.with_label_values(&["none"]).inc();
            return self.evaluate_all(engine, query, key, mark);
        };
        let old = cut(&entry.series, query.start_ms, until);
        query.budget.charge_bytes(size(&old))?;
        if until == query.last_ms() {
            // What is kept stays as it is: it covers at least this.
            return Ok(kept_whole(Value::Matrix(old)));
        }
        let new = query.evaluate(engine, until + query.step_ms)?;
        let Value::Matrix(series) = new.value else {
            return self.evaluate_all(engine, query, key, mark);
        };
        if !new.annotations.is_empty() {
            return self.evaluate_all(engine, query, key, mark);
        }
        ANSWERS.with_label_values(&["some"]).inc();
        let result = QueryResult { value: Value::Matrix(join(old, series)), ..new };
        self.keep(key, query, mark, &result);
        Ok(result)
    }

    fn evaluate_all(
        &self,
        engine: &Engine,
        query: &RangeQuery<'_>,
        key: Key,
        mark: u64,
    ) -> Result<QueryResult, EngineError> {
        let result = query.evaluate(engine, query.start_ms)?;
        self.keep(key, query, mark, &result);
        Ok(result)
    }

    /// Under which key a result is kept, the mark before it is made, and how far steps look ahead. `None`: never.
    fn keepable(&self, engine: &Engine, query: &RangeQuery<'_>) -> Option<(Key, u64, i64)> {
        if query.step_ms <= 0 || query.end_ms < query.start_ms {
            return None;
        }
        self.keepable_as(engine, query, Reach::of(query.expr)?)
    }

    /// As [`Self::keepable`], of what steps see.
    fn keepable_as(&self, engine: &Engine, query: &RangeQuery<'_>, reach: Reach) -> Option<(Key, u64, i64)> {
        if self.bytes_max == 0 || query.options.profile {
            return None;
        }
        let mark = query.reader.change_mark()?;
        let lookback_ms = query.options.lookback_ms.unwrap_or(engine.options().lookback_ms).max(0);
        let from = query.start_ms.saturating_sub(reach.back_ms).saturating_sub(lookback_ms);
        let until = query.end_ms.saturating_add(reach.ahead_ms).saturating_add(1);
        if from < query.reader.settled_from_ms()
            || query.reader.coarsest_interval_ms(query.tenant, TimeRange::new(from, until)) > 0
        {
            return None;
        }
        let key = Key {
            tenant: query.tenant.0,
            query: query.expr.to_string(),
            step_ms: query.step_ms,
            phase_ms: query.start_ms.rem_euclid(query.step_ms),
            lookback_ms,
            subquery_step_ms: engine.options().subquery_step_ms,
        };
        Some((key, mark, reach.ahead_ms))
    }

    fn find(&self, key: &Key) -> Option<Entry> {
        let mut state = self.state();
        state.clock += 1;
        let now = state.clock;
        let entry = state.entries.get_mut(key)?;
        entry.used = now;
        Some(entry.clone())
    }

    fn keep(&self, key: Key, query: &RangeQuery<'_>, mark: u64, result: &QueryResult) {
        let Value::Matrix(series) = &result.value else { return };
        let bytes = self.room_for(&key, series, result);
        let entry = bytes.map(|bytes| Entry {
            mark,
            start_ms: query.start_ms,
            last_ms: query.last_ms(),
            series: Arc::new(series.clone()),
            bytes,
            used: 0,
        });
        self.put(key, entry);
    }

    /// The bytes that a result takes, if it may be kept.
    fn room_for(&self, key: &Key, series: &[ResultSeries], result: &QueryResult) -> Option<u64> {
        let bytes = size(series) + key.query.len() as u64 + 200;
        (result.annotations.is_empty() && bytes <= self.bytes_max / SHARE_MAX).then_some(bytes)
    }

    /// Replaces what is kept under a key.
    fn put(&self, key: Key, entry: Option<Entry>) {
        let mut state = self.state();
        if let Some(old) = state.entries.remove(&key) {
            state.bytes -= old.bytes;
        }
        if let Some(entry) = entry {
            let bytes = entry.bytes;
            while state.bytes + bytes > self.bytes_max || state.entries.len() >= ENTRIES_MAX {
                let oldest = state.entries.iter().min_by_key(|(_, e)| e.used).map(|(k, _)| k.clone());
                let Some(gone) = oldest.and_then(|k| state.entries.remove(&k)) else { break };
                state.bytes -= gone.bytes;
            }
            state.clock += 1;
            let used = state.clock;
            state.bytes += bytes;
            state.entries.insert(key, Entry { used, ..entry });
        }
        BYTES.set(i64::try_from(state.bytes).unwrap_or(i64::MAX));
    }
}

/// An answer for which nothing was evaluated.
fn kept_whole(value: Value) -> QueryResult {
    ANSWERS.with_label_values(&["all"]).inc();
    QueryResult { value, annotations: Annotations::default(), stats: QueryStats::default(), profile: None }
}

/// The last step of a query that is kept and still true, when there is one.
fn valid_until(entry: &Entry, query: &RangeQuery<'_>, ahead_ms: i64) -> Option<i64> {
    if entry.start_ms > query.start_ms {
        return None;
    }
    let last = entry.last_ms.min(query.last_ms());
    let valid = match query.reader.changed_from_ms(entry.mark) {
        i64::MAX => last,
        // A step at the time of the change sees it.
        changed => last.min(changed.saturating_sub(ahead_ms).saturating_sub(1)),
    };
    if valid < query.start_ms {
        return None;
    }
    Some(query.start_ms + (valid - query.start_ms) / query.step_ms * query.step_ms)
}

/// True for a selector of one metric name.
fn is_named(v: &VectorSelector) -> bool {
    v.matchers.iter().any(|m: &Matcher| m.op == MatchOp::Equal && m.name == METRIC_NAME)
}

/// True when no series become equal by losing different names. `kept`: nothing above removes the names of its value.
fn stays_unique(expr: &Expr, kept: bool) -> bool {
    match &expr.kind {
        ExprKind::Number { .. } | ExprKind::String(_) => true,
        ExprKind::Paren(e) | ExprKind::StepInvariant(e) => stays_unique(e, kept),
        ExprKind::Vector(v) => kept || is_named(v),
        ExprKind::Matrix(m) => is_named(&m.selector),
        ExprKind::Aggregate(a) => {
            let inner = kept || has_no_names(a);
            stays_unique(&a.expr, inner) && a.param.as_ref().is_none_or(|p| stays_unique(p, false))
        }
        _ => expr.children().into_iter().all(|e| stays_unique(e, false)),
    }
}

/// True for an aggregation whose result has nothing of the names of its input.
fn has_no_names(a: &Aggregate) -> bool {
    let groups = !a.op.keeps_input() && a.op != AggregateOp::CountValues && !a.grouping.without;
    groups && !a.grouping.labels.iter().any(|l| is_metadata_label(l))
}

/// How far a step looks back and ahead, at most.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Reach {
    back_ms: i64,
    ahead_ms: i64,
}

impl Reach {
    /// `None` when steps depend on more than the samples near them, or when series can become equal that are not: that
    /// would be an error over the whole range and none over its parts.
    fn of(expr: &Expr) -> Option<Self> {
        let mut apart = stays_unique(expr, true);
        expr.walk(&mut |e| {
            apart &= match &e.kind {
                ExprKind::Call { function, .. } => !NOT_KEPT.contains(&function.name),
                ExprKind::Binary(b) => b.op != BinaryOp::Or,
                ExprKind::Aggregate(a) => !matches!(a.op, AggregateOp::LimitK | AggregateOp::LimitRatio),
                _ => true,
            };
        });
        if apart { Self::of_step(expr) } else { None }
    }

    /// Of one step alone, whatever the others. `None` when it is not known without evaluating.
    fn of_step(expr: &Expr) -> Option<Self> {
        let mut reach = Self::default();
        let mut known = true;
        expr.walk(&mut |e| {
            known &= match &e.kind {
                ExprKind::Vector(v) => reach.selector(v),
                ExprKind::Matrix(m) => reach.range(&m.range) && reach.selector(&m.selector),
                ExprKind::Subquery(s) => {
                    let step = s.step.as_ref().is_none_or(|step| matches!(step, Duration::Fixed(_)));
                    step && s.at.is_none() && reach.range(&s.range) && reach.offset(&s.offset)
                }
                _ => true,
            };
        });
        known.then_some(reach)
    }

    fn selector(&mut self, v: &VectorSelector) -> bool {
        v.at.is_none() && v.mode == RangeMode::Plain && self.offset(&v.offset)
    }

    fn range(&mut self, range: &Duration) -> bool {
        self.back_ms = self.back_ms.saturating_add(range.ms().max(0));
        matches!(range, Duration::Fixed(_))
    }

    fn offset(&mut self, offset: &Duration) -> bool {
        let ms = offset.ms();
        self.back_ms = self.back_ms.saturating_add(ms.max(0));
        self.ahead_ms = self.ahead_ms.saturating_add(ms.saturating_neg().max(0));
        matches!(offset, Duration::Fixed(_))
    }
}

/// The samples from `start_ms` to `until_ms`, both included; series without one are left out.
fn cut(series: &[ResultSeries], start_ms: i64, until_ms: i64) -> Vec<ResultSeries> {
    let cut = |s: &ResultSeries| {
        let from = s.samples.partition_point(|(t, _)| *t < start_ms);
        let to = s.samples.partition_point(|(t, _)| *t <= until_ms);
        (from < to).then(|| ResultSeries { labels: s.labels.clone(), samples: s.samples[from..to].to_vec() })
    };
    series.iter().filter_map(cut).collect()
}

/// Two results one after the other in time, each sorted by labels.
fn join(old: Vec<ResultSeries>, new: Vec<ResultSeries>) -> Vec<ResultSeries> {
    let mut out = Vec::with_capacity(old.len().max(new.len()));
    let mut new = new.into_iter().peekable();
    for mut series in old {
        while let Some(before) = new.next_if(|n| n.labels < series.labels) {
            out.push(before);
        }
        if let Some(same) = new.next_if(|n| n.labels == series.labels) {
            series.samples.extend(same.samples);
        }
        out.push(series);
    }
    out.extend(new);
    out
}

/// About how many bytes a result takes.
fn size(series: &[ResultSeries]) -> u64 {
    let one = |s: &ResultSeries| {
        let histograms = s.samples.iter().filter_map(|(_, v)| match v {
            SampleValue::Histogram(h) => Some(h.heap_bytes() + 200),
            SampleValue::Float(_) => None,
        });
        let samples = s.samples.len() * size_of::<(i64, SampleValue)>();
        s.labels.heap_bytes() + size_of::<ResultSeries>() + samples + histograms.sum::<usize>()
    };
    series.iter().map(|s| one(s) as u64).sum()
}

#[cfg(test)]
mod tests;
