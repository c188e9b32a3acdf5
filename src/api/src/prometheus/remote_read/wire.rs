//! The messages of remote read (`prompb/remote.proto`, `prompb/types.proto` of prometheus/prometheus).

use prost::Message;
use trefoil_model::{CounterResetHint, FloatHistogram, HistogramSpan, SampleBuffer};

/// Response type: one message with samples.
pub(super) const SAMPLES: i32 = 0;
/// Response type: a stream of chunks.
pub(super) const STREAMED_XOR_CHUNKS: i32 = 1;
/// Chunk of floats.
pub(super) const XOR: i32 = 1;
/// Chunk of float histograms.
pub(super) const FLOAT_HISTOGRAM: i32 = 3;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) queries: Vec<Query>,
    #[prost(int32, repeated, tag = "2")]
    pub(super) accepted_response_types: Vec<i32>,
}

/// The hints (field 4) say what will be done with the samples; they are not used.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Query {
    #[prost(int64, tag = "1")]
    pub(super) start_timestamp_ms: i64,
    #[prost(int64, tag = "2")]
    pub(super) end_timestamp_ms: i64,
    #[prost(message, repeated, tag = "3")]
    pub(super) matchers: Vec<LabelMatcher>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelMatcher {
    #[prost(int32, tag = "1")]
    pub(super) r#type: i32,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) results: Vec<QueryResult>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    pub(super) timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// Populations are floats here, whatever the sender's flavour was.
#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(double, optional, tag = "2")]
    count_float: Option<f64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(double, optional, tag = "7")]
    zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<BucketSpan>,
    #[prost(double, repeated, tag = "10")]
    negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<BucketSpan>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    reset_hint: i32,
    #[prost(int64, tag = "15")]
    timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    custom_values: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ChunkedReadResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) chunked_series: Vec<ChunkedSeries>,
    #[prost(int64, tag = "2")]
    pub(super) query_index: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(super) chunks: Vec<Chunk>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Chunk {
    #[prost(int64, tag = "1")]
    pub(super) min_time_ms: i64,
    #[prost(int64, tag = "2")]
    pub(super) max_time_ms: i64,
    #[prost(int32, tag = "3")]
    pub(super) r#type: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) data: Vec<u8>,
}

/// A series with all its samples, stale markers included.
pub(super) fn time_series(labels: Vec<Label>, buffer: &SampleBuffer) -> TimeSeries {
    let mut histograms = buffer.histograms.iter().peekable();
    let mut out = TimeSeries { labels, ..TimeSeries::default() };
    for (i, (&timestamp, &value)) in buffer.times.iter().zip(&buffer.values).enumerate() {
        match histograms.next_if(|h| h.0 as usize == i) {
            Some((_, h)) => out.histograms.push(histogram(h, timestamp)),
            None => out.samples.push(Sample { value, timestamp }),
        }
    }
    out
}

fn histogram(h: &FloatHistogram, timestamp: i64) -> Histogram {
    let spans = |spans: &[HistogramSpan]| {
        spans.iter().map(|s| BucketSpan { offset: s.offset, length: s.length }).collect::<Vec<_>>()
    };
    Histogram {
        count_float: Some(h.count),
        sum: h.sum,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count_float: Some(h.zero_count),
        negative_spans: spans(&h.negative_spans),
        negative_counts: h.negative_buckets.clone(),
        positive_spans: spans(&h.positive_spans),
        positive_counts: h.positive_buckets.clone(),
        reset_hint: match h.counter_reset_hint {
            CounterResetHint::Unknown => 0,
            CounterResetHint::CounterReset => 1,
            CounterResetHint::NotCounterReset => 2,
            CounterResetHint::Gauge => 3,
        },
        timestamp,
        custom_values: h.custom_values.clone(),
    }
}
