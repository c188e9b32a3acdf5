//! The whole configuration, and how a text becomes one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::alerting::AlertingConfig;
use crate::byte_size::ByteSize;
use crate::decode::{Encode, Sink, decode_section, repeats, section};
use crate::env;
use crate::error::{ConfigError, Warning};
use crate::global::{GlobalConfig, RuntimeConfig};
use crate::globs;
use crate::names::ValidationScheme;
use crate::relabel;
use crate::remote::{RemoteReadConfig, RemoteWriteConfig};
use crate::scrape::ScrapeConfig;
use crate::storage::{OtlpConfig, StorageConfig, TracingConfig};
use crate::trefoil::{InlineAlertmanager, PromtailFile, TrefoilConfig, check_stages_within};
use crate::values::Limit;
use crate::web_config::WebConfig;
use crate::yaml::{self, Kind, Node, Value};
use crate::{FlagOverrides, PromDuration};

/// Looks an environment variable up.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Largest number of files that `scrape_config_files` may name.
const INCLUDE_FILES_MAX: usize = 1_000;

section! {
    /// The whole configuration: a superset of Prometheus', with all of Trefoil's own under `trefoil`.
    ///
    /// The default, which is that of an empty file and of none, scrapes the server itself and listens on loopback.
    pub struct Config {
        /// Defaults for all jobs.
        pub global: GlobalConfig = GlobalConfig::default(),
        /// Settings of the Go runtime; no effect.
        pub runtime: RuntimeConfig = RuntimeConfig::default(),
        /// Where alerts are sent.
        pub alerting: AlertingConfig = AlertingConfig::default(),
        /// Rule files; the last part of a path may hold one `*`.
        pub rule_files: Vec<PathBuf> = Vec::new(),
        /// Files with further `scrape_configs`; read at load.
        pub scrape_config_files: Vec<PathBuf> = Vec::new(),
        /// Jobs of this file.
        pub scrape_configs: Vec<ScrapeConfig> = Vec::new(),
        /// Stores.
        pub storage: StorageConfig = StorageConfig::default(),
        /// Where own spans are sent to.
        pub tracing: Option<TracingConfig> = None,
        /// Stores that samples are sent to.
        pub remote_write: Vec<RemoteWriteConfig> = Vec::new(),
        /// Stores that queries read from.
        pub remote_read: Vec<RemoteReadConfig> = Vec::new(),
        /// How OTLP metrics are taken in.
        pub otlp: OtlpConfig = OtlpConfig::default(),
        /// Trefoil's own settings.
        pub trefoil: TrefoilConfig = TrefoilConfig::default(),
    }
    check Config::check
}

section! {
    /// A file named by `scrape_config_files`.
    struct IncludedFile {
        /// Jobs.
        scrape_configs: Vec<ScrapeConfig> = Vec::new(),
    }
}

/// The files that are there now of patterns, in their order, each once.
fn expanded(patterns: &[PathBuf]) -> Result<Vec<PathBuf>, ConfigError> {
    let mut out: Vec<PathBuf> = Vec::new();
    for pattern in patterns {
        let paths = globs::expand(pattern).map_err(|source| ConfigError::Read { path: pattern.clone(), source })?;
        for path in paths {
            if !out.contains(&path) {
                out.push(path);
            }
        }
    }
    Ok(out)
}

impl Config {
    /// The configuration as YAML: what is in effect, secrets as `<secret>`. It loads again, unless it
    /// holds a bearer token in clear.
    pub fn to_yaml(&self) -> String {
        let mut tree = self.encode();
        escape_environment(&mut tree);
        tree.to_yaml()
    }

    /// How long metrics are kept: `storage.tsdb.retention.time` if given, else `trefoil.retention.metrics`.
    pub fn metrics_retention(&self) -> Limit<PromDuration> {
        let time = self.storage.tsdb.retention.time;
        if time.is_zero() { self.trefoil.retention.metrics } else { Limit::At(time) }
    }

    /// How many bytes of metrics are kept: `storage.tsdb.retention.size` if given, else
    /// `trefoil.retention.metrics_bytes`.
    pub fn metrics_retention_bytes(&self) -> Limit<ByteSize> {
        let size = self.storage.tsdb.retention.size;
        if size.as_i64() > 0 { Limit::At(size) } else { self.trefoil.retention.metrics_bytes }
    }

    /// The share of the disk, 0 to 1, that metrics may take, instead of a number of bytes; `None` when none is given.
    pub fn metrics_retention_share(&self) -> Option<f64> {
        let percentage = self.storage.tsdb.retention.percentage;
        (percentage > 0.0).then_some(percentage / 100.0)
    }

