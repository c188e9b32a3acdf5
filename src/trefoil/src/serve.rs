//! How a server is put together, reloaded and taken down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, anyhow};
use prometheus::{IntGauge, IntGaugeVec, register_int_gauge, register_int_gauge_vec};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tracing::{info, warn};
use trefoil_alertmanager::{AlertmanagerOptions, Dispatcher, FanOut, RemoteAlertmanagers};
use trefoil_api::queries::QueryBooks;
use trefoil_api::server::Kind;
use trefoil_api::sockets::{LogSockets, SpanSockets};
use trefoil_api::{App, AppState, BuildInfo, LogqlEvaluate, PromqlEvaluate, Servers, Setup};
use trefoil_config::trefoil::{LogRetentionRuleConfig, ObjectStoreConfig, RetentionConfig};
use trefoil_config::{Config, FlagOverrides, LoadedConfig, TrefoilConfig};
use trefoil_events::{EventStore, EventStoreOptions, LogRetention, LogRetentionRule};
use trefoil_ingest::{Ingest, IngestOptions, counters};
use trefoil_insight::{Insight, InsightWriter};
use trefoil_model::{
    AlertReceiver, EventWriter, LogReader, MetricAdmin, MetricReader, MetricWriter, SnapshotTaker, TraceReader,
};
use trefoil_parts::RemoteOptions;
use trefoil_promql::{Engine, EngineOptions, ParserOptions};
use trefoil_rules::{Evaluate, RuleManager};
use trefoil_runtime::{
    Accountant, DataDirLock, OnError, Phase, RealClock, RealVfs, SharedClock, SharedVfs, StartProgress, Tasks, data_dir,
};
use trefoil_scrape::ScrapeManager;
use trefoil_tsdb::{DownsamplingRule, ObjectStoreOptions, Policy, RetentionRule, Tsdb, TsdbOptions};

use crate::background::{self, Stores};
use crate::check::{chain, env};
use crate::cli::{Ignored, ServeArgs};
use crate::counted::{Counted, Credited};
use crate::features::{Features, features};
use crate::flag_values::{Given, flag_values};
use crate::log_files::{self, CheckedLogs, Logs};
use crate::rule_files::{CheckedRules, Rules};
use crate::self_telemetry::{self, Collector, Identity};
use crate::snapshots::Snapshots;
use crate::{logging, memory, query_log};

/// All of the shutdown must be done by then.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(30);

static CONFIG_WARNINGS: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!("trefoil_config_warnings", "Settings that are accepted and not run.")
        .expect("unique metric name")
});
static RELOAD_OK: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!("trefoil_config_last_reload_successful", "Whether the last reload worked.")
        .expect("unique metric name")
});
static BUILD_INFO: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!("trefoil_build_info", "Always 1, with what this binary is.", &["version"])
        .expect("unique metric name")
});

/// A Prometheus that is an agent keeps and answers nothing: whoever asks for one must not get a server.
fn refuse_agent(ignored: &[Ignored]) -> anyhow::Result<()> {
    let on = |i: &Ignored| i.flag == "--agent" && i.value.as_deref() != Some("false");
    anyhow::ensure!(
        !ignored.iter().any(on),
        "--agent: there is no agent mode; forward what comes with remote_write, or leave the flag out"
    );
    Ok(())
}

/// Runs the server until it is told to stop.
pub(crate) async fn run(arguments: ServeArgs, ignored: Vec<Ignored>) -> anyhow::Result<()> {
    refuse_agent(&ignored)?;
    let mut features = features(&arguments.enable_feature);
    features.given = Given::of(&arguments.enable_feature, &ignored);
    let unknown = features.unknown.clone();
    let server = Server::start(arguments.config_file.clone(), arguments.overrides(), features).await?;
    for feature in unknown {
        warn!(%feature, "feature has no meaning here and is ignored");
    }
    for Ignored { flag, .. } in ignored {
        warn!(%flag, "flag has no meaning here and is ignored");
    }
    server.run_to_end().await
}

