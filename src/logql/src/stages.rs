//! Stages ready to run.

mod extract;
mod filter;
mod format;

use std::cell::RefCell;

use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_model::Matcher;
use trefoil_model::re2::Regex;

use crate::Error;
use crate::ast::{LabelFilter, Position, Stage, StageKind};
use crate::labels::LineLabels;
use crate::lexer::fail;

pub(crate) use extract::Extractor;
pub(crate) use filter::{CompiledFilter, LineTest};
pub(crate) use format::{LabelFormatter, LineFormatter, Picks};

/// The line at hand.
pub(crate) struct Line<'t, 'l> {
    pub(crate) time_ns: i64,
    pub(crate) text: std::borrow::Cow<'t, str>,
    pub(crate) labels: &'l mut LineLabels,
}

/// A stage that was checked and compiled.
#[derive(Debug)]
pub(crate) enum CompiledStage {
    Line(LineTest),
    Extract(Extractor),
    Filter(CompiledFilter),
    LineFormat(LineFormatter),
    LabelFormat(LabelFormatter),
    Drop(Picks),
    Keep(Picks),
    Decolorize(regex::Regex),
}

impl CompiledStage {
    pub(crate) fn new(stage: &Stage) -> Result<Self, Error> {
        let at =
            |position: Position| move |message: String| fail::<()>(position, message).expect_err("fail always fails");
        let at = at(stage.position);
        Ok(match &stage.kind {
            StageKind::LineFilter(filter) => Self::Line(LineTest::new(filter).map_err(at)?),
            StageKind::Json(extractions) => Self::Extract(Extractor::json(extractions).map_err(at)?),
            StageKind::Logfmt { strict, keep_empty, extractions } => {
                Self::Extract(Extractor::logfmt(*strict, *keep_empty, extractions).map_err(at)?)
            }
            StageKind::Regexp(pattern) => Self::Extract(Extractor::regexp(pattern).map_err(at)?),
            StageKind::Pattern(pattern) => Self::Extract(Extractor::pattern(pattern).map_err(at)?),
            StageKind::Unpack => Self::Extract(Extractor::Unpack),
            StageKind::Decolorize => {
                Self::Decolorize(regex::Regex::new(ANSI_SEQUENCES).expect("the pattern is a constant that compiles"))
            }
            StageKind::LabelFilter(filter) => Self::Filter(CompiledFilter::new(filter).map_err(at)?),
            StageKind::LineFormat(template) => Self::LineFormat(LineFormatter::new(template).map_err(at)?),
            StageKind::LabelFormat(formats) => Self::LabelFormat(LabelFormatter::new(formats).map_err(at)?),
            StageKind::Drop(picks) => Self::Drop(Picks(picks.clone())),
            StageKind::Keep(picks) => Self::Keep(Picks(picks.clone())),
        })
    }

    /// Adds the labels whose values the stage looks at; false when that cannot be told.
    pub(crate) fn add_used_labels(&self, out: &mut FxHashSet<String>) -> bool {
        match self {
            Self::Line(_) | Self::Extract(_) | Self::Decolorize(_) => true,
            Self::Filter(filter) => {
                filter.add_used_labels(out);
                true
            }
            Self::LineFormat(formatter) => formatter.add_used_labels(out),
            Self::LabelFormat(formatter) => formatter.add_used_labels(out),
            Self::Drop(picks) | Self::Keep(picks) => {
                picks.add_used_labels(out);
                true
            }
        }
    }

    /// False when the line is dropped.
    pub(crate) fn run(&self, line: &mut Line<'_, '_>) -> bool {
        match self {
            Self::Line(test) => test.passes(&line.text),
            Self::Extract(extractor) => {
                extractor.run(line);
                true
            }
            Self::Filter(filter) => filter.passes(line.labels),
            Self::LineFormat(formatter) => {
                formatter.run(line);
                true
            }
            Self::LabelFormat(formatter) => {
                formatter.run(line);
                true
            }
            Self::Drop(picks) => {
                picks.drop_from(line.labels);
                true
            }
            Self::Keep(picks) => {
                picks.keep_in(line.labels);
                true
            }
            Self::Decolorize(regex) => {
                if let std::borrow::Cow::Owned(plain) = regex.replace_all(&line.text, "") {
                    line.text = std::borrow::Cow::Owned(plain);
                }
                true
            }
        }
    }
}

/// Control sequences of terminals: colours, cursor movement, titles.
pub(crate) const ANSI_SEQUENCES: &str = r"[\x{1b}\x{9b}][\[\]()#;?]*(?:(?:(?:[a-zA-Z\d]*(?:;[a-zA-Z\d]*)*)?\x{07})|(?:(?:\d{1,4}(?:;\d{0,4})*)?[\dA-PRZcf-ntqry=><~]))";

/// A regular expression that is not anchored, as `|~`, `regexp` and the template functions use it.
pub(crate) fn unanchored(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|e| e.to_string())
}

/// How many patterns of template functions a thread keeps compiled.
const CACHED_PATTERNS_MAX: usize = 64;

thread_local! {
    static PATTERNS: RefCell<FxHashMap<String, Regex>> = RefCell::default();
}

/// [`unanchored`] for patterns that templates give anew with every line.
pub(crate) fn cached_unanchored(pattern: &str) -> Result<Regex, String> {
    PATTERNS.with_borrow_mut(|patterns| {
        if let Some(regex) = patterns.get(pattern) {
            return Ok(regex.clone());
        }
        if patterns.len() >= CACHED_PATTERNS_MAX {
            patterns.clear();
        }
        let regex = unanchored(pattern)?;
        patterns.insert(pattern.to_owned(), regex.clone());
        Ok(regex)
    })
}

/// The `name="value"` conditions that every line passing the filter satisfies.
pub(crate) fn required_terms(filter: &LabelFilter, out: &mut Vec<(String, String)>) {
    match filter {
        LabelFilter::Matcher(Matcher { name, op: trefoil_model::MatchOp::Equal, value, .. }) if !value.is_empty() => {
            out.push((name.clone(), value.clone()));
        }
        LabelFilter::And(a, b) => {
            required_terms(a, out);
            required_terms(b, out);
        }
        _ => {}
    }
}
