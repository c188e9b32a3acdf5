//! Every endpoint asked of a real Prometheus and of us over the same samples, with good and bad parameters: status, media
//! type and body must be the same.
//!
//! Debian's Prometheus is asked what was so in its days ([`ALWAYS`]); a 3.14 ([`super::new_prometheus`]) is asked the
//! rest ([`NOW`]) as well. Left out, as they differ on purpose or by what is inside:
//! - the order of instant vectors and of series in an answer, where the reference promises none, and so what `limit`
//!   leaves of them and which of two duplicates an error names first;
//! - labels in a range that ends before it begins: there those of its head, when that has newer samples, or none;
//! - words about faulty regular expressions and faulty JSON, which are those of Go's libraries;
//! - `HEAD`, which we answer wherever we answer `GET`; `OPTIONS` outside `/api/v1`, which is 204 here and 200 there;
//! - times beyond the year 287000, which overflow there; numbers with underscores as times; a `timeout` that is not
//!   positive, for which the reference has three answers by chance;
//! - discovered labels of targets that say how native histograms are scraped; status pages about the process, the head's
//!   chunks and the bytes of labels; features and flags; the search API, which is off there by default.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use trefoil_tests::server::fresh_dir;
use trefoil_tests::{Http, Peer, Server, ServerOptions, find_program, free_port, run, skipped, wait_for, wire};

use super::PATIENCE;

