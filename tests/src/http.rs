//! A small blocking HTTP client that never panics on a status.

use std::time::Duration;

use anyhow::Context;
use reqwest::blocking::{Client, RequestBuilder};
use serde_json::Value;

/// Requests to one server.
#[derive(Debug, Clone)]
pub struct Http {
    /// `http://127.0.0.1:port`, without a slash at the end.
    pub base: String,
    /// The client, for requests of other shapes.
    pub client: Client,
}

/// Status, headers of interest and body of an answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// All headers.
    pub headers: reqwest::header::HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics with the body when it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("not JSON ({e}): status {} {}", self.status, self.text()))
    }
}

impl Http {
    /// A client of `base`.
    pub fn new(base: impl Into<String>) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let client =
            Client::builder().timeout(Duration::from_secs(30)).no_proxy().build().expect("a client can be built");
        Self { base: base.into(), client }
    }

    /// A client of `base` that trusts one certificate and no other.
    pub fn trusting(base: impl Into<String>, certificate_pem: &str) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let certificate = reqwest::Certificate::from_pem(certificate_pem.as_bytes()).expect("a certificate in PEM");
        let client = Client::builder()
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .tls_certs_only([certificate])
            .build()
            .expect("a client can be built");
        Self { base: base.into(), client }
    }

    /// Sends a request.
    pub fn send(&self, request: RequestBuilder) -> anyhow::Result<Answer> {
        let response = request.send().context("send")?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().context("read body")?.to_vec() })
    }

    /// GET of a path with a query.
    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Answer> {
        self.send(self.client.get(format!("{}{path}", self.base)).query(query))
    }

    /// POST of a form.
    pub fn post_form(&self, path: &str, form: &[(&str, &str)]) -> anyhow::Result<Answer> {
        self.send(self.client.post(format!("{}{path}", self.base)).form(form))
    }

    /// POST of a body.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> anyhow::Result<Answer> {
        let request =
            headers.iter().fold(self.client.post(format!("{}{path}", self.base)), |r, (n, v)| r.header(*n, *v));
        self.send(request.body(body.into()))
    }

    /// GET with a value of the `Authorization` header.
    pub fn get_as(&self, authorization: &str, path: &str) -> anyhow::Result<Answer> {
        self.send(self.client.get(format!("{}{path}", self.base)).header("authorization", authorization))
    }

    /// GET of a path with a query whose answer must be 200 and JSON; the JSON, or why not.
    pub fn json(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let answer = self.get(path, query).map_err(|e| format!("{e:#}"))?;
        if answer.status != 200 {
            return Err(format!("{path}: status {}: {}", answer.status, answer.text()));
        }
        serde_json::from_slice(&answer.body).map_err(|e| format!("{path}: {e}: {}", answer.text()))
    }

    /// The lines of a LogQL query over the last hour and the next minute, oldest first, or the error.
    pub fn logql_lines(&self, query: &str) -> Result<Vec<String>, String> {
        let now = crate::wire::now_ns();
        let (start, end) = ((now - 3_600_000_000_000).to_string(), (now + 60_000_000_000).to_string());
        let window = [("query", query), ("start", &start), ("end", &end), ("limit", "1000")];
        let answer = self.json("/loki/api/v1/query_range", &window)?;
        let mut lines: Vec<(String, String)> = Vec::new();
        for stream in crate::items(&answer["data"]["result"]) {
            for value in crate::items(&stream["values"]) {
                lines.push((crate::text(&value[0]), crate::text(&value[1])));
            }
        }
        lines.sort();
        Ok(lines.into_iter().map(|(_, line)| line).collect())
    }

    /// Value of a counter or gauge on the server's own page; the sum over its labels, 0 when it is not there.
    pub fn own_metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics", &[]).expect("the server answers").text();
        let of_metric = |l: &&str| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values = page.lines().filter(of_metric).filter_map(|l| l.rsplit_once(' '));
        values.filter_map(|(_, v)| v.parse::<f64>().ok()).sum()
    }

    /// The `data.result` of an instant PromQL query now, or the error.
    pub fn promql(&self, query: &str) -> Result<Vec<Value>, String> {
        let answer = self.post_form("/api/v1/query", &[("query", query)]).map_err(|e| format!("{e:#}"))?;
        if answer.status != 200 {
            return Err(format!("status {}: {}", answer.status, answer.text()));
        }
        Ok(answer.json()["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    /// The value of the only sample of an instant PromQL query now, or why there is none.
    pub fn promql_value(&self, query: &str) -> Result<f64, String> {
        match self.promql(query)?.as_slice() {
            [one] => one["value"][1].as_str().and_then(|v| v.parse().ok()).ok_or_else(|| format!("no float in {one}")),
            other => Err(format!("{} samples for {query}", other.len())),
        }
    }
}
