//! `/api/v1/logs` through the router: what the page asks when people search, narrow, look around and take lines away.
#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use serde_json::{Value, json};

use crate::memory_events::{NOW_NS, SECOND_NS, Server, encoded};

fn filled() -> Server {
    let server = Server::new();
    let shop = [("service_name", "shop"), ("host", "a")];
    for i in 0..6 {
        let (level, code) = if i % 3 == 0 { ("error", 500) } else { ("info", 200) };
        let line = format!("level={level} msg=\"Request done\" code={code} took={}ms", i * 7);
        let attributes = [("detected_level", level), ("trace_id", if i < 3 { "t1" } else { "t2" })];
        server.events.line(&shop, NOW_NS - (60 - i * 10) * SECOND_NS, &line, &attributes);
    }
    let cart = [("service_name", "cart")];
    let line = r#"{"level":"warn","http":{"code":301,"path":"/a"},"code":500}"#;
    server.events.line(&cart, NOW_NS - 5 * SECOND_NS, line, &[("detected_level", "warn"), ("host", "b")]);
    for text in ["one", "two", "three"] {
        server.events.line(&cart, NOW_NS - 30 * SECOND_NS, text, &[]);
    }
    server
}

/// What stands in `data`; parameters as pairs.
async fn ask(server: &Server, path: &str, parameters: &[(&str, &str)]) -> Value {
    let got = asked(server, path, parameters).await;
    assert_eq!(got.status, 200, "{path} {parameters:?}: {}", got.text());
    got.json()["data"].clone()
}

async fn asked(server: &Server, path: &str, parameters: &[(&str, &str)]) -> crate::memory_events::Answered {
    let query: Vec<String> = parameters.iter().map(|(n, v)| format!("{n}={}", encoded(v))).collect();
    server.get(&format!("/api/v1/logs/{path}?{}", query.join("&"))).await
}

