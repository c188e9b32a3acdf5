//! Connections of log senders: accepted within a limit, their handshakes within a time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use trefoil_runtime::{OnError, Phase, Stop, Tasks};

use super::input::{Duplex, End, Input};
use super::{Protocol, Sender, Shared, forward, gelf, metrics, syslog};
use crate::tls::TlsDoor;

/// Wait after an accept that failed, as it does without free file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Where connections come from.
pub(super) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    async fn accept(&self) -> io::Result<(Accepted, Sender)> {
        match self {
            Self::Tcp(socket) => socket.accept().await.map(|(s, address)| (Accepted::Tcp(s), Some(address.ip()))),
            Self::Unix(socket) => socket.accept().await.map(|(s, _)| (Accepted::Other(Box::new(s)), None)),
        }
    }
}

enum Accepted {
    Tcp(TcpStream),
    Other(Box<dyn Duplex>),
}

/// Accepts the connections of a door.
pub(super) struct Acceptor {
    socket: Listening,
    door: Arc<Connections>,
    tasks: Tasks,
}

/// What every connection of a door needs.
struct Connections {
    tls: Option<TlsDoor>,
    protocol: Protocol,
    shared: Arc<Shared>,
}

impl Acceptor {
    pub(super) fn new(
        socket: Listening,
        tls: Option<TlsDoor>,
        protocol: Protocol,
        shared: Arc<Shared>,
        tasks: Tasks,
    ) -> Self {
        Self { socket, door: Arc::new(Connections { tls, protocol, shared }), tasks }
    }

    /// Accepts until the server stops.
    pub(super) async fn run(&self, stop: &Stop) {
        let name = self.door.protocol.name();
        let most = self.door.shared.limits.connections_max.clamp(1, Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(most));
        loop {
            // Without a permit accepting pauses; senders wait in the system's queue.
            let permit = match Arc::clone(&permits).try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => {
                    trefoil_runtime::limits::hit("connections_max");
                    let permit = tokio::select! {
                        () = stop.cancelled() => return,
                        permit = Arc::clone(&permits).acquire_owned() => permit,
                    };
                    let Ok(permit) = permit else { return };
                    permit
                }
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, sender) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    metrics::connection_error(name, "accept");
                    tracing::debug!(protocol = name, %error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let door = Arc::clone(&self.door);
            self.tasks.spawn_once("log connection", Phase::Accept, OnError::Log, move |stop| async move {
                let _permit = permit;
                let _connected = metrics::Connected::new(name);
                door.connection(stream, sender, &stop).await;
                Ok(())
            });
        }
    }
}

impl Connections {
    async fn connection(&self, stream: Accepted, sender: Sender, stop: &Stop) {
        let name = self.protocol.name();
        let Some(stream) = self.open(stream, stop).await else { return };
        let idle_timeout = self.shared.limits.log_connection_idle_timeout;
        let has_answers = matches!(self.protocol, Protocol::Forward(_));
        let mut input = Input::new(stream, !has_answers, idle_timeout);
        let end = match &self.protocol {
            Protocol::Syslog(options) => syslog::connection(&mut input, sender, options, &self.shared, stop).await,
            Protocol::Gelf(labels) => gelf::connection(&mut input, labels, &self.shared, stop).await,
            Protocol::Forward(settings) => forward::connection(&mut input, settings, &self.shared, stop).await,
            Protocol::Heartbeat => End::Closed,
        };
        match end {
            End::Idle => {
                trefoil_runtime::limits::hit("log_connection_idle_timeout");
                metrics::connection_error(name, "idle");
            }
            End::Broken => metrics::connection_error(name, "broken"),
            End::Closed | End::Stopping => {}
        }
    }

    /// Makes a connection ready to be read.
    async fn open(&self, stream: Accepted, stop: &Stop) -> Option<Box<dyn Duplex>> {
        let name = self.protocol.name();
        let stream = match stream {
            Accepted::Other(stream) => return Some(stream),
            Accepted::Tcp(stream) => stream,
        };
        // Without the first answers wait, without the second a peer that vanished is never missed.
        stream.set_nodelay(true).ok();
        rustix::net::sockopt::set_socket_keepalive(&stream, true).ok();
        let Some(door) = &self.tls else { return Some(Box::new(stream)) };
        let acceptor = tokio_rustls::TlsAcceptor::from(door.current());
        let shaken = tokio::select! {
            () = stop.cancelled() => return None,
            shaken = tokio::time::timeout(self.shared.limits.header_timeout, acceptor.accept(stream)) => shaken,
        };
        match shaken {
            Ok(Ok(stream)) if door.allows(stream.get_ref().1.peer_certificates()) => Some(Box::new(stream)),
            Ok(Ok(_)) => {
                metrics::connection_error(name, "certificate");
                None
            }
            Ok(Err(error)) => {
                metrics::connection_error(name, "tls");
                tracing::debug!(protocol = name, %error, "tls handshake failed");
                None
            }
            Err(_) => {
                trefoil_runtime::limits::hit("header_timeout");
                metrics::connection_error(name, "tls");
                None
            }
        }
    }
}
