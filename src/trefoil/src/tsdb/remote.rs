//! A running server as a source of samples: series from `/api/v1/series`, samples by remote read in chunks where the
//! server has it, else by range selectors, over windows that grow as far as their answers are small.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use anyhow::Context;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::runtime::Handle;
use trefoil_model::time::{DAY_MS, day_of_ms};
use trefoil_model::{
    Labels, Matcher, MetricReader, QueryBudget, SampleBuffer, SelectRequest, SelectedSeries, SeriesSource, StoreError,
    TimeRange,
};

use trefoil_transfer::prometheus::chunk::Value as Sample;
use trefoil_transfer::remote_read;

use crate::cli::Target;
use crate::query::ask;

/// Samples of an answer below which the next window is four times as long, and above which it is half as long.
const ANSWER_SAMPLES_LOW: usize = 25_000;
const ANSWER_SAMPLES_HIGH: usize = 200_000;
/// Longest answer to a remote read.
const CHUNKS_BYTES_MAX: usize = 1 << 30;

/// A server.
pub(super) struct RemoteReader {
    shared: Arc<Shared>,
}

struct Shared {
    target: Target,
    chunks: Option<Chunks>,
    runtime: Handle,
    left_out: AtomicU64,
    /// End of the export in Unix milliseconds, exclusive.
    end_ms: i64,
    /// Length of the next window in milliseconds.
    window_ms: AtomicI64,
}

impl Shared {
    fn ask(&self, path: &str, parameters: &[(&str, String)]) -> Result<Value, StoreError> {
        let answer = self.runtime.block_on(ask(&self.target, path, parameters));
        answer.map_err(|e| StoreError::Unsupported(format!("{e:#}")))
    }

    /// Whether there are series on any of these days, the last included.
    fn has_series(&self, first: i64, last: i64) -> Result<bool, StoreError> {
        let end = last.saturating_add(1).saturating_mul(DAY_MS).saturating_sub(1);
        let parameters = [
            ("match[]", "{__name__!=\"\"}".to_owned()),
            ("start", seconds(first.saturating_mul(DAY_MS))),
            ("end", seconds(end)),
            ("limit", "1".to_owned()),
        ];
        let answer = self.ask("/api/v1/series", &parameters)?;
        Ok(answer["data"].as_array().is_some_and(|series| !series.is_empty()))
    }
}

/// Remote read of a server.
struct Chunks {
    client: reqwest::Client,
    /// Labels that the server puts to every series which has them not: external ones.
    external: Vec<(String, String)>,
}

impl Chunks {
    /// Asks whether a server streams chunks; `None` when it does not, or does not say what it adds to labels.
    async fn probe(target: &Target) -> anyhow::Result<Option<Self>> {
        let Ok(config) = ask(target, "/api/v1/status/config", &[]).await else { return Ok(None) };
        let Some(external) = external_labels(config["data"]["yaml"].as_str().unwrap_or_default()) else {
            return Ok(None);
        };
        let chunks = Self { client: crate::query::client(target)?, external };
        let nothing = Labels::from_pairs([("__name__", "nothing")]);
        Ok(match chunks.post(target, &nothing, TimeRange::new(0, 1)).await {
            Ok(_) => Some(chunks),
            Err(error) => {
                tracing::debug!(%error, "no remote read");
                None
            }
        })
    }

    /// The labels of a series as the server sends them.
    fn sent(&self, labels: &Labels) -> Labels {
        let mut all = labels.to_builder();
        for (name, value) in &self.external {
            if all.get(name).is_none() {
                all.set(name, value);
            }
        }
        all.build()
    }

    async fn post(&self, target: &Target, labels: &Labels, range: TimeRange) -> anyhow::Result<Vec<u8>> {
        let url = format!("{}/api/v1/read", target.server.trim_end_matches('/'));
        // Who asks for an external label asks for series that have it not themselves.
        let is_external = |(name, value): &(&str, &str)| self.external.iter().any(|(n, v)| n == name && v == value);
        let labels = Labels::from_pairs(labels.iter().filter(|label| !is_external(label)));
        let mut request = self
            .client
            .post(&url)
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "snappy")
            .header("x-prometheus-remote-read-version", "0.1.0")
            .body(remote_read::request(&labels, range)?);
        if let Some(value) = &target.authorization {
            request = request.header("authorization", value);
        }
        let mut response = request.send().await.with_context(|| format!("ask {url}"))?;
        let status = response.status();
        if !status.is_success() {
            anyhow::bail!("{url}: {status}: {:.500}", response.text().await.unwrap_or_default().trim());
        }
        let form = response.headers().get("content-type").and_then(|form| form.to_str().ok()).unwrap_or_default();
        if !form.starts_with(remote_read::STREAMED) {
            anyhow::bail!("{url}: the answer is {form:?}, not a stream of chunks");
        }
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.context("read answer")? {
            if body.len() + bytes.len() > CHUNKS_BYTES_MAX {
                anyhow::bail!("{url}: the answer is longer than {CHUNKS_BYTES_MAX} bytes");
            }
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }
}

