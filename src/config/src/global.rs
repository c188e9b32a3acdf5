//! `global` and `runtime`.

use std::path::PathBuf;

use crate::byte_size::ByteSize;
use crate::decode::{Decode, Encode, Sink, scalar_text, section};
use crate::duration::PromDuration;
use crate::names::{EscapingScheme, ValidationScheme};
use crate::values::LabelMap;
use crate::yaml::{Node, Value};

/// An exposition format that a scrape may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScrapeProtocol {
    /// `application/openmetrics-text;version=0.0.1`
    OpenMetricsText0_0_1,
    /// `application/openmetrics-text;version=1.0.0`
    OpenMetricsText1_0_0,
    /// `application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited`
    PrometheusProto,
    /// `text/plain;version=0.0.4`
    PrometheusText0_0_4,
    /// `text/plain;version=1.0.0`
    PrometheusText1_0_0,
}

impl ScrapeProtocol {
    /// What is asked for by default, most wanted first.
    pub const DEFAULTS: [Self; 4] =
        [Self::OpenMetricsText1_0_0, Self::OpenMetricsText0_0_1, Self::PrometheusText1_0_0, Self::PrometheusText0_0_4];
    /// What is asked for by default when native histograms are scraped, most wanted first.
    pub const DEFAULTS_NATIVE: [Self; 5] = [
        Self::PrometheusProto,
        Self::OpenMetricsText1_0_0,
        Self::OpenMetricsText0_0_1,
        Self::PrometheusText1_0_0,
        Self::PrometheusText0_0_4,
    ];
    const ALL: [Self; 5] = [
        Self::OpenMetricsText0_0_1,
        Self::OpenMetricsText1_0_0,
        Self::PrometheusProto,
        Self::PrometheusText0_0_4,
        Self::PrometheusText1_0_0,
    ];

    /// The word for it in a file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            Self::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
            Self::PrometheusProto => "PrometheusProto",
            Self::PrometheusText0_0_4 => "PrometheusText0.0.4",
            Self::PrometheusText1_0_0 => "PrometheusText1.0.0",
        }
    }

    /// The media type with its parameters, as it stands in an `Accept` header.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            Self::OpenMetricsText1_0_0 => "application/openmetrics-text;version=1.0.0",
            Self::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            Self::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            Self::PrometheusText1_0_0 => "text/plain;version=1.0.0",
        }
    }
}

impl Decode for ScrapeProtocol {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let text = scalar_text(node, "a scrape protocol", sink)?;
        if text.is_empty() {
            return None;
        }
        let found = Self::ALL.into_iter().find(|p| p.as_str() == text);
        if found.is_none() {
            let supported = Self::ALL.map(Self::as_str).join(" ");
            let unknown = format!("unknown scrape protocol {text}, supported: [{supported}]");
            let scope = sink.scope.clone();
            let message = if sink.key() == "fallback_scrape_protocol" {
                format!("invalid fallback_scrape_protocol{scope}: {unknown}")
            } else {
                format!("scrape_protocols: {unknown}{scope}")
            };
            sink.error(node.pos, message);
        }
        found
    }
}

impl Encode for ScrapeProtocol {
    fn encode(&self) -> Value {
        Value::Str(self.as_str().to_owned())
    }
}

section! {
    /// Defaults for all jobs, and what is added on the way out.
    pub struct GlobalConfig {
        /// Time between scrapes of a target. Default 1m.
        pub scrape_interval: PromDuration = PromDuration::from_secs(60),
        /// Longest time of a scrape, not above the interval. Default 10s.
        pub scrape_timeout: PromDuration = PromDuration::from_secs(10),
        /// Formats to ask for, most wanted first. Default: depends on `scrape_native_histograms`.
        pub scrape_protocols: Option<Vec<ScrapeProtocol>> = None,
        /// Time between evaluations of rules. Default 1m.
        pub evaluation_interval: PromDuration = PromDuration::from_secs(60),
        /// How far in the past rules are evaluated. Default 0s.
        pub rule_query_offset: PromDuration = PromDuration::ZERO,
        /// File that queries are logged to. Default none.
        pub query_log_file: Option<PathBuf> = None,
        /// File that failed scrapes are logged to. Default none.
        pub scrape_failure_log_file: Option<PathBuf> = None,
        /// Labels added towards other systems; environment variables are expanded in the values. Default none.
        pub external_labels: LabelMap = LabelMap::default(),
        /// Largest uncompressed answer to a scrape; 0: no limit beside Trefoil's own. Default 0.
        pub body_size_limit: ByteSize = ByteSize::ZERO,
        /// Most samples of a scrape after relabelling; 0: no limit beside Trefoil's own. Default 0.
        pub sample_limit: u64 = 0,
        /// Most targets of a job; 0: no limit beside Trefoil's own. Default 0.
        pub target_limit: u64 = 0,
        /// Most labels of a sample; 0: no limit beside Trefoil's own. Default 0.
        pub label_limit: u64 = 0,
        /// Longest label name in bytes; 0: no limit beside Trefoil's own. Default 0.
        pub label_name_length_limit: u64 = 0,
        /// Longest label value in bytes; 0: no limit beside Trefoil's own. Default 0.
        pub label_value_length_limit: u64 = 0,
        /// Most dropped targets that are kept to be shown; 0: no limit. Default 0.
        pub keep_dropped_targets: u64 = 0,
        /// Which names are valid. Default utf8.
        pub metric_name_validation_scheme: ValidationScheme = ValidationScheme::Utf8,
        /// How names outside the classic characters are asked for. Default: goes with the validation scheme.
        pub metric_name_escaping_scheme: Option<EscapingScheme> = None,
        /// Ask for native histograms. Default false.
        pub scrape_native_histograms: bool = false,
        /// Turn classic histograms into native ones with custom buckets. Default false.
        pub convert_classic_histograms_to_nhcb: bool = false,
        /// Take a classic histogram even where a native one is exposed beside it. Default false.
        pub always_scrape_classic_histograms: bool = false,
        /// Add `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes`. Default false.
        pub extra_scrape_metrics: bool = false,
    }
    check GlobalConfig::check
}

