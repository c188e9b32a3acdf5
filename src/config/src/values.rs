//! Small types of values that several sections share.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::decode::{Decode, Encode, Sink, scalar_text};
use crate::yaml::{Kind, Node, Value};

/// Labels as a file gives them: name to value, names not empty.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LabelMap(pub BTreeMap<String, String>);

impl LabelMap {
    /// Name and value pairs, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl Decode for LabelMap {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            sink.error(node.pos, format!("{} must be a mapping, got {}", sink.key(), node.kind_name()));
            return None;
        };
        let mut out = BTreeMap::new();
        for entry in entries {
            if entry.key_invalid.is_some() || entry.key.is_empty() {
                let name = entry.key_invalid.as_deref().unwrap_or("\"\"");
                sink.error(entry.key_pos, format!("{name} is not a valid label name"));
                continue;
            }
            match &entry.value.kind {
                Kind::Null => {
                    out.insert(entry.key.clone(), String::new());
                }
                Kind::Scalar(scalar) => match &scalar.invalid {
                    None => {
                        out.insert(entry.key.clone(), scalar.text.clone());
                    }
                    Some(quote) => sink.error(entry.value.pos, format!("{quote} is not a valid label value")),
                },
                _ => {
                    let kind = entry.value.kind_name();
                    sink.error(entry.value.pos, format!("value of label {} must be a string, got {kind}", entry.key));
                }
            }
        }
        Some(Self(out))
    }
}

impl Encode for LabelMap {
    fn encode(&self) -> Value {
        self.0.encode()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A URL as written. Printed with its password masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigUrl {
    text: String,
    scheme: String,
    host: String,
}

impl ConfigUrl {
    /// The URL as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scheme in lower case; empty when there is none.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Host and port; empty when there is none.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Splits a URL as loosely as Go does: scheme and host may be missing. Refuses what no URL may hold.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fault = |why: &str| format!("parse {text:?}: {why}");
        if text.chars().any(|c| c.is_ascii_control()) {
            return Err(fault("invalid control character in URL"));
        }
        let (scheme, rest) = match text.split_once(':') {
            Some(("", _)) => return Err(fault("missing protocol scheme")),
            Some((scheme, rest))
                if scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                    && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) =>
            {
                (scheme.to_ascii_lowercase(), rest)
            }
            Some((first, _)) if !first.contains('/') => {
                return Err(fault("first path segment in URL cannot contain colon"));
            }
            _ => (String::new(), text),
        };
        let host = match rest.strip_prefix("//") {
            Some(authority) => {
                let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
                let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
                if host.contains(' ') {
                    return Err(fault("invalid character \" \" in host name"));
                }
                let port = if host.starts_with('[') {
                    let Some((_, tail)) = host.split_once(']') else { return Err(fault("missing ']' in host")) };
                    tail.strip_prefix(':').unwrap_or_default()
                } else {
                    host.split_once(':').map_or("", |(_, port)| port)
                };
                if !port.chars().all(|c| c.is_ascii_digit()) {
                    return Err(fault(&format!("invalid port \":{port}\" after host")));
                }
                host.to_owned()
            }
            None => String::new(),
        };
        Ok(Self { text: text.to_owned(), scheme, host })
    }

    /// The URL with its password, if any, as `xxxxx`.
    pub fn redacted(&self) -> String {
        let Some((scheme, rest)) = self.text.split_once("//") else { return self.text.clone() };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
            Some((user, host)) => format!("{scheme}//{user}:xxxxx@{host}{tail}"),
            None => self.text.clone(),
        }
    }
}

impl fmt::Display for ConfigUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl Decode for ConfigUrl {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let text = scalar_text(node, "a URL", sink)?;
        if text.is_empty() {
            return None;
        }
        Self::parse(text).map_err(|message| sink.error(node.pos, message)).ok()
    }
}

impl Encode for ConfigUrl {
    fn encode(&self) -> Value {
        Value::Str(self.redacted())
    }
}

/// A limit: a positive value, or the word `unlimited`. Zero is refused, because it has meant both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit<T> {
    /// At most this.
    At(T),
    /// No limit.
    Unlimited,
}

