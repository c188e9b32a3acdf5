//! The flags of Prometheus 2.42 (Debian's) and 3.14, with what `/api/v1/status/flags` of 3.14 says when none is given.

/// A flag of Prometheus.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReferenceFlag {
    /// Its name without the dashes.
    pub(crate) name: &'static str,
    /// Whether no value follows.
    pub(crate) is_switch: bool,
    /// What 3.14 shows when it is not given; `None`: a flag of 2.42 only.
    pub(crate) default: Option<&'static str>,
}

const fn switch(name: &'static str, default: Option<&'static str>) -> ReferenceFlag {
    ReferenceFlag { name, is_switch: true, default }
}

const fn value(name: &'static str, default: Option<&'static str>) -> ReferenceFlag {
    ReferenceFlag { name, is_switch: false, default }
}

/// All of them, by name. Those that `serve` does not know mean nothing here.
pub(crate) const REFERENCE_FLAGS: &[ReferenceFlag] = &[
    switch("agent", Some("false")),
    switch("alertmanager.drain-notification-queue-on-shutdown", Some("true")),
    value("alertmanager.notification-batch-size", Some("256")),
    value("alertmanager.notification-queue-capacity", Some("10000")),
    value("alertmanager.timeout", None),
    switch("auto-gomaxprocs", Some("true")),
    switch("auto-gomemlimit", Some("true")),
    value("auto-gomemlimit.ratio", Some("0.9")),
    switch("config.auto-reload", Some("false")),
    value("config.auto-reload-interval", Some("30s")),
    value("config.file", Some("prometheus.yml")),
    value("enable-feature", Some("")),
    value("log.format", Some("logfmt")),
    value("log.level", Some("info")),
    value("query.lookback-delta", Some("5m")),
    value("query.max-concurrency", Some("20")),
    value("query.max-samples", Some("50000000")),
    value("query.timeout", Some("2m")),
    value("rules.alert.for-grace-period", Some("10m")),
    value("rules.alert.for-outage-tolerance", Some("1h")),
    value("rules.alert.resend-delay", Some("1m")),
    value("rules.max-concurrent-evals", Some("4")),
    switch("scrape.adjust-timestamps", Some("true")),
    value("scrape.discovery-reload-interval", Some("5s")),
    value("scrape.timestamp-tolerance", Some("2ms")),
    value("storage.agent.checkpoint-batch-size", Some("1000")),
    switch("storage.agent.checkpoint-from-in-memory-series", Some("false")),
    switch("storage.agent.no-lockfile", Some("false")),
    value("storage.agent.path", Some("data-agent/")),
    value("storage.agent.retention.max-time", Some("4h")),
    value("storage.agent.retention.min-time", Some("5m")),
    switch("storage.agent.use-lockfile", None),
    switch("storage.agent.wal-compression", Some("true")),
    value("storage.agent.wal-compression-type", Some("snappy")),
    value("storage.agent.wal-segment-size", Some("0B")),
    value("storage.agent.wal-truncate-frequency", Some("0s")),
    value("storage.remote.flush-deadline", Some("1m")),
    value("storage.remote.read-concurrent-limit", Some("10")),
    value("storage.remote.read-max-bytes-in-frame", Some("1048576")),
    value("storage.remote.read-sample-limit", Some("50000000")),
    switch("storage.tsdb.allow-overlapping-blocks", None),
    switch("storage.tsdb.allow-overlapping-compaction", Some("true")),
    value("storage.tsdb.block-reload-interval", Some("1m")),
    value("storage.tsdb.delay-compact-file.path", Some("")),
    value("storage.tsdb.delayed-compaction.max-percent", Some("10")),
    value("storage.tsdb.head-chunks-write-queue-size", Some("0")),
    value("storage.tsdb.max-block-chunk-segment-size", Some("0B")),
    value("storage.tsdb.max-block-duration", Some("1d12h")),
    value("storage.tsdb.min-block-duration", Some("2h")),
    switch("storage.tsdb.no-lockfile", Some("false")),
    value("storage.tsdb.path", Some("data/")),
    value("storage.tsdb.retention", None),
    // Of later versions.
    value("storage.tsdb.retention.percentage", None),
    value("storage.tsdb.retention.size", Some("0B")),
    value("storage.tsdb.retention.time", Some("15d")),
    value("storage.tsdb.samples-per-chunk", Some("120")),
    switch("storage.tsdb.use-lockfile", None),
    switch("storage.tsdb.wal-compression", Some("true")),
    value("storage.tsdb.wal-compression-type", Some("snappy")),
    value("storage.tsdb.wal-segment-size", Some("0B")),
    value("web.config.file", Some("")),
    value("web.console.libraries", Some("console_libraries")),
    value("web.console.templates", Some("consoles")),
    value("web.cors.origin", Some(".*")),
    switch("web.enable-admin-api", Some("false")),
    switch("web.enable-lifecycle", Some("false")),
    switch("web.enable-otlp-receiver", Some("false")),
    switch("web.enable-remote-write-receiver", Some("false")),
    value("web.external-url", Some("")),
    value("web.listen-address", Some("0.0.0.0:9090")),
    value("web.local-assets", None),
    value("web.max-connections", Some("512")),
    value("web.max-notifications-subscribers", Some("16")),
    value("web.page-title", Some("Prometheus Time Series Collection and Processing Server")),
    value("web.read-timeout", Some("5m")),
    value(
        "web.remote-write-receiver.accepted-protobuf-messages",
        Some("prometheus.WriteRequest,io.prometheus.write.v2.Request"),
    ),
    value("web.route-prefix", Some("/")),
    value("web.search.max-limit", Some("10000")),
    value("web.user-assets", Some("")),
];
