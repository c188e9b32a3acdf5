use std::sync::Arc;

use trefoil_model::STALE_NAN;

use super::super::chunk::{Value, decode};
use super::*;

/// A small generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn read_back(chunks: &[Chunk]) -> SampleBuffer {
    let mut out = SampleBuffer::default();
    for chunk in chunks {
        let before = out.len();
        decode(chunk.encoding, &chunk.data, &mut |t, start, value| match value {
            Value::Float(v) => out.push_float(t, start, v),
            Value::Histogram(h) => out.push_histogram(t, start, h),
        })
        .unwrap();
        assert!(out.len() > before && out.len() - before <= SAMPLES_MAX);
        assert_eq!((out.times[before], *out.times.last().unwrap()), (chunk.min_t, chunk.max_t));
    }
    out
}

/// Hints are kept of the first sample of a chunk only.
fn plain(h: &FloatHistogram) -> FloatHistogram {
    if h.is_stale() {
        return FloatHistogram { integer: h.integer, ..FloatHistogram::default() };
    }
    FloatHistogram { counter_reset_hint: CounterResetHint::Unknown, ..h.clone() }
}

fn check(samples: &SampleBuffer) {
    let got = read_back(&write_chunks(samples));
    assert_eq!(got.times, samples.times);
    assert_eq!(got.histograms.len(), samples.histograms.len());
    for (a, b) in got.histograms.iter().zip(&samples.histograms) {
        assert_eq!((a.0, a.1.is_stale(), plain(&a.1)), (b.0, b.1.is_stale(), plain(&b.1)));
    }
    let is_float = |i: usize| samples.histograms.iter().all(|h| h.0 as usize != i);
    for (i, (a, b)) in got.values.iter().zip(&samples.values).enumerate() {
        assert!(!is_float(i) || a.to_bits() == b.to_bits(), "sample {i}: {a} is not {b}");
    }
}

#[test]
fn what_is_written_reads_back() {
    let mut random = Random(7);
    for round in 0..300 {
        let mut samples = SampleBuffer::default();
        let mut t = random.below(1 << 41) as i64 - (1 << 39);
        let mut layout = FloatHistogram::default();
        let mut value = 0.0;
        for _ in 0..random.below(400) {
            t += 1 + match random.below(6) {
                0 => random.below(1 << 30) as i64,
                1 => random.below(100_000) as i64,
                _ => 14_999,
            };
            match random.below(12) {
                0 => value = f64::from_bits(random.below(u64::MAX >> 1) << 20),
                1 => value = STALE_NAN,
                2 => value = -0.0,
                _ => value += random.below(50) as f64,
            }
            if round % 3 == 0 || random.below(10) > 0 {
                samples.push_float(t, 0, value);
                continue;
            }
            if random.below(20) == 0 {
                layout = FloatHistogram {
                    schema: random.below(13) as i32 - 4,
                    zero_threshold: [0.0, 0.001, 2f64.powi(-128), 1.0][random.below(4) as usize],
                    positive_spans: vec![HistogramSpan { offset: random.below(9) as i32 - 4, length: 3 }],
                    positive_buckets: vec![0.0; 3],
                    negative_spans: vec![HistogramSpan { offset: 2, length: 1 }],
                    negative_buckets: vec![0.0],
                    ..FloatHistogram::default()
                };
            }
            if random.below(20) == 0 {
                layout = FloatHistogram {
                    schema: CUSTOM_BUCKETS_SCHEMA,
                    custom_values: vec![0.005, 0.1, 0.3, 2.5, 1e9, 1e300],
                    positive_spans: vec![HistogramSpan { offset: 0, length: 4 }],
                    positive_buckets: vec![1.0; 4],
                    ..FloatHistogram::default()
                };
            }
            if random.below(20) == 0 {
                layout.integer = !layout.integer;
            }
            layout.count += random.below(10) as f64;
            layout.sum += random.below(100) as f64 / 7.0;
            for b in layout.positive_buckets.iter_mut().chain(&mut layout.negative_buckets) {
                *b += random.below(4) as f64;
            }
            let stale = FloatHistogram { sum: STALE_NAN, integer: layout.integer, ..FloatHistogram::default() };
            let h = if random.below(15) == 0 { stale } else { layout.clone() };
            samples.push_histogram(t, 0, Arc::new(h));
        }
        check(&samples);
    }
}

#[test]
fn a_fall_begins_a_chunk() {
    let mut samples = SampleBuffer::default();
    for (i, count) in [5.0, 6.0, 2.0, 3.0].into_iter().enumerate() {
        samples.push_histogram(i as i64 * 1000, 0, Arc::new(FloatHistogram { count, ..FloatHistogram::default() }));
    }
    let chunks = write_chunks(&samples);
    assert_eq!(chunks.iter().map(|c| (c.min_t, c.max_t)).collect::<Vec<_>>(), [(0, 1000), (2000, 3000)]);
    check(&samples);
}

#[test]
fn integers_stay_integers_and_chunks_tell_of_resets() {
    let histogram = |count: f64, integer| FloatHistogram {
        count,
        integer,
        positive_spans: vec![HistogramSpan { offset: 0, length: 2 }],
        positive_buckets: vec![count, 0.0],
        ..FloatHistogram::default()
    };
    let mut samples = SampleBuffer::default();
    let mut push = |h: FloatHistogram| samples.push_histogram(samples.len() as i64 * 1000, 0, Arc::new(h));
    (0..150).for_each(|i| push(histogram(f64::from(i), true)));
    push(histogram(3.0, true));
    push(histogram(4.0, false));
    push(histogram(4.5, true));
    push(FloatHistogram { counter_reset_hint: CounterResetHint::Gauge, ..histogram(1.0, true) });
    let found: Vec<(u8, u8, u8)> =
        write_chunks(&samples).iter().map(|c| (c.encoding.byte(), c.data[1], c.data[2] >> 6)).collect();
    // Unknown, full, after a reset, of floats, of what cannot be an integer, of a gauge.
    assert_eq!(found, [(2, 120, 0), (2, 30, 1), (2, 1, 2), (3, 2, 0), (2, 1, 3)]);
}
