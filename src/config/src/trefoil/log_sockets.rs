//! Doors for logs that have sockets of their own: syslog, Fluentd's forward protocol, GELF.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use jiff::tz::{Offset, TimeZone};
use trefoil_model::labels::is_legacy_label_name;

use super::doors::ListenerTls;
use crate::decode::{Decode, Encode, Sink, choice, scalar_text, section};
use crate::secret::Secret;
use crate::values::ListenAddress;
use crate::yaml::{Node, Value};

choice! {
    /// How messages come.
    pub enum SocketProtocol: "protocol" {
        /// A message a datagram.
        Udp = "udp",
        /// Messages in a stream.
        Tcp = "tcp",
    }
}

choice! {
    /// How syslog messages are read.
    pub enum SyslogFormat: "syslog format" {
        /// Whichever a message has.
        Auto = "auto",
        /// RFC 5424; what is not is kept whole.
        Rfc5424 = "rfc5424",
        /// RFC 3164, whatever follows the priority.
        Rfc3164 = "rfc3164",
    }
}

/// A time zone by name: `local`, `UTC`, a name such as `Europe/Berlin`, or an offset such as `+02:00`.
#[derive(Clone, Debug, PartialEq)]
pub struct Timezone {
    name: String,
    zone: TimeZone,
}

impl Timezone {
    /// The zone of this machine.
    pub fn local() -> Self {
        Self { name: "local".to_owned(), zone: TimeZone::system() }
    }

    /// Finds a zone. Errors say which name is not known on this machine.
    pub fn parse(name: &str) -> Result<Self, String> {
        if name == "local" {
            return Ok(Self::local());
        }
        let zone = match offset(name) {
            Some(offset) => TimeZone::fixed(offset),
            None => TimeZone::get(name).map_err(|e| format!("time zone {name:?}: {e}"))?,
        };
        Ok(Self { name: name.to_owned(), zone })
    }

    /// The zone itself.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

/// Reads `+hh:mm` or `-hh:mm`.
fn offset(text: &str) -> Option<Offset> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = text.strip_prefix(['+', '-'])?.split_once(':')?;
    let number = |t: &str, max: i32| {
        let is_number = t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| t.parse::<i32>().ok()).flatten().filter(|n| *n <= max)
    };
    Offset::from_seconds(sign * (number(hours, 23)? * 3600 + number(minutes, 59)? * 60)).ok()
}

impl Decode for Timezone {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let text = scalar_text(node, "a time zone", sink)?;
        Self::parse(text).map_err(|message| sink.error(node.pos, message)).ok()
    }
}

impl Encode for Timezone {
    fn encode(&self) -> Value {
        Value::Str(self.name.clone())
    }
}

/// Where the forward protocol is listened for.
#[derive(Clone, Debug, PartialEq)]
pub enum ForwardAddress {
    /// `host:port`
    Tcp(ListenAddress),
    /// `unix:///path`
    Unix(PathBuf),
}

impl fmt::Display for ForwardAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Decode for ForwardAddress {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let text = scalar_text(node, "an address", sink)?;
        if let Some(path) = text.strip_prefix("unix://") {
            let is_path = path.starts_with('/') && path.len() > 1;
            sink.require(is_path, node.pos, format!("{text:?} must name a path behind unix://"));
            return Some(Self::Unix(PathBuf::from(path)));
        }
        ListenAddress::decode(node, sink).map(Self::Tcp)
    }
}

impl Encode for ForwardAddress {
    fn encode(&self) -> Value {
        Value::Str(self.to_string())
    }
}

fn job(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("job".to_owned(), name.to_owned())])
}

fn check_labels(labels: &BTreeMap<String, String>, node: &Node, sink: &mut Sink) {
    for name in labels.keys().filter(|name| !is_legacy_label_name(name)) {
        let pos = node.get("labels").map_or(node.pos, |n| n.key_pos(name));
        sink.error(pos, format!("{name:?} is not a label name"));
    }
}

