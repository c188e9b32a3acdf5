//! All pools: makes loops for the targets of a configuration, keeps those that a reload does not change.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tracing::{info, warn};
use trefoil_config::{EscapingScheme, ScrapeConfig, ScrapeProtocol};
use trefoil_model::{Labels, LabelsBuilder, MetricWriter};
use trefoil_runtime::{Limits, OnError, Phase, SharedClock, Tasks};

use crate::exposition::TextFormat;
use crate::fetch::{FetchRules, accept_header};
use crate::metrics;
use crate::page::PageRules;
use crate::relabel::{Relabel, RelabelError};
use crate::scrape_loop::{PoolRules, ScrapeLoop, TargetStatus};
use crate::target::{NoTarget, Target, make_target};
use trefoil_client::HttpClient;

/// A target as the targets API shows it.
#[derive(Debug, Clone)]
pub struct ActiveTarget {
    /// Job name of the configuration.
    pub pool: String,
    /// URL, labels, times.
    pub target: Target,
    /// How the last scrape went.
    pub status: TargetStatus,
}

/// A target that is not scraped.
#[derive(Debug, Clone)]
pub struct DroppedTarget {
    /// Job name of the configuration.
    pub pool: String,
    /// Labels before relabelling.
    pub discovered: Labels,
}

struct Running {
    target: Target,
    status: Arc<Mutex<TargetStatus>>,
    removed: Arc<Notify>,
}

#[derive(Default)]
struct Pool {
    config: ScrapeConfig,
    running: BTreeMap<u64, Running>,
    dropped: Vec<Labels>,
}

/// Owns the scrape loops.
pub struct ScrapeManager {
    writer: Arc<dyn MetricWriter>,
    clock: SharedClock,
    tasks: Tasks,
    limits: Limits,
    permits: Arc<Semaphore>,
    pools: Mutex<BTreeMap<String, Pool>>,
}

/// How many dropped targets a pool remembers unless `keep_dropped_targets` says otherwise.
const DROPPED_MAX: usize = 1000;

impl ScrapeManager {
    /// Makes a manager without targets.
    pub fn new(writer: Arc<dyn MetricWriter>, clock: SharedClock, tasks: Tasks, limits: Limits) -> Self {
        let permits = Arc::new(Semaphore::new(limits.scrape_concurrency_max));
        Self { writer, clock, tasks, limits, permits, pools: Mutex::default() }
    }

    /// Puts a checked configuration in force. Loops of targets whose pool did not change go on undisturbed; the
    /// others end, or begin. Errors leave everything as it was.
    pub fn apply(&self, configs: &[ScrapeConfig]) -> Result<(), RelabelError> {
        let compiled = configs
            .iter()
            .map(|c| Ok((c, Relabel::compile(&c.relabel_configs)?, Relabel::compile(&c.metric_relabel_configs)?)))
            .collect::<Result<Vec<_>, RelabelError>>()?;
        let mut pools = self.pools.lock();
        let mut old = std::mem::take(&mut *pools);
        let mut total = 0;
        for (config, relabel, metric_relabel) in compiled {
            let mut pool = old.remove(&config.job_name).unwrap_or_default();
            let changed = pool.config != *config;
            pool.config = config.clone();
            if changed {
                self.fill(&mut pool, &relabel, metric_relabel, &mut total);
            } else {
                total += pool.running.len();
            }
            pools.insert(config.job_name.clone(), pool);
        }
        for pool in old.into_values() {
            pool.running.values().for_each(|r| r.removed.notify_one());
        }
        metrics::TARGETS.set(total as i64);
        info!(pools = pools.len(), targets = total, "scrape configuration in force");
        Ok(())
    }

    /// Replaces the loops of a pool whose configuration changed.
    fn fill(&self, pool: &mut Pool, relabel: &Relabel, metric_relabel: Relabel, total: &mut usize) {
        let config = &pool.config;
        let rules = Arc::new(self.pool_rules(config, metric_relabel));
        let (mut targets, mut dropped) = (BTreeMap::new(), Vec::new());
        for (group, at) in config
            .discovery
            .static_configs
            .iter()
            .enumerate()
            .flat_map(|(i, g)| g.targets.iter().map(move |t| ((i, g), t)))
        {
            let mut labels = LabelsBuilder::new();
            for (name, value) in group.1.labels.iter() {
                labels.set(name, value);
            }
            labels.set("__address__", at.as_str());
            match make_target(config, relabel, &labels) {
                Ok(target) => {
                    targets.insert(target.key(), target);
                }
                Err((discovered, NoTarget::Dropped)) => dropped.push(discovered),
                Err((discovered, NoTarget::Invalid(reason))) => {
                    warn!(job = %config.job_name, group = group.0, target = %at, %reason, "target is not usable");
                    dropped.push(discovered);
                }
            }
        }
        dropped.truncate(match config.keep_dropped_targets {
            0 => DROPPED_MAX,
            n => usize::try_from(n).unwrap_or(DROPPED_MAX),
        });
        if config.target_limit > 0 && targets.len() as u64 > config.target_limit {
            warn!(job = %config.job_name, targets = targets.len(), limit = config.target_limit, "target_limit exceeded, pool is not scraped");
            targets.clear();
        }
        let mut running = BTreeMap::new();
        for old in std::mem::take(&mut pool.running).into_values() {
            old.removed.notify_one();
        }
        for (key, target) in targets {
            if *total >= self.limits.scrape_targets_max {
                trefoil_runtime::limits::hit("scrape_targets_max");
                dropped.push(target.discovered);
                continue;
            }
            *total += 1;
            running.insert(key, self.start(target, Arc::clone(&rules)));
        }
        pool.running = running;
        pool.dropped = dropped;
    }

