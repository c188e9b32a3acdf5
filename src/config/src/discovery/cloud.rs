//! Kinds of cloud providers, Amazon aside.

use std::path::PathBuf;

use crate::decode::{Sink, choice, section};
use crate::duration::PromDuration;
use crate::http_client::{HttpClientConfig, TlsConfig};
use crate::secret::Secret;
use crate::values::ConfigUrl;
use crate::yaml::Node;

const MINUTE: PromDuration = PromDuration::from_secs(60);

section! {
    /// `azure_sd_configs`
    pub struct AzureSdConfig {
        /// Prometheus' `environment`.
        pub environment: String = "AzurePublicCloud".to_owned(),
        /// Port of the targets.
        pub port: u16 = 80,
        /// Prometheus' `subscription_id`.
        pub subscription_id: String = String::new(),
        /// Prometheus' `tenant_id`.
        pub tenant_id: String = String::new(),
        /// Prometheus' `client_id`.
        pub client_id: String = String::new(),
        /// Prometheus' `client_secret`.
        pub client_secret: Option<Secret> = None,
        /// Time between refreshes.
        pub refresh_interval: PromDuration = PromDuration::from_secs(300),
        /// Prometheus' `authentication_method`.
        pub authentication_method: String = "OAuth".to_owned(),
        /// Prometheus' `resource_group`.
        pub resource_group: String = String::new(),
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check AzureSdConfig::check
}

impl AzureSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let mut require = |given: bool, key: &str| {
            sink.require(given, node.key_pos(key), format!("azure SD configuration requires a {key}"));
        };
        require(!self.subscription_id.is_empty(), "subscription_id");
        if self.authentication_method == "OAuth" {
            require(!self.tenant_id.is_empty(), "tenant_id");
            require(!self.client_id.is_empty(), "client_id");
            require(self.client_secret.is_some(), "client_secret");
        }
        sink.require(
            matches!(self.authentication_method.as_str(), "OAuth" | "ManagedIdentity" | "SDK" | "WorkloadIdentity"),
            node.key_pos("authentication_method"),
            format!(
                "unknown authentication_type {:?}. Supported types are \"OAuth\", \"ManagedIdentity\", \"SDK\" or \"WorkloadIdentity\"",
                self.authentication_method
            ),
        );
    }
}

choice! {
    /// What DigitalOcean targets are.
    pub enum DigitaloceanRole: "DigitalOcean SD role" {
        /// Virtual machines.
        Droplets = "droplets",
        /// Managed databases.
        Databases = "databases",
    }
}

section! {
    /// `digitalocean_sd_configs`
    pub struct DigitaloceanSdConfig {
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
        /// Port of the targets.
        pub port: u16 = 80,
        /// What becomes a target.
        pub role: DigitaloceanRole = DigitaloceanRole::Droplets,
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
}

section! {
    /// `gce_sd_configs`
    pub struct GceSdConfig {
        /// Prometheus' `project`.
        pub project: String = String::new(),
        /// Prometheus' `zone`.
        pub zone: String = String::new(),
        /// Filter that the API applies.
        pub filter: String = String::new(),
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
        /// Port of the targets.
        pub port: u16 = 80,
        /// What stands between tags in a label.
        pub tag_separator: String = ",".to_owned(),
    }
    check GceSdConfig::check
}

impl GceSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(!self.project.is_empty(), node.key_pos("project"), "GCE SD configuration requires a project");
        sink.require(!self.zone.is_empty(), node.key_pos("zone"), "GCE SD configuration requires a zone");
    }
}

choice! {
    /// Which Hetzner API is asked.
    pub enum HetznerRole: "role" {
        /// Dedicated servers.
        Robot = "robot",
        /// Cloud servers.
        Hcloud = "hcloud",
    }
}

