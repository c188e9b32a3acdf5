//! Kinds of registries, schedulers and inventories.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::files::check_url;
use crate::decode::{Sink, section};
use crate::duration::PromDuration;
use crate::http_client::{BasicAuth, HttpClientConfig, TlsConfig};
use crate::secret::Secret;
use crate::values::ConfigUrl;
use crate::yaml::Node;

const MINUTE: PromDuration = PromDuration::from_secs(60);
const HALF_MINUTE: PromDuration = PromDuration::from_secs(30);

section! {
    /// `consul_sd_configs`
    pub struct ConsulSdConfig {
        /// Address of the server.
        pub server: String = "localhost:8500".to_owned(),
        /// Prometheus' `path_prefix`.
        pub path_prefix: String = String::new(),
        /// Token of the API.
        pub token: Option<Secret> = None,
        /// Prometheus' `datacenter`.
        pub datacenter: String = String::new(),
        /// Namespace.
        pub namespace: String = String::new(),
        /// Prometheus' `partition`.
        pub partition: String = String::new(),
        /// What stands between tags in a label.
        pub tag_separator: String = ",".to_owned(),
        /// Prometheus' `scheme`.
        pub scheme: String = "http".to_owned(),
        /// User name.
        pub username: String = String::new(),
        /// Password.
        pub password: Option<Secret> = None,
        /// Take answers that may be stale.
        pub allow_stale: bool = true,
        /// Time between refreshes.
        pub refresh_interval: PromDuration = HALF_MINUTE,
        /// Prometheus' `services`.
        pub services: Vec<String> = Vec::new(),
        /// Prometheus' `tags`.
        pub tags: Vec<String> = Vec::new(),
        /// Prometheus' `node_meta`.
        pub node_meta: BTreeMap<String, String> = BTreeMap::new(),
        /// Filter that the API applies.
        pub filter: String = String::new(),
        /// Prometheus' `health_filter`.
        pub health_filter: String = String::new(),
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check ConsulSdConfig::check
}

impl ConsulSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let message = "consul SD configuration requires a server address";
        sink.require(!self.server.trim().is_empty(), node.key_pos("server"), message);
        if !self.username.is_empty() || self.password.is_some() {
            if self.http.basic_auth.is_some() {
                let message =
                    "at most one of consul SD configuration username and password and basic auth can be configured";
                sink.error(node.pos, message);
            } else {
                // The old keys become the new one.
                self.http.basic_auth = Some(BasicAuth {
                    username: std::mem::take(&mut self.username),
                    password: self.password.take(),
                    ..BasicAuth::default()
                });
            }
        }
        sink.require(
            self.token.is_none() || (self.http.authorization.is_none() && self.http.oauth2.is_none()),
            node.key_pos("token"),
            "at most one of consul SD token, authorization, or oauth2 can be configured",
        );
    }
}

section! {
    /// A filter of the Docker API: name and values, any of which may match.
    pub struct DockerFilter {
        /// Name of the filter.
        pub name: String = String::new(),
        /// Values.
        pub values: Vec<String> = Vec::new(),
    }
}

section! {
    /// `docker_sd_configs`
    pub struct DockerSdConfig {
        /// Address of the API.
        pub host: String = String::new(),
        /// Port of the targets.
        pub port: u16 = 80,
        /// Filters that the API applies.
        pub filters: Vec<DockerFilter> = Vec::new(),
        /// Prometheus' `host_networking_host`.
        pub host_networking_host: String = "localhost".to_owned(),
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
        /// Prometheus' `match_first_network`.
        pub match_first_network: bool = true,
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check DockerSdConfig::check
}

impl DockerSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        check_docker_host(&self.host, node, sink);
    }
}

fn check_docker_host(host: &str, node: &Node, sink: &mut Sink) {
    sink.require(!host.is_empty(), node.key_pos("host"), "host missing");
    if let Err(message) = ConfigUrl::parse(host) {
        sink.error(node.key_pos("host"), message);
    }
}

section! {
    /// `dockerswarm_sd_configs`
    pub struct DockerswarmSdConfig {
        /// Address of the API.
        pub host: String = String::new(),
        /// What becomes a target.
        pub role: String = String::new(),
        /// Port of the targets.
        pub port: u16 = 80,
        /// Filters that the API applies.
        pub filters: Vec<DockerFilter> = Vec::new(),
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check DockerswarmSdConfig::check
}

impl DockerswarmSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        check_docker_host(&self.host, node, sink);
        match self.role.as_str() {
            "services" | "nodes" | "tasks" => {}
            "" => sink.error(node.pos, "role missing (one of: tasks, services, nodes)"),
            role => {
                sink.error(node.key_pos("role"), format!("invalid role {role}, expected tasks, services, or nodes"))
            }
        }
    }
}

