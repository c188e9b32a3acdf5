use proptest::prelude::*;
use trefoil_model::{CounterResetHint, STALE_NAN};

use super::*;
use crate::encoding::Effort;
use crate::encoding::block::{BlockEncoder, Blocks};
use crate::read::merge_buffers;

const MIN: i64 = 60_000;

fn buffer(values: impl IntoIterator<Item = (i64, f64)>) -> SampleBuffer {
    let mut out = SampleBuffer::default();
    for (t, v) in values {
        out.push_float(t, 0, v);
    }
    out
}

fn values(buffer: &SampleBuffer) -> Vec<(i64, f64)> {
    buffer.times.iter().map(|t| t / MIN).zip(buffer.values.iter().copied()).collect()
}

fn rollups(buffer: &SampleBuffer) -> Vec<(i64, u64, f64)> {
    timed(buffer).iter().map(|r| (r.until / MIN, r.count, r.sum)).collect()
}

#[test]
fn a_counter_keeps_its_falls() {
    // Up to 10, a reset, up to 4, then a second bucket.
    let v = [5.0, 7.0, 9.0, 10.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 9.0, 12.0];
    let raw = buffer(v.iter().enumerate().map(|(i, v)| (i as i64 * MIN + 30_000, *v)));
    let out = downsample(&raw, 10 * MIN, true);
    assert_eq!(values(&out), [(0, 5.0), (3, 10.0), (4, 1.0), (9, 8.0), (10, 9.0), (11, 12.0)]);
    assert_eq!(rollups(&out), [(10, 10, 55.0), (20, 2, 21.0)]);
    // Coarser buckets are made of finer ones.
    let coarse = downsample(&out, 20 * MIN, true);
    assert_eq!(values(&coarse), [(0, 5.0), (3, 10.0), (4, 1.0), (11, 12.0)]);
    assert_eq!(rollups(&coarse), [(20, 12, 76.0)]);
    assert_eq!(downsample(&coarse, 10 * MIN, true).times, coarse.times, "coarser stretches stay");
}

#[test]
fn a_gauge_keeps_its_extremes() {
    let v = [5.0, 1.0, 6.0, f64::NAN, 3.0, 9.0, 2.0, STALE_NAN, 4.0, 5.0];
    let raw = buffer(v.iter().enumerate().map(|(i, v)| (i as i64 * MIN + 30_000, *v)));
    let out = downsample(&raw, 10 * MIN, false);
    assert_eq!(values(&out).iter().map(|(m, _)| *m).collect::<Vec<_>>(), [0, 1, 5, 6, 7, 9]);
    let r = timed(&out)[0];
    assert_eq!((r.count, r.sum.is_nan()), (9, true));
}

#[test]
fn late_samples_are_counted_in_their_bucket() {
    let raw = buffer((0..20).map(|i| (i * MIN + 30_000, f64::from(i as u32))));
    let rolled = downsample(&raw, 10 * MIN, true);
    let late = buffer([(5 * MIN, 100.0), (9 * MIN + 30_000, 50.0), (40 * MIN, 1.0)]);
    let mut out = SampleBuffer::default();
    merge_buffers(&[rolled.clone(), late.clone()], &mut out);
    assert_eq!(rollups(&out), [(10, 11, 45.0 + 100.0 - 9.0 + 50.0), (20, 10, 145.0)]);
    assert_eq!(values(&out), [(0, 0.0), (5, 100.0), (9, 50.0), (10, 10.0), (19, 19.0), (40, 1.0)]);
    // When the raw samples are the older ones, what the rollup has wins.
    let mut out = SampleBuffer::default();
    merge_buffers(&[late, rolled], &mut out);
    assert_eq!(rollups(&out), [(10, 11, 145.0), (20, 10, 145.0)]);
}

fn histogram(count: f64, hint: CounterResetHint) -> Arc<FloatHistogram> {
    Arc::new(FloatHistogram { count, zero_count: count, counter_reset_hint: hint, ..FloatHistogram::default() })
}

fn histograms_of(all: impl IntoIterator<Item = (i64, Arc<FloatHistogram>)>) -> SampleBuffer {
    let mut out = SampleBuffer::default();
    for (t, h) in all {
        out.push_histogram(t, 0, h);
    }
    out
}

#[test]
fn histograms_keep_their_resets() {
    use CounterResetHint::{CounterReset, Gauge, NotCounterReset, Unknown};
    let check = |counts: &[f64], hint: CounterResetHint, want: &[i64]| {
        let raw = (0..).map(|i| i * MIN + 30_000).zip(counts.iter().map(|c| histogram(*c, hint)));
        let raw = histograms_of(raw);
        let out = downsample(&raw, 10 * MIN, false);
        let left: Vec<i64> = out.times.iter().map(|t| t / MIN).collect();
        assert_eq!(left, want, "{counts:?} {hint:?}");
        let total: u64 = out.rollups.iter().map(|r| r.histograms).sum();
        assert_eq!(total, counts.len() as u64);
        let again = downsample(&out, 10 * MIN, false);
        assert_eq!((&again.times, &again.rollups), (&out.times, &out.rollups), "{counts:?} {hint:?}");
    };
    let falls = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    check(&falls, Unknown, &[0, 2, 3, 9, 11]);
    check(&falls, NotCounterReset, &[0, 9, 11]);
    check(&falls, Gauge, &[0, 9, 11]);
    check(&falls[..3], CounterReset, &[0, 1, 2]);
}

