//! Remote write 1.0 as a sender: batches become `prometheus.WriteRequest`s in snappy, sent one after the other, so that
//! the receiver sets the pace. Start timestamps have no place in this version and are left out.

use std::time::Duration;

use prost::Message;
use reqwest::StatusCode;
use trefoil_model::{MetricBatch, WriteReport};

use crate::error::TransferError;
use crate::export::{ExportReport, Exporter};
use crate::import::BatchSink;
use crate::prompb::{Exemplar, Histogram, Sample, TimeSeries, WriteRequest, labels_of};

/// Samples in a request.
const REQUEST_SAMPLES: usize = 20_000;
/// Attempts before a request is given up, with waits of 1, 2, 4 ... seconds, 30 at most.
const ATTEMPTS: u32 = 8;
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Attempts when nobody listens: 15 seconds in all, enough for a restart.
const ATTEMPTS_UNREACHED: u32 = 5;
/// Attempts when the receiver takes a request and does not answer in time.
const ATTEMPTS_STALLED: u32 = 2;
/// Longest time of a request, unless somebody says otherwise.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Where and how to send.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The client, with its certificates and time limits.
    pub client: reqwest::Client,
    /// The whole URL, for example `http://host:9090/api/v1/write`.
    pub url: String,
    /// Value of the Authorization header.
    pub authorization: Option<String>,
    /// The runtime on which requests run; calls come from threads that may block.
    pub runtime: tokio::runtime::Handle,
    /// Gets a line when something is tried again.
    pub notice: fn(&str),
    /// Longest time of a request, for example [`REQUEST_TIMEOUT`].
    pub timeout: Duration,
}

/// Samples of a request that the receiver did not take, while it took the others.
struct Refused {
    samples: u64,
    reason: String,
}

impl Refused {
    /// From the text of an answer 400. Receivers store what is good and refuse the rest; ours says how many that are, of
    /// others all may be refused.
    fn of(text: &str, samples: u64) -> Self {
        let said = text.split_once(" items were rejected, all others are stored: ");
        match said.and_then(|(count, reason)| Some((count.trim().parse::<u64>().ok()?, reason))) {
            Some((count, reason)) => Self { samples: count.min(samples), reason: reason.trim().to_owned() },
            None => Self { samples, reason: text.trim().to_owned() },
        }
    }
}

/// Why an attempt failed.
struct Failed {
    reason: String,
    /// How often it is tried in all.
    attempts: u32,
}

impl Sender {
    /// Checks the URL: what is not HTTP will never be reached.
    pub fn check_url(url: &str) -> Result<(), TransferError> {
        let fail = |reason: String| TransferError::Http { url: url.to_owned(), reason };
        let parsed = reqwest::Url::parse(url).map_err(|e| fail(format!("is no URL: {e}")))?;
        match parsed.scheme() {
            "http" | "https" if parsed.host_str().is_some() => Ok(()),
            scheme => Err(fail(format!("must begin with http:// or https://, not with {scheme}:"))),
        }
    }

    /// Sends a request; what the receiver refused of it.
    fn send(&self, request: &WriteRequest) -> Result<Option<Refused>, TransferError> {
        let plain = request.encode_to_vec();
        let fail = |reason: String| TransferError::Http { url: self.url.clone(), reason };
        let body = snap::raw::Encoder::new().compress_vec(&plain).map_err(|e| fail(e.to_string()))?;
        let mut wait = Duration::from_secs(1);
        for attempt in 1.. {
            let (reason, attempts) = match self.runtime.block_on(self.post(body.clone())) {
                Ok((status, _)) if status.is_success() => return Ok(None),
                Ok((StatusCode::BAD_REQUEST, text)) => {
                    let samples =
                        request.timeseries.iter().map(|s| s.samples.len() + s.histograms.len()).sum::<usize>();
                    return Ok(Some(Refused::of(&text, samples as u64)));
                }
                Ok((status, text)) => {
                    let reason = format!("{status}: {}", text.trim());
                    // What the receiver will never take is not sent again.
                    if !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS {
                        return Err(fail(reason));
                    }
                    (reason, ATTEMPTS)
                }
                Err(failed) => (failed.reason, failed.attempts),
            };
            if attempt >= attempts {
                return Err(fail(format!("{reason} (after {attempt} attempts)")));
            }
            if attempt == 1 {
                (self.notice)(&format!("{}: {reason}; trying again, {attempts} times in all", self.url));
            }
            self.runtime.block_on(async { tokio::time::sleep(wait).await });
            wait = (wait * 2).min(WAIT_MAX);
        }
        unreachable!("the loop ends by the number of attempts")
    }

