//! From the text of a script to its commands.

use std::fmt;

use trefoil_model::Labels;

use super::notation::{SeriesValue, items, parse_series, parse_values, repeat};
use crate::duration::parse_duration;
use crate::format::quote;
use crate::parser::{parse_number, unquote_text};

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("of any text"),
            Self::Exact(text) => f.write_str(&quote(text)),
            Self::Pattern(pattern) => write!(f, "that matches {}", quote(pattern)),
        }
    }
}

/// A script that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ScriptError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// A command of a script.
#[derive(Debug, Clone)]
pub enum Command {
    /// Drops everything loaded.
    Clear,
    /// Adds series.
    Load(Load),
    /// Evaluates a query.
    Eval(Box<Eval>),
}

/// A `load` block.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Milliseconds between values.
    pub step_ms: i64,
    /// Also make native histograms of classic ones.
    pub with_nhcb: bool,
    /// Labels, values, and start offsets (milliseconds relative to the value's time).
    pub series: Vec<(Labels, Vec<SeriesValue>, Vec<Option<i64>>)>,
}

/// How a query is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At a time.
    Instant(i64),
    /// From, to, step.
    Range(i64, i64, i64),
}

/// Which text an expectation asks for.
#[derive(Debug, Clone)]
pub enum Text {
    /// Any.
    Any,
    /// Exactly this.
    Exact(String),
    /// A match of this pattern anywhere.
    Pattern(String),
}

/// An `eval` block.
#[derive(Debug, Clone)]
pub struct Eval {
    /// Line of the command, from 1.
    pub line: usize,
    /// Query.
    pub query: String,
    /// When.
    pub when: When,
    /// The query must fail.
    pub fail: Option<Text>,
    /// Warnings due.
    pub warn: Vec<Text>,
    /// Infos due.
    pub info: Vec<Text>,
    /// No warning may come.
    pub no_warn: bool,
    /// No info may come.
    pub no_info: bool,
    /// The order of the result matters.
    pub ordered: bool,
    /// The result is this text.
    pub string: Option<String>,
    /// The result is a range vector with values at (from, to, step).
    pub range_vector: Option<(i64, i64, i64)>,
    /// The result is this scalar.
    pub scalar: Option<f64>,
    /// Expected series.
    pub series: Vec<(Labels, Vec<SeriesValue>)>,
}

/// Reads a script.
pub fn parse_script(text: &str) -> Result<Vec<Command>, ScriptError> {
    let lines: Vec<&str> = text
        .lines()
        .map(|l| {
            let l = l.trim();
            if l.starts_with('#') { "" } else { l }
        })
        .collect();
    let mut out = Vec::new();
    let mut next = 0;
    while next < lines.len() {
        let line = lines[next];
        if line.is_empty() {
            next += 1;
            continue;
        }
        let end = (next + 1..lines.len()).find(|i| lines[*i].is_empty()).unwrap_or(lines.len());
        let word = line.split_whitespace().next().unwrap_or("").to_ascii_lowercase();
        let fail = |message: String| ScriptError { line: next + 1, message };
        let fail_below = |(below, message): Fault| ScriptError { line: next + 1 + below, message };
        if word == "clear" {
            out.push(Command::Clear);
            next += 1;
        } else if word.starts_with("load") {
            out.push(Command::Load(parse_load(&lines[next..end]).map_err(fail_below)?));
            next = end;
        } else if word.starts_with("eval") {
            out.push(Command::Eval(Box::new(parse_eval(&lines[next..end], next + 1).map_err(fail_below)?)));
            next = end;
        } else {
            return Err(fail(format!("unknown command {word:?}")));
        }
    }
    Ok(out)
}

fn time(text: &str) -> Result<i64, String> {
    match text.strip_prefix('-') {
        Some(rest) => parse_duration(rest).map(|ms| -ms),
        None => parse_duration(text.strip_prefix('+').unwrap_or(text)),
    }
}

/// What is wrong, and how many lines below the command.
type Fault = (usize, String);

fn parse_load(lines: &[&str]) -> Result<Load, Fault> {
    let (with_nhcb, step_ms) = parse_load_command(lines[0]).map_err(|message| (0, message))?;
    let mut load = Load { step_ms, with_nhcb, series: Vec::new() };
    let mut starts: Option<(Labels, Vec<Option<i64>>)> = None;
    for (below, line) in lines.iter().enumerate().skip(1) {
        parse_load_line(line, &mut load, &mut starts).map_err(|message| (below, message))?;
    }
    Ok(load)
}

fn parse_load_command(line: &str) -> Result<(bool, i64), String> {
    let mut words = line.split_whitespace();
    let with_nhcb = words.next().is_some_and(|w| w.eq_ignore_ascii_case("load_with_nhcb"));
    Ok((with_nhcb, time(words.next().ok_or("load needs a step")?)?))
}

