//! Go's time: layouts such as `2006-01-02 15:04:05`, durations such as `1h2m3s`, and the values made of them.

use std::any::Any;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::functions::text;
use crate::value::{Object, Value};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A point in time with its zone, Go's `time.Time`.
#[derive(Debug, Clone)]
pub struct Time(pub Zoned);

/// A span of time in nanoseconds, Go's `time.Duration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duration(pub i64);

impl Time {
    /// From Unix nanoseconds, in UTC.
    pub fn from_unix_ns(ns: i64) -> Self {
        let timestamp = Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(Timestamp::UNIX_EPOCH);
        Self(timestamp.to_zoned(TimeZone::UTC))
    }

    /// Unix nanoseconds; saturates outside of the years 1677 to 2262.
    pub fn unix_ns(&self) -> i64 {
        let ns = self.0.timestamp().as_nanosecond();
        i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
    }

    /// The value for templates.
    pub fn into_value(self) -> Value {
        Value::object(self)
    }
}

impl Object for Time {
    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        let int = |n: i64| Some(Ok(Value::Int(n)));
        let ns = self.unix_ns();
        match name {
            "Format" => Some(text(name, arguments, 0).map(|layout| Value::from(format_layout(&self.0, layout)))),
            "String" => Some(Ok(Value::from(self.text()))),
            "Unix" => int(ns.div_euclid(1_000_000_000)),
            "UnixMilli" => int(ns.div_euclid(1_000_000)),
            "UnixMicro" => int(ns.div_euclid(1_000)),
            "UnixNano" => int(ns),
            "Year" => int(i64::from(self.0.year())),
            "Month" => int(i64::from(self.0.month())),
            "Day" => int(i64::from(self.0.day())),
            "Hour" => int(i64::from(self.0.hour())),
            "Minute" => int(i64::from(self.0.minute())),
            "Second" => int(i64::from(self.0.second())),
            "Nanosecond" => int(i64::from(self.0.subsec_nanosecond())),
            "YearDay" => int(i64::from(self.0.day_of_year())),
            "Weekday" => {
                let day = usize::try_from(self.0.weekday().to_monday_zero_offset()).unwrap_or(0);
                Some(Ok(Value::from(DAYS[day])))
            }
            "UTC" => Some(Ok(Self(self.0.with_time_zone(TimeZone::UTC)).into_value())),
            "Local" => Some(Ok(Self(self.0.with_time_zone(TimeZone::system())).into_value())),
            "IsZero" => Some(Ok(Value::Bool(self.0.year() == 1 && self.0.day_of_year() == 1))),
            "Add" | "Sub" => {
                let Some(Value::Object(other)) = arguments.first() else {
                    return Some(Err(format!("{name} needs a time or duration")));
                };
                if let Some(Duration(by)) = other.as_any().downcast_ref::<Duration>() {
                    let moved = Self::from_unix_ns(ns.saturating_add(*by));
                    return Some(Ok(Self(moved.0.with_time_zone(self.0.time_zone().clone())).into_value()));
                }
                match other.as_any().downcast_ref::<Self>() {
                    Some(other) => Some(Ok(Value::object(Duration(ns.saturating_sub(other.unix_ns()))))),
                    None => Some(Err(format!("{name} needs a time or duration"))),
                }
            }
            "Before" | "After" | "Equal" => {
                let Some(Value::Object(other)) = arguments.first() else {
                    return Some(Err(format!("{name} needs a time")));
                };
                let other = other.as_any().downcast_ref::<Self>()?.unix_ns();
                Some(Ok(Value::Bool(match name {
                    "Before" => ns < other,
                    "After" => ns > other,
                    _ => ns == other,
                })))
            }
            _ => None,
        }
    }

    fn text(&self) -> String {
        format_layout(&self.0, "2006-01-02 15:04:05.999999999 -0700 MST")
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn type_name(&self) -> &'static str {
        "time.Time"
    }
}

