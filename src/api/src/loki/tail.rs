//! Live tail over a WebSocket: what there is first, then what comes, as soon as it is stored and each line once.
//!
//! New records come from the tap before the store. A client that does not keep up loses lines and is told which
//! streams they were of (`dropped_entries`).

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use trefoil_insight::Subscription;
use trefoil_insight::tap::Taken;
use trefoil_logql::ast::Expr;
use trefoil_logql::{Engine, Entry, GroupsReader, Output, QueryKind, RangeQuery, StreamResult};
use trefoil_model::{Direction, Labels, LogGroup, Matcher};
use trefoil_runtime::{Phase, limits};

use super::{check_limit, legacy, logql_error, params, query_text, refuse, render, wants_categories};
use crate::error::{ApiError, ErrorKind};
use crate::params::Params;
use crate::state::AppState;

/// How often new lines are sent.
const INTERVAL: Duration = Duration::from_millis(250);
/// Rounds between pings: one a second.
const PING_ROUNDS: u32 = 4;
/// Most seconds that a client may ask lines to be held back.
const DELAY_SECONDS_MAX: u64 = 5;
/// How long a client may take for a message.
const SEND_TIME: Duration = Duration::from_secs(10);
/// Bytes of a message from the client; it has nothing to say.
const INCOMING_BYTES_MAX: usize = 4096;
/// Bytes of new records that wait for a client.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// For so many rounds a new line may be one that was there at the start.
const OVERLAP_ROUNDS: u32 = 20;

/// Live tails now, against `tails_max`.
static TAILS: AtomicUsize = AtomicUsize::new(0);

/// A place among the live tails.
struct Place;

impl Place {
    fn take(max: usize) -> Option<Self> {
        TAILS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1)).ok().map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        TAILS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Categorized,
    /// As `/api/prom/tail` has them.
    Legacy,
}

/// What a client wants to follow.
struct Follow {
    state: AppState,
    query: String,
    matchers: Vec<Matcher>,
    limit: usize,
    delay: Duration,
    /// Lines before are not wanted.
    from_ns: i64,
    form: Form,
    /// Hashes of the lines that were there at the start.
    sent: HashSet<u64>,
    /// New records whose turn did not come yet.
    pending: Vec<LogGroup>,
}

/// `GET /loki/api/v1/tail`: upgrades to a WebSocket, or refuses as the other endpoints do.
pub(super) async fn tail(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let form = if wants_categories(&headers) { Form::Categorized } else { Form::Plain };
    upgraded(&state, query.as_deref().unwrap_or(""), form, upgrade).await
}

/// `GET /api/prom/tail`
pub(super) async fn legacy_tail(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    upgraded(&state, query.as_deref().unwrap_or(""), Form::Legacy, upgrade).await
}

async fn upgraded(
    state: &AppState,
    query: &str,
    form: Form,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let follow = match follow(state, query, form).await {
        Ok(follow) => follow,
        Err(error) => return refuse(error),
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let Some(place) = Place::take(state.limits.tails_max) else {
        limits::hit("tails_max");
        let message = format!("{} live tails are open already (limit tails_max)", state.limits.tails_max);
        return refuse(ApiError::unavailable(message, state.jittered_retry()));
    };
    upgrade.max_message_size(INCOMING_BYTES_MAX).on_upgrade(move |socket| async move {
        let _place = place;
        Box::pin(serve(socket, follow)).await;
    })
}

async fn follow(state: &AppState, query: &str, form: Form) -> Result<Follow, ApiError> {
    let params = Params::from_query(query)?;
    let query = query_text(state, &params)?;
    let text = query.clone();
    let checked = state.gate.run(state, None, move |_| Engine::check(&text).map_err(logql_error)).await?;
    let (QueryKind::Log, Expr::Log(log)) = (checked, trefoil_logql::parse(&query).map_err(logql_error)?) else {
        return Err(ApiError::bad_data("only log queries can be tailed"));
    };
    let limit = params::limit(&params)?;
    check_limit(state, limit)?;
    let delay: u64 = match params.get("delay_for") {
        "" => 0,
        text => text.parse().map_err(|_| ApiError::bad_data(format!("could not parse 'delay_for': {text:?}")))?,
    };
    if delay > DELAY_SECONDS_MAX {
        return Err(ApiError::bad_data(format!("delay_for can't be greater than {DELAY_SECONDS_MAX}")));
    }
    let from_ns = params::bounds(&params, state.clock.now_ns())?.start_ns;
    Ok(Follow {
        state: state.clone(),
        query,
        matchers: log.matchers,
        limit,
        delay: Duration::from_secs(delay),
        from_ns,
        form,
        sent: HashSet::new(),
        pending: Vec::new(),
    })
}

async fn serve(mut socket: WebSocket, mut follow: Follow) {
    let stop = follow.state.tasks.stop(Phase::Accept);
    // Before the first question, so that no line falls between what is there and what comes.
    let tap = &follow.state.insight.tap;
    let new = tap.subscribe(follow.state.tenant, follow.matchers.clone(), WAITING_BYTES_MAX);
    let mut waits_for_history = true;
    let mut rounds = 0u32;
    loop {
        let asked = if waits_for_history { follow.history().await } else { follow.take(&new, rounds).await };
        let message = match asked {
            Ok(message) => {
                waits_for_history = false;
                message
            }
            Err(error) => {
                // Overload passes; whatever else fails will fail again.
                if error.kind != ErrorKind::Unavailable {
                    tracing::debug!(%error, "live tail ended");
                    return;
                }
                None
            }
        };
        if let Some(text) = message
            && !sent(&mut socket, Message::Text(text.into())).await
        {
            return;
        }
        if rounds.is_multiple_of(PING_ROUNDS) && !sent(&mut socket, Message::Ping(bytes::Bytes::new())).await {
            return;
        }
        rounds = rounds.wrapping_add(1);
        let pause = tokio::time::sleep(INTERVAL);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                () = stop.cancelled() => return,
                incoming = socket.recv() => match incoming {
                    None | Some(Err(_) | Ok(Message::Close(_))) => return,
                    Some(Ok(_)) => {}
                },
            }
        }
    }
}

