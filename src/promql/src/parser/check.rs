//! The type check of a tree.

use super::{SyntaxError, error};
use crate::algebra::{AggregateOp, Cardinality};
use crate::ast::{Aggregate, Binary, Expr, ExprKind, PositionRange, ValueType, VectorSelector};
use crate::format::quote;
use crate::functions::Function;

/// All type errors; sets what the check decides (set operators are many-to-many).
pub(super) fn check(expr: &mut Expr, query: &str) -> Vec<SyntaxError> {
    let mut checker = Checker { query, errors: Vec::new() };
    checker.expr(expr);
    checker.errors
}

struct Checker<'a> {
    query: &'a str,
    errors: Vec<SyntaxError>,
}

impl Checker<'_> {
    fn add(&mut self, position: PositionRange, message: impl Into<String>) {
        self.errors.push(error(position, message));
    }

    fn expect(&mut self, expr: &mut Expr, want: ValueType, context: &str) {
        let got = self.expr(expr);
        if got != want {
            let message = format!("expected type {} in {context}, got {}", want.documented(), got.documented());
            self.add(expr.position, message);
        }
    }

    fn expr(&mut self, expr: &mut Expr) -> ValueType {
        let value_type = expr.value_type();
        let position = expr.position;
        match &mut expr.kind {
            ExprKind::Number { .. } | ExprKind::String(_) => {}
            ExprKind::Paren(e) | ExprKind::StepInvariant(e) => {
                self.expr(e);
            }
            ExprKind::Unary { expr, .. } => {
                let t = self.expr(expr);
                if t != ValueType::Scalar && t != ValueType::Vector {
                    let message = format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                        quote(t.documented())
                    );
                    self.add(position, message);
                }
            }
            ExprKind::Binary(b) => self.binary(b, position),
            ExprKind::Aggregate(a) => self.aggregate(a),
            ExprKind::Call { function, args } => self.call(function, args, position),
            ExprKind::Vector(v) => self.selector(v, position),
            ExprKind::Matrix(m) => {
                let selector_position = m.selector_position;
                self.selector(&mut m.selector, selector_position);
            }
            ExprKind::Subquery(s) => {
                let t = self.expr(&mut s.expr);
                if t != ValueType::Vector {
                    let message = format!("subquery is only allowed on instant vector, got {} instead", t.as_str());
                    self.add(position, message);
                }
            }
        }
        value_type
    }

    fn aggregate(&mut self, a: &mut Aggregate) {
        self.expect(&mut a.expr, ValueType::Vector, "aggregation expression");
        if let Some(param) = &mut a.param {
            let want = if a.op == AggregateOp::CountValues { ValueType::String } else { ValueType::Scalar };
            self.expect(param, want, "aggregation parameter");
        }
    }

    /// The operator with its modifiers, without the blanks around.
    fn operator_position(&self, b: &Binary) -> PositionRange {
        let bytes = self.query.as_bytes();
        let blank = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_whitespace);
        let (mut start, mut end) = (b.lhs.position.end, b.rhs.position.start);
        while start < end && blank(start) {
            start += 1;
        }
        while end > start && blank(end - 1) {
            end -= 1;
        }
        PositionRange::new(start, end)
    }

    fn binary(&mut self, b: &mut Binary, position: PositionRange) {
        let lt = self.expr(&mut b.lhs);
        let rt = self.expr(&mut b.rhs);
        let operator = self.operator_position(b);
        let scalars = lt == ValueType::Scalar && rt == ValueType::Scalar;
        if b.return_bool && !b.op.is_comparison() {
            self.add(operator, "bool modifier can only be used on comparison operators");
        }
        if b.op.is_comparison() && !b.return_bool && scalars {
            self.add(operator, "comparisons between scalars must use BOOL modifier");
        }
        if b.op.is_set() && b.matching.cardinality == Cardinality::OneToOne {
            b.matching.cardinality = Cardinality::ManyToMany;
        }
        for label in &b.matching.labels {
            if b.matching.on && b.matching.include.contains(label) {
                let message = format!("label {} must not occur in ON and GROUP clause at once", quote(label));
                self.errors.push(error(operator, message));
            }
        }
        for (t, operand) in [(lt, &b.lhs), (rt, &b.rhs)] {
            if t != ValueType::Scalar && t != ValueType::Vector {
                self.errors.push(error(
                    operand.position,
                    "binary expression must contain only scalar and instant vector types",
                ));
            }
        }
        let filled = b.matching.fill_left.is_some() || b.matching.fill_right.is_some();
        if lt != ValueType::Vector || rt != ValueType::Vector {
            if !b.matching.labels.is_empty() {
                self.add(position, "vector matching only allowed between instant vectors");
            }
            if filled {
                self.add(position, "filling in missing series only allowed between instant vectors");
            }
        } else if b.op.is_set() {
            if b.matching.cardinality != Cardinality::ManyToMany {
                self.add(position, format!("no grouping allowed for {} operation", quote(b.op.as_str())));
                self.add(position, "set operations must always be many-to-many");
            }
            if filled {
                self.add(position, "filling in missing series not allowed for set operators");
            }
        }
        if (lt == ValueType::Scalar || rt == ValueType::Scalar) && b.op.is_set() {
            let message = format!("set operator {} not allowed in binary scalar expression", quote(b.op.as_str()));
            self.add(position, message);
        }
        if scalars && matches!(b.op, crate::algebra::BinaryOp::TrimLower | crate::algebra::BinaryOp::TrimUpper) {
            let message = format!("operator {} not allowed for Scalar operations", quote(b.op.as_str()));
            self.add(position, message);
        }
    }

    fn call(&mut self, function: &Function, args: &mut [Expr], position: PositionRange) {
        let (due, given) = (function.args.len(), args.len());
        let name = quote(function.name);
        if function.variadic == 0 {
            if due != given {
                self.add(position, format!("expected {due} argument(s) in call to {name}, got {given}"));
            }
        } else {
            let least = due - 1;
            let most = usize::try_from(function.variadic).ok().map(|n| least + n);
            if given < least {
                let message = format!("expected at least {least} argument(s) in call to {name}, got {given}");
                self.add(position, message);
            } else if let Some(most) = most.filter(|m| given > *m) {
                let message = format!("expected at most {most} argument(s) in call to {name}, got {given}");
                self.add(position, message);
            }
        }
        if function.name == "info" && given > 1 {
            self.info_selector(&mut args[1]);
        }
        for (i, arg) in args.iter_mut().enumerate() {
            if i >= due && function.variadic == 0 {
                break;
            }
            let Some(want) = function.args.get(i).or(function.args.last()) else { break };
            let got = self.expr(arg);
            if got != *want {
                let message =
                    format!("expected type {} in call to function {name}, got {}", want.documented(), got.documented());
                self.add(arg.position, message);
            }
        }
    }

    fn info_selector(&mut self, arg: &mut Expr) {
        let position = arg.position;
        match &mut arg.kind {
            ExprKind::Vector(v) if v.name.is_some() => {
                self.add(position, "expected label selectors only, got vector selector instead");
            }
            ExprKind::Vector(v) => v.may_be_empty = true,
            _ => self.add(position, "expected label selectors only"),
        }
    }

    fn selector(&mut self, v: &mut VectorSelector, position: PositionRange) {
        if let Some(name) = &v.name {
            let others = &v.matchers[..v.matchers.len() - 1];
            for m in others.iter().filter(|m| m.name == trefoil_model::labels::METRIC_NAME) {
                let message = format!("metric name must not be set twice: {} or {}", quote(name), quote(&m.value));
                self.errors.push(error(position, message));
            }
            return;
        }
        if !v.may_be_empty && v.matchers.iter().all(trefoil_model::Matcher::matches_empty) {
            self.add(position, "vector selector must contain at least one non-empty matcher");
        }
    }
}
