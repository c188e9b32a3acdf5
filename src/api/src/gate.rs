//! The gate of all query work: so many queries at once, so many that wait, each under a deadline and on a thread that
//! may block.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::{IntCounterVec, IntGauge, register_int_counter_vec, register_int_gauge};
use tokio::sync::Semaphore;
use trefoil_runtime::{Limits, QueryContext, limits};

use crate::error::{ApiError, ErrorKind};
use crate::queries::{QueryNote, Registered};
use crate::state::AppState;

static RUNNING: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!("trefoil_query_running", "Queries that run now.").expect("unique metric name")
});
static WAITING: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!("trefoil_query_waiting", "Queries that wait for their turn.").expect("unique metric name")
});
static ENDED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("trefoil_query_total", "Queries by outcome.", &["outcome"]).expect("unique metric name")
});

/// How long the answer to a client is held back after the deadline, for the work to end by itself.
const GRACE: Duration = Duration::from_millis(500);

/// Lets queries through.
pub struct QueryGate {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue_max: usize,
    queue_wait: Duration,
}

/// Takes one off the number of those that wait, also when the client leaves.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        WAITING.dec();
    }
}

impl QueryGate {
    /// Makes a gate with the limits `query_concurrency`, `query_queue_max` and `query_queue_wait`.
    pub fn new(limits: &Limits) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limits.query_concurrency.clamp(1, Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            queue_max: limits.query_queue_max,
            queue_wait: limits.query_queue_wait,
        }
    }

    /// Runs `work` on a blocking thread when it is its turn; `timeout` is what the client asked for, at most
    /// `query_timeout`.
    ///
    /// Errors with 503 when too many wait or the wait is too long, and with what `work` says. Dropping the future
    /// cancels the [`QueryContext`]; the work ends at its next check and gives its place back then.
    pub async fn run<T, F>(&self, state: &AppState, timeout: Option<Duration>, work: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&QueryContext) -> Result<T, ApiError> + Send + 'static,
    {
        self.run_noted(state, timeout, None, work).await
    }

    /// As [`QueryGate::run`], and the query is listed among the active ones while it waits and runs.
    pub async fn run_noted<T, F>(
        &self,
        state: &AppState,
        timeout: Option<Duration>,
        note: Option<QueryNote>,
        work: F,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&QueryContext) -> Result<T, ApiError> + Send + 'static,
    {
        let began = state.clock.monotonic();
        let registered = note.map(|note| state.queries.enter(note, state.clock.now_ms()));
        let result = match &registered {
            None => self.admitted(state, timeout, None, work).await,
            Some(entry) => {
                tokio::select! {
                    result = self.admitted(state, timeout, Some(entry), work) => result,
                    // The guard in the dropped future ends the work.
                    () = entry.canceled() => {
                        Err(ApiError::new(ErrorKind::Canceled, "query was canceled by an administrator"))
                    }
                }
            }
        };
        if let Some(entry) = &registered {
            let took = state.clock.monotonic().saturating_sub(began);
            entry.ended(took, result.is_ok(), state.clock.now_ms());
        }
        let outcome = match &result {
            Ok(_) => "ok",
            Err(error) => match error.kind {
                ErrorKind::BadData | ErrorKind::Execution | ErrorKind::NotFound => "refused",
                ErrorKind::Timeout => "timeout",
                ErrorKind::Canceled => "canceled",
                ErrorKind::Unavailable => "overload",
                _ => "failed",
            },
        };
        ENDED.with_label_values(&[outcome]).inc();
        result
    }

    async fn admitted<T, F>(
        &self,
        state: &AppState,
        timeout: Option<Duration>,
        registered: Option<&Registered<'_>>,
        work: F,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&QueryContext) -> Result<T, ApiError> + Send + 'static,
    {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait_for_turn(state).await?,
        };
        let timeout = timeout.unwrap_or(state.limits.query_timeout).min(state.limits.query_timeout);
        let context = QueryContext::new(Arc::clone(&state.clock), timeout, &state.limits, state.accountant.clone());
        let context = Arc::new(context);
        if let Some(entry) = registered {
            entry.runs(&context);
        }
        let guard = context.cancel_guard();
        let span = tracing::Span::current();
        let job = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            RUNNING.inc();
            let _running = Running;
            span.in_scope(|| work(&context))
        });
        let joined = match tokio::time::timeout(timeout.saturating_add(GRACE), job).await {
            Ok(joined) => joined,
            Err(_) => {
                limits::hit("query_timeout");
                drop(guard);
                let message = format!("query timed out after {timeout:?} (limit query_timeout)");
                return Err(ApiError::new(ErrorKind::Timeout, message));
            }
        };
        guard.disarm();
        joined.unwrap_or_else(|error| {
            tracing::error!(%error, "query ended early");
            Err(ApiError::internal("query failed: internal error"))
        })
    }

    async fn wait_for_turn(&self, state: &AppState) -> Result<tokio::sync::OwnedSemaphorePermit, ApiError> {
        WAITING.inc();
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.queue_max {
            limits::hit("query_queue_max");
            let message = format!("too many queries wait: {before} (limit query_queue_max)");
            return Err(ApiError::unavailable(message, state.jittered_retry()));
        }
        match tokio::time::timeout(self.queue_wait, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(ApiError::unavailable("server is shutting down", state.jittered_retry())),
            Err(_) => {
                limits::hit("query_queue_wait");
                let message = format!("query waited longer than {:?} (limit query_queue_wait)", self.queue_wait);
                Err(ApiError::unavailable(message, state.jittered_retry()))
            }
        }
    }
}

struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.dec();
    }
}