impl Object for Duration {
    fn call(&self, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
        let ns = self.0 as f64;
        Some(Ok(match name {
            "Seconds" => Value::Float(ns / 1e9),
            "Minutes" => Value::Float(ns / 6e10),
            "Hours" => Value::Float(ns / 3.6e12),
            "Milliseconds" => Value::Int(self.0 / 1_000_000),
            "Microseconds" => Value::Int(self.0 / 1_000),
            "Nanoseconds" => Value::Int(self.0),
            "String" => Value::from(self.text()),
            _ => return None,
        }))
    }

    fn text(&self) -> String {
        format_duration(self.0)
    }

    fn truth(&self) -> bool {
        self.0 != 0
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn type_name(&self) -> &'static str {
        "time.Duration"
    }
}

/// Nanoseconds as Go's `Duration.String`: `1h2m3.5s`, `150ms`, `0s`.
pub fn format_duration(ns: i64) -> String {
    if ns == 0 {
        return "0s".to_owned();
    }
    let sign = if ns < 0 { "-" } else { "" };
    let n = ns.unsigned_abs();
    let fraction = |whole: u64, part: u64, digits: usize| {
        let text = format!("{part:0digits$}");
        let text = text.trim_end_matches('0');
        if text.is_empty() { whole.to_string() } else { format!("{whole}.{text}") }
    };
    let body = if n < 1_000 {
        format!("{n}ns")
    } else if n < 1_000_000 {
        format!("{}µs", fraction(n / 1_000, n % 1_000, 3))
    } else if n < 1_000_000_000 {
        format!("{}ms", fraction(n / 1_000_000, n % 1_000_000, 6))
    } else {
        let seconds = n / 1_000_000_000;
        let tail = format!("{}s", fraction(seconds % 60, n % 1_000_000_000, 9));
        match (seconds / 3600, seconds / 60 % 60) {
            (0, 0) => tail,
            (0, minutes) => format!("{minutes}m{tail}"),
            (hours, minutes) => format!("{hours}h{minutes}m{tail}"),
        }
    };
    format!("{sign}{body}")
}

/// Nanoseconds of a text such as `-1.5h`, `1h15m30.918s`, `100ms` or `0`, as Go's `time.ParseDuration`.
pub fn parse_duration(source: &str) -> Option<i64> {
    let (negative, mut rest) = match source.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, source.strip_prefix('+').unwrap_or(source)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    let mut exact = 0i128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return None;
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        match number.parse::<i64>() {
            Ok(n) => exact += i128::from(n) * scale,
            Err(_) => total += format!("0{number}").parse::<f64>().ok()? * scale as f64,
        }
        rest = after;
    }
    if total.abs() > 9.3e18 {
        return None;
    }
    let n = i64::try_from(exact + total.round() as i128).ok()?;
    Some(if negative { -n } else { n })
}

/// The parts of a layout.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part<'a> {
    Literal(&'a str),
    LongYear,
    Year,
    LongMonth,
    ShortMonth,
    Month { padded: bool },
    LongWeekday,
    ShortWeekday,
    Day { pad: Option<char> },
    YearDay,
    Hour24,
    Hour12 { padded: bool },
    Minute { padded: bool },
    Second { padded: bool },
    Meridiem { upper: bool },
    Fraction { point: char, digits: usize, trim: bool },
    ZoneName,
    Offset { zulu: bool, colon: bool, minutes: bool, seconds: bool },
}

