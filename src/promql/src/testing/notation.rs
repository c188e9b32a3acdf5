//! The notation of series and of their values: `http_requests{job="a"} 0+10x3 _ stale {{count:2}}`.

use std::sync::Arc;

use trefoil_model::labels::METRIC_NAME;
use trefoil_model::{CounterResetHint, FloatHistogram, HistogramSpan, Labels, LabelsBuilder, STALE_NAN};

use crate::histogram;
use crate::parser::{parse_number, unquote_text};

/// Most values that one item may stand for.
const REPEAT_MAX: usize = 1_000_000;

/// What may open a text.
const QUOTES: [char; 3] = ['"', '\'', '`'];

/// A value of the notation.
#[derive(Debug, Clone, PartialEq)]
pub enum SeriesValue {
    /// No sample.
    Absent,
    /// A float, perhaps the stale marker.
    Float(f64),
    /// A native histogram; true when its reset hint was written down.
    Histogram(Arc<FloatHistogram>, bool),
}

/// Splits a line into labels and the rest.
pub fn parse_series(line: &str) -> Result<(Labels, &str), String> {
    let mut labels = LabelsBuilder::new();
    let name_end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(line.len());
    let (name, mut rest) = line.split_at(name_end);
    if !name.is_empty() {
        labels.set(METRIC_NAME, name);
    }
    if let Some(inside) = rest.strip_prefix('{') {
        rest = parse_labels(inside, &mut labels)?;
    } else if name.is_empty() {
        return Err(format!("expected a series in {line:?}"));
    }
    Ok((labels.build(), rest))
}

fn parse_labels<'a>(inside: &'a str, labels: &mut LabelsBuilder) -> Result<&'a str, String> {
    let mut rest = inside.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let quoted = rest.starts_with(QUOTES);
        let (name, after) = label_text(rest)?;
        rest = after.trim_start();
        match rest.strip_prefix('=').map(str::trim_start) {
            Some(after) if after.starts_with(QUOTES) => {
                let (value, after) = label_text(after)?;
                labels.set(name, value);
                rest = after.trim_start();
            }
            Some(after) => return Err(format!("the value of label {name:?} needs quotes: {after:?}")),
            None if quoted => {
                labels.set(METRIC_NAME, name);
            }
            None => return Err(format!("expected `=` behind label {name:?}")),
        }
        rest = match rest.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if rest.starts_with('}') => rest,
            None if rest.is_empty() => return Err("series ends inside its braces".to_owned()),
            None => return Err(format!("expected `,` or `}}` in {rest:?}")),
        };
        if rest.is_empty() {
            return Err("series ends inside its braces".to_owned());
        }
    }
}

/// A quoted text or a word.
fn label_text(text: &str) -> Result<(String, &str), String> {
    let Some(open) = text.chars().next().filter(|c| QUOTES.contains(c)) else {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
        if end == 0 {
            return Err(format!("expected a label in {text:?}"));
        }
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && open != '`' {
            escaped = true;
        } else if c == open {
            let value = unquote_text(&text[..=i]).ok_or_else(|| format!("bad string {}", &text[..=i]))?;
            return Ok((value, &text[i + 1..]));
        }
    }
    Err(format!("unterminated string in {text:?}"))
}

/// Reads values and expands repetitions.
pub fn parse_values(text: &str) -> Result<Vec<SeriesValue>, String> {
    let mut out = Vec::new();
    for item in items(text) {
        parse_item(item, &mut out)?;
    }
    Ok(out)
}

/// Splits at blanks outside of `{{ }}`.
pub(super) fn items(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut depth, mut start) = (0usize, None);
    let bytes = text.as_bytes();
    for (i, b) in bytes.iter().enumerate() {
        match b {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && b.is_ascii_whitespace() {
            if let Some(s) = start.take() {
                out.push(&text[s..i]);
            }
        } else if start.is_none() {
            start = Some(i);
        }
    }
    if let Some(s) = start {
        out.push(&text[s..]);
    }
    out
}

pub(super) fn repeat(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if n <= REPEAT_MAX => Ok(n),
        Ok(n) => Err(format!("{n} repetitions are more than {REPEAT_MAX}")),
        Err(_) => Err(format!("bad number of repetitions {text:?}")),
    }
}

fn parse_item(item: &str, out: &mut Vec<SeriesValue>) -> Result<(), String> {
    if item == "_" {
        out.push(SeriesValue::Absent);
        return Ok(());
    }
    if let Some(times) = item.strip_prefix("_x") {
        out.extend(std::iter::repeat_n(SeriesValue::Absent, repeat(times)?));
        return Ok(());
    }
    if item == "stale" {
        out.push(SeriesValue::Float(STALE_NAN));
        return Ok(());
    }
    if item.starts_with("{{") {
        return parse_histogram_item(item, out);
    }
    let Some((values, times)) = item.split_once('x') else {
        out.push(SeriesValue::Float(signed_number(item)?));
        return Ok(());
    };
    let times = repeat(times)?;
    let operator = values
        .char_indices()
        .skip(1)
        .find(|(i, c)| matches!(c, '+' | '-') && !matches!(values.as_bytes()[i - 1], b'e' | b'E'));
    let (first, increment) = match operator {
        None => (signed_number(values)?, None),
        Some((i, c)) => {
            let increment = signed_number(&values[i + 1..])?;
            (signed_number(&values[..i])?, Some(if c == '-' { -increment } else { increment }))
        }
    };
    let mut value = first;
    for _ in 0..=times {
        out.push(SeriesValue::Float(value));
        value += increment.unwrap_or(0.0);
    }
    Ok(())
}

