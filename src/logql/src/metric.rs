//! Metric expressions over the series algebra.

use trefoil_model::Labels;
use trefoil_promql::algebra::{
    self, AggregateOp, AlgebraError, AlgebraOptions, Cardinality, Notes, Param, Points, Series,
};

use crate::Error;
use crate::ast::{Binary, BinaryOp, Group, Grouping, MetricExpr, MetricKind, RangeOp, VectorAggregation, VectorOp};
use crate::output::Stats;
use crate::pipeline::{Pipeline, Source};
use crate::range::{self, Grid};

/// A number, or series over the grid.
pub(crate) enum Value {
    Number(f64),
    Series(Vec<Series>),
}

/// One evaluation.
pub(crate) struct Evaluator<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) grid: Grid,
    /// Of an instant query.
    pub(crate) instant: bool,
    pub(crate) stats: Stats,
}

impl From<AlgebraError> for Error {
    fn from(error: AlgebraError) -> Self {
        Self::Execution(error.to_string())
    }
}

impl Evaluator<'_> {
    pub(crate) fn evaluate(&mut self, expr: &MetricExpr) -> Result<Value, Error> {
        self.source.budget.check()?;
        match &expr.kind {
            MetricKind::Literal(n) => Ok(Value::Number(*n)),
            MetricKind::Vector(n) => {
                let points = Points::from_floats(vec![*n; self.grid.steps]);
                Ok(Value::Series(vec![Series::new(Labels::empty(), points)]))
            }
            MetricKind::Range(aggregation) => {
                range::evaluate(aggregation, None, self.grid, self.source, &mut self.stats).map(Value::Series)
            }
            MetricKind::Aggregation(aggregation) => self.aggregation(aggregation).map(Value::Series),
            MetricKind::LabelReplace(replace) => {
                let series = self.series(&replace.inner)?;
                let regex =
                    trefoil_model::re2::Regex::whole(&replace.regex).map_err(|e| Error::Execution(e.to_string()))?;
                let replaced = algebra::label_replace_with(
                    series,
                    &replace.target,
                    &replace.replacement,
                    &replace.source,
                    &regex,
                    algebra::Room::default(),
                )?;
                Ok(Value::Series(replaced))
            }
            MetricKind::Binary(binary) => self.binary(binary),
        }
    }

    /// Series; a number becomes one without labels.
    fn series(&mut self, expr: &MetricExpr) -> Result<Vec<Series>, Error> {
        Ok(match self.evaluate(expr)? {
            Value::Series(series) => series,
            Value::Number(n) => {
                vec![Series::new(Labels::empty(), Points::from_floats(vec![n; self.grid.steps]))]
            }
        })
    }

    fn aggregation(&mut self, aggregation: &VectorAggregation) -> Result<Vec<Series>, Error> {
        if aggregation.op == VectorOp::ApproxTopK && !self.instant {
            return Err(Error::Execution("approx_topk works in instant queries only".to_owned()));
        }
        let none = Grouping::default();
        let grouping = aggregation.grouping.as_ref().unwrap_or(&none);
        let mut series = match &aggregation.inner.kind {
            // A sum of sums may group the lines at once, which keeps the number of series small.
            MetricKind::Range(range)
                if aggregation.op == VectorOp::Sum
                    && matches!(
                        range.op,
                        RangeOp::Count | RangeOp::Rate | RangeOp::Bytes | RangeOp::BytesRate | RangeOp::Sum
                    ) =>
            {
                range::evaluate(range, Some(grouping), self.grid, self.source, &mut self.stats)?
            }
            _ => self.series(&aggregation.inner)?,
        };
        let (op, param) = match (aggregation.op, aggregation.parameter) {
            (VectorOp::Sum, _) => (AggregateOp::Sum, Param::None),
            (VectorOp::Avg, _) => (AggregateOp::Avg, Param::None),
            (VectorOp::Min, _) => (AggregateOp::Min, Param::None),
            (VectorOp::Max, _) => (AggregateOp::Max, Param::None),
            (VectorOp::Count, _) => (AggregateOp::Count, Param::None),
            (VectorOp::Stddev, _) => (AggregateOp::Stddev, Param::None),
            (VectorOp::Stdvar, _) => (AggregateOp::Stdvar, Param::None),
            (VectorOp::BottomK, k) => (AggregateOp::BottomK, Param::Scalar(f64::from(k.unwrap_or(1)))),
            (VectorOp::TopK | VectorOp::ApproxTopK, k) => (AggregateOp::TopK, Param::Scalar(f64::from(k.unwrap_or(1)))),
            (VectorOp::Sort | VectorOp::SortDesc, _) => {
                if self.instant {
                    algebra::sort(&mut series, aggregation.op == VectorOp::SortDesc);
                }
                return Ok(series);
            }
        };
        let grouping = algebra::Grouping { without: grouping.without, labels: grouping.labels.clone() };
        Ok(algebra::aggregate(op, &grouping, &param, series, &mut Notes::new())?)
    }

    fn binary(&mut self, binary: &Binary) -> Result<Value, Error> {
        let op = algebra_op(binary.op);
        let (lhs, rhs) = (self.evaluate(&binary.lhs)?, self.evaluate(&binary.rhs)?);
        let divides = matches!(binary.op, BinaryOp::Div | BinaryOp::Mod);
        // In LogQL x / 0 is NaN; a divisor that is NaN gives just that.
        let divisor = |n: f64| if divides && n == 0.0 { f64::NAN } else { n };
        let options = AlgebraOptions::default();
        let notes = &mut Notes::new();
        let steps = self.grid.steps;
        let divisors = |series: Vec<Series>| -> Vec<Series> {
            let mut series = series;
            if divides {
                for one in &mut series {
                    for value in one.points.floats_mut() {
                        if *value == 0.0 {
                            *value = f64::NAN;
                        }
                    }
                }
            }
            series
        };
        let bool_flag = binary.return_bool;
        Ok(match (lhs, rhs) {
            (Value::Number(a), Value::Number(b)) => Value::Number(algebra::scalar_op(op, a, divisor(b))),
            (Value::Series(series), Value::Number(n)) => {
                let column = vec![divisor(n); steps];
                Value::Series(algebra::binary_scalar(op, bool_flag, series, &column, false, options, notes)?)
            }
            (Value::Number(n), Value::Series(series)) => {
                let column = vec![n; steps];
                Value::Series(algebra::binary_scalar(op, bool_flag, divisors(series), &column, true, options, notes)?)
            }
            (Value::Series(a), Value::Series(b)) => {
                let matching = algebra::Matching {
                    cardinality: match binary.matching.group {
                        _ if binary.op.is_set() => Cardinality::ManyToMany,
                        Group::None => Cardinality::OneToOne,
                        Group::Left => Cardinality::ManyToOne,
                        Group::Right => Cardinality::OneToMany,
                    },
                    on: binary.matching.on,
                    labels: binary.matching.labels.clone(),
                    include: binary.matching.include.clone(),
                    ..Default::default()
                };
                Value::Series(algebra::binary(op, &matching, bool_flag, a, divisors(b), steps, options, notes)?)
            }
        })
    }
}

