//! `trefoil demo`: the simulated shop fills the server within a minute, its fault fires an alert that resolves.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use trefoil_tests::server::{binary, fresh_dir};
use trefoil_tests::{Http, Peer, free_port, items, text, wait_for_result, wire};

const MINUTE: Duration = Duration::from_secs(60);

/// A running demo on free ports.
pub(crate) struct Demo {
    pub(crate) peer: Peer,
    pub(crate) http: Http,
}

impl Demo {
    /// Starts the demo with these flags and waits until it is ready.
    pub(crate) fn start(name: &str, flags: &[&str]) -> Self {
        let (dir, port) = (fresh_dir(name), free_port());
        let mut command = Command::new(binary());
        command
            .arg("demo")
            .args(flags)
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(format!("--otlp.grpc-address=127.0.0.1:{}", free_port()))
            .arg(format!("--otlp.http-address=127.0.0.1:{}", free_port()))
            // The demo keeps its own files there.
            .env("TMPDIR", &dir);
        let mut peer = Peer::start(&mut command, &dir.join("demo.log")).unwrap();
        let http = Http::new(format!("http://127.0.0.1:{port}"));
        wait_for_result("the demo to be ready", MINUTE, || {
            assert!(peer.is_running(), "the demo ended: {}", peer.output());
            let answer = http.get("/-/ready", &[]).map_err(|e| format!("{e:#}"))?;
            if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
        });
        Self { peer, http }
    }

    /// Waits until the alert of the fault is in this state (`inactive` when it is not there).
    pub(crate) fn wait_for_alert(&self, states: &[&str], timeout: Duration) -> String {
        wait_for_result(&format!("PaymentsFailing to be {states:?}"), timeout, || {
            let alerts = self.http.json("/api/v1/alerts", &[])?;
            let alert = items(&alerts["data"]["alerts"]).find(|a| a["labels"]["alertname"] == "PaymentsFailing");
            let state = alert.map_or_else(|| "inactive".to_owned(), |a| text(&a["state"]));
            if states.contains(&state.as_str()) { Ok(state) } else { Err(alerts.to_string()) }
        })
    }
}

#[test]
fn the_shop_is_open_and_its_fault_is_seen() {
    let demo = Demo::start("demo", &["--rate=20", "--fault-after=3", "--fault-for=25", "--fault-every=3600"]);
    let http = &demo.http;
    for query in [
        "count(up{job=\"shop\"} == 1) == 8",
        "sum(rate(shop_requests_total[1m])) > 0",
        "count(service:shop_requests:rate1m) > 3",
        "histogram_quantile(0.9, sum by (le) (rate(shop_request_duration_seconds_bucket{service=\"gateway\"}[1m]))) > 0",
        "sum(shop_database_statements_total) > 0",
        "up{job=\"trefoil\"} == 1",
    ] {
        wait_for_result(query, MINUTE, || http.promql_value(query));
    }
    let services: BTreeSet<&str> = BTreeSet::from(["gateway", "orders", "inventory", "payments", "worker"]);
    wait_for_result("all services to be known", MINUTE, || {
        let found = http.json("/jaeger/api/services", &[])?;
        let names: BTreeSet<String> = items(&found["data"]).map(text).collect();
        if services.iter().all(|s| names.contains(*s)) { Ok(()) } else { Err(found.to_string()) }
    });
    // A trace of an order that worked goes through all five, and each of them wrote lines that name it.
    let trace = wait_for_result("a trace through all services", MINUTE, || {
        let query = [("service", "worker"), ("limit", "20"), ("lookback", "1h")];
        let found = http.json("/jaeger/api/traces", &query)?;
        let through = |t: &serde_json::Value| {
            let processes = t["processes"].as_object().into_iter().flatten();
            let names: BTreeSet<String> = processes.map(|(_, p)| text(&p["serviceName"])).collect();
            services.iter().all(|s| names.contains(*s))
        };
        let trace = items(&found["data"]).find(|t| through(t)).map(|t| text(&t["traceID"]));
        trace.ok_or_else(|| format!("{} traces", items(&found["data"]).count()))
    });
    wait_for_result("lines of the trace", MINUTE, || {
        let query = format!("{{service_name=~\"gateway|orders|payments|worker\"}} | trace_id={trace:?}");
        let lines = http.logql_lines(&query)?;
        if lines.len() >= 4 { Ok(()) } else { Err(format!("{lines:?}")) }
    });
    // An exemplar leads to its trace.
    wait_for_result("an exemplar that leads to a trace", MINUTE, || {
        let now = wire::now_ms() / 1000;
        let query = [
            ("query", "shop_request_duration_seconds_bucket"),
            ("start", &(now - 600).to_string()),
            ("end", &(now + 60).to_string()),
        ];
        let found = http.json("/api/v1/query_exemplars", &query)?;
        let mut exemplars = items(&found["data"]).flat_map(|s| items(&s["exemplars"])).peekable();
        exemplars.peek().ok_or("no exemplars")?;
        let id = exemplars.map(|e| text(&e["labels"]["trace_id"])).next().unwrap_or_default();
        http.json(&format!("/jaeger/api/traces/{id}"), &[]).map(drop)
    });
    demo.wait_for_alert(&["pending", "firing"], MINUTE);
    let lines =
        http.logql_lines("{service_name=\"payments\"} |= \"charge failed\" | logfmt | level=\"error\"").unwrap();
    assert!(!lines.is_empty(), "the fault is in the logs");
    // The rate is one over a minute, so the alert outlives the fault by a while.
    demo.wait_for_alert(&["firing"], MINUTE);
    demo.wait_for_alert(&["inactive"], 2 * MINUTE);
    let mut peer = demo.peer;
    peer.signal("TERM");
    assert_eq!(peer.wait(), Some(0), "{}", peer.output());
}