async fn sent(socket: &mut WebSocket, message: Message) -> bool {
    matches!(tokio::time::timeout(SEND_TIME, socket.send(message)).await, Ok(Ok(())))
}

impl Follow {
    /// The newest lines that are there, oldest first.
    async fn history(&mut self) -> Result<Option<String>, ApiError> {
        let end_ns = self.state.clock.now_ns().saturating_add(1);
        if self.from_ns >= end_ns {
            return Ok(None);
        }
        let (query, logs, tenant) = (self.query.clone(), self.state.logs.clone(), self.state.tenant);
        let (start_ns, limit) = (self.from_ns, self.limit);
        let work = move |context: &trefoil_runtime::QueryContext| {
            let direction = Direction::Backward;
            let query = RangeQuery { query: &query, start_ns, end_ns, step_ns: 1, direction, limit, tenant };
            Engine::range(&query, logs.as_ref(), context).map_err(logql_error)
        };
        let answer = self.state.gate.run(&self.state, None, work).await?;
        let Output::Streams(mut streams) = answer.output else { return Ok(None) };
        for stream in &mut streams {
            stream.entries.reverse();
            let labels = stream.labels.stable_hash();
            self.sent.extend(stream.entries.iter().map(|entry| entry_hash(labels, entry)));
        }
        self.message(&streams, &[])
    }

    /// What came since the last round.
    async fn take(&mut self, new: &Subscription, round: u32) -> Result<Option<String>, ApiError> {
        let mut taken = if self.pending.is_empty() { new.take(self.delay) } else { Taken::default() };
        self.pending.append(&mut taken.groups);
        if self.pending.is_empty() && taken.dropped.is_empty() {
            return Ok(None);
        }
        let mut streams = self.lines_of_pending().await?;
        if round > OVERLAP_ROUNDS.saturating_add(u32::try_from(self.delay.as_secs()).unwrap_or(0) * PING_ROUNDS) {
            self.sent = HashSet::new();
        }
        for stream in &mut streams {
            let labels = stream.labels.stable_hash();
            stream.entries.retain(|e| e.ts_ns >= self.from_ns && !self.sent.remove(&entry_hash(labels, e)));
        }
        streams.retain(|s| !s.entries.is_empty());
        self.message(&streams, &taken.dropped)
    }

    /// The lines of new records that pass the query, in order of time. On errors the records stay.
    async fn lines_of_pending(&mut self) -> Result<Vec<StreamResult>, ApiError> {
        if self.pending.is_empty() {
            return Ok(Vec::new());
        }
        let groups = Arc::new(GroupsReader { groups: std::mem::take(&mut self.pending) });
        let (query, tenant, reader) = (self.query.clone(), self.state.tenant, Arc::clone(&groups));
        let work = move |context: &trefoil_runtime::QueryContext| {
            let (start_ns, end_ns, direction) = (i64::MIN, i64::MAX, Direction::Forward);
            let query = RangeQuery { query: &query, start_ns, end_ns, step_ns: 1, direction, limit: 0, tenant };
            Engine::range(&query, &*reader, context).map_err(logql_error)
        };
        match self.state.gate.run(&self.state, None, work).await {
            Ok(answer) => match answer.output {
                Output::Streams(streams) => Ok(streams),
                _ => Ok(Vec::new()),
            },
            Err(error) => {
                self.pending = Arc::try_unwrap(groups).map(|reader| reader.groups).unwrap_or_default();
                Err(error)
            }
        }
    }

    fn message(&self, streams: &[StreamResult], dropped: &[(Labels, i64)]) -> Result<Option<String>, ApiError> {
        if streams.is_empty() && dropped.is_empty() {
            return Ok(None);
        }
        let text = match self.form {
            Form::Legacy => serde_json::to_string(&serde_json::json!({ "streams": legacy::shown(streams) })),
            form => render::tail(streams, dropped, form == Form::Categorized),
        };
        text.map(Some).map_err(super::unwritable)
    }
}

fn entry_hash(labels: u64, entry: &Entry) -> u64 {
    let mut hasher = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
    labels.hash(&mut hasher);
    entry.line.hash(&mut hasher);
    entry.structured_metadata.hash(&mut hasher);
    hasher.finish()
}
