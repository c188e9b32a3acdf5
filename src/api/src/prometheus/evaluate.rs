//! PromQL for rules: the engine over the store, within the limits of queries.

use std::sync::Arc;

use trefoil_model::{Labels, MetricReader, TenantId};
use trefoil_promql::{Engine, QueryOptions, SampleValue, Value};
use trefoil_rules::{Evaluate, VectorSample};
use trefoil_runtime::{Accountant, Limits, QueryContext, SharedClock, limits};

use crate::error::ApiError;

/// Evaluates the expressions of rules. Calls block: [`trefoil_rules`] makes them on blocking threads.
pub struct PromqlEvaluate {
    engine: Engine,
    reader: Arc<dyn MetricReader>,
    limits: Limits,
    accountant: Accountant,
    clock: SharedClock,
    tenant: TenantId,
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
        Self { engine, reader, limits, accountant, clock, tenant: TenantId::default() }
    }
}

impl Evaluate for PromqlEvaluate {
    fn instant(&self, expr: &str, t_ms: i64) -> Result<Vec<VectorSample>, String> {
        let expr = self.engine.parse(expr).map_err(|e| e.to_string())?;
        let clock = Arc::clone(&self.clock);
        let budget = QueryContext::new(clock, self.limits.query_timeout, &self.limits, self.accountant.clone());
        let result = self
            .engine
            .instant(&expr, t_ms, &QueryOptions::default(), self.reader.as_ref(), self.tenant, &budget)
            .map_err(|e| ApiError::from(e).message)?;
        let samples: Vec<VectorSample> = match result.value {
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
