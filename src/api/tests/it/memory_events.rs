//! The contracts of the event store over records and spans in memory, and a state with them behind the real router.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;
use tower::ServiceExt;
use trefoil_api::{App, AppState, BuildInfo, Setup};
use trefoil_config::LoadedConfig;
use trefoil_ingest::{Ingest, IngestOptions};
use trefoil_insight::{Insight, InsightWriter};
use trefoil_model::event_store::ScanStats;
use trefoil_model::labels::underscored;
use trefoil_model::metric_store::{SelectRequest, SelectedSeries};
use trefoil_model::trace_visit::latest_start;
use trefoil_model::{
    AttributeValue, Direction, EventWriter, Labels, LogBatch, LogEntry, LogGroup, LogQuery, LogReader, LogRecord,
    Matcher, MetricBatch, MetricReader, MetricWriter, NanoRange, QueryBudget, SpanKind, SpanQuery, StoreError,
    StoredTrace, TenantId, TraceBatch, TraceId, TraceReader, WriteError, WriteReport,
};
use trefoil_runtime::{Accountant, SimClock, Tasks};

/// The time at which all tests run.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;
pub(crate) const NOW_NS: i64 = NOW_MS * 1_000_000;
pub(crate) const SECOND_NS: i64 = 1_000_000_000;

/// Lines and traces as the tests put them there; no metrics.
#[derive(Default)]
pub(crate) struct MemoryEvents {
    pub(crate) groups: Mutex<Vec<LogGroup>>,
    pub(crate) traces: Mutex<Vec<StoredTrace>>,
    /// Searches of traces go on until they are ended.
    pub(crate) is_endless: AtomicBool,
    /// Such searches that were begun, and that were ended.
    pub(crate) begun: AtomicUsize,
    pub(crate) ended: AtomicUsize,
}

impl MemoryEvents {
    /// Adds a line; attributes become structured metadata.
    pub(crate) fn line(&self, stream: &[(&str, &str)], time_ns: i64, text: &str, attributes: &[(&str, &str)]) {
        self.groups.lock().push(group(stream, time_ns, text, attributes));
    }
}

/// A group of one line.
pub(crate) fn group(stream: &[(&str, &str)], time_ns: i64, text: &str, attributes: &[(&str, &str)]) -> LogGroup {
    let attribute = |(n, v): &(&str, &str)| ((*n).to_owned(), AttributeValue::String((*v).to_owned()));
    let record = LogRecord {
        time_ns,
        observed_ns: 0,
        severity_number: 0,
        severity_text: String::new(),
        text: text.to_owned(),
        attributes: attributes.iter().map(attribute).collect(),
        trace_id: None,
        span_id: None,
    };
    LogGroup { stream: Labels::from_pairs(stream.iter().copied()), shared: Arc::default(), records: vec![record] }
}

fn selected(stream: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|m| {
        let value = stream.iter().find(|(n, _)| underscored(n) == m.name.as_str()).map_or("", |(_, v)| v);
        m.matches(value)
    })
}

