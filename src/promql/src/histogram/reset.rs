//! Counter resets between two histograms.

use trefoil_model::{CounterResetHint, FloatHistogram};

use super::buckets::{coarser_index, exponential_bound};

/// True when `current` cannot be a later state of the counter that `previous` shows.
pub fn detect_reset(current: &FloatHistogram, previous: &FloatHistogram) -> bool {
    match current.counter_reset_hint {
        CounterResetHint::CounterReset => return true,
        CounterResetHint::NotCounterReset => return false,
        CounterResetHint::Unknown | CounterResetHint::Gauge => {}
    }
    if current.count < previous.count {
        return true;
    }
    if current.uses_custom_buckets() {
        return !previous.uses_custom_buckets() || custom_reset(current, previous);
    }
    if previous.uses_custom_buckets()
        || current.schema > previous.schema
        || current.zero_threshold < previous.zero_threshold
    {
        return true;
    }
    let Some(previous_zero) = zero_count_at(previous, current.zero_threshold) else { return true };
    if current.zero_count < previous_zero {
        return true;
    }
    side_reset(&reduced(current.positive(), current, current), &reduced(previous.positive(), previous, current))
        || side_reset(&reduced(current.negative(), current, current), &reduced(previous.negative(), previous, current))
}

/// The population of a wider zero bucket; `None` when the threshold lies inside a populated bucket.
fn zero_count_at(h: &FloatHistogram, threshold: f64) -> Option<f64> {
    let mut count = h.zero_count;
    if threshold == h.zero_threshold {
        return Some(count);
    }
    for (index, v) in h.positive().chain(h.negative()).filter(|(_, v)| *v != 0.0) {
        if exponential_bound(index - 1, h.schema) >= threshold {
            continue;
        }
        if exponential_bound(index, h.schema) > threshold {
            return None;
        }
        count += v;
    }
    Some(count)
}

/// Buckets at the target's schema, above its zero bucket, empty ones left out.
fn reduced(side: impl Iterator<Item = (i32, f64)>, of: &FloatHistogram, target: &FloatHistogram) -> Vec<(i32, f64)> {
    let mut out: Vec<(i32, f64)> = Vec::new();
    for (index, v) in side {
        let index = coarser_index(index, of.schema, target.schema);
        match out.last_mut() {
            Some((last, total)) if *last == index => *total += v,
            _ => out.push((index, v)),
        }
    }
    out.retain(|(i, v)| *v != 0.0 && exponential_bound(*i, target.schema) > target.zero_threshold);
    out
}

fn side_reset(current: &[(i32, f64)], previous: &[(i32, f64)]) -> bool {
    let mut now = current.iter().peekable();
    for (index, before) in previous {
        while now.next_if(|(i, _)| i < index).is_some() {}
        let count = now.peek().filter(|(i, _)| i == index).map_or(0.0, |(_, v)| *v);
        if count < *before {
            return true;
        }
    }
    false
}

/// Compares what lies between the bounds that both have.
fn custom_reset(current: &FloatHistogram, previous: &FloatHistogram) -> bool {
    let bounds: Vec<f64> =
        current.custom_values.iter().copied().filter(|b| previous.custom_values.contains(b)).collect();
    let sums = |h: &FloatHistogram| {
        let mut out = vec![0.0; bounds.len() + 1];
        for (index, v) in h.positive() {
            let slot = match usize::try_from(index).ok().and_then(|i| h.custom_values.get(i)) {
                Some(bound) => bounds.partition_point(|b| b < bound),
                None => bounds.len(),
            };
            out[slot] += v;
        }
        out
    };
    sums(current).iter().zip(sums(previous)).any(|(now, before)| *now < before)
}

/// True when a counter goes on from `previous` to `current`, in the same layout.
pub fn continues(current: &FloatHistogram, previous: &FloatHistogram) -> bool {
    current.schema == previous.schema
        && current.zero_threshold == previous.zero_threshold
        && current.custom_values == previous.custom_values
        && previous.counter_reset_hint != CounterResetHint::Gauge
        && !previous.is_stale()
        && !detect_reset(current, previous)
}
