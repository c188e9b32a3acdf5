//! Command line flags over the file, under the names of Prometheus'.

use std::path::PathBuf;

use crate::config::Config;
use crate::error::{ConfigError, Diagnostic, Pos};
use crate::trefoil::{LogFormat, LogLevel, check_cors_origin, check_external_url};
use crate::values::{Limit, ListenAddress};
use crate::{ByteSize, PromDuration};

/// What flags say; `None` leaves what the file says. Relative paths are relative to the working directory.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct FlagOverrides {
    /// `--storage.tsdb.path`: `trefoil.data_dir`.
    pub storage_tsdb_path: Option<PathBuf>,
    /// `--storage.tsdb.retention.time`: how long metrics are kept, over `storage.tsdb.retention.time`.
    pub storage_tsdb_retention_time: Option<String>,
    /// `--storage.tsdb.retention.size`: how many bytes of metrics are kept, over `storage.tsdb.retention.size`.
    pub storage_tsdb_retention_size: Option<String>,
    /// `--storage.tsdb.retention.percentage`: how many percent of the disk metrics may take, over
    /// `storage.tsdb.retention.percentage`.
    pub storage_tsdb_retention_percentage: Option<String>,
    /// `--web.listen-address`, each time it was given: `trefoil.listeners.http.address` and `more_addresses`.
    pub web_listen_address: Vec<String>,
    /// `--web.external-url`: `trefoil.external_url`.
    pub web_external_url: Option<String>,
    /// `--web.enable-lifecycle`: `trefoil.enable_lifecycle`.
    pub web_enable_lifecycle: bool,
    /// `--web.enable-admin-api`: `trefoil.enable_admin_api`.
    pub web_enable_admin_api: bool,
    /// `--web.cors.origin`: `trefoil.cors_origin`.
    pub web_cors_origin: Option<String>,
    /// `--web.config.file`: `trefoil.web_config_file`.
    pub web_config_file: Option<PathBuf>,
    /// `--log.level`: `trefoil.self_telemetry.log_level`.
    pub log_level: Option<String>,
    /// `--log.format`: `trefoil.self_telemetry.log_format` (`logfmt` is `text`).
    pub log_format: Option<String>,
    /// `--query.lookback-delta`: `trefoil.query_lookback`.
    pub query_lookback_delta: Option<String>,
    /// `--query.timeout`: `trefoil.limits.query_timeout`.
    pub query_timeout: Option<String>,
    /// `--query.max-concurrency`: `trefoil.limits.query_concurrency`.
    pub query_max_concurrency: Option<String>,
    /// `--query.max-samples`: `trefoil.limits.query_samples_max`.
    pub query_max_samples: Option<String>,
    /// `--web.max-connections`: `trefoil.limits.connections_max`.
    pub web_max_connections: Option<String>,
    /// `--alertmanager.notification-queue-capacity`: `trefoil.limits.notification_queue_max`.
    pub alertmanager_notification_queue_capacity: Option<String>,
    /// `--otlp.grpc-address`: `trefoil.listeners.otlp_grpc.address`.
    pub otlp_grpc_address: Option<String>,
    /// `--otlp.http-address`: `trefoil.listeners.otlp_http.address`.
    pub otlp_http_address: Option<String>,
}

