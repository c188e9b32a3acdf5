use trefoil_model::{FloatHistogram, HistogramSpan};

use super::*;

fn exponential(schema: i32, offset: i32, buckets: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema,
        count: buckets.iter().sum(),
        sum: 1.0,
        positive_spans: vec![HistogramSpan { offset, length: buckets.len() as u32 }],
        positive_buckets: buckets.to_vec(),
        ..FloatHistogram::default()
    }
}

#[test]
fn sums_meet_at_the_coarser_schema() {
    let (h, _) = sum(&exponential(1, 1, &[1.0, 2.0]), &exponential(0, 1, &[4.0])).unwrap();
    assert_eq!(h.schema, 0);
    assert_eq!(h.positive().collect::<Vec<_>>(), [(1, 7.0)]);
    assert_eq!(h.count, 7.0);
}

#[test]
fn empty_buckets_leave_gaps() {
    let h = compacted(exponential(0, 0, &[1.0, 0.0, 0.0, 2.0, 0.0]));
    assert_eq!(h.positive_spans, [HistogramSpan { offset: 0, length: 1 }, HistogramSpan { offset: 2, length: 1 }]);
    assert!(h.validate().is_ok());
}

#[test]
fn quantiles_interpolate() {
    let h = exponential(0, 1, &[10.0]);
    let (q, _) = quantile::histogram_quantile(0.5, &h);
    assert!((q - 2f64.sqrt()).abs() < 1e-9, "{q}");
}
