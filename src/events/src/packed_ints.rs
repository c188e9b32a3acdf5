//! Whole numbers in frames of 128, each with its least value and the bits that the rest needs.
//!
//! `frame := least uvarint | bits u8 | values, `bits` each, least significant bit first, filled up to a byte`.

use crate::wire::{Cursor, Malformed, put_u64};

const FRAME: usize = 128;

/// Appends numbers.
pub(crate) fn put(out: &mut Vec<u8>, values: &[u64]) {
    for frame in values.chunks(FRAME) {
        let least = frame.iter().copied().min().unwrap_or(0);
        let greatest = frame.iter().copied().max().unwrap_or(0);
        let bits = 64 - (greatest - least).leading_zeros();
        put_u64(out, least);
        out.push(bits as u8);
        // At most 63 bits wait when a value of up to 64 comes.
        let (mut word, mut filled) = (0u128, 0u32);
        for value in frame {
            word |= u128::from(value - least) << filled;
            filled += bits;
            while filled >= 8 {
                out.push(word as u8);
                word >>= 8;
                filled -= 8;
            }
        }
        if filled > 0 {
            out.push(word as u8);
        }
    }
}

/// Reads `count` numbers.
pub(crate) fn read(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<u64>, Malformed> {
    // A frame has at least two bytes.
    if count.div_ceil(FRAME) > cursor.remaining() {
        return Err(Malformed("packed numbers"));
    }
    let mut out = Vec::with_capacity(count);
    let mut left = count;
    while left > 0 {
        let len = left.min(FRAME);
        left -= len;
        let (least, bits) = (cursor.u64()?, u32::from(cursor.u8()?));
        if bits > 64 {
            return Err(Malformed("packed numbers"));
        }
        let bytes = cursor.take((len * bits as usize).div_ceil(8))?;
        if bits == 0 {
            out.resize(out.len() + len, least);
        } else if bits <= 56 {
            unpack(bytes, bits, len, least, &mut out);
        } else {
            unpack_wide(bytes, bits, len, least, &mut out);
        }
    }
    Ok(out)
}

/// For up to 56 bits: every value lies within eight bytes.
fn unpack(bytes: &[u8], bits: u32, len: usize, least: u64, out: &mut Vec<u64>) {
    let mask = (1u64 << bits) - 1;
    out.extend((0..len).map(|i| {
        let at = i * bits as usize;
        let (byte, shift) = (at / 8, at % 8);
        let word = match bytes.get(byte..byte + 8) {
            Some(eight) => u64::from_le_bytes(eight.try_into().expect("eight bytes")),
            None => {
                let mut eight = [0; 8];
                let rest = &bytes[byte..];
                eight[..rest.len()].copy_from_slice(rest);
                u64::from_le_bytes(eight)
            }
        };
        least.wrapping_add(word >> shift & mask)
    }));
}

fn unpack_wide(bytes: &[u8], bits: u32, len: usize, least: u64, out: &mut Vec<u64>) {
    let mask = u64::MAX >> (64 - bits);
    let (mut word, mut filled, mut bytes) = (0u128, 0u32, bytes.iter());
    for _ in 0..len {
        while filled < bits {
            word |= u128::from(bytes.next().copied().unwrap_or(0)) << filled;
            filled += 8;
        }
        out.push(least.wrapping_add(word as u64 & mask));
        word >>= bits;
        filled -= bits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for bits in 0..=64u32 {
            for count in [0usize, 1, 2, 127, 128, 129, 300] {
                let top = if bits == 0 { 0 } else { u64::MAX >> (64 - bits) };
                let values: Vec<u64> =
                    (0..count as u64).map(|i| 7u64.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) & top).collect();
                let mut out = Vec::new();
                put(&mut out, &values);
                let mut cursor = Cursor::new(&out);
                assert_eq!(read(&mut cursor, count).unwrap(), values, "{bits} bits, {count} values");
                assert!(cursor.is_empty());
                if !out.is_empty() {
                    assert!(read(&mut Cursor::new(&out[..out.len() - 1]), count).is_err());
                }
            }
        }
    }
}
