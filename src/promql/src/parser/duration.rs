//! Durations in brackets and behind `offset`: literals and arithmetic.

use super::{Parsed, Parser, SyntaxError, error};
use crate::algebra::BinaryOp;
use crate::ast::{Duration, DurationExpr, DurationKind, PositionRange};
use crate::lexer::{Keyword, Kind};

/// Seconds that fit the reference's 63 bits of nanoseconds.
const SECONDS_MAX: f64 = 9_223_372_036.854_775;

impl Parser<'_> {
    /// The duration of a range or of a subquery's step; greater than 0.
    pub(super) fn bracket_duration(&mut self, context: &str, expected: &str) -> Parsed<Duration> {
        if !self.at_duration() {
            return Err(self.unexpected(context, expected));
        }
        let expr = self.duration_expr(0)?;
        self.to_duration(expr, false)
    }

    /// The duration behind `offset`: a signed literal, call or parenthesised expression.
    pub(super) fn offset_duration(&mut self) -> Parsed<Duration> {
        if !self.at_duration() {
            return Err(self.unexpected("offset", "number, duration, step(), or range()"));
        }
        let expr = self.duration_prefix(true)?;
        self.to_duration(expr, true)
    }

    fn at_duration(&self) -> bool {
        matches!(
            self.token().kind,
            Kind::Number
                | Kind::Duration
                | Kind::LeftParen
                | Kind::Op(BinaryOp::Add | BinaryOp::Sub)
                | Kind::Keyword(Keyword::Step | Keyword::Range | Keyword::MinOf | Keyword::MaxOf)
        )
    }

    fn to_duration(&self, expr: DurationExpr, may_be_negative: bool) -> Parsed<Duration> {
        if let DurationKind::Number(seconds, _) = expr.kind {
            if seconds.is_nan() || seconds.abs() > SECONDS_MAX {
                return Err(error(expr.position, "duration out of range"));
            }
            if seconds <= 0.0 && !may_be_negative {
                return Err(error(expr.position, "duration must be greater than 0"));
            }
            return Ok(Duration::Fixed((seconds * 1000.0).round() as i64));
        }
        if !self.options.duration_expressions {
            return Err(error(expr.position, "experimental duration expression is not enabled"));
        }
        Ok(Duration::Expr(Box::new(expr)))
    }

    fn duration_expr(&mut self, min: u8) -> Parsed<DurationExpr> {
        let mut lhs = self.duration_prefix(false)?;
        loop {
            let operator = self.token();
            let Kind::Op(op) = operator.kind else { return Ok(lhs) };
            let strength = match op {
                BinaryOp::Add | BinaryOp::Sub => 1,
                BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => 2,
                BinaryOp::Pow => 3,
                _ => return Ok(lhs),
            };
            if strength < min {
                return Ok(lhs);
            }
            self.advance();
            let next_min = if op == BinaryOp::Pow { strength } else { strength + 1 };
            let rhs = self.nested(|p| p.duration_expr(next_min))?;
            if let (BinaryOp::Div | BinaryOp::Mod, DurationKind::Number(0.0, _)) = (op, &rhs.kind) {
                let what = if op == BinaryOp::Div { "division by zero" } else { "modulo by zero" };
                return Err(error(operator.position, what));
            }
            let position = lhs.position.to(rhs.position);
            self.count(position)?;
            lhs = DurationExpr { position, kind: DurationKind::Binary(op, Box::new(lhs), Box::new(rhs)) };
        }
    }

    fn count(&mut self, position: PositionRange) -> Parsed<()> {
        self.durations += 1;
        // Long chains nest to the left; bound them well below what recursion can bear.
        if self.durations > super::DURATIONS_MAX {
            let message = format!("query has more than {} operators in durations", super::DURATIONS_MAX);
            return Err(error(position, message));
        }
        Ok(())
    }

    /// `alone`: a sign belongs to the literal behind it and to nothing more.
    fn duration_prefix(&mut self, alone: bool) -> Parsed<DurationExpr> {
        let token = self.token();
        if let Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) = token.kind {
            self.advance();
            let negative = op == BinaryOp::Sub;
            let mut inner = self.nested(|p| if alone { p.duration_prefix(true) } else { p.duration_expr(3) })?;
            let position = token.position.to(inner.position);
            if let DurationKind::Number(value, _) = &mut inner.kind {
                if negative {
                    *value = -*value;
                }
                inner.position = position;
                return Ok(inner);
            }
            if !negative {
                return Ok(inner);
            }
            return Ok(DurationExpr { position, kind: DurationKind::Unary(true, Box::new(inner)) });
        }
        self.duration_primary()
    }

    fn duration_primary(&mut self) -> Parsed<DurationExpr> {
        let token = self.token();
        match token.kind {
            Kind::Number | Kind::Duration => {
                let (value, duration) = self.number()?;
                if value.abs() > SECONDS_MAX {
                    return Err(error(token.position, "duration out of range"));
                }
                Ok(DurationExpr { position: token.position, kind: DurationKind::Number(value, duration) })
            }
            Kind::LeftParen => {
                self.advance();
                let inner = self.nested(|p| p.duration_expr(0))?;
                let close = self.eat(Kind::RightParen).ok_or_else(|| self.unexpected_in_duration())?;
                let position = token.position.to(close.position);
                let kind = match inner.kind {
                    // A number stays one in parentheses, as in the reference.
                    number @ DurationKind::Number(..) => number,
                    _ => DurationKind::Paren(Box::new(inner)),
                };
                Ok(DurationExpr { position, kind })
            }
            Kind::Keyword(keyword @ (Keyword::Step | Keyword::Range)) => {
                self.advance();
                self.eat(Kind::LeftParen).ok_or_else(|| self.unexpected_in_duration())?;
                let close = self.eat(Kind::RightParen).ok_or_else(|| self.unexpected_in_duration())?;
                let kind = if keyword == Keyword::Step { DurationKind::Step } else { DurationKind::Range };
                Ok(DurationExpr { position: token.position.to(close.position), kind })
            }
            Kind::Keyword(keyword @ (Keyword::MinOf | Keyword::MaxOf)) => {
                self.advance();
                self.eat(Kind::LeftParen).ok_or_else(|| self.unexpected_in_duration())?;
                let a = Box::new(self.nested(|p| p.duration_expr(0))?);
                self.eat(Kind::Comma).ok_or_else(|| self.unexpected_in_duration())?;
                let b = Box::new(self.nested(|p| p.duration_expr(0))?);
                let close = self.eat(Kind::RightParen).ok_or_else(|| self.unexpected_in_duration())?;
                let kind =
                    if keyword == Keyword::MinOf { DurationKind::MinOf(a, b) } else { DurationKind::MaxOf(a, b) };
                Ok(DurationExpr { position: token.position.to(close.position), kind })
            }
            _ => Err(self.unexpected_in_duration()),
        }
    }

    fn unexpected_in_duration(&self) -> SyntaxError {
        self.unexpected("subquery or range selector", "number, duration, step(), or range()")
    }
}
