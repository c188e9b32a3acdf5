use super::*;

fn samples(page: &str, format: TextFormat) -> Result<Vec<String>, ExpositionError> {
    let mut out = Vec::new();
    for line in Exposition::new(page.as_bytes(), format)? {
        if let Line::Sample { series, value, t_ms, exemplar } = line? {
            let labels = series_labels(series).map_err(|reason| ExpositionError { line: 0, reason })?.build();
            let t = t_ms.map(|t| format!(" @{t}")).unwrap_or_default();
            let e = exemplar.map(|e| format!(" # {} {}", e.labels, e.value)).unwrap_or_default();
            out.push(format!("{labels} {value}{t}{e}"));
        }
    }
    Ok(out)
}

fn check(page: &str, want: &[&str]) {
    assert_eq!(samples(page, TextFormat::Classic).unwrap(), want, "{page:?}");
}

#[test]
fn classic_lines() {
    check("a 1\n", &[r#"{__name__="a"} 1"#]);
    check("a{} 1 1500\n", &[r#"{__name__="a"} 1 @1500"#]);
    check("  a { x = \"1\" , y=\"}, \\\"\\\\\\n=\" , }  +Inf\n", &[r#"{__name__="a", x="1", y="}, \"\\\n="} inf"#]);
    check("a{x=\"1\"}2\n", &[r#"{__name__="a", x="1"} 2"#]);
    check(
        "{\"a.b\",\"c d\"=\"x\"} 1e3",
        &[r#"{"__name__"="a.b", "c d"="x"} 1000"#.replace("\"__name__\"", "__name__").as_str()],
    );
    check("# any comment\n#x\n\n# HELP a b\\nc\n# TYPE a counter\na 3\r\n", &[r#"{__name__="a"} 3"#]);
    check("a NaN\nb -Inf\nc +1.5\n", &[r#"{__name__="a"} NaN"#, r#"{__name__="b"} -inf"#, r#"{__name__="c"} 1.5"#]);
}

#[test]
fn bad_lines_are_refused_with_their_place() {
    for (page, line) in [
        ("a\n", 1),
        ("ok 1\na{x=\"1\" 2\n", 2),
        ("a{x=\"1\"} one\n", 1),
        ("a 1 2 3\n", 1),
        ("9a 1\n", 1),
        ("a 0x1p3\n", 1),
        ("a 1_000\n", 1),
        ("# TYPE a nonsense\n", 1),
        ("a 1 1.5\n", 1),
    ] {
        assert_eq!(samples(page, TextFormat::Classic).unwrap_err().line, line, "{page:?}");
    }
    assert_eq!(Exposition::new(b"a 1\nb{x=\"\xff\"} 1\n", TextFormat::Classic).unwrap_err().line, 2);
    for series in ["a{x}", "a{x=1}", "a{x=\"1\",x=\"2\"}", "{x=\"1\"}", "{\"a\",\"b\"}"] {
        assert!(series_labels(series).is_err(), "{series}");
    }
}

#[test]
fn open_metrics_lines() {
    let page = "# TYPE a counter\n# UNIT a_seconds seconds\na_total 1 1.5 # {trace_id=\"x\"} 0.5 1.25\na_total{b=\"c\"} 2 # {} 1\n# EOF\n";
    let got = samples(page, TextFormat::OpenMetrics).unwrap();
    assert_eq!(
        got,
        [r#"{__name__="a_total"} 1 @1500 # {trace_id="x"} 0.5"#, r#"{__name__="a_total", b="c"} 2 # {} 1"#]
    );
    for page in [
        "a 1\n",
        "a 1\n# EOF\nb 1\n",
        "a  1\n# EOF\n",
        "\n# EOF\n",
        "a 1 # {x=\"1\"\n# EOF\n",
        "# EOF\n\n",
        "#x\n# EOF\n",
    ] {
        assert!(samples(page, TextFormat::OpenMetrics).is_err(), "{page:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(page in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        for format in [TextFormat::Classic, TextFormat::OpenMetrics] {
            if let Ok(lines) = Exposition::new(&page, format) {
                for line in lines.flatten() {
                    if let Line::Sample { series, .. } = line {
                        drop(series_labels(series));
                    }
                }
            }
        }
    }

    #[test]
    fn odd_text_is_read_or_refused(page in "[a{}=\",\\\\ #1\n.EOF]{0,80}") {
        for format in [TextFormat::Classic, TextFormat::OpenMetrics] {
            if let Ok(lines) = Exposition::new(page.as_bytes(), format) {
                for line in lines.flatten() {
                    if let Line::Sample { series, .. } = line {
                        drop(series_labels(series));
                    }
                }
            }
        }
    }
}
