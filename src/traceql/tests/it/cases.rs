//! All cases of `conformance/traceql`. Those in `known_failures.txt` must fail, all others must pass.

use std::collections::BTreeSet;
use std::path::PathBuf;

use trefoil_traceql::{parse, testing};

#[test]
fn conformance_cases() {
    let root = std::env::var("TREFOIL_CONFORMANCE")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance").to_owned());
    let directory = PathBuf::from(root).join("traceql");
    if !directory.exists() {
        println!("skipped: traceql conformance cases");
        return;
    }
    let known: BTreeSet<&str> = include_str!("../known_failures.txt")
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| l.split_whitespace().next().expect("an id"))
        .collect();
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 5, "case files");
    files.push(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/own.yaml")));
    let (mut complaints, mut run, mut seen) = (Vec::new(), 0, BTreeSet::new());
    for path in files {
        let source = std::fs::read_to_string(&path).expect("readable");
        let report = testing::run(&source).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        run += report.cases.len();
        for failure in &report.failures {
            if !known.contains(failure.id.as_str()) {
                complaints.push(format!("{}: {}", failure.id, failure.message));
            }
        }
        for id in &report.cases {
            if known.contains(id.as_str()) && report.failures.iter().all(|f| f.id != *id) {
                complaints.push(format!("{id}: passes now, take it out of known_failures.txt"));
            }
        }
        seen.extend(report.cases);
        canonical_forms(&source, &mut complaints);
    }
    complaints.extend(known.iter().filter(|id| !seen.contains(**id)).map(|id| format!("{id}: no such case")));
    assert!(run > 150, "{run} cases");
    assert!(complaints.is_empty(), "{} of {run} cases:\n{}", complaints.len(), complaints.join("\n"));
}

/// Every query that parses has a canonical form that stays as it is.
fn canonical_forms(source: &str, complaints: &mut Vec<String>) {
    let document: serde_json::Value = serde_saphyr::from_str(source).expect("it was read before");
    for body in document["cases"].as_array().expect("cases") {
        if let Ok(query) = parse(body["query"].as_str().unwrap_or_default()) {
            let text = query.to_string();
            if parse(&text).map(|q| q.to_string()).ok().as_ref() != Some(&text) {
                complaints.push(format!("{}: not stable in canonical form: {text}", body["id"]));
            }
        }
    }
}

#[test]
fn malformed_files_and_cases_are_told() {
    for text in ["", "- 1", "cases: 3", "format: other/1\ncases: []"] {
        assert!(testing::run(text).is_err(), "{text}");
    }
    let text = "cases:\n- {id: a, dataset: none, query: x}\n- {query: '{}', expect: {}}\n- {id: c, query: '{} | rate()', range: {from: soon, to: 1s}, expect: {series: []}}\n- {id: d, query: 'x', expect: {error: {status: 400}}}\n";
    let report = testing::run(text).expect("a file");
    let failed: Vec<&str> = report.failures.iter().map(|f| f.id.as_str()).collect();
    assert_eq!((failed, report.cases.len()), (vec!["a", "case 2", "c"], 4));
}