/// Requests that Debian's 2.42 answers as 3.14 does. `$600` is 600 s after the first sample; parts are apart by ` ~ `.
const ALWAYS: &str = r#"
GET /api/v1/query ~ query=http_requests_total ~ time=$605
GET /api/v1/query ~ query=odd ~ time=$605
GET /api/v1/query ~ query=esc ~ time=$605
GET /api/v1/query ~ query=1 ~ time=$605
GET /api/v1/query ~ query="s" ~ time=$605
GET /api/v1/query ~ query=1e6 ~ time=$605
GET /api/v1/query ~ query=-(1/0) ~ time=$605
GET /api/v1/query ~ query=0/0 ~ time=$605
GET /api/v1/query ~ query=time() ~ time=$605.25
GET /api/v1/query ~ query=http_requests_total[1m] ~ time=$607
GET /api/v1/query ~ query=count_values("v", odd) ~ time=$605
GET /api/v1/query ~ query=absent(nope) ~ time=$605
GET /api/v1/query ~ query=foo( ~ time=$605
GET /api/v1/query ~ query=http_requests_total{ ~ time=$605
GET /api/v1/query ~ query=rate(http_requests_total) ~ time=$605
GET /api/v1/query ~ query={} ~ time=$605
GET /api/v1/query ~ query={job=~".*"} ~ time=$605
GET /api/v1/query ~ query=label_replace(http_requests_total, "a", "b", "c", "(") ~ time=$605
GET /api/v1/query ~ query=vector(time()) ~ time=$600.0005
GET /api/v1/query ~ query=vector(time()) ~ time=-1.5
GET /api/v1/query ~ query=vector(time()) ~ time=1e3
GET /api/v1/query ~ query=vector(time()) ~ time=2015-07-01T22:10:30.781+02:00
GET /api/v1/query ~ query=1 ~ time=$605 ~ timeout=x
GET /api/v1/query ~ query=1 ~ time=$605 ~ timeout=1e30
GET /api/v1/query ~ query=http_requests_total ~ time=$605 ~ lookback_delta=0
GET /api/v1/query?query=2 ~ time=5
POST /api/v1/query?query=2 ~ query=1 ~ time=5
POST /api/v1/query?query=2&time=5
GET /api/v1/query_range ~ query=http_requests_total ~ start=$600 ~ end=$660 ~ step=30
GET /api/v1/query_range ~ query=odd ~ start=$600 ~ end=$601 ~ step=0.5
GET /api/v1/query_range ~ query=time() ~ start=$600.25 ~ end=$630.75 ~ step=10
GET /api/v1/query_range ~ query=vector(time()) ~ start=$600 ~ end=$660 ~ step=7.3
GET /api/v1/query_range ~ query=vector(time()) ~ start=$600 ~ end=$660 ~ step=1.001
GET /api/v1/query_range ~ query=vector(time()) ~ start=$600 ~ end=$601 ~ step=0.0015
GET /api/v1/query_range ~ query=nope ~ start=$600 ~ end=$660 ~ step=1m
POST /api/v1/query_range ~ query=1 ~ start=1 ~ end=2 ~ step=1
GET /api/v1/query_range
GET /api/v1/query_range ~ query=1 ~ start=x ~ end=2 ~ step=1
GET /api/v1/query_range ~ query=1 ~ start=1 ~ end=x ~ step=1
GET /api/v1/query_range ~ query=1 ~ start=1 ~ end=2 ~ step=x
GET /api/v1/query_range ~ query=1 ~ start=1 ~ end=2
GET /api/v1/query_range ~ query=1 ~ start=1 ~ end=2 ~ step=0
GET /api/v1/query_range ~ query=1 ~ start=1 ~ end=2 ~ step=-1
GET /api/v1/query_range ~ query=1 ~ start=1 ~ end=2 ~ step=NaN
GET /api/v1/query_range ~ query=1 ~ start=1 ~ end=2 ~ step=1e30
GET /api/v1/query_range ~ query=1 ~ start=2 ~ end=1 ~ step=1
GET /api/v1/query_range ~ query=1 ~ start=0 ~ end=1000000 ~ step=1
GET /api/v1/format_query ~ query=sum(rate(a[5m])) by (b)
GET /api/v1/format_query ~ query=foo(
GET /api/v1/format_query ~ query=a / on(x) group_left(y) b
POST /api/v1/format_query ~ query=a+b
GET /api/v1/labels ~ match[]={
GET /api/v1/labels ~ match[]={}
GET /api/v1/labels ~ match[]={job=""}
GET /api/v1/labels ~ match[]=odd ~ match[]=http_requests_total
GET /api/v1/labels ~ match[]=1
GET /api/v1/labels ~ match[]=a[5m]
POST /api/v1/labels ~ match[]=odd
GET /api/v1/label/job/values
GET /api/v1/label/job/values ~ match[]={
GET /api/v1/label/job/values ~ match[]=odd
GET /api/v1/label/nope/values
GET /api/v1/series
GET /api/v1/series ~ match[]=http_requests_total{job="api"}
GET /api/v1/series ~ match[]=odd ~ match[]=esc
GET /api/v1/series ~ match[]={
GET /api/v1/series ~ match[]={}
GET /api/v1/series ~ match[]=http_requests_total ~ start=$900 ~ end=$0
GET /api/v1/series ~ match[]=http_requests_total ~ start=5 ~ end=10
POST /api/v1/series ~ match[]=odd
GET /api/v1/query_exemplars ~ query=odd ~ start=$0 ~ end=$900
GET /api/v1/query_exemplars ~ query=1
GET /api/v1/query_exemplars ~ query=foo(
GET /api/v1/query_exemplars ~ query=odd ~ start=5 ~ end=1
GET /api/v1/metadata
GET /api/v1/metadata ~ limit=x
GET /api/v1/metadata ~ limit=-1
GET /api/v1/metadata ~ metric=nope
GET /api/v1/targets/metadata
GET /api/v1/targets/metadata ~ limit=x
GET /api/v1/targets/metadata ~ match_target={
GET /api/v1/alertmanagers
GET /api/v1/alerts
GET /api/v1/rules ~ type=x
GET /api/v1/status/walreplay
GET /api/v1/nope
GET /nope
DELETE /api/v1/query
PUT /api/v1/labels
GET /api/v1/admin/tsdb/delete_series
POST /api/v1/admin/tsdb/delete_series
PUT /api/v1/admin/tsdb/clean_tombstones
POST /api/v1/admin/tsdb/snapshot
OPTIONS /api/v1/query
OPTIONS /api/v1/label/job/values
GET /federate ~ match[]={
"#;

/// Requests that 3.14 answers otherwise than 2.42, or that 2.42 does not know.
const NOW: &str = r#"
GET /api/v1/scrape_pools
GET /api/v1/query ~ query={"my.metric"} ~ time=$605
GET /api/v1/query ~ query= ~ time=$605
GET /api/v1/query
GET /api/v1/query ~ query=quantile(2, odd) ~ time=$605
GET /api/v1/query ~ query=1 ~ time=x
GET /api/v1/query ~ query=1 ~ time=2015-07-01
GET /api/v1/query ~ query=1 ~ time=$605 ~ limit=-1
GET /api/v1/query ~ query=1 ~ time=$605 ~ limit=x
GET /api/v1/query ~ query=1 ~ time=$605 ~ limit=1.5
GET /api/v1/query ~ query=1 ~ time=$605 ~ limit=99999999999999999999
GET /api/v1/query ~ query=1 ~ time=$605 ~ lookback_delta=x
GET /api/v1/query ~ query=http_requests_total ~ time=$605 ~ lookback_delta=-5
GET /api/v1/query ~ query=http_requests_total ~ time=$605 ~ lookback_delta=1s
GET /api/v1/query ~ query=sum(rate(http_requests_total[1m])) ~ time=$607 ~ stats=true
GET /api/v1/query ~ query=sum(rate(http_requests_total[1m])) ~ time=$607 ~ stats=x
GET /api/v1/query ~ query=sum(rate(http_requests_total[1m])) ~ time=$607 ~ stats=all
GET /api/v1/query_range ~ query=sum(rate(http_requests_total[1m])) ~ start=$602.5 ~ end=$662.5 ~ step=20 ~ stats=all
GET /api/v1/query ~ query=http_requests_total ~ time=$607 ~ stats=all
GET /api/v1/query_range ~ query=http_requests_total ~ start=$602.5 ~ end=$662.5 ~ step=20 ~ stats=all
GET /api/v1/query_range ~ query=sum(http_requests_total @ $600) ~ start=$602.5 ~ end=$662.5 ~ step=20 ~ stats=all
GET /api/v1/query ~ query=max_over_time(http_requests_total[2m:30s]) ~ time=$607 ~ stats=all
GET /api/v1/query_range ~ query=sum(max_over_time(rate(http_requests_total[1m])[2m:30s])) ~ start=$602.5 ~ end=$662.5 ~ step=20 ~ stats=all
GET /api/v1/query ~ query=sum(a b) ~ time=$605
GET /api/v1/query ~ query=sum by (x) (a b) ~ time=$605
GET /api/v1/query ~ query=topk(5 a) ~ time=$605
GET /federate ~ match[]={}
GET /api/v1/query_range ~ query=http_requests_total ~ start=$600 ~ end=$660 ~ step=30 ~ limit=1
GET /api/v1/query_range ~ query=foo( ~ start=1 ~ end=2 ~ step=1
GET /api/v1/query_range ~ query=a[5m] ~ start=1 ~ end=2 ~ step=1
GET /api/v1/query?query=1;time=5
GET /api/v1/query?query=%zz
GET /api/v1/parse_query ~ query=sum(rate(a[5m])) by (b) > bool 0.5
GET /api/v1/parse_query ~ query=a / on(x) group_left(y) b
GET /api/v1/parse_query ~ query=topk(2, -a[5m:1m] @ end())
GET /api/v1/parse_query ~ query=foo(
GET /api/v1/labels
GET /api/v1/labels ~ limit=1
GET /api/v1/labels ~ limit=-1
GET /api/v1/labels ~ start=x
GET /api/v1/labels ~ match[]=
GET /api/v1/label/job/values ~ limit=1
GET /api/v1/label/job/values ~ limit=x
GET /api/v1/label/job/values ~ end=x
GET /api/v1/label/__name__/values
GET /api/v1/label/U__my_2e_label/values
GET /api/v1/label/my.label/values
GET /api/v1/label/U__/values
GET /api/v1/label/U__job/values
GET /api/v1/label/U__a_zz_/values
POST /api/v1/label/job/values
GET /api/v1/series ~ match[]={__name__!=""}
GET /api/v1/series ~ match[]=odd ~ limit=-1
GET /api/v1/series ~ match[]=odd ~ start=x
GET /api/v1/query_exemplars
GET /api/v1/query_exemplars ~ query=odd ~ start=x
GET /api/v1/metadata ~ limit_per_metric=x
GET /api/v1/targets/metadata ~ metric=nope
GET /api/v1/targets ~ state=other
GET /api/v1/targets ~ scrapePool=nope
GET /api/v1/targets/relabel_steps
GET /api/v1/targets/relabel_steps ~ scrapePool=nope
GET /api/v1/targets/relabel_steps ~ scrapePool=nope ~ labels={}
GET /api/v1/targets/relabel_steps ~ scrapePool=none ~ labels={"__address__":"a:1"}
GET /api/v1/rules
GET /api/v1/rules ~ type=alert
GET /api/v1/rules ~ type=record
GET /api/v1/rules ~ exclude_alerts=true
GET /api/v1/rules ~ exclude_alerts=x
GET /api/v1/rules ~ rule_name[]=a:b
GET /api/v1/rules ~ rule_group[]=g2
GET /api/v1/rules ~ file[]=nope
GET /api/v1/rules ~ match[]={team="x"}
GET /api/v1/rules ~ match[]={
GET /api/v1/rules ~ match[]={}
GET /api/v1/rules ~ group_limit=1
GET /api/v1/rules ~ group_limit=x
GET /api/v1/rules ~ group_limit=0
GET /api/v1/rules ~ group_limit=99999999999
GET /api/v1/rules ~ group_next_token=x
GET /api/v1/rules ~ group_next_token=x ~ group_limit=1
GET /api/v1/status/tsdb ~ limit=0
GET /api/v1/status/tsdb ~ limit=10001
GET /api/v1/notifications
GET /federate
GET /federate ~ match[]={
GET /federate ~ match[]=
GET /federate ~ match[]={__name__=~"my.*|fresh"}
GET-UTF8 /federate ~ match[]={__name__=~"my.*|fresh"}
GET-PROTOBUF /federate ~ match[]={__name__=~"my.*|fresh"}
"#;

/// Fields that tell of the moment or the process.
const MASKED: &[&str] =
    &["timings", "peakSamples", "samplesReadPerStep", "evaluationTime", "lastEvaluation", "groupNextToken", "file"];

fn rules(dir: &std::path::Path) -> PathBuf {
    let path = dir.join("rules.yml");
    let text = "groups:\n- name: g1\n  interval: 1h\n  rules:\n  \
        - {record: 'a:b', expr: 'sum  by (job)(rate(http_requests_total{job=\"api\"}[5m]))', labels: {team: x}}\n  \
        - {alert: Al, expr: 'vector(0) >0', for: 5m, labels: {severity: page}, annotations: {summary: 's {{ $value }}'}}\n\
        - name: g2\n  interval: 1h\n  rules: [{record: 'a:c', expr: up}]\n\
        - name: g3\n  interval: 1h\n  rules: [{alert: Never, expr: 'vector(0) > 0'}]\n";
    std::fs::write(&path, text).unwrap();
    path
}

/// The part of the configuration that both have.
fn config(rules: &std::path::Path) -> String {
    format!(
        "global: {{ scrape_interval: 1h, external_labels: {{ site: lab }} }}\nrule_files: ['{}']\nscrape_configs:\n\
         - job_name: none\n  static_configs: [{{ targets: ['127.0.0.1:1'] }}]\n  relabel_configs: [{{ action: drop }}]\n",
        rules.display()
    )
}

fn start(program: &std::path::Path, new: bool) -> (Peer, Http) {
    let (dir, port) = (fresh_dir("api"), free_port());
    std::fs::write(dir.join("prometheus.yml"), config(&rules(&dir))).unwrap();
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg(format!("--enable-feature={}", if new { "promql-per-step-stats" } else { "promql-at-modifier" }))
        .arg("--web.enable-remote-write-receiver");
    let peer = Peer::start(&mut command, &dir.join("prometheus.log")).unwrap();
    let http = Http::new(format!("http://127.0.0.1:{port}"));
    wait_for("Prometheus to be ready", PATIENCE, || http.get("/-/ready", &[]).is_ok_and(|a| a.status == 200));
    (peer, http)
}

/// Writes the samples that the questions are about.
fn write(http: &Http, first_ms: i64, fresh_ms: i64, new: bool) {
    let at = first_ms + 600_000;
    let mut all = Vec::new();
    for (job, rate) in [("api", 1.5), ("db", 2.0)] {
        for instance in ["0", "1"] {
            let samples: Vec<_> = (0..60).map(|i| (first_ms + i * 15_000, i as f64 * rate)).collect();
            let labels = [("__name__", "http_requests_total"), ("instance", instance), ("job", job)];
            all.push(wire::series(&labels, &samples));
        }
    }
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e6, -0.0, 1e-7, 1e21, 123_456_789.125, 1e20, 0.1, 5e-324];
    for (i, value) in odd.into_iter().enumerate() {
        all.push(wire::series(&[("__name__", "odd"), ("i", &i.to_string())], &[(at + 123, value)]));
    }
    all.push(wire::series(&[("__name__", "esc"), ("t", "a\"b\\c\nd<&>é\u{2028}\u{7f}")], &[(at, 1.0)]));
    all.push(wire::series(&[("__name__", "fresh"), ("instance", "a\"b\\c\nd")], &[(fresh_ms, 1e6)]));
    all.push(wire::series(&[("__name__", "fresh"), ("job", "x"), ("site", "own")], &[(fresh_ms, -0.0)]));
    if new {
        let labels = [("__name__", "my.metric"), ("my.label", "x")];
        all.push(wire::series(&labels, &[(at, 1.0), (fresh_ms, f64::NEG_INFINITY)]));
    }
    let answer = http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(all)).unwrap();
    assert!(matches!(answer.status, 200 | 204), "{}", answer.text());
}

/// Times filled in.
fn filled(text: &str, first_ms: i64) -> String {
    match text.split_once('$') {
        None => text.to_owned(),
        Some((before, rest)) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let seconds: i64 = rest[..end].parse().unwrap();
            format!("{before}{}{}", first_ms / 1000 + seconds, &rest[end..])
        }
    }
}

/// Status, media type and body in a form that can be compared.
fn ask(http: &Http, request: &str, first_ms: i64) -> (u16, String, String) {
    let mut parts = request.split(" ~ ");
    let (kind, path) = parts.next().and_then(|p| p.split_once(' ')).unwrap();
    let parameters: Vec<(String, String)> = parts
        .map(|p| p.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), filled(value, first_ms)))
        .collect();
    let (method, accept) = match kind {
        "GET-UTF8" => ("GET", "text/plain;version=0.0.4;escaping=allow-utf-8"),
        "GET-PROTOBUF" => (
            "GET",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;escaping=allow-utf-8",
        ),
        method => (method, "*/*"),
    };
    let url = format!("{}{path}", http.base);
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let is_post = method == reqwest::Method::POST;
    let request = http.client.request(method, url).header("accept", accept);
    let request = if is_post { request.form(&parameters) } else { request.query(&parameters) };
    let answer = http.send(request).unwrap();
    let form = answer.headers.get("content-type").map_or("", |v| v.to_str().unwrap()).to_owned();
    let body = if form == "application/json" { canonical(&answer.json(), "").to_string() } else { answer.text() };
    (answer.status, form, body)
}

/// The same text for what means the same.
fn canonical(value: &Value, name: &str) -> Value {
    match value {
        Value::Object(fields) => {
            // What each step read anew is not known here.
            let known = fields.iter().filter(|(n, _)| *n != "samplesReadPerStep");
            // In the order of their names: objects keep the order that they came in.
            let fields: BTreeMap<String, Value> = known
                .map(|(n, v)| {
                    let v = if MASKED.contains(&n.as_str()) { Value::from("…") } else { canonical(v, n) };
                    (n.clone(), v)
                })
                .collect();
            fields.into_iter().collect()
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|v| canonical(v, "")).collect();
            // A scalar has its time first.
            if matches!(name, "result" | "data") && !items.first().is_some_and(Value::is_number) {
                items.sort_by_key(Value::to_string);
            }
            Value::from(items)
        }
        Value::Number(n) => n.as_f64().map_or_else(|| value.clone(), Value::from),
        other => other.clone(),
    }
}

fn compare(name: &str, program: &std::path::Path, new: bool) {
    let (mut peer, theirs) = start(program, new);
    let dir = fresh_dir(name);
    let prometheus = config(&rules(&dir));
    let args = vec!["--enable-feature=promql-per-step-stats".to_owned()];
    let server = Server::start(name, ServerOptions { prometheus, args, ..ServerOptions::default() });
    let now = wire::now_ms();
    let first = now / 60_000 * 60_000 - 1_200_000;
    // They are known a few seconds after it is ready.
    wait_for("the pools of Prometheus", PATIENCE, || {
        !new || theirs
            .get("/api/v1/targets/relabel_steps", &[("scrapePool", "none"), ("labels", "{}")])
            .is_ok_and(|a| a.status == 200)
    });
    for http in [&theirs, &server.http] {
        write(http, first, now - 30_000, new);
    }
    let questions = ALWAYS.lines().chain(if new { NOW.lines() } else { "".lines() }).filter(|l| !l.is_empty());
    let (mut asked, mut faults) = (0, Vec::new());
    for question in questions {
        asked += 1;
        let (want, got) = (ask(&theirs, question, first), ask(&server.http, question, first));
        if want != got {
            faults.push(format!("{question}\n  theirs {want:?}\n  ours   {got:?}"));
        }
    }
    assert!(faults.is_empty(), "{} of {asked} answers differ:\n{}", faults.len(), faults.join("\n"));
    peer.kill();
    std::fs::remove_dir_all(dir).ok();
}

#[test]
fn answers_are_those_of_debians_prometheus() {
    let Some(program) = find_program("prometheus") else {
        return skipped("answers_are_those_of_debians_prometheus", "prometheus is not installed");
    };
    compare("api-old", &program, false);
}

#[test]
fn answers_are_those_of_prometheus_3_14() {
    let Some(program) = super::new_prometheus("prometheus") else {
        return skipped("answers_are_those_of_prometheus_3_14", "make test-peers builds it");
    };
    compare("api-new", &program, true);
}

#[test]
fn promtool_3_14_checks_and_asks() {
    let Some(promtool) = super::new_prometheus("promtool") else {
        return skipped("promtool_3_14_checks_and_asks", "make test-peers builds it");
    };
    let server = Server::start("promtool3", ServerOptions::default());
    let now = wire::now_ms();
    let series = ["a", "b"].map(|q| wire::series(&[("__name__", "queue_length"), ("queue", q)], &[(now, 4.0)]));
    let answer = server.http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(series.to_vec())).unwrap();
    assert!(matches!(answer.status, 200 | 204), "{}", answer.text());
    let url = server.http.base.as_str();
    for (arguments, want) in [
        (&["check", "healthy", "--url", url][..], "SUCCESS"),
        (&["check", "ready", "--url", url], "SUCCESS"),
        (&["query", "instant", url, "queue_length"], "queue_length{queue=\"a\"} => 4 @["),
        (&["query", "range", url, "sum(queue_length)"], "8 @["),
        (&["query", "series", "--match=queue_length", url], "queue=\"b\""),
        (&["query", "labels", url, "queue"], "a\nb"),
    ] {
        let finished = run(Command::new(&promtool).args(arguments), b"");
        assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.output());
        assert!(finished.output().contains(want), "{arguments:?}: {}", finished.output());
    }
}

/// What Grafana's data source for Prometheus sends, as it sends it.
#[test]
fn grafanas_calls_are_answered() {
    let server = Server::start("grafana", ServerOptions::default());
    let now = wire::now_ms();
    let labels = [("__name__", "queue_length"), ("queue", "a")];
    let body = wire::remote_write(vec![wire::series(&labels, &[(now - 60_000, 4.0), (now, 4.0)])]);
    let answer = server.http.post("/api/v1/write", wire::REMOTE_WRITE, body).unwrap();
    assert!(matches!(answer.status, 200 | 204), "{}", answer.text());
    let (start, end) = ((now / 1000 - 300).to_string(), (now / 1000 + 1).to_string());
    let (start_ms, end_ms) = ((now - 300_000).to_string(), (now + 1000).to_string());
    let form = |path: &str, form: &[(&str, &str)]| {
        let answer = server.http.post_form(path, form).unwrap();
        (answer.status, answer.json()["data"].clone())
    };
    let get = |path: &str, query: &[(&str, &str)]| {
        let answer = server.http.get(path, query).unwrap();
        (answer.status, answer.json()["data"].clone())
    };
    // The health check, then a panel, then one that is wrong: 400 makes it try GET, which says the same.
    let (status, data) = form("/api/v1/query", &[("query", "1+1"), ("time", "4")]);
    assert_eq!((status, &data["result"]), (200, &serde_json::json!([4, "2"])));
    let panel = [("query", "queue_length"), ("start", start.as_str()), ("end", &end), ("step", "15")];
    let (status, data) = form("/api/v1/query_range", &panel);
    assert_eq!((status, &data["result"][0]["metric"]["queue"]), (200, &"a".into()), "{data}");
    let wrong = [("query", "sum("), ("start", start.as_str()), ("end", &end), ("step", "15")];
    assert_eq!((form("/api/v1/query_range", &wrong).0, get("/api/v1/query_range", &wrong).0), (400, 400));
    // What the server is: a Prometheus of today, and not Mimir.
    let (status, data) = get("/api/v1/status/buildinfo", &[]);
    assert!(status == 200 && data["version"] == "3.14.0" && data.get("features").is_none(), "{data}");
    // The probe for exemplars has milliseconds where seconds are due.
    let probe = [("query", "test"), ("start", start_ms.as_str()), ("end", &end_ms)];
    assert_eq!(get("/api/v1/query_exemplars", &probe), (200, serde_json::json!([])));
    assert_eq!(form("/api/v1/query_exemplars", &probe), (200, serde_json::json!([])));
    // The metrics browser and the query builder.
    assert_eq!(get("/api/v1/metadata", &[]), (200, serde_json::json!({})));
    let names = serde_json::json!(["queue_length"]);
    let window = [("start", start.as_str()), ("end", end.as_str()), ("limit", "40000")];
    assert_eq!(get("/api/v1/label/__name__/values", &window), (200, names.clone()));
    let of_queue = [("match[]", "{queue=\"a\"}"), ("start", start.as_str()), ("end", &end), ("limit", "40000")];
    assert_eq!(get("/api/v1/label/__name__/values", &of_queue), (200, names));
    let all = [("match[]", "{__name__!=\"\"}"), ("start", start.as_str()), ("end", &end), ("limit", "40000")];
    let labels = serde_json::json!(["__name__", "queue"]);
    assert_eq!((form("/api/v1/labels", &all), get("/api/v1/labels", &all)), ((200, labels.clone()), (200, labels)));
    let series = serde_json::json!([{ "__name__": "queue_length", "queue": "a" }]);
    assert_eq!((form("/api/v1/series", &all), get("/api/v1/series", &all)), ((200, series.clone()), (200, series)));
    // Alerting's list of rules, and a method that is not served: it tries GET.
    assert_eq!(get("/api/v1/rules", &[]).0, 200);
    assert_eq!(server.http.post_form("/api/v1/label/queue/values", &[]).unwrap().status, 405);
}
