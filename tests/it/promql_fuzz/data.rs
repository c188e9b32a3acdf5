//! What is asked about: series with gaps, resets, stale markers, odd values and native histograms, the same every time.

use prost::Message;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use trefoil_tests::{Http, wire};

use super::Age;

/// When the data begins, Unix milliseconds.
pub(super) const BASE_MS: i64 = 1_700_000_000_000 / 3_600_000 * 3_600_000;
/// Time between samples, milliseconds.
const STEP_MS: i64 = 15_000;
/// Samples of a series, gaps included.
const COUNT: i64 = 140;
const STALE: u64 = 0x7ff0_0000_0000_0002;

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<wire::Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<wire::Sample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(double, optional, tag = "2")]
    count: Option<f64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(double, optional, tag = "7")]
    zero_count: Option<f64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<Span>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    reset_hint: i32,
    #[prost(int64, tag = "15")]
    timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

struct Maker {
    random: StdRng,
    series: Vec<TimeSeries>,
    /// Added to all times.
    shift_ms: i64,
}

impl Maker {
    /// Times of samples: mostly regular, with gaps.
    fn times(&mut self, percent_missing: u32) -> Vec<i64> {
        let mut out = Vec::new();
        let mut gap = 0;
        for i in 0..COUNT {
            if gap > 0 {
                gap -= 1;
                continue;
            }
            if self.random.random_range(0..100) < percent_missing {
                gap = self.random.random_range(0..30) / 3;
                continue;
            }
            let jitter = [0, 0, 0, 250][self.random.random_range(0..4)];
            out.push(BASE_MS + i * STEP_MS + jitter + self.shift_ms);
        }
        out
    }

    fn add(&mut self, name: &str, labels: &[(&str, &str)], samples: Vec<wire::Sample>, histograms: Vec<Histogram>) {
        let mut all: Vec<wire::Label> = labels
            .iter()
            .chain(&[("__name__", name)])
            .map(|(n, v)| wire::Label { name: (*n).to_owned(), value: (*v).to_owned() })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        self.series.push(TimeSeries { labels: all, samples, histograms });
    }

    fn gauge(&mut self, name: &str, labels: &[(&str, &str)], percent_missing: u32) {
        let mut value = f64::from(self.random.random_range(-20..50));
        let mut samples = Vec::new();
        for timestamp in self.times(percent_missing) {
            value += f64::from(self.random.random_range(-8..9)) / 4.0;
            let odd = self.random.random_range(0..200);
            let value = match odd {
                0 => f64::NAN,
                1 => f64::INFINITY,
                2 => f64::NEG_INFINITY,
                3..6 => f64::from_bits(STALE),
                6 => -0.0,
                7..40 => value.trunc(),
                _ => value,
            };
            samples.push(wire::Sample { value, timestamp });
        }
        self.add(name, labels, samples, Vec::new());
    }

    fn counter(&mut self, name: &str, labels: &[(&str, &str)], rate: i32) {
        let mut value = f64::from(self.random.random_range(0..1000));
        let mut samples = Vec::new();
        for timestamp in self.times(6) {
            value += f64::from(self.random.random_range(0..=rate));
            match self.random.random_range(0..60) {
                0 => value = f64::from(self.random.random_range(0..10)),
                1 => samples.push(wire::Sample { value: f64::from_bits(STALE), timestamp: timestamp - 4000 }),
                _ => {}
            }
            samples.push(wire::Sample { value, timestamp });
        }
        self.add(name, labels, samples, Vec::new());
    }

    /// Classic buckets of one histogram: cumulative, now and then not.
    fn classic(&mut self, labels: &[(&str, &str)]) {
        let times = self.times(5);
        let mut counts = [0.0; 5];
        let mut columns = vec![Vec::new(); 5];
        for timestamp in times {
            let mut below = 0.0;
            for (i, count) in counts.iter_mut().enumerate() {
                below += f64::from(self.random.random_range(0..5));
                *count += below;
                let value = if self.random.random_range(0..150) == 0 { *count - 1.0 } else { *count };
                columns[i].push(wire::Sample { value, timestamp });
            }
        }
        for (le, samples) in ["0.1", "0.5", "1", "5", "+Inf"].iter().zip(columns) {
            let labels: Vec<_> = labels.iter().copied().chain([("le", *le)]).collect();
            self.add("latency_bucket", &labels, samples, Vec::new());
        }
    }

