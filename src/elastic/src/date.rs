//! Times as Elasticsearch reads and writes them: formats, date math, time zones, intervals.

mod pattern;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp, ToSpan, Zoned};

use crate::Error;
use pattern::Pattern;

const MS_NS: i64 = 1_000_000;
/// Longest text of a time, a format or an interval.
const TEXT_BYTES_MAX: usize = 256;

/// Unix milliseconds of Unix nanoseconds.
pub(crate) fn floor_ms(ns: i64) -> i64 {
    ns.div_euclid(MS_NS)
}

/// First nanosecond of a millisecond, at the edge of what there is when it lies beyond.
pub(crate) fn ms_to_ns(ms: i64) -> i64 {
    ms.saturating_mul(MS_NS)
}

/// RFC 3339 in UTC with milliseconds, and with all digits when there are more.
pub(crate) fn print_time(ns: i64) -> String {
    let Ok(time) = Timestamp::from_nanosecond(i128::from(ns)) else { return ns.to_string() };
    if ns.rem_euclid(MS_NS) == 0 { format!("{time:.3}") } else { format!("{time:.9}") }
}

/// A time zone: `Z`, an offset or a name of the IANA database.
pub(crate) fn zone(text: &str) -> Result<TimeZone, Error> {
    let bad = || Error::illegal(format!("Unknown time-zone ID: {}", cut(text)));
    if matches!(text, "Z" | "UTC" | "utc" | "GMT") {
        return Ok(TimeZone::UTC);
    }
    if text.starts_with(['+', '-']) {
        let (offset, used) = offset(text).ok_or_else(bad)?;
        return if used == text.len() { Ok(TimeZone::fixed(offset)) } else { Err(bad()) };
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(bad());
    }
    TimeZone::get(text).map_err(|_| bad())
}

