//! The bounded queue between appenders and the writer thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::JournalError;
use crate::store::Appended;

pub(super) type Reply = oneshot::Sender<Result<Appended, JournalError>>;

/// A record that waits to be durable.
pub(super) struct Request {
    /// Empty for a request to end the segment.
    pub(super) record: Bytes,
    /// What of it is kept a second time; empty for nothing.
    pub(super) copy: Bytes,
    pub(super) reply: Reply,
    /// Its place in the queue; `None` for a blocking append, which bounds itself by its thread.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Open,
    /// Write what is queued, then a close record.
    Closing,
    /// Write what is queued and nothing else.
    Dropped,
    /// The writer is gone.
    Ended,
}

pub(super) struct Queue {
    places: Arc<Semaphore>,
    inner: Mutex<(VecDeque<Request>, State)>,
    arrived: Condvar,
    ended: Notify,
}

impl Queue {
    pub(super) fn new(len_max: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(len_max)),
            inner: Mutex::new((VecDeque::new(), State::Open)),
            arrived: Condvar::new(),
            ended: Notify::new(),
        }
    }

    /// Queues a record, waiting for a place. Returns false when the journal is closed.
    pub(super) async fn push(&self, record: Bytes, copy: Bytes, reply: Reply) -> bool {
        let Ok(permit) = Arc::clone(&self.places).acquire_owned().await else { return false };
        self.push_blocking(Request { record, copy, reply, permit: Some(permit) })
    }

    pub(super) fn push_blocking(&self, request: Request) -> bool {
        let mut inner = self.inner.lock();
        if inner.1 != State::Open {
            return false;
        }
        inner.0.push_back(request);
        self.arrived.notify_one();
        true
    }

    /// Waits for requests and takes a group: those queued, and those that come within `window` while fewer than
    /// `wanted` are there. An empty group means the end, with the state that ended it.
    pub(super) fn take(&self, wanted: usize, window: Duration, bytes_max: usize) -> (Vec<Request>, State) {
        let mut inner = self.inner.lock();
        while inner.0.is_empty() {
            if inner.1 != State::Open {
                return (Vec::new(), inner.1);
            }
            self.arrived.wait(&mut inner);
        }
        let until = Instant::now() + window;
        while inner.0.len() < wanted && inner.1 == State::Open {
            let queued: usize = inner.0.iter().map(|request| request.record.len()).sum();
            if queued >= bytes_max || self.arrived.wait_until(&mut inner, until).timed_out() {
                break;
            }
        }
        let mut bytes = 0;
        let mut group = Vec::new();
        while let Some(request) = inner.0.front() {
            bytes += request.record.len();
            if !group.is_empty() && bytes > bytes_max {
                break;
            }
            group.extend(inner.0.pop_front());
        }
        (group, inner.1)
    }

    /// Refuses new requests. A queue that is closed stays as it was closed first.
    pub(super) fn close(&self, in_order: bool) {
        let mut inner = self.inner.lock();
        if inner.1 == State::Open {
            inner.1 = if in_order { State::Closing } else { State::Dropped };
        }
        self.places.close();
        self.arrived.notify_all();
    }

    /// Says that the writer is gone and drops what nobody will write.
    pub(super) fn end(&self) {
        self.places.close();
        let left = {
            let mut inner = self.inner.lock();
            inner.1 = State::Ended;
            std::mem::take(&mut inner.0)
        };
        drop(left);
        self.ended.notify_waiters();
    }

    /// Waits until the writer is gone.
    pub(super) async fn drained(&self) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.inner.lock().1 == State::Ended {
                return;
            }
            ended.await;
        }
    }
}