/// What a reload changes.
struct Reloader {
    path: Option<PathBuf>,
    flags: FlagOverrides,
    parser: ParserOptions,
    scrape: Arc<ScrapeManager>,
    rules: Rules,
    metrics: Tsdb,
    events: EventStore,
    dispatcher: Arc<Dispatcher>,
    remote: Arc<RemoteAlertmanagers>,
    logs: Logs,
    external_url: String,
    /// Our settings of the start, for what a reload cannot change.
    started_with: TrefoilConfig,
}

/// Keys below `trefoil` that differ and that only a restart puts in force.
fn needs_restart(started_with: &TrefoilConfig, now: &TrefoilConfig) -> Vec<&'static str> {
    [
        ("data_dir", started_with.data_dir != now.data_dir),
        ("external_url", started_with.external_url != now.external_url),
        ("enable_lifecycle", started_with.enable_lifecycle != now.enable_lifecycle),
        ("enable_admin_api", started_with.enable_admin_api != now.enable_admin_api),
        ("cors_origin", started_with.cors_origin != now.cors_origin),
        ("listeners", started_with.listeners != now.listeners),
        ("syslog", started_with.syslog != now.syslog),
        ("fluent_forward", started_with.fluent_forward != now.fluent_forward),
        ("gelf", started_with.gelf != now.gelf),
        ("jaeger_udp", started_with.jaeger_udp != now.jaeger_udp),
        ("limits", started_with.limits != now.limits),
        ("query_lookback", started_with.query_lookback != now.query_lookback),
        ("retention.traces", started_with.retention.traces != now.retention.traces),
        ("journal", started_with.journal != now.journal),
        ("memtable", started_with.memtable != now.memtable),
        ("object_store", started_with.object_store != now.object_store),
        ("traces", started_with.traces != now.traces),
        ("self_telemetry", started_with.self_telemetry != now.self_telemetry),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}

/// A configuration with the rule files that it names, all checked.
struct Checked {
    config: Arc<LoadedConfig>,
    rules: CheckedRules,
    logs: CheckedLogs,
}

fn load(path: Option<&Path>, flags: &FlagOverrides, parser: ParserOptions) -> anyhow::Result<Checked> {
    let config = Config::load_with(path, flags, &env).map_err(|e| anyhow!(chain(&e)))?;
    let rules = CheckedRules::load(&config.config, parser)?;
    let logs = log_files::check(&config.config.trefoil.logs, path).map_err(|e| anyhow!(chain(&e)))?;
    Ok(Checked { config: Arc::new(config), rules, logs })
}

impl Reloader {
    /// Puts a checked configuration in force.
    fn apply(&self, checked: &Checked) -> anyhow::Result<()> {
        let (loaded, config) = (&checked.config, &checked.config.config);
        let options = config.trefoil.alertmanager.clone().map(|alertmanager| AlertmanagerOptions {
            config: alertmanager,
            external_url: self.external_url.clone(),
            external_labels: config.global.external_labels.clone(),
        });
        // What can fail comes first, so that a bad configuration changes nothing.
        self.dispatcher.apply(options.as_ref())?;
        self.remote.apply(&config.alerting, &config.global.external_labels).map_err(|e| anyhow!(e))?;
        self.scrape.apply(&loaded.scrape_configs)?;
        self.metrics.set_policy(metrics_policy(config));
        self.events.set_log_retention(log_retention(&config.trefoil.retention));
        self.logs.apply(&checked.logs);
        self.rules.apply(&checked.rules, config, &self.external_url);
        CONFIG_WARNINGS.set(loaded.warnings.len() as i64);
        for warning in &loaded.warnings {
            warn!(key = %warning.key, line = warning.line, reason = %warning.message, "setting is accepted and not run");
        }
        Ok(())
    }

    /// Puts in force what concerns queries, once the application has the configuration.
    fn apply_to_queries(&self, app: &App) {
        let loaded = app.config();
        app.engine.set_subquery_step_ms(loaded.config.global.evaluation_interval.as_ms());
        query_log::apply(app, &loaded);
    }

