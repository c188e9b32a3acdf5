//! The task: step, write down where the step ends, write the batch, again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use trefoil_model::query::Unlimited;
use trefoil_model::{EventWriter, LogBatch, LogGroup, LogQuery, LogReader, Matcher, NanoRange, TenantId, WriteError};
use trefoil_pipeline::Moment;
use trefoil_runtime::limits::Limits;
use trefoil_runtime::tasks::{TaskResult, chain};
use trefoil_runtime::{SharedClock, SharedVfs, Stop};

use crate::metrics;
use crate::positions::{Change, Mark, Positions, marks};
use crate::source::Source;
use crate::tailer::{Tailer, Work};

/// Time between two looks at files that are written to.
const POLL: Duration = Duration::from_millis(250);
/// Waits after a refused write.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Makes records as they are stored: labels checked, levels derived, limits applied.
pub trait Intake: Send + Sync {
    /// Takes the groups of one batch. What cannot be stored is left out, counted by the callee.
    fn prepare(&self, groups: Vec<LogGroup>) -> LogBatch;
}

/// What the task works with.
#[derive(Clone)]
pub struct TailSetup {
    /// Where positions are kept.
    pub positions: PathBuf,
    /// File system of the positions.
    pub vfs: SharedVfs,
    /// Time.
    pub clock: SharedClock,
    /// Where records go.
    pub writer: Arc<dyn EventWriter>,
    /// Asked after a crash whether it has the last batch.
    pub reader: Arc<dyn LogReader>,
    /// Tenant of all records.
    pub tenant: TenantId,
    /// Makes records as they are stored.
    pub intake: Arc<dyn Intake>,
    /// Limits.
    pub limits: Limits,
}

/// The tailer as others see it. Clones share it.
#[derive(Clone)]
pub struct Tail {
    setup: TailSetup,
    next: Arc<Next>,
}

#[derive(Default)]
struct Next {
    /// What is to be followed, and how often that was said.
    sources: Mutex<(u64, Vec<Source>)>,
    changed: Notify,
}

impl Tail {
    /// Follows nothing before [`Tail::apply`].
    pub fn new(setup: TailSetup) -> Self {
        Self { setup, next: Arc::default() }
    }

    /// Follows these files from now on.
    pub fn apply(&self, sources: Vec<Source>) {
        let mut next = self.next.sources.lock();
        *next = (next.0 + 1, sources);
        drop(next);
        self.next.changed.notify_one();
    }

