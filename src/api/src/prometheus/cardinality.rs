//! `/api/v1/status/tsdb` and `/api/v1/status/cardinality`: what the active series are made of.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use serde_json::{Value, json};
use trefoil_model::labels::METRIC_NAME;
use trefoil_model::{Cardinality, Counted, MatchOp, Matcher, Offender, QueryBudget, SelectRequest, TimeRange};

use super::answer::{PromResult, rfc3339, success};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::{App, AppState, run_query};

/// How far back series count as present when the store keeps no books.
const HEAD_MS: i64 = 2 * 3_600_000;
/// Series that are counted then; more give no lists.
const COUNTED_MAX: usize = 200_000;
/// Label pairs among which those of the label `job` are looked for.
const JOB_PAIRS: usize = 1000;

fn limit(params: &Params, default: usize, most: usize) -> Result<usize, ApiError> {
    match params.get("limit") {
        "" => Ok(default),
        text => match text.parse::<usize>() {
            Ok(n) if n > most => Err(ApiError::bad_data(format!("limit must not exceed {most}"))),
            Ok(n) if n > 0 => Ok(n),
            _ => Err(ApiError::bad_data("limit must be a positive number")),
        },
    }
}

/// `GET /api/v1/status/tsdb`
pub(super) async fn tsdb(State(state): State<AppState>, request: Request) -> PromResult {
    let limit = limit(&Params::read(&state, request).await?, 10, 10_000)?;
    let app = state.clone();
    let found = run_query(&state, None, move |budget| counted(&app, limit, budget)).await?;
    let remote = state.admin.as_ref().map(|admin| admin.object_store()).unwrap_or_default();
    // Without samples the reference gives the times that no sample can have.
    let (min, max) = found.times.unwrap_or((i64::MAX, i64::MIN));
    let mut body = json!({
        "headStats": {
            "numSeries": found.series,
            "numLabelPairs": found.label_pairs,
            "chunkCount": 0,
            "minTime": min,
            "maxTime": max,
        },
        "seriesCountByMetricName": list(&found.series_by_metric),
        "labelValueCountByLabelName": list(&found.values_by_label),
        "memoryInBytesByLabelName": list(&found.bytes_by_label),
        "seriesCountByLabelValuePair": list(&found.series_by_pair),
    });
    // Of our own; not there without an object store.
    if remote.parts > 0 {
        body["objectStore"] = json!({
            "parts": remote.parts,
            "bytes": remote.bytes,
            "unreachableParts": remote.unreachable_parts,
            "error": remote.error,
        });
    }
    Ok(success(&body))
}

/// `GET /api/v1/status/cardinality`: the same and more, in our own form: series by job, and whose new series are
/// refused.
pub(super) async fn cardinality(State(state): State<AppState>, request: Request) -> PromResult {
    let limit = limit(&Params::read(&state, request).await?, 20, 1000)?;
    let app = state.clone();
    let mut found = run_query(&state, None, move |budget| counted(&app, limit.max(JOB_PAIRS), budget)).await?;
    // Jobs are few and large, so they are among the pairs with most series.
    let mut jobs: Vec<Counted> = found
        .series_by_pair
        .iter()
        .filter_map(|pair| Some(Counted { name: pair.name.strip_prefix("job=")?.to_owned(), value: pair.value }))
        .collect();
    jobs.truncate(limit);
    let lists =
        [&mut found.series_by_metric, &mut found.values_by_label, &mut found.bytes_by_label, &mut found.series_by_pair];
    lists.into_iter().for_each(|l| l.truncate(limit));
    Ok(success(&json!({
        "series": found.series,
        "labelPairs": found.label_pairs,
        "minTime": found.times.map(|t| t.0),
        "maxTime": found.times.map(|t| t.1),
        "seriesByJob": list(&jobs),
        "seriesByMetric": list(&found.series_by_metric),
        "valuesByLabel": list(&found.values_by_label),
        "bytesByLabel": list(&found.bytes_by_label),
        "seriesByPair": list(&found.series_by_pair),
        "offenders": found.offenders.iter().map(offender).collect::<Vec<_>>(),
    })))
}

fn list(counts: &[Counted]) -> Value {
    counts.iter().map(|c| json!({ "name": c.name, "value": c.value })).collect()
}

fn offender(o: &Offender) -> Value {
    json!({
        "job": o.job,
        "limit": o.limit,
        "limitValue": o.limit_value,
        "series": o.series,
        "refused": o.refused,
        "firstRefused": rfc3339(o.since_ms),
        "lastRefused": rfc3339(o.last_ms),
        "label": o.label.name,
        "labelValues": o.label.value,
        "metric": o.metric,
    })
}

/// What the store says; a store without books is counted by its labels.
fn counted(state: &App, limit: usize, budget: &dyn QueryBudget) -> Result<Cardinality, ApiError> {
    match &state.admin {
        Some(admin) => Ok(admin.cardinality(state.tenant, limit)?),
        None => by_labels(state, limit, budget),
    }
}

fn by_labels(state: &App, limit: usize, budget: &dyn QueryBudget) -> Result<Cardinality, ApiError> {
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
    let names = |counts: &BTreeMap<&str, u64>| top(counts.iter().map(|(n, c)| ((*n).to_owned(), *c)), limit);
    Ok(Cardinality {
        series: state.metrics.active_series(),
        label_pairs: by_pair.len() as u64,
        times: (!series.is_empty()).then_some((range.start_ms, now)),
        series_by_metric: names(&by_name),
        values_by_label: names(&values),
        bytes_by_label: names(&bytes),
        series_by_pair: top(by_pair.iter().map(|((n, v), count)| (format!("{n}={v}"), *count)), limit),
        offenders: Vec::new(),
    })
}

fn top(counts: impl Iterator<Item = (String, u64)>, limit: usize) -> Vec<Counted> {
    let mut all: Vec<_> = counts.map(|(name, value)| Counted { name, value }).collect();
    all.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.name.cmp(&b.name)));
    all.truncate(limit);
    all
}
