//! `remote_write` and `remote_read`: read and checked, not run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::decode::{Decode, Encode, Sink, scalar_text, section};
use crate::duration::PromDuration;
use crate::http_client::{HttpClientConfig, RESERVED_HEADERS};
use crate::relabel::RelabelConfig;
use crate::secret::Secret;
use crate::values::{ConfigUrl, LabelMap};
use crate::yaml::{Node, Value};

section! {
    /// AWS request signatures.
    pub struct SigV4Config {
        /// Region. Default: from the environment.
        pub region: String = String::new(),
        /// Access key, with `secret_key`.
        pub access_key: String = String::new(),
        /// Secret key, with `access_key`.
        pub secret_key: Option<Secret> = None,
        /// Named profile.
        pub profile: String = String::new(),
        /// Role to take on.
        pub role_arn: String = String::new(),
        /// External id for the role.
        pub external_id: String = String::new(),
        /// Use the FIPS endpoint of STS. Default false.
        pub use_fips_sts_endpoint: bool = false,
        /// Name of the service that is signed for. Default `aps`.
        pub service_name: String = String::new(),
    }
    check SigV4Config::check
}

impl SigV4Config {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let message =
            "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SigV4 config";
        sink.require(self.access_key.is_empty() == self.secret_key.is_none(), node.pos, message);
    }
}

section! {
    /// A managed identity, a workload identity, OAuth, the SDK or a certificate of Azure: the keys of all of them.
    pub struct AzureIdentity {
        /// Client id, a UUID.
        pub client_id: String = String::new(),
        /// Client secret (`oauth`).
        pub client_secret: Option<Secret> = None,
        /// Tenant id.
        pub tenant_id: String = String::new(),
        /// File of the token (`workload_identity`).
        pub token_file_path: Option<PathBuf> = None,
        /// Certificate (`certificate`).
        pub certificate_path: Option<PathBuf> = None,
        /// Key (`certificate`).
        pub certificate_key_path: Option<PathBuf> = None,
        /// Password of the certificate (`certificate`).
        pub certificate_password: Option<Secret> = None,
        /// Send the whole chain (`certificate`). Default false.
        pub send_certificate_chain: bool = false,
    }
}

section! {
    /// Azure AD authentication; exactly one way.
    pub struct AzureAdConfig {
        /// A managed identity.
        pub managed_identity: Option<AzureIdentity> = None,
        /// A workload identity.
        pub workload_identity: Option<AzureIdentity> = None,
        /// OAuth.
        pub oauth: Option<AzureIdentity> = None,
        /// Azure's SDK.
        pub sdk: Option<AzureIdentity> = None,
        /// A certificate.
        pub certificate: Option<AzureIdentity> = None,
        /// AzurePublic, AzureChina or AzureGovernment. Default the first.
        pub cloud: String = "AzurePublic".to_owned(),
        /// Scope asked for.
        pub scope: String = String::new(),
    }
    check AzureAdConfig::check
}

impl AzureAdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let valid = matches!(self.cloud.as_str(), "AzurePublic" | "AzureChina" | "AzureGovernment");
        sink.require(valid, node.key_pos("cloud"), "must provide a cloud in the Azure AD config");
        let ways = [&self.managed_identity, &self.workload_identity, &self.oauth, &self.sdk, &self.certificate];
        match ways.iter().filter(|w| w.is_some()).count() {
            0 => sink.error(node.pos, "must provide an Azure Managed Identity, Azure Workload Identity, Azure OAuth, Azure Certificate or Azure SDK in the Azure AD config"),
            1 => {}
            _ => sink.error(node.pos, "cannot provide multiple authentication methods in the Azure AD config"),
        }
    }
}

section! {
    /// Google IAM authentication.
    pub struct GoogleIamConfig {
        /// File of the credentials. Default: those of the environment.
        pub credentials_file: Option<PathBuf> = None,
    }
}

section! {
    /// The queue of a remote write.
    pub struct QueueConfig {
        /// Samples that wait in a shard. Default 10000.
        pub capacity: i64 = 10_000,
        /// Most shards. Default 50.
        pub max_shards: i64 = 50,
        /// Fewest shards. Default 1.
        pub min_shards: i64 = 1,
        /// Most samples of a request. Default 2000.
        pub max_samples_per_send: i64 = 2_000,
        /// Longest wait of a sample. Default 5s.
        pub batch_send_deadline: PromDuration = PromDuration::from_secs(5),
        /// First wait before a retry. Default 30ms.
        pub min_backoff: PromDuration = PromDuration::from_ms(30),
        /// Longest wait before a retry. Default 5s.
        pub max_backoff: PromDuration = PromDuration::from_secs(5),
        /// Retry on status 429 too. Default false.
        pub retry_on_http_429: bool = false,
        /// Samples older than this are dropped; 0s: none. Default 0s.
        pub sample_age_limit: PromDuration = PromDuration::ZERO,
    }
    check QueueConfig::check
}

impl QueueConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        for (key, value) in [
            ("max_shards", self.max_shards),
            ("min_shards", self.min_shards),
            ("max_samples_per_send", self.max_samples_per_send),
            ("capacity", self.capacity),
        ] {
            sink.require(value > 0, node.key_pos(key), format!("remote write queue {key} must be positive"));
        }
        let message = "remote write queue min_shards must not be greater than max_shards";
        sink.require(self.min_shards <= self.max_shards || self.max_shards <= 0, node.key_pos("min_shards"), message);
        let message = "remote write queue max_backoff must not be less than min_backoff";
        sink.require(self.max_backoff >= self.min_backoff, node.key_pos("max_backoff"), message);
    }
}

