//! Tokens to the tree. `&&` and `||` have the same precedence, among values and among span sets.

mod field;
mod metrics;

use crate::Error;
use crate::ast::{
    Aggregate, AggregateFilter, Attribute, FieldOp, Keep, MetricsExpr, Pipeline, Position, Query, QueryKind, Relation,
    SetExpr, SetOp, Stage, Value,
};
use crate::error::{Phase, refuse};
use crate::lexer::{Placed, Token, fail, tokenize};

/// Parentheses may be nested so deep.
const NESTING_MAX: usize = 100;
/// The tree may be so high: a chain of operators makes a level each.
const HEIGHT_MAX: usize = 600;
/// Stages of one pipeline.
const STAGES_MAX: usize = 100;

/// Reads a query and checks its types.
///
/// Errors: [`Error::Refused`], with its place.
pub fn parse(query: &str) -> Result<Query, Error> {
    let mut parser = Parser { tokens: tokenize(query)?, at: 0, nesting: 0, height: 0 };
    let parsed = parser.query()?;
    Ok(parsed)
}

pub(crate) struct Parser {
    tokens: Vec<Placed>,
    at: usize,
    nesting: usize,
    /// Operators seen so far: no branch of the tree is higher.
    height: usize,
}

/// What stands between parentheses or is a whole query.
enum Node {
    Set(SetExpr),
    Pipeline(Pipeline),
    Metrics(MetricsExpr),
    Number(f64),
}

/// The structural operators, and `&&` and `||`.
fn set_op(symbol: &str) -> Option<(SetOp, u8)> {
    match symbol {
        "&&" => return Some((SetOp::And, 1)),
        "||" => return Some((SetOp::Or, 1)),
        _ => {}
    }
    let (keep, relation) = match symbol.split_at(usize::from(symbol.starts_with(['!', '&']))) {
        ("!", relation) => (Keep::Unrelated, relation),
        ("&", relation) => (Keep::Both, relation),
        (_, relation) => (Keep::Right, relation),
    };
    let relation = Relation::ALL.into_iter().find(|r| r.as_str() == relation)?;
    Some((SetOp::Structural(relation, keep), 2))
}

pub(crate) fn comparison(symbol: &str) -> Option<FieldOp> {
    Some(match symbol {
        "=" => FieldOp::Equal,
        "!=" => FieldOp::NotEqual,
        "<" => FieldOp::Less,
        "<=" => FieldOp::LessEqual,
        ">" => FieldOp::Greater,
        ">=" => FieldOp::GreaterEqual,
        _ => return None,
    })
}

