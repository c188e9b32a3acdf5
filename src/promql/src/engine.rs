//! Evaluates expressions over a [`MetricReader`].
//!
//! Every series is read once for each selector and evaluated over all steps before the next one; a grid of steps
//! ([`Grid`]) stands for an instant query too (one step). Aggregations take chunks of series as they are made.
//!
//! Map: [`prepare`] (durations, `@ start()`, what is the same at every step), [`eval`] (the dispatch),
//! [`select`] (reading), [`window`] and [`range_function`] (range vectors, [`rate`], [`extended`],
//! [`fast_path`], [`rolled`] for downsampled samples),
//! [`instant_function`], [`classic`] (histogram functions), [`info`], [`meter`] (the memory that is held), [`profile`]
//! (where the time goes).

mod classic;
mod eval;
mod extended;
mod fast_path;
mod info;
mod instant_function;
mod meter;
mod metrics;
mod prepare;
mod profile;
mod range_function;
mod rate;
mod rolled;
mod select;
mod window;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use trefoil_model::{BudgetError, Labels, MetricReader, QueryBudget, StoreError, TenantId};

use crate::algebra::series::{HISTOGRAM_BYTES, MERGE_BYTES};
use crate::algebra::{AlgebraError, Notes, Point, Room, Series, cleanup_names};
use crate::annotations::{Annotations, NoteKind};
use crate::ast::{Expr, PositionRange, ValueType};
use crate::deep::with_room_for;
use crate::parser::{ParseError, ParserOptions};
use crate::value::{QueryResult, QueryStats, ResultSeries, Sample, SampleValue, Value};

use eval::{Evaluated, Evaluator};
use meter::Meter;
pub use profile::ProfileNode;
use profile::Profiler;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The text is not a query.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The query is none for this range and step: a duration that depends on them has no valid value.
    #[error("{0}")]
    Query(String),
    /// The query cannot be evaluated on this data; the text is the reference's.
    #[error("{0}")]
    Execution(String),
    /// Time, samples, series or memory are used up, or the client left.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The store failed.
    #[error("expanding series: {0}")]
    Store(#[source] StoreError),
}

impl From<StoreError> for EngineError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Budget(b) => Self::Budget(b),
            other => Self::Store(other),
        }
    }
}

impl From<AlgebraError> for EngineError {
    fn from(error: AlgebraError) -> Self {
        match error {
            AlgebraError::Execution(text) => Self::Execution(text),
            AlgebraError::Budget(error) => Self::Budget(error),
        }
    }
}

/// Settings that hold for all queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// How far back an instant selector looks, milliseconds. Default 5m.
    pub lookback_ms: i64,
    /// Step of subqueries that name none, milliseconds. Default 1m (the global evaluation interval).
    pub subquery_step_ms: i64,
    /// Remove names at the end of a query instead of in each operation. Default off, as in the reference.
    pub delayed_name_removal: bool,
    /// Use start timestamps in rate-like functions. Default off, as in the reference.
    pub start_timestamps: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { lookback_ms: 300_000, subquery_step_ms: 60_000, delayed_name_removal: false, start_timestamps: false }
    }
}

/// Settings of one query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryOptions {
    /// Instead of [`EngineOptions::lookback_ms`].
    pub lookback_ms: Option<i64>,
    /// Tell where the time goes in [`QueryResult::profile`].
    pub profile: bool,
}

/// Evaluates queries. Cheap to clone, clones share their settings; keeps nothing between queries.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    options: EngineOptions,
    parser: ParserOptions,
    /// Instead of the option, once it was set; 0 before.
    subquery_step_ms: Arc<AtomicI64>,
}

const UNPOISONED: &str = "no thread panics while it notes a node";
/// Most steps of a query or subquery; finer ones are refused before anything is allocated.
const STEPS_MAX: i64 = 11_000_000;
/// Times further from 1970 than this (in ms, 36 million years) are refused, so that no sum of times can overflow.
const TIME_MS_MAX: i64 = 1 << 60;

/// The steps of an evaluation: `start_ms + i * step_ms` for `0 <= i < count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) start_ms: i64,
    pub(crate) step_ms: i64,
    pub(crate) count: usize,
}

impl Grid {
    fn instant(t_ms: i64) -> Self {
        Self { start_ms: t_ms, step_ms: 1, count: 1 }
    }

    pub(crate) fn time(&self, step: usize) -> i64 {
        self.start_ms + self.step_ms * step as i64
    }

