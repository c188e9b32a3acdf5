//! Logs over sockets of their own: syslog, Fluentd's forward protocol, GELF; and spans ([`SpanSockets`]).
//!
//! [`LogSockets::bind`] takes the addresses before any work starts, [`LogSockets::serve`] begins to take messages once the
//! stores are there. What came is grouped into durable writes ([`queue`]); when the store is slow, streams wait and
//! datagrams are dropped and counted. At the end all that had been received is read and written.

mod datagrams;
mod forward;
mod gelf;
mod handshake;
mod input;
mod memory;
mod metrics;
mod queue;
mod spans;
mod stream;
mod syslog;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::{TcpListener, UdpSocket, UnixListener};
use trefoil_config::trefoil::{
    ForwardAddress, ForwardDoor, GelfDoor, ListenerTls, SocketProtocol, SyslogDoor, SyslogFormat,
};
use trefoil_config::{ListenAddress, LoadedConfig};
use trefoil_ingest::syslog::{Format, SyslogOptions};
use trefoil_ingest::{Ingest, counters};
use trefoil_model::Labels;
use trefoil_runtime::{Limits, OnError, Phase, Tasks};

use crate::server::BindError;
use crate::tls::{TlsDoor, TlsSettings};
use queue::{Queue, Shares};
pub use spans::SpanSockets;

/// Bytes that the system should hold of datagrams that are not read yet; it may grant less.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// A socket that is bound.
enum Socket {
    Udp(UdpSocket),
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What is spoken at a door.
enum Protocol {
    Syslog(SyslogOptions),
    Forward(forward::ForwardSettings),
    /// Answers heartbeats of the forward protocol.
    Heartbeat,
    Gelf(Labels),
}

impl Protocol {
    fn name(&self) -> &'static str {
        match self {
            Self::Syslog(_) => counters::SYSLOG,
            Self::Forward(_) | Self::Heartbeat => counters::FORWARD,
            Self::Gelf(_) => counters::GELF,
        }
    }
}

struct Door {
    socket: Socket,
    address: String,
    tls: Option<TlsDoor>,
    protocol: Protocol,
}

/// What all connections and readers of a protocol share.
struct Shared {
    ingest: Ingest,
    queue: Queue,
    limits: Limits,
}

/// The sockets of the process.
pub struct LogSockets {
    doors: Vec<Door>,
}

impl LogSockets {
    /// Takes all addresses that are configured; nothing is read yet. Errors name key and address.
    pub async fn bind(config: &LoadedConfig) -> Result<Self, BindError> {
        let own = &config.config.trefoil;
        let mut doors = Vec::new();
        for door in &own.syslog {
            doors.push(bind_syslog(door).await?);
        }
        for door in &own.fluent_forward {
            doors.extend(bind_forward(door).await?);
        }
        for door in &own.gelf {
            doors.push(bind_gelf(door).await?);
        }
        Ok(Self { doors })
    }

    /// Protocol, transport and address of each, the port chosen by the system when the configured one was 0.
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, &'static str, &str)> {
        self.doors.iter().map(|door| (door.protocol.name(), door.transport(), door.address.as_str()))
    }

    /// Begins to take messages. Reading ends in [`Phase::Accept`], writing in [`Phase::Ingest`], so that what was read is
    /// written.
    pub fn serve(self, tasks: &Tasks, ingest: &Ingest) {
        let limits = ingest.limits().clone();
        let shares = Shares::new(limits.log_queue_bytes_max);
        let mut by_name: BTreeMap<&'static str, Arc<Shared>> = BTreeMap::new();
        for door in self.doors {
            let name = door.protocol.name();
            let shared = by_name.entry(name).or_insert_with(|| {
                let (queue, writer) = queue::open(name, shares.clone());
                let own = ingest.clone();
                tasks.spawn_once("log socket writer", Phase::Ingest, OnError::Stop, move |stop| async move {
                    writer.run(own, stop).await;
                    Ok(())
                });
                Arc::new(Shared { ingest: ingest.clone(), queue, limits: limits.clone() })
            });
            let transport = door.transport();
            tracing::info!(protocol = name, transport, address = %door.address, "listening for logs");
            start(door, Arc::clone(shared), tasks);
        }
    }
}

impl Door {
    fn transport(&self) -> &'static str {
        match (&self.socket, &self.tls) {
            (Socket::Udp(_), _) => "udp",
            (Socket::Unix(_), _) => "unix",
            (Socket::Tcp(_), Some(_)) => "tls",
            (Socket::Tcp(_), None) => "tcp",
        }
    }
}

