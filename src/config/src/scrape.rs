//! `scrape_configs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::byte_size::ByteSize;
use crate::decode::{Encode, Sink, section};
use crate::discovery::DiscoveryConfigs;
use crate::duration::PromDuration;
use crate::global::{GlobalConfig, ScrapeProtocol, check_protocols, warn_failure_log, warn_protobuf};
use crate::http_client::HttpClientConfig;
use crate::names::{EscapingScheme, ValidationScheme};
use crate::relabel::{self, RelabelConfig};
use crate::yaml::Node;

section! {
    /// The keys of a job without what it shares with others.
    ///
    /// Once loaded, whatever was not set has been taken from [`GlobalConfig`]: intervals are not zero, options
    /// documented as inherited are `Some`.
    pub struct ScrapeConfig {
        /// The value of the label `job`; not empty, unique in the configuration.
        pub job_name: String = String::new(),
        /// Keep labels of the target that clash with ours (else they become `exported_*`). Default false.
        pub honor_labels: bool = false,
        /// Take timestamps that the target gives. Default true.
        pub honor_timestamps: bool = true,
        /// Mark series with timestamps of their own stale when they vanish. Default false.
        pub track_timestamps_staleness: bool = false,
        /// Query parameters of the request. Default none.
        pub params: BTreeMap<String, Vec<String>> = BTreeMap::new(),
        /// Time between scrapes; zero inherits. Default `global.scrape_interval`.
        pub scrape_interval: PromDuration = PromDuration::ZERO,
        /// Longest time of a scrape, not above the interval; zero inherits. Default `global.scrape_timeout`.
        pub scrape_timeout: PromDuration = PromDuration::ZERO,
        /// Formats to ask for, most wanted first. Default: from `global` (`None` before).
        pub scrape_protocols: Option<Vec<ScrapeProtocol>> = None,
        /// Format to assume when the target's content type says none. Default none: such a scrape fails.
        pub fallback_scrape_protocol: Option<ScrapeProtocol> = None,
        /// Ask for native histograms. Default: from `global` (`None` before).
        pub scrape_native_histograms: Option<bool> = None,
        /// Take classic histograms beside native ones. Default: from `global` (`None` before).
        pub always_scrape_classic_histograms: Option<bool> = None,
        /// Turn classic histograms into native ones with custom buckets. Default: from `global` (`None` before).
        pub convert_classic_histograms_to_nhcb: Option<bool> = None,
        /// File that failed scrapes are logged to. Default: from `global` (`None` before).
        pub scrape_failure_log_file: Option<PathBuf> = None,
        /// Path of the request. Default `/metrics`.
        pub metrics_path: String = "/metrics".to_owned(),
        /// `http` or `https`. Default `http`.
        pub scheme: String = "http".to_owned(),
        /// Ask for a compressed answer. Default true.
        pub enable_compression: bool = true,
        /// Largest uncompressed answer; 0 inherits.
        pub body_size_limit: ByteSize = ByteSize::ZERO,
        /// Most samples of a scrape after relabelling; 0 inherits.
        pub sample_limit: u64 = 0,
        /// Most targets after relabelling; 0 inherits.
        pub target_limit: u64 = 0,
        /// Most labels of a sample; 0 inherits.
        pub label_limit: u64 = 0,
        /// Longest label name in bytes; 0 inherits.
        pub label_name_length_limit: u64 = 0,
        /// Longest label value in bytes; 0 inherits.
        pub label_value_length_limit: u64 = 0,
        /// Most buckets of a native histogram, above it buckets are merged; 0: no limit. Default 0.
        pub native_histogram_bucket_limit: u64 = 0,
        /// Smallest growth factor between buckets of a native histogram; 0: none. Default 0.
        pub native_histogram_min_bucket_factor: f64 = 0.0,
        /// Most dropped targets that are kept to be shown; 0 inherits.
        pub keep_dropped_targets: u64 = 0,
        /// Which names are valid. Default: from `global` (`None` before).
        pub metric_name_validation_scheme: Option<ValidationScheme> = None,
        /// How names outside the classic characters are asked for. Default: from `global` (`None` before).
        pub metric_name_escaping_scheme: Option<EscapingScheme> = None,
        /// Add three more series about each scrape. Default: from `global` (`None` before).
        pub extra_scrape_metrics: Option<bool> = None,
        /// Rules for targets, before the scrape.
        pub relabel_configs: Vec<RelabelConfig> = Vec::new(),
        /// Rules for samples, after the scrape.
        pub metric_relabel_configs: Vec<RelabelConfig> = Vec::new(),
    }
    flatten {
        /// Where targets come from; only `static_configs` is run.
        pub discovery: DiscoveryConfigs = DiscoveryConfigs::default(),
        /// How targets are reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check ScrapeConfig::check
}

impl ScrapeConfig {
    /// The job as YAML: what is in effect, secrets as `<secret>`.
    pub fn to_yaml(&self) -> String {
        Encode::encode(self).to_yaml()
    }

    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(!self.job_name.is_empty(), node.key_pos("job_name"), "job_name is empty");
        sink.require(
            matches!(self.scheme.as_str(), "http" | "https"),
            node.key_pos("scheme"),
            format!("unknown scheme {:?} (one of: http, https)", self.scheme),
        );
        let native = self.scrape_native_histograms == Some(true);
        warn_protobuf(self.scrape_protocols.as_deref(), self.fallback_scrape_protocol, native, node, sink);
        if self.scrape_failure_log_file.is_some() {
            warn_failure_log(node, sink);
        }
        if self.relabel_configs.is_empty() {
            self.discovery.check_static_targets(node, sink);
        }
        sink.require(
            self.body_size_limit.as_i64() >= 0,
            node.key_pos("body_size_limit"),
            "body_size_limit must not be negative",
        );
    }

    /// Takes what is not set from the global section.
    pub fn inherit(&mut self, global: &GlobalConfig) {
        fn or<T: PartialEq + Default + Copy>(own: &mut T, inherited: T) {
            if *own == T::default() {
                *own = inherited;
            }
        }
        or(&mut self.scrape_interval, global.scrape_interval);
        if self.scrape_timeout.is_zero() {
            self.scrape_timeout = global.scrape_timeout.min(self.scrape_interval);
        }
        or(&mut self.body_size_limit, global.body_size_limit);
        or(&mut self.sample_limit, global.sample_limit);
        or(&mut self.target_limit, global.target_limit);
        or(&mut self.label_limit, global.label_limit);
        or(&mut self.label_name_length_limit, global.label_name_length_limit);
        or(&mut self.label_value_length_limit, global.label_value_length_limit);
        or(&mut self.keep_dropped_targets, global.keep_dropped_targets);
        if self.scrape_failure_log_file.is_none() {
            self.scrape_failure_log_file.clone_from(&global.scrape_failure_log_file);
        }
        let native = *self.scrape_native_histograms.get_or_insert(global.scrape_native_histograms);
        self.extra_scrape_metrics.get_or_insert(global.extra_scrape_metrics);
        self.convert_classic_histograms_to_nhcb.get_or_insert(global.convert_classic_histograms_to_nhcb);
        self.always_scrape_classic_histograms.get_or_insert(global.always_scrape_classic_histograms);
        if self.scrape_protocols.is_none() {
            self.scrape_protocols = Some(match &global.scrape_protocols {
                Some(protocols) => protocols.clone(),
                None if native => ScrapeProtocol::DEFAULTS_NATIVE.to_vec(),
                None => ScrapeProtocol::DEFAULTS.to_vec(),
            });
        }
        let default_escaping = |scheme| match scheme {
            ValidationScheme::Legacy => EscapingScheme::Underscores,
            ValidationScheme::Utf8 => EscapingScheme::AllowUtf8,
        };
        if self.metric_name_escaping_scheme.is_none() {
            self.metric_name_escaping_scheme = Some(match self.metric_name_validation_scheme {
                Some(own) => default_escaping(own),
                None => global
                    .metric_name_escaping_scheme
                    .unwrap_or_else(|| default_escaping(global.metric_name_validation_scheme)),
            });
        }
        self.metric_name_validation_scheme.get_or_insert(global.metric_name_validation_scheme);
    }

    /// Inherits, then checks what depends on the global section.
    pub(crate) fn resolve(&mut self, global: &GlobalConfig, node: &Node, sink: &mut Sink) {
        self.inherit(global);
        let job = self.job_name.clone();
        let scope = format!(" for scrape config with job name {job:?}");
        let message = format!("scrape timeout greater than scrape interval{scope}");
        sink.require(self.scrape_timeout <= self.scrape_interval, node.key_pos("scrape_timeout"), message);
        if let Some(protocols) = &self.scrape_protocols {
            check_protocols(protocols, node, &scope, sink);
        }
        let scheme = self.metric_name_validation_scheme.unwrap_or(ValidationScheme::Utf8);
        sink.require(
            self.metric_name_escaping_scheme != Some(EscapingScheme::AllowUtf8) || scheme == ValidationScheme::Utf8,
            node.key_pos("metric_name_escaping_scheme"),
            format!("utf8 metric names requested but validation scheme is not set to UTF8{scope}"),
        );
        relabel::validate_all(&self.relabel_configs, node.get("relabel_configs"), scheme, sink);
        relabel::validate_all(&self.metric_relabel_configs, node.get("metric_relabel_configs"), scheme, sink);
    }
}
