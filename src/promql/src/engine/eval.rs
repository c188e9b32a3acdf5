//! The dispatch over expressions.

use std::sync::atomic::Ordering;

use trefoil_model::{SelectedSeries, TimeRange};

use super::range_function::{RangeCall, RangeFunction};
use super::select::{
    STREAM_SERIES, SeriesFn, counted, counted_all, mark_first_reset, read_range, stream_series, time_before,
};
use super::window::{Cursor, Samples};
use super::{Context, EngineError, Grid, STEPS_MAX, result_series, rows_bytes};
use crate::algebra::series::{HISTOGRAM_BYTES, MERGE_BYTES};
use crate::algebra::{
    AggregateOp, Aggregator, AlgebraOptions, Notes, Param, Points, Series, binary, binary_scalar, scalar_op,
};
use crate::annotations::NoteKind;
use crate::ast::{
    Aggregate, At, Binary, Expr, ExprKind, MatrixSelector, PositionRange, RangeMode, Subquery, ValueType,
};
use crate::format::format_g;
use crate::value::{ResultSeries, SampleValue};

/// The value of an expression over the grid.
pub(super) enum Evaluated {
    /// One number a step.
    Scalar(Vec<f64>),
    /// A text.
    Text(String),
    /// Series on the grid. Names may be marked for removal.
    Series(Vec<Series>),
}

impl Evaluated {
    fn bytes(&self) -> u64 {
        match self {
            Self::Scalar(column) => (column.capacity() * size_of::<f64>()) as u64,
            Self::Text(text) => text.len() as u64,
            Self::Series(series) => series.iter().map(|s| s.bytes() as u64).sum(),
        }
    }
}

/// Evaluates expressions on one grid.
pub(super) struct Evaluator<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) grid: Grid,
    /// Whether begin and end are different times, even if there is one step only.
    pub(super) spans: bool,
}

/// The input of an aggregation.
enum Made<'f> {
    Series(Vec<Series>),
    /// Series that can be made one by one, and how.
    Plan(&'f [SelectedSeries], &'f SeriesFn<'f>),
}

/// What a range function reads.
pub(super) enum RangeSource<'e> {
    Selector(&'e MatrixSelector),
    /// The series of a subquery on its own grid.
    Subquery(Vec<Series>, Grid),
}

/// Where remarks of a function over a range point to: its first argument, but for a subquery there, whose place the
/// reference has lost by then, the begin of the query.
fn remarked(args: &[Expr]) -> PositionRange {
    let first = args[0].unwrapped();
    if matches!(first.kind, ExprKind::Subquery(_)) { PositionRange::default() } else { first.position }
}

impl<'a> Evaluator<'a> {
    /// Evaluates from the grid's first step to `end_ms`.
    pub(super) fn new(context: &'a Context<'a>, grid: Grid, end_ms: i64) -> Self {
        Self { context, grid, spans: end_ms != grid.start_ms }
    }