    fn start(&self, target: Target, rules: Arc<PoolRules>) -> Running {
        let status = Arc::<Mutex<TargetStatus>>::default();
        let removed = Arc::new(Notify::new());
        let one = ScrapeLoop { target: target.clone(), rules, status: Arc::clone(&status) };
        let (writer, clock) = (Arc::clone(&self.writer), Arc::clone(&self.clock));
        let (permits, gone) = (Arc::clone(&self.permits), Arc::clone(&removed));
        self.tasks.spawn_once("scrape loop", Phase::Ingest, OnError::Log, move |stop| async move {
            one.run(writer, clock, permits, stop, gone).await;
            Ok(())
        });
        Running { target, status, removed }
    }

    fn pool_rules(&self, config: &ScrapeConfig, metric_relabel: Relabel) -> PoolRules {
        let protocols = config.scrape_protocols.clone().unwrap_or_else(|| ScrapeProtocol::DEFAULTS.to_vec());
        let escaping = config.metric_name_escaping_scheme.unwrap_or(EscapingScheme::AllowUtf8);
        let own_limit = config.body_size_limit.as_u64();
        let most = self.limits.scrape_body_bytes_max;
        PoolRules {
            client: HttpClient::new(&config.http, self.limits.scrape_redirects_max).map_err(|e| e.to_string()),
            fetch: FetchRules {
                accept: accept_header(&protocols, escaping),
                compression: config.enable_compression,
                body_bytes_max: if own_limit > 0 { own_limit } else { most },
                fallback: config.fallback_scrape_protocol.and_then(text_format),
            },
            page: PageRules {
                target: Labels::empty(),
                honor_labels: config.honor_labels,
                honor_timestamps: config.honor_timestamps,
                track_timestamps_staleness: config.track_timestamps_staleness,
                metric_relabel: Arc::new(metric_relabel),
                sample_limit: config.sample_limit,
                label_limit: config.label_limit,
                label_name_length_limit: config.label_name_length_limit,
                label_value_length_limit: config.label_value_length_limit,
            },
            extra_metrics: config.extra_scrape_metrics.unwrap_or(false),
            samples_max: self.limits.scrape_samples_max,
        }
    }

    /// Job names, sorted.
    pub fn pools(&self) -> Vec<String> {
        self.pools.lock().keys().cloned().collect()
    }

    /// Active targets by pool, then URL.
    pub fn active(&self) -> Vec<ActiveTarget> {
        let pools = self.pools.lock();
        let mut out: Vec<ActiveTarget> = pools
            .iter()
            .flat_map(|(name, pool)| {
                pool.running.values().map(|r| ActiveTarget {
                    pool: name.clone(),
                    target: r.target.clone(),
                    status: r.status.lock().clone(),
                })
            })
            .collect();
        out.sort_by(|a, b| {
            (&a.pool, a.target.url.as_str(), &a.target.labels).cmp(&(&b.pool, b.target.url.as_str(), &b.target.labels))
        });
        out
    }

    /// Dropped targets by pool.
    pub fn dropped(&self) -> Vec<DroppedTarget> {
        let pools = self.pools.lock();
        pools
            .iter()
            .flat_map(|(name, pool)| {
                pool.dropped.iter().map(|d| DroppedTarget { pool: name.clone(), discovered: d.clone() })
            })
            .collect()
    }
}

fn text_format(protocol: ScrapeProtocol) -> Option<TextFormat> {
    match protocol {
        ScrapeProtocol::OpenMetricsText0_0_1 | ScrapeProtocol::OpenMetricsText1_0_0 => Some(TextFormat::OpenMetrics),
        ScrapeProtocol::PrometheusText0_0_4 | ScrapeProtocol::PrometheusText1_0_0 => Some(TextFormat::Classic),
        ScrapeProtocol::PrometheusProto => None,
    }
}
