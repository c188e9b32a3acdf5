//! `trefoil query`: asks a server and prints the answer.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::cli::{Output, QueryCommand, Target, Window};

/// Runs a query command.
pub(crate) async fn run(command: QueryCommand, now_ms: i64) -> anyhow::Result<()> {
    match command {
        QueryCommand::Promql { query, window, target } => promql(&query, &window, &target, now_ms).await,
        QueryCommand::Logql { query, limit, window, target } => logql(&query, limit, &window, &target, now_ms).await,
        QueryCommand::Trace { id, target } => trace(&id, &target).await,
    }
}

/// Longest time without a byte of an answer: more than the reference gives a query.
const STALL: Duration = Duration::from_secs(130);
/// Longest time until a connection is there.
const CONNECT: Duration = Duration::from_secs(10);
/// After this long without an answer a line says that it is waited for.
const SILENCE: Duration = Duration::from_secs(10);

/// The client for a server.
pub(crate) fn client(target: &Target) -> anyhow::Result<reqwest::Client> {
    let client = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(STALL);
    let mut client = client.tls_danger_accept_invalid_certs(target.insecure);
    if let Some(file) = &target.ca_file {
        let pem = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
        client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).context("read certificates")?);
    }
    client.build().context("http client")
}

/// Asks a server by GET; the answer's JSON, or its error.
pub(crate) async fn ask(target: &Target, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
    send(target, reqwest::Method::GET, path, query).await
}

/// Asks a server by POST, likewise.
pub(crate) async fn post(target: &Target, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
    send(target, reqwest::Method::POST, path, query).await
}

async fn send(target: &Target, method: reqwest::Method, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
    let client = client(target)?;
    let mut request = client.request(method, format!("{}{path}", target.server.trim_end_matches('/'))).query(query);
    if let Some(value) = &target.authorization {
        request = request.header("authorization", value);
    }
    let (status, text) = answer(request, &target.server).await?;
    let json: Option<Value> = serde_json::from_str(&text).ok();
    if status.is_success() {
        return json.with_context(|| format!("the answer is not JSON: {text:.200}"));
    }
    let message = json.as_ref().and_then(|j| j["error"].as_str().or(j["errors"][0]["msg"].as_str()));
    bail!("{status}: {}", message.unwrap_or(text.trim()))
}

/// Status and text of an answer. Who does not answer is told on standard error, and is an error in the end.
async fn answer(request: reqwest::RequestBuilder, server: &str) -> anyhow::Result<(reqwest::StatusCode, String)> {
    let whole = async {
        let response = request.send().await.map_err(|error| explain(error, server))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| explain(error, server))?;
        anyhow::Ok((status, text))
    };
    let mut whole = std::pin::pin!(whole);
    match tokio::time::timeout(SILENCE, &mut whole).await {
        Ok(answer) => answer,
        Err(_) => {
            crate::tsdb::say(&format!("{server} has not answered for {SILENCE:?}; still waiting"));
            whole.await
        }
    }
}

fn explain(error: reqwest::Error, server: &str) -> anyhow::Error {
    let is_stalled = error.is_timeout() && !error.is_connect();
    let error = anyhow::Error::new(error);
    if is_stalled {
        return error.context(format!("{server} sent nothing for {STALL:?}: it hangs, or the query takes too long"));
    }
    error.context(format!("ask {server}"))
}

/// Unix milliseconds of a time as a user writes it.
pub(crate) fn time_ms(text: &str, now_ms: i64) -> anyhow::Result<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Ok((seconds * 1000.0) as i64);
    }
    if let Ok(before) = trefoil_config::PromDuration::parse(text) {
        return Ok(now_ms - before.as_ms());
    }
    let time: jiff::Timestamp = text.parse().with_context(|| format!("{text:?} is neither a time nor a duration"))?;
    Ok(time.as_millisecond())
}

async fn promql(query: &str, window: &Window, target: &Target, now_ms: i64) -> anyhow::Result<()> {
    let end = window.end.as_deref().map_or(Ok(now_ms), |t| time_ms(t, now_ms))?;
    let seconds = |ms: i64| format!("{:.3}", ms as f64 / 1000.0);
    let answer = match &window.start {
        None => ask(target, "/api/v1/query", &[("query", query.to_owned()), ("time", seconds(end))]).await?,
        Some(start) => {
            let start = time_ms(start, now_ms)?;
            let step = window.step.clone().unwrap_or_else(|| format!("{}s", ((end - start) / 250_000).max(1)));
            let parameters =
                [("query", query.to_owned()), ("start", seconds(start)), ("end", seconds(end)), ("step", step)];
            ask(target, "/api/v1/query_range", &parameters).await?
        }
    };
    if target.output == Output::Json {
        return print(&serde_json::to_string_pretty(&answer)?);
    }
    let notes = [&answer["warnings"], &answer["infos"]].into_iter().filter_map(Value::as_array).flatten();
    let mut rows: Vec<String> = notes.filter_map(Value::as_str).map(|n| format!("# {n}")).collect();
    let data = &answer["data"];
    let point = |p: &Value| format!("{}  {}", time_text(&p[0]), p[1].as_str().unwrap_or("(histogram)"));
    match data["resultType"].as_str() {
        Some("vector") => rows.extend(items(&data["result"]).map(|s| {
            let value = s["value"][1].as_str().or(s["histogram"][1]["count"].as_str()).unwrap_or("");
            format!("{}  {value}", series_text(&s["metric"]))
        })),
        Some("matrix") => {
            for series in items(&data["result"]) {
                rows.push(series_text(&series["metric"]));
                rows.extend(items(&series["values"]).map(|p| format!("  {}", point(p))));
            }
        }
        _ => rows.push(point(&data["result"])),
    }
    print(&rows.join("\n"))
}