    /// Reads everything again; on any fault the configuration in force stays.
    fn reload(&self, app: &App) -> anyhow::Result<()> {
        let result = load(self.path.as_deref(), &self.flags, self.parser).and_then(|checked| {
            self.apply(&checked)?;
            app.set_config(Arc::clone(&checked.config)).context("bearer tokens")
        });
        if result.is_ok() {
            self.apply_to_queries(app);
        }
        RELOAD_OK.set(i64::from(result.is_ok()));
        app.note_reload(result.is_ok());
        match &result {
            Ok(()) => {
                info!("configuration reloaded");
                for key in needs_restart(&self.started_with, &app.config().config.trefoil) {
                    warn!(key, "this setting below trefoil takes effect after a restart only");
                }
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "configuration not reloaded, the old one stays in force")
            }
        }
        result
    }
}

/// A running server.
pub(crate) struct Server {
    app: AppState,
    /// Its tasks, for those who run beside it.
    pub tasks: Tasks,
    /// Its clock.
    pub clock: SharedClock,
    /// Addresses that it listens on.
    pub addresses: Addresses,
    stores: Stores,
    reloader: Arc<Reloader>,
    quit: Arc<Notify>,
    _lock: DataDirLock,
}

/// Where a server listens, as `host:port`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Addresses {
    /// HTTP, everything.
    pub http: String,
    /// OTLP over gRPC, if on.
    pub otlp_grpc: Option<String>,
    /// OTLP over HTTP, if on.
    pub otlp_http: Option<String>,
}

