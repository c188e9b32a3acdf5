//! How an HTTP client authenticates and connects, as in `prometheus/common`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::decode::{Decode, Sink, choice, decode_section, section};
use crate::error::ConfigError;
use crate::secret::Secret;
use crate::values::ConfigUrl;
use crate::yaml::{self, Kind, Node, Value};

section! {
    /// Basic authentication. At most one of each `x`, `x_file`, `x_ref`.
    pub struct BasicAuth {
        /// User name. Default empty.
        pub username: String = String::new(),
        /// File that holds the user name.
        pub username_file: Option<PathBuf> = None,
        /// Name of a secret in a secret manager; accepted, not run.
        pub username_ref: String = String::new(),
        /// Password. Default none.
        pub password: Option<Secret> = None,
        /// File that holds the password.
        pub password_file: Option<PathBuf> = None,
        /// Name of a secret in a secret manager; accepted, not run.
        pub password_ref: String = String::new(),
    }
    check BasicAuth::check
}

impl BasicAuth {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let names = [!self.username.is_empty(), self.username_file.is_some(), !self.username_ref.is_empty()];
        at_most_one(
            &names,
            node,
            "at most one of basic_auth username, username_file & username_ref must be configured",
            sink,
        );
        let passwords = [self.password.is_some(), self.password_file.is_some(), !self.password_ref.is_empty()];
        at_most_one(
            &passwords,
            node,
            "at most one of basic_auth password, password_file & password_ref must be configured",
            sink,
        );
        warn_refs(node, &["username_ref", "password_ref"], sink);
    }
}

section! {
    /// The `Authorization` header.
    pub struct Authorization {
        /// Authentication scheme, not `Basic`. Default `Bearer`.
        pub r#type: String = "Bearer".to_owned(),
        /// Credentials behind the scheme. Default none.
        pub credentials: Option<Secret> = None,
        /// File that holds the credentials.
        pub credentials_file: Option<PathBuf> = None,
        /// Name of a secret in a secret manager; accepted, not run.
        pub credentials_ref: String = String::new(),
    }
    check Authorization::check
}

impl Authorization {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        self.r#type = self.r#type.trim().to_owned();
        if self.r#type.is_empty() {
            self.r#type = "Bearer".to_owned();
        }
        if self.r#type.eq_ignore_ascii_case("basic") {
            sink.error(
                node.key_pos("type"),
                "authorization type cannot be set to \"basic\", use \"basic_auth\" instead",
            );
        }
        let given = [self.credentials.is_some(), self.credentials_file.is_some(), !self.credentials_ref.is_empty()];
        at_most_one(
            &given,
            node,
            "at most one of authorization credentials & credentials_file must be configured",
            sink,
        );
        warn_refs(node, &["credentials_ref"], sink);
    }
}

choice! {
    /// A version of TLS.
    pub enum TlsVersion: "TLS version" {
        /// TLS 1.0; taken as 1.2, the lowest that is spoken.
        Tls10 = "TLS10",
        /// TLS 1.1; taken as 1.2, the lowest that is spoken.
        Tls11 = "TLS11",
        /// TLS 1.2.
        Tls12 = "TLS12",
        /// TLS 1.3.
        Tls13 = "TLS13",
    }
}

section! {
    /// How a client speaks TLS. At most one of each `x`, `x_file`, `x_ref`.
    pub struct TlsConfig {
        /// PEM text of the certificate authority. Default: the system's.
        pub ca: String = String::new(),
        /// PEM text of the client certificate.
        pub cert: String = String::new(),
        /// PEM text of the client key.
        pub key: Option<Secret> = None,
        /// File of the certificate authority.
        pub ca_file: Option<PathBuf> = None,
        /// File of the client certificate.
        pub cert_file: Option<PathBuf> = None,
        /// File of the client key.
        pub key_file: Option<PathBuf> = None,
        /// Name of a secret in a secret manager; accepted, not run.
        pub ca_ref: String = String::new(),
        /// Name of a secret in a secret manager; accepted, not run.
        pub cert_ref: String = String::new(),
        /// Name of a secret in a secret manager; accepted, not run.
        pub key_ref: String = String::new(),
        /// Name the server's certificate must bear. Default: the host of the URL.
        pub server_name: String = String::new(),
        /// Do not verify the server's certificate. Default false.
        pub insecure_skip_verify: bool = false,
        /// Lowest version. Default 1.2.
        pub min_version: Option<TlsVersion> = None,
        /// Highest version. Default 1.3.
        pub max_version: Option<TlsVersion> = None,
    }
    check TlsConfig::check
}

