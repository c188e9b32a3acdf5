//! From what a page asks to the LogQL that answers it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use trefoil_logql::ast::Expr;
use trefoil_logql::detect_fields;
use trefoil_model::labels::underscored;
use trefoil_model::re2::Regex;
use trefoil_model::{Direction, NanoRange};

use super::chips::{Chip, Comparison, joined, quoted};
use super::free_text::{self, Term, Text};
use super::source::Source;
use crate::error::ApiError;
use crate::loki::logql_error;
use crate::loki::params::bounds;
use crate::params::Params;
use crate::state::AppState;

/// All streams, as far as LogQL lets ask for all: every door gives a line this label.
pub(super) const ALL_STREAMS: &str = r#"{service_name=~".+"}"#;
/// Stream label that every line has.
const SERVICE: &str = "service_name";
/// Fields that are never in the text of a line alone.
const BESIDE_THE_LINE: [&str; 5] = ["trace_id", "span_id", "detected_level", "severity_text", "severity_number"];
/// Newest lines that are looked at to learn where a field stands.
const SAMPLE_LINES: usize = 200;
/// Most fields that are known of them.
const SAMPLE_FIELDS: usize = 5000;
/// Most chips and words of a search.
const TERMS_MAX: usize = 100;

/// What a page asks for: a base, what was typed, chips and a time range.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// A log query that all else narrows; "" for all lines.
    base: String,
    texts: Vec<Term>,
    chips: Vec<Chip>,
    /// Times of the lines.
    pub(super) range: NanoRange,
}

/// Where the value of a field is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A label that all streams have.
    Stream,
    /// Beside the line: a label of some streams or structured metadata.
    Beside,
    /// In the line.
    Line { json: bool, logfmt: bool },
}

impl Asked {
    /// Reads `query`, `q`, `filter` (any number), `start`, `end` and `since`.
    ///
    /// Errors: a parameter cannot be read, or there are too many.
    pub(super) fn read(state: &AppState, params: &Params) -> Result<Self, ApiError> {
        let range = bounds(params, state.clock.now_ns())?;
        let most = state.limits.query_bytes_max;
        let bytes: usize = params.all("query").chain(params.all("q")).chain(params.all("filter")).map(str::len).sum();
        if bytes > most {
            trefoil_runtime::limits::hit("query_bytes_max");
            let message = format!("the search has {bytes} bytes, more than {most} (limit query_bytes_max)");
            return Err(ApiError::bad_data(message));
        }
        let mut chips = params.all("filter").map(Chip::parse).collect::<Result<Vec<Chip>, ApiError>>()?;
        let mut texts = Vec::new();
        for term in free_text::read(params.get("q")) {
            match term {
                Term::Field(chip) => chips.push(chip),
                text => texts.push(text),
            }
        }
        if texts.len() + chips.len() > TERMS_MAX {
            return Err(ApiError::bad_data(format!("more than {TERMS_MAX} words and filters in one search")));
        }
        let base = params.get("query").trim().to_owned();
        Ok(Self { base, texts, chips: joined(chips), range })
    }

    /// What is asked, for the list of queries.
    pub(super) fn text(&self) -> String {
        let terms = self.texts.iter().filter_map(line_filter);
        let parts = terms.chain(self.chips.iter().map(|c| format!("| {}", c.logql())));
        let base = if self.base.is_empty() { ALL_STREAMS } else { &self.base };
        parts.fold(base.to_owned(), |all, part| format!("{all} {part}"))
    }

    /// The texts that a page marks in the lines.
    pub(super) fn marked(&self) -> Value {
        let texts = self.texts.iter().flat_map(|term| match term {
            Term::Any(texts) => texts.as_slice(),
            _ => &[],
        });
        texts.map(|t| json!({ "text": t.text, "exact": t.is_exact })).collect()
    }

    /// Adds a condition.
    pub(super) fn and(mut self, chip: Chip) -> Self {
        self.chips.push(chip);
        self
    }

    /// The log query. `needed` are further fields that it must give labels for.
    ///
    /// Errors: the base is no log query, or the store cannot be read.
    pub(super) fn compose(&self, source: &Source<'_>, needed: &[&str]) -> Result<String, ApiError> {
        let base = match self.base.as_str() {
            "" => None,
            text => match trefoil_logql::parse(text).map_err(logql_error)? {
                Expr::Log(log) => Some(log),
                Expr::Metric(_) => return Err(ApiError::parameter("query", "a metric query gives numbers, not lines")),
            },
        };
        let matchers = base.as_ref().map(|log| log.matchers.clone()).unwrap_or_default();
        let mut names: BTreeSet<String> = self.chips.iter().map(Chip::label).collect();
        names.extend(needed.iter().map(|name| underscored(name).into_owned()));
        let mut places = self.beside(&names, source, &matchers)?;
        if base.is_some() {
            // The base keeps its selector.
            places.values_mut().filter(|p| **p == Place::Stream).for_each(|p| *p = Place::Beside);
        }
        let placed = |place: Place, places: &BTreeMap<String, Place>| -> Vec<String> {
            let of = self.chips.iter().filter(|c| places.get(&c.label()) == Some(&place));
            of.map(Chip::logql).collect()
        };
        let mut query = match &base {
            Some(_) => format!("{}\n", self.base),
            None => selector(
                self.chips
                    .iter()
                    .filter(|c| places.get(&c.label()) == Some(&Place::Stream) && c.comparison.is_matcher()),
            ),
        };
        let unknown: Vec<&String> = names.iter().filter(|n| !places.contains_key(*n)).collect();
        if !unknown.is_empty() {
            let found = self.in_lines(&unknown, &query, source)?;
            places.extend(found);
        }
        let mut parts: Vec<String> = self.texts.iter().filter_map(line_filter).collect();
        let inequalities = self.chips.iter().filter(|c| !c.comparison.is_matcher());
        let of_streams = inequalities.filter(|c| places.get(&c.label()) == Some(&Place::Stream)).map(Chip::logql);
        parts.extend(of_streams.chain(placed(Place::Beside, &places)).map(|filter| format!("| {filter}")));
        let (mut json, mut logfmt) = (false, false);
        for place in places.values() {
            if let Place::Line { json: j, logfmt: l } = place {
                (json, logfmt) = (json || *j, logfmt || *l);
            }
        }
        for (is_needed, parser) in [(json, "| json"), (logfmt, "| logfmt")] {
            if is_needed {
                parts.push(parser.to_owned());
            }
        }
        if json || logfmt {
            // Lines of another form are lines too.
            parts.push("| drop __error__, __error_details__".to_owned());
        }
        let is_line = |c: &&Chip| matches!(places.get(&c.label()), Some(Place::Line { .. }));
        parts.extend(self.chips.iter().filter(is_line).map(|c| format!("| {}", c.logql())));
        for part in parts {
            if !query.ends_with('\n') {
                query.push(' ');
            }
            query.push_str(&part);
        }
        Ok(query.trim_end().to_owned())
    }