/// An offset at the start of a text, and how many bytes it takes: `Z`, `+1`, `+01`, `+0100`, `+01:00`.
fn offset(text: &str) -> Option<(Offset, usize)> {
    let bytes = text.as_bytes();
    let sign = match bytes.first()? {
        b'Z' => return Some((Offset::UTC, 1)),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = |from: usize| bytes[from..].iter().take(2).take_while(|b| b.is_ascii_digit()).count();
    let hour_digits = digits(1);
    if hour_digits == 0 {
        return None;
    }
    let mut at = 1 + hour_digits;
    let hours: i32 = text[1..at].parse().ok()?;
    let mut minutes = 0;
    let from = if bytes.get(at) == Some(&b':') { at + 1 } else { at };
    if from <= bytes.len() && digits(from) == 2 {
        minutes = text[from..from + 2].parse().ok()?;
        at = from + 2;
    }
    if hours > 18 || minutes > 59 {
        return None;
    }
    Some((Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()?, at))
}

pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// One way of writing times.
#[derive(Debug, Clone, PartialEq)]
enum Way {
    Millis,
    Seconds,
    /// `strict_date_optional_time`.
    Iso {
        nanos: bool,
    },
    Pattern(Pattern),
}

/// How times are written, with alternatives (`a||b`): the first writes, all read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Format(Vec<Way>);

impl Default for Format {
    /// That of a date field.
    fn default() -> Self {
        Self(vec![Way::Iso { nanos: false }, Way::Millis])
    }
}

impl Format {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(Error::illegal(format!("Invalid format: [{}]: unusable", cut(text))));
        }
        text.split("||").map(Way::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Writes Unix milliseconds in a time zone.
    pub(crate) fn print(&self, ms: i64, zone: &TimeZone) -> String {
        self.print_ns(ms_to_ns(ms), zone)
    }

    /// Writes Unix nanoseconds.
    pub(crate) fn print_ns(&self, ns: i64, zone: &TimeZone) -> String {
        let way = self.0.first().unwrap_or(&Way::Millis);
        let zoned = || Timestamp::from_nanosecond(i128::from(ns)).ok().map(|t| t.to_zoned(zone.clone()));
        match way {
            Way::Millis => floor_ms(ns).to_string(),
            Way::Seconds => ns.div_euclid(1_000_000_000).to_string(),
            Way::Iso { nanos } => {
                let Some(zoned) = zoned() else { return ns.to_string() };
                let time = zoned.datetime();
                let text =
                    if *nanos && ns.rem_euclid(MS_NS) != 0 { format!("{time:.9}") } else { format!("{time:.3}") };
                text + &pattern::offset_text(zoned.offset())
            }
            Way::Pattern(pattern) => zoned().map_or_else(|| ns.to_string(), |zoned| pattern.print(&zoned)),
        }
    }

    /// Reads a time without date math; `up`: the last nanosecond of what the text names.
    fn read(&self, text: &str, zone: &TimeZone, up: bool) -> Option<i64> {
        self.0.iter().find_map(|way| way.read(text, zone, up))
    }
}

impl Way {
    fn parse(text: &str) -> Result<Self, Error> {
        let java = match text {
            "epoch_millis" => return Ok(Self::Millis),
            "epoch_second" => return Ok(Self::Seconds),
            "strict_date_optional_time" | "date_optional_time" | "dateOptionalTime" | "iso8601" => {
                return Ok(Self::Iso { nanos: false });
            }
            "strict_date_optional_time_nanos" => return Ok(Self::Iso { nanos: true }),
            "date" | "strict_date" | "strict_year_month_day" | "year_month_day" => "yyyy-MM-dd",
            "date_time" | "strict_date_time" => "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
            "date_time_no_millis" | "strict_date_time_no_millis" => "yyyy-MM-dd'T'HH:mm:ssXXX",
            "date_hour_minute_second" | "strict_date_hour_minute_second" => "yyyy-MM-dd'T'HH:mm:ss",
            "date_hour_minute_second_millis" | "date_hour_minute_second_fraction" => "yyyy-MM-dd'T'HH:mm:ss.SSS",
            "date_hour_minute" | "strict_date_hour_minute" => "yyyy-MM-dd'T'HH:mm",
            "date_hour" | "strict_date_hour" => "yyyy-MM-dd'T'HH",
            "hour_minute_second" | "strict_hour_minute_second" => "HH:mm:ss",
            "hour_minute" | "strict_hour_minute" => "HH:mm",
            "year" | "strict_year" => "yyyy",
            "year_month" | "strict_year_month" => "yyyy-MM",
            "basic_date" => "yyyyMMdd",
            "basic_date_time" => "yyyyMMdd'T'HHmmss.SSSXXX",
            "basic_date_time_no_millis" => "yyyyMMdd'T'HHmmssXXX",
            other => other,
        };
        Pattern::parse(java).map(Self::Pattern)
    }

    fn read(&self, text: &str, zone: &TimeZone, up: bool) -> Option<i64> {
        match self {
            Self::Millis => {
                let ms: f64 = crate::doc::number(text)?;
                let whole = text.parse::<i64>().ok().unwrap_or(ms.floor() as i64);
                let ns = ms_to_ns(whole);
                Some(if up { ns.saturating_add(MS_NS - 1) } else { ns })
            }
            Self::Seconds => {
                let seconds = crate::doc::number(text)?;
                let ns = ms_to_ns((seconds * 1000.0) as i64);
                let width = if text.contains('.') { MS_NS } else { 1000 * MS_NS };
                Some(if up { ns.saturating_add(width - 1) } else { ns })
            }
            Self::Iso { .. } => Parts::iso(text)?.resolve(zone, up),
            Self::Pattern(pattern) => pattern.read(text)?.resolve(zone, up),
        }
    }
}

/// What a text says of a time; what it does not say is filled in.
#[derive(Debug, Clone, Default, PartialEq)]
struct Parts {
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    hour: Option<i8>,
    minute: Option<i8>,
    second: Option<i8>,
    /// Nanoseconds and the number of digits written.
    fraction: Option<(i32, usize)>,
    is_afternoon: Option<bool>,
    offset: Option<Offset>,
}

impl Parts {
    /// `yyyy[-MM[-dd[THH[:mm[:ss[.fraction]]][offset]]]]`.
    fn iso(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut parts = Self { year: Some(digits(&mut rest, 4)?), ..Self::default() };
        if skip(&mut rest, '-') {
            parts.month = Some(digits(&mut rest, 2)?);
            if skip(&mut rest, '-') {
                parts.day = Some(digits(&mut rest, 2)?);
            }
        }
        if skip(&mut rest, 'T') || skip(&mut rest, ' ') {
            if !rest.is_empty() && !rest.starts_with(['Z', '+', '-']) {
                parts.hour = Some(digits(&mut rest, 2)?);
                if skip(&mut rest, ':') {
                    parts.minute = Some(digits(&mut rest, 2)?);
                    if skip(&mut rest, ':') {
                        parts.second = Some(digits(&mut rest, 2)?);
                        if skip(&mut rest, '.') || skip(&mut rest, ',') {
                            parts.fraction = Some(fraction(&mut rest)?);
                        }
                    }
                }
            }
            if let Some((offset, used)) = offset(rest) {
                parts.offset = Some(offset);
                rest = &rest[used..];
            }
        }
        rest.is_empty().then_some(parts)
    }

    /// Unix nanoseconds; `up`: the last one of the shortest unit that is given.
    fn resolve(&self, zone: &TimeZone, up: bool) -> Option<i64> {
        let date = Date::new(self.year.unwrap_or(1970), self.month.unwrap_or(1), self.day.unwrap_or(1)).ok()?;
        let hour = match (self.hour.unwrap_or(0), self.is_afternoon) {
            (12, Some(false)) => 0,
            (hour @ 1..=11, Some(true)) => hour + 12,
            (hour, _) => hour,
        };
        let (nanos, digits) = self.fraction.unwrap_or((0, 0));
        let time = Time::new(hour, self.minute.unwrap_or(0), self.second.unwrap_or(0).min(59), nanos).ok()?;
        let zone = self.offset.map_or_else(|| zone.clone(), TimeZone::fixed);
        let start = DateTime::from_parts(date, time).to_zoned(zone).ok()?;
        if !up {
            return nanoseconds(&start);
        }
        let width = match self {
            Self { fraction: Some(_), .. } if digits > 3 => return nanoseconds(&start),
            Self { fraction: Some(_), .. } => 1.millisecond(),
            Self { second: Some(_), .. } => 1.second(),
            Self { minute: Some(_), .. } => 1.minute(),
            Self { hour: Some(_), .. } => 1.hour(),
            Self { day: Some(_), .. } => 1.day(),
            Self { month: Some(_), .. } => 1.month(),
            _ => 1.year(),
        };
        last_of(&start, width)
    }
}

fn nanoseconds(time: &Zoned) -> Option<i64> {
    let ns = time.timestamp().as_nanosecond();
    Some(i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX }))
}

