//! `/api/v1/query` and `/api/v1/query_range`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use http::Method;
use serde_json::json;
use trefoil_model::QueryBudget;
use trefoil_promql::engine::EngineError;
use trefoil_promql::{
    AtHand, Expr, InstantQuery, ParseError, QueryOptions, QueryResult, QueryStats, RangeQuery, Value, few_series,
};
use trefoil_runtime::QueryContext;

use super::answer::{
    PromResult, TRUNCATED, Text, Writer, comma, json as json_body, push_float, push_sample, push_string, push_time,
};
use crate::connection::Peer;
use crate::error::ApiError;
use crate::params::{Params, parse_duration};
use crate::queries::QueryNote;
use crate::state::{App, AppState};

/// At most so many annotations of a kind are told.
const ANNOTATIONS_MAX: usize = 10;

/// What both kinds of query take.
struct Common {
    timeout: Option<Duration>,
    limit: usize,
    options: QueryOptions,
    query: String,
    expr: Expr,
    /// The parameter `stats`; "" for none.
    stats: String,
}

impl Common {
    fn read(state: &App, params: &Params) -> Result<Self, ApiError> {
        let limit = params.limit("limit")?;
        let timeout = params.duration("timeout")?.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs()));
        let lookback = params.get("lookback_delta");
        // What is not positive is as if it were not given.
        let lookback_ms = if lookback.is_empty() {
            None
        } else {
            let fault = |e| ApiError::bad_data(format!("error parsing lookback delta duration: {e}"));
            Some(parse_duration(lookback).map_err(fault)?).filter(|ms| *ms > 0)
        };
        let query = params.get("query").to_owned();
        let expr = parse_query(state, &query)?;
        let stats = params.get("stats").to_owned();
        let options = QueryOptions { lookback_ms, ..QueryOptions::default() };
        Ok(Self { timeout, limit, options, query, expr, stats })
    }

    /// Words that the reference will refuse one day.
    fn stats_warning(&self) -> Option<String> {
        let known = matches!(self.stats.as_str(), "" | "true" | "all");
        (!known).then(|| {
            format!(
                "value {:?} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \
                 \"true\" or \"all\"",
                self.stats
            )
        })
    }

    /// What each step looks at, where `stats=all` and `--enable-feature=promql-per-step-stats` ask for it: as many
    /// samples as an instant query at its time, by definition, so each step is one.
    fn samples_by_step(
        &self,
        app: &App,
        steps: Steps,
        budget: &QueryContext,
    ) -> Result<Option<Vec<(i64, u64)>>, ApiError> {
        if self.stats != "all" || !app.per_step_stats {
            return Ok(None);
        }
        let Steps { start_ms, end_ms, step_ms } = steps;
        let times = std::iter::successors(Some(start_ms), |t| t.checked_add(step_ms.max(1)));
        let one = |t_ms| -> Result<(i64, u64), ApiError> {
            budget.check()?;
            let reader = app.metrics.as_ref();
            let result = app.engine.instant(&self.expr, t_ms, &self.options, reader, app.tenant, budget)?;
            Ok((t_ms, result.stats.samples_total))
        };
        times.take_while(|t| *t <= end_ms).map(one).collect::<Result<Vec<_>, ApiError>>().map(Some)
    }
}

/// When a range query is evaluated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) step_ms: i64,
}

/// The address of the client, "" when it is not known.
pub(crate) fn client_of(request: &Request) -> String {
    request.extensions().get::<Peer>().map(|peer| peer.address.to_string()).unwrap_or_default()
}

/// The data of an answer, and what it took.
type Answer = (Text, QueryStats);

/// What is asked, for the lists of queries and the query log.
struct Asked<'a> {
    path: &'static str,
    query: &'a str,
    steps: Steps,
}

/// Who asks, for the same.
struct Asker {
    method: Method,
    client: String,
}

impl Asker {
    fn of(request: &Request) -> Self {
        Self { method: request.method().clone(), client: client_of(request) }
    }

