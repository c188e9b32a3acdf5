//! Patterns in Go's dialect: a table of what is known, and random patterns beside Go itself where it is installed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use trefoil_model::re2::Regex;
use trefoil_model::{MatchOp, Matcher};

/// The pattern compiles, and matches these whole texts and not those.
fn check(pattern: &str, yes: &[&str], no: &[&str]) {
    let regex = Regex::anchored(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
    let matcher = Matcher::new(MatchOp::Regex, "l", pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
    for (texts, want) in [(yes, true), (no, false)] {
        for text in texts {
            assert_eq!(regex.is_match(text), want, "{pattern:?} on {text:?}");
            assert_eq!(matcher.matches(text), want, "matcher {pattern:?} on {text:?}");
        }
    }
}

#[test]
fn what_only_go_takes() {
    check("/api/{id}/.*", &["/api/{id}/x"], &["/api/1/x"]);
    check("a{", &["a{"], &["a"]);
    check("{a}", &["{a}"], &["a"]);
    check("x{,3}", &["x{,3}"], &["xx"]);
    check("x{01}", &["x{01}"], &["x"]);
    check(r"[\w-.]+", &["a-b.c"], &["a b"]);
    check(r"[\d-_]+", &["1-_"], &["a"]);
    check("[^[]+", &["ab]"], &["["]);
    check("[a[]", &["a", "["], &["]"]);
    check("[]a]+", &["]a"], &["b"]);
    check("[a-]", &["a", "-"], &["b"]);
    check("[[:a]]", &["a]", ":]", "[]"], &["a"]);
    check(r"\Q0.\E+", &["0.", "0.."], &["00"]);
    check(r"\Q[\E", &["["], &[""]);
    assert!(Matcher::new(MatchOp::Regex, "l", r"\Q[").unwrap().matches("["));
    check(r"\07", &["\x07"], &["07"]);
    check(r"\60", &["0"], &["60"]);
    check(r"\1010", &["A0"], &[]);
    check(r"\x41\x{1F600}", &["A\u{1f600}"], &[]);
    check("(?P<n>a)(?P<n>b)", &["ab"], &["a"]);
    check("(?<n>a)", &["a"], &[]);
    check("a*(?i)*B", &["aab", "B"], &["Ab"]);
    check(r"\pN\p{Greek}\p{^L}\PL", &["1α11"], &["1aa1"]);
    check(r"\p{greek}\p{Old_Italic}\p{lowercase letter}", &["α\u{10300}a"], &["αaa"]);
    check(r"\x{D800}|a", &["a"], &["", "\u{fffd}"]);
}

#[test]
fn what_means_something_else_elsewhere() {
    check(r"\w", &["a", "_", "0"], &["é", "ſ"]);
    check(r"\W", &["é", "-"], &["a"]);
    check(r"\d", &["7"], &["\u{663}"]);
    check(r"\s", &[" ", "\x0c"], &["\u{a0}", "\x0b", "\u{2003}"]);
    check(r".*\bé", &["aé", "_é"], &["é", " é", "éé"]);
    check("[&&0]", &["&", "0"], &[""]);
    check("[+--0]", &["+", ",", "-", "0"], &[".", "/"]);
    check(r"[\d&&[^1]]", &["1]", "&]", "[]", "^]"], &["1", "2"]);
    check("[[a-z]0]", &["a0]", "[0]"], &["a", "0"]);
    check("[a~~b]", &["~"], &[]);
    check(r"\<0", &["<0"], &["0"]);
    check(r".*\b{start}0", &["a{start}0"], &["0"]);
    check(r"(?i)[k-s]\w", &["\u{212a}\u{17f}"], &["é1"]);
    check("(?i)straße|Ǆ", &["STRAßE", "STRAẞE", "ǆ", "ǅ"], &["STRASSE"]);
    check(r"(?i)\W", &["é"], &["\u{212a}", "k"]);
    check("(?-s)a.", &["ab"], &["a\n"]);
    check("a.", &["ab", "a\n"], &["a"]);
    check("(?m)^a$\n^b$", &["a\nb"], &["ab"]);
    check("a$", &["a"], &["a\n"]);
    check("(?U)a+b", &["aab"], &["b"]);
    check("(?i:a)b", &["Ab"], &["AB"]);
}

/// The error of a pattern.
fn check_error(pattern: &str, want: &str) {
    let error = Regex::new(pattern).expect_err(pattern);
    assert_eq!(error.to_string(), format!("error parsing regexp: {want}"), "{pattern:?}");
}

#[test]
fn errors_are_those_of_go() {
    check_error("[a", "missing closing ]: `[a`");
    check_error("a(b", "missing closing ): `a(b`");
    check_error("a)b", "unexpected ): `a)b`");
    check_error("*a", "missing argument to repetition operator: `*`");
    check_error("a|*?", "missing argument to repetition operator: `*?`");
    check_error("(+", "missing argument to repetition operator: `+`");
    check_error("0**", "invalid nested repetition operator: `**`");
    check_error("0*+?x", "invalid nested repetition operator: `*+?`");
    check_error("a{2}{3}", "invalid nested repetition operator: `{2}{3}`");
    check_error("a{1001}", "invalid repeat count: `{1001}`");
    check_error("a{2,1}", "invalid repeat count: `{2,1}`");
    check_error("a{99999999999}", "invalid repeat count: `{99999999999}`");
    check_error("(a{100}){100}", "invalid repeat count: `{100}`");
    check_error("(?x)a", "invalid or unsupported Perl syntax: `(?x`");
    check_error("(?u)", "invalid or unsupported Perl syntax: `(?u`");
    check_error("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`");
    check_error("(?=a)", "invalid or unsupported Perl syntax: `(?=`");
    check_error("(?i", "invalid or unsupported Perl syntax: `(?i`");
    check_error("(?P<a-b>x)", "invalid named capture: `(?P<a-b>`");
    check_error("(?<=x)", "invalid named capture: `(?<=x)`");
    check_error(r"\u0030", r"invalid escape sequence: `\u`");
    check_error(r"\8", r"invalid escape sequence: `\8`");
    check_error(r"\1a", r"invalid escape sequence: `\1`");
    check_error(r"\é", r"invalid escape sequence: `\é`");
    check_error(r"\x4", r"invalid escape sequence: `\x4`");
    check_error(r"\x{110000}", r"invalid escape sequence: `\x{110000`");
    check_error(r"\C", r"invalid escape sequence: `\C`");
    check_error(r"[a-\d]", r"invalid escape sequence: `\d`");
    check_error("a\\", "trailing backslash at end of expression: ``");
    check_error(r"\p{Alphabetic}", r"invalid character class range: `\p{Alphabetic}`");
    check_error(r"\pX", r"invalid character class range: `\pX`");
    check_error(r"\p", r"invalid character class range: `\p`");
    check_error("[[:foo:]]", "invalid character class range: `[:foo:]`");
    check_error("[a--b]", "invalid character class range: `a--`");
    check_error("[b-a]", "invalid character class range: `b-a`");
    let deep = format!("{}a{}", "(".repeat(1001), ")".repeat(1001));
    check_error(&deep, &format!("expression nests too deeply: `{deep}`"));
    assert_eq!(
        Regex::anchored("(").expect_err("open").to_string(),
        "error parsing regexp: missing closing ): `^(?s:()$`"
    );
}

#[test]
fn deep_and_large_patterns_do_no_harm() {
    // On a small stack, as a thread of the server may have little left.
    let small = std::thread::Builder::new().stack_size(512 << 10).spawn(|| {
        let deep = |n: usize| format!("{}a{}", "(".repeat(n), ")*".repeat(n));
        for n in [50, 100, 450] {
            let regex = Regex::new(&deep(n)).unwrap();
            assert!(regex.is_match("aa"));
            assert!(Matcher::new(MatchOp::Regex, "l", deep(n)).unwrap().matches("aaa"));
        }
        assert!(Regex::new(&deep(600)).is_err());
        assert!(Regex::new(&"(".repeat(500_000)).is_err());
        for (part, count) in [(r"\pL", 100_000), (r"(?i)[^a]\pL", 90_000), ("()", 300_000), (r"\PN{1000}", 30_000)] {
            assert!(Regex::new(&part.repeat(count)).is_err(), "{part}");
        }
    });
    small.unwrap().join().unwrap();
}

#[test]
fn templates_follow_go() {
    for (pattern, text, template, want) in [
        ("(a)(b)", "ab", "$2$1", "ba"),
        ("(a)(b)", "ab", "$1x-${1}x", "-ax"),
        ("(?P<n>a)|(?P<n>b)", "ab", "<$n>", "<a><b>"),
        ("a", "a", "$$1 $ ${ ${1 $9 $0 $00 é", "$1 $ ${ ${1  a  é"),
        ("(a)", "a", "$1é", ""),
        ("(a)", "a", "$1·", "a·"),
        ("a*", "baac", "x", "xbxcx"),
        ("", "é", "-", "-é-"),
    ] {
        assert_eq!(Regex::new(pattern).unwrap().replace_all(text, template), want, "{pattern:?} {template:?}");
    }
    assert_eq!(Regex::new("a").unwrap().replace_all_literal("aba", "$0"), "$0b$0");
}

/// Pieces that patterns are made of: those where dialects differ come often.
fn pattern() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "k",
        "S",
        "é",
        "ß",
        "0",
        "_",
        "-",
        " ",
        "\n",
        ".",
        ".*",
        "(",
        "(",
        ")",
        ")",
        "(?:",
        "(?i)",
        "(?i:",
        "(?s)",
        "(?-s)",
        "(?m)",
        "(?U)",
        "(?m-i:",
        "(?P<n>",
        "(?<m>",
        "(?P<",
        "(?x)",
        "(?-",
        "(?",
        "|",
        "|",
        "*",
        "+",
        "?",
        "??",
        "{",
        "}",
        "{2}",
        "{1,2}",
        "{0,}",
        "{,2}",
        "{2,1}",
        "{1001}",
        "{11}",
        "{0}",
        ",",
        "^",
        "$",
        "[",
        "[^",
        "]",
        "[ab]",
        "[^ab]",
        "[a-k]",
        "[k-a]",
        "[[:alpha:]]",
        "[[:^word:]",
        "[:",
        ":]",
        "[&&",
        "--",
        "\\d",
        "\\D",
        "\\w",
        "\\W",
        "\\s",
        "\\S",
        "\\b",
        "\\B",
        "\\A",
        "\\z",
        "\\Z",
        "\\Q",
        "\\E",
        "\\",
        "\\\\",
        "\\.",
        "\\-",
        "\\pL",
        "\\p{Greek}",
        "\\P{^Lu}",
        "\\p{Nope}",
        "\\p",
        "\\07",
        "\\60",
        "\\1",
        "\\x41",
        "\\x{e9}",
        "\\x",
        "\\n",
        "\\a",
        "\\C",
        "\\é",
        "~",
        "<",
        ">",
        "#",
        "\\p{Any}",
        "\\p{c}",
        "\u{212a}",
        "σ",
    ]);
    prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    let piece = prop::sample::select(vec![
        "a", "b", "A", "B", "k", "K", "s", "S", "\u{212a}", "ſ", "é", "É", "ß", "0", "1", "_", "-", " ", "\n", "[",
        "]", "{", "}", "&", "\\", ".", "^", ":", "α", "σ", "ς", "\x07", "\u{a0}", "2", ",", "\u{fffd}", "\u{378}",
    ]);
    prop::collection::vec(prop::collection::vec(piece, 0..6).prop_map(|p| p.concat()), 4)
}

