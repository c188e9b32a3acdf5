//! Who calls whom, counted over the newest traces of a range.

use std::collections::BTreeMap;

use serde::Serialize;
use trefoil_model::{
    NanoRange, QueryBudget, SpanId, SpanQuery, StatusCode, StoreError, StoredTrace, TenantId, TraceReader,
};

use super::render::service_of;

/// Traces that are looked at.
const TRACES_MAX: usize = 1000;

/// A parent service, a child service, and the calls between them.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Edge {
    pub(crate) parent: String,
    pub(crate) child: String,
    pub(crate) call_count: u64,
    /// Calls of which the child says that they failed; Jaeger does not tell them.
    #[serde(skip)]
    pub(crate) error_count: u64,
}

/// The edges in the newest [`TRACES_MAX`] traces of the range, by parent and child.
pub(crate) fn edges(
    traces: &dyn TraceReader,
    tenant: TenantId,
    range: NanoRange,
    budget: &dyn QueryBudget,
) -> Result<Vec<Edge>, StoreError> {
    let query = SpanQuery { tenant, range: Some(range), limit: TRACES_MAX, ..SpanQuery::default() };
    let mut calls = BTreeMap::new();
    for trace in traces.find(&query, budget)? {
        budget.check()?;
        count(&trace, &mut calls);
    }
    let edge = |((parent, child), (call_count, error_count))| Edge { parent, child, call_count, error_count };
    Ok(calls.into_iter().map(edge).collect())
}

fn count(trace: &StoredTrace, calls: &mut BTreeMap<(String, String), (u64, u64)>) {
    let services: BTreeMap<SpanId, &str> =
        trace.groups.iter().flat_map(|g| g.spans.iter().map(|s| (s.span_id, service_of(&g.resource)))).collect();
    for group in &trace.groups {
        let child = service_of(&group.resource);
        for (span, parent) in group.spans.iter().filter_map(|s| Some((s, services.get(&s.parent_span_id?)?))) {
            if *parent != child {
                let entry = calls.entry(((*parent).to_owned(), child.to_owned())).or_default();
                entry.0 += 1;
                entry.1 += u64::from(span.status_code == StatusCode::Error);
            }
        }
    }
}
