//! Which native histograms of a bucket are left.

use std::sync::Arc;

use trefoil_model::{CounterResetHint, FloatHistogram, SampleBuffer};

/// The histogram samples that are not stale markers: `None` for the others. Empty when there are none.
pub(super) fn histograms(buffer: &SampleBuffer) -> Vec<Option<&Arc<FloatHistogram>>> {
    let mut out = Vec::new();
    if !buffer.histograms.is_empty() {
        out.resize(buffer.len(), None);
        for (i, h) in &buffer.histograms {
            if let Some(place) = out.get_mut(*i as usize).filter(|_| !h.is_stale()) {
                *place = Some(h);
            }
        }
    }
    out
}

/// True when a counter may have begun anew between two neighbours. Where layouts differ so that this is not plain, it
/// is taken to be so: both are left, and who reads them decides.
pub(super) fn may_be_reset(before: &FloatHistogram, now: &FloatHistogram) -> bool {
    match now.counter_reset_hint {
        CounterResetHint::CounterReset => return true,
        CounterResetHint::NotCounterReset | CounterResetHint::Gauge => return false,
        CounterResetHint::Unknown => {}
    }
    let same_bounds = |a: &[f64], b: &[f64]| a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()));
    before.schema != now.schema
        || before.zero_threshold.to_bits() != now.zero_threshold.to_bits()
        || !same_bounds(&before.custom_values, &now.custom_values)
        || now.count < before.count
        || now.zero_count < before.zero_count
        || is_lower(before.positive(), now.positive())
        || is_lower(before.negative(), now.negative())
}

/// True when a bucket has less than before. Indices ascend.
fn is_lower(before: impl Iterator<Item = (i32, f64)>, now: impl Iterator<Item = (i32, f64)>) -> bool {
    let mut now = now.peekable();
    for (index, count) in before {
        while now.next_if(|(i, _)| *i < index).is_some() {}
        let has = now.peek().filter(|(i, _)| *i == index).map_or(0.0, |(_, v)| *v);
        if has < count {
            return true;
        }
    }
    false
}
