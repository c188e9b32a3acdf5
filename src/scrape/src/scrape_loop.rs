//! The life of one target: wait for its place in time, fetch, read, write, tell how it went.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tracing::{Instrument, debug, info_span, warn};
use trefoil_model::{Labels, MetricBatch, MetricWriter, WriteReport};
use trefoil_runtime::{SharedClock, Stop};

use crate::fetch::{FetchRules, fetch};
use crate::metrics;
use crate::page::{PageReader, PageReport, PageRules};
use crate::target::Target;
use trefoil_client::HttpClient;

/// How the last scrape of a target went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Not scraped yet.
    #[default]
    Unknown,
    /// Good.
    Up,
    /// Failed.
    Down,
}

impl Health {
    /// The word of the targets API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What the targets API shows of a target.
#[derive(Debug, Clone, Default)]
pub struct TargetStatus {
    /// Outcome of the last scrape.
    pub health: Health,
    /// Why it failed, "" when it did not.
    pub last_error: String,
    /// Unix milliseconds of the last scrape, 0 before the first.
    pub last_scrape_ms: i64,
    /// How long it took.
    pub last_duration: Duration,
}

/// Settings that all targets of a pool share.
#[derive(Debug)]
pub(crate) struct PoolRules {
    pub(crate) client: Result<HttpClient, String>,
    pub(crate) fetch: FetchRules,
    pub(crate) page: PageRules,
    pub(crate) extra_metrics: bool,
    pub(crate) samples_max: usize,
}

/// One target with its loop's state.
#[derive(Debug)]
pub(crate) struct ScrapeLoop {
    pub(crate) target: Target,
    pub(crate) rules: Arc<PoolRules>,
    pub(crate) status: Arc<Mutex<TargetStatus>>,
}

/// Targets that were taken away get their stale markers only after so many intervals, so that a reload which brings
/// the same series back under another pool does not end them.
const END_AFTER_INTERVALS: f64 = 2.1;
/// Scrape times that are off the grid by no more than this are put on it, so that times compress.
const GRID_TOLERANCE_MS: i64 = 2;

impl ScrapeLoop {
    /// Runs until `stop` (the process ends: no stale markers) or `removed` (the target is gone).
    pub(crate) async fn run(
        self,
        writer: Arc<dyn MetricWriter>,
        clock: SharedClock,
        permits: Arc<Semaphore>,
        stop: Stop,
        removed: Arc<tokio::sync::Notify>,
    ) {
        let mut reader = PageReader::default();
        let rules = PageRules { target: self.target.labels.clone(), ..self.rules.page.clone() };
        let mut last_ms = 0;
        loop {
            let now = clock.now_ms();
            // Not the place that was just used, even when the timer fired a little early.
            let next = self.target.next_scrape_ms(now.max(last_ms + 1));
            let wait = Duration::from_millis((next - now).max(0).unsigned_abs());
            tokio::select! {
                () = stop.cancelled() => return,
                () = removed.notified() => break,
                () = clock.sleep(wait) => {}
            }
            let Ok(_permit) = permits.acquire().await else { return };
            let off = clock.now_ms() - next;
            let tolerance = GRID_TOLERANCE_MS.min(self.target.interval.as_millis() as i64 / 100);
            let t_ms = if off.abs() <= tolerance { next } else { next + off };
            last_ms = next.max(t_ms);
            let span = info_span!("scrape", url = %self.target.url);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.scrape(&mut reader, &rules, &*writer, &clock, t_ms).instrument(span) => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep(self.target.interval.mul_f64(END_AFTER_INTERVALS)) => {}
        }
        let t_ms = last_ms + self.target.interval.as_millis() as i64;
        let mut batch = reader.end(t_ms);
        self.report_series(&mut batch, t_ms, None);
        // The failure is in the log.
        drop(write(&*writer, batch, &self.target).await);
    }

