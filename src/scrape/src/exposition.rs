//! The text exposition formats, read without copying: Prometheus text 0.0.4 / 1.0.0 and OpenMetrics 1.0.
//!
//! The reader checks what Prometheus' own scraper checks: the syntax of each line and, for OpenMetrics, the closing
//! `# EOF`. It does not check types against values, bucket order or interleaved families. A series comes out as the
//! text that names it on the page, so that a scrape loop can look it up by its bytes and read the labels only once
//! ([`series_labels`]).
//!
//! Sources: the "Exposition formats" page of the Prometheus documentation and the OpenMetrics 1.0 specification.

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use trefoil_model::{Labels, LabelsBuilder, MetricKind};

/// Which text format a page is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextFormat {
    /// Prometheus text format 0.0.4 and 1.0.0: timestamps in milliseconds, blank lines and extra spaces allowed.
    Classic,
    /// OpenMetrics: timestamps in seconds, exemplars, single spaces, must end with `# EOF`.
    OpenMetrics,
}

/// Why a page cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ExpositionError {
    /// Line, counted from 1.
    pub line: usize,
    /// What is wrong, with the offending text cut to some 60 bytes.
    pub reason: String,
}

/// An exemplar as it stands on the page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawExemplar<'a> {
    /// Text of the label set, braces included.
    pub labels: &'a str,
    /// Value.
    pub value: f64,
    /// Unix milliseconds, when given.
    pub t_ms: Option<i64>,
}

/// One line that means something.
#[derive(Debug, Clone, PartialEq)]
pub enum Line<'a> {
    /// A sample.
    Sample {
        /// Text that names the series: `name{label="value"}`, as on the page.
        series: &'a str,
        /// Value.
        value: f64,
        /// Unix milliseconds, when given.
        t_ms: Option<i64>,
        /// Exemplar (OpenMetrics).
        exemplar: Option<RawExemplar<'a>>,
    },
    /// `# TYPE`.
    Type {
        /// Family name.
        name: Cow<'a, str>,
        /// Type.
        kind: MetricKind,
    },
    /// `# HELP`, unescaped.
    Help {
        /// Family name.
        name: Cow<'a, str>,
        /// Text.
        text: Cow<'a, str>,
    },
    /// `# UNIT` (OpenMetrics).
    Unit {
        /// Family name.
        name: Cow<'a, str>,
        /// Unit.
        unit: &'a str,
    },
}

/// Reads a page line by line. After an error it yields nothing more.
#[derive(Debug)]
pub struct Exposition<'a> {
    rest: &'a str,
    line: usize,
    format: TextFormat,
    done: bool,
}

impl<'a> Exposition<'a> {
    /// Starts reading; errors when the page is not UTF-8.
    pub fn new(page: &'a [u8], format: TextFormat) -> Result<Self, ExpositionError> {
        let rest = std::str::from_utf8(page).map_err(|e| ExpositionError {
            line: 1 + memchr::memchr_iter(b'\n', &page[..e.valid_up_to()]).count(),
            reason: "invalid UTF-8".to_owned(),
        })?;
        Ok(Self { rest, line: 0, format, done: false })
    }

    fn fail(&mut self, reason: impl Into<String>) -> ExpositionError {
        self.done = true;
        ExpositionError { line: self.line, reason: reason.into() }
    }

    fn next_line(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        self.line += 1;
        match memchr(b'\n', self.rest.as_bytes()) {
            Some(i) => {
                let (line, rest) = (&self.rest[..i], &self.rest[i + 1..]);
                self.rest = rest;
                Some(line)
            }
            None => Some(std::mem::take(&mut self.rest)),
        }
    }

