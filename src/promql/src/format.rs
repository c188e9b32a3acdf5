//! Text forms of numbers and strings, as the reference's API and messages have them.

use std::fmt::Write as _;

/// A sample value of the HTTP API: shortest decimal; an exponent only below 1e-6 or from 1e21 on (`1e-07`,
/// `1e+21`); `NaN`, `+Inf`, `-Inf`.
pub fn format_value(v: f64) -> String {
    let mut out = String::new();
    push_value(&mut out, v);
    out
}

/// Appends what [`format_value`] gives: answers are mostly made of these.
pub fn push_value(out: &mut String, v: f64) {
    let magnitude = v.abs();
    if magnitude < WHOLE_MAX && v.trunc() == v && v.to_bits() != NEGATIVE_ZERO {
        if v < 0.0 {
            out.push('-');
        }
        push_uint(out, magnitude as u64);
    } else if magnitude != 0.0 && magnitude.is_finite() && !(1e-6..1e21).contains(&magnitude) {
        out.push_str(&format_e(v));
    } else {
        match special(v) {
            Some(text) => out.push_str(text),
            None => push_plain(out, v),
        }
    }
}

/// Appends the shortest decimal of a finite value without an exponent. Where two are as near, the even one, as Go has it;
/// the standard library takes the larger.
fn push_plain(out: &mut String, v: f64) {
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(v);
    let Some((mantissa, exponent)) = text.split_once('e') else {
        out.push_str(text.strip_suffix(".0").unwrap_or(text));
        return;
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    out.push_str(sign);
    let exponent: i32 = exponent.parse().expect("ryu writes a whole exponent");
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let zeros = |out: &mut String, n: usize| out.extend(std::iter::repeat_n('0', n));
    // The mantissa has one digit before its point.
    match usize::try_from(exponent) {
        Ok(up) if up >= fraction.len() => {
            out.push_str(whole);
            out.push_str(fraction);
            zeros(out, up - fraction.len());
        }
        Ok(up) => {
            out.push_str(whole);
            out.push_str(&fraction[..up]);
            out.push('.');
            out.push_str(&fraction[up..]);
        }
        Err(_) => {
            out.push_str("0.");
            zeros(out, exponent.unsigned_abs() as usize - 1);
            out.push_str(whole);
            out.push_str(fraction);
        }
    }
}

/// Below this every whole number has its digits without an exponent in all forms.
const WHOLE_MAX: f64 = 1e15;
const NEGATIVE_ZERO: u64 = 1 << 63;
/// Digits of the largest `u64`.
const DIGITS_MAX: usize = 20;

/// Appends a number's decimal digits.
pub fn push_uint(out: &mut String, mut v: u64) {
    let mut digits = [b'0'; DIGITS_MAX];
    let mut from = DIGITS_MAX;
    loop {
        from -= 1;
        digits[from] = b'0' + (v % 10) as u8;
        v /= 10;
        if v == 0 {
            break;
        }
    }
    out.extend(digits[from..].iter().map(|d| char::from(*d)));
}

/// Shortest decimal without exponent (Go's `'f', -1`), as `count_values` writes it.
pub fn format_decimal(v: f64) -> String {
    match special(v) {
        Some(text) => text.to_owned(),
        None => plain(v),
    }
}

fn plain(v: f64) -> String {
    let mut out = String::new();
    push_plain(&mut out, v);
    out
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
    plain(v)
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

    #[expect(clippy::excessive_precision, reason = "halfway cases are what is tried")]
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
            (1_888_570_120_608_320.25, "1888570120608320.2"),
            (1_888_570_120_608_320.75, "1888570120608320.8"),
            (1_888_570_120_608_321.25, "1888570120608321.2"),
            (-1_234.567e12, "-1234567000000000"),
            (1.5e16, "15000000000000000"),
            (1.25e-5, "0.0000125"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (1.797_693_134_862_315_7e308, "1.7976931348623157e+308"),
        ] {
            assert_eq!(format_value(v), want);
        }
        let mut bits = 1u64;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let any = f64::from_bits(bits);
            let near = (bits >> 20) as f64 / 1000.0;
            for v in [any, near, -near, near.trunc(), near / 1e12, near * 1e3, (bits >> 40) as f64] {
                let magnitude = v.abs();
                if magnitude == 0.0 || (1e-6..1e21).contains(&magnitude) {
                    let (text, near) = (format_value(v), format!("{v}"));
                    assert_eq!((text.parse::<f64>().ok(), text.len()), (Some(v), near.len()), "{text} and {near}");
                    // They differ in the last digit at most.
                    assert_eq!(text[..text.len() - 1], near[..text.len() - 1]);
                } else if magnitude.is_finite() {
                    assert_eq!(format_value(v), format_e(v));
                }
            }
        }
        assert_eq!(format_g(1.1), "1.1");
        assert_eq!(format_g(123_456_789.0), "1.23456789e+08");
        assert_eq!(format_e(1.0), "1e+00");
        assert_eq!(format_decimal(1e22), "10000000000000000000000");
    }
}
