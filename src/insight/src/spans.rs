//! What is counted of spans while they come in: metrics of single spans, and the graph of services.
//!
//! Every span that the store acknowledges is counted once, whatever is sampled later, also over a crash: what is
//! written to the metrics store holds, in the same record, the place in the journal of spans up to which it counts. A
//! replay counts what lies behind that place. Before spans leave the journal the store has what was counted written.
//!
//! Counters begin at zero with each start, and each series with a sample of zero at the time of the flush before it, so
//! that functions like `increase` see all of it. Series that do not change for some time end.

mod cells;
mod durations;
mod exposition;
pub mod graph;
mod metrics;
mod otlp_size;
mod seen;
mod service_graph;
mod span_metrics;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use trefoil_model::labels::METRIC_NAME;
use trefoil_model::{
    JournalMark, Labels, MatchOp, Matcher, MetricBatch, MetricReader, MetricWriter, SampleBuffer, SelectRequest,
    SpanObserver, StoreError, TenantId, TimeRange, TraceBatch, Unlimited,
};
use trefoil_runtime::clock::SharedClock;
use trefoil_runtime::{Stop, TaskResult};

use cells::{CellCut, Moment};
pub use durations::HistogramKind;
use exposition::{Exposition, Family};
use seen::Seen;
use service_graph::ServiceGraph;
pub use service_graph::{DATABASE, MESSAGING_SYSTEM, ServiceGraphOptions, USER, VIRTUAL_NODE};
use span_metrics::SpanMetrics;
pub use span_metrics::SpanMetricsOptions;

/// Service of spans that name none.
const UNKNOWN_SERVICE: &str = "unknown_service";
/// How far back the place in the journal is looked for, in milliseconds.
const MARK_LOOKBACK_MS: i64 = 30 * 86_400_000;
const MARK_SEGMENT: &str = "trefoil_insight_spans_journal_segment";
const MARK_OFFSET: &str = "trefoil_insight_spans_journal_offset";

const SPAN_FAMILY: Family = Family {
    counters: [
        ("traces_spanmetrics_calls_total", "Spans by service, name, kind and status."),
        ("traces_spanmetrics_size_total", "Bytes of these spans in OTLP."),
    ],
    durations: &[("traces_spanmetrics_latency", "Durations of these spans.")],
};
const GRAPH_FAMILY: Family = Family {
    counters: [
        ("traces_service_graph_request_total", "Requests between two services."),
        ("traces_service_graph_request_failed_total", "Requests between two services that failed on either side."),
    ],
    durations: &[
        ("traces_service_graph_request_server_seconds", "Durations of requests as the server says."),
        ("traces_service_graph_request_client_seconds", "Durations of requests as the client says."),
    ],
};

/// What is derived, and how it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanInsightOptions {
    /// Metrics of single spans; `None`: none.
    pub span_metrics: Option<SpanMetricsOptions>,
    /// The graph of services; `None`: none.
    pub service_graph: Option<ServiceGraphOptions>,
    /// Time between writes of what was counted.
    pub flush_interval: Duration,
    /// Series that do not change for so long end.
    pub stale_after: Duration,
    /// Spans of a tenant that are remembered, so that what is sent again is not counted again; 0: none.
    pub remembered_max: usize,
}

impl Default for SpanInsightOptions {
    fn default() -> Self {
        Self {
            span_metrics: Some(SpanMetricsOptions::default()),
            service_graph: Some(ServiceGraphOptions::default()),
            flush_interval: Duration::from_secs(15),
            stale_after: Duration::from_secs(900),
            remembered_max: 500_000,
        }
    }
}

#[derive(Debug)]
struct Tenant {
    seen: Seen,
    metrics: Option<SpanMetrics>,
    graph: Option<ServiceGraph>,
    /// Up to where spans were counted before the start.
    counted: Option<JournalMark>,
    /// When that was written, in Unix milliseconds; `i64::MIN` for never.
    marked_ms: i64,
}

#[derive(Debug, Default)]
struct State {
    tenants: BTreeMap<TenantId, Tenant>,
    last_cut_ms: i64,
    /// Number of the last cut.
    cut: u64,
    /// Number of the last cut that was written.
    written: u64,
}

/// What is to be written of a tenant.
struct TenantCut {
    tenant: TenantId,
    spans: Vec<CellCut>,
    edges: Vec<CellCut>,
}

struct Cut {
    number: u64,
    t_ms: i64,
    end: JournalMark,
    tenants: Vec<TenantCut>,
}

/// Counts spans as they are stored, and writes what it counted into the metrics store.
pub struct SpanInsight {
    options: SpanInsightOptions,
    metrics: Option<Arc<SpanMetricsOptions>>,
    graph: Option<Arc<ServiceGraphOptions>>,
    span_labels: Vec<String>,
    edge_labels: Vec<String>,
    reader: Arc<dyn MetricReader>,
    writer: Arc<dyn MetricWriter>,
    clock: SharedClock,
    state: Mutex<State>,
    /// The last cut that is not yet written.
    pending: Mutex<Option<Cut>>,
    writing: tokio::sync::Mutex<()>,
    is_closed: AtomicBool,
}

