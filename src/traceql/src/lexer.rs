//! Query text to tokens.

use crate::Error;
use crate::ast::{Attribute, Intrinsic, Position, Scope};
use crate::error::{Phase, refuse};
use crate::value;

/// Longest accepted query in bytes.
pub(crate) const QUERY_BYTES_MAX: usize = 128 * 1024;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Identifier(String),
    Attribute(Attribute),
    String(String),
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    Symbol(&'static str),
    End,
}

#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) position: Position,
}

/// Longest first.
const SYMBOLS: [&str; 36] = [
    "&>>", "&<<", "!>>", "!<<", "&&", "||", "&>", "&<", "&~", "!>", "!<", "!~", "!=", "=~", ">>", "<<", ">=", "<=",
    "{", "}", "(", ")", ",", "|", "=", ">", "<", "!", "~", "+", "-", "*", "/", "%", "^", ":",
];

pub(crate) fn fail<T>(position: Position, message: impl Into<String>) -> Result<T, Error> {
    refuse(Phase::Parse, position, message)
}

struct Lexer<'a> {
    rest: &'a str,
    position: Position,
}

/// The last token is always `End`.
pub(crate) fn tokenize(query: &str) -> Result<Vec<Placed>, Error> {
    let mut lexer = Lexer { rest: query, position: Position { line: 1, col: 1 } };
    if query.len() > QUERY_BYTES_MAX {
        return fail(lexer.position, format!("query of {} bytes is longer than {QUERY_BYTES_MAX}", query.len()));
    }
    let mut tokens = Vec::new();
    loop {
        lexer.blank()?;
        let position = lexer.position;
        let token = lexer.token()?;
        let end = token == Token::End;
        tokens.push(Placed { token, position });
        if end {
            return Ok(tokens);
        }
    }
}

fn ends_name(c: char) -> bool {
    c.is_whitespace() || "{}()=~!<>&|^,\"`".contains(c)
}