impl TlsConfig {
    /// Reads a text that holds this section alone.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Self, ConfigError> {
        parse_alone(text, base_dir)
    }

    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let ca = [!self.ca.is_empty(), self.ca_file.is_some(), !self.ca_ref.is_empty()];
        at_most_one(&ca, node, "at most one of ca, ca_file & ca_ref must be configured", sink);
        let cert = [!self.cert.is_empty(), self.cert_file.is_some(), !self.cert_ref.is_empty()];
        at_most_one(&cert, node, "at most one of cert, cert_file & cert_ref must be configured", sink);
        let key = [self.key.is_some(), self.key_file.is_some(), !self.key_ref.is_empty()];
        at_most_one(&key, node, "at most one of key and key_file must be configured", sink);
        match (cert.contains(&true), key.contains(&true)) {
            (true, false) => sink.error(
                node.pos,
                "exactly one of key or key_file must be configured when a client certificate is configured",
            ),
            (false, true) => sink
                .error(node.pos, "exactly one of cert or cert_file must be configured when a client key is configured"),
            _ => {}
        }
        if let (Some(min), Some(max)) = (self.min_version, self.max_version) {
            let message = "tls_config.max_version must be greater than or equal to tls_config.min_version";
            sink.require(min <= max, node.key_pos("max_version"), message);
        }
        warn_refs(node, &["ca_ref", "cert_ref", "key_ref"], sink);
    }
}

section! {
    /// Which proxy a client goes through.
    pub struct ProxyConfig {
        /// The proxy. Default none.
        pub proxy_url: Option<ConfigUrl> = None,
        /// Addresses, networks and domains, separated by commas, that are reached without the proxy.
        pub no_proxy: String = String::new(),
        /// Takes the proxy from `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`. Default false.
        pub proxy_from_environment: bool = false,
        /// Headers sent to the proxy with CONNECT.
        pub proxy_connect_header: BTreeMap<String, Vec<Secret>> = BTreeMap::new(),
    }
    check ProxyConfig::check
}

impl ProxyConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let with_url = self.proxy_url.is_some();
        sink.require(
            self.proxy_connect_header.is_empty() || with_url || self.proxy_from_environment,
            node.key_pos("proxy_connect_header"),
            "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured",
        );
        sink.require(
            !(self.proxy_from_environment && with_url),
            node.key_pos("proxy_url"),
            "if proxy_from_environment is configured, proxy_url must not be configured",
        );
        sink.require(
            !self.proxy_from_environment || self.no_proxy.is_empty(),
            node.key_pos("no_proxy"),
            "if proxy_from_environment is configured, no_proxy must not be configured",
        );
        sink.require(
            with_url || self.no_proxy.is_empty() || self.proxy_from_environment,
            node.key_pos("no_proxy"),
            "if no_proxy is configured, proxy_url must also be configured",
        );
    }
}

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