fn lines(data: &Value) -> Vec<String> {
    data["lines"].as_array().unwrap().iter().map(|l| l["line"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn words_and_chips_find_lines() {
    let server = filled();
    let check = async |parameters: &[(&str, &str)], count: usize, query: &str| {
        let data = ask(&server, "search", parameters).await;
        assert_eq!((data["query"].as_str().unwrap(), lines(&data).len()), (query, count), "{parameters:?}");
    };
    let all = r#"{service_name=~".+"}"#;
    check(&[], 10, all).await;
    check(&[("q", "request code=500")], 2, &format!(r#"{all} |~ "(?i)request" |~ "(?i)code=500""#)).await;
    check(&[("q", "\"Request done\" -took=7")], 5, &format!(r#"{all} |= "Request done" !~ "(?i)took=7""#)).await;
    check(&[("q", "two OR THREE")], 2, &format!(r#"{all} |~ "(?i:two)|(?i:THREE)""#)).await;
    // A label of all streams goes into the selector, one of some beside it, metadata and levels too.
    check(&[("filter", "service_name=cart")], 4, r#"{service_name="cart"}"#).await;
    check(&[("filter", "service_name=cart"), ("filter", "service_name=shop")], 10, r#"{service_name=~"cart|shop"}"#)
        .await;
    check(&[("filter", "host=b")], 1, &format!(r#"{all} | host="b""#)).await;
    check(&[("q", "trace_id:t1")], 3, &format!(r#"{all} | trace_id="t1""#)).await;
    check(&[("filter", "detected_level!=info")], 6, &format!(r#"{all} | detected_level!="info""#)).await;
    // A field of the lines: by every form that they have.
    let parsed = format!("{all} | json | logfmt | drop __error__, __error_details__ ");
    check(&[("filter", "code=500")], 3, &format!(r#"{parsed}| code="500""#)).await;
    check(
        &[("q", "code:>400"), ("filter", "service_name=shop")],
        2,
        r#"{service_name="shop"} | logfmt | drop __error__, __error_details__ | code>400"#,
    )
    .await;
    check(
        &[("filter", "http_path=/a")],
        1,
        &format!(r#"{all} | json | drop __error__, __error_details__ | http_path="/a""#),
    )
    .await;
    check(&[("filter", "never=x")], 0, &format!(r#"{parsed}| never="x""#)).await;
    // A query goes before all else.
    let query = r#"{service_name="shop"} | logfmt # by hand"#;
    check(
        &[("query", query), ("filter", "code=500"), ("q", "done")],
        2,
        &format!("{query}\n|~ \"(?i)done\" | code=\"500\""),
    )
    .await;
    for (parameters, status) in [
        (&[("query", "vector(1)")], 400),
        (&[("query", "{")], 400),
        (&[("filter", "word")], 400),
        (&[("limit", "5001")], 400),
        (&[("after", "x")], 400),
    ] {
        let got = asked(&server, "search", parameters).await;
        assert_eq!((got.status.as_u16(), got.json()["status"].as_str()), (status, Some("error")), "{parameters:?}");
    }
    let one = ask(&server, "search", &[("q", "301")]).await;
    let line = &one["lines"][0];
    assert_eq!(line["stream"], json!({"service_name": "cart"}), "{one}");
    assert_eq!(line["fields"], json!({"detected_level": "warn", "host": "b"}), "{one}");
    assert_eq!((&line["level"], &line["time"]), (&json!("warn"), &json!((NOW_NS - 5 * SECOND_NS).to_string())));
    assert_eq!(one["marked"], json!([{"text": "301", "exact": false}]));
}

#[tokio::test]
async fn pages_give_each_line_once() {
    let server = filled();
    for direction in ["backward", "forward"] {
        let whole = lines(&ask(&server, "search", &[("direction", direction)]).await);
        for limit in ["1", "2", "3", "7"] {
            let (mut paged, mut after) = (Vec::new(), String::new());
            for _ in 0..20 {
                let data =
                    ask(&server, "search", &[("direction", direction), ("limit", limit), ("after", &after)]).await;
                paged.extend(lines(&data));
                match data["next"].as_str() {
                    Some(next) => after = next.to_owned(),
                    None => break,
                }
            }
            assert_eq!(paged, whole, "{direction} {limit}");
        }
    }
}

#[tokio::test]
async fn counts_over_time_are_exact() {
    let server = filled();
    // Neither end stands on a step.
    let (start, end) = ((NOW_NS - 55 * SECOND_NS).to_string(), (NOW_NS - 4 * SECOND_NS).to_string());
    let window = [("start", start.as_str()), ("end", end.as_str()), ("step", "20s")];
    let data = ask(&server, "histogram", &window).await;
    let counts: Vec<(String, u64, usize)> = data["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| {
            let counts = s["counts"].as_array().unwrap();
            let sum: u64 = counts.iter().map(|c| c[1].as_u64().unwrap()).sum();
            assert_eq!(s["total"], json!(sum), "{data}");
            assert!(counts.iter().all(|c| c[0].as_str().unwrap().parse::<i64>().unwrap() % (20 * SECOND_NS) == 0));
            (s["value"].as_str().unwrap().to_owned(), sum, counts.len())
        })
        .collect();
    let want = [("info", 4, 3), ("", 3, 1), ("error", 1, 1), ("warn", 1, 1)];
    assert_eq!(counts, want.map(|(v, n, steps)| (v.to_owned(), n, steps)), "{data}");
    let wide = [("start", start.as_str()), ("end", end.as_str()), ("step", "1h"), ("by", "code"), ("limit", "1")];
    let data = ask(&server, "histogram", &wide).await;
    let totals: Vec<(Value, u64)> =
        data["series"].as_array().unwrap().iter().map(|s| (s["value"].clone(), s["total"].as_u64().unwrap())).collect();
    assert_eq!(totals, [(json!("200"), 4), (Value::Null, 5)], "{data}");
}

#[tokio::test]
async fn fields_have_top_values() {
    let server = filled();
    let data = ask(&server, "fields", &[("values", "1")]).await;
    assert_eq!((&data["lines"], &data["complete"]), (&json!(10), &json!(true)), "{data}");
    let field = |name: &str| {
        let f =
            data["fields"].as_array().unwrap().iter().find(|f| f["name"] == name).unwrap_or_else(|| panic!("{data}"));
        format!("{} {} {} {}", f["source"], f["lines"], f["distinct"], f["values"])
    };
    assert_eq!(field("service_name"), r#""stream" 10 2 [{"value":"shop","count":6}]"#);
    assert_eq!(field("trace_id"), r#""metadata" 6 2 [{"value":"t1","count":3}]"#);
    assert_eq!(field("msg"), r#""logfmt" 6 1 [{"value":"Request done","count":6}]"#);
    assert_eq!(field("http_path"), r#""json" 1 1 [{"value":"/a","count":1}]"#);
    let values = ask(&server, "field/code/values", &[("limit", "1")]).await;
    assert_eq!(values["values"], json!([{"value": "200", "count": 4}]), "{values}");
    assert_eq!(
        (&values["lines"], &values["absent"], &values["distinct"]),
        (&json!(7), &json!(3), &json!(2)),
        "{values}"
    );
}

#[tokio::test]
async fn lines_around_a_line() {
    let server = filled();
    let at = (NOW_NS - 30 * SECOND_NS).to_string();
    let shown = |data: &Value, part: &str| -> Vec<String> {
        data[part].as_array().unwrap().iter().map(|l| l["line"].as_str().unwrap().chars().take(60).collect()).collect()
    };
    let stream = r#"{"service_name":"shop","host":"a"}"#;
    let data = ask(&server, "context", &[("time", &at), ("stream", stream), ("before", "2"), ("after", "1")]).await;
    assert_eq!(shown(&data, "before").len(), 2, "{data}");
    assert!(shown(&data, "before")[1].contains("took=14ms"), "{data}");
    assert!(shown(&data, "at")[0].contains("took=21ms"), "{data}");
    assert!(shown(&data, "after")[0].contains("took=28ms"), "{data}");
    assert_eq!((&data["moreBefore"], &data["moreAfter"]), (&json!(true), &json!(true)));
    // Of all streams, and of a trace.
    let data = ask(&server, "context", &[("time", &at)]).await;
    assert_eq!((shown(&data, "before").len(), shown(&data, "at").len(), shown(&data, "after").len()), (3, 4, 3));
    assert_eq!((&data["moreBefore"], &data["moreAfter"]), (&json!(false), &json!(false)));
    let data = ask(&server, "context", &[("time", &at), ("filter", "trace_id=t2")]).await;
    assert_eq!((shown(&data, "before").len(), shown(&data, "at").len(), shown(&data, "after").len()), (0, 1, 2));
    assert_eq!(asked(&server, "context", &[]).await.status, 400);
}

#[tokio::test]
async fn exports_are_whole() {
    let server = filled();
    let got = asked(&server, "export", &[]).await;
    assert_eq!((got.status.as_u16(), got.headers["content-type"].to_str().unwrap()), (200, "application/x-ndjson"));
    let exported: Vec<Value> = got.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let searched = ask(&server, "search", &[("direction", "forward")]).await;
    let texts: Vec<String> = exported.iter().map(|l| l["line"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts, lines(&searched));
    assert_eq!(exported[0]["time"], "2023-11-14T22:12:20Z", "{}", exported[0]);
    let columns =
        [("format", "csv"), ("columns", "time,service_name,code,line"), ("filter", "code=500"), ("limit", "2")];
    let got = asked(&server, "export", &columns).await;
    assert_eq!(got.headers["content-disposition"], "attachment; filename=\"logs.csv\"");
    assert_eq!(
        got.text(),
        "time,service_name,code,line\r\n\
         2023-11-14T22:12:20Z,shop,500,\"level=error msg=\"\"Request done\"\" code=500 took=0ms\"\r\n\
         2023-11-14T22:12:50Z,shop,500,\"level=error msg=\"\"Request done\"\" code=500 took=21ms\"\r\n"
    );
    assert_eq!(asked(&server, "export", &[("format", "xml")]).await.status, 400);
    assert_eq!(asked(&server, "export", &[("query", "{")]).await.status, 400);
    // More lines than a page has.
    let many = [("service_name", "many")];
    for i in 0..5003 {
        server.events.line(&many, NOW_NS - 20 * SECOND_NS + i / 3, &format!("line {i}"), &[]);
    }
    let got = asked(&server, "export", &[("filter", "service_name=many")]).await.text();
    let numbers: std::collections::BTreeSet<&str> = got.lines().collect();
    assert_eq!((got.lines().count(), numbers.len()), (5003, 5003));
}

#[tokio::test]
async fn new_patterns_are_those_without_a_line_before() {
    let server = Server::new();
    let shop = [("service_name", "shop")];
    let since = NOW_NS - 600 * SECOND_NS;
    // Stored by another process, so that nothing was learnt of it.
    server.events.line(&shop, since - 3600 * SECOND_NS, "user ann logged in", &[]);
    for (i, text) in ["user bob logged in", "user eve logged in", "disk sda1 is full now", "disk sdb2 is full now"]
        .iter()
        .enumerate()
    {
        server.push(&shop, since + (i as i64 + 1) * SECOND_NS, text, &[]).await;
    }
    let shown = |data: &Value| -> Vec<String> {
        let patterns = data["patterns"].as_array().unwrap();
        patterns.iter().map(|p| format!("{} {} {}", p["count"], p["pattern"].as_str().unwrap(), p["checked"])).collect()
    };
    let window = ("start", since.to_string());
    let data = ask(&server, "patterns", &[(window.0, window.1.as_str())]).await;
    assert_eq!(shown(&data), ["2 disk <_> is full now null", "2 user <_> logged in null"], "{data}");
    let first = &data["patterns"][0];
    assert_eq!(first["firstSeen"], json!((since + 3 * SECOND_NS).to_string()), "{data}");
    assert_eq!(first["lastSeen"], json!((since + 4 * SECOND_NS).to_string()), "{data}");
    let data = ask(&server, "patterns", &[("new_since", &since.to_string())]).await;
    assert_eq!(shown(&data), ["2 disk <_> is full now true"], "{data}");
    let data = ask(&server, "patterns", &[("new_since", &since.to_string()), ("lookback", "10m")]).await;
    assert_eq!(shown(&data).len(), 2, "nothing was looked at where the old line is: {data}");
}
