//! What else can be looked at: the configuration of a scrape pool, relabelling step by step, the parts of the store, the
//! process's own metrics as JSON.

use axum::extract::{Request, State};
use prometheus::proto::MetricType;
use serde_json::{Map, Value, json};
use trefoil_config::{RelabelConfig, ScrapeConfig};
use trefoil_model::{LabelsBuilder, StoredBlock};
use trefoil_promql::format_value;
use trefoil_scrape::Relabel;

use super::answer::{PromResult, label_map, success};
use crate::error::{ApiError, ErrorKind};
use crate::params::Params;
use crate::state::{App, AppState, run_query};

fn pool(state: &App, params: &Params) -> Result<ScrapeConfig, ApiError> {
    let name = params.get("scrapePool");
    if name.is_empty() {
        return Err(ApiError::bad_data("no scrapePool parameter provided"));
    }
    let loaded = state.config();
    let found = loaded.scrape_configs.iter().find(|c| c.job_name == name).cloned();
    found.ok_or_else(|| ApiError::bad_data(format!("error retrieving scrape config: scrape pool {name:?} not found")))
}

/// `GET /api/v1/scrape_pools/config`: what is in force for a pool, secrets masked.
pub(super) async fn pool_config(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    Ok(success(&json!({ "yaml": pool(&state, &params)?.to_yaml() })))
}

/// `GET /api/v1/targets/relabel_steps`: what each rule of a pool makes of labels.
pub(super) async fn relabel_steps(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    if params.get("scrapePool").is_empty() {
        return Err(ApiError::bad_data("no scrapePool parameter provided").into());
    }
    let text = params.get("labels");
    if text.is_empty() {
        return Err(ApiError::bad_data("no labels parameter provided").into());
    }
    let parsed: Map<String, Value> =
        serde_json::from_str(text).map_err(|e| ApiError::bad_data(format!("error parsing labels: {e}")))?;
    let mut labels = LabelsBuilder::new();
    for (name, value) in &parsed {
        let Some(value) = value.as_str() else {
            return Err(ApiError::bad_data(format!("error parsing labels: label {name:?} is not a text")).into());
        };
        labels.set(name.as_str(), value);
    }
    let mut keep = true;
    let mut steps = Vec::new();
    for config in pool(&state, &params)?.relabel_configs {
        let rule = Relabel::compile(std::slice::from_ref(&config)).map_err(|e| ApiError::internal(e.to_string()))?;
        keep = keep && rule.apply(&mut labels);
        let output = if keep { label_map(&labels.clone().build()) } else { json!({}) };
        steps.push(json!({ "rule": relabel_rule(&config), "output": output, "keep": keep }));
    }
    Ok(success(&json!({ "steps": steps })))
}

/// A rule as the reference shows it: what is empty is left out.
fn relabel_rule(c: &RelabelConfig) -> Value {
    let mut out = Map::new();
    if !c.source_labels.is_empty() {
        out.insert("source_labels".to_owned(), json!(c.source_labels));
    }
    out.insert("separator".to_owned(), json!(c.separator));
    out.insert("regex".to_owned(), json!(c.regex));
    if c.modulus > 0 {
        out.insert("modulus".to_owned(), json!(c.modulus));
    }
    if !c.target_label.is_empty() {
        out.insert("target_label".to_owned(), json!(c.target_label));
    }
    out.insert("replacement".to_owned(), json!(c.replacement));
    out.insert("action".to_owned(), json!(c.action.as_str()));
    Value::Object(out)
}

