//! Prometheus' web configuration file, unchanged: TLS, headers and users for all listeners.
//!
//! Source: `docs/web-configuration.md` of prometheus/exporter-toolkit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::decode::{Sink, choice, decode_section, section};
use crate::error::{ConfigError, Warning};
use crate::http_client::TlsVersion;
use crate::secret::Secret;
use crate::trefoil::check_users;
use crate::yaml::{self, Node};

choice! {
    /// What is asked of clients' certificates.
    pub enum ClientAuth: "client auth type" {
        /// Nothing.
        None = "NoClientCert",
        /// A certificate is asked for, not checked.
        Request = "RequestClientCert",
        /// A certificate must be there, it is not checked.
        RequireAny = "RequireAnyClientCert",
        /// A certificate is checked if it is there.
        VerifyIfGiven = "VerifyClientCertIfGiven",
        /// A certificate must be there and is checked.
        RequireAndVerify = "RequireAndVerifyClientCert",
    }
}

section! {
    /// TLS of the server.
    pub struct TlsServerConfig {
        /// Certificate chain as PEM text.
        pub cert: String = String::new(),
        /// Private key as PEM text.
        pub key: Option<Secret> = None,
        /// Authority of clients' certificates as PEM text.
        pub client_ca: String = String::new(),
        /// File of the certificate chain.
        pub cert_file: Option<PathBuf> = None,
        /// File of the private key.
        pub key_file: Option<PathBuf> = None,
        /// File of the authority of clients' certificates.
        pub client_ca_file: Option<PathBuf> = None,
        /// What is asked of clients' certificates. Default nothing.
        pub client_auth_type: ClientAuth = ClientAuth::None,
        /// Names of which a client's certificate must bear one. Default any.
        pub client_allowed_sans: Vec<String> = Vec::new(),
        /// Lowest version. Default TLS12.
        pub min_version: TlsVersion = TlsVersion::Tls12,
        /// Highest version. Default TLS13.
        pub max_version: TlsVersion = TlsVersion::Tls13,
        /// Cipher suites of TLS 1.2 by their Go names. Default: all that are safe.
        pub cipher_suites: Vec<String> = Vec::new(),
        /// Curves by their Go names. Default: all that are safe.
        pub curve_preferences: Vec<String> = Vec::new(),
        /// Has had no effect for years. Default true.
        pub prefer_server_cipher_suites: bool = true,
    }
    check TlsServerConfig::check
}

impl TlsServerConfig {
    /// True when no client comes in without a certificate that our authority signed.
    pub fn authenticates_clients(&self) -> bool {
        self.client_auth_type == ClientAuth::RequireAndVerify
    }

    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let cert = (!self.cert.is_empty(), self.cert_file.is_some());
        let key = (self.key.is_some(), self.key_file.is_some());
        let ca = (!self.client_ca.is_empty(), self.client_ca_file.is_some());
        let pos = node.pos;
        sink.require(cert != (false, false), pos, "missing one of cert or cert_file");
        sink.require(key != (false, false), pos, "missing one of key or key_file");
        sink.require(cert != (true, true), pos, "only one of cert or cert_file can be specified");
        sink.require(key != (true, true), pos, "only one of key or key_file can be specified");
        sink.require(ca != (true, true), pos, "only one of client_ca or client_ca_file can be specified");
        let verifies = matches!(self.client_auth_type, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify);
        sink.require(
            ca == (false, false) || self.client_auth_type != ClientAuth::None,
            pos,
            "client CA's have been configured without a Client Auth Policy",
        );
        let message = "client_auth_type verifies certificates, but no client_ca_file is configured";
        sink.require(!verifies || ca != (false, false), node.key_pos("client_auth_type"), message);
        let message = "max_version must be greater than or equal to min_version";
        sink.require(self.min_version <= self.max_version, node.key_pos("max_version"), message);
        for key in ["cipher_suites", "curve_preferences"] {
            if node.get(key).is_some_and(|n| !n.is_null()) {
                sink.warn(node.key_pos(key), key, "has no effect: all suites and curves that are offered are safe");
            }
        }
        for (key, version) in [("min_version", self.min_version), ("max_version", self.max_version)] {
            if version < TlsVersion::Tls12 {
                sink.warn(node.key_pos(key), key, "taken as TLS12, the lowest version that is spoken");
            }
        }
        if self.client_auth_type == ClientAuth::RequireAny || self.client_auth_type == ClientAuth::Request {
            sink.warn(
                node.key_pos("client_auth_type"),
                "client_auth_type",
                "certificates that are not verified prove nothing: this is no authentication",
            );
        }
    }
}

