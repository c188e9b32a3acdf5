//! Spans in datagrams: what Jaeger's clients send to an agent.
//!
//! As with logs, what came is grouped into durable writes; when the store is slow, datagrams are dropped and counted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use trefoil_config::{ListenAddress, LoadedConfig};
use trefoil_ingest::{Ingest, IngestError, ReceivedSpans, counters};
use trefoil_runtime::{OnError, Phase, Stop, Tasks, limits};

use super::datagrams::Datagrams;
use super::metrics;
use crate::server::BindError;

const NAME: &str = counters::JAEGER_UDP;
/// Deliveries that wait, whatever their bytes.
const DELIVERIES_MAX: usize = 4096;
/// Spans of a write, unless one delivery has more.
const WRITE_SPANS_MAX: usize = 8192;
/// How long the first of a write waits for others.
const LINGER: Duration = Duration::from_millis(5);
/// Wait before a write is tried again.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How long writes are tried again after the server was told to stop.
const STOPPING_MAX: Duration = Duration::from_secs(5);

/// The sockets of the process for spans.
pub struct SpanSockets {
    sockets: Vec<(UdpSocket, String)>,
}

struct Delivery {
    spans: ReceivedSpans,
    /// Given back when it is written or dropped.
    share: OwnedSemaphorePermit,
}

impl SpanSockets {
    /// Takes all addresses that are configured; nothing is read yet. Errors name key and address.
    pub async fn bind(config: &LoadedConfig) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        for door in &config.config.trefoil.jaeger_udp {
            let shown = door.address.as_ref().map(ToString::to_string).unwrap_or_default();
            let bound = bind(door.address.as_ref()).await;
            let fault = |source| BindError::Address { listener: NAME, address: shown, source };
            sockets.push(bound.map_err(fault)?);
        }
        Ok(Self { sockets })
    }

    /// The addresses, with the port chosen by the system when the configured one was 0.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.sockets.iter().map(|(_, address)| address.as_str())
    }

    /// Begins to take spans. Reading ends in [`Phase::Accept`], writing in [`Phase::Ingest`], so that what was read is
    /// written.
    pub fn serve(self, tasks: &Tasks, ingest: &Ingest) {
        if self.sockets.is_empty() {
            return;
        }
        let bytes_max = ingest.limits().span_queue_bytes_max.min(Semaphore::MAX_PERMITS);
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        let free = Arc::new(Semaphore::new(bytes_max as usize));
        let (sender, receiver) = mpsc::channel(DELIVERIES_MAX);
        let own = ingest.clone();
        tasks.spawn_once("span socket writer", Phase::Ingest, OnError::Stop, move |stop| async move {
            write_all(receiver, &own, &stop).await;
            Ok(())
        });
        for (socket, address) in self.sockets {
            tracing::info!(protocol = NAME, %address, "listening for spans");
            let queue = Queue { free: Arc::clone(&free), bytes_max, sender: sender.clone() };
            let own = ingest.clone();
            tasks.spawn_once("span datagrams", Phase::Accept, OnError::Stop, move |stop| async move {
                read_all(&socket, &own, &queue, &stop).await;
                Ok(())
            });
        }
    }
}

async fn bind(address: Option<&ListenAddress>) -> io::Result<(UdpSocket, String)> {
    let Some(address) = address else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no address is configured"));
    };
    let socket = match address.socket_addr() {
        Some(place) => UdpSocket::bind(place).await?,
        None => UdpSocket::bind((address.host(), address.port())).await?,
    };
    // The system's limit may be less; what is granted is what there is.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, super::RECEIVE_BUFFER_BYTES).ok();
    let bound = socket.local_addr()?.to_string();
    Ok((socket, bound))
}

struct Queue {
    free: Arc<Semaphore>,
    bytes_max: u32,
    sender: mpsc::Sender<Delivery>,
}

impl Queue {
    fn put_or_drop(&self, spans: ReceivedSpans) {
        if spans.is_empty() {
            return;
        }
        let count = spans.len() as u64;
        let bytes = u32::try_from(spans.heap_bytes()).unwrap_or(u32::MAX).min(self.bytes_max);
        let put = Arc::clone(&self.free)
            .try_acquire_many_owned(bytes)
            .ok()
            .and_then(|share| self.sender.try_send(Delivery { spans, share }).ok());
        if put.is_none() {
            limits::hit("span_queue_bytes_max");
            metrics::dropped(NAME, "queue_full", count);
        }
    }
}

async fn read_all(socket: &UdpSocket, ingest: &Ingest, queue: &Queue, stop: &Stop) {
    let mut datagrams = Datagrams::new(socket, NAME);
    while let Some(ready) = datagrams.wait(stop).await {
        let mut spans = ReceivedSpans::default();
        datagrams.take(ready, |datagram, _| match ingest.jaeger_datagram(datagram) {
            Ok(more) => spans.append(more),
            Err(error) => metrics::dropped(NAME, error.reason(), 1),
        });
        queue.put_or_drop(spans);
    }
}

/// Writes until the readers have ended, or the server stops, and nothing waits.
async fn write_all(mut receiver: mpsc::Receiver<Delivery>, ingest: &Ingest, stop: &Stop) {
    loop {
        let first = tokio::select! {
            biased;
            first = receiver.recv() => first,
            () = stop.cancelled() => receiver.try_recv().ok(),
        };
        let Some(Delivery { mut spans, share }) = first else { return };
        let mut shares = vec![share];
        let until = Instant::now() + LINGER;
        while spans.len() < WRITE_SPANS_MAX {
            let next = match receiver.try_recv() {
                Ok(next) => Some(next),
                Err(_) if stop.is_cancelled() => None,
                Err(_) => tokio::time::timeout_at(until, receiver.recv()).await.ok().flatten(),
            };
            let Some(next) = next else { break };
            spans.append(next.spans);
            shares.push(next.share);
        }
        write(spans, ingest, stop).await;
        drop(shares);
    }
}

async fn write(spans: ReceivedSpans, ingest: &Ingest, stop: &Stop) {
    let count = spans.len() as u64;
    let mut wait = RETRY_MIN;
    let mut stopping: Option<Instant> = None;
    loop {
        let error = match ingest.write_received_spans(NAME, spans.clone()).await {
            Ok(()) => return,
            Err(error) => error,
        };
        let IngestError::Unavailable { reason, .. } = &error else {
            // Trying again cannot help.
            counters::rejected(NAME, error.reason(), count);
            tracing::warn!(protocol = NAME, spans = count, %error, "spans were refused");
            return;
        };
        if wait == RETRY_MIN {
            tracing::warn!(protocol = NAME, spans = count, reason, "spans cannot be written now");
        }
        if stop.is_cancelled() && stopping.get_or_insert_with(Instant::now).elapsed() >= STOPPING_MAX {
            metrics::dropped(NAME, "stopping", count);
            return;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}
