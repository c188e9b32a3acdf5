//! Query text to tokens.

use crate::Error;
use crate::ast::Position;
use crate::units;

/// Longest accepted query in bytes.
pub(crate) const QUERY_BYTES_MAX: usize = 128 * 1024;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Identifier(String),
    String(String),
    Number(f64),
    /// Nanoseconds.
    Duration(i64),
    /// Bytes.
    Bytes(u64),
    /// `[5m]`, nanoseconds.
    Range(i64),
    /// `--strict`
    Flag(String),
    Symbol(&'static str),
    End,
}

#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) position: Position,
}

/// Longest first, so that `|=` is found before `|`.
const SYMBOLS: [&str; 30] = [
    "|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<=", "|", "=", ">", "<", "{", "}", "(", ")", ",", "+", "-",
    "*", "/", "%", "^", ".", "!", "]", ":", "@",
];

pub(crate) fn fail<T>(position: Position, message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Parse { line: position.line, col: position.col, message: message.into() })
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
        lexer.blank();
        let position = lexer.position;
        let token = lexer.token()?;
        let end = token == Token::End;
        tokens.push(Placed { token, position });
        if end {
            return Ok(tokens);
        }
    }
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

    fn blank(&mut self) {
        loop {
            let space = self.rest.len() - self.rest.trim_start().len();
            self.take(space);
            if !self.rest.starts_with('#') {
                return;
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.take(end);
        }
    }

    fn token(&mut self) -> Result<Token, Error> {
        let position = self.position;
        let Some(first) = self.rest.chars().next() else {
            return Ok(Token::End);
        };
        match first {
            '"' => self.quoted(),
            '`' => match self.rest[1..].find('`') {
                Some(end) => {
                    let text = self.take(end + 2);
                    Ok(Token::String(text[1..=end].to_owned()))
                }
                None => fail(position, "literal not terminated"),
            },
            '[' => self.range(),
            '0'..='9' => self.number(),
            '.' if self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            '-' if self.rest.starts_with("--") => {
                let end = self.rest[2..].find(|c: char| !(c.is_ascii_lowercase() || c == '-'));
                let end = end.map_or(self.rest.len(), |e| e + 2);
                Ok(Token::Flag(self.take(end).to_owned()))
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
                Ok(Token::Identifier(self.take(end.unwrap_or(self.rest.len())).to_owned()))
            }
            other => match SYMBOLS.iter().find(|s| self.rest.starts_with(**s)) {
                Some(symbol) => {
                    self.take(symbol.len());
                    Ok(Token::Symbol(symbol))
                }
                None => fail(position, format!("syntax error: unexpected character {other:?}")),
            },
        }
    }

    fn quoted(&mut self) -> Result<Token, Error> {
        let position = self.position;
        let mut escaped = false;
        for (i, c) in self.rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    let text = self.take(i + 1);
                    return match trefoil_template::format::unquote(&text[1..i]) {
                        Ok(text) => Ok(Token::String(text)),
                        Err(message) => fail(position, message),
                    };
                }
                _ => {}
            }
        }
        fail(position, "literal not terminated")
    }

    fn range(&mut self) -> Result<Token, Error> {
        let position = self.position;
        let Some(end) = self.rest.find(']') else {
            return fail(position, "missing closing ']' in duration");
        };
        let text = self.take(end + 1)[1..end].trim();
        match units::parse_query_duration(text) {
            Some(ns) if ns > 0 => Ok(Token::Range(ns)),
            Some(_) => fail(position, "range must be greater than 0"),
            None => fail(position, format!("not a valid duration string: {text:?}")),
        }
    }

    fn number(&mut self) -> Result<Token, Error> {
        let position = self.position;
        let bytes = self.rest.as_bytes();
        let hex = self.rest.starts_with("0x") || self.rest.starts_with("0X");
        let mut end = 0;
        for (i, c) in self.rest.char_indices() {
            let exponent_sign = matches!(c, '+' | '-')
                && !hex
                && i > 0
                && matches!(bytes[i - 1], b'e' | b'E')
                && self.rest[..i - 1].bytes().all(|b| b.is_ascii_digit() || b == b'.')
                && bytes.get(i + 1).is_some_and(u8::is_ascii_digit);
            if !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | 'µ' | 'μ') || exponent_sign) {
                break;
            }
            end = i + c.len_utf8();
        }
        let text = self.take(end);
        let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
        if numeric && let Ok(number) = text.parse::<f64>() {
            return Ok(Token::Number(number));
        }
        if hex && let Ok(number) = u64::from_str_radix(&text[2..], 16) {
            return Ok(Token::Number(number as f64));
        }
        if let Some(ns) = units::parse_query_duration(text) {
            return Ok(Token::Duration(ns));
        }
        match units::parse_query_bytes(text) {
            Some(bytes) => Ok(Token::Bytes(bytes)),
            None => fail(position, format!("syntax error: malformed number {text:?}")),
        }
    }
}
