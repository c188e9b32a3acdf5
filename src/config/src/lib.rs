//! The configuration: one YAML file, a superset of `prometheus.yml`, with all of Trefoil's own under `trefoil`.
//!
//! Promises: every valid Prometheus 3 configuration loads; what is not run yet is read and checked all the same and
//! reported as a [`Warning`]; a bad file is refused with *all* its faults, each with line and column, in Prometheus'
//! words where it has some. Once loaded, a configuration needs no more checks: paths are resolved, jobs have inherited
//! what they leave out, secrets print as `<secret>`, and [`Config::to_yaml`] loads again.
//!
//! Map, in reading order: [`config`] (the whole, loading, included files) → [`global`], [`scrape`], [`relabel`],
//! [`http_client`], [`alerting`], [`storage`], [`remote`], [`discovery`] (Prometheus' sections) → [`trefoil`] (ours) →
//! [`web_config`], [`flags`], [`doors`] (who comes in) → [`duration`], [`byte_size`], [`secret`], [`values`], [`names`],
//! [`env`](mod@env), [`globs`] (values) → [`decode`] and [`yaml`] (how a text becomes sections).
//!
//! Must not know: what is done with the settings. No sockets, no storage, no tasks; the only files it reads are those
//! that the configuration consists of.

pub mod alerting;
mod byte_size;
mod config;
mod decode;
pub mod discovery;
mod doors;
mod duration;
mod env;
mod error;
mod files;
mod flags;
pub mod global;
pub mod globs;
pub mod http_client;
mod keys;
mod names;
pub mod relabel;
pub mod remote;
pub mod rule_file;
pub mod scrape;
mod secret;
pub mod storage;
pub mod trefoil;
pub mod values;
pub mod web_config;
pub mod yaml;

pub use alerting::{AlertingConfig, AlertmanagerConfig};
pub use byte_size::ByteSize;
pub use config::{Config, Env, LoadedConfig};
pub use discovery::{DiscoveryConfigs, StaticConfig};
pub use duration::PromDuration;
pub use error::{ConfigError, Diagnostic, Pos, Warning};
pub use flags::FlagOverrides;
pub use global::{GlobalConfig, ScrapeProtocol};
pub use http_client::{
    Authorization, BasicAuth, HttpClientConfig, HttpHeader, OAuth2, ProxyConfig, TlsConfig, TlsVersion,
};
pub use keys::all_keys;
pub use names::{EscapingScheme, ValidationScheme};
pub use relabel::{RelabelAction, RelabelConfig};
pub use remote::{RemoteReadConfig, RemoteWriteConfig};
pub use rule_file::{RuleConfig, RuleFile, RuleGroupConfig, RulePlaces};
pub use scrape::ScrapeConfig;
pub use secret::Secret;
pub use storage::{OtlpConfig, StorageConfig, TracingConfig, TranslationStrategy};
pub use trefoil::TrefoilConfig;
pub use values::{ConfigUrl, LabelMap, Limit, ListenAddress};
pub use web_config::WebConfig;