fn signed_number(text: &str) -> Result<f64, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.parse::<f64>() {
        Ok(v) => v,
        Err(_) => parse_number(digits).ok_or_else(|| format!("bad value {text:?}"))?,
    };
    Ok(if negative { -value } else { value })
}

fn parse_histogram_item(item: &str, out: &mut Vec<SeriesValue>) -> Result<(), String> {
    let end = item.find("}}").ok_or_else(|| format!("histogram {item:?} is not closed"))?;
    let (base, base_hint) = parse_histogram(&item[2..end])?;
    let rest = &item[end + 2..];
    if rest.is_empty() {
        out.push(SeriesValue::Histogram(Arc::new(base), base_hint));
        return Ok(());
    }
    if let Some(times) = rest.strip_prefix('x') {
        let value = SeriesValue::Histogram(Arc::new(base), base_hint);
        out.extend(std::iter::repeat_n(value, repeat(times)? + 1));
        return Ok(());
    }
    let negative = rest.starts_with('-');
    let inner = rest.get(1..).and_then(|r| r.strip_prefix("{{")).ok_or_else(|| format!("bad item {item:?}"))?;
    let end = inner.find("}}").ok_or_else(|| format!("histogram {item:?} is not closed"))?;
    let (increment, hint) = parse_histogram(&inner[..end])?;
    let times = inner[end + 2..].strip_prefix('x').ok_or_else(|| format!("bad item {item:?}"))?;
    let mut current = base;
    for i in 0..=repeat(times)? {
        if i > 0 {
            if current.schema > increment.schema {
                return Err(format!("schema of the increment in {item:?} is lower"));
            }
            let combined = if negative {
                histogram::difference(&current, &increment)
            } else {
                histogram::sum(&current, &increment)
            };
            let kept = current.counter_reset_hint;
            current = combined.map_err(|_| format!("histograms in {item:?} do not go together"))?.0;
            if negative {
                current.counter_reset_hint = kept;
            }
        }
        out.push(SeriesValue::Histogram(Arc::new(current.clone()), hint));
    }
    Ok(())
}

/// The inside of `{{ }}`; true when it names a reset hint.
fn parse_histogram(text: &str) -> Result<(FloatHistogram, bool), String> {
    let mut h = FloatHistogram::default();
    let mut hint = false;
    let (mut offset, mut negative_offset) = (0i32, 0i32);
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':').ok_or_else(|| format!("expected key:value in {rest:?}"))?;
        let (value, after) = match after.strip_prefix('[') {
            Some(list) => list.split_once(']').ok_or_else(|| format!("list in {text:?} is not closed"))?,
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                after.split_at(end)
            }
        };
        rest = after.trim_start();
        let number = || signed_number(value);
        let integer = || value.parse::<i32>().map_err(|_| format!("bad integer {value:?}"));
        let list = || value.split_whitespace().map(signed_number).collect::<Result<Vec<f64>, _>>();
        match key {
            "schema" => h.schema = integer()?,
            "sum" => h.sum = number()?,
            "count" => h.count = number()?,
            "z_bucket" => h.zero_count = number()?,
            "z_bucket_w" => h.zero_threshold = number()?,
            "offset" => offset = integer()?,
            "n_offset" => negative_offset = integer()?,
            "buckets" => h.positive_buckets = list()?,
            "n_buckets" => h.negative_buckets = list()?,
            "custom_values" => h.custom_values = list()?,
            "counter_reset_hint" => {
                hint = true;
                h.counter_reset_hint = match value {
                    "unknown" => CounterResetHint::Unknown,
                    "reset" => CounterResetHint::CounterReset,
                    "not_reset" => CounterResetHint::NotCounterReset,
                    "gauge" => CounterResetHint::Gauge,
                    other => return Err(format!("bad counter reset hint {other:?}")),
                };
            }
            other => return Err(format!("bad histogram key {other:?}")),
        }
    }
    let spans = |offset: i32, buckets: &[f64]| {
        if buckets.is_empty() { Vec::new() } else { vec![HistogramSpan { offset, length: buckets.len() as u32 }] }
    };
    h.positive_spans = spans(offset, &h.positive_buckets);
    h.negative_spans = spans(negative_offset, &h.negative_buckets);
    Ok((h, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(text: &str) -> Vec<f64> {
        parse_values(text)
            .unwrap()
            .into_iter()
            .map(|v| match v {
                SeriesValue::Float(f) => f,
                SeriesValue::Absent => -999.0,
                SeriesValue::Histogram(h, _) => h.count,
            })
            .collect()
    }

    #[test]
    fn values_expand() {
        assert_eq!(floats("1 _ 2x2 0+10x2 5-1e0x1"), [1.0, -999.0, 2.0, 2.0, 2.0, 0.0, 10.0, 20.0, 5.0, 4.0]);
        assert_eq!(floats("_x2 -Inf 0x1"), [-999.0, -999.0, f64::NEG_INFINITY, 0.0, 0.0]);
        assert_eq!(floats("{{count:2 buckets:[1 1]}}+{{count:1 buckets:[1]}}x2"), [2.0, 3.0, 4.0]);
    }

    #[test]
    fn series_have_labels() {
        let (labels, rest) = parse_series(r#"{"a.b", "c d"="x,}", e='f'} 1 2"#).unwrap();
        assert_eq!(labels, Labels::from_pairs([("__name__", "a.b"), ("c d", "x,}"), ("e", "f")]));
        assert_eq!(rest, " 1 2");
    }
}
