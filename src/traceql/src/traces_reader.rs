//! The reader contract over traces in memory: for tests and case files.
//!
//! Hints are used to the full, so that a wrong one shows as a wrong result.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use trefoil_model::trace_visit::latest_start;
use trefoil_model::{
    NanoRange, QueryBudget, SpanKind, SpanQuery, StoreError, StoredTrace, TenantId, TraceId, TraceReader,
};

/// Traces in any order.
#[derive(Debug, Default, Clone)]
pub struct TracesReader {
    /// The traces.
    pub traces: Vec<StoredTrace>,
}

impl TraceReader for TracesReader {
    fn trace(
        &self,
        _: TenantId,
        id: TraceId,
        _: Option<NanoRange>,
        _: &dyn QueryBudget,
    ) -> Result<Option<StoredTrace>, StoreError> {
        Ok(self.traces.iter().find(|t| t.trace_id == id).cloned())
    }

    fn find(&self, query: &SpanQuery, budget: &dyn QueryBudget) -> Result<Vec<StoredTrace>, StoreError> {
        budget.check()?;
        if !query.tags.is_empty() {
            return Err(StoreError::Unsupported("tags are not searched here".to_owned()));
        }
        let mut found: Vec<(Reverse<i64>, &StoredTrace)> =
            self.traces.iter().filter_map(|t| latest_start(query, t).map(|at| (Reverse(at), t))).collect();
        found.sort_by_key(|(at, t)| (*at, t.trace_id));
        Ok(found.into_iter().take(query.limit).map(|(_, t)| t.clone()).collect())
    }

    fn services(&self, _: TenantId, _: NanoRange, _: &dyn QueryBudget) -> Result<Vec<String>, StoreError> {
        let names = self.traces.iter().flat_map(|t| t.groups.iter().map(|g| g.resource.service_name().to_owned()));
        Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn operations(
        &self,
        _: TenantId,
        service: &str,
        _: NanoRange,
        _: &dyn QueryBudget,
    ) -> Result<Vec<(String, SpanKind)>, StoreError> {
        let groups = self.traces.iter().flat_map(|t| &t.groups).filter(|g| g.resource.service_name() == service);
        let mut found: Vec<_> = groups.flat_map(|g| g.spans.iter().map(|s| (s.name.clone(), s.kind))).collect();
        found.sort_by(|a, b| (&a.0, a.1 as u8).cmp(&(&b.0, b.1 as u8)));
        found.dedup();
        Ok(found)
    }
}
