//! Listeners and who may come in through them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::decode::{Decode, Sink, choice, repeats, section};
use crate::env::is_bcrypt;
use crate::secret::Secret;
use crate::values::ListenAddress;
use crate::yaml::{Kind, Node};

section! {
    /// TLS of a listener.
    pub struct ListenerTls {
        /// Certificate chain in PEM. Required.
        pub cert_file: Option<PathBuf> = None,
        /// Private key in PEM. Required.
        pub key_file: Option<PathBuf> = None,
        /// Authority in PEM that must have signed the clients' certificates. Default none: clients need none.
        pub client_ca_file: Option<PathBuf> = None,
    }
    check ListenerTls::check
}

impl ListenerTls {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let given = self.cert_file.is_some() && self.key_file.is_some();
        sink.require(given, node.pos, "tls needs both cert_file and key_file");
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Where to listen.
    pub address: ListenAddress,
    /// Where to listen too. Default none.
    pub more_addresses: Vec<ListenAddress>,
    /// TLS. Default none.
    pub tls: Option<ListenerTls>,
    /// Listen at all. Default true, of Zipkin's false.
    pub enabled: bool,
}

impl Listener {
    /// On loopback, without TLS.
    pub fn loopback(port: u16) -> Self {
        Self { address: ListenAddress::loopback(port), more_addresses: Vec::new(), tls: None, enabled: true }
    }

    /// All addresses to listen on, the first one first.
    pub fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        std::iter::once(&self.address).chain(&self.more_addresses)
    }

    fn read(mut self, node: &Node, sink: &mut Sink) -> Self {
        // An address alone stands for a listener with this address.
        if let Kind::Scalar(_) = node.kind {
            if let Some(address) = ListenAddress::decode(node, sink) {
                self.address = address;
                self.enabled = true;
            }
            return self;
        }
        if let Some(mut fields) = crate::decode::Fields::new(node, sink) {
            self.address = fields.take("address", self.address, sink);
            self.more_addresses = fields.take("more_addresses", self.more_addresses, sink);
            self.tls = fields.take("tls", self.tls, sink);
            self.enabled = fields.take("enabled", self.enabled, sink);
            fields.finish(sink);
        }
        self
    }
}

impl crate::decode::Encode for Listener {
    fn encode(&self) -> crate::yaml::Value {
        let mut out = vec![("address".to_owned(), self.address.encode())];
        if !self.more_addresses.is_empty() {
            out.push(("more_addresses".to_owned(), self.more_addresses.encode()));
        }
        if let Some(tls) = &self.tls {
            out.push(("tls".to_owned(), tls.encode()));
        }
        out.push(("enabled".to_owned(), self.enabled.encode()));
        crate::yaml::Value::Map(out)
    }
}

/// Addresses to listen on.
#[derive(Clone, Debug, PartialEq)]
pub struct Listeners {
    /// All HTTP: pages, APIs, gRPC in clear text. Default 127.0.0.1:9090.
    pub http: Listener,
    /// OTLP over gRPC. Default 127.0.0.1:4317.
    pub otlp_grpc: Listener,
    /// OTLP over HTTP. Default 127.0.0.1:4318.
    pub otlp_http: Listener,
    /// Zipkin's spans, off by default. Default 127.0.0.1:9411.
    pub zipkin: Listener,
    /// Jaeger's spans over HTTP, off by default. Default 127.0.0.1:14268.
    pub jaeger: Listener,
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            http: Listener::loopback(9090),
            otlp_grpc: Listener::loopback(4317),
            otlp_http: Listener::loopback(4318),
            zipkin: Listener { enabled: false, ..Listener::loopback(9411) },
            jaeger: Listener { enabled: false, ..Listener::loopback(14268) },
        }
    }
}

impl Listeners {
    fn check(&self, node: &Node, sink: &mut Sink) {
        let on: Vec<_> = self
            .iter()
            .filter(|(_, l)| l.enabled)
            .flat_map(|(key, l)| l.addresses().map(move |a| (key, a)))
            .filter(|(_, address)| address.port() != 0)
            .collect();
        for (i, (key, address)) in on.iter().enumerate() {
            if let Some((other, _)) = on[..i].iter().find(|(_, a)| a == address) {
                let message = format!("listeners {other} and {key} have the same address {address}");
                sink.error(node.key_pos(key), message);
            }
        }
    }

    /// The listeners with their keys, those that are off too.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Listener)> {
        [
            ("http", &self.http),
            ("otlp_grpc", &self.otlp_grpc),
            ("otlp_http", &self.otlp_http),
            ("zipkin", &self.zipkin),
            ("jaeger", &self.jaeger),
        ]
        .into_iter()
    }
}

