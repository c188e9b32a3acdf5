//! Writing chunks as Prometheus reads them: floats as XOR chunks, native histograms as chunks of integer or float
//! histograms (`tsdb/docs/format/chunks.md` of prometheus/prometheus).

use trefoil_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use trefoil_model::{CounterResetHint, FloatHistogram, HistogramSpan, SampleBuffer};

use super::chunk::Encoding;

/// Samples of a chunk; the reference cuts its own there too.
const SAMPLES_MAX: usize = 120;
/// Whole numbers up to here are exact as floats.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Widths of the variable numbers behind 1 to 8 one-bits.
const WIDTHS: [u32; 8] = [3, 6, 9, 12, 18, 25, 56, 64];

/// A chunk: the samples of one series, of one kind, with times that ascend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// [`Encoding::Xor`], [`Encoding::Histogram`] or [`Encoding::FloatHistogram`].
    pub encoding: Encoding,
    /// Unix milliseconds of the first sample.
    pub min_t: i64,
    /// Unix milliseconds of the last sample.
    pub max_t: i64,
    /// The chunk's bytes, without length, encoding and checksum.
    pub data: Vec<u8>,
}

/// Writes all samples of a series as chunks, in the order of their times. Start timestamps are left out.
pub fn write_chunks(samples: &SampleBuffer) -> Vec<Chunk> {
    let mut out = Vec::new();
    let mut next_histogram = 0;
    let mut i = 0;
    while i < samples.len() {
        let rest = &samples.histograms[next_histogram..];
        if rest.first().is_some_and(|h| h.0 as usize == i) {
            let follow = rest.iter().enumerate().take(SAMPLES_MAX).take_while(|(k, h)| {
                h.0 as usize == i + k && same_layout(&rest[0].1, &h.1) && (*k == 0 || !resets(&rest[k - 1].1, &h.1))
            });
            let n = follow.count();
            let run: Vec<&FloatHistogram> = rest[..n].iter().map(|h| h.1.as_ref()).collect();
            let before = next_histogram.checked_sub(1).map(|k| &samples.histograms[k]);
            let before = before.filter(|h| h.0 as usize + 1 == i).map(|h| h.1.as_ref());
            let (times, header) = (&samples.times[i..i + n], [header(before, run[0])]);
            out.push(if is_integer(run[0]) {
                integer_chunk(times, &run, &header)
            } else {
                histogram_chunk(times, &run, &header)
            });
            next_histogram += n;
            i += n;
        } else {
            let end = rest.first().map_or(samples.len(), |h| h.0 as usize).min(i + SAMPLES_MAX);
            out.push(float_chunk(&samples.times[i..end], &samples.values[i..end]));
            i = end;
        }
    }
    out
}

/// True when two histograms can stand in one chunk. Stale markers have a chunk of their own.
fn same_layout(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    a.is_stale() == b.is_stale()
        && is_integer(a) == is_integer(b)
        && a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.custom_values == b.custom_values
        && (a.counter_reset_hint == CounterResetHint::Gauge) == (b.counter_reset_hint == CounterResetHint::Gauge)
}

/// True when a counter fell, or may have: readers take for granted that within a chunk it did not.
fn resets(before: &FloatHistogram, after: &FloatHistogram) -> bool {
    let fell = |a: &[f64], b: &[f64]| a.iter().zip(b).any(|(a, b)| b < a);
    after.counter_reset_hint != CounterResetHint::Gauge
        && (after.counter_reset_hint == CounterResetHint::CounterReset
            || after.count < before.count
            || after.zero_count < before.zero_count
            || fell(&before.positive_buckets, &after.positive_buckets)
            || fell(&before.negative_buckets, &after.negative_buckets))
}

/// True when the histogram can stand in a chunk of integers: it came as one, and all its numbers are whole.
fn is_integer(h: &FloatHistogram) -> bool {
    let is_whole = |v: &f64| (0.0..=WHOLE_MAX).contains(v) && v.trunc() == *v;
    let buckets = h.positive_buckets.iter().chain(&h.negative_buckets);
    h.integer && (h.is_stale() || [h.count, h.zero_count].iter().chain(buckets).all(is_whole))
}

/// The first byte of a chunk of histograms: what is known of a reset between the sample before and the first one.
fn header(before: Option<&FloatHistogram>, first: &FloatHistogram) -> u8 {
    let hint = match (before, first.counter_reset_hint) {
        (Some(before), CounterResetHint::Unknown) if !before.is_stale() && same_layout(before, first) => {
            if resets(before, first) { CounterResetHint::CounterReset } else { CounterResetHint::NotCounterReset }
        }
        (_, hint) => hint,
    };
    match hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::CounterReset => 0b1000_0000,
        CounterResetHint::NotCounterReset => 0b0100_0000,
        CounterResetHint::Gauge => 0b1100_0000,
    }
}

#[derive(Default)]
struct BitWriter {
    data: Vec<u8>,
    /// Bits used of the last byte; 0 when it is full.
    used: u32,
}

