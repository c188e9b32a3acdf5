//! The entry: instant and range queries.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use prometheus::{IntCounter, register_int_counter};
use rustc_hash::FxHashMap;
use trefoil_model::{Direction, Labels, LogReader, NanoRange, QueryBudget, TenantId};
use trefoil_promql::algebra::Series;

use crate::Error;
use crate::ast::{Expr, LogExpr, MetricExpr};
use crate::labels::Category;
use crate::metric::{self, Evaluator, Value};
use crate::output::{Answer, Entry, MatrixSeries, Output, Stats, StreamResult, VectorSample};
use crate::parser::parse;
use crate::pipeline::{Pipeline, Scan, Source};
use crate::range::Grid;

/// Most steps of a range query.
pub const STEPS_MAX: usize = 11_001;
/// What an entry costs beside its texts.
const ENTRY_BYTES: usize = 96;

static QUERIES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_logql_queries_total", "LogQL queries run").expect("unique metric name")
});
static QUERIES_FAILED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_logql_queries_failed_total", "LogQL queries that gave an error")
        .expect("unique metric name")
});
static LINES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_logql_lines_processed_total", "Lines that LogQL pipelines looked at")
        .expect("unique metric name")
});
static BYTES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_logql_line_bytes_processed_total", "Bytes of lines that LogQL pipelines looked at")
        .expect("unique metric name")
});

/// Whether a query gives lines or numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKind {
    /// Lines.
    Log,
    /// Numbers.
    Metric,
}

/// A query over a range of time.
#[derive(Debug, Clone, Copy)]
pub struct RangeQuery<'a> {
    /// The text.
    pub query: &'a str,
    /// Unix nanoseconds; included.
    pub start_ns: i64,
    /// Unix nanoseconds; excluded by log queries, included by metric queries.
    pub end_ns: i64,
    /// Distance of the steps of a metric query. They start at `start_ns` exactly: aligning is the caller's.
    pub step_ns: i64,
    /// Order of lines.
    pub direction: Direction,
    /// Most lines, 0 for no limit.
    pub limit: usize,
    /// Tenant.
    pub tenant: TenantId,
}

/// A query at one time.
#[derive(Debug, Clone, Copy)]
pub struct InstantQuery<'a> {
    /// The text.
    pub query: &'a str,
    /// Unix nanoseconds.
    pub time_ns: i64,
    /// Tenant.
    pub tenant: TenantId,
}

/// Runs queries. Calls may take long: not for an async thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Engine;

impl Engine {
    /// Parses a query and compiles its pipelines.
    ///
    /// Errors: everything that can be known without data, with its place.
    pub fn check(query: &str) -> Result<QueryKind, Error> {
        match parse(query)? {
            Expr::Log(log) => {
                Pipeline::new(&log)?;
                Ok(QueryKind::Log)
            }
            Expr::Metric(metric) => {
                metric::check(&metric)?;
                Ok(QueryKind::Metric)
            }
        }
    }

    /// Runs a query over a range: [`Output::Streams`] or [`Output::Matrix`].
    pub fn range(query: &RangeQuery<'_>, reader: &dyn LogReader, budget: &dyn QueryBudget) -> Result<Answer, Error> {
        Self::range_within(query, reader, budget, u64::MAX)
    }

    /// As [`Engine::range`], with an error when lines of more than `scan_bytes_max` bytes are read.
    pub fn range_within(
        query: &RangeQuery<'_>,
        reader: &dyn LogReader,
        budget: &dyn QueryBudget,
        scan_bytes_max: u64,
    ) -> Result<Answer, Error> {
        let source = Source { reader, tenant: query.tenant, budget, scan_bytes_max };
        counted(|| match parse(query.query)? {
            Expr::Log(log) => log_query(&log, query, source),
            Expr::Metric(metric) => {
                let grid = grid(query)?;
                let (value, stats) = evaluate(&metric, grid, false, source)?;
                let series = match value {
                    Value::Series(series) => series,
                    Value::Number(n) => {
                        let points = (0..grid.steps).map(|i| (grid.time(i), n)).collect();
                        let series = vec![MatrixSeries { labels: Labels::empty(), points }];
                        return Ok(Answer { output: Output::Matrix(series), stats });
                    }
                };
                Ok(Answer { output: Output::Matrix(matrix(series, grid)), stats })
            }
        })
    }

    /// Runs a metric query at one time: [`Output::Vector`] or [`Output::Scalar`]. Log queries are refused, as Loki
    /// refuses them here.
    pub fn instant(
        query: &InstantQuery<'_>,
        reader: &dyn LogReader,
        budget: &dyn QueryBudget,
    ) -> Result<Answer, Error> {
        Self::instant_within(query, reader, budget, u64::MAX)
    }

