//! A column of floats, lossless to the bit: NaN payloads, infinities, -0.0 and subnormals come back as they were.

use std::ops::Range;

use super::bits::{BitReader, BitWriter, XorState};
use super::block::keep;
use super::ints::{PCO_COUNT_MIN, Sink, encode_last_ints, is_worth_it, read_ints};
use super::pco::{decode_pco, encode_pco};
use super::varint::{Reader, put_float, put_uvarint};
use super::wide::{Work, wide};
use super::{DecodeError, Effort};

/// All values have the same bits.
const CONSTANT: u8 = 0;
/// Whole numbers divided by a power of ten; what does not fit stands apart.
const SCALED: u8 = 1;
/// XOR with the value before.
const XOR: u8 = 2;
/// Eight bytes each.
const RAW: u8 = 3;
/// `pco`, one page, up to the end of what is read. Not written any more.
const PCO: u8 = 4;
/// All values have the same bits, whose zeros at the end are not written.
const CONSTANT_SHORT: u8 = 5;
/// `pco` in pages, up to the end of what is read.
const PCO_PAGES: u8 = 6;

/// Values that are appended at once.
const PIECE: usize = 64;

const EXPONENT_MAX: usize = 15;
const POWERS: [f64; EXPONENT_MAX + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Appends `values` in the smallest of the encodings that `effort` allows. The count is not stored. Whoever reads
/// them back must give the reader up to the end of the column and not beyond.
pub(crate) fn encode_floats(effort: Effort, values: &[f64], out: &mut Vec<u8>) {
    let Some(first) = values.first() else { return };
    if values.iter().all(|v| v.to_bits() == first.to_bits()) {
        out.push(CONSTANT_SHORT);
        put_float(out, *first);
        return;
    }
    let start = out.len();
    let scaled = encode_scaled(effort, values, out);
    // Below two bytes a value nothing else wins against exact integers.
    if scaled && out.len() - start <= values.len() * 2 {
        return;
    }
    let mut other = Vec::with_capacity(values.len() * 4);
    encode_xor(values, &mut other);
    if other.len() > 1 + values.len() * 8 {
        other.clear();
        other.push(RAW);
        for v in values {
            other.extend_from_slice(&v.to_bits().to_le_bytes());
        }
    }
    if effort == Effort::Merged && values.len() >= PCO_COUNT_MIN {
        let mut packed = vec![PCO_PAGES];
        if encode_pco(values, &mut packed) && is_worth_it(packed.len(), other.len()) {
            other = packed;
        }
    }
    if !scaled || other.len() < out.len() - start {
        out.truncate(start);
        out.extend_from_slice(&other);
    }
}

/// Appends those of the `count` floats that are `wanted` to `out`. Unless `needed`, 0 may stand for any value but a stale
/// marker.
pub(crate) fn decode_floats(
    from: &mut Reader<'_>,
    count: usize,
    wanted: &Range<usize>,
    needed: bool,
    out: &mut Vec<f64>,
) -> Result<(), DecodeError> {
    if count == 0 {
        return Ok(());
    }
    let start = out.len();
    match from.u8()? {
        CONSTANT => {
            let v = f64::from_bits(from.u64()?);
            out.resize(start + wanted.len(), v);
            Ok(())
        }
        CONSTANT_SHORT => {
            let v = from.float()?;
            out.resize(start + wanted.len(), v);
            Ok(())
        }
        SCALED => {
            wide(DecodeScaled { from, count, wanted, needed, out })?;
            keep(out, start, wanted);
            Ok(())
        }
        XOR => {
            let n = from.length(1)?;
            let mut bits = BitReader::new(from.bytes(n)?);
            if count > n * 8 {
                return Err(DecodeError);
            }
            decode_xor(&mut bits, wanted.end, out)?;
            keep(out, start, wanted);
            Ok(())
        }
        RAW => {
            let data = from.bytes(count.checked_mul(8).ok_or(DecodeError)?)?;
            let float = |c: &[u8]| f64::from_le_bytes(c.try_into().expect("chunks of eight bytes"));
            out.extend(data[wanted.start * 8..wanted.end * 8].chunks_exact(8).map(float));
            Ok(())
        }
        form @ (PCO | PCO_PAGES) => {
            let data = from.bytes(from.rest().len())?;
            out.reserve(wanted.len());
            decode_pco(data, form == PCO_PAGES, count, wanted, |first, piece| {
                let (from, to) = (wanted.start.max(first), wanted.end.min(first + piece.len()));
                out.extend_from_slice(piece.get(from - first..to - first).unwrap_or_default());
            })
        }
        _ => Err(DecodeError),
    }
}

/// Appends the first `count` of a stream.
fn decode_xor(bits: &mut BitReader<'_>, count: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    if count == 0 {
        return Ok(());
    }
    out.reserve(count);
    let first = f64::from_bits(bits.get(64));
    out.push(first);
    let mut state = XorState::starting_at(first);
    let mut piece = [0.0; PIECE];
    let mut left = count - 1;
    while left > 0 {
        let piece = &mut piece[..left.min(PIECE)];
        for slot in &mut *piece {
            *slot = state.get(bits)?;
        }
        out.extend_from_slice(piece);
        left -= piece.len();
    }
    bits.check()
}

