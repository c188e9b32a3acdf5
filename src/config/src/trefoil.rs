//! `trefoil`: everything that is not Prometheus'.

mod alertmanager;
mod doors;
mod lifecycle;
mod limits;
mod log_retention;
mod log_sockets;
mod logs;
mod promtail;
mod sampling;
mod span_sockets;
mod tail_sampling;
mod traces;

use std::path::{Path, PathBuf};

pub use alertmanager::{InlineAlertmanager, Receiver, Route, WebhookConfig};
pub(crate) use doors::check_users;
pub use doors::{AuthConfig, BearerToken, Listener, ListenerTls, Listeners, Scope};
use lifecycle::check_stages;
pub(crate) use lifecycle::check_stages_within;
pub use lifecycle::{DownsamplingConfig, RetentionRuleConfig, Selector};
pub use limits::LimitsConfig;
pub use log_retention::{LogRetentionRuleConfig, StreamSelector};
pub use log_sockets::{ForwardAddress, ForwardDoor, GelfDoor, SocketProtocol, SyslogDoor, SyslogFormat, Timezone};
pub use logs::{
    LogFileEncoding, LogFileFormat, LogFileStart, LogFilesConfig, LogPipelineConfig, LogsConfig, PipelineStages,
};
pub(crate) use promtail::PromtailFile;
pub use sampling::RemoteSamplingConfig;
pub use span_sockets::JaegerUdpDoor;
pub use tail_sampling::{SampledAttributeConfig, SamplingDecision, SamplingPolicyConfig, TailSamplingConfig};
pub use traces::{DurationHistograms, ServiceGraphConfig, SpanMetricsConfig, TracesConfig};

use crate::byte_size::ByteSize;
use crate::decode::{Sink, choice, section};
use crate::duration::PromDuration;
use crate::values::Limit;
use crate::yaml::Node;

section! {
    /// How long data is kept. Whole partitions (a UTC day) are removed; `unlimited` keeps all.
    pub struct RetentionConfig {
        /// Metrics. Default 15d. `storage.tsdb.retention.time`, when given, goes before it.
        pub metrics: Limit<PromDuration> = Limit::At(PromDuration::from_days(15)),
        /// Bytes of metrics on disk above which the oldest days are removed, whatever the rules say; what is not yet
        /// written out is not counted. Default unlimited. `storage.tsdb.retention.size`, when given, goes before it.
        pub metrics_bytes: Limit<ByteSize> = Limit::Unlimited,
        /// Series that are kept for another time; of several rules that select a series the first one counts.
        /// Default none.
        pub metrics_rules: Vec<RetentionRuleConfig> = Vec::new(),
        /// Logs. Default 30d.
        pub logs: Limit<PromDuration> = Limit::At(PromDuration::from_days(30)),
        /// Bytes of logs on disk above which the oldest days are removed, whatever the rules say; the newest day stays.
        /// Default unlimited.
        pub logs_bytes: Limit<ByteSize> = Limit::Unlimited,
        /// Streams of logs that are kept for another time; of several rules that select a stream the first one counts.
        /// Default none.
        pub logs_rules: Vec<LogRetentionRuleConfig> = Vec::new(),
        /// Traces. Default 7d.
        pub traces: Limit<PromDuration> = Limit::At(PromDuration::from_days(7)),
    }
}

section! {
    /// The journal: what is acknowledged is there.
    pub struct JournalConfig {
        /// Size at which a segment file is closed; a start holds one of them in memory. Default 16MB, at least 1MB.
        pub segment_bytes: ByteSize = ByteSize::mib(16),
        /// Longest time that records wait to share one sync; 0s syncs as soon as the disk is free. Default 0s, at
        /// most 1s.
        pub sync_interval: PromDuration = PromDuration::ZERO,
    }
    check JournalConfig::check
}

impl JournalConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let pos = node.key_pos("segment_bytes");
        sink.require(self.segment_bytes >= ByteSize::mib(1), pos, "journal.segment_bytes must be at least 1MB");
        let pos = node.key_pos("sync_interval");
        sink.require(self.sync_interval.as_ms() <= 1_000, pos, "journal.sync_interval must be at most 1s");
    }
}

section! {
    /// When data in memory is written out as parts.
    pub struct MemtableConfig {
        /// Age at which a memtable is written out. Default 10m, at least 1s.
        pub flush_interval: PromDuration = PromDuration::from_secs(600),
        /// Size at which a memtable is written out before its age; for logs and for traces half of it. Writes of these
        /// wait when three times so much is not written out yet. Default 256MB, at least 1MB.
        pub flush_bytes: ByteSize = ByteSize::mib(256),
    }
    check MemtableConfig::check
}

impl MemtableConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let pos = node.key_pos("flush_interval");
        sink.require(self.flush_interval.as_ms() >= 1_000, pos, "memtable.flush_interval must be at least 1s");
        let pos = node.key_pos("flush_bytes");
        sink.require(self.flush_bytes >= ByteSize::mib(1), pos, "memtable.flush_bytes must be at least 1MB");
    }
}

