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
    // What is there is read before it is trusted, and written again.
    let mended = trefoil(&["backup", "--verify", "--to", place, "--data-dir", text(&dir.join(names[2]))], env);
    assert!(mended.expect_success().stderr.contains("1 objects of earlier backups were damaged"));
    trefoil(&["backup", "verify", "--from", place, "--at", names[2]], env).expect_success();
    let before = objects();
    assert_eq!(trefoil(&["backup", "prune", "--from", place, "--keep", "0"], env).code, Some(2));
    assert_eq!(objects(), before, "all backups are there");
    trefoil(&["backup", "prune", "--from", place, "--keep", "1"], env).expect_success();
    trefoil(&["backup", "verify", "--from", place], env).expect_success();
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

#[test]
fn places_that_cannot_be_right_are_refused() {
    let dir = fresh_dir("backup-places");
    let typo = dir.join("typo");
    let to = dir.join("restored");
    for arguments in [
        &["backup", "list", "--from", text(&typo)][..],
        &["backup", "verify", "--from", text(&typo)],
        &["backup", "prune", "--keep", "1", "--from", text(&typo)],
        &["restore", "--from", text(&typo), "--data-dir", text(&to)],
    ] {
        let refused = trefoil(arguments, &[]);
        assert!(refused.code == Some(1) && refused.stderr.contains("no backups at"), "{}", refused.output());
        assert!(!typo.exists() && !to.exists());
    }
    let data = dir.join("data");
    std::fs::create_dir_all(data.join("metrics")).unwrap();
    std::fs::write(data.join("FORMAT"), "trefoil 1\n").unwrap();
    for place in [data.join("backups"), data.join("metrics/x"), data.clone()] {
        let refused = trefoil(&["backup", "--data-dir", text(&data), "--to", text(&place)], &[]);
        assert!(
            refused.code == Some(1) && refused.stderr.contains("within the data directory"),
            "{}",
            refused.output()
        );
    }
    assert!(!data.join("backups").exists());
    std::fs::remove_dir_all(&dir).ok();
}

#[test]
fn a_backup_that_was_cut_off_leaves_no_snapshot_for_ever() {
    let dir = fresh_dir("backup-cut");
    let args = vec!["--web.enable-admin-api".to_owned()];
    let server = Server::start("backup-cut", ServerOptions { args, ..ServerOptions::default() });
    write(&server, 0, wire::now_ms());
    let snapshots = server.data_dir.join("snapshots");
    let (cut, kept) = (snapshots.join("20260102T030405Z-0000000000000000-backup"), snapshots.join("by-hand"));
    std::fs::create_dir_all(&cut).unwrap();
    std::fs::create_dir_all(&kept).unwrap();
    let made = trefoil(&["backup", "--to", text(&dir), "--server", &server.http.base], &[]).expect_success();
    assert!(made.stderr.contains("cut off"), "{}", made.output());
    assert_eq!(std::fs::read_dir(&snapshots).unwrap().count(), 1);
    assert!(kept.exists());

    // Damage of the source is told, and the backup is there all the same.
    let mut server = server;
    server.peer.signal("TERM");
    server.peer.wait();
    let parts = files(&server.data_dir.join("metrics/parts/parts"));
    let largest = parts.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut content = std::fs::read(largest).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::remove_file(largest).unwrap();
    std::fs::write(largest, content).unwrap();
    let relative = text(largest.strip_prefix(&server.data_dir).unwrap());
    let made = trefoil(&["backup", "--data-dir", text(&server.data_dir), "--to", text(&dir)], &[]);
    assert!(made.code == Some(1) && made.stderr.contains(relative), "{}", made.output());
    let found = trefoil(&["backup", "verify", "--from", text(&dir)], &[]);
    assert!(found.code == Some(1) && found.stdout.contains(relative), "{}", found.output());
    let to = dir.join("restored");
    let restored = trefoil(&["restore", "--from", text(&dir), "--data-dir", text(&to)], &[]).expect_success();
    assert!(restored.stderr.contains(relative), "{}", restored.output());
    std::fs::remove_dir_all(&dir).ok();
}

/// Takes connections and never says a word.
fn silent_server() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // It ends with the process of the tests.
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    port
}

#[test]
fn an_object_store_that_never_answers_is_an_error_in_time() {
    let dir = fresh_dir("backup-silent");
    let data = dir.join("data");
    std::fs::create_dir_all(data.join("metrics")).unwrap();
    std::fs::write(data.join("FORMAT"), "trefoil 1\n").unwrap();
    let endpoint = format!("http://127.0.0.1:{}", silent_server());
    let env = [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("NO_PROXY", "127.0.0.1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let place = "s3://bucket/prefix";
    let begun = std::time::Instant::now();
    for arguments in [
        &["backup", "list", "--from", place][..],
        &["backup", "verify", "--from", place],
        &["backup", "prune", "--keep", "1", "--from", place],
        &["backup", "--to", place, "--data-dir", text(&data)],
        &["backup", "--verify", "--to", place, "--data-dir", text(&data)],
        &["restore", "--from", place, "--data-dir", text(&dir.join("restored"))],
    ] {
        let refused = trefoil(&[arguments, &["--timeout", "1"]].concat(), &env);
        assert_eq!(refused.code, Some(1), "{arguments:?}: {}", refused.output());
        assert!(refused.stderr.contains(place), "{arguments:?}: {}", refused.output());
    }
    // With the default of 30 s for each of them it would take three minutes.
    assert!(begun.elapsed().as_secs() < 120);
    std::fs::remove_dir_all(&dir).ok();
}