/// The last nanosecond of a unit that starts at a time.
fn last_of(start: &Zoned, width: Span) -> Option<i64> {
    match start.checked_add(width) {
        Ok(next) => nanoseconds(&next).map(|ns| ns.saturating_sub(1)),
        Err(_) => Some(i64::MAX),
    }
}

fn skip(rest: &mut &str, c: char) -> bool {
    rest.strip_prefix(c).map(|after| *rest = after).is_some()
}

fn digits<T: std::str::FromStr>(rest: &mut &str, count: usize) -> Option<T> {
    let taken = rest.get(..count)?;
    if !taken.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    *rest = &rest[count..];
    taken.parse().ok()
}

/// Nanoseconds of one to nine digits, and how many.
fn fraction(rest: &mut &str) -> Option<(i32, usize)> {
    let count = rest.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let value: i32 = rest[..count].parse().ok()?;
    *rest = &rest[count..];
    Some((value * 10i32.pow(9 - count as u32), count))
}

/// What a time in a query is read with.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    pub(crate) now_ms: i64,
    pub(crate) format: &'a Format,
    pub(crate) zone: &'a TimeZone,
}

impl Reader<'_> {
    /// Reads a time with date math (`now-1h/d`, `2024-01-01||+1M`) into Unix nanoseconds; `up`: what is not said, or
    /// rounded off, is filled up to the last nanosecond.
    pub(crate) fn read(&self, text: &str, up: bool) -> Result<i64, Error> {
        let failed = |what: &str| {
            let text = cut(text);
            Error::shard("parse_exception", format!("failed to parse date field [{text}]: [{what}]"))
        };
        if text.len() > TEXT_BYTES_MAX {
            return Err(failed("too long"));
        }
        let (anchor, math) = match text.strip_prefix("now") {
            Some(math) => (ms_to_ns(self.now_ms), math),
            None => {
                let (date, math) = text.split_once("||").unwrap_or((text, ""));
                let up = up && math.is_empty();
                let time = self.format.read(date, self.zone, up);
                (time.ok_or_else(|| failed("no such time in the format of the field"))?, math)
            }
        };
        if math.is_empty() {
            return Ok(anchor);
        }
        self.math(anchor, math, up).ok_or_else(|| failed("operator not supported for date math"))
    }

    fn math(&self, anchor: i64, math: &str, up: bool) -> Option<i64> {
        let start = Timestamp::from_nanosecond(i128::from(anchor)).ok()?;
        let mut time = start.to_zoned(self.zone.clone());
        let mut rest = math;
        let mut last = None;
        while let Some(operator) = rest.chars().next() {
            rest = rest.get(1..)?;
            last = None;
            let count = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: i64 = if count == 0 { 1 } else { rest[..count].parse().ok()? };
            rest = &rest[count..];
            let unit = rest.chars().next()?;
            rest = rest.get(1..)?;
            let span = Span::new();
            let amount = match operator {
                '+' => number,
                '-' => -number,
                '/' if count == 0 => 1,
                _ => return None,
            };
            let span = match unit {
                'y' => span.try_years(amount),
                'M' => span.try_months(amount),
                'w' => span.try_weeks(amount),
                'd' => span.try_days(amount),
                'h' | 'H' => span.try_hours(amount),
                'm' => span.try_minutes(amount),
                's' => span.try_seconds(amount),
                _ => return None,
            };
            let span = span.ok()?;
            if operator == '/' {
                let calendar = match unit {
                    'y' => Calendar::Year,
                    'M' => Calendar::Month,
                    'w' => Calendar::Week,
                    'd' => Calendar::Day,
                    'h' | 'H' => Calendar::Hour,
                    'm' => Calendar::Minute,
                    _ => Calendar::Second,
                };
                time = calendar.floor(&time)?;
                if up {
                    last = last_of(&time, span);
                    time = Timestamp::from_nanosecond(i128::from(last?)).ok()?.to_zoned(self.zone.clone());
                }
            } else {
                time = time.checked_add(span).ok()?;
            }
        }
        last.or_else(|| nanoseconds(&time))
    }
}

