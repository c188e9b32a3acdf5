//! Which runs of four bytes lie in lines of memtables, so that most lines need not be searched for a text.

/// Bytes of text after which another filter begins.
pub(crate) const TEXT_BYTES_MAX: usize = 512 << 10;
/// With less text there are more bits for each byte of it, as little repeats.
const SMALL_BYTES_MAX: usize = 16 << 10;
const BITS_LOG_MIN: u32 = 6;
const BITS_LOG_MAX: u32 = 19;
/// Runs of a text that are looked up at most.
const LOOKED_UP_MAX: usize = 16;
const GRAM_BYTES: usize = 4;

fn bits_log(text_bytes: usize) -> u32 {
    let log = text_bytes.max(1).ilog2() + u32::from(text_bytes < SMALL_BYTES_MAX);
    log.clamp(BITS_LOG_MIN, BITS_LOG_MAX)
}

/// Bytes of the filter of so many bytes of text.
pub(crate) fn filter_bytes(text_bytes: usize) -> usize {
    size_of::<Grams>() + (1 << bits_log(text_bytes)) / 8
}

/// The runs of four bytes of some texts, hashed to bits.
#[derive(Debug)]
pub(crate) struct Grams {
    bits: Box<[u64]>,
    shift: u32,
}

impl Grams {
    /// Those of texts that have so many bytes.
    pub(crate) fn of<'t>(text_bytes: usize, texts: impl Iterator<Item = &'t str>) -> Self {
        let log = bits_log(text_bytes);
        let shift = u32::BITS - log;
        let mut bits = vec![0u64; 1 << (log - 6)].into_boxed_slice();
        for text in texts {
            for gram in text.as_bytes().array_windows::<GRAM_BYTES>() {
                let hash = hashed(*gram) >> shift;
                bits[(hash / 64) as usize] |= 1 << (hash % 64);
            }
        }
        Self { bits, shift }
    }

    /// Whether one of the texts may hold a text; always true for short ones.
    pub(crate) fn may_hold(&self, text: &[u32]) -> bool {
        text.iter().all(|hash| {
            let hash = hash >> self.shift;
            self.bits[(hash / 64) as usize] & (1 << (hash % 64)) != 0
        })
    }
}

/// What [`Grams::may_hold`] looks up of a text.
pub(crate) fn looked_up(text: &str) -> Vec<u32> {
    let grams = text.as_bytes().array_windows::<GRAM_BYTES>();
    let step = grams.len().div_ceil(LOOKED_UP_MAX).max(1);
    grams.step_by(step).map(|gram| hashed(*gram)).collect()
}

fn hashed(gram: [u8; GRAM_BYTES]) -> u32 {
    u32::from_le_bytes(gram).wrapping_mul(0x9e37_79b1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found_and_little_else() {
        let lines: Vec<String> = (0..2000u64).map(|n| format!("line {n} id={:016x} é", n * 0x9e37_79b9)).collect();
        let bytes = lines.iter().map(String::len).sum();
        let grams = Grams::of(bytes, lines.iter().map(String::as_str));
        for line in &lines {
            for start in (0..line.len() - 2).filter(|at| line.is_char_boundary(*at)) {
                assert!(grams.may_hold(&looked_up(&line[start..])), "{line} from {start}");
            }
        }
        let absent = (0..1000).filter(|n| grams.may_hold(&looked_up(&format!("missing{n:x}")))).count();
        assert_eq!(absent, 0);
        assert!(grams.may_hold(&looked_up("zzz")), "too short to tell");
        assert!(grams.bits.len() * 8 < filter_bytes(bytes) && filter_bytes(bytes) < bytes);
    }
}
