//! Real exporters and a real Prometheus: scraped, remote-written, asked the same questions.

mod answers;
mod api;

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use trefoil_tests::server::fresh_dir;
use trefoil_tests::{
    FakeServer, Http, Peer, Server, ServerOptions, find_program, free_port, items, run, skipped, text,
};
use trefoil_tests::{wait_for, wait_for_result, wire};

const PATIENCE: Duration = Duration::from_secs(60);

/// A program of Prometheus 3.14: that which `TREFOIL_PROMETHEUS` names (`promtool` stands beside it), or what
/// `make test-peers` built.
fn new_prometheus(program: &str) -> Option<std::path::PathBuf> {
    let named = std::env::var_os("TREFOIL_PROMETHEUS").map(|path| std::path::Path::new(&path).with_file_name(program));
    let built = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/prometheus3").join(program);
    named.into_iter().chain([built]).find(|path| path.is_file())
}

/// A node exporter on a free port.
struct Exporter {
    peer: Peer,
    http: Http,
    port: u16,
}

impl Exporter {
    fn start(name: &str) -> Option<Self> {
        let program = find_program("prometheus-node-exporter").or_else(|| find_program("node_exporter"))?;
        let port = free_port();
        let mut command = Command::new(program);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let peer = Peer::start(&mut command, &fresh_dir(name).join("exporter.log")).unwrap();
        let http = Http::new(format!("http://127.0.0.1:{port}"));
        wait_for("the exporter to answer", PATIENCE, || http.get("/metrics", &[]).is_ok_and(|a| a.status == 200));
        Some(Self { peer, http, port })
    }

    /// Sample lines of its page.
    fn page(&self) -> Vec<String> {
        let page = self.http.get("/metrics", &[]).unwrap().text();
        page.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect()
    }
}

/// The answer of `/api/v1/targets` for a job.
fn target(http: &Http, job: &str) -> Result<Value, String> {
    let answer = http.json("/api/v1/targets", &[])?;
    let found = items(&answer["data"]["activeTargets"]).find(|t| t["labels"]["job"] == job);
    found.cloned().ok_or_else(|| format!("no target of job {job} in {answer}"))
}

#[test]
fn a_node_exporter_is_scraped() {
    let Some(mut exporter) = Exporter::start("scraped") else {
        return skipped("a_node_exporter_is_scraped", "prometheus-node-exporter is not installed");
    };
    let prometheus = format!(
        r#"
global: {{ scrape_interval: 1s, scrape_timeout: 1s, external_labels: {{ region: test }} }}
scrape_configs:
- job_name: node
  static_configs:
  - targets: ["127.0.0.1:{}"]
    labels: {{ env: dev }}
  relabel_configs:
  - source_labels: [__address__]
    regex: "(.*):\\d+"
    target_label: host
  metric_relabel_configs:
  - source_labels: [__name__]
    regex: go_.*
    action: drop
"#,
        exporter.port
    );
    let server = Server::start("scraped", ServerOptions { prometheus, ..ServerOptions::default() });
    let http = &server.http;
    wait_for_result("the target to be up", PATIENCE, || match http.promql_value("up{job=\"node\"}")? {
        1.0 => Ok(()),
        other => Err(format!("up is {other}: {:?}", target(http, "node"))),
    });
    let load = http.promql("node_load1").unwrap();
    let want = serde_json::json!({
        "__name__": "node_load1", "env": "dev", "host": "127.0.0.1", "instance": format!("127.0.0.1:{}", exporter.port), "job": "node"
    });
    assert_eq!(load.len(), 1, "{load:?}");
    assert_eq!(load[0]["metric"], want);
    // A page may change by a device that comes or goes: compare until both are of one moment.
    wait_for_result("as many series as the page has samples", PATIENCE, || {
        let page = exporter.page();
        let kept = page.iter().filter(|l| !l.starts_with("go_")).count();
        let stored = http.promql_value("count({job=\"node\", __name__!~\"up|scrape_.*\"})")?;
        let scraped = http.promql_value("scrape_samples_scraped{job=\"node\"}")?;
        let after = http.promql_value("scrape_samples_post_metric_relabeling{job=\"node\"}")?;
        let (want, got) = ([kept as f64, page.len() as f64, kept as f64], [stored, scraped, after]);
        if want == got { Ok(()) } else { Err(format!("page {want:?}, stored {got:?}")) }
    });
    assert_eq!(http.promql("{__name__=~\"go_.*\"}").unwrap(), Vec::<Value>::new());
    let total = exporter.page().iter().find_map(|l| l.strip_prefix("node_memory_MemTotal_bytes ")?.parse::<f64>().ok());
    assert_eq!(http.promql_value("node_memory_MemTotal_bytes").ok(), total);
    let answer = target(http, "node").unwrap();
    assert_eq!((&answer["health"], &answer["lastError"]), (&"up".into(), &"".into()), "{answer}");
    assert_eq!(answer["discoveredLabels"]["__address__"], format!("127.0.0.1:{}", exporter.port));
    let metadata = http.json("/api/v1/metadata", &[("metric", "node_load1")]).unwrap();
    assert_eq!(metadata["data"]["node_load1"][0]["type"], "gauge", "{metadata}");

    exporter.peer.kill();
    wait_for_result("the target to be down", PATIENCE, || match http.promql_value("up{job=\"node\"}")? {
        0.0 => Ok(()),
        other => Err(format!("up is {other}")),
    });
    // A scrape that fails ends the series at once, not after five minutes.
    assert_eq!(http.promql("node_load1").unwrap(), Vec::<Value>::new());
    assert_eq!(http.promql("last_over_time(node_load1[5m])").unwrap().len(), 1, "what was stored stays");
    let answer = target(http, "node").unwrap();
    assert_eq!(answer["health"], "down", "{answer}");
    assert!(!text(&answer["lastError"]).is_empty(), "{answer}");
}

