//! Streams of bits, most significant bit first, and the XOR coding of floats on them.

use super::DecodeError;

/// Appends bits to a byte vector; can be set down and taken up again.
#[derive(Debug, Clone, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    /// Unused low bits of the last byte.
    free: u8,
}

impl BitWriter {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends the low `n` bits (0 to 64) of `v`.
    pub(crate) fn put(&mut self, v: u64, n: u32) {
        let mut left = n;
        while left > 0 {
            if self.free == 0 {
                if self.bytes.len() == self.bytes.capacity() {
                    // A quarter at a time: there is one such vector for every active series.
                    self.bytes.reserve_exact((self.bytes.len() / 4).clamp(24, 4096));
                }
                self.bytes.push(0);
                self.free = 8;
            }
            let take = left.min(u32::from(self.free));
            let part = (v >> (left - take)) as u8 & (0xffu16 >> (8 - take)) as u8;
            let last = self.bytes.last_mut().expect("a byte was pushed when none was free");
            *last |= part << (u32::from(self.free) - take);
            self.free -= take as u8;
            left -= take;
        }
    }
}

/// Reads what [`BitWriter`] wrote.
#[derive(Debug, Clone)]
pub(crate) struct BitReader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// Reads `n` bits (0 to 64).
    pub(crate) fn get(&mut self, n: u32) -> Result<u64, DecodeError> {
        if n == 0 {
            return Ok(0);
        }
        let (byte, shift) = (self.at >> 3, (self.at & 7) as u32);
        let end = self.at + n as usize;
        if end > self.data.len() * 8 {
            return Err(DecodeError);
        }
        self.at = end;
        if let Some(window) = self.data.get(byte..byte + 8)
            && shift + n <= 64
        {
            let word = u64::from_be_bytes(window.try_into().expect("the window has eight bytes"));
            return Ok((word << shift) >> (64 - n));
        }
        let mut word = 0u128;
        for i in 0..9 {
            word = word << 8 | u128::from(self.data.get(byte + i).copied().unwrap_or(0));
        }
        Ok((word << (56 + shift) >> (128 - n)) as u64)
    }

    /// Reads one bit.
    pub(crate) fn bit(&mut self) -> Result<bool, DecodeError> {
        let byte = self.data.get(self.at >> 3).ok_or(DecodeError)?;
        let bit = byte >> (7 - (self.at & 7)) & 1;
        self.at += 1;
        Ok(bit == 1)
    }
}

/// State of the XOR coding: the value before and the window of its last difference.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct XorState {
    pub(crate) last: u64,
    leading: u8,
    /// Significant bits of the window, 0 before there is one.
    significant: u8,
}

impl XorState {
    /// State after a first value that is stored otherwise.
    pub(crate) fn starting_at(value: f64) -> Self {
        Self { last: value.to_bits(), leading: 0, significant: 0 }
    }

    /// Appends a value: `0` same, `10` inside the window, `11` with a new window.
    pub(crate) fn put(&mut self, out: &mut BitWriter, value: f64) {
        let bits = value.to_bits();
        let xor = bits ^ self.last;
        self.last = bits;
        if xor == 0 {
            out.put(0, 1);
            return;
        }
        let (leading, trailing) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        let window_trailing = 64 - u32::from(self.leading) - u32::from(self.significant);
        if self.significant != 0 && leading >= u32::from(self.leading) && trailing >= window_trailing {
            out.put(0b10, 2);
            out.put(xor >> window_trailing, u32::from(self.significant));
            return;
        }
        let significant = 64 - leading - trailing;
        out.put(0b11, 2);
        out.put(u64::from(leading), 5);
        out.put(u64::from(significant - 1), 6);
        out.put(xor >> trailing, significant);
        (self.leading, self.significant) = (leading as u8, significant as u8);
    }

    /// Reads the next value.
    pub(crate) fn get(&mut self, from: &mut BitReader<'_>) -> Result<f64, DecodeError> {
        if from.bit()? {
            if from.bit()? {
                self.leading = from.get(5)? as u8;
                self.significant = from.get(6)? as u8 + 1;
            }
            let used = u32::from(self.leading) + u32::from(self.significant);
            if self.significant == 0 || used > 64 {
                return Err(DecodeError);
            }
            self.last ^= from.get(u32::from(self.significant))? << (64 - used);
        }
        Ok(f64::from_bits(self.last))
    }
}
