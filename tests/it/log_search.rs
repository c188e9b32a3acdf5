//! `/api/v1/logs` against the real binary: searched, counted, looked around in and exported, over a restart.

use serde_json::{Value, json};
use trefoil_tests::{Http, Server, ServerOptions, items, text, wire};

const LINES: u64 = 12_000;
const MINUTE_NS: u64 = 60_000_000_000;

/// Pushes lines of two services, four to a time, the last of them newest.
fn push(http: &Http, base: u64) {
    let values = |service: u64| -> Vec<Value> {
        let line = |i: u64| {
            let level = if i.is_multiple_of(1000) { "error" } else { "info" };
            let time = base + i / 4 * 1_000_000;
            json!([time.to_string(), format!("level={level} code={} msg=\"Request {i} of {service}\"", 200 + i % 3)])
        };
        (0..LINES / 2).map(line).collect()
    };
    let stream = |service: u64| json!({"stream": {"service_name": format!("s{service}")}, "values": values(service)});
    let body = json!({"streams": [stream(1), stream(2)]});
    let headers = [("content-type", "application/json")];
    assert_eq!(http.post("/loki/api/v1/push", &headers, body.to_string()).unwrap().status, 204);
}

fn ask(http: &Http, path: &str, window: &[(&str, &str)], more: &[(&str, &str)]) -> Value {
    let parameters: Vec<(&str, &str)> = window.iter().chain(more).copied().collect();
    let path = format!("/api/v1/logs/{path}");
    http.json(&path, &parameters).unwrap_or_else(|e| panic!("{more:?}: {e}"))["data"].clone()
}

#[test]
fn the_page_finds_counts_and_takes_away() {
    let mut server = Server::start("log-search", ServerOptions::default());
    let base = wire::now_ns() - 10 * MINUTE_NS;
    push(&server.http, base);
    let (start, end) = ((base - MINUTE_NS).to_string(), (base + 9 * MINUTE_NS).to_string());
    let window = [("start", start.as_str()), ("end", end.as_str()), ("query", r#"{service_name=~"s1|s2"}"#)];
    for round in 0..2 {
        let http = &server.http;
        let found = ask(http, "search", &window, &[("q", "request level:error -\"5000 of 2\"")]);
        let lines: Vec<String> = items(&found["lines"]).map(|l| text(&l["line"])).collect();
        assert_eq!(lines.len(), 11, "{found}");
        assert!(lines[0].contains("Request 5000 of 1"), "{found}");
        let counted = ask(http, "histogram", &window, &[("step", "1m")]);
        let totals: Vec<String> = items(&counted["series"]).map(|s| format!("{} {}", s["value"], s["total"])).collect();
        assert_eq!(totals, [r#""info" 11988"#, r#""error" 12"#], "{counted}");
        let values = ask(http, "field/code/values", &window, &[]);
        assert_eq!((&values["lines"], &values["distinct"]), (&json!(LINES), &json!(3)), "{values}");
        let fields = ask(http, "fields", &window, &[]);
        let code = items(&fields["fields"]).find(|f| f["name"] == "code").unwrap_or_else(|| panic!("{fields}"));
        assert_eq!((&code["source"], &code["type"], &code["lines"]), (&json!("logfmt"), &json!("int"), &json!(1000)));
        // Around a line of one of the services.
        let time = text(&items(&found["lines"]).next().unwrap()["time"]);
        let stream = found["lines"][0]["stream"].to_string();
        let around =
            ask(http, "context", &[], &[("time", &time), ("stream", &stream), ("before", "3"), ("after", "2")]);
        let count = |part: &str| items(&around[part]).count();
        assert_eq!((count("before"), count("at"), count("after")), (3, 4, 2), "{around}");
        // All of it, in order, each once.
        let got = http.get("/api/v1/logs/export", &window).unwrap();
        let exported: Vec<Value> = got.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!((got.status, exported.len() as u64), (200, LINES), "round {round}");
        let times: Vec<String> = exported.iter().map(|l| text(&l["time"])).collect();
        assert!(times.is_sorted(), "in order of time");
        let distinct: std::collections::BTreeSet<String> = exported.iter().map(|l| text(&l["line"])).collect();
        assert_eq!(distinct.len() as u64, LINES);
        let csv: Vec<(&str, &str)> =
            window.iter().copied().chain([("format", "csv"), ("columns", "code,line"), ("limit", "3")]).collect();
        let got = http.get("/api/v1/logs/export", &csv).unwrap().text();
        assert!(got.starts_with("code,line\r\n20") && got.lines().count() == 4, "{got}");
        let patterns = ask(http, "patterns", &window, &[("new_since", &start)]);
        let shown: Vec<String> = items(&patterns["patterns"]).map(|p| text(&p["pattern"])).collect();
        assert!(shown.iter().any(|p| p.contains("msg=\"Request <_> of <_>\"")), "{patterns}");
        if round == 0 {
            server.restart();
        }
    }
    // What was learnt of lines before the restart is gone; the lines are not.
    let later = (base + MINUTE_NS).to_string();
    push_known(&server.http, base + 2 * MINUTE_NS);
    let patterns = ask(&server.http, "patterns", &window, &[("new_since", &later)]);
    let shown: Vec<String> = items(&patterns["patterns"]).map(|p| text(&p["pattern"])).collect();
    assert_eq!(shown, ["never seen before"], "{patterns}");
}

/// A line of a shape that is known and one of a shape that is not.
fn push_known(http: &Http, time: u64) {
    let lines = ["level=info code=200 msg=\"Request 99999 of 1\"", "never seen before"];
    let values: Vec<Value> =
        lines.iter().enumerate().map(|(i, line)| json!([(time + i as u64).to_string(), line])).collect();
    let body = json!({"streams": [{"stream": {"service_name": "s1"}, "values": values}]});
    let headers = [("content-type", "application/json")];
    assert_eq!(http.post("/loki/api/v1/push", &headers, body.to_string()).unwrap().status, 204);
}
