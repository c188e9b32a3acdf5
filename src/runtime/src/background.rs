//! Threads for long work that nobody waits for at this moment: flushes and merges. They take the cores that are left
//! over, so that writes and queries do not wait behind them.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Work that was not done: its thread could not be started, or it panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("background thread ended early")]
pub struct EndedEarly;

/// How much a thread gives way to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// As all other work: flushes that do not keep up with what comes in.
    Normal,
    /// Others come first, but it must keep up with what comes in: flushes. Nice 5, about a third of the usual share of a
    /// core that others want too.
    Low,
    /// It may take its time: merges, retention. Nice 10, about a tenth.
    Lowest,
}

impl Priority {
    fn nice(self) -> i32 {
        match self {
            Self::Normal => 0,
            Self::Low => 5,
            Self::Lowest => 10,
        }
    }
}

/// Runs work on a thread of its own with a lower priority. Dropping the future does not end the work.
pub async fn run<T: Send + 'static>(
    name: &str,
    priority: Priority,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EndedEarly> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let body = move || {
        // On Linux this is of the thread alone. Where it is not allowed the work is done as all other.
        let nice = rustix::process::getpriority_process(None).unwrap_or(0).max(priority.nice());
        if let Err(error) = rustix::process::setpriority_process(None, nice) {
            tracing::debug!(%error, "priority of a background thread is not lowered");
        }
        let _runtime = runtime.enter();
        let done = catch_unwind(AssertUnwindSafe(work)).map_err(|_| EndedEarly);
        // Nobody waits any more when the future was dropped.
        drop(sender.send(done));
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|_| EndedEarly)?;
    receiver.await.unwrap_or(Err(EndedEarly))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_thread_gives_way() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let inside = run("test", Priority::Lowest, nice).await.unwrap();
        assert_eq!(inside, 10.max(before));
        assert_eq!(nice(), before);
    }

    #[tokio::test]
    async fn panics_are_told() {
        assert_eq!(run("test", Priority::Low, || panic!("gone")).await, Err::<(), _>(EndedEarly));
    }
}
