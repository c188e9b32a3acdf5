//! Rules over logs: a line fires an alert, counts become series, and a bad file is refused with its place.

use std::time::Duration;

use serde_json::{Value, json};
use trefoil_tests::server::fresh_dir;
use trefoil_tests::{FakeServer, Http, Server, ServerOptions, items, text, wait_for_result, wire};

const PATIENCE: Duration = Duration::from_secs(60);

const RULES: &str = r#"
groups:
- name: shop
  interval: 1s
  rules:
  - record: shop:errors:count10m
    expr: sum by (code) (count_over_time({app="shop"} |= "failed" | logfmt [10m]))
    labels: { origin: logs }
  - alert: PaymentsFail
    expr: sum by (code) (count_over_time({app="shop"} |= "payment failed" | logfmt [10m])) > 1
    for: 1s
    labels: { severity: page, app: "{{ $labels.code | toUpper }}" }
    annotations:
      summary: 'code {{ $labels.code }}: {{ $value }} payments'
      all: '{{ with query "sum(count_over_time({app=\"shop\"}[10m]))" }}{{ . | first | value }}{{ end }} lines'
"#;

fn push(http: &Http, lines: &[&str]) {
    let now = wire::now_ns();
    let values: Vec<Value> =
        lines.iter().enumerate().map(|(i, line)| json!([(now + i as u64).to_string(), line])).collect();
    let body = json!({"streams": [{"stream": {"app": "shop"}, "values": values}]});
    let headers = [("content-type", "application/json")];
    assert_eq!(http.post("/loki/api/v1/push", &headers, body.to_string()).unwrap().status, 204);
}

#[test]
fn a_line_fires_an_alert_and_counts_become_series() {
    let hook = FakeServer::start(|_| (200, "text/plain", Vec::new()));
    let file = fresh_dir("log-rules").join("shop.yml");
    std::fs::write(&file, RULES).unwrap();
    let trefoil = format!(
        "  enable_lifecycle: true\n  logs: {{ rule_files: [\"{}\"] }}\n  alertmanager:\n    \
         route: {{ receiver: hook, group_by: [alertname], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h }}\n    \
         receivers:\n    - name: hook\n      webhook_configs: [{{ url: \"http://{}/hook\" }}]\n",
        file.display(),
        hook.address()
    );
    let server = Server::start("log-rules", ServerOptions { trefoil, ..ServerOptions::default() });
    let http = &server.http;
    push(http, &["level=info order placed", "level=error code=e5 payment failed", "code=e7 payment failed"]);
    for (query, want) in [
        (r#"shop:errors:count10m{origin="logs", code="e5"}"#, 1.0),
        (r#"shop:errors:count10m{origin="logs", code="e7"}"#, 1.0),
    ] {
        wait_for_result(query, PATIENCE, || match http.promql_value(query)? {
            got if got == want => Ok(()),
            got => Err(format!("{got}, want {want}")),
        });
    }
    assert!(hook.received().is_empty(), "one line of a code is not enough");
    push(http, &["level=error code=e5 payment failed again: payment failed"]);
    let message = wait_for_result("the alert to fire", PATIENCE, || {
        let all: Vec<Value> = hook.received().iter().map(|r| r.json()).collect();
        all.iter().find(|m| m["status"] == "firing").cloned().ok_or_else(|| format!("{all:?}"))
    });
    let alert = &message["alerts"][0];
    let labels = json!({"alertname": "PaymentsFail", "app": "E5", "code": "e5", "severity": "page"});
    assert_eq!(alert["labels"], labels, "{message}");
    let annotations = json!({"summary": "code e5: 2 payments", "all": "4 lines"});
    assert_eq!(alert["annotations"], annotations, "{message}");
    assert!(text(&alert["generatorURL"]).contains("/logs?q=sum%20by"), "{message}");
    assert_eq!(http.promql_value(r#"count(ALERTS{alertname="PaymentsFail", alertstate="firing"})"#), Ok(1.0));

    // Loki's pages show them, Prometheus' do not.
    let told = http.json("/prometheus/api/v1/rules", &[]).unwrap();
    let group = &told["data"]["groups"][0];
    assert_eq!((&group["name"], &group["file"], &group["interval"]), (&"shop".into(), &"shop.yml".into(), &1.into()));
    let kinds: Vec<String> =
        items(&group["rules"]).map(|r| format!("{} {}", text(&r["type"]), text(&r["health"]))).collect();
    assert_eq!(kinds, ["recording ok", "alerting ok"], "{told}");
    let alerting = &group["rules"][1];
    assert_eq!((&alerting["state"], &alerting["alerts"][0]["labels"]), (&"firing".into(), &labels), "{told}");
    assert!(text(&alerting["query"]).contains("|= \"payment failed\" | logfmt"), "{told}");
    let recording = http.json("/prometheus/api/v1/rules", &[("type", "record")]).unwrap();
    assert_eq!(items(&recording["data"]["groups"][0]["rules"]).count(), 1, "{recording}");
    let alerts = http.json("/prometheus/api/v1/alerts", &[]).unwrap();
    assert_eq!((&alerts["data"]["alerts"][0]["labels"], &alerts["status"]), (&labels, &"success".into()), "{alerts}");
    assert_eq!(http.json("/api/v1/rules", &[]).unwrap()["data"]["groups"], json!([]));
    let config = http.get("/loki/api/v1/rules", &[]).unwrap();
    assert_eq!(config.status, 200, "{}", config.text());
    for wanted in ["shop.yml:", "name: shop", "interval: 1s", "alert: PaymentsFail", "record: shop:errors:count10m"] {
        assert!(config.text().contains(wanted), "{wanted}: {}", config.text());
    }
    let one = http.get("/loki/api/v1/rules/shop.yml/shop", &[]).unwrap();
    assert!(one.status == 200 && one.text().starts_with("name: shop\n"), "{}", one.text());
    assert_eq!(http.get("/loki/api/v1/rules/shop.yml/none", &[]).unwrap().status, 404);
    assert_eq!(http.get("/loki/api/v1/rules/none.yml", &[]).unwrap().status, 404);

    // A bad expression and a query of lines are refused with file and place; what is in force stays.
    for (expr, want) in [
        ("sum(count_over_time({app=\"shop\"}[1m])", "parse error at line 1"),
        ("{app=\"shop\"}", "a rule needs a metric query"),
    ] {
        let bad = format!("groups:\n- name: bad\n  rules:\n  - record: b\n    expr: '{expr}'\n");
        std::fs::write(&file, bad).unwrap();
        let answer = http.post("/-/reload", &[], "").unwrap();
        let told = answer.text();
        assert!(answer.status >= 400 && told.contains("shop.yml:5:11") && told.contains(want), "{expr}: {told}");
        let rules = http.json("/prometheus/api/v1/rules", &[]).unwrap();
        assert_eq!(rules["data"]["groups"][0]["name"], "shop", "{rules}");
        let checked = trefoil_tests::run(
            std::process::Command::new(trefoil_tests::server::binary()).args(["check", "rules", "--logs"]).arg(&file),
            b"",
        );
        assert!(checked.code == Some(1) && checked.output().contains("shop.yml:5:11"), "{}", checked.output());
    }
    std::fs::write(&file, RULES.replace("name: shop", "name: market")).unwrap();
    assert_eq!(http.post("/-/reload", &[], "").unwrap().status, 200);
    let rules = http.json("/prometheus/api/v1/rules", &[]).unwrap();
    assert_eq!(rules["data"]["groups"][0]["name"], "market", "{rules}");
}
