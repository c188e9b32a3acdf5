//! Counters against the count over all spans.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use trefoil_insight::spans::{HistogramKind, SpanInsightOptions, SpanMetricsOptions, graph};
use trefoil_model::{
    JournalMark, MatchOp, Matcher, MetricReader as _, SampleBuffer, SelectRequest, SpanObserver as _, TenantId,
    TimeRange, Unlimited,
};
use trefoil_tsdb::Tsdb;

use crate::random_spans::{batches, traces};
use crate::stores::{Machine, Stores, assert_same, options, totals};
use crate::{brute, random_spans};

fn all(_: &str) -> bool {
    true
}

/// Counts batches in so many steps and gives up what waits at the end.
fn counted(traces: &[random_spans::Sent], options: SpanInsightOptions) -> (Machine, Tsdb) {
    let machine = Machine::new();
    let metrics = machine.open_metrics();
    let insight = machine.insight(&metrics, options);
    let batches = batches(7, traces, 300, 0.03);
    let steps = batches.len().div_ceil(5).max(1);
    for (number, batch) in batches.iter().enumerate() {
        insight.observe(batch, None);
        if number % steps == steps - 1 {
            machine.clock.advance(Duration::from_secs(15));
            insight.cut(JournalMark::default());
            machine.runtime.block_on(insight.persist());
        }
    }
    insight.end();
    machine.clock.advance(Duration::from_secs(15));
    insight.cut(JournalMark::default());
    machine.runtime.block_on(insight.persist());
    (machine, metrics)
}

#[test]
fn a_hundred_thousand_traces_are_counted_exactly() {
    let spans = traces(1, 100_000);
    let want = brute::count(&spans);
    assert!(want.len() > 10_000, "{}", want.len());
    let (_machine, metrics) = counted(&spans, options(HistogramKind::Classic));
    assert_same(&totals(&metrics), &want, &all);
    // The same read back as a graph.
    let edges = graph::read(&metrics, TenantId(0), TimeRange::ALL, &Unlimited).unwrap();
    assert!(edges.len() > 50, "{}", edges.len());
    for edge in &edges {
        let labels =
            [("client", &*edge.client), ("server", &*edge.server), ("connection_type", &*edge.connection_type)];
        let of = |name: &str| want[&brute::series(&format!("traces_service_graph_request_{name}"), labels)];
        assert_eq!((edge.requests, edge.failed), (of("total"), of("failed_total")), "{edge:?}");
        assert_eq!(edge.server_latency.count, of("server_seconds_count"), "{edge:?}");
        assert_eq!(edge.client_latency.count, of("client_seconds_count"), "{edge:?}");
    }
    let requests = want.iter().filter(|(series, _)| series.starts_with("traces_service_graph_request_total "));
    assert_eq!(edges.len(), requests.count());
}

#[test]
fn native_histograms_count_the_same() {
    let spans = traces(2, 2000);
    let want = brute::count(&spans);
    let (_machine, metrics) = counted(&spans, options(HistogramKind::Native));
    let name = Matcher::new(MatchOp::Equal, "__name__".to_owned(), "traces_spanmetrics_latency".to_owned()).unwrap();
    let request = SelectRequest { tenant: TenantId(0), matchers: vec![name], range: TimeRange::ALL };
    let series = metrics.select(&request, &Unlimited).unwrap();
    for found in &series {
        let mut samples = SampleBuffer::default();
        found.source.read(TimeRange::ALL, &mut samples).unwrap();
        let (first, last) = (&samples.histograms[0].1, &samples.histograms.last().unwrap().1);
        assert_eq!(first.count, 0.0, "a series begins with nothing");
        last.validate().unwrap();
        let labels = found.labels.iter().filter(|(name, _)| *name != "__name__");
        assert_eq!(last.count, want[&brute::series("traces_spanmetrics_latency_count", labels)]);
    }
    let counts = want.keys().filter(|s| s.starts_with("traces_spanmetrics_latency_count ")).count();
    assert_eq!(series.len(), counts);
    let edges = graph::read(&metrics, TenantId(0), TimeRange::ALL, &Unlimited).unwrap();
    for edge in &edges {
        assert!(edge.server_latency.count + edge.client_latency.count >= edge.requests, "{edge:?}");
        let latency = if edge.server_latency.count > 0.0 { &edge.server_latency } else { &edge.client_latency };
        assert!(latency.quantile(0.5).is_some_and(|s| (0.0..25.0).contains(&s)), "{edge:?}");
    }
}