fn template() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec!["$1", "${1}", "$0", "$n", "${m}", "$", "$$", "x", "é", "{", "}", "2", "_"]);
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02x}")).collect()
}

/// What Go's helper would say, said by ours.
#[expect(clippy::unwrap_used, reason = "what is a pattern is one for matchers too")]
fn answer(pattern: &str, template: &str, texts: &[String]) -> String {
    let regex = match Regex::new(pattern) {
        Ok(regex) => regex,
        Err(error) => return hex(&error.to_string()),
    };
    let anchored = Matcher::new(MatchOp::Regex, "l", pattern).unwrap();
    // `\Qa` is valid, and `^(?s:\Qa)$` is not.
    let relabel = Regex::anchored(pattern).ok();
    let names: Vec<&str> = regex.names().map(Option::unwrap_or_default).collect();
    let mut out = format!("ok {}", names.join(","));
    for text in texts {
        let spans = regex.captures(text).map_or(String::new(), |found| {
            let spans = (0..names.len()).map(|i| match found.get(i) {
                Some(part) => {
                    let start = part.as_ptr() as usize - text.as_ptr() as usize;
                    format!("{start},{}", start + part.len())
                }
                None => "-1,-1".to_owned(),
            });
            spans.collect::<Vec<_>>().join(",")
        });
        let whole = anchored.matches(text);
        assert!(relabel.as_ref().is_none_or(|r| r.is_match(text) == whole), "{pattern:?} on {text:?}");
        let replaced = hex(&regex.replace_all(text, template));
        out += &format!(" {spans}/{whole}/{}/{replaced}", regex.find_iter(text).count());
    }
    out
}

