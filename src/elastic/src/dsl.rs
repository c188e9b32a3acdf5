//! The query DSL: JSON to [`Query`].

use jiff::tz::TimeZone;
use rustc_hash::FxHashSet;
use serde_json::{Map, Value as Json};
use trefoil_model::re2::Regex;

use crate::Error;
use crate::analyze::{lower, word_texts};
use crate::date::{self, Format, Reader};
use crate::doc::Field;
use crate::glob::Glob;
use crate::lucene;
use crate::query::{Bool, Bound, Edits, Ids, Literal, Query, Target, Test};

/// Queries nest at most so deep.
const DEPTH_MAX: usize = 60;
/// A request has at most so many conditions.
const LEAVES_MAX: usize = 20_000;
/// Values of `terms` and `ids`, as Elasticsearch's `index.max_terms_count`.
const TERMS_MAX: usize = 65_536;
/// Longest pattern of a `regexp`, as Elasticsearch's `index.max_regex_length`.
const REGEX_CHARS_MAX: usize = 1000;
/// Longest pattern with wildcards.
const WILDCARD_CHARS_MAX: usize = 4096;

type Object = Map<String, Json>;

/// What queries of one request are read with.
#[derive(Debug)]
pub(crate) struct Context {
    /// What `now` is, Unix milliseconds.
    pub(crate) now_ms: i64,
    depth: usize,
    leaves: usize,
}

impl Context {
    pub(crate) fn new(now_ms: i64) -> Self {
        Self { now_ms, depth: 0, leaves: 0 }
    }