section! {
    /// `eureka_sd_configs`
    pub struct EurekaSdConfig {
        /// Address of the server.
        pub server: String = String::new(),
        /// Time between refreshes.
        pub refresh_interval: PromDuration = HALF_MINUTE,
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check EurekaSdConfig::check
}

impl EurekaSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let pos = node.key_pos("server");
        if self.server.is_empty() {
            sink.error(pos, "eureka_sd: empty or null eureka server");
            return;
        }
        match ConfigUrl::parse(&self.server) {
            Err(message) => sink.error(pos, message),
            Ok(url) => {
                let valid = !url.scheme().is_empty() && !url.host().is_empty();
                sink.require(valid, pos, "eureka_sd: invalid eureka server URL");
            }
        }
    }
}

section! {
    /// `kuma_sd_configs`
    pub struct KumaSdConfig {
        /// Address of the server.
        pub server: String = String::new(),
        /// Prometheus' `client_id`.
        pub client_id: String = String::new(),
        /// Time between refreshes.
        pub refresh_interval: PromDuration = PromDuration::from_secs(15),
        /// Prometheus' `fetch_timeout`.
        pub fetch_timeout: PromDuration = PromDuration::from_secs(120),
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check KumaSdConfig::check
}

impl KumaSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let pos = node.key_pos("server");
        match ConfigUrl::parse(&self.server) {
            Err(message) => sink.error(pos, message),
            Ok(url) => {
                let valid = !url.scheme().is_empty() && !url.host().is_empty();
                let message = format!("kuma SD server must not be empty and have a scheme: {}", self.server);
                sink.require(valid, pos, message);
            }
        }
    }
}

section! {
    /// `marathon_sd_configs`
    pub struct MarathonSdConfig {
        /// Addresses of the servers.
        pub servers: Vec<String> = Vec::new(),
        /// Time between refreshes.
        pub refresh_interval: PromDuration = HALF_MINUTE,
        /// Prometheus' `auth_token`.
        pub auth_token: Option<Secret> = None,
        /// Prometheus' `auth_token_file`.
        pub auth_token_file: Option<PathBuf> = None,
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check MarathonSdConfig::check
}

impl MarathonSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let pos = node.pos;
        sink.require(!self.servers.is_empty(), pos, "marathon_sd: must contain at least one Marathon server");
        let (token, file) = (self.auth_token.is_some(), self.auth_token_file.is_some());
        let message = "marathon_sd: at most one of auth_token & auth_token_file must be configured";
        sink.require(!(token && file), pos, message);
        if !(token || file) {
            return;
        }
        // A bearer token has become an authorization by now.
        let bearer = node.get("bearer_token").is_some() || node.get("bearer_token_file").is_some();
        if self.http.basic_auth.is_some() {
            sink.error(pos, "marathon_sd: at most one of basic_auth, auth_token & auth_token_file must be configured");
        } else if bearer {
            sink.error(pos, "marathon_sd: at most one of bearer_token, bearer_token_file, auth_token & auth_token_file must be configured");
        } else if self.http.authorization.is_some() {
            sink.error(
                pos,
                "marathon_sd: at most one of auth_token, auth_token_file & authorization must be configured",
            );
        }
    }
}

section! {
    /// `nomad_sd_configs`
    pub struct NomadSdConfig {
        /// Take answers that may be stale.
        pub allow_stale: bool = true,
        /// Namespace.
        pub namespace: String = "default".to_owned(),
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
        /// Region.
        pub region: String = "global".to_owned(),
        /// Address of the server.
        pub server: String = "http://localhost:4646".to_owned(),
        /// What stands between tags in a label.
        pub tag_separator: String = ",".to_owned(),
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check NomadSdConfig::check
}

impl NomadSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let message = "nomad SD configuration requires a server address";
        sink.require(!self.server.trim().is_empty(), node.key_pos("server"), message);
    }
}