fn algebra_op(op: BinaryOp) -> algebra::BinaryOp {
    match op {
        BinaryOp::Or => algebra::BinaryOp::Or,
        BinaryOp::And => algebra::BinaryOp::And,
        BinaryOp::Unless => algebra::BinaryOp::Unless,
        BinaryOp::Equal => algebra::BinaryOp::Eq,
        BinaryOp::NotEqual => algebra::BinaryOp::NotEq,
        BinaryOp::Less => algebra::BinaryOp::Less,
        BinaryOp::LessEqual => algebra::BinaryOp::LessEq,
        BinaryOp::Greater => algebra::BinaryOp::Greater,
        BinaryOp::GreaterEqual => algebra::BinaryOp::GreaterEq,
        BinaryOp::Add => algebra::BinaryOp::Add,
        BinaryOp::Sub => algebra::BinaryOp::Sub,
        BinaryOp::Mul => algebra::BinaryOp::Mul,
        BinaryOp::Div => algebra::BinaryOp::Div,
        BinaryOp::Mod => algebra::BinaryOp::Mod,
        BinaryOp::Pow => algebra::BinaryOp::Pow,
    }
}

/// Compiles every pipeline within an expression, so that errors show before anything is read.
pub(crate) fn check(expr: &MetricExpr) -> Result<(), Error> {
    match &expr.kind {
        MetricKind::Literal(_) | MetricKind::Vector(_) => Ok(()),
        MetricKind::Range(aggregation) => {
            Pipeline::new(&aggregation.log)?;
            range::compile_filters(aggregation)?;
            Ok(())
        }
        MetricKind::Aggregation(aggregation) => check(&aggregation.inner),
        MetricKind::LabelReplace(replace) => check(&replace.inner),
        MetricKind::Binary(binary) => check(&binary.lhs).and_then(|()| check(&binary.rhs)),
    }
}

/// True when the order of an instant vector is the expression's own.
pub(crate) fn is_ordered(expr: &MetricExpr) -> bool {
    match &expr.kind {
        MetricKind::Aggregation(aggregation) => matches!(
            aggregation.op,
            VectorOp::Sort | VectorOp::SortDesc | VectorOp::TopK | VectorOp::BottomK | VectorOp::ApproxTopK
        ),
        _ => false,
    }
}
