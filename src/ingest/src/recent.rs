//! What was stored a short while ago, so that what a sender sends again is not stored twice.
//!
//! Kept in memory only: after a restart nothing is remembered. Two generations bound it: when the younger one has half of
//! what may be remembered, the older one is forgotten.

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// How long a thing counts as sent again, in milliseconds. A sender that is not answered tries again within minutes; who
/// imports the same file tomorrow means it.
pub(crate) const WINDOW_MS: i64 = 600_000;

/// Fingerprints with a value and the time at which they were stored.
pub(crate) struct Recent {
    generations: Mutex<Generations>,
    half: usize,
}

#[derive(Default)]
struct Generations {
    young: FxHashMap<u64, (u64, i64)>,
    old: FxHashMap<u64, (u64, i64)>,
}

impl Recent {
    /// Remembers at most `max` things.
    pub(crate) fn new(max: usize) -> Self {
        Self { generations: Mutex::default(), half: max / 2 }
    }

    /// The value under a fingerprint, when it was stored within the window.
    pub(crate) fn get(&self, key: u64, now_ms: i64) -> Option<u64> {
        let generations = self.generations.lock();
        let (value, stored_ms) = generations.young.get(&key).or_else(|| generations.old.get(&key)).copied()?;
        (now_ms.saturating_sub(stored_ms) < WINDOW_MS).then_some(value)
    }

    /// Remembers that something was stored.
    pub(crate) fn put(&self, key: u64, value: u64, now_ms: i64) {
        if self.half == 0 {
            return;
        }
        let mut generations = self.generations.lock();
        if generations.young.len() >= self.half {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key, (value, now_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_is_forgotten() {
        let recent = Recent::new(4);
        for key in 0..5 {
            recent.put(key, key + 10, 1000);
        }
        assert_eq!((0..5).map(|k| recent.get(k, 1000)).collect::<Vec<_>>(), [None, None, Some(12), Some(13), Some(14)]);
        assert_eq!(recent.get(4, 1000 + WINDOW_MS), None);
        recent.put(4, 0, 2000 + WINDOW_MS);
        assert_eq!(recent.get(4, 2001 + WINDOW_MS), Some(0));
        let none = Recent::new(0);
        none.put(1, 1, 0);
        assert_eq!(none.get(1, 0), None);
    }
}
