//! Fluentd's forward protocol over TCP, TLS and unix sockets, and its heartbeats over UDP.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;
use trefoil_ingest::forward::msgpack::{Scanned, Scanner};
use trefoil_ingest::forward::{Events, Message};
use trefoil_ingest::{IngestError, counters};
use trefoil_model::Labels;
use trefoil_runtime::Stop;

use super::handshake::{self, Handshake};
use super::input::{End, Input};
use super::memory::Memory;
use super::{Shared, metrics};

const NAME: &str = counters::FORWARD;
/// Bytes of a message before its sender has said who it is.
const PING_BYTES_MAX: usize = 16 << 10;
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How the protocol is spoken at a door.
pub(super) struct ForwardSettings {
    /// Stream labels of all events.
    pub(super) labels: Labels,
    /// Key of the handshake; none: no handshake.
    pub(super) shared_key: Option<Vec<u8>>,
    /// Passwords by user.
    pub(super) users: BTreeMap<String, String>,
    /// How this side calls itself.
    pub(super) hostname: String,
}

/// Answers heartbeats until the server stops: a byte for a datagram.
pub(super) async fn heartbeats(socket: &UdpSocket, stop: &Stop) {
    let mut buffer = [0; 512];
    loop {
        let heard = tokio::select! {
            () = stop.cancelled() => return,
            heard = socket.recv_from(&mut buffer) => heard,
        };
        if let Ok((_, sender)) = heard {
            // One that is lost is followed by others.
            socket.try_send_to(&[0], sender).ok();
        }
    }
}

/// What a connection holds of messages that are not complete.
struct Held {
    bytes: BytesMut,
    scanner: Scanner,
    memory: Memory,
}

impl Held {
    fn new(shared: &Shared, bytes_max: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            scanner: Scanner::new(shared.limits.json_depth_max, bytes_max),
            memory: Memory::default(),
        }
    }

    /// Adds what was read. Errors: there is no memory for it now.
    fn add(&mut self, read: &[u8], shared: &Shared) -> Result<(), IngestError> {
        self.memory.cover(self.bytes.len() + read.len(), &shared.ingest)?;
        self.bytes.extend_from_slice(read);
        Ok(())
    }

    /// Gives memory back between messages.
    fn settle(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            self.memory = Memory::default();
        }
    }
}