/// A unit of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calendar {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl Calendar {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "1s" | "second" => Self::Second,
            "1m" | "minute" => Self::Minute,
            "1h" | "hour" => Self::Hour,
            "1d" | "day" => Self::Day,
            "1w" | "week" => Self::Week,
            "1M" | "month" => Self::Month,
            "1q" | "quarter" => Self::Quarter,
            "1y" | "year" => Self::Year,
            _ => return None,
        })
    }

    fn span(self) -> Span {
        match self {
            Self::Second => 1.second(),
            Self::Minute => 1.minute(),
            Self::Hour => 1.hour(),
            Self::Day => 1.day(),
            Self::Week => 1.week(),
            Self::Month => 1.month(),
            Self::Quarter => 3.months(),
            Self::Year => 1.year(),
        }
    }

    /// Milliseconds that it has at least.
    fn least_ms(self) -> i64 {
        match self {
            Self::Second => 1000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 82_800_000,
            Self::Week => 7 * 86_000_000,
            Self::Month => 28 * 86_000_000,
            Self::Quarter => 89 * 86_000_000,
            Self::Year => 365 * 86_000_000,
        }
    }

    fn floor(self, time: &Zoned) -> Option<Zoned> {
        let date = time.date();
        let first = |month: i8| Date::new(date.year(), month, 1).ok();
        let day = match self {
            Self::Second | Self::Minute | Self::Hour => {
                let unit = match self {
                    Self::Second => jiff::Unit::Second,
                    Self::Minute => jiff::Unit::Minute,
                    _ => jiff::Unit::Hour,
                };
                let round = jiff::ZonedRound::new().smallest(unit).mode(jiff::RoundMode::Floor);
                return time.round(round).ok();
            }
            Self::Day => date,
            Self::Week => {
                let since_monday = i64::from(date.weekday().to_monday_zero_offset());
                date.checked_sub(since_monday.days()).ok()?
            }
            Self::Month => first(date.month())?,
            Self::Quarter => first((date.month() - 1) / 3 * 3 + 1)?,
            Self::Year => first(1)?,
        };
        day.to_zoned(time.time_zone().clone()).ok()
    }
}

/// The distance of the keys of a date histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interval {
    /// Milliseconds, more than 0.
    Fixed(i64),
    Calendar(Calendar),
}

impl Interval {
    pub(crate) fn fixed(text: &str) -> Result<Self, Error> {
        match duration_ms(text) {
            Some(ms) if ms > 0 => Ok(Self::Fixed(ms)),
            Some(_) => Err(Error::illegal("Zero or negative time interval not supported")),
            None => Err(Error::illegal(format!(
                "failed to parse setting [date_histogram.fixedInterval] with value [{}] as a time value: unit is \
                 missing or unrecognized",
                cut(text)
            ))),
        }
    }

