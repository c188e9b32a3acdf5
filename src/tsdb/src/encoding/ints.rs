//! A column of integers: the values, their differences or the differences of those, bit-packed in groups with
//! outliers kept apart ("patched frame of reference").

use super::DecodeError;
use super::varint::{Reader, put_ivarint, put_uvarint};

const GROUP: usize = 128;
const PLAIN: u8 = 0;
const DELTA: u8 = 1;
const DELTA2: u8 = 2;

/// Appends `values` in the smallest of the three forms. The count is not stored. All arithmetic wraps, so that
/// every column has an encoding.
pub(crate) fn encode_ints(values: &[i64], out: &mut Vec<u8>) {
    let start = out.len();
    let mut deltas = Vec::with_capacity(values.len());
    deltas.extend(values.windows(2).map(|w| w[1].wrapping_sub(w[0])));
    encode_as(DELTA, &values[..values.len().min(1)], &deltas, out);
    if deltas.is_empty() {
        return;
    }
    if deltas.iter().all(|d| *d == deltas[0]) {
        return;
    }
    let mut other = Vec::with_capacity(out.len() - start);
    encode_as(PLAIN, &[], values, &mut other);
    keep_smaller(out, start, &other);
    let first_delta = deltas[0];
    let mut before = deltas[0];
    for d in &mut deltas[1..] {
        let now = *d;
        *d = now.wrapping_sub(before);
        before = now;
    }
    other.clear();
    encode_as(DELTA2, &[values[0], first_delta], &deltas[1..], &mut other);
    keep_smaller(out, start, &other);
}

fn keep_smaller(out: &mut Vec<u8>, start: usize, other: &[u8]) {
    if other.len() < out.len() - start {
        out.truncate(start);
        out.extend_from_slice(other);
    }
}

fn encode_as(form: u8, heads: &[i64], tail: &[i64], out: &mut Vec<u8>) {
    out.push(form);
    for h in heads {
        put_ivarint(out, *h);
    }
    for group in tail.chunks(GROUP) {
        encode_group(group, out);
    }
}

/// group := width u8, outliers u8, base ivarint, packed bits, (position u8, high bits uvarint)*
fn encode_group(group: &[i64], out: &mut Vec<u8>) {
    let mut sorted = [0i64; GROUP];
    let sorted = &mut sorted[..group.len()];
    sorted.copy_from_slice(group);
    sorted.sort_unstable();
    let (mut base, mut width) = (sorted[0], 0);
    let mut best = usize::MAX;
    for candidate in [0, 1, group.len() / 16, group.len() / 8] {
        let candidate = sorted[candidate.min(group.len() - 1)];
        let (w, cost) = best_width(group, candidate);
        if cost < best {
            (best, base, width) = (cost, candidate, w);
        }
    }
    let outliers = group.iter().filter(|v| bits_of(v.wrapping_sub(base) as u64) > width).count();
    out.push(width as u8);
    out.push(outliers as u8);
    put_ivarint(out, base);
    pack(group.iter().map(|v| v.wrapping_sub(base) as u64), width, out);
    if outliers > 0 {
        for (i, v) in group.iter().enumerate() {
            let offset = v.wrapping_sub(base) as u64;
            if bits_of(offset) > width {
                out.push(i as u8);
                put_uvarint(out, offset >> width);
            }
        }
    }
}

/// The bit width that makes the group smallest with this base, and the bytes it takes.
fn best_width(group: &[i64], base: i64) -> (u32, usize) {
    let mut counts = [0u32; 65];
    for v in group {
        counts[bits_of(v.wrapping_sub(base) as u64) as usize] += 1;
    }
    let widest = counts.iter().rposition(|c| *c > 0).unwrap_or(0) as u32;
    let mut best = (widest, (group.len() * widest as usize).div_ceil(8));
    for width in 0..widest {
        let mut bytes = (group.len() * width as usize).div_ceil(8);
        for bits in width + 1..=widest {
            bytes += counts[bits as usize] as usize * (1 + (bits - width).div_ceil(7) as usize);
        }
        if bytes < best.1 {
            best = (width, bytes);
        }
    }
    best
}

