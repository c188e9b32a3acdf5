//! The languages of `query_string` (Lucene's classic syntax) and `simple_query_string`.

mod simple;

use serde_json::{Map, Value as Json};

use crate::Error;
use crate::analyze::{lower, word_texts};
use crate::date;
use crate::dsl::{Context, Ends, flag, phrase_query, regexp, scalar_text, wildcard};
use crate::query::{Bool, Edits, Literal, Query, Target, Test};

pub(crate) use simple::simple_query_string;

/// Longest text of a query.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// How the texts of a query are understood.
#[derive(Debug, Clone)]
struct Options {
    target: Target,
    /// Whether conditions without an operator between them must all hold.
    is_and: bool,
    is_lenient: bool,
    zone: Option<jiff::tz::TimeZone>,
    slop: usize,
}

impl Options {
    fn read(object: &Map<String, Json>, name: &str) -> Result<(String, Self), Error> {
        let text = object.get("query").and_then(scalar_text);
        let text = text.ok_or_else(|| Error::parsing(format!("[{name}] must be provided with a [query]")))?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::illegal(format!("[{name}] has a query of more than {TEXT_BYTES_MAX} bytes")));
        }
        let target = match (object.get("fields"), object.get("default_field")) {
            (Some(Json::Array(names)), _) if !names.is_empty() => Target::fields(names.iter().filter_map(Json::as_str)),
            (Some(Json::String(name)), _) | (_, Some(Json::String(name))) => Target::field(name),
            _ => Target::all(),
        };
        let operator = object.get("default_operator").and_then(Json::as_str).unwrap_or("or");
        let is_and = match operator.to_ascii_lowercase().as_str() {
            "and" => true,
            "or" => false,
            other => {
                let other = date::cut(other);
                return Err(Error::illegal(format!("operator needs to be either AND or OR, but not [{other}]")));
            }
        };
        let zone = object.get("time_zone").and_then(Json::as_str).map(date::zone).transpose()?;
        let slop = object.get("phrase_slop").and_then(Json::as_u64).unwrap_or(0) as usize;
        Ok((text, Self { target, is_and, is_lenient: flag(Some(object), "lenient"), zone, slop }))
    }

    /// Words as they are written.
    fn words(&self, target: &Target, text: &str, cx: &mut Context) -> Result<Query, Error> {
        let words = word_texts(text);
        let min = if self.is_and { words.len() } else { 1 };
        let whole = match cx.literal(target, text) {
            Err(_) if self.is_lenient => Literal::new(text),
            literal => literal?,
        };
        cx.leaf(target.clone(), Test::Words { words, min, whole, edits: None })
    }
}

/// Reads the body of a `query_string` query.
pub(crate) fn query_string(object: &Map<String, Json>, cx: &mut Context) -> Result<Query, Error> {
    let (text, options) = Options::read(object, "query_string")?;
    if text.trim().is_empty() {
        return Ok(Query::None);
    }
    let mut parser = Parser { rest: &text, options: &options, cx };
    let parsed = parser.clauses(&options.target, false);
    let query = match parsed {
        Ok(query) if parser.rest.is_empty() => query,
        Ok(_) | Err(Fault::Syntax) => {
            let text = date::cut(&text);
            return Err(Error::shard("query_shard_exception", format!("Failed to parse query [{text}]")));
        }
        Err(Fault::Error(error)) => return Err(error),
    };
    match (query, object.get("minimum_should_match").and_then(scalar_text)) {
        (Query::Bool(mut all), Some(min)) if !all.should.is_empty() => {
            if let Ok(min) = min.parse::<usize>() {
                all.should_min = min.max(all.should_min);
            }
            Ok(Query::Bool(all))
        }
        (query, _) => Ok(query),
    }
}

/// Why a text cannot be read.
enum Fault {
    Syntax,
    Error(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occur {
    Must,
    Should,
    MustNot,
}

struct Parser<'t, 'c> {
    rest: &'t str,
    options: &'c Options,
    cx: &'c mut Context,
}

/// A term as it is written.
struct Term {
    /// With escapes resolved.
    text: String,
    /// With escapes kept, for wildcards.
    raw: String,
    has_wildcard: bool,
}

impl Parser<'_, '_> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{3000}');
    }

