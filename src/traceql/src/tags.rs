//! Names and values of attributes, for those who write queries.
//!
//! Of very many traces the newest are looked at: what nobody sent for long is not proposed.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use trefoil_model::{
    NanoRange, QueryBudget, SpanFold, SpanKind, SpanRows, SpanWants, StatusCode, StoredTrace, TenantId, TraceReader,
};

use crate::Error;
use crate::ast::{
    Attribute, FieldExpr, FieldKind, FieldOp, Intrinsic, Pipeline, QueryKind, Scope, SetExpr, Stage, Value,
};
use crate::candidates::narrow;
use crate::field::{attribute, evaluate};
use crate::metrics::spans_of;
use crate::needs::{Conditions, Needs};
use crate::parser::parse;
use crate::trace_view::{SpanView, TraceView};

/// Spans that are looked at, with the trace that passes it; the newest traces first.
pub const TAG_SPANS_MAX: u64 = 500_000;

/// Which spans' attributes are wanted.
#[derive(Debug, Clone, Copy)]
pub struct TagQuery<'a> {
    /// A query, which may be unfinished: what cannot be read is left out. "" for all spans.
    pub query: &'a str,
    /// Start of the spans.
    pub range: NanoRange,
    /// Most names of a scope, or most values.
    pub limit: usize,
    /// Tenant.
    pub tenant: TenantId,
}

/// Reads an attribute as it is named in a URL: `span.a`, `resource."a b"`, `duration`, `.a`, or a bare `a`, which is
/// looked up everywhere.
pub fn parse_attribute(text: &str) -> Option<Attribute> {
    let unquoted = |name: &str| {
        let inner = name.strip_prefix('"').and_then(|n| n.strip_suffix('"'));
        inner.map_or_else(|| name.to_owned(), |n| n.replace("\\\"", "\"").replace("\\\\", "\\"))
    };
    let named = |scope, name: &str| {
        let name = unquoted(name);
        (!name.is_empty()).then_some(Attribute::Named { scope, name })
    };
    let scopes = [Scope::Span, Scope::Resource, Scope::Event, Scope::Link, Scope::Instrumentation];
    for scope in scopes {
        if let Some(name) = text.strip_prefix(scope.as_str()).and_then(|rest| rest.strip_prefix('.')) {
            return named(scope, name);
        }
    }
    if let Some(intrinsic) = Intrinsic::from_name(text) {
        return Some(Attribute::Intrinsic(intrinsic));
    }
    named(Scope::Any, text.strip_prefix('.').unwrap_or(text))
}

