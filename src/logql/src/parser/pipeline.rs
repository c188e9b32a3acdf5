//! Selectors with pipelines, and the stages.

use trefoil_model::MatchOp;

use super::Parser;
use crate::Error;
use crate::ast::{
    Compare, Conversion, Extraction, LabelFilter, LabelFormat, LabelPick, LabelSource, LineFilter, LineNeedle, LineOp,
    LogExpr, Position, Stage, StageKind, Unwrap,
};
use crate::lexer::{Token, fail};

/// A log expression with the range, offset and unwrap that a range aggregation gives it.
pub(super) struct LogRange {
    pub(super) log: LogExpr,
    pub(super) range_ns: Option<i64>,
    pub(super) offset_ns: i64,
    pub(super) unwrap: Option<Unwrap>,
}

impl Parser {
    /// A log query: no range, no unwrap.
    pub(super) fn log_expression(&mut self) -> Result<LogExpr, Error> {
        let mut log = self.checked_selector()?;
        while self.starts_stage() {
            if self.at_unwrap() {
                return fail(self.position(), "syntax error: unexpected unwrap outside of a range aggregation");
            }
            log.stages.push(self.stage()?);
        }
        Ok(log)
    }

    /// The argument of a range aggregation.
    pub(super) fn log_range(&mut self) -> Result<LogRange, Error> {
        self.deeper()?;
        let mut found = if self.accept("(") {
            let inner = self.log_range()?;
            self.expect(")")?;
            inner
        } else {
            LogRange { log: self.checked_selector()?, range_ns: None, offset_ns: 0, unwrap: None }
        };
        // The range stands before or behind the stages, not between them.
        let mut closed = found.range_ns.is_some();
        loop {
            let position = self.position();
            let before = !found.log.stages.is_empty() || found.unwrap.is_some();
            if closed && (self.at_unwrap() || self.starts_stage()) {
                return self.unexpected();
            }
            if let Token::Range(ns) = self.peek() {
                if found.range_ns.is_some() {
                    return self.unexpected();
                }
                found.range_ns = Some(*ns);
                self.at += 1;
                closed = before;
                if self.accept_word("offset") {
                    found.offset_ns = self.offset()?;
                }
            } else if self.at_unwrap() {
                if found.unwrap.is_some() {
                    return self.unexpected();
                }
                found.unwrap = Some(self.unwrap()?);
            } else if self.starts_stage() {
                let stage = self.stage()?;
                match (&mut found.unwrap, stage.kind) {
                    (None, kind) => found.log.stages.push(Stage { position, kind }),
                    (Some(unwrap), StageKind::LabelFilter(filter)) => unwrap.filters.push(filter),
                    (Some(_), _) => return fail(position, "syntax error: only label filters may follow unwrap"),
                }
            } else {
                self.depth -= 1;
                return Ok(found);
            }
        }
    }

    fn offset(&mut self) -> Result<i64, Error> {
        let negative = self.accept("-");
        match self.next() {
            Token::Duration(ns) => Ok(if negative { -ns } else { ns }),
            Token::Number(0.0) => Ok(0),
            _ => {
                self.at -= 1;
                self.unexpected_but("DURATION")
            }
        }
    }

    fn at_unwrap(&self) -> bool {
        self.is_symbol("|")
            && matches!(self.peek_at(1), Token::Identifier(w) if w.eq_ignore_ascii_case("unwrap"))
            && matches!(self.peek_at(2), Token::Identifier(_))
    }

    fn unwrap(&mut self) -> Result<Unwrap, Error> {
        self.at += 2;
        let word = self.identifier()?;
        if !self.accept("(") {
            return Ok(Unwrap { label: word, conversion: Conversion::Number, filters: Vec::new() });
        }
        let conversion = match word.to_ascii_lowercase().as_str() {
            "duration" | "duration_seconds" => Conversion::Duration,
            "bytes" => Conversion::Bytes,
            _ => {
                self.at -= 2;
                return self.unexpected_but("duration, duration_seconds or bytes");
            }
        };
        let label = self.identifier()?;
        self.expect(")")?;
        Ok(Unwrap { label, conversion, filters: Vec::new() })
    }

    fn starts_stage(&self) -> bool {
        matches!(self.peek(), Token::Symbol("|" | "|=" | "|~" | "|>" | "!=" | "!~" | "!>"))
    }

