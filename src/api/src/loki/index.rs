//! How much there is: streams, entries and bytes of a selector, from the statistics of the store's blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::extract::Request;
use serde_json::{Value, json};
use trefoil_model::labels::underscored;
use trefoil_model::{BudgetError, Labels, LogVolume, Matcher, NanoRange, StoreError, VolumeQuery};

use super::{logql_error, params, query_text, unwritable};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::AppState;

/// How long counting may take. What was counted until then is answered: the figures are hints for people.
const COUNT_TIME: Duration = Duration::from_secs(5);
/// Most series of a volume when no limit is given.
const VOLUME_LIMIT: usize = 100;
const NS_PER_SECOND: i64 = 1_000_000_000;

struct Asked {
    params: Params,
    range: NanoRange,
    matchers: Vec<Matcher>,
}

async fn asked(state: &AppState, request: Request) -> Result<Asked, ApiError> {
    let params = Params::read(state, request).await?;
    let range = params::bounds(&params, state.clock.now_ns())?;
    let matchers = trefoil_logql::parse_selector(&query_text(state, &params)?).map_err(logql_error)?;
    Ok(Asked { params, range, matchers })
}

/// Volumes by stream and step of so many nanoseconds, 0 for a single one; and the number of blocks that were read.
pub(super) async fn count(
    state: &AppState,
    range: NanoRange,
    matchers: Vec<Matcher>,
    step_ns: i64,
) -> Result<(BTreeMap<Labels, BTreeMap<usize, LogVolume>>, u64), ApiError> {
    let (logs, tenant) = (state.logs.clone(), state.tenant);
    let work = move |context: &trefoil_runtime::QueryContext| {
        let query = VolumeQuery { tenant, range, matchers: &matchers, step_ns };
        let mut counts: BTreeMap<Labels, BTreeMap<usize, LogVolume>> = BTreeMap::new();
        let counted = logs.volumes(&query, context, &mut |labels, _, step, volume| {
            // A clone of labels only counts up.
            counts.entry(labels.clone()).or_default().entry(step).or_default().add(volume);
        });
        let blocks = match counted {
            Ok(stats) => stats.blocks,
            Err(StoreError::Budget(BudgetError::Timeout(_))) => 0,
            Err(error) => return Err(error.into()),
        };
        Ok((counts, blocks))
    };
    state.gate.run(state, Some(COUNT_TIME), work).await
}

/// The body of `index/stats`.
pub(super) async fn stats(state: &AppState, request: Request) -> Result<Vec<u8>, ApiError> {
    let Asked { range, matchers, .. } = asked(state, request).await?;
    let (counts, blocks) = count(state, range, matchers, 0).await?;
    let mut all = LogVolume::default();
    counts.values().flat_map(BTreeMap::values).for_each(|volume| all.add(*volume));
    let body = json!({ "streams": counts.len(), "chunks": blocks, "bytes": all.bytes, "entries": all.records });
    serde_json::to_vec(&body).map_err(unwritable)
}

/// The body of `index/volume`: bytes by series or by label, greatest first.
pub(super) async fn volume(state: &AppState, request: Request) -> Result<Vec<u8>, ApiError> {
    let asked = asked(state, request).await?;
    let end_ns = asked.range.end_ns;
    let volumes = volumes(state, asked).await?;
    let at = end_ns.div_euclid(NS_PER_SECOND);
    let result: Vec<Value> =
        volumes.iter().map(|(metric, bytes)| json!({ "metric": metric, "value": [at, bytes.to_string()] })).collect();
    let body = json!({ "status": "success", "data": { "resultType": "vector", "result": result } });
    serde_json::to_vec(&body).map_err(unwritable)
}

/// Labels of a volume.
type Metric = BTreeMap<String, String>;

/// Bytes of the series or labels that are asked for, greatest first, no more than asked for.
async fn volumes(state: &AppState, asked: Asked) -> Result<Vec<(Metric, u64)>, ApiError> {
    let Asked { params, range, matchers } = asked;
    let limit = match params.get("limit") {
        "" => VOLUME_LIMIT,
        _ => params::limit(&params)?,
    };
    let by_label = match params.get("aggregateBy") {
        "" | "series" => false,
        "labels" => true,
        other => return Err(ApiError::bad_data(format!("invalid aggregation option {other:?}"))),
    };
    let mut targets: BTreeSet<String> =
        params.get("targetLabels").split(',').filter(|t| !t.is_empty()).map(|t| underscored(t).into_owned()).collect();
    if targets.is_empty() && !by_label {
        targets.extend(matchers.iter().map(|m| underscored(&m.name).into_owned()));
    }
    let (counts, _) = count(state, range, matchers, 0).await?;
    let mut volumes: BTreeMap<Metric, u64> = BTreeMap::new();
    for (labels, steps) in &counts {
        let wanted: Metric = labels
            .iter()
            .map(|(n, v)| (underscored(n).into_owned(), v.to_owned()))
            .filter(|(n, _)| targets.is_empty() || targets.contains(n))
            .collect();
        let metrics: Vec<Metric> = if by_label {
            wanted.into_keys().map(|name| BTreeMap::from([(name, String::new())])).collect()
        } else if wanted.is_empty() {
            Vec::new()
        } else {
            vec![wanted]
        };
        for metric in metrics {
            *volumes.entry(metric).or_default() += steps.values().map(|one| one.bytes).sum::<u64>();
        }
    }
    let mut volumes: Vec<_> = volumes.into_iter().collect();
    volumes.sort_by_cached_key(|(metric, bytes)| (std::cmp::Reverse(*bytes), metric.clone()));
    volumes.truncate(limit);
    Ok(volumes)
}
