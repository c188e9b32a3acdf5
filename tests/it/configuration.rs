//! The command line and the configuration: what is refused, where the fault is, what a reload changes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use trefoil_tests::server::{binary, fresh_dir};
use trefoil_tests::{Finished, Http, Peer, Server, ServerOptions, conformance, free_port, items, run, text};
use trefoil_tests::{wait_for, wait_for_result, wire};

const PATIENCE: Duration = Duration::from_secs(60);

fn trefoil(arguments: &[&str]) -> Finished {
    run(Command::new(binary()).args(arguments), b"")
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

#[test]
fn a_wrong_key_has_a_place() {
    let dir = fresh_dir("wrong-key");
    let file = dir.join("wrong.yml");
    for (config, wanted) in [
        ("global:\n  scrape_interval: 5s\n  scrape_intervall: 5s\n", "wrong.yml:3:3: "),
        ("trefoil:\n  listeners:\n    htp: { address: \"127.0.0.1:1\" }\n", "wrong.yml:3:5: "),
        ("trefoil:\n  limits:\n    body_bytes_max: 0\n", "wrong.yml:3:"),
        ("global:\n  scrape_interval: soon\n", "wrong.yml:2:"),
        ("scrape_configs: [{ job_name: a }, { job_name: a }]\n", "wrong.yml:1:"),
        ("global: [", "wrong.yml:"),
    ] {
        std::fs::write(&file, config).unwrap();
        for command in [&["check", "config"][..], &["serve", "--config.file"]] {
            let finished = run(Command::new(binary()).args(command).arg(&file).current_dir(&dir), b"");
            assert!(finished.code.is_some_and(|c| c != 0), "{config:?} passes: {finished:?}");
            assert!(finished.output().contains(wanted), "{config:?}: want {wanted:?} in {}", finished.output());
        }
    }
    assert!(!dir.join("data").exists(), "a bad configuration leaves nothing behind");
    std::fs::write(&file, "global:\n  scrape_intervall: 5s\n").unwrap();
    assert!(trefoil(&["check", "config", path_text(&file)]).output().contains("scrape_intervall"));
    let missing = trefoil(&["check", "config", path_text(&dir.join("none.yml"))]);
    assert!(missing.code == Some(1) && missing.output().contains("none.yml"), "{missing:?}");
}

#[test]
fn an_agent_is_refused() {
    let dir = fresh_dir("agent");
    for arguments in [&["serve", "--agent"][..], &["--agent", "--storage.agent.path=a"]] {
        let finished = run(Command::new(binary()).args(arguments).current_dir(&dir), b"");
        let told = finished.output().contains("--agent: there is no agent mode");
        assert!(finished.code.is_some_and(|code| code != 0) && told, "{arguments:?}: {finished:?}");
    }
    std::fs::remove_dir_all(&dir).ok();
}

#[test]
fn files_of_prometheus_pass_or_fail_as_there() {
    let Some(dir) = conformance("config", "files_of_prometheus_pass_or_fail_as_there") else { return };
    let mut faults = Vec::new();
    let mut check = |file: PathBuf, syntax_only: bool, good: bool, wanted: &str| {
        let mut command = Command::new(binary());
        command.args(["check", "config"]).arg(&file);
        if syntax_only {
            command.arg("--syntax-only");
        }
        let finished = run(&mut command, b"");
        if (finished.code == Some(0)) != good || !finished.output().contains(wanted) {
            faults.push(format!("{} (good: {good}, {wanted:?}): {finished:?}", file.display()));
        }
    };
    let table = std::fs::read_to_string(dir.join("prometheus/expected.tsv")).unwrap();
    for line in table.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        // What an agent refuses loads here.
        let good = match columns[1] {
            "n/a" | "unspecified" => continue,
            outcome => outcome != "bad",
        };
        check(dir.join("prometheus").join(columns[0]), true, good, "");
    }
    for (file, syntax_only, good, wanted) in [
        ("prometheus-config.good.yml", false, true, ""),
        ("prometheus-config.bad.yml", false, false, "not-prometheus"),
        ("config_with_tls_files.yml", true, true, ""),
        ("config_with_tls_files.yml", false, false, ""),
        ("config_with_service_discovery_files.yml", false, true, ""),
        ("authorization_credentials_file.good.yml", false, true, ""),
        ("authorization_credentials_file.bad.yml", false, false, "credentials_file"),
    ] {
        check(dir.join("promtool").join(file), syntax_only, good, wanted);
    }
    assert!(faults.is_empty(), "{} files differ:\n{}", faults.len(), faults.join("\n"));
    let rules = dir.join("promtool/prometheus-config.rules.good.yml");
    if rules.exists() {
        trefoil(&["check", "rules", path_text(&rules)]).expect_success();
    }
    let bad = fresh_dir("rules").join("bad.yml");
    std::fs::write(&bad, "groups:\n- name: a\n  rules:\n  - record: b\n    expr: sum(\n").unwrap();
    let finished = trefoil(&["check", "rules", path_text(&bad)]);
    assert!(finished.code == Some(1) && finished.output().contains("bad.yml:5:"), "{finished:?}");
}

