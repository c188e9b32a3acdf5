//! `differences`: what separates selected spans from others.

use axum::extract::{Request, State};
use serde::Serialize;
use serde_json::Value;
use trefoil_insight::traces::differ::{Counted, Difference, Place, Told, ValueDifference};
use trefoil_model::NanoRange;
use trefoil_traceql::{DifferQuery, what_differs};

use super::{ask, count, note, query_text, range, time_of, traceql_error};
use crate::error::ApiError;
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;

/// Attributes when the client does not say.
const ATTRIBUTES: usize = 50;
/// Most attributes.
const ATTRIBUTES_MAX: usize = 1_000;
/// Values of each when the client does not say.
const VALUES: usize = 5;
/// Most values of each.
const VALUES_MAX: usize = 100;

/// An answer about what differs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown {
    selection: u64,
    baseline: u64,
    is_cut: bool,
    attributes: Vec<ShownAttribute>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownAttribute {
    scope: &'static str,
    name: String,
    score: f64,
    /// Whether the selection itself asks for it.
    asked: bool,
    selection: u64,
    baseline: u64,
    distinct: usize,
    is_cut: bool,
    values: Vec<ShownValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownValue {
    /// `is`, `at_least` or `absent`.
    what: &'static str,
    value: Value,
    selection: u64,
    baseline: u64,
    selection_share: f64,
    baseline_share: f64,
    score: f64,
}

fn shown_value(of: &ValueDifference) -> ShownValue {
    let (what, value) = match &of.told {
        Told::Is(Counted::Text(text)) => ("is", Value::from(&**text)),
        Told::Is(Counted::Int(number)) => ("is", Value::from(*number)),
        Told::Is(Counted::Float(number)) => ("is", Value::from(*number)),
        Told::Is(Counted::Bool(is)) => ("is", Value::from(*is)),
        Told::AtLeast(number) => ("at_least", Value::from(*number)),
        Told::Absent => ("absent", Value::Null),
    };
    let ([baseline, selection], [baseline_share, selection_share]) = (of.counts, of.shares);
    ShownValue { what, value, selection, baseline, selection_share, baseline_share, score: of.score }
}

impl Shown {
    /// Of totals (baseline, selection) and differences, the best first; `asked` says which names the selection asks for.
    pub(crate) fn new(
        totals: [u64; 2],
        differences: Vec<Difference>,
        most: usize,
        is_cut: bool,
        own: &'static str,
        asked: impl Fn(&str) -> bool,
    ) -> Self {
        let one = |of: Difference| ShownAttribute {
            scope: match of.place {
                Place::Intrinsic => "intrinsic",
                Place::Resource if own == "field" => "stream",
                Place::Resource => "resource",
                Place::Own => own,
            },
            score: of.score,
            asked: asked(&of.name),
            selection: of.has[1],
            baseline: of.has[0],
            distinct: of.distinct,
            is_cut: of.is_cut,
            values: of.values.iter().map(shown_value).collect(),
            name: of.name,
        };
        let attributes = differences.into_iter().take(most).map(one).collect();
        Self { selection: totals[1], baseline: totals[0], is_cut, attributes }
    }
}

/// Most attributes and most values of each.
pub(crate) fn counts(params: &Params) -> Result<(usize, usize), ApiError> {
    Ok((count(params, "limit", ATTRIBUTES, ATTRIBUTES_MAX)?, count(params, "values", VALUES, VALUES_MAX)?))
}

/// `GET`, `POST /api/v1/traces/differences`
pub(super) async fn differences(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    if params.get("selection").trim().is_empty() {
        return Err(ApiError::parameter("selection", "a TraceQL search of the selected spans must be given").into());
    }
    let (spans, selection) = (query_text(&state, &params, "q")?, query_text(&state, &params, "selection")?);
    let baseline = match params.get("baseline") {
        "" => String::new(),
        _ => query_text(&state, &params, "baseline")?,
    };
    let range = range(&state, &params)?;
    let baseline_range = NanoRange {
        start_ns: time_of(&params, "baseline_start")?.unwrap_or(range.start_ns),
        end_ns: time_of(&params, "baseline_end")?.map_or(range.end_ns, |end| end.saturating_add(1)),
    };
    if baseline_range.end_ns <= baseline_range.start_ns {
        return Err(ApiError::bad_data("baseline_end must not be before baseline_start").into());
    }
    let (most, values) = counts(&params)?;
    let note = note("/api/v1/traces/differences", client, &selection, range);
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    ask(&state, note, move |context| {
        let (spans, selection, baseline) = (spans.as_str(), selection.as_str(), baseline.as_str());
        let query = DifferQuery { spans, selection, baseline, range, baseline_range, values, tenant };
        let found = what_differs(&query, traces.as_ref(), context).map_err(traceql_error)?;
        let asked = found.asked;
        Ok(Shown::new(found.totals, found.differences, most, found.is_cut, "span", |name| asked.contains(name)))
    })
    .await
}
