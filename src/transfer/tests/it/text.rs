//! OpenMetrics and JSON lines.

use std::io::BufReader;
use std::path::Path;

use trefoil_scrape::TextFormat;
use trefoil_transfer::import::ImportOptions;
use trefoil_transfer::{input, json_lines, open_metrics};

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
    check("a 1 1\n# EOF\n\n", om, 1, &[]);
    check("a 1 1\n# EOF", om, 1, &[]);
    check("a 1 1\n# EOF\n\nb 1 1\n# EOF\n", om, 1, &["byte 13: line 4: unexpected data after # EOF"]);
    check("a 1 1700000000\nb 1 17000", om, 1, &["byte 15..24: line 2: the last line has no line feed"]);
    check("a 1 1700000000\n# EO", om, 1, &["byte 15..19: line 2: the last line has no line feed"]);
    check("a 1e309 1\na 1e400 2\na -1e309 3\na +Inf 4\n# EOF\n", om, 1, &["1e309", "1e400", "-1e309"]);
    check("a 1 1000\nb 1 17000", TextFormat::Classic, 1, &["line 2: the last line has no line feed"]);
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

#[test]
fn compressed_files_are_read_by_what_they_begin_with() {
    let page = "a 1 1\nb 2 2\n# EOF\n";
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, page.as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let check = |bytes: &[u8], samples: u64, damage: &[&str]| {
        let (_, report) = import(ImportOptions::default(), |i| {
            let mut from = input::unpacked(Box::new(BufReader::with_capacity(64, bytes))).unwrap();
            open_metrics::import(Path::new("page"), &mut from, TextFormat::OpenMetrics, i)
        });
        let report = report.unwrap();
        let got: Vec<String> = report.damage.iter().map(ToString::to_string).collect();
        assert_eq!((report.samples, got.len()), (samples, damage.len()), "{got:?}");
        assert!(got.iter().zip(damage).all(|(got, want)| got.contains(want)), "{got:?}");
    };
    check(page.as_bytes(), 2, &[]);
    check(&packed, 2, &[]);
    check(&[&packed[..], &packed[..]].concat(), 2, &["line 4: unexpected data after # EOF"]);
    let cut = &packed[..packed.len() - 9];
    let (_, report) = import(ImportOptions::default(), |i| {
        let mut from = input::unpacked(Box::new(BufReader::new(cut))).unwrap();
        open_metrics::import(Path::new("page"), &mut from, TextFormat::OpenMetrics, i)
    });
    let damage = &report.unwrap().damage;
    assert!(damage.len() == 1 && damage[0].to_string().contains("cannot be read further"), "{damage:?}");
}

#[test]
fn refused_samples_do_not_count_for_the_times() {
    use trefoil_model::{Labels, MetricBatch, WriteReport};
    use trefoil_transfer::TransferError;
    use trefoil_transfer::import::{BatchSink, Importer};

    struct Refusing(Option<(i64, i64)>);
    impl BatchSink for Refusing {
        fn write(&mut self, batch: MetricBatch) -> Result<WriteReport, TransferError> {
            let accepted = batch.sample_count() as u64 - 1;
            Ok(WriteReport { accepted, rejected: 1, taken_ms: self.0, ..WriteReport::default() })
        }
    }
    for taken in [Some((5, 7)), None] {
        let mut sink = Refusing(taken);
        let mut quiet = |_: &str| {};
        let mut importer = Importer::new(ImportOptions::default(), &mut sink, &mut quiet);
        let labels = Labels::from_pairs([("__name__".to_owned(), "a".to_owned())]);
        for t in [-5, 5, 7] {
            importer.float(&labels, t, 0, 1.0).unwrap();
        }
        assert_eq!(importer.finish().unwrap().times, taken);
    }
}
