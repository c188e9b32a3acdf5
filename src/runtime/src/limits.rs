//! Every limit of the server in one place, with its unit, default and counter.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{IntCounterVec, register_int_counter_vec};

static HITS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_limit_hits_total",
        "How often something was refused or cut because of a limit.",
        &["limit"]
    )
    .expect("unique metric name")
});

/// Name of a limit: the field of [`Limits`] that was hit.
pub type LimitName = &'static str;

/// Counts that a limit was hit. `limit` is the name of a field of [`Limits`], never text from outside.
pub fn hit(limit: LimitName) {
    HITS.with_label_values(&[limit]).inc();
}

/// Returns how often a limit was hit since the start.
pub fn hits(limit: LimitName) -> u64 {
    HITS.with_label_values(&[limit]).get()
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr;)*) => {
        /// The limits of the server. The default is what is written at each field.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits { $($(#[$doc])* pub $name: $type,)* }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// Returns every limit with its name and value as text, in the order of the fields.
            pub fn entries(&self) -> Vec<(LimitName, String)> {
                vec![$((stringify!($name), format!("{:?}", self.$name)),)*]
            }
        }
    };
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

limits! {
    /// Connections per listener. Default 4096; excess: accept pauses.
    connections_max: usize = 4096;
    /// Bytes of a request's headers, its URI included. Default 96 KiB; excess: 431.
    header_bytes_max: usize = 96 << 10;
    /// Headers of a request. Default 100; excess: 431.
    headers_max: usize = 100;
    /// Bytes of a request's URI. Default 60 KiB, since Grafana asks Loki by GET; excess: 414.
    uri_bytes_max: usize = 60 << 10;
    /// Time for a request's headers. Default 10 s; excess: close.
    header_timeout: Duration = Duration::from_secs(10);
    /// Time for a request's body. Default 30 s; excess: 408.
    body_timeout: Duration = Duration::from_secs(30);
    /// Time a connection may be idle. Default 60 s; excess: close.
    idle_timeout: Duration = Duration::from_secs(60);
    /// Streams of an HTTP/2 connection. Default 128; excess: refused stream.
    http2_streams_max: u32 = 128;

    /// Bytes of a body as sent (compressed). Default 16 MiB; excess: 413.
    body_bytes_max: u64 = 16 * MIB;
    /// Bytes of a body after decompression. Default 64 MiB; excess: 413.
    body_inflated_bytes_max: u64 = 64 * MIB;
    /// Inflated over compressed bytes, for what inflates to more than 1 MiB. Default 200; excess: 400.
    inflate_ratio_max: u64 = 200;
    /// Nesting of a JSON text. Default 64; excess: 400.
    json_depth_max: usize = 64;

    /// Series in a write request. Default 100,000; excess: 400.
    series_per_request_max: usize = 100_000;
    /// Samples in a write request. Default 500,000; excess: 400.
    samples_per_request_max: usize = 500_000;
    /// Labels of a series. Default 128; excess: that series is rejected.
    labels_per_series_max: usize = 128;
    /// Bytes of a label name. Default 1 KiB; excess: that series is rejected.
    label_name_bytes_max: usize = 1024;
    /// Bytes of a label value. Default 8 KiB; excess: that series is rejected.
    label_value_bytes_max: usize = 8192;
    /// Bytes of all labels of a series. Default 64 KiB; excess: that series is rejected.
    labels_bytes_max: usize = 64 << 10;
    /// How far a timestamp may lie in the future, in milliseconds. Default 10 min; excess: that item is rejected.
    future_ms_max: i64 = 600_000;
    /// Buckets of a native histogram. Default 160; excess: its resolution is reduced or it is rejected.
    histogram_buckets_max: usize = 160;
    /// Exemplars kept. Default 100,000; excess: the oldest go.
    exemplars_max: usize = 100_000;
    /// Bytes of a help text or unit. Default 1 KiB; excess: cut.
    metadata_bytes_max: usize = 1024;
    /// Metric families whose metadata is kept. Default 100,000; excess: dropped.
    metadata_families_max: usize = 100_000;
    /// Active series, those written since the last flush but one. Default `auto`: what the memory budget bears, 3,000,000
    /// at 8 GiB; excess: new series are rejected, those of the largest jobs first (see "The cardinality guard").
    series_active_max: u64 = 0;
    /// Active series with the same value of the label `job`. Default unlimited; excess: its new series are rejected.
    series_active_per_job_max: u64 = u64::MAX;
    /// New series a minute; what is not used is saved for 10 minutes. Default 300,000; excess: as `series_active_max`.
    series_new_per_minute_max: u64 = 300_000;
    /// As the one before, with the same value of the label `job`. Default unlimited; excess: its new series are rejected.
    series_new_per_job_per_minute_max: u64 = u64::MAX;

    /// Bytes of a log line. Default 1 MiB; excess: that record is rejected.
    log_line_bytes_max: usize = 1 << 20;
    /// Bytes of a log line that are kept. Default 256 KiB; excess: cut.
    log_line_cut_bytes: usize = 256 << 10;
    /// Attributes of a log record. Default 128; excess: cut.
    log_attributes_max: usize = 128;
    /// Bytes of all attributes of a log record. Default 64 KiB; excess: cut.
    log_attributes_bytes_max: usize = 64 << 10;
    /// Requests, document ids and journal entries, each, that are remembered for 10 minutes so that what is sent again is
    /// not stored twice; 0: none. Default 100,000; excess: the oldest are forgotten.
    sent_again_max: usize = 100_000;
    /// Nesting of an attribute value. Default 16; excess: cut.
    attribute_depth_max: usize = 16;
    /// Bytes of log records from sockets that wait to be written. Default 64 MiB; excess: TCP senders wait, datagrams are dropped.
    log_queue_bytes_max: usize = 64 << 20;
    /// Time a connection of syslog, the forward protocol or GELF may be idle. Default 1 h; excess: close.
    log_connection_idle_timeout: Duration = Duration::from_secs(3600);
    /// GELF messages of a listener of which chunks are missing. Default 1000; excess: the oldest is dropped.
    gelf_open_messages_max: usize = 1000;
    /// Bytes of their chunks. Default 16 MiB; excess: the oldest is dropped.
    gelf_open_bytes_max: usize = 16 << 20;

    /// Log files that are followed. Default 10,000; excess: the rest is not read.
    tail_files_max: usize = 10_000;
    /// Log files that are open at once. Default 1024; excess: quiet ones are closed and opened again.
    tail_open_files_max: usize = 1024;

    /// Bytes of a span. Default 256 KiB; excess: that span is rejected.
    span_bytes_max: usize = 256 << 10;
    /// Attributes of a span. Default 128; excess: cut.
    span_attributes_max: usize = 128;
    /// Bytes of a span's attribute value. Default 2 KiB; excess: cut.
    span_attribute_value_bytes_max: usize = 2048;
    /// Events of a span. Default 128; excess: cut.
    span_events_max: usize = 128;
    /// Links of a span. Default 128; excess: cut.
    span_links_max: usize = 128;
    /// Spans of a trace that are answered. Default 100,000; excess: cut.
    spans_per_trace_max: usize = 100_000;
    /// Bytes of spans from sockets that wait to be written. Default 64 MiB; excess: datagrams are dropped.
    span_queue_bytes_max: usize = 64 << 20;
    /// Series of span metrics (label sets, not counting buckets). Default 5000; excess: counted under
    /// `metric_overflow="true"` by service, kind and status.
    span_metrics_series_max: usize = 5000;
    /// Edges of the graph of services. Default 2000; excess: counted in one with `metric_overflow="true"`.
    service_graph_edges_max: usize = 2000;
    /// Spans that wait for the other side of their edge. Default 100,000; excess: the oldest wait no longer.
    service_graph_spans_max: usize = 100_000;
    /// Spans that are remembered so that one that is sent again is not counted again. Default 500,000; excess: the oldest
    /// are forgotten.
    spans_remembered_max: usize = 500_000;

    /// Bytes of a scraped page after decompression. Default 128 MiB; excess: the scrape fails.
    scrape_body_bytes_max: u64 = 128 * MIB;
    /// Samples of a scraped page. Default 1,000,000; excess: the scrape fails.
    scrape_samples_max: usize = 1_000_000;
    /// Scrapes at once. Default 256; excess: they wait.
    scrape_concurrency_max: usize = 256;
    /// Scrape targets. Default 10,000; excess: the rest is dropped with a warning.
    scrape_targets_max: usize = 10_000;
    /// Redirects that a scrape follows. Default 10; excess: the scrape fails.
    scrape_redirects_max: usize = 10;

    /// Bytes of a query's text. Default 128 KiB, as Loki's; excess: 400.
    query_bytes_max: usize = 128 << 10;
    /// Time of a query; a client may ask for less. Default 60 s; excess: 504.
    query_timeout: Duration = Duration::from_secs(60);
    /// Queries at once. Default twice the cores, at least 8; excess: they wait.
    query_concurrency: usize = (2 * cores()).max(8);
    /// Queries that wait. Default 100; excess: 503.
    query_queue_max: usize = 100;
    /// How long a query waits. Default 60 s, as `query_timeout`; excess: 503.
    query_queue_wait: Duration = Duration::from_secs(60);
    /// Samples that a query holds at once. Default 50,000,000; excess: 422.
    query_samples_max: u64 = 50_000_000;
    /// Series that a query selects. Default 200,000; excess: 422.
    query_series_max: u64 = 200_000;
    /// Points per series of a range query. Default 11,000; excess: 400.
    query_points_per_series_max: u64 = 11_000;
    /// Bytes that a query holds: series, samples, intermediate results and its answer. Default 256 MiB; excess: 422.
    query_memory_bytes_max: u64 = 256 * MIB;
    /// Bytes of kept results of range queries. Default 32 MiB; excess: what was asked longest ago goes.
    query_cache_bytes_max: u64 = 32 * MIB;
    /// Log bytes that a query scans. Default 100 GiB; excess: 422.
    query_scan_bytes_max: u64 = 100 * GIB;
    /// Log entries of an answer. Default 5000; excess: 400.
    log_entries_max: usize = 5000;
    /// Lines of an export of logs. Default 100,000,000; excess: the transfer breaks off.
    log_export_lines_max: usize = 100_000_000;
    /// Label names or values of an answer. Default 100,000; excess: cut, with a warning.
    label_values_max: usize = 100_000;
    /// Series of a series answer. Default 30,000; excess: cut, with a warning.
    series_api_max: usize = 30_000;
    /// Bytes of an answer. Default 64 MiB; excess: 422.
    response_bytes_max: u64 = 64 * MIB;
    /// Live tails at once. Default 10; excess: 503.
    tails_max: usize = 10;

    /// Series or alerts of a rule. Default 10,000; excess: the rule fails.
    rule_series_max: usize = 10_000;
    /// Alerts that wait to be sent. Default 10,000; excess: the oldest go.
    notification_queue_max: usize = 10_000;

    /// Free bytes below which writes are refused. Default 64 MiB; excess: 503.
    disk_free_floor_bytes: u64 = 64 * MIB;
    /// Bytes of a form or an administrative body. Default 10 MiB, as Prometheus'; excess: 413.
    admin_body_bytes_max: u64 = 10 * MIB;
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_every_field_once() {
        let entries = Limits::default().entries();
        assert!(entries.contains(&("body_bytes_max", "16777216".to_owned())));
        let mut names: Vec<_> = entries.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), entries.len());
    }

    #[test]
    fn hits_count_by_name() {
        let before = hits("tails_max");
        hit("tails_max");
        assert_eq!(hits("tails_max"), before + 1);
    }
}
