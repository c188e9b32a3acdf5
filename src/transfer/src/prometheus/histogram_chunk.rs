//! Chunks of native histograms: one layout of buckets for all samples, then times and populations as differences.

use std::sync::Arc;

use trefoil_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use trefoil_model::{CounterResetHint, FloatHistogram, HistogramSpan, is_stale_nan};

use super::chunk::{EachSample, Starts, Value};
use crate::bits::{BitReader, XorValue};
use crate::cursor::{Cursor, Malformed};

/// Header of a chunk.
struct Head<'a> {
    count: u16,
    is_gauge: bool,
    starts: Option<Starts>,
    from: BitReader<'a>,
}

impl<'a> Head<'a> {
    fn read(data: &'a [u8], with_starts: bool) -> Result<Self, Malformed> {
        let mut head = Cursor::new(data);
        let (word, byte) = (head.be16()?, head.u8()?);
        let from = BitReader::new(head.rest());
        Ok(if with_starts {
            Self { count: word & 0x3fff, is_gauge: word >> 14 == 3, starts: Some(Starts::new(byte)), from }
        } else {
            Self { count: word, is_gauge: byte >> 6 == 3, starts: None, from }
        })
    }

    /// What is known of a reset before sample `index`: within a chunk there is none, before it nobody knows.
    fn hint(&self, index: u16) -> CounterResetHint {
        match index {
            _ if self.is_gauge => CounterResetHint::Gauge,
            0 => CounterResetHint::Unknown,
            _ => CounterResetHint::NotCounterReset,
        }
    }
}

/// The parts of a histogram that all samples of a chunk share.
fn read_layout(from: &mut BitReader<'_>) -> Result<FloatHistogram, Malformed> {
    let zero_threshold = match from.bits(8)? {
        0 => 0.0,
        255 => from.float()?,
        n => f64::powi(2.0, n as i32 - 244),
    };
    let schema = i32::try_from(from.varbit_int()?).map_err(|_| Malformed("has an impossible schema"))?;
    let positive_spans = read_spans(from)?;
    let negative_spans = read_spans(from)?;
    let mut custom_values = Vec::new();
    if schema == CUSTOM_BUCKETS_SCHEMA {
        for _ in 0..from.count()? {
            custom_values.push(match from.varbit_uint()? {
                0 => from.float()?,
                n => (n - 1) as f64 / 1000.0,
            });
        }
    }
    Ok(FloatHistogram {
        schema,
        zero_threshold,
        positive_spans,
        negative_spans,
        custom_values,
        ..FloatHistogram::default()
    })
}

fn read_spans(from: &mut BitReader<'_>) -> Result<Vec<HistogramSpan>, Malformed> {
    let mut spans = Vec::new();
    for _ in 0..from.count()? {
        let length = u32::try_from(from.varbit_uint()?);
        let offset = i32::try_from(from.varbit_int()?);
        let (Ok(length), Ok(offset)) = (length, offset) else { return Err(Malformed("has an impossible span")) };
        spans.push(HistogramSpan { offset, length });
    }
    Ok(spans)
}

/// Number of buckets of spans; each takes a bit at least.
fn buckets(spans: &[HistogramSpan], from: &BitReader<'_>) -> Result<usize, Malformed> {
    let n: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
    if n <= from.remaining() as u64 { Ok(n as usize) } else { Err(Malformed("has more buckets than bits")) }
}

/// A whole number that comes as the difference of differences.
#[derive(Clone, Copy, Default)]
struct Integer {
    value: i64,
    delta: i64,
}

