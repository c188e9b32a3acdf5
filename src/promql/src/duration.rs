//! Durations as text: `1h30m`, `5m`, `100ms`.

/// Milliseconds of each unit, longest first.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Reads a duration: integers with units, longest unit first, each once; or `0`. Milliseconds.
///
/// Errors with the reference's texts: `not a valid duration string: "5"`, `duration out of range`.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err("empty duration string".to_owned());
    }
    let invalid = || format!("not a valid duration string: {}", crate::format::quote(text));
    let mut rest = text;
    let mut next_unit = 0;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(invalid());
        }
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(invalid());
        }
        let index = UNITS.iter().position(|(u, _)| *u == unit).ok_or_else(|| {
            let quote = crate::format::quote;
            format!("unknown unit {} in duration {}", quote(unit), quote(text))
        })?;
        if index < next_unit {
            return Err(invalid());
        }
        next_unit = index + 1;
        rest = after;
        let overflow = || "duration out of range".to_owned();
        let count: i64 = number.parse().map_err(|_| overflow())?;
        // The reference holds nanoseconds in 63 bits.
        total = count
            .checked_mul(UNITS[index].1)
            .and_then(|ms| total.checked_add(ms))
            .filter(|ms| *ms <= i64::MAX / 1_000_000)
            .ok_or_else(overflow)?;
    }
    Ok(total)
}

/// Writes milliseconds as the reference does: weeks only when nothing smaller follows; `0s` for 0.
pub fn format_duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    if ms < 0 {
        out.push('-');
    }
    let mut rest = ms.unsigned_abs();
    for (unit, length) in UNITS {
        let length = length.unsigned_abs();
        // Years and weeks only when they divide what is left.
        if matches!(unit, "y" | "w") && !rest.is_multiple_of(length) {
            continue;
        }
        let n = rest / length;
        if n > 0 {
            out.push_str(&n.to_string());
            out.push_str(unit);
            rest -= n * length;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip() {
        for (text, ms) in [("0s", 0), ("5m", 300_000), ("1h30m", 5_400_000), ("1w", 604_800_000), ("8d", 691_200_000)] {
            if ms != 0 {
                assert_eq!(parse_duration(text), Ok(ms));
            }
            assert_eq!(format_duration(ms), text);
        }
        for bad in ["", "5", "5q", "1m1h", "1s1s", "99999999999999y"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
