//! Whether a result is what a script expects.

use trefoil_model::{CounterResetHint, FloatHistogram, Labels, is_stale_nan};

use super::notation::SeriesValue;
use crate::histogram;
use crate::value::SampleValue;

const TOLERANCE: f64 = 1e-6;

/// Equal up to the tolerance; NaN equals NaN, the stale marker only itself.
pub(super) fn floats_equal(a: f64, b: f64) -> bool {
    if is_stale_nan(a) || is_stale_nan(b) {
        return a.to_bits() == b.to_bits();
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

fn histograms_equal(want: &FloatHistogram, got: &FloatHistogram, hint: bool) -> bool {
    let (want, got) = (histogram::compacted(want.clone()), histogram::compacted(got.clone()));
    let all = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(x, y)| floats_equal(*x, *y));
    want.schema == got.schema
        && want.zero_threshold == got.zero_threshold
        && want.custom_values == got.custom_values
        && floats_equal(want.count, got.count)
        && floats_equal(want.sum, got.sum)
        && floats_equal(want.zero_count, got.zero_count)
        && want.positive_spans == got.positive_spans
        && want.negative_spans == got.negative_spans
        && all(&want.positive_buckets, &got.positive_buckets)
        && all(&want.negative_buckets, &got.negative_buckets)
        && (!hint || want.counter_reset_hint == got.counter_reset_hint)
}

pub(super) fn values_equal(want: &SeriesValue, got: Option<&SampleValue>) -> bool {
    match (want, got) {
        (SeriesValue::Absent, None) => true,
        (SeriesValue::Float(a), Some(SampleValue::Float(b))) => floats_equal(*a, *b),
        (SeriesValue::Histogram(a, hint), Some(SampleValue::Histogram(b))) => histograms_equal(a, b, *hint),
        _ => false,
    }
}

pub(super) fn show(value: Option<&SampleValue>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(SampleValue::Float(v)) => format!("{v:?}"),
        Some(SampleValue::Histogram(h)) => show_histogram(h),
    }
}

fn show_histogram(h: &FloatHistogram) -> String {
    let hint = match h.counter_reset_hint {
        CounterResetHint::Unknown => "",
        CounterResetHint::CounterReset => " reset",
        CounterResetHint::NotCounterReset => " not_reset",
        CounterResetHint::Gauge => " gauge",
    };
    format!("{} schema {}{hint}", histogram::text(h), h.schema)
}

pub(super) fn show_expected(value: &SeriesValue) -> String {
    match value {
        SeriesValue::Absent => "nothing".to_owned(),
        SeriesValue::Float(v) => format!("{v:?}"),
        SeriesValue::Histogram(h, _) => show_histogram(h),
    }
}

/// Compares series of values at given times, whatever their order.
pub(super) fn series_equal(
    want: &[(Labels, Vec<SeriesValue>)],
    got: &[(Labels, Vec<(i64, SampleValue)>)],
    times: &[i64],
) -> Result<(), String> {
    for (labels, _) in got {
        if !want.iter().any(|(l, _)| l == labels) {
            return Err(format!("unexpected series {labels}"));
        }
    }
    for (labels, values) in want {
        if values.len() > times.len() {
            return Err(format!("{} values expected for {} steps", values.len(), times.len()));
        }
        let mut found = got.iter().filter(|(l, _)| l == labels);
        let samples: &[(i64, SampleValue)] = match (found.next(), found.next()) {
            (Some((_, samples)), None) => samples,
            (None, _) if values.iter().all(|v| *v == SeriesValue::Absent) => &[],
            (None, _) => return Err(format!("missing series {labels}")),
            (Some(_), Some(_)) => return Err(format!("series {labels} comes twice")),
        };
        if let Some((t, _)) = samples.iter().find(|(t, _)| !times[..values.len()].contains(t)) {
            return Err(format!("{labels}: unexpected sample at {t} ms"));
        }
        for (t, value) in times.iter().zip(values) {
            let sample = samples.iter().find(|(at, _)| at == t).map(|(_, v)| v);
            if !values_equal(value, sample) {
                return Err(format!("{labels} at {t} ms: expected {}, got {}", show_expected(value), show(sample)));
            }
        }
    }
    Ok(())
}
