//! A running server as a source of samples: series from `/api/v1/series`, samples by range selectors over windows that
//! grow as far as their answers are small.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use anyhow::Context;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::runtime::Handle;
use trefoil_model::time::{DAY_MS, day_of_ms};
use trefoil_model::{
    Exemplar, Labels, Matcher, MetricMetadata, MetricReader, QueryBudget, SampleBuffer, SelectRequest, SelectedSeries,
    SeriesSource, StoreError, TenantId, TimeRange,
};

use crate::cli::Target;
use crate::query::ask;

/// Samples of an answer below which the next window is four times as long, and above which it is half as long.
const ANSWER_SAMPLES_LOW: usize = 25_000;
const ANSWER_SAMPLES_HIGH: usize = 200_000;

/// A server.
pub(super) struct RemoteReader {
    shared: Arc<Shared>,
}

struct Shared {
    target: Target,
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
        let shared = Shared {
            target,
            runtime: Handle::current(),
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

    /// Native histogram samples that were passed over.
    pub(super) fn left_out(&self) -> u64 {
        self.shared.left_out.load(Ordering::Relaxed)
    }
}

struct RemoteSeries {
    shared: Arc<Shared>,
    labels: Labels,
    /// What the last answer held: its half-open time, samples.
    held: Mutex<(TimeRange, Vec<(i64, f64)>)>,
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
            out.push_float(*t, 0, *value);
        }
        if range.end_ms >= self.shared.end_ms {
            held.1 = Vec::new();
            held.0 = TimeRange::new(0, 0);
        }
        Ok(())
    }
}

impl RemoteSeries {
    fn fetch(&self, range: TimeRange) -> Result<Vec<(i64, f64)>, StoreError> {
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
                out.push((t, value));
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

    fn label_names(
        &self,
        _: TenantId,
        _: TimeRange,
        _: &[SelectRequest],
        _: usize,
        _: &dyn QueryBudget,
    ) -> Result<(Vec<String>, bool), StoreError> {
        Ok((Vec::new(), false))
    }

    fn label_values(
        &self,
        _: TenantId,
        _: &str,
        _: TimeRange,
        _: &[SelectRequest],
        _: usize,
        _: &dyn QueryBudget,
    ) -> Result<(Vec<String>, bool), StoreError> {
        Ok((Vec::new(), false))
    }

    fn exemplars(&self, _: &[SelectRequest], _: &dyn QueryBudget) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError> {
        Ok(Vec::new())
    }

    fn metadata(&self, _: TenantId, _: Option<&str>, _: usize) -> Vec<MetricMetadata> {
        Vec::new()
    }

    fn active_series(&self) -> u64 {
        0
    }
}