fn aggregate(word: &str) -> Option<Aggregate> {
    [Aggregate::Count, Aggregate::Avg, Aggregate::Min, Aggregate::Max, Aggregate::Sum]
        .into_iter()
        .find(|a| a.as_str() == word)
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].token
    }

    fn position(&self) -> Position {
        self.tokens[self.at].position
    }

    /// The next token; the end again and again.
    fn next(&mut self) -> Placed {
        let placed = self.tokens[self.at].clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        placed
    }

    fn symbol(&self) -> &'static str {
        match self.peek() {
            Token::Symbol(s) => s,
            _ => "",
        }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Identifier(w) if w == word)
    }

    fn accept(&mut self, symbol: &str) -> bool {
        let found = self.symbol() == symbol;
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), Error> {
        if self.accept(symbol) { Ok(()) } else { self.unexpected(&format!("{symbol:?}")) }
    }

    /// Errors with what is there instead of what is wanted.
    fn unexpected<T>(&self, wanted: &str) -> Result<T, Error> {
        let found = match self.peek() {
            Token::End => "the end of the query".to_owned(),
            Token::Identifier(w) => format!("{w:?}"),
            Token::Symbol(s) => format!("{s:?}"),
            Token::Attribute(a) => format!("attribute {a}"),
            Token::String(_) => "a string".to_owned(),
            Token::Int(_) | Token::Float(_) => "a number".to_owned(),
            Token::Duration(_) => "a duration".to_owned(),
        };
        fail(self.position(), format!("expected {wanted}, found {found}"))
    }

    fn enter(&mut self) -> Result<(), Error> {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return fail(self.position(), format!("nested deeper than {NESTING_MAX}"));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.nesting -= 1;
    }

    fn grow(&mut self) -> Result<(), Error> {
        self.height += 1;
        if self.height > HEIGHT_MAX {
            return fail(self.position(), format!("more than {HEIGHT_MAX} operators"));
        }
        Ok(())
    }

    fn query(&mut self) -> Result<Query, Error> {
        let start = self.position();
        let kind = match self.whole()? {
            Node::Set(set) => QueryKind::Search(Pipeline { stages: vec![Stage::Spans(set)] }),
            Node::Pipeline(pipeline) => QueryKind::Search(pipeline),
            Node::Metrics(metrics) => QueryKind::Metrics(metrics),
            Node::Number(_) => return fail(start, "a number is no query"),
        };
        let hints = if self.is_word("with") { self.hints()? } else { Vec::new() };
        match self.peek() {
            Token::End => Ok(Query { kind, hints }),
            Token::Symbol("+" | "-" | "*" | "/") if matches!(kind, QueryKind::Metrics(_)) => {
                fail(self.position(), "both sides of metrics math need parentheses")
            }
            _ => self.unexpected("the end of the query"),
        }
    }

    fn hints(&mut self) -> Result<Vec<(String, Value)>, Error> {
        self.next();
        self.expect("(")?;
        let mut hints = Vec::new();
        loop {
            let placed = self.next();
            let Token::Identifier(name) = placed.token else {
                return fail(placed.position, "expected the name of a hint");
            };
            self.expect("=")?;
            let value = match self.peek().clone() {
                Token::Identifier(word) => {
                    self.next();
                    match word.as_str() {
                        "true" => Value::Bool(true),
                        "false" => Value::Bool(false),
                        _ => Value::String(word),
                    }
                }
                Token::String(text) => {
                    self.next();
                    Value::String(text)
                }
                _ => self.number("the value of a hint")?,
            };
            hints.push((name, value));
            if self.accept(")") {
                return Ok(hints);
            }
            self.expect(",")?;
        }
    }

    /// A number or duration, with a sign perhaps.
    fn number(&mut self, wanted: &str) -> Result<Value, Error> {
        let negative = self.accept("-");
        let value = match self.peek() {
            Token::Int(n) => Value::Int(if negative { -*n } else { *n }),
            Token::Float(x) => Value::Float(if negative { -*x } else { *x }),
            Token::Duration(d) => Value::Duration(if negative { -*d } else { *d }),
            _ => return self.unexpected(wanted),
        };
        self.next();
        Ok(value)
    }

    /// A pipeline without metrics.
    fn pipeline_in(&mut self, node: Node, position: Position) -> Result<SetExpr, Error> {
        match node {
            Node::Set(set) => Ok(set),
            Node::Pipeline(pipeline) => Ok(SetExpr::Pipeline(pipeline)),
            Node::Metrics(_) | Node::Number(_) => fail(position, "expected spans, found a metrics query"),
        }
    }

    /// Something from `{`, `(` or a stage on, up to what cannot follow.
    fn pipeline(&mut self) -> Result<Node, Error> {
        let mut stages = Vec::new();
        if matches!(self.symbol(), "{" | "(") {
            match self.set(1)? {
                Node::Set(set) if self.symbol() != "|" => return Ok(Node::Set(set)),
                Node::Set(set) => stages.push(Stage::Spans(set)),
                Node::Pipeline(pipeline) if self.symbol() != "|" => return Ok(Node::Pipeline(pipeline)),
                Node::Pipeline(pipeline) => stages.push(Stage::Spans(SetExpr::Pipeline(pipeline))),
                other => return Ok(other),
            }
        } else {
            let position = self.position();
            let stage = self.stage()?;
            if matches!(stage, Stage::Coalesce | Stage::Select(_)) {
                return fail(position, "a pipeline cannot start with this stage");
            }
            stages.push(stage);
        }
        while self.symbol() == "|" {
            self.next();
            if let Some(leaf) = self.metrics_stage(&mut stages)? {
                return Ok(Node::Metrics(leaf));
            }
            if stages.len() >= STAGES_MAX {
                return fail(self.position(), format!("more than {STAGES_MAX} stages"));
            }
            stages.push(self.stage()?);
        }
        Ok(Node::Pipeline(Pipeline { stages }))
    }

    /// Span sets with operators of at least this level; what is in parentheses may be a metrics query, which is then
    /// all there is.
    fn set(&mut self, level: u8) -> Result<Node, Error> {
        let mut lhs = self.set_primary()?;
        if matches!(lhs, Node::Metrics(_) | Node::Number(_)) {
            return Ok(lhs);
        }
        let mut position = self.position();
        while let Some((op, bound)) = set_op(self.symbol()).filter(|(_, bound)| *bound >= level) {
            self.grow()?;
            self.next();
            let right = self.position();
            if !matches!(self.symbol(), "{" | "(") {
                return self.unexpected("\"{\" or \"(\"");
            }
            let rhs = self.set(bound + 1)?;
            lhs = Node::Set(SetExpr::Op {
                op,
                lhs: Box::new(self.pipeline_in(lhs, position)?),
                rhs: Box::new(self.pipeline_in(rhs, right)?),
            });
            position = right;
        }
        Ok(lhs)
    }

    fn set_primary(&mut self) -> Result<Node, Error> {
        if self.accept("{") {
            let filter = if self.symbol() == "}" { None } else { Some(self.filter()?) };
            self.expect("}")?;
            return Ok(Node::Set(SetExpr::Filter(filter)));
        }
        self.expect("(")?;
        self.enter()?;
        let node = self.whole()?;
        self.expect(")")?;
        self.leave();
        Ok(node)
    }

    fn stage(&mut self) -> Result<Stage, Error> {
        if matches!(self.symbol(), "{" | "(") {
            let position = self.position();
            let node = self.set(1)?;
            return Ok(Stage::Spans(self.pipeline_in(node, position)?));
        }
        let position = self.position();
        let Token::Identifier(word) = self.peek().clone() else {
            return self.unexpected("a filter in braces or a function");
        };
        if let Some(aggregate) = aggregate(&word) {
            return self.aggregate(aggregate).map(Stage::Aggregate);
        }
        self.next();
        match word.as_str() {
            "by" => {
                self.expect("(")?;
                let expr = self.field()?;
                self.expect(")")?;
                self.check_uses_span(&expr, "by")?;
                Ok(Stage::By(expr))
            }
            "coalesce" => {
                self.expect("(")?;
                self.expect(")")?;
                Ok(Stage::Coalesce)
            }
            "select" => {
                self.expect("(")?;
                Ok(Stage::Select(self.attributes()?))
            }
            "topk" | "bottomk" => fail(position, format!("{word} needs a metrics function before it")),
            _ => fail(position, format!("expected a filter in braces or a function, found {word:?}")),
        }
    }

    /// Attributes up to `)`.
    fn attributes(&mut self) -> Result<Vec<Attribute>, Error> {
        let mut out = vec![self.attribute()?];
        while self.accept(",") {
            out.push(self.attribute()?);
        }
        self.expect(")")?;
        Ok(out)
    }

    fn attribute(&mut self) -> Result<Attribute, Error> {
        let attribute = match self.peek() {
            Token::Attribute(a) => Some(a.clone()),
            Token::Identifier(word) => crate::ast::Intrinsic::from_name(word).map(Attribute::Intrinsic),
            _ => None,
        };
        match attribute {
            Some(attribute) => {
                self.next();
                Ok(attribute)
            }
            None => self.unexpected("an attribute"),
        }
    }

    /// `count()`, `avg(expr)` without the comparison.
    fn aggregate_call(&mut self, aggregate: Aggregate) -> Result<Option<crate::ast::FieldExpr>, Error> {
        self.next();
        self.expect("(")?;
        let argument = match aggregate {
            Aggregate::Count => None,
            _ => Some(self.field()?),
        };
        self.expect(")")?;
        if let Some(argument) = &argument {
            self.check_uses_span(argument, aggregate.as_str())?;
            self.check_numeric(argument, aggregate.as_str())?;
        }
        Ok(argument)
    }

    fn aggregate(&mut self, kind: Aggregate) -> Result<AggregateFilter, Error> {
        let argument = self.aggregate_call(kind)?;
        let Some(op) = comparison(self.symbol()) else {
            return self.unexpected("a comparison behind the aggregate");
        };
        self.next();
        let position = self.position();
        if let Token::Identifier(word) = self.peek()
            && let Some(other) = aggregate(word)
        {
            self.aggregate_call(other)?;
            return refuse(Phase::Unsupported, position, "one side of the comparison must be a number");
        }
        let value = self.number("a number or a duration")?;
        Ok(AggregateFilter { aggregate: kind, argument, op, value })
    }
}
