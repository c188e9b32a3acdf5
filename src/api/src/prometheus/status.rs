//! `/api/v1/status/*`, `/api/v1/features` and what else tells about the server.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use serde_json::{Value, json};
use trefoil_model::labels::METRIC_NAME;
use trefoil_model::{MatchOp, Matcher, QueryBudget, SelectRequest, TimeRange};
use trefoil_promql::algebra::AggregateOp;
use trefoil_promql::functions::FUNCTIONS;

use super::answer::{PromResult, rfc3339, success};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::{App, AppState, PROMETHEUS_VERSION, run_query};

/// `GET /api/v1/status/config`: what is in force, secrets masked.
pub(super) async fn config(State(state): State<AppState>) -> PromResult {
    Ok(success(&json!({ "yaml": state.config().config.to_yaml() })))
}

/// `GET /api/v1/status/flags`
pub(super) async fn flags(State(state): State<AppState>) -> PromResult {
    Ok(success(&json!(state.flags)))
}

/// `GET /api/v1/status/limits`: name, value, and how often it was hit.
pub(super) async fn limits(State(state): State<AppState>) -> PromResult {
    let all: BTreeMap<_, _> = state
        .limits
        .entries()
        .into_iter()
        .map(|(name, value)| (name, json!({ "value": value, "hits": trefoil_runtime::limits::hits(name) })))
        .collect();
    Ok(success(&json!(all)))
}

/// `GET /api/v1/status/runtimeinfo`; what only Go has is empty or what comes nearest.
pub(super) async fn runtime(State(state): State<AppState>) -> PromResult {
    let (reload_ok, reload_ms) = state.last_reload();
    let directory = std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let retention = state.config().config.metrics_retention();
    let retention = retention.get().map_or_else(|| "unlimited".to_owned(), |d| d.to_string());
    Ok(success(&json!({
        "startTime": rfc3339(state.start_ms),
        "CWD": directory,
        "hostname": host.trim(),
        "serverTime": rfc3339(state.clock.now_ms()),
        "reloadConfigSuccess": reload_ok,
        "lastConfigTime": rfc3339(reload_ms),
        "corruptionCount": 0,
        "goroutineCount": state.tasks.running().len(),
        "GOMAXPROCS": cores,
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": retention,
    })))
}

/// What this binary is, in the words of Prometheus. There must be no `features`: Grafana takes a server that has them
/// for another product.
pub(super) fn build_info(state: &App) -> Value {
    json!({
        "version": PROMETHEUS_VERSION,
        "revision": state.build.revision,
        "branch": format!("trefoil-{}", state.build.version),
        "buildUser": format!("trefoil {}", state.build.version),
        "buildDate": state.build.build_date,
        "goVersion": "",
    })
}

/// `GET /api/v1/status/buildinfo`
pub(super) async fn build(State(state): State<AppState>) -> PromResult {
    Ok(success(&build_info(&state)))
}

/// `GET /api/v1/status/walreplay`: who can ask has a server that has replayed.
pub(super) async fn replay() -> PromResult {
    Ok(success(&json!({ "min": 0, "max": 0, "current": 0, "state": "done" })))
}

/// `GET /api/v1/notifications`
pub(super) async fn notifications() -> PromResult {
    Ok(success(&json!([])))
}

/// The administrative calls of the time-series store are not there.
pub(super) async fn admin_off() -> PromResult {
    Err(ApiError::new(crate::ErrorKind::Unavailable, "admin APIs disabled").into())
}

