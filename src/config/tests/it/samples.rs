//! The sample files and the reference of all keys are true.

use std::path::PathBuf;

use trefoil_config::Config;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config"))
}

#[test]
fn samples_load() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let loaded = Config::load(&path).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(loaded.warnings, [], "{}", path.display());
            count += 1;
        }
    }
    assert!(count >= 2, "only {count} samples");
}

/// What the full sample shows is what holds when nothing is said.
#[test]
fn the_full_sample_shows_the_defaults() {
    let loaded = Config::load(&folder().join("trefoil.full.yaml")).unwrap();
    assert_eq!(loaded.config.trefoil, Config::default().trefoil);
}

/// Every key that is printed or can be stands in the reference.
#[test]
fn the_reference_names_every_key() {
    let text = std::fs::read_to_string(folder().join("REFERENCE.md")).unwrap();
    let missing: Vec<_> = trefoil_config::all_keys()
        .into_iter()
        .filter(|(_, key)| !text.contains(&format!("`{key}`")))
        .map(|(section, key)| format!("{section}: {key}"))
        .collect();
    assert!(missing.is_empty(), "not in REFERENCE.md:\n{}", missing.join("\n"));
}