    /// Runs until it is stopped. May be started again after a failure, but not twice at a time.
    pub async fn run(&self, stop: Stop) -> TaskResult {
        let mut state: Option<State> = None;
        // A restart of the task follows what the one before did.
        let mut applied = 0;
        loop {
            let (count, sources) = {
                let next = self.next.sources.lock();
                (next.0, if next.0 == applied { None } else { Some(next.1.clone()) })
            };
            if let Some(sources) = sources {
                state = self.start(state, sources).await?;
                applied = count;
            }
            if state.as_ref().is_none_or(|state| state.tailer.is_idle()) {
                state = None;
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = self.next.changed.notified() => {}
                }
                continue;
            }
            let mut owned = state.take().ok_or("the tailer has no state")?;
            let now = Moment { wall_ns: self.setup.clock.now_ns(), monotonic: self.setup.clock.monotonic() };
            let (owned_back, work) = tokio::task::spawn_blocking(move || {
                let work = owned.tailer.step(now);
                (owned, work)
            })
            .await?;
            let Work { groups, change, more, wait } = work;
            state = self.store(owned_back, groups, change, &stop).await?;
            if stop.is_cancelled() {
                return Ok(());
            }
            let rest = if more { wait } else { wait.max(POLL) };
            if !rest.is_zero() {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = self.next.changed.notified() => {}
                    () = self.setup.clock.sleep(rest) => {}
                }
            }
        }
    }

    /// Puts sources in force; opens the positions with the first ones.
    async fn start(&self, state: Option<State>, sources: Vec<Source>) -> Result<Option<State>, String> {
        if state.is_none() && sources.is_empty() {
            return Ok(None);
        }
        let setup = self.setup.clone();
        let started = tokio::task::spawn_blocking(move || -> Result<State, String> {
            let mut state = match state {
                Some(state) => state,
                None => {
                    let is_stored = |marks: &[Mark]| setup.has(marks);
                    let positions = Positions::open(Arc::clone(&setup.vfs), &setup.positions, &is_stored)
                        .map_err(|error| format!("positions of log files {}: {error}", setup.positions.display()))?;
                    State { tailer: Tailer::new(&setup.limits), positions }
                }
            };
            state.tailer.set_sources(sources, &state.positions);
            Ok(state)
        });
        started.await.map_err(|error| error.to_string())?.map(Some)
    }

    /// Writes down the change, then writes the batch, however long the store refuses.
    async fn store(
        &self,
        mut state: State,
        groups: Vec<LogGroup>,
        change: Change,
        stop: &Stop,
    ) -> Result<Option<State>, String> {
        if groups.is_empty() && change.is_empty() {
            return Ok(Some(state));
        }
        let intake = Arc::clone(&self.setup.intake);
        let prepare = move || if groups.is_empty() { LogBatch::default() } else { intake.prepare(groups) };
        let batch = tokio::task::spawn_blocking(prepare).await.map_err(|error| error.to_string())?;
        let (change, marks) = (Arc::new(change), marks(&batch));
        let mut delay = RETRY_MIN;
        loop {
            let (change, marks) = (Arc::clone(&change), marks.clone());
            let append = move || {
                let appended = state.positions.append(&change, marks);
                (state, appended)
            };
            let appended;
            (state, appended) = tokio::task::spawn_blocking(append).await.map_err(|error| error.to_string())?;
            let Err(error) = appended else { break };
            metrics::error("positions");
            tracing::warn!(%error, retry_seconds = delay.as_secs_f64(), "positions of log files not written, tried again");
            if !self.rest(&mut delay, None, stop).await {
                return Ok(Some(state));
            }
        }
        if !batch.groups.is_empty() {
            self.write(batch, stop).await;
        }
        Ok(Some(state))
    }

    async fn write(&self, batch: LogBatch, stop: &Stop) {
        let mut delay = RETRY_MIN;
        loop {
            match self.setup.writer.write_logs(batch.clone()).await {
                Ok(report) => {
                    if report.rejected > 0 {
                        metrics::error("rejected");
                        let reason = report.reasons.first().map_or("", String::as_str);
                        tracing::warn!(rejected = report.rejected, reason, "lines of log files were refused");
                    }
                    return;
                }
                Err(WriteError::Invalid(reason)) => {
                    self.write_apart(batch, &reason).await;
                    return;
                }
                Err(error) => {
                    metrics::RETRIES.inc();
                    let wait = match &error {
                        WriteError::Unavailable { retry_after, .. } => Some(*retry_after),
                        _ => None,
                    };
                    if delay == RETRY_MIN {
                        tracing::warn!(
                            error = chain(&error),
                            "the store refuses lines of log files, they are tried again"
                        );
                    }
                    // Whoever stops now leaves the marks of this batch as the last ones: the next start asks for them.
                    if !self.rest(&mut delay, wait, stop).await {
                        return;
                    }
                }
            }
        }
    }

    /// Writes each stream alone, so that what can never be stored costs nothing else.
    async fn write_apart(&self, batch: LogBatch, reason: &str) {
        tracing::warn!(reason, "a batch of log files was refused, its streams are written one by one");
        for group in batch.groups {
            let lines = group.records.len() as u64;
            let alone = LogBatch { tenant: batch.tenant, groups: vec![group] };
            if let Err(error) = self.setup.writer.write_logs(alone).await {
                metrics::error("rejected");
                tracing::error!(lines, error = chain(&error), "lines of a log file cannot be stored");
            }
        }
    }

    /// Waits before the next attempt; false when it is time to stop.
    async fn rest(&self, delay: &mut Duration, asked: Option<Duration>, stop: &Stop) -> bool {
        let wait = asked.unwrap_or(*delay).clamp(RETRY_MIN, RETRY_MAX);
        *delay = (*delay * 2).min(RETRY_MAX);
        tokio::select! {
            () = stop.cancelled() => false,
            () = self.setup.clock.sleep(wait) => true,
        }
    }
}

impl TailSetup {
    /// True when the store has all marked records.
    fn has(&self, marks: &[Mark]) -> bool {
        marks.iter().all(|mark| {
            let matchers = mark.stream.iter().map(|(name, value)| {
                Matcher::equal(trefoil_model::labels::underscored(name).into_owned(), value.clone())
            });
            let range = NanoRange { start_ns: mark.time_ns, end_ns: mark.time_ns.saturating_add(1) };
            let query = LogQuery::new(self.tenant, range, matchers.collect());
            let mut found = false;
            let scanned = self.reader.scan(&query, &Unlimited, &mut |entry| {
                found |= Mark::hash(&entry.record.text) == mark.line_hash;
                if found { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
            });
            if let Err(error) = &scanned {
                tracing::warn!(
                    error = chain(error),
                    "the store cannot tell whether it has the last batch of log files"
                );
            }
            found
        })
    }
}

struct State {
    tailer: Tailer,
    positions: Positions,
}
