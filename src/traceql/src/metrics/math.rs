//! What follows the metrics functions, by the series algebra.

use std::collections::hash_map::Entry;

use trefoil_promql::algebra::{
    AggregateOp, AlgebraOptions, BinaryOp, Cardinality, Grouping, Matching, Param, Room, Series, aggregate, binary,
    binary_scalar,
};

use super::{Context, Inspected, Partial, leaf};
use crate::Error;
use crate::ast::{FieldOp, MetricsExpr};

fn algebra_op(op: FieldOp) -> BinaryOp {
    match op {
        FieldOp::Add => BinaryOp::Add,
        FieldOp::Sub => BinaryOp::Sub,
        FieldOp::Mul => BinaryOp::Mul,
        FieldOp::Div => BinaryOp::Div,
        FieldOp::NotEqual => BinaryOp::NotEq,
        FieldOp::Less => BinaryOp::Less,
        FieldOp::LessEqual => BinaryOp::LessEq,
        FieldOp::Greater => BinaryOp::Greater,
        FieldOp::GreaterEqual => BinaryOp::GreaterEq,
        // The parser lets no other through.
        _ => BinaryOp::Eq,
    }
}

/// Evaluates the tree; its depth is bounded by the parser.
pub(super) fn evaluate(
    metrics: &MetricsExpr,
    context: &Context<'_>,
    inspected: &mut Inspected,
) -> Result<Partial, Error> {
    let options = AlgebraOptions { delayed_name_removal: false, room: Room::of(context.budget) };
    let steps = context.grid.steps;
    match metrics {
        MetricsExpr::Leaf(leaf) => leaf::evaluate(leaf, context, inspected),
        MetricsExpr::Rank(top, k, inner) => {
            let mut partial = evaluate(inner, context, inspected)?;
            let op = if *top { AggregateOp::TopK } else { AggregateOp::BottomK };
            partial.series =
                aggregate(op, &Grouping::default(), &Param::Scalar(*k as f64), partial.series, &mut Vec::new())?;
            partial.series.retain(|s| !s.points.is_void());
            Ok(partial)
        }
        MetricsExpr::Filter(op, value, inner) => {
            let mut partial = evaluate(inner, context, inspected)?;
            let scalar = vec![value.seconds().unwrap_or(f64::NAN); steps];
            partial.series =
                binary_scalar(algebra_op(*op), false, partial.series, &scalar, false, options, &mut Vec::new())?;
            Ok(partial)
        }
        MetricsExpr::Math(op, lhs, rhs) => match (&**lhs, &**rhs) {
            (MetricsExpr::Number(n), other) => scalar_math(*op, other, *n, true, context, inspected),
            (other, MetricsExpr::Number(n)) => scalar_math(*op, other, *n, false, context, inspected),
            _ => {
                let left = evaluate(lhs, context, inspected)?;
                let right = evaluate(rhs, context, inspected)?;
                both(*op, left, right, steps, options)
            }
        },
        MetricsExpr::Number(_) => Err(Error::Query("a number is no metrics query".to_owned())),
    }
}

fn scalar_math(
    op: FieldOp,
    operand: &MetricsExpr,
    number: f64,
    on_left: bool,
    context: &Context<'_>,
    inspected: &mut Inspected,
) -> Result<Partial, Error> {
    let options = AlgebraOptions { delayed_name_removal: false, room: Room::of(context.budget) };
    let mut partial = evaluate(operand, context, inspected)?;
    let scalar = vec![number; context.grid.steps];
    partial.series = binary_scalar(algebra_op(op), false, partial.series, &scalar, on_left, options, &mut Vec::new())?;
    without_quotients_by_zero(op, &mut partial.series);
    Ok(partial)
}

/// Nothing comes of a division by zero.
fn without_quotients_by_zero(op: FieldOp, series: &mut Vec<Series>) {
    if op != FieldOp::Div {
        return;
    }
    for s in series.iter_mut() {
        for step in 0..s.points.len() {
            if s.points.float(step).is_some_and(|v| !v.is_finite()) {
                s.points.clear(step);
            }
        }
    }
    series.retain(|s| !s.points.is_void());
}

fn is_ungrouped(partial: &Partial) -> bool {
    matches!(&partial.series[..], [only] if only.labels.is_empty())
}

fn both(
    op: FieldOp,
    left: Partial,
    right: Partial,
    steps: usize,
    options: AlgebraOptions<'_>,
) -> Result<Partial, Error> {
    let (left_alone, right_alone) = (is_ungrouped(&left), is_ungrouped(&right));
    // A side without groups pairs with every series of the other.
    let (cardinality, on) = match (left_alone, right_alone) {
        (true, false) => (Cardinality::OneToMany, true),
        (false, true) => (Cardinality::ManyToOne, true),
        _ => (Cardinality::OneToOne, false),
    };
    let matching = Matching { cardinality, on, ..Matching::default() };
    let name = match (left.name, right.name) {
        (Some(l), Some(r)) => Some(format!("({l} {} {r})", op.as_str())),
        (l, r) => l.or(r),
    };
    let mut exemplars = left.exemplars;
    #[expect(clippy::iter_over_hash_type, reason = "each goes to its own entry")]
    for (labels, mut more) in right.exemplars {
        match exemplars.entry(labels) {
            Entry::Vacant(e) => {
                e.insert(more);
            }
            Entry::Occupied(mut e) => {
                e.get_mut().append(&mut more);
                e.get_mut().sort_by_key(|x| (x.time_ns, x.trace_id));
            }
        }
    }
    let mut series =
        binary(algebra_op(op), &matching, false, left.series, right.series, steps, options, &mut Vec::new())?;
    without_quotients_by_zero(op, &mut series);
    Ok(Partial { series, name, exemplars })
}