/// `GET /api/v1/features`: what of Prometheus' optional parts is there.
pub(super) async fn features(State(state): State<AppState>) -> PromResult {
    let functions: BTreeMap<&str, bool> = FUNCTIONS.iter().map(|f| (f.name, !f.experimental)).collect();
    let mut operators: BTreeMap<&str, bool> =
        AggregateOp::ALL.iter().map(|op| (op.as_str(), !op.is_experimental())).collect();
    for op in ["!=", "!~", "%", "*", "+", "-", "/", "<", "<=", "==", "=~", ">", ">=", "@", "^"] {
        operators.insert(op, true);
    }
    for op in ["and", "atan2", "or", "unless"] {
        operators.insert(op, true);
    }
    Ok(success(&json!({
        "api": {
            "admin": false,
            "exclude_alerts": true,
            "label_values_match": true,
            "lifecycle": state.lifecycle,
            "otlp_write_receiver": true,
            "query_stats": true,
            "query_warnings": true,
            "remote_write_receiver": true,
            "search": false,
            "time_range_labels": true,
            "time_range_series": true,
        },
        "otlp_receiver": { "delta_conversion": true, "native_delta_ingestion": false },
        "prometheus": { "agent_mode": false, "auto_reload_config": false, "server_mode": true },
        "promql": {
            "anchored": false,
            "at_modifier": true,
            "bool": true,
            "by": true,
            "delayed_name_removal": state.engine.options().delayed_name_removal,
            "duration_expr": true,
            "fill": false,
            "fill_left": false,
            "fill_right": false,
            "group_left": true,
            "group_right": true,
            "ignoring": true,
            "negative_offset": true,
            "offset": true,
            "on": true,
            "per_query_lookback_delta": true,
            "per_step_stats": false,
            "smoothed": false,
            "subqueries": true,
            "type_and_unit_labels": false,
            "without": true,
        },
        "promql_functions": functions,
        "promql_operators": operators,
        "rules": { "concurrent_rule_eval": false, "keep_firing_for": true, "query_offset": true },
        "scrape": { "extra_scrape_metrics": true, "start_timestamp_zero_ingestion": false },
        "service_discovery_providers": { "static": true },
        "tsdb": { "exemplar_storage": true, "native_histograms": true },
        "ui": { "ui_v2": false, "ui_v3": true },
    })))
}

/// How far back series count as present.
const HEAD_MS: i64 = 2 * 3_600_000;
/// Series that are counted for the lists; more give no lists.
const COUNTED_MAX: usize = 200_000;

/// `GET /api/v1/status/tsdb`
pub(super) async fn tsdb(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let limit = match params.get("limit") {
        "" => 10,
        text => match text.parse::<usize>() {
            Ok(n) if (1..=10_000).contains(&n) => n,
            _ => return Err(ApiError::parameter("limit", "limit must be a number from 1 to 10000").into()),
        },
    };
    let app = state.clone();
    let data = run_query(&state, None, move |budget| cardinality(&app, limit, budget)).await?;
    Ok(success(&data))
}

fn cardinality(state: &App, limit: usize, budget: &dyn QueryBudget) -> Result<Value, ApiError> {
    let now = state.clock.now_ms();
    let range = TimeRange::new(now - HEAD_MS, now + 1);
    let named = Matcher::new(MatchOp::NotEqual, METRIC_NAME, "").map_err(|e| ApiError::internal(e.to_string()))?;
    let request = SelectRequest { tenant: state.tenant, matchers: vec![named], range };
    let (series, _) = state.metrics.series(&[request], COUNTED_MAX, budget)?;
    let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
    let mut by_pair: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (i, labels) in series.iter().enumerate() {
        if i % 1024 == 0 {
            budget.check()?;
        }
        *by_name.entry(labels.metric_name()).or_default() += 1;
        for pair in labels.iter() {
            *by_pair.entry(pair).or_default() += 1;
        }
    }
    let mut values: BTreeMap<&str, u64> = BTreeMap::new();
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, value) in by_pair.keys() {
        *values.entry(name).or_default() += 1;
        *bytes.entry(name).or_default() += value.len() as u64;
    }
    let pairs = by_pair.iter().map(|((n, v), count)| (format!("{n}={v}"), *count));
    Ok(json!({
        "headStats": {
            "numSeries": state.metrics.active_series(),
            "numLabelPairs": by_pair.len(),
            "chunkCount": 0,
            "minTime": range.start_ms,
            "maxTime": now,
        },
        "seriesCountByMetricName": top(by_name.iter().map(|(n, c)| ((*n).to_owned(), *c)), limit),
        "labelValueCountByLabelName": top(values.iter().map(|(n, c)| ((*n).to_owned(), *c)), limit),
        "memoryInBytesByLabelName": top(bytes.iter().map(|(n, c)| ((*n).to_owned(), *c)), limit),
        "seriesCountByLabelValuePair": top(pairs, limit),
    }))
}

fn top(counts: impl Iterator<Item = (String, u64)>, limit: usize) -> Value {
    let mut all: Vec<_> = counts.collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(limit);
    all.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}