    /// Runs a query that is listed while it runs and logged when it ended.
    async fn run(
        self,
        state: &AppState,
        asked: Asked<'_>,
        timeout: Option<Duration>,
        at_hand: impl FnOnce(&QueryContext) -> Option<Result<Answer, ApiError>> + Send,
        work: impl FnOnce(&QueryContext, Duration) -> Result<Answer, ApiError> + Send + 'static,
    ) -> Result<Text, ApiError> {
        let Asked { path, query, steps: Steps { start_ms, end_ms, step_ms } } = asked;
        let (query, client) = (query.to_owned(), self.client);
        let note = QueryNote { path, query, start_ms, end_ms, step_ms, client, rule_group: None };
        let work = move |budget: &QueryContext, waited: Duration| {
            work(budget, waited).map(|(text, stats)| (text.held_by(budget), stats))
        };
        let result = state.gate.run_at_hand(state, timeout, Some(note.clone()), at_hand, work).await;
        if state.query_log.is_on() {
            let (stats, error) = match &result {
                Ok((_, stats)) => (*stats, None),
                Err(error) => (QueryStats::default(), Some(error.message.as_str())),
            };
            let stats = stats_json(&stats, Duration::ZERO, None);
            state.query_log.write(&note, self.method.as_str(), &stats, error, state.clock.now_ms());
        }
        result.map(|(body, _)| body)
    }
}

/// Parses the parameter `query`.
pub(super) fn parse_query(state: &App, query: &str) -> Result<Expr, ApiError> {
    read_query(state, query, |e| ApiError::parameter("query", e))
}

/// Parses the parameter `query`; `fault` makes an error of what is wrong with it.
pub(crate) fn read_query(
    state: &App,
    query: &str,
    fault: impl FnOnce(ParseError) -> ApiError,
) -> Result<Expr, ApiError> {
    if query.len() > state.limits.query_bytes_max {
        trefoil_runtime::limits::hit("query_bytes_max");
        let message = format!("query is longer than {} bytes (limit query_bytes_max)", state.limits.query_bytes_max);
        return Err(ApiError::parameter("query", message));
    }
    state.engine.parse(query).map_err(fault)
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Parse(e) => Self::parameter("query", e),
            EngineError::Query(message) => Self::parameter("query", message),
            EngineError::Execution(message) => Self::execution(message),
            EngineError::Budget(budget) => budget.into(),
            EngineError::Store(store) => store.into(),
        }
    }
}

/// Whether everything is to be evaluated anew: statistics tell of the whole evaluation.
fn is_anew(common: &Common, params: &Params) -> bool {
    !common.stats.is_empty() || matches!(params.get("nocache"), "1" | "true")
}

/// `GET`, `POST /api/v1/query`. `nocache=1` evaluates everything anew.
pub(super) async fn instant(State(state): State<AppState>, request: Request) -> PromResult {
    let asker = Asker::of(&request);
    let params = Params::read(&state, request).await?;
    let t_ms = params.time("time")?.unwrap_or_else(|| state.clock.now_ms());
    let common = Common::read(&state, &params)?;
    let anew = is_anew(&common, &params);
    let (timeout, query) = (common.timeout, common.query.clone());
    let steps = Steps { start_ms: t_ms, end_ms: t_ms, step_ms: 0 };
    let instant = Arc::new(Instant { app: state.clone(), common, t_ms, anew });
    let small = Arc::clone(&instant);
    let at_hand = move |budget: &QueryContext| small.at_hand(budget);
    let work = move |budget: &QueryContext, waited: Duration| instant.answer(None, budget, waited);
    Ok(json_body(
        asker.run(&state, Asked { path: "/api/v1/query", query: &query, steps }, timeout, at_hand, work).await?,
    ))
}

/// An instant query that was read.
struct Instant {
    app: AppState,
    common: Common,
    t_ms: i64,
    anew: bool,
}

impl Instant {
    fn query<'a>(&'a self, budget: &'a QueryContext) -> InstantQuery<'a> {
        let Self { app, common, t_ms, .. } = self;
        let (expr, reader) = (&common.expr, app.metrics.as_ref());
        InstantQuery { expr, t_ms: *t_ms, options: common.options, reader, tenant: app.tenant, budget }
    }

    fn at_hand(&self, budget: &QueryContext) -> Option<Result<Answer, ApiError>> {
        let query = self.query(budget);
        let at_hand = if self.anew { AtHand::No } else { self.app.results.instant_at_hand(&self.app.engine, &query) };
        if_at_hand(&self.app, at_hand, &query.as_range(), |kept| self.answer(kept, budget, Duration::ZERO))
    }

    fn answer(&self, kept: Option<QueryResult>, budget: &QueryContext, waited: Duration) -> Result<Answer, ApiError> {
        let Self { app, common, t_ms, anew } = self;
        let query = self.query(budget);
        let result = if let Some(kept) = kept {
            kept
        } else if *anew {
            app.engine.instant(&common.expr, *t_ms, &common.options, query.reader, app.tenant, budget)?
        } else {
            app.results.instant(&app.engine, &query)?
        };
        let steps = Steps { start_ms: *t_ms, end_ms: *t_ms, step_ms: 0 };
        let by_step = common.samples_by_step(app, steps, budget)?;
        render(app, common, result, &Cost { waited, by_step }, budget)
    }
}