/// A second process with ports of its own on this data folder, and what became of it.
fn another(data: &Path, http_port: u16) -> Finished {
    run(
        Command::new(binary())
            .arg("serve")
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{http_port}"))
            .arg(format!("--otlp.grpc-address=127.0.0.1:{}", free_port()))
            .arg(format!("--otlp.http-address=127.0.0.1:{}", free_port())),
        b"",
    )
}

#[test]
fn what_is_in_use_is_named() {
    let server = Server::start("in-use", ServerOptions::default());
    let taken = another(&fresh_dir("other-data"), server.http_port);
    let address = format!("127.0.0.1:{}", server.http_port);
    assert!(taken.code.is_some_and(|c| c != 0) && taken.output().contains(&address), "{taken:?}");
    let locked = another(&server.data_dir, free_port());
    assert!(locked.code.is_some_and(|c| c != 0), "{locked:?}");
    assert!(locked.output().contains("in use by another process"), "{locked:?}");
    assert!(locked.output().contains(path_text(&server.data_dir)), "{locked:?}");
    assert_eq!(server.http.get("/-/ready", &[]).unwrap().status, 200, "the first is unmoved");
}

#[test]
fn data_of_another_version_is_refused() {
    let mut server = Server::start("format", ServerOptions::default());
    server.peer.signal("TERM");
    assert_eq!(server.peer.wait(), Some(0), "{}", server.peer.output());
    let format = server.data_dir.join("FORMAT");
    let ours = std::fs::read_to_string(&format).unwrap();
    std::fs::write(&format, "trefoil 99\n").unwrap();
    let refused = another(&server.data_dir, free_port());
    assert!(refused.code.is_some_and(|c| c != 0), "{refused:?}");
    assert!(refused.output().contains("trefoil 99") && refused.output().contains("this build reads"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&format).unwrap(), "trefoil 99\n", "nothing is touched");
    std::fs::write(&format, ours).unwrap();
    server.restart();
}

fn jobs(http: &Http) -> Vec<String> {
    let targets = http.json("/api/v1/targets", &[]).unwrap();
    let mut jobs: Vec<String> = items(&targets["data"]["activeTargets"]).map(|t| text(&t["labels"]["job"])).collect();
    jobs.sort();
    jobs
}

#[test]
fn a_reload_takes_good_files_only() {
    let config = |job: &str| {
        format!("scrape_configs: [{{ job_name: {job}, static_configs: [{{ targets: [\"127.0.0.1:1\"] }}] }}]")
    };
    let options = ServerOptions {
        prometheus: config("one"),
        trefoil: "  enable_lifecycle: true\n".to_owned(),
        ..ServerOptions::default()
    };
    let mut server = Server::start("reload", options);
    let http = server.http.clone();
    wait_for("the first job", PATIENCE, || jobs(&http) == ["one"]);
    let reloads = |ok: f64| {
        wait_for("the reload", PATIENCE, || http.own_metric("trefoil_config_last_reload_successful") == ok);
    };
    server.options_mut().prometheus = config("two");
    server.write_config();
    let answer = http.post("/-/reload", &[], "").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_for("the second job", PATIENCE, || jobs(&http) == ["two"]);

    server.options_mut().prometheus = config("three").replace("job_name", "job_nam");
    server.write_config();
    let answer = http.post("/-/reload", &[], "").unwrap();
    assert!(answer.status >= 400 && answer.text().contains("job_nam"), "{} {}", answer.status, answer.text());
    assert_eq!(jobs(&http), ["two"], "the old one stays");
    server.options_mut().prometheus =
        format!("rule_files: [\"{}\"]\n{}", server.dir.join("bad.rules").display(), config("three"));
    std::fs::write(server.dir.join("bad.rules"), "groups: [{ name: a, rules: [{ record: b, expr: 'sum(' }] }]")
        .unwrap();
    server.write_config();
    server.peer.signal("HUP");
    reloads(0.0);
    assert_eq!(jobs(&http), ["two"], "a bad rule file is as bad");
    wait_for("a word in the log", PATIENCE, || server.peer.output().contains("bad.rules"));

    std::fs::write(server.dir.join("bad.rules"), "groups: [{ name: a, rules: [{ record: b, expr: 'sum(up)' }] }]")
        .unwrap();
    server.peer.signal("HUP");
    wait_for("the third job", PATIENCE, || jobs(&http) == ["three"]);
    reloads(1.0);
    let rules = http.json("/api/v1/rules", &[]).unwrap();
    assert_eq!(rules["data"]["groups"][0]["name"], "a", "{rules}");

    let closed = Server::start("no-lifecycle", ServerOptions::default());
    assert_eq!(closed.http.post("/-/reload", &[], "").unwrap().status, 403);
    assert_eq!(closed.http.post("/-/quit", &[], "").unwrap().status, 403);
}