    /// Runs `work` one level deeper.
    pub(crate) fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth >= DEPTH_MAX {
            return Err(Error::illegal(format!("The query is nested deeper than the maximum of {DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        result
    }

    /// Counts a condition.
    pub(crate) fn leaf(&mut self, target: Target, test: Test) -> Result<Query, Error> {
        self.leaves += 1;
        if self.leaves > LEAVES_MAX {
            return Err(Error::shard("too_many_clauses", format!("maxClauseCount is set to {LEAVES_MAX}")));
        }
        Ok(Query::leaf(target, test))
    }

    /// A value to compare with; times are read when the field of the time is meant.
    pub(crate) fn literal(&self, target: &Target, text: &str) -> Result<Literal, Error> {
        let mut literal = Literal::new(text);
        if target.fields.contains(&Field::Timestamp) {
            let (format, zone) = (Format::default(), TimeZone::UTC);
            let reader = Reader { now_ms: self.now_ms, format: &format, zone: &zone };
            literal.time = Some((reader.read(text, false)?, reader.read(text, true)?));
        }
        Ok(literal)
    }
}

/// Reads a query.
pub(crate) fn parse(json: &Json, context: &mut Context) -> Result<Query, Error> {
    let object =
        json.as_object().ok_or_else(|| Error::parsing("[_na] query malformed, must start with start_object"))?;
    let mut entries = object.iter();
    let (Some((name, body)), None) = (entries.next(), entries.next()) else {
        return Err(if object.is_empty() {
            Error::illegal("query malformed, empty clause found")
        } else {
            let name = object.keys().next().map_or("", String::as_str);
            Error::parsing(format!("[{name}] malformed query, expected [END_OBJECT] but found [FIELD_NAME]"))
        });
    };
    context.deeper(|context| one(name, body, context))
}

fn one(name: &str, body: &Json, cx: &mut Context) -> Result<Query, Error> {
    let object = || {
        body.as_object()
            .ok_or_else(|| Error::parsing(format!("[{name}] query malformed, no start_object after query name")))
    };
    match name {
        "match_all" => object().map(|_| Query::All),
        "match_none" => object().map(|_| Query::None),
        "bool" => bool_query(object()?, cx),
        "constant_score" => inner(object()?, "filter", name, cx),
        "nested" => inner(object()?, "query", name, cx),
        "boosting" => inner(object()?, "positive", name, cx),
        "function_score" | "script_score" => match object()?.get("query") {
            Some(query) => parse(query, cx),
            None => Ok(Query::All),
        },
        "dis_max" => Ok(Query::any_of(list(object()?.get("queries"), cx)?)),
        "term" => term(object()?, cx),
        "terms" => terms(object()?, cx),
        "match" => match_query(object()?, cx),
        "match_phrase" => phrase(object()?, false, name, cx),
        "match_phrase_prefix" => phrase(object()?, true, name, cx),
        "match_bool_prefix" => bool_prefix(object()?, cx),
        "multi_match" | "combined_fields" => multi_match(object()?, cx),
        "range" => range(object()?, cx),
        "exists" => {
            let field = text_of(object()?, "field", name)?;
            cx.leaf(Target::field(&field), Test::Exists)
        }
        "prefix" => {
            let (field, value, options) = field_value(object()?, name)?;
            let ignores_case = flag(options, "case_insensitive");
            let lowered = lower(&value).into_owned();
            cx.leaf(Target::field(field), Test::Prefix { prefix: value, lowered, ignores_case })
        }
        "wildcard" => {
            let (field, value, options) = field_value(object()?, name)?;
            wildcard(Target::field(field), &value, flag(options, "case_insensitive"), cx)
        }
        "regexp" => {
            let (field, value, options) = field_value(object()?, name)?;
            regexp(Target::field(field), &value, flag(options, "case_insensitive"), cx)
        }
        "fuzzy" => {
            let (field, value, options) = field_value(object()?, name)?;
            let edits = edits(options)?.unwrap_or(Edits { max: None, prefix: 0 });
            let lowered = lower(&value).into_owned();
            cx.leaf(Target::field(field), Test::Fuzzy { text: value, lowered, edits })
        }
        "ids" => ids(object()?),
        "query_string" => lucene::query_string(object()?, cx),
        "simple_query_string" => lucene::simple_query_string(object()?, cx),
        "wrapper" => {
            use base64::Engine;
            let text = text_of(object()?, "query", name)?;
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            let bytes = bytes.map_err(|e| Error::parsing(format!("[wrapper] query is no base64: {e}")))?;
            let query = serde_json::from_slice(&bytes)
                .map_err(|e| Error::parsing(format!("[wrapper] query is no JSON: {e}")))?;
            parse(&query, cx)
        }
        other => Err(Error::parsing(format!("unknown query [{}]", date::cut(other)))),
    }
}

fn inner(object: &Object, key: &str, name: &str, cx: &mut Context) -> Result<Query, Error> {
    match object.get(key) {
        Some(query) => parse(query, cx),
        None => Err(Error::parsing(format!("[{name}] requires '{key}' field"))),
    }
}

/// One query or a list of them.
fn list(json: Option<&Json>, cx: &mut Context) -> Result<Vec<Query>, Error> {
    match json {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(all)) => all.iter().map(|q| parse(q, cx)).collect(),
        Some(one) => Ok(vec![parse(one, cx)?]),
    }
}

fn bool_query(object: &Object, cx: &mut Context) -> Result<Query, Error> {
    let mut out = Bool::default();
    for (key, value) in object {
        match key.as_str() {
            "must" | "filter" => out.must.extend(list(Some(value), cx)?),
            "should" => out.should = list(Some(value), cx)?,
            "must_not" => out.must_not = list(Some(value), cx)?,
            "minimum_should_match" | "boost" | "_name" | "adjust_pure_negative" => {}
            other => return Err(Error::parsing(format!("[bool] query does not support [{}]", date::cut(other)))),
        }
    }
    out.should_min = match object.get("minimum_should_match") {
        Some(min) => should_min(min, out.should.len())?,
        None => usize::from(out.must.is_empty() && !out.should.is_empty()),
    };
    Ok(Query::Bool(out))
}

/// `minimum_should_match` for so many conditions: `2`, `-1`, `75%`, `-25%`, `3<90%`, several of them.
fn should_min(json: &Json, count: usize) -> Result<usize, Error> {
    let text = scalar_text(json).unwrap_or_default();
    min_of(text.trim(), count)
        .ok_or_else(|| Error::illegal(format!("cannot read minimum_should_match [{}]", date::cut(&text))))
}

fn min_of(text: &str, count: usize) -> Option<usize> {
    if text.contains('<') {
        let mut result = count;
        for part in text.split_whitespace() {
            let (above, then) = part.split_once('<')?;
            if count <= above.parse().ok()? {
                return Some(result);
            }
            result = min_of(then, count)?;
        }
        return Some(result);
    }
    let total = count as f64;
    let wanted = match text.strip_suffix('%') {
        Some(percent) => {
            let part = (total * percent.parse::<i64>().ok()?.clamp(-100, 100) as f64 / 100.0).trunc();
            if part < 0.0 { total + part } else { part }
        }
        None => {
            let n = text.parse::<i64>().ok()? as f64;
            if n < 0.0 { total + n } else { n }
        }
    };
    Some(wanted.max(0.0) as usize)
}

/// The text of a string, a number or a boolean.
pub(crate) fn scalar_text(json: &Json) -> Option<String> {
    match json {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

fn text_of(object: &Object, key: &str, name: &str) -> Result<String, Error> {
    object
        .get(key)
        .and_then(scalar_text)
        .ok_or_else(|| Error::parsing(format!("[{name}] must be provided with a [{key}]")))
}

pub(crate) fn flag(options: Option<&Object>, key: &str) -> bool {
    options.and_then(|o| o.get(key)).is_some_and(|v| v.as_bool().unwrap_or(v == "true"))
}

/// The one field that a query is about, and what is said of it.
fn single<'a>(object: &'a Object, name: &str) -> Result<(&'a str, &'a Json), Error> {
    let mut fields = object.iter().filter(|(key, _)| !matches!(key.as_str(), "boost" | "_name"));
    match (fields.next(), fields.next()) {
        (Some((field, value)), None) => Ok((field, value)),
        (None, _) => Err(Error::illegal(format!("field name is null or empty in [{name}] query"))),
        (Some((first, _)), Some((second, _))) => Err(Error::parsing(format!(
            "[{name}] query doesn't support multiple fields, found [{}] and [{}]",
            date::cut(first),
            date::cut(second)
        ))),
    }
}

/// `{"field": "value"}` or `{"field": {"value": .., options}}`.
fn field_value<'a>(object: &'a Object, name: &str) -> Result<(&'a str, String, Option<&'a Object>), Error> {
    let (field, json) = single(object, name)?;
    let (value, options) = match json {
        Json::Object(options) => {
            let keys = ["value", "query", name];
            (keys.iter().find_map(|k| options.get(*k)).unwrap_or(&Json::Null), Some(options))
        }
        scalar => (scalar, None),
    };
    match scalar_text(value) {
        Some(text) => Ok((field, text, options)),
        None if value.is_null() => Err(Error::illegal("value cannot be null")),
        None => {
            Err(Error::parsing(format!("[{name}] query does not support an array or an object as value of [{field}]")))
        }
    }
}

fn term(object: &Object, cx: &mut Context) -> Result<Query, Error> {
    let (field, value, options) = field_value(object, "term")?;
    let target = Target::field(field);
    let literal = cx.literal(&target, &value)?;
    cx.leaf(target, Test::Term { literal, ignores_case: flag(options, "case_insensitive") })
}

fn terms(object: &Object, cx: &mut Context) -> Result<Query, Error> {
    let (field, json) = single(object, "terms")?;
    let Some(list) = json.as_array() else {
        return Err(Error::parsing("[terms] query requires a list of values; looking terms up is not supported"));
    };
    if list.len() > TERMS_MAX {
        let count = list.len();
        return Err(Error::illegal(format!(
            "The number of terms [{count}] used in the Terms Query request has exceeded the allowed maximum of [{TERMS_MAX}]"
        )));
    }
    let target = Target::field(field);
    let mut texts = FxHashSet::default();
    let mut others = Vec::new();
    for value in list {
        let text =
            scalar_text(value).ok_or_else(|| Error::illegal("terms query does not support null or nested values"))?;
        others.push(cx.literal(&target, &text)?);
        texts.insert(text);
    }
    cx.leaf(target, Test::OneOf { texts, others })
}

/// How many words must be there.
fn words_min(options: Option<&Object>, count: usize) -> Result<usize, Error> {
    let operator = options.and_then(|o| o.get("operator")).and_then(Json::as_str).unwrap_or("or");
    match (operator.to_ascii_lowercase().as_str(), options.and_then(|o| o.get("minimum_should_match"))) {
        ("and", _) => Ok(count),
        ("or", Some(min)) => should_min(min, count),
        ("or", None) => Ok(1),
        (other, _) => {
            Err(Error::illegal(format!("operator needs to be either AND or OR, but not [{}]", date::cut(other))))
        }
    }
}

/// `fuzziness` and `prefix_length`.
fn edits(options: Option<&Object>) -> Result<Option<Edits>, Error> {
    let Some(json) = options.and_then(|o| o.get("fuzziness")) else { return Ok(None) };
    let prefix = options.and_then(|o| o.get("prefix_length")).and_then(Json::as_u64).unwrap_or(0) as usize;
    let text = scalar_text(json).unwrap_or_default();
    let max = match text.to_ascii_uppercase().as_str() {
        "0" | "0.0" => Some(0),
        "1" | "1.0" => Some(1),
        "2" | "2.0" => Some(2),
        auto if auto.starts_with("AUTO") => None,
        other => return Err(Error::illegal(format!("Invalid fuzziness value: {}", date::cut(other)))),
    };
    Ok(Some(Edits { max, prefix }))
}

fn words_query(target: Target, text: &str, options: Option<&Object>, cx: &mut Context) -> Result<Query, Error> {
    let words = word_texts(text);
    let min = words_min(options, words.len())?;
    let whole = match flag(options, "lenient") {
        true => cx.literal(&target, text).unwrap_or_else(|_| Literal::new(text)),
        false => cx.literal(&target, text)?,
    };
    let edits = edits(options)?;
    cx.leaf(target, Test::Words { words, min, whole, edits })
}

fn match_query(object: &Object, cx: &mut Context) -> Result<Query, Error> {
    let (field, text, options) = field_value(object, "match")?;
    words_query(Target::field(field), &text, options, cx)
}

pub(crate) fn phrase_query(
    target: Target,
    text: &str,
    slop: usize,
    is_prefix: bool,
    cx: &mut Context,
) -> Result<Query, Error> {
    let whole = cx.literal(&target, text)?;
    cx.leaf(target, Test::Phrase { words: word_texts(text), slop, is_prefix, whole })
}

fn slop(options: Option<&Object>) -> usize {
    options.and_then(|o| o.get("slop")).and_then(Json::as_u64).unwrap_or(0) as usize
}

fn phrase(object: &Object, is_prefix: bool, name: &str, cx: &mut Context) -> Result<Query, Error> {
    let (field, text, options) = field_value(object, name)?;
    phrase_query(Target::field(field), &text, slop(options), is_prefix, cx)
}

fn bool_prefix_query(target: &Target, text: &str, cx: &mut Context) -> Result<Query, Error> {
    let mut words = word_texts(text);
    let Some(last) = words.pop() else { return Ok(Query::None) };
    let mut should = Vec::new();
    for word in words {
        let literal = Literal::new(word);
        should.push(cx.leaf(target.clone(), Test::Term { literal, ignores_case: false })?);
    }
    should.push(cx.leaf(target.clone(), Test::Prefix { prefix: last.clone(), lowered: last, ignores_case: false })?);
    Ok(Query::any_of(should))
}

fn bool_prefix(object: &Object, cx: &mut Context) -> Result<Query, Error> {
    let (field, text, _) = field_value(object, "match_bool_prefix")?;
    bool_prefix_query(&Target::field(field), &text, cx)
}

fn multi_match(object: &Object, cx: &mut Context) -> Result<Query, Error> {
    let text = text_of(object, "query", "multi_match")?;
    let target = match object.get("fields") {
        Some(Json::Array(names)) if !names.is_empty() => Target::fields(names.iter().filter_map(Json::as_str)),
        Some(Json::String(name)) => Target::field(name),
        _ => Target::all(),
    };
    match object.get("type").and_then(Json::as_str).unwrap_or("best_fields") {
        "phrase" => phrase_query(target, &text, slop(Some(object)), false, cx),
        "phrase_prefix" => phrase_query(target, &text, slop(Some(object)), true, cx),
        "bool_prefix" => bool_prefix_query(&target, &text, cx),
        "best_fields" | "most_fields" => words_query(target, &text, Some(object), cx),
        "cross_fields" => {
            let words = word_texts(&text);
            let min = words_min(Some(object), words.len())?;
            let mut should = Vec::with_capacity(words.len());
            for word in words {
                should.push(words_query(target.clone(), &word, None, cx)?);
            }
            Ok(Query::Bool(Bool { should, should_min: min, ..Bool::default() }))
        }
        other => Err(Error::parsing(format!(
            "failed to parse [multi_match] query type [{}]. unknown type.",
            date::cut(other)
        ))),
    }
}

fn range(object: &Object, cx: &mut Context) -> Result<Query, Error> {
    let (field, json) = single(object, "range")?;
    let Some(options) = json.as_object() else {
        return Err(Error::parsing("[range] query malformed, no start_object after field name"));
    };
    let mut ends = Ends::default();
    let (mut low_open, mut high_open) = (false, false);
    for (key, value) in options {
        let end = || match value {
            Json::Null => Ok(None),
            value => scalar_text(value)
                .map(Some)
                .ok_or_else(|| Error::parsing("[range] query does not support nested values")),
        };
        match key.as_str() {
            "gte" | "ge" | "from" => ends.low = end()?,
            "gt" => (ends.low, low_open) = (end()?, true),
            "lte" | "le" | "to" => ends.high = end()?,
            "lt" => (ends.high, high_open) = (end()?, true),
            "include_lower" => low_open = value == &Json::Bool(false),
            "include_upper" => high_open = value == &Json::Bool(false),
            "format" => ends.format = Some(Format::parse(value.as_str().unwrap_or_default())?),
            "time_zone" => ends.zone = Some(date::zone(value.as_str().unwrap_or_default())?),
            "boost" | "relation" | "_name" => {}
            other => return Err(Error::parsing(format!("[range] query does not support [{}]", date::cut(other)))),
        }
    }
    (ends.includes_low, ends.includes_high) = (!low_open, !high_open);
    ends.query(Target::field(field), cx)
}

/// The ends of a range.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) low: Option<String>,
    pub(crate) high: Option<String>,
    pub(crate) includes_low: bool,
    pub(crate) includes_high: bool,
    pub(crate) format: Option<Format>,
    pub(crate) zone: Option<TimeZone>,
}

impl Ends {
    pub(crate) fn query(self, target: Target, cx: &mut Context) -> Result<Query, Error> {
        let mut time = (i64::MIN, i64::MAX);
        if target.fields.contains(&Field::Timestamp) {
            let (format, zone) = (self.format.unwrap_or_default(), self.zone.unwrap_or(TimeZone::UTC));
            let reader = Reader { now_ms: cx.now_ms, format: &format, zone: &zone };
            // Included below and excluded above begin with the first nanosecond of what is written.
            if let Some(text) = &self.low {
                let ns = reader.read(text, !self.includes_low)?;
                time.0 = if self.includes_low { ns } else { last_ns(ns).saturating_add(1) };
            }
            if let Some(text) = &self.high {
                let ns = reader.read(text, self.includes_high)?;
                time.1 = if self.includes_high { last_ns(ns).saturating_add(1) } else { ns };
            }
        }
        let bound = |text: Option<String>, is_included| text.map(|t| Bound { literal: Literal::new(t), is_included });
        let (lower, upper) = (bound(self.low, self.includes_low), bound(self.high, self.includes_high));
        cx.leaf(target, Test::Range { lower, upper, time })
    }
}

/// The last nanosecond of a whole millisecond, as times are kept in milliseconds; other times as they are.
fn last_ns(ns: i64) -> i64 {
    if ns.rem_euclid(1_000_000) == 0 { ns.saturating_add(999_999) } else { ns }
}

pub(crate) fn wildcard(target: Target, pattern: &str, ignores_case: bool, cx: &mut Context) -> Result<Query, Error> {
    if pattern.chars().count() > WILDCARD_CHARS_MAX {
        return Err(Error::illegal(format!("a wildcard pattern has more than {WILDCARD_CHARS_MAX} characters")));
    }
    let glob = Glob::new(pattern, true);
    if ignores_case {
        // Letters in either case: as an expression, so that values need not be copied.
        let mut regex = String::from("(?i)");
        for part in pattern_items(pattern) {
            match part {
                None => regex.push_str(".*"),
                Some(None) => regex.push('.'),
                Some(Some(c)) => regex.push_str(&trefoil_model::re2::escape(&c.to_string())),
            }
        }
        let regex = Regex::anchored(&regex).map_err(|e| Error::illegal(e.to_string()))?;
        return cx.leaf(target, Test::Regexp(regex));
    }
    let lowered = glob.map(|text| lower(text).into_owned());
    cx.leaf(target, Test::Wildcard { glob, lowered })
}

/// `None` for `*`, `Some(None)` for `?`, else the character.
fn pattern_items(pattern: &str) -> Vec<Option<Option<char>>> {
    let mut out = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' => None,
            '?' => Some(None),
            '\\' => Some(Some(chars.next().unwrap_or('\\'))),
            c => Some(Some(c)),
        });
    }
    out
}