impl<'a> Lexer<'a> {
    fn take(&mut self, bytes: usize) -> &'a str {
        let (head, tail) = self.rest.split_at(bytes);
        for c in head.chars() {
            if c == '\n' {
                self.position.line += 1;
                self.position.col = 1;
            } else {
                self.position.col += 1;
            }
        }
        self.rest = tail;
        head
    }

    fn run(&mut self, mut keep: impl FnMut(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    /// Blanks and comments.
    fn blank(&mut self) -> Result<(), Error> {
        loop {
            self.run(char::is_whitespace);
            if self.rest.starts_with("//") {
                self.run(|c| c != '\n');
            } else if self.rest.starts_with("/*") {
                let Some(end) = self.rest.find("*/") else { return fail(self.position, "comment without end") };
                self.take(end + 2);
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Token, Error> {
        let position = self.position;
        let Some(first) = self.rest.chars().next() else { return Ok(Token::End) };
        let second = self.rest[first.len_utf8()..].chars().next();
        match first {
            '"' | '`' => self.string().map(Token::String),
            '0'..='9' => self.number(),
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => self.number(),
            '.' => {
                self.take(1);
                self.attribute(Scope::Any)
            }
            c if c.is_alphabetic() || c == '_' => self.word(),
            '\'' => fail(position, "strings take double quotes or backticks"),
            c => match SYMBOLS.iter().find(|s| self.rest.starts_with(**s)) {
                Some(symbol) => {
                    self.take(symbol.len());
                    Ok(Token::Symbol(symbol))
                }
                None => fail(position, format!("unexpected character {c:?}")),
            },
        }
    }

    fn word(&mut self) -> Result<Token, Error> {
        let position = self.position;
        let word = self.run(|c| c.is_alphanumeric() || c == '_');
        let scope = match word {
            "span" => Some(Scope::Span),
            "resource" => Some(Scope::Resource),
            "event" => Some(Scope::Event),
            "link" => Some(Scope::Link),
            "instrumentation" => Some(Scope::Instrumentation),
            _ => None,
        };
        match self.rest.chars().next() {
            Some('.') if word == "parent" => refuse(Phase::Unsupported, position, "the scope parent is reserved"),
            Some('.') if scope.is_some() => {
                self.take(1);
                self.attribute(scope.unwrap_or(Scope::Any))
            }
            Some(':') if scope.is_some() || word == "trace" => {
                self.take(1);
                let name = self.run(|c| c.is_alphanumeric() || c == '_');
                let full = format!("{word}:{name}");
                match Intrinsic::from_name(&full).filter(|i| i.scoped() == full) {
                    Some(intrinsic) => Ok(Token::Attribute(Attribute::Intrinsic(intrinsic))),
                    None => fail(position, format!("no intrinsic {full}")),
                }
            }
            _ => Ok(Token::Identifier(word.to_owned())),
        }
    }

    /// The name of an attribute: runs of characters and quoted parts.
    fn attribute(&mut self, scope: Scope) -> Result<Token, Error> {
        let position = self.position;
        let mut name = String::new();
        let mut is_quoted = false;
        loop {
            if self.rest.starts_with('"') {
                name.push_str(&self.string()?);
                is_quoted = true;
            }
            let part = self.run(|c| !ends_name(c));
            name.push_str(part);
            if !self.rest.starts_with('"') {
                break;
            }
        }
        if name.is_empty() {
            let what = if is_quoted { "empty attribute name" } else { "an attribute name is missing" };
            return fail(position, what);
        }
        Ok(Token::Attribute(Attribute::Named { scope, name }))
    }

    fn number(&mut self) -> Result<Token, Error> {
        let position = self.position;
        let bytes = self.rest.as_bytes();
        let mut end = 0;
        while let Some(b) = bytes.get(end) {
            let exponent_sign = matches!(b, b'+' | b'-')
                && matches!(bytes.get(end - 1), Some(b'e' | b'E'))
                && bytes.get(end + 1).is_some_and(u8::is_ascii_digit)
                && bytes[..end - 1].iter().all(|b| b.is_ascii_digit() || *b == b'.');
            if !(b.is_ascii_alphanumeric() || *b == b'.' || exponent_sign || *b >= 0x80) {
                break;
            }
            end += 1;
        }
        while !self.rest.is_char_boundary(end) {
            end += 1;
        }
        let text = self.take(end);
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse() {
                Ok(n) => Ok(Token::Int(n)),
                Err(_) => fail(position, format!("{text} is too large")),
            };
        }
        if let Some(ns) = value::parse_duration(text) {
            return Ok(Token::Duration(ns));
        }
        let looks_like_float = text.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
        match text.parse::<f64>() {
            Ok(n) if looks_like_float && n.is_finite() => Ok(Token::Float(n)),
            _ => fail(position, format!("{text:?} is no number and no duration")),
        }
    }

    fn string(&mut self) -> Result<String, Error> {
        let start = self.position;
        let quote = self.take(1);
        let mut out = String::new();
        if quote == "`" {
            let Some(end) = self.rest.find('`') else { return fail(start, "string without end") };
            out.push_str(self.take(end));
            self.take(1);
            return Ok(out);
        }
        loop {
            out.push_str(self.run(|c| c != '"' && c != '\\' && c != '\n'));
            let position = self.position;
            match self.rest.chars().next() {
                Some('"') => {
                    self.take(1);
                    return Ok(out);
                }
                Some('\\') => {
                    self.take(1);
                    match self.escape() {
                        Some(c) => out.push(c),
                        None => return fail(position, "invalid escape in a string"),
                    }
                }
                _ => return fail(start, "string without end"),
            }
        }
    }

    /// What follows a backslash, as in Go.
    fn escape(&mut self) -> Option<char> {
        let kind = self.rest.chars().next()?;
        self.take(kind.len_utf8());
        let digits = match kind {
            'a' => return Some('\u{7}'),
            'b' => return Some('\u{8}'),
            'f' => return Some('\u{c}'),
            'n' => return Some('\n'),
            'r' => return Some('\r'),
            't' => return Some('\t'),
            'v' => return Some('\u{b}'),
            '"' | '\\' => return Some(kind),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return None,
        };
        let code = self.rest.get(..digits).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let c = char::from_u32(u32::from_str_radix(code, 16).ok()?)?;
        self.take(digits);
        Some(c)
    }
}