section! {
    /// `hetzner_sd_configs`
    pub struct HetznerSdConfig {
        /// What becomes a target.
        pub role: Option<HetznerRole> = None,
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
        /// Port of the targets.
        pub port: u16 = 80,
        /// Prometheus' `label_selector`.
        pub label_selector: String = String::new(),
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check HetznerSdConfig::check
}

impl HetznerSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        super::require_role(self.role, node, "role missing (one of: robot, hcloud)", sink);
    }
}

section! {
    /// `ionos_sd_configs`
    pub struct IonosSdConfig {
        /// Prometheus' `datacenter_id`.
        pub datacenter_id: String = String::new(),
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
        /// Port of the targets.
        pub port: u16 = 80,
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check IonosSdConfig::check
}

impl IonosSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let pos = node.key_pos("datacenter_id");
        sink.require(!self.datacenter_id.is_empty(), pos, "datacenter id can't be empty");
    }
}

section! {
    /// `linode_sd_configs`
    pub struct LinodeSdConfig {
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
        /// Port of the targets.
        pub port: u16 = 80,
        /// What stands between tags in a label.
        pub tag_separator: String = ",".to_owned(),
        /// Region.
        pub region: String = String::new(),
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
}

section! {
    /// `oci_sd_configs`
    pub struct OciSdConfig {
        /// Prometheus' `auth`.
        pub auth: String = "api_key".to_owned(),
        /// Prometheus' `tenancy`.
        pub tenancy: String = String::new(),
        /// Prometheus' `user`.
        pub user: String = String::new(),
        /// Prometheus' `fingerprint`.
        pub fingerprint: String = String::new(),
        /// Prometheus' `key_file`.
        pub key_file: Option<PathBuf> = None,
        /// Prometheus' `key_passphrase`.
        pub key_passphrase: Option<Secret> = None,
        /// Prometheus' `key_passphrase_file`.
        pub key_passphrase_file: Option<PathBuf> = None,
        /// Region.
        pub region: String = String::new(),
        /// Prometheus' `compartments`.
        pub compartments: Vec<String> = Vec::new(),
        /// Port of the targets.
        pub port: u16 = 80,
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check OciSdConfig::check
}

impl OciSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(!self.region.is_empty(), node.pos, "oci_sd: region is required");
        let passphrases = (self.key_passphrase.is_some(), self.key_passphrase_file.is_some());
        match self.auth.as_str() {
            "api_key" => {
                sink.require(!self.tenancy.is_empty(), node.pos, "oci_sd: api_key auth requires tenancy");
                sink.require(!self.user.is_empty(), node.pos, "oci_sd: api_key auth requires user");
                sink.require(!self.fingerprint.is_empty(), node.pos, "oci_sd: api_key auth requires fingerprint");
                sink.require(self.key_file.is_some(), node.pos, "oci_sd: api_key auth requires key_file");
                let message = "oci_sd: at most one of key_passphrase and key_passphrase_file must be configured";
                sink.require(passphrases != (true, true), node.pos, message);
            }
            "instance_principal" => {
                let clean = self.tenancy.is_empty()
                    && self.user.is_empty()
                    && self.fingerprint.is_empty()
                    && self.key_file.is_none()
                    && passphrases == (false, false);
                sink.require(clean, node.pos, "oci_sd: instance_principal auth must not have tenancy, user, fingerprint, key_file, key_passphrase, or key_passphrase_file set");
            }
            other => sink.error(
                node.key_pos("auth"),
                format!("oci_sd: unknown auth method {other:?}, expected \"api_key\" or \"instance_principal\""),
            ),
        }
        for (i, compartment) in self.compartments.iter().enumerate() {
            let pos = node.key_pos("compartments");
            sink.require(!compartment.is_empty(), pos, format!("oci_sd: compartments[{i}] must not be empty"));
        }
        let pos = node.key_pos("refresh_interval");
        sink.require(!self.refresh_interval.is_zero(), pos, "oci_sd: refresh_interval must be positive, got 0s");
    }
}

