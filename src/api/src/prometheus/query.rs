//! `/api/v1/query` and `/api/v1/query_range`.

use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::{Request, State};
use trefoil_model::QueryBudget;
use trefoil_promql::engine::EngineError;
use trefoil_promql::{Expr, QueryOptions, QueryResult, QueryStats, Value};

use super::answer::{
    PromResult, TRUNCATED, Writer, json, push_float, push_list, push_sample, push_series, push_string, push_time,
};
use crate::error::ApiError;
use crate::params::{Params, parse_duration};
use crate::state::{App, AppState, run_query};

/// At most so many annotations of a kind are told.
const ANNOTATIONS_MAX: usize = 10;

/// What both kinds of query take.
struct Common {
    timeout: Option<Duration>,
    limit: usize,
    options: QueryOptions,
    query: String,
    expr: Expr,
    stats: bool,
}

impl Common {
    fn read(state: &App, params: &Params) -> Result<Self, ApiError> {
        let limit = params.limit("limit")?;
        let timeout = params.duration("timeout")?.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs()));
        let lookback = params.get("lookback_delta");
        let lookback_ms = if lookback.is_empty() {
            None
        } else {
            let fault = |e| ApiError::bad_data(format!("error parsing lookback delta duration: {e}"));
            Some(parse_duration(lookback).map_err(fault)?)
        };
        let query = params.get("query").to_owned();
        let expr = parse_query(state, &query)?;
        let stats = !params.get("stats").is_empty();
        Ok(Self { timeout, limit, options: QueryOptions { lookback_ms }, query, expr, stats })
    }
}

/// Parses the parameter `query`.
pub(super) fn parse_query(state: &App, query: &str) -> Result<Expr, ApiError> {
    if query.len() > state.limits.query_bytes_max {
        trefoil_runtime::limits::hit("query_bytes_max");
        let message = format!("query is longer than {} bytes (limit query_bytes_max)", state.limits.query_bytes_max);
        return Err(ApiError::parameter("query", message));
    }
    state.engine.parse(query).map_err(|e| ApiError::parameter("query", e))
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Parse(e) => Self::parameter("query", e),
            EngineError::Execution(message) => Self::execution(message),
            EngineError::Budget(budget) => budget.into(),
            EngineError::Store(store) => store.into(),
        }
    }
}

/// `GET`, `POST /api/v1/query`
pub(super) async fn instant(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let t_ms = params.time("time")?.unwrap_or_else(|| state.clock.now_ms());
    let common = Common::read(&state, &params)?;
    let app = state.clone();
    let body = run_query(&state, common.timeout, move |budget| {
        let result =
            app.engine.instant(&common.expr, t_ms, &common.options, app.metrics.as_ref(), app.tenant, budget)?;
        render(&app, &common, result, budget)
    })
    .await?;
    Ok(json(body))
}

/// `GET`, `POST /api/v1/query_range`
pub(super) async fn range(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let start_ms = params.required_time("start")?;
    let end_ms = params.required_time("end")?;
    if end_ms < start_ms {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time").into());
    }
    let step_ms = parse_duration(params.get("step")).map_err(|e| ApiError::parameter("step", e))?;
    if step_ms <= 0 {
        let message = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", message).into());
    }
    let points_max = state.limits.query_points_per_series_max;
    if ((end_ms - start_ms) / step_ms).unsigned_abs() > points_max {
        trefoil_runtime::limits::hit("query_points_per_series_max");
        let message = format!(
            "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)",
            with_commas(points_max)
        );
        return Err(ApiError::bad_data(message).into());
    }
    let common = Common::read(&state, &params)?;
    let kind = common.expr.value_type();
    if !matches!(kind, trefoil_promql::ValueType::Scalar | trefoil_promql::ValueType::Vector) {
        let message = format!(
            "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
            kind.documented()
        );
        return Err(ApiError::parameter("query", message).into());
    }
    let app = state.clone();
    let body = run_query(&state, common.timeout, move |budget| {
        let result = app.engine.range(
            &common.expr,
            start_ms,
            end_ms,
            step_ms,
            &common.options,
            app.metrics.as_ref(),
            app.tenant,
            budget,
        )?;
        render(&app, &common, result, budget)
    })
    .await?;
    Ok(json(body))
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

fn render(state: &App, common: &Common, result: QueryResult, budget: &dyn QueryBudget) -> Result<String, ApiError> {
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
            let kept = cut(samples.len());
            for (i, sample) in samples[..kept].iter().enumerate() {
                comma(&mut writer.out, i);
                push_sample(&mut writer.out, &sample.labels, sample.t_ms, &sample.value);
                writer.check(budget)?;
            }
            writer.out.push(']');
            kept < samples.len()
        }
        Value::Matrix(series) => {
            writer.out.push_str("matrix\",\"result\":[");
            let kept = cut(series.len());
            for (i, one) in series[..kept].iter().enumerate() {
                comma(&mut writer.out, i);
                push_series(&mut writer.out, &one.labels, &one.samples);
                writer.check(budget)?;
            }
            writer.out.push(']');
            kept < series.len()
        }
    };
    if truncated {
        warnings.push(TRUNCATED.to_owned());
    }
    if common.stats {
        push_stats(&mut writer.out, &result.stats);
    }
    writer.out.push('}');
    Ok(writer.finish(&warnings, &infos))
}

fn comma(out: &mut String, i: usize) {
    if i > 0 {
        out.push(',');
    }
}

/// Timings that we do not take apart as the reference does are 0.
fn push_stats(out: &mut String, stats: &QueryStats) {
    let total = stats.total_time.as_secs_f64();
    let prepare = stats.select_time.as_secs_f64();
    let inner = (total - prepare).max(0.0);
    write!(
        out,
        ",\"stats\":{{\"timings\":{{\"evalTotalTime\":{total},\"resultSortTime\":0,\"queryPreparationTime\":{prepare},\
         \"innerEvalTime\":{inner},\"execQueueTime\":0,\"execTotalTime\":{total}}},\"samples\":\
         {{\"totalQueryableSamples\":{},\"peakSamples\":{}}}}}",
        stats.samples_total, stats.samples_peak
    )
    .expect("writing to a String cannot fail");
}

/// Writes texts as a list of strings.
pub(super) fn push_texts(out: &mut String, texts: &[String]) {
    push_list(out, texts, |out, text| push_string(out, text));
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
