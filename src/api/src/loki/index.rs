//! How much there is: streams, entries and bytes of a selector, counted by reading.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::time::Duration;

use axum::extract::Request;
use serde_json::{Value, json};
use trefoil_model::labels::underscored;
use trefoil_model::{BudgetError, Direction, Labels, LogQuery, Matcher, NanoRange, StoreError};

use super::{logql_error, params, query_text, unwritable};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::AppState;

/// How long counting may take. What was counted until then is answered: the figures are hints for people.
const COUNT_TIME: Duration = Duration::from_secs(5);
/// Most series of a volume when no limit is given.
const VOLUME_LIMIT: usize = 100;

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    entries: u64,
    bytes: u64,
}

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

/// Counts by stream.
async fn count(
    state: &AppState,
    range: NanoRange,
    matchers: Vec<Matcher>,
) -> Result<(Vec<(Labels, Count)>, u64), ApiError> {
    let (logs, tenant) = (state.logs.clone(), state.tenant);
    let work = move |context: &trefoil_runtime::QueryContext| {
        let query = LogQuery { direction: Direction::Backward, ..LogQuery::new(tenant, range, matchers) };
        let mut at: HashMap<u64, usize> = HashMap::new();
        let mut counts: Vec<(Labels, Count)> = Vec::new();
        let scanned = logs.scan(&query, context, &mut |entry| {
            let at = *at.entry(entry.stream_ref).or_insert_with(|| {
                counts.push((entry.stream.clone(), Count::default()));
                counts.len() - 1
            });
            let count = &mut counts[at].1;
            count.entries += 1;
            count.bytes += entry.record.text.len() as u64;
            ControlFlow::Continue(())
        });
        let blocks = match scanned {
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
    let (counts, blocks) = count(state, range, matchers).await?;
    let (entries, bytes) =
        counts.iter().fold((0, 0), |(entries, bytes), (_, c)| (entries + c.entries, bytes + c.bytes));
    let body = json!({ "streams": counts.len(), "chunks": blocks, "bytes": bytes, "entries": entries });
    serde_json::to_vec(&body).map_err(unwritable)
}

/// The body of `index/volume`: bytes by series or by label, greatest first.
pub(super) async fn volume(state: &AppState, request: Request) -> Result<Vec<u8>, ApiError> {
    let Asked { params, range, matchers } = asked(state, request).await?;
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
    let (counts, _) = count(state, range, matchers).await?;
    let mut volumes: BTreeMap<Vec<(String, String)>, u64> = BTreeMap::new();
    for (labels, count) in &counts {
        let wanted: Vec<(String, String)> = labels
            .iter()
            .map(|(n, v)| (underscored(n).into_owned(), v.to_owned()))
            .filter(|(n, _)| targets.is_empty() || targets.contains(n))
            .collect();
        if by_label {
            for (name, _) in wanted {
                *volumes.entry(vec![(name, String::new())]).or_default() += count.bytes;
            }
        } else if !wanted.is_empty() {
            *volumes.entry(wanted).or_default() += count.bytes;
        }
    }
    let mut volumes: Vec<_> = volumes.into_iter().collect();
    volumes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    volumes.truncate(limit);
    let at = range.end_ns.div_euclid(1_000_000_000);
    let result: Vec<Value> = volumes
        .into_iter()
        .map(|(labels, bytes)| {
            let metric: serde_json::Map<String, Value> = labels.into_iter().map(|(n, v)| (n, Value::from(v))).collect();
            json!({ "metric": metric, "value": [at, bytes.to_string()] })
        })
        .collect();
    let body = json!({ "status": "success", "data": { "resultType": "vector", "result": result } });
    serde_json::to_vec(&body).map_err(unwritable)
}
