//! What traces tell as a whole: `/api/v1/traces`, through the binary.

use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};
use trefoil_tests::{Http, Server, ServerOptions, items, text, wire};

const MS: u64 = 1_000_000;

fn write(http: &Http, service: &str, spans: Vec<Span>) {
    let answer = http.post("/v1/traces", wire::OTLP, wire::otlp_spans(service, spans)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A span of some milliseconds.
fn span(trace: u8, id: u8, parent: u8, name: &str, (start, length): (u64, u64), base: u64) -> Span {
    let parent = (parent > 0).then_some([parent; 8]);
    let mut span = wire::span([trace; 16], [id; 8], parent, name, base + start * MS);
    span.end_time_unix_nano = span.start_time_unix_nano + length * MS;
    span
}

fn id(trace: u8) -> String {
    format!("{trace:02x}").repeat(16)
}

fn data(http: &Http, path: &str, query: &[(&str, &str)]) -> Value {
    http.json(path, query).unwrap_or_else(|error| panic!("{path} {query:?}: {error}"))["data"].clone()
}

/// Two traces of a shop: the second has a new call, lacks one, and is slower.
fn shop(http: &Http, base: u64) {
    write(http, "front", vec![span(1, 1, 0, "GET /cart", (0, 100), base), span(1, 9, 8, "late", (20, 5), base)]);
    // Its clock is 50 ms behind.
    write(
        http,
        "cart",
        vec![span(1, 2, 1, "load", (-40i64 as u64, 80), base), span(1, 3, 2, "query", (-30i64 as u64, 60), base)],
    );
    write(http, "front", vec![span(2, 1, 0, "GET /cart", (0, 300), base), span(2, 4, 1, "log in", (0, 50), base)]);
    write(http, "cart", vec![span(2, 2, 1, "load", (60, 200), base)]);
}

#[test]
fn one_trace_two_traces_many_traces() {
    let server = Server::start("trace-views", ServerOptions::default());
    let http = &server.http;
    let base = wire::now_ns() - 60_000 * MS;
    shop(http, base);

    let told = data(http, &format!("/api/v1/traces/{}/analysis", id(1)), &[]);
    let sum: i64 = items(&told["criticalPath"]).map(|p| p["durationNs"].as_i64().unwrap()).sum();
    assert_eq!((Some(sum), sum), (told["durationNs"].as_i64(), 100 * MS as i64), "{told}");
    assert_eq!(
        (&told["spanCount"], &told["missingParent"], &told["moved"]),
        (&json!(4), &json!(1), &json!(2)),
        "{told}"
    );
    let shown: Vec<String> = items(&told["spans"])
        .map(|s| {
            let ms = |name: &str| s[name].as_i64().unwrap() / MS as i64;
            let (own, critical, moved) = (ms("selfNs"), ms("criticalNs"), ms("movedNs"));
            let before = ms("beforeParentNs");
            format!("{} {} {} {own} {critical} {moved} {before}", text(&s["name"]), s["depth"], s["parent"])
        })
        .collect();
    assert_eq!(
        shown,
        ["GET /cart 0 null 20 20 0 0", "load 1 0 20 20 50 40", "query 2 1 60 60 50 0", "late 0 null 5 0 0 0"],
        "{told}"
    );
    let lost: Vec<&Value> = items(&told["spans"]).map(|s| &s["lost"]).collect();
    assert_eq!(lost[3], "missing_parent");
    assert_eq!(told["operations"][0]["name"], "query", "{told}");
    let cut = data(http, &format!("/api/v1/traces/{}/analysis", id(1)), &[("limit", "2")]);
    assert_eq!((items(&cut["spans"]).count(), &cut["spansCut"]), (2, &json!(true)));

    let told = data(http, "/api/v1/traces/compare", &[("a", &id(1)), ("b", &id(2))]);
    let shown: Vec<String> = items(&told["places"])
        .map(|p| format!("{} {} {} {}", text(&p["name"]), p["depth"], text(&p["change"]), p["differenceNs"]))
        .collect();
    assert_eq!(
        shown,
        [
            "GET /cart 0 slower 200000000",
            "load 1 slower 120000000",
            "query 2 missing -60000000",
            "log in 1 added 50000000",
            "late 0 missing -5000000",
        ],
        "{told}"
    );
    assert_eq!((&told["a"]["spanCount"], &told["b"]["durationNs"]), (&json!(4), &json!(300 * MS)));

    let told = data(http, "/api/v1/traces/flame", &[("q", "{ name = \"load\" }"), ("since", "1h")]);
    assert_eq!((&told["traces"], &told["spans"], &told["isCut"]), (&json!(2), &json!(7), &json!(false)), "{told}");
    let shown: Vec<String> = items(&told["places"])
        .map(|p| format!("{} {} {} {}", text(&p["name"]), p["depth"], p["traces"], p["totalNs"]))
        .collect();
    assert!(shown.contains(&"GET /cart 0 2 400000000".to_owned()), "{told}");
    assert!(shown.contains(&"load 1 2 280000000".to_owned()), "{told}");
    let one = data(http, "/api/v1/traces/flame", &[("q", "{ name = \"query\" }"), ("traces", "1")]);
    assert_eq!((&one["traces"], &one["spans"]), (&json!(1), &json!(4)), "{one}");
    let none = data(http, "/api/v1/traces/flame", &[("q", "{ name = \"nothing\" }")]);
    assert_eq!((&none["traces"], items(&none["places"]).count()), (&json!(0), 0), "{none}");

    for (path, query, status) in [
        (format!("/api/v1/traces/{}/analysis", id(7)), &[][..], 404),
        ("/api/v1/traces/zz/analysis".to_owned(), &[], 400),
        (format!("/api/v1/traces/{}/analysis", id(1)), &[("limit", "0")], 400),
        ("/api/v1/traces/compare".to_owned(), &[("a", "01")], 400),
        ("/api/v1/traces/flame".to_owned(), &[("q", "{ name = }")], 400),
        ("/api/v1/traces/flame".to_owned(), &[("q", "{} | rate()")], 400),
        ("/api/v1/traces/flame".to_owned(), &[("start", "20"), ("end", "10")], 400),
        ("/api/v1/traces/flame".to_owned(), &[("traces", "many")], 400),
    ] {
        let answer = http.get(&path, query).unwrap();
        assert_eq!(answer.status, status, "{path} {query:?}: {}", answer.text());
        assert_eq!(answer.json()["status"], "error");
    }
}

/// Cycles, parents that are their own, ids used twice, no length, and a hundred thousand spans in one chain.
#[test]
fn odd_and_giant_traces_are_answered() {
    let server = Server::start("trace-views-odd", ServerOptions::default());
    let http = &server.http;
    let base = wire::now_ns() - 60_000 * MS;
    let odd = vec![
        span(1, 1, 2, "a", (0, 10), base),
        span(1, 2, 1, "b", (1, 5), base),
        span(1, 3, 3, "own", (2, 0), base),
        span(1, 4, 3, "below", (2, 1), base),
    ];
    write(http, "odd", odd);
    write(http, "other", vec![span(1, 4, 3, "the same id", (3, 1), base)]);
    let told = data(http, &format!("/api/v1/traces/{}/analysis", id(1)), &[]);
    let figures = (&told["spanCount"], &told["cycle"], &told["ownParent"], &told["missingParent"]);
    assert_eq!(figures, (&json!(5), &json!(2), &json!(1), &json!(0)), "{told}");

    let long = |i: u64| {
        let mut span = span(2, 1, 0, ["x", "y", "z"][(i % 3) as usize], (0, 1000), base + i * 1000);
        span.span_id = (i + 1).to_be_bytes().to_vec();
        span.parent_span_id = if i == 0 { Vec::new() } else { i.to_be_bytes().to_vec() };
        span
    };
    for first in (0..100_000).step_by(25_000) {
        write(http, "giant", (first..first + 25_000).map(long).collect());
    }
    let told = data(http, &format!("/api/v1/traces/{}/analysis", id(2)), &[]);
    assert_eq!((&told["spanCount"], &told["spansCut"]), (&json!(100_000), &json!(true)));
    assert_eq!(items(&told["spans"]).count(), 10_000);
    let told = data(http, "/api/v1/traces/compare", &[("a", &id(2)), ("b", &id(2))]);
    assert!(told["foldedSpans"].as_u64().unwrap() > 0, "{}", told["foldedSpans"]);
    let told = data(http, "/api/v1/traces/flame", &[("q", "{ name = \"y\" }")]);
    assert_eq!((&told["traces"], &told["spans"]), (&json!(1), &json!(100_000)));
}
