//! What came in, by protocol. Scrape loops and self-telemetry count into the same metrics.

use std::sync::LazyLock;

use prometheus::{IntCounterVec, register_int_counter_vec};

/// Label value of remote write.
pub const REMOTE_WRITE: &str = "remote_write";
/// Label value of OTLP over HTTP.
pub const OTLP_HTTP: &str = "otlp_http";
/// Label value of OTLP over gRPC.
pub const OTLP_GRPC: &str = "otlp_grpc";
/// Label value of Loki's push API.
pub const LOKI: &str = "loki";
/// Label value of syslog.
pub const SYSLOG: &str = "syslog";
/// Label value of Fluentd's forward protocol.
pub const FORWARD: &str = "fluent_forward";
/// Label value of GELF, over sockets of its own and over HTTP.
pub const GELF: &str = "gelf";
/// Label value of Elasticsearch's `_bulk` and its kin.
pub const ELASTICSEARCH: &str = "elasticsearch";
/// Label value of JSON lines.
pub const JSON_LINES: &str = "json_lines";
/// Label value of Splunk's HTTP Event Collector.
pub const SPLUNK_HEC: &str = "splunk_hec";
/// Label value of Datadog's log intake.
pub const DATADOG: &str = "datadog";
/// Label value of journals' uploads.
pub const JOURNALD: &str = "journald";
/// Label value of Zipkin's spans.
pub const ZIPKIN: &str = "zipkin";
/// Label value of Jaeger's spans in thrift over HTTP.
pub const JAEGER_HTTP: &str = "jaeger_http";
/// Label value of Jaeger's spans over gRPC.
pub const JAEGER_GRPC: &str = "jaeger_grpc";
/// Label value of Jaeger's spans in datagrams.
pub const JAEGER_UDP: &str = "jaeger_udp";
/// Label value of log files that this process reads.
pub const FILES: &str = "files";
/// Label value of scraping (counted by the scrape loops).
pub const SCRAPE: &str = "scrape";
/// Label value of the server's own telemetry.
pub const SELF: &str = "self";

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_ingest_requests_total",
        "Write requests by protocol and HTTP status code.",
        &["protocol", "code"]
    )
    .expect("unique metric name")
});
static SAMPLES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("trefoil_ingest_samples_total", "Samples stored, by protocol.", &["protocol"])
        .expect("unique metric name")
});
static LOG_RECORDS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("trefoil_ingest_log_records_total", "Log records stored, by protocol.", &["protocol"])
        .expect("unique metric name")
});
static SPANS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("trefoil_ingest_spans_total", "Spans stored, by protocol.", &["protocol"])
        .expect("unique metric name")
});
static REJECTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_ingest_rejected_total",
        "Samples, log records, spans and whole requests that were refused, by protocol and reason.",
        &["protocol", "reason"]
    )
    .expect("unique metric name")
});
static REPEATED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_ingest_repeated_total",
        "Log records that were not stored because they had been stored minutes ago, by protocol.",
        &["protocol"]
    )
    .expect("unique metric name")
});
static BYTES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_ingest_bytes_total",
        "Bytes of request bodies as received, by protocol.",
        &["protocol"]
    )
    .expect("unique metric name")
});

/// Counts one request answered with HTTP status `code`.
pub fn request(protocol: &'static str, code: u16) {
    REQUESTS.with_label_values(&[protocol, code_text(code)]).inc();
}

/// Counts stored samples.
pub fn samples(protocol: &'static str, n: u64) {
    SAMPLES.with_label_values(&[protocol]).inc_by(n);
}

/// Counts stored log records.
pub fn log_records(protocol: &'static str, n: u64) {
    LOG_RECORDS.with_label_values(&[protocol]).inc_by(n);
}

/// Counts stored spans.
pub fn spans(protocol: &'static str, n: u64) {
    SPANS.with_label_values(&[protocol]).inc_by(n);
}

/// Counts refused items, or 1 for a refused request. `reason` must come from a small fixed set.
pub fn rejected(protocol: &'static str, reason: &'static str, n: u64) {
    if n > 0 {
        REJECTED.with_label_values(&[protocol, reason]).inc_by(n);
    }
}

/// Counts log records that were sent again and not stored twice.
pub fn repeated(protocol: &'static str, n: u64) {
    if n > 0 {
        REPEATED.with_label_values(&[protocol]).inc_by(n);
    }
}

/// Counts bytes of a body as received.
pub fn bytes(protocol: &'static str, n: u64) {
    BYTES.with_label_values(&[protocol]).inc_by(n);
}

fn code_text(code: u16) -> &'static str {
    match code {
        200 => "200",
        202 => "202",
        204 => "204",
        400 => "400",
        413 => "413",
        415 => "415",
        429 => "429",
        503 => "503",
        500..=502 | 504..=599 => "5xx",
        401..=499 => "4xx",
        _ => "other",
    }
}