/// Answers what is at hand, and nothing else. `answer` takes the result when it was kept.
fn if_at_hand(
    app: &App,
    at_hand: AtHand,
    query: &RangeQuery<'_>,
    answer: impl FnOnce(Option<QueryResult>) -> Result<Answer, ApiError>,
) -> Option<Result<Answer, ApiError>> {
    let may_block = match at_hand {
        AtHand::No => return None,
        AtHand::Kept(result) => return Some(answer(Some(*result))),
        AtHand::Yes | AtHand::InMemory => false,
        AtHand::OnDisk => true,
    };
    let evaluate = || few_series(&app.engine, query).then(|| answer(None));
    if !may_block {
        return evaluate();
    }
    // What else waits for this thread goes to another one. Only where there are others.
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    let has_others = runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread;
    if has_others { tokio::task::block_in_place(evaluate) } else { None }
}

/// Reads `start`, `end` and `step` of a range query and checks them against the limits.
pub(super) fn read_steps(state: &App, params: &Params) -> Result<Steps, ApiError> {
    let start_ms = params.required_time("start")?;
    let end_ms = params.required_time("end")?;
    if end_ms < start_ms {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step_ms = parse_duration(params.get("step")).map_err(|e| ApiError::parameter("step", e))?;
    if step_ms <= 0 {
        let message = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", message));
    }
    let points_max = state.limits.query_points_per_series_max;
    if ((end_ms - start_ms) / step_ms).unsigned_abs() > points_max {
        trefoil_runtime::limits::hit("query_points_per_series_max");
        let message = format!(
            "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)",
            with_commas(points_max)
        );
        return Err(ApiError::bad_data(message));
    }
    Ok(Steps { start_ms, end_ms, step_ms })
}

/// Errors unless the expression has a value at each step.
pub(super) fn check_range_type(expr: &Expr) -> Result<(), ApiError> {
    let kind = expr.value_type();
    if matches!(kind, trefoil_promql::ValueType::Scalar | trefoil_promql::ValueType::Vector) {
        return Ok(());
    }
    let message =
        format!("invalid expression type \"{}\" for range query, must be Scalar or instant Vector", kind.documented());
    Err(ApiError::parameter("query", message))
}

/// `GET`, `POST /api/v1/query_range`. `nocache=1` evaluates everything anew.
pub(super) async fn range(State(state): State<AppState>, request: Request) -> PromResult {
    let asker = Asker::of(&request);
    let params = Params::read(&state, request).await?;
    let steps = read_steps(&state, &params)?;
    let common = Common::read(&state, &params)?;
    check_range_type(&common.expr)?;
    let anew = is_anew(&common, &params);
    let (timeout, query) = (common.timeout, common.query.clone());
    let range = Arc::new(Range { app: state.clone(), common, steps, anew });
    let small = Arc::clone(&range);
    let at_hand = move |budget: &QueryContext| small.at_hand(budget);
    let work = move |budget: &QueryContext, waited: Duration| range.answer(None, budget, waited);
    Ok(json_body(
        asker.run(&state, Asked { path: "/api/v1/query_range", query: &query, steps }, timeout, at_hand, work).await?,
    ))
}

/// A range query that was read.
struct Range {
    app: AppState,
    common: Common,
    steps: Steps,
    anew: bool,
}

impl Range {
    fn query<'a>(&'a self, budget: &'a QueryContext) -> RangeQuery<'a> {
        let Self { app, common, steps: Steps { start_ms, end_ms, step_ms }, .. } = self;
        let (expr, reader, options) = (&common.expr, app.metrics.as_ref(), common.options);
        let (start_ms, end_ms, step_ms) = (*start_ms, *end_ms, *step_ms);
        RangeQuery { expr, start_ms, end_ms, step_ms, options, reader, tenant: app.tenant, budget }
    }

    fn at_hand(&self, budget: &QueryContext) -> Option<Result<Answer, ApiError>> {
        let query = self.query(budget);
        let at_hand = if self.anew { AtHand::No } else { self.app.results.range_at_hand(&self.app.engine, &query) };
        if_at_hand(&self.app, at_hand, &query, |kept| self.answer(kept, budget, Duration::ZERO))
    }

    fn answer(&self, kept: Option<QueryResult>, budget: &QueryContext, waited: Duration) -> Result<Answer, ApiError> {
        let Self { app, common, steps, anew } = self;
        let query = self.query(budget);
        let result = if let Some(kept) = kept {
            kept
        } else if *anew {
            let Steps { start_ms, end_ms, step_ms } = *steps;
            let options = &common.options;
            app.engine.range(&common.expr, start_ms, end_ms, step_ms, options, query.reader, app.tenant, budget)?
        } else {
            app.results.range(&app.engine, &query)?
        };
        let by_step = common.samples_by_step(app, *steps, budget)?;
        render(app, common, result, &Cost { waited, by_step }, budget)
    }
}

fn with_commas(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// What statistics tell beside those of the engine.
struct Cost {
    /// Time until it was the query's turn.
    waited: Duration,
    /// Times with the samples that each step looks at.
    by_step: Option<Vec<(i64, u64)>>,
}

fn render(
    state: &App,
    common: &Common,
    result: QueryResult,
    cost: &Cost,
    budget: &dyn QueryBudget,
) -> Result<Answer, ApiError> {
    let (mut warnings, infos) = result.annotations.texts(&common.query, ANNOTATIONS_MAX);
    let mut writer = Writer::new(state.limits.response_bytes_max);
    let cut = |n: usize| if common.limit > 0 { n.min(common.limit) } else { n };
    writer.out.push_str("{\"resultType\":\"");
    let truncated = match result.value {
        Value::Scalar(t, v) => {
            writer.out.push_str("scalar\",\"result\":");
            push_float(&mut writer.out, t, v);
            false
        }
        Value::String(t, text) => {
            writer.out.push_str("string\",\"result\":[");
            push_time(&mut writer.out, t);
            writer.out.push(',');
            push_string(&mut writer.out, &text);
            writer.out.push(']');
            false
        }
        Value::Vector(samples) => {
            writer.out.push_str("vector\",\"result\":[");
            let (all, kept) = (samples.len(), cut(samples.len()));
            // What is written is freed.
            for (i, sample) in samples.into_iter().take(kept).enumerate() {
                comma(&mut writer.out, i);
                push_sample(&mut writer.out, &sample.labels, sample.t_ms, &sample.value);
                writer.check(budget)?;
            }
            writer.out.push(']');
            kept < all
        }
        Value::Matrix(series) => {
            writer.out.push_str("matrix\",\"result\":");
            let (all, kept) = (series.len(), cut(series.len()));
            let mut series = series;
            series.truncate(kept);
            writer.matrix(series, budget)?;
            kept < all
        }
    };
    if truncated {
        warnings.push(TRUNCATED.to_owned());
    }
    warnings.extend(common.stats_warning());
    if !common.stats.is_empty() {
        let stats = stats_json(&result.stats, cost.waited, cost.by_step.as_deref());
        write!(writer.out, ",\"stats\":{stats}").expect("writing to a String cannot fail");
    }
    writer.out.push('}');
    Ok((writer.finish(&warnings, &infos), result.stats))
}

/// Statistics as the reference tells them. Sorting is not timed: it is part of the evaluation. `waited`: for its turn.
pub(super) fn stats_json(stats: &QueryStats, waited: Duration, by_step: Option<&[(i64, u64)]>) -> serde_json::Value {
    let total = stats.total_time.as_secs_f64();
    let prepare = stats.select_time.as_secs_f64();
    let mut samples = json!({
        "totalQueryableSamples": by_step.map_or(stats.samples_total, |all| all.iter().map(|(_, n)| n).sum()),
        "samplesRead": stats.samples_seen,
        "peakSamples": stats.samples_peak,
    });
    if let (Some(all), Some(fields)) = (by_step, samples.as_object_mut()) {
        let seconds = |t: i64| if t % 1000 == 0 { json!(t / 1000) } else { json!(t as f64 / 1000.0) };
        let steps = all.iter().map(|(t, n)| json!([seconds(*t), n])).collect();
        fields.insert("totalQueryableSamplesPerStep".to_owned(), serde_json::Value::Array(steps));
    }
    json!({
        "timings": {
            "evalTotalTime": total,
            "resultSortTime": 0,
            "queryPreparationTime": prepare,
            "innerEvalTime": (total - prepare).max(0.0),
            "execQueueTime": waited.as_secs_f64(),
            "execTotalTime": total + waited.as_secs_f64(),
        },
        "samples": samples,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_set_off() {
        for (n, want) in [(11_000, "11,000"), (999, "999"), (1_234_567, "1,234,567")] {
            assert_eq!(super::with_commas(n), want);
        }
    }
}