section! {
    /// `puppetdb_sd_configs`
    pub struct PuppetdbSdConfig {
        /// Address of the API.
        pub url: String = String::new(),
        /// Query that selects targets.
        pub query: String = String::new(),
        /// Prometheus' `include_parameters`.
        pub include_parameters: bool = false,
        /// Port of the targets.
        pub port: u16 = 80,
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check PuppetdbSdConfig::check
}

impl PuppetdbSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        check_url(&self.url, node, sink);
        sink.require(!self.query.is_empty(), node.key_pos("query"), "query missing");
    }
}

section! {
    /// `serverset_sd_configs`
    pub struct ServersetSdConfig {
        /// Addresses of the servers.
        pub servers: Vec<String> = Vec::new(),
        /// Prometheus' `paths`.
        pub paths: Vec<String> = Vec::new(),
        /// Prometheus' `timeout`.
        pub timeout: PromDuration = PromDuration::from_secs(10),
    }
    check ServersetSdConfig::check
}

impl ServersetSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        check_zookeeper("serverset", &self.servers, &self.paths, node, sink);
    }
}

section! {
    /// `nerve_sd_configs`
    pub struct NerveSdConfig {
        /// Addresses of the servers.
        pub servers: Vec<String> = Vec::new(),
        /// Prometheus' `paths`.
        pub paths: Vec<String> = Vec::new(),
        /// Prometheus' `timeout`.
        pub timeout: PromDuration = PromDuration::from_secs(10),
    }
    check NerveSdConfig::check
}

impl NerveSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        check_zookeeper("nerve", &self.servers, &self.paths, node, sink);
    }
}

fn check_zookeeper(kind: &str, servers: &[String], paths: &[String], node: &Node, sink: &mut Sink) {
    let message = format!("{kind} SD config must contain at least one Zookeeper server");
    sink.require(!servers.is_empty(), node.pos, message);
    sink.require(!paths.is_empty(), node.pos, format!("{kind} SD config must contain at least one path"));
    for path in paths {
        let message = format!("{kind} SD config paths must begin with '/': {path}");
        sink.require(path.starts_with('/'), node.key_pos("paths"), message);
    }
}

section! {
    /// `triton_sd_configs`
    pub struct TritonSdConfig {
        /// Prometheus' `account`.
        pub account: String = String::new(),
        /// What becomes a target.
        pub role: String = "container".to_owned(),
        /// Prometheus' `dns_suffix`.
        pub dns_suffix: String = String::new(),
        /// Address of the API.
        pub endpoint: String = String::new(),
        /// Prometheus' `groups`.
        pub groups: Vec<String> = Vec::new(),
        /// Port of the targets.
        pub port: u16 = 9163,
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
        /// TLS towards the API.
        pub tls_config: TlsConfig = TlsConfig::default(),
        /// Prometheus' `version`.
        pub version: u32 = 1,
    }
    check TritonSdConfig::check
}

impl TritonSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let valid = matches!(self.role.as_str(), "container" | "cn");
        let message = "triton SD configuration requires role to be 'container' or 'cn'";
        sink.require(valid, node.key_pos("role"), message);
        sink.require(!self.account.is_empty(), node.pos, "triton SD configuration requires an account");
        sink.require(!self.dns_suffix.is_empty(), node.pos, "triton SD configuration requires a dns_suffix");
        sink.require(!self.endpoint.is_empty(), node.pos, "triton SD configuration requires an endpoint");
        sink.require(
            !self.refresh_interval.is_zero(),
            node.key_pos("refresh_interval"),
            "triton SD configuration requires RefreshInterval to be a positive integer",
        );
    }
}

section! {
    /// `uyuni_sd_configs`
    pub struct UyuniSdConfig {
        /// Address of the server.
        pub server: String = String::new(),
        /// User name.
        pub username: String = String::new(),
        /// Password.
        pub password: Option<Secret> = None,
        /// Prometheus' `entitlement`.
        pub entitlement: String = "monitoring_entitled".to_owned(),
        /// Prometheus' `separator`.
        pub separator: String = ",".to_owned(),
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check UyuniSdConfig::check
}

impl UyuniSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let pos = node.key_pos("server");
        sink.require(!self.server.is_empty(), pos, "Uyuni SD configuration requires server host");
        if let Err(message) = ConfigUrl::parse(&self.server) {
            sink.error(pos, format!("Uyuni Server URL is not valid: {message}"));
        }
        sink.require(!self.username.is_empty(), node.pos, "Uyuni SD configuration requires a username");
        sink.require(self.password.is_some(), node.pos, "Uyuni SD configuration requires a password");
    }
}
