//! Recursive descent over the tokens; every error has a line and a column.

mod metric;
mod pipeline;

use trefoil_model::{MatchOp, Matcher};

use crate::Error;
use crate::ast::{Expr, LogExpr, Position};
use crate::lexer::{Placed, Token, fail, tokenize};

const DEPTH_MAX: usize = 100;
/// Most binary operators, and most conditions of label filters, in a query: chains nest the tree, too.
const OPERATORS_MAX: usize = 300;

/// Parses and checks a query, up to what needs the pipeline to be built (see [`crate::Engine::check`]).
pub fn parse(query: &str) -> Result<Expr, Error> {
    let mut parser = Parser { tokens: tokenize(query)?, at: 0, depth: 0, operators: 0 };
    let expr = parser.expression()?;
    if *parser.peek() != Token::End {
        return parser.unexpected();
    }
    Ok(expr)
}

/// Parses `{a="b", …}` alone, as the series and labels endpoints take it; `{}` is allowed.
pub fn parse_selector(query: &str) -> Result<Vec<Matcher>, Error> {
    let mut parser = Parser { tokens: tokenize(query)?, at: 0, depth: 0, operators: 0 };
    let matchers = parser.selector()?;
    if *parser.peek() != Token::End {
        return parser.unexpected();
    }
    Ok(matchers)
}

pub(crate) struct Parser {
    tokens: Vec<Placed>,
    at: usize,
    depth: usize,
    operators: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> &Token {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].token
    }

    fn position(&self) -> Position {
        self.tokens[self.at.min(self.tokens.len() - 1)].position
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(s) if *s == symbol)
    }

    fn accept(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), Error> {
        if self.accept(symbol) { Ok(()) } else { self.unexpected_but(&format!("\"{symbol}\"")) }
    }

    /// The next token in lower case when it is a word.
    fn word(&self) -> Option<String> {
        match self.peek() {
            Token::Identifier(word) => Some(word.to_ascii_lowercase()),
            _ => None,
        }
    }

    fn accept_word(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek(), Token::Identifier(w) if w.eq_ignore_ascii_case(wanted));
        self.at += usize::from(found);
        found
    }

    fn describe(&self) -> String {
        match self.peek() {
            Token::Identifier(word) => format!("IDENTIFIER {word:?}"),
            Token::String(_) => "STRING".to_owned(),
            Token::Number(_) => "NUMBER".to_owned(),
            Token::Duration(_) => "DURATION".to_owned(),
            Token::Bytes(_) => "BYTES".to_owned(),
            Token::Range(_) => "RANGE".to_owned(),
            Token::Flag(flag) => format!("flag {flag}"),
            Token::Symbol(symbol) => format!("\"{symbol}\""),
            Token::End => "$end".to_owned(),
        }
    }

    fn unexpected<T>(&self) -> Result<T, Error> {
        fail(self.position(), format!("syntax error: unexpected {}", self.describe()))
    }

    fn unexpected_but<T>(&self, wanted: &str) -> Result<T, Error> {
        fail(self.position(), format!("syntax error: unexpected {}, expecting {wanted}", self.describe()))
    }

    fn string(&mut self) -> Result<String, Error> {
        match self.peek() {
            Token::String(text) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => self.unexpected_but("STRING"),
        }
    }

    fn identifier(&mut self) -> Result<String, Error> {
        match self.peek() {
            Token::Identifier(name) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected_but("IDENTIFIER"),
        }
    }

    fn deeper(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return fail(self.position(), format!("query is nested deeper than {DEPTH_MAX}"));
        }
        Ok(())
    }

    fn one_more_operator(&mut self) -> Result<(), Error> {
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return fail(self.position(), format!("query has more than {OPERATORS_MAX} operators"));
        }
        Ok(())
    }

    /// `(a, b)`
    fn label_list(&mut self) -> Result<Vec<String>, Error> {
        self.expect("(")?;
        let mut labels = Vec::new();
        if self.accept(")") {
            return Ok(labels);
        }
        loop {
            labels.push(self.identifier()?);
            if self.accept(")") {
                return Ok(labels);
            }
            self.expect(",")?;
        }
    }

    fn match_op(&mut self) -> Result<MatchOp, Error> {
        let op = match self.peek() {
            Token::Symbol("=") => MatchOp::Equal,
            Token::Symbol("!=") => MatchOp::NotEqual,
            Token::Symbol("=~") => MatchOp::Regex,
            Token::Symbol("!~") => MatchOp::NotRegex,
            _ => return self.unexpected_but("= or != or =~ or !~"),
        };
        self.at += 1;
        Ok(op)
    }

    fn matcher(&mut self, name: String, op: MatchOp) -> Result<Matcher, Error> {
        let position = self.position();
        let value = self.string()?;
        Matcher::new(op, name, value).or_else(|e| fail(position, e.to_string()))
    }

    fn selector(&mut self) -> Result<Vec<Matcher>, Error> {
        self.expect("{")?;
        let mut matchers = Vec::new();
        if self.accept("}") {
            return Ok(matchers);
        }
        loop {
            let name = self.identifier()?;
            let op = self.match_op()?;
            matchers.push(self.matcher(name, op)?);
            if self.accept("}") {
                return Ok(matchers);
            }
            if !self.accept(",") {
                return self.unexpected_but("\"}\" or \",\"");
            }
        }
    }

    /// A selector that restricts something, as every query needs one.
    fn checked_selector(&mut self) -> Result<LogExpr, Error> {
        let position = self.position();
        let matchers = self.selector()?;
        if matchers.iter().all(Matcher::matches_empty) {
            return fail(
                position,
                "queries require at least one regexp or equality matcher that does not have an empty-compatible \
                 value. For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will",
            );
        }
        Ok(LogExpr { position, matchers, stages: Vec::new() })
    }
}
