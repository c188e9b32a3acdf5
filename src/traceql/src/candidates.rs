//! What of a query the store can use: conditions that every span of the result satisfies.

use trefoil_model::SpanQuery;

use crate::ast::{Attribute, FieldExpr, FieldKind, FieldOp, Intrinsic, Keep, Pipeline, SetExpr, SetOp, Stage, Value};

/// Adds the conditions of a pipeline. A trace without a span that satisfies all of them has no result.
pub(crate) fn narrow(query: &mut SpanQuery, pipeline: &Pipeline) {
    for stage in &pipeline.stages {
        match stage {
            Stage::Spans(expr) => of_set(query, expr),
            // What an aggregate counts are the spans before it, yet its result is among them.
            Stage::Aggregate(_) | Stage::By(_) | Stage::Coalesce | Stage::Select(_) => {}
        }
    }
}

fn of_set(query: &mut SpanQuery, expr: &SetExpr) {
    match expr {
        SetExpr::Filter(Some(filter)) => of_field(query, filter),
        SetExpr::Pipeline(pipeline) => narrow(query, pipeline),
        SetExpr::Op { op: SetOp::Structural(_, Keep::Right | Keep::Unrelated), rhs, .. } => of_set(query, rhs),
        SetExpr::Filter(None) | SetExpr::Op { .. } => {}
    }
}

fn of_field(query: &mut SpanQuery, expr: &FieldExpr) {
    let FieldKind::Binary(b) = &expr.kind else { return };
    if b.op == FieldOp::And {
        of_field(query, &b.lhs);
        of_field(query, &b.rhs);
        return;
    }
    let (FieldKind::Attribute(attribute), FieldKind::Value(value)) = (&b.lhs.kind, &b.rhs.kind) else { return };
    match (attribute, value) {
        (a, Value::String(text)) if a.is_service_name() && b.op == FieldOp::Equal => {
            query.service.get_or_insert_with(|| text.clone());
        }
        (Attribute::Intrinsic(Intrinsic::Name), Value::String(text)) if b.op == FieldOp::Equal => {
            query.operation.get_or_insert_with(|| text.clone());
        }
        (Attribute::Intrinsic(Intrinsic::Duration), Value::Duration(ns) | Value::Int(ns)) => {
            let least = match b.op {
                FieldOp::Equal | FieldOp::GreaterEqual => Some(*ns),
                FieldOp::Greater => Some(ns.saturating_add(1)),
                _ => None,
            };
            let most = match b.op {
                FieldOp::Equal | FieldOp::LessEqual => Some(*ns),
                FieldOp::Less => Some(ns.saturating_sub(1)),
                _ => None,
            };
            if let Some(least) = least {
                query.min_duration_ns = Some(query.min_duration_ns.map_or(least, |m| m.max(least)));
            }
            if let Some(most) = most {
                query.max_duration_ns = Some(query.max_duration_ns.map_or(most, |m| m.min(most)));
            }
        }
        _ => {}
    }
}