    /// Which of the names stand beside the lines, as far as the streams tell.
    fn beside(
        &self,
        names: &BTreeSet<String>,
        source: &Source<'_>,
        matchers: &[trefoil_model::Matcher],
    ) -> Result<BTreeMap<String, Place>, ApiError> {
        let mut places = BTreeMap::new();
        let mut open: Vec<&String> = Vec::new();
        for name in names {
            match name.as_str() {
                SERVICE => drop(places.insert(name.clone(), Place::Stream)),
                own if BESIDE_THE_LINE.contains(&own) => drop(places.insert(name.clone(), Place::Beside)),
                _ => open.push(name),
            }
        }
        if open.is_empty() {
            return Ok(places);
        }
        let streams = source.logs.streams(source.tenant, self.range, matchers, source.context)?;
        for name in open {
            let have = streams.iter().filter(|s| s.iter().any(|(n, _)| underscored(n) == name.as_str())).count();
            if have > 0 {
                let place = if have == streams.len() { Place::Stream } else { Place::Beside };
                places.insert(name.clone(), place);
            }
        }
        Ok(places)
    }

    /// Where the newest lines of a query have the names. What none of them has may be in any line.
    fn in_lines(
        &self,
        names: &[&String],
        query: &str,
        source: &Source<'_>,
    ) -> Result<BTreeMap<String, Place>, ApiError> {
        let streams = source.newest(query, self.range, Direction::Backward, SAMPLE_LINES)?;
        let is_parsed = |name: &str| {
            streams.iter().flat_map(|s| &s.entries).any(|e| e.parsed.iter().any(|(parsed, _)| parsed == name))
        };
        let found = detect_fields(&streams, SAMPLE_FIELDS);
        let place = |name: &str| match found.get(name) {
            _ if is_parsed(name) => Place::Beside,
            Some(field) if field.parsers.is_empty() => Place::Beside,
            Some(field) => {
                Place::Line { json: field.parsers.contains("json"), logfmt: field.parsers.contains("logfmt") }
            }
            None => Place::Line { json: true, logfmt: true },
        };
        Ok(names.iter().map(|name| ((*name).clone(), place(name))).collect())
    }
}

/// A selector of chips; LogQL asks that one of them leaves out streams without the label.
fn selector<'a>(chips: impl Iterator<Item = &'a Chip>) -> String {
    let chips: Vec<&Chip> = chips.collect();
    let needs_value = |c: &&&Chip| match c.comparison {
        Comparison::Equal => !c.value.is_empty(),
        Comparison::Matches => Regex::whole(&c.value).is_ok_and(|regex| !regex.is_match("")),
        _ => false,
    };
    let mut matchers: Vec<String> = chips.iter().map(|c| c.logql()).collect();
    if !chips.iter().filter(needs_value).any(|c| c.label() == SERVICE) {
        matchers.insert(0, format!("{SERVICE}=~\".+\""));
    }
    format!("{{{}}}", matchers.join(", "))
}

fn has_case(text: &str) -> bool {
    text.chars().any(|c| c.is_lowercase() || c.is_uppercase())
}

/// A text as a line filter of LogQL.
fn line_filter(term: &Term) -> Option<String> {
    let is_exact = |t: &Text| t.is_exact || !has_case(&t.text);
    let regex = |t: &Text| {
        let escaped = trefoil_model::re2::escape(&t.text);
        if is_exact(t) { escaped } else { format!("(?i:{escaped})") }
    };
    match term {
        Term::Any(texts) => match texts.as_slice() {
            [] => None,
            texts if texts.iter().all(is_exact) => {
                let literals: Vec<String> = texts.iter().map(|t| quoted(&t.text)).collect();
                Some(format!("|= {}", literals.join(" or ")))
            }
            [text] => Some(format!("|~ {}", quoted(&format!("(?i){}", trefoil_model::re2::escape(&text.text))))),
            texts => Some(format!("|~ {}", quoted(&texts.iter().map(regex).collect::<Vec<_>>().join("|")))),
        },
        Term::Not(text) if is_exact(text) => Some(format!("!= {}", quoted(&text.text))),
        Term::Not(text) => Some(format!("!~ {}", quoted(&format!("(?i){}", trefoil_model::re2::escape(&text.text))))),
        Term::Field(_) => None,
    }
}
