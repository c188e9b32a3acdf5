//! Searches: span sets of traces, newest first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use trefoil_model::{
    NanoRange, QueryBudget, SpanId, SpanQuery, StatusCode, StoredTrace, TenantId, TraceId, TraceReader,
};

use crate::Error;
use crate::ast::{Attribute, FieldExpr, FieldKind, Intrinsic, Pipeline, QueryKind, SetExpr, Stage, Value};
use crate::candidates::narrow;
use crate::field::attribute;
use crate::needs::{Conditions, Needs};
use crate::parser::parse;
use crate::sets::{Sets, SpanSet};
use crate::trace_view::TraceView;

/// What a span of a result takes besides its texts.
const SPAN_BYTES: u64 = 160;
/// Services told of one trace.
const SERVICES_MAX: usize = 1000;

/// A search.
#[derive(Debug, Clone, Copy)]
pub struct SearchQuery<'a> {
    /// The text.
    pub query: &'a str,
    /// A trace is found when a span of the result starts here.
    pub range: NanoRange,
    /// Most traces, 0 for no limit.
    pub limit: usize,
    /// Most spans told of a span set, 0 for no limit.
    pub spans_per_set: usize,
    /// Tenant.
    pub tenant: TenantId,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SearchAnswer {
    /// Newest first: by the latest start of a span of the result, then by id.
    pub traces: Vec<TraceResult>,
    /// Traces looked at.
    pub inspected_traces: u64,
    /// Spans looked at.
    pub inspected_spans: u64,
    /// Bytes of these spans in memory.
    pub inspected_bytes: u64,
}

/// A trace that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceResult {
    /// Its id.
    pub trace_id: TraceId,
    /// Service and name of the root span, when it is there.
    pub root: Option<(String, String)>,
    /// First start, Unix nanoseconds.
    pub start_ns: i64,
    /// From the first start to the last end.
    pub duration_ns: i64,
    /// Its span sets; never empty.
    pub sets: Vec<SetResult>,
    /// Services by name.
    pub services: Vec<ServiceStats>,
}

/// How a service took part in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStats {
    /// Name.
    pub name: String,
    /// Its spans.
    pub spans: u64,
    /// Those with an error.
    pub errors: u64,
}

/// A span set.
#[derive(Debug, Clone, PartialEq)]
pub struct SetResult {
    /// How many spans it has.
    pub matched: usize,
    /// The first of them by time.
    pub spans: Vec<SpanResult>,
    /// What the pipeline put on it: `count()`, `by(name)`.
    pub attributes: Vec<(String, Value)>,
}

/// A span of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanResult {
    /// Its id.
    pub span_id: SpanId,
    /// Its name.
    pub name: String,
    /// Start, Unix nanoseconds.
    pub start_ns: i64,
    /// Length in nanoseconds.
    pub duration_ns: i64,
    /// Attributes that the query names and the span has.
    pub attributes: Vec<(Attribute, Value)>,
}

/// How far a search is.
#[derive(Debug)]
pub struct SearchProgress<'a> {
    /// Traces that are surely in the answer and that were not told before, newest first; often none.
    pub settled: Vec<&'a TraceResult>,
    /// The figures so far; its traces are not told here.
    pub so_far: &'a SearchAnswer,
}

/// Runs a search.
///
/// Errors: the query is refused or asks for series, or the store or the budget fail.
pub fn search(
    query: &SearchQuery<'_>,
    reader: &dyn TraceReader,
    budget: &dyn QueryBudget,
) -> Result<SearchAnswer, Error> {
    search_telling(query, reader, budget, &mut |_| {})
}

