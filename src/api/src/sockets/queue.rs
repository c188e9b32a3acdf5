//! From readers to the store: deliveries wait under a limit of bytes and are written many at once.
//!
//! One sync a message would be slow, so the writer takes all that waits, and waits itself for a moment when nobody waits
//! for an answer. While the store cannot write, what is not going to be sent again is kept and tried again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use trefoil_ingest::{Ingest, IngestError, Received, counters};
use trefoil_runtime::Stop;
use trefoil_runtime::memory::Reservation;

use super::metrics;

/// Deliveries that wait, whatever their bytes.
const DELIVERIES_MAX: usize = 4096;
/// How long the first of a write waits for others.
const LINGER: Duration = Duration::from_millis(5);
/// Records and bytes of a write, unless one delivery has more.
const WRITE_RECORDS_MAX: usize = 8192;
const WRITE_BYTES_MAX: usize = 8 << 20;
/// Wait before a write is tried again.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How long writes are tried again after the server was told to stop.
const STOPPING_MAX: Duration = Duration::from_secs(5);

/// Bytes that may wait, of all protocols together.
#[derive(Clone)]
pub(super) struct Shares {
    free: Arc<Semaphore>,
    bytes_max: u32,
}

impl Shares {
    pub(super) fn new(bytes_max: usize) -> Self {
        let bytes_max = u32::try_from(bytes_max.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(bytes_max as usize)), bytes_max }
    }

    /// The share of a delivery; one that is larger than all together takes all.
    fn of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max)
    }
}

/// Gives its bytes back when it is written or dropped.
struct Share {
    _permit: OwnedSemaphorePermit,
    bytes: u32,
}

impl Share {
    fn new(permit: OwnedSemaphorePermit, bytes: u32) -> Self {
        metrics::queue_bytes().add(i64::from(bytes));
        Self { _permit: permit, bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        metrics::queue_bytes().sub(i64::from(self.bytes));
    }
}

struct Delivery {
    records: Vec<Received>,
    bytes: usize,
    /// Told whether all is durable; the receiver is gone when nobody waits any more.
    done: Option<oneshot::Sender<bool>>,
    _share: Share,
    _memory: Option<Reservation>,
}

/// The readers' end.
#[derive(Clone)]
pub(super) struct Queue {
    protocol: &'static str,
    shares: Shares,
    sender: mpsc::Sender<Delivery>,
}

/// The store's end.
pub(super) struct Writer {
    protocol: &'static str,
    receiver: mpsc::Receiver<Delivery>,
}

/// Opens a queue for a protocol.
pub(super) fn open(protocol: &'static str, shares: Shares) -> (Queue, Writer) {
    let (sender, receiver) = mpsc::channel(DELIVERIES_MAX);
    (Queue { protocol, shares, sender }, Writer { protocol, receiver })
}

fn bytes_of(records: &[Received]) -> usize {
    records.iter().map(Received::heap_bytes).sum()
}

impl Queue {
    /// Puts records of a stream; waits while the queue is full, which slows the sender. When the server stops meanwhile
    /// and the store does not take them for some seconds, they are dropped and counted.
    pub(super) async fn put(&self, records: Vec<Received>, memory: Option<Reservation>, stop: &Stop) {
        let count = records.len() as u64;
        if self.put_with(records, memory, None, stop).await.is_err() {
            metrics::dropped(self.protocol, "stopping", count);
        }
    }

    /// Puts records and waits until they are durable; false when they are not, and the sender must send them again.
    pub(super) async fn put_and_wait(&self, records: Vec<Received>, memory: Option<Reservation>, stop: &Stop) -> bool {
        let (sender, receiver) = oneshot::channel();
        if self.put_with(records, memory, Some(sender), stop).await.is_err() {
            return false;
        }
        receiver.await.unwrap_or(false)
    }

    async fn put_with(
        &self,
        records: Vec<Received>,
        memory: Option<Reservation>,
        done: Option<oneshot::Sender<bool>>,
        stop: &Stop,
    ) -> Result<(), ()> {
        if records.is_empty() {
            if let Some(done) = done {
                // Nobody waits: then nobody needs to know.
                done.send(true).ok();
            }
            return Ok(());
        }
        let bytes = bytes_of(&records);
        let share = self.shares.of(bytes);
        let put = async {
            let permit = match Arc::clone(&self.shares.free).try_acquire_many_owned(share) {
                Ok(permit) => permit,
                Err(_) => {
                    trefoil_runtime::limits::hit("log_queue_bytes_max");
                    Arc::clone(&self.shares.free).acquire_many_owned(share).await.map_err(|_| ())?
                }
            };
            let share = Share::new(permit, share);
            self.sender.send(Delivery { records, bytes, done, _share: share, _memory: memory }).await.map_err(|_| ())
        };
        tokio::select! {
            biased;
            put = put => put,
            () = async {
                stop.cancelled().await;
                tokio::time::sleep(STOPPING_MAX).await;
            } => Err(()),
        }
    }

