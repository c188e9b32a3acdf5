//! A whole server on loopback over stores in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use trefoil_api::queries::QueryBooks;
use trefoil_api::server::Kind;
use trefoil_api::{App, AppState, BuildInfo, LogqlEvaluate, PromqlEvaluate, Servers, Setup};
use trefoil_config::{Config, LoadedConfig, WebConfig};
use trefoil_ingest::{Ingest, IngestOptions};
use trefoil_model::event_store::ScanStats;
use trefoil_model::{
    Alert, AlertReceiver, Cardinality, Counted, EventWriter, Exemplar, Labels, LogBatch, LogEntry, LogQuery, LogReader,
    Matcher, MetricAdmin, MetricBatch, MetricKind, MetricMetadata, MetricReader, MetricWriter, NanoRange, Offender,
    QueryBudget, SampleBuffer, SelectRequest, SelectedSeries, SeriesSource, SnapshotTaker, SpanKind, SpanQuery,
    StoreError, StoreTrouble, StoredTrace, TenantId, TimeRange, TraceBatch, TraceId, TraceReader, WriteError,
    WriteReport,
};
use trefoil_promql::Engine;
use trefoil_rules::RuleManager;
use trefoil_runtime::{Accountant, Clock as _, RealClock, Tasks};
use trefoil_scrape::ScrapeManager;

/// Series in memory, and counters of what was written.
#[derive(Default)]
pub(crate) struct Memory {
    series: Vec<(Labels, Arc<Samples>)>,
    pub(crate) samples_written: AtomicU64,
    pub(crate) records_written: AtomicU64,
    pub(crate) spans_written: AtomicU64,
    /// What the admin API asked for, in words.
    pub(crate) admin_calls: parking_lot::Mutex<Vec<String>>,
    /// What the store complains of.
    pub(crate) trouble: parking_lot::Mutex<Option<StoreTrouble>>,
}

struct Samples(Vec<(i64, f64)>);

impl SeriesSource for Samples {
    fn read(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), StoreError> {
        for (t, v) in self.0.iter().filter(|(t, _)| range.contains(*t)) {
            out.push_float(*t, 0, *v);
        }
        Ok(())
    }
}

impl Memory {
    /// Two jobs with two instances each, a sample every 15 s for ten minutes from 1000 s on.
    fn filled() -> Self {
        let mut series = Vec::new();
        for (n, job) in ["api", "db"].iter().enumerate() {
            for instance in 0..2 {
                let labels = Labels::from_pairs([
                    ("__name__", "http_requests_total".to_owned()),
                    ("instance", instance.to_string()),
                    ("job", (*job).to_owned()),
                ]);
                let rate = (n * 2 + instance + 1) as f64;
                let samples = (0..40).map(|i| (1_000_000 + i * 15_000, i as f64 * rate)).collect();
                series.push((labels, Arc::new(Samples(samples))));
            }
        }
        let fresh = Labels::from_pairs([("__name__", "fresh"), ("job", "api")]);
        series.push((fresh, Arc::new(Samples(vec![(RealClock::new().now_ms(), 7.0)]))));
        series.sort_by(|a, b| a.0.cmp(&b.0));
        Self { series, ..Self::default() }
    }

    fn matching<'a>(&'a self, requests: &'a [SelectRequest]) -> impl Iterator<Item = &'a (Labels, Arc<Samples>)> {
        self.series.iter().filter(|(labels, samples)| {
            requests.is_empty()
                || requests.iter().any(|r| {
                    r.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
                        && samples.0.iter().any(|(t, _)| r.range.contains(*t))
                })
        })
    }
}

fn cut<T>(mut all: Vec<T>, limit: usize) -> (Vec<T>, bool) {
    let more = limit > 0 && all.len() > limit;
    if more {
        all.truncate(limit);
    }
    (all, more)
}

#[async_trait::async_trait]
impl MetricAdmin for Memory {
    async fn delete(&self, requests: &[SelectRequest]) -> Result<u64, StoreError> {
        let mut calls = self.admin_calls.lock();
        for r in requests {
            let matchers: Vec<String> = r.matchers.iter().map(|m| format!("{}={}", m.name, m.value)).collect();
            calls.push(format!("delete {} from {} to {}", matchers.join(","), r.range.start_ms, r.range.end_ms));
        }
        Ok(requests.len() as u64)
    }

    fn trouble(&self) -> Option<StoreTrouble> {
        self.trouble.lock().clone()
    }

    async fn clean_tombstones(&self) -> Result<u64, StoreError> {
        self.admin_calls.lock().push("clean".to_owned());
        Ok(1)
    }

