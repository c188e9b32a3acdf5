//! The forms of a time in a document.

use trefoil_model::AttributeValue;

use super::FieldValue;

/// What a bare number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Milliseconds, as in Elasticsearch and Datadog.
    Milliseconds,
    /// Seconds, maybe with a fraction, as in HEC and GELF.
    Seconds,
    /// Microseconds, as in journald.
    Microseconds,
    /// Seconds, milliseconds, microseconds or nanoseconds, whichever gives a year near ours.
    ByMagnitude,
}

impl TimeUnit {
    /// The decimal exponent of the unit in nanoseconds for a number with that whole part.
    fn exponent(self, whole: u128) -> u32 {
        match self {
            Self::Seconds => 9,
            Self::Milliseconds => 6,
            Self::Microseconds => 3,
            Self::ByMagnitude => match whole {
                0..100_000_000_000 => 9,
                100_000_000_000..100_000_000_000_000 => 6,
                100_000_000_000_000..100_000_000_000_000_000 => 3,
                _ => 0,
            },
        }
    }
}

/// Reads a time. `Ok(None)` for what stands for "now": null, "", "0", "-", 0. Errors: it is no time.
pub(crate) fn parse_value(value: &FieldValue<'_>, unit: TimeUnit) -> Result<Option<i64>, ()> {
    match value {
        FieldValue::Text(text) => match text.trim() {
            "" | "0" | "-" => Ok(None),
            text => parse_text(text, unit).map(Some).ok_or(()),
        },
        FieldValue::Other(AttributeValue::Null | AttributeValue::Int(0)) => Ok(None),
        FieldValue::Other(AttributeValue::Int(n)) => {
            number(n.unsigned_abs().into(), 0, 0, *n < 0, unit).map(Some).ok_or(())
        }
        // The shortest text that reads back the same has the digits that were sent.
        FieldValue::Other(AttributeValue::Double(n)) if n.is_finite() && n.abs() < 1e19 => {
            parse_number(&format!("{n}"), unit).map(Some).ok_or(())
        }
        FieldValue::Other(_) => Err(()),
    }
}

/// Reads a time from text: RFC 3339 and its looser kin, or a number. `None`: it is no time, or none of 1678 to 2262.
pub fn parse_text(text: &str, unit: TimeUnit) -> Option<i64> {
    if text.as_bytes().get(4) == Some(&b'-') { parse_calendar(text.as_bytes()) } else { parse_number(text, unit) }
}

fn parse_number(text: &str, unit: TimeUnit) -> Option<i64> {
    let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 20 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(12)];
    let value: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    number(whole.parse().ok()?, value, fraction.len() as u32, is_negative, unit)
}

/// `whole` and `fraction / 10^places` of a unit, in nanoseconds.
fn number(whole: u128, fraction: u128, places: u32, is_negative: bool, unit: TimeUnit) -> Option<i64> {
    let exponent = unit.exponent(whole);
    let nanoseconds = whole * 10u128.pow(exponent) + fraction * 10u128.pow(exponent) / 10u128.pow(places);
    let nanoseconds = i64::try_from(nanoseconds).ok()?;
    Some(if is_negative { -nanoseconds } else { nanoseconds })
}