impl BitWriter {
    /// The lowest `n` bits, highest first.
    fn bits(&mut self, value: u64, n: u32) {
        let mut left = n;
        while left > 0 {
            if self.used == 0 {
                self.data.push(0);
            }
            let free = 8 - self.used;
            let take = left.min(free);
            let part = (value >> (left - take)) & ((1 << take) - 1);
            let last = self.data.last_mut().expect("a byte with free bits is there");
            *last |= (part << (free - take)) as u8;
            self.used = (self.used + take) % 8;
            left -= take;
        }
    }

    fn bit(&mut self, bit: bool) {
        self.bits(u64::from(bit), 1);
    }

    fn uvarint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.bits(v & 0x7f | 0x80, 8);
            v >>= 7;
        }
        self.bits(v, 8);
    }

    fn varint(&mut self, v: i64) {
        self.uvarint(((v << 1) ^ (v >> 63)) as u64);
    }

    /// `ones` one-bits, and a zero unless there are eight.
    fn prefix(&mut self, ones: u32) {
        for _ in 0..ones {
            self.bit(true);
        }
        if ones < 8 {
            self.bit(false);
        }
    }

    fn varbit_int(&mut self, v: i64) {
        if v == 0 {
            return self.bit(false);
        }
        let (i, width) =
            WIDTHS.iter().enumerate().find(|(_, width)| fits_shifted(v, **width)).expect("every number fits 64 bits");
        self.prefix(i as u32 + 1);
        self.bits(v as u64, *width);
    }

    fn varbit_uint(&mut self, v: u64) {
        if v == 0 {
            return self.bit(false);
        }
        let (i, width) = WIDTHS
            .iter()
            .enumerate()
            .find(|(_, width)| **width == 64 || v >> **width == 0)
            .expect("every number fits 64 bits");
        self.prefix(i as u32 + 1);
        self.bits(v, *width);
    }
}

/// Whether a number fits `n` bits whose range is shifted by one: -(2^(n-1) - 1) to 2^(n-1).
fn fits_shifted(v: i64, n: u32) -> bool {
    n == 64 || (v > -(1 << (n - 1)) && v <= 1 << (n - 1))
}

/// A value that is written as the XOR with the one before.
#[derive(Clone, Copy)]
struct XorValue {
    bits: u64,
    /// Leading and trailing zeros of the last change that was written whole.
    window: Option<(u32, u32)>,
}

impl XorValue {
    fn first(value: f64, to: &mut BitWriter) -> Self {
        to.bits(value.to_bits(), 64);
        Self { bits: value.to_bits(), window: None }
    }

    fn next(&mut self, value: f64, to: &mut BitWriter) {
        let change = self.bits ^ value.to_bits();
        self.bits = value.to_bits();
        if change == 0 {
            return to.bit(false);
        }
        to.bit(true);
        let (leading, trailing) = (change.leading_zeros().min(31), change.trailing_zeros());
        if let Some((l, t)) = self.window
            && leading >= l
            && trailing >= t
        {
            to.bit(false);
            return to.bits(change >> t, 64 - l - t);
        }
        self.window = Some((leading, trailing));
        let significant = 64 - leading - trailing;
        to.bit(true);
        to.bits(u64::from(leading), 5);
        to.bits(u64::from(significant & 63), 6);
        to.bits(change >> trailing, significant);
    }
}

fn chunk(encoding: Encoding, times: &[i64], header: &[u8], to: BitWriter) -> Chunk {
    let mut data = Vec::with_capacity(header.len() + 2 + to.data.len());
    data.extend((times.len() as u16).to_be_bytes());
    data.extend(header);
    data.extend(to.data);
    Chunk { encoding, min_t: times[0], max_t: times[times.len() - 1], data }
}

/// Times and values have equal, positive lengths of at most [`SAMPLES_MAX`].
fn float_chunk(times: &[i64], values: &[f64]) -> Chunk {
    let mut to = BitWriter::default();
    to.varint(times[0]);
    let mut value = XorValue::first(values[0], &mut to);
    let mut delta = 0i64;
    for i in 1..times.len() {
        let step = times[i].wrapping_sub(times[i - 1]);
        if i == 1 {
            to.uvarint(step as u64);
        } else {
            let change = step.wrapping_sub(delta);
            match [14, 17, 20].iter().position(|n| fits_shifted(change, *n)) {
                _ if change == 0 => to.bit(false),
                Some(k) => {
                    to.prefix(k as u32 + 1);
                    to.bits(change as u64, [14, 17, 20][k]);
                }
                None => {
                    to.bits(0b1111, 4);
                    to.bits(change as u64, 64);
                }
            }
        }
        delta = step;
        value.next(values[i], &mut to);
    }
    chunk(Encoding::Xor, times, &[], to)
}

fn write_spans(spans: &[HistogramSpan], to: &mut BitWriter) {
    to.varbit_uint(spans.len() as u64);
    for span in spans {
        to.varbit_uint(u64::from(span.length));
        to.varbit_int(i64::from(span.offset));
    }
}