impl FlagOverrides {
    /// Puts the flags over a configuration; all faults of all flags at once.
    pub fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        let mut faults = Vec::new();
        let mut fault = |flag: &str, message: String| {
            faults.push(Diagnostic { file: None, pos: Pos::NOWHERE, message: format!("flag --{flag}: {message}") });
        };
        let trefoil = &mut config.trefoil;
        if let Some(path) = &self.storage_tsdb_path {
            trefoil.data_dir = Some(path.clone());
        }
        if let Some(text) = &self.storage_tsdb_retention_time {
            match PromDuration::parse(text) {
                Ok(time) => {
                    config.storage.tsdb.retention.time = PromDuration::ZERO;
                    trefoil.retention.metrics = if time.is_zero() { Limit::Unlimited } else { Limit::At(time) };
                }
                Err(message) => fault("storage.tsdb.retention.time", message),
            }
        }
        if let Some(text) = &self.storage_tsdb_retention_size {
            match ByteSize::parse(text) {
                Ok(size) => {
                    config.storage.tsdb.retention.size = ByteSize::ZERO;
                    let limit = if size.as_i64() > 0 { Limit::At(size) } else { Limit::Unlimited };
                    trefoil.retention.metrics_bytes = limit;
                }
                Err(message) => fault("storage.tsdb.retention.size", message),
            }
        }
        if let Some(text) = &self.storage_tsdb_retention_percentage {
            match text.parse::<f64>() {
                Ok(percentage) if (0.0..=100.0).contains(&percentage) => {
                    config.storage.tsdb.retention.percentage = percentage;
                }
                Ok(_) => fault("storage.tsdb.retention.percentage", format!("{text} is not in the range [0, 100]")),
                Err(_) => fault("storage.tsdb.retention.percentage", format!("{text:?} is not a number")),
            }
        }
        for (i, text) in self.web_listen_address.iter().enumerate() {
            let http = &mut trefoil.listeners.http;
            match ListenAddress::parse(text) {
                Ok(address) if i == 0 => {
                    http.address = address;
                    http.more_addresses.clear();
                }
                Ok(address) => http.more_addresses.push(address),
                Err(message) => fault("web.listen-address", message),
            }
        }
        for (flag, text, slot) in [
            ("otlp.grpc-address", &self.otlp_grpc_address, &mut trefoil.listeners.otlp_grpc),
            ("otlp.http-address", &self.otlp_http_address, &mut trefoil.listeners.otlp_http),
        ] {
            match text.as_deref().map(ListenAddress::parse) {
                Some(Ok(address)) => slot.address = address,
                Some(Err(message)) => fault(flag, message),
                None => {}
            }
        }
        if let Some(url) = &self.web_external_url {
            match check_external_url(url) {
                Ok(()) => trefoil.external_url.clone_from(url),
                Err(message) => fault("web.external-url", message),
            }
        }
        trefoil.enable_lifecycle |= self.web_enable_lifecycle;
        trefoil.enable_admin_api |= self.web_enable_admin_api;
        if let Some(origin) = &self.web_cors_origin {
            match check_cors_origin(origin) {
                Ok(()) => trefoil.cors_origin.clone_from(origin),
                Err(message) => fault("web.cors.origin", message),
            }
        }
        if let Some(path) = &self.web_config_file {
            trefoil.web_config_file = Some(path.clone());
        }
        if let Some(word) = &self.log_level {
            match LogLevel::from_word(word) {
                Some(level) => trefoil.self_telemetry.log_level = level,
                None => {
                    fault("log.level", format!("unknown log level {word:?} (one of: {})", LogLevel::WORDS.join(", ")))
                }
            }
        }
        if let Some(word) = &self.log_format {
            let word = if word == "logfmt" { "text" } else { word };
            match LogFormat::from_word(word) {
                Some(format) => trefoil.self_telemetry.log_format = format,
                None => fault("log.format", format!("unknown log format {word:?} (one of: logfmt, text, json)")),
            }
        }
        for (flag, text, slot) in [
            ("query.max-concurrency", &self.query_max_concurrency, &mut trefoil.limits.limits.query_concurrency),
            ("web.max-connections", &self.web_max_connections, &mut trefoil.limits.limits.connections_max),
            (
                "alertmanager.notification-queue-capacity",
                &self.alertmanager_notification_queue_capacity,
                &mut trefoil.limits.limits.notification_queue_max,
            ),
        ] {
            match text.as_deref().map(positive) {
                Some(Ok(number)) => *slot = usize::try_from(number).unwrap_or(usize::MAX),
                Some(Err(message)) => fault(flag, message),
                None => {}
            }
        }
        match self.query_max_samples.as_deref().map(positive) {
            Some(Ok(number)) => trefoil.limits.limits.query_samples_max = number,
            Some(Err(message)) => fault("query.max-samples", message),
            None => {}
        }
        let duration = |text: &String| match PromDuration::parse(text) {
            Ok(time) if time.is_zero() => Err("must not be 0".to_owned()),
            other => other,
        };
        match self.query_timeout.as_ref().map(duration) {
            Some(Ok(time)) => trefoil.limits.limits.query_timeout = time.as_std(),
            Some(Err(message)) => fault("query.timeout", message),
            None => {}
        }
        match self.query_lookback_delta.as_ref().map(duration) {
            Some(Ok(time)) => trefoil.query_lookback = time,
            Some(Err(message)) => fault("query.lookback-delta", message),
            None => {}
        }
        if faults.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(faults)) }
    }
}

/// A whole number that is not 0.
fn positive(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("must not be 0".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("{text:?} is not a whole number")),
    }
}

#[cfg(test)]
mod limit_tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn flags_of_queries_are_limits() {
        let text = |t: &str| Some(t.to_owned());
        let mut config = Config::default();
        let flags = FlagOverrides {
            query_lookback_delta: text("90s"),
            query_timeout: text("2m"),
            query_max_concurrency: text("20"),
            query_max_samples: text("50"),
            web_max_connections: text("512"),
            alertmanager_notification_queue_capacity: text("7"),
            ..FlagOverrides::default()
        };
        flags.apply(&mut config).unwrap();
        let limits = &config.trefoil.limits.limits;
        assert_eq!(config.trefoil.query_lookback, PromDuration::from_secs(90));
        assert_eq!((limits.query_timeout, limits.query_samples_max), (Duration::from_secs(120), 50));
        assert_eq!((limits.query_concurrency, limits.connections_max, limits.notification_queue_max), (20, 512, 7));
        let bad = FlagOverrides {
            query_lookback_delta: text("0s"),
            query_timeout: text("soon"),
            query_max_concurrency: text("0"),
            query_max_samples: text("-1"),
            ..FlagOverrides::default()
        };
        let error = bad.apply(&mut config).unwrap_err().to_string();
        for flag in ["query.lookback-delta", "query.timeout", "query.max-concurrency", "query.max-samples"] {
            assert!(error.contains(&format!("flag --{flag}: ")), "{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_a_number_of_a_hundred() {
        let apply = |text: &str| {
            let mut config = Config::default();
            config.storage.tsdb.retention.percentage = 3.0;
            let flags =
                FlagOverrides { storage_tsdb_retention_percentage: Some(text.to_owned()), ..FlagOverrides::default() };
            flags.apply(&mut config).map(|()| config.metrics_retention_share()).map_err(|error| error.to_string())
        };
        assert_eq!(apply("80"), Ok(Some(0.8)));
        assert_eq!(apply("12.5"), Ok(Some(0.125)));
        assert_eq!(apply("0"), Ok(None));
        for bad in ["-1", "100.1", "NaN", "80%", ""] {
            let error = apply(bad).unwrap_err();
            assert!(error.contains("--storage.tsdb.retention.percentage"), "{bad}: {error}");
        }
    }
}
