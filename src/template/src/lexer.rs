//! Text and actions to tokens.

use crate::template::TemplateError;

/// Where a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) col: u32,
}

impl Position {
    pub(crate) fn error(self, msg: impl Into<String>) -> TemplateError {
        TemplateError { line: self.line, col: self.col, msg: msg.into() }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenKind {
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// Identifier, keyword or function.
    Identifier(String),
    /// `.name`
    Field(String),
    /// `$` or `$name`, with the dollar.
    Variable(String),
    Dot,
    String(String),
    Int(i64),
    Float(f64),
    Declare,
    Assign,
    Comma,
    Pipe,
    LeftParen,
    RightParen,
    End,
}

#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) position: Position,
    /// White space stood before it.
    pub(crate) spaced: bool,
}

struct Lexer<'a> {
    rest: &'a str,
    position: Position,
    tokens: Vec<Token>,
}

/// Splits a template. The last token is always `End`.
pub(crate) fn tokenize(source: &str) -> Result<Vec<Token>, TemplateError> {
    let mut lexer = Lexer { rest: source, position: Position { line: 1, col: 1 }, tokens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

impl<'a> Lexer<'a> {
    fn run(&mut self) -> Result<(), TemplateError> {
        let mut trim_start = false;
        while !self.rest.is_empty() {
            let (text, found) = match self.rest.find("{{") {
                Some(at) => (&self.rest[..at], true),
                None => (self.rest, false),
            };
            let start = self.position;
            let mut shown = if trim_start { text.trim_start_matches(is_space) } else { text };
            self.skip(text.len());
            if found {
                let trims_before = trim_marker(&self.rest[2..]);
                if trims_before {
                    shown = shown.trim_end_matches(is_space);
                }
                self.push_text(shown, start);
                trim_start = self.action(trims_before)?;
            } else {
                self.push_text(shown, start);
            }
        }
        self.push(TokenKind::End, self.position, true);
        Ok(())
    }

    fn push(&mut self, kind: TokenKind, position: Position, spaced: bool) {
        self.tokens.push(Token { kind, position, spaced });
    }

    fn push_text(&mut self, text: &str, position: Position) {
        if !text.is_empty() {
            self.push(TokenKind::Text(text.to_owned()), position, true);
        }
    }

    fn skip(&mut self, bytes: usize) -> &'a str {
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

    /// Reads one action from its `{{`; true when it ends with a trim marker.
    fn action(&mut self, trims_before: bool) -> Result<bool, TemplateError> {
        let open = self.position;
        self.skip(2 + usize::from(trims_before));
        let body = self.rest.trim_start_matches(is_space);
        if (trims_before && body.starts_with("/*")) || self.rest.starts_with("/*") {
            return self.comment(open, body);
        }
        self.push(TokenKind::Open, open, true);
        let mut depth = 0usize;
        loop {
            let blank = self.rest.len() - self.rest.trim_start_matches(is_space).len();
            if blank > 0 {
                self.skip(blank);
                if self.rest.starts_with("-}}") {
                    return self.close(3, depth);
                }
            }
            if self.rest.starts_with("}}") {
                return self.close(2, depth);
            }
            let position = self.position;
            let Some(first) = self.rest.chars().next() else {
                return Err(open.error("unclosed action"));
            };
            let kind = self.token(first, position)?;
            match kind {
                TokenKind::LeftParen => depth += 1,
                TokenKind::RightParen => {
                    depth = depth.checked_sub(1).ok_or_else(|| position.error("unexpected right paren"))?;
                }
                _ => {}
            }
            self.push(kind, position, blank > 0);
        }
    }

    fn close(&mut self, length: usize, depth: usize) -> Result<bool, TemplateError> {
        if depth > 0 {
            return Err(self.position.error("unclosed left paren"));
        }
        let position = self.position;
        self.skip(length);
        self.push(TokenKind::Close, position, true);
        Ok(length == 3)
    }

    fn comment(&mut self, open: Position, body: &'a str) -> Result<bool, TemplateError> {
        let lead = self.rest.len() - body.len();
        let Some(end) = body.find("*/") else {
            return Err(open.error("unclosed comment"));
        };
        self.skip(lead + end + 2);
        if self.rest.starts_with("}}") {
            self.skip(2);
            return Ok(false);
        }
        let after = self.rest.trim_start_matches(is_space);
        if after.len() < self.rest.len() && after.starts_with("-}}") {
            self.skip(self.rest.len() - after.len() + 3);
            return Ok(true);
        }
        Err(open.error("comment ends before closing delimiter"))
    }

    fn token(&mut self, first: char, position: Position) -> Result<TokenKind, TemplateError> {
        let simple = match first {
            '|' => Some(TokenKind::Pipe),
            '(' => Some(TokenKind::LeftParen),
            ')' => Some(TokenKind::RightParen),
            ',' => Some(TokenKind::Comma),
            '=' => Some(TokenKind::Assign),
            _ => None,
        };
        if let Some(kind) = simple {
            self.skip(1);
            return Ok(kind);
        }
        match first {
            ':' if self.rest.starts_with(":=") => {
                self.skip(2);
                Ok(TokenKind::Declare)
            }
            '"' => self.quoted(position),
            '`' => {
                let Some(end) = self.rest[1..].find('`') else {
                    return Err(position.error("unterminated raw quoted string"));
                };
                let text = self.rest[1..=end].to_owned();
                self.skip(end + 2);
                Ok(TokenKind::String(text))
            }
            '\'' => self.character(position),
            '$' => {
                let name = word(&self.rest[1..]);
                let text = self.rest[..=name.len()].to_owned();
                self.skip(text.len());
                Ok(TokenKind::Variable(text))
            }
            '.' => {
                let after = &self.rest[1..];
                if after.starts_with(|c: char| c.is_ascii_digit()) {
                    return self.number(position);
                }
                let name = word(after).to_owned();
                self.skip(1 + name.len());
                Ok(if name.is_empty() { TokenKind::Dot } else { TokenKind::Field(name) })
            }
            '0'..='9' | '+' | '-' => self.number(position),
            c if c.is_alphabetic() || c == '_' => {
                let name = word(self.rest).to_owned();
                self.skip(name.len());
                Ok(TokenKind::Identifier(name))
            }
            other => Err(position.error(format!("unexpected {other:?} in command"))),
        }
    }

    fn quoted(&mut self, position: Position) -> Result<TokenKind, TemplateError> {
        let mut end = None;
        let mut escaped = false;
        for (i, c) in self.rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    end = Some(i);
                    break;
                }
                '\n' => break,
                _ => {}
            }
        }
        let Some(end) = end else {
            return Err(position.error("unterminated quoted string"));
        };
        let text = unescape(&self.rest[1..end]).map_err(|msg| position.error(msg))?;
        self.skip(end + 1);
        Ok(TokenKind::String(text))
    }

    fn character(&mut self, position: Position) -> Result<TokenKind, TemplateError> {
        let bad = || position.error("malformed character constant");
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find_map(|(i, c)| match c {
            _ if escaped => {
                escaped = false;
                None
            }
            '\\' => {
                escaped = true;
                None
            }
            '\'' => Some(i),
            _ => None,
        });
        let body = &self.rest[1..end.ok_or_else(bad)?];
        let text = if body == "\\'" { "'".to_owned() } else { unescape(body).map_err(|_| bad())? };
        let mut chars = text.chars();
        let (Some(c), None) = (chars.next(), chars.next()) else {
            return Err(bad());
        };
        self.skip(body.len() + 2);
        Ok(TokenKind::Int(i64::from(u32::from(c))))
    }

    fn number(&mut self, position: Position) -> Result<TokenKind, TemplateError> {
        let mut end = 0;
        let mut last = ' ';
        let hex = self.rest.trim_start_matches(['+', '-']).starts_with("0x");
        for (i, c) in self.rest.char_indices() {
            let sign = (c == '+' || c == '-') && (i == 0 || (matches!(last, 'e' | 'E') && !hex));
            if !(sign || c.is_alphanumeric() || c == '.' || c == '_') {
                break;
            }
            end = i + c.len_utf8();
            last = c;
        }
        let text = &self.rest[..end];
        let kind = parse_number(text).ok_or_else(|| position.error(format!("bad number syntax: {text:?}")))?;
        self.skip(end);
        Ok(kind)
    }
}

