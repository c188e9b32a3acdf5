//! Evaluates a query the simplest way that gives its meaning. Values are lists of alternatives: none is nil, several
//! come from events and links.

use trefoil_model::value::find;
use trefoil_model::{AttributeValue, NanoRange, Resource, Scope as Library, Span, SpanId, StoredTrace, TraceId};
use trefoil_traceql::Value;
use trefoil_traceql::ast::{
    Aggregate, AggregateFilter, Attribute, FieldExpr, FieldKind, FieldOp, Intrinsic, Keep, MetricsExpr,
    MetricsFunction, MetricsLeaf, Pipeline, Query, QueryKind, Relation, Scope, SetExpr, SetOp, Stage, UnaryOp,
};

/// A trace of a result: of each set the starts of its spans, and its attributes.
pub(super) type Found = (TraceId, Vec<(Vec<i64>, Vec<(String, Value)>)>);

/// A series: labels as text, values.
pub(super) type Line = (Vec<String>, Vec<Option<f64>>);

type Set = (Vec<usize>, Vec<(String, Value)>);

struct Trace<'a> {
    id: TraceId,
    spans: Vec<(&'a Span, &'a Resource, &'a Library)>,
    parents: Vec<Option<usize>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Val {
    One(Value),
    List(Vec<Value>),
}

impl<'a> Trace<'a> {
    fn new(stored: &'a StoredTrace) -> Self {
        let mut spans: Vec<_> =
            stored.groups.iter().flat_map(|g| g.spans.iter().map(|s| (s, &*g.resource, &*g.scope))).collect();
        spans.sort_by_key(|s| (s.0.start_ns, s.0.span_id));
        let direct = |i: usize| -> Option<usize> {
            let wanted = spans[i].0.parent_span_id?;
            let others: Vec<usize> = (0..spans.len()).filter(|j| *j != i && spans[*j].0.span_id == wanted).collect();
            let same = others.iter().find(|j| spans[**j].1.service_name() == spans[i].1.service_name());
            same.or(others.first()).copied()
        };
        let direct: Vec<Option<usize>> = (0..spans.len()).map(direct).collect();
        let on_cycle = |i: usize| {
            let mut at = direct[i];
            for _ in 0..spans.len() {
                match at {
                    Some(up) if up == i => return true,
                    Some(up) => at = direct[up],
                    None => return false,
                }
            }
            false
        };
        let parents = (0..spans.len()).map(|i| direct[i].filter(|_| !on_cycle(i))).collect();
        Self { id: stored.trace_id, spans, parents }
    }

    fn ancestors(&self, span: usize) -> Vec<usize> {
        std::iter::successors(self.parents[span], |at| self.parents[*at]).collect()
    }

    fn root(&self) -> Option<usize> {
        (0..self.spans.len()).find(|i| self.spans[*i].0.parent_span_id.is_none())
    }

    fn children(&self, of: usize) -> Vec<usize> {
        (0..self.spans.len()).filter(|i| self.parents[*i] == Some(of)).collect()
    }

    /// Left, right and parent of all spans below the roots.
    fn nested(&self) -> Vec<(i64, i64, i64)> {
        fn walk(trace: &Trace<'_>, span: usize, up: i64, counter: &mut i64, out: &mut Vec<(i64, i64, i64)>) {
            *counter += 1;
            let left = *counter;
            for child in trace.children(span) {
                walk(trace, child, left, counter, out);
            }
            *counter += 1;
            out[span] = (left, *counter, up);
        }
        let mut out = vec![(0, 0, 0); self.spans.len()];
        let mut counter = 0;
        for i in 0..self.spans.len() {
            if self.spans[i].0.parent_span_id.is_none() {
                walk(self, i, -1, &mut counter, &mut out);
            }
        }
        out
    }

    fn related(&self, relation: Relation, l: usize, r: usize) -> bool {
        match relation {
            Relation::Child => self.parents[r] == Some(l),
            Relation::Parent => self.parents[l] == Some(r),
            Relation::Descendant => self.ancestors(r).contains(&l),
            Relation::Ancestor => self.ancestors(l).contains(&r),
            Relation::Sibling => {
                l != r
                    && match (self.parents[l], self.parents[r]) {
                        (Some(a), Some(b)) => a == b,
                        (None, None) => {
                            self.spans[l].0.parent_span_id.is_some()
                                && self.spans[l].0.parent_span_id == self.spans[r].0.parent_span_id
                        }
                        _ => false,
                    }
            }
        }
    }
}

fn val(value: &AttributeValue) -> Option<Val> {
    Some(Val::One(match value {
        AttributeValue::Null => return None,
        AttributeValue::String(s) => Value::String(s.clone()),
        AttributeValue::Bool(b) => Value::Bool(*b),
        AttributeValue::Int(i) => Value::Int(*i),
        AttributeValue::Double(d) => Value::Float(*d),
        AttributeValue::Array(items) => {
            let one = |v: &AttributeValue| match val(v) {
                Some(Val::One(v)) => v,
                _ => Value::Nil,
            };
            return Some(Val::List(items.iter().map(one).collect()));
        }
        _ => unreachable!("the data has none"),
    }))
}

fn text(text: impl ToString) -> Vec<Val> {
    vec![Val::One(Value::String(text.to_string()))]
}

fn named(trace: &Trace<'_>, i: usize, scope: Scope, name: &str) -> Vec<Val> {
    let (span, resource, library) = trace.spans[i];
    match scope {
        Scope::Any => [Scope::Span, Scope::Resource, Scope::Event, Scope::Link, Scope::Instrumentation]
            .into_iter()
            .map(|s| named(trace, i, s, name))
            .find(|v| !v.is_empty())
            .unwrap_or_default(),
        Scope::Resource if name == "service.name" => text(resource.service_name()),
        Scope::Span => find(&span.attributes, name).and_then(val).into_iter().collect(),
        Scope::Resource => find(&resource.attributes, name).and_then(val).into_iter().collect(),
        Scope::Instrumentation => find(&library.attributes, name).and_then(val).into_iter().collect(),
        Scope::Event => span.events.iter().filter_map(|e| find(&e.attributes, name).and_then(val)).collect(),
        Scope::Link => span.links.iter().filter_map(|l| find(&l.attributes, name).and_then(val)).collect(),
    }
}

fn attribute(trace: &Trace<'_>, i: usize, attribute: &Attribute) -> Vec<Val> {
    let intrinsic = match attribute {
        Attribute::Named { scope, name } => return named(trace, i, *scope, name),
        Attribute::Intrinsic(intrinsic) => *intrinsic,
    };
    let (span, _, library) = trace.spans[i];
    let int = |n: i64| vec![Val::One(Value::Int(n))];
    let duration = |n: i64| vec![Val::One(Value::Duration(n))];
    let id = |id: Option<SpanId>| text(id.map_or_else(String::new, |id| id.to_string()));
    match intrinsic {
        Intrinsic::Duration => duration(span.duration_ns()),
        Intrinsic::Name => text(&span.name),
        Intrinsic::Status => vec![Val::One(Value::Status(span.status_code))],
        Intrinsic::StatusMessage => text(&span.status_message),
        Intrinsic::Kind => vec![Val::One(Value::Kind(span.kind))],
        Intrinsic::RootName => text(trace.root().map_or("", |r| &trace.spans[r].0.name)),
        Intrinsic::RootServiceName => text(trace.root().map_or("", |r| trace.spans[r].1.service_name())),
        Intrinsic::TraceDuration => {
            let first = trace.spans.iter().map(|s| s.0.start_ns).min().expect("a span");
            let last = trace.spans.iter().map(|s| s.0.end_ns.max(s.0.start_ns)).max().expect("a span");
            duration(last - first)
        }
        Intrinsic::TraceId => text(trace.id),
        Intrinsic::SpanId => id(Some(span.span_id)),
        Intrinsic::ParentId => id(span.parent_span_id),
        Intrinsic::ChildCount => int(trace.children(i).len() as i64),
        Intrinsic::NestedSetLeft => int(trace.nested()[i].0),
        Intrinsic::NestedSetRight => int(trace.nested()[i].1),
        Intrinsic::NestedSetParent => int(trace.nested()[i].2),
        Intrinsic::EventName => span.events.iter().flat_map(|e| text(&e.name)).collect(),
        Intrinsic::EventTimeSinceStart => {
            span.events.iter().map(|e| Val::One(Value::Duration(e.time_ns - span.start_ns))).collect()
        }
        Intrinsic::LinkTraceId => span.links.iter().flat_map(|l| text(l.trace_id)).collect(),
        Intrinsic::LinkSpanId => span.links.iter().flat_map(|l| id(Some(l.span_id))).collect(),
        Intrinsic::InstrumentationName => text(&library.name),
        Intrinsic::InstrumentationVersion => text(&library.version),
    }
}

fn truth(all: &[Val]) -> bool {
    all.contains(&Val::One(Value::Bool(true)))
}

fn eval(trace: &Trace<'_>, i: usize, expr: &FieldExpr) -> Vec<Val> {
    let boolean = |b: bool| vec![Val::One(Value::Bool(b))];
    match &expr.kind {
        FieldKind::Value(Value::Nil) => Vec::new(),
        FieldKind::Value(value) => vec![Val::One(value.clone())],
        FieldKind::Attribute(a) => attribute(trace, i, a),
        FieldKind::Unary(op, e) => eval(trace, i, e).iter().filter_map(|v| unary(*op, v)).collect(),
        FieldKind::Binary(b) => {
            let (lhs, rhs) = (eval(trace, i, &b.lhs), eval(trace, i, &b.rhs));
            let is_nil = |e: &FieldExpr| matches!(e.kind, FieldKind::Value(Value::Nil));
            match b.op {
                FieldOp::And => boolean(truth(&lhs) && truth(&rhs)),
                FieldOp::Or => boolean(truth(&lhs) || truth(&rhs)),
                FieldOp::Equal if is_nil(&b.rhs) => boolean(lhs.is_empty()),
                FieldOp::NotEqual if is_nil(&b.rhs) => boolean(!lhs.is_empty()),
                op if op.is_comparison() => {
                    let holds = |l: &Val, r: &Val| match (op, r) {
                        (FieldOp::Match | FieldOp::NotMatch, Val::One(Value::String(pattern))) => {
                            matches(op, l, pattern)
                        }
                        _ => compare(op, l, r),
                    };
                    boolean(lhs.iter().any(|l| rhs.iter().any(|r| holds(l, r))))
                }
                op => lhs.iter().flat_map(|l| rhs.iter().filter_map(move |r| arithmetic(op, l, r))).collect(),
            }
        }
    }
}

fn unary(op: UnaryOp, v: &Val) -> Option<Val> {
    Some(Val::One(match (op, v) {
        (UnaryOp::Not, Val::One(Value::Bool(b))) => Value::Bool(!b),
        (UnaryOp::Negate, Val::One(Value::Int(n))) => Value::Int(n.wrapping_neg()),
        (UnaryOp::Negate, Val::One(Value::Duration(n))) => Value::Duration(n.wrapping_neg()),
        (UnaryOp::Negate, Val::One(Value::Float(x))) => Value::Float(-x),
        _ => return None,
    }))
}

/// The patterns that the generator writes, by hand.
fn matches(op: FieldOp, v: &Val, pattern: &str) -> bool {
    let fits = |text: &str| match pattern {
        "x.*" => text.starts_with('x'),
        "n[12]" => text == "n1" || text == "n2",
        "s2|s3" => text == "s2" || text == "s3",
        ".*" => true,
        other => unreachable!("{other}"),
    };
    let texts: Vec<&str> = match v {
        Val::One(Value::String(s)) => vec![s],
        Val::One(_) => return false,
        Val::List(all) => {
            all.iter().filter_map(|v| if let Value::String(s) = v { Some(s.as_str()) } else { None }).collect()
        }
    };
    match op {
        FieldOp::Match => texts.iter().any(|t| fits(t)),
        _ => !texts.is_empty() && texts.iter().all(|t| !fits(t)),
    }
}

fn number(v: &Value) -> Option<f64> {
    match v {
        Value::Int(n) | Value::Duration(n) => Some(*n as f64),
        Value::Float(x) => Some(*x),
        _ => None,
    }
}

/// Whether two values can be compared.
fn comparable(a: &Value, b: &Value) -> bool {
    (number(a).is_some() && number(b).is_some())
        || (*a != Value::Nil && std::mem::discriminant(a) == std::mem::discriminant(b))
}

fn compare(op: FieldOp, l: &Val, r: &Val) -> bool {
    match (l, r) {
        (Val::One(l), Val::One(r)) => one(op, l, r),
        (Val::List(l), Val::List(r)) => match op {
            FieldOp::Equal => l == r,
            FieldOp::NotEqual => l != r,
            _ => false,
        },
        (Val::List(all), Val::One(v)) | (Val::One(v), Val::List(all)) => {
            let flipped = matches!(r, Val::List(_));
            let with = |op: FieldOp, x: &Value| if flipped { one(op, v, x) } else { one(op, x, v) };
            match op {
                FieldOp::NotEqual => {
                    all.iter().any(|x| comparable(x, v))
                        && !all.iter().any(|x| with(FieldOp::Equal, x))
                        && all.iter().any(|x| with(FieldOp::NotEqual, x))
                }
                op => all.iter().any(|x| with(op, x)),
            }
        }
    }
}

fn one(op: FieldOp, l: &Value, r: &Value) -> bool {
    if !comparable(l, r) {
        return false;
    }
    let order = match (l, r) {
        (Value::String(a), Value::String(b)) => a.partial_cmp(b),
        _ => match (number(l), number(r)) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => {
                return match op {
                    FieldOp::Equal => l == r,
                    FieldOp::NotEqual => l != r,
                    _ => false,
                };
            }
        },
    };
    match op {
        FieldOp::Equal => order.is_some_and(|o| o.is_eq()),
        FieldOp::NotEqual => order.is_none_or(|o| o.is_ne()),
        FieldOp::Less => order.is_some_and(|o| o.is_lt()),
        FieldOp::LessEqual => order.is_some_and(|o| o.is_le()),
        FieldOp::Greater => order.is_some_and(|o| o.is_gt()),
        _ => order.is_some_and(|o| o.is_ge()),
    }
}