    pub(crate) fn end_ms(&self) -> i64 {
        self.time(self.count.saturating_sub(1))
    }
}

/// What all parts of one evaluation share.
pub(crate) struct Context<'a> {
    pub(crate) options: EngineOptions,
    pub(crate) reader: &'a dyn MetricReader,
    pub(crate) tenant: TenantId,
    /// The budget by way of the meter.
    pub(crate) budget: &'a dyn QueryBudget,
    pub(crate) meter: &'a Meter<'a>,
    annotations: Mutex<Annotations>,
    series: AtomicU64,
    samples_read: AtomicU64,
    samples_seen: AtomicU64,
    samples_total: AtomicU64,
    held: AtomicU64,
    peak: AtomicU64,
    select_nanos: AtomicU64,
    profiler: Option<Mutex<Profiler>>,
}

impl Context<'_> {
    pub(crate) fn annotate(&self, kind: NoteKind, position: PositionRange) {
        self.annotations.lock().expect("no thread panics while it adds a remark").add(kind, position);
    }

    pub(crate) fn annotate_all(&self, notes: Notes, position: PositionRange) {
        for kind in notes {
            self.annotate(kind, position);
        }
    }

    /// Takes samples from the budget until [`Context::release`] or the end of the query.
    pub(crate) fn charge(&self, samples: u64) -> Result<(), EngineError> {
        self.budget.charge_samples(samples)?;
        let held = self.held.fetch_add(samples, Ordering::Relaxed) + samples;
        self.peak.fetch_max(held, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn release(&self, samples: u64) {
        self.held.fetch_sub(samples, Ordering::Relaxed);
        self.budget.release_samples(samples);
    }

    /// The query's memory, for the algebra.
    pub(crate) fn room(&self) -> Room<'_> {
        Room::of(self.budget)
    }

    /// Evaluates a node, noting what it took when that is wanted. `series`: the series of its value, when known.
    fn profiled<T>(
        &self,
        position: PositionRange,
        work: impl FnOnce() -> Result<T, EngineError>,
        series: impl FnOnce(&T) -> Option<u64>,
    ) -> Result<T, EngineError> {
        let Some(profiler) = &self.profiler else { return work() };
        let counts = || (self.series.load(Ordering::Relaxed), self.samples_read.load(Ordering::Relaxed));
        let begun = profiler.lock().expect(UNPOISONED).begin(position, counts());
        let result = work();
        if begun {
            let made = result.as_ref().ok().and_then(series);
            profiler.lock().expect(UNPOISONED).end(counts(), made);
        }
        result
    }

    pub(crate) fn count_read(&self, read: u64, total: u64) {
        self.samples_read.fetch_add(read, Ordering::Relaxed);
        self.samples_total.fetch_add(total, Ordering::Relaxed);
    }

    pub(crate) fn count_seen(&self, seen: u64) {
        self.samples_seen.fetch_add(seen, Ordering::Relaxed);
    }
}

impl Engine {
    /// An engine with these settings. `parser` is what [`Engine::parse`] accepts.
    pub fn new(options: EngineOptions, parser: ParserOptions) -> Self {
        Self { options, parser, subquery_step_ms: Arc::default() }
    }

    /// Parses a query with the engine's settings.
    pub fn parse(&self, query: &str) -> Result<Expr, ParseError> {
        crate::parser::parse(query, self.parser)
    }

    /// What [`Engine::parse`] accepts.
    pub fn parser_options(&self) -> ParserOptions {
        self.parser
    }

    /// The engine's settings.
    pub fn options(&self) -> EngineOptions {
        match self.subquery_step_ms.load(Ordering::Relaxed) {
            0 => self.options,
            subquery_step_ms => EngineOptions { subquery_step_ms, ..self.options },
        }
    }

    /// Sets the step of subqueries that name none for this engine and its clones, milliseconds > 0.
    pub fn set_subquery_step_ms(&self, ms: i64) {
        self.subquery_step_ms.store(ms.max(1), Ordering::Relaxed);
    }

    /// Evaluates at one time (Unix milliseconds). May take long: not for an async thread.
    pub fn instant(
        &self,
        expr: &Expr,
        t_ms: i64,
        options: &QueryOptions,
        reader: &dyn MetricReader,
        tenant: TenantId,
        budget: &dyn QueryBudget,
    ) -> Result<QueryResult, EngineError> {
        self.run(expr, Grid::instant(t_ms), 0, options, reader, tenant, budget, None)
    }