#[test]
fn printed_configurations_hide_secrets_and_load_again() {
    let dir = fresh_dir("print");
    let file = dir.join("trefoil.yml");
    let config = "global: { external_labels: { region: \"${TREFOIL_TEST_REGION}\", price: \"$$5\" } }\n\
        scrape_configs:\n- job_name: a\n  basic_auth: { username: ann, password: hush-hush }\n  \
        relabel_configs: [{ source_labels: [a], regex: \"(.*)\", target_label: b, replacement: \"$1\" }]\n\
        trefoil:\n  auth: { bearer_tokens: [{ name: t, token: do-not-show-this-1234 }] }\n  data_dir: here\n";
    std::fs::write(&file, config).unwrap();
    let print = |file: &Path| {
        let mut command = Command::new(binary());
        command.args(["config", "print", "--storage.tsdb.retention.time=90d", "--config.file"]).arg(file);
        run(command.env("TREFOIL_TEST_REGION", "north"), b"").expect_success().stdout
    };
    let printed = print(&file);
    assert!(!printed.contains("hush-hush") && !printed.contains("do-not-show"), "{printed}");
    assert!(printed.contains("<secret>") && printed.contains("north") && printed.contains("90d"), "{printed}");
    assert!(printed.contains("$1"), "replacements are left alone: {printed}");
    let again = dir.join("again.yml");
    // A masked token is no token.
    std::fs::write(&again, printed.replace("token: <secret>", "token: do-not-show-this-1234")).unwrap();
    assert_eq!(print(&again), printed);
}

#[test]
fn a_unit_file_of_prometheus_starts_us() {
    let dir = fresh_dir("unit");
    let config = dir.join("prometheus.yml");
    std::fs::write(&config, "global: { scrape_interval: 1s }\nscrape_configs: []\n").unwrap();
    let port = free_port();
    let mut command = Command::new(binary());
    command
        .arg(format!("--config.file={}", config.display()))
        .args(["--storage.tsdb.path", path_text(&dir.join("data"))])
        .args(["--storage.tsdb.retention.time=30d", "--web.enable-lifecycle", "--web.console.templates=/etc/none"])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg(format!("--web.external-url=http://metrics.example:{port}"))
        .arg(format!("--otlp.grpc-address=127.0.0.1:{}", free_port()))
        .arg(format!("--otlp.http-address=127.0.0.1:{}", free_port()));
    let mut peer = Peer::start(&mut command, &dir.join("trefoil.log")).unwrap();
    let http = Http::new(format!("http://127.0.0.1:{port}"));
    wait_for_result("the server to be ready", PATIENCE, || {
        assert!(peer.is_running(), "{}", peer.output());
        http.get("/-/ready", &[])
            .map_err(|e| format!("{e:#}"))
            .and_then(|a| if a.status == 200 { Ok(()) } else { Err(a.text()) })
    });
    let flags = http.json("/api/v1/status/flags", &[]).unwrap();
    assert_eq!(flags["data"]["storage.tsdb.retention.time"], "30d", "{flags}");
    assert!(dir.join("data/FORMAT").exists());
    // Without a word on it, the server's own telemetry comes in: all three signals.
    wait_for_result("own metrics", PATIENCE, || http.promql_value("up{job=\"trefoil\"}"));
    wait_for_result("own logs", PATIENCE, || {
        let lines = http.logql_lines("{service_name=\"trefoil\"}")?;
        if lines.is_empty() { Err("none".to_owned()) } else { Ok(()) }
    });
    wait_for_result("own traces", PATIENCE, || {
        let services = http.json("/jaeger/api/services", &[])?;
        if items(&services["data"]).any(|s| s == "trefoil") { Ok(()) } else { Err(services.to_string()) }
    });
    assert_eq!(http.post("/-/quit", &[], "").unwrap().status, 200);
    assert_eq!(peer.wait(), Some(0), "{}", peer.output());
}