    fn read_comment(&mut self, line: &'a str) -> Result<Option<Line<'a>>, ExpositionError> {
        let open_metrics = self.format == TextFormat::OpenMetrics;
        let body = &line[1..];
        if open_metrics && body == " EOF" {
            self.done = true;
            if !self.rest.is_empty() {
                self.line += 1;
                return Err(self.fail("unexpected data after # EOF"));
            }
            return Ok(None);
        }
        let spaced = body.strip_prefix(' ').or_else(|| if open_metrics { None } else { body.strip_prefix('\t') });
        let Some(words) = spaced else {
            return if open_metrics { Err(self.fail(format!("invalid comment {:?}", cut(line)))) } else { Ok(None) };
        };
        let words = if open_metrics { words } else { words.trim_start_matches([' ', '\t']) };
        let (keyword, after) = split_space(words);
        if !matches!(keyword, "HELP" | "TYPE" | "UNIT") || (keyword == "UNIT" && !open_metrics) {
            return if open_metrics { Err(self.fail(format!("invalid comment {:?}", cut(line)))) } else { Ok(None) };
        }
        let after = if open_metrics { after } else { after.trim_start_matches([' ', '\t']) };
        let (name, text) = if after.starts_with('"') {
            let Some(end) = quoted_end(after) else { return Err(self.fail("unterminated quoted metric name")) };
            let name = unescape(&after[1..end - 1]);
            (name, after[end..].strip_prefix([' ', '\t']).unwrap_or(&after[end..]))
        } else {
            let (name, text) =
                if open_metrics { after.split_once(' ').unwrap_or((after, "")) } else { split_space(after) };
            if name.is_empty() && !open_metrics {
                return Ok(None);
            }
            if name.is_empty() || name_len(name) != name.len() {
                return Err(self.fail(format!("invalid metric name {:?} in {keyword} comment", cut(name))));
            }
            (Cow::Borrowed(name), text)
        };
        let text = if open_metrics { text } else { text.trim_start_matches([' ', '\t']) };
        match keyword {
            "HELP" => Ok(Some(Line::Help { name, text: unescape_help(text, open_metrics) })),
            "UNIT" => {
                if !name.ends_with(text) || (!text.is_empty() && name.len() <= text.len() + 1) {
                    return Err(self.fail(format!("unit {:?} is not a suffix of metric {:?}", cut(text), cut(&name))));
                }
                Ok(Some(Line::Unit { name, unit: text }))
            }
            _ => {
                let word = if open_metrics { text } else { text.trim_end_matches([' ', '\t', '\r']) };
                let kind = match word {
                    "counter" => MetricKind::Counter,
                    "gauge" => MetricKind::Gauge,
                    "histogram" => MetricKind::Histogram,
                    "gaugehistogram" => MetricKind::GaugeHistogram,
                    "summary" => MetricKind::Summary,
                    "info" => MetricKind::Info,
                    "stateset" => MetricKind::StateSet,
                    "unknown" => MetricKind::Unknown,
                    "untyped" if !open_metrics => MetricKind::Unknown,
                    _ => return Err(self.fail(format!("invalid metric type {:?}", cut(word)))),
                };
                Ok(Some(Line::Type { name, kind }))
            }
        }
    }

    fn read_sample(&mut self, line: &'a str) -> Result<Line<'a>, ExpositionError> {
        let open_metrics = self.format == TextFormat::OpenMetrics;
        let bytes = line.as_bytes();
        let mut end = name_len(line);
        if end == 0 && bytes.first() != Some(&b'{') {
            return Err(self.fail(format!("expected a metric name, found {:?}", cut(line))));
        }
        let spaces = if open_metrics { 0 } else { space_len(&bytes[end..]) };
        let mut series_end = end;
        if bytes.get(end + spaces) == Some(&b'{') {
            match braces_end(&bytes[end + spaces..]) {
                Some(n) => series_end = end + spaces + n,
                None => return Err(self.fail(format!("unterminated label set in {:?}", cut(line)))),
            }
            end = series_end;
        }
        let series = &line[..series_end];
        let after = &line[end..];
        let value_text;
        let mut rest;
        if open_metrics {
            let Some(after) = after.strip_prefix(' ') else {
                return Err(self.fail(format!("expected a space and a value after {:?}", cut(series))));
            };
            (value_text, rest) = split_at_space(after);
        } else {
            // A value may stand directly behind the closing brace, as in the reference.
            let trimmed = after.trim_start_matches([' ', '\t']);
            if trimmed.len() == after.len() && !series.ends_with('}') {
                return Err(self.fail(format!("expected a value after {:?}", cut(series))));
            }
            (value_text, rest) = split_at_space(trimmed);
            rest = rest.trim_start_matches([' ', '\t']);
        }
        let Some(value) = parse_value(value_text.trim_end_matches('\r')) else {
            return Err(self.fail(format!("invalid value {:?} of {:?}", cut(value_text), cut(series))));
        };
        let mut t_ms = None;
        let mut exemplar = None;
        if open_metrics {
            let mut more = rest;
            if let Some(after) = more.strip_prefix(' ')
                && !after.starts_with("# ")
            {
                let (stamp, tail) = split_at_space(after);
                let Some(ms) = parse_seconds(stamp) else {
                    return Err(self.fail(format!("invalid timestamp {:?} of {:?}", cut(stamp), cut(series))));
                };
                t_ms = Some(ms);
                more = tail;
            }
            if let Some(after) = more.strip_prefix(" # ") {
                match read_exemplar(after) {
                    Some(e) => exemplar = Some(e),
                    None => return Err(self.fail(format!("invalid exemplar {:?} of {:?}", cut(after), cut(series)))),
                }
            } else if !more.is_empty() {
                return Err(self.fail(format!("unexpected text {:?} after the value of {:?}", cut(more), cut(series))));
            }
        } else {
            let stamp = rest.trim_end_matches([' ', '\t', '\r']);
            if !stamp.is_empty() {
                match stamp.parse::<i64>() {
                    Ok(ms) => t_ms = Some(ms),
                    Err(_) => {
                        return Err(self.fail(format!("invalid timestamp {:?} of {:?}", cut(stamp), cut(series))));
                    }
                }
            }
        }
        Ok(Line::Sample { series, value, t_ms, exemplar })
    }
}

impl<'a> Iterator for Exposition<'a> {
    type Item = Result<Line<'a>, ExpositionError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            let Some(line) = self.next_line() else {
                if self.format == TextFormat::OpenMetrics {
                    self.line += 1;
                    return Some(Err(self.fail("data does not end with # EOF")));
                }
                self.done = true;
                return None;
            };
            let line = match self.format {
                TextFormat::OpenMetrics => line,
                TextFormat::Classic => line.trim_start_matches([' ', '\t']),
            };
            if line.is_empty() || line == "\r" {
                if self.format == TextFormat::OpenMetrics {
                    return Some(Err(self.fail("empty line")));
                }
                continue;
            }
            if line.starts_with('#') {
                match self.read_comment(line) {
                    Ok(Some(comment)) => return Some(Ok(comment)),
                    Ok(None) => continue,
                    Err(e) => return Some(Err(e)),
                }
            }
            return Some(self.read_sample(line));
        }
        None
    }
}