/// `GET /api/v1/status/tsdb/blocks`: the parts of the metrics store, as blocks.
pub(super) async fn blocks(State(state): State<AppState>) -> PromResult {
    let admin = state.admin.clone().ok_or_else(|| {
        ApiError::new(ErrorKind::Unavailable, "the store of this server does not support a list of blocks")
    })?;
    let tenant = state.tenant;
    let blocks = run_query(&state, None, move |_| Ok(admin.blocks(tenant))).await?;
    let block = |b: &StoredBlock| {
        json!({
            "ulid": ulid(b.created_ms, b.id),
            "minTime": b.min_t,
            // Behind the last sample, as in a block.
            "maxTime": b.max_t.saturating_add(1),
            "stats": { "numSamples": b.samples, "numSeries": b.series, "numChunks": 0 },
            "compaction": { "level": b.level, "sources": [ulid(b.created_ms, b.id)] },
            "version": 1,
        })
    };
    Ok(success(&json!({ "blocks": blocks.iter().map(block).collect::<Vec<_>>() })))
}

/// A ULID of a time and a number: 26 digits of Crockford's base 32.
fn ulid(t_ms: i64, id: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let all = u128::from(t_ms.max(0) as u64 & ((1 << 48) - 1)) << 80 | u128::from(id);
    (0..26).rev().map(|i| DIGITS[(all >> (5 * i) & 31) as usize] as char).collect()
}

/// `GET /api/v1/status/self_metrics`: the process's own metrics in the JSON form of the protobuf messages.
pub(super) async fn self_metrics(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let filter = match params.get("metric_name_pattern") {
        "" => None,
        pattern => Some(
            trefoil_model::anchored(pattern)
                .map_err(|e| ApiError::bad_data(format!("invalid metric_name_pattern: {e}")))?,
        ),
    };
    let families: Vec<Value> = prometheus::gather()
        .iter()
        .filter(|f| filter.as_ref().is_none_or(|r| r.is_match(f.name())))
        .map(|f| {
            let metrics: Vec<Value> = f.get_metric().iter().map(|m| metric(m, f.get_field_type())).collect();
            let kind = match f.get_field_type() {
                MetricType::COUNTER => "COUNTER",
                MetricType::GAUGE => "GAUGE",
                MetricType::SUMMARY => "SUMMARY",
                MetricType::HISTOGRAM => "HISTOGRAM",
                MetricType::UNTYPED => "UNTYPED",
            };
            json!({ "name": f.name(), "help": f.help(), "type": kind, "metric": metrics })
        })
        .collect();
    Ok(success(&Value::from(families)))
}

/// Numbers that JSON cannot hold are texts.
fn number(v: f64) -> Value {
    if v.is_finite() {
        return json!(v);
    }
    Value::from(format_value(v).replace("+Inf", "Infinity").replace("-Inf", "-Infinity"))
}

fn metric(m: &prometheus::proto::Metric, kind: MetricType) -> Value {
    let mut out = Map::new();
    let labels: Vec<Value> = m.get_label().iter().map(|l| json!({ "name": l.name(), "value": l.value() })).collect();
    if !labels.is_empty() {
        out.insert("label".to_owned(), Value::from(labels));
    }
    match kind {
        MetricType::COUNTER => {
            out.insert("counter".to_owned(), json!({ "value": number(m.get_counter().get_value()) }));
        }
        MetricType::GAUGE => {
            out.insert("gauge".to_owned(), json!({ "value": number(m.get_gauge().get_value()) }));
        }
        MetricType::HISTOGRAM => {
            let h = m.get_histogram();
            let buckets: Vec<Value> = h
                .get_bucket()
                .iter()
                .map(|b| {
                    json!({ "cumulativeCount": b.cumulative_count().to_string(), "upperBound": number(b.upper_bound()) })
                })
                .collect();
            let histogram = json!({
                "sampleCount": h.get_sample_count().to_string(),
                "sampleSum": number(h.get_sample_sum()),
                "bucket": buckets,
            });
            out.insert("histogram".to_owned(), histogram);
        }
        MetricType::SUMMARY | MetricType::UNTYPED => {}
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulids_sort_by_time() {
        assert_eq!(ulid(0, 0), "0".repeat(26));
        assert_eq!(ulid(1_469_918_176_385, 5), "01ARYZ6S410000000000000005");
        assert!(ulid(1, 9) < ulid(2, 1));
    }
}