section! {
    /// OAuth 2.0 client credentials, or a signed assertion with `grant_type` jwt-bearer.
    pub struct OAuth2 {
        /// Client id. Required.
        pub client_id: String = String::new(),
        /// Client secret.
        pub client_secret: Option<Secret> = None,
        /// File that holds the client secret.
        pub client_secret_file: Option<PathBuf> = None,
        /// Name of a secret in a secret manager; accepted, not run.
        pub client_secret_ref: String = String::new(),
        /// Id of the key that signs assertions.
        pub client_certificate_key_id: String = String::new(),
        /// PEM text of the key that signs assertions.
        pub client_certificate_key: Option<Secret> = None,
        /// File of the key that signs assertions.
        pub client_certificate_key_file: Option<PathBuf> = None,
        /// Name of a secret in a secret manager; accepted, not run.
        pub client_certificate_key_ref: String = String::new(),
        /// `client_credentials` or `urn:ietf:params:oauth:grant-type:jwt-bearer`. Default the first.
        pub grant_type: String = String::new(),
        /// RS256, RS384 or RS512. Default RS256.
        pub signature_algorithm: String = String::new(),
        /// Issuer of assertions. Default the client id.
        pub iss: String = String::new(),
        /// Audience of assertions. Default the token URL.
        pub audience: String = String::new(),
        /// Further claims of assertions.
        pub claims: Option<Tree> = None,
        /// Scopes asked for.
        pub scopes: Vec<String> = Vec::new(),
        /// Where tokens come from. Required.
        pub token_url: String = String::new(),
        /// Further parameters of the token request.
        pub endpoint_params: BTreeMap<String, String> = BTreeMap::new(),
        /// TLS towards the token URL.
        pub tls_config: TlsConfig = TlsConfig::default(),
    }
    flatten {
        /// Proxy towards the token URL.
        pub proxy: ProxyConfig = ProxyConfig::default(),
    }
    check OAuth2::check
}

impl OAuth2 {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(!self.client_id.is_empty(), node.key_pos("client_id"), "oauth2 client_id must be configured");
        sink.require(!self.token_url.is_empty(), node.key_pos("token_url"), "oauth2 token_url must be configured");
        if self.grant_type == JWT_BEARER {
            let keys = [
                self.client_certificate_key.is_some(),
                self.client_certificate_key_file.is_some(),
                !self.client_certificate_key_ref.is_empty(),
            ];
            at_most_one(
                &keys,
                node,
                "at most one of oauth2 client_certificate_key, client_certificate_key_file & client_certificate_key_ref must be configured using grant-type=urn:ietf:params:oauth:grant-type:jwt-bearer",
                sink,
            );
            sink.require(
                matches!(self.signature_algorithm.as_str(), "" | "RS256" | "RS384" | "RS512"),
                node.key_pos("signature_algorithm"),
                "valid signature algorithms are RS256, RS384 and RS512",
            );
        } else {
            let secrets =
                [self.client_secret.is_some(), self.client_secret_file.is_some(), !self.client_secret_ref.is_empty()];
            at_most_one(
                &secrets,
                node,
                "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured using grant-type=client_credentials",
                sink,
            );
        }
    }
}

section! {
    /// Values of one header that is added to requests, in this order.
    pub struct HttpHeader {
        /// Plain values.
        pub values: Vec<String> = Vec::new(),
        /// Values that are not shown.
        pub secrets: Vec<Secret> = Vec::new(),
        /// Files whose content is a value.
        pub files: Vec<PathBuf> = Vec::new(),
    }
}

section! {
    /// How an HTTP client authenticates and connects. At most one way of authentication.
    ///
    /// `bearer_token` and `bearer_token_file` are read into `authorization`; after loading both are empty.
    pub struct HttpClientConfig {
        /// Basic authentication. Default none.
        pub basic_auth: Option<BasicAuth> = None,
        /// The `Authorization` header. Default none.
        pub authorization: Option<Authorization> = None,
        /// OAuth 2.0. Default none.
        pub oauth2: Option<OAuth2> = None,
        /// Old form of `authorization.credentials`.
        pub bearer_token: Option<Secret> = None,
        /// Old form of `authorization.credentials_file`.
        pub bearer_token_file: Option<PathBuf> = None,
        /// TLS.
        pub tls_config: TlsConfig = TlsConfig::default(),
        /// Follow answers 3xx. Default true.
        pub follow_redirects: bool = true,
        /// Offer HTTP/2. Default true (remote write: false).
        pub enable_http2: bool = true,
        /// Headers added to requests; not those the client sets itself.
        pub http_headers: BTreeMap<String, HttpHeader> = BTreeMap::new(),
    }
    flatten {
        /// Proxy.
        pub proxy: ProxyConfig = ProxyConfig::default(),
    }
    check HttpClientConfig::check
}

