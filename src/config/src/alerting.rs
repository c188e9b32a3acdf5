//! `alerting`: where alerts are sent.

use crate::decode::{Sink, choice, section};
use crate::discovery::DiscoveryConfigs;
use crate::duration::PromDuration;
use crate::http_client::HttpClientConfig;
use crate::names::ValidationScheme;
use crate::relabel::{self, RelabelConfig};
use crate::remote::SigV4Config;
use crate::yaml::Node;

/// A version of Alertmanager's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertmanagerApiVersion {
    /// `/api/v2`, the only one left.
    V2,
}

impl crate::decode::Decode for AlertmanagerApiVersion {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        match crate::decode::scalar_text(node, "an API version", sink)? {
            "v2" => Some(Self::V2),
            other => {
                let message = format!("expected Alertmanager api version to be one of [v2] but got {other}");
                sink.error(node.pos, message);
                None
            }
        }
    }
}

impl crate::decode::Encode for AlertmanagerApiVersion {
    fn encode(&self) -> crate::yaml::Value {
        crate::yaml::Value::Str("v2".to_owned())
    }
}

choice! {
    /// How Alertmanagers are reached.
    pub enum Scheme: "scheme" {
        /// Plain.
        Http = "http",
        /// With TLS.
        Https = "https",
    }
}

section! {
    /// A set of Alertmanagers.
    pub struct AlertmanagerConfig {
        /// `http` or `https`. Default `http`.
        pub scheme: Scheme = Scheme::Http,
        /// Put in front of the path of requests. Default empty.
        pub path_prefix: String = String::new(),
        /// Longest time of a request. Default 10s.
        pub timeout: PromDuration = PromDuration::from_secs(10),
        /// Version of the API. Default v2.
        pub api_version: AlertmanagerApiVersion = AlertmanagerApiVersion::V2,
        /// AWS request signatures; accepted, not run.
        pub sigv4: Option<SigV4Config> = None,
        /// Rules for the Alertmanagers as targets.
        pub relabel_configs: Vec<RelabelConfig> = Vec::new(),
        /// Rules for alerts before they go to these Alertmanagers.
        pub alert_relabel_configs: Vec<RelabelConfig> = Vec::new(),
    }
    flatten {
        /// Where they are; only `static_configs` is run.
        pub discovery: DiscoveryConfigs = DiscoveryConfigs::default(),
        /// How they are reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check AlertmanagerConfig::check
}

impl AlertmanagerConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let message = "at most one of basic_auth, authorization, oauth2, & sigv4 must be configured";
        sink.require(!(self.http.has_authentication() && self.sigv4.is_some()), node.pos, message);
        if self.sigv4.is_some() {
            sink.warn(node.key_pos("sigv4"), "sigv4", "AWS signatures are not run yet: requests go without them");
        }
        if self.relabel_configs.is_empty() {
            self.discovery.check_static_targets(node, sink);
        }
    }
}

section! {
    /// Where alerts are sent.
    pub struct AlertingConfig {
        /// Rules for alerts before they are sent.
        pub alert_relabel_configs: Vec<RelabelConfig> = Vec::new(),
        /// Sets of Alertmanagers; each alert goes to all.
        pub alertmanagers: Vec<AlertmanagerConfig> = Vec::new(),
    }
}

impl AlertingConfig {
    /// Checks the relabelling rules, for which the global scheme decides.
    pub(crate) fn resolve(&self, scheme: ValidationScheme, node: Option<&Node>, sink: &mut Sink) {
        let get = |key: &str| node.and_then(|n| n.get(key));
        relabel::validate_all(&self.alert_relabel_configs, get("alert_relabel_configs"), scheme, sink);
        for (i, config) in self.alertmanagers.iter().enumerate() {
            let own = get("alertmanagers").and_then(|n| n.item(i));
            let get = |key: &str| own.and_then(|n| n.get(key));
            relabel::validate_all(&config.alert_relabel_configs, get("alert_relabel_configs"), scheme, sink);
            relabel::validate_all(&config.relabel_configs, get("relabel_configs"), scheme, sink);
        }
    }
}
