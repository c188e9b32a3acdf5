//! Times as syslog messages have them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const NANOS: i64 = 1_000_000_000;
/// Half a year: a message is not further away from its receipt than that, whatever year it has.
const HALF_YEAR_NS: i64 = 182 * 86_400 * NANOS;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What a text begins with, and what follows it.
type Read<'a, T> = Option<(T, &'a str)>;

/// Reads a whole RFC 3339 time with its offset, as Unix nanoseconds. A `T` may be a space, decimals beyond nine are cut.
pub(super) fn rfc3339(text: &str) -> Option<i64> {
    let (civil, rest) = iso_civil(text)?;
    let (offset, rest) = offset(rest)?;
    if rest.is_empty() { at_offset(civil, offset) } else { None }
}

/// Reads an ISO time at the start, in `zone` when it names no offset.
pub(super) fn iso<'a>(text: &'a str, zone: &TimeZone) -> Read<'a, i64> {
    let (civil, rest) = iso_civil(text)?;
    match offset(rest) {
        Some((offset, rest)) => Some((at_offset(civil, offset)?, rest)),
        None => Some((in_zone(civil, zone)?, rest)),
    }
}

/// Reads `Mmm dd hh:mm:ss` with what devices add to it: a year after the day or after the time, decimals, and a zone if
/// a colon follows it. Without a year it is the one in which the time is nearest to `now_ns`.
pub(super) fn bsd<'a>(text: &'a str, zone: &TimeZone, now_ns: i64) -> Read<'a, i64> {
    let month = MONTHS.iter().position(|m| text.get(..3).is_some_and(|t| t.eq_ignore_ascii_case(m)))? as i8 + 1;
    let rest = text.get(3..)?.strip_prefix(' ')?.trim_start_matches(' ');
    let (day, rest) = number(rest, 1, 2)?;
    let rest = rest.strip_prefix(' ')?;
    let (mut year, rest) = match number(rest, 4, 4) {
        Some((year, after)) if after.starts_with(' ') => (Some(year), &after[1..]),
        _ => (None, rest),
    };
    let (time, mut rest) = clock(rest)?;
    if year.is_none()
        && let Some((late, after)) = rest.strip_prefix(' ').and_then(|r| number(r, 4, 4))
        && (1970..2200).contains(&late)
        && after.starts_with([' ', ':'])
    {
        (year, rest) = (Some(late), after);
    }
    let mut utc_offset = None;
    if let Some((name, after)) = rest.strip_prefix(' ').and_then(|r| r.split_once(':'))
        && (matches!(name, "UTC" | "GMT" | "Z"))
    {
        (utc_offset, rest) = (Some(0), &rest[rest.len() - after.len() - 1..]);
    }
    let with_year = |year: i64| {
        let civil = civil(year, i64::from(month), day, time)?;
        match utc_offset {
            Some(offset) => at_offset(civil, offset),
            None => in_zone(civil, zone),
        }
    };
    let time_ns = match year {
        Some(year) => with_year(year)?,
        None => nearest(now_ns, with_year)?,
    };
    Some((time_ns, rest))
}

fn nearest(now_ns: i64, with_year: impl Fn(i64) -> Option<i64>) -> Option<i64> {
    let this_year =
        i64::from(jiff::Timestamp::from_nanosecond(i128::from(now_ns)).ok()?.to_zoned(TimeZone::UTC).year());
    let now = with_year(this_year);
    if let Some(time_ns) = now.filter(|t| (t - now_ns).abs() <= HALF_YEAR_NS) {
        return Some(time_ns);
    }
    // The 29th of February is not in every year.
    let others = [with_year(this_year - 1), now, with_year(this_year + 1)];
    others.into_iter().flatten().min_by_key(|t| (t - now_ns).abs())
}

/// Time of day: hour, minute, second, nanosecond.
type Clock = (i64, i64, i64, i64);

fn clock(text: &str) -> Read<'_, Clock> {
    let (hour, rest) = number(text, 1, 2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 2, 2)?;
    let (second, rest) = number(rest.strip_prefix(':')?, 2, 2)?;
    let (nanosecond, rest) = match rest.strip_prefix(['.', ',']) {
        Some(fraction) => nanoseconds(fraction)?,
        None => (0, rest),
    };
    Some(((hour, minute, second, nanosecond), rest))
}

fn iso_civil(text: &str) -> Read<'_, DateTime> {
    let (year, rest) = number(text, 4, 4)?;
    let (month, rest) = number(rest.strip_prefix('-')?, 2, 2)?;
    let (day, rest) = number(rest.strip_prefix('-')?, 2, 2)?;
    let (time, rest) = clock(rest.strip_prefix(['T', 't', ' '])?)?;
    Some((civil(year, month, day, time)?, rest))
}

fn civil(year: i64, month: i64, day: i64, (hour, minute, second, nanosecond): Clock) -> Option<DateTime> {
    // A leap second is the last one before it.
    let second = if second == 60 { 59 } else { second };
    let small = |n: i64| i8::try_from(n).ok();
    DateTime::new(
        i16::try_from(year).ok()?,
        small(month)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second)?,
        i32::try_from(nanosecond).ok()?,
    )
    .ok()
}

/// Reads `Z`, `+hh:mm`, `+hhmm` or `+hh`, in seconds.
fn offset(text: &str) -> Read<'_, i64> {
    if let Some(rest) = text.strip_prefix(['Z', 'z']) {
        return Some((0, rest));
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, rest) = number(text.strip_prefix(['+', '-'])?, 2, 2)?;
    let (minutes, rest) = match rest.strip_prefix(':') {
        Some(rest) => number(rest, 2, 2)?,
        None => number(rest, 2, 2).unwrap_or((0, rest)),
    };
    (hours <= 23 && minutes <= 59).then_some((sign * (hours * 3600 + minutes * 60), rest))
}

fn at_offset(civil: DateTime, offset: i64) -> Option<i64> {
    let utc = civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_nanosecond();
    i64::try_from(utc - i128::from(offset) * i128::from(NANOS)).ok()
}

fn in_zone(civil: DateTime, zone: &TimeZone) -> Option<i64> {
    let timestamp = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
    i64::try_from(timestamp.as_nanosecond()).ok()
}

/// Reads decimals as nanoseconds.
fn nanoseconds(text: &str) -> Read<'_, i64> {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let digits = end.min(9);
    if end == 0 {
        return None;
    }
    let value: i64 = text[..digits].parse().ok()?;
    Some((value * 10i64.pow(9 - digits as u32), &text[end..]))
}

/// Reads a number of `min` to `max` digits; more of them are no number.
fn number(text: &str, min: usize, max: usize) -> Read<'_, i64> {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    // Two digits of an offset are followed by two more without anything between.
    let end = if max == 2 && min == 2 { end.min(2) } else { end };
    if !(min..=max).contains(&end) {
        return None;
    }
    Some((text[..end].parse().ok()?, &text[end..]))
}