section! {
    /// A door for syslog messages.
    pub struct SyslogDoor {
        /// Where to listen, `host:port`. Required.
        pub address: Option<ListenAddress> = None,
        /// `udp`, a message a datagram, or `tcp`, with octet counting or lines, seen for each message. Default `udp`.
        pub protocol: SocketProtocol = SocketProtocol::Udp,
        /// TLS, over `tcp` only. Default none.
        pub tls: Option<ListenerTls> = None,
        /// `auto`, `rfc5424` or `rfc3164`. Default `auto`.
        pub format: SyslogFormat = SyslogFormat::Auto,
        /// Zone of times that name none: `local`, a name such as `Europe/Berlin`, or an offset such as `+02:00`.
        /// Default `local`.
        pub timezone: Timezone = Timezone::local(),
        /// Stream labels of all messages. Default `job: syslog`.
        pub labels: BTreeMap<String, String> = job("syslog"),
        /// Listen beyond loopback without client certificates. Default false.
        pub allow_anonymous: bool = false,
    }
    check SyslogDoor::check
}

impl SyslogDoor {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(self.address.is_some(), node.pos, "a syslog door needs an address");
        let is_stream = self.tls.is_none() || self.protocol == SocketProtocol::Tcp;
        sink.require(is_stream, node.key_pos("tls"), "syslog over tls needs protocol: tcp");
        check_labels(&self.labels, node, sink);
    }
}

section! {
    /// A door for Fluentd's forward protocol, as Fluentd, Fluent Bit and Docker's `fluentd` log driver speak it.
    pub struct ForwardDoor {
        /// Where to listen, `host:port` or `unix:///path`. Required.
        pub address: Option<ForwardAddress> = None,
        /// TLS. Default none.
        pub tls: Option<ListenerTls> = None,
        /// Key that clients must prove to have. Default none: no handshake.
        pub shared_key: Option<Secret> = None,
        /// Users and their passwords, of which clients must have one too. Needs `shared_key`. Default none.
        pub users: BTreeMap<String, Secret> = BTreeMap::new(),
        /// How the server calls itself in the handshake. Default `trefoil`.
        pub self_hostname: String = "trefoil".to_owned(),
        /// Answer heartbeats over UDP at the same port. Default false.
        pub udp_heartbeat: bool = false,
        /// Stream labels of all events. Default `job: fluent_forward`.
        pub labels: BTreeMap<String, String> = job("fluent_forward"),
        /// Listen beyond loopback without a shared key or client certificates. Default false.
        pub allow_anonymous: bool = false,
    }
    check ForwardDoor::check
}

impl ForwardDoor {
    /// The address, unless it is a unix socket.
    pub fn tcp_address(&self) -> Option<ListenAddress> {
        match &self.address {
            Some(ForwardAddress::Tcp(address)) => Some(address.clone()),
            _ => None,
        }
    }

    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(self.address.is_some(), node.pos, "a fluent_forward door needs an address");
        let has_key = self.users.is_empty() || self.shared_key.is_some();
        sink.require(has_key, node.key_pos("users"), "users of a fluent_forward door need a shared_key");
        let is_unix = matches!(self.address, Some(ForwardAddress::Unix(_)));
        let message = "a fluent_forward door on a unix socket has neither tls nor udp_heartbeat";
        sink.require(!is_unix || (self.tls.is_none() && !self.udp_heartbeat), node.pos, message);
        check_labels(&self.labels, node, sink);
    }
}

section! {
    /// A door for GELF messages.
    pub struct GelfDoor {
        /// Where to listen, `host:port`. Required.
        pub address: Option<ListenAddress> = None,
        /// `udp`, chunked and compressed perhaps, or `tcp`, messages that end with NUL. Default `udp`.
        pub protocol: SocketProtocol = SocketProtocol::Udp,
        /// TLS, over `tcp` only. Default none.
        pub tls: Option<ListenerTls> = None,
        /// Stream labels of all messages. Default `job: gelf`.
        pub labels: BTreeMap<String, String> = job("gelf"),
        /// Listen beyond loopback without client certificates. Default false.
        pub allow_anonymous: bool = false,
    }
    check GelfDoor::check
}

impl GelfDoor {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(self.address.is_some(), node.pos, "a gelf door needs an address");
        let is_stream = self.tls.is_none() || self.protocol == SocketProtocol::Tcp;
        sink.require(is_stream, node.key_pos("tls"), "gelf over tls needs protocol: tcp");
        check_labels(&self.labels, node, sink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_zones() {
        for good in ["local", "UTC", "+02:00", "-11:30"] {
            assert!(Timezone::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "Mars/Olympus", "+2", "+24:00", "+0200x"] {
            assert!(Timezone::parse(bad).is_err(), "{bad}");
        }
    }
}
