//! Evaluates an expression for one span.
//!
//! Nil (nothing there) makes every comparison false, also `!=` and `!~`. Of a list `=` and `=~` want one element that
//! fits, `!=` and `!~` want none that does. Of events and links any one may satisfy a comparison. Values of different
//! types never compare, except numbers and durations with each other.

use std::borrow::Cow;
use std::cmp::Ordering;

use trefoil_model::re2::Regex;
use trefoil_model::value::find;
use trefoil_model::{AttributeValue, Attributes, SpanKind, StatusCode};

use crate::ast::{Attribute, FieldExpr, FieldKind, FieldOp, Intrinsic, Scope, UnaryOp, Value};
use crate::trace_view::{SpanView, TraceView};

/// Values of events that arithmetic between two of them may make.
const MANY_MAX: usize = 4096;

/// A value of a span.
#[derive(Debug, Clone)]
pub(crate) enum Field<'a> {
    Nil,
    Int(i64),
    Float(f64),
    String(Cow<'a, str>),
    Bool(bool),
    Duration(i64),
    Status(StatusCode),
    Kind(SpanKind),
    /// An attribute that is a list.
    List(&'a [AttributeValue]),
    /// What several events or links say; never nil within, at least two.
    Many(Vec<Field<'a>>),
}

impl<'a> Field<'a> {
    pub(crate) fn of_attribute(value: &'a AttributeValue) -> Self {
        match value {
            AttributeValue::Null => Self::Nil,
            AttributeValue::String(s) => Self::String(Cow::Borrowed(s)),
            AttributeValue::Bool(b) => Self::Bool(*b),
            AttributeValue::Int(i) => Self::Int(*i),
            AttributeValue::Double(d) => Self::Float(*d),
            AttributeValue::Array(a) => Self::List(a),
            AttributeValue::Bytes(_) | AttributeValue::Map(_) => Self::String(Cow::Owned(value.to_text())),
        }
    }

    pub(crate) fn of_value(value: &'a Value) -> Self {
        match value {
            Value::Nil => Self::Nil,
            Value::Int(i) => Self::Int(*i),
            Value::Float(f) => Self::Float(*f),
            Value::String(s) => Self::String(Cow::Borrowed(s)),
            Value::Bool(b) => Self::Bool(*b),
            Value::Duration(d) => Self::Duration(*d),
            Value::Status(s) => Self::Status(*s),
            Value::Kind(k) => Self::Kind(*k),
        }
    }

    fn text(text: &'a str) -> Self {
        Self::String(Cow::Borrowed(text))
    }

    fn many(mut all: Vec<Self>) -> Self {
        all.retain(|f| !matches!(f, Self::Nil));
        match all.len() {
            0 => Self::Nil,
            1 => all.remove(0),
            _ => Self::Many(all),
        }
    }

    pub(crate) fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Bool(b) => *b,
            Self::Many(all) => all.iter().any(Self::is_true),
            _ => false,
        }
    }

    /// One value to keep: of several the first, of a list its JSON.
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Self::Nil => Value::Nil,
            Self::Int(i) => Value::Int(*i),
            Self::Float(f) => Value::Float(*f),
            Self::String(s) => Value::String(s.clone().into_owned()),
            Self::Bool(b) => Value::Bool(*b),
            Self::Duration(d) => Value::Duration(*d),
            Self::Status(s) => Value::Status(*s),
            Self::Kind(k) => Value::Kind(*k),
            Self::List(items) => Value::String(AttributeValue::Array(items.to_vec()).to_string()),
            Self::Many(all) => all.first().map_or(Value::Nil, Self::to_value),
        }
    }

    /// Calls `f` with every value; lists and repeated attributes have several.
    pub(crate) fn each(&self, f: &mut dyn FnMut(Value)) {
        match self {
            Self::Nil => {}
            Self::List(items) => items.iter().for_each(|item| f(Field::of_attribute(item).to_value())),
            Self::Many(all) => all.iter().for_each(|one| one.each(f)),
            one => f(one.to_value()),
        }
    }

    /// As a number, durations in nanoseconds.
    fn number(&self) -> Option<f64> {
        match self {
            Self::Int(i) | Self::Duration(i) => Some(*i as f64),
            Self::Float(f) => Some(*f),
            _ => None,
        }
    }
}