fn start(door: Door, shared: Arc<Shared>, tasks: &Tasks) {
    let Door { socket, address: _, tls, protocol } = door;
    let socket = match socket {
        Socket::Udp(socket) => {
            tasks.spawn_once("log datagrams", Phase::Accept, OnError::Stop, move |stop| async move {
                match &protocol {
                    Protocol::Syslog(options) => syslog::datagrams(&socket, options, &shared, &stop).await,
                    Protocol::Gelf(labels) => gelf::datagrams(&socket, labels, &shared, &stop).await,
                    Protocol::Heartbeat | Protocol::Forward(_) => forward::heartbeats(&socket, &stop).await,
                }
                Ok(())
            });
            return;
        }
        Socket::Tcp(socket) => stream::Listening::Tcp(socket),
        Socket::Unix(socket) => stream::Listening::Unix(socket),
    };
    let acceptor = stream::Acceptor::new(socket, tls, protocol, shared, tasks.clone());
    tasks.spawn_once("log accept", Phase::Accept, OnError::Stop, move |stop| async move {
        acceptor.run(&stop).await;
        Ok(())
    });
}

/// One who sends, when the socket tells.
type Sender = Option<IpAddr>;

async fn bind_syslog(door: &SyslogDoor) -> Result<Door, BindError> {
    let options = SyslogOptions {
        format: match door.format {
            SyslogFormat::Auto => Format::Auto,
            SyslogFormat::Rfc5424 => Format::Rfc5424,
            SyslogFormat::Rfc3164 => Format::Rfc3164,
        },
        timezone: door.timezone.zone().clone(),
        labels: labels(&door.labels),
    };
    let protocol = Protocol::Syslog(options);
    bind(protocol, door.address.as_ref(), door.protocol == SocketProtocol::Udp, door.tls.as_ref()).await
}

async fn bind_gelf(door: &GelfDoor) -> Result<Door, BindError> {
    let protocol = Protocol::Gelf(labels(&door.labels));
    bind(protocol, door.address.as_ref(), door.protocol == SocketProtocol::Udp, door.tls.as_ref()).await
}

async fn bind_forward(door: &ForwardDoor) -> Result<Vec<Door>, BindError> {
    let settings = forward::ForwardSettings {
        labels: labels(&door.labels),
        shared_key: door.shared_key.as_ref().map(|k| k.expose().as_bytes().to_vec()),
        users: door.users.iter().map(|(n, p)| (n.clone(), p.expose().to_owned())).collect(),
        hostname: door.self_hostname.clone(),
    };
    let protocol = Protocol::Forward(settings);
    let address = match &door.address {
        Some(ForwardAddress::Unix(path)) => {
            let listener = protocol.name();
            let fault = |source| BindError::Address { listener, address: path.display().to_string(), source };
            let socket = bind_unix(path).map_err(fault)?;
            let address = format!("unix://{}", path.display());
            return Ok(vec![Door { socket: Socket::Unix(socket), address, tls: None, protocol }]);
        }
        Some(ForwardAddress::Tcp(address)) => Some(address),
        None => None,
    };
    let main = bind(protocol, address, false, door.tls.as_ref()).await?;
    let mut doors = Vec::new();
    if door.udp_heartbeat
        && let Ok(beside) = ListenAddress::parse(&main.address)
    {
        doors.push(bind(Protocol::Heartbeat, Some(&beside), true, None).await?);
    }
    doors.push(main);
    Ok(doors)
}

fn labels(configured: &BTreeMap<String, String>) -> Labels {
    Labels::from_pairs(configured.iter().map(|(n, v)| (n.as_str(), v.as_str())))
}

async fn bind(
    protocol: Protocol,
    address: Option<&ListenAddress>,
    is_udp: bool,
    tls: Option<&ListenerTls>,
) -> Result<Door, BindError> {
    let listener = protocol.name();
    let shown = address.map(ToString::to_string).unwrap_or_default();
    let fault = |source| BindError::Address { listener, address: shown.clone(), source };
    let Some(address) = address else {
        return Err(fault(io::Error::new(io::ErrorKind::InvalidInput, "no address is configured")));
    };
    let settings = tls.map(|tls| TlsSettings::from_listener(tls).map(TlsSettings::for_senders)).transpose();
    let tls = settings
        .and_then(|settings| settings.map(TlsDoor::new).transpose())
        .map_err(|source| BindError::Tls { listener, source })?;
    let place = (address.host(), address.port());
    let (socket, bound) = if is_udp {
        let socket = match address.socket_addr() {
            Some(place) => UdpSocket::bind(place).await,
            None => UdpSocket::bind(place).await,
        }
        .map_err(fault)?;
        // The system's limit may be less; what is granted is what there is.
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES).ok();
        let bound = socket.local_addr().map_err(fault)?;
        (Socket::Udp(socket), bound)
    } else {
        let socket = match address.socket_addr() {
            Some(place) => TcpListener::bind(place).await,
            None => TcpListener::bind(place).await,
        }
        .map_err(fault)?;
        let bound = socket.local_addr().map_err(fault)?;
        (Socket::Tcp(socket), bound)
    };
    Ok(Door { socket, address: bound.to_string(), tls, protocol })
}

/// Binds a path; a socket that a server before left behind, and that nobody listens on, is replaced.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            use std::os::unix::fs::FileTypeExt;
            let is_socket = std::fs::symlink_metadata(path)?.file_type().is_socket();
            let is_alive = std::os::unix::net::UnixStream::connect(path).is_ok();
            if !is_socket || is_alive {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}
