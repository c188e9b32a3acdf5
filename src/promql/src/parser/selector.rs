//! Selectors and what may stand behind them: ranges, subqueries, `offset`, `@`, `anchored`, `smoothed`.

use trefoil_model::{MatchOp, Matcher};

use super::{Parsed, Parser, error, unquote};
use crate::algebra::BinaryOp;
use crate::ast::{At, Duration, Expr, ExprKind, MatrixSelector, RangeMode, Subquery, VectorSelector};
use crate::format::format_decimal;
use crate::lexer::{Keyword, Kind};

impl Parser<'_> {
    pub(super) fn vector_selector(&mut self) -> Parsed<Expr> {
        let first = self.token();
        let mut position = first.position;
        let name = first.is_metric_name().then(|| {
            self.advance();
            first.text.to_owned()
        });
        if name.is_none() && first.kind != Kind::LeftBrace {
            return Err(self.unexpected("", ""));
        }
        let mut matchers = Vec::new();
        if self.token().kind == Kind::LeftBrace {
            self.advance();
            matchers = self.label_matchers()?;
            position.end = self.tokens[self.next - 1].position.end;
        }
        if let Some(name) = &name {
            matchers.push(Matcher::equal(trefoil_model::labels::METRIC_NAME, name.as_str()));
        }
        let selector = VectorSelector {
            name,
            matchers,
            offset: Duration::ZERO,
            at: None,
            mode: RangeMode::Plain,
            may_be_empty: false,
            stats_only: false,
            presence_only: false,
        };
        self.node(position, ExprKind::Vector(Box::new(selector)))
    }

    /// What stands in braces, the closing one included.
    fn label_matchers(&mut self) -> Parsed<Vec<Matcher>> {
        let mut out = Vec::new();
        loop {
            if out.is_empty() && self.eat(Kind::RightBrace).is_some() {
                return Ok(out);
            }
            out.push(self.label_matcher()?);
            let comma = self.eat(Kind::Comma).is_some();
            if self.eat(Kind::RightBrace).is_some() {
                return Ok(out);
            }
            if !comma {
                return Err(self.unexpected("label matching", "\",\" or \"}\""));
            }
        }
    }

    fn label_matcher(&mut self) -> Parsed<Matcher> {
        let label = self.token();
        let name = match label.kind {
            Kind::Identifier => {
                self.advance();
                label.text.to_owned()
            }
            Kind::String => {
                self.advance();
                unquote(label)?
            }
            _ => return Err(self.unexpected("label matching", "identifier or \"}\"")),
        };
        let op = match self.token().kind {
            Kind::Assign => MatchOp::Equal,
            Kind::Op(BinaryOp::NotEq) => MatchOp::NotEqual,
            Kind::EqualRegex => MatchOp::Regex,
            Kind::NotEqualRegex => MatchOp::NotRegex,
            // A quoted text alone is the metric's name.
            Kind::Comma | Kind::RightBrace if label.kind == Kind::String => {
                return Ok(Matcher::equal(trefoil_model::labels::METRIC_NAME, name));
            }
            _ if label.kind == Kind::String => {
                return Err(self.unexpected("label matching", "\",\" or \"}\""));
            }
            _ => return Err(self.unexpected("label matching", "label matching operator")),
        };
        self.advance();
        let value = self.token();
        if value.kind != Kind::String {
            return Err(self.unexpected("label matching", "string"));
        }
        self.advance();
        let text = unquote(value)?;
        Matcher::new(op, name, text).map_err(|e| error(label.position.to(value.position), e.to_string()))
    }

    pub(super) fn postfix(&mut self, expr: Expr) -> Parsed<Expr> {
        match self.token().kind {
            Kind::LeftBracket => self.brackets(expr),
            Kind::At => self.at_modifier(expr),
            Kind::Keyword(Keyword::Offset) => self.offset_modifier(expr),
            _ => self.range_mode(expr),
        }
    }

    fn brackets(&mut self, expr: Expr) -> Parsed<Expr> {
        let open = self.advance();
        let range = self.bracket_duration("subquery or range selector", "number, duration, step(), or range()")?;
        if let Some(close) = self.eat(Kind::RightBracket) {
            return self.matrix(expr, range, open.position.to(close.position));
        }
        if self.eat(Kind::Colon).is_none() {
            return Err(self.unexpected("subquery or range", "\":\" or \"]\""));
        }
        let step = if self.token().kind == Kind::RightBracket {
            None
        } else {
            Some(self.bracket_duration("subquery selector", "number, duration, step(), range(), or \"]\"")?)
        };
        let Some(close) = self.eat(Kind::RightBracket) else {
            return Err(self.unexpected("subquery selector", "\"]\""));
        };
        let position = expr.position.to(close.position);
        let subquery = Subquery { expr, range, step, offset: Duration::ZERO, at: None };
        self.depth_of_subquery(position)?;
        self.node(position, ExprKind::Subquery(Box::new(subquery)))
    }

    /// Chains like `a[5m:][5m:]` nest without parentheses; each counts as a node only, but types forbid them.
    fn depth_of_subquery(&self, position: crate::ast::PositionRange) -> Parsed<()> {
        if self.nodes >= super::NODES_MAX {
            return Err(error(position, format!("query has more than {} parts", super::NODES_MAX)));
        }
        Ok(())
    }

    fn matrix(&mut self, expr: Expr, range: Duration, brackets: crate::ast::PositionRange) -> Parsed<Expr> {
        let position = expr.position.to(brackets);
        let ExprKind::Vector(selector) = expr.kind else {
            return Err(error(brackets, "ranges only allowed for vector selectors"));
        };
        if selector.offset.is_set() {
            return Err(error(brackets, "no offset modifiers allowed before range"));
        }
        if selector.at.is_some() {
            return Err(error(brackets, "no @ modifiers allowed before range"));
        }
        let matrix = MatrixSelector { selector: *selector, selector_position: expr.position, range };
        self.node(position, ExprKind::Matrix(Box::new(matrix)))
    }

    fn at_modifier(&mut self, mut expr: Expr) -> Parsed<Expr> {
        self.advance();
        let token = self.token();
        let at = match token.kind {
            Kind::Keyword(keyword @ (Keyword::Start | Keyword::End)) => {
                self.advance();
                if self.eat(Kind::LeftParen).is_none() || self.eat(Kind::RightParen).is_none() {
                    return Err(self.unexpected("@", "timestamp"));
                }
                if keyword == Keyword::Start { At::Start } else { At::End }
            }
            _ => {
                let negative = match token.kind {
                    Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                        self.advance();
                        op == BinaryOp::Sub
                    }
                    _ => false,
                };
                if !matches!(self.token().kind, Kind::Number | Kind::Duration) {
                    return Err(self.unexpected("@", "timestamp"));
                }
                let (value, _) = self.number()?;
                let value = if negative { -value } else { value };
                if !value.is_finite() || value.abs() >= i64::MAX as f64 {
                    let shown = if value.is_finite() { format!("{value:.6}") } else { format_decimal(value) };
                    let message = format!("timestamp out of bounds for @ modifier: {shown}");
                    return Err(error(expr.position, message));
                }
                At::Time((value * 1000.0).round() as i64)
            }
        };
        let slot = match &mut expr.kind {
            ExprKind::Vector(v) => &mut v.at,
            ExprKind::Matrix(m) => &mut m.selector.at,
            ExprKind::Subquery(s) => &mut s.at,
            _ => {
                let message =
                    "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                return Err(error(expr.position, message));
            }
        };
        if slot.is_some() {
            return Err(error(expr.position, "@ <timestamp> may not be set multiple times"));
        }
        *slot = Some(at);
        self.extend(&mut expr);
        Ok(expr)
    }

    fn offset_modifier(&mut self, mut expr: Expr) -> Parsed<Expr> {
        self.advance();
        let offset = self.offset_duration()?;
        let slot = match &mut expr.kind {
            ExprKind::Vector(v) => &mut v.offset,
            ExprKind::Matrix(m) => &mut m.selector.offset,
            ExprKind::Subquery(s) => &mut s.offset,
            _ => {
                let message = "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                return Err(error(expr.position, message));
            }
        };
        if slot.is_set() {
            return Err(error(expr.position, "offset may not be set multiple times"));
        }
        *slot = offset;
        self.extend(&mut expr);
        Ok(expr)
    }

    fn range_mode(&mut self, mut expr: Expr) -> Parsed<Expr> {
        let token = self.advance();
        let (mode, word) = if token.kind == Kind::Keyword(Keyword::Anchored) {
            (RangeMode::Anchored, "anchored")
        } else {
            (RangeMode::Smoothed, "smoothed")
        };
        if !self.options.extended_range_selectors {
            return Err(error(expr.position, format!("{word} modifier is experimental and not enabled")));
        }
        let slot = match &mut expr.kind {
            ExprKind::Vector(v) => &mut v.mode,
            ExprKind::Matrix(m) => &mut m.selector.mode,
            ExprKind::Subquery(_) => {
                return Err(error(expr.position, format!("{word} modifier is not supported for subqueries")));
            }
            _ => return Err(error(expr.position, format!("{word} modifier not implemented"))),
        };
        if *slot != RangeMode::Plain && *slot != mode {
            return Err(error(expr.position, "anchored and smoothed modifiers cannot be used together"));
        }
        *slot = mode;
        Ok(expr)
    }

    /// The modifier just read belongs to the selector.
    fn extend(&self, expr: &mut Expr) {
        expr.position.end = self.tokens[self.next - 1].position.end;
    }
}
