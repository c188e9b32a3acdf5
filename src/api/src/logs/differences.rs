//! `differences`: what separates selected lines from others.

use std::ops::ControlFlow;

use axum::extract::{Request, State};
use trefoil_insight::traces::differ::{BASELINE, Place, SELECTION, Tally};
use trefoil_model::span_values::ValueRef;
use trefoil_model::{Direction, QueryBudget};

use super::answer;
use super::compose::Asked;
use super::source::{Source, run};
use crate::error::ApiError;
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;
use crate::traces::count;
use crate::traces::differences::{Shown, counts};

/// Lines of each side that are looked at when the client does not say.
const LINES: usize = 100_000;
/// Most lines of each side.
const LINES_MAX: usize = 1_000_000;
/// Fields that are counted.
const FIELDS_MAX: usize = 1_000;
/// Values of a field that are counted apart.
const VALUES_MAX: usize = 5_000;

/// Counts the newest lines of a query; how many.
fn tally(
    source: &Source<'_>,
    asked: &Asked,
    query: &str,
    most: usize,
    class: u32,
    into: &mut Tally,
) -> Result<u64, ApiError> {
    let (mut lines, mut charged) = (0u64, into.held_bytes());
    source.each(query, asked.range, Direction::Backward, &mut |stream, entry| {
        lines += 1;
        for (name, value) in stream.iter() {
            into.attribute(Place::Resource, name);
            into.value(ValueRef::Text(value), class, 1);
        }
        for (name, value) in entry.structured_metadata.iter().chain(&entry.parsed) {
            into.attribute(Place::Own, name);
            into.value(ValueRef::Text(value), class, 1);
        }
        let held = into.held_bytes();
        if held > charged {
            source.context.charge_bytes(held - charged)?;
            charged = held;
        }
        Ok(if lines < most as u64 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(lines)
}

/// `GET`, `POST /api/v1/logs/differences`
pub(super) async fn differences(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let selection = params.get("selection").to_owned();
    if selection.trim().is_empty() {
        return Err(ApiError::parameter("selection", "a LogQL query of the selected lines must be given").into());
    }
    let baseline = params.get("baseline").to_owned();
    let asked = Asked::read(&state, &params)?;
    let lines = count(&params, "lines", LINES, LINES_MAX)?;
    let (most, values) = counts(&params)?;
    let data = run(&state, "/api/v1/logs/differences", &client, asked, move |source, asked| {
        let mut counted = Tally::new(2, FIELDS_MAX, VALUES_MAX);
        let selected = tally(source, &asked, &selection, lines, SELECTION, &mut counted)?;
        let (query, is_all) = match baseline.trim() {
            "" => (asked.compose(source, &[])?, true),
            _ => (baseline, false),
        };
        let mut others = tally(source, &asked, &query, lines, BASELINE, &mut counted)?;
        if is_all && others < lines as u64 {
            // All lines: the selected ones are among them.
            counted.exclude_selection();
            others = others.saturating_sub(selected);
        }
        let is_cut = counted.is_cut || selected >= lines as u64 || others >= lines as u64;
        let totals = [others, selected];
        let differences = counted.differences(totals, values);
        let shown = Shown::new(totals, differences, most, is_cut, "field", |_| false);
        serde_json::to_value(shown).map_err(|error| ApiError::internal(error.to_string()))
    })
    .await?;
    answer(&state, &data)
}