const PARTS: &[(&str, Part<'static>)] = &[
    ("January", Part::LongMonth),
    ("Monday", Part::LongWeekday),
    ("2006", Part::LongYear),
    ("Z07:00:00", Part::Offset { zulu: true, colon: true, minutes: true, seconds: true }),
    ("Z070000", Part::Offset { zulu: true, colon: false, minutes: true, seconds: true }),
    ("Z07:00", Part::Offset { zulu: true, colon: true, minutes: true, seconds: false }),
    ("Z0700", Part::Offset { zulu: true, colon: false, minutes: true, seconds: false }),
    ("Z07", Part::Offset { zulu: true, colon: false, minutes: false, seconds: false }),
    ("-07:00:00", Part::Offset { zulu: false, colon: true, minutes: true, seconds: true }),
    ("-070000", Part::Offset { zulu: false, colon: false, minutes: true, seconds: true }),
    ("-07:00", Part::Offset { zulu: false, colon: true, minutes: true, seconds: false }),
    ("-0700", Part::Offset { zulu: false, colon: false, minutes: true, seconds: false }),
    ("-07", Part::Offset { zulu: false, colon: false, minutes: false, seconds: false }),
    ("Jan", Part::ShortMonth),
    ("Mon", Part::ShortWeekday),
    ("MST", Part::ZoneName),
    ("002", Part::YearDay),
    ("__2", Part::YearDay),
    ("01", Part::Month { padded: true }),
    ("02", Part::Day { pad: Some('0') }),
    ("_2", Part::Day { pad: Some(' ') }),
    ("03", Part::Hour12 { padded: true }),
    ("04", Part::Minute { padded: true }),
    ("05", Part::Second { padded: true }),
    ("06", Part::Year),
    ("15", Part::Hour24),
    ("PM", Part::Meridiem { upper: true }),
    ("pm", Part::Meridiem { upper: false }),
    ("1", Part::Month { padded: false }),
    ("2", Part::Day { pad: None }),
    ("3", Part::Hour12 { padded: false }),
    ("4", Part::Minute { padded: false }),
    ("5", Part::Second { padded: false }),
];

fn parts(layout: &str) -> Vec<Part<'_>> {
    let mut out = Vec::new();
    let (mut literal, mut i) = (0, 0);
    while i < layout.len() {
        let rest = &layout[i..];
        let found = fraction_part(rest).or_else(|| {
            PARTS.iter().find(|(text, _)| rest.starts_with(text)).and_then(|(text, part)| {
                // `Jan` and `Mon` within a longer lower-case word are text.
                let word = matches!(part, Part::ShortMonth | Part::ShortWeekday)
                    && rest[3..].starts_with(|c: char| c.is_ascii_lowercase());
                (!word).then_some((text.len(), *part))
            })
        });
        match found {
            Some((length, part)) => {
                if literal < i {
                    out.push(Part::Literal(&layout[literal..i]));
                }
                out.push(part);
                i += length;
                literal = i;
            }
            None => i += rest.chars().next().map_or(1, char::len_utf8),
        }
    }
    if literal < layout.len() {
        out.push(Part::Literal(&layout[literal..]));
    }
    out
}

fn fraction_part(rest: &str) -> Option<(usize, Part<'static>)> {
    let point = rest.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digit = rest[1..].chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let digits = rest[1..].chars().take_while(|c| *c == digit).count();
    if rest[1 + digits..].starts_with(|c: char| c.is_ascii_digit()) || digits > 9 {
        return None;
    }
    Some((1 + digits, Part::Fraction { point, digits, trim: digit == '9' }))
}

