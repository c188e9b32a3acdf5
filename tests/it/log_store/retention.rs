//! Rules of retention for streams of logs: older lines are refused and hidden at once, and go from the disk.

use super::*;

const HOUR: u64 = 3600 * SECOND;

fn push(http: &Http, app: &str, at: u64, line: &str) -> u16 {
    let body = wire::loki_push(&[("app", app)], &[(at, line.to_owned())]);
    http.post("/loki/api/v1/push", JSON, body).unwrap().status
}

fn found(http: &Http, query: &str) -> Vec<String> {
    let now = wire::now_ns();
    let (start, end) = ((now - 1000 * HOUR).to_string(), now.to_string());
    let window = [("query", query), ("start", start.as_str()), ("end", &end), ("limit", "1000")];
    let answer = http.json("/loki/api/v1/query_range", &window).unwrap();
    let streams = items(&answer["data"]["result"]).flat_map(|stream| items(&stream["values"]));
    let mut lines: Vec<String> = streams.map(|value| text(&value[1])).collect();
    lines.sort();
    lines
}

#[test]
fn lines_are_kept_as_long_as_the_rule_of_their_stream_says() {
    let trefoil =
        "  memtable: { flush_interval: 1s }\n  enable_lifecycle: true\n  retention: { logs: 25d, logs_rules: [] }";
    let options = ServerOptions { trefoil: trefoil.to_owned(), ..ServerOptions::default() };
    let server = Server::start("log-rules-retention", options);
    let http = server.http.clone();
    let now = wire::now_ns();
    let noise = |n: u64| (0..20).map(|i| format!("{:x}", mixed(n * 20 + i))).collect::<String>();
    // Most of it is of three days ago.
    for (age, app, count) in [(72 * HOUR, "debug", 3000), (72 * HOUR, "audit", 60), (60 * SECOND, "debug", 60)] {
        let lines: Vec<_> = (0..count).map(|n| (now - age + n, format!("{app} {n} {}", noise(n + age)))).collect();
        let answer = http.post("/loki/api/v1/push", JSON, wire::loki_push(&[("app", app)], &lines)).unwrap();
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    wait_flushed(&server);
    let all = "sum(count_over_time({app=~\"debug|audit\"} [1000h]))";
    let counted = |http: &Http| {
        let answer = http.json("/loki/api/v1/query", &[("query", all)]).unwrap();
        text(&answer["data"]["result"][0]["value"][1])
    };
    assert_eq!((found(&http, "{app=\"audit\"}").len(), counted(&http).as_str()), (60, "3120"));
    let parts = server.data_dir.join("events/logs/parts");
    let bytes = bytes_below(&parts);
    // A rule is in force after a reload, at once.
    let config = server.config_path();
    let text = std::fs::read_to_string(&config).unwrap();
    let rules = "{match: '{app=\"debug\"}', keep: 2d}, {match: '{app=~\"audit|other\"}', keep: unlimited}";
    assert!(text.contains("logs_rules: []"), "{text}");
    std::fs::write(&config, text.replace("logs_rules: []", &format!("logs_rules: [{rules}]"))).unwrap();
    assert_eq!(http.post("/-/reload", &[], "").unwrap().status, 200);
    assert_eq!((found(&http, "{app=\"debug\"}").len(), found(&http, "{app=\"audit\"}").len()), (60, 60));
    assert_eq!(counted(&http), "120");
    assert_eq!(found(&http, "{app=~\".+\"} |= \"debug 7 \"").len(), 1);
    assert_ne!(push(&http, "debug", now - 72 * HOUR, "too late"), 204);
    assert_eq!(push(&http, "debug", now - 40 * HOUR, "in time"), 204);
    assert_eq!(push(&http, "other", now - 900 * HOUR, "for ever"), 204);
    assert_eq!(found(&http, "{app=\"other\"}"), ["for ever"]);
    assert_eq!(found(&http, "{app=\"debug\"}").len(), 61);
    // The bytes of what is hidden go with the next merges.
    wait_for("the lines to go from the parts", Duration::from_secs(90), || bytes_below(&parts) < bytes / 4);
    assert_eq!((found(&http, "{app=\"debug\"}").len(), found(&http, "{app=\"audit\"}").len()), (61, 60));
    // A selector that is none is refused, and the rules in force stay.
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("{app=\"debug\"}", "{app=debug}")).unwrap();
    assert_ne!(http.post("/-/reload", &[], "").unwrap().status, 200);
    assert_eq!(found(&http, "{app=\"debug\"}").len(), 61);
}
