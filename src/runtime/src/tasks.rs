//! Supervised, named tasks and their shutdown in order.
//!
//! Every task says what its failure means ([`OnError`]) and when shutdown stops it ([`Phase`]). Panics are caught,
//! counted, logged and treated as a failure. A task stops by itself when its [`Stop`] says so.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::{
    IntCounter, IntCounterVec, IntGauge, register_int_counter, register_int_counter_vec, register_int_gauge,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

static RUNNING: LazyLock<IntGauge> =
    LazyLock::new(|| register_int_gauge!("trefoil_tasks_running", "Tasks that run now.").expect("unique metric name"));
static FAILURES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("trefoil_task_failures_total", "Tasks that ended with an error or a panic.", &["task"])
        .expect("unique metric name")
});
static PANICS: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_tasks_panics_total", "Panics caught in tasks.").expect("unique metric name")
});

/// First wait before a failed task is made again; doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait before a failed task is made again.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A task that ran this long before it failed starts again with the shortest wait.
const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(60);

/// Why a task failed.
pub type TaskError = Box<dyn Error + Send + Sync>;
/// How a task ends.
pub type TaskResult = Result<(), TaskError>;

/// What the failure of a task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It is logged and counted; the task is gone.
    Log,
    /// The task is made again, after a wait that grows.
    Restart,
    /// The process must come down, in order: [`Tasks::failed`] resolves.
    Stop,
}

/// When shutdown stops a task; the phases end in this order, each waited for before the next is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Takes connections and requests.
    Accept,
    /// Brings data in: scrapes, receivers.
    Ingest,
    /// Works on what is there: rules, notifications, merges.
    Background,
    /// Writes what must be on disk at the end.
    Storage,
}

impl Phase {
    /// All phases in the order in which shutdown ends them.
    pub const ALL: [Self; 4] = [Self::Accept, Self::Ingest, Self::Background, Self::Storage];
}

/// Tells a task to stop.
#[derive(Debug, Clone)]
pub struct Stop(CancellationToken);

impl Stop {
    /// Creates a signal that nobody gives, for tests and one-off work.
    pub fn never() -> Self {
        Self(CancellationToken::new())
    }

    /// Waits until the task should stop.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Returns whether the task should stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// How a shutdown went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShutdownReport {
    /// Whether every task ended before the deadline.
    pub finished: bool,
    /// Names of the tasks that did not, sorted.
    pub still_running: Vec<&'static str>,
}

/// The tasks of a process. Clones share them.
#[derive(Clone)]
pub struct Tasks(Arc<Inner>);

struct Inner {
    handle: tokio::runtime::Handle,
    stops: [CancellationToken; 4],
    next_id: AtomicU64,
    running: Mutex<BTreeMap<u64, (Phase, &'static str)>>,
    ended: Notify,
    failed: watch::Sender<Option<&'static str>>,
}

impl Tasks {
    /// Creates an empty set whose tasks run on `handle`.
    pub fn new(handle: tokio::runtime::Handle) -> Self {
        Self(Arc::new(Inner {
            handle,
            stops: std::array::from_fn(|_| CancellationToken::new()),
            next_id: AtomicU64::new(0),
            running: Mutex::new(BTreeMap::new()),
            ended: Notify::new(),
            failed: watch::channel(None).0,
        }))
    }

