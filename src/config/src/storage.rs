//! `storage`, `tracing` and `otlp`.

use std::collections::BTreeMap;

use crate::byte_size::ByteSize;
use crate::decode::{Sink, choice, repeats, section};
use crate::duration::PromDuration;
use crate::http_client::{RESERVED_HEADERS, TlsConfig};
use crate::yaml::Node;

section! {
    /// How long and how much is kept of metrics.
    pub struct TsdbRetentionConfig {
        /// How long samples are kept; 0s: what `trefoil.retention.metrics` says. Default 0s.
        pub time: PromDuration = PromDuration::ZERO,
        /// How many bytes of samples are kept; 0: what `trefoil.retention.metrics_bytes` says. Default 0.
        pub size: ByteSize = ByteSize::ZERO,
        /// How many percent of the disk samples may take, instead of `size` and `trefoil.retention.metrics_bytes`; 0: no
        /// limit. Default 0.
        pub percentage: f64 = 0.0,
    }
    check TsdbRetentionConfig::check
}

impl TsdbRetentionConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let message = format!("'storage.tsdb.retention.size' must be greater than or equal to 0, got {}", self.size);
        sink.require(self.size.as_i64() >= 0, node.key_pos("size"), message);
        let message =
            format!("'storage.tsdb.retention.percentage' must be in the range [0, 100], got {}", self.percentage);
        sink.require((0.0..=100.0).contains(&self.percentage), node.key_pos("percentage"), message);
    }
}

section! {
    /// Encodings of chunks; Trefoil chooses its own.
    pub struct ChunkEncodingConfig {
        /// `xor`, `xor2` or empty. Default empty; has no effect.
        pub floats: String = String::new(),
    }
    check ChunkEncodingConfig::check
}

impl ChunkEncodingConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let message = format!(
            "'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be omitted entirely, got {:?}",
            self.floats
        );
        sink.require(matches!(self.floats.as_str(), "" | "xor" | "xor2"), node.key_pos("floats"), message);
    }
}

section! {
    /// The store of metrics.
    pub struct TsdbConfig {
        /// How far back a sample may be out of order. Default 0s; Trefoil takes late samples in any case.
        pub out_of_order_time_window: PromDuration = PromDuration::ZERO,
        /// Share of stale series in memory that starts a compaction, 0 to 1. Default 0; has no effect.
        pub stale_series_compaction_threshold: f64 = 0.0,
        /// Encodings.
        pub chunk_encoding: ChunkEncodingConfig = ChunkEncodingConfig::default(),
        /// Retention.
        pub retention: TsdbRetentionConfig = TsdbRetentionConfig::default(),
    }
}

section! {
    /// The store of exemplars.
    pub struct ExemplarsConfig {
        /// Most exemplars kept; 0 or less: none. Default 100000.
        pub max_exemplars: i64 = 100_000,
    }
}

section! {
    /// Stores.
    pub struct StorageConfig {
        /// Metrics.
        pub tsdb: TsdbConfig = TsdbConfig::default(),
        /// Exemplars.
        pub exemplars: ExemplarsConfig = ExemplarsConfig::default(),
    }
}

choice! {
    /// How spans are sent.
    pub enum TracingClient: "tracing client type" {
        /// OTLP over HTTP.
        Http = "http",
        /// OTLP over gRPC.
        Grpc = "grpc",
    }
}

section! {
    /// Where the server's own spans are sent to beside its own store; read and checked, not run.
    pub struct TracingConfig {
        /// `grpc` or `http`. Default `grpc`.
        pub client_type: TracingClient = TracingClient::Grpc,
        /// `host:port`. Required.
        pub endpoint: String = String::new(),
        /// Share of traces, 0 to 1. Default 0.
        pub sampling_fraction: f64 = 0.0,
        /// Without TLS. Default false.
        pub insecure: bool = false,
        /// TLS.
        pub tls_config: TlsConfig = TlsConfig::default(),
        /// Headers added to requests.
        pub headers: BTreeMap<String, String> = BTreeMap::new(),
        /// `gzip` or empty. Default empty.
        pub compression: String = String::new(),
        /// Longest time of a request; 0s: the client's own. Default 0s.
        pub timeout: PromDuration = PromDuration::ZERO,
    }
    check TracingConfig::check
}