    fn take(&mut self, token: &str) -> bool {
        self.rest.strip_prefix(token).map(|rest| self.rest = rest).is_some()
    }

    /// A word in capitals that stands alone.
    fn take_word(&mut self, word: &str) -> bool {
        let Some(after) = self.rest.strip_prefix(word) else { return false };
        let ends = after.chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, '(' | ')' | '"'));
        if ends {
            self.rest = after;
        }
        ends
    }

    /// Clauses up to the end, or up to the closing parenthesis, which is left.
    fn clauses(&mut self, target: &Target, is_inner: bool) -> Result<Query, Fault> {
        let mut clauses: Vec<(Occur, Query)> = Vec::new();
        let is_and = self.options.is_and;
        loop {
            self.skip_blanks();
            if self.rest.is_empty() || (is_inner && self.rest.starts_with(')')) {
                break;
            }
            let (mut joins_and, mut joins_or) = (false, false);
            if self.take_word("AND") || self.take("&&") {
                joins_and = true;
            } else if self.take_word("OR") || self.take("||") {
                joins_or = true;
            }
            if (joins_and || joins_or) && clauses.is_empty() {
                return Err(Fault::Syntax);
            }
            self.skip_blanks();
            let (mut is_required, mut is_prohibited) = (false, false);
            if self.take("+") {
                is_required = true;
            } else if self.take("-") || self.take("!") || self.take_word("NOT") {
                is_prohibited = true;
            }
            self.skip_blanks();
            let is_plain = !(joins_and || joins_or || is_required || is_prohibited);
            let query = self.clause(target, is_plain)?;
            if let Some((last, _)) = clauses.last_mut()
                && *last != Occur::MustNot
            {
                if joins_and {
                    *last = Occur::Must;
                } else if is_and && joins_or {
                    *last = Occur::Should;
                }
            }
            let occur = if is_prohibited {
                Occur::MustNot
            } else if is_required || joins_and || (is_and && !joins_or) {
                Occur::Must
            } else {
                Occur::Should
            };
            clauses.push((occur, query));
        }
        if clauses.is_empty() {
            return Err(Fault::Syntax);
        }
        if clauses.len() == 1 && clauses[0].0 != Occur::MustNot {
            return Ok(clauses.remove(0).1);
        }
        let mut all = Bool::default();
        for (occur, query) in clauses {
            match occur {
                Occur::Must => all.must.push(query),
                Occur::Should => all.should.push(query),
                Occur::MustNot => all.must_not.push(query),
            }
        }
        all.should_min = usize::from(all.must.is_empty() && !all.should.is_empty());
        Ok(Query::Bool(all))
    }

    /// One clause; `may_join`: plain words after it belong to it.
    fn clause(&mut self, target: &Target, may_join: bool) -> Result<Query, Fault> {
        let before = self.rest;
        if let Some(term) = self.term()
            && self.rest.starts_with(':')
        {
            self.rest = &self.rest[1..];
            self.skip_blanks();
            if term.text == "_exists_" {
                let name = self.term().ok_or(Fault::Syntax)?;
                self.boost()?;
                return Ok(self.cx.leaf(Target::field(&name.text), Test::Exists)?);
            }
            if term.text == "*" && self.take("*") {
                self.boost()?;
                return Ok(Query::All);
            }
            let target = Target::fields([term.text.as_str()]);
            return self.value(&target, false);
        }
        self.rest = before;
        self.value(target, may_join)
    }

    fn value(&mut self, target: &Target, may_join: bool) -> Result<Query, Fault> {
        let Some(first) = self.rest.chars().next() else { return Err(Fault::Syntax) };
        match first {
            '(' => {
                self.rest = &self.rest[1..];
                let inner = self.deeper(target)?;
                if !self.take(")") {
                    return Err(Fault::Syntax);
                }
                self.boost()?;
                Ok(inner)
            }
            '"' => {
                let text = self.quoted()?;
                let slop = match self.take("~") {
                    true => self.number().unwrap_or(0.0).max(0.0) as usize,
                    false => self.options.slop,
                };
                self.boost()?;
                Ok(phrase_query(target.clone(), &text, slop, false, self.cx)?)
            }
            '[' | '{' => self.range(target),
            '>' | '<' => self.comparison(target),
            '/' => {
                let pattern = self.pattern()?;
                self.boost()?;
                Ok(regexp(target.clone(), &pattern, false, self.cx)?)
            }
            _ => self.text(target, may_join),
        }
    }

    /// What stands in parentheses.
    fn deeper(&mut self, target: &Target) -> Result<Query, Fault> {
        let Self { rest, options, cx } = self;
        let mut fault = None;
        let result = cx.deeper(|cx| {
            let mut inner = Parser { rest, options, cx };
            let parsed = inner.clauses(target, true);
            *rest = inner.rest;
            match parsed {
                Ok(query) => Ok(Some(query)),
                Err(Fault::Error(error)) => Err(error),
                Err(syntax) => {
                    fault = Some(syntax);
                    Ok(None)
                }
            }
        });
        match (result?, fault) {
            (Some(query), _) => Ok(query),
            (None, fault) => Err(fault.unwrap_or(Fault::Syntax)),
        }
    }

    fn text(&mut self, target: &Target, may_join: bool) -> Result<Query, Fault> {
        let term = self.term().ok_or(Fault::Syntax)?;
        if self.take("~") {
            let max = self.number();
            self.boost()?;
            let edits = match max {
                // The similarity of old: how much must be equal.
                Some(part) if part > 0.0 && part < 1.0 => None,
                Some(n) => Some((n as usize).min(2)),
                None => Some(2),
            };
            let lowered = lower(&term.text).into_owned();
            let test = Test::Fuzzy { text: term.text, lowered, edits: Edits { max: edits, prefix: 0 } };
            return Ok(self.cx.leaf(target.clone(), test)?);
        }
        if term.has_wildcard {
            self.boost()?;
            if term.raw == "*" {
                return Ok(if target.is_all { Query::All } else { self.cx.leaf(target.clone(), Test::Exists)? });
            }
            return Ok(wildcard(target.clone(), &term.raw, false, self.cx)?);
        }
        let mut text = term.text;
        if !self.rest.starts_with('^') && may_join {
            while let Some(next) = self.joined() {
                text.push(' ');
                text.push_str(&next);
            }
        }
        self.boost()?;
        Ok(self.options.words(target, &text, self.cx)?)
    }

    /// A plain word after a plain word, with no operator between them.
    fn joined(&mut self) -> Option<String> {
        let before = self.rest;
        self.skip_blanks();
        let is_operator = ["AND", "OR", "NOT"].iter().any(|word| self.take_word(word))
            || self.rest.starts_with("&&")
            || self.rest.starts_with("||");
        if !is_operator
            && let Some(term) = self.term()
            && !term.has_wildcard
            && !self.rest.starts_with([':', '~', '^'])
        {
            return Some(term.text);
        }
        self.rest = before;
        None
    }

    /// `^2`
    fn boost(&mut self) -> Result<(), Fault> {
        match self.take("^") {
            true => self.number().map(|_| ()).ok_or(Fault::Syntax),
            false => Ok(()),
        }
    }

    fn number(&mut self) -> Option<f64> {
        let end = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(self.rest.len());
        let number = self.rest[..end].parse().ok()?;
        self.rest = &self.rest[end..];
        Some(number)
    }

    /// A word with its escapes; `None` and nothing taken when there is none.
    fn term(&mut self) -> Option<Term> {
        let mut term = Term { text: String::new(), raw: String::new(), has_wildcard: false };
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            let is_first = at == 0;
            match c {
                '\\' => {
                    let (_, escaped) = chars.next()?;
                    term.text.push(escaped);
                    term.raw.extend(['\\', escaped]);
                }
                '*' | '?' => {
                    term.has_wildcard = true;
                    term.text.push(c);
                    term.raw.push(c);
                }
                '+' | '-' | '/' | '!' if !is_first => {
                    term.text.push(c);
                    term.raw.push(c);
                }
                '+' | '-' | '/' | '!' | '(' | ')' | ':' | '^' | '[' | ']' | '"' | '{' | '}' | '~' | '\u{3000}' => {
                    end = at;
                    break;
                }
                c if c.is_whitespace() => {
                    end = at;
                    break;
                }
                c => {
                    term.text.push(c);
                    term.raw.push(c);
                }
            }
        }
        if term.raw.is_empty() {
            return None;
        }
        self.rest = &self.rest[end..];
        Some(term)
    }

    fn quoted(&mut self) -> Result<String, Fault> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                c => text.push(c),
            }
        }
        Err(Fault::Syntax)
    }

    /// `/…/`, where `\/` is a slash.
    fn pattern(&mut self) -> Result<String, Fault> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '/' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, '/')) => text.push('/'),
                    Some((_, c)) => text.extend(['\\', c]),
                    None => return Err(Fault::Syntax),
                },
                c => text.push(c),
            }
        }
        Err(Fault::Syntax)
    }

    /// `[a TO b}`.
    fn range(&mut self, target: &Target) -> Result<Query, Fault> {
        let includes_low = self.take("[");
        if !includes_low {
            self.take("{");
        }
        let low = self.end_of_range()?;
        self.skip_blanks();
        if !self.take_word("TO") {
            return Err(Fault::Syntax);
        }
        let high = self.end_of_range()?;
        self.skip_blanks();
        let includes_high = self.take("]");
        if !includes_high && !self.take("}") {
            return Err(Fault::Syntax);
        }
        self.boost()?;
        self.between(target, low, high, (includes_low, includes_high))
    }

    fn end_of_range(&mut self) -> Result<Option<String>, Fault> {
        self.skip_blanks();
        if self.rest.starts_with('"') {
            return self.quoted().map(Some);
        }
        let end = self.rest.find(|c: char| c.is_whitespace() || matches!(c, ']' | '}')).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        if text.is_empty() {
            return Err(Fault::Syntax);
        }
        self.rest = rest;
        Ok((text != "*").then(|| unescaped(text)))
    }

    /// `>=10`, `<"a b"`.
    fn comparison(&mut self, target: &Target) -> Result<Query, Fault> {
        let is_low = self.rest.starts_with('>');
        self.rest = &self.rest[1..];
        let is_included = self.take("=");
        self.skip_blanks();
        let text = if self.rest.starts_with('"') {
            self.quoted()?
        } else {
            let sign = if self.take("-") { "-" } else { "" };
            format!("{sign}{}", self.term().ok_or(Fault::Syntax)?.text)
        };
        // A time's colons are part of it here.
        let text = self.with_colons(text);
        self.boost()?;
        let (low, high) = if is_low { (Some(text), None) } else { (None, Some(text)) };
        self.between(target, low, high, (is_included, is_included))
    }

    fn with_colons(&mut self, mut text: String) -> String {
        while self.rest.starts_with(':') {
            let before = self.rest;
            self.rest = &self.rest[1..];
            match self.term() {
                Some(more) => text = format!("{text}:{}", more.text),
                None => {
                    self.rest = before;
                    break;
                }
            }
        }
        text
    }

    fn between(
        &mut self,
        target: &Target,
        low: Option<String>,
        high: Option<String>,
        (includes_low, includes_high): (bool, bool),
    ) -> Result<Query, Fault> {
        if low.is_none() && high.is_none() {
            return Ok(self.cx.leaf(target.clone(), Test::Exists)?);
        }
        let zone = self.options.zone.clone();
        let ends = Ends { low, high, includes_low, includes_high, format: None, zone };
        Ok(ends.query(target.clone(), self.cx)?)
    }
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}