fn parse_load_line(line: &str, load: &mut Load, starts: &mut Option<(Labels, Vec<Option<i64>>)>) -> Result<(), String> {
    let (labels, rest) = parse_series(line)?;
    if let Some(offsets) = rest.strip_prefix("@st") {
        *starts = Some((labels, parse_starts(offsets)?));
        return Ok(());
    }
    let values = parse_values(rest)?;
    let offsets = match starts.take() {
        Some((l, offsets)) if l == labels => offsets,
        _ => Vec::new(),
    };
    load.series.retain(|(l, ..)| *l != labels);
    load.series.push((labels, values, offsets));
    Ok(())
}

/// Start timestamps relative to their samples: `-1m`, `_`, `_x3`, `-30sx2`, `-1m+10sx3`.
fn parse_starts(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut out = Vec::new();
    for item in items(text) {
        if item == "_" {
            out.push(None);
            continue;
        }
        if let Some(times) = item.strip_prefix("_x") {
            out.extend(std::iter::repeat_n(None, repeat(times)?));
            continue;
        }
        let Some((values, times)) = item.split_once('x') else {
            out.push(Some(time(item)?));
            continue;
        };
        let (first, increment) = match values.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-')) {
            None => (time(values)?, 0),
            Some((i, c)) => {
                let increment = time(&values[i + 1..])?;
                (time(&values[..i])?, if c == '-' { -increment } else { increment })
            }
        };
        for i in 0..=repeat(times)? {
            out.push(Some(first + increment * i as i64));
        }
    }
    Ok(out)
}

/// The first word and what follows it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

fn parse_eval(lines: &[&str], line: usize) -> Result<Eval, Fault> {
    let mut eval = parse_eval_command(lines[0], line).map_err(|message| (0, message))?;
    for (below, line) in lines.iter().enumerate().skip(1) {
        parse_expectation(line, &mut eval).map_err(|message| (below, message))?;
    }
    Ok(eval)
}

fn parse_eval_command(text: &str, line: usize) -> Result<Eval, String> {
    let (command, rest) = word(text);
    let (kind, rest) = word(rest);
    let (when, query) = match kind {
        "instant" => {
            let (at, rest) = word(rest);
            if at != "at" {
                return Err("expected `at`".to_owned());
            }
            let (t, query) = word(rest);
            (When::Instant(time(t)?), query)
        }
        "range" => {
            let mut rest = rest;
            let mut times = [0; 3];
            for (slot, keyword) in times.iter_mut().zip(["from", "to", "step"]) {
                let (k, after) = word(rest);
                if k != keyword {
                    return Err(format!("expected `{keyword}`"));
                }
                let (t, after) = word(after);
                *slot = time(t)?;
                rest = after;
            }
            (When::Range(times[0], times[1], times[2]), rest)
        }
        other => return Err(format!("expected instant or range, got {other:?}")),
    };
    let any = |yes: bool| if yes { vec![Text::Any] } else { Vec::new() };
    Ok(Eval {
        line,
        query: query.to_owned(),
        when,
        fail: (command == "eval_fail").then_some(Text::Any),
        warn: any(command == "eval_warn"),
        info: any(command == "eval_info"),
        no_warn: false,
        no_info: false,
        ordered: command == "eval_ordered",
        string: None,
        range_vector: None,
        scalar: None,
        series: Vec::new(),
    })
}

fn expected_text(rest: &str) -> Text {
    let rest = rest.trim();
    if let Some(text) = rest.strip_prefix("msg:") {
        Text::Exact(text.trim().to_owned())
    } else if let Some(pattern) = rest.strip_prefix("regex:") {
        Text::Pattern(pattern.trim().to_owned())
    } else {
        Text::Any
    }
}

fn parse_expectation(line: &str, eval: &mut Eval) -> Result<(), String> {
    let (first, rest) = word(line);
    match first {
        "expected_fail_message" => {
            eval.fail = Some(Text::Exact(rest.to_owned()));
            return Ok(());
        }
        "expected_fail_regexp" => {
            eval.fail = Some(Text::Pattern(rest.to_owned()));
            return Ok(());
        }
        "expect" => {
            let (what, rest) = word(rest);
            // `fail msg:TEXT` may come without a blank.
            match what {
                "fail" => eval.fail = Some(expected_text(rest)),
                "warn" => eval.warn.push(expected_text(rest)),
                "info" => eval.info.push(expected_text(rest)),
                "no_warn" => eval.no_warn = true,
                "no_info" => eval.no_info = true,
                "ordered" => eval.ordered = true,
                "string" => {
                    eval.string = Some(unquote_text(rest).ok_or_else(|| format!("bad string {rest}"))?);
                }
                "range" => {
                    let words: Vec<&str> = rest.split_whitespace().collect();
                    let ["vector", "from", from, "to", to, "step", step] = words[..] else {
                        return Err(format!("bad expectation {line:?}"));
                    };
                    eval.range_vector = Some((time(from)?, time(to)?, time(step)?));
                }
                _ => return Err(format!("bad expectation {line:?}")),
            }
            return Ok(());
        }
        _ => {}
    }
    let number = line.strip_prefix(['-', '+']).unwrap_or(line);
    if let Some(v) = parse_number(number) {
        eval.scalar = Some(if line.starts_with('-') { -v } else { v });
        return Ok(());
    }
    let (labels, rest) = parse_series(line)?;
    eval.series.push((labels, parse_values(rest)?));
    Ok(())
}
