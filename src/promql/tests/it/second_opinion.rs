//! What another parser accepts, ours accepts too, and prints so that both read the same again.

use std::fs;

use trefoil_promql::{ParserOptions, parse};

#[test]
fn rules_in_the_wild_parse() {
    let Some(dir) = crate::conformance_dir("rules in the wild") else { return };
    let mut queries = Vec::new();
    collect(&dir.join("rules").join("awesome-prometheus-alerts"), &mut queries);
    assert!(!queries.is_empty());
    let (mut both, mut only_ours) = (0, 0);
    for query in &queries {
        let ours = parse(query, ParserOptions::default()).unwrap_or_else(|e| panic!("{query}\n{e}"));
        let again = parse(&ours.to_string(), ParserOptions::default()).unwrap_or_else(|e| panic!("{ours}\n{e}"));
        assert_eq!(ours.to_string(), again.to_string());
        match promql_parser::parser::parse(query) {
            Ok(theirs) => {
                both += 1;
                let reread = promql_parser::parser::parse(&ours.to_string()).unwrap();
                assert_eq!(theirs.to_string(), reread.to_string(), "{query}");
            }
            Err(_) => only_ours += 1,
        }
    }
    println!("{both} queries both parse, {only_ours} only ours");
}

/// Takes the values of `expr:` out of rule files, one-line and block scalars.
fn collect(dir: &std::path::Path, out: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, out);
            continue;
        }
        if !path.extension().is_some_and(|e| e == "yml" || e == "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let trimmed = line.trim_start().trim_start_matches("- ");
            let Some(value) = trimmed.strip_prefix("expr:") else { continue };
            let value = value.trim();
            if value.is_empty() || value.starts_with('|') || value.starts_with('>') {
                let indent = line.len() - line.trim_start().len();
                let block: Vec<&str> = lines[i + 1..]
                    .iter()
                    .take_while(|l| l.trim().is_empty() || l.len() - l.trim_start().len() > indent)
                    .copied()
                    .collect();
                out.push(block.join("\n"));
            } else if let Some(single) = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')) {
                out.push(single.replace("''", "'"));
            } else if let Some(double) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
                out.push(double.replace("\\\"", "\"").replace("\\\\", "\\"));
            } else {
                out.push(value.to_owned());
            }
        }
    }
}
