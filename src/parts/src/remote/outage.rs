//! An object store that does not answer costs one reader its time limit, not every reader.

use std::io;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A failure that took longer is remembered.
const SLOW: Duration = Duration::from_secs(1);
/// How long it is remembered.
const REMEMBERED: Duration = Duration::from_secs(10);

/// The last failure that was slow.
#[derive(Default)]
pub(super) struct Outage(Mutex<Option<(Instant, String)>>);

impl Outage {
    /// Does something with the store, or says why it was of no use a moment ago.
    pub(super) fn guard<T>(&self, ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let begun = Instant::now();
        self.check(begun)?;
        let answer = ask();
        self.note(begun, Instant::now(), answer.as_ref().err());
        answer
    }

    fn check(&self, now: Instant) -> io::Result<()> {
        match &*self.0.lock() {
            Some((at, error)) if now.saturating_duration_since(*at) < REMEMBERED => {
                let seconds = now.saturating_duration_since(*at).as_secs();
                let message = format!("not asked again so soon, {seconds} s ago: {error}");
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }
            _ => Ok(()),
        }
    }

    fn note(&self, begun: Instant, ended: Instant, error: Option<&io::Error>) {
        let mut last = self.0.lock();
        match error {
            None => *last = None,
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
    }
}