fn parse_number(text: &str) -> Option<TokenKind> {
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let lower = digits.to_ascii_lowercase();
    let radix = if lower.starts_with("0x") {
        Some(16)
    } else if lower.starts_with("0b") {
        Some(2)
    } else if lower.starts_with("0o") {
        Some(8)
    } else {
        None
    };
    if let Some(radix) = radix {
        let n = i64::from_str_radix(&lower[2..], radix).ok()?;
        return Some(TokenKind::Int(if negative { n.wrapping_neg() } else { n }));
    }
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b < b'8') {
            let n = i64::from_str_radix(digits, 8).ok()?;
            return Some(TokenKind::Int(if negative { n.wrapping_neg() } else { n }));
        }
        if let Ok(n) = digits.parse::<i64>() {
            return Some(TokenKind::Int(if negative { n.wrapping_neg() } else { n }));
        }
    }
    let numeric = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let n: f64 = digits.parse().ok().filter(|_| numeric)?;
    Some(TokenKind::Float(if negative { -n } else { n }))
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn trim_marker(after_open: &str) -> bool {
    let mut chars = after_open.chars();
    chars.next() == Some('-') && chars.next().is_some_and(is_space)
}

/// Resolves Go's escapes in the inside of a double-quoted text.
pub(crate) fn unescape(body: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let e = chars.next().ok_or("unfinished escape")?;
        let mut code = |digits: u32, radix: u32, first: Option<char>| -> Result<u32, String> {
            let mut n = first.and_then(|f| f.to_digit(radix)).unwrap_or(0);
            for _ in 0..digits {
                let d = chars.next().and_then(|d| d.to_digit(radix)).ok_or("bad escape in quoted string")?;
                n = n * radix + d;
            }
            Ok(n)
        };
        match e {
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            'r' => bytes.push(b'\r'),
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'v' => bytes.push(11),
            '\\' => bytes.push(b'\\'),
            '"' => bytes.push(b'"'),
            'x' => bytes.push(u8::try_from(code(2, 16, None)?).map_err(|_| "bad escape in quoted string")?),
            '0'..='7' => bytes.push(u8::try_from(code(2, 8, Some(e))?).map_err(|_| "bad escape in quoted string")?),
            'u' | 'U' => {
                let n = code(if e == 'u' { 4 } else { 8 }, 16, None)?;
                let c = char::from_u32(n).ok_or("escape is no character")?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => return Err(format!("unknown escape \\{other}")),
        }
    }
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}