fn arithmetic(op: FieldOp, l: &Val, r: &Val) -> Option<Val> {
    let (Val::One(l), Val::One(r)) = (l, r) else { return None };
    let whole = |a: i64, b: i64| match op {
        FieldOp::Add => Some(a.wrapping_add(b)),
        FieldOp::Sub => Some(a.wrapping_sub(b)),
        FieldOp::Mul => Some(a.wrapping_mul(b)),
        FieldOp::Div => a.checked_div(b),
        _ => a.checked_rem(b),
    };
    let (a, b) = (number(l)?, number(r)?);
    let float = match op {
        FieldOp::Add => a + b,
        FieldOp::Sub => a - b,
        FieldOp::Mul => a * b,
        FieldOp::Div => a / b,
        _ => a % b,
    };
    Some(Val::One(match (l, r) {
        (Value::Int(a), Value::Int(b)) => Value::Int(whole(*a, *b)?),
        (Value::Duration(_), Value::Duration(0)) if op == FieldOp::Div => return None,
        (Value::Duration(_), Value::Duration(_)) if matches!(op, FieldOp::Mul | FieldOp::Div) => Value::Float(float),
        (Value::Int(_), Value::Duration(_)) if op == FieldOp::Div => Value::Float(float),
        (Value::Duration(a), Value::Duration(b) | Value::Int(b)) => Value::Duration(whole(*a, *b)?),
        (Value::Int(a), Value::Duration(b)) => Value::Duration(whole(*a, *b)?),
        (Value::Duration(_), _) if float.is_finite() => Value::Duration(float as i64),
        _ => Value::Float(float),
    }))
}

