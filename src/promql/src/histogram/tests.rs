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

#[test]
#[expect(clippy::approx_constant, reason = "one digit off is what is looked for")]
fn bounds_are_the_references_to_the_last_digit() {
    for (index, schema, want) in [
        (0, 0, 1.0),
        (3, 0, 8.0),
        (1, 1, 1.414213562373095),
        (-1, 1, 0.7071067811865475),
        (-1, 2, 0.8408964152537144),
        (1, 3, 0.5452538663326288 * 2.0),
        (-255, 8, 0.5013556375251013),
        (2, -1, 16.0),
        (1024, 0, f64::MAX),
        (1025, 0, f64::INFINITY),
        (256, -2, f64::MAX),
        (-1074, 0, 5e-324),
        (i32::MIN, 8, 0.0),
        (i32::MAX, -4, f64::INFINITY),
    ] {
        assert_eq!(super::buckets::exponential_bound(index, schema), want, "{index} of schema {schema}");
    }
}
