//! The keys of all sections that are run, for the test of the reference.

use crate::decode::{Encode, Section};
use crate::yaml::Value;

/// Every section with each of its keys. Sections of service discovery that is not run are left out, but not their names.
pub fn all_keys() -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    macro_rules! add {
        ($($section:ty),* $(,)?) => { $(
            out.extend(<$section as Section>::KEYS.iter().map(|key| (stringify!($section), (*key).to_owned())));
        )* };
    }
    add!(
        crate::Config,
        crate::GlobalConfig,
        crate::global::RuntimeConfig,
        crate::ScrapeConfig,
        crate::DiscoveryConfigs,
        crate::StaticConfig,
        crate::discovery::files::FileSdConfig,
        crate::discovery::files::HttpSdConfig,
        crate::discovery::files::DnsSdConfig,
        crate::RelabelConfig,
        crate::HttpClientConfig,
        crate::BasicAuth,
        crate::Authorization,
        crate::OAuth2,
        crate::TlsConfig,
        crate::ProxyConfig,
        crate::HttpHeader,
        crate::AlertingConfig,
        crate::AlertmanagerConfig,
        crate::StorageConfig,
        crate::storage::TsdbConfig,
        crate::storage::TsdbRetentionConfig,
        crate::storage::ChunkEncodingConfig,
        crate::storage::ExemplarsConfig,
        crate::TracingConfig,
        crate::OtlpConfig,
        crate::RemoteWriteConfig,
        crate::remote::QueueConfig,
        crate::remote::MetadataConfig,
        crate::remote::SigV4Config,
        crate::remote::AzureAdConfig,
        crate::remote::AzureIdentity,
        crate::remote::GoogleIamConfig,
        crate::RemoteReadConfig,
        crate::TrefoilConfig,
        crate::trefoil::ListenerTls,
        crate::trefoil::SyslogDoor,
        crate::trefoil::ForwardDoor,
        crate::trefoil::GelfDoor,
        crate::trefoil::AuthConfig,
        crate::trefoil::BearerToken,
        crate::trefoil::RetentionConfig,
        crate::trefoil::RetentionRuleConfig,
        crate::trefoil::DownsamplingConfig,
        crate::trefoil::JournalConfig,
        crate::trefoil::MemtableConfig,
        crate::trefoil::ObjectStoreConfig,
        crate::trefoil::TracesConfig,
        crate::trefoil::SpanMetricsConfig,
        crate::trefoil::ServiceGraphConfig,
        crate::trefoil::TailSamplingConfig,
        crate::trefoil::SamplingPolicyConfig,
        crate::trefoil::SampledAttributeConfig,
        crate::trefoil::SelfTelemetryConfig,
        crate::trefoil::LogsConfig,
        crate::trefoil::LogFilesConfig,
        crate::trefoil::LogPipelineConfig,
        crate::trefoil::InlineAlertmanager,
        crate::trefoil::Receiver,
        crate::trefoil::Route,
        crate::trefoil::WebhookConfig,
        crate::WebConfig,
        crate::web_config::TlsServerConfig,
        crate::web_config::HttpServerConfig,
        crate::web_config::RateLimit,
    );
    let limits = crate::trefoil::LimitsConfig::default().encode();
    if let Value::Map(entries) = limits {
        out.extend(entries.into_iter().map(|(key, _)| ("LimitsConfig", key)));
    }
    let own = [
        "memory_bytes",
        "listeners",
        "http",
        "otlp_grpc",
        "otlp_http",
        "zipkin",
        "jaeger",
        "address",
        "tls",
        "enabled",
    ];
    out.extend(own.map(|key| ("LimitsConfig and Listeners", key.to_owned())));
    out
}
