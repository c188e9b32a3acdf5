//! The language of `simple_query_string`, which never fails: what makes no sense is left out.

use serde_json::{Map, Value as Json};

use super::Options;
use crate::Error;
use crate::analyze::lower;
use crate::dsl::{Context, phrase_query};
use crate::query::{Bool, Edits, Query, Test};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joint {
    And,
    Or,
}

/// Reads the body of a `simple_query_string` query.
pub(crate) fn simple_query_string(object: &Map<String, Json>, cx: &mut Context) -> Result<Query, Error> {
    let (text, options) = Options::read(object, "simple_query_string")?;
    let mut parser = Parser { rest: &text, options: &options };
    Ok(parser.expression(cx)?.unwrap_or(Query::None))
}

struct Parser<'t, 'o> {
    rest: &'t str,
    options: &'o Options,
}

impl Parser<'_, '_> {
    /// Up to the end or the closing parenthesis, which is taken. Operators bind from left to right.
    fn expression(&mut self, cx: &mut Context) -> Result<Option<Query>, Error> {
        let mut all: Option<(Query, Option<Joint>)> = None;
        let by_default = if self.options.is_and { Joint::And } else { Joint::Or };
        let (mut joint, mut is_not) = (by_default, false);
        while let Some(c) = self.rest.chars().next() {
            let query = match c {
                ')' => {
                    self.rest = &self.rest[1..];
                    break;
                }
                '+' | '|' => {
                    self.rest = &self.rest[1..];
                    joint = if c == '+' { Joint::And } else { Joint::Or };
                    continue;
                }
                '-' => {
                    self.rest = &self.rest[1..];
                    is_not = !is_not;
                    continue;
                }
                '(' => {
                    self.rest = &self.rest[1..];
                    cx.deeper(|cx| self.expression(cx))?
                }
                '"' => self.phrase(cx)?,
                c if c.is_whitespace() => {
                    self.rest = &self.rest[c.len_utf8()..];
                    continue;
                }
                _ => self.word(cx)?,
            };
            let (with, negated) = (std::mem::replace(&mut joint, by_default), std::mem::take(&mut is_not));
            let Some(query) = query else { continue };
            let query = if negated { query.not() } else { query };
            all = Some(match all {
                None => (query, None),
                Some((before, last)) => (joined(before, last, with, query), Some(with)),
            });
        }
        Ok(all.map(|(query, _)| query))
    }

    fn phrase(&mut self, cx: &mut Context) -> Result<Option<Query>, Error> {
        let mut text = String::new();
        let mut chars = self.rest[1..].char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = at + 2;
                    break;
                }
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                c => text.push(c),
            }
        }
        self.rest = &self.rest[end.min(self.rest.len())..];
        let slop = self.tilde().unwrap_or(self.options.slop);
        phrase_query(self.options.target.clone(), &text, slop, false, cx).map(Some)
    }

    /// `~2`
    fn tilde(&mut self) -> Option<usize> {
        let digits = self.rest.strip_prefix('~')?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let number = digits[..end].parse().ok()?;
        self.rest = &digits[end..];
        Some(number)
    }

    fn word(&mut self, cx: &mut Context) -> Result<Option<Query>, Error> {
        let mut text = String::new();
        let mut is_prefix = false;
        let mut end = self.rest.len();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            is_prefix = false;
            match c {
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                '+' | '|' | '"' | '(' | ')' | '~' => {
                    end = at;
                    break;
                }
                c if c.is_whitespace() => {
                    end = at;
                    break;
                }
                '*' => {
                    is_prefix = true;
                    text.push(c);
                }
                c => text.push(c),
            }
        }
        is_prefix = is_prefix || self.rest[..end].ends_with('*');
        self.rest = &self.rest[end..];
        if text.is_empty() {
            // A `~` alone.
            let skip = self.rest.chars().next().map_or(0, char::len_utf8);
            self.rest = &self.rest[skip..];
            return Ok(None);
        }
        let target = &self.options.target;
        if text == "*" {
            return Ok(Some(Query::All));
        }
        if is_prefix {
            text.pop();
            let lowered = lower(&text).into_owned();
            return cx.leaf(target.clone(), Test::Prefix { prefix: text, lowered, ignores_case: false }).map(Some);
        }
        if let Some(max) = self.tilde() {
            let lowered = lower(&text).into_owned();
            let test = Test::Fuzzy { text, lowered, edits: Edits { max: Some(max.min(2)), prefix: 0 } };
            return cx.leaf(target.clone(), test).map(Some);
        }
        let query = Options { is_lenient: true, ..self.options.clone() }.words(target, &text, cx)?;
        Ok(Some(query))
    }
}

fn joined(before: Query, last: Option<Joint>, joint: Joint, query: Query) -> Query {
    match (before, joint) {
        (Query::Bool(mut all), Joint::And) if last == Some(joint) => {
            all.must.push(query);
            Query::Bool(all)
        }
        (Query::Bool(mut all), Joint::Or) if last == Some(joint) => {
            all.should.push(query);
            Query::Bool(all)
        }
        (before, Joint::And) => Query::Bool(Bool { must: vec![before, query], ..Bool::default() }),
        (before, Joint::Or) => Query::Bool(Bool { should: vec![before, query], should_min: 1, ..Bool::default() }),
    }
}
