//! What rots or is lost while nobody looks, as a user meets it: `verify` names it, a start says it and goes on, a restore
//! brings back the rest.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use trefoil_tests::oracle::{Oracle, Signal};
use trefoil_tests::server::{binary, fresh_dir};
use trefoil_tests::{Finished, Server, ServerOptions, run};

const SIGNALS: [Signal; 3] = [Signal::Metrics, Signal::Logs, Signal::Traces];
/// The sets of parts, below the data directory.
const SETS: [&str; 3] = ["metrics/parts", "events/logs", "events/traces"];
const JOURNALS: [&str; 3] = ["metrics/journal", "events/logs/journal", "events/traces/journal"];

fn trefoil(arguments: &[&str]) -> Finished {
    run(Command::new(binary()).args(arguments), b"")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn verify(data: &Path) -> Finished {
    trefoil(&["tsdb", "verify", "--data", text(data)])
}

/// `verify` fails and says all of these in one line.
fn verify_tells(data: &Path, words: &[&str]) {
    let found = verify(data);
    assert_eq!(found.code, Some(1), "{}", found.output());
    assert!(
        found.stdout.lines().any(|line| words.iter().all(|word| line.contains(word))),
        "{words:?}: {}",
        found.output()
    );
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn write(oracle: &Oracle, server: &Server) {
    for signal in SIGNALS {
        oracle.write_batch(signal, &server.http);
    }
}

/// A server with a batch of every signal.
fn written(name: &str) -> (Server, Oracle) {
    let (server, oracle) = (Server::start(name, ServerOptions::default()), Oracle::new(name));
    write(&oracle, &server);
    (server, oracle)
}

fn stop(server: &mut Server) {
    server.peer.signal("TERM");
    server.peer.wait();
}

fn flip(path: &Path, at: usize) {
    let mut content = std::fs::read(path).unwrap();
    content[at] ^= 1;
    // A new file: other names of the old one keep their content.
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn copies_of_definitions_that_are_gone_are_told_and_written_anew() {
    let (mut server, oracle) = written("lost-copies");
    let data = server.data_dir.clone();
    server.peer.kill();
    verify(&data).expect_success();
    let copies =
        || files(&data.join("metrics/journal")).into_iter().filter(|path| path.extension().unwrap() == "copies");
    let lost: Vec<PathBuf> = copies().collect();
    assert!(!lost.is_empty());
    let before: Vec<_> = lost.iter().map(|path| std::fs::read(path).unwrap()).collect();
    lost.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    verify_tells(&data, &[text(&lost[0]), "the records are unharmed"]);
    assert_eq!(copies().count(), 0, "verify changes nothing");
    server.restart();
    let log = server.peer.output();
    assert!(log.contains("copies of definitions were missing and are written anew"), "{log}");
    assert_eq!(oracle.check(&server.http), [""; 0]);
    assert_eq!(copies().zip(&lost).filter(|(found, lost)| found == *lost).count(), lost.len());
    let after: Vec<_> = lost.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!(after, before);
    server.peer.kill();
    verify(&data).expect_success();
    server.restart();
    assert!(!server.peer.output().contains("copies of definitions"), "{}", server.peer.output());
}

#[test]
fn a_damaged_mark_of_commits_stops_no_start() {
    // Once with commits, once before the first.
    for has_commits in [true, false] {
        let (mut server, oracle) = written("damaged-mark");
        let data = server.data_dir.clone();
        if has_commits {
            stop(&mut server);
        } else {
            server.peer.kill();
        }
        verify(&data).expect_success();
        for set in SETS {
            let mark = data.join(set).join("catalog-state");
            let before = std::fs::read(&mark).unwrap();
            std::fs::write(&mark, b"abcd").unwrap();
            verify_tells(&data, &[text(&mark), "is damaged"]);
            server.restart();
            let log = server.peer.output();
            assert!(log.contains("what says whether commits were made is damaged") && log.contains(set), "{log}");
            assert_eq!(oracle.check(&server.http), [""; 0], "{set}");
            server.peer.kill();
            assert_eq!(std::fs::read(&mark).unwrap(), before, "{set}");
            verify(&data).expect_success();
        }
    }
}

#[test]
fn damage_in_parts_of_logs_and_traces_is_named_with_its_range() {
    let (mut server, _) = written("damaged-events");
    stop(&mut server);
    let data = server.data_dir.clone();
    verify(&data).expect_success();
    for set in ["events/logs", "events/traces"] {
        let part = files(&data.join(set).join("parts")).into_iter().find(|path| path.ends_with("events")).unwrap();
        let whole = std::fs::read(&part).unwrap();
        for at in [20, whole.len() - 30] {
            flip(&part, at);
            verify_tells(&data, &[text(&part), "bytes "]);
            let found = verify(&data);
            let ranges = found.stdout.lines().filter_map(|line| line.split_once("bytes ")?.1.split(' ').next());
            let holds = |range: &str| {
                let (start, end) = range.split_once("..").unwrap();
                (start.parse::<usize>().unwrap()..end.parse().unwrap()).contains(&at)
            };
            assert_eq!(ranges.filter(|range| holds(range)).count(), 1, "{at}: {}", found.output());
            std::fs::write(&part, &whole).unwrap();
        }
        std::fs::write(&part, &whole[..whole.len() - 1]).unwrap();
        verify_tells(&data, &[text(&part), "bytes instead of"]);
        std::fs::remove_file(&part).unwrap();
        verify_tells(&data, &[text(&part), "is missing"]);
        std::fs::write(&part, &whole).unwrap();
    }
    verify(&data).expect_success();
}

#[test]
fn a_journal_that_is_gone_is_told_once() {
    for keeps_folder in [false, true] {
        let (mut server, flushed) = written("lost-journal");
        let data = server.data_dir.clone();
        stop(&mut server);
        server.restart();
        write(&Oracle::new("lost"), &server);
        server.peer.kill();
        for journal in JOURNALS {
            let journal = data.join(journal);
            std::fs::remove_dir_all(&journal).unwrap();
            if keeps_folder {
                std::fs::create_dir(&journal).unwrap();
            }
            verify_tells(&data, &[text(&journal), "the journal is gone"]);
        }
        server.restart();
        let log = server.peer.output();
        assert_eq!(log.lines().filter(|line| line.contains("journal is gone")).count(), 3, "{log}");
        assert_eq!(flushed.check(&server.http), [""; 0]);
        // Twice: as it is, and with new records.
        for _ in 0..2 {
            server.peer.kill();
            verify(&data).expect_success();
            server.restart();
            assert!(!server.peer.output().contains("journal is gone"), "{}", server.peer.output());
            write(&flushed, &server);
            assert_eq!(flushed.check(&server.http), [""; 0]);
        }
    }
}

#[test]
fn a_folder_of_metrics_that_is_gone_is_told() {
    let (mut server, _) = written("lost-metrics");
    stop(&mut server);
    std::fs::remove_dir_all(server.data_dir.join("metrics")).unwrap();
    server.restart();
    let log = server.peer.output();
    assert!(log.contains("the folder of the metrics store is gone"), "{log}");
    server.restart();
    assert!(!server.peer.output().contains("is gone"), "{}", server.peer.output());
}

#[test]
fn a_restore_skips_damage_when_it_is_told_to() {
    let (mut server, oracle) = written("skip-damaged");
    stop(&mut server);
    let dir = fresh_dir("skip-damaged-place");
    let (place, to) = (dir.join("place"), dir.join("restored"));
    trefoil(&["backup", "--to", text(&place), "--data-dir", text(&server.data_dir)]).expect_success();
    let manifest = std::fs::read_to_string(&files(&place.join("backups"))[0]).unwrap();
    let manifest: Value = serde_json::from_str(manifest.split_once('\n').unwrap().1).unwrap();
    let object_of = |wanted: &dyn Fn(&str) -> bool| {
        let file = manifest["files"].as_array().unwrap().iter().find(|file| wanted(file["path"].as_str().unwrap()));
        let hash = file.unwrap()["sha256"].as_str().unwrap();
        let is_first = |path: &PathBuf| {
            let name = text(Path::new(path.file_name().unwrap())).to_owned();
            name.starts_with(hash) && !name.ends_with("-second")
        };
        files(&place.join("objects")).into_iter().find(is_first).unwrap()
    };
    let restore = |more: &[&str]| {
        std::fs::remove_dir_all(&to).ok();
        let arguments = ["restore", "--from", text(&place), "--data-dir", text(&to)];
        trefoil(&[&arguments, more].concat())
    };
    // A commit has another object in its other folder: nothing is lost, and nobody has to ask.
    let commit = object_of(&|path| path.starts_with("metrics/parts/catalog/"));
    let whole = std::fs::read(&commit).unwrap();
    flip(&commit, 40);
    let name = |path: &Path| text(Path::new(path.file_name().unwrap())).to_owned();
    let restored = restore(&[]).expect_success();
    assert!(
        restored.stderr.contains("nothing is lost") && restored.stderr.contains(&name(&commit)),
        "{}",
        restored.output()
    );
    let copy =
        Server::start("skip-damaged-commit", ServerOptions { data_dir: Some(to.clone()), ..ServerOptions::default() });
    assert_eq!(oracle.check(&copy.http), [""; 0]);
    drop(copy);
    std::fs::write(&commit, whole).unwrap();

    let object = object_of(&|path| path.starts_with("events/logs/parts/") && path.ends_with("/events"));
    let whole = std::fs::read(&object).unwrap();
    for is_missing in [false, true] {
        if is_missing {
            std::fs::remove_file(&object).unwrap();
        } else {
            flip(&object, 20);
        }
        let refused = restore(&[]);
        assert_eq!(refused.code, Some(1), "{}", refused.output());
        for word in [&name(&object), "--skip-damaged", "events/logs/parts/"] {
            assert!(refused.stderr.contains(word), "{word}: {}", refused.output());
        }
        assert!(!to.exists());
        let restored = restore(&["--skip-damaged"]);
        assert_eq!(restored.code, Some(1), "{}", restored.output());
        let said = if is_missing { "left out: " } else { "restored with damage: " };
        assert!(restored.stderr.contains(said) && restored.stderr.contains(&name(&object)), "{}", restored.output());
        verify_tells(&to, &["events/logs/parts/", if is_missing { "is missing" } else { "bytes 12.." }]);
        let options = ServerOptions { data_dir: Some(to.clone()), ..ServerOptions::default() };
        let copy = Server::start("skip-damaged-copy", options);
        let faults = oracle.check(&copy.http);
        assert!(!faults.is_empty() && faults.iter().all(|fault| fault.starts_with("Logs")), "{faults:?}");
        drop(copy);
        std::fs::write(&object, &whole).unwrap();
    }
    restore(&[]).expect_success();
    std::fs::remove_dir_all(&dir).ok();
}
