//! The traces of a search, one after the other, for those who look at them as a whole.

use std::ops::ControlFlow;

use trefoil_model::{NanoRange, QueryBudget, SpanQuery, StoredTrace, TenantId, TraceReader};

use crate::Error;
use crate::ast::QueryKind;
use crate::candidates::narrow;
use crate::needs::{Conditions, Needs};
use crate::parser::parse;
use crate::sets::Sets;
use crate::trace_view::TraceView;

/// Which traces are visited.
#[derive(Debug, Clone, Copy)]
pub struct TracesQuery<'a> {
    /// The text of a search.
    pub query: &'a str,
    /// A span of the result starts here.
    pub range: NanoRange,
    /// Tenant.
    pub tenant: TenantId,
}

/// Delivers every trace with a result to `each` until it breaks, about the newest first. Of its spans ids, parents,
/// times, names, kinds, status and services are there, the rest may be missing.
///
/// Errors: the query is refused or gives series, or the store or the budget fail.
pub fn each_trace(
    query: &TracesQuery<'_>,
    reader: &dyn TraceReader,
    budget: &dyn QueryBudget,
    each: &mut dyn FnMut(&StoredTrace) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    crate::figures::counted(|| {
        let parsed = parse(query.query)?;
        let QueryKind::Search(pipeline) = &parsed.kind else {
            return Err(Error::Query("a metrics query gives series, not traces".to_owned()));
        };
        let mut wanted = SpanQuery { tenant: query.tenant, range: Some(query.range), ..SpanQuery::default() };
        narrow(&mut wanted, pipeline);
        let mut one = |stored: &StoredTrace| -> Result<ControlFlow<()>, Error> {
            budget.check()?;
            let trace = TraceView::new(stored);
            let sets = Sets { trace: &trace, budget }.run(pipeline)?;
            let mut starts = sets.iter().flat_map(|s| &s.spans).map(|i| trace.spans[*i as usize].span.start_ns);
            if starts.any(|t| query.range.contains(t)) { each(stored) } else { Ok(ControlFlow::Continue(())) }
        };
        let mut failure = None;
        let mut visit = |stored: &StoredTrace, _: i64| {
            one(stored).unwrap_or_else(|error| {
                failure = Some(error);
                ControlFlow::Break(())
            })
        };
        let mut needs = Needs::default();
        needs.pipeline(pipeline);
        let conditions = Conditions::of(pipeline);
        conditions.tell(needs.wants(), |wants| reader.visit_wanted(&wanted, wants, budget, &mut visit))?;
        failure.map_or(Ok(()), Err)
    })
}