fn bits_of(v: u64) -> u32 {
    64 - v.leading_zeros()
}

/// Packs the low `width` bits of each value, least significant bit first.
fn pack(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let mask = u64::MAX >> (64 - width);
    let (mut acc, mut filled) = (0u128, 0u32);
    for v in values {
        acc |= u128::from(v & mask) << filled;
        filled += width;
        while filled >= 8 {
            out.push(acc as u8);
            acc >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(acc as u8);
    }
}

/// Appends `count` integers to `out`.
pub(crate) fn decode_ints(from: &mut Reader<'_>, count: usize, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    let form = from.u8()?;
    if count == 0 {
        return Ok(());
    }
    let start = out.len();
    match form {
        PLAIN => decode_groups(from, count, out),
        DELTA => {
            let mut last = from.ivarint()?;
            out.push(last);
            decode_groups(from, count - 1, out)?;
            for v in &mut out[start + 1..] {
                last = last.wrapping_add(*v);
                *v = last;
            }
            Ok(())
        }
        DELTA2 => {
            let mut last = from.ivarint()?;
            out.push(last);
            if count == 1 {
                return Ok(());
            }
            let mut delta = from.ivarint()?;
            last = last.wrapping_add(delta);
            out.push(last);
            decode_groups(from, count - 2, out)?;
            for v in &mut out[start + 2..] {
                delta = delta.wrapping_add(*v);
                last = last.wrapping_add(delta);
                *v = last;
            }
            Ok(())
        }
        _ => Err(DecodeError),
    }
}

fn decode_groups(from: &mut Reader<'_>, count: usize, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    // A group of nothing but its head takes three bytes: a count that cannot be true allocates nothing.
    if count.div_ceil(GROUP).saturating_mul(3) > from.rest().len() {
        return Err(DecodeError);
    }
    out.reserve(count);
    let mut left = count;
    while left > 0 {
        let n = left.min(GROUP);
        decode_group(from, n, out)?;
        left -= n;
    }
    Ok(())
}

fn decode_group(from: &mut Reader<'_>, n: usize, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    let width = u32::from(from.u8()?);
    let outliers = from.u8()?;
    let base = from.ivarint()?;
    if width > 64 {
        return Err(DecodeError);
    }
    let start = out.len();
    if width == 0 {
        out.resize(start + n, base);
    } else {
        let packed = from.bytes((n * width as usize).div_ceil(8))?;
        // Sixteen bytes of zeros behind the packed ones let every value be read as one whole word.
        let mut padded = [0u8; GROUP * 8 + 16];
        padded[..packed.len()].copy_from_slice(packed);
        let mask = u64::MAX >> (64 - width);
        if width <= 56 {
            out.extend((0..n).map(|i| {
                let bit = i * width as usize;
                base.wrapping_add(((word(&padded, bit >> 3) >> (bit & 7)) & mask) as i64)
            }));
        } else {
            out.extend((0..n).map(|i| {
                let bit = i * width as usize;
                let (low, high) = (word(&padded, bit >> 3), word(&padded, (bit >> 3) + 8));
                let both = u128::from(high) << 64 | u128::from(low);
                base.wrapping_add(((both >> (bit & 7)) as u64 & mask) as i64)
            }));
        }
    }
    for _ in 0..outliers {
        let i = usize::from(from.u8()?);
        let high = from.uvarint()?;
        if i >= n || width == 64 || high.leading_zeros() < width {
            return Err(DecodeError);
        }
        out[start + i] = out[start + i].wrapping_add((high << width) as i64);
    }
    Ok(())
}

fn word(bytes: &[u8; GROUP * 8 + 16], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the slice has eight bytes"))
}
