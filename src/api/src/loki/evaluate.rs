//! LogQL for rules: metric queries over the logs, within the limits of queries.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use trefoil_logql::{Engine, InstantQuery, Output, QueryKind};
use trefoil_model::{Labels, LogReader, TenantId};
use trefoil_rules::{Evaluate, VectorSample};
use trefoil_runtime::{Accountant, Limits, QueryContext, SharedClock, limits};

use super::logql_error;
use crate::queries::{QueryBooks, QueryNote, RuleGroup};

/// What a rule may not be: lines have no value that could be recorded or compared.
const LOG_QUERY: &str = "a rule needs a metric query, for example count_over_time({app=\"shop\"} |= \"error\" [5m])";

/// Evaluates the expressions of rules over logs. Calls block: [`trefoil_rules`] makes them on blocking threads. As with
/// [`crate::PromqlEvaluate`] they take no places of the queries' gate, and are listed and logged as queries are.
#[derive(Clone)]
pub struct LogqlEvaluate {
    logs: Arc<dyn LogReader>,
    /// PromQL over the results.
    results: Arc<dyn Evaluate>,
    limits: Limits,
    accountant: Accountant,
    clock: SharedClock,
    tenant: TenantId,
    books: QueryBooks,
    group: Option<RuleGroup>,
}

impl LogqlEvaluate {
    /// Makes an evaluator for the default tenant. `results` is PromQL over the store that rules write to; queries are
    /// noted in `books`.
    pub fn new(
        logs: Arc<dyn LogReader>,
        results: Arc<dyn Evaluate>,
        limits: Limits,
        accountant: Accountant,
        clock: SharedClock,
        books: QueryBooks,
    ) -> Self {
        Self { logs, results, limits, accountant, clock, tenant: TenantId::default(), books, group: None }
    }

    /// Says what is wrong with an expression of a rule.
    pub fn check(expr: &str) -> Result<(), String> {
        match Engine::check(expr) {
            Ok(QueryKind::Metric) => Ok(()),
            Ok(QueryKind::Log) => Err(LOG_QUERY.to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Evaluates, listed while it runs and logged when it ended.
    fn noted(&self, text: &str, t_ms: i64) -> Result<Output, String> {
        let group = self.group.clone();
        let note = QueryNote {
            path: "rules",
            query: text.to_owned(),
            start_ms: t_ms,
            end_ms: t_ms,
            rule_group: group,
            ..QueryNote::default()
        };
        let clock = Arc::clone(&self.clock);
        let budget = QueryContext::new(clock, self.limits.query_timeout, &self.limits, self.accountant.clone());
        let budget = Arc::new(budget);
        let began = self.clock.monotonic();
        let entry = self.books.queries.enter(note.clone(), self.clock.now_ms());
        entry.runs(&budget);
        let query = InstantQuery { query: text, time_ns: t_ms.saturating_mul(1_000_000), tenant: self.tenant };
        let result =
            Engine::instant_within(&query, self.logs.as_ref(), budget.as_ref(), self.limits.query_scan_bytes_max)
                .map_err(|error| logql_error(error).message);
        let took = self.clock.monotonic().saturating_sub(began);
        entry.ended(took, result.is_ok(), self.clock.now_ms());
        if self.books.log.is_on() {
            let stats = json!({ "timings": { "execTotalTime": took.as_secs_f64() } });
            let error = result.as_ref().err().map(String::as_str);
            self.books.log.write(&note, "", &stats, error, self.clock.now_ms());
        }
        result.map(|answer| answer.output)
    }
}

impl Evaluate for LogqlEvaluate {
    fn for_group(&self, file: &Path, name: &str) -> Option<Arc<dyn Evaluate>> {
        let group = RuleGroup { file: file.display().to_string(), name: name.to_owned() };
        Some(Arc::new(Self { group: Some(group), ..self.clone() }))
    }

    fn over_results(&self) -> Option<&dyn Evaluate> {
        Some(self.results.as_ref())
    }

    fn instant(&self, expr: &str, t_ms: i64) -> Result<Vec<VectorSample>, String> {
        let samples: Vec<VectorSample> = match self.noted(expr, t_ms)? {
            Output::Scalar { value, .. } => vec![VectorSample { labels: Labels::empty(), value }],
            Output::Vector { samples, .. } => {
                samples.into_iter().map(|s| VectorSample { labels: s.labels, value: s.value }).collect()
            }
            Output::Streams(_) | Output::Matrix(_) => return Err(LOG_QUERY.to_owned()),
        };
        if samples.len() > self.limits.rule_series_max {
            limits::hit("rule_series_max");
            let most = self.limits.rule_series_max;
            return Err(format!("rule gives {} series, more than {most} (limit rule_series_max)", samples.len()));
        }
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_a_metric_query() {
        for (expr, want) in [
            (r#"sum(rate({a="b"} |= "x" [1m])) > 1"#, Ok(())),
            ("vector(1)", Ok(())),
            (r#"{a="b"} |= "x""#, Err("a rule needs a metric query")),
            (r#"sum(rate({a="b"}[1m])"#, Err("parse error at line 1, col ")),
            (r#"rate({a="b"} |~ "(" [1m])"#, Err("error parsing regex")),
        ] {
            match (LogqlEvaluate::check(expr), want) {
                (Ok(()), Ok(())) => {}
                (Err(got), Err(want)) if got.contains(want) => {}
                (got, want) => panic!("{expr}: {got:?}, want {want:?}"),
            }
        }
    }
}
