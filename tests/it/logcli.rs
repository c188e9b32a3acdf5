//! Loki's own command line, `logcli`, and `trefoil test logql`, against the real binary.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use trefoil_tests::{
    Http, Peer, Server, ServerOptions, conformance, find_program, items, run, skipped, text, wait_for, wire,
};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

fn logcli(test: &str) -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/logcli/logcli");
    let found = if built.is_file() { Some(built) } else { find_program("logcli") };
    if found.is_none() {
        skipped(test, "logcli is not installed (make test-peers)");
    }
    found
}

fn push(http: &Http, lines: &[(u64, &str)]) {
    let values: Vec<_> = lines.iter().map(|(ns, line)| json!([ns.to_string(), line])).collect();
    let body = json!({"streams": [{"stream": {"app": "shop", "env": "dev"}, "values": values}]});
    assert_eq!(http.post("/loki/api/v1/push", JSON, body.to_string()).unwrap().status, 204);
}

#[test]
fn logcli_reads_and_follows() {
    let Some(program) = logcli("logcli_reads_and_follows") else { return };
    let server = Server::start("logcli", ServerOptions::default());
    let base = wire::now_ns() - 60_000_000_000;
    push(&server.http, &[(base, "level=info one"), (base + 1, "level=error two"), (base + 2, "level=info three")]);
    let call = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.arg(format!("--addr=http://127.0.0.1:{}", server.http_port)).arg("--quiet").args(arguments);
        run(&mut command, b"").expect_success().output()
    };
    let lines = call(&["query", "--since=5m", "--output=raw", "--forward", r#"{app="shop"} |= "level""#]);
    let lines: Vec<&str> = lines.lines().map(str::trim).collect();
    assert_eq!(lines, ["level=info one", "level=error two", "level=info three"]);
    let statistics = call(&["query", "--since=5m", "--stats", r#"{app="shop"}"#]);
    assert!(statistics.contains("Summary.TotalLinesProcessed") && statistics.contains('3'), "{statistics}");
    let json = |arguments: &[&str]| -> Value {
        let answered = call(arguments);
        serde_json::from_str(&answered).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {answered}"))
    };
    let query = r#"sum by (level) (count_over_time({app="shop"} | logfmt [10m]))"#;
    let counted = json(&["instant-query", query]);
    let counts: Vec<(String, String)> =
        items(&counted).map(|s| (text(&s["metric"]["level"]), text(&s["value"][1]))).collect();
    assert_eq!(counts, [("error", "1"), ("info", "2")].map(|(l, n)| (l.to_owned(), n.to_owned())), "{counted}");
    let ranged = json(&["query", "--since=5m", "--step=60s", query]);
    assert_eq!(items(&ranged).map(|s| text(&s["metric"]["level"])).collect::<Vec<_>>(), ["error", "info"], "{ranged}");
    // Pages overlap by a line, which is shown once.
    let paged = call(&["query", "--since=5m", "--output=raw", "--batch=2", "--limit=3", r#"{app="shop"}"#]);
    let paged: Vec<&str> = paged.lines().map(str::trim).collect();
    assert_eq!(paged, ["level=info three", "level=error two", "level=info one"]);
    let labels = call(&["labels", "--since=5m"]);
    assert!(["app", "env", "service_name"].iter().all(|l| labels.lines().any(|line| line.trim() == *l)), "{labels}");
    assert_eq!(call(&["labels", "--since=5m", "app"]).trim(), "shop");
    let series = call(&["series", "--since=5m", r#"{env="dev"}"#]);
    assert_eq!(series.trim(), r#"{app="shop", env="dev", service_name="shop"}"#);
    let volume = json(&["volume", "--since=5m", r#"{app="shop"}"#]);
    assert_eq!((&volume[0]["metric"], &volume[0]["value"][1]), (&json!({"app": "shop"}), &json!("45")), "{volume}");
    let volume = json(&["volume_range", "--since=5m", "--step=1m", r#"{app="shop"}"#]);
    let bytes: Vec<String> = items(&volume[0]["values"]).map(|v| text(&v[1])).collect();
    assert_eq!((&volume[0]["metric"], bytes), (&json!({"app": "shop"}), vec!["45".to_owned()]), "{volume}");
    let stats = call(&["stats", "--since=5m", r#"{app="shop"}"#]);
    for wanted in ["bytes: 45B", "streams: 1", "entries: 3"] {
        assert!(stats.lines().any(|line| line.trim() == wanted), "{wanted}: {stats}");
    }
    let fields = call(&["detected-fields", "--since=5m", r#"{app="shop"}"#]);
    let level = fields.lines().find(|l| l.contains("label: level")).unwrap_or_default();
    assert!(level.contains("type: string") && level.contains("cardinality: 2"), "{fields}");
    let mut command = Command::new(&program);
    command.arg(format!("--addr=http://127.0.0.1:{}", server.http_port)).args(["query", r#"{app="shop""#]);
    let refused = run(&mut command, b"");
    assert!(refused.code == Some(1) && refused.output().contains("parse error at line 1"), "{}", refused.output());
    // Follow: what is there, then what comes.
    let log = server.dir.join("tail.log");
    let mut command = Command::new(&program);
    command.arg(format!("--addr=http://127.0.0.1:{}", server.http_port)).args([
        "--quiet",
        "query",
        "--tail",
        "--output=raw",
        "--since=5m",
        r#"{app="shop"}"#,
    ]);
    let tail = Peer::start(&mut command, &log).unwrap();
    wait_for("the lines that are there", Duration::from_secs(30), || tail.output().contains("three"));
    push(&server.http, &[(wire::now_ns(), "a new line")]);
    wait_for("the line that came", Duration::from_secs(30), || tail.output().contains("a new line"));
}

#[test]
fn case_files_of_logql_pass() {
    let Some(folder) = conformance("logql", "case_files_of_logql_pass") else { return };
    let binary = trefoil_tests::server::binary();
    let finished = run(Command::new(&binary).args(["test", "logql", "--quiet"]).arg(&folder), b"").expect_success();
    assert!(finished.stdout.contains(" 0 fail, 0 scripts unread"), "{}", finished.output());
    // What does not hold is told with its id, and the exit code says so.
    let wrong = "cases:\n- {id: wrong, query: '{a=\"b\"}', log: {from: 0s, to: 1s}, expect: {scalar: 1}}\n";
    let file = std::env::temp_dir().join(format!("trefoil-logql-{}.yaml", std::process::id()));
    std::fs::write(&file, wrong).unwrap();
    let finished = run(Command::new(&binary).args(["test", "logql"]).arg(&file), b"");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(finished.code, Some(1), "{}", finished.output());
    assert!(finished.stdout.contains("wrong: "), "{}", finished.output());
}
