//! Rule files, loaded, checked and put in force: those over metrics, and those over logs.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;
use trefoil_api::LogqlEvaluate;
use trefoil_config::{Config, ConfigError, RuleFile};
use trefoil_promql::ParserOptions;
use trefoil_rules::{RuleManager, RuleOptions, load_rule_files, load_rule_files_by};

use crate::check::chain;

/// Least time between two hand-overs of an alert that did not change.
const RESEND_MS: i64 = 60_000;

/// Rule files with their paths, by what their expressions ask, all checked.
#[derive(Debug, Default)]
pub(crate) struct CheckedRules {
    metrics: Vec<(PathBuf, RuleFile)>,
    logs: Vec<(PathBuf, RuleFile)>,
}

/// Rule files of LogQL; all of them are good, or the faults of all of them come back.
pub(crate) fn load_logs(paths: &[PathBuf]) -> Result<Vec<(PathBuf, RuleFile)>, Vec<ConfigError>> {
    load_rule_files_by(paths, &LogqlEvaluate::check)
}

impl CheckedRules {
    /// Reads and checks the files that a configuration names. Errors: the faults of all of them.
    pub(crate) fn load(config: &Config, parser: ParserOptions) -> anyhow::Result<Self> {
        let paths = config.rule_file_paths().map_err(|e| anyhow!(chain(&e)))?;
        let log_paths = config.log_rule_file_paths().map_err(|e| anyhow!(chain(&e)))?;
        match (load_rule_files(&paths, parser), load_logs(&log_paths)) {
            (Ok(metrics), Ok(logs)) => Ok(Self { metrics, logs }),
            (metrics, logs) => {
                let faults = metrics.err().into_iter().chain(logs.err()).flatten();
                let texts: Vec<String> = faults.map(|e| chain(&e)).collect();
                Err(anyhow!("rule files: {}", texts.join("\n")))
            }
        }
    }
}

/// Who evaluates the rules.
pub(crate) struct Rules {
    /// Those over metrics.
    pub(crate) metrics: Arc<RuleManager>,
    /// Those over logs.
    pub(crate) logs: Arc<RuleManager>,
}

impl Rules {
    /// Puts checked rules in force.
    pub(crate) fn apply(&self, checked: &CheckedRules, config: &Config, external_url: &str) {
        let global = &config.global;
        let mut options = RuleOptions {
            interval_ms: global.evaluation_interval.as_ms(),
            query_offset_ms: global.rule_query_offset.as_ms(),
            external_labels: global.external_labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            external_url: external_url.to_owned(),
            explore_path: "/explore/metrics".to_owned(),
            resend_ms: RESEND_MS,
        };
        self.metrics.apply(&checked.metrics, &options);
        "/logs".clone_into(&mut options.explore_path);
        self.logs.apply(&checked.logs, &options);
    }
}
