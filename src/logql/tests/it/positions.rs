//! Where errors point to, and texts that must not panic.

use trefoil_logql::{Engine, QueryKind, format_query, parse_selector};

fn check(query: &str, want: &str) {
    let error = Engine::check(query).expect_err(query).to_string();
    assert!(error.starts_with("parse error at ") && error.contains(want), "{query}: {error}");
}

#[test]
fn errors_have_positions() {
    check("{app=x}", "line 1, col 6: syntax error: unexpected IDENTIFIER");
    check("{app=\"x\"", "line 1, col 9");
    check("{app=\"x\"}\n  | json a=\"b[c\"", "line 2, col 3");
    check("{app=\"x\"} | xml", "line 1, col 16");
    check("sum(rate({app=\"x\"}[5q]))", "line 1, col 19");
    check("{app=\"x\"} | line_format \"{{ .a \"", "line 1, col 11");
    check("topk(0, rate({a=\"b\"}[1m]))", "line 1, col 6");
    check("", "line 1, col 1");
    check(&"(".repeat(5000), "nested deeper");
    check(&format!("1{}", " + 1".repeat(20_000)), "more than 300 operators");
    check(&format!("{{a=\"b\"}} | a=\"b\"{}", " a=\"b\"".repeat(10_000)), "more than 300 operators");
    check(&"a".repeat(200_000), "longer than");
}

#[test]
fn valid_queries_are_accepted() {
    for query in [
        r#"{a="b"}"#,
        r#"({a="b"} |= "x")"#,
        r#"{a="b"} | json | json="x""#,
        r#"sum by (level, detected_level) (count_over_time({a="b"} |= "x" | json | drop __error__ [1m]))"#,
        r#"sum(rate({a="b"} != "c" [5m])) by (x) / ignoring(y) group_left(z) sum(rate({a="b"}[5m])) > bool 0"#,
        r#"quantile_over_time(0.99, {a="b"} | logfmt | unwrap duration(took) | __error__="" [5m] offset 1h) by (x)"#,
        r#"count_over_time(({a="b"} | json)[5m])"#,
        r#"{a="b"} | logfmt --strict --keep-empty x="y", z | size > 1.5MiB or (t >= 1h30m and n != -3), b="c""#,
        r#"{a="b"} | label_format a=b, c="{{ .d | default `x` }}" | keep a, c=~"x.*" | decolorize | unpack"#,
        "vector(1)+vector(1)",
        "-1 + 2",
    ] {
        Engine::check(query).unwrap_or_else(|e| panic!("{query}: {e}"));
        reformats(query);
    }
    assert_eq!(Engine::check("vector(1)").unwrap(), QueryKind::Metric);
    assert_eq!(Engine::check(r#"{a="b"}"#).unwrap(), QueryKind::Log);
    assert_eq!(parse_selector("{}").unwrap().len(), 0);
    assert_eq!(parse_selector(r#"{a="b", c=~"d"}"#).unwrap().len(), 2);
    assert!(parse_selector(r#"{a="b"} | json"#).is_err());
}

#[test]
fn truncated_queries_never_panic() {
    let query = "sum by (a) (rate({a=\"é\\n\", b!~`x`}[1h30m] offset -5m |= ip(\"1.1.1.1\") or \"y\" | json q=\"w[0]\" | v >= 1.5KiB)) ^ 2e-3 # é";
    for end in 0..query.len() {
        if let Some(part) = query.get(..end) {
            drop(Engine::check(part));
        }
    }
}

/// The canonical form is a fixed point, so it means what it meant.
fn reformats(query: &str) {
    let once = format_query(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    let twice = format_query(&once).unwrap_or_else(|e| panic!("{once}: {e}"));
    assert_eq!(once, twice, "{query}");
}

#[test]
fn canonical_form() {
    let check = |query: &str, want: &str| assert_eq!(format_query(query).unwrap(), want);
    check("sum by(a)(rate({x = `y`}|= \"z\"[5m]))>1", "sum by (a) (rate({x=\"y\"} |= \"z\" [5m])) > 1");
    check("1-(2-3)", "1 - (2 - 3)");
    check("-2^-2", "-2 ^ -2");
    check(
        "sum(count_over_time({app=\"a-long-name-of-an-application\"} |= \"some text\" | json | level=\"error\"[1h30m] offset 1d)) by (level)",
        "sum by (level) (\n  count_over_time(\n    {app=\"a-long-name-of-an-application\"} |= \"some text\" | json | level=\"error\" [1h30m] offset 24h\n  )\n)",
    );
}
