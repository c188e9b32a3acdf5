//! What a connection reads, until its sender ends, is idle for too long, or the server stops.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use trefoil_runtime::Stop;

/// Bytes of a read.
const READ_BYTES: usize = 16 << 10;
/// When the server stops: how long a sender may be silent before all it sent has come.
const QUIET: Duration = Duration::from_millis(250);
/// When the server stops: how long reading goes on at most.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// A stream in both directions.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {
    /// Says that nothing more will be answered; reading goes on.
    ///
    /// Over TLS too by the end of the connection below it alone, without a closing alert: senders that never read look
    /// whether there is an end, and an alert before it would be in their way.
    fn end_answers(&self);
}

/// What fails here fails when reading too.
fn end(socket: impl std::os::fd::AsFd) {
    rustix::net::shutdown(socket, rustix::net::Shutdown::Write).ok();
}

impl Duplex for TcpStream {
    fn end_answers(&self) {
        end(self);
    }
}

impl Duplex for UnixStream {
    fn end_answers(&self) {
        end(self);
    }
}

impl Duplex for TlsStream<TcpStream> {
    fn end_answers(&self) {
        end(self.get_ref().0);
    }
}

/// Why there is nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The sender closed.
    Closed,
    /// The connection broke.
    Broken,
    /// The sender was silent for too long.
    Idle,
    /// The server stops.
    Stopping,
}

/// The reading side of a connection.
pub(super) struct Input {
    /// The stream, to answer on.
    pub(super) stream: Box<dyn Duplex>,
    /// Say at once that nothing more is wanted when the server stops; not for protocols with answers.
    closes_early: bool,
    idle_timeout: Duration,
    buffer: Box<[u8]>,
    drain_until: Option<Instant>,
}

impl Input {
    pub(super) fn new(stream: Box<dyn Duplex>, closes_early: bool, idle_timeout: Duration) -> Self {
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        Self { stream, closes_early, idle_timeout, buffer, drain_until: None }
    }

    /// The next bytes. Once the server stops, only those that are already on their way.
    pub(super) async fn read(&mut self, stop: &Stop) -> Result<&[u8], End> {
        if self.drain_until.is_none() {
            let read = tokio::select! {
                biased;
                () = stop.cancelled() => None,
                read = tokio::time::timeout(self.idle_timeout, self.stream.read(&mut self.buffer)) => Some(read),
            };
            match read {
                Some(Ok(Ok(0))) => return Err(End::Closed),
                Some(Ok(Ok(n))) => return Ok(&self.buffer[..n]),
                Some(Ok(Err(_))) => return Err(End::Broken),
                Some(Err(_)) => return Err(End::Idle),
                None => {}
            }
            self.drain_until = Some(Instant::now() + DRAIN_MAX);
            if self.closes_early {
                // A sender that sees this sends the rest to the next server.
                self.stream.end_answers();
            }
        }
        let until = self.drain_until.map_or_else(Instant::now, |until| until.min(Instant::now() + QUIET));
        match tokio::time::timeout_at(until, self.stream.read(&mut self.buffer)).await {
            Ok(Ok(0)) => Err(End::Closed),
            Ok(Ok(n)) => Ok(&self.buffer[..n]),
            Ok(Err(_)) => Err(End::Broken),
            Err(_) => Err(End::Stopping),
        }
    }
}
