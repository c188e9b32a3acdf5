//! GELF over UDP, TCP and TLS.

use bytes::Bytes;
use memchr::memchr;
use tokio::net::UdpSocket;
use trefoil_ingest::gelf::{Chunk, ChunkError, Chunks, ChunksOptions, compression, decode};
use trefoil_ingest::{IngestError, Received, counters};
use trefoil_model::Labels;
use trefoil_runtime::{Limits, Stop};

use super::datagrams::Datagrams;
use super::input::{End, Input};
use super::memory::Memory;
use super::{Shared, metrics};

const NAME: &str = counters::GELF;

/// Bytes of a message as JSON: a line of the full length, with escapes.
fn message_bytes_max(limits: &Limits) -> usize {
    limits.log_line_bytes_max.saturating_mul(2)
}

/// Takes datagrams until the server stops.
pub(super) async fn datagrams(socket: &UdpSocket, labels: &Labels, shared: &Shared, stop: &Stop) {
    let limits = &shared.limits;
    let mut chunks = Chunks::new(ChunksOptions {
        messages_max: limits.gelf_open_messages_max,
        bytes_max: limits.gelf_open_bytes_max,
        message_bytes_max: message_bytes_max(limits),
    });
    let mut datagrams = Datagrams::new(socket, NAME);
    let mut records = Vec::new();
    while let Some(more) = datagrams.wait(stop).await {
        let clock = shared.ingest.clock();
        let (now_ns, now) = (clock.now_ns(), clock.monotonic());
        let mut take = |message: Bytes| match inflated(message, labels, shared, now_ns) {
            Ok(received) => records.push(received),
            Err(error) => metrics::dropped(NAME, error.reason(), 1),
        };
        datagrams.take(more, |datagram, sender| {
            let whole = match Chunk::parse(datagram) {
                Ok(None) => return take(Bytes::copy_from_slice(datagram)),
                Ok(Some(chunk)) => chunks.add(sender, chunk, now),
                Err(error) => Err(error),
            };
            match whole {
                Ok(Some(message)) => take(Bytes::from(message)),
                Ok(None) => {}
                Err(ChunkError::Malformed) => metrics::dropped(NAME, "malformed", 1),
                Err(ChunkError::TooLarge) => metrics::dropped(NAME, "too_large", 1),
            }
        });
        chunks.expire(now);
        metrics::dropped(NAME, "chunks_missing", chunks.take_given_up());
        shared.queue.put_or_drop(std::mem::take(&mut records));
    }
    metrics::dropped(NAME, "chunks_missing", chunks.len() as u64);
}

fn inflated(message: Bytes, labels: &Labels, shared: &Shared, now_ns: i64) -> Result<Received, IngestError> {
    let inflated = shared.ingest.inflate(compression(&message), message)?;
    decode(&inflated.bytes, labels, shared.limits.json_depth_max, now_ns)
}

/// Takes the messages of a connection, each ended by NUL.
pub(super) async fn connection(input: &mut Input, labels: &Labels, shared: &Shared, stop: &Stop) -> End {
    let bytes_max = message_bytes_max(&shared.limits);
    // The start of a message that is not complete, and whether it is too large.
    let (mut held, mut is_too_large) = (Vec::new(), false);
    let mut records = Vec::new();
    let mut memory = Memory::default();
    loop {
        let mut read = match input.read(stop).await {
            Ok(bytes) => bytes,
            Err(end) => {
                // The last one may have no end.
                if !held.is_empty() && !is_too_large {
                    take(&held, labels, shared, &mut records);
                }
                shared.queue.put(records, None, stop).await;
                return end;
            }
        };
        counters::bytes(NAME, read.len() as u64);
        while let Some(end) = memchr(0, read) {
            let (part, rest) = read.split_at(end);
            read = &rest[1..];
            if is_too_large || held.len() + part.len() > bytes_max {
                trefoil_runtime::limits::hit("log_line_bytes_max");
                metrics::dropped(NAME, "too_large", 1);
            } else if held.is_empty() {
                take(part, labels, shared, &mut records);
            } else {
                held.extend_from_slice(part);
                take(&held, labels, shared, &mut records);
            }
            (held, is_too_large) = (Vec::new(), false);
        }
        if held.len() + read.len() > bytes_max {
            (held, is_too_large) = (Vec::new(), true);
        }
        if !is_too_large {
            memory.wait_for(held.len() + read.len(), &shared.ingest, stop).await;
            held.extend_from_slice(read);
        }
        shared.queue.put(std::mem::take(&mut records), None, stop).await;
    }
}

fn take(message: &[u8], labels: &Labels, shared: &Shared, records: &mut Vec<Received>) {
    if message.trim_ascii().is_empty() {
        return;
    }
    metrics::messages(NAME, 1);
    match decode(message, labels, shared.limits.json_depth_max, shared.ingest.clock().now_ns()) {
        Ok(received) => records.push(received),
        Err(error) => metrics::dropped(NAME, error.reason(), 1),
    }
}