    /// The rule files that are there now, in the order of `rule_files`, each once.
    pub fn rule_file_paths(&self) -> Result<Vec<PathBuf>, ConfigError> {
        expanded(&self.rule_files)
    }

    /// The rule files over logs that are there now, in the order of `trefoil.logs.rule_files`, each once.
    pub fn log_rule_file_paths(&self) -> Result<Vec<PathBuf>, ConfigError> {
        expanded(&self.trefoil.logs.rule_files)
    }

    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let logs = node.get("trefoil").and_then(|n| n.get("logs"));
        for (list, what) in [
            (node.get("rule_files"), "rule"),
            (node.get("scrape_config_files"), "scrape config"),
            (logs.and_then(|n| n.get("rule_files")), "rule"),
        ] {
            let Some(Kind::Seq(items)) = list.map(|n| &n.kind) else { continue };
            for item in items {
                if let Kind::Scalar(scalar) = &item.kind {
                    let message = format!("invalid {what} file path {:?}", scalar.text);
                    sink.require(globs::is_valid_pattern(&scalar.text), item.pos, message);
                }
            }
        }
        resolve_jobs(&mut self.scrape_configs, &self.global, node.get("scrape_configs"), sink);
        let scheme = self.global.metric_name_validation_scheme;
        sink.within("alerting", |sink| self.alerting.resolve(scheme, node.get("alerting"), sink));
        self.check_remote(node, sink);
        let downsampling = node.get("trefoil").and_then(|n| n.get("downsampling"));
        let trefoil = &self.trefoil;
        let rules = &trefoil.retention.metrics_rules;
        check_stages_within(&trefoil.downsampling, rules, self.metrics_retention(), downsampling, sink);
        if self.otlp.keeps_utf8() && scheme == ValidationScheme::Legacy {
            let pos = node.get("otlp").map_or(node.pos, |n| n.key_pos("translation_strategy"));
            let name = self.otlp.translation_strategy;
            sink.error(
                pos,
                format!("OTLP translation strategy {:?} is not allowed when UTF8 is disabled", name.as_str()),
            );
        }
        if self.tracing.is_some() {
            let message = "sending own spans elsewhere is not run yet: they go to the own store only";
            sink.warn(node.key_pos("tracing"), "tracing", message);
        }
    }

    fn check_remote(&self, node: &Node, sink: &mut Sink) {
        let item_pos = |key: &str, i: usize| node.get(key).and_then(|n| n.item(i)).map_or(node.pos, |n| n.pos);
        let repeated = repeats(self.remote_write.iter().map(|r| r.name.as_str()));
        for (i, remote) in self.remote_write.iter().enumerate() {
            let message = format!("found multiple remote write configs with job name {:?}", remote.name);
            sink.require(!repeated[i], item_pos("remote_write", i), message);
            let rules = node.get("remote_write").and_then(|n| n.item(i)).and_then(|n| n.get("write_relabel_configs"));
            let scheme = self.global.metric_name_validation_scheme;
            relabel::validate_all(&remote.write_relabel_configs, rules, scheme, sink);
        }
        let repeated = repeats(self.remote_read.iter().map(|r| r.name.as_str()));
        for (i, remote) in self.remote_read.iter().enumerate() {
            let message = format!("found multiple remote read configs with job name {:?}", remote.name);
            sink.require(!repeated[i], item_pos("remote_read", i), message);
        }
        if !self.remote_write.is_empty() {
            let message = "remote write is not run yet: no samples are sent";
            sink.warn(node.key_pos("remote_write"), "remote_write", message);
        }
        if !self.remote_read.is_empty() {
            let message = "remote read is not run yet: queries see the own store only";
            sink.warn(node.key_pos("remote_read"), "remote_read", message);
        }
    }
}

/// Lets jobs inherit and refuses names that come twice.
fn resolve_jobs(jobs: &mut [ScrapeConfig], global: &GlobalConfig, node: Option<&Node>, sink: &mut Sink) {
    // A faulty job leaves a gap in the list, then places would be those of its neighbours.
    let complete = matches!(node.map(|n| &n.kind), Some(Kind::Seq(items)) if items.len() == jobs.len());
    let null = Node::null(node.map_or_else(Default::default, |n| n.pos));
    let repeated = repeats(jobs.iter().map(|j| j.job_name.as_str()));
    for (i, job) in jobs.iter_mut().enumerate() {
        let own = node.and_then(|n| n.item(i)).filter(|_| complete).unwrap_or(&null);
        job.resolve(global, own, sink);
        let name = &job.job_name;
        let seen = repeated[i];
        sink.require(!seen, own.key_pos("job_name"), format!("found multiple scrape configs with job name {name:?}"));
    }
}

