//! `trefoil tsdb`: data of a real Prometheus comes in, samples come out, damage is found.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use trefoil_tests::server::{binary, fresh_dir};
use trefoil_tests::{
    Finished, Http, Peer, Server, ServerOptions, conformance, find_program, free_port, items, run, skipped, wait_for,
    wait_for_result, wire,
};

fn tsdb(arguments: &[&str]) -> Finished {
    run(Command::new(binary()).arg("tsdb").args(arguments), b"")
}

fn path(p: &Path) -> &str {
    p.to_str().unwrap()
}

/// A server on a data directory that an import made, with samples of any age.
fn serve(name: &str, data: &Path) -> Server {
    let args = vec!["--storage.tsdb.retention.time=200y".to_owned()];
    Server::start(name, ServerOptions { args, data_dir: Some(data.to_owned()), ..ServerOptions::default() })
}

/// Series of a matrix or vector: (labels, values), sorted.
fn series(answer: &Value) -> Vec<(String, Value)> {
    let of = |s: &Value| {
        let labels: std::collections::BTreeMap<String, Value> =
            s["metric"].as_object().into_iter().flatten().map(|(n, v)| (n.clone(), v.clone())).collect();
        (serde_json::to_string(&labels).unwrap(), s["values"].clone())
    };
    let mut found: Vec<(String, Value)> = items(&answer["data"]["result"]).map(of).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn blocks_of_prometheus_answer_as_expected() {
    let Some(blocks) = conformance("tsdb-blocks", "blocks_of_prometheus_answer_as_expected") else { return };
    let dir = fresh_dir("blocks");
    let data = dir.join("data");
    let imported = tsdb(&["import", path(&blocks), "--data", path(&data)]).expect_success();
    assert!(imported.stdout.contains("2536 samples of 2536 series"), "{}", imported.output());
    // A second time changes nothing.
    tsdb(&["import", path(&blocks), "--data", path(&data), "--quiet"]).expect_success();
    tsdb(&["verify", "--data", path(&data)]).expect_success();
    let list: Value =
        serde_json::from_str(&tsdb(&["list", "--data", path(&data), "--json"]).expect_success().stdout).unwrap();
    assert_eq!(items(&list["parts"]).map(|p| p["samples"].as_u64().unwrap()).sum::<u64>(), 2536, "{list}");
    let server = serve("blocks", &data);
    let query = r#"{__name__="vm_log_messages_total",location=~"VictoriaMetrics/lib/ingestserver/opentsdb/server.go:(48|59)"}[1h]"#;
    let got = server.http.json("/api/v1/query", &[("query", query), ("time", "1748898000")]).unwrap();
    let expected = std::fs::read(blocks.join("prometheus-snapshot/expected_response.json")).unwrap();
    assert_eq!(series(&got), series(&serde_json::from_slice(&expected).unwrap()));
    let old = server.http.json("/api/v1/query", &[("query", r#"{foo="baz"}[2h]"#), ("time", "7200")]).unwrap();
    assert_eq!(old["data"]["result"][0]["values"], serde_json::json!([[0.003, "4"]]), "{old}");
    let refused = tsdb(&["list", "--data", path(&data)]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("in use by another process"), "{}", refused.output());
    drop(server);
    std::fs::remove_dir_all(dir).ok();
}

#[test]
fn a_whole_prometheus_moves_over() {
    let Some(prometheus) = find_program("prometheus") else {
        return skipped("a_whole_prometheus_moves_over", "prometheus is not installed");
    };
    let dir = fresh_dir("moves");
    std::fs::write(dir.join("prometheus.yml"), "").unwrap();
    let old = dir.join("old");
    let port = free_port();
    let mut command = Command::new(prometheus);
    command
        .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", old.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--web.enable-remote-write-receiver", "--web.enable-admin-api", "--log.level=warn"]);
    let mut peer = Peer::start(&mut command, &dir.join("prometheus.log")).unwrap();
    let http = Http::new(format!("http://127.0.0.1:{port}"));
    wait_for("Prometheus to be ready", Duration::from_secs(60), || {
        http.get("/-/ready", &[]).is_ok_and(|a| a.status == 200)
    });
    let end = wire::now_ms() / 1000 * 1000;
    for batch in 0..10i64 {
        let samples = |n: i64| -> Vec<(i64, f64)> {
            (0..50).map(|i| (end - (500 - batch * 50 - i) * 5000, (n * 1000 + i * batch) as f64 / 7.0)).collect()
        };
        let all: Vec<_> = (0..20)
            .map(|n| wire::series(&[("__name__", "moved"), ("n", &n.to_string()), ("job", "ü")], &samples(n)))
            .collect();
        let answer = http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(all)).unwrap();
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    let deleted = http.post_form("/api/v1/admin/tsdb/delete_series", &[("match[]", r#"moved{n="3"}"#)]).unwrap();
    assert_eq!(deleted.status, 204, "{}", deleted.text());
    // Off the samples' grid: Prometheus 2 counts a sample at the very start of a range, Prometheus 3 does not.
    let time = format!("{}", end / 1000 + 1);
    let ask = |http: &Http| {
        let raw = http.json("/api/v1/query", &[("query", "moved[2h]"), ("time", &time)]).unwrap();
        let rate =
            http.json("/api/v1/query", &[("query", "sum by (job) (rate(moved[10m]))"), ("time", &time)]).unwrap();
        let rate = rate["data"]["result"][0]["value"][1].as_str().unwrap().parse::<f64>().unwrap();
        (series(&raw), (rate * 1e9).round())
    };
    let want = ask(&http);
    assert_eq!((want.0.len(), want.0[0].1.as_array().unwrap().len()), (19, 500));
    let data = dir.join("data");
    peer.signal("TERM");
    peer.wait();
    let imported = tsdb(&["import", path(&old), "--data", path(&data)]).expect_success();
    assert!(imported.stdout.contains("9500 samples of 19 series"), "{}", imported.output());
    assert!(imported.stdout.contains("500 samples were deleted in the source"), "{}", imported.output());
    let server = serve("moves", &data);
    assert!(ask(&server.http) == want, "other answers than those of Prometheus");
    drop(server);
    std::fs::remove_dir_all(dir).ok();
}

/// A Prometheus with blocks of five minutes that takes samples of the last half hour in any order. Debian's has no lock
/// file.
fn small_prometheus(program: &Path, dir: &Path) -> (Peer, Http) {
    let config = "storage: { tsdb: { out_of_order_time_window: 30m } }\n";
    std::fs::write(dir.join("prometheus.yml"), config).unwrap();
    let port = free_port();
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("old").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--web.enable-remote-write-receiver", "--log.level=warn"])
        .args(["--storage.tsdb.min-block-duration=5m", "--storage.tsdb.max-block-duration=5m"]);
    let peer = Peer::start(&mut command, &dir.join("prometheus.log")).unwrap();
    let http = Http::new(format!("http://127.0.0.1:{port}"));
    wait_for("Prometheus to be ready", Duration::from_secs(60), || {
        http.get("/-/ready", &[]).is_ok_and(|a| a.status == 200)
    });
    (peer, http)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn checkpoints_head_chunks_and_late_samples_move_over() {
    let test = "checkpoints_head_chunks_and_late_samples_move_over";
    let Some(prometheus) = find_program("prometheus") else { return skipped(test, "prometheus is not installed") };
    let dir = fresh_dir("late");
    let old = dir.join("old");
    let (mut peer, http) = small_prometheus(&prometheus, &dir);
    let write = |samples: &dyn Fn(i64) -> Vec<(i64, f64)>| {
        let all = (0..10)
            .map(|n| wire::series(&[("__name__", "late"), ("n", &n.to_string()), ("job", "x")], &samples(n)))
            .collect();
        let answer = http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(all)).unwrap();
        assert_eq!(answer.status, 204, "{}", answer.text());
    };
    // Four minutes a batch, until the log was cut by a checkpoint; some more for the head.
    let start = wire::now_ms() / 1000 * 1000 - 10 * 3_600_000;
    let in_order = |batch: i64| {
        let at = move |n: i64, i: i64| (start + (batch * 48 + i) * 5000, (n * 1000 + i * batch) as f64 / 7.0);
        move |n: i64| (0..48).map(|i| at(n, i)).collect::<Vec<_>>()
    };
    // What is longer than one and a half blocks is on its way into a block.
    let wait_for_blocks = || {
        wait_for("the head to be cut", Duration::from_secs(60), || {
            let time = |name: &str| http.own_metric(&format!("prometheus_tsdb_head_{name}_time"));
            time("max") - time("min") <= 450_000.0
        });
    };
    let mut batch = 0;
    while !names(&old.join("wal")).iter().any(|name| name.starts_with("checkpoint.")) {
        assert!(batch < 100, "no checkpoint after {batch} batches: {:?}", names(&old.join("wal")));
        write(&in_order(batch));
        batch += 1;
        wait_for_blocks();
    }
    write(&in_order(batch));
    batch += 1;
    wait_for_blocks();
    let end = start + batch * 48 * 5000;
    // Between the others, from back to front.
    for k in 0..40 {
        write(&|n| vec![(end - 60_000 - k * 10_000 - 2500, (n * 100 + k) as f64)]);
    }
    // No sample lies on the edge of a range, which older versions count in.
    let time = format!("{}", end / 1000 + 1);
    let ask = |http: &Http| {
        let raw = http.json("/api/v1/query", &[("query", "late[10h]"), ("time", &time)])?;
        let rate = http.json("/api/v1/query", &[("query", "sum(rate(late[5m]))"), ("time", &time)])?;
        let rate = rate["data"]["result"][0]["value"][1].as_str().unwrap().parse::<f64>().unwrap();
        Ok((series(&raw), (rate * 1e9).round()))
    };
    // While Prometheus drops chunks of its head that went into a block, a query that began before fails.
    let want = wait_for_result("an answer of Prometheus", Duration::from_secs(60), || ask(&http));
    let samples = want.0[0].1.as_array().unwrap().len();
    assert_eq!((want.0.len(), samples as i64), (10, batch * 48 + 40));

    // It is running, which its open files show where it has no lock.
    let data = dir.join("data");
    if Path::new("/proc/self/fd").exists() {
        let refused = tsdb(&["import", path(&old), "--data", path(&data)]);
        assert!(refused.code == Some(1) && refused.stderr.contains("is in use by"), "{}", refused.output());
    }
    peer.signal("TERM");
    peer.wait();
    let is_filled = |folder: &str| {
        let files = std::fs::read_dir(old.join(folder)).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).any(|meta| meta.is_file() && meta.len() > 0)
    };
    assert!(["wal", "wbl", "chunks_head"].into_iter().all(is_filled), "{:?}", names(&old));
    let imported = tsdb(&["import", path(&old), "--data", path(&data), "--json", "--quiet"]).expect_success();
    let report: Value = serde_json::from_str(&imported.stdout).unwrap();
    assert_eq!((report["series"].as_u64(), report["damage_count"].as_u64()), (Some(10), Some(0)), "{report}");
    tsdb(&["verify", "--data", path(&data)]).expect_success();
    let server = serve("late", &data);
    assert!(ask(&server.http).unwrap() == want, "other answers than those of Prometheus");
    let again = tsdb(&["import", path(&data), "--data", path(&dir.join("other"))]);
    assert!(again.stderr.contains("is a data directory of Trefoil"), "{}", again.output());
    drop(server);
    std::fs::remove_dir_all(dir).ok();
}

const LINES: &str = r#"{"metric":{"__name__":"a_total","b":"c"},"values":[1,null,"NaN",-0.0,0.1],"timestamps":[1700000000000,1700000001000,1700000002000,1700000003000,1700000090000]}
{"metric":{"__name__":"b","b":"c\"d"},"values":[1,2],"timestamps":[1700000000000,1700100000000]}
{"metric":{"__name__":"h"},"histograms":[{"schema":0,"zero_threshold":"0.001","zero_count":"1","count":"3","sum":"2.5","positive_spans":[[0,1]],"positive_buckets":["2"],"reset":"unknown","integer":true}],"timestamps":[1700000000000]}
"#;

#[test]
fn exports_come_back_the_same() {
    let dir = fresh_dir("exports");
    let (data, lines) = (dir.join("data"), dir.join("in.jsonl"));
    std::fs::write(&lines, LINES).unwrap();
    tsdb(&["import", path(&lines), "--data", path(&data)]).expect_success();
    let exported = tsdb(&["export", "--format", "json", "--data", path(&data)]).expect_success().stdout;
    // A line holds a day at most.
    let again = dir.join("again.jsonl");
    std::fs::write(&again, &exported).unwrap();
    let other = dir.join("other");
    tsdb(&["import", path(&again), "--data", path(&other)]).expect_success();
    assert_eq!(tsdb(&["export", "--format", "json", "--data", path(&other)]).stdout, exported);
    assert_eq!(exported.lines().count(), 4, "{exported}");
    assert!(exported.contains(r#""values":[1,null,"NaN",-0.0,0.1]"#), "{exported}");
    let page = tsdb(&["export", r#"{b=~"c.*"}"#, "--end", "1700000050", "--data", path(&data)]).expect_success().stdout;
    let want = "# TYPE a_total unknown\na_total{b=\"c\"} 1 1700000000.000\na_total{b=\"c\"} NaN 1700000002.000\n\
                a_total{b=\"c\"} -0 1700000003.000\n# TYPE b unknown\nb{b=\"c\\\"d\"} 1 1700000000.000\n# EOF\n";
    assert_eq!(page, want);
    let dump = tsdb(&["dump", "h", "--data", path(&data)]).expect_success().stdout;
    let want = "h {count:3 sum:2.5 schema:0 zero:1 up to 0.001 positive:0+1=[2] hint:Unknown integer} 1700000000000\n";
    assert_eq!(dump, want);
    let refused = tsdb(&["dump", "--start", "10", "--end", "5", "--data", path(&data)]);
    assert!(refused.code == Some(1) && refused.stderr.contains("--start is not before --end"), "{}", refused.output());
    let found: Value =
        serde_json::from_str(&tsdb(&["analyze", "--json", "--data", path(&data)]).expect_success().stdout).unwrap();
    assert_eq!((found["series"].as_u64(), found["days"].as_array().map(Vec::len)), (Some(3), Some(2)), "{found}");
    assert_eq!(found["days"][1]["new_series"], 0, "{found}");
    if let Some(promtool) = find_program("promtool") {
        let (file, blocks) = (dir.join("page"), dir.join("blocks"));
        let page = tsdb(&["export", "a_total", "b", "--data", path(&data)]).expect_success().stdout;
        std::fs::write(&file, page).unwrap();
        let mut command = Command::new(promtool);
        command.args(["tsdb", "create-blocks-from", "openmetrics", path(&file), path(&blocks)]);
        run(&mut command, b"").expect_success();
        let third = dir.join("third");
        let imported = tsdb(&["import", path(&blocks), "--data", path(&third)]).expect_success();
        assert!(imported.stdout.starts_with("6 samples of 2 series"), "{}", imported.output());
    } else {
        skipped("exports_come_back_the_same (promtool)", "promtool is not installed");
    }
    std::fs::remove_dir_all(dir).ok();
}

/// The URL of a way to a server on which remote read is not found. Each connection carries one request.
fn without_remote_read(port: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // It ends with the process of the tests.
    std::thread::spawn(move || {
        for client in listener.incoming() {
            std::thread::spawn(move || pass_on(client?, port));
        }
    });
    url
}

fn pass_on(mut client: TcpStream, port: u16) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    if head.starts_with(b"POST /api/v1/read") {
        let mut rest = vec![0; 1 << 16];
        // The request is read before the connection ends, else the client may not see the answer.
        let _read = client.read(&mut rest)?;
        return client.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.write_all(&head)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let copied = std::io::copy(&mut from_client, &mut to_server);
        // The client has gone.
        to_server.shutdown(Shutdown::Both).and(copied)
    });
    std::io::copy(&mut server, &mut client).map(drop)
}

#[test]
fn a_running_server_takes_and_gives() {
    let server = serve("gives", &fresh_dir("gives-data"));
    let lines = server.dir.join("in.jsonl");
    std::fs::write(&lines, LINES).unwrap();
    let url = format!("http://127.0.0.1:{}", server.http_port);
    tsdb(&["import", path(&lines), "--server", &url]).expect_success();
    let export = |url: &str| {
        tsdb(&["export", "--format", "json", "--server", url, "--start", "1700000000", "--end", "1700100001"])
            .expect_success()
    };
    // By remote read: stale markers and histograms too.
    let exported = export(&url);
    let lines_of = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let found = lines_of(&exported.stdout);
    assert_eq!(found.first().map(String::as_str), LINES.lines().next(), "{}", exported.output());
    assert_eq!(found.len(), 4, "{}", exported.output());
    let head =
        r#"{"metric":{"__name__":"h"},"histograms":[{"schema":0,"zero_threshold":"0.001","zero_count":"1","count":"3""#;
    assert!(found[3].starts_with(head), "{}", exported.output());
    assert!(exported.stderr.contains("warning: remote read has no start"), "{}", exported.output());
    // A server without remote read is asked by queries, whose answers have neither.
    let queried = export(&without_remote_read(server.http_port));
    let want = r#"{"metric":{"__name__":"a_total","b":"c"},"values":[1,"NaN",-0.0,0.1],"timestamps":[1700000000000,1700000002000,1700000003000,1700000090000]}"#;
    assert_eq!(queried.stdout.lines().next(), Some(want), "{}", queried.output());
    assert_eq!(lines_of(&queried.stdout)[1..], found[1..3], "{}", queried.output());
    assert!(queried.stderr.contains("warning: a server's query API"), "{}", queried.output());
    // Without a start: from the first day that has series on.
    for start in [&[][..], &["--start", "0"]] {
        let arguments = [&["export", "--format", "json", "--server", &url, "--end", "1700100001"], start].concat();
        let all = tsdb(&arguments).expect_success();
        assert_eq!(all.stdout, exported.stdout, "{}", all.output());
    }
    // What the server refuses is counted and told, the rest is there.
    let bad = server.dir.join("bad.jsonl");
    let line = r#"{"metric":{"__name__":"some"},"values":[1,2],"timestamps":[1700000000000,4102444800000]}"#;
    std::fs::write(&bad, format!("{line}\n")).unwrap();
    let imported = tsdb(&["import", path(&bad), "--server", &url]).expect_success();
    assert!(imported.stdout.starts_with("1 samples of 1 series"), "{}", imported.output());
    assert!(imported.stderr.contains("warning: 1 samples were refused"), "{}", imported.output());
    // From a directory to the server, by remote write.
    let data = server.dir.join("offline");
    tsdb(&["import", path(&lines), "--data", path(&data)]).expect_success();
    let to = format!("{url}/api/v1/write");
    let sent = tsdb(&["export", "--format", "remote-write", "--to", &to, "--data", path(&data)]).expect_success();
    assert!(sent.stderr.contains("8 samples of 3 series exported"), "{}", sent.output());
    let count = server.http.json("/api/v1/query", &[("query", "histogram_count(h)"), ("time", "1700000000")]).unwrap();
    assert_eq!(count["data"]["result"][0]["value"][1], "3", "{count}");
    let refused = tsdb(&["export", "--format", "remote-write", "--to", &format!("{url}/none"), "--data", path(&data)]);
    assert!(refused.code == Some(1) && refused.stderr.contains("404"), "{}", refused.output());
}

#[test]
fn damage_is_found_and_named() {
    let dir = fresh_dir("damage");
    let (data, lines) = (dir.join("data"), dir.join("in.jsonl"));
    std::fs::write(&lines, LINES).unwrap();
    tsdb(&["import", path(&lines), "--data", path(&data)]).expect_success();
    let whole = tsdb(&["verify", "--data", path(&data)]).expect_success();
    assert!(whole.stdout.contains("2 parts with 8 samples are whole"), "{}", whole.output());
    let list: Value = serde_json::from_str(&tsdb(&["list", "--json", "--data", path(&data)]).stdout).unwrap();
    let folder = list["parts"][0]["folder"].as_str().unwrap();
    for (file, at) in [("blocks", 20), ("index", 20)] {
        let file = Path::new(folder).join(file);
        let bytes = std::fs::read(&file).unwrap();
        let mut broken = bytes.clone();
        broken[at] ^= 1;
        std::fs::write(&file, &broken).unwrap();
        let found = tsdb(&["verify", "--data", path(&data)]);
        assert_eq!(found.code, Some(1), "{}", found.output());
        assert!(found.stdout.contains(path(&file)) && found.stdout.contains("bytes "), "{}", found.output());
        std::fs::write(&file, &bytes).unwrap();
    }
    tsdb(&["verify", "--data", path(&data)]).expect_success();
    // What the series are made of is told of the other parts, and which bytes of this one are broken.
    let index = Path::new(folder).join("index");
    let bytes = std::fs::read(&index).unwrap();
    let mut broken = bytes.clone();
    broken[20] ^= 1;
    std::fs::write(&index, &broken).unwrap();
    let found = tsdb(&["analyze", "--data", path(&data)]);
    assert_eq!(found.code, Some(1), "{}", found.output());
    assert!(found.stdout.contains("1 series") && found.stdout.contains(path(&index)), "{}", found.output());
    assert!(found.stdout.contains("bytes ") && found.stderr.contains("1 of 2 parts"), "{}", found.output());
    let found = tsdb(&["analyze", "--json", "--data", path(&data)]);
    let json: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(
        (json["series"].as_u64(), json["damaged_parts"][0]["folder"].as_str()),
        (Some(1), Some(folder)),
        "{json}"
    );
    std::fs::write(&index, &bytes).unwrap();
    tsdb(&["analyze", "--data", path(&data)]).expect_success();
    let missing = tsdb(&["verify", "--data", path(&dir.join("none"))]);
    assert!(missing.code == Some(1) && missing.stderr.contains("is not a data directory"), "{}", missing.output());
    std::fs::remove_dir_all(dir).ok();
}
