use super::*;

fn faults(text: &str) -> String {
    parse(text).unwrap_err().iter().map(|(pos, m)| format!("{pos}: {m}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn places_are_known() {
    let doc = parse("a: 1\nb:\n  - x\n  - {c: d}\n").unwrap();
    let item = doc.root.get("b").and_then(|b| b.item(1)).unwrap();
    assert_eq!(item.pos, Pos { line: 4, column: 5 });
    assert_eq!(item.key_pos("c"), Pos { line: 4, column: 6 });
}

#[test]
fn faults_have_places() {
    assert_eq!(faults("a: 1\nb: 2\na: 3\n"), "3:1: field a already set in this mapping");
    assert!(faults("x: !!binary \"/w==$1\"").contains("!!binary value contains invalid base64 data"));
    assert!(faults("a: [1, 2\n").contains(": yaml:"));
    assert!(faults("a: *b\n").contains("yaml:"));
}

#[test]
fn binary_that_is_not_text() {
    let doc = parse("x: !!binary \"/w==\"").unwrap();
    let Kind::Scalar(scalar) = &doc.root.get("x").unwrap().kind else { panic!("a scalar") };
    assert_eq!(scalar.invalid.as_deref(), Some("\"\\xff\""));
}

#[test]
fn aliases_and_merges() {
    let doc = parse("base: &b {a: 1, b: 2}\nuse:\n  <<: *b\n  b: 3\n").unwrap();
    let used = doc.root.get("use").unwrap();
    let Kind::Map(entries) = &used.kind else { panic!("a mapping") };
    assert_eq!(entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn billion_laughs_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..9 {
        let refs = vec![format!("*a{}", i - 1); 10].join(", ");
        text.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
    }
    assert!(faults(&text).contains("more than 500000 values"));
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    assert!(faults(&deep).contains("nested deeper"));
}

#[test]
fn printed_text_reads_back() {
    for s in [
        "",
        " x",
        "x ",
        "true",
        "1e3",
        "0x1",
        "a: b",
        "a #b",
        "- x",
        "*a",
        "multi\nline\t\"q\" \\",
        "é",
        "null",
        "=",
        "<<",
        "x:",
        "$1",
        "@a",
        "`",
        "a\u{7f}b",
        "123",
        "2026-01-01",
    ] {
        let value =
            Value::Map(vec![("k".into(), Value::Seq(vec![Value::Str(s.into())])), (s.into(), Value::Seq(vec![]))]);
        let text = value.to_yaml();
        let doc = parse(&text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let Kind::Scalar(scalar) = &doc.root.get("k").and_then(|k| k.item(0)).unwrap().kind else {
            panic!("{text}: not a scalar")
        };
        assert_eq!(scalar.text, s, "{text}");
        assert!(doc.root.get(s).is_some(), "{text}");
    }
}
