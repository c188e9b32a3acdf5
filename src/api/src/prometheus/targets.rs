//! `/api/v1/{targets,targets/metadata,scrape_pools}`.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use axum::extract::{Request, State};
use serde_json::{Value, json};
use trefoil_model::labels::METRIC_NAME;
use trefoil_model::{Matcher, SelectRequest, TimeRange};
use trefoil_promql::{format_duration, parse_selector};

use super::answer::{PromResult, Writer, json as json_body, label_map, rfc3339, success};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::{AppState, run_query};

/// `GET /api/v1/targets`
pub(super) async fn targets(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let wanted = params.get("state").to_ascii_lowercase();
    let (with_active, with_dropped) = match wanted.as_str() {
        "" | "any" => (true, true),
        "active" => (true, false),
        "dropped" => (false, true),
        // The reference shows nothing for words it does not know.
        _ => (false, false),
    };
    let pool = params.get("scrapePool");
    let own_port = state.config().config.trefoil.listeners.http.address.port();
    let mut active = Vec::new();
    let mut dropped = Vec::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    if let Some(scrape) = &state.scrape {
        for name in scrape.pools() {
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
                    "globalUrl": global_url(url, &state.external_url, own_port),
                    "lastError": one.status.last_error,
                    "lastScrape": rfc3339(one.status.last_scrape_ms),
                    "lastScrapeDuration": one.status.last_duration.as_secs_f64(),
                    "health": one.status.health.as_str(),
                    "scrapeInterval": format_duration(one.target.interval.as_millis() as i64),
                    "scrapeTimeout": format_duration(one.target.timeout.as_millis() as i64),
                }));
            }
        }
        // Counted whatever pool is asked for, as in the reference.
        for one in scrape.dropped() {
            *counts.entry(one.pool.clone()).or_default() += 1;
            if with_dropped && (pool.is_empty() || one.pool == pool) {
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

/// The URL of a target as others reach it: what is on this machine by name or address is so under the host of the
/// external URL; this server itself is so under all of that URL's scheme, host and port.
fn global_url(url: &str, external: &str, own_port: u16) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = split_port(authority);
    if !matches!(host, "127.0.0.1" | "localhost" | "::1") {
        return url.to_owned();
    }
    let Some((external_scheme, external_rest)) = external.split_once("://") else { return url.to_owned() };
    let external_authority = external_rest.split(['/', '?', '#']).next().unwrap_or("");
    if port.is_some_and(|p| p == own_port.to_string()) {
        return format!("{external_scheme}://{external_authority}{path}");
    }
    let (external_host, _) = split_port(external_authority);
    let bracketed = if external_host.contains(':') { format!("[{external_host}]") } else { external_host.to_owned() };
    let port = port.map(|p| format!(":{p}")).unwrap_or_default();
    format!("{scheme}://{bracketed}{port}{path}")
}

/// Host without brackets, and port.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = authority.strip_prefix('[').and_then(|a| a.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
}

/// `GET /api/v1/scrape_pools`
pub(super) async fn pools(State(state): State<AppState>) -> PromResult {
    let pools = state.scrape.as_ref().map(|s| s.pools()).unwrap_or_default();
    Ok(success(&json!({ "scrapePools": pools })))
}

/// Targets that are looked at for metadata.
const METADATA_TARGETS_MAX: usize = 100;
/// What the names of a family's series end with.
const SUFFIXES: &[&str] = &["", "_total", "_created", "_bucket", "_count", "_sum", "_info", "_gcount", "_gsum"];

/// `GET /api/v1/targets/metadata`: metadata is kept by family, not by target, so that a target is named when it has
/// series of the family. Without `metric` all families of each target.
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
    let app = state.clone();
    let body = run_query(&state, None, move |budget| {
        let wanted = Some(metric.as_str()).filter(|m| !m.is_empty());
        let families = app.metrics.metadata(app.tenant, wanted, 0);
        let names_max = app.limits.label_values_max;
        let mut writer = Writer::new(app.limits.response_bytes_max);
        writer.out.push('[');
        let mut told = 0;
        for one in &targets {
            let matchers = one.target.labels.iter().map(|(n, v)| Matcher::equal(n, v)).collect();
            let request = SelectRequest { tenant: app.tenant, matchers, range: TimeRange::ALL };
            let (names, _) =
                app.metrics.label_values(app.tenant, METRIC_NAME, TimeRange::ALL, &[request], names_max, budget)?;
            let names: HashSet<&str> = names.iter().map(String::as_str).collect();
            for family in &families {
                let has = |suffix: &&str| names.contains(format!("{}{suffix}", family.name).as_str());
                if told >= limit || !SUFFIXES.iter().any(has) {
                    continue;
                }
                let mut item = json!({
                    "target": label_map(&one.target.labels),
                    "type": family.kind.as_str(),
                    "help": family.help,
                    "unit": family.unit,
                });
                if let (None, Some(fields)) = (wanted, item.as_object_mut()) {
                    fields.insert("metric".to_owned(), Value::from(family.name.as_str()));
                }
                if told > 0 {
                    writer.out.push(',');
                }
                told += 1;
                write!(writer.out, "{item}").expect("writing to a String cannot fail");
                writer.check(budget)?;
            }
        }
        writer.out.push(']');
        Ok(writer.finish(&[], &[]).held_by(budget))
    })
    .await?;
    Ok(json_body(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_here_are_reached_under_the_external_host() {
        for (url, external, want) in [
            ("http://127.0.0.1:9100/metrics", "https://obs.example.org/p", "http://obs.example.org:9100/metrics"),
            ("http://localhost:9090/p/metrics", "https://obs.example.org/p", "https://obs.example.org/p/metrics"),
            ("http://[::1]:9100/metrics", "http://[2001:db8::1]:9090", "http://[2001:db8::1]:9100/metrics"),
            ("http://localhost/metrics?a=b", "http://h:9090", "http://h/metrics?a=b"),
            ("http://192.0.2.7:9090/metrics", "http://h:9090", "http://192.0.2.7:9090/metrics"),
        ] {
            assert_eq!(global_url(url, external, 9090), want);
        }
    }
}