impl SpanInsight {
    /// Counts nothing yet. `reader` and `writer` are the metrics store. May wait for the disk.
    pub fn new(
        options: SpanInsightOptions,
        reader: Arc<dyn MetricReader>,
        writer: Arc<dyn MetricWriter>,
        clock: SharedClock,
    ) -> Self {
        let state = State { last_cut_ms: clock.now_ms(), ..State::default() };
        let metrics = options.span_metrics.clone().map(Arc::new);
        let insight = Self {
            span_labels: metrics.as_ref().map_or_else(Vec::new, |m| span_metrics::label_names(m)),
            edge_labels: service_graph::LABELS.iter().map(|name| (*name).to_owned()).collect(),
            graph: options.service_graph.clone().map(Arc::new),
            metrics,
            options,
            reader,
            writer,
            clock,
            state: Mutex::new(state),
            pending: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            is_closed: AtomicBool::new(false),
        };
        // What has to be read is read before the first write waits for it.
        let tenant = insight.open_tenant(TenantId(0));
        {
            let mut state = insight.state.lock();
            // Series begin with a zero, which must not take the place of what was written before the start.
            state.last_cut_ms = state.last_cut_ms.max(tenant.marked_ms.saturating_add(1));
            state.tenants.insert(TenantId(0), tenant);
        }
        insight
    }

    /// Whether anything is counted.
    pub fn is_on(&self) -> bool {
        self.metrics.is_some() || self.graph.is_some()
    }

    /// How it works.
    pub fn options(&self) -> &SpanInsightOptions {
        &self.options
    }

    fn moment(&self, state: &State) -> Moment {
        Moment {
            now: self.clock.monotonic(),
            last_ms: state.last_cut_ms,
            next_cut: state.cut + 1,
            written: state.written,
        }
    }

    /// What is known of a tenant at its first span.
    fn open_tenant(&self, tenant: TenantId) -> Tenant {
        let mark = self.last_mark(tenant).unwrap_or_else(|error| {
            let error = trefoil_runtime::tasks::chain(&error);
            tracing::warn!(error, "what was counted of spans before the start is not known, some may be counted twice");
            None
        });
        let wait = self.graph.as_ref().map_or(Duration::ZERO, |graph| graph.wait);
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let given_up_ms = mark.map_or(i64::MIN, |(t_ms, _)| t_ms.saturating_sub(wait_ms));
        Tenant {
            seen: Seen::default(),
            metrics: self.metrics.clone().map(SpanMetrics::new),
            graph: self.graph.clone().map(|graph| ServiceGraph::new(graph, given_up_ms.saturating_mul(1_000_000))),
            counted: mark.map(|(_, mark)| mark),
            marked_ms: mark.map_or(i64::MIN, |(t_ms, _)| t_ms),
        }
    }

    /// The place up to which spans were counted when that was written last, with its time.
    fn last_mark(&self, tenant: TenantId) -> Result<Option<(i64, JournalMark)>, StoreError> {
        let now_ms = self.clock.now_ms();
        let range = TimeRange::new(now_ms.saturating_sub(MARK_LOOKBACK_MS), i64::MAX);
        let last = |name: &str| -> Result<Option<(i64, f64)>, StoreError> {
            let Ok(matcher) = Matcher::new(MatchOp::Equal, METRIC_NAME.to_owned(), name.to_owned()) else {
                return Ok(None);
            };
            let request = SelectRequest { tenant, matchers: vec![matcher], range };
            let mut found = None;
            for series in self.reader.select(&request, &Unlimited)? {
                let mut samples = SampleBuffer::default();
                series.source.read(range, &mut samples)?;
                found = found.max(samples.times.last().copied().zip(samples.values.last().copied().map(f64::to_bits)));
            }
            Ok(found.map(|(t_ms, bits)| (t_ms, f64::from_bits(bits))))
        };
        let (Some((t_ms, segment)), Some((_, offset))) = (last(MARK_SEGMENT)?, last(MARK_OFFSET)?) else {
            return Ok(None);
        };
        Ok(Some((t_ms, JournalMark { segment: segment as u64, offset: offset as u64 })))
    }

    fn count(&self, batch: &TraceBatch, replayed: Option<JournalMark>) {
        let mut state = self.state.lock();
        let at = self.moment(&state);
        let tenant = state.tenants.entry(batch.tenant).or_insert_with(|| self.open_tenant(batch.tenant));
        let was_counted = replayed.is_some_and(|end| tenant.counted.is_some_and(|counted| end <= counted));
        let (mut counted, mut duplicates) = (0, 0);
        for group in &batch.groups {
            let service = Some(group.resource.service_name()).filter(|name| !name.is_empty());
            let service: Arc<str> = service.unwrap_or(UNKNOWN_SERVICE).into();
            for span in &group.spans {
                if !tenant.seen.insert(span, self.options.remembered_max) {
                    duplicates += 1;
                    continue;
                }
                counted += 1;
                if let Some(metrics) = tenant.metrics.as_mut().filter(|_| !was_counted) {
                    metrics.add(&group.resource, &service, span, &at);
                }
                if let Some(graph) = &mut tenant.graph {
                    graph.add(&service, span, was_counted, &at);
                }
            }
        }
        if let Some(graph) = &mut tenant.graph {
            graph.give_up(&at);
        }
        if !was_counted {
            metrics::SPANS.inc_by(counted);
            metrics::DUPLICATES.inc_by(duplicates);
        }
    }