choice! {
    /// What OpenStack targets are.
    pub enum OpenstackRole: "OpenStack SD role" {
        /// Hypervisors.
        Hypervisor = "hypervisor",
        /// Instances.
        Instance = "instance",
        /// Load balancers.
        Loadbalancer = "loadbalancer",
    }
}

section! {
    /// `openstack_sd_configs`
    pub struct OpenstackSdConfig {
        /// Prometheus' `identity_endpoint`.
        pub identity_endpoint: String = String::new(),
        /// User name.
        pub username: String = String::new(),
        /// Prometheus' `userid`.
        pub userid: String = String::new(),
        /// Password.
        pub password: Option<Secret> = None,
        /// Prometheus' `project_name`.
        pub project_name: String = String::new(),
        /// Prometheus' `project_id`.
        pub project_id: String = String::new(),
        /// Prometheus' `domain_name`.
        pub domain_name: String = String::new(),
        /// Prometheus' `domain_id`.
        pub domain_id: String = String::new(),
        /// Prometheus' `application_credential_name`.
        pub application_credential_name: String = String::new(),
        /// Prometheus' `application_credential_id`.
        pub application_credential_id: String = String::new(),
        /// Prometheus' `application_credential_secret`.
        pub application_credential_secret: Option<Secret> = None,
        /// What becomes a target.
        pub role: Option<OpenstackRole> = None,
        /// Region.
        pub region: String = String::new(),
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
        /// Port of the targets.
        pub port: u16 = 80,
        /// Prometheus' `all_tenants`.
        pub all_tenants: bool = false,
        /// TLS towards the API.
        pub tls_config: TlsConfig = TlsConfig::default(),
        /// Prometheus' `availability`.
        pub availability: String = "public".to_owned(),
    }
    check OpenstackSdConfig::check
}

impl OpenstackSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let message = format!("unknown availability {}, must be one of admin, internal or public", self.availability);
        let valid = matches!(self.availability.as_str(), "public" | "internal" | "admin");
        sink.require(valid, node.key_pos("availability"), message);
        super::require_role(self.role, node, "role missing (one of: instance, hypervisor, loadbalancer)", sink);
        sink.require(!self.region.is_empty(), node.pos, "openstack SD configuration requires a region");
    }
}

/// Exactly one of `secret_key` and `secret_key_file`.
fn check_secret_key(key: bool, file: bool, node: &Node, sink: &mut Sink) {
    sink.require(key || file, node.pos, "one of secret_key & secret_key_file must be configured");
    sink.require(!(key && file), node.pos, "at most one of secret_key & secret_key_file must be configured");
}

section! {
    /// `outscale_sd_configs`
    pub struct OutscaleSdConfig {
        /// Address of the API.
        pub endpoint: String = String::new(),
        /// Region.
        pub region: String = "eu-west-2".to_owned(),
        /// Access key.
        pub access_key: String = String::new(),
        /// Secret key.
        pub secret_key: Option<Secret> = None,
        /// File of the secret key.
        pub secret_key_file: Option<PathBuf> = None,
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
        /// Port of the targets.
        pub port: u16 = 80,
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check OutscaleSdConfig::check
}

impl OutscaleSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(!self.region.is_empty(), node.key_pos("region"), "outscale SD configuration requires a region");
        sink.require(!self.access_key.is_empty(), node.pos, "outscale SD configuration requires access_key");
        check_secret_key(self.secret_key.is_some(), self.secret_key_file.is_some(), node, sink);
    }
}

section! {
    /// `ovhcloud_sd_configs`
    pub struct OvhcloudSdConfig {
        /// Address of the API.
        pub endpoint: String = "ovh-eu".to_owned(),
        /// Prometheus' `application_key`.
        pub application_key: String = String::new(),
        /// Prometheus' `application_secret`.
        pub application_secret: Option<Secret> = None,
        /// Prometheus' `consumer_key`.
        pub consumer_key: Option<Secret> = None,
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
        /// Prometheus' `service`.
        pub service: String = String::new(),
    }
    check OvhcloudSdConfig::check
}

