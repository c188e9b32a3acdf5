//! Durations as Prometheus writes them: `1h30m`, `15d`, `500ms`.

use std::fmt;
use std::time::Duration;

use crate::decode::{Decode, Encode, Sink, scalar_text};
use crate::yaml::{Node, Value};

/// A span of time in whole milliseconds, never negative, at most about 292 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PromDuration {
    ms: i64,
}

/// Units with their length in milliseconds, longest first, which is the order in which they must stand.
const UNITS: [(&str, i64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
/// Prometheus counts nanoseconds in 64 bits.
const MS_MAX: i64 = i64::MAX / 1_000_000;

impl PromDuration {
    /// No time at all.
    pub const ZERO: Self = Self { ms: 0 };

    /// A duration in milliseconds; negative ones count as zero.
    pub const fn from_ms(ms: i64) -> Self {
        Self { ms: if ms < 0 { 0 } else { ms } }
    }

    /// A duration in seconds.
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_ms(secs.saturating_mul(1_000))
    }

    /// A duration in days of 24 hours.
    pub const fn from_days(days: i64) -> Self {
        Self::from_ms(days.saturating_mul(86_400_000))
    }

    /// Length in milliseconds, not negative.
    pub const fn as_ms(self) -> i64 {
        self.ms
    }

    /// Length as the standard library's type.
    pub const fn as_std(self) -> Duration {
        Duration::from_millis(self.ms.unsigned_abs())
    }

    /// True for no time at all.
    pub const fn is_zero(self) -> bool {
        self.ms == 0
    }

    /// Reads `0`, or numbers with the units `y w d h m s ms`, each at most once and in this order.
    ///
    /// Errors in the words of Prometheus: `not a valid duration string: "-1h"`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("not a valid duration string: {text:?}");
        match text {
            "" => return Err("empty duration string".to_owned()),
            "0" => return Ok(Self::ZERO),
            _ => {}
        }
        let mut rest = text;
        let mut units = UNITS.as_slice();
        let mut total: i64 = 0;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let name = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (unit, tail) = tail.split_at(name);
            let index = units.iter().position(|(u, _)| *u == unit).ok_or_else(bad)?;
            if number.is_empty() {
                return Err(bad());
            }
            let (_, ms) = units[index];
            units = &units[index + 1..];
            let part = number.parse::<i64>().ok().and_then(|n| n.checked_mul(ms));
            total = part.and_then(|p| total.checked_add(p)).ok_or("duration out of range")?;
            rest = tail;
        }
        if total > MS_MAX {
            return Err("duration out of range".to_owned());
        }
        Ok(Self { ms: total })
    }
}

impl fmt::Display for PromDuration {
    /// Prints what [`PromDuration::parse`] reads back; years and weeks only when they go in evenly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ms == 0 {
            return f.write_str("0s");
        }
        let mut left = self.ms;
        for (unit, ms) in UNITS {
            let exact_only = matches!(unit, "y" | "w");
            if left >= ms && (!exact_only || left % ms == 0) {
                write!(f, "{}{unit}", left / ms)?;
                left %= ms;
            }
        }
        Ok(())
    }
}

impl Decode for PromDuration {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let text = scalar_text(node, "a duration such as 1m30s", sink)?;
        Self::parse(text).map_err(|message| sink.error(node.pos, message)).ok()
    }
}

impl Encode for PromDuration {
    fn encode(&self) -> Value {
        Value::Str(self.to_string())
    }

    fn is_empty(&self) -> bool {
        self.ms == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, ms: i64, printed: &str) {
        let duration = PromDuration::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(duration.as_ms(), ms, "{text}");
        assert_eq!(duration.to_string(), printed, "{text}");
    }

    #[test]
    fn reads_and_prints() {
        check("0", 0, "0s");
        check("0s", 0, "0s");
        check("324ms", 324, "324ms");
        check("3s", 3_000, "3s");
        check("5m", 300_000, "5m");
        check("4d1h", 349_200_000, "4d1h");
        check("14d", 1_209_600_000, "2w");
        check("3w", 1_814_400_000, "3w");
        check("3w2d1h", 1_990_800_000, "23d1h");
        check("10y", 315_360_000_000, "10y");
        check("1h30m", 5_400_000, "1h30m");
    }

    #[test]
    fn refuses() {
        for text in ["", "1", "-1h", "1.5d", "d", "1h1h", "1m1h", "1 h", "294y", "9999999999999999999s"] {
            assert!(PromDuration::parse(text).is_err(), "{text}");
        }
        assert_eq!(PromDuration::parse("-1h").unwrap_err(), "not a valid duration string: \"-1h\"");
    }
}