fn encode_xor(values: &[f64], out: &mut Vec<u8>) {
    let mut bits = BitWriter::default();
    bits.put(values[0].to_bits(), 64);
    let mut state = XorState::starting_at(values[0]);
    for v in &values[1..] {
        state.put(&mut bits, *v);
    }
    out.push(XOR);
    put_uvarint(out, bits.len() as u64);
    bits.append_to(out);
}

/// The whole number that stands for `v` at this exponent, if it gives back `v` bit for bit.
fn scale(v: f64, exponent: usize) -> Option<i64> {
    let m = (v * POWERS[exponent]).round();
    // The comparison is false for NaN, which is what we want.
    let fits = m.abs() < EXACT_MAX;
    (fits && (m as i64 as f64 / POWERS[exponent]).to_bits() == v.to_bits()).then_some(m as i64)
}

/// scaled := exponent u8, outliers uvarint, (distance uvarint, bits u64le)*, integers
fn encode_scaled(effort: Effort, values: &[f64], out: &mut Vec<u8>) -> bool {
    let outliers_max = 1 + values.len() / 16;
    let mut exponent = 0;
    let mut misses = 0;
    for v in values {
        if scale(*v, exponent).is_some() {
            continue;
        }
        match (exponent + 1..=EXPONENT_MAX).find(|e| scale(*v, *e).is_some()) {
            Some(e) => exponent = e,
            None => {
                misses += 1;
                if misses > outliers_max {
                    return false;
                }
            }
        }
    }
    let mut outliers: Vec<usize> = Vec::new();
    let mut ints = Vec::with_capacity(values.len());
    let mut last = 0;
    for (i, v) in values.iter().enumerate() {
        match scale(*v, exponent) {
            Some(m) => last = m,
            None => {
                outliers.push(i);
                if outliers.len() > outliers_max {
                    return false;
                }
            }
        }
        ints.push(last);
    }
    out.push(SCALED);
    out.push(exponent as u8);
    put_uvarint(out, outliers.len() as u64);
    let mut before = 0;
    for i in outliers {
        put_uvarint(out, (i - before) as u64);
        before = i;
        out.extend_from_slice(&values[i].to_bits().to_le_bytes());
    }
    encode_last_ints(effort, &ints, out);
    true
}

/// Makes floats of whole numbers.
struct Whole<'a>(&'a mut [f64]);

impl Sink for Whole<'_> {
    #[inline(always)]
    fn take(&mut self, piece: &mut [i64]) {
        put_floats(piece, next(&mut self.0, piece.len()), |v| v);
    }
}

