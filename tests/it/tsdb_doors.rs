//! `trefoil tsdb` on directories that are not what one thinks: Prometheus' own, read-only, mistyped; files that are cut.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use trefoil_tests::server::{binary, fresh_dir};
use trefoil_tests::{Finished, Server, ServerOptions, find_program, run, skipped, wait_for};

fn trefoil(arguments: &[&str]) -> Finished {
    run(Command::new(binary()).args(arguments), b"")
}

fn import(input: &[u8], data: &Path, more: &[&str]) -> Finished {
    run(Command::new(binary()).args(["tsdb", "import", "-", "--data", path(data)]).args(more), input)
}

fn path(p: &Path) -> &str {
    p.to_str().unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Names and contents of all files below a folder.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), std::fs::read(path).unwrap()));
        }
    }
    found.sort();
    found
}

/// A data directory of Prometheus: blocks and a log.
fn prometheus_dir(dir: &Path) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/transfer/tests/fixtures");
    let old = dir.join("old");
    copy(&fixtures.join("data"), &old);
    copy(&fixtures.join("logs/snappy"), &old);
    old
}

#[test]
fn history_of_prometheus_comes_along() {
    let dir = fresh_dir("history");
    let old = prometheus_dir(&dir);
    let before = files(&old);
    let elsewhere = dir.join("elsewhere");
    let first = trefoil(&["tsdb", "import", path(&old), "--data", path(&elsewhere)]).expect_success();
    // A server starts on it and says how its history comes in.
    let mut server = Server::start(
        "history",
        ServerOptions {
            args: vec!["--storage.tsdb.retention.time=200y".to_owned()],
            data_dir: Some(old.clone()),
            ..ServerOptions::default()
        },
    );
    let said = format!("trefoil tsdb import --data {old} {old}", old = old.display());
    assert!(server.peer.output().contains(&said), "{}", server.peer.output());
    server.peer.signal("TERM");
    server.peer.wait();
    // Into another directory, and into the very same one.
    let third = dir.join("third");
    for data in [&third, &old] {
        let imported = trefoil(&["tsdb", "import", path(&old), "--data", path(data)]).expect_success();
        assert_eq!(imported.stdout, first.stdout, "{}", imported.output());
    }
    let export =
        |data: &Path| trefoil(&["tsdb", "export", "--format", "json", "--data", path(data)]).expect_success().stdout;
    assert_eq!(export(&old), export(&elsewhere));
    for (file, content) in before {
        assert!(std::fs::read(&file).unwrap() == content, "{} was changed", file.display());
    }
    // Files beside a Prometheus are told.
    let told = import(b"a 1 1700000000\n# EOF\n", &old, &[]).expect_success();
    assert!(told.stderr.contains("holds a Prometheus database"), "{}", told.output());
    // What is Trefoil's alone is no source.
    let refused = trefoil(&["tsdb", "import", path(&third), "--data", path(&elsewhere)]);
    assert!(
        refused.code == Some(1) && refused.stderr.contains("is a data directory of Trefoil"),
        "{}",
        refused.output()
    );
    std::fs::remove_dir_all(dir).ok();
}

#[test]
fn cut_files_are_told_and_not_guessed_at() {
    let dir = fresh_dir("cut");
    let check = |name: &str, input: &[u8], code: i32, samples: &str, said: &str| {
        let done = import(input, &dir.join(name), &[]);
        assert_eq!(done.code, Some(code), "{name}: {}", done.output());
        assert!(done.stdout.starts_with(&format!("{samples} samples")), "{name}: {}", done.output());
        assert!(done.stderr.contains(said), "{name}: {}", done.output());
    };
    check("eof", b"a 1 1700000000\n# EOF\nb 1 1700000000\n# EOF\n", 1, "1", "line 3: unexpected data after # EOF");
    check("cut", b"a 1 1700000000\nb 1 17000", 1, "1", "line 2: the last line has no line feed");
    check("large", b"a 1e309 1700000000\nb 2 1700000000\n# EOF\n", 1, "1", "1e309");
    let input = b"a 1 1700000000\na 1 99999999999999\na 2 -99999999999999\n# EOF\n";
    let done = import(input, &dir.join("times"), &[]);
    assert!(done.stdout.contains("from 2023-11-14T22:13:20.000Z to 2023-11-14T22:13:20.000Z"), "{}", done.output());
    if find_program("gzip").is_some() {
        let packed = Command::new("sh").args(["-c", "printf 'a 1 1700000000\\n# EOF\\n' | gzip -c"]).output().unwrap();
        check("gzip", &packed.stdout, 0, "1", "");
        let done = import(&packed.stdout[..packed.stdout.len() - 10], &dir.join("half"), &[]);
        assert!(done.code == Some(1) && done.stderr.contains("cannot be read further"), "{}", done.output());
    } else {
        skipped("cut_files_are_told_and_not_guessed_at (gzip)", "gzip is not installed");
    }
    std::fs::remove_dir_all(dir).ok();
}