impl Server {
    /// Starts a server: binds, opens the stores, replays, and puts the configuration in force.
    pub(crate) async fn start(path: Option<PathBuf>, flags: FlagOverrides, features: Features) -> anyhow::Result<Self> {
        let checked = load(path.as_deref(), &flags, features.parser)?;
        let config_file = path.clone();
        let loaded = Arc::clone(&checked.config);
        let config = &loaded.config;
        let own = &config.trefoil.self_telemetry;
        let clock = RealClock::shared();
        let collector = own.enabled.then(|| Collector::new(Arc::clone(&clock)));
        logging::start(own, collector.clone())?;
        trefoil_runtime::process::register();
        BUILD_INFO.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        RELOAD_OK.set(1);

        // A bad address fails before any work starts.
        let servers = Servers::bind(&loaded).await?;
        let log_sockets = LogSockets::bind(&loaded).await?;
        let span_sockets = SpanSockets::bind(&loaded).await?;
        let addresses = addresses_of(&servers);
        let data = config.trefoil.data_dir().to_path_buf();
        match data_dir::foreign_database(&data) {
            Some(true) => {
                return Err(anyhow!(
                    "data directory {} is in use by a Prometheus server; stop it first",
                    data.display()
                ));
            }
            Some(false) => {
                let dir = data.display();
                let command = format!("trefoil tsdb import --data {dir} {dir}");
                warn!(
                    data_dir = %dir,
                    %command,
                    "the directory holds a Prometheus database, which is not read; to take its history over, stop this \
                     server and run the command; afterwards wal, chunks_head and the blocks may be removed"
                )
            }
            None => {}
        }
        let lock = DataDirLock::acquire(&data)?;
        let vfs = RealVfs::shared();
        data_dir::check_format(&*vfs, &data)?;

        let tasks = Tasks::new(tokio::runtime::Handle::current());
        // Clients can connect and are told that the start is not over yet.
        servers.serve(&tasks);
        let limits = config.trefoil.limits.limits.clone();
        let budget = config.trefoil.limits.memory_bytes.map_or_else(memory::default_budget_bytes, |b| b.as_u64());
        let accountant = Accountant::new(budget);
        let stores = open_stores(&loaded, &data, &clock, &accountant, servers.start_progress()).await?;
        background::start(&stores, &tasks);
        let snapshots = Snapshots::new(stores.clone(), RealVfs::shared(), &data).context("folder of snapshots")?;
        snapshots.remove_stale();
        let snapshots: Arc<dyn SnapshotTaker> = Arc::new(snapshots);

        let metrics = Arc::new(stores.metrics.clone());
        let events = Arc::new(stores.events.clone());
        let writer: Arc<dyn MetricWriter> = metrics.clone();
        let admin: Arc<dyn MetricAdmin> = metrics.clone();
        let reader: Arc<dyn MetricReader> = metrics;
        let insight = Arc::new(Insight::default());
        let event_writer: Arc<dyn EventWriter> =
            Arc::new(InsightWriter::new(events.clone(), Arc::clone(&insight), Arc::clone(&clock)));
        let pushed: Arc<dyn EventWriter> = match &collector {
            Some(c) => Arc::new(Credited { collector: c.clone(), inner: Arc::clone(&event_writer) }),
            None => Arc::clone(&event_writer),
        };
        let pipelines = log_files::Pipelines::default();
        let pushed =
            Arc::new(log_files::Piped { pipelines: pipelines.clone(), clock: Arc::clone(&clock), inner: pushed });
        let ingest = Ingest::new(
            Arc::clone(&writer),
            pushed,
            limits.clone(),
            accountant.clone(),
            Arc::clone(&clock),
            IngestOptions::default(),
        );
        log_sockets.serve(&tasks, &ingest);
        span_sockets.serve(&tasks, &ingest);
        let lookback_ms = config.trefoil.query_lookback.as_ms();
        let engine = Engine::new(EngineOptions { lookback_ms, ..features.engine }, features.parser);
        let scraped = Counted { protocol: counters::SCRAPE, inner: Arc::clone(&writer) };
        let scrape = Arc::new(ScrapeManager::new(Arc::new(scraped), Arc::clone(&clock), tasks.clone(), limits.clone()));
        let dispatcher = Arc::new(Dispatcher::new(Arc::clone(&clock)));
        let remote = Arc::new(RemoteAlertmanagers::default());
        let receiver: Arc<dyn AlertReceiver> = Arc::new(FanOut(vec![dispatcher.clone(), remote.clone()]));
        let books = QueryBooks::default();
        let evaluate = PromqlEvaluate::new(
            engine.clone(),
            Arc::clone(&reader),
            limits.clone(),
            accountant.clone(),
            Arc::clone(&clock),
        );
        let evaluate = Arc::new(evaluate.noted_in(books.clone()));
        let over_logs = LogqlEvaluate::new(
            events.clone(),
            evaluate.clone(),
            limits,
            accountant.clone(),
            Arc::clone(&clock),
            books.clone(),
        );
        let manager = |evaluate: Arc<dyn Evaluate>| {
            let (writer, receiver) = (Arc::clone(&writer), Arc::clone(&receiver));
            Arc::new(RuleManager::new(evaluate, writer, receiver, Arc::clone(&clock), tasks.clone()))
        };
        let (rules, log_rules) = (manager(evaluate), manager(Arc::new(over_logs)));
        let external_url = match config.trefoil.external_url.trim_end_matches('/') {
            "" => format!("http://{}", addresses.http),
            url => url.to_owned(),
        };
        let counted = Counted { protocol: counters::FILES, inner: Arc::clone(&event_writer) };
        let parts = log_files::Parts {
            data: data.clone(),
            clock: Arc::clone(&clock),
            writer: Arc::new(counted),
            reader: events.clone(),
            ingest: ingest.clone(),
            pipelines,
        };
        let logs = log_files::start(parts, &tasks);
        let reloader = Arc::new(Reloader {
            path,
            flags: flags.clone(),
            parser: features.parser,
            scrape: Arc::clone(&scrape),
            rules: Rules { metrics: Arc::clone(&rules), logs: Arc::clone(&log_rules) },
            metrics: stores.metrics.clone(),
            events: stores.events.clone(),
            dispatcher: Arc::clone(&dispatcher),
            remote,
            logs,
            external_url: external_url.clone(),
            started_with: config.trefoil.clone(),
        });
        let quit = Arc::new(Notify::new());
        let app = make_app(AppParts {
            reader,
            writer: Arc::clone(&writer),
            admin: Some(admin),
            snapshots: Some(snapshots),
            logs: events.clone(),
            traces: events,
            ingest,
            insight,
            scrape,
            rules,
            log_rules,
            engine,
            per_step_stats: features.per_step_stats,
            books,
            loaded: Arc::clone(&loaded),
            accountant,
            clock: Arc::clone(&clock),
            tasks: tasks.clone(),
            flags: flag_values(config_file.as_deref(), config, &data, &features.given),
            external_url,
            reloader: Arc::clone(&reloader),
            quit: Arc::clone(&quit),
        })?;
        reloader.apply(&checked)?;
        reloader.apply_to_queries(&app);
        let d = Arc::clone(&dispatcher);
        tasks.spawn("alertmanager", Phase::Background, OnError::Restart, move |stop| {
            let d = Arc::clone(&d);
            async move {
                d.run(stop).await;
                Ok(())
            }
        });
        if let Some(collector) = collector {
            let metrics = Arc::new(Counted { protocol: counters::SELF, inner: writer });
            let events = Arc::new(Counted { protocol: counters::SELF, inner: event_writer });
            start_self_telemetry(&tasks, collector, metrics, events, &addresses, &loaded, &clock);
        }
        servers.open(&app);
        info!(
            http = %addresses.http,
            otlp_grpc = addresses.otlp_grpc.as_deref().unwrap_or("off"),
            otlp_http = addresses.otlp_http.as_deref().unwrap_or("off"),
            data_dir = %data.display(),
            version = env!("CARGO_PKG_VERSION"),
            "server is ready"
        );
        Ok(Self { app, tasks, clock, addresses, stores, reloader, quit, _lock: lock })
    }

