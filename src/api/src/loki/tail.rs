//! Live tail over a WebSocket: what there is first, then what comes, by asking again twice a second.
//!
//! Lines arrive late by the time that shippers hold them back, so every question reaches some seconds back and lines
//! already sent are left out by their hash.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use trefoil_logql::{Engine, Entry, Output, QueryKind, RangeQuery, StreamResult};
use trefoil_model::Direction;
use trefoil_runtime::{Phase, limits};

use super::{check_limit, logql_error, params, query_text, refuse, render, wants_categories};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::AppState;

/// How often is asked for new lines.
const INTERVAL: Duration = Duration::from_millis(500);
/// How far back every question reaches.
const LATE_NS: i64 = 10_000_000_000;
/// Most seconds that a client may ask lines to be held back.
const DELAY_SECONDS_MAX: u64 = 5;
/// How long a client may take for a message.
const SEND_TIME: Duration = Duration::from_secs(10);
/// Bytes of a message from the client; it has nothing to say.
const INCOMING_BYTES_MAX: usize = 4096;

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

/// What a client wants to follow.
struct Follow {
    state: AppState,
    query: String,
    limit: usize,
    delay_ns: i64,
    /// Lines before are not wanted.
    from_ns: i64,
    categorize: bool,
    /// Hashes of the lines sent, by time, as far back as questions reach.
    sent: BTreeMap<i64, HashSet<u64>>,
}

/// Upgrades to a WebSocket, or refuses as the other endpoints do.
pub(super) async fn tail(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let follow = match follow(&state, query.as_deref().unwrap_or(""), &headers).await {
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

async fn follow(state: &AppState, query: &str, headers: &HeaderMap) -> Result<Follow, ApiError> {
    let params = Params::from_query(query)?;
    let query = query_text(state, &params)?;
    let text = query.clone();
    if state.gate.run(state, None, move |_| Engine::check(&text).map_err(logql_error)).await? != QueryKind::Log {
        return Err(ApiError::bad_data("only log queries can be tailed"));
    }
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
        limit,
        delay_ns: i64::try_from(delay * 1_000_000_000).unwrap_or(0),
        from_ns,
        categorize: wants_categories(headers),
        sent: BTreeMap::new(),
    })
}

async fn serve(mut socket: WebSocket, mut follow: Follow) {
    let stop = follow.state.tasks.stop(Phase::Accept);
    let mut history = true;
    let mut rounds = 0u32;
    loop {
        let message = match follow.ask(history).await {
            Ok(message) => message,
            Err(error) => {
                // Overload passes; whatever else fails will fail again.
                if error.kind != crate::error::ErrorKind::Unavailable {
                    tracing::debug!(%error, "live tail ended");
                    return;
                }
                None
            }
        };
        history = false;
        let message = match message {
            Some(text) => Some(Message::Text(text.into())),
            None if rounds % 2 == 1 => Some(Message::Ping(bytes::Bytes::new())),
            None => None,
        };
        rounds = rounds.wrapping_add(1);
        if let Some(message) = message
            && !matches!(tokio::time::timeout(SEND_TIME, socket.send(message)).await, Ok(Ok(())))
        {
            return;
        }
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

impl Follow {
    /// The next message, if there is something to say.
    async fn ask(&mut self, history: bool) -> Result<Option<String>, ApiError> {
        let now = self.state.clock.now_ns();
        let end_ns = now.saturating_sub(self.delay_ns).saturating_add(1);
        let late_ns = end_ns.saturating_sub(LATE_NS);
        let (start_ns, direction, limit) = if history {
            (self.from_ns, Direction::Backward, self.limit)
        } else {
            (self.from_ns.max(late_ns), Direction::Forward, self.state.limits.log_entries_max)
        };
        if start_ns >= end_ns {
            return Ok(None);
        }
        let (query, logs, tenant) = (self.query.clone(), self.state.logs.clone(), self.state.tenant);
        let work = move |context: &trefoil_runtime::QueryContext| {
            let query = RangeQuery { query: &query, start_ns, end_ns, step_ns: 1, direction, limit, tenant };
            Engine::range(&query, logs.as_ref(), context).map_err(logql_error)
        };
        let answer = self.state.gate.run(&self.state, None, work).await?;
        let Output::Streams(mut streams) = answer.output else { return Ok(None) };
        if history {
            self.begin(&mut streams);
        }
        self.leave_out_sent(&mut streams, late_ns);
        if streams.is_empty() {
            return Ok(None);
        }
        let text = render::tail(&streams, self.categorize).map_err(super::unwritable)?;
        Ok(Some(text))
    }

    /// Puts the first lines in order of time, and forgets what is older than them when there was more.
    fn begin(&mut self, streams: &mut [StreamResult]) {
        let count: usize = streams.iter().map(|s| s.entries.len()).sum();
        if count >= self.limit {
            let oldest = streams.iter().flat_map(|s| &s.entries).map(|e| e.ts_ns).min();
            self.from_ns = oldest.unwrap_or(self.from_ns);
        }
        for stream in streams {
            stream.entries.reverse();
        }
    }

    fn leave_out_sent(&mut self, streams: &mut Vec<StreamResult>, late_ns: i64) {
        let sent = &mut self.sent;
        *sent = sent.split_off(&late_ns);
        for stream in streams.iter_mut() {
            let labels = stream.labels.stable_hash();
            stream.entries.retain(|entry| {
                entry.ts_ns < late_ns || sent.entry(entry.ts_ns).or_default().insert(entry_hash(labels, entry))
            });
        }
        streams.retain(|s| !s.entries.is_empty());
    }
}

fn entry_hash(labels: u64, entry: &Entry) -> u64 {
    let mut hasher = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
    labels.hash(&mut hasher);
    entry.line.hash(&mut hasher);
    entry.structured_metadata.hash(&mut hasher);
    hasher.finish()
}
