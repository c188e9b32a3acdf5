//! The gate of all query work: so many queries at once, so many that wait, clients in turn ([`turns`]), each under a
//! deadline and on a thread that may block.

mod turns;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use axum::extract::Request;
use http::HeaderMap;
use prometheus::{IntCounterVec, IntGauge, register_int_counter_vec, register_int_gauge};
use trefoil_runtime::{Limits, QueryContext, limits};

use self::turns::{Full, Place, Turns};
use crate::auth::Identity;
use crate::connection::Peer;
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

tokio::task_local! {
    /// Whose request the task answers.
    static CLIENT: Arc<str>;
}

/// Who shares the places for queries with others: the user or token that a request is admitted as; without one the
/// address that it comes from. A proxy on this machine is believed when it names an address (the last one of
/// `X-Forwarded-For`, which is the one that the proxy saw).
pub fn client_of(request: &Request) -> Arc<str> {
    let extensions = request.extensions();
    if let Some(identity) = extensions.get::<Identity>().filter(|i| !i.name.is_empty()) {
        return Arc::from(format!("user {}", identity.name));
    }
    let Some(peer) = extensions.get::<Peer>().map(|p| p.address.ip().to_canonical()) else { return Arc::from("") };
    let forwarded = forwarded_for(request.headers()).filter(|_| peer.is_loopback());
    Arc::from(forwarded.unwrap_or(peer).to_string())
}

fn forwarded_for(headers: &HeaderMap) -> Option<std::net::IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().trim_matches(['[', ']']).parse().ok()
}

/// Does work on behalf of a client: its queries take the client's turns.
pub async fn as_client<F: Future>(client: Arc<str>, work: F) -> F::Output {
    CLIENT.scope(client, work).await
}

/// The client of the task, else the address of the note.
fn present_client(note: Option<&QueryNote>) -> Arc<str> {
    CLIENT.try_with(Arc::clone).unwrap_or_else(|_| {
        let address = note.map_or("", |n| n.client.as_str());
        Arc::from(address.rsplit_once(':').map_or(address, |(host, _)| host))
    })
}

/// Lets queries through.
pub struct QueryGate {
    turns: Arc<Turns>,
    queue_wait: Duration,
}

/// Takes one off the number of those that wait, also when the client leaves.
struct Waiting;

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.dec();
    }
}