/// Writes a time in a Go layout.
pub fn format_layout(time: &Zoned, layout: &str) -> String {
    let mut out = String::new();
    for part in parts(layout) {
        let month = usize::try_from(time.month() - 1).unwrap_or(0);
        let weekday = usize::try_from(time.weekday().to_monday_zero_offset()).unwrap_or(0);
        let hour12 = match time.hour() % 12 {
            0 => 12,
            h => h,
        };
        let numeral = |n: i8, padded: bool| if padded { format!("{n:02}") } else { n.to_string() };
        match part {
            Part::Literal(text) => out.push_str(text),
            Part::LongYear => out.push_str(&format!("{:04}", time.year())),
            Part::Year => out.push_str(&format!("{:02}", time.year().rem_euclid(100))),
            Part::LongMonth => out.push_str(MONTHS[month]),
            Part::ShortMonth => out.push_str(&MONTHS[month][..3]),
            Part::Month { padded } => out.push_str(&numeral(time.month(), padded)),
            Part::LongWeekday => out.push_str(DAYS[weekday]),
            Part::ShortWeekday => out.push_str(&DAYS[weekday][..3]),
            Part::Day { pad: Some('0') } => out.push_str(&numeral(time.day(), true)),
            Part::Day { pad: Some(_) } => out.push_str(&format!("{:>2}", time.day())),
            Part::Day { pad: None } => out.push_str(&time.day().to_string()),
            Part::YearDay => out.push_str(&format!("{:03}", time.day_of_year())),
            Part::Hour24 => out.push_str(&numeral(time.hour(), true)),
            Part::Hour12 { padded } => out.push_str(&numeral(hour12, padded)),
            Part::Minute { padded } => out.push_str(&numeral(time.minute(), padded)),
            Part::Second { padded } => out.push_str(&numeral(time.second(), padded)),
            Part::Meridiem { upper } => out.push_str(match (time.hour() >= 12, upper) {
                (true, true) => "PM",
                (false, true) => "AM",
                (true, false) => "pm",
                (false, false) => "am",
            }),
            Part::Fraction { point, digits, trim } => {
                let all = format!("{:09}", time.subsec_nanosecond());
                let mut shown = &all[..digits];
                if trim {
                    shown = shown.trim_end_matches('0');
                }
                if !shown.is_empty() {
                    out.push(point);
                    out.push_str(shown);
                }
            }
            Part::ZoneName => {
                let info = time.time_zone().to_offset_info(time.timestamp());
                out.push_str(info.abbreviation());
            }
            Part::Offset { zulu, colon, minutes, seconds } => {
                let offset = time.offset().seconds();
                if zulu && offset == 0 {
                    out.push('Z');
                    continue;
                }
                let n = offset.unsigned_abs();
                let mid = if colon { ":" } else { "" };
                out.push(if offset < 0 { '-' } else { '+' });
                out.push_str(&format!("{:02}", n / 3600));
                if minutes {
                    out.push_str(&format!("{mid}{:02}", n / 60 % 60));
                }
                if seconds {
                    out.push_str(&format!("{mid}{:02}", n % 60));
                }
            }
        }
    }
    out
}