/// The filter of an unfinished query: the conditions of its first braces that can be read and must all hold.
fn lenient(text: &str) -> Option<FieldExpr> {
    if let Ok(query) = parse(text)
        && let QueryKind::Search(pipeline) = query.kind
        && let Some(Stage::Spans(SetExpr::Filter(filter))) = pipeline.stages.into_iter().next()
    {
        return filter;
    }
    let inner = text.split_once('{')?.1;
    let mut parts = vec![String::new()];
    let (mut quote, mut escaped, mut last) = (None, false, ' ');
    for c in inner.chars() {
        match quote {
            Some(q) => {
                if c == q && !escaped {
                    quote = None;
                }
                escaped = c == '\\' && !escaped && q == '"';
            }
            None if c == '}' => break,
            None if c == '"' || c == '`' => quote = Some(c),
            None => {}
        }
        if quote.is_none() && c == '&' && last == '&' {
            if let Some(part) = parts.last_mut() {
                part.pop();
            }
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
        last = c;
    }
    let readable = |part: &String| {
        let text = format!("{{ {part} }}");
        (!part.trim().is_empty() && parse(&text).is_ok()).then(|| format!("({part})"))
    };
    let conditions: Vec<String> = parts.iter().filter_map(readable).collect();
    if conditions.is_empty() {
        return None;
    }
    match parse(&format!("{{ {} }}", conditions.join(" && "))).ok()?.kind {
        QueryKind::Search(pipeline) => match pipeline.stages.into_iter().next()? {
            Stage::Spans(SetExpr::Filter(filter)) => filter,
            _ => None,
        },
        QueryKind::Metrics(_) => None,
    }
}

/// The service, when a filter asks for one and for nothing else.
fn only_service(filter: &FieldExpr) -> Option<&str> {
    let FieldKind::Binary(b) = &filter.kind else { return None };
    match (&b.lhs.kind, &b.rhs.kind) {
        (FieldKind::Attribute(attribute), FieldKind::Value(Value::String(service)))
            if b.op == FieldOp::Equal && attribute.is_service_name() =>
        {
            Some(service)
        }
        _ => None,
    }
}

/// Calls `each` for the spans that are wanted until it breaks; for one that stands for others when `needs`, what `each`
/// looks at, and the filter are the same for all of them.
fn each_span(
    query: &TagQuery<'_>,
    mut needs: Needs,
    reader: &dyn TraceReader,
    budget: &dyn QueryBudget,
    mut each: impl FnMut(&TraceView<'_>, usize) -> ControlFlow<()>,
) -> Result<(), Error> {
    let filter = lenient(query.query);
    let mut wanted = spans_of(query.tenant, query.range);
    if let Some(filter) = &filter {
        narrow(&mut wanted, &Pipeline { stages: vec![Stage::Spans(SetExpr::Filter(Some(filter.clone())))] });
    }
    let mut conditions = Conditions::default();
    if let Some(filter) = &filter {
        needs.field(filter);
        conditions.field(filter);
    }
    let (mut seen, mut failure) = (0, None);
    if !needs.trace && !needs.ids && !needs.duration {
        let mut rows = |rows: &SpanRows<'_>| {
            if let Err(error) = budget.check() {
                failure = Some(error);
                return ControlFlow::Break(());
            }
            let mut is_wanted = vec![false; rows.sets.len()];
            for (set, start) in rows.set_of.iter().zip(rows.starts) {
                is_wanted[*set as usize] |= query.range.contains(*start);
            }
            let trace = TraceView::of_spans(rows.sets.iter().map(SpanView::from).collect());
            for index in (0..rows.sets.len()).filter(|set| is_wanted[*set]) {
                if filter.as_ref().is_none_or(|f| evaluate(&trace, index, f).is_true()) {
                    each(&trace, index)?;
                }
            }
            seen += rows.len() as u64;
            if seen < TAG_SPANS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        conditions.tell(needs.wants(), |wants| reader.fold_spans(&wanted, wants, budget, &mut Rows(&mut rows)))?;
        return failure.map_or(Ok(()), |error| Err(error.into()));
    }
    let mut one = |stored: &StoredTrace, _: i64| {
        if let Err(error) = budget.check() {
            failure = Some(error);
            return ControlFlow::Break(());
        }
        let trace = TraceView::new(stored);
        for (index, view) in trace.spans.iter().enumerate() {
            let is_wanted = query.range.contains(view.span.start_ns)
                && filter.as_ref().is_none_or(|f| evaluate(&trace, index, f).is_true());
            if is_wanted {
                each(&trace, index)?;
            }
        }
        seen += trace.spans.len() as u64;
        if seen < TAG_SPANS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    conditions.tell(needs.wants(), |wants| reader.visit_wanted(&wanted, wants, budget, &mut one))?;
    failure.map_or(Ok(()), |error| Err(error.into()))
}

/// Takes rows by a function.
struct Rows<'f>(&'f mut dyn FnMut(&SpanRows<'_>) -> ControlFlow<()>);

impl SpanFold for Rows<'_> {
    fn rows(&mut self, rows: &SpanRows<'_>) -> ControlFlow<()> {
        (self.0)(rows)
    }
}

/// Names of attributes by scope, sorted. [`Scope::Any`] does not occur.
pub fn tag_names(
    query: &TagQuery<'_>,
    reader: &dyn TraceReader,
    budget: &dyn QueryBudget,
) -> Result<BTreeMap<Scope, BTreeSet<String>>, Error> {
    let mut out: BTreeMap<Scope, BTreeSet<String>> = BTreeMap::new();
    let mut failure = None;
    each_span(query, Needs::everything(), reader, budget, |trace, index| {
        let view = trace.spans[index];
        let lists = [
            (Scope::Span, &view.span.attributes),
            (Scope::Resource, &view.resource.attributes),
            (Scope::Instrumentation, &view.scope.attributes),
        ];
        let events = view.span.events.iter().map(|e| (Scope::Event, &e.attributes));
        let links = view.span.links.iter().map(|l| (Scope::Link, &l.attributes));
        for (scope, attributes) in lists.into_iter().chain(events).chain(links) {
            let names = out.entry(scope).or_default();
            for (name, _) in attributes {
                if names.len() >= query.limit || names.contains(name) {
                    continue;
                }
                if let Err(error) = budget.charge_bytes(name.len() as u64 + 48) {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
                names.insert(name.clone());
            }
        }
        ControlFlow::Continue(())
    })?;
    out.retain(|_, names| !names.is_empty());
    failure.map_or(Ok(out), |error| Err(error.into()))
}

/// Names, or services, of the roots of traces with a span in the range, sorted: summaries tell them.
fn root_values(
    is_name: bool,
    query: &TagQuery<'_>,
    reader: &dyn TraceReader,
    budget: &dyn QueryBudget,
) -> Result<Vec<String>, Error> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    let (mut seen, mut failure) = (0, None);
    let mut rows = |rows: &SpanRows<'_>| {
        failure = failure.take().or(budget.check().err());
        let in_range = rows.trace_of.iter().zip(rows.starts).filter(|(_, start)| query.range.contains(**start));
        let mut last = None;
        for (trace, _) in in_range {
            if last.replace(*trace) == Some(*trace) {
                continue;
            }
            let Some(Some((service, name))) = rows.roots.get(*trace as usize) else { continue };
            let value = if is_name { name } else { service };
            if !value.is_empty() && !found.contains(*value) && found.len() < query.limit {
                failure = failure.take().or(budget.charge_bytes(value.len() as u64 + 48).err());
                found.insert((*value).to_owned());
            }
        }
        seen += rows.len() as u64;
        let is_over = failure.is_some() || found.len() >= query.limit || seen >= TAG_SPANS_MAX;
        if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let needs = Needs::default();
    let wants = SpanWants { roots: true, ..needs.wants() };
    reader.fold_spans(&spans_of(query.tenant, query.range), &wants, budget, &mut Rows(&mut rows))?;
    failure.map_or(Ok(found.into_iter().collect()), |error| Err(error.into()))
}

/// Values of an attribute, in order of type and text. Ids, times and durations are not listed.
pub fn tag_values(
    wanted: &Attribute,
    query: &TagQuery<'_>,
    reader: &dyn TraceReader,
    budget: &dyn QueryBudget,
) -> Result<Vec<Value>, Error> {
    let filter = lenient(query.query);
    let is_all = filter.as_ref().is_none_or(|f| matches!(f.kind, FieldKind::Value(Value::Bool(true))));
    let strings = |names: Vec<String>| names.into_iter().take(query.limit).map(Value::String).collect();
    match wanted {
        Attribute::Intrinsic(
            Intrinsic::Duration
            | Intrinsic::TraceDuration
            | Intrinsic::TraceId
            | Intrinsic::SpanId
            | Intrinsic::ParentId
            | Intrinsic::EventTimeSinceStart
            | Intrinsic::LinkTraceId
            | Intrinsic::LinkSpanId
            | Intrinsic::NestedSetLeft
            | Intrinsic::NestedSetRight
            | Intrinsic::NestedSetParent,
        ) => return Ok(Vec::new()),
        Attribute::Intrinsic(Intrinsic::Status) if is_all => {
            return Ok([StatusCode::Error, StatusCode::Ok, StatusCode::Unset].map(Value::Status).to_vec());
        }
        Attribute::Intrinsic(Intrinsic::Kind) if is_all => {
            return Ok((0..=5).map(|n| Value::Kind(SpanKind::from_number(n))).collect());
        }
        a if a.is_service_name() && is_all => {
            return Ok(strings(reader.services(query.tenant, query.range, budget)?));
        }
        Attribute::Intrinsic(Intrinsic::Name) if is_all => {
            let mut names = BTreeSet::new();
            for service in reader.services(query.tenant, query.range, budget)? {
                budget.check()?;
                let operations = reader.operations(query.tenant, &service, query.range, budget)?;
                names.extend(operations.into_iter().map(|(name, _)| name));
            }
            return Ok(strings(names.into_iter().collect()));
        }
        Attribute::Intrinsic(Intrinsic::RootName | Intrinsic::RootServiceName) if is_all => {
            let is_name = matches!(wanted, Attribute::Intrinsic(Intrinsic::RootName));
            return Ok(strings(root_values(is_name, query, reader, budget)?));
        }
        Attribute::Intrinsic(Intrinsic::Name) => {
            // What is known of operations is as good as their spans.
            if let Some(service) = filter.as_ref().and_then(only_service) {
                let operations = reader.operations(query.tenant, service, query.range, budget)?;
                let names: BTreeSet<String> = operations.into_iter().map(|(name, _)| name).collect();
                return Ok(strings(names.into_iter().collect()));
            }
        }
        _ => {}
    }
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    let mut failure = None;
    let mut needs = Needs::default();
    needs.attribute(wanted);
    each_span(query, needs, reader, budget, |trace, index| {
        attribute(trace, index, wanted).each(&mut |value| {
            if value == Value::Nil || value == Value::String(String::new()) || found.len() >= query.limit {
                return;
            }
            if let Entry::Vacant(entry) = found.entry(value.encode()) {
                let bytes = 2 * entry.key().len() as u64 + 96;
                failure = failure.take().or(budget.charge_bytes(bytes).err());
                entry.insert(value);
            }
        });
        let is_over = failure.is_some() || found.len() >= query.limit;
        if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    failure.map_or(Ok(()), |error| Err(Error::from(error)))?;
    Ok(found.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_queries() {
        for (text, want) in [
            ("{ .a = 1 }", ".a = 1"),
            ("{ resource.service.name = \"x\" && span.b = }", "resource.service.name = \"x\""),
            ("{ span.b = && name = \"a && b\" && ", "name = \"a && b\""),
            ("{ kind = server && (status", "kind = server"),
        ] {
            assert_eq!(lenient(text).map(|f| f.to_string()).as_deref(), Some(want), "{text}");
        }
        for text in ["", "{}", "{ ", "{ span.", "nothing"] {
            assert!(lenient(text).is_none(), "{text}");
        }
    }

    #[test]
    fn attributes_of_urls() {
        for (text, want) in [
            ("span.http.method", "span.http.method"),
            ("resource.\"a b\"", "resource.\"a b\""),
            ("span:status", "status"),
            ("duration", "duration"),
            (".a", ".a"),
            ("service.name", ".service.name"),
        ] {
            assert_eq!(parse_attribute(text).map(|a| a.to_string()).as_deref(), Some(want), "{text}");
        }
        assert_eq!(parse_attribute("span."), None);
    }
}