#[test]
fn too_many_series_are_counted_in_few() {
    let spans = traces(3, 1000);
    let want = brute::count(&spans);
    let mut options = options(HistogramKind::Classic);
    let metrics_options = options.span_metrics.take().unwrap();
    options.span_metrics = Some(SpanMetricsOptions { series_max: 40, ..metrics_options });
    options.service_graph.as_mut().unwrap().edges_max = 5;
    let (_machine, metrics) = counted(&spans, options);
    let got = totals(&metrics);
    for name in ["traces_spanmetrics_calls_total ", "traces_service_graph_request_total "] {
        let sum =
            |totals: &brute::Totals| totals.iter().filter(|(s, _)| s.starts_with(name)).map(|(_, v)| v).sum::<f64>();
        let count = got.keys().filter(|s| s.starts_with(name)).count();
        assert_eq!(sum(&got), sum(&want), "{name}");
        assert!(count <= 70, "{name}: {count}");
        assert!(got.keys().any(|s| s.starts_with(name) && s.contains("metric_overflow=true")), "{name}");
    }
}

/// Kills at random moments. Whatever was acknowledged is counted once.
#[test]
fn a_crash_neither_loses_nor_doubles() {
    for seed in 0..12 {
        let mut rng = StdRng::seed_from_u64(seed);
        let spans = traces(100 + seed, 300);
        let with_flushes = seed % 2 == 0;
        let machine = Machine::new();
        let mut stores: Stores = machine.open();
        // What was sent before a flush and a crash is not known any more when it is sent again.
        let again = if with_flushes { 0.0 } else { 0.03 };
        for batch in batches(seed, &spans, 20, again) {
            machine.write(&stores, batch);
            if rng.random_bool(0.2) {
                machine.persist(&stores);
            }
            if with_flushes && rng.random_bool(0.1) {
                machine.clock.advance(Duration::from_secs(1));
                machine.runtime.block_on(stores.events.flush()).unwrap();
            }
            if rng.random_bool(0.1) {
                drop(stores);
                machine.disk.crash(seed);
                machine.clock.advance(Duration::from_secs(1));
                stores = machine.open();
            }
        }
        stores.insight.end();
        machine.persist(&stores);
        // A span whose partner has left the journal before a crash does not find it after.
        let is_wanted = |series: &str| !with_flushes || series.starts_with("traces_spanmetrics");
        assert_same(&totals(&stores.metrics), &brute::count(&spans), &is_wanted);
    }
}

#[test]
fn series_end_and_begin_again() {
    let spans = traces(5, 50);
    let machine = Machine::new();
    let metrics = machine.open_metrics();
    let options = SpanInsightOptions {
        stale_after: Duration::from_secs(60),
        remembered_max: 0,
        ..options(HistogramKind::Classic)
    };
    let insight = machine.insight(&metrics, options);
    let persist = |seconds: u64| {
        machine.clock.advance(Duration::from_secs(seconds));
        insight.cut(JournalMark::default());
        machine.runtime.block_on(insight.persist());
    };
    let batches = batches(5, &spans, 1000, 0.03);
    batches.iter().for_each(|batch| insight.observe(batch, None));
    persist(15);
    persist(15);
    // Nothing changes for a minute: the series end, and begin again with the next spans.
    persist(60);
    persist(15);
    let name = |name: &str| Matcher::new(MatchOp::Equal, "__name__".to_owned(), name.to_owned()).unwrap();
    let request = SelectRequest {
        tenant: TenantId(0),
        matchers: vec![name("traces_spanmetrics_calls_total")],
        range: TimeRange::ALL,
    };
    let ends = |metrics: &Tsdb| -> usize {
        let series = metrics.select(&request, &Unlimited).unwrap();
        let read = |found: &trefoil_model::SelectedSeries| {
            let mut samples = SampleBuffer::default();
            found.source.read(TimeRange::ALL, &mut samples).unwrap();
            samples.values.iter().filter(|v| trefoil_model::metric::is_stale_nan(**v)).count()
        };
        series.iter().map(read).sum()
    };
    let count = metrics.select(&request, &Unlimited).unwrap().len();
    assert_eq!(ends(&metrics), count);
    batches.iter().for_each(|batch| insight.observe(batch, None));
    persist(15);
    let totals = totals(&metrics);
    let calls =
        totals.iter().filter(|(s, _)| s.starts_with("traces_spanmetrics_calls_total ")).map(|(_, v)| v).sum::<f64>();
    let sent: usize = batches.iter().map(trefoil_model::TraceBatch::span_count).sum();
    assert_eq!(calls, 2.0 * sent as f64);
}
