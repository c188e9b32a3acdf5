//! The server's own metrics, logs and traces, written into its own store through an internal door.
//!
//! Logs and spans are collected by a `tracing` layer into a bounded queue; a task writes them. Nothing that happens
//! while own telemetry is written is collected again, and rates are bounded, so that it stays a small part of what
//! comes in. Metrics are read from the registry at the interval of a scrape and go through the same reader as a
//! scraped page.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{Encoder, TextEncoder};
use trefoil_model::{
    AttributeValue, Attributes, EventWriter, Labels, LogBatch, LogGroup, LogRecord, MetricWriter, Resource, Scope,
    Span, SpanGroup, TenantId, TraceBatch,
};
use trefoil_runtime::{Limits, SharedClock, Stop, TaskResult};
use trefoil_scrape::TextFormat;
use trefoil_scrape::page::{PageReader, PageRules};

mod layer;

pub(crate) use layer::SelfLayer;

tokio::task_local! {
    /// Set while own telemetry is written.
    static QUIET: ();
}

/// Records waiting; more are dropped and counted.
const QUEUE_MAX: usize = 4096;
/// Own records may be this share of what others send in (just below one in a hundred) ...
const SHARE: f64 = 0.009;
/// ... or so many a second if that is more, with a burst, so that an idle server shows something of itself.
const LOGS: Rate = Rate { per_second: 2.0, burst: 200.0 };
/// The same for spans.
const SPANS: Rate = Rate { per_second: 0.2, burst: 40.0 };
/// The same for spans that failed or took more than a second, which come on top.
const NOTABLE_SPANS: Rate = Rate { per_second: 0.2, burst: 20.0 };
const WRITE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    burst: f64,
}

/// Tokens that come with time and with what others send.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    tokens: f64,
    last: Duration,
}

impl Bucket {
    /// With all of its burst: the first records of a start come at once.
    fn full(rate: Rate) -> Self {
        Self { rate, tokens: rate.burst, last: Duration::ZERO }
    }

    fn credit(&mut self, items: u64) {
        self.tokens = (self.tokens + items as f64 * SHARE).min(self.rate.burst);
    }

    fn take(&mut self, now: Duration) -> bool {
        let refill = now.saturating_sub(self.last).as_secs_f64() * self.rate.per_second;
        self.tokens = (self.tokens + refill).min(self.rate.burst);
        self.last = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[derive(Debug)]
struct Queues {
    logs: VecDeque<LogRecord>,
    spans: VecDeque<Span>,
    log_rate: Bucket,
    span_rate: Bucket,
    notable_rate: Bucket,
}

/// Where the layer puts what it collects.
#[derive(Clone)]
pub(crate) struct Collector {
    clock: SharedClock,
    queues: Arc<Mutex<Queues>>,
}

impl Collector {
    /// An empty collector.
    pub(crate) fn new(clock: SharedClock) -> Self {
        let queues = Queues {
            logs: VecDeque::new(),
            spans: VecDeque::new(),
            log_rate: Bucket::full(LOGS),
            span_rate: Bucket::full(SPANS),
            notable_rate: Bucket::full(NOTABLE_SPANS),
        };
        Self { clock, queues: Arc::new(Mutex::new(queues)) }
    }

    fn is_quiet() -> bool {
        QUIET.try_with(|()| ()).is_ok()
    }

    /// Notes that others sent in so many records, of which own telemetry may be a share.
    pub(crate) fn credit(&self, logs: u64, spans: u64) {
        let mut q = self.queues.lock();
        q.log_rate.credit(logs);
        q.span_rate.credit(spans);
    }

    fn push_log(&self, record: LogRecord) {
        let now = self.clock.monotonic();
        let mut q = self.queues.lock();
        if q.logs.len() < QUEUE_MAX && q.log_rate.take(now) {
            q.logs.push_back(record);
        }
    }

    fn push_span(&self, span: Span) {
        let now = self.clock.monotonic();
        let notable = span.status_code == trefoil_model::StatusCode::Error || span.duration_ns() > 1_000_000_000;
        let mut q = self.queues.lock();
        if q.spans.len() < QUEUE_MAX && (q.span_rate.take(now) || notable && q.notable_rate.take(now)) {
            q.spans.push_back(span);
        }
    }

    fn take(&self) -> (Vec<LogRecord>, Vec<Span>) {
        let mut q = self.queues.lock();
        (q.logs.drain(..).collect(), q.spans.drain(..).collect())
    }

    /// Puts back what could not be written, as far as there is room.
    fn put_back(&self, logs: Vec<LogRecord>, spans: Vec<Span>) {
        let mut q = self.queues.lock();
        for log in logs.into_iter().rev() {
            if q.logs.len() < QUEUE_MAX {
                q.logs.push_front(log);
            }
        }
        for span in spans.into_iter().rev() {
            if q.spans.len() < QUEUE_MAX {
                q.spans.push_front(span);
            }
        }
    }
}

/// Who we are, on every record.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Address of the HTTP listener, the label `instance`.
    pub instance: String,
}

impl Identity {
    fn stream(&self) -> Labels {
        Labels::from_pairs([("service.name", "trefoil"), ("service.instance.id", self.instance.as_str())])
    }