/// Runs a search and tells after each trace that was looked at how far it is. What is told and the answer agree: traces
/// are told in the answer's order, and none that is not in it.
///
/// Errors: as [`search`].
pub fn search_telling(
    query: &SearchQuery<'_>,
    reader: &dyn TraceReader,
    budget: &dyn QueryBudget,
    tell: &mut dyn FnMut(SearchProgress<'_>),
) -> Result<SearchAnswer, Error> {
    crate::figures::counted(|| {
        let parsed = parse(query.query)?;
        let QueryKind::Search(pipeline) = &parsed.kind else {
            return Err(Error::Query("a metrics query gives series, not traces".to_owned()));
        };
        run(query, pipeline, reader, budget, tell)
    })
}

fn run(
    query: &SearchQuery<'_>,
    pipeline: &Pipeline,
    reader: &dyn TraceReader,
    budget: &dyn QueryBudget,
    tell: &mut dyn FnMut(SearchProgress<'_>),
) -> Result<SearchAnswer, Error> {
    let shown = shown_attributes(pipeline);
    let mut wanted = SpanQuery { tenant: query.tenant, range: Some(query.range), ..SpanQuery::default() };
    narrow(&mut wanted, pipeline);
    let limit = if query.limit == 0 { usize::MAX } else { query.limit };
    let mut answer = SearchAnswer::default();
    let mut found: BTreeMap<(Reverse<i64>, TraceId), TraceResult> = BTreeMap::new();
    let mut failure = None;
    let mut last_told: Option<(Reverse<i64>, TraceId)> = None;
    let mut needs = Needs::default();
    needs.pipeline(pipeline);
    let conditions = Conditions::of(pipeline);
    let mut visit = |stored: &StoredTrace, latest: i64| {
        let worst = found.last_key_value().filter(|_| found.len() >= limit).map(|((Reverse(t), _), _)| *t);
        if worst.is_some_and(|worst| latest < worst) {
            return ControlFlow::Break(());
        }
        // This trace and all that follow have no later span, so that nothing comes before those that have one.
        let is_settled = |at: &Reverse<i64>| at.0 > latest;
        let from = last_told.map_or(Bound::Unbounded, Bound::Excluded);
        let untold = found.range((from, Bound::Unbounded)).take_while(|((at, _), _)| is_settled(at));
        let settled: Vec<&TraceResult> = untold.inspect(|(key, _)| last_told = Some(**key)).map(|(_, t)| t).collect();
        tell(SearchProgress { settled, so_far: &answer });
        count_inspected(&mut answer, stored);
        match trace_result(query, pipeline, &shown, stored, budget) {
            Ok(Some((key, result))) => {
                found.insert((Reverse(key), stored.trace_id), result);
                if found.len() > limit {
                    found.pop_last();
                }
                ControlFlow::Continue(())
            }
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    conditions.tell(needs.wants(), |wants| reader.visit_wanted(&wanted, wants, budget, &mut visit))?;
    if let Some(error) = failure {
        return Err(error);
    }
    answer.traces = found.into_values().collect();
    Ok(answer)
}

fn count_inspected(answer: &mut SearchAnswer, stored: &StoredTrace) {
    answer.inspected_traces += 1;
    for span in stored.groups.iter().flat_map(|g| &g.spans) {
        answer.inspected_spans += 1;
        answer.inspected_bytes += span.heap_bytes() as u64;
    }
}

/// The result for one trace with the latest start of its spans.
fn trace_result(
    query: &SearchQuery<'_>,
    pipeline: &Pipeline,
    shown: &[Attribute],
    stored: &StoredTrace,
    budget: &dyn QueryBudget,
) -> Result<Option<(i64, TraceResult)>, Error> {
    budget.check()?;
    let trace = TraceView::new(stored);
    let sets = Sets { trace: &trace, budget }.run(pipeline)?;
    let starts = sets.iter().flat_map(|s| &s.spans).map(|i| trace.spans[*i as usize].span.start_ns);
    let Some(latest) = starts.filter(|t| query.range.contains(*t)).max() else { return Ok(None) };
    let most = if query.spans_per_set == 0 { usize::MAX } else { query.spans_per_set };
    let told: usize = sets.iter().map(|s| s.spans.len().min(most)).sum();
    budget.charge_bytes(told as u64 * (SPAN_BYTES + shown.len() as u64 * 64))?;
    Ok(Some((
        latest,
        TraceResult {
            trace_id: trace.id,
            root: trace.root.map(|r| {
                let root = trace.spans[r];
                (root.resource.service_name().to_owned(), root.span.name.clone())
            }),
            start_ns: trace.start_ns,
            duration_ns: trace.duration_ns(),
            sets: sets.into_iter().map(|set| set_result(&trace, set, shown, most)).collect(),
            services: services(&trace),
        },
    )))
}

fn set_result(trace: &TraceView<'_>, set: SpanSet, shown: &[Attribute], most: usize) -> SetResult {
    let span = |index: &u32| {
        let index = *index as usize;
        let span = trace.spans[index].span;
        let values = shown.iter().map(|a| (a.clone(), attribute(trace, index, a).to_value()));
        SpanResult {
            span_id: span.span_id,
            name: span.name.clone(),
            start_ns: span.start_ns,
            duration_ns: span.duration_ns(),
            attributes: values.filter(|(_, v)| *v != Value::Nil).collect(),
        }
    };
    SetResult {
        matched: set.spans.len(),
        spans: set.spans.iter().take(most).map(span).collect(),
        attributes: set.attributes,
    }
}

fn services(trace: &TraceView<'_>) -> Vec<ServiceStats> {
    let mut by_name: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for view in &trace.spans {
        let name = view.resource.service_name();
        if by_name.len() >= SERVICES_MAX && !by_name.contains_key(name) {
            continue;
        }
        let entry = by_name.entry(name).or_default();
        entry.0 += 1;
        entry.1 += u64::from(view.span.status_code == StatusCode::Error);
    }
    let stats = |(name, (spans, errors)): (&str, (u64, u64))| ServiceStats { name: name.to_owned(), spans, errors };
    by_name.into_iter().map(stats).collect()
}

/// What the spans of a result show: what `select` names, and the attributes that filters and groups use.
fn shown_attributes(pipeline: &Pipeline) -> Vec<Attribute> {
    let mut out = Vec::new();
    of_pipeline(pipeline, &mut out);
    out
}

fn of_pipeline(pipeline: &Pipeline, out: &mut Vec<Attribute>) {
    for stage in &pipeline.stages {
        match stage {
            Stage::Spans(set) => of_set(set, out),
            Stage::Aggregate(a) => a.argument.iter().for_each(|e| of_field(e, out)),
            Stage::By(e) => of_field(e, out),
            Stage::Coalesce => {}
            Stage::Select(attributes) => {
                for a in attributes {
                    add(a, out);
                }
            }
        }
    }
}

fn of_set(set: &SetExpr, out: &mut Vec<Attribute>) {
    match set {
        SetExpr::Filter(filter) => filter.iter().for_each(|e| of_field(e, out)),
        SetExpr::Op { lhs, rhs, .. } => {
            of_set(lhs, out);
            of_set(rhs, out);
        }
        SetExpr::Pipeline(p) => of_pipeline(p, out),
    }
}

fn of_field(expr: &FieldExpr, out: &mut Vec<Attribute>) {
    match &expr.kind {
        FieldKind::Value(_) => {}
        // Every result has name and duration anyway; the walk through the tree says nothing to people.
        FieldKind::Attribute(Attribute::Intrinsic(
            Intrinsic::Name
            | Intrinsic::Duration
            | Intrinsic::TraceId
            | Intrinsic::SpanId
            | Intrinsic::TraceDuration
            | Intrinsic::RootName
            | Intrinsic::RootServiceName
            | Intrinsic::NestedSetLeft
            | Intrinsic::NestedSetRight
            | Intrinsic::NestedSetParent,
        )) => {}
        FieldKind::Attribute(a) => add(a, out),
        FieldKind::Unary(_, e) => of_field(e, out),
        FieldKind::Binary(b) => {
            of_field(&b.lhs, out);
            of_field(&b.rhs, out);
        }
    }
}

fn add(attribute: &Attribute, out: &mut Vec<Attribute>) {
    if !out.contains(attribute) {
        out.push(attribute.clone());
    }
}