    /// Serves until a signal, a quit over HTTP or the failure of a task that must not fail; then shuts down in order.
    pub(crate) async fn run_to_end(self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let mut hang_up = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
        let failed = loop {
            tokio::select! {
                _ = terminate.recv() => break None,
                _ = interrupt.recv() => break None,
                () = self.quit.notified() => break None,
                task = self.tasks.failed() => break Some(task),
                _ = hang_up.recv() => {
                    let (reloader, app) = (Arc::clone(&self.reloader), Arc::clone(&self.app));
                    // The outcome is in the log and in the metrics.
                    drop(tokio::task::spawn_blocking(move || reloader.reload(&app)).await);
                }
            }
        };
        info!("shutting down");
        self.app.set_ready(false);
        let report = self.tasks.shutdown(SHUTDOWN_DEADLINE).await;
        if !report.finished {
            warn!(tasks = ?report.still_running, "tasks did not end in time");
        }
        background::close(&self.stores).await;
        info!("shut down");
        match failed {
            None => Ok(()),
            Some(task) => Err(anyhow!("task {task:?} failed and the server cannot go on without it; see the log")),
        }
    }
}

/// What becomes of old samples.
fn metrics_policy(config: &Config) -> Policy {
    let trefoil = &config.trefoil;
    let rule = |r: &trefoil_config::trefoil::RetentionRuleConfig| RetentionRule {
        matchers: r.r#match.matchers().to_vec(),
        keep: r.keep.get().map(|d| d.as_std()),
    };
    let downsampling = |d: &trefoil_config::trefoil::DownsamplingConfig| DownsamplingRule {
        matchers: d.r#match.matchers().to_vec(),
        after: d.after.as_std(),
        interval: d.interval.as_std(),
    };
    Policy {
        retention: config.metrics_retention().get().map(|d| d.as_std()),
        retention_bytes: config.metrics_retention_bytes().get().map(|b| b.as_u64()),
        retention_share: config.metrics_retention_share(),
        retention_rules: trefoil.retention.metrics_rules.iter().map(rule).collect(),
        downsampling: trefoil.downsampling.iter().map(downsampling).collect(),
        dedup_interval: (!trefoil.dedup_interval.is_zero()).then(|| trefoil.dedup_interval.as_std()),
    }
}

