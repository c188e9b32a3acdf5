//! Rules over data that comes in, and what a webhook hears of them.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use trefoil_tests::server::fresh_dir;
use trefoil_tests::{FakeServer, Http, Peer, Server, ServerOptions, find_program, free_port, items, skipped, text};
use trefoil_tests::{wait_for_result, wire};

const PATIENCE: Duration = Duration::from_secs(60);

const RULES: &str = r#"
groups:
- name: queues
  interval: 1s
  rules:
  - record: queue:length:max
    expr: max by (queue) (queue_length)
    labels: { level: queue }
  - alert: QueueLong
    expr: queue:length:max > 10
    for: 1s
    labels:
      severity: page
      where: "{{ $labels.queue | toUpper }}"
    annotations:
      summary: "queue {{ $labels.queue }} has {{ $value | humanize }} messages"
      other: '{{ with query "queue_length" }}{{ . | first | value }}{{ end }} in {{ $externalLabels.region }}'
"#;

fn write(server: &Server, length: f64) {
    let series = wire::series(&[("__name__", "queue_length"), ("queue", "mail")], &[(wire::now_ms(), length)]);
    let answer = server.http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(vec![series])).unwrap();
    assert!(matches!(answer.status, 200 | 204), "{}", answer.text());
}

/// The newest message with this status, when one came.
fn message(hook: &FakeServer, status: &str) -> Result<Value, String> {
    let all: Vec<Value> = hook.received().iter().map(|r| r.json()).collect();
    all.iter().rfind(|m| m["status"] == status).cloned().ok_or_else(|| format!("{} messages: {all:?}", all.len()))
}

#[test]
fn an_alert_fires_and_resolves() {
    let hook = FakeServer::start(|_| (200, "text/plain", Vec::new()));
    let rules = fresh_dir("rules").join("rules.yml");
    std::fs::write(&rules, RULES).unwrap();
    let prometheus = format!(
        "global: {{ evaluation_interval: 1s, external_labels: {{ region: eu }} }}\nrule_files: [\"{}\"]\n",
        rules.display()
    );
    let trefoil = format!(
        "  alertmanager:\n    route: {{ receiver: hook, group_by: [alertname], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h }}\n    \
         receivers:\n    - name: hook\n      webhook_configs: [{{ url: \"http://{}/hook\" }}]\n",
        hook.address()
    );
    let server = Server::start("alerts", ServerOptions { prometheus, trefoil, ..ServerOptions::default() });
    write(&server, 1234.0);
    let firing = wait_for_result("the alert to fire", PATIENCE, || message(&hook, "firing"));
    let posted = &hook.received()[0];
    assert_eq!((posted.method.as_str(), posted.path.as_str()), ("POST", "/hook"));
    let labels = json!({"alertname": "QueueLong", "level": "queue", "queue": "mail", "region": "eu", "severity": "page", "where": "MAIL"});
    let annotations = json!({"other": "1234 in eu", "summary": "queue mail has 1.234k messages"});
    assert_eq!(firing["version"], "4", "{firing}");
    assert_eq!(firing["receiver"], "hook", "{firing}");
    assert_eq!(firing["groupLabels"], json!({"alertname": "QueueLong"}), "{firing}");
    assert_eq!((&firing["commonLabels"], &firing["commonAnnotations"]), (&labels, &annotations), "{firing}");
    assert_eq!(firing["truncatedAlerts"], 0, "{firing}");
    assert!(text(&firing["groupKey"]).contains("QueueLong"), "{firing}");
    let alert = &firing["alerts"][0];
    assert_eq!((&alert["status"], &alert["labels"], &alert["annotations"]), (&"firing".into(), &labels, &annotations));
    assert_eq!(alert["endsAt"], "0001-01-01T00:00:00Z", "{alert}");
    assert_eq!(text(&alert["fingerprint"]).len(), 16, "{alert}");
    assert!(text(&alert["generatorURL"]).contains("queue"), "{alert}");

    let http = &server.http;
    let rules = http.json("/api/v1/rules", &[]).unwrap();
    let group = &rules["data"]["groups"][0];
    assert_eq!((&group["name"], &group["interval"]), (&"queues".into(), &json!(1)).clone(), "{rules}");
    let by_type =
        |kind: &str| items(&group["rules"]).find(|r| r["type"] == kind).unwrap_or_else(|| panic!("{rules}")).clone();
    let (recording, alerting) = (by_type("recording"), by_type("alerting"));
    assert_eq!((&recording["name"], &recording["health"]), (&"queue:length:max".into(), &"ok".into()), "{recording}");
    assert_eq!((&alerting["state"], &alerting["health"]), (&"firing".into(), &"ok".into()), "{alerting}");
    assert_eq!(alerting["duration"].as_f64(), Some(1.0), "{alerting}");
    let alerts = http.json("/api/v1/alerts", &[]).unwrap();
    let active = &alerts["data"]["alerts"][0];
    assert_eq!((&active["state"], &active["labels"]["queue"]), (&"firing".into(), &"mail".into()), "{alerts}");
    for (query, want) in [
        ("queue:length:max{level=\"queue\", queue=\"mail\"}", 1234.0),
        ("ALERTS{alertname=\"QueueLong\", alertstate=\"firing\", severity=\"page\", where=\"MAIL\"}", 1.0),
        ("count(count_over_time(ALERTS{alertstate=\"pending\"}[5m]))", 1.0),
        ("count(ALERTS_FOR_STATE{alertname=\"QueueLong\"} > 1e9)", 1.0),
        ("count(ALERTS{alertstate=\"pending\"}) or vector(0)", 0.0),
    ] {
        wait_for_result(query, PATIENCE, || match http.promql_value(query)? {
            got if got == want => Ok(()),
            got => Err(format!("{got}, want {want}")),
        });
    }

    write(&server, 3.0);
    let resolved = wait_for_result("the alert to resolve", PATIENCE, || message(&hook, "resolved"));
    let alert = &resolved["alerts"][0];
    assert_eq!((&alert["status"], &alert["labels"]), (&"resolved".into(), &labels), "{alert}");
    assert!(text(&alert["endsAt"]) > text(&alert["startsAt"]), "{alert}");
    wait_for_result("no alert", PATIENCE, || match http.promql("ALERTS")?.len() {
        0 => Ok(()),
        n => Err(format!("{n} series")),
    });
    let firings = hook.received().iter().filter(|r| r.json()["status"] == "firing").count();
    assert_eq!(firings, 1, "one message as long as nothing changes");
}

