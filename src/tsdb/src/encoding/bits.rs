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
        let (words, _) = self.bytes.as_chunks::<8>();
        BitReader { words, tail: self.tail(), at: 0, len: self.bit_len() }
    }

    /// Number of bits that were written.
    pub(crate) fn bit_len(&self) -> usize {
        self.bytes.len() * 8 + usize::from(self.pending_bits)
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
///
/// It may be led past the end, where there are zeros; [`BitReader::check`] tells. So whoever reads many values asks
/// once, behind the last.
#[derive(Debug, Clone)]
pub(crate) struct BitReader<'a> {
    words: &'a [[u8; 8]],
    /// Up to 64 bits behind `words`, the first one highest.
    tail: u64,
    at: usize,
    /// Bits there are.
    len: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        let (words, rest) = data.as_chunks::<8>();
        let tail = rest.iter().zip((0..8).rev()).fold(0, |tail, (byte, i)| tail | u64::from(*byte) << (8 * i));
        Self { words, tail, at: 0, len: data.len() * 8 }
    }

    /// The bits from here on, the next one highest.
    #[inline]
    pub(crate) fn peek(&self) -> u64 {
        let (word, shift) = (self.at / 64, self.at % 64);
        let (high, low) = match self.words.get(word..word + 2) {
            Some([high, low]) => (u64::from_be_bytes(*high), u64::from_be_bytes(*low)),
            _ => self.last_words(word),
        };
        // Two shifts, because none may be by 64.
        high << shift | low >> 1 >> (63 - shift)
    }

    #[inline(never)]
    fn last_words(&self, word: usize) -> (u64, u64) {
        let get = |i: usize| match self.words.get(i) {
            Some(bytes) => u64::from_be_bytes(*bytes),
            None if i == self.words.len() => self.tail,
            None => 0,
        };
        (get(word), get(word + 1))
    }

    /// Moves on by `n` bits.
    #[inline]
    pub(crate) fn skip(&mut self, n: u32) {
        self.at += n as usize;
    }

    /// Reads `n` bits (1 to 64).
    #[inline]
    pub(crate) fn get(&mut self, n: u32) -> u64 {
        debug_assert!(0 < n && n <= 64, "a word has 64 bits");
        let bits = self.peek() >> (64 - n);
        self.skip(n);
        bits
    }

    /// Goes to a bit of what was written.
    pub(crate) fn seek(&mut self, at: usize) {
        self.at = at;
    }

    /// Errors when more was read than there is.
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        if self.at <= self.len { Ok(()) } else { Err(DecodeError) }
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

    /// Reads the next value. Behind the end it repeats the last one.
    #[inline]
    pub(crate) fn get(&mut self, from: &mut BitReader<'_>) -> Result<f64, DecodeError> {
        let window = from.peek();
        self.get_at(from, window, 0)
    }

    /// Reads the next value, which begins `used` (below 64) bits behind where `from` is; `window` is what that sees.
    #[inline]
    pub(crate) fn get_at(
        &mut self,
        from: &mut BitReader<'_>,
        mut window: u64,
        mut used: u32,
    ) -> Result<f64, DecodeError> {
        if used > 64 - 13 {
            from.skip(used);
            (window, used) = (from.peek(), 0);
        }
        let code = window << used;
        if code >> 63 == 0 {
            from.skip(used + 1);
            return Ok(f64::from_bits(self.last));
        }
        if code >> 62 == 0b11 {
            self.leading = (code >> 57) as u8 & 31;
            self.significant = (code >> 51) as u8 & 63;
            self.significant += 1;
            used += 13;
        } else {
            used += 2;
        }
        let (leading, significant) = (u32::from(self.leading), u32::from(self.significant));
        if significant == 0 || leading + significant > 64 {
            return Err(DecodeError);
        }
        if used + significant > 64 {
            from.skip(used);
            (window, used) = (from.peek(), 0);
        }
        let bits = window << used >> (64 - significant);
        self.last ^= bits << (64 - leading - significant);
        from.skip(used + significant);
        Ok(f64::from_bits(self.last))
    }
}