/// How long log records are kept.
fn log_retention(retention: &RetentionConfig) -> LogRetention {
    let rule = |rule: &LogRetentionRuleConfig| LogRetentionRule {
        matchers: rule.r#match.matchers().to_vec(),
        keep: rule.keep.get().map(|d| d.as_std()),
    };
    LogRetention {
        keep: retention.logs.get().map(|d| d.as_std()),
        bytes_max: retention.logs_bytes.get().map(|b| b.as_u64()),
        rules: retention.logs_rules.iter().map(rule).collect(),
    }
}

/// Where parts of past days go, if they do.
fn object_store(tier: &ObjectStoreConfig, vfs: &SharedVfs) -> anyhow::Result<Option<ObjectStoreOptions>> {
    if tier.url.is_empty() {
        return Ok(None);
    }
    let objects = trefoil_parts::objects::open_url_with(&tier.url, Arc::clone(vfs), tier.timeout.as_std());
    let objects = objects.with_context(|| format!("object store {}", tier.url))?;
    let remote = RemoteOptions { objects, cache_bytes: tier.cache_bytes.as_u64() };
    Ok(Some(ObjectStoreOptions { remote, after: tier.after.as_std() }))
}

async fn open_stores(
    loaded: &Arc<LoadedConfig>,
    data: &Path,
    clock: &SharedClock,
    accountant: &Accountant,
    start: StartProgress,
) -> anyhow::Result<Stores> {
    let (loaded, data) = (Arc::clone(loaded), data.to_path_buf());
    let (clock, accountant) = (Arc::clone(clock), accountant.clone());
    let begun = clock.monotonic();
    let stores = tokio::task::spawn_blocking(move || -> anyhow::Result<Stores> {
        let config = &loaded.config;
        let (memtable, journal) = (&config.trefoil.memtable, &config.trefoil.journal);
        let limits = config.trefoil.limits.limits.clone();
        let retention = &config.trefoil.retention;
        let vfs = RealVfs::shared();
        let mut options = TsdbOptions::new(data.join("metrics"), Arc::clone(&vfs), Arc::clone(&clock));
        options.accountant = accountant.clone();
        options.policy = metrics_policy(config);
        options.limits = limits.clone();
        options.flush_bytes = memtable.flush_bytes.as_u64();
        options.flush_interval = memtable.flush_interval.as_std();
        options.journal.segment_bytes = journal.segment_bytes.as_u64();
        let tier = object_store(&config.trefoil.object_store, &vfs)?;
        options.object_store = tier.clone();
        options.start = start.clone();
        crate::snapshots::tell_lost_metrics(&data);
        crate::lost::tell_events(&vfs, &data);
        let metrics = Tsdb::open(options).context("open the metrics store")?;
        let spans = crate::span_insight::open(&config.trefoil, &metrics, &clock);
        let mut options = EventStoreOptions::new(data.join("events"), vfs, Arc::clone(&clock), accountant);
        options.retention_logs = log_retention(retention);
        options.retention_traces = retention.traces.get().map(|d| d.as_std());
        // Records take more memory while they are written than samples do.
        options.memtable_bytes_max = memtable.flush_bytes.as_u64() / 2;
        options.memtable_age_max = memtable.flush_interval.as_std();
        options.object_store = tier;
        options.limits = Arc::new(limits);
        options.journal.segment_bytes = journal.segment_bytes.as_u64();
        options.start = start;
        options.trace_sampler = crate::span_insight::sampler(&config.trefoil)?.map(|sampler| sampler as _);
        options.span_observer = spans.is_on().then(|| Arc::clone(&spans) as _);
        let events = EventStore::open(options).context("open the event store")?;
        Ok(Stores { metrics, events, spans, clock })
    })
    .await
    .context("open the stores")??;
    info!(seconds = stores.clock.monotonic().saturating_sub(begun).as_secs_f64(), "stores are open");
    Ok(stores)
}

fn addresses_of(servers: &Servers) -> Addresses {
    let text = |kind| servers.address(kind).map(|a| a.to_string());
    Addresses {
        http: text(Kind::Http).unwrap_or_default(),
        otlp_grpc: text(Kind::OtlpGrpc),
        otlp_http: text(Kind::OtlpHttp),
    }
}