    /// Evaluates from `start_ms` to `end_ms` (both included) every `step_ms` > 0; the value is a matrix. May take long:
    /// not for an async thread.
    #[expect(clippy::too_many_arguments, reason = "a range query has that many parts")]
    pub fn range(
        &self,
        expr: &Expr,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        options: &QueryOptions,
        reader: &dyn MetricReader,
        tenant: TenantId,
        budget: &dyn QueryBudget,
    ) -> Result<QueryResult, EngineError> {
        let value_type = expr.value_type();
        if value_type != ValueType::Vector && value_type != ValueType::Scalar {
            return Err(EngineError::Execution(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                value_type.documented()
            )));
        }
        if step_ms <= 0 || end_ms < start_ms {
            return Err(EngineError::Execution("range query needs a positive step and an end after its start".into()));
        }
        let count = end_ms.saturating_sub(start_ms) / step_ms + 1;
        if count > STEPS_MAX {
            return Err(EngineError::Budget(BudgetError::Samples));
        }
        let count = count as usize;
        let grid = Grid { start_ms, step_ms, count };
        self.run(expr, grid, step_ms, options, reader, tenant, budget, Some(end_ms))
    }

    #[expect(clippy::too_many_arguments, reason = "private, gathers what both kinds of query have")]
    fn run(
        &self,
        expr: &Expr,
        grid: Grid,
        step_ms: i64,
        options: &QueryOptions,
        reader: &dyn MetricReader,
        tenant: TenantId,
        budget: &dyn QueryBudget,
        until_ms: Option<i64>,
    ) -> Result<QueryResult, EngineError> {
        let began = Instant::now();
        if [grid.start_ms, grid.step_ms].iter().any(|t| t.saturating_abs() > TIME_MS_MAX) {
            return Err(EngineError::Execution("time is out of bounds".to_owned()));
        }
        let mut settings = self.options();
        if let Some(lookback) = options.lookback_ms {
            settings.lookback_ms = lookback.clamp(0, TIME_MS_MAX);
        }
        let meter = Meter::new(budget);
        let context = Context {
            options: settings,
            reader,
            tenant,
            budget: &meter,
            meter: &meter,
            annotations: Mutex::default(),
            series: AtomicU64::new(0),
            samples_read: AtomicU64::new(0),
            samples_seen: AtomicU64::new(0),
            samples_total: AtomicU64::new(0),
            held: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            select_nanos: AtomicU64::new(0),
            profiler: options.profile.then(Mutex::default),
        };
        budget.check()?;
        // The last step may come before it.
        let end_ms = until_ms.unwrap_or(grid.start_ms);
        let value = with_room_for(expr, || {
            let prepared = prepare::prepare(expr, grid.start_ms, end_ms, step_ms)?;
            let evaluator = Evaluator::new(&context, grid, until_ms.unwrap_or(grid.start_ms));
            if until_ms.is_none() {
                instant_value(&evaluator, &prepared)
            } else {
                evaluator.eval(&prepared).and_then(|v| matrix_value(v, grid, &meter))
            }
        });
        // The value is held until the query is over.
        let held = meter.finish(value.as_ref().map_or(0, value_bytes));
        let value = value.and_then(|v| held.map(|()| v).map_err(EngineError::from));
        metrics::SAMPLES_READ.inc_by(context.samples_read.load(Ordering::Relaxed));
        metrics::QUERIES.with_label_values(&[if value.is_ok() { "ok" } else { "error" }]).inc();
        metrics::QUERY_SECONDS.observe(began.elapsed().as_secs_f64());
        let held = context.held.load(Ordering::Relaxed);
        if held > 0 {
            budget.release_samples(held);
        }
        // The result is held at the end, whatever it is made of.
        let result = value.as_ref().map_or(0, value_samples);
        let stats = QueryStats {
            series: context.series.load(Ordering::Relaxed),
            samples_read: context.samples_read.load(Ordering::Relaxed),
            samples_seen: context.samples_seen.load(Ordering::Relaxed),
            samples_total: context.samples_total.load(Ordering::Relaxed),
            samples_peak: context.peak.load(Ordering::Relaxed).max(result),
            select_time: std::time::Duration::from_nanos(context.select_nanos.load(Ordering::Relaxed)),
            total_time: began.elapsed(),
        };
        let annotations = context.annotations.into_inner().expect("no thread panics while it adds a remark");
        let profile = context.profiler.and_then(|p| p.into_inner().expect(UNPOISONED).finish());
        Ok(QueryResult { value: value?, annotations, stats, profile })
    }
}