impl QueryGate {
    /// Makes a gate with the limits `query_concurrency`, `query_queue_max` and `query_queue_wait`.
    pub fn new(limits: &Limits) -> Self {
        Self {
            turns: Turns::new(limits.query_concurrency, limits.query_queue_max),
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
        self.run_timed(state, timeout, note, |context, _| work(context)).await
    }

    /// As [`QueryGate::run_noted`]; `work` is told how long it waited for its turn.
    pub async fn run_timed<T, F>(
        &self,
        state: &AppState,
        timeout: Option<Duration>,
        note: Option<QueryNote>,
        work: F,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&QueryContext, Duration) -> Result<T, ApiError> + Send + 'static,
    {
        self.run_at_hand(state, timeout, note, |_| None, work).await
    }

    /// As [`QueryGate::run_timed`]; `at_hand` is asked first, on this thread: it answers what takes no time to speak of,
    /// and nothing else. On a busy machine every change of threads waits for a core.
    pub async fn run_at_hand<T, H, F>(
        &self,
        state: &AppState,
        timeout: Option<Duration>,
        note: Option<QueryNote>,
        at_hand: H,
        work: F,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        H: FnOnce(&QueryContext) -> Option<Result<T, ApiError>> + Send,
        F: FnOnce(&QueryContext, Duration) -> Result<T, ApiError> + Send + 'static,
    {
        let began = state.clock.monotonic();
        let client = present_client(note.as_ref());
        let registered = note.map(|note| state.queries.enter(note, state.clock.now_ms()));
        let result = match &registered {
            None => self.admitted(state, &client, timeout, None, at_hand, work).await,
            Some(entry) => {
                tokio::select! {
                    result = self.admitted(state, &client, timeout, Some(entry), at_hand, work) => result,
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

    async fn admitted<T, H, F>(
        &self,
        state: &AppState,
        client: &Arc<str>,
        timeout: Option<Duration>,
        registered: Option<&Registered<'_>>,
        at_hand: H,
        work: F,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        H: FnOnce(&QueryContext) -> Option<Result<T, ApiError>> + Send,
        F: FnOnce(&QueryContext, Duration) -> Result<T, ApiError> + Send + 'static,
    {
        let came = state.clock.monotonic();
        let asked = timeout.unwrap_or(state.limits.query_timeout).min(state.limits.query_timeout);
        let place = match self.turns.try_take(client) {
            Some(place) => place,
            None => self.wait_for_turn(state, client, asked).await?,
        };
        // The time in the queue counts.
        let timeout = asked.saturating_sub(state.clock.monotonic().saturating_sub(came));
        let context = || QueryContext::new(Arc::clone(&state.clock), timeout, &state.limits, state.accountant.clone());
        if let Some(answer) = ask_at_hand(&context(), at_hand) {
            return answer;
        }
        let context = Arc::new(context());
        let waited = state.clock.monotonic().saturating_sub(came);
        if let Some(entry) = registered {
            entry.runs(&context);
        }
        let guard = context.cancel_guard();
        let span = tracing::Span::current();
        let job = tokio::task::spawn_blocking(move || {
            let _place = place;
            RUNNING.inc();
            let _running = Running;
            span.in_scope(|| work(&context, waited))
        });
        let joined = match tokio::time::timeout(timeout.saturating_add(GRACE), job).await {
            Ok(joined) => joined,
            Err(_) => {
                limits::hit("query_timeout");
                drop(guard);
                return Err(ApiError::new(ErrorKind::Timeout, timed_out(asked)));
            }
        };
        guard.disarm();
        joined.unwrap_or_else(|error| {
            tracing::error!(%error, "query ended early");
            Err(ended_early())
        })
    }

    async fn wait_for_turn(&self, state: &AppState, client: &Arc<str>, timeout: Duration) -> Result<Place, ApiError> {
        WAITING.inc();
        let _waiting = Waiting;
        match tokio::time::timeout(self.queue_wait.min(timeout), self.turns.take(client)).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(Full { waiting })) => {
                limits::hit("query_queue_max");
                let message = format!("too many queries wait: {waiting} (limit query_queue_max)");
                Err(ApiError::unavailable(message, state.jittered_retry()))
            }
            Err(_) if timeout < self.queue_wait => {
                limits::hit("query_timeout");
                Err(ApiError::new(ErrorKind::Timeout, timed_out(timeout)))
            }
            Err(_) => {
                limits::hit("query_queue_wait");
                let message = format!("query waited longer than {:?} (limit query_queue_wait)", self.queue_wait);
                Err(ApiError::unavailable(message, state.jittered_retry()))
            }
        }
    }
}

fn timed_out(timeout: Duration) -> String {
    format!("query timed out after {timeout:?} (limit query_timeout)")
}

fn ended_early() -> ApiError {
    ApiError::internal("query failed: internal error")
}

/// Asks for what is at hand; a panic is an error of the query, as it is on a thread of its own.
fn ask_at_hand<T>(
    context: &QueryContext,
    at_hand: impl FnOnce(&QueryContext) -> Option<Result<T, ApiError>>,
) -> Option<Result<T, ApiError>> {
    RUNNING.inc();
    let _running = Running;
    catch_unwind(AssertUnwindSafe(|| at_hand(context))).unwrap_or_else(|_| {
        tracing::error!("query panicked");
        Some(Err(ended_early()))
    })
}

struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn clients_are_users_or_addresses() {
        let client = |peer: &str, forwarded: &[&str], user: &str| {
            let mut request = http::Request::builder();
            for value in forwarded {
                request = request.header("x-forwarded-for", *value);
            }
            let mut request = request.body(axum::body::Body::empty()).unwrap();
            let address: SocketAddr = peer.parse().unwrap();
            request.extensions_mut().insert(Peer { address });
            request.extensions_mut().insert(Identity { name: user.to_owned() });
            client_of(&request).to_string()
        };
        for (peer, forwarded, user, want) in [
            ("192.0.2.1:5", &[][..], "", "192.0.2.1"),
            ("192.0.2.1:5", &["198.51.100.9"], "", "192.0.2.1"),
            ("127.0.0.1:5", &["198.51.100.9"], "", "198.51.100.9"),
            ("[::ffff:127.0.0.1]:5", &["203.0.113.1", "203.0.113.2, 198.51.100.9"], "", "198.51.100.9"),
            ("127.0.0.1:5", &["unknown"], "", "127.0.0.1"),
            ("192.0.2.1:5", &["198.51.100.9"], "ann", "user ann"),
        ] {
            assert_eq!(client(peer, forwarded, user), want);
        }
    }
}
