//! From text to tokens.

use crate::algebra::{AggregateOp, BinaryOp};
use crate::ast::PositionRange;
use crate::format::quote;

/// A word that the grammar knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyword {
    Anchored,
    Bool,
    By,
    End,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    MaxOf,
    MinOf,
    Offset,
    On,
    Range,
    Smoothed,
    Start,
    Step,
    Without,
}

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Eof,
    Error,
    Identifier,
    MetricIdentifier,
    Number,
    Duration,
    String,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    Assign,
    EqualRegex,
    NotEqualRegex,
    At,
    Op(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
}

/// A token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) position: PositionRange,
    pub(crate) text: &'a str,
}

impl Token<'_> {
    /// How messages name the token.
    pub(crate) fn description(&self) -> String {
        match self.kind {
            Kind::Eof => "end of input".to_owned(),
            Kind::Error => self.text.to_owned(),
            Kind::Identifier => format!("identifier {}", quote(self.text)),
            Kind::MetricIdentifier => format!("metric identifier {}", quote(self.text)),
            Kind::Number => format!("number {}", shortened(self.text)),
            Kind::Duration => format!("duration {}", shortened(self.text)),
            Kind::String => format!("string {}", shortened(self.text)),
            Kind::Op(_) | Kind::At | Kind::EqualRegex | Kind::NotEqualRegex => format!("<op:{}>", self.text),
            Kind::Aggregate(_) => format!("<aggr:{}>", self.text),
            Kind::Keyword(k) => match k {
                Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf => {
                    quote(self.text)
                }
                _ => format!("<{}>", self.text),
            },
            _ => quote(self.text),
        }
    }

    /// True when the word may be a metric name.
    pub(crate) fn is_metric_name(&self) -> bool {
        match self.kind {
            Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregate(_) => true,
            Kind::Op(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless) => true,
            Kind::Keyword(k) => {
                !matches!(k, Keyword::Bool | Keyword::On | Keyword::Ignoring | Keyword::GroupLeft | Keyword::GroupRight)
            }
            _ => false,
        }
    }

    /// True when the word may be a label name in a grouping.
    pub(crate) fn is_label_name(&self) -> bool {
        match self.kind {
            Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregate(_) => true,
            Kind::Op(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::Atan2) => true,
            Kind::Keyword(k) => k != Keyword::Without,
            _ => false,
        }
    }
}

fn shortened(text: &str) -> String {
    if text.len() > 10 {
        let cut: String = text.chars().take(10).collect();
        format!("{}...", quote(&cut))
    } else {
        quote(text)
    }
}

/// An error of the lexer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LexError {
    pub(crate) position: PositionRange,
    pub(crate) message: String,
}

/// Splits the text. The last token is `Eof`, or `Error` with the error beside it.
pub(crate) fn tokenize(input: &str) -> (Vec<Token<'_>>, Option<LexError>) {
    let mut lexer =
        Lexer { input, at: 0, tokens: Vec::new(), parens: 0, bracket: Bracket::Closed, colon: false, duration: false };
    let error = lexer.run().err();
    let position = PositionRange::new(input.len(), input.len());
    let kind = if error.is_some() { Kind::Error } else { Kind::Eof };
    let position = error.as_ref().map_or(position, |e| e.position);
    lexer.tokens.push(Token { kind, position, text: "" });
    (lexer.tokens, error)
}

/// Where the lexer is with regard to square brackets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Closed,
    /// Behind `[`, before the first number: little may stand here.
    Begun,
    /// Behind a number or a colon in brackets: what may not stand here is told by the parser.
    Open,
}

struct Lexer<'a> {
    input: &'a str,
    at: usize,
    tokens: Vec<Token<'a>>,
    parens: i32,
    bracket: Bracket,
    /// A colon was read in these brackets.
    colon: bool,
    /// A number was read in brackets, these or earlier ones: the reference forgets it never.
    duration: bool,
}