/// What is shown of a value.
fn shown(all: &[Val]) -> Value {
    match all.first() {
        None => Value::Nil,
        Some(Val::One(v)) => v.clone(),
        Some(Val::List(items)) => {
            let one = |v: &Value| match v {
                Value::Nil => "null".to_owned(),
                Value::Float(x) => format!("{x}"),
                other => other.to_string(),
            };
            Value::String(format!("[{}]", items.iter().map(one).collect::<Vec<_>>().join(",")))
        }
    }
}

fn union(sets: Vec<Set>) -> Vec<usize> {
    let mut all: Vec<usize> = sets.into_iter().flat_map(|s| s.0).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn set_expr(trace: &Trace<'_>, expr: &SetExpr, input: Vec<Set>) -> Result<Vec<Set>, ()> {
    let mut out = Vec::new();
    for (spans, attributes) in input {
        match expr {
            SetExpr::Filter(filter) => {
                let kept = spans.into_iter().filter(|i| filter.as_ref().is_none_or(|e| truth(&eval(trace, *i, e))));
                out.push((kept.collect(), attributes));
            }
            SetExpr::Pipeline(p) => out.extend(pipeline(trace, p, vec![(spans, attributes)])?),
            SetExpr::Op { op, lhs, rhs } => {
                let left = set_expr(trace, lhs, vec![(spans.clone(), Vec::new())])?;
                let right = set_expr(trace, rhs, vec![(spans, Vec::new())])?;
                let spans = match op {
                    SetOp::And if left.is_empty() || right.is_empty() => Vec::new(),
                    SetOp::And | SetOp::Or => union(left.into_iter().chain(right).collect()),
                    SetOp::Structural(..) if left.len() > 1 || right.len() > 1 => return Err(()),
                    SetOp::Structural(relation, keep) => {
                        let (left, right) = (union(left), union(right));
                        let has_left = |r: &&usize| left.iter().any(|l| trace.related(*relation, *l, **r));
                        let has_right = |l: &&usize| right.iter().any(|r| trace.related(*relation, **l, *r));
                        match keep {
                            Keep::Right => right.iter().filter(has_left).copied().collect(),
                            Keep::Unrelated => right.iter().filter(|r| !has_left(r)).copied().collect(),
                            Keep::Both => {
                                let both = right.iter().filter(has_left).chain(left.iter().filter(has_right));
                                union(vec![(both.copied().collect(), Vec::new())])
                            }
                        }
                    }
                };
                out.push((spans, Vec::new()));
            }
        }
    }
    out.retain(|s| !s.0.is_empty());
    Ok(out)
}

fn aggregate(trace: &Trace<'_>, filter: &AggregateFilter, set: &Set) -> Option<Value> {
    let Some(argument) = &filter.argument else { return Some(Value::Int(set.0.len() as i64)) };
    let values: Vec<Value> =
        set.0.iter().map(|i| shown(&eval(trace, *i, argument))).filter(|v| number(v).is_some()).collect();
    let first = values.first()?.clone();
    let best = |op: FieldOp| {
        let better = |best: Value, v: &Value| if one(op, v, &best) { v.clone() } else { best };
        values.iter().fold(first.clone(), better)
    };
    let has_float = values.iter().any(|v| matches!(v, Value::Float(_)));
    let has_duration = values.iter().any(|v| matches!(v, Value::Duration(_)));
    let sum: f64 = values.iter().filter_map(number).sum();
    let mean = sum / values.len() as f64;
    Some(match filter.aggregate {
        Aggregate::Min => best(FieldOp::Less),
        Aggregate::Max => best(FieldOp::Greater),
        Aggregate::Sum if has_float => Value::Float(sum),
        Aggregate::Sum => {
            let whole = |v: &Value| if let Value::Int(n) | Value::Duration(n) = v { *n } else { 0 };
            let sum = values.iter().map(whole).fold(0, i64::wrapping_add);
            if has_duration { Value::Duration(sum) } else { Value::Int(sum) }
        }
        _ if has_duration && !has_float => Value::Duration(mean as i64),
        _ => Value::Float(mean),
    })
}

fn pipeline(trace: &Trace<'_>, pipeline: &Pipeline, mut sets: Vec<Set>) -> Result<Vec<Set>, ()> {
    for stage in &pipeline.stages {
        if sets.is_empty() {
            return Ok(sets);
        }
        sets = match stage {
            Stage::Spans(expr) => set_expr(trace, expr, sets)?,
            Stage::Select(_) => sets,
            Stage::Coalesce => vec![(union(sets), Vec::new())],
            Stage::Aggregate(filter) => sets
                .into_iter()
                .filter_map(|mut set| {
                    let value = aggregate(trace, filter, &set)?;
                    let holds = one(filter.op, &value, &filter.value);
                    set.1.push((filter.name(), value));
                    holds.then_some(set)
                })
                .collect(),
            Stage::By(expr) => {
                let mut out: Vec<Set> = Vec::new();
                for set in sets {
                    let mut groups: Vec<(String, Set)> = Vec::new();
                    for i in set.0 {
                        let value = shown(&eval(trace, i, expr));
                        let key = format!("{value:?}");
                        if let Some(group) = groups.iter_mut().find(|g| g.0 == key) {
                            group.1.0.push(i);
                        } else {
                            let mut attributes = set.1.clone();
                            attributes.push((format!("by({expr})"), value));
                            groups.push((key, (vec![i], attributes)));
                        }
                    }
                    out.extend(groups.into_iter().map(|g| g.1));
                }
                out
            }
        };
    }
    Ok(sets)
}

fn all_of(trace: &Trace<'_>) -> Vec<Set> {
    vec![((0..trace.spans.len()).collect(), Vec::new())]
}

pub(super) fn search(query: &Query, traces: &[StoredTrace], range: NanoRange, limit: usize) -> Result<Vec<Found>, ()> {
    let QueryKind::Search(stages) = &query.kind else { panic!("no search") };
    let mut out = Vec::new();
    for stored in traces {
        let trace = Trace::new(stored);
        let sets = pipeline(&trace, stages, all_of(&trace))?;
        let start = |i: &usize| trace.spans[*i].0.start_ns;
        let latest = sets.iter().flat_map(|s| &s.0).map(start).filter(|t| range.contains(*t)).max();
        if let Some(latest) = latest {
            let sets = sets.into_iter().map(|s| (s.0.iter().map(start).collect(), s.1)).collect();
            out.push((latest, (trace.id, sets)));
        }
    }
    out.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.0.cmp(&b.1.0)));
    if limit > 0 {
        out.truncate(limit);
    }
    Ok(out.into_iter().map(|f| f.1).collect())
}

