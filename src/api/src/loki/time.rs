//! Times and durations in the forms that Loki's parameters take.

use jiff::Timestamp;

const SECOND_NS: i64 = 1_000_000_000;

/// Reads a time as Unix nanoseconds: text with a dot is seconds, a whole number of up to ten digits is seconds, a
/// longer one nanoseconds, anything else RFC 3339. `None` when it is none of these or does not fit.
pub(crate) fn time_ns(text: &str) -> Option<i64> {
    if text.contains('.') && !text.contains(['T', 't', ':']) {
        return seconds_ns(text.parse().ok()?);
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        let n: i64 = text.parse().ok()?;
        return if text.len() <= 10 { n.checked_mul(SECOND_NS) } else { Some(n) };
    }
    let at: Timestamp = text.parse().ok()?;
    i64::try_from(at.as_nanosecond()).ok()
}

/// Reads a length of time as nanoseconds: a number of seconds, or numbers with units as `1h30m`, `250ms`.
pub(crate) fn duration_ns(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds_ns(seconds);
    }
    units_ns(text)
}

/// Reads numbers with units, fractions and a sign allowed: `1.5s`, `1h30m`, `100us`, `1d`, `1w`, `1y`. `None` when it is
/// nothing of this or does not fit.
pub(crate) fn units_ns(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..at].parse().ok()?;
        rest = &rest[at..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "d" => 86_400e9,
            "w" => 604_800e9,
            "y" => 31_536_000e9,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[end..];
    }
    let total = if negative { -total } else { total };
    fits(total)
}

fn seconds_ns(seconds: f64) -> Option<i64> {
    // Whole seconds and the rest apart: a double holds no present-day nanoseconds.
    let whole = fits(seconds.trunc())?.checked_mul(SECOND_NS)?;
    whole.checked_add((seconds.fract() * 1e9).round() as i64)
}

fn fits(value: f64) -> Option<i64> {
    // 2^63 exactly: the first double that an i64 does not hold.
    (value.is_finite() && value.abs() < 9_223_372_036_854_775_808.0).then_some(value.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, want) in [
            ("1700000000", Some(1_700_000_000 * SECOND_NS)),
            ("1700000000.5", Some(1_700_000_000_500_000_000)),
            ("1700000000123456789", Some(1_700_000_000_123_456_789)),
            ("4000000000", Some(4_000_000_000 * SECOND_NS)),
            ("0", Some(0)),
            ("1970-01-01T00:00:01Z", Some(SECOND_NS)),
            ("1970-01-01T01:00:01.5+01:00", Some(1_500_000_000)),
            ("", None),
            ("-", None),
            ("now", None),
            ("1e400.0", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time_ns(text), want, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, want) in [
            ("30", Some(30 * SECOND_NS)),
            ("0.5", Some(500_000_000)),
            ("15000ms", Some(15 * SECOND_NS)),
            ("1h30m", Some(5400 * SECOND_NS)),
            ("1.5s", Some(1_500_000_000)),
            ("1d", Some(86_400 * SECOND_NS)),
            ("", None),
            ("5", Some(5 * SECOND_NS)),
            ("5x", None),
            ("m", None),
            ("1..5s", None),
            ("NaN", None),
            ("9999999999y", None),
        ] {
            assert_eq!(duration_ns(text), want, "{text}");
        }
    }
}
