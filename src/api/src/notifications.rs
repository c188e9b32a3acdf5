//! What people who look at the server should know: a short list, and a stream of its changes.

use parking_lot::Mutex;
use tokio::sync::broadcast;

/// The configuration could not be reloaded.
pub const RELOAD_FAILED: &str = "Configuration reload has failed.";
/// The server shuts down.
pub const SHUTTING_DOWN: &str = "Trefoil is shutting down and gracefully stopping all operations.";

/// Changes that a slow reader may be behind before it misses some.
const BEHIND_MAX: usize = 16;
/// Most readers of the stream.
pub const READERS_MAX: usize = 16;

/// A notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// What it says.
    pub text: &'static str,
    /// Since when, Unix milliseconds.
    pub date_ms: i64,
    /// False when it is over.
    pub active: bool,
}

/// The notifications that hold now, and who follows them.
#[derive(Debug)]
pub struct Notifications {
    active: Mutex<Vec<Notification>>,
    changes: broadcast::Sender<Notification>,
}

impl Default for Notifications {
    fn default() -> Self {
        Self { active: Mutex::default(), changes: broadcast::Sender::new(BEHIND_MAX) }
    }
}

impl Notifications {
    /// Begins or ends a notification; one that holds already stays as it is.
    pub fn set(&self, text: &'static str, holds: bool, now_ms: i64) {
        let mut active = self.active.lock();
        let known = active.iter().position(|n| n.text == text);
        let change = match known {
            Some(at) if !holds => Notification { active: false, ..active.remove(at) },
            None if holds => {
                let notification = Notification { text, date_ms: now_ms, active: true };
                active.push(notification.clone());
                notification
            }
            _ => return,
        };
        // Nobody may be listening.
        self.changes.send(change).ok();
    }

    /// Those that hold.
    pub fn list(&self) -> Vec<Notification> {
        self.active.lock().clone()
    }

    /// Those that hold, and all changes from then on; `None` when [`READERS_MAX`] follow already.
    pub fn follow(&self) -> Option<(Vec<Notification>, broadcast::Receiver<Notification>)> {
        let active = self.active.lock();
        (self.changes.receiver_count() < READERS_MAX).then(|| (active.clone(), self.changes.subscribe()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told() {
        let all = Notifications::default();
        all.set(RELOAD_FAILED, false, 1);
        assert_eq!(all.list(), []);
        all.set(RELOAD_FAILED, true, 2);
        let (now, mut changes) = all.follow().unwrap();
        let failed = |date_ms, active| Notification { text: RELOAD_FAILED, date_ms, active };
        assert_eq!(now, [failed(2, true)]);
        all.set(RELOAD_FAILED, true, 3);
        all.set(RELOAD_FAILED, false, 4);
        assert_eq!(changes.try_recv(), Ok(failed(2, false)));
        assert!(changes.try_recv().is_err() && all.list().is_empty());
        let more: Vec<_> = (0..READERS_MAX).map(|_| all.follow()).collect();
        assert_eq!(more.iter().filter(|f| f.is_none()).count(), 1);
    }
}