#[test]
fn sigterm_ends_in_time_and_keeps_what_came_in() {
    let mut server = Server::start("term", ServerOptions::default());
    let at = wire::now_ms();
    let sample = wire::remote_write(vec![wire::series(&[("__name__", "kept")], &[(at, 7.0)])]);
    server.http.post("/api/v1/write", wire::REMOTE_WRITE, sample).unwrap();
    let began = Instant::now();
    server.peer.signal("TERM");
    assert_eq!(server.peer.wait(), Some(0), "{}", server.peer.output());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(!server.peer.output().contains("ERROR"), "{}", server.peer.output());
    server.restart();
    assert_eq!(server.http.promql_value("kept"), Ok(7.0));
}

#[test]
fn the_command_line_asks_a_server() {
    let server = Server::start("cli", ServerOptions::default());
    let http = &server.http;
    let now = wire::now_ms();
    let samples: Vec<(i64, f64)> = (0..5).map(|n| (now - 4000 + n * 1000, n as f64)).collect();
    let series = wire::series(&[("__name__", "queue_length"), ("queue", "a\"b")], &samples);
    http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(vec![series])).unwrap();
    let json = [("content-type", "application/json")];
    http.post(
        "/loki/api/v1/push",
        &json,
        wire::loki_push(&[("app", "cli")], &[(wire::now_ns(), "hello there".to_owned())]),
    )
    .unwrap();
    let start = wire::now_ns();
    let spans = vec![
        wire::span([3; 16], [1; 8], None, "outer", start),
        wire::span([3; 16], [2; 8], Some([1; 8]), "inner", start + 1_000_000),
    ];
    http.post("/v1/traces", wire::OTLP, wire::otlp_spans("cli", spans)).unwrap();
    let ask = |arguments: &[&str]| trefoil(&[&["query"], arguments, &["--server", &http.base]].concat());
    let table = ask(&["promql", "queue_length"]).expect_success().stdout;
    assert_eq!(table.trim(), "queue_length{queue=\"a\\\"b\"}  4");
    let range = ask(&["promql", "sum(queue_length)", "--start", "1m", "--step", "1s"]).expect_success().stdout;
    assert!(range.lines().count() >= 5 && range.starts_with("{}"), "{range}");
    let scalar = ask(&["promql", "1 + 1"]).expect_success().stdout;
    assert!(scalar.trim().ends_with('2'), "{scalar}");
    let logs = ask(&["logql", "{app=\"cli\"}"]).expect_success().stdout;
    assert!(logs.trim().ends_with("hello there") && logs.lines().count() == 1, "{logs}");
    let trace = "03".repeat(16);
    let waterfall = ask(&["trace", &trace]).expect_success().stdout;
    let rows: Vec<&str> = waterfall.lines().collect();
    assert!(rows.len() == 2 && rows[0].ends_with(" cli: outer") && rows[1].ends_with("    cli: inner"), "{waterfall}");
    for arguments in [&["promql", "queue_length"][..], &["logql", "{app=\"cli\"}"], &["trace", &trace]] {
        let printed = ask(&[arguments, &["--output", "json"]].concat()).expect_success().stdout;
        let value: Value = serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}: {printed}"));
        assert!(value["data"].is_object() || value["data"].is_array(), "{printed}");
    }
    for (arguments, wanted) in
        [(&["promql", "sum("][..], "1:"), (&["logql", "{"], "line 1"), (&["trace", "0123456789abcdef"], "404")]
    {
        let refused = ask(arguments);
        assert!(refused.code.is_some_and(|c| c != 0) && refused.stderr.contains(wanted), "{arguments:?}: {refused:?}");
    }
    let nobody = trefoil(&["query", "promql", "up", "--server", &format!("http://127.0.0.1:{}", free_port())]);
    assert!(nobody.code.is_some_and(|c| c != 0) && nobody.stderr.contains("127.0.0.1"), "{nobody:?}");
}

#[test]
fn small_commands() {
    let version = trefoil(&["version"]).expect_success().stdout;
    assert!(version.starts_with("trefoil "), "{version}");
    for shell in ["bash", "zsh", "fish"] {
        let script = trefoil(&["completions", shell]).expect_success().stdout;
        assert!(script.contains("trefoil") && script.contains("query"), "{shell}: {script}");
    }
    let help = trefoil(&["--help"]).expect_success().stdout;
    for command in ["serve", "demo", "check", "query", "version"] {
        assert!(help.contains(command), "{help}");
    }
    assert_ne!(trefoil(&["nonsense"]).code, Some(0));
    let refused = trefoil(&["serve", "--no-such-flag"]);
    assert_eq!(refused.code, Some(2), "{}", refused.output());
    assert!(refused.stderr.contains("--no-such-flag"), "{}", refused.stderr);
}