    fn stage(&mut self) -> Result<Stage, Error> {
        let position = self.position();
        if !self.accept("|") {
            return Ok(Stage { position, kind: StageKind::LineFilter(self.line_filter()?) });
        }
        let comparison =
            matches!(self.peek_at(1), Token::Symbol("=" | "==" | "!=" | "=~" | "!~" | ">" | ">=" | "<" | "<="));
        // `json != "x"` is the parser with a line filter behind it.
        let filter_behind = matches!(self.peek_at(1), Token::Symbol("!=" | "!~"))
            && matches!(self.word().as_deref(), Some("json" | "logfmt" | "unpack" | "decolorize"));
        let word = if comparison && !filter_behind { None } else { self.word() };
        let kind = match word.as_deref() {
            Some("json") => {
                self.at += 1;
                StageKind::Json(self.extractions()?)
            }
            Some("logfmt") => {
                self.at += 1;
                self.logfmt()?
            }
            Some("regexp") => {
                self.at += 1;
                StageKind::Regexp(self.string()?)
            }
            Some("pattern") => {
                self.at += 1;
                StageKind::Pattern(self.string()?)
            }
            Some("unpack") => {
                self.at += 1;
                StageKind::Unpack
            }
            Some("decolorize") => {
                self.at += 1;
                StageKind::Decolorize
            }
            Some("line_format") => {
                self.at += 1;
                StageKind::LineFormat(self.string()?)
            }
            Some("label_format") => {
                self.at += 1;
                StageKind::LabelFormat(self.label_formats()?)
            }
            Some("drop") => {
                self.at += 1;
                StageKind::Drop(self.label_picks()?)
            }
            Some("keep") => {
                self.at += 1;
                StageKind::Keep(self.label_picks()?)
            }
            _ => StageKind::LabelFilter(self.label_filter()?),
        };
        Ok(Stage { position, kind })
    }

    fn line_filter(&mut self) -> Result<LineFilter, Error> {
        let op = match self.next() {
            Token::Symbol("|=") => LineOp::Contains,
            Token::Symbol("!=") => LineOp::NotContains,
            Token::Symbol("|~") => LineOp::Regex,
            Token::Symbol("!~") => LineOp::NotRegex,
            Token::Symbol("|>") => LineOp::Pattern,
            Token::Symbol("!>") => LineOp::NotPattern,
            _ => {
                self.at -= 1;
                return self.unexpected();
            }
        };
        let mut alternatives = Vec::new();
        loop {
            let position = self.position();
            if let Some("ip") = self.word().as_deref() {
                if !matches!(op, LineOp::Contains | LineOp::NotContains) {
                    return fail(position, "syntax error: ip() goes with |= and != only");
                }
                self.at += 1;
                self.expect("(")?;
                alternatives.push(LineNeedle::Ip(self.string()?));
                self.expect(")")?;
            } else {
                alternatives.push(LineNeedle::Text(self.string()?));
            }
            if !self.accept_word("or") {
                return Ok(LineFilter { op, alternatives });
            }
        }
    }

    fn logfmt(&mut self) -> Result<StageKind, Error> {
        let (mut strict, mut keep_empty) = (false, false);
        while let Token::Flag(flag) = self.peek() {
            match flag.as_str() {
                "--strict" => strict = true,
                "--keep-empty" => keep_empty = true,
                other => return fail(self.position(), format!("syntax error: unknown flag {other}")),
            }
            self.at += 1;
        }
        Ok(StageKind::Logfmt { strict, keep_empty, extractions: self.extractions()? })
    }

    fn extractions(&mut self) -> Result<Vec<Extraction>, Error> {
        let mut found = Vec::new();
        while let Token::Identifier(label) = self.peek().clone() {
            self.at += 1;
            let expression = if self.accept("=") { self.string()? } else { label.clone() };
            found.push(Extraction { label, expression });
            if !self.accept(",") {
                break;
            }
            if !matches!(self.peek(), Token::Identifier(_)) {
                return self.unexpected_but("IDENTIFIER");
            }
        }
        Ok(found)
    }

    fn label_formats(&mut self) -> Result<Vec<LabelFormat>, Error> {
        let mut formats: Vec<LabelFormat> = Vec::new();
        loop {
            let position = self.position();
            let target = self.identifier()?;
            self.expect("=")?;
            let source = match self.next() {
                Token::Identifier(label) => LabelSource::Label(label),
                Token::String(template) => LabelSource::Template(template),
                _ => {
                    self.at -= 1;
                    return self.unexpected_but("IDENTIFIER or STRING");
                }
            };
            if target == "__error__" {
                return fail(position, "__error__ cannot be formatted");
            }
            if formats.iter().any(|f| f.target == target) {
                return fail(
                    position,
                    format!("multiple label name '{target}' not allowed in a single format operation"),
                );
            }
            formats.push(LabelFormat { target, source });
            if !self.accept(",") {
                return Ok(formats);
            }
        }
    }

