//! What all handlers share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::RwLock;
use trefoil_config::LoadedConfig;
use trefoil_ingest::Ingest;
use trefoil_insight::Insight;
use trefoil_model::{LogReader, MetricAdmin, MetricReader, MetricWriter, SnapshotTaker, TenantId, TraceReader};
use trefoil_promql::{Engine, ResultCache};
use trefoil_rules::RuleManager;
use trefoil_runtime::{Accountant, Limits, QueryContext, SharedClock, Tasks};
use trefoil_scrape::ScrapeManager;

use crate::auth::Auth;
use crate::error::ApiError;
use crate::gate::QueryGate;
use crate::jaeger::sampling::SamplingStrategies;
use crate::notifications::{self, Notifications};
use crate::origin::Origins;
use crate::queries::{QueryBooks, QueryNote, Registry};
use crate::query_log::QueryLog;

/// Reads the configuration again and puts it in force; `Err` with what is wrong with it.
pub type ReloadFn = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;
/// Begins the shutdown of the process.
pub type QuitFn = Arc<dyn Fn() + Send + Sync>;

/// What this binary is.
#[derive(Debug, Clone, Default)]
pub struct BuildInfo {
    /// Version of Trefoil.
    pub version: String,
    /// Commit it was built from; may be empty.
    pub revision: String,
    /// When it was built, RFC 3339; may be empty.
    pub build_date: String,
}

/// The version of Prometheus whose API is spoken; clients switch features on it.
pub const PROMETHEUS_VERSION: &str = "3.14.0";

/// Everything an [`App`] is made of.
pub struct Setup {
    /// Reads series.
    pub metrics: Arc<dyn MetricReader>,
    /// Writes series.
    pub metric_writer: Arc<dyn MetricWriter>,
    /// Deletes and inspects series, when the store can.
    pub admin: Option<Arc<dyn MetricAdmin>>,
    /// Takes snapshots, when the stores can.
    pub snapshots: Option<Arc<dyn SnapshotTaker>>,
    /// Reads log records.
    pub logs: Arc<dyn LogReader>,
    /// Reads spans.
    pub traces: Arc<dyn TraceReader>,
    /// The front of the push protocols.
    pub ingest: Arc<Ingest>,
    /// What is derived from what comes in; the writer of `ingest` tells it.
    pub insight: Arc<Insight>,
    /// The scrape loops, if any.
    pub scrape: Option<Arc<ScrapeManager>>,
    /// The rules over metrics, if any.
    pub rules: Option<Arc<RuleManager>>,
    /// The rules over logs, if any.
    pub log_rules: Option<Arc<RuleManager>>,
    /// Evaluates PromQL.
    pub engine: Engine,
    /// Whether `stats=all` tells the samples of each step.
    pub per_step_stats: bool,
    /// Where queries are noted; shared with whoever evaluates rules.
    pub books: QueryBooks,
    /// The configuration in force.
    pub config: Arc<LoadedConfig>,
    /// Memory.
    pub accountant: Accountant,
    /// Time.
    pub clock: SharedClock,
    /// Supervised tasks.
    pub tasks: Tasks,
    /// What the binary is.
    pub build: BuildInfo,
    /// Flags with their values, for `/api/v1/status/flags`.
    pub flags: BTreeMap<String, String>,
    /// Reads the configuration again.
    pub reload: ReloadFn,
    /// Begins the shutdown.
    pub quit: QuitFn,
    /// URL under which users reach the server, without a slash at the end, for example `http://host:9090/prefix`.
    pub external_url: String,
}