/// `YYYY-MM-DD`, then maybe `T` or a space, `hh:mm`, `:ss`, a fraction after `.` or `,`, and `Z` or an offset; without one
/// it is UTC.
fn parse_calendar(text: &[u8]) -> Option<i64> {
    let (year, month, day) = (digits(text, 0, 4)?, digits(text, 5, 2)?, digits(text, 8, 2)?);
    if text[7] != b'-' || !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * 86_400;
    let Some(separator) = text.get(10) else { return midnight.checked_mul(1_000_000_000) };
    if !matches!(separator, b'T' | b't' | b' ') || text.get(13) != Some(&b':') {
        return None;
    }
    let (hour, minute) = (digits(text, 11, 2)?, digits(text, 14, 2)?);
    let mut at = 16;
    let mut second = 0;
    if text.get(at) == Some(&b':') {
        second = digits(text, 17, 2)?;
        at = 19;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut nanoseconds = 0;
    if matches!(text.get(at), Some(b'.' | b',')) {
        at += 1;
        let mut scale = 100_000_000;
        let from = at;
        while let Some(digit) = text.get(at).filter(|b| b.is_ascii_digit()) {
            nanoseconds += i64::from(digit - b'0') * scale;
            scale /= 10;
            at += 1;
        }
        if at == from {
            return None;
        }
    }
    let offset = match text.get(at) {
        None => 0,
        Some(b'Z' | b'z') if text.len() == at + 1 => 0,
        Some(sign @ (b'+' | b'-')) => {
            let hours = digits(text, at + 1, 2)?;
            let minutes = match text.len() - at {
                3 => 0,
                5 => digits(text, at + 3, 2)?,
                6 if text[at + 3] == b':' => digits(text, at + 4, 2)?,
                _ => return None,
            };
            let seconds = hours * 3600 + minutes * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        Some(_) => return None,
    };
    let seconds = midnight + hour * 3600 + minute * 60 + second - offset;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

fn digits(text: &[u8], at: usize, count: usize) -> Option<i64> {
    let mut value = 0;
    for b in text.get(at..at + count)? {
        if !b.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(b - b'0');
    }
    Some(value)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a day of the Gregorian calendar: years begin in March, so that a leap day ends one.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_many_forms() {
        const T: i64 = 1_709_210_096_000_000_000;
        use TimeUnit::{ByMagnitude, Milliseconds, Seconds};
        for (text, unit, want) in [
            ("2024-02-29T12:34:56Z", Seconds, Some(T)),
            ("2024-02-29T12:34:56.789012345Z", Seconds, Some(T + 789_012_345)),
            ("2024-02-29T12:34:56.7890123456789Z", Seconds, Some(T + 789_012_345)),
            ("2024-02-29T14:04:56,5+01:30", Seconds, Some(T + 500_000_000)),
            ("2024-02-29 12:34:56", Seconds, Some(T)),
            ("2024-02-29T07:34:56-0500", Seconds, Some(T)),
            ("2024-02-29T13:34:56+01", Seconds, Some(T)),
            ("2024-02-29T12:34Z", Seconds, Some(T - 56_000_000_000)),
            ("2024-02-29", Seconds, Some(T - 45_296_000_000_000)),
            ("1970-01-01T00:00:00Z", Seconds, Some(0)),
            ("1969-12-31T23:59:59.5Z", Seconds, Some(-500_000_000)),
            ("2200-01-01T00:00:00Z", Seconds, Some(7_258_118_400_000_000_000)),
            ("2023-02-29T12:34:56Z", Seconds, None),
            ("2024-13-01T12:34:56Z", Seconds, None),
            ("2024-02-29T25:34:56Z", Seconds, None),
            ("2024-02-29T12:34:56.Z", Seconds, None),
            ("2024-02-29T12:34:56Zx", Seconds, None),
            ("2024-02-29T12:34:56+1", Seconds, None),
            ("3000-01-01T00:00:00Z", Seconds, None),
            ("0000-01-01", Seconds, None),
            ("1709210096", Seconds, Some(T)),
            ("1709210096.25", Seconds, Some(T + 250_000_000)),
            ("1709210096000", Milliseconds, Some(T)),
            ("1709210096000.5", Milliseconds, Some(T + 500_000)),
            ("-1500", Milliseconds, Some(-1_500_000_000)),
            ("1709210096", ByMagnitude, Some(T)),
            ("1709210096000", ByMagnitude, Some(T)),
            ("1709210096000000", ByMagnitude, Some(T)),
            ("1709210096000000001", ByMagnitude, Some(T + 1)),
            ("99999999999999999999", ByMagnitude, None),
            ("12x", ByMagnitude, None),
            (".5", Seconds, None),
            ("yesterday", Seconds, None),
            ("20ü4-02-29", Seconds, None),
        ] {
            assert_eq!(parse_text(text, unit), want, "{text} {unit:?}");
        }
    }

    #[test]
    fn numbers_are_times_too() {
        let int = |n| FieldValue::Other(AttributeValue::Int(n));
        assert_eq!(parse_value(&int(1_709_210_096_123), TimeUnit::Milliseconds), Ok(Some(1_709_210_096_123_000_000)));
        let double = FieldValue::Other(AttributeValue::Double(1_709_210_096.123));
        assert_eq!(parse_value(&double, TimeUnit::Seconds), Ok(Some(1_709_210_096_123_000_000)));
        for now in
            [int(0), FieldValue::Other(AttributeValue::Null), FieldValue::Text("0".into()), FieldValue::Text("".into())]
        {
            assert_eq!(parse_value(&now, TimeUnit::Seconds), Ok(None));
        }
        assert_eq!(parse_value(&FieldValue::Other(AttributeValue::Bool(true)), TimeUnit::Seconds), Err(()));
        assert_eq!(parse_value(&int(i64::MAX), TimeUnit::Seconds), Err(()));
        assert_eq!(parse_value(&int(i64::MIN), TimeUnit::Seconds), Err(()));
    }

    #[test]
    fn days_count_like_the_calendar() {
        let mut want = days_from_civil(1899, 12, 31);
        for year in 1900..2300 {
            for month in 1..=12 {
                for day in 1..=days_of_month(year, month) {
                    want += 1;
                    assert_eq!(days_from_civil(year, month, day), want, "{year}-{month}-{day}");
                }
            }
        }
        assert_eq!(days_from_civil(1970, 1, 1), 0);
    }
}
