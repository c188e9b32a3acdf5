//! Store mocks, an `Ingest` over them, and builders of request bodies.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use parking_lot::Mutex;
use trefoil_ingest::{Answer, Ingest, IngestOptions};
use trefoil_model::{EventWriter, LogBatch, MetricBatch, MetricWriter, TraceBatch, WriteError, WriteReport};
use trefoil_runtime::clock::SimClock;
use trefoil_runtime::limits::Limits;
use trefoil_runtime::memory::Accountant;

/// The time at which all tests run.
pub const NOW_MS: i64 = 1_700_000_000_000;
pub const NOW_NS: i64 = NOW_MS * 1_000_000;

/// Keeps what was written, or refuses it.
#[derive(Default)]
pub struct Stores {
    pub metrics: Mutex<Vec<MetricBatch>>,
    pub logs: Mutex<Vec<LogBatch>>,
    pub traces: Mutex<Vec<TraceBatch>>,
    pub unavailable: Mutex<bool>,
    /// Samples of new metrics are refused one by one.
    pub refuses_samples: Mutex<bool>,
}

impl Stores {
    fn check(&self) -> Result<(), WriteError> {
        if *self.unavailable.lock() {
            return Err(WriteError::Unavailable {
                reason: "disk is full".to_owned(),
                retry_after: Duration::from_millis(2500),
            });
        }
        Ok(())
    }

    /// Nothing was written.
    pub fn are_empty(&self) -> bool {
        self.metrics.lock().is_empty() && self.logs.lock().is_empty() && self.traces.lock().is_empty()
    }

    /// The only metric batch, with the `target_info` that is written apart.
    pub fn metric_batch(&self) -> MetricBatch {
        let batches = self.metrics.lock();
        let mut all = batches[0].clone();
        for info in &batches[1..] {
            for point in &info.floats {
                let labels = &info.series[point.series as usize];
                assert_eq!(labels.metric_name(), "target_info");
                all.push_float(labels.clone(), point.t_ms, point.value);
            }
        }
        all
    }

    /// The only log batch.
    pub fn log_batch(&self) -> LogBatch {
        let batches = self.logs.lock();
        assert_eq!(batches.len(), 1);
        batches[0].clone()
    }
}

#[async_trait::async_trait]
impl MetricWriter for Stores {
    async fn write(&self, batch: MetricBatch) -> Result<WriteReport, WriteError> {
        self.check()?;
        let accepted = batch.sample_count() as u64;
        if *self.refuses_samples.lock() {
            let mut report = WriteReport::default();
            (0..accepted).for_each(|i| report.reject(|| format!("sample {i}: too many series")));
            return Ok(report);
        }
        self.metrics.lock().push(batch);
        Ok(WriteReport { accepted, ..WriteReport::default() })
    }
}

#[async_trait::async_trait]
impl EventWriter for Stores {
    async fn write_logs(&self, batch: LogBatch) -> Result<WriteReport, WriteError> {
        self.check()?;
        let accepted = batch.record_count() as u64;
        self.logs.lock().push(batch);
        Ok(WriteReport { accepted, ..WriteReport::default() })
    }

    async fn write_spans(&self, batch: TraceBatch) -> Result<WriteReport, WriteError> {
        self.check()?;
        let accepted = batch.span_count() as u64;
        self.traces.lock().push(batch);
        Ok(WriteReport { accepted, ..WriteReport::default() })
    }
}

/// An `Ingest` and the stores behind it.
pub struct Setup {
    pub ingest: Ingest,
    pub stores: Arc<Stores>,
    pub accountant: Accountant,
}

pub fn setup() -> Setup {
    setup_with(Limits::default(), Accountant::new(4 << 30), IngestOptions::default())
}

pub fn setup_with(limits: Limits, accountant: Accountant, options: IngestOptions) -> Setup {
    let stores = Arc::new(Stores::default());
    let clock = SimClock::new(NOW_MS);
    let ingest = Ingest::new(stores.clone(), stores.clone(), limits, accountant.clone(), clock, options);
    Setup { ingest, stores, accountant }
}

pub fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
}

pub const PROTOBUF: &[(&str, &str)] = &[("content-type", "application/x-protobuf")];
pub const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

pub fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

pub fn snappy(bytes: &[u8]) -> Bytes {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap().into()
}

pub fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().into()
}

pub fn zlib(bytes: &[u8]) -> Bytes {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().into()
}

pub fn raw_deflate(bytes: &[u8]) -> Bytes {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().into()
}

pub fn zstd(bytes: &[u8]) -> Bytes {
    zstd::bulk::compress(bytes, 3).unwrap().into()
}

/// Every record: `{stream} +nanoseconds line [attributes] severity trace span`.
pub fn shown_logs(batch: &LogBatch) -> Vec<String> {
    let records = batch.groups.iter().flat_map(|g| g.records.iter().map(move |r| (&g.stream, r)));
    records
        .map(|(stream, r)| {
            let attributes: Vec<_> = r.attributes.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let trace = r.trace_id.map(|t| t.to_string()).unwrap_or_default();
            let span = r.span_id.map(|t| t.to_string()).unwrap_or_default();
            let line = format!("{stream} +{} {} [{}]", r.time_ns - NOW_NS, r.text, attributes.join(" "));
            format!("{line} {} {trace} {span}", r.severity_text).trim_end().to_owned()
        })
        .collect()
}

pub fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(string(value)), key_strindex: 0 }
}

pub fn string(value: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(value.to_owned())) }
}

/// Label sets in Prometheus notation with their samples, sorted: `{...} value@time`.
pub fn samples(batch: &MetricBatch) -> Vec<String> {
    let mut out: Vec<String> = batch
        .floats
        .iter()
        .map(|p| {
            let value = if trefoil_model::is_stale_nan(p.value) { "stale".to_owned() } else { p.value.to_string() };
            format!("{} {value}@{}", batch.series[p.series as usize], p.t_ms)
        })
        .collect();
    out.sort();
    out
}
