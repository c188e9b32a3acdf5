//! Who calls whom: from the graph of services, which counts all spans. A range of which it knows nothing (it was off, or
//! its spans say no kinds) is answered from its newest traces.

use std::collections::BTreeMap;

use serde::Serialize;
use trefoil_insight::spans::{USER, graph};
use trefoil_model::{
    MetricReader, NanoRange, QueryBudget, SpanId, SpanQuery, StatusCode, StoreError, StoredTrace, TenantId, TimeRange,
    TraceReader,
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

/// The edges of the range, by parent and child.
pub(crate) fn edges(
    metrics: &dyn MetricReader,
    traces: &dyn TraceReader,
    tenant: TenantId,
    range: NanoRange,
    budget: &dyn QueryBudget,
) -> Result<Vec<Edge>, StoreError> {
    let known = edges_of_graph(metrics, tenant, range, budget)?;
    if !known.is_empty() {
        return Ok(known);
    }
    let query = SpanQuery { tenant, range: Some(range), limit: TRACES_MAX, ..SpanQuery::default() };
    let mut calls = BTreeMap::new();
    for trace in traces.find(&query, budget)? {
        budget.check()?;
        count(&trace, &mut calls);
    }
    Ok(listed(calls))
}

fn listed(calls: BTreeMap<(String, String), (u64, u64)>) -> Vec<Edge> {
    let edge = |((parent, child), (call_count, error_count))| Edge { parent, child, call_count, error_count };
    calls.into_iter().map(edge).collect()
}

/// Calls between two different nodes that both have a name; who calls from outside is none.
fn edges_of_graph(
    metrics: &dyn MetricReader,
    tenant: TenantId,
    range: NanoRange,
    budget: &dyn QueryBudget,
) -> Result<Vec<Edge>, StoreError> {
    let ms = |ns: i64| ns.div_euclid(1_000_000);
    let range = TimeRange::new(ms(range.start_ns), ms(range.end_ns).saturating_add(1));
    let mut calls: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for edge in graph::read(metrics, tenant, range, budget)? {
        if edge.client.is_empty() || edge.client == USER || edge.client == edge.server {
            continue;
        }
        let entry = calls.entry((edge.client, edge.server)).or_default();
        entry.0 += edge.requests.round() as u64;
        entry.1 += edge.failed.round() as u64;
    }
    Ok(listed(calls))
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
