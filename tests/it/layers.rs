//! The layers of ARCHITECTURE.md hold: dependencies between our crates point down only.

use std::collections::BTreeMap;
use std::path::Path;

/// Every crate and the crates of ours that it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("runtime", &["model"]),
    ("journal", &["model", "runtime"]),
    ("parts", &["model", "runtime"]),
    ("tsdb", &["model", "runtime", "journal", "parts"]),
    ("events", &["model", "runtime", "journal", "parts"]),
    ("template", &["model"]),
    ("promql", &["model", "runtime"]),
    ("logql", &["model", "runtime", "promql", "template"]),
    ("traceql", &["model", "runtime", "promql", "insight"]),
    ("elastic", &["model"]),
    ("config", &["model", "runtime"]),
    ("pipeline", &["model", "runtime", "config", "template", "logql"]),
    ("tail", &["model", "runtime", "config", "pipeline"]),
    ("client", &["config"]),
    ("scrape", &["model", "runtime", "config", "client"]),
    ("ingest", &["model", "runtime"]),
    ("transfer", &["model", "runtime", "scrape"]),
    ("insight", &["model", "runtime"]),
    ("rules", &["model", "runtime", "config", "promql", "template"]),
    ("alertmanager", &["model", "runtime", "config", "client", "template"]),
    (
        "api",
        &[
            "model",
            "runtime",
            "config",
            "promql",
            "logql",
            "traceql",
            "elastic",
            "ingest",
            "insight",
            "scrape",
            "rules",
            "alertmanager",
            "template",
            "transfer",
        ],
    ),
    ("demo", &["runtime"]),
];

/// Names of ours in the dependency sections of a manifest.
fn our_dependencies(manifest: &str) -> Vec<String> {
    let mut in_dependencies = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if let Some(section) = line.trim().strip_prefix('[') {
            in_dependencies = section.starts_with("dependencies");
            if let Some(name) = section.strip_prefix("dependencies.trefoil-") {
                found.push(name.trim_end_matches(']').to_owned());
            }
        } else if in_dependencies && let Some(rest) = line.trim().strip_prefix("trefoil-") {
            found.push(rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect());
        }
    }
    found
}

#[test]
fn dependencies_point_down_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut upward = Vec::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(&src).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let manifest = std::fs::read_to_string(src.join(&name).join("Cargo.toml"))
            .unwrap_or_else(|e| panic!("src/{name} is not a crate: {e}"));
        if name == "trefoil" {
            continue;
        }
        let may = allowed
            .get(name.as_str())
            .unwrap_or_else(|| panic!("src/{name} has no layer in this test and ARCHITECTURE.md"));
        for used in our_dependencies(&manifest) {
            if !may.contains(&used.as_str()) {
                upward.push(format!("{name} -> {used}"));
            }
        }
        seen += 1;
    }
    assert_eq!(upward, [""; 0], "dependencies that ARCHITECTURE.md does not allow");
    assert_eq!(seen, ALLOWED.len(), "a crate of the table is missing");
}

#[test]
fn an_upward_edge_would_be_found() {
    let manifest = "[dependencies]\ntrefoil-api.workspace = true\n[dev-dependencies]\ntrefoil-tsdb.workspace = true\n[dependencies.trefoil-rules]\n";
    assert_eq!(our_dependencies(manifest), ["api", "rules"]);
}
