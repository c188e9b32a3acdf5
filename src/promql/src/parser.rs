//! From tokens to a syntax tree: a recursive descent with precedence climbing.
//!
//! Syntax errors end the parse at the first; a tree is then checked for types, and all those errors are reported.

mod check;
mod duration;
mod selector;

use std::fmt;

use crate::algebra::{AggregateOp, BinaryOp, Cardinality, Grouping, Matching};
use crate::ast::{Aggregate, Binary, Expr, ExprKind, PositionRange, line_column};
use crate::deep::{depth, with_room};
use crate::format::{is_valid_utf8, quote};
use crate::functions::Function;
use crate::lexer::{Keyword, Kind, LexError, Token, tokenize};

/// Longest accepted query in bytes.
pub const QUERY_BYTES_MAX: usize = 1024 * 1024;
/// Most nodes of a tree.
pub const NODES_MAX: usize = 50_000;
/// Most operators in durations.
pub const DURATIONS_MAX: usize = 1000;
/// Deepest nesting of parentheses, calls and aggregations: the parser's own recursion.
pub const NESTING_MAX: usize = 128;
/// Longest chain of operators without parentheses.
pub const CHAIN_MAX: usize = 5000;
/// Deepest tree: see [`crate::with_room_for`].
pub const DEPTH_MAX: usize = 5200;

/// Which parts of the language are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParserOptions {
    /// Experimental functions and aggregations (`promql-experimental-functions`). Default off.
    pub experimental_functions: bool,
    /// `anchored` and `smoothed` (`promql-extended-range-selectors`). Default off.
    pub extended_range_selectors: bool,
    /// `fill`, `fill_left`, `fill_right` (`promql-binop-fill-modifiers`). Default off.
    pub fill_modifiers: bool,
    /// Arithmetic in durations. Default on.
    pub duration_expressions: bool,
}

impl Default for ParserOptions {
    fn default() -> Self {
        Self {
            experimental_functions: false,
            extended_range_selectors: false,
            fill_modifiers: false,
            duration_expressions: true,
        }
    }
}

impl ParserOptions {
    /// Everything on.
    pub const ALL: Self = Self {
        experimental_functions: true,
        extended_range_selectors: true,
        fill_modifiers: true,
        duration_expressions: true,
    };
}

/// What is wrong at one place of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where.
    pub position: PositionRange,
    /// What.
    pub message: String,
}

/// All that is wrong with a query. Its text is that of the first error, as in the reference:
/// `1:5: parse error: unexpected end of input`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// The query.
    pub query: String,
    /// At least one.
    pub errors: Vec<SyntaxError>,
}

impl ParseError {
    /// The text of each error with line and column.
    pub fn texts(&self) -> Vec<String> {
        self.errors
            .iter()
            .map(|e| {
                if self.query.is_empty() {
                    return format!("unknown position: parse error: {}", e.message);
                }
                let (line, column) = line_column(&self.query, e.position.start);
                format!("{line}:{column}: parse error: {}", e.message)
            })
            .collect()
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.texts().first().map_or("parse error", String::as_str))
    }
}

/// Parses and checks a query.
pub fn parse(query: &str, options: ParserOptions) -> Result<Expr, ParseError> {
    run(query, options, |parser| {
        if parser.token().kind == Kind::Eof {
            return Err(error(PositionRange::default(), "no expression found in input"));
        }
        let expr = parser.expr(0)?;
        parser.finish()?;
        if depth(&expr) > DEPTH_MAX {
            return Err(error(PositionRange::default(), format!("query is nested more than {DEPTH_MAX} deep")));
        }
        Ok(expr)
    })
    .and_then(|mut expr| {
        let errors = with_room(depth(&expr), || check::check(&mut expr, query));
        if errors.is_empty() { Ok(expr) } else { Err(ParseError { query: query.to_owned(), errors }) }
    })
}