    fn cardinality(&self, _: TenantId, limit: usize) -> Result<Cardinality, StoreError> {
        let count = |name: &str, value| Counted { name: name.to_owned(), value };
        let cut = |mut all: Vec<Counted>| {
            all.truncate(limit);
            all
        };
        Ok(Cardinality {
            series: 7,
            label_pairs: 9,
            times: Some((1000, 2000)),
            series_by_metric: cut(vec![count("http_requests_total", 4), count("up", 3)]),
            values_by_label: cut(vec![count("user", 4)]),
            bytes_by_label: cut(vec![count("user", 40)]),
            series_by_pair: cut(vec![count("__name__=up", 5), count("job=api", 4), count("job=db", 2)]),
            offenders: vec![Offender {
                job: "api".to_owned(),
                limit: "series_per_job_max",
                limit_value: 4,
                series: 4,
                refused: 11,
                since_ms: 1_700_000_000_000,
                last_ms: 1_700_000_060_000,
                label: count("user", 12),
                metric: "http_requests_total".to_owned(),
            }],
        })
    }
}

#[async_trait::async_trait]
impl SnapshotTaker for Memory {
    async fn snapshot(&self, with_memtables: bool, for_backup: bool) -> Result<String, StoreError> {
        if for_backup {
            return Ok("backup".to_owned());
        }
        Ok(if with_memtables { "whole" } else { "parts" }.to_owned())
    }
}

impl MetricReader for Memory {
    fn select(&self, request: &SelectRequest, budget: &dyn QueryBudget) -> Result<Vec<SelectedSeries>, StoreError> {
        budget.check()?;
        let found = self.matching(std::slice::from_ref(request));
        let found: Vec<_> =
            found.map(|(l, s)| SelectedSeries { labels: l.clone(), source: Arc::clone(s) as _ }).collect();
        budget.charge_series(found.len() as u64)?;
        Ok(found)
    }

    fn series(
        &self,
        requests: &[SelectRequest],
        limit: usize,
        _: &dyn QueryBudget,
    ) -> Result<(Vec<Labels>, bool), StoreError> {
        Ok(cut(self.matching(requests).map(|(l, _)| l.clone()).collect(), limit))
    }

    fn label_names(
        &self,
        _: TenantId,
        _: TimeRange,
        requests: &[SelectRequest],
        limit: usize,
        _: &dyn QueryBudget,
    ) -> Result<(Vec<String>, bool), StoreError> {
        let names: BTreeSet<String> = self
            .matching(requests)
            .flat_map(|(l, _)| l.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>())
            .collect();
        Ok(cut(names.into_iter().collect(), limit))
    }

    fn label_values(
        &self,
        _: TenantId,
        name: &str,
        _: TimeRange,
        requests: &[SelectRequest],
        limit: usize,
        _: &dyn QueryBudget,
    ) -> Result<(Vec<String>, bool), StoreError> {
        let values: BTreeSet<String> =
            self.matching(requests).filter_map(|(l, _)| l.get(name).map(str::to_owned)).collect();
        Ok(cut(values.into_iter().collect(), limit))
    }

    fn exemplars(
        &self,
        requests: &[SelectRequest],
        _: &dyn QueryBudget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError> {
        let one = || Exemplar {
            series: 0,
            t_ms: 1_000_500,
            value: 0.25,
            labels: Labels::from_pairs([("trace_id", "0af7651916cd43dd8448eb211c80319c")]),
        };
        Ok(self.matching(requests).take(1).map(|(l, _)| (l.clone(), vec![one()])).collect())
    }

    fn metadata(&self, _: TenantId, name: Option<&str>, _: usize) -> Vec<MetricMetadata> {
        let one = |name: &str| MetricMetadata {
            name: name.to_owned(),
            kind: MetricKind::Counter,
            help: "Requests.".to_owned(),
            unit: String::new(),
        };
        ["http_requests_total", "other_total"].into_iter().filter(|n| name.is_none_or(|w| w == *n)).map(one).collect()
    }

    fn active_series(&self) -> u64 {
        self.series.len() as u64
    }

    fn is_in_memory(&self, _: TenantId, _: TimeRange) -> bool {
        true
    }

    fn selects_few(&self, request: &SelectRequest, series_max: u64, _: &dyn QueryBudget) -> bool {
        self.matching(std::slice::from_ref(request)).count() as u64 <= series_max
    }
}

#[async_trait::async_trait]
impl MetricWriter for Memory {
    async fn write(&self, batch: MetricBatch) -> Result<WriteReport, WriteError> {
        let n = batch.sample_count() as u64;
        self.samples_written.fetch_add(n, Ordering::SeqCst);
        Ok(WriteReport { accepted: n, ..WriteReport::default() })
    }
}

#[async_trait::async_trait]
impl EventWriter for Memory {
    async fn write_logs(&self, batch: LogBatch) -> Result<WriteReport, WriteError> {
        let n: u64 = batch.groups.iter().map(|g| g.records.len() as u64).sum();
        self.records_written.fetch_add(n, Ordering::SeqCst);
        Ok(WriteReport { accepted: n, ..WriteReport::default() })
    }