impl TracingConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        for name in self.headers.keys() {
            let pos = node.get("headers").map_or(node.pos, |n| n.key_pos(name));
            match name.to_ascii_lowercase().as_str() {
                "authorization" => sink.error(pos, "custom authorization header configuration is not yet supported"),
                lower if RESERVED_HEADERS.contains(&lower) => {
                    sink.error(pos, format!("{name} is a reserved header. It must not be changed"));
                }
                _ => {}
            }
        }
        sink.require(!self.endpoint.is_empty(), node.key_pos("endpoint"), "tracing endpoint must be set");
        let message = format!("invalid compression type {} provided, valid options: gzip", self.compression);
        sink.require(matches!(self.compression.as_str(), "" | "gzip"), node.key_pos("compression"), message);
    }
}

choice! {
    /// How OTLP names become names of metrics and labels.
    pub enum TranslationStrategy: "OTLP translation strategy" {
        /// Other characters become underscores; units and `_total` are added.
        UnderscoreEscapingWithSuffixes = "UnderscoreEscapingWithSuffixes",
        /// Other characters become underscores; nothing is added.
        UnderscoreEscapingWithoutSuffixes = "UnderscoreEscapingWithoutSuffixes",
        /// Names stay; units and `_total` are added.
        NoUtf8EscapingWithSuffixes = "NoUTF8EscapingWithSuffixes",
        /// Names stay.
        NoTranslation = "NoTranslation",
    }
}

section! {
    /// How OTLP metrics are taken in.
    pub struct OtlpConfig {
        /// All resource attributes become labels. Default false.
        pub promote_all_resource_attributes: bool = false,
        /// Resource attributes that become labels; trimmed, unique, not empty. Default none.
        pub promote_resource_attributes: Vec<String> = Vec::new(),
        /// Resource attributes that do not, with `promote_all_resource_attributes`. Default none.
        pub ignore_resource_attributes: Vec<String> = Vec::new(),
        /// Names. Default `UnderscoreEscapingWithSuffixes`.
        pub translation_strategy: TranslationStrategy = TranslationStrategy::UnderscoreEscapingWithSuffixes,
        /// Keep `service.name`, `service.namespace` and `service.instance.id` in `target_info` too. Default false.
        pub keep_identifying_resource_attributes: bool = false,
        /// Turn explicit histograms into native ones with custom buckets. Default false.
        pub convert_histograms_to_nhcb: bool = false,
        /// Name, version, schema URL and attributes of the scope become labels. Default false.
        pub promote_scope_metadata: bool = false,
        /// Labels that begin with `_` get `key` in front. Default true.
        pub label_name_underscore_sanitization: bool = true,
        /// Several underscores in a row stay in label names. Default true.
        pub label_name_preserve_multiple_underscores: bool = true,
    }
    check OtlpConfig::check
}

impl OtlpConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        if self.promote_all_resource_attributes {
            sink.require(
                self.promote_resource_attributes.is_empty(),
                node.key_pos("promote_resource_attributes"),
                "'promote_all_resource_attributes' and 'promote_resource_attributes' cannot be configured simultaneously",
            );
            trim(&mut self.ignore_resource_attributes, "ignore_resource_attributes", "ignored", node, sink);
        } else {
            sink.require(
                self.ignore_resource_attributes.is_empty(),
                node.key_pos("ignore_resource_attributes"),
                "'ignore_resource_attributes' cannot be configured unless 'promote_all_resource_attributes' is true",
            );
            trim(&mut self.promote_resource_attributes, "promote_resource_attributes", "promoted", node, sink);
        }
    }

    /// True when names outside the classic characters may come out.
    pub fn keeps_utf8(&self) -> bool {
        matches!(
            self.translation_strategy,
            TranslationStrategy::NoUtf8EscapingWithSuffixes | TranslationStrategy::NoTranslation
        )
    }
}

/// Trims attribute names; reports empty and repeated ones.
fn trim(names: &mut [String], key: &str, what: &str, node: &Node, sink: &mut Sink) {
    let repeated = repeats(names.iter().map(|n| n.trim()));
    let list = node.get(key);
    for (i, slot) in names.iter_mut().enumerate() {
        let name = slot.trim().to_owned();
        let pos = list.and_then(|n| n.item(i)).map_or(node.pos, |n| n.pos);
        if name.is_empty() {
            sink.error(pos, format!("invalid '{key}': empty {what} OTel resource attribute"));
        } else if repeated[i] {
            sink.error(pos, format!("invalid '{key}': duplicated {what} OTel resource attribute {name:?}"));
        }
        *slot = name;
    }
}