/// Divides whole numbers by a power of ten.
struct Divided<'a> {
    power: f64,
    inverse: Inverse,
    room: &'a mut [f64],
}

impl Sink for Divided<'_> {
    #[inline(always)]
    fn take(&mut self, piece: &mut [i64]) {
        let Self { power, inverse, ref mut room } = *self;
        let out = next(room, piece.len());
        if inverse.first != 0.0 && are_below::<{ Inverse::BITS }>(piece) {
            put_floats(piece, out, |v| inverse.times(v));
        } else {
            put_floats(piece, out, |v| v / power);
        }
    }
}

/// What stands for one by a power of ten, so that multiplying gives what the slower division gives, to the bit.
///
/// The first two summands have 26 bits: their products with whole numbers of [`Inverse::BITS`] bits are exact. So
/// before the last addition the result is off by less than 2^-77 of itself. No quotient of such a number by a power
/// of ten up to 10^6 lies in the middle between two neighbouring floats, nor nearer to there than 2^-74 of itself: the
/// last addition rounds as the division does.
#[derive(Debug, Clone, Copy)]
struct Inverse {
    /// 0 when there is none.
    first: f64,
    second: f64,
    third: f64,
}

impl Inverse {
    const BITS: u32 = 26;
    const EXPONENT_MAX: usize = 6;

    const fn of(exponent: usize) -> Self {
        if exponent == 0 || exponent > Self::EXPONENT_MAX {
            return Self { first: 0.0, second: 0.0, third: 0.0 };
        }
        let power = POWERS[exponent];
        let first = first_bits(1.0 / power);
        // Exact, as the remainder of a division is.
        let rest = 1.0 - first * power;
        let second = first_bits(rest / power);
        Self { first, second, third: (rest - second * power) / power }
    }

    #[inline(always)]
    fn times(self, v: f64) -> f64 {
        v * self.first + (v * self.second + v * self.third)
    }
}

/// Cut to 26 bits.
const fn first_bits(v: f64) -> f64 {
    f64::from_bits(v.to_bits() & !((1 << 27) - 1))
}

static INVERSES: [Inverse; EXPONENT_MAX + 1] = {
    let mut all = [Inverse::of(0); EXPONENT_MAX + 1];
    let mut i = 0;
    while i < all.len() {
        all[i] = Inverse::of(i);
        i += 1;
    }
    all
};

/// Whether all values are at least -2^`BITS` and below 2^`BITS`.
#[inline(always)]
fn are_below<const BITS: u32>(values: &[i64]) -> bool {
    values.iter().fold(0, |all, v| all | v.wrapping_add(1 << BITS) as u64) >> (BITS + 1) == 0
}

/// Cuts the next `n` places off, or what is left.
#[inline(always)]
fn next<'a>(room: &mut &'a mut [f64], n: usize) -> &'a mut [f64] {
    let whole = std::mem::take(room);
    let (head, rest) = whole.split_at_mut(n.min(whole.len()));
    *room = rest;
    head
}

/// Writes what `each` makes of whole numbers.
#[inline(always)]
fn put_floats(values: &[i64], out: &mut [f64], each: impl Fn(f64) -> f64) {
    /// 2^52 + 2^51: near it the last bit of a float is worth one.
    const UNIT: f64 = 6_755_399_441_055_744.0;
    // Converting takes one number at a time before AVX-512; this does not.
    if are_below::<50>(values) {
        for (out, v) in out.iter_mut().zip(values) {
            *out = each(f64::from_bits(v.wrapping_add(UNIT.to_bits() as i64) as u64) - UNIT);
        }
    } else {
        for (out, v) in out.iter_mut().zip(values) {
            *out = each(*v as f64);
        }
    }
}

struct DecodeScaled<'a, 'b> {
    from: &'a mut Reader<'b>,
    count: usize,
    wanted: &'a Range<usize>,
    needed: bool,
    out: &'a mut Vec<f64>,
}

