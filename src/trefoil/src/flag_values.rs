//! What `/api/v1/status/flags` shows: all flags of Prometheus 3.14, with what is in force here where they have a meaning
//! here, else with what was given, else with the reference's default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trefoil_config::trefoil::LogFormat;
use trefoil_config::{Config, PromDuration};

use crate::cli::{Ignored, REFERENCE_FLAGS};

/// Values of flags that have no place in the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given(BTreeMap<String, String>);

impl Given {
    /// From the features and the flags without a meaning that a command line has.
    pub(crate) fn of(features: &[String], ignored: &[Ignored]) -> Self {
        let mut given = BTreeMap::from([("enable-feature".to_owned(), features.join(","))]);
        for Ignored { flag, value } in ignored {
            let name = flag.trim_start_matches("--");
            let (name, otherwise) = name.strip_prefix("no-").map_or((name, "true"), |name| (name, "false"));
            given.insert(name.to_owned(), value.clone().unwrap_or_else(|| otherwise.to_owned()));
        }
        Self(given)
    }
}

fn time(duration: Duration) -> String {
    PromDuration::from_ms(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)).to_string()
}

/// All flags by name.
pub(crate) fn flag_values(
    path: Option<&Path>,
    config: &Config,
    data: &Path,
    given: &Given,
) -> BTreeMap<String, String> {
    let trefoil = &config.trefoil;
    let limits = &trefoil.limits.limits;
    let mut values: BTreeMap<String, String> = REFERENCE_FLAGS
        .iter()
        .filter_map(|flag| Some((flag.name.to_owned(), flag.default?.to_owned())))
        .chain(given.0.iter().map(|(name, value)| (name.clone(), value.clone())))
        .collect();
    let text = |path: Option<&Path>| path.map(|p| p.display().to_string()).unwrap_or_default();
    let log_format = match trefoil.self_telemetry.log_format {
        LogFormat::Text => "logfmt",
        LogFormat::Json => "json",
    };
    let http = &trefoil.listeners.http;
    let addresses: Vec<String> =
        [&http.address].into_iter().chain(&http.more_addresses).map(ToString::to_string).collect();
    let absolute: PathBuf = std::path::absolute(data).unwrap_or_else(|_| data.into());
    let in_force = [
        ("alertmanager.notification-queue-capacity", limits.notification_queue_max.to_string()),
        ("config.file", text(path)),
        ("log.format", log_format.to_owned()),
        ("log.level", trefoil.self_telemetry.log_level.as_str().to_owned()),
        ("query.lookback-delta", trefoil.query_lookback.to_string()),
        ("query.max-concurrency", limits.query_concurrency.to_string()),
        ("query.max-samples", limits.query_samples_max.to_string()),
        ("query.timeout", time(limits.query_timeout)),
        ("storage.tsdb.path", absolute.display().to_string()),
        (
            "storage.tsdb.retention.size",
            config.metrics_retention_bytes().get().map_or("0B".to_owned(), |b| b.to_string()),
        ),
        ("storage.tsdb.retention.time", config.metrics_retention().get().map_or("0s".to_owned(), |t| t.to_string())),
        ("web.config.file", text(trefoil.web_config_file.as_deref())),
        ("web.cors.origin", trefoil.cors_origin.clone()),
        ("web.enable-admin-api", trefoil.enable_admin_api.to_string()),
        ("web.enable-lifecycle", trefoil.enable_lifecycle.to_string()),
        // Both are always there.
        ("web.enable-otlp-receiver", "true".to_owned()),
        ("web.enable-remote-write-receiver", "true".to_owned()),
        ("web.external-url", trefoil.external_url.clone()),
        ("web.listen-address", addresses.join(",")),
        ("web.max-connections", limits.connections_max.to_string()),
    ];
    values.extend(in_force.map(|(name, value)| (name.to_owned(), value)));
    if let Some(share) = config.metrics_retention_share() {
        values.insert("storage.tsdb.retention.percentage".to_owned(), (share * 100.0).to_string());
    }
    values
}

#[cfg(test)]
mod tests {
    use trefoil_config::FlagOverrides;

    use super::*;

    #[test]
    fn all_flags_are_shown_with_what_is_in_force() {
        let mut config = Config::default();
        let flags = FlagOverrides { query_timeout: Some("2m".to_owned()), ..FlagOverrides::default() };
        flags.apply(&mut config).unwrap();
        let ignored =
            |flag: &str, value: Option<&str>| Ignored { flag: flag.to_owned(), value: value.map(str::to_owned) };
        let given = [ignored("--web.page-title", Some("Mine")), ignored("--no-auto-gomaxprocs", None)];
        let values = flag_values(None, &config, Path::new("/d"), &Given::of(&["a".to_owned(), "b".to_owned()], &given));
        for flag in REFERENCE_FLAGS.iter().filter(|f| f.default.is_some()) {
            assert!(values.contains_key(flag.name), "{}", flag.name);
        }
        for (name, want) in [
            ("query.timeout", "2m"),
            ("query.lookback-delta", "5m"),
            ("storage.tsdb.path", "/d"),
            ("web.page-title", "Mine"),
            ("auto-gomaxprocs", "false"),
            ("auto-gomemlimit", "true"),
            ("enable-feature", "a,b"),
            ("log.format", "logfmt"),
            ("web.route-prefix", "/"),
            ("web.enable-admin-api", "false"),
        ] {
            assert_eq!(values.get(name).map(String::as_str), Some(want), "{name}");
        }
    }
}