/// Parses an instant selector without modifiers, as in `match[]` parameters. That some matcher does not match "" is for
/// the caller to check.
pub fn parse_selector(query: &str) -> Result<Vec<trefoil_model::Matcher>, ParseError> {
    let expr = run(query, ParserOptions::default(), |parser| {
        let expr = parser.vector_selector()?;
        parser.finish()?;
        Ok(expr)
    })?;
    match expr.kind {
        ExprKind::Vector(v) => Ok(v.matchers),
        _ => Err(ParseError {
            query: query.to_owned(),
            errors: vec![error(expr.position, "expected a vector selector")],
        }),
    }
}

fn run<T>(
    query: &str,
    options: ParserOptions,
    f: impl FnOnce(&mut Parser<'_>) -> Result<T, SyntaxError>,
) -> Result<T, ParseError> {
    let fail = |e: SyntaxError| ParseError { query: query.to_owned(), errors: vec![e] };
    if query.len() > QUERY_BYTES_MAX {
        let message = format!("query of {} bytes is longer than {QUERY_BYTES_MAX}", query.len());
        return Err(ParseError {
            query: query[..query.floor_char_boundary(100)].to_owned(),
            errors: vec![error(PositionRange::default(), message)],
        });
    }
    let (tokens, lex_error) = tokenize(query);
    let mut parser = Parser { tokens, lex_error, next: 0, options, depth: 0, aggregations: 0, nodes: 0, durations: 0 };
    f(&mut parser).map_err(fail)
}

pub(crate) fn error(position: PositionRange, message: impl Into<String>) -> SyntaxError {
    SyntaxError { position, message: message.into() }
}

pub(crate) type Parsed<T> = Result<T, SyntaxError>;

pub(crate) struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    lex_error: Option<LexError>,
    next: usize,
    options: ParserOptions,
    depth: usize,
    /// Aggregations around.
    aggregations: usize,
    nodes: usize,
    durations: usize,
}