    pub(super) fn algebra_options(&self) -> AlgebraOptions<'_> {
        AlgebraOptions { delayed_name_removal: self.context.options.delayed_name_removal, room: self.context.room() }
    }

    pub(super) fn eval(&self, expr: &Expr) -> Result<Evaluated, EngineError> {
        let made = |value: &Evaluated| match value {
            Evaluated::Series(series) => Some(series.len() as u64),
            Evaluated::Scalar(_) | Evaluated::Text(_) => None,
        };
        self.context.profiled(expr.position, || self.metered(expr), made)
    }

    /// Evaluates, and gives back the memory that was for operands and on the way.
    fn metered(&self, expr: &Expr) -> Result<Evaluated, EngineError> {
        let meter = self.context.meter;
        let mark = meter.used();
        if expr.value_type() == ValueType::Scalar {
            meter.take(self.grid.count as u64 * size_of::<f64>() as u64)?;
        }
        let value = self.dispatch(expr)?;
        meter.settle(mark, value.bytes())?;
        Ok(value)
    }

    fn dispatch(&self, expr: &Expr) -> Result<Evaluated, EngineError> {
        match &expr.kind {
            ExprKind::Number { value, .. } => Ok(Evaluated::Scalar(vec![*value; self.grid.count])),
            ExprKind::String(text) => Ok(Evaluated::Text(text.clone())),
            ExprKind::Paren(e) => self.eval(e),
            ExprKind::StepInvariant(e) => self.step_invariant(e),
            ExprKind::Unary { negative, expr } => self.unary(*negative, expr),
            ExprKind::Binary(b) => self.binary(b, expr),
            ExprKind::Aggregate(a) => self.aggregate(a, expr).map(Evaluated::Series),
            ExprKind::Call { function, args } => self.call(function.name, args, expr),
            ExprKind::Vector(v) if v.mode == RangeMode::Smoothed => {
                self.smoothed_vector(v, expr.position).map(Evaluated::Series)
            }
            ExprKind::Vector(v) => {
                let (selected, f) = self.vector_plan(v)?;
                Ok(Evaluated::Series(self.context.map_series(&selected, self.grid.count, &*f)?))
            }
            ExprKind::Matrix(_) | ExprKind::Subquery(_) => {
                Err(EngineError::Execution("a range vector has no value at a step".to_owned()))
            }
        }
    }

    pub(super) fn series(&self, expr: &Expr) -> Result<Vec<Series>, EngineError> {
        match self.eval(expr)? {
            Evaluated::Series(series) => Ok(series),
            // A scalar stands for a series without labels.
            Evaluated::Scalar(column) => {
                Ok(vec![Series::new(trefoil_model::Labels::empty(), Points::from_floats(column))])
            }
            Evaluated::Text(_) => Err(EngineError::Execution("expected an instant vector, got string".to_owned())),
        }
    }

    pub(super) fn scalar(&self, expr: &Expr) -> Result<Vec<f64>, EngineError> {
        match self.eval(expr)? {
            Evaluated::Scalar(column) => Ok(column),
            _ => Err(EngineError::Execution("expected a scalar".to_owned())),
        }
    }

    pub(super) fn text(&self, expr: &Expr) -> Result<String, EngineError> {
        match self.eval(expr)? {
            Evaluated::Text(text) => Ok(text),
            _ => Err(EngineError::Execution("expected a string".to_owned())),
        }
    }

    fn step_invariant(&self, expr: &Expr) -> Result<Evaluated, EngineError> {
        if self.grid.count == 1 && !self.spans {
            return self.eval(expr);
        }
        let once = Evaluator::new(self.context, Grid { count: 1, ..self.grid }, self.grid.start_ms);
        let steps = self.grid.count;
        // What is looked at once counts at each step.
        let before = self.context.samples_total.load(Ordering::Relaxed);
        let value = once.eval(expr)?;
        let looked = self.context.samples_total.load(Ordering::Relaxed).saturating_sub(before);
        self.context.count_read(0, looked.saturating_mul(steps as u64 - 1));
        Ok(match value {
            Evaluated::Scalar(column) => Evaluated::Scalar(vec![column[0]; steps]),
            Evaluated::Text(text) => Evaluated::Text(text),
            Evaluated::Series(series) => {
                let weight: u64 = series.iter().map(|s| s.points.sample_weight()).sum();
                self.context.charge(weight.saturating_mul(steps as u64 - 1))?;
                let slots: usize = series.iter().map(|s| if s.points.has_histograms() { 16 } else { 8 }).sum();
                self.context.meter.take((slots as u64).saturating_mul(steps as u64))?;
                Evaluated::Series(
                    series.into_iter().map(|s| Series { points: s.points.broadcast(steps), ..s }).collect(),
                )
            }
        })
    }

    fn unary(&self, negative: bool, expr: &Expr) -> Result<Evaluated, EngineError> {
        let value = self.eval(expr)?;
        if !negative {
            return Ok(value);
        }
        Ok(match value {
            Evaluated::Scalar(column) => Evaluated::Scalar(column.into_iter().map(|v| -v).collect()),
            Evaluated::Text(text) => Evaluated::Text(text),
            Evaluated::Series(mut series) => {
                for s in &mut series {
                    self.context.meter.take((s.labels.heap_bytes() + s.points.histogram_bytes()) as u64)?;
                    for step in 0..s.points.len() {
                        match s.points.get(step) {
                            Some(crate::algebra::Point::Float(v)) => s.points.set_float(step, -v),
                            Some(crate::algebra::Point::Histogram(h)) => {
                                s.points.set_histogram(step, crate::histogram::scaled(&h, -1.0).into());
                            }
                            None => {}
                        }
                    }
                    s.remove_name(self.context.options.delayed_name_removal);
                }
                Evaluated::Series(self.unique(series)?)
            }
        })
    }

    /// When names go at once, series that thereby become equal are an error.
    pub(super) fn unique(&self, series: Vec<Series>) -> Result<Vec<Series>, EngineError> {
        if self.context.options.delayed_name_removal {
            return Ok(series);
        }
        self.context.meter.take(series.len() as u64 * MERGE_BYTES as u64)?;
        Ok(crate::algebra::series::merge_equal(series)?)
    }

    fn binary(&self, b: &Binary, expr: &Expr) -> Result<Evaluated, EngineError> {
        let scalar = |e: &Expr| e.value_type() == ValueType::Scalar;
        let mut notes = Notes::new();
        let out = match (scalar(&b.lhs), scalar(&b.rhs)) {
            (true, true) => {
                let (l, r) = (self.scalar(&b.lhs)?, self.scalar(&b.rhs)?);
                let column = l.into_iter().zip(r).map(|(x, y)| scalar_op(b.op, x, y)).collect();
                return Ok(Evaluated::Scalar(column));
            }
            (true, false) => {
                let (l, r) = (self.scalar(&b.lhs)?, self.series(&b.rhs)?);
                binary_scalar(b.op, b.return_bool, r, &l, true, self.algebra_options(), &mut notes)
            }
            (false, true) => {
                let (l, r) = (self.series(&b.lhs)?, self.scalar(&b.rhs)?);
                binary_scalar(b.op, b.return_bool, l, &r, false, self.algebra_options(), &mut notes)
            }
            (false, false) => {
                let (l, r) = (self.series(&b.lhs)?, self.series(&b.rhs)?);
                self.context.budget.check()?;
                let steps = self.grid.count;
                binary(b.op, &b.matching, b.return_bool, l, r, steps, self.algebra_options(), &mut notes)
            }
        };
        self.context.annotate_all(notes, expr.position);
        Ok(Evaluated::Series(out?))
    }

    fn aggregate(&self, a: &Aggregate, expr: &Expr) -> Result<Vec<Series>, EngineError> {
        // What is remarked about the parameter comes after what is below.
        let mut late = Vec::new();
        let param = self.aggregate_param(a, &mut late)?;
        let remark = || {
            let position = a.param.as_ref().map_or(expr.position, |p| p.unwrapped().position);
            late.iter().for_each(|kind: &NoteKind| self.context.annotate(kind.clone(), position));
        };
        let Some(param) = param else {
            // Nothing is taken; what is to be remarked about the input still is.
            self.series(&a.expr)?;
            remark();
            return Ok(Vec::new());
        };
        let steps = self.grid.count;
        let room = self.context.room();
        let parts = || Ok(Aggregator::new(a.op, a.grouping.clone(), param.clone(), steps)?.within(room));
        let mut aggregator = parts()?;
        // These hold on to their input until the end.
        let keeps = a.op.keeps_input() || a.op == AggregateOp::Quantile;
        let mergeable = Aggregator::is_mergeable(a.op);
        self.stream(&a.expr, &mut |made| match made {
            Made::Series(series) => {
                for s in series {
                    let bytes = s.bytes() as u64;
                    aggregator.push(s)?;
                    self.context.meter.give(bytes);
                }
                Ok(())
            }
            Made::Plan(selected, f) if mergeable && selected.len() > STREAM_SERIES => {
                self.context.aggregate_parts(selected, steps, f, &parts, &mut aggregator)
            }
            Made::Plan(selected, f) => {
                for part in selected.chunks(stream_series(steps)) {
                    let mark = self.context.meter.used();
                    let series = self.context.map_series(part, steps, f)?;
                    // They were charged when made, and are gone once aggregated.
                    let made = self.context.meter.used().saturating_sub(mark);
                    let weight: u64 = series.iter().map(|s| s.points.sample_weight()).sum();
                    for s in series {
                        self.context.budget.check()?;
                        aggregator.push(s)?;
                    }
                    self.context.release(if keeps { aggregator.take_forgotten() } else { weight });
                    self.context.meter.give(made);
                }
                Ok(())
            }
        })?;
        remark();
        let mut notes = Notes::new();
        let out = aggregator.finish(&mut notes)?;
        let position = if matches!(a.op, AggregateOp::TopK | AggregateOp::BottomK) {
            expr.position
        } else {
            a.expr.unwrapped().position
        };
        self.context.annotate_all(notes, position);
        self.context.charge(out.iter().map(|s| s.points.sample_weight()).sum())?;
        Ok(out)
    }

    /// The parameter, checked; `None` when the result is empty whatever the input.
    fn aggregate_param(&self, a: &Aggregate, late: &mut Vec<NoteKind>) -> Result<Option<Param>, EngineError> {
        let Some(expr) = &a.param else { return Ok(Some(Param::None)) };
        if a.op == AggregateOp::CountValues {
            return self.text(expr).map(Param::Label).map(Some);
        }
        let column = self.scalar(expr)?;
        let max = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let min = column.iter().copied().fold(f64::INFINITY, f64::min);
        let has_nan = column.iter().any(|v| v.is_nan());
        let fail = |text: String| Err(EngineError::Execution(text));
        let mut note = |kind| late.push(kind);
        match a.op {
            AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK => {
                if has_nan {
                    return fail("Parameter value is NaN".to_owned());
                }
                if max < 1.0 {
                    return Ok(None);
                }
                if min <= i64::MIN as f64 {
                    return fail(format!("Scalar value {} underflows int64", format_g(min)));
                }
                if max >= i64::MAX as f64 {
                    return fail(format!("Scalar value {} overflows int64", format_g(max)));
                }
            }
            AggregateOp::LimitRatio => {
                if has_nan {
                    return fail("Ratio value is NaN".to_owned());
                }
                if max == 0.0 && min == 0.0 {
                    return Ok(None);
                }
                if max > 1.0 {
                    note(NoteKind::InvalidRatio(max, 1.0));
                }
                if min < -1.0 {
                    note(NoteKind::InvalidRatio(min, -1.0));
                }
            }
            AggregateOp::Quantile => {
                if has_nan {
                    note(NoteKind::InvalidQuantile(f64::NAN));
                }
                if max > 1.0 {
                    note(NoteKind::InvalidQuantile(max));
                }
                if min < 0.0 {
                    note(NoteKind::InvalidQuantile(min));
                }
            }
            _ => {}
        }
        Ok(Some(Param::Column(column)))
    }

    /// Hands the series of an expression to `take`, or the plan to make them where they can be made one by one.
    fn stream(
        &self,
        expr: &Expr,
        take: &mut dyn FnMut(Made<'_>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.context.profiled(expr.position, || self.stream_node(expr, take), |()| None)
    }

    fn stream_node(
        &self,
        expr: &Expr,
        take: &mut dyn FnMut(Made<'_>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        match &expr.kind {
            ExprKind::Paren(e) => self.stream(e, take),
            ExprKind::Vector(v) if v.mode != RangeMode::Smoothed => {
                let (selected, f) = self.vector_plan(v)?;
                take(Made::Plan(&selected, &*f))
            }
            ExprKind::Call { function, args } => match self.range_call(function.name, args)? {
                Some((call, RangeSource::Selector(m))) if call.function != RangeFunction::AbsentOverTime => {
                    let (selected, f) = self.range_plan(&call, m)?;
                    if self.stays_unique(&call, &selected) {
                        return take(Made::Plan(&selected, &*f));
                    }
                    let series = self.context.map_series(&selected, self.grid.count, &*f)?;
                    take(Made::Series(self.unique(series)?))
                }
                Some((call, source)) => take(Made::Series(self.range_series(&call, source, &args[call.argument])?)),
                None => take(Made::Series(self.series(expr)?)),
            },
            _ => take(Made::Series(self.series(expr)?)),
        }
    }

    /// True when no two series become equal by losing their names.
    fn stays_unique(&self, call: &RangeCall, selected: &[SelectedSeries]) -> bool {
        if self.context.options.delayed_name_removal || !call.function.drops_name() {
            return true;
        }
        let Some(first) = selected.first() else { return true };
        let metadata =
            |s: &SelectedSeries| ["__name__", "__type__", "__unit__"].map(|n| s.labels.get(n).map(str::to_owned));
        let known = metadata(first);
        selected.iter().all(|s| metadata(s) == known)
    }

    /// The call of a range function with its range, or `None` when the function takes no range.
    pub(super) fn range_call<'e>(
        &self,
        name: &str,
        args: &'e [Expr],
    ) -> Result<Option<(RangeCall, RangeSource<'e>)>, EngineError> {
        let Some(argument) = args.iter().position(|a| a.value_type() == ValueType::Matrix) else {
            return Ok(None);
        };
        let Some(function) = RangeFunction::find(name) else {
            return Err(EngineError::Execution(format!("function {name} takes no range vector")));
        };
        let mut params = Vec::with_capacity(args.len() - 1);
        for (i, arg) in args.iter().enumerate() {
            if i != argument {
                params.push(self.scalar(arg)?);
            }
        }
        let arg = args[argument].unwrapped();
        let (source, range_ms, offset_ms, at, mode) = match &arg.kind {
            ExprKind::Matrix(m) => {
                let s = &m.selector;
                (RangeSource::Selector(m), m.range.ms(), s.offset.ms(), s.at, s.mode)
            }
            ExprKind::Subquery(s) => {
                // What the windows hold is counted, and not what it is made of.
                let counted = self.context.samples_total.load(Ordering::Relaxed);
                let (series, grid) = self.subquery(s)?;
                self.context.samples_total.store(counted, Ordering::Relaxed);
                (RangeSource::Subquery(series, grid), s.range.ms(), s.offset.ms(), s.at, RangeMode::Plain)
            }
            _ => return Err(EngineError::Execution("expected a range vector".to_owned())),
        };
        function.check_mode(mode)?;
        let call = RangeCall {
            function,
            params,
            argument,
            position: remarked(args),
            range_ms,
            offset_ms,
            at,
            mode,
            lookback_ms: self.context.options.lookback_ms,
            start_timestamps: self.context.options.start_timestamps,
        };
        call.check_params()?;
        Ok(Some((call, source)))
    }

    /// The series that a range selector reads, and what makes a series of each.
    pub(super) fn range_plan<'f>(
        &'f self,
        call: &'f RangeCall,
        m: &'f MatrixSelector,
    ) -> Result<(Vec<SelectedSeries>, Box<SeriesFn<'f>>), EngineError> {
        let (first, last) = self.selector_times(call.at, call.offset_ms);
        let (before, behind) = call.margins();
        let range = read_range(first.saturating_sub(call.range_ms).saturating_sub(before), last.saturating_add(behind));
        let wide = self.context.rolled_range(range);
        let found = wide.unwrap_or(range);
        let hinted = m.selector.stats_only && call.function.shows_hints();
        let from = if hinted { time_before(found, call.lookback_ms).start_ms } else { found.start_ms };
        let selected = self.context.select(&m.selector, TimeRange::new(from, found.end_ms))?;
        let delayed = self.context.options.delayed_name_removal;
        let f = move |series: &SelectedSeries, scratch: &mut super::select::Scratch| {
            if let Some(wide) = wide
                && let Some(points) = self.rolled_points(call, series, wide, m.selector.stats_only, scratch)?
            {
                let mut out = Series::new(series.labels.clone(), points);
                if call.function.drops_name() {
                    out.remove_name(delayed);
                }
                return Ok((!out.points.is_void()).then_some(out));
            }
            scratch.read(series, range, m.selector.presence_only)?;
            let read = scratch.buffer.len() as u64;
            if read == 0 {
                return Ok(None);
            }
            self.context.charge(read)?;
            if hinted {
                mark_first_reset(series, time_before(range, call.lookback_ms), &mut scratch.buffer)?;
            }
            let _held = self.context.hold_samples(&scratch.buffer)?;
            let seen = counted_all(&scratch.buffer);
            scratch.samples.take_from(&mut scratch.buffer);
            if m.selector.stats_only {
                scratch.samples.keep_stats();
            }
            let mut notes = Notes::new();
            let (points, total) =
                call.evaluate(&scratch.samples, &series.labels, self.grid, self.context.budget, &mut notes)?;
            for kind in notes {
                scratch.annotations.add(kind, call.position);
            }
            self.context.count_read(read, total);
            // Windows that are apart cover less than was read.
            self.context.count_seen(seen.min(total));
            self.context.release(read);
            let mut out = Series::new(series.labels.clone(), points);
            if call.function.drops_name() {
                out.remove_name(delayed);
            }
            Ok((!out.points.is_void()).then_some(out))
        };
        Ok((selected, Box::new(f)))
    }

    /// Evaluates a range function over all its series.
    pub(super) fn range_series(
        &self,
        call: &RangeCall,
        source: RangeSource<'_>,
        arg: &Expr,
    ) -> Result<Vec<Series>, EngineError> {
        let series = match source {
            RangeSource::Selector(m) => {
                let (selected, f) = self.range_plan(call, m)?;
                self.context.map_series(&selected, self.grid.count, &*f)?
            }
            RangeSource::Subquery(series, grid) => {
                let meter = self.context.meter;
                let mut samples = Samples::default();
                let mut out = Vec::with_capacity(series.len());
                for s in series {
                    self.context.budget.check()?;
                    // Its samples with their times, and what is made of them.
                    let _held = meter.hold(2 * (grid.count * size_of::<f64>()) as u64)?;
                    meter.take(Series::bytes_of(&s.labels, self.grid.count) as u64)?;
                    samples.take_points(&s.points, grid);
                    let mut notes = Notes::new();
                    let (points, total) =
                        call.evaluate(&samples, &s.labels, self.grid, self.context.budget, &mut notes)?;
                    self.context.annotate_all(notes, call.position);
                    self.context.count_read(0, total);
                    let mut result = Series { labels: s.labels, points, drop_name: s.drop_name };
                    if call.function.drops_name() {
                        result.remove_name(self.context.options.delayed_name_removal);
                    }
                    if !result.points.is_void() {
                        self.context.charge(result.points.sample_weight())?;
                        meter.take(result.points.histogram_bytes() as u64)?;
                        out.push(result);
                    }
                }
                out
            }
        };
        if call.function == RangeFunction::AbsentOverTime {
            return Ok(self.absent(&series, arg));
        }
        self.unique(series)
    }

    /// Evaluates the inner expression of a subquery on its grid.
    pub(super) fn subquery(&self, s: &Subquery) -> Result<(Vec<Series>, Grid), EngineError> {
        let (first, end) = self.selector_times(s.at, s.offset.ms());
        let step_ms = match &s.step {
            Some(step) => step.ms().max(1),
            None => self.context.options.subquery_step_ms.max(1),
        };
        let open = first.saturating_sub(s.range.ms());
        // The first multiple of the step after the open left edge.
        let start_ms = (open.div_euclid(step_ms) + 1) * step_ms;
        if end < start_ms {
            return Ok((Vec::new(), Grid { start_ms, step_ms, count: 0 }));
        }
        let count = (end - start_ms) / step_ms + 1;
        if count > STEPS_MAX {
            return Err(EngineError::Budget(trefoil_model::BudgetError::Samples));
        }
        let grid = Grid { start_ms, step_ms, count: count as usize };
        let inner = Evaluator::new(self.context, grid, end);
        Ok((inner.series(&s.expr)?, grid))
    }

    /// The samples of a range vector at the only step.
    pub(super) fn raw_matrix(&self, expr: &Expr) -> Result<Vec<ResultSeries>, EngineError> {
        let expr = expr.unwrapped();
        let mut out = match &expr.kind {
            ExprKind::Matrix(m) => self.raw_selector(m)?,
            ExprKind::Subquery(s) => {
                let (series, grid) = self.subquery(s)?;
                self.context.meter.take(series.len() as u64 * MERGE_BYTES as u64)?;
                let series = crate::algebra::cleanup_names(series)?;
                series.into_iter().map(|s| result_series(s, grid, self.context.meter)).collect::<Result<Vec<_>, _>>()?
            }
            _ => return Err(EngineError::Execution("expected a range vector".to_owned())),
        };
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(out)
    }

    fn raw_selector(&self, m: &MatrixSelector) -> Result<Vec<ResultSeries>, EngineError> {
        let offset = m.selector.offset.ms();
        let until = match m.selector.at {
            Some(At::Time(t)) => t - offset,
            _ => self.grid.start_ms - offset,
        };
        let after = until.saturating_sub(m.range.ms());
        let lookback = self.context.options.lookback_ms;
        let (before, behind) = match m.selector.mode {
            RangeMode::Plain => (0, 0),
            RangeMode::Anchored => (lookback, 0),
            RangeMode::Smoothed => (lookback, lookback),
        };
        let range = read_range(after.saturating_sub(before), until.saturating_add(behind));
        let mut out = Vec::new();
        let mut scratch = super::select::Scratch::default();
        for series in self.context.select(&m.selector, range)? {
            self.context.budget.check()?;
            scratch.buffer.clear();
            series.source.read(range, &mut scratch.buffer)?;
            self.context.charge(scratch.buffer.len() as u64)?;
            let held = self.context.hold_samples(&scratch.buffer)?;
            self.context.meter.take(rows_bytes(&series.labels, scratch.buffer.len()))?;
            let read = scratch.buffer.len() as u64;
            scratch.samples.take_from(&mut scratch.buffer);
            let window = scratch.samples.window(&mut Cursor::default(), i64::MIN, i64::MAX);
            let samples = super::extended::raw_samples(&window, after, until, m.selector.mode);
            let histograms = window.histograms.iter().map(|h| (HISTOGRAM_BYTES + h.heap_bytes()) as u64);
            self.context.meter.take(histograms.sum())?;
            drop(held);
            let total = samples.iter().map(|(_, value)| match value {
                SampleValue::Float(_) => 1,
                SampleValue::Histogram(h) => counted(h),
            });
            let total = total.sum();
            self.context.count_read(read, total);
            self.context.count_seen(total);
            if !samples.is_empty() {
                out.push(ResultSeries { labels: series.labels, samples });
            }
        }
        Ok(out)
    }
}
