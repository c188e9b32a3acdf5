//! How a text is read: faults with places, null values, inheritance, variables, included files.

use std::path::Path;

use trefoil_config::{
    Config, EscapingScheme, FlagOverrides, PromDuration, RelabelAction, ScrapeProtocol, ValidationScheme,
};

use crate::{TempDir, load, load_with};

#[track_caller]
fn check_fault(text: &str, want: &str) {
    let message = load(text).unwrap_err();
    assert_eq!(message, want, "{text}");
}

#[test]
fn faults_have_line_and_column() {
    check_fault("global:\n  scrape_intervall: 1s\n", "2:3: field scrape_intervall not found in global");
    check_fault("nonsense: 1\n", "1:1: field nonsense not found in the top level");
    check_fault("global:\n  scrape_interval: 1x\n", "2:20: not a valid duration string: \"1x\"");
    check_fault("global: [1]\n", "1:9: global must be a mapping, got a sequence");
    check_fault("rule_files: a.yml\n", "1:13: rule_files must be a sequence, got a scalar");
    check_fault(
        "scrape_configs:\n  - job_name: a\n    static_configs:\n      - target: ['x']\n",
        "4:9: field target not found in static_configs",
    );
    check_fault(
        "scrape_configs:\n  - job_name: a\n    honor_labels: maybe\n",
        "3:19: cannot unmarshal \"maybe\" into honor_labels: must be true or false",
    );
    check_fault(
        "scrape_configs:\n  - job_name: a\n    sample_limit: -1\n",
        "3:19: cannot unmarshal \"-1\" into sample_limit: must be a whole number from 0 to 18446744073709551615",
    );
}

#[test]
fn all_faults_are_reported_at_once() {
    let text =
        "global:\n  foo: 1\n  scrape_interval: x\nscrape_configs:\n  - job_name: a\n    bar: 1\n  - job_name: a\n";
    let message = load(text).unwrap_err();
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(
        lines,
        [
            "2:3: field foo not found in global",
            "3:20: not a valid duration string: \"x\"",
            "6:5: field bar not found in scrape_configs",
            "7:5: found multiple scrape configs with job name \"a\"",
        ]
    );
}

#[test]
fn an_empty_file_is_the_default() {
    for text in ["", "# nothing\n", "---\n", "{}", "global:\n", "global:\nscrape_configs:\ntrefoil:\n"] {
        let loaded = load(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!(loaded.config, Config::default(), "{text:?}");
        assert!(loaded.warnings.is_empty());
    }
}

#[test]
fn jobs_inherit() {
    let loaded = load(
        "global:\n  scrape_interval: 5s\n  sample_limit: 7\n  external_labels: {a: b}\nscrape_configs:\n  - job_name: a\n  - job_name: b\n    scrape_interval: 30s\n    sample_limit: 9\n    scrape_native_histograms: true\n    metric_name_validation_scheme: legacy\n",
    )
    .unwrap();
    let [a, b] = loaded.scrape_configs.as_slice() else { panic!("two jobs") };
    assert_eq!((a.scrape_interval, a.scrape_timeout), (PromDuration::from_secs(5), PromDuration::from_secs(5)));
    assert_eq!((b.scrape_interval, b.scrape_timeout), (PromDuration::from_secs(30), PromDuration::from_secs(5)));
    assert_eq!((a.sample_limit, b.sample_limit), (7, 9));
    assert_eq!(a.scrape_protocols.as_deref(), Some(ScrapeProtocol::DEFAULTS.as_slice()));
    assert_eq!(b.scrape_protocols.as_deref(), Some(ScrapeProtocol::DEFAULTS_NATIVE.as_slice()));
    assert_eq!(a.metric_name_escaping_scheme, Some(EscapingScheme::AllowUtf8));
    assert_eq!(b.metric_name_escaping_scheme, Some(EscapingScheme::Underscores));
    assert_eq!(a.metric_name_validation_scheme, Some(ValidationScheme::Utf8));
}

#[test]
fn relabelling_defaults_and_nulls() {
    let loaded = load(
        "scrape_configs:\n  - job_name: a\n    relabel_configs:\n      - target_label: x\n      - {target_label: x, regex: , action: Replace}\n",
    );
    // Prometheus takes actions in any case.
    let loaded = loaded.unwrap();
    let rules = &loaded.scrape_configs[0].relabel_configs;
    assert_eq!((rules[0].regex.as_str(), rules[1].regex.as_str()), ("(.*)", ""));
    assert_eq!(rules[1].action, RelabelAction::Replace);
    check_fault(
        "scrape_configs:\n  - job_name: a\n    relabel_configs:\n      - {regex: '(', target_label: x}\n",
        "4:10: error parsing regexp: missing closing ): `^(?s:()$`",
    );
}

#[test]
fn variables_are_expanded_where_they_should() {
    let env = |name: &str| (name == "REGION").then(|| "eu".to_owned());
    let text = "global:\n  external_labels: {region: '$REGION', cost: '$$5', none: '${NO}'}\nrule_files: ['$REGION.yml']\nscrape_configs:\n  - job_name: $REGION\n    relabel_configs:\n      - {target_label: x, replacement: '$REGION'}\ntrefoil:\n  data_dir: /srv/${REGION}\n";
    let loaded = load_with(text, &env).unwrap();
    let labels: Vec<_> = loaded.config.global.external_labels.iter().collect();
    assert_eq!(labels, [("cost", "$5"), ("none", ""), ("region", "eu")]);
    assert_eq!(loaded.config.trefoil.data_dir(), Path::new("/srv/eu"));
    assert_eq!(loaded.config.rule_files, [Path::new("/base/$REGION.yml")]);
    assert_eq!(loaded.scrape_configs[0].job_name, "$REGION");
    assert_eq!(loaded.scrape_configs[0].relabel_configs[0].replacement, "$REGION");
}

#[test]
fn files_are_included() {
    let dir = TempDir::new("include");
    dir.write("job-b.yml", "scrape_configs:\n  - job_name: b\n    authorization: {credentials_file: token}\n");
    dir.write("job-c.yml", "scrape_configs:\n  - job_name: c\n");
    dir.write("rules-1.yml", "");
    let main = dir.write(
        "main.yml",
        "scrape_config_files: ['job-*.yml']\nrule_files: ['rules-*.yml', 'rules-1.yml', 'none*.yml']\nscrape_configs:\n  - job_name: a\n",
    );
    let loaded = Config::load(&main).unwrap();
    let names: Vec<_> = loaded.scrape_configs.iter().map(|j| j.job_name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let token = loaded.scrape_configs[1].http.authorization.as_ref().unwrap().credentials_file.clone();
    assert_eq!(token, Some(dir.0.join("token")));
    assert_eq!(loaded.config.rule_file_paths().unwrap(), [dir.0.join("rules-1.yml")]);

    let bad = dir.write("job-d.yml", "scrape_configs:\n  - job_name: a\n  - job_nam: x\n");
    let error = Config::load(&main).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("found multiple scrape configs with job name \"a\", first found in main config file"));
    assert!(message.contains(&format!("{}:3:5: field job_nam not found", bad.display())), "{message}");
}

#[test]
fn missing_and_oversized_files() {
    let dir = TempDir::new("missing");
    let error = Config::load(&dir.0.join("none.yml")).unwrap_err();
    assert!(error.to_string().starts_with("read configuration file"), "{error}");
    let large = dir.write("large.yml", &"#".repeat(5 << 20));
    let error = Config::load(&large).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("larger than the limit"), "{error}");
}