    async fn write_spans(&self, batch: TraceBatch) -> Result<WriteReport, WriteError> {
        let n: u64 = batch.groups.iter().map(|g| g.spans.len() as u64).sum();
        self.spans_written.fetch_add(n, Ordering::SeqCst);
        Ok(WriteReport { accepted: n, ..WriteReport::default() })
    }
}

impl LogReader for Memory {
    fn scan(
        &self,
        _: &LogQuery,
        _: &dyn QueryBudget,
        _: &mut dyn FnMut(LogEntry<'_>) -> ControlFlow<()>,
    ) -> Result<ScanStats, StoreError> {
        Ok(ScanStats::default())
    }

    fn streams(
        &self,
        _: TenantId,
        _: NanoRange,
        _: &[Matcher],
        _: &dyn QueryBudget,
    ) -> Result<Vec<Labels>, StoreError> {
        Ok(Vec::new())
    }
}

impl TraceReader for Memory {
    fn trace(
        &self,
        _: TenantId,
        _: TraceId,
        _: Option<NanoRange>,
        _: &dyn QueryBudget,
    ) -> Result<Option<StoredTrace>, StoreError> {
        Ok(None)
    }

    fn find(&self, _: &SpanQuery, _: &dyn QueryBudget) -> Result<Vec<StoredTrace>, StoreError> {
        Ok(Vec::new())
    }

