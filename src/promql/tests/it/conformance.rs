//! Runs every script of the reference and holds the failures against the list of known ones.

use std::collections::BTreeMap;
use std::fs;

use trefoil_promql::testing;

/// `file:line reason`, a line each; `#` begins a remark.
const KNOWN_FAILURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/known_failures.txt");

#[test]
fn scripts_of_the_reference() {
    let Some(dir) = crate::conformance_dir("promql conformance") else { return };
    let known = known_failures();
    let mut files: Vec<_> = fs::read_dir(dir.join("promql"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "test"))
        .collect();
    files.sort();
    let mut failures = BTreeMap::new();
    let mut evals = 0;
    for path in &files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let report = testing::run(&fs::read_to_string(path).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        println!("{name}: {} of {} fail", report.failures.len(), report.evals);
        evals += report.evals;
        for f in report.failures {
            failures.insert(format!("{name}:{}", f.line), f.message);
        }
    }
    println!("{} of {evals} fail", failures.len());
    if std::env::var_os("TREFOIL_WRITE_KNOWN_FAILURES").is_some() {
        let lines: Vec<String> =
            failures.iter().map(|(at, why)| format!("{at} {}\n", why.replace('\n', " "))).collect();
        let text = fs::read_to_string(KNOWN_FAILURES).unwrap_or_default();
        let remarks: String = text.lines().filter(|l| l.starts_with('#')).flat_map(|l| [l, "\n"]).collect();
        fs::write(KNOWN_FAILURES, remarks + &lines.concat()).unwrap();
        return;
    }
    let new: Vec<String> =
        failures.iter().filter(|(at, _)| !known.contains_key(*at)).map(|(at, why)| format!("{at} {why}")).collect();
    let gone: Vec<&String> = known.keys().filter(|at| !failures.contains_key(*at)).collect();
    assert!(new.is_empty(), "fail and are not listed:\n{}", new.join("\n"));
    assert!(gone.is_empty(), "listed as failing but pass, take them off the list: {gone:?}");
}

fn known_failures() -> BTreeMap<String, String> {
    let text = fs::read_to_string(KNOWN_FAILURES).unwrap_or_default();
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| {
            let (at, why) = l.split_once(' ').unwrap_or((l, ""));
            (at.to_owned(), why.to_owned())
        })
        .collect()
}