    /// `floats`: every third sample or so is a float.
    fn native(&mut self, name: &str, labels: &[(&str, &str)], gauge: bool, floats: bool) {
        let schema = self.random.random_range(0..3);
        let mut counts = vec![0.0; 6];
        let (mut samples, mut histograms) = (Vec::new(), Vec::new());
        for timestamp in self.times(5) {
            if floats && self.random.random_range(0..3) == 0 {
                samples.push(wire::Sample { value: f64::from(self.random.random_range(0..100)), timestamp });
                continue;
            }
            if self.random.random_range(0..40) == 0 {
                counts = vec![0.0; 6];
            }
            for count in &mut counts {
                *count += f64::from(self.random.random_range(if gauge { -3..4 } else { 0..4 }));
                *count = count.max(0.0);
            }
            let zero = counts[0];
            let total: f64 = counts.iter().sum();
            histograms.push(Histogram {
                count: Some(total),
                sum: total * 1.5,
                schema,
                zero_threshold: 0.001,
                zero_count: Some(zero),
                positive_spans: vec![Span { offset: -1, length: 3 }, Span { offset: 2, length: 2 }],
                positive_counts: counts[1..].to_vec(),
                reset_hint: if gauge { 3 } else { 0 },
                timestamp,
            });
        }
        self.add(name, labels, samples, histograms);
    }
}

/// By how much the samples are late for an old reference, so that none lies on the edge of a window: those edges are the
/// window's on both sides there. Queries are late by [`OLD_QUERY_SHIFT_MS`].
const OLD_SHIFT_MS: i64 = 123;
/// See [`OLD_SHIFT_MS`].
pub(super) const OLD_QUERY_SHIFT_MS: i64 = 400;

/// Writes all of it by remote write. An old reference takes no native histograms.
pub(super) fn write(http: &Http, age: Age) {
    let shift_ms = if age == Age::Old { OLD_SHIFT_MS } else { 0 };
    let mut maker = Maker { random: StdRng::seed_from_u64(11), series: Vec::new(), shift_ms };
    for job in ["a", "b"] {
        for inst in ["0", "1", "2", "3"] {
            maker.gauge("gauge", &[("job", job), ("inst", inst)], 4);
        }
        maker.gauge("sparse", &[("job", job)], 60);
        for inst in ["0", "1", "2"] {
            maker.counter("requests_total", &[("job", job), ("inst", inst)], 40);
        }
        for inst in ["0", "1"] {
            maker.classic(&[("job", job), ("inst", inst)]);
        }
        if age == Age::Old {
            continue;
        }
        for inst in ["0", "1"] {
            maker.native("native", &[("job", job), ("inst", inst)], false, false);
        }
        maker.native("native_gauge", &[("job", job)], true, false);
        maker.native("mixed", &[("job", job)], false, true);
    }
    for series in maker.series.iter().flat_map(in_order) {
        let body = wire::snappy(&WriteRequest { timeseries: vec![series] }.encode_to_vec());
        let answer = http.post("/api/v1/write", wire::REMOTE_WRITE, body).unwrap();
        assert!(matches!(answer.status, 200 | 204), "{}: {}", answer.status, answer.text());
    }
}

/// A series in pieces that have floats or histograms only, by time: of one message a receiver takes all floats first.
fn in_order(series: &TimeSeries) -> Vec<TimeSeries> {
    let mut out: Vec<TimeSeries> = Vec::new();
    let (mut samples, mut histograms) = (series.samples.iter().peekable(), series.histograms.iter().peekable());
    loop {
        let empty = TimeSeries { labels: series.labels.clone(), ..TimeSeries::default() };
        let float_is_next = match (samples.peek(), histograms.peek()) {
            (Some(s), Some(h)) => s.timestamp < h.timestamp,
            (s, _) => s.is_some(),
        };
        let last_is_float = out.last().map(|piece| piece.histograms.is_empty());
        if last_is_float != Some(float_is_next) {
            out.push(empty);
        }
        let piece = out.last_mut().expect("a piece was just added");
        if float_is_next {
            piece.samples.extend(samples.next().cloned());
        } else if let Some(histogram) = histograms.next() {
            piece.histograms.push(histogram.clone());
        } else {
            out.retain(|piece| !piece.samples.is_empty() || !piece.histograms.is_empty());
            return out;
        }
    }
}