/// Headers that a client sets itself, in lower case.
pub(crate) const RESERVED_HEADERS: [&str; 17] = [
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

impl HttpClientConfig {
    /// Reads a text that holds this section alone, as amtool's and promtool's `--http.config.file` do.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Self, ConfigError> {
        parse_alone(text, base_dir)
    }

    /// True when requests carry credentials.
    pub fn has_authentication(&self) -> bool {
        self.basic_auth.is_some() || self.authorization.is_some() || self.oauth2.is_some()
    }

    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let token = self.bearer_token.is_some();
        let token_file = self.bearer_token_file.is_some();
        let pos = node.key_pos(if token { "bearer_token" } else { "bearer_token_file" });
        sink.require(!(token && token_file), pos, "at most one of bearer_token & bearer_token_file must be configured");
        if token || token_file {
            sink.require(
                self.basic_auth.is_none() && self.oauth2.is_none(),
                pos,
                "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
            );
            if self.authorization.is_some() {
                sink.error(pos, "authorization is not compatible with bearer_token & bearer_token_file");
            } else {
                self.authorization = Some(Authorization {
                    credentials: self.bearer_token.take(),
                    credentials_file: self.bearer_token_file.take(),
                    ..Authorization::default()
                });
            }
        } else {
            let ways = [self.basic_auth.is_some(), self.oauth2.is_some(), self.authorization.is_some()];
            at_most_one(&ways, node, "at most one of basic_auth, oauth2 & authorization must be configured", sink);
        }
        for name in self.http_headers.keys() {
            let lower = name.to_ascii_lowercase();
            if lower == "authorization" || RESERVED_HEADERS.contains(&lower.as_str()) {
                let pos = node.get("http_headers").map_or(node.pos, |n| n.key_pos(name));
                sink.error(pos, format!("setting header {:?} is not allowed", canonical_header(name)));
            }
        }
        if self.oauth2.is_some() {
            sink.warn(node.key_pos("oauth2"), "oauth2", "OAuth 2.0 is not run yet: these requests fail");
        }
        if !self.proxy.proxy_connect_header.is_empty() {
            let key = "proxy_connect_header";
            sink.warn(node.key_pos(key), key, "headers for proxies are not run yet: they are not sent");
        }
    }
}

/// `user-agent` to `User-Agent`.
fn canonical_header(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = true;
    for c in name.chars() {
        out.push(if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() });
        upper = c == '-';
    }
    out
}

pub(crate) fn at_most_one(given: &[bool], node: &Node, message: &str, sink: &mut Sink) {
    sink.require(given.iter().filter(|g| **g).count() <= 1, node.pos, message);
}

fn warn_refs(node: &Node, keys: &[&str], sink: &mut Sink) {
    for key in keys {
        if node.get(key).is_some_and(|n| !n.is_null()) {
            sink.warn(node.key_pos(key), key, "there is no secret manager: this reference is not resolved");
        }
    }
}

fn parse_alone<T: crate::decode::Section + Default>(text: &str, base_dir: &Path) -> Result<T, ConfigError> {
    let mut sink = Sink::new(None, base_dir);
    let document = yaml::parse(text).map_err(|faults| {
        for (pos, message) in faults {
            sink.error(pos, message);
        }
        ConfigError::Invalid(std::mem::take(&mut sink.errors))
    })?;
    let out = decode_section(&document.root, &mut sink);
    match out {
        Some(out) if sink.errors.is_empty() => Ok(out),
        _ => Err(ConfigError::Invalid(sink.errors)),
    }
}

/// Any value, kept as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree(pub Value);

impl Decode for Tree {
    fn decode(node: &Node, _: &mut Sink) -> Option<Self> {
        Some(Self(tree(node)))
    }
}

impl crate::decode::Encode for Tree {
    fn encode(&self) -> Value {
        self.0.clone()
    }
}

fn tree(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Seq(items) => Value::Seq(items.iter().map(tree).collect()),
        Kind::Map(entries) => Value::Map(entries.iter().map(|e| (e.key.clone(), tree(&e.value))).collect()),
        Kind::Scalar(scalar) if scalar.quoted => Value::Str(scalar.text.clone()),
        Kind::Scalar(scalar) => match scalar.text.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            text => text
                .parse()
                .map(Value::Int)
                .ok()
                .or_else(|| text.parse().map(Value::Float).ok())
                .unwrap_or_else(|| Value::Str(text.to_owned())),
        },
    }
}
