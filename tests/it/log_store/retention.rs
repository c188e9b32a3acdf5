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
    let trefoil = |rules: &str| {
        format!("  memtable: {{ flush_interval: 1s }}\n  enable_lifecycle: true\n  retention: {{ logs: 25d, logs_rules: [{rules}] }}")
    };
    let options = ServerOptions { trefoil: trefoil(""), ..ServerOptions::default() };
    let server = Server::start("log-rules-retention", options);
    let http = server.http.clone();
    let now = wire::now_ns();
    let noise = |n: u64| (0..40).map(|i| format!("{:x}", mixed(n * 40 + i))).collect::<String>();
    for n in 0..60 {
        // Three days that are over, and now.
        for (age, app) in [(72 * HOUR, "debug"), (72 * HOUR, "audit"), (60 * SECOND, "debug")] {
            assert_eq!(push(&http, app, now - age + n, &format!("{app} {n} {}", noise(n + age))), 204);
        }
    }
    wait_flushed(&server);
    assert_eq!((found(&http, "{app=\"debug\"}").len(), found(&http, "{app=\"audit\"}").len()), (120, 60));
    let parts = server.data_dir.join("events/logs/parts");
    let bytes = bytes_below(&parts);
    // A rule is in force after a reload, at once.
    let config = server.dir.join("trefoil.yml");
    let text = std::fs::read_to_string(&config).unwrap();
    let rules = "{match: '{app=\"debug\"}', keep: 2d}, {match: '{app=~\"audit|other\"}', keep: unlimited}";
    assert!(text.contains("logs_rules: []"), "{text}");
    std::fs::write(&config, text.replace("logs_rules: []", &format!("logs_rules: [{rules}]"))).unwrap();
    assert_eq!(http.post("/-/reload", &[], "").unwrap().status, 200);
    assert_eq!((found(&http, "{app=\"debug\"}").len(), found(&http, "{app=\"audit\"}").len()), (60, 60));
    assert_eq!(found(&http, "{app=~\".+\"} |= \"debug 7 \"").len(), 1);
    assert_ne!(push(&http, "debug", now - 72 * HOUR, "too late"), 204);
    assert_eq!(push(&http, "debug", now - 40 * HOUR, "in time"), 204);
    assert_eq!(push(&http, "other", now - 900 * HOUR, "for ever"), 204);
    assert_eq!(found(&http, "{app=\"other\"}"), ["for ever"]);
    assert_eq!(found(&http, "{app=\"debug\"}").len(), 61);
    // The bytes of what is hidden go with the next merges.
    let needle = b"debug 59";
    wait_for("the lines to go from the parts", Duration::from_secs(90), || {
        let bytes_now = bytes_below(&parts);
        bytes_now > 0 && bytes_now + 60 * 100 < bytes + 2 * bytes / 3
            && http.own_metric("trefoil_events_merge_duration_seconds_count") > 0.0
    });
    let _ = needle;
    assert_eq!((found(&http, "{app=\"debug\"}").len(), found(&http, "{app=\"audit\"}").len()), (61, 60));
    // A selector that is none is refused, and the rules in force stay.
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("{app=\"debug\"}", "{app=debug}")).unwrap();
    assert_ne!(http.post("/-/reload", &[], "").unwrap().status, 200);
    assert_eq!(found(&http, "{app=\"debug\"}").len(), 61);
}