#[test]
fn random_patterns_beside_go() {
    let folder = std::env::temp_dir().join(format!("trefoil-re2-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("main.go"), include_str!("re2_reference.go")).unwrap();
    std::fs::write(folder.join("go.mod"), "module reference\n\ngo 1.21\n").unwrap();
    let program = folder.join("reference");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(&folder)
        .env("GOFLAGS", "-mod=mod")
        .env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off")
        .output();
    let built = built.is_ok_and(|output| output.status.success());
    if !built {
        std::fs::remove_dir_all(&folder).unwrap();
        println_skipped("random_patterns_beside_go: no Go here");
        return;
    }
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let config = Config { failure_persistence: None, ..Config::default() };
    let seed = std::env::var("TREFOIL_RE2_SEED").ok().and_then(|n| n.parse::<u8>().ok()).unwrap_or(1);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let strategy = (pattern(), template(), texts());
    let questions: Vec<_> = (0..cases).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let mut child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut asked = child.stdin.take().unwrap();
    let lines: String = questions
        .iter()
        .map(|(pattern, template, texts)| {
            let texts: Vec<String> = texts.iter().map(|t| hex(t)).collect();
            format!("{} {} {}\n", hex(pattern), hex(template), texts.join(" "))
        })
        .collect();
    let writer = std::thread::spawn(move || asked.write_all(lines.as_bytes()));
    let mut wrong = Vec::new();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for (pattern, template, texts) in &questions {
        let want = answers.next().expect("an answer for each question").unwrap();
        let got = answer(pattern, template, texts);
        if got != want {
            wrong.push((pattern.len(), format!("{pattern:?} {template:?} {texts:?}\n  go   {want}\n  ours {got}")));
        }
    }
    writer.join().unwrap().unwrap();
    child.wait().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    wrong.sort();
    let shown: Vec<String> = wrong.iter().take(12).map(|(_, text)| text.clone()).collect();
    assert!(wrong.is_empty(), "{} of {cases} differ, the shortest:\n{}", wrong.len(), shown.join("\n"));
}

#[expect(clippy::print_stdout, reason = "the runner shows it with --nocapture: a test that could not run")]
fn println_skipped(what: &str) {
    println!("skipped: {what}");
}