#[test]
fn who_only_looks_makes_nothing() {
    let dir = fresh_dir("looks");
    let data = dir.join("data");
    import(b"a 1 1700000000\n# EOF\n", &data, &[]).expect_success();
    let (missing, foreign) = (dir.join("typo"), dir.join("foreign"));
    std::fs::create_dir(&foreign).unwrap();
    for arguments in
        [&["repair"][..], &["repair", "--dry-run"], &["verify"], &["list"], &["analyze"], &["dump"], &["export"]]
    {
        for place in [&missing, &foreign] {
            let done = trefoil(&[&["tsdb"], arguments, &["--data", path(place)]].concat());
            assert!(done.code == Some(1), "{arguments:?}: {}", done.output());
            assert!(done.stderr.contains("is not a data directory"), "{arguments:?}: {}", done.output());
        }
        assert!(!missing.exists());
        assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 0, "{arguments:?}");
    }
    // Without FORMAT and LOCK, as on a copy.
    for name in ["FORMAT", "LOCK"] {
        std::fs::remove_file(data.join(name)).unwrap();
    }
    let before = files(&data);
    let looks = [&["repair", "--dry-run"][..], &["verify"], &["list"], &["analyze"], &["dump"], &["export"]];
    for arguments in looks {
        trefoil(&[&["tsdb"], arguments, &["--data", path(&data)]].concat()).expect_success();
        assert!(files(&data) == before, "{arguments:?}");
    }
    // A file system that is read-only: its root may still look, and whose files are others' too.
    let readable = Command::new("sh")
        .arg("-c")
        .arg("id -u nobody > /dev/null && command -v setpriv > /dev/null && [ \"$(id -u)\" = 0 ] && chmod -R a+rX \"$1\"")
        .args(["sh", path(&dir)])
        .status();
    if !readable.is_ok_and(|status| status.success()) {
        skipped("who_only_looks_makes_nothing (as another user)", "this needs root, setpriv and a user nobody");
        std::fs::remove_dir_all(dir).ok();
        return;
    }
    std::fs::write(data.join("LOCK"), "").unwrap();
    std::fs::write(data.join("FORMAT"), "trefoil 1\n").unwrap();
    let before = files(&data);
    let binary = binary();
    let reaches = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "nobody", "--clear-groups"]).arg(&binary).args(arguments);
        run(&mut command, b"")
    };
    if reaches(&["version"]).code == Some(0) {
        for arguments in looks {
            let done = reaches(&[&["tsdb"], arguments, &["--data", path(&data)]].concat());
            assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.output());
        }
        let place = dir.join("place");
        std::fs::create_dir(&place).unwrap();
        std::fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        reaches(&["backup", "--to", path(&place), "--data-dir", path(&data)]).expect_success();
        assert!(files(&data) == before);
        std::fs::set_permissions(data.join("LOCK"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let done = reaches(&["tsdb", "dump", "--data", path(&data)]).expect_success();
        assert!(done.stdout == "a 1 1700000000000\n", "{}", done.output());
        assert!(done.stderr.contains("cannot be locked"), "{}", done.output());
    } else {
        skipped("who_only_looks_makes_nothing (as another user)", "the binary is out of reach of another user");
    }
    std::fs::remove_dir_all(dir).ok();
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let dir = fresh_dir("meant");
    let data = dir.join("data");
    import(b"a 1 -5\na 2 1700000000\n# EOF\n", &data, &[]).expect_success();
    let export = |more: &[&str]| trefoil(&[&["tsdb", "export", "--data", path(&data)], more].concat());
    let refused = export(&["--to", "http://127.0.0.1:1/api/v1/write"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("--to needs --format"), "{}", refused.output());
    let refused = export(&["--format", "remote-write", "--to", "ftp://x"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("must begin with http://"), "{}", refused.output());
    assert!(!refused.stderr.contains("trying again"), "{}", refused.output());
    let early = export(&["--start", "-5", "--end", "-4"]).expect_success();
    assert_eq!(early.stdout, "# TYPE a unknown\na 1 -5.000\n# EOF\n");
    // A backup is not restored into a data directory.
    let place = dir.join("backups");
    trefoil(&["backup", "--to", path(&place), "--data-dir", path(&data)]).expect_success();
    let within = data.join("restored");
    let refused = trefoil(&["restore", "--from", path(&place), "--data-dir", path(&within)]);
    assert!(
        refused.code == Some(1) && refused.stderr.contains("lies within the data directory"),
        "{}",
        refused.output()
    );
    assert!(!within.exists());
    let config = dir.join("bad.yml");
    std::fs::write(&config, "trefoil: {object_store: {url: \"s3://\"}}\n").unwrap();
    let refused = trefoil(&["check", "config", path(&config)]);
    assert!(refused.code == Some(1) && refused.stderr.contains("s3://bucket"), "{}", refused.output());
    std::fs::remove_dir_all(dir).ok();
}

#[test]
fn every_flag_of_an_installed_prometheus_is_taken() {
    let named = std::env::var_os("TREFOIL_PROMETHEUS").map(PathBuf::from);
    let programs: Vec<PathBuf> = named.into_iter().chain(find_program("prometheus")).collect();
    if programs.is_empty() {
        return skipped("every_flag_of_an_installed_prometheus_is_taken", "prometheus is not installed");
    }
    for program in programs {
        let help = run(Command::new(&program).arg("--help-long"), b"").output();
        let mut count = 0;
        for line in help.lines() {
            let text = line.trim_start();
            // Lines of flags are indented by two or six columns, what explains them by more.
            if line.len() - text.len() > 6 || !text.starts_with("--") {
                continue;
            }
            let Some(word) = text.split_whitespace().next() else { continue };
            let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            let name = name.replace("[no-]", "");
            if name == "--version" || name == "--help-long" {
                continue;
            }
            let argument = if value.is_some() { format!("{name}=1") } else { name };
            // With --help nothing starts, and a flag before it that is not known is an error.
            let done = trefoil(&["serve", &argument, "--help"]);
            assert_eq!(done.code, Some(0), "{}: {argument}: {}", program.display(), done.output());
            count += 1;
        }
        assert!(count > 30, "{}: {count}", program.display());
    }
}

#[test]
fn flags_of_queries_have_their_meaning() {
    let args = ["--query.lookback-delta=1m", "--query.max-samples=1000", "--query.timeout=7s", "--web.page-title=Mine"];
    let server = Server::start(
        "query-flags",
        ServerOptions { args: args.map(str::to_owned).to_vec(), ..ServerOptions::default() },
    );
    let flags = server.http.json("/api/v1/status/flags", &[]).unwrap();
    for (name, want) in [
        ("query.lookback-delta", "1m"),
        ("query.max-samples", "1000"),
        ("query.timeout", "7s"),
        ("web.page-title", "Mine"),
        ("storage.remote.flush-deadline", "1m"),
    ] {
        assert_eq!(flags["data"][name], want, "{flags}");
    }
    let now = trefoil_tests::wire::now_ms();
    let labels = [("__name__", "looked_back_at")];
    let body = trefoil_tests::wire::remote_write(vec![trefoil_tests::wire::series(&labels, &[(now - 120_000, 1.0)])]);
    assert_eq!(server.http.post("/api/v1/write", trefoil_tests::wire::REMOTE_WRITE, body).unwrap().status, 204);
    let count = |ago_ms: i64| {
        let time = format!("{}.{:03}", (now - ago_ms) / 1000, (now - ago_ms) % 1000);
        let answer = server.http.json("/api/v1/query", &[("query", "looked_back_at"), ("time", &time)]).unwrap();
        answer["data"]["result"].as_array().map_or(0, Vec::len)
    };
    wait_for("the sample", Duration::from_secs(20), || count(120_000) == 1);
    assert_eq!((count(70_000), count(50_000)), (1, 0));
}
