//! Code compiled a second time for processors with wider registers, chosen while running: packing and unpacking bits
//! shifts each value by its own distance, which SSE2 cannot do, and is the most of what reading samples costs.
#![expect(unsafe_code, reason = "only a check while running tells whether the processor has the instructions")]

use std::sync::atomic::{AtomicU8, Ordering};

/// 0 before it was found out, 1 without, 2 with what [`wide`] is compiled for.
static FOUND: AtomicU8 = AtomicU8::new(0);

#[inline(always)]
fn is_wide() -> bool {
    match FOUND.load(Ordering::Relaxed) {
        0 => find_out(),
        found => found == 2,
    }
}

#[cold]
fn find_out() -> bool {
    #[cfg(target_arch = "x86_64")]
    let found = std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("sse4.2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("lzcnt");
    #[cfg(not(target_arch = "x86_64"))]
    let found = false;
    FOUND.store(1 + u8::from(found), Ordering::Relaxed);
    found
}

/// What is done in one piece: all of it, and what it calls, is inlined into where it runs. (Closures cannot be told to.)
pub(crate) trait Work {
    type Output;

    /// Has to be `#[inline(always)]`.
    fn run(self) -> Self::Output;
}

/// Does `work`, compiled for AVX2 where the processor has that. What it gives is the same on all processors.
#[inline(always)]
pub(crate) fn wide<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        // SAFETY: the processor has all features that the function is compiled for.
        return unsafe { compiled_wide(work) };
    }
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn compiled_wide<W: Work>(work: W) -> W::Output {
    work.run()
}

/// From here on three sums side by side are faster, which the crate does.
const SHORT_MAX: usize = 512;

/// Continues the CRC-32C `before` over `data`.
#[inline]
pub(crate) fn crc32c_append(before: u32, data: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if data.len() <= SHORT_MAX && is_wide() {
        // SAFETY: the processor has SSE4.2.
        return unsafe { crc32c_short(before, data) };
    }
    crc32c::crc32c_append(before, data)
}

/// Does not go to an aligned address first: with the few bytes of a block this takes longer than it saves.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn crc32c_short(before: u32, data: &[u8]) -> u32 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};
    let (words, mut rest) = data.as_chunks::<8>();
    let mut crc = u64::from(!before);
    for word in words {
        crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
    }
    let mut crc = crc as u32;
    if let Some((half, behind)) = rest.split_first_chunk::<4>() {
        crc = _mm_crc32_u32(crc, u32::from_le_bytes(*half));
        rest = behind;
    }
    for byte in rest {
        crc = _mm_crc32_u8(crc, *byte);
    }
    !crc
}

#[cfg(test)]
mod tests {
    #[test]
    fn short_sums_are_those_of_the_crate() {
        let data: Vec<u8> = (0..700u32).map(|i| (i * i) as u8).collect();
        for n in 0..data.len() {
            for before in [0, 1, u32::MAX, 0x1234_5678] {
                let data = &data[n % 9..n.max(n % 9)];
                assert_eq!(super::crc32c_append(before, data), crc32c::crc32c_append(before, data), "{n} {before}");
            }
        }
    }
}