    fn resource(&self) -> Resource {
        let pairs = [
            ("service.name", "trefoil"),
            ("service.instance.id", self.instance.as_str()),
            ("service.version", env!("CARGO_PKG_VERSION")),
        ];
        let attributes: Attributes =
            pairs.into_iter().map(|(k, v)| (k.to_owned(), AttributeValue::String(v.to_owned()))).collect();
        Resource { attributes, schema_url: String::new() }
    }
}

/// Writes logs and spans as they come, until told to stop.
pub(crate) async fn write_events(
    collector: Collector,
    events: Arc<dyn EventWriter>,
    identity: Identity,
    stop: Stop,
) -> TaskResult {
    loop {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            () = collector.clock.sleep(WRITE_EVERY) => false,
        };
        QUIET.scope((), write_once(&collector, &*events, &identity)).await;
        if stopping {
            return Ok(());
        }
    }
}

async fn write_once(collector: &Collector, events: &dyn EventWriter, identity: &Identity) {
    let (logs, spans) = collector.take();
    if !logs.is_empty() {
        let shared = vec![("service.version".to_owned(), AttributeValue::String(env!("CARGO_PKG_VERSION").to_owned()))];
        let group = LogGroup { stream: identity.stream(), shared: Arc::new(shared), records: logs.clone() };
        if events.write_logs(LogBatch { tenant: TenantId(0), groups: vec![group] }).await.is_err() {
            collector.put_back(logs, Vec::new());
        }
    }
    if !spans.is_empty() {
        let group = SpanGroup {
            resource: Arc::new(identity.resource()),
            scope: Arc::new(Scope { name: "trefoil".to_owned(), ..Scope::default() }),
            spans: spans.clone(),
        };
        if events.write_spans(TraceBatch { tenant: TenantId(0), groups: vec![group] }).await.is_err() {
            collector.put_back(Vec::new(), spans);
        }
    }
}

/// Scrapes the registry of this process at the interval, until told to stop.
pub(crate) async fn write_metrics(
    metrics: Arc<dyn MetricWriter>,
    clock: SharedClock,
    identity: Identity,
    limits: Limits,
    interval: Duration,
    stop: Stop,
) -> TaskResult {
    let target = Labels::from_pairs([("job", "trefoil"), ("instance", identity.instance.as_str())]);
    let rules = PageRules {
        target: target.clone(),
        honor_labels: false,
        honor_timestamps: true,
        track_timestamps_staleness: false,
        metric_relabel: Arc::default(),
        sample_limit: limits.scrape_samples_max as u64,
        label_limit: 0,
        label_name_length_limit: 0,
        label_value_length_limit: 0,
    };
    let mut reader = PageReader::default();
    loop {
        let begun = clock.monotonic();
        let t_ms = clock.now_ms();
        let mut page = Vec::new();
        TextEncoder::new().encode(&prometheus::gather(), &mut page)?;
        let (mut batch, report) = reader.read(&page, TextFormat::Classic, t_ms, &rules);
        let up = report.is_ok();
        let report = report.unwrap_or_default();
        let took = clock.monotonic().saturating_sub(begun).as_secs_f64();
        for (name, value) in [
            ("up", f64::from(u8::from(up))),
            ("scrape_duration_seconds", took),
            ("scrape_samples_scraped", report.scraped as f64),
            ("scrape_samples_post_metric_relabeling", report.kept as f64),
            ("scrape_series_added", report.added as f64),
        ] {
            let mut labels = target.to_builder();
            labels.set(trefoil_model::labels::METRIC_NAME, name);
            batch.push_float(labels.build(), t_ms, value);
        }
        // A store that cannot take it says so in its own metrics and log.
        drop(QUIET.scope((), metrics.write(batch)).await);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = clock.sleep(interval) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_bounded_by_time_and_share() {
        let mut bucket = Bucket::full(Rate { per_second: 5.0, burst: 10.0 });
        let at = Duration::from_secs(10);
        let taken = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, at), 10);
        assert_eq!(taken(&mut bucket, at + Duration::from_secs(1)), 5);
        bucket.credit(500);
        assert_eq!(taken(&mut bucket, at + Duration::from_secs(1)), 4, "less than one in a hundred");
    }
}
