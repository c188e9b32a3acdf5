//! Takes packed bits apart, 64 values at a time, with one straight piece of code for each width.

use super::wide::{Work, wide};

/// Values in a group.
pub(crate) const GROUP: usize = 128;
/// Values that are unpacked at once.
pub(crate) const HALF: usize = 64;

/// Value `I` of 64 that take `W` bits each, low bit first.
#[inline(always)]
fn one<const W: usize, const I: usize>(words: &[[u8; 8]; W]) -> u64 {
    let (at, shift) = (I * W / 64, I * W % 64);
    let low = u64::from_le_bytes(words[at]) >> shift;
    let both = if shift + W > 64 { low | u64::from_le_bytes(words[at + 1]) << (64 - shift) } else { low };
    both & (u64::MAX >> (64 - W))
}

macro_rules! half {
    ($words:ident, $base:ident, $out:ident, $($i:literal)*) => {
        *$out = [$($base.wrapping_add(one::<W, $i>($words) as i64),)*]
    };
}

struct Unpack<'a, const W: usize> {
    words: &'a [[u8; 8]; W],
    base: i64,
    out: &'a mut [i64; HALF],
}

impl<const W: usize> Work for Unpack<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { words, base, out } = self;
        half!(
            words, base, out,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36
            37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
        )
    }
}

#[inline(never)]
fn unpack_half<const W: usize>(packed: &[u8], base: i64, out: &mut [i64; HALF]) {
    let mut padded = [[0; 8]; W];
    let words = match packed.as_chunks::<8>().0.first_chunk::<W>() {
        Some(words) => words,
        None => {
            let n = packed.len().min(W * 8);
            padded.as_flattened_mut()[..n].copy_from_slice(&packed[..n]);
            &padded
        }
    };
    wide(Unpack { words, base, out });
}

macro_rules! widths {
    ($width:ident, $packed:ident, $base:ident, $out:ident, $($w:literal)*) => {
        match $width {
            $($w => unpack_half::<$w>($packed, $base, $out),)*
            _ => *$out = [$base; HALF],
        }
    };
}

/// 64 values: `base` and what stands in `width` bits (0 to 64) each at the beginning of `packed`. Where that ends
/// before, bits of zeros follow.
#[inline]
pub(crate) fn unpack(packed: &[u8], width: u32, base: i64, out: &mut [i64; HALF]) {
    widths!(
        width, packed, base, out,
        1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35
        36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<const W: usize>() {
        let words: [[u8; 8]; W] = std::array::from_fn(|i| {
            (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(W as u32).to_le_bytes()
        });
        let (mut plain, mut wide) = ([0; HALF], [0; HALF]);
        Unpack { words: &words, base: -7, out: &mut plain }.run();
        unpack(words.as_flattened(), W as u32, -7, &mut wide);
        assert_eq!(plain, wide, "{W} bits");
        let bits = |i: usize| {
            let bit = |b: usize| u64::from(words[b / 64][b / 8 % 8] >> (b % 8) & 1);
            (0..W).fold(0, |v, b| v | bit(i * W + b) << b)
        };
        let slow: [i64; HALF] = std::array::from_fn(|i| (bits(i) as i64).wrapping_sub(7));
        assert_eq!(plain, slow, "{W} bits");
    }

    #[test]
    fn all_processors_unpack_alike() {
        macro_rules! widths {
            ($($w:literal)*) => { $(check::<$w>();)* };
        }
        widths!(1 2 3 4 5 7 8 9 12 13 16 17 23 24 31 32 33 40 47 48 55 56 57 61 62 63 64);
    }
}
