//! Histogram data points: explicit bounds as classic buckets, exponential ones as native histograms.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{ExponentialHistogramDataPoint, HistogramDataPoint};
use trefoil_model::FloatHistogram;

use crate::native_histogram::{SCHEMA_MAX, Side, layout, reduce};

/// Width of the zero bucket of a point that does not say it, as in Prometheus.
const ZERO_THRESHOLD_DEFAULT: f64 = 1e-128;
/// Most buckets of a side that a point may have before its scale is lowered.
const BUCKETS_SENT_MAX: usize = 100_000;

/// A histogram with explicit bounds; populations per bucket, not cumulative.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassicHistogram {
    /// Upper bounds, ascending, without +Inf.
    pub bounds: Vec<f64>,
    /// Populations: one more than bounds.
    pub counts: Vec<u64>,
    /// All observations.
    pub count: u64,
    /// Their sum, when the sender has it.
    pub sum: Option<f64>,
}

impl ClassicHistogram {
    /// Checks a data point and takes its buckets. Errors with the reason.
    pub fn from_point(point: &mut HistogramDataPoint) -> Result<Self, String> {
        let bounds = std::mem::take(&mut point.explicit_bounds);
        let mut counts = std::mem::take(&mut point.bucket_counts);
        if counts.is_empty() && bounds.is_empty() {
            counts.push(point.count);
        }
        if counts.len() != bounds.len() + 1 {
            return Err(format!("histogram has {} buckets for {} bounds", counts.len(), bounds.len()));
        }
        if !bounds.is_sorted_by(|a, b| a < b) {
            return Err("histogram bounds do not ascend".to_owned());
        }
        Ok(Self { bounds, counts, count: point.count, sum: point.sum })
    }

    /// Adds the populations of another histogram; one with other bounds is left out.
    pub fn add(&mut self, other: &Self) {
        if self.bounds != other.bounds {
            return;
        }
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a = a.saturating_add(*b);
        }
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.zip(other.sum).map(|(a, b)| a + b);
    }
}

/// A native histogram from an exponential data point. Errors with the reason.
pub fn native(point: &ExponentialHistogramDataPoint) -> Result<FloatHistogram, String> {
    if point.scale < -4 {
        return Err(format!("exponential histogram scale {} is below -4", point.scale));
    }
    let by = (point.scale - SCHEMA_MAX).clamp(0, 62) as u32;
    let side = |buckets: &Option<Buckets>| match buckets {
        None => Ok(Side::default()),
        Some(b) if b.bucket_counts.len() > BUCKETS_SENT_MAX => {
            Err(format!("exponential histogram has {} buckets on a side", b.bucket_counts.len()))
        }
        Some(b) => {
            // OTLP's bucket i is (base^i, base^(i+1)], ours (base^(i-1), base^i].
            let indexed = b
                .bucket_counts
                .iter()
                .enumerate()
                .map(|(i, n)| (((i64::from(b.offset) + i as i64) >> by) + 1, *n as f64));
            layout(indexed).ok_or_else(|| "exponential histogram bucket offset is out of range".to_owned())
        }
    };
    let (positive, negative) = (side(&point.positive)?, side(&point.negative)?);
    let histogram = FloatHistogram {
        schema: point.scale.min(SCHEMA_MAX),
        zero_threshold: if point.zero_threshold > 0.0 { point.zero_threshold } else { ZERO_THRESHOLD_DEFAULT },
        zero_count: point.zero_count as f64,
        count: point.count as f64,
        sum: point.sum.unwrap_or(0.0),
        positive_spans: positive.spans,
        positive_buckets: positive.buckets,
        negative_spans: negative.spans,
        negative_buckets: negative.buckets,
        integer: true,
        ..FloatHistogram::default()
    };
    histogram.validate()?;
    Ok(histogram)
}

/// The sum of two exponential histograms at the lower of their resolutions; `None` when indexes leave 32 bits.
pub fn add_native(a: &FloatHistogram, b: &FloatHistogram) -> Option<FloatHistogram> {
    let schema = a.schema.min(b.schema);
    let (mut sum, mut other) = (a.clone(), b.clone());
    reduce(&mut sum, schema).ok()?;
    reduce(&mut other, schema).ok()?;
    let positive = add_side(sum.positive(), other.positive())?;
    let negative = add_side(sum.negative(), other.negative())?;
    (sum.positive_spans, sum.positive_buckets) = (positive.spans, positive.buckets);
    (sum.negative_spans, sum.negative_buckets) = (negative.spans, negative.buckets);
    sum.zero_threshold = sum.zero_threshold.max(other.zero_threshold);
    sum.zero_count += other.zero_count;
    sum.count += other.count;
    sum.sum += other.sum;
    Some(sum)
}

fn add_side(a: impl Iterator<Item = (i32, f64)>, b: impl Iterator<Item = (i32, f64)>) -> Option<Side> {
    let mut buckets: BTreeMap<i32, f64> = a.collect();
    for (index, population) in b {
        *buckets.entry(index).or_default() += population;
    }
    layout(buckets.into_iter().map(|(i, p)| (i64::from(i), p)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(scale: i32, offset: i32, counts: &[u64]) -> ExponentialHistogramDataPoint {
        ExponentialHistogramDataPoint {
            scale,
            count: counts.iter().sum(),
            positive: Some(Buckets { offset, bucket_counts: counts.to_vec() }),
            ..ExponentialHistogramDataPoint::default()
        }
    }

    #[test]
    fn scales_above_eight_are_lowered() {
        let h = native(&point(10, 0, &[1, 2, 3, 4, 5])).unwrap();
        assert_eq!(h.schema, 8);
        assert_eq!(h.positive().collect::<Vec<_>>(), [(1, 10.0), (2, 5.0)]);
        let h = native(&point(9, -3, &[1, 2, 3])).unwrap();
        assert_eq!(h.positive().collect::<Vec<_>>(), [(-1, 1.0), (0, 5.0)]);
        assert!(native(&point(-5, 0, &[1])).is_err());
        assert!(native(&point(0, i32::MAX, &[1, 1])).is_err());
        assert_eq!(native(&point(0, 0, &[])).unwrap().zero_threshold, ZERO_THRESHOLD_DEFAULT);
    }

    #[test]
    fn sums_take_the_lower_resolution() {
        let sum = add_native(&native(&point(1, 0, &[1, 1])).unwrap(), &native(&point(0, 0, &[2])).unwrap()).unwrap();
        assert_eq!(sum.schema, 0);
        assert_eq!(sum.positive().collect::<Vec<_>>(), [(1, 4.0)]);
        assert_eq!(sum.count, 4.0);
    }
}
