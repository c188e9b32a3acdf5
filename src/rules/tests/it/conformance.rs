use std::fs;
use std::path::{Path, PathBuf};

use trefoil_config::RuleFile;
use trefoil_rules::check_rule_file;

#[expect(clippy::print_stdout, reason = "the one line that says what a run left out")]
fn rules_dir(test: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("TREFOIL_CONFORMANCE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"), PathBuf::from)
        .join("rules");
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: {test}: no conformance data at {}", dir.display());
    None
}

/// Loads and checks; the faults as one text.
fn load(path: &Path) -> Result<RuleFile, String> {
    let rules = RuleFile::load(path).map_err(|e| e.to_string())?;
    let faults: Vec<String> = check_rule_file(&rules, Some(path), trefoil_promql::ParserOptions::default())
        .iter()
        .map(ToString::to_string)
        .collect();
    if faults.is_empty() { Ok(rules) } else { Err(faults.join("\n")) }
}

#[test]
fn rulefmt_outcomes() {
    let Some(dir) = rules_dir("rulefmt_outcomes") else { return };
    let expected = fs::read_to_string(dir.join("rulefmt/expected.tsv")).unwrap();
    for line in expected.lines().skip(1) {
        let mut columns = line.split('\t');
        let (file, outcome) = (columns.next().unwrap(), columns.next().unwrap());
        let fragment = columns.next().unwrap_or("");
        match (outcome, load(&dir.join("rulefmt").join(file))) {
            ("good", Ok(_)) => {}
            ("bad", Err(text)) => {
                assert!(text.contains(fragment), "{file}: {text:?} lacks {fragment:?}");
                assert!(text.contains(file), "{file} is not named: {text}");
            }
            (outcome, got) => panic!("{file} should be {outcome}: {got:?}"),
        }
    }
}

#[test]
fn real_world_files_load() {
    let Some(dir) = rules_dir("real_world_files_load") else { return };
    let mut rules = 0;
    for folder in ["awesome-prometheus-alerts", "thanos", "alert-generator"] {
        for entry in fs::read_dir(dir.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "yml" || e == "yaml") {
                let file = load(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                rules += file.groups.iter().map(|g| g.rules.len()).sum::<usize>();
            }
        }
    }
    assert!(rules > 700, "{rules}");
}

#[test]
fn fixtures() {
    let Some(dir) = rules_dir("fixtures") else { return };
    for (file, good) in [
        ("fixtures/invalid_rules.yaml", false),
        ("fixtures/rules_multi_doc.yaml", true),
        ("fixtures/rules_indeterminates.yaml", true),
        ("promtool/rules.yml", true),
        ("promtool/rules_large.yml", true),
        ("promtool/rules-bad.yml", false),
    ] {
        let path = dir.join(file);
        if path.is_file() {
            let got = load(&path);
            assert_eq!(got.is_ok(), good, "{file}: {got:?}");
        }
    }
    let file = load(&dir.join("fixtures/rules_multi_doc.yaml")).unwrap();
    assert_eq!(file.groups.len(), 1, "only the first document is read");
}
