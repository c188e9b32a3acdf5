//! OpenMetrics and JSON lines.

use std::io::BufReader;
use std::path::Path;

use trefoil_scrape::TextFormat;
use trefoil_transfer::import::ImportOptions;
use trefoil_transfer::{json_lines, open_metrics};

use crate::support::import;

fn check(page: &str, format: TextFormat, samples: u64, damage: &[&str]) {
    let (_, report) = import(ImportOptions::default(), |i| {
        open_metrics::import(Path::new("page"), &mut BufReader::with_capacity(7, page.as_bytes()), format, i)
    });
    let report = report.unwrap();
    let got: Vec<String> = report.damage.iter().map(ToString::to_string).collect();
    assert_eq!(report.samples, samples, "{page}: {got:?}");
    assert_eq!(got.len(), damage.len(), "{page}: {got:?}");
    for (got, want) in got.iter().zip(damage) {
        assert!(got.contains(want), "{page}: {got}");
    }
}

#[test]
fn pages_with_timestamps() {
    let om = TextFormat::OpenMetrics;
    check("# TYPE a counter\n# HELP a b\na_total{x=\"y\"} 1 1.5\na_total{x=\"y\"} 2 2.5\n# EOF\n", om, 2, &[]);
    check("a 1 1.5\n", om, 1, &["byte 8: data does not end with # EOF"]);
    check("a 1\nb 2 3\n# EOF\n", om, 1, &["byte 0..4: sample of a has no timestamp"]);
    check("a 1 1\n}{ 2 3\nb 2 3\n# EOF\n", om, 2, &["page: byte 6..13: "]);
    check("a 1 1000\nb{c=\"d\"} 2 3000\n\n", TextFormat::Classic, 2, &[]);
}

#[test]
fn lines_of_json() {
    let check = |text: &str, samples: u64, damage: u64| {
        let (memory, report) = import(ImportOptions::default(), |i| {
            json_lines::import(Path::new("lines"), &mut BufReader::new(text.as_bytes()), i)
        });
        let report = report.unwrap();
        assert_eq!((report.samples, report.damage_count), (samples, damage), "{text}: {:?}", report.damage);
        memory
    };
    let line =
        r#"{"metric":{"__name__":"a","b":"c"},"values":[1,null,"NaN","Infinity",-0.0,0.1],"timestamps":[1,2,3,4,5,6]}"#;
    let memory = check(line, 6, 0);
    let bits: Vec<u64> = memory.series.values().flatten().map(|s| *s.2.as_ref().unwrap()).collect();
    let want = [1.0f64.to_bits(), 0x7ff0_0000_0000_0002, 0x7ff8_0000_0000_0001, f64::INFINITY.to_bits(), 1 << 63];
    assert_eq!((&bits[..5], bits[5]), (&want[..], 0.1f64.to_bits()));
    check(&format!("{line}\n\n{line}\n"), 12, 0);
    check(&format!("{line}\n{{\n{line}"), 12, 1);
    check(r#"{"metric":{"__name__":"a"},"values":[1],"timestamps":[1,2]}"#, 0, 1);
    check(r#"{"metric":{},"values":[1],"timestamps":[1]}"#, 0, 1);
    check(r#"{"metric":{"a":"b"},"values":["x"],"timestamps":[1]}"#, 0, 1);
    check(
        r#"{"metric":{"a":"b"},"timestamps":[1],"starts":[9],"histograms":[{"schema":0,"zero_threshold":"0","zero_count":"1","count":"1","sum":"null"}]}"#,
        1,
        0,
    );
}