#[test]
fn late_histograms_are_counted() {
    let rising = |i: i64| (i * MIN + 30_000, histogram(i as f64, CounterResetHint::Unknown));
    let rolled = downsample(&histograms_of((0..20).map(rising)), 10 * MIN, true);
    let late = histograms_of([rising(4), rising(9)]);
    let mut out = SampleBuffer::default();
    merge_buffers(&[rolled, late], &mut out);
    // The one at 9 replaces its like; of the one at 4 it is no longer known that it was there.
    assert_eq!(out.rollups.iter().map(|r| (r.count, r.histograms)).collect::<Vec<_>>(), [(0, 11), (0, 10)]);
}

#[test]
fn histograms_that_were_passed_over_are_counted_as_they_are() {
    let mut old = histograms_of((0..20).map(|i| (i * MIN + 30_000, histogram(1.0, CounterResetHint::Unknown))));
    old.rollups.extend([10, 20].map(|end| Rollup { end, interval_ms: 10 * MIN, count: 3, sum: 1.0, histograms: 0 }));
    let mut bytes = Vec::new();
    BlockEncoder::new(Effort::Merged).encode_series(7, &old, 0, &mut bytes);
    let (mut out, mut found) = (SampleBuffer::default(), Vec::new());
    for block in Blocks::new(7, &bytes).in_file(&bytes, 0) {
        let block = block.unwrap();
        if block.has_rollups() {
            block.rollups(TimeRange::ALL, &mut found).unwrap();
        } else {
            block.decode(TimeRange::ALL, &mut out).unwrap();
        }
    }
    attach(&mut out, 0, found);
    assert_eq!(out.rollups.iter().map(|r| (r.count, r.histograms)).collect::<Vec<_>>(), [(3, 10), (3, 10)]);
    assert_eq!(downsample(&out, 20 * MIN, true).rollups[0].histograms, 20);
}

#[test]
fn a_cut_bucket_keeps_its_share() {
    let raw = buffer((0..20).map(|i| (i * MIN + 30_000, 1.0)));
    let rolled = downsample(&raw, 10 * MIN, true);
    let out = without(&rolled, &[TimeRange::new(10 * MIN + 1, 15 * MIN + 1)]);
    assert_eq!(rollups(&out), [(10, 10, 10.0), (20, 5, 5.0)]);
    let out = without(&rolled, &[TimeRange::new(1, 20 * MIN + 1)]);
    assert!(out.is_empty() && out.rollups.is_empty());
}

#[test]
fn a_deleted_spike_does_not_stay_in_the_sum() {
    // One spike among small values; it is kept as the greatest, and deleted.
    let raw = buffer((0..10).map(|i| (i * MIN + 30_000, if i == 4 { 1000.0 } else { 30.0 + i as f64 })));
    let rolled = downsample(&raw, 10 * MIN, false);
    let spike = TimeRange::new(4 * MIN + 30_000, 4 * MIN + 30_001);
    let out = without(&rolled, &[spike]);
    let (min, max) = out.values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
    let r = timed(&out)[0];
    assert!(min * r.count as f64 <= r.sum && r.sum <= max * r.count as f64, "{r:?} {min} {max}");
    assert_eq!((max, r.count), (39.0, 10));
    // What is not cut stays to the bit.
    assert_eq!(without(&rolled, &[TimeRange::new(20 * MIN, 30 * MIN)]).rollups, rolled.rollups);
}

proptest! {
    #[test]
    fn rollups_come_back_from_blocks(
        steps in prop::collection::vec((1i64..200_000, any::<u16>()), 1..400),
        minutes in 1i64..90,
        cut in (0i64..3_000_000, 0i64..9_000_000),
    ) {
        let mut t = 0;
        let raw = buffer(steps.into_iter().map(|(step, v)| { t += step; (t, f64::from(v)) }).filter(|(t, _)| *t < 86_400_000));
        let rolled = downsample(&raw, minutes * MIN, minutes % 2 == 0);
        prop_assert_eq!(rolled.rollups.iter().map(|r| r.count).sum::<u64>(), raw.len() as u64);
        let mut bytes = Vec::new();
        BlockEncoder::new(Effort::Merged).encode_series(7, &rolled, 0, &mut bytes);
        let read = |range: TimeRange| {
            let (mut out, mut found) = (SampleBuffer::default(), Vec::new());
            for block in Blocks::new(7, &bytes).in_file(&bytes, 0) {
                let block = block.unwrap();
                if block.has_rollups() { block.rollups(range, &mut found).unwrap() } else if range.overlaps(block.min_t, block.max_t) { block.decode(range, &mut out).unwrap() }
            }
            attach(&mut out, 0, found);
            out
        };
        let back = read(TimeRange::ALL);
        prop_assert_eq!(&back.times, &rolled.times);
        prop_assert_eq!(&back.rollups, &rolled.rollups);
        let range = TimeRange::new(cut.0, cut.1);
        let part = read(range);
        let want: Vec<i64> = rolled.times.iter().copied().filter(|t| range.contains(*t)).collect();
        prop_assert_eq!(part.times, want);
    }

    #[test]
    fn garbage_for_rollups_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 1usize..400) {
        let mut out = Vec::new();
        crate::encoding::rollups::decode_rollups(&mut crate::encoding::varint::Reader::new(&bytes), count, &mut out).ok();
    }
}
