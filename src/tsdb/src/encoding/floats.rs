//! A column of floats, lossless to the bit: NaN payloads, infinities, -0.0 and subnormals come back as they were.

use super::bits::{BitReader, BitWriter, XorState};
use super::ints::{PCO_COUNT_MIN, Sink, encode_last_ints, is_worth_it, read_ints};
use super::pco::{decode_pco, encode_pco};
use super::varint::{Reader, put_float, put_uvarint};
use super::{DecodeError, Effort};

/// All values have the same bits.
const CONSTANT: u8 = 0;
/// Whole numbers divided by a power of ten; what does not fit stands apart.
const SCALED: u8 = 1;
/// XOR with the value before.
const XOR: u8 = 2;
/// Eight bytes each.
const RAW: u8 = 3;
/// `pco`, up to the end of what is read.
const PCO: u8 = 4;
/// All values have the same bits, whose zeros at the end are not written.
const CONSTANT_SHORT: u8 = 5;

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
        let mut packed = vec![PCO];
        if encode_pco(values, &mut packed) && is_worth_it(packed.len(), other.len()) {
            other = packed;
        }
    }
    if !scaled || other.len() < out.len() - start {
        out.truncate(start);
        out.extend_from_slice(&other);
    }
}

/// Appends `count` floats to `out`.
pub(crate) fn decode_floats(from: &mut Reader<'_>, count: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    if count == 0 {
        return Ok(());
    }
    match from.u8()? {
        CONSTANT => {
            let v = f64::from_bits(from.u64()?);
            out.resize(out.len() + count, v);
            Ok(())
        }
        SCALED => decode_scaled(from, count, out),
        XOR => {
            let n = from.length(1)?;
            let mut bits = BitReader::new(from.bytes(n)?);
            if count > n * 8 {
                return Err(DecodeError);
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
                    *slot = state.get(&mut bits)?;
                }
                out.extend_from_slice(piece);
                left -= piece.len();
            }
            bits.check()
        }
        RAW => {
            let data = from.bytes(count.checked_mul(8).ok_or(DecodeError)?)?;
            out.extend(data.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().expect("chunks of eight bytes"))));
            Ok(())
        }
        PCO => {
            let data = from.bytes(from.rest().len())?;
            out.reserve(count);
            decode_pco(data, count, |piece| out.extend_from_slice(piece))
        }
        CONSTANT_SHORT => {
            let v = from.float()?;
            out.resize(out.len() + count, v);
            Ok(())
        }
        _ => Err(DecodeError),
    }
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
struct Whole<'a>(&'a mut Vec<f64>);

impl Sink for Whole<'_> {
    fn take(&mut self, piece: &mut [i64], mut each: impl FnMut(i64) -> i64) {
        self.0.extend(piece.iter().map(|v| each(*v) as f64));
    }
}

struct Divided<'a> {
    power: f64,
    out: &'a mut Vec<f64>,
}

impl Sink for Divided<'_> {
    fn take(&mut self, piece: &mut [i64], mut each: impl FnMut(i64) -> i64) {
        // Two loops, because only divisions that stand alone are done two at a time.
        for v in piece.iter_mut() {
            *v = each(*v);
        }
        self.out.extend(piece.iter().map(|v| *v as f64 / self.power));
    }
}

fn decode_scaled(from: &mut Reader<'_>, count: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    let power = *POWERS.get(usize::from(from.u8()?)).ok_or(DecodeError)?;
    let outliers = from.length(9)?;
    let mut patches = from.clone();
    for _ in 0..outliers {
        from.uvarint()?;
        from.u64()?;
    }
    let start = out.len();
    out.reserve(count);
    if power == 1.0 {
        read_ints(from, count, &mut Whole(out))?;
    } else {
        read_ints(from, count, &mut Divided { power, out })?;
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
