//! What differs between spans, and errors in groups, through the binary: against counts by hand, from memory and from
//! parts, from columns and from whole traces.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use serde_json::{Value, json};
use trefoil_tests::{Http, Server, ServerOptions, items, text, wire};

const SECOND: u64 = 1_000_000_000;
const SPANS: u64 = 3000;

fn int(key: &str, value: i64) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::IntValue(value)) });
    KeyValue { key: key.to_owned(), value, ..Default::default() }
}

fn trace_id(n: u64) -> [u8; 16] {
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    std::array::from_fn(|i| if i < 8 { mixed[i] } else { n.to_be_bytes()[i - 8] })
}

fn is_failed(n: u64) -> bool {
    n % 10 == 3
}

/// One of many spans: failed ones have a new version and are large, the rest tells nothing.
fn span(n: u64, base: u64) -> Span {
    let mut span = wire::span(trace_id(n), [1; 8], None, ["GET", "PUT"][(n % 2) as usize], base + n * 1_000_000);
    let failed = is_failed(n);
    span.attributes = vec![
        wire::attribute("version", if failed && n % 20 == 3 { "2" } else { "1" }),
        wire::attribute("user.id", &format!("user-{n}")),
        int("size", if failed { 100_000 } else { 100 } + n as i64),
        wire::attribute("region", ["eu", "us", "asia"][(n % 3) as usize]),
    ];
    if n == 7 {
        span.attributes.push(wire::attribute("rare", "once"));
    }
    if failed {
        span.status = Some(Status { message: format!("no user {n}"), code: 2 });
        let attributes = vec![
            wire::attribute("exception.type", if n % 20 == 3 { "NotFound" } else { "Timeout" }),
            wire::attribute("exception.message", &format!("no user {n} in shard {}", n % 7)),
            wire::attribute("exception.stacktrace", "X: y\n\tat shop.Users.find(Users.java:12)\n\tat shop.Main.run"),
        ];
        span.events = vec![Event { name: "exception".to_owned(), attributes, ..Default::default() }];
    }
    span
}

