//! Tokens to the tree.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{Block, Command, Node, Operand, Pipeline, Term};
use crate::lexer::{Position, Token, TokenKind};
use crate::template::TemplateError;
use crate::value::Value;

const DEPTH_MAX: usize = 100;

/// A function's name at the place where it is used.
#[derive(Debug, Clone)]
pub(crate) struct FunctionUse {
    pub(crate) name: String,
    pub(crate) position: Position,
}

pub(crate) struct Parsed {
    pub(crate) root: Block,
    pub(crate) definitions: BTreeMap<String, Block>,
    pub(crate) functions: Vec<FunctionUse>,
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    ranges: usize,
    variables: Vec<String>,
    definitions: BTreeMap<String, Block>,
    functions: Vec<FunctionUse>,
}

enum Ending {
    End,
    Else,
    Source,
}

type Result<T> = std::result::Result<T, TemplateError>;

pub(crate) fn parse(tokens: Vec<Token>, variables: &[&str]) -> Result<Parsed> {
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
        ranges: 0,
        variables: std::iter::once("$").chain(variables.iter().copied()).map(str::to_owned).collect(),
        definitions: BTreeMap::new(),
        functions: Vec::new(),
    };
    let (root, ending) = parser.block()?;
    match ending {
        Ending::Source => {}
        Ending::End => return Err(parser.here().error("unexpected {{end}}")),
        Ending::Else => return Err(parser.here().error("unexpected {{else}}")),
    }
    Ok(Parsed { root, definitions: parser.definitions, functions: parser.functions })
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn here(&self) -> Position {
        self.peek().position
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn keyword(&self) -> Option<&str> {
        match &self.peek().kind {
            TokenKind::Identifier(word) => Some(word),
            _ => None,
        }
    }

    fn unexpected(&self, context: &str) -> TemplateError {
        let what = match &self.peek().kind {
            TokenKind::Text(_) | TokenKind::End => "end of template".to_owned(),
            TokenKind::Open => "\"{{\"".to_owned(),
            TokenKind::Close => "\"}}\"".to_owned(),
            TokenKind::Identifier(w) => format!("<{w}>"),
            TokenKind::Field(w) => format!("<.{w}>"),
            TokenKind::Variable(w) => format!("<{w}>"),
            TokenKind::Dot => "<.>".to_owned(),
            TokenKind::String(s) => format!("{s:?}"),
            TokenKind::Int(n) => format!("\"{n}\""),
            TokenKind::Float(n) => format!("\"{n}\""),
            TokenKind::Declare => "\":=\"".to_owned(),
            TokenKind::Assign => "\"=\"".to_owned(),
            TokenKind::Comma => "\",\"".to_owned(),
            TokenKind::Pipe => "\"|\"".to_owned(),
            TokenKind::LeftParen => "\"(\"".to_owned(),
            TokenKind::RightParen => "\")\"".to_owned(),
        };
        self.here().error(format!("unexpected {what} in {context}"))
    }

    fn close(&mut self, context: &str) -> Result<()> {
        if self.peek().kind != TokenKind::Close {
            return Err(self.unexpected(context));
        }
        self.at += 1;
        Ok(())
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.here().error(format!("nested deeper than {DEPTH_MAX}")));
        }
        Ok(())
    }

    /// Nodes up to `{{end}}` or `{{else`; the keyword itself is consumed, of `else` the rest is not.
    fn block(&mut self) -> Result<(Block, Ending)> {
        self.deeper()?;
        let mut nodes = Vec::new();
        let ending = loop {
            match self.next().kind {
                TokenKind::Text(text) => nodes.push(Node::Text(text)),
                TokenKind::End => break Ending::Source,
                TokenKind::Open => match self.keyword() {
                    Some("end") => {
                        self.at += 1;
                        self.close("end")?;
                        break Ending::End;
                    }
                    Some("else") => {
                        self.at += 1;
                        break Ending::Else;
                    }
                    _ => nodes.extend(self.action()?),
                },
                _ => {
                    self.at -= 1;
                    return Err(self.unexpected("template"));
                }
            }
        };
        self.depth -= 1;
        Ok((Arc::new(nodes), ending))
    }

    fn action(&mut self) -> Result<Option<Node>> {
        let position = self.here();
        let keyword = self.keyword().map(str::to_owned);
        match keyword.as_deref() {
            Some(word @ ("if" | "with" | "range")) => {
                self.at += 1;
                self.control(word).map(Some)
            }
            Some("define") => {
                self.at += 1;
                self.define().map(|()| None)
            }
            Some("template") => {
                self.at += 1;
                let name = self.name("template clause")?;
                let argument = match self.peek().kind {
                    TokenKind::Close => None,
                    _ => Some(self.pipeline("template clause")?),
                };
                self.close("template clause")?;
                Ok(Some(Node::Template(position, name, argument)))
            }
            Some("block") => {
                self.at += 1;
                let name = self.name("block clause")?;
                let argument = self.pipeline("block clause")?;
                self.close("block clause")?;
                self.definition(name.clone())?;
                Ok(Some(Node::Template(position, name, Some(argument))))
            }
            Some(word @ ("break" | "continue")) => {
                self.at += 1;
                if self.ranges == 0 {
                    return Err(position.error(format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                self.close(word)?;
                Ok(Some(if word == "break" { Node::Break(position) } else { Node::Continue(position) }))
            }
            _ => {
                let pipeline = self.pipeline("command")?;
                self.close("command")?;
                Ok(Some(Node::Action(pipeline)))
            }
        }
    }

    fn name(&mut self, context: &str) -> Result<String> {
        match &self.peek().kind {
            TokenKind::String(name) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected(context)),
        }
    }

    fn define(&mut self) -> Result<()> {
        let name = self.name("define clause")?;
        self.close("define clause")?;
        self.definition(name)
    }

    fn definition(&mut self, name: String) -> Result<()> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (body, ending) = self.block()?;
        if !matches!(ending, Ending::End) {
            return Err(self.unexpected("define clause"));
        }
        self.variables = outer;
        self.ranges = ranges;
        // As in Go, an empty body does not replace one that is there.
        let empty = body.iter().all(|n| matches!(n, Node::Text(t) if t.trim().is_empty()));
        if !(empty && self.definitions.contains_key(&name)) {
            self.definitions.insert(name, body);
        }
        Ok(())
    }

    fn control(&mut self, word: &str) -> Result<Node> {
        let scope = self.variables.len();
        self.deeper()?;
        let pipeline = self.pipeline(word)?;
        self.close(word)?;
        if pipeline.variables.len() > 1 && word != "range" {
            return Err(pipeline.position.error(format!("too many declarations in {word}")));
        }
        let in_range = usize::from(word == "range");
        self.ranges += in_range;
        let (body, ending) = self.block()?;
        self.ranges -= in_range;
        let otherwise = match ending {
            Ending::End => Block::default(),
            Ending::Source => return Err(self.unexpected(word)),
            Ending::Else => match self.keyword().map(str::to_owned).as_deref() {
                // `{{else if x}}` is `{{else}}{{if x}}` with one end for both.
                Some(nested @ ("if" | "with")) if word == nested => {
                    self.at += 1;
                    let node = self.control(word)?;
                    Arc::new(vec![node])
                }
                _ => {
                    self.close("else")?;
                    match self.block()? {
                        (block, Ending::End) => block,
                        (_, Ending::Else) => return Err(self.here().error("expected end; found {{else}}")),
                        (_, Ending::Source) => return Err(self.unexpected(word)),
                    }
                }
            },
        };
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(match word {
            "if" => Node::If(pipeline, body, otherwise),
            "with" => Node::With(pipeline, body, otherwise),
            _ => Node::Range(pipeline, body, otherwise),
        })
    }

    fn pipeline(&mut self, context: &str) -> Result<Pipeline> {
        self.deeper()?;
        let position = self.here();
        let (variables, assigns) = self.declarations(context)?;
        let mut commands = Vec::new();
        loop {
            let command = self.command(context)?;
            if command.operands.is_empty() {
                return Err(if commands.is_empty() {
                    self.here().error(format!("missing value for {context}"))
                } else {
                    self.unexpected(context)
                });
            }
            let first = &command.operands[0];
            let constant = matches!(first.term, Term::Constant(_) | Term::Nil | Term::Dot) && first.fields.is_empty();
            if constant && !commands.is_empty() {
                return Err(first.position.error("non executable command in pipeline"));
            }
            commands.push(command);
            if self.peek().kind != TokenKind::Pipe {
                break;
            }
            self.at += 1;
        }
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        self.depth -= 1;
        Ok(Pipeline { position, variables, assigns, commands })
    }

    fn declarations(&mut self, context: &str) -> Result<(Vec<String>, bool)> {
        let TokenKind::Variable(first) = self.peek().kind.clone() else {
            return Ok((Vec::new(), false));
        };
        let kind = |parser: &Self, i: usize| parser.tokens.get(parser.at + i).map(|t| t.kind.clone());
        match kind(self, 1) {
            Some(op @ (TokenKind::Declare | TokenKind::Assign)) => {
                let assigns = op == TokenKind::Assign;
                if assigns {
                    self.known(&first)?;
                }
                self.at += 2;
                Ok((vec![first], assigns))
            }
            Some(TokenKind::Comma) if context == "range" => {
                let (Some(TokenKind::Variable(second)), Some(op @ (TokenKind::Declare | TokenKind::Assign))) =
                    (kind(self, 2), kind(self, 3))
                else {
                    return Err(self.here().error("range can only initialize variables"));
                };
                let assigns = op == TokenKind::Assign;
                if assigns {
                    self.known(&first)?;
                    self.known(&second)?;
                }
                self.at += 4;
                Ok((vec![first, second], assigns))
            }
            _ => Ok((Vec::new(), false)),
        }
    }

    fn known(&self, name: &str) -> Result<()> {
        if self.variables.iter().any(|v| v == name) {
            return Ok(());
        }
        Err(self.here().error(format!("undefined variable {name:?}")))
    }

    fn command(&mut self, context: &str) -> Result<Command> {
        let mut operands = Vec::new();
        loop {
            if !operands.is_empty() && !self.peek().spaced {
                match self.peek().kind {
                    TokenKind::Close | TokenKind::Pipe | TokenKind::RightParen | TokenKind::LeftParen => {}
                    _ => return Err(self.unexpected("operand")),
                }
            }
            let Some(operand) = self.operand(context)? else { break };
            operands.push(operand);
        }
        Ok(Command { operands })
    }

    fn operand(&mut self, context: &str) -> Result<Option<Operand>> {
        let token = self.peek().clone();
        let mut fields = Vec::new();
        let term = match token.kind {
            TokenKind::Dot => Term::Dot,
            TokenKind::Field(name) => {
                fields.push(name);
                Term::DotField
            }
            TokenKind::Variable(name) => {
                self.known(&name)?;
                Term::Variable(name)
            }
            TokenKind::String(text) => Term::Constant(Value::from(text)),
            TokenKind::Int(n) => Term::Constant(Value::Int(n)),
            TokenKind::Float(n) => Term::Constant(Value::Float(n)),
            TokenKind::Identifier(word) => match word.as_str() {
                "true" => Term::Constant(Value::Bool(true)),
                "false" => Term::Constant(Value::Bool(false)),
                "nil" => Term::Nil,
                "if" | "with" | "range" | "end" | "else" | "define" | "template" | "block" | "break" | "continue" => {
                    return Err(self.unexpected(context));
                }
                _ => {
                    self.functions.push(FunctionUse { name: word.clone(), position: token.position });
                    Term::Function(word)
                }
            },
            TokenKind::LeftParen => {
                self.at += 1;
                let nested = self.pipeline("parenthesized pipeline")?;
                if self.peek().kind != TokenKind::RightParen {
                    return Err(self.unexpected("parenthesized pipeline"));
                }
                Term::Nested(Box::new(nested))
            }
            TokenKind::Close | TokenKind::Pipe | TokenKind::RightParen => return Ok(None),
            _ => return Err(self.unexpected(context)),
        };
        self.at += 1;
        while let Token { kind: TokenKind::Field(name), spaced: false, .. } = self.peek() {
            if matches!(term, Term::Constant(_) | Term::Nil | Term::Dot) {
                return Err(self.unexpected("operand"));
            }
            fields.push(name.clone());
            self.at += 1;
        }
        Ok(Some(Operand { position: token.position, term, fields }))
    }
}