/// A value of a span; [`Field::Nil`] when there is none.
pub(crate) fn attribute<'a>(trace: &TraceView<'a>, index: usize, attribute: &Attribute) -> Field<'a> {
    let view = trace.spans[index];
    match attribute {
        Attribute::Named { scope, name } => named(view, *scope, name),
        Attribute::Intrinsic(i) => intrinsic(trace, index, *i),
    }
}

fn in_scope<'a>(view: SpanView<'a>, scope: Scope, name: &str) -> Field<'a> {
    let one = |attributes: &'a Attributes| find(attributes, name).map_or(Field::Nil, Field::of_attribute);
    match scope {
        Scope::Span => one(&view.span.attributes),
        Scope::Resource if name == "service.name" => Field::text(view.resource.service_name()),
        Scope::Resource => one(&view.resource.attributes),
        Scope::Instrumentation => one(&view.scope.attributes),
        Scope::Event => Field::many(view.span.events.iter().map(|e| one(&e.attributes)).collect()),
        Scope::Link => Field::many(view.span.links.iter().map(|l| one(&l.attributes)).collect()),
        Scope::Any => Field::Nil,
    }
}

fn named<'a>(view: SpanView<'a>, scope: Scope, name: &str) -> Field<'a> {
    if scope != Scope::Any {
        return in_scope(view, scope, name);
    }
    let order = [Scope::Span, Scope::Resource, Scope::Event, Scope::Link, Scope::Instrumentation];
    order.into_iter().map(|s| in_scope(view, s, name)).find(|f| !f.is_nil()).unwrap_or(Field::Nil)
}

fn intrinsic<'a>(trace: &TraceView<'a>, index: usize, intrinsic: Intrinsic) -> Field<'a> {
    let view = trace.spans[index];
    let span = view.span;
    let root = trace.root.map(|r| trace.spans[r]);
    match intrinsic {
        Intrinsic::Duration => Field::Duration(span.duration_ns()),
        Intrinsic::Name => Field::text(&span.name),
        Intrinsic::Status => Field::Status(span.status_code),
        Intrinsic::StatusMessage => Field::text(&span.status_message),
        Intrinsic::Kind => Field::Kind(span.kind),
        Intrinsic::RootName => Field::text(root.map_or("", |r| &r.span.name)),
        Intrinsic::RootServiceName => Field::text(root.map_or("", |r| r.resource.service_name())),
        Intrinsic::TraceDuration => Field::Duration(trace.duration_ns()),
        Intrinsic::TraceId => Field::String(Cow::Owned(trace.id.to_string())),
        Intrinsic::SpanId => Field::String(Cow::Owned(span.span_id.to_string())),
        Intrinsic::ParentId => {
            Field::String(Cow::Owned(span.parent_span_id.map_or_else(String::new, |p| p.to_string())))
        }
        Intrinsic::ChildCount => Field::Int(i64::from(trace.child_counts()[index])),
        Intrinsic::NestedSetLeft => Field::Int(trace.nested_sets()[index].0),
        Intrinsic::NestedSetRight => Field::Int(trace.nested_sets()[index].1),
        Intrinsic::NestedSetParent => Field::Int(trace.nested_sets()[index].2),
        Intrinsic::EventName => Field::many(span.events.iter().map(|e| Field::text(&e.name)).collect()),
        Intrinsic::EventTimeSinceStart => {
            Field::many(span.events.iter().map(|e| Field::Duration(e.time_ns.saturating_sub(span.start_ns))).collect())
        }
        Intrinsic::LinkTraceId => {
            Field::many(span.links.iter().map(|l| Field::String(Cow::Owned(l.trace_id.to_string()))).collect())
        }
        Intrinsic::LinkSpanId => {
            Field::many(span.links.iter().map(|l| Field::String(Cow::Owned(l.span_id.to_string()))).collect())
        }
        Intrinsic::InstrumentationName => Field::text(&view.scope.name),
        Intrinsic::InstrumentationVersion => Field::text(&view.scope.version),
    }
}