impl Work for DecodeScaled<'_, '_> {
    type Output = Result<(), DecodeError>;

    #[inline(always)]
    fn run(self) -> Result<(), DecodeError> {
        decode_scaled(self.from, self.count, self.wanted, self.needed, self.out)
    }
}

#[inline(always)]
fn decode_scaled(
    from: &mut Reader<'_>,
    count: usize,
    wanted: &Range<usize>,
    needed: bool,
    out: &mut Vec<f64>,
) -> Result<(), DecodeError> {
    let exponent = usize::from(from.u8()?);
    let power = *POWERS.get(exponent).ok_or(DecodeError)?;
    let outliers = from.length(9)?;
    let mut patches = from.clone();
    for _ in 0..outliers {
        from.uvarint()?;
        from.u64()?;
    }
    let start = out.len();
    out.resize(start + count, 0.0);
    let room = &mut out[start..];
    if !needed {
        // No whole number is a stale marker.
    } else if power == 1.0 {
        read_ints(from, count, wanted, &mut Whole(room))?;
    } else {
        read_ints(from, count, wanted, &mut Divided { power, inverse: INVERSES[exponent], room })?;
    }
    let mut at = 0usize;
    for _ in 0..outliers {
        at = usize::try_from(patches.uvarint()?).ok().and_then(|d| at.checked_add(d)).ok_or(DecodeError)?;
        let v = f64::from_bits(patches.u64()?);
        *out.get_mut(start + at).ok_or(DecodeError)? = v;
    }
    Ok(())
}

/// The form of a column, for measurements: the number of its encoding and those of the columns in it.
pub(crate) fn describe_floats(data: &[u8]) -> String {
    let mut from = Reader::new(data);
    let form = from.u8().unwrap_or(u8::MAX);
    if form != SCALED {
        return format!("{form}");
    }
    let outliers = from.u8().and_then(|_| from.uvarint()).unwrap_or(0);
    for _ in 0..outliers {
        if from.uvarint().and_then(|_| from.u64()).is_err() {
            break;
        }
    }
    let integers = from.u8().unwrap_or(u8::MAX);
    format!("{form} with integers {integers}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ints: &[i64]) {
        for (exponent, power) in POWERS.iter().enumerate().skip(1) {
            let mut out = vec![0.0; ints.len()];
            Divided { power: *power, inverse: INVERSES[exponent], room: &mut out }.take(&mut ints.to_vec());
            for (v, float) in ints.iter().zip(out) {
                assert_eq!(float.to_bits(), (*v as f64 / power).to_bits(), "{v} / {power}");
            }
        }
    }

    #[test]
    fn multiplying_gives_what_division_gives() {
        let max = 1i64 << Inverse::BITS;
        check(&(-2000..2000).collect::<Vec<_>>());
        check(&(0..4000).map(|i| max - 1 - i).collect::<Vec<_>>());
        check(&(0..4000).map(|i| i - max).collect::<Vec<_>>());
        let step = 997;
        for start in (-max..max).step_by(step * 64) {
            let piece: Vec<i64> = (0..64).map(|i| start + i * step as i64).filter(|v| *v < max).collect();
            check(&piece);
        }
    }

    #[test]
    fn wide_integers_become_floats() {
        let edges = [0i64, -1, 1, 1 << 26, 1 << 50, 1 << 51, 1 << 52, (1 << 53) - 1, i64::MAX, i64::MIN];
        for edge in edges {
            for v in [edge.wrapping_sub(1), edge, edge.wrapping_add(1), edge.wrapping_neg()] {
                check(&[v]);
                let mut out = [0.0; 2];
                Whole(&mut out).take(&mut [v, 0]);
                assert_eq!(out.map(f64::to_bits), [(v as f64).to_bits(), 0]);
            }
        }
    }
}
