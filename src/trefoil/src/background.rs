//! What the stores need to have done now and then: flushes, merges, retention.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;
use trefoil_events::EventStore;
use trefoil_insight::SpanInsight;
use trefoil_runtime::background::{self, Priority};
use trefoil_runtime::tasks::chain;
use trefoil_runtime::{OnError, Phase, SharedClock, Stop, Tasks};
use trefoil_tsdb::Tsdb;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const MERGE_EVERY: Duration = Duration::from_secs(10);
const RETENTION_EVERY: Duration = Duration::from_secs(60);
/// Time between looks for parts to move to the object store.
const MOVE_EVERY: Duration = Duration::from_secs(2);
/// Longest wait after failures.
const MOVE_RETRY_MAX: Duration = Duration::from_secs(300);
/// Merges one after the other before other work is looked at again.
const MERGES_AT_ONCE: usize = 16;

/// The stores and what is around them.
#[derive(Clone)]
pub(crate) struct Stores {
    /// Samples.
    pub metrics: Tsdb,
    /// Log records and spans.
    pub events: EventStore,
    /// What is counted of spans.
    pub spans: Arc<SpanInsight>,
    /// Time.
    pub clock: SharedClock,
}

/// True when the task should go on after waiting `every`.
async fn wait(clock: &SharedClock, stop: &Stop, every: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = clock.sleep(every) => true,
    }
}

/// Starts the background work of the stores.
pub(crate) fn start(stores: &Stores, tasks: &Tasks) {
    let s = stores.clone();
    tasks.spawn("flush metrics", Phase::Storage, OnError::Restart, move |stop| {
        let s = s.clone();
        async move {
            while wait(&s.clock, &stop, LOOK_EVERY).await {
                if s.metrics.should_flush() {
                    s.metrics.flush().await?;
                }
            }
            Ok(())
        }
    });
    let s = stores.clone();
    tasks.spawn("flush events", Phase::Storage, OnError::Restart, move |stop| {
        let s = s.clone();
        async move {
            loop {
                tokio::select! {
                    is_on = wait(&s.clock, &stop, LOOK_EVERY) => if !is_on { break },
                    () = s.events.until_full() => {}
                }
                if s.events.should_flush() {
                    s.events.flush_due().await?;
                }
            }
            Ok(())
        }
    });
    let s = stores.clone();
    tasks.spawn("write span metrics", Phase::Storage, OnError::Restart, move |stop| {
        let s = s.clone();
        async move { s.spans.run(stop, || s.events.persist_observed()).await }
    });
    let s = stores.clone();
    tasks.spawn("merge", Phase::Background, OnError::Restart, move |stop| {
        let s = s.clone();
        async move {
            while wait(&s.clock, &stop, MERGE_EVERY).await {
                for _ in 0..MERGES_AT_ONCE {
                    let (metrics, events) = (s.metrics.clone(), s.events.clone());
                    let merged = background::run("merge", Priority::Lowest, move || -> Result<bool, String> {
                        let samples = metrics.merge_once().map_err(|e| chain(&e))?;
                        let records = events.merge_once().map_err(|e| chain(&e))?;
                        Ok(samples || records)
                    })
                    .await?;
                    if !merged? || stop.is_cancelled() {
                        break;
                    }
                }
            }
            Ok(())
        }
    });
    start_moving("move metrics to object store", stores, tasks, |s| s.metrics.move_once().map_err(|e| chain(&e)));
    start_moving("move logs to object store", stores, tasks, |s| s.events.move_once().map_err(|e| chain(&e)));
    let s = stores.clone();
    tasks.spawn("retention", Phase::Background, OnError::Restart, move |stop| {
        let s = s.clone();
        async move {
            while wait(&s.clock, &stop, RETENTION_EVERY).await {
                let now = s.clock.now_ms();
                let (metrics, events) = (s.metrics.clone(), s.events.clone());
                background::run("retention", Priority::Lowest, move || -> Result<(), String> {
                    metrics.apply_retention(now).map_err(|e| chain(&e))?;
                    events.apply_retention(now).map_err(|e| chain(&e))?;
                    Ok(())
                })
                .await??;
            }
            Ok(())
        }
    });
}

/// Moves parts of past days to the object store, one with each call of `move_once`; waits longer after each failure in a
/// row.
fn start_moving(name: &'static str, stores: &Stores, tasks: &Tasks, move_once: fn(&Stores) -> Result<bool, String>) {
    let s = stores.clone();
    tasks.spawn(name, Phase::Background, OnError::Restart, move |stop| {
        let s = s.clone();
        async move {
            let mut delay = MOVE_EVERY;
            while wait(&s.clock, &stop, delay).await {
                let stores = s.clone();
                match tokio::task::spawn_blocking(move || move_once(&stores)).await? {
                    Ok(true) => delay = Duration::ZERO,
                    Ok(false) => delay = MOVE_EVERY,
                    Err(error) => {
                        delay = (delay * 2).clamp(MOVE_EVERY, MOVE_RETRY_MAX);
                        let retry_seconds = delay.as_secs();
                        warn!(%error, retry_seconds, task = name, "parts were not moved to the object store");
                    }
                }
            }
            Ok(())
        }
    });
}

/// Brings everything onto the disk and closes the stores. What fails stays in the journal and is replayed.
pub(crate) async fn close(stores: &Stores) {
    stores.spans.end();
    stores.events.persist_observed().await;
    stores.spans.close();
    if let Err(error) = stores.metrics.flush().await {
        warn!(error = chain(&error), "metrics not flushed at the end; the journal keeps them");
    }
    stores.metrics.close().await;
    if let Err(error) = stores.events.flush().await {
        warn!(error = chain(&error), "events not flushed at the end; the journal keeps them");
    }
    if let Err(error) = stores.events.close().await {
        warn!(error = chain(&error), "event store not closed in order");
    }
}
