use super::*;

fn check(query: &str, want: &str) {
    match parse(query, ParserOptions::ALL) {
        Ok(expr) => assert_eq!(expr.to_string(), want, "{query}"),
        Err(e) => assert_eq!(e.to_string(), want, "{query}"),
    }
}

#[test]
fn expressions() {
    check("1 + 2 * 3 ^ 2", "1 + 2 * 3 ^ 2");
    check("-foo ^ 2", "-foo ^ 2");
    check("foo{a='b',c!~\"d.*\"}", "foo{a=\"b\",c!~\"d.*\"}");
    check("rate(foo[5m] offset 1h @ 10)", "rate(foo[5m] @ 10.000 offset 1h)");
    check("sum by (a, b) (foo)", "sum by (a, b) (foo)");
    check("sum(foo) without (a)", "sum without (a) (foo)");
    check("topk(3, foo)", "topk(3, foo)");
    check("foo * on (a) group_left (b) bar", "foo * on (a) group_left (b) bar");
    check("foo[5m:1m] @ start()", "foo[5m:1m] @ start()");
    check("sum", "sum");
    check("{\"a.b\", \"c d\"=\"x\"}", "{\"c d\"=\"x\",__name__=\"a.b\"}");
    check("foo offset -5m", "foo offset -5m");
    check("x offset (3m)", "x offset 3m");
    check("x offset -(3m)", "x offset -3m");
    check("x[(5m)]", "x[5m]");
    check("x[-(-5m)]", "x[5m]");
    check("x[5m:(1m)]", "x[5m:1m]");
    check("a or b and c unless d", "a or b and c unless d");
    check("(a == bool 1)", "(a == bool 1)");
}

#[test]
fn errors_have_places() {
    check("", "unknown position: parse error: no expression found in input");
    check("foo +", "1:6: parse error: unexpected end of input");
    check("sum(x <)", "1:8: parse error: unexpected \")\" in aggregation");
    check("sum(rate(foo bar))", "1:14: parse error: unexpected identifier \"bar\" in aggregation");
    check("foo)", "1:5: parse error: unexpected right parenthesis ')'");
    check("(foo", "1:5: parse error: unclosed left parenthesis");
    check("foo{", "1:5: parse error: unexpected end of input inside braces");
    check("bar(foo)", "1:1: parse error: unknown function with name \"bar\"");
    check("rate(foo)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector");
    check("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    check("foo{a=b}", "1:7: parse error: unexpected identifier \"b\" in label matching, expected string");
    check("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier");
    check("\"abc", "1:1: parse error: unterminated quoted string");
    check("sum(", "1:5: parse error: unclosed left parenthesis");
    check("x[5x]", "1:3: parse error: bad number or duration syntax: \"5\"");
    check("x[1M]", "1:3: parse error: bad number or duration syntax: \"1\"");
    check("x[1µs]", "1:4: parse error: unexpected character: 'µ'");
    check("x[1.5h]", "1:3: parse error: unknown unit \".\" in duration \"1.5h\"");
    check("x[5m", "1:5: parse error: unclosed left bracket");
    check("x[", "1:3: parse error: unexpected end of input in duration expression");
    check("x[5m:1m:1m]", "1:8: parse error: unexpected colon ':'");
    check("x[:1m]", "1:4: parse error: unexpected colon before duration in duration expression");
    check("x[5m a]", "1:6: parse error: unexpected character: 'a', expected ':'");
    check(
        "1e1000",
        "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"1e1000\": value out of range",
    );
    check("0x", "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"0x\": invalid syntax");
    check(
        "x @ 1e30",
        "1:1: parse error: timestamp out of bounds for @ modifier: 1000000000000000019884624838656.000000",
    );
    check("foo[5m] + 1", "1:1: parse error: binary expression must contain only scalar and instant vector types");
}

#[test]
fn limits_hold() {
    let deep = "(".repeat(200) + "1" + &")".repeat(200);
    assert!(parse(&deep, ParserOptions::ALL).unwrap_err().to_string().contains("nested"));
    let minus = "-".repeat(5000) + "a";
    assert!(parse(&minus, ParserOptions::ALL).is_err());
    let chain = vec!["a"; 6000].join("+");
    assert!(parse(&chain, ParserOptions::ALL).unwrap_err().to_string().contains("in a row"));
    let ranges = "a".to_owned() + &"[5m:]".repeat(20_000);
    assert!(parse(&ranges, ParserOptions::ALL).unwrap_err().to_string().contains("in a row"));
    let durations = format!("a[1m{}]", "+1".repeat(2000));
    assert!(parse(&durations, ParserOptions::ALL).unwrap_err().to_string().contains("durations"));
    let steep = (0..20).fold("a".to_owned(), |inner, _| format!("({inner}{})", "+a".repeat(400)));
    assert!(parse(&steep, ParserOptions::ALL).unwrap_err().to_string().contains("deep"));
    assert!(parse(&"a".repeat(1_100_000), ParserOptions::ALL).is_err());
    for text in ["1e\u{e9}", "1_\u{e9}", "a[\u{e9}]", "\\", "a{b=\"\\x", "'\\u12", "0x", "1..2", "step(", "@", "a@"] {
        assert!(parse(text, ParserOptions::ALL).is_err(), "{text}");
    }
}