section! {
    /// Metadata that a remote write sends.
    pub struct MetadataConfig {
        /// Send it. Default true.
        pub send: bool = true,
        /// Time between sendings. Default 1m.
        pub send_interval: PromDuration = PromDuration::from_secs(60),
        /// Most items of a request. Default 2000.
        pub max_samples_per_send: u64 = 2_000,
    }
}

/// The protobuf message of a remote write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteMessage {
    /// `prometheus.WriteRequest`, remote write 1.0.
    V1,
    /// `io.prometheus.write.v2.Request`, remote write 2.0.
    V2,
}

impl WriteMessage {
    /// The full name of the message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "prometheus.WriteRequest",
            Self::V2 => "io.prometheus.write.v2.Request",
        }
    }
}

impl Decode for WriteMessage {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        match scalar_text(node, "a protobuf message", sink)? {
            "prometheus.WriteRequest" => Some(Self::V1),
            "io.prometheus.write.v2.Request" => Some(Self::V2),
            other => {
                sink.error(node.pos, format!("invalid protobuf_message value: unknown type for remote write protobuf message {other}, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request"));
                None
            }
        }
    }
}

impl Encode for WriteMessage {
    fn encode(&self) -> Value {
        Value::Str(self.as_str().to_owned())
    }
}

section! {
    /// Another store that samples are sent to.
    pub struct RemoteWriteConfig {
        /// Where to. Required.
        pub url: Option<ConfigUrl> = None,
        /// Longest time of a request. Default 30s.
        pub remote_timeout: PromDuration = PromDuration::from_secs(30),
        /// Headers added to requests.
        pub headers: BTreeMap<String, String> = BTreeMap::new(),
        /// Rules for samples, after the external labels were added.
        pub write_relabel_configs: Vec<RelabelConfig> = Vec::new(),
        /// Name, unique when not empty.
        pub name: String = String::new(),
        /// Send exemplars. Default false.
        pub send_exemplars: bool = false,
        /// Send native histograms. Default false.
        pub send_native_histograms: bool = false,
        /// Spread connections over the addresses of the host. Default false.
        pub round_robin_dns: bool = false,
        /// Protobuf message. Default 1.0.
        pub protobuf_message: WriteMessage = WriteMessage::V1,
        /// Log requests that failed. Default false.
        pub failed_request_logging: bool = false,
        /// The queue.
        pub queue_config: QueueConfig = QueueConfig::default(),
        /// Metadata.
        pub metadata_config: MetadataConfig = MetadataConfig::default(),
        /// AWS request signatures.
        pub sigv4: Option<SigV4Config> = None,
        /// Azure AD authentication.
        pub azuread: Option<AzureAdConfig> = None,
        /// Google IAM authentication.
        pub google_iam: Option<GoogleIamConfig> = None,
    }
    flatten {
        /// How the store is reached.
        pub http: HttpClientConfig = HttpClientConfig { enable_http2: false, ..HttpClientConfig::default() },
    }
    check RemoteWriteConfig::check
}

impl RemoteWriteConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        require_url(self.url.is_some(), "remote_write", node, sink);
        check_headers(&self.headers, node, sink);
        let ways = [
            ("basic_auth", self.http.basic_auth.is_some()),
            ("authorization", self.http.authorization.is_some()),
            ("oauth2", self.http.oauth2.is_some()),
            ("sigv4", self.sigv4.is_some()),
            ("azuread", self.azuread.is_some()),
            ("google_iam", self.google_iam.is_some()),
        ];
        let given: Vec<_> = ways.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        let message = format!(
            "at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must be configured. Currently configured: [{}]",
            given.join(" ")
        );
        sink.require(given.len() <= 1, node.pos, message);
    }
}

section! {
    /// Another store that queries read from.
    pub struct RemoteReadConfig {
        /// Where from. Required.
        pub url: Option<ConfigUrl> = None,
        /// Longest time of a request. Default 1m.
        pub remote_timeout: PromDuration = PromDuration::from_secs(60),
        /// Largest frame of a streamed answer in bytes. Default 50000000.
        pub chunked_read_limit: u64 = 50_000_000,
        /// Headers added to requests.
        pub headers: BTreeMap<String, String> = BTreeMap::new(),
        /// Ask for times that the own store should have, too. Default false.
        pub read_recent: bool = false,
        /// Name, unique when not empty.
        pub name: String = String::new(),
        /// Equality matchers that a selector must have for this store to be asked.
        pub required_matchers: LabelMap = LabelMap::default(),
        /// Use the external labels as matchers. Default true.
        pub filter_external_labels: bool = true,
    }
    flatten {
        /// How the store is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check RemoteReadConfig::check
}

impl RemoteReadConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        require_url(self.url.is_some(), "remote_read", node, sink);
        check_headers(&self.headers, node, sink);
    }
}

/// Reports a missing URL, but not where one was given and faulty.
fn require_url(there: bool, section: &str, node: &Node, sink: &mut Sink) {
    let faulty = node.get("url").is_some_and(|n| matches!(&n.kind, crate::yaml::Kind::Scalar(s) if !s.text.is_empty()));
    sink.require(there || faulty, node.key_pos("url"), format!("url for {section} is empty"));
}

fn check_headers(headers: &BTreeMap<String, String>, node: &Node, sink: &mut Sink) {
    for name in headers.keys() {
        let pos = || node.get("headers").map_or(node.pos, |n| n.key_pos(name));
        match name.to_ascii_lowercase().as_str() {
            "authorization" => sink.error(pos(), "authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, azuread or google_iam parameter"),
            lower if RESERVED_HEADERS.contains(&lower) => {
                sink.error(pos(), format!("{name} is a reserved header. It must not be changed"));
            }
            _ => {}
        }
    }
}