impl<'a> Lexer<'a> {
    fn run(&mut self) -> Result<(), LexError> {
        loop {
            let start = self.skip_blank();
            let Some(c) = self.peek() else { return self.end(start) };
            match self.bracket {
                Bracket::Begun => self.in_brackets(c, start)?,
                Bracket::Open if c == ':' || c == '_' || c.is_ascii_alphabetic() => self.word_in_brackets(c, start)?,
                Bracket::Open | Bracket::Closed => self.statement(c, start)?,
            }
        }
    }

    fn end(&self, start: usize) -> Result<(), LexError> {
        if self.bracket == Bracket::Begun {
            return Err(self.error(start, "unexpected end of input in duration expression"));
        }
        if self.parens != 0 {
            return Err(self.error(start, "unclosed left parenthesis"));
        }
        if self.bracket == Bracket::Open {
            return Err(self.error(start, "unclosed left bracket"));
        }
        Ok(())
    }

    fn error(&self, start: usize, message: impl Into<String>) -> LexError {
        LexError { position: PositionRange::new(start, self.input.len()), message: message.into() }
    }

    fn peek(&self) -> Option<char> {
        self.input[self.at..].chars().next()
    }

    fn starts_with(&self, text: &str) -> bool {
        self.input[self.at..].starts_with(text)
    }

