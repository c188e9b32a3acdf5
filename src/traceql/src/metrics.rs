//! Metrics queries: spans to series on a grid of steps, then the series algebra.

mod compare;
mod fold;
mod grid;
mod leaf;
mod math;

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use trefoil_model::{Labels, NanoRange, QueryBudget, SpanId, TenantId, TraceId, TraceReader};
use trefoil_promql::algebra::Series;

use crate::Error;
use crate::ast::{Query, QueryKind, Value};
use crate::parser::parse;

pub use grid::STEPS_MAX;

use grid::Grid;

/// Exemplars of an answer unless the request or the query says another number.
pub const EXEMPLARS_DEFAULT: usize = 100;
/// Most exemplars of an answer.
pub const EXEMPLARS_MAX: usize = 1000;

/// A metrics query over a range.
#[derive(Debug, Clone, Copy)]
pub struct MetricsRangeQuery<'a> {
    /// The text.
    pub query: &'a str,
    /// Unix nanoseconds; aligned down to the step.
    pub start_ns: i64,
    /// Unix nanoseconds; aligned up to the step.
    pub end_ns: i64,
    /// Length of a step in nanoseconds, above 0.
    pub step_ns: i64,
    /// Most exemplars; a hint of the query wins.
    pub exemplars: usize,
    /// Tenant.
    pub tenant: TenantId,
}

/// A metrics query that gives one value a series.
#[derive(Debug, Clone, Copy)]
pub struct MetricsInstantQuery<'a> {
    /// The text.
    pub query: &'a str,
    /// Unix nanoseconds, inside.
    pub start_ns: i64,
    /// Unix nanoseconds, inside.
    pub end_ns: i64,
    /// Tenant.
    pub tenant: TenantId,
}

/// What a metrics query gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetricsAnswer {
    /// The ends of the buckets, Unix nanoseconds; of an instant query the end of the range.
    pub times_ns: Vec<i64>,
    /// In order of their labels.
    pub series: Vec<MetricsSeries>,
    /// Traces looked at.
    pub inspected_traces: u64,
    /// Spans looked at.
    pub inspected_spans: u64,
    /// Bytes of these spans in memory.
    pub inspected_bytes: u64,
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsSeries {
    /// Labels, named as the query writes attributes.
    pub labels: Vec<(String, Value)>,
    /// A value for each time.
    pub values: Vec<Option<f64>>,
    /// By time.
    pub exemplars: Vec<TraceExemplar>,
}

/// A span that stands for the others of its series and time.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceExemplar {
    /// Its trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Its start, Unix nanoseconds.
    pub time_ns: i64,
    /// Its value; of counts that of the series at that time.
    pub value: f64,
}

/// Series on their way through the query. Label values are encoded with their types.
pub(crate) struct Partial {
    pub(crate) series: Vec<Series>,
    /// The name that an ungrouped result carries.
    pub(crate) name: Option<String>,
    pub(crate) exemplars: FxHashMap<Labels, Vec<TraceExemplar>>,
}

/// What a query works with.
pub(crate) struct Context<'a> {
    pub(crate) grid: Grid,
    pub(crate) reader: &'a dyn TraceReader,
    pub(crate) budget: &'a dyn QueryBudget,
    pub(crate) tenant: TenantId,
    pub(crate) exemplars: usize,
}

/// Figures of what was read.
#[derive(Default)]
pub(crate) struct Inspected {
    pub(crate) traces: u64,
    pub(crate) spans: u64,
    pub(crate) bytes: u64,
}

/// Runs a metrics query over a range.
///
/// Errors: the query is refused or gives no series, there are too many steps, or the store or the budget fail.
pub fn metrics_range(
    query: &MetricsRangeQuery<'_>,
    reader: &dyn TraceReader,
    budget: &dyn QueryBudget,
) -> Result<MetricsAnswer, Error> {
    crate::figures::counted(|| {
        let grid = Grid::range(query.start_ns, query.end_ns, query.step_ns)?;
        run(query.query, grid, query.exemplars, query.tenant, reader, budget)
    })
}

/// Runs a metrics query with one bucket over the whole range.
pub fn metrics_instant(
    query: &MetricsInstantQuery<'_>,
    reader: &dyn TraceReader,
    budget: &dyn QueryBudget,
) -> Result<MetricsAnswer, Error> {
    crate::figures::counted(|| {
        let grid = Grid::instant(query.start_ns, query.end_ns)?;
        run(query.query, grid, 0, query.tenant, reader, budget)
    })
}

/// How many exemplars a query asks for with its hints.
fn exemplars(query: &Query, asked: usize) -> usize {
    let wanted = match query.hint("exemplars") {
        Some(Value::Bool(false)) => 0,
        Some(Value::Int(n)) => usize::try_from(*n).unwrap_or(0),
        Some(Value::Bool(true)) if asked == 0 => EXEMPLARS_DEFAULT,
        _ => asked,
    };
    wanted.min(EXEMPLARS_MAX)
}

fn run(
    text: &str,
    grid: Grid,
    asked: usize,
    tenant: TenantId,
    reader: &dyn TraceReader,
    budget: &dyn QueryBudget,
) -> Result<MetricsAnswer, Error> {
    let query = parse(text)?;
    let QueryKind::Metrics(metrics) = &query.kind else {
        return Err(Error::Query("a metrics query ends in a metrics function such as rate()".to_owned()));
    };
    let exemplars = if grid.is_instant() { 0 } else { exemplars(&query, asked) };
    let mut inspected = Inspected::default();
    let context = Context { grid, reader, budget, tenant, exemplars };
    let partial = math::evaluate(metrics, &context, &mut inspected)?;
    let mut answer = MetricsAnswer {
        times_ns: context.grid.times_ns(),
        series: Vec::new(),
        inspected_traces: inspected.traces,
        inspected_spans: inspected.spans,
        inspected_bytes: inspected.bytes,
    };
    answer.series = finish(partial, exemplars);
    Ok(answer)
}

/// Labels with their types, sorted; exemplars thinned out to the limit.
fn finish(mut partial: Partial, exemplars: usize) -> Vec<MetricsSeries> {
    let mut sorted: BTreeMap<Labels, Series> = BTreeMap::new();
    for series in partial.series {
        sorted.insert(series.labels.clone(), series);
    }
    let each = if exemplars == 0 { 0 } else { (exemplars / sorted.len().max(1)).max(1) };
    let mut left = exemplars;
    let mut out = Vec::with_capacity(sorted.len());
    for (labels, series) in sorted {
        let mut decoded: Vec<(String, Value)> = labels.iter().map(|(n, v)| (n.to_owned(), Value::decode(v))).collect();
        if decoded.is_empty() {
            let name = partial.name.clone().unwrap_or_default();
            decoded.push(("__name__".to_owned(), Value::String(name)));
        }
        let all = partial.exemplars.remove(&labels).unwrap_or_default();
        let kept = all.len().min(each).min(left);
        left -= kept;
        out.push(MetricsSeries {
            labels: decoded,
            values: (0..series.points.len()).map(|i| series.points.float(i)).collect(),
            // Evenly over what there is.
            exemplars: (0..kept).map(|i| all[i * all.len() / kept].clone()).collect(),
        });
    }
    out
}

/// The query for spans that start within a range.
pub(crate) fn spans_of(tenant: TenantId, range: NanoRange) -> trefoil_model::SpanQuery {
    trefoil_model::SpanQuery { tenant, range: Some(range), ..trefoil_model::SpanQuery::default() }
}