section! {
    /// Where the parts of past days of metrics and logs go; traces stay. Default none: all data stays in `data_dir`.
    /// Credentials of S3 come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`).
    pub struct ObjectStoreConfig {
        /// The place, for one data directory alone: `s3://bucket/prefix` or `file:///dir`. Default empty: none.
        pub url: String = String::new(),
        /// Time from the end of a day to the move of its parts. Default 7d.
        pub after: PromDuration = PromDuration::from_days(7),
        /// Bytes on the local disk for parts of metrics that queries fetch back, and as many for those of logs. Default
        /// 10GB, at least 1MB.
        pub cache_bytes: ByteSize = ByteSize::mib(10 << 10),
        /// Longest time without a byte in a request that reads, and so of a query's wait for a store that hangs. Default 10s, at least 100ms.
        pub timeout: PromDuration = PromDuration::from_secs(10),
    }
    check ObjectStoreConfig::check
}

impl ObjectStoreConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let is_place = self.url.is_empty() || self.url.starts_with("s3://") || self.url.starts_with("file:///");
        let message = "object_store.url must begin with s3:// or file:///";
        sink.require(is_place, node.key_pos("url"), message);
        let message = "object_store.url must be s3://bucket or s3://bucket/prefix; the prefix has letters, digits, '.', '_' \
                       and '-', and no part of it is empty or begins with '.'";
        sink.require(self.url.strip_prefix("s3://").is_none_or(is_bucket), node.key_pos("url"), message);
        sink.require(
            self.url != "file:///",
            node.key_pos("url"),
            "object_store.url must name a folder behind file:///",
        );
        let pos = node.key_pos("timeout");
        sink.require(self.timeout.as_ms() >= 100, pos, "object_store.timeout must be at least 100ms");
        let pos = node.key_pos("cache_bytes");
        sink.require(self.cache_bytes >= ByteSize::mib(1), pos, "object_store.cache_bytes must be at least 1MB");
    }
}

/// A bucket and perhaps a prefix, as the object store takes them.
fn is_bucket(place: &str) -> bool {
    let place = place.trim_end_matches('/');
    let (bucket, prefix) = place.split_once('/').map_or((place, None), |(bucket, prefix)| (bucket, Some(prefix)));
    let is_word = |word: &str| {
        !word.is_empty()
            && !word.starts_with('.')
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    !bucket.is_empty() && prefix.is_none_or(|prefix| prefix.split('/').all(is_word))
}

choice! {
    /// From which severity on the server's own log is written.
    pub enum LogLevel: "log level" {
        /// Nothing less than everything.
        Trace = "trace",
        /// Details.
        Debug = "debug",
        /// What happens.
        Info = "info",
        /// What was not expected.
        Warn = "warn",
        /// What needs a person.
        Error = "error",
    }
}

choice! {
    /// How lines of the server's own log look on standard error.
    pub enum LogFormat: "log format" {
        /// `key=value` text.
        Text = "text",
        /// A JSON object a line.
        Json = "json",
    }
}

section! {
    /// What the server stores about itself.
    pub struct SelfTelemetryConfig {
        /// Store own metrics, logs and traces. Default true.
        pub enabled: bool = true,
        /// Time between scrapes of itself. Default 15s, at least 1s.
        pub scrape_interval: PromDuration = PromDuration::from_secs(15),
        /// From which severity on logs are written and stored. Default `info`.
        pub log_level: LogLevel = LogLevel::Info,
        /// Form of log lines on standard error. Default `text`.
        pub log_format: LogFormat = LogFormat::Text,
        /// Store own traces. Default true.
        pub traces: bool = true,
    }
    check SelfTelemetryConfig::check
}

impl SelfTelemetryConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let pos = node.key_pos("scrape_interval");
        sink.require(self.scrape_interval.as_ms() >= 1_000, pos, "self_telemetry.scrape_interval must be at least 1s");
    }
}

