//! Building native histograms from what the protocols send.

use trefoil_model::{FloatHistogram, HistogramSpan};

/// Highest resolution that is stored.
pub const SCHEMA_MAX: i32 = 8;
/// Gaps up to this many buckets are filled with empty buckets; longer ones start a new span.
const GAP_FILLED_MAX: i64 = 2;

/// One side of a histogram: spans and the populations of their buckets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Side {
    /// Spans.
    pub spans: Vec<HistogramSpan>,
    /// Populations, span after span.
    pub buckets: Vec<f64>,
}

/// Lays out `(index, population)` pairs, indexes ascending (equal ones are added up), as spans. Leading and trailing
/// empty buckets are left out. `None` when indexes do not ascend or one does not fit 32 bits.
pub fn layout(buckets: impl Iterator<Item = (i64, f64)>) -> Option<Side> {
    let mut side = Side::default();
    let mut last: Option<i64> = None;
    for (index, population) in buckets {
        if population == 0.0 {
            continue;
        }
        match last {
            Some(l) if l == index => {
                *side.buckets.last_mut().expect("a last index has a bucket") += population;
            }
            Some(l) if index < l => return None,
            Some(l) if index - l - 1 <= GAP_FILLED_MAX => {
                i32::try_from(index).ok()?;
                let length = index - l;
                side.spans.last_mut().expect("a last index has a span").length += length as u32;
                side.buckets.resize(side.buckets.len() + length as usize - 1, 0.0);
                side.buckets.push(population);
            }
            _ => {
                let offset = i32::try_from(last.map_or(index, |l| index - l - 1)).ok()?;
                i32::try_from(index).ok()?;
                side.spans.push(HistogramSpan { offset, length: 1 });
                side.buckets.push(population);
            }
        }
        last = Some(index);
    }
    Some(side)
}

/// Lowers the resolution of an exponential histogram to `schema`; one that is not finer stays as it is. The histogram
/// must have passed [`FloatHistogram::validate`].
///
/// Bucket `i` goes to bucket `ceil(i / 2^difference)`. Errors when bucket indexes leave 32 bits.
pub fn reduce(histogram: &mut FloatHistogram, schema: i32) -> Result<(), String> {
    let by = (histogram.schema - schema).clamp(0, 62) as u32;
    if by == 0 {
        return Ok(());
    }
    let lower = |side: &mut dyn Iterator<Item = (i32, f64)>| {
        layout(side.map(|(i, p)| (((i64::from(i) - 1) >> by) + 1, p)))
            .ok_or_else(|| "histogram bucket indexes are out of range".to_owned())
    };
    let positive = lower(&mut histogram.positive())?;
    let negative = lower(&mut histogram.negative())?;
    (histogram.positive_spans, histogram.positive_buckets) = (positive.spans, positive.buckets);
    (histogram.negative_spans, histogram.negative_buckets) = (negative.spans, negative.buckets);
    histogram.schema = schema;
    Ok(())
}

/// Lowers the resolution until at most `buckets_max` buckets remain, or the lowest resolution is reached.
pub fn limit_buckets(histogram: &mut FloatHistogram, buckets_max: usize) -> Result<(), String> {
    while !histogram.uses_custom_buckets()
        && histogram.positive_buckets.len() + histogram.negative_buckets.len() > buckets_max
        && histogram.schema > -4
    {
        trefoil_runtime::limits::hit("histogram_buckets_max");
        reduce(histogram, histogram.schema - 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_fills_short_gaps_only() {
        let side = layout([(0, 0.0), (1, 1.0), (4, 2.0), (4, 3.0), (9, 1.0), (10, 0.0)].into_iter()).unwrap();
        assert_eq!(side.spans, [HistogramSpan { offset: 1, length: 4 }, HistogramSpan { offset: 4, length: 1 }]);
        assert_eq!(side.buckets, [1.0, 0.0, 0.0, 5.0, 1.0]);
        assert!(layout([(1 << 40, 1.0)].into_iter()).is_none());
    }

    #[test]
    fn reduce_joins_neighbours() {
        let side = layout([(-1, 1.0), (0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0)].into_iter()).unwrap();
        let mut h = FloatHistogram {
            schema: 1,
            positive_spans: side.spans,
            positive_buckets: side.buckets,
            ..FloatHistogram::default()
        };
        reduce(&mut h, 0).unwrap();
        assert_eq!(h.positive().collect::<Vec<_>>(), [(0, 2.0), (1, 5.0), (2, 4.0)]);
        assert_eq!(h.schema, 0);
        h.validate().unwrap();
    }
}
