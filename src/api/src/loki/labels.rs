//! Labels and series of the streams that have lines in a range; names underscored.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::Request;
use serde_json::{Value, json};
use trefoil_model::labels::underscored;
use trefoil_model::{Labels, Matcher, NanoRange};
use trefoil_runtime::limits;

use super::render::LabelsOf;
use super::{logql_error, params, query_text, unwritable, within};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::AppState;

/// What the endpoints of labels are asked for.
struct Selection {
    range: NanoRange,
    matchers: Vec<Matcher>,
}

async fn selection(state: &AppState, request: Request) -> Result<Selection, ApiError> {
    let params = Params::read(state, request).await?;
    let range = params::bounds(&params, state.clock.now_ns())?;
    let query = query_text(state, &params)?;
    let matchers = if query.trim().is_empty() {
        Vec::new()
    } else {
        trefoil_logql::parse_selector(&query).map_err(logql_error)?
    };
    Ok(Selection { range, matchers })
}

/// Streams of several selectors with underscored names, each once.
async fn streams(
    state: &AppState,
    range: NanoRange,
    selectors: Vec<Vec<Matcher>>,
) -> Result<BTreeSet<Labels>, ApiError> {
    let (logs, tenant) = (state.logs.clone(), state.tenant);
    let work = move |context: &trefoil_runtime::QueryContext| {
        let mut all = BTreeSet::new();
        for matchers in &selectors {
            let found = logs.streams(tenant, range, matchers, context)?;
            all.extend(found.into_iter().map(|l| underscored_labels(&l)));
        }
        Ok(all)
    };
    state.gate.run(state, None, work).await
}

fn underscored_labels(labels: &Labels) -> Labels {
    Labels::from_pairs(labels.iter().map(|(n, v)| (underscored(n), v)))
}

/// Takes at most `max`; a warning says that there were more.
fn cut<T>(all: impl IntoIterator<Item = T>, max: usize, limit: &'static str) -> (Vec<T>, Option<String>) {
    let mut all = all.into_iter();
    let kept: Vec<T> = all.by_ref().take(max).collect();
    let warning = all.next().map(|_| {
        limits::hit(limit);
        format!("results truncated to {max} (limit {limit})")
    });
    (kept, warning)
}

fn list_answer(data: Vec<Value>, absent_when_empty: bool, warning: Option<String>) -> Result<Vec<u8>, ApiError> {
    let mut body = json!({ "status": "success" });
    if !(data.is_empty() && absent_when_empty) {
        body["data"] = Value::Array(data);
    }
    if let Some(warning) = warning {
        body["warnings"] = json!([warning]);
    }
    serde_json::to_vec(&body).map_err(unwritable)
}

/// The body of `labels`.
pub(super) async fn names(state: &AppState, request: Request) -> Result<Vec<u8>, ApiError> {
    let Selection { range, matchers } = selection(state, request).await?;
    let streams = streams(state, range, vec![matchers]).await?;
    let names: BTreeSet<&str> = streams.iter().flat_map(|l| l.iter().map(|(n, _)| n)).collect();
    let (names, warning) = cut(names, state.limits.label_values_max, "label_values_max");
    list_answer(names.into_iter().map(Value::from).collect(), true, warning)
}

/// The body of `label/{name}/values`.
pub(super) async fn values(state: &AppState, name: String, request: Request) -> Result<Vec<u8>, ApiError> {
    let Selection { range, matchers } = selection(state, request).await?;
    let name = underscored(&name).into_owned();
    let streams = streams(state, range, vec![matchers]).await?;
    let values: BTreeSet<&str> = streams.iter().filter_map(|l| l.get(&name)).collect();
    let (values, warning) = cut(values, state.limits.label_values_max, "label_values_max");
    list_answer(values.into_iter().map(Value::from).collect(), true, warning)
}

/// The body of `detected_labels`: every stream label with the number of its values.
pub(super) async fn detected(state: &AppState, request: Request) -> Result<Vec<u8>, ApiError> {
    let Selection { range, matchers } = selection(state, request).await?;
    let streams = streams(state, range, vec![matchers]).await?;
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in streams.iter().flatten() {
        values.entry(name).or_default().insert(value);
    }
    let labels: Vec<Value> =
        values.iter().map(|(label, values)| json!({ "label": label, "cardinality": values.len() })).collect();
    serde_json::to_vec(&json!({ "detectedLabels": labels })).map_err(unwritable)
}

/// The body of `series`.
pub(super) async fn series(state: &AppState, request: Request) -> Result<Vec<u8>, ApiError> {
    let params = Params::read(state, request).await?;
    let range = params::bounds(&params, state.clock.now_ns())?;
    let mut selectors = Vec::new();
    for text in params.all("match[]").chain(params.all("match")) {
        selectors.push(trefoil_logql::parse_selector(text).map_err(logql_error)?);
    }
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    let streams = streams(state, range, selectors).await?;
    let (streams, warning) = cut(&streams, state.limits.series_api_max, "series_api_max");
    let mut data = Vec::with_capacity(streams.len());
    for labels in streams {
        data.push(serde_json::to_value(LabelsOf(labels)).map_err(unwritable)?);
    }
    within(list_answer(data, false, warning)?, state.limits.response_bytes_max)
}