/// Reads the labels out of a series text (`name{a="b"}`, `{"quoted.name",a="b"}`), metric name as `__name__`.
///
/// Of a label that occurs twice: error, as in the reference. Errors name the offending part.
pub fn series_labels(series: &str) -> Result<LabelsBuilder, String> {
    let mut labels = LabelsBuilder::new();
    let name_end = name_len(series);
    if name_end > 0 {
        labels.set(trefoil_model::labels::METRIC_NAME, &series[..name_end]);
    }
    let rest = series[name_end..].trim_start_matches([' ', '\t']);
    if !rest.is_empty() {
        read_label_set(rest, &mut labels)?;
    }
    if labels.get(trefoil_model::labels::METRIC_NAME).is_none() {
        return Err(format!("series {:?} has no metric name", cut(series)));
    }
    Ok(labels)
}

/// Reads a bare label set (`{trace_id="x"}`), as exemplars have it.
pub fn label_set(text: &str) -> Result<Labels, String> {
    let mut labels = LabelsBuilder::new();
    read_label_set(text, &mut labels)?;
    Ok(labels.build())
}

fn read_label_set(text: &str, labels: &mut LabelsBuilder) -> Result<(), String> {
    let inner = text
        .strip_prefix('{')
        .and_then(|t| t.strip_suffix('}'))
        .ok_or_else(|| format!("label set {:?} is not in braces", cut(text)))?;
    let mut rest = inner.trim_start_matches([' ', '\t']);
    while !rest.is_empty() {
        let (name, quoted, after) = if rest.starts_with('"') {
            let end = quoted_end(rest).ok_or_else(|| format!("unterminated quote at {:?}", cut(rest)))?;
            (unescape(&rest[1..end - 1]), true, &rest[end..])
        } else {
            let end = label_name_len(rest);
            if end == 0 {
                return Err(format!("expected a label name, found {:?}", cut(rest)));
            }
            (Cow::Borrowed(&rest[..end]), false, &rest[end..])
        };
        let after = after.trim_start_matches([' ', '\t']);
        rest = match after.strip_prefix('=') {
            Some(value) => {
                let value = value.trim_start_matches([' ', '\t']);
                if !value.starts_with('"') {
                    return Err(format!("expected a quoted value of label {name:?}, found {:?}", cut(value)));
                }
                let end = quoted_end(value).ok_or_else(|| format!("unterminated value of label {name:?}"))?;
                if labels.pairs().iter().any(|(n, _)| *n == name) {
                    return Err(format!("label {name:?} occurs twice"));
                }
                labels.set(name, unescape(&value[1..end - 1]));
                &value[end..]
            }
            None if quoted => {
                if labels.pairs().iter().any(|(n, _)| n == trefoil_model::labels::METRIC_NAME) {
                    return Err(format!("second metric name {name:?}"));
                }
                labels.set(trefoil_model::labels::METRIC_NAME, name);
                after
            }
            None => return Err(format!("expected = after label name {name:?}")),
        };
        rest = rest.trim_start_matches([' ', '\t']);
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start_matches([' ', '\t']),
            None if rest.is_empty() => {}
            None => return Err(format!("expected , or }} and found {:?}", cut(rest))),
        }
    }
    Ok(())
}

