//! Columns of an index whose values have only as many bits as the part needs, with access to each.

use crate::encoding::DecodeError;

/// Width and base of a column.
const HEAD_BYTES: usize = 9;
/// Behind the values, so that each can be read as a whole word.
const TAIL_BYTES: usize = 8;
/// Wider values are not found in one word at every bit; they get a word each.
const PACKED_WIDTH_MAX: u32 = 56;

/// The dictionary of pairs is not used: a pair is a value.
const PAIRS_DIRECT: u8 = 0;
/// A value is the number of a pair in a dictionary.
const PAIRS_DICTIONARY: u8 = 1;

/// Appends a column: width u8 (bits), smallest value u64le, the differences to it, low bit first, eight bytes 0.
pub(crate) fn put_column(values: &[u64], out: &mut Vec<u8>) {
    let base = values.iter().copied().min().unwrap_or(0);
    let span = values.iter().copied().max().unwrap_or(0) - base;
    let width = match bits_of(span) {
        width if width > PACKED_WIDTH_MAX => 64,
        width => width,
    };
    out.push(width as u8);
    out.extend_from_slice(&base.to_le_bytes());
    let (mut word, mut filled) = (0u128, 0);
    for v in values {
        word |= u128::from(v - base) << filled;
        filled += width;
        while filled >= 8 {
            out.push(word as u8);
            word >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(word as u8);
    }
    out.extend_from_slice(&[0; TAIL_BYTES]);
}

/// The value with the number `at` of a column.
pub(crate) fn get(column: &[u8], at: u32) -> Result<u64, DecodeError> {
    let (head, values) = column.split_at_checked(HEAD_BYTES).ok_or(DecodeError)?;
    let width = usize::from(head[0]);
    let base = u64::from_le_bytes(*head.last_chunk().ok_or(DecodeError)?);
    let bit = at as usize * width;
    let word = values.get(bit / 8..).and_then(|v| v.first_chunk()).ok_or(DecodeError)?;
    let word = u64::from_le_bytes(*word) >> (bit % 8);
    let value = match width {
        0 => 0,
        1..=64 => word & (u64::MAX >> (64 - width)),
        _ => return Err(DecodeError),
    };
    Ok(base.wrapping_add(value))
}

/// Appends pairs, directly or by numbers in a dictionary of those that there are: form u8, then a column, or the
/// number of different pairs u32le, these as u64le, and a column.
pub(crate) fn put_pairs(pairs: &[u64], out: &mut Vec<u8>) {
    let mut different = pairs.to_vec();
    different.sort_unstable();
    different.dedup();
    if different.len() > pairs.len() / 4 + 1 {
        out.push(PAIRS_DIRECT);
        put_column(pairs, out);
        return;
    }
    out.push(PAIRS_DICTIONARY);
    out.extend_from_slice(&(different.len() as u32).to_le_bytes());
    for pair in &different {
        out.extend_from_slice(&pair.to_le_bytes());
    }
    let number = |pair: &u64| different.binary_search(pair).expect("all pairs are in the dictionary") as u64;
    put_column(&pairs.iter().map(number).collect::<Vec<_>>(), out);
}

/// The pair with the number `at`.
pub(crate) fn get_pair(data: &[u8], at: u32) -> Result<u64, DecodeError> {
    let (form, rest) = data.split_first().ok_or(DecodeError)?;
    match *form {
        PAIRS_DIRECT => get(rest, at),
        PAIRS_DICTIONARY => {
            let (count, rest) = rest.split_first_chunk().ok_or(DecodeError)?;
            let bytes = u32::from_le_bytes(*count) as usize * 8;
            let (different, column) = rest.split_at_checked(bytes).ok_or(DecodeError)?;
            let number = usize::try_from(get(column, at)?).map_err(|_| DecodeError)?;
            different.as_chunks().0.get(number).map(|pair| u64::from_le_bytes(*pair)).ok_or(DecodeError)
        }
        _ => Err(DecodeError),
    }
}

/// How many bits of a hash, and of a row, an entry of the hashes of a part with so many rows has.
pub(crate) fn hash_bits(rows: u32) -> (u32, u32) {
    let row_bits = bits_of(u64::from(rows.saturating_sub(1))).max(1);
    // One look-up in 256 meets a hash that is another series'.
    ((row_bits + 8).min(32), row_bits)
}

fn bits_of(v: u64) -> u32 {
    64 - v.leading_zeros()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(values: &[u64]) {
        let (mut column, mut pairs) = (Vec::new(), Vec::new());
        put_column(values, &mut column);
        put_pairs(values, &mut pairs);
        for (i, v) in values.iter().enumerate() {
            assert_eq!(get(&column, i as u32), Ok(*v));
            assert_eq!(get_pair(&pairs, i as u32), Ok(*v));
        }
        assert!(column.len() <= HEAD_BYTES + TAIL_BYTES + values.len() * 8);
        get(&column, u32::MAX).ok();
    }

    proptest! {
        #[test]
        fn values_come_back(values in prop::collection::vec(any::<u64>(), 0..100), shift in 0u32..64, one in any::<u64>()) {
            check(&values);
            let low: Vec<u64> = values.iter().map(|v| v >> shift).collect();
            check(&low);
            check(&low.iter().map(|v| v.saturating_add(one)).collect::<Vec<_>>());
            check(&values.iter().map(|v| one ^ (v % 3)).collect::<Vec<_>>());
        }

        #[test]
        fn garbage_never_panics(data in prop::collection::vec(any::<u8>(), 0..100), at in any::<u32>(), small in 0u32..20) {
            for at in [at, small] {
                get(&data, at).ok();
                get_pair(&data, at).ok();
            }
        }
    }
}
