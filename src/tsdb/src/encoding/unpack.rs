//! Takes packed bits apart, 64 values at a time, with one straight piece of code for each width.

/// Values in a group.
pub(crate) const GROUP: usize = 128;
const HALF: usize = 64;

/// Value `I` of 64 that take `W` bits each, low bit first.
#[inline(always)]
fn one<const W: usize, const I: usize>(words: &[[u8; 8]; W]) -> u64 {
    let (at, shift) = (I * W / 64, I * W % 64);
    let low = u64::from_le_bytes(words[at]) >> shift;
    let both = if shift + W > 64 { low | u64::from_le_bytes(words[at + 1]) << (64 - shift) } else { low };
    both & (u64::MAX >> (64 - W))
}

macro_rules! half {
    ($words:ident, $out:ident, $base:ident, $($i:literal)*) => {
        $($out[$i] = $base.wrapping_add(one::<W, $i>($words) as i64);)*
    };
}

#[inline(never)]
fn unpack_half<const W: usize>(words: &[[u8; 8]], base: i64, out: &mut [i64; HALF]) {
    let Some(words) = words.first_chunk::<W>() else { return };
    half!(
        words, out, base,
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36
        37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
    );
}

macro_rules! widths {
    ($width:ident, $words:ident, $base:ident, $out:ident, $($w:literal)*) => {
        match $width {
            $($w => unpack_half::<$w>($words, $base, $out),)*
            _ => $out.fill($base),
        }
    };
}

/// Adds `base` to each of 128 values of `width` bits (0 to 64) from `packed`, which has 16 bytes for each bit of the
/// width (what is missing counts as not there: the values are then not specified).
pub(crate) fn unpack(packed: &[u8], width: u32, base: i64, out: &mut [i64; GROUP]) {
    let (words, _) = packed.as_chunks::<8>();
    let (first, second) = words.split_at(words.len().min(width as usize));
    let (low, high) = out.split_at_mut(HALF);
    for (words, half) in [(first, low), (second, high)] {
        let half: &mut [i64; HALF] = half.try_into().expect("half a group has 64 values");
        widths!(
            width, words, base, half,
            1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35
            36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64
        );
    }
}