impl LogReader for MemoryEvents {
    fn scan(
        &self,
        query: &LogQuery,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(LogEntry<'_>) -> ControlFlow<()>,
    ) -> Result<ScanStats, StoreError> {
        budget.check()?;
        let groups = self.groups.lock().clone();
        let records = groups.iter().flat_map(|g| g.records.iter().map(move |r| (g, r)));
        let mut entries: Vec<(u64, &LogGroup, &LogRecord)> = records
            .zip(0u64..)
            .map(|((g, r), sequence)| (sequence, g, r))
            .filter(|(_, g, _)| selected(&g.stream, &query.matchers))
            .filter(|(_, _, r)| query.range.contains(r.time_ns))
            .collect();
        entries.sort_by(|a, b| (a.2.time_ns, &a.1.stream).cmp(&(b.2.time_ns, &b.1.stream)));
        if query.direction == Direction::Backward {
            entries.reverse();
        }
        for (sequence, group, record) in entries {
            let (stream, stream_ref) = (&group.stream, group.stream.stable_hash());
            if each(LogEntry { stream, stream_ref, sequence, shared: &group.shared, record }).is_break() {
                break;
            }
        }
        Ok(ScanStats { blocks: 1, ..ScanStats::default() })
    }

    fn streams(
        &self,
        _: TenantId,
        range: NanoRange,
        matchers: &[Matcher],
        _: &dyn QueryBudget,
    ) -> Result<Vec<Labels>, StoreError> {
        let groups = self.groups.lock();
        let found = groups
            .iter()
            .filter(|g| selected(&g.stream, matchers) && g.records.iter().any(|r| range.contains(r.time_ns)));
        Ok(found.map(|g| g.stream.clone()).collect::<BTreeSet<_>>().into_iter().collect())
    }
}

impl TraceReader for MemoryEvents {
    fn trace(
        &self,
        _: TenantId,
        id: TraceId,
        _: Option<NanoRange>,
        _: &dyn QueryBudget,
    ) -> Result<Option<StoredTrace>, StoreError> {
        Ok(self.traces.lock().iter().find(|t| t.trace_id == id).cloned())
    }

    fn find(&self, query: &SpanQuery, budget: &dyn QueryBudget) -> Result<Vec<StoredTrace>, StoreError> {
        if self.is_endless.load(Ordering::SeqCst) {
            self.begun.fetch_add(1, Ordering::SeqCst);
            loop {
                if let Err(error) = budget.check() {
                    self.ended.fetch_add(1, Ordering::SeqCst);
                    return Err(error.into());
                }
                std::thread::yield_now();
            }
        }
        let matches = |trace: &&StoredTrace| {
            trace.groups.iter().any(|g| {
                query.service.as_deref().is_none_or(|s| s == g.resource.service_name())
                    && g.spans.iter().any(|s| {
                        query.operation.as_ref().is_none_or(|o| *o == s.name)
                            && query.range.is_none_or(|r| r.contains(s.start_ns))
                            && query.min_duration_ns.is_none_or(|d| s.duration_ns() >= d)
                            && query.max_duration_ns.is_none_or(|d| s.duration_ns() <= d)
                            && query.tags.iter().all(|(n, v)| {
                                s.attributes.iter().any(|(name, value)| name == n && value.to_text() == *v)
                            })
                    })
            })
        };
        let mut found: Vec<StoredTrace> = self.traces.lock().iter().filter(matches).cloned().collect();
        found.sort_by_key(|t| (Reverse(latest_start(query, t)), t.trace_id));
        found.truncate(query.limit);
        Ok(found)
    }

    fn services(&self, _: TenantId, _: NanoRange, _: &dyn QueryBudget) -> Result<Vec<String>, StoreError> {
        let traces = self.traces.lock();
        let names = traces.iter().flat_map(|t| t.groups.iter().map(|g| g.resource.service_name().to_owned()));
        Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn operations(
        &self,
        _: TenantId,
        service: &str,
        _: NanoRange,
        _: &dyn QueryBudget,
    ) -> Result<Vec<(String, SpanKind)>, StoreError> {
        let traces = self.traces.lock();
        let groups = traces.iter().flat_map(|t| &t.groups).filter(|g| g.resource.service_name() == service);
        let mut found: Vec<_> = groups.flat_map(|g| g.spans.iter().map(|s| (s.name.clone(), s.kind))).collect();
        found.sort_by(|a, b| (&a.0, a.1 as u8).cmp(&(&b.0, b.1 as u8)));
        found.dedup();
        Ok(found)
    }
}

#[async_trait::async_trait]
impl EventWriter for MemoryEvents {
    async fn write_logs(&self, batch: LogBatch) -> Result<WriteReport, WriteError> {
        let accepted = batch.record_count() as u64;
        self.groups.lock().extend(batch.groups);
        Ok(WriteReport { accepted, ..WriteReport::default() })
    }