#[test]
fn a_rule_that_fails_says_why() {
    let rules = fresh_dir("bad-rules").join("rules.yml");
    let text_of = "groups:\n- name: bad\n  interval: 1s\n  rules:\n  - record: twice\n    expr: label_replace(queue_length, \"queue\", \"x\", \"\", \"\")\n";
    std::fs::write(&rules, text_of).unwrap();
    let prometheus = format!("rule_files: [\"{}\"]\n", rules.display());
    let server = Server::start("bad-rules", ServerOptions { prometheus, ..ServerOptions::default() });
    let at = wire::now_ms();
    let series = ["a", "b"].map(|q| wire::series(&[("__name__", "queue_length"), ("queue", q)], &[(at, 1.0)]));
    server.http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(series.to_vec())).unwrap();
    let rule = wait_for_result("the rule to fail", PATIENCE, || {
        let rules = server.http.json("/api/v1/rules", &[])?;
        let rule = rules["data"]["groups"][0]["rules"][0].clone();
        if rule["health"] == "err" { Ok(rule) } else { Err(rules.to_string()) }
    });
    assert!(text(&rule["lastError"]).contains("same labelset"), "{rule}");
    assert!(server.http.own_metric("trefoil_rules_evaluation_failures_total") > 0.0);
}

#[test]
fn a_real_alertmanager_is_told() {
    let Some(program) = find_program("prometheus-alertmanager").or_else(|| find_program("alertmanager")) else {
        return skipped("a_real_alertmanager_is_told", "prometheus-alertmanager is not installed");
    };
    let hook = FakeServer::start(|_| (200, "text/plain", Vec::new()));
    let (dir, port) = (fresh_dir("alertmanager"), free_port());
    let config = format!(
        "route: {{ receiver: hook, group_by: [alertname], group_wait: 100ms, group_interval: 1s }}\n\
         receivers: [{{ name: hook, webhook_configs: [{{ url: \"http://{}/real\" }}] }}]\n",
        hook.address()
    );
    std::fs::write(dir.join("alertmanager.yml"), config).unwrap();
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", dir.join("alertmanager.yml").display()))
        .arg(format!("--storage.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        // No cluster: nothing beyond this one.
        .arg("--cluster.listen-address=");
    let peer = Peer::start(&mut command, &dir.join("alertmanager.log")).unwrap();
    let alertmanager = Http::new(format!("http://127.0.0.1:{port}"));
    wait_for_result("Alertmanager to be ready", PATIENCE, || {
        let answer = alertmanager.get("/-/ready", &[]).map_err(|e| format!("{e:#} {}", peer.output()))?;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    });
    let rules = dir.join("rules.yml");
    std::fs::write(&rules, RULES).unwrap();
    let prometheus = format!(
        "global: {{ evaluation_interval: 1s, external_labels: {{ region: eu }} }}\nrule_files: [\"{}\"]\n\
         alerting:\n  alertmanagers:\n  - static_configs: [{{ targets: [\"127.0.0.1:{port}\"] }}]\n",
        rules.display()
    );
    let server = Server::start("alertmanager", ServerOptions { prometheus, ..ServerOptions::default() });
    write(&server, 99.0);
    let firing = wait_for_result("Alertmanager to tell", PATIENCE, || message(&hook, "firing"));
    let labels = &firing["alerts"][0]["labels"];
    assert_eq!((&labels["alertname"], &labels["region"]), (&"QueueLong".into(), &"eu".into()), "{firing}");
    let known = alertmanager.json("/api/v2/alerts", &[]).unwrap();
    assert_eq!(known[0]["annotations"]["other"], "99 in eu", "{known}");
    let ours = server.http.json("/api/v1/alertmanagers", &[]).unwrap();
    assert!(text(&ours["data"]["activeAlertmanagers"][0]["url"]).contains(&format!("127.0.0.1:{port}")), "{ours}");
    write(&server, 1.0);
    wait_for_result("Alertmanager to tell that it is over", PATIENCE, || message(&hook, "resolved"));
}
