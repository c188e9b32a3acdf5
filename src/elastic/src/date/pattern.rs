//! Formats of times in the letters of Java's `DateTimeFormatter`, as far as they are used for dates and clocks.

use jiff::Zoned;
use jiff::tz::Offset;

use super::{Parts, digits, fraction, offset};
use crate::Error;

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

#[derive(Debug, Clone, PartialEq)]
enum Item {
    Literal(String),
    /// A letter and how often it stands there.
    Letter(char, usize),
}

/// A pattern.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern(Vec<Item>);

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::illegal(format!("Invalid format: [{text}]: unknown pattern"));
        let mut items: Vec<Item> = Vec::new();
        let mut chars = text.chars().peekable();
        let literal = |items: &mut Vec<Item>, c: char| match items.last_mut() {
            Some(Item::Literal(last)) => last.push(c),
            _ => items.push(Item::Literal(c.to_string())),
        };
        while let Some(c) = chars.next() {
            match c {
                '\'' => {
                    if chars.peek() == Some(&'\'') {
                        chars.next();
                        literal(&mut items, '\'');
                        continue;
                    }
                    loop {
                        match chars.next().ok_or_else(bad)? {
                            '\'' => break,
                            c => literal(&mut items, c),
                        }
                    }
                }
                'y' | 'u' | 'M' | 'L' | 'd' | 'H' | 'h' | 'k' | 'm' | 's' | 'S' | 'n' | 'a' | 'E' | 'e' | 'X' | 'x'
                | 'Z' | 'z' | 'V' | 'D' | 'Q' => {
                    let mut count = 1;
                    while chars.peek() == Some(&c) {
                        chars.next();
                        count += 1;
                    }
                    items.push(Item::Letter(c, count));
                }
                c if c.is_ascii_alphabetic() => return Err(bad()),
                c => literal(&mut items, c),
            }
        }
        if items.iter().any(|i| matches!(i, Item::Letter(..))) { Ok(Self(items)) } else { Err(bad()) }
    }

    pub(super) fn print(&self, time: &Zoned) -> String {
        use std::fmt::Write;
        let mut out = String::new();
        for item in &self.0 {
            let Item::Letter(letter, count) = item else {
                if let Item::Literal(text) = item {
                    out.push_str(text);
                }
                continue;
            };
            let count = *count;
            let mut number = |n: i64| {
                // Writing to a string cannot fail.
                write!(out, "{n:0count$}").ok();
            };
            match letter {
                'y' | 'u' if count == 2 => number(i64::from(time.year().rem_euclid(100))),
                'y' | 'u' => number(i64::from(time.year())),
                'M' | 'L' if count >= 3 => {
                    let name = MONTHS[usize::from(time.month().unsigned_abs()) - 1];
                    out.push_str(if count == 3 { &name[..3] } else { name });
                }
                'M' | 'L' => number(i64::from(time.month())),
                'Q' => number(i64::from((time.month() - 1) / 3 + 1)),
                'D' => number(i64::from(time.day_of_year())),
                'd' => number(i64::from(time.day())),
                'H' => number(i64::from(time.hour())),
                'k' => number(i64::from(if time.hour() == 0 { 24 } else { time.hour() })),
                'h' => number(i64::from((time.hour() + 11) % 12 + 1)),
                'm' => number(i64::from(time.minute())),
                's' => number(i64::from(time.second())),
                'n' => number(i64::from(time.subsec_nanosecond())),
                'S' => {
                    let all = format!("{:09}", time.subsec_nanosecond());
                    out.push_str(&all[..count.min(9)]);
                }
                'a' => out.push_str(if time.hour() < 12 { "AM" } else { "PM" }),
                'E' => {
                    let name = DAYS[usize::from(time.weekday().to_monday_zero_offset().unsigned_abs())];
                    out.push_str(if count <= 3 { &name[..3] } else { name });
                }
                'e' => number(i64::from(time.weekday().to_monday_one_offset())),
                'X' => out.push_str(&offset_text(time.offset())),
                'x' | 'Z' => out.push_str(&offset_text(time.offset()).replace('Z', "+00:00").replace(':', "")),
                _ => out.push_str(time.time_zone().iana_name().unwrap_or("UTC")),
            }
        }
        out
    }

    /// Reads a text that has this form.
    pub(super) fn read(&self, text: &str) -> Option<Parts> {
        let mut rest = text;
        let mut parts = Parts::default();
        for item in &self.0 {
            match item {
                Item::Literal(text) => rest = rest.strip_prefix(text.as_str())?,
                Item::Letter(letter, count) => take(*letter, *count, &mut rest, &mut parts)?,
            }
        }
        rest.is_empty().then_some(parts)
    }
}

fn take(letter: char, count: usize, rest: &mut &str, parts: &mut Parts) -> Option<()> {
    // One letter stands for as many digits as there are.
    let width = |most: usize| match count {
        1 => rest.bytes().take(most).take_while(u8::is_ascii_digit).count(),
        n => n,
    };
    match letter {
        'y' | 'u' if count == 2 => parts.year = Some(2000 + digits::<i16>(rest, 2)?),
        'y' | 'u' => {
            let width = width(4);
            parts.year = Some(digits(rest, width)?);
        }
        'M' | 'L' if count >= 3 => {
            let of = |name: &str| rest.starts_with(if count == 3 { &name[..3] } else { name });
            let at = MONTHS.iter().position(|name| of(name))?;
            *rest = &rest[if count == 3 { 3 } else { MONTHS[at].len() }..];
            parts.month = Some(at as i8 + 1);
        }
        'E' => {
            let of = |name: &str| rest.starts_with(if count <= 3 { &name[..3] } else { name });
            let at = DAYS.iter().position(|name| of(name))?;
            *rest = &rest[if count <= 3 { 3 } else { DAYS[at].len() }..];
        }
        'a' => {
            let half = rest.get(..2)?;
            parts.is_afternoon = Some(match half {
                "AM" | "am" => false,
                "PM" | "pm" => true,
                _ => return None,
            });
            *rest = &rest[2..];
        }
        'S' => {
            if rest.bytes().take_while(u8::is_ascii_digit).count() < count {
                return None;
            }
            parts.fraction = Some(fraction(rest)?);
        }
        'X' | 'x' | 'Z' => {
            let (offset, used) = offset(rest)?;
            parts.offset = Some(offset);
            *rest = &rest[used..];
        }
        'M' | 'L' | 'd' | 'H' | 'h' | 'k' | 'm' | 's' => {
            let width = width(2);
            let value = Some(digits(rest, width)?);
            match letter {
                'M' | 'L' => parts.month = value,
                'd' => parts.day = value,
                'm' => parts.minute = value,
                's' => parts.second = value,
                _ => parts.hour = value,
            }
        }
        _ => return None,
    }
    Some(())
}

/// `Z` or `+01:00`.
pub(super) fn offset_text(offset: Offset) -> String {
    let seconds = offset.seconds();
    if seconds == 0 {
        return "Z".to_owned();
    }
    let (sign, all) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
    format!("{sign}{:02}:{:02}", all / 3600, all % 3600 / 60)
}
