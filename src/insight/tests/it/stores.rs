//! A metrics store and an event store on a simulated disk, with what counts spans between them.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use trefoil_events::{EventStore, EventStoreOptions};
use trefoil_insight::spans::{HistogramKind, ServiceGraphOptions, SpanInsight, SpanInsightOptions, SpanMetricsOptions};
use trefoil_model::metric::is_stale_nan;
use trefoil_model::{
    EventWriter as _, Labels, MatchOp, Matcher, MetricReader as _, SampleBuffer, SelectRequest, TenantId, TimeRange,
    TraceBatch, TraceSampler, Unlimited,
};
use trefoil_runtime::sim::SimDisk;
use trefoil_runtime::{Accountant, Limits, SimClock};
use trefoil_tsdb::{Tsdb, TsdbOptions};

use crate::brute::{Totals, bounds, series};
use crate::random_spans::EPOCH_NS;

/// What the tests count: spans wait long, and more of everything than there is.
pub(crate) fn options(histograms: HistogramKind) -> SpanInsightOptions {
    let (span_bounds, graph_bounds) = bounds();
    SpanInsightOptions {
        span_metrics: Some(SpanMetricsOptions {
            dimensions: vec!["cloud.region".to_owned()],
            histograms,
            buckets: span_bounds,
            series_max: 100_000,
            ..SpanMetricsOptions::default()
        }),
        service_graph: Some(ServiceGraphOptions {
            wait: Duration::from_secs(36_000),
            histograms,
            buckets: graph_bounds,
            edges_max: 100_000,
            spans_max: 10_000_000,
            ..ServiceGraphOptions::default()
        }),
        stale_after: Duration::from_secs(1_000_000),
        remembered_max: 10_000_000,
        ..SpanInsightOptions::default()
    }
}

pub(crate) struct Stores {
    pub(crate) metrics: Tsdb,
    pub(crate) events: EventStore,
    pub(crate) insight: Arc<SpanInsight>,
}

/// A machine: its disk, its time, and a runtime.
pub(crate) struct Machine {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) runtime: Runtime,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let clock = SimClock::new(EPOCH_NS / 1_000_000 + 60_000);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { disk: SimDisk::new(), clock, runtime }
    }

    pub(crate) fn open_metrics(&self) -> Tsdb {
        let options = TsdbOptions::new("/data/metrics", Arc::new(self.disk.clone()), Arc::clone(&self.clock) as _);
        Tsdb::open(options).unwrap()
    }

    pub(crate) fn insight(&self, metrics: &Tsdb, options: SpanInsightOptions) -> Arc<SpanInsight> {
        let store = Arc::new(metrics.clone());
        Arc::new(SpanInsight::new(options, store.clone(), store, Arc::clone(&self.clock) as _))
    }

    pub(crate) fn open(&self) -> Stores {
        self.open_sampled(None)
    }

    pub(crate) fn open_sampled(&self, sampler: Option<Arc<dyn TraceSampler>>) -> Stores {
        let metrics = self.open_metrics();
        let insight = self.insight(&metrics, options(HistogramKind::Classic));
        let (disk, clock) = (Arc::new(self.disk.clone()), Arc::clone(&self.clock) as _);
        let mut options = EventStoreOptions::new("/data/events", disk, clock, Accountant::unlimited());
        options.retention_traces = None;
        options.journal.group_window = Duration::ZERO;
        options.limits = Arc::new(Limits { disk_free_floor_bytes: 0, ..Limits::default() });
        options.trace_sampler = sampler;
        options.span_observer = Some(Arc::clone(&insight) as _);
        let events = EventStore::open(options).unwrap();
        Stores { metrics, events, insight }
    }

    pub(crate) fn write(&self, stores: &Stores, batch: TraceBatch) {
        self.runtime.block_on(stores.events.write_spans(batch)).unwrap();
    }

    pub(crate) fn persist(&self, stores: &Stores) {
        self.clock.advance(Duration::from_secs(1));
        self.runtime.block_on(stores.events.persist_observed());
    }
}

/// By how much every derived series grew over all time, resets counted from zero. Series that never grew are there too.
pub(crate) fn totals(metrics: &Tsdb) -> Totals {
    let name = Matcher::new(MatchOp::Regex, "__name__".to_owned(), "traces_.*".to_owned()).unwrap();
    let request = SelectRequest { tenant: TenantId(0), matchers: vec![name], range: TimeRange::ALL };
    let mut totals = BTreeMap::new();
    for found in metrics.select(&request, &Unlimited).unwrap() {
        let name = found.labels.metric_name();
        if name == "traces_spanmetrics_size_total" {
            continue;
        }
        let mut samples = SampleBuffer::default();
        found.source.read(TimeRange::ALL, &mut samples).unwrap();
        let (mut sum, mut last) = (0.0, None);
        for value in samples.values {
            if is_stale_nan(value) {
                last = None;
                continue;
            }
            sum += last.map_or(0.0, |last| if value < last { value } else { value - last });
            // All series begin with a zero.
            assert!(last.is_some() || value == 0.0, "{}", found.labels);
            last = Some(value);
        }
        totals.insert(text(&found.labels), sum);
    }
    totals
}

fn text(labels: &Labels) -> String {
    series(labels.metric_name(), labels.iter().filter(|(name, _)| *name != "__name__"))
}

/// Compares sums of seconds to a nanosecond, all else exactly.
#[track_caller]
pub(crate) fn assert_same(got: &Totals, want: &Totals, wanted: &dyn Fn(&str) -> bool) {
    let is_close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
    let all: std::collections::BTreeSet<&String> = got.keys().chain(want.keys()).collect();
    let mut differ = Vec::new();
    for series in all.into_iter().filter(|series| wanted(series)) {
        match (got.get(series), want.get(series)) {
            (Some(a), Some(b)) if a == b || series.contains("_sum ") && is_close(*a, *b) => {}
            (a, b) => differ.push(format!("{series}: {a:?} instead of {b:?}")),
        }
    }
    assert!(
        differ.is_empty(),
        "{} of {} differ, first:\n{}",
        differ.len(),
        want.len(),
        differ[..differ.len().min(8)].join("\n")
    );
}