/// The external labels that a configuration names; `None` when it cannot be read.
fn external_labels(yaml: &str) -> Option<Vec<(String, String)>> {
    // Of the rest nothing is needed, and it may name files of the server.
    let mut global = yaml.lines().skip_while(|line| line.trim_end() != "global:");
    let Some(head) = global.next() else { return Some(Vec::new()) };
    let indented = global.take_while(|line| line.starts_with([' ', '#']) || line.is_empty());
    let text: Vec<&str> = std::iter::once(head).chain(indented).collect();
    let none = |_: &str| None;
    let loaded = trefoil_config::Config::parse(&text.join("\n"), std::path::Path::new(""), &none).ok()?;
    let labels = &loaded.config.global.external_labels;
    Some(labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

/// A selector in PromQL.
fn selector(matchers: impl Iterator<Item = (String, &'static str, String)>) -> String {
    let parts: Vec<String> = matchers
        .map(|(name, op, value)| {
            let quote = |text: &str| serde_json::Value::from(text).to_string();
            let name = if trefoil_model::labels::is_legacy_label_name(&name) { name } else { quote(&name) };
            format!("{name}{op}{}", quote(&value))
        })
        .collect();
    format!("{{{}}}", parts.join(","))
}

impl RemoteReader {
    /// A server and the days of a range on which it may have samples: from the first with series on, not before 1970
    /// unless the range begins there.
    pub(super) fn new(target: Target, range: TimeRange) -> anyhow::Result<(Self, Vec<i64>)> {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let end = range.end_ms.min(now_ms.saturating_add(DAY_MS));
        let start = if range.start_ms == i64::MIN { 0 } else { range.start_ms };
        let (mut first, last) = (day_of_ms(start), day_of_ms(end.saturating_sub(1)));
        let runtime = Handle::current();
        let shared = Shared {
            chunks: runtime.block_on(Chunks::probe(&target))?,
            target,
            runtime,
            left_out: AtomicU64::new(0),
            end_ms: end,
            window_ms: AtomicI64::new(DAY_MS),
        };
        let mut until = last;
        while first < until {
            let middle = first + (until - first) / 2;
            if shared.has_series(first, middle).context("look for the first day")? {
                until = middle;
            } else {
                first = middle + 1;
            }
        }
        Ok((Self { shared: Arc::new(shared) }, (first..=last).collect()))
    }

    /// Whether samples come by remote read, which has all of them but start timestamps.
    pub(super) fn is_whole(&self) -> bool {
        self.shared.chunks.is_some()
    }

    /// Native histogram samples that were passed over.
    pub(super) fn left_out(&self) -> u64 {
        self.shared.left_out.load(Ordering::Relaxed)
    }
}

struct RemoteSeries {
    shared: Arc<Shared>,
    labels: Labels,
    /// What the last answer held: its half-open time, samples.
    held: Mutex<(TimeRange, Vec<(i64, Sample)>)>,
}

impl SeriesSource for RemoteSeries {
    fn read(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), StoreError> {
        let mut held = self.held.lock();
        if range.start_ms < held.0.start_ms || range.end_ms > held.0.end_ms {
            let window_ms = self.shared.window_ms.load(Ordering::Relaxed);
            let end_ms = range.start_ms.saturating_add(window_ms).min(self.shared.end_ms).max(range.end_ms);
            let window = TimeRange::new(range.start_ms, end_ms);
            let samples = self.fetch(window)?;
            let next = match samples.len() {
                0..ANSWER_SAMPLES_LOW => window_ms.saturating_mul(4),
                ANSWER_SAMPLES_LOW..ANSWER_SAMPLES_HIGH => window_ms,
                _ => (window_ms / 2).max(DAY_MS),
            };
            self.shared.window_ms.store(next, Ordering::Relaxed);
            *held = (window, samples);
        }
        let from = held.1.partition_point(|(t, _)| *t < range.start_ms);
        for (t, value) in held.1[from..].iter().take_while(|(t, _)| *t < range.end_ms) {
            match value {
                Sample::Float(value) => out.push_float(*t, 0, *value),
                Sample::Histogram(histogram) => out.push_histogram(*t, 0, Arc::clone(histogram)),
            }
        }
        if range.end_ms >= self.shared.end_ms {
            held.1 = Vec::new();
            held.0 = TimeRange::new(0, 0);
        }
        Ok(())
    }
}

impl RemoteSeries {
    fn fetch(&self, range: TimeRange) -> Result<Vec<(i64, Sample)>, StoreError> {
        match &self.shared.chunks {
            Some(chunks) => self.fetch_chunks(chunks, range),
            None => self.fetch_query(range),
        }
    }

    fn fetch_chunks(&self, chunks: &Chunks, range: TimeRange) -> Result<Vec<(i64, Sample)>, StoreError> {
        let body = self.shared.runtime.block_on(chunks.post(&self.shared.target, &self.labels, range));
        let body = body.map_err(|error| StoreError::Unsupported(format!("{error:#}")))?;
        let mut out = Vec::new();
        let wanted = chunks.sent(&self.labels);
        // The request takes series with further labels too, and servers send whole chunks.
        remote_read::read(&body, &mut |labels| *labels == wanted, &mut |t, _, value| {
            if range.start_ms <= t && t < range.end_ms {
                out.push((t, value));
            }
        })?;
        out.sort_by_key(|(t, _)| *t);
        out.dedup_by_key(|(t, _)| *t);
        Ok(out)
    }

    fn fetch_query(&self, range: TimeRange) -> Result<Vec<(i64, Sample)>, StoreError> {
        let mut out = Vec::new();
        let labels = self.labels.iter().map(|(n, v)| (n.to_owned(), "=", v.to_owned()));
        // A range selector leaves out its left end, so that these are just the samples of the half-open range.
        let query = format!("{}[{}ms]", selector(labels), range.end_ms.saturating_sub(range.start_ms));
        let parameters = [("query", query), ("time", seconds(range.end_ms.saturating_sub(1)))];
        let answer = self.shared.ask("/api/v1/query", &parameters)?;
        let broken = || StoreError::Corrupt("the server's answer has a sample that is not one".to_owned());
        for series in answer["data"]["result"].as_array().into_iter().flatten() {
            // The selector takes series with further labels too.
            if labels_of(&series["metric"]) != self.labels {
                continue;
            }
            for point in series["values"].as_array().into_iter().flatten() {
                let time = point[0].as_f64().map(|t| (t * 1000.0).round() as i64);
                let value = point[1].as_str().and_then(|v| v.parse::<f64>().ok());
                let (Some(t), Some(value)) = (time, value) else { return Err(broken()) };
                // The answer's "NaN" is the one that Prometheus computes with.
                let value = if value.is_nan() { f64::from_bits(0x7ff8_0000_0000_0001) } else { value };
                out.push((t, Sample::Float(value)));
            }
            let histograms = series["histograms"].as_array().map_or(0, Vec::len);
            self.shared.left_out.fetch_add(histograms as u64, Ordering::Relaxed);
        }
        Ok(out)
    }
}

fn labels_of(metric: &Value) -> Labels {
    let pairs = metric.as_object().into_iter().flatten();
    Labels::from_pairs(pairs.map(|(n, v)| (n.clone(), v.as_str().unwrap_or("").to_owned())))
}

impl MetricReader for RemoteReader {
    fn select(&self, request: &SelectRequest, _: &dyn QueryBudget) -> Result<Vec<SelectedSeries>, StoreError> {
        let matcher = |m: &Matcher| (m.name.clone(), m.op.as_str(), m.value.clone());
        let mut text = selector(request.matchers.iter().map(matcher));
        if request.matchers.is_empty() {
            text = "{__name__!=\"\"}".to_owned();
        }
        let mut parameters = vec![
            ("match[]", text),
            ("start", seconds(if request.range.start_ms == i64::MIN { 0 } else { request.range.start_ms })),
        ];
        if request.range.end_ms != i64::MAX {
            parameters.push(("end", seconds(request.range.end_ms.saturating_sub(1))));
        }
        let answer = self.shared.ask("/api/v1/series", &parameters)?;
        let series =
            answer["data"].as_array().context("no list of series").map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let mut found: Vec<SelectedSeries> = series
            .iter()
            .map(|s| {
                let labels = labels_of(s);
                let held = Mutex::new((TimeRange::new(0, 0), Vec::new()));
                let source = RemoteSeries { shared: Arc::clone(&self.shared), labels: labels.clone(), held };
                SelectedSeries { labels, source: Arc::new(source) }
            })
            .collect();
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(found)
    }

    fn series(
        &self,
        requests: &[SelectRequest],
        _: usize,
        budget: &dyn QueryBudget,
    ) -> Result<(Vec<Labels>, bool), StoreError> {
        let mut found = Vec::new();
        for request in requests {
            found.extend(self.select(request, budget)?.into_iter().map(|s| s.labels));
        }
        Ok((found, false))
    }

    trefoil_model::only_series!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_labels_come_from_the_global_section() {
        let check = |yaml: &str, expected: &[(&str, &str)]| {
            let found = external_labels(yaml).unwrap();
            assert_eq!(found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>(), expected, "{yaml}");
        };
        check("", &[]);
        check("global:\n  scrape_interval: 15s\nscrape_configs:\n- job_name: x\n", &[]);
        let yaml = "trefoil:\n  data_dir: /x\nglobal:\n  scrape_interval: 15s\n  external_labels:\n    dc: \"a b\"\n    host: h\nrule_files:\n- /none/*.yml\n";
        check(yaml, &[("dc", "a b"), ("host", "h")]);
        assert!(external_labels("global:\n  external_labels: [").is_none());
    }
}
