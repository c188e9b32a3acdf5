//! Text forms of numbers and strings, as the reference's API and messages have them.

use std::fmt::Write as _;

/// A sample value of the HTTP API: shortest decimal; an exponent only below 1e-6 or from 1e21 on (`1e-07`,
/// `1e+21`); `NaN`, `+Inf`, `-Inf`.
pub fn format_value(v: f64) -> String {
    let magnitude = v.abs();
    if magnitude != 0.0 && magnitude.is_finite() && !(1e-6..1e21).contains(&magnitude) {
        return format_e(v);
    }
    format_decimal(v)
}

/// Shortest decimal without exponent (Go's `'f', -1`), as `count_values` writes it.
pub fn format_decimal(v: f64) -> String {
    match special(v) {
        Some(text) => text.to_owned(),
        None => format!("{v}"),
    }
}

/// Go's `%g`: shortest; an exponent below 1e-4 or from 1e6 on.
pub fn format_g(v: f64) -> String {
    if let Some(text) = special(v) {
        return text.to_owned();
    }
    let magnitude = v.abs();
    if magnitude != 0.0 && !(1e-4..1e6).contains(&magnitude) {
        return format_e(v);
    }
    format!("{v}")
}

/// Shortest with an exponent of at least two digits (Go's `'e', -1`): `1e+06`, `1.5e-07`.
pub fn format_e(v: f64) -> String {
    if let Some(text) = special(v) {
        return text.to_owned();
    }
    let text = format!("{v:e}");
    let (mantissa, exponent) = text.split_once('e').expect("Rust's exponent form has an e");
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn special(v: f64) -> Option<&'static str> {
    if v.is_nan() {
        Some("NaN")
    } else if v == f64::INFINITY {
        Some("+Inf")
    } else if v == f64::NEG_INFINITY {
        Some("-Inf")
    } else {
        None
    }
}

/// Texts of queries may hold bytes that are no UTF-8 (`"a\xc5z"`); each stands as this private-use character plus the
/// byte, so that messages can show it.
pub(crate) const RAW_BYTE: u32 = 0x10_ff00;

/// True when every character is a real one.
pub(crate) fn is_valid_utf8(text: &str) -> bool {
    !text.chars().any(|c| c as u32 >= RAW_BYTE)
}

/// The text with U+FFFD for each byte that is no UTF-8, as answers show it.
pub(crate) fn replaced(text: &str) -> std::borrow::Cow<'_, str> {
    if is_valid_utf8(text) {
        return text.into();
    }
    text.chars().map(|c| if c as u32 >= RAW_BYTE { char::REPLACEMENT_CHARACTER } else { c }).collect::<String>().into()
}

/// A text in double quotes with Go's escapes (`%q`).
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c as u32 >= RAW_BYTE => {
                write!(out, "\\x{:02x}", c as u32 - RAW_BYTE).expect("writing to a String cannot fail");
            }
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                write!(out, "\\x{:02x}", c as u32).expect("writing to a String cannot fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_go_forms() {
        for (v, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-07"),
            (1e-6, "0.000001"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (1.797_693_134_862_315_7e308, "1.7976931348623157e+308"),
        ] {
            assert_eq!(format_value(v), want);
        }
        assert_eq!(format_g(1.1), "1.1");
        assert_eq!(format_g(123_456_789.0), "1.23456789e+08");
        assert_eq!(format_e(1.0), "1e+00");
        assert_eq!(format_decimal(1e22), "10000000000000000000000");
    }
}