    fn batch(&self, cut: &Cut, of: &TenantCut) -> MetricBatch {
        let mut batch = MetricBatch { tenant: of.tenant, ..MetricBatch::default() };
        if let Some(options) = &self.metrics {
            let mut exposition = Exposition::new(&SPAN_FAMILY, &self.span_labels, &options.buckets, cut.t_ms);
            exposition.describe(&mut batch);
            of.spans.iter().for_each(|cell| exposition.add(cell, &mut batch));
        }
        if let Some(options) = &self.graph {
            let mut exposition = Exposition::new(&GRAPH_FAMILY, &self.edge_labels, &options.buckets, cut.t_ms);
            exposition.describe(&mut batch);
            of.edges.iter().for_each(|cell| exposition.add(cell, &mut batch));
        }
        for (name, value) in [(MARK_SEGMENT, cut.end.segment), (MARK_OFFSET, cut.end.offset)] {
            batch.push_float(Labels::from_pairs([(METRIC_NAME, name)]), cut.t_ms, value as f64);
        }
        batch
    }

    async fn write(&self, cut: &Cut) -> bool {
        for tenant in &cut.tenants {
            let batch = self.batch(cut, tenant);
            if let Err(error) = self.writer.write(batch).await {
                metrics::FLUSH_FAILURES.inc();
                let error = trefoil_runtime::tasks::chain(&error);
                tracing::warn!(error, "what was counted of spans is not written, it is tried again");
                return false;
            }
        }
        true
    }

    /// No span comes any more: those that wait for another are given up. Write afterwards.
    pub fn end(&self) {
        let mut state = self.state.lock();
        let at = self.moment(&state);
        for graph in state.tenants.values_mut().filter_map(|tenant| tenant.graph.as_mut()) {
            graph.give_up_all(&at);
        }
    }

    /// Writes nothing any more.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    /// Calls `flush` at the interval until told to stop. It is to have the store [cut](SpanObserver::cut) and
    /// [persist](SpanObserver::persist).
    pub async fn run<F: Future<Output = ()>>(&self, stop: Stop, flush: impl Fn() -> F) -> TaskResult {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.clock.sleep(self.options.flush_interval) => {}
            }
            flush().await;
        }
    }
}

#[async_trait::async_trait]
impl SpanObserver for SpanInsight {
    fn observe(&self, batch: &TraceBatch, replayed: Option<JournalMark>) {
        self.count(batch, replayed);
    }

    fn cut(&self, end: JournalMark) {
        let mut state = self.state.lock();
        let at = self.moment(&state);
        let t_ms = self.clock.now_ms().max(state.last_cut_ms + 1);
        let (mut series, mut edges, mut waiting) = (0, 0, (0, 0));
        let mut tenants = Vec::new();
        for (tenant, of) in &mut state.tenants {
            let mut cut = TenantCut { tenant: *tenant, spans: Vec::new(), edges: Vec::new() };
            if let Some(metrics) = &mut of.metrics {
                cut.spans = metrics.cut(&at, self.options.stale_after);
                series += metrics.len();
            }
            if let Some(graph) = &mut of.graph {
                graph.give_up(&at);
                cut.edges = graph.cut(&at, self.options.stale_after);
                edges += graph.len();
                let (clients, servers) = graph.waiting();
                waiting = (waiting.0 + clients, waiting.1 + servers);
            }
            // A server that gets no spans has no series of this either.
            if !cut.spans.is_empty() || !cut.edges.is_empty() {
                tenants.push(cut);
            }
        }
        state.cut = at.next_cut;
        state.last_cut_ms = t_ms;
        // It has all that an earlier one has which is not written.
        *self.pending.lock() = Some(Cut { number: at.next_cut, t_ms, end, tenants });
        drop(state);
        let gauge = |of: &prometheus::IntGaugeVec, label: &str, n: usize| {
            of.with_label_values(&[label]).set(i64::try_from(n).unwrap_or(i64::MAX));
        };
        gauge(&metrics::SERIES, "span_metrics", series);
        gauge(&metrics::SERIES, "service_graph", edges);
        gauge(&metrics::WAITING, "client", waiting.0);
        gauge(&metrics::WAITING, "server", waiting.1);
    }

    async fn persist(&self) {
        if self.is_closed.load(Ordering::Acquire) {
            return;
        }
        let _writing = self.writing.lock().await;
        let Some(cut) = self.pending.lock().take() else { return };
        if self.write(&cut).await {
            self.state.lock().written = cut.number;
        }
    }
}