#[test]
fn labels_of_the_page_are_honoured_or_renamed() {
    let page = "# TYPE jobs_done_total counter\njobs_done_total{job=\"batch\",instance=\"x\"} 7\n\
        # TYPE temperature gauge\ntemperature{room=\"a b\\\"c\"} -3.5e1\n";
    let target = FakeServer::page("text/plain; version=0.0.4", page);
    let open_metrics = FakeServer::page(
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        "# TYPE hits counter\n# UNIT hits_seconds seconds\nhits_total{a=\"1\"} 5 # {trace_id=\"0123456789abcdef0123456789abcdef\"} 1.5\n\
         hits_created{a=\"1\"} 1.6e9\n# EOF\n"
            .replace("# UNIT hits_seconds seconds\n", ""),
    );
    let job = |name: &str, honor: bool, address: &str| {
        format!("- job_name: {name}\n  honor_labels: {honor}\n  static_configs:\n  - targets: [\"{address}\"]\n")
    };
    let prometheus = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n{}{}{}",
        job("plain", false, &target.address()),
        job("honest", true, &target.address()),
        job("open", false, &open_metrics.address())
    );
    let server = Server::start("honor", ServerOptions { prometheus, ..ServerOptions::default() });
    let check = |query: &str, want: f64| {
        wait_for_result(query, PATIENCE, || match server.http.promql_value(query)? {
            got if got == want => Ok(()),
            got => Err(format!("{got}, want {want}")),
        });
    };
    check("jobs_done_total{job=\"plain\", exported_job=\"batch\", exported_instance=\"x\"}", 7.0);
    check("jobs_done_total{job=\"batch\", instance=\"x\", exported_job=\"\"}", 7.0);
    check("temperature{job=\"plain\", room=`a b\"c`}", -35.0);
    check("hits_total{job=\"open\", a=\"1\"}", 5.0);
    check("sum(up)", 3.0);
    let now = wire::now_ms() / 1000;
    let window = [("query", "hits_total"), ("start", &(now - 600).to_string()), ("end", &(now + 60).to_string())];
    let exemplars = server.http.json("/api/v1/query_exemplars", &window).unwrap();
    let labels = &exemplars["data"][0]["exemplars"][0]["labels"];
    assert_eq!(labels["trace_id"], "0123456789abcdef0123456789abcdef", "{exemplars}");
    let asked = &target.received()[0];
    let accept = asked.headers.iter().find(|(n, _)| n == "accept").map(|(_, v)| v.as_str()).unwrap_or_default();
    assert!(accept.contains("application/openmetrics-text") && accept.contains("text/plain"), "{accept}");
}

/// A Prometheus that scrapes an exporter and itself and writes all of it to `server`.
struct Writer {
    peer: Peer,
    http: Http,
    _exporter: Exporter,
}

fn start_prometheus(server: &Server) -> Option<Writer> {
    let program = find_program("prometheus")?;
    let exporter = Exporter::start("compared")?;
    let (dir, port) = (fresh_dir("prometheus"), free_port());
    let config = |jobs: &str| {
        let text = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nremote_write:\n- url: {}/api/v1/write\n  \
             queue_config: {{ batch_send_deadline: 500ms, min_backoff: 100ms }}\n  metadata_config: {{ send_interval: 2s }}\n{jobs}",
            server.http.base
        );
        std::fs::write(dir.join("prometheus.yml"), text).unwrap();
    };
    config(&format!(
        "scrape_configs:\n- job_name: node\n  static_configs: [{{ targets: [\"127.0.0.1:{}\"] }}]\n\
         - job_name: prometheus\n  static_configs: [{{ targets: [\"127.0.0.1:{port}\"] }}]\n",
        exporter.port
    ));
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--log.level=warn");
    let peer = Peer::start(&mut command, &dir.join("prometheus.log")).unwrap();
    let http = Http::new(format!("http://127.0.0.1:{port}"));
    wait_for("Prometheus to be ready", PATIENCE, || http.get("/-/ready", &[]).is_ok_and(|a| a.status == 200));
    // Its own histograms of requests should have something in them.
    wait_for_result("thirty scrapes", Duration::from_secs(120), || {
        let scrapes = http.promql_value("min(count_over_time(up[2m]))")?;
        if scrapes >= 30.0 { Ok(()) } else { Err(format!("{scrapes} scrapes")) }
    });
    config("");
    peer.signal("HUP");
    Some(Writer { peer, http, _exporter: exporter })
}

