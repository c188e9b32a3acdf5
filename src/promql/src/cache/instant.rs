//! Kept answers of instant queries.

use std::sync::Arc;

use trefoil_model::{MetricReader, QueryBudget, TenantId};

use super::{ANSWERS, Entry, RangeQuery, Reach, ResultCache, kept_whole, size, valid_until};
use crate::ast::Expr;
use crate::engine::{Engine, EngineError, QueryOptions};
use crate::value::{QueryResult, ResultSeries, Sample, Value};

/// Queries that read fewer samples are evaluated as fast as they are found.
pub(super) const SAMPLES_MIN: u64 = 1000;
/// The step of their keys, which no range query has.
pub(super) const STEP_MS: i64 = 0;

/// An instant query.
#[derive(Clone, Copy)]
pub struct InstantQuery<'a> {
    /// The query.
    pub expr: &'a Expr,
    /// When it is evaluated, Unix milliseconds.
    pub t_ms: i64,
    /// Options.
    pub options: QueryOptions,
    /// Where series are.
    pub reader: &'a dyn MetricReader,
    /// Whose series.
    pub tenant: TenantId,
    /// What the query may use.
    pub budget: &'a dyn QueryBudget,
}

impl<'a> InstantQuery<'a> {
    /// A range of its one step.
    pub fn as_range(&self) -> RangeQuery<'a> {
        let Self { expr, t_ms, options, reader, tenant, budget } = *self;
        RangeQuery { expr, start_ms: t_ms, end_ms: t_ms, step_ms: 1, options, reader, tenant, budget }
    }

    pub(super) fn evaluate(&self, engine: &Engine) -> Result<QueryResult, EngineError> {
        engine.instant(self.expr, self.t_ms, &self.options, self.reader, self.tenant, self.budget)
    }
}

impl ResultCache {
    /// Evaluates as [`Engine::instant`] does, unless the same was asked last for the same time and no sample that it
    /// could have seen changed since. Only vectors of queries that read much are kept, one for each text. May take
    /// long: not for an async thread.
    pub fn instant(&self, engine: &Engine, query: &InstantQuery<'_>) -> Result<QueryResult, EngineError> {
        let InstantQuery { expr, t_ms, budget, .. } = *query;
        let step = query.as_range();
        let keepable = Reach::of_step(expr).and_then(|reach| self.keepable_as(engine, &step, reach));
        let Some((mut key, mark, ahead_ms)) = keepable else {
            ANSWERS.with_label_values(&["never"]).inc();
            return query.evaluate(engine);
        };
        key.step_ms = STEP_MS;
        let found = self.find(&key).filter(|entry| valid_until(entry, &step, ahead_ms) == Some(t_ms));
        if let Some(entry) = found {
            budget.charge_bytes(size(&entry.series))?;
            return Ok(kept_whole(Value::Vector(entry.series.iter().filter_map(sample).collect())));
        }
        ANSWERS.with_label_values(&["none"]).inc();
        let result = query.evaluate(engine)?;
        if let Value::Vector(samples) = &result.value
            && result.stats.samples_read >= self.instant_samples_min
        {
            let series: Vec<ResultSeries> = samples.iter().map(series).collect();
            let entry = self.room_for(&key, &series, &result).map(|bytes| Entry {
                mark,
                start_ms: t_ms,
                last_ms: t_ms,
                series: Arc::new(series),
                bytes,
                used: 0,
            });
            self.put(key, entry);
        }
        Ok(result)
    }
}

fn series(sample: &Sample) -> ResultSeries {
    ResultSeries { labels: sample.labels.clone(), samples: vec![(sample.t_ms, sample.value.clone())] }
}

pub(super) fn sample(series: &ResultSeries) -> Option<Sample> {
    let (t_ms, value) = series.samples.first()?.clone();
    Some(Sample { labels: series.labels.clone(), t_ms, value })
}
