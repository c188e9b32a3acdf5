//! PromQL for rules: the engine over the store, within the limits of queries.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trefoil_model::{Labels, MetricReader, TenantId};
use trefoil_promql::{Engine, QueryOptions, QueryStats, SampleValue, Value};
use trefoil_rules::{Evaluate, VectorSample};
use trefoil_runtime::{Accountant, Limits, QueryContext, SharedClock, limits};

use super::query::stats_json;
use crate::error::ApiError;
use crate::queries::{QueryBooks, QueryNote, RuleGroup};

/// Evaluates the expressions of rules. Calls block: [`trefoil_rules`] makes them on blocking threads. They take no
/// places of the queries' gate, so that alerts do not wait for dashboards; they are listed and logged as queries are.
#[derive(Clone)]
pub struct PromqlEvaluate {
    engine: Engine,
    reader: Arc<dyn MetricReader>,
    limits: Limits,
    accountant: Accountant,
    clock: SharedClock,
    tenant: TenantId,
    books: QueryBooks,
    group: Option<RuleGroup>,
}

impl PromqlEvaluate {
    /// Makes an evaluator for the default tenant.
    pub fn new(
        engine: Engine,
        reader: Arc<dyn MetricReader>,
        limits: Limits,
        accountant: Accountant,
        clock: SharedClock,
    ) -> Self {
        let (tenant, books) = (TenantId::default(), QueryBooks::default());
        Self { engine, reader, limits, accountant, clock, tenant, books, group: None }
    }

    /// Notes queries where those of the API are noted.
    #[must_use]
    pub fn noted_in(self, books: QueryBooks) -> Self {
        Self { books, ..self }
    }

    fn evaluate(&self, text: &str, t_ms: i64, budget: &QueryContext) -> Result<(Value, QueryStats), String> {
        let expr = self.engine.parse(text).map_err(|e| e.to_string())?;
        let result = self
            .engine
            .instant(&expr, t_ms, &QueryOptions::default(), self.reader.as_ref(), self.tenant, budget)
            .map_err(|e| ApiError::from(e).message)?;
        Ok((result.value, result.stats))
    }

    /// Evaluates, listed while it runs and logged when it ended.
    fn noted(&self, text: &str, t_ms: i64) -> Result<Value, String> {
        let note = QueryNote {
            path: "rules",
            query: text.to_owned(),
            start_ms: t_ms,
            end_ms: t_ms,
            rule_group: self.group.clone(),
            ..QueryNote::default()
        };
        let clock = Arc::clone(&self.clock);
        let budget = QueryContext::new(clock, self.limits.query_timeout, &self.limits, self.accountant.clone());
        let budget = Arc::new(budget);
        let began = self.clock.monotonic();
        let entry = self.books.queries.enter(note.clone(), self.clock.now_ms());
        entry.runs(&budget);
        let result = self.evaluate(text, t_ms, &budget);
        let took = self.clock.monotonic().saturating_sub(began);
        entry.ended(took, result.is_ok(), self.clock.now_ms());
        if self.books.log.is_on() {
            let (stats, error) = match &result {
                Ok((_, stats)) => (*stats, None),
                Err(error) => (QueryStats::default(), Some(error.as_str())),
            };
            let stats = stats_json(&stats, Duration::ZERO, None);
            self.books.log.write(&note, "", &stats, error, self.clock.now_ms());
        }
        result.map(|(value, _)| value)
    }
}

impl Evaluate for PromqlEvaluate {
    fn for_group(&self, file: &Path, name: &str) -> Option<Arc<dyn Evaluate>> {
        let group = RuleGroup { file: file.display().to_string(), name: name.to_owned() };
        Some(Arc::new(Self { group: Some(group), ..self.clone() }))
    }

    fn instant(&self, expr: &str, t_ms: i64) -> Result<Vec<VectorSample>, String> {
        let samples: Vec<VectorSample> = match self.noted(expr, t_ms)? {
            Value::Scalar(_, value) => vec![VectorSample { labels: Labels::empty(), value }],
            Value::Vector(samples) => samples
                .into_iter()
                .filter_map(|s| match s.value {
                    SampleValue::Float(value) => Some(VectorSample { labels: s.labels, value }),
                    SampleValue::Histogram(_) => None,
                })
                .collect(),
            Value::String(..) | Value::Matrix(_) => {
                return Err("rule result is not a vector or scalar".to_owned());
            }
        };
        if samples.len() > self.limits.rule_series_max {
            limits::hit("rule_series_max");
            let most = self.limits.rule_series_max;
            return Err(format!("rule gives {} series, more than {most} (limit rule_series_max)", samples.len()));
        }
        Ok(samples)
    }
}
