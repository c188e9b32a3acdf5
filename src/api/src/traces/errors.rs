//! `errors`: spans that failed, in groups.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use axum::extract::{Request, State};
use serde::Serialize;
use trefoil_insight::traces::errors::{ATTRIBUTES, ErrorGroup, ErrorGroups};
use trefoil_model::{
    BudgetError, NanoRange, QueryBudget, SpanAttributeWants, SpanFold, SpanQuery, SpanRows, SpanWants, StatusCode,
};
use trefoil_runtime::QueryContext;

use super::{ask, count, note, range};
use crate::error::ApiError;
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;

/// Groups when the client does not say.
const GROUPS: usize = 100;
/// Most groups that are listed.
const GROUPS_LISTED_MAX: usize = 2_000;
/// Most groups that are counted apart.
const GROUPS_MAX: usize = 10_000;
/// What a group takes, about.
const GROUP_BYTES: u64 = 1_500;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    total: u64,
    groups_found: usize,
    /// Errors of groups for which there was no room.
    left_out: u64,
    groups: Vec<ShownGroup>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownGroup {
    service: String,
    span: String,
    #[serde(rename = "type")]
    kind: String,
    message: String,
    place: String,
    count: u64,
    first_seen: String,
    last_seen: String,
    counts: Vec<u64>,
    example_message: String,
    trace_id: String,
    span_id: String,
}

impl From<ErrorGroup> for ShownGroup {
    fn from(of: ErrorGroup) -> Self {
        let (trace, span, example_message) = of.example;
        Self {
            service: of.key.service,
            span: of.key.span,
            kind: of.key.kind,
            message: of.key.shape,
            place: of.key.place,
            count: of.count,
            first_seen: of.first_ns.to_string(),
            last_seen: of.last_ns.to_string(),
            counts: of.counts.to_vec(),
            example_message,
            trace_id: trace.to_string(),
            span_id: span.to_string(),
        }
    }
}

/// Takes the spans that failed.
struct Collect<'c> {
    groups: ErrorGroups,
    range: NanoRange,
    service: Option<&'c str>,
    span: Option<&'c str>,
    context: &'c QueryContext,
    charged: u64,
    failure: Option<BudgetError>,
}

impl Collect<'_> {
    fn take(&mut self, rows: &SpanRows<'_>) -> Result<(), BudgetError> {
        self.context.check()?;
        for row in 0..rows.len() {
            let set = &rows.sets[rows.set_of[row] as usize];
            let is_it = set.span.status_code == StatusCode::Error
                && self.range.contains(rows.starts[row])
                && self.service.is_none_or(|service| set.resource.service_name() == service)
                && self.span.is_none_or(|name| set.span.name == name);
            if is_it {
                let ids = (rows.traces[rows.trace_of[row] as usize], rows.span_ids[row]);
                self.groups.note(set.span, set.resource, ids, rows.starts[row]);
            }
        }
        let held = self.groups.len() as u64 * GROUP_BYTES;
        if held > self.charged {
            self.context.charge_bytes(held - self.charged)?;
            self.charged = held;
        }
        Ok(())
    }
}

impl SpanFold for Collect<'_> {
    fn rows(&mut self, rows: &SpanRows<'_>) -> ControlFlow<()> {
        match self.take(rows) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

/// `GET`, `POST /api/v1/traces/errors`
pub(super) async fn errors(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let range = range(&state, &params)?;
    let most = count(&params, "limit", GROUPS, GROUPS_LISTED_MAX)?;
    let service = Some(params.get("service").to_owned()).filter(|service| !service.is_empty());
    let operation = Some(params.get("span").to_owned()).filter(|name| !name.is_empty());
    let sort = params.get("sort").to_owned();
    if !["", "count", "first", "last"].contains(&sort.as_str()) {
        return Err(ApiError::parameter("sort", format!("{sort:?} is none of count, first, last")).into());
    }
    let note = note("/api/v1/traces/errors", client, service.as_deref().unwrap_or(""), range);
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    ask(&state, note, move |context| {
        let names = ATTRIBUTES.map(str::to_owned);
        let wants = SpanWants {
            attributes: SpanAttributeWants::Names(&names),
            without_resources: true,
            without_links: true,
            is_error: true,
            ..SpanWants::default()
        };
        let query = SpanQuery {
            tenant,
            range: Some(range),
            service: service.clone(),
            operation: operation.clone(),
            ..SpanQuery::default()
        };
        let groups = ErrorGroups::new((range.start_ns, range.end_ns), GROUPS_MAX);
        let (service, span) = (service.as_deref(), operation.as_deref());
        let mut collect = Collect { groups, range, service, span, context, charged: 0, failure: None };
        traces.fold_spans(&query, &wants, context, &mut collect)?;
        if let Some(error) = collect.failure {
            return Err(error.into());
        }
        let (total, left_out) = (collect.groups.total, collect.groups.left_out);
        let mut groups = collect.groups.finish();
        match sort.as_str() {
            "first" => groups.sort_by_key(|group| Reverse(group.first_ns)),
            "last" => groups.sort_by_key(|group| Reverse(group.last_ns)),
            _ => {}
        }
        let groups_found = groups.len();
        let groups = groups.into_iter().take(most).map(ShownGroup::from).collect();
        Ok(Shown { total, groups_found, left_out, groups })
    })
    .await
}