impl Decode for Listeners {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let mut out = Self::default();
        let mut fields = crate::decode::Fields::new(node, sink)?;
        for (key, slot) in [
            ("http", &mut out.http),
            ("otlp_grpc", &mut out.otlp_grpc),
            ("otlp_http", &mut out.otlp_http),
            ("zipkin", &mut out.zipkin),
            ("jaeger", &mut out.jaeger),
        ] {
            if let Some(own) = fields.take_node(key) {
                *slot = sink.within(key, |sink| slot.clone().read(own, sink));
            }
        }
        fields.finish(sink);
        out.check(node, sink);
        Some(out)
    }
}

impl crate::decode::Encode for Listeners {
    fn encode(&self) -> crate::yaml::Value {
        crate::yaml::Value::Map(self.iter().map(|(key, l)| (key.to_owned(), l.encode())).collect())
    }
}

choice! {
    /// What a token allows.
    pub enum Scope: "scope" {
        /// Queries, pages.
        Read = "read",
        /// Sending data in.
        Write = "write",
        /// Reload, deletion, snapshots; allows the others too.
        Admin = "admin",
    }
}

section! {
    /// A bearer token.
    pub struct BearerToken {
        /// Name for logs and metrics, unique. Required.
        pub name: String = String::new(),
        /// The token, at least 16 characters. This or `token_file`.
        pub token: Option<Secret> = None,
        /// File that holds the token, read at each load.
        pub token_file: Option<PathBuf> = None,
        /// What it allows. Default read and write.
        pub scopes: Vec<Scope> = vec![Scope::Read, Scope::Write],
    }
    check BearerToken::check
}

impl BearerToken {
    /// The token, read from its file where it has one, without white space round it.
    ///
    /// Errors when the file cannot be read or holds no token of 16 to 4096 characters.
    pub fn read(&self) -> std::io::Result<Secret> {
        let text = match (&self.token, &self.token_file) {
            (Some(token), _) => return Ok(token.clone()),
            (None, Some(path)) => std::fs::read_to_string(path)?,
            (None, None) => String::new(),
        };
        let text = text.trim();
        if (16..=4096).contains(&text.len()) {
            Ok(Secret::new(text))
        } else {
            let message = format!("bearer token {:?} must have 16 to 4096 characters", self.name);
            Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message))
        }
    }

    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(!self.name.is_empty(), node.pos, "a bearer token needs a name");
        let one = self.token.is_some() != self.token_file.is_some();
        sink.require(one, node.pos, "exactly one of token and token_file must be configured");
        let length = self.token.as_ref().map_or(16, |t| t.expose().len());
        let message = "a bearer token must have 16 to 4096 characters";
        sink.require((16..=4096).contains(&length), node.key_pos("token"), message);
        sink.require(!self.scopes.is_empty(), node.key_pos("scopes"), "a bearer token needs a scope");
    }
}

section! {
    /// Who may come in. With nothing here everybody on this machine may.
    pub struct AuthConfig {
        /// Users with the bcrypt hashes of their passwords; they may do everything. Default none.
        pub basic_auth_users: std::collections::BTreeMap<String, Secret> = BTreeMap::new(),
        /// Tokens. Default none.
        pub bearer_tokens: Vec<BearerToken> = Vec::new(),
    }
    check AuthConfig::check
}

impl AuthConfig {
    /// True when nobody needs to say who they are.
    pub fn is_empty(&self) -> bool {
        self.basic_auth_users.is_empty() && self.bearer_tokens.is_empty()
    }

    fn check(&mut self, node: &Node, sink: &mut Sink) {
        check_users(&self.basic_auth_users, node, sink);
        let repeated = repeats(self.bearer_tokens.iter().map(|t| t.name.as_str()));
        for (i, token) in self.bearer_tokens.iter().enumerate() {
            let pos = node.get("bearer_tokens").and_then(|n| n.item(i)).map_or(node.pos, |n| n.pos);
            sink.require(!repeated[i], pos, format!("found multiple bearer tokens with name {:?}", token.name));
        }
    }
}

/// Refuses users without a name and passwords that are no bcrypt hash.
pub(crate) fn check_users(users: &BTreeMap<String, Secret>, node: &Node, sink: &mut Sink) {
    for (name, hash) in users {
        let pos = || node.get("basic_auth_users").map_or(node.pos, |n| n.key_pos(name));
        if name.is_empty() {
            sink.error(pos(), "a user needs a name");
        }
        // A masked hash is what an effective configuration shows.
        if !is_bcrypt(hash.expose()) && hash.expose() != crate::secret::MASK {
            sink.error(pos(), format!("password of user {name:?} is not a bcrypt hash"));
        }
    }
}