fn write_layout(h: &FloatHistogram, to: &mut BitWriter) {
    // A power of two from 2^-243 to 2^10 has a byte of its own; others follow in full.
    let exponent = (h.zero_threshold.to_bits() >> 52) as i64 - 1023;
    let is_power = h.zero_threshold > 0.0 && h.zero_threshold.to_bits() << 12 == 0;
    if h.zero_threshold == 0.0 {
        to.bits(0, 8);
    } else if is_power && (-243..=10).contains(&exponent) {
        to.bits((exponent + 244) as u64, 8);
    } else {
        to.bits(255, 8);
        to.bits(h.zero_threshold.to_bits(), 64);
    }
    to.varbit_int(i64::from(h.schema));
    write_spans(&h.positive_spans, to);
    write_spans(&h.negative_spans, to);
    if h.schema == CUSTOM_BUCKETS_SCHEMA {
        to.varbit_uint(h.custom_values.len() as u64);
        for bound in &h.custom_values {
            // Whole thousandths up to 2^25 - 2 are short.
            let thousandths = bound * 1000.0;
            if (0.0..=33_554_430.0).contains(&thousandths)
                && thousandths.trunc() == thousandths
                && (thousandths / 1000.0).to_bits() == bound.to_bits()
            {
                to.varbit_uint(thousandths as u64 + 1);
            } else {
                to.varbit_uint(0);
                to.bits(bound.to_bits(), 64);
            }
        }
    }
}

/// The layout of a chunk: that of its first histogram; of stale markers an empty one.
fn write_first_layout(first: &FloatHistogram, to: &mut BitWriter) {
    let stale = FloatHistogram::default();
    write_layout(if first.is_stale() { &stale } else { first }, to);
}

/// Times and histograms have equal, positive lengths of at most [`SAMPLES_MAX`]; all have the layout of the first, and
/// hold whole numbers.
fn integer_chunk(times: &[i64], histograms: &[&FloatHistogram], header: &[u8; 1]) -> Chunk {
    let mut to = BitWriter::default();
    write_first_layout(histograms[0], &mut to);
    // Time, count, zero count, then each bucket less the one before it on its side.
    let numbers = |t: i64, h: &FloatHistogram| -> Vec<i64> {
        if h.is_stale() {
            return vec![t, 0, 0];
        }
        let mut all = vec![t, h.count as i64, h.zero_count as i64];
        for side in [&h.positive_buckets, &h.negative_buckets] {
            let mut before = 0;
            all.extend(side.iter().map(|b| *b as i64 - std::mem::replace(&mut before, *b as i64)));
        }
        all
    };
    let first = numbers(times[0], histograms[0]);
    to.varbit_int(first[0]);
    to.varbit_uint(first[1] as u64);
    to.varbit_uint(first[2] as u64);
    let mut sum = XorValue::first(histograms[0].sum, &mut to);
    first[3..].iter().for_each(|n| to.varbit_int(*n));
    let mut state: Vec<(i64, i64)> = first.into_iter().map(|n| (n, 0)).collect();
    for (t, h) in times.iter().zip(histograms).skip(1) {
        // As differences of differences.
        for (i, (n, (value, delta))) in numbers(*t, h).into_iter().zip(&mut state).enumerate() {
            if i == 3 {
                sum.next(h.sum, &mut to);
            }
            let step = n.wrapping_sub(*value);
            to.varbit_int(step.wrapping_sub(*delta));
            (*value, *delta) = (n, step);
        }
        if state.len() == 3 {
            sum.next(h.sum, &mut to);
        }
    }
    chunk(Encoding::Histogram, times, header, to)
}

/// Times and histograms have equal, positive lengths of at most [`SAMPLES_MAX`]; all have the layout of the first.
fn histogram_chunk(times: &[i64], histograms: &[&FloatHistogram], header: &[u8; 1]) -> Chunk {
    let first = histograms[0];
    let mut to = BitWriter::default();
    write_first_layout(first, &mut to);
    let numbers = |h: &FloatHistogram| -> Vec<f64> {
        if h.is_stale() {
            return vec![0.0, 0.0, h.sum];
        }
        let buckets = h.positive_buckets.iter().chain(&h.negative_buckets);
        [h.count, h.zero_count, h.sum].iter().chain(buckets).copied().collect()
    };
    let mut values: Vec<XorValue> = Vec::new();
    let mut delta = 0i64;
    for (i, h) in histograms.iter().enumerate() {
        let is_stale = h.is_stale();
        if i == 0 {
            to.varbit_int(times[0]);
            values = numbers(h).into_iter().map(|v| XorValue::first(v, &mut to)).collect();
            continue;
        }
        let step = times[i].wrapping_sub(times[i - 1]);
        to.varbit_int(step.wrapping_sub(delta));
        delta = step;
        debug_assert_eq!(is_stale, first.is_stale(), "stale markers stand apart");
        for (value, v) in values.iter_mut().zip(numbers(h)) {
            value.next(v, &mut to);
        }
    }
    chunk(Encoding::FloatHistogram, times, header, to)
}

#[cfg(test)]
mod tests;
