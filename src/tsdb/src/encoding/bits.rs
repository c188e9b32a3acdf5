//! Streams of bits, most significant bit first, and the XOR coding of floats on them.

use super::DecodeError;

/// Appends bits to a byte vector; can be set down and taken up again.
///
/// The last bits wait in a register: there is one writer for every active series, and most samples then touch no
/// memory but the writer itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct BitWriter {
    /// Whole words.
    bytes: Vec<u8>,
    /// The last bits, the newest lowest.
    pending: u64,
    /// How many bits are pending, below 64.
    pending_bits: u8,
}

impl BitWriter {
    /// A reader of what was written so far. Bits behind the last one are zeros.
    pub(crate) fn reader(&self) -> BitReader<'_> {
        let len = self.bytes.len() * 8 + usize::from(self.pending_bits).div_ceil(8) * 8;
        BitReader { data: &self.bytes, tail: self.tail(), at: 0, len }
    }

    /// Bytes that [`BitWriter::append_to`] appends.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + usize::from(self.pending_bits).div_ceil(8)
    }

    /// Appends what was written to `out`, the last byte filled up with zeros.
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
        out.extend_from_slice(&self.tail().to_be_bytes()[..usize::from(self.pending_bits).div_ceil(8)]);
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The pending bits, the oldest highest.
    fn tail(&self) -> u64 {
        if self.pending_bits == 0 { 0 } else { self.pending << (64 - self.pending_bits) }
    }

    /// Appends the low `n` bits (0 to 64) of `v`.
    #[inline]
    pub(crate) fn put(&mut self, v: u64, n: u32) {
        debug_assert!(n <= 64, "a word has 64 bits");
        if n == 0 {
            return;
        }
        let v = v & (u64::MAX >> (64 - n));
        let room = 64 - u32::from(self.pending_bits);
        if n < room {
            self.pending = self.pending << n | v;
            self.pending_bits += n as u8;
        } else {
            self.spill(v, n, room);
        }
    }

    /// Appends bits that fill the register.
    fn spill(&mut self, v: u64, n: u32, room: u32) {
        let over = n - room;
        let word = if room == 64 { v } else { self.pending << room | v >> over };
        if self.bytes.capacity() - self.bytes.len() < 8 {
            // A quarter at a time: there is one such vector for every active series.
            self.bytes.reserve_exact((self.bytes.len() / 4).clamp(24, 4096) & !7);
        }
        self.bytes.extend_from_slice(&word.to_be_bytes());
        // Below 64, because `room` is not 0.
        self.pending = v & !(u64::MAX << over);
        self.pending_bits = over as u8;
    }
}

/// Reads what [`BitWriter`] wrote.
#[derive(Debug, Clone)]
pub(crate) struct BitReader<'a> {
    data: &'a [u8],
    /// Up to 64 bits behind `data`.
    tail: u64,
    at: usize,
    /// Bits there are.
    len: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, tail: 0, at: 0, len: data.len() * 8 }
    }

    /// Reads `n` bits (0 to 64).
    #[inline]
    pub(crate) fn get(&mut self, n: u32) -> Result<u64, DecodeError> {
        if n == 0 {
            return Ok(0);
        }
        let (byte, shift) = (self.at >> 3, (self.at & 7) as u32);
        let end = self.at + n as usize;
        if end > self.len {
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
            word = word << 8 | u128::from(self.byte(byte + i).unwrap_or(0));
        }
        Ok((word << (56 + shift) >> (128 - n)) as u64)
    }

    /// Reads one bit.
    #[inline]
    pub(crate) fn bit(&mut self) -> Result<bool, DecodeError> {
        let byte = match self.data.get(self.at >> 3) {
            Some(byte) => *byte,
            None if self.at < self.len => self.byte(self.at >> 3).ok_or(DecodeError)?,
            None => return Err(DecodeError),
        };
        let bit = byte >> (7 - (self.at & 7)) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    fn byte(&self, i: usize) -> Option<u8> {
        match self.data.get(i) {
            Some(byte) => Some(*byte),
            None => self.tail.to_be_bytes().get(i - self.data.len()).copied(),
        }
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
    #[inline]
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
            let significant = u32::from(self.significant);
            if significant <= 62 {
                out.put(0b10 << significant | xor >> window_trailing, significant + 2);
            } else {
                out.put(0b10, 2);
                out.put(xor >> window_trailing, significant);
            }
            return;
        }
        let significant = 64 - leading - trailing;
        out.put(u64::from(0b11 << 11 | leading << 6 | (significant - 1)), 13);
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
