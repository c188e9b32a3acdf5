//! Snapshots, backups and restores of the real binary, at a folder and at a real S3 server.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use trefoil_tests::oracle::{Oracle, Signal};
use trefoil_tests::server::{binary, fresh_dir};
use trefoil_tests::{Finished, Seaweed, Server, ServerOptions, run, skipped, wire};

const SIGNALS: [Signal; 3] = [Signal::Metrics, Signal::Logs, Signal::Traces];

fn trefoil(arguments: &[&str], env: &[(String, String)]) -> Finished {
    let mut command = Command::new(binary());
    run(command.args(arguments).envs(env.iter().map(|(name, value)| (name, value))), b"")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Series of some days and their values over time, as the server says.
fn answers(server: &Server, end_ms: i64) -> Value {
    let (start, end) = ((end_ms / 1000 - 3600).to_string(), (end_ms / 1000).to_string());
    let window =
        [("query", r#"{__name__=~"backed_up|oracle_sequence"}"#), ("start", &start), ("end", &end), ("step", "15")];
    server.http.json("/api/v1/query_range", &window).unwrap()["data"].clone()
}

fn write(server: &Server, n: usize, now_ms: i64) {
    let series = (0..20)
        .map(|i| {
            wire::series(&[("__name__", "backed_up"), ("i", &i.to_string())], &[(now_ms - n as i64 * 15_000, n as f64)])
        })
        .collect();
    let answer = server.http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(series)).unwrap();
    assert!(answer.status < 300, "{}", answer.text());
}

/// A server on restored data.
fn restored(dir: PathBuf, name: &str) -> Server {
    Server::start(name, ServerOptions { data_dir: Some(dir), ..ServerOptions::default() })
}

/// Backs up twice, restores both, and damages the place; `damage` changes an object and returns its name.
fn check(name: &str, place: &str, env: &[(String, String)], objects: &dyn Fn() -> usize, damage: &dyn Fn() -> String) {
    let now_ms = wire::now_ms();
    let args = vec!["--web.enable-admin-api".to_owned()];
    let mut server = Server::start(name, ServerOptions { args, ..ServerOptions::default() });
    let (oracle, oracle_of_server) = (Oracle::new(name), Oracle::new(&format!("{name}-running")));
    for n in 0..4 {
        write(&server, n, now_ms);
        for signal in SIGNALS {
            oracle.write_batch(signal, &server.http);
        }
    }
    let data = server.data_dir.clone();
    let refused = trefoil(&["backup", "--to", place, "--data-dir", text(&data)], env);
    assert!(refused.code == Some(1) && refused.stderr.contains("--server"), "{}", refused.output());

    server.peer.signal("TERM");
    server.peer.wait();
    trefoil(&["backup", "--to", place, "--data-dir", text(&data)], env).expect_success();
    let first = objects();
    assert!(first > 5, "{first} objects");
    server.restart();
    let expected_first = answers(&server, now_ms);
    assert!(expected_first["result"].as_array().unwrap().len() >= 20, "{expected_first}");
    write(&server, 5, now_ms);
    server.peer.kill();
    let second = trefoil(&["backup", "--to", place, "--data-dir", text(&data)], env).expect_success();
    assert!(second.stdout.contains("objects with"), "{}", second.stdout);
    let new = objects() - first;
    // A journal segment, a manifest, and what a catalog of the start and the end have; the parts are there already.
    assert!((2..=6).contains(&new), "{new} new objects: {}", second.stdout);
    server.restart();
    let expected_second = answers(&server, now_ms);
    assert_ne!(expected_first, expected_second);

    // Of a running server, with what nobody flushed.
    write(&server, 6, now_ms);
    for signal in SIGNALS {
        oracle_of_server.write_batch(signal, &server.http);
    }
    let expected_third = answers(&server, now_ms);
    let before = objects();
    trefoil(&["backup", "--to", place, "--server", &server.http.base], env).expect_success();
    // Journal segments, the catalogs of the snapshot, a manifest; what is in the place already is not sent again.
    assert!((2..=12).contains(&(objects() - before)), "{} new objects", objects() - before);
    let snapshots = data.join("snapshots");
    assert_eq!(std::fs::read_dir(&snapshots).unwrap().count(), 0, "the snapshot is removed in the end");
    write(&server, 7, now_ms);

    let listed = trefoil(&["backup", "list", "--from", place], env).expect_success().stdout;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names.len(), 3, "{listed}");
    trefoil(&["backup", "verify", "--from", place], env).expect_success();
    let dir = fresh_dir("restored");
    for (at, expected) in [(names[0], &expected_first), (names[1], &expected_second), (names[2], &expected_third)] {
        let to = dir.join(at);
        let arguments = ["restore", "--from", place, "--at", at, "--data-dir", text(&to)];
        trefoil(&arguments, env).expect_success();
        let again = trefoil(&arguments, env);
        assert!(again.code == Some(1) && again.stderr.contains("not empty"), "{}", again.output());
        let copy = restored(to, "copy");
        assert_eq!(answers(&copy, now_ms), *expected, "{at}");
        assert_eq!(oracle.check(&copy.http), [""; 0], "{at}");
        if at == names[2] {
            assert_eq!(oracle_of_server.check(&copy.http), [""; 0], "{at}");
        }
    }

    let damaged = damage();
    let found = trefoil(&["backup", "verify", "--from", place], env);
    assert!(found.code == Some(1) && found.stdout.contains(&damaged), "{damaged}: {}", found.output());
    let to = dir.join("damaged");
    let refused = trefoil(&["restore", "--from", place, "--data-dir", text(&to)], env);
    assert!(refused.code == Some(1) && refused.stderr.contains(&damaged), "{damaged}: {}", refused.output());
    assert!(!to.exists());
    trefoil(&["backup", "prune", "--from", place, "--keep", "0"], env).expect_success();
    assert_eq!(objects(), 0);
    std::fs::remove_dir_all(&dir).ok();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn backup_to_a_folder() {
    let dir = fresh_dir("backup-place");
    let damage = || {
        let largest =
            files(&dir.join("objects")).into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
        let mut content = std::fs::read(&largest).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        std::fs::write(&largest, content).unwrap();
        largest.file_name().unwrap().to_str().unwrap().to_owned()
    };
    check("backup-folder", &format!("file://{}", dir.display()), &[], &|| files(&dir).len(), &damage);
    std::fs::remove_dir_all(&dir).ok();
}

#[test]
fn backup_to_s3() {
    let dir = fresh_dir("backup-s3");
    let Some(seaweed) = Seaweed::start(&dir) else { return skipped("backup_to_s3", "SeaweedFS is not installed") };
    let damage = || {
        let largest = seaweed.objects("a/b/objects").into_iter().max_by_key(|(_, len)| *len).unwrap().0;
        let mut content = seaweed.read(&largest);
        let middle = content.len() / 2;
        content[middle] ^= 1;
        seaweed.overwrite(&largest, content);
        largest.rsplit('/').next().unwrap().to_owned()
    };
    check("backup-s3", &seaweed.url("a/b"), &seaweed.env(), &|| seaweed.objects("a/b").len(), &damage);
    drop(seaweed);
    std::fs::remove_dir_all(&dir).ok();
}
