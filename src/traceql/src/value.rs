//! Values: constants of queries and what results carry.

use std::fmt::{self, Write as _};

use trefoil_model::{SpanKind, StatusCode};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// None.
    Nil,
    /// Whole number.
    Int(i64),
    /// Floating point.
    Float(f64),
    /// Text.
    String(String),
    /// Boolean.
    Bool(bool),
    /// Nanoseconds.
    Duration(i64),
    /// Outcome of a span.
    Status(StatusCode),
    /// Role of a span.
    Kind(SpanKind),
}

/// The word for an outcome.
pub fn status_word(status: StatusCode) -> &'static str {
    match status {
        StatusCode::Unset => "unset",
        StatusCode::Ok => "ok",
        StatusCode::Error => "error",
    }
}

/// The outcome that a word names.
pub fn status_of(word: &str) -> Option<StatusCode> {
    [StatusCode::Unset, StatusCode::Ok, StatusCode::Error].into_iter().find(|s| status_word(*s) == word)
}

/// The role that a word names.
pub fn kind_of(word: &str) -> Option<SpanKind> {
    (0..=5).map(SpanKind::from_number).find(|k| k.as_str() == word)
}

impl Value {
    /// Numbers; durations in seconds.
    pub fn seconds(&self) -> Option<f64> {
        match self {
            Self::Int(i) => Some(*i as f64),
            Self::Float(f) => Some(*f),
            Self::Duration(ns) => Some(*ns as f64 / 1e9),
            _ => None,
        }
    }

    /// The value as people read it: strings bare, nil as `nil`.
    pub fn to_text(&self) -> String {
        match self {
            Self::String(s) => s.clone(),
            other => other.to_string(),
        }
    }

    /// A text for the type and value; equal for equal values only. Never empty.
    pub(crate) fn encode(&self) -> String {
        match self {
            Self::Nil => "n".to_owned(),
            Self::Int(i) => format!("i{i}"),
            Self::Float(f) => format!("f{f}"),
            Self::String(s) => format!("s{s}"),
            Self::Bool(b) => format!("b{b}"),
            Self::Duration(d) => format!("d{d}"),
            Self::Status(s) => format!("t{}", status_word(*s)),
            Self::Kind(k) => format!("k{}", k.as_str()),
        }
    }

    /// What [`Value::encode`] wrote.
    pub(crate) fn decode(text: &str) -> Self {
        let mut chars = text.chars();
        let kind = chars.next();
        let rest = chars.as_str();
        let read = match kind {
            Some('i') => rest.parse().ok().map(Self::Int),
            Some('f') => rest.parse().ok().map(Self::Float),
            Some('s') => Some(Self::String(rest.to_owned())),
            Some('b') => rest.parse().ok().map(Self::Bool),
            Some('d') => rest.parse().ok().map(Self::Duration),
            Some('t') => status_of(rest).map(Self::Status),
            Some('k') => kind_of(rest).map(Self::Kind),
            _ => None,
        };
        read.unwrap_or(Self::Nil)
    }
}

impl fmt::Display for Value {
    /// As in a query; strings are quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Int(i) => write!(f, "{i}"),
            Self::Float(x) if x.is_finite() && x.fract() == 0.0 => write!(f, "{x:.1}"),
            Self::Float(x) => write!(f, "{x}"),
            Self::String(s) => quoted(f, s),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Duration(ns) => f.write_str(&format_duration(*ns)),
            Self::Status(s) => f.write_str(status_word(*s)),
            Self::Kind(k) => f.write_str(k.as_str()),
        }
    }
}

/// Writes a text in double quotes as the lexer reads it.
pub(crate) fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

const UNITS: [(&str, i64); 11] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
    ("y", 31_536_000_000_000_000),
];

/// Reads a duration without sign as nanoseconds: `1h30m`, `0.5s`, `100us`, `1d`.
pub fn parse_duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let end = rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |at| digits + at);
        let (number, unit) = (&rest[..digits], &rest[digits..end]);
        let scale = UNITS.iter().find(|(u, _)| *u == unit)?.1;
        let ns = match number.parse::<i64>() {
            Ok(whole) => whole.checked_mul(scale)?,
            Err(_) => {
                let ns = number.parse::<f64>().ok()? * scale as f64;
                if ns.abs() < 9.2e18 { ns.round() as i64 } else { return None }
            }
        };
        total = total.checked_add(ns)?;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(total)
}

/// Writes nanoseconds as Go does: `1h2m3.5s`, `60ms`, `1.5µs`, `0s`.
pub fn format_duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let n = ns.unsigned_abs();
    let fraction = |whole: u64, part: u64, digits: usize| {
        let text = format!("{whole}.{part:0digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let body = match n {
        0 => "0s".to_owned(),
        1..1_000 => format!("{n}ns"),
        1_000..1_000_000 => fraction(n / 1_000, n % 1_000, 3) + "µs",
        1_000_000..1_000_000_000 => fraction(n / 1_000_000, n % 1_000_000, 6) + "ms",
        _ => {
            let seconds = n / 1_000_000_000;
            let tail = fraction(seconds % 60, n % 1_000_000_000, 9) + "s";
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => tail,
                (0, m) => format!("{m}m{tail}"),
                (h, m) => format!("{h}h{m}m{tail}"),
            }
        }
    };
    format!("{sign}{body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print() {
        for (text, ns) in [
            ("60ms", 60_000_000),
            ("1h0m0s", 3_600_000_000_000),
            ("1m30.5s", 90_500_000_000),
            ("1.5µs", 1_500),
            ("7ns", 7),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Some(ns), "{text}");
            assert_eq!(format_duration(ns), text);
        }
        assert_eq!(parse_duration("1d"), Some(86_400_000_000_000));
        assert_eq!(format_duration(-2_000_000_000), "-2s");
        for bad in ["", "5", "5q", "s", "1.2.3s", "99999999999999y"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        assert!(!format_duration(i64::MIN).is_empty());
    }

    #[test]
    fn values_encode_and_decode() {
        let all = [
            Value::Nil,
            Value::Int(-3),
            Value::Float(0.1),
            Value::String("x y".to_owned()),
            Value::Bool(true),
            Value::Duration(5),
            Value::Status(StatusCode::Error),
            Value::Kind(SpanKind::Client),
        ];
        for value in all {
            assert_eq!(Value::decode(&value.encode()), value);
        }
    }
}
