//! Syslog over UDP, TCP and TLS.

use tokio::net::UdpSocket;
use trefoil_ingest::counters;
use trefoil_ingest::syslog::frames::{Ended, Frames};
use trefoil_ingest::syslog::{SyslogOptions, decode, message_bytes_max};
use trefoil_runtime::Stop;

use super::datagrams::Datagrams;
use super::input::{End, Input};
use super::memory::Memory;
use super::{Sender, Shared, metrics};

const NAME: &str = counters::SYSLOG;

/// Takes datagrams until the server stops.
pub(super) async fn datagrams(socket: &UdpSocket, options: &SyslogOptions, shared: &Shared, stop: &Stop) {
    let mut datagrams = Datagrams::new(socket, NAME);
    let mut records = Vec::new();
    while let Some(more) = datagrams.wait(stop).await {
        let now_ns = shared.ingest.clock().now_ns();
        datagrams.take(more, |datagram, sender| {
            records.push(decode(datagram, datagram.len(), Some(sender.ip()), options, &shared.limits, now_ns));
        });
        shared.queue.put_or_drop(std::mem::take(&mut records));
    }
}

/// Takes the messages of a connection.
pub(super) async fn connection(
    input: &mut Input,
    sender: Sender,
    options: &SyslogOptions,
    shared: &Shared,
    stop: &Stop,
) -> End {
    let mut frames = Frames::new(message_bytes_max(&shared.limits));
    let mut records = Vec::new();
    let mut memory = Memory::default();
    loop {
        let read = input.read(stop).await;
        let now_ns = shared.ingest.clock().now_ns();
        let mut message = |message: &[u8], full: usize| {
            records.push(decode(message, full, sender, options, &shared.limits, now_ns));
        };
        let end = match read {
            Ok(bytes) => {
                counters::bytes(NAME, bytes.len() as u64);
                frames.push(bytes, &mut message);
                None
            }
            Err(end) => {
                if frames.finish(&mut message) == Ended::Incomplete {
                    metrics::dropped(NAME, "incomplete", 1);
                }
                Some(end)
            }
        };
        memory.wait_for(frames.held_bytes(), &shared.ingest, stop).await;
        metrics::messages(NAME, records.len() as u64);
        shared.queue.put(std::mem::take(&mut records), None, stop).await;
        if let Some(end) = end {
            return end;
        }
    }
}