    fn services(&self, _: TenantId, _: NanoRange, _: &dyn QueryBudget) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn operations(
        &self,
        _: TenantId,
        _: &str,
        _: NanoRange,
        _: &dyn QueryBudget,
    ) -> Result<Vec<(String, SpanKind)>, StoreError> {
        Ok(Vec::new())
    }
}

/// Takes alerts and forgets them.
struct Nobody;

#[async_trait::async_trait]
impl AlertReceiver for Nobody {
    async fn receive(&self, _: Vec<Alert>) {}
}

/// A running server.
pub(crate) struct TestServer {
    pub(crate) state: AppState,
    pub(crate) memory: Arc<Memory>,
    pub(crate) tasks: Tasks,
    pub(crate) scrape: Arc<ScrapeManager>,
    pub(crate) rules: Arc<RuleManager>,
    pub(crate) http: SocketAddr,
    pub(crate) otlp_grpc: SocketAddr,
    pub(crate) otlp_http: SocketAddr,
    pub(crate) zipkin: Option<SocketAddr>,
    pub(crate) jaeger: Option<SocketAddr>,
    pub(crate) quit: Arc<AtomicBool>,
}

/// Three ports chosen by the system, lifecycle calls on; `more` is put below `trefoil`.
pub(crate) fn config(more: &str) -> LoadedConfig {
    let text = format!(
        "global: {{external_labels: {{site: lab}}}}\n\
         trefoil:\n  enable_lifecycle: true\n  listeners:\n    http: {{address: '127.0.0.1:0'}}\n    \
         otlp_grpc: {{address: '127.0.0.1:0'}}\n    otlp_http: {{address: '127.0.0.1:0'}}\n{more}"
    );
    Config::parse(&text, Path::new("/"), &|_| None).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

impl TestServer {
    /// Starts a server with what `more` puts below `trefoil` (indented by two blanks).
    pub(crate) async fn start(more: &str) -> Self {
        Self::with(config(more), "http://127.0.0.1:9090").await
    }

    /// Starts a server with a web configuration file.
    pub(crate) async fn with_web(web: &str) -> Self {
        let mut config = config("");
        config.web = Some(WebConfig::parse(web, Path::new("/")).expect("web configuration"));
        Self::with(config, "https://localhost").await
    }

    pub(crate) async fn with(config: LoadedConfig, external_url: &str) -> Self {
        let servers = Servers::bind(&config).await.expect("ports");
        let memory = Arc::new(Memory::filled());
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let clock = RealClock::shared();
        let accountant = Accountant::new(1 << 30);
        let limits = config.config.trefoil.limits.limits.clone();
        let has_admin = config.config.trefoil.enable_admin_api;
        let ingest = Ingest::new(
            Arc::clone(&memory) as _,
            Arc::clone(&memory) as _,
            limits.clone(),
            accountant.clone(),
            Arc::clone(&clock),
            IngestOptions::default(),
        );
        let writer: Arc<dyn MetricWriter> = Arc::clone(&memory) as _;
        let scrape = ScrapeManager::new(Arc::clone(&writer), Arc::clone(&clock), tasks.clone(), limits.clone());
        let scrape = Arc::new(scrape);
        let reader: Arc<dyn MetricReader> = Arc::clone(&memory) as _;
        let engine = Engine::default();
        let evaluate =
            PromqlEvaluate::new(engine.clone(), reader, limits.clone(), accountant.clone(), Arc::clone(&clock));
        let books = QueryBooks::default();
        let (evaluate, nobody) = (Arc::new(evaluate.noted_in(books.clone())), Arc::new(Nobody));
        let over_logs = LogqlEvaluate::new(
            Arc::clone(&memory) as _,
            evaluate.clone(),
            limits,
            accountant.clone(),
            Arc::clone(&clock),
            books.clone(),
        );
        let manager = |evaluate| {
            let (writer, clock) = (Arc::clone(&writer), Arc::clone(&clock));
            Arc::new(RuleManager::new(evaluate, writer, nobody.clone(), clock, tasks.clone()))
        };
        let (rules, log_rules) = (manager(evaluate), manager(Arc::new(over_logs)));
        let quit = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&quit);
        let state = App::new(Setup {
            metrics: Arc::clone(&memory) as _,
            metric_writer: Arc::clone(&memory) as _,
            admin: has_admin.then(|| Arc::clone(&memory) as _),
            snapshots: has_admin.then(|| Arc::clone(&memory) as _),
            logs: Arc::clone(&memory) as _,
            traces: Arc::clone(&memory) as _,
            ingest: Arc::new(ingest),
            insight: Arc::default(),
            scrape: Some(Arc::clone(&scrape)),
            rules: Some(Arc::clone(&rules)),
            log_rules: Some(Arc::clone(&log_rules)),
            engine,
            per_step_stats: true,
            books,
            config: Arc::new(config),
            accountant,
            clock,
            tasks: tasks.clone(),
            build: BuildInfo { version: "0.0.0".into(), ..BuildInfo::default() },
            flags: BTreeMap::from([("web.listen-address".into(), "127.0.0.1:0".into())]),
            reload: Arc::new(|| Box::pin(async { Ok(()) })),
            quit: Arc::new(move || told.store(true, Ordering::SeqCst)),
            external_url: external_url.into(),
        })
        .expect("state");
        servers.serve(&tasks);
        servers.open(&state);
        let address = |kind| servers.address(kind).expect("enabled");
        Self {
            memory,
            tasks,
            scrape,
            rules,
            http: address(Kind::Http),
            otlp_grpc: address(Kind::OtlpGrpc),
            otlp_http: address(Kind::OtlpHttp),
            zipkin: servers.address(Kind::Zipkin),
            jaeger: servers.address(Kind::Jaeger),
            quit,
            state,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        text(client().get(self.url(path))).await
    }

    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> (u16, String) {
        text(client().post(self.url(path)).form(form)).await
    }

    /// The data of an answer, once `done` says that it is what is waited for.
    pub(crate) async fn data_when(&self, path: &str, done: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let (_, body) = self.get(path).await;
            let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            if done(&answer["data"]) {
                return answer["data"].clone();
            }
            assert!(tokio::time::Instant::now() < until, "{path}: {body}");
            tokio::task::yield_now().await;
        }
    }

    /// Stops in order; everything must end in time.
    pub(crate) async fn stop(self) {
        let report = self.tasks.shutdown(Duration::from_secs(10)).await;
        assert!(report.finished, "{report:?}");
    }
}

pub(crate) async fn text(request: reqwest::RequestBuilder) -> (u16, String) {
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("a body"))
}

fn builder() -> reqwest::ClientBuilder {
    // Only the first of the process can install it.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().no_proxy()
}

pub(crate) fn client() -> reqwest::Client {
    builder().build().expect("client")
}

/// A client from another address of loopback.
pub(crate) fn client_from(address: [u8; 4]) -> reqwest::Client {
    builder().local_address(Some(IpAddr::from(address))).build().expect("client")
}

/// A client that trusts one certificate, and one that speaks HTTP/2 without asking.
pub(crate) fn client_with(change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> reqwest::Client {
    change(builder()).build().expect("client")
}