async fn logql(query: &str, limit: u32, window: &Window, target: &Target, now_ms: i64) -> anyhow::Result<()> {
    let end = window.end.as_deref().map_or(Ok(now_ms), |t| time_ms(t, now_ms))?;
    let start = window.start.as_deref().map_or(Ok(end - 3_600_000), |t| time_ms(t, now_ms))?;
    let ns = |ms: i64| format!("{ms}000000");
    let mut parameters = vec![
        ("query", query.to_owned()),
        ("start", ns(start)),
        ("end", ns(end)),
        ("limit", limit.to_string()),
        ("direction", "backward".to_owned()),
    ];
    parameters.extend(window.step.clone().map(|s| ("step", s)));
    let answer = ask(target, "/loki/api/v1/query_range", &parameters).await?;
    if target.output == Output::Json {
        return print(&serde_json::to_string_pretty(&answer)?);
    }
    let data = &answer["data"];
    let mut rows = Vec::new();
    if data["resultType"] == "streams" {
        let mut lines: Vec<(i64, String)> = items(&data["result"])
            .flat_map(|s| {
                let labels = series_text(&s["stream"]);
                items(&s["values"]).map(move |v| {
                    let at: i64 = v[0].as_str().and_then(|t| t.parse().ok()).unwrap_or(0);
                    (at, format!("{}  {labels}  {}", ns_text(at), v[1].as_str().unwrap_or("")))
                })
            })
            .collect();
        lines.sort_by_key(|(at, _)| *at);
        rows.extend(lines.into_iter().map(|(_, text)| text));
    } else {
        for series in items(&data["result"]) {
            rows.push(series_text(&series["metric"]));
            let points = items(&series["values"]);
            rows.extend(points.map(|p| format!("  {}  {}", time_text(&p[0]), p[1].as_str().unwrap_or(""))));
        }
    }
    print(&rows.join("\n"))
}

async fn trace(id: &str, target: &Target) -> anyhow::Result<()> {
    let answer = ask(target, &format!("/jaeger/api/traces/{id}"), &[]).await?;
    if target.output == Output::Json {
        return print(&serde_json::to_string_pretty(&answer)?);
    }
    let trace = &answer["data"][0];
    let mut spans: Vec<&Value> = items(&trace["spans"]).collect();
    spans.sort_by_key(|s| s["startTime"].as_i64());
    let first = spans.first().and_then(|s| s["startTime"].as_i64()).unwrap_or(0);
    let mut rows = Vec::new();
    for span in &spans {
        let parent = |s: &Value| {
            items(&s["references"])
                .find(|r| r["refType"] == "CHILD_OF")
                .and_then(|r| r["spanID"].as_str())
                .map(str::to_owned)
        };
        let mut depth = 0;
        let mut above = parent(span);
        // A trace whose parents form a ring must not keep us here.
        while let Some(id) = above.filter(|_| depth < 64) {
            depth += 1;
            above = spans.iter().find(|s| s["spanID"] == id.as_str()).and_then(|s| parent(s));
        }
        let service =
            span["processID"].as_str().map_or("", |p| trace["processes"][p]["serviceName"].as_str().unwrap_or(""));
        let failed = items(&span["tags"]).any(|t| t["key"] == "error" && t["value"] == true);
        let start = (span["startTime"].as_i64().unwrap_or(0) - first) as f64 / 1000.0;
        let duration = span["duration"].as_i64().unwrap_or(0) as f64 / 1000.0;
        rows.push(format!(
            "{start:>10.3} ms {duration:>10.3} ms  {}{service}: {}{}",
            "  ".repeat(depth),
            span["operationName"].as_str().unwrap_or(""),
            if failed { "  (error)" } else { "" }
        ));
    }
    print(&rows.join("\n"))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn series_text(labels: &Value) -> String {
    let Some(labels) = labels.as_object() else { return "{}".to_owned() };
    let name = labels.get("__name__").and_then(Value::as_str).unwrap_or("");
    let mut pairs: Vec<String> = labels
        .iter()
        .filter(|(n, _)| *n != "__name__")
        .map(|(n, v)| format!("{n}={:?}", v.as_str().unwrap_or("")))
        .collect();
    pairs.sort();
    format!("{name}{{{}}}", pairs.join(", "))
}

fn time_text(seconds: &Value) -> String {
    ns_text((seconds.as_f64().unwrap_or(0.0) * 1000.0) as i64 * 1_000_000)
}

fn ns_text(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns)).map_or_else(|_| ns.to_string(), |t| format!("{t:.3}"))
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").context("write the answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_users_write_them() {
        let now = 1_700_000_000_000;
        assert_eq!(time_ms("1h", now).unwrap(), now - 3_600_000);
        assert_eq!(time_ms("1.5", now).unwrap(), 1500);
        assert_eq!(time_ms("1970-01-01T00:00:02Z", now).unwrap(), 2000);
        assert!(time_ms("yesterday", now).is_err());
    }

    #[test]
    fn series_read_as_in_promql() {
        let labels = serde_json::json!({"__name__": "up", "job": "a\"b", "a": "1"});
        assert_eq!(series_text(&labels), r#"up{a="1", job="a\"b"}"#);
    }

    #[tokio::test]
    async fn a_server_that_hangs_is_given_up() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::builder().read_timeout(Duration::from_millis(50)).build().unwrap();
        let error = format!("{:#}", answer(client.get(&server), &server).await.unwrap_err());
        assert!(error.starts_with(&format!("{server} sent nothing for ")), "{error}");
        drop(listener);
        let error = format!("{:#}", answer(client.get(&server), &server).await.unwrap_err());
        assert!(error.starts_with(&format!("ask {server}: ")), "{error}");
    }
}
