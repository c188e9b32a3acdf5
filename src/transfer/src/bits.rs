//! Bits, highest first, as the chunks of Prometheus have them (`tsdb/docs/format/chunks.md`).

use crate::cursor::Malformed;

const SHORT: Malformed = Malformed("ends within a sample");
/// Widths of the variable numbers behind 1 to 8 one-bits.
const WIDTHS: [u32; 8] = [3, 6, 9, 12, 18, 25, 56, 64];

/// Reads bits from the front.
#[derive(Debug, Clone)]
pub(crate) struct BitReader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// Bits that are left.
    pub(crate) fn remaining(&self) -> usize {
        self.data.len() * 8 - self.at
    }

    pub(crate) fn bit(&mut self) -> Result<bool, Malformed> {
        let byte = self.data.get(self.at / 8).ok_or(SHORT)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// Up to 64 bits.
    pub(crate) fn bits(&mut self, n: u32) -> Result<u64, Malformed> {
        if n as usize > self.remaining() {
            return Err(SHORT);
        }
        let mut value = 0u64;
        let mut left = n as usize;
        while left > 0 {
            let within = self.at % 8;
            let take = left.min(8 - within);
            let byte = u64::from(self.data[self.at / 8]);
            let part = byte >> (8 - within - take) & ((1 << take) - 1);
            // `take` is 8 at most, so that the shift stays within the word.
            value = value << take | part;
            self.at += take;
            left -= take;
        }
        Ok(value)
    }

    /// One-bits before the first zero, `max` at most (then there is no zero).
    pub(crate) fn ones(&mut self, max: u32) -> Result<u32, Malformed> {
        let mut n = 0;
        while n < max && self.bit()? {
            n += 1;
        }
        Ok(n)
    }

    pub(crate) fn float(&mut self) -> Result<f64, Malformed> {
        self.bits(64).map(f64::from_bits)
    }

    /// LEB128 in the bit stream.
    pub(crate) fn uvarint(&mut self) -> Result<u64, Malformed> {
        let mut v = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.bits(8)?;
            v |= (b & 0x7f) << shift;
            if b < 0x80 {
                return Ok(v);
            }
        }
        Err(Malformed("has a number of more than ten bytes"))
    }

    pub(crate) fn varint(&mut self) -> Result<i64, Malformed> {
        let v = self.uvarint()?;
        Ok((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    /// A signed number of `n` bits whose range is shifted by one: -(2^(n-1) - 1) to 2^(n-1).
    pub(crate) fn shifted(&mut self, n: u32) -> Result<i64, Malformed> {
        let bits = self.bits(n)?;
        Ok(if n < 64 && bits > 1 << (n - 1) { bits.wrapping_sub(1 << n) as i64 } else { bits as i64 })
    }

    /// `<varbit_int>`.
    pub(crate) fn varbit_int(&mut self) -> Result<i64, Malformed> {
        match self.ones(8)? {
            0 => Ok(0),
            n => self.shifted(WIDTHS[n as usize - 1]),
        }
    }

    /// `<varbit_uint>`.
    pub(crate) fn varbit_uint(&mut self) -> Result<u64, Malformed> {
        match self.ones(8)? {
            0 => Ok(0),
            n => self.bits(WIDTHS[n as usize - 1]),
        }
    }

    /// A count of things that take at least one bit each.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let n = self.varbit_uint()?;
        match usize::try_from(n) {
            Ok(n) if n <= self.remaining() => Ok(n),
            _ => Err(Malformed("has a count that does not fit")),
        }
    }
}

/// A value that is coded as the XOR with the one before.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct XorValue {
    pub(crate) bits: u64,
    leading: u32,
    trailing: u32,
}

impl XorValue {
    pub(crate) fn new(value: f64) -> Self {
        Self { bits: value.to_bits(), leading: 0, trailing: 0 }
    }

    pub(crate) fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }

    /// `<varbit_xor>`: 0, or 1 and a change.
    pub(crate) fn read(&mut self, from: &mut BitReader<'_>) -> Result<(), Malformed> {
        if from.bit()? {
            if from.bit()? { self.read_new_window(from) } else { self.read_same_window(from) }
        } else {
            Ok(())
        }
    }

    pub(crate) fn read_same_window(&mut self, from: &mut BitReader<'_>) -> Result<(), Malformed> {
        let change = from.bits(64 - self.leading - self.trailing)?;
        self.bits ^= change << self.trailing;
        Ok(())
    }

    pub(crate) fn read_new_window(&mut self, from: &mut BitReader<'_>) -> Result<(), Malformed> {
        let leading = from.bits(5)? as u32;
        let significant = match from.bits(6)? as u32 {
            0 => 64,
            n => n,
        };
        if leading + significant > 64 {
            return Err(Malformed("has a value of more than 64 bits"));
        }
        self.leading = leading;
        self.trailing = 64 - leading - significant;
        self.read_same_window(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_highest_first() {
        let mut r = BitReader::new(&[0b1010_0001, 0b1111_0000]);
        assert_eq!((r.bit(), r.bits(3), r.bits(6)), (Ok(true), Ok(0b010), Ok(0b000_111)));
        assert_eq!((r.ones(8), r.remaining()), (Ok(2), 3));
        assert!(r.bits(4).is_err());
    }

    #[test]
    fn shifted_numbers_end_at_their_power() {
        // Three bits: 0b100 is 4, 0b101 is -3.
        let mut r = BitReader::new(&[0b1010_0101, 0b0100_0000]);
        assert_eq!((r.varbit_int(), r.varbit_int(), r.varbit_int()), (Ok(4), Ok(-3), Ok(0)));
    }
}
