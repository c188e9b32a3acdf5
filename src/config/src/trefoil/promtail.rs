//! The part of promtail's own configuration that names log files.

use std::path::PathBuf;

use crate::decode::{Sink, section};
use crate::trefoil::logs::{LogFileEncoding, LogFileFormat, LogFilesConfig, PipelineStages};
use crate::values::{LabelMap, NotRun};
use crate::yaml::Node;

/// Sections of promtail that are read over.
macro_rules! promtail {
    ([$($top:ident),*] [$($job:ident),*]) => {
        section! {
            /// promtail's configuration.
            pub(crate) struct PromtailFile {
                /// What is read.
                scrape_configs: Vec<PromtailJob> = Vec::new(),
                $( /// Not run.
                $top: NotRun = NotRun, )*
            }
        }

        section! {
            /// A job of promtail's.
            struct PromtailJob {
                /// Name.
                job_name: String = String::new(),
                /// Stages.
                pipeline_stages: PipelineStages = PipelineStages::default(),
                /// Files and labels.
                static_configs: Vec<PromtailTargets> = Vec::new(),
                /// What bytes mean.
                encoding: Option<LogFileEncoding> = None,
                $( /// Not run.
                $job: NotRun = NotRun, )*
            }
        }
    };
}

promtail!(
    [server, clients, client, positions, limits_config, target_config, tracing, options, global]
    [
        journal, syslog, loki_push_api, windows_events, gcplog, azure_event_hub, kafka, gelf, cloudflare, heroku_drain,
        relabel_configs, file_sd_configs, kubernetes_sd_configs, consul_sd_configs, consulagent_sd_configs,
        docker_sd_configs, decompression, limit_config
    ]
);

section! {
    /// Files of a job.
    struct PromtailTargets {
        /// Only said for form's sake.
        targets: Vec<String> = Vec::new(),
        /// Labels, `__path__` among them.
        labels: LabelMap = LabelMap::default(),
    }
    check PromtailTargets::check
}

impl PromtailTargets {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        if !self.labels.0.contains_key("__path__") {
            sink.warn(node.pos, "", "without the label __path__ nothing is read");
        }
    }
}

impl PromtailFile {
    /// The sets of log files that it names.
    pub(crate) fn files(&self) -> Vec<LogFilesConfig> {
        let jobs = self.scrape_configs.iter();
        jobs.flat_map(|job| job.static_configs.iter().filter_map(|targets| job.files(targets))).collect()
    }
}

impl PromtailJob {
    fn files(&self, targets: &PromtailTargets) -> Option<LogFilesConfig> {
        let labels = &targets.labels.0;
        let path = labels.get("__path__")?;
        Some(LogFilesConfig {
            paths: vec![PathBuf::from(path)],
            exclude: labels.get("__path_exclude__").map(PathBuf::from).into_iter().collect(),
            labels: LabelMap(
                labels.iter().filter(|(n, _)| !n.starts_with("__")).map(|(n, v)| (n.clone(), v.clone())).collect(),
            ),
            // promtail takes lines as they are; stages say what they hold.
            format: LogFileFormat::Raw,
            encoding: self.encoding.unwrap_or(LogFileEncoding::Utf8),
            pipeline_stages: self.pipeline_stages.clone(),
            ..LogFilesConfig::default()
        })
    }
}
