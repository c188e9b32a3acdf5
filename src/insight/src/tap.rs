//! New log records for those who wait for them, as live tails do: each once, as soon as it is stored.
//!
//! Nobody waits for a slow reader: what does not fit its queue is dropped and told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use prometheus::{IntCounter, register_int_counter};
use tokio::time::Instant;
use trefoil_model::labels::underscored;
use trefoil_model::{Labels, LogBatch, LogGroup, Matcher, TenantId};

/// Dropped records that are told by name; more are only counted.
const DROPPED_TOLD_MAX: usize = 100;

static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "trefoil_insight_tap_dropped_records_total",
        "New log records that did not reach a live tail because it was too slow."
    )
    .expect("unique metric name")
});

/// Hands new records to subscriptions.
#[derive(Debug, Default)]
pub struct Tap {
    /// Live subscriptions, so that a write without any costs nothing.
    open: Arc<AtomicUsize>,
    queues: RwLock<Vec<Weak<Queue>>>,
}

#[derive(Debug)]
struct Queue {
    tenant: TenantId,
    matchers: Vec<Matcher>,
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    groups: VecDeque<(Instant, LogGroup)>,
    bytes: usize,
    dropped: Vec<(Labels, i64)>,
}

/// What a subscription got since it was asked last.
#[derive(Debug, Default)]
pub struct Taken {
    /// Records by stream, in order of arrival.
    pub groups: Vec<LogGroup>,
    /// Stream and time (Unix nanoseconds) of records that were dropped, at most 100.
    pub dropped: Vec<(Labels, i64)>,
}

/// Records that match from now on. Ends when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
    open: Arc<AtomicUsize>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Subscription {
    /// Takes what came in at least `age` ago.
    pub fn take(&self, age: Duration) -> Taken {
        let now = Instant::now();
        let mut state = self.queue.state.lock();
        let ready = state.groups.iter().take_while(|(came, _)| now.saturating_duration_since(*came) >= age).count();
        let groups: Vec<LogGroup> = state.groups.drain(..ready).map(|(_, group)| group).collect();
        state.bytes = state.bytes.saturating_sub(groups.iter().map(bytes_of).sum());
        Taken { groups, dropped: std::mem::take(&mut state.dropped) }
    }
}

fn bytes_of(group: &LogGroup) -> usize {
    group.stream.heap_bytes() + group.records.iter().map(trefoil_model::LogRecord::heap_bytes).sum::<usize>()
}

/// Records on their way to subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Picked(Vec<(Arc<Queue>, Vec<LogGroup>)>);

impl Picked {
    pub(crate) fn deliver(self) {
        let now = Instant::now();
        for (queue, groups) in self.0 {
            let mut state = queue.state.lock();
            for group in groups {
                let bytes = bytes_of(&group);
                if state.bytes + bytes <= queue.bytes_max {
                    state.bytes += bytes;
                    state.groups.push_back((now, group));
                    continue;
                }
                DROPPED.inc_by(group.records.len() as u64);
                let room = DROPPED_TOLD_MAX.saturating_sub(state.dropped.len());
                let told = group.records.iter().take(room).map(|r| (group.stream.clone(), r.time_ns));
                state.dropped.extend(told);
            }
        }
    }
}

impl Tap {
    /// Subscribes to the streams that satisfy all matchers; names are compared underscored. At most `bytes_max` bytes
    /// wait to be taken.
    pub fn subscribe(&self, tenant: TenantId, matchers: Vec<Matcher>, bytes_max: usize) -> Subscription {
        let queue = Arc::new(Queue { tenant, matchers, bytes_max, state: Mutex::default() });
        let mut queues = self.queues.write();
        queues.retain(|q| q.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        self.open.fetch_add(1, Ordering::Relaxed);
        Subscription { queue, open: Arc::clone(&self.open) }
    }

    /// Copies the groups that somebody waits for.
    pub(crate) fn pick(&self, batch: &LogBatch) -> Picked {
        if self.open.load(Ordering::Relaxed) == 0 {
            return Picked::default();
        }
        let queues: Vec<Arc<Queue>> = self.queues.read().iter().filter_map(Weak::upgrade).collect();
        let wanted = |queue: &Queue| -> Vec<LogGroup> {
            let groups = batch.groups.iter().filter(|_| queue.tenant == batch.tenant);
            groups.filter(|g| selects(&queue.matchers, &g.stream)).cloned().collect()
        };
        Picked(
            queues.into_iter().map(|q| (wanted(&q), q)).filter(|(g, _)| !g.is_empty()).map(|(g, q)| (q, g)).collect(),
        )
    }
}

fn selects(matchers: &[Matcher], stream: &Labels) -> bool {
    matchers.iter().all(|m| {
        m.matches(stream.iter().find(|(n, _)| underscored(n) == m.name.as_str()).map_or("", |(_, value)| value))
    })
}

#[cfg(test)]
mod tests {
    use trefoil_model::{LogRecord, MatchOp};

    use super::*;

    fn batch(service: &str, lines: &[&str]) -> LogBatch {
        let record = |(i, text): (usize, &&str)| LogRecord {
            time_ns: i as i64,
            observed_ns: 0,
            severity_number: 0,
            severity_text: String::new(),
            text: (*text).to_owned(),
            attributes: Vec::new(),
            trace_id: None,
            span_id: None,
        };
        let group = LogGroup {
            stream: Labels::from_pairs([("service.name", service)]),
            shared: Arc::default(),
            records: lines.iter().enumerate().map(record).collect(),
        };
        LogBatch { tenant: TenantId(0), groups: vec![group] }
    }

    fn shop() -> Vec<Matcher> {
        vec![Matcher::new(MatchOp::Equal, "service_name".to_owned(), "shop".to_owned()).unwrap()]
    }

    #[tokio::test]
    async fn what_matches_comes_once() {
        let tap = Tap::default();
        tap.pick(&batch("shop", &["before"])).deliver();
        let subscription = tap.subscribe(TenantId(0), shop(), 1 << 20);
        tap.pick(&batch("cart", &["other"])).deliver();
        tap.pick(&batch("shop", &["one", "two"])).deliver();
        assert!(subscription.take(Duration::from_secs(3600)).groups.is_empty(), "too young");
        let taken = subscription.take(Duration::ZERO);
        let lines: Vec<&str> = taken.groups.iter().flat_map(|g| &g.records).map(|r| r.text.as_str()).collect();
        assert_eq!(lines, ["one", "two"]);
        assert!(subscription.take(Duration::ZERO).groups.is_empty());
        drop(subscription);
        assert_eq!(tap.open.load(Ordering::Relaxed), 0);
        assert!(tap.pick(&batch("shop", &["late"])).0.is_empty());
    }

    #[tokio::test]
    async fn what_does_not_fit_is_told() {
        let tap = Tap::default();
        let subscription = tap.subscribe(TenantId(0), shop(), 1000);
        for _ in 0..1000 {
            tap.pick(&batch("shop", &["a line"])).deliver();
        }
        let taken = subscription.take(Duration::ZERO);
        assert!(!taken.groups.is_empty() && taken.groups.len() < 20, "{}", taken.groups.len());
        assert_eq!(taken.dropped.len(), DROPPED_TOLD_MAX);
        tap.pick(&batch("shop", &["a line"])).deliver();
        assert_eq!(subscription.take(Duration::ZERO).groups.len(), 1);
    }
}