    fn label_picks(&mut self) -> Result<Vec<LabelPick>, Error> {
        let mut picks = Vec::new();
        loop {
            let name = self.identifier()?;
            // `drop a != "x"` is ambiguous; as in the grammar of Loki the operator binds to the name.
            let matcher = matches!(self.peek(), Token::Symbol("=" | "!=" | "=~" | "!~"));
            picks.push(if matcher {
                let op = self.match_op()?;
                LabelPick::Matcher(self.matcher(name, op)?)
            } else {
                LabelPick::Name(name)
            });
            if !self.accept(",") {
                return Ok(picks);
            }
        }
    }

    /// `or` binds looser than `and`, `,` and juxtaposition, which are the same.
    fn label_filter(&mut self) -> Result<LabelFilter, Error> {
        self.deeper()?;
        let mut left = self.label_filter_and()?;
        while self.accept_word("or") {
            self.one_more_operator()?;
            let right = self.label_filter_and()?;
            left = LabelFilter::Or(Box::new(left), Box::new(right));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn label_filter_and(&mut self) -> Result<LabelFilter, Error> {
        let mut left = self.label_filter_term()?;
        loop {
            let joined = self.accept(",") || self.accept_word("and");
            let follows = match self.peek() {
                Token::Identifier(word) => !word.eq_ignore_ascii_case("or"),
                Token::Symbol("(") => true,
                _ => false,
            };
            if !joined && !follows {
                return Ok(left);
            }
            self.one_more_operator()?;
            let right = self.label_filter_term()?;
            left = LabelFilter::And(Box::new(left), Box::new(right));
        }
    }

    fn label_filter_term(&mut self) -> Result<LabelFilter, Error> {
        if self.accept("(") {
            let inner = self.label_filter()?;
            self.expect(")")?;
            return Ok(inner);
        }
        let name = self.identifier()?;
        let position = self.position();
        let symbol = match self.peek() {
            Token::Symbol(symbol @ ("=" | "==" | "!=" | "=~" | "!~" | ">" | ">=" | "<" | "<=")) => *symbol,
            _ => return self.unexpected_but("a comparison operator"),
        };
        self.at += 1;
        self.label_comparison(name, symbol, position)
    }

    fn label_comparison(&mut self, name: String, symbol: &str, position: Position) -> Result<LabelFilter, Error> {
        let compare = match symbol {
            "=" | "==" => Some(Compare::Equal),
            "!=" => Some(Compare::NotEqual),
            ">" => Some(Compare::Greater),
            ">=" => Some(Compare::GreaterEqual),
            "<" => Some(Compare::Less),
            "<=" => Some(Compare::LessEqual),
            _ => None,
        };
        let negative = matches!(self.peek_at(1), Token::Number(_) | Token::Duration(_)) && self.accept("-");
        if matches!(self.peek_at(1), Token::Number(_)) {
            self.accept("+");
        }
        match (self.peek().clone(), compare) {
            (Token::String(_), _) => {
                let op = match symbol {
                    "=" => MatchOp::Equal,
                    "!=" => MatchOp::NotEqual,
                    "=~" => MatchOp::Regex,
                    "!~" => MatchOp::NotRegex,
                    _ => return self.unexpected_but("NUMBER, DURATION or BYTES"),
                };
                Ok(LabelFilter::Matcher(self.matcher(name, op)?))
            }
            (Token::Identifier(word), _) if word.eq_ignore_ascii_case("ip") => {
                if !matches!(symbol, "=" | "!=") {
                    return fail(position, "syntax error: ip() goes with = and != only");
                }
                self.at += 1;
                self.expect("(")?;
                let pattern = self.string()?;
                self.expect(")")?;
                Ok(LabelFilter::Ip(name, symbol == "!=", pattern))
            }
            (Token::Number(n), Some(compare)) => {
                self.at += 1;
                Ok(LabelFilter::Number(name, compare, if negative { -n } else { n }))
            }
            (Token::Duration(ns), Some(compare)) => {
                self.at += 1;
                Ok(LabelFilter::Duration(name, compare, if negative { -ns } else { ns }))
            }
            (Token::Bytes(bytes), Some(compare)) => {
                self.at += 1;
                Ok(LabelFilter::Bytes(name, compare, bytes))
            }
            _ => self.unexpected(),
        }
    }
}