/// A time in Unix milliseconds before which both jobs were scraped, and whose fraction of a second is far from those
/// of the scrapes: the edge of no window falls on a sample, so that both readings of "from t minus range" agree.
fn quiet_moment(http: &Http) -> i64 {
    let last: Vec<i64> = http
        .promql("max_over_time(timestamp(up)[2m:250ms])")
        .unwrap()
        .iter()
        .map(|s| (text(&s["value"][1]).parse::<f64>().unwrap() * 1000.0).round() as i64)
        .collect();
    assert_eq!(last.len(), 2, "{last:?}");
    let far = |ms: &i64| {
        let apart = |t: i64| {
            let apart = (t - ms).rem_euclid(1000);
            apart.min(1000 - apart)
        };
        // Subqueries look at whole seconds.
        last.iter().copied().chain([0]).map(apart).min().unwrap_or(0)
    };
    let end = last.iter().min().unwrap() - 1000;
    (end - 999..=end).max_by_key(far).unwrap()
}

#[test]
fn a_prometheus_and_we_answer_alike() {
    let server = Server::start("compared", ServerOptions::default());
    let Some(mut writer) = start_prometheus(&server) else {
        return skipped("a_prometheus_and_we_answer_alike", "prometheus or its node exporter is not installed");
    };
    let at_ms = quiet_moment(&writer.http);
    let samples = wait_for_result("all samples to be there", PATIENCE, || {
        let (theirs, ours) = (answers::samples(&writer.http, at_ms)?, answers::samples(&server.http, at_ms)?);
        answers::difference(&theirs, &ours).map_or(Ok(theirs), Err)
    });
    let samples: usize = samples.values().map(Vec::len).sum();
    assert!(samples > 10_000, "only {samples} samples");
    let faults = answers::compare(&writer.http, &server.http, at_ms);
    assert!(faults.is_empty(), "{} answers differ:\n{}", faults.len(), faults.join("\n"));
    let metadata = server.http.json("/api/v1/metadata", &[("metric", "node_cpu_seconds_total")]).unwrap();
    assert_eq!(metadata["data"]["node_cpu_seconds_total"][0]["type"], "counter", "{metadata}");
    assert_eq!(server.http.own_metric("trefoil_ingest_rejected_total"), 0.0);
    writer.peer.signal("TERM");
    assert_eq!(writer.peer.wait(), Some(0));
}

#[test]
fn promtool_accepts_our_page_and_asks() {
    let Some(promtool) = find_program("promtool") else {
        return skipped("promtool_accepts_our_page_and_asks", "promtool is not installed");
    };
    let server = Server::start("promtool", ServerOptions::default());
    let now = wire::now_ms();
    let series = ["a", "b"].map(|q| wire::series(&[("__name__", "queue_length"), ("queue", q)], &[(now, 4.0)]));
    let answer = server.http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(series.to_vec())).unwrap();
    assert!(matches!(answer.status, 200 | 204), "{}", answer.text());
    server.http.promql("queue_length").unwrap();
    let page = server.http.get("/metrics", &[]).unwrap();
    let checked = run(Command::new(&promtool).args(["check", "metrics"]), &page.body);
    assert_eq!((checked.code, checked.output().trim()), (Some(0), ""), "promtool check metrics");

    let ask = |arguments: &[&str]| {
        let (kind, rest) = arguments.split_first().unwrap();
        let finished = match rest {
            [flag, rest @ ..] if flag.starts_with("--") => {
                run(Command::new(&promtool).args(["query", kind, flag, &server.http.base]).args(rest), b"")
            }
            rest => run(Command::new(&promtool).args(["query", kind, &server.http.base]).args(rest), b""),
        };
        finished.expect_success().stdout
    };
    let instant = ask(&["instant", "queue_length"]);
    assert!(instant.contains("queue_length{queue=\"a\"} => 4 @["), "{instant}");
    let range = ask(&["range", "sum(queue_length)"]);
    assert!(range.contains("8 @["), "{range}");
    let series = ask(&["series", "--match=queue_length"]);
    assert!(series.contains("queue=\"b\""), "{series}");
    assert_eq!(ask(&["labels", "queue"]).split_whitespace().collect::<Vec<_>>(), ["a", "b"]);
}