/// The value of an expression for a span. The depth is bounded by the parser.
pub(crate) fn evaluate<'a>(trace: &TraceView<'a>, index: usize, expr: &'a FieldExpr) -> Field<'a> {
    match &expr.kind {
        FieldKind::Value(value) => Field::of_value(value),
        FieldKind::Attribute(a) => attribute(trace, index, a),
        FieldKind::Unary(op, operand) => unary(*op, &evaluate(trace, index, operand)),
        FieldKind::Binary(b) => {
            let lhs = evaluate(trace, index, &b.lhs);
            match b.op {
                FieldOp::And => Field::Bool(lhs.is_true() && evaluate(trace, index, &b.rhs).is_true()),
                FieldOp::Or => Field::Bool(lhs.is_true() || evaluate(trace, index, &b.rhs).is_true()),
                FieldOp::Equal | FieldOp::NotEqual if is_nil(&b.rhs) => {
                    Field::Bool(lhs.is_nil() == (b.op == FieldOp::Equal))
                }
                FieldOp::Equal | FieldOp::NotEqual if is_nil(&b.lhs) => {
                    let rhs = evaluate(trace, index, &b.rhs);
                    Field::Bool(rhs.is_nil() == (b.op == FieldOp::Equal))
                }
                op => {
                    let rhs = evaluate(trace, index, &b.rhs);
                    if op.is_comparison() {
                        Field::Bool(compare(op, &lhs, &rhs, b.regex.as_deref()))
                    } else {
                        arithmetic(op, &lhs, &rhs)
                    }
                }
            }
        }
    }
}

fn is_nil(expr: &FieldExpr) -> bool {
    matches!(expr.kind, FieldKind::Value(Value::Nil))
}

fn unary<'a>(op: UnaryOp, operand: &Field<'a>) -> Field<'a> {
    match (op, operand) {
        (UnaryOp::Not, Field::Bool(b)) => Field::Bool(!b),
        (UnaryOp::Negate, Field::Int(i)) => Field::Int(i.wrapping_neg()),
        (UnaryOp::Negate, Field::Float(x)) => Field::Float(-x),
        (UnaryOp::Negate, Field::Duration(d)) => Field::Duration(d.wrapping_neg()),
        (_, Field::Many(all)) => Field::many(all.iter().map(|f| unary(op, f)).collect()),
        _ => Field::Nil,
    }
}

/// Whether a comparison holds.
pub(crate) fn compare(op: FieldOp, lhs: &Field<'_>, rhs: &Field<'_>, regex: Option<&Regex>) -> bool {
    match (lhs, rhs) {
        (Field::Many(all), _) => all.iter().any(|one| compare(op, one, rhs, regex)),
        (_, Field::Many(all)) => all.iter().any(|one| compare(op, lhs, one, regex)),
        (Field::List(a), Field::List(b)) => match op {
            FieldOp::Equal => a == b,
            FieldOp::NotEqual => a != b,
            _ => false,
        },
        (Field::List(items), _) => list(op, items, |positive, item| compare(positive, item, rhs, regex)),
        (_, Field::List(items)) => list(op, items, |positive, item| compare(positive, lhs, item, regex)),
        _ => single(op, lhs, rhs, regex),
    }
}

