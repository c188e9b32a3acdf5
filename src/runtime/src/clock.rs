//! Time, injected: the wall clock for timestamps and a monotonic clock for deadlines.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::sync::Notify;

/// A boxed future that may be sent to another thread.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Returns the wall clock in milliseconds since the Unix epoch. It may jump in both directions.
    fn now_ms(&self) -> i64;
    /// Returns the wall clock in nanoseconds since the Unix epoch. It may jump in both directions.
    fn now_ns(&self) -> i64;
    /// Returns the time since some fixed point; it never goes back.
    fn monotonic(&self) -> Duration;
    /// Waits until `duration` has passed on the monotonic clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()>;
}

/// A clock that everybody shares.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock. `sleep` needs a tokio runtime with time.
#[derive(Debug, Clone)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// Creates a clock whose monotonic time starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Creates a clock to share.
    pub fn shared() -> SharedClock {
        Arc::new(Self::new())
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn now_ms(&self) -> i64 {
        self.now_ns().div_euclid(1_000_000)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn now_ns(&self) -> i64 {
        match std::time::SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
        }
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that moves only when a test says so.
#[derive(Debug)]
pub struct SimClock {
    wall_ns: AtomicI64,
    monotonic_ns: AtomicU64,
    sleepers: AtomicUsize,
    moved: Notify,
}

impl SimClock {
    /// Creates a clock that shows `now_ms` milliseconds since the Unix epoch.
    pub fn new(now_ms: i64) -> Arc<Self> {
        Arc::new(Self {
            wall_ns: AtomicI64::new(now_ms.saturating_mul(1_000_000)),
            monotonic_ns: AtomicU64::new(0),
            sleepers: AtomicUsize::new(0),
            moved: Notify::new(),
        })
    }

    /// Sets the wall clock, as an operator would; the monotonic clock stays and nobody wakes.
    pub fn set(&self, now_ms: i64) {
        self.wall_ns.store(now_ms.saturating_mul(1_000_000), Ordering::SeqCst);
    }

    /// Moves both clocks forward and wakes the sleepers whose time has come.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.wall_ns.fetch_add(i64::try_from(nanos).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.monotonic_ns.fetch_add(nanos, Ordering::SeqCst);
        self.moved.notify_waiters();
    }

    /// Returns how many sleeps are under way, so that a test can wait until its subject sleeps.
    pub fn sleepers(&self) -> usize {
        self.sleepers.load(Ordering::SeqCst)
    }
}

/// Counts one sleep while it lives, also when the sleep is dropped half way.
struct Sleeper<'a>(&'a AtomicUsize);

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        self.now_ns().div_euclid(1_000_000)
    }

    fn now_ns(&self) -> i64 {
        self.wall_ns.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_ns.load(Ordering::SeqCst))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        let until = self.monotonic().saturating_add(duration);
        Box::pin(async move {
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            let _sleeper = Sleeper(&self.sleepers);
            loop {
                let mut moved = std::pin::pin!(self.moved.notified());
                // Registered before the clock is read, so that no advance falls between the two.
                moved.as_mut().enable();
                if self.monotonic() >= until {
                    return;
                }
                moved.await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleepers_wake_when_their_time_has_come() {
        let clock = SimClock::new(1_000);
        let mut sleep = clock.sleep(Duration::from_secs(2));
        let mut woke = async |by: Duration| {
            clock.advance(by);
            let woken = std::future::poll_fn(|context| std::task::Poll::Ready(sleep.as_mut().poll(context))).await;
            (woken.is_ready(), clock.sleepers())
        };
        assert_eq!(woke(Duration::ZERO).await, (false, 1));
        assert_eq!(woke(Duration::from_millis(1_999)).await, (false, 1));
        assert_eq!(woke(Duration::from_millis(1)).await, (true, 0));
        assert_eq!(clock.now_ms(), 3_000);
        clock.set(5);
        assert_eq!((clock.now_ms(), clock.monotonic()), (5, Duration::from_secs(2)));
    }

    #[test]
    fn real_clock_is_after_2020() {
        let clock = RealClock::new();
        assert!(clock.now_ms() > 1_577_836_800_000);
        assert!(clock.monotonic() <= clock.monotonic());
    }
}
