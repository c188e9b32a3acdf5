//! The messages of remote write 1.0 and of remote read, for senders, servers and clients of them
//! (`prompb/remote.proto` and `prompb/types.proto` of prometheus/prometheus).

use std::ops::Range;

use prost::Message;
use trefoil_model::{CounterResetHint, FloatHistogram, HistogramSpan, Labels, SampleBuffer};

/// Response type of remote read: one message with samples.
pub const SAMPLES: i32 = 0;
/// Response type of remote read: a stream of chunks.
pub const STREAMED_XOR_CHUNKS: i32 = 1;

/// The body of a remote write 1.0 request.
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    /// Series, some maybe several times.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// A series with samples, exemplars and histograms.
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Its labels, sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Its floats.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Its exemplars.
    #[prost(message, repeated, tag = "3")]
    pub exemplars: Vec<Exemplar>,
    /// Its histograms.
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<Histogram>,
}

/// A label.
#[derive(Clone, PartialEq, Message)]
pub struct Label {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A float at a time.
#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    /// Value. Always there: of a plain field -0.0 would be left out as the default and arrive as 0.0.
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
    /// Unix milliseconds.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// An exemplar.
#[derive(Clone, PartialEq, Message)]
pub struct Exemplar {
    /// Its labels, sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Value, always there as of samples.
    #[prost(double, optional, tag = "2")]
    pub value: Option<f64>,
    /// Unix milliseconds.
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
}

/// A native histogram, of integer or of float populations.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// Observations, of integer populations.
    #[prost(uint64, optional, tag = "1")]
    pub count_int: Option<u64>,
    /// Observations, of float populations.
    #[prost(double, optional, tag = "2")]
    pub count_float: Option<f64>,
    /// Sum of the observations.
    #[prost(double, optional, tag = "3")]
    pub sum: Option<f64>,
    /// Resolution; -53: custom buckets.
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    /// Width of the zero bucket.
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    /// Observations in the zero bucket, of integer populations.
    #[prost(uint64, optional, tag = "6")]
    pub zero_count_int: Option<u64>,
    /// The same, of float populations.
    #[prost(double, optional, tag = "7")]
    pub zero_count_float: Option<f64>,
    /// Runs of the negative buckets.
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<BucketSpan>,
    /// Differences of integer populations.
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    /// Float populations.
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    /// Runs of the positive buckets.
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<BucketSpan>,
    /// Differences of integer populations.
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    /// Float populations.
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    /// 0 unknown, 1 reset, 2 no reset, 3 gauge.
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    /// Unix milliseconds.
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    /// Upper bounds of custom buckets.
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
}

/// A run of buckets.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct BucketSpan {
    /// Gap to the run before, for the first: index of its first bucket.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// Buckets.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

impl Histogram {
    /// The message of a histogram; integer populations stay integers.
    pub fn of(timestamp: i64, h: &FloatHistogram) -> Self {
        let spans = |s: &[HistogramSpan]| s.iter().map(|s| BucketSpan { offset: s.offset, length: s.length }).collect();
        let deltas = |counts: &[f64]| {
            let mut before = 0i64;
            counts.iter().map(|c| (*c as i64).wrapping_sub(std::mem::replace(&mut before, *c as i64))).collect()
        };
        let mut out = Self {
            sum: Some(h.sum),
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            negative_spans: spans(&h.negative_spans),
            positive_spans: spans(&h.positive_spans),
            reset_hint: match h.counter_reset_hint {
                CounterResetHint::Unknown => 0,
                CounterResetHint::CounterReset => 1,
                CounterResetHint::NotCounterReset => 2,
                CounterResetHint::Gauge => 3,
            },
            timestamp,
            custom_values: h.custom_values.clone(),
            ..Self::default()
        };
        if h.integer {
            (out.count_int, out.zero_count_int) = (Some(h.count as u64), Some(h.zero_count as u64));
            out.negative_deltas = deltas(&h.negative_buckets);
            out.positive_deltas = deltas(&h.positive_buckets);
        } else {
            (out.count_float, out.zero_count_float) = (Some(h.count), Some(h.zero_count));
            out.negative_counts = h.negative_buckets.clone();
            out.positive_counts = h.positive_buckets.clone();
        }
        out
    }
}

/// The messages of labels.
pub fn labels_of(labels: &Labels) -> Vec<Label> {
    labels.iter().map(|(n, v)| Label { name: n.to_owned(), value: v.to_owned() }).collect()
}