/// What all handlers share. Made once; what a reload changes stands behind a lock.
pub struct App {
    /// Reads series.
    pub metrics: Arc<dyn MetricReader>,
    /// Writes series.
    pub metric_writer: Arc<dyn MetricWriter>,
    /// Deletes and inspects series, when the store can.
    pub admin: Option<Arc<dyn MetricAdmin>>,
    /// Takes snapshots, when the stores can.
    pub snapshots: Option<Arc<dyn SnapshotTaker>>,
    /// Reads log records.
    pub logs: Arc<dyn LogReader>,
    /// Reads spans.
    pub traces: Arc<dyn TraceReader>,
    /// The front of the push protocols.
    pub ingest: Arc<Ingest>,
    /// What is derived from what comes in; the writer of `ingest` tells it.
    pub insight: Arc<Insight>,
    /// The scrape loops, if any.
    pub scrape: Option<Arc<ScrapeManager>>,
    /// The rules over metrics, if any.
    pub rules: Option<Arc<RuleManager>>,
    /// The rules over logs, if any.
    pub log_rules: Option<Arc<RuleManager>>,
    /// Evaluates PromQL.
    pub engine: Engine,
    /// Whether `stats=all` tells the samples of each step.
    pub per_step_stats: bool,
    /// Limits; those of the start, a reload does not change them.
    pub limits: Limits,
    /// Memory.
    pub accountant: Accountant,
    /// Time.
    pub clock: SharedClock,
    /// Supervised tasks.
    pub tasks: Tasks,
    /// Where all query work goes through.
    pub gate: QueryGate,
    /// Queries that wait or run, and what was asked most.
    pub queries: Arc<Registry>,
    /// Kept results of range queries.
    pub results: ResultCache,
    /// Where answered queries are noted, when they are.
    pub query_log: Arc<QueryLog>,
    /// What people who look at the server should know.
    pub notifications: Notifications,
    /// What the binary is.
    pub build: BuildInfo,
    /// Flags with their values.
    pub flags: BTreeMap<String, String>,
    /// Reads the configuration again.
    pub reload: ReloadFn,
    /// Begins the shutdown.
    pub quit: QuitFn,
    /// URL under which users reach the server, without a slash at the end.
    pub external_url: String,
    /// Whether `/-/reload` and `/-/quit` may be used.
    pub lifecycle: bool,
    /// Whether `/api/v1/admin/tsdb/*` may be used.
    pub admin_api: bool,
    /// Whose pages may read, and what browsers must not do here.
    pub origins: Origins,
    /// When the process started, Unix milliseconds.
    pub start_ms: i64,
    /// Tenant of all requests.
    pub tenant: TenantId,
    config: RwLock<Arc<LoadedConfig>>,
    auth: RwLock<Arc<Auth>>,
    sampling: RwLock<Arc<SamplingStrategies>>,
    ready: AtomicBool,
    reload_ok: AtomicBool,
    reload_ms: AtomicI64,
}

/// The shared state as handlers get it (`State<AppState>`).
pub type AppState = Arc<App>;