/// Reads a time in a Go layout; without a zone in it, `zone` applies.
pub fn parse_layout(layout: &str, source: &str, zone: &TimeZone) -> Option<Zoned> {
    let mut rest = source;
    let (mut year, mut month, mut day, mut hour, mut minute, mut second, mut nanos) =
        (1i16, 1i8, 1i8, 0i8, 0i8, 0i8, 0i32);
    let (mut afternoon, mut offset) = (None, None);
    let layout_parts = parts(layout);
    for (i, part) in layout_parts.iter().enumerate() {
        match part {
            Part::Literal(text) => rest = rest.strip_prefix(text)?,
            Part::LongYear => year = i16::try_from(digits(&mut rest, 4, 4)?).ok()?,
            Part::Year => {
                let n = i16::try_from(digits(&mut rest, 2, 2)?).ok()?;
                year = if n >= 69 { 1900 + n } else { 2000 + n };
            }
            Part::LongMonth | Part::ShortMonth => {
                let long = matches!(part, Part::LongMonth);
                month = i8::try_from(name(&mut rest, &MONTHS, long)?).ok()? + 1;
            }
            Part::LongWeekday | Part::ShortWeekday => {
                name(&mut rest, &DAYS, matches!(part, Part::LongWeekday))?;
            }
            Part::Month { padded } => month = small(&mut rest, *padded)?,
            Part::Day { pad } => {
                if *pad == Some(' ') {
                    rest = rest.trim_start_matches(' ');
                }
                day = small(&mut rest, *pad == Some('0'))?;
            }
            Part::YearDay => return None,
            Part::Hour24 => hour = small(&mut rest, false)?,
            Part::Hour12 { padded } => hour = small(&mut rest, *padded)?,
            Part::Minute { padded } => minute = small(&mut rest, *padded)?,
            Part::Second { padded } => {
                second = small(&mut rest, *padded)?;
                // Go takes a fraction behind the seconds even when the layout has none.
                if !matches!(layout_parts.get(i + 1), Some(Part::Fraction { .. }))
                    && rest.starts_with(['.', ','])
                    && rest[1..].starts_with(|c: char| c.is_ascii_digit())
                {
                    nanos = fraction(&mut rest)?;
                }
            }
            Part::Fraction { .. } => {
                if rest.starts_with(['.', ',']) {
                    nanos = fraction(&mut rest)?;
                }
            }
            Part::Meridiem { .. } => {
                let text = rest.get(..2)?;
                afternoon = Some(match text.to_ascii_lowercase().as_str() {
                    "pm" => true,
                    "am" => false,
                    _ => return None,
                });
                rest = &rest[2..];
            }
            Part::ZoneName => {
                let end = rest.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(rest.len());
                if end < 3 {
                    return None;
                }
                rest = &rest[end..];
                offset = offset.or(Some(0));
            }
            Part::Offset { zulu, colon, minutes, seconds } => {
                if *zulu && let Some(after) = rest.strip_prefix('Z') {
                    rest = after;
                    offset = Some(0);
                    continue;
                }
                let sign = match rest.chars().next()? {
                    '+' => 1,
                    '-' => -1,
                    _ => return None,
                };
                rest = &rest[1..];
                let mut n = digits(&mut rest, 2, 2)? * 3600;
                for (wanted, scale) in [(*minutes, 60), (*seconds, 1)] {
                    if wanted {
                        if *colon {
                            rest = rest.strip_prefix(':')?;
                        }
                        n += digits(&mut rest, 2, 2)? * scale;
                    }
                }
                offset = Some(sign * n);
            }
        }
    }
    if !rest.is_empty() {
        return None;
    }
    match afternoon {
        Some(true) if hour < 12 => hour += 12,
        Some(false) if hour == 12 => hour = 0,
        _ => {}
    }
    let civil = jiff::civil::DateTime::new(year, month, day, hour, minute, second, nanos).ok()?;
    let zone = match offset {
        Some(0) => TimeZone::UTC,
        Some(seconds) => TimeZone::fixed(jiff::tz::Offset::from_seconds(seconds).ok()?),
        None => zone.clone(),
    };
    civil.to_zoned(zone).ok()
}

fn digits(rest: &mut &str, least: usize, most: usize) -> Option<i32> {
    let count = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if count < least {
        return None;
    }
    let (head, tail) = rest.split_at(count);
    *rest = tail;
    head.parse().ok()
}

fn small(rest: &mut &str, padded: bool) -> Option<i8> {
    i8::try_from(digits(rest, if padded { 2 } else { 1 }, 2)?).ok()
}

fn fraction(rest: &mut &str) -> Option<i32> {
    let body = &rest[1..];
    let count = body.bytes().take_while(u8::is_ascii_digit).count();
    let text = format!("{:0<9}", &body[..count.min(9)]);
    *rest = &body[count..];
    text.parse().ok()
}

fn name(rest: &mut &str, names: &[&str], long: bool) -> Option<usize> {
    let at = names.iter().position(|n| {
        let wanted = if long { n } else { &n[..3] };
        rest.get(..wanted.len()).is_some_and(|head| head.eq_ignore_ascii_case(wanted))
    })?;
    let length = if long { names[at].len() } else { 3 };
    *rest = &rest[length..];
    Some(at)
}
