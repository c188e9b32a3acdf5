//! Damaged files of spans: what needs them fails and names them, whatever door it is asked at; all else is answered.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use trefoil_tests::{Http, Server, ServerOptions, items, wait_for, wire};

const SECOND: u64 = 1_000_000_000;
const TRACES: u64 = 400;

fn trace_id(n: u64) -> [u8; 16] {
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    std::array::from_fn(|i| if i < 8 { mixed.to_be_bytes()[i] } else { n.to_le_bytes()[i - 8].wrapping_add(1) })
}

fn hex(id: [u8; 16]) -> String {
    id.iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes traces with the numbers, each of three spans.
fn write(http: &Http, service: &str, first: u64, base: u64) {
    let spans = (first..first + TRACES).flat_map(|n| {
        (0..3u8).map(move |s| {
            let at = base + n * 1_000_000;
            let mut span = wire::span(
                trace_id(n),
                [s + 1; 8],
                (s > 0).then_some([1; 8]),
                ["GET", "load", "query"][s as usize],
                at,
            );
            span.attributes = vec![wire::attribute("user.id", &format!("user-{n}"))];
            span
        })
    });
    let answer = http.post("/v1/traces", wire::OTLP, wire::otlp_spans(service, spans.collect())).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn files(server: &Server) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![server.data_dir.join("events/traces/parts")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("events") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Waits until no span is in memory alone.
pub(crate) fn wait_flushed(http: &Http) {
    wait_for("the memtable to be written", Duration::from_secs(60), || {
        let metrics = http.get("/metrics", &[]).unwrap().text();
        metrics.lines().any(|l| l.starts_with("trefoil_events_memtable_bytes{kind=\"traces\"} 0"))
    });
}

/// What is asked: a name, and what it gives, or the text of a failure.
type Read = (&'static str, Result<String, String>);

fn ask(http: &Http, path: &str, query: &[(&str, &str)], shown: impl Fn(&Value) -> String) -> Result<String, String> {
    let answer = http.get(path, query).unwrap();
    match answer.status {
        200 => Ok(shown(&answer.json())),
        500 => Err(answer.text()),
        other => panic!("{path}: status {other}: {}", answer.text()),
    }
}

fn read_all(http: &Http, n: u64, base: u64) -> Vec<Read> {
    let id = hex(trace_id(n));
    let count = |value: &Value| items(value).count().to_string();
    let spans = |batches: &Value| {
        items(batches).flat_map(|b| items(&b["scopeSpans"])).map(|s| items(&s["spans"]).count()).sum::<usize>()
    };
    let (start, end) = (base / SECOND - 10, base / SECOND + 60);
    let (start, end) = (start.to_string(), end.to_string());
    let window = [("start", start.as_str()), ("end", end.as_str())];
    let with = |more: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> { [&window[..], more].concat() };
    let (start_us, end_us) = (format!("{start}000000"), format!("{end}000000"));
    let jaeger = [("service", "shop"), ("start", start_us.as_str()), ("end", &end_us), ("limit", "2000")];
    vec![
        ("tempo trace", ask(http, &format!("/tempo/api/traces/{id}"), &[], |a| spans(&a["batches"]).to_string())),
        ("jaeger trace", ask(http, &format!("/jaeger/api/traces/{id}"), &[], |a| count(&a["data"][0]["spans"]))),
        ("zipkin trace", ask(http, &format!("/zipkin/api/v2/trace/{id}"), &[], count)),
        ("analysis", ask(http, &format!("/api/v1/traces/{id}/analysis"), &[], |a| a["data"]["spanCount"].to_string())),
        (
            "tempo search",
            ask(http, "/tempo/api/search", &with(&[("q", "{}"), ("limit", "2000")]), |a| count(&a["traces"])),
        ),
        ("jaeger search", ask(http, "/jaeger/api/traces", &jaeger, |a| count(&a["data"]))),
        (
            "tempo metrics",
            ask(http, "/tempo/api/metrics/query", &with(&[("q", "{} | count_over_time()")]), |a| {
                a["series"][0]["value"].to_string()
            }),
        ),
        ("flame", ask(http, "/api/v1/traces/flame", &with(&[]), |a| a["data"]["spans"].to_string())),
        ("services", ask(http, "/jaeger/api/services", &[], |a| a["data"].to_string())),
        ("operations", ask(http, "/jaeger/api/operations", &[("service", "shop")], |a| count(&a["data"]))),
    ]
}

#[test]
fn damage_of_spans_is_told_at_every_door() {
    let trefoil = "  memtable: { flush_interval: 1s }".to_owned();
    let mut server = Server::start("trace-damage", ServerOptions { trefoil, ..ServerOptions::default() });
    let base = wire::now_ns() - 900 * SECOND;
    write(&server.http, "shop", 0, base);
    wait_flushed(&server.http);
    server.restart();
    let want = read_all(&server.http, 7, base);
    for (name, read) in &want {
        assert!(read.as_ref().is_ok_and(|shown| shown != "0" && shown != "null"), "{name}: {read:?}");
    }
    server.peer.kill();
    let parts = files(&server);
    assert_eq!(parts.len(), 1, "{parts:?}");
    let path = &parts[0];
    let whole = std::fs::read(path).unwrap();
    // Sections as the footer names them: filters, index, table, summaries; in front of them are the blocks.
    let footer = whole.len() - 4 * 16 - 12;
    let number = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().unwrap()) as usize;
    let section = |n: usize| (number(footer + n * 16), number(footer + n * 16 + 8));
    let (filters, index, table, summaries) = (section(0), section(1), section(2), section(3));
    let middle = |(start, len): (usize, usize)| start + len / 2;
    // What is damaged, what is said of it, and what must fail; all else is as before.
    let traces = &["tempo trace", "jaeger trace", "zipkin trace", "analysis"][..];
    let all: Vec<&str> = want.iter().map(|(name, _)| *name).collect();
    let cases: [(&str, usize, &str, &[&str]); 7] = [
        ("block", 12 + (filters.0 - 12) * 9 / 10, "block ", traces),
        ("filters", middle(filters), "filter", &[]),
        ("index", middle(index), "index", &[]),
        ("table", middle(table), "table at", &all),
        ("summaries", summaries.0 + 40, "summaries", &[]),
        ("footer", footer + 3, "footer", &all),
        ("header", 2, "header", &all),
    ];
    for (case, at, said, fails) in cases {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(path, &damaged).unwrap();
        server.restart();
        // Twice: the second time it is known.
        for _ in 0..2 {
            for ((name, read), (_, want)) in read_all(&server.http, 7, base).into_iter().zip(&want) {
                match &read {
                    Ok(_) => {
                        assert!(!fails.contains(&name), "{case}: {name} is {read:?}");
                        assert_eq!(&read, want, "{case}: {name}");
                    }
                    Err(error) => {
                        // A block is damaged in one column: who reads it depends on the column.
                        assert!(fails.contains(&name) || case == "block", "{case}: {name} is {error}");
                        let is_named = error.contains(&path.display().to_string()) && error.contains(said);
                        assert!(is_named && error.contains("bytes "), "{case}: {name} is {error}");
                    }
                }
            }
        }
        let counted = server.http.own_metric("trefoil_events_blocks_corrupt_total");
        let met = f64::from(u8::from(!["filters", "index"].contains(&case)));
        assert!(counted == 1.0 || met == 0.0 && counted == 0.0, "{case}: {counted}");
        // It takes new spans as before.
        write(&server.http, "shop", 10_000, wire::now_ns() - 10 * SECOND);
        server.peer.kill();
        // What came meanwhile stays; the file is whole again.
        std::fs::write(path, &whole).unwrap();
    }
    server.restart();
    assert_eq!(read_all(&server.http, 7, base), want, "with the file as it was");
}
