//! Line filters and label filters.

use memchr::memmem::Finder;
use rustc_hash::FxHashSet;
use trefoil_model::Matcher;
use trefoil_model::re2::Regex;

use super::unanchored;
use crate::ast::{Compare, LabelFilter, LineFilter, LineNeedle, LineOp};
use crate::ip::IpMatcher;
use crate::labels::LineLabels;
use crate::pattern::Pattern;
use crate::units;

#[derive(Debug)]
enum Test {
    Text(Box<Finder<'static>>),
    Regex(Regex),
    Pattern(Pattern),
    Ip(IpMatcher),
}

/// A line filter.
#[derive(Debug)]
pub(crate) struct LineTest {
    negative: bool,
    tests: Vec<Test>,
}

impl LineTest {
    pub(crate) fn new(filter: &LineFilter) -> Result<Self, String> {
        let tests = filter
            .alternatives
            .iter()
            .map(|needle| match (needle, filter.op) {
                (LineNeedle::Ip(pattern), _) => IpMatcher::parse(pattern).map(Test::Ip),
                (LineNeedle::Text(text), LineOp::Contains | LineOp::NotContains) => {
                    Ok(Test::Text(Box::new(Finder::new(text).into_owned())))
                }
                (LineNeedle::Text(text), LineOp::Regex | LineOp::NotRegex) => unanchored(text).map(Test::Regex),
                (LineNeedle::Text(text), LineOp::Pattern | LineOp::NotPattern) => {
                    Pattern::for_filter(text).map(Test::Pattern)
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { negative: filter.op.is_negative(), tests })
    }

    pub(crate) fn passes(&self, line: &str) -> bool {
        let found = self.tests.iter().any(|test| match test {
            Test::Text(finder) => finder.find(line.as_bytes()).is_some(),
            Test::Regex(regex) => regex.is_match(line),
            Test::Pattern(pattern) => pattern.matches(line),
            Test::Ip(ip) => ip.found_in(line),
        });
        found != self.negative
    }
}

/// A label filter.
#[derive(Debug)]
pub(crate) enum CompiledFilter {
    Matcher(Matcher),
    Number(String, Compare, f64),
    Duration(String, Compare, i64),
    Bytes(String, Compare, u64),
    Ip(String, bool, IpMatcher),
    And(Box<CompiledFilter>, Box<CompiledFilter>),
    Or(Box<CompiledFilter>, Box<CompiledFilter>),
}

impl CompiledFilter {
    pub(crate) fn new(filter: &LabelFilter) -> Result<Self, String> {
        Ok(match filter {
            LabelFilter::Matcher(matcher) => Self::Matcher(matcher.clone()),
            LabelFilter::Number(name, compare, n) => Self::Number(name.clone(), *compare, *n),
            LabelFilter::Duration(name, compare, ns) => Self::Duration(name.clone(), *compare, *ns),
            LabelFilter::Bytes(name, compare, bytes) => Self::Bytes(name.clone(), *compare, *bytes),
            LabelFilter::Ip(name, negative, pattern) => Self::Ip(name.clone(), *negative, IpMatcher::parse(pattern)?),
            LabelFilter::And(a, b) => Self::And(Box::new(Self::new(a)?), Box::new(Self::new(b)?)),
            LabelFilter::Or(a, b) => Self::Or(Box::new(Self::new(a)?), Box::new(Self::new(b)?)),
        })
    }

    /// Adds the labels that the filter looks at.
    pub(crate) fn add_used_labels(&self, out: &mut FxHashSet<String>) {
        match self {
            Self::Matcher(Matcher { name, .. })
            | Self::Number(name, ..)
            | Self::Duration(name, ..)
            | Self::Bytes(name, ..)
            | Self::Ip(name, ..) => {
                out.insert(name.clone());
            }
            Self::And(a, b) | Self::Or(a, b) => {
                a.add_used_labels(out);
                b.add_used_labels(out);
            }
        }
    }

    /// Whether the line stays. A value that is no number keeps it and marks it with `LabelFilterErr`.
    pub(crate) fn passes(&self, labels: &mut LineLabels) -> bool {
        match self {
            Self::Matcher(matcher) => matcher.matches(labels.get(&matcher.name).unwrap_or("")),
            Self::Number(name, compare, wanted) => {
                numeric(labels, name, |text| text.parse::<f64>().ok(), *compare, *wanted)
            }
            Self::Duration(name, compare, wanted) => {
                numeric(labels, name, trefoil_template::go_time::parse_duration, *compare, *wanted)
            }
            Self::Bytes(name, compare, wanted) => numeric(labels, name, units::parse_bytes, *compare, *wanted),
            // Without the label the line goes, whichever way it is asked.
            Self::Ip(name, negative, ip) => labels.get(name).is_some_and(|text| ip.found_in(text) != *negative),
            Self::And(a, b) => a.passes(labels) && b.passes(labels),
            Self::Or(a, b) => a.passes(labels) || b.passes(labels),
        }
    }
}

fn numeric<T: PartialOrd>(
    labels: &mut LineLabels,
    name: &str,
    read: impl Fn(&str) -> Option<T>,
    compare: Compare,
    wanted: T,
) -> bool {
    let Some(text) = labels.get(name) else {
        return false;
    };
    match read(text) {
        Some(value) => match compare {
            Compare::Equal => value == wanted,
            Compare::NotEqual => value != wanted,
            Compare::Less => value < wanted,
            Compare::LessEqual => value <= wanted,
            Compare::Greater => value > wanted,
            Compare::GreaterEqual => value >= wanted,
        },
        None => {
            let details = format!("label {name}: {text:?} cannot be compared");
            labels.set_error("LabelFilterErr", details);
            true
        }
    }
}