impl Integer {
    fn advance(&mut self, from: &mut BitReader<'_>) -> Result<(), Malformed> {
        self.delta = self.delta.wrapping_add(from.varbit_int()?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(())
    }
}

/// Buckets stand as differences from bucket to bucket; here the populations.
fn populations(buckets: &[Integer]) -> Vec<f64> {
    let mut sum = 0i64;
    buckets
        .iter()
        .map(|b| {
            sum = sum.wrapping_add(b.value);
            sum as f64
        })
        .collect()
}

/// Integer histograms, with start timestamps or without.
pub(crate) fn decode_integers(data: &[u8], with_starts: bool, each: &mut EachSample<'_>) -> Result<(), Malformed> {
    let mut head = Head::read(data, with_starts)?;
    if head.count == 0 {
        return Ok(());
    }
    let mut from = head.from.clone();
    let layout = read_layout(&mut from)?;
    let mut positive = vec![Integer::default(); buckets(&layout.positive_spans, &from)?];
    let mut negative = vec![Integer::default(); buckets(&layout.negative_spans, &from)?];
    let (mut t, mut count, mut zero) = (Integer::default(), Integer::default(), Integer::default());
    let mut sum = XorValue::default();
    for i in 0..head.count {
        let before = t.value;
        let first = i == 0;
        if first {
            t.value = from.varbit_int()?;
            count.value = from.varbit_uint()? as i64;
            zero.value = from.varbit_uint()? as i64;
            sum = XorValue::new(from.float()?);
        } else {
            t.advance(&mut from)?;
            count.advance(&mut from)?;
            zero.advance(&mut from)?;
            sum.read(&mut from)?;
        }
        // The first sample has its buckets even when it is a stale marker.
        let is_stale = is_stale_nan(sum.value());
        if first || !is_stale {
            for b in positive.iter_mut().chain(&mut negative) {
                if first {
                    b.value = from.varbit_int()?;
                } else {
                    b.advance(&mut from)?;
                }
            }
        }
        let hint = head.hint(i);
        let start = read_start(&mut head.starts, &mut from, i, t.value, before)?;
        let value = if is_stale {
            FloatHistogram { sum: sum.value(), integer: true, ..FloatHistogram::default() }
        } else {
            FloatHistogram {
                count: count.value as u64 as f64,
                zero_count: zero.value as u64 as f64,
                sum: sum.value(),
                positive_buckets: populations(&positive),
                negative_buckets: populations(&negative),
                counter_reset_hint: hint,
                integer: true,
                ..layout.clone()
            }
        };
        each(t.value, start, Value::Histogram(Arc::new(value)));
    }
    Ok(())
}

fn read_start(
    starts: &mut Option<Starts>,
    from: &mut BitReader<'_>,
    index: u16,
    t: i64,
    before: i64,
) -> Result<i64, Malformed> {
    starts.as_mut().map_or(Ok(0), |s| s.read(from, index, t, before))
}

/// Float histograms, with start timestamps or without.
pub(crate) fn decode_floats(data: &[u8], with_starts: bool, each: &mut EachSample<'_>) -> Result<(), Malformed> {
    let mut head = Head::read(data, with_starts)?;
    if head.count == 0 {
        return Ok(());
    }
    let mut from = head.from.clone();
    let layout = read_layout(&mut from)?;
    let mut positive = vec![XorValue::default(); buckets(&layout.positive_spans, &from)?];
    let mut negative = vec![XorValue::default(); buckets(&layout.negative_spans, &from)?];
    let mut t = Integer::default();
    let mut scalars = [XorValue::default(); 3];
    for i in 0..head.count {
        let before = t.value;
        let first = i == 0;
        if first {
            t.value = from.varbit_int()?;
        } else {
            t.advance(&mut from)?;
        }
        let next = |v: &mut XorValue, from: &mut BitReader<'_>| {
            if first {
                *v = XorValue::new(from.float()?);
                Ok(())
            } else {
                v.read(from)
            }
        };
        scalars.iter_mut().try_for_each(|v| next(v, &mut from))?;
        let [count, zero, sum] = scalars.map(|v| v.value());
        let is_stale = is_stale_nan(sum);
        if first || !is_stale {
            positive.iter_mut().chain(&mut negative).try_for_each(|v| next(v, &mut from))?;
        }
        let hint = head.hint(i);
        let start = read_start(&mut head.starts, &mut from, i, t.value, before)?;
        let value = if is_stale {
            FloatHistogram { sum, ..FloatHistogram::default() }
        } else {
            FloatHistogram {
                count,
                zero_count: zero,
                sum,
                positive_buckets: positive.iter().map(XorValue::value).collect(),
                negative_buckets: negative.iter().map(XorValue::value).collect(),
                counter_reset_hint: hint,
                ..layout.clone()
            }
        };
        each(t.value, start, Value::Histogram(Arc::new(value)));
    }
    Ok(())
}
