//! The reader contract over traces in memory: for tests and case files.
//!
//! Hints are used to the full, so that a wrong one shows as a wrong result.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use trefoil_model::span_columns::{deliver_of, root_of};
use trefoil_model::trace_visit::{latest_start, may_match};
use trefoil_model::value::find;
use trefoil_model::{
    AttributeValue, Attributes, ConditionScope, NanoRange, QueryBudget, Resource, Scope, Span, SpanCondition, SpanFold,
    SpanGroup, SpanKind, SpanQuery, SpanWants, StatusCode, StoreError, StoredTrace, TenantId, TraceFacts, TraceId,
    TraceReader,
};

/// Traces in any order.
#[derive(Debug, Default, Clone)]
pub struct TracesReader {
    /// The traces.
    pub traces: Vec<StoredTrace>,
}

/// Whether a span satisfies the query and all conditions.
fn is_wanted(query: &SpanQuery, wants: &SpanWants<'_>, (resource, scope): (&Resource, &Scope), span: &Span) -> bool {
    let holds = |c: &SpanCondition<'_>| {
        let first = |attributes| (c.test)(find(attributes, c.name).unwrap_or(&AttributeValue::Null));
        let is_of = |value: &AttributeValue| c.any_of.contains(&value.to_text());
        let has_one = |attributes: &Attributes| {
            attributes.iter().filter(|(name, _)| name == c.name).any(|(_, value)| match value {
                AttributeValue::Array(items) => is_of(value) || items.iter().any(is_of),
                _ => is_of(value),
            })
        };
        let has_text = || {
            let own = [&span.attributes, &resource.attributes, &scope.attributes].into_iter();
            let events = span.events.iter().map(|e| &e.attributes);
            let mut all = own.chain(events).chain(span.links.iter().map(|l| &l.attributes));
            c.any_of.is_empty() || all.any(has_one)
        };
        has_text()
            && match c.scope {
                ConditionScope::Any => true,
                ConditionScope::Span => first(&span.attributes),
                ConditionScope::Resource if c.name == "service.name" => {
                    (c.test)(&AttributeValue::String(resource.service_name().to_owned()))
                }
                ConditionScope::Resource => first(&resource.attributes),
            }
    };
    may_match(query, resource.service_name(), span)
        && (!wants.is_error || span.status_code == StatusCode::Error)
        && (!wants.is_root || span.parent_span_id.is_none())
        && wants.light.is_none_or(|light| light(span))
        && wants.conditions.iter().all(holds)
}

fn latest_wanted(query: &SpanQuery, wants: &SpanWants<'_>, trace: &StoredTrace) -> Option<i64> {
    let spans = || trace.groups.iter().flat_map(|g| g.spans.iter().map(move |s| (g, s)));
    let roots = spans().filter(|(_, s)| s.parent_span_id.is_none());
    let root = roots.min_by_key(|(_, s)| (s.start_ns, s.span_id));
    let facts = TraceFacts {
        root: root.map(|(g, s)| (g.resource.service_name(), s.name.as_str())),
        start_ns: spans().map(|(_, s)| s.start_ns).min()?,
        end_ns: spans().map(|(_, s)| s.end_ns.max(s.start_ns)).max()?,
        spans: spans().count() as u64,
        errors: spans().filter(|(_, s)| s.status_code == StatusCode::Error).count() as u64,
    };
    if wants.trace.is_some_and(|holds| !holds(&facts)) {
        return None;
    }
    let wanted = spans().filter(|(g, span)| is_wanted(query, wants, (&g.resource, &g.scope), span));
    wanted.map(|(_, span)| span.start_ns).max()
}

/// A trace with nothing but what is wanted.
fn cut(trace: &StoredTrace, wants: &SpanWants<'_>) -> StoredTrace {
    let mut trace = trace.clone();
    for group in &mut trace.groups {
        if wants.without_resources {
            let name = AttributeValue::String(group.resource.service_name().to_owned());
            let attributes = vec![("service.name".to_owned(), name)];
            group.resource = Arc::new(Resource { attributes, ..Resource::default() });
            let (name, version) = (group.scope.name.clone(), group.scope.version.clone());
            group.scope = Arc::new(Scope { name, version, ..Scope::default() });
        }
        for span in &mut group.spans {
            span.attributes.retain(|(name, _)| wants.attributes.wants(name));
            if wants.without_events {
                span.events.clear();
            }
            if wants.without_links {
                span.links.clear();
            }
            if wants.without_messages {
                span.status_message.clear();
                span.trace_state.clear();
            }
        }
    }
    trace
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

    fn visit_wanted(
        &self,
        query: &SpanQuery,
        wants: &SpanWants<'_>,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(&StoredTrace, i64) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        budget.check()?;
        let mut found: Vec<(Reverse<i64>, &StoredTrace)> =
            self.traces.iter().filter_map(|t| latest_wanted(query, wants, t).map(|at| (Reverse(at), t))).collect();
        found.sort_by_key(|(at, t)| (*at, t.trace_id));
        for (Reverse(latest), trace) in found {
            if each(&cut(trace, wants), latest).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn fold_spans(
        &self,
        query: &SpanQuery,
        wants: &SpanWants<'_>,
        budget: &dyn QueryBudget,
        fold: &mut (dyn SpanFold + '_),
    ) -> Result<(), StoreError> {
        budget.check()?;
        for trace in &self.traces {
            let mut kept = trace.clone();
            kept.groups.iter_mut().for_each(|group| {
                let SpanGroup { resource, scope, spans } = group;
                spans.retain(|span| is_wanted(query, wants, (resource, scope), span));
            });
            if deliver_of(&cut(&kept, wants), root_of(trace), &|_, _| true, fold).is_break() {
                break;
            }
        }
        Ok(())
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