    fn skip_blank(&mut self) -> usize {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\n' | '\r') => self.at += 1,
                Some('#') if self.bracket != Bracket::Begun => {
                    let rest = &self.input[self.at..];
                    self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
                }
                _ => return self.at,
            }
        }
    }

    fn emit(&mut self, kind: Kind, start: usize) {
        let position = PositionRange::new(start, self.at);
        self.tokens.push(Token { kind, position, text: &self.input[start..self.at] });
    }

    fn take(&mut self, kind: Kind, start: usize, length: usize) {
        self.at = start + length;
        self.emit(kind, start);
    }

    fn statement(&mut self, c: char, start: usize) -> Result<(), LexError> {
        if let Some((kind, length)) = self.operator(c) {
            self.take(kind, start, length);
            return Ok(());
        }
        match c {
            ',' => self.take(Kind::Comma, start, 1),
            '@' => self.take(Kind::At, start, 1),
            '(' => {
                self.parens += 1;
                self.take(Kind::LeftParen, start, 1);
            }
            ')' => self.close_paren(start)?,
            '[' if self.bracket == Bracket::Open => return Err(self.error(start, "unexpected left bracket '['")),
            '[' => {
                self.take(Kind::LeftBracket, start, 1);
                self.bracket = Bracket::Begun;
                self.colon = false;
            }
            ']' if self.bracket == Bracket::Open => {
                self.take(Kind::RightBracket, start, 1);
                self.bracket = Bracket::Closed;
            }
            ']' => return Err(self.error(start, "unexpected right bracket ']'")),
            '{' => {
                self.take(Kind::LeftBrace, start, 1);
                self.braces()?;
            }
            '=' => {
                self.at += 1;
                if self.starts_with("~") {
                    return Err(self.error(start, "unexpected character after '=': '~'"));
                }
                self.emit(Kind::Assign, start);
            }
            '!' => {
                self.at += 1;
                let next = self.peek().map_or_else(|| "'\\ufffd'".to_owned(), |c| format!("'{c}'"));
                return Err(self.error(start, format!("unexpected character after '!': {next}")));
            }
            '"' | '\'' | '`' => self.string(c, start)?,
            _ if c.is_ascii_digit() || (c == '.' && self.digit_at(start + 1)) => self.number(start)?,
            _ if c.is_ascii_alphabetic() || c == '_' || c == ':' => self.word(start),
            _ => return Err(self.error(start, format!("unexpected character: '{c}'"))),
        }
        Ok(())
    }

    fn operator(&self, c: char) -> Option<(Kind, usize)> {
        let two = |second: &str, op: BinaryOp, one: BinaryOp| {
            if self.input[self.at + 1..].starts_with(second) { (op, 2) } else { (one, 1) }
        };
        let (op, length) = match c {
            '+' => (BinaryOp::Add, 1),
            '-' => (BinaryOp::Sub, 1),
            '*' => (BinaryOp::Mul, 1),
            '/' => (BinaryOp::Div, 1),
            '%' => (BinaryOp::Mod, 1),
            '^' => (BinaryOp::Pow, 1),
            '=' if self.starts_with("==") => (BinaryOp::Eq, 2),
            '!' if self.starts_with("!=") => (BinaryOp::NotEq, 2),
            '<' if self.starts_with("</") => (BinaryOp::TrimUpper, 2),
            '>' if self.starts_with(">/") => (BinaryOp::TrimLower, 2),
            '<' => two("=", BinaryOp::LessEq, BinaryOp::Less),
            '>' => two("=", BinaryOp::GreaterEq, BinaryOp::Greater),
            _ => return None,
        };
        Some((Kind::Op(op), length))
    }

    fn close_paren(&mut self, start: usize) -> Result<(), LexError> {
        self.parens -= 1;
        if self.parens < 0 {
            return Err(self.error(start + 1, "unexpected right parenthesis ')'"));
        }
        self.take(Kind::RightParen, start, 1);
        Ok(())
    }

    /// Behind `[`, up to the first number.
    fn in_brackets(&mut self, c: char, start: usize) -> Result<(), LexError> {
        match c {
            ']' => {
                self.take(Kind::RightBracket, start, 1);
                self.bracket = Bracket::Closed;
            }
            ':' => {
                if !self.duration {
                    return Err(self.error(start + 1, "unexpected colon before duration in duration expression"));
                }
                if self.colon {
                    return Err(self.error(start + 1, "unexpected repeated colon in duration expression"));
                }
                self.take(Kind::Colon, start, 1);
                self.colon = true;
            }
            '(' => {
                self.parens += 1;
                self.take(Kind::LeftParen, start, 1);
            }
            ')' => self.close_paren(start)?,
            ',' => self.take(Kind::Comma, start, 1),
            '+' | '-' | '*' | '/' | '%' | '^' => {
                if let Some((kind, length)) = self.operator(c) {
                    self.take(kind, start, length);
                }
            }
            _ if c.is_ascii_digit() || (c == '.' && self.digit_at(start + 1)) => {
                self.duration = true;
                self.bracket = Bracket::Open;
                self.number(start)?;
            }
            _ if self.duration_word(start) => {}
            _ => return Err(self.error(start, format!("unexpected character in duration expression: '{c}'"))),
        }
        Ok(())
    }

    /// A colon or word behind a number in brackets.
    fn word_in_brackets(&mut self, c: char, start: usize) -> Result<(), LexError> {
        if c == ':' {
            if self.colon {
                return Err(self.error(start, "unexpected colon ':'"));
            }
            self.colon = true;
            self.take(Kind::Colon, start, 1);
            return Ok(());
        }
        if self.duration_word(start) {
            return Ok(());
        }
        Err(self.error(start, format!("unexpected character: '{c}', expected ':'")))
    }

    /// Takes a word of duration expressions, if one stands here.
    fn duration_word(&mut self, start: usize) -> bool {
        let rest = &self.input[start..];
        let length = rest.find(|c: char| !(c.is_ascii_alphabetic() || c == '_')).unwrap_or(rest.len());
        let keyword = match rest[..length].to_ascii_lowercase().as_str() {
            "step" => Keyword::Step,
            "range" => Keyword::Range,
            "min_of" => Keyword::MinOf,
            "max_of" => Keyword::MaxOf,
            _ => return false,
        };
        self.take(Kind::Keyword(keyword), start, length);
        true
    }

    fn braces(&mut self) -> Result<(), LexError> {
        loop {
            let start = self.skip_blank();
            let Some(c) = self.peek() else {
                return Err(self.error(start, "unexpected end of input inside braces"));
            };
            match c {
                ',' => self.take(Kind::Comma, start, 1),
                '"' | '\'' | '`' => self.string(c, start)?,
                '=' if self.starts_with("=~") => self.take(Kind::EqualRegex, start, 2),
                '=' => self.take(Kind::Assign, start, 1),
                '!' if self.starts_with("!~") => self.take(Kind::NotEqualRegex, start, 2),
                '!' if self.starts_with("!=") => self.take(Kind::Op(BinaryOp::NotEq), start, 2),
                '!' => {
                    self.at += 1;
                    let next = self.peek().map_or_else(|| "'\\ufffd'".to_owned(), |c| format!("'{c}'"));
                    return Err(self.error(start, format!("unexpected character after '!' inside braces: {next}")));
                }
                '{' => return Err(self.error(start, "unexpected left brace '{'")),
                '}' => {
                    self.take(Kind::RightBrace, start, 1);
                    return Ok(());
                }
                _ if c.is_ascii_alphabetic() || c == '_' => {
                    self.at = self.word_end(start, false);
                    self.emit(Kind::Identifier, start);
                }
                _ => return Err(self.error(start, format!("unexpected character inside braces: '{c}'"))),
            }
        }
    }

    fn digit_at(&self, i: usize) -> bool {
        self.input.as_bytes().get(i).is_some_and(u8::is_ascii_digit)
    }

    fn word_end(&self, start: usize, colon: bool) -> usize {
        let rest = &self.input[start..];
        start
            + rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':'))).unwrap_or(rest.len())
    }

    fn word(&mut self, start: usize) {
        self.at = self.word_end(start, true);
        let word = &self.input[start..self.at];
        let kind = match keyword(&word.to_ascii_lowercase()) {
            // These became keywords late: they stay names unless an argument follows.
            Some(Kind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !self.input[self.at..].trim_start_matches([' ', '\t', '\n', '\r']).starts_with('(') =>
            {
                Kind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => Kind::MetricIdentifier,
            None => Kind::Identifier,
        };
        self.emit(kind, start);
    }

    fn string(&mut self, open: char, start: usize) -> Result<(), LexError> {
        self.at += 1;
        loop {
            let Some(c) = self.peek() else {
                let what = if open == '`' { "unterminated raw string" } else { "unterminated quoted string" };
                return Err(self.error(start, what));
            };
            self.at += c.len_utf8();
            if c == open {
                break;
            }
            if open == '`' {
                continue;
            }
            if c == '\n' {
                return Err(self.error(start, "unterminated quoted string"));
            }
            if c == '\\' {
                self.escape(open, start)?;
            }
        }
        self.emit(Kind::String, start);
        Ok(())
    }

    fn escape(&mut self, open: char, start: usize) -> Result<(), LexError> {
        let Some(c) = self.peek() else {
            return Err(self.error(start, "escape sequence not terminated"));
        };
        let (digits, radix) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => (0, 0),
            c if c == open => (0, 0),
            '0'..='7' => (3, 8),
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            c => {
                let text = format!("unknown escape sequence U+{:04X} '{c}'", c as u32);
                return Err(self.error(start, text));
            }
        };
        if radix != 8 {
            self.at += c.len_utf8();
        }
        let mut value: u64 = 0;
        for _ in 0..digits {
            let Some(c) = self.peek() else {
                return Err(self.error(start, "escape sequence not terminated"));
            };
            let Some(d) = c.to_digit(radix) else {
                let text = format!("illegal character U+{:04X} '{c}' in escape sequence", c as u32);
                return Err(self.error(start, text));
            };
            value = value * u64::from(radix) + u64::from(d);
            self.at += 1;
        }
        let limit = if digits <= 3 { 255 } else { 0x10_ffff };
        if value > limit || (0xd800..0xe000).contains(&value) {
            return Err(self.error(start, "escape sequence is an invalid Unicode code point"));
        }
        Ok(())
    }

    /// A number, or a duration such as `1h30m`. What looks like one may still have no value: the parser tells.
    fn number(&mut self, start: usize) -> Result<(), LexError> {
        let bytes = self.input.as_bytes();
        let (kind, end) = match number_end(bytes, start) {
            Ok(end) => (Kind::Number, end),
            Err(end) => match duration_end(bytes, end) {
                Ok(end) => (Kind::Duration, end),
                Err(end) => {
                    let shown = quote(&self.input[start..end]);
                    return Err(self.error(start, format!("bad number or duration syntax: {shown}")));
                }
            },
        };
        self.at = end;
        self.emit(kind, start);
        Ok(())
    }
}

