//! Commits that are damaged or gone, as a user meets them: commands change nothing, a server refuses or goes on, a repair
//! brings back what the parts have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use trefoil_tests::server::{binary, fresh_dir};
use trefoil_tests::{Finished, run};

fn tsdb(arguments: &[&str], data: &Path) -> Finished {
    run(Command::new(binary()).arg("tsdb").args(arguments).arg("--data").arg(data), b"")
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name != "LOCK") {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    std::fs::remove_dir_all(to).ok();
    for (path, content) in files(from) {
        let path = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

fn commits(parts: &Path, folder: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = files(&parts.join(folder)).into_keys().collect();
    found.sort();
    found
}

/// Two imports of two days each.
fn store(dir: &Path) -> PathBuf {
    let data = dir.join("whole");
    for import in 0..2i64 {
        let mut text = String::from("# TYPE x gauge\n");
        for series in 0..3 {
            for k in 0..20i64 {
                let t = 1_700_000_000 + import * 600 + (k / 10) * 86_400 + k * 30;
                text.push_str(&format!("x{{n=\"{series}\"}} {} {t}\n", k * series));
            }
        }
        text.push_str("# EOF\n");
        let file = dir.join("in.om");
        std::fs::write(&file, text).unwrap();
        tsdb(&["import", file.to_str().unwrap(), "--quiet"], &data).expect_success();
    }
    data
}

fn dump(data: &Path) -> Finished {
    tsdb(&["dump"], data)
}

#[test]
fn commands_remove_nothing_and_a_repair_brings_all_back() {
    let dir = fresh_dir("lost-commits");
    let whole = store(&dir);
    let expected = dump(&whole).expect_success().stdout;
    assert_eq!(expected.lines().count(), 120);
    let data = dir.join("data");
    let parts = data.join("metrics/parts");
    // Either folder of commits is enough to answer; `verify` says that the other is gone.
    for folder in ["catalog", "catalog-copies"] {
        copy(&whole, &data);
        std::fs::remove_dir_all(parts.join(folder)).unwrap();
        let before = files(&data);
        let verified = tsdb(&["verify"], &data);
        assert_eq!(verified.code, Some(1), "{}", verified.output());
        assert!(verified.output().contains(&format!("metrics/parts/{folder}")), "{}", verified.output());
        assert_eq!(dump(&data).expect_success().stdout, expected);
        tsdb(&["list"], &data).expect_success();
        tsdb(&["analyze"], &data).expect_success();
        tsdb(&["export", "--format", "json"], &data).expect_success();
        assert_eq!(files(&data), before, "without {folder}");
    }
    // Neither: refused, untouched, repaired.
    copy(&whole, &data);
    for folder in ["catalog", "catalog-copies"] {
        std::fs::remove_dir_all(parts.join(folder)).unwrap();
    }
    let before = files(&data);
    for command in ["verify", "list", "analyze", "dump", "export"] {
        let refused = tsdb(&[command], &data);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("trefoil tsdb repair"), "{}", refused.output());
    }
    tsdb(&["repair", "--dry-run"], &data).expect_success();
    assert_eq!(files(&data), before);
    tsdb(&["repair"], &data).expect_success();
    assert_eq!(dump(&data).expect_success().stdout, expected);
    tsdb(&["verify"], &data).expect_success();
    assert!(tsdb(&["repair"], &data).expect_success().stdout.contains("nothing to repair"));
    // A flipped byte in a commit is told and does no harm; with its copy gone too a repair is needed.
    for (at, path) in commits(&whole.join("metrics/parts"), "catalog").iter().enumerate() {
        copy(&whole, &data);
        let path = data.join(path.strip_prefix(&whole).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[60] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let verified = tsdb(&["verify"], &data);
        assert_eq!(verified.code, Some(1));
        assert!(verified.stdout.contains(path.file_name().unwrap().to_str().unwrap()), "{}", verified.output());
        assert_eq!(dump(&data).expect_success().stdout, expected);
        std::fs::remove_dir_all(parts.join("catalog-copies")).unwrap();
        assert_eq!(dump(&data).code, Some(1));
        tsdb(&["repair"], &data).expect_success();
        assert_eq!(dump(&data).expect_success().stdout, expected, "commit {at}");
    }
    std::fs::remove_dir_all(dir).ok();
}

#[test]
fn damage_in_blocks_and_journals_is_named_and_the_rest_comes_out() {
    let dir = fresh_dir("lost-blocks");
    let whole = store(&dir);
    let data = dir.join("data");
    for name in ["blocks", "index"] {
        copy(&whole, &data);
        let path = files(&data).into_keys().find(|path| path.ends_with(name)).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        // Of the index its end; what a dump does not need does no harm.
        let at = if name == "index" { bytes.len() - 20 } else { bytes.len() / 3 };
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let dumped = dump(&data);
        assert_eq!(dumped.code, Some(1), "{}", dumped.output());
        assert!(dumped.stderr.contains(name) && dumped.stderr.contains("left out"), "{}", dumped.output());
        assert!(dumped.stdout.lines().count() >= 60, "the other day: {}", dumped.output());
    }
    copy(&whole, &data);
    let journal = files(&data.join("metrics/journal")).into_keys().next().unwrap();
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    let verified = tsdb(&["verify"], &data);
    assert_eq!(verified.code, Some(1), "{}", verified.output());
    assert!(verified.stdout.contains("journal"), "{}", verified.output());
    std::fs::remove_dir_all(dir).ok();
}
