use std::fs;

use trefoil_scrape::exposition::TextFormat;

use super::{conformance_dir, read};

/// Pages that OpenMetrics forbids and the scrape takes all the same, as Prometheus' scraper does: it checks lines, not
/// types against values, bucket order, interleaved families or repeated metadata.
const TAKEN_ON_PURPOSE: &str = include_str!("taken_on_purpose.txt");

#[test]
fn open_metrics_pages() {
    let Some(dir) = conformance_dir("open_metrics_pages") else { return };
    let (mut wrongly_refused, mut taken, mut refused) = (Vec::new(), Vec::new(), 0);
    for entry in fs::read_dir(dir.join("openmetrics/parsers")).unwrap() {
        let case = entry.unwrap().path();
        let Ok(about) = fs::read_to_string(case.join("test.json")) else { continue };
        let about: serde_json::Value = serde_json::from_str(&about).unwrap();
        let page = fs::read(case.join("metrics")).unwrap();
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        match (about["shouldParse"].as_bool().unwrap(), read(&page, TextFormat::OpenMetrics)) {
            (true, Err(error)) => wrongly_refused.push(format!("{name}: {error}")),
            (false, Ok(_)) => taken.push(name),
            (false, Err(_)) => refused += 1,
            (true, Ok(_)) => {}
        }
    }
    taken.sort();
    assert!(refused > 20, "{refused}");
    assert_eq!(wrongly_refused, [""; 0]);
    let listed: Vec<&str> = TAKEN_ON_PURPOSE.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect();
    assert_eq!(taken, listed, "the pages that are taken although the specification forbids them");
}

#[test]
fn real_pages() {
    let Some(dir) = conformance_dir("real_pages") else { return };
    let mut pages = 0;
    for folder in ["textparse", "exposition-samples"] {
        for entry in fs::read_dir(dir.join("openmetrics").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let format = if name.ends_with(".om.txt") { TextFormat::OpenMetrics } else { TextFormat::Classic };
            if !name.ends_with(".txt") {
                continue;
            }
            let samples = read(&fs::read(&path).unwrap(), format).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(samples > 0, "{name}");
            pages += 1;
        }
    }
    assert!(pages >= 4, "{pages}");
    let linux = fs::read(dir.join("openmetrics/exposition-samples/node_exporter-linux.txt")).unwrap();
    assert_eq!(read(&linux, TextFormat::Classic), Ok(3027));
}

#[test]
fn small_pages_of_the_fuzz_corpus() {
    let Some(dir) = conformance_dir("small_pages_of_the_fuzz_corpus") else { return };
    for entry in fs::read_dir(dir.join("openmetrics/expfmt-corpus")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let page = fs::read(&path).unwrap();
        if name.starts_with("from_test_parse_error") {
            // The strict parser of families refuses these; whatever we do, we do not panic.
            drop(read(&page, TextFormat::Classic));
        } else if name.starts_with("from_test_parse_") || name == "minimal" {
            read(&page, TextFormat::Classic).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}
