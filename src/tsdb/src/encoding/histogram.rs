//! Native histograms, each against the one before: layouts are written once, populations as differences.

use trefoil_model::{CounterResetHint, FloatHistogram, HistogramSpan};

use super::DecodeError;
use super::varint::{Reader, put_float, put_ivarint, put_uvarint};

/// Same schema, thresholds, spans and bounds as the histogram before.
const SAME_LAYOUT: u8 = 1;
/// All populations are whole numbers: differences are integers.
const WHOLE: u8 = 2;
/// The sender's flavour was integer.
const INTEGER: u8 = 4;
const HINT_SHIFT: u8 = 3;
const BUCKETS_MAX: u64 = 1 << 20;

/// Appends `h`; `before` must be what the decoder will have read before it.
pub(crate) fn encode_histogram(before: Option<&FloatHistogram>, h: &FloatHistogram, out: &mut Vec<u8>) {
    let before = before.filter(|b| same_layout(b, h));
    let whole = populations(h).all(is_whole) && before.is_none_or(|b| populations(b).all(is_whole));
    let mut flags = hint_code(h.counter_reset_hint) << HINT_SHIFT;
    if before.is_some() {
        flags |= SAME_LAYOUT;
    }
    if whole {
        flags |= WHOLE;
    }
    if h.integer {
        flags |= INTEGER;
    }
    out.push(flags);
    if before.is_none() {
        put_ivarint(out, i64::from(h.schema));
        put_float(out, h.zero_threshold);
        for spans in [&h.positive_spans, &h.negative_spans] {
            put_uvarint(out, spans.len() as u64);
            for s in spans {
                put_ivarint(out, i64::from(s.offset));
                put_uvarint(out, u64::from(s.length));
            }
        }
        put_uvarint(out, h.custom_values.len() as u64);
        for v in &h.custom_values {
            put_float(out, *v);
        }
        put_uvarint(out, h.positive_buckets.len() as u64);
        put_uvarint(out, h.negative_buckets.len() as u64);
    }
    put_float(out, h.sum);
    let mut olds = before.into_iter().flat_map(populations);
    for v in populations(h) {
        let old = olds.next().unwrap_or(0.0);
        if whole {
            put_ivarint(out, v as i64 - old as i64);
        } else {
            put_uvarint(out, (v.to_bits() ^ old.to_bits()).swap_bytes());
        }
    }
}

/// Reads the next histogram.
pub(crate) fn decode_histogram(
    before: Option<&FloatHistogram>,
    from: &mut Reader<'_>,
) -> Result<FloatHistogram, DecodeError> {
    let flags = from.u8()?;
    let before = (flags & SAME_LAYOUT != 0).then_some(before.ok_or(DecodeError)).transpose()?;
    let mut h = match before {
        Some(b) => b.clone(),
        None => decode_layout(from)?,
    };
    h.integer = flags & INTEGER != 0;
    h.counter_reset_hint = hint_of(flags >> HINT_SHIFT)?;
    h.sum = from.float()?;
    let whole = flags & WHOLE != 0;
    let mut next = |old: f64| -> Result<f64, DecodeError> {
        if whole {
            Ok((old as i64).wrapping_add(from.ivarint()?) as f64)
        } else {
            Ok(f64::from_bits(from.uvarint()?.swap_bytes() ^ old.to_bits()))
        }
    };
    h.count = next(h.count)?;
    h.zero_count = next(h.zero_count)?;
    for v in h.positive_buckets.iter_mut().chain(&mut h.negative_buckets) {
        *v = next(*v)?;
    }
    Ok(h)
}

fn decode_layout(from: &mut Reader<'_>) -> Result<FloatHistogram, DecodeError> {
    let mut h = FloatHistogram {
        schema: i32::try_from(from.ivarint()?).map_err(|_| DecodeError)?,
        zero_threshold: from.float()?,
        ..FloatHistogram::default()
    };
    for spans in [&mut h.positive_spans, &mut h.negative_spans] {
        for _ in 0..from.length(2)? {
            spans.push(HistogramSpan {
                offset: i32::try_from(from.ivarint()?).map_err(|_| DecodeError)?,
                length: u32::try_from(from.uvarint()?).map_err(|_| DecodeError)?,
            });
        }
    }
    for _ in 0..from.length(1)? {
        h.custom_values.push(from.float()?);
    }
    for buckets in [&mut h.positive_buckets, &mut h.negative_buckets] {
        let n = from.uvarint()?;
        // Each population takes a byte at least.
        if n > BUCKETS_MAX || n > from.rest().len() as u64 {
            return Err(DecodeError);
        }
        buckets.resize(n as usize, 0.0);
    }
    Ok(h)
}

fn populations(h: &FloatHistogram) -> impl Iterator<Item = f64> + '_ {
    [h.count, h.zero_count]
        .into_iter()
        .chain(h.positive_buckets.iter().copied())
        .chain(h.negative_buckets.iter().copied())
}

fn is_whole(v: f64) -> bool {
    v.abs() < 9_007_199_254_740_992.0 && (v as i64 as f64).to_bits() == v.to_bits()
}

fn same_layout(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.positive_buckets.len() == b.positive_buckets.len()
        && a.negative_buckets.len() == b.negative_buckets.len()
        && a.custom_values.len() == b.custom_values.len()
        && a.custom_values.iter().zip(&b.custom_values).all(|(x, y)| x.to_bits() == y.to_bits())
}

fn hint_code(hint: CounterResetHint) -> u8 {
    match hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::CounterReset => 1,
        CounterResetHint::NotCounterReset => 2,
        CounterResetHint::Gauge => 3,
    }
}

fn hint_of(code: u8) -> Result<CounterResetHint, DecodeError> {
    Ok(match code {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::CounterReset,
        2 => CounterResetHint::NotCounterReset,
        3 => CounterResetHint::Gauge,
        _ => return Err(DecodeError),
    })
}
