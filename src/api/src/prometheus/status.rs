//! `/api/v1/status/*`, `/api/v1/features` and what else tells about the server.

use std::collections::BTreeMap;

use axum::extract::State;
use serde_json::{Value, json};
use trefoil_promql::algebra::AggregateOp;
use trefoil_promql::functions::FUNCTIONS;

use super::answer::{PromResult, rfc3339, success};
use crate::state::{App, AppState, PROMETHEUS_VERSION};

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
    let retention = storage_retention(&state.config().config);
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

/// How long, how many bytes and how much of the disk is kept, in Prometheus' words: `15d or 10GiB`.
fn storage_retention(config: &trefoil_config::Config) -> String {
    let time = config.metrics_retention().get().map(|time| time.to_string());
    let bytes = config.metrics_retention_bytes().get().map(|bytes| bytes.to_string());
    let share = Some(config.storage.tsdb.retention.percentage).filter(|share| *share > 0.0);
    let all: Vec<String> = time.into_iter().chain(bytes).chain(share.map(|share| format!("{share}%"))).collect();
    if all.is_empty() { "unlimited".to_owned() } else { all.join(" or ") }
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
    Ok(success(&json!({ "min": 0, "max": 0, "current": 0 })))
}

/// Functions of the templates in rules.
const TEMPLATE_FUNCTIONS: &[&str] = &[
    "args",
    "externalURL",
    "first",
    "graphLink",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "label",
    "match",
    "now",
    "parseDuration",
    "pathPrefix",
    "query",
    "reReplaceAll",
    "safeHtml",
    "sortByLabel",
    "stripDomain",
    "stripPort",
    "strvalue",
    "tableLink",
    "title",
    "toDuration",
    "toLower",
    "toTime",
    "toUpper",
    "urlQueryEscape",
    "value",
];

/// `GET /api/v1/features`: what of Prometheus' optional parts is there.
pub(super) async fn features(State(state): State<AppState>) -> PromResult {
    let (grammar, engine) = (state.engine.parser_options(), state.engine.options());
    let experimental = grammar.experimental_functions;
    let functions: BTreeMap<&str, bool> = FUNCTIONS.iter().map(|f| (f.name, !f.experimental || experimental)).collect();
    let mut operators: BTreeMap<&str, bool> =
        AggregateOp::ALL.iter().map(|op| (op.as_str(), !op.is_experimental() || experimental)).collect();
    let others = [
        "!=", "!~", "%", "*", "+", "-", "/", "<", "</", "<=", "==", "=~", ">", ">/", ">=", "@", "^", "and", "atan2",
        "or", "unless",
    ];
    operators.extend(others.map(|op| (op, true)));
    let fill = grammar.fill_modifiers;
    Ok(success(&json!({
        "api": {
            "active_queries": true,
            "admin": state.admin_api,
            "exclude_alerts": true,
            "explain": true,
            "label_values_match": true,
            "lifecycle": state.lifecycle,
            "openapi_3.1": true,
            "openapi_3.2": true,
            "otlp_write_receiver": true,
            "query_stats": true,
            "query_warnings": true,
            "remote_write_receiver": true,
            "search": true,
            "search_fuzz_alg_jarowinkler": true,
            "search_fuzz_alg_subsequence": true,
            "time_range_labels": true,
            "time_range_series": true,
            "top_queries": true,
        },
        "otlp_receiver": { "delta_conversion": true, "native_delta_ingestion": false },
        "prometheus": { "agent_mode": false, "auto_reload_config": false, "server_mode": true },
        "promql": {
            "anchored": grammar.extended_range_selectors,
            "at_modifier": true,
            "bool": true,
            "by": true,
            "delayed_name_removal": engine.delayed_name_removal,
            "duration_expr": grammar.duration_expressions,
            "fill": fill,
            "fill_left": fill,
            "fill_right": fill,
            "group_left": true,
            "group_right": true,
            "ignoring": true,
            "negative_offset": true,
            "offset": true,
            "on": true,
            "per_query_lookback_delta": true,
            "per_step_stats": state.per_step_stats,
            "smoothed": grammar.extended_range_selectors,
            "subqueries": true,
            "type_and_unit_labels": false,
            "without": true,
        },
        "promql_functions": functions,
        "promql_operators": operators,
        "rules": { "concurrent_rule_eval": false, "keep_firing_for": true, "query_offset": true },
        "scrape": {
            "extra_scrape_metrics": true,
            "start_timestamp_zero_ingestion": false,
            "type_and_unit_labels": false,
        },
        "service_discovery_providers": { "static": true },
        "templating_functions": TEMPLATE_FUNCTIONS.iter().map(|name| (*name, true)).collect::<BTreeMap<_, _>>(),
        "tsdb": {
            "exemplar_storage": true,
            "isolation": true,
            "native_histograms": true,
            "st_storage": true,
        },
        "ui": { "ui_v2": false, "ui_v3": true },
    })))
}