    /// Puts records of datagrams, or drops and counts them when the queue is full.
    pub(super) fn put_or_drop(&self, records: Vec<Received>) {
        if records.is_empty() {
            return;
        }
        let (count, bytes) = (records.len() as u64, bytes_of(&records));
        let share = self.shares.of(bytes);
        let put = Arc::clone(&self.shares.free).try_acquire_many_owned(share).ok().and_then(|permit| {
            let share = Share::new(permit, share);
            self.sender.try_send(Delivery { records, bytes, done: None, _share: share, _memory: None }).ok()
        });
        if put.is_none() {
            trefoil_runtime::limits::hit("log_queue_bytes_max");
            metrics::dropped(self.protocol, "queue_full", count);
        }
    }
}

impl Writer {
    /// Writes until the server stops and the queue is empty.
    pub(super) async fn run(mut self, ingest: Ingest, stop: Stop) {
        loop {
            let first = tokio::select! {
                biased;
                first = self.receiver.recv() => first,
                () = stop.cancelled() => self.receiver.try_recv().ok(),
            };
            let Some(first) = first else { return };
            let write = self.collect(first, &stop).await;
            self.write(write, &ingest, &stop).await;
        }
    }

    /// The deliveries of the next write.
    async fn collect(&mut self, first: Delivery, stop: &Stop) -> Vec<Delivery> {
        let (mut records, mut bytes) = (first.records.len(), first.bytes);
        let mut is_awaited = first.done.is_some();
        let mut deliveries = vec![first];
        let until = Instant::now() + LINGER;
        while records < WRITE_RECORDS_MAX && bytes < WRITE_BYTES_MAX {
            let next = match self.receiver.try_recv() {
                Ok(next) => next,
                Err(_) if is_awaited || stop.is_cancelled() => break,
                Err(_) => match tokio::time::timeout_at(until, self.receiver.recv()).await {
                    Ok(Some(next)) => next,
                    Ok(None) | Err(_) => break,
                },
            };
            records += next.records.len();
            bytes += next.bytes;
            is_awaited |= next.done.is_some();
            deliveries.push(next);
        }
        deliveries
    }

    async fn write(&self, mut deliveries: Vec<Delivery>, ingest: &Ingest, stop: &Stop) {
        // Nobody waits for it any more: it is going to be sent again.
        deliveries.retain(|d| d.done.as_ref().is_none_or(|done| !done.is_closed()));
        let is_sent_again = deliveries.iter().all(|d| d.done.is_some());
        let mut records = Vec::with_capacity(deliveries.iter().map(|d| d.records.len()).sum());
        for delivery in &mut deliveries {
            records.append(&mut delivery.records);
        }
        let mut stored = true;
        while !records.is_empty() && stored {
            let rest = records.split_off(first_write(&records));
            stored = self.write_once(records, is_sent_again, ingest, stop).await;
            if !stored && !is_sent_again {
                metrics::dropped(self.protocol, "stopping", rest.len() as u64);
            }
            records = rest;
        }
        for done in deliveries.into_iter().filter_map(|d| d.done) {
            // The connection may be gone.
            done.send(stored).ok();
        }
    }

    /// Writes records; false when they are not stored and may be sent again.
    async fn write_once(&self, mut records: Vec<Received>, is_sent_again: bool, ingest: &Ingest, stop: &Stop) -> bool {
        let count = records.len() as u64;
        let mut wait = RETRY_MIN;
        let mut stopping: Option<Instant> = None;
        loop {
            let kept = (!is_sent_again).then(|| records.clone());
            let error = match ingest.write_received(self.protocol, records).await {
                Ok(_) => return true,
                Err(error) => error,
            };
            let IngestError::Unavailable { reason, .. } = &error else {
                // Sending it again cannot help.
                counters::rejected(self.protocol, error.reason(), count);
                tracing::warn!(protocol = self.protocol, records = count, %error, "log records were refused");
                return true;
            };
            if wait == RETRY_MIN {
                tracing::warn!(protocol = self.protocol, records = count, reason, "log records cannot be written now");
            }
            let Some(kept) = kept else { return false };
            if stop.is_cancelled() && stopping.get_or_insert_with(Instant::now).elapsed() >= STOPPING_MAX {
                metrics::dropped(self.protocol, "stopping", count);
                return false;
            }
            records = kept;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }
}

/// How many records the next write takes.
fn first_write(records: &[Received]) -> usize {
    let mut bytes = 0;
    let within = records.iter().take(2 * WRITE_RECORDS_MAX).take_while(|record| {
        bytes += record.heap_bytes();
        bytes <= 2 * WRITE_BYTES_MAX
    });
    within.count().max(1)
}

#[cfg(test)]
mod tests;