/// Series of `buckets`, both ends of each included.
pub(super) fn metrics(
    query: &Query,
    traces: &[StoredTrace],
    buckets: &[(i64, i64)],
    step_ns: i64,
) -> Result<Vec<Line>, ()> {
    let QueryKind::Metrics(metrics) = &query.kind else { panic!("no metrics") };
    let (name, mut lines) = series(metrics, traces, buckets, step_ns)?;
    for line in &mut lines {
        if line.0.is_empty() {
            line.0.push(format!("__name__={:?}", Value::String(name.clone())));
        }
    }
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(lines)
}

fn series(
    metrics: &MetricsExpr,
    traces: &[StoredTrace],
    buckets: &[(i64, i64)],
    step_ns: i64,
) -> Result<(String, Vec<Line>), ()> {
    let apply = |op: FieldOp, a: f64, b: f64| match op {
        FieldOp::Add => Some(a + b),
        FieldOp::Sub => Some(a - b),
        FieldOp::Mul => Some(a * b),
        _ if b == 0.0 => None,
        _ => Some(a / b),
    };
    let map = |lines: Vec<Line>, f: &dyn Fn(f64) -> Option<f64>| -> Vec<Line> {
        let each = |(labels, values): Line| (labels, values.into_iter().map(|v| v.and_then(f)).collect::<Vec<_>>());
        lines.into_iter().map(each).filter(|l: &Line| l.1.iter().any(Option::is_some)).collect()
    };
    match metrics {
        MetricsExpr::Leaf(leaf) => Ok((leaf.function.as_str().to_owned(), of_leaf(leaf, traces, buckets, step_ns)?)),
        MetricsExpr::Filter(op, value, inner) => {
            let (name, lines) = series(inner, traces, buckets, step_ns)?;
            let bar = Value::Float(value.seconds().expect("a number"));
            Ok((name, map(lines, &|v| one(*op, &Value::Float(v), &bar).then_some(v))))
        }
        MetricsExpr::Math(op, lhs, rhs) => {
            if let MetricsExpr::Number(n) = **rhs {
                let (name, lines) = series(lhs, traces, buckets, step_ns)?;
                return Ok((name, map(lines, &|v| apply(*op, v, n))));
            }
            let (l, left) = series(lhs, traces, buckets, step_ns)?;
            let (r, right) = series(rhs, traces, buckets, step_ns)?;
            let mut out = Vec::new();
            for a in &left {
                for b in &right {
                    if a.0 == b.0 || a.0.is_empty() || b.0.is_empty() {
                        let labels = if a.0.is_empty() { b.0.clone() } else { a.0.clone() };
                        let both = a.1.iter().zip(&b.1).map(|(a, b)| apply(*op, (*a)?, (*b)?));
                        out.push((labels, both.collect()));
                    }
                }
            }
            Ok((format!("({l} {} {r})", op.as_str()), map(out, &Some)))
        }
        _ => panic!("the generator writes no {metrics}"),
    }
}