fn read_exemplar(text: &str) -> Option<RawExemplar<'_>> {
    if !text.starts_with('{') {
        return None;
    }
    let end = braces_end(text.as_bytes())?;
    let labels = &text[..end];
    let (value, rest) = split_at_space(text[end..].strip_prefix(' ')?);
    let value = parse_value(value)?;
    let t_ms = match rest.strip_prefix(' ') {
        None if rest.is_empty() => None,
        None => return None,
        Some(stamp) => Some(parse_seconds(stamp)?),
    };
    Some(RawExemplar { labels, value, t_ms })
}

/// A float as Go's `ParseFloat` reads it, without hexadecimal and underscores: a number that is too large for a float is
/// none.
fn parse_value(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    // Most values on a page are short whole numbers.
    if !bytes.is_empty() && bytes.len() <= 15 && bytes.iter().all(u8::is_ascii_digit) {
        return Some(bytes.iter().fold(0u64, |n, b| n * 10 + u64::from(b - b'0')) as f64);
    }
    if let Ok(v) = fast_float2::parse::<f64, _>(bytes) {
        if v.is_infinite() && bytes.iter().any(u8::is_ascii_digit) {
            return None;
        }
        return Some(if v.is_nan() { f64::from_bits(0x7ff8_0000_0000_0001) } else { v });
    }
    let (sign, word) = match bytes.first()? {
        b'+' => (1.0, &text[1..]),
        b'-' => (-1.0, &text[1..]),
        _ => (1.0, text),
    };
    if word.eq_ignore_ascii_case("inf") || word.eq_ignore_ascii_case("infinity") {
        return Some(sign * f64::INFINITY);
    }
    if text.starts_with('+') && word.as_bytes().first().is_some_and(|b| b.is_ascii_digit() || *b == b'.') {
        return fast_float2::parse::<f64, _>(word.as_bytes()).ok().filter(|v| v.is_finite());
    }
    word.eq_ignore_ascii_case("nan").then(|| f64::from_bits(0x7ff8_0000_0000_0001))
}

fn parse_seconds(text: &str) -> Option<i64> {
    let v = parse_value(text)?;
    let ms = v * 1000.0;
    (ms.is_finite() && ms.abs() < 9.2e18).then_some(ms as i64)
}

fn split_space(text: &str) -> (&str, &str) {
    match memchr2(b' ', b'\t', text.as_bytes()) {
        Some(i) => (&text[..i], &text[i + 1..]),
        None => (text, ""),
    }
}

fn split_at_space(text: &str) -> (&str, &str) {
    match memchr2(b' ', b'\t', text.as_bytes()) {
        Some(i) => text.split_at(i),
        None => (text, ""),
    }
}

fn space_len(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| matches!(b, b' ' | b'\t')).count()
}

fn name_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b':')) {
        return 0;
    }
    bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':')).count()
}

fn label_name_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_') {
        return 0;
    }
    bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count()
}

/// Index after the closing quote of a text that starts with one.
fn quoted_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut i = 1;
    loop {
        i += memchr2(b'"', b'\\', bytes.get(i..)?)?;
        if bytes[i] == b'"' {
            return Some(i + 1);
        }
        i += 2;
    }
}

/// Index after the closing brace of a text that starts with an opening one; braces in quotes do not count.
fn braces_end(bytes: &[u8]) -> Option<usize> {
    let mut i = 1;
    loop {
        i += memchr2(b'"', b'}', bytes.get(i..)?)?;
        if bytes[i] == b'}' {
            return Some(i + 1);
        }
        i += 1;
        loop {
            i += memchr2(b'"', b'\\', bytes.get(i..)?)?;
            if bytes[i] == b'"' {
                i += 1;
                break;
            }
            i += 2;
        }
    }
}

fn unescape(text: &str) -> Cow<'_, str> {
    unescape_with(text, true)
}

fn unescape_help(text: &str, quotes: bool) -> Cow<'_, str> {
    unescape_with(text, quotes)
}

/// `\\`, `\n` and (in quotes) `\"`; any other escape stays as it is.
fn unescape_with(text: &str, quotes: bool) -> Cow<'_, str> {
    if memchr(b'\\', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('\\') => out.push('\\'),
            Some('"') if quotes => out.push('"'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    Cow::Owned(out)
}

fn cut(text: &str) -> &str {
    if text.len() <= 60 {
        return text;
    }
    let mut end = 60;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
