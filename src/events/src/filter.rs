//! A Bloom filter of 64-bit keys: about 10 bits a key, 1 % false positives, no false negatives.

const BITS_PER_KEY: usize = 10;
const PROBES: u32 = 7;

/// Builds the filter of some keys; empty for none.
pub(crate) fn build(keys: &mut Vec<u64>) -> Vec<u8> {
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return Vec::new();
    }
    let mut bytes = vec![0u8; (keys.len() * BITS_PER_KEY).div_ceil(8).max(8)];
    let bits = bytes.len() as u64 * 8;
    for key in keys.iter() {
        for bit in probes(*key, bits) {
            bytes[bit / 8] |= 1 << (bit % 8);
        }
    }
    bytes
}

/// Whether a key may be in the filter.
pub(crate) fn contains(filter: &[u8], key: u64) -> bool {
    let bits = filter.len() as u64 * 8;
    bits != 0 && probes(key, bits).all(|bit| filter[bit / 8] & (1 << (bit % 8)) != 0)
}

fn probes(key: u64, bits: u64) -> impl Iterator<Item = usize> {
    let step = (key.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15) | 1;
    (0..u64::from(PROBES)).map(move |i| {
        let hash = key.wrapping_add(step.wrapping_mul(i));
        // Below `bits`, which comes from a length in memory.
        ((u128::from(hash) * u128::from(bits)) >> 64) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_lost_and_few_are_invented() {
        let key = |i: u64| xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes());
        let mut keys: Vec<u64> = (0..5000).map(key).collect();
        let filter = build(&mut keys);
        assert!(keys.iter().all(|k| contains(&filter, *k)));
        let invented = (5000..15_000).filter(|i| contains(&filter, key(*i))).count();
        assert!(invented < 300, "{invented}");
        assert!(!contains(&build(&mut Vec::new()), 1));
    }
}