fn of_leaf(leaf: &MetricsLeaf, traces: &[StoredTrace], buckets: &[(i64, i64)], step_ns: i64) -> Result<Vec<Line>, ()> {
    use MetricsFunction as F;
    // Labels, start, value of every span of the result.
    let mut spans: Vec<(Vec<String>, i64, Value)> = Vec::new();
    for stored in traces {
        let trace = Trace::new(stored);
        let candidate =
            |s: &(&Span, &Resource, &Library)| buckets.iter().any(|b| b.0 <= s.0.start_ns && s.0.start_ns <= b.1);
        if !trace.spans.iter().any(candidate) {
            continue;
        }
        for i in union(pipeline(&trace, &leaf.pipeline, all_of(&trace))?) {
            let mut labels: Vec<(String, Value)> =
                leaf.by.iter().map(|a| (a.to_string(), shown(&attribute(&trace, i, a)))).collect();
            if labels.iter().any(|l| l.1 != Value::Nil) {
                labels.retain(|l| l.1 != Value::Nil);
            } else {
                labels.truncate(1);
            }
            let value = match &leaf.function {
                F::Rate | F::CountOverTime | F::Compare { .. } => Value::Int(0),
                F::MinOverTime(a)
                | F::MaxOverTime(a)
                | F::AvgOverTime(a)
                | F::SumOverTime(a)
                | F::QuantileOverTime(a, _)
                | F::HistogramOverTime(a) => shown(&attribute(&trace, i, a)),
            };
            if number(&value).is_some() {
                let mut labels: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
                labels.sort();
                spans.push((labels, trace.spans[i].0.start_ns, value));
            }
        }
    }
    spans.retain(|s| buckets.iter().any(|b| b.0 <= s.1 && s.1 <= b.1));
    let mut groups: Vec<Vec<String>> = spans.iter().map(|s| s.0.clone()).collect();
    groups.sort();
    groups.dedup();
    let mut out: Vec<Line> = Vec::new();
    for group in groups {
        let at = |b: &(i64, i64)| -> Vec<&Value> {
            spans.iter().filter(|s| s.0 == group && b.0 <= s.1 && s.1 <= b.1).map(|s| &s.2).collect()
        };
        let columns: Vec<Vec<&Value>> = buckets.iter().map(at).collect();
        let seconds = |column: &[&Value]| column.iter().filter_map(|v| v.seconds()).collect::<Vec<f64>>();
        let each = |f: &dyn Fn(&[f64]) -> f64| -> Vec<Option<f64>> {
            columns.iter().map(|c| seconds(c)).map(|c| (!c.is_empty()).then(|| f(&c))).collect()
        };
        let counts = |by: f64| columns.iter().map(|c| Some(c.len() as f64 / by)).collect();
        let values: Vec<Option<f64>> = match &leaf.function {
            F::Rate => counts(step_ns as f64 / 1e9),
            F::CountOverTime => counts(1.0),
            F::MinOverTime(_) => each(&|c| c.iter().copied().fold(f64::INFINITY, f64::min)),
            F::MaxOverTime(_) => each(&|c| c.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            F::AvgOverTime(_) => each(&|c| c.iter().sum::<f64>() / c.len() as f64),
            F::SumOverTime(_) => each(&|c| c.iter().sum::<f64>()),
            F::QuantileOverTime(_, quantiles) => {
                if columns.iter().flatten().any(|v| bound(v).is_some()) {
                    for q in quantiles {
                        let values = columns.iter().map(|c| Some(quantile(*q, c))).collect();
                        out.push((with(&group, "p", *q), values));
                    }
                }
                continue;
            }
            F::HistogramOverTime(_) => {
                let mut bounds: Vec<f64> = columns.iter().flatten().filter_map(|v| bound(v)).collect();
                bounds.sort_by(f64::total_cmp);
                bounds.dedup();
                for b in bounds {
                    let count = |c: &Vec<&Value>| c.iter().filter(|v| bound(v) == Some(b)).count() as f64;
                    out.push((with(&group, "__bucket", b), columns.iter().map(|c| Some(count(c))).collect()));
                }
                continue;
            }
            F::Compare { .. } => panic!("not generated"),
        };
        out.push((group, values));
    }
    out.retain(|l| l.1.iter().any(Option::is_some));
    out.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(out)
}

/// The labels with one more; a label that stands for nothing at all is then not needed.
fn with(group: &[String], name: &str, value: f64) -> Vec<String> {
    let mut labels: Vec<String> = group.iter().filter(|l| !l.ends_with("=Nil")).cloned().collect();
    labels.push(format!("{name}={:?}", Value::Float(value)));
    labels.sort();
    labels
}

/// The power of two at or above a value, durations in seconds.
fn bound(value: &Value) -> Option<f64> {
    let (n, scale) = match value {
        Value::Int(n) => (*n, 1.0),
        Value::Duration(n) => (*n, 1e9),
        _ => return None,
    };
    let mut power: i64 = 2;
    while power < n {
        power *= 2;
    }
    (n >= 2).then_some(power as f64 / scale)
}

fn quantile(q: f64, column: &[&Value]) -> f64 {
    let mut bounds: Vec<f64> = column.iter().filter_map(|v| bound(v)).collect();
    if bounds.is_empty() {
        return 0.0;
    }
    bounds.sort_by(f64::total_cmp);
    let rank = (q * bounds.len() as f64).ceil().max(1.0) as usize;
    let it = bounds[rank - 1];
    let below = bounds.iter().filter(|b| **b < it).count();
    let same = bounds.iter().filter(|b| **b == it).count();
    it * 2f64.powf((rank - below) as f64 / same as f64 - 1.0)
}