/// The samples of a value.
fn value_samples(value: &Value) -> u64 {
    let one = |value: &SampleValue| match value {
        SampleValue::Float(_) => 1,
        SampleValue::Histogram(h) => select::counted(h),
    };
    match value {
        Value::Scalar(..) => 1,
        Value::String(..) => 0,
        Value::Vector(samples) => samples.iter().map(|s| one(&s.value)).sum(),
        Value::Matrix(series) => series.iter().flat_map(|s| &s.samples).map(|(_, value)| one(value)).sum(),
    }
}

fn instant_value(evaluator: &Evaluator<'_>, expr: &Expr) -> Result<Value, EngineError> {
    let t_ms = evaluator.grid.start_ms;
    if expr.value_type() == ValueType::Matrix {
        return Ok(Value::Matrix(evaluator.raw_matrix(expr)?));
    }
    let meter = evaluator.context.meter;
    Ok(match evaluator.eval(expr)? {
        Evaluated::Scalar(column) => Value::Scalar(t_ms, column[0]),
        Evaluated::Text(text) => Value::String(t_ms, crate::format::replaced(&text).into_owned()),
        Evaluated::Series(series) => {
            meter.take(series.len() as u64 * (MERGE_BYTES + size_of::<Sample>()) as u64)?;
            let series = cleanup_names(series)?;
            let samples = series.into_iter().filter_map(|s| {
                let value = sample_value(s.points.get(0)?);
                Some(Sample { labels: s.labels, t_ms, value })
            });
            Value::Vector(samples.collect())
        }
    })
}

fn matrix_value(value: Evaluated, grid: Grid, meter: &Meter<'_>) -> Result<Value, EngineError> {
    let series = match value {
        Evaluated::Scalar(column) => {
            vec![Series::new(trefoil_model::Labels::empty(), crate::algebra::Points::from_floats(column))]
        }
        Evaluated::Text(_) => Vec::new(),
        Evaluated::Series(series) => {
            meter.take(series.len() as u64 * MERGE_BYTES as u64)?;
            cleanup_names(series)?
        }
    };
    let mut out = Vec::with_capacity(series.len());
    for s in series {
        out.push(result_series(s, grid, meter)?);
    }
    out.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Value::Matrix(out))
}

/// The samples of a series, which it gives up for them.
fn result_series(series: Series, grid: Grid, meter: &Meter<'_>) -> Result<ResultSeries, EngineError> {
    let count = (0..series.points.len()).filter(|i| series.points.is_present(*i)).count();
    let bytes = rows_bytes(&series.labels, count) + series.points.histogram_bytes() as u64;
    meter.take(bytes)?;
    let mut samples = Vec::with_capacity(count);
    samples.extend(series.points.iter().map(|(i, p)| (grid.time(i), sample_value(p))));
    // What is left is counted when all is done; what goes now makes room for the next.
    meter.give((series.points.heap_bytes() as u64).min(meter.used().saturating_sub(bytes)));
    Ok(ResultSeries { labels: series.labels, samples })
}

/// Bytes of a series of a result with so many samples, histograms apart.
fn rows_bytes(labels: &Labels, samples: usize) -> u64 {
    (labels.heap_bytes() + size_of::<ResultSeries>() + samples * size_of::<(i64, SampleValue)>()) as u64
}

/// Bytes that a value takes.
fn value_bytes(value: &Value) -> u64 {
    let one = |v: &SampleValue| match v {
        SampleValue::Float(_) => 0,
        SampleValue::Histogram(h) => (HISTOGRAM_BYTES + h.heap_bytes()) as u64,
    };
    match value {
        Value::Scalar(..) => 0,
        Value::String(_, text) => text.len() as u64,
        Value::Vector(samples) => {
            samples.iter().map(|s| (s.labels.heap_bytes() + size_of::<Sample>()) as u64 + one(&s.value)).sum()
        }
        Value::Matrix(series) => series
            .iter()
            .map(|s| {
                let mut last = None;
                let histograms = s.samples.iter().map(|(_, v)| match v {
                    SampleValue::Histogram(h) if last.replace(Arc::as_ptr(h)) == Some(Arc::as_ptr(h)) => 0,
                    v => one(v),
                });
                rows_bytes(&s.labels, s.samples.len()) + histograms.sum::<u64>()
            })
            .sum(),
    }
}

pub(crate) fn sample_value(point: Point) -> SampleValue {
    match point {
        Point::Float(v) => SampleValue::Float(v),
        Point::Histogram(h) => SampleValue::Histogram(h),
    }
}

#[cfg(test)]
mod tests;