    /// As [`Engine::instant`], with an error when lines of more than `scan_bytes_max` bytes are read.
    pub fn instant_within(
        query: &InstantQuery<'_>,
        reader: &dyn LogReader,
        budget: &dyn QueryBudget,
        scan_bytes_max: u64,
    ) -> Result<Answer, Error> {
        let source = Source { reader, tenant: query.tenant, budget, scan_bytes_max };
        let time_ns = query.time_ns;
        counted(|| {
            let metric = match parse(query.query)? {
                Expr::Metric(metric) => metric,
                Expr::Log(_) => {
                    return Err(Error::Query(
                        "log queries are not supported as an instant query type, please change your query to a range \
                         query type"
                            .to_owned(),
                    ));
                }
            };
            let (value, stats) = evaluate(&metric, Grid { start_ns: time_ns, step_ns: 0, steps: 1 }, true, source)?;
            let output = match value {
                Value::Number(value) => Output::Scalar { time_ns, value },
                Value::Series(series) => {
                    let sample = |s: Series| s.points.float(0).map(|value| VectorSample { labels: s.labels, value });
                    let mut samples: Vec<VectorSample> = series.into_iter().filter_map(sample).collect();
                    if !metric::is_ordered(&metric) {
                        samples.sort_by(|a, b| a.labels.cmp(&b.labels));
                    }
                    Output::Vector { time_ns, samples }
                }
            };
            Ok(Answer { output, stats })
        })
    }
}

fn counted(run: impl FnOnce() -> Result<Answer, Error>) -> Result<Answer, Error> {
    QUERIES.inc();
    let mut answer = run().inspect_err(|_| QUERIES_FAILED.inc())?;
    LINES.inc_by(answer.stats.lines_processed);
    BYTES.inc_by(answer.stats.bytes_processed);
    answer.stats.entries_returned = match &answer.output {
        Output::Streams(streams) => streams.iter().map(|s| s.entries.len() as u64).sum(),
        Output::Vector { samples, .. } => samples.len() as u64,
        Output::Matrix(series) => series.iter().map(|s| s.points.len() as u64).sum(),
        Output::Scalar { .. } => 1,
    };
    Ok(answer)
}

fn grid(query: &RangeQuery<'_>) -> Result<Grid, Error> {
    if query.end_ns < query.start_ns {
        return Err(Error::Query("end timestamp must not be before or equal to start time".to_owned()));
    }
    let span = query.end_ns.saturating_sub(query.start_ns);
    if query.step_ns <= 0 && span > 0 {
        return Err(Error::Query("zero or negative query resolution step widths are not accepted".to_owned()));
    }
    let steps = usize::try_from(span / query.step_ns.max(1)).unwrap_or(usize::MAX).saturating_add(1);
    if steps > STEPS_MAX {
        return Err(Error::Query(format!(
            "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)",
            STEPS_MAX - 1
        )));
    }
    Ok(Grid { start_ns: query.start_ns, step_ns: query.step_ns, steps })
}

fn evaluate(metric: &MetricExpr, grid: Grid, instant: bool, source: Source<'_>) -> Result<(Value, Stats), Error> {
    metric::check(metric)?;
    let mut evaluator = Evaluator { source, grid, instant, stats: Stats::default() };
    let value = evaluator.evaluate(metric)?;
    Ok((value, evaluator.stats))
}

fn matrix(series: Vec<Series>, grid: Grid) -> Vec<MatrixSeries> {
    let mut out: Vec<MatrixSeries> = series
        .into_iter()
        .map(|s| {
            let points = (0..grid.steps).filter_map(|i| s.points.float(i).map(|v| (grid.time(i), v))).collect();
            MatrixSeries { labels: s.labels, points }
        })
        .filter(|s| !s.points.is_empty())
        .collect();
    out.sort_by(|a, b| a.labels.cmp(&b.labels));
    out
}

fn log_query(log: &LogExpr, query: &RangeQuery<'_>, source: Source<'_>) -> Result<Answer, Error> {
    let pipeline = Pipeline::new(log)?;
    let scan = Scan {
        source,
        log,
        pipeline: &pipeline,
        range: NanoRange::new(query.start_ns, query.end_ns),
        direction: query.direction,
        needs_labels: true,
        wanted: None,
    };
    let mut stats = Stats::default();
    let mut streams: Vec<StreamResult> = Vec::new();
    let mut known: FxHashMap<Labels, usize> = FxHashMap::default();
    let mut taken = 0usize;
    scan.run(&mut stats, &|_| true, &mut |ts_ns, text, labels| {
        let entry = Entry {
            ts_ns,
            line: text.into_owned(),
            structured_metadata: labels.sorted(Category::Metadata),
            parsed: labels.sorted(Category::Parsed),
        };
        source.budget.charge_bytes(entry_bytes(&entry) as u64)?;
        let stream = Labels::from_pairs(labels.of(Category::Stream));
        let at = *known.entry(stream).or_insert_with_key(|labels| {
            streams.push(StreamResult { labels: labels.clone(), entries: Vec::new() });
            streams.len() - 1
        });
        streams[at].entries.push(entry);
        taken += 1;
        Ok(if query.limit > 0 && taken >= query.limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(Answer { output: Output::Streams(streams), stats })
}

fn entry_bytes(entry: &Entry) -> usize {
    let pairs = entry.structured_metadata.iter().chain(&entry.parsed);
    ENTRY_BYTES + entry.line.len() + pairs.map(|(n, v)| n.len() + v.len() + 48).sum::<usize>()
}