impl GlobalConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let default = Self::default();
        // As in Prometheus 0 means the default, and the default timeout shrinks to the interval.
        if self.scrape_interval.is_zero() {
            self.scrape_interval = default.scrape_interval;
        }
        if self.evaluation_interval.is_zero() {
            self.evaluation_interval = default.evaluation_interval;
        }
        let timeout_given = node.get("scrape_timeout").is_some_and(|n| !n.is_null()) && !self.scrape_timeout.is_zero();
        if timeout_given {
            let message = "global scrape timeout greater than scrape interval";
            sink.require(self.scrape_timeout <= self.scrape_interval, node.key_pos("scrape_timeout"), message);
        } else {
            self.scrape_timeout = default.scrape_timeout.min(self.scrape_interval);
        }
        if let Some(protocols) = &self.scrape_protocols {
            check_protocols(protocols, node, " for global config", sink);
        }
        for (name, _) in self.external_labels.iter() {
            if !self.metric_name_validation_scheme.is_valid_label_name(name) {
                let pos = node.get("external_labels").map_or(node.pos, |n| n.key_pos(name));
                sink.error(pos, format!("{name:?} is not a valid label name"));
            }
        }
        warn_protobuf(self.scrape_protocols.as_deref(), None, self.scrape_native_histograms, node, sink);
        if self.scrape_failure_log_file.is_some() {
            warn_failure_log(node, sink);
        }
        sink.require(
            self.body_size_limit.as_i64() >= 0,
            node.key_pos("body_size_limit"),
            "body_size_limit must not be negative",
        );
    }
}

/// Warns of formats that are not read.
pub(crate) fn warn_protobuf(
    protocols: Option<&[ScrapeProtocol]>,
    fallback: Option<ScrapeProtocol>,
    native: bool,
    node: &Node,
    sink: &mut Sink,
) {
    let listed = protocols.is_some_and(|list| list.contains(&ScrapeProtocol::PrometheusProto));
    let fallback = fallback == Some(ScrapeProtocol::PrometheusProto);
    for (key, used) in
        [("scrape_protocols", listed), ("fallback_scrape_protocol", fallback), ("scrape_native_histograms", native)]
    {
        if used {
            sink.warn(node.key_pos(key), key, "the protobuf format, which native histograms need, is not scraped yet");
        }
    }
}

/// Warns that failed scrapes are not logged to a file.
pub(crate) fn warn_failure_log(node: &Node, sink: &mut Sink) {
    let key = "scrape_failure_log_file";
    sink.warn(node.key_pos(key), key, "failed scrapes are not logged to a file yet: see the server's own log");
}

/// Refuses an empty list and repeated protocols.
pub(crate) fn check_protocols(protocols: &[ScrapeProtocol], node: &Node, scope: &str, sink: &mut Sink) {
    let pos = node.key_pos("scrape_protocols");
    let written = node.get("scrape_protocols");
    let is_empty = |n: &Node| matches!(&n.kind, crate::yaml::Kind::Seq(items) if items.is_empty());
    if written.is_some_and(is_empty) {
        sink.error(pos, format!("scrape_protocols cannot be empty{scope}"));
    }
    let repeated = protocols.iter().enumerate().any(|(i, p)| protocols[..i].contains(p));
    if repeated {
        let list: Vec<_> = protocols.iter().map(|p| p.as_str()).collect();
        sink.error(pos, format!("duplicated protocol in scrape_protocols, got [{}]{scope}", list.join(" ")));
    }
}

section! {
    /// Settings of the Go runtime, accepted for compatibility; there is none here.
    pub struct RuntimeConfig {
        /// Target percentage of Go's garbage collector. Default none; has no effect.
        pub gogc: Option<i64> = None,
    }
}