impl App {
    /// Makes the state; it is ready at once (see [`App::set_ready`]).
    ///
    /// Errors when a bearer token or the file of sampling strategies cannot be read.
    pub fn new(setup: Setup) -> std::io::Result<AppState> {
        let limits = setup.config.config.trefoil.limits.limits.clone();
        let auth = Auth::from_config(&setup.config)?;
        let sampling = SamplingStrategies::from_config(&setup.config.config.trefoil.remote_sampling)?;
        let now = setup.clock.now_ms();
        Ok(Arc::new(Self {
            metrics: setup.metrics,
            metric_writer: setup.metric_writer,
            admin: setup.admin,
            snapshots: setup.snapshots,
            logs: setup.logs,
            traces: setup.traces,
            ingest: setup.ingest,
            insight: setup.insight,
            scrape: setup.scrape,
            rules: setup.rules,
            log_rules: setup.log_rules,
            engine: setup.engine,
            per_step_stats: setup.per_step_stats,
            accountant: setup.accountant,
            clock: setup.clock,
            tasks: setup.tasks,
            gate: QueryGate::new(&limits),
            queries: setup.books.queries,
            results: ResultCache::new(limits.query_cache_bytes_max),
            query_log: setup.books.log,
            notifications: Notifications::default(),
            limits,
            build: setup.build,
            flags: setup.flags,
            reload: setup.reload,
            quit: setup.quit,
            origins: Origins::new(&setup.config, &setup.external_url),
            external_url: setup.external_url.trim_end_matches('/').to_owned(),
            lifecycle: setup.config.config.trefoil.enable_lifecycle,
            admin_api: setup.config.config.trefoil.enable_admin_api,
            start_ms: now,
            tenant: TenantId::default(),
            config: RwLock::new(setup.config),
            auth: RwLock::new(Arc::new(auth)),
            sampling: RwLock::new(Arc::new(sampling)),
            ready: AtomicBool::new(true),
            reload_ok: AtomicBool::new(true),
            reload_ms: AtomicI64::new(now),
        }))
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<LoadedConfig> {
        Arc::clone(&self.config.read())
    }

    /// Puts a reloaded configuration in force here: what the status pages show, who may come in, what is sampled. Listeners
    /// and limits stay those of the start.
    ///
    /// Errors when a bearer token or the file of sampling strategies cannot be read; then nothing changes.
    pub fn set_config(&self, config: Arc<LoadedConfig>) -> std::io::Result<()> {
        let auth = self.auth().renewed(&config)?;
        let sampling = SamplingStrategies::from_config(&config.config.trefoil.remote_sampling)?;
        *self.auth.write() = Arc::new(auth);
        *self.sampling.write() = Arc::new(sampling);
        *self.config.write() = config;
        Ok(())
    }

    /// Notes how a reload went.
    pub fn note_reload(&self, ok: bool) {
        self.reload_ok.store(ok, Ordering::Relaxed);
        self.notifications.set(notifications::RELOAD_FAILED, !ok, self.clock.now_ms());
        if ok {
            self.reload_ms.store(self.clock.now_ms(), Ordering::Relaxed);
        }
    }

    /// Whether the last reload went well, and when one last did (Unix milliseconds).
    pub fn last_reload(&self) -> (bool, i64) {
        (self.reload_ok.load(Ordering::Relaxed), self.reload_ms.load(Ordering::Relaxed))
    }

    /// Which traces Jaeger's clients are told to sample.
    pub fn sampling(&self) -> Arc<SamplingStrategies> {
        Arc::clone(&self.sampling.read())
    }

    /// Who may come in.
    pub fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.auth.read())
    }

    /// Whether `/-/ready` says so.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Sets what `/-/ready` says: false when the shutdown begins.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
        self.notifications.set(notifications::SHUTTING_DOWN, !ready, self.clock.now_ms());
    }

    /// The path part of the external URL without a slash at the end; "" for none.
    pub fn path_prefix(&self) -> &str {
        path_of(&self.external_url)
    }

    /// A time for `Retry-After`, one to five seconds, so that clients do not come back all at once.
    pub fn jittered_retry(&self) -> Duration {
        Duration::from_secs(1 + self.clock.now_ns().unsigned_abs() / 1000 % 5)
    }
}

/// Runs query work through the gate; see [`QueryGate::run`].
pub async fn run_query<T, F>(state: &AppState, timeout: Option<Duration>, work: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce(&QueryContext) -> Result<T, ApiError> + Send + 'static,
{
    state.gate.run(state, timeout, work).await
}

/// As [`run_query`], and the query is listed among the active ones.
pub async fn run_noted<T, F>(
    state: &AppState,
    timeout: Option<Duration>,
    note: QueryNote,
    work: F,
) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce(&QueryContext) -> Result<T, ApiError> + Send + 'static,
{
    state.gate.run_noted(state, timeout, Some(note), work).await
}

/// The path of an absolute URL without a slash at the end.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    path.split(['?', '#']).next().unwrap_or("").trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_the_path() {
        for (url, want) in [
            ("http://h:9090", ""),
            ("http://h:9090/", ""),
            ("https://h/a/b/", "/a/b"),
            ("http://h/a?x", "/a"),
            ("", ""),
        ] {
            assert_eq!(path_of(url), want, "{url}");
        }
    }
}
