//! Metrics and logs of past days in a real S3 server: moved, queried through a bounded cache, out of reach, back again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use trefoil_tests::server::{binary, fresh_dir};
use trefoil_tests::{Seaweed, Server, ServerOptions, items, run, skipped, wait_for, wait_for_result, wire};

const SERIES: usize = 100;
const SAMPLES: usize = 900;
const DAY_MS: i64 = 86_400_000;
/// Days before today that are written.
const DAYS: [i64; 3] = [10, 9, 8];

/// Values that do not compress, so that a day is some hundreds of kilobytes.
fn value(day: i64, series: usize, n: usize) -> f64 {
    let x = (day as u64 * 1_000_003 + series as u64 * 10_007 + n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    f64::from_bits((x >> 12) | 0x3ff0_0000_0000_0000)
}

fn day_start_ms(day: i64) -> i64 {
    (wire::now_ms() / DAY_MS - day) * DAY_MS
}

fn write_day(server: &Server, day: i64) {
    let start = day_start_ms(day) + 3_600_000;
    let series = (0..SERIES)
        .map(|i| {
            let samples: Vec<_> = (0..SAMPLES).map(|n| (start + n as i64 * 15_000, value(day, i, n))).collect();
            wire::series(&[("__name__", "tiered"), ("i", &i.to_string())], &samples)
        })
        .collect();
    let answer = server.http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(series)).unwrap();
    assert!(answer.status < 300, "{}", answer.text());
}

const LINES: usize = 500;

fn write_logs(server: &Server, day: i64) {
    let start = (day_start_ms(day) + 3_600_000) as u64 * 1_000_000;
    let line = |n: usize| (start + n as u64 * 1_000_000_000, format!("line {n} {:x}", value(day, 7, n).to_bits()));
    let lines: Vec<_> = (0..LINES).map(line).collect();
    let push = wire::loki_push(&[("app", "tiered")], &lines);
    let answer = server.http.post("/loki/api/v1/push", &[("content-type", "application/json")], push).unwrap();
    assert!(answer.status < 300, "{}", answer.text());
}

fn check_logs(server: &Server, day: i64) {
    let time = ((day_start_ms(day) + DAY_MS - 1000) / 1000).to_string();
    let query = [("query", r#"sum(count_over_time({app="tiered"} |= "line" [23h]))"#), ("time", time.as_str())];
    let answer = server.http.json("/loki/api/v1/query", &query).unwrap();
    assert_eq!(answer["data"]["result"][0]["value"][1], LINES.to_string(), "{day} days ago: {answer}");
}

/// The number and the sum of the samples of a day, or what the server says.
fn ask(server: &Server, day: i64) -> Result<(f64, f64), String> {
    let time = ((day_start_ms(day) + DAY_MS - 1000) / 1000).to_string();
    let one = |query: &str| {
        let answer = server.http.json("/api/v1/query", &[("query", query), ("time", &time)])?;
        let value = answer["data"]["result"][0]["value"][1].as_str().and_then(|v| v.parse::<f64>().ok());
        value.ok_or_else(|| format!("no value in {answer}"))
    };
    Ok((one("sum(count_over_time(tiered[23h]))")?, one("sum(sum_over_time(tiered[23h]))")?))
}

fn check_day(server: &Server, day: i64) {
    let (count, sum) = ask(server, day).unwrap();
    let expected: f64 = (0..SERIES).flat_map(|i| (0..SAMPLES).map(move |n| value(day, i, n))).sum();
    assert_eq!(count, (SERIES * SAMPLES) as f64, "{day} days ago");
    assert!((sum / expected - 1.0).abs() < 1e-9, "{day} days ago: {sum}, expected {expected}");
}

fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.metadata() {
            Ok(meta) if meta.is_dir() => found.extend(files(&path)),
            Ok(meta) => found.push((path, meta.len())),
            // Evicted meanwhile.
            Err(_) => {}
        }
    }
    found
}