    async fn post(&self, body: Vec<u8>) -> Result<(StatusCode, String), Failed> {
        let mut request = self
            .client
            .post(&self.url)
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "snappy")
            .header("x-prometheus-remote-write-version", "0.1.0")
            .timeout(self.timeout)
            .body(body);
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        // The cause is what helps: "connection refused" is two levels down.
        let text = |e: reqwest::Error| {
            let mut text = e.to_string();
            let mut cause = std::error::Error::source(&e);
            while let Some(e) = cause {
                text = format!("{text}: {e}");
                cause = e.source();
            }
            let attempts = match () {
                () if e.is_connect() => ATTEMPTS_UNREACHED,
                () if e.is_timeout() => ATTEMPTS_STALLED,
                () => ATTEMPTS,
            };
            let stalled = format!("no answer within {:?}: {text}", self.timeout);
            Failed { reason: if attempts == ATTEMPTS_STALLED { stalled } else { text }, attempts }
        };
        let response = request.send().await.map_err(text)?;
        let status = response.status();
        let body = response.text().await.map_err(text)?;
        Ok((status, body.chars().take(500).collect()))
    }
}

impl BatchSink for Sender {
    fn write(&mut self, batch: MetricBatch) -> Result<WriteReport, TransferError> {
        let total = batch.sample_count() as u64;
        let mut series: Vec<TimeSeries> =
            batch.series.iter().map(|l| TimeSeries { labels: labels_of(l), ..TimeSeries::default() }).collect();
        for f in &batch.floats {
            series[f.series as usize].samples.push(Sample { value: Some(f.value), timestamp: f.t_ms });
        }
        for h in &batch.histograms {
            series[h.series as usize].histograms.push(Histogram::of(h.t_ms, &h.value));
        }
        for e in &batch.exemplars {
            let labels = labels_of(&e.labels);
            series[e.series as usize].exemplars.push(Exemplar { labels, value: Some(e.value), timestamp: e.t_ms });
        }
        let mut request = Requests::new(self);
        series.into_iter().try_for_each(|s| request.add(s))?;
        request.flush()?;
        let mut report = request.refused;
        report.accepted = total.saturating_sub(report.rejected);
        Ok(report)
    }
}

/// Gathers series into requests of bounded size.
struct Requests<'a> {
    sender: &'a Sender,
    request: WriteRequest,
    samples: usize,
    refused: WriteReport,
}

impl<'a> Requests<'a> {
    fn new(sender: &'a Sender) -> Self {
        Self { sender, request: WriteRequest::default(), samples: 0, refused: WriteReport::default() }
    }

    fn add(&mut self, series: TimeSeries) -> Result<(), TransferError> {
        self.samples += series.samples.len() + series.histograms.len() + 1;
        self.request.timeseries.push(series);
        if self.samples >= REQUEST_SAMPLES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), TransferError> {
        self.samples = 0;
        let request = std::mem::take(&mut self.request);
        if request.timeseries.is_empty() {
            return Ok(());
        }
        if let Some(refused) = self.sender.send(&request)? {
            self.refused.rejected += refused.samples;
            if self.refused.reasons.len() < WriteReport::REASONS_MAX {
                self.refused.reasons.push(refused.reason);
            }
        }
        Ok(())
    }
}

/// Replays the series of an exporter to a receiver.
pub fn export(exporter: &Exporter<'_>, sender: &Sender) -> Result<ExportReport, TransferError> {
    let mut report = ExportReport::default();
    let mut requests = Requests::new(sender);
    exporter.for_each(&mut |labels, samples, first| {
        report.series += u64::from(first);
        report.samples += samples.len() as u64;
        for (from, to) in slices(samples.len()) {
            requests.add(TimeSeries::of(labels_of(labels), samples, from..to))?;
        }
        Ok(())
    })?;
    requests.flush()?;
    let refused = requests.refused;
    if refused.rejected > 0 {
        (sender.notice)(&format!(
            "{} samples were refused by {}: {}",
            refused.rejected,
            sender.url,
            refused.reasons.join("; ")
        ));
    }
    report.refused = refused.rejected;
    report.samples = report.samples.saturating_sub(refused.rejected);
    Ok(report)
}

fn slices(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).step_by(REQUEST_SAMPLES).map(move |from| (from, (from + REQUEST_SAMPLES).min(count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_reached_by_http() {
        let check = |url: &str| Sender::check_url(url).map_err(|e| e.to_string());
        assert_eq!(check("http://127.0.0.1:9090/api/v1/write"), Ok(()));
        assert_eq!(check("https://h/x"), Ok(()));
        let want = "ftp://x: must begin with http:// or https://, not with ftp:";
        assert_eq!(check("ftp://x"), Err(want.to_owned()));
        assert!(check("h:9090").is_err() && check("nothing").is_err() && check("http://").is_err());
    }

    #[test]
    fn what_was_refused_is_counted() {
        let check = |text: &str, samples: u64, reason: &str| {
            let refused = Refused::of(text, 100);
            assert_eq!((refused.samples, refused.reason.as_str()), (samples, reason));
        };
        check("1 items were rejected, all others are stored: too old\n", 1, "too old");
        check("900 items were rejected, all others are stored: x", 100, "x");
        check("out of order sample", 100, "out of order sample");
        check("", 100, "");
    }
}