/// A valid configuration with what belongs to it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LoadedConfig {
    /// The configuration.
    pub config: Config,
    /// All jobs: those of the file, then those of `scrape_config_files`.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// The web configuration file, if one is named.
    pub web: Option<WebConfig>,
    /// What is not run, or will surprise.
    pub warnings: Vec<Warning>,
    /// The text as it was read; empty without a file.
    pub source: String,
    /// The file, if there is one.
    pub path: Option<PathBuf>,
}

impl Config {
    /// Reads and checks a file and all it names: included jobs, the Alertmanager file, the web configuration file.
    ///
    /// Relative paths in it are resolved against its directory. Environment variables are those of the process.
    pub fn load(path: &Path) -> Result<LoadedConfig, ConfigError> {
        Self::load_with(Some(path), &FlagOverrides::default(), &|name| std::env::var(name).ok())
    }

    /// As [`Config::load`], with flags over the file; without a file the defaults.
    pub fn load_with(path: Option<&Path>, flags: &FlagOverrides, env: Env<'_>) -> Result<LoadedConfig, ConfigError> {
        let mut loaded = match path {
            None => LoadedConfig::default(),
            Some(path) => {
                let text = read(path)?;
                let base_dir = path.parent().unwrap_or(Path::new(""));
                let mut loaded = parse(&text, Some(path), base_dir, env)?;
                loaded.path = Some(path.to_path_buf());
                loaded
            }
        };
        flags.apply(&mut loaded.config)?;
        if let Some(path) = &loaded.config.trefoil.web_config_file {
            let (web, warnings) = WebConfig::load_warned(path)?;
            loaded.web = Some(web);
            loaded.warnings.extend(warnings);
        }
        loaded.check_doors()?;
        Ok(loaded)
    }