#[test]
fn metrics_and_logs_of_past_days_live_in_s3() {
    let dir = fresh_dir("object-store");
    let Some(mut seaweed) = Seaweed::start(&dir) else {
        return skipped("metrics_and_logs_of_past_days_live_in_s3", "SeaweedFS is not installed");
    };
    let trefoil = format!(
        "  retention: {{ metrics: 60d }}\n  memtable: {{ flush_interval: 1s }}\n  object_store: {{ url: \"{}\", after: 1d, cache_bytes: 1MB }}",
        seaweed.url("tier")
    );
    let env = seaweed.env();
    let args = vec!["--web.enable-admin-api".to_owned()];
    let mut server = Server::start("object-store", ServerOptions { trefoil, env, args, ..ServerOptions::default() });
    DAYS.iter().for_each(|day| write_day(&server, *day));
    DAYS.iter().for_each(|day| write_logs(&server, *day));
    let now = wire::now_ms();
    let today = wire::series(&[("__name__", "local")], &[(now, 7.0)]);
    let answer = server.http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(vec![today])).unwrap();
    assert!(answer.status < 300, "{}", answer.text());
    let parts = server.data_dir.join("metrics/parts");
    let is_moved = |server: &Server| {
        let moved = server.http.own_metric("trefoil_parts_remote") as usize;
        let mut left = files(&parts.join("parts"));
        left.extend(files(&server.data_dir.join("events/logs/parts")));
        let day_of = |path: &Path| path.ancestors().nth(2)?.file_name()?.to_str()?.parse::<i64>().ok();
        let old = left.iter().filter(|(path, _)| day_of(path).is_some_and(|day| day < now / DAY_MS - 1)).count();
        if moved >= 2 * DAYS.len() && old == 0 { Ok(()) } else { Err(format!("{moved} parts moved, {old} files left")) }
    };
    wait_for_result("the parts to be moved", Duration::from_secs(60), || is_moved(&server));
    let objects = seaweed.objects("tier");
    let bytes: u64 = objects.iter().map(|(_, len)| len).sum();
    assert!(objects.len() > 2 * DAYS.len() && bytes > 1_200_000, "{objects:?}");

    let cache = parts.join("cache");
    let cached_bytes = || files(&cache).iter().map(|(_, len)| len).sum::<u64>();
    for round in 0..2 {
        for day in DAYS {
            check_day(&server, day);
            assert!(cached_bytes() <= 1 << 20, "{} bytes in round {round}", cached_bytes());
        }
    }
    assert!(server.http.own_metric("trefoil_parts_cache_evictions_total") > 0.0);

    DAYS.iter().for_each(|day| check_logs(&server, *day));

    // A restart keeps the cache; what is in it needs no store.
    let (first, last) = (DAYS[0], DAYS[DAYS.len() - 1]);
    server.restart();
    seaweed.stop();
    check_day(&server, last);
    let error = ask(&server, first).unwrap_err();
    assert!(error.contains("object store") && error.contains("tier/metrics/"), "{error}");
    assert_eq!(server.http.promql_value("local").unwrap(), 7.0, "what lies here answers");
    let status = || server.http.json("/api/v1/status/tsdb", &[]).unwrap()["data"]["objectStore"].clone();
    let down = status();
    assert!(down["parts"].as_u64() >= Some(3) && down["unreachableParts"].as_u64() >= Some(1), "{down}");
    assert!(down["error"].is_string(), "{down}");
    assert_eq!(server.http.own_metric("trefoil_parts_object_store_failing"), 1.0);
    seaweed.restart();
    wait_for("the store to be back", Duration::from_secs(60), || ask(&server, first).is_ok());
    DAYS.iter().for_each(|day| check_day(&server, *day));
    DAYS.iter().for_each(|day| check_logs(&server, *day));
    let up = status();
    assert!(up["unreachableParts"] == 0 && up["error"].is_null(), "{up}");
    assert_eq!(server.http.own_metric("trefoil_parts_object_store_failing"), 0.0);
    backed_up_whole(&mut server, &mut seaweed, &dir);
    drop(seaweed);
    std::fs::remove_dir_all(&dir).ok();
}

/// A backup holds the parts that are in the store; commands on the directory know them.
fn backed_up_whole(server: &mut Server, seaweed: &mut Seaweed, dir: &Path) {
    let env = seaweed.env();
    let trefoil = |arguments: &[&str]| run(Command::new(binary()).args(arguments).envs(env.iter().cloned()), b"");
    let place = seaweed.url("backup");
    let backup = ["backup", "--to", &place, "--server", &server.http.base];
    trefoil(&backup).expect_success();
    let objects = seaweed.objects("backup").len();
    let second = trefoil(&backup).expect_success();
    // A manifest, a commit, what the snapshot of the journals and the events has anew.
    let new = seaweed.objects("backup").len() - objects;
    assert!(new <= 10, "{new} new objects: {}", second.stdout);
    // Read before it is trusted.
    trefoil(&[&backup[..], &["--verify"]].concat()).expect_success();

    let data = server.data_dir.clone();
    let data = data.to_str().unwrap();
    server.peer.signal("TERM");
    server.peer.wait();
    let list = trefoil(&["tsdb", "list", "--json", "--data", data]).expect_success();
    let list: serde_json::Value = serde_json::from_str(&list.stdout).unwrap();
    let remote = items(&list["parts"]).filter(|part| part["remote"] == true);
    let samples: u64 = remote.filter_map(|part| part["samples"].as_u64()).sum();
    assert_eq!(samples, (DAYS.len() * SERIES * SAMPLES) as u64, "{list}");
    let verified = trefoil(&["tsdb", "verify", "--data", data]).expect_success();
    assert!(verified.stdout.contains("lie in the object store"), "{}", verified.stdout);
    assert!(verified.stdout.contains("parts of logs lie in the object store"), "{}", verified.stdout);
    let found = trefoil(&["tsdb", "analyze", "--json", "--data", data]).expect_success();
    let found: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(found["series"], SERIES + 1, "{found}");
    let dumped = trefoil(&["tsdb", "dump", r#"tiered{i="7"}"#, "--data", data]).expect_success();
    assert_eq!(dumped.stdout.lines().count(), DAYS.len() * SAMPLES);

    let restored = dir.join("restored");
    trefoil(&["restore", "--from", &place, "--data-dir", restored.to_str().unwrap()]).expect_success();
    seaweed.stop();
    let unreachable = trefoil(&["tsdb", "verify", "--data", data]);
    assert!(unreachable.code == Some(1), "{}", unreachable.output());
    assert!(unreachable.stdout.contains("is in the object store and was not checked"), "{}", unreachable.output());
    assert!(unreachable.stdout.contains("of logs of "), "{}", unreachable.output());
    assert!(unreachable.stderr.contains("could not be checked"), "{}", unreachable.output());
    // Without any store what was restored answers.
    let trefoil = "  retention: { metrics: 60d }".to_owned();
    let options = ServerOptions { trefoil, data_dir: Some(restored), ..ServerOptions::default() };
    let copy = Server::start("object-store-copy", options);
    DAYS.iter().for_each(|day| check_day(&copy, *day));
    DAYS.iter().for_each(|day| check_logs(&copy, *day));
    assert_eq!(copy.http.own_metric("trefoil_parts_remote"), 0.0);
}