/// Why a connection is closed from here.
enum Fault {
    /// With a reason to count.
    Close(&'static str),
    /// The sender went.
    End(End),
}

/// Takes the messages of a connection.
pub(super) async fn connection(input: &mut Input, settings: &ForwardSettings, shared: &Shared, stop: &Stop) -> End {
    let fault = match settings.shared_key {
        Some(_) => match shake(input, settings, shared, stop).await {
            Ok(held) => messages(input, held, settings, shared, stop).await,
            Err(fault) => fault,
        },
        None => messages(input, BytesMut::new(), settings, shared, stop).await,
    };
    match fault {
        Fault::End(end) => end,
        Fault::Close(reason) => {
            metrics::connection_error(NAME, reason);
            End::Closed
        }
    }
}

/// Shakes hands; returns what came behind the client's answer.
async fn shake(input: &mut Input, settings: &ForwardSettings, shared: &Shared, stop: &Stop) -> Result<BytesMut, Fault> {
    let shake = Handshake::new().ok_or(Fault::Close("handshake"))?;
    answer(input, &shake.helo(settings)).await?;
    let mut held = Held::new(shared, PING_BYTES_MAX);
    let until = tokio::time::Instant::now() + shared.limits.header_timeout;
    loop {
        let read = match tokio::time::timeout_at(until, input.read(stop)).await {
            Ok(read) => read.map_err(Fault::End)?,
            Err(_) => {
                trefoil_runtime::limits::hit("header_timeout");
                return Err(Fault::Close("handshake"));
            }
        };
        held.add(read, shared).map_err(|_| Fault::Close("unavailable"))?;
        let scanned = held.scanner.scan(&held.bytes).map_err(|_| Fault::Close("handshake"))?;
        let Some(Scanned { bytes, objects }) = scanned else { continue };
        let message = held.bytes.split_to(bytes).freeze();
        let decoded = shared.ingest.decode_forward(message, objects, settings.labels.clone()).await;
        let Ok(Message::Ping(ping)) = decoded else { return Err(Fault::Close("handshake")) };
        let checked = shake.check(&ping, settings);
        answer(input, &shake.pong(&ping, settings, checked)).await?;
        return match checked {
            Ok(()) => Ok(held.bytes),
            Err(reason) => {
                tracing::debug!(reason, "forward client refused");
                Err(Fault::Close("authentication"))
            }
        };
    }
}

async fn messages(
    input: &mut Input,
    first: BytesMut,
    settings: &ForwardSettings,
    shared: &Shared,
    stop: &Stop,
) -> Fault {
    let bytes_max = usize::try_from(shared.limits.body_bytes_max).unwrap_or(usize::MAX);
    let mut held = Held::new(shared, bytes_max);
    held.bytes = first;
    loop {
        loop {
            let Scanned { bytes, objects } = match held.scanner.scan(&held.bytes) {
                Ok(Some(scanned)) => scanned,
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "forward connection closed");
                    metrics::dropped(NAME, "malformed", 1);
                    return Fault::Close("malformed");
                }
            };
            let message = held.bytes.copy_to_bytes(bytes);
            if let Err(fault) = take(input, message, objects, settings, shared, stop).await {
                return fault;
            }
        }
        held.settle();
        match input.read(stop).await {
            Ok(read) => {
                counters::bytes(NAME, read.len() as u64);
                if held.add(read, shared).is_err() {
                    return Fault::Close("unavailable");
                }
            }
            Err(end) => {
                metrics::dropped(NAME, "incomplete", u64::from(!held.bytes.is_empty()));
                return Fault::End(end);
            }
        }
    }
}

/// Takes a message, and answers it once it is durable.
async fn take(
    input: &mut Input,
    message: bytes::Bytes,
    objects: usize,
    settings: &ForwardSettings,
    shared: &Shared,
    stop: &Stop,
) -> Result<(), Fault> {
    let decoded = shared.ingest.decode_forward(message, objects, settings.labels.clone()).await;
    let Events { records, chunk, malformed, reason, memory } = match decoded {
        Ok(Message::Events(events)) => events,
        // A client that is not asked shakes hands all the same: it has a key, and we have none.
        Ok(Message::Ping(_)) => return Err(Fault::Close("handshake")),
        Ok(Message::Nothing) => return Ok(()),
        Err(error) if error.retry_after().is_some() => return Err(Fault::Close("unavailable")),
        Err(error) => {
            tracing::debug!(%error, "forward message dropped");
            metrics::dropped(NAME, error.reason(), 1);
            return Ok(());
        }
    };
    metrics::messages(NAME, records.len() as u64);
    if malformed > 0 {
        tracing::debug!(reason, "forward events dropped");
        metrics::dropped(NAME, "malformed", malformed);
    }
    let Some(chunk) = chunk else {
        shared.queue.put(records, memory, stop).await;
        return Ok(());
    };
    if !shared.queue.put_and_wait(records, memory, stop).await {
        // Without an answer, and without a connection, the client sends it again.
        return Err(Fault::Close("unavailable"));
    }
    let mut ack = vec![0x81];
    handshake::text(&mut ack, b"ack");
    handshake::text(&mut ack, chunk.as_bytes());
    answer(input, &ack).await
}

async fn answer(input: &mut Input, bytes: &[u8]) -> Result<(), Fault> {
    let written = tokio::time::timeout(ANSWER_TIMEOUT, async {
        input.stream.write_all(bytes).await?;
        input.stream.flush().await
    });
    match written.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Fault::End(End::Broken)),
        Err(_) => Err(Fault::Close("answer")),
    }
}
