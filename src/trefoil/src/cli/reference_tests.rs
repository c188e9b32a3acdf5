//! A unit file of Prometheus, with whatever flags, is taken.

use clap::Parser;

use super::{Cli, Command, REFERENCE_FLAGS, ServeArgs, adapt};

fn serve(line: &[&str]) -> (ServeArgs, Vec<String>) {
    let (line, ignored) = adapt(["trefoil"].iter().chain(line).map(|s| (*s).to_owned()).collect());
    match Cli::try_parse_from(&line).map(|cli| cli.command) {
        Ok(Command::Serve(arguments)) => (arguments, ignored.into_iter().map(|i| i.flag).collect()),
        other => panic!("{line:?}: {:?}", other.err()),
    }
}

#[test]
fn every_flag_of_the_reference_is_taken() {
    let mut ignored = Vec::new();
    for flag in REFERENCE_FLAGS {
        let (dashed, off) = (format!("--{}", flag.name), format!("--no-{}", flag.name));
        if flag.is_switch {
            ignored.extend(serve(&["serve", &dashed]).1);
            assert_eq!(serve(&[&off, "--web.enable-lifecycle"]).1, std::slice::from_ref(&off));
        } else {
            let alone = serve(&[&dashed, "1"]).1;
            assert_eq!(serve(&[&format!("{dashed}=1")]).1, alone, "{dashed}");
            ignored.extend(alone);
        }
    }
    // What has a meaning is not ignored.
    for flag in [
        "config.file",
        "enable-feature",
        "alertmanager.notification-queue-capacity",
        "log.format",
        "log.level",
        "query.lookback-delta",
        "query.max-concurrency",
        "query.max-samples",
        "query.timeout",
        "storage.tsdb.path",
        "storage.tsdb.retention",
        "storage.tsdb.retention.size",
        "storage.tsdb.retention.time",
        "web.config.file",
        "web.cors.origin",
        "web.enable-admin-api",
        "web.enable-lifecycle",
        "web.external-url",
        "web.listen-address",
        "web.max-connections",
    ] {
        assert!(REFERENCE_FLAGS.iter().any(|f| f.name == flag), "{flag}");
        assert!(!ignored.contains(&format!("--{flag}")), "{flag}");
    }
    assert!(ignored.contains(&"--web.page-title".to_owned()));
}

#[test]
fn flags_reach_the_configuration() {
    let (arguments, ignored) = serve(&[
        "--query.lookback-delta=1m",
        "--query.timeout",
        "2m",
        "--query.max-samples=5",
        "--query.max-concurrency=20",
        "--web.page-title=My Prometheus",
    ]);
    let flags = arguments.overrides();
    assert_eq!(flags.query_lookback_delta.as_deref(), Some("1m"));
    assert_eq!(flags.query_timeout.as_deref(), Some("2m"));
    assert_eq!(flags.query_max_samples.as_deref(), Some("5"));
    assert_eq!(flags.query_max_concurrency.as_deref(), Some("20"));
    assert_eq!(ignored, ["--web.page-title"]);
}

#[test]
fn names_are_sorted_and_stand_once() {
    assert!(REFERENCE_FLAGS.is_sorted_by(|a, b| a.name < b.name));
}