pub(crate) fn regexp(target: Target, pattern: &str, ignores_case: bool, cx: &mut Context) -> Result<Query, Error> {
    if pattern.chars().count() > REGEX_CHARS_MAX {
        return Err(Error::illegal(format!(
            "The length of regex [{}] used in the Regexp Query request has exceeded the allowed maximum of [{REGEX_CHARS_MAX}]",
            pattern.chars().count()
        )));
    }
    let translated = translated(pattern)?;
    let translated = if ignores_case { format!("(?i){translated}") } else { translated };
    let regex = Regex::anchored(&translated).map_err(|e| Error::shard("query_shard_exception", e.to_string()))?;
    cx.leaf(target, Test::Regexp(regex))
}

/// Lucene's syntax of expressions in that of [`trefoil_model::re2`]: `^` and `$` are letters, `"…"` is literal, `@` is
/// any text. Complements, intersections and ranges of numbers are refused.
fn translated(pattern: &str) -> Result<String, Error> {
    let refuse = |what: char| {
        Error::illegal(format!("the operator [{what}] of regular expressions is not supported, escape it to match it"))
    };
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c) if c.is_ascii_alphanumeric() && !"dDwWsS".contains(c) => out.push(c),
                Some(c @ ('d' | 'D' | 'w' | 'W' | 's' | 'S')) => out.extend(['\\', c]),
                Some(c) => out.push_str(&trefoil_model::re2::escape(&c.to_string())),
                None => out.push_str("\\\\"),
            },
            '^' | '$' => out.extend(['\\', c]),
            '"' => {
                for c in chars.by_ref().take_while(|c| *c != '"') {
                    out.push_str(&trefoil_model::re2::escape(&c.to_string()));
                }
            }
            '@' => out.push_str(".*"),
            '~' | '&' => return Err(refuse(c)),
            '<' if chars.peek().is_some_and(char::is_ascii_digit) => return Err(refuse(c)),
            '[' => {
                out.push('[');
                if chars.peek() == Some(&'^') {
                    chars.next();
                    out.push('^');
                }
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => {
                            out.push('\\');
                            out.extend(chars.next());
                        }
                        '[' => out.push_str("\\["),
                        ']' => break,
                        c => out.push(c),
                    }
                }
                out.push(']');
            }
            // `(?` has a meaning here that it does not have there.
            '?' if out.ends_with('(') && !out.ends_with("\\(") => return Err(refuse(c)),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn ids(object: &Object) -> Result<Query, Error> {
    let values = match object.get("values") {
        Some(Json::Array(values)) => values.as_slice(),
        Some(one @ Json::String(_)) => std::slice::from_ref(one),
        _ => return Err(Error::parsing("[ids] requires [values] as a list")),
    };
    if values.len() > TERMS_MAX {
        return Err(Error::illegal(format!("[ids] has more than {TERMS_MAX} values")));
    }
    Ok(Query::Ids(Ids::new(values.iter().filter_map(scalar_text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_must_match() {
        for (text, count, want) in [
            ("2", 3, 2),
            ("-1", 3, 2),
            ("75%", 4, 3),
            ("-25%", 4, 3),
            ("3<90%", 3, 3),
            ("3<50%", 4, 2),
            ("2<-25% 9<-3", 12, 9),
        ] {
            assert_eq!(min_of(text, count), Some(want), "{text}");
        }
        assert_eq!((min_of("x", 1), min_of("", 1)), (None, None));
    }

    #[test]
    fn expressions_are_translated() {
        for (pattern, want) in [
            ("a^b$", r"a\^b\$"),
            (r#""a.b"c"#, r"a\.bc"),
            ("a@", "a.*"),
            (r"[a\]b]\.\-", r"[a\]b]\.-"),
            (r"\d+", r"\d+"),
        ] {
            assert_eq!(translated(pattern).unwrap(), want);
        }
        assert!(translated("<1-10>").is_err() && translated("a&b").is_err() && translated("(?i)a").is_err());
    }
}