    /// Reads and checks a text, and the files it names. The doors are not checked (see [`LoadedConfig::check_doors`]).
    pub fn parse(text: &str, base_dir: &Path, env: Env<'_>) -> Result<LoadedConfig, ConfigError> {
        parse(text, None, base_dir, env)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let fault = |source| ConfigError::Read { path: path.to_path_buf(), source };
    let length = std::fs::metadata(path).map_err(fault)?.len();
    if length > yaml::FILE_BYTES_MAX as u64 {
        let message = format!("file of {length} bytes is larger than the limit of {} bytes", yaml::FILE_BYTES_MAX);
        return Err(fault(std::io::Error::new(std::io::ErrorKind::InvalidData, message)));
    }
    std::fs::read_to_string(path).map_err(fault)
}

fn parse(text: &str, file: Option<&Path>, base_dir: &Path, env: Env<'_>) -> Result<LoadedConfig, ConfigError> {
    let mut sink = Sink::new(file, base_dir);
    let Some(mut root) = parse_document(text, &mut sink) else { return Err(ConfigError::Invalid(sink.errors)) };
    expand_environment(&mut root, env);
    let config: Option<Config> = decode_section(&root, &mut sink);
    let Some(mut config) = config.filter(|_| sink.errors.is_empty()) else { return Err(invalid(sink)) };
    let mut scrape_configs = config.scrape_configs.clone();
    include_jobs(&config, &mut scrape_configs, &mut sink)?;
    include_alertmanager(&mut config, &mut sink)?;
    include_promtail(&mut config, &mut sink)?;
    if !sink.errors.is_empty() {
        return Err(invalid(sink));
    }
    let mut warnings = sink.warnings;
    shorten(&mut warnings);
    Ok(LoadedConfig { config, scrape_configs, web: None, warnings, source: text.to_owned(), path: None })
}

/// All faults, in the order of their places; one place is not reported twice with the same words.
fn invalid(sink: Sink) -> ConfigError {
    let mut errors = sink.errors;
    errors.sort_by_key(|e| e.pos);
    errors.dedup();
    ConfigError::Invalid(errors)
}

fn parse_document(text: &str, sink: &mut Sink) -> Option<Node> {
    match yaml::parse(text) {
        Ok(document) => {
            if let Some(pos) = document.more {
                sink.warn(pos, "", "only the first document of the file is read");
            }
            Some(document.root)
        }
        Err(faults) => {
            for (pos, message) in faults {
                sink.error(pos, message);
            }
            None
        }
    }
}

/// The reverse of [`expand_environment`]: a dollar sign is doubled where it would be expanded when the text is loaded.
fn escape_environment(root: &mut Value) {
    let Value::Map(entries) = root else { return };
    for (key, value) in entries {
        match (key.as_str(), value) {
            ("trefoil", value) => env::escape_value(value),
            ("global", Value::Map(global)) => {
                global.iter_mut().filter(|(k, _)| k == "external_labels").for_each(|(_, v)| env::escape_value(v));
            }
            _ => {}
        }
    }
}

/// Variables are expanded in the values of `global.external_labels` and below `trefoil`, nowhere else.
fn expand_environment(root: &mut Node, env: Env<'_>) {
    let Kind::Map(entries) = &mut root.kind else { return };
    for entry in entries {
        match entry.key.as_str() {
            "trefoil" => env::expand_node(&mut entry.value, env),
            "global" => {
                if let Kind::Map(inner) = &mut entry.value.kind {
                    let labels = inner.iter_mut().filter(|e| e.key == "external_labels");
                    labels.for_each(|e| env::expand_node(&mut e.value, env));
                }
            }
            _ => {}
        }
    }
}

/// Adds the jobs of included files.
fn include_jobs(config: &Config, jobs: &mut Vec<ScrapeConfig>, sink: &mut Sink) -> Result<(), ConfigError> {
    let mut names: HashMap<String, String> =
        jobs.iter().map(|j| (j.job_name.clone(), "main config file".to_owned())).collect();
    let mut files = 0;
    for pattern in &config.scrape_config_files {
        let paths = globs::expand(pattern).map_err(|source| ConfigError::Read { path: pattern.clone(), source })?;
        for path in paths {
            files += 1;
            if files > INCLUDE_FILES_MAX {
                let message = format!("scrape_config_files names more than {INCLUDE_FILES_MAX} files");
                sink.error(Default::default(), message);
                return Ok(());
            }
            let text = read(&path)?;
            let base_dir = path.parent().unwrap_or(Path::new(""));
            let mut own = Sink::new(Some(&path), base_dir);
            if let Some(root) = parse_document(&text, &mut own)
                && let Some(mut included) = decode_section::<IncludedFile>(&root, &mut own)
            {
                let node = root.get("scrape_configs");
                resolve_jobs(&mut included.scrape_configs, &config.global, node, &mut own);
                for (i, job) in included.scrape_configs.into_iter().enumerate() {
                    if let Some(first) = names.get(&job.job_name) {
                        let pos = node.and_then(|n| n.item(i)).map_or_else(Default::default, |n| n.key_pos("job_name"));
                        let name = &job.job_name;
                        let message =
                            format!("found multiple scrape configs with job name {name:?}, first found in {first}");
                        own.error(pos, message);
                    }
                    names.entry(job.job_name.clone()).or_insert_with(|| format!("{:?}", path.display().to_string()));
                    jobs.push(job);
                }
            }
            sink.errors.append(&mut own.errors);
            sink.warnings.append(&mut own.warnings);
        }
    }
    Ok(())
}

/// Reads the Alertmanager file in place of inline keys.
fn include_alertmanager(config: &mut Config, sink: &mut Sink) -> Result<(), ConfigError> {
    let Some(path) = config.trefoil.alertmanager.as_ref().and_then(|a| a.file.clone()) else { return Ok(()) };
    let text = read(&path)?;
    let mut own = Sink::new(Some(&path), path.parent().unwrap_or(Path::new("")));
    // Alertmanager expands no variables in its file, so neither do we.
    if let Some(root) = parse_document(&text, &mut own) {
        let read: Option<InlineAlertmanager> = decode_section(&root, &mut own);
        if let Some(read) = read {
            if read.file.is_some() {
                own.error(root.key_pos("file"), "field file not found in the top level");
            }
            config.trefoil.alertmanager = Some(read);
        }
    }
    sink.errors.append(&mut own.errors);
    sink.warnings.append(&mut own.warnings);
    Ok(())
}

/// Reads promtail's configuration, if one is named; its files are then files of ours.
fn include_promtail(config: &mut Config, sink: &mut Sink) -> Result<(), ConfigError> {
    let Some(path) = config.trefoil.logs.promtail_config_file.take() else { return Ok(()) };
    let text = read(&path)?;
    let mut own = Sink::new(Some(&path), path.parent().unwrap_or(Path::new("")));
    if let Some(root) = parse_document(&text, &mut own) {
        let read: Option<PromtailFile> = decode_section(&root, &mut own);
        config.trefoil.logs.files.extend(read.iter().flat_map(PromtailFile::files));
    }
    sink.errors.append(&mut own.errors);
    sink.warnings.append(&mut own.warnings);
    Ok(())
}

/// Drops warnings about something inside of what is warned of as a whole.
fn shorten(warnings: &mut Vec<Warning>) {
    let keys: Vec<String> = warnings.iter().map(|w| w.key.clone()).filter(|k| !k.is_empty()).collect();
    let inside = |key: &str| {
        keys.iter().any(|outer| key.strip_prefix(outer.as_str()).is_some_and(|rest| rest.starts_with(['.', '['])))
    };
    warnings.retain(|w| !inside(&w.key));
}
