//! Records of a write-ahead log.

use std::sync::Arc;

use trefoil_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use trefoil_model::{CounterResetHint, FloatHistogram, HistogramSpan, Labels};

use super::chunk::Value;
use crate::cursor::{Cursor, Malformed};

/// What a record says of a series.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// The series has these labels.
    Series(Labels),
    /// A sample: time, start timestamp (0: none), value.
    Sample(i64, i64, Value),
    /// Samples in this stretch, both ends included, are deleted.
    Tombstone(i64, i64),
    /// An exemplar: time, value, its labels.
    Exemplar(i64, f64, Labels),
}

const SERIES: u8 = 1;
const SAMPLES: u8 = 2;
const TOMBSTONES: u8 = 3;
const EXEMPLARS: u8 = 4;
const SAMPLES_2: u8 = 11;
const HISTOGRAMS_2: u8 = 12;
const FLOAT_HISTOGRAMS_2: u8 = 13;

/// True when a record of this first byte defines series or deletes samples.
pub(crate) fn is_definition(kind: u8) -> bool {
    matches!(kind, SERIES | TOMBSTONES)
}

/// Hands out (series reference, entry) of a record. Kinds that hold no samples (metadata, markers) and kinds that are
/// not known yield nothing.
pub(crate) fn read(record: &[u8], each: &mut dyn FnMut(u64, Entry)) -> Result<(), Malformed> {
    let mut from = Cursor::new(record);
    match from.u8()? {
        SERIES => {
            while !from.is_empty() {
                let reference = from.be64()?;
                let labels = read_labels(&mut from)?;
                each(reference, Entry::Series(labels));
            }
            Ok(())
        }
        TOMBSTONES => {
            while !from.is_empty() {
                let reference = from.be64()?;
                each(reference, Entry::Tombstone(from.varint()?, from.varint()?));
            }
            Ok(())
        }
        EXEMPLARS => read_1(from, &mut |from, reference, t| {
            let value = from.float()?;
            each(reference, Entry::Exemplar(t, value, read_labels(from)?));
            Ok(())
        }),
        SAMPLES => read_1(from, &mut |from, reference, t| {
            each(reference, Entry::Sample(t, 0, Value::Float(from.float()?)));
            Ok(())
        }),
        kind @ 7..=10 => read_1(from, &mut |from, reference, t| {
            let h = read_histogram(from, kind % 2 == 1)?;
            each(reference, Entry::Sample(t, 0, Value::Histogram(Arc::new(h))));
            Ok(())
        }),
        SAMPLES_2 => read_2(from, &mut |from, reference, t, start| {
            each(reference, Entry::Sample(t, start, Value::Float(from.float()?)));
            Ok(())
        }),
        kind @ (HISTOGRAMS_2 | FLOAT_HISTOGRAMS_2) => read_2(from, &mut |from, reference, t, start| {
            let h = read_histogram(from, kind == HISTOGRAMS_2)?;
            each(reference, Entry::Sample(t, start, Value::Histogram(Arc::new(h))));
            Ok(())
        }),
        _ => Ok(()),
    }
}

fn read_labels(from: &mut Cursor<'_>) -> Result<Labels, Malformed> {
    let mut pairs = Vec::new();
    for _ in 0..from.count(2)? {
        pairs.push((from.text()?, from.text()?));
    }
    Ok(Labels::from_pairs(pairs))
}

/// Items behind a base of reference and time, each with its differences to the base.
fn read_1<'a>(
    mut from: Cursor<'a>,
    item: &mut dyn FnMut(&mut Cursor<'a>, u64, i64) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    if from.is_empty() {
        return Ok(());
    }
    let (base, base_t) = (from.be64()?, from.be64()? as i64);
    while !from.is_empty() {
        let reference = base.wrapping_add(from.varint()? as u64);
        let t = base_t.wrapping_add(from.varint()?);
        item(&mut from, reference, t)?;
    }
    Ok(())
}

/// Reads what follows reference, time and start timestamp.
type ReadItem2<'a, 'b> = dyn FnMut(&mut Cursor<'a>, u64, i64, i64) -> Result<(), Malformed> + 'b;

/// Items with start timestamps: references against the item before, times against the first.
fn read_2<'a>(mut from: Cursor<'a>, item: &mut ReadItem2<'a, '_>) -> Result<(), Malformed> {
    if from.is_empty() {
        return Ok(());
    }
    let mut reference = from.varint()?;
    let (first_t, first_start) = (from.varint()?, from.varint()?);
    let mut start = first_start;
    item(&mut from, reference as u64, first_t, start)?;
    while !from.is_empty() {
        reference = reference.wrapping_add(from.varint()?);
        let t = first_t.wrapping_add(from.varint()?);
        start = match from.u8()? {
            0 => 0,
            1 => start,
            _ => first_start.wrapping_add(from.varint()?),
        };
        item(&mut from, reference as u64, t, start)?;
    }
    Ok(())
}

fn read_histogram(from: &mut Cursor<'_>, integer: bool) -> Result<FloatHistogram, Malformed> {
    let counter_reset_hint = match from.u8()? {
        1 => CounterResetHint::CounterReset,
        2 => CounterResetHint::NotCounterReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    };
    let schema = i32::try_from(from.varint()?).map_err(|_| Malformed("has an impossible schema"))?;
    let zero_threshold = from.float()?;
    let number = |from: &mut Cursor<'_>| if integer { from.uvarint().map(|n| n as f64) } else { from.float() };
    let zero_count = number(from)?;
    let count = number(from)?;
    let sum = from.float()?;
    let positive_spans = read_spans(from)?;
    let negative_spans = read_spans(from)?;
    let positive_buckets = read_buckets(from, integer)?;
    let negative_buckets = read_buckets(from, integer)?;
    let mut custom_values = Vec::new();
    if schema == CUSTOM_BUCKETS_SCHEMA {
        for _ in 0..from.count(8)? {
            custom_values.push(from.float()?);
        }
    }
    Ok(FloatHistogram {
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive_spans,
        negative_spans,
        positive_buckets,
        negative_buckets,
        custom_values,
        counter_reset_hint,
        integer,
    })
}

fn read_spans(from: &mut Cursor<'_>) -> Result<Vec<HistogramSpan>, Malformed> {
    let mut spans = Vec::new();
    for _ in 0..from.count(2)? {
        let (offset, length) = (i32::try_from(from.varint()?), u32::try_from(from.uvarint()?));
        let (Ok(offset), Ok(length)) = (offset, length) else { return Err(Malformed("has an impossible span")) };
        spans.push(HistogramSpan { offset, length });
    }
    Ok(spans)
}

fn read_buckets(from: &mut Cursor<'_>, integer: bool) -> Result<Vec<f64>, Malformed> {
    let count = from.count(if integer { 1 } else { 8 })?;
    let mut sum = 0i64;
    (0..count)
        .map(|_| {
            if integer {
                sum = sum.wrapping_add(from.varint()?);
                Ok(sum as f64)
            } else {
                from.float()
            }
        })
        .collect()
}