/// True for what may not follow a number.
fn is_word(b: Option<&u8>) -> bool {
    b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

/// Where the duration ends whose first number ends here; on an error, what to show of it.
fn duration_end(bytes: &[u8], first: usize) -> Result<usize, usize> {
    let mut at = first;
    let mut units: &[u8] = b"smhdwy";
    loop {
        if !bytes.get(at).is_some_and(|b| units.contains(b)) {
            return Err(at);
        }
        at += 1;
        if bytes.get(at) == Some(&b's') {
            at += 1;
        }
        // Years come first or not at all.
        units = b"smhdw";
        let digits = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            break;
        }
        at += digits;
    }
    if is_word(bytes.get(at)) { Err(at + 1) } else { Ok(at) }
}

/// Where the number that starts here ends; on an error, what to show of it.
fn number_end(bytes: &[u8], start: usize) -> Result<usize, usize> {
    let mut at = start;
    let byte = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let is_end = |i: usize| i >= bytes.len();
    let mut hex = false;
    if byte(at) == b'0' {
        at += 1;
        if matches!(byte(at), b'x' | b'X') {
            hex = true;
            at += 1 + usize::from(byte(at + 1) == b'_');
        }
    }
    let is_digit = |b: u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
    at += usize::from(byte(at) == b'.');
    at += usize::from(is_digit(byte(at)));
    let (mut dot, mut exponent) = (false, false);
    loop {
        match byte(at) {
            b'.' => {
                at += 1;
                if dot || hex {
                    return Err(at + usize::from(!dot && matches!(byte(at), b'_' | b'.')));
                }
                if matches!(byte(at), b'_' | b'.') {
                    return Err(at + 1);
                }
                dot = true;
            }
            b'e' | b'E' => {
                at += 1;
                if exponent {
                    return Err(at);
                }
                exponent = true;
                at += usize::from(matches!(byte(at), b'+' | b'-'));
                if matches!(byte(at), b'.' | b'_' | b'e' | b'E') {
                    return Err(at + 1);
                }
                if is_end(at) {
                    return Err(at);
                }
            }
            b'_' => {
                at += 1;
                if matches!(byte(at), b'.' | b'_' | b'e' | b'E') {
                    return Err(at + 1);
                }
                if is_end(at) {
                    return Err(at);
                }
            }
            b if is_digit(b) => {
                while is_digit(byte(at)) {
                    at += 1;
                }
            }
            _ => break,
        }
    }
    if is_word(bytes.get(at)) { Err(at) } else { Ok(at) }
}