    /// Runs `make(stop)`; with [`OnError::Restart`] again and again while it fails.
    ///
    /// A task spawned after its phase was told to stop gets a signal that is already given.
    pub fn spawn<F, Fut>(&self, name: &'static str, phase: Phase, on_error: OnError, make: F)
    where
        F: Fn(Stop) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = TaskResult> + Send + 'static,
    {
        let running = self.enter(name, phase);
        let stop = self.stop(phase);
        let inner = Arc::clone(&self.0);
        self.0.handle.spawn(async move {
            let _running = running;
            let mut backoff = BACKOFF_MIN;
            loop {
                let started = Instant::now();
                let result = caught(|| make(stop.clone())).await;
                let Err(error) = result else { return };
                inner.record_failure(name, on_error, &error);
                if on_error != OnError::Restart || stop.is_cancelled() {
                    return;
                }
                if started.elapsed() >= BACKOFF_RESET_AFTER {
                    backoff = BACKOFF_MIN;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(backoff) => {}
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        });
    }

    /// Runs a task that cannot be made again; [`OnError::Restart`] counts as [`OnError::Log`].
    pub fn spawn_once<F, Fut>(&self, name: &'static str, phase: Phase, on_error: OnError, make: F)
    where
        F: FnOnce(Stop) -> Fut + Send + 'static,
        Fut: Future<Output = TaskResult> + Send + 'static,
    {
        let running = self.enter(name, phase);
        let stop = self.stop(phase);
        let inner = Arc::clone(&self.0);
        self.0.handle.spawn(async move {
            let _running = running;
            if let Err(error) = caught(|| make(stop)).await {
                inner.record_failure(name, on_error, &error);
            }
        });
    }

    /// Runs work that blocks on a thread of the blocking pool; it must look at its [`Stop`] now and then.
    pub fn spawn_blocking_named<F>(&self, name: &'static str, phase: Phase, on_error: OnError, work: F)
    where
        F: FnOnce(Stop) -> TaskResult + Send + 'static,
    {
        let running = self.enter(name, phase);
        let stop = self.stop(phase);
        let inner = Arc::clone(&self.0);
        self.0.handle.spawn_blocking(move || {
            let _running = running;
            let result = match catch_unwind(AssertUnwindSafe(|| work(stop))) {
                Ok(result) => result,
                Err(payload) => Err(panic_error(payload.as_ref())),
            };
            if let Err(error) = result {
                inner.record_failure(name, on_error, &error);
            }
        });
    }

    /// Returns the signal that stops the tasks of a phase.
    pub fn stop(&self, phase: Phase) -> Stop {
        Stop(self.0.stops[phase as usize].clone())
    }

    /// Returns the names of the running tasks, sorted; a name may appear more than once.
    pub fn running(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.0.running.lock().values().map(|(_, name)| *name).collect();
        names.sort_unstable();
        names
    }

    /// Returns the runtime that the tasks run on.
    pub fn handle(&self) -> &tokio::runtime::Handle {
        &self.0.handle
    }

    /// Resolves with the name of the first [`OnError::Stop`] task that failed.
    pub async fn failed(&self) -> &'static str {
        let mut failed = self.0.failed.subscribe();
        let Ok(name) = failed.wait_for(Option::is_some).await else {
            return std::future::pending().await; // Not reached: `self` keeps the sender.
        };
        name.unwrap_or_default()
    }

    /// Stops phase after phase and waits for each, all within `deadline`. Past it every phase is told to stop and the
    /// tasks that still run are named.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let until = tokio::time::Instant::now() + deadline;
        for phase in Phase::ALL {
            self.0.stops[phase as usize].cancel();
            // An error is the deadline; the later phases are told all the same.
            let waited = tokio::time::timeout_at(until, self.wait_for_phase(phase)).await;
            if waited.is_err() {
                tracing::warn!(?phase, still_running = ?self.running(), "shutdown deadline passed");
            }
        }
        let still_running = self.running();
        ShutdownReport { finished: still_running.is_empty(), still_running }
    }

    async fn wait_for_phase(&self, phase: Phase) {
        loop {
            let mut ended = std::pin::pin!(self.0.ended.notified());
            ended.as_mut().enable();
            if !self.0.running.lock().values().any(|(of, _)| *of == phase) {
                return;
            }
            ended.await;
        }
    }

    fn enter(&self, name: &'static str, phase: Phase) -> Running {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        self.0.running.lock().insert(id, (phase, name));
        RUNNING.inc();
        Running { inner: Arc::clone(&self.0), id }
    }
}

impl Inner {
    fn record_failure(&self, name: &'static str, on_error: OnError, error: &TaskError) {
        FAILURES.with_label_values(&[name]).inc();
        tracing::error!(task = name, ?on_error, error = %chain(error.as_ref()), "task failed");
        if on_error == OnError::Stop {
            self.failed.send_if_modified(|failed| {
                let first = failed.is_none();
                if first {
                    *failed = Some(name);
                }
                first
            });
        }
    }
}

/// Takes the task off the list however it ends.
struct Running {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inner.running.lock().remove(&self.id);
        RUNNING.dec();
        self.inner.ended.notify_waiters();
    }
}

/// Runs a task and turns a panic into an error.
async fn caught<Fut: Future<Output = TaskResult>>(make: impl FnOnce() -> Fut) -> TaskResult {
    let future = match catch_unwind(AssertUnwindSafe(make)) {
        Ok(future) => future,
        Err(payload) => return Err(panic_error(payload.as_ref())),
    };
    let mut future: Pin<Box<Fut>> = Box::pin(future);
    std::future::poll_fn(move |context| {
        // The future is dropped, never polled again, after a panic.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(payload) => Poll::Ready(Err(panic_error(payload.as_ref()))),
        }
    })
    .await
}

fn panic_error(payload: &(dyn std::any::Any + Send)) -> TaskError {
    PANICS.inc();
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    format!("panic: {text}").into()
}

/// Joins an error and its causes with colons.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
