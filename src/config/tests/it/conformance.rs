//! The configuration files of Prometheus' own tests, with what Prometheus says of them.

use std::path::Path;

use trefoil_config::{Config, HttpClientConfig, TlsConfig};

use crate::conformance_dir;

/// Files whose outcome differs from Prometheus', each with the reason. None.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// Go type names need only be said otherwise: the field must be named.
fn wanted(fragment: &str) -> &str {
    fragment.split(" in type ").next().unwrap_or(fragment)
}

struct Outcome {
    file: String,
    good: bool,
    fragment: String,
}

fn outcomes(dir: &Path) -> Vec<Outcome> {
    let text = std::fs::read_to_string(dir.join("expected.tsv")).unwrap();
    let mut out = Vec::new();
    for line in text.lines().skip(1) {
        let mut columns = line.split('\t');
        let (file, outcome) = (columns.next().unwrap(), columns.next().unwrap());
        let fragment = columns.next().unwrap_or_default();
        // Trefoil runs as no agent, so what an agent refuses loads. A version 1 API is refused as Prometheus 3 does.
        let good = match outcome {
            "n/a" | "unspecified" => continue,
            "bad" => false,
            _ => true,
        };
        let fragment = if fragment.starts_with("(not asserted") { "" } else { fragment };
        out.push(Outcome { file: file.to_owned(), good, fragment: fragment.to_owned() });
    }
    out
}

fn check(outcomes: &[Outcome], load: impl Fn(&str) -> Result<(), String>) {
    let mut faults = Vec::new();
    for Outcome { file, good, fragment } in outcomes {
        if EXCEPTIONS.iter().any(|(name, _)| name == file) {
            continue;
        }
        match (load(file), good) {
            (Ok(()), true) => {}
            (Ok(()), false) => faults.push(format!("{file}: loads, but should say {fragment:?}")),
            (Err(message), true) => faults.push(format!("{file}: {message}")),
            (Err(message), false) => {
                if !message.contains(wanted(fragment)) {
                    faults.push(format!("{file}: want {:?}, got {message:?}", wanted(fragment)));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} files differ:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn prometheus_files_have_their_outcome() {
    let Some(dir) = conformance_dir("prometheus", "prometheus_files_have_their_outcome") else { return };
    let outcomes = outcomes(&dir);
    assert!(outcomes.len() > 140, "only {} outcomes", outcomes.len());
    check(&outcomes, |file| Config::load(&dir.join(file)).map(drop).map_err(|e| e.to_string()));
}

#[test]
fn every_refusal_has_a_place() {
    let Some(dir) = conformance_dir("prometheus", "every_refusal_has_a_place") else { return };
    for outcome in outcomes(&dir).iter().filter(|o| !o.good) {
        let error = Config::load(&dir.join(&outcome.file)).unwrap_err();
        let diagnostics = error.diagnostics();
        assert!(!diagnostics.is_empty(), "{}: {error}", outcome.file);
        assert!(diagnostics.iter().all(|d| d.file.is_some() && d.pos.line > 0), "{}: {error}", outcome.file);
    }
}

#[test]
fn http_client_files_have_their_outcome() {
    let Some(dir) = conformance_dir("http-client", "http_client_files_have_their_outcome") else { return };
    check(&outcomes(&dir), |file| {
        let text = std::fs::read_to_string(dir.join(file)).unwrap();
        if file.starts_with("tls_config") {
            TlsConfig::parse(&text, &dir).map(drop).map_err(|e| e.to_string())
        } else {
            HttpClientConfig::parse(&text, &dir).map(drop).map_err(|e| e.to_string())
        }
    });
}

#[test]
fn what_is_printed_loads_again() {
    let Some(dir) = conformance_dir("prometheus", "what_is_printed_loads_again") else { return };
    let mut checked = 0;
    for outcome in outcomes(&dir).iter().filter(|o| o.good) {
        let first = Config::load(&dir.join(&outcome.file)).unwrap();
        let text = first.config.to_yaml();
        let again = Config::parse(&text, Path::new("/elsewhere"), &|_| None)
            .unwrap_or_else(|e| panic!("{}: {e}\n{text}", outcome.file));
        assert_eq!(again.config.to_yaml(), text, "{}", outcome.file);
        // With secrets masked already nothing at all may differ.
        if outcome.file == "roundtrip.good.yml" {
            assert_eq!(again.config, first.config);
            checked += 1;
        }
    }
    assert_eq!(checked, 1);
}

#[test]
fn secrets_are_not_printed() {
    let Some(dir) = conformance_dir("prometheus", "secrets_are_not_printed") else { return };
    let loaded = Config::load(&dir.join("conf.good.yml")).unwrap();
    for text in [loaded.config.to_yaml(), format!("{:?}", loaded.config)] {
        assert!(text.contains("<secret>"));
        for secret in ["mysecret", "multiline", "testAppSecret", "mysecret_private_key", "hole"] {
            assert!(!text.contains(secret), "{secret} is shown");
        }
    }
}

#[test]
fn a_full_file_warns_of_what_is_not_run() {
    let Some(dir) = conformance_dir("prometheus", "a_full_file_warns_of_what_is_not_run") else { return };
    let loaded = Config::load(&dir.join("conf.good.yml")).unwrap();
    let keys: Vec<_> = loaded.warnings.iter().map(|w| w.key.as_str()).collect();
    for key in ["remote_write", "remote_read", "tracing", "scrape_configs[2].consul_sd_configs"] {
        assert!(keys.contains(&key), "{key} not in {keys:?}");
    }
    assert!(loaded.warnings.iter().all(|w| w.line > 1), "{:?}", loaded.warnings);
    assert!(!keys.iter().any(|k| k.contains("static_configs")), "{keys:?}");
}

#[test]
fn promtool_files() {
    let Some(dir) = conformance_dir("promtool", "promtool_files") else { return };
    let load = |file: &str| Config::load(&dir.join(file)).map_err(|e| e.to_string());
    for file in [
        "prometheus-config.good.yml",
        "prometheus-config.lint.yml",
        "config_with_tls_files.yml",
        "config_with_service_discovery_files.yml",
        "authorization_credentials_file.good.yml",
    ] {
        load(file).unwrap_or_else(|e| panic!("{file}: {e}"));
    }
    let missing = |file: &str| load(file).unwrap().missing_files();
    assert_eq!(missing("config_with_service_discovery_files.yml"), Vec::<String>::new());
    assert_eq!(missing("authorization_credentials_file.good.yml"), Vec::<String>::new());
    assert_eq!(missing("config_with_tls_files.yml").len(), 2);
    let faults = missing("authorization_credentials_file.bad.yml");
    assert!(faults[0].contains("error checking authorization credentials_file"), "{faults:?}");

    assert!(load("prometheus-config.bad.yml").unwrap_err().contains("field not-prometheus not found"));
    // A URL is let through where relabelling could mend it; the checks of targets are promtool's second step.
    for file in [
        "url_in_scrape_targetgroup_with_relabel_config.bad.yml",
        "url_in_alert_targetgroup_with_relabel_config.good.yml",
    ] {
        load(file).unwrap_or_else(|e| panic!("{file}: {e}"));
    }
}
