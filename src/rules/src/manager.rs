//! All groups in force, and reloads that keep the state of what did not change.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::info;
use trefoil_config::RuleFile;
use trefoil_model::{AlertReceiver, MetricWriter};
use trefoil_runtime::{OnError, Phase, SharedClock, Tasks};

use crate::evaluate::Evaluate;
use crate::group::{Group, GroupSnapshot, Wiring};
use crate::metrics;
use crate::rule::RuleContext;

/// What a configuration says about all rules.
#[derive(Debug, Clone)]
pub struct RuleOptions {
    /// `global.evaluation_interval` in milliseconds.
    pub interval_ms: i64,
    /// `global.rule_query_offset` in milliseconds.
    pub query_offset_ms: i64,
    /// `global.external_labels`.
    pub external_labels: Vec<(String, String)>,
    /// URL of this server, without a slash at the end.
    pub external_url: String,
    /// The page below it that shows an expression given as `q`, for example `/explore/metrics`.
    pub explore_path: String,
    /// Least time between two hand-overs of an alert that did not change, in milliseconds. The reference's default
    /// is one minute.
    pub resend_ms: i64,
}

/// Owns the groups.
pub struct RuleManager {
    query: Arc<dyn Evaluate>,
    writer: Arc<dyn MetricWriter>,
    receiver: Arc<dyn AlertReceiver>,
    clock: SharedClock,
    tasks: Tasks,
    groups: Mutex<BTreeMap<(PathBuf, String), Arc<Group>>>,
    context: Mutex<Option<Arc<RuleContext>>>,
}

impl RuleManager {
    /// Makes a manager without groups.
    pub fn new(
        query: Arc<dyn Evaluate>,
        writer: Arc<dyn MetricWriter>,
        receiver: Arc<dyn AlertReceiver>,
        clock: SharedClock,
        tasks: Tasks,
    ) -> Self {
        Self { query, writer, receiver, clock, tasks, groups: Mutex::default(), context: Mutex::default() }
    }

    /// Puts checked rule files in force. Groups that did not change go on; changed ones keep the state of their
    /// unchanged rules; those that are gone end their series.
    pub fn apply(&self, files: &[(PathBuf, RuleFile)], options: &RuleOptions) {
        let context = Arc::new(RuleContext {
            external_labels: options.external_labels.clone(),
            external_url: options.external_url.clone(),
            explore_path: options.explore_path.clone(),
            resend_ms: options.resend_ms,
        });
        let mut current = self.context.lock();
        let same_context = current.as_deref() == Some(&*context);
        *current = Some(Arc::clone(&context));
        drop(current);
        let mut groups = self.groups.lock();
        let rules_before: usize = groups.values().map(|g| g.len()).sum();
        let mut old = std::mem::take(&mut *groups);
        for (file, rules) in files {
            for config in &rules.groups {
                let group = Arc::new(Group::new(config, file.clone(), options.interval_ms, options.query_offset_ms));
                let key = group.key();
                let group = match old.remove(&key) {
                    Some(running) if same_context && running.same_as(&group) => running,
                    running => {
                        if let Some(running) = running {
                            group.take_state(&running);
                            running.removed.notify_one();
                        }
                        self.start(Arc::clone(&group), Arc::clone(&context));
                        group
                    }
                };
                groups.insert(key, group);
            }
        }
        for gone in old.into_values() {
            gone.removed.notify_one();
        }
        let rules: usize = groups.values().map(|g| g.len()).sum();
        // Other managers count there too.
        metrics::RULES.add(rules as i64 - rules_before as i64);
        info!(groups = groups.len(), rules, "rules in force");
    }

    fn start(&self, group: Arc<Group>, context: Arc<RuleContext>) {
        let wiring = Wiring {
            query: Arc::clone(&self.query),
            writer: Arc::clone(&self.writer),
            receiver: Arc::clone(&self.receiver),
            clock: Arc::clone(&self.clock),
            context,
        };
        self.tasks.spawn_once("rule group", Phase::Background, OnError::Log, move |stop| async move {
            group.run(wiring, stop).await;
            Ok(())
        });
    }

    /// All groups by file and name.
    pub fn snapshot(&self) -> Vec<GroupSnapshot> {
        self.groups.lock().values().map(|g| g.snapshot()).collect()
    }
}