fn write(http: &Http, base: u64) {
    for first in (0..SPANS).step_by(1000) {
        let spans: Vec<Span> = (first..first + 1000).map(|n| span(n, base)).collect();
        let answer = http.post("/v1/traces", wire::OTLP, wire::otlp_spans("shop", spans)).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

fn data(http: &Http, path: &str, query: &[(&str, &str)]) -> Value {
    http.json(path, query).unwrap_or_else(|error| panic!("{path} {query:?}: {error}"))["data"].clone()
}

/// Attribute and value to selected and other spans.
fn counts(told: &Value) -> BTreeMap<(String, String), (u64, u64)> {
    let mut out = BTreeMap::new();
    for attribute in items(&told["attributes"]) {
        for value in items(&attribute["values"]) {
            let what = format!("{} {}", text(&value["what"]), value["value"]);
            let count = |side: &str| value[side].as_u64().unwrap();
            out.insert((text(&attribute["name"]), what), (count("selection"), count("baseline")));
        }
    }
    out
}

fn check_differences(http: &Http, context: &str) {
    let path = "/api/v1/traces/differences";
    let told = data(http, path, &[("selection", "{ status = error }"), ("limit", "1000"), ("values", "100")]);
    let failed = (0..SPANS).filter(|n| is_failed(*n)).count() as u64;
    assert_eq!((&told["selection"], &told["baseline"]), (&json!(failed), &json!(SPANS - failed)), "{context}");
    let names: Vec<String> = items(&told["attributes"]).map(|a| text(&a["name"])).collect();
    // Messages are of failed spans alone, too.
    assert!(["statusMessage", "size"].iter().all(|n| names[..2].contains(&(*n).to_owned())), "{context}: {names:?}");
    assert!(names.iter().position(|n| n == "version") < names.iter().position(|n| n == "region"), "{names:?}");
    // What the selection itself asks for comes last.
    assert_eq!(names.last().unwrap(), "status", "{context}: {names:?}");
    let found = counts(&told);
    let by_hand = |attribute: &str, value: &str, is_it: &dyn Fn(u64) -> bool| {
        let count = |side: bool| (0..SPANS).filter(|n| is_failed(*n) == side && is_it(*n)).count() as u64;
        let want = (count(true), count(false));
        let got = found.get(&(attribute.to_owned(), value.to_owned())).copied();
        assert_eq!(got, Some(want), "{context}: {attribute} {value}");
    };
    by_hand("version", "is \"2\"", &|n| is_failed(n) && n % 20 == 3);
    by_hand("version", "is \"1\"", &|n| !(is_failed(n) && n % 20 == 3));
    by_hand("region", "is \"eu\"", &|n| n % 3 == 0);
    by_hand("name", "is \"GET\"", &|n| n % 2 == 0);
    by_hand("rare", "is \"once\"", &|n| n == 7);
    by_hand("rare", "absent null", &|n| n != 7);
    by_hand("service.name", "is \"shop\"", &|_| true);
    by_hand("size", "at_least 65536", &is_failed);
    by_hand("user.id", "is \"user-13\"", &|n| n == 13);
    // The same by whole traces: an id is looked at.
    let selection = "{ status = error && trace:id != \"x\" }";
    let by_traces = data(http, path, &[("selection", selection), ("limit", "1000"), ("values", "100")]);
    assert_eq!(counts(&by_traces), found, "{context}");
    // A baseline of its own, and a base.
    let told = data(
        http,
        path,
        &[("q", "{ name = \"GET\" }"), ("selection", "{ .region = \"eu\" }"), ("baseline", "{ .region = \"us\" }")],
    );
    let count = |region: u64| (0..SPANS).filter(|n| n % 2 == 0 && n % 3 == region).count();
    assert_eq!((&told["selection"], &told["baseline"]), (&json!(count(0)), &json!(count(1))), "{context}");
    // TraceQL's own: the same counts.
    let compared = http
        .json("/tempo/api/metrics/query", &[("q", "{} | compare({ status = error }, 10)")])
        .unwrap_or_else(|error| panic!("{error}"));
    let series = items(&compared["series"]).find(|s| {
        let labels = s["labels"].to_string();
        labels.contains("span.version") && labels.contains("\"2\"") && labels.contains("selection")
    });
    assert_eq!(series.and_then(|s| s["value"].as_f64()), Some(SPANS as f64 / 20.0), "{context}: {compared}");
}

fn check_errors(http: &Http, base: u64, context: &str) {
    let told = data(http, "/api/v1/traces/errors", &[("service", "shop")]);
    let failed: Vec<u64> = (0..SPANS).filter(|n| is_failed(*n)).collect();
    assert_eq!((&told["total"], &told["groupsFound"]), (&json!(failed.len()), &json!(2)), "{context}: {told}");
    for group in items(&told["groups"]) {
        let kind = text(&group["type"]);
        let own: Vec<u64> = failed.iter().copied().filter(|n| (n % 20 == 3) == (kind == "NotFound")).collect();
        let (first, last) = (own[0], own[own.len() - 1]);
        let of = |name: &str| text(&group[name]);
        assert_eq!(group["count"], json!(own.len()), "{context}: {group}");
        assert_eq!((of("message"), of("place")), ("no user <_> in shard <_>".to_owned(), "shop.Users.find".to_owned()));
        let at = |n: u64| (base + n * 1_000_000).to_string();
        assert_eq!((of("firstSeen"), of("lastSeen")), (at(first), at(last)), "{context}");
        let hex: String = trace_id(last).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!((of("traceId"), of("exampleMessage")), (hex, format!("no user {last} in shard {}", last % 7)));
        assert_eq!(items(&group["counts"]).map(|n| n.as_u64().unwrap()).sum::<u64>(), own.len() as u64);
    }
    for query in [&[("service", "nobody")][..], &[("span", "nothing")], &[("start", "1"), ("end", "2")]] {
        let told = data(http, "/api/v1/traces/errors", query);
        assert_eq!(told["total"], 0, "{context}: {query:?}");
    }
}

#[test]
fn what_differs_and_errors_in_groups() {
    let trefoil = "  memtable: { flush_interval: 1s }".to_owned();
    let mut server = Server::start("trace-differences", ServerOptions { trefoil, ..ServerOptions::default() });
    let base = wire::now_ns() - 600 * SECOND;
    write(&server.http, base);
    check_differences(&server.http, "from memory");
    check_errors(&server.http, base, "from memory");
    crate::trace_damage::wait_flushed(&server.http);
    server.restart();
    check_differences(&server.http, "from parts");
    check_errors(&server.http, base, "from parts");
    // Sent again: none counts twice, whether the two lie in one place or in two.
    write(&server.http, base);
    check_differences(&server.http, "sent twice");
    check_errors(&server.http, base, "sent twice");
    for (path, query, status) in [
        ("/api/v1/traces/differences", &[][..], 400),
        ("/api/v1/traces/differences", &[("selection", "{ status = }")], 400),
        ("/api/v1/traces/differences", &[("selection", "{} | rate()")], 400),
        ("/api/v1/traces/differences", &[("selection", "{}"), ("baseline_end", "1")], 400),
        ("/api/v1/traces/errors", &[("sort", "worst")], 400),
    ] {
        let answer = server.http.get(path, query).unwrap();
        assert_eq!(answer.status, status, "{path} {query:?}: {}", answer.text());
    }
}

/// What differs between log lines.
#[test]
fn what_differs_between_lines() {
    let server = Server::start("log-differences", ServerOptions::default());
    let now = wire::now_ns();
    for (version, level) in [("1", "info"), ("2", "error")] {
        let lines: Vec<(u64, String)> = (0..200)
            .filter(|i| version == "1" || i % 4 == 0)
            .map(|i| (now - i * 1_000_000, format!("level={level} user={i}")))
            .collect();
        let body = wire::loki_push(&[("service_name", "shop"), ("version", version)], &lines);
        let json_type = &[("content-type", "application/json")];
        assert_eq!(server.http.post("/loki/api/v1/push", json_type, body).unwrap().status, 204);
    }
    let selection = "{service_name=\"shop\"} |= \"level=error\"";
    let told = data(&server.http, "/api/v1/logs/differences", &[("selection", selection)]);
    assert_eq!((&told["selection"], &told["baseline"]), (&json!(50), &json!(200)), "{told}");
    let found = counts(&told);
    assert_eq!(found.get(&("version".to_owned(), "is \"2\"".to_owned())), Some(&(50, 0)), "{told}");
    assert_eq!(found.get(&("service_name".to_owned(), "is \"shop\"".to_owned())), Some(&(50, 200)), "{told}");
    let first = &told["attributes"][0];
    assert!(["version", "detected_level"].contains(&text(&first["name"]).as_str()), "{told}");
    let bad = server.http.get("/api/v1/logs/differences", &[]).unwrap();
    assert_eq!(bad.status, 400, "{}", bad.text());
}