fn keyword(word: &str) -> Option<Kind> {
    let k = |k| Some(Kind::Keyword(k));
    match word {
        "and" => Some(Kind::Op(BinaryOp::And)),
        "or" => Some(Kind::Op(BinaryOp::Or)),
        "unless" => Some(Kind::Op(BinaryOp::Unless)),
        "atan2" => Some(Kind::Op(BinaryOp::Atan2)),
        "anchored" => k(Keyword::Anchored),
        "bool" => k(Keyword::Bool),
        "by" => k(Keyword::By),
        "end" => k(Keyword::End),
        "fill" => k(Keyword::Fill),
        "fill_left" => k(Keyword::FillLeft),
        "fill_right" => k(Keyword::FillRight),
        "group_left" => k(Keyword::GroupLeft),
        "group_right" => k(Keyword::GroupRight),
        "ignoring" => k(Keyword::Ignoring),
        "max_of" => k(Keyword::MaxOf),
        "min_of" => k(Keyword::MinOf),
        "offset" => k(Keyword::Offset),
        "on" => k(Keyword::On),
        "range" => k(Keyword::Range),
        "smoothed" => k(Keyword::Smoothed),
        "start" => k(Keyword::Start),
        "step" => k(Keyword::Step),
        "without" => k(Keyword::Without),
        "inf" | "nan" => Some(Kind::Number),
        _ => AggregateOp::ALL.into_iter().find(|op| op.as_str() == word).map(Kind::Aggregate),
    }
}
