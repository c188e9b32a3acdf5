//! `index/volume_range`: bytes by series or by label in steps of time, from the statistics of the store's blocks.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::Request;
use serde_json::{Map, Value, json};
use trefoil_model::Labels;
use trefoil_model::labels::underscored;

use super::{logql_error, params, query_text, unwritable, within};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::AppState;

/// Most series when no limit is given.
const VOLUME_LIMIT: usize = 100;
/// Most steps.
const STEPS_MAX: i64 = 11_000;

/// Which volumes are wanted.
struct Wanted {
    by_label: bool,
    /// Empty: all labels.
    targets: BTreeSet<String>,
}

impl Wanted {
    /// The label sets under which bytes of a stream are counted.
    fn keys(&self, stream: &Labels) -> Vec<Vec<(String, String)>> {
        let picked: Vec<(String, String)> = stream
            .iter()
            .map(|(n, v)| (underscored(n).into_owned(), v.to_owned()))
            .filter(|(n, _)| self.targets.is_empty() || self.targets.contains(n))
            .collect();
        match (self.by_label, picked.is_empty()) {
            (_, true) => Vec::new(),
            (true, _) => picked.into_iter().map(|(name, _)| vec![(name, String::new())]).collect(),
            (false, _) => vec![picked],
        }
    }
}

/// The body of `index/volume_range`: series with the most bytes first; the time of a point is the start of its step.
pub(super) async fn volume_range(state: &AppState, request: Request) -> Result<Vec<u8>, ApiError> {
    let params = Params::read(state, request).await?;
    let asked = params::range(&params, state.clock.now_ns())?;
    let limit = params::count(&params, "limit", VOLUME_LIMIT)?;
    let (start_ns, step_ns) = (asked.start_ns, asked.step_ns);
    if asked.end_ns.saturating_sub(start_ns) / step_ns >= STEPS_MAX {
        return Err(ApiError::bad_data(format!("exceeded maximum resolution of {STEPS_MAX} points per series")));
    }
    let matchers = trefoil_logql::parse_selector(&query_text(state, &params)?).map_err(logql_error)?;
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
    let wanted = Wanted { by_label, targets };
    let range = trefoil_model::NanoRange::new(start_ns, asked.end_ns);
    let (streams, _) = super::index::count(state, range, matchers, step_ns).await?;
    let mut volumes: BTreeMap<Vec<(String, String)>, BTreeMap<usize, u64>> = BTreeMap::new();
    for (labels, steps) in &streams {
        for key in wanted.keys(labels) {
            let sums = volumes.entry(key).or_default();
            for (step, volume) in steps {
                *sums.entry(*step).or_default() += volume.bytes;
            }
        }
    }
    let mut volumes: Vec<_> = volumes.into_iter().map(|(l, s)| (s.values().sum::<u64>(), l, s)).collect();
    volumes.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    volumes.truncate(limit);
    let result: Vec<Value> = volumes
        .into_iter()
        .map(|(_, labels, steps)| {
            let metric: Map<String, Value> = labels.into_iter().map(|(n, v)| (n, Value::from(v))).collect();
            let values: Vec<Value> = steps
                .into_iter()
                .map(|(step, bytes)| {
                    let at_ms = start_ns.saturating_add(step_ns.saturating_mul(step as i64)).div_euclid(1_000_000);
                    json!([at_ms as f64 / 1000.0, bytes.to_string()])
                })
                .collect();
            json!({ "metric": metric, "values": values })
        })
        .collect();
    let body = json!({ "status": "success", "data": { "resultType": "matrix", "result": result } });
    within(serde_json::to_vec(&body).map_err(unwritable)?, state.limits.response_bytes_max)
}