impl<'a> Parser<'a> {
    fn token(&self) -> Token<'a> {
        self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn peek(&self, ahead: usize) -> Token<'a> {
        self.tokens[(self.next + ahead).min(self.tokens.len() - 1)]
    }

    fn advance(&mut self) -> Token<'a> {
        let token = self.token();
        self.next += 1;
        token
    }

    fn eat(&mut self, kind: Kind) -> Option<Token<'a>> {
        (self.token().kind == kind).then(|| self.advance())
    }

    fn at_keyword(&self, keyword: Keyword) -> bool {
        self.token().kind == Kind::Keyword(keyword)
    }

    /// The token is not what is due. Errors of the lexer come first.
    fn unexpected(&self, context: &str, expected: &str) -> SyntaxError {
        let token = self.token();
        if let (Kind::Error, Some(e)) = (token.kind, &self.lex_error) {
            return error(e.position, e.message.clone());
        }
        let mut message = format!("unexpected {}", token.description());
        // As in the reference, what has no place of its own is in the aggregation around it.
        let context = if context.is_empty() && self.aggregations > 0 { "aggregation" } else { context };
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        error(token.position, message)
    }

    fn finish(&self) -> Parsed<()> {
        if self.token().kind == Kind::Eof { Ok(()) } else { Err(self.unexpected("", "")) }
    }

    fn node(&mut self, position: PositionRange, kind: ExprKind) -> Parsed<Expr> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(error(position, format!("query has more than {NODES_MAX} parts")));
        }
        Ok(Expr::new(position, kind))
    }

    fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            let position = self.token().position;
            return Err(error(position, format!("query is nested more than {NESTING_MAX} deep")));
        }
        let out = f(self);
        self.depth -= 1;
        out
    }

    fn expr(&mut self, min: u8) -> Parsed<Expr> {
        let mut lhs = self.prefix()?;
        let mut chain = 0;
        while let Kind::Op(op) = self.token().kind {
            let strength = precedence(op);
            if strength < min {
                break;
            }
            chain += 1;
            if chain > CHAIN_MAX {
                return Err(error(
                    self.token().position,
                    format!("more than {CHAIN_MAX} operators in a row, use parentheses"),
                ));
            }
            self.advance();
            let (return_bool, matching) = self.binary_modifiers()?;
            let right_min = if op == BinaryOp::Pow { strength } else { strength + 1 };
            let rhs = if op == BinaryOp::Pow { self.nested(|p| p.expr(right_min))? } else { self.expr(right_min)? };
            let position = lhs.position.to(rhs.position);
            if !self.options.fill_modifiers && (matching.fill_left.is_some() || matching.fill_right.is_some()) {
                return Err(error(position, "binop fill modifiers are experimental and not enabled"));
            }
            let binary = Box::new(Binary { op, lhs, rhs, return_bool, matching });
            lhs = self.node(position, ExprKind::Binary(binary))?;
        }
        Ok(lhs)
    }

    fn binary_modifiers(&mut self) -> Parsed<(bool, Matching)> {
        let mut matching = Matching::default();
        let return_bool = self.eat(Kind::Keyword(Keyword::Bool)).is_some();
        if self.at_keyword(Keyword::On) || self.at_keyword(Keyword::Ignoring) {
            matching.on = self.at_keyword(Keyword::On);
            self.advance();
            matching.labels = self.grouping_labels()?;
            if self.at_keyword(Keyword::GroupLeft) || self.at_keyword(Keyword::GroupRight) {
                matching.cardinality =
                    if self.at_keyword(Keyword::GroupLeft) { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                self.advance();
                if self.token().kind == Kind::LeftParen {
                    matching.include = self.grouping_labels()?;
                }
            }
        }
        match self.token().kind {
            Kind::Keyword(Keyword::Fill) => {
                self.advance();
                let value = self.fill_value()?;
                matching.fill_left = Some(value);
                matching.fill_right = Some(value);
            }
            Kind::Keyword(Keyword::FillLeft) => {
                self.advance();
                matching.fill_left = Some(self.fill_value()?);
                if self.eat(Kind::Keyword(Keyword::FillRight)).is_some() {
                    matching.fill_right = Some(self.fill_value()?);
                }
            }
            Kind::Keyword(Keyword::FillRight) => {
                self.advance();
                matching.fill_right = Some(self.fill_value()?);
                if self.eat(Kind::Keyword(Keyword::FillLeft)).is_some() {
                    matching.fill_left = Some(self.fill_value()?);
                }
            }
            _ => {}
        }
        Ok((return_bool, matching))
    }

    fn fill_value(&mut self) -> Parsed<f64> {
        if self.eat(Kind::LeftParen).is_none() {
            return Err(self.unexpected("", ""));
        }
        let negative = match self.token().kind {
            Kind::Op(BinaryOp::Sub) => {
                self.advance();
                true
            }
            Kind::Op(BinaryOp::Add) => {
                self.advance();
                false
            }
            _ => false,
        };
        let (value, _) = self.number()?;
        if self.eat(Kind::RightParen).is_none() {
            return Err(self.unexpected("", ""));
        }
        Ok(if negative { -value } else { value })
    }

    /// A number or duration: its value in seconds, and whether it was a duration.
    fn number(&mut self) -> Parsed<(f64, bool)> {
        let token = self.token();
        match token.kind {
            Kind::Number => {
                self.advance();
                let fail = |what: &str| {
                    let message =
                        format!("error parsing number: strconv.ParseFloat: parsing {}: {what}", quote(token.text));
                    error(token.position, message)
                };
                match parse_number(token.text) {
                    // Digits of too great a number, no `Inf`.
                    Some(v) if v.is_infinite() && token.text.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                        Err(fail("value out of range"))
                    }
                    Some(value) => Ok((value, false)),
                    None => Err(fail("invalid syntax")),
                }
            }
            Kind::Duration => {
                self.advance();
                let ms = crate::duration::parse_duration(token.text).map_err(|e| error(token.position, e))?;
                Ok((ms as f64 / 1000.0, true))
            }
            _ => Err(self.unexpected("", "")),
        }
    }

    fn grouping_labels(&mut self) -> Parsed<Vec<String>> {
        if self.eat(Kind::LeftParen).is_none() {
            return Err(self.unexpected("grouping opts", "\"(\""));
        }
        let mut labels = Vec::new();
        if self.eat(Kind::RightParen).is_some() {
            return Ok(labels);
        }
        loop {
            let token = self.token();
            if token.kind == Kind::String {
                self.advance();
                let name = unquote(token)?;
                if name.is_empty() || !is_valid_utf8(&name) {
                    let message = format!("invalid label name for grouping: {}", quote(&name));
                    return Err(error(token.position, message));
                }
                labels.push(name);
            } else if token.is_label_name() {
                self.advance();
                labels.push(token.text.to_owned());
            } else {
                return Err(self.unexpected("grouping opts", "label"));
            }
            let comma = self.eat(Kind::Comma).is_some();
            if self.eat(Kind::RightParen).is_some() {
                return Ok(labels);
            }
            if !comma {
                return Err(self.unexpected("grouping opts", "\",\" or \")\""));
            }
        }
    }

    fn prefix(&mut self) -> Parsed<Expr> {
        let token = self.token();
        if let Kind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) = token.kind {
            self.advance();
            let negative = op == BinaryOp::Sub;
            let mut expr = self.nested(|p| p.expr(precedence(BinaryOp::Pow)))?;
            let position = token.position.to(expr.position);
            if let ExprKind::Number { value, .. } = &mut expr.kind {
                if negative {
                    *value = -*value;
                }
                expr.position = position;
                return Ok(expr);
            }
            return self.node(position, ExprKind::Unary { negative, expr: Box::new(expr) });
        }
        let mut expr = self.primary()?;
        let mut modifiers = 0;
        while let Kind::LeftBracket
        | Kind::At
        | Kind::Keyword(Keyword::Offset | Keyword::Anchored | Keyword::Smoothed) = self.token().kind
        {
            modifiers += 1;
            if modifiers > NESTING_MAX {
                let message = format!("more than {NESTING_MAX} modifiers in a row");
                return Err(error(self.token().position, message));
            }
            expr = self.postfix(expr)?;
        }
        Ok(expr)
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let token = self.token();
        let called = self.peek(1).kind == Kind::LeftParen;
        match token.kind {
            Kind::Number | Kind::Duration => {
                let (value, duration) = self.number()?;
                self.node(token.position, ExprKind::Number { value, duration })
            }
            Kind::String => {
                self.advance();
                let text = unquote(token)?;
                self.node(token.position, ExprKind::String(text))
            }
            Kind::LeftParen => {
                self.advance();
                let inner = self.nested(|p| p.expr(0))?;
                let Some(close) = self.eat(Kind::RightParen) else { return Err(self.unexpected("", "")) };
                self.node(token.position.to(close.position), ExprKind::Paren(Box::new(inner)))
            }
            Kind::Aggregate(op) => match self.peek(1).kind {
                Kind::LeftParen | Kind::Keyword(Keyword::By | Keyword::Without) => self.aggregate(op),
                _ => self.vector_selector(),
            },
            Kind::Identifier if called => self.call(),
            Kind::Keyword(
                Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf,
            ) if called => self.call(),
            _ => self.vector_selector(),
        }
    }

    /// `( a, b )`; the position of the closing parenthesis comes too.
    fn call_args(&mut self, context: &str) -> Parsed<(Vec<Expr>, PositionRange)> {
        if self.eat(Kind::LeftParen).is_none() {
            return Err(self.unexpected(context, ""));
        }
        let mut args = Vec::new();
        if let Some(close) = self.eat(Kind::RightParen) {
            return Ok((args, close.position));
        }
        loop {
            args.push(self.nested(|p| p.expr(0))?);
            if let Some(close) = self.eat(Kind::RightParen) {
                return Ok((args, close.position));
            }
            let Some(comma) = self.eat(Kind::Comma) else { return Err(self.unexpected(context, "")) };
            if self.token().kind == Kind::RightParen {
                return Err(error(comma.position, "trailing commas not allowed in function call args"));
            }
        }
    }

    fn call(&mut self) -> Parsed<Expr> {
        let name = self.advance();
        let (args, close) = self.call_args("")?;
        let Some(function) = Function::find(name.text) else {
            return Err(error(name.position, format!("unknown function with name {}", quote(name.text))));
        };
        if function.experimental && !self.options.experimental_functions {
            return Err(error(name.position, format!("function {} is not enabled", quote(name.text))));
        }
        self.node(name.position.to(close), ExprKind::Call { function, args })
    }

    fn grouping(&mut self) -> Parsed<Option<(Grouping, PositionRange)>> {
        let without = match self.token().kind {
            Kind::Keyword(Keyword::By) => false,
            Kind::Keyword(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.advance();
        let labels = self.grouping_labels()?;
        let end = self.tokens[self.next - 1].position;
        Ok(Some((Grouping { without, labels }, end)))
    }

    fn aggregate(&mut self, op: AggregateOp) -> Parsed<Expr> {
        let start = self.advance();
        let before = self.grouping()?;
        self.aggregations += 1;
        let args = self.call_args("aggregation");
        self.aggregations -= 1;
        let (mut args, close) = args?;
        let mut end = close;
        let grouping = match before {
            Some((grouping, _)) => grouping,
            None => match self.grouping()? {
                Some((grouping, last)) => {
                    end = last;
                    grouping
                }
                None => Grouping::default(),
            },
        };
        let position = start.position.to(end);
        if args.is_empty() {
            return Err(error(position, "no arguments for aggregate expression provided"));
        }
        if op.is_experimental() && !self.options.experimental_functions {
            let message = format!(
                "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                op.as_str()
            );
            return Err(error(position, message));
        }
        let want = if op.has_param() { 2 } else { 1 };
        if args.len() != want {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {want}, got {}",
                args.len()
            );
            return Err(error(position, message));
        }
        let expr = args.pop().expect("the number of arguments was checked");
        let param = args.pop();
        self.node(position, ExprKind::Aggregate(Box::new(Aggregate { op, grouping, param, expr })))
    }
}

fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 5,
        BinaryOp::Pow => 6,
        _ => 3,
    }
}

/// A number: decimal, octal with a leading 0, hexadecimal; underscores between digits; `Inf`, `NaN`.
pub fn parse_number(text: &str) -> Option<f64> {
    let plain = text.replace('_', "");
    let lower = plain.to_ascii_lowercase();
    match lower.as_str() {
        "inf" | "+inf" => return Some(f64::INFINITY),
        "-inf" => return Some(f64::NEG_INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    if let Some(hex) = lower.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().map(|n| n as f64);
    }
    if lower.len() > 1
        && lower.starts_with('0')
        && let Ok(n) = i64::from_str_radix(&lower, 8)
    {
        return Some(n as f64);
    }
    if !lower.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    lower.parse().ok()
}

/// The text that a string token stands for.
pub(crate) fn unquote(token: Token<'_>) -> Parsed<String> {
    unquote_text(token.text)
        .ok_or_else(|| error(token.position, format!("error unquoting string {}: invalid syntax", quote(token.text))))
}

/// Takes the quotes off and resolves escapes. A byte that is no UTF-8 becomes a private-use character, see
/// [`crate::format::RAW_BYTE`].
pub(crate) fn unquote_text(text: &str) -> Option<String> {
    let open = text.chars().next()?;
    let inner = text.strip_prefix(open)?.strip_suffix(open)?;
    if open == '`' {
        return Some(inner.to_owned());
    }
    if !inner.contains('\\') {
        return Some(inner.to_owned());
    }
    let mut out: Vec<u8> = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let escape = chars.next()?;
        let mut digits = |n: usize, radix: u32, first: u32| {
            (0..n).try_fold(first, |v, _| chars.next().and_then(|c| c.to_digit(radix)).map(|d| v * radix + d))
        };
        match escape {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '0'..='7' => out.push(u8::try_from(digits(2, 8, escape.to_digit(8)?)?).ok()?),
            'x' => out.push(u8::try_from(digits(2, 16, 0)?).ok()?),
            'u' => out.extend(char::from_u32(digits(4, 16, 0)?)?.encode_utf8(&mut [0; 4]).bytes()),
            'U' => out.extend(char::from_u32(digits(8, 16, 0)?)?.encode_utf8(&mut [0; 4]).bytes()),
            other => out.extend(other.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    let mut text = String::with_capacity(out.len());
    for chunk in out.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().filter_map(|b| char::from_u32(crate::format::RAW_BYTE + u32::from(*b))));
    }
    Some(text)
}

#[cfg(test)]
mod tests;
