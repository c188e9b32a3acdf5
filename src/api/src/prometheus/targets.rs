//! `/api/v1/{targets,targets/metadata,scrape_pools}`.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use serde_json::{Value, json};
use trefoil_model::labels::METRIC_NAME;
use trefoil_model::{MatchOp, Matcher, SelectRequest, TimeRange};
use trefoil_promql::{format_duration, parse_selector};

use super::answer::{PromResult, label_map, rfc3339, success};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::{AppState, run_query};

/// `GET /api/v1/targets`
pub(super) async fn targets(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let wanted = params.get("state").to_ascii_lowercase();
    let (with_active, with_dropped) = match wanted.as_str() {
        "active" => (true, false),
        "dropped" => (false, true),
        // The reference shows everything for words it does not know.
        _ => (true, true),
    };
    let pool = params.get("scrapePool");
    let mut active = Vec::new();
    let mut dropped = Vec::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    if let Some(scrape) = &state.scrape {
        for name in scrape.pools().into_iter().filter(|n| pool.is_empty() || n == pool) {
            counts.insert(name, 0);
        }
        if with_active {
            for one in scrape.active().into_iter().filter(|t| pool.is_empty() || t.pool == pool) {
                let url = one.target.url.as_str();
                active.push(json!({
                    "discoveredLabels": label_map(&one.target.discovered),
                    "labels": label_map(&one.target.labels),
                    "scrapePool": one.pool,
                    "scrapeUrl": url,
                    "globalUrl": url,
                    "lastError": one.status.last_error,
                    "lastScrape": rfc3339(one.status.last_scrape_ms),
                    "lastScrapeDuration": one.status.last_duration.as_secs_f64(),
                    "health": one.status.health.as_str(),
                    "scrapeInterval": format_duration(one.target.interval.as_millis() as i64),
                    "scrapeTimeout": format_duration(one.target.timeout.as_millis() as i64),
                }));
            }
        }
        for one in scrape.dropped().into_iter().filter(|t| pool.is_empty() || t.pool == pool) {
            *counts.entry(one.pool.clone()).or_default() += 1;
            if with_dropped {
                dropped.push(json!({ "discoveredLabels": label_map(&one.discovered), "scrapePool": one.pool }));
            }
        }
    }
    Ok(success(&json!({
        "activeTargets": active,
        "droppedTargets": dropped,
        "droppedTargetCounts": if with_dropped { json!(counts) } else { Value::Null },
    })))
}

/// `GET /api/v1/scrape_pools`
pub(super) async fn pools(State(state): State<AppState>) -> PromResult {
    let pools = state.scrape.as_ref().map(|s| s.pools()).unwrap_or_default();
    Ok(success(&json!({ "scrapePools": pools })))
}

/// Targets that are looked at for metadata of one metric.
const METADATA_TARGETS_MAX: usize = 100;

/// `GET /api/v1/targets/metadata`: metadata is kept by family, not by target, so that a target is named when it has
/// series of the family. Without `metric` the answer is empty.
pub(super) async fn metadata(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let matchers = match params.get("match_target") {
        "" => Vec::new(),
        text => parse_selector(text).map_err(|e| ApiError::parameter("match_target", e))?,
    };
    let limit = match params.get("limit") {
        "" => usize::MAX,
        text => text
            .parse::<i64>()
            .map_err(|_| ApiError::bad_data("limit must be a number"))?
            .try_into()
            .unwrap_or(usize::MAX),
    };
    let metric = params.get("metric").to_owned();
    let targets: Vec<_> = state
        .scrape
        .iter()
        .flat_map(|s| s.active())
        .filter(|t| matchers.iter().all(|m| m.matches(t.target.labels.get(&m.name).unwrap_or(""))))
        .take(METADATA_TARGETS_MAX)
        .collect();
    if metric.is_empty() {
        return Ok(success(&json!([])));
    }
    let app = state.clone();
    let data = run_query(&state, None, move |budget| {
        let Some(known) = app.metrics.metadata(app.tenant, Some(&metric), 1).into_iter().next() else {
            return Err(ApiError::not_found("specified metadata not found"));
        };
        let names = format!("{}(_total|_created|_bucket|_count|_sum|_info)?", escaped(&metric));
        let name = Matcher::new(MatchOp::Regex, METRIC_NAME, names).map_err(|e| ApiError::parameter("metric", e))?;
        let mut out = Vec::new();
        for one in targets {
            let mut matchers = vec![name.clone()];
            matchers.extend(one.target.labels.iter().map(|(n, v)| Matcher::equal(n, v)));
            let request = SelectRequest { tenant: app.tenant, matchers, range: TimeRange::ALL };
            let (found, _) = app.metrics.series(&[request], 1, budget)?;
            if !found.is_empty() && out.len() < limit {
                out.push(json!({
                    "target": label_map(&one.target.labels),
                    "type": known.kind.as_str(),
                    "help": known.help,
                    "unit": known.unit,
                }));
            }
        }
        Ok(Value::from(out))
    })
    .await?;
    Ok(success(&data))
}

fn escaped(name: &str) -> String {
    name.chars().flat_map(|c| (!c.is_alphanumeric() && c != '_').then_some('\\').into_iter().chain([c])).collect()
}