#[test]
fn flags_go_over_the_file() {
    let flags = FlagOverrides {
        storage_tsdb_path: Some("/flag/data".into()),
        storage_tsdb_retention_time: Some("2d".to_owned()),
        web_listen_address: vec!["127.0.0.1:0".to_owned(), "[::1]:0".to_owned()],
        web_external_url: Some("https://example.org/x".to_owned()),
        web_enable_lifecycle: true,
        web_enable_admin_api: true,
        web_cors_origin: Some("https://a.*".to_owned()),
        log_level: Some("debug".to_owned()),
        ..FlagOverrides::default()
    };
    let dir = TempDir::new("flags");
    let file = dir.write("t.yml", "storage: {tsdb: {retention: {time: 1d}}}\ntrefoil: {data_dir: x}\n");
    let loaded = Config::load_with(Some(&file), &flags, &|_| None).unwrap();
    let trefoil = &loaded.config.trefoil;
    assert_eq!(trefoil.data_dir(), Path::new("/flag/data"));
    assert_eq!(loaded.config.metrics_retention().get(), Some(PromDuration::from_days(2)));
    assert_eq!(trefoil.listeners.http.address.to_string(), "127.0.0.1:0");
    assert_eq!(trefoil.listeners.http.more_addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["[::1]:0"]);
    assert!(trefoil.enable_lifecycle && trefoil.enable_admin_api);
    assert_eq!(trefoil.cors_origin, "https://a.*");

    let bad = FlagOverrides {
        storage_tsdb_retention_time: Some("x".to_owned()),
        web_listen_address: vec!["127.0.0.1:0".to_owned(), "nowhere".to_owned()],
        web_cors_origin: Some("(".to_owned()),
        web_external_url: Some("ftp://x".to_owned()),
        log_level: Some("loud".to_owned()),
        ..FlagOverrides::default()
    };
    let error = Config::load_with(None, &bad, &|_| None).unwrap_err();
    assert_eq!(error.diagnostics().len(), 5, "{error}");
    for line in error.to_string().lines() {
        assert!(line.starts_with("flag --"), "{line}");
    }
}

#[test]
fn large_files_are_read_and_reports_are_bounded() {
    let jobs: String = (0..20_000).map(|i| format!("- job_name: j{i}\n")).collect();
    assert_eq!(load(&format!("scrape_configs:\n{jobs}")).unwrap().scrape_configs.len(), 20_000);
    let keys: String = (0..100_000).map(|i| format!("key{i}: 1\n")).collect();
    assert_eq!(load(&keys).unwrap_err().lines().count(), 1_000);
}

#[test]
fn hostile_input_never_panics() {
    for text in [
        "\u{0}",
        "a: &a [*a]",
        "? [a]\n: b",
        "!!binary x",
        "{a: b",
        "- - - -",
        "%YAML 9.9\n---\na",
        "\t",
        "a:\n\t- b",
        "scrape_configs: {a: b}",
        "scrape_configs: [[[[]]]]",
        "global: &g {<<: *g}",
        "trefoil: $",
        "<<: 1",
    ] {
        load(text).err();
    }
}
