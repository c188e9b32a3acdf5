//! The level of a log record, derived at ingest as `detected_level`.
//!
//! In this order: an attribute or label whose name says level or severity, OpenTelemetry's severity, a level field of a
//! JSON or logfmt line, a level word at the start of the text; else `unknown`.

use trefoil_model::log::level_of_severity;
use trefoil_model::{AttributeValue, Attributes, Labels};

/// Name of the derived attribute.
pub const DETECTED_LEVEL: &str = "detected_level";
/// Level of a record that shows none.
pub const UNKNOWN: &str = "unknown";
/// Bytes of a line that are searched for a level.
const SEARCHED_BYTES_MAX: usize = 1024;
const NAMES: [&str; 9] = [
    "level",
    "severity",
    "lvl",
    "loglevel",
    "log_level",
    "severity_text",
    "severitytext",
    "log.level",
    "severity_number",
];

/// The level word for what senders write; `None` for what is not a level. Case does not count.
pub fn normalize(word: &str) -> Option<&'static str> {
    const WORDS: [(&str, &str); 24] = [
        ("info", "info"),
        ("error", "error"),
        ("warn", "warn"),
        ("warning", "warn"),
        ("debug", "debug"),
        ("err", "error"),
        ("trace", "trace"),
        ("fatal", "fatal"),
        ("critical", "critical"),
        ("crit", "critical"),
        ("inf", "info"),
        ("information", "info"),
        ("informational", "info"),
        ("notice", "info"),
        ("wrn", "warn"),
        ("dbg", "debug"),
        ("trc", "trace"),
        ("verbose", "trace"),
        ("eror", "error"),
        ("severe", "error"),
        ("panic", "fatal"),
        ("emerg", "fatal"),
        ("emergency", "fatal"),
        ("alert", "critical"),
    ];
    if word.len() < 3 || word.len() > 13 {
        return None;
    }
    WORDS.iter().find(|(w, _)| w.eq_ignore_ascii_case(word)).map(|(_, level)| *level)
}

/// True for a name under which senders write the level.
pub fn is_level_name(name: &str) -> bool {
    (3..=15).contains(&name.len()) && NAMES.iter().any(|n| n.eq_ignore_ascii_case(name))
}

/// True when the record has its level already.
pub fn has_detected_level(attributes: &Attributes) -> bool {
    attributes.iter().any(|(n, _)| n == DETECTED_LEVEL)
}

/// Derives the level of a record.
pub fn detect(
    severity_number: u8,
    severity_text: &str,
    attributes: &Attributes,
    stream: &Labels,
    text: &str,
) -> &'static str {
    if let Some(level) = level_of_severity(severity_number).or_else(|| normalize(severity_text.trim())) {
        return level;
    }
    let of_attributes = attributes
        .iter()
        .filter(|(name, _)| is_level_name(name))
        .find_map(|(_, value)| value.as_str().and_then(|v| normalize(v.trim())).or_else(|| numbered(value)));
    of_attributes.or_else(|| of_labels(stream)).or_else(|| of_text(text)).unwrap_or(UNKNOWN)
}

/// The level that a stream's labels say.
pub fn of_labels(stream: &Labels) -> Option<&'static str> {
    stream.iter().filter(|(name, _)| is_level_name(name)).find_map(|(_, value)| normalize(value.trim()))
}

fn numbered(value: &AttributeValue) -> Option<&'static str> {
    match value {
        // pino and bunyan: tens from 10 (trace) to 60 (fatal).
        AttributeValue::Int(n) => {
            [(10, "trace"), (20, "debug"), (30, "info"), (40, "warn"), (50, "error"), (60, "fatal")]
                .iter()
                .find(|(k, _)| k == n)
                .map(|(_, l)| *l)
        }
        _ => None,
    }
}

/// The level that a line shows: a field of a JSON or logfmt line, else the first level word.
pub fn of_text(text: &str) -> Option<&'static str> {
    let start = crate::metric_limits::cut(text, SEARCHED_BYTES_MAX).trim_start();
    let of_field = if start.starts_with('{') { json_field(start) } else { logfmt_field(start) };
    of_field.or_else(|| first_word(start))
}

/// Finds `"level":"..."` without parsing the document: the line may be cut, and most lines say it early.
fn json_field(text: &str) -> Option<&'static str> {
    let mut rest = text;
    while let Some(open) = rest.find('"') {
        let after = &rest[open + 1..];
        let close = after.find('"')?;
        let (name, tail) = (&after[..close], &after[close + 1..]);
        if let Some(value) = tail.trim_start().strip_prefix(':') {
            if is_level_name(name) {
                let value = value.trim_start();
                let word = value
                    .strip_prefix('"')
                    .and_then(|v| v.split('"').next())
                    .unwrap_or_else(|| value.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or(""));
                if let Some(level) = normalize(word).or_else(|| numbered(&AttributeValue::Int(word.parse().ok()?))) {
                    return Some(level);
                }
            }
            // A text value may hold anything; step over it.
            if let Some(v) = value.trim_start().strip_prefix('"') {
                rest = after_string(v)?;
                continue;
            }
        }
        rest = tail;
    }
    None
}

/// What follows the closing quote of a JSON string whose opening quote is gone.
fn after_string(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(&text[i + 1..]),
            _ => {}
        }
    }
    None
}

fn logfmt_field(text: &str) -> Option<&'static str> {
    text.split(' ').take(64).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        is_level_name(name).then(|| normalize(value.trim_matches('"'))).flatten()
    })
}

fn first_word(text: &str) -> Option<&'static str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).find_map(|word| match word.as_bytes() {
        // klog: I1121 12:00:00 ...
        [l, d @ ..] if d.len() == 4 && d.iter().all(u8::is_ascii_digit) => match l {
            b'I' => Some("info"),
            b'W' => Some("warn"),
            b'E' => Some("error"),
            b'F' => Some("fatal"),
            _ => None,
        },
        _ => normalize(word),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_lines() {
        for (line, want) in [
            ("", None),
            ("hello world", None),
            (r#"{"msg":"no error here","level":"INFO"}"#, Some("info")),
            (r#"{"level": 40, "msg":"x"}"#, Some("warn")),
            (r#"{"msg":"say \"level\": \"fatal\"","severity":"WARNING"}"#, Some("warn")),
            (r#"{"a":{"level":"debug"}}"#, Some("debug")),
            (r#"{"a":"#, None),
            (r#"ts=1 level=warn msg="error""#, Some("warn")),
            (r#"ts=1 lvl="dbg" msg=x"#, Some("debug")),
            ("2026-11-21 12:00:00 [ERROR] db: down", Some("error")),
            ("W1121 12:00:00.1 main.go:1] slow", Some("warn")),
            ("terrors and informers", None),
            ("panic: runtime error", Some("fatal")),
        ] {
            assert_eq!(of_text(line), want, "{line}");
        }
    }

    #[test]
    fn severity_wins_over_labels_and_text() {
        let none = Attributes::new();
        let labels = Labels::from_pairs([("level", "Warning")]);
        assert_eq!(detect(9, "", &none, &labels, "error"), "info");
        assert_eq!(detect(0, "FATAL", &none, &labels, "error"), "fatal");
        assert_eq!(detect(0, "", &none, &labels, "error"), "warn");
        let attributes = vec![("log.level".to_owned(), AttributeValue::String("debug".to_owned()))];
        assert_eq!(detect(0, "", &attributes, &labels, "error"), "debug");
        assert_eq!(detect(0, "", &none, &Labels::empty(), "x"), "unknown");
    }
}