    async fn write_spans(&self, _: TraceBatch) -> Result<WriteReport, WriteError> {
        Err(WriteError::Closed)
    }
}

#[async_trait::async_trait]
impl MetricWriter for MemoryEvents {
    async fn write(&self, _: MetricBatch) -> Result<WriteReport, WriteError> {
        Err(WriteError::Closed)
    }
}

impl MetricReader for MemoryEvents {
    fn select(&self, _: &SelectRequest, _: &dyn QueryBudget) -> Result<Vec<SelectedSeries>, StoreError> {
        Ok(Vec::new())
    }

    fn series(&self, _: &[SelectRequest], _: usize, _: &dyn QueryBudget) -> Result<(Vec<Labels>, bool), StoreError> {
        Ok((Vec::new(), false))
    }

    trefoil_model::only_series!();
}

/// The real router over events in memory.
pub(crate) struct Server {
    pub(crate) events: Arc<MemoryEvents>,
    pub(crate) state: AppState,
    pub(crate) router: Router,
    /// The way that pushed records take.
    pub(crate) writer: Arc<dyn EventWriter>,
}

/// An answer, read whole.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answered {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::at("http://localhost:9090")
    }

    pub(crate) fn at(external_url: &str) -> Self {
        Self::made(external_url, LoadedConfig::default())
    }

    pub(crate) fn with(config: LoadedConfig) -> Self {
        Self::made("http://localhost:9090", config)
    }

    fn made(external_url: &str, config: LoadedConfig) -> Self {
        let events = Arc::new(MemoryEvents::default());
        let clock = SimClock::new(NOW_MS);
        let config = Arc::new(config);
        let limits = config.config.trefoil.limits.limits.clone();
        let accountant = Accountant::unlimited();
        let insight = Arc::new(Insight::default());
        let writer: Arc<dyn EventWriter> = Arc::new(InsightWriter::new(events.clone(), insight.clone(), clock.clone()));
        let ingest = Ingest::new(
            events.clone(),
            writer.clone(),
            limits,
            accountant.clone(),
            clock.clone(),
            IngestOptions::default(),
        );
        let state = App::new(Setup {
            metrics: events.clone(),
            metric_writer: events.clone(),
            admin: None,
            snapshots: None,
            logs: events.clone(),
            traces: events.clone(),
            ingest: Arc::new(ingest),
            insight,
            scrape: None,
            rules: None,
            log_rules: None,
            engine: trefoil_promql::Engine::default(),
            per_step_stats: false,
            books: trefoil_api::queries::QueryBooks::default(),
            config,
            accountant,
            clock,
            tasks: Tasks::new(tokio::runtime::Handle::current()),
            build: BuildInfo::default(),
            flags: BTreeMap::new(),
            reload: Arc::new(|| Box::pin(async { Ok(()) })),
            quit: Arc::new(|| {}),
            external_url: external_url.to_owned(),
        })
        .unwrap();
        let router = trefoil_api::routes::main_router(&state);
        Self { events, state, router, writer }
    }

    /// Writes a line as a push does.
    pub(crate) async fn push(&self, stream: &[(&str, &str)], time_ns: i64, text: &str, attributes: &[(&str, &str)]) {
        let batch = LogBatch { tenant: TenantId(0), groups: vec![group(stream, time_ns, text, attributes)] };
        self.writer.write_logs(batch).await.unwrap();
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answered {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answered { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, uri: &str) -> Answered {
        self.get_with(uri, &[]).await
    }

    pub(crate) async fn get_with(&self, uri: &str, headers: &[(&str, &str)]) -> Answered {
        let mut request = Request::builder().method(Method::GET).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post_form(&self, uri: &str, form: &str) -> Answered {
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()));
        self.send(request.unwrap()).await
    }
}

/// A text for a URL's query.
pub(crate) fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