    async fn scrape(
        &self,
        reader: &mut PageReader,
        rules: &PageRules,
        writer: &dyn MetricWriter,
        clock: &SharedClock,
        t_ms: i64,
    ) {
        let begun = clock.monotonic();
        let fetched = match &self.rules.client {
            Ok(client) => {
                fetch(client, &self.target.url, &self.rules.fetch, self.target.timeout).await.map_err(|e| e.to_string())
            }
            Err(reason) => Err(reason.clone()),
        };
        let body_bytes = fetched.as_ref().map_or(-1.0, |(page, _)| page.len() as f64);
        let (mut batch, outcome) = match fetched {
            Ok((page, format)) => {
                let (batch, outcome) = reader.read(&page, format, t_ms, rules);
                (batch, outcome.map_err(|e| e.to_string()))
            }
            Err(error) => (reader.no_page(t_ms), Err(error)),
        };
        let report = reader.last_report();
        let outcome = match outcome {
            Ok(report) if report.scraped as usize > self.rules.samples_max => {
                batch = reader.no_page(t_ms);
                trefoil_runtime::limits::hit("scrape_samples_max");
                Err(format!("page has {} samples, limit {}", report.scraped, self.rules.samples_max))
            }
            other => other,
        };
        let duration = clock.monotonic().saturating_sub(begun);
        self.report_series(&mut batch, t_ms, Some((duration, outcome.is_ok(), report, body_bytes)));
        metrics::SCRAPES.with_label_values(&[if outcome.is_ok() { "ok" } else { "error" }]).inc();
        metrics::SCRAPE_SAMPLES.inc_by(outcome.as_ref().map_or(0, |r| r.kept - r.duplicates));
        let written = write(writer, batch, &self.target).await;
        let error = match (&outcome, written) {
            (Err(error), _) => {
                debug!(%error, "scrape failed");
                error.clone()
            }
            (Ok(_), Err(error)) => error,
            (Ok(_), Ok(())) => String::new(),
        };
        *self.status.lock() = TargetStatus {
            health: if error.is_empty() { Health::Up } else { Health::Down },
            last_error: error,
            last_scrape_ms: t_ms,
            last_duration: duration,
        };
    }

    /// `up` and its companions; `None` ends them.
    fn report_series(&self, batch: &mut MetricBatch, t_ms: i64, scrape: Option<(Duration, bool, PageReport, f64)>) {
        let ended = trefoil_model::STALE_NAN;
        let mut add = |name: &str, value: f64| {
            let mut labels = self.target.labels.to_builder();
            labels.set(trefoil_model::labels::METRIC_NAME, name);
            let labels: Labels = labels.build();
            batch.push_float(labels, t_ms, if scrape.is_some() { value } else { ended });
        };
        // A page that was refused counts up to its fault, as in the reference.
        let (duration, up, report, body_bytes) = scrape.unwrap_or_default();
        add("up", f64::from(u8::from(up)));
        add("scrape_duration_seconds", duration.as_secs_f64());
        add("scrape_samples_scraped", report.scraped as f64);
        add("scrape_samples_post_metric_relabeling", report.kept as f64);
        add("scrape_series_added", report.added as f64);
        if self.rules.extra_metrics {
            add("scrape_timeout_seconds", self.target.timeout.as_secs_f64());
            add("scrape_sample_limit", self.rules.page.sample_limit as f64);
            add("scrape_body_size_bytes", body_bytes);
        }
    }
}

async fn write(writer: &dyn MetricWriter, batch: MetricBatch, target: &Target) -> Result<(), String> {
    match writer.write(batch).await {
        Ok(WriteReport { rejected: 0, .. }) => Ok(()),
        Ok(report) => {
            metrics::SCRAPE_REJECTED.inc_by(report.rejected);
            warn!(scrape_url = %target.url, samples = report.rejected, reason = ?report.reasons.first(), "samples of a scrape rejected");
            Ok(())
        }
        Err(error) => {
            warn!(scrape_url = %target.url, %error, "scrape not stored");
            Err(format!("store scrape: {error}"))
        }
    }
}
