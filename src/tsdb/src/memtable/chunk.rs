//! The open chunk: the float samples of one series and day as they arrive, compressed.

use trefoil_model::{SampleBuffer, TimeRange};

use crate::encoding::DecodeError;
use crate::encoding::bits::{BitReader, BitWriter, XorState};

/// Samples in ascending order of time: differences of time differences, XOR of values.
#[derive(Debug, Default)]
pub(crate) struct FloatChunk {
    bits: BitWriter,
    xor: XorState,
    first_t: i64,
    last_t: i64,
    last_delta: i64,
    count: u32,
}

impl FloatChunk {
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn first_t(&self) -> i64 {
        self.first_t
    }

    pub(crate) fn last_t(&self) -> i64 {
        self.last_t
    }

    /// Bits of the last value.
    pub(crate) fn last_bits(&self) -> u64 {
        self.xor.last
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.bits.capacity()
    }

    /// Appends a sample whose time is after the last one's.
    pub(crate) fn push(&mut self, t: i64, value: f64) {
        if self.count == 0 {
            self.first_t = t;
            self.bits.put(value.to_bits(), 64);
            self.xor = XorState::starting_at(value);
        } else {
            debug_assert!(t > self.last_t, "chunks take ascending times");
            let delta = t.wrapping_sub(self.last_t);
            put_time(&mut self.bits, delta.wrapping_sub(self.last_delta));
            self.last_delta = delta;
            self.xor.put(&mut self.bits, value);
        }
        self.last_t = t;
        self.count += 1;
    }

    /// Appends the samples inside `range` to the times and values of `out`, calling `each` with the index of every
    /// one that it appends.
    pub(crate) fn read(
        &self,
        range: TimeRange,
        out: &mut SampleBuffer,
        mut each: impl FnMut(u32, &mut SampleBuffer),
    ) -> Result<(), DecodeError> {
        if self.count == 0 || !range.overlaps(self.first_t, self.last_t) {
            return Ok(());
        }
        let mut bits = self.bits.reader();
        let (mut t, mut delta) = (self.first_t, 0i64);
        let mut value = f64::from_bits(bits.get(64)?);
        let mut xor = XorState::starting_at(value);
        for i in 0..self.count {
            if i > 0 {
                delta = delta.wrapping_add(get_time(&mut bits)?);
                t = t.wrapping_add(delta);
                value = xor.get(&mut bits)?;
            }
            if t >= range.end_ms {
                break;
            }
            if t >= range.start_ms {
                out.times.push(t);
                out.values.push(value);
                each(i, out);
            }
        }
        Ok(())
    }
}

/// Width of each class of time differences; the class is written in unary.
const WIDTHS: [u32; 4] = [7, 14, 20, 64];

fn put_time(bits: &mut BitWriter, dod: i64) {
    if dod == 0 {
        bits.put(0, 1);
        return;
    }
    let zigzag = crate::encoding::varint::zigzag(dod);
    for (class, width) in WIDTHS.iter().enumerate() {
        if *width == 64 || zigzag < 1 << width {
            // 10, 110, 1110, 1111
            let ones = class as u32 + 1;
            if ones == 4 {
                bits.put(0b1111, 4);
                bits.put(zigzag, *width);
            } else {
                let code: u64 = (1 << (ones + 1)) - 2;
                bits.put(code << *width | zigzag, ones + 1 + *width);
            }
            return;
        }
    }
}

fn get_time(bits: &mut BitReader<'_>) -> Result<i64, DecodeError> {
    if !bits.bit()? {
        return Ok(0);
    }
    let mut class = 0;
    while class < 3 && bits.bit()? {
        class += 1;
    }
    Ok(crate::encoding::varint::unzigzag(bits.get(WIDTHS[class])?))
}