impl<T: Copy> Limit<T> {
    /// The limit; `None` when there is none.
    pub fn get(self) -> Option<T> {
        match self {
            Self::At(value) => Some(value),
            Self::Unlimited => None,
        }
    }
}

impl<T: Decode + Encode> Decode for Limit<T> {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        if matches!(&node.kind, Kind::Scalar(s) if s.text == "unlimited") {
            return Some(Self::Unlimited);
        }
        let value = T::decode(node, sink)?;
        if value.is_empty() {
            sink.error(node.pos, format!("{} must not be 0: give a limit or the word unlimited", sink.key()));
            return None;
        }
        Some(Self::At(value))
    }
}

impl<T: Encode> Encode for Limit<T> {
    fn encode(&self) -> Value {
        match self {
            Self::At(value) => value.encode(),
            Self::Unlimited => Value::Str("unlimited".to_owned()),
        }
    }
}

/// An address to listen on: `host:port`, an empty host meaning all interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    host: String,
    port: u16,
}

impl ListenAddress {
    /// All of 127.0.0.1 on a port.
    pub fn loopback(port: u16) -> Self {
        Self { host: "127.0.0.1".to_owned(), port }
    }

    /// Reads `host:port`, `[v6]:port` or `:port`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is not an address to listen on: give host:port, for example 127.0.0.1:9090");
        let (host, port) = text.rsplit_once(':').ok_or_else(fault)?;
        let port = port.parse().map_err(|_| fault())?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match bare {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            None if host.is_empty() || host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_')) => {
                host
            }
            _ => return Err(fault()),
        };
        Ok(Self { host: host.to_owned(), port })
    }

    /// Host name or address; empty for all interfaces.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port; 0 lets the system choose.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// True when only this machine can connect.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The address to bind; `None` when the host is a name that must be looked up first.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let ip = match self.host.as_str() {
            "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().ok()?,
        };
        Some(SocketAddr::new(ip, self.port))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Decode for ListenAddress {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let text = scalar_text(node, "an address", sink)?;
        Self::parse(text).map_err(|message| sink.error(node.pos, message)).ok()
    }
}

impl Encode for ListenAddress {
    fn encode(&self) -> Value {
        Value::Str(self.to_string())
    }
}

/// A key that is accepted, warned of and not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NotRun;

impl Decode for NotRun {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        sink.warn(node.pos, "", "this part is not run yet");
        None
    }
}

impl Encode for NotRun {
    fn encode(&self) -> Value {
        Value::Null
    }

    fn is_empty(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |text: &str, scheme: &str, host: &str| {
            let url = ConfigUrl::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((url.scheme(), url.host()), (scheme, host), "{text}");
        };
        check("http://remote1/push", "http", "remote1");
        check("http://", "http", "");
        check("invalid", "", "");
        check("localhost:9090", "localhost", "");
        check("HTTPS://u:p@h:1/x?y#z", "https", "h:1");
        check("unix:///var/run/docker.sock", "unix", "");
        check("http://[::1]:80/", "http", "[::1]:80");
        for bad in ["http://a b/", "http://h:x/", ":x", "1a:b", "http://[::1/"] {
            assert!(ConfigUrl::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(ConfigUrl::parse("http://u:p@h/x").unwrap().redacted(), "http://u:xxxxx@h/x");
        assert_eq!(ConfigUrl::parse("http://h/x@y:z").unwrap().redacted(), "http://h/x@y:z");
    }

    #[test]
    fn addresses() {
        let check = |text: &str, loopback: bool, printed: &str| {
            let address = ListenAddress::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((address.is_loopback(), address.to_string().as_str()), (loopback, printed), "{text}");
        };
        check("127.0.0.1:9090", true, "127.0.0.1:9090");
        check("localhost:0", true, "localhost:0");
        check("[::1]:1", true, "[::1]:1");
        check(":9090", false, ":9090");
        check("0.0.0.0:9090", false, "0.0.0.0:9090");
        for bad in ["9090", "h:", "h:99999", "::1:90", "a b:1", "http://x:1"] {
            assert!(ListenAddress::parse(bad).is_err(), "{bad}");
        }
    }
}
