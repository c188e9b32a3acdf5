//! Expressions over one span, with their types.

use std::sync::Arc;

use trefoil_model::re2::Regex;

use super::Parser;
use crate::Error;
use crate::ast::{Attribute, BinaryField, FieldExpr, FieldKind, FieldOp, Intrinsic, NOT_LEVEL, UnaryOp, Value};
use crate::error::{Phase, refuse};
use crate::lexer::{Token, fail};
use crate::value::{kind_of, status_of};

/// What is known of a value before there is data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// An attribute: anything.
    Any,
    Nil,
    Bool,
    String,
    Number,
    Status,
    Kind,
}

impl Type {
    fn word(self) -> &'static str {
        match self {
            Self::Any => "an attribute",
            Self::Nil => "nil",
            Self::Bool => "a boolean",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Status => "a status",
            Self::Kind => "a kind",
        }
    }

    fn may_be(self, other: Self) -> bool {
        self == Self::Any || self == other
    }
}

pub(crate) fn attribute_type(attribute: &Attribute) -> Type {
    use Intrinsic as I;
    match attribute {
        Attribute::Named { .. } => Type::Any,
        Attribute::Intrinsic(i) => match i {
            I::Duration
            | I::TraceDuration
            | I::EventTimeSinceStart
            | I::ChildCount
            | I::NestedSetLeft
            | I::NestedSetRight
            | I::NestedSetParent => Type::Number,
            I::Status => Type::Status,
            I::Kind => Type::Kind,
            _ => Type::String,
        },
    }
}

fn type_of(expr: &FieldExpr) -> Type {
    match &expr.kind {
        FieldKind::Value(value) => match value {
            Value::Nil => Type::Nil,
            Value::Int(_) | Value::Float(_) | Value::Duration(_) => Type::Number,
            Value::String(_) => Type::String,
            Value::Bool(_) => Type::Bool,
            Value::Status(_) => Type::Status,
            Value::Kind(_) => Type::Kind,
        },
        FieldKind::Attribute(attribute) => attribute_type(attribute),
        FieldKind::Unary(UnaryOp::Not, _) => Type::Bool,
        FieldKind::Unary(UnaryOp::Negate, _) => Type::Number,
        FieldKind::Binary(b) => match b.op {
            FieldOp::Add | FieldOp::Sub | FieldOp::Mul | FieldOp::Div | FieldOp::Mod | FieldOp::Pow => Type::Number,
            _ => Type::Bool,
        },
    }
}

fn uses_span(expr: &FieldExpr) -> bool {
    match &expr.kind {
        FieldKind::Value(_) => false,
        FieldKind::Attribute(_) => true,
        FieldKind::Unary(_, operand) => uses_span(operand),
        FieldKind::Binary(b) => uses_span(&b.lhs) || uses_span(&b.rhs),
    }
}

fn field_op(symbol: &str) -> Option<FieldOp> {
    Some(match symbol {
        "&&" => FieldOp::And,
        "||" => FieldOp::Or,
        "=~" => FieldOp::Match,
        "!~" => FieldOp::NotMatch,
        "+" => FieldOp::Add,
        "-" => FieldOp::Sub,
        "*" => FieldOp::Mul,
        "/" => FieldOp::Div,
        "%" => FieldOp::Mod,
        "^" => FieldOp::Pow,
        other => return super::comparison(other),
    })
}

fn invalid<T>(at: &FieldExpr, message: impl Into<String>) -> Result<T, Error> {
    refuse(Phase::Validate, at.position, message)
}

impl Parser {
    /// What stands in braces.
    pub(super) fn filter(&mut self) -> Result<FieldExpr, Error> {
        let expr = self.field()?;
        if !type_of(&expr).may_be(Type::Bool) {
            return invalid(&expr, format!("a filter must be a boolean, not {}", type_of(&expr).word()));
        }
        Ok(expr)
    }

    pub(super) fn field(&mut self) -> Result<FieldExpr, Error> {
        self.field_at(1)
    }

    /// Operators of at least this level.
    fn field_at(&mut self, level: u8) -> Result<FieldExpr, Error> {
        let mut lhs = self.field_primary()?;
        while let Some(op) = field_op(self.symbol()).filter(|op| op.level() >= level) {
            self.grow()?;
            let position = self.position();
            self.next();
            let rhs = if op == FieldOp::Pow {
                self.enter()?;
                let rhs = self.field_at(op.level())?;
                self.leave();
                rhs
            } else {
                self.field_at(op.level() + 1)?
            };
            let mut binary = BinaryField { op, lhs, rhs, regex: None };
            check_binary(&mut binary)?;
            lhs = FieldExpr { kind: FieldKind::Binary(Box::new(binary)), position };
        }
        Ok(lhs)
    }