fn start_self_telemetry(
    tasks: &Tasks,
    collector: Collector,
    metrics: Arc<dyn MetricWriter>,
    events: Arc<dyn EventWriter>,
    addresses: &Addresses,
    loaded: &LoadedConfig,
    clock: &SharedClock,
) {
    let identity = Identity { instance: addresses.http.clone() };
    let own = &loaded.config.trefoil.self_telemetry;
    let (limits, interval) = (loaded.config.trefoil.limits.limits.clone(), own.scrape_interval.as_std());
    let (c, i) = (collector, identity.clone());
    tasks.spawn("own logs and traces", Phase::Storage, OnError::Restart, move |stop| {
        self_telemetry::write_events(c.clone(), Arc::clone(&events), i.clone(), stop)
    });
    let clock = Arc::clone(clock);
    tasks.spawn("own metrics", Phase::Ingest, OnError::Restart, move |stop| {
        let (metrics, clock) = (Arc::clone(&metrics), Arc::clone(&clock));
        self_telemetry::write_metrics(metrics, clock, identity.clone(), limits.clone(), interval, stop)
    });
}

struct AppParts {
    reader: Arc<dyn MetricReader>,
    writer: Arc<dyn MetricWriter>,
    admin: Option<Arc<dyn MetricAdmin>>,
    snapshots: Option<Arc<dyn SnapshotTaker>>,
    logs: Arc<dyn LogReader>,
    traces: Arc<dyn TraceReader>,
    ingest: Ingest,
    insight: Arc<Insight>,
    scrape: Arc<ScrapeManager>,
    rules: Arc<RuleManager>,
    log_rules: Arc<RuleManager>,
    engine: Engine,
    per_step_stats: bool,
    books: QueryBooks,
    loaded: Arc<LoadedConfig>,
    accountant: Accountant,
    clock: SharedClock,
    tasks: Tasks,
    flags: BTreeMap<String, String>,
    external_url: String,
    reloader: Arc<Reloader>,
    quit: Arc<Notify>,
}

fn make_app(parts: AppParts) -> anyhow::Result<AppState> {
    // The application is handed to its own reload function, which is made before it.
    let slot: Arc<std::sync::OnceLock<std::sync::Weak<App>>> = Arc::default();
    let (reloader, app_slot) = (parts.reloader, Arc::clone(&slot));
    let quit = parts.quit;
    let app = App::new(Setup {
        metrics: parts.reader,
        metric_writer: parts.writer,
        admin: parts.admin,
        snapshots: parts.snapshots,
        logs: parts.logs,
        traces: parts.traces,
        ingest: Arc::new(parts.ingest),
        insight: parts.insight,
        scrape: Some(parts.scrape),
        rules: Some(parts.rules),
        log_rules: Some(parts.log_rules),
        engine: parts.engine,
        per_step_stats: parts.per_step_stats,
        books: parts.books,
        config: parts.loaded,
        accountant: parts.accountant,
        clock: parts.clock,
        tasks: parts.tasks,
        build: BuildInfo { version: env!("CARGO_PKG_VERSION").to_owned(), ..BuildInfo::default() },
        flags: parts.flags,
        reload: Arc::new(move || {
            let (reloader, app) = (Arc::clone(&reloader), app_slot.get().and_then(std::sync::Weak::upgrade));
            Box::pin(async move {
                let Some(app) = app else { return Err("the server is starting or stopping".to_owned()) };
                match tokio::task::spawn_blocking(move || reloader.reload(&app)).await {
                    Ok(result) => result.map_err(|e| format!("{e:#}")),
                    Err(error) => Err(error.to_string()),
                }
            })
        }),
        quit: Arc::new(move || quit.notify_one()),
        external_url: parts.external_url,
    })
    .context("bearer tokens")?;
    // Set once, here.
    drop(slot.set(Arc::downgrade(&app)));
    Ok(app)
}