/// A list beside a value. `holds(op, element)` compares an element.
fn list(op: FieldOp, items: &[AttributeValue], holds: impl Fn(FieldOp, &Field<'_>) -> bool) -> bool {
    let any = |op: FieldOp| {
        items.iter().any(|item| !matches!(item, AttributeValue::Array(_)) && holds(op, &Field::of_attribute(item)))
    };
    match op {
        // An element of another type compares with nothing: there must be one that could.
        FieldOp::NotEqual => any(FieldOp::NotEqual) && !any(FieldOp::Equal),
        FieldOp::NotMatch => any(FieldOp::NotMatch) && !any(FieldOp::Match),
        op => any(op),
    }
}

fn single(op: FieldOp, lhs: &Field<'_>, rhs: &Field<'_>, regex: Option<&Regex>) -> bool {
    if let Some(regex) = regex {
        let Field::String(text) = lhs else { return false };
        return regex.is_match(text) == (op == FieldOp::Match);
    }
    let order = match (lhs, rhs) {
        (Field::Int(a) | Field::Duration(a), Field::Int(b) | Field::Duration(b)) => Some(a.cmp(b)),
        (Field::String(a), Field::String(b)) => Some(a.cmp(b)),
        (Field::Bool(a), Field::Bool(b)) => return equality(op, a == b),
        (Field::Status(a), Field::Status(b)) => return equality(op, a == b),
        (Field::Kind(a), Field::Kind(b)) => return equality(op, a == b),
        _ => match (lhs.number(), rhs.number()) {
            (Some(a), Some(b)) => match a.partial_cmp(&b) {
                None => return op == FieldOp::NotEqual,
                order => order,
            },
            _ => None,
        },
    };
    order.is_some_and(|order| ordered(op, order))
}

fn equality(op: FieldOp, equal: bool) -> bool {
    match op {
        FieldOp::Equal => equal,
        FieldOp::NotEqual => !equal,
        _ => false,
    }
}

fn ordered(op: FieldOp, order: Ordering) -> bool {
    match op {
        FieldOp::Equal => order.is_eq(),
        FieldOp::NotEqual => order.is_ne(),
        FieldOp::Less => order.is_lt(),
        FieldOp::LessEqual => order.is_le(),
        FieldOp::Greater => order.is_gt(),
        FieldOp::GreaterEqual => order.is_ge(),
        _ => false,
    }
}

fn arithmetic<'a>(op: FieldOp, lhs: &Field<'a>, rhs: &Field<'a>) -> Field<'a> {
    match (lhs, rhs) {
        (Field::Many(all), other) if !matches!(other, Field::Many(_)) => {
            Field::many(all.iter().map(|f| arithmetic(op, f, other)).collect())
        }
        (other, Field::Many(all)) if !matches!(other, Field::Many(_)) => {
            Field::many(all.iter().map(|f| arithmetic(op, other, f)).collect())
        }
        (Field::Many(a), Field::Many(b)) => {
            let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x, y)));
            Field::many(pairs.take(MANY_MAX).map(|(x, y)| arithmetic(op, x, y)).collect())
        }
        (Field::Int(a), Field::Int(b)) => whole(op, *a, *b).map_or(Field::Nil, Field::Int),
        (Field::Duration(a), Field::Duration(b)) => match op {
            FieldOp::Div | FieldOp::Mul | FieldOp::Pow => {
                let x = floating(op, *a as f64, *b as f64);
                if op == FieldOp::Div && *b == 0 { Field::Nil } else { Field::Float(x) }
            }
            _ => whole(op, *a, *b).map_or(Field::Nil, Field::Duration),
        },
        (Field::Duration(a), Field::Int(b)) => whole(op, *a, *b).map_or(Field::Nil, Field::Duration),
        (Field::Int(a), Field::Duration(b)) if op != FieldOp::Div => {
            whole(op, *a, *b).map_or(Field::Nil, Field::Duration)
        }
        _ => {
            let (Some(a), Some(b)) = (lhs.number(), rhs.number()) else { return Field::Nil };
            let x = floating(op, a, b);
            let is_duration = matches!(lhs, Field::Duration(_)) && x.is_finite();
            if is_duration { Field::Duration(x as i64) } else { Field::Float(x) }
        }
    }
}

/// Whole numbers wrap around; nothing comes of a division by zero.
fn whole(op: FieldOp, a: i64, b: i64) -> Option<i64> {
    match op {
        FieldOp::Add => Some(a.wrapping_add(b)),
        FieldOp::Sub => Some(a.wrapping_sub(b)),
        FieldOp::Mul => Some(a.wrapping_mul(b)),
        FieldOp::Div if b != 0 => Some(a.wrapping_div(b)),
        FieldOp::Mod if b != 0 => Some(a.wrapping_rem(b)),
        FieldOp::Pow if b < 0 => Some(match a {
            1 => 1,
            -1 => 1 - 2 * (b & 1),
            _ => 0,
        }),
        FieldOp::Pow => u32::try_from(b).ok().map(|b| a.wrapping_pow(b)),
        _ => None,
    }
}

fn floating(op: FieldOp, a: f64, b: f64) -> f64 {
    match op {
        FieldOp::Add => a + b,
        FieldOp::Sub => a - b,
        FieldOp::Mul => a * b,
        FieldOp::Div => a / b,
        FieldOp::Mod => a % b,
        FieldOp::Pow => a.powf(b),
        _ => f64::NAN,
    }
}

/// Compares two values as in a query.
pub(crate) fn compare_values(op: FieldOp, lhs: &Value, rhs: &Value) -> bool {
    compare(op, &Field::of_value(lhs), &Field::of_value(rhs), None)
}
