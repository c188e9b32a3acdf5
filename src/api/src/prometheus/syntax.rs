//! `/api/v1/format_query` and `/api/v1/parse_query`.

use axum::extract::{Request, State};
use serde_json::{Value, json};
use trefoil_model::Matcher;
use trefoil_promql::algebra::Cardinality;
use trefoil_promql::ast::{At, Duration, DurationExpr, DurationKind, ExprKind, RangeMode, VectorSelector};
use trefoil_promql::{Expr, ValueType, format_value, pretty, with_room_for};

use super::answer::{PromResult, success};
use super::query::parse_query;
use crate::params::Params;
use crate::state::AppState;

/// `GET`, `POST /api/v1/format_query`
pub(super) async fn format(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let expr = parse_query(&state, params.get("query"))?;
    Ok(success(&Value::from(pretty(&expr))))
}

/// `GET`, `POST /api/v1/parse_query`
pub(super) async fn parse(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let expr = parse_query(&state, params.get("query"))?;
    Ok(with_room_for(&expr, || success(&tree(&expr))))
}

/// The tree as the reference's page gets it.
fn tree(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number { value, .. } => json!({ "type": "numberLiteral", "val": format_value(*value) }),
        ExprKind::String(text) => json!({ "type": "stringLiteral", "val": text }),
        ExprKind::Paren(inner) => json!({ "type": "parenExpr", "expr": tree(inner) }),
        ExprKind::StepInvariant(inner) => tree(inner),
        ExprKind::Unary { negative, expr } => {
            json!({ "type": "unaryExpr", "op": if *negative { "-" } else { "+" }, "expr": tree(expr) })
        }
        ExprKind::Binary(b) => {
            let vectors = b.lhs.value_type() == ValueType::Vector && b.rhs.value_type() == ValueType::Vector;
            let card = match b.matching.cardinality {
                Cardinality::OneToOne => "one-to-one",
                Cardinality::ManyToOne => "many-to-one",
                Cardinality::OneToMany => "one-to-many",
                Cardinality::ManyToMany => "many-to-many",
            };
            let matching = vectors.then(|| {
                json!({
                    "card": card,
                    "labels": b.matching.labels,
                    "on": b.matching.on,
                    "include": b.matching.include,
                    "fillValues": { "lhs": fill(b.matching.fill_left), "rhs": fill(b.matching.fill_right) },
                })
            });
            json!({
                "type": "binaryExpr",
                "op": b.op.as_str(),
                "lhs": tree(&b.lhs),
                "rhs": tree(&b.rhs),
                "matching": matching,
                "bool": b.return_bool,
            })
        }
        ExprKind::Aggregate(a) => json!({
            "type": "aggregation",
            "op": a.op.as_str(),
            "expr": tree(&a.expr),
            "param": a.param.as_ref().map(tree),
            "grouping": a.grouping.labels,
            "without": a.grouping.without,
        }),
        ExprKind::Call { function, args } => json!({
            "type": "call",
            "func": {
                "name": function.name,
                "argTypes": function.args.iter().map(|a| a.as_str()).collect::<Vec<_>>(),
                "variadic": function.variadic,
                "returnType": function.returns.as_str(),
            },
            "args": args.iter().map(tree).collect::<Vec<_>>(),
        }),
        ExprKind::Vector(v) => selector("vectorSelector", v, None),
        ExprKind::Matrix(m) => selector("matrixSelector", &m.selector, Some(&m.range)),
        ExprKind::Subquery(s) => {
            let (timestamp, edge) = at(s.at);
            json!({
                "type": "subquery",
                "expr": tree(&s.expr),
                "range": s.range.ms(),
                "rangeExpr": duration(&s.range),
                "offset": s.offset.ms(),
                "offsetExpr": duration(&s.offset),
                "step": s.step.as_ref().map_or(0, |d| d.ms()),
                "stepExpr": s.step.as_ref().and_then(duration),
                "timestamp": timestamp,
                "startOrEnd": edge,
            })
        }
    }
}

fn selector(kind: &str, v: &VectorSelector, range: Option<&Duration>) -> Value {
    let (timestamp, edge) = at(v.at);
    let mut out = json!({
        "type": kind,
        "name": v.name.as_deref().unwrap_or(""),
        "offset": v.offset.ms(),
        "offsetExpr": duration(&v.offset),
        "matchers": v.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "timestamp": timestamp,
        "startOrEnd": edge,
        "anchored": v.mode == RangeMode::Anchored,
        "smoothed": v.mode == RangeMode::Smoothed,
    });
    if let (Some(range), Some(fields)) = (range, out.as_object_mut()) {
        fields.insert("range".to_owned(), Value::from(range.ms()));
        fields.insert("rangeExpr".to_owned(), json!(duration(range)));
    }
    out
}

/// A number as Go writes it: without a fraction when it is whole.
fn fill(value: Option<f64>) -> Value {
    match value {
        Some(v) if v.fract() == 0.0 && v.abs() < 1e15 => json!(v as i64),
        other => json!(other),
    }
}

/// The tree of a duration that is not a plain one.
fn duration(d: &Duration) -> Option<Value> {
    match d {
        Duration::Fixed(_) => None,
        Duration::Expr(expr) => Some(duration_tree(expr, false)),
    }
}

/// `wrapped`: parentheses stand round it.
fn duration_tree(expr: &DurationExpr, wrapped: bool) -> Value {
    let node = |op: &str, lhs: Option<&DurationExpr>, rhs: Option<&DurationExpr>| {
        json!({
            "type": "durationExpr",
            "op": op,
            "lhs": lhs.map(|e| duration_tree(e, false)),
            "rhs": rhs.map(|e| duration_tree(e, false)),
            "wrapped": wrapped,
        })
    };
    match &expr.kind {
        DurationKind::Number(value, duration) => {
            json!({ "type": "numberLiteral", "val": format_value(*value), "duration": duration })
        }
        DurationKind::Step => node("step", None, None),
        DurationKind::Range => node("range", None, None),
        DurationKind::MinOf(a, b) => node("min_of", Some(a), Some(b)),
        DurationKind::MaxOf(a, b) => node("max_of", Some(a), Some(b)),
        DurationKind::Unary(negative, e) => node(if *negative { "-" } else { "+" }, None, Some(e)),
        DurationKind::Binary(op, l, r) => node(op.as_str(), Some(l), Some(r)),
        // A number cannot say that it is wrapped: the reference puts a sign round it.
        DurationKind::Paren(inner) if matches!(inner.kind, DurationKind::Number(..)) => {
            json!({ "type": "durationExpr", "op": "+", "lhs": null, "rhs": duration_tree(inner, false), "wrapped": true })
        }
        DurationKind::Paren(inner) => duration_tree(inner, true),
    }
}

fn matcher(m: &Matcher) -> Value {
    json!({ "name": m.name, "value": m.value, "type": m.op.as_str() })
}

fn at(at: Option<At>) -> (Option<i64>, Option<&'static str>) {
    match at {
        None => (None, None),
        Some(At::Time(ms)) => (Some(ms), None),
        Some(At::Start) => (None, Some("start")),
        Some(At::End) => (None, Some("end")),
    }
}