section! {
    /// HTTP of the server.
    pub struct HttpServerConfig {
        /// Offer HTTP/2 over TLS. Default true.
        pub http2: bool = true,
        /// Headers added to answers, of those the toolkit allows. Default none.
        pub headers: BTreeMap<String, String> = BTreeMap::new(),
    }
    check HttpServerConfig::check
}

const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "X-XSS-Protection",
    "Strict-Transport-Security",
];

impl HttpServerConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        for name in self.headers.keys() {
            let pos = node.get("headers").map_or(node.pos, |n| n.key_pos(name));
            let message = format!("HTTP header {name:?} can not be configured");
            sink.require(HEADERS.iter().any(|h| h == name), pos, message);
        }
    }
}

section! {
    /// Prometheus' web configuration file.
    pub struct WebConfig {
        /// TLS. Default none.
        pub tls_server_config: Option<TlsServerConfig> = None,
        /// HTTP.
        pub http_server_config: HttpServerConfig = HttpServerConfig::default(),
        /// Users with the bcrypt hashes of their passwords.
        pub basic_auth_users: BTreeMap<String, Secret> = BTreeMap::new(),
        /// Limits on requests.
        pub rate_limit: Option<RateLimit> = None,
    }
    check WebConfig::check
}

section! {
    /// A limit on requests; read, not run.
    pub struct RateLimit {
        /// Time between requests once the burst is used up. Default 0s: no limit.
        pub interval: crate::PromDuration = crate::PromDuration::ZERO,
        /// Requests at once. Default 0.
        pub burst: u64 = 0,
    }
}

impl WebConfig {
    /// Reads and checks a file; relative paths in it are resolved against its directory.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_warned(path).map(|(web, _)| web)
    }

    /// As [`WebConfig::load`], with the warnings.
    pub(crate) fn load_warned(path: &Path) -> Result<(Self, Vec<Warning>), ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        Self::parse_from(&text, Some(path), path.parent().unwrap_or(Path::new("")))
    }

    /// Reads and checks a text.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Self, ConfigError> {
        Self::parse_from(text, None, base_dir).map(|(web, _)| web)
    }

    fn parse_from(text: &str, file: Option<&Path>, base_dir: &Path) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut sink = Sink::new(file, base_dir);
        match yaml::parse(text) {
            Ok(document) => {
                let out = decode_section(&document.root, &mut sink);
                if let Some(out) = out.filter(|_| sink.errors.is_empty()) {
                    return Ok((out, sink.warnings));
                }
            }
            Err(faults) => faults.into_iter().for_each(|(pos, message)| sink.error(pos, message)),
        }
        Err(ConfigError::Invalid(sink.errors))
    }

    /// True when nobody comes in without saying who they are.
    pub fn authenticates(&self) -> bool {
        !self.basic_auth_users.is_empty()
            || self.tls_server_config.as_ref().is_some_and(TlsServerConfig::authenticates_clients)
    }

    fn check(&mut self, node: &Node, sink: &mut Sink) {
        check_users(&self.basic_auth_users, node, sink);
        if self.rate_limit.is_some() {
            sink.warn(node.key_pos("rate_limit"), "rate_limit", "this part is not run yet");
        }
    }
}
