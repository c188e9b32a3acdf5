use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use trefoil_ingest::IngestOptions;
use trefoil_model::{EventWriter, Labels, LogBatch, MetricBatch, MetricWriter, TraceBatch, WriteError, WriteReport};
use trefoil_runtime::{Accountant, Limits, OnError, Phase, RealClock, Tasks};

use super::*;

/// A store that fails so many times, and writes only when it is let.
struct Store {
    fails: AtomicUsize,
    turns: Semaphore,
    writes: AtomicUsize,
    lines: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl EventWriter for Store {
    async fn write_logs(&self, batch: LogBatch) -> Result<WriteReport, WriteError> {
        self.turns.acquire().await.map_err(|_| WriteError::Closed)?.forget();
        let failed = self.fails.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if failed.is_ok() {
            let retry_after = Duration::from_millis(1);
            return Err(WriteError::Unavailable { reason: "no room".to_owned(), retry_after });
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        let lines = batch.groups.iter().flat_map(|g| &g.records).map(|r| r.text.clone());
        self.lines.lock().extend(lines);
        Ok(WriteReport { accepted: batch.record_count() as u64, ..WriteReport::default() })
    }

    async fn write_spans(&self, _batch: TraceBatch) -> Result<WriteReport, WriteError> {
        Err(WriteError::Closed)
    }
}

#[async_trait::async_trait]
impl MetricWriter for Store {
    async fn write(&self, _batch: MetricBatch) -> Result<WriteReport, WriteError> {
        Err(WriteError::Closed)
    }
}

struct Setup {
    store: Arc<Store>,
    queue: Queue,
    tasks: Tasks,
}

impl Setup {
    /// A queue of so many bytes over a store that fails and may write so many times.
    fn new(bytes_max: usize, fails: usize, turns: usize) -> Self {
        let store = Arc::new(Store {
            fails: AtomicUsize::new(fails),
            turns: Semaphore::new(turns),
            writes: AtomicUsize::new(0),
            lines: Mutex::new(Vec::new()),
        });
        let ingest = Ingest::new(
            store.clone(),
            store.clone(),
            Limits::default(),
            Accountant::new(1 << 30),
            RealClock::shared(),
            IngestOptions::default(),
        );
        let (queue, writer) = open("syslog", Shares::new(bytes_max));
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        tasks.spawn_once("writer", Phase::Ingest, OnError::Log, move |stop| async move {
            writer.run(ingest, stop).await;
            Ok(())
        });
        Self { store, queue, tasks }
    }

    /// Stops, which writes all that waits; returns the lines, sorted.
    async fn end(self) -> Vec<String> {
        assert!(self.tasks.shutdown(Duration::from_secs(30)).await.finished);
        let mut lines = std::mem::take(&mut *self.store.lines.lock());
        lines.sort();
        lines
    }
}

fn records(lines: std::ops::Range<usize>) -> Vec<Received> {
    let stream = Labels::from_pairs([("job", "syslog")]);
    lines.map(|i| Received::new(stream.clone(), 0, format!("line {i:04}"))).collect()
}

fn wanted(lines: std::ops::Range<usize>) -> Vec<String> {
    lines.map(|i| format!("line {i:04}")).collect()
}

#[tokio::test]
async fn what_waits_is_written_together_and_at_the_end() {
    let setup = Setup::new(64 << 20, 0, 1);
    let stop = Stop::never();
    for i in 0..1000 {
        setup.queue.put(records(i..i + 1), None, &stop).await;
    }
    setup.store.turns.add_permits(1000);
    let store = Arc::clone(&setup.store);
    assert_eq!(setup.end().await, wanted(0..1000));
    assert!(store.writes.load(Ordering::Relaxed) < 100, "{}", store.writes.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_store_that_cannot_write_now_is_asked_again() {
    let setup = Setup::new(64 << 20, 3, 1000);
    setup.queue.put(records(0..10), None, &Stop::never()).await;
    // Behind them, since the store writes in order.
    assert!(setup.queue.put_and_wait(records(10..20), None, &Stop::never()).await);
    assert_eq!(setup.end().await, wanted(0..20));
}

#[tokio::test]
async fn what_is_sent_again_is_not_kept() {
    let setup = Setup::new(64 << 20, 1, 1000);
    assert!(!setup.queue.put_and_wait(records(0..10), None, &Stop::never()).await);
    assert!(setup.queue.put_and_wait(records(0..10), None, &Stop::never()).await);
    assert!(setup.queue.put_and_wait(Vec::new(), None, &Stop::never()).await);
    assert_eq!(setup.end().await, wanted(0..10));
}

#[tokio::test]
async fn a_full_queue_drops_datagrams_and_slows_streams() {
    let bytes = bytes_of(&records(0..10));
    let setup = Setup::new(2 * bytes, 0, 0);
    let stop = Stop::never();
    setup.queue.put_or_drop(records(0..10));
    setup.queue.put(records(10..20), None, &stop).await;
    let before = trefoil_runtime::limits::hits("log_queue_bytes_max");
    setup.queue.put_or_drop(records(20..30));
    assert!(trefoil_runtime::limits::hits("log_queue_bytes_max") > before);
    let queue = setup.queue.clone();
    let slow = queue.put(records(30..40), None, &stop);
    let mut slow = std::pin::pin!(slow);
    assert!(tokio::time::timeout(Duration::from_millis(1), slow.as_mut()).await.is_err());
    setup.store.turns.add_permits(1000);
    slow.await;
    // More than all that may wait is taken alone.
    setup.queue.put(records(40..100), None, &stop).await;
    let mut want = wanted(0..100);
    want.drain(20..30);
    assert_eq!(setup.end().await, want);
}
