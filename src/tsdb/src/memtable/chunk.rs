//! The open chunk: the float samples of one series and day as they arrive, compressed.

use trefoil_model::{SampleBuffer, TimeRange};

use crate::encoding::DecodeError;
use crate::encoding::bits::{BitReader, BitWriter, XorState};
use crate::encoding::varint::{unzigzag, zigzag};

/// Samples between two marks. A mark takes 32 bytes, and a reader decodes half as many samples for nothing.
const MARK_SAMPLES: u32 = 256;
/// Samples that are decoded and then appended at once.
const PIECE: usize = 64;

/// Samples in ascending order of time: differences of time differences, XOR of values.
#[derive(Debug, Default)]
pub(crate) struct FloatChunk {
    bits: BitWriter,
    xor: XorState,
    first_t: i64,
    last_t: i64,
    last_delta: i64,
    count: u32,
    /// `None` while the chunk is short.
    marks: Option<Box<Marks>>,
}

/// Places where reading can begin: mark `i` stands before the sample `(i + 1) * MARK_SAMPLES`.
#[derive(Debug, Default)]
struct Marks(Vec<Mark>);

/// What a reader must know to go on from a place.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Time of the sample before.
    t: i64,
    delta: i32,
    /// Bit behind the sample before.
    at: u32,
    xor: XorState,
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
        let marks = |m: &Marks| size_of::<Marks>() + m.0.capacity() * size_of::<Mark>();
        self.bits.capacity() + self.marks.as_deref().map_or(0, marks)
    }

    /// Appends a sample whose time is after the last one's.
    pub(crate) fn push(&mut self, t: i64, value: f64) {
        if self.count == 0 {
            self.first_t = t;
            self.bits.put(value.to_bits(), 64);
            self.xor = XorState::starting_at(value);
        } else {
            debug_assert!(t > self.last_t, "chunks take ascending times");
            if self.count.is_multiple_of(MARK_SAMPLES) {
                self.mark();
            }
            let delta = t.wrapping_sub(self.last_t);
            put_time(&mut self.bits, delta.wrapping_sub(self.last_delta));
            self.last_delta = delta;
            self.xor.put(&mut self.bits, value);
        }
        self.last_t = t;
        self.count += 1;
    }

    fn mark(&mut self) {
        let (Ok(delta), Ok(at)) = (i32::try_from(self.last_delta), u32::try_from(self.bits.bit_len())) else { return };
        let marks = &mut self.marks.get_or_insert_default().0;
        // The first that cannot be made is the last: the place of a mark says which sample it is before.
        if marks.len() + 1 != (self.count / MARK_SAMPLES) as usize {
            return;
        }
        if marks.len() == marks.capacity() {
            marks.reserve_exact((marks.len() / 2).max(1));
        }
        marks.push(Mark { t: self.last_t, delta, at, xor: self.xor });
    }

    /// Appends the samples inside `range` to the times and values of `out`; returns the index of the first of them.
    pub(crate) fn read(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<u32, DecodeError> {
        if self.count == 0 || !range.overlaps(self.first_t, self.last_t) {
            return Ok(0);
        }
        let mut bits = self.bits.reader();
        let marks = self.marks.as_deref().map_or(&[][..], |m| &m.0);
        let (mut at, mut t, mut delta, mut xor);
        let (mut times, mut values) = ([0; PIECE], [0.0; PIECE]);
        let mut filled = 0;
        match marks.partition_point(|m| m.t < range.start_ms).checked_sub(1) {
            Some(i) => {
                let mark = &marks[i];
                bits.seek(mark.at as usize);
                at = (i as u32 + 1) * MARK_SAMPLES;
                (t, delta, xor) = (mark.t, i64::from(mark.delta), mark.xor);
            }
            None => {
                let first = f64::from_bits(bits.get(64));
                at = 1;
                (t, delta, xor) = (self.first_t, 0, XorState::starting_at(first));
                (times[0], values[0], filled) = (t, first, 1);
            }
        }
        if range.contains(self.first_t) && range.contains(self.last_t) {
            out.times.reserve(self.count as usize);
            out.values.reserve(self.count as usize);
        }
        let mut first = None;
        loop {
            let end = PIECE.min(filled + (self.count - at) as usize);
            for (time, value) in times[filled..end].iter_mut().zip(&mut values[filled..end]) {
                let (difference, window, used) = get_time(&mut bits);
                delta = delta.wrapping_add(difference);
                t = t.wrapping_add(delta);
                *time = t;
                *value = xor.get_at(&mut bits, window, used)?;
            }
            at += (end - filled) as u32;
            let begin = at - end as u32;
            let from = times[..end].partition_point(|t| *t < range.start_ms);
            let to = times[..end].partition_point(|t| *t < range.end_ms);
            if from < to {
                first.get_or_insert(begin + from as u32);
                out.times.extend_from_slice(&times[from..to]);
                out.values.extend_from_slice(&values[from..to]);
            }
            if to < end || at == self.count {
                break;
            }
            filled = 0;
        }
        bits.check()?;
        Ok(first.unwrap_or(0))
    }
}

/// Width of each class of time differences; the class is written in unary.
const WIDTHS: [u32; 4] = [7, 14, 20, 64];

fn put_time(bits: &mut BitWriter, dod: i64) {
    if dod == 0 {
        bits.put(0, 1);
        return;
    }
    let zigzag = zigzag(dod);
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

/// Reads the next time difference. Also what `bits` sees from where it is now, and how many of those bits belong to
/// what was read: the value stands in the same word.
#[inline]
fn get_time(bits: &mut BitReader<'_>) -> (i64, u64, u32) {
    let window = bits.peek();
    if window >> 63 == 0 {
        return (0, window, 1);
    }
    let ones = (!window).leading_zeros();
    if ones >= 4 {
        bits.skip(4);
        let zigzag = bits.get(64);
        return (unzigzag(zigzag), bits.peek(), 0);
    }
    let width = WIDTHS[ones as usize - 1];
    (unzigzag(window << (ones + 1) >> (64 - width)), window, ones + 1 + width)
}
