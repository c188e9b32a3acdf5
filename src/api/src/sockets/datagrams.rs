//! Datagrams, taken many at once, and those that the system dropped because nobody took them in time.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Interval, MissedTickBehavior};
use trefoil_ingest::counters;
use trefoil_runtime::Stop;

use super::metrics;

/// Datagrams that are taken before anybody else has a turn.
const TAKEN_MAX: usize = 256;
/// Bytes of a datagram at most.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// How often the system is asked what it dropped.
const DROPS_EVERY: Duration = Duration::from_secs(10);
/// When the server stops: datagrams that are still taken.
const DRAIN_MAX: usize = 100_000;

/// What [`Datagrams::wait`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ready(usize);

/// Reads a socket.
pub(super) struct Datagrams<'a> {
    socket: &'a UdpSocket,
    protocol: &'static str,
    buffer: Box<[u8]>,
    drops: Drops,
    drained: Option<usize>,
    is_empty: bool,
}

impl<'a> Datagrams<'a> {
    pub(super) fn new(socket: &'a UdpSocket, protocol: &'static str) -> Self {
        let buffer = vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice();
        let inode = rustix::fs::fstat(socket).map(|stat| stat.st_ino).ok();
        let mut every = tokio::time::interval(DROPS_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { socket, protocol, buffer, drops: Drops { inode, every, seen: 0 }, drained: None, is_empty: false }
    }

    /// Waits for datagrams; `None` when the server stops and all that came were taken.
    pub(super) async fn wait(&mut self, stop: &Stop) -> Option<Ready> {
        loop {
            if let Some(drained) = &mut self.drained {
                *drained += TAKEN_MAX;
                if self.is_empty || *drained > DRAIN_MAX {
                    self.count_drops().await;
                    return None;
                }
                return Some(Ready(TAKEN_MAX));
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => self.drained = Some(0),
                _ = self.drops.every.tick() => self.count_drops().await,
                ready = self.socket.readable() => {
                    if ready.is_ok() {
                        return Some(Ready(TAKEN_MAX));
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Takes what is there.
    pub(super) fn take(&mut self, ready: Ready, mut datagram: impl FnMut(&[u8], SocketAddr)) {
        let (mut count, mut bytes) = (0, 0);
        self.is_empty = false;
        for _ in 0..ready.0 {
            match self.socket.try_recv_from(&mut self.buffer) {
                Ok((n, sender)) => {
                    count += 1;
                    bytes += n as u64;
                    datagram(&self.buffer[..n], sender);
                }
                // What a peer of an earlier answer says is no end.
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.is_empty = true;
                    break;
                }
            }
        }
        metrics::messages(self.protocol, count);
        counters::bytes(self.protocol, bytes);
    }

    async fn count_drops(&mut self) {
        let Some(inode) = self.drops.inode else { return };
        let found = tokio::task::spawn_blocking(move || {
            ["/proc/net/udp", "/proc/net/udp6"]
                .iter()
                .find_map(|path| drops_of(&std::fs::read_to_string(path).ok()?, inode))
        });
        let Ok(Some(drops)) = found.await else { return };
        let new = drops.saturating_sub(self.drops.seen);
        if new > 0 {
            metrics::dropped(self.protocol, "receive_buffer", new);
            tracing::warn!(
                protocol = self.protocol,
                datagrams = new,
                "the system dropped datagrams: its receive buffer was full"
            );
        }
        self.drops.seen = drops;
    }
}

/// What the system dropped.
struct Drops {
    /// Number of the socket; none where the system does not tell.
    inode: Option<u64>,
    every: Interval,
    seen: u64,
}

/// The count of drops in Linux' table of UDP sockets.
fn drops_of(table: &str, inode: u64) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let is_ours = fields.nth(9)?.parse() == Ok(inode);
        if is_ours { fields.next_back()?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_read() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n  \
                     123: 0100007F:0202 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 17\n";
        assert_eq!(drops_of(table, 4711), Some(17));
        assert_eq!(drops_of(table, 4712), None);
        assert_eq!(drops_of("", 1), None);
    }
}
