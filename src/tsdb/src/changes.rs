//! What changed since when: so that who keeps answers knows from which time on they are out of date.
//!
//! Whoever makes samples visible, or takes them away, notes their earliest time right afterwards. A mark ends the
//! current entry; what changed after a mark is in the entries from the mark's on.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Entries that are kept apart; beyond, the oldest two become one, which only ever tells of more change.
const ENTRIES_MAX: usize = 512;

#[derive(Debug)]
struct State {
    /// (mark, earliest time that changed from that mark to the next), marks ascend.
    entries: VecDeque<(u64, i64)>,
    mark: u64,
    /// Earliest time that changed since `mark`; `i64::MAX` for none.
    earliest: i64,
}

/// The history of changes since the store was opened.
#[derive(Debug)]
pub(crate) struct Changes(Mutex<State>);

impl Default for Changes {
    fn default() -> Self {
        Self(Mutex::new(State { entries: VecDeque::new(), mark: 0, earliest: i64::MAX }))
    }
}

impl Changes {
    /// Notes that samples from `earliest_ms` on have changed. What changed must be visible already.
    pub(crate) fn note(&self, earliest_ms: i64) {
        let mut state = self.0.lock();
        state.earliest = state.earliest.min(earliest_ms);
    }

    /// Notes that anything may have changed.
    pub(crate) fn note_all(&self) {
        self.note(i64::MIN);
    }

    /// A mark of now. What is read afterwards has all changes that were noted before.
    pub(crate) fn mark(&self) -> u64 {
        let mut state = self.0.lock();
        if state.earliest != i64::MAX {
            let entry = (state.mark, state.earliest);
            state.entries.push_back(entry);
            state.earliest = i64::MAX;
            state.mark += 1;
            if state.entries.len() > ENTRIES_MAX {
                let oldest = state.entries.pop_front().map_or(i64::MAX, |e| e.1);
                if let Some(next) = state.entries.front_mut() {
                    next.1 = next.1.min(oldest);
                }
            }
        }
        state.mark
    }

    /// The earliest time that changed after a mark; `i64::MAX` when nothing did.
    pub(crate) fn since(&self, mark: u64) -> i64 {
        let state = self.0.lock();
        let noted = state.entries.iter().rev().take_while(|e| e.0 >= mark).map(|e| e.1);
        noted.min().unwrap_or(i64::MAX).min(state.earliest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_tell_what_came_after() {
        let changes = Changes::default();
        let a = changes.mark();
        assert_eq!((changes.mark(), changes.since(a)), (a, i64::MAX));
        changes.note(50);
        changes.note(70);
        assert_eq!(changes.since(a), 50);
        let b = changes.mark();
        changes.note(60);
        assert_eq!((changes.since(a), changes.since(b)), (50, 60));
        let c = changes.mark();
        assert_eq!((changes.since(a), changes.since(b), changes.since(c)), (50, 60, i64::MAX));
        changes.note_all();
        assert_eq!(changes.since(c), i64::MIN);
    }

    #[test]
    fn old_entries_become_one() {
        let changes = Changes::default();
        let first = changes.mark();
        changes.note(5);
        let second = changes.mark();
        let mut marks = Vec::new();
        for i in 0..2 * ENTRIES_MAX as i64 {
            changes.note(1000 + i);
            marks.push(changes.mark());
        }
        assert_eq!(changes.since(first), 5);
        // Told too much rather than too little.
        assert!(changes.since(second) <= 1000);
        let last = marks[marks.len() - 2];
        assert_eq!(changes.since(last), 1000 + 2 * ENTRIES_MAX as i64 - 1);
        assert_eq!(changes.0.lock().entries.len(), ENTRIES_MAX);
    }
}
