//! The keys below `trefoil`.

use std::time::Duration;

use trefoil_config::trefoil::{LogLevel, Scope};
use trefoil_config::{ByteSize, Limit, PromDuration};

use crate::{TempDir, load, load_with};

#[test]
fn values_arrive() {
    let loaded = load(
        "trefoil:\n  retention: {metrics: unlimited, logs: 1d}\n  limits: {query_timeout: 5s, body_bytes_max: 1MB, series_per_request_max: unlimited, future_ms_max: 1m, memory_bytes: 1GB}\n  self_telemetry: {log_level: warn, traces: false}\n  journal: {segment_bytes: 2MB}\n  auth:\n    bearer_tokens:\n      - {name: a, token: 0123456789abcdef, scopes: [write]}\n  listeners:\n    otlp_http: {enabled: false}\n    http: 'localhost:1'\n",
    )
    .unwrap();
    let trefoil = &loaded.config.trefoil;
    assert_eq!(trefoil.retention.metrics, Limit::Unlimited);
    assert_eq!(trefoil.retention.logs, Limit::At(PromDuration::from_days(1)));
    assert_eq!(trefoil.retention.traces, Limit::At(PromDuration::from_days(7)));
    assert_eq!(trefoil.limits.limits.query_timeout, Duration::from_secs(5));
    assert_eq!(trefoil.limits.limits.body_bytes_max, 1 << 20);
    assert_eq!(trefoil.limits.limits.series_per_request_max, usize::MAX);
    assert_eq!(trefoil.limits.limits.future_ms_max, 60_000);
    assert_eq!(trefoil.limits.memory_bytes, Some(ByteSize::gib(1)));
    assert_eq!(trefoil.self_telemetry.log_level, LogLevel::Warn);
    assert_eq!(trefoil.auth.bearer_tokens[0].scopes, [Scope::Write]);
    assert!(!trefoil.listeners.otlp_http.enabled);
    assert_eq!(trefoil.listeners.http.address.port(), 1);
    let text = loaded.config.to_yaml();
    let again = load(&text.replace("<secret>", "0123456789abcdef")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(again.config, loaded.config);
}

#[test]
fn rules_for_old_samples() {
    let loaded = load(
        "storage: {tsdb: {retention: {size: 5GB}}}\ntrefoil:\n  retention:\n    metrics_bytes: 1GB\n    metrics_rules:\n      - {match: '{job=\"debug\"}', keep: 3d}\n      - {match: up, keep: unlimited}\n  downsampling:\n    - {match: '{a=~\"x$$\"}', after: 30d, interval: 5m}\n  dedup_interval: 30s\n",
    )
    .unwrap();
    let config = &loaded.config;
    assert_eq!(config.metrics_retention_bytes(), Limit::At(ByteSize::gib(5)));
    let rules = &config.trefoil.retention.metrics_rules;
    assert_eq!(rules[0].r#match.matchers().len(), 1);
    assert_eq!((rules[0].keep, rules[1].keep), (Limit::At(PromDuration::from_days(3)), Limit::Unlimited));
    assert_eq!(config.trefoil.downsampling[0].r#match.as_str(), "{a=~\"x$\"}");
    assert_eq!(config.trefoil.dedup_interval, PromDuration::from_secs(30));
    let text = config.to_yaml();
    let again = load(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(again.config, *config);
    check_fault("trefoil:\n  downsampling:\n    - match: '{a=b}'\n      interval: 5m\n", "3:14: selector");
    check_fault("trefoil:\n  downsampling:\n    - match: '{a=b}'\n", "character 4: expected a value in quotes");
    check_fault("trefoil:\n  downsampling: [{interval: 5m}]\n", "match is required");
    check_fault("trefoil:\n  downsampling: [{match: up, interval: 2d}]\n", "must be 0s, or 1s to 1d");
    check_fault("trefoil:\n  retention: {metrics_rules: [{match: up}]}\n", "keep is required");
    check_fault("trefoil:\n  dedup_interval: 2d\n", "at most 1d");
}

#[test]
fn rules_for_old_logs() {
    let rules = "[{match: '{app=~\"a|b\"}', keep: 3d}, {match: '{app=\"c\", level!=\"\"}', keep: unlimited}]";
    let loaded = load(&format!("trefoil:\n  retention: {{logs: 7d, logs_rules: {rules}}}\n")).unwrap();
    let retention = &loaded.config.trefoil.retention;
    let kept: Vec<_> = retention.logs_rules.iter().map(|rule| (rule.r#match.matchers().len(), rule.keep)).collect();
    assert_eq!(kept, [(1, Limit::At(PromDuration::from_days(3))), (2, Limit::Unlimited)]);
    let text = loaded.config.to_yaml();
    let again = load(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(again.config, loaded.config);
    let check = |rule: &str, want: &str| {
        check_fault(&format!("trefoil:\n  retention: {{logs_rules: [{rule}]}}\n"), want);
    };
    check("{match: '{app=\"a\"}'}", "keep is required");
    check("{keep: 1d}", "match is required");
    check("{match: up, keep: 1d}", "a stream selector begins with '{'");
    check("{match: '{}', keep: 1d}", "it selects all streams");
    check("{match: '{app=\"a\"} |= \"x\"', keep: 1d}", "expected the end of the selector");
    check("{match: '{app=\"$NOBODY\"}', keep: 1d}", "environment variable \"NOBODY\" is not defined");
}

#[track_caller]
fn check_fault(text: &str, want: &str) {
    let message = load(text).unwrap_err();
    assert!(message.contains(want), "{text}: {message}");
}

#[test]
fn bad_values_are_refused() {
    check_fault("trefoil: {retention: {metrics: 0s}}", "metrics must not be 0: give a limit or the word unlimited");
    check_fault("trefoil: {retention: {metric: 1d}}", "1:23: field metric not found in retention");
    check_fault("trefoil: {limits: {query_timeout: 0s}}", "limits.query_timeout: must not be 0");
    check_fault(
        "trefoil: {limits: {query_timeout: fast}}",
        "limits.query_timeout: not a valid duration string: \"fast\"",
    );
    check_fault("trefoil: {limits: {series_per_request_max: 1MB}}", "\"1MB\" is not a whole number");
    check_fault("trefoil: {limits: {memory_bytes: 1KB}}", "limits.memory_bytes must be at least 64MB");
    check_fault("trefoil: {limits: {nothing: 1}}", "field nothing not found in limits");
    check_fault("trefoil: {listeners: {http: 9090}}", "is not an address to listen on");
    check_fault("trefoil: {listeners: {http: {address: '127.0.0.1:1', tls: {cert_file: a}}}}", "tls needs both");
    check_fault("trefoil: {listeners: {grpc: {}}}", "field grpc not found in listeners");
    check_fault("trefoil: {listeners: {http: '127.0.0.1:4318'}}", "listeners http and otlp_http have the same address");
    check_fault("trefoil: {auth: {basic_auth_users: {ann: plain}}}", "is not a bcrypt hash");
    check_fault("trefoil: {auth: {bearer_tokens: [{name: a, token: short}]}}", "must have 16 to 4096 characters");
    check_fault("trefoil: {auth: {bearer_tokens: [{name: a}]}}", "exactly one of token and token_file");
    check_fault("trefoil: {external_url: 'ftp://x'}", "must begin with http:// or https://");
    check_fault("trefoil: {journal: {sync_interval: 2s}}", "journal.sync_interval must be at most 1s");
    check_fault("trefoil: {self_telemetry: {log_level: loud}}", "unknown log level \"loud\"");
    check_fault("trefoil: []", "1:10: trefoil must be a mapping, got a sequence");
}

#[test]
fn a_hash_survives_expansion() {
    let hash = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
    let text = format!("trefoil:\n  auth:\n    basic_auth_users: {{ann: {hash}, bob: $BOB}}\n");
    let loaded = load_with(&text, &|name| (name == "BOB").then(|| hash.to_owned())).unwrap();
    let users = &loaded.config.trefoil.auth.basic_auth_users;
    assert_eq!((users["ann"].expose(), users["bob"].expose()), (hash, hash));
}

#[test]
fn tokens_are_read_from_files() {
    let dir = TempDir::new("tokens");
    dir.write("good", "0123456789abcdef\n");
    dir.write("short", "abc\n");
    let file = dir.write(
        "t.yml",
        "trefoil: {auth: {bearer_tokens: [{name: a, token_file: good}, {name: b, token_file: short}, {name: c, token_file: none}]}}",
    );
    let loaded = trefoil_config::Config::load(&file).unwrap();
    let tokens = &loaded.config.trefoil.auth.bearer_tokens;
    assert_eq!(tokens[0].read().unwrap().expose(), "0123456789abcdef");
    assert!(tokens[1].read().is_err() && tokens[2].read().is_err());
    assert_eq!(loaded.missing_files().len(), 1);
}

const INLINE: &str = "  route: {receiver: hook, group_by: [alertname], group_wait: 1s}\n  receivers:\n    - name: hook\n      webhook_configs:\n        - {url: 'http://user:pw@127.0.0.1:1/x', max_alerts: 3}\n";

#[test]
fn an_inline_alertmanager() {
    let loaded = load(&format!("trefoil:\n alertmanager:\n{INLINE}")).unwrap();
    let manager = loaded.config.trefoil.alertmanager.as_ref().unwrap();
    let route = manager.route.as_ref().unwrap();
    assert_eq!(
        (route.receiver.as_str(), route.group_wait.as_ms(), route.group_interval.as_ms()),
        ("hook", 1000, 300_000)
    );
    let hook = &manager.receivers[0].webhook_configs[0];
    assert_eq!(hook.url.as_ref().unwrap().expose(), "http://user:pw@127.0.0.1:1/x");
    assert!(hook.send_resolved && hook.max_alerts == 3);
    assert!(!loaded.config.to_yaml().contains("pw@"));
    load(&loaded.config.to_yaml()).unwrap();

    check_fault("trefoil: {alertmanager: {route: {receiver: x}}}", "undefined receiver \"x\" used in route");
    check_fault("trefoil: {alertmanager: {receivers: [{name: a}]}}", "no route provided in config");
    check_fault("trefoil: {alertmanager: {route: {receiver: a}, receivers: [{name: a}, {name: a}]}}", "is not unique");
}

#[test]
fn an_alertmanager_file() {
    let dir = TempDir::new("alertmanager");
    let more = "  - name: mail\n    email_configs: [{to: a@b}]\ninhibit_rules: []\ntemplates: ['*.tmpl']\n";
    dir.write(
        "alertmanager.yml",
        &format!("route: {{receiver: hook, routes: [{{matchers: ['a=b']}}]}}\nreceivers:\n  - name: hook\n    webhook_configs: [{{url: 'http://h/'}}]\n{more}"),
    );
    let file = dir.write("trefoil.yml", "trefoil: {alertmanager: {file: alertmanager.yml}}\n");
    let loaded = trefoil_config::Config::load(&file).unwrap();
    let manager = loaded.config.trefoil.alertmanager.as_ref().unwrap();
    assert_eq!(manager.receivers.len(), 2);
    let keys: Vec<_> = loaded.warnings.iter().map(|w| w.key.as_str()).collect();
    assert_eq!(keys, ["receivers[1].email_configs", "route.routes", "templates", "inhibit_rules"]);
}

#[test]
fn undefined_variables_in_selectors_are_faults() {
    let env = |name: &str| (name == "TEAM").then(|| "blue".to_owned());
    let load = |text: &str| load_with(text, &env);
    let rule = |selector: &str| {
        format!("trefoil:\n  retention:\n    metrics_rules:\n      - {{keep: 1d, match: '{selector}'}}\n")
    };
    let stage = |selector: &str| format!("trefoil:\n  downsampling:\n    - {{interval: 5m, match: '{selector}'}}\n");
    for (selector, name) in [("{job=\"$TEAMS\"}", "TEAMS"), ("{job=~\"a${NO}b\"}", "NO"), ("$METRIC", "METRIC")] {
        for (text, place) in [(rule(selector), "4:27: "), (stage(selector), "3:29: ")] {
            let error = load(&text).unwrap_err();
            let want = format!("{place}selector: environment variable {name:?} is not defined");
            assert!(error.contains(&want), "{error}");
        }
    }
    for (selector, want) in [
        ("{job=\"$TEAM\"}", "{job=\"blue\"}"),
        ("{job=\"$$TEAMS\"}", "{job=\"$TEAMS\"}"),
        ("{job=~\"a$\"}", "{job=~\"a$\"}"),
        ("{job=~\"(a$|b$)\"}", "{job=~\"(a$|b$)\"}"),
    ] {
        let loaded = load(&rule(selector)).unwrap();
        assert_eq!(loaded.config.trefoil.retention.metrics_rules[0].r#match.as_str(), want, "{selector}");
        assert_eq!(load(&loaded.config.to_yaml()).unwrap().config, loaded.config);
    }
}

#[test]
fn stages_of_downsampling_are_checked() {
    let stages = |more: &str| format!("trefoil:\n  downsampling:\n{more}");
    let text = stages("    - {match: '{}', after: 5d, interval: 1h}\n    - {match: '{}', after: 10d, interval: 5m}\n");
    check_fault(&text, "downsampling of {} after 10d to 5m must be coarser than 1h, which holds after 5d");
    let text = stages("    - {match: '{}', after: 5d, interval: 1h}\n    - {match: up, after: 10d, interval: 5m}\n");
    assert_eq!(load(&text).unwrap().warnings.len(), 0, "other selectors are no stages");
    let text = stages("    - {match: up, after: 5d, interval: 5m}\n    - {match: up, after: 5d, interval: 1h}\n");
    check_fault(&text, "downsampling of up has two stages after 5d");
    // In any order of the list.
    let text = stages("    - {match: up, after: 10d, interval: 1h}\n    - {match: up, interval: 5m}\n");
    assert_eq!(load(&text).unwrap().warnings.len(), 0);

    let beyond = stages("    - {match: up, after: 30d, interval: 5m}\n");
    let warnings = load(&beyond).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let want = "downsampling of up after 30d never happens: samples are kept for 15d at most";
    assert_eq!((&*warnings[0].key, &*warnings[0].message), ("trefoil.downsampling", want));
    for more in [
        "  retention: {metrics: 60d}\n",
        "  retention: {metrics: unlimited}\n",
        "  retention: {metrics_rules: [{match: up, keep: 60d}]}\n",
        "  retention: {metrics_rules: [{match: '{a=\"b\"}', keep: unlimited}]}\n",
        "storage: {tsdb: {retention: {time: 60d}}}\n",
    ] {
        assert_eq!(load(&format!("{beyond}{more}")).unwrap().warnings.len(), 0, "{more}");
    }
    let own = "  retention: {metrics: 60d, metrics_rules: [{match: up, keep: 7d}]}\n";
    assert_eq!(load(&format!("{beyond}{own}")).unwrap().warnings.len(), 1);
}
