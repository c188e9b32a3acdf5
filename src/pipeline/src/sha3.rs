//! SHA3-256 (FIPS 202), for the template function `Hash`.

const ROUNDS: usize = 24;
/// Bytes that a block takes in.
const RATE: usize = 136;

/// The SHA3-256 digest of a text.
pub(crate) fn sha3_256(data: &[u8]) -> [u8; 32] {
    let mut state = [0_u64; 25];
    let mut blocks = data.chunks_exact(RATE);
    for block in &mut blocks {
        absorb(&mut state, block);
    }
    let mut last = [0_u8; RATE];
    let rest = blocks.remainder();
    last[..rest.len()].copy_from_slice(rest);
    last[rest.len()] = 0x06;
    last[RATE - 1] |= 0x80;
    absorb(&mut state, &last);
    let mut out = [0; 32];
    for (bytes, lane) in out.chunks_exact_mut(8).zip(&state) {
        bytes.copy_from_slice(&lane.to_le_bytes());
    }
    out
}

fn absorb(state: &mut [u64; 25], block: &[u8]) {
    for (lane, bytes) in state.iter_mut().zip(block.chunks_exact(8)) {
        *lane ^= u64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes"));
    }
    permute(state);
}

/// One bit of the shift register that makes the round constants.
fn register(bits: &mut u8) -> bool {
    let bit = *bits & 1 == 1;
    let high = *bits & 0x80 != 0;
    *bits <<= 1;
    if high {
        *bits ^= 0x71;
    }
    bit
}

fn permute(a: &mut [u64; 25]) {
    let mut bits = 1_u8;
    for _ in 0..ROUNDS {
        // Theta.
        let mut c = [0_u64; 5];
        for (x, column) in c.iter_mut().enumerate() {
            *column = (0..5).fold(0, |sum, y| sum ^ a[x + 5 * y]);
        }
        for x in 0..5 {
            let d = c[(x + 4) % 5] ^ c[(x + 1) % 5].rotate_left(1);
            for y in 0..5 {
                a[x + 5 * y] ^= d;
            }
        }
        // Rho and pi.
        let (mut x, mut y) = (1, 0);
        let mut current = a[1];
        for t in 0..24_u32 {
            (x, y) = (y, (2 * x + 3 * y) % 5);
            let lane = &mut a[x + 5 * y];
            current = std::mem::replace(lane, current.rotate_left((t + 1) * (t + 2) / 2 % 64));
        }
        // Chi.
        for y in 0..5 {
            let row: [u64; 5] = std::array::from_fn(|x| a[x + 5 * y]);
            for x in 0..5 {
                a[x + 5 * y] = row[x] ^ (!row[(x + 1) % 5] & row[(x + 2) % 5]);
            }
        }
        // Iota.
        for j in 0..7 {
            if register(&mut bits) {
                a[0] ^= 1 << ((1_u32 << j) - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_the_standard() {
        for (text, want) in [
            ("", "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"),
            ("abc", "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
        ] {
            assert_eq!(hex::encode(sha3_256(text.as_bytes())), want, "{text}");
        }
        assert_eq!(sha3_256(&[7; 300]).len(), 32);
    }
}