    pub(crate) fn calendar(text: &str) -> Result<Self, Error> {
        Calendar::parse(text).map(Self::Calendar).ok_or_else(|| {
            Error::illegal(format!("The supplied interval [{}] could not be parsed as a calendar interval.", cut(text)))
        })
    }

    /// Milliseconds, those of an average unit of the calendar.
    pub(crate) fn about_ms(self) -> f64 {
        match self {
            Self::Fixed(ms) => ms as f64,
            Self::Calendar(Calendar::Month) => 30.436_875 * 86_400_000.0,
            Self::Calendar(Calendar::Quarter) => 91.310_625 * 86_400_000.0,
            Self::Calendar(Calendar::Year) => 365.2425 * 86_400_000.0,
            Self::Calendar(Calendar::Week) => 7.0 * 86_400_000.0,
            Self::Calendar(Calendar::Day) => 86_400_000.0,
            Self::Calendar(unit) => unit.least_ms() as f64,
        }
    }
}

/// Where the buckets of a date histogram begin.
#[derive(Debug, Clone)]
pub(crate) struct Rounding {
    pub(crate) interval: Interval,
    /// Milliseconds by which all keys are moved.
    pub(crate) offset_ms: i64,
    pub(crate) zone: TimeZone,
}

impl Rounding {
    /// The key of the bucket of a time; both Unix milliseconds.
    pub(crate) fn floor(&self, ms: i64) -> i64 {
        let moved = ms.saturating_sub(self.offset_ms);
        let key = match self.interval {
            Interval::Fixed(width) => {
                let shift = self.shift_ms(moved);
                let local = moved.saturating_add(shift);
                local.div_euclid(width).saturating_mul(width).saturating_sub(shift)
            }
            Interval::Calendar(unit) => Timestamp::from_millisecond(moved)
                .ok()
                .and_then(|t| unit.floor(&t.to_zoned(self.zone.clone())))
                .map_or(moved, |t| t.timestamp().as_millisecond()),
        };
        key.saturating_add(self.offset_ms)
    }

    /// The key after a key.
    pub(crate) fn next(&self, key: i64) -> i64 {
        match self.interval {
            Interval::Fixed(width) => {
                let next = key.saturating_add(width);
                // Where clocks change, the grid of local time goes on from where it stands.
                let aligned = self.floor(next.saturating_add(width / 2));
                if aligned > key { aligned } else { next }
            }
            Interval::Calendar(unit) => {
                let local = Timestamp::from_millisecond(key.saturating_sub(self.offset_ms)).ok();
                let next = local.and_then(|t| t.to_zoned(self.zone.clone()).checked_add(unit.span()).ok());
                let next = next.map(|t| t.timestamp().as_millisecond().saturating_add(self.offset_ms));
                next.filter(|n| *n > key).unwrap_or_else(|| key.saturating_add(unit.least_ms()))
            }
        }
    }

    /// At most so many keys lie between two times.
    pub(crate) fn keys_between(&self, first: i64, last: i64) -> u64 {
        let width = match self.interval {
            Interval::Fixed(ms) => ms,
            Interval::Calendar(unit) => unit.least_ms(),
        };
        (last.saturating_sub(first).max(0) / width) as u64 + 1
    }

    fn shift_ms(&self, ms: i64) -> i64 {
        if self.zone == TimeZone::UTC {
            return 0;
        }
        let offset = Timestamp::from_millisecond(ms).map(|t| self.zone.to_offset(t));
        offset.map_or(0, |o| i64::from(o.seconds()) * 1000)
    }
}

/// A duration like `30s`, `-1.5h`, `100ms` in milliseconds.
pub(crate) fn duration_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    let (sign, body) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    let digits = body.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let number: f64 = body[..digits].parse().ok()?;
    let unit = match &body[digits..] {
        "nanos" => 1e-6,
        "micros" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 6e4,
        "h" | "H" => 3.6e6,
        "d" => 8.64e7,
        "w" => 6.048e8,
        "" if number == 0.0 => 0.0,
        _ => return None,
    };
    let ms = sign * number * unit;
    (ms.abs() < 9e15).then_some(ms as i64)
}

#[cfg(test)]
mod tests;
