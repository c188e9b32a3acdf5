//! An object store that does not answer costs one reader its time limit, not every reader.

use std::io;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A failure that took longer is remembered.
const SLOW: Duration = Duration::from_secs(1);
/// How long it is remembered.
const REMEMBERED: Duration = Duration::from_secs(10);

/// The last failure that was slow, and the last answer.
#[derive(Default)]
pub(super) struct Outage {
    failure: Mutex<Option<(Instant, String)>>,
    answered: Mutex<Option<Instant>>,
}

impl Outage {
    /// Does something with the store, or says why it was of no use a moment ago.
    pub(super) fn guard<T>(&self, ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let begun = Instant::now();
        self.check(begun)?;
        let answer = ask();
        self.note(begun, Instant::now(), answer.as_ref().err());
        if answer.is_ok() {
            self.answered();
        }
        answer
    }

    /// Says that something was answered: whatever fails besides, the store is there.
    pub(super) fn answered(&self) {
        *self.answered.lock() = Some(Instant::now());
    }

    fn check(&self, now: Instant) -> io::Result<()> {
        match &*self.failure.lock() {
            Some((at, error)) if now.saturating_duration_since(*at) < REMEMBERED => {
                let seconds = now.saturating_duration_since(*at).as_secs();
                let message = format!("not asked again so soon, {seconds} s ago: {error}");
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }
            _ => Ok(()),
        }
    }

    fn note(&self, begun: Instant, ended: Instant, error: Option<&io::Error>) {
        let mut last = self.failure.lock();
        let is_there = || self.answered.lock().is_some_and(|at| at > begun);
        match error {
            None => *last = None,
            Some(_) if is_there() => {}
            Some(error) if ended.saturating_duration_since(begun) >= SLOW => {
                *last = Some((ended, trefoil_runtime::tasks::chain(error)));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_failures_are_remembered_for_a_while() {
        let outage = Outage::default();
        let start = Instant::now();
        let error = io::Error::other("hangs");
        outage.note(start, start + Duration::from_millis(10), Some(&error));
        outage.check(start + Duration::from_millis(10)).unwrap();
        outage.note(start, start + SLOW, Some(&error));
        let told = outage.check(start + SLOW + Duration::from_secs(3)).unwrap_err();
        assert_eq!(told.to_string(), "not asked again so soon, 3 s ago: hangs");
        outage.check(start + SLOW + REMEMBERED).unwrap();
        // Whoever gets an answer says that it is over.
        outage.note(start, start + SLOW, None);
        outage.check(start + SLOW).unwrap();
        // One request that fails while others are answered says nothing of them.
        *outage.answered.lock() = Some(start + SLOW / 2);
        outage.note(start, start + SLOW, Some(&error));
        outage.check(start + SLOW).unwrap();
        outage.note(start + SLOW, start + SLOW * 3, Some(&error));
        outage.check(start + SLOW * 3).unwrap_err();
    }
}