impl TimeSeries {
    /// The message of the samples in `indexes`, stale markers included.
    pub fn of(labels: Vec<Label>, samples: &SampleBuffer, indexes: Range<usize>) -> Self {
        let mut out = Self { labels, ..Self::default() };
        let first = samples.histograms.partition_point(|(i, _)| (*i as usize) < indexes.start);
        let mut histograms = samples.histograms[first..].iter().peekable();
        for i in indexes {
            let timestamp = samples.times[i];
            match histograms.next_if(|(at, _)| *at as usize == i) {
                Some((_, h)) => out.histograms.push(Histogram::of(timestamp, h)),
                None => out.samples.push(Sample { value: Some(samples.values[i]), timestamp }),
            }
        }
        out
    }
}

/// The body of a remote read request.
#[derive(Clone, PartialEq, Message)]
pub struct ReadRequest {
    /// Queries, answered in this order.
    #[prost(message, repeated, tag = "1")]
    pub queries: Vec<Query>,
    /// [`SAMPLES`] or [`STREAMED_XOR_CHUNKS`], the one that is wanted most first.
    #[prost(int32, repeated, tag = "2")]
    pub accepted_response_types: Vec<i32>,
}

/// A query. Its hints (field 4) say what will be done with the samples; they are not used.
#[derive(Clone, PartialEq, Message)]
pub struct Query {
    /// Unix milliseconds of the first sample.
    #[prost(int64, tag = "1")]
    pub start_timestamp_ms: i64,
    /// Unix milliseconds of the last sample, which is included.
    #[prost(int64, tag = "2")]
    pub end_timestamp_ms: i64,
    /// All must hold.
    #[prost(message, repeated, tag = "3")]
    pub matchers: Vec<LabelMatcher>,
}

/// A matcher.
#[derive(Clone, PartialEq, Message)]
pub struct LabelMatcher {
    /// 0 `=`, 1 `!=`, 2 `=~`, 3 `!~`.
    #[prost(int32, tag = "1")]
    pub r#type: i32,
    /// Name of the label.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Value or regular expression.
    #[prost(string, tag = "3")]
    pub value: String,
}

/// The answer as samples.
#[derive(Clone, PartialEq, Message)]
pub struct ReadResponse {
    /// One for each query.
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<QueryResult>,
}

/// The series of one query.
#[derive(Clone, PartialEq, Message)]
pub struct QueryResult {
    /// Sorted by labels.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// One frame of the answer as chunks.
#[derive(Clone, PartialEq, Message)]
pub struct ChunkedReadResponse {
    /// Series; a long one goes on in the next frame.
    #[prost(message, repeated, tag = "1")]
    pub chunked_series: Vec<ChunkedSeries>,
    /// Which query of the request this is of.
    #[prost(int64, tag = "2")]
    pub query_index: i64,
}

/// Chunks of a series.
#[derive(Clone, PartialEq, Message)]
pub struct ChunkedSeries {
    /// Its labels, sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// In order of time.
    #[prost(message, repeated, tag = "2")]
    pub chunks: Vec<Chunk>,
}

/// A chunk.
#[derive(Clone, PartialEq, Message)]
pub struct Chunk {
    /// Unix milliseconds of its first sample.
    #[prost(int64, tag = "1")]
    pub min_time_ms: i64,
    /// Unix milliseconds of its last sample.
    #[prost(int64, tag = "2")]
    pub max_time_ms: i64,
    /// Its encoding: 1 for floats, 2 for integer histograms, 3 for float histograms.
    #[prost(int32, tag = "3")]
    pub r#type: i32,
    /// The encoded samples.
    #[prost(bytes = "vec", tag = "4")]
    pub data: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_and_integer_histograms_keep_what_they_are() {
        let mut buffer = SampleBuffer::default();
        buffer.push_float(1, 0, -0.0);
        let h = FloatHistogram { count: 3.0, sum: -0.0, integer: true, ..FloatHistogram::default() };
        buffer.push_histogram(2, 0, std::sync::Arc::new(h));
        let message = TimeSeries::of(Vec::new(), &buffer, 0..2);
        let back = TimeSeries::decode(message.encode_to_vec().as_slice()).unwrap();
        assert_eq!(back.samples[0].value.map(f64::to_bits), Some((-0.0f64).to_bits()));
        assert_eq!((back.histograms[0].count_int, back.histograms[0].count_float), (Some(3), None));
        assert_eq!(back.histograms[0].sum.map(f64::to_bits), Some((-0.0f64).to_bits()));
    }
}