section! {
    /// Settings of Trefoil itself.
    pub struct TrefoilConfig {
        /// Directory of all data. Default `data` in the working directory; a relative path in a file is relative to
        /// the file.
        pub data_dir: Option<PathBuf> = None,
        /// URL under which users reach the server, for links in alerts; its path is the prefix of all routes.
        /// Default empty: `http://` and the host name and port.
        pub external_url: String = String::new(),
        /// Allow `POST /-/reload` and `POST /-/quit`. Default false.
        pub enable_lifecycle: bool = false,
        /// Allow deletion and snapshots over HTTP (`/api/v1/admin/tsdb/*`). Default false.
        pub enable_admin_api: bool = false,
        /// Origins whose pages may use Prometheus' API and push OTLP from a browser (CORS): a regular expression
        /// that matches the whole origin, for example `https://.*\.example\.org`. Default empty: none.
        pub cors_origin: String = String::new(),
        /// Addresses to listen on.
        pub listeners: Listeners = Listeners::default(),
        /// Where syslog messages come in. Default nowhere.
        pub syslog: Vec<SyslogDoor> = Vec::new(),
        /// Where Fluentd's forward protocol is spoken. Default nowhere.
        pub fluent_forward: Vec<ForwardDoor> = Vec::new(),
        /// Where GELF messages come in. Default nowhere.
        pub gelf: Vec<GelfDoor> = Vec::new(),
        /// Where Jaeger's clients send spans over UDP. Default nowhere.
        pub jaeger_udp: Vec<JaegerUdpDoor> = Vec::new(),
        /// Which traces Jaeger's clients are told to sample.
        pub remote_sampling: RemoteSamplingConfig = RemoteSamplingConfig::default(),
        /// Who may come in.
        pub auth: AuthConfig = AuthConfig::default(),
        /// Prometheus' web configuration file: TLS and users for all listeners. Default none.
        pub web_config_file: Option<PathBuf> = None,
        /// Listen beyond loopback without authentication. Default false.
        pub insecure_allow_anonymous: bool = false,
        /// Limits.
        pub limits: LimitsConfig = LimitsConfig::default(),
        /// How far back an instant selector of PromQL looks for the last sample. Default 5m, at least 1ms.
        pub query_lookback: PromDuration = PromDuration::from_secs(300),
        /// How long data is kept.
        pub retention: RetentionConfig = RetentionConfig::default(),
        /// Which metrics are downsampled, from which age on. The first selector that selects a series counts; entries
        /// with the same selector are stages, of which the coarsest that is due is used. Default none.
        pub downsampling: Vec<DownsamplingConfig> = Vec::new(),
        /// Of the samples of a series in each interval of this length the last is left, for pairs of scrapers that
        /// write the same series. 0s: all are left. Default 0s, at most 1d.
        pub dedup_interval: PromDuration = PromDuration::ZERO,
        /// The journal.
        pub journal: JournalConfig = JournalConfig::default(),
        /// Memtables.
        pub memtable: MemtableConfig = MemtableConfig::default(),
        /// Where the parts of past days of metrics and logs go.
        pub object_store: ObjectStoreConfig = ObjectStoreConfig::default(),
        /// Log files that are read, and pipelines.
        pub logs: LogsConfig = LogsConfig::default(),
        /// What is derived from spans, and which traces are kept.
        pub traces: TracesConfig = TracesConfig::default(),
        /// What the server stores about itself.
        pub self_telemetry: SelfTelemetryConfig = SelfTelemetryConfig::default(),
        /// The built-in Alertmanager. Default none: alerts go to `alerting.alertmanagers` only.
        pub alertmanager: Option<InlineAlertmanager> = None,
    }
    check TrefoilConfig::check
}

impl TrefoilConfig {
    /// The directory of all data: `data_dir`, or `data` in the working directory.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.as_deref().unwrap_or(Path::new("data"))
    }

    fn check(&mut self, node: &Node, sink: &mut Sink) {
        if let Err(message) = check_external_url(&self.external_url) {
            sink.error(node.key_pos("external_url"), message);
        }
        let pos = node.key_pos("query_lookback");
        sink.require(self.query_lookback.as_ms() >= 1, pos, "query_lookback must be at least 1ms");
        check_stages(&self.downsampling, node.get("downsampling"), sink);
        let pos = node.key_pos("dedup_interval");
        sink.require(self.dedup_interval.as_ms() <= 86_400_000, pos, "dedup_interval must be at most 1d");
        if let Err(message) = check_cors_origin(&self.cors_origin) {
            sink.error(node.key_pos("cors_origin"), message);
        }
    }
}

/// A regular expression, or nothing.
pub(crate) fn check_cors_origin(text: &str) -> Result<(), String> {
    let compiled = trefoil_model::anchored(text);
    compiled.map(drop).map_err(|message| format!("CORS origin {text:?} is not a regular expression: {message}"))
}

/// A URL over HTTP with a host, or nothing.
pub(crate) fn check_external_url(url: &str) -> Result<(), String> {
    if url.is_empty() {
        return Ok(());
    }
    let parsed = crate::values::ConfigUrl::parse(url)?;
    if matches!(parsed.scheme(), "http" | "https") && !parsed.host().is_empty() {
        Ok(())
    } else {
        Err(format!("external URL {url:?} must begin with http:// or https:// and name a host"))
    }
}

#[cfg(test)]
mod tests {
    use super::is_bucket;

    #[test]
    fn a_place_in_an_object_store_names_a_bucket() {
        for good in ["b", "b/", "b/p", "b/p/q.r_s-1/"] {
            assert!(is_bucket(good), "{good}");
        }
        for bad in ["", "/", "/p", "b//p", "b/.p", "b/p q"] {
            assert!(!is_bucket(bad), "{bad}");
        }
    }
}
