//! Takes packed bits apart, 64 values at a time, with one straight piece of code for each width.

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
    ($words:ident, $base:ident, $($i:literal)*) => {
        [$($base.wrapping_add(one::<W, $i>($words) as i64),)*]
    };
}

#[inline(never)]
fn unpack_half<const W: usize>(packed: &[u8], base: i64) -> [i64; HALF] {
    let mut padded = [[0; 8]; W];
    let words = match packed.as_chunks::<8>().0.first_chunk::<W>() {
        Some(words) => words,
        None => {
            let n = packed.len().min(W * 8);
            padded.as_flattened_mut()[..n].copy_from_slice(&packed[..n]);
            &padded
        }
    };
    half!(
        words, base,
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36
        37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
    )
}

macro_rules! widths {
    ($width:ident, $packed:ident, $base:ident, $($w:literal)*) => {
        match $width {
            $($w => unpack_half::<$w>($packed, $base),)*
            _ => [$base; HALF],
        }
    };
}

/// 64 values: `base` and what stands in `width` bits (0 to 64) each at the beginning of `packed`. Where that ends
/// before, bits of zeros follow.
#[inline]
pub(crate) fn unpack(packed: &[u8], width: u32, base: i64) -> [i64; HALF] {
    widths!(
        width, packed, base,
        1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35
        36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64
    )
}