impl OvhcloudSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(!self.endpoint.is_empty(), node.pos, "endpoint can not be empty");
        sink.require(!self.application_key.is_empty(), node.pos, "application key can not be empty");
        sink.require(self.application_secret.is_some(), node.pos, "application secret can not be empty");
        sink.require(self.consumer_key.is_some(), node.pos, "consumer key can not be empty");
        let valid = matches!(self.service.as_str(), "dedicated_server" | "vps");
        sink.require(valid, node.key_pos("service"), format!("unknown service: {}", self.service));
    }
}

choice! {
    /// What Scaleway targets are.
    pub enum ScalewayRole: "role" {
        /// Virtual machines.
        Instance = "instance",
        /// Dedicated servers.
        Baremetal = "baremetal",
    }
}

section! {
    /// `scaleway_sd_configs`
    pub struct ScalewaySdConfig {
        /// Prometheus' `project_id`.
        pub project_id: String = String::new(),
        /// Prometheus' `api_url`.
        pub api_url: String = "https://api.scaleway.com".to_owned(),
        /// Prometheus' `zone`.
        pub zone: String = "fr-par-1".to_owned(),
        /// Access key.
        pub access_key: String = String::new(),
        /// Secret key.
        pub secret_key: Option<Secret> = None,
        /// File of the secret key.
        pub secret_key_file: Option<PathBuf> = None,
        /// Prometheus' `name_filter`.
        pub name_filter: String = String::new(),
        /// Prometheus' `tags_filter`.
        pub tags_filter: Vec<String> = Vec::new(),
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
        /// Port of the targets.
        pub port: u16 = 80,
        /// What becomes a target.
        pub role: Option<ScalewayRole> = None,
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check ScalewaySdConfig::check
}

impl ScalewaySdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        super::require_role(self.role, node, "role missing (one of: instance, baremetal)", sink);
        sink.require(!self.project_id.is_empty(), node.pos, "project_id is mandatory");
        check_secret_key(self.secret_key.is_some(), self.secret_key_file.is_some(), node, sink);
        sink.require(!self.access_key.is_empty(), node.pos, "access_key is mandatory");
    }
}

section! {
    /// `stackit_sd_configs`
    pub struct StackitSdConfig {
        /// Prometheus' `project`.
        pub project: String = String::new(),
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
        /// Port of the targets.
        pub port: u16 = 80,
        /// Region.
        pub region: String = "eu01".to_owned(),
        /// Address of the API.
        pub endpoint: String = String::new(),
        /// Prometheus' `service_account_key`.
        pub service_account_key: Option<Secret> = None,
        /// Prometheus' `private_key`.
        pub private_key: Option<Secret> = None,
        /// Prometheus' `service_account_key_path`.
        pub service_account_key_path: Option<PathBuf> = None,
        /// Prometheus' `private_key_path`.
        pub private_key_path: Option<PathBuf> = None,
        /// Prometheus' `credentials_file_path`.
        pub credentials_file_path: Option<PathBuf> = None,
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check StackitSdConfig::check
}

impl StackitSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let given = !(self.endpoint.is_empty() && self.region.is_empty());
        sink.require(given, node.pos, "stackit_sd: endpoint and region missing");
        if let Err(message) = ConfigUrl::parse(&self.endpoint) {
            let message = format!("stackit_sd: invalid endpoint {:?}: {message}", self.endpoint);
            sink.error(node.key_pos("endpoint"), message);
        }
    }
}

section! {
    /// `vultr_sd_configs`
    pub struct VultrSdConfig {
        /// Time between refreshes.
        pub refresh_interval: PromDuration = MINUTE,
        /// Port of the targets.
        pub port: u16 = 80,
    }
    flatten {
        /// How the API is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
}
