//! The log of the process: to standard error for people, and into the own store.

use anyhow::Context;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use trefoil_config::trefoil::{LogFormat, SelfTelemetryConfig};

use crate::self_telemetry::{Collector, SelfLayer};

/// Starts logging. `TREFOIL_LOG` overrides the level with a filter such as `info,trefoil_tsdb=debug`.
pub(crate) fn start(config: &SelfTelemetryConfig, collector: Option<Collector>) -> anyhow::Result<()> {
    let filter = || {
        let given = std::env::var("TREFOIL_LOG").unwrap_or_default();
        let level = config.log_level.as_str();
        // Libraries below us speak up only when something is wrong with them.
        let text = if given.is_empty() { format!("warn,trefoil={level},{}", ours(level)) } else { given };
        EnvFilter::try_new(&text).with_context(|| format!("log filter {text:?}"))
    };
    let writer = std::io::stderr;
    let text = match config.log_format {
        LogFormat::Json => tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer).boxed(),
        LogFormat::Text => {
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(writer).boxed()
        }
    };
    let own = collector.map(|c| SelfLayer::new(c, config.traces));
    tracing_subscriber::registry().with(filter()?).with(text).with(own).try_init().context("start the log")
}

fn ours(level: &str) -> String {
    const CRATES: [&str; 16] = [
        "runtime",
        "journal",
        "parts",
        "tsdb",
        "events",
        "promql",
        "logql",
        "scrape",
        "ingest",
        "rules",
        "alertmanager",
        "config",
        "client",
        "api",
        "demo",
        "template",
    ];
    CRATES.map(|c| format!("trefoil_{c}={level}")).join(",")
}