    fn field_primary(&mut self) -> Result<FieldExpr, Error> {
        let position = self.position();
        match self.symbol() {
            "(" => {
                self.enter()?;
                self.next();
                let inner = self.field_at(1)?;
                self.expect(")")?;
                self.leave();
                return Ok(inner);
            }
            "!" | "-" => {
                self.enter()?;
                let op = if self.symbol() == "!" { UnaryOp::Not } else { UnaryOp::Negate };
                self.next();
                let operand = match op {
                    UnaryOp::Not => self.field_at(NOT_LEVEL + 1)?,
                    UnaryOp::Negate => self.field_primary()?,
                };
                self.leave();
                return unary(op, operand, position);
            }
            _ => {}
        }
        let value = match self.peek() {
            Token::Int(n) => Value::Int(*n),
            Token::Float(x) => Value::Float(*x),
            Token::Duration(d) => Value::Duration(*d),
            Token::String(s) => Value::String(s.clone()),
            Token::Attribute(a) => {
                let kind = FieldKind::Attribute(a.clone());
                self.next();
                return Ok(FieldExpr { kind, position });
            }
            Token::Identifier(word) => match word.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "nil" => Value::Nil,
                "minInt" => Value::Int(i64::MIN),
                "maxInt" => Value::Int(i64::MAX),
                "parent" => return refuse(Phase::Unsupported, position, "the scope parent is reserved"),
                word => {
                    let intrinsic = Intrinsic::from_name(word).filter(|_| !word.contains(':'));
                    if let Some(intrinsic) = intrinsic {
                        self.next();
                        return Ok(FieldExpr { kind: FieldKind::Attribute(Attribute::Intrinsic(intrinsic)), position });
                    }
                    match status_of(word).map(Value::Status).or_else(|| kind_of(word).map(Value::Kind)) {
                        Some(value) => value,
                        None => {
                            let hint = "attributes are written as span.name, resource.name or .name";
                            return fail(position, format!("unknown word {word:?}: {hint}"));
                        }
                    }
                }
            },
            _ => return self.unexpected("a value or an attribute"),
        };
        self.next();
        Ok(FieldExpr { kind: FieldKind::Value(value), position })
    }

    pub(super) fn check_uses_span(&self, expr: &FieldExpr, what: &str) -> Result<(), Error> {
        if uses_span(expr) { Ok(()) } else { invalid(expr, format!("{what} must use an attribute of the span")) }
    }

    pub(super) fn check_numeric(&self, expr: &FieldExpr, what: &str) -> Result<(), Error> {
        let found = type_of(expr);
        if found.may_be(Type::Number) {
            Ok(())
        } else {
            invalid(expr, format!("{what} takes a number, not {}", found.word()))
        }
    }
}

fn unary(op: UnaryOp, operand: FieldExpr, position: crate::ast::Position) -> Result<FieldExpr, Error> {
    let (symbol, wanted) = match op {
        UnaryOp::Not => ("!", Type::Bool),
        UnaryOp::Negate => ("-", Type::Number),
    };
    let found = type_of(&operand);
    if !found.may_be(wanted) {
        return invalid(&operand, format!("{symbol} takes {}, not {}", wanted.word(), found.word()));
    }
    // A constant stays one.
    let kind = match (op, &operand.kind) {
        (UnaryOp::Negate, FieldKind::Value(Value::Int(n))) => FieldKind::Value(Value::Int(n.wrapping_neg())),
        (UnaryOp::Negate, FieldKind::Value(Value::Float(x))) => FieldKind::Value(Value::Float(-x)),
        (UnaryOp::Negate, FieldKind::Value(Value::Duration(d))) => FieldKind::Value(Value::Duration(d.wrapping_neg())),
        _ => FieldKind::Unary(op, Box::new(operand)),
    };
    Ok(FieldExpr { kind, position })
}

/// Types of both sides fit the operator and each other.
fn check_binary(binary: &mut BinaryField) -> Result<(), Error> {
    let (op, lhs, rhs) = (binary.op, &binary.lhs, &binary.rhs);
    let (left, right) = (type_of(lhs), type_of(rhs));
    for (side, found) in [(lhs, left), (rhs, right)] {
        let fits = match op {
            FieldOp::And | FieldOp::Or => found.may_be(Type::Bool),
            FieldOp::Equal | FieldOp::NotEqual => true,
            FieldOp::Match | FieldOp::NotMatch => found.may_be(Type::String),
            _ if op.is_order() => found.may_be(Type::Number) || found == Type::String,
            _ => found.may_be(Type::Number),
        };
        if !fits {
            return invalid(side, format!("{} does not take {}", op.as_str(), found.word()));
        }
    }
    if matches!(op, FieldOp::Match | FieldOp::NotMatch) {
        let FieldKind::Value(Value::String(pattern)) = &rhs.kind else {
            return invalid(rhs, format!("{} takes a string on its right", op.as_str()));
        };
        return match Regex::anchored(pattern) {
            Ok(regex) => {
                binary.regex = Some(Arc::new(regex));
                Ok(())
            }
            Err(e) => invalid(rhs, format!("invalid regular expression: {e}")),
        };
    }
    for (side, found, other) in [(lhs, left, right), (rhs, right, left)] {
        if other != Type::Nil {
            continue;
        }
        match &side.kind {
            FieldKind::Attribute(a) if a.is_service_name() => {
                return invalid(side, "resource.service.name is never nil");
            }
            FieldKind::Attribute(Attribute::Named { .. }) => {}
            FieldKind::Attribute(Attribute::Intrinsic(i)) => {
                return invalid(side, format!("{} is never nil", i.as_str()));
            }
            _ if found == Type::Nil => {}
            _ => return invalid(side, format!("{} is never nil", found.word())),
        }
    }
    let nil_beside = left == Type::Nil || right == Type::Nil;
    if !nil_beside && left != Type::Any && right != Type::Any && left != right {
        return invalid(rhs, format!("{} cannot be compared or combined with {}", left.word(), right.word()));
    }
    Ok(())
}
