//! Sizes in bytes as Prometheus writes them: `512MB`, powers of 1024.

use std::fmt;

use crate::decode::{Decode, Encode, Sink, scalar_text};
use crate::yaml::{Node, Value};

/// A number of bytes. `KB` and `KiB` both mean 1024 bytes, as in Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize {
    bytes: i64,
}

const UNITS: [&str; 6] = ["KB", "MB", "GB", "TB", "PB", "EB"];

impl ByteSize {
    /// No bytes; most limits read it as "no limit".
    pub const ZERO: Self = Self { bytes: 0 };

    /// So many bytes.
    pub const fn from_bytes(bytes: i64) -> Self {
        Self { bytes }
    }

    /// So many times 1024 bytes.
    pub const fn kib(n: i64) -> Self {
        Self { bytes: n << 10 }
    }

    /// So many times 1024² bytes.
    pub const fn mib(n: i64) -> Self {
        Self { bytes: n << 20 }
    }

    /// So many times 1024³ bytes.
    pub const fn gib(n: i64) -> Self {
        Self { bytes: n << 30 }
    }

    /// The number of bytes; negative ones, which no section accepts, count as 0.
    pub const fn as_u64(self) -> u64 {
        if self.bytes < 0 { 0 } else { self.bytes.unsigned_abs() }
    }

    /// The number of bytes as written, which a section may still refuse for being negative.
    pub const fn as_i64(self) -> i64 {
        self.bytes
    }

    /// Reads numbers with units: `512MB`, `1GB512MB`, `1.5GiB`, `100B`; a bare number only when it is 0.
    ///
    /// Errors in the words of Prometheus: `units: unknown unit  in 100`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("units: invalid {text}");
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self::ZERO);
        }
        if rest.is_empty() {
            return Err(bad());
        }
        let mut total = 0.0_f64;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(end);
            let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let number: f64 = number.parse().map_err(|_| bad())?;
            let power = match unit {
                "B" => 0,
                _ => {
                    let short = unit.strip_suffix("iB").map_or_else(|| unit.to_owned(), |u| format!("{u}B"));
                    let found = UNITS.iter().position(|u| *u == short);
                    found.ok_or_else(|| format!("units: unknown unit {unit} in {text}"))? + 1
                }
            };
            total += number * 1024.0_f64.powi(i32::try_from(power).unwrap_or(0));
            rest = tail;
        }
        if total >= 9.2e18 {
            return Err(bad());
        }
        #[expect(clippy::cast_possible_truncation, reason = "checked to lie below 2^63")]
        let bytes = total as i64;
        Ok(Self { bytes: if negative { -bytes } else { bytes } })
    }
}

impl fmt::Display for ByteSize {
    /// Prints what [`ByteSize::parse`] reads back: units largest first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes == 0 {
            return f.write_str("0B");
        }
        if self.bytes < 0 {
            f.write_str("-")?;
        }
        let mut left = self.bytes.unsigned_abs();
        for (i, unit) in UNITS.iter().enumerate().rev() {
            let size = 1_u64 << (10 * (i + 1));
            if left >= size {
                write!(f, "{}{unit}", left / size)?;
                left %= size;
            }
        }
        if left > 0 {
            write!(f, "{left}B")?;
        }
        Ok(())
    }
}

impl Decode for ByteSize {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let text = scalar_text(node, "a size such as 512MB", sink)?;
        Self::parse(text).map_err(|message| sink.error(node.pos, message)).ok()
    }
}

impl Encode for ByteSize {
    fn encode(&self) -> Value {
        Value::Str(self.to_string())
    }

    fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        for (text, bytes, printed) in [
            ("0", 0, "0B"),
            ("100B", 100, "100B"),
            ("15MB", 15 << 20, "15MB"),
            ("15MiB", 15 << 20, "15MB"),
            ("1GB512MB", 1536 << 20, "1GB512MB"),
            ("1.5KB", 1536, "1KB512B"),
            ("-1GB", -(1 << 30), "-1GB"),
        ] {
            let size = ByteSize::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((size.as_i64(), size.to_string().as_str()), (bytes, printed), "{text}");
            assert_eq!(ByteSize::parse(printed).unwrap(), size, "{text}");
        }
    }

    #[test]
    fn refuses() {
        assert_eq!(ByteSize::parse("100").unwrap_err(), "units: unknown unit  in 100");
        for text in ["", "MB", "1XB", "1..2MB", "16EB", "1 MB"] {
            assert!(ByteSize::parse(text).is_err(), "{text}");
        }
    }
}
